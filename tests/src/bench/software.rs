//! What the software data path needs for a mirrored write, beside the card's cycles for the same.
//!
//! Only the decisions are measured, as of the card: SSDs answer at once, and no byte of data is moved. The ratio sets
//! a measured time of this machine against cycles at a clock from place and route, so it is a projection.

use std::time::Instant;

use volplane::software::{Action, Bounds, ClientTag, DataPath, Tables};
use volplane_abi::plan::{component_state, read_policy};
use volplane_abi::tables::vd_status;
use volplane_abi::{
    extent_action, opcode, AllocationEntry, ComponentEntry, ComponentStates, DeviceEntry, ExtentEntry,
    PathEntry, PlanEntry, PlanMasks, SubmissionEntry, VdEntry,
};

use super::figure::{Direction, Figure};

/// The mirrored disk, behind those of its copies.
const MIRROR: u16 = 8;
/// Copies.
const COPIES: u16 = 2;
/// Blocks of 512 bytes of a write.
const BLOCKS: u64 = 8;
/// Disks have 2^this blocks.
const SIZE_SHIFT: u8 = 20;
/// Writes in flight.
const DEPTH: u64 = 64;
/// Writes of a round, of which the quickest counts: what else the machine does only adds time.
const WRITES: u64 = 20_000;
const ROUNDS: usize = 5;

/// Nanoseconds of a 4 KiB write to a mirror of two.
pub fn figure() -> Figure {
    let rounds = (0..ROUNDS).map(|_| nanoseconds(WRITES));
    let best = rounds.min_by(f64::total_cmp).expect("a round");
    Figure::new("software_ns_per_mirror2_write_4k", best, "ns", Direction::Lower)
}

/// How many times as long the software takes as the card would at the clock of place and route; without one of the
/// three figures it says nothing.
pub fn projection(figures: &[Figure]) -> Option<Figure> {
    let value = |name: &str| figures.iter().find(|figure| figure.name == name).map(|figure| figure.value);
    let cycles = value("cycles_per_mirror2_write_4k_w128")?;
    let card = cycles * 1_000.0 / value("fmax_mhz")?;
    let ratio = value("software_ns_per_mirror2_write_4k")? / card;
    Some(Figure::new("projected_software_to_card_mirror2_write_4k", ratio, "times", Direction::Higher))
}

fn tables() -> Tables {
    let mut tables = Tables::default();
    let disk = VdEntry::default()
        .with_size_blocks(1 << SIZE_SHIFT)
        .with_status(vd_status::ENABLED)
        .with_block_shift(9)
        .with_allocation_shift(SIZE_SHIFT);
    let mut states = ComponentStates::default();
    for copy in 0..COPIES {
        let root = u32::from(copy);
        tables.vds.insert(root, disk.with_map_root(root).with_flush_devices(1 << copy));
        let allocation = AllocationEntry::default()
            .with_first_extent(root)
            .with_columns(1)
            .with_stripe_shift(SIZE_SHIFT)
            .with_extent_shift(SIZE_SHIFT)
            .with_valid(1);
        tables.allocations.insert(root, allocation);
        let extent =
            ExtentEntry::default().with_device(copy).with_read_action(extent_action::GO).with_valid(1);
        tables.extents.insert(root, extent);
        let device = DeviceEntry::default()
            .with_namespace_id(1)
            .with_transfer_limit(64)
            .with_write_zeroes_limit(64)
            .with_path(copy as u8)
            .with_valid(1);
        tables.devices.insert(copy, device);
        tables.paths.insert(copy as u8, PathEntry::default().with_limit(1_000).with_valid(1));
        let component = ComponentEntry::default()
            .with_disk(copy)
            .with_allocation_shift(SIZE_SHIFT)
            .with_map_root(root)
            .with_flush_devices(1 << copy);
        tables.components.insert(ComponentEntry::index(1, copy.into()), component);
        states = states.with_state(copy.into(), component_state::IN_SYNC);
    }
    let masks = PlanMasks::default().with_continuation((1 << COPIES) - 1).field();
    let plan = PlanEntry::default()
        .with_read_masks(masks)
        .with_write_masks(masks)
        .with_read_policy(read_policy::ROUND_ROBIN)
        .with_minimum(1);
    tables.plans.insert(1, plan);
    tables.vds.insert(MIRROR.into(), disk.with_plan(1));
    tables.states.insert(MIRROR, states);
    tables
}

/// Of one round: writes in turn to places that do not meet, `DEPTH` of them at once.
///
/// # Panics
/// When a write fails, or does not go to all copies.
fn nanoseconds(writes: u64) -> f64 {
    let mut path = DataPath::new(Bounds::default());
    path.change_tables(|own| *own = tables());
    let began = Instant::now();
    let (mut sent, mut done, mut issued) = (0, 0, 0);
    while done < writes {
        while sent < writes && sent - done < DEPTH {
            let lba = sent % ((1 << SIZE_SHIFT) / BLOCKS) * BLOCKS;
            let entry = SubmissionEntry::default()
                .with_opcode(opcode::WRITE)
                .with_namespace_id(u32::from(MIRROR) + 1)
                .with_prp1(4096 * (1 + sent % DEPTH))
                .with_starting_lba(lba)
                .with_block_count_z((BLOCKS - 1) as u16);
            path.submit(ClientTag { queue: 1, command: sent as u16 }, entry, &|_| None);
            sent += 1;
        }
        let action = path.next_action().expect("writes are under way");
        match action {
            Action::Issue { id, .. } => {
                issued += 1;
                path.returned(id, 0);
            }
            Action::Complete { status, .. } => {
                assert_eq!(status, 0, "a write failed");
                done += 1;
            }
            other => panic!("nothing is wrong, yet {other:?}"),
        }
    }
    assert_eq!(issued, writes * u64::from(COPIES), "not all copies were written");
    began.elapsed().as_nanos() as f64 / writes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_writes_all_copies() {
        let taken = nanoseconds(2_000);
        println!("{taken:.0} ns a write");
        assert!(taken > 0.0);
    }

    #[test]
    fn the_projection_needs_all_three_figures() {
        let figure = |name: &str, value| Figure::new(name, value, "", Direction::Lower);
        let mut figures = vec![
            figure("cycles_per_mirror2_write_4k_w128", 12.0),
            figure("software_ns_per_mirror2_write_4k", 1_000.0),
        ];
        assert_eq!(projection(&figures), None);
        // 12 cycles at 100 MHz are 120 ns.
        figures.push(figure("fmax_mhz", 100.0));
        assert_eq!(projection(&figures).map(|figure| figure.value), Some(8.333));
    }
}
