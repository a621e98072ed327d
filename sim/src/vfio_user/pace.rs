//! The card's time.
//!
//! It follows the wall clock, because what the card waits for, the client's SSDs, lives by it, and it never runs ahead:
//! a time-out may come late, never early. The simulated card is some thousand times slower than the real one, though,
//! so that while it works it must not find its own slowness overdue: a cycle in which it works counts for `CYCLE_NS_MAX`
//! at most. A time-out under load so comes later by what a cycle takes beyond that, some 20 times; while the card is
//! idle, as it is when an SSD does not answer and nothing else is to be done, it comes on time.
//!
//! `ticks`, the number, goes with that time, some at once where need be; `tick`, the pulse, which coalescing counts,
//! comes once for all of them and at most every `PULSE_CYCLES_MIN` cycles, the shortest that the differential tests
//! have. An idle card is given `IDLE_PULSES_MAX` pulses one by one, and then sleeps: until something comes, or, while
//! it watches for what is overdue, until it looks next.

use volplane_abi::plan::TIME_OUT_SHIFT;

/// A tick.
const TICK_NS: u64 = 1_000;
/// Most that a cycle counts for in which the card works: four cycles a tick, so that a look for what is overdue, which
/// takes some 2,060 of them, is over before the next is due.
const CYCLE_NS_MAX: u64 = 250;
/// Fewest cycles from pulse to pulse.
const PULSE_CYCLES_MIN: u32 = 20;
/// Pulses given to an idle card one by one.
const IDLE_PULSES_MAX: u32 = 64;
/// Time between two looks for what is overdue.
const LOOK_NS: u64 = TICK_NS << TIME_OUT_SHIFT;

/// What an idle card is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// To be clocked, with or without a pulse.
    Clock { pulse: bool },
    /// To sleep for so many ns at most,
    Sleep(u64),
    /// or until something comes.
    Wait,
}

#[derive(Default)]
pub(super) struct Pace {
    /// Wall-clock time up to which the card's time was told.
    wall_ns: u64,
    card_ns: u64,
    /// Card's time of the last pulse.
    pulse_ns: u64,
    cycles: u32,
    idle_pulses: u32,
}

impl Pace {
    /// The card's time.
    pub(super) fn now_ns(&self) -> u64 {
        self.card_ns
    }

    /// Ticks since the start, modulo 2^32.
    pub(super) fn ticks(&self) -> u32 {
        (self.card_ns / TICK_NS) as u32
    }

    /// Moves on to `wall_ns`, by at most `most_ns`.
    fn advance(&mut self, wall_ns: u64, most_ns: u64) {
        self.card_ns += wall_ns.saturating_sub(self.wall_ns).min(most_ns);
        self.wall_ns = self.wall_ns.max(wall_ns);
    }

    /// A cycle of a card that works, at `wall_ns`: whether it comes with a pulse. `moves`: something is on its wires.
    pub(super) fn work(&mut self, wall_ns: u64, moves: bool) -> bool {
        self.advance(wall_ns, CYCLE_NS_MAX);
        self.cycles = self.cycles.saturating_add(1);
        if moves {
            self.idle_pulses = 0;
        }
        let due = self.card_ns / TICK_NS > self.pulse_ns / TICK_NS && self.cycles >= PULSE_CYCLES_MIN;
        if due {
            self.pulsed();
        }
        due
    }

    /// What a card is to do at `wall_ns` that only time can change; `timing`: it watches for what is overdue.
    pub(super) fn rest(&mut self, wall_ns: u64, timing: bool) -> Rest {
        let before = self.card_ns / LOOK_NS;
        self.advance(wall_ns, u64::MAX);
        let looks = timing && self.card_ns / LOOK_NS > before;
        let walks = self.idle_pulses < IDLE_PULSES_MAX;
        let pulse = walks && self.card_ns / TICK_NS > self.pulse_ns / TICK_NS;
        if pulse || looks {
            self.idle_pulses += u32::from(pulse);
            self.pulsed();
            return Rest::Clock { pulse };
        }
        match (walks, timing) {
            (true, _) => Rest::Sleep(TICK_NS - self.card_ns % TICK_NS),
            (false, true) => Rest::Sleep(LOOK_NS - self.card_ns % LOOK_NS),
            (false, false) => Rest::Wait,
        }
    }

    fn pulsed(&mut self) {
        (self.pulse_ns, self.cycles) = (self.card_ns, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_card_lags_and_is_never_ahead() {
        let mut pace = Pace::default();
        let mut pulses = 0;
        for cycle in 1..=4_000 {
            pulses += u32::from(pace.work(cycle * 5_000, true));
        }
        assert_eq!((pace.now_ns(), pace.ticks()), (1_000_000, 1_000));
        assert_eq!(pulses, 200, "every 20 cycles");
        let mut quick = Pace::default();
        for cycle in 1..=4_000 {
            quick.work(cycle * 10, true);
        }
        assert_eq!(quick.now_ns(), 40_000, "no faster than the wall clock");
    }

    #[test]
    fn an_idle_card_walks_then_sleeps_and_looks_in_time() {
        let mut pace = Pace::default();
        assert_eq!(pace.rest(400, false), Rest::Sleep(600));
        for pulse in 1..=64 {
            assert_eq!(pace.rest(pulse * 1_000, true), Rest::Clock { pulse: true });
            pace.work(pulse * 1_000, false);
        }
        assert_eq!(pace.rest(64_500, false), Rest::Wait);
        assert_eq!(pace.rest(64_500, true), Rest::Sleep(LOOK_NS - 64_500));
        assert_eq!(pace.rest(LOOK_NS + 5, true), Rest::Clock { pulse: false });
        assert_eq!(pace.rest(LOOK_NS + 6, true), Rest::Sleep(LOOK_NS - 6));
        assert_eq!(pace.ticks(), 1_024);
        pace.work(LOOK_NS + 7, true);
        assert!(matches!(pace.rest(LOOK_NS + 2_000, true), Rest::Clock { pulse: true }));
    }
}
