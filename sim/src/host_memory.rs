//! Host memory behind an IOMMU: devices reach what was allocated, and nothing else.
//!
//! Bus addresses begin above 4 GiB and are never used twice, and unmapped gaps lie between regions,
//! so a device that is off by a byte, or late, is refused and reported.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use volplane_driver::{AccessError, DmaMemory, Iova, PAGE};

use crate::mapped_bytes::MappedBytes;

/// First bus address handed out.
pub const IOVA_FIRST: u64 = 0x1_0000_0000;
/// Unmapped bytes after each region.
pub const GUARD_BYTES: u64 = 16 * PAGE as u64;
/// Where host memory ends: the BARs lie above.
pub const IOVA_END: u64 = 0x7E00_0000_0000;
/// Refusals kept; later ones are counted only.
const REFUSALS_KEPT: usize = 256;

/// Who uses the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// The host's processor.
    Host,
    /// The card.
    Card,
    /// The SSD of this number, in order of configuration.
    Ssd(usize),
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Agent::Host => write!(f, "host"),
            Agent::Card => write!(f, "card"),
            Agent::Ssd(number) => write!(f, "SSD {number}"),
        }
    }
}

/// Which way data was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The agent wanted to read.
    Read,
    /// The agent wanted to write.
    Write,
}

/// An access that the bus refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who.
    pub agent: Agent,
    /// Bus address.
    pub iova: u64,
    /// Bytes.
    pub len: usize,
    /// Read or write.
    pub direction: Direction,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} of {} bytes at {:#x}", self.agent, self.direction, self.len, self.iova)
    }
}

struct Region {
    iova: u64,
    bytes: MappedBytes,
}

impl Region {
    fn holds(&self, iova: u64, len: usize) -> bool {
        let size = self.bytes.len() as u64;
        iova >= self.iova && iova - self.iova <= size && len as u64 <= size - (iova - self.iova)
    }
}

struct Table {
    /// In order of address: addresses only grow.
    regions: Vec<Region>,
    /// Where the last access was, looked at first.
    last: usize,
    next_iova: u64,
    refusals: VecDeque<Refusal>,
    refused: u64,
}

impl Table {
    fn find(&mut self, iova: u64, len: usize) -> Option<&Region> {
        if !self.regions.get(self.last).is_some_and(|region| region.holds(iova, len)) {
            let after = self.regions.partition_point(|region| region.iova <= iova);
            self.last = after.checked_sub(1)?;
        }
        self.regions.get(self.last).filter(|region| region.holds(iova, len))
    }
}

/// Host memory. Clones share it.
#[derive(Clone)]
pub struct HostMemory {
    table: Arc<Mutex<Table>>,
}

/// Takes a region from the devices when the last clone of its `DmaMemory` goes.
struct Unmap {
    table: Weak<Mutex<Table>>,
    iova: u64,
}

impl Drop for Unmap {
    fn drop(&mut self) {
        if let Some(table) = self.table.upgrade() {
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            table.regions.retain(|region| region.iova != self.iova);
        }
    }
}

impl Default for HostMemory {
    fn default() -> Self {
        Self::starting_at(IOVA_FIRST)
    }
}

impl HostMemory {
    /// Memory whose first bus address is `iova`, a page of `IOVA_FIRST..IOVA_END`.
    pub(crate) fn starting_at(iova: u64) -> Self {
        Self {
            table: Arc::new(Mutex::new(Table {
                regions: Vec::new(),
                last: 0,
                next_iova: iova,
                refusals: VecDeque::new(),
                refused: 0,
            })),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates zeroed memory, whole pages, and maps it for every device.
    pub fn allocate(&self, bytes: usize) -> Result<DmaMemory, AccessError> {
        let refuse = |reason: String| AccessError::NoMemory { bytes, reason };
        if bytes == 0 {
            return Err(refuse("nothing asked for".into()));
        }
        let len = bytes.checked_next_multiple_of(PAGE).ok_or_else(|| refuse("too large".into()))?;
        let mut map = memmap2::MmapMut::map_anon(len).map_err(|error| refuse(error.to_string()))?;
        let mut table = self.table();
        let iova = table.next_iova;
        if len as u64 > IOVA_END - iova {
            return Err(refuse("bus addresses are used up".into()));
        }
        table.next_iova = iova + len as u64 + GUARD_BYTES;
        table.regions.push(Region { iova, bytes: MappedBytes::new(&mut map) });
        drop(table);
        Ok(DmaMemory::new(map, Iova(iova), Unmap { table: Arc::downgrade(&self.table), iova }))
    }

    /// Reads as a device. `Err` when not all of it is mapped; nothing is read then.
    pub fn read(&self, agent: Agent, iova: u64, into: &mut [u8]) -> Result<(), Refusal> {
        let mut table = self.table();
        match table.find(iova, into.len()) {
            Some(region) => {
                region.bytes.read((iova - region.iova) as usize, into);
                Ok(())
            }
            None => {
                drop(table);
                Err(self.refuse(agent, iova, into.len(), Direction::Read))
            }
        }
    }

    /// Writes as a device. `Err` when not all of it is mapped; nothing is written then.
    pub fn write(&self, agent: Agent, iova: u64, from: &[u8]) -> Result<(), Refusal> {
        let mut table = self.table();
        match table.find(iova, from.len()) {
            Some(region) => {
                region.bytes.write((iova - region.iova) as usize, from);
                Ok(())
            }
            None => {
                drop(table);
                Err(self.refuse(agent, iova, from.len(), Direction::Write))
            }
        }
    }

    /// Whether a device reaches all of a range.
    pub fn is_mapped(&self, iova: u64, len: usize) -> bool {
        self.table().find(iova, len).is_some()
    }

    /// Records a refused access and returns its record.
    pub(crate) fn refuse(&self, agent: Agent, iova: u64, len: usize, direction: Direction) -> Refusal {
        let refusal = Refusal { agent, iova, len, direction };
        let mut table = self.table();
        table.refused += 1;
        if table.refusals.len() < REFUSALS_KEPT {
            table.refusals.push_back(refusal);
        }
        refusal
    }

    /// The first refused accesses since they were last taken.
    pub fn take_refusals(&self) -> Vec<Refusal> {
        self.table().refusals.drain(..).collect()
    }

    /// Refused accesses since the start.
    pub fn refused(&self) -> u64 {
        self.table().refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_host_see_the_same_bytes_at_every_alignment() {
        let host = HostMemory::default();
        let memory = host.allocate(PAGE).expect("memory");
        assert!(memory.iova().0 >= 1 << 32);
        for offset in 0..20u64 {
            for len in 0..40usize {
                memory.fill(0, 80, 0xEE);
                let data: Vec<u8> = (0..len as u8).map(|i| i ^ 0x5A ^ offset as u8).collect();
                host.write(Agent::Card, memory.iova().0 + offset, &data).expect("mapped");
                let mut all = [0; 80];
                memory.read(0, &mut all);
                let (start, end) = (offset as usize, offset as usize + len);
                assert_eq!(&all[start..end], &data[..]);
                assert!(all[..start].iter().chain(&all[end..]).all(|&byte| byte == 0xEE));
                let mut back = vec![0; len];
                host.read(Agent::Ssd(0), memory.iova().0 + offset, &mut back).expect("mapped");
                assert_eq!(back, data);
            }
        }
        assert_eq!(host.refused(), 0);
    }

    #[test]
    fn unmapped_and_straddling_accesses_are_refused_and_reported() {
        let host = HostMemory::default();
        let (first, second) = (host.allocate(1).expect("memory"), host.allocate(PAGE).expect("memory"));
        let end = first.iova().0 + PAGE as u64;
        assert!(second.iova().0 >= end + GUARD_BYTES);
        first.fill(0, PAGE, 0x11);
        assert!(host.write(Agent::Ssd(3), end - 4, &[0; 8]).is_err());
        assert!(host.read(Agent::Card, 0, &mut [0; 4]).is_err());
        assert!(host.read(Agent::Card, u64::MAX - 1, &mut [0; 4]).is_err());
        assert_eq!(first.load_acquire(PAGE - 4), 0x1111_1111, "a refused write leaves all as it was");
        let refusals = host.take_refusals();
        assert_eq!(refusals.len(), 3);
        assert_eq!(
            refusals[0],
            Refusal { agent: Agent::Ssd(3), iova: end - 4, len: 8, direction: Direction::Write }
        );
        assert_eq!(refusals[0].to_string(), format!("SSD 3: Write of 8 bytes at {:#x}", end - 4));
        assert_eq!((host.refused(), host.take_refusals().len()), (3, 0));
    }

    #[test]
    fn the_last_clone_unmaps_and_the_address_is_not_used_again() {
        let host = HostMemory::default();
        let memory = host.allocate(PAGE).expect("memory");
        let (iova, part) = (memory.iova(), memory.part(8, 8));
        drop(memory);
        assert!(host.is_mapped(iova.0, 8), "a part keeps it");
        drop(part);
        assert!(!host.is_mapped(iova.0, 8));
        assert!(host.write(Agent::Card, iova.0, &[1]).is_err());
        assert!(host.allocate(PAGE).expect("memory").iova() > iova);
    }
}
