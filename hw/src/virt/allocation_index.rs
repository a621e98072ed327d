//! Finds the first allocation of a command, the place in it, and how much lies beyond it.
//!
//! Allocation number `lba >> allocation_shift` is entry `map_root + number` of the allocation table;
//! an index that does not fit 32 bits becomes the highest one, which is outside every table. No
//! handshake, no stall, no reset. Latency: 4 cycles. Throughput: one a cycle. Shifts above 32 give an
//! arbitrary answer.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct AllocationIndex {
    pub clock: Signal<In, Clock>,
    pub lba: Signal<In, Bits<48>>,
    /// Blocks, 1 to 65,536.
    pub blocks: Signal<In, Bits<17>>,
    pub allocation_shift: Signal<In, Bits<8>>,
    pub map_root: Signal<In, Bits<32>>,
    /// Index of the first allocation's entry.
    pub index: Signal<Out, Bits<32>>,
    /// First block's place in it.
    pub offset: Signal<Out, Bits<32>>,
    /// Blocks that lie in it.
    pub first_blocks: Signal<Out, Bits<17>>,
    /// There is one more.
    pub crosses: Signal<Out, bool>,
    /// Blocks that lie in those after it.
    pub rest: Signal<Out, Bits<17>>,

    // Cycle 1: shifted by multiples of 8. `above` has the bits at and above the shift set.
    number1: DFF<Bits<48>>,
    above1: DFF<Bits<32>>,
    fine1: DFF<Bits<8>>,
    lba1: DFF<Bits<32>>,
    blocks1: DFF<Bits<17>>,
    root1: DFF<Bits<32>>,
    // Cycle 2: shifted.
    number2: DFF<Bits<48>>,
    above2: DFF<Bits<32>>,
    lba2: DFF<Bits<32>>,
    blocks2: DFF<Bits<17>>,
    root2: DFF<Bits<32>>,
    // Cycle 3: the index, the offset, and the blocks after the first one in the allocation.
    sum3: DFF<Bits<33>>,
    beyond3: DFF<bool>,
    offset3: DFF<Bits<32>>,
    after3: DFF<Bits<32>>,
    blocks3: DFF<Bits<17>>,
    blocks_z3: DFF<Bits<32>>,
    index4: DFF<Bits<32>>,
    offset4: DFF<Bits<32>>,
    crosses4: DFF<bool>,
    blocks4: DFF<Bits<17>>,
    // If it crosses.
    first_blocks4: DFF<Bits<17>>,
    rest4: DFF<Bits<17>>,
    coarse: Signal<Local, Bits<8>>,
    number_low: Signal<Local, Bits<32>>,
    number_high: Signal<Local, Bits<16>>,
    blocks_less_one: Signal<Local, Bits<17>>,
    space: Signal<Local, Bits<17>>,
    coarse_mask: Constant<Bits<8>>,
    fine_mask: Constant<Bits<8>>,
    ones: Constant<Bits<32>>,
    one: Constant<Bits<17>>,
    zero: Constant<Bits<17>>,
}

impl Default for AllocationIndex {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            lba: Default::default(),
            blocks: Default::default(),
            allocation_shift: Default::default(),
            map_root: Default::default(),
            index: Default::default(),
            offset: Default::default(),
            first_blocks: Default::default(),
            crosses: Default::default(),
            rest: Default::default(),
            number1: Default::default(),
            above1: Default::default(),
            fine1: Default::default(),
            lba1: Default::default(),
            blocks1: Default::default(),
            root1: Default::default(),
            number2: Default::default(),
            above2: Default::default(),
            lba2: Default::default(),
            blocks2: Default::default(),
            root2: Default::default(),
            sum3: Default::default(),
            beyond3: Default::default(),
            offset3: Default::default(),
            after3: Default::default(),
            blocks3: Default::default(),
            blocks_z3: Default::default(),
            index4: Default::default(),
            offset4: Default::default(),
            crosses4: Default::default(),
            blocks4: Default::default(),
            first_blocks4: Default::default(),
            rest4: Default::default(),
            coarse: Default::default(),
            number_low: Default::default(),
            number_high: Default::default(),
            blocks_less_one: Default::default(),
            space: Default::default(),
            coarse_mask: Constant::new(0x38u64.to_bits()),
            fine_mask: Constant::new(7u64.to_bits()),
            ones: Constant::new(u64::from(u32::MAX).to_bits()),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for AllocationIndex {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            number1,
            above1,
            fine1,
            lba1,
            blocks1,
            root1,
            number2,
            above2,
            lba2,
            blocks2,
            root2,
            sum3,
            beyond3,
            offset3,
            after3,
            blocks3,
            blocks_z3,
            index4,
            offset4,
            crosses4,
            blocks4,
            first_blocks4,
            rest4
        );
        self.coarse.next = self.allocation_shift.val() & self.coarse_mask.val();
        self.number1.d.next = (self.lba.val() >> self.coarse.val());
        self.above1.d.next = (self.ones.val() << self.coarse.val());
        self.fine1.d.next = self.allocation_shift.val() & self.fine_mask.val();
        self.lba1.d.next = self.lba.val().get_bits::<32>(0);
        self.blocks1.d.next = self.blocks.val();
        self.root1.d.next = self.map_root.val();

        self.number2.d.next = (self.number1.q.val() >> self.fine1.q.val());
        self.above2.d.next = (self.above1.q.val() << self.fine1.q.val());
        self.lba2.d.next = self.lba1.q.val();
        self.blocks2.d.next = self.blocks1.q.val();
        self.root2.d.next = self.root1.q.val();

        self.number_low.next = self.number2.q.val().get_bits::<32>(0);
        self.number_high.next = self.number2.q.val().get_bits::<16>(32);
        self.sum3.d.next = bit_cast::<33, 32>(self.root2.q.val()) + bit_cast::<33, 32>(self.number_low.val());
        self.beyond3.d.next = self.number_high.val().any();
        self.offset3.d.next = self.lba2.q.val() & !self.above2.q.val();
        self.after3.d.next = !(self.lba2.q.val() | self.above2.q.val());
        self.blocks3.d.next = self.blocks2.q.val();
        self.blocks_less_one.next = self.blocks2.q.val() - self.one.val();
        self.blocks_z3.d.next = bit_cast::<32, 17>(self.blocks_less_one.val());

        self.index4.d.next = self.sum3.q.val().get_bits::<32>(0);
        if self.beyond3.q.val() | self.sum3.q.val().get_bit(32) {
            self.index4.d.next = self.ones.val();
        }
        self.offset4.d.next = self.offset3.q.val();
        self.space.next = self.after3.q.val().get_bits::<17>(0);
        self.crosses4.d.next = (self.blocks_z3.q.val() > self.after3.q.val());
        self.blocks4.d.next = self.blocks3.q.val();
        self.first_blocks4.d.next = self.space.val() + self.one.val();
        self.rest4.d.next = self.blocks_z3.q.val().get_bits::<17>(0) - self.space.val();

        self.index.next = self.index4.q.val();
        self.offset.next = self.offset4.q.val();
        self.crosses.next = self.crosses4.q.val();
        self.first_blocks.next = self.blocks4.q.val();
        self.rest.next = self.zero.val();
        if self.crosses4.q.val() {
            self.first_blocks.next = self.first_blocks4.q.val();
            self.rest.next = self.rest4.q.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    /// Index, offset, first blocks, rest.
    fn model(lba: u64, blocks: u64, shift: u32, root: u64) -> [u64; 4] {
        let size = 1u64 << shift;
        let first = blocks.min(size - lba % size);
        [(root + lba / size).min(u32::MAX.into()), lba % size, first, blocks - first]
    }

    #[test]
    fn finds_the_allocation_of_every_block() {
        assert_eq!(model(0x1_0000 + 0xFFF8, 9, 16, 100), [101, 0xFFF8, 8, 1]);
        let mut bench = Bench::new("allocation_index", AllocationIndex::default());
        let mut random = seeded();
        let mut expected = VecDeque::new();
        let mut crossing = 0;
        for _ in 0..200_000 {
            let shift = random.random_range(0..=32u32);
            let blocks = if random.random_bool(0.1) {
                65_536
            } else {
                random.random_range(1..=65_536u64) >> random.random_range(0..16)
            }
            .max(1);
            let near = (random.random::<u64>() >> 16 >> shift << shift)
                .wrapping_sub(random.random_range(0..2 * blocks));
            let lba = if random.random_bool(0.5) {
                near
            } else {
                random.random::<u64>() >> random.random_range(16..64)
            } & 0xFFFF_FFFF_FFFF;
            let root = u64::from(random.random::<u32>()) >> random.random_range(0..32);
            bench.set("lba", lba.into());
            bench.set("blocks", blocks.into());
            bench.set("allocation_shift", shift.into());
            bench.set("map_root", root.into());
            let answer = model(lba, blocks, shift, root);
            crossing += u64::from(answer[3] > 0);
            expected.push_back(answer);
            bench.cycle();
            if expected.len() == 4 {
                let got = ["index", "offset", "first_blocks", "rest"].map(|port| bench.get(port) as u64);
                assert_eq!(Some(got), expected.pop_front());
            }
        }
        assert!((20_000..180_000).contains(&crossing), "{crossing}");
    }
}
