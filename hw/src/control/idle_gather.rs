//! Gathers what every block says of its idleness.
//!
//! `work_idle` is set when every part was, in one and the same cycle, `idle` when also no register access
//! was under way. Latency 2 cycles both ways: whoever acts on them first sees them set for longer than an
//! input takes to reach a block. Reset: not idle.

use rust_hdl::prelude::*;

/// Parts that are gathered.
pub const PARTS: usize = 32;

/// See the module's header.
#[derive(Clone, Debug, Default, LogicBlock)]
pub struct IdleGather {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub parts: Signal<In, Bits<PARTS>>,
    pub access_idle: Signal<In, bool>,
    pub work_idle: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,
    said: DFF<Bits<PARTS>>,
    access_said: DFF<bool>,
    all_work: DFF<bool>,
    all: DFF<bool>,
}

impl Logic for IdleGather {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, said, access_said, all_work, all);
        self.said.d.next = self.parts.val();
        self.access_said.d.next = self.access_idle.val();
        self.all_work.d.next = self.said.q.val().all();
        self.all.d.next = self.said.q.val().all() & self.access_said.q.val();
        self.work_idle.next = self.all_work.q.val();
        self.idle.next = self.all.q.val();
        if self.reset.val() {
            self.all_work.d.next = false;
            self.all.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn is_set_two_cycles_after_all_parts_are() {
        let mut bench = Bench::new("idle_gather", IdleGather::default());
        let mut random = seeded();
        let full = (1u128 << PARTS) - 1;
        let mut before = [(false, false); 2];
        for cycle in 0..5_000 {
            let parts =
                if random.random_bool(0.5) { full } else { full & !(1 << random.random_range(0..PARTS)) };
            let access = random.random_bool(0.5);
            bench.set("parts", parts);
            bench.set("access_idle", access.into());
            bench.eval();
            if cycle >= 2 {
                assert_eq!((bench.get("work_idle") == 1, bench.get("idle") == 1), before[0]);
            }
            bench.cycle();
            before = [before[1], (parts == full, parts == full && access)];
        }
    }
}
