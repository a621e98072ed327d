//! Configuration space of a function (PCIe Base 5.0, section 7.5.1), as far as bring-up needs it.

use crate::platform::{AccessError, Function};

/// PCI vendor of a card: that of the FPGA's hard block, as a bitstream without an assignment of its own has.
pub const CARD_VENDOR: u16 = 0x10EE;
/// PCI device of a card.
pub const CARD_DEVICE: u16 = 0x9038;
/// PCI class of a card: other mass storage controller.
pub const CARD_CLASS: u32 = 0x01_80_00;

/// Vendor ID 15:0, Device ID 31:16.
const IDS: u16 = 0x00;
/// Command 15:0, Status 31:16.
const COMMAND: u16 = 0x04;
/// Revision 7:0, Class Code 31:8.
const CLASS: u16 = 0x08;
/// Command: memory space enable.
const MEMORY_SPACE: u32 = 1 << 1;
/// Command: bus master enable.
const BUS_MASTER: u32 = 1 << 2;

/// What a function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciIdentity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Base class, subclass and programming interface, the base class highest.
    pub class: u32,
    /// Revision.
    pub revision: u8,
}

/// Reads what the function says it is.
///
/// # Errors
/// The platform's.
pub fn identity<F: Function>(function: &F) -> Result<PciIdentity, AccessError> {
    let ids = function.config_read32(IDS)?;
    let class = function.config_read32(CLASS)?;
    Ok(PciIdentity {
        vendor: ids as u16,
        device: (ids >> 16) as u16,
        class: class >> 8,
        revision: class as u8,
    })
}

/// Lets the function answer memory accesses and master the bus.
///
/// # Errors
/// The platform's.
pub fn enable<F: Function>(function: &F) -> Result<(), AccessError> {
    // The status bits in the upper half are cleared by writing ones: they are written as zeros.
    let command = function.config_read32(COMMAND)? & 0xFFFF;
    function.config_write32(COMMAND, command | MEMORY_SPACE | BUS_MASTER)
}

/// The first half of the command register, with leave to answer memory accesses.
pub(crate) fn with_memory(command: [u8; 2]) -> [u8; 2] {
    (u16::from_le_bytes(command) | MEMORY_SPACE as u16).to_le_bytes()
}
