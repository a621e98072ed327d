//! Linux VFIO behind the driver's traits: functions that vfio-pci has, in one address space.
//!
//! Who does what (docs/decisions/0020-vfio-container.md): `vfio-ioctls` opens devices by a container of groups or by
//! iommufd, maps DMA and sets interrupts; `memmap2` maps BARs and memory; `pci-driver` types configuration space and
//! reaches registers.
//!
//! * `platform`: the address space, DMA memory, time. `interface`: which of the kernel's two interfaces makes it.
//!   `function`: one device; `holding`: what it has of the kernel, and gives back when it is asked.
//! * `iova`: which bus addresses are free. `config_space`: what a function can do.
//! * `refusal`: why the kernel said no, in words. `kernel`: the unsafe calls.
//!
//! All devices share the address space, so each reaches all DMA memory and every BAR that is mapped here, and nothing
//! else: the IOMMU refuses the rest. Of a process that ends, however it does, the kernel resets the devices.
//! Limits: x86-64 and type 1 IOMMUs; a group that was opened stays with the process. By iommufd, peers are refused at the
//! BARs of a device while it is reset.

mod config_space;
mod function;
mod holding;
mod interface;
mod iova;
mod kernel;
mod platform;
mod refusal;

pub use config_space::Abilities;
pub use function::VfioFunction;
pub use platform::VfioPlatform;
pub use refusal::{MemoryLimit, Refusal};
