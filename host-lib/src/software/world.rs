//! SSDs for the tests of the engine: they keep a number for each block, and answer when they are told to.

use std::collections::BTreeMap;
use std::ops::Range;

use volplane_abi::{
    extent_action, opcode, vd_status, AllocationEntry, DeviceEntry, DivertEntry, ExtentEntry, PathEntry,
    SubmissionEntry, VdEntry,
};

use super::engine::{Action, Bounds, DataPath};
use super::{ClientTag, Fragment};

/// Blocks of every disk: four stripe units of 8 on each of two columns.
pub const BLOCKS: u64 = 64;
const UNIT_SHIFT: u8 = 3;

/// What was asked of an SSD.
#[derive(Clone, Debug)]
pub struct Asked {
    pub id: u64,
    pub path: u8,
    pub fragment: Fragment,
}

/// Engine, SSDs, and what the engine said.
pub struct World {
    pub engine: DataPath,
    /// Content of (device, block).
    pub media: BTreeMap<(u16, u64), u64>,
    /// Content of (client command, block of the command) that was read.
    pub read: BTreeMap<(u64, u64), u64>,
    pub asked: Vec<Asked>,
    pub completed: Vec<(ClientTag, u16)>,
    pub fences: Vec<u8>,
    pub deactivated: Vec<u16>,
    pub moved_out: Vec<(u16, usize)>,
    pub fills: Vec<u64>,
    /// Identifier and path of raw commands.
    pub raw: Vec<(u64, u8)>,
}

impl World {
    /// Disks 0 to `disks` − 1, disk n striped over devices 2n and 2n + 1, each behind `paths` paths.
    pub fn new(disks: u16, paths: u8, limit: u16, bounds: Bounds) -> Self {
        let mut engine = DataPath::new(bounds);
        engine.change_tables(|tables| {
            for disk in 0..disks {
                let root = u32::from(disk);
                let vd = VdEntry::default()
                    .with_size_blocks(BLOCKS)
                    .with_status(vd_status::ENABLED)
                    .with_block_shift(9)
                    .with_allocation_shift(6)
                    .with_map_root(root)
                    .with_flush_devices(3 << (2 * disk));
                tables.vds.insert(root, vd);
                let allocation = AllocationEntry::default()
                    .with_first_extent(2 * root)
                    .with_columns(2)
                    .with_stripe_shift(UNIT_SHIFT)
                    .with_extent_shift(5)
                    .with_valid(1);
                tables.allocations.insert(root, allocation);
                for column in 0..2 {
                    let device = 2 * disk + column;
                    let extent = ExtentEntry::default()
                        .with_start(1000)
                        .with_device(device)
                        .with_read_action(extent_action::GO)
                        .with_valid(1);
                    tables.extents.insert(device.into(), extent);
                    let first = device as u8 * paths;
                    let entry = DeviceEntry::default()
                        .with_namespace_id(u32::from(device) + 1)
                        .with_transfer_limit(64)
                        .with_write_zeroes_limit(64)
                        .with_more_paths(paths - 1)
                        .with_path(first)
                        .with_path1(first + 1)
                        .with_path2(first + 2)
                        .with_path3(first + 3)
                        .with_valid(1);
                    tables.devices.insert(device, entry);
                    for path in first..first + paths {
                        tables.paths.insert(path, PathEntry::default().with_limit(limit).with_valid(1));
                    }
                }
            }
        });
        Self {
            engine,
            media: BTreeMap::new(),
            read: BTreeMap::new(),
            asked: Vec::new(),
            completed: Vec::new(),
            fences: Vec::new(),
            deactivated: Vec::new(),
            moved_out: Vec::new(),
            fills: Vec::new(),
            raw: Vec::new(),
        }
    }

    /// Diverts these blocks of disk 0, which has a template, and no others.
    pub fn divert(&mut self, ranges: &[Range<u64>]) {
        self.engine.change_tables(|tables| {
            let number = tables.vds[&0].plan();
            let entries = ranges.iter().map(|range| {
                DivertEntry::default().with_first(range.start).with_last(range.end - 1).with_valid(1)
            });
            tables.diverts = (7..).zip(entries).collect();
            let plan = tables.plans.get_mut(&number).expect("a template");
            *plan = plan.with_first_divert(7).with_diverts(ranges.len() as u8);
        });
    }

    /// Submits a command of at most one page; `serial` is its number and the content that it writes.
    pub fn submit(&mut self, client: ClientTag, code: u8, disk: u16, lba: u64, blocks: u16, serial: u64) {
        self.engine.submit(client, command(code, disk, lba, blocks, serial), &|_| None);
        self.listen();
    }

    /// Takes the engine's actions.
    pub fn listen(&mut self) {
        while let Some(action) = self.engine.next_action() {
            match action {
                Action::Issue { id, path, fragment } => self.asked.push(Asked { id, path, fragment }),
                Action::Fill { id, .. } => self.fills.push(id),
                Action::Raw { id, path, .. } => self.raw.push((id, path)),
                Action::Complete { client, status } => self.completed.push((client, status)),
                Action::Fence { path } => self.fences.push(path),
                Action::Deactivated { disk } => self.deactivated.push(disk),
                Action::MovedOut { disk, component } => self.moved_out.push((disk, component)),
            }
        }
    }

    /// Executes the command at `place` of `asked`, without an answer.
    pub fn execute(&mut self, place: usize) {
        let fragment = &self.asked[place].fragment;
        let serial = u64::from(fragment.cdw13);
        for block in 0..fragment.blocks {
            let at = (fragment.device, fragment.lba + block);
            match fragment.opcode {
                opcode::WRITE => {
                    self.media.insert(at, serial);
                }
                opcode::WRITE_ZEROES => {
                    self.media.insert(at, 0);
                }
                opcode::READ => {
                    let content = self.media.get(&at).copied().unwrap_or_default();
                    self.read.insert((serial, fragment.first + block), content);
                }
                _ => {}
            }
        }
    }

    /// Answers the command at `place` of `asked`.
    pub fn answer(&mut self, place: usize, status: u16) {
        let asked = self.asked.remove(place);
        self.engine.returned(asked.id, status);
        self.listen();
    }

    /// Executes and answers everything, as `status` says by device.
    pub fn settle(&mut self, status: impl Fn(&Fragment) -> u16) {
        while let Some(asked) = self.asked.first() {
            let status = status(&asked.fragment);
            if status == 0 {
                self.execute(0);
            }
            self.answer(0, status);
        }
    }
}

/// A client's command, with its buffer in one page and its serial number as hints.
pub fn command(code: u8, disk: u16, lba: u64, blocks: u16, serial: u64) -> SubmissionEntry {
    SubmissionEntry::default()
        .with_opcode(code)
        .with_namespace_id(u32::from(disk) + 1)
        .with_starting_lba(lba)
        .with_block_count_z(blocks.wrapping_sub(1))
        .with_prp1(0x10_0000)
        .with_cdw13(serial as u32)
}
