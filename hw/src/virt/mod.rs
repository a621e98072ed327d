//! Blocks of the card: virt.

pub mod device_cutter;
pub mod fragment_builder;
pub mod list_reader;
pub mod prp_builder;
