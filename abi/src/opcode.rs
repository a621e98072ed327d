//! Opcodes of client rings (NVM Command Set 1.0, figure 21).

/// Flush.
pub const FLUSH: u8 = 0x00;
/// Write.
pub const WRITE: u8 = 0x01;
/// Read.
pub const READ: u8 = 0x02;
/// Compare.
pub const COMPARE: u8 = 0x05;
/// Write Zeroes.
pub const WRITE_ZEROES: u8 = 0x08;
/// Dataset Management.
pub const DATASET_MANAGEMENT: u8 = 0x09;
