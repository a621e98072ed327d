//! Blocks of the card: host.

pub mod bar0;
pub mod burst_cutter;
pub mod completion_writer;
pub mod entry_assembler;
pub mod entry_buffer;
pub mod output_buffer;
pub mod range_fetch;
#[cfg(test)]
pub(crate) mod record_words;
pub mod registers;
pub mod reset_sequence;
pub mod write_arbiter;
pub mod write_master;
