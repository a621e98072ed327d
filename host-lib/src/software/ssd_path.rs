//! A path of the software data path: an I/O queue pair of an SSD with both rings in host memory.
//!
//! A fragment waits until the submission ring takes it. Its identifier on the SSD is a slot of the path;
//! each slot has a page for the PRP list or the range. Nothing that an SSD writes is believed: a completion
//! that cannot be makes the path faulty, and whoever drives it renews it.

use std::collections::VecDeque;

use volplane_abi::status::{self, DNR};
use volplane_abi::{opcode, CompletionEntry, PathEntry, SubmissionEntry};
use volplane_driver::{DmaMemory, Function, NvmeError, Platform, QueuePair, PAGE};

use super::cut::Fragment;
use crate::bring_up::{Ssd, IO_QUEUE};
use crate::engine::StartError;
use crate::operations::command::{deallocation, Part};
use crate::operations::prp;

/// Entries of a page that holds a PRP list.
const LIST_ENTRIES: usize = PAGE / 8;

/// What is given to an SSD.
pub(super) enum Given {
    /// Part of a plan.
    Fragment(Fragment),
    /// A command as it is, but for its identifier.
    Raw(SubmissionEntry),
}

/// A fragment that came back, and its status.
pub(super) type Returned = (u64, u16);

/// Commands on a queue pair.
struct Commands<F> {
    queue: QueuePair<F>,
    /// Fragments that the SSD has, by slot.
    issued: Vec<Option<u64>>,
    free: Vec<u16>,
}

impl<F: Function> Commands<F> {
    fn new(queue: QueuePair<F>) -> Self {
        let slots = queue.capacity() as u16;
        Self { queue, issued: vec![None; usize::from(slots)], free: (0..slots).rev().collect() }
    }
}

/// See the module's header.
pub(super) struct SsdPath<F: Function> {
    // Dropped first: the SSD is disabled before the memory goes.
    pub(super) ssd: Ssd<F>,
    /// None: the SSD could not be quieted, and gets nothing any more.
    commands: Option<Commands<F>>,
    /// A page for each slot.
    pages: DmaMemory,
    entries: u16,
    waiting: VecDeque<(u64, Given)>,
    /// It is gone from its bus.
    gone: bool,
    /// The SSD wrote what it cannot mean, or was not reached.
    faulty: bool,
}

impl<F: Function> SsdPath<F> {
    /// Creates the queue pair, of at most `entries`.
    pub(super) fn create<P: Platform<Function = F>>(
        platform: &mut P,
        mut ssd: Ssd<F>,
        entries: u16,
    ) -> Result<Self, StartError> {
        let entries = ssd.controller.queue_entries_max().min(entries.into()) as u16;
        let queue = ssd.controller.create_host_queue(platform, IO_QUEUE, entries);
        let commands = Commands::new(queue.map_err(|source| ssd.failed(source))?);
        let pages = platform.allocate(usize::from(entries) * PAGE)?;
        let waiting = VecDeque::new();
        Ok(Self { ssd, commands: Some(commands), pages, entries, waiting, gone: false, faulty: false })
    }

    /// What the tables say of it.
    pub(super) fn entry(&self) -> PathEntry {
        let last = self.entries - 1;
        PathEntry::default().with_sq_size_z(last).with_cq_size_z(last).with_limit(last)
    }

    /// Whether it has to be renewed.
    pub(super) fn is_faulty(&self) -> bool {
        self.faulty && !self.is_lost()
    }

    /// Whether its SSD could not be made quiet.
    pub(super) fn is_lost(&self) -> bool {
        self.commands.is_none()
    }

    /// Whether its SSD is gone from its bus, and so quiet.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// The SSD, and the memory that it may use until it is disabled.
    pub(super) fn into_ssd(self) -> (Ssd<F>, DmaMemory) {
        (self.ssd, self.pages)
    }

    /// Takes a fragment or a raw command; false where the SSD is lost.
    pub(super) fn give(&mut self, id: u64, given: Given) -> bool {
        let usable = !self.is_lost();
        if usable {
            self.waiting.push_back((id, given));
        }
        usable
    }

    /// Writes commands while there is room, and rings once. What cannot be a command goes to `back`.
    pub(super) fn issue(&mut self, back: &mut Vec<Returned>) {
        let Some(commands) = self.commands.as_mut().filter(|_| !self.faulty) else { return };
        while let (Some((id, given)), Some(&slot)) = (self.waiting.front(), commands.free.last()) {
            let page = self.pages.part(usize::from(slot) * PAGE, PAGE);
            let entry = match given {
                Given::Fragment(fragment) => command(fragment, slot, &page),
                Given::Raw(entry) => Some(entry.with_command_id(slot)),
            };
            match entry {
                None => back.push((*id, status::INTERNAL_ERROR | DNR)),
                Some(entry) => {
                    if commands.queue.submit(entry).is_err() {
                        // The SSD has not reported its fetches yet; the next completion brings room.
                        break;
                    }
                    commands.issued[usize::from(slot)] = Some(*id);
                    commands.free.pop();
                }
            }
            self.waiting.pop_front();
        }
        self.faulty = commands.queue.ring().is_err();
    }

    /// Takes what the SSD has completed.
    pub(super) fn poll(&mut self, back: &mut Vec<Returned>) {
        let Some(commands) = self.commands.as_mut().filter(|_| !self.faulty) else { return };
        loop {
            let completion: CompletionEntry = match commands.queue.poll() {
                Ok(Some(completion)) => completion,
                Ok(None) => return,
                Err(_) => break,
            };
            let slot = completion.command_id();
            let Some(id) = commands.issued.get_mut(usize::from(slot)).and_then(Option::take) else { break };
            commands.free.push(slot);
            back.push((id, completion.status()));
        }
        self.faulty = true;
    }

    /// Ends whatever the SSD does, forgets every fragment, and makes the queue pair anew, by a reset of
    /// the controller if nothing less helps.
    ///
    /// # Errors
    /// The path is lost, and the SSD may still execute what it was given, unless it is gone.
    pub(super) fn renew<P: Platform<Function = F>>(&mut self, platform: &mut P) -> Result<(), NvmeError> {
        self.commands = None;
        let entries = self.entries;
        let renewed = self.ssd.renew(platform, |platform, controller| {
            controller.create_host_queue(platform, IO_QUEUE, entries)
        });
        if matches!(renewed, Err(NvmeError::Gone { .. })) {
            self.gone = true;
            self.waiting.clear();
        }
        let queue = renewed?;
        self.waiting.clear();
        (self.commands, self.faulty) = (Some(Commands::new(queue)), false);
        Ok(())
    }

    /// Fragments that wait for the ring.
    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.waiting.drain(..).map(|(id, _)| id)
    }
}

/// The SSD's command; None for what no command can say.
fn command(fragment: &Fragment, slot: u16, page: &DmaMemory) -> Option<SubmissionEntry> {
    let entry = SubmissionEntry::default()
        .with_opcode(fragment.opcode)
        .with_command_id(slot)
        .with_namespace_id(fragment.namespace_id);
    let (lba, blocks) = (fragment.lba, fragment.blocks);
    match fragment.opcode {
        opcode::FLUSH => return Some(entry),
        opcode::DATASET_MANAGEMENT => return Some(deallocation(entry, Part { lba, blocks }, page)),
        _ => {}
    }
    let blocks_z = u16::try_from(blocks.checked_sub(1)?).ok()?;
    let segments = fragment.segments.as_ref().ok()?;
    let (prp1, prp2) = match segments.split_first() {
        None => (0, 0),
        Some((_, rest)) if rest.len() > LIST_ENTRIES => return None,
        Some((first, rest)) => prp::of_pages(first.iova, rest.iter().map(|segment| segment.iova), page),
    };
    let entry = entry
        .with_prp1(prp1)
        .with_prp2(prp2)
        .with_starting_lba(lba)
        .with_block_count_z(blocks_z)
        .with_deallocate(fragment.deallocate)
        .with_force_unit_access(fragment.force_unit_access)
        .with_limited_retry(fragment.limited_retry)
        .with_cdw13(fragment.cdw13);
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::super::pages::Segment;
    use super::*;
    use volplane_driver::Iova;

    const LIST: u64 = 0x9_0000;

    fn page() -> DmaMemory {
        DmaMemory::new(memmap2::MmapMut::map_anon(PAGE).expect("memory"), Iova(LIST), ())
    }

    fn fragment(code: u8, blocks: u64, pages: &[u64]) -> Fragment {
        let segments = pages.iter().map(|&iova| Segment { iova, len: 512 }).collect();
        Fragment {
            path: 0,
            device: 0,
            zeros: false,
            opcode: code,
            namespace_id: 5,
            lba: 0x1_2345_6789,
            blocks,
            first: 0,
            deallocate: 0,
            force_unit_access: 1,
            limited_retry: 0,
            cdw13: 6,
            segments: Ok(segments),
        }
    }

    #[test]
    fn a_list_begins_with_the_third_page() {
        let page = page();
        let prps = |pages: &[u64]| {
            let entry = command(&fragment(opcode::READ, 8, pages), 3, &page).expect("a command");
            (entry.prp1(), entry.prp2())
        };
        assert_eq!(prps(&[0x1200]), (0x1200, 0));
        assert_eq!(prps(&[0x1200, 0x7000]), (0x1200, 0x7000));
        assert_eq!(prps(&[0x1200, 0x7000, 0x3000]), (0x1200, LIST));
        assert_eq!([page.read_record::<u64>(0), page.read_record(8)], [0x7000, 0x3000]);
    }

    #[test]
    fn fields_go_where_they_belong() {
        let page = page();
        let write = command(&fragment(opcode::WRITE, 0x1_0000, &[0x1000]), 7, &page).expect("a command");
        assert_eq!((write.command_id(), write.namespace_id(), write.opcode()), (7, 5, opcode::WRITE));
        assert_eq!((write.starting_lba(), write.block_count_z()), (0x1_2345_6789, 0xFFFF));
        assert_eq!((write.force_unit_access(), write.cdw13()), (1, 6));
        let range = command(&fragment(opcode::DATASET_MANAGEMENT, 40, &[]), 7, &page).expect("a command");
        assert_eq!((range.prp1(), range.starting_lba(), range.block_count_z()), (LIST, 1 << 34, 0));
        assert_eq!([page.read_record::<u64>(0), page.read_record(8)], [40 << 32, 0x1_2345_6789]);
        let flush = command(&fragment(opcode::FLUSH, 0, &[]), 1, &page).expect("a command");
        assert_eq!((flush.prp1(), flush.starting_lba(), flush.cdw13()), (0, 0, 0));
    }

    #[test]
    fn what_no_command_can_say_is_none() {
        let page = page();
        assert!(command(&fragment(opcode::READ, 0, &[0x1000]), 0, &page).is_none());
        assert!(command(&fragment(opcode::READ, 0x1_0001, &[0x1000]), 0, &page).is_none());
        assert!(command(&fragment(opcode::READ, 8, &[0x1000; 514]), 0, &page).is_none());
        assert!(command(&fragment(opcode::READ, 8, &[0x1000; 513]), 0, &page).is_some());
    }
}
