//! Random virtual disks and their maps.
//!
//! Extents lie anywhere on their devices, never over each other, with gaps between them, so that a block
//! written beside its place is found.

use std::collections::BTreeMap;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::{extent_action, vd_status, AllocationEntry, ExtentEntry, VdEntry};

use volplane_abi::plan::COMPONENTS_MAX;

use super::mirrors::{Mirror, PLANS};
use volplane::software::Tables;

/// Most allocations and extents of a random map: what the default build has.
pub const ALLOCATIONS_MAX: u32 = 1024;
/// As above.
pub const EXTENTS_MAX: u32 = 8192;
/// Virtual disks of the default build.
pub const VDS_MAX: u32 = 256;
/// log2 of the bytes of the smallest allocation.
const ALLOCATION_BYTES_SHIFT: u8 = 20;

/// A device that extents may be put on.
#[derive(Clone, Debug)]
pub struct Shelf {
    /// Device number.
    pub device: u16,
    /// SSD behind it.
    pub ssd: usize,
    /// log2 of its block size.
    pub block_shift: u8,
}

/// Gives out blocks of SSDs, each once.
#[derive(Clone, Debug)]
pub struct Space {
    /// First free block of each SSD.
    pub next: Vec<u64>,
}

impl Space {
    fn take(&mut self, random: &mut ChaCha8Rng, ssd: usize, blocks: u64) -> u64 {
        let start = self.next[ssd] + random.random_range(0..64);
        self.next[ssd] = start + blocks;
        start
    }
}

/// Makes the virtual disks of a machine.
pub struct DiskMaker<'a> {
    /// Generator.
    pub random: &'a mut ChaCha8Rng,
    /// Devices.
    pub shelves: &'a [Shelf],
    /// Their blocks.
    pub space: Space,
    /// Of 1,000 extents, how many cannot be used in one way or another.
    pub bad_of_1000: u32,
    extents_next: u32,
    allocations_next: u32,
}

/// The shape of an allocation.
#[derive(Clone, Copy, Debug)]
struct Shape {
    columns: u8,
    stripe_shift: u8,
    extent_shift: u8,
    /// Blocks of a column that hold something.
    column_blocks: u64,
}

impl Shape {
    fn extents_per_column(&self) -> u64 {
        self.column_blocks.div_ceil(1 << self.extent_shift)
    }

    fn extents(&self) -> u64 {
        self.extents_per_column() * u64::from(self.columns)
    }
}

impl<'a> DiskMaker<'a> {
    /// A maker with nothing given out.
    pub fn new(random: &'a mut ChaCha8Rng, shelves: &'a [Shelf], space: Space, bad_of_1000: u32) -> Self {
        Self { random, shelves, space, bad_of_1000, extents_next: 0, allocations_next: 0 }
    }

    /// Puts `count` disks into `tables`, at random handles, and two that refuse I/O.
    pub fn make(&mut self, tables: &mut Tables, count: usize) {
        if self.extents_next == 0 {
            self.begin();
        }
        let mut handles = self.handles(tables);
        for left in (1..=count).rev() {
            let handle = handles.pop().expect("fewer disks than handles");
            let disk = self.disk(tables, left as u32);
            tables.vds.insert(handle, disk);
            if left <= 2 {
                let status = if left == 1 { vd_status::DEACTIVATED } else { vd_status::ABSENT };
                tables.vds.insert(handles.pop().expect("as above"), disk.with_status(status));
            }
        }
    }

    fn begin(&mut self) {
        self.extents_next = self.random.random_range(0..1024);
        self.allocations_next = self.random.random_range(0..512);
    }

    /// Handles that no disk has, in random order.
    fn handles(&mut self, tables: &Tables) -> Vec<u32> {
        let mut handles: Vec<u32> = (0..VDS_MAX).filter(|handle| !tables.vds.contains_key(handle)).collect();
        handles.shuffle(self.random);
        handles
    }

    /// Puts mirrored disks into `tables`, one for each number of `copies`; `others`: disks that are made later.
    pub fn make_mirrors(&mut self, tables: &mut Tables, copies: &[usize], others: usize) -> Vec<Mirror> {
        self.begin();
        let mut left = (copies.iter().sum::<usize>() + others) as u32;
        let mut handles = self.handles(tables);
        let mut plans: Vec<u16> = (1..=PLANS).collect();
        plans.shuffle(self.random);
        let mut mirrors = Vec::new();
        for &count in copies {
            let names = (handles.pop().expect("256 disks"), plans.pop().expect("255 plans"));
            let mut places: Vec<usize> = (0..COMPONENTS_MAX).collect();
            places.shuffle(self.random);
            let first = self.disk(tables, left);
            let mut maps = [None; COMPONENTS_MAX];
            for (number, &place) in places[..count].iter().enumerate() {
                let map = if number == 0 { first } else { self.copy(tables, &first, left) };
                left -= 1;
                // Nobody but the plan uses the component's map.
                let handle = handles.pop().expect("256 disks");
                tables.vds.insert(handle, map.with_status(vd_status::DEACTIVATED));
                maps[place] = Some((handle as u16, map));
            }
            // A disk's own map says where its borders are; the card does not look at it.
            tables.vds.insert(names.0, first.with_plan(names.1));
            mirrors.push(Mirror::random(self.random, names, maps));
        }
        mirrors
    }

    fn disk(&mut self, tables: &mut Tables, disks_left: u32) -> VdEntry {
        let block_shift = self.shelves.choose(self.random).expect("a device").block_shift;
        let huge = self.random.random_bool(0.25);
        let smallest = ALLOCATION_BYTES_SHIFT - block_shift;
        let shift =
            if huge { self.random.random_range(24..=32) } else { smallest + self.random.random_range(0..=2) };
        let allocations: u64 = self.random.random_range(1..=if huge { 3 } else { 4 });
        let (root, devices) = self.map(tables, (block_shift, shift), allocations, disks_left);
        let whole = 1u64 << shift;
        let size = (allocations - 1) * whole + self.random.random_range(1..=whole);
        VdEntry::default()
            .with_size_blocks(size)
            .with_status(vd_status::ENABLED)
            .with_block_shift(block_shift)
            .with_allocation_shift(shift)
            .with_map_root(root)
            .with_flush_devices(self.flush_devices(devices))
    }

    /// A disk of the same size with another map.
    fn copy(&mut self, tables: &mut Tables, disk: &VdEntry, disks_left: u32) -> VdEntry {
        let (size, block_shift) = (disk.size_blocks(), disk.block_shift());
        let smallest = ALLOCATION_BYTES_SHIFT - block_shift;
        let allocations = |shift: u8| size.div_ceil(1 << shift);
        let shifts: Vec<u8> = (smallest..=32)
            .filter(|&shift| allocations(shift) <= 4 && shift <= disk.allocation_shift() + 2)
            .collect();
        let shift = *shifts.choose(self.random).expect("that of the disk at least");
        let (root, devices) = self.map(tables, (block_shift, shift), allocations(shift), disks_left);
        disk.with_allocation_shift(shift).with_map_root(root).with_flush_devices(self.flush_devices(devices))
    }

    /// Now and then nothing to flush, or a device that is not there.
    fn flush_devices(&mut self, devices: u32) -> u32 {
        match self.random.random_range(0..20) {
            0 => 0,
            1 => devices | 1 << 15,
            _ => devices,
        }
    }

    /// Makes allocations and their extents: the map's root, and a bit for every device that holds one.
    fn map(
        &mut self,
        tables: &mut Tables,
        (block_shift, shift): (u8, u8),
        allocations: u64,
        disks_left: u32,
    ) -> (u32, u32) {
        let shelves: Vec<Shelf> =
            self.shelves.iter().filter(|shelf| shelf.block_shift == block_shift).cloned().collect();
        let root = self.allocations_next;
        self.allocations_next += allocations as u32 + self.random.random_range(0..4);
        let budget = (EXTENTS_MAX - self.extents_next) / disks_left / allocations as u32;
        let mut devices = 0;
        for number in 0..allocations {
            let shape = self.shape(shift, block_shift, u64::from(budget));
            let valid = !self.random.random_bool(0.01);
            let entry = AllocationEntry::default()
                .with_first_extent(self.extents_next)
                .with_columns(shape.columns)
                .with_stripe_shift(shape.stripe_shift)
                .with_extent_shift(shape.extent_shift)
                .with_valid(valid.into());
            tables.allocations.insert(root + number as u32, entry);
            devices |= self.extents(tables, &shape, &shelves);
        }
        (root, devices)
    }

    /// A shape whose extents fit the table.
    fn shape(&mut self, allocation_shift: u8, block_shift: u8, budget: u64) -> Shape {
        let whole = 1u64 << allocation_shift;
        loop {
            let linear = self.random.random_bool(0.3);
            let columns = if linear { 1 } else { self.random.random_range(1..=16) };
            // Units of 4 to 64 KiB mostly, and everything else seldom.
            let usual = (12 - block_shift)..=(16 - block_shift);
            let stripe_shift = match self.random.random_range(0..10) {
                _ if linear => allocation_shift.saturating_sub(self.random.random_range(0..=4)),
                0 => self.random.random_range(0..=allocation_shift.min(8)),
                1 => self.random.random_range(0..=32),
                _ => self.random.random_range(usual),
            };
            let rows = whole.div_ceil(1 << stripe_shift).div_ceil(columns);
            let column_blocks = (rows << stripe_shift).min(whole);
            let least = column_blocks.ilog2() as u8;
            let wished =
                least.saturating_sub(self.random.random_range(0..=4)) + self.random.random_range(0..=1);
            let extent_shift = match linear {
                true if self.random.random_bool(0.5) => stripe_shift,
                _ => wished.clamp(stripe_shift, 32),
            };
            let shape = Shape { columns: columns as u8, stripe_shift, extent_shift, column_blocks };
            if shape.extents() <= budget {
                return shape;
            }
        }
    }

    /// Places the extents of an allocation; a bit for every device that holds one.
    fn extents(&mut self, tables: &mut Tables, shape: &Shape, shelves: &[Shelf]) -> u32 {
        let first = self.extents_next;
        let count = shape.extents() as u32;
        self.extents_next += count + self.random.random_range(0..4).min(EXTENTS_MAX - first - count);
        let mut order: Vec<u32> = (0..count).collect();
        order.shuffle(self.random);
        let mut devices = 0;
        for number in order {
            let begin = u64::from(number / u32::from(shape.columns)) << shape.extent_shift;
            let used = (1u64 << shape.extent_shift).min(shape.column_blocks - begin);
            let shelf = shelves.choose(self.random).expect("a device of this block size");
            let start = self.space.take(self.random, shelf.ssd, used);
            let entry = ExtentEntry::default().with_start(start).with_device(shelf.device).with_valid(1);
            devices |= 1 << shelf.device;
            if self.random.random_ratio(self.bad_of_1000, 1000) {
                if let Some(bad) = self.spoilt(entry) {
                    tables.extents.insert(first + number, bad);
                }
            } else {
                tables.extents.insert(first + number, entry);
            }
        }
        devices
    }

    /// An extent that cannot be used, or no entry at all.
    fn spoilt(&mut self, entry: ExtentEntry) -> Option<ExtentEntry> {
        Some(match self.random.random_range(0..7) {
            0 => entry.with_read_action(extent_action::FAULT),
            1 => entry.with_write_action(extent_action::FAULT),
            2 => entry.with_read_action(extent_action::FAULT).with_write_action(extent_action::FAULT),
            3 => entry.with_read_action(extent_action::ZERO),
            4 => entry.with_valid(0),
            5 => entry.with_device(15),
            _ => return None,
        })
    }
}

/// Lets extents read as zeros, of some machines and there some of all that can be used; what is written to them
/// goes to their devices, or faults.
pub fn thin_out(random: &mut ChaCha8Rng, tables: &mut Tables) {
    let of_1000 = [0, 30, 200][random.random_range(0..3)];
    let usable = |extent: &&mut ExtentEntry| extent.valid() == 1 && extent.read_action() == extent_action::GO;
    for extent in tables.extents.values_mut().filter(usable) {
        if random.random_ratio(of_1000, 1000) {
            let writes = if random.random_bool(0.05) { extent_action::FAULT } else { extent.write_action() };
            *extent = extent.with_read_action(extent_action::ZERO).with_write_action(writes);
        }
    }
}

/// Blocks of a disk at which something ends: its ends, allocations, extents, stripe units.
pub fn borders(tables: &Tables, disk: &VdEntry) -> Vec<u64> {
    let (size, whole) = (disk.size_blocks(), 1u64 << disk.allocation_shift());
    let mut borders = BTreeMap::from([(0, ()), (size, ())]);
    for number in 0..size.div_ceil(whole) {
        let begin = number * whole;
        borders.insert(begin, ());
        let Some(entry) = tables.allocations.get(&(disk.map_root() + number as u32)) else { continue };
        let (unit, columns) = (1u64 << entry.stripe_shift(), u64::from(entry.columns()));
        let row = unit.saturating_mul(columns);
        let extent_row = (1u64 << entry.extent_shift()).saturating_mul(columns);
        for step in [unit, row, extent_row] {
            for count in [1, 2, 5, 1000, whole / step / 2, whole / step] {
                let at = step.checked_mul(count).filter(|&at| at <= whole);
                borders.extend(at.map(|at| (begin + at, ())));
            }
        }
    }
    borders.into_keys().filter(|&border| border <= size).collect()
}
