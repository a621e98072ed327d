//! The kernel's two interfaces to VFIO: a container of groups (type 1), and iommufd with a file for each device.
//!
//! Through either, every device that is opened gets the same address space. They differ in how a device is opened, and in
//! how its peers reach its BARs: a container takes the mapping of a BAR as it takes memory; iommufd takes a dma-buf that
//! vfio-pci exports (Linux 6.19 and later), and lets go of it for good when the device is reset.

use std::fmt;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use iommufd_ioctls::IommuFd;
use rustix::fs::OFlags;
use rustix::io::Errno;
use vfio_ioctls::{VfioContainer, VfioDevice, VfioError, VfioIommufd, VfioOps, VfioRegionDmaRange};
use vmm_sys_util::errno::Error as SysError;

use super::kernel::{self, Mapped, MappedBar};
use super::refusal::{self, Refusal, CONTAINER, IOMMUFD};
use crate::host::{cdevs, directory, PciAddress, SystemTree};

/// An address space of devices, and how they come into it.
pub(super) enum Interface {
    /// A container of groups.
    Groups(Arc<VfioContainer>),
    /// An address space of iommufd.
    Iommufd(Arc<VfioIommufd>),
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Groups(_) => "a container of groups",
            Self::Iommufd(_) => "iommufd",
        })
    }
}

impl Interface {
    /// Opens the first device, and decides by it: iommufd where the kernel has it with all that is needed and this
    /// process may use it, else a container.
    ///
    /// # Errors
    /// Why the device cannot be opened.
    pub(super) fn with_first(
        tree: &SystemTree,
        address: PciAddress,
        group: u32,
    ) -> Result<(Self, VfioDevice), Refusal> {
        let refused = |error| refusal::function_refusal(tree, address, group, error);
        if tree.path(IOMMUFD).exists() && !cdevs(tree, address).is_empty() {
            let opened = Self::iommufd().and_then(|interface| {
                let device = interface.open(tree, address)?;
                Ok((interface, device))
            });
            let has_container = tree.path(CONTAINER).exists();
            match opened {
                Ok((interface, device)) if exports_bars(&device) => return Ok((interface, device)),
                Ok(_) if !has_container => return Err(Refusal::NoPeers(address)),
                Err(error) if !(has_container && refusal::is_denied(&error)) => return Err(refused(error)),
                Ok(_) | Err(_) => {}
            }
        }
        refusal::check_container(tree)?;
        let container = VfioContainer::new(None).map_err(refusal::container_refusal)?;
        let interface = Self::Groups(Arc::new(container));
        let device = interface.open(tree, address).map_err(refused)?;
        Ok((interface, device))
    }

    fn iommufd() -> Result<Self, VfioError> {
        let iommufd = IommuFd::new().map_err(VfioError::NewVfioIommufd)?;
        Ok(Self::Iommufd(Arc::new(VfioIommufd::new(Arc::new(iommufd), None, None)?)))
    }

    fn operations(&self) -> Arc<dyn VfioOps> {
        match self {
            Self::Groups(container) => container.clone(),
            Self::Iommufd(iommufd) => iommufd.clone(),
        }
    }

    /// Opens a device and brings it into the address space.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn open(&self, tree: &SystemTree, address: PciAddress) -> Result<VfioDevice, VfioError> {
        VfioDevice::new(&tree.path(directory(address)), self.operations(), true)
    }

    /// Lets all devices reach `memory` at `iova`, until that range is unmapped.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn map(&self, iova: u64, memory: &mut impl Mapped) -> Result<(), VfioError> {
        kernel::map_dma(self.operations().as_ref(), iova, memory)
    }

    /// Lets all devices reach a BAR at `iova`, until that range is unmapped; with iommufd, until its device is reset.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn map_bar(
        &self,
        iova: u64,
        device: &VfioDevice,
        region: u32,
        bar: &MappedBar,
    ) -> Result<(), VfioError> {
        let Self::Iommufd(iommufd) = self else { return self.map(iova, &mut &*bar) };
        let whole = [VfioRegionDmaRange { offset: 0, length: bar.len() }];
        let exported = device.export_dma_buf(region, &whole, (OFlags::RDWR | OFlags::CLOEXEC).bits())?;
        // Every device behind vfio-pci can, or none: the first was asked.
        let exported =
            exported.ok_or(VfioError::VfioDeviceFeature(SysError::new(Errno::NOTTY.raw_os_error())))?;
        let mapped = iommufd.ioas().map_file(exported.as_raw_fd(), 0, bar.len(), iova, true);
        mapped.map_err(VfioError::IommufdIoctlError)
    }

    /// Whether peers reach a BAR no more when its device was reset.
    pub(super) fn forgets_bars(&self) -> bool {
        matches!(self, Self::Iommufd(_))
    }

    /// Takes a range away from all devices.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn unmap(&self, iova: u64, len: u64) -> Result<(), VfioError> {
        self.operations().vfio_dma_unmap(iova, len as usize)
    }
}

/// Whether the kernel gives BARs to peers as dma-bufs: it does where it finds fault with a wish for nothing.
fn exports_bars(device: &VfioDevice) -> bool {
    !matches!(device.export_dma_buf(0, &[], 0), Ok(None))
}
