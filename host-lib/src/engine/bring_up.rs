//! Bring-up: card, SSDs, tables, client queues.

use volplane_abi::{submission_mode, CompletionEntry, PathEntry, SubmissionEntry};
use volplane_driver::{
    Capabilities, Card, ClientQueue, DmaMemory, NamespaceLimits, NvmeController, NvmeError, Platform, PAGE,
};

use super::command::{DeviceLimits, DiskLimits};
use super::dispatcher::{Bounds, Dispatcher};
use super::{Addresses, Engine, EngineOptions, Ssd, StartError, SubmissionMode, IO_QUEUE};
use crate::configuration::{Configuration, Device, Disk, TableSizes};
use crate::service::{VdHandle, VirtualDisk};
use crate::vaapi::{CardTables, ControlPath, DeviceInfo};

/// The client that the engine is to the card.
const CLIENT: u16 = 0;

impl<P: Platform> Engine<P> {
    /// Brings up the card and the devices of a configuration, and maps its disks.
    ///
    /// # Errors
    /// `StartError`; what was opened until then is reset.
    pub fn start(
        mut platform: P,
        configuration: &Configuration,
        addresses: &Addresses,
        options: &EngineOptions,
    ) -> Result<Self, StartError> {
        if addresses.devices.len() != configuration.devices.len() {
            return Err(StartError::Options("there is not one address for each device"));
        }
        if options.queues == 0 || options.operations == 0 || options.path_entries < 2 {
            return Err(StartError::Options("an engine needs a queue, an operation and two path entries"));
        }
        let mut card = Card::open(&mut platform, &addresses.card)?;
        let capabilities = card.capabilities().clone();
        let room = room(&capabilities);
        configuration.check_room(&room)?;
        let mut control = ControlPath::new(room, capabilities.paths);

        // Declared after the card, so that on an error the SSDs are disabled before it is reset.
        let mut ssds = Vec::new();
        let mut limits = Vec::new();
        for (number, (device, address)) in configuration.devices.iter().zip(&addresses.devices).enumerate() {
            let (controller, found) = open(&mut platform, configuration, device, address)?;
            ssds.push(Ssd { name: device.name.clone(), controller });
            let ssd = ssds.last_mut().expect("just pushed");
            let path = create_path(&mut platform, &card, ssd, number as u8, options)?;
            let mut tables = CardTables { card: &mut card, platform: &mut platform };
            control.ap_set_device_path(&mut tables, number as u8, path)?;
            control.ap_set_device_info(&mut tables, number as u16, info(device, &found, number as u8))?;
            limits.push(found);
        }

        let (mut disks, mut disk_limits) = (Vec::new(), Vec::new());
        for (number, disk) in configuration.disks.iter().enumerate() {
            let handle = VdHandle(number as u16);
            let mut tables = CardTables { card: &mut card, platform: &mut platform };
            control.ap_set_map_vd(&mut tables, handle, &disk.map)?;
            disk_limits.push(DiskLimits::new(handle, &disk.map, &least(disk, &limits), &capabilities));
            disks.push(virtual_disk(handle, disk, &capabilities));
        }

        let queues = create_queues(&mut platform, &mut card, options)?;
        let vectors = (0..queues.len() as u16).filter_map(|queue| vector(&capabilities, queue)).collect();
        let bounds = Bounds { operations: options.operations, answer: options.answer_limit };
        Ok(Self {
            ssds,
            card,
            control,
            dispatcher: Dispatcher::new(queues, disk_limits, bounds),
            disks,
            vectors,
            stop_limit: options.stop_limit,
            platform,
        })
    }
}

fn room(capabilities: &Capabilities) -> TableSizes {
    TableSizes {
        disks: capabilities.vds.into(),
        // Each device has one path.
        devices: capabilities.devices.min(capabilities.paths).into(),
        allocations: capabilities.allocations.into(),
        extents: capabilities.extents.into(),
        columns: capabilities.columns.into(),
    }
}

/// Opens a device and holds its first namespace against the configuration.
fn open<P: Platform>(
    platform: &mut P,
    configuration: &Configuration,
    device: &Device,
    address: &str,
) -> Result<(NvmeController<P::Function>, NamespaceLimits), StartError> {
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
    Ok((controller, limits))
}

/// Creates the SSD's queue pair that the card drives: submission queue in host memory, completion
/// queue in the card's window of `path`.
fn create_path<P: Platform>(
    platform: &mut P,
    card: &Card<P::Function>,
    ssd: &mut Ssd<P::Function>,
    path: u8,
    options: &EngineOptions,
) -> Result<PathEntry, StartError> {
    let window = (1u32 << card.capabilities().window_shift) / CompletionEntry::BYTES as u32;
    let most = ssd.controller.queue_entries_max().min(window).min(u32::from(u16::MAX));
    let entries = options.path_entries.min(most as u16);
    let sq = platform.allocate(usize::from(entries) * SubmissionEntry::BYTES)?;
    let cq = card.window_iova(path);
    let doorbells = ssd
        .controller
        .create_io_queue_pair(platform, IO_QUEUE, &sq, entries, cq, entries)
        .map_err(|source| StartError::Device { device: ssd.name.clone(), source })?;
    let mode = match options.submission_mode {
        SubmissionMode::Direct => submission_mode::DIRECT,
        SubmissionMode::Fenced => submission_mode::FENCED,
    };
    Ok(PathEntry::default()
        .with_sq_base(sq.iova().0)
        .with_sq_doorbell(doorbells.sq_tail.0)
        .with_cq_doorbell(doorbells.cq_head.0)
        .with_sq_size_z(entries - 1)
        .with_cq_size_z(entries - 1)
        .with_limit(entries - 1)
        .with_submission_mode(mode))
}

fn info(device: &Device, limits: &NamespaceLimits, path: u8) -> DeviceInfo {
    DeviceInfo {
        namespace: limits.namespace,
        block_shift: device.block_size.trailing_zeros() as u8,
        blocks: device.blocks,
        transfer_blocks: limits.transfer_blocks,
        write_zeroes_blocks: limits.write_zeroes_blocks,
        path,
    }
}

/// The least limits of a disk's devices.
fn least(disk: &Disk, limits: &[NamespaceLimits]) -> DeviceLimits {
    let devices = disk.map.devices();
    let used =
        || limits.iter().enumerate().filter(|(index, _)| devices >> index & 1 == 1).map(|(_, one)| one);
    let least = |field: fn(&NamespaceLimits) -> u32| used().map(field).min().unwrap_or(1);
    DeviceLimits {
        transfer_blocks: least(|one| one.transfer_blocks),
        write_zeroes_blocks: least(|one| one.write_zeroes_blocks),
        deallocate_blocks: least(|one| one.deallocate_blocks),
    }
}

fn virtual_disk(handle: VdHandle, disk: &Disk, capabilities: &Capabilities) -> VirtualDisk {
    let striped = disk.map.segments.iter().filter(|segment| segment.columns.len() > 1);
    let unit = striped.map(|segment| 1u64 << segment.stripe_shift << disk.map.block_shift).min();
    let most = u64::from(capabilities.transfer_bytes);
    VirtualDisk {
        handle,
        name: disk.name.clone(),
        block_size: 1 << disk.map.block_shift,
        blocks: disk.map.blocks(),
        preferred_io_bytes: unit.map_or(most, |unit| unit.min(most)) as u32,
    }
}

/// The interrupt vector of the client queue at `index`, if the card has any.
fn vector(capabilities: &Capabilities, index: u16) -> Option<u16> {
    (capabilities.vectors > 0).then(|| index % capabilities.vectors as u16)
}

/// A client queue and the pages of its command slots.
type QueueWithPages<P> = (ClientQueue<<P as Platform>::Function>, DmaMemory);

/// Client queues, each with a page for every command it holds.
fn create_queues<P: Platform>(
    platform: &mut P,
    card: &mut Card<P::Function>,
    options: &EngineOptions,
) -> Result<Vec<QueueWithPages<P>>, StartError> {
    let capabilities = card.capabilities().clone();
    // Number 0 is the control ring.
    let count = u32::from(options.queues).min(capabilities.queues.saturating_sub(1));
    if count == 0 {
        return Err(StartError::Options("the card has no client queue"));
    }
    let mut queues = Vec::new();
    for index in 0..count as u16 {
        let vector = vector(&capabilities, index);
        let queue = card.create_queue(platform, index + 1, options.queue_entries, vector, CLIENT)?;
        let pages = platform.allocate(queue.capacity() * PAGE)?;
        queues.push((queue, pages));
    }
    Ok(queues)
}
