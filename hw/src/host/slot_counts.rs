//! Counts the plan slots that the commands of each index hold, a queue or a disk, and weighs a command against the
//! most there may be.
//!
//! `look` names a command's `index`, at most every second cycle; three cycles later `over` says that it may not have
//! a slot, `scarce` that fewer than `SCARCE` are left, and `take` counts it. The command before it is taken into account
//! though its count is not in the memory yet. `ended` counts one down, one a cycle at most.
//! `freed` says, five cycles after `ended`, that its index was at its limit or close to it and has a slot: up to two
//! commands that are counted in the same cycles are not seen, so it comes for each of the last three slots below the
//! limit. What it says is known to every command that is looked at later.
//! `limit_write` sets the most slots of an index; 0, or as many as there are, is no limit.
//!
//! Reset clears counts and limits, one a cycle; until `initialised` nothing may be looked at.

use rust_hdl::prelude::*;

use crate::logic_record;
use crate::prim::ram::LutRam;
use crate::sizes::Sizes;

/// Fewer slots left than this are told: as many as can be on their way from a ring.
pub const SCARCE: u64 = 32;

/// Bits of a count: up to 4,096 slots.
const COUNT: usize = 13;

logic_record! {
    /// The most slots of an index.
    SlotLimit: 14 {
        /// Slots.
        slots = 13,
        /// 1: there is a limit.
        limited = 1,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct SlotCounts {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub look: Signal<In, bool>,
    pub index: Signal<In, Bits<16>>,
    pub over: Signal<Out, bool>,
    pub scarce: Signal<Out, bool>,
    pub take: Signal<In, bool>,
    pub ended: Signal<In, bool>,
    pub ended_index: Signal<In, Bits<16>>,
    pub freed: Signal<Out, bool>,
    pub freed_index: Signal<Out, Bits<16>>,
    pub limit_write: Signal<In, bool>,
    pub limit_index: Signal<In, Bits<16>>,
    pub limit: Signal<In, Bits<16>>,
    pub initialised: Signal<Out, bool>,
    /// The index that is cleared, until then.
    pub walked: Signal<Out, Bits<16>>,
    pub idle: Signal<Out, bool>,

    // Commands counted and ended since reset, modulo 2^13, each twice: for a look, and for an end.
    taken: LutRam<Bits<13>>,
    taken_at_end: LutRam<Bits<13>>,
    ends: LutRam<Bits<13>>,
    ends_at_end: LutRam<Bits<13>>,
    limits: LutRam<SlotLimit>,
    limits_at_end: LutRam<SlotLimit>,
    walking: DFF<bool>,
    walk: DFF<Bits<16>>,
    // A look: a cycle a digit.
    look1: DFF<bool>,
    index1: DFF<Bits<16>>,
    index2: DFF<Bits<16>>,
    index3: DFF<Bits<16>>,
    /// Bit i: a look i + 1 cycles ago. The last index, and whether one of two or three cycles before is the same.
    recent: DFF<Bits<4>>,
    last_index: DFF<Bits<16>>,
    same2: DFF<bool>,
    held2: DFF<Bits<13>>,
    taken2: DFF<Bits<13>>,
    limit2: DFF<SlotLimit>,
    less2: DFF<Bits<13>>,
    far2: DFF<Bits<13>>,
    counts_one3: DFF<bool>,
    over3: DFF<bool>,
    over_one3: DFF<bool>,
    scarce3: DFF<bool>,
    plus3: DFF<Bits<13>>,
    /// The command looked at last was counted, and what its count became.
    was_taken: DFF<bool>,
    written: DFF<Bits<13>>,
    // An end.
    end1: DFF<bool>,
    end2: DFF<bool>,
    end3: DFF<bool>,
    end4: DFF<bool>,
    end_index1: DFF<Bits<16>>,
    end_index2: DFF<Bits<16>>,
    end_index3: DFF<Bits<16>>,
    end_index4: DFF<Bits<16>>,
    end_index5: DFF<Bits<16>>,
    /// It is of the index of the one before, whose count this is.
    again1: DFF<bool>,
    ends2: DFF<Bits<13>>,
    end_taken2: DFF<Bits<13>>,
    end_limit2: DFF<SlotLimit>,
    end_held3: DFF<Bits<13>>,
    end_less3: DFF<Bits<13>>,
    limited3: DFF<bool>,
    room4: DFF<Bits<13>>,
    freed5: DFF<bool>,
    // A limit that is written.
    limit_write1: DFF<bool>,
    limit_index1: DFF<Bits<16>>,
    new_limit1: DFF<SlotLimit>,

    same: Signal<Local, bool>,
    counts_one: Signal<Local, bool>,
    base: Signal<Local, Bits<13>>,
    limit_now: Signal<Local, SlotLimit>,
    slots_now: Signal<Local, Bits<13>>,
    blocks_now: Signal<Local, Bits<8>>,
    blocks_less: Signal<Local, Bits<8>>,
    rest_now: Signal<Local, Bits<5>>,
    is_limited: Signal<Local, bool>,
    ends_now: Signal<Local, Bits<13>>,
    ends_plus: Signal<Local, Bits<13>>,
    room_high: Signal<Local, Bits<13>>,
    limits_it: Signal<Local, bool>,
    ends_write: Signal<Local, bool>,
    ends_index: Signal<Local, Bits<16>>,
    ends_data: Signal<Local, Bits<13>>,
    taken_write: Signal<Local, bool>,
    taken_index: Signal<Local, Bits<16>>,
    taken_data: Signal<Local, Bits<13>>,
    limits_write: Signal<Local, bool>,
    limits_index: Signal<Local, Bits<16>>,
    limits_data: Signal<Local, SlotLimit>,
    address_mask: Constant<Bits<16>>,
    all_slots: Constant<Bits<16>>,
    last: Constant<Bits<16>>,
    room_mask: Constant<Bits<13>>,
    one13: Constant<Bits<13>>,
    zero13: Constant<Bits<13>>,
    one8: Constant<Bits<8>>,
    zero8: Constant<Bits<8>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    none: Constant<Bits<4>>,
    looked: Constant<Bits<4>>,
    unwritten: Constant<Bits<4>>,
    flag: Constant<Bits<1>>,
    no_limit: Constant<Bits<14>>,
}

impl SlotCounts {
    /// 2^`index_bits` counts.
    pub fn new(sizes: &Sizes, index_bits: usize) -> Self {
        assert!((1..=10).contains(&index_bits) && sizes.slot_bits < COUNT);
        const { assert!(SCARCE == 32) };
        Self {
            clock: Default::default(),
            reset: Default::default(),
            look: Default::default(),
            index: Default::default(),
            over: Default::default(),
            scarce: Default::default(),
            take: Default::default(),
            ended: Default::default(),
            ended_index: Default::default(),
            freed: Default::default(),
            freed_index: Default::default(),
            limit_write: Default::default(),
            limit_index: Default::default(),
            limit: Default::default(),
            initialised: Default::default(),
            walked: Default::default(),
            idle: Default::default(),
            taken: LutRam::new(index_bits),
            taken_at_end: LutRam::new(index_bits),
            ends: LutRam::new(index_bits),
            ends_at_end: LutRam::new(index_bits),
            limits: LutRam::new(index_bits),
            limits_at_end: LutRam::new(index_bits),
            walking: Default::default(),
            walk: Default::default(),
            look1: Default::default(),
            index1: Default::default(),
            index2: Default::default(),
            index3: Default::default(),
            recent: Default::default(),
            last_index: Default::default(),
            same2: Default::default(),
            held2: Default::default(),
            taken2: Default::default(),
            limit2: Default::default(),
            less2: Default::default(),
            far2: Default::default(),
            counts_one3: Default::default(),
            over3: Default::default(),
            over_one3: Default::default(),
            scarce3: Default::default(),
            plus3: Default::default(),
            was_taken: Default::default(),
            written: Default::default(),
            end1: Default::default(),
            end2: Default::default(),
            end3: Default::default(),
            end4: Default::default(),
            end_index1: Default::default(),
            end_index2: Default::default(),
            end_index3: Default::default(),
            end_index4: Default::default(),
            end_index5: Default::default(),
            again1: Default::default(),
            ends2: Default::default(),
            end_taken2: Default::default(),
            end_limit2: Default::default(),
            end_held3: Default::default(),
            end_less3: Default::default(),
            limited3: Default::default(),
            room4: Default::default(),
            freed5: Default::default(),
            limit_write1: Default::default(),
            limit_index1: Default::default(),
            new_limit1: Default::default(),
            same: Default::default(),
            counts_one: Default::default(),
            base: Default::default(),
            limit_now: Default::default(),
            slots_now: Default::default(),
            blocks_now: Default::default(),
            blocks_less: Default::default(),
            rest_now: Default::default(),
            is_limited: Default::default(),
            ends_now: Default::default(),
            ends_plus: Default::default(),
            room_high: Default::default(),
            limits_it: Default::default(),
            ends_write: Default::default(),
            ends_index: Default::default(),
            ends_data: Default::default(),
            taken_write: Default::default(),
            taken_index: Default::default(),
            taken_data: Default::default(),
            limits_write: Default::default(),
            limits_index: Default::default(),
            limits_data: Default::default(),
            address_mask: Constant::new(((1u64 << index_bits) - 1).to_bits()),
            all_slots: Constant::new((1u64 << sizes.slot_bits).to_bits()),
            last: Constant::new(((1u64 << index_bits) - 1).to_bits()),
            room_mask: Constant::new((((1u64 << COUNT) - 1) & !3).to_bits()),
            one13: Constant::new(1u64.to_bits()),
            zero13: Constant::new(0u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            none: Constant::new(0u64.to_bits()),
            looked: Constant::new(1u64.to_bits()),
            unwritten: Constant::new(0b1100u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            no_limit: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for SlotCounts {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self, clock, walking, walk, look1, index1, index2, index3, recent, last_index, same2, held2,
            taken2
        );
        dff_setup!(
            self,
            clock,
            limit2,
            less2,
            far2,
            counts_one3,
            over3,
            over_one3,
            scarce3,
            plus3,
            was_taken
        );
        dff_setup!(self, clock, written, end1, end2, end3, end4, end_index1, end_index2, end_index3);
        dff_setup!(self, clock, end_index4, end_index5, again1, ends2, end_taken2, end_limit2, end_held3);
        dff_setup!(self, clock, end_less3, limited3, room4, freed5, limit_write1, limit_index1, new_limit1);
        clock!(self, clock, taken, taken_at_end, ends, ends_at_end, limits, limits_at_end);

        // A look: what the memories hold,
        self.look1.d.next = self.look.val();
        self.index1.d.next = self.index.val() & self.address_mask.val();
        self.recent.d.next = (self.recent.q.val() << 1);
        if self.look.val() {
            self.recent.d.next = (self.recent.q.val() << 1) | self.looked.val();
        }
        self.taken.read_address.next = self.index.val() & self.address_mask.val();
        self.ends.read_address.next = self.index.val() & self.address_mask.val();
        self.limits.read_address.next = self.index.val() & self.address_mask.val();
        // what is held, without the command before,
        self.index2.d.next = self.index1.q.val();
        if self.look1.q.val() {
            self.last_index.d.next = self.index1.q.val();
        }
        self.same.next = (self.index1.q.val() == self.last_index.q.val());
        self.same2.d.next = self.same.val() & (self.recent.q.val() & self.unwritten.val()).any();
        self.taken2.d.next = self.taken.read_data.val();
        self.held2.d.next = self.taken.read_data.val() - self.ends.read_data.val();
        self.limit_now.next = self.limits.read_data.val();
        self.limit2.d.next = self.limit_now.val();
        self.slots_now.next = self.limit_now.val().slots;
        self.less2.d.next = self.slots_now.val() - self.one13.val();
        self.blocks_now.next = self.slots_now.val().get_bits::<8>(5);
        self.rest_now.next = self.slots_now.val().get_bits::<5>(0);
        self.blocks_less.next = self.blocks_now.val() - self.one8.val();
        self.far2.d.next =
            bit_cast::<13, 5>(self.rest_now.val()) | (bit_cast::<13, 8>(self.blocks_less.val()) << 5);
        if (self.blocks_now.val() == self.zero8.val()) {
            self.far2.d.next = self.zero13.val();
        }
        // how that compares, without it and with it; and its count.
        self.index3.d.next = self.index2.q.val();
        self.counts_one.next = self.same2.q.val() & self.was_taken.q.val();
        self.counts_one3.d.next = self.counts_one.val();
        self.is_limited.next = (self.limit2.q.val().limited == self.flag.val());
        self.over3.d.next = self.is_limited.val() & (self.held2.q.val() >= self.limit2.q.val().slots);
        self.over_one3.d.next = self.is_limited.val() & (self.held2.q.val() >= self.less2.q.val());
        self.scarce3.d.next = self.is_limited.val() & (self.held2.q.val() >= self.far2.q.val());
        self.base.next = self.taken2.q.val();
        if self.counts_one.val() {
            self.base.next = self.written.q.val();
        }
        self.plus3.d.next = self.base.val() + self.one13.val();
        self.over.next = self.over3.q.val();
        if self.counts_one3.q.val() {
            self.over.next = self.over_one3.q.val();
        }
        self.scarce.next = self.scarce3.q.val();
        if self.recent.q.val().get_bit(2) {
            self.was_taken.d.next = self.take.val();
            self.written.d.next = self.plus3.q.val();
        }
        self.taken_write.next = self.take.val();
        self.taken_index.next = self.index3.q.val();
        self.taken_data.next = self.plus3.q.val();

        // An end: counted as it comes; what was written in the last cycle is not read yet.
        self.end1.d.next = self.ended.val();
        self.end_index1.d.next = self.ended_index.val() & self.address_mask.val();
        self.ends_at_end.read_address.next = self.ended_index.val() & self.address_mask.val();
        self.again1.d.next = self.end1.q.val()
            & (self.end_index1.q.val() == (self.ended_index.val() & self.address_mask.val()));
        self.ends_now.next = self.ends_at_end.read_data.val();
        if self.again1.q.val() {
            self.ends_now.next = self.ends2.q.val();
        }
        self.ends_plus.next = self.ends_now.val() + self.one13.val();
        self.ends2.d.next = self.ends_plus.val();
        self.ends_write.next = self.end1.q.val();
        self.ends_index.next = self.end_index1.q.val();
        self.ends_data.next = self.ends_plus.val();
        // Is there a slot, and was there none, or nearly?
        self.taken_at_end.read_address.next = self.ended_index.val() & self.address_mask.val();
        self.limits_at_end.read_address.next = self.ended_index.val() & self.address_mask.val();
        self.end2.d.next = self.end1.q.val();
        self.end_index2.d.next = self.end_index1.q.val();
        self.end_taken2.d.next = self.taken_at_end.read_data.val();
        self.end_limit2.d.next = self.limits_at_end.read_data.val();
        self.end3.d.next = self.end2.q.val();
        self.end_index3.d.next = self.end_index2.q.val();
        self.end_held3.d.next = self.end_taken2.q.val() - self.ends2.q.val();
        self.end_less3.d.next = self.end_limit2.q.val().slots - self.one13.val();
        self.limited3.d.next = (self.end_limit2.q.val().limited == self.flag.val());
        self.end4.d.next = self.end3.q.val() & self.limited3.q.val();
        self.end_index4.d.next = self.end_index3.q.val();
        self.room4.d.next = self.end_less3.q.val() - self.end_held3.q.val();
        self.room_high.next = self.room4.q.val() & self.room_mask.val();
        self.freed5.d.next = self.end4.q.val() & !self.room_high.val().any();
        self.end_index5.d.next = self.end_index4.q.val();
        self.freed.next = self.freed5.q.val();
        self.freed_index.next = self.end_index5.q.val();

        // Limits.
        self.limit_write1.d.next = self.limit_write.val();
        self.limit_index1.d.next = self.limit_index.val() & self.address_mask.val();
        self.limits_it.next = self.limit.val().any() & (self.limit.val() < self.all_slots.val());
        self.new_limit1.d.next = self.no_limit.val().into();
        if self.limits_it.val() {
            self.new_limit1.d.next.slots = bit_cast::<13, 16>(self.limit.val());
            self.new_limit1.d.next.limited = self.flag.val();
        }
        self.limits_write.next = self.limit_write1.q.val();
        self.limits_index.next = self.limit_index1.q.val();
        self.limits_data.next = self.new_limit1.q.val();

        // All zero at first.
        if self.walking.q.val() {
            self.walk.d.next = self.walk.q.val() + self.one16.val();
            if (self.walk.q.val() == self.last.val()) {
                self.walking.d.next = false;
            }
            self.taken_write.next = true;
            self.taken_index.next = self.walk.q.val();
            self.taken_data.next = self.zero13.val();
            self.ends_write.next = true;
            self.ends_index.next = self.walk.q.val();
            self.ends_data.next = self.zero13.val();
            self.limits_write.next = true;
            self.limits_index.next = self.walk.q.val();
            self.limits_data.next = self.no_limit.val().into();
        }
        self.initialised.next = !self.walking.q.val();
        self.walked.next = self.walk.q.val();
        self.taken.write.next = self.taken_write.val();
        self.taken.write_address.next = self.taken_index.val();
        self.taken.write_data.next = self.taken_data.val();
        self.taken_at_end.write.next = self.taken_write.val();
        self.taken_at_end.write_address.next = self.taken_index.val();
        self.taken_at_end.write_data.next = self.taken_data.val();
        self.ends.write.next = self.ends_write.val();
        self.ends.write_address.next = self.ends_index.val();
        self.ends.write_data.next = self.ends_data.val();
        self.ends_at_end.write.next = self.ends_write.val();
        self.ends_at_end.write_address.next = self.ends_index.val();
        self.ends_at_end.write_data.next = self.ends_data.val();
        self.limits.write.next = self.limits_write.val();
        self.limits.write_address.next = self.limits_index.val();
        self.limits.write_data.next = self.limits_data.val();
        self.limits_at_end.write.next = self.limits_write.val();
        self.limits_at_end.write_address.next = self.limits_index.val();
        self.limits_at_end.write_data.next = self.limits_data.val();
        self.idle.next = !self.walking.q.val()
            & !self.look1.q.val()
            & (self.recent.q.val() == self.none.val())
            & !self.end1.q.val()
            & !self.end2.q.val()
            & !self.end3.q.val()
            & !self.end4.q.val()
            & !self.freed5.q.val()
            & !self.limit_write1.q.val();

        if self.reset.val() {
            self.walking.d.next = true;
            self.walk.d.next = self.zero16.val();
            self.look1.d.next = false;
            self.recent.d.next = self.none.val();
            self.was_taken.d.next = false;
            self.end1.d.next = false;
            self.end2.d.next = false;
            self.end3.d.next = false;
            self.end4.d.next = false;
            self.freed5.d.next = false;
            self.limit_write1.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
