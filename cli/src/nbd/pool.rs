//! DMA memory for the data of requests, bounded in all.
//!
//! Memory comes from the service in slabs of 1 MiB. A slab is cut into buffers of one size class
//! while any of them is in use, and is free for any class when none is, so no mixture of sizes can
//! starve another for good. A buffer returns when it is dropped.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use volplane::{BlockService, DmaMemory};

/// Bytes of a slab, and of the largest buffer: a longer request takes several.
pub const SLAB_BYTES: usize = 1 << 20;

/// Bytes of a buffer by class. The smallest is a page, so every buffer begins on one.
const CLASSES: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, SLAB_BYTES];

struct Slab {
    memory: DmaMemory,
    class: usize,
    /// Buffers not in use, by position.
    free: Vec<usize>,
}

#[derive(Default)]
struct Slabs {
    slabs: Vec<Slab>,
    /// Slabs of a class with a free and a used buffer. The lowest is used first, so that the others
    /// become empty.
    partial: [BTreeSet<usize>; CLASSES.len()],
    empty: Vec<usize>,
    released: bool,
}

/// The pool.
pub struct Pool {
    slabs: Arc<Mutex<Slabs>>,
    slabs_max: usize,
}

/// Memory for a part of a request's data.
pub struct Buffer {
    memory: DmaMemory,
    slabs: Arc<Mutex<Slabs>>,
    slab: usize,
    position: usize,
}

/// What came of asking for memory.
pub enum Taken {
    /// Here it is.
    Now(Vec<Buffer>),
    /// There is not enough until buffers return.
    Later,
    /// There will never be enough.
    Never,
}

fn lock(slabs: &Mutex<Slabs>) -> MutexGuard<'_, Slabs> {
    // No code that holds the lock leaves the lists half changed, so a panic elsewhere does not matter.
    slabs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The parts into which `bytes` are cut: whole slabs and the rest.
pub fn parts(bytes: usize) -> impl Iterator<Item = usize> {
    (0..bytes).step_by(SLAB_BYTES).map(move |start| (bytes - start).min(SLAB_BYTES))
}

/// Bytes of memory that data of this length takes.
pub fn footprint(bytes: usize) -> usize {
    parts(bytes).map(|part| CLASSES[class_of(part)]).sum()
}

fn class_of(bytes: usize) -> usize {
    CLASSES.iter().position(|&size| bytes <= size).expect("a part is never longer than a slab")
}

impl Pool {
    /// A pool of at most `bytes`.
    pub fn new(bytes: usize) -> Self {
        Pool { slabs: Arc::default(), slabs_max: bytes / SLAB_BYTES }
    }

    /// Takes memory for `bytes` of data, in parts as `parts` cuts them: all of it or none.
    pub fn take(&mut self, service: &mut impl BlockService, bytes: usize) -> Taken {
        let mut buffers = Vec::with_capacity(bytes.div_ceil(SLAB_BYTES));
        for part in parts(bytes) {
            match self.take_one(service, class_of(part)) {
                Some(buffer) => buffers.push(buffer),
                None if footprint(bytes) > self.slabs_max * SLAB_BYTES => return Taken::Never,
                None => return Taken::Later,
            }
        }
        Taken::Now(buffers)
    }

    /// Whether a buffer returned since this was asked last.
    pub fn take_released(&mut self) -> bool {
        std::mem::take(&mut lock(&self.slabs).released)
    }

    fn take_one(&mut self, service: &mut impl BlockService, class: usize) -> Option<Buffer> {
        let mut slabs = lock(&self.slabs);
        let index = match slabs.partial[class].first() {
            Some(&index) => index,
            None => {
                let index = match slabs.empty.pop() {
                    Some(index) => index,
                    None if slabs.slabs.len() < self.slabs_max => {
                        let Ok(memory) = service.allocate(SLAB_BYTES) else {
                            // What the machine does not give now is not asked for again.
                            self.slabs_max = slabs.slabs.len();
                            return None;
                        };
                        slabs.slabs.push(Slab { memory, class, free: Vec::new() });
                        slabs.slabs.len() - 1
                    }
                    None => return None,
                };
                slabs.slabs[index].class = class;
                slabs.slabs[index].free = (0..SLAB_BYTES / CLASSES[class]).rev().collect();
                slabs.partial[class].insert(index);
                index
            }
        };
        let slab = &mut slabs.slabs[index];
        let position = slab.free.pop().expect("a partial slab has a free buffer");
        let memory = slab.memory.part(position * CLASSES[class], CLASSES[class]);
        if slab.free.is_empty() {
            slabs.partial[class].remove(&index);
        }
        Some(Buffer { memory, slabs: self.slabs.clone(), slab: index, position })
    }
}

impl Buffer {
    /// The memory.
    pub fn memory(&self) -> &DmaMemory {
        &self.memory
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut slabs = lock(&self.slabs);
        let index = self.slab;
        let slab = &mut slabs.slabs[index];
        let class = slab.class;
        slab.free.push(self.position);
        if slab.free.len() == SLAB_BYTES / CLASSES[class] {
            slabs.partial[class].remove(&index);
            slabs.empty.push(index);
        } else {
            slabs.partial[class].insert(index);
        }
        slabs.released = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use std::time::Duration;
    use volplane::{Completion, Operation, ServiceError, SubmitError, VdHandle, VirtualDisk};

    /// Gives memory at ascending addresses, and no more than `left` slabs.
    struct Memory {
        left: usize,
        next: u64,
    }

    impl BlockService for Memory {
        fn virtual_disks(&self) -> &[VirtualDisk] {
            &[]
        }
        fn allocate(&mut self, bytes: usize) -> Result<DmaMemory, ServiceError> {
            self.left = self.left.checked_sub(1).ok_or(ServiceError::Stopped)?;
            self.next += bytes as u64;
            let mapping = memmap2::MmapMut::map_anon(bytes).expect("memory");
            Ok(DmaMemory::new(mapping, volplane_driver::Iova(self.next), ()))
        }
        fn submit(
            &mut self,
            _: VdHandle,
            _: Operation,
            _: Option<DmaMemory>,
            _: u64,
        ) -> Result<(), SubmitError> {
            Err(SubmitError::Stopped)
        }
        fn poll(&mut self, _: &mut Vec<Completion>) -> Result<usize, ServiceError> {
            Ok(0)
        }
        fn outstanding(&self) -> usize {
            0
        }
        fn now(&self) -> Duration {
            Duration::ZERO
        }
        fn wait(&mut self, _: Duration) -> Result<(), ServiceError> {
            Ok(())
        }
    }

    fn taken(taken: Taken) -> Option<Vec<Buffer>> {
        match taken {
            Taken::Now(buffers) => Some(buffers),
            Taken::Later | Taken::Never => None,
        }
    }

    #[test]
    fn parts_cover_every_length() {
        for bytes in [0, 1, 512, 4096, SLAB_BYTES, SLAB_BYTES + 512, 32 * SLAB_BYTES] {
            assert_eq!(parts(bytes).sum::<usize>(), bytes);
            assert!(footprint(bytes) >= bytes);
        }
        assert_eq!(footprint(SLAB_BYTES + 512), SLAB_BYTES + 4096);
    }

    #[test]
    fn all_or_nothing_within_the_bound() {
        let mut memory = Memory { left: 100, next: 0 };
        let mut pool = Pool::new(4 * SLAB_BYTES);
        let three = taken(pool.take(&mut memory, 3 * SLAB_BYTES)).expect("three slabs");
        assert!(matches!(pool.take(&mut memory, 2 * SLAB_BYTES), Taken::Later));
        assert!(matches!(pool.take(&mut memory, 5 * SLAB_BYTES), Taken::Never));
        assert!(taken(pool.take(&mut memory, SLAB_BYTES)).is_some(), "a failed take keeps nothing");
        drop(three);
        assert!(pool.take_released());
        assert!(!pool.take_released());
        assert!(taken(pool.take(&mut memory, 4 * SLAB_BYTES)).is_some());
        assert_eq!(memory.left, 96, "memory is asked for once");
    }

    #[test]
    fn memory_the_machine_does_not_give_lowers_the_bound() {
        let mut memory = Memory { left: 1, next: 0 };
        let mut pool = Pool::new(4 * SLAB_BYTES);
        assert!(matches!(pool.take(&mut memory, 2 * SLAB_BYTES), Taken::Never));
        assert!(taken(pool.take(&mut memory, SLAB_BYTES)).is_some());
    }

    #[test]
    fn buffers_never_overlap_and_all_return() {
        let seed = std::env::var("VOLPLANE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        println!("replay with VOLPLANE_SEED={seed}");
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut memory = Memory { left: 100, next: 0 };
        let mut pool = Pool::new(8 * SLAB_BYTES);
        let mut live: Vec<Buffer> = Vec::new();
        for _ in 0..20_000 {
            if random.random_bool(0.5) {
                let bytes = 1usize << random.random_range(9..=21);
                live.extend(taken(pool.take(&mut memory, bytes)).into_iter().flatten());
            } else if !live.is_empty() {
                live.swap_remove(random.random_range(0..live.len()));
            }
            if random.random_bool(0.01) {
                let mut ranges: Vec<_> =
                    live.iter().map(|b| (b.memory().iova().0, b.memory().len() as u64)).collect();
                ranges.sort_unstable();
                assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "overlap");
            }
        }
        live.clear();
        assert!(taken(pool.take(&mut memory, 8 * SLAB_BYTES)).is_some(), "everything returned");
    }
}
