//! Finds the pages of a piece in its plan: where it begins and ends, and what that means for the list.
//!
//! Bytes are counted from the page of PRP1, entries as `PrpBuilder` counts them. No handshake, no reset:
//! a pipeline over inputs that stay, the outputs are right 4 cycles after the inputs, `trim_blocks` 5.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PiecePages {
    pub clock: Signal<In, Clock>,
    /// Block of the plan at which the piece begins.
    pub plan_offset: Signal<In, Bits<17>>,
    pub blocks: Signal<In, Bits<17>>,
    pub plan_blocks: Signal<In, Bits<17>>,
    /// log2 of the block size, 9 to 12.
    pub block_shift: Signal<In, Bits<4>>,
    /// The offset of PRP1, and the slot that PRP2 points to.
    pub first_offset: Signal<In, Bits<12>>,
    pub list_slot: Signal<In, Bits<9>>,
    /// The piece's first byte in its page, its first page, and the pages beside it.
    pub offset: Signal<Out, Bits<12>>,
    pub page: Signal<Out, Bits<10>>,
    pub page_before: Signal<Out, Bits<10>>,
    /// It begins in page 0.
    pub page_zero: Signal<Out, bool>,
    /// It lies in one page, in two.
    pub span_zero: Signal<Out, bool>,
    pub span_one: Signal<Out, bool>,
    /// The plan lies in at most two pages: no list.
    pub listless: Signal<Out, bool>,
    /// Entries before the last slot of the list's first page.
    pub last_slot: Signal<Out, Bits<10>>,
    /// That slot holds a chain pointer.
    pub chained: Signal<Out, bool>,
    /// The piece would end on it: it may have `trim_blocks` only.
    pub trims: Signal<Out, bool>,
    pub trim_blocks: Signal<Out, Bits<17>>,

    // Cycle 1: blocks to bytes.
    start1: DFF<Bits<22>>,
    length1: DFF<Bits<22>>,
    plan_length1: DFF<Bits<22>>,
    // Cycle 2: the first byte; lengths less one.
    start2: DFF<Bits<22>>,
    length_z2: DFF<Bits<22>>,
    plan_length_z2: DFF<Bits<22>>,
    slots: DFF<Bits<10>>,
    last_slot_register: DFF<Bits<10>>,
    // Cycle 3: the last bytes.
    piece_end3: DFF<Bits<22>>,
    plan_end3: DFF<Bits<22>>,
    page_after3: DFF<Bits<10>>,
    page_before3: DFF<Bits<10>>,
    page_zero3: DFF<bool>,
    before_last_slot3: DFF<bool>,
    // Cycle 4: what is what. Cycle 5: bytes to blocks.
    span_zero4: DFF<bool>,
    span_one4: DFF<bool>,
    listless4: DFF<bool>,
    chained4: DFF<bool>,
    ends_at_border4: DFF<bool>,
    trim_bytes4: DFF<Bits<22>>,
    trim_blocks5: DFF<Bits<17>>,
    shift_low: Signal<Local, Bits<2>>,
    bytes_offset: Signal<Local, Bits<22>>,
    bytes: Signal<Local, Bits<22>>,
    plan_bytes: Signal<Local, Bits<22>>,
    trimmed: Signal<Local, Bits<17>>,
    first_page: Signal<Local, Bits<10>>,
    last_page: Signal<Local, Bits<10>>,
    plan_last_page: Signal<Local, Bits<10>>,
    plan_pages_high: Signal<Local, Bits<9>>,
    zero10: Constant<Bits<10>>,
    one10: Constant<Bits<10>>,
    page_slots: Constant<Bits<10>>,
    one22: Constant<Bits<22>>,
    shift9: Constant<Bits<2>>,
    shift10: Constant<Bits<2>>,
    shift11: Constant<Bits<2>>,
}

impl Default for PiecePages {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            plan_offset: Default::default(),
            blocks: Default::default(),
            plan_blocks: Default::default(),
            block_shift: Default::default(),
            first_offset: Default::default(),
            list_slot: Default::default(),
            offset: Default::default(),
            page: Default::default(),
            page_before: Default::default(),
            page_zero: Default::default(),
            span_zero: Default::default(),
            span_one: Default::default(),
            listless: Default::default(),
            last_slot: Default::default(),
            chained: Default::default(),
            trims: Default::default(),
            trim_blocks: Default::default(),
            start1: Default::default(),
            length1: Default::default(),
            plan_length1: Default::default(),
            start2: Default::default(),
            length_z2: Default::default(),
            plan_length_z2: Default::default(),
            slots: Default::default(),
            last_slot_register: Default::default(),
            piece_end3: Default::default(),
            plan_end3: Default::default(),
            page_after3: Default::default(),
            page_before3: Default::default(),
            page_zero3: Default::default(),
            before_last_slot3: Default::default(),
            span_zero4: Default::default(),
            span_one4: Default::default(),
            listless4: Default::default(),
            chained4: Default::default(),
            ends_at_border4: Default::default(),
            trim_bytes4: Default::default(),
            trim_blocks5: Default::default(),
            shift_low: Default::default(),
            bytes_offset: Default::default(),
            bytes: Default::default(),
            plan_bytes: Default::default(),
            trimmed: Default::default(),
            first_page: Default::default(),
            last_page: Default::default(),
            plan_last_page: Default::default(),
            plan_pages_high: Default::default(),
            zero10: Constant::new(0u64.to_bits()),
            one10: Constant::new(1u64.to_bits()),
            page_slots: Constant::new(512u64.to_bits()),
            one22: Constant::new(1u64.to_bits()),
            shift9: Constant::new(1u64.to_bits()),
            shift10: Constant::new(2u64.to_bits()),
            shift11: Constant::new(3u64.to_bits()),
        }
    }
}

impl Logic for PiecePages {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            start1,
            length1,
            plan_length1,
            start2,
            length_z2,
            plan_length_z2,
            slots,
            last_slot_register,
            piece_end3,
            plan_end3,
            page_after3,
            page_before3,
            page_zero3,
            before_last_slot3,
            span_zero4,
            span_one4,
            listless4,
            chained4,
            ends_at_border4,
            trim_bytes4,
            trim_blocks5
        );
        // Blocks of 512 to 4,096 bytes: the shift's two lowest bits tell.
        self.shift_low.next = self.block_shift.val().get_bits::<2>(0);
        self.bytes_offset.next = (bit_cast::<22, 17>(self.plan_offset.val()) << 12);
        self.bytes.next = (bit_cast::<22, 17>(self.blocks.val()) << 12);
        self.plan_bytes.next = (bit_cast::<22, 17>(self.plan_blocks.val()) << 12);
        self.trimmed.next = bit_cast::<17, 22>(self.trim_bytes4.q.val() >> 12);
        if (self.shift_low.val() == self.shift9.val()) {
            self.bytes_offset.next = (bit_cast::<22, 17>(self.plan_offset.val()) << 9);
            self.bytes.next = (bit_cast::<22, 17>(self.blocks.val()) << 9);
            self.plan_bytes.next = (bit_cast::<22, 17>(self.plan_blocks.val()) << 9);
            self.trimmed.next = bit_cast::<17, 22>(self.trim_bytes4.q.val() >> 9);
        } else if (self.shift_low.val() == self.shift10.val()) {
            self.bytes_offset.next = (bit_cast::<22, 17>(self.plan_offset.val()) << 10);
            self.bytes.next = (bit_cast::<22, 17>(self.blocks.val()) << 10);
            self.plan_bytes.next = (bit_cast::<22, 17>(self.plan_blocks.val()) << 10);
            self.trimmed.next = bit_cast::<17, 22>(self.trim_bytes4.q.val() >> 10);
        } else if (self.shift_low.val() == self.shift11.val()) {
            self.bytes_offset.next = (bit_cast::<22, 17>(self.plan_offset.val()) << 11);
            self.bytes.next = (bit_cast::<22, 17>(self.blocks.val()) << 11);
            self.plan_bytes.next = (bit_cast::<22, 17>(self.plan_blocks.val()) << 11);
            self.trimmed.next = bit_cast::<17, 22>(self.trim_bytes4.q.val() >> 11);
        }
        self.start1.d.next = self.bytes_offset.val();
        self.length1.d.next = self.bytes.val();
        self.plan_length1.d.next = self.plan_bytes.val();

        self.start2.d.next = self.start1.q.val() + bit_cast::<22, 12>(self.first_offset.val());
        self.length_z2.d.next = self.length1.q.val() - self.one22.val();
        self.plan_length_z2.d.next = self.plan_length1.q.val() - self.one22.val();
        self.slots.d.next = self.page_slots.val() - bit_cast::<10, 9>(self.list_slot.val());
        self.last_slot_register.d.next = self.slots.q.val() - self.one10.val();

        self.first_page.next = self.start2.q.val().get_bits::<10>(12);
        self.piece_end3.d.next = self.start2.q.val() + self.length_z2.q.val();
        self.plan_end3.d.next = self.plan_length_z2.q.val() + bit_cast::<22, 12>(self.first_offset.val());
        self.page_after3.d.next = self.first_page.val() + self.one10.val();
        self.page_before3.d.next = self.first_page.val() - self.one10.val();
        self.page_zero3.d.next = (self.first_page.val() == self.zero10.val());
        self.before_last_slot3.d.next = (self.first_page.val() < self.last_slot_register.q.val());

        self.last_page.next = self.piece_end3.q.val().get_bits::<10>(12);
        self.plan_last_page.next = self.plan_end3.q.val().get_bits::<10>(12);
        self.plan_pages_high.next = self.plan_last_page.val().get_bits::<9>(1);
        self.span_zero4.d.next = (self.last_page.val() == self.first_page.val());
        self.span_one4.d.next = (self.last_page.val() == self.page_after3.q.val());
        self.listless4.d.next = !self.plan_pages_high.val().any();
        self.chained4.d.next = (self.plan_last_page.val() > self.slots.q.val());
        self.ends_at_border4.d.next = (self.last_page.val() == self.slots.q.val());
        self.trim_bytes4.d.next = (bit_cast::<22, 10>(self.last_page.val()) << 12) - self.start2.q.val();
        self.trim_blocks5.d.next = self.trimmed.val();

        self.offset.next = self.start2.q.val().get_bits::<12>(0);
        self.page.next = self.first_page.val();
        self.page_before.next = self.page_before3.q.val();
        self.page_zero.next = self.page_zero3.q.val();
        self.span_zero.next = self.span_zero4.q.val();
        self.span_one.next = self.span_one4.q.val();
        self.listless.next = self.listless4.q.val();
        self.last_slot.next = self.last_slot_register.q.val();
        self.chained.next = self.chained4.q.val();
        self.trims.next = self.chained4.q.val()
            & self.ends_at_border4.q.val()
            & self.before_last_slot3.q.val()
            & !self.span_zero4.q.val()
            & !self.span_one4.q.val();
        self.trim_blocks.next = self.trim_blocks5.q.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn pages_are_those_of_the_bytes() {
        let mut bench = Bench::new("piece_pages", PiecePages::default());
        let mut random = seeded();
        let mut trimmed = 0;
        for _ in 0..20_000 {
            let shift = random.random_range(9..=12u64);
            let plan = random.random_range(1..=(1u64 << 20) >> shift);
            let begin = random.random_range(0..plan);
            let blocks = random.random_range(1..=plan - begin);
            let first = random.random_range(0..1024u64) * 4;
            let list_slot = random.random_range(0..512u64);
            let page = |block: u64, less: u64| (first + (block << shift) - less) >> 12;
            let (from, to, end) = (page(begin, 0), page(begin + blocks, 1), page(plan, 1));
            let slots = 512 - list_slot;
            for (port, value) in [
                ("plan_offset", begin),
                ("blocks", blocks),
                ("plan_blocks", plan),
                ("block_shift", shift),
                ("first_offset", first),
                ("list_slot", list_slot),
            ] {
                bench.set(port, value.into());
            }
            for _ in 0..4 {
                bench.cycle();
            }
            let trims = end > slots && to == slots && from < slots - 1 && to - from > 1;
            for (port, value) in [
                ("offset", (first + (begin << shift)) % 4096),
                ("page", from),
                ("page_before", from.wrapping_sub(1) & 0x3FF),
                ("page_zero", u64::from(from == 0)),
                ("span_zero", u64::from(to == from)),
                ("span_one", u64::from(to == from + 1)),
                ("listless", u64::from(end <= 1)),
                ("last_slot", slots - 1),
                ("chained", u64::from(end > slots)),
                ("trims", trims.into()),
            ] {
                assert_eq!(bench.get(port) as u64, value, "{port} of {begin}+{blocks} of {plan}");
            }
            bench.cycle();
            if trims {
                trimmed += 1;
                let kept = ((to << 12) - first - (begin << shift)) >> shift;
                assert_eq!(bench.get("trim_blocks") as u64, kept);
            }
        }
        assert!(trimmed > 20, "{trimmed}");
    }
}
