//! A queue pair whose two rings are in host memory and whose doorbells are in a function's BAR0.
//!
//! One type serves client queues and the control ring of the card, and admin queues and
//! host-driven I/O queues of NVMe controllers: they all follow NVMe's discipline.

use std::sync::Arc;

use volplane_abi::{CompletionEntry, SubmissionEntry};

use crate::memory::DmaMemory;
use crate::platform::{AccessError, Bar, Function};
use crate::ring::{BadHead, Completion, CompletionRing, Full, Submission, SubmissionRing};

/// What makes a queue pair unusable; who made the pair deletes it.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The device reported a submission head that it cannot have reached.
    #[error("{function} queue {queue}, completion of command {command}: {source}")]
    BadHead {
        /// Function.
        function: String,
        /// Queue number.
        queue: u16,
        /// Command identifier of the completion that carried the head.
        command: u16,
        /// What is wrong with it.
        source: BadHead,
    },
    /// The device completed more commands than were submitted.
    #[error("{function} queue {queue}: completion of command {command}, but no command is outstanding")]
    Unexpected {
        /// Function.
        function: String,
        /// Queue number.
        queue: u16,
        /// Command identifier of the completion.
        command: u16,
    },
    /// A doorbell could not be written.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// The memory of a queue pair and where its doorbells are.
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) number: u16,
    pub(crate) sq: DmaMemory,
    pub(crate) sq_entries: u16,
    pub(crate) cq: DmaMemory,
    pub(crate) cq_entries: u16,
    /// Offsets in BAR0.
    pub(crate) sq_tail_doorbell: u64,
    pub(crate) cq_head_doorbell: u64,
}

/// The identifiers of outstanding commands: a bit for each that there can be.
struct Identifiers(Box<[u64; 1 << 10]>);

impl Identifiers {
    fn set(&mut self, id: u16, outstanding: bool) {
        let (word, bit) = (&mut self.0[usize::from(id >> 6)], id & 63);
        *word = *word & !(1 << bit) | u64::from(outstanding) << bit;
    }

    fn all(&self) -> Vec<u16> {
        (0..=u16::MAX).filter(|&id| self.0[usize::from(id >> 6)] >> (id & 63) & 1 == 1).collect()
    }
}

/// A queue pair. It has a doorbell handle of its own and takes no lock.
pub struct QueuePair<F, S = SubmissionEntry, C = CompletionEntry> {
    function: Arc<F>,
    number: u16,
    submissions: SubmissionRing<S>,
    completions: CompletionRing<C>,
    sq_tail_doorbell: u64,
    cq_head_doorbell: u64,
    cq_doorbell_every: u16,
    outstanding: usize,
    identifiers: Identifiers,
}

/// A client's queue pair on the card.
pub type ClientQueue<F> = QueuePair<F>;

impl<F: Function, S: Submission, C: Completion> QueuePair<F, S, C> {
    /// The completion ring's memory must be zero.
    pub(crate) fn new(function: Arc<F>, place: Placement) -> Self {
        Self {
            function,
            number: place.number,
            submissions: SubmissionRing::new(place.sq, place.sq_entries),
            completions: CompletionRing::new(place.cq, place.cq_entries),
            sq_tail_doorbell: place.sq_tail_doorbell,
            cq_head_doorbell: place.cq_head_doorbell,
            cq_doorbell_every: (place.cq_entries / 4).max(1),
            outstanding: 0,
            identifiers: Identifiers(Box::new([0; 1 << 10])),
        }
    }

    /// Queue number on its function.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Commands that fit at once in an empty ring.
    pub fn capacity(&self) -> usize {
        self.submissions.capacity().into()
    }

    /// Commands that fit now.
    pub fn free(&self) -> usize {
        self.submissions.free().into()
    }

    /// Commands submitted whose completion was not yet polled.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Writes a command into the ring. The device sees it with the next `ring`. The command
    /// identifier is the caller's: no two outstanding commands may share one.
    ///
    /// # Errors
    /// `Full`: poll completions first, they free entries.
    pub fn submit(&mut self, entry: S) -> Result<(), Full> {
        self.submissions.push(&entry)?;
        self.outstanding += 1;
        self.identifiers.set(entry.command_id(), true);
        Ok(())
    }

    /// Tells the device of what was submitted, by one doorbell; nothing when nothing was.
    ///
    /// # Errors
    /// `QueueError::Access`.
    pub fn ring(&mut self) -> Result<(), QueueError> {
        if let Some(tail) = self.submissions.take_doorbell() {
            self.function.write32(Bar::Bar0, self.sq_tail_doorbell, tail.into())?;
        }
        Ok(())
    }

    /// Takes the next completion. The device is told every quarter ring, and when none is left.
    ///
    /// # Errors
    /// `QueueError`; the completion that carried the fault counts as taken.
    pub fn poll(&mut self) -> Result<Option<C>, QueueError> {
        let completion = self.completions.pop();
        let least = if completion.is_some() { self.cq_doorbell_every } else { 1 };
        if let Some(head) = self.completions.take_doorbell(least) {
            self.function.write32(Bar::Bar0, self.cq_head_doorbell, head.into())?;
        }
        let Some(completion) = completion else { return Ok(None) };
        let command = completion.command_id();
        let (function, queue) = (|| self.function.name().to_owned(), self.number);
        if self.outstanding == 0 {
            return Err(QueueError::Unexpected { function: function(), queue, command });
        }
        self.outstanding -= 1;
        self.identifiers.set(command, false);
        self.submissions.advance(completion.sq_head()).map_err(|source| QueueError::BadHead {
            function: function(),
            queue,
            command,
            source,
        })?;
        Ok(Some(completion))
    }

    /// Gives up the pair after its device was reset: the identifiers of the commands that are lost, ascending. They were
    /// submitted, rung or not, and their completion was never polled; nobody completes them any more.
    ///
    /// Two things come before. Whoever else moves the data of these commands must have ended: of a card, every queue of
    /// the SSDs behind it was deleted, or its controller reset. Only then may a buffer be used again. And `poll` until
    /// it gives nothing: what the device completed before its reset is in the ring, and is not lost.
    pub fn lost(self) -> Vec<u16> {
        self.identifiers.all()
    }

    /// Whether the pair belongs to this handle of a function.
    pub(crate) fn is_of(&self, function: &Arc<F>) -> bool {
        Arc::ptr_eq(&self.function, function)
    }
}

impl<F: Function, S, C> std::fmt::Debug for QueuePair<F, S, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "QueuePair({} queue {}, {} outstanding)",
            self.function.name(),
            self.number,
            self.outstanding
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::memory::Iova;

    const SQ_TAIL: u64 = 0x1008;
    const CQ_HEAD: u64 = 0x100C;

    /// A function that notes the doorbells written.
    #[derive(Default)]
    struct Doorbells(Mutex<Vec<(u64, u32)>>);

    impl Doorbells {
        fn take(&self) -> Vec<(u64, u32)> {
            std::mem::take(&mut self.0.lock().expect("one thread"))
        }
    }

    impl Function for Doorbells {
        fn name(&self) -> &str {
            "doorbells"
        }
        fn bar_len(&self, _: Bar) -> u64 {
            0x2000
        }
        fn bar_iova(&self, _: Bar) -> Iova {
            Iova(0)
        }
        fn read32(&self, _: Bar, _: u64) -> Result<u32, AccessError> {
            panic!("a queue pair reads no register")
        }
        fn write32(&self, _: Bar, offset: u64, value: u32) -> Result<(), AccessError> {
            self.0.lock().expect("one thread").push((offset, value));
            Ok(())
        }
        fn config_read32(&self, _: u16) -> Result<u32, AccessError> {
            Ok(0)
        }
        fn config_write32(&self, _: u16, _: u32) -> Result<(), AccessError> {
            Ok(())
        }
        fn enable_interrupts(&mut self, _: u16) -> Result<(), AccessError> {
            Ok(())
        }
        fn take_interrupt(&self, _: u16) -> bool {
            false
        }
        fn reset(&mut self) -> Result<(), AccessError> {
            Ok(())
        }
    }

    fn pair(entries: u16) -> (QueuePair<Doorbells>, Arc<Doorbells>, DmaMemory) {
        let memory = || DmaMemory::new(memmap2::MmapMut::map_anon(4096).expect("memory"), Iova(0), ());
        let (function, sq, cq) = (Arc::new(Doorbells::default()), memory(), memory());
        let (sq_tail_doorbell, cq_head_doorbell) = (SQ_TAIL, CQ_HEAD);
        let (sq_entries, cq_entries, ring) = (entries, entries, cq.clone());
        let place =
            Placement { number: 1, sq, sq_entries, cq, cq_entries, sq_tail_doorbell, cq_head_doorbell };
        (QueuePair::new(function.clone(), place), function, ring)
    }

    fn complete(cq: &DmaMemory, slot: u16, sq_head: u16) {
        let entry = CompletionEntry::default().with_sq_head(sq_head).with_command_id(slot).with_phase(1);
        cq.write_record(usize::from(slot) * 16, &entry);
    }

    #[test]
    fn a_batch_rings_once_and_completions_ring_by_the_quarter() {
        let (mut pair, doorbells, cq) = pair(16);
        pair.ring().expect("doorbell");
        assert!(pair.poll().expect("nothing").is_none());
        assert_eq!(doorbells.take(), [], "nothing changed");
        for _ in 0..10 {
            pair.submit(SubmissionEntry::default()).expect("room");
        }
        pair.ring().expect("doorbell");
        pair.ring().expect("doorbell");
        assert_eq!(doorbells.take(), [(SQ_TAIL, 10)]);
        (0..10).for_each(|slot| complete(&cq, slot, 10));
        for left in (0..10).rev() {
            assert_eq!(pair.poll().expect("honest").expect("a completion").command_id(), 9 - left);
            assert_eq!(pair.outstanding(), usize::from(left));
        }
        assert_eq!(doorbells.take(), [(CQ_HEAD, 4), (CQ_HEAD, 8)]);
        assert!(pair.poll().expect("nothing").is_none());
        assert_eq!(doorbells.take(), [(CQ_HEAD, 10)]);
        assert_eq!(pair.free(), pair.capacity());
    }

    #[test]
    fn what_was_submitted_and_not_polled_is_lost() {
        let (mut pair, _, cq) = pair(16);
        for id in [0xFFFF, 0, 1, 63, 64, 40_000] {
            pair.submit(SubmissionEntry::default().with_command_id(id)).expect("room");
        }
        pair.ring().expect("doorbell");
        pair.submit(SubmissionEntry::default().with_command_id(7)).expect("room");
        for (slot, id) in [1, 40_000].into_iter().enumerate() {
            let entry = CompletionEntry::default().with_sq_head(6).with_command_id(id).with_phase(1);
            cq.write_record(slot * 16, &entry);
            assert_eq!(pair.poll().expect("honest").expect("a completion").command_id(), id);
        }
        assert_eq!(pair.outstanding(), 5);
        assert_eq!(pair.lost(), [0, 7, 63, 64, 0xFFFF], "the one that was not rung, too");
    }

    #[test]
    fn a_head_beyond_the_doorbell_is_an_error() {
        let (mut pair, _, cq) = pair(16);
        pair.submit(SubmissionEntry::default()).expect("room");
        pair.ring().expect("doorbell");
        complete(&cq, 0, 2);
        assert!(matches!(pair.poll(), Err(QueueError::BadHead { queue: 1, command: 0, .. })));
        assert_eq!(pair.free(), 14, "nothing was freed");
    }

    #[test]
    fn a_completion_of_nothing_is_an_error() {
        let (mut pair, _, cq) = pair(16);
        complete(&cq, 0, 0);
        assert!(matches!(pair.poll(), Err(QueueError::Unexpected { queue: 1, command: 0, .. })));
    }
}
