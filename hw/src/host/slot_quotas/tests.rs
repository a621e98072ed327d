//! `SlotQuotas` among rings that are fetched from, disks and slots in plain numbers.

use super::*;
use crate::bench::{seeded, Bench};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;

const QUEUES: usize = 8;
const VD_BITS: usize = 3;
/// Namespaces that commands name: those of disks are 1 to 8.
const NAMESPACES: [u64; 6] = [1, 2, 3, 8, 9, 0];

/// A ring: how far it was fetched, how far it has passed, how far it goes.
#[derive(Clone, Default)]
struct Ring {
    fetched: u64,
    passed: u64,
    tail: u64,
    limit: u64,
    reserve: bool,
    /// Names one disk only.
    namespace: Option<u64>,
}

struct Rig {
    bench: Bench,
    slots: u64,
    reserved: u64,
    rings: Vec<Ring>,
    quotas: [u64; 1 << VD_BITS],
    /// Fetched: due cycle, queue, place in its ring.
    flying: VecDeque<(u64, usize, u64)>,
    /// Passed the valve, to come out; and those that have a slot.
    owed: VecDeque<(usize, u64)>,
    held: Vec<(usize, u64)>,
    /// Cycles of the last ends, with what ended.
    recent: VecDeque<(u64, usize, u64)>,
    offered: Option<(usize, u64)>,
    /// Taken and not decided.
    weighed: VecDeque<(usize, u64)>,
    delay: u64,
    wakes: u64,
    returns: u64,
    completed: Vec<u64>,
}

/// The namespace of a queue's command.
fn namespace(rings: &[Ring], queue: usize, place: u64) -> u64 {
    let spread = (place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize + queue;
    rings[queue].namespace.unwrap_or(NAMESPACES[spread % NAMESPACES.len()])
}

fn is_named(namespace: u64) -> bool {
    (1..=1 << VD_BITS).contains(&namespace)
}

impl Rig {
    fn new(slot_bits: usize) -> Self {
        let sizes = Sizes { queue_bits: 3, vd_bits: VD_BITS, slot_bits, ..Sizes::DEFAULT };
        let mut bench = Bench::new(&format!("slot_quotas_{slot_bits}"), SlotQuotas::new(&sizes));
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench.set("told_room", 1);
        for _ in 0..(1 << VD_BITS) + 8 {
            bench.cycle();
        }
        assert_eq!(bench.get("idle"), 1);
        Self {
            bench,
            slots: 1 << slot_bits,
            reserved: sizes.reserved_slots(),
            rings: vec![Ring::default(); QUEUES],
            quotas: [0; 1 << VD_BITS],
            flying: VecDeque::new(),
            owed: VecDeque::new(),
            held: Vec::new(),
            recent: VecDeque::new(),
            offered: None,
            weighed: VecDeque::new(),
            delay: 20,
            wakes: 0,
            returns: 0,
            completed: vec![0; QUEUES],
        }
    }

    fn access(&mut self, write: bool, number: u16, index: usize, data: Bits<256>) -> Bits<256> {
        let request = TableRequest {
            write: u64::from(write).to_bits(),
            table: u64::from(number).to_bits(),
            index: (index as u64).to_bits(),
            data,
        };
        self.bench.set_record::<305>("table_request", request);
        self.bench.set("table_valid", 1);
        let mut answer = None;
        for _ in 0..6 {
            self.bench.cycle();
            self.bench.set("table_valid", 0);
            if self.bench.get("table_ack") == 1 {
                assert!(answer.is_none(), "one answer");
                answer = Some(self.bench.get_record::<256, Bits<256>>("table_data"));
            }
        }
        assert_eq!(answer.is_some(), number == table::QUOTA);
        answer.unwrap_or_default()
    }

    fn set_quota(&mut self, namespace: u64, slots: u64) {
        let quota = QuotaEntry { slots: slots.to_bits(), ..Default::default() };
        let bits: Bits<32> = quota.into();
        let index = namespace as usize - 1;
        self.access(true, table::QUOTA, index, bit_cast::<256, 32>(bits));
        let read = self.access(false, table::QUOTA, index, 0u64.to_bits());
        assert_eq!(read, bit_cast::<256, 32>(bits));
        self.quotas[index] = slots;
    }

    fn set_queue(&mut self, queue: usize, slots: u64, reserve: bool) {
        let entry = QueueEntry {
            slots: slots.to_bits(),
            reserve: u64::from(reserve).to_bits(),
            ..Default::default()
        };
        self.access(true, table::QUEUE, queue, entry.into());
        (self.rings[queue].limit, self.rings[queue].reserve) = (slots, reserve);
    }

    /// Slots of a queue, of a namespace and in all, those of the last cycles' ends among them or not.
    fn counts(&self, queue: usize, namespace: u64, ended: bool) -> (u64, u64, u64) {
        let now = self.bench.cycles;
        let late = self.recent.iter().filter(|(at, _, _)| ended && at + 8 > now).map(|(_, q, n)| (*q, *n));
        let all: Vec<(usize, u64)> = self.held.iter().copied().chain(late).collect();
        let of_queue = all.iter().filter(|(q, _)| *q == queue).count();
        let of_disk = all.iter().filter(|(_, n)| *n == namespace).count();
        (of_queue as u64, of_disk as u64, all.len() as u64)
    }

    fn is_over(&self, queue: usize, namespace: u64, (of_queue, of_disk, all): (u64, u64, u64)) -> bool {
        let ring = &self.rings[queue];
        let bounds = |limit: u64, count| limit > 0 && limit < self.slots && count >= limit;
        let pool = if ring.reserve { self.slots } else { self.slots - self.reserved };
        let quota = if is_named(namespace) { self.quotas[namespace as usize - 1] } else { 0 };
        bounds(ring.limit, of_queue) || bounds(quota, of_disk) || all >= pool
    }

    /// A cycle: fetches, offers, decides, takes; `end` chooses a slot to free.
    fn cycle(&mut self, random: &mut ChaCha8Rng, stalls: f64, end: Option<usize>) {
        let now = self.bench.cycles;
        let [shut, woken, careful] = ["shut", "woken", "careful"].map(|mask| self.bench.get(mask));
        let has = |mask: u128, queue: usize| mask >> queue & 1 == 1;
        // One queue is visited.
        let queue = random.random_range(1..QUEUES);
        let ring = &mut self.rings[queue];
        let drained = ring.fetched == ring.passed;
        let mut reopened = 0;
        if has(shut, queue) {
            if has(woken, queue) && drained {
                reopened = 1 << queue;
            }
        } else if ring.fetched < ring.tail
            && (drained || !has(careful, queue))
            && self.flying.len() < 32
            && self.delay > 0
        {
            for _ in 0..random.random_range(1..=2u64.min(ring.tail - ring.fetched)) {
                self.flying.push_back((now + self.delay, queue, ring.fetched));
                ring.fetched += 1;
            }
        }
        self.bench.set("reopened", reopened);
        if self.offered.is_none() && self.flying.front().is_some_and(|(due, _, _)| *due <= now) {
            self.offered = self.flying.pop_front().map(|(_, queue, place)| (queue, place));
        }
        let valid = self.offered.is_some() && !random.random_bool(stalls);
        self.bench.set("command$valid", valid.into());
        if let Some((queue, place)) = self.offered {
            let command = ClientCommand {
                queue: (queue as u64).to_bits(),
                command_id: (place & 0xFFFF).to_bits(),
                namespace_id: namespace(&self.rings, queue, place).to_bits(),
                ..Default::default()
            };
            self.bench.set_record::<329>("command$data", command);
        }
        self.bench.set("told_room", (!random.random_bool(stalls)).into());
        let awaken = !random.random_bool(stalls);
        self.bench.set("awaken_taken", awaken.into());
        let ready = !random.random_bool(stalls);
        self.bench.set("out$ready", ready.into());
        self.bench.set("ended_valid", end.is_some().into());
        if let Some(place) = end {
            let (queue, namespace) = self.held.swap_remove(place);
            let owner = SlotOwner {
                queue: (queue as u64).to_bits(),
                namespace: namespace.to_bits(),
                named: u64::from(is_named(namespace)).to_bits(),
                ..Default::default()
            };
            self.bench.set_record::<41>("ended", owner);
            self.recent.push_back((now, queue, namespace));
            self.completed[queue] += 1;
        }
        self.recent.retain(|(at, _, _)| at + 8 > now);
        self.bench.eval();
        if self.bench.get("awaken_valid") == 1 && awaken {
            self.wakes += 1;
            let queue = self.bench.get("awaken_queue") as usize;
            assert!(has(woken, queue) || !has(shut, queue), "cycle {now}: {queue}");
        }
        for (port, passes) in [("passed", true), ("returned", false)] {
            if self.bench.get(&format!("{port}_valid")) == 0 {
                continue;
            }
            let queue = self.bench.get(&format!("{port}_queue")) as usize;
            let (weighed, place) = self.weighed.pop_front().expect("one that was taken");
            assert_eq!(queue, weighed, "cycle {now}");
            let named = namespace(&self.rings, queue, place);
            if passes {
                let counts = self.counts(queue, named, false);
                assert!(!self.is_over(queue, named, counts), "cycle {now}: {queue} has {counts:?}");
                assert_eq!(place, self.rings[queue].passed, "nothing of its ring is left out");
                self.rings[queue].passed += 1;
                self.held.push((queue, named));
                self.owed.push_back((queue, place));
            } else {
                let counts = self.counts(queue, named, true);
                let behind = self.rings[queue].passed < place;
                assert!(behind || self.is_over(queue, named, counts), "cycle {now}: {queue} had {counts:?}");
                self.rings[queue].fetched -= 1;
                self.returns += 1;
            }
        }
        // What comes out: in order, and as it went in.
        if ready && self.bench.get("out$valid") == 1 {
            let command: ClientCommand = self.bench.get_record::<329, _>("out$data");
            let (queue, place) = (command.queue.index(), command.command_id.to_u64());
            let due = self.owed.pop_front().map(|(queue, place)| (queue, place & 0xFFFF));
            assert_eq!(Some((queue, place)), due, "cycle {now}");
        }
        if valid && self.bench.get("command$ready") == 1 {
            self.weighed.extend(self.offered.take());
        }
        self.bench.cycle();
    }

    /// Frees slots at random, of all that are held or those of some queues.
    fn pick(&self, random: &mut ChaCha8Rng, rate: f64, of: impl Fn(usize, u64) -> bool) -> Option<usize> {
        let places: Vec<usize> =
            (0..self.held.len()).filter(|place| of(self.held[*place].0, self.held[*place].1)).collect();
        (!places.is_empty() && random.random_bool(rate)).then(|| places[random.random_range(0..places.len())])
    }

    /// Everything ends.
    fn drain(&mut self, random: &mut ChaCha8Rng) {
        for step in 0.. {
            let rings = &self.rings;
            if rings.iter().all(|ring| ring.passed == ring.tail) && self.held.is_empty() {
                break;
            }
            assert!(step < 400_000, "stuck: {} held, {:x} shut", self.held.len(), self.bench.get("shut"));
            let end = self.pick(random, 0.1, |_, _| true);
            self.cycle(random, 0.1, end);
        }
        for _ in 0..300 {
            self.cycle(random, 0.0, None);
        }
        assert!(self.owed.is_empty() && self.weighed.is_empty());
        assert_eq!((self.bench.get("idle"), self.bench.get("shut")), (1, 0));
    }
}

fn runs_at_random(slot_bits: usize) {
    let mut rig = Rig::new(slot_bits);
    let mut random = seeded();
    for round in 0..24 {
        for queue in 1..QUEUES {
            let limit = [0, 0, 1, 3, rig.slots / 2, rig.slots + 1][random.random_range(0..6)];
            rig.set_queue(queue, limit, random.random_bool(0.2));
            rig.rings[queue].tail += random.random_range(0..400);
        }
        for number in 1..=1u64 << VD_BITS {
            rig.set_quota(number, [0, 1, 2, 5, rig.slots / 3, 0xFFFF][random.random_range(0..6)]);
        }
        let stalls = [0.0, 0.1, 0.5][random.random_range(0..3)];
        rig.delay = [1, 10, 100][random.random_range(0..3)];
        // Those of one disk are not given back for a while.
        let stuck = [0, 1, 2][random.random_range(0..3)];
        for _ in 0..2_000 {
            let end = rig.pick(&mut random, [0.02, 0.2][round % 2], |_, named| named != stuck);
            rig.cycle(&mut random, stalls, end);
        }
        rig.drain(&mut random);
    }
    assert!(rig.returns > 2_000 && rig.wakes > 500, "{} back, {} wakes", rig.returns, rig.wakes);
}

#[test]
fn agrees_with_plain_numbers_at_random() {
    runs_at_random(5);
    runs_at_random(8);
}

/// Two queues of one disk that is full, one of another disk, and one whose disk is stuck.
#[test]
fn nobody_waits_for_others_and_turns_are_taken() {
    let mut rig = Rig::new(8);
    let mut random = seeded();
    for (queue, named) in [(1, 1), (2, 1), (3, 2), (4, 3)] {
        rig.rings[queue].namespace = Some(named);
        rig.rings[queue].tail = 1 << 40;
    }
    rig.set_quota(1, 4);
    rig.set_quota(3, 16);
    let mut returns_of_stuck = 0;
    for step in 0..60_000 {
        // The disk of queue 4 answers nothing.
        let end = rig.pick(&mut random, 0.3, |_, named| named != 3);
        let before = rig.rings[4].fetched;
        rig.cycle(&mut random, 0.0, end);
        returns_of_stuck += u64::from(step > 2_000 && rig.rings[4].fetched < before);
    }
    let [first, second, other, stuck] = [1, 2, 3, 4].map(|queue| rig.completed[queue]);
    assert!(first.abs_diff(second) * 10 < first + second, "{first} and {second}");
    assert!(first > 300 && other > 10_000 && stuck == 0, "{first}, {other}, {stuck}");
    assert_eq!(rig.held.iter().filter(|(queue, _)| *queue == 4).count(), 16);
    assert_eq!(returns_of_stuck, 0, "it is left alone");
}

#[test]
fn takes_four_cycles() {
    let mut rig = Rig::new(5);
    rig.set_queue(3, 2, false);
    rig.bench.set("out$ready", 1);
    let mut seen = Vec::new();
    let command = ClientCommand { queue: 3u64.to_bits(), namespace_id: 1u64.to_bits(), ..Default::default() };
    rig.bench.set_record::<329>("command$data", command);
    rig.bench.set("command$valid", 1);
    let (mut taken, mut ended) = (Vec::new(), 0);
    for _ in 0..400 {
        rig.bench.eval();
        let now = rig.bench.cycles;
        if rig.bench.get("command$ready") == 1 && taken.len() < 3 {
            taken.push(now);
        }
        if rig.bench.get("out$valid") == 1 {
            seen.push(now);
        }
        if taken.len() == 3 && now == taken[2] + 20 {
            ended = now;
        }
        rig.bench.set("ended_valid", (now == ended).into());
        let owner = SlotOwner { queue: 3u64.to_bits(), ..Default::default() };
        rig.bench.set_record::<41>("ended", owner);
        if rig.bench.get("awaken_valid") == 1 {
            let latency = now - ended;
            // It is the fourth queue that is looked at.
            assert_eq!(latency, 5 + 7 + 3 * 2, "cycles from an end");
            break;
        }
        rig.bench.cycle();
        rig.bench.set("command$valid", (taken.len() < 3).into());
    }
    assert_eq!((taken[1] - taken[0], seen[0] - taken[0], seen.len()), (2, 4, 2));
    assert_eq!(rig.bench.get("shut"), 1 << 3);
    // A queue that begins anew is open.
    rig.bench.set("restarted", 1 << 3);
    rig.bench.cycle();
    assert_eq!(["shut", "woken", "careful"].map(|mask| rig.bench.get(mask)), [0; 3]);
}
