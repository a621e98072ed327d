use std::collections::VecDeque;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::plan::{status_class, StatusClass};
use volplane_abi::status::CODE_AND_TYPE;

use super::super::path_waiters::GRACE;
use super::super::try_notes::SINGLE_TRIES;
use super::*;
use crate::bench::{seeded, Bench};

const SLOTS: u64 = 8;
const SINGLE: u64 = 1 << 15;

/// What is known of a plan.
#[derive(Clone, Copy, Default)]
struct Plan {
    admitted: bool,
    template: u64,
    avoided: u32,
    tries: [u8; 8],
    /// Components whose tries are known.
    known: u8,
    /// The last path error: component, status, path, and whether its fragment was given up.
    erred: Option<(usize, u16, u64, bool)>,
}

/// What becomes of a part.
#[derive(Debug, PartialEq)]
enum Outcome {
    Again(Again),
    Part(PartDone),
    Done(PlanDone),
}

impl Plan {
    /// None: it waits for a path.
    fn fails(&mut self, done: PartDone, may_wait: bool, halted: bool) -> Option<Outcome> {
        let part = Part::from(done.part);
        let (status, path) = (done.status.to_u64() as u16, done.path.to_u64());
        let single = part.single.any();
        let component = part.component.index();
        let left = self.tries[component];
        let of_path = !done.closed.any() && status_class(status) == StatusClass::Path;
        let pathless = done.closed.any() && status & CODE_AND_TYPE == plan_status::HOST_PATH_ERROR;
        let takes_try = (pathless && self.avoided != 0)
            || (!done.closed.any() && !single && status_class(status) == StatusClass::Retry);
        let stopped = halted || done.stopped.any();
        if !stopped && pathless && may_wait {
            self.avoided = 0;
            return None;
        }
        if !stopped && of_path {
            self.avoided |= 1 << path;
            self.erred = Some((component, status, path, done.given_up.any()));
        } else if !stopped && takes_try && left > 0 {
            self.tries[component] -= 1;
            self.avoided = 0;
        } else {
            let told = match self.erred.filter(|it| pathless && it.0 == component) {
                Some((_, status, path, given_up)) => PartDone {
                    status: u64::from(status).to_bits(),
                    path: path.to_bits(),
                    closed: 0u64.to_bits(),
                    given_up: u64::from(given_up).to_bits(),
                    ..done
                },
                None => done,
            };
            return Some(if single {
                Outcome::Done(PlanDone { slot: part.slot, status: told.status })
            } else {
                Outcome::Part(told)
            });
        }
        Some(self.again(part))
    }

    fn again(&self, part: Part) -> Outcome {
        Outcome::Again(Again {
            slot: part.slot,
            component: part.component,
            plan: self.template.to_bits(),
            fresh: 0u64.to_bits(),
            retry: 1u64.to_bits(),
        })
    }
}

fn random_failure(random: &mut ChaCha8Rng, slot: u64, plan: &Plan) -> PartDone {
    let statuses =
        [0x370, 0x371, 0x301, 0x4303, 7, 8, 6, 0x281, 0x4281, 0x4006, 2, 4, 0x80, 0x285, 0x4370, 0x4370];
    let status = statuses[random.random_range(0..statuses.len())];
    let known: Vec<u64> = (0..8).filter(|component| plan.known >> component & 1 == 1).collect();
    let component = known[random.random_range(0..known.len())];
    let part = if plan.template == 0 { slot | SINGLE } else { slot | component << 12 };
    PartDone {
        part: part.to_bits(),
        status: u64::from(status as u16).to_bits(),
        closed: u64::from(random.random_bool(0.3)).to_bits(),
        path: [0u64, 3, 17, 31][random.random_range(0..4)].to_bits(),
        ordinal: random.random_range(0..1u64 << 17).to_bits(),
        failed: 1u64.to_bits(),
        stopped: u64::from(random.random_bool(0.05)).to_bits(),
        cause: random.random_range(0..4u64).to_bits(),
        given_up: u64::from(random.random_bool(0.3)).to_bits(),
    }
}

/// Whether a part of the plan waits, or is about to begin again.
fn is_under_way(slot: u64, waiting: &[Part], expected: &VecDeque<Outcome>) -> bool {
    let again = |outcome: &Outcome| matches!(outcome, Outcome::Again(again) if again.slot.to_u64() == slot);
    waiting.iter().any(|part| part.slot.to_u64() == slot) || expected.iter().any(again)
}

fn start(name: &str) -> Bench {
    let sizes = Sizes { slot_bits: SLOTS.ilog2() as usize, ..Sizes::DEFAULT };
    let mut bench = Bench::new(name, PartRetry::new(&sizes));
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    bench.cycle();
    bench
}

/// What is taken of the outputs in this cycle.
fn taken(bench: &mut Bench, ready: [bool; 3]) -> Option<Outcome> {
    let mut all = Vec::new();
    if ready[0] && bench.get("again$valid") == 1 {
        all.push(Outcome::Again(bench.get_record::<33, _>("again$data")));
    }
    if ready[1] && bench.get("part$valid") == 1 {
        all.push(Outcome::Part(bench.get_record::<62, _>("part$data")));
    }
    if ready[2] && bench.get("done$valid") == 1 {
        all.push(Outcome::Done(bench.get_record::<27, _>("done$data")));
    }
    assert!(all.len() <= 1, "one part at a time: {all:?}");
    all.pop()
}

#[test]
fn fails_are_tried_again_as_often_as_they_may() {
    let mut bench = start("part_retry");
    let mut random = seeded();
    let mut plans = [Plan::default(); SLOTS as usize];
    let mut offered: Option<PartDone> = None;
    let mut working: Option<u64> = None;
    let mut expected: VecDeque<Outcome> = VecDeque::new();
    let (mut since_admitted, mut since_begun, mut last_begun) = (9, 9, 0);
    let mut query = (u64::MAX, 0);
    // Until then the last part is on its way to where it waits.
    let mut settling = 0;
    let mut kinds = [0; 3];
    // Parts that wait, whether a path is made anew, and when that ended.
    let mut waiting: Vec<Part> = Vec::new();
    let (mut renewing, mut ended, mut waited, mut graced) = (false, 0u32, 0, 0);
    // Plans that issue nothing more, and the one that is asked after.
    let mut halted = [false; SLOTS as usize];
    let (mut asked_stop, mut stop_read, mut gave_up) = (0, false, 0);
    for cycle in 0..150_000u32 {
        bench.set("stopped", std::mem::replace(&mut stop_read, halted[asked_stop]).into());
        let changing = random.random_range(0..SLOTS);
        if working != Some(changing) && cycle > settling {
            halted[changing as usize] = random.random_bool(0.1);
        }
        // Plans and their parts.
        (since_admitted, since_begun) = (since_admitted + 1, since_begun + 1);
        bench.set("admitted_valid", 0);
        bench.set("begun_valid", 0);
        let slot = random.random_range(0..SLOTS);
        let quiet = working != Some(slot) && query.0 != slot && !is_under_way(slot, &waiting, &expected);
        let old = since_begun > 5 || last_begun != slot;
        if since_admitted > 1 && old && quiet && random.random_bool(0.15) {
            bench.set("admitted_valid", 1);
            bench.set("admitted_slot", slot.into());
            plans[slot as usize] = Plan { admitted: true, ..plans[slot as usize] };
            let plan = &mut plans[slot as usize];
            (plan.template, plan.avoided, plan.erred, plan.tries[0]) = (0, 0, None, SINGLE_TRIES as u8);
            plan.known |= 1;
            since_admitted = 0;
        }
        let slot = random.random_range(0..SLOTS);
        let quiet = working != Some(slot) && query.0 != slot && !is_under_way(slot, &waiting, &expected);
        if since_begun > 2
            && quiet
            && since_admitted > 0
            && random.random_bool(0.4)
            && plans[slot as usize].admitted
        {
            let (component, retries) = (random.random_range(0..8u64), random.random_range(0..4u64));
            let template = random.random_range(1..1u64 << 16);
            let begun = PartBegun {
                part: (component << 12 | slot).to_bits(),
                plan: template.to_bits(),
                retries: retries.to_bits(),
            };
            bench.set("begun_valid", 1);
            bench.set_record::<40>("begun", begun);
            let plan = &mut plans[slot as usize];
            plan.known |= 1 << component;
            plan.erred = None;
            (plan.template, plan.avoided, plan.tries[component as usize]) = (template, 0, retries as u8);
            (since_begun, last_begun) = (0, slot);
        }
        // Paths are made anew.
        bench.set("path_written", 0);
        let resting = cycle > settling && offered.is_none() && working.is_none() && expected.is_empty();
        let grace = if renewing { u32::MAX } else { (ended + GRACE as u32).saturating_sub(cycle) };
        if resting && grace == 0 && ended != 0 && !waiting.is_empty() {
            let all = waiting.drain(..).map(|part| plans[part.slot.index()].again(part));
            graced += 1;
            expected.extend(all);
        } else if resting && (renewing || grace == 0) && random.random_bool(0.003) {
            renewing = !renewing;
            ended = cycle;
            bench.set("renewing", renewing.into());
            bench.set("path_written", 1);
            waited += waiting.len();
            expected.extend(waiting.drain(..).map(|part| plans[part.slot.index()].again(part)));
        }
        // Whether a part may wait is not looked at near the ends of the time in which it may.
        let since = cycle - ended;
        let unclear = ended != 0 && !renewing && (since < 8 || since.abs_diff(GRACE as u32) < 20);
        // Failures; what was noted has reached the memories by then.
        if !unclear
            && expected.is_empty()
            && offered.is_none()
            && working.is_none()
            && since_begun > 5
            && since_admitted > 4
            && cycle < 149_000
        {
            let slot = random.random_range(0..SLOTS);
            if plans[slot as usize].admitted && query.0 != slot {
                offered = Some(random_failure(&mut random, slot, &plans[slot as usize]));
                working = Some(slot);
            }
        }
        bench.set("failed$valid", offered.is_some().into());
        bench.set_record::<62>("failed$data", offered.unwrap_or_default());
        let ready: [bool; 3] = std::array::from_fn(|_| random.random_bool(0.6));
        for (port, ready) in ["again", "part", "done"].into_iter().zip(ready) {
            bench.set(&format!("{port}$ready"), ready.into());
        }
        bench.eval();
        if let Some(outcome) = taken(&mut bench, ready) {
            kinds[match outcome {
                Outcome::Again(_) => 0,
                Outcome::Part(_) => 1,
                Outcome::Done(_) => 2,
            }] += 1;
            assert_eq!(Some(outcome), expected.pop_front());
            working = None;
        }
        // What is asked for stands until the answer has come.
        if query.0 != u64::MAX && query.1 + 3 == cycle {
            let plan = plans[query.0 as usize];
            assert!(!plan.admitted || bench.get("avoided") == plan.avoided.into());
            query.0 = u64::MAX;
        }
        if cycle > settling
            && query.0 == u64::MAX
            && working.is_none()
            && offered.is_none()
            && since_begun > 6
            && since_admitted > 6
        {
            query = (random.random_range(0..SLOTS), cycle);
            bench.set("query", query.0.into());
        }
        let idle = bench.get("idle") == 1;
        // Who offers or writes a path is not idle then.
        assert!(!idle || expected.is_empty() || cycle < ended + 3);
        if bench.get("failed$ready") == 1 {
            if let Some(done) = offered.take() {
                let slot = working.expect("it is in work") as usize;
                let may_wait = renewing || ended != 0 && cycle < ended + GRACE as u32;
                gave_up += u32::from(halted[slot]);
                let outcome = plans[slot].fails(done, may_wait, halted[slot]);
                if outcome.is_none() {
                    waiting.push(done.part.into());
                    (working, settling) = (None, cycle + 12);
                }
                expected.extend(outcome);
            }
        }
        asked_stop = (bench.get("stop_query") as usize).min(SLOTS as usize - 1);
        bench.cycle();
    }
    assert!(expected.is_empty(), "{expected:?}");
    assert!(gave_up > 100, "{gave_up} of plans that were stopped");
    assert!(
        kinds.iter().all(|&kind| kind > 300) && waited > 20 && graced > 30,
        "{kinds:?} {waited} {graced}"
    );
}

/// Admission takes nothing: parts that fail for good pass all the same, and none that begins again is lost.
#[test]
fn nobody_waits_for_admission() {
    let mut bench = start("part_retry_admission");
    for slot in 0..SLOTS {
        bench.set("admitted_valid", 1);
        bench.set("admitted_slot", slot.into());
        bench.cycle();
        bench.set("admitted_valid", 0);
        bench.cycle();
    }
    bench.set("part$ready", 1);
    bench.set("done$ready", 1);
    let fail = |bench: &mut Bench, part: u64, status: u64| {
        let done = PartDone { part: part.to_bits(), status: status.to_bits(), ..Default::default() };
        bench.set_record::<62>("failed$data", done);
        bench.set("failed$valid", 1);
        bench.eval();
        let mut ended = 0;
        for waited in 0..60 {
            assert!(waited < 40, "part {part:#x} is not taken");
            let taken = bench.get("failed$ready") == 1;
            ended += bench.get("done$valid");
            bench.cycle();
            if taken {
                break;
            }
        }
        bench.set("failed$valid", 0);
        for _ in 0..12 {
            ended += bench.get("done$valid");
            bench.cycle();
        }
        ended
    };
    // Of every plan one part that begins again: a path error of a part without a template.
    for slot in 0..SLOTS {
        assert_eq!(fail(&mut bench, slot | SINGLE, 0x301), 0);
    }
    for slot in 0..SLOTS {
        assert_eq!(fail(&mut bench, slot | SINGLE, 0x4281), 1, "slot {slot}");
    }
    bench.set("again$ready", 1);
    let mut found = Vec::new();
    for _ in 0..40 * SLOTS {
        bench.eval();
        if bench.get("again$valid") == 1 {
            found.push(bench.get_record::<33, Again>("again$data").slot.to_u64());
        }
        bench.cycle();
    }
    assert_eq!(found, (0..SLOTS).collect::<Vec<_>>());
    assert_eq!(bench.get("idle"), 1);
}

#[test]
fn latencies_are_those_of_the_header() {
    let mut bench = start("part_retry_latency");
    for port in ["again", "part", "done"] {
        bench.set(&format!("{port}$ready"), 1);
    }
    bench.set("admitted_valid", 1);
    bench.cycle();
    bench.set("admitted_valid", 0);
    bench.cycle();
    for (part, status, port, latency) in
        [(0, 0x4281u64, "part", 5), (SINGLE, 0x4281, "done", 5), (0, 0x301, "again", 13)]
    {
        let done = PartDone { part: part.to_bits(), status: status.to_bits(), ..Default::default() };
        bench.set_record::<62>("failed$data", done);
        bench.set("failed$valid", 1);
        bench.eval();
        assert_eq!(bench.get("failed$ready"), 1);
        let since = bench.cycles;
        while bench.get(&format!("{port}$valid")) == 0 {
            bench.cycle();
            bench.set("failed$valid", 0);
            assert!(bench.cycles < since + 20, "{port}");
        }
        assert_eq!(bench.cycles - since, latency, "{port}");
        for _ in 0..3 {
            bench.cycle();
        }
    }
}
