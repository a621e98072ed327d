//! The card: bring-up, its registers, its tables, its client queues.
//!
//! `Card::open` leaves a clean card with its control ring running and no table entry valid.
//! Everything but the rings themselves is configured by table writes. Client queues, once
//! created, need the card no more: each has its own rings and doorbells.

mod capabilities;
mod control;
mod exceptions;
mod queue;
mod registers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use volplane_abi::registers as register;
use volplane_abi::TRANSACTION_MAX;

pub use capabilities::Capabilities;
pub use control::TableWrite;
pub use exceptions::{ExceptionRecord, PlanHandle};
pub use registers::{RegisterValue, Registers, Status};

use crate::memory::{DmaMemory, Iova};
use crate::pci;
use crate::platform::{AccessError, Bar, Function, Platform};
use crate::queue_pair::QueueError;
use crate::wait::poll_until;
use control::ControlRing;
use exceptions::ExceptionRing;
use queue::OpenQueue;
pub use queue::QueueSlots;

/// Longest time from reset to ready: the card clears its tables, an entry a cycle.
const READY_LIMIT: Duration = Duration::from_millis(500);
/// Longest time in which a function must say that it is a card.
const IDENTITY_LIMIT: Duration = Duration::from_millis(1);
/// Bytes that the card owns for each fragment identifier: one Dataset Management range.
const RANGE_BYTES: usize = volplane_abi::DeallocateRange::BYTES;

/// What can go wrong with the card.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// The function is something else.
    #[error("{card} is no Volplane card: identity {identity:#018x}")]
    NotACard {
        /// Function.
        card: String,
        /// What its identity registers hold.
        identity: u64,
    },
    /// The card speaks another ABI.
    #[error(
        "{card} has ABI {major}.{minor}, this driver needs {}.{} or a later minor",
        register::ABI_MAJOR,
        register::ABI_MINOR
    )]
    AbiVersion {
        /// Function.
        card: String,
        /// The card's major version.
        major: u16,
        /// The card's minor version.
        minor: u16,
    },
    /// A capability that no card can have.
    #[error("{card}: capability {name} is {value}")]
    Capability {
        /// Function.
        card: String,
        /// Register.
        name: &'static str,
        /// Its value.
        value: u64,
    },
    /// The card did not become ready after a reset.
    #[error("{card} is not ready {waited:?} after a reset: STATUS {status:#x}")]
    NotReady {
        /// Function.
        card: String,
        /// STATUS.
        status: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// The card refused a control command.
    #[error("{card}: {operation} of {table} {index} ended with status {status:#06x}")]
    Table {
        /// Function.
        card: String,
        /// "write", "read" or "no operation".
        operation: &'static str,
        /// The table's name.
        table: &'static str,
        /// Entry.
        index: u32,
        /// NVMe status.
        status: u16,
    },
    /// A plan that cannot be commanded so.
    #[error("{card}: plan {slot} of generation {generation:#x}: {problem}")]
    Plan {
        /// Function.
        card: String,
        /// Slot.
        slot: u16,
        /// Generation.
        generation: u32,
        /// Why not.
        problem: &'static str,
    },
    /// A record of a plan that the card cannot have.
    #[error("{card}: a record of plan slot {slot}, which it does not have")]
    Record {
        /// Function.
        card: String,
        /// Slot.
        slot: u16,
    },
    /// A control command was not completed.
    #[error("{card}: no completion of {operation} of {table} {index} within {waited:?}: STATUS {status:#x}")]
    ControlTimeout {
        /// Function.
        card: String,
        /// "write", "read" or "no operation".
        operation: &'static str,
        /// The table's name.
        table: &'static str,
        /// Entry.
        index: u32,
        /// How long was waited.
        waited: Duration,
        /// STATUS.
        status: u32,
    },
    /// A record that does not fit the payload of a control command.
    #[error("{card}: a record of {bytes} bytes for {table} {index}")]
    RecordSize {
        /// Function.
        card: String,
        /// The table's name.
        table: &'static str,
        /// Entry.
        index: u32,
        /// Bytes.
        bytes: usize,
    },
    /// More writes than a transaction has room for.
    #[error("{card}: a transaction of {writes} writes, where {TRANSACTION_MAX} fit")]
    TransactionSize {
        /// Function.
        card: String,
        /// Writes.
        writes: usize,
    },
    /// A queue that the card cannot have.
    #[error("{card} queue {queue}: {reason}")]
    QueueArgument {
        /// Function.
        card: String,
        /// Queue number.
        queue: u16,
        /// Why not.
        reason: &'static str,
    },
    /// A queue still had commands when it was to be deleted.
    #[error("{card} queue {queue}: {outstanding} commands are outstanding after {waited:?}")]
    QueueBusy {
        /// Function.
        card: String,
        /// Queue number.
        queue: u16,
        /// Commands fetched and not completed.
        outstanding: u16,
        /// How long was waited.
        waited: Duration,
    },
    /// The control ring failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The card could not be reached.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// An open card.
///
/// Dropping it resets it; `close` also waits until it is. Either comes after the queues of the
/// SSDs behind it were deleted, or the SSDs could write into memory that was released.
pub struct Card<F: Function> {
    registers: Registers<F>,
    capabilities: Capabilities,
    control: ControlRing<F>,
    exceptions: ExceptionRing<F>,
    /// Card-owned ranges of Dataset Management.
    _ranges: DmaMemory,
    /// Client queues by number.
    queues: BTreeMap<u16, OpenQueue>,
    closed: bool,
}

impl<F: Function> Card<F> {
    /// Opens the card at `address`: checks what it is, resets it, enables its interrupts, and
    /// starts its control ring.
    ///
    /// # Errors
    /// `CardError`; an incompatible card was not written to.
    pub fn open<P: Platform<Function = F>>(platform: &mut P, address: &str) -> Result<Self, CardError> {
        let mut function = platform.open(address)?;
        pci::enable(&function)?;
        identify(platform, &function)?;
        reset(platform, &function)?;
        let capabilities = Capabilities::read(&function)?;
        function.enable_interrupts(capabilities.vectors as u16)?;

        let registers = Registers::new(Arc::new(function));
        let control = ControlRing::start(platform, &registers)?;
        let last_vector = capabilities.vectors.checked_sub(1).map(|last| last as u16);
        let exceptions = ExceptionRing::start(platform, &registers, last_vector)?;
        let ranges = platform.allocate(capabilities.fragment_ids as usize * RANGE_BYTES)?;
        registers.write64(register::RANGE_BASE_LOW, ranges.iova().0)?;
        registers.write(register::CONTROL, register::CONTROL_ENABLE)?;
        Ok(Self {
            registers,
            capabilities,
            control,
            exceptions,
            _ranges: ranges,
            queues: BTreeMap::new(),
            closed: false,
        })
    }

    /// The function it is reached through.
    pub fn function(&self) -> &Arc<F> {
        self.registers.function()
    }

    /// What it was built with.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Its registers, for whoever wants one by name.
    pub fn register_block(&self) -> &Registers<F> {
        &self.registers
    }

    /// Every register with its value, in order of offset.
    ///
    /// # Errors
    /// `CardError::Access`.
    pub fn registers(&self) -> Result<Vec<RegisterValue>, CardError> {
        Ok(self.registers.read_all()?)
    }

    /// STATUS.
    ///
    /// # Errors
    /// `CardError::Access`.
    pub fn status(&self) -> Result<Status, CardError> {
        Ok(self.registers.status()?)
    }

    /// Bus address of a path's completion window: the completion queue of its SSD queue pair.
    pub fn window_iova(&self, path: u8) -> Iova {
        self.function().bar_iova(Bar::Bar2) + (u64::from(path) << self.capabilities.window_shift)
    }

    /// Entries of a completion window: most that an SSD's completion queue there may have.
    pub fn window_entries(&self) -> u32 {
        (1 << self.capabilities.window_shift) / volplane_abi::CompletionEntry::BYTES as u32
    }

    /// Whether `vector` was raised since it was last taken.
    pub fn take_interrupt(&self, vector: u16) -> bool {
        self.function().take_interrupt(vector)
    }

    /// Resets the card and waits until it is clean; no ring memory is touched after.
    ///
    /// # Errors
    /// `CardError::NotReady` or `Access`.
    pub fn close<P: Platform<Function = F>>(mut self, platform: &mut P) -> Result<(), CardError> {
        self.closed = true;
        reset(platform, self.function().as_ref())
    }

    fn name(&self) -> &str {
        self.registers.function().name()
    }
}

impl<F: Function> Drop for Card<F> {
    fn drop(&mut self) {
        if !self.closed {
            // A card that cannot be reached cannot be reset either: nobody is left to be told.
            let _ = self.registers.write(register::CONTROL, register::CONTROL_RESET);
        }
    }
}

impl<F: Function> std::fmt::Debug for Card<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Card({}, {} client queues)", self.name(), self.queues.len())
    }
}

/// Checks what the function is. Somebody may just have left it: a card answers the reads that its reset strikes with 0.
fn identify<P: Platform>(platform: &mut P, function: &P::Function) -> Result<(), CardError> {
    let mut found = Ok(());
    poll_until(platform, IDENTITY_LIMIT, || -> Result<_, CardError> {
        found = registers::check_identity(function);
        Ok(found.is_ok().then_some(()))
    })?;
    found
}

/// Resets the card and waits for STATUS.ready.
fn reset<P: Platform>(platform: &mut P, function: &P::Function) -> Result<(), CardError> {
    function.write32(Bar::Bar0, register::CONTROL.into(), register::CONTROL_RESET)?;
    let mut status = Status(0);
    let ready = poll_until(platform, READY_LIMIT, || -> Result<_, CardError> {
        status = registers::status(function)?;
        Ok(status.ready().then_some(()))
    })?;
    ready.ok_or_else(|| CardError::NotReady {
        card: function.name().to_owned(),
        status: status.0,
        waited: READY_LIMIT,
    })
}
