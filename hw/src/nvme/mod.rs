//! Blocks of the card: nvme.

pub mod completion_filter;
pub mod completion_heads;
pub mod completion_poller;
pub mod completion_queues;
pub mod completion_window;
pub mod deadlines;
pub mod entry_writer;
pub mod fragment_entry;
pub mod fragment_ids;
pub mod last_uses;
pub mod path_chooser;
pub mod path_counts;
pub mod path_doorbells;
pub mod path_due;
pub mod path_encoder;
pub mod path_returns;
pub mod path_table;
pub mod path_write;
pub mod poll_turns;
pub mod slot_allocator;
pub mod submission;
pub mod write_bursts;
