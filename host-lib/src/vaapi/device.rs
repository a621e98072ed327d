//! Physical devices and the paths to them.

use volplane_abi::tables::table;
use volplane_abi::{DeviceEntry, PathEntry};

use super::{argument, path_state, write, ControlPath, DeviceInfo, TableEntry, Tables, VaapiError};

impl ControlPath {
    /// AP_SetDevicePath: a queue pair of an NVMe controller, made before, whose completion queue is
    /// window `path`. A path in use is replaced only when no fragment is on it.
    pub fn ap_set_device_path(
        &mut self,
        tables: &mut dyn Tables,
        path: u8,
        entry: PathEntry,
    ) -> Result<(), VaapiError> {
        const CALL: &str = "AP_SetDevicePath";
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
        write(CALL, tables, &[TableEntry::new(table::PATH, path.into(), &entry.with_valid(1).0)])
    }

    /// AP_SetDeviceInfo: a device behind a path.
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
        if u32::from(info.path) >= self.paths {
            return Err(argument(CALL, format!("device {device}: path {} of {}", info.path, self.paths)));
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
            .with_path(info.path)
            .with_valid(1);
        write(CALL, tables, &[TableEntry::new(table::DEVICE, device.into(), &entry.0)])?;
        self.devices.insert(device, info);
        Ok(())
    }
}
