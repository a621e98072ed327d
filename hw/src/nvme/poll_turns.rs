//! Whose completion queue is read next: round robin over the polled paths that may have something outstanding.
//!
//! Purpose: a path may have something from the cycle in which a fragment is issued on it until it is forgotten. Whoever
//! reads its queue forgets that first, then looks, and keeps it if there is something; so nothing issued meanwhile is
//! missed.
//! Handshake: `found` says that a path stands in `next_path` in the next cycle. It is given back as `path` from the cycle
//! after on; `forget`, two cycles later at the earliest, ends its turn, `keep` may come any time after.
//! Latency: 2 cycles from `issued_valid` to `found`. Order: the lowest path above the last one, else the lowest.
//! Reset: nobody has anything, and the turn is at path 0. Failure: none.

use rust_hdl::prelude::*;

use super::path_encoder::PathEncoder;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PollTurns {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub issued_valid: Signal<In, bool>,
    pub issued_path: Signal<In, Bits<8>>,
    /// Bit i: path i is polled.
    pub polled: Signal<In, Bits<32>>,
    pub found: Signal<Out, bool>,
    pub next_path: Signal<Out, Bits<8>>,
    pub path: Signal<In, Bits<8>>,
    pub forget: Signal<In, bool>,
    pub keep: Signal<In, bool>,
    /// No polled path may have something.
    pub idle: Signal<Out, bool>,
    encoder: PathEncoder,
    /// Bit i: path i may have something.
    waiting: DFF<Bits<32>>,
    candidates: DFF<Bits<32>>,
    /// Paths above the one that had the last turn.
    above: DFF<Bits<32>>,
    path_bit: DFF<Bits<32>>,
    issued: DFF<bool>,
    issued_bit: DFF<Bits<32>>,
    recent: DFF<bool>,
    pending: DFF<bool>,
    eligible: Signal<Local, Bits<32>>,
    later: Signal<Local, Bits<32>>,
    negative: Signal<Local, Bits<32>>,
    kept: Signal<Local, Bits<32>>,
    zero32: Constant<Bits<32>>,
    one32: Constant<Bits<32>>,
}

impl Default for PollTurns {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            issued_valid: Default::default(),
            issued_path: Default::default(),
            polled: Default::default(),
            found: Default::default(),
            next_path: Default::default(),
            path: Default::default(),
            forget: Default::default(),
            keep: Default::default(),
            idle: Default::default(),
            encoder: Default::default(),
            waiting: Default::default(),
            candidates: Default::default(),
            above: Default::default(),
            path_bit: Default::default(),
            issued: Default::default(),
            issued_bit: Default::default(),
            recent: Default::default(),
            pending: Default::default(),
            eligible: Default::default(),
            later: Default::default(),
            negative: Default::default(),
            kept: Default::default(),
            zero32: Constant::new(0u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for PollTurns {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, waiting, candidates, above, path_bit, issued, issued_bit, recent, pending);
        self.issued.d.next = self.issued_valid.val();
        self.issued_bit.d.next = self.zero32.val();
        if self.issued_valid.val() {
            self.issued_bit.d.next = (self.one32.val() << bit_cast::<32, 8>(self.issued_path.val()));
        }
        self.path_bit.d.next = (self.one32.val() << bit_cast::<32, 8>(self.path.val()));
        self.negative.next = self.zero32.val() - self.path_bit.q.val();

        // What is issued wins over what is forgotten.
        self.kept.next = self.waiting.q.val();
        if self.forget.val() {
            self.kept.next = self.waiting.q.val() & !self.path_bit.q.val();
            self.above.d.next = self.negative.val() ^ self.path_bit.q.val();
        }
        if self.keep.val() {
            self.kept.next = self.waiting.q.val() | self.path_bit.q.val();
        }
        self.waiting.d.next = self.kept.val() | self.issued_bit.q.val();

        self.eligible.next = self.waiting.q.val() & self.polled.val();
        self.later.next = self.eligible.val() & self.above.q.val();
        self.candidates.d.next = self.eligible.val();
        if self.later.val().any() {
            self.candidates.d.next = self.later.val();
        }
        self.encoder.candidates.next = self.candidates.q.val();
        self.next_path.next = self.encoder.lowest.val();
        self.found.next = self.eligible.val().any();
        self.recent.d.next = self.issued.q.val();
        self.pending.d.next = self.eligible.val().any();
        self.idle.next = !self.issued.q.val() & !self.recent.q.val() & !self.pending.q.val();

        if self.reset.val() {
            self.waiting.d.next = self.zero32.val();
            self.above.d.next = self.zero32.val();
            self.issued.d.next = false;
            self.issued_bit.d.next = self.zero32.val();
            self.recent.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn everybody_who_may_have_something_has_a_turn() {
        let mut bench = Bench::new("poll_turns", PollTurns::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        // Who waits, and what was issued a cycle ago.
        let (mut waiting, mut issued) = (0u32, 0u32);
        let (mut last, mut turns, mut none) = (None::<u32>, [0u32; 32], 0);
        let mut polled = u32::MAX;
        let mut step = |bench: &mut Bench, random: &mut rand_chacha::ChaCha8Rng, busy: bool| {
            let path = random.random_range(0..32u32);
            let issue = random.random_bool(if busy { 0.3 } else { 0.02 });
            bench.set("issued_valid", issue.into());
            bench.set("issued_path", path.into());
            bench.cycle();
            std::mem::replace(&mut issued, u32::from(issue) << path)
        };
        for turn in 0..20_000 {
            let busy = turn / 500 % 2 == 0;
            if random.random_bool(0.05) {
                polled = random.random::<u32>() | 0x8000_0001;
                bench.set("polled", polled.into());
            }
            bench.set("polled", polled.into());
            bench.eval();
            let eligible = waiting & polled;
            assert_eq!(bench.get("found") == 1, eligible != 0, "turn {turn}");
            waiting |= step(&mut bench, &mut random, busy);
            if eligible == 0 {
                none += 1;
                continue;
            }
            let later = eligible & last.map_or(0, |last| (u64::MAX << (last + 1)) as u32);
            let expected = if later != 0 { later } else { eligible }.trailing_zeros();
            assert_eq!(bench.get("next_path"), expected.into(), "turn {turn}");
            waiting |= step(&mut bench, &mut random, busy);
            bench.set("path", expected.into());
            waiting |= step(&mut bench, &mut random, busy);
            bench.set("forget", 1);
            waiting = waiting & !(1 << expected) | step(&mut bench, &mut random, busy);
            bench.set("forget", 0);
            for _ in 0..random.random_range(0..3) {
                waiting |= step(&mut bench, &mut random, busy);
            }
            if random.random_bool(0.3) {
                bench.set("keep", 1);
                waiting |= 1 << expected | step(&mut bench, &mut random, busy);
                bench.set("keep", 0);
            }
            (last, turns[expected as usize]) = (Some(expected), turns[expected as usize] + 1);
        }
        assert!(turns.iter().all(|&turns| turns > 50) && none > 100, "{turns:?}, {none} without");
    }
}
