//! The software data path: what the card does with a command, in plain Rust.
//!
//! It finishes what the card hands up, runs where there is no card, and is the golden model by which the
//! RTL is judged. It is written from the design brief and the comments of `volplane-abi`, never from
//! the RTL.
//!
//! * `tables`: what the control ring wrote. * `map`: block to extent. * `pages`: what a client's PRPs name.
//! * `cut`: checks of a command, and its fragments on one map.
//! * `template`: components and masks of a disk. * `verdict`: what the masks decide.
//! * `plan`: a command in execution. * `engine`: all of them, their admission; `issue`: their fragments; `finish`:
//!   their ends. * `choice`: what the brief leaves open.
//! * `control`: what the control path may do. * `record`: what it is told. * `pass_through`: its raw commands.
//! * `service`: the data path as a block service; `service_control`: as its control path reaches it.
//! * `command_ring`: commands on their way to it. * `host_memory`: where their lists and zeros lie.
//! * `ssd_path`: a queue pair of an SSD. * `repository`: the tables as VAAPI writes them.

pub mod choice;
mod command_ring;
pub mod control;
pub mod cut;
pub mod engine;
mod finish;
mod host_memory;
mod issue;
pub mod map;
pub mod pages;
pub mod pass_through;
pub mod plan;
#[cfg(test)]
mod random_tests;
pub mod record;
mod repository;
pub mod service;
mod service_control;
mod ssd_path;
pub mod tables;
pub mod template;
pub mod verdict;
#[cfg(test)]
mod world;

pub use crate::io_plans::{IoPlanError, IoPlanId, PayloadId, PAYLOAD_BYTES};
pub use control::{ControlError, DiskStatus};
pub use cut::{admit, cut, cut_on, Abilities, Admission, Cuts, Fragment, Issued, Request};
pub use engine::{Action, Bounds, DataPath};
pub use pages::{Memory, Pages, Segment};
pub use plan::ClientTag;
pub use record::{ComponentStatus, Record};
pub use service::SoftwareEngine;
pub use tables::Tables;
pub use template::{Component, ComponentState, Components, MaskSet, PlanTemplate, ReadPolicy, TemplateError};
pub use volplane_driver::PlanHandle;
