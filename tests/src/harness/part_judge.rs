//! What must come of a component's part of a plan: every try of it is all of its fragments, each once, and ends as its
//! SSDs say. Of a plan that was stopped the last ones may be given back instead of being issued.

use volplane::software::plan::STATUS_KEPT;
use volplane::software::verdict::Progress;
use volplane::software::{Cuts, Issued, Tables};
use volplane_abi::plan::{plan_status, status_class, StatusClass};
use volplane_abi::status::{CODE_AND_TYPE, DNR, INTERNAL_ERROR, SUCCESS};
use volplane_abi::ExceptionComponent;
use volplane_sim::PartEnd;

use super::part_retries::{allows, Retries};
use super::plan_story::{Attempt, PartStep, Run};

/// A component's part of a run.
pub struct Parted {
    /// What became of it.
    pub progress: Progress,
    /// The status of its last try: that of its failed fragment with the lowest offset, else that it is closed with.
    pub status: u16,
    /// What a record tells of it if it failed, was refused or was stopped.
    pub told: ExceptionComponent,
    /// It was stopped, and had not failed by then.
    pub stopped: bool,
}

/// How a try ends.
enum TryEnd {
    /// With a status.
    Ended(PartEnd),
    /// Stopped, when so many fragments had been issued.
    Stopped(u32),
}

/// One try of a part.
struct Try<'a> {
    tables: &'a Tables,
    cuts: &'a Cuts,
    retries: &'a Retries,
    /// When it began again; `None`: it is the first.
    since: Option<u64>,
    attempts: Vec<&'a Attempt>,
    /// Numbers of the fragments that were given back.
    bounced: Vec<usize>,
}

impl Try<'_> {
    /// Whether a fragment for a device may have taken `path`, or found none, by `cycle`.
    fn allows(&self, device: u16, cycle: u64, path: Option<u8>) -> bool {
        match self.since {
            // The first one avoids nothing.
            None => allows(self.tables, device, 0, path),
            Some(since) => self.retries.allows(self.tables, device, (since, cycle), path),
        }
    }

    /// How it ends; `failed`: when it was told of that, if it has failed.
    fn end(&self, failed: Option<u64>) -> Result<TryEnd, String> {
        let fragments = &self.cuts.fragments;
        let mut ends: Vec<Option<(u16, u8)>> = vec![None; fragments.len()];
        for attempt in &self.attempts {
            let (Some(end), Some(ended)) = (ends.get_mut(attempt.ordinal), &attempt.ended) else {
                return Err(format!("{attempt:?} is no fragment, or has not ended"));
            };
            if attempt.returned != Some(ended.status) {
                return Err(format!("{attempt:x?} came back with another status"));
            }
            if end.replace((ended.status & STATUS_KEPT, attempt.path)).is_some() {
                return Err(format!("fragment {} came twice", attempt.ordinal));
            }
            if !self.allows(fragments[attempt.ordinal].device, attempt.cycle, Some(attempt.path)) {
                return Err(format!("{attempt:?} should not have taken this path"));
            }
        }
        let issued = ends.iter().take_while(|end| end.is_some()).count();
        let gap = ends[issued..].iter().any(Option::is_some);
        // What was given back follows what was issued.
        let given = issued + self.bounced.len();
        if given > ends.len() || !self.bounced.iter().copied().eq(issued..given) {
            return Err(format!("{issued} fragments were issued, {:?} were not", self.bounced));
        }
        let left = &fragments[given..];
        // The card stops where it sees that a list is wrong, and where it finds no path.
        let wrong = left.iter().find_map(|fragment| fragment.segments.as_ref().err());
        let closing = match (left.first(), wrong) {
            (None, _) => self.cuts.closing,
            (Some(next), _) if !gap && failed.is_some_and(|cycle| self.allows(next.device, cycle, None)) => {
                plan_status::HOST_PATH_ERROR | DNR
            }
            (_, Some(code)) if self.cuts.issued == Issued::Prefix && !gap => code | DNR,
            _ => return Err(format!("fragment {given} of {} did not come", ends.len())),
        };
        let failed = ends.iter().zip(0..).find_map(|(end, number)| {
            let (status, path) = (*end).filter(|end| end.0 != SUCCESS)?;
            Some(PartEnd { status, path, ordinal: number, closed: false })
        });
        let closed = PartEnd { status: closing, path: 0, ordinal: given as u32, closed: closing != SUCCESS };
        Ok(match failed {
            Some(failed) => TryEnd::Ended(failed),
            None if given > issued && closing == SUCCESS => TryEnd::Stopped(issued as u32),
            None => TryEnd::Ended(closed),
        })
    }
}

impl Parted {
    /// What became of a component's part of a run.
    ///
    /// # Errors
    /// Says which fragment did not come, or which try did not end as it should have.
    pub fn of(
        tables: &Tables,
        cuts: &Cuts,
        run: &Run,
        retries: &Retries,
        component: usize,
    ) -> Result<Self, String> {
        let wrong = |what: String| format!("component {component}: {what}");
        let of_part = || run.parts.iter().filter(|event| event.component == component);
        let mut failures = of_part().filter_map(|event| match event.step {
            PartStep::Failed(end) => Some((event.cycle, end)),
            _ => None,
        });
        let begins = std::iter::once(None).chain(run.again(component).map(Some));
        let mut last = None;
        for (number, since) in begins.enumerate() {
            let attempts = run.attempts.iter();
            let attempts =
                attempts.filter(|attempt| attempt.component == component && attempt.again == number);
            let bounced = run.bounced.iter();
            let bounced = bounced.filter(|it| it.component == component && it.again == number);
            let bounced = bounced.map(|it| it.ordinal).collect();
            let tried = Try { tables, cuts, retries, since, attempts: attempts.collect(), bounced };
            let found = failures.next();
            let expected = match tried.end(found.map(|found| found.0)).map_err(wrong)? {
                TryEnd::Ended(end) => end,
                TryEnd::Stopped(issued) if found.is_none() => return Ok(Self::stopped(issued)),
                TryEnd::Stopped(_) => {
                    return Err(wrong(format!("it was stopped, and failed with {found:x?}")))
                }
            };
            if found.map(|found| found.1) != Some(expected).filter(|end| end.status != SUCCESS) {
                return Err(wrong(format!("try {number} ended with {found:x?}, expected {expected:x?}")));
            }
            last = Some(expected);
        }
        let last = last.expect("there is a first try");
        let end = match last.status {
            SUCCESS => last,
            _ => retries.ended(component).ok_or_else(|| wrong("it has not ended".into()))?,
        };
        Ok(Self::ended(&end))
    }

    fn stopped(issued: u32) -> Self {
        let told = ExceptionComponent::default().with_fragment(issued);
        Self { progress: Progress::Idle, status: SUCCESS, told, stopped: true }
    }

    fn ended(end: &PartEnd) -> Self {
        let told = ExceptionComponent::default()
            .with_status(end.status)
            .with_path(end.path)
            .with_fragment(end.ordinal)
            .with_closed(end.closed.into());
        Self { progress: progress_of(end), status: end.status, told, stopped: false }
    }
}

/// What the end of a part that is not tried again means to its plan.
pub fn progress_of(end: &PartEnd) -> Progress {
    let of_map = [INTERNAL_ERROR, plan_status::HOST_PATH_ERROR];
    match status_class(end.status) {
        StatusClass::Success => Progress::Done,
        StatusClass::Client => Progress::Refused(end.status),
        // What the card itself refuses is the client's doing, unless a device or a path is missing.
        _ if end.closed && !of_map.contains(&(end.status & CODE_AND_TYPE)) => Progress::Refused(end.status),
        _ => Progress::Failed(end.status),
    }
}
