//! What the map means, in plain Rust: the model that the tests of the RTL compare with.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rust_hdl::prelude::*;

use super::command_judge::AllocationLookup;
use crate::records::{AllocationEntry, ExtentEntry};
use crate::sizes::Sizes;

/// The two tables in plain numbers.
pub(crate) struct Map {
    pub(crate) allocation_shift: u32,
    pub(crate) allocations: Vec<Allocation>,
    pub(crate) extents: Vec<Bits<72>>,
}

impl Map {
    /// A map of every kind of allocation, usable or not.
    pub(crate) fn random(random: &mut ChaCha8Rng, sizes: &Sizes) -> Self {
        let allocation_shift = [3, 6, 11, 16, 31, 32][random.random_range(0..6)];
        let extents = 1u64 << sizes.extent_bits;
        Self {
            allocation_shift,
            allocations: (0..1 << sizes.allocation_bits)
                .map(|_| Allocation::random(random, allocation_shift, extents))
                .collect(),
            extents: (0..extents)
                .map(|_| {
                    ExtentEntry {
                        start: (random.random::<u64>() >> 16).to_bits(),
                        device: random.random_range(0..65_536u64).to_bits(),
                        valid: 1u64.to_bits(),
                        ..Default::default()
                    }
                    .into()
                })
                .collect(),
        }
    }
}

/// An allocation's entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocation {
    pub(crate) first_extent: u64,
    pub(crate) columns: u64,
    pub(crate) stripe_shift: u32,
    pub(crate) extent_shift: u32,
    pub(crate) valid: bool,
}

impl Allocation {
    pub(crate) fn record(self) -> Bits<72> {
        AllocationEntry {
            first_extent: self.first_extent.to_bits(),
            columns: self.columns.to_bits(),
            stripe_shift: u64::from(self.stripe_shift).to_bits(),
            extent_shift: u64::from(self.extent_shift).to_bits(),
            valid: u64::from(self.valid).to_bits(),
            ..Default::default()
        }
        .into()
    }

    fn usable(self) -> bool {
        self.valid
            && (1..=16).contains(&self.columns)
            && (self.stripe_shift..=32).contains(&self.extent_shift)
    }

    fn random(random: &mut ChaCha8Rng, allocation_shift: u32, extents: u64) -> Self {
        let stripe_shift = random.random_range(0..=allocation_shift.min(12));
        let mut entry = Self {
            first_extent: random.random_range(0..extents),
            columns: if random.random_bool(0.2) { 1 } else { random.random_range(1..=16) },
            stripe_shift,
            extent_shift: random.random_range(stripe_shift..=(stripe_shift + 8).min(32)),
            valid: true,
        };
        match random.random_range(0..30) {
            0 => entry.valid = false,
            1 => entry.columns = [0, 17, 32, 255][random.random_range(0..4)],
            2 => entry.extent_shift = [33, 64, 255][random.random_range(0..3)],
            3 => (entry.stripe_shift, entry.extent_shift) = (9, 8),
            4 => (entry.stripe_shift, entry.extent_shift) = (32, 32),
            5 => (entry.stripe_shift, entry.extent_shift) = (200, 255),
            6 => entry.first_extent = u32::MAX.into(),
            7 => entry.extent_shift = 32,
            _ => {}
        }
        entry
    }
}

/// A run that is owed; where it lies in its extent counts only in a usable allocation.
#[derive(Debug, PartialEq)]
pub(crate) struct Owed {
    pub(crate) plan_offset: u64,
    pub(crate) blocks: u64,
    pub(crate) last: bool,
    pub(crate) extent: Bits<72>,
    pub(crate) extent_offset: Option<u64>,
}

/// The runs of a plan, block by block, as `AllocationEntry` describes them.
pub(crate) fn runs_of(map: &Map, lookup: &AllocationLookup, blocks: u64) -> Vec<Owed> {
    let size = 1u64 << map.allocation_shift;
    let mut owed: Vec<Owed> = Vec::new();
    for i in 0..blocks {
        let block = lookup.offset.to_u64() + i;
        let (number, block) = (lookup.index.to_u64() + block / size, block % size);
        let begins = i == 0 || block == 0;
        let entry = map.allocations.get(number as usize).filter(|entry| entry.usable());
        let Some(entry) = entry else {
            match owed.last_mut().filter(|_| !begins) {
                Some(run) => run.blocks += 1,
                None => owed.push(Owed {
                    plan_offset: i,
                    blocks: 1,
                    last: false,
                    extent: Default::default(),
                    extent_offset: None,
                }),
            }
            continue;
        };
        let unit = 1u64 << entry.stripe_shift;
        if !begins && block % unit != 0 {
            owed.last_mut().expect("a unit has begun").blocks += 1;
            continue;
        }
        let (row, column) = (block / unit / entry.columns, block / unit % entry.columns);
        let row_block = row * unit + block % unit;
        let k = row_block >> entry.extent_shift;
        let index = entry.first_extent + k * entry.columns + column;
        owed.push(Owed {
            plan_offset: i,
            blocks: 1,
            last: false,
            extent: map.extents.get(index as usize).copied().unwrap_or_default(),
            extent_offset: Some(row_block % (1u64 << entry.extent_shift)),
        });
    }
    owed.last_mut().expect("a plan has blocks").last = true;
    owed
}

#[test]
fn the_model_lays_out_a_stripe() {
    // 3 columns, units of 4 blocks, extents of 8: block 29 is unit 7, so row 2, column 1.
    let entry = Allocation { first_extent: 5, columns: 3, stripe_shift: 2, extent_shift: 3, valid: true };
    let map = Map {
        allocation_shift: 6,
        allocations: vec![entry],
        extents: (0..64u64).map(|i| i.to_bits()).collect(),
    };
    let lookup = AllocationLookup { offset: 29u64.to_bits(), ..Default::default() };
    let runs: Vec<_> = runs_of(&map, &lookup, 8)
        .iter()
        .map(|run| {
            (run.plan_offset, run.blocks, run.extent.get_bits::<32>(0).to_u64(), run.extent_offset, run.last)
        })
        .collect();
    // Rows 0 and 1 fill extents 5 to 7; rows 2 and 3 lie in extents 8 to 10.
    assert_eq!(runs, [(0, 3, 9, Some(1), false), (3, 4, 10, Some(0), false), (7, 1, 8, Some(4), true)]);
}
