//! Building blocks: streams, memories, FIFOs.

pub mod fifo;
pub mod ram;
pub mod stream;
