//! Two streams in one, without a register for the data: what is taken from `out` is taken from one of the two in
//! the same cycle. The first goes before the second; an item that is offered stays until it is taken.
//!
//! Who is given stands in registers, since all bits of the data hang on it. Latency 1 cycle, throughput an item every
//! 2 cycles, the order of each kept. Reset forgets which one is offered.

use rust_hdl::prelude::*;

use super::stream::{StreamIn, StreamOut};

/// See the module's header.
#[derive(Clone, Debug, Default, LogicBlock)]
pub struct Choice<T: Synth> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub first: StreamIn<T>,
    pub second: StreamIn<T>,
    pub out: StreamOut<T>,
    /// Which one is offered; neither in the cycle after one was taken.
    gives_first: DFF<bool>,
    gives_second: DFF<bool>,
    /// It is the second's data that is shown: for the data alone.
    shows_second: DFF<bool>,
    free: Signal<Local, bool>,
}

impl<T: Synth> Logic for Choice<T> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, gives_first, gives_second, shows_second);
        self.free.next = !self.gives_first.q.val() & !self.gives_second.q.val();
        self.out.valid.next = self.gives_first.q.val() | self.gives_second.q.val();
        self.out.data.next = self.first.data.val();
        if self.shows_second.q.val() {
            self.out.data.next = self.second.data.val();
        }
        self.first.ready.next = self.out.ready.val() & self.gives_first.q.val();
        self.second.ready.next = self.out.ready.val() & self.gives_second.q.val();
        if self.out.ready.val() {
            self.gives_first.d.next = false;
            self.gives_second.d.next = false;
        }
        if self.free.val() {
            self.gives_first.d.next = self.first.valid.val();
            self.gives_second.d.next = self.second.valid.val() & !self.first.valid.val();
            self.shows_second.d.next = !self.first.valid.val();
        }
        if self.reset.val() {
            self.gives_first.d.next = false;
            self.gives_second.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn offers_one_of_both_until_it_is_taken() {
        let mut bench = Bench::new("choice", Choice::<Bits<20>>::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut next = [0u128, 1 << 19];
        let mut offered = [false; 2];
        let (mut held, mut taken) = (None, [0; 2]);
        let (mut due, mut first_before) = (false, false);
        for _ in 0..10_000 {
            for (i, port) in ["first", "second"].into_iter().enumerate() {
                offered[i] |= random.random_bool(0.4);
                bench.set(&format!("{port}$valid"), offered[i].into());
                bench.set(&format!("{port}$data"), next[i]);
            }
            let ready = random.random_bool(0.5);
            bench.set("out$ready", ready.into());
            bench.eval();
            let data = bench.get("out$data");
            // Offered in the cycle after it came, or two after one was taken.
            assert_eq!(bench.get("out$valid") == 1, due);
            let was_due = due;
            due = if due { !ready } else { offered[0] || offered[1] };
            if !was_due {
                first_before = offered[0];
            } else {
                assert!(held.is_none_or(|held| held == data), "the offer changed");
                let which = usize::from(data >> 19 == 1);
                assert!(offered[which] && data == next[which]);
                assert!(which == 0 || !first_before || held.is_some(), "the first goes first");
                held = (!ready).then_some(data);
                assert_eq!(bench.get(["first$ready", "second$ready"][which]) == 1, ready);
                assert_eq!(bench.get(["second$ready", "first$ready"][which]), 0);
                if ready {
                    (offered[which], taken[which]) = (false, taken[which] + 1);
                    next[which] += 1;
                }
            }
            bench.cycle();
        }
        assert!(taken.iter().all(|&taken| taken > 1_000), "{taken:?}");
    }
}
