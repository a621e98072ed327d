//! The control path makes paths anew: those of which the card has asked for a fence, those that nobody asks for as what
//! waits there has no time-out, and now and then one that is well. Some stay closed for a while before. Each step comes
//! some time after the one before it; those that need the path's controller wait while that is gone, or is to be reset
//! (`outages`).

use rand::seq::IndexedRandom;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::plan::reason;
use volplane_driver::ExceptionRecord;

use super::Session;
use crate::harness::plan_story::{Attempt, Run};

/// Longest between two steps, in simulated ns.
const STEP_NS: u64 = 30_000;
/// Time in which all that was quiesced has come back.
pub(super) const QUIET_NS: u64 = 50_000;
/// One in so many looks makes a path anew that is well, and finds those on which something is stuck.
const WELL_OF: u32 = 400;
/// One in so many looks closes a path for a while, at most so long, in simulated ns.
const REST_OF: u32 = 400;
const REST_NS: u64 = 400_000;
const LOOK_OF: u32 = 8;
/// Records that the ring holds at most.
const RECORDS_MOST: u32 = 256;

/// What is done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is closed to commands, and said to be made anew or not.
    Close { renewing: bool },
    /// Its queues are deleted, or are gone.
    Delete,
    /// It is said not to be made anew for now.
    GiveUp,
    /// It stays closed.
    Rest,
    /// New ones are made, and its entry is written.
    Open,
    /// The card is told that the old ones are quiet.
    Quiesce,
    /// All that was given to them has come back.
    Look,
}

/// A path that is being made anew.
#[derive(Debug)]
struct Renewal {
    path: u8,
    /// What is left to do, the next step last.
    steps: Vec<Step>,
    due_ns: u64,
}

/// Paths that are being made anew.
pub(super) struct Renewals {
    random: ChaCha8Rng,
    under_way: Vec<Renewal>,
    /// How paths are closed that would not be without this.
    closings: ChaCha8Rng,
}

impl Renewals {
    pub(super) fn new(random: ChaCha8Rng, closings: ChaCha8Rng) -> Self {
        Self { random, under_way: Vec::new(), closings }
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whatever is to be done next is due now, but for looks.
    pub(super) fn hurry(&mut self, now_ns: u64) {
        let steps = self.under_way.iter_mut().filter(|renewal| renewal.steps.last() != Some(&Step::Look));
        steps.for_each(|renewal| renewal.due_ns = now_ns);
    }

    fn begin(&mut self, path: u8, now_ns: u64) {
        let due_ns = now_ns + self.random.random_range(0..STEP_NS);
        // What was given before is quiet whether the path is open again or not.
        let mut steps = match self.random.random_bool(0.5) {
            true => vec![Step::Look, Step::Quiesce, Step::Open],
            false => vec![Step::Open, Step::Look, Step::Quiesce],
        };
        steps.extend([Step::Delete, Step::Close { renewing: true }]);
        self.under_way.push(Renewal { path, steps, due_ns });
    }

    /// As `begin`; who finds no other path may not wait for this one, at once or after a while. `rests`: it stays closed.
    fn begin_closing(&mut self, path: u8, rests: bool, now_ns: u64) {
        let random = &mut self.closings;
        let due_ns = now_ns + random.random_range(0..STEP_NS);
        let (renewing, gives_up) = (random.random_bool(0.4), random.random_bool(0.6));
        let quiet = [Step::Quiesce, Step::Look];
        let opened: Vec<Step> = rests.then_some(Step::Rest).into_iter().chain([Step::Open]).collect();
        let mut steps = vec![Step::Close { renewing }, Step::Delete];
        steps.extend((renewing && gives_up).then_some(Step::GiveUp));
        match random.random_bool(0.7) {
            true => steps.extend(quiet.into_iter().chain(opened)),
            false => steps.extend(opened.into_iter().chain(quiet)),
        }
        steps.reverse();
        self.under_way.push(Renewal { path, steps, due_ns });
    }

    /// Whether it is still to be closed.
    fn has(&self, path: u8) -> bool {
        let is_it = |renewal: &Renewal| {
            renewal.path == path && matches!(renewal.steps.last(), Some(Step::Close { .. }))
        };
        self.under_way.iter().any(is_it)
    }

    /// The one whose turn has come: of a path the first. `may`: what may be done to which path.
    fn due(&self, now_ns: u64, may: impl Fn(u8, Step) -> bool) -> Option<usize> {
        let is_due = |number: &usize| {
            let Renewal { path, steps, due_ns } = &self.under_way[*number];
            let is_first = self.under_way[..*number].iter().all(|renewal| renewal.path != *path);
            let may = steps.last().is_some_and(|&step| may(*path, step));
            *due_ns <= now_ns && is_first && may
        };
        (0..self.under_way.len()).find(is_due)
    }
}

impl Session {
    /// The card has asked for a fence.
    pub(super) fn fence_asked(&mut self, record: &ExceptionRecord) {
        let (tail, now_ns) = (&record.tail, self.machine.handle.now_ns());
        if (tail.reasons(), tail.owned(), tail.held(), tail.disk()) != (reason::TIME_OUT, 0, 0, 0) {
            self.fail(&format!("a fence was asked for by {record:x?}"), None);
        }
        let path = tail.path();
        if let Err(what) = self.stories.paths.fence(path, (self.cycle(), now_ns)) {
            self.fail(&what, None);
        }
        self.coverage.met("a fence");
        if !self.renewals.has(path) {
            self.renewals.begin(path, now_ns);
        }
    }

    /// Begins to make paths anew, and goes on with one.
    pub(super) fn look_after_paths(&mut self) {
        if !self.machine.configuration.is_hurried() {
            return;
        }
        let now_ns = self.machine.handle.now_ns();
        if self.renewals.random.random_ratio(1, LOOK_OF) {
            self.find_stuck(now_ns);
        }
        if !self.pending.is_empty() && self.renewals.random.random_ratio(1, WELL_OF) {
            let routes = &self.machine.configuration.routes;
            let path = routes.choose(&mut self.renewals.random).expect("a path").path;
            self.begin_unasked(path, now_ns);
        }
        if !self.pending.is_empty() && self.renewals.closings.random_ratio(1, REST_OF) {
            let routes = &self.machine.configuration.routes;
            let path = routes.choose(&mut self.renewals.closings).expect("a path").path;
            if !self.renewals.has(path) {
                self.coverage.met("a path closed for a while");
                self.renewals.begin_closing(path, true, now_ns);
            }
        }
        self.look_after_controllers(now_ns);
        if let Some(due) = self.due(now_ns) {
            self.next_step(due);
        }
    }

    fn due(&self, now_ns: u64) -> Option<usize> {
        self.renewals.due(now_ns, |path, step| self.may_be_done(path, step))
    }

    /// Closes all paths of a controller that are open.
    pub(super) fn close_paths(&mut self, controller: usize, now_ns: u64) {
        for path in self.machine.configuration.paths_of(controller) {
            if !self.stories.paths.is_closed(path) && !self.renewals.has(path) {
                self.renewals.begin_closing(path, false, now_ns);
            }
        }
    }

    /// Closes a path that is to be closed next.
    pub(super) fn close_at_once(&mut self, path: u8) {
        let under_way = &self.renewals.under_way;
        let closes = |number: &usize| matches!(under_way[*number].steps.last(), Some(Step::Close { .. }));
        let first = under_way.iter().position(|renewal| renewal.path == path);
        if let Some(number) = first.filter(closes) {
            self.next_step(number);
        }
    }

    /// Makes those paths anew that must be, each step as soon as it can be.
    pub(super) fn renew_at_once(&mut self) {
        if !self.machine.configuration.is_hurried() {
            return;
        }
        self.find_stuck(self.machine.handle.now_ns());
        loop {
            let now_ns = self.machine.handle.now_ns();
            self.renewals.hurry(now_ns);
            if let Some(due) = self.due(now_ns) {
                self.next_step(due);
            } else if !self.end_outage(now_ns) {
                break;
            }
        }
    }

    fn find_stuck(&mut self, now_ns: u64) {
        self.hear_all();
        for _ in 0..RECORDS_MOST {
            if self.stories.paths.stuck(now_ns).is_ok() {
                break;
            }
            // The record may be there.
            self.take_records();
        }
        let stuck = self.stories.paths.stuck(now_ns).unwrap_or_else(|what| self.fail(&what, None));
        stuck.into_iter().for_each(|path| self.begin_unasked(path, now_ns));
    }

    fn begin_unasked(&mut self, path: u8, now_ns: u64) {
        if !self.renewals.has(path) {
            self.coverage.met("a path made anew unasked");
            self.renewals.begin(path, now_ns);
        }
    }

    fn next_step(&mut self, number: usize) {
        let renewal = &mut self.renewals.under_way[number];
        let (path, step) = (renewal.path, *renewal.steps.last().expect("one is left"));
        self.hear_all();
        if matches!(step, Step::Delete | Step::Open) && self.finds_death(path) && step == Step::Open {
            return;
        }
        self.renewals.under_way[number].steps.pop();
        let since = self.cycle();
        match step {
            Step::Close { renewing } => self.machine.close_path(path, renewing),
            Step::GiveUp => {
                self.coverage.met("a path given up for now");
                self.machine.close_path(path, false);
            }
            Step::Rest => {}
            Step::Delete => {
                let with_controller = self.machine.has_no_queues(path);
                if !with_controller {
                    self.machine.delete_path_queues(path);
                }
                self.hear_all();
                for _ in 0..self.stories.cancel(path) {
                    let what = ["a command lost with its queue", "a command lost with its controller"];
                    self.coverage.met(what[usize::from(with_controller)]);
                }
                self.flights.retain(|_, flight| flight.path() != path);
            }
            Step::Open => self.machine.open_path(path),
            Step::Quiesce => {
                self.stories.paths.quiesce(path, true);
                let done = self.machine.card.path_quiesced(&mut self.machine.platform, path);
                done.unwrap_or_else(|error| self.fail(&error.to_string(), None));
                self.hear_all();
            }
            Step::Look => {
                let left = self.stories.paths.left_over(path);
                if left > 0 {
                    self.fail(
                        &format!("path {path} was quiesced, and {left} fragments did not come back"),
                        None,
                    );
                }
                self.stories.paths.quiesce(path, false);
            }
        }
        let now_ns = self.machine.handle.now_ns();
        let when = (since, self.cycle());
        match step {
            Step::Close { renewing } => self.stories.paths.written(path, (true, renewing), when, now_ns),
            Step::GiveUp => self.stories.paths.written(path, (true, false), when, now_ns),
            Step::Open => self.stories.paths.written(path, (false, false), when, now_ns),
            _ => {}
        }
        let wait_ns = match step {
            Step::Quiesce => QUIET_NS,
            Step::Rest => self.renewals.closings.random_range(0..REST_NS),
            _ => self.renewals.random.random_range(0..STEP_NS),
        };
        let renewal = &mut self.renewals.under_way[number];
        renewal.due_ns = now_ns + wait_ns;
        if renewal.steps.is_empty() {
            self.renewals.under_way.remove(number);
        }
    }

    /// Notes what a run has met whose fragments were quiesced.
    pub(super) fn note_quieted(&mut self, run: &Run, reads: bool) {
        for attempt in run.attempts.iter().filter(|attempt| attempt.quieted) {
            let what = match attempt {
                Attempt { cancelled: true, .. } => "a command cut off by the deletion of its queue",
                attempt if attempt.is_unread() => "an answer in host memory that was not read",
                _ => "an unanswered command quiesced",
            };
            self.coverage.met(what);
            if run.again(attempt.component).any(|cycle| cycle > attempt.cycle) {
                let again = ["a write given again after a fence", "a read given again after a fence"];
                self.coverage.met(again[usize::from(reads)]);
            }
        }
    }

    pub(super) fn hear_all(&mut self) {
        if let Err(what) = self.hear() {
            self.fail(&what, None);
        }
    }
}
