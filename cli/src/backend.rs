//! What executes the virtual disks: the simulated card with simulated SSDs, a real card with real ones, or software
//! with either.

use std::path::PathBuf;

use volplane::configuration::{Backing, Device};
use volplane::engine::{Addresses, Engine, EngineOptions, StartError};
use volplane::{Configuration, ConfigurationError, SoftwareEngine};
use volplane_driver::host::PciAddress;
use volplane_driver::{AccessError, Card, CardError, VfioFunction, VfioPlatform};

use crate::fault::NamedFault;
use volplane_sim::{
    CardConfig, ConfigError, SimFunction, SimHandle, SimPlatform, SimulatorConfig, SsdConfig, TraceConfig,
};

const CARD_ADDRESS: &str = "sim:card";
/// Bits of the data path of a card that is only looked at.
const DEFAULT_WIDTH: usize = 128;

/// How the simulation runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulation {
    /// Its one seed.
    pub seed: u64,
    /// Waveform of the card.
    pub trace: Option<Trace>,
}

/// A waveform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// File to write, as VCD.
    pub path: PathBuf,
    /// First cycle.
    pub from_cycle: u64,
    /// First cycle after it.
    pub to_cycle: u64,
}

/// Why a backend did not start.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The configuration asks for what a simulation does not have.
    #[error("{}: device {device:?} is at a PCI address, and there are simulated SSDs only; give it `file` or `memory`", .file.display())]
    RealDevice {
        /// Configuration.
        file: PathBuf,
        /// Device.
        device: String,
    },
    /// The configuration asks for what a real card cannot reach.
    #[error("{}: device {device:?} is simulated, and real SSDs are needed beside it; give them all an `address` alone", .file.display())]
    SimulatedDevice {
        /// Configuration.
        file: PathBuf,
        /// Device.
        device: String,
    },
    /// A fault of a real SSD.
    #[error("--fault is for simulated SSDs")]
    RealFault,
    /// A fault of a device that there is not.
    #[error("--fault: the configuration has no device {0:?}")]
    NoDevice(String),
    /// The configuration's files could not be made.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The simulated machine could not be built.
    #[error(transparent)]
    Machine(#[from] ConfigError),
    /// The engine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The card did not open.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The machine's devices cannot be reached.
    #[error(transparent)]
    Access(#[from] AccessError),
}

impl BackendError {
    /// Whether what the user gave is at fault.
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            BackendError::RealDevice { .. }
                | BackendError::SimulatedDevice { .. }
                | BackendError::RealFault
                | BackendError::NoDevice(_)
                | BackendError::Configuration(_)
                | BackendError::Start(StartError::Configuration(_))
        )
    }
}

/// The machine that a configuration describes, and where its devices are.
pub fn machine(
    configuration: &Configuration,
    simulation: &Simulation,
) -> Result<(SimulatorConfig, Addresses), BackendError> {
    let mut card = CardConfig::new(configuration.card.width as usize);
    if let Some(Trace { path, from_cycle, to_cycle }) = simulation.trace.clone() {
        card = card.with_trace(TraceConfig { path, from_cycle, to_cycle });
    }
    let machine = SimulatorConfig::new(simulation.seed).with_card(card);
    let (machine, devices) = with_ssds(machine, configuration)?;
    Ok((machine, Addresses { card: CARD_ADDRESS.to_owned(), devices }))
}

/// Adds the devices of a configuration, and tells where they are.
fn with_ssds(
    mut machine: SimulatorConfig,
    configuration: &Configuration,
) -> Result<(SimulatorConfig, Vec<String>), BackendError> {
    let mut addresses = Vec::new();
    for (number, device) in configuration.devices.iter().enumerate() {
        let name = ssd_name(number);
        addresses.push(format!("sim:{name}"));
        machine = machine.with_ssd(ssd(configuration, device, &name)?);
    }
    Ok((machine, addresses))
}

/// By number: names of the configuration may be anything, and a device may be called "card".
fn ssd_name(number: usize) -> String {
    format!("ssd-{number}")
}

fn ssd(configuration: &Configuration, device: &Device, name: &str) -> Result<SsdConfig, BackendError> {
    let mut ssd = SsdConfig::new(name, device.block_size, device.blocks);
    match &device.backing {
        Backing::File { path, .. } => ssd = ssd.with_file(path),
        Backing::Memory => {}
        Backing::Function => {
            return Err(BackendError::RealDevice {
                file: configuration.file().to_owned(),
                device: device.name.clone(),
            })
        }
    }
    if let Some(latency) = device.latency {
        ssd.latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    }
    if let Some(entries) = device.queue_depth {
        ssd.queue_entries_max = entries;
    }
    if let Some(mdts) = device.mdts {
        ssd.mdts = mdts;
    }
    Ok(ssd)
}

/// Starts the virtual disks of a configuration on the simulated card; makes the backing files that
/// the configuration wants made.
pub fn open_simulated(
    configuration: &Configuration,
    simulation: &Simulation,
) -> Result<Engine<SimPlatform>, BackendError> {
    let (machine, addresses) = machine(configuration, simulation)?;
    configuration.create_files()?;
    Ok(Engine::start(SimPlatform::new(machine)?, configuration, &addresses, &card_options(configuration))?)
}

fn card_options(configuration: &Configuration) -> EngineOptions {
    EngineOptions { completion_mode: configuration.card.completion_mode, ..EngineOptions::default() }
}

/// Starts the virtual disks of a configuration on the software data path, with no card in the simulated
/// machine; makes the backing files that the configuration wants made.
pub fn open_software(
    configuration: &Configuration,
    seed: u64,
) -> Result<SoftwareEngine<SimPlatform>, BackendError> {
    let (machine, addresses) = with_ssds(SimulatorConfig::new(seed), configuration)?;
    configuration.create_files()?;
    let platform = SimPlatform::new(machine)?;
    Ok(SoftwareEngine::start(platform, configuration, &addresses, &EngineOptions::default())?)
}

/// Whether a configuration's first device is a real one; then all are to be.
pub fn has_real_devices(configuration: &Configuration) -> bool {
    configuration.devices.first().is_some_and(|device| device.backing == Backing::Function)
}

/// The PCI addresses of a configuration's devices.
fn real_addresses(configuration: &Configuration) -> Result<Vec<String>, BackendError> {
    let addresses = configuration.devices.iter().map(|device| match (&device.backing, &device.address) {
        (Backing::Function, Some(address)) => Ok(address.clone()),
        _ => Err(BackendError::SimulatedDevice {
            file: configuration.file().to_owned(),
            device: device.name.clone(),
        }),
    });
    addresses.collect()
}

/// Starts the virtual disks of a configuration on a real card, with real SSDs.
pub fn open_real(
    configuration: &Configuration,
    card: PciAddress,
) -> Result<Engine<VfioPlatform>, BackendError> {
    let addresses = Addresses { card: card.to_string(), devices: real_addresses(configuration)? };
    Ok(Engine::start(VfioPlatform::new()?, configuration, &addresses, &card_options(configuration))?)
}

/// Starts the virtual disks of a configuration on the software data path, with real SSDs.
pub fn open_real_software(
    configuration: &Configuration,
) -> Result<SoftwareEngine<VfioPlatform>, BackendError> {
    let addresses = real_addresses(configuration)?;
    Ok(SoftwareEngine::start(VfioPlatform::new()?, configuration, &addresses, &EngineOptions::default())?)
}

/// Opens a real card with nothing behind it.
pub fn open_card(address: PciAddress) -> Result<Card<VfioFunction>, BackendError> {
    Ok(Card::open(&mut VfioPlatform::new()?, &address.to_string())?)
}

/// Starts faults of the SSDs of a configuration; none, if one of them names no device.
pub fn start_faults(
    machine: &SimHandle,
    configuration: &Configuration,
    faults: &[NamedFault],
) -> Result<(), BackendError> {
    let found = faults.iter().map(|NamedFault { device, fault }| {
        let number = configuration.devices.iter().position(|known| known.name == *device);
        number.map(|number| (ssd_name(number), fault.clone())).ok_or(BackendError::NoDevice(device.clone()))
    });
    machine.start_faults(&found.collect::<Result<Vec<_>, _>>()?);
    Ok(())
}

/// Opens the simulated card with nothing behind it.
pub fn open_simulated_card() -> Result<Card<SimFunction>, BackendError> {
    let machine = SimulatorConfig::new(0).with_card(CardConfig::new(DEFAULT_WIDTH));
    Ok(Card::open(&mut SimPlatform::new(machine)?, CARD_ADDRESS)?)
}
