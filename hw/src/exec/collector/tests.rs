use super::*;
use crate::bench::{seeded, Bench};
use crate::exec::stop_cause::{DIVERT, FAULT, STOPPED};
use crate::host::record_words::words;
use rand::RngExt;
use std::collections::{BTreeMap, VecDeque};

fn bench(slot_bits: usize) -> Bench {
    let sizes = Sizes { slot_bits, ..Sizes::DEFAULT };
    let mut bench = Bench::new(&format!("collector_{slot_bits}"), Collector::new(&sizes));
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    for _ in 0..(8 << slot_bits) + 4 {
        assert_eq!(bench.get("returned$ready") & !bench.get("initialised"), 0);
        bench.cycle();
    }
    assert_eq!((bench.get("initialised"), bench.get("idle")), (1, 1));
    bench
}

fn returned(part: u64, ordinal: u64, last: bool, status: u64) -> Vec<u32> {
    words::<90>(Returned {
        path: 0x5Au64.into(),
        sq_head: 0x1234u64.into(),
        command_id: 0xFFFFu64.into(),
        part: part.into(),
        ordinal: ordinal.into(),
        last: last.into(),
        status: status.into(),
        own: 0u64.into(),
    })
}

fn closed(part: u64, issued: u64, status: u64) -> Vec<u32> {
    words::<44>(PlanClosed { part: part.into(), issued: issued.into(), status: status.into() })
}

/// The part of a plan without a template.
const SINGLE: u64 = 1 << 15;

/// The fragment was not issued: its plan was stopped.
fn bounced(part: u64, ordinal: u64, last: bool) -> Vec<u32> {
    words::<90>(Returned {
        part: part.into(),
        ordinal: ordinal.into(),
        last: last.into(),
        status: u64::from(STOPPED).into(),
        own: 1u64.into(),
        ..Returned::default()
    })
}

/// The fragment was given up, as its path was quiesced.
fn quieted(part: u64, ordinal: u64, last: bool) -> Vec<u32> {
    words::<90>(Returned {
        path: 0x5Au64.into(),
        part: part.into(),
        ordinal: ordinal.into(),
        last: last.into(),
        status: QUIESCED.into(),
        own: 1u64.into(),
        ..Returned::default()
    })
}

/// The status of such a fragment; an SSD may give it, too.
const QUIESCED: u64 = 8;
/// Beside a status: its fragment was given up.
const GIVEN_UP: u64 = 1 << 15;

/// That it was stopped, for what cause, and the first fragment that was not issued.
type Stop = Option<(u64, u64)>;

/// A part, its status, and whether it was stopped.
type End = (u64, u64, Stop);

fn stop_of(part: &PartDone) -> Stop {
    if part.stopped.any() && !part.failed.any() {
        assert_eq!((part.status.to_u64(), part.path.to_u64(), part.closed.any()), (0, 0, false));
    }
    let ordinal = if part.failed.any() { 0 } else { part.ordinal.to_u64() };
    part.stopped.any().then(|| (part.cause.to_u64(), ordinal))
}

/// What is offered in `done`, in `part` and in `failed`.
fn ends(bench: &mut Bench) -> [Option<End>; 3] {
    let done = (bench.get("done$valid") == 1).then(|| {
        let done: PlanDone = bench.get_record::<27, _>("done$data");
        (done.slot.to_u64() | SINGLE, done.status.to_u64(), None)
    });
    let part = (bench.get("part$valid") == 1).then(|| {
        let part: PartDone = bench.get_record::<62, _>("part$data");
        assert_eq!((part.status.to_u64(), part.failed.any(), part.given_up.any()), (0, false, false));
        (part.part.to_u64(), 0, stop_of(&part))
    });
    let failed = (bench.get("failed$valid") == 1).then(|| {
        let part: PartDone = bench.get_record::<62, _>("failed$data");
        assert!(part.status.any() && part.failed.any());
        let given_up = if part.given_up.any() { GIVEN_UP } else { 0 };
        (part.part.to_u64(), part.status.to_u64() | given_up, stop_of(&part))
    });
    [done, part, failed]
}

/// Hands over one item and gives the cycles until a part ends, with its number and status.
fn hand_over(bench: &mut Bench, port: &str, data: &[u32]) -> Option<(u64, u64, u64)> {
    bench.set(&format!("{port}$valid"), 1);
    bench.set_wide(&format!("{port}$data"), data);
    bench.eval();
    assert_eq!(bench.get(&format!("{port}$ready")), 1);
    let begun = bench.cycles;
    bench.cycle();
    bench.set(&format!("{port}$valid"), 0);
    bench.set("done$ready", 1);
    bench.set("part$ready", 1);
    bench.set("failed$ready", 1);
    for _ in 0..12 {
        let mut ended = ends(bench).into_iter().flatten();
        if let Some((part, status, _)) = ended.next() {
            assert!(ended.next().is_none());
            let latency = bench.cycles - begun;
            bench.cycle();
            return Some((latency, part, status));
        }
        bench.cycle();
    }
    None
}

/// Hands over a part's last fragment and gives the status, whether it was closed, the path and the
/// ordinal.
fn hand_over_part(bench: &mut Bench, data: &[u32]) -> (u64, u64, u64, u64) {
    bench.set("returned$valid", 1);
    bench.set_wide("returned$data", data);
    bench.cycle();
    bench.set("returned$valid", 0);
    for _ in 0..12 {
        if bench.get("failed$valid") == 1 {
            break;
        }
        bench.cycle();
    }
    let part: PartDone = bench.get_record::<62, _>("failed$data");
    bench.set("failed$ready", 1);
    bench.cycle();
    bench.set("failed$ready", 0);
    (part.status.to_u64(), part.closed.to_u64(), part.path.to_u64(), part.ordinal.to_u64())
}

#[test]
fn ends_parts_with_the_lowest_failure() {
    let mut bench = bench(3);
    // One fragment: the shortcut. Only More and CRD are cleared.
    assert_eq!(
        hand_over(&mut bench, "returned", &returned(SINGLE | 3, 0, true, 0)),
        Some((5, SINGLE | 3, 0))
    );
    assert_eq!(
        hand_over(&mut bench, "returned", &returned(SINGLE | 3, 0, true, 0x7FFF)),
        Some((4, SINGLE | 3, 0x47FF))
    );
    // Three, the last first, two of them failed.
    assert_eq!(hand_over(&mut bench, "returned", &returned(SINGLE | 5, 2, true, 0x281)), None);
    assert_eq!(hand_over(&mut bench, "returned", &returned(SINGLE | 5, 1, false, 0x4004)), None);
    assert_eq!(
        hand_over(&mut bench, "returned", &returned(SINGLE | 5, 0, false, 0)),
        Some((7, SINGLE | 5, 0x4004))
    );
    // Closed before and after its fragment.
    assert_eq!(hand_over(&mut bench, "closed", &closed(SINGLE | 5, 0, 0)), Some((5, SINGLE | 5, 0)));
    assert_eq!(hand_over(&mut bench, "closed", &closed(SINGLE | 5, 0, 0x80)), Some((4, SINGLE | 5, 0x4080)));
    assert_eq!(hand_over(&mut bench, "closed", &closed(SINGLE | 1, 1, 6)), None);
    assert_eq!(
        hand_over(&mut bench, "returned", &returned(SINGLE | 1, 0, false, 0)),
        Some((7, SINGLE | 1, 0x4006))
    );
    assert_eq!(hand_over(&mut bench, "returned", &returned(SINGLE | 1, 0, false, 0x286)), None);
    assert_eq!(hand_over(&mut bench, "closed", &closed(SINGLE | 1, 1, 6)), Some((7, SINGLE | 1, 0x286)));
    // Two parts of one plan, which know nothing of each other; what failed, and where.
    let component = |number: u64| number << 12 | 5;
    assert_eq!(hand_over(&mut bench, "returned", &returned(component(0), 1, true, 0x281)), None);
    assert_eq!(
        hand_over(&mut bench, "returned", &returned(component(6), 0, true, 0)),
        Some((5, component(6), 0))
    );
    bench.set("failed$ready", 0);
    assert_eq!(hand_over_part(&mut bench, &returned(component(0), 0, false, 0)), (0x281, 0, 0x5A, 1));
    assert_eq!(hand_over_part(&mut bench, &returned(component(1), 0, true, 6)), (6, 0, 0x5A, 0));
    // The most fragments there are.
    assert_eq!(hand_over(&mut bench, "returned", &returned(SINGLE | 2, 65_535, true, 0)), None);
    bench.set("done$ready", 0);
    bench.set("returned$valid", 1);
    for ordinal in 0..65_535 {
        bench.set_wide("returned$data", &returned(SINGLE | 2, ordinal, false, 0));
        bench.eval();
        while bench.get("returned$ready") == 0 {
            bench.cycle();
        }
        assert_eq!(bench.get("done$valid"), 0);
        bench.cycle();
    }
    bench.set("returned$valid", 0);
    // Four of them are still inside.
    for _ in 0..4 * 5 + 8 {
        bench.cycle();
    }
    assert_eq!((bench.get("done$valid"), bench.get("done$data")), (1, 2));
}

/// What is to happen to the bench, and what must come of it.
struct Model {
    /// Parts that have not ended, with their status.
    expected: BTreeMap<u64, (u64, Stop)>,
    returned: Vec<Vec<u32>>,
    closed: VecDeque<Vec<u32>>,
}

impl Model {
    fn begin_part(&mut self, part: u64, random: &mut impl rand::Rng) {
        let fragments = [0, 1, 1, 1, 2, 3, 9][random.random_range(0..7)];
        // Of a plan with a template the last ones may not have been issued, or the map may have ended it.
        let stops = part & SINGLE == 0 && random.random_bool(0.3);
        let issued = if stops { random.random_range(0..=fragments) } else { fragments };
        let is_closed = fragments == 0 || random.random_bool(0.3);
        let refusal = match random.random_range(0..10) {
            0 | 1 => 0x80,
            2 if part & SINGLE == 0 => u64::from([FAULT, DIVERT][random.random_range(0..2)]),
            _ => 0,
        };
        let faults = is_closed && refusal >> 8 == 7;
        let mut status = if is_closed && refusal != 0 && !faults { 0x4000 | refusal } else { 0 };
        let mut stop = faults.then_some((refusal & 3, fragments));
        if issued < fragments {
            stop = Some((stop.map_or(0, |(cause, _)| cause), issued));
        }
        for ordinal in (issued..fragments).rev() {
            self.returned.push(bounced(part, ordinal, !is_closed && ordinal == fragments - 1));
        }
        for ordinal in (0..issued).rev() {
            let failure = if random.random_bool(0.3) { random.random_range(0..0x8000u64) } else { 0 };
            let last = !is_closed && ordinal == fragments - 1;
            if failure & 0x47FF != 0 && random.random_bool(0.2) {
                self.returned.push(quieted(part, ordinal, last));
                status = QUIESCED | GIVEN_UP;
                continue;
            }
            let failure = if failure != 0 && random.random_bool(0.1) { QUIESCED } else { failure };
            self.returned.push(returned(part, ordinal, last, failure));
            if failure & 0x47FF != 0 {
                status = failure & 0x47FF;
            }
        }
        if is_closed {
            self.closed.push_back(closed(part, fragments, refusal));
        }
        if status != 0 {
            stop = stop.map(|(cause, _)| (cause, 0));
        }
        self.expected.insert(part, (status, stop));
    }
}

fn runs_at_random(slot_bits: usize) {
    let mut bench = bench(slot_bits);
    let mut random = seeded();
    let mut model = Model { expected: BTreeMap::new(), returned: Vec::new(), closed: VecDeque::new() };
    let mut ended = 0;
    // Without a failure and with one.
    let (mut stopped, mut given_up) = ([0; 2], 0);
    let mut offered: Option<Vec<u32>> = None;
    for cycle in 0..30_000u64 {
        let draining = cycle > 29_000;
        let slot = random.random_range(0..1u64 << slot_bits);
        let part = [slot | SINGLE, slot | random.random_range(0..8) << 12][random.random_range(0..2)];
        if !model.expected.contains_key(&part) && !model.expected.contains_key(&(part ^ SINGLE)) && !draining
        {
            model.begin_part(part, &mut random);
        }
        if offered.is_none() && !model.returned.is_empty() && random.random_bool(0.8) {
            offered = Some(model.returned.swap_remove(random.random_range(0..model.returned.len())));
        }
        bench.set("returned$valid", offered.is_some().into());
        bench.set_wide("returned$data", offered.as_deref().unwrap_or(&[]));
        bench.set("closed$valid", (!model.closed.is_empty()).into());
        bench.set_wide("closed$data", model.closed.front().map_or(&[], |data| data));
        let ready = random.random_bool(if (cycle / 300) % 3 == 0 { 0.1 } else { 0.9 });
        bench.set("done$ready", ready.into());
        let part_ready = random.random_bool(if (cycle / 500) % 3 == 0 { 0.1 } else { 0.9 });
        bench.set("part$ready", part_ready.into());
        let failed_ready = random.random_bool(if (cycle / 400) % 3 == 0 { 0.1 } else { 0.9 });
        bench.set("failed$ready", failed_ready.into());
        bench.eval();
        if bench.get("returned$ready") == 1 {
            offered = None;
        }
        if bench.get("closed$ready") == 1 {
            model.closed.pop_front();
        }
        let now = ends(&mut bench);
        for (end, ready) in now.into_iter().zip([ready, part_ready, failed_ready]) {
            let Some((part, status, stop)) = end.filter(|_| ready) else { continue };
            assert_eq!(Some((status, stop)), model.expected.remove(&part), "part {part:#x}");
            ended += 1;
            stopped[usize::from(status != 0)] += u32::from(stop.is_some());
            given_up += u32::from(status & GIVEN_UP != 0);
        }
        assert!(now[1].is_none_or(|(part, _, _)| part & SINGLE == 0));
        assert!(!(bench.get("idle") == 1 && now.iter().any(Option::is_some)));
        bench.cycle();
    }
    assert!(model.expected.is_empty(), "a part did not end");
    assert_eq!(bench.get("idle"), 1);
    assert!(given_up > 50, "{given_up} given up");
    assert!(ended > 1_000 && stopped.iter().all(|&count| count > 50), "{ended} ended, {stopped:?}");
}

#[test]
fn agrees_with_a_model_at_random() {
    runs_at_random(2);
    runs_at_random(6);
}
