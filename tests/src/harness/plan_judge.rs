//! What must come of a command to a mirrored disk, given the choices that its story tells.

use volplane::software::cut::flush;
use volplane::software::plan::STATUS_KEPT;
use volplane::software::template::{Components, PlanTemplate};
use volplane::software::verdict::{of_read, of_write, End, Parts, Progress, Step};
use volplane::software::{
    admit, cut_on, Abilities, Admission, ComponentState, Cuts, Fragment, Issued, Memory, ReadPolicy, Tables,
};
use volplane_abi::plan::{component_state, status_class, StatusClass, COMPONENTS_MAX};
use volplane_abi::status::{CODE_AND_TYPE, DNR, INTERNAL_ERROR, NAMESPACE_NOT_READY, SUCCESS};
use volplane_abi::{opcode, vd_status, SubmissionEntry};

use super::mirrors::{Executor, Mirror, States};
use super::plan_story::{Begun, Story};

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its parts, in the order in which they were begun.
    pub parts: Vec<Cuts>,
    /// The status its client is told.
    pub status: u16,
    /// What the run has met, for its coverage.
    pub met: Vec<&'static str>,
}

/// A command to a mirrored disk, as far as it is known when it is sent.
#[derive(Clone, Debug)]
pub struct Asked {
    entry: SubmissionEntry,
    /// What it is admitted as while its disk is not deactivated,
    admission: Admission,
    /// and while it is.
    deactivated: u16,
}

impl Asked {
    /// Looks at a command with `memory` as it is when the card reads it.
    pub fn new(tables: &Tables, entry: &SubmissionEntry, memory: &Memory<'_>) -> Self {
        let admission = admit(tables, entry, memory, Abilities::CARD);
        let handle = entry.namespace_id() - 1;
        let disk = tables.vds[&handle].with_status(vd_status::DEACTIVATED);
        let closed = Tables { vds: [(handle, disk)].into(), ..Tables::default() };
        let deactivated = match admit(&closed, entry, memory, Abilities::CARD) {
            Admission::Ends(status) => status,
            other => unreachable!("a deactivated disk admits {other:?}"),
        };
        Self { entry: *entry, admission, deactivated }
    }

    /// Its fragments on a component's map.
    pub fn cuts(&self, tables: &Tables, mirror: &Mirror, component: usize) -> Cuts {
        let map = &mirror.maps[component];
        match &self.admission {
            Admission::Flush => flush(tables, map, &self.entry),
            Admission::Blocks(request) => cut_on(tables, map, request, Abilities::CARD),
            Admission::Ends(closing) => Cuts {
                fragments: Vec::new(),
                issued: Issued::All,
                closing: *closing,
                faulted: false,
                chain_cuts: 0,
            },
            Admission::NotExecutable => unreachable!("the card refuses it"),
        }
    }

    fn reads(&self) -> bool {
        matches!(self.entry.opcode(), opcode::READ | opcode::COMPARE)
    }

    /// The status it ends with before anybody looks which components there are, if it does.
    fn ends_early(&self) -> Option<u16> {
        match self.admission {
            _ if self.deactivated != NAMESPACE_NOT_READY | DNR => Some(self.deactivated),
            Admission::Ends(SUCCESS) => Some(SUCCESS),
            _ => None,
        }
    }
}

/// The components a command goes to, or may go to one of.
fn candidates(states: &States, reads: bool) -> Components {
    match reads {
        true => states.those(&[component_state::IN_SYNC]),
        false => states.those(&[component_state::IN_SYNC, component_state::WRITE_ONLY]),
    }
}

/// Judges commands to one disk.
pub struct Judge<'a, F> {
    /// Tables of the card.
    pub tables: &'a Tables,
    /// The disk.
    pub mirror: &'a Mirror,
    /// What the card can do.
    pub executor: Executor,
    /// The status field with which an SSD completes a fragment.
    pub outcome: F,
}

impl<F: Fn(&Fragment) -> u16> Judge<'_, F> {
    /// What must come of `asked`.
    ///
    /// # Errors
    /// Says what its story should not tell. `seen`: the states that a command may have found that was not
    /// begun.
    pub fn judge(&self, asked: &Asked, story: &Story, seen: &[States]) -> Result<Outcome, String> {
        match &story.begun {
            None => self.not_begun(asked, story, seen),
            Some(begun) => {
                self.check_begun(asked, begun, &story.seen)?;
                if begun.is_read {
                    self.read(asked, begun, story)
                } else {
                    self.write(asked, begun, story)
                }
            }
        }
    }

    fn not_begun(&self, asked: &Asked, story: &Story, seen: &[States]) -> Result<Outcome, String> {
        let mut allowed = Vec::new();
        for states in seen {
            if states.deactivated {
                allowed.push((asked.deactivated, "refused by a deactivated disk"));
            } else if let Some(status) = asked.ends_early() {
                allowed.push((status, "refused before it was begun"));
            } else if !candidates(states, asked.reads()).any() {
                // Open: the model checks pages and range first, and lets a write succeed that needs no copy.
                allowed.push((INTERNAL_ERROR | DNR, "nobody to go to"));
            }
        }
        match allowed.iter().find(|(status, _)| *status == story.status) {
            Some(&(status, met)) => Ok(Outcome { parts: Vec::new(), status, met: vec![met] }),
            None => Err(format!("it was not begun, and ended with {:#06x}: {allowed:x?}", story.status)),
        }
    }

    fn check_begun(&self, asked: &Asked, begun: &Begun, seen: &[States]) -> Result<(), String> {
        let reads = asked.reads();
        let told = (u32::from(begun.disk), begun.plan, begun.masks, begun.minimum, begun.is_read);
        let masks = self.mirror.masks(reads).field();
        let expected = (self.mirror.disk, self.mirror.plan, masks, self.mirror.template.minimum, reads);
        if told != expected || asked.ends_early().is_some() {
            return Err(format!("it was begun as {begun:x?}, expected {expected:x?}"));
        }
        let fits = |states: &&States| {
            let present =
                states.those(&[component_state::IN_SYNC, component_state::WRITE_ONLY, component_state::OUT]);
            let readable = states.those(&[component_state::IN_SYNC]);
            !states.deactivated && begun.present == present.0 && begun.readable == readable.0
        };
        let right = |states: &States| {
            let among = candidates(states, reads);
            match (reads, self.mirror.template.read_policy) {
                (false, _) => begun.begun == among.0,
                (true, ReadPolicy::Preferred(first)) if among.has(first.into()) => begun.begun == 1 << first,
                (true, ReadPolicy::Preferred(_)) => begun.begun == among.0 & among.0.wrapping_neg(),
                (true, _) => {
                    begun.begun.is_power_of_two()
                        && Components(begun.begun).without(among) == Components::NONE
                }
            }
        };
        if begun.begun != 0 && seen.iter().filter(fits).any(right) {
            Ok(())
        } else {
            Err(format!("it was begun as {begun:x?}, but the states were {seen:x?}"))
        }
    }

    /// The part of a component.
    fn part(&self, asked: &Asked, component: usize) -> (Cuts, Progress) {
        let cuts = asked.cuts(self.tables, self.mirror, component);
        let failed = cuts.fragments.iter().map(|part| (self.outcome)(part) & STATUS_KEPT);
        let progress = match failed.into_iter().find(|&status| status != SUCCESS) {
            Some(status) if status_class(status) == StatusClass::Client => Progress::Refused(status),
            Some(status) => Progress::Failed(status),
            None if cuts.closing == SUCCESS => Progress::Done,
            None if cuts.closing & CODE_AND_TYPE == INTERNAL_ERROR => Progress::Failed(cuts.closing),
            None => Progress::Refused(cuts.closing),
        };
        (cuts, progress)
    }

    /// The disk's template, with the components that were there and in sync.
    fn template(&self, begun: &Begun, in_sync: Components) -> PlanTemplate {
        let mut template = self.mirror.template;
        for part in 0..COMPONENTS_MAX {
            let (present, begun) = (Components(begun.present).has(part), Components(begun.begun).has(part));
            template.components[part].state = match (present, in_sync.has(part)) {
                (false, _) => ComponentState::Absent,
                (true, true) => ComponentState::InSync,
                (true, false) if begun => ComponentState::WriteOnly,
                (true, false) => ComponentState::Out,
            };
        }
        template
    }

    fn write(&self, asked: &Asked, begun: &Begun, story: &Story) -> Result<Outcome, String> {
        let (mut cuts, mut parts) = (Vec::new(), Parts::default());
        for component in Components(begun.begun).numbers() {
            let (part, progress) = self.part(asked, component);
            parts[component] = progress;
            cuts.push(part);
        }
        if !story.further.is_empty() {
            return Err(format!("a write goes on with {:?}", story.further));
        }
        let template = self.template(begun, Components(begun.readable));
        let clean = parts.iter().all(|part| matches!(part, Progress::Idle | Progress::Done));
        let view = match (story.views.last(), story.seen.last()) {
            (Some(view), _) => view,
            (None, Some(view)) if clean => view,
            _ => return Err("it was decided without a look at the disk's states".into()),
        };
        let verdict = of_write(&template, &parts, Components(view.durably_out));
        let Step::End(end) = verdict.step else {
            return Err(format!("it should not have ended: {verdict:?}"));
        };
        let mut met = self.check_effects(story, verdict.deactivate, &end)?;
        let failed = parts.iter().any(|part| matches!(part, Progress::Failed(_)));
        if failed {
            met.push(if end.status == SUCCESS { "a write without a copy" } else { "a write that fails" });
        }
        if cuts.len() > 1 {
            met.push("a write to several copies");
        }
        Ok(Outcome { parts: cuts, status: end.status, met })
    }

    fn read(&self, asked: &Asked, begun: &Begun, story: &Story) -> Result<Outcome, String> {
        let first = begun.begun.trailing_zeros() as usize;
        let (mut cuts, mut parts) = (Vec::new(), Parts::default());
        let mut deactivate = false;
        let mut views = story.views.iter();
        let mut further = story.further.iter().copied();
        let mut component = first;
        let end = loop {
            let (part, progress) = self.part(asked, component);
            parts[component] = progress;
            cuts.push(part);
            let clean = progress == Progress::Done && cuts.len() == 1;
            let in_sync = match views.next() {
                Some(view) => view.those(&[component_state::IN_SYNC]),
                None if clean => Components(begun.readable),
                None => return Err("it was decided without a look at the disk's states".into()),
            };
            let template = self.template(begun, Components(begun.readable));
            let verdict = of_read(&template, &parts, in_sync);
            deactivate |= verdict.deactivate;
            component = match (verdict.step, further.next()) {
                (Step::Read(left), Some(next)) if left.has(next) => next,
                (Step::End(end), None) => break end,
                (step, next) => return Err(format!("it went on with {next:?}, but the model says {step:?}")),
            };
        };
        let mut met = self.check_effects(story, deactivate, &end)?;
        if cuts.len() > 1 {
            met.push(if end.status == SUCCESS { "a read of a further copy" } else { "a read of no copy" });
        }
        Ok(Outcome { parts: cuts, status: end.status, met })
    }

    /// Compares what became of the disk.
    fn check_effects(&self, story: &Story, deactivate: bool, end: &End) -> Result<Vec<&'static str>, String> {
        if (story.out, story.deactivated) != (end.out.0, u32::from(deactivate)) {
            return Err(format!(
                "it moved {:?} out and deactivated the disk {} times, expected {end:?}, deactivate {deactivate}",
                Components(story.out),
                story.deactivated
            ));
        }
        if end.reasons != 0 && !self.executor.records {
            return Err(format!("the card posts no records yet, and this needs one: {end:?}"));
        }
        let mut met = Vec::new();
        if end.out.any() {
            met.push("a component moved out");
        }
        if deactivate {
            met.push("a disk deactivated by a failure");
        }
        Ok(met)
    }
}
