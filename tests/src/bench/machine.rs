//! A card with four SSDs that take no time behind it, one disk striped over them or mirrored on some, and
//! client queues that are driven by hand: the engine's own queue stays empty.

use std::path::Path;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use volplane::{BlockService, Configuration, Engine, EngineOptions};
use volplane_abi::plan::{component_state, read_policy};
use volplane_abi::tables::{table, vd_status};
use volplane_abi::{
    opcode, status, ComponentEntry, ComponentStates, PathEntry, PlanEntry, PlanMasks, QueueEntry,
    SubmissionEntry, VdEntry, TRANSACTION_MAX,
};
use volplane_cli::backend::{self, Simulation};
use volplane_driver::{ClientQueue, DmaMemory, Platform, TableWrite, PAGE};
use volplane_sim::{BusRecord, Counters, SimFunction, SimHandle, SimPlatform};

use super::SEED;

/// SSDs.
const DEVICES: usize = 4;
/// Bytes of every command.
const COMMAND_BYTES: u64 = 4096;
/// The disk that is mirrored, behind those of its copies.
const MIRROR: u16 = 8;
/// Entries of a client ring.
const RING_ENTRIES: u16 = 1024;
/// Transactions recorded between two looks.
const RECORDS: usize = 1 << 16;

/// A client queue pair and what its commands use.
struct Client {
    queue: ClientQueue<SimFunction>,
    /// Command identifiers not in use.
    free: Vec<u16>,
    /// Where every read goes: what is read is not looked at.
    buffer: DmaMemory,
}

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Opcode.
    pub(super) opcode: u8,
    /// Copies of the disk; 0: it is striped over all SSDs and has no plan.
    pub(super) copies: usize,
}

impl Load {
    /// Reads of the striped disk.
    pub(super) const READ: Load = Load { opcode: opcode::READ, copies: 0 };
}

/// The machine.
pub(super) struct Machine {
    load: Load,
    clients: Vec<Client>,
    engine: Engine<SimPlatform>,
    handle: SimHandle,
    /// Commands of one stripe unit or less that the disk has room for.
    places: u64,
    random: ChaCha8Rng,
}

/// Bus addresses that tell transactions apart.
pub(super) struct Addresses {
    /// Submission ring of the first client queue.
    pub(super) submission_ring: std::ops::Range<u64>,
    /// Its completion ring.
    pub(super) completion_ring: std::ops::Range<u64>,
    /// Submission tail doorbells of the SSDs.
    pub(super) doorbells: Vec<u64>,
}

fn configuration(width: usize, copies: usize) -> Configuration {
    let mut text = format!("[card]\nwidth = {width}\n");
    for device in 0..DEVICES {
        text += &format!(
            "[[device]]\nname = \"ssd{device}\"\nmemory = true\nsize = \"64MiB\"\nblock_size = 512\n"
        );
    }
    let columns: Vec<String> =
        (0..DEVICES).map(|device| format!("{{ device = \"ssd{device}\", offset = 0 }}")).collect();
    text += &format!(
        "[[disk]]\nname = \"striped\"\nblock_size = 512\nallocation_size = \"16MiB\"\nbare = true\n\
         [[disk.segment]]\nsize = \"256MiB\"\ncolumns = [{}]\nstripe_unit = \"64KiB\"\n",
        columns.join(", ")
    );
    if copies > 0 {
        text.truncate(text.find("[[disk]]").expect("the striped disk"));
    }
    for copy in 0..copies {
        text += &format!(
            "[[disk]]\nname = \"copy{copy}\"\nblock_size = 512\nallocation_size = \"16MiB\"\nbare = true\n\
             [[disk.segment]]\nsize = \"64MiB\"\ncolumns = [{{ device = \"ssd{copy}\", offset = 0 }}]\n"
        );
    }
    Configuration::parse(&text, Path::new("bench.toml")).expect("the bench's own configuration is right")
}

impl Machine {
    /// A card of `width` bits with `clients` queues.
    pub(super) fn new(width: usize, clients: u16, load: Load) -> Self {
        let configuration = configuration(width, load.copies);
        let simulation = Simulation { seed: SEED, trace: None };
        let (mut machine, addresses) =
            backend::machine(&configuration, &simulation).expect("simulated devices only");
        machine.record_bus = RECORDS;
        let platform = SimPlatform::new(machine).expect("a machine");
        let handle = platform.handle();
        let mut engine = Engine::start(platform, &configuration, &addresses, &EngineOptions::default())
            .expect("the engine starts");
        let disk = &engine.virtual_disks()[0];
        let places = disk.bytes() / COMMAND_BYTES;
        let clients = (0..clients)
            .map(|client| {
                let buffer = engine.allocate(PAGE).expect("memory");
                let (_, tables) = engine.vaapi();
                // Number 0 is the control ring, 1 the engine's own queue. Polled: interrupts would
                // only end waits early.
                let queue = tables
                    .card
                    .create_queue(tables.platform, 2 + client, RING_ENTRIES, None, 0)
                    .expect("a client queue");
                Client { free: (0..queue.capacity() as u16).rev().collect(), queue, buffer }
            })
            .collect();
        let random = ChaCha8Rng::seed_from_u64(SEED);
        let mut machine = Self { load, clients, engine, handle, places, random };
        if load.copies > 0 {
            machine.mirror();
        }
        machine
    }

    /// Makes a mirror of the disks that there are.
    fn mirror(&mut self) {
        let load = self.load;
        let copies = load.copies as u32;
        let (_, tables) = self.engine.vaapi();
        let (card, platform) = (tables.card, tables.platform);
        let all = (1u8 << copies) - 1;
        let masks = PlanMasks::default().with_continuation(all).field();
        let plan = PlanEntry::default()
            .with_read_masks(masks)
            .with_write_masks(masks)
            .with_read_policy(read_policy::ROUND_ROBIN)
            .with_minimum(1);
        let mut write = |number, index, record: &[u8]| {
            card.table_write(platform, number, index, record).expect("the card takes the entry");
        };
        write(table::PLAN, 1, &plan.0);
        let cleared = ComponentStates::default().with_select(u8::MAX).with_reactivate(1);
        write(table::STATES, MIRROR.into(), &cleared.0);
        let in_sync =
            (0..load.copies).fold(cleared, |entry, copy| entry.with_state(copy, component_state::IN_SYNC));
        write(table::STATES, MIRROR.into(), &in_sync.0);
        let mut disk = VdEntry::default();
        for copy in 0..copies {
            disk = card.table_record(platform, table::VD, copy).expect("a copy's entry");
            let component = ComponentEntry::default()
                .with_disk(copy as u16)
                .with_allocation_shift(disk.allocation_shift())
                .with_map_root(disk.map_root())
                .with_flush_devices(disk.flush_devices());
            card.table_write(platform, table::COMPONENT, 8 + copy, &component.0)
                .expect("the card takes the entry");
        }
        let disk = disk.with_status(vd_status::ENABLED).with_plan(1);
        card.table_write(platform, table::VD, MIRROR.into(), &disk.0).expect("the card takes the entry");
    }

    /// Where rings and doorbells are.
    pub(super) fn addresses(&mut self) -> Addresses {
        let number = self.clients[0].queue.number();
        let (_, tables) = self.engine.vaapi();
        let (card, platform) = (tables.card, tables.platform);
        let queue: QueueEntry =
            card.table_record(platform, table::QUEUE, number.into()).expect("a queue's entry");
        let ring = |base: u64, entry: u64| base..base + u64::from(RING_ENTRIES) * entry;
        let doorbells = (0..DEVICES as u32)
            .map(|path| {
                let path: PathEntry = card.table_record(platform, table::PATH, path).expect("a path's entry");
                path.sq_doorbell()
            })
            .collect();
        Addresses {
            submission_ring: ring(queue.sq_base(), 64),
            completion_ring: ring(queue.cq_base(), 16),
            doorbells,
        }
    }

    /// Submits up to `most` commands in all, the queues taking turns, and rings.
    pub(super) fn submit(&mut self, most: usize) {
        let mut left = most;
        let mut full = 0;
        for client in (0..self.clients.len()).cycle() {
            if left == 0 || full == self.clients.len() {
                break;
            }
            let client = &mut self.clients[client];
            let (Some(&id), true) = (client.free.last(), client.queue.free() > 0) else {
                full += 1;
                continue;
            };
            full = 0;
            let place = self.random.random_range(0..self.places);
            let blocks = COMMAND_BYTES / 512;
            let entry = SubmissionEntry::default()
                .with_opcode(self.load.opcode)
                .with_command_id(id)
                .with_namespace_id(if self.load.copies > 0 { u32::from(MIRROR) + 1 } else { 1 })
                .with_prp1(client.buffer.iova().0)
                .with_starting_lba(place * blocks)
                .with_block_count_z((blocks - 1) as u16);
            client.queue.submit(entry).expect("there is room");
            client.free.pop();
            left -= 1;
        }
        for client in &mut self.clients {
            client.queue.ring().expect("a doorbell");
        }
    }

    /// Takes the completions that are there and counts them.
    ///
    /// # Panics
    /// When a command failed.
    pub(super) fn collect(&mut self) -> u64 {
        let mut count = 0;
        for client in &mut self.clients {
            while let Some(completion) = client.queue.poll().expect("a sound queue") {
                assert_eq!(completion.status(), status::SUCCESS, "a command failed");
                client.free.push(completion.command_id());
                count += 1;
            }
        }
        count
    }

    /// Lets at most `time` pass.
    pub(super) fn wait(&mut self, time: Duration) {
        let platform = self.engine.platform();
        let deadline = platform.now() + time;
        platform.wait(deadline).expect("the simulator runs");
    }

    /// Commits as many writes at once as there can be: the disk's own entry, as it is, and entries of no disk.
    pub(super) fn commit(&mut self) {
        let (_, tables) = self.engine.vaapi();
        let (card, platform) = (tables.card, tables.platform);
        let disk: VdEntry = card.table_record(platform, table::VD, 0).expect("the disk's entry");
        let others = (1..TRANSACTION_MAX).map(|number| (100 + number as u32, VdEntry::default()));
        let all = std::iter::once((0, disk)).chain(others);
        let writes: Vec<_> =
            all.map(|(number, entry)| TableWrite::new(table::VD, number, &entry.0)).collect();
        card.commit(platform, &writes).expect("a commit");
    }

    /// Most cycles in which the card admitted nothing for a commit.
    pub(super) fn admission_pause_max(&self) -> u32 {
        self.handle.admission_pause_max()
    }

    /// What the simulator counted.
    pub(super) fn counters(&self) -> Counters {
        self.handle.counters()
    }

    /// Transactions since the last look.
    ///
    /// # Panics
    /// When there were too many to record.
    pub(super) fn take_bus_record(&self) -> Vec<BusRecord> {
        let (records, missed) = self.handle.take_bus_record();
        assert_eq!(missed, 0, "the record of the bus is too short");
        records
    }
}
