//! Host memory that devices read and write by DMA.
//!
//! A device may change the memory at any time, so no Rust reference to its bytes is ever handed
//! out: every access is a copy by atomic loads and stores, of words where alignment allows.
//! `load_acquire` is for the word that holds a phase tag; a doorbell write orders what came before.

#![allow(unsafe_code)] // The one module that touches DMA memory through a raw pointer.

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering};
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions, MmapRaw};

/// A bus address, as a device uses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Iova(pub u64);

impl fmt::Debug for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl std::ops::Add<u64> for Iova {
    type Output = Iova;
    fn add(self, bytes: u64) -> Iova {
        Iova(self.0 + bytes)
    }
}

/// A page of every device here: CC.MPS = 0.
pub const PAGE: usize = 4096;

/// A run of DMA memory. Clones name the same bytes; the last one to go releases them.
#[derive(Clone)]
pub struct DmaMemory {
    pointer: NonNull<u8>,
    len: usize,
    iova: Iova,
    owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: all access goes through atomics, so sharing between threads is no data race; `owner` keeps
// the mapping alive as long as any clone.
unsafe impl Send for DmaMemory {}
// SAFETY: as above.
unsafe impl Sync for DmaMemory {}

impl fmt::Debug for DmaMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaMemory({:?}, {} bytes)", self.iova, self.len)
    }
}

/// Something that is told when the last clone of a `DmaMemory` goes, and unmaps it.
pub trait Unmap: Send + Sync + 'static {}
impl<T: Send + Sync + 'static> Unmap for T {}

struct Mapping<U> {
    // Dropped in this order: the device loses the memory before the process does.
    _unmap: U,
    _bytes: MmapRaw,
}

impl DmaMemory {
    /// Wraps an anonymous mapping that devices reach at `iova`; `unmap` is dropped before it.
    pub fn new<U: Unmap>(bytes: MmapMut, iova: Iova, unmap: U) -> Self {
        Self::of_mapping(bytes.into(), iova, unmap)
    }

    /// Maps the first `len` bytes of a file that a device's process has mapped, too, at `iova`; `unmap` is dropped
    /// before the mapping. Whoever shrinks the file meanwhile ends this process.
    ///
    /// # Errors
    /// The operating system's.
    pub fn of_file<U: Unmap>(file: &File, len: usize, iova: Iova, unmap: U) -> std::io::Result<Self> {
        Ok(Self::of_mapping(MmapOptions::new().len(len).map_raw(file)?, iova, unmap))
    }

    fn of_mapping<U: Unmap>(bytes: MmapRaw, iova: Iova, unmap: U) -> Self {
        let len = bytes.len();
        let pointer = NonNull::new(bytes.as_mut_ptr()).expect("a mapping is never at address 0");
        Self { pointer, len, iova, owner: Arc::new(Mapping { _unmap: unmap, _bytes: bytes }) }
    }

    /// Bus address of the first byte.
    pub fn iova(&self) -> Iova {
        self.iova
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether nobody else has it, or a part of it.
    pub fn is_alone(&self) -> bool {
        Arc::strong_count(&self.owner) == 1
    }

    /// A part of it, as memory of its own.
    ///
    /// # Panics
    /// When the part reaches beyond the end: a fault of the caller, never of a device.
    pub fn part(&self, offset: usize, len: usize) -> DmaMemory {
        self.check(offset, len);
        DmaMemory {
            // SAFETY: `offset` lies within the mapping, checked above.
            pointer: unsafe { self.pointer.add(offset) },
            len,
            iova: self.iova + offset as u64,
            owner: self.owner.clone(),
        }
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// When the range reaches beyond the end.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        self.check(offset, into.len());
        let (mut at, mut rest) = (offset, into);
        while !rest.is_empty() {
            if rest.len() >= 8 && (self.pointer.as_ptr() as usize + at).is_multiple_of(8) {
                rest[..8].copy_from_slice(&self.word64(at).load(Ordering::Relaxed).to_le_bytes());
                at += 8;
                rest = &mut rest[8..];
            } else {
                rest[0] = self.byte(at).load(Ordering::Relaxed);
                at += 1;
                rest = &mut rest[1..];
            }
        }
    }

    /// Copies bytes in.
    ///
    /// # Panics
    /// When the range reaches beyond the end.
    pub fn write(&self, offset: usize, from: &[u8]) {
        self.check(offset, from.len());
        let (mut at, mut rest) = (offset, from);
        while !rest.is_empty() {
            if rest.len() >= 8 && (self.pointer.as_ptr() as usize + at).is_multiple_of(8) {
                let word = u64::from_le_bytes(rest[..8].try_into().expect("8 bytes"));
                self.word64(at).store(word, Ordering::Relaxed);
                at += 8;
                rest = &rest[8..];
            } else {
                self.byte(at).store(rest[0], Ordering::Relaxed);
                at += 1;
                rest = &rest[1..];
            }
        }
    }

    /// Sets a range to one value.
    pub fn fill(&self, offset: usize, len: usize, value: u8) {
        let chunk = [value; 256];
        let mut done = 0;
        while done < len {
            let take = (len - done).min(chunk.len());
            self.write(offset + done, &chunk[..take]);
            done += take;
        }
    }

    /// Loads an aligned word; what a device wrote before it is visible after.
    ///
    /// # Panics
    /// When the word is unaligned or beyond the end.
    pub fn load_acquire(&self, offset: usize) -> u32 {
        self.check(offset, 4);
        assert_eq!(offset % 4, 0, "unaligned word");
        // SAFETY: within the mapping, aligned (mappings are page aligned), shared only by atomics.
        let word = unsafe { &*(self.pointer.as_ptr().add(offset) as *const AtomicU32) };
        u32::from_le(word.load(Ordering::Acquire))
    }

    /// Reads a descriptor.
    pub fn read_record<T: zerocopy::FromBytes + zerocopy::IntoBytes>(&self, offset: usize) -> T {
        let mut record = T::new_zeroed();
        self.read(offset, record.as_mut_bytes());
        record
    }

    /// Writes a descriptor.
    pub fn write_record<T: zerocopy::IntoBytes + zerocopy::Immutable>(&self, offset: usize, record: &T) {
        self.write(offset, record.as_bytes());
    }

    fn check(&self, offset: usize, len: usize) {
        assert!(offset <= self.len && len <= self.len - offset, "{len} bytes at {offset} of {self:?}");
    }

    fn byte(&self, at: usize) -> &AtomicU8 {
        // SAFETY: callers checked that `at` lies within the mapping; the owner keeps it alive.
        unsafe { &*(self.pointer.as_ptr().add(at) as *const AtomicU8) }
    }

    fn word64(&self, at: usize) -> &AtomicU64 {
        // SAFETY: callers checked range and alignment; the owner keeps the mapping alive.
        unsafe { &*(self.pointer.as_ptr().add(at) as *const AtomicU64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(len: usize) -> DmaMemory {
        DmaMemory::new(memmap2::MmapMut::map_anon(len).expect("memory"), Iova(0x1000), ())
    }

    #[test]
    fn copies_at_every_alignment() {
        let memory = memory(PAGE);
        for offset in 0..24 {
            for len in 0..40 {
                let data: Vec<u8> = (0..len as u8).map(|i| i ^ 0xA5 ^ offset as u8).collect();
                memory.fill(0, 128, 0xEE);
                memory.write(offset, &data);
                let mut all = vec![0; 128];
                memory.read(0, &mut all);
                assert!(all[..offset].iter().chain(&all[offset + len..]).all(|&b| b == 0xEE));
                assert_eq!(&all[offset..offset + len], &data[..]);
                let mut back = vec![0; len];
                memory.read(offset, &mut back);
                assert_eq!(back, data);
            }
        }
    }

    #[test]
    fn a_part_keeps_the_mapping_and_its_address() {
        let whole = memory(2 * PAGE);
        whole.write(PAGE, &7u32.to_le_bytes());
        let part = whole.part(PAGE, 16);
        assert!(!whole.is_alone() && !part.is_alone());
        drop(whole);
        assert!(part.is_alone());
        assert_eq!(part.iova(), Iova(0x2000));
        assert_eq!(part.load_acquire(0), 7);
    }

    #[test]
    #[should_panic(expected = "bytes at")]
    fn beyond_the_end_is_refused() {
        memory(PAGE).write(PAGE - 1, &[0, 0]);
    }
}
