//! Blocks of the card: control.

pub mod executor;
