//! The tables read back: the hardware's repository.

use volplane_abi::tables::table;
use volplane_abi::{AllocationEntry, DeviceEntry, ExtentEntry, PathState, VdEntry};

use super::{argument, path_state, read, ControlPath, DevicePaths, Tables, VaapiError};
use crate::service::VdHandle;

impl ControlPath {
    /// RI_GetVDList: the disks that have a map.
    pub fn ri_get_vd_list(&self) -> Vec<VdHandle> {
        self.disks.keys().copied().collect()
    }

    /// RI_GetVDInfo: a disk's entry, as the card has it.
    pub fn ri_get_vd_info(&self, tables: &mut dyn Tables, disk: VdHandle) -> Result<VdEntry, VaapiError> {
        const CALL: &str = "RI_GetVDInfo";
        self.disk(CALL, disk)?;
        read(CALL, tables, table::VD, disk.0.into())
    }

    /// RI_GetMapVD: a disk's whole map, allocation by allocation, as the card has it.
    pub fn ri_get_map_vd(
        &self,
        tables: &mut dyn Tables,
        disk: VdHandle,
    ) -> Result<Vec<(AllocationEntry, Vec<ExtentEntry>)>, VaapiError> {
        let count = self.disk("RI_GetMapVD", disk)?.allocations.len() as u32;
        (0..count).map(|allocation| self.ri_get_vd_storage_segment(tables, disk, allocation)).collect()
    }

    /// RI_GetVDStorageSegment: one allocation and its extents, as the card has them.
    pub fn ri_get_vd_storage_segment(
        &self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        allocation: u32,
    ) -> Result<(AllocationEntry, Vec<ExtentEntry>), VaapiError> {
        const CALL: &str = "RI_GetVDStorageSegment";
        let known = self.disk(CALL, disk)?;
        let Some(mapped) = known.allocations.get(allocation as usize) else {
            return Err(argument(CALL, format!("{disk}: allocation {allocation} is not mapped")));
        };
        let entry = read(CALL, tables, table::ALLOCATION, known.entry.map_root() + allocation)?;
        let extents = mapped.extents.clone().map(|index| read(CALL, tables, table::EXTENT, index));
        Ok((entry, extents.collect::<Result<_, _>>()?))
    }

    /// RI_GetVDStorageExtent: one extent, as the card has it.
    pub fn ri_get_vd_storage_extent(
        &self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        allocation: u32,
        extent: u32,
    ) -> Result<ExtentEntry, VaapiError> {
        const CALL: &str = "RI_GetVDStorageExtent";
        let mapped = self.disk(CALL, disk)?.allocations.get(allocation as usize);
        match mapped.map(|mapped| mapped.extents.clone()) {
            Some(extents) if extent < extents.len() as u32 => {
                read(CALL, tables, table::EXTENT, extents.start + extent)
            }
            _ => Err(argument(
                CALL,
                format!("{disk}: extent {extent} of allocation {allocation} is not mapped"),
            )),
        }
    }

    /// RI_GetDeviceList: the devices that were set up.
    pub fn ri_get_device_list(&self) -> Vec<u16> {
        self.devices.keys().copied().collect()
    }

    /// RI_GetDeviceInfo: a device's entry, as the card has it.
    pub fn ri_get_device_info(
        &self,
        tables: &mut dyn Tables,
        device: u16,
    ) -> Result<DeviceEntry, VaapiError> {
        const CALL: &str = "RI_GetDeviceInfo";
        self.device(CALL, device)?;
        read(CALL, tables, table::DEVICE, device.into())
    }

    /// RI_GetDevicePaths: a device's paths and their policy, as the card has them.
    pub fn ri_get_device_paths(
        &self,
        tables: &mut dyn Tables,
        device: u16,
    ) -> Result<DevicePaths, VaapiError> {
        Ok(DevicePaths::of_entry(&self.ri_get_device_info(tables, device)?))
    }

    /// AP_GetDevicePathState: the live state of each path to a device, in order of preference.
    pub fn ap_get_device_path_state(
        &self,
        tables: &mut dyn Tables,
        device: u16,
    ) -> Result<Vec<(u8, PathState)>, VaapiError> {
        const CALL: &str = "AP_GetDevicePathState";
        let paths = self.device(CALL, device)?.paths;
        paths.numbers().iter().map(|&path| Ok((path, path_state(CALL, tables, path)?))).collect()
    }
}
