//! The control path's part of a service: plans that it shares with whatever executes the disks, and plans of its own.
//!
//! * `service`: what a service gives for that, the card's engine and the software data path's alike.
//! * `decisions`: the control path ends what is handed up.
//! * `shared`: what an application may do with plans instead.
//! * `own`: commands of its own, to disks and devices.

mod decisions;
mod own;
mod service;
mod shared;

pub(crate) use decisions::Decides;
pub(crate) use own::drain_own;
pub use own::{IoOrder, IoTarget, OwnPlans, SubmitPlanError};
pub(crate) use service::{ControlPart, Decision, PlanService};
pub(crate) use shared::end_all_exceptions;
pub use shared::{PlanOwner, SharedPlans};
