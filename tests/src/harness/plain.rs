//! A small machine without surprises, for directed tests.

use volplane_abi::{
    completion_mode, opcode, submission_mode, vd_status, AllocationEntry, DeviceEntry, ExtentEntry,
    PathEntry, SubmissionEntry, VdEntry,
};
use volplane_driver::{DmaMemory, Platform, PAGE};
use volplane_sim::{CardConfig, SimulatorConfig, SsdConfig};

use super::configuration::{Client, Configuration, Route};
use super::media::content;
use super::Machine;
use volplane::software::Tables;

/// SSDs, and columns of every disk.
const SSDS: u16 = 3;
/// Virtual disks: handles 0 and 1.
pub const DISKS: u32 = 2;
/// Blocks of a disk, of 512 bytes.
pub const BLOCKS: u64 = 3 * EXTENT_BLOCKS;
/// log2 of the blocks of an extent: each SSD holds one of each disk.
const EXTENT_SHIFT: u8 = 11;
const EXTENT_BLOCKS: u64 = 1 << EXTENT_SHIFT;
/// Bytes of a block.
const BLOCK: usize = 512;

/// Two disks striped over three SSDs in units of 8 blocks, and two client queues of 64 entries; all paths
/// in submission mode `mode`.
pub fn configuration(seed: u64, width: usize, mode: u8) -> Configuration {
    let mut tables = Tables::default();
    let mut simulator =
        SimulatorConfig::new(seed).with_card(CardConfig::new(width)).with_command_record(1 << 16);
    let mut routes = Vec::new();
    for number in 0..SSDS {
        let name = format!("nvme{number}");
        simulator = simulator.with_ssd(SsdConfig::new(&name, BLOCK as u32, u64::from(DISKS) * EXTENT_BLOCKS));
        let path = number as u8;
        routes.push(Route {
            path,
            ssd: number.into(),
            queue: 1,
            sq_entries: 64,
            cq_entries: 64,
            limit: 63,
            mode,
            completions: completion_mode::WINDOW,
        });
        tables.paths.insert(path, PathEntry::default().with_valid(1));
        let device = DeviceEntry::default().with_namespace_id(1).with_path(path).with_valid(1);
        tables.devices.insert(number, device.with_transfer_limit(256).with_write_zeroes_limit(1024));
    }
    for disk in 0..DISKS {
        let entry = VdEntry::default()
            .with_size_blocks(BLOCKS)
            .with_status(vd_status::ENABLED)
            .with_block_shift(9)
            .with_allocation_shift(13)
            .with_map_root(disk)
            .with_flush_devices((1 << SSDS) - 1);
        tables.vds.insert(disk, entry);
        let allocation = AllocationEntry::default()
            .with_first_extent(disk * u32::from(SSDS))
            .with_columns(SSDS as u8)
            .with_stripe_shift(3)
            .with_extent_shift(EXTENT_SHIFT)
            .with_valid(1);
        tables.allocations.insert(disk, allocation);
        for device in 0..SSDS {
            let start = u64::from(disk) * EXTENT_BLOCKS;
            let extent = ExtentEntry::default().with_start(start).with_device(device).with_valid(1);
            tables.extents.insert(disk * u32::from(SSDS) + u32::from(device), extent);
        }
    }
    let clients = vec![
        Client { queue: 1, entries: 64, vector: Some(1), slots: 0 },
        Client { queue: 2, entries: 64, vector: None, slots: 0 },
    ];
    Configuration { seed, simulator, routes, clients, tables, errors_of_4096: 0, mirrors: Vec::new() }
}

/// The second path to the first SSD of `two_paths`.
pub const OTHER_PATH: u8 = 5;

/// The plain machine, whose first device has a second path: `OTHER_PATH`, to another controller of its namespace.
pub fn two_paths() -> Configuration {
    let mut configuration = configuration(1, 128, submission_mode::DIRECT);
    let other = configuration.simulator.ssds[0].further_controller("other");
    configuration.simulator = configuration.simulator.with_ssd(other);
    let route = Route { path: OTHER_PATH, ssd: 3, ..configuration.routes[0].clone() };
    configuration.routes.push(route);
    let entry = configuration.tables.paths[&0];
    configuration.tables.paths.insert(OTHER_PATH, entry);
    let device = configuration.tables.devices.get_mut(&0).expect("the first device");
    *device = device.with_more_paths(1).with_path1(OTHER_PATH);
    configuration
}

/// A command on `blocks` blocks (a page at most) of disk `disk`, with its data in `buffer`.
pub fn command(code: u8, disk: u32, lba: u64, blocks: u16, buffer: &DmaMemory) -> SubmissionEntry {
    SubmissionEntry::default()
        .with_opcode(code)
        .with_namespace_id(disk + 1)
        .with_starting_lba(lba)
        .with_block_count_z(blocks - 1)
        .with_prp1(buffer.iova().0)
}

/// A client that behaves, and looks whether its data stays right whatever others do.
pub struct Bystander {
    queue: usize,
    disk: u32,
    buffer: DmaMemory,
    rounds: u64,
}

impl Bystander {
    /// On queue `queue` of the configuration, with `disk` for itself.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn new(machine: &mut Machine, queue: usize, disk: u32) -> Self {
        let buffer = machine.platform.allocate(PAGE).expect("memory");
        Self { queue, disk, buffer, rounds: 0 }
    }

    /// Writes a few blocks somewhere, reads them back, and reads what an earlier round wrote.
    ///
    /// # Panics
    /// When anything is not as it was written.
    pub fn round(&mut self, machine: &mut Machine) {
        self.rounds += 1;
        let rounds = self.rounds;
        self.buffer.write(0, &Self::data(rounds));
        self.execute(machine, opcode::WRITE, rounds);
        for written in [rounds, rounds.div_ceil(2)] {
            self.buffer.fill(0, PAGE, 0xEE);
            self.execute(machine, opcode::READ, written);
            let mut found = vec![0; PAGE];
            self.buffer.read(0, &mut found);
            let end = 7 * BLOCK;
            assert!(found[..end] == Self::data(written)[..], "data of round {written} in round {rounds}");
            assert!(found[end..].iter().all(|&byte| byte == 0xEE), "bytes behind the data");
        }
    }

    fn data(round: u64) -> Vec<u8> {
        (0..7).flat_map(|block| content(round * 7 + block, BLOCK)).collect()
    }

    fn execute(&self, machine: &mut Machine, code: u8, round: u64) {
        // Seven blocks: every so often over the border of a stripe unit.
        let lba = round * 7 % (BLOCKS - 7);
        let entry = command(code, self.disk, lba, 7, &self.buffer).with_command_id(round as u16);
        let status = machine.execute(self.queue, entry);
        assert_eq!(status, 0, "opcode {code} of round {round}");
    }
}
