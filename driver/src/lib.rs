//! User-space driver of the Volplane card and of the NVMe controllers behind it.
//!
//! * `platform`: the traits through which a device is reached; the simulator and VFIO stand behind.
//! * `memory`: DMA memory; with the access backings, the only place with unsafe code.

pub mod memory;
pub mod platform;

pub use memory::{DmaMemory, Iova, PAGE};
pub use platform::{AccessError, Bar, Function, Platform};
