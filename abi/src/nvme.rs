//! The part of an NVMe controller that the driver uses and the SSD model offers
//! (NVMe Base 2.0, sections 3.1.3 and 5.17; NVM Command Set 1.0, section 4.1.5).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::field::Field;

/// Controller registers in BAR0.
pub mod register {
    /// Controller Capabilities, 64 bits: see `cap`.
    pub const CAP: u64 = 0x00;
    /// Version.
    pub const VS: u64 = 0x08;
    /// Interrupt Mask Set.
    pub const INTMS: u64 = 0x0C;
    /// Interrupt Mask Clear.
    pub const INTMC: u64 = 0x10;
    /// Controller Configuration: see `cc`.
    pub const CC: u64 = 0x14;
    /// Controller Status: see `csts`.
    pub const CSTS: u64 = 0x1C;
    /// Admin Queue Attributes: see `aqa`.
    pub const AQA: u64 = 0x24;
    /// Admin Submission Queue base.
    pub const ASQ: u64 = 0x28;
    /// Admin Completion Queue base.
    pub const ACQ: u64 = 0x30;
    /// Doorbells.
    pub const DOORBELLS: u64 = 0x1000;
}

/// Controller Capabilities (section 3.1.3.1).
pub mod cap {
    use crate::field::Field;
    /// Most entries of an I/O queue, zero-based.
    pub const MQES: Field = Field::bits(15, 0);
    /// Queues must be contiguous.
    pub const CQR: Field = Field::bit(16);
    /// Longest time to become ready or not ready, in 500 ms.
    pub const TO: Field = Field::bits(31, 24);
    /// Doorbell stride: 4 << DSTRD bytes.
    pub const DSTRD: Field = Field::bits(35, 32);
    /// Of the command sets: the NVM command set.
    pub const CSS_NVM: Field = Field::bit(37);
    /// Smallest memory page: 4 KiB << MPSMIN.
    pub const MPSMIN: Field = Field::bits(51, 48);
}

/// Controller Configuration (section 3.1.3.5).
pub mod cc {
    use crate::field::Field;
    /// Enable.
    pub const EN: Field = Field::bit(0);
    /// Memory page: 4 KiB << MPS.
    pub const MPS: Field = Field::bits(10, 7);
    /// Shutdown notification; 1: normal.
    pub const SHN: Field = Field::bits(15, 14);
    /// log2 of an I/O submission entry's bytes.
    pub const IOSQES: Field = Field::bits(19, 16);
    /// log2 of an I/O completion entry's bytes.
    pub const IOCQES: Field = Field::bits(23, 20);
    /// I/O submission entries of 64 bytes, completion entries of 16.
    pub const ENTRY_SIZES: u32 = IOSQES.put32(6) | IOCQES.put32(4);
}

/// Controller Status (section 3.1.3.6).
pub mod csts {
    use crate::field::Field;
    /// Ready.
    pub const RDY: Field = Field::bit(0);
    /// Controller fatal status.
    pub const CFS: Field = Field::bit(1);
    /// Shutdown status; 2: complete.
    pub const SHST: Field = Field::bits(3, 2);
    /// SHST: shutdown processing is complete.
    pub const SHST_COMPLETE: u32 = 2;
}

/// Admin Queue Attributes (section 3.1.3.8).
pub mod aqa {
    use crate::field::Field;
    /// Entries of the admin submission queue, zero-based.
    pub const ASQS: Field = Field::bits(11, 0);
    /// Entries of the admin completion queue, zero-based.
    pub const ACQS: Field = Field::bits(27, 16);
}

/// CDW10 of Create and Delete I/O Queue (sections 5.4 to 5.7).
pub mod queue_cdw10 {
    use crate::field::Field;
    /// Queue identifier.
    pub const QID: Field = Field::bits(15, 0);
    /// Entries, zero-based.
    pub const QSIZE: Field = Field::bits(31, 16);
}

/// CDW11 of Create I/O Completion Queue (section 5.4) and Create I/O Submission Queue (section 5.5).
pub mod queue_cdw11 {
    use crate::field::Field;
    /// Either: physically contiguous.
    pub const PC: Field = Field::bit(0);
    /// Completion queue: interrupts enabled.
    pub const IEN: Field = Field::bit(1);
    /// Completion queue: interrupt vector.
    pub const IV: Field = Field::bits(31, 16);
    /// Submission queue: completion queue identifier.
    pub const CQID: Field = Field::bits(31, 16);
}

/// CDW11, and dword 0 of the completion, of the feature Number of Queues (section 5.27.1.5).
pub mod queue_numbers {
    use crate::field::Field;
    /// Submission queues, zero-based.
    pub const SUBMISSION: Field = Field::bits(15, 0);
    /// Completion queues, zero-based.
    pub const COMPLETION: Field = Field::bits(31, 16);
}

/// An LBA format of Identify Namespace.
pub mod lba_format {
    use crate::field::Field;
    /// Metadata bytes.
    pub const MS: Field = Field::bits(15, 0);
    /// log2 of the data bytes.
    pub const LBADS: Field = Field::bits(23, 16);
}

/// FLBAS of Identify Namespace: the index of the LBA format in use (NVM Command Set 1.0, figure 97).
pub const FLBAS_INDEX: Field = Field::bits(3, 0);
/// FLBAS: its upper bits, where there are more than 16 formats.
pub const FLBAS_INDEX_HIGH: Field = Field::bits(6, 5);

/// Offset of a submission tail doorbell for a doorbell stride `dstrd`.
pub const fn sq_tail_doorbell(queue: u16, dstrd: u32) -> u64 {
    register::DOORBELLS + (2 * queue as u64) * (4 << dstrd)
}
/// Offset of a completion head doorbell.
pub const fn cq_head_doorbell(queue: u16, dstrd: u32) -> u64 {
    register::DOORBELLS + (2 * queue as u64 + 1) * (4 << dstrd)
}

/// Admin opcodes.
pub mod admin {
    /// Delete I/O Submission Queue.
    pub const DELETE_SQ: u8 = 0x00;
    /// Create I/O Submission Queue.
    pub const CREATE_SQ: u8 = 0x01;
    /// Delete I/O Completion Queue.
    pub const DELETE_CQ: u8 = 0x04;
    /// Create I/O Completion Queue.
    pub const CREATE_CQ: u8 = 0x05;
    /// Identify.
    pub const IDENTIFY: u8 = 0x06;
    /// Set Features.
    pub const SET_FEATURES: u8 = 0x09;
    /// Feature: number of queues.
    pub const FEATURE_QUEUES: u8 = 0x07;
}

/// Identify CNS values.
pub mod cns {
    /// Identify Namespace.
    pub const NAMESPACE: u8 = 0x00;
    /// Identify Controller.
    pub const CONTROLLER: u8 = 0x01;
    /// Active namespaces.
    pub const ACTIVE_NAMESPACES: u8 = 0x02;
    /// I/O command set specific controller data (WZSL).
    pub const COMMAND_SET_CONTROLLER: u8 = 0x06;
}

/// Identify Controller, the fields used (4,096 bytes).
#[repr(C)]
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct IdentifyController {
    /// PCI vendor.
    pub vid: u16,
    /// PCI subsystem vendor.
    pub ssvid: u16,
    /// Serial number, ASCII.
    pub sn: [u8; 20],
    /// Model, ASCII.
    pub mn: [u8; 40],
    /// Firmware, ASCII.
    pub fr: [u8; 8],
    /// Recommended arbitration burst.
    pub rab: u8,
    /// IEEE OUI.
    pub ieee: [u8; 3],
    /// Multi-path capabilities: `CMIC_PORTS`, `CMIC_CONTROLLERS`.
    pub cmic: u8,
    /// Maximum data transfer size, 2^mdts × 4 KiB; 0 no limit.
    pub mdts: u8,
    /// Controller identifier.
    pub cntlid: u16,
    /// Version.
    pub ver: u32,
    reserved0: [u8; 428],
    /// Submission entry sizes (byte 512).
    pub sqes: u8,
    /// Completion entry sizes.
    pub cqes: u8,
    /// Most commands.
    pub maxcmd: u16,
    /// Number of namespaces.
    pub nn: u32,
    /// Optional NVM commands: Compare 0, Dataset Management 2, Write Zeroes 3.
    pub oncs: u16,
    /// Fused operations.
    pub fuses: u16,
    /// Format attributes.
    pub fna: u8,
    /// Volatile write cache: bit 0 present.
    pub vwc: u8,
    reserved1: [u8; 3570],
}

/// ONCS: Dataset Management is served.
pub const ONCS_DATASET_MANAGEMENT: u16 = 1 << 2;
/// ONCS: Write Zeroes is served.
pub const ONCS_WRITE_ZEROES: u16 = 1 << 3;

/// CMIC: the subsystem may have more than one port.
pub const CMIC_PORTS: u8 = 1;
/// CMIC: the subsystem may have more than one controller.
pub const CMIC_CONTROLLERS: u8 = 1 << 1;
/// NMIC: the namespace may be attached to more than one controller.
pub const NMIC_SHARED: u8 = 1;

/// Identify Namespace, the fields used (4,096 bytes).
#[repr(C)]
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct IdentifyNamespace {
    /// Size in blocks.
    pub nsze: u64,
    /// Capacity.
    pub ncap: u64,
    /// Utilisation.
    pub nuse: u64,
    /// Features.
    pub nsfeat: u8,
    /// LBA formats − 1.
    pub nlbaf: u8,
    /// Formatted LBA size: see `FLBAS_INDEX`.
    pub flbas: u8,
    reserved0: [u8; 3],
    /// Multi-path capabilities: `NMIC_SHARED`.
    pub nmic: u8,
    reserved1: [u8; 73],
    /// Globally unique identifier.
    pub nguid: [u8; 16],
    /// IEEE extended unique identifier.
    pub eui64: [u8; 8],
    /// LBA formats: see `lba_format`.
    pub lbaf: [u32; 64],
    reserved2: [u8; 3712],
}

/// Identify, I/O command set specific controller data of the NVM command set (4,096 bytes).
#[repr(C)]
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct IdentifyNvmController {
    /// Verify size limit.
    pub vsl: u8,
    /// Write Zeroes size limit, 2^wzsl × 4 KiB; 0 no limit but MDTS.
    pub wzsl: u8,
    /// Write Uncorrectable size limit.
    pub wusl: u8,
    /// Dataset Management ranges limit.
    pub dmrl: u8,
    /// Dataset Management range size limit, in blocks; 0 not given.
    pub dmrsl: u32,
    /// Dataset Management size limit, in blocks; 0 not given.
    pub dmsl: u64,
    reserved: [u8; 4080],
}

const _: () = assert!(size_of::<IdentifyController>() == 4096);
const _: () = assert!(size_of::<IdentifyNamespace>() == 4096);
const _: () = assert!(size_of::<IdentifyNvmController>() == 4096);
const _: () = assert!(core::mem::offset_of!(IdentifyController, mdts) == 77);
const _: () = assert!(core::mem::offset_of!(IdentifyController, sqes) == 512);
const _: () = assert!(core::mem::offset_of!(IdentifyController, vwc) == 525);
const _: () = assert!(core::mem::offset_of!(IdentifyNamespace, nmic) == 30);
const _: () = assert!(core::mem::offset_of!(IdentifyNamespace, nguid) == 104);
const _: () = assert!(core::mem::offset_of!(IdentifyNamespace, lbaf) == 128);
