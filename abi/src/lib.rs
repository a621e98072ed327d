//! The ABI between the Volplane card and its software: registers, descriptors, tables, statuses.
//!
//! This crate is the only place where a bit position is written. The RTL (`hw`), the driver, the
//! simulator and `docs/registers.md` take positions from here. It depends on nothing of ours and
//! has no unsafe code. A change here is a change of `registers::ABI_MAJOR` or `ABI_MINOR`.

#![forbid(unsafe_code)]

pub mod descriptors;
pub mod field;
pub mod layout;
pub mod nvme;
pub mod opcode;
pub mod plan;
pub mod registers;
pub mod status;
pub mod tables;

pub use descriptors::{
    control_opcode, CompletionEntry, ControlCommand, ControlCompletion, DatasetAttributes, DeallocateRange,
    PlanCommand, SubmissionEntry, TRANSACTION_MAX,
};
pub use field::Field;
pub use plan::{
    ComponentEntry, ComponentStates, DivertEntry, ExceptionComponent, ExceptionTail, PlanEntry, PlanMasks,
    PlanState,
};
pub use tables::{
    completion_mode, extent_action, submission_mode, table, vd_status, AllocationEntry, DeviceEntry,
    EpochState, ExtentEntry, PathCompletions, PathEntry, PathState, QueueEntry, QueueState, QuotaEntry,
    VdEntry, RESERVE_SHIFT,
};
