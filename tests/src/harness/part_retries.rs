//! Parts that begin again after an error: what the card may do with each that failed, and which paths the next
//! try may take.
//!
//! A path error makes the plan avoid the path, and the part begins again, free of charge. One that finds no path
//! left takes one of its component's tries, as does an error that may pass, and no path is avoided any more.
//! Without a try it has failed, after a path error of its own with the last one. A disk without a template has
//! tries for want of a path only. Everything else ends the part.
//!
//! Nothing begins again of a plan that was stopped: a component has failed whose continuation bit is clear, or
//! the control path has interfered.
//!
//! While a path is being made anew, a part that finds none waits, free of charge.
//!
//! Paths are kept for each plan, not for each part: the order in which parts fail is taken from the trace, and
//! what every try avoided follows from it. With every part that a plan begins it avoids nothing any more, for its
//! parts that begin again as well. What the card notes at the same time it may note in either order.

use volplane::software::verdict::Progress;
use volplane::software::{PlanTemplate, Tables};
use volplane_abi::plan::{plan_status, status_class, StatusClass, COMPONENTS_MAX};
use volplane_abi::status::CODE_AND_TYPE;
use volplane_sim::PartEnd;

use super::part_judge::progress_of;
use super::path_story::Paths;
use super::plan_story::{PartEvent, PartStep, Run};

/// Tries that a part without a template has when it finds no path.
const SINGLE_TRIES: u8 = 2;
/// Cycles in which what was noted of a plan takes effect.
const NOTED: u64 = 32;
/// Cycles between two events of a plan in which they may be noted in either order.
const TOGETHER: u64 = 8;

/// Of a part that might pass if it began again, in the coverage: it never did, or it has.
const NO_TRY_LEFT: &str = "a part without a try";
const USED_UP: &str = "a part that has used up its tries";

/// What the card knows of a plan whose parts may begin again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Notes {
    /// Paths that it avoids, a bit each.
    avoided: u32,
    /// The last path error: component, status, path, and whether its fragment was given up.
    error: Option<(usize, u16, u8, bool)>,
    /// By component: tries that are left.
    left: [u8; COMPONENTS_MAX],
}

/// What becomes of a part that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Again,
    /// With what is told of it.
    Ended(PartEnd),
}

/// What was decided of the parts of a run.
#[derive(Clone, Debug, Default)]
pub struct Retries {
    /// What the card may know of the plan.
    notes: Vec<Notes>,
    /// The plan may be stopped by now.
    stopped: bool,
    /// The sets of paths that the plan may have avoided, and since when: not before, and at the latest.
    avoided: Vec<(u64, u64, Vec<u32>)>,
    /// By component: how its part ended, if it failed.
    ended: [Option<PartEnd>; COMPONENTS_MAX],
    /// What was met on the way.
    pub met: Vec<&'static str>,
}

/// The card could not find a path.
fn is_pathless(end: &PartEnd) -> bool {
    end.closed && end.status & CODE_AND_TYPE == plan_status::HOST_PATH_ERROR
}

impl Notes {
    fn new(left: u8) -> Self {
        Self { avoided: 0, error: None, left: [left; COMPONENTS_MAX] }
    }

    /// What the plan is begun with.
    fn begun(&self, component: usize, retries: u8) -> Self {
        let mut left = self.left;
        left[component] = retries;
        Self { avoided: 0, error: None, left }
    }

    /// What becomes of a part, what is known then, and what that is in the coverage.
    fn weigh(&self, single: bool, component: usize, end: &PartEnd) -> (Self, Next, &'static str) {
        let mut notes = self.clone();
        let class = status_class(end.status);
        if !end.closed && class == StatusClass::Path {
            let known = self.avoided >> end.path & 1 == 1;
            notes.avoided |= 1 << end.path;
            notes.error = Some((component, end.status, end.path, end.given_up));
            let met = ["a part that avoids a path", "a part that fails where another did"];
            return (notes, Next::Again, met[usize::from(known)]);
        }
        let may_pass = !end.closed && class == StatusClass::Retry && !single;
        let starves = is_pathless(end) && self.avoided != 0;
        if (may_pass || starves) && self.left[component] > 0 {
            notes.left[component] -= 1;
            notes.avoided = 0;
            let met = if starves { "a part that tries all paths again" } else { "a part tried again" };
            return (notes, Next::Again, met);
        }
        match self.told(component, end) {
            told if told != *end => (notes, Next::Ended(told), "a part that failed on all paths"),
            told if may_pass => (notes, Next::Ended(told), NO_TRY_LEFT),
            told if is_pathless(end) => (notes, Next::Ended(told), "a part without a path"),
            told => (notes, Next::Ended(told), "a part that is not tried again"),
        }
    }

    /// What is told of a part that does not begin again.
    fn told(&self, component: usize, end: &PartEnd) -> PartEnd {
        match self.error {
            Some((erred, status, path, given_up)) if is_pathless(end) && erred == component => {
                PartEnd { status, path, closed: false, given_up, ..*end }
            }
            _ => *end,
        }
    }

    /// It waits for a path that is made anew, free of charge, and then takes any.
    fn wait(&self) -> (Self, Next, &'static str) {
        (Self { avoided: 0, ..self.clone() }, Next::Again, "a part that waits for a path")
    }

    /// What becomes of a part of a plan that was stopped.
    fn give_up(&self, component: usize, end: &PartEnd) -> (Self, Next, &'static str) {
        (self.clone(), Next::Ended(self.told(component, end)), "a part of a stopped plan")
    }
}

impl Retries {
    /// Follows the parts of a run; `template`: that of its plan, if it was begun with one. `may_stop`: for
    /// another reason than a failure.
    ///
    /// # Errors
    /// Says which part began again, or did not, and should not have.
    pub fn follow(
        run: &Run,
        template: Option<&PlanTemplate>,
        may_stop: bool,
        paths: &Paths,
    ) -> Result<Self, String> {
        let left = if template.is_none() { SINGLE_TRIES } else { 0 };
        let notes = vec![Notes::new(left)];
        let stopped = may_stop || run.taken || run.aborted;
        let mut retries = Self { notes, stopped, avoided: vec![(0, 0, vec![0])], ..Self::default() };
        for (number, event) in run.parts.iter().enumerate() {
            let &PartEvent { cycle, component, step } = event;
            let of_part = |other: &&PartEvent| other.component == component;
            let before = run.parts[..number].iter().rfind(of_part);
            let next = run.parts[number + 1..].iter().find(of_part);
            let mut latest = cycle + NOTED;
            match step {
                PartStep::Begun(found) => {
                    let expected = template.map(|template| template.components[component].retries);
                    if expected != Some(found) {
                        return Err(format!("{event:?} with {found} retries, expected {expected:?}"));
                    }
                    retries.begin(run, event, found);
                }
                PartStep::Failed(end) => {
                    let waits = paths.waits(cycle, cycle + NOTED);
                    retries.fail(run, event, &end, (template.is_none(), next), waits)?;
                    // Before it begins again, in any case.
                    latest = next.map_or(latest, |next| next.cycle.min(latest));
                }
                PartStep::Again | PartStep::Ended(_)
                    if before.is_none_or(|before| !matches!(before.step, PartStep::Failed(_))) =>
                {
                    return Err(format!("{event:x?}, but it did not fail"));
                }
                PartStep::Again => {}
                PartStep::Ended(end) => {
                    let failed = matches!(progress_of(&end), Progress::Failed(_));
                    let forgiven = |template: &PlanTemplate| template.write.continuation.has(component);
                    retries.stopped |= failed && !template.is_some_and(forgiven);
                }
            }
            let avoided = retries.notes.iter().map(|notes| notes.avoided).collect();
            retries.avoided.push((cycle, latest, avoided));
        }
        let last = |component| run.parts.iter().rfind(|event| event.component == component);
        let last = (0..COMPONENTS_MAX).filter_map(last);
        let stopped = |component| run.bounced.iter().any(|bounced| bounced.component == component);
        let well = last.filter(|event| event.step == PartStep::Again && !stopped(event.component)).count();
        retries.met.extend(vec!["a part that succeeds when it is tried again"; well]);
        Ok(retries)
    }

    /// A part is begun, and may be tried again so often.
    fn begin(&mut self, run: &Run, event: &PartEvent, tries: u8) {
        let begun = self.notes.iter().map(|notes| notes.begun(event.component, tries));
        let mut notes: Vec<Notes> = begun.collect();
        // One that fails in these cycles may be noted before or after this.
        let fails = |other: &PartEvent| matches!(other.step, PartStep::Failed(_));
        let together = |other: &PartEvent| fails(other) && event.cycle.abs_diff(other.cycle) <= TOGETHER;
        if run.parts.iter().any(together) {
            self.notes.iter_mut().for_each(|notes| notes.left[event.component] = tries);
            notes.append(&mut self.notes);
        }
        self.notes = distinct(notes);
    }

    /// A part has failed; `next`: what comes of it.
    fn fail(
        &mut self,
        run: &Run,
        event: &PartEvent,
        end: &PartEnd,
        (single, next): (bool, Option<&PartEvent>),
        (may_wait, must_wait): (bool, bool),
    ) -> Result<(), String> {
        let component = event.component;
        let found = match (next.map(|next| next.step), single) {
            (Some(PartStep::Again), _) => Some(Next::Again),
            (Some(PartStep::Ended(end)), false) => Some(Next::Ended(end)),
            // Its plan ends with it: the client is told.
            (None, true) => None,
            (next, _) => return Err(format!("{event:x?} is followed by {next:x?}")),
        };
        let weigh = |notes: &Notes| notes.weigh(single, component, end);
        let give_up = |notes: &Notes| notes.give_up(component, end);
        let given_up = self.notes.iter().filter(|_| self.stopped).map(give_up);
        let (may_wait, must_wait) = (may_wait && is_pathless(end), must_wait && is_pathless(end));
        let waiting = self.notes.iter().filter(|_| may_wait).map(Notes::wait);
        let decided = self.notes.iter().filter(|_| !must_wait).map(weigh);
        let weighed: Vec<_> = decided.chain(waiting).chain(given_up).collect();
        let is_so = |next: &Next| found.map_or(*next != Next::Again, |found| found == *next);
        let Some(&(_, next, met)) = weighed.iter().find(|(_, next, _)| is_so(next)) else {
            let notes = &self.notes;
            return Err(format!("{event:x?} led to {found:x?}, but {notes:x?} to {weighed:x?}"));
        };
        let tried = run.again(component).next().is_some_and(|first| first < event.cycle);
        self.met.push(if tried && met == NO_TRY_LEFT { USED_UP } else { met });
        if let Next::Ended(told) = next {
            self.ended[component] = Some(told);
        }
        let left = weighed.into_iter().filter(|(_, next, _)| is_so(next));
        self.notes = distinct(left.map(|(notes, ..)| notes).collect());
        Ok(())
    }

    /// How a component's part ended, if it failed.
    pub fn ended(&self, component: usize) -> Option<PartEnd> {
        self.ended[component]
    }

    /// Whether a device had a path for one that is tried again between two cycles: `path`, or none.
    pub fn allows(
        &self,
        (tables, paths): (&Tables, &Paths),
        device: u16,
        (first, last): (u64, u64),
        path: Option<u8>,
    ) -> bool {
        let ends = self.avoided.iter().skip(1).map(|entry| entry.1).chain([u64::MAX]);
        let there = self.avoided.iter().zip(ends).filter(|((since, ..), end)| *since <= last && *end > first);
        let mut sets = there.flat_map(|((.., sets), _)| sets);
        sets.any(|&avoided| paths.allow(tables, device, avoided, (first, last), path))
    }
}

fn distinct(all: Vec<Notes>) -> Vec<Notes> {
    let mut kept: Vec<Notes> = Vec::new();
    for notes in all {
        if !kept.contains(&notes) {
            kept.push(notes);
        }
    }
    kept
}
