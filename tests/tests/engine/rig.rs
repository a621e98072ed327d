//! An engine, on the Verilated card or in software, beside a plain copy of what its disks should hold.

use std::path::Path;
use std::time::Duration;

use volplane::map::DiskMap;
use volplane::software::PlanTemplate;
use volplane::{
    Addresses, BlockService, Completion, Configuration, DmaMemory, Engine, EngineOptions, IoError, Operation,
    SoftwareEngine, StartError, StopError, SubmitError, VdHandle,
};
use volplane_cli::backend::{self, Simulation};
use volplane_driver::Platform;
use volplane_sim::{SimHandle, SimPlatform, SimulatorConfig};

/// Longest simulated time of anything that a test waits for.
pub const LIMIT: Duration = Duration::from_millis(50);
/// Longest simulated time between two looks for completions.
pub const LOOK: Duration = Duration::from_micros(20);
/// Bytes in front of and behind a buffer that nobody may touch.
const GUARD: usize = 64;
/// What the guards hold.
const GUARD_BYTE: u8 = 0xA7;

/// Three disks on four SSDs: columns that do not divide the allocation, segments of different
/// layouts with a short end, and blocks of 4 KiB. SSD 1 takes 32 KiB in a command at most.
/// `backing` is what stands for each device's backing, its number in place of `#`.
pub fn three_disks(width: usize, backing: &str) -> String {
    let device = |number: usize, block: u32, more: &str| {
        let backing = backing.replace('#', &number.to_string());
        format!(
            "[[device]]\nname = \"ssd{number}\"\n{backing}\nsize = \"40MiB\"\nblock_size = {block}\n{more}\n"
        )
    };
    let devices =
        device(0, 512, "") + &device(1, 512, "mdts = 3") + &device(2, 512, "") + &device(3, 4096, "");
    format!("[card]\nwidth = {width}\n{devices}{DISKS}")
}

const DISKS: &str = r#"
[[disk]]
name = "three columns"
block_size = 512
allocation_size = "1MiB"

[[disk.segment]]
size = "24MiB"
columns = [{ device = "ssd2", offset = 0 }, { device = "ssd0", offset = "1MiB" }, { device = "ssd1", offset = 0 }]
stripe_unit = "16KiB"
extent_size = "64KiB"

[[disk]]
name = "two layouts"
block_size = 512
allocation_size = "2MiB"

[[disk.segment]]
size = "8MiB"
columns = [{ device = "ssd0", offset = "16MiB" }, { device = "ssd1", offset = "16MiB" }]
stripe_unit = "64KiB"

[[disk.segment]]
size = 5246464
columns = [{ device = "ssd2", offset = "16MiB" }]

[[disk]]
name = "large blocks"
block_size = 4096
allocation_size = "4MiB"

[[disk.segment]]
size = "8MiB"
columns = [{ device = "ssd3", offset = "24MiB" }]
extent_size = "1MiB"

[[disk.segment]]
size = "8MiB"
columns = [{ device = "ssd3", offset = 0 }]
"#;

/// The seed of a test: `VOLPLANE_SEED` or `default`, printed.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("VOLPLANE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default);
    println!("replay with VOLPLANE_SEED={seed}");
    seed
}

/// Options under which a test that hangs ends soon.
pub fn options() -> EngineOptions {
    EngineOptions { queues: 3, answer_limit: LIMIT, stop_limit: LIMIT, ..EngineOptions::default() }
}

/// A part of a larger piece of memory, with guards around it.
pub struct Guarded {
    memory: DmaMemory,
    offset: usize,
    len: usize,
}

impl Guarded {
    /// `len` bytes, `offset` bytes behind the first place that has room for a guard.
    pub fn new(memory: &DmaMemory, offset: usize, len: usize) -> Self {
        let offset = GUARD + offset;
        memory.fill(offset - GUARD, GUARD, GUARD_BYTE);
        memory.fill(offset + len, GUARD, GUARD_BYTE);
        Self { memory: memory.clone(), offset, len }
    }

    /// Bytes of memory that `len` bytes at up to `offset` take.
    pub fn footprint(offset: usize, len: usize) -> usize {
        GUARD + offset + len + GUARD
    }

    pub fn buffer(&self) -> DmaMemory {
        self.memory.part(self.offset, self.len)
    }

    pub fn write(&self, data: &[u8]) {
        self.memory.write(self.offset, data);
    }

    /// The bytes; the guards must be whole.
    pub fn read(&self) -> Vec<u8> {
        let mut all = vec![0; GUARD + self.len + GUARD];
        self.memory.read(self.offset - GUARD, &mut all);
        let whole = |bytes: &[u8]| bytes.iter().all(|&byte| byte == GUARD_BYTE);
        assert!(whole(&all[..GUARD]) && whole(&all[GUARD + self.len..]), "a guard was overwritten");
        all.truncate(GUARD + self.len);
        all.split_off(GUARD)
    }
}

/// What executes the disks.
pub trait Executor: BlockService + Sized {
    /// Whether it needs a card.
    const CARD: bool;

    fn start(
        platform: SimPlatform,
        configuration: &Configuration,
        addresses: &Addresses,
        options: &EngineOptions,
    ) -> Result<Self, StartError>;

    fn stop(self) -> Result<SimPlatform, StopError>;

    /// A disk's plan, as VAAPI reads it back.
    fn plan(&mut self, disk: VdHandle) -> PlanTemplate;
}

impl Executor for Engine<SimPlatform> {
    const CARD: bool = true;

    fn start(
        platform: SimPlatform,
        configuration: &Configuration,
        addresses: &Addresses,
        options: &EngineOptions,
    ) -> Result<Self, StartError> {
        Engine::start(platform, configuration, addresses, options)
    }

    fn stop(self) -> Result<SimPlatform, StopError> {
        Engine::stop(self)
    }

    fn plan(&mut self, disk: VdHandle) -> PlanTemplate {
        let (control, mut tables) = self.vaapi();
        control.ssri_get_io_plan(&mut tables, disk).expect("a plan")
    }
}

impl Executor for SoftwareEngine<SimPlatform> {
    const CARD: bool = false;

    fn start(
        platform: SimPlatform,
        configuration: &Configuration,
        addresses: &Addresses,
        options: &EngineOptions,
    ) -> Result<Self, StartError> {
        SoftwareEngine::start(platform, configuration, &addresses.devices, options)
    }

    fn stop(self) -> Result<SimPlatform, StopError> {
        SoftwareEngine::stop(self)
    }

    fn plan(&mut self, disk: VdHandle) -> PlanTemplate {
        let (control, tables) = self.vaapi();
        control.ssri_get_io_plan(tables, disk).expect("a plan")
    }
}

/// An engine and what its disks should hold.
pub struct Rig<E = Engine<SimPlatform>> {
    pub engine: E,
    pub handle: SimHandle,
    pub configuration: Configuration,
    /// Bytes of every disk.
    pub shadow: Vec<Vec<u8>>,
}

impl<E: Executor> Rig<E> {
    /// Starts an engine on a new machine, whose SSDs hold nothing, or what was in their files.
    pub fn start(
        text: &str,
        folder: &Path,
        seed: u64,
        options: &EngineOptions,
        adjust: impl FnOnce(&mut SimulatorConfig),
    ) -> Self {
        let configuration = Configuration::parse(text, &folder.join("disks.toml")).expect("a configuration");
        let simulation = Simulation { seed, trace: None };
        let (mut machine, _) = backend::machine(&configuration, &simulation).expect("simulated devices");
        if !E::CARD {
            machine.card = None;
        }
        adjust(&mut machine);
        configuration.create_files().expect("backing files");
        let platform = SimPlatform::new(machine).expect("a machine");
        Self::start_on(platform, configuration, options)
    }

    /// Starts an engine on a machine.
    pub fn start_on(platform: SimPlatform, configuration: Configuration, options: &EngineOptions) -> Self {
        let handle = platform.handle();
        let simulation = Simulation { seed: 0, trace: None };
        let (_, addresses) = backend::machine(&configuration, &simulation).expect("simulated devices");
        let engine = E::start(platform, &configuration, &addresses, options)
            .unwrap_or_else(|error| panic!("the engine does not start: {error}"));
        let shadow = engine.virtual_disks().iter().map(|disk| vec![0; disk.bytes() as usize]).collect();
        Self { engine, handle, configuration, shadow }
    }

    pub fn map(&self, disk: usize) -> &DiskMap {
        &self.configuration.disks[disk].map
    }

    pub fn block_bytes(&self, disk: usize) -> usize {
        1 << self.map(disk).block_shift
    }

    /// Bytes of a range of blocks.
    pub fn bytes(&self, disk: usize, lba: u64, blocks: u64) -> std::ops::Range<usize> {
        let shift = self.map(disk).block_shift;
        (lba << shift) as usize..((lba + blocks) << shift) as usize
    }

    /// Starts an operation; polls for room where there is none, which must not be needed.
    pub fn submit(&mut self, disk: usize, operation: Operation, buffer: Option<DmaMemory>, tag: u64) {
        match self.engine.submit(VdHandle(disk as u16), operation, buffer, tag) {
            Ok(()) => {}
            Err(error) => panic!("{operation}: {error}"),
        }
    }

    /// Waits for the completions of everything that is outstanding.
    pub fn settle(&mut self) -> Vec<Completion> {
        let mut done = Vec::new();
        let deadline = self.engine.now() + LIMIT;
        while self.engine.outstanding() > 0 {
            self.engine.poll(&mut done).unwrap_or_else(|error| panic!("{error}"));
            let now = self.engine.now();
            assert!(now < deadline, "{} operations are outstanding", self.engine.outstanding());
            if self.engine.outstanding() > 0 {
                self.engine.wait(now + LOOK).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        done
    }

    /// Executes one operation.
    pub fn execute(
        &mut self,
        disk: usize,
        operation: Operation,
        buffer: Option<DmaMemory>,
    ) -> Result<(), IoError> {
        self.submit(disk, operation, buffer, 77);
        let done = self.settle();
        assert_eq!(done.len(), 1);
        assert_eq!(done[0].tag, 77);
        done[0].result
    }

    /// What an operation does to the shadow; for a write with this data.
    pub fn apply(&mut self, disk: usize, operation: Operation, data: &[u8]) {
        let Some((lba, blocks)) = operation.range() else { return };
        let range = self.bytes(disk, lba, blocks);
        match operation {
            Operation::Write { .. } => self.shadow[disk][range].copy_from_slice(data),
            // The simulated SSDs read zeros where something was deallocated.
            Operation::Deallocate { .. } | Operation::WriteZeroes { .. } => self.shadow[disk][range].fill(0),
            Operation::Read { .. } | Operation::Flush => {}
        }
    }

    /// Reads every disk through the card and compares it with the shadow, then compares what the SSDs
    /// hold where the map says.
    pub fn compare_all(&mut self) {
        const PIECE: usize = 1 << 20;
        let memory = self.engine.allocate(Guarded::footprint(0, PIECE)).expect("memory");
        for disk in 0..self.shadow.len() {
            let block = self.block_bytes(disk);
            for start in (0..self.shadow[disk].len()).step_by(PIECE) {
                let len = PIECE.min(self.shadow[disk].len() - start);
                let guarded = Guarded::new(&memory, 0, len);
                let read = Operation::Read { lba: (start / block) as u64, blocks: (len / block) as u32 };
                self.execute(disk, read, Some(guarded.buffer())).unwrap_or_else(|error| panic!("{error}"));
                same(&guarded.read(), &self.shadow[disk][start..start + len], disk, start);
            }
        }
        self.compare_media();
    }

    /// Compares what the SSDs hold with the shadow, without the card.
    pub fn compare_media(&self) {
        for disk in 0..self.shadow.len() {
            self.compare_copy(disk, self.map(disk));
        }
    }

    /// Compares what the SSDs hold in one of a disk's layouts with the shadow.
    pub fn compare_copy(&self, disk: usize, map: &DiskMap) {
        let mut lba = 0;
        while let Some(location) = map.locate(lba) {
            let range = self.bytes(disk, lba, location.run);
            let mut media = vec![0; range.len()];
            let ssd = format!("ssd-{}", location.device);
            self.handle.read_media(&ssd, location.lba << map.block_shift, &mut media).expect("media");
            same(&media, &self.shadow[disk][range.clone()], disk, range.start);
            lba += location.run;
        }
        assert_eq!(lba, map.blocks());
    }

    /// Nobody did what the bus, NVMe or AXI forbid.
    pub fn assert_clean(&self) {
        assert_eq!(self.handle.refusals(), []);
        assert_eq!(self.handle.protocol_errors(), Vec::<String>::new());
        assert_eq!(self.handle.ssd_complaints(), Vec::<String>::new());
    }

    /// Stops the engine; the machine goes on.
    pub fn stop(self) -> (SimPlatform, Configuration, Vec<Vec<u8>>) {
        let Self { engine, handle, configuration, shadow } = self;
        let platform = engine.stop().unwrap_or_else(|error| panic!("the engine does not stop: {error}"));
        assert_eq!(handle.refusals(), []);
        assert!(platform.now() > Duration::ZERO);
        (platform, configuration, shadow)
    }
}

/// Fails with the first byte in which two pieces differ.
pub fn same(seen: &[u8], expected: &[u8], disk: usize, start: usize) {
    assert_eq!(seen.len(), expected.len());
    if let Some(at) = seen.iter().zip(expected).position(|(a, b)| a != b) {
        let (a, b) = (seen[at], expected[at]);
        panic!("disk {disk}, byte {:#x} ({at:#x} of the piece): {a:#04x}, expected {b:#04x}", start + at);
    }
}

/// A submission that must be refused.
pub fn refused<E: Executor>(
    rig: &mut Rig<E>,
    disk: u16,
    operation: Operation,
    buffer: Option<DmaMemory>,
) -> SubmitError {
    rig.engine.submit(VdHandle(disk), operation, buffer, 0).expect_err("refused")
}
