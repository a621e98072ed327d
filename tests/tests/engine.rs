//! The whole engine of host-lib on the Verilated card and simulated SSDs.

#[path = "engine/io_plans.rs"]
mod io_plans;
#[path = "engine/mirror.rs"]
mod mirror;
#[path = "engine/moves.rs"]
mod moves;
#[path = "engine/rig.rs"]
mod rig;
#[path = "engine/shared_plans.rs"]
mod shared_plans;
#[path = "engine/workload.rs"]
mod workload;

use std::panic::AssertUnwindSafe;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rig::{options, refused, same, seed, three_disks, Guarded, Rig};
use volplane::vaapi::{TableEntry, Tables, VdStatus};
use volplane::{
    BlockService, CompletionMode, Engine, EngineOptions, Operation, SubmissionMode, SubmitError, VdHandle,
};
use volplane_abi::tables::table;
use volplane_abi::{opcode, status};
use volplane_sim::{CommandFilter, CommandRecord, CompletionWrites, Execution, SimPlatform, SimulatorConfig};
use volplane_tests::harness::is_built;
use workload::Workload;

/// What the tests of mirrors and of plans run on.
type Tested = Engine<SimPlatform>;

const MEMORY: &str = "memory = true";
const FILES: &str = "file = \"ssd#.img\"\ncreate = true";

fn in_memory(width: usize, seed: u64) -> Rig {
    Rig::start(&three_disks(width, MEMORY), Path::new("."), seed, &options(), |_| ())
}

fn random_bytes(random: &mut ChaCha8Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    random.fill_bytes(&mut bytes);
    bytes
}

/// Executes a write of random bytes; the shadow follows.
fn write(rig: &mut Rig, random: &mut ChaCha8Rng, disk: usize, lba: u64, blocks: u32) {
    let data = random_bytes(random, rig.bytes(disk, lba, blocks.into()).len());
    let memory = rig.engine.allocate(Guarded::footprint(0, data.len())).expect("memory");
    let guarded = Guarded::new(&memory, 0, data.len());
    guarded.write(&data);
    let operation = Operation::Write { lba, blocks, force_unit_access: false };
    rig.execute(disk, operation, Some(guarded.buffer())).unwrap_or_else(|error| panic!("{error}"));
    rig.apply(disk, operation, &data);
}

/// Reads a range through the card and compares it with the shadow.
fn compare(rig: &mut Rig, disk: usize, lba: u64, blocks: u32) {
    let bytes = rig.bytes(disk, lba, blocks.into());
    let memory = rig.engine.allocate(Guarded::footprint(20, bytes.len())).expect("memory");
    let guarded = Guarded::new(&memory, 20, bytes.len());
    rig.execute(disk, Operation::Read { lba, blocks }, Some(guarded.buffer()))
        .unwrap_or_else(|error| panic!("{error}"));
    same(&guarded.read(), &rig.shadow[disk][bytes.clone()], disk, bytes.start);
}

/// Blocks at which something ends and something else begins, the ends of the disk included.
fn borders(rig: &Rig, disk: usize) -> Vec<u64> {
    let map = rig.map(disk);
    let mut borders = vec![0, map.blocks(), 1 << map.allocation_shift];
    let mut start = 0;
    for segment in &map.segments {
        borders.extend([segment.stripe_shift, segment.extent_shift].map(|shift| start + (1 << shift)));
        start += segment.blocks;
        borders.push(start);
    }
    borders.retain(|&border| border <= map.blocks());
    borders.sort_unstable();
    borders.dedup();
    borders
}

#[test]
fn every_operation_at_every_border() {
    let seed = seed(1);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut rig = in_memory(128, seed);
    for disk in 0..rig.shadow.len() {
        let total = rig.map(disk).blocks();
        for border in borders(&rig, disk) {
            let around = border.saturating_sub(16)..(border + 16).min(total);
            let ranges = [(5, 3), (5, 0), (0, 5), (1, 1)]
                .map(|(before, after)| border.saturating_sub(before)..(border + after).min(total));
            for range in ranges.into_iter().filter(|range| !range.is_empty()) {
                let (lba, blocks) = (range.start, range.end - range.start);
                for kind in 0..5 {
                    write(&mut rig, &mut random, disk, around.start, (around.end - around.start) as u32);
                    let operation = match kind {
                        0 => Operation::Write { lba, blocks: blocks as u32, force_unit_access: false },
                        1 => Operation::Write { lba, blocks: blocks as u32, force_unit_access: true },
                        2 => {
                            Operation::WriteZeroes { lba, blocks, deallocate: false, force_unit_access: true }
                        }
                        3 => {
                            Operation::WriteZeroes { lba, blocks, deallocate: true, force_unit_access: false }
                        }
                        _ => Operation::Deallocate { lba, blocks },
                    };
                    let (mut data, mut buffer) = (Vec::new(), None);
                    if operation.has_buffer() {
                        data = random_bytes(&mut random, rig.bytes(disk, lba, blocks).len());
                        let memory = rig.engine.allocate(data.len()).expect("memory");
                        memory.write(0, &data);
                        buffer = Some(memory);
                    }
                    rig.execute(disk, operation, buffer).unwrap_or_else(|error| panic!("{error}"));
                    rig.apply(disk, operation, &data);
                    compare(&mut rig, disk, around.start, (around.end - around.start) as u32);
                    compare(&mut rig, disk, lba, blocks as u32);
                }
            }
        }
        rig.execute(disk, Operation::Flush, None).unwrap_or_else(|error| panic!("{error}"));
    }
    rig.compare_all();
    rig.assert_clean();
    rig.stop();
}

/// A flush goes to every SSD of the disk and to no other; FUA reaches the SSD.
#[test]
fn flush_and_force_unit_access_reach_the_ssds() {
    let text = three_disks(128, MEMORY);
    let record = |config: &mut SimulatorConfig| config.record_commands = 1000;
    let mut rig: Rig = Rig::start(&text, Path::new("."), seed(2), &options(), record);
    let take = |rig: &Rig| -> Vec<Vec<CommandRecord>> {
        (0..4).map(|ssd| rig.handle.take_commands(&format!("ssd-{ssd}")).0).collect()
    };
    for (disk, devices) in [vec![0, 1, 2], vec![0, 1, 2], vec![3]].into_iter().enumerate() {
        take(&rig);
        rig.execute(disk, Operation::Flush, None).expect("a flush");
        for (ssd, commands) in take(&rig).iter().enumerate() {
            let codes: Vec<u8> = commands.iter().map(|command| command.entry.opcode()).collect();
            let expected = if devices.contains(&ssd) { vec![opcode::FLUSH] } else { vec![] };
            assert_eq!(codes, expected, "disk {disk}, SSD {ssd}");
        }
        for force_unit_access in [false, true] {
            let memory = rig.engine.allocate(rig.block_bytes(disk)).expect("memory");
            let operation = Operation::Write { lba: 3, blocks: 1, force_unit_access };
            rig.execute(disk, operation, Some(memory)).expect("a write");
            let commands: Vec<CommandRecord> = take(&rig).into_iter().flatten().collect();
            assert_eq!(commands.len(), 1);
            assert_eq!(commands[0].entry.force_unit_access(), u8::from(force_unit_access));
        }
    }
    rig.assert_clean();
    rig.stop();
}

/// Random operations; whatever the data path and the bus are like.
fn random_operations(
    default_seed: u64,
    width: usize,
    count: u64,
    options: &EngineOptions,
    adjust: impl FnOnce(&mut SimulatorConfig),
) {
    if !is_built(width) {
        return;
    }
    let seed = seed(default_seed);
    let mut rig: Rig = Rig::start(&three_disks(width, MEMORY), Path::new("."), seed, options, adjust);
    let mut workload = Workload::new(&mut rig, seed, 24);
    let tally = workload.run(&mut rig, count);
    println!("{tally:?}");
    rig.compare_all();
    rig.assert_clean();
    rig.stop();
    let kinds = [tally.reads, tally.writes, tally.zeroes, tally.deallocations, tally.flushes];
    assert_eq!(kinds.iter().sum::<u64>(), count);
    assert!(kinds.iter().all(|&kind| kind > 0) && tally.deepest > 12, "{tally:?}");
}

#[test]
fn ten_thousand_random_operations() {
    random_operations(3, 128, 10_000, &options(), |_| ());
}

#[test]
fn random_operations_at_256_bits_with_a_slow_bus() {
    random_operations(4, 256, 1_500, &options(), |config| {
        let card = config.card.take().expect("a card");
        config.card = Some(card.with_stalls(48).with_latency_cycles(120, 30));
        for ssd in &mut config.ssds {
            (ssd.latency_ns, ssd.jitter_ns) = (5_000, 20_000);
            ssd.completion_writes = CompletionWrites::Mixed;
        }
    });
}

#[test]
fn random_operations_at_512_bits_and_late_memory() {
    random_operations(5, 512, 1_500, &options(), |config| config.visibility_delay_ns = Some((500, 3000)));
}

#[test]
fn random_operations_through_small_queues() {
    let small = EngineOptions {
        queues: 2,
        queue_entries: 4,
        path_entries: 4,
        operations: 16,
        submission_mode: SubmissionMode::Direct,
        ..options()
    };
    random_operations(6, 128, 1_000, &small, |config| {
        for ssd in &mut config.ssds {
            (ssd.latency_ns, ssd.jitter_ns) = (1_000, 10_000);
        }
    });
}

/// Completion queues in host memory, which is late for everybody.
#[test]
fn random_operations_with_completions_in_host_memory() {
    let in_host = EngineOptions { completion_mode: CompletionMode::Host, ..options() };
    random_operations(8, 128, 3_000, &in_host, |config| {
        config.visibility_delay_ns = Some((500, 3_000));
        config.ssd_visibility_delay_ns = Some((500, 3_000));
    });
}

/// And so short that they wrap all the time.
#[test]
fn random_operations_with_short_completion_queues_in_host_memory() {
    let small =
        EngineOptions { path_entries: 3, operations: 16, completion_mode: CompletionMode::Host, ..options() };
    random_operations(9, 128, 1_000, &small, |config| {
        for ssd in &mut config.ssds {
            ssd.completion_writes = CompletionWrites::Mixed;
        }
    });
}

/// Completes writes without their effect, from the twentieth on: one alone may be written over.
struct LostWrite {
    writes: u64,
}

impl CommandFilter for LostWrite {
    fn judge(&mut self, command: &CommandRecord, planned: Execution) -> Execution {
        self.writes += u64::from(command.entry.opcode() == opcode::WRITE);
        let lost = command.entry.opcode() == opcode::WRITE && self.writes >= 20;
        Execution { effect: planned.effect && !lost, ..planned }
    }
}

/// The comparison is no formality.
#[test]
fn a_lost_write_is_noticed() {
    let seed = 14;
    let mut rig = in_memory(128, seed);
    rig.handle.set_filter("ssd-2", Some(Box::new(LostWrite { writes: 0 })));
    let run = AssertUnwindSafe(|| {
        Workload::new(&mut rig, seed, 8).run(&mut rig, 400);
        rig.compare_all();
    });
    let panic = std::panic::catch_unwind(run).expect_err("the lost write went unnoticed");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("expected 0x"), "{text}");
}

#[test]
fn what_is_wrong_is_refused_and_starts_nothing() {
    let mut rig = in_memory(128, seed(7));
    let memory = rig.engine.allocate(8192).expect("memory");
    let total = rig.map(0).blocks();
    let read = |lba, blocks| Operation::Read { lba, blocks };
    let commands = rig.handle.counters();
    for operation in [
        read(total, 1),
        read(total - 1, 2),
        read(u64::MAX, 1),
        read(0, 0),
        Operation::Write { lba: total - 7, blocks: 8, force_unit_access: true },
        Operation::WriteZeroes { lba: 1, blocks: total, deallocate: false, force_unit_access: false },
        Operation::Deallocate { lba: 1, blocks: u64::MAX },
    ] {
        let buffer = operation.has_buffer().then(|| memory.clone());
        let error = refused(&mut rig, 0, operation, buffer);
        assert_eq!(error, SubmitError::OutOfRange { disk: VdHandle(0), operation, blocks: total });
    }
    assert_eq!(refused(&mut rig, 3, read(0, 1), Some(memory.clone())), SubmitError::NoSuchDisk(VdHandle(3)));
    for (operation, buffer) in [
        (read(0, 1), None),
        (read(0, 17), Some(memory.clone())),
        (read(0, 1), Some(memory.part(2, 600))),
        (Operation::Flush, Some(memory.clone())),
    ] {
        let error = refused(&mut rig, 0, operation, buffer);
        assert!(matches!(error, SubmitError::BadBuffer { .. }), "{error}");
    }
    assert_eq!((rig.engine.outstanding(), rig.handle.counters()), (0, commands));
    compare(&mut rig, 0, total - 1, 1);
    rig.stop();
}

/// The card's own refusals come back as NVMe statuses: a disk that became shorter, and one that was
/// deactivated. Other disks are unharmed.
#[test]
fn statuses_of_the_card_come_back() {
    let mut rig = in_memory(128, seed(8));
    let memory = rig.engine.allocate(1 << 20).expect("memory");
    let read = Operation::Read { lba: 64, blocks: 2048 };
    let (control, mut tables) = rig.engine.vaapi();
    let entry = control.ri_get_vd_info(&mut tables, VdHandle(0)).expect("an entry");
    let shorter = TableEntry::new(table::VD, 0, &entry.with_size_blocks(100).0);
    tables.write(&[shorter]).expect("written");
    let error = rig.execute(0, read, Some(memory.clone())).expect_err("beyond the end");
    assert_eq!(error.status, status::LBA_OUT_OF_RANGE | status::DNR, "{error}");
    let inside = Operation::Read { lba: 64, blocks: 36 };
    rig.execute(0, inside, Some(memory.clone())).expect("up to the end");

    let (_, mut tables) = rig.engine.vaapi();
    tables.write(&[TableEntry::new(table::VD, 0, &entry.0)]).expect("written");
    let (control, mut tables) = rig.engine.vaapi();
    control.ap_set_status_vd(&mut tables, VdHandle(0), VdStatus::Deactivated).expect("deactivated");
    let error = rig.execute(0, inside, Some(memory.clone())).expect_err("deactivated");
    assert_eq!(error.status, status::NAMESPACE_NOT_READY | status::DNR, "{error}");
    rig.execute(1, inside, Some(memory.clone())).expect("another disk");
    let (control, mut tables) = rig.engine.vaapi();
    control.ap_set_status_vd(&mut tables, VdHandle(0), VdStatus::Enabled).expect("enabled");
    rig.execute(0, read, Some(memory)).expect("enabled again");
    rig.assert_clean();
    rig.stop();
}

/// Fails every command that touches a block.
struct BadBlock {
    lba: u64,
    status: u16,
}

impl CommandFilter for BadBlock {
    fn judge(&mut self, command: &CommandRecord, planned: Execution) -> Execution {
        let first = command.entry.starting_lba();
        let blocks = u64::from(command.entry.block_count_z()) + 1;
        if (first..first + blocks).contains(&self.lba) {
            return Execution { effect: false, status: Some(self.status), ..planned };
        }
        planned
    }
}

/// Of several fragments that fail, the first by position on the disk decides, whatever its SSD and
/// whichever came back first.
#[test]
fn the_first_failure_by_position_is_reported() {
    let seed = seed(9);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let slow_first = |config: &mut SimulatorConfig| config.ssds[0].latency_ns = 30_000;
    let mut rig: Rig = Rig::start(&three_disks(128, MEMORY), Path::new("."), seed, &options(), slow_first);
    write(&mut rig, &mut random, 0, 0, 8192);
    let fail = |rig: &Rig, lba: u64, status| {
        let location = rig.map(0).locate(lba).expect("within the disk");
        let filter = BadBlock { lba: location.lba, status };
        rig.handle.set_filter(&format!("ssd-{}", location.device), Some(Box::new(filter)));
        location.device
    };
    // Unit 4 of 32 blocks lies on SSD 0, which is slow; unit 5 on SSD 1.
    let devices = (fail(&rig, 4 * 32 + 5, 0x281), fail(&rig, 5 * 32, 0x286));
    assert_eq!(devices, (0, 1));
    let memory = rig.engine.allocate(4 << 20).expect("memory");
    for (lba, blocks, expected) in [
        (0, 8192, 0x281),
        (4 * 32 + 6, 500, 0x286),
        (0, 4 * 32 + 5, 0),
        (4 * 32 + 5, 1, 0x281),
        (6 * 32, 3000, 0),
    ] {
        let result = rig.execute(0, Operation::Read { lba, blocks }, Some(memory.clone()));
        assert_eq!(result.map_or_else(|error| error.status & 0x7FF, |()| 0), expected, "{blocks} at {lba}");
    }
    for ssd in ["ssd-0", "ssd-1"] {
        rig.handle.set_filter(ssd, None);
    }
    rig.compare_all();
    rig.assert_clean();
    rig.stop();
}

#[test]
fn a_full_engine_says_so_and_goes_on() {
    let few = EngineOptions { operations: 3, ..options() };
    let mut rig: Rig = Rig::start(&three_disks(128, MEMORY), Path::new("."), seed(10), &few, |_| ());
    let memory = rig.engine.allocate(4096).expect("memory");
    let read = Operation::Read { lba: 0, blocks: 1 };
    (0..3).for_each(|tag| rig.submit(0, read, Some(memory.clone()), tag));
    assert_eq!(refused(&mut rig, 0, read, Some(memory.clone())), SubmitError::Full);
    let mut tags: Vec<u64> = rig.settle().into_iter().map(|completion| completion.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, [0, 1, 2]);
    rig.execute(0, read, Some(memory)).expect("room again");
    rig.stop();
}

/// With the card's clock stopped no byte moves: there is no way around the card.
#[test]
fn nothing_moves_while_the_card_is_frozen() {
    let seed = seed(11);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut rig = in_memory(128, seed);
    write(&mut rig, &mut random, 0, 0, 256);
    let memory = rig.engine.allocate(2 << 17).expect("memory");
    let (written, into) = (memory.part(0, 1 << 17), memory.part(1 << 17, 1 << 17));
    written.fill(0, 1 << 17, 0x5A);
    into.fill(0, 1 << 17, 0xEE);

    rig.handle.freeze();
    let operation = Operation::Write { lba: 0, blocks: 256, force_unit_access: true };
    rig.submit(0, operation, Some(written), 1);
    rig.submit(0, Operation::Read { lba: 512, blocks: 256 }, Some(into.clone()), 2);
    let (mut done, end) = (Vec::new(), rig.engine.now() + rig::LIMIT / 2);
    while rig.engine.now() < end {
        assert_eq!(rig.engine.poll(&mut done).expect("a sound service"), 0);
        rig.engine.wait(end).expect("time passes");
    }
    let mut seen = vec![0; 1 << 17];
    into.read(0, &mut seen);
    assert!(seen.iter().all(|&byte| byte == 0xEE), "a client's buffer was written");
    rig.compare_media();

    rig.handle.thaw();
    assert!(rig.settle().iter().all(|completion| completion.result.is_ok()));
    rig.apply(0, operation, &[0x5A; 1 << 17]);
    into.read(0, &mut seen);
    same(&seen, &rig.shadow[0][1 << 18..3 << 17], 0, 1 << 18);
    rig.compare_all();
    rig.stop();
}

/// `stop` waits for what is under way; the same machine starts again and holds it.
#[test]
fn stop_drains_and_the_machine_starts_again() {
    let seed = seed(12);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let slow = |config: &mut SimulatorConfig| config.ssds.iter_mut().for_each(|ssd| ssd.latency_ns = 100_000);
    let mut rig: Rig = Rig::start(&three_disks(128, MEMORY), Path::new("."), seed, &options(), slow);
    for turn in 0..3u64 {
        for number in 0..200u64 {
            let (disk, lba) = ((number % 3) as usize, number / 3 * 30 + turn);
            let data = random_bytes(&mut random, rig.bytes(disk, lba, 29).len());
            let memory = rig.engine.allocate(data.len()).expect("memory");
            memory.write(0, &data);
            let operation = Operation::Write { lba, blocks: 29, force_unit_access: false };
            rig.submit(disk, operation, Some(memory), number);
            rig.apply(disk, operation, &data);
        }
        assert_eq!(rig.engine.outstanding(), 200);
        let (platform, configuration, shadow) = rig.stop();
        rig = Rig::start_on(platform, configuration, &options());
        rig.shadow = shadow;
        rig.compare_media();
        rig.compare_all();
    }
    rig.assert_clean();
    rig.stop();
}

/// What an engine wrote, another one on the same backing files reads, after a clean stop and without.
#[test]
fn backing_files_outlive_the_engine() {
    let seed = seed(13);
    let folder = tempfile::tempdir().expect("folder");
    let text = three_disks(128, FILES);
    let mut shadow = None;
    for turn in 0..3 {
        let mut rig: Rig = Rig::start(&text, folder.path(), seed + turn, &options(), |_| ());
        if let Some(shadow) = shadow.take() {
            rig.shadow = shadow;
            rig.compare_all();
        }
        let mut workload = Workload::new(&mut rig, seed + turn, 16);
        workload.run(&mut rig, 150);
        if turn % 2 == 0 {
            shadow = Some(rig.stop().2);
        } else {
            // Dropped without a stop: what was flushed stays.
            (0..3).for_each(|disk| rig.execute(disk, Operation::Flush, None).expect("a flush"));
            shadow = Some(rig.shadow.split_off(0));
        }
    }
}
