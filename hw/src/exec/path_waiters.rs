//! Parts that found no path while one was being made anew, and wait for it.
//!
//! `may_wait` is set while `renewing`, and for 1,000 cycles after: a part may come then that has not seen the new path.
//! When the entry of a path was written, all that wait by then are due, and once more when the 1,000 cycles are over.
//! Who was told that it may wait, and comes when they are, is due at once: nobody else would wake it.
//! One that is due stands at `part` while `due` is set, and is gone when `take` was.
//!
//! Order: as they came. There is room for every part, each of which waits once at a time. Reset forgets them.

use rust_hdl::prelude::*;

use crate::prim::fifo::Fifo;
use crate::sizes::Sizes;

/// Cycles after the end of a path's renewal in which a part may come that has not seen it.
pub const GRACE: u64 = 1000;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PathWaiters {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    /// Some path is being made anew; an entry of a path was written.
    pub renewing: Signal<In, bool>,
    pub path_written: Signal<In, bool>,
    pub may_wait: Signal<Out, bool>,
    pub push: Signal<In, bool>,
    pub pushed: Signal<In, Bits<16>>,
    pub due: Signal<Out, bool>,
    pub part: Signal<Out, Bits<16>>,
    pub take: Signal<In, bool>,
    /// Nothing is due, now or later without a write of a path's entry.
    pub idle: Signal<Out, bool>,

    waiting: Fifo<Bits<16>>,
    /// Parts that wait, and how many of them are due.
    count: DFF<Bits<16>>,
    due_count: DFF<Bits<16>>,
    any_due: Signal<Local, bool>,
    grace: DFF<Bits<10>>,
    may_wait_register: DFF<bool>,
    grace_ends: Signal<Local, bool>,
    is_late: Signal<Local, bool>,
    whole_grace: Constant<Bits<10>>,
    one10: Constant<Bits<10>>,
    no_grace: Constant<Bits<10>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
}

impl PathWaiters {
    /// Room for the parts of 2^`slot_bits` plans.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            renewing: Default::default(),
            path_written: Default::default(),
            may_wait: Default::default(),
            push: Default::default(),
            pushed: Default::default(),
            due: Default::default(),
            part: Default::default(),
            take: Default::default(),
            idle: Default::default(),
            waiting: Fifo::block(sizes.slot_bits + 3, 1),
            count: Default::default(),
            due_count: Default::default(),
            any_due: Default::default(),
            grace: Default::default(),
            may_wait_register: Default::default(),
            grace_ends: Default::default(),
            is_late: Default::default(),
            whole_grace: Constant::new(GRACE.to_bits()),
            one10: Constant::new(1u64.to_bits()),
            no_grace: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for PathWaiters {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, count, due_count, grace, may_wait_register);
        clock!(self, clock, waiting);
        self.waiting.reset.next = self.reset.val();
        self.waiting.push.next = self.push.val();
        self.waiting.data.next = self.pushed.val();
        self.waiting.out.ready.next = self.take.val();
        self.part.next = self.waiting.out.data.val();

        self.grace_ends.next = !self.renewing.val() & (self.grace.q.val() == self.one10.val());
        self.is_late.next = self.grace_ends.val() | (!self.renewing.val() & !self.grace.q.val().any());
        if self.renewing.val() {
            self.grace.d.next = self.whole_grace.val();
        } else if self.grace.q.val().any() {
            self.grace.d.next = self.grace.q.val() - self.one10.val();
        }
        self.may_wait_register.d.next = self.renewing.val() | self.grace.q.val().any();
        self.may_wait.next = self.may_wait_register.q.val();

        // Never both in a cycle: who gives a part is who takes one.
        if self.push.val() {
            self.count.d.next = self.count.q.val() + self.one16.val();
        }
        if self.take.val() {
            self.count.d.next = self.count.q.val() - self.one16.val();
            self.due_count.d.next = self.due_count.q.val() - self.one16.val();
        }
        if !self.count.q.val().any() {
            self.due_count.d.next = self.zero16.val();
        }
        if self.path_written.val() | self.grace_ends.val() {
            self.due_count.d.next = self.count.q.val();
        }
        if self.push.val() & self.is_late.val() {
            self.due_count.d.next = self.count.q.val() + self.one16.val();
        }
        self.any_due.next = self.due_count.q.val().any();
        self.due.next = self.any_due.val() & self.waiting.out.valid.val();
        self.idle.next = !self.any_due.val() & (self.renewing.val() | !self.grace.q.val().any());

        if self.reset.val() {
            self.count.d.next = self.zero16.val();
            self.due_count.d.next = self.zero16.val();
            self.grace.d.next = self.no_grace.val();
            self.may_wait_register.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;

    /// Whoever was told that it may wait is woken, whenever it comes then.
    #[test]
    fn nobody_waits_for_ever_who_comes_as_the_time_ends() {
        let mut bench = Bench::new("path_waiters", PathWaiters::new(&Sizes::DEFAULT));
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let (mut late, mut early) = (0, 0);
        // Cycles from the end of a renewal to the question, and from the answer to the part; some wait already.
        for (asked, after, before) in
            (GRACE - 20..GRACE + 4).flat_map(|i| (0..24).map(move |j| (i, j, (i + j) % 3)))
        {
            bench.set("renewing", 1);
            for number in 0..before {
                bench.set("push", 1);
                bench.set("pushed", u128::from(number));
                bench.cycle();
            }
            bench.set("push", 0);
            bench.cycle();
            bench.set("renewing", 0);
            for _ in 0..asked {
                bench.cycle();
            }
            bench.eval();
            let may_wait = bench.get("may_wait") == 1;
            let mut expected: Vec<u128> = (0..before).map(u128::from).collect();
            for cycle in 0..GRACE + 100 {
                let comes = may_wait && cycle == after;
                bench.set("push", comes.into());
                bench.set("pushed", 99);
                bench.eval();
                let takes = bench.get("due") == 1 && cycle % 2 == 0 && !comes;
                bench.set("take", takes.into());
                if comes {
                    expected.push(99);
                    late += u32::from(asked + after > GRACE);
                    early += u32::from(asked + after < GRACE);
                }
                if takes {
                    assert_eq!(bench.get("part"), expected.remove(0));
                }
                bench.cycle();
                bench.set("take", 0);
            }
            assert!(expected.is_empty(), "{expected:?} wait, asked {asked} cycles after, come {after} later");
            assert_eq!((bench.get("due"), bench.get("idle")), (0, 1));
        }
        assert!(late > 100 && early > 100, "{late} late, {early} early");
    }
}
