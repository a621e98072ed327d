//! The configuration: devices and virtual disks, from TOML, checked.
//!
//! ```toml
//! [card]                      # optional
//! width = 128                 # bits of the simulated card's data path: 128, 256 or 512
//! completion_mode = "window"  # SSDs write their completions to the card; or "host": to host memory, behind the data,
//!                             # where the card reads them, for machines that do not keep the two in order
//!
//! [[device]]                  # an SSD; its place in the file is its number
//! name = "ssd0"
//! file = "ssd0.img"           # simulated, this file behind it, relative to the TOML's folder;
//!                             # or `memory = true`: simulated, contents lost at exit;
//!                             # or neither, and `address`: the PCI address of a real one
//! create = true               # a missing file is made when the disks are served
//! size = "256MiB"             # of what may be used of it
//! block_size = 512            # or 4096
//! latency_us = 80             # simulator only, as are the next two
//! queue_depth = 1024          # entries of its longest queue
//! mdts = 5                    # transfer limit: 2^mdts × 4 KiB; 0 none
//!
//! [[disk]]                    # a virtual disk
//! name = "striped"
//! block_size = 512            # that of all its devices
//! allocation_size = "16MiB"   # a power of two, at least 1 MiB
//! time_out_ms = 500           # a command that an SSD has not answered then is not waited for; 0 to 16000,
//!                             # 0: for ever; default: as the program is started
//! retries = 3                 # how often a command is given again before it has failed, 0 to 255
//! bare = false                # true: neither of the two, for a disk whose SSDs always answer: the card has no plan
//!                             # of it then, and a read takes it fewer cycles (5.3 instead of 7, docs/performance.md)
//!
//! [[disk.segment]]            # consecutive allocations of one layout
//! size = "512MiB"             # whole allocations; the disk's last segment may end within one
//! columns = [{ device = "ssd0", offset = 0 }, { device = "ssd1", offset = "64MiB" }]
//! stripe_unit = "64KiB"       # a power of two, at least a block; with one column: extent_size
//! extent_size = "16MiB"       # a power of two from stripe_unit to allocation_size, the default
//! ```
//!
//! A mirrored disk has copies in place of segments of its own, numbered from 0 in their order:
//!
//! ```toml
//! [[disk]]
//! name = "mirrored"
//! block_size = 512
//! allocation_size = "16MiB"
//! read_policy = "round-robin" # or "least-outstanding", or "preferred", the default:
//! preferred = 0               # this copy while it is in sync, else the lowest-numbered
//! minimum = 1                 # copies in sync that a write must reach, the default; 0 to all of them
//!
//! [disk.writes]               # what a copy's failure does; each is "all", "none" or a list of copies
//! continuation = "all"        # the others go on, the default; else the command is an exception
//! success = "none"            # it fails the command; default none
//! log = "all"                 # it is told of; default all
//! log_with_data = "none"      # and holds the command until it was told; default none
//! deactivate = "none"         # it deactivates the disk; default none
//!
//! [disk.reads]                # the same of reads, without success
//!
//! [[disk.mirror]]             # a copy, 2 to 8 of one size
//! time_out_ms = 500           # as of a disk: before the copy has failed
//! retries = 3
//!
//! [[disk.mirror.segment]]     # as of a disk
//! size = "512MiB"
//! columns = [{ device = "ssd0", offset = 0 }]
//! ```
//!
//! Which copies missed a write is kept in `state_file = "PATH"`, at the top of the file and relative to its folder;
//! the default is the configuration's own name with `.state`.
//!
//! A size is an integer, bytes, or a string of an integer and one of `B KiB MiB GiB TiB`.
//! Linear is one column, striped is several, concatenated is several segments.
//!
//! # Layout
//! A segment is cut into allocations. Within an allocation, stripe unit `n` lies in column
//! `c = n mod columns`, row `r = n div columns`. The rows of a column follow each other on its
//! device, so block `b` of unit `n` is block `r × stripe_unit + b` of the column. The column is cut
//! into extents: its block `x` is in extent `k = x div extent_size`, which is entry
//! `first_extent + k × columns + c` of the card's table. Each column takes the space of its
//! allocations one after the other on its device, from `offset` on.
//!
//! Every column of an allocation takes the same space: `ceil(stripe units / columns)` units, where
//! the stripe units are the allocation's length over the unit, rounded up. So where the columns do
//! not divide the units, the last row is only partly used: three columns in allocations of 16 MiB
//! with units of 64 KiB take 86 units each, two of the 258 lie idle. The last extent of a
//! column may be short; it ends where the column does.

mod check;
mod document;
mod read;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::CompletionMode;
use crate::map::DiskMap;
use crate::software::{MaskSet, ReadPolicy};
pub(crate) use document::Origin;
pub(crate) use read::ALLOCATION_BYTES_MIN;

/// What is wrong with a configuration: one message, the first in order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("{file}: {reason}")]
    Unreadable {
        /// File, as it was named.
        file: String,
        /// The system's reason.
        reason: String,
    },
    /// A field is wrong.
    #[error("{file}:{line}: {field}: {problem}")]
    Wrong {
        /// File, as it was named.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Path of the field, lists counted from 0: `disk[1].segment[0].columns[2].offset`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The card.
    pub card: CardOptions,
    /// Devices, in order; a `Column` names one by its place here.
    pub devices: Vec<Device>,
    /// Virtual disks, in order of handle.
    pub disks: Vec<Disk>,
    /// Where it is kept which copies missed a write.
    pub state_file: PathBuf,
    file: PathBuf,
}

/// Options of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardOptions {
    /// Bits of the simulated card's data path.
    pub width: u32,
    /// Where the SSDs write their completions.
    pub completion_mode: CompletionMode,
}

impl Default for CardOptions {
    fn default() -> Self {
        Self { width: 128, completion_mode: CompletionMode::default() }
    }
}

/// A device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Name.
    pub name: String,
    /// What is behind it.
    pub backing: Backing,
    /// PCI address, of a real one always, of a simulated one if it is to have a certain one.
    pub address: Option<String>,
    /// Usable size in blocks.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Simulator: time from doorbell to completion.
    pub latency: Option<Duration>,
    /// Simulator: entries of its longest queue.
    pub queue_depth: Option<u32>,
    /// Simulator: transfer limit, 2^mdts × 4 KiB; 0 none.
    pub mdts: Option<u8>,
    pub(crate) origin: Origin,
}

impl Device {
    /// Usable size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }
}

/// What is behind a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A simulated SSD that keeps its blocks in a file.
    File {
        /// The file, resolved against the TOML's folder.
        path: PathBuf,
        /// Whether `create_files` makes it.
        create: bool,
    },
    /// A simulated SSD that keeps its blocks in memory.
    Memory,
    /// A real one, at `Device::address`.
    Function,
}

/// A virtual disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Name.
    pub name: String,
    /// Its layout; of a mirrored disk that of its first copy.
    pub map: DiskMap,
    /// Its copies, if it is mirrored.
    pub plan: Option<DiskPlan>,
    /// How long its SSDs are waited for, if it is not mirrored.
    pub endurance: Endurance,
    /// The card has no plan of it: see the module.
    pub bare: bool,
    pub(crate) origin: Origin,
    column_origins: Vec<Vec<Origin>>,
}

impl Disk {
    /// The layouts of all its copies.
    pub fn maps(&self) -> impl Iterator<Item = &DiskMap> {
        self.placed().map(|(map, _)| map)
    }

    /// The layouts, and where their columns stand in the file.
    fn placed(&self) -> impl Iterator<Item = (&DiskMap, &Vec<Vec<Origin>>)> {
        let alone = self.plan.is_none().then_some((&self.map, &self.column_origins));
        let copies = self.plan.iter().flat_map(|plan| &plan.mirrors);
        alone.into_iter().chain(copies.map(|mirror| (&mirror.map, &mirror.column_origins)))
    }
}

/// The copies of a mirrored disk, and what their failures do.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// The copies, 2 to 8; component i of the plan is the one at i.
    pub mirrors: Vec<Mirror>,
    /// Masks of Read and Compare.
    pub reads: MaskSet,
    /// Masks of all other commands.
    pub writes: MaskSet,
    /// Which copy is read first.
    pub read_policy: ReadPolicy,
    /// Copies in sync that a write must reach.
    pub minimum: u8,
}

/// How long SSDs are waited for; `None`: as the program is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endurance {
    /// Time after which a command is not waited for; zero: for ever.
    pub time_out: Option<Duration>,
    /// How often a command is given again.
    pub retries: Option<u8>,
}

/// A copy of a mirrored disk.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its layout.
    pub map: DiskMap,
    /// How long its SSDs are waited for.
    pub endurance: Endurance,
    column_origins: Vec<Vec<Origin>>,
}

/// Room in the card's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// Virtual disks.
    pub disks: u64,
    /// Devices.
    pub devices: u64,
    /// Allocations.
    pub allocations: u64,
    /// Extents.
    pub extents: u64,
    /// Columns of an allocation.
    pub columns: u64,
    /// Entries of the plan table, of which the first is no plan.
    pub plans: u64,
    /// Divert ranges.
    pub diverts: u64,
    /// Plan slots.
    pub slots: u64,
}

impl Configuration {
    /// Reads and checks a file, the backing files' metadata included. Touches nothing.
    pub fn load(file: &Path) -> Result<Self, ConfigurationError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigurationError::Unreadable {
            file: file.display().to_string(),
            reason: error.to_string(),
        })?;
        let configuration = Self::parse(&text, file)?;
        configuration.check_files()?;
        Ok(configuration)
    }

    /// Checks a text that stands in `file`, all but the backing files; looks at no file.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigurationError> {
        let configuration = read::configuration(text, file)?;
        configuration.check_placement()?;
        Ok(configuration)
    }

    /// The TOML file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// An error at a field of a device or a disk.
    pub(crate) fn error(
        &self,
        origin: &Origin,
        field: &str,
        problem: impl Into<String>,
    ) -> ConfigurationError {
        let (line, field) = origin.field(field);
        ConfigurationError::Wrong {
            file: self.file.display().to_string(),
            line,
            field,
            problem: problem.into(),
        }
    }
}

#[cfg(test)]
mod mirror_tests;
#[cfg(test)]
mod tests;
