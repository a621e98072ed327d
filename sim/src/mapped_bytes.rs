//! The simulator's view of memory that a `DmaMemory` owns, or another process.
//!
//! Every access is a copy by atomic loads and stores, as on the driver's side, so that a driver
//! thread and the simulated devices may touch the same bytes at once.

#![allow(unsafe_code)] // Reads and writes host memory through a raw pointer.

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// Bytes of a mapping, owned elsewhere.
pub(crate) struct MappedBytes {
    pointer: NonNull<u8>,
    len: usize,
}

// SAFETY: all access is by atomics, and whoever holds a `MappedBytes` drops it before the mapping
// goes (see `new`).
unsafe impl Send for MappedBytes {}

impl MappedBytes {
    /// Looks at `map`. The caller drops the result before `map` is unmapped: `HostMemory` does, as
    /// the unmap guard that it gives to `DmaMemory` goes before the mapping.
    pub(crate) fn new(map: &mut memmap2::MmapMut) -> Self {
        let pointer = NonNull::new(map.as_mut_ptr()).expect("a mapping is never at address 0");
        Self { pointer, len: map.len() }
    }

    /// Looks at a mapping that may be read and written. The caller drops the result before it.
    fn of_raw(map: &MmapRaw) -> Self {
        let pointer = NonNull::new(map.as_mut_ptr()).expect("a mapping is never at address 0");
        Self { pointer, len: map.len() }
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies out.
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) {
        self.check(offset, into.len());
        let head = self.head(offset, into.len());
        let (first, rest) = into.split_at_mut(head);
        self.read_bytes(offset, first);
        let mut at = offset + head;
        let mut words = rest.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.word(at).load(Ordering::Acquire).to_le_bytes());
            at += 8;
        }
        self.read_bytes(at, words.into_remainder());
    }

    /// Copies in, in ascending order: who sees a word sees all before it.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        self.check(offset, from.len());
        let (first, rest) = from.split_at(self.head(offset, from.len()));
        self.write_bytes(offset, first);
        let mut at = offset + first.len();
        let words = rest.chunks_exact(8);
        let tail = words.remainder();
        for word in words {
            let value = u64::from_le_bytes(word.try_into().expect("8 bytes"));
            self.word(at).store(value, Ordering::Release);
            at += 8;
        }
        self.write_bytes(at, tail);
    }

    /// Bytes before the first aligned word.
    fn head(&self, offset: usize, len: usize) -> usize {
        ((self.pointer.as_ptr() as usize + offset).wrapping_neg() % 8).min(len)
    }

    fn read_bytes(&self, at: usize, into: &mut [u8]) {
        for (i, byte) in into.iter_mut().enumerate() {
            *byte = self.byte(at + i).load(Ordering::Acquire);
        }
    }

    fn write_bytes(&self, at: usize, from: &[u8]) {
        for (i, byte) in from.iter().enumerate() {
            self.byte(at + i).store(*byte, Ordering::Release);
        }
    }

    fn check(&self, offset: usize, len: usize) {
        assert!(offset <= self.len && len <= self.len - offset, "{len} bytes at {offset} of {}", self.len);
    }

    fn byte(&self, at: usize) -> &AtomicU8 {
        debug_assert!(at < self.len);
        // SAFETY: `check` put `at` within the mapping, which outlives `self`.
        unsafe { &*(self.pointer.as_ptr().add(at) as *const AtomicU8) }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at + 8 <= self.len);
        // SAFETY: `check` put the word within the mapping, `head` aligned it; the mapping outlives `self`.
        unsafe { &*(self.pointer.as_ptr().add(at) as *const AtomicU64) }
    }
}

/// Bytes of a file that another process has mapped, too. Whoever can shrink the file can end this process: pages beyond
/// its end are none.
pub(crate) struct SharedBytes {
    // Dropped in this order.
    bytes: MappedBytes,
    _map: MmapRaw,
}

impl SharedBytes {
    /// Maps the first `len` bytes of a file.
    pub(crate) fn map(file: &OwnedFd, len: usize) -> std::io::Result<Self> {
        let map = MmapOptions::new().len(len).map_raw(file)?;
        Ok(Self { bytes: MappedBytes::of_raw(&map), _map: map })
    }
}

impl std::ops::Deref for SharedBytes {
    type Target = MappedBytes;

    fn deref(&self) -> &MappedBytes {
        &self.bytes
    }
}
