//! Checks length and PRP entries of a Read or Write.
//!
//! More than 1 MiB: Invalid Field. PRP entry 1 not dword aligned; PRP entry 2 with an offset in its
//! page where it names the second of two pages, or not qword aligned where it points to a list: PRP
//! Offset Invalid. Any other opcode passes. No handshake, no stall, no reset. Latency: 3 cycles.
//! Throughput: one a cycle. Block sizes are 512 to 4,096 bytes; other shifts count as 4,096.

use rust_hdl::prelude::*;
use volplane_abi::{opcode, status};

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct TransferCheck {
    pub clock: Signal<In, Clock>,
    pub opcode: Signal<In, Bits<8>>,
    pub blocks: Signal<In, Bits<17>>,
    pub prp1: Signal<In, Bits<64>>,
    pub prp2: Signal<In, Bits<64>>,
    pub block_shift: Signal<In, Bits<4>>,
    /// Status the command is refused with; 0: none.
    pub refusal: Signal<Out, Bits<11>>,

    // Cycle 1: bytes, and the most blocks.
    transfer1: DFF<bool>,
    blocks1: DFF<Bits<17>>,
    most1: DFF<Bits<17>>,
    bytes1: DFF<Bits<22>>,
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
    refusal3: DFF<Bits<11>>,
    prp1_low: Signal<Local, Bits<2>>,
    page_low: Signal<Local, Bits<12>>,
    list_low: Signal<Local, Bits<3>>,
    shift9: Constant<Bits<4>>,
    shift10: Constant<Bits<4>>,
    shift11: Constant<Bits<4>>,
    most9: Constant<Bits<17>>,
    most10: Constant<Bits<17>>,
    most11: Constant<Bits<17>>,
    most12: Constant<Bits<17>>,
    page: Constant<Bits<22>>,
    two_pages: Constant<Bits<22>>,
    read: Constant<Bits<8>>,
    write: Constant<Bits<8>>,
    no_status: Constant<Bits<11>>,
    field_error: Constant<Bits<11>>,
    offset_error: Constant<Bits<11>>,
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
            refusal: Default::default(),
            transfer1: Default::default(),
            blocks1: Default::default(),
            most1: Default::default(),
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
            refusal3: Default::default(),
            prp1_low: Default::default(),
            page_low: Default::default(),
            list_low: Default::default(),
            shift9: Constant::new(9u64.to_bits()),
            shift10: Constant::new(10u64.to_bits()),
            shift11: Constant::new(11u64.to_bits()),
            most9: Constant::new(2048u64.to_bits()),
            most10: Constant::new(1024u64.to_bits()),
            most11: Constant::new(512u64.to_bits()),
            most12: Constant::new(256u64.to_bits()),
            page: Constant::new(4096u64.to_bits()),
            two_pages: Constant::new(8192u64.to_bits()),
            read: Constant::new(u64::from(opcode::READ).to_bits()),
            write: Constant::new(u64::from(opcode::WRITE).to_bits()),
            no_status: Constant::new(u64::from(status::SUCCESS).to_bits()),
            field_error: Constant::new(u64::from(status::INVALID_FIELD).to_bits()),
            offset_error: Constant::new(u64::from(status::INVALID_PRP_OFFSET).to_bits()),
        }
    }
}

impl Logic for TransferCheck {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self, clock, transfer1, blocks1, most1, bytes1, start1, prp1_bad1, page_bad1, list_bad1,
            transfer2, long2, end2, prp1_bad2, page_bad2, list_bad2, refusal3
        );
        self.transfer1.d.next =
            (self.opcode.val() == self.read.val()) | (self.opcode.val() == self.write.val());
        self.blocks1.d.next = self.blocks.val();
        self.most1.d.next = self.most12.val();
        self.bytes1.d.next = (bit_cast::<22, 17>(self.blocks.val()) << 12);
        if (self.block_shift.val() == self.shift9.val()) {
            self.most1.d.next = self.most9.val();
            self.bytes1.d.next = (bit_cast::<22, 17>(self.blocks.val()) << 9);
        } else if (self.block_shift.val() == self.shift10.val()) {
            self.most1.d.next = self.most10.val();
            self.bytes1.d.next = (bit_cast::<22, 17>(self.blocks.val()) << 10);
        } else if (self.block_shift.val() == self.shift11.val()) {
            self.most1.d.next = self.most11.val();
            self.bytes1.d.next = (bit_cast::<22, 17>(self.blocks.val()) << 11);
        }
        self.start1.d.next = bit_cast::<22, 12>(self.prp1.val().get_bits::<12>(0));
        self.prp1_low.next = self.prp1.val().get_bits::<2>(0);
        self.page_low.next = self.prp2.val().get_bits::<12>(0);
        self.list_low.next = self.prp2.val().get_bits::<3>(0);
        self.prp1_bad1.d.next = self.prp1_low.val().any();
        self.page_bad1.d.next = self.page_low.val().any();
        self.list_bad1.d.next = self.list_low.val().any();

        self.transfer2.d.next = self.transfer1.q.val();
        self.long2.d.next = (self.blocks1.q.val() > self.most1.q.val());
        self.end2.d.next = self.start1.q.val() + self.bytes1.q.val();
        self.prp1_bad2.d.next = self.prp1_bad1.q.val();
        self.page_bad2.d.next = self.page_bad1.q.val();
        self.list_bad2.d.next = self.list_bad1.q.val();

        self.refusal3.d.next = self.no_status.val();
        if self.transfer2.q.val() {
            if self.long2.q.val() {
                self.refusal3.d.next = self.field_error.val();
            } else if self.prp1_bad2.q.val() {
                self.refusal3.d.next = self.offset_error.val();
            } else if (self.end2.q.val() > self.two_pages.val()) {
                if self.list_bad2.q.val() {
                    self.refusal3.d.next = self.offset_error.val();
                }
            } else if (self.end2.q.val() > self.page.val()) & self.page_bad2.q.val() {
                self.refusal3.d.next = self.offset_error.val();
            }
        }
        self.refusal.next = self.refusal3.q.val();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    /// The rules of the header, in bytes.
    pub(crate) fn model(opcode: u8, blocks: u64, prp1: u64, prp2: u64, block_shift: u32) -> u16 {
        if opcode != opcode::READ && opcode != opcode::WRITE {
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
                assert_eq!(bench.get("refusal") as u16, status);
                *seen.entry(status).or_insert(0) += 1;
            }
        }
        assert!(seen.len() == 3 && seen.values().all(|&n| n > 1000), "{seen:?}");
    }
}
