//! Epochs: whether what was admitted before a change has come to its end.
//!
//! A command is counted in the epoch of its admission (`admitted`), until its plan has ended (`ended`), waits for
//! its blocks (`parked`), or was handed to the control path (`handed`); what is looked up anew is admitted anew.
//! `advance` begins another epoch. Eight are told apart: while the oldest of eight is open, the one of now goes on,
//! and the next begins when that has closed. So a commit is never refused; whoever waits for its epoch waits for later
//! commands too, in that case.
//!
//! The table `EPOCH` shows `number` and the oldest epoch that is not closed; it acknowledges a cycle after the
//! request. Latency: an end counts 4 cycles later, or more while others end. Throughput: an admission and an end
//! a cycle; `parked` and `handed` each every second cycle, 16 at once, when nothing ends. A slot is admitted again 24
//! cycles after its command left, at the earliest. Reset begins at epoch 0, with nothing admitted.

use rust_hdl::prelude::*;
use volplane_abi::table;

use crate::prim::fifo::Fifo;
use crate::prim::ram::BlockRam;
use crate::records::{EpochState, TableRequest};
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Epochs {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub admitted_valid: Signal<In, bool>,
    pub admitted_slot: Signal<In, Bits<12>>,
    pub ended_valid: Signal<In, bool>,
    pub ended_slot: Signal<In, Bits<12>>,
    pub parked_valid: Signal<In, bool>,
    pub parked_slot: Signal<In, Bits<12>>,
    pub handed_valid: Signal<In, bool>,
    pub handed_slot: Signal<In, Bits<12>>,
    pub advance: Signal<In, bool>,
    pub number: Signal<Out, Bits<32>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub idle: Signal<Out, bool>,

    /// Epoch of each slot's command.
    of_slot: BlockRam<Bits<3>>,
    parked: Fifo<Bits<12>>,
    handed: Fifo<Bits<12>>,
    current: DFF<Bits<32>>,
    oldest: DFF<Bits<32>>,
    /// An epoch is to begin, and none is free.
    waits: DFF<bool>,
    counts: [DFF<Bits<13>>; 8],
    /// Nothing is counted.
    empty: [DFF<bool>; 8],
    /// A command's end on its way through the memory.
    leaving: DFF<bool>,
    leaving_slot: DFF<Bits<12>>,
    asked: DFF<bool>,
    read: DFF<bool>,
    /// The oldest epoch may close: not in the cycle after it has, when `empty` is that of another.
    moved: DFF<bool>,
    acknowledge: DFF<bool>,
    stirs: DFF<bool>,
    stirred: DFF<bool>,
    shown: DFF<Bits<256>>,
    entering: Signal<Local, Bits<3>>,
    ending: Signal<Local, Bits<3>>,
    enters: [Signal<Local, bool>; 8],
    leaves: [Signal<Local, bool>; 8],
    following: Signal<Local, Bits<3>>,
    free: Signal<Local, bool>,
    begins: Signal<Local, bool>,
    closes: Signal<Local, bool>,
    is_asked: Signal<Local, bool>,
    oldest_is_empty: Signal<Local, bool>,
    number_now: Signal<Local, Bits<32>>,
    number_oldest: Signal<Local, Bits<32>>,
    low: Signal<Local, Bits<3>>,
    low_oldest: Signal<Local, Bits<3>>,
    state: Signal<Local, EpochState>,
    state_bits: Signal<Local, Bits<64>>,
    any_parked: Signal<Local, bool>,
    table_number: Constant<Bits<16>>,
    first: Constant<Bits<32>>,
    zero32: Constant<Bits<32>>,
    one32: Constant<Bits<32>>,
    one13: Constant<Bits<13>>,
    zero13: Constant<Bits<13>>,
    one3: Constant<Bits<3>>,
    zero256: Constant<Bits<256>>,
}

impl Epochs {
    /// Of the commands in 2^`slot_bits` slots.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((2..=12).contains(&sizes.slot_bits), "2^{} plan slots", sizes.slot_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            admitted_valid: Default::default(),
            admitted_slot: Default::default(),
            ended_valid: Default::default(),
            ended_slot: Default::default(),
            parked_valid: Default::default(),
            parked_slot: Default::default(),
            handed_valid: Default::default(),
            handed_slot: Default::default(),
            advance: Default::default(),
            number: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            idle: Default::default(),
            of_slot: BlockRam::new(sizes.slot_bits),
            parked: Fifo::lut(4, 1),
            handed: Fifo::lut(4, 1),
            current: Default::default(),
            oldest: Default::default(),
            waits: Default::default(),
            counts: Default::default(),
            empty: Default::default(),
            leaving: Default::default(),
            leaving_slot: Default::default(),
            asked: Default::default(),
            read: Default::default(),
            moved: Default::default(),
            acknowledge: Default::default(),
            stirs: Default::default(),
            stirred: Default::default(),
            shown: Default::default(),
            entering: Default::default(),
            ending: Default::default(),
            enters: Default::default(),
            leaves: Default::default(),
            following: Default::default(),
            free: Default::default(),
            begins: Default::default(),
            closes: Default::default(),
            is_asked: Default::default(),
            oldest_is_empty: Default::default(),
            number_now: Default::default(),
            number_oldest: Default::default(),
            low: Default::default(),
            low_oldest: Default::default(),
            state: Default::default(),
            state_bits: Default::default(),
            any_parked: Default::default(),
            table_number: Constant::new(u64::from(table::EPOCH).to_bits()),
            first: Constant::new(0u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
            one13: Constant::new(1u64.to_bits()),
            zero13: Constant::new(0u64.to_bits()),
            one3: Constant::new(1u64.to_bits()),
            zero256: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for Epochs {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, current, oldest, waits, leaving, leaving_slot, asked, read, moved);
        dff_setup!(self, clock, acknowledge, stirs, stirred, shown);
        clock!(self, clock, of_slot, parked, handed);
        self.parked.reset.next = self.reset.val();
        self.handed.reset.next = self.reset.val();
        self.number_now.next = self.current.q.val();
        self.number_oldest.next = self.oldest.q.val();
        self.low.next = self.number_now.val().get_bits::<3>(0);
        self.low_oldest.next = self.number_oldest.val().get_bits::<3>(0);
        self.number.next = self.current.q.val();

        // What leaves: an end at once, then the others.
        self.parked.push.next = self.parked_valid.val();
        self.parked.data.next = self.parked_slot.val();
        self.handed.push.next = self.handed_valid.val();
        self.handed.data.next = self.handed_slot.val();
        self.any_parked.next = self.parked.out.valid.val();
        self.parked.out.ready.next = !self.ended_valid.val();
        self.handed.out.ready.next = !self.ended_valid.val() & !self.any_parked.val();
        self.leaving.d.next =
            self.ended_valid.val() | self.parked.out.valid.val() | self.handed.out.valid.val();
        self.leaving_slot.d.next = self.handed.out.data.val();
        if self.any_parked.val() {
            self.leaving_slot.d.next = self.parked.out.data.val();
        }
        if self.ended_valid.val() {
            self.leaving_slot.d.next = self.ended_slot.val();
        }
        self.of_slot.read_address.next = bit_cast::<16, 12>(self.leaving_slot.q.val());
        self.asked.d.next = self.leaving.q.val();
        self.read.d.next = self.asked.q.val();
        self.of_slot.write.next = self.admitted_valid.val();
        self.of_slot.write_address.next = bit_cast::<16, 12>(self.admitted_slot.val());
        self.of_slot.write_data.next = self.low.val();

        // The counts.
        self.entering.next = self.low.val();
        self.ending.next = self.of_slot.read_data.val();
        self.oldest_is_empty.next = false;
        for i in 0..8 {
            self.counts[i].clock.next = self.clock.val();
            self.empty[i].clock.next = self.clock.val();
            self.enters[i].next = self.admitted_valid.val() & (self.entering.val() == i.to_bits::<3>());
            self.leaves[i].next = self.read.q.val() & (self.ending.val() == i.to_bits::<3>());
            self.counts[i].d.next = self.counts[i].q.val();
            if self.enters[i].val() & !self.leaves[i].val() {
                self.counts[i].d.next = self.counts[i].q.val() + self.one13.val();
            }
            if !self.enters[i].val() & self.leaves[i].val() {
                self.counts[i].d.next = self.counts[i].q.val() - self.one13.val();
            }
            self.empty[i].d.next = (self.counts[i].q.val() == self.zero13.val());
            if (self.low_oldest.val() == i.to_bits::<3>()) {
                self.oldest_is_empty.next = self.empty[i].q.val();
            }
        }

        // An epoch begins when eight are not open; the oldest closes when it is not that of now.
        self.following.next = self.low.val() + self.one3.val();
        self.free.next = (self.following.val() != self.low_oldest.val());
        self.begins.next = (self.advance.val() | self.waits.q.val()) & self.free.val();
        self.waits.d.next = (self.advance.val() | self.waits.q.val()) & !self.free.val();
        if self.begins.val() {
            self.current.d.next = self.current.q.val() + self.one32.val();
        }
        // Two cycles from the last admission to `empty`: no epoch closes in the first that it is not that of now.
        self.moved.d.next = (self.oldest.q.val() != self.current.q.val());
        self.closes.next = self.moved.q.val() & self.oldest_is_empty.val();
        if self.closes.val() {
            self.oldest.d.next = self.oldest.q.val() + self.one32.val();
            self.moved.d.next = false;
        }

        self.state.next.current = self.current.q.val();
        self.state.next.oldest = self.oldest.q.val();
        self.state_bits.next = self.state.val().into();
        self.is_asked.next = self.table_valid.val()
            & (self.table_request.val().table == self.table_number.val())
            & (self.table_request.val().index == self.first.val())
            & !self.table_request.val().write.any();
        self.shown.d.next = self.zero256.val();
        self.acknowledge.d.next = self.is_asked.val();
        if self.is_asked.val() {
            self.shown.d.next = bit_cast::<256, 64>(self.state_bits.val());
        }
        self.table_ack.next = self.acknowledge.q.val();
        self.table_data.next = self.shown.q.val();
        // An end, and what follows of it, takes two cycles after the memory's.
        self.stirs.d.next = self.leaving.q.val()
            | self.asked.q.val()
            | self.read.q.val()
            | self.admitted_valid.val()
            | self.begins.val()
            | self.closes.val();
        self.stirred.d.next = self.stirs.q.val();
        self.idle.next = !self.stirs.q.val()
            & !self.stirred.q.val()
            & !self.leaving.q.val()
            & !self.closes.val()
            & self.parked.empty.val()
            & self.handed.empty.val();

        if self.reset.val() {
            self.current.d.next = self.zero32.val();
            self.oldest.d.next = self.zero32.val();
            self.waits.d.next = false;
            self.leaving.d.next = false;
            self.asked.d.next = false;
            self.read.d.next = false;
            self.moved.d.next = false;
            for i in 0..8 {
                self.counts[i].d.next = self.zero13.val();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::BTreeMap;

    /// What holds epochs, as a list.
    #[derive(Default)]
    struct Model {
        current: u32,
        waits: bool,
        /// Epoch of each slot's command, while it is counted.
        counted: BTreeMap<u32, u32>,
    }

    impl Model {
        fn oldest(&self) -> u32 {
            self.counted.values().copied().min().unwrap_or(self.current)
        }
    }

    fn read(bench: &mut Bench, index: u32, write: bool) -> Option<(u32, u32)> {
        let request = TableRequest {
            write: u64::from(write).to_bits(),
            table: u64::from(table::EPOCH).to_bits(),
            index: u64::from(index).to_bits(),
            data: Default::default(),
        };
        bench.set_record::<305>("table_request", request);
        bench.set("table_valid", 1);
        bench.cycle();
        bench.set("table_valid", 0);
        bench.eval();
        (bench.get("table_ack") == 1).then(|| {
            let shown = bench.get_wide("table_data");
            (shown[0], shown[1])
        })
    }

    fn start(name: &str) -> Bench {
        let mut bench = Bench::new(name, Epochs::new(&Sizes { slot_bits: 6, ..Sizes::DEFAULT }));
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench
    }

    /// Commands come, end, are parked and handed over at random, while epochs begin: an epoch is never closed
    /// before its last command has left, and always soon after.
    #[test]
    fn an_epoch_closes_when_its_last_command_has_left() {
        let mut bench = start("epochs");
        let mut random = seeded();
        let (mut closed, mut waited, mut longest) = (0, 0, 0u32);
        let mut model = Model::default();
        // When each slot was admitted last, and when it left.
        let (mut since, mut left) = ([0u64; 64], [0u64; 64]);
        for round in 0..60_000u64 {
            // Phases of few and many in flight, and of epochs that begin fast.
            let busy = round / 2_000 % 3;
            for port in ["admitted_valid", "ended_valid", "parked_valid", "handed_valid", "advance"] {
                bench.set(port, 0);
            }
            let rested = |slot: &u32| round >= left[*slot as usize] + 24;
            let free: Vec<u32> =
                (0..64).filter(|slot| !model.counted.contains_key(slot)).filter(rested).collect();
            let before = model.oldest();
            let admitted = random.random_bool([0.05, 0.3, 0.5][busy as usize]) && !free.is_empty();
            let entering = admitted.then(|| free[random.random_range(0..free.len())]);
            // The two that have a queue come at most every second cycle.
            let ports: &[&str] = if round % 2 == 0 { &["ended", "parked", "handed"] } else { &["ended"] };
            for port in ports {
                let there = model.counted.keys().copied().filter(|&slot| round >= since[slot as usize] + 8);
                let there: Vec<u32> = there.collect();
                if random.random_bool([0.3, 0.2, 0.1][busy as usize]) && !there.is_empty() {
                    let slot = there[random.random_range(0..there.len())];
                    bench.set(&format!("{port}_valid"), 1);
                    bench.set(&format!("{port}_slot"), slot.into());
                    model.counted.remove(&slot);
                    left[slot as usize] = round;
                }
            }
            if let Some(slot) = entering {
                bench.set("admitted_valid", 1);
                bench.set("admitted_slot", slot.into());
                model.counted.insert(slot, model.current);
                since[slot as usize] = round;
            }
            if random.random_bool([0.002, 0.01, 0.1][busy as usize]) {
                bench.set("advance", 1);
                model.waits = true;
            }
            bench.eval();
            assert_eq!(bench.get("number"), model.current.into(), "cycle {round}");
            // The card may see later than the model that an epoch is closed, and so begin another later.
            bench.cycle();
            bench.eval();
            let number = bench.get("number") as u32;
            if number != model.current {
                assert!(model.waits && number == model.current + 1, "an epoch that nobody asked for");
                model.waits = false;
                model.current = number;
            } else if model.waits {
                waited += 1;
                // With fewer than eight open for the model it takes as long as the last ends.
                longest = if model.current - model.oldest() < 7 { longest + 1 } else { 0 };
                assert!(longest < 40, "no new epoch with {} open", model.current - model.oldest());
            } else {
                longest = 0;
            }
            closed += u32::from(model.oldest() != before);
            if random.random_bool(0.02) {
                for port in ["admitted_valid", "ended_valid", "parked_valid", "handed_valid", "advance"] {
                    bench.set(port, 0);
                }
                let (current, oldest) = read(&mut bench, 0, false).expect("acknowledged");
                assert!((bench.get("number") as u32).wrapping_sub(current) <= 1);
                assert!(oldest <= model.oldest(), "closed too early: {oldest} of {}", model.oldest());
                model.waits &= current == model.current;
                model.current = current;
                let mut patience = 40;
                loop {
                    let (current, oldest) = read(&mut bench, 0, false).expect("acknowledged");
                    model.waits &= current == model.current;
                    model.current = current;
                    if oldest == model.oldest() && !model.waits || patience == 0 {
                        assert_eq!(oldest, model.oldest(), "not closed in time");
                        break;
                    }
                    patience -= 1;
                }
            }
        }
        assert!(closed > 200 && waited > 1_000, "{closed} closed, {waited} cycles without a free epoch");
        assert_eq!(read(&mut bench, 1, false), None, "one entry");
        assert_eq!(read(&mut bench, 0, true), None, "read only");
    }

    /// What was idle stays so until something comes, and whatever is to happen has happened by then.
    #[test]
    fn idle_says_that_nothing_follows() {
        let mut bench = start("epochs_idle");
        let mut random = seeded();
        let mut counted: Vec<u32> = Vec::new();
        for _ in 0..300 {
            for port in ["ended", "parked", "handed"] {
                if random.random_bool(0.4) && !counted.is_empty() {
                    let slot = counted.swap_remove(random.random_range(0..counted.len()));
                    bench.set(&format!("{port}_valid"), 1);
                    bench.set(&format!("{port}_slot"), slot.into());
                }
            }
            if random.random_bool(0.7) {
                let slot = (0..64).find(|slot| !counted.contains(slot)).expect("a free slot");
                bench.set("admitted_valid", 1);
                bench.set("admitted_slot", slot.into());
                counted.push(slot);
            }
            bench.set("advance", random.random_bool(0.5).into());
            bench.cycle();
            for port in ["admitted_valid", "ended_valid", "parked_valid", "handed_valid", "advance"] {
                bench.set(port, 0);
            }
            let mut waited = 0;
            bench.eval();
            while bench.get("idle") == 0 {
                bench.cycle();
                bench.eval();
                waited += 1;
                assert!(waited < 60, "never idle");
            }
            let shown = read(&mut bench, 0, false);
            for _ in 0..20 {
                bench.cycle();
                bench.eval();
                assert_eq!(bench.get("idle"), 1);
            }
            assert_eq!(read(&mut bench, 0, false), shown);
        }
    }
}
