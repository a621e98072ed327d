//! Time: what is due happens, the card is clocked, and time in which nothing can happen is skipped.
//!
//! A cycle of the card is 4 ns. While the card says `idle` and nothing is on its wires, only ticks
//! (one each `tick_ns`, a µs) can change it: up to `idle_ticks_max` of them are delivered one by one, each with a
//! few cycles to take effect, then the rest of the time to the next event is skipped without ticks. The card is told
//! how many there were; while it says `timing`, it is clocked again as often as it looks for what is overdue.

use std::io;

use volplane_driver::{AccessError, Bar};

use crate::bus::{Bus, Layout};
use crate::card::Card;
use crate::config::{ConfigError, SimulatorConfig};
use crate::faults::{Fault, FaultId};
use crate::host_memory::HostMemory;
use crate::ssd::{self, Namespace, Ssd};

/// Nanoseconds of a card cycle: 250 MHz.
pub(crate) const CYCLE_NS: u64 = 4;
/// Posted register writes that may wait in front of the card.
const POSTED_MAX: usize = 256;

/// How much was simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Cycles in which the card was evaluated.
    pub cycles_evaluated: u64,
    /// Cycles that were skipped because the card was idle.
    pub cycles_skipped: u64,
}

/// When `run` returns before its time is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Only at the end of its time.
    Time,
    /// When an interrupt was raised, or host memory was written and nothing else is to be done now.
    News,
    /// When the card answered a register read.
    Answer,
    /// When there is room for a posted write.
    Room,
}

/// The simulated machine.
pub(crate) struct Simulator {
    pub(crate) config: SimulatorConfig,
    pub(crate) bus: Bus,
    pub(crate) ssds: Vec<Ssd>,
    pub(crate) card: Option<Card>,
    pub(crate) opened: Vec<bool>,
    pub(crate) frozen: bool,
    pub(crate) counters: Counters,
    tick_ns: u64,
    next_tick_ns: u64,
    idle_ticks: u32,
}

impl Simulator {
    pub(crate) fn new(config: SimulatorConfig) -> Result<Self, ConfigError> {
        for (number, ssd) in config.ssds.iter().enumerate() {
            if config.ssds[..number].iter().any(|other| other.name == ssd.name) {
                return Err(ConfigError::Ssd {
                    name: ssd.name.clone(),
                    what: "the name is used twice".into(),
                });
            }
        }
        let ssds: Vec<Ssd> = config
            .ssds
            .iter()
            .zip(Namespace::of_all(&config.ssds)?)
            .enumerate()
            .map(|(number, (ssd, namespace))| {
                Ssd::new(ssd, number, config.seed, config.record_commands, namespace)
            })
            .collect();
        let card = config.card.as_ref().map(|card| Card::new(card, config.seed)).transpose()?;
        let tick_ns = config.card.as_ref().map_or(1_000, |card| card.tick_ns.max(CYCLE_NS));
        let layout = Layout {
            ssds: ssds.len(),
            ssd_bar0_bytes: ssd::BAR0_BYTES,
            card_bar2_bytes: card.as_ref().map_or(0, |_| crate::card::BAR2_BYTES),
        };
        let mut bus = Bus::new(layout, config.seed, config.visibility_delay_ns, config.record_bus);
        if let Some(delay_ns) = config.ssd_visibility_delay_ns {
            bus.delay_ssds(config.seed, delay_ns);
        }
        config.check_memory()?;
        bus.memory = HostMemory::starting_at(config.iova_first);
        let mut simulator = Self {
            bus,
            opened: vec![false; ssds.len() + 1],
            ssds,
            card,
            frozen: false,
            counters: Counters::default(),
            tick_ns,
            next_tick_ns: tick_ns,
            idle_ticks: 0,
            config,
        };
        simulator.reset_card();
        Ok(simulator)
    }

    /// Lets time pass until `deadline_ns`, for one quantum, or until there is news.
    pub(crate) fn wait(&mut self, deadline_ns: u64) -> Result<(), AccessError> {
        let cycles = (self.config.wait_quantum_ns / CYCLE_NS).max(1);
        self.run(deadline_ns, cycles, Until::News);
        self.bus.take_raised();
        self.bus.take_written();
        self.check_protocol()
    }

    /// Starts a fault of an SSD.
    pub(crate) fn start_fault(&mut self, ssd: usize, fault: &Fault) -> FaultId {
        let id = self.ssds[ssd].start_fault(&mut self.bus, fault);
        for other in self.ssds[ssd].struck_by(fault).into_iter().filter(|&other| other != ssd) {
            self.ssds[other].expect_death(&mut self.bus, id, fault);
        }
        id
    }

    /// Stops a fault; what it delayed stays late, what it killed comes back.
    pub(crate) fn stop_fault(&mut self, id: FaultId) {
        for ssd in &mut self.ssds {
            ssd.stop_fault(&self.bus, id);
        }
    }

    /// Lets `ns` of simulated time pass.
    pub(crate) fn run_for_ns(&mut self, ns: u64) -> Result<(), AccessError> {
        self.run(self.bus.now_ns().saturating_add(ns), u64::MAX, Until::Time);
        self.check_protocol()
    }

    /// A broken protocol fails the run.
    fn check_protocol(&self) -> Result<(), AccessError> {
        match self.card.as_ref().and_then(|card| card.protocol_errors().first()) {
            None => Ok(()),
            Some(error) => Err(AccessError::System {
                what: format!("the card broke the AXI protocol: {error}"),
                source: io::Error::from(io::ErrorKind::InvalidData),
            }),
        }
    }

    fn run(&mut self, until_ns: u64, cycles_max: u64, until: Until) {
        let mut cycles = 0;
        loop {
            self.happen();
            let done = match until {
                Until::Time => false,
                Until::News => self.bus.is_raised(),
                Until::Answer => self.card.as_ref().is_none_or(Card::has_answer),
                Until::Room => self.card.as_ref().is_none_or(|card| card.posted() < POSTED_MAX),
            };
            if done || self.bus.now_ns() >= until_ns || cycles >= cycles_max {
                return;
            }
            let clocked = self.card.is_some() && !self.frozen;
            if clocked && !self.is_quiet() {
                self.cycle();
                if self.card.as_ref().is_some_and(Card::is_on_wires) {
                    self.idle_ticks = 0;
                }
                cycles += 1;
                continue;
            }
            if until == Until::News && self.bus.is_written() {
                return;
            }
            let next_ns = self.bus.next_ns().map_or(until_ns, |next_ns| next_ns.min(until_ns));
            if clocked {
                cycles += self.skip(next_ns);
            } else {
                self.bus.set_now_ns(next_ns);
                cycles += 1;
            }
        }
    }

    /// Lets everything happen that is due.
    #[inline]
    fn happen(&mut self) {
        self.bus.show_due_writes();
        let now_ns = self.bus.now_ns();
        while let Some((ssd, event)) = self.bus.events.take_due(now_ns) {
            self.ssds[ssd].handle(&mut self.bus, event);
        }
        self.ring();
    }

    /// Delivers the card's doorbell writes.
    #[inline]
    pub(crate) fn ring(&mut self) {
        while let Some(write) = self.bus.doorbell_writes.pop_front() {
            self.ssds[write.ssd].write_register(&mut self.bus, write.offset, write.value);
        }
    }

    #[inline]
    fn is_quiet(&self) -> bool {
        self.card.as_ref().is_none_or(Card::is_quiet) && self.bus.window_writes.is_empty()
    }

    /// One cycle of the card.
    #[inline]
    fn cycle(&mut self) {
        let now_ns = self.bus.now_ns();
        let tick = now_ns >= self.next_tick_ns;
        if tick {
            // Ticks missed by a stopped clock are not made up for.
            let due_ns = self.next_tick_ns + self.tick_ns;
            self.next_tick_ns = if due_ns > now_ns { due_ns } else { now_ns + self.tick_ns };
        }
        if let Some(card) = &mut self.card {
            card.cycle(&mut self.bus, tick, (now_ns / self.tick_ns) as u32);
        }
        self.counters.cycles_evaluated += 1;
        self.bus.set_now_ns(now_ns + CYCLE_NS);
    }

    /// Skips idle time, to the next tick or to `next_ns`; returns cycles evaluated.
    fn skip(&mut self, next_ns: u64) -> u64 {
        let walk = self.config.card.as_ref().is_some_and(|card| self.idle_ticks < card.idle_ticks_max);
        let now_ns = self.bus.now_ns();
        // The card looks at what is overdue as often as this.
        let each_ns = self.tick_ns << volplane_abi::plan::TIME_OUT_SHIFT;
        let look_ns = (now_ns / each_ns + 1) * each_ns;
        let looks = self.card.as_ref().is_some_and(Card::is_timing);
        let mut target_ns = next_ns;
        if walk {
            target_ns = target_ns.min(self.next_tick_ns);
        }
        if looks {
            target_ns = target_ns.min(look_ns);
        }
        let cycles = target_ns.saturating_sub(now_ns).div_ceil(CYCLE_NS);
        self.counters.cycles_skipped += cycles;
        self.bus.set_now_ns(now_ns + cycles * CYCLE_NS);
        if !walk {
            self.next_tick_ns = self.bus.now_ns() + self.tick_ns;
        }
        let ticked = walk && self.bus.now_ns() >= self.next_tick_ns;
        if ticked {
            self.idle_ticks += 1;
        }
        let due = ticked || looks && self.bus.now_ns() >= look_ns;
        if !due {
            return 0;
        }
        self.cycle();
        // The card stays quiet unless the tick changed something, so the count goes on.
        for _ in 0..crate::card::TICK_SETTLE_CYCLES {
            if !self.is_quiet() {
                break;
            }
            self.cycle();
        }
        1 + u64::from(crate::card::TICK_SETTLE_CYCLES)
    }

    /// Resets the card through its reset port; what waits on its wires is gone.
    pub(crate) fn reset_card(&mut self) {
        if let Some(card) = &mut self.card {
            let cycles = card.reset();
            self.bus.drop_window_writes();
            self.counters.cycles_evaluated += cycles;
        }
    }

    fn no_answer(&self, what: &'static str) -> AccessError {
        let waited = std::time::Duration::from_nanos(self.config.answer_deadline_ns);
        AccessError::NoAnswer { function: "sim:card".into(), what, waited }
    }

    fn answer_deadline_ns(&self) -> u64 {
        self.bus.now_ns() + self.config.answer_deadline_ns
    }

    /// A posted write of the host to the card.
    pub(crate) fn write_card(&mut self, bar: Bar, offset: u64, value: u32) -> Result<(), AccessError> {
        if self.card.as_ref().is_some_and(|card| card.posted() >= POSTED_MAX) {
            self.run(self.answer_deadline_ns(), u64::MAX, Until::Room);
            self.check_protocol()?;
        }
        match &mut self.card {
            Some(card) if card.posted() < POSTED_MAX => {
                match bar {
                    Bar::Bar0 => card.post(offset as u32, value),
                    Bar::Bar2 => self.bus.write_window(offset, &value.to_le_bytes()),
                }
                Ok(())
            }
            _ => Err(self.no_answer("a posted write")),
        }
    }

    /// A read of the host from the card.
    pub(crate) fn read_card(&mut self, bar: Bar, offset: u64) -> Result<u32, AccessError> {
        if let Some(card) = &mut self.card {
            card.ask(bar, offset);
        }
        self.run(self.answer_deadline_ns(), u64::MAX, Until::Answer);
        self.check_protocol()?;
        let answer = self.card.as_mut().and_then(Card::take_answer);
        // The answer pushes the card's earlier writes.
        self.bus.push_card_writes();
        answer.ok_or_else(|| self.no_answer("a register read"))
    }
}
