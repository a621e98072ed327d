//! The client's DMA windows: which addresses lie in files that it gave, and what is allowed there.
//!
//! An address in no window is not refused here: the bars of peers come without one, and the client knows them. Windows
//! are of whole pages, so no burst of the card, none of which crosses one, lies in two. A file is mapped once, however
//! many windows show parts of it, and let go with the last of them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::memory_file::{identify, FileId, MemoryFile};
use super::version::{PAGE_SIZES, WINDOWS_MAX};
use super::wire::{DmaMap, MAP_READABLE, MAP_WRITABLE};
use crate::host_memory::Direction;

/// The card's messages to this page are its interrupts, and no window may hold it.
pub(super) const INTERRUPT_PAGE: u64 = 0xFFFF_FFFF_FFFF_F000;

struct Window {
    size: u64,
    flags: u32,
    /// The file, and where in it the window begins.
    file: Option<(FileId, u64)>,
}

struct UsedFile {
    memory: MemoryFile,
    windows: usize,
}

/// Where an access goes.
pub(super) enum Reach<'a> {
    /// To a file, at an offset.
    File(&'a MemoryFile, u64),
    /// To the client, by a message.
    Client,
    /// Nowhere: the window does not allow it.
    Refused,
}

#[derive(Default)]
pub(super) struct AddressSpace {
    windows: BTreeMap<u64, Window>,
    files: BTreeMap<FileId, UsedFile>,
}

impl AddressSpace {
    /// Adds a window.
    ///
    /// # Errors
    /// `INVAL`: empty, not of whole pages, beyond the addresses or the file, no permissions or unknown ones. `EXIST`:
    /// part of it is in a window already. `NOSPC`: too many windows. Others are those of the operating system.
    pub(super) fn map(&mut self, map: &DmaMap, file: Option<OwnedFd>) -> Result<(), Errno> {
        let DmaMap { flags, offset, address, size, .. } = *map;
        let pages = [offset, address, size].iter().all(|value| value.is_multiple_of(PAGE_SIZES));
        let end = address.checked_add(size).filter(|&end| end <= INTERRUPT_PAGE);
        let known = flags & (MAP_READABLE | MAP_WRITABLE);
        let Some(end) = end.filter(|_| pages && size > 0 && known == flags && flags != 0) else {
            return Err(Errno::INVAL);
        };
        if self.windows.range(..end).next_back().is_some_and(|(&base, window)| base + window.size > address) {
            return Err(Errno::EXIST);
        }
        if self.windows.len() >= WINDOWS_MAX {
            return Err(Errno::NOSPC);
        }
        let file = file.map(|file| self.use_file(file, offset, size)).transpose()?;
        self.windows.insert(address, Window { size, flags, file });
        Ok(())
    }

    fn use_file(&mut self, file: OwnedFd, offset: u64, size: u64) -> Result<(FileId, u64), Errno> {
        let (id, bytes) = identify(&file)?;
        // A file that grew since it was mapped is reached as far as it was then.
        let bytes = self.files.get(&id).map_or(bytes, |used| used.memory.len());
        if offset.checked_add(size).is_none_or(|end| end > bytes) {
            return Err(Errno::INVAL);
        }
        match self.files.get_mut(&id) {
            Some(used) => used.windows += 1,
            None => {
                let memory = MemoryFile::new(file, bytes)?;
                self.files.insert(id, UsedFile { memory, windows: 1 });
            }
        }
        Ok((id, offset))
    }

    /// Takes away all windows within a range; there may be none, as after an invalidation of what was never mapped.
    ///
    /// # Errors
    /// `INVAL`: the range is none, or cuts a window in two.
    pub(super) fn unmap(&mut self, address: u64, size: u64) -> Result<(), Errno> {
        // The range of all addresses has no end that could be written.
        let last = address.checked_add(size.checked_sub(1).ok_or(Errno::INVAL)?).ok_or(Errno::INVAL)?;
        let before = self.windows.range(..address).next_back();
        let cuts_first = before.is_some_and(|(&base, window)| base + window.size > address);
        let cuts_last = self
            .windows
            .range(address..=last)
            .next_back()
            .is_some_and(|(&base, w)| base + (w.size - 1) > last);
        if cuts_first || cuts_last {
            return Err(Errno::INVAL);
        }
        let bases: Vec<u64> = self.windows.range(address..=last).map(|(&base, _)| base).collect();
        bases.into_iter().for_each(|base| self.remove(base));
        Ok(())
    }

    fn remove(&mut self, base: u64) {
        let Some((id, _)) = self.windows.remove(&base).and_then(|window| window.file) else { return };
        let Some(used) = self.files.get_mut(&id) else { return };
        used.windows -= 1;
        if used.windows == 0 {
            self.files.remove(&id);
        }
    }

    /// Takes away all windows.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Where an access goes.
    pub(super) fn reach(&self, address: u64, len: usize, direction: Direction) -> Reach<'_> {
        let found = self.windows.range(..=address).next_back().filter(|(&base, window)| {
            address - base < window.size && len as u64 <= window.size - (address - base)
        });
        let Some((&base, window)) = found else { return Reach::Client };
        let needed = match direction {
            Direction::Read => MAP_READABLE,
            Direction::Write => MAP_WRITABLE,
        };
        if window.flags & needed == 0 {
            return Reach::Refused;
        }
        let file = window.file.and_then(|(id, offset)| Some((&self.files.get(&id)?.memory, offset)));
        file.map_or(Reach::Client, |(memory, offset)| Reach::File(memory, offset + (address - base)))
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{fcntl_add_seals, ftruncate, memfd_create, MemfdFlags, SealFlags};

    use super::*;

    fn file(bytes: u64) -> OwnedFd {
        let file = memfd_create("memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory");
        ftruncate(&file, bytes).expect("room");
        fcntl_add_seals(&file, SealFlags::SHRINK).expect("sealed");
        file
    }

    fn window(address: u64, size: u64, offset: u64, flags: u32) -> DmaMap {
        DmaMap { argsz: 32, flags, offset, address, size }
    }

    #[test]
    fn an_access_goes_where_its_window_says() {
        let mut space = AddressSpace::default();
        let shared = file(0x4000);
        let copy = || Some(shared.try_clone().expect("a descriptor"));
        space.map(&window(0x1_0000, 0x2000, 0x1000, 3), copy()).expect("a window");
        space.map(&window(0x2_0000, 0x1000, 0, 1), copy()).expect("the same file");
        space.map(&window(0x3_0000, 0x1000, 0, 3), None).expect("a window without a file");
        assert_eq!(space.files.len(), 1);
        let Reach::File(memory, 0x1FF8) = space.reach(0x1_0FF8, 8, Direction::Write) else {
            panic!("the file")
        };
        memory.write(0x1FF8, &[7; 8]).expect("within");
        assert!(matches!(space.reach(0x2_0000, 4, Direction::Read), Reach::File(_, 0)));
        assert!(matches!(space.reach(0x2_0000, 4, Direction::Write), Reach::Refused));
        assert!(matches!(space.reach(0x3_0000, 4, Direction::Write), Reach::Client));
        assert!(matches!(space.reach(0x1_1FFC, 8, Direction::Read), Reach::Client), "beyond the window");
        assert!(matches!(space.reach(0x9_0000, 8, Direction::Read), Reach::Client), "a peer, perhaps");
    }

    #[test]
    fn windows_that_cannot_be_are_refused() {
        let mut space = AddressSpace::default();
        let refused = |space: &mut AddressSpace, map, file| space.map(&map, file).expect_err("refused");
        for bad in [
            window(0x1000, 0, 0, 3),
            window(0x1001, 0x1000, 0, 3),
            window(0x1000, 0x1001, 0, 3),
            window(0x1000, 0x1000, 8, 3),
            window(0x1000, 0x1000, 0, 0),
            window(0x1000, 0x1000, 0, 7),
            window(0xFFFF_FFFF_FFFF_E000, 0x2000, 0, 3),
            window(0x1000, !0xFFF, 0, 3),
        ] {
            assert_eq!(refused(&mut space, bad, None), Errno::INVAL, "{bad:?}");
        }
        assert_eq!(refused(&mut space, window(0, 0x2000, 0x1000, 3), Some(file(0x2000))), Errno::INVAL);
        assert_eq!(refused(&mut space, window(0, 0x1000, !0xFFF, 3), Some(file(0x2000))), Errno::INVAL);
        space.map(&window(0x4000, 0x2000, 0, 3), None).expect("a window");
        for (address, size) in [(0x4000, 0x1000), (0x5000, 0x1000), (0x3000, 0x2000), (0, 0x10000)] {
            assert_eq!(refused(&mut space, window(address, size, 0, 3), None), Errno::EXIST);
        }
        space.map(&window(0x3000, 0x1000, 0, 3), None).expect("below");
        space.map(&window(0x6000, 0x1000, 0, 3), None).expect("above");
        assert!(space.files.is_empty());
    }

    #[test]
    fn unmapping_takes_whole_windows_and_lets_files_go() {
        let mut space = AddressSpace::default();
        let shared = file(0x4000);
        for page in 0..4 {
            let copy = shared.try_clone().expect("a descriptor");
            space
                .map(&window(0x4000 + page * 0x1000, 0x1000, page * 0x1000, 3), Some(copy))
                .expect("a window");
        }
        space.map(&window(0x1_0000, 0x2000, 0, 3), None).expect("a window");
        assert_eq!(space.unmap(0x1_1000, 0x1000), Err(Errno::INVAL));
        assert_eq!(space.unmap(0x1_0000, 0x1000), Err(Errno::INVAL));
        assert_eq!(space.unmap(0, 0), Err(Errno::INVAL));
        assert_eq!(space.unmap(u64::MAX, 2), Err(Errno::INVAL));
        assert_eq!(space.unmap(0x9_0000, 0x1000), Ok(()), "nothing there");
        assert_eq!(space.unmap(0x5000, 0x2000), Ok(()));
        assert_eq!((space.windows.len(), space.files.len()), (3, 1));
        assert_eq!(space.unmap(0, u64::MAX), Ok(()));
        assert_eq!((space.windows.len(), space.files.len()), (0, 0));
    }
}
