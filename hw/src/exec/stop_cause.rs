//! Why a part ends before its last block without having failed: statuses that never leave the card.
//!
//! They are of the vendor specific type (7h), and mean this only where the card has given them itself: `closed`
//! parts, and fragments that came back as its `own`. The collector makes a bit and a cause of them.

use volplane_abi::status::TYPE;

/// Vendor specific: all bits of the type.
pub const STOP_TYPE: u16 = TYPE;
/// Bits of the code that tell the cause.
pub const CAUSE_BITS: usize = 2;

/// Its plan issues nothing more.
pub const STOPPED: u16 = STOP_TYPE;
/// It met an extent whose action is fault.
pub const FAULT: u16 = STOP_TYPE | 1;
/// Hardware cannot execute the command.
pub const NOT_EXECUTABLE: u16 = STOP_TYPE | 2;
/// The command touches a divert range.
pub const DIVERT: u16 = STOP_TYPE | 3;

/// The cause as records carry it.
pub const fn cause(status: u16) -> u64 {
    (status & ((1 << CAUSE_BITS) - 1)) as u64
}
