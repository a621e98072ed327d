//! The layout of a virtual disk on its devices, and the table entries that tell the card.
//!
//! Everything is counted in blocks of the disk, which are blocks of its devices too. The rules, the
//! rounding included, stand in the documentation of `configuration`.

use volplane_abi::{extent_action, vd_status, AllocationEntry, ExtentEntry, VdEntry};

/// A column of a segment: where its space begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Device, by its place in the configuration.
    pub device: u16,
    /// First block on the device.
    pub start: u64,
}

/// Consecutive allocations with the same layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Blocks of the disk in it: whole allocations, but for the end of the disk.
    pub blocks: u64,
    /// Columns, 1 to 16.
    pub columns: Vec<Column>,
    /// log2 of the blocks of a stripe unit.
    pub stripe_shift: u8,
    /// log2 of the blocks of an extent; at least `stripe_shift`.
    pub extent_shift: u8,
}

impl Segment {
    /// Blocks that an allocation of `blocks` takes in each of the columns.
    fn column_blocks(&self, blocks: u64) -> u64 {
        let units = blocks.div_ceil(1 << self.stripe_shift);
        units.div_ceil(self.columns.len() as u64) << self.stripe_shift
    }

    /// Extents of an allocation of `blocks`.
    fn extents_of(&self, blocks: u64) -> u64 {
        self.column_blocks(blocks).div_ceil(1 << self.extent_shift) * self.columns.len() as u64
    }

    /// Allocations of `2^allocation_shift` blocks, a short one at the end included.
    pub fn allocations(&self, allocation_shift: u8) -> u64 {
        self.blocks.div_ceil(1 << allocation_shift)
    }

    /// Extents of all its allocations.
    pub fn extents(&self, allocation_shift: u8) -> u64 {
        let (full, rest) = self.split(allocation_shift);
        full * self.extents_of(1 << allocation_shift) + self.extents_of(rest)
    }

    /// Blocks it takes on the device of each column.
    pub fn space(&self, allocation_shift: u8) -> u64 {
        let (full, rest) = self.split(allocation_shift);
        full * self.column_blocks(1 << allocation_shift) + self.column_blocks(rest)
    }

    /// Whole allocations, and the blocks of the short one.
    fn split(&self, allocation_shift: u8) -> (u64, u64) {
        (self.blocks >> allocation_shift, self.blocks & ((1 << allocation_shift) - 1))
    }
}

/// The map of a virtual disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskMap {
    /// log2 of the bytes of a block.
    pub block_shift: u8,
    /// log2 of the blocks of an allocation.
    pub allocation_shift: u8,
    /// Segments, in order of the disk's blocks.
    pub segments: Vec<Segment>,
}

/// Entries of the card's tables for one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapTables {
    /// The disk.
    pub vd: VdEntry,
    /// Its allocations, the first at the index `tables` was given.
    pub allocations: Vec<AllocationEntry>,
    /// Its extents, the first at the index `tables` was given.
    pub extents: Vec<ExtentEntry>,
}

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Device.
    pub device: u16,
    /// Block on the device.
    pub lba: u64,
    /// Blocks from here that follow each other on disk and device: to the end of the stripe unit or
    /// of the disk. The card splits commands there too.
    pub run: u64,
}

impl DiskMap {
    /// Size of the disk.
    pub fn blocks(&self) -> u64 {
        self.segments.iter().map(|segment| segment.blocks).sum()
    }

    /// Entries it takes of the allocation table.
    pub fn allocations(&self) -> u64 {
        self.segments.iter().map(|segment| segment.allocations(self.allocation_shift)).sum()
    }

    /// Entries it takes of the extent table.
    pub fn extents(&self) -> u64 {
        self.segments.iter().map(|segment| segment.extents(self.allocation_shift)).sum()
    }

    /// Bit i: device i holds blocks of the disk.
    pub fn devices(&self) -> u32 {
        let columns = self.segments.iter().flat_map(|segment| &segment.columns);
        columns.fold(0, |devices, column| devices | 1 << column.device)
    }

    /// The table entries, for an enabled disk whose allocations begin at `map_root` and whose
    /// extents begin at `first_extent` of their tables.
    pub fn tables(&self, map_root: u32, first_extent: u32) -> MapTables {
        let mut allocations = Vec::new();
        let mut extents = Vec::new();
        for segment in &self.segments {
            let mut left = segment.blocks;
            let mut used = 0;
            while left > 0 {
                let blocks = left.min(1 << self.allocation_shift);
                let entry = AllocationEntry::default()
                    .with_first_extent(first_extent + extents.len() as u32)
                    .with_columns(segment.columns.len() as u8)
                    .with_stripe_shift(segment.stripe_shift)
                    .with_extent_shift(segment.extent_shift)
                    .with_valid(1);
                allocations.push(entry);
                let column_blocks = segment.column_blocks(blocks);
                for row in (0..column_blocks).step_by(1 << segment.extent_shift) {
                    extents.extend(segment.columns.iter().map(|column| {
                        ExtentEntry::default()
                            .with_start(column.start + used + row)
                            .with_device(column.device)
                            .with_read_action(extent_action::GO)
                            .with_write_action(extent_action::GO)
                            .with_valid(1)
                    }));
                }
                used += column_blocks;
                left -= blocks;
            }
        }
        let vd = VdEntry::default()
            .with_size_blocks(self.blocks())
            .with_status(vd_status::ENABLED)
            .with_block_shift(self.block_shift)
            .with_allocation_shift(self.allocation_shift)
            .with_map_root(map_root)
            .with_flush_devices(self.devices());
        MapTables { vd, allocations, extents }
    }

    /// Where block `lba` lies; `None` beyond the end.
    pub fn locate(&self, lba: u64) -> Option<Location> {
        let mut rest = lba;
        let segment = self.segments.iter().find(|segment| {
            let inside = rest < segment.blocks;
            if !inside {
                rest -= segment.blocks;
            }
            inside
        })?;
        let allocation = rest >> self.allocation_shift;
        let block = rest & ((1 << self.allocation_shift) - 1);
        let (unit, in_unit) = (block >> segment.stripe_shift, block & ((1 << segment.stripe_shift) - 1));
        let columns = segment.columns.len() as u64;
        let column = segment.columns[(unit % columns) as usize];
        let row = ((unit / columns) << segment.stripe_shift) + in_unit;
        // Only the allocation at the very end of the disk is short, so all before this one are whole.
        let used = allocation * segment.column_blocks(1 << self.allocation_shift);
        let run = ((1 << segment.stripe_shift) - in_unit).min(segment.blocks - rest);
        Some(Location { device: column.device, lba: column.start + used + row, run })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(places: &[(u16, u64)]) -> Vec<Column> {
        places.iter().map(|&(device, start)| Column { device, start }).collect()
    }

    /// Three columns, units of 8 blocks, extents of 16, allocations of 64: 8 units in 3 rows.
    fn odd() -> DiskMap {
        let segment = Segment {
            blocks: 64 + 20,
            columns: columns(&[(0, 100), (1, 200), (2, 300)]),
            stripe_shift: 3,
            extent_shift: 4,
        };
        DiskMap { block_shift: 9, allocation_shift: 6, segments: vec![segment] }
    }

    #[test]
    fn the_last_row_is_rounded_up_in_every_column() {
        let map = odd();
        let tables = map.tables(7, 40);
        assert_eq!((map.allocations(), map.extents()), (2, 9));
        assert_eq!((tables.allocations.len(), tables.extents.len()), (2, 9));
        // The first allocation takes 3 rows = 24 blocks a column: one extent of 16, one cut to 8.
        let starts: Vec<u64> = tables.extents.iter().map(ExtentEntry::start).collect();
        assert_eq!(starts, [100, 200, 300, 116, 216, 316, 124, 224, 324]);
        assert_eq!(tables.allocations[0].first_extent(), 40);
        assert_eq!(tables.allocations[1].first_extent(), 46);
        assert_eq!(tables.vd.map_root(), 7);
        assert_eq!(tables.vd.flush_devices(), 0b111);
        assert_eq!(tables.vd.size_blocks(), 84);
        // The short one has 3 units, of which the last holds 4 blocks: one row.
        assert_eq!(map.segments[0].space(6), 24 + 8);
    }

    #[test]
    fn blocks_are_where_the_formula_puts_them() {
        let map = odd();
        assert_eq!(map.locate(0), Some(Location { device: 0, lba: 100, run: 8 }));
        assert_eq!(map.locate(9), Some(Location { device: 1, lba: 201, run: 7 }));
        assert_eq!(map.locate(63), Some(Location { device: 1, lba: 223, run: 1 }), "unit 7: column 1, row 2");
        assert_eq!(map.locate(64), Some(Location { device: 0, lba: 124, run: 8 }));
        assert_eq!(map.locate(80), Some(Location { device: 2, lba: 324, run: 4 }), "cut by the end");
        assert_eq!(map.locate(84), None);
    }

    #[test]
    fn segments_follow_each_other() {
        let linear = |device, start| Segment {
            blocks: 128,
            columns: columns(&[(device, start)]),
            stripe_shift: 6,
            extent_shift: 6,
        };
        let map =
            DiskMap { block_shift: 12, allocation_shift: 6, segments: vec![linear(3, 0), linear(1, 9)] };
        assert_eq!(map.devices(), 0b1010);
        assert_eq!(map.locate(127), Some(Location { device: 3, lba: 127, run: 1 }));
        assert_eq!(map.locate(128), Some(Location { device: 1, lba: 9, run: 64 }));
        assert_eq!(map.tables(0, 0).extents[3].start(), 9 + 64);
    }
}
