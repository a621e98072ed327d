//! The engine of the software data path: plans in execution, without any I/O of its own.
//!
//! Whoever drives it submits commands, hands back what SSDs complete, tells the time, and executes what
//! `next_action` asks for. The same calls in the same order give the same actions.
//!
//! * A command is admitted when a slot, its disk's and its client's quota allow, commands of a client in
//!   order; until then it waits, and with it the commands behind it in its queue.
//! * Fragments of a plan are issued in order of component and offset, as their paths have room.
//! * A write to more than one component waits for writes to the same blocks admitted before it.
//! * A plan ends, for the client or for the control path, when nothing of it is under way.
//!
//! `choice`: what the brief leaves open. `control`: what the control path may do. `record`: what it gets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use volplane_abi::plan::{reason, COMPONENTS_MAX, COMPONENT_FRAGMENTS_MAX};
use volplane_abi::status::{self, DNR};
use volplane_abi::{opcode, vd_status, QuotaEntry, SubmissionEntry};
use volplane_driver::PlanHandle;

use super::choice::{Chooser, Turns};
use super::cut::{admit, cut_on, flush, Abilities, Admission, Cuts, Fragment};
use super::issue::{Outstanding, PathState};
use super::pages::Memory;
use super::pass_through::PassThrough;
use super::plan::{ClientTag, Owner, Part, Plan};
use super::record::Records;
use super::tables::Tables;
use super::template::{Components, PlanTemplate, ReadPolicy};
use super::verdict::Progress;

/// Bounds of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Plan slots.
    pub slots: u16,
    /// Of those, kept for the control path.
    pub reserve: u16,
    /// Most slots of one client queue.
    pub per_client: u16,
    /// Most slots of one virtual disk that has no quota in the tables.
    pub per_disk: u16,
    /// Most records that wait for the control path.
    pub records: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { slots: 1024, reserve: 16, per_client: 512, per_disk: 512, records: 256 }
    }
}

/// What the driver of an engine has to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Give a fragment to the SSD behind a path; report its status under this identifier.
    Issue {
        /// Identifier.
        id: u64,
        /// Path.
        path: u8,
        /// Command.
        fragment: Fragment,
    },
    /// Write zeros to the fragment's memory; report the status under this identifier.
    Fill {
        /// Identifier.
        id: u64,
        /// Memory.
        fragment: Fragment,
    },
    /// Give a raw command to the SSD behind a path; report its status under this identifier.
    Raw {
        /// Identifier.
        id: u64,
        /// Path.
        path: u8,
        /// Command; its identifier is the driver's to choose.
        entry: SubmissionEntry,
    },
    /// Answer a client.
    Complete {
        /// Command.
        client: ClientTag,
        /// Status field.
        status: u16,
    },
    /// A path left a fragment unanswered: make sure that nothing of it is executed any more, then say
    /// `path_quiesced`.
    Fence {
        /// Path.
        path: u8,
    },
    /// A disk was deactivated.
    Deactivated {
        /// Disk.
        disk: u16,
    },
    /// A component missed a write and is out.
    MovedOut {
        /// Disk.
        disk: u16,
        /// Component.
        component: usize,
    },
}

/// A command that waits for admission.
#[derive(Clone, Debug)]
struct Arrived {
    client: ClientTag,
    entry: SubmissionEntry,
    admission: Admission,
}

/// See the module's header.
pub struct DataPath {
    pub(super) tables: Tables,
    bounds: Bounds,
    pub(super) plans: BTreeMap<u16, Plan>,
    pub(super) free: BTreeSet<u16>,
    generations: Vec<u32>,
    waiting: BTreeMap<u16, VecDeque<Arrived>>,
    pub(super) outstanding: BTreeMap<u64, Outstanding>,
    pub(super) paths: BTreeMap<u8, PathState>,
    /// Disks whose commands wait.
    pub(super) quiescent: BTreeSet<u16>,
    pub(super) epoch: u64,
    pub(super) records: Records,
    pub(super) raw: PassThrough,
    pub(super) actions: VecDeque<Action>,
    /// Plans that something has happened to since they were looked at.
    due: BTreeSet<u16>,
    /// Plans that had something to issue, and could not.
    held_up: BTreeSet<u16>,
    /// A lock was taken or given back since writes were looked at that wait for one.
    relocked: bool,
    pub(super) chooser: Box<dyn Chooser>,
    pub(super) now: u64,
    pub(super) next_id: u64,
    pub(super) next_order: u64,
    /// Completions of identifiers that nobody has.
    pub(super) unknown: u64,
}

impl DataPath {
    /// An empty one, which takes turns where the brief leaves a choice.
    pub fn new(bounds: Bounds) -> Self {
        Self::with_chooser(bounds, Box::new(Turns::default()))
    }

    /// An empty one.
    pub fn with_chooser(bounds: Bounds, chooser: Box<dyn Chooser>) -> Self {
        Self {
            tables: Tables::default(),
            bounds,
            plans: BTreeMap::new(),
            free: (0..bounds.slots).collect(),
            generations: vec![0; usize::from(bounds.slots)],
            waiting: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            paths: BTreeMap::new(),
            quiescent: BTreeSet::new(),
            epoch: 0,
            records: Records::new(bounds.records),
            raw: PassThrough::default(),
            actions: VecDeque::new(),
            due: BTreeSet::new(),
            held_up: BTreeSet::new(),
            relocked: false,
            chooser,
            now: 0,
            next_id: 0,
            next_order: 0,
            unknown: 0,
        }
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Changes tables. Plans under way keep the map they were cut on. What can go on now, does.
    pub fn change_tables(&mut self, change: impl FnOnce(&mut Tables)) {
        change(&mut self.tables);
        self.run_all();
    }

    /// The template of a disk, as the tables have it.
    pub fn template(&self, disk: u16) -> PlanTemplate {
        self.tables.template(disk)
    }

    /// Plans in flight, and commands that wait for a slot.
    pub fn outstanding(&self) -> usize {
        self.plans.len() + self.waiting.values().map(VecDeque::len).sum::<usize>()
    }

    /// Whether nothing is under way or waits, raw commands included.
    pub fn is_idle(&self) -> bool {
        self.outstanding() == 0 && self.paths.values().all(|path| path.outstanding == 0)
    }

    /// What a path has: fragments and raw commands.
    pub fn outstanding_on(&self, path: u8) -> u32 {
        self.paths.get(&path).map_or(0, |state| state.outstanding)
    }

    /// Completions that were for nobody.
    pub fn unknown_completions(&self) -> u64 {
        self.unknown
    }

    /// A client's command, with `memory` as it is now. Commands that cannot be admitted yet wait here, as
    /// many as the caller's ring holds.
    pub fn submit(&mut self, client: ClientTag, entry: SubmissionEntry, memory: &Memory<'_>) {
        let admission = admit(&self.tables, &entry, memory, Abilities::ALL);
        self.waiting.entry(client.queue).or_default().push_back(Arrived { client, entry, admission });
        self.run();
    }

    /// What is to be done next.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether `next_action` has any.
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Lets all plans go on that can: something changed that any of them may depend on.
    pub(super) fn run_all(&mut self) {
        self.look_at_all();
        self.run();
    }

    /// All plans are looked at next time.
    pub(super) fn look_at_all(&mut self) {
        self.due.extend(self.plans.keys());
        self.relocked = true;
    }

    /// Lets those plans go on that something has happened to, and those that waited for it.
    pub(super) fn run(&mut self) {
        self.run_due();
        #[cfg(test)]
        self.check_all_were_looked_at();
    }

    fn run_due(&mut self) {
        loop {
            let before = self.progress();
            self.admit_waiting();
            self.unblock();
            let mut due = std::mem::take(&mut self.due);
            due.append(&mut self.held_up);
            for &slot in &due {
                if self.issue(slot) {
                    self.held_up.insert(slot);
                }
            }
            due.append(&mut self.due);
            due.into_iter().for_each(|slot| self.proceed(slot));
            if self.due.is_empty() && before == self.progress() {
                return;
            }
        }
    }

    /// What every step changes that is seen outside, or begins something.
    fn progress(&self) -> (usize, usize, u64, u64) {
        (self.actions.len(), self.plans.len(), self.next_order, self.next_id)
    }

    /// Nobody goes on who was not due.
    #[cfg(test)]
    fn check_all_were_looked_at(&mut self) {
        let before = self.progress();
        self.look_at_all();
        self.run_due();
        assert_eq!(before, self.progress(), "a plan could have gone on, and was not looked at");
    }

    fn admit_waiting(&mut self) {
        let queues: Vec<u16> = self.waiting.keys().copied().collect();
        for queue in queues {
            while let Some(arrived) = self.waiting.get(&queue).and_then(VecDeque::front) {
                if !self.may_admit(arrived) {
                    break;
                }
                let queue = self.waiting.get_mut(&queue).expect("it has a first command");
                let arrived = queue.pop_front().expect("it has a first command");
                self.admit_one(arrived);
            }
        }
    }

    fn may_admit(&self, arrived: &Arrived) -> bool {
        if let Admission::Ends(_) = arrived.admission {
            return true;
        }
        let disk = disk_of(&arrived.entry);
        let quota = self.tables.quotas.get(&disk.into()).map_or(0, QuotaEntry::slots);
        let most_of_disk = if quota == 0 { self.bounds.per_disk } else { quota.min(self.bounds.per_disk) };
        !self.quiescent.contains(&disk)
            && self.free.len() > usize::from(self.bounds.reserve)
            && self.are_fewer(self.bounds.per_client, |plan| plan.client.queue == arrived.client.queue)
            && self.are_fewer(most_of_disk, |plan| plan.disk == disk)
    }

    /// Whether fewer than `most` plans are `of` something.
    fn are_fewer(&self, most: u16, of: impl Fn(&Plan) -> bool) -> bool {
        let most = usize::from(most);
        self.plans.len() < most || self.plans.values().filter(|plan| of(plan)).count() < most
    }

    fn admit_one(&mut self, arrived: Arrived) {
        let Arrived { client, entry, admission } = arrived;
        let complete = |status| Action::Complete { client, status };
        let disk = disk_of(&entry);
        // A disk may have been deactivated while the command waited.
        let now = self.tables.disk_now(entry.namespace_id());
        let status = now.map_or(vd_status::ABSENT, |vd| vd.status());
        if let Admission::Ends(status) = admission {
            return self.act(complete(status));
        }
        if status != vd_status::ENABLED {
            let code = if status == vd_status::ABSENT {
                status::INVALID_NAMESPACE
            } else {
                status::NAMESPACE_NOT_READY
            };
            return self.act(complete(code | DNR));
        }
        let range = match &admission {
            Admission::Blocks(request) => (request.lba, request.blocks),
            _ => (0, 0),
        };
        let foreign = matches!(admission, Admission::NotExecutable);
        let slot = self.open(client, entry, disk, range, admission);
        if foreign {
            self.plan(slot).stop = reason::NOT_EXECUTABLE;
        } else if self.is_diverted(disk, range) {
            self.plan(slot).stop = reason::DIVERT;
        }
        self.begin(slot);
    }

    fn is_diverted(&self, disk: u16, (lba, blocks): (u64, u64)) -> bool {
        blocks > 0 && self.tables.is_diverted(disk, lba, blocks)
    }

    /// A new plan in a free slot.
    pub(super) fn open(
        &mut self,
        client: ClientTag,
        entry: SubmissionEntry,
        disk: u16,
        range: (u64, u64),
        admission: Admission,
    ) -> u16 {
        let slot = self.free.pop_first().expect("the caller saw a free slot");
        let order = self.next_order();
        let generation = self.renew(slot);
        let plan = Plan {
            handle: PlanHandle { slot, generation },
            client,
            disk,
            entry,
            range,
            admission,
            order,
            epoch: self.epoch,
            template: self.template(disk),
            template_number: self.tables.template_number(disk),
            overtaken: false,
            parts: Default::default(),
            owner: Owner::Accelerated,
            stop: 0,
            aborted: None,
            unquiesced: 0,
            deactivated: false,
            locks: None,
            blocked: false,
            then: None,
        };
        self.plans.insert(slot, plan);
        slot
    }

    /// A place in the order of admissions.
    pub(super) fn next_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    pub(super) fn renew(&mut self, slot: u16) -> u32 {
        let generation = &mut self.generations[usize::from(slot)];
        *generation += 1;
        *generation
    }

    pub(super) fn has_slot(&self) -> bool {
        !self.free.is_empty()
    }

    /// A plan, to be changed: it is looked at again.
    pub(super) fn plan(&mut self, slot: u16) -> &mut Plan {
        self.due.insert(slot);
        self.plans.get_mut(&slot).expect("the slot is in use")
    }

    /// What waits for blocks looks whether they are free.
    pub(super) fn relock(&mut self) {
        self.relocked = true;
    }

    /// Begins the parts of a plan that was just admitted.
    pub(super) fn begin(&mut self, slot: u16) {
        let plan = &self.plans[&slot];
        let template = plan.template;
        if plan.is_stopped() {
            return self.proceed(slot);
        }
        if is_read(&plan.entry) {
            let first = self.choose(slot, template.readable());
            self.begin_parts(slot, first.map_or(Components::NONE, Components::one));
        } else {
            self.begin_parts(slot, template.writable());
            self.lock(slot);
        }
        self.proceed(slot);
    }

    /// Lets a write to several copies wait for earlier ones to its blocks.
    pub(super) fn lock(&mut self, slot: u16) {
        let plan = self.plan(slot);
        let copies = plan.template.writable().count() > 1 && plan.range.1 > 0;
        plan.locks = copies.then_some((plan.disk, plan.range));
        plan.blocked = copies;
        self.relocked |= copies;
    }

    /// Tells plans that the control path has of a write that may be executed before they come back.
    fn overtake(&mut self, slot: u16) {
        let writer = &self.plans[&slot];
        let is_overtaken =
            |other: &Plan| other.owner == Owner::Control && !other.overtaken && writer.overlaps(other);
        let overtaken = self.plans.iter().filter(|&(&other, plan)| other != slot && is_overtaken(plan));
        let overtaken: Vec<u16> = overtaken.map(|(&other, _)| other).collect();
        overtaken.into_iter().for_each(|other| self.plan(other).overtaken = true);
    }

    /// Cuts the parts of `components` on their maps.
    pub(super) fn begin_parts(&mut self, slot: u16, components: Components) {
        self.overtake(slot);
        for number in components.numbers() {
            let plan = &self.plans[&slot];
            let disk = plan.template.components[number].disk;
            let cuts = self.cut(disk, &plan.entry, &plan.admission);
            if cuts.fragments.len() as u64 > COMPONENT_FRAGMENTS_MAX {
                self.plan(slot).stop |= reason::NOT_EXECUTABLE;
            } else {
                self.plan(slot).parts[number] = Part::begin(cuts);
            }
        }
    }

    fn cut(&self, disk: u16, entry: &SubmissionEntry, admission: &Admission) -> Cuts {
        let Some(vd) = self.tables.vds.get(&disk.into()) else {
            return Cuts::ended(status::INTERNAL_ERROR | DNR);
        };
        match admission {
            Admission::Flush => flush(&self.tables, vd, entry),
            Admission::Blocks(request) => cut_on(&self.tables, vd, request),
            Admission::Ends(_) | Admission::NotExecutable => Cuts::ended(status::SUCCESS),
        }
    }

    /// The component that a read tries first.
    pub(super) fn choose(&mut self, slot: u16, among: Components) -> Option<usize> {
        let plan = &self.plans[&slot];
        let policy = plan.template.read_policy;
        let busy = match policy {
            ReadPolicy::LeastOutstanding => self.under_way(plan.disk),
            _ => [0; COMPONENTS_MAX],
        };
        self.chooser.component(policy, among, &busy)
    }

    /// How many parts each component of a disk has under way. One that a late fragment holds up still is; one that waits
    /// for its blocks was not begun.
    fn under_way(&self, disk: u16) -> [u32; COMPONENTS_MAX] {
        let awaited: BTreeSet<_> = self.outstanding.values().map(Outstanding::of).collect();
        let counts = |plan: &Plan| plan.disk == disk && plan.owner == Owner::Accelerated && !plan.blocked;
        let mut busy = [0; COMPONENTS_MAX];
        for (&slot, plan) in self.plans.iter().filter(|(_, plan)| counts(plan)) {
            for (number, progress) in plan.progress().iter().enumerate() {
                let runs = *progress == Progress::Running || awaited.contains(&(slot, number));
                busy[number] += u32::from(runs);
            }
        }
        busy
    }

    /// Lets writes go on whose blocks are free now.
    fn unblock(&mut self) {
        if !std::mem::take(&mut self.relocked) {
            return;
        }
        let holders: Vec<(u64, u16, (u64, u64))> = self
            .plans
            .values()
            .filter_map(|plan| plan.locks.map(|(disk, range)| (plan.order, disk, range)))
            .collect();
        for (&slot, plan) in self.plans.iter_mut().filter(|(_, plan)| plan.blocked) {
            let Some((disk, (lba, blocks))) = plan.locks else { continue };
            let before = |&(order, other, range): &(u64, u16, (u64, u64))| {
                other == disk && order < plan.order && lba < range.0 + range.1 && range.0 < lba + blocks
            };
            plan.blocked = holders.iter().any(before);
            if !plan.blocked {
                self.due.insert(slot);
            }
        }
    }
}

/// The virtual disk that a command names.
pub(super) fn disk_of(entry: &SubmissionEntry) -> u16 {
    entry.namespace_id().wrapping_sub(1) as u16
}

/// Whether a command goes to one component in sync.
pub(super) fn is_read(entry: &SubmissionEntry) -> bool {
    matches!(entry.opcode(), opcode::READ | opcode::COMPARE)
}

#[cfg(test)]
#[path = "busy_tests.rs"]
mod busy_tests;
#[cfg(test)]
#[path = "copy_tests.rs"]
mod copy_tests;
#[cfg(test)]
#[path = "resubmit_tests.rs"]
mod resubmit_tests;
#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "time_out_tests.rs"]
mod time_out_tests;
