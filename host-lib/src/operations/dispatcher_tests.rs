use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use volplane_abi::{opcode, DeallocateRange};
use volplane_driver::{AccessError, Iova};

use super::*;

const BLOCK: usize = 512;
const BLOCKS: u64 = 4096;
const LIMIT: u64 = 64;
const DISKS: usize = 2;
const FAILED: u16 = 0x281;
const NOW: Duration = Duration::from_secs(1);

/// What stands for the card and its SSDs: executes each command when its doorbell rings, by the
/// addresses of the command alone, and completes in any order.
struct Model {
    memory: Vec<DmaMemory>,
    disks: Vec<Vec<u8>>,
    flushes: [u32; DISKS],
    /// Blocks whose commands fail, by disk.
    bad: BTreeMap<(usize, u64), u16>,
    random: ChaCha8Rng,
    commands: usize,
}

impl Model {
    fn at(&self, address: u64, bytes: usize) -> (&DmaMemory, usize) {
        let memory = self.memory.iter().find(|memory| {
            let start = memory.iova().0;
            start <= address && address + bytes as u64 <= start + memory.len() as u64
        });
        let memory = memory.unwrap_or_else(|| panic!("{bytes} bytes at {address:#x} are not mapped"));
        (memory, (address - memory.iova().0) as usize)
    }

    /// The buffer's pieces, by the rules of NVMe Base 2.0, section 4.1.1.
    fn pieces(&self, entry: &SubmissionEntry, bytes: usize) -> Vec<(u64, usize)> {
        let (prp1, prp2) = (entry.prp1(), entry.prp2());
        assert_eq!(prp1 % 4, 0, "PRP 1 is dword aligned");
        let first = bytes.min(PAGE - prp1 as usize % PAGE);
        let mut pieces = vec![(prp1, first)];
        let rest = bytes - first;
        let pages = rest.div_ceil(PAGE);
        for page in 0..pages {
            let address = match pages {
                1 => prp2,
                _ => {
                    assert!(prp2 as usize % PAGE + pages * 8 <= PAGE, "the list stays in its page");
                    let (list, at) = self.at(prp2 + page as u64 * 8, 8);
                    list.read_record(at)
                }
            };
            assert_eq!(address % PAGE as u64, 0, "no offset after PRP 1");
            pieces.push((address, PAGE.min(rest - page * PAGE)));
        }
        if pages == 0 {
            assert_eq!(prp2, 0);
        }
        pieces
    }

    fn execute(&mut self, entry: &SubmissionEntry) -> u16 {
        self.commands += 1;
        let disk = entry.namespace_id() as usize - 1;
        let range = match entry.opcode() {
            opcode::FLUSH => {
                self.flushes[disk] += 1;
                return self.bad.get(&(disk, 0)).copied().unwrap_or(status::SUCCESS);
            }
            opcode::DATASET_MANAGEMENT => {
                let (memory, at) = self.at(entry.prp1(), DeallocateRange::BYTES);
                let range: DeallocateRange = memory.read_record(at);
                (range.starting_lba(), u64::from(range.block_count()))
            }
            _ => (entry.starting_lba(), u64::from(entry.block_count_z()) + 1),
        };
        let (lba, blocks) = range;
        assert!(blocks <= LIMIT && lba + blocks <= BLOCKS, "{entry:?}");
        if let Some((_, &status)) = self.bad.range((disk, lba)..(disk, lba + blocks)).next() {
            return status;
        }
        let (start, end) = (lba as usize * BLOCK, (lba + blocks) as usize * BLOCK);
        match entry.opcode() {
            opcode::READ | opcode::WRITE => {
                let mut at = start;
                for (address, bytes) in self.pieces(entry, end - start) {
                    let (memory, offset) = self.at(address, bytes);
                    let memory = memory.clone();
                    let data = &mut self.disks[disk][at..at + bytes];
                    if entry.opcode() == opcode::READ {
                        memory.write(offset, data);
                    } else {
                        memory.read(offset, data);
                    }
                    at += bytes;
                }
            }
            opcode::WRITE_ZEROES => self.disks[disk][start..end].fill(0),
            opcode::DATASET_MANAGEMENT => self.disks[disk][start..end].fill(0xDE),
            other => panic!("opcode {other}"),
        }
        status::SUCCESS
    }
}

struct FakeQueue {
    number: u16,
    capacity: usize,
    model: Rc<RefCell<Model>>,
    submitted: Vec<SubmissionEntry>,
    completed: VecDeque<CompletionEntry>,
    /// Nothing is completed while true.
    silent: bool,
    outstanding: usize,
    broken: Option<QueueError>,
}

impl CommandQueue for FakeQueue {
    fn number(&self) -> u16 {
        self.number
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn submit(&mut self, entry: SubmissionEntry) -> Result<(), Full> {
        assert!(self.outstanding < self.capacity, "more commands than the ring holds");
        self.outstanding += 1;
        self.submitted.push(entry);
        Ok(())
    }

    fn ring(&mut self) -> Result<(), QueueError> {
        let mut model = self.model.borrow_mut();
        for entry in self.submitted.drain(..) {
            let status = model.execute(&entry);
            let completion =
                CompletionEntry::default().with_command_id(entry.command_id()).with_status(status);
            self.completed.push_back(completion);
        }
        self.completed.make_contiguous().shuffle(&mut model.random);
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<CompletionEntry>, QueueError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        // Some now, some later.
        if self.silent || self.model.borrow_mut().random.random_range(0..4) == 0 {
            return Ok(None);
        }
        let completion = self.completed.pop_front();
        self.outstanding -= usize::from(completion.is_some());
        Ok(completion)
    }
}

struct Rig {
    model: Rc<RefCell<Model>>,
    dispatcher: Dispatcher<FakeQueue>,
    next_iova: u64,
}

impl Rig {
    fn new(seed: u64, queues: &[usize], operations: usize) -> Self {
        let model = Rc::new(RefCell::new(Model {
            memory: Vec::new(),
            disks: vec![vec![0; BLOCKS as usize * BLOCK]; DISKS],
            flushes: [0; DISKS],
            bad: BTreeMap::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
            commands: 0,
        }));
        let mut rig =
            Self { model, dispatcher: Dispatcher::new(vec![], vec![], bounds(1)), next_iova: 1 << 32 };
        let made = queues.iter().zip(1..).map(|(&capacity, number)| {
            let model = rig.model.clone();
            let queue = FakeQueue {
                number,
                capacity,
                model,
                submitted: Vec::new(),
                completed: VecDeque::new(),
                silent: false,
                outstanding: 0,
                broken: None,
            };
            (queue, capacity)
        });
        let made: Vec<(FakeQueue, usize)> = made.collect();
        let queues = made.into_iter().map(|(queue, capacity)| (queue, rig.memory(capacity * PAGE))).collect();
        let limits = |handle| DiskLimits {
            handle: VdHandle(handle),
            blocks: BLOCKS,
            block_shift: 9,
            transfer: LIMIT,
            write_zeroes: LIMIT / 2,
            deallocate: LIMIT / 4,
        };
        rig.dispatcher = Dispatcher::new(queues, (0..DISKS as u16).map(limits).collect(), bounds(operations));
        rig
    }

    fn memory(&mut self, bytes: usize) -> DmaMemory {
        let map = memmap2::MmapMut::map_anon(bytes.next_multiple_of(PAGE)).expect("memory");
        let memory = DmaMemory::new(map, Iova(self.next_iova), ());
        self.next_iova += (memory.len() + PAGE) as u64;
        self.model.borrow_mut().memory.push(memory.clone());
        memory
    }

    fn forget(&mut self, memory: &DmaMemory) {
        self.model.borrow_mut().memory.retain(|other| other.iova() != memory.iova());
    }

    fn submit(
        &mut self,
        operation: Operation,
        buffer: Option<DmaMemory>,
        tag: u64,
    ) -> Result<(), SubmitError> {
        self.dispatcher.submit(VdHandle(0), operation, buffer, tag, NOW)
    }

    fn finish(&mut self) -> Vec<Completion> {
        let mut done = Vec::new();
        for _ in 0..100_000 {
            self.dispatcher.poll(NOW, &mut done).expect("no failure");
            if self.dispatcher.outstanding() == 0 {
                return done;
            }
        }
        panic!("operations do not end");
    }
}

fn bounds(operations: usize) -> Bounds {
    Bounds { operations, answer: Duration::from_secs(10) }
}

fn write(lba: u64, blocks: u32) -> Operation {
    Operation::Write { lba, blocks, force_unit_access: false }
}

fn seed() -> u64 {
    let seed = match std::env::var("VOLPLANE_SEED") {
        Ok(text) => text.parse().expect("VOLPLANE_SEED is a number"),
        Err(_) => rand::rng().next_u64(),
    };
    eprintln!("replay with VOLPLANE_SEED={seed}");
    seed
}

/// A random operation in flight.
struct Pending {
    disk: usize,
    operation: Operation,
    whole: Option<DmaMemory>,
    offset: usize,
}

fn random_operation(random: &mut ChaCha8Rng) -> Operation {
    let lba = random.random_range(0..BLOCKS);
    let most = (BLOCKS - lba).min(if random.random_range(0..4) == 0 { 1000 } else { 100 });
    let blocks = random.random_range(1..=most);
    match random.random_range(0..9) {
        0..=3 => Operation::Read { lba, blocks: blocks as u32 },
        4..=5 => write(lba, blocks as u32),
        6 => Operation::WriteZeroes { lba, blocks, deallocate: random.random(), force_unit_access: false },
        7 => Operation::Deallocate { lba, blocks },
        _ => Operation::Flush,
    }
}

#[test]
fn random_operations_do_what_they_say_and_complete_once() {
    let seed = seed();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut rig = Rig::new(seed, &[5, 3], 12);
    let mut expected = vec![vec![0u8; BLOCKS as usize * BLOCK]; DISKS];
    let mut pending: BTreeMap<u64, Pending> = BTreeMap::new();
    let (mut completed, mut full) = (0, 0);
    for tag in 0..3000u64 {
        let (disk, operation) = (random.random_range(0..DISKS), random_operation(&mut random));
        let bytes = |operation: &Operation| {
            operation.range().map(|(lba, blocks)| (lba as usize * BLOCK, blocks as usize * BLOCK))
        };
        let overlaps = |other: &Pending| match (operation.range(), other.operation.range()) {
            (Some((a, n)), Some((b, m))) => disk == other.disk && a < b + m && b < a + n,
            _ => false,
        };
        if pending.values().any(overlaps) {
            continue;
        }
        let (start, len) = bytes(&operation).unwrap_or_default();
        let offset = 4 * random.random_range(1..1500);
        let whole = operation.has_buffer().then(|| rig.memory(offset + len + 64));
        if let Some(whole) = &whole {
            whole.fill(0, whole.len(), 0xA5);
            if matches!(operation, Operation::Write { .. }) {
                let data: Vec<u8> = (0..len).map(|_| random.random()).collect();
                whole.write(offset, &data);
            }
        }
        let buffer = whole.as_ref().map(|whole| whole.part(offset, len));
        let taken = loop {
            let result = rig.dispatcher.submit(VdHandle(disk as u16), operation, buffer.clone(), tag, NOW);
            let mut done = Vec::new();
            if result == Err(SubmitError::Full) || random.random_range(0..3) == 0 {
                let count = rig.dispatcher.poll(NOW, &mut done).expect("no failure");
                assert_eq!(count, done.len());
            }
            if result.is_ok() {
                let data = whole.as_ref().map(|whole| {
                    let mut data = vec![0; len];
                    whole.read(offset, &mut data);
                    data
                });
                match (operation, data) {
                    (Operation::Write { .. }, Some(data)) => {
                        expected[disk][start..start + len].copy_from_slice(&data)
                    }
                    (Operation::WriteZeroes { .. }, _) => expected[disk][start..start + len].fill(0),
                    (Operation::Deallocate { .. }, _) => expected[disk][start..start + len].fill(0xDE),
                    _ => {}
                }
                pending.insert(tag, Pending { disk, operation, whole: whole.clone(), offset });
            } else {
                full += 1;
            }
            for completion in done {
                completed += 1;
                retire(&mut rig, &mut pending, &expected, &completion);
            }
            if result.is_ok() {
                break true;
            }
        };
        assert!(taken);
    }
    for completion in rig.finish() {
        completed += 1;
        retire(&mut rig, &mut pending, &expected, &completion);
    }
    assert!(pending.is_empty(), "every operation completed");
    assert_eq!(rig.model.borrow().disks, expected);
    let commands = rig.model.borrow().commands;
    assert!(completed > 300 && full > 0 && commands > completed, "{completed} {full} {commands}");
}

/// Checks a completion, and for a buffer its contents and what surrounds it.
fn retire(
    rig: &mut Rig,
    pending: &mut BTreeMap<u64, Pending>,
    expected: &[Vec<u8>],
    completion: &Completion,
) {
    let operation = pending.remove(&completion.tag).expect("one completion for each tag");
    assert_eq!(completion.result, Ok(()));
    let Some(whole) = operation.whole else { return };
    let (lba, blocks) = operation.operation.range().expect("it has a buffer");
    let mut bytes = vec![0; whole.len()];
    whole.read(0, &mut bytes);
    let end = operation.offset + blocks as usize * BLOCK;
    let disk = &expected[operation.disk][lba as usize * BLOCK..][..blocks as usize * BLOCK];
    assert!(bytes[operation.offset..end] == *disk, "contents of {}", operation.operation);
    let guards = bytes[..operation.offset].iter().chain(&bytes[end..]);
    assert!(guards.into_iter().all(|&byte| byte == 0xA5), "bytes around {}", operation.operation);
    rig.forget(&whole);
}

#[test]
fn the_lowest_failing_block_is_reported_and_no_more_is_issued() {
    for seed in 0..50 {
        let mut rig = Rig::new(seed, &[4], 4);
        rig.model.borrow_mut().bad.extend([((0, 70), FAILED), ((0, 200), 0x282)]);
        let buffer = rig.memory(BLOCKS as usize * BLOCK);
        let operation = write(0, BLOCKS as u32);
        rig.submit(operation, Some(buffer), 7).expect("taken");
        let error = IoError { disk: VdHandle(0), operation, status: FAILED };
        assert_eq!(rig.finish(), [Completion { tag: 7, result: Err(error) }]);
        let commands = rig.model.borrow().commands;
        assert!(commands < 20, "{commands} of 64 commands issued after a failure");
        rig.submit(Operation::Flush, None, 8).expect("the service goes on");
        assert_eq!(rig.finish(), [Completion { tag: 8, result: Ok(()) }]);
    }
}

#[test]
fn a_long_operation_delays_nobody() {
    let mut rig = Rig::new(1, &[4], 4);
    rig.submit(Operation::Deallocate { lba: 0, blocks: BLOCKS }, None, 1).expect("taken");
    rig.submit(Operation::Flush, None, 2).expect("taken");
    let mut done = Vec::new();
    while done.is_empty() {
        rig.dispatcher.poll(NOW, &mut done).expect("no failure");
    }
    assert_eq!(done[0].tag, 2);
    assert!(rig.model.borrow().commands < 20);
    assert_eq!(rig.finish()[0].tag, 1);
    assert_eq!(rig.model.borrow().flushes, [1, 0]);
}

#[test]
fn wrong_operations_are_refused() {
    let mut rig = Rig::new(1, &[4], 2);
    let buffer = rig.memory(PAGE);
    let out = [write(0, 0), write(BLOCKS, 1), write(BLOCKS - 1, 2), write(u64::MAX, 1)];
    for operation in out {
        let result = rig.submit(operation, Some(buffer.clone()), 0);
        assert!(matches!(result, Err(SubmitError::OutOfRange { .. })), "{operation}");
    }
    let whole = Operation::Deallocate { lba: 1, blocks: u64::MAX };
    assert!(matches!(rig.submit(whole, None, 0), Err(SubmitError::OutOfRange { .. })));
    let bad: [(Operation, Option<DmaMemory>); 4] = [
        (write(0, 1), None),
        (write(0, 9), Some(buffer.clone())),
        (write(0, 1), Some(buffer.part(2, 512))),
        (Operation::Flush, Some(buffer.clone())),
    ];
    for (operation, buffer) in bad {
        let result = rig.submit(operation, buffer, 0);
        assert!(matches!(result, Err(SubmitError::BadBuffer { .. })), "{operation}");
    }
    let nobody = rig.dispatcher.submit(VdHandle(2), Operation::Flush, None, 0, NOW);
    assert_eq!(nobody, Err(SubmitError::NoSuchDisk(VdHandle(2))));
    assert_eq!(rig.dispatcher.outstanding(), 0);
}

#[test]
fn operations_are_bounded_also_when_nobody_polls() {
    let mut rig = Rig::new(1, &[8], 3);
    for tag in 0..3 {
        rig.submit(Operation::Flush, None, tag).expect("room");
    }
    assert_eq!(rig.submit(Operation::Flush, None, 3), Err(SubmitError::Full));
    assert_eq!(rig.dispatcher.outstanding(), 3);
    assert_eq!(rig.finish().len(), 3);
    rig.submit(Operation::Flush, None, 3).expect("room again");
}

#[test]
fn nothing_rings_before_poll_or_ring() {
    let mut rig = Rig::new(1, &[8], 3);
    rig.submit(Operation::Flush, None, 0).expect("room");
    assert_eq!(rig.model.borrow().commands, 0);
    rig.dispatcher.ring().expect("rung");
    assert_eq!(rig.model.borrow().commands, 1);
}

#[test]
fn silence_fails_the_service_after_the_limit() {
    let mut rig = Rig::new(1, &[8], 3);
    rig.dispatcher.queues[0].queue.silent = true;
    rig.submit(Operation::Flush, None, 0).expect("room");
    let mut done = Vec::new();
    for seconds in 0..=10 {
        rig.dispatcher.poll(NOW + Duration::from_secs(seconds), &mut done).expect("within the limit");
    }
    let late = rig.dispatcher.poll(NOW + Duration::from_secs(12), &mut done).expect_err("late");
    assert_eq!(late.to_string(), "virtual disk 0: no answer to flush in 12s");
    assert_eq!(rig.submit(Operation::Flush, None, 1), Err(SubmitError::Stopped));
    assert!(matches!(rig.dispatcher.poll(NOW, &mut done), Err(ServiceError::Stopped)));
    assert!(done.is_empty());
}

#[test]
fn a_completion_of_nothing_fails_the_service() {
    for command in [1, 3, 8, 0xFFFF] {
        let mut rig = Rig::new(1, &[8], 3);
        rig.submit(Operation::Flush, None, 0).expect("room");
        let queue = &mut rig.dispatcher.queues[0].queue;
        queue.outstanding += 1;
        queue.completed.push_back(CompletionEntry::default().with_command_id(command));
        let mut done = Vec::new();
        let error = (0..100).find_map(|_| rig.dispatcher.poll(NOW, &mut done).err()).expect("a failure");
        assert!(matches!(error, ServiceError::UnknownCommand { queue: 1, command: c } if c == command));
    }
}

#[test]
fn a_broken_queue_fails_the_service() {
    let mut rig = Rig::new(1, &[8, 8], 3);
    rig.dispatcher.queues[1].queue.broken =
        Some(QueueError::Access(AccessError::NoFunction("gone".to_owned())));
    let mut done = Vec::new();
    assert!(matches!(rig.dispatcher.poll(NOW, &mut done), Err(ServiceError::Queue(_))));
    assert_eq!(rig.submit(Operation::Flush, None, 1), Err(SubmitError::Stopped));
}
