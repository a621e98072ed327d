//! A register with a clock enable, for wide data: it costs a simulator nothing in the cycles in which it
//! is not loaded, where a `DFF` is copied to its input and back.
//!
//! Latency 1 cycle. No reset: what says that the data mean something has one.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, Default, LogicBlock)]
pub struct Register<T: Synth> {
    pub clock: Signal<In, Clock>,
    /// Takes `d` at the end of this cycle.
    pub load: Signal<In, bool>,
    pub d: Signal<In, T>,
    pub q: Signal<Out, T>,
}

impl<T: Synth> Logic for Register<T> {
    fn update(&mut self) {}

    fn connect(&mut self) {
        self.q.connect();
    }

    fn hdl(&self) -> Verilog {
        Verilog::Custom("always @(posedge clock) begin\n    if (load) q <= d;\nend\n".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn keeps_what_was_loaded() {
        let mut bench = Bench::new("register", Register::<Bits<40>>::default());
        let mut random = seeded();
        let mut kept = None;
        for _ in 0..1_000 {
            let (load, data) = (random.random_bool(0.3), random.random::<u64>() >> 24);
            bench.set("load", load.into());
            bench.set("d", data.into());
            bench.cycle();
            if load {
                kept = Some(data);
            }
            assert!(kept.is_none_or(|kept| bench.get("q") == u128::from(kept)));
        }
    }
}
