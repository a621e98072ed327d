//! Brings the card to a clean state after power-up and on request.
//!
//! On `request` (a pulse) `stop` rises: the bus masters begin no further burst, and once both have
//! been quiet the core is reset. `core_reset` is held for 8 cycles, after which the sequence waits for
//! `initialised` (identifiers and slots are counted out) and sets `ready`. The external reset enters at
//! the core reset: the bus is reset with it. A request while a sequence runs is served by that
//! sequence if the core is not yet being reset, else by another one.
//!
//! Latency: `ready` falls and `stop` rises one cycle after `request`; the core is reset as soon as the
//! bus has answered what it had accepted, at the earliest 8 cycles after `stop`, for a master may begin
//! a burst in the cycle in which it sees `stop`. Nothing here waits for anything but the bus.

use rust_hdl::prelude::*;

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    /// The core is in reset.
    Hold,
    /// Tables and identifiers are being initialised.
    Initialise,
    Ready,
    /// The masters finish their bursts.
    Drain,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct ResetSequence {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub request: Signal<In, bool>,
    pub read_quiet: Signal<In, bool>,
    pub write_quiet: Signal<In, bool>,
    pub initialised: Signal<In, bool>,
    pub stop: Signal<Out, bool>,
    pub core_reset: Signal<Out, bool>,
    pub ready: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,

    state: DFF<State>,
    held: DFF<Bits<3>>,
    again: DFF<bool>,
    stop_register: DFF<bool>,
    core_reset_register: DFF<bool>,
    ready_register: DFF<bool>,
    one: Constant<Bits<3>>,
    zero: Constant<Bits<3>>,
    long_enough: Constant<Bits<3>>,
}

impl Default for ResetSequence {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            request: Default::default(),
            read_quiet: Default::default(),
            write_quiet: Default::default(),
            initialised: Default::default(),
            stop: Default::default(),
            core_reset: Default::default(),
            ready: Default::default(),
            idle: Default::default(),
            state: Default::default(),
            held: Default::default(),
            again: Default::default(),
            stop_register: Default::default(),
            core_reset_register: Default::default(),
            ready_register: Default::default(),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            long_enough: Constant::new(7u64.to_bits()),
        }
    }
}

impl Logic for ResetSequence {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, state, held, again, stop_register, core_reset_register, ready_register);
        self.stop.next = self.stop_register.q.val();
        self.core_reset.next = self.core_reset_register.q.val();
        self.ready.next = self.ready_register.q.val();
        self.idle.next = (self.state.q.val() == State::Ready);
        if (self.held.q.val() != self.long_enough.val()) {
            self.held.d.next = self.held.q.val() + self.one.val();
        }

        match self.state.q.val() {
            State::Hold => {
                if self.request.val() {
                    self.again.d.next = true;
                }
                if (self.held.q.val() == self.long_enough.val()) {
                    self.core_reset_register.d.next = false;
                    self.stop_register.d.next = false;
                    self.held.d.next = self.zero.val();
                    self.state.d.next = State::Initialise;
                }
            }
            State::Initialise => {
                if self.request.val() | self.again.q.val() {
                    self.again.d.next = false;
                    self.stop_register.d.next = true;
                    self.held.d.next = self.zero.val();
                    self.state.d.next = State::Drain;
                } else if self.initialised.val() & (self.held.q.val() == self.long_enough.val()) {
                    self.ready_register.d.next = true;
                    self.state.d.next = State::Ready;
                }
            }
            State::Ready => {
                if self.request.val() {
                    self.ready_register.d.next = false;
                    self.stop_register.d.next = true;
                    self.held.d.next = self.zero.val();
                    self.state.d.next = State::Drain;
                }
            }
            State::Drain => {
                if self.read_quiet.val()
                    & self.write_quiet.val()
                    & (self.held.q.val() == self.long_enough.val())
                {
                    self.core_reset_register.d.next = true;
                    self.held.d.next = self.zero.val();
                    self.state.d.next = State::Hold;
                }
            }
            _ => {}
        }

        if self.reset.val() {
            self.state.d.next = State::Hold;
            self.held.d.next = self.zero.val();
            self.again.d.next = false;
            self.stop_register.d.next = true;
            self.core_reset_register.d.next = true;
            self.ready_register.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    fn start(name: &str) -> Bench {
        let mut bench = Bench::new(name, ResetSequence::default());
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench
    }

    /// Cycles until `port` is `value`.
    fn wait(bench: &mut Bench, port: &str, value: u128) -> u32 {
        for cycles in 0..100 {
            bench.eval();
            if bench.get(port) == value {
                return cycles;
            }
            bench.cycle();
        }
        panic!("{port} stays away from {value}");
    }

    #[test]
    fn resets_at_power_up_and_on_request() {
        let mut bench = start("reset_sequence_directed");
        assert_eq!((bench.get("core_reset"), bench.get("stop"), bench.get("ready")), (1, 1, 0));
        assert!(wait(&mut bench, "core_reset", 0) >= 4);
        for _ in 0..50 {
            bench.cycle();
            assert_eq!(bench.get("ready"), 0, "not before everything is initialised");
        }
        bench.set("initialised", 1);
        wait(&mut bench, "ready", 1);
        assert_eq!((bench.get("stop"), bench.get("idle")), (0, 1));

        bench.set("request", 1);
        bench.cycle();
        bench.set("request", 0);
        assert_eq!((bench.get("stop"), bench.get("ready"), bench.get("core_reset")), (1, 0, 0));
        bench.set("read_quiet", 1);
        for _ in 0..50 {
            bench.cycle();
            assert_eq!(bench.get("core_reset"), 0, "not while a write is in flight");
        }
        bench.set("write_quiet", 1);
        wait(&mut bench, "core_reset", 1);
        bench.set("initialised", 0);
        assert!(wait(&mut bench, "core_reset", 0) >= 4);
        bench.set("initialised", 1);
        wait(&mut bench, "ready", 1);
    }

    /// Masters that fall quiet some time after `stop`, blocks that need some time to initialise, and
    /// requests at any moment: what a reset promises holds in every cycle.
    #[test]
    fn holds_its_promises_in_any_order() {
        let mut bench = start("reset_sequence_random");
        let mut random = seeded();
        let (mut in_flight, mut to_initialise, mut held) = ([0u32; 2], 0u32, 0u32);
        let (mut resets, mut unserved, mut stopped) = (0u32, None::<u32>, 0u32);
        for _ in 0..50_000 {
            let request = random.random_bool(0.01);
            bench.set("request", request.into());
            bench.set("read_quiet", (in_flight[0] == 0).into());
            bench.set("write_quiet", (in_flight[1] == 0).into());
            bench.set("initialised", (to_initialise == 0).into());
            bench.eval();
            let (stop, core_reset, ready) =
                (bench.get("stop") == 1, bench.get("core_reset") == 1, bench.get("ready") == 1);
            assert!(!(ready && (core_reset || stop || to_initialise > 0)));
            if core_reset {
                assert_eq!(in_flight, [0, 0], "no burst is cut");
                to_initialise = random.random_range(1..60);
                held += 1;
                resets += u32::from(held == 1);
                unserved = if held == 1 { None } else { unserved };
            } else {
                assert!(held == 0 || held >= 4, "held for {held} cycles only");
                held = 0;
                to_initialise = to_initialise.saturating_sub(1);
            }
            // A master sees `stop` a cycle late.
            stopped = if stop { stopped + 1 } else { 0 };
            for bursts in &mut in_flight {
                if stopped < 2 && !core_reset && random.random_bool(0.3) {
                    *bursts = random.random_range(1..40);
                }
                *bursts = bursts.saturating_sub(1);
            }
            if request {
                unserved = unserved.or(Some(0));
            }
            unserved = unserved.map(|cycles| cycles + 1);
            assert!(unserved.is_none_or(|cycles| cycles < 200), "a request was forgotten");
            bench.cycle();
        }
        assert!(resets > 100, "{resets} resets");
    }
}
