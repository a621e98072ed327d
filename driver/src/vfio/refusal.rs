//! Why a function cannot be had through VFIO, and what is to be done about it.
//!
//! The kernel says `EINVAL` or nothing at all; the reason is in its file trees, so these are asked before and after.

use std::fmt;
use std::io;

use iommufd_ioctls::IommufdError;
use rustix::io::Errno;
use rustix::process::{getrlimit, Resource};
use vfio_ioctls::VfioError;
use vmm_sys_util::errno::Error as SysError;

use crate::host::{
    cdevs, device, group_uses, neighbours, AddressError, Neighbour, PciAddress, PciDevice, SystemTree, Uses,
};

/// The file by which a container is opened.
pub(super) const CONTAINER: &str = "/dev/vfio/vfio";
/// The file by which iommufd is opened.
pub(super) const IOMMUFD: &str = "/dev/iommu";

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
    #[error("no permission to open {0}: be root, or have the file given to your user")]
    NoPermission(String),
    /// The container's IOMMU driver is missing.
    #[error("VFIO has no type 1 IOMMU driver: `modprobe vfio_iommu_type1`")]
    NoType1,
    /// Peers would not reach its BARs.
    #[error(
        "peers would not reach the BARs of {0}: iommufd takes them from Linux 6.19 on (CONFIG_VFIO_PCI_DMABUF), and \
         this kernel has no container that would (CONFIG_VFIO_CONTAINER)"
    )]
    NoPeers(PciAddress),
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
         {module}.allow_unsafe_interrupts=1, which trusts every device"
    )]
    NoDomain {
        /// Where.
        address: PciAddress,
        /// Group.
        group: u32,
        /// Whose parameter that is.
        module: &'static str,
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
    #[error("{what}: {}", told(.source))]
    Vfio {
        /// What was done.
        what: String,
        /// What VFIO says.
        source: VfioError,
    },
}

/// All that an error says: some keep the kernel's answer to themselves.
fn told(error: &VfioError) -> String {
    match error {
        VfioError::NewVfioIommufd(source) | VfioError::IommufdIoctlError(source) => source.to_string(),
        VfioError::OpenDeviceCdev(source) => format!("{error}: {source}"),
        _ => error.to_string(),
    }
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

/// Whether VFIO is there at all, by either interface.
///
/// # Errors
/// `NoVfio`.
pub(super) fn check_vfio(tree: &SystemTree) -> Result<(), Refusal> {
    if tree.path(IOMMUFD).exists() {
        Ok(())
    } else {
        check_container(tree)
    }
}

/// Whether containers are there.
///
/// # Errors
/// `NoVfio`.
pub(super) fn check_container(tree: &SystemTree) -> Result<(), Refusal> {
    tree.path(CONTAINER).exists().then_some(()).ok_or(Refusal::NoVfio)
}

/// Whether a file of iommufd could not be opened for want of permission.
pub(super) fn is_denied(error: &VfioError) -> bool {
    match error {
        VfioError::NewVfioIommufd(IommufdError::OpenIommufd(source)) | VfioError::OpenDeviceCdev(source) => {
            source.kind() == io::ErrorKind::PermissionDenied
        }
        _ => false,
    }
}

/// What opening a container failed on.
pub(super) fn container_refusal(error: VfioError) -> Refusal {
    match error {
        VfioError::OpenContainer(source) => match source.kind() {
            io::ErrorKind::PermissionDenied => Refusal::NoPermission(CONTAINER.to_owned()),
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
    let not_viable = || match in_the_way(tree, group, address) {
        // Viable, and all the same not free to be taken.
        others if others.is_empty() => in_use(),
        others => Refusal::NotViable { address, group, others },
    };
    match error {
        VfioError::NewVfioIommufd(_) if is_denied(&error) => Refusal::NoPermission(IOMMUFD.to_owned()),
        VfioError::OpenDeviceCdev(_) if is_denied(&error) => {
            Refusal::NoPermission(format!("/dev/vfio/devices/{}", cdevs(tree, address).join(" or ")))
        }
        VfioError::VfioDeviceBindIommufd(source) | VfioError::VfioDeviceAttachIommufdPt(source)
            if is(source, Errno::PERM) =>
        {
            Refusal::NoDomain { address, group, module: "iommufd", source: error }
        }
        // Busy: the group, with a container or another iommufd. Invalid: the device's own file.
        VfioError::VfioDeviceBindIommufd(source) if is(source, Errno::BUSY) || is(source, Errno::INVAL) => {
            not_viable()
        }
        VfioError::OpenGroup(source, name) => match source.kind() {
            io::ErrorKind::PermissionDenied => Refusal::NoPermission(format!("/dev/vfio/{name}")),
            io::ErrorKind::ResourceBusy => in_use(),
            _ => Refusal::Vfio { what: address.to_string(), source: VfioError::OpenGroup(source, name) },
        },
        VfioError::GroupViable => not_viable(),
        source @ (VfioError::ContainerSetIOMMU(_) | VfioError::GroupSetContainer) => {
            Refusal::NoDomain { address, group, module: "vfio_iommu_type1", source }
        }
        source => Refusal::Vfio { what: address.to_string(), source },
    }
}

/// What mapping DMA memory failed on.
pub(super) fn map_refusal(error: VfioError, pinned: u64, wanted: u64) -> Refusal {
    match &error {
        VfioError::IommuDmaMap(source) | VfioError::IommufdIoctlError(IommufdError::IommuIoasMap(source))
            if is(*source, Errno::NOMEM) =>
        {
            Refusal::MemoryLimit(MemoryLimit::now(pinned, wanted))
        }
        VfioError::IommuDmaMap(source) if is(*source, Errno::NOSPC) => Refusal::TooManyRanges,
        _ => Refusal::Vfio { what: format!("mapping {wanted} bytes for devices"), source: error },
    }
}

fn is(error: SysError, known: Errno) -> bool {
    error.errno() == known.raw_os_error()
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
