//! Bus addresses: which are free, in a space that every device of a container reaches.
//!
//! First fit, lowest address first. Addresses that the platform keeps for itself (message interrupts, memory of the
//! firmware) are taken out before anything is handed out.

use std::collections::BTreeMap;
use std::ops::Range;

/// Lowest bus address handed out: above what 32-bit devices and the interrupt window use.
const FIRST: u64 = 1 << 32;
/// First bus address not handed out: IOMMUs with three levels of page tables reach 39 bits.
const END: u64 = 1 << 39;
/// Room left free after each range, so that a device that runs over the end of one does not meet another.
const GUARD: u64 = 4096;

/// Free bus addresses.
#[derive(Debug)]
pub(super) struct IovaSpace {
    /// Free ranges that do not touch: first address to first address after.
    free: BTreeMap<u64, u64>,
}

impl Default for IovaSpace {
    fn default() -> Self {
        Self { free: [(FIRST, END)].into() }
    }
}

impl IovaSpace {
    /// Takes `len` bytes at a multiple of `alignment`, a power of two. `None` when no room is left.
    pub(super) fn take(&mut self, len: u64, alignment: u64) -> Option<u64> {
        let found = self.free.iter().find_map(|(&start, &end)| {
            let at = start.checked_next_multiple_of(alignment)?;
            let after = at.checked_add(len)?.checked_add(GUARD)?;
            (after <= end).then_some(at)
        })?;
        self.remove(found..found + len + GUARD);
        Some(found)
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&mut self, at: u64, len: u64) {
        let (mut start, mut end) = (at, at + len + GUARD);
        if let Some((&before, &before_end)) = self.free.range(..=start).next_back() {
            if before_end == start {
                self.free.remove(&before);
                start = before;
            }
        }
        if let Some(after_end) = self.free.remove(&end) {
            end = after_end;
        }
        self.free.insert(start, end);
    }

    /// Takes out what is not ours to hand out, as far as it is free.
    pub(super) fn remove(&mut self, out: Range<u64>) {
        let cut: Vec<(u64, u64)> =
            self.free.range(..out.end).filter(|(_, &end)| end > out.start).map(|(&s, &e)| (s, e)).collect();
        for (start, end) in cut {
            self.free.remove(&start);
            if start < out.start {
                self.free.insert(start, out.start);
            }
            if out.end < end {
                self.free.insert(out.end, end);
            }
        }
    }
}

/// The ranges of a group's `reserved_regions`: a first and a last address a line, and a kind.
pub(super) fn reserved_regions(text: &str) -> Vec<Range<u64>> {
    let number = |word: &str| u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok();
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (first, last) = (number(words.next()?)?, number(words.next()?)?);
        (first <= last).then(|| first..last.saturating_add(1))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_come_back() {
        let seed = std::env::var("VOLPLANE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        println!("replay with VOLPLANE_SEED={seed}");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut space = IovaSpace::default();
        let kept = 0x1_0010_0000..0x1_0020_0000;
        space.remove(kept.clone());
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for _ in 0..4000 {
            if taken.len() > 100 || !taken.is_empty() && random.random_bool(0.4) {
                let (at, len) = taken.swap_remove(random.random_range(0..taken.len()));
                space.give_back(at, len);
            } else {
                let len = 4096 * random.random_range(1..600);
                let alignment = [4096, 1 << 21][random.random_range(0..2)];
                let at = space.take(len, alignment).expect("room");
                assert!(at.is_multiple_of(alignment) && at >= FIRST && at + len <= END);
                assert!(at + len <= kept.start || at >= kept.end, "{at:#x} is reserved");
                for &(other, other_len) in &taken {
                    assert!(at + len < other || other + other_len < at, "overlap, or no room between");
                }
                taken.push((at, len));
            }
        }
        taken.into_iter().for_each(|(at, len)| space.give_back(at, len));
        assert_eq!(space.free, [(FIRST, kept.start), (kept.end, END)].into());
    }

    #[test]
    fn a_full_space_says_so() {
        let mut space = IovaSpace::default();
        assert_eq!(space.take(END - FIRST, 4096), None, "no room for what is kept free after it");
        assert_eq!(space.take(END - FIRST - GUARD, 4096), Some(FIRST));
        assert_eq!(space.take(4096, 4096), None);
        assert_eq!(space.take(u64::MAX, 4096), None);
    }

    #[test]
    fn reserved_regions_are_read() {
        let text = "0x00000000fee00000 0x00000000feefffff msi\n0x0 0x0 direct\nnonsense\n0x5 0x4 msi\n";
        assert_eq!(reserved_regions(text), [0xFEE0_0000..0xFEF0_0000, 0..1]);
        assert_eq!(reserved_regions("0x0 0xffffffffffffffff reserved\n").first(), Some(&(0..u64::MAX)));
    }
}
