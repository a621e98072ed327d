//! User-space driver of the Volplane card and of the NVMe controllers behind it.
//!
//! * `platform`: the traits through which a device is reached; the simulator and `vfio` stand behind.
//! * `vfio`: Linux VFIO. `host`: the machine's PCI devices, and handing them to vfio-pci and back.
//! * `memory`: DMA memory; with the access backings, the only place with unsafe code.
//! * `pci`: configuration space. `wait`: waiting with a limit.
//! * `ring`, `queue_pair`: NVMe's rings, and pairs of them with their doorbells.
//! * `card`: the card's registers, control ring, tables and client queues.
//! * `nvme`: bring-up of the controllers behind the card, and their queues.

pub mod card;
pub mod host;
pub mod memory;
pub mod nvme;
pub mod pci;
pub mod platform;
pub mod queue_pair;
pub mod ring;
pub mod vfio;
pub mod wait;

pub use card::{
    Capabilities, Card, CardError, ExceptionRecord, PlanHandle, QueueSlots, RegisterValue, Status, TableWrite,
};
pub use memory::{DmaMemory, Iova, PAGE};
pub use nvme::{
    CompletionQueue, ControllerIdentity, IoDoorbells, NamespaceLimits, NvmeController, NvmeError,
};
pub use platform::{AccessError, Bar, Function, Platform};
pub use queue_pair::{ClientQueue, QueueError, QueuePair};
pub use ring::Full;
pub use vfio::{VfioFunction, VfioPlatform};
pub use wait::poll_until;
