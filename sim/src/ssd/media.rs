//! Where an SSD keeps its bytes: sparse, in memory or in a file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{fallocate, FallocateFlags};

const CHUNK: u64 = 64 * 1024;

/// The bytes of a namespace. What was never written, or was deallocated, reads as zeros.
pub(crate) enum Media {
    /// Chunks by number.
    Memory(BTreeMap<u64, Box<[u8]>>),
    /// A file at least as long as the namespace; `durable`: `sync` reaches the disk.
    File {
        /// Open for reading and writing.
        file: File,
        /// Whether `sync` means fdatasync.
        durable: bool,
    },
}

impl Media {
    /// Empty, in memory.
    pub(crate) fn memory() -> Self {
        Media::Memory(BTreeMap::new())
    }

    /// In the file at `path`, which exists and has at least `bytes` bytes.
    pub(crate) fn file(path: &Path, bytes: u64, durable: bool) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let found = file.metadata()?.len();
        if found < bytes {
            let reason = format!("the file has {found} bytes, the SSD needs {bytes}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        Ok(Media::File { file, durable })
    }

    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        match self {
            Media::File { file, .. } => file.read_exact_at(into, offset),
            Media::Memory(chunks) => {
                let mut done = 0;
                for (number, start, len) in pieces(offset, into.len() as u64) {
                    let part = &mut into[done..done + len];
                    match chunks.get(&number) {
                        Some(chunk) => part.copy_from_slice(&chunk[start..start + len]),
                        None => part.fill(0),
                    }
                    done += len;
                }
                Ok(())
            }
        }
    }

    pub(crate) fn write(&mut self, offset: u64, from: &[u8]) -> io::Result<()> {
        match self {
            Media::File { file, .. } => file.write_all_at(from, offset),
            Media::Memory(chunks) => {
                let mut done = 0;
                for (number, start, len) in pieces(offset, from.len() as u64) {
                    let chunk = chunks.entry(number).or_insert_with(|| vec![0; CHUNK as usize].into());
                    chunk[start..start + len].copy_from_slice(&from[done..done + len]);
                    done += len;
                }
                Ok(())
            }
        }
    }

    /// Makes a range read as zeros and releases what held it.
    pub(crate) fn clear(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        match self {
            Media::File { file, .. } => {
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                match fallocate(&*file, punch, offset, bytes) {
                    Ok(()) => Ok(()),
                    Err(rustix::io::Errno::OPNOTSUPP) => {
                        // The file system has no holes: write the zeros.
                        for (number, start, len) in pieces(offset, bytes) {
                            file.write_all_at(&vec![0; len], number * CHUNK + start as u64)?;
                        }
                        Ok(())
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Media::Memory(chunks) => {
                let end = offset + bytes;
                let (first, last) = (offset.div_ceil(CHUNK), end / CHUNK);
                if first < last {
                    let mut after = chunks.split_off(&first);
                    chunks.append(&mut after.split_off(&last));
                }
                for (number, start, len) in
                    pieces(offset, bytes.min(CHUNK)).chain(pieces(end - bytes.min(CHUNK), bytes.min(CHUNK)))
                {
                    if let Some(chunk) = chunks.get_mut(&number) {
                        chunk[start..start + len].fill(0);
                    }
                }
                Ok(())
            }
        }
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match self {
            Media::File { file, durable: true } => file.sync_data(),
            _ => Ok(()),
        }
    }
}

/// Cuts a range at chunk borders: chunk number, first byte in it, bytes.
fn pieces(offset: u64, bytes: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = offset;
    let end = offset + bytes;
    std::iter::from_fn(move || {
        if at == end {
            return None;
        }
        let (number, start) = (at / CHUNK, at % CHUNK);
        let len = (CHUNK - start).min(end - at);
        at += len;
        Some((number, start as usize, len as usize))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    /// Random writes, clears and reads against a plain vector.
    fn against_a_vector(mut media: Media, seed: u64) {
        let size = 5 * CHUNK as usize;
        let mut model = vec![0u8; size];
        let mut random = crate::random::fork(seed, "media");
        let mut draw = |limit: usize| (random.next_u64() % limit as u64) as usize;
        for step in 0..400 {
            let offset = draw(size);
            let len = draw((size - offset).min(3 * CHUNK as usize)) + 1;
            match draw(3) {
                0 => {
                    let data: Vec<u8> = (0..len).map(|i| (i + step) as u8).collect();
                    media.write(offset as u64, &data).expect("write");
                    model[offset..offset + len].copy_from_slice(&data);
                }
                1 => {
                    media.clear(offset as u64, len as u64).expect("clear");
                    model[offset..offset + len].fill(0);
                }
                _ => {
                    let mut data = vec![0xEE; len];
                    media.read(offset as u64, &mut data).expect("read");
                    assert!(data == model[offset..offset + len], "step {step} of seed {seed}");
                }
            }
        }
        let mut all = vec![0; size];
        media.read(0, &mut all).expect("read");
        assert!(all == model);
    }

    #[test]
    fn memory_and_file_behave_as_a_vector() {
        let seed = crate::test_seed();
        against_a_vector(Media::memory(), seed);
        let file = tempfile::NamedTempFile::new().expect("file");
        file.as_file().set_len(5 * CHUNK).expect("length");
        against_a_vector(Media::file(file.path(), 5 * CHUNK, true).expect("open"), seed);
        assert_eq!(file.as_file().metadata().expect("metadata").len(), 5 * CHUNK);
    }

    #[test]
    fn a_short_or_missing_file_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("file");
        assert!(Media::file(file.path(), 1, true).is_err());
        assert!(Media::file(Path::new("/nonexistent/ssd"), 1, true).is_err());
    }
}
