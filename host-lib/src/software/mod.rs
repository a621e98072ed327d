//! The software data path: what the card does with a command, in plain Rust.
//!
//! It finishes what the card hands up, runs where there is no card, and is the golden model by which the
//! RTL is judged. It is written from the design brief and the comments of `volplane-abi`, never from
//! the RTL.
//!
//! * `tables`: what the control ring wrote. * `map`: block to extent. * `pages`: what a client's PRPs name.
//! * `cut`: checks, cuts and statuses of a command on one map.

pub mod cut;
pub mod map;
pub mod pages;
pub mod tables;

pub use cut::{cut, Cuts, Fragment, Issued};
pub use pages::{Memory, Pages, Segment};
pub use tables::Tables;
