//! What the driver needs of the machine: functions with BARs, DMA memory, interrupts and time.
//!
//! One trait pair with two families of backings: the simulator (`sim`), and Linux VFIO. Nothing in
//! it that VFIO cannot give: MMIO is posted on writes and blocking on reads, DMA memory is
//! allocated and mapped in one step, an interrupt is a flag that was raised since it was last
//! taken, and time enters at `wait` alone.

use std::time::Duration;

use crate::memory::{DmaMemory, Iova};
use crate::vfio::Refusal;

/// A base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bar {
    /// BAR0: registers and doorbells, of the card and of NVMe controllers.
    Bar0,
    /// BAR2: the card's completion windows.
    Bar2,
}

/// What can go wrong in reaching a device.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No function has this address.
    #[error("no PCI function at {0}")]
    NoFunction(String),
    /// The function is in use.
    #[error("PCI function {0} is already open")]
    Busy(String),
    /// An access outside a BAR, or not aligned to its size.
    #[error("{function}: access of {width} bytes at {offset:#x} of {bar:?} is outside or unaligned")]
    BadAccess {
        /// Function.
        function: String,
        /// BAR.
        bar: Bar,
        /// Offset in the BAR.
        offset: u64,
        /// Bytes.
        width: usize,
    },
    /// The device did not answer.
    #[error("{function}: no answer to {what} within {waited:?}")]
    NoAnswer {
        /// Function.
        function: String,
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// DMA memory could not be had.
    #[error("no {bytes} bytes of DMA memory: {reason}")]
    NoMemory {
        /// Bytes asked for.
        bytes: usize,
        /// Why not.
        reason: String,
    },
    /// VFIO has a reason.
    #[error(transparent)]
    Vfio(#[from] Refusal),
    /// The backing failed.
    #[error("{what}: {source}")]
    System {
        /// What was done.
        what: String,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// One PCI function, open.
pub trait Function: Send {
    /// Its address, for messages.
    fn name(&self) -> &str;
    /// Bytes of a BAR; 0 when it has none.
    fn bar_len(&self, bar: Bar) -> u64;
    /// Bus address at which other functions reach this BAR.
    fn bar_iova(&self, bar: Bar) -> Iova;
    /// Reads 4 bytes; waits for the answer.
    fn read32(&self, bar: Bar, offset: u64) -> Result<u32, AccessError>;
    /// Reads 8 bytes, low half first where the device has 4-byte registers.
    fn read64(&self, bar: Bar, offset: u64) -> Result<u64, AccessError> {
        let low = self.read32(bar, offset)?;
        let high = self.read32(bar, offset + 4)?;
        Ok(u64::from(low) | u64::from(high) << 32)
    }
    /// Writes 4 bytes, posted. Earlier writes to DMA memory are visible to the device before it.
    fn write32(&self, bar: Bar, offset: u64, value: u32) -> Result<(), AccessError>;
    /// Writes 8 bytes, low half first where the device has 4-byte registers; posted.
    fn write64(&self, bar: Bar, offset: u64, value: u64) -> Result<(), AccessError> {
        self.write32(bar, offset, value as u32)?;
        self.write32(bar, offset + 4, (value >> 32) as u32)
    }
    /// Reads configuration space.
    fn config_read32(&self, offset: u16) -> Result<u32, AccessError>;
    /// Writes configuration space.
    fn config_write32(&self, offset: u16, value: u32) -> Result<(), AccessError>;
    /// Enables `vectors` MSI-X vectors and points the function's MSI-X table at them.
    fn enable_interrupts(&mut self, vectors: u16) -> Result<(), AccessError>;
    /// Whether `vector` was raised since it was last taken.
    fn take_interrupt(&self, vector: u16) -> bool;
    /// Function level reset.
    fn reset(&mut self) -> Result<(), AccessError>;
}

/// The machine the driver runs on.
pub trait Platform: Send {
    /// Its functions.
    type Function: Function;

    /// Opens the function at `address`, once.
    fn open(&mut self, address: &str) -> Result<Self::Function, AccessError>;
    /// Allocates zeroed DMA memory that every open function reaches, page aligned; it is unmapped
    /// when the last clone is dropped.
    fn allocate(&mut self, bytes: usize) -> Result<DmaMemory, AccessError>;
    /// Time since an arbitrary start; the simulator's own time where it runs.
    fn now(&self) -> Duration;
    /// Lets time pass: returns when an interrupt was raised, at `deadline`, or earlier. Callers
    /// loop and look again.
    fn wait(&mut self, deadline: Duration) -> Result<(), AccessError>;
}
