use super::*;
use crate::bench::{seeded, Bench};
use rand::seq::SliceRandom;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::plan::path_policy;
use volplane_abi::{extent_action, table};

const LIMIT: u64 = 8;

fn start() -> Bench {
    let mut bench = Bench::new("device_cutter", DeviceCutter::new(&Sizes::DEFAULT));
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    bench.set("path_valid", 1 << 9);
    let entry = DeviceEntry {
        transfer_limit: LIMIT.to_bits(),
        path: 9u64.to_bits(),
        valid: 1u64.to_bits(),
        ..Default::default()
    };
    write_device(&mut bench, 3, entry);
    bench
}

fn run(plan_offset: u64, blocks: u64, last: bool) -> Run {
    let extent = ExtentEntry { device: 3u64.to_bits(), valid: 1u64.to_bits(), ..Default::default() };
    Run {
        plan_offset: plan_offset.to_bits(),
        blocks: blocks.to_bits(),
        last: u64::from(last).to_bits(),
        extent: extent.into(),
        ..Default::default()
    }
}

/// Feeds the same plan again and again, all ready; cycles to the first piece, and from it to the
/// last of `pieces`.
fn cycles(bench: &mut Bench, runs: &[Run], pieces: usize) -> (u64, u64) {
    let header = PlanHeader {
        opcode: u64::from(opcode::READ).to_bits(),
        blocks: runs.iter().map(|run| run.blocks.to_u64()).sum::<u64>().to_bits(),
        block_shift: 12u64.to_bits(),
        ..Default::default()
    };
    let (since, mut first, mut at, mut seen) = (bench.cycles, None, 0, 0);
    let (mut in_plan, mut in_run) = (0, 0);
    bench.set_record::<268>("header$data", header);
    bench.set("header$valid", 1);
    bench.set("run$valid", 1);
    bench.set("piece$ready", 1);
    loop {
        bench.set_record::<140>("run$data", runs[at % runs.len()]);
        bench.eval();
        if bench.get("piece$valid") == 1 {
            let piece: Piece = bench.get_record::<362, _>("piece$data");
            let of = &runs[in_plan];
            let left = of.blocks.to_u64() - in_run;
            assert_eq!(piece.closing.to_u64(), 0);
            assert_eq!(piece.path.to_u64(), 9);
            assert_eq!(piece.plan_offset.to_u64(), of.plan_offset.to_u64() + in_run);
            assert_eq!(piece.lba.to_u64(), in_run);
            assert_eq!(piece.blocks.to_u64(), left.min(LIMIT));
            assert_eq!(piece.last.any(), of.last.any() && left <= LIMIT);
            assert_eq!(piece.first.any(), in_plan == 0 && in_run == 0);
            in_run += left.min(LIMIT);
            if left <= LIMIT {
                (in_plan, in_run) = ((in_plan + 1) % runs.len(), 0);
            }
            let began = *first.get_or_insert(bench.cycles);
            seen += 1;
            if seen == pieces {
                // What is in work must not reach the next feed.
                let taken = bench.cycles;
                bench.set("reset", 1);
                bench.cycle();
                bench.set("reset", 0);
                return (began - since, taken - began);
            }
        }
        at += usize::from(bench.get("run$ready") == 1);
        assert!(bench.cycles - since < 4_000, "{seen} of {pieces} pieces");
        bench.cycle();
    }
}

#[test]
fn latency_and_throughput() {
    let mut bench = start();
    // A plan of one piece; one of two runs; one whose run is cut in three and followed by another.
    assert_eq!(cycles(&mut bench, &[run(0, 8, true)], 500), (2, 2 * 499));
    assert_eq!(cycles(&mut bench, &[run(0, 5, false), run(5, 8, true)], 500), (2, 2 * 499));
    let (latency, rest) = cycles(&mut bench, &[run(0, 20, false), run(20, 1, true)], 400);
    assert_eq!((latency, rest), (2, 2 * 399));
}

/// What an extent is good for.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    Device,
    Zeros,
    /// It stops a part of several.
    Fault,
    Nothing,
}

/// What is in the table, and the turns as far as they are known.
struct Devices {
    entries: Vec<DeviceEntry>,
    turns: Vec<Option<usize>>,
    valid: u32,
    /// Paths that are better not used, and those that the plan avoids.
    suspect: u32,
    avoided: u32,
}

impl Devices {
    fn paths(&self, device: usize) -> [u64; 4] {
        let entry = &self.entries[device];
        [entry.path, entry.path1, entry.path2, entry.path3].map(|path| path.to_u64())
    }

    /// The places of a device's usable paths.
    fn usable(&self, device: usize) -> Vec<usize> {
        let (entry, paths) = (&self.entries[device], self.paths(device));
        let of = |valid: u32| -> Vec<usize> {
            (0..=entry.more_paths.to_u64() as usize)
                .filter(|&place| entry.valid.any() && valid >> paths[place] & 1 == 1)
                .collect()
        };
        let left = self.valid & !self.avoided;
        let sound = of(left & !self.suspect);
        if sound.is_empty() {
            of(left)
        } else {
            sound
        }
    }

    /// Whether `path` is the one that the next piece takes; takes its turn.
    fn take(&mut self, device: usize, path: u64) -> bool {
        let (usable, paths) = (self.usable(device), self.paths(device));
        let in_turns = self.entries[device].path_policy.to_u64() == u64::from(path_policy::ROUND_ROBIN);
        let place = match self.turns[device] {
            _ if !in_turns => usable[0],
            Some(turn) => usable.iter().copied().find(|&place| place >= turn).unwrap_or(usable[0]),
            // Turns begin anywhere: this one tells where.
            None => match usable.iter().find(|&&place| paths[place] == path) {
                Some(&place) => place,
                None => return false,
            },
        };
        // A device that prefers takes its turns, too: nobody sees them.
        self.turns[device] = Some(place + 1); // After it, that is.
        paths[place] == path
    }

    /// A piece that is refused takes a turn, too, and one of zeros.
    fn lose(&mut self, device: usize) {
        let (usable, paths) = (self.usable(device), self.paths(device));
        let in_turns = self.entries[device].path_policy.to_u64() == u64::from(path_policy::ROUND_ROBIN);
        match self.turns[device] {
            _ if usable.is_empty() => self.turns[device] = Some(0),
            None if in_turns => {}
            turn => {
                let next = usable.iter().copied().find(|&place| place >= turn.unwrap_or(0));
                let path = paths[next.filter(|_| in_turns).unwrap_or(usable[0])];
                assert!(self.take(device, path));
            }
        }
    }
}

fn write_device(bench: &mut Bench, index: usize, entry: DeviceEntry) {
    let bits: Bits<128> = entry.into();
    let request = TableRequest {
        write: 1u64.to_bits(),
        table: u64::from(table::DEVICE).to_bits(),
        index: (index as u64).to_bits(),
        data: bit_cast::<256, 128>(bits),
    };
    bench.set_record("table_request", request);
    bench.set("table_valid", 1);
    bench.cycle();
    bench.set("table_valid", 0);
    let acknowledged = (0..8).any(|_| {
        bench.cycle();
        bench.get("table_ack") == 1
    });
    assert!(acknowledged);
}

fn random_device(random: &mut ChaCha8Rng) -> DeviceEntry {
    // Paths of a device differ.
    let mut paths: Vec<u64> = (0..32).collect();
    paths.shuffle(random);
    let limit = if random.random_bool(0.1) { 0 } else { random.random_range(1..40u64) };
    DeviceEntry {
        namespace_id: u64::from(random.random::<u32>()).to_bits(),
        transfer_limit: limit.to_bits(),
        valid: u64::from(random.random_bool(0.9)).to_bits(),
        more_paths: random.random_range(0..4u64).to_bits(),
        path_policy: random.random_range(0..2u64).to_bits(),
        path: paths[0].to_bits(),
        path1: paths[1].to_bits(),
        path2: paths[2].to_bits(),
        path3: paths[3].to_bits(),
        ..Default::default()
    }
}

/// A random Read or Flush: its header, and its runs with their devices.
fn random_plan(random: &mut ChaCha8Rng) -> (PlanHeader, Vec<(usize, Run)>) {
    let header = |code: u8| PlanHeader { opcode: u64::from(code).to_bits(), ..Default::default() };
    match random.random_range(0..10u32) {
        0 => {
            let devices = random.random::<u32>() & random.random::<u32>() & 0xFFFF;
            (PlanHeader { flush_devices: u64::from(devices).to_bits(), ..header(opcode::FLUSH) }, vec![])
        }
        1 => {
            let code = [opcode::FLUSH, opcode::READ][random.random_range(0..2usize)];
            let devices = u64::from(random.random::<u32>()).to_bits();
            let refusal = u64::from(status::INVALID_FIELD).to_bits();
            (PlanHeader { refusal, flush_devices: devices, ..header(code) }, vec![])
        }
        _ => {
            let count = random.random_range(1..=3);
            let mut at = 0;
            let runs = (0..count).map(|number| {
                let (device, blocks) = (random.random_range(0..16), random.random_range(1..100u64));
                let valid = u64::from(random.random_bool(0.98)).to_bits();
                // One in ten gives zeros to a Read, and is no good for a Compare.
                let zeros = random.random_bool(0.1);
                let action = if zeros { extent_action::ZERO } else { extent_action::GO };
                let extent = ExtentEntry {
                    device: (device as u64).to_bits(),
                    read_action: u64::from(action).to_bits(),
                    valid,
                    ..Default::default()
                };
                let run = Run { extent: extent.into(), ..run(at, blocks, number + 1 == count) };
                at += blocks;
                (device, run)
            });
            let runs = runs.collect();
            let code = if random.random_bool(0.1) { opcode::COMPARE } else { opcode::READ };
            (PlanHeader { blocks: at.to_bits(), ..header(code) }, runs)
        }
    }
}

/// The pieces of a plan, with stalls on every port.
fn pieces_of(bench: &mut Bench, random: &mut ChaCha8Rng, header: PlanHeader, runs: &[Run]) -> Vec<Piece> {
    let (mut header, mut at, mut pieces) = (Some(header), 0, vec![]);
    let stall = [0.0, 0.3, 0.8][random.random_range(0..3usize)];
    for _ in 0..20_000 {
        let offers = [header.is_some(), at < runs.len()].map(|some| some && !random.random_bool(stall));
        bench.set("header$valid", offers[0].into());
        bench.set_record::<268>("header$data", header.unwrap_or_default());
        bench.set("run$valid", offers[1].into());
        bench.set_record::<140>("run$data", runs.get(at).copied().unwrap_or_default());
        bench.set("piece$ready", (!random.random_bool(stall)).into());
        bench.eval();
        if offers[0] && bench.get("header$ready") == 1 {
            header = None;
        }
        at += usize::from(offers[1] && bench.get("run$ready") == 1);
        if bench.get("piece$valid") == 1 && bench.get("piece$ready") == 1 {
            pieces.push(bench.get_record::<362, Piece>("piece$data"));
        }
        bench.cycle();
        let last = pieces.last().is_some_and(|piece| piece.last.any());
        if last && header.is_none() && at == runs.len() && bench.get("idle") == 1 {
            return pieces;
        }
    }
    panic!("the plan did not end");
}

/// Compares the pieces of a plan; how many took turns on several paths, and the closing status.
fn check(devices: &mut Devices, header: &PlanHeader, runs: &[(usize, Run)], pieces: &[Piece]) -> (u64, u64) {
    let flushes = header.opcode.to_u64() == u64::from(opcode::FLUSH);
    let set = header.flush_devices.to_u64();
    let compares = header.opcode.to_u64() == u64::from(opcode::COMPARE);
    // Device, block of the plan, blocks, and what the extent is good for.
    let work: Vec<(usize, u64, u64, Extent)> = if flushes {
        let devices = (0..16).filter(|device| set >> device & 1 == 1);
        devices.map(|device| (device, 0, 0, Extent::Device)).collect()
    } else {
        let one = |(device, run): &(usize, Run)| {
            let extent: ExtentEntry = run.extent.into();
            let use_for = match extent.read_action.to_u64() as u8 {
                _ if !extent.valid.any() => Extent::Nothing,
                extent_action::GO => Extent::Device,
                _ if compares => Extent::Fault,
                _ => Extent::Zeros,
            };
            (*device, run.plan_offset.to_u64(), run.blocks.to_u64(), use_for)
        };
        runs.iter().map(one).collect()
    };
    let mut left = pieces.iter();
    let mut several = 0;
    let refusal = header.refusal.to_u64();
    let mut closing = (refusal != 0 || work.is_empty()).then_some(refusal);
    for (device, offset, blocks, extent) in work.into_iter().take_while(|_| refusal == 0) {
        let entry = devices.entries[device];
        let limit = entry.transfer_limit.to_u64();
        if extent == Extent::Zeros {
            let piece = left.next().expect("a piece of zeros");
            let found = (piece.blocks.to_u64(), piece.plan_offset.to_u64(), piece.closing.to_u64());
            assert_eq!((found, piece.zeros.any()), ((blocks, offset, 0), true));
            devices.lose(device);
            continue;
        }
        let no_use = !entry.valid.any() || (!flushes && (extent == Extent::Nothing || limit == 0));
        if no_use && extent != Extent::Fault {
            closing = Some(u64::from(status::INTERNAL_ERROR));
        } else if extent == Extent::Fault {
            closing = Some(u64::from(FAULT));
        } else if devices.usable(device).is_empty() {
            closing = Some(u64::from(plan_status::HOST_PATH_ERROR));
        }
        if closing.is_some() {
            devices.lose(device);
            break;
        }
        let mut done = 0;
        while done < blocks || (flushes && done == 0) {
            let piece = left.next().expect("a piece");
            let of_run = if flushes { 0 } else { limit.min(blocks - done) };
            let found = (piece.blocks.to_u64(), piece.plan_offset.to_u64(), piece.closing.to_u64());
            let at = if flushes { found.1 } else { offset + done };
            assert_eq!((found, piece.zeros.any()), ((of_run, at, 0), false));
            assert_eq!(piece.namespace_id, entry.namespace_id);
            let path = piece.path.to_u64();
            assert!(devices.take(device, path), "device {device}, path {path}: {entry:?}");
            several += u64::from(devices.usable(device).len() > 1 && entry.path_policy.any());
            done += of_run.max(1);
        }
    }
    if let Some(status) = closing {
        let piece = left.next().expect("a closing piece");
        assert_eq!((piece.closing.to_u64(), piece.status.to_u64()), (1, status));
    }
    assert_eq!(left.count(), 0);
    (several, closing.unwrap_or(0))
}

#[test]
fn every_piece_takes_a_path_as_its_device_says() {
    let mut bench = Bench::new("device_cutter", DeviceCutter::new(&Sizes::DEFAULT));
    let mut random = seeded();
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    let entries: Vec<DeviceEntry> = (0..16).map(|_| random_device(&mut random)).collect();
    for (index, entry) in entries.iter().enumerate() {
        write_device(&mut bench, index, *entry);
    }
    let mut devices = Devices { entries, turns: vec![None; 16], valid: 0, suspect: 0, avoided: 0 };
    let (mut several, mut stranded, mut again) = (0, 0, 0);
    for number in 0..2_500 {
        if number % 20 == 0 {
            devices.valid = match random.random_range(0..3) {
                0 => random.random::<u32>() & random.random::<u32>(),
                1 => random.random(),
                _ => random.random::<u32>() | random.random::<u32>(),
            };
            devices.suspect = random.random::<u32>() & random.random::<u32>() & random.random::<u32>();
            bench.set("path_valid", devices.valid.into());
            bench.set("suspect", devices.suspect.into());
            // As long as a command takes to come here.
            (0..24).for_each(|_| bench.cycle());
        }
        if random.random_bool(0.1) {
            let index = random.random_range(0..16usize);
            devices.entries[index] = random_device(&mut random);
            write_device(&mut bench, index, devices.entries[index]);
        }
        let (header, runs) = random_plan(&mut random);
        // One that is tried again leaves paths out; what another would leave out concerns nobody.
        let retried = random.random_bool(0.3);
        let terms = PartTerms { retried: u64::from(retried).to_bits(), ..Default::default() };
        let avoided = random.random::<u32>() & random.random::<u32>() & random.random::<u32>();
        let header = PlanHeader { terms: terms.into(), ..header };
        bench.set("avoided", avoided.into());
        devices.avoided = if retried { avoided } else { 0 };
        let plain: Vec<Run> = runs.iter().map(|(_, run)| *run).collect();
        let pieces = pieces_of(&mut bench, &mut random, header, &plain);
        again += u64::from(retried && pieces.iter().all(|piece| !piece.closing.any()));
        assert!(pieces.iter().all(|piece| piece.terms == header.terms));
        let (turns, closing) = check(&mut devices, &header, &runs, &pieces);
        several += turns;
        stranded += u64::from(closing == u64::from(plan_status::HOST_PATH_ERROR));
    }
    assert!(several > 1_000 && stranded > 50 && again > 100, "{several} {stranded} {again}");
}
