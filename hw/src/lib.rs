//! RTL of the Volplane card in RustHDL, and the generator of its Verilog.

// Ports are named for what they carry and the derive macros add undocumented items; each block's header
// is its documentation.
#![allow(missing_docs)]
// Verilog needs the parentheses that Rust does not.
#![allow(unused_parens)]
// Kernels must not have match guards: RustHDL drops them silently.
#![allow(clippy::collapsible_match)]

#[cfg(test)]
mod bench;
pub mod control;
pub mod emit;
pub mod exec;
pub mod host;
pub mod nvme;
pub mod prim;
pub mod records;
pub mod sizes;
pub mod top;
pub mod virt;

pub use emit::{emit, emit_sized};
pub use sizes::Sizes;
