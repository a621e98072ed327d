//! What the card must do with a command, in plain Rust: the golden side of the differential tests.
//!
//! Written from the design brief and the comments of `volplane-abi`, never from the RTL. It knows no
//! time: `plan` gives the fragments a command becomes and the status it ends with.
//!
//! * `tables`: what the control ring wrote. * `map`: block to extent. * `prp`: what a client's PRPs name.
//! * `plan`: checks, cuts and statuses.

pub mod map;
pub mod plan;
pub mod prp;
pub mod tables;

pub use plan::{plan, Fragment, Issued, Plan};
pub use prp::{Memory, Pages, Segment};
pub use tables::Tables;
