//! Host memory for buffers and PRP lists: scattered pages, all of which hold a pattern.
//!
//! A page that is not in use holds its own pattern, and so does every byte of a page in use that belongs
//! to no data: these are the guards. As an address the pattern points nowhere, so a list entry that is
//! used and should not be is refused by the bus.

use rand::seq::SliceRandom;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_driver::{DmaMemory, Platform, PAGE};

use super::mix;

/// Pages that follow one another on the bus.
const RUN_PAGES: usize = 2400;
/// Regions of one page, with nothing mapped around them.
const ISLANDS: usize = 64;
/// Entries of a list page.
const SLOTS: usize = PAGE / 8;

/// Pages, free and in use.
pub struct Arena {
    pages: Vec<DmaMemory>,
    /// The pattern of every page, one after another.
    patterns: Vec<u8>,
    /// Free pages.
    free: Vec<usize>,
    /// An address at which nothing is mapped.
    hole: u64,
}

/// Data somewhere in host memory, with what its command says of it.
#[derive(Clone, Debug, Default)]
pub struct Buffer {
    /// Bytes of data.
    pub bytes: usize,
    /// PRP entry 1.
    pub prp1: u64,
    /// PRP entry 2.
    pub prp2: u64,
    /// Offset of the data in its first page.
    offset: usize,
    /// Pages of the data.
    pages: Vec<usize>,
    /// Pages of the list, with what they hold.
    lists: Vec<(usize, Vec<u64>)>,
}

impl Buffer {
    /// What a command without data says of its buffer.
    pub fn none(prp1: u64, prp2: u64) -> Self {
        Self { prp1, prp2, ..Self::default() }
    }
}

impl Arena {
    /// Fills fresh memory with its pattern.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn new(platform: &mut impl Platform) -> Self {
        let mut allocate = |pages: usize| platform.allocate(pages * PAGE).expect("memory");
        let run = allocate(RUN_PAGES);
        let mut pages: Vec<DmaMemory> = (0..RUN_PAGES).map(|n| run.part(n * PAGE, PAGE)).collect();
        pages.extend((0..ISLANDS).map(|_| allocate(1)));
        // Unmapped again at once; bus addresses are not used twice.
        let hole = allocate(4).iova().0;
        let patterns = (0..pages.len()).flat_map(pattern).flat_map(u64::to_le_bytes).collect();
        let arena = Self { free: (0..pages.len()).collect(), pages, patterns, hole };
        (0..arena.pages.len()).for_each(|page| arena.restore(page));
        arena
    }

    /// An address at which nothing is mapped, on a page.
    pub fn hole(&self) -> u64 {
        self.hole
    }

    /// Whether an address lies where nothing is mapped on purpose.
    pub fn is_hole(&self, iova: u64) -> bool {
        (self.hole..self.hole + 4 * PAGE as u64).contains(&iova)
    }

    /// Free pages.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// A buffer for `bytes` bytes at a random place, with a list where it needs one; `None` when there
    /// are too few pages. What it holds is the pattern.
    pub fn buffer(&mut self, random: &mut ChaCha8Rng, bytes: usize, block_shift: u8) -> Option<Buffer> {
        let offset = match random.random_range(0..5) {
            0 | 1 => 0,
            2 => random.random_range(0..PAGE >> block_shift) << block_shift,
            _ => random.random_range(0..PAGE / 4) * 4,
        };
        let count = (offset + bytes).div_ceil(PAGE).max(1);
        if count + 3 > self.free.len() {
            return None;
        }
        let pages = self.take(random, count);
        let mut buffer = Buffer { bytes, offset, prp1: 0, prp2: 0, pages, lists: Vec::new() };
        buffer.prp1 = self.iova(buffer.pages[0]) + offset as u64;
        buffer.prp2 = match count {
            // Not looked at: anything.
            1 => random.random_range(0..u64::MAX),
            2 => self.iova(buffer.pages[1]),
            _ => self.list(random, &mut buffer),
        };
        Some(buffer)
    }

    /// A buffer for one record of `bytes` bytes that does not cross its page.
    pub fn record(&mut self, random: &mut ChaCha8Rng, record: &[u8]) -> Option<Buffer> {
        if self.free.is_empty() {
            return None;
        }
        let pages = self.take(random, 1);
        let offset = random.random_range(0..=(PAGE - record.len()) / 4) * 4;
        let prp1 = self.iova(pages[0]) + offset as u64;
        let prp2 = random.random_range(0..u64::MAX);
        let buffer = Buffer { bytes: record.len(), prp1, prp2, offset, pages, lists: Vec::new() };
        self.write(&buffer, record);
        Some(buffer)
    }

    /// Writes a list for all pages but the first, from a random slot on; its address.
    fn list(&mut self, random: &mut ChaCha8Rng, buffer: &mut Buffer) -> u64 {
        let entries: Vec<u64> = buffer.pages[1..].iter().map(|&page| self.iova(page)).collect();
        let slots = if random.random_bool(0.2) { SLOTS } else { random.random_range(1..=entries.len() + 1) };
        let slots = slots.min(SLOTS);
        let first = self.take(random, 1)[0];
        let mut words = pattern(first);
        if entries.len() <= slots {
            words[SLOTS - slots..][..entries.len()].copy_from_slice(&entries);
        } else {
            let (here, there) = entries.split_at(slots - 1);
            let second = self.take(random, 1)[0];
            words[SLOTS - slots..SLOTS - 1].copy_from_slice(here);
            words[SLOTS - 1] = self.iova(second);
            let mut rest = pattern(second);
            rest[..there.len()].copy_from_slice(there);
            buffer.lists.push((second, rest));
        }
        buffer.lists.insert(0, (first, words));
        self.write_lists(buffer);
        self.iova(first) + ((SLOTS - slots) * 8) as u64
    }

    fn write_lists(&self, buffer: &Buffer) {
        for (page, words) in &buffer.lists {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            self.pages[*page].write(0, &bytes);
        }
    }

    /// Puts `word` in place of entry `number` of a list, or of the chain pointer (`None`); whether there
    /// is such an entry.
    pub fn replace_entry(
        &self,
        buffer: &mut Buffer,
        number: Option<usize>,
        word: impl Fn(u64) -> u64,
    ) -> bool {
        let slot = (buffer.prp2 as usize % PAGE) / 8;
        let chained = buffer.lists.len() == 2;
        let place = match number {
            None => chained.then_some((0, SLOTS - 1)),
            Some(number) if buffer.lists.is_empty() || number + 1 >= buffer.pages.len() => None,
            Some(number) if chained && slot + number >= SLOTS - 1 => Some((1, slot + number - (SLOTS - 1))),
            Some(number) => Some((0, slot + number)),
        };
        let Some((list, slot)) = place else { return false };
        let entry = &mut buffer.lists[list].1[slot];
        *entry = word(*entry);
        self.write_lists(buffer);
        true
    }

    /// Puts `data` into a buffer.
    pub fn write(&self, buffer: &Buffer, data: &[u8]) {
        for (page, at, part) in parts(buffer) {
            self.pages[page].write(at, &data[part]);
        }
    }

    /// What a buffer holds.
    pub fn read(&self, buffer: &Buffer) -> Vec<u8> {
        let mut data = vec![0; buffer.bytes];
        for (page, at, part) in parts(buffer) {
            self.pages[page].read(at, &mut data[part]);
        }
        data
    }

    /// What the pattern puts into a buffer.
    pub fn blank(&self, buffer: &Buffer) -> Vec<u8> {
        let mut data = vec![0; buffer.bytes];
        for (page, at, part) in parts(buffer) {
            data[part.clone()].copy_from_slice(&self.pattern(page)[at..at + part.len()]);
        }
        data
    }

    /// Checks the guards around a buffer and its lists, and takes its pages back.
    ///
    /// # Errors
    /// Says where a byte was changed.
    pub fn release(&mut self, buffer: Buffer) -> Result<(), String> {
        for (number, &page) in buffer.pages.iter().enumerate() {
            let begin = if number == 0 { buffer.offset } else { 0 };
            let end = (buffer.offset + buffer.bytes - number * PAGE).min(PAGE);
            let (found, expected) = (self.bytes(page), self.pattern(page));
            if found[..begin] == expected[..begin] && found[end..] == expected[end..] {
                continue;
            }
            let outside = |&at: &usize| (at < begin || at >= end) && found[at] != expected[at];
            if let Some(at) = (0..PAGE).find(outside) {
                return Err(format!(
                    "guard byte {at:#x} of page {number} at {:#x} is {:#04x}, the data is {begin:#x}..{end:#x}",
                    self.iova(page),
                    found[at]
                ));
            }
        }
        for (page, words) in &buffer.lists {
            let kept =
                self.bytes(*page).chunks_exact(8).zip(words).all(|(found, word)| found == word.to_le_bytes());
            if !kept {
                return Err(format!("the PRP list at {:#x} was changed", self.iova(*page)));
            }
        }
        for page in buffer.pages.iter().copied().chain(buffer.lists.iter().map(|list| list.0)) {
            self.restore(page);
            self.free.push(page);
        }
        Ok(())
    }

    /// Checks that no free page was touched.
    ///
    /// # Errors
    /// Says where.
    pub fn check_free(&self) -> Result<(), String> {
        match self.free.iter().find(|&&page| self.bytes(page) != self.pattern(page)) {
            None => Ok(()),
            Some(&page) => Err(format!("the free page at {:#x} was changed", self.iova(page))),
        }
    }

    /// Takes pages: scattered ones, or now and then neighbours.
    fn take(&mut self, random: &mut ChaCha8Rng, count: usize) -> Vec<usize> {
        if random.random_bool(0.1) {
            self.free.sort_unstable_by(|a, b| b.cmp(a));
            let mut taken = self.free.split_off(self.free.len() - count);
            taken.reverse();
            return taken;
        }
        // The chosen ones stand at the end.
        let _ = self.free.partial_shuffle(random, count);
        self.free.split_off(self.free.len() - count)
    }

    fn iova(&self, page: usize) -> u64 {
        self.pages[page].iova().0
    }

    fn bytes(&self, page: usize) -> Vec<u8> {
        let mut bytes = vec![0; PAGE];
        self.pages[page].read(0, &mut bytes);
        bytes
    }

    fn restore(&self, page: usize) {
        self.pages[page].write(0, self.pattern(page));
    }

    fn pattern(&self, page: usize) -> &[u8] {
        &self.patterns[page * PAGE..][..PAGE]
    }
}

/// The pieces of a buffer: page, offset in it, and which bytes of the data.
fn parts(buffer: &Buffer) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> + '_ {
    buffer.pages.iter().enumerate().map(|(number, &page)| {
        let at = if number == 0 { buffer.offset } else { 0 };
        let begin = (number * PAGE).saturating_sub(buffer.offset);
        let end = ((number + 1) * PAGE - buffer.offset).min(buffer.bytes);
        (page, at, begin..end)
    })
}

/// The words of a page's pattern: no word is an address on a page, nor one that is mapped.
fn pattern(page: usize) -> Vec<u64> {
    (0..SLOTS).map(|word| mix((page * SLOTS + word) as u64) | 0x8000_0000_0000_0000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::fork;
    use volplane::software::Pages;
    use volplane_sim::{SimPlatform, SimulatorConfig};

    fn arena() -> (Arena, SimPlatform) {
        let mut platform = SimPlatform::new(SimulatorConfig::new(1)).expect("an empty machine");
        (Arena::new(&mut platform), platform)
    }

    #[test]
    fn lists_name_the_pages_of_their_buffers() {
        let (mut arena, platform) = arena();
        let (handle, mut random) = (platform.handle(), fork(3, "arena"));
        let mut chained = 0;
        for round in 0..300 {
            let bytes = random.random_range(1..=80) * 512;
            let buffer = arena.buffer(&mut random, bytes, 9).expect("pages");
            let data: Vec<u8> = (0..bytes).map(|at| (at + round) as u8).collect();
            arena.write(&buffer, &data);
            let memory = |at| {
                let mut word = [0; 8];
                handle.memory().read(volplane_sim::Agent::Host, at, &mut word).ok()?;
                Some(u64::from_le_bytes(word))
            };
            let pages = Pages::walk(buffer.prp1, buffer.prp2, bytes as u64, &memory).expect("sound");
            let mut found = Vec::new();
            for segment in pages.segments(0, bytes as u64).expect("sound") {
                let mut part = vec![0; segment.len as usize];
                handle.memory().read(volplane_sim::Agent::Host, segment.iova, &mut part).expect("mapped");
                found.extend(part);
            }
            assert_eq!(found, data);
            chained += usize::from(buffer.lists.len() == 2);
            arena.release(buffer).expect("untouched");
        }
        assert!(chained > 20, "{chained} lists of two pages");
        assert!(handle.refusals().is_empty());
        arena.check_free().expect("all restored");
    }

    #[test]
    fn a_changed_guard_byte_is_seen() {
        let (mut arena, _platform) = arena();
        let mut random = fork(4, "arena");
        let buffer = arena.buffer(&mut random, 3 * 4096 - 8, 9).expect("pages");
        let last = *buffer.pages.last().expect("pages");
        let beside = (buffer.offset + buffer.bytes) % PAGE;
        let guard = arena.pattern(last)[beside];
        arena.pages[last].write(beside, &[!guard]);
        assert!(arena.release(buffer).is_err());
        let free = arena.free[5];
        arena.pages[free].write(77, &[1, 2]);
        assert!(arena.check_free().is_err());
    }
}
