//! Statuses that an SSD gives beyond those of `volplane_abi::status`
//! (NVMe Base 2.0, section 3.3.3.2.1): code in bits 7:0, type in bits 10:8.

pub(crate) use volplane_abi::status::*;

/// Command ID Conflict.
pub(crate) const COMMAND_ID_CONFLICT: u16 = 0x003;
/// Completion Queue Invalid.
pub(crate) const COMPLETION_QUEUE_INVALID: u16 = 0x100;
/// Invalid Queue Identifier.
pub(crate) const INVALID_QUEUE_ID: u16 = 0x101;
/// Invalid Queue Size.
pub(crate) const INVALID_QUEUE_SIZE: u16 = 0x102;
/// Invalid Interrupt Vector.
pub(crate) const INVALID_INTERRUPT_VECTOR: u16 = 0x108;
/// Invalid Queue Deletion.
pub(crate) const INVALID_QUEUE_DELETION: u16 = 0x10C;
/// Write Fault.
pub(crate) const WRITE_FAULT: u16 = 0x280;
/// Unrecovered Read Error.
pub(crate) const UNRECOVERED_READ_ERROR: u16 = 0x281;
/// Compare Failure.
pub(crate) const COMPARE_FAILURE: u16 = 0x285;

/// Adds Do Not Retry where the same command would fail again.
pub(crate) fn with_dnr(status: u16) -> u16 {
    match status {
        SUCCESS
        | DATA_TRANSFER_ERROR
        | INTERNAL_ERROR
        | NAMESPACE_NOT_READY
        | WRITE_FAULT
        | UNRECOVERED_READ_ERROR => status,
        _ => status | DNR,
    }
}
