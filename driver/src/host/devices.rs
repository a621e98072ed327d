//! Volplane cards and NVMe controllers among the machine's PCI devices, and what shares their IOMMU groups.

use std::path::PathBuf;

use super::address::PciAddress;
use super::tree::SystemTree;
use super::VFIO_PCI;
use crate::pci::{PciIdentity, CARD_DEVICE, CARD_VENDOR};

/// Class of an NVMe I/O controller, and of an administrative one: base class and subclass.
const CLASS_NVME: u32 = 0x01_08;
/// Where the kernel shows PCI devices.
const DEVICES: &str = "/sys/bus/pci/devices";

/// What a PCI device is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A Volplane card, by vendor and device; its identity registers have the last word.
    Card,
    /// An NVMe controller.
    Nvme,
    /// Something else.
    Other,
}

/// A PCI device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciDevice {
    /// Where it is.
    pub address: PciAddress,
    /// What it says it is.
    pub identity: PciIdentity,
    /// The driver that has it.
    pub driver: Option<String>,
    /// Its IOMMU group; none where no IOMMU is at work.
    pub group: Option<u32>,
}

impl PciDevice {
    /// What it is to us.
    pub fn kind(&self) -> DeviceKind {
        if (self.identity.vendor, self.identity.device) == (CARD_VENDOR, CARD_DEVICE) {
            DeviceKind::Card
        } else if self.identity.class >> 8 == CLASS_NVME {
            DeviceKind::Nvme
        } else {
            DeviceKind::Other
        }
    }

    /// Whether vfio-pci has it.
    pub fn is_handed_over(&self) -> bool {
        self.driver.as_deref() == Some(VFIO_PCI)
    }
}

/// Path of a device's directory, as on this machine.
pub(crate) fn directory(address: PciAddress) -> PathBuf {
    PathBuf::from(DEVICES).join(address.to_string())
}

/// Names of the files below `/dev/vfio/devices` by which iommufd has a device: one, where the kernel has iommufd and
/// vfio-pci the device.
pub(crate) fn cdevs(tree: &SystemTree, address: PciAddress) -> Vec<String> {
    tree.names(directory(address).join("vfio-dev"))
}

/// The device at an address; `None` when there is none.
pub fn device(tree: &SystemTree, address: PciAddress) -> Option<PciDevice> {
    let directory = directory(address);
    let number = |name: &str| {
        let line = tree.line(directory.join(name))?;
        u32::from_str_radix(line.strip_prefix("0x").unwrap_or(&line), 16).ok()
    };
    let identity = PciIdentity {
        vendor: number("vendor")? as u16,
        device: number("device")? as u16,
        class: number("class")?,
        revision: number("revision").unwrap_or(0) as u8,
    };
    let group = tree.link_name(directory.join("iommu_group"));
    Some(PciDevice {
        address,
        identity,
        driver: tree.link_name(directory.join("driver")),
        group: group.and_then(|name| name.parse().ok()),
    })
}

/// All cards and NVMe controllers, by address.
pub fn devices(tree: &SystemTree) -> Vec<PciDevice> {
    let addresses = tree.names(DEVICES).into_iter().filter_map(|name| name.parse().ok());
    let mut found: Vec<PciDevice> = addresses.filter_map(|address| device(tree, address)).collect();
    found.retain(|device| device.kind() != DeviceKind::Other);
    found.sort_by_key(|device| device.address);
    found
}

/// Another device of an IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Where it is.
    pub address: PciAddress,
    /// The driver that has it.
    pub driver: Option<String>,
}

impl Neighbour {
    /// Whether it keeps user space from the group: a driver has it that may do DMA. The kernel lets a group go with
    /// devices that vfio or no driver has, and with those of pci-stub and of bridges.
    pub fn is_in_the_way(&self) -> bool {
        !matches!(self.driver.as_deref(), None | Some(VFIO_PCI | "pci-stub" | "pcieport"))
    }
}

impl std::fmt::Display for Neighbour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.driver {
            Some(driver) => write!(f, "{} (driver {driver})", self.address),
            None => write!(f, "{} (no driver)", self.address),
        }
    }
}

/// The devices of an IOMMU group.
pub(super) fn group_members(tree: &SystemTree, group: u32) -> Vec<PciAddress> {
    let names = tree.names(format!("/sys/kernel/iommu_groups/{group}/devices"));
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// The other devices of an IOMMU group.
pub fn neighbours(tree: &SystemTree, group: u32, of: PciAddress) -> Vec<Neighbour> {
    let others = group_members(tree, group).into_iter().filter(|&address| address != of);
    others
        .map(|address| Neighbour { address, driver: tree.link_name(directory(address).join("driver")) })
        .collect()
}
