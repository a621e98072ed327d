//! The two places of one source of the write arbiter.
//!
//! Like `OutputBuffer`, but the item of `data` is taken by the arbiter's `take`, which is set only when
//! there is one. An item stays two cycles at least, until its source is picked.
//!
//! Latency 1 cycle; throughput two items in three cycles where each is taken two cycles after it came,
//! which is more than any source has. Order kept. Reset empties it.

use rust_hdl::prelude::*;

use crate::prim::register::Register;
use crate::prim::stream::StreamIn;

/// See the module's header.
#[derive(Clone, Debug, Default, LogicBlock)]
pub struct SourceBuffer<T: Synth> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub inlet: StreamIn<T>,
    /// An item enters this cycle.
    pub entering: Signal<Out, bool>,
    pub take: Signal<In, bool>,
    pub data: Signal<Out, T>,
    offered: Register<T>,
    offered_valid: DFF<bool>,
    /// Nothing is offered: for the data alone, all bits of which hang on it.
    free: DFF<bool>,
    spare: Register<T>,
    spare_valid: DFF<bool>,
    /// `spare` is free: for the control alone, since all bits of the data hang on `spare_valid`.
    vacant: DFF<bool>,
    offering: Signal<Local, bool>,
    filling: Signal<Local, bool>,
    push: Signal<Local, bool>,
}

impl<T: Synth> Logic for SourceBuffer<T> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, offered_valid, free, spare_valid, vacant);
        clock!(self, clock, offered, spare);
        self.push.next = self.inlet.valid.val() & self.vacant.q.val();
        self.inlet.ready.next = self.vacant.q.val();
        self.entering.next = self.push.val();
        self.data.next = self.offered.q.val();
        self.offered.load.next = self.free.q.val() | self.take.val();
        self.offered.d.next = self.inlet.data.val();
        if self.spare_valid.q.val() {
            self.offered.d.next = self.spare.q.val();
        }
        self.offering.next =
            !self.vacant.q.val() | self.inlet.valid.val() | (self.offered_valid.q.val() & !self.take.val());
        self.offered_valid.d.next = self.offering.val();
        self.free.d.next = !self.offering.val();
        self.filling.next =
            self.offered_valid.q.val() & !self.take.val() & (!self.vacant.q.val() | self.inlet.valid.val());
        self.spare_valid.d.next = self.filling.val();
        self.vacant.d.next = !self.filling.val();
        self.spare.load.next = self.vacant.q.val();
        self.spare.d.next = self.inlet.data.val();
        if self.reset.val() {
            self.offered_valid.d.next = false;
            self.free.d.next = true;
            self.spare_valid.d.next = false;
            self.vacant.d.next = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    #[test]
    fn keeps_order_and_passes_two_in_three_cycles() {
        let mut bench = Bench::new("source_buffer", SourceBuffer::<Bits<20>>::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut inside: VecDeque<u64> = VecDeque::new();
        let mut taken = 0;
        for cycle in 0..10_000u64 {
            // At first as the arbiter does: an item is taken two cycles after it came.
            let steady = cycle < 1_000;
            let due = inside.front().is_some_and(|since| !steady || since + 2 == cycle);
            let take = due && (steady || random.random_bool(0.5));
            let valid = steady || random.random_bool(0.5);
            bench.set("inlet$valid", valid.into());
            bench.set("inlet$data", cycle.into());
            bench.set("take", take.into());
            bench.eval();
            if take {
                assert_eq!(inside.pop_front(), Some(bench.get("data") as u64));
                taken += 1;
            }
            let ready = inside.len() + usize::from(take) < 2;
            assert_eq!(bench.get("inlet$ready") == 1, ready);
            assert_eq!(bench.get("entering") == 1, valid && ready);
            if valid && ready {
                inside.push_back(cycle);
            }
            bench.cycle();
            assert!(!steady || 3 * taken + 6 >= 2 * cycle, "two in three cycles");
        }
        assert!(taken > 4_000, "{taken} taken");
    }
}
