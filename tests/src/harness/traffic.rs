//! Random commands, sound ones and all kinds of wrong ones.

use std::collections::BTreeMap;

use rand::seq::IndexedRandom;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::registers::{RANGE_BLOCKS_MAX, TRANSFER_BYTES_MAX};
use volplane_abi::{extent_action, opcode, vd_status};
use volplane_abi::{DeallocateRange, ExtentEntry, SubmissionEntry, VdEntry};

use super::arena::{Arena, Buffer};
use super::disks::borders;
use super::prp_faults::spoil;
use volplane::software::{map, Tables};

/// Fragments of most commands; only a few may have more.
const FRAGMENTS_USUAL: usize = 48;
/// Fragments of any command.
const FRAGMENTS_MAX: usize = 2049;
/// Bytes of zeros that take the narrowest card about as long as a fragment.
const ZEROS_OF_FRAGMENT: u64 = 128;
/// Dataset Management: deallocate (CDW11 bit 2).
const DEALLOCATE: u64 = 1 << 34;
/// Of so many reads of mirrored disks one compares instead.
const COMPARED_OF: u32 = 4;

/// Blocks of a disk that a command under way concerns.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Handle.
    pub disk: u32,
    /// First block.
    pub lba: u64,
    /// Blocks.
    pub blocks: u64,
    /// Whether they may change.
    pub writes: bool,
}

impl Claim {
    /// Whether the order of two commands matters.
    pub fn conflicts(&self, other: &Claim) -> bool {
        self.overlaps(other) && (self.writes || other.writes)
    }

    /// Whether two commands share a block.
    pub fn overlaps(&self, other: &Claim) -> bool {
        let apart = self.lba + self.blocks <= other.lba || other.lba + other.blocks <= self.lba;
        self.disk == other.disk && !apart
    }
}

/// A command to send. The identifier is not set yet.
#[derive(Clone, Debug)]
pub struct Request {
    /// The entry.
    pub entry: SubmissionEntry,
    /// Its data, or its range.
    pub buffer: Buffer,
    /// What it concerns, if it is admitted at all.
    pub claim: Claim,
}

/// Makes commands.
pub struct Traffic {
    random: ChaCha8Rng,
    /// Disks that execute I/O, with places worth visiting.
    disks: Vec<(u32, Vec<u64>)>,
}

impl Traffic {
    /// Traffic for the disks in `tables`.
    pub fn new(mut random: ChaCha8Rng, tables: &Tables) -> Self {
        let enabled = tables.vds.iter().filter(|(_, disk)| disk.status() == vd_status::ENABLED);
        let disks = enabled
            .map(|(&handle, disk)| {
                let mut spots = borders(tables, disk);
                spots.extend((0..8).map(|_| random.random_range(0..disk.size_blocks())));
                (handle, spots)
            })
            .collect();
        Self { random, disks }
    }

    /// The next command that conflicts with none of `claims`; `None` when none was found at once.
    pub fn next(
        &mut self,
        tables: &Tables,
        arena: &mut Arena,
        claims: &BTreeMap<u64, Claim>,
    ) -> Option<Request> {
        let code = match self.random.random_range(0..100) {
            0..45 => opcode::READ,
            45..80 => opcode::WRITE,
            80..84 => opcode::FLUSH,
            84..92 => opcode::WRITE_ZEROES,
            _ => opcode::DATASET_MANAGEMENT,
        };
        let claim = self.range(tables, code, claims)?;
        let disk = &tables.vds[&claim.disk];
        let compares = code == opcode::READ && disk.plan() != 0 && self.random.random_ratio(1, COMPARED_OF);
        let code = if compares { opcode::COMPARE } else { code };
        let buffer = self.buffer(arena, disk, code, &claim)?;
        let random = &mut self.random;
        let mut entry = SubmissionEntry::default()
            .with_opcode(code)
            .with_namespace_id(claim.disk + 1)
            .with_cdw2_3(random.random())
            .with_metadata_pointer(random.random())
            .with_prp1(buffer.prp1)
            .with_prp2(buffer.prp2)
            .with_starting_lba(claim.lba)
            .with_block_count_z((claim.blocks.max(1) - 1) as u16)
            .with_force_unit_access(random.random_bool(0.3).into())
            .with_limited_retry(random.random_bool(0.3).into())
            .with_cdw14_15(random.random());
        if [opcode::READ, opcode::WRITE, opcode::COMPARE].contains(&code) {
            entry = entry.with_cdw13(random.random());
        }
        if code == opcode::FLUSH {
            // Reserved: they name no blocks.
            entry = entry.with_starting_lba(random.random()).with_block_count_z(random.random());
        }
        if code == opcode::WRITE_ZEROES {
            entry = entry.with_deallocate(random.random_bool(0.5).into());
        }
        if code == opcode::DATASET_MANAGEMENT {
            // IDR and IDW are hints.
            entry = entry.with_starting_lba(DEALLOCATE | random.random_range(0..4) << 32);
        }
        let mut request = Request { entry, buffer, claim };
        match self.random.random_range(0..100) {
            // Whether the card or an SSD finds a wrong list decides whether a component fails of it.
            0..4 if disk.plan() == 0 && (code == opcode::READ || code == opcode::WRITE) => {
                request.entry = spoil(&mut self.random, arena, &mut request.buffer, entry);
            }
            4..10 => self.break_command(tables, arena, &mut request),
            _ => {}
        }
        Some(request)
    }

    /// Blocks for a command that conflicts with nothing.
    fn range(&mut self, tables: &Tables, code: u8, claims: &BTreeMap<u64, Claim>) -> Option<Claim> {
        for _ in 0..8 {
            let (handle, spots) = self.disks.choose(&mut self.random)?;
            let (handle, disk) = (*handle, &tables.vds[handle]);
            let spot = *spots.choose(&mut self.random)?;
            if code == opcode::FLUSH {
                return Some(Claim { disk: handle, lba: 0, blocks: 0, writes: false });
            }
            let blocks = self.blocks(code, disk.block_shift()).min(disk.size_blocks());
            let before = self.random.random_range(0..=blocks + 8);
            let after = if self.random.random_bool(0.2) { self.random.random_range(0..512) } else { 0 };
            let lba = (spot.saturating_sub(before) + after).min(disk.size_blocks() - blocks);
            let blocks = self.bounded(tables, disk, code, lba, blocks);
            let claim = Claim { disk: handle, lba, blocks, writes: code != opcode::READ };
            // The card orders overlapping writes to several copies.
            if disk.plan() != 0 || !claims.values().any(|other| claim.conflicts(other)) {
                return Some(claim);
            }
        }
        None
    }

    /// Most blocks of a command.
    fn longest(&self, code: u8, block_shift: u8) -> u64 {
        match code {
            opcode::READ | opcode::WRITE => u64::from(TRANSFER_BYTES_MAX) >> block_shift,
            _ => u64::from(RANGE_BLOCKS_MAX),
        }
    }

    /// A number of blocks: small mostly.
    fn blocks(&mut self, code: u8, block_shift: u8) -> u64 {
        let most = self.longest(code, block_shift);
        let wished = match self.random.random_range(0..1000) {
            0..700 => self.random.random_range(1..=16),
            700..930 => self.random.random_range(1..=64),
            930..992 => self.random.random_range(1..=256),
            992..997 => self.random.random_range(1..=most),
            _ => most,
        };
        wished.min(most)
    }

    /// Fewer blocks where they would make too many fragments; now and then as many as they may make.
    fn bounded(&mut self, tables: &Tables, disk: &VdEntry, code: u8, lba: u64, mut blocks: u64) -> u64 {
        let most = if self.random.random_ratio(1, 40) { FRAGMENTS_MAX } else { FRAGMENTS_USUAL };
        let wide = self.random.random_ratio(1, 1000);
        let (most, shrink) = if wide { (FRAGMENTS_MAX, 2) } else { (most, 4) };
        if wide {
            let longest = self.longest(code, disk.block_shift());
            blocks = longest.min(disk.size_blocks() - lba);
        }
        loop {
            let fragments = |run: map::Run| {
                let zeros = |(extent, _): (ExtentEntry, u64)| extent.read_action() == extent_action::ZERO;
                if code == opcode::READ && !wide && run.place.is_some_and(zeros) {
                    return (run.blocks << disk.block_shift()).div_ceil(ZEROS_OF_FRAGMENT) as usize;
                }
                let device = run.place.and_then(|(extent, _)| tables.devices.get(&extent.device()));
                let limit = match (device, code) {
                    (None, _) | (_, opcode::DATASET_MANAGEMENT) => RANGE_BLOCKS_MAX,
                    (Some(device), opcode::WRITE_ZEROES) => device.write_zeroes_limit(),
                    (Some(device), _) => device.transfer_limit(),
                };
                run.blocks.div_ceil(limit.into()) as usize
            };
            if map::runs(tables, disk, lba, blocks).into_iter().map(fragments).sum::<usize>() <= most {
                return blocks;
            }
            blocks = (blocks / shrink).max(1);
        }
    }

    fn buffer(&mut self, arena: &mut Arena, disk: &VdEntry, code: u8, claim: &Claim) -> Option<Buffer> {
        let random = &mut self.random;
        match code {
            opcode::READ | opcode::WRITE | opcode::COMPARE => {
                arena.buffer(random, (claim.blocks << disk.block_shift()) as usize, disk.block_shift())
            }
            opcode::DATASET_MANAGEMENT => {
                let range = DeallocateRange::default()
                    .with_attributes(random.random())
                    .with_block_count(claim.blocks as u32)
                    .with_starting_lba(claim.lba);
                arena.record(random, &range.0)
            }
            // They have no data, whatever their PRP entries say.
            _ => Some(Buffer::none(random.random(), random.random())),
        }
    }

    /// Makes one thing wrong with a command.
    fn break_command(&mut self, tables: &Tables, arena: &Arena, request: &mut Request) {
        let entry = request.entry;
        let random = &mut self.random;
        let known = [0, 1, 2, 5, 8, 9];
        request.entry = match random.random_range(0..8) {
            0 => loop {
                let code: u8 = random.random();
                if !known.contains(&code) {
                    break entry.with_opcode(code);
                }
            },
            1 if random.random_bool(0.5) => entry.with_fuse(random.random_range(1..4)),
            1 => entry.with_psdt(random.random_range(1..4)),
            2 => {
                let strange = [0, u32::MAX, 257, 1 << 16 | (request.claim.disk + 1), random.random()];
                let missing = strange[random.random_range(0..strange.len())];
                if tables.disk(missing).is_some() {
                    return;
                }
                entry.with_namespace_id(missing)
            }
            3 => {
                let refusing = tables.vds.iter().filter(|(_, disk)| disk.status() != vd_status::ENABLED);
                let handles: Vec<u32> = refusing.map(|(&handle, _)| handle).collect();
                entry.with_namespace_id(handles[random.random_range(0..handles.len())] + 1)
            }
            4 | 5 if entry.opcode() == opcode::DATASET_MANAGEMENT => {
                self.break_range(tables, arena, request);
                return;
            }
            4 | 5 => entry.with_starting_lba(self.beyond(tables, &request.claim)),
            6 if [opcode::READ, opcode::WRITE, opcode::COMPARE].contains(&entry.opcode()) => {
                let shift = tables.vds[&request.claim.disk].block_shift();
                let most = TRANSFER_BYTES_MAX >> shift;
                entry.with_block_count_z(random.random_range(most..=0xFFFF) as u16)
            }
            _ => return,
        };
    }

    /// A first block with which the command ends beyond its disk.
    fn beyond(&mut self, tables: &Tables, claim: &Claim) -> u64 {
        let (random, size) = (&mut self.random, tables.vds[&claim.disk].size_blocks());
        match random.random_range(0..5) {
            0 => size - claim.blocks.max(1).min(size) + 1,
            1 => size + random.random_range(0..1000),
            2 => u64::MAX - random.random_range(0..=claim.blocks),
            3 => claim.lba | 1 << random.random_range(49..64),
            _ => random.random_range(1 << 48..u64::MAX),
        }
    }

    fn break_range(&mut self, tables: &Tables, arena: &Arena, request: &mut Request) {
        let entry = request.entry;
        let range = DeallocateRange::default()
            .with_block_count(request.claim.blocks as u32)
            .with_starting_lba(request.claim.lba);
        let page = entry.prp1() & !0xFFF;
        let kind = self.random.random_range(0..8);
        // Only a disk with a plan has somebody who executes several ranges.
        let is_planned = tables.vds[&request.claim.disk].plan() != 0;
        let kind = if is_planned && self.random.random_bool(0.4) { 3 } else { kind };
        let changed = match kind {
            0 => range.with_starting_lba(self.beyond(tables, &request.claim)),
            1 => range.with_block_count(0),
            2 => range.with_block_count(self.random.random_range(RANGE_BLOCKS_MAX + 1..=u32::MAX)),
            _ => range,
        };
        arena.write(&request.buffer, &changed.0);
        let random = &mut self.random;
        request.entry = match kind {
            3 => entry.with_starting_lba(DEALLOCATE | random.random_range(1..256)),
            4 => entry.with_starting_lba(random.random_range(0..4) << 32 | random.random_range(0..256)),
            5 => entry.with_prp1(entry.prp1() | random.random_range(1..4)),
            6 => entry.with_prp1(page + 4096 - 4 * random.random_range(1..4)),
            7 => entry.with_prp1(arena.hole() + 4096 + entry.prp1() % 4096),
            _ => entry,
        };
    }
}
