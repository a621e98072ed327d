//! Bring-up of the devices and disks of a configuration, whatever executes the disks.

use std::time::Duration;

use volplane_abi::plan::TIME_OUT_MAX;
use volplane_driver::{Function, NamespaceLimits, NvmeController, NvmeError, Platform};

use crate::configuration::{Configuration, Device, Disk, Endurance};
use crate::copies::Copies;
use crate::engine::{EngineOptions, StartError};
use crate::map::DiskMap;
use crate::operations::command::{CommandLimits, DeviceLimits, DiskLimits};
use crate::service::{VdHandle, VirtualDisk};
use crate::software::{Component, ComponentState, Components, PlanTemplate};
use crate::vaapi::{ControlPath, DeviceInfo, DevicePaths, Tables, VaapiError};

/// I/O queue pair of each SSD that executes the disks.
pub(crate) const IO_QUEUE: u16 = 1;
/// How often a fragment is given again before it has failed. A time-out may take two of them.
const RETRIES: u8 = 3;
/// A tick of whatever executes the disks.
pub(crate) const TICK: Duration = Duration::from_micros(1);

/// An SSD of a configuration.
pub(crate) struct Ssd<F: Function> {
    pub(crate) name: String,
    pub(crate) controller: NvmeController<F>,
}

impl<F: Function> Ssd<F> {
    /// Opens a device and holds its first namespace against the configuration.
    pub(crate) fn open<P: Platform<Function = F>>(
        platform: &mut P,
        configuration: &Configuration,
        device: &Device,
        address: &str,
    ) -> Result<(Self, NamespaceLimits), StartError> {
        let failed = |source: NvmeError| StartError::Device { device: device.name.clone(), source };
        let wrong = |field: &str, problem: String| configuration.error(&device.origin, field, problem);
        let mut controller = NvmeController::open(platform, address).map_err(failed)?;
        let Some(&namespace) = controller.namespaces().first() else {
            return Err(wrong("name", format!("the SSD at {address} has no namespace")).into());
        };
        let limits = controller.limits(platform, namespace).map_err(failed)?;
        if limits.block_bytes != device.block_size {
            let problem = format!("the SSD at {address} has blocks of {} bytes", limits.block_bytes);
            return Err(wrong("block_size", problem).into());
        }
        if limits.blocks < device.blocks {
            let problem = format!(
                "device too small: the SSD at {address} has {} blocks, size is {}",
                limits.blocks, device.blocks
            );
            return Err(wrong("size", problem).into());
        }
        if !limits.write_zeroes || !limits.dataset_management {
            let problem = format!("the SSD at {address} serves no Write Zeroes or no Dataset Management");
            return Err(wrong("name", problem).into());
        }
        Ok((Self { name: device.name.clone(), controller }, limits))
    }

    /// Makes the SSD quiet, and its queue pair anew by `create`, with a reset of the controller if nothing less helps.
    ///
    /// # Errors
    /// `NvmeError::Gone` of one that is gone from its bus, and so quiet. After any other error the SSD may still
    /// execute what it was given.
    pub(crate) fn renew<P: Platform<Function = F>, Q>(
        &mut self,
        platform: &mut P,
        mut create: impl FnMut(&mut P, &mut NvmeController<F>) -> Result<Q, NvmeError>,
    ) -> Result<Q, NvmeError> {
        self.controller.answers()?;
        let deleted = self.controller.delete_io_queue_pair(platform, IO_QUEUE);
        deleted.and_then(|()| create(platform, &mut self.controller)).or_else(|_| {
            self.controller.reset(platform)?;
            create(platform, &mut self.controller)
        })
    }

    /// The driver's error, with the device's name.
    pub(crate) fn failed(&self, source: NvmeError) -> StartError {
        StartError::Device { device: self.name.clone(), source }
    }
}

/// Refuses options and addresses that fit no configuration.
pub(crate) fn check_options(
    configuration: &Configuration,
    devices: &[String],
    options: &EngineOptions,
) -> Result<(), StartError> {
    if devices.len() != configuration.devices.len() {
        return Err(StartError::Options("there is not one address for each device"));
    }
    if options.queues == 0 || options.operations == 0 || options.path_entries < 2 {
        return Err(StartError::Options("an engine needs a queue, an operation and two path entries"));
    }
    Ok(())
}

/// The disks of a configuration, mapped.
pub(crate) struct Disks {
    pub(crate) disks: Vec<VirtualDisk>,
    pub(crate) limits: Vec<DiskLimits>,
}

/// Maps the disks of a configuration onto devices that were set up before, with these limits.
pub(crate) fn map_disks(
    control: &mut ControlPath,
    tables: &mut dyn Tables,
    configuration: &Configuration,
    devices: &[NamespaceLimits],
    most: CommandLimits,
) -> Result<Disks, VaapiError> {
    let (mut disks, mut limits) = (Vec::new(), Vec::new());
    for (number, disk) in configuration.disks.iter().enumerate() {
        let handle = VdHandle(number as u16);
        control.ap_set_map_vd(tables, handle, &disk.map)?;
        let of_map = |map| DiskLimits::new(handle, map, &least(map, devices), most);
        limits.extend(disk.maps().map(of_map).reduce(DiskLimits::and));
        disks.push(virtual_disk(handle, disk, most));
    }
    Ok(Disks { disks, limits })
}

/// A component in sync; what its configuration does not say is the same for all.
fn component(disk: VdHandle, endurance: Endurance, options: &EngineOptions) -> Component {
    let Endurance { time_out, retries } = endurance;
    let time_out = time_out.unwrap_or(options.answer_limit / 4);
    let ticks = time_out.as_nanos().div_ceil(TICK.as_nanos());
    Component {
        disk: disk.0,
        state: ComponentState::InSync,
        time_out: ticks.min(TIME_OUT_MAX.into()) as u32,
        retries: retries.unwrap_or(RETRIES),
    }
}

/// The plan of a disk that stands for a whole device: a time-out, and no further tries.
pub(crate) fn device_plan(disk: VdHandle, options: &EngineOptions) -> PlanTemplate {
    let mut template = PlanTemplate::single(disk.0);
    template.components[0] = component(disk, Endurance { time_out: None, retries: Some(0) }, options);
    template
}

/// Gives each disk of a configuration its plan, but for bare ones. The first copy is the disk's own map,
/// further ones are virtual disks behind those of the configuration.
pub(crate) fn set_plans(
    control: &mut ControlPath,
    tables: &mut dyn Tables,
    configuration: &Configuration,
    options: &EngineOptions,
    copies: &Copies,
) -> Result<(), VaapiError> {
    let mut next = configuration.disks.len() as u16;
    for (number, disk) in configuration.disks.iter().enumerate() {
        let handle = VdHandle(number as u16);
        let mut template = PlanTemplate::single(handle.0);
        let Some(plan) = &disk.plan else {
            template.components[0] = component(handle, disk.endurance, options);
            if !disk.bare {
                control.ssap_set_io_plan(tables, handle, &template)?;
            }
            continue;
        };
        (template.read, template.write) = (plan.reads, plan.writes);
        (template.read_policy, template.minimum) = (plan.read_policy, plan.minimum);
        for (copy, mirror) in plan.mirrors.iter().enumerate() {
            let map = if copy == 0 { handle } else { VdHandle(next) };
            if copy > 0 {
                control.ap_set_map_vd(tables, map, &mirror.map)?;
                next += 1;
            }
            let mut component = component(map, mirror.endurance, options);
            if copies.out(handle).has(copy) {
                component.state = ComponentState::Out;
            }
            template.components[copy] = component;
        }
        template.durably_out = Components::of(|copy| !template.writable().has(copy));
        control.ssap_set_io_plan(tables, handle, &template)?;
    }
    Ok(())
}

/// A device as VAAPI wants it.
pub(crate) fn device_info(device: &Device, limits: &NamespaceLimits, path: u8) -> DeviceInfo {
    DeviceInfo {
        namespace: limits.namespace,
        block_shift: device.block_size.trailing_zeros() as u8,
        blocks: device.blocks,
        transfer_blocks: limits.transfer_blocks,
        write_zeroes_blocks: limits.write_zeroes_blocks,
        paths: DevicePaths::one(path),
    }
}

/// The least limits of a map's devices.
fn least(map: &DiskMap, limits: &[NamespaceLimits]) -> DeviceLimits {
    let devices = map.devices();
    let used =
        || limits.iter().enumerate().filter(|(index, _)| devices >> index & 1 == 1).map(|(_, one)| one);
    let least = |field: fn(&NamespaceLimits) -> u32| used().map(field).min().unwrap_or(1);
    DeviceLimits {
        transfer_blocks: least(|one| one.transfer_blocks),
        write_zeroes_blocks: least(|one| one.write_zeroes_blocks),
        deallocate_blocks: least(|one| one.deallocate_blocks),
    }
}

fn virtual_disk(handle: VdHandle, disk: &Disk, most: CommandLimits) -> VirtualDisk {
    let striped = disk.maps().flat_map(|map| &map.segments).filter(|segment| segment.columns.len() > 1);
    let unit = striped.map(|segment| 1u64 << segment.stripe_shift << disk.map.block_shift).min();
    let most = u64::from(most.transfer_bytes);
    VirtualDisk {
        handle,
        name: disk.name.clone(),
        block_size: 1 << disk.map.block_shift,
        blocks: disk.map.blocks(),
        preferred_io_bytes: unit.map_or(most, |unit| unit.min(most)) as u32,
    }
}
