//! Bring-up: card, SSDs, tables, client queues.

use std::collections::{BTreeMap, BTreeSet};

use volplane_abi::registers::RING_ENTRIES_MAX;
use volplane_abi::{submission_mode, CompletionEntry, PathEntry, SubmissionEntry};
use volplane_driver::{
    Capabilities, Card, ClientQueue, CompletionQueue, DmaMemory, NvmeController, NvmeError, Platform, PAGE,
};

use super::{Addresses, CompletionMode, Engine, EngineOptions, StartError, SubmissionMode};
use crate::bring_up::{check_options, device_info, map_disks, set_plans, Disks, Ssd, IO_QUEUE};
use crate::configuration::{Configuration, TableSizes};
use crate::copies::Copies;
use crate::operations::command::CommandLimits;
use crate::operations::dispatcher::{Bounds, Dispatcher};
use crate::plans::ControlPart;
use crate::vaapi::{CardTables, ControlPath, DevicePath};

/// The client that the engine is to the card.
pub(super) const CLIENT: u16 = 0;

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
        check_options(configuration, &addresses.devices, options)?;
        let copies = Copies::load(configuration)?;
        // Declared before the card, whose reads of them end when it is reset.
        let mut completion_queues = BTreeMap::new();
        let mut card = Card::open(&mut platform, &addresses.card)?;
        let capabilities = card.capabilities().clone();
        let room = room(&capabilities);
        configuration.check_room(&room)?;
        let mut control = ControlPath::new(room, capabilities.paths);

        // Declared after the card, so that on an error the SSDs are disabled before it is reset.
        let mut ssds = Vec::new();
        let mut limits = Vec::new();
        for (number, (device, address)) in configuration.devices.iter().zip(&addresses.devices).enumerate() {
            let (ssd, found) = Ssd::open(&mut platform, configuration, device, address)?;
            ssds.push(ssd);
            let ssd = ssds.last_mut().expect("just pushed");
            let NewPath { entry, completions } =
                create_path(&mut platform, &card, &mut ssd.controller, number as u8, options)
                    .map_err(|source| ssd.failed(source))?;
            let path = DevicePath { entry, completions: completions.as_ref().map(DmaMemory::iova) };
            completion_queues.extend(completions.map(|memory| (number as u8, memory)));
            let mut tables = CardTables { card: &mut card, platform: &mut platform };
            control.ap_set_device_path(&mut tables, number as u8, path)?;
            control.ap_set_device_info(
                &mut tables,
                number as u16,
                device_info(device, &found, number as u8),
            )?;
            limits.push(found);
        }

        let mut tables = CardTables { card: &mut card, platform: &mut platform };
        let most = CommandLimits::from(&capabilities);
        let Disks { disks, limits } = map_disks(&mut control, &mut tables, configuration, &limits, most)?;

        set_plans(&mut control, &mut tables, configuration, options, &copies)?;

        let queues = create_queues(&mut platform, &mut card, options)?;
        let vectors = (0..queues.len() as u16).filter_map(|queue| vector(&capabilities, queue));
        let vectors = vectors.chain(card.exception_vector()).collect();
        let bounds = Bounds { operations: options.operations, answer: options.answer_limit };
        Ok(Self {
            ssds,
            gone: BTreeSet::new(),
            card,
            completion_queues,
            dispatcher: Dispatcher::new(queues, limits, bounds),
            disks,
            part: ControlPart::new(control, copies, options),
            vectors,
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
        plans: capabilities.plans.into(),
        diverts: capabilities.divert_ranges.into(),
        slots: capabilities.slots.into(),
    }
}

/// A path that was made, for the card's tables.
pub(super) struct NewPath {
    pub(super) entry: PathEntry,
    /// Its completion queue, where that is in host memory.
    pub(super) completions: Option<DmaMemory>,
}

/// Creates the SSD's queue pair that the card drives: submission queue in host memory, completion
/// queue in the card's window of `path` or in memory of its own.
pub(super) fn create_path<P: Platform>(
    platform: &mut P,
    card: &Card<P::Function>,
    controller: &mut NvmeController<P::Function>,
    path: u8,
    options: &EngineOptions,
) -> Result<NewPath, NvmeError> {
    let window = (1u32 << card.capabilities().window_shift) / CompletionEntry::BYTES as u32;
    let room = match options.completion_mode {
        CompletionMode::Window => window,
        CompletionMode::Host => RING_ENTRIES_MAX,
    };
    let most = controller.queue_entries_max().min(room).min(u32::from(u16::MAX));
    let entries = options.path_entries.min(most as u16);
    let sq = platform.allocate(usize::from(entries) * SubmissionEntry::BYTES)?;
    // Made anew it has new memory, so that the card takes no old entry for a new one.
    let completions = match options.completion_mode {
        CompletionMode::Window => None,
        CompletionMode::Host => Some(platform.allocate(usize::from(entries) * CompletionEntry::BYTES)?),
    };
    let window = CompletionQueue::Window(card.window_iova(path));
    let cq = completions.as_ref().map_or(window, CompletionQueue::Host);
    let doorbells = controller.create_io_queue_pair(platform, IO_QUEUE, &sq, entries, cq, entries)?;
    let mode = match options.submission_mode {
        SubmissionMode::Direct => submission_mode::DIRECT,
        SubmissionMode::Fenced => submission_mode::FENCED,
    };
    let entry = PathEntry::default()
        .with_sq_base(sq.iova().0)
        .with_sq_doorbell(doorbells.sq_tail.0)
        .with_cq_doorbell(doorbells.cq_head.0)
        .with_sq_size_z(entries - 1)
        .with_cq_size_z(entries - 1)
        .with_limit(entries - 1)
        .with_submission_mode(mode);
    Ok(NewPath { entry, completions })
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
