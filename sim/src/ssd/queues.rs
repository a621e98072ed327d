//! Submission and completion queues as a controller sees them.

use std::collections::VecDeque;

/// Command identifiers in use, one bit each.
#[derive(Clone)]
pub(crate) struct Identifiers(Vec<u64>);

impl Identifiers {
    fn new() -> Self {
        Self(vec![0; 1024])
    }

    /// Marks `id` as used; whether it was free.
    pub(crate) fn claim(&mut self, id: u16) -> bool {
        let (word, bit) = (&mut self.0[usize::from(id) / 64], 1 << (id % 64));
        let free = *word & bit == 0;
        *word |= bit;
        free
    }

    pub(crate) fn release(&mut self, id: u16) {
        self.0[usize::from(id) / 64] &= !(1 << (id % 64));
    }
}

/// A submission queue in host memory.
#[derive(Clone)]
pub(crate) struct SubmissionQueue {
    pub(crate) base: u64,
    pub(crate) entries: u32,
    pub(crate) head: u32,
    pub(crate) tail: u32,
    pub(crate) completion_queue: u16,
    pub(crate) identifiers: Identifiers,
}

impl SubmissionQueue {
    pub(crate) fn new(base: u64, entries: u32, completion_queue: u16) -> Self {
        Self { base, entries, head: 0, tail: 0, completion_queue, identifiers: Identifiers::new() }
    }

    /// Address of the next entry, which is taken.
    pub(crate) fn take(&mut self) -> Option<u64> {
        if self.head == self.tail {
            return None;
        }
        let address = self.base + u64::from(self.head) * 64;
        self.head = (self.head + 1) % self.entries;
        Some(address)
    }

    /// A doorbell: whether `tail` names an entry.
    pub(crate) fn ring(&mut self, tail: u32) -> bool {
        let valid = tail < self.entries;
        if valid {
            self.tail = tail;
        }
        valid
    }
}

/// A completion that is, or waits to be, posted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) submission_queue: u16,
    pub(crate) command_id: u16,
    pub(crate) status: u16,
    pub(crate) result: u32,
    /// Number of the command's record.
    pub(crate) order: u64,
}

/// A completion queue, anywhere on the bus.
#[derive(Clone)]
pub(crate) struct CompletionQueue {
    pub(crate) base: u64,
    pub(crate) entries: u32,
    head: u32,
    tail: u32,
    phase: bool,
    /// Interrupt vector, if enabled.
    pub(crate) vector: Option<u16>,
    /// Completions that find the queue full; at most as many as commands are in execution.
    pub(crate) waiting: VecDeque<Outcome>,
}

impl CompletionQueue {
    pub(crate) fn new(base: u64, entries: u32, vector: Option<u16>) -> Self {
        Self { base, entries, head: 0, tail: 0, phase: true, vector, waiting: VecDeque::new() }
    }

    /// Address and phase tag of the next entry, which is taken; none when the queue is full.
    pub(crate) fn take(&mut self) -> Option<(u64, bool)> {
        let next = (self.tail + 1) % self.entries;
        if next == self.head {
            return None;
        }
        let slot = (self.base + u64::from(self.tail) * 16, self.phase);
        self.tail = next;
        if next == 0 {
            self.phase = !self.phase;
        }
        Some(slot)
    }

    /// A doorbell: whether `head` lies between the old head and the tail.
    pub(crate) fn ring(&mut self, head: u32) -> bool {
        let filled = (self.tail + self.entries - self.head) % self.entries;
        let valid = head < self.entries && (head + self.entries - self.head) % self.entries <= filled;
        if valid {
            self.head = head;
        }
        valid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_queue_wraps_and_refuses_a_tail_beyond_its_end() {
        let mut queue = SubmissionQueue::new(0x1000, 3, 1);
        assert_eq!(queue.take(), None);
        assert!(!queue.ring(3) && queue.ring(2));
        assert_eq!((queue.take(), queue.take(), queue.take()), (Some(0x1000), Some(0x1040), None));
        assert!(queue.ring(1));
        assert_eq!((queue.take(), queue.take(), queue.take()), (Some(0x1080), Some(0x1000), None));
    }

    #[test]
    fn a_completion_queue_fills_flips_its_phase_and_checks_its_head() {
        let mut queue = CompletionQueue::new(0x2000, 3, None);
        assert_eq!((queue.take(), queue.take()), (Some((0x2000, true)), Some((0x2010, true))));
        assert_eq!(queue.take(), None, "one entry stays free");
        assert!(!queue.ring(3), "beyond the end");
        assert!(queue.ring(1) && !queue.ring(0), "never backwards");
        assert_eq!((queue.take(), queue.take()), (Some((0x2020, true)), None));
        assert!(queue.ring(0));
        assert_eq!(queue.take(), Some((0x2000, false)));
        assert!(!queue.ring(2), "beyond the tail");
    }

    #[test]
    fn identifiers_are_claimed_once() {
        let mut identifiers = Identifiers::new();
        assert!(identifiers.claim(65535) && !identifiers.claim(65535) && identifiers.claim(0));
        identifiers.release(65535);
        assert!(identifiers.claim(65535));
    }
}
