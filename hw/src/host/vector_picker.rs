//! Picks the set bits of a mask one after the other, lowest first.
//!
//! While `start` is set and nothing of the last snapshot is left, it takes a snapshot of `candidates`
//! (`taken`, in that cycle) and offers its bits, each once: as a number in `pick` and as `one_hot`
//! beside it. So no bit waits for more than one round of the others.
//!
//! Latency: 3 cycles from snapshot to the first pick. Throughput: one pick a cycle. Reset forgets the
//! snapshot.

use rust_hdl::prelude::*;

use crate::prim::stream::StreamOut;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct VectorPicker {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub start: Signal<In, bool>,
    pub candidates: Signal<In, Bits<32>>,
    pub taken: Signal<Out, bool>,
    pub pick: StreamOut<Bits<8>>,
    pub one_hot: Signal<Out, Bits<32>>,
    /// Nothing of a snapshot is left.
    pub idle: Signal<Out, bool>,

    /// What is left of the snapshot; `busy` until it was seen to be empty.
    batch: DFF<Bits<32>>,
    busy: DFF<bool>,
    lowest: DFF<Bits<32>>,
    lowest_valid: DFF<bool>,
    picked: DFF<Bits<32>>,
    picked_number: DFF<Bits<8>>,
    picked_valid: DFF<bool>,
    advance: Signal<Local, bool>,
    stepping: Signal<Local, bool>,
    negative: Signal<Local, Bits<32>>,
    less_one: Signal<Local, Bits<32>>,
    weighted: [Signal<Local, Bits<32>>; 5],
    /// The bits whose number has bit i set.
    weight: [Constant<Bits<32>>; 5],
    one: Constant<Bits<32>>,
    zero: Constant<Bits<32>>,
}

impl Default for VectorPicker {
    fn default() -> Self {
        let weight = |i: usize| (0..32u64).filter(|n| n >> i & 1 == 1).fold(0u64, |mask, n| mask | 1 << n);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            start: Default::default(),
            candidates: Default::default(),
            taken: Default::default(),
            pick: Default::default(),
            one_hot: Default::default(),
            idle: Default::default(),
            batch: Default::default(),
            busy: Default::default(),
            lowest: Default::default(),
            lowest_valid: Default::default(),
            picked: Default::default(),
            picked_number: Default::default(),
            picked_valid: Default::default(),
            advance: Default::default(),
            stepping: Default::default(),
            negative: Default::default(),
            less_one: Default::default(),
            weighted: Default::default(),
            weight: std::array::from_fn(|i| Constant::new(weight(i).to_bits())),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for VectorPicker {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, batch, busy, lowest, lowest_valid, picked, picked_number, picked_valid);
        self.idle.next = !self.busy.q.val() & !self.lowest_valid.q.val() & !self.picked_valid.q.val();
        self.taken.next =
            self.start.val() & !self.busy.q.val() & !self.lowest_valid.q.val() & !self.picked_valid.q.val();

        // Take the lowest bit off. Whether there was one is known a cycle later.
        self.advance.next = !self.picked_valid.q.val() | self.pick.ready.val();
        self.stepping.next = self.busy.q.val() & (!self.lowest_valid.q.val() | self.advance.val());
        self.negative.next = self.zero.val() - self.batch.q.val();
        self.less_one.next = self.batch.q.val() - self.one.val();
        if self.stepping.val() {
            self.lowest.d.next = self.batch.q.val() & self.negative.val();
            self.batch.d.next = self.batch.q.val() & self.less_one.val();
            self.busy.d.next = self.batch.q.val().any();
        }
        if !self.busy.q.val() {
            self.batch.d.next = self.candidates.val();
            self.busy.d.next = self.taken.val() & self.candidates.val().any();
        }
        self.lowest_valid.d.next = (self.stepping.val() & self.batch.q.val().any())
            | (self.lowest_valid.q.val() & !self.advance.val());

        // Its number.
        for i in 0..5 {
            self.weighted[i].next = self.lowest.q.val() & self.weight[i].val();
        }
        self.picked_valid.d.next =
            self.lowest_valid.q.val() | (self.picked_valid.q.val() & !self.pick.ready.val());
        if self.advance.val() {
            self.picked.d.next = self.lowest.q.val();
            self.picked_number.d.next = bit_cast::<8, 1>(self.weighted[0].val().any().into())
                | (bit_cast::<8, 1>(self.weighted[1].val().any().into()) << 1)
                | (bit_cast::<8, 1>(self.weighted[2].val().any().into()) << 2)
                | (bit_cast::<8, 1>(self.weighted[3].val().any().into()) << 3)
                | (bit_cast::<8, 1>(self.weighted[4].val().any().into()) << 4);
        }
        self.pick.valid.next = self.picked_valid.q.val();
        self.pick.data.next = self.picked_number.q.val();
        self.one_hot.next = self.picked.q.val();

        if self.reset.val() {
            self.busy.d.next = false;
            self.lowest_valid.d.next = false;
            self.picked_valid.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn offers_every_bit_of_a_snapshot_once() {
        let mut bench = Bench::new("vector_picker", VectorPicker::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let (mut left, mut snapshots) = (0u32, 0);
        for _ in 0..30_000 {
            let candidates = random.random::<u32>() & random.random::<u32>() & random.random::<u32>();
            let mask = [0, 1, 1 << 31, u32::MAX, candidates][random.random_range(0..5)];
            bench.set("candidates", mask.into());
            bench.set("start", random.random_bool(0.3).into());
            bench.set("pick$ready", random.random_bool(0.7).into());
            bench.eval();
            assert_eq!(bench.get("idle") == 1, left == 0);
            if bench.get("taken") == 1 {
                assert_eq!(left, 0);
                left = mask;
                snapshots += 1;
            }
            if bench.get("pick$valid") == 1 && bench.get("pick$ready") == 1 {
                let number = bench.get("pick$data") as u32;
                assert_eq!(number, left.trailing_zeros(), "lowest first");
                assert_eq!(bench.get("one_hot") as u32, 1 << number);
                left &= !(1 << number);
            }
            bench.cycle();
        }
        assert!(snapshots > 1_000, "{snapshots} snapshots");
    }
}
