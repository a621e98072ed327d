use std::collections::BTreeMap;

use volplane_abi::tables::table;
use volplane_abi::{
    completion_mode, extent_action, vd_status, AllocationEntry, ExtentEntry, PathCompletions, PathEntry,
    PathState, QuotaEntry, VdEntry,
};
use volplane_driver::{CardError, Iova};
use zerocopy::FromBytes;

use super::*;
use crate::map::{Column, DiskMap, Segment};

/// Tables without a card. After `writes_left` writes, each is refused.
#[derive(Default)]
struct FakeTables {
    entries: BTreeMap<(u16, u32), [u8; RECORD_BYTES]>,
    writes_left: Option<usize>,
    log: Vec<u16>,
    /// The epoch of now, and the oldest that is not closed.
    epochs: (u32, u32),
}

impl Tables for FakeTables {
    fn write(&mut self, entries: &[TableEntry]) -> Result<(), CardError> {
        for entry in entries {
            if let Some(left) = &mut self.writes_left {
                if *left == 0 {
                    return Err(CardError::Table {
                        card: "fake".into(),
                        operation: "write",
                        table: "",
                        index: entry.index,
                        status: 2,
                    });
                }
                *left -= 1;
            }
            self.log.push(entry.table);
            self.entries.insert((entry.table, entry.index), entry.record);
        }
        Ok(())
    }

    fn read(&mut self, table: u16, index: u32) -> Result<[u8; RECORD_BYTES], CardError> {
        Ok(self.entries.get(&(table, index)).copied().unwrap_or_default())
    }

    fn commit(&mut self, disks: &[TableEntry]) -> Result<Epoch, CardError> {
        let (entries, log) = (self.entries.clone(), self.log.clone());
        self.write(disks).inspect_err(|_| (self.entries, self.log) = (entries, log))?;
        self.epochs.0 += 1;
        Ok(Epoch(self.epochs.0 - 1))
    }

    fn is_closed(&mut self, epoch: Epoch) -> Result<bool, CardError> {
        Ok(epoch.0 < self.epochs.1)
    }
}

impl FakeTables {
    /// Whatever was admitted is over.
    fn close(&mut self) {
        self.epochs.1 = self.epochs.0;
    }

    fn record<T: FromBytes>(&self, table: u16, index: u32) -> T {
        let record = self.entries.get(&(table, index)).copied().unwrap_or_default();
        T::read_from_prefix(&record).expect("fits").0
    }

    /// Where each block of a disk lies, by the ABI's formula alone; invalid entries are a fault.
    fn places(&self, disk: VdHandle) -> Vec<(u16, u64)> {
        let vd: VdEntry = self.record(table::VD, disk.0.into());
        let place = |lba: u64| {
            let index = vd.map_root() + (lba >> vd.allocation_shift()) as u32;
            let allocation: AllocationEntry = self.record(table::ALLOCATION, index);
            assert_eq!(allocation.valid(), 1, "allocation of block {lba}");
            let block = lba % (1 << vd.allocation_shift());
            let unit = block >> allocation.stripe_shift();
            let columns = u64::from(allocation.columns());
            let row =
                ((unit / columns) << allocation.stripe_shift()) + block % (1 << allocation.stripe_shift());
            let extent = (row >> allocation.extent_shift()) * columns + unit % columns;
            let extent: ExtentEntry = self.record(table::EXTENT, allocation.first_extent() + extent as u32);
            assert_eq!(extent.valid(), 1, "extent of block {lba}");
            (extent.device(), extent.start() + row % (1 << allocation.extent_shift()))
        };
        (0..vd.size_blocks()).map(place).collect()
    }
}

pub(super) const ROOM: TableSizes = TableSizes {
    disks: 4,
    devices: 8,
    allocations: 12,
    extents: 24,
    columns: 16,
    plans: 4,
    diverts: 6,
    slots: 64,
};

fn path() -> PathEntry {
    PathEntry::default().with_sq_size_z(63).with_cq_size_z(31).with_limit(31)
}

/// Two devices of 1,024 blocks of 512 bytes.
fn control_path(tables: &mut dyn Tables) -> ControlPath {
    control_path_of(ROOM, tables)
}

pub(super) fn control_path_of(room: TableSizes, tables: &mut dyn Tables) -> ControlPath {
    let mut control = ControlPath::new(room, 4);
    for device in 0..2u16 {
        let info = DeviceInfo {
            namespace: 1,
            block_shift: 9,
            blocks: 1024,
            transfer_blocks: 256,
            write_zeroes_blocks: 65536,
            paths: DevicePaths::one(device as u8),
        };
        control.ap_set_device_path(tables, device as u8, path()).expect("path");
        control.ap_set_device_info(tables, device, info).expect("device");
    }
    control
}

pub(super) fn segment(blocks: u64, columns: &[(u16, u64)]) -> Segment {
    let columns = columns.iter().map(|&(device, start)| Column { device, start }).collect();
    Segment { blocks, columns, stripe_shift: 2, extent_shift: 3 }
}

pub(super) fn map(segments: Vec<Segment>) -> DiskMap {
    DiskMap { block_shift: 9, allocation_shift: 5, segments }
}

fn located(map: &DiskMap) -> Vec<(u16, u64)> {
    let place = |lba| map.locate(lba).map(|location| (location.device, location.lba)).expect("within");
    (0..map.blocks()).map(place).collect()
}

const DISK: VdHandle = VdHandle(2);

#[test]
fn a_map_goes_live_with_its_last_write() {
    let mut tables = FakeTables::default();
    let mut control = control_path(&mut tables);
    assert_eq!(tables.log, [table::PATH, table::DEVICE, table::PATH, table::DEVICE]);
    tables.log.clear();
    let map = map(vec![segment(64, &[(0, 100), (1, 200)]), segment(20, &[(1, 0)])]);
    control.ap_set_map_vd(&mut tables, DISK, &map).expect("map");
    assert_eq!(tables.places(DISK), located(&map));
    assert_eq!(tables.log.iter().position(|&table| table == table::VD), Some(tables.log.len() - 1));
    let vd = control.ri_get_vd_info(&mut tables, DISK).expect("disk");
    assert_eq!((vd.size_blocks(), vd.status(), vd.flush_devices()), (84, vd_status::ENABLED, 0b11));
    assert_eq!(control.ri_get_vd_list(), [DISK]);
    let back = control.ri_get_map_vd(&mut tables, DISK).expect("map");
    let extents: Vec<usize> = back.iter().map(|(_, extents)| extents.len()).collect();
    assert_eq!(extents, [4, 4, 3]);
    assert_eq!(back[2].0.first_extent(), 8);
    let device = control.ri_get_device_info(&mut tables, 1).expect("device");
    assert_eq!((device.path(), device.transfer_limit(), device.valid()), (1, 256, 1));
}

#[test]
fn a_refused_write_leaves_the_old_map_or_the_new_one() {
    let old = map(vec![segment(64, &[(0, 0), (1, 0)])]);
    let new = map(vec![segment(32, &[(1, 500)]), segment(10, &[(0, 700)])]);
    let replacement = segment(32, &[(1, 600)]);
    let extension = segment(7, &[(1, 900)]);
    // What a call does, and what the disk is after it.
    type Call<'a> =
        (&'a str, &'a dyn Fn(&mut ControlPath, &mut FakeTables) -> Result<Epoch, VaapiError>, DiskMap);
    let calls: [Call<'_>; 3] = [
        ("map", &|control, tables| control.ap_set_map_vd(tables, DISK, &new), new.clone()),
        (
            "replacement",
            &|control, tables| control.ap_set_vd_storage_segment(tables, DISK, 1, &replacement),
            map(vec![segment(32, &[(0, 0), (1, 0)]), replacement.clone()]),
        ),
        (
            "extension",
            &|control, tables| control.ap_set_vd_storage_segment(tables, DISK, 2, &extension),
            map(vec![old.segments[0].clone(), extension.clone()]),
        ),
    ];
    for (name, call, after) in calls {
        let mut refused = 0;
        loop {
            let mut tables = FakeTables::default();
            let mut control = control_path(&mut tables);
            control.ap_set_map_vd(&mut tables, DISK, &old).expect("old map");
            tables.writes_left = Some(refused);
            let result = call(&mut control, &mut tables);
            tables.writes_left = None;
            if result.is_ok() {
                assert_eq!(tables.places(DISK), located(&after), "{name}");
                break;
            }
            assert_eq!(tables.places(DISK), located(&old), "{name}, write {refused} refused");
            call(&mut control, &mut tables).unwrap_or_else(|error| panic!("{name} again: {error}"));
            assert_eq!(tables.places(DISK), located(&after), "{name} again");
            refused += 1;
        }
        assert!(refused > 1, "{name} has several writes");
    }
}

#[test]
fn replaced_entries_are_not_reused_before_they_are_released() {
    let mut tables = FakeTables::default();
    let mut control = control_path(&mut tables);
    // 12 extents each: two maps fill the table.
    let map = map(vec![segment(96, &[(0, 0)])]);
    control.ap_set_map_vd(&mut tables, DISK, &map).expect("first");
    control.ap_set_map_vd(&mut tables, DISK, &map).expect("second");
    let full = control.ap_set_map_vd(&mut tables, DISK, &map).expect_err("full").to_string();
    assert_eq!(full, "AP_SetMapVD: no 12 free entries in a row in the extent table");
    tables.close();
    control.ap_set_map_vd(&mut tables, DISK, &map).expect("third");
    assert_eq!(tables.places(DISK), located(&map));
}

#[test]
fn an_epoch_that_is_open_keeps_what_was_replaced_in_it() {
    let mut tables = FakeTables::default();
    let mut control = control_path(&mut tables);
    // 6 extents each: four maps fill the table.
    let map = map(vec![segment(48, &[(0, 0)])]);
    let mut set = |tables: &mut FakeTables| control.ap_set_map_vd(tables, DISK, &map);
    let first = set(&mut tables).expect("first");
    let second = set(&mut tables).expect("second");
    let third = set(&mut tables).expect("third");
    assert_eq!([second.0 - first.0, third.0 - second.0], [1, 1]);
    set(&mut tables).expect("fourth");
    set(&mut tables).expect_err("full");
    // What the second has replaced is free; what the third has is not.
    tables.epochs.1 = third.0;
    set(&mut tables).expect("in place of the first");
    set(&mut tables).expect_err("full");
    tables.epochs.1 = third.0 + 1;
    set(&mut tables).expect("in place of the second");
    assert_eq!(tables.places(DISK), located(&map));
}

#[test]
fn several_maps_go_live_together() {
    let (other, new) = (VdHandle(0), VdHandle(3));
    let old = map(vec![segment(32, &[(0, 0)])]);
    let [a, b, c] = [100, 200, 300].map(|start| map(vec![segment(40, &[(1, start)])]));
    let maps = [(DISK, &a), (new, &b), (other, &c)];
    for refused in 0.. {
        let mut tables = FakeTables::default();
        let mut control = control_path(&mut tables);
        for disk in [DISK, other] {
            control.ap_set_map_vd(&mut tables, disk, &old).expect("old map");
        }
        tables.close();
        tables.writes_left = Some(refused);
        let result = control.ap_set_maps_vd(&mut tables, &maps);
        tables.writes_left = None;
        if result.is_ok() {
            for (disk, map) in maps {
                assert_eq!(tables.places(disk), located(map));
            }
            assert!(refused > 20 && tables.log.ends_with(&[table::VD; 3]));
            break;
        }
        for disk in [DISK, other] {
            assert_eq!(tables.places(disk), located(&old), "after {refused} writes");
        }
        assert_eq!(tables.record::<VdEntry>(table::VD, 3).status(), vd_status::ABSENT);
        assert_eq!(control.ri_get_vd_list(), [other, DISK]);
        // The entries that were written beside are free, but for those that the card may have made live.
        if refused < 20 {
            control.ap_set_maps_vd(&mut tables, &maps).expect("again");
        }
    }
    let mut tables = FakeTables::default();
    let mut control = control_path(&mut tables);
    tables.log.clear();
    let twice = control.ap_set_maps_vd(&mut tables, &[(DISK, &a), (DISK, &b)]).expect_err("twice");
    assert_eq!(twice.to_string(), "AP_SetMapVD: virtual disk 2 twice");
    let many = control.ap_set_maps_vd(&mut tables, &[(DISK, &a); 65]).expect_err("many");
    assert_eq!(many.to_string(), "AP_SetMapVD: 65 maps at once, where 64 are");
    // 5 extents each, of 24; the fifth has no room, and those before it leave none taken.
    let all = [(VdHandle(0), &a), (VdHandle(1), &b), (DISK, &c), (new, &a)];
    control.ap_set_maps_vd(&mut tables, &all).expect("room");
    tables.log.clear();
    control.ap_set_maps_vd(&mut tables, &all[..2]).expect_err("no room");
    assert!(tables.log.is_empty(), "{:?}", tables.log);
    tables.close();
    control.ap_set_map_vd(&mut tables, new, &map(vec![segment(32, &[(0, 0)])])).expect("the 4 that are left");
}

#[test]
fn an_extension_moves_when_the_next_entry_is_taken() {
    let mut tables = FakeTables::default();
    let mut control = control_path(&mut tables);
    let one = map(vec![segment(32, &[(0, 0)])]);
    control.ap_set_map_vd(&mut tables, DISK, &one).expect("disk");
    control.ap_set_map_vd(&mut tables, VdHandle(1), &map(vec![segment(32, &[(1, 0)])])).expect("other");
    let before: VdEntry = tables.record(table::VD, 2);
    control.ap_set_vd_storage_segment(&mut tables, DISK, 1, &segment(32, &[(0, 64)])).expect("extended");
    let after: VdEntry = tables.record(table::VD, 2);
    assert_ne!(before.map_root(), after.map_root());
    control.ap_set_vd_storage_segment(&mut tables, DISK, 2, &segment(5, &[(1, 64)])).expect("in place");
    let end: VdEntry = tables.record(table::VD, 2);
    assert_eq!(after.map_root(), end.map_root());
    assert_eq!(end.flush_devices(), 0b11);
    let whole = map(vec![segment(32, &[(0, 0)]), segment(32, &[(0, 64)]), segment(5, &[(1, 64)])]);
    assert_eq!(tables.places(DISK), located(&whole));
    let beyond = control.ap_set_vd_storage_segment(&mut tables, DISK, 3, &segment(32, &[(0, 128)]));
    assert_eq!(
        beyond.expect_err("short end").to_string(),
        "AP_SetVDStorageSegment: virtual disk 2: allocation 3, where 3 are and none may follow"
    );
}

#[test]
fn an_extent_moves_by_itself() {
    let mut tables = FakeTables::default();
    let mut control = control_path(&mut tables);
    let map = map(vec![segment(32, &[(0, 0)])]);
    control.ap_set_map_vd(&mut tables, DISK, &map).expect("disk");
    let place = StorageExtent::new(1, 1016);
    control.ap_set_vd_storage_extent(&mut tables, DISK, 0, 2, place).expect("moved");
    let mut expected = located(&map);
    for (block, moved) in expected[16..24].iter_mut().enumerate() {
        *moved = (1, 1016 + block as u64);
    }
    assert_eq!(tables.places(DISK), expected);
    let vd: VdEntry = tables.record(table::VD, 2);
    assert_eq!(vd.flush_devices(), 0b11, "the new device is flushed too");
    let back = control.ri_get_vd_storage_extent(&mut tables, DISK, 0, 2).expect("read");
    assert_eq!((back.device(), back.start()), (1, 1016));
    for (allocation, extent, place) in
        [(1, 0, place), (0, 4, place), (0, 0, StorageExtent::new(1, 1017)), (0, 0, StorageExtent::new(5, 0))]
    {
        let wrong = control.ap_set_vd_storage_extent(&mut tables, DISK, allocation, extent, place);
        assert!(wrong.is_err(), "{allocation} {extent} {place:?}");
    }
    assert_eq!(tables.places(DISK), expected, "refused calls change nothing");
}

#[test]
fn an_extent_may_have_no_device_yet() {
    let mut tables = FakeTables::default();
    let mut control = control_path(&mut tables);
    let map = map(vec![segment(32, &[(0, 0)])]);
    control.ap_set_map_vd(&mut tables, DISK, &map).expect("disk");
    control.ap_set_vd_storage_extent(&mut tables, DISK, 0, 1, StorageExtent::thin()).expect("thin");
    let back = control.ri_get_vd_storage_extent(&mut tables, DISK, 0, 1).expect("read");
    let actions = |entry: ExtentEntry| (entry.read_action(), entry.write_action(), entry.valid());
    assert_eq!(actions(back), (extent_action::ZERO, extent_action::FAULT, 1));
    // Where a device executes something it must have the room.
    let copied = StorageExtent { reads: ExtentReads::Zeros, ..StorageExtent::new(1, 1016) };
    control.ap_set_vd_storage_extent(&mut tables, DISK, 0, 1, copied).expect("writes go to the device");
    let beyond = StorageExtent { start: 1017, ..copied };
    assert!(control.ap_set_vd_storage_extent(&mut tables, DISK, 0, 1, beyond).is_err());
    let back = control.ri_get_vd_storage_extent(&mut tables, DISK, 0, 1).expect("read");
    assert_eq!((actions(back), back.start()), ((extent_action::ZERO, extent_action::GO, 1), 1016));
    assert_eq!(tables.record::<VdEntry>(table::VD, 2).flush_devices(), 0b11);
}

#[test]
fn the_status_is_kept_by_a_new_map() {
    let mut tables = FakeTables::default();
    let mut control = control_path(&mut tables);
    let map = map(vec![segment(32, &[(0, 0)])]);
    let absent = control.ap_set_status_vd(&mut tables, DISK, VdStatus::Enabled);
    assert!(matches!(absent, Err(VaapiError::NoSuchDisk { disk: DISK, .. })));
    control.ap_set_map_vd(&mut tables, DISK, &map).expect("disk");
    control.ap_set_status_vd(&mut tables, DISK, VdStatus::Deactivated).expect("status");
    control.ap_set_map_vd(&mut tables, DISK, &map).expect("again");
    assert_eq!(tables.record::<VdEntry>(table::VD, 2).status(), vd_status::DEACTIVATED);
    control.ap_set_status_vd(&mut tables, DISK, VdStatus::Enabled).expect("status");
    assert_eq!(tables.record::<VdEntry>(table::VD, 2).status(), vd_status::ENABLED);
}

#[test]
fn a_disk_has_a_quota_of_plan_slots() {
    let mut tables = FakeTables::default();
    let mut control = control_path(&mut tables);
    let absent = control.ap_set_slot_quota_vd(&mut tables, DISK, Some(9));
    assert!(matches!(absent, Err(VaapiError::NoSuchDisk { disk: DISK, .. })));
    control.ap_set_map_vd(&mut tables, DISK, &map(vec![segment(32, &[(0, 0)])])).expect("disk");
    assert_eq!(control.ri_get_slot_quota_vd(&mut tables, DISK).expect("none"), None);
    control.ap_set_slot_quota_vd(&mut tables, DISK, Some(9)).expect("a quota");
    assert_eq!(tables.record::<QuotaEntry>(table::QUOTA, 2).slots(), 9);
    let none = control.ap_set_slot_quota_vd(&mut tables, DISK, Some(0));
    assert!(matches!(none, Err(VaapiError::Argument { .. })));
    assert_eq!(control.ri_get_slot_quota_vd(&mut tables, DISK).expect("unchanged"), Some(9));
    control.ap_set_slot_quota_vd(&mut tables, DISK, None).expect("no quota");
    assert_eq!(control.ri_get_slot_quota_vd(&mut tables, DISK).expect("none"), None);
}

#[test]
fn arguments_are_checked_before_anything_is_written() {
    let mut tables = FakeTables::default();
    let mut control = control_path(&mut tables);
    tables.log.clear();
    let good = segment(32, &[(0, 0)]);
    let wrong_maps = [
        map(vec![]),
        map(vec![segment(0, &[(0, 0)])]),
        map(vec![segment(32, &[])]),
        map(vec![segment(32, &[(7, 0)])]),
        map(vec![segment(32, &[(0, 1000)])]),
        map(vec![segment(32, &[(0, u64::MAX)])]),
        map(vec![segment(31, &[(0, 0)]), good.clone()]),
        map(vec![Segment { stripe_shift: 4, ..good.clone() }]),
        map(vec![Segment { extent_shift: 6, ..good.clone() }]),
        DiskMap { block_shift: 12, ..map(vec![good.clone()]) },
        map(vec![segment(13 * 32, &[(0, 0)])]),
    ];
    for wrong in wrong_maps {
        let result = control.ap_set_map_vd(&mut tables, DISK, &wrong);
        assert!(result.is_err(), "{wrong:?}");
    }
    assert!(control.ap_set_map_vd(&mut tables, VdHandle(4), &map(vec![good])).is_err(), "handle");
    assert!(control.ap_set_device_path(&mut tables, 4, path()).is_err(), "path number");
    assert!(control.ap_set_device_path(&mut tables, 0, path().with_limit(32)).is_err(), "limit");
    assert!(control.ap_set_device_path(&mut tables, 0, path().with_sq_size_z(0)).is_err(), "size");
    let busy = PathState::default().with_issued(3).with_returned(0xFFFF);
    tables.entries.insert((table::PATH_STATE, 0), TableEntry::new(0, 0, &busy.0).record);
    let message = control.ap_set_device_path(&mut tables, 0, path()).expect_err("busy").to_string();
    assert_eq!(message, "AP_SetDevicePath: path 0: 4 fragments are on it");
    assert!(tables.log.is_empty(), "{:?}", tables.log);
}

#[test]
fn a_paths_completion_queue_is_placed_before_the_path() {
    let mut tables = FakeTables::default();
    let mut control = control_path(&mut tables);
    tables.log.clear();
    let in_host = |iova, cq_size_z| DevicePath {
        entry: path().with_cq_size_z(cq_size_z),
        completions: Some(Iova(iova)),
    };
    control.ap_set_device_path(&mut tables, 2, in_host(0x7_F000, 4095)).expect("a path");
    assert_eq!(tables.log, [table::PATH_COMPLETIONS, table::PATH]);
    let place = PathCompletions::read_from_prefix(&tables.entries[&(table::PATH_COMPLETIONS, 2)]);
    assert_eq!(place.expect("an entry").0.base(), 0x7_F000);
    let mode = |tables: &FakeTables| {
        let entry = PathEntry::read_from_prefix(&tables.entries[&(table::PATH, 2)]).expect("an entry").0;
        (entry.completion_mode(), entry.valid())
    };
    assert_eq!(mode(&tables), (completion_mode::HOST, 1));
    assert!(control.ap_set_device_path(&mut tables, 2, in_host(0x7_F010, 31)).is_err(), "no page");
    assert!(control.ap_set_device_path(&mut tables, 2, in_host(0x7_F000, 4096)).is_err(), "too long");
    // Without a place it is a window, whatever the entry says.
    let entry = path().with_completion_mode(completion_mode::HOST);
    control.ap_set_device_path(&mut tables, 2, entry).expect("a path");
    assert_eq!(mode(&tables), (completion_mode::WINDOW, 1));
}

#[test]
fn a_device_has_up_to_four_paths() {
    let mut tables = FakeTables::default();
    let mut control = control_path(&mut tables);
    let mut info = control.devices[&1];
    for (paths, policy) in [
        (vec![3, 1, 0, 2], PathPolicy::RoundRobin),
        (vec![2, 3], PathPolicy::RoundRobin),
        (vec![1, 3, 2], PathPolicy::Preferred),
    ] {
        info.paths = DevicePaths::new(&paths, policy).expect("paths");
        control.ap_set_device_info(&mut tables, 1, info).expect("device");
        let back = control.ri_get_device_paths(&mut tables, 1).expect("read");
        assert_eq!((back.numbers(), back.policy(), back), (&paths[..], policy, info.paths));
    }
    let entry = control.ri_get_device_info(&mut tables, 1).expect("read");
    assert_eq!((entry.path(), entry.path1(), entry.path2(), entry.path3()), (1, 3, 2, 0));
    assert_eq!((entry.more_paths(), entry.path_policy()), (2, 0));
    let issued = PathState::default().with_issued(7);
    tables.entries.insert((table::PATH_STATE, 3), TableEntry::new(0, 0, &issued.0).record);
    let states = control.ap_get_device_path_state(&mut tables, 1).expect("states");
    let states: Vec<_> = states.iter().map(|(path, state)| (*path, state.issued())).collect();
    assert_eq!(states, [(1, 0), (3, 7), (2, 0)]);

    let wrong = |paths: &[u8]| DevicePaths::new(paths, PathPolicy::Preferred);
    assert_eq!(wrong(&[]), Err(PathsError::Count(0)));
    assert_eq!(wrong(&[0, 1, 2, 3, 4]), Err(PathsError::Count(5)));
    assert_eq!(wrong(&[2, 0, 2]), Err(PathsError::Twice(2)));
    info.paths = wrong(&[1, 4]).expect("a fifth path, of a card with four");
    tables.log.clear();
    let refused = control.ap_set_device_info(&mut tables, 1, info).expect_err("no such path");
    assert!(matches!(refused, VaapiError::NoSuchPath { device: 1, path: 4, paths: 4, .. }), "{refused}");
    assert!(tables.log.is_empty(), "{:?}", tables.log);
}
