//! The block service: asynchronous I/O on virtual disks.
//!
//! One thread owns a service. It submits operations under tags of its choice, polls for
//! completions, and lets time pass with `wait`. Operations run concurrently and complete in any
//! order; nothing orders two operations that are outstanding together, a flush included, which
//! covers the operations whose completions were polled before it was submitted.

use std::fmt;
use std::time::Duration;

use volplane_driver::{AccessError, CardError, DmaMemory, QueueError};

use crate::events::{Event, StatusName};

/// A virtual disk's number on its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VdHandle(pub u16);

impl fmt::Display for VdHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "virtual disk {}", self.0)
    }
}

/// What to do on a virtual disk. Positions and lengths are in blocks of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fills the buffer.
    Read {
        /// First block.
        lba: u64,
        /// Blocks, 1 and up.
        blocks: u32,
    },
    /// Writes the buffer.
    Write {
        /// First block.
        lba: u64,
        /// Blocks, 1 and up.
        blocks: u32,
        /// Complete only when the data is on stable media.
        force_unit_access: bool,
    },
    /// Brings everything completed before to stable media.
    Flush,
    /// Tells the devices that the contents may go; what is read after is undefined but stable.
    Deallocate {
        /// First block.
        lba: u64,
        /// Blocks, 1 and up.
        blocks: u64,
    },
    /// Blocks read as zeros after.
    WriteZeroes {
        /// First block.
        lba: u64,
        /// Blocks, 1 and up.
        blocks: u64,
        /// The devices may release the space.
        deallocate: bool,
        /// Complete only when the zeros are on stable media.
        force_unit_access: bool,
    },
}

impl Operation {
    /// First block and number of blocks; `None` for a flush.
    pub fn range(&self) -> Option<(u64, u64)> {
        match *self {
            Operation::Read { lba, blocks } | Operation::Write { lba, blocks, .. } => {
                Some((lba, u64::from(blocks)))
            }
            Operation::Deallocate { lba, blocks } | Operation::WriteZeroes { lba, blocks, .. } => {
                Some((lba, blocks))
            }
            Operation::Flush => None,
        }
    }

    /// Whether it moves data between a buffer and the disk.
    pub fn has_buffer(&self) -> bool {
        matches!(self, Operation::Read { .. } | Operation::Write { .. })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Operation::Read { .. } => "read",
            Operation::Write { .. } => "write",
            Operation::Flush => return f.write_str("flush"),
            Operation::Deallocate { .. } => "deallocate",
            Operation::WriteZeroes { .. } => "write zeroes",
        };
        let (lba, blocks) = self.range().unwrap_or_default();
        write!(f, "{name} of {blocks} blocks at block {lba}")
    }
}

/// A virtual disk as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualDisk {
    /// Its number, for `submit`.
    pub handle: VdHandle,
    /// Name in the configuration.
    pub name: String,
    /// Bytes of a block: 512 or 4,096.
    pub block_size: u32,
    /// Size in blocks.
    pub blocks: u64,
    /// Bytes of an I/O that stays within one stripe unit wherever the disk is striped; a multiple of
    /// the block size. Larger and unaligned I/O works, and is split.
    pub preferred_io_bytes: u32,
}

impl VirtualDisk {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }
}

/// The end of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The caller's tag.
    pub tag: u64,
    /// Success, or the first error by position on the disk.
    pub result: Result<(), IoError>,
}

/// An operation that failed. Which of its blocks were transferred is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{disk}: {operation} failed: {}", StatusName(*.status))]
pub struct IoError {
    /// Disk.
    pub disk: VdHandle,
    /// Operation.
    pub operation: Operation,
    /// Status field of the completion: code in 7:0, type in 10:8, Do Not Retry in 14.
    pub status: u16,
}

/// Why an operation was not taken. Nothing of it was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The service is full: submit again after `poll` has returned completions.
    #[error("the service is full")]
    Full,
    /// No such disk.
    #[error("there is no {0}")]
    NoSuchDisk(VdHandle),
    /// No blocks, or beyond the end of the disk.
    #[error("{disk}: {operation} is not within its {blocks} blocks")]
    OutOfRange {
        /// Disk.
        disk: VdHandle,
        /// Operation.
        operation: Operation,
        /// Size of the disk.
        blocks: u64,
    },
    /// A read or write without a buffer that holds its blocks at a 4-byte aligned bus address, or a
    /// buffer where none belongs.
    #[error("{disk}: {operation} with a bad buffer: {reason}")]
    BadBuffer {
        /// Disk.
        disk: VdHandle,
        /// Operation.
        operation: Operation,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The service was stopped or has failed; `poll` tells why.
    #[error("the service no longer takes operations")]
    Stopped,
}

/// The service itself failed; what is outstanding may never complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// A device, or memory for it, could not be reached.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The card's control ring, or a record of it.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A client queue of the card failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The card completed a command that it was not given.
    #[error("client queue {queue}: completion of command {command}, which is not outstanding")]
    UnknownCommand {
        /// Queue.
        queue: u16,
        /// Command identifier.
        command: u16,
    },
    /// Nothing came back for an operation.
    #[error("{disk}: no answer to {operation} in {waited:?}")]
    Unanswered {
        /// Disk.
        disk: VdHandle,
        /// Operation.
        operation: Operation,
        /// How long was waited.
        waited: Duration,
    },
    /// The service was stopped, or failed before.
    #[error("the service is stopped")]
    Stopped,
}

/// Asynchronous I/O on virtual disks, whatever executes it.
pub trait BlockService: Send {
    /// The disks, in order of handle.
    fn virtual_disks(&self) -> &[VirtualDisk];

    /// Allocates zeroed memory for buffers, page aligned. It is released with its last clone, and
    /// not before the operations that use it are complete. Costly: allocate once and use `part`.
    fn allocate(&mut self, bytes: usize) -> Result<DmaMemory, ServiceError>;

    /// Starts an operation. `tag` comes back in its completion and is not looked at; the caller
    /// keeps tags apart. A read or write takes a buffer of at least `blocks × block_size` bytes at a
    /// 4-byte aligned bus address, and uses its first bytes; others take none. Any length is split
    /// as the card needs it. Keep the buffer's bytes untouched until the completion. The card may
    /// learn of the operation only at the next `poll` or `wait`, so that many ring one doorbell.
    ///
    /// # Errors
    /// Every error leaves nothing started. After `Full`, poll and try again.
    fn submit(
        &mut self,
        disk: VdHandle,
        operation: Operation,
        buffer: Option<DmaMemory>,
        tag: u64,
    ) -> Result<(), SubmitError>;

    /// Appends completions of operations to `done` and returns how many; never waits.
    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<usize, ServiceError>;

    /// Operations started whose completions were not polled.
    fn outstanding(&self) -> usize;

    /// Time of the service, which is the simulator's where it runs.
    fn now(&self) -> Duration;

    /// What happened since the last call that no completion tells: at most some, oldest first.
    fn take_events(&mut self) -> Vec<Event> {
        Vec::new()
    }

    /// Lets time pass until something may have completed, or `deadline` of `now`, or earlier.
    /// Callers loop: poll, do their own work, wait.
    fn wait(&mut self, deadline: Duration) -> Result<(), ServiceError>;
}
