//! Handing a device to vfio-pci, and back: `driver_override` names the driver that may have it, `drivers_probe` makes
//! the kernel look for one.
//!
//! What fails is undone as far as the kernel lets it: the device goes back to whatever driver wants it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::address::PciAddress;
use super::devices::{device, directory, neighbours, DeviceKind, Neighbour, PciDevice};
use super::tree::{Claim, SystemTree};
use super::uses::{group_uses, namespace_uses, UseError, Uses};
use super::VFIO_PCI;

/// Where drivers of PCI devices are.
const DRIVERS: &str = "/sys/bus/pci/drivers";
/// Makes the kernel look for a driver of a device.
const PROBE: &str = "/sys/bus/pci/drivers_probe";

/// Why a device stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// No such device.
    #[error("there is no PCI device at {0}; `volplane devices` lists cards and NVMe controllers")]
    NoDevice(PciAddress),
    /// Neither a card nor an NVMe controller.
    #[error("{address} is neither a Volplane card nor an NVMe controller, but {vendor:04x}:{device:04x} of class {class:06x}")]
    NotOurs {
        /// Where.
        address: PciAddress,
        /// Vendor.
        vendor: u16,
        /// Device.
        device: u16,
        /// Class.
        class: u32,
    },
    /// No IOMMU group.
    #[error(
        "{0} has no IOMMU group: switch the IOMMU on in the firmware (VT-d, AMD-Vi) and start the kernel with \
         intel_iommu=on (AMD's is on by itself)"
    )]
    NoIommu(PciAddress),
    /// vfio-pci is not there.
    #[error("the kernel has no driver vfio-pci: `modprobe vfio-pci` loads it")]
    NoDriver,
    /// Somebody uses it.
    #[error("{address} stays with {driver}: {uses}")]
    InUse {
        /// Where.
        address: PciAddress,
        /// Its driver.
        driver: String,
        /// By what it is used.
        uses: Uses,
    },
    /// It could not be found out whether somebody uses it.
    #[error("{address}: {source}")]
    Unknown {
        /// Where.
        address: PciAddress,
        /// Why.
        source: UseError,
    },
    /// Another driver than vfio-pci has it, or none.
    #[error("{address} is not bound to vfio-pci: {}", driver_words(.driver.as_deref()))]
    NotBound {
        /// Where.
        address: PciAddress,
        /// Its driver.
        driver: Option<String>,
    },
    /// The kernel refused a step.
    #[error("{address}: {step}: cannot write {value:?} to {}: {source}{}", .attribute.display(), hint(.source))]
    Step {
        /// Where.
        address: PciAddress,
        /// What was being done.
        step: &'static str,
        /// File.
        attribute: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel accepted every step, and vfio-pci has not got it all the same.
    #[error("{address}: vfio-pci did not take it, {}; the kernel's log says why", driver_words(.driver.as_deref()))]
    NotTaken {
        /// Where.
        address: PciAddress,
        /// Who has it now.
        driver: Option<String>,
    },
}

fn driver_words(driver: Option<&str>) -> String {
    driver.map_or_else(|| "no driver has it".to_owned(), |driver| format!("{driver} has it"))
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => " (this is for root)",
        io::ErrorKind::ReadOnlyFilesystem => " (sysfs is mounted read-only, as in a container)",
        _ => "",
    }
}

/// A device that vfio-pci has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Where.
    pub address: PciAddress,
    /// Its IOMMU group.
    pub group: u32,
    /// Who had it.
    pub before: Option<String>,
    /// Others of its group that a driver has: nobody can open the group before they are handed over too.
    pub in_the_way: Vec<Neighbour>,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bound { address, group, before, in_the_way } = self;
        match before.as_deref() {
            Some(VFIO_PCI) => write!(f, "{address} is with vfio-pci already, IOMMU group {group}")?,
            Some(before) => write!(f, "{address} went from {before} to vfio-pci, IOMMU group {group}")?,
            None => write!(f, "{address} went to vfio-pci, IOMMU group {group}")?,
        }
        if !in_the_way.is_empty() {
            let others: Vec<String> = in_the_way.iter().map(Neighbour::to_string).collect();
            write!(f, "\nThe group cannot be opened yet, it also has {}", others.join(", "))?;
        }
        Ok(())
    }
}

/// A device that was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbound {
    /// Where.
    pub address: PciAddress,
    /// Who has it now.
    pub driver: Option<String>,
}

impl fmt::Display for Unbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unbound { address, driver } = self;
        match driver {
            Some(driver) => write!(f, "{address} went from vfio-pci to {driver}"),
            None => write!(f, "{address} went from vfio-pci, and no driver wants it"),
        }
    }
}

/// Hands a card, or an NVMe controller that nobody uses, to vfio-pci.
///
/// # Errors
/// `BindError`; the device has its driver again then, where the kernel gave it back.
pub fn bind(tree: &SystemTree, address: PciAddress) -> Result<Bound, BindError> {
    let found = ours(tree, address)?;
    let Some(group) = found.group else { return Err(BindError::NoIommu(address)) };
    if !tree.path(DRIVERS).join(VFIO_PCI).exists() {
        return Err(BindError::NoDriver);
    }
    let bound = |before| Bound { address, group, before, in_the_way: in_the_way(tree, group, address) };
    if found.is_handed_over() {
        return Ok(bound(found.driver));
    }
    let claims = unused(tree, &found)?;
    let steps = Steps { tree, address };
    steps.name_driver(VFIO_PCI)?;
    let moved = match &found.driver {
        Some(driver) => steps.release(driver),
        None => Ok(()),
    };
    // Nobody could begin to use it until here; now there is nothing to be used.
    drop(claims);
    let moved = moved.and_then(|()| steps.probe("looking for its driver"));
    let driver = device(tree, address).and_then(|now| now.driver);
    match moved {
        Ok(()) if driver.as_deref() == Some(VFIO_PCI) => Ok(bound(found.driver)),
        failed => {
            // What undoing meets too is what is told already.
            let _ = steps.name_driver("");
            let _ = driver.is_none().then(|| steps.probe("giving it back"));
            failed?;
            Err(BindError::NotTaken { address, driver: device(tree, address).and_then(|now| now.driver) })
        }
    }
}

/// Takes a device from vfio-pci, unless a process has it, and lets the kernel look for a driver.
///
/// # Errors
/// `BindError`.
pub fn unbind(tree: &SystemTree, address: PciAddress) -> Result<Unbound, BindError> {
    let found = ours(tree, address)?;
    if !found.is_handed_over() {
        return Err(BindError::NotBound { address, driver: found.driver });
    }
    // The kernel would wait until the process has gone.
    let uses = found.group.map(|group| group_uses(tree, group)).unwrap_or_default();
    if !uses.0.is_empty() {
        return Err(BindError::InUse { address, driver: VFIO_PCI.to_owned(), uses });
    }
    let steps = Steps { tree, address };
    steps.name_driver("")?;
    steps.release(VFIO_PCI)?;
    steps.probe("looking for its driver")?;
    Ok(Unbound { address, driver: device(tree, address).and_then(|now| now.driver) })
}

fn ours(tree: &SystemTree, address: PciAddress) -> Result<PciDevice, BindError> {
    let found = device(tree, address).ok_or(BindError::NoDevice(address))?;
    if found.kind() == DeviceKind::Other {
        let identity = found.identity;
        let (vendor, device, class) = (identity.vendor, identity.device, identity.class);
        return Err(BindError::NotOurs { address, vendor, device, class });
    }
    Ok(found)
}

/// Claims of all namespaces of a device; none where it is no NVMe controller.
fn unused(tree: &SystemTree, found: &PciDevice) -> Result<Vec<Claim>, BindError> {
    let address = found.address;
    if found.kind() != DeviceKind::Nvme {
        return Ok(Vec::new());
    }
    let (uses, claims) =
        namespace_uses(tree, address).map_err(|source| BindError::Unknown { address, source })?;
    if !uses.0.is_empty() {
        let driver = found.driver.clone().unwrap_or_else(|| "no driver".to_owned());
        return Err(BindError::InUse { address, driver, uses });
    }
    Ok(claims)
}

fn in_the_way(tree: &SystemTree, group: u32, address: PciAddress) -> Vec<Neighbour> {
    neighbours(tree, group, address).into_iter().filter(Neighbour::is_in_the_way).collect()
}

/// The kernel's files that move a device.
struct Steps<'a> {
    tree: &'a SystemTree,
    address: PciAddress,
}

impl Steps<'_> {
    /// Names the only driver that may have it; "" for any.
    fn name_driver(&self, driver: &str) -> Result<(), BindError> {
        let attribute = directory(self.address).join("driver_override");
        self.write("naming its driver", attribute, format!("{driver}\n"))
    }

    fn release(&self, driver: &str) -> Result<(), BindError> {
        let attribute = PathBuf::from(DRIVERS).join(driver).join("unbind");
        self.write("taking it from its driver", attribute, self.address.to_string())
    }

    fn probe(&self, step: &'static str) -> Result<(), BindError> {
        self.write(step, PathBuf::from(PROBE), self.address.to_string())
    }

    fn write(&self, step: &'static str, attribute: PathBuf, value: String) -> Result<(), BindError> {
        let written = self.tree.kernel().write(&self.tree.path(&attribute), &value);
        written.map_err(|source| {
            let value = value.trim_end().to_owned();
            BindError::Step { address: self.address, step, attribute, value, source }
        })
    }
}

#[cfg(test)]
#[path = "binding_tests.rs"]
mod tests;
