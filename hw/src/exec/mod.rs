//! Blocks of the card: exec.
