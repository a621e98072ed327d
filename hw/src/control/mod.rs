//! Blocks of the card: control.

pub mod executor;
pub mod idle_gather;
pub mod transactions;
