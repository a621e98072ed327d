//! Blocks of the card: virt.

pub mod admission;
pub mod allocation_index;
pub mod column_divider;
pub mod command_judge;
pub mod credit;
pub mod delay_line;
pub mod device_cutter;
pub mod device_table;
pub mod divert_scan;
pub mod expander;
pub mod extent_address;
pub mod flush_scan;
pub mod fragment_builder;
pub mod header_queue;
pub mod last_writers;
pub mod list_reader;
pub mod list_slot;
pub mod locator;
pub mod lock_claim;
pub mod lock_parking;
pub mod lock_place;
pub mod lock_release;
pub mod lookup_table;
#[cfg(test)]
mod map_model;
pub mod map_store;
pub mod mapper;
pub mod part_issuer;
pub mod path_choices;
pub mod path_turns;
pub mod path_usable;
pub mod piece_pages;
pub mod prp_builder;
pub mod range_lock;
pub mod run_check;
pub mod splitter;
pub mod transfer_check;
