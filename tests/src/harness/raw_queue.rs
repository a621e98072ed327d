//! A client's rings without the driver's care, for clients that break the rules.

use volplane_abi::registers::{cq_head_doorbell, sq_tail_doorbell};
use volplane_abi::tables::table;
use volplane_abi::{CompletionEntry, QueueEntry, SubmissionEntry};
use volplane_driver::{Bar, DmaMemory, Function, Platform};

use super::Machine;

/// A queue pair of which every byte and every doorbell is the test's own.
pub struct RawQueue {
    /// Queue number.
    pub number: u16,
    /// Entries of each ring.
    pub entries: u16,
    /// Submission ring; `None` once it was unmapped.
    pub sq: Option<DmaMemory>,
    /// Completion ring.
    pub cq: DmaMemory,
    /// Next entry to write.
    pub tail: u16,
    /// Next completion to look at.
    pub head: u16,
    phase: u8,
}

impl RawQueue {
    /// Starts queue `number`, which the machine's configuration does not use.
    ///
    /// # Panics
    /// When the card refuses it.
    pub fn start(machine: &mut Machine, number: u16, entries: u16) -> Self {
        let sq = machine.platform.allocate(usize::from(entries) * SubmissionEntry::BYTES).expect("memory");
        let cq = machine.platform.allocate(usize::from(entries) * CompletionEntry::BYTES).expect("memory");
        let entry = QueueEntry::default()
            .with_sq_base(sq.iova().0)
            .with_cq_base(cq.iova().0)
            .with_sq_size_z(entries - 1)
            .with_cq_size_z(entries - 1)
            .with_enable(1);
        machine
            .card
            .table_write(&mut machine.platform, table::QUEUE, number.into(), &entry.0)
            .expect("the card takes the queue");
        Self { number, entries, sq: Some(sq), cq, tail: 0, head: 0, phase: 1 }
    }

    /// Writes the next entry, whatever it is, and does not ring.
    ///
    /// # Panics
    /// When the ring is unmapped.
    pub fn push(&mut self, entry: &[u8; 64]) {
        let sq = self.sq.as_ref().expect("a mapped ring");
        sq.write(usize::from(self.tail) * SubmissionEntry::BYTES, entry);
        self.tail = (self.tail + 1) % self.entries;
    }

    /// Writes the submission doorbell, whatever the value.
    ///
    /// # Panics
    /// When the card cannot be reached.
    pub fn ring(&self, machine: &Machine, tail: u32) {
        let doorbell = sq_tail_doorbell(self.number).into();
        machine.card.function().write32(Bar::Bar0, doorbell, tail).expect("a doorbell");
    }

    /// Writes the completion doorbell, whatever the value.
    ///
    /// # Panics
    /// When the card cannot be reached.
    pub fn ring_head(&self, machine: &Machine, head: u32) {
        let doorbell = cq_head_doorbell(self.number).into();
        machine.card.function().write32(Bar::Bar0, doorbell, head).expect("a doorbell");
    }

    /// Takes the next completion; the card is not told.
    pub fn pop(&mut self) -> Option<CompletionEntry> {
        let entry: CompletionEntry = self.cq.read_record(usize::from(self.head) * CompletionEntry::BYTES);
        if entry.phase() != self.phase {
            return None;
        }
        self.head += 1;
        if self.head == self.entries {
            self.head = 0;
            self.phase ^= 1;
        }
        Some(entry)
    }
}
