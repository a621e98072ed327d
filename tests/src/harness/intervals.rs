//! Sets of blocks, as the ranges they are.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals {
    /// Begin and end, apart from each other.
    ranges: BTreeMap<u64, u64>,
}

impl Intervals {
    /// Adds a range.
    pub fn insert(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&begin, &end)) =
            self.ranges.range(..=range.end).next_back().filter(|&(_, &end)| end >= range.start)
        {
            self.ranges.remove(&begin);
            range = range.start.min(begin)..range.end.max(end);
        }
        self.ranges.insert(range.start, range.end);
    }

    /// Takes a range out.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&begin, &end)) =
            self.ranges.range(..range.end).next_back().filter(|&(_, &end)| end > range.start)
        {
            self.ranges.remove(&begin);
            if end > range.end {
                self.ranges.insert(range.end, end);
            }
            if begin < range.start {
                self.ranges.insert(begin, range.start);
            }
        }
    }

    /// Whether a block is among them.
    pub fn has(&self, block: u64) -> bool {
        self.ranges.range(..=block).next_back().is_some_and(|(_, &end)| end > block)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(&begin, &end)| begin..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::fork;
    use rand::RngExt;

    #[test]
    fn they_hold_what_was_put_in() {
        let mut random = fork(1, "intervals");
        let (mut found, mut expected) = (Intervals::default(), [false; 64]);
        for _ in 0..2_000 {
            let begin = random.random_range(0..64);
            let end = random.random_range(begin..=(begin + 9).min(64));
            let adds = random.random_bool(0.5);
            expected[begin..end].fill(adds);
            let range = begin as u64..end as u64;
            if adds {
                found.insert(range);
            } else {
                found.remove(range);
            }
            assert!((0..64).all(|block| found.has(block as u64) == expected[block]), "{found:?}");
            let ends = found.iter().map(|range| range.end);
            assert!(found.iter().skip(1).zip(ends).all(|(next, end)| next.start > end), "{found:?}");
        }
    }
}
