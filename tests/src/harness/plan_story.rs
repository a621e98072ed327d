//! What the card's trace tells of each plan: the choices that the model takes over, checked for being
//! allowed when they were made.

use std::collections::{BTreeMap, HashMap};

use volplane::software::verdict::Parts;
use volplane::software::Components;
use volplane_abi::plan::plan_status::{ABORTED_SQ_DELETION, HOST_PATH_ERROR};
use volplane_abi::plan::COMPONENTS_MAX;
use volplane_abi::status::TYPE;
use volplane_abi::ExceptionComponent;
use volplane_sim::{PartEnd, PlanEvent, PlanRecord};

use super::mirrors::{Mirror, States};
use super::part_counts::PartCounts;
use super::path_story::Paths;

/// Cycles before its admission is seen from which on a command may have looked its disk up, and after.
const LOOKED_UP: (u64, u64) = (3, 1);
/// Values of a history that are remembered.
const REMEMBERED: usize = 512;

/// A client's queue and the identifier of its command.
pub type CommandKey = (u16, u16);

/// A plan as it was begun.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// Disk.
    pub disk: u16,
    /// Template.
    pub plan: u16,
    /// Its masks (`PlanMasks`).
    pub masks: u64,
    /// Components that were there.
    pub present: u8,
    /// Components in sync.
    pub readable: u8,
    /// Components that were begun.
    pub begun: u8,
    /// Copies that a write needs.
    pub minimum: u8,
    /// Whether it reads.
    pub is_read: bool,
    /// Components that keep what they became before.
    pub kept: u8,
    /// When.
    pub cycle: u64,
}

/// What the control path said of a plan that it gave back.
#[derive(Clone, Debug)]
pub struct Given {
    /// Components that begin again, all of them: whatever is used.
    pub restart: Components,
    /// What had become of them,
    pub parts: Parts,
    /// and what was told of that.
    pub told: [ExceptionComponent; COMPONENTS_MAX],
    /// Template that it was begun with.
    pub plan: u16,
    /// The disk's states when the card looked whether that may be, if it did.
    pub view: Option<States>,
}

/// How an SSD ended a fragment.
#[derive(Clone, Debug)]
pub struct Ended {
    /// When, in simulated ns.
    pub at_ns: u64,
    /// Whether data moved, or blocks changed.
    pub effect: bool,
    /// Status field.
    pub status: u16,
    /// Whether it was answered.
    pub completion: bool,
    /// Of a read with effect, but of zeros, and of a Compare that was executed: numbers of the blocks as they were
    /// (`media`).
    pub tokens: Vec<u64>,
}

/// A fragment that was issued, or given back as its path was closed.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// Component.
    pub component: usize,
    /// Number of the fragment in its part.
    pub ordinal: usize,
    /// Path; `None`: the zero filler.
    pub path: Option<u8>,
    /// How often its part had begun again.
    pub again: usize,
    /// When it was issued.
    pub cycle: u64,
    /// Its end, once it has come.
    pub ended: Option<Ended>,
    /// The status field that the card got.
    pub returned: Option<u16>,
    /// It was not answered: its path was said to be quiet.
    pub quieted: bool,
    /// Its queue was deleted before its SSD ended it.
    pub cancelled: bool,
    /// It was quieted, and answers that came from then on to its completion queue, in host memory, may not have been read,
    /// in simulated ns.
    pub unread_from_ns: Option<u64>,
}

impl Attempt {
    /// Whether it was answered, so late that nobody may have read it.
    pub fn is_unread(&self) -> bool {
        let ended = self.ended.as_ref().filter(|ended| ended.completion);
        ended.zip(self.unread_from_ns).is_some_and(|(ended, from_ns)| ended.at_ns > from_ns)
    }

    /// The status that it ended with.
    ///
    /// # Errors
    /// When it has not ended, or not as its SSD says.
    pub fn end(&self) -> Result<u16, String> {
        let unanswered = self.ended.as_ref().map_or(self.cancelled, |ended| !ended.completion);
        let answer = self.ended.as_ref().filter(|ended| ended.completion).map(|ended| ended.status);
        match self.returned {
            Some(status) if self.quieted && (unanswered || self.is_unread()) => Ok(status),
            Some(status) if !self.quieted && answer == Some(status) => Ok(status),
            _ => Err(format!("{self:x?} has not ended, or came back with another status")),
        }
    }
}

/// A fragment that was not issued, as its plan was stopped.
#[derive(Clone, Copy, Debug)]
pub struct Bounced {
    /// Component.
    pub component: usize,
    /// Number of the fragment in its part.
    pub ordinal: usize,
    /// How often its part had begun again.
    pub again: usize,
}

/// Something that happened to a part.
#[derive(Clone, Copy, Debug)]
pub struct PartEvent {
    /// When.
    pub cycle: u64,
    /// Component.
    pub component: usize,
    /// What.
    pub step: PartStep,
}

/// What happened to a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartStep {
    /// It was begun, and may be tried again so often.
    Begun(u8),
    /// It has come back, and has failed.
    Failed(PartEnd),
    /// It begins again.
    Again,
    /// It does not, and this is told of it.
    Ended(PartEnd),
}

/// A plan from its admission, or its resubmission, until it ends or the control path gets it.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// When it was admitted, or given back.
    pub admitted: u64,
    /// The control path has given it back.
    pub given: Option<Given>,
    /// States that its disk may have had when it was looked up.
    pub seen: Vec<States>,
    /// Templates that its disk may have named.
    pub plans: Vec<u16>,
    /// What it was begun as; `None`: as a single part, or not yet.
    pub begun: Option<Begun>,
    /// Of a read: the components that may have been the least busy ones when it was begun.
    pub least: Components,
    /// Components that were read after the first one.
    pub further: Vec<usize>,
    /// The disk's states at each verdict.
    pub views: Vec<States>,
    /// Components that it moved out.
    pub out: u8,
    /// Times it deactivated its disk.
    pub deactivated: u32,
    /// Its fragments.
    pub attempts: Vec<Attempt>,
    /// The control path has taken it over while it was under way,
    pub taken: bool,
    /// or aborted it.
    pub aborted: bool,
    /// Those that were not issued.
    pub bounced: Vec<Bounced>,
    /// What happened to its parts, but for success.
    pub parts: Vec<PartEvent>,
}

impl Run {
    /// The fragment that was issued last as this one.
    fn attempt(&mut self, component: u8, ordinal: u32, path: u8) -> Result<&mut Attempt, String> {
        let is_it = |attempt: &&mut Attempt| {
            (attempt.component, attempt.ordinal, attempt.path)
                == (component.into(), ordinal as usize, Some(path))
        };
        self.attempts.iter_mut().rfind(is_it).ok_or_else(|| "it was not issued".into())
    }

    fn come_back(&mut self, component: u8, ordinal: u32, path: u8, status: u16) -> Result<(), String> {
        match self.attempt(component, ordinal, path)?.returned.replace(status) {
            None => Ok(()),
            Some(_) => Err("the fragment comes back twice".into()),
        }
    }

    /// When a component's part was begun, or its plan was admitted.
    pub fn part_begun(&self, component: usize) -> u64 {
        let begun =
            |event: &&PartEvent| event.component == component && matches!(event.step, PartStep::Begun(_));
        self.parts.iter().find(begun).map_or(self.admitted, |event| event.cycle)
    }

    /// When a component's part began again, in order.
    pub fn again(&self, component: usize) -> impl Iterator<Item = u64> + '_ {
        let again = move |event: &&PartEvent| event.component == component && event.step == PartStep::Again;
        self.parts.iter().filter(again).map(|event| event.cycle)
    }
}

/// A command's plan.
#[derive(Clone, Debug)]
pub struct Story {
    slot: u16,
    /// More than one when it was resubmitted.
    pub runs: Vec<Run>,
    given: Option<Given>,
    /// The status that its client is told.
    pub status: Option<u16>,
}

impl Story {
    /// The run that is under way, or was the last.
    pub fn run(&self) -> &Run {
        self.runs.last().expect("there is always one")
    }

    /// Its slot.
    pub fn slot(&self) -> u16 {
        self.slot
    }

    fn run_mut(&mut self) -> &mut Run {
        self.runs.last_mut().expect("there is always one")
    }
}

/// A fragment that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Whose.
    pub command: CommandKey,
    run: usize,
    attempt: usize,
    /// Component.
    pub component: usize,
    /// Number of the fragment in its part.
    pub ordinal: usize,
}

/// What something was, and since when: not before, and at the latest.
struct History<T>(Vec<(u64, u64, T)>);

impl<T: Copy> History<T> {
    fn new(first: T) -> Self {
        Self(vec![(0, 0, first)])
    }

    fn now(&self) -> T {
        self.0.last().expect("there is always one").2
    }

    fn push(&mut self, not_before: u64, latest: u64, what: T) {
        self.0.push((not_before, latest, what));
        if self.0.len() > REMEMBERED {
            self.0.remove(0);
        }
    }

    /// What it may have been between two cycles.
    fn between(&self, first: u64, last: u64) -> Vec<T> {
        let ends = self.0.iter().skip(1).map(|entry| entry.1).chain([u64::MAX]);
        let there = self.0.iter().zip(ends).filter(|((since, _, _), end)| *since <= last && *end > first);
        there.map(|((_, _, what), _)| *what).collect()
    }
}

/// A write of a disk's states that the card was asked for.
struct Writing {
    disk: u32,
    states: States,
    select: u8,
    reactivate: bool,
    since: u64,
}

impl Writing {
    fn after(&self, now: States) -> States {
        now.written(&self.states, self.select, self.reactivate)
    }
}

/// The plans under way, and the states and templates of mirrored disks.
#[derive(Default)]
pub struct Stories {
    states: BTreeMap<u32, History<States>>,
    plans: BTreeMap<u32, History<u16>>,
    slots: HashMap<u16, CommandKey>,
    stories: HashMap<CommandKey, Story>,
    /// By path and identifier.
    fragments: HashMap<(u8, u16), Place>,
    /// A change that was taken and not answered.
    change: Option<(u16, u32, u8, bool)>,
    writing: Option<Writing>,
    /// Fragments of zeros that were not written whole.
    pub refused_fills: u64,
    /// What has become of paths.
    pub paths: Paths,
    /// Parts under way.
    pub counts: PartCounts,
}

impl Stories {
    /// None yet, of disks as they are at the start.
    pub fn new(mirrors: &[Mirror]) -> Self {
        let states = mirrors.iter().map(|mirror| (mirror.disk, History::new(mirror.states()))).collect();
        let plans = mirrors.iter().map(|mirror| (mirror.disk, History::new(mirror.plan))).collect();
        let mut paths = Paths::default();
        mirrors.iter().for_each(|mirror| paths.learn(mirror.plan, &mirror.template));
        Self { states, plans, paths, ..Self::default() }
    }

    /// What the card should hold of a disk.
    pub fn now(&self, disk: u32) -> States {
        self.states[&disk].now()
    }

    /// The control path begins to write `select` of a disk's states, and with `reactivate` whether it is
    /// deactivated. All of it is a change, so that what the card finds tells whether it has taken effect.
    pub fn begin_write(&mut self, since: u64, disk: u32, states: States, select: u8, reactivate: bool) {
        assert!(self.writing.is_none(), "one write at a time");
        self.writing = Some(Writing { disk, states, select, reactivate, since });
    }

    /// The write has taken effect.
    pub fn end_write(&mut self, cycle: u64) {
        if let Some(writing) = self.writing.take() {
            let now = writing.after(self.now(writing.disk));
            self.history(writing.disk).push(writing.since, cycle, now);
        }
    }

    /// A disk got another template between two cycles.
    pub fn switch(&mut self, (since, latest): (u64, u64), disk: u32, plan: u16) {
        self.plans.get_mut(&disk).expect("a mirrored disk").push(since, latest, plan);
    }

    fn history(&mut self, disk: u32) -> &mut History<States> {
        self.states.get_mut(&disk).expect("a mirrored disk")
    }

    /// The story of a command so far.
    pub fn get(&self, command: CommandKey) -> Option<&Story> {
        self.stories.get(&command)
    }

    /// The story of a command that was completed.
    ///
    /// # Errors
    /// When the trace does not tell it to its end.
    pub fn take(&mut self, command: CommandKey) -> Result<Story, String> {
        match self.stories.remove(&command) {
            Some(story) if story.status.is_some() => Ok(story),
            Some(story) => Err(format!("the trace does not tell of its end: {story:x?}")),
            None => Err("the trace tells of no such command".into()),
        }
    }

    /// The control path resubmits a plan, or (`None`) was refused. What the card found when it looked then.
    pub fn resubmit(&mut self, command: CommandKey, given: Option<Given>) -> Option<States> {
        let story = self.stories.get_mut(&command)?;
        std::mem::replace(&mut story.given, given).and_then(|given| given.view)
    }

    /// The template that a disk names.
    pub fn plan_now(&self, disk: u32) -> u16 {
        self.plans[&disk].now()
    }

    /// Whose plan a slot holds.
    pub fn at(&self, slot: u16) -> Option<CommandKey> {
        self.slots.get(&slot).copied()
    }

    /// The control path has taken over a plan that was under way, or aborted it.
    pub fn interfere(&mut self, command: CommandKey, aborted: bool) {
        let run = self.stories.get_mut(&command).expect("it is under way").run_mut();
        run.taken |= !aborted;
        run.aborted |= aborted;
    }

    /// The fragment that an SSD fetched.
    pub fn fragment(&self, path: u8, id: u16) -> Option<Place> {
        self.fragments.get(&(path, id)).copied()
    }

    /// The SSD has ended it.
    pub fn end(&mut self, path: u8, id: u16, ended: Ended) -> Option<Place> {
        let place = self.fragments.remove(&(path, id))?;
        let story = self.stories.get_mut(&place.command).expect("a fragment is of a plan");
        story.runs[place.run].attempts[place.attempt].ended = Some(ended);
        Some(place)
    }

    /// The SSD has ended it, but will not say so: its queue was deleted.
    pub fn withdraw(&mut self, place: &Place) {
        let story = self.stories.get_mut(&place.command);
        let ended = story.and_then(|story| story.runs[place.run].attempts[place.attempt].ended.as_mut());
        ended.into_iter().for_each(|ended| ended.completion = false);
    }

    /// A path's queue was deleted: what its SSD has not ended it never will. How many that are.
    pub fn cancel(&mut self, path: u8) -> usize {
        let cancelled: Vec<Place> =
            self.fragments.iter().filter(|((of, _), _)| *of == path).map(|(_, place)| *place).collect();
        self.fragments.retain(|(of, _), _| *of != path);
        for place in &cancelled {
            let story = self.stories.get_mut(&place.command).expect("a fragment is of a plan");
            story.runs[place.run].attempts[place.attempt].cancelled = true;
        }
        cancelled.len()
    }

    /// Takes events in.
    ///
    /// # Errors
    /// Says what cannot be.
    pub fn feed(&mut self, records: Vec<PlanRecord>) -> Result<(), String> {
        records.into_iter().try_for_each(|record| {
            self.event(&record)
                .map_err(|what| format!("{what} in cycle {}: {:?}", record.cycle, record.event))
        })
    }

    fn event(&mut self, record: &PlanRecord) -> Result<(), String> {
        let cycle = record.cycle;
        match record.event {
            PlanEvent::Admitted { slot, queue, command_id } => {
                let command = (queue, command_id);
                let run = Run { admitted: cycle, ..Run::default() };
                let story = Story { slot, runs: vec![run], given: None, status: None };
                if self.slots.insert(slot, command).is_some() {
                    return Err("the slot is in use".into());
                }
                if self.stories.insert(command, story).is_some() {
                    return Err("the command is admitted twice".into());
                }
            }
            PlanEvent::Begun {
                slot,
                disk,
                plan,
                masks,
                present,
                readable,
                begun,
                minimum,
                kept,
                is_read,
            } => {
                let admitted = self.story(slot)?.run().admitted;
                let (first, last) = looked_up(admitted, cycle);
                let mut states = self.seen(disk.into(), first, last);
                // One that is under way may have taken effect.
                let writing = self.writing.as_ref().filter(|writing| writing.disk == u32::from(disk));
                states.extend(writing.map(|writing| writing.after(self.now(writing.disk))));
                let plans = self.plans.get(&disk.into()).map(|history| history.between(first, last));
                let run = self.story(slot)?.run_mut();
                (run.seen, run.plans) = (states, plans.unwrap_or_default());
                let begun =
                    Begun { disk, plan, masks, present, readable, begun, minimum, is_read, kept, cycle };
                if run.begun.replace(begun).is_some() {
                    return Err("the plan is begun twice".into());
                }
            }
            PlanEvent::Change { slot, disk, out, deactivate } => {
                let run = self.story(slot)?.run_mut();
                if run.begun.is_none_or(|begun| begun.disk != disk) {
                    return Err("a plan changes a disk that is not its own".into());
                }
                run.out |= out;
                run.deactivated += u32::from(deactivate);
                if self.change.replace((slot, disk.into(), out, deactivate)).is_some() {
                    return Err("the change before was not answered".into());
                }
            }
            PlanEvent::Changed { states, durably_out, deactivated } => {
                self.changed(cycle, States::unpack(states, durably_out, deactivated))?;
            }
            PlanEvent::Again { slot, component, fresh } => {
                let story = self.story(slot)?;
                if fresh != story.given.is_some() || story.run().begun.is_none() {
                    return Err("nobody asked for it".into());
                }
                if fresh {
                    let given = story.given.take();
                    story.runs.push(Run { admitted: cycle, given, ..Run::default() });
                } else {
                    story.run_mut().further.push(component.into());
                }
            }
            PlanEvent::Issued { slot, component, ordinal, path: number, id } => {
                let command = self.command(slot)?;
                let story = self.story(slot)?;
                let (component, ordinal) = (usize::from(component), ordinal as usize);
                let (run, attempt) = (story.runs.len() - 1, story.run().attempts.len());
                let again = story.run().again(component).count();
                let path = Some(number);
                let issued = Attempt { component, ordinal, path, again, cycle, ..Attempt::default() };
                story.run_mut().attempts.push(issued);
                let of = story.run().begun.map(|begun| (begun.plan, component));
                self.paths.issued((number, id), of, (cycle, record.at_ns));
                let place = Place { command, run, attempt, component, ordinal };
                if self.fragments.insert((number, id), place).is_some() {
                    return Err("the identifier is in use".into());
                }
            }
            PlanEvent::PartBegun { slot, component, retries } => {
                self.count(slot, component.into())?;
                self.part(slot, cycle, component, PartStep::Begun(retries))?;
            }
            PlanEvent::PartFailed { slot, component, end } => {
                self.part(slot, cycle, component, PartStep::Failed(end))?;
            }
            PlanEvent::PartAgain { slot, component } => {
                let run = self.story(slot)?.run();
                let is_write = run.begun.is_some_and(|begun| !begun.is_read);
                let of_part = |attempt: &&Attempt| attempt.component == usize::from(component);
                let mut attempts = run.attempts.iter().filter(of_part);
                if let Some(attempt) = attempts.find(|attempt| is_write && attempt.returned.is_none()) {
                    return Err(format!("a write begins again while {attempt:x?} is under way"));
                }
                self.part(slot, cycle, component, PartStep::Again)?;
            }
            PlanEvent::PartOver { slot, component } => {
                self.end_part(slot, component.into(), cycle)?;
            }
            PlanEvent::PartEnded { slot, component, end } => {
                self.end_part(slot, component.into(), cycle)?;
                self.part(slot, cycle, component, PartStep::Ended(end))?;
            }
            // It was not issued: the card has a status of its own for that.
            PlanEvent::Returned { slot, component, ordinal, status, own: true, .. }
                if status & TYPE == TYPE =>
            {
                let run = self.story(slot)?.run_mut();
                let (component, ordinal) = (usize::from(component), ordinal as usize);
                let again = run.again(component).count();
                run.bounced.push(Bounced { component, ordinal, again });
            }
            // Nor was this: its path was closed.
            PlanEvent::Returned { slot, component, ordinal, path: number, status, own: true, .. }
                if status == HOST_PATH_ERROR =>
            {
                let run = self.story(slot)?.run();
                let (component, ordinal, first) = (usize::from(component), ordinal as usize, run.admitted);
                let again = run.again(component).count();
                if !self.paths.may_bounce(number, first, cycle) {
                    return Err("its path was not closed".into());
                }
                self.paths.met.push("a fragment given back by a closed path");
                let at_ns = record.at_ns;
                let ended = Ended { at_ns, effect: false, status, completion: true, tokens: Vec::new() };
                let (path, ended, returned) = (Some(number), Some(ended), Some(status));
                let attempt =
                    Attempt { component, ordinal, path, again, cycle, ended, returned, ..Attempt::default() };
                self.story(slot)?.run_mut().attempts.push(attempt);
            }
            PlanEvent::Returned { slot, component, ordinal, path, status, own: true, id }
                if status == ABORTED_SQ_DELETION =>
            {
                let unread_from_ns = self.paths.returned((path, id), true, record.at_ns)?;
                let run = self.story(slot)?.run_mut();
                let attempt = run.attempt(component, ordinal, path)?;
                (attempt.quieted, attempt.unread_from_ns) = (true, unread_from_ns);
                run.come_back(component, ordinal, path, status)?;
            }
            // No SSD had it: its zeros were written, or could not be.
            PlanEvent::Returned { slot, component, ordinal, status, own: true, .. } => {
                self.refused_fills += u64::from(status != 0);
                let run = self.story(slot)?.run_mut();
                let (component, ordinal) = (component.into(), ordinal as usize);
                let again = run.again(component).count();
                let at_ns = record.at_ns;
                let completion = true;
                let ended =
                    Some(Ended { at_ns, effect: status == 0, status, completion, tokens: Vec::new() });
                let (path, returned) = (None, Some(status));
                let attempt =
                    Attempt { component, ordinal, path, again, cycle, ended, returned, ..Attempt::default() };
                run.attempts.push(attempt);
            }
            PlanEvent::Returned { slot, component, ordinal, path, status, id, .. } => {
                self.paths.returned((path, id), false, record.at_ns)?;
                self.story(slot)?.run_mut().come_back(component, ordinal, path, status)?;
            }
            PlanEvent::Done { slot, status } => {
                let story = self.story(slot)?;
                let mut attempts = story.runs.iter().flat_map(|run| &run.attempts);
                if let Some(attempt) = attempts.find(|attempt| attempt.returned.is_none()) {
                    return Err(format!("its client is told while {attempt:x?} is under way"));
                }
                story.status = Some(status);
                self.slots.remove(&slot);
            }
        }
        Ok(())
    }

    fn part(&mut self, slot: u16, cycle: u64, component: u8, step: PartStep) -> Result<(), String> {
        let event = PartEvent { cycle, component: component.into(), step };
        self.story(slot)?.run_mut().parts.push(event);
        Ok(())
    }

    /// A part begins; of a read's first one, which it may have been.
    fn count(&mut self, slot: u16, component: usize) -> Result<(), String> {
        let begun = self.story(slot)?.run().begun.ok_or("its plan was not begun")?;
        if begun.is_read && Components(begun.begun) == Components::one(component) {
            let least = self.counts.least(begun.disk, Components(begun.readable), begun.cycle);
            self.story(slot)?.run_mut().least = least;
        }
        self.counts.begin(begun.disk, component);
        Ok(())
    }

    /// A part is over.
    fn end_part(&mut self, slot: u16, component: usize, cycle: u64) -> Result<(), String> {
        let begun = self.story(slot)?.run().begun.ok_or("its plan was not begun")?;
        self.counts.end(begun.disk, component, cycle)
    }

    /// What the card found when it looked at a disk's states, or changed them.
    fn changed(&mut self, cycle: u64, found: States) -> Result<(), String> {
        let Some((slot, disk, out, deactivate)) = self.change.take() else {
            return Err("no change was asked for".into());
        };
        if found != self.now(disk) {
            let writing = self.writing.as_ref();
            let is_written = writing.is_some_and(|it| it.disk == disk && found == it.after(self.now(disk)));
            if !is_written {
                return Err(format!("disk {disk} should be {:?}", self.now(disk)));
            }
            self.end_write(cycle);
        }
        if out == 0 && !deactivate {
            let story = self.story(slot)?;
            match &mut story.given {
                Some(given) => given.view = Some(found),
                None => story.run_mut().views.push(found),
            }
        } else {
            self.history(disk).push(cycle, cycle, found.changed(out, deactivate));
        }
        Ok(())
    }

    fn command(&self, slot: u16) -> Result<CommandKey, String> {
        self.slots.get(&slot).copied().ok_or_else(|| "the slot is free".into())
    }

    fn story(&mut self, slot: u16) -> Result<&mut Story, String> {
        let command = self.command(slot)?;
        let story = self.stories.get_mut(&command).expect("a slot is a plan's");
        debug_assert_eq!(story.slot, slot);
        Ok(story)
    }

    /// The states that a command which was not begun may have found: one that waited for its lock found them
    /// late.
    pub fn seen_by(&self, run: &Run, disk: u32) -> Vec<States> {
        let (first, last) = looked_up(run.admitted, u64::MAX);
        self.seen(disk, first, last)
    }

    fn seen(&self, disk: u32, first: u64, last: u64) -> Vec<States> {
        self.states.get(&disk).map(|history| history.between(first, last)).unwrap_or_default()
    }
}

/// When a command may have looked its disk up that was admitted, and begun, in these cycles: one that waits for
/// its lock does so more than once.
fn looked_up(admitted: u64, begun: u64) -> (u64, u64) {
    (admitted.saturating_sub(LOOKED_UP.0), begun.max(admitted + LOOKED_UP.1))
}
