//! The software data path as a block service: the virtual disks of a configuration where there is no card.
//!
//! Operations become client commands as they do for a card (`operations`), `DataPath` executes the
//! commands, and its fragments go to the SSDs over queue pairs in host memory; path n leads to device n.
//! The SSDs move the data straight from and to the client's buffer.
//!
//! * It polls: the SSDs raise no interrupt for these queues.
//! * A fragment that is not answered in a quarter of the options' `answer_limit`, or an SSD that writes
//!   what it cannot mean, has its queue pair deleted and made anew, by a reset of the controller if need
//!   be; then its fragments are given again.
//! * An SSD that is gone from its bus (its registers read all ones) does nothing any more: the loss of its link
//!   has reset it. What it was given fails with Host Pathing Error, and so does what follows.
//! * Where not even a reset helps, the SSD may still use the buffers it was given. Their operations stay
//!   outstanding, and the service fails after `answer_limit`.
//! * What the data path hands to the control path ends at once with the status that is due: nobody else
//!   is there to decide. A write that missed a copy is told to its client when the state file says that the copy is
//!   out (`decisions`).
//! * Of the options, `queues` and both modes have no meaning here: one processor does it all.

use std::time::Duration;

use volplane_abi::plan::{plan_status, COMPONENT_FRAGMENTS_MAX};
use volplane_abi::registers::TRANSFER_BYTES_MAX;
use volplane_abi::status::{self, DNR};
use volplane_abi::CompletionEntry;
use volplane_driver::{DmaMemory, Platform, PAGE};

use super::command_ring::{CommandRing, QUEUE};
use super::cut::Fragment;
use super::engine::{Action, Bounds, DataPath};
use super::plan::ClientTag;
use super::ssd_path::SsdPath;
use crate::bring_up::{check_options, device_info, map_disks, set_plans, Disks, Ssd, IO_QUEUE, TICK};
use crate::configuration::{Configuration, TableSizes};
use crate::copies::Copies;
use crate::engine::{EngineOptions, StartError, StopError};
use crate::events::{Event, EventKind};
use crate::operations::command::CommandLimits;
use crate::operations::dispatcher::{self, Dispatcher};
use crate::operations::wind_down::drain_and_flush;
use crate::service::{BlockService, Completion, Operation, ServiceError, SubmitError, VdHandle, VirtualDisk};
use crate::vaapi::ControlPath;

/// Room in the tables; a device has one path, and a bit in `VdEntry::flush_devices`.
const ROOM: TableSizes = TableSizes {
    disks: 1 << 16,
    devices: 32,
    allocations: 1 << 24,
    extents: 1 << 28,
    columns: 16,
    plans: 1 << 16,
    diverts: 1 << 16,
    slots: (COMMANDS_MAX + RESERVE) as u64,
};
/// Most commands at a time: the data path looks at every plan at each step.
const COMMANDS_MAX: u16 = 256;
/// Plan slots for plans of the control path.
const RESERVE: u16 = 16;
/// Longest pause between two looks for completions.
const LOOK: Duration = Duration::from_micros(10);

/// Virtual disks executed by software. See the module.
pub struct SoftwareEngine<P: Platform> {
    // In order of drop: the SSDs are disabled before the memory goes that they write.
    pub(super) paths: Vec<SsdPath<P::Function>>,
    pub(super) data_path: DataPath,
    pub(super) control: ControlPath,
    dispatcher: Dispatcher<CommandRing>,
    /// Pages of the commands: their PRP lists and ranges.
    pages: DmaMemory,
    pub(super) disks: Vec<VirtualDisk>,
    pub(super) copies: Copies,
    stop_limit: Duration,
    platform: P,
}

impl<P: Platform> SoftwareEngine<P> {
    /// Brings up the devices of a configuration, one address each, and maps its disks.
    ///
    /// # Errors
    /// `StartError`; what was opened until then is reset.
    pub fn start(
        mut platform: P,
        configuration: &Configuration,
        devices: &[String],
        options: &EngineOptions,
    ) -> Result<Self, StartError> {
        check_options(configuration, devices, options)?;
        let copies = Copies::load(configuration)?;
        configuration.check_room(&ROOM)?;
        let ring = CommandRing::new(options.queue_entries.saturating_sub(1).clamp(1, COMMANDS_MAX));
        let commands = ring.capacity();
        let mut data_path = DataPath::new(Bounds {
            slots: commands + RESERVE,
            reserve: RESERVE,
            per_client: commands,
            per_disk: commands,
            records: usize::from(commands + RESERVE),
        });
        let mut control = ControlPath::new(ROOM, ROOM.devices as u32);
        let (mut paths, mut found) = (Vec::new(), Vec::new());
        for (number, (device, address)) in configuration.devices.iter().zip(devices).enumerate() {
            let (ssd, limits) = Ssd::open(&mut platform, configuration, device, address)?;
            let path = SsdPath::create(&mut platform, ssd, options.path_entries)?;
            control.ap_set_device_path(&mut data_path, number as u8, path.entry())?;
            let info = device_info(device, &limits, number as u8);
            control.ap_set_device_info(&mut data_path, number as u16, info)?;
            paths.push(path);
            found.push(limits);
        }
        let most =
            CommandLimits { fragments: COMPONENT_FRAGMENTS_MAX as u32, transfer_bytes: TRANSFER_BYTES_MAX };
        let Disks { disks, limits } = map_disks(&mut control, &mut data_path, configuration, &found, most)?;
        set_plans(&mut control, &mut data_path, configuration, options, &copies)?;
        let pages = platform.allocate(usize::from(commands) * PAGE)?;
        let bounds = dispatcher::Bounds { operations: options.operations, answer: options.answer_limit };
        let dispatcher = Dispatcher::new(vec![(ring, pages.clone())], limits, bounds);
        let stop_limit = options.stop_limit;
        Ok(Self { paths, data_path, control, dispatcher, pages, disks, copies, stop_limit, platform })
    }

    /// The platform, for those who also drive what is behind it.
    pub fn platform(&mut self) -> &mut P {
        &mut self.platform
    }

    /// The VAAPI calls, and the data path, which is the tables for them. `virtual_disks` shows the disks
    /// as they were at the start.
    pub fn vaapi(&mut self) -> (&mut ControlPath, &mut DataPath) {
        (&mut self.control, &mut self.data_path)
    }

    /// Does what can be done now, without waiting but for an SSD that is made quiet.
    fn pump(&mut self) {
        self.data_path.advance((self.platform.now().as_nanos() / TICK.as_nanos()) as u64);
        let mut back = Vec::new();
        loop {
            self.take_commands();
            self.act(&mut back);
            self.decide();
            for path in &mut self.paths {
                path.issue(&mut back);
                path.poll(&mut back);
            }
            self.renew_faulty();
            back.drain(..).for_each(|(id, status)| self.data_path.returned(id, status));
            if !self.data_path.has_actions() {
                return;
            }
        }
    }

    /// Hands the dispatcher's commands to the data path.
    fn take_commands(&mut self) {
        let pages = &self.pages;
        let memory = |at: u64| {
            let offset = usize::try_from(at.checked_sub(pages.iova().0)?).ok()?;
            (offset % 8 == 0 && offset < pages.len()).then(|| pages.read_record(offset))
        };
        while let Some(entry) = self.dispatcher.queue(0).take_submission() {
            let client = ClientTag { queue: QUEUE, command: entry.command_id() };
            self.data_path.submit(client, entry, &memory);
        }
    }

    /// Does what the data path asks for. Fragments of no use go to `back`.
    ///
    /// Fences come last: the fragments that the data path issued before it knows of one are forgotten with
    /// the rest, and must not reach the SSD after.
    fn act(&mut self, back: &mut Vec<(u64, u16)>) {
        let mut fences = Vec::new();
        while let Some(action) = self.data_path.next_action() {
            match action {
                Action::Issue { id, path, fragment } => {
                    let path = self.paths.get_mut(usize::from(path));
                    if !path.is_some_and(|path| path.give(id, fragment)) {
                        back.push((id, plan_status::HOST_PATH_ERROR));
                    }
                }
                Action::Fill { id, fragment } => back.push((id, self.fill(&fragment))),
                // Nobody makes pass-through plans here.
                Action::Raw { id, .. } => back.push((id, status::INTERNAL_ERROR | DNR)),
                Action::Complete { client, status } => {
                    let completion =
                        CompletionEntry::default().with_command_id(client.command).with_status(status);
                    self.dispatcher.queue(0).complete(completion);
                }
                Action::Fence { path } => fences.push(path),
                Action::Deactivated { disk } => {
                    let disk = self.copies.name(VdHandle(disk));
                    self.copies.note(EventKind::Deactivated { disk });
                }
                // That it is durable follows with the record of the write that it missed.
                Action::MovedOut { disk, component } => {
                    let disk = self.copies.name(VdHandle(disk));
                    self.copies.note(EventKind::CopyOut { disk, copy: component });
                }
            }
        }
        fences.into_iter().for_each(|path| self.renew(path));
    }

    /// Writes zeros to a fragment's memory.
    fn fill(&self, fragment: &Fragment) -> u16 {
        let Ok(segments) = &fragment.segments else { return status::INTERNAL_ERROR | DNR };
        for segment in segments {
            let len = segment.len as usize;
            let Some(memory) = self.dispatcher.buffer_at(segment.iova, len) else {
                return status::DATA_TRANSFER_ERROR | DNR;
            };
            memory.fill(0, len, 0);
        }
        status::SUCCESS
    }

    fn renew_faulty(&mut self) {
        for number in 0..self.paths.len() {
            if self.paths[number].is_faulty() {
                self.renew(number as u8);
            }
        }
    }

    /// Makes an SSD quiet, and its path usable again. Whatever it was given is given again. One that is gone is
    /// quiet, and its path is not used any more.
    fn renew(&mut self, number: u8) {
        let Some(path) = self.paths.get_mut(usize::from(number)).filter(|path| !path.is_lost()) else {
            return;
        };
        let mut back = Vec::new();
        path.poll(&mut back);
        let device = path.ssd.name.clone();
        let renewed = path.renew(&mut self.platform);
        let gone = path.is_gone();
        if renewed.is_err() && !gone {
            // What the SSD never saw can go on; the rest may still be executed and stays outstanding.
            back.extend(path.take_waiting().map(|id| (id, plan_status::HOST_PATH_ERROR)));
        }
        back.into_iter().for_each(|(id, status)| self.data_path.returned(id, status));
        let happened = match renewed {
            Ok(()) => EventKind::Renewed { device },
            Err(_) if gone => EventKind::Gone { device },
            Err(error) => EventKind::Stuck { device, reason: error.to_string() },
        };
        match happened {
            EventKind::Renewed { .. } => self.data_path.path_renewed(number),
            EventKind::Gone { .. } => self.data_path.path_quiesced(number),
            _ => {}
        }
        self.copies.note(happened);
    }
}

impl<P: Platform> SoftwareEngine<P>
where
    P::Function: Sync,
{
    /// Waits for every operation, flushes every disk, deletes all queues and shuts the SSDs down.
    /// Completions that were not polled are lost.
    ///
    /// # Errors
    /// The first error. Even then everything that could be reached was shut down.
    pub fn stop(mut self) -> Result<P, StopError> {
        let limit = self.stop_limit;
        let mut result = drain_and_flush(&mut self, limit);
        self.dispatcher.stop();
        let quiet = result.is_ok();
        // Buffers and rings go after the SSDs were shut down.
        let Self { paths, dispatcher, pages, mut platform, .. } = self;
        for path in paths {
            if path.is_gone() {
                continue;
            }
            let (Ssd { name, mut controller }, held) = path.into_ssd();
            let deleted =
                if quiet { controller.delete_io_queue_pair(&mut platform, IO_QUEUE) } else { Ok(()) };
            let ended = deleted.and(controller.shutdown(&mut platform));
            result = result.and(ended.map_err(|source| StopError::Device { device: name, source }));
            drop(held);
        }
        drop((dispatcher, pages));
        result.map(|()| platform)
    }
}

impl<P: Platform> BlockService for SoftwareEngine<P>
where
    P::Function: Sync,
{
    fn virtual_disks(&self) -> &[VirtualDisk] {
        &self.disks
    }

    fn allocate(&mut self, bytes: usize) -> Result<DmaMemory, ServiceError> {
        Ok(self.platform.allocate(bytes)?)
    }

    fn submit(
        &mut self,
        disk: VdHandle,
        operation: Operation,
        buffer: Option<DmaMemory>,
        tag: u64,
    ) -> Result<(), SubmitError> {
        let now = self.platform.now();
        self.dispatcher.submit(disk, operation, buffer, tag, now)
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<usize, ServiceError> {
        self.pump();
        let count = self.dispatcher.poll(self.platform.now(), done)?;
        // Completions made room for more commands.
        if self.dispatcher.queue(0).has_submissions() {
            self.pump();
        }
        Ok(count)
    }

    fn outstanding(&self) -> usize {
        self.dispatcher.outstanding()
    }

    fn now(&self) -> Duration {
        self.platform.now()
    }

    fn take_events(&mut self) -> Vec<Event> {
        self.copies.take_events()
    }

    fn wait(&mut self, deadline: Duration) -> Result<(), ServiceError> {
        loop {
            self.pump();
            if self.dispatcher.has_finished() || self.dispatcher.queue(0).has_completions() {
                return Ok(());
            }
            let now = self.platform.now();
            if now >= deadline {
                return Ok(());
            }
            let idle = self.dispatcher.outstanding() == 0;
            let until = if idle { deadline } else { deadline.min(now + LOOK) };
            self.platform.wait(until)?;
        }
    }
}
