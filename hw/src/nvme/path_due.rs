//! Which paths have events that are due: by count, by quiet, by age, or at once.
//!
//! Purpose: `PathDoorbells` keeps one for submission tails and one for completion heads. Each path counts
//! its events in three bits, bit-sliced: one bit of every path's counter in each register.
//! Handshake: `events` has a bit set for each path with an event, at most one event a path and cycle.
//! `clear` begins anew, an event of the same cycle counts as new; `again` makes due once more; `forget`
//! wins over `again`, an event over both. With `urgent` every event of a path is due. A path in `dirty`
//! is due if it is in `due` or with `all_due`: whoever asks puts the two together.
//! Latency: an eighth event shows in `due`, the eighth cycle without any in `all_due`, in the next cycle;
//! an event is due by age 128 to 256 cycles after it came. Reset: no events.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PathDue {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub events: Signal<In, Bits<32>>,
    pub clear: Signal<In, Bits<32>>,
    pub again: Signal<In, Bits<32>>,
    pub forget: Signal<In, Bits<32>>,
    pub urgent: Signal<In, Bits<32>>,
    /// Paths with events.
    pub dirty: Signal<Out, Bits<32>>,
    /// Those of them that wait no longer, and whether none does.
    pub due: Signal<Out, Bits<32>>,
    pub all_due: Signal<Out, bool>,
    dirty_register: DFF<Bits<32>>,
    due_register: DFF<Bits<32>>,
    count0: DFF<Bits<32>>,
    count1: DFF<Bits<32>>,
    count2: DFF<Bits<32>>,
    /// Cycles without an event, up to 7, and whether there were 8.
    quiet: DFF<Bits<3>>,
    quiet_enough: DFF<bool>,
    age: DFF<Bits<7>>,
    aging: DFF<bool>,
    /// Paths that had events when the age began.
    marked: DFF<Bits<32>>,
    keep: Signal<Local, Bits<32>>,
    again_kept: Signal<Local, Bits<32>>,
    carry1: Signal<Local, Bits<32>>,
    carry2: Signal<Local, Bits<32>>,
    aged: Signal<Local, Bits<32>>,
    any_event: Signal<Local, bool>,
    zero: Constant<Bits<32>>,
    all: Constant<Bits<32>>,
    zero3: Constant<Bits<3>>,
    one3: Constant<Bits<3>>,
    seven3: Constant<Bits<3>>,
    zero7: Constant<Bits<7>>,
    one7: Constant<Bits<7>>,
}

impl Default for PathDue {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            events: Default::default(),
            clear: Default::default(),
            again: Default::default(),
            forget: Default::default(),
            urgent: Default::default(),
            dirty: Default::default(),
            due: Default::default(),
            all_due: Default::default(),
            dirty_register: Default::default(),
            due_register: Default::default(),
            count0: Default::default(),
            count1: Default::default(),
            count2: Default::default(),
            quiet: Default::default(),
            quiet_enough: Default::default(),
            age: Default::default(),
            aging: Default::default(),
            marked: Default::default(),
            keep: Default::default(),
            again_kept: Default::default(),
            carry1: Default::default(),
            carry2: Default::default(),
            aged: Default::default(),
            any_event: Default::default(),
            zero: Constant::new(0u64.to_bits()),
            all: Constant::new(0xFFFF_FFFFu64.to_bits()),
            zero3: Constant::new(0u64.to_bits()),
            one3: Constant::new(1u64.to_bits()),
            seven3: Constant::new(7u64.to_bits()),
            zero7: Constant::new(0u64.to_bits()),
            one7: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for PathDue {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, dirty_register, due_register, count0, count1, count2, quiet, quiet_enough);
        dff_setup!(self, clock, age, aging, marked);
        self.dirty.next = self.dirty_register.q.val();
        self.due.next = self.due_register.q.val() | self.urgent.val();
        self.all_due.next = self.quiet_enough.q.val();

        self.keep.next = self.all.val() ^ (self.clear.val() | self.forget.val());
        self.again_kept.next = self.again.val() & (self.all.val() ^ self.forget.val());
        self.carry1.next = self.events.val() & self.count0.q.val();
        self.carry2.next = self.carry1.val() & self.count1.q.val();
        self.aged.next = self.zero.val();
        self.marked.d.next = self.marked.q.val() & self.keep.val();
        if self.aging.q.val() {
            self.aged.next = self.marked.q.val();
            self.marked.d.next = self.dirty_register.q.val() & self.keep.val();
        }
        self.dirty_register.d.next =
            (self.dirty_register.q.val() & self.keep.val()) | self.again_kept.val() | self.events.val();
        self.count0.d.next = (self.count0.q.val() & self.keep.val()) ^ self.events.val();
        self.count1.d.next = (self.count1.q.val() ^ self.carry1.val()) & self.keep.val();
        self.count2.d.next = (self.count2.q.val() ^ self.carry2.val()) & self.keep.val();
        self.due_register.d.next =
            ((self.due_register.q.val() | self.aged.val() | (self.carry2.val() & self.count2.q.val()))
                & self.keep.val())
                | self.again_kept.val();

        self.any_event.next = self.events.val().any();
        self.quiet_enough.d.next = (self.quiet.q.val() == self.seven3.val()) & !self.any_event.val();
        if (self.quiet.q.val() != self.seven3.val()) {
            self.quiet.d.next = self.quiet.q.val() + self.one3.val();
        }
        if self.any_event.val() {
            self.quiet.d.next = self.zero3.val();
        }
        self.age.d.next = self.age.q.val() + self.one7.val();
        self.aging.d.next = (self.age.q.val() == self.zero7.val());

        if self.reset.val() {
            self.dirty_register.d.next = self.zero.val();
            self.due_register.d.next = self.zero.val();
            self.marked.d.next = self.zero.val();
            self.count0.d.next = self.zero.val();
            self.count1.d.next = self.zero.val();
            self.count2.d.next = self.zero.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    fn fresh(name: &str) -> Bench {
        let mut bench = Bench::new(name, PathDue::default());
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench
    }

    /// One event of each path in `paths`, then nothing for `quiet` cycles.
    fn event(bench: &mut Bench, paths: u32, quiet: u64) {
        bench.set("events", paths.into());
        bench.cycle();
        bench.set("events", 0);
        for _ in 0..quiet {
            bench.cycle();
        }
    }

    #[test]
    fn by_count_by_quiet_and_at_once() {
        let mut bench = fresh("path_due_directed");
        for count in 1..=8 {
            event(&mut bench, 1 << 7, 1);
            assert_eq!((bench.get("dirty"), bench.get("all_due")), (1 << 7, 0));
            assert_eq!(bench.get("due") == 1 << 7, count == 8, "{count} events");
        }
        bench.set("clear", 1 << 7);
        bench.cycle();
        bench.set("clear", 0);
        bench.eval();
        assert_eq!((bench.get("dirty"), bench.get("due")), (0, 0));
        for quiet in 0..8 {
            event(&mut bench, 1 << 3, quiet);
            assert_eq!(bench.get("all_due"), 0, "{quiet} cycles after an event");
        }
        event(&mut bench, 1 << 3, 8);
        assert_eq!(bench.get("all_due"), 1);
        bench.set("urgent", 1 << 9);
        bench.eval();
        assert_eq!(bench.get("due"), 1 << 3 | 1 << 9, "eight events, and urgent");
    }

    #[test]
    fn by_age_and_never_forgotten() {
        let mut bench = fresh("path_due_random");
        let mut random = seeded();
        let (mut since, mut due_by_age) = ([None::<u64>; 32], 0u64);
        for cycle in 0..60_000u64 {
            // Other paths keep the block from being quiet; each has few events.
            let path = random.random_range(0..32usize);
            let events = if random.random_bool(0.3) { 1u32 << path } else { 0 };
            let (again, forget) = (random.random_bool(0.01), random.random_bool(0.01));
            let cleared: u32 = if random.random_bool(0.15) { 1 << random.random_range(0..32u32) } else { 0 };
            let again = if again { cleared } else { 0 };
            let forget: u32 = if forget { 1 << random.random_range(0..32u32) } else { 0 };
            bench.set("events", events.into());
            bench.set("clear", if again != 0 { 0 } else { cleared }.into());
            bench.set("again", again.into());
            bench.set("forget", forget.into());
            bench.eval();
            let (dirty, due) = (bench.get("dirty") as u32, bench.get("due") as u32);
            for (path, since) in since.iter_mut().enumerate() {
                let bit = 1u32 << path;
                assert_eq!(dirty & bit != 0, since.is_some(), "path {path} in cycle {cycle}");
                if let Some(begun) = *since {
                    assert!(due & bit != 0 || cycle - begun < 260, "path {path} waits since {begun}");
                    due_by_age += u64::from(due & bit != 0 && cycle - begun >= 128);
                }
                if forget & bit != 0 || (again == 0 && cleared & bit != 0) {
                    *since = None;
                } else if again & bit != 0 {
                    since.get_or_insert(cycle + 1);
                }
                if events & bit != 0 {
                    since.get_or_insert(cycle + 1);
                }
            }
            bench.cycle();
        }
        assert!(due_by_age > 100, "{due_by_age}");
    }
}
