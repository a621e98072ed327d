//! What the plan slots hold, for the control path: the table `PLAN_STATE`, read only.
//!
//! `begun` tells of a plan as it begins, `noted` of what the judge keeps of it. A slot is live while the plan
//! that began there last is not the one that ended there last. The table acknowledges 4 cycles after the
//! request. Reset: until `initialised`, slots that are noted hold nothing; the judge of plans notes each of
//! them once then.

use rust_hdl::prelude::*;
use volplane_abi::table;

use super::plan_judge::PlanProgress;
use crate::logic_record;
use crate::prim::ram::BlockRam;
use crate::records::{PlanBegun, PlanState, TableRequest};
use crate::sizes::Sizes;

logic_record! {
    /// Which plan began in a slot.
    ListedPlan: 40 {
        /// Virtual disk.
        disk = 16,
        /// Number of its admission.
        sequence = 24,
    }
}

logic_record! {
    /// What has become of it.
    ListedProgress: 35 {
        /// Times it changed hands.
        hands = 8,
        /// The control path's.
        owned = 1,
        /// Waits to be released.
        held = 1,
        /// Issues nothing more.
        stopped = 1,
        /// Number of the plan that ended here last.
        ended = 24,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PlanList {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub initialised: Signal<In, bool>,
    pub begun_valid: Signal<In, bool>,
    pub begun_slot: Signal<In, Bits<12>>,
    pub begun: Signal<In, PlanBegun>,
    pub noted_valid: Signal<In, bool>,
    pub noted_slot: Signal<In, Bits<12>>,
    pub noted: Signal<In, PlanProgress>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,

    plans: BlockRam<ListedPlan>,
    progress: BlockRam<ListedProgress>,
    // A request's cycles: it is there, it is one of this table's, the entry stands.
    asked: DFF<bool>,
    slot: DFF<Bits<16>>,
    here: DFF<bool>,
    reading: DFF<bool>,
    shown: DFF<PlanState>,
    acknowledge: DFF<bool>,
    plan: Signal<Local, ListedPlan>,
    state: Signal<Local, ListedProgress>,
    shown_bits: Signal<Local, Bits<64>>,
    beyond: Signal<Local, Bits<32>>,
    number: Constant<Bits<16>>,
    /// The bits of an index that no slot has.
    beyond_mask: Constant<Bits<32>>,
    nothing: Constant<PlanState>,
    no_disk: Constant<Bits<16>>,
    zero256: Constant<Bits<256>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl PlanList {
    /// Of 2^`slot_bits` slots.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((2..=12).contains(&sizes.slot_bits), "2^{} plan slots", sizes.slot_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            initialised: Default::default(),
            begun_valid: Default::default(),
            begun_slot: Default::default(),
            begun: Default::default(),
            noted_valid: Default::default(),
            noted_slot: Default::default(),
            noted: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            plans: BlockRam::new(sizes.slot_bits),
            progress: BlockRam::new(sizes.slot_bits),
            asked: Default::default(),
            slot: Default::default(),
            here: Default::default(),
            reading: Default::default(),
            shown: Default::default(),
            acknowledge: Default::default(),
            plan: Default::default(),
            state: Default::default(),
            shown_bits: Default::default(),
            beyond: Default::default(),
            number: Constant::new(u64::from(table::PLAN_STATE).to_bits()),
            beyond_mask: Constant::new((u64::from(u32::MAX) & !((1u64 << sizes.slot_bits) - 1)).to_bits()),
            nothing: Constant::new(PlanState::default()),
            no_disk: Constant::new(0u64.to_bits()),
            zero256: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for PlanList {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, asked, slot, here, reading, shown, acknowledge);
        clock!(self, clock, plans, progress);
        self.plans.write.next = self.begun_valid.val();
        self.plans.write_address.next = bit_cast::<16, 12>(self.begun_slot.val());
        self.plans.write_data.next.disk = self.begun.val().disk;
        self.plans.write_data.next.sequence = self.begun.val().sequence;
        if !self.initialised.val() {
            self.plans.write.next = self.noted_valid.val();
            self.plans.write_address.next = bit_cast::<16, 12>(self.noted_slot.val());
            self.plans.write_data.next.disk = self.no_disk.val();
            self.plans.write_data.next.sequence = self.noted.val().ended;
        }
        self.plans.read_address.next = self.slot.q.val();
        self.progress.write.next = self.noted_valid.val();
        self.progress.write_address.next = bit_cast::<16, 12>(self.noted_slot.val());
        self.progress.write_data.next.hands = self.noted.val().hands;
        self.progress.write_data.next.owned = self.noted.val().owned;
        self.progress.write_data.next.held = self.noted.val().held;
        self.progress.write_data.next.stopped = self.noted.val().halted;
        self.progress.write_data.next.ended = self.noted.val().ended;
        self.progress.read_address.next = self.slot.q.val();

        self.beyond.next = self.table_request.val().index & self.beyond_mask.val();
        self.asked.d.next = self.table_valid.val()
            & (self.table_request.val().write == self.clear.val())
            & (self.table_request.val().table == self.number.val())
            & !self.beyond.val().any();
        self.slot.d.next = bit_cast::<16, 32>(self.table_request.val().index);
        self.here.d.next = self.asked.q.val();
        self.reading.d.next = self.here.q.val();
        self.acknowledge.d.next = self.reading.q.val();

        self.plan.next = self.plans.read_data.val();
        self.state.next = self.progress.read_data.val();
        self.shown.d.next = self.nothing.val();
        if self.reading.q.val() & (self.plan.val().sequence != self.state.val().ended) {
            self.shown.d.next.generation = bit_cast::<32, 8>(self.state.val().hands)
                | (bit_cast::<32, 24>(self.plan.val().sequence) << 8);
            self.shown.d.next.disk = self.plan.val().disk;
            self.shown.d.next.live = self.flag.val();
            self.shown.d.next.owned = self.state.val().owned;
            self.shown.d.next.held = self.state.val().held;
            self.shown.d.next.stopped = self.state.val().stopped;
        }
        self.shown_bits.next = self.shown.q.val().into();
        self.table_ack.next = self.acknowledge.q.val();
        self.table_data.next = self.zero256.val();
        if self.acknowledge.q.val() {
            self.table_data.next = bit_cast::<256, 64>(self.shown_bits.val());
        }

        if self.reset.val() {
            self.asked.d.next = false;
            self.here.d.next = false;
            self.reading.d.next = false;
            self.acknowledge.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    const SLOTS: usize = 8;

    /// The entry of `index`, if it is acknowledged.
    fn read(bench: &mut Bench, write: bool, index: u64) -> Option<PlanState> {
        let request = TableRequest {
            write: u64::from(write).to_bits(),
            table: u64::from(table::PLAN_STATE).to_bits(),
            index: index.to_bits(),
            data: Default::default(),
        };
        bench.set_record::<305>("table_request", request);
        bench.set("table_valid", 1);
        let mut answer = None;
        for cycle in 0..12 {
            bench.eval();
            let data: Bits<256> = bench.get_record("table_data");
            if bench.get("table_ack") == 1 {
                assert_eq!(cycle, 4);
                answer = Some(data.get_bits::<64>(0).into());
            } else {
                assert!(data == Bits::default(), "data without acknowledgement");
            }
            bench.cycle();
            bench.set("table_valid", 0);
        }
        answer
    }

    #[test]
    fn shows_what_is_live() {
        let sizes = Sizes { slot_bits: 3, ..Sizes::DEFAULT };
        let mut bench = Bench::new("plan_list", PlanList::new(&sizes));
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        // What was there before a reset is there no more.
        bench.set("begun_valid", 1);
        bench.set_record::<168>("begun", PlanBegun { sequence: 7u64.to_bits(), ..Default::default() });
        bench.cycle();
        bench.set("begun_valid", 0);
        bench.set("noted_valid", 1);
        for slot in 0..SLOTS {
            bench.set("noted_slot", slot as u128);
            bench.cycle();
        }
        bench.set("noted_valid", 0);
        bench.set("initialised", 1);
        for slot in 0..SLOTS as u64 {
            assert_eq!(read(&mut bench, false, slot), Some(PlanState::default()));
        }
        let mut slots = [(PlanBegun::default(), PlanProgress::default()); SLOTS];
        let (mut live, mut over) = (0, 0);
        for round in 0..1_000 {
            let slot = random.random_range(0..SLOTS);
            let number = if random.random_bool(0.7) { slots[slot].0.sequence.to_u64() } else { round };
            if random.random_bool(0.5) || round < 100 {
                let begun = PlanBegun {
                    disk: random.random_range(0..1u64 << 16).to_bits(),
                    sequence: number.to_bits(),
                    ..Default::default()
                };
                slots[slot].0 = begun;
                bench.set("begun_slot", slot as u128);
                bench.set_record::<168>("begun", begun);
                bench.set("begun_valid", 1);
            }
            if random.random_bool(0.5) || round < 100 {
                let mut bits = |width: u32| random.random::<u64>() >> (64 - width);
                let noted = PlanProgress {
                    hands: bits(8).to_bits(),
                    owned: bits(1).to_bits(),
                    held: bits(1).to_bits(),
                    halted: bits(1).to_bits(),
                    ended: (if bits(1) == 1 { number } else { bits(24) }).to_bits(),
                    ..Default::default()
                };
                slots[slot].1 = noted;
                bench.set("noted_slot", slot as u128);
                bench.set_record::<105>("noted", noted);
                bench.set("noted_valid", 1);
            }
            bench.cycle();
            bench.set("begun_valid", 0);
            bench.set("noted_valid", 0);
            if round < 100 {
                continue;
            }
            let index = random.random_range(0..SLOTS as u64 + 1);
            let write = random.random_bool(0.1);
            let shown = read(&mut bench, write, index);
            let Some((begun, noted)) = slots.get(index as usize).filter(|_| !write) else {
                assert_eq!(shown, None);
                continue;
            };
            let expected = PlanState {
                generation: (begun.sequence.to_u64() << 8 | noted.hands.to_u64()).to_bits(),
                disk: begun.disk,
                live: 1u64.to_bits(),
                owned: noted.owned,
                held: noted.held,
                stopped: noted.halted,
                ..Default::default()
            };
            let is_live = begun.sequence != noted.ended;
            live += u64::from(is_live);
            over += u64::from(!is_live);
            assert_eq!(shown, Some(if is_live { expected } else { PlanState::default() }));
        }
        assert!(live > 100 && over > 100, "{live} {over}");
    }
}
