//! Blocks of the card: host.

pub mod arrival_order;
pub mod bar0;
pub mod burst_cutter;
pub mod completion_writer;
pub mod entry_assembler;
pub mod entry_buffer;
pub mod fetch_credits;
pub mod fetch_list;
pub mod fetch_scheduler;
pub mod fetched_heads;
pub mod interrupt_coalescer;
pub mod msix;
pub mod queue_doorbells;
pub mod queue_pairs;
pub mod range_fetch;
pub mod read_master;
#[cfg(test)]
pub(crate) mod record_words;
pub mod registers;
pub mod reset_sequence;
pub mod slot_counts;
pub mod slot_quotas;
pub mod slot_wakes;
pub mod source_buffer;
pub mod vector_picker;
pub mod write_arbiter;
pub mod write_master;
pub mod zero_bursts;
pub mod zero_filler;
pub mod zero_pages;
