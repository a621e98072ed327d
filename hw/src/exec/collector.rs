//! Counts a part's fragments back in and ends it when all of them are.
//!
//! `returned` brings fragments in any order, `closed` parts that end without a last fragment. Each part's end
//! is given once: of a part that succeeded in `done`, if it is the only part of a plan without a template, else
//! in `part`; of any other in `failed`. A part's total is known from its fragment marked last or from `closed`.
//! Its status is that of the failed fragment with the lowest ordinal, without the More and CRD bits; a status
//! of `closed` stands behind every fragment issued and gets Do Not Retry. A part that the card has stopped
//! (`stop_cause`) has not failed by that; the lowest of its fragments that were not issued counts then. Whether the
//! failed fragment was given up, as nobody answered until its path was quiesced, goes with its status.
//!
//! Latency: 5 cycles for a part of one fragment, 8 for the last of several; one less from `closed`, and for one
//! that failed.
//! Throughput: one fragment a cycle of different parts, one every 5 cycles of the same part. Ordering:
//! none between parts. Reset clears every part's record, one a cycle; `initialised` says when that is
//! done, and nothing is taken before.

use rust_hdl::prelude::*;
use volplane_abi::plan::{plan_status, COMPONENTS_MAX};
use volplane_abi::status;

use super::stop_cause::STOP_TYPE;
use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::ram::BlockRam;
use crate::prim::slice::Slice;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Part, PartDone, PlanClosed, PlanDone, Returned};
use crate::sizes::Sizes;

logic_record! {
    /// What happened to a part: a fragment came back, or the part was closed.
    PartEvent: 64 {
        /// The part (`Part`).
        part = 16,
        /// 1: a fragment came back.
        fragment = 1,
        /// 1: the total is known to be `ordinal` plus `fragment`.
        last = 1,
        /// 1: `status` is a failure.
        failed = 1,
        /// Number of the fragment; of a closed part, fragments issued.
        ordinal = 17,
        /// Status field.
        status = 15,
        /// 1: nothing else happens to this part.
        alone = 1,
        /// Path it came from.
        path = 8,
        /// 1: it was not issued, for this cause.
        stopped = 1,
        cause = 2,
        /// 1: the card has ended it, as its path was quiesced.
        given_up = 1,
    }
}

logic_record! {
    /// A part under way; all zero before and after.
    PartRecord: 64 {
        /// Fragments come back less, once it is known, the total; modulo 2^17.
        balance = 17,
        /// 1: the total is known.
        known = 1,
        /// 1: a fragment failed.
        failed = 1,
        /// The lowest failed ordinal, else the lowest that was not issued.
        ordinal = 17,
        /// Its status.
        status = 15,
        /// Its path.
        path = 8,
        /// 1: the status is the card's own.
        closed = 1,
        /// 1: it was stopped, for this cause.
        stopped = 1,
        cause = 2,
        /// 1: the failed fragment was given up.
        given_up = 1,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Collector {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub initialised: Signal<Out, bool>,
    pub returned: StreamIn<Returned>,
    pub closed: StreamIn<PlanClosed>,
    pub done: StreamOut<PlanDone>,
    pub part: StreamOut<PartDone>,
    pub failed: StreamOut<PartDone>,
    pub idle: Signal<Out, bool>,

    arrived: Slice<Returned>,
    records: BlockRam<PartRecord>,
    /// Parts that ended with their one event, and those that ended by their record.
    ended_alone: Fifo<PartDone>,
    ended: Fifo<PartDone>,
    /// What comes behind has its own paths.
    done_out: Slice<PlanDone>,
    part_out: Slice<PartDone>,
    /// A closed part that waits for a cycle without a fragment.
    closing: DFF<PlanClosed>,
    closing_valid: DFF<bool>,
    /// Taken; from here the RAM is addressed.
    taken: DFF<PartEvent>,
    taken_valid: DFF<bool>,
    /// The RAM reads.
    reading: DFF<PartEvent>,
    reading_valid: DFF<bool>,
    /// The record is there.
    updating: DFF<PartEvent>,
    updating_valid: DFF<bool>,
    /// The new record stands; does the part end?
    part_updated: DFF<Bits<16>>,
    updated: DFF<PartRecord>,
    updated_valid: DFF<bool>,
    /// It is written, or cleared at the part's end.
    part_written: DFF<Bits<16>>,
    written: DFF<PartRecord>,
    written_valid: DFF<bool>,
    part_ends: DFF<bool>,
    /// A part ends with its one event.
    alone_ends: DFF<bool>,
    alone_done: DFF<PartDone>,
    /// Both FIFOs have room for all that is under way.
    room: DFF<bool>,
    /// An event of the same part as the taken one is at each of the four stages.
    clash: DFF<Bits<4>>,
    /// Anything was at the stages a cycle ago.
    flowing: DFF<bool>,
    cleared: DFF<Bits<16>>,
    all_cleared: DFF<bool>,

    from_returned: Signal<Local, PartEvent>,
    from_closed: Signal<Local, PartEvent>,
    returned_status: Signal<Local, Bits<15>>,
    returned_stops: Signal<Local, bool>,
    closing_stops: Signal<Local, bool>,
    fails_first: Signal<Local, bool>,
    stops_first: Signal<Local, bool>,
    record_now: Signal<Local, PartRecord>,
    record_next: Signal<Local, PartRecord>,
    advance: Signal<Local, bool>,
    alone: Signal<Local, bool>,
    clear_record: Signal<Local, bool>,
    moves_on: Signal<Local, bool>,
    moving_valid: Signal<Local, bool>,
    returned_clash: Signal<Local, Bits<4>>,
    closing_clash: Signal<Local, Bits<4>>,
    arriving: Signal<Local, Returned>,
    take: Signal<Local, bool>,
    quiet: Signal<Local, bool>,
    added: Signal<Local, Bits<17>>,
    first: Signal<Local, PartDone>,
    first_part: Signal<Local, Part>,
    first_good: Signal<Local, bool>,
    first_failed: Signal<Local, bool>,
    second_good: Signal<Local, bool>,
    second_failed: Signal<Local, bool>,
    first_single: Signal<Local, bool>,
    first_other: Signal<Local, bool>,
    second: Signal<Local, PartDone>,
    second_part: Signal<Local, Part>,
    second_single: Signal<Local, bool>,
    second_other: Signal<Local, bool>,
    taken_part: Signal<Local, Part>,
    written_part: Signal<Local, Part>,
    no_path: Constant<Bits<8>>,
    kept_bits: Constant<Bits<15>>,
    stop_type: Constant<Bits<15>>,
    closed_stop_type: Constant<Bits<11>>,
    quiesced: Constant<Bits<15>>,
    no_cause: Constant<Bits<2>>,
    do_not_retry: Constant<Bits<15>>,
    success: Constant<Bits<15>>,
    closed_success: Constant<Bits<11>>,
    no_record: Constant<Bits<64>>,
    parts: Constant<Bits<16>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    zero17: Constant<Bits<17>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl Collector {
    /// A record for each component of 2^`slot_bits` slots.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((2..=12).contains(&sizes.slot_bits), "2^{} plan slots", sizes.slot_bits);
        // Status code, type and Do Not Retry; More and CRD speak of the SSD, not of the plan.
        let kept = u64::from(status::DNR | status::CODE_AND_TYPE);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            initialised: Default::default(),
            returned: Default::default(),
            closed: Default::default(),
            done: Default::default(),
            part: Default::default(),
            failed: Default::default(),
            idle: Default::default(),
            arrived: Default::default(),
            records: BlockRam::new(sizes.slot_bits + COMPONENTS_MAX.ilog2() as usize),
            ended_alone: Fifo::quick(3, 4),
            ended: Fifo::quick(4, 7),
            done_out: Default::default(),
            part_out: Default::default(),
            closing: Default::default(),
            closing_valid: Default::default(),
            taken: Default::default(),
            taken_valid: Default::default(),
            reading: Default::default(),
            reading_valid: Default::default(),
            updating: Default::default(),
            updating_valid: Default::default(),
            part_updated: Default::default(),
            updated: Default::default(),
            updated_valid: Default::default(),
            part_written: Default::default(),
            written: Default::default(),
            written_valid: Default::default(),
            part_ends: Default::default(),
            alone_ends: Default::default(),
            alone_done: Default::default(),
            room: Default::default(),
            clash: Default::default(),
            flowing: Default::default(),
            cleared: Default::default(),
            all_cleared: Default::default(),
            from_returned: Default::default(),
            from_closed: Default::default(),
            returned_status: Default::default(),
            returned_stops: Default::default(),
            closing_stops: Default::default(),
            fails_first: Default::default(),
            stops_first: Default::default(),
            record_now: Default::default(),
            record_next: Default::default(),
            advance: Default::default(),
            alone: Default::default(),
            clear_record: Default::default(),
            moves_on: Default::default(),
            moving_valid: Default::default(),
            returned_clash: Default::default(),
            closing_clash: Default::default(),
            arriving: Default::default(),
            take: Default::default(),
            quiet: Default::default(),
            added: Default::default(),
            first: Default::default(),
            first_part: Default::default(),
            first_good: Default::default(),
            first_failed: Default::default(),
            second_good: Default::default(),
            second_failed: Default::default(),
            first_single: Default::default(),
            first_other: Default::default(),
            second: Default::default(),
            second_part: Default::default(),
            second_single: Default::default(),
            second_other: Default::default(),
            taken_part: Default::default(),
            written_part: Default::default(),
            no_path: Constant::new(0u64.to_bits()),
            kept_bits: Constant::new(kept.to_bits()),
            stop_type: Constant::new(u64::from(STOP_TYPE).to_bits()),
            closed_stop_type: Constant::new(u64::from(STOP_TYPE).to_bits()),
            quiesced: Constant::new(u64::from(plan_status::ABORTED_SQ_DELETION).to_bits()),
            no_cause: Constant::new(0u64.to_bits()),
            do_not_retry: Constant::new((status::DNR as u64).to_bits()),
            success: Constant::new((status::SUCCESS as u64).to_bits()),
            closed_success: Constant::new((status::SUCCESS as u64).to_bits()),
            no_record: Constant::new(0u64.to_bits()),
            parts: Constant::new(((COMPONENTS_MAX as u64) << sizes.slot_bits).to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            zero17: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for Collector {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            closing,
            closing_valid,
            taken,
            taken_valid,
            reading,
            reading_valid,
            updating,
            updating_valid,
            part_updated,
            updated,
            updated_valid,
            part_written,
            written,
            written_valid,
            part_ends,
            alone_ends,
            alone_done,
            room,
            clash,
            flowing,
            cleared,
            all_cleared
        );
        self.records.clock.next = self.clock.val();
        self.ended.clock.next = self.clock.val();
        self.ended.reset.next = self.reset.val();
        self.ended_alone.clock.next = self.clock.val();
        self.ended_alone.reset.next = self.reset.val();
        self.arrived.clock.next = self.clock.val();
        // No room for an event until every record is cleared.
        self.arrived.reset.next = !self.all_cleared.q.val();
        StreamIn::<Returned>::link(&mut self.returned, &mut self.arrived.inlet);
        clock!(self, clock, done_out, part_out);
        self.done_out.reset.next = self.reset.val();
        self.part_out.reset.next = self.reset.val();
        StreamOut::<PlanDone>::link(&mut self.done, &mut self.done_out.out);
        StreamOut::<PartDone>::link(&mut self.part, &mut self.part_out.out);
        self.arriving.next = self.arrived.out.data.val();

        // Both sources as events.
        self.returned_status.next = self.arriving.val().status & self.kept_bits.val();
        self.from_returned.next.part = self.arriving.val().part;
        self.from_returned.next.fragment = self.flag.val();
        self.from_returned.next.last = self.arriving.val().last;
        self.returned_stops.next = (self.arriving.val().own == self.flag.val())
            & ((self.returned_status.val() & self.stop_type.val()) == self.stop_type.val());
        self.from_returned.next.failed =
            ((self.returned_status.val() != self.success.val()) & !self.returned_stops.val()).into();
        self.from_returned.next.stopped = self.returned_stops.val().into();
        self.from_returned.next.cause = self.no_cause.val();
        self.from_returned.next.given_up = ((self.arriving.val().own == self.flag.val())
            & (self.returned_status.val() == self.quiesced.val()))
        .into();
        self.from_returned.next.ordinal = self.arriving.val().ordinal;
        self.from_returned.next.status = self.returned_status.val();
        if self.returned_stops.val() {
            self.from_returned.next.status = self.success.val();
        }
        self.from_returned.next.alone = ((self.arriving.val().ordinal == self.zero17.val())
            & (self.arriving.val().last == self.flag.val()))
        .into();
        self.from_returned.next.path = self.arriving.val().path;
        if self.returned_stops.val() {
            self.from_returned.next.path = self.no_path.val();
        }
        self.from_closed.next.part = self.closing.q.val().part;
        self.from_closed.next.fragment = self.clear.val();
        self.from_closed.next.last = self.flag.val();
        self.from_closed.next.failed = self.clear.val();
        self.from_closed.next.ordinal = self.closing.q.val().issued;
        self.from_closed.next.status = self.success.val();
        self.closing_stops.next =
            ((self.closing.q.val().status & self.closed_stop_type.val()) == self.closed_stop_type.val());
        self.from_closed.next.stopped = self.closing_stops.val().into();
        self.from_closed.next.cause = self.no_cause.val();
        if self.closing_stops.val() {
            self.from_closed.next.cause = bit_cast::<2, 11>(self.closing.q.val().status);
        }
        if (self.closing.q.val().status != self.closed_success.val()) & !self.closing_stops.val() {
            self.from_closed.next.failed = self.flag.val();
            self.from_closed.next.status =
                (bit_cast::<15, 11>(self.closing.q.val().status) | self.do_not_retry.val());
        }
        self.from_closed.next.alone = (self.closing.q.val().issued == self.zero17.val()).into();
        self.from_closed.next.path = self.no_path.val();
        self.from_closed.next.given_up = self.clear.val();

        // An event waits while an earlier one of its plan is under way: the RAM would be read too early.
        // Whether one is at each stage is compared when the event is taken, and moves on with the stages.
        self.alone.next = self.taken.q.val().alone.into();
        self.room.d.next = self.ended.room.val() & self.ended_alone.room.val();
        self.advance.next = self.room.q.val() & !self.clash.q.val().any();
        self.take.next = !self.taken_valid.q.val() | self.advance.val();
        // What `take` replaces moves on: no need to ask `advance`, which comes late, once more.
        self.moves_on.next = self.taken_valid.q.val() & !self.alone.val();
        self.moving_valid.next = self.moves_on.val() & self.advance.val();
        self.returned_clash.next = bit_cast::<4, 1>(
            (self.moves_on.val() & (self.taken.q.val().part == self.arriving.val().part)).into(),
        ) | (bit_cast::<4, 1>(
            (self.reading_valid.q.val() & (self.reading.q.val().part == self.arriving.val().part)).into(),
        ) << 1)
            | (bit_cast::<4, 1>(
                (self.updating_valid.q.val() & (self.updating.q.val().part == self.arriving.val().part))
                    .into(),
            ) << 2)
            | (bit_cast::<4, 1>(
                (self.updated_valid.q.val() & (self.part_updated.q.val() == self.arriving.val().part)).into(),
            ) << 3);
        self.closing_clash.next = bit_cast::<4, 1>(
            (self.moves_on.val() & (self.taken.q.val().part == self.closing.q.val().part)).into(),
        ) | (bit_cast::<4, 1>(
            (self.reading_valid.q.val() & (self.reading.q.val().part == self.closing.q.val().part)).into(),
        ) << 1)
            | (bit_cast::<4, 1>(
                (self.updating_valid.q.val() & (self.updating.q.val().part == self.closing.q.val().part))
                    .into(),
            ) << 2)
            | (bit_cast::<4, 1>(
                (self.updated_valid.q.val() & (self.part_updated.q.val() == self.closing.q.val().part))
                    .into(),
            ) << 3);
        self.clash.d.next = (self.clash.q.val() << 1);
        self.arrived.out.ready.next = self.take.val() & !self.closing_valid.q.val();
        self.closed.ready.next = self.all_cleared.q.val() & !self.closing_valid.q.val();
        if !self.closing_valid.q.val() {
            self.closing.d.next = self.closed.data.val();
            self.closing_valid.d.next = self.closed.valid.val() & self.all_cleared.q.val();
        } else if self.take.val() {
            self.closing_valid.d.next = false;
        }
        if self.take.val() {
            self.taken.d.next = self.from_returned.val();
            self.taken_valid.d.next = self.arrived.out.valid.val();
            self.clash.d.next = self.returned_clash.val();
            if self.closing_valid.q.val() {
                self.taken.d.next = self.from_closed.val();
                self.taken_valid.d.next = true;
                self.clash.d.next = self.closing_clash.val();
            }
        }

        // Read, update, write.
        self.taken_part.next = self.taken.q.val().part.into();
        self.written_part.next = self.part_written.q.val().into();
        self.records.read_address.next = (bit_cast::<16, 12>(self.taken_part.val().slot) << 3)
            | bit_cast::<16, 3>(self.taken_part.val().component);
        self.reading.d.next = self.taken.q.val();
        self.reading_valid.d.next = self.moving_valid.val();
        self.updating.d.next = self.reading.q.val();
        self.updating_valid.d.next = self.reading_valid.q.val();
        self.record_now.next = self.records.read_data.val();
        self.record_next.next = self.record_now.val();
        self.added.next = bit_cast::<17, 1>(self.updating.q.val().fragment);
        self.record_next.next.balance = self.record_now.val().balance + self.added.val();
        if (self.updating.q.val().last == self.flag.val()) {
            // The total is ordinal + fragment, so what was just counted cancels out.
            self.record_next.next.balance = self.record_now.val().balance - self.updating.q.val().ordinal;
            self.record_next.next.known = self.flag.val();
        }
        // Who has failed is told by its failures alone.
        self.fails_first.next = (self.updating.q.val().failed == self.flag.val())
            & ((self.record_now.val().failed == self.clear.val())
                | (self.updating.q.val().ordinal < self.record_now.val().ordinal));
        self.stops_first.next = (self.updating.q.val().stopped == self.flag.val())
            & (self.record_now.val().failed == self.clear.val())
            & ((self.record_now.val().stopped == self.clear.val())
                | (self.updating.q.val().ordinal < self.record_now.val().ordinal));
        if (self.updating.q.val().stopped == self.flag.val()) {
            self.record_next.next.stopped = self.flag.val();
            self.record_next.next.cause = self.record_now.val().cause | self.updating.q.val().cause;
        }
        if self.fails_first.val() | self.stops_first.val() {
            self.record_next.next.ordinal = self.updating.q.val().ordinal;
        }
        if self.fails_first.val() {
            self.record_next.next.failed = self.flag.val();
            self.record_next.next.status = self.updating.q.val().status;
            self.record_next.next.path = self.updating.q.val().path;
            self.record_next.next.closed = !self.updating.q.val().fragment;
            self.record_next.next.given_up = self.updating.q.val().given_up;
        }
        self.part_updated.d.next = self.updating.q.val().part;
        self.updated.d.next = self.record_next.val();
        self.updated_valid.d.next = self.updating_valid.q.val();
        self.part_written.d.next = self.part_updated.q.val();
        self.written.d.next = self.updated.q.val();
        self.written_valid.d.next = self.updated_valid.q.val();
        self.part_ends.d.next = self.updated_valid.q.val()
            & (self.updated.q.val().known == self.flag.val())
            & (self.updated.q.val().balance == self.zero17.val());

        self.records.write.next = self.written_valid.q.val();
        self.records.write_address.next = (bit_cast::<16, 12>(self.written_part.val().slot) << 3)
            | bit_cast::<16, 3>(self.written_part.val().component);
        self.records.write_data.next = self.written.q.val();
        self.clear_record.next = self.part_ends.q.val() | !self.all_cleared.q.val();
        if self.clear_record.val() {
            self.records.write_data.next = self.no_record.val().into();
        }
        if !self.all_cleared.q.val() {
            self.records.write.next = true;
            self.records.write_address.next = self.cleared.q.val();
            self.cleared.d.next = self.cleared.q.val() + self.one16.val();
            self.all_cleared.d.next = (self.cleared.q.val() == self.parts.val());
        }

        self.alone_ends.d.next = self.taken_valid.q.val() & self.alone.val() & self.advance.val();
        self.alone_done.d.next.part = self.taken.q.val().part;
        self.alone_done.d.next.status = self.taken.q.val().status;
        self.alone_done.d.next.closed = !self.taken.q.val().fragment & !self.taken.q.val().stopped;
        self.alone_done.d.next.path = self.taken.q.val().path;
        self.alone_done.d.next.ordinal = self.taken.q.val().ordinal;
        self.alone_done.d.next.failed = self.taken.q.val().failed;
        self.alone_done.d.next.stopped = self.taken.q.val().stopped;
        self.alone_done.d.next.cause = self.taken.q.val().cause;
        self.alone_done.d.next.given_up = self.taken.q.val().given_up;
        self.ended_alone.push.next = self.alone_ends.q.val();
        self.ended_alone.data.next = self.alone_done.q.val();
        self.ended.push.next = self.part_ends.q.val();
        // Of a part without failure all of this is 0.
        self.ended.data.next.part = self.part_written.q.val();
        self.ended.data.next.status = self.written.q.val().status;
        self.ended.data.next.closed = self.written.q.val().closed;
        self.ended.data.next.path = self.written.q.val().path;
        self.ended.data.next.ordinal = self.written.q.val().ordinal;
        self.ended.data.next.failed = self.written.q.val().failed;
        self.ended.data.next.stopped = self.written.q.val().stopped;
        self.ended.data.next.cause = self.written.q.val().cause;
        self.ended.data.next.given_up = self.written.q.val().given_up;

        // Each FIFO's first part goes where it belongs.
        self.first.next = self.ended.out.data.val();
        self.first_part.next = self.first.val().part.into();
        self.first_good.next = self.ended.out.valid.val() & (self.first.val().failed == self.clear.val());
        self.first_single.next = self.first_good.val() & (self.first_part.val().single == self.flag.val());
        self.first_other.next = self.first_good.val() & (self.first_part.val().single == self.clear.val());
        self.first_failed.next = self.ended.out.valid.val() & (self.first.val().failed == self.flag.val());
        self.second.next = self.ended_alone.out.data.val();
        self.second_part.next = self.second.val().part.into();
        self.second_good.next =
            self.ended_alone.out.valid.val() & (self.second.val().failed == self.clear.val());
        self.second_single.next = self.second_good.val() & (self.second_part.val().single == self.flag.val());
        self.second_other.next = self.second_good.val() & (self.second_part.val().single == self.clear.val());
        self.second_failed.next =
            self.ended_alone.out.valid.val() & (self.second.val().failed == self.flag.val());
        self.done_out.inlet.valid.next = self.first_single.val() | self.second_single.val();
        self.done_out.inlet.data.next.slot = self.second_part.val().slot;
        self.done_out.inlet.data.next.status = self.success.val();
        if self.first_single.val() {
            self.done_out.inlet.data.next.slot = self.first_part.val().slot;
        }
        self.part_out.inlet.valid.next = self.first_other.val() | self.second_other.val();
        self.part_out.inlet.data.next = self.second.val();
        if self.first_other.val() {
            self.part_out.inlet.data.next = self.first.val();
        }
        self.failed.valid.next = self.first_failed.val() | self.second_failed.val();
        self.failed.data.next = self.second.val();
        if self.first_failed.val() {
            self.failed.data.next = self.first.val();
        }
        self.ended.out.ready.next = (self.first_single.val() & self.done_out.inlet.ready.val())
            | (self.first_other.val() & self.part_out.inlet.ready.val())
            | (self.first_failed.val() & self.failed.ready.val());
        self.ended_alone.out.ready.next =
            (self.second_single.val() & self.done_out.inlet.ready.val() & !self.first_single.val())
                | (self.second_other.val() & self.part_out.inlet.ready.val() & !self.first_other.val())
                | (self.second_failed.val() & self.failed.ready.val() & !self.first_failed.val());
        self.initialised.next = self.all_cleared.q.val();
        self.flowing.d.next = self.taken_valid.q.val()
            | self.reading_valid.q.val()
            | self.updating_valid.q.val()
            | self.updated_valid.q.val();
        self.quiet.next = self.ended.empty.val()
            & self.ended_alone.empty.val()
            & self.arrived.idle.val()
            & self.done_out.idle.val()
            & self.part_out.idle.val();
        self.idle.next = self.all_cleared.q.val()
            & self.quiet.val()
            & !self.closing_valid.q.val()
            & !self.taken_valid.q.val()
            & !self.flowing.q.val();

        if self.reset.val() {
            self.closing_valid.d.next = false;
            self.taken_valid.d.next = false;
            self.reading_valid.d.next = false;
            self.updating_valid.d.next = false;
            self.updated_valid.d.next = false;
            self.written_valid.d.next = false;
            self.part_ends.d.next = false;
            self.alone_ends.d.next = false;
            self.room.d.next = false;
            self.flowing.d.next = false;
            self.all_cleared.d.next = false;
            self.cleared.d.next = self.zero16.val();
        }
    }
}

#[cfg(test)]
mod tests;
