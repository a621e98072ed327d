//! Why a function cannot be had through VFIO, and what is to be done about it.
//!
//! The kernel says `EINVAL` or nothing at all; the reason is in its file trees, so these are asked before and after.

use std::fmt;
use std::io;

use rustix::process::{getrlimit, Resource};
use vfio_ioctls::VfioError;

use crate::host::{
    device, group_uses, neighbours, AddressError, Neighbour, PciAddress, PciDevice, SystemTree, Uses,
};

/// The file by which a container is opened.
const CONTAINER: &str = "/dev/vfio/vfio";

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Text that is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The kernel has no VFIO, or it is not loaded.
    #[error("there is no /dev/vfio/vfio: load VFIO with `modprobe -a vfio vfio_iommu_type1 vfio-pci`")]
    NoVfio,
    /// No leave to use VFIO.
    #[error("no permission to open /dev/vfio/{0}: be root, or have the file given to your user")]
    NoPermission(String),
    /// The container's IOMMU driver is missing.
    #[error("VFIO has no type 1 IOMMU driver: `modprobe vfio_iommu_type1`")]
    NoType1,
    /// No IOMMU group.
    #[error(
        "{0} has no IOMMU group: switch the IOMMU on in the firmware (VT-d, AMD-Vi) and start the kernel with \
         intel_iommu=on (AMD's is on by itself)"
    )]
    NoIommu(PciAddress),
    /// Another driver has it.
    #[error(
        "{address} is not bound to vfio-pci, {} has it: `volplane bind {address}`",
        .driver.as_deref().unwrap_or("no driver")
    )]
    NotBound {
        /// Where.
        address: PciAddress,
        /// Its driver.
        driver: Option<String>,
    },
    /// Others of its group stand in the way.
    #[error("IOMMU group {group} of {address} is not viable: it also has {}; hand these to vfio-pci too, or take \
             their drivers away", list(.others))]
    NotViable {
        /// Where.
        address: PciAddress,
        /// Group.
        group: u32,
        /// Those that are bound to other drivers.
        others: Vec<Neighbour>,
    },
    /// Somebody else has its group.
    #[error("IOMMU group {group} of {address} is in use: {uses}")]
    GroupInUse {
        /// Where.
        address: PciAddress,
        /// Group.
        group: u32,
        /// By whom.
        uses: Uses,
    },
    /// The IOMMU cannot take the group in.
    #[error(
        "the IOMMU refuses group {group} of {address}: {source}; without interrupt remapping the kernel wants \
         vfio_iommu_type1.allow_unsafe_interrupts=1, which trusts every device"
    )]
    NoDomain {
        /// Where.
        address: PciAddress,
        /// Group.
        group: u32,
        /// The kernel's answer.
        source: VfioError,
    },
    /// More memory than this process may pin.
    #[error("the process may pin no more memory for devices: {0}")]
    MemoryLimit(MemoryLimit),
    /// Too many ranges of memory.
    #[error("the container holds as many ranges of memory as it may (vfio_iommu_type1.dma_entry_limit)")]
    TooManyRanges,
    /// DMA memory before there is an IOMMU to map it.
    #[error("no device is open yet that could reach it")]
    NoDevice,
    /// Bus addresses are used up.
    #[error("no bus addresses are left")]
    NoBusAddresses,
    /// A BAR that cannot be mapped.
    #[error("{bar} of {address} ({bytes} bytes) cannot be mapped: {reason}")]
    Bar {
        /// Where.
        address: PciAddress,
        /// BAR.
        bar: &'static str,
        /// Its size.
        bytes: u64,
        /// Why.
        reason: String,
    },
    /// More interrupts than it has.
    #[error("{address} has {has} MSI-X vectors, {wanted} are wanted")]
    Vectors {
        /// Where.
        address: PciAddress,
        /// What it has.
        has: u16,
        /// What is wanted.
        wanted: u16,
    },
    /// The kernel knows no way to reset it.
    #[error("{0} cannot be reset alone: it has no function level reset, and shares its bus")]
    NoReset(PciAddress),
    /// Anything else that VFIO says.
    #[error("{what}: {source}")]
    Vfio {
        /// What was done.
        what: String,
        /// What VFIO says.
        source: VfioError,
    },
}

fn list(others: &[Neighbour]) -> String {
    others.iter().map(Neighbour::to_string).collect::<Vec<_>>().join(", ")
}

/// How much memory a process may pin, and how much it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes that devices reach now.
    pub pinned: u64,
    /// Bytes that were to be added.
    pub wanted: u64,
    /// RLIMIT_MEMLOCK; none where there is no limit.
    pub limit: Option<u64>,
}

impl MemoryLimit {
    /// With the limit of this process.
    pub(super) fn now(pinned: u64, wanted: u64) -> Self {
        Self { pinned, wanted, limit: getrlimit(Resource::Memlock).current }
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: u64| bytes.div_ceil(1024);
        let needed = self.pinned.saturating_add(self.wanted);
        write!(f, "{} KiB are pinned, {} more were asked for, ", kib(self.pinned), kib(self.wanted))?;
        match self.limit {
            Some(limit) => write!(
                f,
                "and RLIMIT_MEMLOCK is {} KiB; raise it to at least {} KiB (`ulimit -l {}`, LimitMEMLOCK= of a systemd \
                 unit, or memlock in /etc/security/limits.conf)",
                kib(limit),
                kib(needed),
                kib(needed)
            ),
            None => write!(f, "RLIMIT_MEMLOCK is no limit, and the machine has no more"),
        }
    }
}

/// Whether VFIO is there at all.
///
/// # Errors
/// `NoVfio`.
pub(super) fn check_vfio(tree: &SystemTree) -> Result<(), Refusal> {
    tree.path(CONTAINER).exists().then_some(()).ok_or(Refusal::NoVfio)
}

/// What opening a container failed on.
pub(super) fn container_refusal(error: VfioError) -> Refusal {
    match error {
        VfioError::OpenContainer(source) => match source.kind() {
            io::ErrorKind::PermissionDenied => Refusal::NoPermission("vfio".to_owned()),
            io::ErrorKind::NotFound => Refusal::NoVfio,
            _ => Refusal::Vfio { what: CONTAINER.to_owned(), source: VfioError::OpenContainer(source) },
        },
        VfioError::VfioExtension => Refusal::NoType1,
        source => Refusal::Vfio { what: CONTAINER.to_owned(), source },
    }
}

/// A function that VFIO should be able to open, with its group.
///
/// # Errors
/// `Refusal`, or `None` when there is no such function.
pub(super) fn check_function(
    tree: &SystemTree,
    address: PciAddress,
) -> Result<(PciDevice, u32), Option<Refusal>> {
    let found = device(tree, address).ok_or(None)?;
    let group = found.group.ok_or(Refusal::NoIommu(address))?;
    if !found.is_handed_over() {
        return Err(Some(Refusal::NotBound { address, driver: found.driver }));
    }
    let others = in_the_way(tree, group, address);
    if !others.is_empty() {
        return Err(Some(Refusal::NotViable { address, group, others }));
    }
    Ok((found, group))
}

fn in_the_way(tree: &SystemTree, group: u32, address: PciAddress) -> Vec<Neighbour> {
    neighbours(tree, group, address).into_iter().filter(Neighbour::is_in_the_way).collect()
}

/// What opening a function failed on.
pub(super) fn function_refusal(
    tree: &SystemTree,
    address: PciAddress,
    group: u32,
    error: VfioError,
) -> Refusal {
    let in_use = || Refusal::GroupInUse { address, group, uses: group_uses(tree, group) };
    match error {
        VfioError::OpenGroup(source, name) => match source.kind() {
            io::ErrorKind::PermissionDenied => Refusal::NoPermission(name),
            io::ErrorKind::ResourceBusy => in_use(),
            _ => Refusal::Vfio { what: address.to_string(), source: VfioError::OpenGroup(source, name) },
        },
        VfioError::GroupViable => match in_the_way(tree, group, address) {
            // Viable, and all the same not free to be taken.
            others if others.is_empty() => in_use(),
            others => Refusal::NotViable { address, group, others },
        },
        source @ (VfioError::ContainerSetIOMMU(_) | VfioError::GroupSetContainer) => {
            Refusal::NoDomain { address, group, source }
        }
        source => Refusal::Vfio { what: address.to_string(), source },
    }
}

/// What mapping DMA memory failed on.
pub(super) fn map_refusal(error: VfioError, pinned: u64, wanted: u64) -> Refusal {
    let errno = match &error {
        VfioError::IommuDmaMap(source) => Some(source.errno()),
        _ => None,
    };
    let is = |known: rustix::io::Errno| errno == Some(known.raw_os_error());
    if is(rustix::io::Errno::NOMEM) {
        Refusal::MemoryLimit(MemoryLimit::now(pinned, wanted))
    } else if is(rustix::io::Errno::NOSPC) {
        Refusal::TooManyRanges
    } else {
        Refusal::Vfio { what: format!("mapping {wanted} bytes for devices"), source: error }
    }
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
