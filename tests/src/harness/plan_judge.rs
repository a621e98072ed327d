//! What must come of a command to a mirrored disk, given the choices that its story tells.

use volplane::software::cut::flush;
use volplane::software::template::{Components, MaskSet, PlanTemplate};
use volplane::software::verdict::{log, of_read, of_write, End, Parts, Progress, Step};
use volplane::software::{
    admit, cut_on, Abilities, Admission, ComponentState, Cuts, Issued, Memory, ReadPolicy, Tables,
};
use volplane_abi::plan::{component_state, plan_status, reason, COMPONENTS_MAX};
use volplane_abi::status::{DNR, INTERNAL_ERROR, NAMESPACE_NOT_READY, SUCCESS};
use volplane_abi::{opcode, vd_status, ExceptionComponent, ExceptionTail, SubmissionEntry};

use super::mirrors::{Mirror, States};
use super::part_judge::Parted;
use super::part_retries::Retries;
use super::path_story::Paths;
use super::plan_story::{Begun, Given, Run};

/// A read by the policy of that name: of the lowest-numbered copy in sync, and of another.
const LEAST_BUSY: [&str; 2] = ["a read of the least busy copy", "a read of a less busy copy than the first"];

/// What comes of a run of a plan.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What has become of its components.
    pub parts: Parts,
    /// Those that were stopped before their last block.
    pub stopped: Components,
    /// The status its client is told, if the control path does not decide.
    pub status: u16,
    /// Who gets it, and the record of it.
    pub record: Option<Expected>,
    /// What the run has met, for its coverage.
    pub met: Vec<&'static str>,
}

impl Outcome {
    /// The control path decides what comes next.
    pub fn is_decided_later(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.tail.held() == 1 || record.tail.owned() == 1)
    }

    /// The components that succeeded.
    pub fn done(&self) -> Components {
        Components::of(|number| self.parts[number] == Progress::Done)
    }
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
        let admission = admit(tables, entry, memory, Abilities::ALL);
        let handle = entry.namespace_id() - 1;
        let disk = tables.vds[&handle].with_status(vd_status::DEACTIVATED);
        let closed = Tables { vds: [(handle, disk)].into(), ..Tables::default() };
        let deactivated = match admit(&closed, entry, memory, Abilities::ALL) {
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
            Admission::Blocks(request) => cut_on(tables, map, request),
            Admission::Ends(closing) => Cuts {
                fragments: Vec::new(),
                issued: Issued::All,
                closing: *closing,
                faulted: false,
                chain_cuts: 0,
            },
            Admission::NotExecutable => unreachable!("nothing of it is begun"),
        }
    }

    /// What it is admitted as.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Whether a template of its disk diverts it.
    fn is_diverted(&self, mirror: &Mirror, plan: u16) -> bool {
        let Admission::Blocks(request) = &self.admission else { return false };
        mirror.diverts.touch(plan, &(request.lba..request.lba + request.blocks))
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
pub fn candidates(states: &States, reads: bool) -> Components {
    match reads {
        true => states.those(&[component_state::IN_SYNC]),
        false => states.those(&[component_state::IN_SYNC, component_state::WRITE_ONLY]),
    }
}

/// Judges runs of plans of one disk.
pub struct Judge<'a, F> {
    /// What its devices are.
    pub tables: &'a Tables,
    /// What has become of its paths.
    pub paths: &'a Paths,
    /// The disk.
    pub mirror: &'a Mirror,
    /// A component's part of the command.
    pub cuts: F,
}

impl<'a, F: Fn(usize) -> &'a Cuts> Judge<'a, F> {
    /// What must come of a run of `asked`; `status`: what its client was told.
    ///
    /// # Errors
    /// Says what the run's trace should not tell. `seen`: the states that a command may have found that was not
    /// begun.
    pub fn judge(
        &self,
        asked: &Asked,
        run: &Run,
        status: Option<u16>,
        seen: &[States],
    ) -> Result<Outcome, String> {
        let Some(begun) = &run.begun else { return self.not_begun(asked, run, status, seen) };
        let template = self.mirror.templates.get(&begun.plan);
        let template = template.filter(|_| run.plans.contains(&begun.plan)).ok_or_else(|| {
            format!("it was begun with template {}, but the disk's were {:?}", begun.plan, run.plans)
        })?;
        if let (Admission::Ends(status), 0, 0) = (&asked.admission, begun.begun, begun.kept) {
            return self.refused(asked, begun, run, *status);
        }
        let kept = Kept::of(begun, run, asked)?;
        let diverted = run.given.is_none() && asked.is_diverted(self.mirror, begun.plan);
        let handed_over = match asked.admission {
            Admission::NotExecutable => Some((reason::NOT_EXECUTABLE, "a plan not for hardware")),
            _ if diverted => Some((reason::DIVERT, "a plan diverted")),
            _ => None,
        };
        check_begun(self.mirror.disk, template, asked, run, handed_over.is_some())?;
        let mut components = Components(begun.begun).numbers().chain(run.further.iter().copied());
        let faults = components.any(|component| (self.cuts)(component).faulted);
        // A failure that was kept, and is not forgiven, stops the plan as soon as anything else ends.
        let unforgiven = |number: usize| {
            matches!(kept.parts[number], Progress::Failed(_)) && !template.write.continuation.has(number)
        };
        let stopped = faults || !begun.is_read && kept.components.numbers().any(unforgiven);
        let retries = Retries::follow(run, Some(template), stopped, self.paths)?;
        let of = Of { template, begun, run, retries, kept };
        let mut outcome = match handed_over {
            _ if run.aborted => self.aborted(&of),
            Some((why, met)) => self.handed_over(&of, why, met),
            None if begun.is_read => self.read(&of),
            None => self.write(&of),
        }?;
        outcome.met.extend(of.retries.met);
        let (parts, stopped) = (&outcome.parts, outcome.stopped);
        let is_idle = |number: usize| {
            parts[number] == Progress::Idle && !stopped.has(number) || of.kept.components.has(number)
        };
        match run.attempts.iter().find(|attempt| is_idle(attempt.component)) {
            None => Ok(outcome),
            Some(attempt) => Err(format!("nobody asked for {attempt:?}")),
        }
    }

    /// A command that ends at once, which a range would have diverted: its client is told, and nobody else; but the
    /// control path may have asked for its plan by then, or have aborted it.
    fn refused(&self, asked: &Asked, begun: &Begun, run: &Run, status: u16) -> Result<Outcome, String> {
        let untouched = run.attempts.is_empty() && run.out == 0 && run.deactivated == 0;
        let allowed = self.mirror.diverts.any(begun.plan) && run.given.is_none();
        let found = run.seen.iter().any(|states| fits(begun, states));
        if !(untouched && allowed && found) || asked.ends_early().is_some() || run.again(0).next().is_some() {
            return Err(format!("it was begun as {begun:x?}, and is refused with {status:x}"));
        }
        let met = vec!["a diverted command refused"];
        if run.aborted {
            let status = plan_status::ABORT_REQUESTED | DNR;
            return Ok(Outcome { status, met: vec!["a plan aborted"], ..Outcome::default() });
        }
        let mut outcome = Outcome { status, met, ..Outcome::default() };
        if run.taken {
            outcome.parts[0] = Progress::Refused(status);
            let mut components = [ExceptionComponent::default(); COMPONENTS_MAX];
            components[0] = components[0].with_status(status).with_closed(1);
            let tail = ExceptionTail::default()
                .with_reasons(reason::TAKE_OVER)
                .with_owned(1)
                .with_disk(self.mirror.disk as u16)
                .with_plan(begun.plan)
                .with_begun(1)
                .with_refused(1)
                .with_readable(begun.readable)
                .with_present(begun.present);
            outcome.record = Some(Expected { components, tail });
            outcome.met.push("a plan taken over");
        }
        Ok(outcome)
    }

    fn not_begun(
        &self,
        asked: &Asked,
        run: &Run,
        status: Option<u16>,
        seen: &[States],
    ) -> Result<Outcome, String> {
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
        if run.again(0).next().is_some() {
            return Err("what was refused began again".into());
        }
        match allowed.iter().find(|(allowed, _)| Some(*allowed) == status) {
            Some(&(status, met)) if run.attempts.is_empty() => {
                Ok(Outcome { status, met: vec![met], ..Outcome::default() })
            }
            _ => Err(format!("it was not begun, and ended with {status:x?}: {allowed:x?}")),
        }
    }

    fn part(&self, of: &Of<'_>, component: usize) -> Result<Parted, String> {
        Parted::of((self.tables, self.paths), (self.cuts)(component), of.run, &of.retries, component)
    }

    /// What hardware does not execute, or a divert range touches, is handed over before anything is issued.
    fn handed_over(&self, of: &Of<'_>, why: u16, met: &'static str) -> Result<Outcome, String> {
        let taken = if of.run.taken { reason::TAKE_OVER } else { 0 };
        let step = Step::Exception(why | taken);
        self.conclude(of, (Parts::default(), Components::NONE), false, step, vec![met])
    }

    /// An aborted plan ends without effects, but for a disk that was deactivated before.
    fn aborted(&self, of: &Of<'_>) -> Result<Outcome, String> {
        let &Of { begun, run, .. } = of;
        let (mut parts, mut stopped) = (of.kept.parts, Components::NONE);
        let further = run.further.iter().copied();
        for component in Components(begun.begun).numbers().chain(further) {
            let part = self.part(of, component)?;
            parts[component] = part.progress;
            stopped = stopped.or(Components::of(|number| number == component && part.stopped));
        }
        let failed = Components::of(|number| matches!(parts[number], Progress::Failed(_)));
        let may_deactivate = failed.and(of.masks().deactivate).any();
        if run.out != 0 || run.deactivated > u32::from(may_deactivate) {
            return Err(format!("an aborted plan changed its disk: {run:x?}"));
        }
        let status = plan_status::ABORT_REQUESTED | DNR;
        Ok(Outcome { parts, stopped, status, record: None, met: vec!["a plan aborted"] })
    }

    /// What becomes of a plan that was stopped for these reasons, whatever else would have.
    fn stopped(of: &Of<'_>, parts: &Parts, reasons: u16) -> Step {
        let failed = Components::of(|number| matches!(parts[number], Progress::Failed(_)));
        let masks = of.masks();
        let unforgiven = failed.without(masks.continuation).any();
        let failure = if unforgiven { reason::COMPONENT_FAILURE } else { 0 };
        Step::Exception(reasons | failure | log(masks, failed))
    }

    fn write(&self, of: &Of<'_>) -> Result<Outcome, String> {
        let &Of { begun, run, .. } = of;
        let mut parts = of.kept.parts;
        let keeps = of.kept.components.any();
        let mut stopped = Components::NONE;
        let mut stops = if run.taken { reason::TAKE_OVER } else { 0 };
        for component in Components(begun.begun).numbers() {
            let part = self.part(of, component)?;
            parts[component] = part.progress;
            stopped = stopped.or(Components::of(|number| number == component && part.stopped));
            stops |= if part.faulted { reason::WRITE_FAULT } else { 0 };
        }
        if !run.further.is_empty() {
            return Err(format!("a write goes on with {:?}", run.further));
        }
        let clean = !keeps
            && !stopped.any()
            && parts.iter().all(|part| matches!(part, Progress::Idle | Progress::Done));
        // Where all went well, what was durable when it was begun decides.
        let enough = |view: &&States| {
            let missed = Components(begun.present & !begun.begun).without(Components(view.durably_out));
            fits(begun, view) && !missed.any()
        };
        let view = match run.views.last() {
            None if clean => run.seen.iter().find(enough),
            view => view,
        };
        let view = view.ok_or("it was decided without a look at the disk's states")?;
        let verdict = of_write(&of.template(), &parts, Components(view.durably_out));
        let mut met = Vec::new();
        let step = if stops != 0 { Self::stopped(of, &parts, stops) } else { verdict.step };
        if stopped.any() {
            // Only a failure that is not forgiven stops what the control path has not asked for.
            if !matches!(step, Step::Exception(_)) {
                return Err(format!("{stopped:?} were stopped, but the model says {step:?}"));
            }
            met.push("a plan stopped before its end");
        }
        if parts.iter().any(|part| matches!(part, Progress::Failed(_))) {
            met.push(match verdict.step {
                Step::End(end) if end.status == SUCCESS => "a write without a copy",
                _ => "a write that fails",
            });
        }
        if begun.begun.count_ones() > 1 {
            met.push("a write to several copies");
        }
        if keeps {
            met.push(if begun.begun == 0 { "a write that only goes on" } else { "a write begun in part" });
        }
        self.conclude(of, (parts, stopped), verdict.deactivate, step, met)
    }

    fn read(&self, of: &Of<'_>) -> Result<Outcome, String> {
        let &Of { begun, run, .. } = of;
        let (mut parts, mut stopped) = (of.kept.parts, Components::NONE);
        let keeps = of.kept.components.any();
        let mut stops = if run.taken { reason::TAKE_OVER } else { 0 };
        let mut deactivate = false;
        let mut views = run.views.iter();
        let mut further = run.further.iter().copied();
        let mut next = (begun.begun != 0).then_some(begun.begun.trailing_zeros() as usize);
        let mut tried = 0;
        let step = loop {
            let mut done = false;
            if let Some(component) = next {
                let part = self.part(of, component)?;
                stops |= if part.faulted { reason::READ_FAULT } else { 0 };
                if part.stopped && stops == 0 {
                    return Err(format!("its read of component {component} was stopped"));
                }
                stopped = stopped.or(Components::of(|number| number == component && part.stopped));
                parts[component] = part.progress;
                (done, tried) = (part.progress == Progress::Done, tried + 1);
            }
            let clean = done && tried == 1 && stops == 0 && !keeps;
            let in_sync = match views.next() {
                Some(view) => view.those(&[component_state::IN_SYNC]),
                None if clean => Components(begun.readable),
                None => return Err("it was decided without a look at the disk's states".into()),
            };
            let verdict = of_read(&of.template(), &parts, in_sync);
            deactivate |= verdict.deactivate;
            next = match (verdict.step, further.next()) {
                (Step::Read(left), Some(next)) if left.numbers().next() == Some(next) => Some(next),
                (_, None) if stops != 0 => break Self::stopped(of, &parts, stops),
                (Step::Read(_), next) => return Err(format!("it went on with {next:?}: {verdict:?}")),
                (step, None) => break step,
                (step, next) => return Err(format!("it went on with {next:?}, but the model says {step:?}")),
            };
        };
        let mut met = Vec::new();
        if of.template.read_policy == ReadPolicy::LeastOutstanding && begun.begun != 0 {
            let lowest = begun.begun == begun.readable & begun.readable.wrapping_neg();
            met.push(LEAST_BUSY[usize::from(!lowest)]);
        }
        if keeps {
            met.push("a read that goes on");
        }
        if tried > 1 {
            let well = matches!(step, Step::End(end) if end.status == SUCCESS);
            met.push(if well { "a read of a further copy" } else { "a read of no copy" });
        }
        self.conclude(of, (parts, stopped), deactivate, step, met)
    }

    /// Compares what became of the disk, and says what must be told of the plan.
    fn conclude(
        &self,
        of: &Of<'_>,
        (parts, stopped): (Parts, Components),
        deactivate: bool,
        step: Step,
        mut met: Vec<&'static str>,
    ) -> Result<Outcome, String> {
        let (out, reasons, status, held) = match step {
            Step::End(End { status, out, reasons, held }) => (out, reasons, status, held),
            Step::Exception(reasons) => (Components::NONE, reasons, 0, false),
            step => return Err(format!("it should not have ended: {step:?}")),
        };
        let run = of.run;
        if (run.out, run.deactivated) != (out.0, u32::from(deactivate)) {
            return Err(format!(
                "it moved {:?} out and deactivated the disk {} times, expected {step:?}, deactivate {deactivate}",
                Components(run.out),
                run.deactivated
            ));
        }
        let owned = matches!(step, Step::Exception(_));
        let tail = ExceptionTail::default()
            .with_reasons(reasons)
            .with_out(out.0)
            .with_owned(owned.into())
            .with_held(held.into())
            .with_deactivated(deactivate.into())
            .with_status(status);
        let record = (reasons != 0).then(|| self.record(of, &parts, stopped, tail)).transpose()?;
        if record.as_ref().is_some_and(|record| record.tail.reasons() & reason::TIME_OUT != 0) {
            met.push("a record that tells of a time-out");
        }
        let told = [
            (out.any(), "a component moved out"),
            (deactivate, "a disk deactivated by a failure"),
            (owned, "a plan of the control path"),
            (reasons & reason::TAKE_OVER != 0, "a plan taken over"),
            (reasons & (reason::READ_FAULT | reason::WRITE_FAULT) != 0, "an extent that faults"),
            (reasons & reason::MISSED_WRITE != 0, "a missed write held"),
            (reasons & reason::LOG_WITH_DATA != 0 && held, "a plan held for its data"),
            (reasons & reason::LOG != 0 && !held && !owned, "a failure logged"),
        ];
        met.extend(told.iter().filter(|(is_met, _)| *is_met).map(|(_, what)| *what));
        Ok(Outcome { parts, stopped, status, record, met })
    }

    /// The record of a run, with what the trace and the parts say added to `tail`.
    fn record(
        &self,
        of: &Of<'_>,
        parts: &Parts,
        stopped: Components,
        tail: ExceptionTail,
    ) -> Result<Expected, String> {
        let those = |choose: fn(&Progress) -> bool| Components::of(|number| choose(&parts[number]));
        let (failed, refused) = (
            those(|part| matches!(part, Progress::Failed(_))),
            those(|part| matches!(part, Progress::Refused(_))),
        );
        let done = those(|part| *part == Progress::Done);
        let mut components = [ExceptionComponent::default(); COMPONENTS_MAX];
        let mut time_out = 0;
        for number in failed.or(refused).or(stopped).numbers() {
            if of.kept.components.has(number) {
                components[number] = of.kept.told[number];
                continue;
            }
            let part = self.part(of, number)?;
            components[number] = part.told;
            time_out |= if part.given_up { reason::TIME_OUT } else { 0 };
        }
        let tail = tail
            .with_reasons(tail.reasons() | time_out)
            .with_disk(self.mirror.disk as u16)
            .with_plan(of.begun.plan)
            .with_begun(done.or(failed).or(refused).or(stopped).0)
            .with_stopped(stopped.0)
            .with_done(done.0)
            .with_failed(failed.0)
            .with_refused(refused.0)
            .with_readable(of.begun.readable)
            .with_present(of.begun.present);
        Ok(Expected { components, tail })
    }
}

/// A record as it must be. What a command's own fields are, its sender knows; handles are the card's to choose.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Components.
    pub components: [ExceptionComponent; COMPONENTS_MAX],
    /// The tail but for handle, phase, and what the command says.
    pub tail: ExceptionTail,
}

/// A run that was begun, with its template.
struct Of<'a> {
    template: &'a PlanTemplate,
    begun: &'a Begun,
    run: &'a Run,
    retries: Retries,
    kept: Kept,
}

/// What components of a run became before it was given back, and are still.
#[derive(Clone, Debug, Default)]
struct Kept {
    components: Components,
    parts: Parts,
    told: [ExceptionComponent; COMPONENTS_MAX],
}

impl Kept {
    /// What the trace says, checked: all that may be kept, or nothing where the disk has another template by now, or
    /// a write near its blocks has begun meanwhile.
    fn of(begun: &Begun, run: &Run, asked: &Asked) -> Result<Self, String> {
        let (given, components) = (run.given.as_ref(), Components(begun.kept));
        let may = given.map_or(Components::NONE, |given| given.keeps(begun.is_read));
        let replaced = given.is_some_and(|given| given.plan != begun.plan);
        let writes = !begun.is_read && matches!(asked.admission, Admission::Blocks(_) | Admission::Ends(_));
        let whole = components == Components::NONE && (replaced || writes || !may.any());
        if !whole && (components != may || replaced) {
            return Err(format!("it keeps {components:?}, expected {may:?}: {given:x?}"));
        }
        let Some(given) = given else { return Ok(Self::default()) };
        let parts = |number: usize| match components.has(number) {
            true => given.parts[number],
            false => Progress::Idle,
        };
        Ok(Self { components, parts: std::array::from_fn(parts), told: given.told })
    }
}

impl Given {
    /// Components that have a result.
    pub fn results(&self) -> Components {
        Components::of(|number| !matches!(self.parts[number], Progress::Idle | Progress::Running))
    }

    /// Those that keep it, if they can.
    fn keeps(&self, reads: bool) -> Components {
        let used = self.view.map_or(Components::NONE, |view| candidates(&view, reads));
        self.results().and(used).without(self.restart)
    }
}

impl Of<'_> {
    fn masks(&self) -> &MaskSet {
        if self.begun.is_read {
            &self.template.read
        } else {
            &self.template.write
        }
    }

    /// The disk's template, with the components that were there and in sync.
    fn template(&self) -> PlanTemplate {
        let mut template = *self.template;
        for part in 0..COMPONENTS_MAX {
            let has = |components: u8| Components(components).has(part);
            let begun = self.begun.begun | self.kept.components.0;
            template.components[part].state =
                match (has(self.begun.present), has(self.begun.readable), has(begun)) {
                    (false, ..) => ComponentState::Absent,
                    (true, true, _) => ComponentState::InSync,
                    (true, false, true) => ComponentState::WriteOnly,
                    (true, false, false) => ComponentState::Out,
                };
        }
        template
    }
}

/// Whether a plan may have been begun with its disk in these states.
fn fits(begun: &Begun, states: &States) -> bool {
    let present =
        states.those(&[component_state::IN_SYNC, component_state::WRITE_ONLY, component_state::OUT]);
    let readable = states.those(&[component_state::IN_SYNC]);
    !states.deactivated && begun.present == present.0 && begun.readable == readable.0
}

fn check_begun(
    disk: u32,
    template: &PlanTemplate,
    asked: &Asked,
    run: &Run,
    handed_over: bool,
) -> Result<(), String> {
    let (begun, seen) = (run.begun.as_ref().ok_or("it was not begun")?, &run.seen);
    let reads = asked.reads();
    let told = (u32::from(begun.disk), begun.masks, begun.minimum, begun.is_read);
    let masks = if reads { template.read } else { template.write }.entry().field();
    let expected = (disk, masks, template.minimum, reads);
    if told != expected || asked.ends_early().is_some() {
        return Err(format!("it was begun as {begun:x?}, expected {expected:x?}"));
    }
    let right = |states: &States| {
        let among = candidates(states, reads);
        match (reads, template.read_policy) {
            (false, _) => begun.begun == among.0 & !begun.kept && among.any(),
            (true, _) if begun.kept != 0 => begun.begun == 0,
            (true, ReadPolicy::Preferred(first)) if among.has(first.into()) => begun.begun == 1 << first,
            (true, ReadPolicy::Preferred(_)) => begun.begun == among.0 & among.0.wrapping_neg(),
            (true, ReadPolicy::LeastOutstanding) => {
                begun.begun.is_power_of_two() && run.least.numbers().any(|least| begun.begun == 1 << least)
            }
            (true, ReadPolicy::RoundRobin) => {
                begun.begun.is_power_of_two() && Components(begun.begun).without(among) == Components::NONE
            }
        }
    };
    if handed_over {
        let found = seen.iter().any(|states| fits(begun, states)) && begun.begun == 0;
        return found.then_some(()).ok_or_else(|| format!("it was begun as {begun:x?}: {seen:x?}"));
    }
    if begun.begun | begun.kept != 0 && seen.iter().filter(|states| fits(begun, states)).any(right) {
        Ok(())
    } else {
        let least = run.least;
        Err(format!(
            "it was begun as {begun:x?}, but the states were {seen:x?}, the least busy ones {least:?}"
        ))
    }
}
