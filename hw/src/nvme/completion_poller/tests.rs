use super::*;
use crate::bench::{seeded, Bench};
use crate::nvme::path_write::write_request;
use crate::records::{PathCompletions, PathEntry};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use volplane_abi::{completion_mode, table};

/// Bus addresses of a path's queue in host memory.
const BASE: u64 = 0x12_3456_0000_0000;
const QUEUE_BYTES: u64 = 1 << 20;

/// An event: path, position, identifier, submission head, status.
type Event = (u64, u64, u64, u64, u64);

fn start<const W: usize, const B: usize>(name: &str, sizes: &Sizes) -> Bench {
    let mut bench =
        Bench::new(&format!("completion_poller_{name}_{W}"), CompletionPoller::<W, B>::new(sizes));
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    while bench.get("initialised") == 0 {
        bench.cycle();
    }
    bench
}

fn entry(size_z: u64, valid: bool, mode: u8) -> PathEntry {
    PathEntry {
        cq_size_z: size_z.into(),
        valid: u64::from(valid).into(),
        completion_mode: u64::from(mode).into(),
        ..PathEntry::default()
    }
}

fn place_request(path: usize, base: u64, write: bool) -> TableRequest {
    let record = PathCompletions { base: base.into() };
    let bits: Bits<64> = record.into();
    TableRequest {
        write: u64::from(write).into(),
        table: u64::from(table::PATH_COMPLETIONS).into(),
        index: (path as u64).into(),
        data: (0..64).fold(Bits::default(), |all: Bits<256>, i| all.replace_bit(i, bits.get_bit(i))),
    }
}

/// 16 bytes as an SSD writes them.
fn completion(event: Event, phase: bool) -> [u8; 16] {
    let (_, _, id, head, status) = event;
    let mut bytes = [0xC5; 16];
    bytes[8..10].copy_from_slice(&(head as u16).to_le_bytes());
    bytes[12..14].copy_from_slice(&(id as u16).to_le_bytes());
    bytes[14..16].copy_from_slice(&((status as u16) << 1 | u16::from(phase)).to_le_bytes());
    bytes
}

fn event(bench: &Bench) -> Event {
    let event: WindowEvent = bench.get_record("event_data");
    (
        event.path.to_u64(),
        event.position.to_u64(),
        event.command_id.to_u64(),
        event.sq_head.to_u64(),
        event.status.to_u64(),
    )
}

/// A queue as its SSD and the test see it.
struct Queue {
    memory: Vec<u8>,
    entries: u64,
    /// The SSD writes here next, with this phase tag.
    tail: u64,
    phase: bool,
    /// Written and not seen as events yet.
    expected: VecDeque<Event>,
    issued: u64,
    ended: u64,
    /// It is read by the card.
    polled: bool,
    /// What was read before the queue was made anew may not be believed any more.
    passes: u64,
}

impl Queue {
    fn new(entries: u64) -> Self {
        Self {
            // Whole pieces of 64 bytes are read, whatever lies behind the last entry: here what would be new at first.
            memory: vec![0; (entries as usize * 16).next_multiple_of(64)],
            entries,
            tail: 0,
            phase: true,
            expected: VecDeque::new(),
            issued: 0,
            ended: 0,
            polled: false,
            passes: 0,
        }
    }

    fn clear(&mut self) {
        self.memory.fill(0);
        let end = self.entries as usize * 16;
        self.memory[end..].fill(0xFF);
        (self.tail, self.phase) = (0, true);
        self.expected.clear();
    }

    /// The SSD posts a completion, if it may: the card is never given more than fits.
    fn post(&mut self, path: u64, random: &mut ChaCha8Rng) {
        let room = self.entries - 1 - self.expected.len() as u64;
        if self.issued == self.ended + self.expected.len() as u64 || room == 0 {
            return;
        }
        let id = random.random_range(0..1 << 16);
        let event = (path, self.tail, id, random.random_range(0..1 << 16), random.random_range(0..1 << 15));
        let at = self.tail as usize * 16;
        self.memory[at..at + 16].copy_from_slice(&completion(event, self.phase));
        self.expected.push_back(event);
        self.tail = (self.tail + 1) % self.entries;
        if self.tail == 0 {
            self.phase = !self.phase;
            self.passes += 1;
        }
    }
}

/// A read on its way: path, beats left, beat of the piece, address.
struct Read {
    path: usize,
    beat: usize,
    offset: usize,
    due: u64,
    error: bool,
    data: Option<Vec<u8>>,
}

struct Bus {
    reads: VecDeque<Read>,
    /// A request to be written to a table, until it is acknowledged.
    table: VecDeque<TableRequest>,
    busy: u64,
    /// A path whose queue is not read any more.
    replaced: Option<usize>,
}

/// Random completions on random paths, in windows too, with stalls and refusals, and queues made anew.
fn check<const W: usize, const B: usize>(path_bits: usize, cycles: u64) {
    let sizes = Sizes { path_bits, ..Sizes::DEFAULT };
    let mut bench = start::<W, B>(&format!("random_{path_bits}"), &sizes);
    let mut random = seeded();
    let paths = 1usize << path_bits;
    let mut queues: Vec<Queue> =
        (0..paths).map(|path| Queue::new([2, 3, 4, 5, 8, 17, 64, 200][(path + path_bits) % 8])).collect();
    let mut bus = Bus { reads: VecDeque::new(), table: VecDeque::new(), busy: 0, replaced: None };
    let base = |path: usize| BASE + path as u64 * QUEUE_BYTES;
    let (mut issued_last, mut ended_last) = (false, false);
    let mut ending: VecDeque<usize> = VecDeque::new();
    let (mut seen, mut windows, mut refused, mut renewed, mut late) = (0u64, 0u64, 0u64, 0u64, 0u64);
    for cycle in 0..cycles {
        let draining = cycle + 30_000 > cycles;
        let flow = if cycle / 2_000 % 2 == 0 { 0.5 } else { 0.05 };

        // The control path: makes a path's queue anew, or closes the path.
        bench.set("table_valid", 0);
        if bus.busy > 0 {
            bus.busy -= 1;
            if bus.busy == 16 {
                // From here on nothing of before may come; the memory is zeroed a little later.
                bus.replaced.take().into_iter().for_each(|path: usize| queues[path].expected.clear());
            }
        } else if let Some(request) = bus.table.pop_front() {
            let index = request.index.to_u64() as usize;
            if request.table.to_u64() == u64::from(table::PATH_COMPLETIONS) {
                queues[index].polled = false;
                bus.replaced = Some(index);
            } else if PathEntry::from(request.data).valid.any() {
                queues[index].clear();
                // What was outstanding is quiesced: the card ends it.
                let coming = ending.iter().filter(|&&path| path == index).count() as u64;
                for _ in queues[index].ended + coming..queues[index].issued {
                    ending.push_back(index);
                }
                queues[index].polled = true;
                renewed += 1;
            }
            bench.set_record("table_request", request);
            bench.set("table_valid", 1);
            bus.busy = 20;
        } else if !draining && random.random_bool(if cycle < 2_000 { 0.05 } else { 0.001 }) {
            let path = random.random_range(0..paths);
            if random.random_bool(0.5) {
                let size_z = queues[path].entries - 1;
                bus.table.push_back(place_request(path, base(path), true));
                let open = entry(size_z, true, completion_mode::HOST);
                bus.table.push_back(write_request(path, open));
            } else if queues[path].polled {
                // Closed: what its SSD still writes is read all the same.
                bus.table.push_back(write_request(path, entry(1, false, completion_mode::HOST)));
                late += 1;
            }
        }

        // Fragments are issued, SSDs answer, answers come back.
        let path = random.random_range(0..paths);
        let issue = !issued_last && !draining && random.random_bool(flow) && queues[path].issued < 1 << 40;
        let issue = issue && queues[path].issued - queues[path].ended < queues[path].entries - 1;
        let issue = issue && bus.table.is_empty();
        bench.set("issued_valid", issue.into());
        bench.set("issued_path", path as u128);
        queues[path].issued += u64::from(issue);
        issued_last = issue;
        let ends = if ended_last { None } else { ending.pop_front() };
        bench.set("ended_valid", ends.is_some().into());
        if let Some(path) = ends {
            bench.set("ended_path", path as u128);
            queues[path].ended += 1;
        }
        ended_last = ends.is_some();
        let path = random.random_range(0..paths);
        let quieted = ending.contains(&path);
        if queues[path].polled && !quieted && random.random_bool(if draining { 0.9 } else { flow * 0.8 }) {
            queues[path].post(path as u64, &mut random);
        }

        // Windows, and the bus.
        let window = random.random_bool(if cycle / 500 % 4 == 3 { 0.95 } else { 0.3 }) && !draining;
        let through = WindowEvent {
            path: random.random_range(0u64..32).into(),
            position: random.random_range(0u64..1 << 10).into(),
            command_id: random.random_range(0u64..1 << 16).into(),
            sq_head: random.random_range(0u64..1 << 16).into(),
            status: random.random_range(0u64..1 << 15).into(),
        };
        bench.set_record("window_data", through);
        bench.set("window_valid", window.into());
        bench.set("read$ready", random.random_bool(0.6).into());
        bench.set("answer_valid", 0);
        if let Some(read) = bus.reads.front_mut().filter(|read| read.due <= cycle) {
            if random.random_bool(0.7) {
                let memory = &queues[read.path].memory;
                // Memory is read when the first beat goes.
                let offset = read.offset;
                let data = read.data.get_or_insert_with(|| memory[offset..offset + 64].to_vec());
                let bytes = &data[read.beat * B..(read.beat + 1) * B];
                let words: Vec<u32> =
                    bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().expect("4 bytes"))).collect();
                bench.set_wide("answer_data", &words);
                read.beat += 1;
                let last = read.beat * B == 64;
                bench.set("answer_valid", 1);
                bench.set("answer_tag", 0x80 | read.path as u128);
                bench.set("answer_last", last.into());
                bench.set("answer_error", (read.error && (last || random.random_bool(0.5))).into());
                if last {
                    bus.reads.pop_front();
                }
            }
        } else if random.random_bool(0.2) {
            // Somebody else's.
            bench.set("answer_valid", 1);
            bench.set("answer_tag", random.random_range(0..32));
            bench.set("answer_last", 1);
        }
        bench.eval();
        if bench.get("read$valid") == 1 && bench.get("read$ready") == 1 {
            let request: ReadRequest = bench.get_record("read$data");
            assert!(bus.reads.is_empty(), "one read at a time");
            let path = (request.tag.to_u64() & 0x7F) as usize;
            assert_eq!((request.tag.to_u64() >> 7, request.bytes.to_u64()), (1, 64));
            let offset = (request.address.to_u64() - base(path)) as usize;
            assert!(offset.is_multiple_of(64) && offset < queues[path].memory.len(), "{offset:#x} of {path}");
            let error = random.random_bool(0.05);
            refused += u64::from(error);
            let due = cycle + random.random_range(0..40);
            bus.reads.push_back(Read { path, beat: 0, offset, due, error, data: None });
        }
        if bench.get("event_valid") == 1 {
            if window {
                let got: WindowEvent = bench.get_record("event_data");
                assert_eq!(got, through, "cycle {cycle}: windows go first");
                windows += 1;
            } else {
                let got = event(&bench);
                let path = got.0 as usize;
                assert_eq!(Some(got), queues[path].expected.pop_front(), "cycle {cycle}, path {path}");
                ending.push_back(path);
                seen += 1;
            }
        } else {
            assert!(!window);
        }
        bench.cycle();
    }
    for (path, queue) in queues.iter().enumerate() {
        let left = (queue.expected.len(), queue.issued - queue.ended);
        assert!(!queue.polled || left == (0, 0), "path {path}: {left:?} left");
    }
    assert_eq!(bench.get("idle"), 1);
    let passes: Vec<u64> = queues.iter().map(|queue| queue.passes).collect();
    println!(
        "{seen} entries, {windows} of windows, {refused} refused, {renewed} made anew, passes {passes:?}"
    );
    assert!(seen > cycles / 100 && windows > 1_000 && refused > 50 && renewed > 20 && late > 5);
    assert!(passes.iter().sum::<u64>() > 100, "{passes:?}");
}

#[test]
fn every_entry_becomes_one_event_whatever_else_happens() {
    check::<128, 16>(5, 160_000);
    check::<256, 32>(2, 100_000);
    check::<512, 64>(1, 100_000);
}

/// A machine with path 3 polled, whose memory answers at once; the memory is `memory`.
fn polled_path<const W: usize, const B: usize>(name: &str) -> Bench {
    let mut bench = start::<W, B>(name, &Sizes::DEFAULT);
    for request in [place_request(3, BASE, true), write_request(3, entry(63, true, completion_mode::HOST))] {
        bench.set_record("table_request", request);
        bench.set("table_valid", 1);
        bench.cycle();
        bench.set("table_valid", 0);
        for _ in 0..20 {
            bench.cycle();
        }
    }
    bench
}

fn issue(bench: &mut Bench, path: u128) {
    bench.set("issued_valid", 1);
    bench.set("issued_path", path);
    bench.cycle();
    bench.set("issued_valid", 0);
}

/// Answers a read at once, and runs until something comes of it: the cycles to the event.
fn answer<const W: usize, const B: usize>(bench: &mut Bench, memory: &[u8; 64]) -> Option<u64> {
    for beat in memory.chunks(B) {
        let words: Vec<u32> =
            beat.chunks(4).map(|c| u32::from_le_bytes(c.try_into().expect("4 bytes"))).collect();
        bench.set_wide("answer_data", &words);
        bench.set("answer_valid", 1);
        bench.set("answer_tag", 0x83);
        bench.set("answer_last", (beat.as_ptr_range().end == memory.as_ptr_range().end).into());
        bench.cycle();
    }
    bench.set("answer_valid", 0);
    (0..20).find(|_| {
        let comes = bench.get("event_valid") == 1;
        if !comes {
            bench.cycle();
        }
        comes
    })
}

fn until_read(bench: &mut Bench) -> Option<u64> {
    bench.set("read$ready", 1);
    let waited = (0..200).find(|_| {
        bench.eval();
        let valid = bench.get("read$valid") == 1;
        bench.cycle();
        valid
    });
    bench.set("read$ready", 0);
    waited
}

fn is_quick<const W: usize, const B: usize>() {
    let mut bench = polled_path::<W, B>("directed");
    assert_eq!(bench.get("idle"), 1);
    assert_eq!(until_read(&mut bench), None, "nothing is outstanding");
    issue(&mut bench, 5);
    assert_eq!(until_read(&mut bench), None, "on no path that is polled");
    issue(&mut bench, 3);
    assert_eq!(bench.get("idle"), 0);
    // Issued to read, and what was read to its event.
    assert_eq!(until_read(&mut bench), Some(8));
    let mut memory = [0; 64];
    assert_eq!(answer::<W, B>(&mut bench, &memory), None);
    assert_eq!(bench.get("idle"), 0);
    // It was not there; a pause, and the next turn.
    let pause = until_read(&mut bench).expect("it is read again");
    assert!(pause < 32, "{pause}");
    memory[..16].copy_from_slice(&completion((3, 0, 0x1234, 7, 0x11), true));
    assert_eq!(answer::<W, B>(&mut bench, &memory), Some(1));
    assert_eq!(event(&bench), (3, 0, 0x1234, 7, 0x11));
    // The event waits for the windows.
    bench.set("window_valid", 1);
    bench.eval();
    assert_ne!(event(&bench), (3, 0, 0x1234, 7, 0x11));
    bench.cycle();
    bench.set("window_valid", 0);
    bench.eval();
    assert_eq!((bench.get("event_valid"), event(&bench)), (1, (3, 0, 0x1234, 7, 0x11)));
    bench.set("ended_valid", 1);
    bench.set("ended_path", 3);
    bench.cycle();
    bench.set("ended_valid", 0);
    assert_eq!(until_read(&mut bench), None, "nothing is outstanding any more");
    assert_eq!(bench.get("idle"), 1);
    println!("{W} bits: read {pause} cycles after one that found nothing");
}

#[test]
fn reads_for_those_who_wait_and_for_nobody_else() {
    is_quick::<128, 16>();
    is_quick::<512, 64>();
}

#[test]
fn what_is_read_while_its_queue_is_made_anew_is_discarded() {
    let mut memory = [0; 64];
    memory[..16].copy_from_slice(&completion((3, 0, 0x1234, 7, 0), true));
    let mut bench = polled_path::<128, 16>("stale");
    for delay in 0..20 {
        issue(&mut bench, 3);
        // Somewhere between the choice of the path and the answer.
        for _ in 0..delay {
            bench.cycle();
        }
        bench.set_record("table_request", place_request(3, BASE + 0x1000, true));
        bench.set("table_valid", 1);
        bench.cycle();
        bench.set("table_valid", 0);
        if until_read(&mut bench).is_some() {
            assert_eq!(answer::<128, 16>(&mut bench, &memory), None, "after {delay} cycles");
        }
        for _ in 0..100 {
            bench.cycle();
            assert_eq!((bench.get("event_valid"), bench.get("read$valid")), (0, 0));
        }
        bench.set_record("table_request", write_request(3, entry(63, true, completion_mode::HOST)));
        bench.set("table_valid", 1);
        bench.cycle();
        bench.set("table_valid", 0);
        assert!(until_read(&mut bench).is_some(), "it is still outstanding");
        assert_eq!(answer::<128, 16>(&mut bench, &memory), Some(1));
        assert_eq!(event(&bench).1, 0, "from the first entry on");
        bench.set("ended_valid", 1);
        bench.set("ended_path", 3);
        bench.cycle();
        bench.set("ended_valid", 0);
        assert_eq!(until_read(&mut bench), None);
    }
}

#[test]
fn the_table_reads_back_and_resets() {
    let mut bench = start::<128, 16>("table", &Sizes { path_bits: 2, ..Sizes::DEFAULT });
    let mut random = seeded();
    let mut places = [0u64; 4];
    for turn in 0..400 {
        if turn == 200 {
            bench.set("reset", 1);
            bench.cycle();
            bench.set("reset", 0);
            places = [0; 4];
        }
        let (path, write) = (random.random_range(0..5), random.random_bool(0.4));
        let place = random.random_range(0..1 << 52) << 12;
        bench.set_record("table_request", place_request(path, place, write));
        bench.set("table_valid", 1);
        let mut answer = None;
        for cycle in 0..20 {
            bench.eval();
            let words = bench.get_wide("table_data");
            if bench.get("table_ack") == 1 {
                assert_eq!((answer, cycle), (None, 3));
                answer = Some(u64::from(words[0]) | u64::from(words[1]) << 32);
            } else {
                assert!(words.iter().all(|&word| word == 0));
            }
            bench.cycle();
            bench.set("table_valid", 0);
        }
        let expected = (path < 4).then(|| if write { 0 } else { places[path] });
        assert_eq!(answer, expected);
        if write && path < 4 {
            places[path] = place;
        }
    }
}
