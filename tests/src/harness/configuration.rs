//! A random machine: SSDs, devices and paths, virtual disks, client queues, the card and its bus.

use rand::seq::SliceRandom;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::plan::path_policy;
use volplane_abi::{completion_mode, submission_mode, DeviceEntry, PathEntry, QuotaEntry};
use volplane_driver::PAGE;
use volplane_sim::{CardConfig, CompletionWrites, SimulatorConfig, SsdConfig, IOVA_END, IOVA_FIRST};

use super::disks::{thin_out, DiskMaker, Shelf, Space};
use super::fork;
use super::mirrors::Mirror;
use volplane::software::Tables;

/// Devices of a random machine; number 15 stays free to be the one that is not there.
const DEVICES: u16 = 15;
/// Paths of the default build.
const PATHS: u8 = 32;
/// The first queue of an SSD that is a further path of a device.
const FURTHER_QUEUE: u16 = 7;
/// Client queues of the default build: 1 to 31.
const QUEUES: u16 = 31;
/// Interrupt vectors of the default build.
const VECTORS: u16 = 32;
/// Commands of an SSD recorded between two checks.
const RECORDS: usize = 1 << 20;

/// A queue pair of an SSD, and the path it is.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Path number.
    pub path: u8,
    /// Controller: an SSD, in order of configuration, or a further one of it.
    pub ssd: usize,
    /// Queue pair on the SSD.
    pub queue: u16,
    /// Entries of its submission queue.
    pub sq_entries: u16,
    /// Entries of its completion queue.
    pub cq_entries: u16,
    /// Identifiers the card may have in use.
    pub limit: u16,
    /// Submission mode.
    pub mode: u8,
    /// Completion mode.
    pub completions: u8,
}

/// A client's queue pair.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Queue number.
    pub queue: u16,
    /// Entries of each ring.
    pub entries: u16,
    /// Interrupt vector.
    pub vector: Option<u16>,
    /// Most plan slots; 0: no limit.
    pub slots: u16,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// What made it.
    pub seed: u64,
    /// The simulated hardware.
    pub simulator: SimulatorConfig,
    /// Paths.
    pub routes: Vec<Route>,
    /// Client queues.
    pub clients: Vec<Client>,
    /// The card's tables; `Machine` adds the addresses of the paths.
    pub tables: Tables,
    /// Of 4,096 fragments, how many end with an error of their SSD.
    pub errors_of_4096: u64,
    /// Disks with plan templates.
    pub mirrors: Vec<Mirror>,
}

impl Configuration {
    /// A random machine around a card of `width` bits.
    pub fn random(seed: u64, width: usize) -> Self {
        Self::build(seed, width, false)
    }

    /// A random machine with mirrored disks.
    pub fn mirrored(seed: u64, width: usize) -> Self {
        Self::build(seed, width, true)
    }

    fn build(seed: u64, width: usize, mirrored: bool) -> Self {
        let random = &mut fork(seed, "configuration");
        let ssds = random.random_range(3..=8);
        let shifts: Vec<u8> = match random.random_range(0..4) {
            0 => vec![12],
            1 => vec![9, 12],
            2 => vec![10, 11],
            _ => vec![9],
        };
        let mut ssds: Vec<SsdConfig> =
            (0..ssds).map(|number| ssd(random, number, shifts[number % shifts.len()])).collect();
        let mut tables = Tables::default();
        let (mut routes, shelves) = paths(random, &ssds, &mut tables);
        further_paths(&mut fork(seed, "further paths"), &ssds, &mut tables, &mut routes);
        let modes = &mut fork(seed, "completion modes");
        // The card has no rest while it reads queues in host memory: half of the machines have none.
        let in_host = if modes.random_bool(0.5) { 0.6 } else { 0.0 };
        for route in &mut routes {
            let is_in_host = modes.random_bool(in_host);
            route.completions = if is_in_host { completion_mode::HOST } else { completion_mode::WINDOW };
        }

        let next = ssds.iter().map(|_| first_block(random)).collect();
        let bad_of_1000 = [0, 5, 50][random.random_range(0..3)];
        let disks = random.random_range(2..=6);
        let mut maker = DiskMaker::new(random, &shelves, Space { next }, bad_of_1000);
        let mut mirrors = Vec::new();
        if mirrored {
            let copies: Vec<usize> = (0..maker.random.random_range(1..=4))
                .map(|_| [2, 2, 3, 4, maker.random.random_range(2..=8)][maker.random.random_range(0..5)])
                .collect();
            mirrors = maker.make_mirrors(&mut tables, &copies, disks);
        }
        maker.make(&mut tables, disks);
        let space = maker.space;
        thin_out(&mut fork(seed, "zero extents"), &mut tables);
        for (number, mirror) in mirrors.iter_mut().enumerate() {
            let size = tables.vds[&mirror.disk].size_blocks();
            mirror.divert(fork(seed, &format!("divert ranges {number}")), number, size);
        }
        for (ssd, &next) in ssds.iter_mut().zip(&space.next) {
            ssd.blocks = next + random.random_range(1..1000);
        }

        let stalls = [0, 0, 16, 64, 128][random.random_range(0..5)];
        let read = [0, 0, 20, 100][random.random_range(0..4)];
        let write = [0, 0, 10, 60][random.random_range(0..4)];
        let card = CardConfig {
            record_plans: RECORDS,
            window_merge_of_256: [0, 64, 200][random.random_range(0..3)],
            ..CardConfig::new(width).with_stalls(stalls).with_latency_cycles(read, write)
        };
        let card = hurry(&mut fork(seed, "time-outs"), &mut mirrors, card);
        let mut simulator = ssds.into_iter().fold(SimulatorConfig::new(seed), SimulatorConfig::with_ssd);
        simulator.iova_first = first_iova(&mut fork(seed, "bus addresses"));
        let mut clients = clients(random, mirrored);
        quotas(&mut fork(seed, "quotas"), &mut clients, &mut tables, mirrored);
        let mut machine = Self {
            seed,
            simulator: simulator.with_card(card).with_command_record(RECORDS),
            routes,
            clients,
            tables,
            errors_of_4096: [0, 0, 16, 200][random.random_range(0..4)],
            mirrors,
        };
        if machine.is_hurried() {
            machine.further_controllers(&mut fork(seed, "controllers"));
        }
        machine
    }

    /// Gives some devices a second controller, which one of their paths leads to.
    fn further_controllers(&mut self, random: &mut ChaCha8Rng) {
        let ssds = &mut self.simulator.ssds;
        for device in self.tables.devices.values().filter(|device| device.more_paths() > 0) {
            if !random.random_bool(0.6) {
                continue;
            }
            let paths = [device.path(), device.path1(), device.path2(), device.path3()];
            let path = paths[random.random_range(0..=usize::from(device.more_paths()))];
            let route = self.routes.iter_mut().find(|route| route.path == path).expect("a path of a device");
            let name = format!("{}-further", ssds[route.ssd].name);
            route.ssd = ssds.iter().position(|ssd| ssd.name == name).unwrap_or_else(|| {
                ssds.push(ssds[route.ssd].further_controller(&name));
                ssds.len() - 1
            });
        }
    }

    /// The SSD whose blocks a controller leads to: its own, or those of the one that it is a further controller of.
    pub fn medium(&self, controller: usize) -> usize {
        let ssds = &self.simulator.ssds;
        let owner = ssds[controller].namespace_of.as_ref();
        let owner = owner.and_then(|name| ssds.iter().position(|ssd| ssd.name == *name));
        owner.unwrap_or(controller)
    }

    /// The controllers that lead to the blocks of an SSD.
    pub fn controllers(&self, medium: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.simulator.ssds.len()).filter(move |&controller| self.medium(controller) == medium)
    }

    /// The paths that are queues of a controller.
    pub fn paths_of(&self, controller: usize) -> Vec<u8> {
        let routes = self.routes.iter().filter(|route| route.ssd == controller);
        routes.map(|route| route.path).collect()
    }

    /// Whether components of mirrored disks wait for their SSDs for a time only.
    pub fn is_hurried(&self) -> bool {
        let waits =
            |mirror: &Mirror| mirror.template.components.iter().any(|component| component.time_out > 0);
        self.mirrors.iter().any(waits)
    }

    /// Simulated ns of a tick.
    pub fn tick_ns(&self) -> u64 {
        self.simulator.card.as_ref().map_or(1_000, |card| card.tick_ns)
    }

    /// Name of an SSD.
    pub fn ssd(&self, number: usize) -> &str {
        &self.simulator.ssds[number].name
    }

    /// The route of a path.
    pub fn route(&self, path: u8) -> Option<&Route> {
        self.routes.iter().find(|route| route.path == path)
    }

    /// The path that is a queue of an SSD.
    pub fn path(&self, ssd: usize, queue: u16) -> Option<u8> {
        self.routes.iter().find(|route| (route.ssd, route.queue) == (ssd, queue)).map(|route| route.path)
    }

    /// The mirrored disk of a handle.
    pub fn mirror(&self, disk: u32) -> Option<&Mirror> {
        self.mirrors.iter().find(|mirror| mirror.disk == disk)
    }

    /// One line that says what the machine is like.
    pub fn summary(&self) -> String {
        let card = self.simulator.card.as_ref();
        // Upper case: its completion queue is in host memory.
        let mode = |route: &Route| match (route.mode, route.completions) {
            (submission_mode::DIRECT, completion_mode::WINDOW) => 'd',
            (submission_mode::DIRECT, _) => 'D',
            (_, completion_mode::WINDOW) => 'f',
            _ => 'F',
        };
        let modes: String = self.routes.iter().map(mode).collect();
        format!(
            "width {}, stalls {}, latency {}/{}, tick {} ns, {} SSDs, paths {modes}, {} disks, {} extents, copies {:?}, queues {:?}",
            card.map_or(0, |card| card.width),
            card.map_or(0, |card| card.stalls_of_256),
            card.map_or(0, |card| card.read_latency_cycles),
            card.map_or(0, |card| card.write_latency_cycles),
            if self.is_hurried() { self.tick_ns() } else { 0 },
            self.simulator.ssds.len(),
            self.tables.vds.len(),
            self.tables.extents.len(),
            self.mirrors.iter().map(|mirror| mirror.template.present().count()).collect::<Vec<_>>(),
            self.clients.iter().map(|client| client.entries).collect::<Vec<_>>(),
        )
    }
}

/// Gives mirrored disks time-outs on some machines, whose card ticks so fast that they pass under load.
fn hurry(random: &mut ChaCha8Rng, mirrors: &mut [Mirror], card: CardConfig) -> CardConfig {
    if mirrors.is_empty() || !random.random_bool(0.6) {
        return card;
    }
    mirrors.iter_mut().for_each(|mirror| mirror.hurry(random));
    CardConfig { tick_ns: [24, 40, 80][random.random_range(0..3)], ..card }
}

fn ssd(random: &mut ChaCha8Rng, number: usize, block_shift: u8) -> SsdConfig {
    let (latency, jitter) = match random.random_range(0..5) {
        0 | 1 => (0, 0),
        2 | 3 => (0, 2_000),
        _ => (2_000, 8_000),
    };
    let mdts = [0, 1, 3, 5, 5, 8][random.random_range(0..6)];
    let wzsl = [0, 1, 5, 7, 9][random.random_range(0..5)];
    let writes = [CompletionWrites::Whole, CompletionWrites::Halves, CompletionWrites::Mixed];
    let mut config = SsdConfig::new(&format!("nvme{number}"), 1 << block_shift, 1)
        .with_latency_ns(latency, jitter)
        .with_limits(mdts, wzsl)
        .with_completion_writes(writes[random.random_range(0..3)]);
    config.parallelism = if latency == 0 { [1, 8, 256][random.random_range(0..3)] } else { 256 };
    config
}

/// Where an SSD's used blocks begin: near 0, or where high address bits matter.
fn first_block(random: &mut ChaCha8Rng) -> u64 {
    match random.random_range(0..3) {
        0 => 0,
        1 => random.random_range(0..1 << 20),
        _ => random.random_range(0..1 << 46),
    }
}

/// Where host memory begins on the bus: anywhere, for every bit of an address to matter, with room behind.
fn first_iova(random: &mut ChaCha8Rng) -> u64 {
    let page = PAGE as u64;
    random.random_range(IOVA_FIRST / page..IOVA_END / 2 / page) * page
}

/// One device with its path for every SSD, and a second one for some.
fn paths(random: &mut ChaCha8Rng, ssds: &[SsdConfig], tables: &mut Tables) -> (Vec<Route>, Vec<Shelf>) {
    let mut devices: Vec<u16> = (0..DEVICES).collect();
    let mut paths: Vec<u8> = (0..PATHS).collect();
    devices.shuffle(random);
    paths.shuffle(random);
    let second = (0..ssds.len()).filter(|_| random.random_bool(0.15)).collect::<Vec<_>>();
    let (mut routes, mut shelves) = (Vec::new(), Vec::new());
    for (ssd, queue) in (0..ssds.len()).map(|ssd| (ssd, 1)).chain(second.into_iter().map(|ssd| (ssd, 2))) {
        let (device, path) = (devices.pop().expect("15 devices"), paths.pop().expect("32 paths"));
        let block_shift = ssds[ssd].block_size.trailing_zeros() as u8;
        let mut route = route(random, &ssds[ssd], Route { path, ssd, queue, ..Route::default() });
        route.queue += 2 * random.random_range(0..3);
        routes.push(route);
        shelves.push(Shelf { device, ssd, block_shift });
        tables.paths.insert(path, PathEntry::default().with_valid(1));
        let entry = DeviceEntry::default()
            .with_namespace_id(1)
            .with_transfer_limit(limit_blocks(random, ssds[ssd].mdts, block_shift))
            .with_write_zeroes_limit(limit_blocks(
                random,
                if ssds[ssd].wzsl == 0 { ssds[ssd].mdts } else { ssds[ssd].wzsl },
                block_shift,
            ))
            .with_path(path)
            .with_valid(1);
        tables.devices.insert(device, entry);
    }
    (routes, shelves)
}

/// Gives many devices one or more paths to choose from: queue pairs of the same SSD.
fn further_paths(random: &mut ChaCha8Rng, ssds: &[SsdConfig], tables: &mut Tables, routes: &mut Vec<Route>) {
    let mut free: Vec<u8> = (0..PATHS).filter(|path| !tables.paths.contains_key(path)).collect();
    free.shuffle(random);
    for device in tables.devices.values_mut() {
        let first = routes.iter().find(|route| route.path == device.path());
        let ssd = first.expect("the path of a device").ssd;
        let more = [0, 0, 1, 1, 2, 3][random.random_range(0..6)].min(free.len());
        let mut paths = [device.path(); 4];
        for place in &mut paths[1..=more] {
            *place = free.pop().expect("there were so many");
            let used = routes.iter().filter(|route| route.ssd == ssd).map(|route| route.queue);
            let queue = used.max().map_or(0, |last| last + 1).max(FURTHER_QUEUE);
            routes.push(route(random, &ssds[ssd], Route { path: *place, ssd, queue, ..Route::default() }));
            tables.paths.insert(*place, PathEntry::default().with_valid(1));
        }
        // Any of them may be the first.
        paths[..=more].rotate_left(random.random_range(0..=more));
        let policies = [path_policy::PREFERRED, path_policy::ROUND_ROBIN];
        *device = device
            .with_path(paths[0])
            .with_path1(paths[1])
            .with_path2(paths[2])
            .with_path3(paths[3])
            .with_more_paths(more as u8)
            .with_path_policy(policies[random.random_range(0..2)]);
    }
}

/// A queue pair of an SSD, with rings of drawn lengths.
fn route(random: &mut ChaCha8Rng, ssd: &SsdConfig, of: Route) -> Route {
    // A slow SSD behind a short queue takes all the time of the test and shows nothing new.
    let least = if ssd.latency_ns + ssd.jitter_ns > 0 { 2 } else { 0 };
    let entries = |random: &mut ChaCha8Rng| match random.random_range(0..4).max(least) {
        0 => random.random_range(2..=8),
        1 => random.random_range(9..=64),
        _ => random.random_range(65..=1024),
    };
    let (sq_entries, cq_entries) = (entries(random), entries(random));
    let most = sq_entries.min(cq_entries) - 1;
    let limit = if random.random_bool(0.7) { most } else { random.random_range((most / 4).max(1)..=most) };
    let mode = [submission_mode::DIRECT, submission_mode::FENCED][random.random_range(0..2)];
    Route { sq_entries, cq_entries, limit, mode, ..of }
}

/// A limit in blocks that respects the SSD's exponent of 4 KiB: that one mostly, else anything below.
fn limit_blocks(random: &mut ChaCha8Rng, exponent: u8, block_shift: u8) -> u32 {
    let most = if exponent == 0 { 1 << 16 } else { (4096u32 << exponent) >> block_shift };
    match random.random_range(0..6) {
        0 => random.random_range(1..=most),
        1 => random.random_range(1..=most.min(9)),
        _ => most,
    }
}

/// Lets some queues and disks hold few plan slots, on half of the machines.
fn quotas(random: &mut ChaCha8Rng, clients: &mut [Client], tables: &mut Tables, mirrored: bool) {
    if random.random_bool(0.5) {
        return;
    }
    // Plans that wait for a time-out or for the control path hold their slots: where there are few, all wait with
    // them. Mirrored machines like that took up to eight times the cycles, so they are a tenth of those with quotas.
    let least = if mirrored && !random.random_bool(0.1) { 16 } else { 1 };
    let slots = |random: &mut ChaCha8Rng| match random.random_range(0..6) {
        0 => random.random_range(least..=4 * least),
        1 => random.random_range(4 * least + 1..=80),
        2 => random.random_range(81..=200),
        _ => 0,
    };
    for client in clients {
        client.slots = slots(random);
    }
    for disk in tables.vds.keys().copied().collect::<Vec<_>>() {
        tables.quotas.insert(disk, QuotaEntry::default().with_slots(slots(random)));
    }
}

fn clients(random: &mut ChaCha8Rng, deep: bool) -> Vec<Client> {
    let mut numbers: Vec<u16> = (1..=QUEUES).collect();
    numbers.shuffle(random);
    let count = random.random_range(2..=6);
    let client = |queue| Client {
        queue,
        entries: match random.random_range(0..4) {
            0 => random.random_range(2..=5),
            1 => random.random_range(6..=32),
            _ => random.random_range(33..=256),
        },
        vector: random.random_bool(0.5).then(|| random.random_range(1..VECTORS)),
        slots: 0,
    };
    let mut clients: Vec<Client> = numbers.into_iter().take(count).map(client).collect();
    // One at least lets 64 commands be in flight, and many where plans are to meet.
    clients[0].entries = if deep { 256 } else { clients[0].entries.max(128) };
    clients
}
