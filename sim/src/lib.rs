//! All that stands in for hardware, behind the driver's traits.
//!
//! * `platform`: `SimPlatform` and `SimFunction`, what a driver sees; `SimHandle`, what a test sees.
//! * `simulator`: time. One logical thread, repeatable from one seed: SSD events in order of time,
//!   the card cycle by cycle, idle time skipped.
//! * `bus`, `host_memory`: addresses, the IOMMU, posted writes and when they are seen.
//! * `ssd`: the SSD model, an NVMe controller with real registers and queues.
//! * `faults`: what may go wrong with an SSD, started and stopped as the simulation runs.
//! * `card`: the Verilated card and the AXI models around its ports. `card_bus`: what they reach.
//! * `vfio_user`: the card alone, as a device of another process (program `volplane-card`).
//! * `config`, `probe`: what a machine is made of, and what is recorded of it.

mod bus;
mod card;
mod card_bus;
mod config;
mod events;
mod faults;
mod host_memory;
mod mapped_bytes;
mod platform;
mod probe;
mod random;
mod simulator;
mod ssd;
mod ssd_visibility;
pub mod vfio_user;

pub use bus::{CARD_BAR0, CARD_BAR2, INTERRUPT_WINDOW, SSD_BAR0, SSD_BAR0_STRIDE};
pub use card::CARD_WIDTHS;
pub use config::{
    Backing, CardConfig, CompletionWrites, ConfigError, SimulatorConfig, SsdConfig, TraceConfig,
};
pub use faults::{Commands, Fault, FaultId, FaultKind, FaultReport, Moment};
pub use host_memory::{Agent, Direction, HostMemory, Refusal, IOVA_END, IOVA_FIRST};
pub use platform::{SimFunction, SimHandle, SimPlatform};
pub use probe::{BusAction, BusRecord, CommandRecord, EndRecord, PartEnd, PlanEvent, PlanRecord, Segment};
pub use simulator::Counters;
pub use ssd::{CommandFilter, Execution};

/// The seed of a random test, printed for replay; `VOLPLANE_SEED` sets it.
#[cfg(test)]
#[allow(clippy::print_stderr)]
fn test_seed() -> u64 {
    let seed = std::env::var("VOLPLANE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    eprintln!("replay with VOLPLANE_SEED={seed}");
    seed
}
