//! Virtual disks: maps, segments, extents, status.

use std::ops::Range;

use volplane_abi::tables::table;
use volplane_abi::{extent_action, vd_status, AllocationEntry, ExtentEntry, VdEntry, TRANSACTION_MAX};

use super::plan::{reactivated, states_cleared};
use super::{
    argument, commit, write, ControlPath, Epoch, ExtentReads, ExtentWrites, Mapped, MappedDisk, Retired,
    StorageExtent, TableEntry, Tables, VaapiError, VdStatus,
};
use crate::map::{DiskMap, MapTables, Segment};
use crate::service::VdHandle;

/// Entries taken for a map that is not live yet.
struct Taken {
    allocations: Range<u32>,
    extents: Range<u32>,
}

impl ControlPath {
    /// AP_SetMapVD: the full map of a disk. A new disk is enabled. A map that exists is replaced, at
    /// once for every command admitted after; the disk keeps its status and its plan, and its size where
    /// that has several components.
    pub fn ap_set_map_vd(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        map: &DiskMap,
    ) -> Result<Epoch, VaapiError> {
        self.ap_set_maps_vd(tables, &[(disk, map)])
    }

    /// AP_SetMapVD of several disks at once, at most `TRANSACTION_MAX`: a command to any of them that is admitted sees
    /// the maps of before or those of after. Where a disk is a component of a plan, or has a plan itself, that holds
    /// for each component by itself.
    pub fn ap_set_maps_vd(
        &mut self,
        tables: &mut dyn Tables,
        maps: &[(VdHandle, &DiskMap)],
    ) -> Result<Epoch, VaapiError> {
        const CALL: &str = "AP_SetMapVD";
        if maps.len() > TRANSACTION_MAX {
            return Err(argument(CALL, format!("{} maps at once, where {TRANSACTION_MAX} are", maps.len())));
        }
        for (number, &(disk, map)) in maps.iter().enumerate() {
            if maps[..number].iter().any(|&(other, _)| other == disk) {
                return Err(argument(CALL, format!("{disk} twice")));
            }
            self.check_new_map(CALL, disk, map)?;
        }
        self.reclaim(CALL, tables)?;
        let mut taken = Vec::new();
        for (_, map) in maps {
            match self.take(CALL, map) {
                Ok(entries) => taken.push(entries),
                Err(error) => {
                    taken.into_iter().for_each(|entries| self.give_back(entries));
                    return Err(error);
                }
            }
        }
        let (mut beside, mut switches, mut mapped_disks) = (Vec::new(), Vec::new(), Vec::new());
        for (&(disk, map), entries) in maps.iter().zip(&taken) {
            let root = entries.allocations.start;
            let MapTables { vd, allocations, extents } = map.tables(root, entries.extents.start);
            beside.extend(map_entries(root, &allocations, entries.extents.start, &extents));
            let old = self.disks.get(&disk).map(|old| old.entry);
            // An earlier disk of this number may have left them.
            beside.extend(old.is_none().then(|| states_cleared(disk)));
            let status = old.as_ref().map_or(vd_status::ENABLED, VdEntry::status);
            let entry = vd.with_status(status).with_plan(old.as_ref().map_or(0, VdEntry::plan));
            switches.push(TableEntry::new(table::VD, disk.0.into(), &entry.0));
            let allocations = mapped(map, &allocations, entries.extents.end);
            mapped_disks.push((disk, MappedDisk { entry, allocations }));
        }
        if let Err(error) = write(CALL, tables, &beside) {
            taken.into_iter().for_each(|entries| self.give_back(entries));
            return Err(error);
        }
        let repeated: Vec<TableEntry> =
            mapped_disks.iter().flat_map(|(disk, mapped)| self.repeated(*disk, &mapped.entry)).collect();
        write(CALL, tables, &repeated)?;
        let epoch = commit(CALL, tables, &switches)?;
        for (disk, mapped) in mapped_disks {
            if let Some(old) = self.disks.insert(disk, mapped) {
                self.retire(epoch, Retired::Allocations(old.allocation_entries()));
                for allocation in old.allocations {
                    self.retire(epoch, Retired::Extents(allocation.extents));
                }
            }
        }
        Ok(epoch)
    }

    /// A disk that the card has room for, with a map that it can execute and that its plan allows.
    fn check_new_map(&self, call: &'static str, disk: VdHandle, map: &DiskMap) -> Result<(), VaapiError> {
        if u64::from(disk.0) >= self.room.disks {
            return Err(argument(call, format!("{disk}: the card has room for {}", self.room.disks)));
        }
        self.check_map(call, map)?;
        if let (Some(known), Some(owner)) = (self.disks.get(&disk), self.shares_size_with(disk)) {
            let known = (known.entry.size_blocks(), known.entry.block_shift());
            if known != (map.blocks(), map.block_shift) {
                return Err(argument(call, format!("{disk}: its size is that of the plan of {owner}")));
            }
        }
        Ok(())
    }

    /// AP_SetStatusVD: whether a disk's I/O is executed. Enabling it also ends what a failure began.
    pub fn ap_set_status_vd(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        status: VdStatus,
    ) -> Result<Epoch, VaapiError> {
        const CALL: &str = "AP_SetStatusVD";
        let value = match status {
            VdStatus::Enabled => vd_status::ENABLED,
            VdStatus::Deactivated => vd_status::DEACTIVATED,
        };
        let entry = self.disk(CALL, disk)?.entry.with_status(value);
        let epoch = self.set_vd(CALL, tables, disk, entry)?;
        if status == VdStatus::Enabled {
            write(CALL, tables, &[reactivated(disk)])?;
        }
        Ok(epoch)
    }

    /// AP_SetVDStorageSegment: the map of one allocation, laid out as the one allocation of
    /// `segment`. An allocation that is there is replaced by one of the same length, in the card
    /// between two lookups of it. The number after the last extends the disk, which must end with a
    /// whole allocation.
    pub fn ap_set_vd_storage_segment(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        allocation: u32,
        segment: &Segment,
    ) -> Result<Epoch, VaapiError> {
        const CALL: &str = "AP_SetVDStorageSegment";
        let known = self.disk(CALL, disk)?;
        let (entry, count) = (known.entry, known.allocations.len() as u32);
        let map = DiskMap {
            block_shift: entry.block_shift(),
            allocation_shift: entry.allocation_shift(),
            segments: vec![segment.clone()],
        };
        self.check_segment(CALL, &map, segment)?;
        let size = 1u64 << map.allocation_shift;
        let wanted = match known.allocations.get(allocation as usize) {
            Some(old) => old.blocks..=old.blocks,
            None if allocation == count && entry.size_blocks() % size == 0 => {
                if let Some(owner) = self.shares_size_with(disk) {
                    return Err(argument(CALL, format!("{disk}: its size is that of the plan of {owner}")));
                }
                1..=size
            }
            None => {
                let problem =
                    format!("{disk}: allocation {allocation}, where {count} are and none may follow");
                return Err(argument(CALL, problem));
            }
        };
        if !wanted.contains(&segment.blocks) {
            let problem = format!(
                "{disk}: allocation {allocation} of {} blocks instead of {} to {}",
                segment.blocks,
                wanted.start(),
                wanted.end()
            );
            return Err(argument(CALL, problem));
        }
        self.reclaim(CALL, tables)?;
        let extents = self.take_extents(CALL, map.extents())?;
        let new = map.tables(0, extents.start);
        if let Err(error) = write_map(CALL, tables, 0, &[], extents.start, &new.extents) {
            self.extents.give(extents);
            return Err(error);
        }
        // A device too many only gets a Flush too many, so it is named before it holds blocks.
        let devices = entry.flush_devices() | map.devices();
        if devices != entry.flush_devices() {
            if let Err(error) = self.set_vd(CALL, tables, disk, entry.with_flush_devices(devices)) {
                self.extents.give(extents);
                return Err(error);
            }
        }
        let mapped = Mapped { entry: new.allocations[0], extents, blocks: segment.blocks };
        if allocation == count {
            return self.extend(CALL, tables, disk, mapped);
        }
        let index = entry.map_root() + allocation;
        write(CALL, tables, &[TableEntry::new(table::ALLOCATION, index, &mapped.entry.0)])?;
        let epoch = self.end_epoch(CALL, tables);
        let known = self.disks.get_mut(&disk).expect("looked up above");
        let old = std::mem::replace(&mut known.allocations[allocation as usize], mapped);
        // Without an epoch to wait for they are never free again.
        let epoch = epoch?;
        self.retire(epoch, Retired::Extents(old.extents));
        Ok(epoch)
    }

    /// AP_SetVDStorageExtent: where one extent of an allocation lies: extent `k` of column `c` is
    /// number `k × columns + c`. Fragments built after the call go to the new place.
    pub fn ap_set_vd_storage_extent(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        allocation: u32,
        extent: u32,
        place: StorageExtent,
    ) -> Result<Epoch, VaapiError> {
        const CALL: &str = "AP_SetVDStorageExtent";
        let known = self.disk(CALL, disk)?;
        let vd = known.entry;
        let Some(mapped) = known.allocations.get(allocation as usize) else {
            return Err(argument(CALL, format!("{disk}: allocation {allocation} is not mapped")));
        };
        if extent >= mapped.extents.len() as u32 {
            let problem = format!("{disk}: extent {extent} of {}", mapped.extents.len());
            return Err(argument(CALL, problem));
        }
        let index = mapped.extents.start + extent;
        let blocks = 1u64 << mapped.entry.extent_shift();
        let column_blocks = column_blocks(mapped);
        let first = u64::from(extent / u32::from(mapped.entry.columns())) * blocks;
        if place.has_device() {
            let blocks = blocks.min(column_blocks - first);
            self.check_space(CALL, place.device, vd.block_shift(), place.start, blocks)?;
            let devices = vd.flush_devices() | 1 << place.device;
            if devices != vd.flush_devices() {
                self.set_vd(CALL, tables, disk, vd.with_flush_devices(devices))?;
            }
        }
        let reads = match place.reads {
            ExtentReads::Device => extent_action::GO,
            ExtentReads::Fault => extent_action::FAULT,
            ExtentReads::Zeros => extent_action::ZERO,
        };
        let writes = match place.writes {
            ExtentWrites::Device => extent_action::GO,
            ExtentWrites::Fault => extent_action::FAULT,
        };
        let entry = ExtentEntry::default()
            .with_start(place.start)
            .with_device(place.device)
            .with_read_action(reads)
            .with_write_action(writes)
            .with_valid(1);
        write(CALL, tables, &[TableEntry::new(table::EXTENT, index, &entry.0)])?;
        self.end_epoch(CALL, tables)
    }
}

impl ControlPath {
    /// Writes a disk's entry, after what plans repeat of it.
    pub(super) fn set_vd(
        &mut self,
        call: &'static str,
        tables: &mut dyn Tables,
        disk: VdHandle,
        entry: VdEntry,
    ) -> Result<Epoch, VaapiError> {
        let map = |vd: &VdEntry| (vd.map_root(), vd.allocation_shift(), vd.flush_devices());
        if self.disks.get(&disk).is_some_and(|known| map(&known.entry) != map(&entry)) {
            write(call, tables, &self.repeated(disk, &entry))?;
        }
        let epoch = commit(call, tables, &[TableEntry::new(table::VD, disk.0.into(), &entry.0)])?;
        if let Some(known) = self.disks.get_mut(&disk) {
            known.entry = entry;
        }
        Ok(epoch)
    }

    /// Appends an allocation, whose extents are written. When the entry after the last one is
    /// taken, all entries move to where there is room, and the root with them.
    fn extend(
        &mut self,
        call: &'static str,
        tables: &mut dyn Tables,
        disk: VdHandle,
        mapped: Mapped,
    ) -> Result<Epoch, VaapiError> {
        let known = self.disk(call, disk)?.clone();
        let old = known.allocation_entries();
        let mut allocations = known.allocations;
        let extents = mapped.extents.clone();
        let size_blocks = known.entry.size_blocks() + mapped.blocks;
        allocations.push(mapped);

        let count = allocations.len() as u32;
        let (taken, first) = match self.allocations.take_at(old.end) {
            Some(taken) => (taken, old.len()),
            None => match self.allocations.take(count) {
                Some(taken) => (taken, 0),
                None => {
                    self.extents.give(extents);
                    return Err(VaapiError::NoRoom { call, table: "allocation", wanted: count.into() });
                }
            },
        };
        let entries: Vec<AllocationEntry> = allocations[first..].iter().map(|mapped| mapped.entry).collect();
        if let Err(error) = write_map(call, tables, taken.start, &entries, 0, &[]) {
            self.allocations.give(taken);
            self.extents.give(extents);
            return Err(error);
        }
        let moved = first == 0;
        let root = if moved { taken.start } else { old.start };
        let entry = known.entry.with_map_root(root).with_size_blocks(size_blocks);
        let epoch = self.set_vd(call, tables, disk, entry)?;
        self.disks.insert(disk, MappedDisk { entry, allocations });
        if moved {
            self.retire(epoch, Retired::Allocations(old));
        }
        Ok(epoch)
    }

    fn take(&mut self, call: &'static str, map: &DiskMap) -> Result<Taken, VaapiError> {
        let extents = self.take_extents(call, map.extents())?;
        let wanted = map.allocations();
        match u32::try_from(wanted).ok().and_then(|wanted| self.allocations.take(wanted)) {
            Some(allocations) => Ok(Taken { allocations, extents }),
            None => {
                self.extents.give(extents);
                Err(VaapiError::NoRoom { call, table: "allocation", wanted })
            }
        }
    }

    fn take_extents(&mut self, call: &'static str, wanted: u64) -> Result<Range<u32>, VaapiError> {
        let taken = u32::try_from(wanted).ok().and_then(|wanted| self.extents.take(wanted));
        taken.ok_or(VaapiError::NoRoom { call, table: "extent", wanted })
    }

    fn give_back(&mut self, taken: Taken) {
        self.allocations.give(taken.allocations);
        self.extents.give(taken.extents);
    }

    fn check_map(&self, call: &'static str, map: &DiskMap) -> Result<(), VaapiError> {
        let Some(last) = map.segments.len().checked_sub(1) else {
            return Err(argument(call, "a map without segments".into()));
        };
        for (index, segment) in map.segments.iter().enumerate() {
            self.check_segment(call, map, segment)?;
            if index < last && segment.blocks % (1 << map.allocation_shift) != 0 {
                let problem =
                    format!("segment {index} of {} blocks ends within an allocation", segment.blocks);
                return Err(argument(call, problem));
            }
        }
        Ok(())
    }

    /// A segment that the card can execute, on devices that are there and large enough.
    fn check_segment(&self, call: &'static str, map: &DiskMap, segment: &Segment) -> Result<(), VaapiError> {
        let columns = segment.columns.len() as u64;
        if columns == 0 || columns > self.room.columns {
            let problem = format!("{columns} columns; the card executes 1 to {}", self.room.columns);
            return Err(argument(call, problem));
        }
        let in_order =
            segment.stripe_shift <= segment.extent_shift && segment.extent_shift <= map.allocation_shift;
        if !in_order || map.allocation_shift > 32 {
            let problem = format!(
                "stripe units of 2^{} blocks, extents of 2^{}, allocations of 2^{}",
                segment.stripe_shift, segment.extent_shift, map.allocation_shift
            );
            return Err(argument(call, problem));
        }
        if segment.blocks == 0 || segment.blocks >= 1 << 48 {
            return Err(argument(call, format!("a segment of {} blocks", segment.blocks)));
        }
        let space = segment.space(map.allocation_shift);
        for column in &segment.columns {
            self.check_space(call, column.device, map.block_shift, column.start, space)?;
        }
        Ok(())
    }

    fn check_space(
        &self,
        call: &'static str,
        device: u16,
        block_shift: u8,
        start: u64,
        blocks: u64,
    ) -> Result<(), VaapiError> {
        let info = self.device(call, device)?;
        if info.block_shift != block_shift {
            let problem = format!(
                "device {device} has blocks of 2^{} bytes, the disk of 2^{block_shift}",
                info.block_shift
            );
            return Err(argument(call, problem));
        }
        if start > info.blocks || blocks > info.blocks - start {
            let problem = format!("{blocks} blocks at {start} of device {device}, which has {}", info.blocks);
            return Err(argument(call, problem));
        }
        Ok(())
    }
}

/// Blocks that an allocation takes in each column.
fn column_blocks(mapped: &Mapped) -> u64 {
    let units = mapped.blocks.div_ceil(1 << mapped.entry.stripe_shift());
    units.div_ceil(mapped.entry.columns().into()) << mapped.entry.stripe_shift()
}

/// What is to be remembered of the allocations of a map.
fn mapped(map: &DiskMap, entries: &[AllocationEntry], extents_end: u32) -> Vec<Mapped> {
    let lengths = map.segments.iter().flat_map(|segment| {
        let size = 1u64 << map.allocation_shift;
        (0..segment.blocks).step_by(size as usize).map(move |start| size.min(segment.blocks - start))
    });
    let ends = entries.iter().skip(1).map(AllocationEntry::first_extent).chain([extents_end]);
    let ranges = entries.iter().zip(ends).map(|(entry, end)| (entry, entry.first_extent()..end));
    ranges.zip(lengths).map(|((&entry, extents), blocks)| Mapped { entry, extents, blocks }).collect()
}

/// Writes entries that nothing points at yet, extents first.
fn write_map(
    call: &'static str,
    tables: &mut dyn Tables,
    first_allocation: u32,
    allocations: &[AllocationEntry],
    first_extent: u32,
    extents: &[ExtentEntry],
) -> Result<(), VaapiError> {
    write(call, tables, &map_entries(first_allocation, allocations, first_extent, extents))
}

/// The entries of a map, extents first.
fn map_entries(
    first_allocation: u32,
    allocations: &[AllocationEntry],
    first_extent: u32,
    extents: &[ExtentEntry],
) -> Vec<TableEntry> {
    let extents = (first_extent..).zip(extents);
    let mut entries: Vec<TableEntry> =
        extents.map(|(index, extent)| TableEntry::new(table::EXTENT, index, &extent.0)).collect();
    let allocations = (first_allocation..).zip(allocations);
    entries.extend(allocations.map(|(index, entry)| TableEntry::new(table::ALLOCATION, index, &entry.0)));
    entries
}
