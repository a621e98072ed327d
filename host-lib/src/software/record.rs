//! Records of the exception ring: what the control path is told of a plan.

use std::collections::VecDeque;

use volplane_abi::plan::{reason, COMPONENTS_MAX};
use volplane_abi::{opcode, ExceptionComponent, ExceptionTail, SubmissionEntry};
use volplane_driver::{ExceptionRecord, PlanHandle};

use super::plan::{ClientTag, Owner, Plan, Stage};
use super::template::{ComponentState, Components};
use super::verdict::{End, Progress};

/// A component, as a record tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentStatus {
    /// State in the plan's template.
    pub state: ComponentState,
    /// What has become of its part.
    pub progress: Progress,
    /// Its part was begun.
    pub begun: bool,
    /// Device and path of the failed fragment with the lowest offset, if it ever was given to one.
    pub failed_on: Option<(u16, u8)>,
    /// The number of that fragment, or how many were given and have succeeded.
    pub fragment: u32,
    /// Blocks transferred from the first on, without a gap.
    pub blocks_done: u64,
}

impl ComponentStatus {
    /// As the card tells it: nothing, unless it failed, was refused or was stopped.
    fn exception(&self) -> ExceptionComponent {
        let told = ExceptionComponent::default().with_fragment(self.fragment);
        match self.progress {
            Progress::Failed(status) | Progress::Refused(status) => match self.failed_on {
                Some((_, path)) => told.with_status(status).with_path(path),
                None => told.with_status(status).with_closed(1),
            },
            Progress::Idle if self.begun => told,
            _ => ExceptionComponent::default(),
        }
    }
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
    /// Number of its template, 0: none.
    pub template: u16,
    /// The disk was deactivated on its account.
    pub deactivated: bool,
    /// Components.
    pub components: [ComponentStatus; COMPONENTS_MAX],
    /// The plan is the control path's to resubmit, complete or abort.
    pub owned: bool,
    /// How it ended, if it waits to be released.
    pub held: Option<End>,
}

impl Record {
    pub(super) fn of(plan: &Plan, reasons: u16) -> Self {
        // Nothing of it is under way: what was not given by now is not going to be.
        let parts = plan.parts.each_ref().map(|part| part.progress(true));
        let component = |number: usize| {
            let pieces = &plan.parts[number].pieces;
            let failed =
                pieces.iter().position(|piece| matches!(piece.stage, Stage::Failed(_) | Stage::Refused(_)));
            let given = failed.map(|place| &pieces[place]).filter(|piece| piece.paths_tried != 0);
            let done = || pieces.iter().filter(|piece| piece.stage == Stage::Done).count();
            ComponentStatus {
                state: plan.template.components[number].state,
                progress: parts[number],
                begun: plan.parts[number].begun,
                failed_on: given.map(|piece| (piece.fragment.device, piece.last_path)),
                fragment: failed.unwrap_or_else(done) as u32,
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
            template: plan.template_number,
            deactivated: plan.deactivated,
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

    /// As the card tells it.
    pub fn exception(&self) -> ExceptionRecord {
        let those = |choose: fn(&ComponentStatus) -> bool| {
            Components::of(|number| choose(&self.components[number])).0
        };
        let mut tail = ExceptionTail::default()
            .with_slot(self.handle.slot)
            .with_generation(self.handle.generation)
            .with_reasons(self.reasons)
            .with_disk(self.disk)
            .with_plan(self.template)
            .with_queue(self.client.queue)
            .with_command_id(self.client.command)
            .with_epoch(self.epoch as u32)
            .with_blocks(self.range.1 as u32)
            .with_begun(those(|one| one.begun))
            .with_done(those(|one| one.progress == Progress::Done))
            .with_failed(those(|one| matches!(one.progress, Progress::Failed(_))))
            .with_refused(those(|one| matches!(one.progress, Progress::Refused(_))))
            .with_readable(those(|one| one.state == ComponentState::InSync))
            .with_present(those(|one| one.state != ComponentState::Absent))
            .with_stopped(those(|one| one.begun && one.progress == Progress::Idle))
            .with_owned(self.owned.into())
            .with_deactivated(self.deactivated.into());
        if let Some(end) = self.held {
            tail = tail.with_held(1).with_out(end.out.0).with_status(end.status);
        }
        let mut command = self.entry;
        if command.opcode() == opcode::DATASET_MANAGEMENT {
            let (lba, blocks) = self.range;
            command = command.with_starting_lba(lba).with_block_count_z(blocks.saturating_sub(1) as u16);
        }
        ExceptionRecord { command, components: self.components.map(|one| one.exception()), tail }
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

    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
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

#[cfg(test)]
mod tests {
    use volplane_abi::plan::{plan_status, reason};
    use volplane_abi::status::SUCCESS;

    use super::super::engine::Bounds;
    use super::super::template::MaskSet;
    use super::super::world::World;
    use super::super::PlanTemplate;
    use super::*;

    const CLIENT: ClientTag = ClientTag { queue: 1, command: 7 };

    /// Two copies on disks 0 and 1, none of whose failures is forgiven; two devices each, which take two commands.
    fn world() -> World {
        let mut world = World::new(2, 1, 2, Bounds::default());
        let mut template = PlanTemplate::single(0);
        template.components[1] = template.components[0];
        template.components[1].disk = 1;
        (template.write, template.durably_out) = (MaskSet::default(), Components(!3));
        world.engine.set_template(0, template).expect("a sound template");
        world
    }

    fn told(world: &mut World) -> ExceptionRecord {
        world.engine.get_plan().expect("a record").exception()
    }

    #[test]
    fn a_failure_has_a_fragment_and_a_path_unless_nobody_gave_it() {
        let mut world = world();
        // Blocks 6 to 11: two units, the second of each copy on its second device.
        world.submit(CLIENT, opcode::WRITE, 0, 6, 6, 1);
        world.settle(|fragment| if fragment.device == 3 { 0x4281 } else { SUCCESS });
        let record = told(&mut world);
        let tail = record.tail;
        assert_eq!((tail.queue(), tail.command_id(), tail.disk(), tail.plan()), (1, 7, 0, 1));
        assert_eq!((tail.reasons(), tail.owned(), tail.held()), (reason::COMPONENT_FAILURE, 1, 0));
        assert_eq!((tail.blocks(), tail.begun(), tail.done(), tail.failed()), (6, 3, 1, 2));
        assert_eq!((tail.present(), tail.readable(), tail.stopped()), (3, 3, 0));
        let failed = ExceptionComponent::default().with_status(0x4281).with_path(3).with_fragment(1);
        assert_eq!(record.components[..2], [ExceptionComponent::default(), failed]);
        assert_eq!(record.next_exception(None), Some((1, &failed)));
        world.engine.abort(record.handle()).expect("it is owned");

        world.engine.path_quiesced(2);
        world.submit(CLIENT, opcode::WRITE, 0, 6, 6, 2);
        world.settle(|_| SUCCESS);
        let record = told(&mut world);
        let closed = ExceptionComponent::default().with_status(plan_status::HOST_PATH_ERROR).with_closed(1);
        assert_eq!((record.tail.failed(), record.components[1]), (2, closed));
    }

    #[test]
    fn what_was_stopped_says_how_far_it_came() {
        let mut world = world();
        world.submit(CLIENT, opcode::WRITE_ZEROES, 0, 0, 64, 1);
        let plan = world.engine.plans_of(0)[0];
        world.engine.take_over(plan).expect("it is under way");
        world.settle(|_| SUCCESS);
        let record = told(&mut world);
        let tail = record.tail;
        assert_eq!(
            (tail.reasons(), tail.done(), tail.failed(), tail.stopped()),
            (reason::TAKE_OVER, 0, 0, 3)
        );
        let stopped = ExceptionComponent::default().with_fragment(4);
        assert_eq!(record.components[..3], [stopped, stopped, ExceptionComponent::default()]);
        assert!(record.tail.generation() > plan.generation);
    }
}
