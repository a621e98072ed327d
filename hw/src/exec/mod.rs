//! Blocks of the card: exec.

pub mod collector;
pub mod plan_slots;
