use super::*;
use crate::bench::{seeded, Bench};
use crate::nvme::path_write::write_request;
use rand::RngExt;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

const SQ_DOORBELL: u64 = 0x7F_0000_1000;
const SIZE: u64 = 64;

fn number<const N: usize>(value: u64) -> Bits<N> {
    value.to_bits()
}

/// The doorbells and what `PathTable` says of the paths meanwhile.
struct Rig {
    bench: Bench,
    valid: u32,
    /// A write of the table under way: path, whether it is valid then, cycles since.
    write: Option<(u64, bool, u32)>,
}

impl Deref for Rig {
    type Target = Bench;
    fn deref(&self) -> &Bench {
        &self.bench
    }
}

impl DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut Bench {
        &mut self.bench
    }
}

impl Rig {
    fn fresh(name: &str, sizes: &Sizes) -> Self {
        let mut bench = Bench::new(name, PathDoorbells::new(sizes));
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        Self { bench, valid: 0, write: None }
    }

    fn cycle(&mut self) {
        self.bench.eval();
        let holds = self.bench.get("holds") == 1;
        self.bench.cycle();
        if let Some((path, valid, cycles)) = &mut self.write {
            *cycles += 1;
            match *cycles {
                3 => self.valid &= !(1 << *path),
                16.. if !holds => {
                    self.valid |= u32::from(*valid) << *path;
                    self.write = None;
                }
                _ => {}
            }
        }
        self.bench.set("path_valid", self.valid.into());
    }

    fn cycles(&mut self, count: u64) {
        (0..count).for_each(|_| self.cycle());
    }

    fn write_path(&mut self, path: u64, fenced: bool, cq_entries: u64) {
        self.write_entry(path, fenced, cq_entries, true);
    }

    fn write_entry(&mut self, path: u64, fenced: bool, cq_entries: u64, valid: bool) {
        let entry = PathEntry {
            sq_base: number(0x10_0000 * (path + 1)),
            sq_doorbell: number(SQ_DOORBELL + 0x10_0000 * path),
            cq_doorbell: number(SQ_DOORBELL + 0x10_0000 * path + 4),
            sq_size_z: number(SIZE - 1),
            cq_size_z: number(cq_entries - 1),
            submission_mode: number(fenced.into()),
            valid: number(valid.into()),
            ..Default::default()
        };
        self.bench.set_record("table_request", write_request(path as usize, entry));
        self.bench.set("table_valid", 1);
        self.write = Some((path, valid, 0));
        self.cycle();
        self.bench.set("table_valid", 0);
    }

    /// Until the write is acknowledged, which nothing holds up for long.
    fn settle(&mut self) {
        let acknowledged = (0..100).any(|_| {
            self.cycle();
            self.write.is_none()
        });
        assert!(acknowledged, "a write is held up");
    }

    fn issue(&mut self, path: u64, tail: u64) {
        self.bench.set("issued_path", path.into());
        self.bench.set("issued_tail", tail.into());
        self.bench.set("issued_valid", 1);
        self.cycle();
        self.bench.set("issued_valid", 0);
    }

    fn complete(&mut self, path: u64, head: u64) {
        self.bench.set("cq_event_path", path.into());
        self.bench.set("cq_event_head", head.into());
        self.bench.set("cq_event_valid", 1);
        self.cycle();
        self.bench.set("cq_event_valid", 0);
    }

    /// The first doorbell that is written in so many cycles, where `write$ready` is set.
    fn told(&mut self, cycles: u64) -> Option<(u64, u64)> {
        (0..cycles).find_map(|_| {
            self.cycle();
            (self.get("write$valid") == 1).then(|| {
                let write: SmallWrite = self.get_record("write$data");
                (write.address.to_u64(), write.data.to_u128() as u64)
            })
        })
    }
}

#[test]
fn a_lone_entry_is_announced_at_once() {
    let mut bench = Rig::fresh("path_doorbells_lone", &Sizes::DEFAULT);
    bench.write_path(3, false, 64);
    bench.set("write$ready", 1);
    for _ in 0..20 {
        bench.cycle();
    }
    bench.set("issued_valid", 1);
    bench.set("issued_path", 3);
    bench.set("issued_tail", 7);
    bench.cycle();
    bench.set("issued_valid", 0);
    let latency = (1..40).find(|_| {
        bench.cycle();
        bench.get("write$valid") == 1
    });
    assert_eq!(latency, Some(14));
    let write: SmallWrite = bench.get_record("write$data");
    assert_eq!(write.address.to_u64(), SQ_DOORBELL + 3 * 0x10_0000);
    assert_eq!((write.data.to_u128(), write.quad.to_u64()), (7, 0));
}

struct Path {
    fenced: bool,
    tail: u64,
    /// Tails not announced yet, with the submission count at their issue.
    waiting: VecDeque<(u64, u16)>,
    announced: u64,
    capture: Option<u64>,
    head: u64,
    told: u64,
    untold: u64,
    cq_entries: u64,
}

fn random_events(paths: usize, sizes: &Sizes, cycles: u64) {
    let mut bench = Rig::fresh(&format!("path_doorbells_{paths}"), sizes);
    let mut random = seeded();
    let mut all: Vec<Path> = (0..paths)
        .map(|i| Path {
            fenced: i % 2 == 1,
            tail: 0,
            waiting: VecDeque::new(),
            announced: 0,
            capture: None,
            head: 0,
            told: 0,
            untold: 0,
            cq_entries: if i % 3 == 0 { 8 } else { 64 },
        })
        .collect();
    for (i, path) in all.iter().enumerate() {
        bench.write_path(i as u64, path.fenced, path.cq_entries);
        bench.settle();
    }
    let (mut accepted, mut acknowledged) = (0u16, 0u16);
    let mut answers: VecDeque<(u64, u64)> = VecDeque::new();
    let (mut issued, mut tail_writes, mut head_writes, mut heads) = (0u64, 0u64, 0u64, 0u64);
    for cycle in 0..cycles {
        let busy = (cycle / 1000) % 3 != 2 && cycle + 2000 < cycles;
        let which = random.random_range(0..paths);
        // An SSD's ring holds SIZE − 1 entries; the test frees announced ones at once.
        let issue = busy && all[which].waiting.len() < SIZE as usize - 2 && random.random_bool(0.2);
        bench.set("issued_valid", issue.into());
        if issue {
            let path = &mut all[which];
            accepted = accepted.wrapping_add(1);
            path.tail = (path.tail + 1) % SIZE;
            path.waiting.push_back((path.tail, accepted));
            bench.set("issued_path", which as u128);
            bench.set("issued_tail", path.tail.into());
            issued += 1;
        }
        if acknowledged != accepted && random.random_bool(0.15) {
            acknowledged = acknowledged.wrapping_add(1);
        }
        let completion = busy && random.random_bool(0.2);
        bench.set("cq_event_valid", completion.into());
        let which = random.random_range(0..paths);
        if completion {
            let path = &mut all[which];
            path.head = (path.head + 1) % path.cq_entries;
            path.untold += 1;
            heads += 1;
            bench.set("cq_event_path", which as u128);
            bench.set("cq_event_head", path.head.into());
        }
        let answer = answers.front().is_some_and(|(at, _)| *at <= cycle);
        bench.set("answer_valid_fence", answer.into());
        bench.set("answer_last", 1);
        if answer {
            bench.set("answer_tag", answers.pop_front().expect("answer").1.into());
        }
        bench.set("accepted", accepted.into());
        bench.set("acknowledged", acknowledged.into());
        bench.set("write$ready", random.random_bool(0.7).into());
        bench.set("fence$ready", random.random_bool(0.7).into());
        bench.eval();
        if bench.get("fence$valid") == 1 && bench.get("fence$ready") == 1 {
            let request: ReadRequest = bench.get_record("fence$data");
            let number = request.tag.to_u64() as usize;
            let path = &mut all[number];
            assert!(path.fenced && path.capture.is_none(), "one fence a path");
            let base = 0x10_0000 * (number as u64 + 1);
            let entry = (request.address.to_u64() - base) / 64;
            assert_eq!(request.address.to_u64() % 64, 48, "the last quarter of the entry");
            let tail = (entry + 1) % SIZE;
            let (_, count) = *path.waiting.iter().find(|(t, _)| *t == tail).expect("an issued entry");
            assert!((acknowledged.wrapping_sub(count) as i16) >= 0, "fenced before the bus acknowledged");
            path.capture = Some(tail);
            answers.push_back((cycle + random.random_range(1..200), number as u64));
        }
        if bench.get("write$valid") == 1 && bench.get("write$ready") == 1 {
            let write: SmallWrite = bench.get_record("write$data");
            let at = write.address.to_u64() - SQ_DOORBELL;
            let (number, head, value) = ((at >> 20) as usize, at & 4 != 0, write.data.to_u128() as u64);
            let path = &mut all[number];
            if head {
                head_writes += 1;
                path.told = value;
                path.untold = 0;
            } else {
                tail_writes += 1;
                if path.fenced {
                    assert_eq!(path.capture.take(), Some(value), "a fenced tail without its fence");
                }
                let known = path.waiting.iter().position(|(t, _)| *t == value);
                let known = known.unwrap_or_else(|| panic!("tail {value} of path {number} again"));
                path.waiting.drain(..=known);
                path.announced = value;
            }
        }
        bench.cycle();
    }
    for (i, path) in all.iter().enumerate() {
        assert_eq!(path.announced, path.tail, "path {i} was not told its tail");
        assert_eq!(path.told, path.head, "path {i} was not told its head");
    }
    assert_eq!(bench.get("idle"), 1);
    assert!(issued > cycles / 20 && tail_writes * 2 < issued, "{tail_writes} doorbells for {issued}");
    assert!(head_writes < heads, "{head_writes} for {heads}");
}

#[test]
fn tails_and_heads_arrive_batched_and_fenced() {
    random_events(2, &Sizes { path_bits: 1, ..Sizes::DEFAULT }, 60_000);
    random_events(32, &Sizes::DEFAULT, 60_000);
}

#[test]
fn a_written_entry_forgets_what_was_pending() {
    let mut bench = Rig::fresh("path_doorbells_forget", &Sizes::DEFAULT);
    bench.write_path(1, true, 64);
    bench.settle();
    bench.set("issued_valid", 1);
    bench.set("issued_path", 1);
    bench.set("issued_tail", 1);
    bench.set("accepted", 1);
    bench.cycle();
    bench.set("issued_valid", 0);
    for _ in 0..100 {
        bench.cycle();
    }
    assert_eq!(bench.get("idle"), 0, "waits for the acknowledgement");
    bench.write_path(1, true, 64);
    bench.settle();
    bench.set("write$ready", 1);
    bench.set("fence$ready", 1);
    bench.set("acknowledged", 1);
    for _ in 0..300 {
        bench.cycle();
        assert_eq!(bench.get("write$valid") + bench.get("fence$valid"), 0);
    }
    assert_eq!(bench.get("idle"), 1);
}

#[test]
fn a_head_that_comes_with_another_paths_table_write_is_told() {
    let mut bench = Rig::fresh("path_doorbells_together", &Sizes::DEFAULT);
    bench.write_path(2, false, 64);
    bench.settle();
    bench.set("write$ready", 1);
    // In each of the cycles in which the write may take effect.
    for delay in 0..8 {
        bench.write_path(5, false, 64);
        for _ in 0..delay {
            bench.cycle();
        }
        bench.set("cq_event_valid", 1);
        bench.set("cq_event_path", 2);
        bench.set("cq_event_head", 9 + delay);
        bench.cycle();
        bench.set("cq_event_valid", 0);
        let told = (0..40).find_map(|_| {
            bench.cycle();
            (bench.get("write$valid") == 1).then(|| bench.get_record::<193, SmallWrite>("write$data"))
        });
        let told = told.expect("a doorbell");
        assert_eq!(told.address.to_u64(), SQ_DOORBELL + 2 * 0x10_0000 + 4);
        assert_eq!(told.data.to_u128(), 9 + delay);
        bench.settle();
    }
}

#[test]
fn what_comes_after_the_closing_of_its_path_is_not_told() {
    let mut bench = Rig::fresh("path_doorbells_closed", &Sizes::DEFAULT);
    for port in ["write$ready", "fence$ready", "acknowledged"] {
        bench.set(port, 1);
    }
    for (fenced, delay) in [false, true].into_iter().flat_map(|fenced| (0..24).map(move |i| (fenced, i))) {
        // Path 2 is closed, or another one, or nobody.
        for (closed, is_tail) in [(Some(2), true), (Some(3), true), (None, true), (Some(2), false)] {
            bench.write_path(2, false, 64);
            bench.settle();
            if let Some(path) = closed {
                bench.write_entry(path, fenced, 64, false);
            }
            // From the cycle on in which the path is known not to be valid.
            bench.cycles(2 + delay);
            match is_tail {
                true => bench.issue(2, 5 + delay),
                false => bench.complete(2, 5 + delay),
            }
            let told = bench.told(300);
            let expected = (closed != Some(2)).then_some((SQ_DOORBELL + 2 * 0x10_0000, 5 + delay));
            assert_eq!(told, expected, "{delay} cycles later, {closed:?}");
        }
    }
}

#[test]
fn a_closing_is_over_when_no_doorbell_and_no_read_is_on_its_way() {
    let mut bench = Rig::fresh("path_doorbells_barrier", &Sizes::DEFAULT);
    let mut random = seeded();
    let (mut late, mut silent) = (0, 0);
    for turn in 0..1_500u64 {
        let fenced = turn % 2 == 1;
        bench.set("acknowledged", 0);
        bench.set("accepted", 0);
        bench.write_path(2, fenced, 64);
        bench.settle();
        // Another path makes work, too.
        bench.write_path(4, false, 8);
        bench.settle();
        let close_at = random.random_range(0..40);
        let mut asked = None;
        let (mut others, mut closed) = (0, false);
        for cycle in 0..600u64 {
            let stalled = cycle < 200 && random.random_bool(0.9);
            bench.set("write$ready", u128::from(!stalled));
            bench.set("fence$ready", u128::from(!stalled));
            let answers = asked.is_some_and(|at| at <= cycle);
            bench.set("answer_valid_fence", answers.into());
            bench.set("answer_last", answers.into());
            bench.set("answer_tag", 2);
            if answers {
                asked = None;
            }
            bench.eval();
            if bench.get("fence$valid") == 1 && !stalled {
                assert!(!closed, "a read of a queue that was closed, turn {turn}");
                asked = Some(cycle + random.random_range(1..150));
            }
            if bench.get("write$valid") == 1 && !stalled {
                let write: SmallWrite = bench.get_record("write$data");
                let is_other = write.address.to_u64() >= SQ_DOORBELL + 4 * 0x10_0000;
                assert!(is_other || !closed, "a doorbell of a path that was closed, turn {turn}");
                others += u64::from(is_other);
            }
            let was_busy = bench.write.is_some();
            match (cycle, cycle == close_at) {
                (_, true) => {
                    bench.write_entry(2, fenced, 64, false);
                    continue;
                }
                (0..60, _) if random.random_bool(0.5) => match random.random_range(0..3) {
                    0 => bench.issue(2, 1 + cycle % 60),
                    1 => bench.complete(2, 1 + cycle % 60),
                    _ => bench.complete(4, 1 + cycle % 7),
                },
                _ => bench.cycle(),
            }
            if was_busy && bench.write.is_none() {
                assert_eq!(asked, None, "closed while a fence is not answered");
                closed = true;
                late += u64::from(cycle > close_at + 18);
            }
        }
        assert!(closed, "turn {turn}");
        silent += u64::from(others == 0);
        assert_eq!(bench.get("idle"), 1);
        // A tail of the next queue waits for its own fence.
        if fenced {
            bench.write_path(2, true, 64);
            bench.settle();
            bench.issue(2, 9);
            assert_eq!(bench.told(100), None, "without its fence");
            bench.set("answer_valid_fence", 1);
            bench.set("answer_last", 1);
            bench.cycle();
            bench.set("answer_valid_fence", 0);
            assert_eq!(bench.told(40), Some((SQ_DOORBELL + 2 * 0x10_0000, 9)));
        }
    }
    assert!(late > 300 && silent < 100, "{late} closings waited, {silent} with nobody else");
}

#[test]
fn idle_is_never_told_while_a_doorbell_is_to_come() {
    let mut bench = Rig::fresh("path_doorbells_idle", &Sizes::DEFAULT);
    for fenced in [false, true] {
        bench.write_path(4, fenced, 64);
        bench.settle();
        bench.set("write$ready", 1);
        bench.set("fence$ready", 1);
        for event in ["issued", "cq_event"] {
            bench.set(&format!("{event}_path"), 4);
            bench.set(&format!("{event}_valid"), 1);
            bench.cycle();
            bench.set(&format!("{event}_valid"), 0);
            let mut asked = None;
            let told = (1..60).find(|&cycle| {
                bench.set("answer_valid_fence", (asked == Some(cycle)).into());
                bench.set("answer_last", 1);
                bench.set("answer_tag", 4);
                bench.eval();
                if bench.get("fence$valid") == 1 {
                    asked = Some(cycle + 20);
                }
                let told = bench.get("write$valid") == 1;
                assert_eq!(bench.get("idle"), 0, "{event}, {cycle} cycles later");
                bench.cycle();
                told
            });
            assert!(told.is_some(), "{event} was not told");
            bench.settle();
            assert_eq!(bench.get("idle"), 1);
        }
    }
}
