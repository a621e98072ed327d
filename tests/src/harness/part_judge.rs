//! What must come of a component's part of a plan: every try of it is all of its fragments, each once, and ends
//! as its SSDs say. Of a plan that was stopped the last ones may be given back instead of being issued.

use volplane::software::plan::STATUS_KEPT;
use volplane::software::verdict::Progress;
use volplane::software::{Cuts, Issued, Tables};
use volplane_abi::plan::{plan_status, status_class, StatusClass};
use volplane_abi::status::{CODE_AND_TYPE, DNR, INTERNAL_ERROR, SUCCESS};
use volplane_abi::ExceptionComponent;
use volplane_sim::PartEnd;

use super::part_retries::Retries;
use super::path_story::Paths;
use super::plan_story::{Attempt, PartStep, Run};

/// A component's part of a run.
pub struct Parted {
    /// What became of it.
    pub progress: Progress,
    /// The status of its last try: that of its failed fragment with the lowest offset, else that it is closed
    /// with.
    pub status: u16,
    /// What a record tells of it if it failed, was refused or was stopped.
    pub told: ExceptionComponent,
    /// It was stopped, and had not failed by then.
    pub stopped: bool,
    /// It was stopped by an extent that faults.
    pub faulted: bool,
    /// It failed with a fragment that was given up.
    pub given_up: bool,
}

/// How a try ends.
enum TryEnd {
    /// With a status.
    Ended(PartEnd),
    /// Stopped, when so many fragments had been issued; `faulted`: by an extent.
    Stopped { issued: u32, faulted: bool },
}

/// One try of a part.
struct Try<'a> {
    tables: &'a Tables,
    cuts: &'a Cuts,
    retries: &'a Retries,
    paths: &'a Paths,
    /// When the part was begun.
    begun: u64,
    /// When it began again; `None`: it is the first.
    since: Option<u64>,
    attempts: Vec<&'a Attempt>,
    /// Numbers of the fragments that were given back.
    bounced: Vec<usize>,
    /// An extent that faults is an exception.
    excepts: bool,
}

impl Try<'_> {
    /// Whether a fragment for a device may have taken `path`, or found none, by `cycle`.
    fn allows(&self, device: u16, cycle: u64, path: Option<u8>) -> bool {
        match self.since {
            // The first one avoids nothing.
            None => self.paths.allow(self.tables, device, 0, (self.begun, cycle), path),
            Some(since) => self.retries.allows((self.tables, self.paths), device, (since, cycle), path),
        }
    }

    /// How it ends; `failed`: when it was told of that, and with what, if it has failed.
    fn end(&self, failed: Option<(u64, PartEnd)>) -> Result<TryEnd, String> {
        let fragments = &self.cuts.fragments;
        let mut ends: Vec<Option<(u16, u8, bool)>> = vec![None; fragments.len()];
        for attempt in &self.attempts {
            let status = attempt.end()?;
            let end = ends.get_mut(attempt.ordinal).ok_or_else(|| format!("{attempt:?} is no fragment"))?;
            let fragment = &fragments[attempt.ordinal];
            // The filler reads the whole list, so nothing is open.
            let filled = fragment.segments.as_ref().map_or_else(|&code| code | DNR, |_| SUCCESS);
            if fragment.zeros != attempt.path.is_none() || (fragment.zeros && status != filled) {
                return Err(format!("{attempt:?} is of {fragment:x?}"));
            }
            let path = attempt.path.unwrap_or(0);
            if end.replace((status & STATUS_KEPT, path, attempt.quieted)).is_some() {
                return Err(format!("fragment {} came twice", attempt.ordinal));
            }
            if !fragment.zeros && !self.allows(fragment.device, attempt.cycle, attempt.path) {
                return Err(format!("{attempt:?} should not have taken this path"));
            }
        }
        // What was given back follows what was issued, but for zeros, which do not pass there.
        let issued = self.bounced.first().copied().unwrap_or(fragments.len());
        let behind = |number: usize| ends[number].is_some() && (number >= issued && !fragments[number].zeros);
        let twice = self.bounced.iter().any(|&number| ends.get(number).is_none_or(Option::is_some));
        if twice || !self.bounced.is_sorted() || (0..ends.len()).any(behind) {
            return Err(format!("fragments {:?} were given back: {ends:x?}", self.bounced));
        }
        let came = |number: &usize| ends[*number].is_some() || self.bounced.contains(number);
        let given = (0..ends.len()).take_while(came).count();
        let gap = (given..ends.len()).any(|number| came(&number));
        let left = &fragments[given..];
        // The card stops where it sees that a list is wrong, and where it finds no path.
        let wrong = left.iter().find_map(|fragment| fragment.segments.as_ref().err());
        let wrong = wrong.filter(|_| self.cuts.issued == Issued::Prefix && !gap).map(|&code| code | DNR);
        let is_wrong = failed.is_some_and(|(_, end)| Some(end.status) == wrong);
        let closing = match (left.first(), wrong) {
            (None, _) => self.cuts.closing,
            // Both may be so.
            (Some(next), _)
                if !(gap || next.zeros || is_wrong)
                    && failed.is_some_and(|(cycle, _)| self.allows(next.device, cycle, None)) =>
            {
                plan_status::HOST_PATH_ERROR | DNR
            }
            (_, Some(status)) => status,
            _ => return Err(format!("fragment {given} of {} did not come", ends.len())),
        };
        let failed = ends.iter().zip(0..).find_map(|(end, number)| {
            let (status, path, given_up) = (*end).filter(|end| end.0 != SUCCESS)?;
            Some(PartEnd { status, path, ordinal: number, closed: false, given_up })
        });
        let faulted = self.excepts && self.cuts.faulted && left.is_empty();
        let (status, ordinal) = (closing, given as u32);
        let closed = PartEnd { status, ordinal, closed: closing != SUCCESS, ..PartEnd::default() };
        Ok(match failed {
            Some(failed) => TryEnd::Ended(failed),
            None if faulted || !self.bounced.is_empty() && closing == SUCCESS => {
                TryEnd::Stopped { issued: issued.min(given) as u32, faulted }
            }
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
        (tables, paths): (&Tables, &Paths),
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
            let (attempts, excepts) = (attempts.collect(), run.begun.is_some());
            let begun = run.part_begun(component);
            let tried = Try { tables, cuts, retries, paths, begun, since, attempts, bounced, excepts };
            let found = failures.next();
            let expected = match tried.end(found).map_err(wrong)? {
                TryEnd::Ended(end) => end,
                TryEnd::Stopped { issued, faulted } if found.is_none() => {
                    return Ok(Self::stopped(issued, faulted));
                }
                TryEnd::Stopped { .. } => {
                    return Err(wrong(format!("it was stopped, and failed with {found:x?}")));
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

    fn stopped(issued: u32, faulted: bool) -> Self {
        let told = ExceptionComponent::default().with_fragment(issued);
        Self { progress: Progress::Idle, status: SUCCESS, told, stopped: true, faulted, given_up: false }
    }

    fn ended(end: &PartEnd) -> Self {
        let told = ExceptionComponent::default()
            .with_status(end.status)
            .with_path(end.path)
            .with_fragment(end.ordinal)
            .with_closed(end.closed.into());
        let &PartEnd { status, given_up, .. } = end;
        Self { progress: progress_of(end), status, told, stopped: false, faulted: false, given_up }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::plan_story::{Ended, PartEvent};
    use volplane::software::Fragment;
    use volplane_abi::plan::path_policy;
    use volplane_abi::status::INVALID_FIELD;
    use volplane_abi::{opcode, DeviceEntry, PathEntry};

    /// Device 1 prefers path 4 to path 6.
    fn tables() -> Tables {
        let mut tables = Tables::default();
        let device = DeviceEntry::default().with_path(4).with_more_paths(1).with_path1(6).with_valid(1);
        tables.devices.insert(1, device.with_path_policy(path_policy::PREFERRED));
        tables.paths = [4, 6].map(|path| (path, PathEntry::default().with_valid(1))).into();
        tables
    }

    fn fragment(lba: u64) -> Fragment {
        Fragment {
            path: 4,
            device: 1,
            zeros: false,
            opcode: opcode::READ,
            namespace_id: 1,
            lba,
            blocks: 1,
            first: lba,
            deallocate: 0,
            force_unit_access: 0,
            limited_retry: 0,
            cdw13: 0,
            segments: Ok(Vec::new()),
        }
    }

    /// Three fragments; tries of a part of a disk without a plan: ordinals, statuses and paths.
    fn parted(issued: Issued, tries: &[&[(usize, u16, u8)]], failures: &[PartEnd]) -> Result<Parted, String> {
        let mut fragments: Vec<Fragment> = (0..3).map(fragment).collect();
        if issued == Issued::Prefix {
            fragments[2].segments = Err(INVALID_FIELD);
        }
        let cuts = Cuts { fragments, issued, closing: SUCCESS, faulted: false, chain_cuts: 0 };
        let mut run = Run::default();
        for (number, attempts) in tries.iter().enumerate() {
            let cycle = 1_000 * (number as u64 + 1);
            if number > 0 {
                run.parts.push(PartEvent { cycle: cycle - 500, component: 0, step: PartStep::Again });
            }
            run.attempts.extend(attempts.iter().map(|&(ordinal, status, path)| {
                let (effect, completion, tokens) = (status == 0, true, Vec::new());
                let ended = Ended { at_ns: 0, effect, status, completion, tokens };
                let (ended, returned) = (Some(ended), Some(status));
                let (path, again) = (Some(path), number);
                Attempt { component: 0, ordinal, path, again, cycle, ended, returned, ..Attempt::default() }
            }));
            run.parts.extend(failures.get(number).map(|&end| PartEvent {
                cycle: cycle + 200,
                component: 0,
                step: PartStep::Failed(end),
            }));
        }
        let paths = Paths::default();
        let retries = Retries::follow(&run, None, false, &paths)?;
        Parted::of((&tables(), &paths), &cuts, &run, &retries, 0)
    }

    fn failed(status: u16, path: u8, ordinal: u32) -> PartEnd {
        PartEnd { status, path, ordinal, ..PartEnd::default() }
    }

    const NO_PATH: PartEnd = PartEnd {
        status: plan_status::HOST_PATH_ERROR | DNR,
        path: 0,
        ordinal: 0,
        closed: true,
        given_up: false,
    };

    #[test]
    fn every_fragment_comes_once() {
        let all = [(2, 0, 4), (0, 0, 4), (1, 0, 4)];
        let once = |attempts: &[(usize, u16, u8)]| parted(Issued::All, &[attempts], &[]);
        assert!(once(&all).is_ok_and(|part| part.progress == Progress::Done));
        assert!(once(&all[..2]).is_err(), "one is missing");
        assert!(once(&[all[0], all[1], all[2], all[0]]).is_err(), "one came twice");
        assert!(once(&[all[0], all[1], all[2], (3, 0, 4)]).is_err(), "there is no fourth");
        assert!(once(&[all[0], all[1], (1, 0, 6)]).is_err(), "the other path is preferred");
        for (prefix, issued) in [(&[][..], 0), (&[(1, 0, 4), (0, 0, 4)], 2)] {
            let end = PartEnd { status: INVALID_FIELD | DNR, ordinal: issued, ..NO_PATH };
            let part = parted(Issued::Prefix, &[prefix], &[end]);
            let part = part.expect("the card may have seen the wrong entry");
            assert_eq!(part.progress, Progress::Refused(INVALID_FIELD | DNR));
        }
        let end = PartEnd { status: INVALID_FIELD | DNR, ordinal: 1, ..NO_PATH };
        let gap = parted(Issued::Prefix, &[&[(0, 0, 4), (2, 0, 4)]], &[end]);
        assert!(gap.is_err(), "a prefix has no gap");
    }

    #[test]
    fn the_lowest_failed_offset_speaks_for_the_part() {
        let tried = [(2, 0x281, 4), (1, 0x6006, 4), (0, 0, 4)];
        let part = parted(Issued::All, &[&tried], &[failed(0x4006, 4, 1)]).expect("all there");
        assert_eq!(part.progress, Progress::Failed(0x4006));
        assert_eq!((part.told.status(), part.told.fragment(), part.told.path()), (0x4006, 1, 4));
        assert_eq!(part.told.closed(), 0);
        assert!(parted(Issued::All, &[&tried], &[failed(0x281, 4, 2)]).is_err(), "the other one was told");
        assert!(parted(Issued::All, &[&tried], &[]).is_err(), "nobody was told");
    }

    #[test]
    fn a_path_that_failed_is_not_taken_again() {
        let first = [(0, 0x301, 4), (1, 0, 4), (2, 0, 4)];
        let on = |path: u8, status: u16| [(0, status, path), (1, 0, path), (2, 0, path)];
        let errors = [failed(0x301, 4, 0), failed(0x302, 6, 0), NO_PATH];
        let part = parted(Issued::All, &[&first, &on(6, 0)], &errors[..1]).expect("the other path");
        assert_eq!(part.progress, Progress::Done);
        assert!(parted(Issued::All, &[&first, &on(4, 0)], &errors[..1]).is_err(), "it has failed on it");
        assert!(parted(Issued::All, &[&first], &errors[..1]).is_err(), "it had to begin again");
        // No path is left: that takes one of two tries, and any may be taken again.
        let (second, none): (_, &[(usize, u16, u8)]) = (on(6, 0x302), &[]);
        let part = parted(Issued::All, &[&first, &second, none, &on(4, 0)], &errors);
        assert_eq!(part.expect("the first path again").progress, Progress::Done);
        let round = [errors[0], errors[1], NO_PATH];
        let tries: Vec<&[(usize, u16, u8)]> = [&first[..], &second, none].repeat(3);
        let part = parted(Issued::All, &tries, &round.repeat(3)).expect("all tries are used up");
        assert_eq!((part.progress, part.told.path()), (Progress::Failed(0x302), 6));
        let tries: Vec<&[(usize, u16, u8)]> = [&first[..], &second, none].repeat(4);
        assert!(parted(Issued::All, &tries, &round.repeat(4)).is_err(), "once too often");
    }

    #[test]
    fn what_is_final_ends_the_part() {
        let tries: [&[(usize, u16, u8)]; 2] =
            [&[(0, 0x4281, 4), (1, 0, 4), (2, 0, 4)], &[(0, 0, 4), (1, 0, 4), (2, 0, 4)]];
        let end = [failed(0x4281, 4, 0)];
        let part = parted(Issued::All, &tries[..1], &end).expect("it is final");
        assert_eq!(part.progress, Progress::Failed(0x4281));
        assert!(parted(Issued::All, &tries, &end).is_err(), "it began again");
    }
}
