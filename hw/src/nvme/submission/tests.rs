use super::*;
use crate::bench::{seeded, Bench};
use crate::nvme::path_write::write_request;
use crate::records::PathEntry;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use volplane_abi::{table, DeallocateRange, PathState, SubmissionEntry};

const RANGE_BASE: u64 = 0x7_FFFF_F000;

#[derive(Clone, Copy)]
struct Path {
    base: u64,
    size: u64,
    limit: u64,
    head: u64,
    tail: u64,
    issued: u64,
    returned: u64,
}

impl Path {
    fn new(base: u64, size: u64, limit: u64) -> Self {
        Self { base, size, limit, head: 0, tail: 0, issued: 0, returned: 0 }
    }

    fn entry(&self) -> PathEntry {
        PathEntry {
            sq_base: self.base.into(),
            sq_size_z: (self.size - 1).into(),
            cq_size_z: (self.size - 1).into(),
            limit: self.limit.into(),
            valid: 1.into(),
            ..PathEntry::default()
        }
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn start(bench: &mut Bench) {
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    bench.set("range_base", RANGE_BASE.into());
}

fn write_path(bench: &mut Bench, number: usize, path: &Path) {
    bench.set_record("table_request", write_request(number, path.entry()));
    bench.set("table_valid", 1);
    for cycle in 0..=16 {
        bench.eval();
        assert_eq!(bench.get("table_ack") == 1, cycle == 16);
        bench.cycle();
        bench.set("table_valid", 0);
    }
}

fn random_fragment(random: &mut ChaCha8Rng, paths: usize) -> Fragment {
    let opcodes = [
        opcode::READ,
        opcode::WRITE,
        opcode::READ,
        opcode::WRITE_ZEROES,
        opcode::FLUSH,
        opcode::DATASET_MANAGEMENT,
    ];
    let opcode = opcodes[random.random_range(0..opcodes.len())];
    let blocks = [1, 65_536, random.random_range(1..=65_536u64)][random.random_range(0..3)];
    Fragment {
        part: (random.random_range(0..16u64) << 12 | random.random_range(0..SLOTS)).into(),
        ordinal: random.random_range(0..1u64 << 17).into(),
        last: random.random_range(0..2u64).into(),
        opcode: u64::from(opcode).into(),
        path: random.random_range(0..paths as u64).into(),
        namespace_id: u64::from(random.random::<u32>()).into(),
        lba: random.random_range(0..1u64 << 48).into(),
        blocks: (if opcode == opcode::FLUSH { 0 } else { blocks }).into(),
        prp1: random.random::<u64>().into(),
        prp2: random.random::<u64>().into(),
        deallocate: random.random_range(0..2u64).into(),
        force_unit_access: random.random_range(0..2u64).into(),
        limited_retry: random.random_range(0..2u64).into(),
        cdw13: u64::from(random.random::<u32>()).into(),
        terms: random.random_range(0..1u64 << 16).into(),
        reserved: 0.into(),
    }
}

/// The entry a fragment becomes, and its range.
fn expected(fragment: &Fragment, id: u16) -> (SubmissionEntry, Option<DeallocateRange>) {
    let opcode = fragment.opcode.to_u8();
    let (lba, blocks) = (fragment.lba.to_u64(), fragment.blocks.to_u64());
    let entry = SubmissionEntry::default()
        .with_opcode(opcode)
        .with_command_id(id)
        .with_namespace_id(fragment.namespace_id.to_u32());
    match opcode {
        opcode::FLUSH => (entry, None),
        opcode::DATASET_MANAGEMENT => {
            let address = RANGE_BASE + 16 * u64::from(id & 0x7FF);
            let range = DeallocateRange::default().with_block_count(blocks as u32).with_starting_lba(lba);
            (entry.with_prp1(address).with_starting_lba(4 << 32), Some(range))
        }
        _ => {
            let entry = entry
                .with_prp1(fragment.prp1.to_u64())
                .with_prp2(fragment.prp2.to_u64())
                .with_starting_lba(lba)
                .with_block_count_z((blocks - 1) as u16)
                .with_deallocate(fragment.deallocate.to_u8())
                .with_force_unit_access(fragment.force_unit_access.to_u8())
                .with_limited_retry(fragment.limited_retry.to_u8())
                .with_cdw13(fragment.cdw13.to_u32());
            (entry, None)
        }
    }
}

/// Plans of the random fragments.
const SLOTS: u64 = 64;

/// Fragments to paths that complete at random, with stalls of every port, paths written anew, and plans that
/// are stopped.
struct Run {
    bench: Bench,
    random: ChaCha8Rng,
    paths: Vec<Path>,
    /// Given to the block, not yet issued; identifiers likewise.
    fragments: VecDeque<Fragment>,
    ids: VecDeque<u16>,
    /// The cycle in which a plan was stopped, and in which each fragment was taken.
    stops: [Option<u64>; SLOTS as usize],
    taken: VecDeque<u64>,
    /// What the memory of stops has read.
    stopped: bool,
    /// Given back when taken, and later.
    bounces: [u64; 2],
    bouncing: bool,
    offered: Option<Fragment>,
    offered_id: Option<u16>,
    /// What PathReturns is asked in this cycle it answers in the next; the tail likewise.
    asked: usize,
    asked_tail: (usize, Option<u64>),
    record: Option<(u128, u128)>,
    range: Option<(u64, Vec<u8>)>,
    issued: Option<(u64, u64)>,
    issues: u64,
}

impl Run {
    fn new(path_bits: usize, paths: Vec<Path>) -> Self {
        let sizes = Sizes { path_bits, ..Sizes::DEFAULT };
        let mut bench = Bench::new(&format!("submission_{path_bits}"), Submission::new(&sizes));
        start(&mut bench);
        for (number, path) in paths.iter().enumerate() {
            write_path(&mut bench, number, path);
        }
        Self {
            bench,
            random: seeded(),
            paths,
            fragments: VecDeque::new(),
            ids: VecDeque::new(),
            stops: [None; SLOTS as usize],
            taken: VecDeque::new(),
            stopped: false,
            bounces: [0; 2],
            bouncing: false,
            offered: None,
            offered_id: None,
            asked: 0,
            asked_tail: (0, None),
            record: None,
            range: None,
            issued: None,
            issues: 0,
        }
    }

    fn drive(&mut self, feeding: bool) {
        let Self { bench, random, paths, .. } = self;
        let eager = self.issues % 200 < 100;
        if self.offered.is_none() && feeding && (eager || random.random_bool(0.4)) {
            let fragment = random_fragment(random, paths.len());
            self.offered = Some(fragment);
        }
        bench.set("fragment$valid", self.offered.is_some().into());
        if let Some(fragment) = self.offered {
            bench.set_record("fragment$data", fragment);
        }
        if self.offered_id.is_none() && (eager || random.random_bool(0.4)) {
            self.offered_id = Some(random.random());
        }
        bench.set("id$valid", self.offered_id.is_some().into());
        bench.set("id$data", self.offered_id.unwrap_or(0).into());
        bench.set("write$ready", (eager || random.random_bool(0.3)).into());
        bench.set("range_write$ready", (eager || random.random_bool(0.3)).into());
        // An SSD completes: a fragment comes back, and its head moves up to the tail.
        let path = random.random_range(0..paths.len());
        let path = &mut paths[path];
        if path.returned != path.issued && random.random_bool(0.3) {
            path.returned += 1;
            let ahead = (path.tail + path.size - path.head) % path.size;
            path.head = (path.head + random.random_range(0..=ahead)) % path.size;
            if path.returned == path.issued {
                path.head = path.tail;
            }
        }
        bench.set("tail_path", self.asked_tail.0 as u128);
        bench.set("bounced$ready", random.random_bool(0.6).into());
        // A plan that is stopped stays so while anything of it is here.
        let first = self.fragments.front().filter(|_| random.random_bool(0.3));
        let slot = first.map(|it| Part::from(it.part).slot.to_u64());
        let slot = slot.unwrap_or_else(|| random.random_range(0..SLOTS));
        let is_here = |fragment: &Fragment| Part::from(fragment.part).slot.to_u64() == slot;
        let stop = &mut self.stops[slot as usize];
        if stop.is_none() && random.random_bool(0.03) {
            *stop = Some(bench.cycles);
        } else if stop.is_some() && !self.fragments.iter().chain(&self.offered).any(is_here) {
            *stop = None;
        }
        bench.eval();
    }

    fn check(&mut self) {
        let Self { bench, paths, .. } = self;
        if bench.get("fragment$valid") == 1 && bench.get("fragment$ready") == 1 {
            self.fragments.extend(self.offered.take());
            self.taken.push_back(bench.cycles);
        }
        // What was given back is known when it is offered: the next ones pass it by.
        if bench.get("bounced$valid") == 1 && !std::mem::replace(&mut self.bouncing, true) {
            let bounced: Returned = bench.get_record("bounced$data");
            // Of those before it at most two are on their way to the bus.
            let same = |it: &Fragment| (it.part, it.ordinal, it.last, it.path);
            let place = self
                .fragments
                .iter()
                .position(|it| same(it) == (bounced.part, bounced.ordinal, bounced.last, bounced.path));
            let place = place.filter(|&place| place <= 2).expect("one of the first fragments");
            self.fragments.remove(place);
            let since = self.taken.remove(place).expect("it was taken");
            let stop = self.stops[Part::from(bounced.part).slot.index()].expect("its plan is stopped");
            assert_eq!((bounced.status.to_u64(), bounced.own.any()), (u64::from(STOPPED), true));
            self.bounces[usize::from(stop > since)] += 1;
        }
        if bench.get("bounced$ready") == 1 {
            self.bouncing = false;
        }
        if bench.get("id$valid") == 1 && bench.get("id$ready") == 1 {
            self.ids.extend(self.offered_id.take());
        }
        if let Some(tail) = self.asked_tail.1 {
            assert_eq!(bench.get("tail_value") as u64, tail);
        }
        assert_eq!(bench.get("issued_valid") == 1, self.issued.is_some());
        if let Some((path, tail)) = self.issued.take() {
            assert_eq!((bench.get("issued_path") as u64, bench.get("issued_tail") as u64), (path, tail));
        }
        if bench.get("record_valid") == 1 {
            assert!(self.record.is_none(), "a record before the last entry was taken");
            self.record = Some((bench.get("record_index"), bench.get("record")));
        }
        if bench.get("range_write$valid") == 1 && bench.get("range_write$ready") == 1 {
            let write = bytes(&bench.get_wide("range_write$data"));
            assert_eq!(write[24], 1, "16 bytes");
            let address = u64::from_le_bytes(write[..8].try_into().expect("address"));
            assert!(self.range.replace((address, write[8..24].to_vec())).is_none());
        }
        if bench.get("write$valid") == 1 && bench.get("write$ready") == 1 {
            let fragment = self.fragments.pop_front().expect("a fragment for each entry");
            let since = self.taken.pop_front().expect("it was taken");
            let stop = self.stops[Part::from(fragment.part).slot.index()];
            assert!(stop.is_none_or(|stop| stop >= since), "stopped before it came");
            let id = self.ids.pop_front().expect("an identifier for each entry");
            let path = &mut paths[fragment.path.to_u64() as usize];
            assert!(path.issued - path.returned < path.limit, "beyond the limit");
            let next = (path.tail + 1) % path.size;
            assert_ne!(next, path.head, "queue overrun");
            let write = bytes(&bench.get_wide("write$data"));
            let (entry, range) = expected(&fragment, id);
            assert_eq!(write[..8], (path.base + 64 * path.tail).to_le_bytes());
            assert_eq!(write[8..], entry.0, "{entry:?}");
            let range = range.map(|range| (RANGE_BASE + 16 * u64::from(id & 0x7FF), range.0.to_vec()));
            assert_eq!(self.range.take(), range);
            let (index, record) = self.record.take().expect("the record is written before");
            let parts = [
                (u128::from(id >> 11), 5),
                (u128::from(fragment.path.to_u64()), 8),
                (u128::from(fragment.part.to_u64()), 16),
                (u128::from(fragment.ordinal.to_u64()), 17),
                (u128::from(fragment.last.to_u64()), 1),
            ];
            let packed = parts.iter().rev().fold(0, |all, (value, width)| all << width | value);
            assert_eq!((index, record), (u128::from(id & 0x7FF), packed));
            (path.tail, path.issued) = (next, path.issued + 1);
            self.issued = Some((fragment.path.to_u64(), next));
            self.issues += 1;
        }
    }

    fn step(&mut self, feeding: bool) {
        self.drive(feeding);
        self.check();
        let next_asked = self.bench.get("query_path") as usize;
        // The tail in the memory is ahead of the bus while an entry is on offer.
        let path = &self.paths[self.asked_tail.0];
        self.asked_tail.1 = (self.fragments.is_empty()).then_some(path.tail);
        let next_stop = self.bench.get("stop_query") as usize % SLOTS as usize;
        let stopped = std::mem::replace(&mut self.stopped, self.stops[next_stop].is_some());
        self.bench.cycle();
        self.bench.set("stopped", stopped.into());
        self.asked = next_asked.min(self.paths.len() - 1);
        let path = &self.paths[self.asked];
        self.bench.set("query_head", path.head.into());
        self.bench.set("query_returned", u128::from(path.returned as u16));
        if self.asked_tail.1.is_none() {
            self.asked_tail.0 = self.random.random_range(0..self.paths.len());
        }
    }

    /// Reads a path's state back over the table bus.
    fn state(&mut self, number: usize) -> PathState {
        let path = self.paths[number];
        let request = TableRequest {
            write: 0.into(),
            table: u64::from(table::PATH_STATE).into(),
            index: (number as u64).into(),
            data: 0.into(),
        };
        self.bench.set_record("table_request", request);
        self.bench.set("table_valid", 1);
        self.bench.set("state_head", path.head.into());
        self.bench.set("state_returned", u128::from(path.returned as u16));
        self.bench.set("state_rung", 0x1234);
        self.bench.set("state_cq_head", 0x5678);
        while self.bench.get("table_ack") == 0 {
            self.bench.cycle();
            self.bench.set("table_valid", 0);
            self.bench.eval();
        }
        let data = bytes(&self.bench.get_wide("table_data"));
        self.bench.cycle();
        PathState(data[..16].try_into().expect("a path's state"))
    }
}

fn check(path_bits: usize, paths: Vec<Path>) {
    let mut run = Run::new(path_bits, paths);
    for round in 0..8 {
        for _ in 0..3_000 {
            run.step(true);
        }
        let mut left = 5_000;
        while run.bench.get("idle") == 0 || !run.fragments.is_empty() || run.offered.is_some() {
            run.step(false);
            left -= 1;
            assert!(left > 0, "{} fragments are stuck", run.fragments.len());
        }
        while run.paths.iter().any(|path| path.returned != path.issued) {
            run.step(false);
        }
        for number in 0..run.paths.len() {
            let state = run.state(number);
            let path = run.paths[number];
            let shown = (u64::from(state.sq_tail()), u64::from(state.sq_head()), state.issued());
            assert_eq!(shown, (path.tail, path.head, path.issued as u16));
            assert_eq!(state.returned(), path.returned as u16);
            assert_eq!((state.sq_rung(), state.cq_head()), (0x1234, 0x5678));
        }
        let number = round % run.paths.len();
        let Path { base, size, limit, .. } = run.paths[number];
        run.paths[number] = Path::new(base + 0x1000, size, limit);
        write_path(&mut run.bench, number, &run.paths[number]);
        run.asked_tail.1 = None;
        let state = run.state(number);
        assert_eq!((state.sq_tail(), state.issued()), (0, 0), "a path written anew");
        assert_eq!(run.bench.get("path_valid"), (1 << run.paths.len()) - 1);
    }
    assert!(run.issues > 2_000, "{} issued", run.issues);
    assert!(run.bounces.iter().all(|&count| count > 20), "{:?} given back", run.bounces);
}

#[test]
fn fragments_become_entries_within_credit() {
    let far = 0xFFFF_FFFF_FFF0_0000;
    check(2, vec![Path::new(0x1000, 8, 7), Path::new(far, 64, 5), Path::new(0x2_0000_0000, 3, 2)]);
    check(5, vec![Path::new(0x8000_0000, 1024, 1), Path::new(0xABCD_E000, 4096, 64)]);
}

/// A write of 8 blocks of namespace 7 at LBA 0x1_2345_6789 with FUA, typed as the bytes of the
/// NVMe specification; then pace and latency of reads.
#[test]
fn a_write_as_bytes_and_the_pace_of_reads() {
    let mut bench = Bench::new("submission_bytes", Submission::new(&Sizes::DEFAULT));
    start(&mut bench);
    write_path(&mut bench, 3, &Path::new(0x5000, 256, 255));
    let fragment = Fragment {
        opcode: 1.into(),
        path: 3.into(),
        namespace_id: 7.into(),
        lba: 0x1_2345_6789u64.into(),
        blocks: 8.into(),
        prp1: 0xAAAA_0010u64.into(),
        prp2: 0xBBBB_0000u64.into(),
        force_unit_access: 1.into(),
        ..Fragment::default()
    };
    bench.set_record("fragment$data", fragment);
    bench.set("id$valid", 1);
    bench.set("id$data", 0x1234);
    bench.set("query_head", 0);
    bench.cycle();
    bench.cycle();
    bench.set("write$ready", 1);
    bench.set("fragment$valid", 1);
    let (mut taken, mut written) = (Vec::new(), Vec::new());
    let mut first = None;
    for cycle in 0..100 {
        bench.eval();
        if bench.get("fragment$ready") == 1 {
            taken.push(cycle);
        }
        if bench.get("write$valid") == 1 {
            written.push(cycle);
            first.get_or_insert_with(|| bytes(&bench.get_wide("write$data")));
        }
        bench.cycle();
    }
    let mut entry = vec![0u8; 72];
    entry[..8].copy_from_slice(&0x5000u64.to_le_bytes());
    entry[8..16].copy_from_slice(&[0x01, 0x00, 0x34, 0x12, 0x07, 0x00, 0x00, 0x00]);
    entry[32..40].copy_from_slice(&[0x10, 0x00, 0xAA, 0xAA, 0, 0, 0, 0]);
    entry[40..48].copy_from_slice(&[0x00, 0x00, 0xBB, 0xBB, 0, 0, 0, 0]);
    entry[48..56].copy_from_slice(&[0x89, 0x67, 0x45, 0x23, 0x01, 0, 0, 0]);
    entry[56..60].copy_from_slice(&[0x07, 0x00, 0x00, 0x40]);
    assert_eq!(first.expect("an entry"), entry);
    assert_eq!(written[0] - taken[0], 5, "latency");
    assert!(written.len() >= 46, "{} entries in 100 cycles", written.len());
}

#[test]
fn a_fragment_whose_path_is_closed_is_given_back() {
    let sizes = Sizes { path_bits: 2, ..Sizes::DEFAULT };
    let mut bench = Bench::new("submission_closed", Submission::new(&sizes));
    start(&mut bench);
    let paths = [Path::new(0x4000, 8, 1), Path::new(0x8000, 8, 7)];
    paths.iter().enumerate().for_each(|(number, path)| write_path(&mut bench, number, path));
    for port in ["write$ready", "range_write$ready", "bounced$ready", "id$valid"] {
        bench.set(port, 1);
    }
    let fragment = |part: u64, path: u64| Fragment {
        part: part.into(),
        ordinal: (part + 7).into(),
        path: path.into(),
        opcode: u64::from(opcode::READ).into(),
        blocks: 1.into(),
        ..Fragment::default()
    };
    // What becomes of fragments in `cycles`: parts given back, and addresses of entries.
    let mut offered: VecDeque<Fragment> = VecDeque::new();
    let run = |bench: &mut Bench, offered: &mut VecDeque<Fragment>, cycles: u32| {
        let (mut back, mut written) = (Vec::new(), Vec::new());
        for _ in 0..cycles {
            bench.set("fragment$valid", (!offered.is_empty()).into());
            bench.set_record("fragment$data", offered.front().copied().unwrap_or_default());
            bench.eval();
            if bench.get("fragment$ready") == 1 {
                offered.pop_front();
            }
            if bench.get("bounced$valid") == 1 {
                let returned: Returned = bench.get_record("bounced$data");
                assert_eq!(returned.status.to_u64(), u64::from(plan_status::HOST_PATH_ERROR));
                assert_eq!((returned.path.to_u64(), returned.own.any()), (0, true));
                assert_eq!(returned.ordinal.to_u64(), returned.part.to_u64() + 7);
                back.push(returned.part.to_u64());
            }
            if bench.get("write$valid") == 1 {
                let write = bytes(&bench.get_wide("write$data"));
                written.push(u64::from_le_bytes(write[..8].try_into().expect("address")));
            }
            bench.cycle();
        }
        (back, written)
    };
    // The second has no credit, and holds up the third.
    offered.extend([fragment(1, 0), fragment(2, 0), fragment(3, 1)]);
    assert_eq!(run(&mut bench, &mut offered, 60), (vec![], vec![0x4000]));
    let closed = PathEntry { valid: 0.into(), ..paths[0].entry() };
    bench.set_record("table_request", write_request(0, closed));
    bench.set("table_valid", 1);
    bench.cycle();
    bench.set("table_valid", 0);
    // One that comes while it is closed is given back as well.
    offered.extend([fragment(4, 0), fragment(5, 1)]);
    assert_eq!(run(&mut bench, &mut offered, 60), (vec![2, 4], vec![0x8000, 0x8040]));
    // Open again it begins anew.
    write_path(&mut bench, 0, &paths[0]);
    offered.push_back(fragment(6, 0));
    assert_eq!(run(&mut bench, &mut offered, 60), (vec![], vec![0x4000]));
    assert_eq!(bench.get("idle"), 1);
}

#[test]
fn a_closing_waits_for_the_entry_that_the_bus_has_not_taken() {
    let sizes = Sizes { path_bits: 2, ..Sizes::DEFAULT };
    let mut bench = Bench::new("submission_closing", Submission::new(&sizes));
    start(&mut bench);
    let paths = [Path::new(0x4000, 8, 7), Path::new(0x8000, 8, 7)];
    let mut waited = 0;
    // The bus takes something every so many cycles; a fragment comes in each cycle around that of the closing.
    for (every, delay, ranged) in (0..3 * 60u64).map(|i| ([1, 40, 150][i as usize % 3], i / 3 % 30, i >= 90))
    {
        bench.set("write$ready", 1);
        bench.set("range_write$ready", 1);
        bench.set("id$valid", 1);
        bench.set("bounced$ready", 1);
        bench.set("doorbells_hold", 0);
        paths.iter().enumerate().for_each(|(number, path)| write_path(&mut bench, number, path));
        let closed = PathEntry { valid: 0.into(), ..paths[0].entry() };
        let (mut given, mut closed_at, mut others) = (0, None, 0);
        for cycle in 0..500u64 {
            let comes = given < 3 && cycle >= 2 * given;
            let fragment = Fragment {
                path: u64::from(given == 2).into(),
                opcode: u64::from(if ranged { opcode::DATASET_MANAGEMENT } else { opcode::READ }).into(),
                blocks: 1.into(),
                ..Fragment::default()
            };
            bench.set("fragment$valid", comes.into());
            bench.set_record("fragment$data", fragment);
            bench.set("write$ready", (cycle % every == every - 1).into());
            bench.set("range_write$ready", (cycle % every == every / 2).into());
            // Doorbells keep it up as well.
            bench.set("doorbells_hold", (cycle < 30).into());
            bench.set("table_valid", (cycle == delay).into());
            if cycle == delay {
                bench.set_record("table_request", write_request(0, closed));
            }
            bench.eval();
            given += u64::from(comes && bench.get("fragment$ready") == 1);
            if bench.get("table_ack") == 1 {
                assert!(cycle >= 30.max(delay + 16));
                waited += u64::from(cycle > 31.max(delay + 16));
                closed_at = Some(cycle);
            }
            if bench.get("write$valid") == 1 {
                let write = bytes(&bench.get_wide("write$data"));
                let address = u64::from_le_bytes(write[..8].try_into().expect("address"));
                assert!(closed_at.is_none() || address >= 0x8000, "an entry of a queue that was closed");
                others += u64::from(address >= 0x8000 && bench.get("write$ready") == 1);
            }
            bench.cycle();
        }
        assert!(closed_at.is_some() && others == 1, "{closed_at:?}, {others} of the other path");
    }
    assert!(waited > 30, "{waited} closings waited");
}
