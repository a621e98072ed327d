//! Plan slots: which are free, and whose command each of the others holds.
//!
//! Admission takes a slot from `allocate` and names its owner (`owner_valid`, `owner_slot`, `owner`)
//! at least one cycle before the plan can end; the completion side asks `query` and reads
//! `query_owner` two cycles later, then gives the slot back with `release_valid`.
//!
//! Latency: a released slot is offered again after 4 cycles at the earliest, in order of release.
//! Throughput: one allocation, one query and one release a cycle. Reset frees every slot, one a cycle;
//! `initialised` says when that is done, and nothing is released before. A slot released twice would be
//! given twice: whoever releases has taken it from a plan that ended once.

use rust_hdl::prelude::*;

use crate::prim::fifo::Fifo;
use crate::prim::ram::BlockRam;
use crate::prim::stream::StreamOut;
use crate::records::SlotOwner;
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PlanSlots {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub initialised: Signal<Out, bool>,
    pub allocate: StreamOut<Bits<12>>,
    pub owner_valid: Signal<In, bool>,
    pub owner_slot: Signal<In, Bits<12>>,
    pub owner: Signal<In, SlotOwner>,
    pub query: Signal<In, Bits<12>>,
    pub query_owner: Signal<Out, SlotOwner>,
    pub release_valid: Signal<In, bool>,
    pub release_slot: Signal<In, Bits<12>>,
    pub idle: Signal<Out, bool>,

    free: Fifo<Bits<12>>,
    owners: BlockRam<SlotOwner>,
    /// Slots freed since reset, until all are.
    filled: DFF<Bits<13>>,
    full: DFF<bool>,
    push: DFF<bool>,
    pushed: DFF<Bits<12>>,
    slots: Constant<Bits<13>>,
    one: Constant<Bits<13>>,
    zero: Constant<Bits<13>>,
}

impl PlanSlots {
    /// 2^`slot_bits` slots.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((2..=12).contains(&sizes.slot_bits), "2^{} plan slots", sizes.slot_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            initialised: Default::default(),
            allocate: Default::default(),
            owner_valid: Default::default(),
            owner_slot: Default::default(),
            owner: Default::default(),
            query: Default::default(),
            query_owner: Default::default(),
            release_valid: Default::default(),
            release_slot: Default::default(),
            idle: Default::default(),
            free: Fifo::block(sizes.slot_bits, 1),
            owners: BlockRam::new(sizes.slot_bits),
            filled: Default::default(),
            full: Default::default(),
            push: Default::default(),
            pushed: Default::default(),
            slots: Constant::new((1u64 << sizes.slot_bits).to_bits()),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for PlanSlots {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, filled, full, push, pushed);
        self.free.clock.next = self.clock.val();
        self.free.reset.next = self.reset.val();
        self.free.push.next = self.push.q.val();
        self.free.data.next = self.pushed.q.val();
        self.allocate.valid.next = self.free.out.valid.val();
        self.allocate.data.next = self.free.out.data.val();
        self.free.out.ready.next = self.allocate.ready.val();

        self.owners.clock.next = self.clock.val();
        self.owners.write.next = self.owner_valid.val();
        self.owners.write_address.next = bit_cast::<16, 12>(self.owner_slot.val());
        self.owners.write_data.next = self.owner.val();
        self.owners.read_address.next = bit_cast::<16, 12>(self.query.val());
        self.query_owner.next = self.owners.read_data.val();

        self.push.d.next = false;
        self.pushed.d.next = self.release_slot.val();
        if !self.full.q.val() {
            self.full.d.next = (self.filled.q.val() == self.slots.val());
            if (self.filled.q.val() != self.slots.val()) {
                self.push.d.next = true;
                self.pushed.d.next = bit_cast::<12, 13>(self.filled.q.val());
                self.filled.d.next = self.filled.q.val() + self.one.val();
            }
        } else if self.release_valid.val() {
            self.push.d.next = true;
        }
        self.initialised.next = self.full.q.val();
        self.idle.next = self.full.q.val() & !self.push.q.val();

        if self.reset.val() {
            self.filled.d.next = self.zero.val();
            self.full.d.next = false;
            self.push.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    fn bench(slot_bits: usize) -> Bench {
        let sizes = Sizes { slot_bits, ..Sizes::DEFAULT };
        let mut bench = Bench::new(&format!("plan_slots_{slot_bits}"), PlanSlots::new(&sizes));
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        for _ in 0..(1 << slot_bits) + 4 {
            assert_eq!(bench.get("idle"), bench.get("initialised"));
            bench.cycle();
        }
        assert_eq!(bench.get("initialised"), 1);
        bench
    }

    #[test]
    fn gives_each_slot_once_and_again_after_release() {
        let mut bench = bench(4);
        bench.set("allocate$ready", 1);
        let mut given = Vec::new();
        for _ in 0..20 {
            bench.eval();
            if bench.get("allocate$valid") == 1 {
                given.push(bench.get("allocate$data"));
            }
            bench.cycle();
        }
        assert_eq!(given, (0..16).collect::<Vec<u128>>());
        bench.set("release_valid", 1);
        bench.set("release_slot", 5);
        bench.cycle();
        bench.set("release_valid", 0);
        let begun = bench.cycles;
        while bench.get("allocate$valid") == 0 {
            bench.cycle();
            assert!(bench.cycles < begun + 10);
        }
        assert_eq!((bench.get("allocate$data"), bench.cycles - begun), (5, 3));
    }

    fn runs_at_random(slot_bits: usize) {
        let mut bench = bench(slot_bits);
        let mut random = seeded();
        let slots = 1usize << slot_bits;
        let mut free: VecDeque<u128> = (0..slots as u128).collect();
        let mut owners = vec![None; slots];
        let mut held = Vec::new();
        // What `query` asked in the last two cycles.
        let mut asked: VecDeque<Option<u32>> = [None, None].into();
        let (mut taken, mut exhausted) = (0, 0);
        for cycle in 0..20_000u32 {
            let greedy = (cycle / 700) % 2 == 0;
            bench.eval();
            if let Some(owner) = asked.pop_front().expect("two are kept") {
                assert_eq!(bench.get("query_owner"), owner.into());
            }
            let ready = random.random_bool(if greedy { 0.9 } else { 0.2 });
            bench.set("allocate$ready", ready.into());
            let took = ready && bench.get("allocate$valid") == 1;
            bench.set("owner_valid", took.into());
            if took {
                let slot = bench.get("allocate$data");
                assert_eq!(Some(slot), free.pop_front(), "in order of release, none twice");
                let owner = random.random::<u32>() & 0xFF_FFFF;
                bench.set("owner_slot", slot);
                bench.set("owner", owner.into());
                owners[slot as usize] = Some((owner, cycle));
                held.push(slot);
                taken += 1;
            }
            exhausted += u32::from(free.is_empty());
            let queried = random.random_range(0..slots);
            bench.set("query", queried as u128);
            // A query in the very cycle of the write has no defined answer.
            asked.push_back(owners[queried].and_then(|(owner, at)| (at < cycle).then_some(owner)));
            let release = !held.is_empty() && random.random_bool(if greedy { 0.2 } else { 0.9 });
            bench.set("release_valid", release.into());
            if release {
                let slot = held.swap_remove(random.random_range(0..held.len()));
                bench.set("release_slot", slot);
                free.push_back(slot);
            }
            bench.cycle();
        }
        assert!(taken > 2_000 && exhausted > 500, "{taken} taken, {exhausted} cycles without a free slot");
    }

    #[test]
    fn agrees_with_a_queue_at_random() {
        runs_at_random(3);
        runs_at_random(6);
    }
}
