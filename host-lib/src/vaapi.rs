//! VAAPI: the calls by which the control path sets up the accelerated path.
//!
//! `ap_` calls write the card's tables, `ri_` calls read them back: the tables are the hardware's
//! repository. A call checks its arguments before it writes anything, then writes what nothing
//! points at yet, and goes live by one commit. When a write fails before that one, the
//! call had no effect. When the commit itself fails, the entries it would have made live stay
//! taken, because the card may have executed it.
//!
//! What a call replaces may still be in use by commands under way. A call that they could notice gives the epoch that
//! it ended, to wait for (`Tables::is_closed`). What it has replaced is retired, and free again when that is closed.

mod device;
mod disk;
mod divert;
mod index_space;
mod plan;
mod plan_error;
mod quota;
mod read_back;
mod tables;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use volplane_abi::tables::table;
use volplane_abi::{AllocationEntry, PathState, VdEntry};
use volplane_driver::CardError;
use zerocopy::FromBytes;

use crate::configuration::TableSizes;
use crate::service::{ServiceError, VdHandle};
use crate::software::{Components, PlanTemplate};
pub use device::DevicePath;
use divert::Diverts;
use index_space::IndexSpace;
pub use plan::{PlanChange, PlanParam, PlanUse};
pub use plan_error::PlanError;
pub use tables::{CardTables, Epoch, TableEntry, Tables, RECORD_BYTES};

/// Why a VAAPI call failed.
#[derive(Debug, thiserror::Error)]
pub enum VaapiError {
    /// The disk has no map.
    #[error("{call}: there is no {disk}")]
    NoSuchDisk {
        /// Call.
        call: &'static str,
        /// Disk.
        disk: VdHandle,
    },
    /// The device was not set up.
    #[error("{call}: there is no device {device}")]
    NoSuchDevice {
        /// Call.
        call: &'static str,
        /// Device.
        device: u16,
    },
    /// An argument is wrong; nothing was written.
    #[error("{call}: {problem}")]
    Argument {
        /// Call.
        call: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A plan is wrong, or the card has changed it meanwhile.
    #[error("{call}: plan of {disk}: {source}")]
    Plan {
        /// Call.
        call: &'static str,
        /// Disk.
        disk: VdHandle,
        /// What is wrong.
        source: PlanError,
    },
    /// A table has no free range of this length; nothing was written.
    #[error("{call}: no {wanted} free entries in a row in the {table} table")]
    NoRoom {
        /// Call.
        call: &'static str,
        /// Table.
        table: &'static str,
        /// Entries.
        wanted: u64,
    },
    /// A device's path is none of the card's.
    #[error("{call}: device {device}: path {path} of {paths}")]
    NoSuchPath {
        /// Call.
        call: &'static str,
        /// Device.
        device: u16,
        /// The path.
        path: u8,
        /// Paths of the card.
        paths: u32,
    },
    /// Commands are still under way that were admitted before.
    #[error("{call}: commands that were admitted before are under way after {waited:?}")]
    EpochOpen {
        /// Call.
        call: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// The engine failed meanwhile.
    #[error("{call}: {source}")]
    Service {
        /// Call.
        call: &'static str,
        /// Its error.
        source: ServiceError,
    },
    /// The card failed or refused.
    #[error("{call}: {source}")]
    Card {
        /// Call.
        call: &'static str,
        /// Its error.
        source: CardError,
    },
}

/// A device, for `ap_set_device_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// NSID on its controller.
    pub namespace: u32,
    /// log2 of the bytes of a block.
    pub block_shift: u8,
    /// Usable size in blocks.
    pub blocks: u64,
    /// Most blocks of a Read or Write, 1 to 65,536.
    pub transfer_blocks: u32,
    /// Most blocks of a Write Zeroes, 1 to 65,536.
    pub write_zeroes_blocks: u32,
    /// The paths to it.
    pub paths: DevicePaths,
}

/// Most paths of a device.
pub const DEVICE_PATHS_MAX: usize = 4;

/// The paths to a device, in order of preference: one to four, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePaths {
    numbers: [u8; DEVICE_PATHS_MAX],
    count: usize,
    policy: PathPolicy,
}

/// Which of a device's usable paths a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathPolicy {
    /// The first.
    Preferred,
    /// All, in turns.
    RoundRobin,
}

/// Paths that no device can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathsError {
    /// None, or more than four.
    #[error("{0} paths, where a device has 1 to 4")]
    Count(usize),
    /// A path twice.
    #[error("path {0} twice")]
    Twice(u8),
}

/// Values of a disk's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VdStatus {
    /// I/O is executed.
    Enabled,
    /// I/O is refused with Namespace Not Ready.
    Deactivated,
}

/// What becomes of reads of an extent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtentReads {
    /// The device executes them.
    #[default]
    Device,
    /// They are exceptions where the disk has a plan, and Internal Error where it has none.
    Fault,
    /// They give zeros, whatever the device holds.
    Zeros,
}

/// What becomes of all else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtentWrites {
    /// The device executes it.
    #[default]
    Device,
    /// As for reads.
    Fault,
}

/// Where an extent lies, for `ap_set_vd_storage_extent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageExtent {
    /// Device; nobody looks at it where it executes nothing.
    pub device: u16,
    /// First block on it.
    pub start: u64,
    /// Reads.
    pub reads: ExtentReads,
    /// Writes, Write Zeroes and deallocations.
    pub writes: ExtentWrites,
}

impl StorageExtent {
    /// On a device.
    pub fn new(device: u16, start: u64) -> Self {
        Self { device, start, ..Self::default() }
    }

    /// Nowhere yet: reads give zeros, writes are exceptions.
    pub fn thin() -> Self {
        Self { reads: ExtentReads::Zeros, writes: ExtentWrites::Fault, ..Self::default() }
    }

    fn has_device(&self) -> bool {
        self.reads == ExtentReads::Device || self.writes == ExtentWrites::Device
    }
}

/// An allocation that the card has.
#[derive(Clone, Debug)]
struct Mapped {
    entry: AllocationEntry,
    extents: Range<u32>,
    /// Blocks of the disk in it.
    blocks: u64,
}

/// What was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Retired {
    Allocations(Range<u32>),
    Extents(Range<u32>),
    Plan(Range<u32>),
    Diverts(Range<u32>),
    /// Positions of components that were removed.
    Components(VdHandle, Components),
}

/// A disk that the card has.
#[derive(Clone, Debug)]
struct MappedDisk {
    entry: VdEntry,
    allocations: Vec<Mapped>,
}

impl MappedDisk {
    fn allocation_entries(&self) -> Range<u32> {
        let root = self.entry.map_root();
        root..root + self.allocations.len() as u32
    }
}

/// The control path's knowledge of what is in the card's tables.
#[derive(Debug)]
pub struct ControlPath {
    room: TableSizes,
    paths: u32,
    devices: BTreeMap<u16, DeviceInfo>,
    disks: BTreeMap<VdHandle, MappedDisk>,
    allocations: IndexSpace,
    extents: IndexSpace,
    plans: IndexSpace,
    /// The plans that disks have, with the states that their components came with.
    planned: BTreeMap<VdHandle, PlanTemplate>,
    diverts: BTreeMap<VdHandle, Diverts>,
    divert_entries: IndexSpace,
    /// What commands may still use that were admitted in the epoch beside it, or before; oldest first.
    retired: VecDeque<(Epoch, Retired)>,
}

impl ControlPath {
    /// For a card whose tables are clean, with room for `room` and `paths`.
    pub fn new(room: TableSizes, paths: u32) -> Self {
        let entries = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        // Entry 0 is no plan, and a disk names one by 16 bits.
        let mut plans = IndexSpace::new(entries(room.plans.min(1 << 16)));
        plans.take_at(0);
        Self {
            room,
            paths,
            devices: BTreeMap::new(),
            disks: BTreeMap::new(),
            allocations: IndexSpace::new(entries(room.allocations)),
            extents: IndexSpace::new(entries(room.extents)),
            plans,
            planned: BTreeMap::new(),
            diverts: BTreeMap::new(),
            // A plan names its first range by 16 bits.
            divert_entries: IndexSpace::new(entries(room.diverts.min(1 << 16))),
            retired: VecDeque::new(),
        }
    }

    /// Frees what was replaced and is not used any more.
    fn reclaim(&mut self, call: &'static str, tables: &mut dyn Tables) -> Result<(), VaapiError> {
        let mut closed = None;
        while let Some(&(epoch, _)) = self.retired.front() {
            let card = |source| VaapiError::Card { call, source };
            if closed != Some(epoch) && !tables.is_closed(epoch).map_err(card)? {
                break;
            }
            closed = Some(epoch);
            let Some((_, retired)) = self.retired.pop_front() else { break };
            match retired {
                Retired::Allocations(range) => self.allocations.give(range),
                Retired::Extents(range) => self.extents.give(range),
                Retired::Plan(range) => self.plans.give(range),
                Retired::Diverts(range) => self.give_diverts(range),
                Retired::Components(..) => {}
            }
        }
        Ok(())
    }

    /// Ends an epoch, after a change that is made: the one to wait for.
    fn end_epoch(&mut self, call: &'static str, tables: &mut dyn Tables) -> Result<Epoch, VaapiError> {
        commit(call, tables, &[])
    }

    fn retire(&mut self, epoch: Epoch, retired: Retired) {
        self.retired.push_back((epoch, retired));
    }

    /// Whether the disk has a map.
    pub(crate) fn check_disk(&self, call: &'static str, disk: VdHandle) -> Result<(), VaapiError> {
        self.disk(call, disk).map(|_| ())
    }

    /// Plan slots.
    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.room.slots).unwrap_or(u32::MAX)
    }

    /// Most disks.
    pub(crate) fn disks_max(&self) -> u64 {
        self.room.disks
    }

    /// Blocks of a device, and log2 of their bytes.
    pub(crate) fn device_size(&self, device: u16) -> Option<(u64, u8)> {
        self.devices.get(&device).map(|info| (info.blocks, info.block_shift))
    }

    fn disk(&self, call: &'static str, disk: VdHandle) -> Result<&MappedDisk, VaapiError> {
        self.disks.get(&disk).ok_or(VaapiError::NoSuchDisk { call, disk })
    }

    fn device(&self, call: &'static str, device: u16) -> Result<&DeviceInfo, VaapiError> {
        self.devices.get(&device).ok_or(VaapiError::NoSuchDevice { call, device })
    }
}

fn argument(call: &'static str, problem: String) -> VaapiError {
    VaapiError::Argument { call, problem }
}

fn write(call: &'static str, tables: &mut dyn Tables, entries: &[TableEntry]) -> Result<(), VaapiError> {
    tables.write(entries).map_err(|source| VaapiError::Card { call, source })
}

fn commit(call: &'static str, tables: &mut dyn Tables, disks: &[TableEntry]) -> Result<Epoch, VaapiError> {
    tables.commit(disks).map_err(|source| VaapiError::Card { call, source })
}

pub(crate) fn read<T: FromBytes>(
    call: &'static str,
    tables: &mut dyn Tables,
    table: u16,
    index: u32,
) -> Result<T, VaapiError> {
    let record = tables.read(table, index).map_err(|source| VaapiError::Card { call, source })?;
    Ok(T::read_from_prefix(&record).expect("no record is larger than the payload").0)
}

fn path_state(call: &'static str, tables: &mut dyn Tables, path: u8) -> Result<PathState, VaapiError> {
    read(call, tables, table::PATH_STATE, path.into())
}

#[cfg(test)]
mod divert_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod tests;
