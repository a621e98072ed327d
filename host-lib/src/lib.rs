//! Virtual disks on the Volplane card.
//!
//! * `configuration`: devices and disks from TOML, checked.
//! * `map`: the layout of a disk on its devices.
//! * `vaapi`: the calls that set up the card's tables.
//! * `engine`: the disks of a configuration, executed by a card.
//! * `software`: the software data path, which is the golden model of the card too.
//! * `plans`: the control path's part of both: what is handed up, and plans that applications share or make.
//! * `copies`: the control path's care for the copies of mirrored disks; `out_copies`: the file it keeps.
//! * `io_plans`: plans of raw commands, the bookkeeping.
//! * `events`: what a service tells whoever runs it.
//! * `service`: the block service that clients and servers are written against.

mod bring_up;
pub mod configuration;
mod copies;
pub mod engine;
pub mod events;
mod io_plans;
pub mod map;
mod operations;
mod out_copies;
mod plans;
pub mod service;
pub mod software;
pub mod vaapi;

pub use configuration::{Configuration, ConfigurationError};
pub use engine::{Addresses, CompletionMode, Engine, EngineOptions, StartError, StopError, SubmissionMode};
pub use events::{Event, EventKind};
pub use io_plans::{IoPlanError, IoPlanId, PayloadId, PAYLOAD_BYTES};
pub use out_copies::StateError;
pub use plans::{IoOrder, IoTarget, OwnPlans, PlanOwner, SharedPlans, SubmitPlanError};
pub use service::{
    BlockService, Completion, IoError, Operation, ServiceError, SubmitError, VdHandle, VirtualDisk,
};
pub use software::SoftwareEngine;
pub use volplane_driver::{AccessError, DmaMemory, ExceptionRecord, PlanHandle};
