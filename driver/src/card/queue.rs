//! Client queue pairs: made and deleted here, used on their own.

use std::time::Duration;

use volplane_abi::tables::table;
use volplane_abi::{registers as register, CompletionEntry, QueueEntry, SubmissionEntry};

use super::{Card, CardError};
use crate::memory::DmaMemory;
use crate::platform::{Function, Platform};
use crate::queue_pair::{ClientQueue, Placement, QueuePair};

/// Pause between two looks at a queue that drains; SSDs take tens of microseconds.
const DRAIN_PAUSE: Duration = Duration::from_micros(10);

/// The plan slots that a queue's commands may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSlots {
    /// Most at once; what is above stays in the ring. 0: no limit.
    pub most: u16,
    /// Also those that the card keeps for the control path.
    pub reserve: bool,
}

/// A client queue that the card knows, or may know.
pub(super) struct OpenQueue {
    /// As written to the queue table.
    entry: QueueEntry,
    /// Held here too: the card may write it until the queue is deleted, whoever holds the pair.
    _rings: [DmaMemory; 2],
}

impl<F: Function> Card<F> {
    /// Creates client queue `number` (1 and up) with two rings of `entries`; completions raise
    /// `vector`, or nothing and are polled.
    ///
    /// # Errors
    /// `CardError::QueueArgument` for what the card has not, and what else `CardError` names.
    pub fn create_queue<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        number: u16,
        entries: u16,
        vector: Option<u16>,
        client: u16,
    ) -> Result<ClientQueue<F>, CardError> {
        self.create_queue_within(platform, number, entries, vector, client, QueueSlots::default())
    }

    /// The same, of a queue whose commands hold no more than some of the card's plan slots.
    ///
    /// # Errors
    /// As of `create_queue`.
    pub fn create_queue_within<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        number: u16,
        entries: u16,
        vector: Option<u16>,
        client: u16,
        slots: QueueSlots,
    ) -> Result<ClientQueue<F>, CardError> {
        self.check_new_queue(number, entries, vector)?;
        let sq = platform.allocate(usize::from(entries) * SubmissionEntry::BYTES)?;
        let cq = platform.allocate(usize::from(entries) * CompletionEntry::BYTES)?;
        let entry = QueueEntry::default()
            .with_sq_base(sq.iova().0)
            .with_cq_base(cq.iova().0)
            .with_sq_size_z(entries - 1)
            .with_cq_size_z(entries - 1)
            .with_vector(vector.unwrap_or(0))
            .with_interrupt_enable(vector.is_some().into())
            .with_enable(1)
            .with_client(client)
            .with_slots(slots.most)
            .with_reserve(slots.reserve.into());
        self.queues.insert(number, OpenQueue { entry, _rings: [sq.clone(), cq.clone()] });
        if let Err(error) = self.table_write(platform, table::QUEUE, number.into(), &entry.0) {
            if matches!(error, CardError::Table { .. }) {
                self.queues.remove(&number);
            }
            return Err(error);
        }
        let place = Placement {
            number,
            sq,
            sq_entries: entries,
            cq,
            cq_entries: entries,
            sq_tail_doorbell: register::sq_tail_doorbell(number).into(),
            cq_head_doorbell: register::cq_head_doorbell(number).into(),
        };
        Ok(QueuePair::new(self.function().clone(), place))
    }

    /// Deletes a client queue: the card fetches no more from it, and what it has fetched is waited
    /// for, up to `limit`. Completions not yet polled are lost with the queue.
    ///
    /// # Errors
    /// `CardError::QueueBusy` after `limit`; the number stays taken then, until the card is reset.
    pub fn delete_queue<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        queue: ClientQueue<F>,
        limit: Duration,
    ) -> Result<(), CardError> {
        let number = queue.number();
        let entry = match self.queues.get(&number) {
            Some(open) if queue.is_of(self.function()) => open.entry,
            _ => return Err(self.argument(number, "is no queue of this card")),
        };
        self.drain(platform, number, entry, limit)?;
        self.queues.remove(&number);
        Ok(())
    }

    fn drain<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        number: u16,
        entry: QueueEntry,
        limit: Duration,
    ) -> Result<(), CardError> {
        self.table_write(platform, table::QUEUE, number.into(), &entry.with_enable(0).0)?;
        let deadline = platform.now() + limit;
        loop {
            let now = platform.now();
            let outstanding = self.queue_state(platform, number)?.outstanding();
            if outstanding == 0 {
                break;
            }
            if now >= deadline {
                let card = self.name().to_owned();
                return Err(CardError::QueueBusy { card, queue: number, outstanding, waited: limit });
            }
            platform.wait(deadline.min(now + DRAIN_PAUSE))?;
        }
        self.table_write(platform, table::QUEUE, number.into(), &QueueEntry::default().0)
    }

    fn check_new_queue(&self, number: u16, entries: u16, vector: Option<u16>) -> Result<(), CardError> {
        if number == 0 || u32::from(number) >= self.capabilities.queues {
            return Err(self.argument(number, "the card has no client queue of this number"));
        }
        if self.queues.contains_key(&number) {
            return Err(self.argument(number, "is already in use"));
        }
        if !(2..=register::RING_ENTRIES_MAX).contains(&entries.into()) {
            return Err(self.argument(number, "a ring has 2 to 4096 entries"));
        }
        if vector.is_some_and(|vector| u32::from(vector) >= self.capabilities.vectors) {
            return Err(self.argument(number, "the card has no such interrupt vector"));
        }
        Ok(())
    }

    fn argument(&self, queue: u16, reason: &'static str) -> CardError {
        CardError::QueueArgument { card: self.name().to_owned(), queue, reason }
    }
}
