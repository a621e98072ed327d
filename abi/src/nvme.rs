//! The part of an NVMe controller that the driver uses and the SSD model offers
//! (NVMe Base 2.0, sections 3.1.3 and 5.17; NVM Command Set 1.0, section 4.1.5).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Controller registers in BAR0.
pub mod register {
    /// Controller Capabilities, 64 bits: MQES 15:0 (zero-based), CQR 16, TO 31:24 (500 ms),
    /// DSTRD 35:32, CSS 44:37, MPSMIN 51:48, MPSMAX 55:52.
    pub const CAP: u64 = 0x00;
    /// Version.
    pub const VS: u64 = 0x08;
    /// Interrupt Mask Set.
    pub const INTMS: u64 = 0x0C;
    /// Interrupt Mask Clear.
    pub const INTMC: u64 = 0x10;
    /// Controller Configuration: EN 0, CSS 6:4, MPS 10:7, AMS 13:11, SHN 15:14, IOSQES 19:16,
    /// IOCQES 23:20.
    pub const CC: u64 = 0x14;
    /// Controller Status: RDY 0, CFS 1, SHST 3:2.
    pub const CSTS: u64 = 0x1C;
    /// Admin Queue Attributes: ASQS 11:0, ACQS 27:16, zero-based.
    pub const AQA: u64 = 0x24;
    /// Admin Submission Queue base.
    pub const ASQ: u64 = 0x28;
    /// Admin Completion Queue base.
    pub const ACQ: u64 = 0x30;
    /// Doorbells.
    pub const DOORBELLS: u64 = 0x1000;
}

/// CC: enable.
pub const CC_EN: u32 = 1;
/// CC: I/O submission entries of 64 bytes, completion entries of 16.
pub const CC_ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;
/// CSTS: ready.
pub const CSTS_RDY: u32 = 1;
/// CSTS: fatal.
pub const CSTS_CFS: u32 = 2;

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
    /// Multi-path capabilities.
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
    /// Formatted LBA size: index in bits 3:0.
    pub flbas: u8,
    reserved0: [u8; 101],
    /// LBA formats: metadata bytes 15:0, log2 of the data bytes 23:16.
    pub lbaf: [u32; 64],
    reserved1: [u8; 3712],
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
const _: () = assert!(core::mem::offset_of!(IdentifyNamespace, lbaf) == 128);
