//! `QueuePairs` against a plain model of rings, doorbells, completions and quotas.

use super::*;
use crate::bench::{seeded, Bench};
use crate::host::entry_assembler::{CLIENT_CREDIT_BITS, CONTROL_CREDIT_BITS};
use crate::host::record_words::{bits, words};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;

const CONTROL_BASE: u64 = 0x7_0000_3000;
const CONTROL_ENTRIES: u64 = 8;

/// A queue pair as its owner and the specification see it; pointers count on, without wrapping.
#[derive(Clone, Default)]
struct Queue {
    entry: volplane_abi::QueueEntry,
    tail: u64,
    /// Where the next request begins: what was given back is asked for anew when the queue is open again.
    next: u64,
    asked: u64,
    arrived: u64,
    failed: u64,
    /// Taken by the quotas. What they give back is neither asked for nor arrived any more.
    passed: u64,
    completed: u64,
    /// Completions the client has taken and told in a doorbell.
    cq_head: u64,
    /// Cycle in which a bad doorbell or a failure was given.
    stopped_at: Option<u64>,
}

impl Queue {
    fn new(entry: volplane_abi::QueueEntry) -> Self {
        Self { entry, ..Self::default() }
    }

    fn sq_entries(&self) -> u64 {
        u64::from(self.entry.sq_size_z()) + 1
    }

    fn cq_entries(&self) -> u64 {
        u64::from(self.entry.cq_size_z()) + 1
    }

    fn outstanding(&self) -> u64 {
        self.asked - self.failed - self.completed
    }

    /// Commands that have passed and not completed.
    fn running(&self) -> u64 {
        self.passed - self.completed
    }

    /// Nothing is left to do for its client, which takes completions as they come.
    fn is_drained(&self) -> bool {
        self.is_quiet() && (self.cq_head == self.completed || self.entry.enable() == 0)
    }

    fn is_quiet(&self) -> bool {
        self.outstanding() == 0 && self.passed + self.failed == self.asked
    }
}

struct Rig {
    bench: Bench,
    queues: Vec<Queue>,
    /// Entries asked for, in order: due from this cycle on.
    flying: VecDeque<(u64, usize)>,
    credits: [usize; 2],
    /// Credits to give back: cycle and kind.
    returns: Vec<(u64, usize)>,
    /// At the quotas: due from this cycle on.
    weighed: VecDeque<(u64, usize)>,
    /// How many of them go back, for their own sake.
    refusal_rate: f64,
    shut: u32,
    woken: u32,
    careful: u32,
    /// When a queue was last shut; when it last became careful.
    shut_at: Vec<u64>,
    awaken: Option<usize>,
    given_back: u64,
    delay: u64,
    failure_rate: f64,
    credit_delay: u64,
    last_completion: u64,
    requests: u64,
    entries: u64,
    fetched: u64,
    fetched_told: u64,
}

impl Rig {
    fn new(name: &str, queue_bits: usize) -> Self {
        let sizes = Sizes { queue_bits, ..Sizes::DEFAULT };
        let mut bench = Bench::new(&format!("queue_pairs_{name}_{queue_bits}"), QueuePairs::new(&sizes));
        bench.set("control_sq_base", CONTROL_BASE.into());
        bench.set("control_entries_z", u128::from(CONTROL_ENTRIES) - 1);
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        for _ in 0..(1 << queue_bits) + 2 {
            bench.cycle();
        }
        assert_eq!(bench.get("idle"), 1);
        let control = volplane_abi::QueueEntry::default()
            .with_sq_base(CONTROL_BASE)
            .with_sq_size_z(CONTROL_ENTRIES as u16 - 1)
            .with_cq_size_z(CONTROL_ENTRIES as u16 - 1)
            .with_enable(1);
        let mut queues = vec![Queue::default(); 1 << queue_bits];
        queues[0] = Queue::new(control);
        Self {
            bench,
            queues,
            flying: VecDeque::new(),
            credits: [1 << CONTROL_CREDIT_BITS, 1 << CLIENT_CREDIT_BITS],
            returns: Vec::new(),
            weighed: VecDeque::new(),
            refusal_rate: 0.0,
            shut: 0,
            woken: 0,
            careful: 0,
            shut_at: vec![0; 1 << queue_bits],
            awaken: None,
            given_back: 0,
            delay: 0,
            failure_rate: 0.0,
            credit_delay: 0,
            last_completion: 0,
            requests: 0,
            entries: 0,
            fetched: 0,
            fetched_told: 0,
        }
    }

    fn enable(&mut self) {
        self.bench.set("enable", 1);
        self.run(10);
    }

    fn run(&mut self, cycles: u64) {
        // Without failures and stalls nothing is left to chance.
        let mut random = ChaCha8Rng::seed_from_u64(0);
        for _ in 0..cycles {
            self.cycle(&mut random, 1.0);
        }
    }

    /// A cycle: takes a request, gives what is due, checks both.
    fn cycle(&mut self, random: &mut impl Rng, ready_rate: f64) {
        let now = self.bench.cycles;
        let ready = random.random_bool(ready_rate);
        self.bench.set("request$ready", ready.into());
        let arrives = self.flying.front().is_some_and(|(due, _)| *due <= now);
        self.bench.set("arrived", arrives.into());
        if arrives {
            let (_, number) = self.flying.pop_front().expect("just seen");
            let fails = random.random_bool(self.failure_rate);
            let queue = &mut self.queues[number];
            queue.arrived += 1;
            self.bench.set("arrived_queue", number as u128);
            self.bench.set("arrived_failed", fails.into());
            if fails {
                queue.failed += 1;
                queue.stopped_at.get_or_insert(now);
            } else if number == 0 {
                queue.passed += 1;
            } else {
                let wait = if self.credit_delay == 0 { 1 } else { random.random_range(1..30) };
                self.weighed.push_back((now + wait, number));
            }
            let after = if self.credit_delay == 0 { 0 } else { random.random_range(0..self.credit_delay) };
            self.returns.push((now + after, usize::from(number != 0)));
        }
        for (kind, port) in ["control_returned", "client_returned"].into_iter().enumerate() {
            let due = self.returns.iter().position(|(due, k)| *k == kind && *due <= now);
            self.bench.set(port, due.is_some().into());
            if let Some(index) = due {
                self.returns.swap_remove(index);
                self.credits[kind] += 1;
            }
        }
        self.weigh(random);
        self.bench.eval();
        let [reopened, restarted] = ["reopened", "restarted"].map(|mask| self.bench.get(mask) as u32);
        for number in (0..self.queues.len()).filter(|number| reopened >> number & 1 == 1) {
            let queue = &mut self.queues[number];
            queue.next = queue.asked;
            assert_eq!(queue.asked, queue.passed + queue.failed, "queue {number} has some on their way");
            assert!(self.shut & self.woken & 1 << number != 0, "queue {number}");
        }
        self.shut &= !(reopened | restarted);
        self.woken &= !(reopened | restarted);
        self.careful &= !restarted;
        if self.bench.get("awaken_taken") == 1 {
            self.awaken = None;
        }
        if ready && self.bench.get("request$valid") == 1 {
            let request: ReadRequest = bits::<80>(&self.bench.get_wide("request$data")).into();
            self.take(now, request);
        }
        self.fetched_told += self.bench.get("command_fetched") as u64;
        self.bench.cycle();
        for pulse in ["write_valid", "table_valid", "client_completed", "control_done"] {
            self.bench.set(pulse, 0);
        }
    }

    /// The quotas' side: passes an entry or gives it back, and wakes queues that are shut.
    fn weigh(&mut self, random: &mut impl Rng) {
        let now = self.bench.cycles;
        let due =
            self.weighed.front().is_some_and(|(due, _)| *due <= now) && self.bench.get("told_room") == 1;
        let number = if due { self.weighed.pop_front().map_or(0, |(_, number)| number) } else { 0 };
        let bit = 1u32 << number;
        let behind = self.shut & bit != 0;
        let refuses = due && (behind || random.random_bool(self.refusal_rate));
        self.bench.set("passed", (due && !refuses).into());
        self.bench.set("passed_queue", number as u128);
        self.bench.set("returned", refuses.into());
        self.bench.set("returned_queue", number as u128);
        if refuses {
            self.queues[number].asked -= 1;
            self.queues[number].arrived -= 1;
            self.given_back += 1;
            if !behind {
                self.shut_at[number] = now;
            }
            (self.shut, self.careful) = (self.shut | bit, self.careful | bit);
        } else if due {
            self.queues[number].passed += 1;
            self.fetched += 1;
            if random.random_bool(0.1) {
                self.careful &= !bit;
            }
        }
        let asleep: Vec<usize> =
            (0..self.queues.len()).filter(|n| self.shut >> n & 1 == 1 && self.woken >> n & 1 == 0).collect();
        if self.awaken.is_none() && !asleep.is_empty() && random.random_bool(0.03) {
            let number = asleep[random.random_range(0..asleep.len())];
            self.woken |= 1 << number;
            self.awaken = Some(number);
        }
        for (port, mask) in [("shut", self.shut), ("woken", self.woken), ("careful", self.careful)] {
            self.bench.set(port, mask.into());
        }
        self.bench.set("awaken_valid", self.awaken.is_some().into());
        self.bench.set("awaken_queue", self.awaken.unwrap_or(0) as u128);
    }

    fn take(&mut self, now: u64, request: ReadRequest) {
        let number = request.tag.index();
        let entries = request.bytes.to_u64() / 64;
        assert!(entries == 1 || entries == 2, "{request:?}");
        let (long, bit) = (now > self.shut_at[number] + 60, 1u32 << number);
        assert!(self.shut & bit == 0 || !long, "queue {number} is shut");
        let queue = &mut self.queues[number];
        let on_their_way = queue.asked - queue.passed - queue.failed;
        assert!(self.careful & bit == 0 || !long || on_their_way == 0, "queue {number} is to be careful");
        let at = queue.next % queue.sq_entries();
        queue.next += entries;
        assert_eq!(queue.entry.enable(), 1, "queue {number} is not enabled");
        assert_eq!(request.address.to_u64(), queue.entry.sq_base() + 64 * at, "queue {number}");
        assert!(at + entries <= queue.sq_entries() && at % 64 + entries <= 64, "crosses a border");
        queue.asked += entries;
        assert!(queue.asked <= queue.tail, "queue {number}: beyond the tail");
        let reserved = queue.asked - queue.failed - queue.cq_head;
        assert!(reserved < queue.cq_entries(), "queue {number}: no room for the completion");
        // The doorbell that stops it waits behind entries that go back.
        assert!(queue.stopped_at.is_none_or(|at| now < at + 500), "queue {number} is stopped");
        let credits = &mut self.credits[usize::from(number != 0)];
        *credits = credits.checked_sub(entries as usize).expect("a credit");
        for i in 0..entries {
            self.flying.push_back((now + self.delay + i, number));
        }
        self.requests += 1;
        self.entries += entries;
    }

    fn doorbell(&mut self, offset: u32, value: u64) {
        self.bench.set("write_valid", 1);
        self.bench.set("write_address", offset.into());
        self.bench.set("write_data", value.into());
    }

    fn ring_tail(&mut self, number: usize, more: u64) {
        let queue = &mut self.queues[number];
        queue.tail += more;
        let value = queue.tail % queue.sq_entries();
        self.doorbell(volplane_abi::registers::sq_tail_doorbell(number as u16), value);
    }

    fn ring_head(&mut self, number: usize, more: u64) {
        let queue = &mut self.queues[number];
        queue.cq_head += more;
        let value = queue.cq_head % queue.cq_entries();
        self.doorbell(volplane_abi::registers::cq_head_doorbell(number as u16), value);
    }

    fn complete(&mut self, number: usize) {
        self.queues[number].completed += 1;
        self.last_completion = self.bench.cycles;
        if number == 0 {
            self.bench.set("control_done", 1);
        } else {
            self.bench.set("client_completed", 1);
            self.bench.set("client_completed_queue", number as u128);
        }
    }

    /// An access of the table bus: what was answered, or nothing after 40 cycles.
    fn access(
        &mut self,
        random: &mut impl Rng,
        number: u16,
        index: u64,
        write: Option<&volplane_abi::QueueEntry>,
    ) -> Option<Vec<u32>> {
        let bytes = write.map_or([0; 32], |entry| entry.0);
        let data: Vec<u32> =
            bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().expect("4 bytes"))).collect();
        let request = TableRequest {
            write: write.is_some().into(),
            table: u64::from(number).into(),
            index: index.into(),
            data: bits(&data),
        };
        self.bench.set_wide("table_request", &words::<305>(request));
        self.bench.set("table_valid", 1);
        for _ in 0..32 {
            self.cycle(random, 0.7);
            let answer = self.bench.get_wide("table_data");
            if self.bench.get("table_ack") == 1 {
                self.cycle(random, 0.7);
                assert_eq!(self.bench.get("table_ack"), 0, "one pulse");
                return Some(answer);
            }
            assert!(answer.iter().all(|&word| word == 0), "no data but with the acknowledgement");
        }
        None
    }

    fn write_queue(&mut self, random: &mut impl Rng, index: usize, entry: volplane_abi::QueueEntry) {
        let answer = self.access(random, table::QUEUE, index as u64, Some(&entry));
        assert_eq!(answer, Some(vec![0; 8]));
    }

    fn state(&mut self, random: &mut impl Rng, index: usize) -> volplane_abi::QueueState {
        let answer = self.access(random, table::QUEUE_STATE, index as u64, None).expect("an answer");
        let mut state = volplane_abi::QueueState::default();
        for (bytes, word) in state.0.chunks_mut(4).zip(answer) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        state
    }
}

fn entry(base: u64, sq_entries: u16, cq_entries: u16) -> volplane_abi::QueueEntry {
    volplane_abi::QueueEntry::default()
        .with_sq_base(base)
        .with_cq_base(0xFEDC_BA98_7654_3000)
        .with_sq_size_z(sq_entries - 1)
        .with_cq_size_z(cq_entries - 1)
        .with_vector(0x1234)
        .with_interrupt_enable(1)
        .with_client(0xABCD)
        .with_function(0x5678)
        .with_slots(0x9ABC)
        .with_reserve(1)
        .with_enable(1)
}

#[test]
fn fetches_and_stops_as_told() {
    let mut rig = Rig::new("directed", 4);
    let mut random = seeded();
    // Nothing before the card is enabled.
    rig.doorbell(0x10000, 1);
    rig.run(40);
    assert_eq!((rig.requests, rig.bench.get("idle")), (0, 1));
    rig.enable();
    rig.delay = 1 << 40;
    rig.queues[0].tail = 3;
    rig.doorbell(0x10000, 3);
    let begun = rig.bench.cycles;
    while rig.requests == 0 {
        rig.run(1);
        assert!(rig.bench.cycles < begun + 30);
    }
    // The cycle that took the request has passed as well.
    assert_eq!(rig.bench.cycles - 1 - begun, 11, "latency");
    rig.run(20);
    assert_eq!((rig.requests, rig.entries), (2, 3));
    // The head is told only for what has arrived.
    rig.bench.set("head_query", 0);
    rig.run(1);
    assert_eq!(rig.bench.get("head_value"), 0);
    rig.flying.iter_mut().for_each(|(due, _)| *due = 0);
    rig.delay = 0;
    rig.run(20);
    assert_eq!((rig.bench.get("head_value"), rig.bench.get("idle")), (3, 1));

    // The table: refused, written, read back; nothing of others.
    assert_eq!(rig.access(&mut random, table::QUEUE, 0, Some(&entry(0, 2, 2))), None);
    assert_eq!(rig.access(&mut random, table::QUEUE, 16, Some(&entry(0, 2, 2))), None);
    assert_eq!(rig.access(&mut random, table::QUEUE_STATE, 1, Some(&entry(0, 2, 2))), None);
    assert_eq!(rig.access(&mut random, table::VD, 1, None), None);
    let written = entry(0x1_2345_6789_A000, 6, 4);
    rig.write_queue(&mut random, 5, written);
    rig.queues[5] = Queue::new(written);
    let read = rig.access(&mut random, table::QUEUE, 5, None).expect("an answer");
    let bytes: Vec<u8> = read.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(bytes, written.0);

    // Three of five: the completion ring has 4 entries and holds 3.
    rig.ring_tail(5, 5);
    rig.run(40);
    assert_eq!((rig.queues[5].asked, rig.bench.get("idle")), (3, 1));
    let state = rig.state(&mut random, 5);
    assert_eq!((state.sq_head(), state.sq_tail(), state.cq_reserved()), (3, 5, 3));
    assert_eq!((state.outstanding(), state.stopped(), state.cq_head()), (3, 0, 0));
    rig.complete(5);
    rig.run(2);
    rig.ring_head(5, 1);
    rig.run(40);
    assert_eq!(rig.queues[5].asked, 4);

    // A doorbell beyond the ring stops this queue and no other, until it is written again.
    for (queue, offset, value) in
        [(5, 0x15000, 6), (5, 0x15004, 4), (5, 0x15000, 0x1_0000), (0, 0x10000, 8), (0, 0x10004, 0xFFFF_FFFF)]
    {
        rig.doorbell(offset, value);
        rig.run(20);
        assert_eq!(rig.state(&mut random, queue).stopped(), 1);
        assert_eq!(rig.bench.get("control_stopped"), u128::from(queue == 0));
        assert_eq!(rig.state(&mut random, 5 - queue).stopped(), 0);
        rig.queues[queue].stopped_at = Some(0);
        rig.ring_tail(queue, 1);
        rig.run(40);
        let completed = rig.queues[queue].outstanding();
        for _ in 0..completed {
            rig.complete(queue);
            rig.run(2);
        }
        if queue == 0 {
            rig.bench.set("enable", 0);
            rig.run(4);
            rig.enable();
        } else {
            rig.write_queue(&mut random, 5, written);
        }
        rig.queues[queue] = Queue::new(rig.queues[queue].entry);
        let state = rig.state(&mut random, queue);
        let expected = volplane_abi::QueueState::default();
        assert_eq!(state.0, expected.0, "{state:?}");
        rig.ring_tail(queue, 2);
        rig.run(40);
        assert_eq!((rig.queues[queue].asked, rig.bench.get("control_stopped")), (2, 0));
    }
}

/// Software writes the enable and the doorbell one after the other; both are posted.
#[test]
fn a_doorbell_right_behind_the_enable_counts() {
    for wait in 0..12 {
        let mut rig = Rig::new("behind", 4);
        rig.bench.set("enable", 1);
        rig.run(wait);
        rig.queues[0].tail = 3;
        rig.doorbell(0x10000, 3);
        rig.run(60);
        assert_eq!(rig.entries, 3, "{wait} cycles behind");
    }
}

#[test]
fn a_failed_fetch_stops_its_queue_alone() {
    let mut rig = Rig::new("failure", 4);
    let mut random = seeded();
    rig.enable();
    for number in [2, 3] {
        let written = entry(0x10_0000, 32, 16);
        rig.write_queue(&mut random, number, written);
        rig.queues[number] = Queue::new(written);
    }
    // The sixteenth entry takes the reservation around the ring of 16, and it is the one refused.
    rig.ring_tail(2, 15);
    rig.run(60);
    for _ in 0..15 {
        rig.complete(2);
        rig.run(2);
    }
    rig.ring_head(2, 15);
    rig.run(10);
    rig.failure_rate = 1.0;
    rig.ring_tail(2, 1);
    rig.run(30);
    rig.failure_rate = 0.0;
    let state = rig.state(&mut random, 2);
    assert_eq!((state.stopped(), state.outstanding(), state.cq_reserved()), (1, 0, 15), "{state:?}");
    assert_eq!((state.sq_head(), state.sq_tail(), state.cq_head()), (16, 16, 15), "the entry is consumed");
    rig.ring_tail(2, 4);
    rig.run(4);
    rig.ring_tail(3, 4);
    rig.run(60);
    assert_eq!((rig.queues[2].asked, rig.queues[3].asked), (16, 4));
    assert_eq!((rig.state(&mut random, 3).stopped(), rig.fetched_told), (0, 19));
}

#[test]
fn keeps_the_bus_busy_with_one_deep_queue() {
    let mut rig = Rig::new("deep", 4);
    let mut random = seeded();
    rig.enable();
    let deep = entry(0x4000, 4096, 4096);
    rig.write_queue(&mut random, 1, deep);
    rig.queues[1] = Queue::new(deep);
    // Until answers come, all credits are on their way.
    rig.delay = 1 << 40;
    rig.ring_tail(1, 4000);
    rig.run(200);
    assert_eq!((rig.entries, rig.requests), (32, 16));
    // Then a burst of two every 4 cycles.
    rig.flying.iter_mut().for_each(|(due, _)| *due = 0);
    rig.delay = 20;
    rig.run(100);
    let (begun, cycles) = (rig.entries, 1000);
    rig.run(cycles);
    let entries = rig.entries - begun;
    assert!(entries * 2 >= cycles - 40, "{entries} entries in {cycles} cycles");
}

/// A doorbell the owner of the queue may give, or now and then a bad one.
fn ring_at_random(rig: &mut Rig, random: &mut impl Rng) {
    let number = random.random_range(0..rig.queues.len());
    let queue = &rig.queues[number];
    if queue.entry.enable() == 0 {
        rig.doorbell(0x10000 + 0x1000 * number as u32, 1);
        return;
    }
    if random.random_bool(0.003) && number != 0 {
        let now = rig.bench.cycles;
        let is_head = random.random_bool(0.5);
        let entries = if is_head { queue.cq_entries() } else { queue.sq_entries() };
        rig.queues[number].stopped_at.get_or_insert(now);
        let value = entries + random.random_range(0..5) * random.random_range(0..0x4000);
        rig.doorbell(0x10000 + 0x1000 * number as u32 + 4 * u32::from(is_head), value);
        return;
    }
    // An entry that has not been fetched is not overwritten.
    let free = queue.sq_entries() - 1 - (queue.tail - queue.passed - queue.failed);
    let taken = queue.completed - queue.cq_head;
    if taken > 0 && (free == 0 || random.random_bool(0.4)) {
        let more = random.random_range(1..=taken);
        rig.ring_head(number, more);
    } else if free > 0 {
        let more = random.random_range(1..=free);
        rig.ring_tail(number, more);
    } else {
        rig.doorbell(0x10008 + 0x1000 * number as u32, 0xFFFF);
    }
}

/// Disables a queue, or begins it anew when nothing of it is under way.
fn configure_at_random(rig: &mut Rig, random: &mut impl Rng) {
    let number = random.random_range(1..rig.queues.len());
    let queue = rig.queues[number].clone();
    if queue.entry.enable() == 1 && (queue.stopped_at.is_some() || random.random_bool(0.2)) {
        // Requests already offered may still be taken.
        let disabled = queue.entry.with_enable(0);
        rig.write_queue(random, number, disabled);
        while rig.bench.get("request$valid") == 1 {
            rig.cycle(random, 1.0);
        }
        rig.queues[number].entry = disabled;
    } else if queue.is_quiet() && queue.entry.enable() == 0 && rig.bench.cycles > rig.last_completion + 4 {
        // What the quotas gave back may not be accounted for yet.
        if rig.state(random, number).outstanding() > 0 {
            return;
        }
        // Doorbells from before are ignored.
        (0..200).for_each(|_| rig.cycle(random, 1.0));
        let base = random.random_range(0..1u64 << 50) << 12;
        let anew = entry(base, random.random_range(2..200), random.random_range(2..60));
        rig.write_queue(random, number, anew);
        rig.queues[number] = Queue::new(anew);
    }
}

fn complete_at_random(rig: &mut Rig, random: &mut impl Rng) {
    let number = random.random_range(0..rig.queues.len());
    if rig.queues[number].running() > 0 {
        rig.complete(number);
    }
}

fn runs_at_random(queue_bits: usize) {
    let mut rig = Rig::new("random", queue_bits);
    let mut random = seeded();
    rig.enable();
    let mut stops = 0;
    let mut bell = 0;
    for step in 0..50_000u64 {
        if step % 500 == 0 {
            rig.delay = [0, 5, 60][random.random_range(0..3)];
            rig.credit_delay = [0, 4, 100][random.random_range(0..3)];
            rig.failure_rate = if random.random_bool(0.5) { 0.01 } else { 0.0 };
            rig.refusal_rate = [0.0, 0.02, 0.3][random.random_range(0..3)];
        }
        // The control ring is not to fail: its owner would have to disable the card.
        if rig.flying.front().is_some_and(|(_, number)| *number == 0) {
            rig.failure_rate = 0.0;
        }
        if random.random_bool(0.02) {
            let before = rig.queues.iter().filter(|queue| queue.stopped_at.is_some()).count();
            configure_at_random(&mut rig, &mut random);
            let after = rig.queues.iter().filter(|queue| queue.stopped_at.is_some()).count();
            stops += before.saturating_sub(after);
        }
        let room = rig.bench.get("doorbells_full") == 0;
        if room && rig.bench.cycles >= bell + 4 && random.random_bool(0.7) {
            bell = rig.bench.cycles;
            ring_at_random(&mut rig, &mut random);
        }
        complete_at_random(&mut rig, &mut random);
        let ready = if (step / 1000) % 3 == 0 { 0.2 } else { 0.9 };
        rig.cycle(&mut random, ready);
    }
    // Let everything end: completions are taken as they come.
    (rig.delay, rig.credit_delay, rig.failure_rate, rig.refusal_rate) = (0, 0, 0.0, 0.0);
    for step in 0..60_000u64 {
        if step > 1000
            && rig.bench.get("idle") == 1
            && rig.shut == 0
            && rig.queues.iter().all(Queue::is_drained)
        {
            break;
        }
        let number = random.random_range(0..rig.queues.len());
        let queue = &rig.queues[number];
        if step % 4 == 0 && queue.completed > queue.cq_head && queue.entry.enable() == 1 {
            let more = queue.completed - queue.cq_head;
            rig.ring_head(number, more);
        }
        complete_at_random(&mut rig, &mut random);
        rig.cycle(&mut random, 1.0);
    }
    assert_eq!(rig.bench.get("idle"), 1);
    assert_eq!(rig.credits, [1 << CONTROL_CREDIT_BITS, 1 << CLIENT_CREDIT_BITS]);
    assert_eq!(rig.fetched_told, rig.fetched);
    for number in 0..rig.queues.len() {
        let queue = rig.queues[number].clone();
        let state = rig.state(&mut random, number);
        assert_eq!(u64::from(state.outstanding()), 0, "queue {number}");
        if queue.entry.enable() == 0 {
            continue;
        }
        let taken = queue.passed + queue.failed;
        assert_eq!(u64::from(state.sq_head()), taken % queue.sq_entries(), "queue {number}");
        let reserved = (queue.asked - queue.failed) % queue.cq_entries();
        assert_eq!(u64::from(state.cq_reserved()), reserved, "queue {number}");
        assert_eq!(state.stopped() == 1, queue.stopped_at.is_some(), "queue {number}");
        if queue.stopped_at.is_none() {
            assert_eq!(queue.asked, queue.tail, "queue {number}: all was fetched");
            assert_eq!(u64::from(state.sq_tail()), queue.tail % queue.sq_entries());
            assert_eq!(u64::from(state.cq_head()), queue.cq_head % queue.cq_entries());
        }
    }
    assert!(rig.given_back > 500, "{} given back", rig.given_back);
    assert!(rig.entries > 4_000 && stops > 2, "{} entries, {stops} stops", rig.entries);
}

#[test]
fn agrees_with_a_model_at_random() {
    runs_at_random(2);
    runs_at_random(5);
}
