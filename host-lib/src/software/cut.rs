//! What becomes of a command: its admission, and on each map its fragments in order.

use volplane_abi::plan::plan_status;
use volplane_abi::registers::{RANGE_BLOCKS_MAX, TRANSFER_BYTES_MAX};
use volplane_abi::status::{self, DNR};
use volplane_abi::{
    extent_action, opcode, vd_status, DatasetAttributes, DeallocateRange, DeviceEntry, ExtentEntry,
    SubmissionEntry, VdEntry,
};

use super::map;
use super::pages::{Memory, Pages, Segment, PAGE};
use super::plan::STATUS_KEPT;
use super::tables::Tables;

/// One NVMe command to an SSD.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// A usable path of its device, the first; the executor chooses by the device's policy.
    pub path: u8,
    /// Device.
    pub device: u16,
    /// No command: the filler writes zeros to the client's buffer.
    pub zeros: bool,
    /// Opcode.
    pub opcode: u8,
    /// NSID on the device.
    pub namespace_id: u32,
    /// First block on the device.
    pub lba: u64,
    /// Blocks; 0 for Flush.
    pub blocks: u64,
    /// Block of the command at which it begins.
    pub first: u64,
    /// Write Zeroes: deallocate.
    pub deallocate: u8,
    /// Force unit access.
    pub force_unit_access: u8,
    /// Limited retry.
    pub limited_retry: u8,
    /// Dataset management hints.
    pub cdw13: u32,
    /// Its data, or the status with which its pages cannot be had.
    pub segments: Result<Vec<Segment>, u16>,
}

/// How many of a command's fragments reach their SSDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issued {
    /// All of them.
    All,
    /// The first ones: the card may see a bad list entry before an SSD does.
    Prefix,
}

/// What a command becomes.
#[derive(Clone, Debug)]
pub struct Cuts {
    /// Fragments in order of offset.
    pub fragments: Vec<Fragment>,
    /// Which of them are issued.
    pub issued: Issued,
    /// Status when no fragment fails.
    pub closing: u16,
    /// It ends before its last block because it met an extent that faults.
    pub faulted: bool,
    /// Fragments that were cut because of where the client's list has its chain pointer.
    pub chain_cuts: usize,
}

impl Cuts {
    /// No fragments, and a status.
    pub(super) fn ended(closing: u16) -> Self {
        Self { fragments: Vec::new(), issued: Issued::All, closing, faulted: false, chain_cuts: 0 }
    }

    fn refused(code: u16) -> Self {
        Self::ended(code | DNR)
    }

    /// The status of the command when every fragment ends with what `outcome` says of it: that of the
    /// failed one with the lowest offset.
    pub fn status(&self, mut outcome: impl FnMut(&Fragment) -> u16) -> u16 {
        let failed = self.fragments.iter().map(|fragment| outcome(fragment) & STATUS_KEPT);
        failed.into_iter().find(|&status| status != 0).unwrap_or(self.closing)
    }
}

/// What the executor of a command can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Exceptions for what it cannot do. Without them: statuses.
    pub plans: bool,
}

impl Abilities {
    /// Those of the card, for a disk without a plan template.
    pub const CARD: Self = Self { plans: false };
    /// Those of the design.
    pub const ALL: Self = Self { plans: true };
}

/// A command that moves data or changes blocks.
#[derive(Clone, Debug)]
pub struct Request {
    /// The client's entry.
    pub entry: SubmissionEntry,
    /// First block of the virtual disk.
    pub lba: u64,
    /// Blocks.
    pub blocks: u64,
    /// The client's buffer, where there is one.
    pub pages: Option<Pages>,
}

/// What a command is admitted as.
#[derive(Clone, Debug)]
pub enum Admission {
    /// It ends at once with this status.
    Ends(u16),
    /// It is the control path's to execute.
    NotExecutable,
    /// It goes to every device of the disk.
    Flush,
    /// It concerns blocks.
    Blocks(Request),
}

/// The checks of `entry`, in the order in which a command that fails several of them meets them.
pub fn admit(
    tables: &Tables,
    entry: &SubmissionEntry,
    memory: &Memory<'_>,
    abilities: Abilities,
) -> Admission {
    admit_to(tables.disk_now(entry.namespace_id()).as_ref(), entry, memory, abilities)
}

/// As `admit`, to a disk as it is given.
pub(super) fn admit_to(
    disk: Option<&VdEntry>,
    entry: &SubmissionEntry,
    memory: &Memory<'_>,
    abilities: Abilities,
) -> Admission {
    let refused = |code: u16| Admission::Ends(code | DNR);
    let work = match work_of(entry, memory, abilities) {
        Ok(work) => work,
        Err(code) => return refused(code),
    };
    let Some(disk) = disk.filter(|disk| disk.status() != vd_status::ABSENT) else {
        return refused(status::INVALID_NAMESPACE);
    };
    if disk.status() == vd_status::DEACTIVATED {
        return refused(status::NAMESPACE_NOT_READY);
    }
    let (lba, blocks) = match work {
        Work::Nothing => return Admission::Ends(status::SUCCESS),
        Work::Foreign => return Admission::NotExecutable,
        Work::Flush => return Admission::Flush,
        Work::Blocks { lba, blocks } => (lba, blocks),
    };
    let pages = match entry.opcode() {
        opcode::READ | opcode::WRITE | opcode::COMPARE => {
            match transfer(entry, blocks << disk.block_shift(), memory) {
                Ok(pages) => Some(pages),
                Err(code) => return refused(code),
            }
        }
        _ => None,
    };
    if lba.checked_add(blocks).is_none_or(|end| end > disk.size_blocks()) {
        return refused(status::LBA_OUT_OF_RANGE);
    }
    Admission::Blocks(Request { entry: *entry, lba, blocks, pages })
}

/// What becomes of `entry` on its own disk's map, with `memory` as it is when the card and the SSDs read it.
pub fn cut(tables: &Tables, entry: &SubmissionEntry, memory: &Memory<'_>) -> Cuts {
    let admission = admit(tables, entry, memory, Abilities::CARD);
    let disk = tables.disk(entry.namespace_id()).copied().unwrap_or_default();
    match admission {
        Admission::Ends(status) => Cuts::ended(status),
        Admission::NotExecutable => Cuts::refused(status::INVALID_FIELD),
        Admission::Flush => flush(tables, &disk, entry),
        Admission::Blocks(request) => cut_on(tables, &disk, &request),
    }
}

/// The fragments of an admitted command on the map of `disk`.
pub fn cut_on(tables: &Tables, disk: &VdEntry, request: &Request) -> Cuts {
    Cutter { tables, disk, request }.cut()
}

/// What a command asks for.
enum Work {
    /// Succeeds at once.
    Nothing,
    /// Is for the control path.
    Foreign,
    /// Goes to every device of the disk.
    Flush,
    /// Concerns blocks.
    Blocks { lba: u64, blocks: u64 },
}

fn work_of(entry: &SubmissionEntry, memory: &Memory<'_>, abilities: Abilities) -> Result<Work, u16> {
    let blocks = Work::Blocks { lba: entry.starting_lba(), blocks: u64::from(entry.block_count_z()) + 1 };
    if entry.fuse() != 0 || entry.psdt() != 0 {
        return Err(status::INVALID_FIELD);
    }
    match entry.opcode() {
        opcode::READ | opcode::WRITE | opcode::COMPARE | opcode::WRITE_ZEROES => Ok(blocks),
        opcode::FLUSH => Ok(Work::Flush),
        opcode::DATASET_MANAGEMENT => range_of(entry, memory, abilities),
        _ => Err(status::INVALID_OPCODE),
    }
}

fn range_of(entry: &SubmissionEntry, memory: &Memory<'_>, abilities: Abilities) -> Result<Work, u16> {
    let (attributes, at) = (DatasetAttributes(entry.starting_lba().to_le_bytes()), entry.prp1());
    // Hints alone, of however many ranges, may be ignored.
    if attributes.deallocate() == 0 {
        return Ok(Work::Nothing);
    }
    if attributes.range_count_z() != 0 {
        return if abilities.plans { Ok(Work::Foreign) } else { Err(status::INVALID_FIELD) };
    }
    if at % 4 != 0 {
        return Err(status::INVALID_PRP_OFFSET);
    }
    if at % PAGE > PAGE - DeallocateRange::BYTES as u64 {
        return Err(status::INVALID_FIELD);
    }
    let (Some(low), Some(lba)) = (memory(at), memory(at + 8)) else {
        return Err(status::DATA_TRANSFER_ERROR);
    };
    match low >> 32 {
        0 => Ok(Work::Nothing),
        blocks if blocks > u64::from(RANGE_BLOCKS_MAX) => Err(status::INVALID_FIELD),
        blocks => Ok(Work::Blocks { lba, blocks }),
    }
}

fn transfer(entry: &SubmissionEntry, bytes: u64, memory: &Memory<'_>) -> Result<Pages, u16> {
    if bytes > u64::from(TRANSFER_BYTES_MAX) {
        return Err(status::INVALID_FIELD);
    }
    Pages::walk(entry.prp1(), entry.prp2(), bytes, memory)
}

/// The fragments of a Flush: one for each device of `disk`.
pub fn flush(tables: &Tables, disk: &VdEntry, entry: &SubmissionEntry) -> Cuts {
    let mut cuts = Cuts::ended(status::SUCCESS);
    for number in (0..32).filter(|number| disk.flush_devices() >> number & 1 == 1) {
        let Some(device) = tables.device(number) else {
            cuts.closing = status::INTERNAL_ERROR | DNR;
            break;
        };
        let Some(&path) = tables.usable_paths(number).first() else {
            cuts.closing = plan_status::HOST_PATH_ERROR | DNR;
            break;
        };
        cuts.fragments.push(Fragment {
            path,
            device: number,
            zeros: false,
            opcode: entry.opcode(),
            namespace_id: device.namespace_id(),
            lba: 0,
            blocks: 0,
            first: 0,
            deallocate: 0,
            force_unit_access: 0,
            limited_retry: 0,
            cdw13: 0,
            segments: Ok(Vec::new()),
        });
    }
    cuts
}

/// Cuts an admitted command.
struct Cutter<'a> {
    tables: &'a Tables,
    disk: &'a VdEntry,
    request: &'a Request,
}

/// What a run becomes.
enum Target<'a> {
    /// Commands of at most `limit` blocks, from block `start` of the device.
    Device {
        device: u16,
        entry: &'a DeviceEntry,
        limit: u64,
        start: u64,
    },
    Zeros,
    Fault,
    Nowhere,
    /// No usable path leads there.
    Unreachable,
}

impl Cutter<'_> {
    fn cut(&self) -> Cuts {
        let mut cuts = Cuts::ended(status::SUCCESS);
        let request = self.request;
        for run in map::runs(self.tables, self.disk, request.lba, request.blocks) {
            match self.target(run.place) {
                Target::Device { device, entry, limit, start } => {
                    let end = run.first + run.blocks;
                    for first in (run.first..end).step_by(limit as usize) {
                        let blocks = limit.min(end - first);
                        self.push(&mut cuts, device, Some(entry), start + (first - run.first), first, blocks);
                    }
                }
                Target::Zeros => self.push(&mut cuts, 0, None, 0, run.first, run.blocks),
                Target::Fault => {
                    (cuts.closing, cuts.faulted) = (status::INTERNAL_ERROR | DNR, true);
                    break;
                }
                Target::Nowhere => {
                    cuts.closing = status::INTERNAL_ERROR | DNR;
                    break;
                }
                Target::Unreachable => {
                    cuts.closing = plan_status::HOST_PATH_ERROR | DNR;
                    break;
                }
            }
        }
        // A list that is wrong is found by the card or by the SSD, whoever reads the entry first; the card
        // reads none for a fragment that is the whole command.
        let sound = cuts.fragments.iter().all(|fragment| fragment.segments.is_ok());
        let whole = cuts.fragments.iter().all(|fragment| fragment.blocks == request.blocks);
        if !sound && !whole {
            cuts.issued = Issued::Prefix;
        }
        cuts
    }

    fn target(&self, place: Option<(ExtentEntry, u64)>) -> Target<'_> {
        let Some((extent, offset)) = place else { return Target::Nowhere };
        match self.action(&extent) {
            extent_action::GO => {}
            extent_action::ZERO if self.reads() => return Target::Zeros,
            _ => return Target::Fault,
        }
        let device = extent.device();
        let valid = self.tables.device(device);
        let found = valid.and_then(|entry| Some((entry, self.limit(entry).filter(|&limit| limit > 0)?)));
        match found {
            Some(_) if self.tables.usable_paths(device).is_empty() => Target::Unreachable,
            Some((entry, limit)) => Target::Device { device, entry, limit, start: extent.start() + offset },
            None => Target::Nowhere,
        }
    }

    fn reads(&self) -> bool {
        self.request.entry.opcode() == opcode::READ
    }

    /// The extent's action for this command: Compare reads, too, but has no zeros to compare with.
    fn action(&self, extent: &ExtentEntry) -> u8 {
        match self.request.entry.opcode() {
            opcode::READ | opcode::COMPARE => extent.read_action(),
            _ => extent.write_action(),
        }
    }

    fn limit(&self, device: &DeviceEntry) -> Option<u64> {
        match self.request.entry.opcode() {
            opcode::READ | opcode::WRITE | opcode::COMPARE => Some(device.transfer_limit().into()),
            opcode::WRITE_ZEROES => Some(device.write_zeroes_limit().into()),
            _ => Some(u64::from(RANGE_BLOCKS_MAX)),
        }
    }

    /// Adds the fragments of a piece that its device, or without `entry` the filler, takes at once: one, or two
    /// where the client's list has its chain pointer in the wrong place.
    fn push(
        &self,
        cuts: &mut Cuts,
        device: u16,
        entry: Option<&DeviceEntry>,
        lba: u64,
        first: u64,
        blocks: u64,
    ) {
        let shift = self.disk.block_shift();
        let Some(pages) = self.request.pages.as_ref() else {
            cuts.fragments.push(self.fragment(device, entry, lba, first, blocks));
            return;
        };
        let whole = blocks == self.request.blocks;
        let (from, to) = (first << shift, (first + blocks) << shift);
        let end = if whole { to } else { pages.safe_end(from, to) };
        let kept = (end - from) >> shift;
        cuts.chain_cuts += usize::from(kept < blocks);
        for (skip, blocks) in [(0, kept), (kept, blocks - kept)] {
            if blocks > 0 {
                cuts.fragments.push(self.fragment(device, entry, lba + skip, first + skip, blocks));
            }
        }
    }

    /// Without `entry`: zeros.
    fn fragment(
        &self,
        device: u16,
        entry: Option<&DeviceEntry>,
        lba: u64,
        first: u64,
        blocks: u64,
    ) -> Fragment {
        let shift = self.disk.block_shift();
        let pages = self.request.pages.as_ref();
        let command = &self.request.entry;
        let deallocates = command.opcode() == opcode::DATASET_MANAGEMENT;
        let flag = |value: u8| if deallocates { 0 } else { value };
        let paths = entry.map(|_| self.tables.usable_paths(device)).unwrap_or_default();
        Fragment {
            path: paths.first().copied().unwrap_or(0),
            device,
            zeros: entry.is_none(),
            opcode: command.opcode(),
            namespace_id: entry.map_or(0, DeviceEntry::namespace_id),
            lba,
            blocks,
            first,
            deallocate: flag(command.deallocate()),
            force_unit_access: flag(command.force_unit_access()),
            limited_retry: flag(command.limited_retry()),
            cdw13: if deallocates { 0 } else { command.cdw13() },
            segments: pages
                .map_or(Ok(Vec::new()), |pages| pages.segments(first << shift, (first + blocks) << shift)),
        }
    }
}

#[cfg(test)]
mod tests {
    /// CDW10 and CDW11 of a Dataset Management that deallocates one range.
    const DEALLOCATE: u64 = 1 << 34;

    use super::*;
    use volplane_abi::{AllocationEntry, PathEntry};

    /// One linear disk of 4,096 blocks of 512 bytes on device 2, path 5, from block 10,000; MDTS 64 blocks.
    fn tables() -> Tables {
        let mut tables = Tables::default();
        tables.vds.insert(
            3,
            VdEntry::default()
                .with_size_blocks(4096)
                .with_status(vd_status::ENABLED)
                .with_block_shift(9)
                .with_allocation_shift(12)
                .with_flush_devices(1 << 2),
        );
        let allocation =
            AllocationEntry::default().with_columns(1).with_stripe_shift(11).with_extent_shift(11);
        tables.allocations.insert(0, allocation.with_valid(1));
        let extent = ExtentEntry::default().with_start(10_000).with_device(2).with_valid(1);
        tables.extents.insert(0, extent);
        tables.extents.insert(1, extent.with_start(20_000).with_write_action(extent_action::FAULT));
        let device = DeviceEntry::default().with_namespace_id(9).with_path(5).with_valid(1);
        tables.devices.insert(2, device.with_transfer_limit(64).with_write_zeroes_limit(100));
        tables.paths.insert(5, PathEntry::default().with_valid(1));
        tables
    }

    fn command(code: u8, lba: u64, blocks: u16) -> SubmissionEntry {
        SubmissionEntry::default()
            .with_opcode(code)
            .with_namespace_id(4)
            .with_starting_lba(lba)
            .with_block_count_z(blocks.wrapping_sub(1))
            .with_prp1(0x10_0000)
            .with_prp2(0x20_0000)
    }

    /// Lists anywhere hold pages that follow one another.
    fn memory(at: u64) -> Option<u64> {
        Some(0x10_0000 + (at % PAGE / 8 + 1) * PAGE)
    }

    fn places(cuts: &Cuts) -> Vec<(u64, u64, u64)> {
        cuts.fragments.iter().map(|fragment| (fragment.first, fragment.lba, fragment.blocks)).collect()
    }

    #[test]
    fn transfer_limits_cut_reads_and_not_deallocations() {
        let tables = tables();
        let read = cut(&tables, &command(opcode::READ, 2040, 80), &memory);
        assert_eq!(places(&read), [(0, 12_040, 8), (8, 20_000, 64), (72, 20_064, 8)]);
        assert_eq!(read.fragments[1].segments.as_ref().map(Vec::len), Ok(8));
        assert_eq!(read.fragments[1].namespace_id, 9);
        let zeroes = cut(&tables, &command(opcode::WRITE_ZEROES, 0, 201), &memory);
        assert_eq!(places(&zeroes), [(0, 10_000, 100), (100, 10_100, 100), (200, 10_200, 1)]);
        let range = |at| Some(if at % 16 == 0 { 1500 << 32 } else { 7 });
        let deallocate = command(opcode::DATASET_MANAGEMENT, DEALLOCATE, 1);
        assert_eq!(places(&cut(&tables, &deallocate, &range)), [(0, 10_007, 1500)]);
    }

    #[test]
    fn faulting_extents_stop_where_they_are_met() {
        let write = cut(&tables(), &command(opcode::WRITE, 2040, 16), &memory);
        assert_eq!(places(&write), [(0, 12_040, 8)]);
        assert_eq!(write.status(|_| 0), 0x4006);
        assert_eq!(write.status(|_| 0x6281), 0x4281, "the fragment's own, without More");
    }

    #[test]
    fn zeros_have_no_limit_and_no_device() {
        let mut tables = tables();
        let extent = tables.extents[&1].with_read_action(extent_action::ZERO).with_device(7);
        tables.extents.insert(1, extent);
        let read = cut(&tables, &command(opcode::READ, 2040, 200), &memory);
        let zeros: Vec<bool> = read.fragments.iter().map(|fragment| fragment.zeros).collect();
        assert_eq!((places(&read), zeros), (vec![(0, 12_040, 8), (8, 0, 192)], vec![false, true]));
        let segments = read.fragments[1].segments.as_ref().expect("sound");
        assert_eq!(segments.iter().map(|segment| segment.len).sum::<u32>(), 192 * 512);
        let compare = command(opcode::COMPARE, 2048, 8).with_namespace_id(4);
        let Admission::Blocks(request) = admit(&tables, &compare, &memory, Abilities::ALL) else {
            panic!("it concerns blocks");
        };
        let cuts = cut_on(&tables, &tables.vds[&3], &request);
        assert_eq!((places(&cuts), cuts.faulted), (vec![], true), "nothing to compare with");
    }

    #[test]
    fn refusals_in_their_order() {
        let tables = tables();
        let refusal = |entry: SubmissionEntry| {
            let cuts = cut(&tables, &entry, &memory);
            assert!(cuts.fragments.is_empty());
            cuts.closing
        };
        let read = command(opcode::READ, 0, 8);
        assert_eq!(refusal(read.with_opcode(0x0C)), 0x4001);
        assert_eq!(refusal(read.with_fuse(1)), 0x4002);
        assert_eq!(refusal(read.with_namespace_id(0)), 0x400B);
        assert_eq!(refusal(read.with_namespace_id(3)), 0x400B);
        assert_eq!(refusal(read.with_block_count_z(2048)), 0x4002);
        assert_eq!(refusal(read.with_prp1(2).with_starting_lba(u64::MAX)), 0x4013);
        assert_eq!(refusal(read.with_starting_lba(u64::MAX - 3)), 0x4080);
        assert_eq!(refusal(read.with_starting_lba(4089)), 0x4080);
        let range = command(opcode::DATASET_MANAGEMENT, DEALLOCATE, 1);
        assert_eq!(refusal(range.with_starting_lba(DEALLOCATE | 1)), 0x4002);
        assert_eq!(refusal(range.with_prp1(0xFF4)), 0x4002);
        assert_eq!(refusal(range.with_prp1(0xFF2)), 0x4013);
        assert_eq!(refusal(range.with_starting_lba(0)), 0);
        assert_eq!(refusal(range.with_starting_lba(7)), 0);
    }

    #[test]
    fn a_flush_goes_to_every_device() {
        let mut tables = tables();
        let flush = cut(&tables, &command(opcode::FLUSH, 99_999, 1), &memory);
        assert_eq!((places(&flush), flush.closing), (vec![(0, 0, 0)], 0));
        tables.paths.clear();
        assert_eq!(cut(&tables, &command(opcode::FLUSH, 0, 1), &memory).closing, 0x4370);
        tables.devices.clear();
        assert_eq!(cut(&tables, &command(opcode::FLUSH, 0, 1), &memory).closing, 0x4006);
    }

    #[test]
    fn a_device_is_reached_while_one_path_is_valid() {
        let mut tables = tables();
        let device = tables.devices[&2].with_more_paths(2).with_path1(7).with_path2(6).with_path3(8);
        tables.devices.insert(2, device);
        let valid = PathEntry::default().with_valid(1);
        tables.paths = [(5, PathEntry::default()), (6, valid), (8, valid)].into();
        let read = command(opcode::READ, 0, 1);
        let paths = |tables: &Tables| {
            let cuts = cut(tables, &read, &memory);
            (cuts.closing, cuts.fragments.iter().map(|fragment| fragment.path).collect::<Vec<_>>())
        };
        assert_eq!(paths(&tables), (0, vec![6]));
        // Path 8 would be the fourth, and there are three.
        tables.paths.remove(&6);
        assert_eq!(paths(&tables), (0x4370, vec![]));
        tables.devices.insert(2, device.with_transfer_limit(0));
        assert_eq!(paths(&tables), (0x4006, vec![]), "the map comes before the paths");
        tables.devices.insert(2, device.with_valid(0));
        assert_eq!(paths(&tables), (0x4006, vec![]));
    }
}
