//! `ZeroFiller` against a plain walk of its fragments' pages.

use super::*;
use crate::bench::{seeded, Bench};
use crate::host::zero_bursts::IN_FLIGHT;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const PAGE: u64 = 4096;
/// Bytes of a line that a list is read by.
const LINE: u64 = 128;

/// Host memory: list entries, and lines that cannot be read.
#[derive(Default)]
struct Memory {
    words: BTreeMap<u64, u64>,
    refused: BTreeSet<u64>,
}

/// A fragment, and what must come of it: address and bytes of each write, and the status if none fails.
struct Item {
    fragment: ZeroFragment,
    writes: Vec<(u64, u64)>,
    status: u16,
}

/// Pages of `bytes` bytes that begin at `offset`, with their list; PRP entries of them.
fn lay_out(
    random: &mut ChaCha8Rng,
    memory: &mut Memory,
    number: u64,
    (offset, bytes): (u64, u64),
) -> (u64, u64) {
    let page = |random: &mut ChaCha8Rng| random.random_range(1..1u64 << 52) * PAGE;
    let prp1 = page(random) + offset;
    match (offset + bytes).div_ceil(PAGE) {
        1 => (prp1, random.random()),
        2 => (prp1, page(random)),
        count => {
            // Lists begin anywhere in their page, half of the time so that the chain pointer is near.
            let near = 512 - (count + random.random_range(0..4)).saturating_sub(2).clamp(1, 512);
            let first = [0, random.random_range(0..512), near, near][random.random_range(0..4)];
            let list = (0x10_0000 + 4 * number) * PAGE;
            let (prp2, mut at) = (list + 8 * first, list + 8 * first);
            for left in (1..count).rev() {
                if at % PAGE == PAGE - 8 && left > 1 {
                    let next = (at / PAGE + 1) * PAGE;
                    memory.words.insert(at, next);
                    at = next;
                }
                memory.words.insert(at, page(random));
                at += 8;
            }
            let touched = || memory.words.range(prp2..at).map(|(&at, _)| at);
            let some = random.random_range(0..touched().count());
            let some = touched().nth(some).expect("a list has entries");
            match random.random_range(0..12) {
                0 => *memory.words.get_mut(&some).expect("it is there") += 8 * random.random_range(1..512u64),
                1 => drop(memory.refused.insert(some / LINE)),
                _ => {}
            }
            (prp1, prp2)
        }
    }
}

/// What an NVMe controller would make of a fragment's PRP entries (NVMe Base 2.0, section 4.1.1).
fn walk(memory: &Memory, prp1: u64, prp2: u64, bytes: u64) -> (Vec<(u64, u64)>, u16) {
    let mut segments = Vec::new();
    let (mut page, mut slot, mut left) = (prp1, prp2, bytes);
    loop {
        let here = left.min(PAGE - page % PAGE);
        segments.push((page, here));
        left -= here;
        page = match left {
            0 => return (segments, 0),
            _ if segments.len() == 1 && left <= PAGE => prp2,
            _ => loop {
                if memory.refused.contains(&(slot / LINE)) {
                    return (segments, status::DATA_TRANSFER_ERROR | status::DNR);
                }
                let entry = memory.words[&slot];
                if !entry.is_multiple_of(PAGE) {
                    return (segments, status::INVALID_PRP_OFFSET | status::DNR);
                }
                if slot % PAGE == PAGE - 8 && left > PAGE {
                    slot = entry;
                } else {
                    slot += 8;
                    break entry;
                }
            },
        };
    }
}

fn random_item(random: &mut ChaCha8Rng, memory: &mut Memory, number: u64) -> Item {
    let shift = random.random_range(9..=12u64);
    let most = (1u64 << 20) >> shift;
    // Short ones mostly: a MiB is 16,384 writes.
    let blocks = match random.random_range(0..40) {
        0 => [most, random.random_range(1..=most)][random.random_range(0..2)],
        1..12 => random.random_range(1..=most.min(64)),
        _ => random.random_range(1..=8),
    };
    let offset =
        [0, random.random_range(0..1024) * 4, random.random_range(0..64) * 64][random.random_range(0..3)];
    let bytes = blocks << shift;
    let (prp1, prp2) = lay_out(random, memory, number, (offset, bytes));
    let (segments, status) = walk(memory, prp1, prp2, bytes);
    let mut writes = Vec::new();
    for (start, bytes) in segments {
        let mut at = start;
        while at < start + bytes {
            let fits = |size: u64| at % size == 0 && start + bytes - at >= size;
            let size = [64, 16, 4].into_iter().find(|&size| fits(size)).expect("multiples of 4");
            writes.push((at, size));
            at += size;
        }
    }
    let fragment = ZeroFragment {
        part: random.random_range(0..1u64 << 16).to_bits(),
        ordinal: random.random_range(0..1u64 << 17).to_bits(),
        last: random.random_range(0..2u64).to_bits(),
        prp1: prp1.to_bits(),
        prp2: prp2.to_bits(),
        blocks: blocks.to_bits(),
        block_shift: shift.to_bits(),
    };
    Item { fragment, writes, status }
}

fn start<const W: usize>(name: &str) -> Bench {
    let mut bench = Bench::new(&format!("zero_filler_{name}_{W}"), ZeroFiller::<W>::default());
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    bench.cycle();
    bench
}

/// The other side of the filler: a bus that stalls, and what waits for the fragments.
struct World {
    memory: Memory,
    /// Fragments whose writes have not all come, and the number of those that came of the first one.
    writing: VecDeque<Item>,
    written: usize,
    /// Writes that were not answered: the last one of its fragment?
    unanswered: VecDeque<bool>,
    /// Fragments with their statuses, and whether a write of the first one was refused.
    ending: VecDeque<(ZeroFragment, u16)>,
    refused: bool,
    done: VecDeque<(ZeroFragment, u16)>,
    beats: VecDeque<(u64, bool)>,
    statuses: BTreeMap<u16, u64>,
    returned: u64,
}

impl World {
    fn new() -> Self {
        Self {
            memory: Memory::default(),
            writing: VecDeque::new(),
            written: 0,
            unanswered: VecDeque::new(),
            ending: VecDeque::new(),
            refused: false,
            done: VecDeque::new(),
            beats: VecDeque::new(),
            statuses: BTreeMap::new(),
            returned: 0,
        }
    }

    fn wrote(&mut self, write: ZeroWrite) {
        let size = match (write.is_wide.to_u64(), write.quad.to_u64()) {
            (1, _) => 64,
            (_, 1) => 16,
            _ => 4,
        };
        let item = self.writing.front().expect("a write of no fragment");
        assert_eq!((write.address.to_u64(), size), item.writes[self.written], "{:?}", item.fragment);
        self.written += 1;
        let ends = self.written == item.writes.len();
        assert_eq!(write.ends.to_u64() == 1, ends, "{:?}", item.fragment);
        self.unanswered.push_back(ends);
        assert!(self.unanswered.len() as u64 <= IN_FLIGHT, "too many in flight");
        if ends {
            let item = self.writing.pop_front().expect("the first one");
            self.written = 0;
            self.ending.push_back((item.fragment, item.status));
        }
    }

    fn answer(&mut self, ends: bool, failed: bool) {
        self.refused |= failed;
        if ends {
            let (fragment, status) = self.ending.pop_front().expect("its writes have gone");
            let refused = if self.refused { status::DATA_TRANSFER_ERROR | status::DNR } else { status };
            self.done.push_back((fragment, if status == 0 { refused } else { status }));
            self.refused = false;
        }
    }

    fn came_back(&mut self, returned: Returned) {
        let (fragment, status) = self.done.pop_front().expect("not before its last response");
        assert_eq!(
            (returned.part, returned.ordinal, returned.last),
            (fragment.part, fragment.ordinal, fragment.last)
        );
        assert_eq!(returned.status.to_u64(), u64::from(status), "{fragment:?}");
        assert_eq!((returned.own.any(), returned.path.to_u64()), (true, 0));
        *self.statuses.entry(status).or_default() += 1;
        self.returned += 1;
    }

    /// A cycle in which `offered` is on offer; whether it was taken. `stall`: of everything else.
    fn step<const W: usize>(
        &mut self,
        bench: &mut Bench,
        random: &mut ChaCha8Rng,
        offered: Option<ZeroFragment>,
        (stall, refusal): (f64, f64),
    ) -> bool {
        bench.set("fragment$valid", offered.is_some().into());
        bench.set_record("fragment$data", offered.unwrap_or_default());
        for port in ["write$ready", "returned$ready", "list$ready"] {
            bench.set(port, (!random.random_bool(stall)).into());
        }
        let answer = self.unanswered.front().copied().filter(|_| !random.random_bool(stall));
        let failed = random.random_bool(refusal);
        bench.set("zero_answered", answer.is_some().into());
        bench.set("zero_ended", answer.unwrap_or(random.random()).into());
        bench.set("zero_failed", failed.into());
        // The other reader's beats come in between.
        let beat = self.beats.front().copied().filter(|_| !random.random_bool(stall));
        let other = beat.is_none() && random.random_bool(0.2);
        bench.set("answer_valid_list", (beat.is_some() || other).into());
        bench.set("answer_tag", if other { list_tag::FRAGMENTS } else { list_tag::ZEROS }.into());
        bench.set("answer_last", beat.map_or(random.random(), |beat| beat.1).into());
        bench.set("answer_error", random.random_bool(0.5).into());
        let mut words: Vec<u32> = (0..W / 32).map(|_| random.random()).collect();
        if let Some((at, _)) = beat {
            let entries =
                (0..W as u64 / 64).map(|i| self.memory.words.get(&(at + 8 * i)).copied().unwrap_or(7));
            words = entries.flat_map(|entry| [entry as u32, (entry >> 32) as u32]).collect();
            bench.set("answer_error", self.memory.refused.contains(&(at / LINE)).into());
            self.beats.pop_front();
        }
        bench.set_wide("answer_data", &words);
        bench.eval();
        if bench.get("list$valid") == 1 && bench.get("list$ready") == 1 {
            let request: ReadRequest = bench.get_record("list$data");
            let (at, bytes) = (request.address.to_u64(), W as u64 / 8);
            assert_eq!((at % LINE, request.bytes.to_u64(), request.tag.to_u64()), (0, LINE, 1));
            self.beats.extend((0..LINE / bytes).map(|i| (at + i * bytes, i == LINE / bytes - 1)));
        }
        if bench.get("returned$valid") == 1 && bench.get("returned$ready") == 1 {
            self.came_back(bench.get_record("returned$data"));
        }
        if let Some(ends) = answer {
            self.unanswered.pop_front();
            self.answer(ends, failed);
        }
        if bench.get("write$valid") == 1 && bench.get("write$ready") == 1 {
            self.wrote(bench.get_record("write$data"));
        }
        if bench.get("idle") == 1 {
            let waits = self.writing.len() + self.ending.len() + self.done.len();
            assert!(waits == 0 && offered.is_none(), "idle with {waits} fragments");
        }
        let taken = offered.is_some() && bench.get("fragment$ready") == 1;
        bench.cycle();
        taken
    }
}

fn random_fragments<const W: usize>(count: u64) {
    let mut bench = start::<W>("random");
    let mut random = seeded();
    let mut world = World::new();
    let (mut offered, mut number, mut waited) = (None::<Item>, 0, 0);
    while world.returned < count {
        // Phases without stalls, and such in which the queue fills.
        let stall = [0.0, 0.3, 0.8][bench.cycles as usize / 20_000 % 3];
        if offered.is_none()
            && number < count
            && random.random_bool(if number % 64 < 32 { 1.0 } else { 0.01 })
        {
            offered = Some(random_item(&mut random, &mut world.memory, number));
            number += 1;
        }
        let fragment = offered.as_ref().map(|item| item.fragment);
        if world.step::<W>(&mut bench, &mut random, fragment, (stall, 0.000_5)) {
            // Nothing of it comes out in the cycle in which it is taken.
            world.writing.extend(offered.take());
            waited = waited.max(world.writing.len());
        }
        assert!(bench.cycles < 10_000_000, "{} of {count} came back", world.returned);
    }
    for _ in 0..4 {
        world.step::<W>(&mut bench, &mut random, None, (0.0, 0.0));
    }
    assert_eq!(bench.get("idle"), 1);
    let met = |status: u16| world.statuses.get(&status).copied().unwrap_or(0);
    let (good, transfer) = (met(status::SUCCESS), met(status::DATA_TRANSFER_ERROR | status::DNR));
    let offset = met(status::INVALID_PRP_OFFSET | status::DNR);
    assert!(good > count / 4 && transfer > count / 50 && offset > count / 100, "{:?}", world.statuses);
    assert!(waited > 16, "{waited} waited at most");
}

#[test]
fn zeros_go_where_the_entries_say_at_128_bits() {
    random_fragments::<128>(240);
}

#[test]
fn zeros_go_where_the_entries_say_at_512_bits() {
    random_fragments::<512>(120);
}

/// One page and one that is aligned to 4 bytes only: cycles from the fragment to its first write and from
/// write to write; then how many wait while nothing is written.
#[test]
fn latency_pace_and_room() {
    let mut bench = start::<128>("pace");
    let mut random = seeded();
    let mut world = World::new();
    let page = |prp1: u64, bytes: u64| {
        let memory = Memory::default();
        let (segments, status) = walk(&memory, prp1, 0x7000, bytes);
        let fragment = ZeroFragment {
            prp1: prp1.to_bits(),
            prp2: 0x7000u64.to_bits(),
            blocks: (bytes >> 9).to_bits(),
            block_shift: 9u64.to_bits(),
            ..Default::default()
        };
        let (start, bytes) = segments[0];
        Item { fragment, writes: (0..bytes / 64).map(|i| (start + 64 * i, 64)).collect(), status }
    };
    world.writing.push_back(page(0x4000, 4096));
    let fragment = world.writing[0].fragment;
    assert!(world.step::<128>(&mut bench, &mut random, Some(fragment), (0.0, 0.0)));
    let since = bench.cycles;
    while world.written == 0 {
        world.step::<128>(&mut bench, &mut random, None, (0.0, 0.0));
    }
    assert_eq!(bench.cycles - since, 11, "latency");
    let first = bench.cycles;
    while world.returned == 0 {
        world.step::<128>(&mut bench, &mut random, None, (0.0, 0.0));
    }
    // 63 further writes, the response to the last one, and 2 cycles until the fragment is given back.
    assert_eq!(bench.cycles - first, 63 * 2 + 3);

    let mut taken = 0;
    for _ in 0..2_000 {
        let item = page(0x4000, 4096);
        if world.step::<128>(&mut bench, &mut random, Some(item.fragment), (1.0, 0.0)) {
            taken += 1;
        }
    }
    assert!(taken >= 512, "{taken} wait");
}
