//! Host memory by its bus address, as a card reaches it: the lists and ranges that commands name, and buffers for zeros.

use std::collections::BTreeMap;

use volplane_driver::DmaMemory;

/// What the service has allocated, by address, as long as somebody else has it too.
#[derive(Default)]
pub(super) struct HostMemory(BTreeMap<u64, DmaMemory>);

impl HostMemory {
    pub(super) fn insert(&mut self, memory: &DmaMemory) {
        self.0.insert(memory.iova().0, memory.clone());
    }

    /// Forgets, and so releases, what nobody else has.
    pub(super) fn forget_unused(&mut self) {
        self.0.retain(|_, memory| !memory.is_alone());
    }

    /// Some bytes, if they lie in one piece.
    pub(super) fn at(&self, iova: u64, bytes: usize) -> Option<DmaMemory> {
        let (_, memory) = self.0.range(..=iova).next_back()?;
        let offset = usize::try_from(iova - memory.iova().0).ok()?;
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= memory.len());
        inside.then(|| memory.part(offset, bytes))
    }

    /// An aligned word.
    pub(super) fn word(&self, iova: u64) -> Option<u64> {
        Some(self.at(iova, 8).filter(|_| iova.is_multiple_of(8))?.read_record(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volplane_driver::Iova;

    #[test]
    fn what_is_found_is_there_and_whole() {
        let new = |iova| {
            let map = memmap2::MmapMut::map_anon(4096).expect("memory");
            DmaMemory::new(map, Iova(iova), ())
        };
        let (first, second) = (new(0x4000), new(0x8000));
        let mut memory = HostMemory::default();
        memory.insert(&first);
        memory.insert(&second);
        second.write_record(0xFF8, &7u64);
        assert_eq!((memory.word(0x8FF8), memory.word(0x8FF0), memory.word(0x8FFC)), (Some(7), Some(0), None));
        for (iova, bytes) in [(0x3FFF, 1), (0x4000, 4097), (0x5000, 1), (0x8FFF, 2), (u64::MAX, 1)] {
            assert!(memory.at(iova, bytes).is_none(), "{bytes} bytes at {iova:#x}");
        }
        drop(second);
        memory.forget_unused();
        assert!(memory.at(0x8000, 1).is_none() && memory.at(0x4FFF, 1).is_some());
    }
}
