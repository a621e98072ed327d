//! The machine's PCI devices as the kernel shows them: which there are, who has them, and handing them to
//! vfio-pci and back.
//!
//! * `address`: where a PCI function is. `tree`: the kernel's file trees, whose root a test may choose.
//! * `devices`: Volplane cards and NVMe controllers. `uses`: what an NVMe controller or a group is in use by.
//! * `binding`: `bind` and `unbind`.
//!
//! Everything read here was written by the kernel, names of disks and processes partly by others: nothing is
//! indexed by it, and what cannot be read counts as absent, but for what decides whether a device is in use.

mod address;
mod binding;
mod devices;
mod tree;
mod uses;

#[cfg(test)]
pub(crate) mod fake;

pub use address::{AddressError, PciAddress};
pub use binding::{bind, unbind, BindError, Bound, Unbound};
pub(crate) use devices::{cdevs, directory};
pub use devices::{device, devices, neighbours, DeviceKind, Neighbour, PciDevice};
pub use tree::{Claim, Kernel, SystemTree};
pub use uses::{group_uses, namespace_uses, uses, Use, UseError, Uses};

/// The driver that hands functions to user space.
pub const VFIO_PCI: &str = "vfio-pci";
