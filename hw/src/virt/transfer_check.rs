//! Checks length and PRP entries of a Read, Write or Compare.
//!
//! More than 1 MiB: Invalid Field. PRP entry 1 not dword aligned; PRP entry 2 with an offset in its
//! page where it names the second of two pages, or not qword aligned where it points to a list: PRP
//! Offset Invalid. Any other opcode passes. No handshake, no stall, no reset. Latency: 3 cycles.
//! Throughput: one a cycle. Block sizes are 512 to 4,096 bytes; other shifts count as 4,096.

use rust_hdl::prelude::*;
use volplane_abi::opcode;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct TransferCheck {
    pub clock: Signal<In, Clock>,
    pub opcode: Signal<In, Bits<8>>,
    pub blocks: Signal<In, Bits<17>>,
    pub prp1: Signal<In, Bits<64>>,
    pub prp2: Signal<In, Bits<64>>,
    pub block_shift: Signal<In, Bits<4>>,
    /// Too long: Invalid Field, before anything else.
    pub too_long: Signal<Out, bool>,
    /// PRP Offset Invalid.
    pub bad_offset: Signal<Out, bool>,

    // Cycle 1: bytes.
    transfer1: DFF<bool>,
    bytes1: DFF<Bits<29>>,
    start1: DFF<Bits<22>>,
    prp1_bad1: DFF<bool>,
    page_bad1: DFF<bool>,
    list_bad1: DFF<bool>,
    // Cycle 2: the end, counted from the first page.
    transfer2: DFF<bool>,
    long2: DFF<bool>,
    end2: DFF<Bits<22>>,
    prp1_bad2: DFF<bool>,
    page_bad2: DFF<bool>,
    list_bad2: DFF<bool>,
    // Cycle 3: refused, for either reason; the first one goes before.
    long3: DFF<bool>,
    offset3: DFF<bool>,
    fine: Signal<Local, bool>,
    coarse: Signal<Local, bool>,
    blocks_fine: Signal<Local, Bits<29>>,
    blocks_coarse: Signal<Local, Bits<29>>,
    bytes: Signal<Local, Bits<29>>,
    over: Signal<Local, Bits<8>>,
    part: Signal<Local, Bits<20>>,
    end_bytes: Signal<Local, Bits<22>>,
    beyond_two: Signal<Local, bool>,
    beyond_one: Signal<Local, bool>,
    prp1_low: Signal<Local, Bits<2>>,
    page_low: Signal<Local, Bits<12>>,
    list_low: Signal<Local, Bits<3>>,
    page: Constant<Bits<22>>,
    two_pages: Constant<Bits<22>>,
    shift9: Constant<Bits<4>>,
    shift10: Constant<Bits<4>>,
    shift11: Constant<Bits<4>>,
    read: Constant<Bits<8>>,
    write: Constant<Bits<8>>,
    compare: Constant<Bits<8>>,
}

impl Default for TransferCheck {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            opcode: Default::default(),
            blocks: Default::default(),
            prp1: Default::default(),
            prp2: Default::default(),
            block_shift: Default::default(),
            too_long: Default::default(),
            bad_offset: Default::default(),
            transfer1: Default::default(),
            bytes1: Default::default(),
            start1: Default::default(),
            prp1_bad1: Default::default(),
            page_bad1: Default::default(),
            list_bad1: Default::default(),
            transfer2: Default::default(),
            long2: Default::default(),
            end2: Default::default(),
            prp1_bad2: Default::default(),
            page_bad2: Default::default(),
            list_bad2: Default::default(),
            long3: Default::default(),
            offset3: Default::default(),
            fine: Default::default(),
            coarse: Default::default(),
            blocks_fine: Default::default(),
            blocks_coarse: Default::default(),
            bytes: Default::default(),
            over: Default::default(),
            part: Default::default(),
            end_bytes: Default::default(),
            beyond_two: Default::default(),
            beyond_one: Default::default(),
            prp1_low: Default::default(),
            page_low: Default::default(),
            list_low: Default::default(),
            page: Constant::new(4096u64.to_bits()),
            two_pages: Constant::new(8192u64.to_bits()),
            shift9: Constant::new(9u64.to_bits()),
            shift10: Constant::new(10u64.to_bits()),
            shift11: Constant::new(11u64.to_bits()),
            read: Constant::new(u64::from(opcode::READ).to_bits()),
            write: Constant::new(u64::from(opcode::WRITE).to_bits()),
            compare: Constant::new(u64::from(opcode::COMPARE).to_bits()),
        }
    }
}

impl Logic for TransferCheck {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self, clock, transfer1, bytes1, start1, prp1_bad1, page_bad1, list_bad1, transfer2, long2, end2,
            prp1_bad2, page_bad2, list_bad2, long3, offset3
        );
        self.transfer1.d.next = (self.opcode.val() == self.read.val())
            | (self.opcode.val() == self.write.val())
            | (self.opcode.val() == self.compare.val());
        // Shifts 10 and 12 take the fine step, 11 and 12 the coarse one.
        self.fine.next =
            (self.block_shift.val() != self.shift9.val()) & (self.block_shift.val() != self.shift11.val());
        self.coarse.next =
            (self.block_shift.val() != self.shift9.val()) & (self.block_shift.val() != self.shift10.val());
        self.blocks_fine.next = bit_cast::<29, 17>(self.blocks.val());
        if self.fine.val() {
            self.blocks_fine.next = (bit_cast::<29, 17>(self.blocks.val()) << 1);
        }
        self.blocks_coarse.next = self.blocks_fine.val();
        if self.coarse.val() {
            self.blocks_coarse.next = (self.blocks_fine.val() << 2);
        }
        self.bytes1.d.next = (self.blocks_coarse.val() << 9);
        self.start1.d.next = bit_cast::<22, 12>(self.prp1.val().get_bits::<12>(0));
        self.prp1_low.next = self.prp1.val().get_bits::<2>(0);
        self.page_low.next = self.prp2.val().get_bits::<12>(0);
        self.list_low.next = self.prp2.val().get_bits::<3>(0);
        self.prp1_bad1.d.next = self.prp1_low.val().any();
        self.page_bad1.d.next = self.page_low.val().any();
        self.list_bad1.d.next = self.list_low.val().any();

        // Longer than 2^20 bytes.
        self.transfer2.d.next = self.transfer1.q.val();
        self.bytes.next = self.bytes1.q.val();
        self.over.next = self.bytes.val().get_bits::<8>(21);
        self.part.next = self.bytes.val().get_bits::<20>(0);
        self.long2.d.next = self.over.val().any() | (self.bytes.val().get_bit(20) & self.part.val().any());
        self.end2.d.next = self.start1.q.val() + bit_cast::<22, 29>(self.bytes.val());
        self.prp1_bad2.d.next = self.prp1_bad1.q.val();
        self.page_bad2.d.next = self.page_bad1.q.val();
        self.list_bad2.d.next = self.list_bad1.q.val();

        // Beyond two pages, 2^13 bytes, there is a list; beyond one, 2^12, a second page.
        self.end_bytes.next = self.end2.q.val();
        self.beyond_two.next = (self.end_bytes.val() > self.two_pages.val());
        self.beyond_one.next = (self.end_bytes.val() > self.page.val());
        self.long3.d.next = self.transfer2.q.val() & self.long2.q.val();
        self.offset3.d.next = self.transfer2.q.val()
            & (self.prp1_bad2.q.val()
                | (self.beyond_two.val() & self.list_bad2.q.val())
                | (!self.beyond_two.val() & self.beyond_one.val() & self.page_bad2.q.val()));
        self.too_long.next = self.long3.q.val();
        self.bad_offset.next = self.offset3.q.val();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;
    use volplane_abi::status;

    /// The rules of the header, in bytes.
    pub(crate) fn model(opcode: u8, blocks: u64, prp1: u64, prp2: u64, block_shift: u32) -> u16 {
        if ![opcode::READ, opcode::WRITE, opcode::COMPARE].contains(&opcode) {
            return status::SUCCESS;
        }
        let bytes = blocks << block_shift;
        let pages = (prp1 % 4096 + bytes).div_ceil(4096);
        if bytes > 1 << 20 {
            status::INVALID_FIELD
        } else if !prp1.is_multiple_of(4)
            || (pages == 2 && !prp2.is_multiple_of(4096))
            || (pages > 2 && !prp2.is_multiple_of(8))
        {
            status::INVALID_PRP_OFFSET
        } else {
            status::SUCCESS
        }
    }

    #[test]
    fn refuses_what_the_rules_refuse() {
        assert_eq!(model(opcode::READ, 8, 0x1000, 0x123, 9), status::SUCCESS);
        assert_eq!(model(opcode::READ, 8, 0x1004, 0x2000, 9), status::SUCCESS);
        assert_eq!(model(opcode::READ, 8, 0x1004, 0x2008, 9), status::INVALID_PRP_OFFSET);
        assert_eq!(model(opcode::WRITE, 257, 0x1000, 0x2000, 12), status::INVALID_FIELD);
        let mut bench = Bench::new("transfer_check", TransferCheck::default());
        let mut random = seeded();
        let mut expected = VecDeque::new();
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..100_000 {
            let shift = random.random_range(9..=12u32);
            let opcode = [opcode::READ, opcode::WRITE, opcode::WRITE_ZEROES, opcode::DATASET_MANAGEMENT]
                [random.random_range(0..4)];
            let pages = [1u64, 2, 3, 256, 257, 16384][random.random_range(0..6)];
            let blocks = ((pages << 12 >> shift) + random.random_range(0..3) - 1).clamp(1, 65_536);
            let low = [0, 4, 512, 4092, random.random_range(0..4096)][random.random_range(0..5)];
            let prp1 = random.random::<u64>() << 12 | low;
            let prp2 = (random.random::<u64>() << 12) + [0, 8, 4, 4088][random.random_range(0..4)];
            bench.set("opcode", opcode.into());
            bench.set("blocks", blocks.into());
            bench.set("prp1", prp1.into());
            bench.set("prp2", prp2.into());
            bench.set("block_shift", shift.into());
            expected.push_back(model(opcode, blocks, prp1, prp2, shift));
            bench.cycle();
            if expected.len() == 3 {
                let status = expected.pop_front().expect("three");
                let refusal = match (bench.get("too_long"), bench.get("bad_offset")) {
                    (1, _) => status::INVALID_FIELD,
                    (_, 1) => status::INVALID_PRP_OFFSET,
                    _ => status::SUCCESS,
                };
                assert_eq!(refusal, status);
                *seen.entry(status).or_insert(0) += 1;
            }
        }
        assert!(seen.len() == 3 && seen.values().all(|&n| n > 1000), "{seen:?}");
    }
}
