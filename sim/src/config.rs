//! What a simulation is made of.

use std::path::PathBuf;

use volplane_driver::PAGE;

use crate::host_memory::{IOVA_END, IOVA_FIRST};

/// A whole simulated machine.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// The one seed: the same configuration, seed and calls give the same run, cycle by cycle.
    pub seed: u64,
    /// The card; without one only SSDs stand on the bus.
    pub card: Option<CardConfig>,
    /// SSDs, opened as `sim:<name>`.
    pub ssds: Vec<SsdConfig>,
    /// Shortest and longest time until a write of the card to host memory, or to the interrupt
    /// window, is seen by others, in ns. Its doorbell writes to SSDs are not delayed; a read by the
    /// card or of the card pushes its earlier writes. `None`: seen at once.
    pub visibility_delay_ns: Option<(u64, u64)>,
    /// Shortest and longest time until a write of an SSD to host memory is seen by others, in ns, in order among
    /// those of one SSD. Its writes to the card are not delayed; a read by the SSD or of the SSD pushes its earlier
    /// writes. `None`: seen at once.
    pub ssd_visibility_delay_ns: Option<(u64, u64)>,
    /// First bus address of host memory: a page of `IOVA_FIRST..IOVA_END`.
    pub iova_first: u64,
    /// Most simulated work of one `wait`, in ns; skipped idle time does not count.
    pub wait_quantum_ns: u64,
    /// How long a register read is waited for, in simulated ns.
    pub answer_deadline_ns: u64,
    /// Commands recorded of each SSD until they are taken; 0 records none.
    pub record_commands: usize,
    /// Bus transactions recorded until they are taken; 0 records none.
    pub record_bus: usize,
}

impl SimulatorConfig {
    /// An empty machine.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            card: None,
            ssds: Vec::new(),
            visibility_delay_ns: None,
            ssd_visibility_delay_ns: None,
            iova_first: IOVA_FIRST,
            wait_quantum_ns: 10_000,
            answer_deadline_ns: 1_000_000,
            record_commands: 0,
            record_bus: 0,
        }
    }

    pub(crate) fn check_memory(&self) -> Result<(), ConfigError> {
        let is_page = self.iova_first.is_multiple_of(PAGE as u64);
        if is_page && (IOVA_FIRST..IOVA_END).contains(&self.iova_first) {
            return Ok(());
        }
        Err(ConfigError::Memory(format!("{:#x} is no page that it can begin with", self.iova_first)))
    }

    /// Puts the card in.
    #[must_use]
    pub fn with_card(mut self, card: CardConfig) -> Self {
        self.card = Some(card);
        self
    }

    /// Adds an SSD.
    #[must_use]
    pub fn with_ssd(mut self, ssd: SsdConfig) -> Self {
        self.ssds.push(ssd);
        self
    }

    /// Delays what the card writes to host memory.
    #[must_use]
    pub fn with_visibility_delay_ns(mut self, shortest: u64, longest: u64) -> Self {
        self.visibility_delay_ns = Some((shortest, longest));
        self
    }

    /// Records up to `capacity` commands of each SSD.
    #[must_use]
    pub fn with_command_record(mut self, capacity: usize) -> Self {
        self.record_commands = capacity;
        self
    }

    /// Records up to `capacity` bus transactions.
    #[must_use]
    pub fn with_bus_record(mut self, capacity: usize) -> Self {
        self.record_bus = capacity;
        self
    }
}

/// The Verilated card and the bus around it.
#[derive(Clone, Debug)]
pub struct CardConfig {
    /// Data width in bits: 128, 256 or 512.
    pub width: usize,
    /// Cycles from the acceptance of a host-memory read to its first beat.
    pub read_latency_cycles: u32,
    /// Cycles from the last beat of a write to its response.
    pub write_latency_cycles: u32,
    /// Of 256 cycles, how many each channel stalls on average, 0 to 250.
    pub stalls_of_256: u8,
    /// Simulated ns of a tick: 1,000 on hardware; less lets what takes long come to pass in fewer cycles.
    pub tick_ns: u64,
    /// Ticks delivered one by one while the card is idle, before the rest of the time to the next
    /// event is skipped.
    pub idle_ticks_max: u32,
    /// Cycles a BAR2 channel may keep the SSD waiting before it is a protocol error.
    pub window_wait_max: u32,
    /// Of 256 completions that follow another in their window and wait behind it, how many travel with
    /// it in one burst.
    pub window_merge_of_256: u8,
    /// Waveform.
    pub trace: Option<TraceConfig>,
    /// Events of plans recorded until they are taken; 0 records none.
    pub record_plans: usize,
}

impl CardConfig {
    /// A card of `width` bits with the bus at its quickest and no stalls.
    pub fn new(width: usize) -> Self {
        Self {
            width,
            read_latency_cycles: 0,
            write_latency_cycles: 0,
            stalls_of_256: 0,
            tick_ns: 1_000,
            idle_ticks_max: 64,
            window_wait_max: 64,
            window_merge_of_256: 0,
            trace: None,
            record_plans: 0,
        }
    }

    /// Sets the latency of host-memory reads and of write responses.
    #[must_use]
    pub fn with_latency_cycles(mut self, read: u32, write: u32) -> Self {
        (self.read_latency_cycles, self.write_latency_cycles) = (read, write);
        self
    }

    /// Makes every channel stall `of_256` cycles of 256.
    #[must_use]
    pub fn with_stalls(mut self, of_256: u8) -> Self {
        self.stalls_of_256 = of_256;
        self
    }

    /// Records up to `capacity` events of plans.
    #[must_use]
    pub fn with_plan_record(mut self, capacity: usize) -> Self {
        self.record_plans = capacity;
        self
    }

    /// Writes a waveform.
    #[must_use]
    pub fn with_trace(mut self, trace: TraceConfig) -> Self {
        self.trace = Some(trace);
        self
    }
}

/// A waveform of the card, as VCD.
#[derive(Clone, Debug)]
pub struct TraceConfig {
    /// File to write.
    pub path: PathBuf,
    /// First evaluated cycle.
    pub from_cycle: u64,
    /// First evaluated cycle that is no longer written.
    pub to_cycle: u64,
}

/// Where an SSD keeps its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// In memory, sparse; gone with the simulator.
    Memory,
    /// In an existing file, at least as long as the SSD. It is never truncated; what is deallocated
    /// becomes a hole.
    File(PathBuf),
}

/// How a completion travels to its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompletionWrites {
    /// One write of 16 bytes.
    Whole,
    /// Two writes of 8 bytes, low half first.
    Halves,
    /// Seeded: whole or halves.
    Mixed,
}

/// An SSD: one NVMe controller with one namespace, its own or that of another SSD.
#[derive(Clone, Debug)]
pub struct SsdConfig {
    /// Name; opened as `sim:<name>`.
    pub name: String,
    /// Bytes of a block: 512 to 4,096, a power of two.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// Where they are kept.
    pub backing: Backing,
    /// The SSD whose namespace this is a further controller of: NVMe's multi-path, up to 4 controllers
    /// of one subsystem. Blocks and identity are shared; queues, registers, time and faults are not.
    pub namespace_of: Option<String>,
    /// Time a command takes, in ns; 0 executes it when it is fetched.
    pub latency_ns: u64,
    /// Most that a seeded choice adds to it, in ns.
    pub jitter_ns: u64,
    /// Commands executed at once.
    pub parallelism: usize,
    /// Maximum data transfer size, 2^mdts × 4 KiB; 0 no limit.
    pub mdts: u8,
    /// Write Zeroes size limit, 2^wzsl × 4 KiB; 0: MDTS applies.
    pub wzsl: u8,
    /// Most entries of a queue (CAP.MQES + 1).
    pub queue_entries_max: u32,
    /// Most I/O queue pairs.
    pub queue_pairs_max: u16,
    /// How completions travel.
    pub completion_writes: CompletionWrites,
    /// Whether Flush, and a write with FUA, make a file durable (fdatasync).
    pub durable: bool,
}

impl SsdConfig {
    /// An SSD in memory that takes no time.
    pub fn new(name: &str, block_size: u32, blocks: u64) -> Self {
        Self {
            name: name.into(),
            block_size,
            blocks,
            backing: Backing::Memory,
            namespace_of: None,
            latency_ns: 0,
            jitter_ns: 0,
            parallelism: 256,
            mdts: 5,
            wzsl: 7,
            queue_entries_max: 1024,
            queue_pairs_max: 16,
            completion_writes: CompletionWrites::Whole,
            durable: true,
        }
    }

    /// Keeps the blocks in a file.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.backing = Backing::File(path.into());
        self
    }

    /// A further controller, called `name`, of this SSD's namespace; otherwise configured as this one.
    #[must_use]
    pub fn further_controller(&self, name: &str) -> Self {
        let owner = self.namespace_of.as_ref().unwrap_or(&self.name).clone();
        Self { name: name.into(), backing: Backing::Memory, namespace_of: Some(owner), ..self.clone() }
    }

    /// Gives every command a time: `latency` plus a seeded 0 to `jitter`, in ns.
    #[must_use]
    pub fn with_latency_ns(mut self, latency: u64, jitter: u64) -> Self {
        (self.latency_ns, self.jitter_ns) = (latency, jitter);
        self
    }

    /// Sets the transfer limits, as NVMe's exponents of 4 KiB.
    #[must_use]
    pub fn with_limits(mut self, mdts: u8, wzsl: u8) -> Self {
        (self.mdts, self.wzsl) = (mdts, wzsl);
        self
    }

    /// Sets how completions travel.
    #[must_use]
    pub fn with_completion_writes(mut self, writes: CompletionWrites) -> Self {
        self.completion_writes = writes;
        self
    }

    pub(crate) fn block_shift(&self) -> u32 {
        self.block_size.trailing_zeros()
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let bad = |what: &str| Err(ConfigError::Ssd { name: self.name.clone(), what: what.into() });
        if self.name.is_empty() || self.name == "card" {
            return bad("the name is empty or \"card\"");
        }
        if !self.block_size.is_power_of_two() || !(512..=4096).contains(&self.block_size) {
            return bad("the block size is not a power of two from 512 to 4,096");
        }
        if self.blocks == 0 || self.blocks > 1 << 48 {
            return bad("it has no blocks, or more than 2^48");
        }
        if self.parallelism == 0 || self.mdts > 16 || self.wzsl > 16 {
            return bad("parallelism is 0, or MDTS or WZSL is above 16");
        }
        if !(2..=65536).contains(&self.queue_entries_max) || !(1..=64).contains(&self.queue_pairs_max) {
            return bad("queues have 2 to 65,536 entries, and there are 1 to 64 pairs");
        }
        Ok(())
    }
}

/// Why a machine cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An SSD's description is wrong.
    #[error("SSD {name}: {what}")]
    Ssd {
        /// Which.
        name: String,
        /// Why.
        what: String,
    },
    /// An SSD's file cannot be used.
    #[error("SSD {name}: {path}: {source}")]
    File {
        /// Which.
        name: String,
        /// File.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// Host memory's description is wrong.
    #[error("host memory: {0}")]
    Memory(String),
    /// The card's description is wrong.
    #[error("card: {0}")]
    Card(String),
}
