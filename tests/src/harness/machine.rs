//! Brings a configuration up through the driver: SSDs, card, tables, queues.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use volplane_abi::tables::table;
use volplane_abi::{
    completion_mode, CompletionEntry, ComponentStates, PathCompletions, PathEntry, PathState, PlanState,
    QueueState, SubmissionEntry,
};
use volplane_driver::{
    Card, ClientQueue, CompletionQueue, DmaMemory, NvmeController, NvmeError, Platform, QueueSlots,
    TableWrite,
};
use volplane_sim::{Refusal, SimFunction, SimHandle, SimPlatform};

use super::configuration::{Configuration, Route};
use super::disks::{ALLOCATIONS_MAX, EXTENTS_MAX, VDS_MAX};
use super::mirrors::States;
use volplane::software::Tables;

/// Cycles that a completion may wait in front of BAR2.
const WINDOW_WAIT_MAX: u32 = 32;
/// Longest that a bring-up step may take.
const LIMIT: Duration = Duration::from_millis(100);

/// A machine that runs.
pub struct Machine {
    /// The simulator, as a platform.
    pub platform: SimPlatform,
    /// The simulator, as tests see it.
    pub handle: SimHandle,
    /// The card.
    pub card: Card<SimFunction>,
    /// SSDs in order of configuration.
    pub controllers: Vec<NvmeController<SimFunction>>,
    /// Client queues in order of configuration.
    pub queues: Vec<ClientQueue<SimFunction>>,
    /// Submission queues of the paths, and completion queues in host memory; they are the card's as long as the
    /// paths live.
    rings: Vec<DmaMemory>,
    /// Of each path that is closed: doorbells that were rung until the card had said so.
    rung: BTreeMap<u8, u64>,
    /// Closed paths whose queues are gone.
    without_queues: BTreeSet<u8>,
    /// What it was made of.
    pub configuration: Configuration,
}

impl Machine {
    /// Brings the machine up.
    ///
    /// # Panics
    /// When anything refuses.
    pub fn start(configuration: Configuration) -> Self {
        let mut platform = SimPlatform::new(configuration.simulator.clone()).expect("a sound configuration");
        let handle = platform.handle();
        let open = |ssd: &volplane_sim::SsdConfig| {
            NvmeController::open(&mut platform, &format!("sim:{}", ssd.name))
                .expect("the controller comes up")
        };
        let controllers = configuration.simulator.ssds.iter().map(open).collect();
        let card = Card::open(&mut platform, "sim:card").expect("the card comes up");
        let (queues, rings) = (Vec::new(), Vec::new());
        let (rung, without_queues) = (BTreeMap::new(), BTreeSet::new());
        let mut machine =
            Self { platform, handle, card, controllers, queues, rings, rung, without_queues, configuration };
        machine.connect();
        machine
    }

    /// Makes paths, tables and queues on a card and SSDs that have none.
    ///
    /// # Panics
    /// When anything refuses.
    pub fn connect(&mut self) {
        let capabilities = self.card.capabilities();
        assert!(capabilities.allocations >= ALLOCATIONS_MAX && capabilities.extents >= EXTENTS_MAX);
        assert!(capabilities.vds >= VDS_MAX);
        for route in self.configuration.routes.clone() {
            let entry = self.create_path(&route);
            self.configuration.tables.paths.insert(route.path, entry);
        }
        // A disk that names a plan comes after it.
        let mut writes: Vec<TableWrite> =
            self.configuration.mirrors.iter().flat_map(super::mirrors::Mirror::writes).collect();
        writes.extend(table_writes(&self.configuration.tables));
        self.card.table_write_all(&mut self.platform, writes).expect("the tables are written");
        for client in self.configuration.clients.clone() {
            let queue = self.card.create_queue_within(
                &mut self.platform,
                client.queue,
                client.entries,
                client.vector,
                client.queue,
                QueueSlots { most: client.slots, reserve: false },
            );
            self.queues.push(queue.expect("a client queue"));
        }
    }

    fn create_path(&mut self, route: &Route) -> PathEntry {
        let (sq_entries, cq_entries) = (route.sq_entries, route.cq_entries);
        let bytes = usize::from(sq_entries) * SubmissionEntry::BYTES;
        let sq = self.platform.allocate(bytes).expect("memory");
        let cq = (route.completions == completion_mode::HOST).then(|| {
            let memory = self.platform.allocate(usize::from(cq_entries) * CompletionEntry::BYTES);
            memory.expect("memory")
        });
        if let Some(cq) = &cq {
            // From here on the card does not read the queue that the path had.
            let place = PathCompletions::default().with_base(cq.iova().0);
            let index = route.path.into();
            let written = self.card.table_write(&mut self.platform, table::PATH_COMPLETIONS, index, &place.0);
            written.expect("an entry");
            self.rings.push(cq.clone());
        }
        assert!(u32::from(cq_entries) <= self.card.window_entries());
        let window = CompletionQueue::Window(self.card.window_iova(route.path));
        let queue = cq.as_ref().map_or(window, CompletionQueue::Host);
        let doorbells = self.controllers[route.ssd]
            .create_io_queue_pair(&mut self.platform, route.queue, &sq, sq_entries, queue, cq_entries)
            .expect("an I/O queue pair");
        let entry = PathEntry::default()
            .with_sq_base(sq.iova().0)
            .with_sq_doorbell(doorbells.sq_tail.0)
            .with_cq_doorbell(doorbells.cq_head.0)
            .with_sq_size_z(sq_entries - 1)
            .with_cq_size_z(cq_entries - 1)
            .with_limit(route.limit)
            .with_submission_mode(route.mode)
            .with_completion_mode(route.completions)
            .with_valid(1);
        self.rings.push(sq);
        entry
    }

    /// Closes a path to commands, or says of a closed one whether it is to be made anew: what finds no other waits then.
    /// From now on the card lets its queues alone.
    ///
    /// # Panics
    /// When the card refuses.
    pub fn close_path(&mut self, path: u8, renewing: bool) {
        let closed = self.configuration.tables.paths[&path].with_valid(0).with_renewing(renewing.into());
        self.card.table_write(&mut self.platform, table::PATH, path.into(), &closed.0).expect("an entry");
        let rung = self.doorbells_rung(path);
        self.rung.entry(path).or_insert(rung);
    }

    /// Whether a controller is gone, as its driver sees it.
    pub fn is_gone(&self, controller: usize) -> bool {
        matches!(self.controllers[controller].answers(), Err(NvmeError::Gone { .. }))
    }

    /// Brings a controller up anew, all of whose paths are closed: it does nothing any more of what it was given, and
    /// has no queues.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn reset_controller(&mut self, controller: usize) {
        self.check_closed().unwrap_or_else(|what| panic!("{what}"));
        self.controllers[controller].reset(&mut self.platform).expect("the controller resets");
        self.without_queues.extend(self.configuration.paths_of(controller));
    }

    /// The queues of a closed path have gone with its controller.
    pub fn lose_path_queues(&mut self, path: u8) {
        self.without_queues.insert(path);
    }

    /// Whether a closed path has no queues.
    pub fn has_no_queues(&self, path: u8) -> bool {
        self.without_queues.contains(&path)
    }

    /// Doorbells of a path that were rung by now.
    fn doorbells_rung(&self, path: u8) -> u64 {
        let route = self.configuration.route(path).expect("a path of the machine");
        self.handle.doorbells_rung(route.ssd, route.queue)
    }

    /// What the card did with the queues of paths that it said to be closed: it rings none of their doorbells.
    ///
    /// # Errors
    /// Says of which it did.
    pub fn check_closed(&self) -> Result<(), String> {
        for (&path, &before) in &self.rung {
            let rung = self.doorbells_rung(path);
            if rung != before {
                return Err(format!("{} doorbells of path {path} after its closing", rung - before));
            }
        }
        Ok(())
    }

    /// Gives a closed path new queues, and opens it.
    ///
    /// # Panics
    /// When the SSD or the card refuses.
    pub fn renew_path(&mut self, path: u8) {
        self.delete_path_queues(path);
        self.open_path(path);
    }

    /// Deletes the queues of a closed path: its SSD executes nothing any more that came by it.
    ///
    /// # Panics
    /// When the SSD refuses.
    pub fn delete_path_queues(&mut self, path: u8) {
        self.check_closed().unwrap_or_else(|what| panic!("{what}"));
        let route = self.configuration.route(path).expect("a path of the machine").clone();
        let controller = &mut self.controllers[route.ssd];
        controller.delete_io_queue_pair(&mut self.platform, route.queue).expect("its queues are deleted");
        self.without_queues.insert(path);
    }

    /// Makes queues for a path that has none, and opens it.
    ///
    /// # Panics
    /// When the SSD or the card refuses.
    pub fn open_path(&mut self, path: u8) {
        let route = self.configuration.route(path).expect("a path of the machine").clone();
        let entry = self.create_path(&route);
        self.configuration.tables.paths.insert(path, entry);
        self.check_closed().unwrap_or_else(|what| panic!("{what}"));
        self.rung.remove(&path);
        self.without_queues.remove(&path);
        self.card.table_write(&mut self.platform, table::PATH, path.into(), &entry.0).expect("an entry");
    }

    /// What a control path does when a fence is asked for.
    ///
    /// # Panics
    /// When the SSD or the card refuses.
    pub fn fence(&mut self, path: u8) {
        self.close_path(path, true);
        self.renew_path(path);
        self.card.path_quiesced(&mut self.platform, path).expect("the card has the path");
    }

    /// Deletes the SSDs' queues, resets the card and opens it again, empty.
    ///
    /// # Panics
    /// When the card does not come back.
    #[must_use]
    pub fn restart_card(self) -> Self {
        let Self { mut platform, handle, card, mut controllers, configuration, rings, queues, .. } = self;
        card.close(&mut platform).expect("the card resets in time");
        for controller in &mut controllers {
            controller.reset(&mut platform).expect("the controller resets");
        }
        drop((rings, queues));
        let card = Card::open(&mut platform, "sim:card").expect("the card comes up");
        let (queues, rings) = (Vec::new(), Vec::new());
        let (rung, without_queues) = (BTreeMap::new(), BTreeSet::new());
        Self { platform, handle, card, controllers, queues, rings, rung, without_queues, configuration }
    }

    /// Resets the SSDs: what they were given they do no more, and their queues are gone.
    ///
    /// # Panics
    /// When one does not come back.
    pub fn reset_ssds(&mut self) {
        for controller in &mut self.controllers {
            controller.reset(&mut self.platform).expect("the controller resets");
        }
    }

    /// Opens the card again, empty, after whatever has reset it; the SSDs were reset before. All rings are released.
    ///
    /// # Panics
    /// When the card does not come back.
    #[must_use]
    pub fn reopen_card(self) -> Self {
        let Self { mut platform, handle, card, controllers, configuration, rings, queues, .. } = self;
        card.close(&mut platform).expect("the card resets in time");
        drop((rings, queues));
        let card = Card::open(&mut platform, "sim:card").expect("the card comes up");
        let (queues, rings) = (Vec::new(), Vec::new());
        let (rung, without_queues) = (BTreeMap::new(), BTreeSet::new());
        Self { platform, handle, card, controllers, queues, rings, rung, without_queues, configuration }
    }

    /// Polls until a completion of queue `index` comes.
    ///
    /// # Panics
    /// When none comes.
    pub fn completion(&mut self, index: usize) -> CompletionEntry {
        let queue = &mut self.queues[index];
        let found = volplane_driver::poll_until(&mut self.platform, LIMIT, || queue.poll());
        found.expect("a sound queue").unwrap_or_else(|| panic!("no completion of queue {index}"))
    }

    /// Executes one command on queue `index` and returns its status.
    ///
    /// # Panics
    /// When it is not completed.
    pub fn execute(&mut self, index: usize, entry: SubmissionEntry) -> u16 {
        self.queues[index].submit(entry).expect("room");
        self.queues[index].ring().expect("a doorbell");
        let completion = self.completion(index);
        assert_eq!(completion.command_id(), entry.command_id());
        completion.status()
    }

    /// Panics when the bus, an SSD or the card saw something illegal; refused accesses for which
    /// `expected` holds are fine.
    pub fn assert_clean(&self, expected: impl Fn(&Refusal) -> bool) {
        let refusals: Vec<String> = self
            .handle
            .refusals()
            .iter()
            .filter(|refusal| !expected(refusal))
            .map(ToString::to_string)
            .collect();
        assert!(refusals.is_empty(), "the bus refused {refusals:#?}");
        let none = Vec::<String>::new();
        assert_eq!(self.handle.protocol_errors(), none);
        assert_eq!(self.handle.ssd_complaints(), none);
        let waited = self.handle.window_wait_max();
        assert!(waited <= WINDOW_WAIT_MAX, "a completion waited {waited} cycles in front of BAR2");
    }

    /// State of every client queue, by number.
    ///
    /// # Panics
    /// When the card does not say.
    pub fn queue_states(&mut self) -> BTreeMap<u16, QueueState> {
        let numbers: Vec<u16> = self.configuration.clients.iter().map(|client| client.queue).collect();
        let mut state = |number| self.card.queue_state(&mut self.platform, number).expect("a state");
        numbers.into_iter().map(|number| (number, state(number))).collect()
    }

    /// The slots with a plan that the card shows, of disks with a template.
    ///
    /// # Panics
    /// When the card does not say.
    pub fn live_plans(&mut self) -> Vec<u32> {
        let (slots, mut live) = (self.card.capabilities().slots, Vec::new());
        let read =
            self.card.table_read_all(&mut self.platform, table::PLAN_STATE, 0..slots, |slot, payload| {
                let state = PlanState(payload[..PlanState::BYTES].try_into().expect("8 bytes"));
                live.extend((state.live() == 1).then_some(slot));
            });
        read.expect("the card shows its slots");
        live
    }

    /// What the card says of the components of every mirrored disk, by handle.
    ///
    /// # Panics
    /// When the card does not say.
    pub fn component_states(&mut self) -> BTreeMap<u32, States> {
        let disks: Vec<u32> = self.configuration.mirrors.iter().map(|mirror| mirror.disk).collect();
        let mut read = |disk| {
            let bytes = self.card.table_read(&mut self.platform, table::STATES, disk).expect("the states");
            let entry = ComponentStates(bytes[..ComponentStates::BYTES].try_into().expect("8 bytes"));
            States::unpack(entry.states(), entry.durably_out(), entry.deactivated() == 1)
        };
        disks.into_iter().map(|disk| (disk, read(disk))).collect()
    }

    /// State of every path, by number.
    ///
    /// # Panics
    /// When the card does not say.
    pub fn path_states(&mut self) -> BTreeMap<u8, PathState> {
        let numbers: Vec<u8> = self.configuration.routes.iter().map(|route| route.path).collect();
        let mut state = |number| self.card.path_state(&mut self.platform, number).expect("a state");
        numbers.into_iter().map(|number| (number, state(number))).collect()
    }
}

/// Everything in `tables`, as writes: what others refer to comes first.
pub fn table_writes(tables: &Tables) -> Vec<TableWrite> {
    let mut writes = Vec::new();
    writes.extend(tables.paths.iter().map(|(&n, entry)| TableWrite::new(table::PATH, n.into(), &entry.0)));
    writes
        .extend(tables.devices.iter().map(|(&n, entry)| TableWrite::new(table::DEVICE, n.into(), &entry.0)));
    writes.extend(tables.extents.iter().map(|(&n, entry)| TableWrite::new(table::EXTENT, n, &entry.0)));
    writes
        .extend(tables.allocations.iter().map(|(&n, entry)| TableWrite::new(table::ALLOCATION, n, &entry.0)));
    writes.extend(tables.vds.iter().map(|(&n, entry)| TableWrite::new(table::VD, n, &entry.0)));
    writes.extend(tables.quotas.iter().map(|(&n, entry)| TableWrite::new(table::QUOTA, n, &entry.0)));
    writes
}
