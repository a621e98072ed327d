//! Seeded random operations, many at a time, against the shadow. Operations that are outstanding
//! together touch different blocks, because nothing orders them.

use std::collections::BTreeMap;
use std::ops::Range;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use volplane::{DmaMemory, Operation, SubmitError, VdHandle};

use super::rig::{same, Executor, Guarded, Rig, LIMIT, LOOK};

/// Bytes of the longest operation.
const LONGEST: usize = 4 << 20;
/// Largest offset of a buffer in its memory.
const OFFSET_MAX: usize = 8192;
/// Draws for an operation that touches no block of another.
const DRAWS: usize = 8;

struct Pending {
    disk: usize,
    operation: Operation,
    blocks: Range<u64>,
    guarded: Option<Guarded>,
    memory: Option<DmaMemory>,
    data: Vec<u8>,
}

/// What was executed.
#[derive(Debug, Default)]
pub struct Tally {
    pub reads: u64,
    pub writes: u64,
    pub zeroes: u64,
    pub deallocations: u64,
    pub flushes: u64,
    pub longest: u64,
    /// Most operations at a time.
    pub deepest: usize,
}

pub struct Workload {
    random: ChaCha8Rng,
    /// Operations at a time.
    depth: usize,
    free: Vec<DmaMemory>,
    pending: BTreeMap<u64, Pending>,
    tally: Tally,
}

impl Workload {
    pub fn new<E: Executor>(rig: &mut Rig<E>, seed: u64, depth: usize) -> Self {
        let footprint = Guarded::footprint(OFFSET_MAX, LONGEST);
        let free = (0..depth).map(|_| rig.engine.allocate(footprint).expect("memory")).collect();
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { random, depth, free, pending: BTreeMap::new(), tally: Tally::default() }
    }

    /// Executes `count` operations and checks each; the shadow follows.
    pub fn run<E: Executor>(&mut self, rig: &mut Rig<E>, count: u64) -> Tally {
        self.run_with(rig, count, |_| ())
    }

    /// The same, with something else done after each look for completions.
    pub fn run_with<E: Executor>(
        &mut self,
        rig: &mut Rig<E>,
        count: u64,
        mut meanwhile: impl FnMut(&mut Rig<E>),
    ) -> Tally {
        let mut issued = 0;
        let mut done = Vec::new();
        let mut progress_at = rig.engine.now();
        while issued < count || !self.pending.is_empty() {
            while issued < count && self.pending.len() < self.depth && self.issue(rig, issued) {
                issued += 1;
            }
            self.tally.deepest = self.tally.deepest.max(self.pending.len());
            rig.engine.poll(&mut done).unwrap_or_else(|error| panic!("after {issued} operations: {error}"));
            let now = rig.engine.now();
            if !done.is_empty() {
                progress_at = now;
            }
            meanwhile(rig);
            for completion in done.drain(..) {
                let pending = self.pending.remove(&completion.tag).expect("a tag that is outstanding, once");
                if let Err(error) = completion.result {
                    panic!("operation {}: {error}", completion.tag);
                }
                self.finish(rig, pending);
            }
            assert!(now < progress_at + LIMIT, "stuck with {} of {issued}", self.pending.len());
            rig.engine.wait(now + LOOK).unwrap_or_else(|error| panic!("after {issued} operations: {error}"));
        }
        std::mem::take(&mut self.tally)
    }

    /// Starts an operation if there is one that is apart from all others.
    fn issue<E: Executor>(&mut self, rig: &mut Rig<E>, tag: u64) -> bool {
        for _ in 0..DRAWS {
            let disk = self.random.random_range(0..rig.shadow.len());
            let operation = self.draw(rig, disk);
            let (lba, blocks) = operation.range().unwrap_or_default();
            let blocks = lba..lba + blocks;
            let reads = matches!(operation, Operation::Read { .. });
            let apart = self.pending.values().all(|other| {
                let both_read = reads && matches!(other.operation, Operation::Read { .. });
                let overlap = other.blocks.start < blocks.end && blocks.start < other.blocks.end;
                other.disk != disk || both_read || !overlap
            });
            if apart {
                return self.start(rig, disk, operation, blocks, tag);
            }
        }
        false
    }

    fn start<E: Executor>(
        &mut self,
        rig: &mut Rig<E>,
        disk: usize,
        operation: Operation,
        blocks: Range<u64>,
        tag: u64,
    ) -> bool {
        let mut data = Vec::new();
        let (mut guarded, mut memory) = (None, None);
        if operation.has_buffer() {
            let taken = self.free.pop().expect("memory for each operation");
            let len = rig.bytes(disk, blocks.start, blocks.end - blocks.start).len();
            let offset = self.random.random_range(0..=OFFSET_MAX / 4) * 4;
            // PRP arithmetic differs where the buffer begins a page.
            let offset = if self.random.random_bool(0.3) { 4096 - 64 } else { offset };
            let one = Guarded::new(&taken, offset, len);
            if matches!(operation, Operation::Write { .. }) {
                data.resize(len, 0);
                self.random.fill_bytes(&mut data);
                one.write(&data);
            }
            (guarded, memory) = (Some(one), Some(taken));
        }
        let buffer = guarded.as_ref().map(Guarded::buffer);
        match rig.engine.submit(VdHandle(disk as u16), operation, buffer, tag) {
            Ok(()) => {}
            Err(SubmitError::Full) => {
                self.free.extend(memory);
                return false;
            }
            Err(error) => panic!("operation {tag}: {error}"),
        }
        self.pending.insert(tag, Pending { disk, operation, blocks, guarded, memory, data });
        true
    }

    fn finish<E: Executor>(&mut self, rig: &mut Rig<E>, pending: Pending) {
        let Pending { disk, operation, blocks, guarded, memory, data } = pending;
        let bytes = rig.bytes(disk, blocks.start, blocks.end - blocks.start);
        if let Some(guarded) = guarded {
            let seen = guarded.read();
            match operation {
                Operation::Read { .. } => same(&seen, &rig.shadow[disk][bytes.clone()], disk, bytes.start),
                _ => same(&seen, &data, disk, bytes.start),
            }
        }
        self.free.extend(memory);
        rig.apply(disk, operation, &data);
        let tally = &mut self.tally;
        *match operation {
            Operation::Read { .. } => &mut tally.reads,
            Operation::Write { .. } => &mut tally.writes,
            Operation::WriteZeroes { .. } => &mut tally.zeroes,
            Operation::Deallocate { .. } => &mut tally.deallocations,
            Operation::Flush => &mut tally.flushes,
        } += 1;
        tally.longest = tally.longest.max(bytes.len() as u64);
    }

    /// An operation on a disk: mostly short, near borders half of the time.
    fn draw<E: Executor>(&mut self, rig: &Rig<E>, disk: usize) -> Operation {
        let random = &mut self.random;
        let kind = random.random_range(0..100);
        if kind < 5 {
            return Operation::Flush;
        }
        let map = rig.map(disk);
        let total = map.blocks();
        let longest = (LONGEST >> map.block_shift) as u64;
        let most = match random.random_range(0..100) {
            0..40 => 8,
            40..70 => 64,
            70..90 => 256,
            90..98 => longest / 4,
            _ => longest,
        };
        let blocks = random.random_range(1..=most.min(longest).min(total));
        let blocks = if most == longest && random.random_bool(0.3) { longest.min(total) } else { blocks };
        let mut lba = random.random_range(0..=total - blocks);
        if random.random_bool(0.5) {
            let segment = &map.segments[random.random_range(0..map.segments.len())];
            let shifts = [segment.stripe_shift, segment.extent_shift, map.allocation_shift];
            let shift = shifts[random.random_range(0..shifts.len())];
            let border = lba >> shift << shift;
            // Across the border, up to it, or from it on.
            lba = (border + random.random_range(0..3)).saturating_sub(random.random_range(0..=blocks.min(4)));
        }
        let lba = lba.min(total - blocks);
        let force_unit_access = random.random_bool(0.2);
        match kind {
            5..45 => Operation::Read { lba, blocks: blocks as u32 },
            45..80 => Operation::Write { lba, blocks: blocks as u32, force_unit_access },
            80..91 => {
                let deallocate = random.random_bool(0.5);
                Operation::WriteZeroes { lba, blocks, deallocate, force_unit_access }
            }
            _ => Operation::Deallocate { lba, blocks },
        }
    }
}
