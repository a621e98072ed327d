//! The simulator behind the driver's traits, and the handle by which a test looks into it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use volplane_abi::registers;
use volplane_driver::{AccessError, Bar, DmaMemory, Function, Iova, Platform};

use crate::bus::{InterruptFlags, CARD_BAR0, CARD_BAR2, INTERRUPT_WINDOW, SSD_BAR0, SSD_BAR0_STRIDE};
use crate::card::{self, BAR2_BYTES};
use crate::config::{ConfigError, SimulatorConfig};
use crate::faults::{Fault, FaultId, FaultReport};
use crate::host_memory::{HostMemory, Refusal};
use crate::probe::{BusRecord, CommandRecord, EndRecord, PlanRecord};
use crate::simulator::{Counters, Simulator};
use crate::ssd::{self, CommandFilter};

type Shared = Arc<Mutex<Simulator>>;

fn lock(simulator: &Shared) -> MutexGuard<'_, Simulator> {
    simulator.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The simulated machine, as a driver's platform. Functions are `sim:card` and `sim:<SSD name>`.
pub struct SimPlatform {
    simulator: Shared,
    memory: HostMemory,
    clock: Arc<AtomicU64>,
}

impl SimPlatform {
    /// Builds the machine that `config` describes.
    pub fn new(config: SimulatorConfig) -> Result<Self, ConfigError> {
        let simulator = Simulator::new(config)?;
        let (memory, clock) = (simulator.bus.memory.clone(), simulator.bus.clock());
        Ok(Self { simulator: Arc::new(Mutex::new(simulator)), memory, clock })
    }

    /// A handle for tests and tools; it works while the driver has the platform.
    pub fn handle(&self) -> SimHandle {
        SimHandle { simulator: self.simulator.clone(), memory: self.memory.clone() }
    }
}

impl Platform for SimPlatform {
    type Function = SimFunction;

    fn open(&mut self, address: &str) -> Result<SimFunction, AccessError> {
        let mut simulator = lock(&self.simulator);
        let missing = || AccessError::NoFunction(address.into());
        let name = address.strip_prefix("sim:").ok_or_else(missing)?;
        let device = if name == "card" {
            simulator.card.as_ref().map(|_| Device::Card).ok_or_else(missing)?
        } else {
            let number = simulator.ssds.iter().position(|ssd| ssd.name() == name);
            number.map(Device::Ssd).ok_or_else(missing)?
        };
        if std::mem::replace(&mut simulator.opened[device.index()], true) {
            return Err(AccessError::Busy(address.into()));
        }
        Ok(SimFunction {
            interrupts: simulator.bus.interrupts(device.index()),
            simulator: self.simulator.clone(),
            device,
            name: address.into(),
            command: Mutex::new(0),
        })
    }

    fn allocate(&mut self, bytes: usize) -> Result<DmaMemory, AccessError> {
        self.memory.allocate(bytes)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.clock.load(Ordering::Relaxed))
    }

    fn wait(&mut self, deadline: Duration) -> Result<(), AccessError> {
        let deadline_ns = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        lock(&self.simulator).wait(deadline_ns)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Card,
    Ssd(usize),
}

impl Device {
    /// Place among the functions of the bus.
    fn index(self) -> usize {
        match self {
            Device::Card => 0,
            Device::Ssd(number) => number + 1,
        }
    }

    fn bar(self, bar: Bar) -> (u64, u64) {
        match (self, bar) {
            (Device::Card, Bar::Bar0) => (CARD_BAR0, registers::BAR0_BYTES),
            (Device::Card, Bar::Bar2) => (CARD_BAR2, BAR2_BYTES),
            (Device::Ssd(number), Bar::Bar0) => (SSD_BAR0 + number as u64 * SSD_BAR0_STRIDE, ssd::BAR0_BYTES),
            (Device::Ssd(_), Bar::Bar2) => (0, 0),
        }
    }
}

/// A function of the simulated machine; closed when dropped.
pub struct SimFunction {
    simulator: Shared,
    device: Device,
    name: String,
    interrupts: InterruptFlags,
    /// PCI command register.
    command: Mutex<u32>,
}

impl SimFunction {
    fn check(&self, bar: Bar, offset: u64) -> Result<(), AccessError> {
        let (_, size) = self.device.bar(bar);
        if !offset.is_multiple_of(4) || offset >= size {
            return Err(AccessError::BadAccess { function: self.name.clone(), bar, offset, width: 4 });
        }
        Ok(())
    }
}

impl Drop for SimFunction {
    fn drop(&mut self) {
        lock(&self.simulator).opened[self.device.index()] = false;
    }
}

impl Function for SimFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn bar_len(&self, bar: Bar) -> u64 {
        self.device.bar(bar).1
    }

    fn bar_iova(&self, bar: Bar) -> Iova {
        Iova(self.device.bar(bar).0)
    }

    fn read32(&self, bar: Bar, offset: u64) -> Result<u32, AccessError> {
        self.check(bar, offset)?;
        let mut simulator = lock(&self.simulator);
        match self.device {
            Device::Card => simulator.read_card(bar, offset),
            Device::Ssd(number) => {
                // The answer pushes the SSD's earlier writes.
                simulator.bus.push_ssd_writes(number);
                Ok(simulator.ssds[number].read_register(offset))
            }
        }
    }

    fn write32(&self, bar: Bar, offset: u64, value: u32) -> Result<(), AccessError> {
        self.check(bar, offset)?;
        let mut simulator = lock(&self.simulator);
        match self.device {
            Device::Card => simulator.write_card(bar, offset, value),
            Device::Ssd(number) => {
                let simulator = &mut *simulator;
                simulator.ssds[number].write_register(&mut simulator.bus, offset, value);
                Ok(())
            }
        }
    }

    fn config_read32(&self, offset: u16) -> Result<u32, AccessError> {
        if let Device::Ssd(number) = self.device {
            if lock(&self.simulator).ssds[number].is_dead() {
                return Ok(u32::MAX);
            }
        }
        let (vendor, device, class) = match self.device {
            Device::Card => (card::VENDOR, card::DEVICE, card::CLASS),
            Device::Ssd(_) => (ssd::VENDOR, ssd::DEVICE, 0x01_08_02),
        };
        // 64-bit memory BARs (type 2 in bits 2:1), as PCI Local Bus 3.0, section 6.2.5.1.
        let address = |bar: Bar| match self.device.bar(bar) {
            (_, 0) => 0,
            (base, _) => base | 4,
        };
        Ok(match offset & !3 {
            0x00 | 0x2C => u32::from(device) << 16 | u32::from(vendor),
            0x04 => *self.command.lock().unwrap_or_else(PoisonError::into_inner),
            0x08 => class << 8,
            0x10 => address(Bar::Bar0) as u32,
            0x14 => (address(Bar::Bar0) >> 32) as u32,
            0x18 => address(Bar::Bar2) as u32,
            0x1C => (address(Bar::Bar2) >> 32) as u32,
            _ => 0,
        })
    }

    fn config_write32(&self, offset: u16, value: u32) -> Result<(), AccessError> {
        if offset & !3 == 0x04 {
            *self.command.lock().unwrap_or_else(PoisonError::into_inner) = value & 0x0406;
        }
        Ok(())
    }

    fn enable_interrupts(&mut self, vectors: u16) -> Result<(), AccessError> {
        // SSDs raise the vector of their completion queue without a table.
        if self.device == Device::Card {
            for vector in 0..vectors {
                let entry = u64::from(registers::MSIX_TABLE) + u64::from(vector) * 16;
                self.write64(Bar::Bar0, entry, INTERRUPT_WINDOW)?;
                self.write32(Bar::Bar0, entry + 8, u32::from(vector))?;
                self.write32(Bar::Bar0, entry + 12, 0)?;
            }
        }
        Ok(())
    }

    fn take_interrupt(&self, vector: u16) -> bool {
        self.interrupts.get(usize::from(vector)).is_some_and(|flag| flag.swap(false, Ordering::AcqRel))
    }

    fn reset(&mut self) -> Result<(), AccessError> {
        let mut simulator = lock(&self.simulator);
        match self.device {
            Device::Card => simulator.reset_card(),
            Device::Ssd(number) if simulator.ssds[number].is_dead() => {
                let waited = Duration::ZERO;
                return Err(AccessError::NoAnswer { function: self.name.clone(), what: "a reset", waited });
            }
            Device::Ssd(number) => {
                let now_ns = simulator.bus.now_ns();
                simulator.ssds[number].reset_function(now_ns);
            }
        }
        Ok(())
    }
}

/// What tests and tools see and do beside the driver.
#[derive(Clone)]
pub struct SimHandle {
    simulator: Shared,
    memory: HostMemory,
}

impl SimHandle {
    /// Host memory, as devices see it.
    pub fn memory(&self) -> &HostMemory {
        &self.memory
    }

    /// Simulated time, in ns.
    pub fn now_ns(&self) -> u64 {
        lock(&self.simulator).bus.now_ns()
    }

    /// Lets `ns` of simulated time pass, whatever happens in it.
    pub fn run_for_ns(&self, ns: u64) -> Result<(), AccessError> {
        lock(&self.simulator).run_for_ns(ns)
    }

    /// Stops the card's clock; the rest of the machine goes on.
    pub fn freeze(&self) {
        lock(&self.simulator).frozen = true;
    }

    /// Lets the card's clock go on.
    pub fn thaw(&self) {
        lock(&self.simulator).frozen = false;
    }

    /// How much was simulated.
    pub fn counters(&self) -> Counters {
        lock(&self.simulator).counters
    }

    /// Accesses the bus refused since they were last taken, the first 256.
    pub fn refusals(&self) -> Vec<Refusal> {
        self.memory.take_refusals()
    }

    /// Where the card broke the AXI protocol.
    pub fn protocol_errors(&self) -> Vec<String> {
        lock(&self.simulator).card.as_ref().map_or(Vec::new(), |card| card.protocol_errors().to_vec())
    }

    /// What was done to SSDs against NVMe: bad doorbells, identifiers in use, unmapped queues.
    pub fn ssd_complaints(&self) -> Vec<String> {
        lock(&self.simulator).ssds.iter().flat_map(|ssd| ssd.complaints().to_vec()).collect()
    }

    /// Doorbells of a pair of queues of an SSD that were rung by now, whether there are such queues or not.
    pub fn doorbells_rung(&self, ssd: usize, queue: u16) -> u64 {
        lock(&self.simulator).ssds[ssd].rung(queue.into())
    }

    /// Most cycles the card kept a write to BAR2 waiting.
    pub fn window_wait_max(&self) -> u32 {
        lock(&self.simulator).card.as_ref().map_or(0, card::Card::window_wait_max)
    }

    /// Most cycles in a row in which the card admitted nothing, because a transaction was being made.
    pub fn admission_pause_max(&self) -> u32 {
        lock(&self.simulator).card.as_ref().map_or(0, card::Card::admission_pause_max)
    }

    /// The card's `irq` port, for bridges that own MSI-X.
    pub fn irq(&self) -> u32 {
        lock(&self.simulator).card.as_ref().map_or(0, card::Card::irq)
    }

    /// Recorded commands of an SSD since they were last taken, and how many more found no room.
    pub fn take_commands(&self, ssd: &str) -> (Vec<CommandRecord>, u64) {
        self.with_ssd(ssd, ssd::Ssd::take_commands)
    }

    /// Ends of an SSD's commands since they were last taken, as they came, and how many more found no room.
    pub fn take_ends(&self, ssd: &str) -> (Vec<EndRecord>, u64) {
        self.with_ssd(ssd, ssd::Ssd::take_ends)
    }

    /// Recorded bus transactions since they were last taken, and how many more found no room.
    pub fn take_bus_record(&self) -> (Vec<BusRecord>, u64) {
        lock(&self.simulator).bus.record.take()
    }

    /// Recorded events of plans since they were last taken, and how many more found no room.
    pub fn take_plan_events(&self) -> (Vec<PlanRecord>, u64) {
        lock(&self.simulator).card.as_mut().map_or_else(Default::default, card::Card::take_plan_events)
    }

    /// Resets the card as a Function Level Reset does, whoever drives it: the driver is not told.
    pub fn reset_card(&self) {
        lock(&self.simulator).reset_card();
    }

    /// Writes to the card's BAR2 as a peer does: up to 16 bytes at `offset`, posted.
    ///
    /// # Panics
    /// When there is no card, or the write is longer or beyond BAR2: a fault of the caller.
    pub fn write_window(&self, offset: u64, bytes: &[u8]) {
        let mut simulator = lock(&self.simulator);
        assert!(simulator.card.is_some() && bytes.len() <= 16 && offset + bytes.len() as u64 <= BAR2_BYTES);
        simulator.bus.write_window(offset, bytes);
    }

    /// Puts a fault decorator around an SSD's commands, or takes it away.
    pub fn set_filter(&self, ssd: &str, filter: Option<Box<dyn CommandFilter>>) {
        self.with_ssd(ssd, |ssd| ssd.set_filter(filter));
    }

    /// Starts a fault of an SSD.
    pub fn start_fault(&self, ssd: &str, fault: Fault) -> FaultId {
        let number = self.with_ssd(ssd, |ssd| ssd.number());
        lock(&self.simulator).start_fault(number, &fault)
    }

    /// Starts several faults, each of the SSD it is named with.
    pub fn start_faults<'a>(&self, faults: impl IntoIterator<Item = &'a (String, Fault)>) -> Vec<FaultId> {
        faults.into_iter().map(|(ssd, fault)| self.start_fault(ssd, fault.clone())).collect()
    }

    /// Stops a fault. Commands that it made late stay late; a controller that it killed is there again,
    /// as at power-on.
    pub fn stop_fault(&self, id: FaultId) {
        lock(&self.simulator).stop_fault(id);
    }

    /// Stops all faults.
    pub fn stop_faults(&self) {
        let mut simulator = lock(&self.simulator);
        let active: Vec<FaultId> = simulator.ssds.iter().flat_map(ssd::Ssd::active_faults).collect();
        active.into_iter().for_each(|id| simulator.stop_fault(id));
    }

    /// How often a fault struck: commands, or 1 for a death; also after it was stopped.
    pub fn fault_strikes(&self, id: FaultId) -> u64 {
        self.fault_reports().iter().find(|report| report.id == id).map_or(0, |report| report.strikes)
    }

    /// All faults that were started, for a failing run to print.
    pub fn fault_reports(&self) -> Vec<FaultReport> {
        lock(&self.simulator).ssds.iter().flat_map(ssd::Ssd::fault_reports).collect()
    }

    /// Reads an SSD's bytes past the controller.
    pub fn read_media(&self, ssd: &str, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.with_ssd(ssd, |ssd| ssd.peek(offset, into))
    }

    /// Writes an SSD's bytes past the controller.
    pub fn write_media(&self, ssd: &str, offset: u64, from: &[u8]) -> std::io::Result<()> {
        self.with_ssd(ssd, |ssd| ssd.poke(offset, from))
    }

    /// # Panics
    /// When there is no SSD of this name: a fault of the caller.
    fn with_ssd<R>(&self, name: &str, act: impl FnOnce(&mut ssd::Ssd) -> R) -> R {
        let mut simulator = lock(&self.simulator);
        let ssd = simulator.ssds.iter_mut().find(|ssd| ssd.name() == name);
        act(ssd.expect("an SSD of this name"))
    }
}
