//! Blocks of the card: nvme.
