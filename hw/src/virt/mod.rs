//! Blocks of the card: virt.
