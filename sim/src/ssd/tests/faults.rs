//! Every fault at an SSD; each assertion fails without it.

use std::ops::Range;

use super::*;
use crate::{Commands, Fault, FaultId, FaultKind};

/// An SSD with a queue pair of 64 entries and a page of 0x77.
struct Bench {
    host: Host,
    pair: Pair,
    buffer: DmaMemory,
    next_id: u32,
}

impl Bench {
    fn new() -> Self {
        Self::of(crate::test_seed())
    }

    fn of(seed: u64) -> Self {
        let ssd = SsdConfig::new("nvme0", 512, 100).with_latency_ns(1000, 0);
        let mut host = Host::of_machine(SimulatorConfig::new(seed).with_ssd(ssd));
        let pair = host.create_pair(1, 64);
        let buffer = host.platform.allocate(4096).expect("memory");
        buffer.fill(0, 4096, 0x77);
        Bench { host, pair, buffer, next_id: 0 }
    }

    fn start(&self, kind: FaultKind, commands: Commands) -> FaultId {
        self.host.handle.start_fault("nvme0", Fault::new(kind).with_commands(commands))
    }

    fn strikes(&self, fault: FaultId) -> u64 {
        self.host.handle.fault_strikes(fault)
    }

    /// Sends commands at once: opcode and block; their identifiers go on counting.
    fn send(&mut self, commands: impl IntoIterator<Item = (u32, u64)>) {
        for (opcode, lba) in commands {
            let mut entry = io(opcode, lba, 1, self.buffer.iova().0, 0);
            entry[0] |= self.next_id << 16;
            self.next_id += 1;
            self.pair.push(entry);
        }
        self.pair.ring(&self.host.ssd);
    }

    /// What completes within a time: identifier and status.
    fn completed(&mut self, ns: u64) -> Vec<(u32, u32)> {
        self.host.handle.run_for_ns(ns).expect("run");
        let done = std::iter::from_fn(|| self.pair.pop()).map(|c| (c[3] & 0xFFFF, status_of(c))).collect();
        self.pair.ring_head(&self.host.ssd);
        done
    }

    /// Which of the first blocks were written.
    fn written(&self, blocks: usize) -> Vec<bool> {
        let mut media = vec![0; blocks * 512];
        self.host.handle.read_media("nvme0", 0, &mut media).expect("media");
        media.chunks(512).map(|block| block == [0x77; 512]).collect()
    }
}

fn writes(blocks: Range<u64>) -> impl Iterator<Item = (u32, u64)> {
    blocks.map(|lba| (1, lba))
}

#[test]
fn errors_strike_blocks_opcodes_and_the_nth_command() {
    let mut bench = Bench::new();
    let error = |status, after_effect| FaultKind::Error { status, after_effect };
    let blocks = bench.start(error(0x281, false), Commands::all().with_blocks(2..4));
    let reads = bench.start(error(0x4006, true), Commands::all().with_opcodes(&[2]));
    let third = bench.start(error(0x280, true), Commands::all().with_opcodes(&[1]).with_count(5, 1));
    bench.send(writes(0..8).chain([(2, 0), (2, 3), (0, 2)]));
    let mut done = bench.completed(10_000);
    done.sort_unstable();
    let statuses: Vec<u32> = done.iter().map(|&(_, status)| status).collect();
    assert_eq!(statuses, [0, 0, 0x281, 0x281, 0, 0x280, 0, 0, 0x4006, 0x4006, 0]);
    assert_eq!(bench.written(8), [true, true, false, false, true, true, true, true]);
    assert_eq!((bench.strikes(blocks), bench.strikes(reads), bench.strikes(third)), (3, 2, 1));
    bench.host.handle.stop_fault(blocks);
    bench.send(writes(2..4));
    assert!(bench.completed(10_000).iter().all(|&(_, status)| status == 0), "stopped");
    assert_eq!(bench.strikes(blocks), 3, "known after it was stopped");
}

#[test]
fn other_queues_and_ranges_of_dataset_management_are_told_apart() {
    let mut bench = Bench::new();
    let error = FaultKind::Error { status: 0x281, after_effect: false };
    let elsewhere = bench.start(error.clone(), Commands::all().with_queue(2));
    let here = bench.start(error, Commands::all().with_queue(1).with_blocks(40..41));
    let ranges: Vec<u8> =
        [0u32, 1, 10, 0, 0, 3, 38, 0].iter().flat_map(|dword| dword.to_le_bytes()).collect();
    bench.buffer.write(0, &ranges);
    // Two ranges; the second ends with block 40. One range; block 1 of its entry is no block.
    for ranges_z in [1, 0] {
        bench.send([(9, u64::from(4u32) << 32 | ranges_z)]);
    }
    assert_eq!(bench.completed(10_000), [(0, 0x281), (1, 0)]);
    assert_eq!((bench.strikes(elsewhere), bench.strikes(here)), (0, 1));
}

#[test]
fn a_chance_is_drawn_from_the_seed() {
    let run = |seed| {
        let mut bench = Bench::of(seed);
        let error = FaultKind::Error { status: 0x281, after_effect: false };
        let fault = bench.start(error, Commands::all().with_chance(1024));
        let mut failed = Vec::new();
        for _ in 0..10 {
            bench.send(writes(0..50));
            failed.extend(bench.completed(10_000).iter().map(|&(_, status)| status != 0));
        }
        assert_eq!(bench.strikes(fault), failed.iter().filter(|&&failed| failed).count() as u64);
        (bench.strikes(fault), failed)
    };
    let (strikes, failed) = run(7);
    assert!((75..=175).contains(&strikes), "a quarter of 500: {strikes}");
    assert!(failed == run(7).1 && failed != run(8).1);
}

#[test]
fn a_delay_a_slow_device_and_a_time_have_their_lengths() {
    let mut bench = Bench::new();
    let delay = bench.start(
        FaultKind::Delay { shortest_ns: 50_000, longest_ns: 60_000 },
        Commands::all().with_blocks(0..1),
    );
    bench.send(writes(0..2));
    assert_eq!(bench.completed(2000), [(1, 0)]);
    assert_eq!((bench.completed(48_000), bench.written(1)), (vec![], vec![false]));
    assert_eq!(bench.completed(12_000), [(0, 0)]);
    bench.host.handle.stop_fault(delay);

    let slow = bench.start(FaultKind::Slow { service_ns: 5000 }, Commands::all());
    bench.send(writes(0..4));
    let counts: Vec<usize> = (0..4).map(|_| bench.completed(5000).len()).collect();
    assert_eq!((counts, bench.strikes(slow)), (vec![1, 1, 1, 1], 4));
    bench.host.handle.stop_faults();

    let error = Fault::new(FaultKind::Error { status: 6, after_effect: false });
    let timed = bench.host.handle.start_fault("nvme0", error.with_time_ns(10_000, Some(20_000)));
    for status in [0, 6, 0] {
        bench.send(writes(0..1));
        assert_eq!(bench.completed(10_000)[0].1, status);
    }
    assert_eq!(bench.strikes(timed), 1);
}

#[test]
fn dropped_completions_never_come_and_their_identifiers_stay_in_use() {
    let mut bench = Bench::new();
    let without = bench.start(FaultKind::Drop { after_effect: false }, Commands::all().with_blocks(0..1));
    let with = bench.start(FaultKind::Drop { after_effect: true }, Commands::all().with_blocks(1..2));
    bench.send(writes(0..3));
    assert_eq!(bench.completed(1_000_000_000), [(2, 0)]);
    assert_eq!(bench.written(3), [false, true, true]);
    assert_eq!((bench.strikes(without), bench.strikes(with)), (1, 1));
    bench.next_id = 1;
    bench.send(writes(5..6));
    assert_eq!(bench.completed(10_000), [(1, 3 | DNR)], "Command ID Conflict");
}

#[test]
fn reordered_completions_overtake_and_all_come() {
    let mut bench = Bench::new();
    bench.send(writes(0..50));
    assert!(bench.completed(10_000).is_sorted());
    let reorder = bench.start(FaultKind::Reorder { window_ns: 20_000 }, Commands::all());
    bench.send(writes(0..50));
    let mut done = bench.completed(30_000);
    let overtaking = (1..done.len()).filter(|&at| done[at..].iter().any(|later| later.0 < done[at - 1].0));
    assert!(overtaking.count() > 10 && bench.strikes(reorder) > 10);
    done.sort_unstable();
    assert!(done.iter().map(|&(id, _)| id).eq(50..100), "each once");
}

#[test]
fn a_zombie_strikes_late_unless_its_queue_or_controller_ended() {
    const LATE_NS: u64 = 50_000_000;
    let zombie = || {
        let mut bench = Bench::new();
        let late = FaultKind::Zombie { shortest_ns: LATE_NS, longest_ns: LATE_NS };
        let fault = bench.start(late, Commands::all().with_count(0, 1));
        bench.send(writes(0..2));
        assert_eq!(bench.completed(LATE_NS / 2), [(1, 0)]);
        assert_eq!((bench.strikes(fault), bench.written(2)), (1, vec![false, true]));
        // Stopping the fault does not undo what it did.
        bench.host.handle.stop_fault(fault);
        bench
    };
    let mut struck = zombie();
    assert_eq!(struck.completed(LATE_NS), [(0, 0)]);
    assert_eq!(struck.written(2), [true, true]);

    // Deleted, and made anew with the same number and memory: nothing of before comes.
    let mut deleted = zombie();
    assert_eq!(status_of(deleted.host.admin(0x00, 0, 1, 0)), 0);
    assert_eq!(status_of(deleted.host.admin(0x04, 0, 1, 0)), 0);
    let (sq, cq) = (deleted.pair.sq.iova().0, deleted.pair.cq.iova().0);
    deleted.pair.cq.fill(0, 64 * 16, 0);
    assert_eq!(status_of(deleted.host.admin(0x05, cq, 63 << 16 | 1, 5 << 16 | 3)), 0);
    assert_eq!(status_of(deleted.host.admin(0x01, sq, 63 << 16 | 1, 1 << 16 | 1)), 0);
    (deleted.pair.head, deleted.pair.tail, deleted.pair.phase) = (0, 0, 1);
    deleted.next_id = 0;
    deleted.send(writes(2..3));
    assert_eq!(deleted.completed(LATE_NS), [(0, 0)], "the new command of this identifier, alone");
    assert_eq!(deleted.written(3), [false, true, true]);
    assert!(deleted.host.handle.ssd_complaints().is_empty());

    type Reset = fn(&mut SimFunction);
    let disable: Reset = |ssd| ssd.write32(Bar::Bar0, 0x14, 0).expect("CC");
    let function: Reset = |ssd| ssd.reset().expect("FLR");
    for reset in [disable, function] {
        let mut bench = zombie();
        reset(&mut bench.host.ssd);
        bench.host.admin = Pair::new(&mut bench.host.platform, 0, 8);
        bench.host.enable();
        bench.pair = bench.host.create_pair(1, 64);
        assert_eq!(bench.completed(LATE_NS), []);
        assert_eq!(bench.written(2), [false, true]);
        bench.next_id = 0;
        bench.send(writes(2..3));
        assert_eq!((bench.completed(10_000), bench.written(3)[2]), (vec![(0, 0)], true));
    }
}

/// Faults of every kind but death over random traffic: all that completed, and when.
fn storm(seed: u64) -> (Vec<(u64, u32, u32)>, String, Vec<bool>) {
    let mut bench = Bench::of(seed);
    let some = |of_4096| Commands::all().with_chance(of_4096);
    bench.start(FaultKind::Error { status: 0x281, after_effect: true }, some(400));
    bench.start(FaultKind::Drop { after_effect: false }, some(200));
    bench.start(FaultKind::Delay { shortest_ns: 100, longest_ns: 9000 }, some(1000));
    bench.start(FaultKind::Zombie { shortest_ns: 100_000, longest_ns: 300_000 }, some(200));
    bench.start(FaultKind::Reorder { window_ns: 3000 }, some(2000));
    bench.start(FaultKind::Slow { service_ns: 700 }, some(500));
    let mut seen = Vec::new();
    for round in 0..100 {
        bench.send(writes(round % 90..round % 90 + 5));
        let done = bench.completed(4000);
        seen.extend(done.iter().map(|&(id, status)| (bench.host.handle.now_ns(), id, status)));
    }
    let reports = bench.host.handle.fault_reports();
    assert!(reports.len() == 6 && reports.iter().all(|report| report.strikes > 0), "{reports:?}");
    (seen, format!("{reports:?}"), bench.written(100))
}

#[test]
fn one_seed_gives_one_run_of_faults_and_another_seed_another() {
    let seed = crate::test_seed();
    let first = storm(seed);
    assert!(first == storm(seed));
    assert!(first != storm(seed + 1));
    assert!(first.1.contains("Zombie { shortest_ns: 100000") && first.1.contains("of_4096: 2000"));
}
