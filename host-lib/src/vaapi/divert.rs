//! Divert ranges: blocks of a disk whose commands are always the control path's.
//!
//! They belong to the disk's plan, which names a run of the table of ranges. A change is another run and another
//! plan, which go live together by one switch; what they replace is retired. A disk without a plan gets one of one
//! component with the first range.

use std::ops::Range;

use volplane_abi::tables::table;
use volplane_abi::{DivertEntry, PlanEntry};

use super::{argument, write, ControlPath, Epoch, Retired, TableEntry, Tables, VaapiError};
use crate::service::VdHandle;
use crate::software::PlanTemplate;

/// Most ranges of a disk: `PlanEntry` counts them in 8 bits.
const RANGES_MAX: usize = u8::MAX as usize;

/// The ranges of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Diverts {
    /// Blocks, oldest first.
    blocks: Vec<Range<u64>>,
    /// Their run in the table.
    entries: Range<u32>,
}

impl ControlPath {
    /// IO_AddDivertRange: commands that touch these blocks and are admitted from now on are exceptions; those
    /// admitted before go on, and are over when the epoch is closed that this gives.
    pub fn io_add_divert_range(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        blocks: Range<u64>,
    ) -> Result<Epoch, VaapiError> {
        const CALL: &str = "IO_AddDivertRange";
        let size = self.disk(CALL, disk)?.entry.size_blocks();
        let mut ranges = self.divert_ranges(disk).to_vec();
        let refuse = |problem: &str| {
            let Range { start, end } = blocks;
            Err(argument(CALL, format!("blocks {start}..{end} of {disk}: {problem}")))
        };
        if blocks.is_empty() {
            return refuse("there are none");
        }
        if blocks.end > size {
            return refuse(&format!("the disk has {size}"));
        }
        if ranges.contains(&blocks) {
            return refuse("they are diverted already");
        }
        if ranges.len() == RANGES_MAX {
            return refuse(&format!("the disk has {RANGES_MAX} divert ranges already"));
        }
        ranges.push(blocks);
        self.divert(CALL, tables, disk, ranges)
    }

    /// IOP_RemoveDivertRange: a range that was added, to the block.
    pub fn iop_remove_divert_range(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        blocks: Range<u64>,
    ) -> Result<Epoch, VaapiError> {
        const CALL: &str = "IOP_RemoveDivertRange";
        self.disk(CALL, disk)?;
        let mut ranges = self.divert_ranges(disk).to_vec();
        let Some(place) = ranges.iter().position(|range| *range == blocks) else {
            let Range { start, end } = blocks;
            return Err(argument(CALL, format!("blocks {start}..{end} of {disk} are no divert range")));
        };
        ranges.remove(place);
        self.divert(CALL, tables, disk, ranges)
    }

    /// The divert ranges of a disk, in blocks, oldest first. The seed has no such call.
    pub fn divert_ranges(&self, disk: VdHandle) -> &[Range<u64>] {
        self.diverts.get(&disk).map_or(&[], |diverts| &diverts.blocks)
    }

    fn divert(
        &mut self,
        call: &'static str,
        tables: &mut dyn Tables,
        disk: VdHandle,
        blocks: Vec<Range<u64>>,
    ) -> Result<Epoch, VaapiError> {
        let old = self.plan_of(call, tables, disk)?;
        let plan = old.unwrap_or_else(|| PlanTemplate::single(disk.0));
        self.reclaim(call, tables)?;
        let count = blocks.len() as u32;
        let entries = match count {
            0 => 0..0,
            _ => self.divert_entries.take(count).ok_or(VaapiError::NoRoom {
                call,
                table: "divert range",
                wanted: count.into(),
            })?,
        };
        let range = |(index, blocks): (u32, &Range<u64>)| {
            let entry = DivertEntry::default().with_first(blocks.start).with_last(blocks.end - 1);
            TableEntry::new(table::DIVERT, index, &entry.with_valid(1).0)
        };
        let written: Vec<TableEntry> = entries.clone().zip(&blocks).map(range).collect();
        if let Err(error) = write(call, tables, &written) {
            self.give_diverts(entries);
            return Err(error);
        }
        let before = self.diverts.insert(disk, Diverts { blocks, entries: entries.clone() });
        let replaced = self.replace(call, tables, disk, old.as_ref(), &plan);
        match &replaced {
            Ok(epoch) => {
                if let Some(before) = before {
                    self.retire(*epoch, Retired::Diverts(before.entries));
                }
            }
            Err(error) => {
                self.diverts.insert(disk, before.unwrap_or_default());
                // The card may have executed what it did not answer.
                if !matches!(error, VaapiError::Card { .. }) {
                    self.give_diverts(entries);
                }
            }
        }
        replaced
    }

    /// A disk's plan, with its divert ranges.
    pub(super) fn diverted(&self, disk: VdHandle, plan: &PlanTemplate) -> PlanEntry {
        let Some(Diverts { entries, .. }) = self.diverts.get(&disk) else { return plan.plan_entry() };
        plan.plan_entry().with_first_divert(entries.start as u16).with_diverts(entries.len() as u8)
    }

    pub(super) fn give_diverts(&mut self, entries: Range<u32>) {
        if !entries.is_empty() {
            self.divert_entries.give(entries);
        }
    }
}
