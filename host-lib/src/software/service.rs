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
//! * What the data path hands to the control path is `crate::plans`' to end or to share, as of a card. Commands of the
//!   control path itself come by a queue of their own, for which there always are slots.
//! * Of the options, `queues` and both modes have no meaning here: one processor does it all.

use std::time::Duration;

use volplane_abi::plan::{plan_status, COMPONENT_FRAGMENTS_MAX};
use volplane_abi::registers::TRANSFER_BYTES_MAX;
use volplane_abi::status::{self, DNR};
use volplane_abi::CompletionEntry;
use volplane_driver::{AccessError, DmaMemory, Platform, PAGE};

use super::command_ring::CommandRing;
use super::cut::Fragment;
use super::engine::{Action, Bounds, DataPath};
use super::host_memory::HostMemory;
use super::plan::ClientTag;
use super::ssd_path::{Given, SsdPath};
use crate::bring_up::{check_options, device_info, map_disks, set_plans, Disks, Ssd, IO_QUEUE, TICK};
use crate::configuration::{Configuration, TableSizes};
use crate::copies::Copies;
use crate::engine::{EngineOptions, StartError, StopError};
use crate::events::{Event, EventKind};
use crate::operations::command::CommandLimits;
use crate::operations::dispatcher::{self, CommandQueue, Dispatcher};
use crate::operations::wind_down::wind_down;
use crate::plans::{ControlPart, Decides};
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
    slots: (COMMANDS_MAX + OWN_COMMANDS) as u64,
};
/// Most commands at a time: the data path looks at every plan at each step.
const COMMANDS_MAX: u16 = 256;
/// Most commands of the control path itself at a time.
pub(super) const OWN_COMMANDS: u16 = 64;
/// The queue of clients' commands. 0 is the control path, when it speaks to the data path itself;
const CLIENT_QUEUE: u16 = 1;
/// and this the queue of its commands.
pub(super) const OWN_QUEUE: u16 = 2;
/// Longest pause between two looks for completions.
pub(super) const LOOK: Duration = Duration::from_micros(10);

/// Virtual disks executed by software. See the module.
pub struct SoftwareEngine<P: Platform> {
    // In order of drop: the SSDs are disabled before the memory goes that they write.
    pub(super) paths: Vec<SsdPath<P::Function>>,
    pub(super) data_path: DataPath,
    pub(super) part: ControlPart<CommandRing>,
    dispatcher: Dispatcher<CommandRing>,
    memory: HostMemory,
    disks: Vec<VirtualDisk>,
    pub(super) platform: P,
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
        let ring =
            CommandRing::new(CLIENT_QUEUE, options.queue_entries.saturating_sub(1).clamp(1, COMMANDS_MAX));
        let commands = ring.capacity();
        // Whatever clients have that waits, the control path's own commands find a slot: the rings are the quotas.
        let slots = commands + OWN_COMMANDS;
        let mut data_path = DataPath::new(Bounds {
            slots,
            reserve: 0,
            per_client: slots,
            per_disk: slots,
            records: slots.into(),
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
        let mut memory = HostMemory::default();
        memory.insert(&pages);
        let dispatcher = Dispatcher::new(vec![(ring, pages)], limits, bounds);
        let part = ControlPart::new(control, copies, options);
        Ok(Self { paths, data_path, part, dispatcher, memory, disks, platform })
    }

    /// The platform, for those who also drive what is behind it.
    pub fn platform(&mut self) -> &mut P {
        &mut self.platform
    }

    /// The VAAPI calls, and the data path, which is the tables for them. `virtual_disks` shows the disks
    /// as they were at the start.
    pub fn vaapi(&mut self) -> (&mut ControlPath, &mut DataPath) {
        (&mut self.part.control, &mut self.data_path)
    }

    /// Memory that commands may name.
    pub(super) fn allocate_named(&mut self, bytes: usize) -> Result<DmaMemory, AccessError> {
        self.memory.forget_unused();
        let memory = self.platform.allocate(bytes)?;
        self.memory.insert(&memory);
        Ok(memory)
    }

    /// Does what can be done now, without waiting but for an SSD that is made quiet.
    pub(super) fn pump(&mut self) -> Result<(), ServiceError> {
        self.data_path.advance((self.platform.now().as_nanos() / TICK.as_nanos()) as u64);
        let mut back = Vec::new();
        loop {
            self.take_commands();
            self.act(&mut back);
            // What it failed on stays undecided.
            self.decide().inspect_err(|_| self.dispatcher.stop())?;
            for path in &mut self.paths {
                path.issue(&mut back);
                path.poll(&mut back);
            }
            self.renew_faulty();
            back.drain(..).for_each(|(id, status)| self.data_path.returned(id, status));
            let own = self.part.own.queue().is_some_and(|ring| ring.has_submissions());
            if !(own || self.data_path.has_actions() || self.data_path.has_records()) {
                return Ok(());
            }
        }
    }

    /// Hands commands of clients, and of the control path, to the data path.
    fn take_commands(&mut self) {
        let memory = |at: u64| self.memory.word(at);
        for ring in [Some(self.dispatcher.queue(0)), self.part.own.queue()].into_iter().flatten() {
            while let Some(entry) = ring.take_submission() {
                let client = ClientTag { queue: ring.number(), command: entry.command_id() };
                self.data_path.submit(client, entry, &memory);
            }
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
                    self.give(id, path, Given::Fragment(fragment), back);
                }
                Action::Raw { id, path, entry } => self.give(id, path, Given::Raw(entry), back),
                Action::Fill { id, fragment } => back.push((id, self.fill(&fragment))),
                Action::Complete { client, status } => self.complete(client, status),
                Action::Fence { path } => fences.push(path),
                Action::Deactivated { disk } => {
                    let copies = &mut self.part.copies;
                    copies.note(EventKind::Deactivated { disk: copies.name(VdHandle(disk)) });
                }
                // The record of the write that it missed tells of it.
                Action::MovedOut { .. } => {}
            }
        }
        fences.into_iter().for_each(|path| self.renew(path));
    }

    fn give(&mut self, id: u64, path: u8, given: Given, back: &mut Vec<(u64, u16)>) {
        let path = self.paths.get_mut(usize::from(path));
        if !path.is_some_and(|path| path.give(id, given)) {
            back.push((id, plan_status::HOST_PATH_ERROR));
        }
    }

    /// Answers whom a command came from. Who speaks to the data path itself asks it what has become of his.
    fn complete(&mut self, client: ClientTag, status: u16) {
        let completion = CompletionEntry::default().with_command_id(client.command).with_status(status);
        match client.queue {
            CLIENT_QUEUE => self.dispatcher.queue(0).complete(completion),
            OWN_QUEUE => self.part.own.queue().into_iter().for_each(|ring| ring.complete(completion)),
            _ => {}
        }
    }

    /// Writes zeros to a fragment's memory.
    fn fill(&self, fragment: &Fragment) -> u16 {
        let Ok(segments) = &fragment.segments else { return status::INTERNAL_ERROR | DNR };
        for segment in segments {
            let len = segment.len as usize;
            let memory = self.dispatcher.buffer_at(segment.iova, len);
            let Some(memory) = memory.or_else(|| self.memory.at(segment.iova, len)) else {
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
    pub(super) fn renew(&mut self, number: u8) {
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
        self.part.copies.note(happened);
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
        let limit = self.part.options.stop_limit;
        let mut result = wind_down(&mut self, limit);
        self.dispatcher.stop();
        let quiet = result.is_ok();
        // Buffers and rings go after the SSDs were shut down.
        let Self { paths, dispatcher, memory, part, mut platform, .. } = self;
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
        drop((dispatcher, memory, part));
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
        Ok(self.allocate_named(bytes)?)
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
        self.pump()?;
        let count = self.dispatcher.poll(self.platform.now(), done)?;
        // Completions made room for more commands.
        if self.dispatcher.queue(0).has_submissions() {
            self.pump()?;
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
        self.part.copies.take_events()
    }

    fn wait(&mut self, deadline: Duration) -> Result<(), ServiceError> {
        self.memory.forget_unused();
        let kept = self.part.kept.waiting();
        loop {
            self.pump()?;
            // A plan that is handed up is somebody's to decide on.
            if self.part.kept.waiting() > kept
                || self.dispatcher.has_finished()
                || self.dispatcher.queue(0).has_completions()
            {
                return Ok(());
            }
            let now = self.platform.now();
            if now >= deadline {
                return Ok(());
            }
            let idle = self.dispatcher.outstanding() == 0 && self.data_path.is_idle();
            let until = if idle { deadline } else { deadline.min(now + LOOK) };
            self.platform.wait(until)?;
        }
    }
}
