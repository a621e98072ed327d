//! Two streams in one: taken in turns while both offer.
//!
//! Latency 1 cycle, throughput one item a cycle, the order of each kept. Reset empties it.

use rust_hdl::prelude::*;

use super::output_buffer::OutputBuffer;
use super::stream::{StreamIn, StreamOut};

/// See the module's header.
#[derive(Clone, Debug, Default, LogicBlock)]
pub struct Merge<T: Synth> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub first: StreamIn<T>,
    pub second: StreamIn<T>,
    pub out: StreamOut<T>,
    /// Nothing in it and nothing offered to it.
    pub idle: Signal<Out, bool>,
    buffer: OutputBuffer<T>,
    /// The first was taken last.
    second_next: DFF<bool>,
    takes_second: Signal<Local, bool>,
}

impl<T: Synth> Logic for Merge<T> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, second_next);
        self.buffer.clock.next = self.clock.val();
        self.buffer.reset.next = self.reset.val();
        self.takes_second.next =
            self.second.valid.val() & (self.second_next.q.val() | !self.first.valid.val());
        self.first.ready.next = self.buffer.room.val() & !self.takes_second.val();
        self.second.ready.next = self.buffer.room.val() & self.takes_second.val();
        self.buffer.push.next = self.buffer.room.val() & (self.first.valid.val() | self.second.valid.val());
        self.buffer.data.next = self.first.data.val();
        if self.takes_second.val() {
            self.buffer.data.next = self.second.data.val();
        }
        if self.buffer.room.val() & (self.first.valid.val() | self.second.valid.val()) {
            self.second_next.d.next = !self.takes_second.val();
        }
        self.out.valid.next = self.buffer.out.valid.val();
        self.out.data.next = self.buffer.out.data.val();
        self.buffer.out.ready.next = self.out.ready.val();
        self.idle.next = !self.first.valid.val() & !self.second.valid.val() & !self.buffer.out.valid.val();
        if self.reset.val() {
            self.second_next.d.next = false;
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
    fn passes_all_of_both_in_turns() {
        let mut bench = Bench::new("merge", Merge::<Bits<20>>::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut next = [0u128, 1 << 19];
        let mut offered = [false; 2];
        let mut inside: VecDeque<u128> = VecDeque::new();
        let (mut taken, mut waited) = (0, [0; 2]);
        for cycle in 0..10_000 {
            let always = cycle < 1_000;
            for (i, port) in ["first", "second"].into_iter().enumerate() {
                offered[i] |= always || random.random_bool(0.4);
                bench.set(&format!("{port}$valid"), offered[i].into());
                bench.set(&format!("{port}$data"), next[i]);
            }
            let ready = always || random.random_bool(0.7);
            bench.set("out$ready", ready.into());
            bench.eval();
            if ready && bench.get("out$valid") == 1 {
                assert_eq!(inside.pop_front(), Some(bench.get("out$data")));
                taken += 1;
            }
            for (i, port) in ["first", "second"].into_iter().enumerate() {
                let other = 1 - i;
                if offered[i] && bench.get(&format!("{port}$ready")) == 1 {
                    inside.push_back(next[i]);
                    (offered[i], waited[i]) = (false, 0);
                    next[i] += 1;
                    waited[other] += u32::from(offered[other]);
                    assert!(waited[other] <= 1, "the other was passed over twice");
                }
            }
            assert!(bench.get("idle") == 0 || inside.is_empty());
            bench.cycle();
        }
        assert!(taken > 4_000, "{taken} taken");
    }
}
