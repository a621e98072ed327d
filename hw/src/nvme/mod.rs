//! Blocks of the card: nvme.

pub mod completion_filter;
pub mod completion_heads;
pub mod completion_window;
pub mod fragment_ids;
pub mod path_doorbells;
pub mod path_returns;
pub mod path_table;
pub mod path_write;
#[cfg(test)]
mod record_words;
pub mod write_bursts;
