//! From operations to commands of a client: how they are cut, and what is in an entry.

use volplane_abi::{opcode, registers, DatasetAttributes, DeallocateRange, SubmissionEntry};
use volplane_driver::{Capabilities, DmaMemory};

use super::prp;
use crate::map::DiskMap;
use crate::service::{Operation, VdHandle};

/// What a disk's devices allow in one command to any of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceLimits {
    /// Most blocks of a Read or Write.
    pub(crate) transfer_blocks: u32,
    /// Most blocks of a Write Zeroes.
    pub(crate) write_zeroes_blocks: u32,
    /// Most blocks of a Dataset Management range.
    pub(crate) deallocate_blocks: u32,
}

/// What the executor of commands allows in one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommandLimits {
    /// Most fragments of one component.
    pub(crate) fragments: u32,
    /// Most bytes of a Read or Write.
    pub(crate) transfer_bytes: u32,
}

impl From<&Capabilities> for CommandLimits {
    fn from(card: &Capabilities) -> Self {
        Self { fragments: card.fragments, transfer_bytes: card.transfer_bytes }
    }
}

/// What is allowed in one command to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskLimits {
    pub(crate) handle: VdHandle,
    pub(crate) blocks: u64,
    pub(crate) block_shift: u8,
    /// Most blocks of a Read or Write, a power of two, as are the next two.
    pub(crate) transfer: u64,
    /// Most blocks of a Write Zeroes.
    pub(crate) write_zeroes: u64,
    /// Most blocks of a deallocation.
    pub(crate) deallocate: u64,
}

impl DiskLimits {
    /// A command must not have more fragments than a component may, nor reach beyond the
    /// allocation after the one it begins in. `devices` are the least limits of the disk's devices.
    pub(crate) fn new(handle: VdHandle, map: &DiskMap, devices: &DeviceLimits, most: CommandLimits) -> Self {
        let unit = map.segments.iter().map(|segment| 1u64 << segment.stripe_shift).min().unwrap_or(1);
        let longest = |blocks: u64, device: u32| {
            let fragment = unit.min(u64::from(device.max(1)));
            let fragments = u64::from(most.fragments.max(3));
            // Fragments of one block never add one for an unaligned end.
            let reach = if fragment == 1 { fragments } else { (fragments - 2) * fragment };
            let blocks = blocks.min(reach).min(1 << map.allocation_shift).max(1);
            1 << blocks.ilog2()
        };
        let transfer_bytes = most.transfer_bytes.min(registers::TRANSFER_BYTES_MAX);
        let range = u64::from(registers::RANGE_BLOCKS_MAX);
        Self {
            handle,
            blocks: map.blocks(),
            block_shift: map.block_shift,
            transfer: longest(u64::from(transfer_bytes >> map.block_shift), devices.transfer_blocks),
            write_zeroes: longest(range, devices.write_zeroes_blocks),
            // The card does not cut ranges at a device's own limit, so the command is cut here.
            deallocate: longest(range.min(devices.deallocate_blocks.into()), u32::MAX),
        }
    }

    /// What both allow.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            transfer: self.transfer.min(other.transfer),
            write_zeroes: self.write_zeroes.min(other.write_zeroes),
            deallocate: self.deallocate.min(other.deallocate),
            ..self
        }
    }

    /// Blocks of the next command of an operation that has `left` blocks from `lba` on. What does
    /// not fit one command is cut where aligned commands follow.
    pub(crate) fn part(&self, operation: &Operation, lba: u64, left: u64) -> u64 {
        let limit = match operation {
            Operation::Read { .. } | Operation::Write { .. } => self.transfer,
            Operation::WriteZeroes { .. } => self.write_zeroes,
            Operation::Deallocate { .. } => self.deallocate,
            Operation::Flush => return 0,
        };
        if left <= limit {
            left
        } else {
            limit - lba % limit
        }
    }
}

/// A command of an operation: blocks of its disk, none for a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) lba: u64,
    pub(crate) blocks: u64,
}

/// The submission entry of a part. `buffer` begins with the part's first byte; `page` is the
/// command slot's own and holds the PRP list or the range.
pub(crate) fn entry(
    disk: &DiskLimits,
    operation: &Operation,
    part: Part,
    buffer: Option<DmaMemory>,
    page: &DmaMemory,
    command_id: u16,
) -> SubmissionEntry {
    let entry = SubmissionEntry::default()
        .with_command_id(command_id)
        .with_namespace_id(u32::from(disk.handle.0) + 1);
    let blocks_z = part.blocks.saturating_sub(1) as u16;
    let (prp1, prp2) = buffer.map_or((0, 0), |buffer| {
        let bytes = (part.blocks << disk.block_shift) as usize;
        prp::entries(buffer.iova(), bytes, page)
    });
    let transfer = |code: u8| {
        entry
            .with_opcode(code)
            .with_starting_lba(part.lba)
            .with_block_count_z(blocks_z)
            .with_prp1(prp1)
            .with_prp2(prp2)
    };
    match *operation {
        Operation::Read { .. } => transfer(opcode::READ),
        Operation::Write { force_unit_access, .. } => {
            transfer(opcode::WRITE).with_force_unit_access(force_unit_access.into())
        }
        Operation::Flush => entry.with_opcode(opcode::FLUSH),
        Operation::WriteZeroes { deallocate, force_unit_access, .. } => transfer(opcode::WRITE_ZEROES)
            .with_deallocate(deallocate.into())
            .with_force_unit_access(force_unit_access.into()),
        Operation::Deallocate { .. } => deallocation(entry, part, page),
    }
}

/// Makes `entry` a Dataset Management that deallocates a part: one range, written to `page`.
pub(crate) fn deallocation(entry: SubmissionEntry, part: Part, page: &DmaMemory) -> SubmissionEntry {
    let range = DeallocateRange::default().with_block_count(part.blocks as u32).with_starting_lba(part.lba);
    page.write(0, &range.0);
    let attributes = DatasetAttributes::default().with_range_count_z(0).with_deallocate(1);
    entry
        .with_opcode(opcode::DATASET_MANAGEMENT)
        .with_starting_lba(u64::from_le_bytes(attributes.0))
        .with_prp1(page.iova().0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Column, Segment};

    fn limits(block_shift: u8, stripe_shift: u8, allocation_shift: u8, devices: DeviceLimits) -> DiskLimits {
        let segment = Segment {
            blocks: 1 << 20,
            columns: vec![Column { device: 0, start: 0 }],
            stripe_shift,
            extent_shift: allocation_shift,
        };
        let map = DiskMap { block_shift, allocation_shift, segments: vec![segment] };
        DiskLimits::new(
            VdHandle(0),
            &map,
            &devices,
            CommandLimits { fragments: 2049, transfer_bytes: 1 << 20 },
        )
    }

    const LARGE: DeviceLimits =
        DeviceLimits { transfer_blocks: 65536, write_zeroes_blocks: 65536, deallocate_blocks: u32::MAX };

    #[test]
    fn the_least_limit_counts() {
        let large = limits(9, 7, 17, LARGE);
        assert_eq!((large.transfer, large.write_zeroes, large.deallocate), (2048, 65536, 65536));
        assert_eq!(limits(12, 4, 14, LARGE).transfer, 256, "1 MiB of 4 KiB blocks");
        let small = limits(9, 7, 11, LARGE);
        assert_eq!((small.transfer, small.write_zeroes), (2048, 2048), "an allocation");
        let fine = limits(9, 0, 17, LARGE);
        assert_eq!((fine.transfer, fine.write_zeroes), (2048, 2048), "2,049 fragments of a block");
        assert_eq!(limits(9, 3, 17, LARGE).write_zeroes, 8192, "2,047 × 8, down to a power of two");
        let device = DeviceLimits { transfer_blocks: 8, write_zeroes_blocks: 16, deallocate_blocks: 1000 };
        let cut = limits(9, 7, 17, device);
        assert_eq!((cut.transfer, cut.write_zeroes, cut.deallocate), (2048, 16384, 512));
    }

    #[test]
    fn long_operations_are_cut_at_aligned_blocks() {
        let limits = limits(9, 7, 17, LARGE);
        let read = Operation::Read { lba: 0, blocks: 1 };
        assert_eq!(limits.part(&read, 2047, 2048), 2048, "what fits one command is not cut");
        assert_eq!(limits.part(&read, 2047, 2049), 1);
        assert_eq!(limits.part(&read, 2048, 1 << 20), 2048);
        assert_eq!(limits.part(&Operation::Flush, 0, 0), 0);
    }

    /// Positions are typed from NVM Command Set 1.0, figures 24, 41, 66 and 72.
    #[test]
    fn entries_have_the_bits_of_the_specification() {
        let map = memmap2::MmapMut::map_anon(4096).expect("memory");
        let page = DmaMemory::new(map, volplane_driver::Iova(0x5000), ());
        let disk = DiskLimits { handle: VdHandle(6), ..limits(9, 7, 17, LARGE) };
        let part = Part { lba: 0x1_2345_6789, blocks: 0x100 };
        let make = |operation| entry(&disk, &operation, part, None, &page, 0xBEEF).0;
        let word = |bytes: &[u8; 64], dword: usize| {
            u32::from_le_bytes(bytes[dword * 4..dword * 4 + 4].try_into().expect("4 bytes"))
        };
        let zeroes =
            make(Operation::WriteZeroes { lba: 0, blocks: 0, deallocate: true, force_unit_access: true });
        assert_eq!(word(&zeroes, 0), 0xBEEF_0008);
        assert_eq!(word(&zeroes, 1), 7);
        assert_eq!((word(&zeroes, 10), word(&zeroes, 11)), (0x2345_6789, 1));
        assert_eq!(word(&zeroes, 12), 1 << 30 | 1 << 25 | 0xFF);
        let deallocate = make(Operation::Deallocate { lba: 0, blocks: 0 });
        assert_eq!(word(&deallocate, 0), 0xBEEF_0009);
        assert_eq!((word(&deallocate, 6), word(&deallocate, 10), word(&deallocate, 11)), (0x5000, 0, 4));
        let mut range = [0; 16];
        page.read(0, &mut range);
        assert_eq!(range, [0, 0, 0, 0, 0, 1, 0, 0, 0x89, 0x67, 0x45, 0x23, 1, 0, 0, 0]);
        let flush = make(Operation::Flush);
        assert_eq!((word(&flush, 0), word(&flush, 1)), (0xBEEF_0000, 7));
        assert!(flush[8..].iter().all(|&byte| byte == 0));
        let write = make(Operation::Write { lba: 0, blocks: 0, force_unit_access: true });
        assert_eq!((word(&write, 0), word(&write, 12)), (0xBEEF_0001, 1 << 30 | 0xFF));
    }
}
