//! The control path of a run: it answers records, late and at random, and changes the states and templates of
//! disks while commands are under way. SSDs get their faults here, too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rand::seq::IndexedRandom;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane::software::{Admission, Components};
use volplane_abi::plan::{component_state, reason, COMPONENTS_MAX, RESTART_ALL, TIME_OUT_SHIFT};
use volplane_abi::tables::table;
use volplane_abi::{opcode, PlanState, SubmissionEntry};
use volplane_driver::{CardError, ExceptionRecord, PlanHandle, TableWrite};
use volplane_sim::SimHandle;

use super::judgement::kept;
use super::{Pending, Session};
use crate::harness::faults::Weather;
use crate::harness::mirrors::{Mirror, States, PLANS};
use crate::harness::plan_judge::{candidates, Expected};
use crate::harness::plan_story::{CommandKey, Given, Story};

/// Longest that a record waits for its answer, in simulated ns.
const ANSWER_NS: u64 = 100_000;
/// Times that records are looked for at the end, each after `LOOK_NS`.
const LOOKS: u32 = 64;
const LOOK_NS: u64 = 5_000;

/// What a record must say.
pub(super) struct Told {
    expected: Expected,
    command: SubmissionEntry,
    slot: u16,
    blocks: u32,
    /// Of a range that is refused, it is open what the card has read of it.
    is_open: bool,
    /// It was admitted in this epoch, or later.
    epoch: u32,
}

/// A plan that waits for an answer.
pub(super) struct Waiting {
    command: CommandKey,
    plan: PlanHandle,
    due_ns: u64,
    held: bool,
}

/// The control path.
pub(super) struct ControlPath {
    random: ChaCha8Rng,
    waiting: Vec<Waiting>,
    /// Handles that records named.
    handles: BTreeSet<PlanHandle>,
    /// By disk and component: the first command that was sent when it was write-only.
    write_only: BTreeMap<(u32, usize), u64>,
    /// The number of the next template.
    next_plan: u16,
    weather: Weather,
}

impl ControlPath {
    pub(super) fn new(random: ChaCha8Rng, mirrors: &[Mirror]) -> Self {
        Self {
            random,
            waiting: Vec::new(),
            handles: BTreeSet::new(),
            write_only: BTreeMap::new(),
            next_plan: mirrors.iter().map(|mirror| mirror.plan).max().unwrap_or(0),
            weather: Weather::default(),
        }
    }

    /// All faults end.
    pub(super) fn end_weather(&mut self, handle: &SimHandle) {
        self.weather.end(handle);
    }

    /// Any plan that waits for its answer.
    pub(super) fn next_waiting(&mut self) -> Option<Waiting> {
        self.waiting.pop()
    }
}

/// The record of a command that was judged.
pub(super) fn told(pending: &Pending, story: &Story, expected: &Expected) -> Told {
    let entry = &pending.entry;
    let admission = pending.asked.as_ref().map(|asked| asked.admission());
    let (lba, blocks) = match admission {
        Some(Admission::Blocks(request)) => (request.lba, request.blocks),
        Some(Admission::Ends(_)) => (entry.starting_lba(), u64::from(entry.block_count_z()) + 1),
        _ => (entry.starting_lba(), 0),
    };
    let is_range = entry.opcode() == opcode::DATASET_MANAGEMENT;
    let is_open = is_range && matches!(admission, Some(Admission::Ends(_)));
    let command = SubmissionEntry::default()
        .with_opcode(entry.opcode())
        .with_command_id(entry.command_id())
        .with_namespace_id(entry.namespace_id())
        .with_prp1(entry.prp1())
        .with_prp2(entry.prp2())
        .with_starting_lba(lba)
        .with_block_count_z(blocks.saturating_sub(1) as u16)
        .with_deallocate(entry.deallocate())
        .with_force_unit_access(entry.force_unit_access())
        .with_limited_retry(entry.limited_retry())
        .with_cdw13(entry.cdw13());
    Told {
        expected: expected.clone(),
        command,
        slot: story.slot(),
        blocks: blocks as u32,
        is_open,
        epoch: pending.epoch,
    }
}

impl Told {
    /// `newest`: the epoch of now, or a later one.
    fn check(&self, queue: u16, found: &ExceptionRecord, newest: u32) -> Result<(), String> {
        if !(self.epoch..=newest).contains(&found.tail.epoch()) {
            return Err(format!("epoch {}, not {} to {newest}", found.tail.epoch(), self.epoch));
        }
        let tail = self
            .expected
            .tail
            .with_slot(self.slot)
            .with_queue(queue)
            .with_command_id(self.command.command_id())
            .with_blocks(self.blocks)
            .with_epoch(found.tail.epoch())
            .with_generation(found.tail.generation())
            .with_phase(found.tail.phase());
        // While nobody knows how it ends, its status says nothing.
        let tail = if tail.owned() == 1 { tail.with_status(found.tail.status()) } else { tail };
        let (mut command, mut tail) = (self.command, tail);
        if self.is_open {
            command = command.with_starting_lba(found.command.starting_lba());
            command = command.with_block_count_z(found.command.block_count_z());
            tail = tail.with_blocks(found.tail.blocks());
        }
        let expected = ExceptionRecord { command, components: self.expected.components, tail };
        if *found == expected {
            return Ok(());
        }
        Err(format!("the record is {found:x?}\nexpected {expected:x?}"))
    }
}

impl Session {
    /// What the control path does at one go.
    pub(super) fn control(&mut self) {
        if !self.is_mirrored() {
            return;
        }
        if self.control.random.random_ratio(1, 4) {
            self.take_records();
        }
        let now_ns = self.machine.handle.now_ns();
        let due = self.control.waiting.iter().position(|waiting| waiting.due_ns <= now_ns);
        if let Some(due) = due {
            let waiting = self.control.waiting.swap_remove(due);
            self.answer(&waiting);
        }
        if self.control.random.random_ratio(1, 30) {
            self.interfere();
        }
        if self.control.random.random_ratio(1, 40) {
            self.change_states(false);
        }
        if self.control.random.random_ratio(1, 80) {
            self.switch_template();
        }
        if self.control.random.random_ratio(1, 60) {
            self.commit(None);
        }
        let configuration = &self.machine.configuration;
        let queues = configuration.routes.iter().map(|route| (configuration.ssd(route.ssd), route.queue));
        let paths: Vec<(String, u16)> = queues.map(|(ssd, queue)| (ssd.to_owned(), queue)).collect();
        let hurried = configuration.is_hurried().then(|| configuration.tick_ns() << TIME_OUT_SHIFT);
        let ControlPath { random, weather, .. } = &mut self.control;
        if let Some(met) = weather.change(random, &self.machine.handle, &paths, hurried) {
            self.coverage.met(met);
        }
        self.look_after_paths();
    }

    pub(super) fn take_records(&mut self) {
        let most = self.control.random.random_range(1..=32);
        let records = self.machine.card.take_exceptions(most);
        let records = records.unwrap_or_else(|error| self.fail(&error.to_string(), None));
        if records.is_empty() {
            return;
        }
        if let Err(what) = self.hear() {
            self.fail(&what, None);
        }
        for record in records {
            if record.tail.fence() == 1 {
                self.fence_asked(&record);
                continue;
            }
            let command = (record.tail.queue(), record.tail.command_id());
            let mut pending = self.pending.remove(&command);
            if let Err(what) = self.record(command, pending.as_mut(), &record) {
                self.fail(&format!("{what}\n{record:x?}"), pending.as_ref());
            }
            if let Some(pending) = pending {
                self.pending.insert(command, pending);
            }
        }
    }

    /// Compares a record; `pending`: its command, if that was not completed.
    fn record(
        &mut self,
        command: CommandKey,
        pending: Option<&mut Pending>,
        record: &ExceptionRecord,
    ) -> Result<(), String> {
        if !self.control.handles.insert(record.handle()) {
            return Err("the plan's name is an old one".into());
        }
        if let Some(told) = self.told.remove(&command) {
            return told.check(command.0, record, self.epochs.commits);
        }
        let pending = pending.ok_or("a record of no command")?;
        if pending.decided.is_some() || pending.logged {
            return Err("a second record of a command".into());
        }
        let story = self.stories.get(command).ok_or("a record of no plan")?.clone();
        let outcome = self.judge(pending, story.run(), None)?;
        let expected = outcome.record.as_ref().ok_or_else(|| format!("no record was due: {outcome:x?}"))?;
        told(pending, &story, expected).check(command.0, record, self.epochs.commits)?;
        if !outcome.is_decided_later() {
            pending.logged = true;
            return Ok(());
        }
        self.epochs.leave(command);
        let held = record.tail.held() == 1;
        if !held {
            self.note_written(pending, story.run(), &outcome, u64::MAX);
        }
        let status = outcome.status;
        pending.decided = Some((outcome, status));
        let due_ns = self.machine.handle.now_ns() + self.control.random.random_range(0..ANSWER_NS);
        self.control.waiting.push(Waiting { command, plan: record.handle(), due_ns, held });
        Ok(())
    }

    /// Takes what records are left, all of which must be due.
    pub(super) fn take_last_records(&mut self) {
        for _ in 0..LOOKS {
            if self.told.is_empty() {
                break;
            }
            self.take_records();
            self.machine
                .handle
                .run_for_ns(LOOK_NS)
                .unwrap_or_else(|error| self.fail(&error.to_string(), None));
        }
        if let Some((command, told)) = self.told.first_key_value() {
            self.fail(&format!("no record came of {command:?}: {:x?}", told.expected), None);
        }
        self.take_records();
    }

    /// Answers a record: rightly, and now and then wrongly before, or once more after.
    pub(super) fn answer(&mut self, waiting: &Waiting) {
        let &Waiting { command, plan, held, .. } = waiting;
        let random = &mut self.control.random;
        let (wrong, stale, twice) =
            (random.random_bool(0.15), random.random_bool(0.15), random.random_bool(0.3));
        let mut choice = random.random_range(0..4);
        let status = kept(random.random::<u16>());
        if !held && self.calm.as_mut().is_some_and(|calm| !calm.may_give_back(command)) {
            choice = 0;
        }
        if stale {
            let old = PlanHandle { generation: plan.generation ^ 1 << (status % 32), ..plan };
            self.expect_problem(command, "it is gone", |session| session.complete_plan(old, status));
        }
        if wrong && held {
            let ended = "it has ended and waits to be released";
            self.expect_problem(command, ended, |session| session.resubmit_plan(plan, 0));
        } else if wrong {
            let problem = "it is not the control path's to decide in this way";
            self.expect_problem(command, problem, |session| session.release_plan(plan));
        }
        let answered = match (held, choice) {
            (true, 0) | (false, 0 | 1) => {
                self.decide(command, status);
                self.coverage.met("a plan completed by the control path");
                self.complete_plan(plan, status)
            }
            (true, _) => {
                self.make_durable(command);
                self.coverage.met("a plan released");
                self.release_plan(plan)
            }
            (false, _) => {
                self.give_back(command, plan);
                self.coverage.met("a plan resubmitted");
                Ok(())
            }
        };
        if let Err(error) = answered {
            self.fail(&format!("{plan:x?} was answered with {error}"), self.pending.get(&command));
        }
        if twice {
            self.expect_problem(command, "it is gone", |session| session.complete_plan(plan, status));
        }
    }

    /// Takes over a plan that is under way, or aborts it, if it has not ended by then.
    fn interfere(&mut self) {
        if let Err(what) = self.hear() {
            self.fail(&what, None);
        }
        let mut slots: Vec<u16> = self.pending.keys().filter_map(|&command| self.begun_in(command)).collect();
        slots.sort_unstable();
        let Some(&slot) = slots.choose(&mut self.control.random) else { return };
        let (card, platform) = (&mut self.machine.card, &mut self.machine.platform);
        let state = card.table_record(platform, table::PLAN_STATE, slot.into());
        let state: PlanState = state.unwrap_or_else(|error| self.fail(&error.to_string(), None));
        // Whoever has the slot now had it when the card looked, if the name fits.
        if let Err(what) = self.hear() {
            self.fail(&what, None);
        }
        let Some(command) = self.stories.at(slot).filter(|command| self.pending.contains_key(command)) else {
            return;
        };
        if state.live() == 0 || state.owned() == 1 || state.held() == 1 {
            return;
        }
        let plan = PlanHandle { slot, generation: state.generation() };
        let aborts = self.control.random.random_bool(0.4);
        let card = &mut self.machine.card;
        let done = match aborts {
            true => card.abort_plan(&mut self.machine.platform, plan),
            false => card.take_over_plan(&mut self.machine.platform, plan),
        };
        let run = self.stories.get(command).expect("it has a slot").run();
        let twice = !aborts && run.taken;
        match done {
            Ok(()) if !run.aborted && !twice => self.stories.interfere(command, aborts),
            Err(CardError::Plan { problem: "it is gone", .. }) => {}
            Err(CardError::Plan { problem: "it was aborted before", .. }) if run.aborted => {}
            Err(CardError::Plan { problem, .. })
                if twice && !run.aborted && problem.contains("asked for it") => {}
            other => self.fail(&format!("answered with {other:?}: {run:x?}"), self.pending.get(&command)),
        }
    }

    /// The slot of a command whose plan was begun, and is not the control path's.
    fn begun_in(&self, command: CommandKey) -> Option<u16> {
        let pending = &self.pending[&command];
        let story = self.stories.get(command).filter(|_| pending.decided.is_none() && !pending.logged)?;
        story.run().begun.map(|_| story.slot())
    }

    fn decide(&mut self, command: CommandKey, status: u16) {
        let pending = self.pending.get_mut(&command).expect("it waits");
        pending.decided.as_mut().expect("its record was taken").1 = status;
    }

    fn expect_problem(
        &mut self,
        command: CommandKey,
        expected: &str,
        act: impl FnOnce(&mut Self) -> Result<(), CardError>,
    ) {
        match act(self) {
            Err(CardError::Plan { problem, .. }) if problem == expected => {
                self.coverage.met(expected_name(problem))
            }
            other => self.fail(&format!("answered with {other:?}: {expected}"), self.pending.get(&command)),
        }
    }

    fn complete_plan(&mut self, plan: PlanHandle, status: u16) -> Result<(), CardError> {
        self.machine.card.complete_plan(&mut self.machine.platform, plan, status)
    }

    fn release_plan(&mut self, plan: PlanHandle) -> Result<(), CardError> {
        self.machine.card.release_plan(&mut self.machine.platform, plan)
    }

    fn resubmit_plan(&mut self, plan: PlanHandle, restart: u8) -> Result<(), CardError> {
        self.machine.card.resubmit_plan(&mut self.machine.platform, plan, restart)
    }

    /// Gives a plan back: some components begin again, or all of them; so they do where some cannot.
    fn give_back(&mut self, command: CommandKey, plan: PlanHandle) {
        if let Err(what) = self.hear() {
            self.fail(&what, None);
        }
        let begun = self.stories.get(command).and_then(|story| story.run().begun).expect("it was begun");
        let decided = self.pending.get_mut(&command).expect("it waits").decided.take();
        let (outcome, _) = decided.expect("its record was taken");
        let told = outcome.record.as_ref().map_or([Default::default(); COMPONENTS_MAX], |it| it.components);
        let all = Components::ALL;
        let mut given = Given { restart: all, parts: outcome.parts, told, plan: begun.plan, view: None };
        let (disk, reads) = (u32::from(begun.disk), begun.is_read);
        let used = candidates(&self.stories.now(disk), reads);
        let random = &mut self.control.random;
        let due = if reads { Components::NONE } else { used.without(given.results()) };
        let more = Components(random.random::<u8>() & random.random::<u8>() & random.random::<u8>());
        given.restart = match random.random_range(0..10) {
            0..3 => all,
            3 => more,
            4..6 => due.or(more.and(used)),
            _ => due,
        };
        if given.restart != all {
            let restart = given.restart;
            self.stories.resubmit(command, Some(given.clone()));
            let answered = self.resubmit_plan(plan, restart.0);
            if let Err(what) = self.hear() {
                self.fail(&what, None);
            }
            // The card looked at the states before it answered.
            let refused = answered.is_err();
            let view = match refused {
                true => self.stories.resubmit(command, None),
                false => self.stories.get(command).and_then(|it| it.run().given.as_ref()?.view),
            };
            let used = candidates(&view.unwrap_or_else(|| self.fail("it did not look", None)), reads);
            let due = if reads { Components::NONE } else { used.without(given.results()) };
            let wrong = restart.without(used).or(due.without(restart)).any();
            let expected = match (self.stories.plan_now(disk) != begun.plan, wrong) {
                (true, _) => Some("its disk has another template than when it was begun"),
                (false, true) => Some("a component cannot be restarted, or must be"),
                (false, false) => None,
            };
            let problem = match answered {
                Ok(()) => None,
                Err(CardError::Plan { problem, .. }) => Some(problem),
                Err(error) => self.fail(&error.to_string(), self.pending.get(&command)),
            };
            if problem != expected {
                let what = format!("restart of {restart:?} was answered with {problem:?}: {expected:?}");
                self.fail(&what, self.pending.get(&command));
            }
            self.coverage.met(problem.unwrap_or("a plan resubmitted in part"));
            if problem.is_none() {
                return;
            }
        }
        self.stories.resubmit(command, Some(Given { restart: all, view: None, ..given }));
        if let Err(error) = self.resubmit_plan(plan, RESTART_ALL) {
            self.fail(&format!("{plan:x?} was answered with {error}"), self.pending.get(&command));
        }
    }

    /// Says of components that a held write missed that their being out is durable.
    fn make_durable(&mut self, command: CommandKey) {
        let decided = self.pending[&command].decided.as_ref();
        let record = decided.and_then(|(outcome, _)| outcome.record.as_ref()).expect("it is held");
        if record.tail.reasons() & reason::MISSED_WRITE == 0 {
            return;
        }
        let disk = u32::from(record.tail.disk());
        let now = self.stories.now(disk);
        let out = now.those(&[component_state::OUT]).0;
        self.write_states(disk, States { durably_out: out, ..now }, out);
    }

    pub(super) fn cycle(&self) -> u64 {
        self.machine.handle.counters().cycles_evaluated
    }

    fn write_states(&mut self, disk: u32, states: States, select: u8) {
        if let Err(what) = self.hear() {
            self.fail(&what, None);
        }
        let now = self.stories.now(disk);
        let differs = |number: &usize| {
            let durable = |states: &States| Components(states.durably_out).has(*number);
            now.states[*number] != states.states[*number] || durable(&now) != durable(&states)
        };
        let select = Components(select).numbers().filter(differs).fold(0, |bits, number| bits | 1 << number);
        let reactivate = now.deactivated && !states.deactivated;
        if select == 0 && !reactivate {
            return;
        }
        self.stories.begin_write(self.cycle(), disk, states, select, reactivate);
        let entry = states.entry(select, reactivate);
        let card = &mut self.machine.card;
        card.table_write(&mut self.machine.platform, table::STATES, disk, &entry.0)
            .expect("the states are written");
        if let Err(what) = self.hear() {
            self.fail(&what, None);
        }
        self.stories.end_write(self.cycle());
    }

    /// Changes the states of a disk's components as a control path may: takes some out, brings others back by way
    /// of write-only, and lets the disk be used again. `quiet`: nothing is under way.
    fn change_states(&mut self, quiet: bool) {
        let mirrors: Vec<u32> = self.machine.configuration.mirrors.iter().map(|mirror| mirror.disk).collect();
        let &disk = mirrors.choose(&mut self.control.random).expect("mirrored disks");
        self.change_states_of(disk, quiet);
    }

    fn change_states_of(&mut self, disk: u32, quiet: bool) {
        let now = self.stories.now(disk);
        let mut wished =
            States { deactivated: now.deactivated && self.control.random.random_bool(0.2), ..now };
        let mut select = 0;
        let mut left = now.those(&[component_state::IN_SYNC]).count();
        let nobody = left == 0 && quiet;
        for number in 0..now.states.len() {
            let drawn = self.control.random.random_range(0..100);
            let state = match (now.states[number], drawn) {
                // Nothing can be copied to it.
                (component_state::OUT, _) if !self.is_reachable(disk, number) => component_state::OUT,
                (component_state::OUT, 0..60) => component_state::WRITE_ONLY,
                (component_state::OUT, _) => component_state::OUT,
                (component_state::WRITE_ONLY, 0..70) if self.may_sync(disk, number, &wished, nobody) => {
                    self.note_synced(disk, number);
                    component_state::IN_SYNC
                }
                (component_state::IN_SYNC, 0..4) if left > 1 => {
                    left -= 1;
                    component_state::OUT
                }
                (component_state::WRITE_ONLY, 95..) => component_state::OUT,
                _ => continue,
            };
            if state == component_state::WRITE_ONLY {
                self.control.write_only.insert((disk, number), self.sent);
            }
            if !quiet && state != now.states[number] {
                self.coverage.met("a state changed under load");
            }
            wished.states[number] = state;
            select |= 1 << number;
        }
        // Who is taken out by the control path is out durably.
        let out = wished.those(&[component_state::OUT]).0;
        wished.durably_out = (wished.durably_out | out & select) & !(select & !out);
        self.write_states(disk, wished, select);
    }

    /// Copies what a component missed, as far as nobody writes there; whether it is as good as those in sync, and those
    /// that will be with it. `alone`: there is none in sync, it becomes the first.
    fn may_sync(&mut self, disk: u32, number: usize, wished: &States, alone: bool) -> bool {
        let since = self.control.write_only.get(&(disk, number)).copied().unwrap_or(0);
        let under_way = self.pending.values().filter(|pending| {
            let harmless = [opcode::READ, opcode::COMPARE, opcode::FLUSH];
            pending.claim.disk == disk && !harmless.contains(&pending.entry.opcode())
        });
        let mut busy: Vec<Range<u64>> = Vec::new();
        for pending in under_way {
            // Begun when it was out, maybe.
            if pending.serial < since {
                return false;
            }
            busy.push(pending.claim.lba..pending.claim.lba + pending.claim.blocks);
        }
        let in_sync = wished.those(&[component_state::IN_SYNC]);
        if !in_sync.any() && !alone {
            return false;
        }
        let sources = if in_sync.any() { in_sync } else { Components(!(1 << number)) };
        if in_sync.or(Components::one(number)).numbers().any(|number| !self.is_reachable(disk, number)) {
            return false;
        }
        let place = (&self.machine.configuration, &self.machine.handle);
        self.volumes.bring_up(place, &mut self.media, (disk, number, sources), &busy)
    }

    /// Gives a disk another template while it is used.
    fn switch_template(&mut self) {
        let mirrors = &mut self.machine.configuration.mirrors;
        let random = &mut self.control.random;
        let number = random.random_range(0..mirrors.len());
        let used = |plan: u16| mirrors.iter().any(|mirror| mirror.templates.contains_key(&plan));
        let Some(plan) =
            (1..=PLANS).map(|step| (self.control.next_plan + step - 1) % PLANS + 1).find(|&plan| !used(plan))
        else {
            return;
        };
        self.control.next_plan = plan;
        let mirror = &mut mirrors[number];
        let (disk, mut writes) = (mirror.disk, mirror.another(random, plan));
        let since = self.cycle();
        let tables = &mut self.machine.configuration.tables;
        let entry = tables.vds[&disk].with_plan(plan);
        tables.vds.insert(disk, entry);
        let commits = self.control.random.random_bool(0.5);
        if !commits {
            writes.push(TableWrite::new(table::VD, disk, &entry.0));
        }
        self.machine
            .card
            .table_write_all(&mut self.machine.platform, writes)
            .expect("the tables are written");
        self.stories.paths.learn(plan, &self.machine.configuration.mirrors[number].templates[&plan]);
        match commits {
            true => self.commit(Some((disk, plan))),
            false => self.stories.switch((since, self.cycle()), disk, plan),
        }
        self.coverage.met("a template switched under load");
    }

    /// Does what a control path would between two batches, and reads all states back.
    pub(super) fn resynchronise(&mut self) {
        if self.is_mirrored() {
            self.close_epochs();
        }
        self.control.end_weather(&self.machine.handle);
        let mirrors: Vec<u32> = self.machine.configuration.mirrors.iter().map(|mirror| mirror.disk).collect();
        for disk in mirrors {
            if self.control.random.random_bool(0.8) {
                self.change_states_of(disk, true);
                self.change_states_of(disk, true);
            }
        }
        for (disk, found) in self.machine.component_states() {
            let expected = self.stories.now(disk);
            if found != expected {
                self.fail(&format!("disk {disk} is {found:?}, expected {expected:?}"), None);
            }
        }
    }
}

/// What a refusal is in the coverage.
fn expected_name(problem: &str) -> &'static str {
    if problem == "it is gone" {
        "a plan that is gone"
    } else {
        "a plan not to be decided so"
    }
}
