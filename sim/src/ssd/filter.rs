//! The point where fault decorators take hold of a command.

use crate::probe::CommandRecord;

/// What is done with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Time until it takes effect and completes, in ns.
    pub delay_ns: u64,
    /// Whether data moves and blocks change.
    pub effect: bool,
    /// Whether a completion is posted. Without one the identifier stays in use until the queue is
    /// deleted or the controller is reset.
    pub completion: bool,
    /// Status to complete with, in place of that of the execution: code in 7:0, type in 10:8, DNR
    /// in 14.
    pub status: Option<u16>,
}

/// Decides about every command that passed the checks of its entry.
///
/// Filters wrap each other: an error status is `effect: false` with a `status`; a lost completion
/// is `completion: false`; lateness, reordering, and a command that is executed long after its
/// sender gave up are choices of `delay_ns`.
pub trait CommandFilter: Send {
    /// Turns the `planned` execution of `command` into what is to happen.
    fn judge(&mut self, command: &CommandRecord, planned: Execution) -> Execution;
}
