//! BAR0 of the card: registers, MSI-X structures and doorbell pages; and the windows of BAR2.
//!
//! All registers are 32 bits wide and are read and written whole; a 64-bit quantity is two
//! registers, low half first. Writes to a read-only or unknown register are ignored, an unknown one
//! reads 0.

use crate::field::Field;

/// How software may use a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only, the same for the life of the bitstream.
    Constant,
    /// Read only, changes as the card works.
    Live,
    /// Read and write.
    ReadWrite,
    /// Write only; reads 0.
    Command,
}

/// A register of BAR0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Name.
    pub name: &'static str,
    /// Byte offset in BAR0.
    pub offset: u32,
    /// Use.
    pub access: Access,
    /// Bits that keep what is written.
    pub write_mask: u32,
    /// Meaning.
    pub doc: &'static str,
}

macro_rules! registers {
    ($( $(#[doc = $doc:literal])* $name:ident = $offset:literal, $access:ident, $mask:literal; )*) => {
        $( $(#[doc = $doc])* pub const $name: u32 = $offset; )*
        /// The register map, in order of offset.
        pub const ALL: &[Register] = &[
            $( Register {
                name: stringify!($name),
                offset: $offset,
                access: Access::$access,
                write_mask: $mask,
                doc: concat!($($doc, " ",)*),
            }, )*
        ];
    };
}

registers! {
    /// Identity, low half: ASCII "VOLP".
    IDENTITY_LOW = 0x000, Constant, 0;
    /// Identity, high half: ASCII "LANE".
    IDENTITY_HIGH = 0x004, Constant, 0;
    /// ABI version: major 31:16, minor 15:0. The driver refuses another major or a smaller minor.
    ABI_VERSION = 0x008, Constant, 0;
    /// Bytes of an AXI data beat.
    DATA_BYTES = 0x00C, Constant, 0;
    /// Hash of the RTL the card was built from, low half.
    BUILD_HASH_LOW = 0x010, Constant, 0;
    /// Hash of the RTL, high half.
    BUILD_HASH_HIGH = 0x014, Constant, 0;
    /// Queue pairs, the control ring (number 0) included.
    CAP_QUEUES = 0x018, Constant, 0;
    /// Entries of the virtual disk table.
    CAP_VDS = 0x01C, Constant, 0;
    /// Entries of the client table; 0: clients are not told apart yet.
    CAP_CLIENTS = 0x020, Constant, 0;
    /// Entries of the allocation table.
    CAP_ALLOCATIONS = 0x024, Constant, 0;
    /// Entries of the extent table.
    CAP_EXTENTS = 0x028, Constant, 0;
    /// Entries of the device table.
    CAP_DEVICES = 0x02C, Constant, 0;
    /// Entries of the path table, completion windows in BAR2.
    CAP_PATHS = 0x030, Constant, 0;
    /// Plan slots: client commands in flight.
    CAP_SLOTS = 0x034, Constant, 0;
    /// Fragment identifiers: backend commands in flight.
    CAP_FRAGMENT_IDS = 0x038, Constant, 0;
    /// Most fragments of one component.
    CAP_FRAGMENTS = 0x03C, Constant, 0;
    /// Components of a plan.
    CAP_COMPONENTS = 0x040, Constant, 0;
    /// Divert ranges.
    CAP_DIVERT_RANGES = 0x044, Constant, 0;
    /// Interrupt vectors of the MSI-X table.
    CAP_VECTORS = 0x048, Constant, 0;
    /// Most bytes of a Read or Write.
    CAP_TRANSFER_BYTES = 0x04C, Constant, 0;
    /// log2 of the bytes of a completion window in BAR2.
    CAP_WINDOW_SHIFT = 0x050, Constant, 0;
    /// Most columns of an allocation.
    CAP_COLUMNS = 0x054, Constant, 0;
    /// Entries of the plan table; entry 0 is no plan.
    CAP_PLANS = 0x058, Constant, 0;
    /// Control: bit 0 enable fetching, bit 1 reset (clears itself).
    CONTROL = 0x080, ReadWrite, 0x1;
    /// Status: bit 0 ready (tables and identifiers are initialised), bit 1 the control ring stopped
    /// on a bad doorbell or a failed fetch, bit 2 idle.
    STATUS = 0x084, Live, 0;
    /// Control ring, submission base, low half; 4 KiB aligned. Write while CONTROL.enable is 0.
    CONTROL_SQ_BASE_LOW = 0x088, ReadWrite, 0xFFFFF000;
    /// Control ring, submission base, high half.
    CONTROL_SQ_BASE_HIGH = 0x08C, ReadWrite, 0xFFFFFFFF;
    /// Control ring, completion base (64-byte entries), low half; 4 KiB aligned.
    CONTROL_CQ_BASE_LOW = 0x090, ReadWrite, 0xFFFFF000;
    /// Control ring, completion base, high half.
    CONTROL_CQ_BASE_HIGH = 0x094, ReadWrite, 0xFFFFFFFF;
    /// Control ring: entries − 1 of both rings in 11:0; vector in 27:16; interrupt enable in 31.
    CONTROL_SIZE = 0x098, ReadWrite, 0x8FFF0FFF;
    /// Interrupt coalescing: completions in 7:0 (0 and 1: every one), ticks in 15:8.
    INTERRUPT_COALESCING = 0x09C, ReadWrite, 0x0000FFFF;
    /// Card-owned host memory for Dataset Management ranges, 16 bytes for each fragment
    /// identifier, low half; 4 KiB aligned. Write while CONTROL.enable is 0.
    RANGE_BASE_LOW = 0x0A0, ReadWrite, 0xFFFFF000;
    /// Card-owned host memory, high half.
    RANGE_BASE_HIGH = 0x0A4, ReadWrite, 0xFFFFFFFF;
    /// Exception ring, base (256-byte records), low half; 4 KiB aligned. Write while CONTROL.enable is 0.
    EXCEPTION_BASE_LOW = 0x0A8, ReadWrite, 0xFFFFF000;
    /// Exception ring, base, high half.
    EXCEPTION_BASE_HIGH = 0x0AC, ReadWrite, 0xFFFFFFFF;
    /// Exception ring: records − 1 in 11:0, 0: there is no ring; vector in 27:16; interrupt enable in 31.
    EXCEPTION_SIZE = 0x0B0, ReadWrite, 0x8FFF0FFF;
    /// Exception ring: the record that software reads next.
    EXCEPTION_HEAD = 0x0B4, ReadWrite, 0x00000FFF;
    /// Completions with an unknown, stale or misdirected identifier, dropped.
    UNKNOWN_COMPLETIONS = 0x0C0, Live, 0;
    /// Completions whose submission head was out of range; the head was ignored.
    BAD_HEADS = 0x0C4, Live, 0;
    /// Reads the bus answered with an error.
    READ_ERRORS = 0x0C8, Live, 0;
    /// Writes the bus answered with an error.
    WRITE_ERRORS = 0x0CC, Live, 0;
    /// Ticks since reset.
    TICKS = 0x0D0, Live, 0;
    /// Client commands fetched since reset.
    COMMANDS_FETCHED = 0x0D4, Live, 0;
    /// Client completions written since reset.
    COMPLETIONS_WRITTEN = 0x0D8, Live, 0;
    /// Fragments issued since reset.
    FRAGMENTS_ISSUED = 0x0DC, Live, 0;
}

/// ASCII "VOLPLANE", little-endian.
pub const IDENTITY: u64 = u64::from_le_bytes(*b"VOLPLANE");
/// Major version of this ABI.
pub const ABI_MAJOR: u16 = 1;
/// Minor version of this ABI.
pub const ABI_MINOR: u16 = 5;

/// ABI_VERSION: major version.
pub const ABI_VERSION_MAJOR: Field = Field::bits(31, 16);
/// ABI_VERSION: minor version.
pub const ABI_VERSION_MINOR: Field = Field::bits(15, 0);
/// ABI_VERSION of this ABI.
pub const ABI_VERSION_VALUE: u32 =
    ABI_VERSION_MAJOR.put32(ABI_MAJOR as u32) | ABI_VERSION_MINOR.put32(ABI_MINOR as u32);
/// INTERRUPT_COALESCING: completions; 0 and 1: every one.
pub const COALESCING_COUNT: Field = Field::bits(7, 0);
/// INTERRUPT_COALESCING: ticks.
pub const COALESCING_TICKS: Field = Field::bits(15, 8);
/// CONTROL: fetching is enabled.
pub const CONTROL_ENABLE: u32 = 1;
/// CONTROL: reset the card; clears itself.
pub const CONTROL_RESET: u32 = 2;
/// STATUS: ready.
pub const STATUS_READY: u32 = 1;
/// STATUS: the control ring stopped.
pub const STATUS_CONTROL_STOPPED: u32 = 2;
/// STATUS: only time can change anything.
pub const STATUS_IDLE: u32 = 4;
/// CONTROL_SIZE, EXCEPTION_SIZE: lowest bit of the vector.
pub const RING_SIZE_VECTOR_SHIFT: u32 = 16;
/// CONTROL_SIZE, EXCEPTION_SIZE: interrupt enable.
pub const RING_SIZE_INTERRUPT: u32 = 1 << 31;

/// Offset of the MSI-X table (PCIe Base 5.0, section 7.7.2): 16 bytes a vector.
pub const MSIX_TABLE: u32 = 0x1000;
/// Offset of the MSI-X pending bit array: 64 vectors in 8 bytes.
pub const MSIX_PBA: u32 = 0x2000;
/// Most vectors the table has room for.
pub const MSIX_VECTORS_MAX: u32 = 256;
/// Offset of the doorbell page of queue 0.
pub const DOORBELLS: u32 = 0x10000;
/// Bytes of a queue's doorbell page.
pub const DOORBELL_PAGE: u32 = 0x1000;
/// Submission tail doorbell in a queue's page (NVMe's layout, stride 0).
pub const DOORBELL_SQ_TAIL: u32 = 0x0;
/// Completion head doorbell in a queue's page.
pub const DOORBELL_CQ_HEAD: u32 = 0x4;
/// Bytes of BAR0.
pub const BAR0_BYTES: u64 = 0x40000;
/// log2 of the bytes of a completion window: 1,024 entries of 16 bytes.
pub const WINDOW_SHIFT: u32 = 14;
/// Most entries of a client ring or the control ring.
pub const RING_ENTRIES_MAX: u32 = 4096;
/// Most bytes of a Read or Write.
pub const TRANSFER_BYTES_MAX: u32 = 1 << 20;
/// Most blocks of a Write Zeroes or of a Dataset Management range.
pub const RANGE_BLOCKS_MAX: u32 = 1 << 16;

/// Offset of a queue's submission tail doorbell.
pub const fn sq_tail_doorbell(queue: u16) -> u32 {
    DOORBELLS + queue as u32 * DOORBELL_PAGE + DOORBELL_SQ_TAIL
}

/// Offset of a queue's completion head doorbell.
pub const fn cq_head_doorbell(queue: u16) -> u32 {
    DOORBELLS + queue as u32 * DOORBELL_PAGE + DOORBELL_CQ_HEAD
}

/// Offset of a path's completion window in BAR2.
pub const fn completion_window(path: u8) -> u64 {
    (path as u64) << WINDOW_SHIFT
}
