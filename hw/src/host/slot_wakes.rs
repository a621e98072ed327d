//! Wakes queues that wait for plan slots: those for which one is free.
//!
//! `waits` tells what a queue waits for as it is shut. What is `freed` is gathered, and looked for in a look at all queues
//! in turn, from `first` on: each that is `shut` and waits for it is told in `waking`, one bit, and then offered for
//! listing, `awaken_valid` until `awaken_taken`. Disks are told apart by the lowest five bits of their namespaces, so a
//! queue may be woken in vain.
//!
//! What is freed reaches every queue that is shut by then or in the 2 cycles after. Latency: 7 cycles from `freed` to
//! `awaken_valid` of the queue that is looked at first, 2 more for each before it, another one if that is shut, and a
//! fourth and what `awaken_taken` takes if it is woken; a look that is under way ends before. Reset forgets what was
//! freed. `idle` goes a cycle late.

use rust_hdl::prelude::*;

use crate::logic_record;
use crate::prim::ram::LutRam;

logic_record! {
    /// What a shut queue waits for: a slot of its disk, of its own, or else any.
    WaitsFor: 7 {
        /// Lowest bits of the disk's namespace.
        disk = 5,
        /// 1: one of its disk.
        of_disk = 1,
        /// 1: one of its own.
        of_queue = 1,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Rest,
    /// What a queue waits for is read,
    Read,
    /// compared with what is free,
    Match,
    /// and decided on.
    Judge,
    /// The queue is listed.
    Awaken,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct SlotWakes {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub waits_valid: Signal<In, bool>,
    pub waits_queue: Signal<In, Bits<8>>,
    pub waits_for: Signal<In, WaitsFor>,
    pub freed_disk_valid: Signal<In, bool>,
    pub freed_disk: Signal<In, Bits<16>>,
    pub freed_queue_valid: Signal<In, bool>,
    pub freed_queue: Signal<In, Bits<16>>,
    /// A slot of all is free.
    pub freed_any: Signal<In, bool>,
    /// Bit i: queue i is shut.
    pub shut: Signal<In, Bits<32>>,
    pub first: Signal<In, Bits<5>>,
    pub waking: Signal<Out, Bits<32>>,
    pub awaken_valid: Signal<Out, bool>,
    pub awaken_queue: Signal<Out, Bits<8>>,
    pub awaken_taken: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    waits: LutRam<WaitsFor>,
    // As it is told, and all that was told since the last look.
    disk_bit: DFF<Bits<32>>,
    queue_bit: DFF<Bits<32>>,
    any: DFF<bool>,
    free_disks: DFF<Bits<32>>,
    free_queues: DFF<Bits<32>>,
    free_any: DFF<bool>,
    due: DFF<bool>,
    // The look: what it looks for, and where it is.
    state: DFF<State>,
    looked_disks: DFF<Bits<32>>,
    looked_queues: DFF<Bits<32>>,
    looked_any: DFF<bool>,
    place: DFF<Bits<5>>,
    place_bit: DFF<Bits<32>>,
    left: DFF<Bits<5>>,
    is_shut: DFF<bool>,
    queue_is_free: DFF<bool>,
    disk_is_free: DFF<bool>,
    found: DFF<WaitsFor>,

    disk_short: Signal<Local, Bits<5>>,
    queue_short: Signal<Local, Bits<5>>,
    found_now: Signal<Local, WaitsFor>,
    disk_shifted: Signal<Local, Bits<32>>,
    hit: Signal<Local, bool>,
    steps: Signal<Local, bool>,
    one32: Constant<Bits<32>>,
    zero32: Constant<Bits<32>>,
    one5: Constant<Bits<5>>,
    zero5: Constant<Bits<5>>,
    last5: Constant<Bits<5>>,
    flag: Constant<Bits<1>>,
}

impl Default for SlotWakes {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            waits_valid: Default::default(),
            waits_queue: Default::default(),
            waits_for: Default::default(),
            freed_disk_valid: Default::default(),
            freed_disk: Default::default(),
            freed_queue_valid: Default::default(),
            freed_queue: Default::default(),
            freed_any: Default::default(),
            shut: Default::default(),
            first: Default::default(),
            waking: Default::default(),
            awaken_valid: Default::default(),
            awaken_queue: Default::default(),
            awaken_taken: Default::default(),
            idle: Default::default(),
            waits: LutRam::new(5),
            disk_bit: Default::default(),
            queue_bit: Default::default(),
            any: Default::default(),
            free_disks: Default::default(),
            free_queues: Default::default(),
            free_any: Default::default(),
            due: Default::default(),
            state: Default::default(),
            looked_disks: Default::default(),
            looked_queues: Default::default(),
            looked_any: Default::default(),
            place: Default::default(),
            place_bit: Default::default(),
            left: Default::default(),
            is_shut: Default::default(),
            queue_is_free: Default::default(),
            disk_is_free: Default::default(),
            found: Default::default(),
            disk_short: Default::default(),
            queue_short: Default::default(),
            found_now: Default::default(),
            disk_shifted: Default::default(),
            hit: Default::default(),
            steps: Default::default(),
            one32: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one5: Constant::new(1u64.to_bits()),
            zero5: Constant::new(0u64.to_bits()),
            last5: Constant::new(31u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for SlotWakes {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, disk_bit, queue_bit, any, free_disks, free_queues, free_any, due, state);
        dff_setup!(self, clock, looked_disks, looked_queues, looked_any, place, place_bit, left, is_shut);
        dff_setup!(self, clock, queue_is_free, disk_is_free, found);
        self.waits.clock.next = self.clock.val();
        self.waits.write.next = self.waits_valid.val();
        self.waits.write_address.next = bit_cast::<16, 8>(self.waits_queue.val());
        self.waits.write_data.next = self.waits_for.val();

        // What is free.
        self.disk_short.next = bit_cast::<5, 16>(self.freed_disk.val());
        self.disk_bit.d.next = self.zero32.val();
        if self.freed_disk_valid.val() {
            self.disk_bit.d.next = (self.one32.val() << bit_cast::<32, 5>(self.disk_short.val()));
        }
        self.queue_short.next = bit_cast::<5, 16>(self.freed_queue.val());
        self.queue_bit.d.next = self.zero32.val();
        if self.freed_queue_valid.val() {
            self.queue_bit.d.next = (self.one32.val() << bit_cast::<32, 5>(self.queue_short.val()));
        }
        self.any.d.next = self.freed_any.val();
        self.free_disks.d.next = self.free_disks.q.val() | self.disk_bit.q.val();
        self.free_queues.d.next = self.free_queues.q.val() | self.queue_bit.q.val();
        self.free_any.d.next = self.free_any.q.val() | self.any.q.val();
        self.due.d.next =
            self.free_disks.q.val().any() | self.free_queues.q.val().any() | self.free_any.q.val();

        // Who waits for it.
        self.waits.read_address.next = bit_cast::<16, 5>(self.place.q.val());
        self.found_now.next = self.waits.read_data.val();
        self.disk_shifted.next = self.looked_disks.q.val() >> bit_cast::<32, 5>(self.found_now.val().disk);
        self.hit.next = self.looked_any.q.val();
        if (self.found.q.val().of_disk == self.flag.val()) {
            self.hit.next = self.disk_is_free.q.val();
        }
        if (self.found.q.val().of_queue == self.flag.val()) {
            self.hit.next = self.queue_is_free.q.val();
        }
        self.steps.next = false;
        self.waking.next = self.zero32.val();
        self.awaken_valid.next = false;
        self.awaken_queue.next = bit_cast::<8, 5>(self.place.q.val());
        match self.state.q.val() {
            State::Rest => {
                self.place.d.next = self.first.val();
                self.place_bit.d.next = (self.one32.val() << bit_cast::<32, 5>(self.first.val()));
                self.left.d.next = self.last5.val();
                if self.due.q.val() {
                    self.due.d.next = false;
                    self.looked_disks.d.next = self.free_disks.q.val();
                    self.looked_queues.d.next = self.free_queues.q.val();
                    self.looked_any.d.next = self.free_any.q.val();
                    self.free_disks.d.next = self.disk_bit.q.val();
                    self.free_queues.d.next = self.queue_bit.q.val();
                    self.free_any.d.next = self.any.q.val();
                    self.state.d.next = State::Read;
                }
            }
            State::Read => {
                self.is_shut.d.next = (self.shut.val() & self.place_bit.q.val()).any();
                self.queue_is_free.d.next = (self.looked_queues.q.val() & self.place_bit.q.val()).any();
                self.state.d.next = State::Match;
            }
            State::Match => {
                self.found.d.next = self.found_now.val();
                self.disk_is_free.d.next = self.disk_shifted.val().get_bit(0);
                self.state.d.next = State::Judge;
                if !self.is_shut.q.val() {
                    self.steps.next = true;
                }
            }
            State::Judge => {
                self.steps.next = true;
                if self.hit.val() {
                    self.steps.next = false;
                    self.waking.next = self.place_bit.q.val();
                    self.state.d.next = State::Awaken;
                }
            }
            State::Awaken => {
                self.awaken_valid.next = true;
                self.steps.next = self.awaken_taken.val();
            }
            _ => {}
        }
        if self.steps.val() {
            self.place.d.next = self.place.q.val() + self.one5.val();
            self.place_bit.d.next = (self.place_bit.q.val() << 1);
            if self.place_bit.q.val().get_bit(31) {
                self.place_bit.d.next = self.one32.val();
            }
            self.left.d.next = self.left.q.val() - self.one5.val();
            self.state.d.next = State::Read;
            if (self.left.q.val() == self.zero5.val()) {
                self.state.d.next = State::Rest;
            }
        }
        self.idle.next = !self.due.q.val()
            & !self.any.q.val()
            & !self.free_any.q.val()
            & (self.disk_bit.q.val() == self.zero32.val())
            & (self.queue_bit.q.val() == self.zero32.val())
            & (self.free_disks.q.val() == self.zero32.val())
            & (self.free_queues.q.val() == self.zero32.val())
            & (self.state.q.val() == State::Rest);

        if self.reset.val() {
            self.disk_bit.d.next = self.zero32.val();
            self.queue_bit.d.next = self.zero32.val();
            self.any.d.next = false;
            self.free_disks.d.next = self.zero32.val();
            self.free_queues.d.next = self.zero32.val();
            self.free_any.d.next = false;
            self.due.d.next = false;
            self.state.d.next = State::Rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    /// Longest look, when each queue is shut, woken and taken at once, and one before it.
    const LATEST: u64 = 2 * (32 * 4 + 6);

    /// What queues wait for: disk, queue or anything.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Wanted {
        Disk(u64),
        Own,
        Any,
    }

    /// A queue that waits, and since when what it waits for is free.
    struct Waiting {
        wanted: Wanted,
        shut: u64,
        free_since: Option<u64>,
        woken: bool,
    }

    #[test]
    fn those_are_woken_that_wait_for_what_is_free() {
        let mut bench = Bench::new("slot_wakes", SlotWakes::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench.set("awaken_taken", 1);
        let mut queues: Vec<Option<Waiting>> = (0..32).map(|_| None).collect();
        // What was told lately: a look may find it that began before a queue was shut.
        let mut told: Vec<(u64, Wanted, u64)> = Vec::new();
        let (mut woken, mut in_vain, mut latest) = ([0; 3], 0, 0);
        for cycle in 0..60_000u64 {
            told.retain(|(at, ..)| at + LATEST > cycle);
            let shut = (0..32).filter(|&i| queues[i].is_some()).fold(0u128, |mask, i| mask | 1 << i);
            bench.set("shut", shut);
            bench.set("first", random.random_range(0..32u32).into());
            // A queue is shut: its bit is there a cycle after.
            bench.set("waits_valid", 0);
            let queue = random.random_range(0..32usize);
            if queues[queue].is_none() && random.random_bool(0.2) {
                let disk = random.random_range(0..8u64);
                let (wanted, of_disk, of_queue) = match random.random_range(0..3) {
                    0 => (Wanted::Disk(disk), 1u64, 0u64),
                    1 => (Wanted::Own, 0, 1),
                    _ => (Wanted::Any, 0, 0),
                };
                let waits = WaitsFor {
                    disk: disk.to_bits(),
                    of_disk: of_disk.to_bits(),
                    of_queue: of_queue.to_bits(),
                };
                bench.set("waits_valid", 1);
                bench.set("waits_queue", queue as u128);
                bench.set_record::<7>("waits_for", waits);
                queues[queue] = Some(Waiting { wanted, shut: cycle, free_since: None, woken: false });
            }
            // Something is free.
            let busy = cycle / 3_000 % 2 == 0;
            let rate = if busy { 0.05 } else { 0.002 };
            let frees = [(); 3].map(|()| random.random_bool(rate));
            let (disk, own) = (random.random_range(0..8u64), random.random_range(0..32u64));
            bench.set("freed_disk_valid", frees[0].into());
            bench.set("freed_disk", (disk | random.random_range(0..4u64) << 5).into());
            bench.set("freed_queue_valid", frees[1].into());
            bench.set("freed_queue", own.into());
            bench.set("freed_any", frees[2].into());
            for (wanted, queue) in [
                frees[0].then_some((Wanted::Disk(disk), 32)),
                frees[1].then_some((Wanted::Own, own)),
                frees[2].then_some((Wanted::Any, 32)),
            ]
            .into_iter()
            .flatten()
            {
                told.push((cycle, wanted, queue));
                for (number, waiting) in queues.iter_mut().enumerate() {
                    let Some(waiting) = waiting else { continue };
                    if waiting.wanted == wanted && (wanted != Wanted::Own || number as u64 == queue) {
                        waiting.free_since.get_or_insert(cycle);
                    }
                }
            }
            bench.eval();
            let waking = bench.get("waking");
            for number in (0..32).filter(|number| waking >> number & 1 == 1) {
                let waiting = queues[number].as_mut().expect("a queue that is shut");
                let free = |(_, wanted, queue): &(u64, Wanted, u64)| {
                    *wanted == waiting.wanted && (*wanted != Wanted::Own || *queue == number as u64)
                };
                assert!(
                    told.iter().any(free),
                    "cycle {cycle}: queue {number} waits for {:?}",
                    waiting.wanted
                );
                in_vain += u32::from(waiting.free_since.is_none());
                waiting.woken = true;
            }
            if bench.get("awaken_valid") == 1 {
                let number = bench.get("awaken_queue") as usize;
                let waiting = queues[number].take().expect("a queue that was woken");
                assert!(waiting.woken, "cycle {cycle}: queue {number}");
                woken[match waiting.wanted {
                    Wanted::Disk(_) => 0,
                    Wanted::Own => 1,
                    Wanted::Any => 2,
                }] += 1;
            }
            for (number, waiting) in queues.iter().enumerate() {
                let since = waiting.as_ref().and_then(|waiting| Some(waiting.free_since?.max(waiting.shut)));
                if let Some(since) = since {
                    assert!(cycle <= since + LATEST, "cycle {cycle}: queue {number} waits since {since}");
                    latest = latest.max(cycle - since);
                }
            }
            bench.cycle();
        }
        assert!(woken.iter().all(|&woken| woken > 100), "{woken:?} woken, {in_vain} in vain");
        assert!(latest > 64, "a look takes {latest} cycles");
        for port in ["freed_disk_valid", "freed_queue_valid", "freed_any"] {
            bench.set(port, 0);
        }
        (0..LATEST).for_each(|_| bench.cycle());
        assert_eq!(bench.get("idle"), 1);
    }

    #[test]
    fn the_first_has_the_first_turn() {
        let mut bench = Bench::new("slot_wakes", SlotWakes::default());
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let any = WaitsFor::default();
        bench.set_record::<7>("waits_for", any);
        for queue in [3, 9, 30] {
            bench.set("waits_valid", 1);
            bench.set("waits_queue", queue);
            bench.cycle();
        }
        bench.set("waits_valid", 0);
        bench.set("shut", 1 << 3 | 1 << 9 | 1 << 30);
        bench.set("first", 9);
        bench.set("freed_any", 1);
        bench.cycle();
        bench.set("freed_any", 0);
        let mut order = Vec::new();
        let first = (2..).find(|_| {
            bench.cycle();
            bench.get("awaken_valid") == 1
        });
        assert_eq!(first, Some(7), "cycles after it was told");
        for cycle in 0..300 {
            // Who is offered waits until it is taken.
            let takes = cycle % 3 == 0;
            bench.set("awaken_taken", takes.into());
            bench.eval();
            if takes && bench.get("awaken_valid") == 1 {
                order.push(bench.get("awaken_queue"));
            }
            bench.cycle();
        }
        assert_eq!((order, bench.get("idle")), (vec![9, 30, 3], 1));
    }
}
