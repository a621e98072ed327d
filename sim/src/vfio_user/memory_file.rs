//! A file of the client in which memory of its lies.
//!
//! A file that is sealed against shrinking is mapped, whole, and read and written as host memory is. Touching a mapped
//! page that is there no more would end the process, so a file that its owner can shrink is read and written by calls
//! instead, a word at a time and in ascending order like the other; what is beyond its end then is an error.

use std::os::fd::OwnedFd;

use rustix::fs::{fcntl_get_seals, fstat, SealFlags};
use rustix::io::{pread, pwrite, Errno};

use crate::mapped_bytes::SharedBytes;

/// Which file: device and inode.
pub(super) type FileId = (u64, u64);

enum Reached {
    Mapped(SharedBytes),
    Called(OwnedFd),
}

pub(super) struct MemoryFile {
    reached: Reached,
    bytes: u64,
}

/// The identity of a file, and its length.
pub(super) fn identify(file: &OwnedFd) -> Result<(FileId, u64), Errno> {
    let stat = fstat(file)?;
    let bytes = u64::try_from(stat.st_size).map_err(|_| Errno::INVAL)?;
    Ok(((stat.st_dev, stat.st_ino), bytes))
}

impl MemoryFile {
    /// The file of `bytes` bytes.
    pub(super) fn new(file: OwnedFd, bytes: u64) -> Result<Self, Errno> {
        let is_sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        let reached = match usize::try_from(bytes) {
            Ok(len) if is_sealed => {
                let mapped = SharedBytes::map(&file, len);
                Reached::Mapped(mapped.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOMEM))?)
            }
            _ => Reached::Called(file),
        };
        Ok(Self { reached, bytes })
    }

    /// Bytes, as of when it came.
    pub(super) fn len(&self) -> u64 {
        self.bytes
    }

    fn holds(&self, offset: u64, len: usize) -> bool {
        offset <= self.bytes && len as u64 <= self.bytes - offset
    }

    /// Copies out.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        if !self.holds(offset, into.len()) {
            return Err(Errno::FAULT);
        }
        match &self.reached {
            Reached::Mapped(bytes) => bytes.read(offset as usize, into),
            Reached::Called(file) => {
                if pread(file, &mut *into, offset)? != into.len() {
                    return Err(Errno::FAULT);
                }
            }
        }
        Ok(())
    }

    /// Copies in, in ascending order: who sees a word sees all before it.
    pub(super) fn write(&self, offset: u64, from: &[u8]) -> Result<(), Errno> {
        if !self.holds(offset, from.len()) {
            return Err(Errno::FAULT);
        }
        match &self.reached {
            Reached::Mapped(bytes) => bytes.write(offset as usize, from),
            Reached::Called(file) => {
                let (mut at, mut rest) = (offset, from);
                while !rest.is_empty() {
                    let (word, after) = rest.split_at(rest.len().min(8 - at as usize % 8));
                    if pwrite(file, word, at)? != word.len() {
                        return Err(Errno::FAULT);
                    }
                    (at, rest) = (at + word.len() as u64, after);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{fcntl_add_seals, ftruncate, memfd_create, MemfdFlags};

    use super::*;

    fn file(bytes: u64, seals: SealFlags) -> OwnedFd {
        let file = memfd_create("memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory");
        ftruncate(&file, bytes).expect("room");
        fcntl_add_seals(&file, seals).expect("sealed");
        file
    }

    #[test]
    fn both_kinds_hold_what_is_written_at_every_alignment() {
        for seals in [SealFlags::SHRINK, SealFlags::empty()] {
            let file = file(4096, seals);
            let (_, bytes) = identify(&file).expect("a file");
            let memory = MemoryFile::new(file, bytes).expect("reached");
            assert_eq!(matches!(memory.reached, Reached::Mapped(_)), seals == SealFlags::SHRINK);
            for offset in 0..16 {
                for len in 0..40 {
                    memory.write(0, &[0xEE; 64]).expect("within");
                    let data: Vec<u8> = (0..len as u8).map(|i| i ^ 0x5A).collect();
                    memory.write(offset, &data).expect("within");
                    let mut all = [0; 64];
                    memory.read(0, &mut all).expect("within");
                    let (start, end) = (offset as usize, offset as usize + len);
                    assert_eq!(all[start..end], data[..]);
                    assert!(all[..start].iter().chain(&all[end..]).all(|&byte| byte == 0xEE));
                }
            }
            assert_eq!(memory.read(4090, &mut [0; 8]), Err(Errno::FAULT));
            assert_eq!(memory.write(u64::MAX, &[0; 8]), Err(Errno::FAULT));
        }
    }

    #[test]
    fn a_file_that_shrank_is_an_error() {
        let file = file(8192, SealFlags::empty());
        let copy = file.try_clone().expect("a descriptor");
        let memory = MemoryFile::new(file, 8192).expect("reached");
        ftruncate(&copy, 4096).expect("shrunk");
        assert_eq!(memory.read(4096, &mut [0; 8]), Err(Errno::FAULT));
        assert_eq!(memory.read(4088, &mut [0; 8]), Ok(()));
    }
}
