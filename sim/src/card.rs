//! The Verilated card and the bus around its ports, cycle by cycle.
//!
//! A cycle: the inputs stand and the clock is low, the outputs settle; what the card gives is taken;
//! the clock rises; the inputs of the next cycle are set. Inputs of the card depend on nothing that
//! it gives in the same cycle.

mod checker;
#[cfg(test)]
mod master_tests;
mod memory_slave;
mod model;
mod plan_trace;
mod port_list;
mod register_master;
mod stalls;
#[cfg(test)]
mod tests;
mod window_master;

use volplane_abi::registers;
use volplane_driver::Bar;

use crate::card_bus::CardBus;
use crate::config::{CardConfig, ConfigError, TraceConfig};
use crate::probe::{PlanRecord, Recorder};
use crate::simulator::CYCLE_NS;

pub use model::CARD_WIDTHS;

use checker::Errors;
use memory_slave::MemorySlave;
use model::Model;
use port_list::Port;
use register_master::RegisterMaster;
use stalls::Stalls;
use window_master::WindowMaster;

pub(crate) use volplane_driver::pci::{CARD_CLASS as CLASS, CARD_DEVICE as DEVICE, CARD_VENDOR as VENDOR};
/// Bytes of BAR2: the completion windows.
pub(crate) const BAR2_BYTES: u64 = 32 << registers::WINDOW_SHIFT;
/// Cycles after a tick in which it takes effect.
pub(crate) const TICK_SETTLE_CYCLES: u32 = 6;
/// Cycles without anything on the wires after which an idle card may be left alone: what it was given
/// last has reached `idle` by then.
const QUIET_CYCLES: u32 = 16;
/// Cycles the reset port is held.
const RESET_CYCLES: u32 = 16;

/// The card.
pub(crate) struct Card {
    model: Model,
    config: CardConfig,
    seed: u64,
    memory: MemorySlave,
    registers: RegisterMaster,
    windows: WindowMaster,
    stalls: Stalls,
    errors: Errors,
    /// Cycles evaluated.
    cycle: u64,
    quiet: u32,
    on_wires: bool,
    window_wait_max: u32,
    /// Cycles in a row in which admission is held, and the most there were.
    held: u32,
    held_max: u32,
    plans: Recorder<PlanRecord>,
}

impl Card {
    pub(crate) fn new(config: &CardConfig, seed: u64) -> Result<Self, ConfigError> {
        let missing = || ConfigError::Card(format!("there is none of {} bits", config.width));
        if config.stalls_of_256 > 250 {
            return Err(ConfigError::Card("channels may stall 250 cycles of 256, not more".into()));
        }
        let mut model = Model::new(config.width).ok_or_else(missing)?;
        if let Some(trace) = &config.trace {
            let opened = model.trace(&trace.path);
            opened.map_err(|error| ConfigError::Card(format!("{}: {error}", trace.path.display())))?;
        }
        Ok(Self {
            model,
            memory: MemorySlave::new(config.read_latency_cycles, config.write_latency_cycles),
            registers: RegisterMaster::new(),
            windows: WindowMaster::new(config.window_wait_max, config.window_merge_of_256, seed),
            stalls: Stalls::new(config.stalls_of_256, seed),
            errors: Errors::default(),
            cycle: 0,
            quiet: 0,
            on_wires: false,
            window_wait_max: 0,
            held: 0,
            held_max: 0,
            plans: Recorder::new(config.record_plans),
            config: config.clone(),
            seed,
        })
    }

    /// Resets the card by its port; what was on its wires is gone. Returns the cycles it took.
    pub(crate) fn reset(&mut self) -> u64 {
        self.window_wait_max = self.window_wait_max();
        self.memory = MemorySlave::new(self.config.read_latency_cycles, self.config.write_latency_cycles);
        self.registers = RegisterMaster::new();
        let config = &self.config;
        self.windows = WindowMaster::new(config.window_wait_max, config.window_merge_of_256, self.seed);
        let ports = &mut self.model.ports;
        for port in [
            Port::Tick,
            Port::Bar0Awvalid,
            Port::Bar0Wvalid,
            Port::Bar0Bready,
            Port::Bar0Arvalid,
            Port::Bar0Rready,
            Port::MAwready,
            Port::MWready,
            Port::MBvalid,
            Port::MArready,
            Port::MRvalid,
            Port::Bar2Awvalid,
            Port::Bar2Wvalid,
            Port::Bar2Bready,
            Port::Bar2Arvalid,
            Port::Bar2Rready,
        ] {
            ports.set_flag(port, false);
        }
        ports.set_flag(Port::Reset, true);
        for _ in 0..RESET_CYCLES {
            self.settle();
            self.rise();
        }
        self.model.ports.set_flag(Port::Reset, false);
        self.quiet = 0;
        u64::from(RESET_CYCLES)
    }

    /// One cycle; `tick` tells the card that a microsecond has passed, `ticks` is their number since power-up.
    #[inline]
    pub(crate) fn cycle<B: CardBus>(&mut self, bus: &mut B, tick: bool, ticks: u32) {
        self.model.ports.set_flag(Port::Tick, tick);
        self.model.ports.set_word(Port::Ticks, ticks);
        self.settle();
        self.errors.cycle = self.cycle;
        let ports = &self.model.ports;
        self.memory.sample(ports, bus, &mut self.errors);
        self.registers.sample(ports, &mut self.errors);
        self.windows.sample(ports, bus, &mut self.errors);
        self.held = if ports.flag(Port::TraceHeld) { self.held + 1 } else { 0 };
        self.held_max = self.held_max.max(self.held);
        let cycle = self.cycle;
        if self.plans.is_on() {
            plan_trace::sample(ports, (cycle, bus.now_ns()), &mut self.plans);
        }
        self.rise();
        self.stalls.next();
        let ports = &mut self.model.ports;
        self.memory.drive(ports, bus, &self.stalls, cycle);
        self.registers.drive(ports, &self.stalls);
        self.windows.drive(ports, bus, &self.stalls);
        self.on_wires = !(self.memory.is_idle(ports) && self.registers.is_idle() && self.windows.is_idle());
        self.quiet = if ports.flag(Port::Idle) && !self.on_wires { self.quiet + 1 } else { 0 };
    }

    /// The outputs follow the inputs.
    #[inline]
    fn settle(&mut self) {
        self.model.ports.set_flag(Port::Clock, false);
        self.model.eval();
        if self.config.trace.is_some() {
            self.dump(0);
        }
    }

    /// The clock rises.
    #[inline]
    fn rise(&mut self) {
        self.model.ports.set_flag(Port::Clock, true);
        self.model.eval();
        if self.config.trace.is_some() {
            self.dump(CYCLE_NS / 2);
        }
        self.cycle += 1;
    }

    #[cold]
    fn dump(&mut self, phase_ns: u64) {
        let Some(TraceConfig { from_cycle, to_cycle, .. }) = self.config.trace else { return };
        if (from_cycle..to_cycle).contains(&self.cycle) {
            self.model.dump(self.cycle * CYCLE_NS + phase_ns);
        } else if self.cycle == to_cycle {
            self.model.flush();
        }
    }

    /// Whether only time can change the card.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet >= QUIET_CYCLES && self.registers.is_idle() && self.windows.is_idle()
    }

    /// Whether a fragment may become overdue, so that time goes in steps of `TIME_OUT_SHIFT`.
    #[inline]
    pub(crate) fn is_timing(&self) -> bool {
        self.model.ports.flag(Port::Timing)
    }

    /// Whether anything was on the wires in the last cycle, or waits for them.
    #[inline]
    pub(crate) fn is_on_wires(&self) -> bool {
        self.on_wires
    }

    /// Queues a write of the host; the caller has seen that there is room.
    pub(crate) fn post(&mut self, offset: u32, value: u32) {
        self.registers.post(offset, value);
    }

    /// Writes of the host that wait.
    pub(crate) fn posted(&self) -> usize {
        self.registers.posted()
    }

    /// Asks for 4 bytes of a BAR.
    pub(crate) fn ask(&mut self, bar: Bar, offset: u64) {
        match bar {
            Bar::Bar0 => self.registers.ask(offset as u32),
            Bar::Bar2 => self.windows.ask(offset),
        }
    }

    pub(crate) fn has_answer(&self) -> bool {
        self.registers.has_answer() || self.windows.has_answer()
    }

    /// The answer; without one the question is given up.
    pub(crate) fn take_answer(&mut self) -> Option<u32> {
        let (register, window) = (self.registers.take_answer(), self.windows.take_answer());
        register.or(window)
    }

    pub(crate) fn protocol_errors(&self) -> &[String] {
        self.errors.list()
    }

    pub(crate) fn window_wait_max(&self) -> u32 {
        self.window_wait_max.max(self.windows.wait_max())
    }

    pub(crate) fn admission_pause_max(&self) -> u32 {
        self.held_max
    }

    /// Events of plans since they were last taken, and how many found no room.
    pub(crate) fn take_plan_events(&mut self) -> (Vec<PlanRecord>, u64) {
        self.plans.take()
    }

    pub(crate) fn irq(&self) -> u32 {
        self.model.ports.word(Port::Irq)
    }
}
