//! Blocks of the card: control.
