//! Which entries of a table are taken.

use std::collections::BTreeMap;
use std::ops::Range;

/// Entries of a table, taken in contiguous ranges.
#[derive(Debug)]
pub(super) struct IndexSpace {
    /// Free ranges, start to end, none touching another.
    free: BTreeMap<u32, u32>,
}

impl IndexSpace {
    pub(super) fn new(entries: u32) -> Self {
        let free = if entries == 0 { BTreeMap::new() } else { BTreeMap::from([(0, entries)]) };
        Self { free }
    }

    /// Takes the first free range of `count` (1 and up) entries.
    pub(super) fn take(&mut self, count: u32) -> Option<Range<u32>> {
        let (&start, &end) = self.free.iter().find(|(&start, &end)| end - start >= count)?;
        self.free.remove(&start);
        if start + count < end {
            self.free.insert(start + count, end);
        }
        Some(start..start + count)
    }

    /// Takes the entry at `index`, if it is free.
    pub(super) fn take_at(&mut self, index: u32) -> Option<Range<u32>> {
        let (&start, &end) = self.free.range(..=index).next_back().filter(|(_, &end)| index < end)?;
        self.free.remove(&start);
        if start < index {
            self.free.insert(start, index);
        }
        if index + 1 < end {
            self.free.insert(index + 1, end);
        }
        Some(index..index + 1)
    }

    /// Gives a range back.
    pub(super) fn give(&mut self, range: Range<u32>) {
        let (mut start, mut end) = (range.start, range.end);
        if let Some((&before, &touching)) = self.free.range(..=start).next_back() {
            assert!(touching <= start, "entries given back twice");
            if touching == start {
                start = before;
            }
        }
        if let Some(after) = self.free.remove(&end) {
            end = after;
        }
        self.free.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_taken_first_fit_and_merge_when_given_back() {
        let mut space = IndexSpace::new(10);
        let (a, b, c) = (space.take(3), space.take(4), space.take(3));
        assert_eq!((a.clone(), b.clone(), c.clone()), (Some(0..3), Some(3..7), Some(7..10)));
        assert_eq!(space.take(1), None);
        space.give(0..3);
        space.give(7..10);
        assert_eq!(space.take(4), None, "two free ranges that do not touch");
        space.give(3..7);
        assert_eq!(space.take(10), Some(0..10));
    }

    #[test]
    fn a_certain_entry_is_taken_only_when_free() {
        let mut space = IndexSpace::new(5);
        assert_eq!(space.take_at(2), Some(2..3));
        assert_eq!(space.take_at(2), None);
        assert_eq!(space.take_at(5), None, "beyond the end");
        assert_eq!(space.take(3), None);
        assert_eq!((space.take(2), space.take(2)), (Some(0..2), Some(3..5)));
        assert_eq!(IndexSpace::new(0).take(1), None);
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_twice_is_a_fault() {
        let mut space = IndexSpace::new(5);
        space.give(1..2);
    }
}
