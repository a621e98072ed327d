//! Records of the exception ring: what the control path is told of a plan.

use std::collections::VecDeque;

use volplane_abi::plan::{reason, COMPONENTS_MAX};
use volplane_abi::SubmissionEntry;

use super::plan::{ClientTag, Owner, Plan, PlanHandle, Stage};
use super::template::ComponentState;
use super::verdict::{End, Progress};

/// A component, as a record tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentStatus {
    /// State in the plan's template.
    pub state: ComponentState,
    /// What has become of its part.
    pub progress: Progress,
    /// Device and path of the failed fragment with the lowest offset.
    pub failed_on: Option<(u16, u8)>,
    /// Blocks transferred from the first on, without a gap.
    pub blocks_done: u64,
}

/// A record: a plan, whole.
#[derive(Clone, Debug)]
pub struct Record {
    /// The plan's name from now on.
    pub handle: PlanHandle,
    /// Why there is a record, as bits of `abi::plan::reason`.
    pub reasons: u16,
    /// Whom the plan answers.
    pub client: ClientTag,
    /// Virtual disk.
    pub disk: u16,
    /// The client's command.
    pub entry: SubmissionEntry,
    /// First block and blocks.
    pub range: (u64, u64),
    /// Epoch of its admission.
    pub epoch: u64,
    /// Components.
    pub components: [ComponentStatus; COMPONENTS_MAX],
    /// The plan is the control path's to resubmit, complete or abort.
    pub owned: bool,
    /// How it ended, if it waits to be released.
    pub held: Option<End>,
}

impl Record {
    pub(super) fn of(plan: &Plan, reasons: u16) -> Self {
        let parts = plan.progress();
        let component = |number: usize| {
            let failed = plan.parts[number]
                .pieces
                .iter()
                .find(|piece| matches!(piece.stage, Stage::Failed(_) | Stage::Refused(_)));
            ComponentStatus {
                state: plan.template.components[number].state,
                progress: parts[number],
                failed_on: failed.map(|piece| (piece.fragment.device, piece.last_path)),
                blocks_done: plan.parts[number].blocks_done(),
            }
        };
        Self {
            handle: plan.handle,
            reasons,
            client: plan.client,
            disk: plan.disk,
            entry: plan.entry,
            range: plan.range,
            epoch: plan.epoch,
            components: std::array::from_fn(component),
            owned: plan.owner == Owner::Control,
            held: match plan.owner {
                Owner::Ended(end) => Some(end),
                _ => None,
            },
        }
    }

    /// IOP_PlanStatusDecode: the components on which an exception occurred, after `after`; call it with
    /// `None`, then with each answer.
    pub fn next_exception(&self, after: Option<usize>) -> Option<(usize, &ComponentStatus)> {
        let from = after.map_or(0, |number| number + 1);
        let failed = |(_, status): &(usize, &ComponentStatus)| {
            matches!(status.progress, Progress::Failed(_) | Progress::Refused(_))
        };
        self.components.iter().enumerate().skip(from).find(failed)
    }

    /// The reasons by name.
    pub fn reason_names(&self) -> Vec<&'static str> {
        let set = reason::NAMES.iter().filter(|(bit, _)| self.reasons & bit != 0);
        set.map(|&(_, name)| name).collect()
    }
}

/// The ring of records: bounded, in order.
#[derive(Debug)]
pub(super) struct Records {
    ring: VecDeque<Record>,
    most: usize,
}

impl Records {
    pub(super) fn new(most: usize) -> Self {
        Self { ring: VecDeque::new(), most }
    }

    pub(super) fn has_room(&self) -> bool {
        self.ring.len() < self.most
    }

    pub(super) fn post(&mut self, record: Record) {
        debug_assert!(self.has_room());
        self.ring.push_back(record);
    }

    /// The oldest record that `wanted` says yes to.
    pub(super) fn take(&mut self, wanted: impl Fn(&Record) -> bool) -> Option<Record> {
        let place = self.ring.iter().position(wanted)?;
        self.ring.remove(place)
    }
}
