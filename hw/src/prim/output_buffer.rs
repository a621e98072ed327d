//! Two registers between a pipeline and a bus: the bus sees registered outputs, the pipeline a
//! registered `room`, and nothing in between is combinational. `room` has a register of its own, since
//! all bits of the data hang on the one that says where they are.
//!
//! Handshake: `push` only with `room`. Latency 1 cycle, throughput one item a cycle, order kept.
//! Reset empties it; while it lasts, and in the cycle after, there is no room.

use rust_hdl::prelude::*;

use crate::prim::register::Register;
use crate::prim::stream::StreamOut;

/// See the module's header.
#[derive(Clone, Debug, Default, LogicBlock)]
pub struct OutputBuffer<T: Synth> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub push: Signal<In, bool>,
    pub data: Signal<In, T>,
    pub room: Signal<Out, bool>,
    pub out: StreamOut<T>,
    offered: Register<T>,
    offered_valid: DFF<bool>,
    /// What was pushed while `offered` was not taken.
    spare: Register<T>,
    spare_valid: DFF<bool>,
    room_register: DFF<bool>,
    /// Nothing is offered: for the data alone, all bits of which hang on it.
    free: DFF<bool>,
    offering: Signal<Local, bool>,
    filling: Signal<Local, bool>,
}

impl<T: Synth> Logic for OutputBuffer<T> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, offered_valid, spare_valid, room_register, free);
        clock!(self, clock, offered, spare);
        self.out.valid.next = self.offered_valid.q.val();
        self.out.data.next = self.offered.q.val();
        self.room.next = self.room_register.q.val();
        self.offered.load.next = self.free.q.val() | self.out.ready.val();
        self.offered.d.next = self.data.val();
        if self.spare_valid.q.val() {
            self.offered.d.next = self.spare.q.val();
        }
        self.filling.next =
            self.offered_valid.q.val() & !self.out.ready.val() & (self.spare_valid.q.val() | self.push.val());
        self.offering.next =
            self.spare_valid.q.val() | self.push.val() | (self.offered_valid.q.val() & !self.out.ready.val());
        self.offered_valid.d.next = self.offering.val();
        self.free.d.next = !self.offering.val();
        self.spare_valid.d.next = self.filling.val();
        self.room_register.d.next = !self.filling.val();
        self.spare.load.next = !self.spare_valid.q.val();
        self.spare.d.next = self.data.val();
        if self.reset.val() {
            self.offered_valid.d.next = false;
            self.free.d.next = true;
            self.spare_valid.d.next = false;
            self.room_register.d.next = false;
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
    fn keeps_order_and_loses_no_cycle() {
        let mut bench = Bench::new("output_buffer", OutputBuffer::<Bits<20>>::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut expected = VecDeque::new();
        let mut taken = 0;
        for cycle in 0..10_000u64 {
            let always = cycle < 1_000;
            bench.eval();
            let push = bench.get("room") == 1 && (always || random.random_bool(0.5));
            let ready = always || random.random_bool(0.5);
            bench.set("push", push.into());
            bench.set("data", cycle.into());
            bench.set("out$ready", ready.into());
            bench.eval();
            assert_eq!(bench.get("out$valid") == 1, !expected.is_empty(), "offered a cycle after");
            if bench.get("out$valid") == 1 && ready {
                assert_eq!(expected.pop_front(), Some(bench.get("out$data")));
                taken += 1;
            }
            if push {
                expected.push_back(u128::from(cycle));
            }
            assert!(expected.len() <= 2 && (!always || taken + 1 >= cycle));
            bench.cycle();
        }
        assert!(taken > 4_000, "{taken} taken");
    }
}
