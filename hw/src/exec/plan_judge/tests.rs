use std::collections::{BTreeMap, VecDeque};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::control_opcode;
use volplane_abi::plan::{reason, status_class, StatusClass};

use super::*;
use crate::bench::{seeded, Bench};
use crate::exec::mask_verdict::tests::expected as rules;
use crate::exec::mask_verdict::{MaskVerdict, PlanSets};
use crate::exec::stop_cause::{cause, DIVERT, FAULT, NOT_EXECUTABLE, STOPPED};
use crate::records::PlanMasks;

/// Slots; plan i is one of disk i.
const SLOTS: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Free,
    Running,
    /// A further copy is to be asked for.
    Asking,
    /// Posted, and to be answered after.
    Posted,
    Held,
    Owned,
}

/// What is owed to the outside for a plan.
#[derive(Default, Debug)]
struct Owed {
    /// Changes of its disk: components out, deactivation.
    changes: VecDeque<(u64, bool)>,
    again: Option<(u64, bool)>,
    item: Option<RecordItem>,
    done: Option<u64>,
    unlock: bool,
}

impl Owed {
    fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.again.is_none()
            && self.item.is_none()
            && self.done.is_none()
            && !self.unlock
    }
}

struct Plan {
    stage: Stage,
    begun: PlanBegun,
    /// Parts that will end.
    parts: Vec<End>,
    done: u8,
    failed: u8,
    refused: u8,
    stopped: u8,
    /// Reasons to stop it.
    stops: u16,
    /// Some part failed with a fragment that was given up.
    given_up: bool,
    halted: bool,
    aborted: bool,
    /// The epochs were told that the control path has it.
    handed: bool,
    statuses: [u64; 8],
    hands: u8,
    status: u64,
    deactivated: bool,
    owed: Owed,
    /// Nothing of it is begun: it is to be judged by what it has kept.
    resumes: bool,
    /// What it keeps when it is begun again.
    keeps: u8,
}

/// How a component's part ends: its status, whether the card gave that, the cause if it was stopped, and whether its
/// fragment was given up.
#[derive(Clone, Copy, Debug)]
struct End {
    component: u64,
    status: u64,
    closed: bool,
    stop: Option<u16>,
    given_up: bool,
}

impl End {
    fn random(random: &mut ChaCha8Rng, component: u64) -> Self {
        let (status, closed) = status(random);
        let stop = random.random_bool(0.05).then(|| [STOPPED, FAULT][random.random_range(0..2)]);
        // What has failed may be stopped besides.
        let status = if stop.is_some() && random.random_bool(0.7) { 0 } else { status };
        let given_up = status % 3 == 1;
        Self { component, status, closed, stop, given_up }
    }

    fn is_good(&self) -> bool {
        self.status == 0
    }
}

fn in_sync(states: u64) -> u8 {
    (0..8).filter(|i| states >> (2 * i) & 3 == 1).fold(0, |bits, i| bits | 1 << i)
}

/// Components that a plan goes to, or may go to one of.
fn used(states: u64, is_read: bool) -> u8 {
    let is_used = |i: &u32| matches!((states >> (2 * i) & 3, is_read), (1, _) | (2, false));
    (0..8).filter(is_used).fold(0, |bits, i| bits | 1 << i)
}

fn moved_out(states: u64, out: u64) -> u64 {
    let moved = (0..8).filter(|i| out >> i & 1 == 1 && states >> (2 * i) & 3 != 0);
    moved.fold(states, |states, i| states | 3 << (2 * i))
}

fn status(random: &mut ChaCha8Rng) -> (u64, bool) {
    match random.random_range(0..10) {
        0..=5 => (0, false),
        6 => (0x285, false),
        7 => (0x4080, true),
        8 => (0x4006, true),
        _ => (random.random_range(1..0x800u64) | 0x4000, false),
    }
}

/// `before`: it is given back with what that one keeps.
fn begin(
    random: &mut ChaCha8Rng,
    (slot, sequence): (usize, u64),
    states: &mut u64,
    durable: &mut u8,
    before: Option<&Plan>,
) -> Plan {
    *states = random.random::<u16>().into();
    *durable = random.random::<u8>() | random.random::<u8>();
    let of =
        |state: u64| (0..8).filter(|i| *states >> (2 * i) & 3 == state).fold(0u8, |bits, i| bits | 1 << i);
    let (readable, write_only, out) = (of(1), of(2), of(3));
    if readable == 0 {
        *states |= 1;
        *states &= !2;
    }
    let readable = in_sync(*states);
    let write_only = write_only & !readable;
    let present = readable | write_only | (out & !readable);
    let is_read = before.map_or(random.random_bool(0.4), |plan| plan.begun.is_read.any());
    let kept = before.map_or(0, |plan| plan.keeps);
    let begun = match is_read {
        true if kept != 0 => 0,
        true => readable & readable.wrapping_neg(),
        false => (readable | write_only) & !kept,
    };
    // What hardware does not execute begins nothing, and ends in component 0.
    let foreign = kept == 0 && random.random_bool(0.05);
    let begun = if foreign { 0 } else { begun };
    let mask =
        |random: &mut ChaCha8Rng| random.random::<u8>() | if random.random_bool(0.5) { 0xFF } else { 0 };
    let rare =
        |random: &mut ChaCha8Rng| random.random::<u8>() & random.random::<u8>() & random.random::<u8>();
    let masks = PlanMasks {
        continuation: u64::from(mask(random)).to_bits(),
        success: u64::from(rare(random)).to_bits(),
        log: u64::from(rare(random)).to_bits(),
        log_with_data: u64::from(rare(random)).to_bits(),
        deactivate: u64::from(rare(random)).to_bits(),
    };
    let minimum = random.random_range(0..3u64);
    let missing = present & !begun & !*durable != 0;
    let enough = u64::from(readable.count_ones()) >= minimum && !missing;
    let begun_record = PlanBegun {
        disk: (slot as u64).to_bits(),
        plan: random.random_range(1..9u64).to_bits(),
        sequence: sequence.to_bits(),
        epoch: random.random_range(0..9u64).to_bits(),
        masks: masks.into(),
        present: u64::from(present).to_bits(),
        readable: u64::from(readable).to_bits(),
        begun: u64::from(begun).to_bits(),
        minimum: minimum.to_bits(),
        is_read: u64::from(is_read).to_bits(),
        simple: u64::from(kept == 0 && (is_read || enough)).to_bits(),
        locked: u64::from(!is_read && random.random_bool(0.7)).to_bits(),
        kept: u64::from(kept).to_bits(),
        ..Default::default()
    };
    let mut parts: Vec<End> =
        (0..8).filter(|i| begun >> i & 1 == 1).map(|component| End::random(random, component)).collect();
    if foreign {
        let stop = Some([NOT_EXECUTABLE, DIVERT][random.random_range(0..2)]);
        parts.push(End { component: 0, status: 0, closed: true, stop, given_up: false });
    }
    Plan {
        stage: Stage::Running,
        begun: begun_record,
        resumes: parts.is_empty(),
        keeps: 0,
        parts,
        done: before.map_or(0, |plan| plan.done & kept),
        failed: before.map_or(0, |plan| plan.failed & kept),
        refused: before.map_or(0, |plan| plan.refused & kept),
        stopped: 0,
        stops: 0,
        given_up: false,
        halted: false,
        aborted: false,
        handed: false,
        statuses: before.map_or([0; 8], |plan| plan.statuses),
        hands: 0,
        status: 0,
        deactivated: false,
        owed: Owed::default(),
    }
}

impl Plan {
    fn item(&self, slot: usize, verdict: &MaskVerdict, completes: bool, status: u64) -> RecordItem {
        let bits = |set: u8| u64::from(set).to_bits();
        let bit = |on: bool| u64::from(on).to_bits();
        let time_out = if self.given_up { reason::TIME_OUT } else { 0 };
        RecordItem {
            slot: (slot as u64).to_bits(),
            generation: self.generation().to_bits(),
            reasons: verdict.reasons | u64::from(self.stops | time_out).to_bits(),
            disk: self.begun.disk,
            plan: self.begun.plan,
            epoch: self.begun.epoch,
            begun: bits(self.begun.begun.to_u64() as u8 | self.ended()),
            done: bits(self.done),
            failed: bits(self.failed),
            refused: bits(self.refused),
            stopped: bits(self.stopped),
            readable: self.begun.readable,
            present: self.begun.present,
            out: verdict.out,
            owned: bit(self.stage == Stage::Owned),
            held: bit(self.stage == Stage::Held),
            deactivated: bit(self.deactivated),
            completes: bit(completes),
            status: status.to_bits(),
            ..Default::default()
        }
    }

    fn generation(&self) -> u64 {
        self.begun.sequence.to_u64() << 8 | u64::from(self.hands)
    }

    fn ended(&self) -> u8 {
        self.done | self.failed | self.refused | self.stopped
    }

    /// A part of it ends.
    fn ends(&mut self, slot: usize, end: End, states: &mut u64, durable: u8) {
        let bit = 1u8 << end.component;
        self.statuses[end.component as usize] = end.status;
        self.given_up |= end.given_up;
        let own = end.closed && end.status & 0x7FF != 6;
        let is_read = self.begun.is_read.any();
        match (status_class(end.status as u16), end.stop) {
            (StatusClass::Success, None) => self.done |= bit,
            (StatusClass::Success, Some(FAULT)) => {
                self.stopped |= bit;
                self.stops |= if is_read { reason::READ_FAULT } else { reason::WRITE_FAULT };
            }
            (StatusClass::Success, Some(NOT_EXECUTABLE)) => self.stops |= reason::NOT_EXECUTABLE,
            (StatusClass::Success, Some(DIVERT)) => self.stops |= reason::DIVERT,
            (StatusClass::Success, Some(_)) => self.stopped |= bit,
            (StatusClass::Client, _) => self.refused |= bit,
            _ if own => self.refused |= bit,
            _ => self.failed |= bit,
        }
        self.proceeds(slot, end.is_good() && end.stop.is_some(), states, durable);
    }

    /// What comes of it now; `stopped`: it was.
    fn proceeds(&mut self, slot: usize, stopped: bool, states: &mut u64, durable: u8) {
        let is_read = self.begun.is_read.any();
        let running = if is_read { 0 } else { self.begun.begun.to_u64() as u8 & !self.ended() };
        let clean = !self.begun.kept.any()
            && self.failed | self.refused | self.stopped == 0
            && !stopped
            && !self.halted;
        if clean && running != 0 {
            return;
        }
        if clean && self.begun.simple.any() {
            return self.finish(0);
        }
        // It looks at the states, without a change.
        self.owed.changes.push_back((0, false));
        let at_admission = self.begun.readable.to_u64() as u8;
        let readable = if is_read { at_admission & in_sync(*states) } else { at_admission };
        let bits = |set: u8| u64::from(set).to_bits();
        let sets = PlanSets {
            present: self.begun.present,
            readable: bits(readable),
            durably_out: bits(durable),
            running: bits(running),
            done: bits(self.done),
            failed: bits(self.failed),
            refused: bits(self.refused),
            minimum: self.begun.minimum,
            is_read: self.begun.is_read,
            stop: u64::from(self.stops != 0).to_bits(),
        };
        let verdict = rules(&sets, &self.begun.masks.into());
        self.halted |= verdict.drain.any();
        if self.aborted {
            if running == 0 {
                self.finish(0x4007);
            }
            return;
        }
        let deactivates = verdict.deactivate.any() && !self.deactivated;
        let out = if running == 0 { verdict.out.to_u64() } else { 0 };
        if deactivates || out != 0 {
            self.owed.changes.push_back((out, deactivates));
            *states = moved_out(*states, out);
            self.deactivated |= deactivates;
        }
        if running != 0 {
            return;
        }
        let end = match (verdict.success.any(), verdict.nobody.any()) {
            (true, _) => 0,
            (false, true) => 0x4006,
            (false, false) => self.statuses[verdict.component.index()],
        };
        if verdict.exception.any() {
            (self.stage, self.hands) = (Stage::Owned, self.hands + 1);
            self.owed.item = Some(self.item(slot, &verdict, false, end));
            self.owed.unlock = self.begun.locked.any();
        } else if verdict.another.any() {
            self.stage = Stage::Asking;
            self.owed.again = Some((verdict.left.to_u64().trailing_zeros().into(), false));
        } else if verdict.held.any() {
            (self.stage, self.hands, self.status) = (Stage::Held, self.hands + 1, end);
            self.owed.item = Some(self.item(slot, &verdict, false, end));
            self.owed.unlock = self.begun.locked.any();
        } else if verdict.reasons.any() {
            self.stage = Stage::Posted;
            self.owed.item = Some(self.item(slot, &verdict, true, end));
            self.owed.unlock = self.begun.locked.any();
        } else {
            self.finish(end);
        }
    }

    fn finish(&mut self, status: u64) {
        self.stage = Stage::Free;
        self.owed.done = Some(status);
        self.owed.unlock = self.begun.locked.any();
    }
}

fn order(random: &mut ChaCha8Rng, plans: &[Option<Plan>], states: &[u64]) -> PlanOrder {
    let slot = random.random_range(0..SLOTS);
    let owned = plans[slot].as_ref().filter(|plan| plan.stage == Stage::Owned);
    let opcodes = [
        control_opcode::PLAN_RELEASE,
        control_opcode::PLAN_COMPLETE,
        control_opcode::PLAN_RESUBMIT,
        control_opcode::PLAN_TAKE_OVER,
        control_opcode::PLAN_ABORT,
    ];
    let resubmits = owned.is_some() && random.random_bool(0.7);
    let opcode = opcodes[if resubmits { 2 } else { random.random_range(0..5) }];
    let generation = plans[slot].as_ref().map_or(0xFFFF_FF01, Plan::generation);
    let wrong = random.random_bool(0.1);
    // All, whatever comes, or what there has to be and some of the rest.
    let restart = match (random.random_range(0..6), owned) {
        (0 | 1, _) => 0xFF,
        (2, _) | (_, None) => random.random::<u8>(),
        (_, Some(plan)) => {
            let is_read = plan.begun.is_read.any();
            let results = plan.done | plan.failed | plan.refused;
            let more = if random.random_bool(0.5) { 0 } else { random.random::<u8>() };
            used(states[slot], is_read) & (if is_read { 0 } else { !results } | more)
        }
    };
    // A slot beyond all is nobody's, whatever its lower bits say.
    let beyond = random.random_bool(0.05);
    let command = PlanCommand {
        generation: (generation ^ u64::from(wrong)).to_bits(),
        restart: u64::from(restart).to_bits(),
        status: random.random_range(0..0x8000u64).to_bits(),
        ..Default::default()
    };
    PlanOrder {
        opcode: u64::from(opcode).to_bits(),
        slot: (slot as u64 + if beyond { SLOTS as u64 } else { 0 }).to_bits(),
        command: command.into(),
    }
}

/// What the judge was shown of a disk: its states, and the template that it names.
#[derive(Clone, Copy)]
struct View {
    states: u64,
    plan: u64,
}

impl Plan {
    /// The answer to an order, and what it does. `view`: what it looked at for that.
    fn obeys(&mut self, order: &PlanOrder, view: Option<View>) -> u64 {
        let command = PlanCommand::from(order.command);
        let restart = command.restart.to_u64() as u8;
        let resubmits = order.opcode.to_u64() as u8 == control_opcode::PLAN_RESUBMIT;
        let fits = command.generation.to_u64() == self.generation() && self.stage == Stage::Owned;
        assert_eq!(view.is_some(), resubmits && fits && restart != 0xFF, "it looks when it has to");
        if command.generation.to_u64() != self.generation() || self.stage == Stage::Free {
            return 0x1C0;
        }
        assert!(self.stage != Stage::Asking, "it is done with a plan before it looks at an order");
        match (order.opcode.to_u64() as u8, self.stage) {
            (_, Stage::Posted) => return 0x1C0,
            (control_opcode::PLAN_RELEASE, Stage::Held) => self.owed.done = Some(self.status),
            (control_opcode::PLAN_COMPLETE, Stage::Held | Stage::Owned) => {
                self.owed.done = Some(command.status.to_u64());
            }
            (control_opcode::PLAN_RELEASE | control_opcode::PLAN_COMPLETE, _) => return 0x1C1,
            (control_opcode::PLAN_RESUBMIT, Stage::Held) => return 0x1C3,
            (control_opcode::PLAN_RESUBMIT, Stage::Owned) => {
                self.keeps = 0;
                if let Some(view) = view {
                    let is_read = self.begun.is_read.any();
                    let used = used(view.states, is_read);
                    let results = self.done | self.failed | self.refused;
                    if view.plan != self.begun.plan.to_u64() {
                        return 0x1C6;
                    }
                    if restart & !used != 0 || !is_read && used & !restart & !results != 0 {
                        return 0x1C5;
                    }
                    self.keeps = used & results & !restart;
                }
                self.owed.again = Some((0, true));
                return 0;
            }
            (control_opcode::PLAN_RESUBMIT, _) => return 0x1C1,
            (_, Stage::Running) if self.aborted => return 0x1C4,
            (control_opcode::PLAN_TAKE_OVER, Stage::Held) => return 0x1C3,
            (control_opcode::PLAN_TAKE_OVER, Stage::Running) if self.stops & reason::TAKE_OVER == 0 => {
                (self.stops, self.halted) = (self.stops | reason::TAKE_OVER, true);
                return 0;
            }
            (control_opcode::PLAN_TAKE_OVER, _) => return 0x1C2,
            (_, Stage::Running) => {
                (self.aborted, self.halted) = (true, true);
                return 0;
            }
            _ => self.owed.done = Some(0x4007),
        }
        self.stage = Stage::Free;
        0
    }
}

#[test]
fn plans_end_as_the_masks_say() {
    let sizes = Sizes { slot_bits: SLOTS.ilog2() as usize, ..Sizes::DEFAULT };
    let mut bench = Bench::new("plan_judge", PlanJudge::new(&sizes));
    let mut random = seeded();
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    let mut plans: Vec<Option<Plan>> = (0..SLOTS).map(|_| None).collect();
    let mut states = [0u64; SLOTS];
    let mut durable = [0u8; SLOTS];
    let mut sequence = 0;
    let mut offered: Option<(usize, End)> = None;
    let mut change_due: Option<(u32, usize)> = None;
    let mut plan_now = 0u64;
    let mut ordered: Option<(u32, PlanOrder)> = None;
    // What the judge looked at for an order.
    let mut view: Option<View> = None;
    // Plans that are begun and go on with what there is, and when they say so.
    let mut resumed: Option<(u32, usize)> = None;
    // Which plans issue nothing more, as those that issue were told.
    let mut stops = [false; SLOTS];
    // The part whose end was taken last: that it is over is told two cycles later.
    let mut over: Option<(u32, PartOver)> = None;
    let mut singles: VecDeque<PlanDone> = VecDeque::new();
    let mut counts = BTreeMap::<&str, u32>::new();
    let mut answers = BTreeMap::<u64, u32>::new();
    for cycle in 0..400_000u32 {
        let draining = cycle > 398_000;
        // A plan begins where none is.
        bench.set("begun_valid", 0);
        let slot = random.random_range(0..SLOTS);
        let keeps = plans[slot].as_ref().is_some_and(|plan| plan.keeps != 0);
        if plans[slot].as_ref().is_none_or(|plan| plan.stage == Stage::Free && plan.owed.is_empty())
            && bench.get("initialised") == 1
            && !(draining || keeps && resumed.is_some())
        {
            sequence = (sequence + 1) % (1 << 24);
            // Now and then it begins whole all the same.
            let before = plans[slot].take().filter(|plan| plan.keeps != 0 && random.random_bool(0.9));
            let place = (slot, sequence);
            let plan = begin(&mut random, place, &mut states[slot], &mut durable[slot], before.as_ref());
            if plan.resumes {
                resumed = Some((cycle + 2 + random.random_range(0..4), slot));
            }
            *counts.entry("begun with results").or_default() += u32::from(plan.begun.kept.any());
            bench.set("begun_valid", 1);
            bench.set("begun_slot", slot as u128);
            bench.set_record::<168>("begun", plan.begun);
            plans[slot] = Some(plan);
        } else if offered.is_none() {
            // A part ends.
            let slot = random.random_range(0..SLOTS);
            if let Some(plan) = plans[slot].as_mut().filter(|plan| plan.stage == Stage::Running) {
                if !plan.parts.is_empty() {
                    let which = random.random_range(0..plan.parts.len());
                    offered = Some((slot, plan.parts.swap_remove(which)));
                }
            }
        }
        bench.set("part$valid", offered.is_some_and(|(_, end)| end.is_good()).into());
        bench.set("failed$valid", offered.is_some_and(|(_, end)| !end.is_good()).into());
        if let Some((slot, end)) = offered {
            let done = PartDone {
                part: (end.component << 12 | slot as u64).to_bits(),
                status: end.status.to_bits(),
                closed: u64::from(end.closed).to_bits(),
                path: random.random_range(0..9u64).to_bits(),
                ordinal: random.random_range(0..9u64).to_bits(),
                failed: u64::from(!end.is_good()).to_bits(),
                stopped: u64::from(end.stop.is_some()).to_bits(),
                cause: end.stop.map_or(0, cause).to_bits(),
                given_up: u64::from(end.given_up).to_bits(),
            };
            bench.set_record::<62>("part$data", done);
            bench.set_record::<62>("failed$data", done);
        }
        let resumes = resumed.filter(|&(due, _)| due <= cycle).map(|(_, slot)| slot);
        bench.set("resumed$valid", resumes.is_some().into());
        bench.set("resumed$data", resumes.unwrap_or(0) as u128);
        // Commands of the control path.
        bench.set("command_valid", 0);
        if ordered.is_none() && random.random_bool(0.1) {
            let order = order(&mut random, &plans, &states);
            view = None;
            bench.set("command_valid", 1);
            bench.set_record::<84>("command", order);
            ordered = Some((cycle, order));
        }
        // Plans that end elsewhere.
        if singles.is_empty() && random.random_bool(0.05) {
            singles.push_back(PlanDone { slot: 4095u64.to_bits(), status: 3u64.to_bits() });
        }
        bench.set("single$valid", (!singles.is_empty()).into());
        bench.set_record::<27>("single$data", singles.front().copied().unwrap_or_default());
        let busy = (cycle / 5_000) % 2 == 0;
        let mut flip = |port: &str, bench: &mut Bench| {
            let ready = random.random_bool(if busy { 0.3 } else { 1.0 });
            bench.set(&format!("{port}$ready"), ready.into());
            ready
        };
        let [change_ready, again_ready, item_ready, done_ready, unlock_ready] =
            ["change", "again", "item", "done", "unlock"].map(|port| flip(port, &mut bench));
        bench.set("changed_valid", 0);
        if let Some((due, slot)) = change_due {
            if due == 0 {
                // Before the change that is the only one under way.
                bench.set("changed_valid", 1);
                let view = DiskStates {
                    states: states[slot].to_bits(),
                    durably_out: u64::from(durable[slot]).to_bits(),
                    deactivated: 0u64.to_bits(),
                };
                bench.set_record::<25>("changed", view);
                bench.set("changed_plan", plan_now.into());
                change_due = None;
            } else {
                change_due = Some((due - 1, slot));
            }
        }
        bench.eval();
        if bench.get("noted_valid") == 1 {
            stops[bench.get("noted_slot") as usize % SLOTS] = bench.get("stops") == 1;
        }
        let told = (bench.get("over_valid") == 1).then(|| (cycle, bench.get_record::<19, PartOver>("over")));
        assert_eq!(told, over.take_if(|(due, _)| *due == cycle));
        let port = if offered.is_some_and(|(_, end)| end.is_good()) { "part$ready" } else { "failed$ready" };
        if offered.is_some() && bench.get(port) == 1 {
            let (slot, end) = offered.take().expect("it is offered");
            let plan = plans[slot].as_mut().expect("a part of a plan");
            over = Some((cycle + 2, PartOver { disk: plan.begun.disk, component: end.component.to_bits() }));
            // What was done before is done with.
            assert_eq!(stops[slot], plan.halted, "slot {slot}");
            *counts.entry("stopped").or_default() += u32::from(plan.halted);
            // The view is asked for later, and answered with the states as they are then: nobody else
            // changes them.
            let before = states[slot];
            let mut after = before;
            plan.ends(slot, end, &mut after, durable[slot]);
            // A read of another copy does not change the disk; a change takes effect when it is answered.
            if after != before {
                plan.owed.changes.back_mut().expect("it was pushed").0 |= 1 << 63;
            }
            *counts.entry("parts").or_default() += 1;
        }
        if resumes.is_some() && bench.get("resumed$ready") == 1 {
            let (_, slot) = resumed.take().expect("it is offered");
            let plan = plans[slot].as_mut().expect("it was begun");
            assert_eq!(stops[slot], plan.halted, "slot {slot}");
            let mut after = states[slot];
            plan.proceeds(slot, false, &mut after, durable[slot]);
            if after != states[slot] {
                plan.owed.changes.back_mut().expect("it was pushed").0 |= 1 << 63;
            }
            *counts.entry("resumed").or_default() += 1;
        }
        if change_ready && bench.get("change$valid") == 1 {
            let change: StateChange = bench.get_record::<25, _>("change$data");
            let slot = change.disk.index();
            let plan = plans[slot].as_mut().expect("a plan changes its disk");
            plan_now = plan.begun.plan.to_u64();
            if plan.stage == Stage::Owned && plan.owed.changes.is_empty() && view.is_none() {
                // It looks before it answers. The control path has changed the disk since, or has not.
                plan_now ^= u64::from(random.random_bool(0.1));
                states[slot] = match random.random_range(0..6) {
                    0 => random.random::<u16>().into(),
                    1 => states[slot] | random.random_range(0..16u64) << (2 * random.random_range(0..7)),
                    _ => states[slot],
                };
                view = Some(View { states: states[slot], plan: plan_now });
                plan.owed.changes.push_back((0, false));
            }
            let (out, deactivate) = plan.owed.changes.pop_front().expect("a change is owed");
            assert_eq!(
                (change.out.to_u64(), change.deactivate.any()),
                (out & 0xFF, deactivate),
                "slot {slot}"
            );
            if out >> 63 == 1 {
                states[slot] = moved_out(states[slot], out);
            }
            assert!(change_due.is_none());
            change_due = Some((random.random_range(0..8), slot));
            *counts.entry("changes").or_default() += 1;
        }
        if bench.get("answered") == 1 {
            // Whatever was taken before has been done with by now.
            let (_, order) = ordered.take().expect("an answer without a command");
            let plan = plans.get_mut(order.slot.index()).and_then(Option::as_mut);
            let answer = plan.map_or(0x1C0, |plan| plan.obeys(&order, view));
            assert_eq!(bench.get("answer"), answer.into(), "slot {}", order.slot.index());
            *answers.entry(answer).or_default() += 1;
        }
        if again_ready && bench.get("again$valid") == 1 {
            let again: Again = bench.get_record::<33, _>("again$data");
            let slot = again.slot.index();
            let plan = plans[slot].as_mut().expect("a plan goes on");
            assert!(plan.owed.changes.is_empty());
            let (component, fresh) = plan.owed.again.take().expect("it goes on");
            assert_eq!((again.plan, again.fresh.any()), (plan.begun.plan, fresh));
            if fresh {
                assert!(plan.handed);
                plan.stage = Stage::Free;
                let keeps = KeptParts {
                    slot: again.slot,
                    kept: u64::from(plan.keeps).to_bits(),
                    plan: plan.begun.plan,
                    sequence: plan.begun.sequence,
                };
                assert_eq!(bench.get("keeps_valid"), 1);
                assert_eq!(bench.get_record::<60, KeptParts>("keeps"), keeps);
                *counts.entry("resubmitted").or_default() += 1;
            } else {
                assert_eq!(again.component.to_u64(), component);
                plan.parts.push(End::random(&mut random, component));
                plan.stage = Stage::Running;
                *counts.entry("further copies").or_default() += 1;
            }
        }
        if item_ready && bench.get("item$valid") == 1 {
            let item: RecordItem = bench.get_record::<210, _>("item$data");
            let plan = plans[item.slot.index()].as_mut().expect("a plan is told of");
            assert!(plan.owed.changes.is_empty(), "states change before the record");
            assert_eq!(Some(item), plan.owed.item.take());
            if plan.stage == Stage::Posted {
                plan.stage = Stage::Free;
            }
            let held = item.reasons.to_u64() as u16 & reason::MISSED_WRITE != 0;
            *counts.entry(if held { "missed writes" } else { "records" }).or_default() += 1;
        }
        if bench.get("handed_valid") == 1 {
            let plan = plans[bench.get("handed_slot") as usize].as_mut().expect("a plan is handed over");
            assert!(!plan.handed && plan.owed.item.is_none());
            plan.handed = true;
        }
        if done_ready && bench.get("done$valid") == 1 {
            let done: PlanDone = bench.get_record::<27, _>("done$data");
            if done.slot.to_u64() == 4095 {
                assert_eq!(singles.pop_front(), Some(done));
                assert_eq!(bench.get("ended_valid"), 1);
            } else {
                let plan = plans[done.slot.index()].as_mut().expect("a plan ends");
                assert!(plan.owed.changes.is_empty() && plan.owed.item.is_none());
                assert_eq!(bench.get("ended_valid") == 1, !plan.handed, "slot {}", done.slot.index());
                assert_eq!(plan.owed.done.take(), Some(done.status.to_u64()));
                *counts.entry("aborted").or_default() += u32::from(done.status.to_u64() == 0x4007);
                *counts.entry("ended").or_default() += 1;
            }
        }
        if unlock_ready && bench.get("unlock$valid") == 1 {
            let plan = plans[bench.get("unlock$data") as usize].as_mut().expect("a plan had a lock");
            assert!(std::mem::take(&mut plan.owed.unlock), "a lock was held");
        }
        if let Some((since, _)) = &ordered {
            assert!(cycle - since < 400, "no answer");
        }
        let owed = plans.iter().flatten().any(|plan| !plan.owed.is_empty());
        assert!(bench.get("idle") == 0 || !owed && ordered.is_none(), "idle in cycle {cycle}");
        bench.cycle();
    }
    for plan in plans.iter().flatten() {
        assert!(plan.owed.is_empty(), "{:?}", plan.owed);
        assert!(matches!(plan.stage, Stage::Free | Stage::Held | Stage::Owned), "{:?}", plan.stage);
        assert!(plan.handed || plan.stage == Stage::Free);
    }
    let least = counts.values().min().expect("something was counted");
    assert!(counts.len() == 11 && *least > 100 && answers.len() == 8, "{counts:?} {answers:?}");
}

/// Cycles from the take of a part that ends with `status` to its plan's `done`, and the changes on the way; one
/// is answered 5 cycles after it was taken, as in the card.
fn cycles_to_done(bench: &mut Bench, begun: PlanBegun, status: u64) -> (u64, u32) {
    bench.set("begun_valid", 1);
    bench.set("begun_slot", 1);
    bench.set_record::<168>("begun", begun);
    bench.cycle();
    bench.set("begun_valid", 0);
    for port in ["change", "again", "item", "done", "unlock"] {
        bench.set(&format!("{port}$ready"), 1);
    }
    let failed = status != 0;
    let done = PartDone {
        part: 1u64.to_bits(),
        status: status.to_bits(),
        failed: u64::from(failed).to_bits(),
        ..Default::default()
    };
    let port = if failed { "failed" } else { "part" };
    bench.set_record::<62>(&format!("{port}$data"), done);
    bench.set(&format!("{port}$valid"), 1);
    bench.eval();
    assert_eq!(bench.get(&format!("{port}$ready")), 1);
    let (since, mut changes, mut due) = (bench.cycles, 0, None);
    for _ in 0..60 {
        bench.set("changed_valid", u128::from(due == Some(bench.cycles)));
        bench.eval();
        if bench.get("done$valid") == 1 {
            let cycles = bench.cycles - since;
            bench.cycle();
            return (cycles, changes);
        }
        if bench.get("change$valid") == 1 {
            changes += 1;
            due = Some(bench.cycles + 5);
        }
        bench.cycle();
        bench.set(&format!("{port}$valid"), 0);
    }
    panic!("no end");
}

#[test]
fn latencies_are_those_of_the_header() {
    let sizes = Sizes { slot_bits: 2, ..Sizes::DEFAULT };
    let mut bench = Bench::new("plan_judge_latency", PlanJudge::new(&sizes));
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    while bench.get("initialised") == 0 || bench.get("idle") == 0 {
        bench.cycle();
        assert!(bench.cycles < 50);
    }
    let masks = PlanMasks { continuation: 1u64.to_bits(), ..Default::default() };
    let begun = PlanBegun {
        masks: masks.into(),
        present: 1u64.to_bits(),
        readable: 1u64.to_bits(),
        begun: 1u64.to_bits(),
        minimum: 1u64.to_bits(),
        simple: 1u64.to_bits(),
        ..Default::default()
    };
    assert_eq!(cycles_to_done(&mut bench, begun, 0), (4, 0));
    assert_eq!(cycles_to_done(&mut bench, begun, 0x281), (13 + 5, 1));
    let deactivating = PlanMasks { deactivate: 1u64.to_bits(), ..masks };
    let begun = PlanBegun { masks: deactivating.into(), ..begun };
    assert_eq!(cycles_to_done(&mut bench, begun, 0x281), (13 + 5 + 1 + 5, 2));
    // Commands on a plan that the control path has.
    let begun = PlanBegun { masks: Default::default(), plan: 3u64.to_bits(), ..begun };
    bench.set("begun_valid", 1);
    bench.set_record::<168>("begun", PlanBegun { sequence: 9u64.to_bits(), ..begun });
    bench.cycle();
    bench.set("begun_valid", 0);
    bench.set("failed$valid", 1);
    let mut due = None;
    while bench.get("item$valid") == 0 {
        run_change(&mut bench, &mut due, 3);
        bench.set("failed$valid", 0);
        assert!(bench.cycles < 500);
    }
    bench.cycle();
    let command = |restart: u64| PlanCommand {
        generation: (9u64 << 8 | 1).to_bits(),
        restart: restart.to_bits(),
        ..Default::default()
    };
    for (restart, template, expected) in
        [(0, 4, (0x1C6, 7 + 3 + 5)), (2, 3, (0x1C5, 7 + 3 + 5)), (1, 3, (0, 7 + 3 + 5)), (1, 3, (0x1C0, 7))]
    {
        let order = PlanOrder {
            opcode: u64::from(control_opcode::PLAN_RESUBMIT).to_bits(),
            slot: 1u64.to_bits(),
            command: command(restart).into(),
        };
        bench.set("command_valid", 1);
        bench.set_record::<84>("command", order);
        let since = bench.cycles;
        while bench.get("answered") == 0 {
            run_change(&mut bench, &mut due, template);
            bench.set("command_valid", 0);
            assert!(bench.cycles < since + 60);
        }
        assert_eq!((bench.get("answer"), bench.cycles - since), expected, "restart {restart:#b}");
        for _ in 0..8 {
            bench.cycle();
        }
    }
}

/// A cycle, in which a change is answered that was taken five cycles before: component 0 is in sync.
fn run_change(bench: &mut Bench, due: &mut Option<u64>, template: u64) {
    bench.eval();
    if bench.get("change$valid") == 1 {
        *due = Some(bench.cycles + 5);
    }
    bench.set("changed_valid", u128::from(*due == Some(bench.cycles)));
    bench.set_record::<25>("changed", DiskStates { states: 1u64.to_bits(), ..Default::default() });
    bench.set("changed_plan", template.into());
    bench.cycle();
}
