//! The masks: what a plan does next, given what has become of its components.
//!
//! One pure function for writes (`of_write`) and one for reads and Compare (`of_read`). The outcomes stand as
//! a table in `docs/plan-outcomes.md`, which is made of these functions.
//!
//! Effects have an order: the disk is deactivated and components are moved out first, then the record is
//! posted, then the client is told. A plan that becomes the control path's (`Step::Exception`)
//! moves nothing out: whether the command succeeds is not decided.

use volplane_abi::plan::{reason, COMPONENTS_MAX};
use volplane_abi::status;

use super::template::{Components, MaskSet, PlanTemplate};

/// What has become of a component's part of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// It has no part, or its part was not begun.
    #[default]
    Idle,
    /// Its part is under way.
    Running,
    /// All of it succeeded.
    Done,
    /// It failed, retries and paths included, with this status at its lowest failed offset.
    Failed(u16),
    /// It ended with a result that is the client's own doing.
    Refused(u16),
}

/// How a plan ends, if the control path does not get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Status of the command.
    pub status: u16,
    /// Components that are moved out.
    pub out: Components,
    /// Reasons of the record that is posted; 0: none is.
    pub reasons: u16,
    /// The completion waits until the control path releases the plan.
    pub held: bool,
}

/// What a plan does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Waits for what is under way.
    Wait,
    /// Issues nothing more, and waits for what is under way.
    Drain,
    /// Reads one of these components.
    Read(Components),
    /// Becomes the control path's, with these reasons.
    Exception(u16),
    /// Ends.
    End(End),
}

/// A step, and what happens at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The disk is deactivated.
    pub deactivate: bool,
    /// The step.
    pub step: Step,
}

/// Progress of all components.
pub type Parts = [Progress; COMPONENTS_MAX];

fn those(parts: &Parts, choose: impl Fn(&Progress) -> bool) -> Components {
    Components::of(|number| choose(&parts[number]))
}

fn failed(parts: &Parts) -> Components {
    those(parts, |part| matches!(part, Progress::Failed(_)))
}

/// The status of the lowest-numbered of `components`; none of them: that of a device that is not there.
fn lowest(parts: &Parts, components: Components) -> u16 {
    let first = components.numbers().find_map(|number| match parts[number] {
        Progress::Failed(status) | Progress::Refused(status) => Some(status),
        _ => None,
    });
    first.unwrap_or(status::INTERNAL_ERROR | status::DNR)
}

/// Reasons to log the failed components.
pub fn log(masks: &MaskSet, failed: Components) -> u16 {
    let logged = failed.and(masks.log);
    match (logged.any(), logged.and(masks.log_with_data).any()) {
        (false, _) => 0,
        (true, false) => reason::LOG,
        (true, true) => reason::LOG | reason::LOG_WITH_DATA,
    }
}

fn end(status: u16, out: Components, reasons: u16) -> Step {
    let held = reasons & (reason::LOG_WITH_DATA | reason::MISSED_WRITE) != 0;
    Step::End(End { status, out, reasons, held })
}

/// The step while something is under way, or when a failure was not forgiven.
fn unfinished(parts: &Parts, masks: &MaskSet, failed: Components) -> Option<Step> {
    let running = those(parts, |part| matches!(part, Progress::Running)).any();
    match (failed.without(masks.continuation).any(), running) {
        (true, true) => Some(Step::Drain),
        (true, false) => Some(Step::Exception(reason::COMPONENT_FAILURE | log(masks, failed))),
        (false, true) => Some(Step::Wait),
        (false, false) => None,
    }
}

/// The verdict on a write (or Flush, Write Zeroes, deallocation) all of whose components were begun.
/// `durably_out` are the components that the control path knows to be out by now. A write for which no
/// component is written to fails, whatever the minimum is.
pub fn of_write(template: &PlanTemplate, parts: &Parts, durably_out: Components) -> Verdict {
    let masks = &template.write;
    let failed = failed(parts);
    let deactivate = failed.and(masks.deactivate).any();
    let verdict = |step| Verdict { deactivate, step };
    if !template.writable().any() {
        return verdict(end(status::INTERNAL_ERROR | status::DNR, Components::NONE, 0));
    }
    if let Some(step) = unfinished(parts, masks, failed) {
        return verdict(step);
    }
    let refused = those(parts, |part| matches!(part, Progress::Refused(_)));
    let logged = log(masks, failed);
    if refused.any() {
        return verdict(end(lowest(parts, refused), Components::NONE, logged));
    }
    let done = those(parts, |part| matches!(part, Progress::Done));
    let counting = failed.and(masks.success);
    let copies = done.and(template.readable()).count();
    if counting.any() || copies < u32::from(template.minimum) {
        let counting = if counting.any() { counting } else { failed };
        return verdict(end(lowest(parts, counting), Components::NONE, logged));
    }
    // Who missed a write that the client is told of is never read again.
    let missed = template.present().without(done).without(durably_out);
    let reasons = if missed.any() { logged | reason::MISSED_WRITE } else { logged };
    verdict(end(status::SUCCESS, failed, reasons))
}

/// The verdict on a read or Compare, of which one component at a time is under way. `in_sync` are the
/// components that are in sync now: one that has missed a write since admission is not tried.
pub fn of_read(template: &PlanTemplate, parts: &Parts, in_sync: Components) -> Verdict {
    let masks = &template.read;
    let failed = failed(parts);
    let deactivate = failed.and(masks.deactivate).any();
    let verdict = |step| Verdict { deactivate, step };
    if let Some(step) = unfinished(parts, masks, failed) {
        return verdict(step);
    }
    let logged = log(masks, failed);
    if those(parts, |part| matches!(part, Progress::Done)).any() {
        return verdict(end(status::SUCCESS, Components::NONE, logged));
    }
    let refused = those(parts, |part| matches!(part, Progress::Refused(_)));
    if refused.any() {
        return verdict(end(lowest(parts, refused), Components::NONE, logged));
    }
    let left = template.readable().and(in_sync).without(failed);
    verdict(if left.any() { Step::Read(left) } else { end(lowest(parts, failed), Components::NONE, logged) })
}
