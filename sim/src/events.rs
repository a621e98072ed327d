//! What is going to happen, in order of time; what is due at one time happens in order of asking.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::faults::FaultId;

/// An event of an SSD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SsdEvent {
    /// The controller becomes ready, if it was not reset since.
    Ready {
        /// Number of the reset after which it was asked for.
        generation: u32,
    },
    /// A command has taken its time.
    Execute {
        /// Its slot.
        slot: usize,
        /// Use of the slot: another one means that the command was aborted.
        generation: u32,
    },
    /// The controller dies, unless the fault was stopped.
    Die {
        /// The fault.
        fault: FaultId,
    },
    /// The controller is there again, unless another fault keeps it away.
    Return {
        /// The fault that is over.
        fault: FaultId,
    },
}

struct Entry {
    at_ns: u64,
    sequence: u64,
    ssd: usize,
    event: SsdEvent,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_ns, self.sequence).cmp(&(other.at_ns, other.sequence))
    }
}

/// The events to come.
#[derive(Default)]
pub(crate) struct EventQueue {
    heap: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
}

impl EventQueue {
    /// Adds an event of `ssd` at `at_ns`.
    pub(crate) fn schedule(&mut self, at_ns: u64, ssd: usize, event: SsdEvent) {
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at_ns, sequence: self.sequence, ssd, event }));
    }

    /// When the next event is due.
    #[inline]
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| entry.at_ns)
    }

    /// Takes the next event if it is due at `now_ns`.
    #[inline]
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<(usize, SsdEvent)> {
        if self.next_ns()? > now_ns {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.ssd, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_time_then_sequence() {
        let mut queue = EventQueue::default();
        for (at_ns, ssd) in [(30, 0), (10, 1), (30, 2), (10, 3), (20, 4)] {
            queue.schedule(at_ns, ssd, SsdEvent::Ready { generation: 0 });
        }
        assert_eq!(queue.take_due(9), None);
        assert_eq!(queue.next_ns(), Some(10));
        let order: Vec<usize> = std::iter::from_fn(|| queue.take_due(30)).map(|(ssd, _)| ssd).collect();
        assert_eq!(order, [1, 3, 4, 0, 2]);
    }
}
