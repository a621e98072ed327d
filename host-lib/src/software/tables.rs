//! The card's tables as the control ring wrote them; what was never written is all zero.

use std::collections::BTreeMap;

use volplane_abi::plan::path_policy;
use volplane_abi::{
    vd_status, AllocationEntry, ComponentEntry, ComponentStates, DeviceEntry, DivertEntry, ExtentEntry,
    PathEntry, PlanEntry, QuotaEntry, VdEntry,
};

use super::template::{ComponentState, Components, PlanTemplate};

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
    /// Plan templates by number.
    pub plans: BTreeMap<u16, PlanEntry>,
    /// Their components, by plan × 8 + component.
    pub components: BTreeMap<u32, ComponentEntry>,
    /// Divert ranges by index.
    pub diverts: BTreeMap<u32, DivertEntry>,
    /// Quotas of virtual disks by handle.
    pub quotas: BTreeMap<u32, QuotaEntry>,
    /// What has become of the components, by disk; `select` and `reactivate` are 0.
    pub states: BTreeMap<u16, ComponentStates>,
}

impl Tables {
    /// A virtual disk by the namespace identifier a client uses.
    pub fn disk(&self, namespace_id: u32) -> Option<&VdEntry> {
        self.vds.get(&namespace_id.checked_sub(1)?)
    }

    /// A virtual disk as admission sees it: one that a failure has deactivated is deactivated.
    pub fn disk_now(&self, namespace_id: u32) -> Option<VdEntry> {
        let disk = *self.disk(namespace_id)?;
        let struck =
            u16::try_from(namespace_id - 1).is_ok_and(|disk| self.states_of(disk).deactivated() == 1);
        let struck = struck && disk.status() == vd_status::ENABLED;
        Some(if struck { disk.with_status(vd_status::DEACTIVATED) } else { disk })
    }

    /// What the commands of a disk become from now on.
    pub fn template(&self, disk: u16) -> PlanTemplate {
        let number = self.vds.get(&disk.into()).map_or(0, VdEntry::plan);
        if number == 0 {
            return PlanTemplate::single(disk);
        }
        let plan = self.plans.get(&number).copied().unwrap_or_default();
        let component = |place: usize| self.components.get(&ComponentEntry::index(number, place));
        let components = std::array::from_fn(|place| component(place).copied().unwrap_or_default());
        PlanTemplate::from_entries(&plan, &components, &self.states_of(disk))
    }

    /// The number of the template that a disk names, 0: none.
    pub(super) fn template_number(&self, disk: u16) -> u16 {
        self.vds.get(&disk.into()).map_or(0, VdEntry::plan)
    }

    /// Whether a disk's plan diverts a command to these blocks.
    pub fn is_diverted(&self, disk: u16, lba: u64, blocks: u64) -> bool {
        let number = self.vds.get(&disk.into()).map_or(0, VdEntry::plan);
        let Some(plan) = self.plans.get(&number).filter(|_| number != 0) else { return false };
        let first = u32::from(plan.first_divert());
        let run = first..first + u32::from(plan.diverts());
        let touched = |range: &DivertEntry| {
            range.valid() == 1 && lba <= range.last() && range.first() < lba.saturating_add(blocks)
        };
        run.filter_map(|index| self.diverts.get(&index)).any(touched)
    }

    /// What has become of a disk's components.
    pub fn states_of(&self, disk: u16) -> ComponentStates {
        self.states.get(&disk).copied().unwrap_or_default()
    }

    /// The components of a disk that are read from now.
    pub fn in_sync(&self, disk: u16) -> Components {
        if self.vds.get(&disk.into()).map_or(0, VdEntry::plan) == 0 {
            return PlanTemplate::single(disk).readable();
        }
        let states = self.states_of(disk);
        Components::of(|number| ComponentState::in_entry(&states, number) == ComponentState::InSync)
    }

    /// The components of a disk that cannot come back as they are: known to be out for good, or absent.
    pub fn durably_out(&self, disk: u16) -> Components {
        if self.vds.get(&disk.into()).map_or(0, VdEntry::plan) == 0 {
            return PlanTemplate::single(disk).durably_out;
        }
        PlanTemplate::durably_out_of(&self.states_of(disk))
    }

    /// Writes to the states of a disk, by the rules of `ComponentStates`.
    pub fn write_states(&mut self, disk: u16, written: &ComponentStates) {
        let mut entry = self.states_of(disk);
        for number in Components(written.select()).numbers() {
            let state = ComponentState::in_entry(written, number);
            let overwrites = state == ComponentState::InSync
                && ComponentState::in_entry(&entry, number) == ComponentState::Out;
            if !overwrites {
                entry = state.put(entry, number);
            }
            let bit = Components::one(number);
            let durable = Components(entry.durably_out()).without(bit);
            entry = entry.with_durably_out(durable.or(Components(written.durably_out()).and(bit)).0);
        }
        if written.reactivate() == 1 {
            entry = entry.with_deactivated(written.deactivated());
        }
        self.states.insert(disk, entry);
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
