//! Blocks of the card: exec.

pub mod again_queue;
pub mod collector;
pub mod command_store;
pub mod component_states;
pub mod epochs;
pub mod mask_verdict;
pub mod part_class;
pub mod part_retry;
pub mod path_waiters;
pub mod plan_judge;
pub mod plan_list;
pub mod plan_order;
pub mod plan_slots;
pub mod plan_stops;
pub mod plan_verdict;
pub mod record_pieces;
pub mod record_writer;
pub mod status_kind;
pub mod stop_cause;
pub mod try_notes;
