//! Data that move while clients use them: divert, wait for the epoch, copy, switch, remove the range, give back.

use std::ops::Range;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use volplane::map::DiskMap;
use volplane::software::Components;
use volplane::vaapi::StorageExtent;
use volplane::{BlockService, SharedPlans, VdHandle};
use volplane_sim::{Fault, FaultKind};

use super::rig::{options, same, seed, Executor, Rig, LIMIT};
use super::workload::Workload;
use super::Tested;

/// Moves of each kind.
const MOVES: u32 = 12;
/// Blocks of an extent.
const EXTENT: u64 = 128;
/// Where a disk that moves as a whole may lie: device and first block. The other disk's extents begin behind.
const PLACES: [(u16, u64); 3] = [(0, 0), (1, 0), (2, 4096)];
/// First block of the extents, and how many places each device has for them.
const EXTENTS: (u64, u64) = (1 << 14, 24);

/// Two disks of 2 MiB: one moves as a whole, one extent by extent.
const DISKS: &str = r#"
device = [
  { name = "ssd0", memory = true, size = "32MiB", block_size = 512 },
  { name = "ssd1", memory = true, size = "32MiB", block_size = 512, mdts = 3 },
  { name = "ssd2", memory = true, size = "32MiB", block_size = 512 },
]
[[disk]]
name = "whole"
block_size = 512
allocation_size = "1MiB"
segment = [{ size = "2MiB", columns = [{ device = "ssd0", offset = 0 }] }]
[[disk]]
name = "extents"
block_size = 512
allocation_size = "1MiB"
segment = [{ size = "1MiB", columns = [{ device = "ssd0", offset = "8MiB" }], extent_size = "64KiB" }]
"#;

type MovesRig = Rig<Tested>;

fn copy(rig: &MovesRig, blocks: u64, from: (u16, u64), to: (u16, u64)) {
    let mut data = vec![0; (blocks * 512) as usize];
    let ssd = |device: u16| format!("ssd-{device}");
    rig.handle.read_media(&ssd(from.0), from.1 * 512, &mut data).expect("media");
    rig.handle.write_media(&ssd(to.0), to.1 * 512, &data).expect("media");
}

/// Gives back what was diverted.
fn give_back(rig: &mut MovesRig, disk: VdHandle) -> u32 {
    let mut given = 0;
    while let Some(record) = rig.engine.io_get_plan_vd(disk).expect("the engine works") {
        rig.engine.io_resubmit_plan(record.handle(), Components::ALL).expect("it is owned");
        given += 1;
    }
    given
}

/// Blocks that are on the way from one place to another.
struct Move {
    disk: VdHandle,
    blocks: Range<u64>,
    from: (u16, u64),
    to: (u16, u64),
    /// Looks for completions until the data are copied; new commands come meanwhile.
    looks: u32,
}

impl Move {
    fn begin(self, rig: &mut MovesRig) -> Self {
        let divert = rig.engine.io_add_divert_range(self.disk, self.blocks.clone(), LIMIT);
        divert.unwrap_or_else(|error| panic!("{error}"));
        self
    }

    /// Copies the data and makes the card use them; the plans that were given back then.
    fn end(self, rig: &mut MovesRig) -> u32 {
        let Self { disk, blocks, from, to, .. } = self;
        let count = blocks.end - blocks.start;
        copy(rig, count, from, to);
        if disk.0 == 0 {
            let map = whole_map(rig.map(0), to);
            rig.configuration.disks[0].map = map.clone();
            let (control, mut tables) = rig.engine.vaapi();
            control.ap_set_map_vd(&mut tables, disk, &map).expect("a map");
        } else {
            let (number, place) = ((blocks.start / EXTENT) as u32, StorageExtent::new(to.0, to.1));
            let (control, mut tables) = rig.engine.vaapi();
            control.ap_set_vd_storage_extent(&mut tables, disk, 0, number, place).expect("an extent");
        }
        let (control, mut tables) = rig.engine.vaapi();
        control.iop_remove_divert_range(&mut tables, disk, blocks).expect("it is there");
        // What is left in the old place is not to be read any more.
        let left = vec![0xDB; (count * 512) as usize];
        rig.handle.write_media(&format!("ssd-{}", from.0), from.1 * 512, &left).expect("media");
        give_back(rig, disk)
    }
}

fn whole_map(map: &DiskMap, (device, start): (u16, u64)) -> DiskMap {
    let mut map = map.clone();
    (map.segments[0].columns[0].device, map.segments[0].columns[0].start) = (device, start);
    map
}

#[test]
fn data_move_under_load_and_no_client_notices() {
    let seed = seed(61);
    let mut rig: MovesRig = Rig::start(DISKS, Path::new("."), seed, &options(), |_| ());
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0xA5A5);
    let disks = [VdHandle(0), VdHandle(1)];
    for disk in disks {
        rig.engine.keep_exceptions(disk).expect("a disk");
    }
    let delay = FaultKind::Delay { shortest_ns: 10_000, longest_ns: 100_000 };
    for ssd in ["ssd-0", "ssd-1", "ssd-2"] {
        rig.handle.start_fault(ssd, Fault::new(delay.clone()));
    }
    let (mut whole, mut extents): (_, Vec<(u16, u64)>) =
        (PLACES[0], (0..16).map(|extent| (0, EXTENTS.0 + extent * EXTENT)).collect());
    let (mut moves, mut given_back) = ([0; 2], 0);
    let mut moving: Option<Move> = None;
    Workload::new(&mut rig, seed, 48).run_with(&mut rig, 4_000, |rig| {
        if let Some(mut now) = moving.take() {
            if now.looks > 0 {
                now.looks -= 1;
                moving = Some(now);
                return;
            }
            given_back += now.end(rig);
        }
        // What was admitted before the range went, and handed up after.
        given_back += disks.map(|disk| give_back(rig, disk)).iter().sum::<u32>();
        let looks = random.random_range(0..6);
        match random.random_range(0..24) {
            0 if moves[0] < MOVES => {
                let others: Vec<(u16, u64)> = PLACES.into_iter().filter(|&place| place != whole).collect();
                let (from, to) = (whole, others[random.random_range(0..others.len())]);
                moving = Some(Move { disk: disks[0], blocks: 0..4096, from, to, looks }.begin(rig));
                whole = to;
                moves[0] += 1;
            }
            1 | 2 if moves[1] < 3 * MOVES => {
                let number = random.random_range(0..extents.len());
                let places = (0..3)
                    .flat_map(|device| (0..EXTENTS.1).map(move |place| (device, EXTENTS.0 + place * EXTENT)));
                let free: Vec<(u16, u64)> = places.filter(|place| !extents.contains(place)).collect();
                let to = free[random.random_range(0..free.len())];
                let from = std::mem::replace(&mut extents[number], to);
                let first = number as u64 * EXTENT;
                let blocks = first..first + EXTENT;
                moving = Some(Move { disk: disks[1], blocks, from, to, looks }.begin(rig));
                moves[1] += 1;
            }
            _ => {}
        }
    });
    println!("{moves:?} moves, {given_back} given back, extents at {extents:?}");
    assert!(moves == [MOVES, 3 * MOVES] && given_back > 60, "{moves:?} moves, {given_back} given back");
    assert!(!Tested::CARD || rig.handle.admission_pause_max() <= 128);
    rig.compare_copy(0, &rig.configuration.disks[0].map);
    for (number, &(device, start)) in extents.iter().enumerate() {
        let mut media = vec![0; (EXTENT * 512) as usize];
        rig.handle.read_media(&format!("ssd-{device}"), start * 512, &mut media).expect("media");
        let first = number * media.len();
        same(&media, &rig.shadow[1][first..first + media.len()], 1, first);
    }
    assert_eq!(rig.engine.take_events(), []);
    rig.assert_clean();
    rig.stop();
}

/// Plans of an application that forgets them hold no epoch, and are ended when it goes.
#[test]
fn a_move_does_not_wait_for_plans_that_were_handed_up() {
    let mut rig: MovesRig = Rig::start(DISKS, Path::new("."), seed(62), &options(), |_| ());
    let disk = VdHandle(1);
    rig.engine.keep_exceptions(disk).expect("a disk");
    rig.engine.io_add_divert_range(disk, 0..8, LIMIT).expect("a range");
    let memory = rig.engine.allocate(4096).expect("memory");
    let read = volplane::Operation::Read { lba: 4, blocks: 8 };
    rig.submit(1, read, Some(memory), 9);
    let deadline = rig.engine.now() + LIMIT;
    rig.engine.wait(deadline).expect("the engine works");
    let record = rig.engine.io_get_plan_vd(disk).expect("the engine works").expect("it was handed up");
    rig.engine.io_add_divert_range(disk, 100..108, LIMIT).expect("nothing is the card's");
    rig.engine.io_complete_plan(record.handle(), 0).expect("it is owned");
    assert_eq!(rig.settle().len(), 1);
    rig.assert_clean();
    rig.stop();
}
