//! An NVMe controller: bring-up, identification, I/O queues, shutdown.
//!
//! The driver owns the admin queue alone. The I/O queue pairs that it creates are driven by the
//! card (completion queue in a window of its BAR2, or in host memory), or by host software through a `QueuePair`.
//! Pages are 4 KiB, command sets other than NVM and metadata are not served.

mod admin;
mod identify;
mod io_queue;
mod registers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use volplane_abi::nvme::{cc, register};
use volplane_abi::SubmissionEntry;

pub use identify::{ControllerIdentity, NamespaceLimits};
pub use io_queue::{CompletionQueue, IoDoorbells};

use crate::memory::DmaMemory;
use crate::pci;
use crate::platform::{AccessError, Bar, Function, Platform};
use crate::queue_pair::QueueError;
use crate::wait::poll_until;
use admin::AdminQueue;
use registers::{Capabilities, Status};

/// Least time given to a controller to enable or disable: CAP.TO may be 0.
const READY_LIMIT_MIN: Duration = Duration::from_millis(500);
/// Longest time of a normal shutdown.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// What can go wrong with an NVMe controller.
#[derive(Debug, thiserror::Error)]
pub enum NvmeError {
    /// It does not offer what the driver needs.
    #[error("NVMe controller {controller}: {what}")]
    Unsupported {
        /// Function.
        controller: String,
        /// What is missing.
        what: String,
    },
    /// It did not reach a state in time.
    #[error("NVMe controller {controller} did not {what} within {waited:?}: CSTS {csts:#x}")]
    Timeout {
        /// Function.
        controller: String,
        /// "become ready", "disable" or "shut down".
        what: &'static str,
        /// How long was waited.
        waited: Duration,
        /// Controller status.
        csts: u32,
    },
    /// Its registers read all ones: it was pulled out, or its link is down. That has reset it: it does nothing
    /// any more.
    #[error("NVMe controller {controller} is gone from its bus")]
    Gone {
        /// Function.
        controller: String,
    },
    /// It reports a fatal error.
    #[error("NVMe controller {controller} reports a fatal error: CSTS {csts:#x}")]
    Fatal {
        /// Function.
        controller: String,
        /// Controller status.
        csts: u32,
    },
    /// It refused an admin command.
    #[error("NVMe controller {controller}: admin command {opcode:#04x} ended with status {status:#06x}")]
    Admin {
        /// Function.
        controller: String,
        /// Admin opcode.
        opcode: u8,
        /// NVMe status, 15 bits.
        status: u16,
    },
    /// It did not complete an admin command.
    #[error("NVMe controller {controller}: no completion of admin command {opcode:#04x} within {waited:?}")]
    AdminTimeout {
        /// Function.
        controller: String,
        /// Admin opcode.
        opcode: u8,
        /// How long was waited.
        waited: Duration,
    },
    /// An admin command failed earlier and the controller was not reset since.
    #[error("NVMe controller {controller}: admin command {opcode:#04x} refused, an earlier one was never completed")]
    AdminLost {
        /// Function.
        controller: String,
        /// Admin opcode.
        opcode: u8,
    },
    /// A namespace that is not there, or whose format is not served.
    #[error("NVMe controller {controller} namespace {namespace}: {reason}")]
    Namespace {
        /// Function.
        controller: String,
        /// NSID.
        namespace: u32,
        /// Why not.
        reason: String,
    },
    /// An I/O queue that the controller cannot have.
    #[error("NVMe controller {controller} queue {queue}: {reason}")]
    QueueArgument {
        /// Function.
        controller: String,
        /// Queue identifier.
        queue: u16,
        /// Why not.
        reason: &'static str,
    },
    /// The admin queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The controller could not be reached.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// An open, ready controller.
///
/// Dropping it disables it, without waiting; `shutdown` also flushes and waits.
pub struct NvmeController<F: Function> {
    function: Arc<F>,
    capabilities: Capabilities,
    admin: AdminQueue<F>,
    identity: ControllerIdentity,
    namespaces: Vec<u32>,
    io_queues: u16,
    /// I/O queue pairs by identifier, with the memory the controller reads and writes.
    queues: BTreeMap<u16, Vec<DmaMemory>>,
    shut_down: bool,
}

impl<F: Function> NvmeController<F> {
    /// Opens the controller at `address` and brings it up (NVMe Base 2.0, section 3.5.1).
    ///
    /// # Errors
    /// `NvmeError`.
    pub fn open<P: Platform<Function = F>>(platform: &mut P, address: &str) -> Result<Self, NvmeError> {
        let function = Arc::new(platform.open(address)?);
        pci::enable(function.as_ref())?;
        let capabilities = Capabilities::read(function.as_ref())?;
        let admin = start(platform, &function, &capabilities)?;
        // From here on, dropping the controller disables it, whatever fails.
        let mut controller = Self {
            function,
            capabilities,
            admin,
            identity: ControllerIdentity::default(),
            namespaces: Vec::new(),
            io_queues: 0,
            queues: BTreeMap::new(),
            shut_down: false,
        };
        controller.identify(platform)?;
        Ok(controller)
    }

    /// Address of its function.
    pub fn name(&self) -> &str {
        self.function.name()
    }

    /// The function it is reached through.
    pub fn function(&self) -> &Arc<F> {
        &self.function
    }

    /// Model, serial number, firmware and limits of the controller.
    pub fn identity(&self) -> &ControllerIdentity {
        &self.identity
    }

    /// Active namespaces, ascending.
    pub fn namespaces(&self) -> &[u32] {
        &self.namespaces
    }

    /// I/O queue pairs that it granted; identifiers are 1 to this.
    pub fn io_queues(&self) -> u16 {
        self.io_queues
    }

    /// Most entries of an I/O queue.
    pub fn queue_entries_max(&self) -> u32 {
        self.capabilities.queue_entries_max()
    }

    /// Executes an admin command of the caller's own.
    ///
    /// # Errors
    /// `NvmeError::Admin` when the controller refuses it, and what else `NvmeError` names.
    pub fn admin<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        command: SubmissionEntry,
    ) -> Result<u32, NvmeError> {
        self.admin.execute(platform, command)
    }

    /// Whether the controller is on its bus (NVMe Base 2.0, section 3.7.2: the loss of its link resets it).
    ///
    /// # Errors
    /// `NvmeError::Gone`, `Access`.
    pub fn answers(&self) -> Result<(), NvmeError> {
        match self.function.read32(Bar::Bar0, register::CSTS)? {
            u32::MAX => Err(NvmeError::Gone { controller: self.name().to_owned() }),
            _ => Ok(()),
        }
    }

    /// Disables the controller and brings it up again. Every I/O queue is gone and whatever it was
    /// doing has ended; namespaces are listed anew.
    ///
    /// # Errors
    /// `NvmeError`.
    pub fn reset<P: Platform<Function = F>>(&mut self, platform: &mut P) -> Result<(), NvmeError> {
        self.admin = start(platform, &self.function, &self.capabilities)?;
        self.queues.clear();
        self.identify(platform)
    }

    /// Shuts the controller down normally and disables it (section 3.6.1): caches are flushed, and
    /// no memory is touched after.
    ///
    /// # Errors
    /// `NvmeError::Timeout`, `Fatal` or `Access`.
    pub fn shutdown<P: Platform<Function = F>>(mut self, platform: &mut P) -> Result<(), NvmeError> {
        self.shut_down = true;
        let configuration = cc::EN.put32(1) | cc::ENTRY_SIZES | registers::CC_SHUTDOWN_NORMAL;
        self.function.write32(Bar::Bar0, register::CC, configuration)?;
        let complete = |status: Status| status.shutdown_complete();
        wait_status(platform, self.function.as_ref(), "shut down", SHUTDOWN_LIMIT, complete)?;
        disable(platform, self.function.as_ref(), &self.capabilities)
    }

    fn identify<P: Platform<Function = F>>(&mut self, platform: &mut P) -> Result<(), NvmeError> {
        self.identity = self.admin.identify_controller(platform)?;
        self.namespaces = self.admin.active_namespaces(platform, self.identity.namespaces_max)?;
        self.io_queues = self.admin.request_queues(platform)?;
        Ok(())
    }
}

impl<F: Function> Drop for NvmeController<F> {
    fn drop(&mut self) {
        if !self.shut_down {
            // A controller that cannot be reached cannot be disabled either: nobody is left to be told.
            let _ = self.function.write32(Bar::Bar0, register::CC, 0);
        }
    }
}

impl<F: Function> std::fmt::Debug for NvmeController<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NvmeController({}, {} I/O queues)", self.name(), self.queues.len())
    }
}

/// Disables the controller, gives it a new admin queue, enables it.
fn start<P: Platform>(
    platform: &mut P,
    function: &Arc<P::Function>,
    capabilities: &Capabilities,
) -> Result<AdminQueue<P::Function>, NvmeError> {
    disable(platform, function.as_ref(), capabilities)?;
    let admin = AdminQueue::new(platform, function, capabilities)?;
    function.write32(Bar::Bar0, register::CC, cc::ENTRY_SIZES | cc::EN.put32(1))?;
    let limit = capabilities.ready_limit().max(READY_LIMIT_MIN);
    let started = wait_status(platform, function.as_ref(), "become ready", limit, |status| status.ready());
    if let Err(error) = started {
        // The admin queue's memory is about to be released.
        function.write32(Bar::Bar0, register::CC, 0)?;
        return Err(error);
    }
    Ok(admin)
}

fn disable<P: Platform>(
    platform: &mut P,
    function: &P::Function,
    capabilities: &Capabilities,
) -> Result<(), NvmeError> {
    function.write32(Bar::Bar0, register::CC, 0)?;
    let limit = capabilities.ready_limit().max(READY_LIMIT_MIN);
    // A fatal status is no obstacle here: disabling is how it is left.
    let disabled = poll_until(platform, limit, || -> Result<_, NvmeError> {
        Ok((!registers::status(function)?.ready()).then_some(()))
    })?;
    disabled.ok_or(()).or_else(|()| Err(timeout(function, "disable", limit)?))
}

fn wait_status<P: Platform>(
    platform: &mut P,
    function: &P::Function,
    what: &'static str,
    limit: Duration,
    reached: impl Fn(Status) -> bool,
) -> Result<(), NvmeError> {
    let found = poll_until(platform, limit, || -> Result<_, NvmeError> {
        let status = registers::status(function)?;
        if status.fatal() {
            return Err(NvmeError::Fatal { controller: function.name().to_owned(), csts: status.0 });
        }
        Ok(reached(status).then_some(()))
    })?;
    found.ok_or(()).or_else(|()| Err(timeout(function, what, limit)?))
}

fn timeout<F: Function>(function: &F, what: &'static str, waited: Duration) -> Result<NvmeError, NvmeError> {
    let csts = registers::status(function)?.0;
    Ok(NvmeError::Timeout { controller: function.name().to_owned(), what, waited, csts })
}

#[cfg(test)]
mod tests;
