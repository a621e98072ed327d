//! A register slice: cuts `valid`, `data` and `ready` of a stream, so that neither side's logic is part
//! of the other's paths.
//!
//! Latency 1 cycle, throughput one item a cycle, order kept. Reset empties it.

use rust_hdl::prelude::*;

use super::output_buffer::OutputBuffer;
use super::stream::{StreamIn, StreamOut};

/// See the module's header.
#[derive(Clone, Debug, Default, LogicBlock)]
pub struct Slice<T: Synth> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub inlet: StreamIn<T>,
    pub out: StreamOut<T>,
    /// Nothing in it and nothing offered to it.
    pub idle: Signal<Out, bool>,
    buffer: OutputBuffer<T>,
}

impl<T: Synth> Logic for Slice<T> {
    #[hdl_gen]
    fn update(&mut self) {
        self.buffer.clock.next = self.clock.val();
        self.buffer.reset.next = self.reset.val();
        self.buffer.push.next = self.inlet.valid.val() & self.buffer.room.val();
        self.buffer.data.next = self.inlet.data.val();
        self.inlet.ready.next = self.buffer.room.val();
        self.out.valid.next = self.buffer.out.valid.val();
        self.out.data.next = self.buffer.out.data.val();
        self.buffer.out.ready.next = self.out.ready.val();
        self.idle.next = !self.inlet.valid.val() & !self.buffer.out.valid.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    #[test]
    fn passes_every_item_once_and_in_order() {
        let mut bench = Bench::new("slice", Slice::<Bits<20>>::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let (mut offered, mut inside, mut taken) = (None, VecDeque::new(), 0u64);
        for cycle in 0..10_000u64 {
            let always = cycle < 1_000;
            if offered.is_none() && (always || random.random_bool(0.5)) {
                offered = Some(cycle);
            }
            let ready = always || random.random_bool(0.5);
            bench.set("inlet$valid", offered.is_some().into());
            bench.set("inlet$data", offered.unwrap_or(0).into());
            bench.set("out$ready", ready.into());
            bench.eval();
            assert_eq!(bench.get("idle") == 1, offered.is_none() && inside.is_empty());
            assert_eq!(bench.get("out$valid") == 1, !inside.is_empty());
            if ready && !inside.is_empty() {
                assert_eq!(inside.pop_front(), Some(bench.get("out$data") as u64));
                taken += 1;
            }
            if bench.get("inlet$ready") == 1 {
                inside.extend(offered.take());
            }
            bench.cycle();
            assert!(!always || taken + 1 >= cycle, "one item a cycle");
        }
        assert!(taken > 4_000, "{taken} taken");
    }
}
