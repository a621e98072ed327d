//! Two streams in one, with no cycle in between: the second goes while the first offers nothing.
//!
//! Handshake: an item of the second may be put off as long as it was not taken, so who takes from `out` looks at
//! nothing before the cycle in which it does. No latency, throughput one item a cycle, the order of each kept. No state.

use rust_hdl::prelude::*;

use super::stream::{StreamIn, StreamOut};

/// See the module's header.
#[derive(Clone, Debug, Default, LogicBlock)]
pub struct Priority<T: Synth> {
    pub first: StreamIn<T>,
    pub second: StreamIn<T>,
    pub out: StreamOut<T>,
}

impl<T: Synth> Logic for Priority<T> {
    #[hdl_gen]
    fn update(&mut self) {
        self.out.valid.next = self.first.valid.val() | self.second.valid.val();
        self.out.data.next = self.second.data.val();
        if self.first.valid.val() {
            self.out.data.next = self.first.data.val();
        }
        self.first.ready.next = self.out.ready.val();
        self.second.ready.next = self.out.ready.val() & !self.first.valid.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn the_first_is_never_kept_waiting() {
        let mut bench = Bench::new("priority", Priority::<Bits<20>>::default());
        let mut random = seeded();
        let mut taken = [0; 2];
        for _ in 0..5_000 {
            let offered: [bool; 2] = random.random();
            let data: [u128; 2] = [random.random_range(0..1 << 20), random.random_range(0..1 << 20)];
            let ready = random.random_bool(0.5);
            for (i, port) in ["first", "second"].into_iter().enumerate() {
                bench.set(&format!("{port}$valid"), offered[i].into());
                bench.set(&format!("{port}$data"), data[i]);
            }
            bench.set("out$ready", ready.into());
            bench.eval();
            let which = usize::from(!offered[0]);
            assert_eq!(bench.get("out$valid") == 1, offered[0] || offered[1]);
            assert!(!offered[which] || bench.get("out$data") == data[which]);
            assert_eq!(bench.get("first$ready") == 1, ready);
            assert_eq!(bench.get("second$ready") == 1, ready && !offered[0]);
            taken[which] += u32::from(ready && offered[which]);
        }
        assert!(taken.iter().all(|&taken| taken > 500), "{taken:?}");
    }
}
