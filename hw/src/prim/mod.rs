//! Building blocks: streams, memories, FIFOs.

pub mod choice;
pub mod fifo;
pub mod merge;
pub mod output_buffer;
pub mod priority;
pub mod ram;
pub mod register;
pub mod slice;
pub mod stream;
