//! Physical devices and the paths to them.

use volplane_abi::plan::path_policy;
use volplane_abi::registers::RING_ENTRIES_MAX;
use volplane_abi::tables::table;
use volplane_abi::{completion_mode, DeviceEntry, PathCompletions, PathEntry};
use volplane_driver::{Iova, PAGE};

use super::{
    argument, path_state, write, ControlPath, DeviceInfo, DevicePaths, PathPolicy, PathsError, TableEntry,
    Tables, VaapiError, DEVICE_PATHS_MAX,
};

impl DevicePaths {
    /// One path.
    pub fn one(path: u8) -> Self {
        Self { numbers: [path, 0, 0, 0], count: 1, policy: PathPolicy::Preferred }
    }

    /// Several paths, in order of preference.
    ///
    /// # Errors
    /// Says why no device can have them.
    pub fn new(paths: &[u8], policy: PathPolicy) -> Result<Self, PathsError> {
        if !(1..=DEVICE_PATHS_MAX).contains(&paths.len()) {
            return Err(PathsError::Count(paths.len()));
        }
        let twice = (1..paths.len()).find(|&at| paths[..at].contains(&paths[at]));
        if let Some(at) = twice {
            return Err(PathsError::Twice(paths[at]));
        }
        let mut numbers = [0; DEVICE_PATHS_MAX];
        numbers[..paths.len()].copy_from_slice(paths);
        Ok(Self { numbers, count: paths.len(), policy })
    }

    /// Those of a device's entry, as the card has it.
    pub fn of_entry(entry: &DeviceEntry) -> Self {
        let policy = match entry.path_policy() {
            path_policy::ROUND_ROBIN => PathPolicy::RoundRobin,
            _ => PathPolicy::Preferred,
        };
        let mut numbers = [entry.path(), entry.path1(), entry.path2(), entry.path3()];
        let count = usize::from(entry.more_paths()) + 1;
        numbers[count..].fill(0);
        Self { numbers, count, policy }
    }

    /// Their numbers.
    pub fn numbers(&self) -> &[u8] {
        &self.numbers[..self.count]
    }

    /// The policy.
    pub fn policy(&self) -> PathPolicy {
        self.policy
    }

    fn put(&self, entry: DeviceEntry) -> DeviceEntry {
        let policy = match self.policy {
            PathPolicy::Preferred => path_policy::PREFERRED,
            PathPolicy::RoundRobin => path_policy::ROUND_ROBIN,
        };
        let [path, path1, path2, path3] = self.numbers;
        let entry = entry.with_path(path).with_path1(path1).with_path2(path2).with_path3(path3);
        entry.with_more_paths(self.count as u8 - 1).with_path_policy(policy)
    }
}

/// A path as VAAPI wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePath {
    /// Its entry; `completion_mode` follows from `completions`.
    pub entry: PathEntry,
    /// Where its completion queue is in host memory; `None`: in its window of the card's BAR2.
    pub completions: Option<Iova>,
}

impl DevicePath {
    /// The entries of the card's tables, in order.
    pub(crate) fn entries(&self, path: u8) -> Vec<TableEntry> {
        let Some(place) = self.completions else {
            return vec![TableEntry::new(table::PATH, path.into(), &self.entry.0)];
        };
        let completions = PathCompletions::default().with_base(place.0);
        let entry = self.entry.with_completion_mode(completion_mode::HOST);
        vec![
            TableEntry::new(table::PATH_COMPLETIONS, path.into(), &completions.0),
            TableEntry::new(table::PATH, path.into(), &entry.0),
        ]
    }
}

impl From<PathEntry> for DevicePath {
    fn from(entry: PathEntry) -> Self {
        Self { entry, completions: None }
    }
}

impl ControlPath {
    /// AP_SetDevicePath: a queue pair of an NVMe controller, made before, whose completion queue is
    /// window `path` or in host memory. A path in use is replaced only when no fragment is on it.
    pub fn ap_set_device_path(
        &mut self,
        tables: &mut dyn Tables,
        path: u8,
        to: impl Into<DevicePath>,
    ) -> Result<(), VaapiError> {
        const CALL: &str = "AP_SetDevicePath";
        let to: DevicePath = to.into();
        let DevicePath { entry, completions } = to;
        if u32::from(path) >= self.paths {
            return Err(argument(CALL, format!("path {path} of {}", self.paths)));
        }
        if entry.sq_size_z() == 0 || entry.cq_size_z() == 0 {
            return Err(argument(CALL, format!("path {path}: a queue has 2 entries or more")));
        }
        let most = entry.sq_size_z().min(entry.cq_size_z());
        if !(1..=most).contains(&entry.limit()) {
            return Err(argument(CALL, format!("path {path}: limit {} is not 1 to {most}", entry.limit())));
        }
        let state = path_state(CALL, tables, path)?;
        let outstanding = state.issued().wrapping_sub(state.returned());
        if outstanding != 0 {
            return Err(argument(CALL, format!("path {path}: {outstanding} fragments are on it")));
        }
        let misplaced = |place: Iova| {
            !place.0.is_multiple_of(PAGE as u64) || u32::from(entry.cq_size_z()) >= RING_ENTRIES_MAX
        };
        if completions.is_some_and(misplaced) {
            let rule = format!("begins on a page and has {RING_ENTRIES_MAX} entries at most");
            return Err(argument(CALL, format!("path {path}: a completion queue in host memory {rule}")));
        }
        let entry = entry.with_completion_mode(completion_mode::WINDOW).with_valid(1);
        write(CALL, tables, &DevicePath { entry, ..to }.entries(path))
    }

    /// AP_SetDeviceInfo: a device behind its paths.
    pub fn ap_set_device_info(
        &mut self,
        tables: &mut dyn Tables,
        device: u16,
        info: DeviceInfo,
    ) -> Result<(), VaapiError> {
        const CALL: &str = "AP_SetDeviceInfo";
        // `VdEntry::flush_devices` has a bit for each.
        if u64::from(device) >= self.room.devices.min(32) {
            return Err(argument(CALL, format!("device {device} of {}", self.room.devices.min(32))));
        }
        let paths = self.paths;
        if let Some(&path) = info.paths.numbers().iter().find(|&&path| u32::from(path) >= paths) {
            return Err(VaapiError::NoSuchPath { call: CALL, device, path, paths });
        }
        for (name, limit) in [("transfer", info.transfer_blocks), ("Write Zeroes", info.write_zeroes_blocks)]
        {
            if !(1..=1 << 16).contains(&limit) {
                let problem = format!("device {device}: {name} limit of {limit} blocks is not 1 to 65536");
                return Err(argument(CALL, problem));
            }
        }
        let entry = DeviceEntry::default()
            .with_namespace_id(info.namespace)
            .with_transfer_limit(info.transfer_blocks)
            .with_write_zeroes_limit(info.write_zeroes_blocks)
            .with_valid(1);
        let entry = info.paths.put(entry);
        write(CALL, tables, &[TableEntry::new(table::DEVICE, device.into(), &entry.0)])?;
        self.devices.insert(device, info);
        Ok(())
    }
}
