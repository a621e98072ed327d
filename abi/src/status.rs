//! Status values (NVMe Base 2.0, section 3.3.3.2.1): code in bits 7:0, type in bits 10:8.

macro_rules! statuses {
    ($( $(#[doc = $doc:literal])* $name:ident = $value:literal, )*) => {
        $( $(#[doc = $doc])* pub const $name: u16 = $value; )*
        /// Every status the card itself gives, with its name and meaning.
        pub const ALL: &[(u16, &str, &str)] =
            &[ $( ($value, stringify!($name), concat!($($doc, " ",)*)), )* ];
    };
}

statuses! {
    /// Successful Completion.
    SUCCESS = 0x000,
    /// Invalid Command Opcode.
    INVALID_OPCODE = 0x001,
    /// Invalid Field in Command.
    INVALID_FIELD = 0x002,
    /// Data Transfer Error: the bus refused a read of the client's list.
    DATA_TRANSFER_ERROR = 0x004,
    /// Internal Error: the map has no valid entry for a block, or its device has no path.
    INTERNAL_ERROR = 0x006,
    /// Invalid Namespace or Format: no such virtual disk.
    INVALID_NAMESPACE = 0x00B,
    /// Command Sequence Error: the transaction has no room for another write.
    COMMAND_SEQUENCE_ERROR = 0x00C,
    /// PRP Offset Invalid.
    INVALID_PRP_OFFSET = 0x013,
    /// LBA Out of Range.
    LBA_OUT_OF_RANGE = 0x080,
    /// Namespace Not Ready: the virtual disk is deactivated.
    NAMESPACE_NOT_READY = 0x082,
}
/// Code and type of a status field.
pub const CODE_AND_TYPE: u16 = 0x7FF;
/// Type of a status field,
pub const TYPE: u16 = 0x700;
/// and the type of what went wrong on the way to the controller: Path Related Status.
pub const PATH_RELATED: u16 = 0x300;
/// Do Not Retry, bit 14 of the 15-bit status field.
pub const DNR: u16 = 0x4000;
