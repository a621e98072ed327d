//! Plans that go through admission once more, on their way there.
//!
//! Admission may stand still until parts of other plans end, so whoever ends them must not wait for it: there is
//! room for every slot, of which each asks once at a time. When all but two slots wait here, nothing that admission
//! could stand still for is left.
//!
//! Handshake: streams. Latency: 3 cycles. Throughput: one a cycle. In order. Reset empties it.

use rust_hdl::prelude::*;

use crate::prim::fifo::Fifo;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::Again;
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct AgainQueue {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub asked: StreamIn<Again>,
    pub out: StreamOut<Again>,
    pub idle: Signal<Out, bool>,

    waiting: Fifo<Again>,
}

impl AgainQueue {
    /// Room for 2^`slot_bits` plans.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            asked: Default::default(),
            out: Default::default(),
            idle: Default::default(),
            waiting: Fifo::block(sizes.slot_bits, 2),
        }
    }
}

impl Logic for AgainQueue {
    #[hdl_gen]
    fn update(&mut self) {
        clock!(self, clock, waiting);
        self.waiting.reset.next = self.reset.val();
        self.waiting.push.next = self.asked.valid.val() & self.waiting.room.val();
        self.waiting.data.next = self.asked.data.val();
        self.asked.ready.next = self.waiting.room.val();
        self.out.valid.next = self.waiting.out.valid.val();
        self.out.data.next = self.waiting.out.data.val();
        self.waiting.out.ready.next = self.out.ready.val();
        self.idle.next = self.waiting.empty.val() & !self.asked.valid.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    const SLOTS: usize = 16;

    #[test]
    fn takes_all_but_two_slots_while_nobody_takes_any() {
        let sizes = Sizes { slot_bits: SLOTS.ilog2() as usize, ..Sizes::DEFAULT };
        let mut bench = Bench::new("again_queue", AgainQueue::new(&sizes));
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut waiting: VecDeque<Again> = VecDeque::new();
        let mut offered = None;
        let (mut given, mut most) = (0, 0);
        for cycle in 0..20_000u32 {
            // For a time nobody takes any.
            let ready = cycle / 200 % 2 == 1 && random.random_bool(0.7);
            if offered.is_none() && waiting.len() < SLOTS && random.random_bool(0.5) {
                offered = Some(Again {
                    slot: random.random_range(0..SLOTS as u64).to_bits(),
                    component: random.random_range(0..8u64).to_bits(),
                    plan: random.random_range(0..1u64 << 16).to_bits(),
                    fresh: random.random_range(0..2u64).to_bits(),
                    retry: random.random_range(0..2u64).to_bits(),
                });
            }
            bench.set("asked$valid", offered.is_some().into());
            bench.set_record::<33>("asked$data", offered.unwrap_or_default());
            bench.set("out$ready", ready.into());
            bench.eval();
            assert!(bench.get("idle") == 0 || waiting.is_empty() && offered.is_none());
            // It knows of room a cycle late.
            let settled = cycle / 200 % 2 == 0 && cycle % 200 > 1;
            let full = waiting.len() >= SLOTS - 2;
            assert!(!settled || full || bench.get("asked$ready") == 1, "{} wait", waiting.len());
            if ready && bench.get("out$valid") == 1 {
                assert_eq!(Some(bench.get_record::<33, Again>("out$data")), waiting.pop_front());
                given += 1;
            }
            if bench.get("asked$ready") == 1 {
                waiting.extend(offered.take());
            }
            most = most.max(waiting.len());
            bench.cycle();
        }
        assert!(given > 1_000 && most >= SLOTS - 2, "{given} given, {most} at once");
    }
}
