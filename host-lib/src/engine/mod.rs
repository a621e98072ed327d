//! The engine: virtual disks executed by a card.
//!
//! `Engine::start` brings up card and SSDs, writes the tables of a configuration and creates client
//! queues; the engine is a `BlockService` then. `Engine::stop` drains, flushes, and leaves every
//! device reset. An engine that is dropped without it disables the SSDs and resets the card, but
//! flushes nothing.
//!
//! * `bring_up`: from configuration to running queues.
//! * `control`: the card, as the control path of `plans` reaches it.
//! * `fences`: SSDs that do not answer in time are made quiet.
//!
//! Operations become commands in `operations`; what the card hands up is ended, or shared, by `plans`.

mod bring_up;
mod control;
mod fences;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use volplane_driver::{AccessError, Card, CardError, ClientQueue, DmaMemory, NvmeError, Platform};

use crate::bring_up::{Ssd, IO_QUEUE};
use crate::configuration::ConfigurationError;
use crate::events::Event;
use crate::operations::dispatcher::Dispatcher;
use crate::operations::wind_down::wind_down;
use crate::out_copies::StateError;
use crate::plans::{ControlPart, PlanService};
use crate::service::{
    BlockService, Completion, IoError, Operation, ServiceError, SubmitError, VdHandle, VirtualDisk,
};
use crate::vaapi::{CardTables, ControlPath, VaapiError};

/// Where the functions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Address of the card, as the platform names it.
    pub card: String,
    /// Address of each device of the configuration, in its order.
    pub devices: Vec<String>,
}

/// How the card tells an SSD of new commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmissionMode {
    /// The doorbell follows the commands on the bus. Only where the topology keeps their order.
    Direct,
    /// The card reads the last command back before it rings.
    Fenced,
}

/// Where an SSD writes its completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompletionMode {
    /// To the card. Only where the topology keeps them behind the data.
    #[default]
    Window,
    /// To host memory, behind the data, where the card reads them.
    Host,
}

/// Sizes and limits of an engine. What the card or an SSD has less of is made to fit.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Client queue pairs, 1 and up.
    pub queues: u16,
    /// Entries of each client queue, 2 to 4,096.
    pub queue_entries: u16,
    /// Entries of each queue of an SSD, 2 and up.
    pub path_entries: u16,
    /// Operations in progress at once, 1 and up.
    pub operations: usize,
    /// Submission mode of every path.
    pub submission_mode: SubmissionMode,
    /// Completion mode of every path.
    pub completion_mode: CompletionMode,
    /// Longest time that an operation may show no sign of life.
    pub answer_limit: Duration,
    /// Longest time to drain or flush at the end.
    pub stop_limit: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            queues: 1,
            queue_entries: 1024,
            path_entries: 1024,
            operations: 1024,
            submission_mode: SubmissionMode::Fenced,
            completion_mode: CompletionMode::Window,
            answer_limit: Duration::from_secs(120),
            stop_limit: Duration::from_secs(120),
        }
    }
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not fit the card or the devices.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// What was kept of the disks' copies.
    #[error(transparent)]
    State(#[from] StateError),
    /// The options or addresses are wrong.
    #[error("{0}")]
    Options(&'static str),
    /// The card.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A device.
    #[error("device {device:?}: {source}")]
    Device {
        /// Its name.
        device: String,
        /// The driver's error.
        source: NvmeError,
    },
    /// The tables.
    #[error(transparent)]
    Vaapi(#[from] VaapiError),
    /// Memory for rings and lists.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Why an engine did not stop cleanly. Everything was reset all the same.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Operations did not end, or the service had failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Operations were still outstanding after the limit.
    #[error("{outstanding} operations are outstanding after {waited:?}")]
    Outstanding {
        /// How many.
        outstanding: usize,
        /// How long was waited.
        waited: Duration,
    },
    /// A disk could not be flushed.
    #[error(transparent)]
    Flush(#[from] IoError),
    /// The card.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A device.
    #[error("device {device:?}: {source}")]
    Device {
        /// Its name.
        device: String,
        /// The driver's error.
        source: NvmeError,
    },
}

/// Virtual disks on a card. See the module.
pub struct Engine<P: Platform> {
    // In order of drop: the SSDs are disabled first, then the card is reset, and only then may the
    // memory go that both of them write.
    ssds: Vec<Ssd<P::Function>>,
    /// SSDs that are gone from their bus, by their number.
    gone: BTreeSet<u8>,
    card: Card<P::Function>,
    /// By path: its completion queue, where that is in host memory. The card reads it until it is reset.
    completion_queues: BTreeMap<u8, DmaMemory>,
    dispatcher: Dispatcher<ClientQueue<P::Function>>,
    disks: Vec<VirtualDisk>,
    part: ControlPart<ClientQueue<P::Function>>,
    /// Interrupt vectors of the client queues and of the card's records.
    vectors: Vec<u16>,
    platform: P,
}

impl<P: Platform> Engine<P> {
    /// The card.
    pub fn card(&self) -> &Card<P::Function> {
        &self.card
    }

    /// The platform, for those who also drive what is behind it.
    pub fn platform(&mut self) -> &mut P {
        &mut self.platform
    }

    /// The VAAPI calls, and the card's tables for them. `virtual_disks` shows the disks as they
    /// were at the start.
    pub fn vaapi(&mut self) -> (&mut ControlPath, CardTables<'_, P>) {
        (&mut self.part.control, CardTables { card: &mut self.card, platform: &mut self.platform })
    }

    /// Whether a client queue or a record raised its interrupt since it was last asked.
    fn take_interrupts(&self) -> bool {
        self.vectors.iter().fold(false, |raised, &vector| self.card.take_interrupt(vector) | raised)
    }
}

impl<P: Platform> Engine<P>
where
    P::Function: Sync,
{
    /// Waits for every operation, flushes every disk, deletes all queues, shuts the SSDs down and
    /// resets the card. Completions that were not polled are lost.
    ///
    /// # Errors
    /// The first error. Even then everything that could be reached was shut down and reset.
    pub fn stop(mut self) -> Result<P, StopError> {
        let limit = self.part.options.stop_limit;
        let mut result = wind_down(&mut self, limit);
        self.dispatcher.stop();
        let quiet = result.is_ok();
        let Self { ssds, gone, mut card, dispatcher, part, mut platform, .. } = self;
        let own = part.own;
        // Queues hold the card's rings, and a busy one its buffers: they go after the reset.
        let mut held = None;
        if quiet {
            for queue in dispatcher.into_queues().into_iter().chain(own.into_queue()) {
                let deleted = card.delete_queue(&mut platform, queue, limit);
                result = result.and(deleted.map_err(StopError::from));
            }
        } else {
            held = Some((dispatcher, own));
        }
        for (number, Ssd { name, mut controller }) in ssds.into_iter().enumerate() {
            if gone.contains(&(number as u8)) {
                continue;
            }
            let deleted =
                if quiet { controller.delete_io_queue_pair(&mut platform, IO_QUEUE) } else { Ok(()) };
            let ended = deleted.and(controller.shutdown(&mut platform));
            result = result.and(ended.map_err(|source| StopError::Device { device: name, source }));
        }
        result = result.and(card.close(&mut platform).map_err(StopError::from));
        drop(held);
        result.map(|()| platform)
    }
}

impl<P: Platform> BlockService for Engine<P>
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
        self.progress()?;
        self.dispatcher.poll(self.platform.now(), done)
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
        self.dispatcher.ring()?;
        // An interrupt since the last wait may be of a completion that no poll has seen.
        if self.dispatcher.has_finished() || self.take_interrupts() {
            return Ok(());
        }
        self.platform.wait(deadline)?;
        // The caller polls next and sees whatever these were for.
        self.take_interrupts();
        Ok(())
    }
}
