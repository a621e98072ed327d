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

use volplane_abi::plan::{plan_status, reason, COMPONENTS_MAX, COMPONENT_FRAGMENTS_MAX};
use volplane_abi::status::{self, DNR};
use volplane_abi::{opcode, vd_status, SubmissionEntry};

use super::choice::{Chooser, Turns};
use super::cut::{admit, cut_on, flush, Abilities, Admission, Cuts, Fragment};
use super::pages::Memory;
use super::pass_through::PassThrough;
use super::plan::{ClientTag, Next, Owner, Part, Plan, PlanHandle, Stage};
use super::record::{Record, Records};
use super::tables::Tables;
use super::template::{ComponentState, Components, PlanTemplate};
use super::verdict::{log, of_read, of_write, End, Progress, Step};

/// Bounds of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Plan slots.
    pub slots: u16,
    /// Of those, kept for the control path.
    pub reserve: u16,
    /// Most slots of one client queue.
    pub per_client: u16,
    /// Most slots of one virtual disk.
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

/// A fragment that an SSD has.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    slot: u16,
    part: usize,
    piece: usize,
    path: Option<u8>,
    device: u16,
    deadline: Option<u64>,
    /// Not answered in time.
    late: bool,
    /// Its answer no longer matters.
    abandoned: bool,
}

/// What is known of a path beside its table entry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PathState {
    pub(super) outstanding: u32,
    /// A fence was asked for.
    pub(super) suspect: bool,
    /// Quiesced, and not set up again since.
    pub(super) down: bool,
}

/// A command that waits for admission.
#[derive(Clone, Debug)]
struct Arrived {
    client: ClientTag,
    entry: SubmissionEntry,
    admission: Admission,
}

/// Blocks of a disk that the control path wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DivertRange {
    /// Disk.
    pub disk: u16,
    /// First block.
    pub lba: u64,
    /// Blocks.
    pub blocks: u64,
}

/// See the module's header.
pub struct DataPath {
    pub(super) tables: Tables,
    pub(super) templates: BTreeMap<u16, PlanTemplate>,
    bounds: Bounds,
    pub(super) plans: BTreeMap<u16, Plan>,
    free: BTreeSet<u16>,
    generations: Vec<u32>,
    waiting: BTreeMap<u16, VecDeque<Arrived>>,
    outstanding: BTreeMap<u64, Outstanding>,
    pub(super) paths: BTreeMap<u8, PathState>,
    pub(super) diverts: Vec<DivertRange>,
    /// Disks whose commands wait.
    pub(super) quiescent: BTreeSet<u16>,
    pub(super) epoch: u64,
    pub(super) records: Records,
    pub(super) raw: PassThrough,
    actions: VecDeque<Action>,
    chooser: Box<dyn Chooser>,
    now: u64,
    next_id: u64,
    next_order: u64,
    /// Completions of identifiers that nobody has.
    unknown: u64,
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
            templates: BTreeMap::new(),
            bounds,
            plans: BTreeMap::new(),
            free: (0..bounds.slots).collect(),
            generations: vec![0; usize::from(bounds.slots)],
            waiting: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            paths: BTreeMap::new(),
            diverts: Vec::new(),
            quiescent: BTreeSet::new(),
            epoch: 0,
            records: Records::new(bounds.records),
            raw: PassThrough::default(),
            actions: VecDeque::new(),
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
        self.run();
    }

    /// The template of a disk: that of `AP_SetMapVD` alone if no plan was set.
    pub fn template(&self, disk: u16) -> PlanTemplate {
        self.templates.get(&disk).copied().unwrap_or_else(|| PlanTemplate::single(disk))
    }

    /// Plans in flight, and commands that wait for a slot.
    pub fn outstanding(&self) -> usize {
        self.plans.len() + self.waiting.values().map(VecDeque::len).sum::<usize>()
    }

    /// Completions that were for nobody.
    pub fn unknown_completions(&self) -> u64 {
        self.unknown
    }

    /// A client's command, with `memory` as it is now.
    pub fn submit(&mut self, client: ClientTag, entry: SubmissionEntry, memory: &Memory<'_>) {
        let admission = admit(&self.tables, &entry, memory, Abilities::ALL);
        self.waiting.entry(client.queue).or_default().push_back(Arrived { client, entry, admission });
        self.run();
    }

    /// A fragment came back.
    pub fn returned(&mut self, id: u64, status: u16) {
        if let Some(path) = self.raw.returned(id, status) {
            self.paths.entry(path).or_default().outstanding -= 1;
            return self.run();
        }
        let Some(back) = self.outstanding.remove(&id) else {
            self.unknown += 1;
            return;
        };
        self.retire(&back);
        if !back.abandoned {
            self.settle(&back, status);
        }
        self.proceed(back.slot);
        self.run();
    }

    /// The time, in ticks.
    pub fn advance(&mut self, now: u64) {
        self.now = now;
        let due = |back: &Outstanding| !back.late && back.deadline.is_some_and(|deadline| deadline <= now);
        let late: Vec<u64> =
            self.outstanding.iter().filter(|(_, back)| due(back)).map(|(&id, _)| id).collect();
        for id in late {
            self.time_out(id);
        }
        self.run();
    }

    /// The earliest tick at which a fragment is late.
    pub fn deadline(&self) -> Option<u64> {
        let waited_for = self.outstanding.values().filter(|back| !back.late);
        waited_for.filter_map(|back| back.deadline).min()
    }

    /// Nothing that was given to a path is executed any more, now or later. It is not used until
    /// `path_up`.
    pub fn path_quiesced(&mut self, path: u8) {
        let raw = self.raw.path_quiesced(path);
        let state = self.paths.entry(path).or_default();
        (state.down, state.suspect) = (true, false);
        state.outstanding -= raw;
        let lost: Vec<u64> =
            self.outstanding.iter().filter(|(_, back)| back.path == Some(path)).map(|(&id, _)| id).collect();
        for id in lost {
            let back = self.outstanding.remove(&id).expect("just found");
            self.retire(&back);
            if !back.abandoned {
                self.settle(&back, plan_status::ABORTED_SQ_DELETION);
            }
            self.proceed(back.slot);
        }
        self.run();
    }

    /// A path can be used again.
    pub fn path_up(&mut self, path: u8) {
        self.paths.entry(path).or_default().down = false;
        self.run();
    }

    /// What is to be done next.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Gives back what an outstanding fragment held.
    fn retire(&mut self, back: &Outstanding) {
        if let Some(path) = back.path {
            self.paths.entry(path).or_default().outstanding -= 1;
        }
        if back.late {
            if let Some(plan) = self.plans.get_mut(&back.slot) {
                plan.unquiesced -= 1;
            }
        }
    }

    fn settle(&mut self, back: &Outstanding, status: u16) {
        let all = self.tables.paths_to(back.device);
        let bit = back.path.and_then(|path| all.iter().position(|&other| other == path));
        let bit = bit.map_or(0, |place| 1 << place);
        let usable = (0..all.len()).filter(|&place| self.is_usable(all[place]));
        let usable = usable.fold(0u8, |bits, place| bits | 1 << place);
        let plan = self.plans.get_mut(&back.slot).expect("an outstanding fragment has a plan");
        let next = plan.settle(back.part, back.piece, status, bit, usable);
        debug_assert!(next == Next::Over || !plan.is_stopped());
    }

    fn time_out(&mut self, id: u64) {
        let back = self.outstanding.get_mut(&id).expect("it is outstanding");
        back.late = true;
        let plan = self.plans.get_mut(&back.slot).expect("an outstanding fragment has a plan");
        plan.unquiesced += 1;
        plan.noted |= reason::TIME_OUT;
        // What only reads may be tried elsewhere at once; a write may yet be executed.
        let reads = matches!(plan.entry.opcode(), opcode::READ | opcode::COMPARE);
        back.abandoned = reads;
        let back = *back;
        if let Some(path) = back.path {
            let state = self.paths.entry(path).or_default();
            if !std::mem::replace(&mut state.suspect, true) {
                self.act(Action::Fence { path });
            }
        }
        if reads {
            self.settle(&back, plan_status::ABORTED_BY_HOST);
            self.proceed(back.slot);
        }
    }

    pub(super) fn is_usable(&self, path: u8) -> bool {
        let state = self.paths.get(&path).copied().unwrap_or_default();
        !state.down && self.tables.paths.get(&path).is_some_and(|entry| entry.valid() == 1)
    }

    /// Lets everything go on that can.
    pub(super) fn run(&mut self) {
        loop {
            let before = (self.actions.len(), self.plans.len(), self.next_order, self.next_id);
            self.admit_waiting();
            self.unblock();
            self.issue();
            let slots: Vec<u16> = self.plans.keys().copied().collect();
            slots.into_iter().for_each(|slot| self.proceed(slot));
            if before == (self.actions.len(), self.plans.len(), self.next_order, self.next_id) {
                return;
            }
        }
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
        let of_client = self.plans.values().filter(|plan| plan.client.queue == arrived.client.queue).count();
        let of_disk = self.plans.values().filter(|plan| plan.disk == disk).count();
        !self.quiescent.contains(&disk)
            && self.free.len() > usize::from(self.bounds.reserve)
            && of_client < usize::from(self.bounds.per_client)
            && of_disk < usize::from(self.bounds.per_disk)
    }

    fn admit_one(&mut self, arrived: Arrived) {
        let Arrived { client, entry, admission } = arrived;
        let complete = |status| Action::Complete { client, status };
        let disk = disk_of(&entry);
        // A disk may have been deactivated while the command waited.
        let status = self.tables.vds.get(&disk.into()).map_or(vd_status::ABSENT, |vd| vd.status());
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
        let touches = |divert: &DivertRange| {
            divert.disk == disk && lba < divert.lba + divert.blocks && divert.lba < lba + blocks
        };
        blocks > 0 && self.diverts.iter().any(touches)
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
            parts: Default::default(),
            owner: Owner::Accelerated,
            stop: 0,
            noted: 0,
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

    pub(super) fn plan(&mut self, slot: u16) -> &mut Plan {
        self.plans.get_mut(&slot).expect("the slot is in use")
    }

    /// Begins the parts of a plan that was just admitted.
    pub(super) fn begin(&mut self, slot: u16) {
        let plan = &self.plans[&slot];
        let template = plan.template;
        if plan.is_stopped() {
            return self.proceed(slot);
        }
        if is_read(&plan.entry) {
            let first = self.choose(&template, template.readable());
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
    }

    /// Cuts the parts of `components` on their maps.
    pub(super) fn begin_parts(&mut self, slot: u16, components: Components) {
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
            Admission::Blocks(request) => cut_on(&self.tables, vd, request, Abilities::ALL),
            Admission::Ends(_) | Admission::NotExecutable => Cuts::ended(status::SUCCESS),
        }
    }

    fn choose(&mut self, template: &PlanTemplate, among: Components) -> Option<usize> {
        let mut busy = [0; COMPONENTS_MAX];
        for back in self.outstanding.values() {
            busy[back.part] += 1;
        }
        self.chooser.component(template.read_policy, among, &busy)
    }

    /// Lets writes go on whose blocks are free now.
    fn unblock(&mut self) {
        let holders: Vec<(u64, u16, (u64, u64))> = self
            .plans
            .values()
            .filter_map(|plan| plan.locks.map(|(disk, range)| (plan.order, disk, range)))
            .collect();
        for plan in self.plans.values_mut().filter(|plan| plan.blocked) {
            let Some((disk, (lba, blocks))) = plan.locks else { continue };
            let before = |&(order, other, range): &(u64, u16, (u64, u64))| {
                other == disk && order < plan.order && lba < range.0 + range.1 && range.0 < lba + blocks
            };
            plan.blocked = holders.iter().any(before);
        }
    }

    /// Issues what can be issued.
    fn issue(&mut self) {
        let slots: Vec<u16> = self.plans.keys().copied().collect();
        for slot in slots {
            for part in 0..COMPONENTS_MAX {
                while self.issue_one(slot, part) {}
            }
        }
    }

    fn issue_one(&mut self, slot: u16, part: usize) -> bool {
        let plan = &self.plans[&slot];
        if plan.is_stopped() || plan.blocked || plan.owner != Owner::Accelerated {
            return false;
        }
        let Some(piece) = plan.parts[part].next() else {
            if plan.parts[part].faulted && !plan.parts[part].is_over() {
                let fault = if is_read(&plan.entry) { reason::READ_FAULT } else { reason::WRITE_FAULT };
                self.plan(slot).stop |= fault;
            }
            return false;
        };
        let found = &plan.parts[part].pieces[piece];
        let (mut fragment, tried) = (found.fragment.clone(), found.paths_tried);
        let ticks = plan.template.components[part].time_out;
        let deadline = (ticks != 0).then(|| self.now + u64::from(ticks));
        let device = fragment.device;
        if let Err(status) = fragment.segments {
            self.plan(slot).parts[part].pieces[piece].stage = Stage::Refused(status | DNR);
            return true;
        }
        let mut outstanding =
            Outstanding { slot, part, piece, path: None, device, deadline, late: false, abandoned: false };
        let id = self.next_id;
        if fragment.zeros {
            self.act(Action::Fill { id, fragment });
        } else {
            match self.path_for(device, tried) {
                PathChoice::None => {
                    self.plan(slot).strand(part, piece);
                    return true;
                }
                PathChoice::Full => return false,
                PathChoice::Path(path) => {
                    fragment.path = path;
                    outstanding.path = Some(path);
                    self.paths.entry(path).or_default().outstanding += 1;
                    self.plan(slot).parts[part].pieces[piece].last_path = path;
                    self.act(Action::Issue { id, path, fragment });
                }
            }
        }
        self.next_id += 1;
        self.outstanding.insert(id, outstanding);
        self.plan(slot).parts[part].pieces[piece].stage = Stage::Issued(id);
        true
    }

    /// A usable path to a device, with room or not.
    pub(super) fn any_path(&self, device: u16) -> Option<u8> {
        self.tables.paths_to(device).into_iter().find(|&path| self.is_usable(path))
    }

    /// An identifier for something that a path gets.
    pub(super) fn take_id(&mut self, path: u8) -> u64 {
        self.paths.entry(path).or_default().outstanding += 1;
        self.next_id += 1;
        self.next_id - 1
    }

    /// A path to a device: not tried yet before tried, without a fence asked for before with one.
    fn path_for(&mut self, device: u16, tried: u8) -> PathChoice {
        let all = self.tables.paths_to(device);
        let policy = self.tables.devices.get(&device).map_or(0, |device| device.path_policy());
        let usable: Vec<usize> = (0..all.len()).filter(|&place| self.is_usable(all[place])).collect();
        if usable.is_empty() {
            return PathChoice::None;
        }
        let suspect = |place: usize| self.paths.get(&all[place]).is_some_and(|state| state.suspect);
        let rank = |place: usize| (tried >> place & 1, suspect(place));
        let best = usable.iter().map(|&place| rank(place)).min().expect("there is one");
        let among: Vec<usize> = usable.into_iter().filter(|&place| rank(place) == best).collect();
        let open: Vec<usize> = among.into_iter().filter(|&place| self.has_room(all[place])).collect();
        match self.chooser.path(policy, device, &open) {
            Some(place) => PathChoice::Path(all[place]),
            None => PathChoice::Full,
        }
    }

    fn has_room(&self, path: u8) -> bool {
        let limit = self.tables.paths.get(&path).map_or(0, |entry| entry.limit());
        self.paths.get(&path).map_or(0, |state| state.outstanding) < u32::from(limit)
    }

    /// Looks what has become of a plan, and ends it if it has ended.
    pub(super) fn proceed(&mut self, slot: u16) {
        let Some(plan) = self.plans.get(&slot) else { return };
        if plan.owner != Owner::Accelerated {
            return;
        }
        if let Some(status) = plan.aborted {
            if plan.is_quiet() {
                let client = plan.client;
                self.close(slot, client, status);
            }
            return;
        }
        let parts = plan.progress();
        let verdict = if is_read(&plan.entry) {
            of_read(&plan.template, &parts)
        } else {
            of_write(&plan.template, &parts, self.template(plan.disk).durably_out)
        };
        let (disk, stop, quiet) = (plan.disk, plan.stop, plan.is_quiet());
        // Whoever needs a record waits for room in the ring.
        let posts = quiet && self.records.has_room();
        if verdict.deactivate && !plan.deactivated {
            self.plan(slot).deactivated = true;
            self.deactivate(disk);
        }
        match verdict.step {
            _ if stop != 0 && posts => self.divert(slot, stop),
            _ if stop != 0 => {}
            Step::Wait => {}
            Step::Drain => self.plan(slot).stop |= reason::COMPONENT_FAILURE,
            Step::Read(left) => self.read_another(slot, left),
            Step::Exception(reasons) if posts => self.divert(slot, reasons),
            Step::End(end) if posts || quiet && end.reasons == 0 => self.end(slot, end),
            Step::Exception(_) | Step::End(_) => {}
        }
    }

    fn deactivate(&mut self, disk: u16) {
        if let Some(vd) = self.tables.vds.get_mut(&disk.into()) {
            if vd.status() != vd_status::DEACTIVATED {
                *vd = vd.with_status(vd_status::DEACTIVATED);
                self.act(Action::Deactivated { disk });
            }
        }
    }

    fn read_another(&mut self, slot: u16, left: Components) {
        let template = self.plans[&slot].template;
        if let Some(next) = self.choose(&template, left) {
            self.begin_parts(slot, Components::one(next));
        }
    }

    /// Hands a plan to the control path.
    fn divert(&mut self, slot: u16, reasons: u16) {
        let parts = self.plans[&slot].progress();
        let failed = Components::of(|n| matches!(parts[n], Progress::Failed(_)));
        let plan = &self.plans[&slot];
        let masks = if is_read(&plan.entry) { plan.template.read } else { plan.template.write };
        let unforgiven = failed.without(masks.continuation).any();
        let mut reasons = reasons | plan.noted | log(&masks, failed);
        if unforgiven {
            reasons |= reason::COMPONENT_FAILURE;
        }
        self.give(slot, Owner::Control);
        let record = Record::of(&self.plans[&slot], reasons);
        self.records.post(record);
    }

    fn end(&mut self, slot: u16, end: End) {
        if end.status == 0 && self.plans[&slot].then.is_some() {
            // The control path copies: it is told what failed, and waits for nothing.
            if end.reasons != 0 {
                self.records.post(Record::of(&self.plans[&slot], end.reasons & !reason::LOG_WITH_DATA));
            }
            return self.begin_second(slot);
        }
        let plan = &self.plans[&slot];
        let (disk, client, noted) = (plan.disk, plan.client, plan.noted);
        end.out.numbers().for_each(|component| self.move_out(disk, component));
        if end.held {
            self.give(slot, Owner::Ended(end));
        }
        if end.reasons != 0 {
            let record = Record::of(&self.plans[&slot], end.reasons | noted);
            self.records.post(record);
        }
        if !end.held {
            self.close(slot, client, end.status);
        }
    }

    /// Changes a plan's owner, and with it its name.
    pub(super) fn give(&mut self, slot: u16, owner: Owner) {
        let generation = self.renew(slot);
        let plan = self.plan(slot);
        plan.handle.generation = generation;
        (plan.owner, plan.stop) = (owner, 0);
        (plan.locks, plan.blocked) = (None, false);
    }

    /// The write of a copy whose read has succeeded. Its blocks were locked before the read.
    fn begin_second(&mut self, slot: u16) {
        let second = self.plan(slot).then.take().expect("the caller saw it");
        let template = self.template(second.disk);
        let plan = self.plan(slot);
        (plan.disk, plan.entry, plan.range) = (second.disk, second.entry, second.range);
        (plan.template, plan.admission) = (template, second.admission);
        plan.parts = Default::default();
        self.begin_parts(slot, template.writable());
    }

    fn move_out(&mut self, disk: u16, component: usize) {
        let mut template = self.template(disk);
        let state = &mut template.components[component].state;
        if matches!(state, ComponentState::InSync | ComponentState::WriteOnly) {
            *state = ComponentState::Out;
            self.templates.insert(disk, template);
            self.act(Action::MovedOut { disk, component });
        }
    }

    /// Frees a slot and answers its client.
    pub(super) fn close(&mut self, slot: u16, client: ClientTag, status: u16) {
        self.plans.remove(&slot);
        self.free.insert(slot);
        self.renew(slot);
        self.act(Action::Complete { client, status });
    }
}

/// Where a fragment can go.
enum PathChoice {
    Path(u8),
    /// Paths are there, without room.
    Full,
    None,
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
#[path = "engine_tests.rs"]
mod tests;
