use std::collections::{BTreeMap, VecDeque};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::plan::{reason, status_class, StatusClass};

use super::*;
use crate::bench::{seeded, Bench};
use crate::exec::mask_verdict::tests::expected as rules;
use crate::exec::mask_verdict::PlanSets;
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
    /// Parts that will end, with the status.
    parts: Vec<(u64, u64, bool)>,
    done: u8,
    failed: u8,
    refused: u8,
    statuses: [u64; 8],
    hands: u8,
    status: u64,
    deactivated: bool,
    owed: Owed,
}

fn in_sync(states: u64) -> u8 {
    (0..8).filter(|i| states >> (2 * i) & 3 == 1).fold(0, |bits, i| bits | 1 << i)
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

fn begin(random: &mut ChaCha8Rng, slot: usize, sequence: u64, states: &mut u64, durable: &mut u8) -> Plan {
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
    let is_read = random.random_bool(0.4);
    let begun = if is_read { readable & readable.wrapping_neg() } else { readable | write_only };
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
        simple: u64::from(is_read || enough).to_bits(),
        locked: u64::from(!is_read && random.random_bool(0.7)).to_bits(),
        ..Default::default()
    };
    let parts = (0..8).filter(|i| begun >> i & 1 == 1).map(|i| {
        let (status, closed) = status(random);
        (i, status, closed)
    });
    Plan {
        stage: Stage::Running,
        begun: begun_record,
        parts: parts.collect(),
        done: 0,
        failed: 0,
        refused: 0,
        statuses: [0; 8],
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
        RecordItem {
            slot: (slot as u64).to_bits(),
            generation: (self.begun.sequence.to_u64() << 8 | u64::from(self.hands)).to_bits(),
            reasons: verdict.reasons,
            disk: self.begun.disk,
            plan: self.begun.plan,
            epoch: self.begun.epoch,
            begun: bits(self.begun.begun.to_u64() as u8 | self.done | self.failed | self.refused),
            done: bits(self.done),
            failed: bits(self.failed),
            refused: bits(self.refused),
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

    /// A part of it ends.
    fn ends(
        &mut self,
        slot: usize,
        component: u64,
        status: u64,
        closed: bool,
        states: &mut u64,
        durable: u8,
    ) {
        let bit = 1u8 << component;
        self.statuses[component as usize] = status;
        let own = closed && status & 0x7FF != 6;
        match status_class(status as u16) {
            StatusClass::Success => self.done |= bit,
            StatusClass::Client => self.refused |= bit,
            _ if own => self.refused |= bit,
            _ => self.failed |= bit,
        }
        let is_read = self.begun.is_read.any();
        let ended = self.done | self.failed | self.refused;
        let running = if is_read { 0 } else { self.begun.begun.to_u64() as u8 & !ended };
        let clean = self.failed | self.refused == 0;
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
        };
        let verdict = rules(&sets, &self.begun.masks.into());
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

/// A command of the control path, and what is owed for it.
struct Ordered {
    order: PlanOrder,
    slot: usize,
    answer: u64,
}

fn order(random: &mut ChaCha8Rng, plans: &[Option<Plan>]) -> Ordered {
    let slot = random.random_range(0..SLOTS);
    let opcodes =
        [control_opcode::PLAN_RELEASE, control_opcode::PLAN_COMPLETE, control_opcode::PLAN_RESUBMIT];
    let opcode = opcodes[random.random_range(0..3)];
    let plan = plans[slot].as_ref();
    let known = plan.filter(|plan| plan.owed.is_empty() && matches!(plan.stage, Stage::Held | Stage::Owned));
    let generation =
        known.map_or(0xFFFF_FF01, |plan| plan.begun.sequence.to_u64() << 8 | u64::from(plan.hands));
    let wrong = random.random_bool(0.1);
    let restart = if random.random_bool(0.9) { 0xFFu64 } else { 0 };
    let answer = match (known, opcode) {
        (Some(_), _) if wrong => 0x1C0,
        (None, _) => 0x1C0,
        (Some(plan), control_opcode::PLAN_RELEASE) if plan.stage == Stage::Owned => 0x1C1,
        (Some(_), control_opcode::PLAN_RELEASE) => 0,
        (Some(plan), control_opcode::PLAN_RESUBMIT) if plan.stage == Stage::Held => 0x1C1,
        (Some(_), control_opcode::PLAN_RESUBMIT) if restart == 0 => 2,
        (Some(_), _) => 0,
    };
    // A slot beyond all is nobody's, whatever its lower bits say.
    let beyond = random.random_bool(0.05);
    let answer = if beyond { 0x1C0 } else { answer };
    let command = PlanCommand {
        generation: (generation ^ u64::from(wrong)).to_bits(),
        restart: restart.to_bits(),
        status: random.random_range(0..0x8000u64).to_bits(),
        ..Default::default()
    };
    let order = PlanOrder {
        opcode: u64::from(opcode).to_bits(),
        slot: (slot as u64 + if beyond { SLOTS as u64 } else { 0 }).to_bits(),
        command: command.into(),
    };
    Ordered { order, slot, answer }
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
    let mut offered: Option<(usize, u64, u64, bool)> = None;
    let mut change_due: Option<(u32, usize)> = None;
    let mut ordered: Option<(u32, Ordered)> = None;
    let mut singles: VecDeque<PlanDone> = VecDeque::new();
    let mut counts = BTreeMap::<&str, u32>::new();
    let mut answers = BTreeMap::<u64, u32>::new();
    for cycle in 0..200_000u32 {
        let draining = cycle > 198_000;
        // A plan begins where none is.
        bench.set("begun_valid", 0);
        let slot = random.random_range(0..SLOTS);
        if plans[slot].as_ref().is_none_or(|plan| plan.stage == Stage::Free && plan.owed.is_empty())
            && bench.get("initialised") == 1
            && !draining
        {
            sequence = (sequence + 1) % (1 << 24);
            let plan = begin(&mut random, slot, sequence, &mut states[slot], &mut durable[slot]);
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
                    let (component, status, closed) = plan.parts.swap_remove(which);
                    offered = Some((slot, component, status, closed));
                }
            }
        }
        bench.set("part$valid", offered.is_some_and(|(_, _, status, _)| status == 0).into());
        bench.set("failed$valid", offered.is_some_and(|(_, _, status, _)| status != 0).into());
        if let Some((slot, component, status, closed)) = offered {
            let done = PartDone {
                part: (component << 12 | slot as u64).to_bits(),
                status: status.to_bits(),
                closed: u64::from(closed).to_bits(),
                path: random.random_range(0..9u64).to_bits(),
                ordinal: random.random_range(0..9u64).to_bits(),
                failed: u64::from(status != 0).to_bits(),
            };
            bench.set_record::<58>("part$data", done);
            bench.set_record::<58>("failed$data", done);
        }
        // Commands of the control path.
        bench.set("command_valid", 0);
        if ordered.is_none() && random.random_bool(0.1) {
            let it = order(&mut random, &plans);
            bench.set("command_valid", 1);
            bench.set_record::<84>("command", it.order);
            ordered = Some((cycle, it));
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
                change_due = None;
            } else {
                change_due = Some((due - 1, slot));
            }
        }
        bench.eval();
        let port =
            if offered.is_some_and(|(_, _, status, _)| status == 0) { "part$ready" } else { "failed$ready" };
        if offered.is_some() && bench.get(port) == 1 {
            let (slot, component, status, closed) = offered.take().expect("it is offered");
            let plan = plans[slot].as_mut().expect("a part of a plan");
            // The view is asked for later, and answered with the states as they are then: nobody else
            // changes them.
            let before = states[slot];
            let mut after = before;
            plan.ends(slot, component, status, closed, &mut after, durable[slot]);
            // A read of another copy does not change the disk; a change takes effect when it is answered.
            if after != before {
                plan.owed.changes.back_mut().expect("it was pushed").0 |= 1 << 63;
            }
            *counts.entry("parts").or_default() += 1;
        }
        if change_ready && bench.get("change$valid") == 1 {
            let change: StateChange = bench.get_record::<25, _>("change$data");
            let slot = change.disk.index();
            let plan = plans[slot].as_mut().expect("a plan changes its disk");
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
            let (_, it) = ordered.take().expect("an answer without a command");
            assert_eq!(bench.get("answer"), it.answer.into(), "slot {}", it.slot);
            *answers.entry(it.answer).or_default() += 1;
            if it.answer == 0 {
                let plan = plans[it.slot].as_mut().expect("a plan is commanded");
                let command: PlanCommand = it.order.command.into();
                match it.order.opcode.to_u64() as u8 {
                    control_opcode::PLAN_RELEASE => plan.owed.done = Some(plan.status),
                    control_opcode::PLAN_COMPLETE => plan.owed.done = Some(command.status.to_u64()),
                    _ => plan.owed.again = Some((0, true)),
                }
                if it.order.opcode.to_u64() as u8 != control_opcode::PLAN_RESUBMIT {
                    plan.stage = Stage::Free;
                }
            }
        }
        if again_ready && bench.get("again$valid") == 1 {
            let again: Again = bench.get_record::<33, _>("again$data");
            let slot = again.slot.index();
            let plan = plans[slot].as_mut().expect("a plan goes on");
            assert!(plan.owed.changes.is_empty());
            let (component, fresh) = plan.owed.again.take().expect("it goes on");
            assert_eq!((again.plan, again.fresh.any()), (plan.begun.plan, fresh));
            if fresh {
                plan.stage = Stage::Free;
                *counts.entry("resubmitted").or_default() += 1;
            } else {
                assert_eq!(again.component.to_u64(), component);
                let (status, closed) = status(&mut random);
                plan.parts.push((component, status, closed));
                plan.stage = Stage::Running;
                *counts.entry("further copies").or_default() += 1;
            }
        }
        if item_ready && bench.get("item$valid") == 1 {
            let item: RecordItem = bench.get_record::<202, _>("item$data");
            let plan = plans[item.slot.index()].as_mut().expect("a plan is told of");
            assert!(plan.owed.changes.is_empty(), "states change before the record");
            assert_eq!(Some(item), plan.owed.item.take());
            if plan.stage == Stage::Posted {
                plan.stage = Stage::Free;
            }
            let held = item.reasons.to_u64() as u16 & reason::MISSED_WRITE != 0;
            *counts.entry(if held { "missed writes" } else { "records" }).or_default() += 1;
        }
        if done_ready && bench.get("done$valid") == 1 {
            let done: PlanDone = bench.get_record::<27, _>("done$data");
            if done.slot.to_u64() == 4095 {
                assert_eq!(singles.pop_front(), Some(done));
            } else {
                let plan = plans[done.slot.index()].as_mut().expect("a plan ends");
                assert!(plan.owed.changes.is_empty() && plan.owed.item.is_none());
                assert_eq!(plan.owed.done.take(), Some(done.status.to_u64()));
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
    }
    let least = counts.values().min().expect("something was counted");
    assert!(counts.len() == 7 && *least > 100 && answers.len() == 4, "{counts:?} {answers:?}");
}

/// Cycles from the take of a part that ends with `status` to its plan's `done`, and the changes on the way; one is
/// answered 5 cycles after it was taken, as in the card.
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
    bench.set_record::<58>(&format!("{port}$data"), done);
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
}
