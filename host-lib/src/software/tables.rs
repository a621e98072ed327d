//! The card's tables as the control ring wrote them; what was never written is all zero.

use std::collections::BTreeMap;

use volplane_abi::plan::path_policy;
use volplane_abi::{AllocationEntry, DeviceEntry, ExtentEntry, PathEntry, VdEntry};

/// The tables that decide what becomes of a command.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Virtual disks by handle.
    pub vds: BTreeMap<u32, VdEntry>,
    /// Allocations by index.
    pub allocations: BTreeMap<u32, AllocationEntry>,
    /// Extents by index.
    pub extents: BTreeMap<u32, ExtentEntry>,
    /// Devices by number.
    pub devices: BTreeMap<u16, DeviceEntry>,
    /// Paths by number.
    pub paths: BTreeMap<u8, PathEntry>,
}

impl Tables {
    /// A virtual disk by the namespace identifier a client uses.
    pub fn disk(&self, namespace_id: u32) -> Option<&VdEntry> {
        self.vds.get(&namespace_id.checked_sub(1)?)
    }

    /// A device with a valid entry.
    pub fn device(&self, number: u16) -> Option<&DeviceEntry> {
        self.devices.get(&number).filter(|device| device.valid() == 1)
    }

    /// The paths to a device that have a valid entry, in order of preference.
    pub fn usable_paths(&self, number: u16) -> Vec<u8> {
        let mut paths = self.paths_to(number);
        paths.retain(|path| self.paths.get(path).is_some_and(|path| path.valid() == 1));
        paths
    }

    /// The paths that a fragment may take by the device's policy: one, or any of several in turns.
    pub fn choices(&self, number: u16) -> Vec<u8> {
        let mut paths = self.usable_paths(number);
        if self.device(number).is_some_and(|device| device.path_policy() != path_policy::ROUND_ROBIN) {
            paths.truncate(1);
        }
        paths
    }

    /// The paths to a device, in order of preference, usable or not.
    pub fn paths_to(&self, number: u16) -> Vec<u8> {
        let Some(device) = self.device(number) else {
            return Vec::new();
        };
        let all = [device.path(), device.path1(), device.path2(), device.path3()];
        all[..=usize::from(device.more_paths())].to_vec()
    }
}
