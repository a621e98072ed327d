//! Tests of the lock: against the set of ranges that are held.

use super::*;
use crate::bench::{seeded, Bench};
use crate::virt::lock_place::tests::{bucket, pages, request};
use crate::virt::lock_place::LOCKED_PAGES_MAX;
use rand::{Rng, RngExt};
use std::collections::VecDeque;

const SHIFTS: [u64; 4] = [9, 10, 11, 12];

#[derive(Clone, Copy, Debug)]
struct Blocks {
    disk: u64,
    lba: u64,
    blocks: u64,
    shift: u64,
}

impl Blocks {
    /// Whole pages.
    fn of_pages(disk: u64, first: u64, count: u64) -> Self {
        Self { disk, lba: first, blocks: count, shift: 12 }
    }

    fn pages(&self) -> (u64, u64) {
        pages(self.lba, self.blocks, self.shift)
    }

    fn count(&self) -> u64 {
        self.pages().1 - self.pages().0 + 1
    }

    fn exclusive(&self) -> bool {
        self.count() > LOCKED_PAGES_MAX
    }

    /// What must never be held together.
    fn overlaps(&self, other: &Self) -> bool {
        self.disk == other.disk && self.pages().0 <= other.pages().1 && other.pages().0 <= self.pages().1
    }

    /// What may deny one another.
    fn may_deny(&self, other: &Self, lock_bits: usize) -> bool {
        if self.exclusive() || other.exclusive() {
            return self.disk == other.disk;
        }
        let mask = (1u64 << lock_bits) - 1;
        let first = |range: &Self| bucket(range.disk, range.pages().0, lock_bits);
        let ahead = first(other).wrapping_sub(first(self)) & mask;
        let behind = first(self).wrapping_sub(first(other)) & mask;
        ahead < self.count() || behind < other.count()
    }

    fn words(&self, slot: usize) -> Vec<u32> {
        request(slot as u64, self.disk, self.lba, self.blocks, self.shift)
    }
}

fn reset(bench: &mut Bench, sizes: &Sizes) {
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    for _ in 0..(1 << sizes.lock_bits.max(sizes.slot_bits).max(sizes.vd_bits)) + 6 {
        bench.eval();
        assert!(bench.get("ask$ready") <= bench.get("initialised"));
        assert!(bench.get("release$ready") <= bench.get("initialised"));
        bench.cycle();
    }
    assert_eq!((bench.get("initialised"), bench.get("idle")), (1, 1));
}

fn bench(sizes: &Sizes) -> Bench {
    let name = format!("range_lock_{}_{}_{}", sizes.lock_bits, sizes.slot_bits, sizes.vd_bits);
    let mut bench = Bench::new(&name, RangeLock::new(sizes));
    reset(&mut bench, sizes);
    bench
}

const SMALL: Sizes = Sizes { lock_bits: 9, slot_bits: 4, vd_bits: 2, ..Sizes::DEFAULT };

/// Asks; gives the answer and the cycles from the ask's to the answer's.
fn ask(bench: &mut Bench, slot: usize, blocks: Blocks) -> (bool, u64) {
    bench.set("ask$valid", 1);
    bench.set_wide("ask$data", &blocks.words(slot));
    bench.eval();
    let offered = bench.cycles;
    while bench.get("ask$ready") == 0 {
        bench.cycle();
        assert!(bench.cycles < offered + 600, "no end of an ask");
    }
    let begun = bench.cycles;
    bench.cycle();
    bench.set("ask$valid", 0);
    bench.eval();
    while bench.get("answer_valid") == 0 {
        bench.cycle();
        assert!(bench.cycles < begun + 600, "no answer");
    }
    let answer = (bench.get("granted") == 1, bench.cycles - begun);
    bench.cycle();
    answer
}

fn release(bench: &mut Bench, slot: usize) {
    bench.set("release$valid", 1);
    bench.set("release$data", slot as u128);
    bench.eval();
    let begun = bench.cycles;
    while bench.get("release$ready") == 0 {
        bench.cycle();
        assert!(bench.cycles < begun + 600, "no end of a release");
    }
    bench.cycle();
    bench.set("release$valid", 0);
    bench.eval();
}

/// The slot that is offered within some cycles.
fn again(bench: &mut Bench) -> Option<usize> {
    for _ in 0..600 {
        bench.eval();
        if bench.get("again$valid") == 1 {
            let again: Again = bench.get_record::<33, _>("again$data");
            let rest = (again.component.to_u64(), again.plan.to_u64(), again.fresh.to_u64());
            assert_eq!((rest, again.retry.to_u64()), ((0, 0, 1), again.slot.to_u64() & 1));
            bench.set("again$ready", 1);
            bench.cycle();
            bench.set("again$ready", 0);
            return Some(again.slot.to_u64() as usize);
        }
        bench.cycle();
    }
    None
}

#[test]
fn answers_within_its_latency() {
    let mut bench = bench(&SMALL);
    assert_eq!(ask(&mut bench, 0, Blocks::of_pages(0, 7, 1)), (true, 7));
    assert_eq!(ask(&mut bench, 1, Blocks { disk: 0, lba: 3, blocks: 8, shift: 9 }), (true, 8));
    assert_eq!(ask(&mut bench, 2, Blocks::of_pages(1, 0, 257)), (true, 263));
    assert_eq!(ask(&mut bench, 3, Blocks::of_pages(2, 0, 65_536)), (true, 7));
    assert!(!ask(&mut bench, 4, Blocks::of_pages(0, 7, 1)).0);
    assert_eq!(ask(&mut bench, 5, Blocks::of_pages(2, 70_000, 1)), (false, 7));
    assert_eq!(ask(&mut bench, 6, Blocks::of_pages(1, 300, 258)), (false, 7));
    assert_eq!(again(&mut bench), None, "nothing was released");
    assert_eq!(bench.get("idle"), 1, "whoever waits for a release is idle");
    // Each is tried once, in order, though nobody asks for the first one any more.
    release(&mut bench, 3);
    assert_eq!(again(&mut bench), Some(4));
    assert_eq!(again(&mut bench), None);
    release(&mut bench, 4);
    assert_eq!(again(&mut bench), Some(5));
    assert_eq!(ask(&mut bench, 5, Blocks::of_pages(2, 70_000, 1)), (true, 7));
    assert_eq!(again(&mut bench), Some(6));
    assert!(!ask(&mut bench, 6, Blocks::of_pages(1, 300, 258)).0);
    assert_eq!(again(&mut bench), None);
    // What a slot that holds nothing gives back is nobody's.
    release(&mut bench, 4);
    assert!(!ask(&mut bench, 7, Blocks::of_pages(0, 7, 1)).0);
}

/// A lock and a release of one or two pages fit into nine cycles.
#[test]
fn a_mirrored_write_every_nine_cycles() {
    let mut bench = bench(&SMALL);
    for count in [1, 2] {
        let mut taken = VecDeque::new();
        let (mut asks, mut releases) = (0usize, 0usize);
        let begun = bench.cycles;
        while releases < 200 {
            // A slot is used again after ten others.
            let asking = asks < 200 && asks < releases + 12;
            bench.set("ask$valid", asking.into());
            bench.set_wide("ask$data", &Blocks::of_pages(0, asks as u64 * 5, count).words(asks % 16));
            let releasing = taken.len() > 2 || (asks == 200 && !taken.is_empty());
            bench.set("release$valid", releasing.into());
            bench.set("release$data", (releases % 16) as u128);
            bench.eval();
            if bench.get("answer_valid") == 1 {
                assert_eq!(bench.get("granted"), 1);
                taken.push_back(());
            }
            let next = asking && bench.get("ask$ready") == 1;
            if releasing && bench.get("release$ready") == 1 {
                taken.pop_front();
                releases += 1;
            }
            asks += usize::from(next);
            bench.cycle();
        }
        bench.set("release$valid", 0);
        let cycles = bench.cycles - begun;
        assert!(cycles < 200 * 9 + 60, "{cycles} cycles for 200 writes of {count} pages");
    }
}

/// Others take one of its two pages before each of its tries: after nine it claims them.
#[test]
fn who_was_denied_often_is_next() {
    let mut bench = bench(&SMALL);
    let page = |number: u64| Blocks::of_pages(0, 100 + number, 1);
    let wanted = Blocks::of_pages(0, 100, 2);
    assert!(ask(&mut bench, 0, page(0)).0);
    assert!(!ask(&mut bench, 9, wanted).0);
    let mut denials = 1;
    loop {
        let holder = (denials + 1) % 2;
        let (granted, _) = ask(&mut bench, denials % 2, page(denials as u64 % 2));
        if denials == 9 {
            assert!(!granted, "the claim keeps others away");
            break;
        }
        assert!(granted);
        release(&mut bench, holder);
        assert_eq!(again(&mut bench), Some(9));
        assert!(!ask(&mut bench, 9, wanted).0);
        denials += 1;
        assert_eq!(again(&mut bench), None);
    }
    // Only what overlaps is kept away.
    assert!(ask(&mut bench, 3, page(2)).0);
    assert!(ask(&mut bench, 4, Blocks::of_pages(1, 100, 2)).0);
    assert!(!ask(&mut bench, 5, Blocks::of_pages(0, 0, 300)).0);
    assert!(!ask(&mut bench, 6, Blocks::of_pages(0, 50, 60)).0);
    release(&mut bench, 0);
    assert_eq!(again(&mut bench), Some(9));
    assert!(ask(&mut bench, 9, wanted).0);
    // The claim's end wakes those that it kept away.
    assert_eq!(again(&mut bench), Some(1));
}

/// Two wait for writes that never end: neither keeps the claim, and there is one at a time.
#[test]
fn a_claim_passes_on() {
    let mut bench = bench(&SMALL);
    let waiting = [(9, 100), (10, 200)];
    for (slot, first) in waiting {
        assert!(ask(&mut bench, slot - 9, Blocks::of_pages(0, first, 1)).0);
        assert!(!ask(&mut bench, slot, Blocks::of_pages(0, first, 2)).0);
    }
    let mut claims = Vec::new();
    for round in 0..100 {
        // Whose other page is claimed.
        let mut claimed = None;
        for (slot, first) in waiting {
            if ask(&mut bench, slot - 5, Blocks::of_pages(0, first + 1, 1)).0 {
                release(&mut bench, slot - 5);
            } else {
                assert_eq!(claimed.replace(slot), None, "one claim at a time");
            }
        }
        assert!(round < 8 || claimed.is_some(), "none has a claim in round {round}");
        if claims.last() != Some(&claimed) {
            claims.push(claimed);
        }
        assert!(ask(&mut bench, 7, Blocks::of_pages(1, 0, 1)).0);
        release(&mut bench, 7);
        while let Some(slot) = again(&mut bench) {
            match waiting.iter().find(|waiting| waiting.0 == slot) {
                Some(&(_, first)) => assert!(!ask(&mut bench, slot, Blocks::of_pages(0, first, 2)).0),
                // It gives up.
                None => release(&mut bench, slot),
            }
        }
    }
    assert_eq!(claims[0], None);
    assert!(claims.len() >= 4, "{claims:?}");
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Free,
    Asking,
    Parked,
    /// Offered; asks in that cycle.
    Offered(u64),
    /// Holds its blocks until that cycle.
    Holding(u64),
}

struct Model {
    lock_bits: usize,
    life: Vec<Life>,
    blocks: Vec<Blocks>,
    denials: Vec<u32>,
    /// Releases since a slot asked for the first time.
    waited: Vec<u32>,
    /// Released, and when: what may still be marked.
    fading: VecDeque<(u64, Blocks)>,
    asks: VecDeque<usize>,
    asked: VecDeque<usize>,
    releases: VecDeque<usize>,
    granted: u32,
    denied: u32,
    /// Granted after they may have had a claim.
    starved: u32,
    waited_max: u32,
}

impl Model {
    fn new(sizes: &Sizes) -> Self {
        let slots = 1 << sizes.slot_bits;
        Self {
            lock_bits: sizes.lock_bits,
            life: vec![Life::Free; slots],
            blocks: vec![Blocks::of_pages(0, 0, 1); slots],
            denials: vec![0; slots],
            waited: vec![0; slots],
            fading: VecDeque::new(),
            asks: VecDeque::new(),
            asked: VecDeque::new(),
            releases: VecDeque::new(),
            granted: 0,
            denied: 0,
            starved: 0,
            waited_max: 0,
        }
    }

    fn holders(&self) -> impl Iterator<Item = &Blocks> {
        self.life
            .iter()
            .zip(&self.blocks)
            .filter(|(life, _)| matches!(life, Life::Holding(_)))
            .map(|(_, blocks)| blocks)
    }

    fn answered(&mut self, granted: bool, now: u64, hold: u64) {
        let slot = self.asked.pop_front().expect("an answer for each ask");
        let blocks = self.blocks[slot];
        if granted {
            self.granted += 1;
            for held in self.holders() {
                assert!(!held.overlaps(&blocks), "{held:?} and {blocks:?}");
                assert!(!held.may_deny(&blocks, self.lock_bits), "all buckets or none");
            }
            self.starved += u32::from(self.denials[slot] > 8);
            self.waited_max = self.waited_max.max(self.waited[slot]);
            self.life[slot] = Life::Holding(now + hold);
            return;
        }
        self.denied += 1;
        while self.fading.front().is_some_and(|(since, _)| since + 1_200 < now) {
            self.fading.pop_front();
        }
        let claimed = (0..self.life.len())
            .filter(|&other| other != slot && self.denials[other] > 8)
            .filter(|&other| !matches!(self.life[other], Life::Free | Life::Holding(_)))
            .map(|other| &self.blocks[other]);
        let reasons = self.holders().chain(self.fading.iter().map(|(_, blocks)| blocks)).chain(claimed);
        let denies = reasons.into_iter().any(|other| other.may_deny(&blocks, self.lock_bits));
        assert!(denies, "denied for nothing: {blocks:?}, held {:?}", self.holders().collect::<Vec<_>>());
        self.denials[slot] += 1;
        self.life[slot] = Life::Parked;
    }

    fn released(&mut self, slot: usize, now: u64) {
        self.fading.push_back((now, self.blocks[slot]));
        self.life[slot] = Life::Free;
        for (waited, life) in self.waited.iter_mut().zip(&self.life) {
            *waited += u32::from(!matches!(life, Life::Free));
        }
    }
}

/// Blocks of all lengths, most of them where others are too; the wrap of the buckets is among them.
fn blocks(random: &mut impl Rng, sizes: &Sizes) -> Blocks {
    let shift = SHIFTS[random.random_range(0..4)];
    let per_page = 1u64 << (12 - shift);
    let base = [0, 1 << sizes.lock_bits, (1 << sizes.lock_bits) - 20, 1 << 30][random.random_range(0..4)];
    let lba = (base + random.random_range(0..40)) * per_page + random.random_range(0..per_page);
    let most = 65_536.min(257 * per_page);
    let blocks = match random.random_range(0..40) {
        0 => random.random_range(most..=65_536),
        1 => random.random_range(1..=most),
        2 => [255, 256, 257, 258][random.random_range(0..4)] * per_page,
        3..15 => random.random_range(1..=8 * per_page),
        _ => per_page,
    };
    Blocks { disk: random.random_range(0..1 << sizes.vd_bits), lba, blocks: blocks.min(65_536), shift }
}

fn step(bench: &mut Bench, model: &mut Model, random: &mut impl Rng, busy: bool, hold: u64) {
    let now = bench.cycles;
    for slot in 0..model.life.len() {
        match model.life[slot] {
            Life::Offered(due) if due <= now => {
                model.life[slot] = Life::Asking;
                model.asks.push_front(slot);
            }
            Life::Holding(until) if until <= now && !model.releases.contains(&slot) => {
                model.releases.push_back(slot);
            }
            _ => {}
        }
    }
    // What is offered stays offered.
    let asking = bench.get("ask$valid") == 1 || (!model.asks.is_empty() && random.random_bool(0.7));
    if bench.get("ask$valid") == 0 && asking {
        let slot = model.asks.pop_front().expect("not empty");
        bench.set_wide("ask$data", &model.blocks[slot].words(slot));
        model.asked.push_back(slot);
    }
    bench.set("ask$valid", asking.into());
    let releasing =
        bench.get("release$valid") == 1 || (!model.releases.is_empty() && random.random_bool(0.7));
    if releasing {
        bench.set("release$data", model.releases[0] as u128);
    }
    bench.set("release$valid", releasing.into());
    let ready = random.random_bool(0.6);
    bench.set("again$ready", ready.into());
    bench.eval();
    if bench.get("idle") == 1 {
        assert!(model.asked.is_empty() && !releasing && bench.get("again$valid") == 0);
    }
    if bench.get("answer_valid") == 1 {
        let hold = random.random_range(1..hold);
        model.answered(bench.get("granted") == 1, now, hold);
    }
    if ready && bench.get("again$valid") == 1 {
        let again: Again = bench.get_record::<33, _>("again$data");
        let slot = again.slot.to_u64() as usize;
        assert_eq!((model.life[slot], again.retry.to_u64()), (Life::Parked, again.slot.to_u64() & 1));
        model.life[slot] = Life::Offered(now + random.random_range(1..60));
    }
    let asked = asking && bench.get("ask$ready") == 1;
    let released = releasing && bench.get("release$ready") == 1;
    if released {
        let slot = model.releases.pop_front().expect("not empty");
        model.released(slot, now);
    }
    // A slot given back may ask in the next cycle.
    if busy {
        let slot = random.random_range(0..model.life.len());
        if model.life[slot] == Life::Free {
            model.life[slot] = Life::Asking;
            model.denials[slot] = 0;
            model.waited[slot] = 0;
            model.asks.push_back(slot);
        }
    }
    bench.cycle();
    if asked {
        bench.set("ask$valid", 0);
    }
    if released {
        bench.set("release$valid", 0);
    }
}

fn runs_at_random(sizes: &Sizes) {
    let mut bench = bench(sizes);
    let mut random = seeded();
    let mut model = Model::new(sizes);
    for round in 0..6 {
        let hold = [40, 400, 4_000][round % 3];
        for _ in 0..20_000 {
            // The blocks of a slot are chosen while it is free.
            for slot in 0..model.life.len() {
                if model.life[slot] == Life::Free {
                    model.blocks[slot] = blocks(&mut random, sizes);
                }
            }
            step(&mut bench, &mut model, &mut random, true, hold);
        }
        if round == 3 {
            // In the middle of everything.
            for port in ["ask$valid", "release$valid", "again$ready"] {
                bench.set(port, 0);
            }
            reset(&mut bench, sizes);
            model = Model { granted: model.granted, denied: model.denied, ..Model::new(sizes) };
            continue;
        }
        let begun = bench.cycles;
        while model.life.iter().any(|life| *life != Life::Free) {
            step(&mut bench, &mut model, &mut random, false, hold);
            assert!(bench.cycles < begun + 400_000, "not all were granted: {:?}", model.life);
        }
        for _ in 0..600 {
            bench.cycle();
        }
        assert_eq!(bench.get("idle"), 1);
        // Nothing is left: each disk, and then each bucket.
        for disk in 0..1 << sizes.vd_bits {
            assert!(ask(&mut bench, 0, Blocks::of_pages(disk, 5, 65_536)).0, "disk {disk}");
            release(&mut bench, 0);
        }
        for first in (0..1 << sizes.lock_bits).step_by(256) {
            assert!(ask(&mut bench, 0, Blocks::of_pages(0, first, 256)).0, "page {first}");
            release(&mut bench, 0);
            while bench.get("idle") == 0 {
                bench.cycle();
            }
        }
    }
    let Model { granted, denied, starved, waited_max, .. } = model;
    println!("{granted} granted, {denied} denied, {starved} of them nine times, {waited_max} releases waited at most");
    assert!(granted > 1_000 && denied > 1_000, "{granted} granted, {denied} denied");
}

#[test]
fn never_two_that_overlap_and_none_for_ever() {
    runs_at_random(&SMALL);
    runs_at_random(&Sizes { lock_bits: 11, slot_bits: 6, vd_bits: 3, ..Sizes::DEFAULT });
}
