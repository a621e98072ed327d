//! What SSDs have written to host memory that others do not see yet: late, and in order for each of them.

use std::collections::VecDeque;

use rand_chacha::ChaCha8Rng;

use crate::random;

/// Something that becomes visible.
pub(crate) enum LateAction {
    Write {
        iova: u64,
        bytes: Vec<u8>,
    },
    /// An interrupt stays behind the completion that it announces.
    Raise {
        vector: u16,
    },
}

/// By SSD, in order of time.
pub(crate) struct SsdVisibility {
    shortest_ns: u64,
    longest_ns: u64,
    random: ChaCha8Rng,
    waiting: Vec<VecDeque<(u64, LateAction)>>,
}

impl SsdVisibility {
    pub(crate) fn new(ssds: usize, seed: u64, (shortest_ns, longest_ns): (u64, u64)) -> Self {
        Self {
            shortest_ns,
            longest_ns: longest_ns.max(shortest_ns),
            random: random::fork(seed, "visibility of SSDs"),
            waiting: (0..ssds).map(|_| VecDeque::new()).collect(),
        }
    }

    pub(crate) fn put(&mut self, ssd: usize, now_ns: u64, action: LateAction) {
        let chosen = self.shortest_ns + random::up_to(&mut self.random, self.longest_ns - self.shortest_ns);
        let after = self.waiting[ssd].back().map_or(0, |(at_ns, _)| *at_ns);
        self.waiting[ssd].push_back((after.max(now_ns + chosen), action));
    }

    /// The next one of an SSD that is due at a time.
    pub(crate) fn take(&mut self, ssd: usize, time_ns: u64) -> Option<LateAction> {
        let waiting = &mut self.waiting[ssd];
        waiting.front().filter(|(at_ns, _)| *at_ns <= time_ns)?;
        waiting.pop_front().map(|(_, action)| action)
    }

    /// When the next one of all is due.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.waiting.iter().filter_map(|waiting| Some(waiting.front()?.0)).min()
    }
}
