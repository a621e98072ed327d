//! Delays a value by a fixed number of cycles.
//!
//! No handshake, no reset: what accompanies a pipeline whose valid bits are kept elsewhere.

use rust_hdl::prelude::*;

/// A shift register of whole values.
#[derive(Clone, Debug, LogicBlock)]
pub struct DelayLine<T: Synth> {
    pub clock: Signal<In, Clock>,
    pub data: Signal<In, T>,
    pub delayed: Signal<Out, T>,
    _cycles: usize,
}

impl<T: Synth> DelayLine<T> {
    /// A delay of `cycles`, 2 or more.
    pub fn new(cycles: usize) -> Self {
        assert!(cycles >= 2, "delay of {cycles} cycles: use a register");
        Self {
            clock: Default::default(),
            data: Default::default(),
            delayed: Default::default(),
            _cycles: cycles,
        }
    }
}

impl<T: Synth> Logic for DelayLine<T> {
    fn update(&mut self) {}

    fn connect(&mut self) {
        self.delayed.connect();
    }

    fn hdl(&self) -> Verilog {
        Verilog::Custom(format!(
            "\
reg [{last}:0] line;
always @(posedge clock) begin
    {{delayed, line}} <= {{line, data}};
end
",
            last = T::BITS * (self._cycles - 1) - 1,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn delays_by_its_number_of_cycles() {
        for cycles in [2, 5] {
            let line: DelayLine<Bits<20>> = DelayLine::new(cycles);
            let mut bench = Bench::new(&format!("delay_line_{cycles}"), line);
            let mut random = seeded();
            let mut given = Vec::new();
            for t in 0..200 {
                let value = random.random_range(0..1u128 << 20);
                bench.set("data", value);
                bench.eval();
                if t >= cycles {
                    assert_eq!(bench.get("delayed"), given[t - cycles], "cycle {t}");
                }
                given.push(value);
                bench.cycle();
            }
        }
    }
}
