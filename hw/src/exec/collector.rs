//! Counts a plan's fragments back in and ends it when all of them are.
//!
//! `returned` brings fragments in any order, `closed` plans that end without a last fragment;
//! `done` gives each plan's end once. A plan's total is known from its fragment marked last or from
//! `closed`. Its status is that of the failed fragment with the lowest ordinal, without the More and
//! CRD bits; a status of `closed` stands behind every fragment issued and gets Do Not Retry.
//!
//! Latency: 4 cycles for a plan of one fragment, 7 for the last of several; one less from `closed`.
//! Throughput: one fragment a cycle of different plans, one every 5 cycles of the same plan. Ordering:
//! none between plans. Reset clears every slot's record, one a cycle; `initialised` says when that is
//! done, and nothing is taken before.

use rust_hdl::prelude::*;
use volplane_abi::status;

use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::ram::BlockRam;
use crate::prim::slice::Slice;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{PlanClosed, PlanDone, Returned};
use crate::sizes::Sizes;

logic_record! {
    /// What happened to a plan: a fragment came back, or the plan was closed.
    PlanEvent: 63 {
        /// Plan slot.
        slot = 12,
        /// 1: a fragment came back.
        fragment = 1,
        /// 1: the total is known to be `ordinal` plus `fragment`.
        last = 1,
        /// 1: `status` is a failure.
        failed = 1,
        /// Number of the fragment; of a closed plan, fragments issued.
        ordinal = 17,
        /// Status field.
        status = 15,
        /// 1: nothing else happens to this plan.
        alone = 1,
        /// Reserved.
        reserved = 15,
    }
}

logic_record! {
    /// A plan under way; all zero while its slot is free.
    PlanRecord: 51 {
        /// Fragments come back less, once it is known, the total; modulo 2^17.
        balance = 17,
        /// 1: the total is known.
        known = 1,
        /// 1: a fragment failed.
        failed = 1,
        /// The lowest failed ordinal.
        ordinal = 17,
        /// Its status.
        status = 15,
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
    pub idle: Signal<Out, bool>,

    arrived: Slice<Returned>,
    records: BlockRam<PlanRecord>,
    /// Plans that ended with their one event, and those that ended by their record.
    ended_alone: Fifo<PlanDone>,
    ended: Fifo<PlanDone>,
    /// A closed plan that waits for a cycle without a fragment.
    closing: DFF<PlanClosed>,
    closing_valid: DFF<bool>,
    /// Taken; from here the RAM is addressed.
    taken: DFF<PlanEvent>,
    taken_valid: DFF<bool>,
    /// The RAM reads.
    reading: DFF<PlanEvent>,
    reading_valid: DFF<bool>,
    /// The record is there.
    updating: DFF<PlanEvent>,
    updating_valid: DFF<bool>,
    /// The new record stands; does the plan end?
    slot_updated: DFF<Bits<12>>,
    updated: DFF<PlanRecord>,
    updated_valid: DFF<bool>,
    /// It is written, or cleared at the plan's end.
    slot_written: DFF<Bits<12>>,
    written: DFF<PlanRecord>,
    written_valid: DFF<bool>,
    plan_ends: DFF<bool>,
    /// A plan ends with its one event.
    alone_ends: DFF<bool>,
    alone_done: DFF<PlanDone>,
    /// Both FIFOs have room for all that is under way.
    room: DFF<bool>,
    /// An event of the same plan as the taken one is at each of the four stages.
    clash: DFF<Bits<4>>,
    /// Anything was at the stages a cycle ago.
    flowing: DFF<bool>,
    cleared: DFF<Bits<13>>,
    all_cleared: DFF<bool>,

    from_returned: Signal<Local, PlanEvent>,
    from_closed: Signal<Local, PlanEvent>,
    returned_status: Signal<Local, Bits<15>>,
    record_now: Signal<Local, PlanRecord>,
    record_next: Signal<Local, PlanRecord>,
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
    kept_bits: Constant<Bits<15>>,
    do_not_retry: Constant<Bits<15>>,
    success: Constant<Bits<15>>,
    closed_success: Constant<Bits<11>>,
    no_record: Constant<Bits<51>>,
    slots: Constant<Bits<13>>,
    one13: Constant<Bits<13>>,
    zero13: Constant<Bits<13>>,
    zero17: Constant<Bits<17>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
    padding: Constant<Bits<15>>,
}

impl Collector {
    /// A record for each of 2^`slot_bits` slots.
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
            idle: Default::default(),
            arrived: Default::default(),
            records: BlockRam::new(sizes.slot_bits),
            ended_alone: Fifo::quick(3, 4),
            ended: Fifo::quick(4, 7),
            closing: Default::default(),
            closing_valid: Default::default(),
            taken: Default::default(),
            taken_valid: Default::default(),
            reading: Default::default(),
            reading_valid: Default::default(),
            updating: Default::default(),
            updating_valid: Default::default(),
            slot_updated: Default::default(),
            updated: Default::default(),
            updated_valid: Default::default(),
            slot_written: Default::default(),
            written: Default::default(),
            written_valid: Default::default(),
            plan_ends: Default::default(),
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
            kept_bits: Constant::new(kept.to_bits()),
            do_not_retry: Constant::new((status::DNR as u64).to_bits()),
            success: Constant::new((status::SUCCESS as u64).to_bits()),
            closed_success: Constant::new((status::SUCCESS as u64).to_bits()),
            no_record: Constant::new(0u64.to_bits()),
            slots: Constant::new((1u64 << sizes.slot_bits).to_bits()),
            one13: Constant::new(1u64.to_bits()),
            zero13: Constant::new(0u64.to_bits()),
            zero17: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
            padding: Constant::new(0u64.to_bits()),
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
            slot_updated,
            updated,
            updated_valid,
            slot_written,
            written,
            written_valid,
            plan_ends,
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
        self.arriving.next = self.arrived.out.data.val();

        // Both sources as events.
        self.returned_status.next = self.arriving.val().status & self.kept_bits.val();
        self.from_returned.next.slot = self.arriving.val().slot;
        self.from_returned.next.fragment = self.flag.val();
        self.from_returned.next.last = self.arriving.val().last;
        self.from_returned.next.failed = (self.returned_status.val() != self.success.val()).into();
        self.from_returned.next.ordinal = self.arriving.val().ordinal;
        self.from_returned.next.status = self.returned_status.val();
        self.from_returned.next.alone = ((self.arriving.val().ordinal == self.zero17.val())
            & (self.arriving.val().last == self.flag.val()))
        .into();
        self.from_returned.next.reserved = self.padding.val();
        self.from_closed.next.slot = self.closing.q.val().slot;
        self.from_closed.next.fragment = self.clear.val();
        self.from_closed.next.last = self.flag.val();
        self.from_closed.next.failed = self.clear.val();
        self.from_closed.next.ordinal = self.closing.q.val().issued;
        self.from_closed.next.status = self.success.val();
        if (self.closing.q.val().status != self.closed_success.val()) {
            self.from_closed.next.failed = self.flag.val();
            self.from_closed.next.status =
                (bit_cast::<15, 11>(self.closing.q.val().status) | self.do_not_retry.val());
        }
        self.from_closed.next.alone = (self.closing.q.val().issued == self.zero17.val()).into();
        self.from_closed.next.reserved = self.padding.val();

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
            (self.moves_on.val() & (self.taken.q.val().slot == self.arriving.val().slot)).into(),
        ) | (bit_cast::<4, 1>(
            (self.reading_valid.q.val() & (self.reading.q.val().slot == self.arriving.val().slot)).into(),
        ) << 1)
            | (bit_cast::<4, 1>(
                (self.updating_valid.q.val() & (self.updating.q.val().slot == self.arriving.val().slot))
                    .into(),
            ) << 2)
            | (bit_cast::<4, 1>(
                (self.updated_valid.q.val() & (self.slot_updated.q.val() == self.arriving.val().slot)).into(),
            ) << 3);
        self.closing_clash.next = bit_cast::<4, 1>(
            (self.moves_on.val() & (self.taken.q.val().slot == self.closing.q.val().slot)).into(),
        ) | (bit_cast::<4, 1>(
            (self.reading_valid.q.val() & (self.reading.q.val().slot == self.closing.q.val().slot)).into(),
        ) << 1)
            | (bit_cast::<4, 1>(
                (self.updating_valid.q.val() & (self.updating.q.val().slot == self.closing.q.val().slot))
                    .into(),
            ) << 2)
            | (bit_cast::<4, 1>(
                (self.updated_valid.q.val() & (self.slot_updated.q.val() == self.closing.q.val().slot))
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
        self.records.read_address.next = bit_cast::<16, 12>(self.taken.q.val().slot);
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
        if (self.updating.q.val().failed == self.flag.val())
            & ((self.record_now.val().failed == self.clear.val())
                | (self.updating.q.val().ordinal < self.record_now.val().ordinal))
        {
            self.record_next.next.failed = self.flag.val();
            self.record_next.next.ordinal = self.updating.q.val().ordinal;
            self.record_next.next.status = self.updating.q.val().status;
        }
        self.slot_updated.d.next = self.updating.q.val().slot;
        self.updated.d.next = self.record_next.val();
        self.updated_valid.d.next = self.updating_valid.q.val();
        self.slot_written.d.next = self.slot_updated.q.val();
        self.written.d.next = self.updated.q.val();
        self.written_valid.d.next = self.updated_valid.q.val();
        self.plan_ends.d.next = self.updated_valid.q.val()
            & (self.updated.q.val().known == self.flag.val())
            & (self.updated.q.val().balance == self.zero17.val());

        self.records.write.next = self.written_valid.q.val();
        self.records.write_address.next = bit_cast::<16, 12>(self.slot_written.q.val());
        self.records.write_data.next = self.written.q.val();
        self.clear_record.next = self.plan_ends.q.val() | !self.all_cleared.q.val();
        if self.clear_record.val() {
            self.records.write_data.next = self.no_record.val().into();
        }
        if !self.all_cleared.q.val() {
            self.records.write.next = true;
            self.records.write_address.next = bit_cast::<16, 13>(self.cleared.q.val());
            self.cleared.d.next = self.cleared.q.val() + self.one13.val();
            self.all_cleared.d.next = (self.cleared.q.val() == self.slots.val());
        }

        self.alone_ends.d.next = self.taken_valid.q.val() & self.alone.val() & self.advance.val();
        self.alone_done.d.next.slot = self.taken.q.val().slot;
        self.alone_done.d.next.status = self.taken.q.val().status;
        self.ended_alone.push.next = self.alone_ends.q.val();
        self.ended_alone.data.next = self.alone_done.q.val();
        self.ended.push.next = self.plan_ends.q.val();
        self.ended.data.next.slot = self.slot_written.q.val();
        self.ended.data.next.status = self.success.val();
        if (self.written.q.val().failed == self.flag.val()) {
            self.ended.data.next.status = self.written.q.val().status;
        }
        self.done.valid.next = self.ended.out.valid.val() | self.ended_alone.out.valid.val();
        self.done.data.next = self.ended_alone.out.data.val();
        if self.ended.out.valid.val() {
            self.done.data.next = self.ended.out.data.val();
        }
        self.ended.out.ready.next = self.done.ready.val();
        self.ended_alone.out.ready.next = self.done.ready.val() & !self.ended.out.valid.val();
        self.initialised.next = self.all_cleared.q.val();
        self.flowing.d.next = self.taken_valid.q.val()
            | self.reading_valid.q.val()
            | self.updating_valid.q.val()
            | self.updated_valid.q.val();
        self.quiet.next = self.ended.empty.val() & self.ended_alone.empty.val() & self.arrived.idle.val();
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
            self.plan_ends.d.next = false;
            self.alone_ends.d.next = false;
            self.room.d.next = false;
            self.flowing.d.next = false;
            self.all_cleared.d.next = false;
            self.cleared.d.next = self.zero13.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use crate::host::record_words::{bits, words};
    use rand::RngExt;
    use std::collections::VecDeque;

    fn bench(slot_bits: usize) -> Bench {
        let sizes = Sizes { slot_bits, ..Sizes::DEFAULT };
        let mut bench = Bench::new(&format!("collector_{slot_bits}"), Collector::new(&sizes));
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        for _ in 0..(1 << slot_bits) + 4 {
            assert_eq!(bench.get("returned$ready") & !bench.get("initialised"), 0);
            bench.cycle();
        }
        assert_eq!((bench.get("initialised"), bench.get("idle")), (1, 1));
        bench
    }

    fn returned(slot: u64, ordinal: u64, last: bool, status: u64) -> Vec<u32> {
        words::<85>(Returned {
            path: 0x5Au64.into(),
            sq_head: 0x1234u64.into(),
            command_id: 0xFFFFu64.into(),
            slot: slot.into(),
            ordinal: ordinal.into(),
            last: last.into(),
            status: status.into(),
        })
    }

    fn closed(slot: u64, issued: u64, status: u64) -> Vec<u32> {
        words::<40>(PlanClosed { slot: slot.into(), issued: issued.into(), status: status.into() })
    }

    /// Hands over one item and gives the cycles until `done`, with its slot and status.
    fn hand_over(bench: &mut Bench, port: &str, data: &[u32]) -> Option<(u64, u64, u64)> {
        bench.set(&format!("{port}$valid"), 1);
        bench.set_wide(&format!("{port}$data"), data);
        bench.eval();
        assert_eq!(bench.get(&format!("{port}$ready")), 1);
        let begun = bench.cycles;
        bench.cycle();
        bench.set(&format!("{port}$valid"), 0);
        bench.set("done$ready", 1);
        for _ in 0..12 {
            if bench.get("done$valid") == 1 {
                let done: PlanDone = bits::<27>(&bench.get_wide("done$data")).into();
                let latency = bench.cycles - begun;
                bench.cycle();
                return Some((latency, done.slot.to_u64(), done.status.to_u64()));
            }
            bench.cycle();
        }
        None
    }

    #[test]
    fn ends_plans_with_the_lowest_failure() {
        let mut bench = bench(3);
        // One fragment: the shortcut. Only More and CRD are cleared.
        assert_eq!(hand_over(&mut bench, "returned", &returned(3, 0, true, 0)), Some((4, 3, 0)));
        assert_eq!(hand_over(&mut bench, "returned", &returned(3, 0, true, 0x7FFF)), Some((4, 3, 0x47FF)));
        // Three, the last first, two of them failed.
        assert_eq!(hand_over(&mut bench, "returned", &returned(5, 2, true, 0x281)), None);
        assert_eq!(hand_over(&mut bench, "returned", &returned(5, 1, false, 0x4004)), None);
        assert_eq!(hand_over(&mut bench, "returned", &returned(5, 0, false, 0)), Some((7, 5, 0x4004)));
        // Closed before and after its fragment.
        assert_eq!(hand_over(&mut bench, "closed", &closed(5, 0, 0)), Some((4, 5, 0)));
        assert_eq!(hand_over(&mut bench, "closed", &closed(5, 0, 0x80)), Some((4, 5, 0x4080)));
        assert_eq!(hand_over(&mut bench, "closed", &closed(1, 1, 6)), None);
        assert_eq!(hand_over(&mut bench, "returned", &returned(1, 0, false, 0)), Some((7, 1, 0x4006)));
        assert_eq!(hand_over(&mut bench, "returned", &returned(1, 0, false, 0x286)), None);
        assert_eq!(hand_over(&mut bench, "closed", &closed(1, 1, 6)), Some((7, 1, 0x286)));
        // The most fragments there are.
        assert_eq!(hand_over(&mut bench, "returned", &returned(2, 65_535, true, 0)), None);
        bench.set("done$ready", 0);
        bench.set("returned$valid", 1);
        for ordinal in 0..65_535 {
            bench.set_wide("returned$data", &returned(2, ordinal, false, 0));
            bench.eval();
            while bench.get("returned$ready") == 0 {
                bench.cycle();
            }
            assert_eq!(bench.get("done$valid"), 0);
            bench.cycle();
        }
        bench.set("returned$valid", 0);
        // Four of them are still inside.
        for _ in 0..4 * 5 + 7 {
            bench.cycle();
        }
        assert_eq!((bench.get("done$valid"), bench.get("done$data")), (1, 2));
    }

    /// What is to happen to the bench, and what must come of it.
    struct Model {
        /// Slots whose plan has not ended, with its status.
        expected: Vec<Option<u64>>,
        returned: Vec<Vec<u32>>,
        closed: VecDeque<Vec<u32>>,
    }

    impl Model {
        fn begin_plan(&mut self, slot: usize, random: &mut impl rand::Rng) {
            let fragments = [0, 1, 1, 1, 2, 3, 9][random.random_range(0..7)];
            let refusal = if random.random_bool(0.2) { 0x80 } else { 0 };
            let is_closed = fragments == 0 || random.random_bool(0.3);
            let mut status = if is_closed && refusal != 0 { 0x4000 | refusal } else { 0 };
            for ordinal in (0..fragments).rev() {
                let failure = if random.random_bool(0.3) { random.random_range(0..0x8000u64) } else { 0 };
                let last = !is_closed && ordinal == fragments - 1;
                self.returned.push(returned(slot as u64, ordinal, last, failure));
                if failure & 0x47FF != 0 {
                    status = failure & 0x47FF;
                }
            }
            if is_closed {
                self.closed.push_back(closed(slot as u64, fragments, refusal));
            }
            self.expected[slot] = Some(status);
        }
    }

    fn runs_at_random(slot_bits: usize) {
        let mut bench = bench(slot_bits);
        let mut random = seeded();
        let mut model =
            Model { expected: vec![None; 1 << slot_bits], returned: Vec::new(), closed: VecDeque::new() };
        let mut ended = 0;
        let mut offered: Option<Vec<u32>> = None;
        for cycle in 0..30_000u64 {
            let draining = cycle > 29_000;
            let slot = random.random_range(0..model.expected.len());
            if model.expected[slot].is_none() && !draining {
                model.begin_plan(slot, &mut random);
            }
            if offered.is_none() && !model.returned.is_empty() && random.random_bool(0.8) {
                offered = Some(model.returned.swap_remove(random.random_range(0..model.returned.len())));
            }
            bench.set("returned$valid", offered.is_some().into());
            bench.set_wide("returned$data", offered.as_deref().unwrap_or(&[]));
            bench.set("closed$valid", (!model.closed.is_empty()).into());
            bench.set_wide("closed$data", model.closed.front().map_or(&[], |data| data));
            let ready = random.random_bool(if (cycle / 300) % 3 == 0 { 0.1 } else { 0.9 });
            bench.set("done$ready", ready.into());
            bench.eval();
            if bench.get("returned$ready") == 1 {
                offered = None;
            }
            if bench.get("closed$ready") == 1 {
                model.closed.pop_front();
            }
            if ready && bench.get("done$valid") == 1 {
                let done: PlanDone = bits::<27>(&bench.get_wide("done$data")).into();
                let expected = model.expected[done.slot.index()].take();
                assert_eq!(Some(done.status.to_u64()), expected, "slot {:?}", done.slot);
                ended += 1;
            }
            assert!(!(bench.get("idle") == 1 && bench.get("done$valid") == 1));
            bench.cycle();
        }
        assert!(model.expected.iter().all(Option::is_none), "a plan did not end");
        assert_eq!(bench.get("idle"), 1);
        assert!(ended > 1_000, "{ended} ended");
    }

    #[test]
    fn agrees_with_a_model_at_random() {
        runs_at_random(2);
        runs_at_random(6);
    }
}
