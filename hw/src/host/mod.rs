//! Blocks of the card: host.
