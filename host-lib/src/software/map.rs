//! Where the blocks of a virtual disk lie.

use volplane_abi::{AllocationEntry, ExtentEntry, VdEntry};

use super::tables::Tables;

/// The part of a command that lies in one stripe unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First block, counted from the command's first.
    pub first: u64,
    /// Blocks.
    pub blocks: u64,
    /// Its extent, and the block of it at which the run begins; `None`: there is none.
    pub place: Option<(ExtentEntry, u64)>,
}

/// Cuts `blocks` blocks from `lba` of `disk` at the borders of stripe units and allocations.
pub fn runs(tables: &Tables, disk: &VdEntry, lba: u64, blocks: u64) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut first = 0;
    while first < blocks {
        let (place, here) = locate(tables, disk, lba + first);
        let run = Run { first, blocks: here.min(blocks - first), place };
        first += run.blocks;
        runs.push(run);
    }
    runs
}

/// The extent and block of it that hold `lba`, and how many blocks follow in the same stripe unit.
pub fn locate(tables: &Tables, disk: &VdEntry, lba: u64) -> (Option<(ExtentEntry, u64)>, u64) {
    let size = 1u64 << disk.allocation_shift();
    let (number, offset) = (lba / size, lba % size);
    let index = u64::from(disk.map_root()) + number;
    let entry = u32::try_from(index).ok().and_then(|index| tables.allocations.get(&index));
    let Some(entry) = entry.filter(|entry| is_sound(entry)) else { return (None, size - offset) };
    let unit = 1u64 << entry.stripe_shift();
    let here = (unit - offset % unit).min(size - offset);
    let (index, extent_offset) = extent_of(entry, offset);
    let extent = u32::try_from(index).ok().and_then(|index| tables.extents.get(&index)).copied();
    (extent.filter(|extent| extent.valid() == 1).map(|extent| (extent, extent_offset)), here)
}

/// Index of the extent that holds block `offset` of an allocation, and the block within it.
fn extent_of(entry: &AllocationEntry, offset: u64) -> (u64, u64) {
    let columns = u64::from(entry.columns());
    let unit = 1u64 << entry.stripe_shift();
    let (number, within) = (offset / unit, offset % unit);
    let (row, column) = (number / columns, number % columns);
    let column_block = row * unit + within;
    let extent = 1u64 << entry.extent_shift();
    let index = u64::from(entry.first_extent()) + column_block / extent * columns + column;
    (index, column_block % extent)
}

fn is_sound(entry: &AllocationEntry) -> bool {
    entry.valid() == 1 && (1..=16).contains(&entry.columns()) && entry.stripe_shift() <= entry.extent_shift()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three columns of units of 4 blocks in extents of 8; allocations of 32 blocks, the second linear.
    fn example() -> (Tables, VdEntry) {
        let mut tables = Tables::default();
        let striped = AllocationEntry::default()
            .with_first_extent(100)
            .with_columns(3)
            .with_stripe_shift(2)
            .with_extent_shift(3)
            .with_valid(1);
        let linear = AllocationEntry::default()
            .with_first_extent(50)
            .with_columns(1)
            .with_stripe_shift(4)
            .with_extent_shift(4)
            .with_valid(1);
        tables.allocations.extend([(7, striped), (8, linear)]);
        for index in (100..106).chain(50..52) {
            let extent = ExtentEntry::default().with_start(u64::from(index) * 1000).with_valid(1);
            tables.extents.insert(index, extent);
        }
        (tables, VdEntry::default().with_allocation_shift(5).with_map_root(7).with_size_blocks(60))
    }

    fn place(tables: &Tables, disk: &VdEntry, lba: u64) -> (u64, u64, u64) {
        let (place, here) = locate(tables, disk, lba);
        let (extent, offset) = place.expect("mapped");
        (extent.start() / 1000, offset, here)
    }

    #[test]
    fn stripes_extents_and_allocations_by_hand() {
        let (tables, disk) = example();
        // Unit 0 is column 0, unit 4 column 1 of row 1, unit 7 column 1 of row 2: its second extent.
        assert_eq!(place(&tables, &disk, 0), (100, 0, 4));
        assert_eq!(place(&tables, &disk, 3), (100, 3, 1));
        assert_eq!(place(&tables, &disk, 4), (101, 0, 4));
        assert_eq!(place(&tables, &disk, 18), (101, 6, 2));
        assert_eq!(place(&tables, &disk, 28), (104, 0, 4));
        assert_eq!(place(&tables, &disk, 32), (50, 0, 16));
        assert_eq!(place(&tables, &disk, 49), (51, 1, 15));
        assert_eq!(locate(&tables, &disk, 64), (None, 32));
    }

    #[test]
    fn a_run_ends_with_its_unit_and_with_its_allocation() {
        let (tables, disk) = example();
        let cuts: Vec<(u64, u64)> =
            runs(&tables, &disk, 26, 24).iter().map(|run| (run.first, run.blocks)).collect();
        assert_eq!(cuts, [(0, 2), (2, 4), (6, 16), (22, 2)]);
    }

    #[test]
    fn unsound_allocations_hold_nothing() {
        let (mut tables, disk) = example();
        let good = tables.allocations[&7];
        for bad in [
            good.with_valid(0),
            good.with_columns(0),
            good.with_columns(17),
            good.with_stripe_shift(4).with_extent_shift(3),
        ] {
            tables.allocations.insert(7, bad);
            assert_eq!(locate(&tables, &disk, 1), (None, 31));
        }
    }
}
