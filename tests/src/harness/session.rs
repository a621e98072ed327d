//! A run: random commands on a machine, compared with the model.

mod compare;
mod control_path;
mod epochs;
mod judgement;
mod liveness;
mod outages;
mod renewal;
mod slots;
mod witness;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane::software::{Cuts, Fragment};
use volplane_abi::plan::COMPONENTS_MAX;
use volplane_abi::status::{DATA_TRANSFER_ERROR, DNR};
use volplane_abi::{completion_mode, opcode, registers, CompletionEntry, SubmissionEntry};
use volplane_driver::{Bar, Function, Platform};

use super::arena::{Arena, Buffer};
use super::configuration::Route;
use super::faults::Errors;
use super::media::{fill, Media};
use super::plan_judge::{Asked, Outcome};
use super::plan_story::{CommandKey, Place, Stories};
use super::traffic::{Claim, Request, Traffic};
use super::volumes::Volumes;
use super::{fork, Configuration, Coverage, Machine};
use control_path::{ControlPath, Told};
use epochs::Epochs;
use liveness::{Calm, Drained};
use outages::Outages;
use renewal::Renewals;
use slots::Slots;
use witness::Flight;

/// Commands between two checks of everything: of machines with mirrored disks, and of others.
const BATCH: (u64, u64) = (2_000, 300);
/// Commands in flight that are many, and how many of 100 commands to mirrored disks must find so many.
pub const DEEP: usize = 64;
/// Cycles in which no fragment comes back and no command is completed, after which the card hangs. Commands alone do
/// not tell: the last few of a run may be thousands of fragments, which one SSD takes one by one, and the card has no
/// rest while it reads that SSD's completions.
const HANG_CYCLES: u64 = 3_000_000;
/// Simulated time without a completion after which the card hangs, whatever fragments it issues.
const HANG_NS: u64 = 2_000_000_000;
/// Time after the last completion in which interrupts and doorbells come.
const SETTLE_NS: u64 = 20_000;

/// A command under way.
struct Pending {
    serial: u64,
    entry: SubmissionEntry,
    /// To a mirrored disk: what is known of it before it is completed.
    asked: Option<Asked>,
    /// By component: its part, once anybody wanted to know.
    cuts: [Option<Cuts>; COMPONENTS_MAX],
    buffer: Buffer,
    claim: Claim,
    /// Number of the first block written.
    token: u64,
    /// Of a Compare: numbers of the blocks that it compares with.
    offered: Vec<u64>,
    /// Step at which it was sent.
    sent: u64,
    /// What came of it, and the status that the control path ends it with.
    decided: Option<(Outcome, u16)>,
    /// A record told of it that nobody has to answer.
    logged: bool,
    /// The oldest epoch that was open when it was sent.
    epoch: u32,
}

/// A run.
pub struct Session {
    machine: Machine,
    arena: Arena,
    media: Media,
    traffic: Traffic,
    random: ChaCha8Rng,
    pending: BTreeMap<CommandKey, Pending>,
    /// Of commands under way, and of all since the last check.
    claims: BTreeMap<u64, Claim>,
    recent: Vec<Claim>,
    /// Identifiers used since the last check.
    used: BTreeSet<CommandKey>,
    stories: Stories,
    slots: Slots,
    /// By SSD and number of the command there.
    flights: HashMap<(usize, u64), Flight>,
    /// Those that were ended, since the last check.
    answers: HashMap<(usize, u64), Place>,
    renewals: Renewals,
    outages: Outages,
    volumes: Volumes,
    control: ControlPath,
    epochs: Epochs,
    /// Since when no fault begins any more.
    calm: Option<Calm>,
    drained: Option<Drained>,
    /// Commands to send in all.
    wanted: u64,
    /// Records that must come of commands that were completed.
    told: BTreeMap<CommandKey, Told>,
    sent: u64,
    /// Counts what is sent and completed.
    step: u64,
    fragments: BTreeMap<u8, u64>,
    vectors: BTreeSet<u16>,
    /// Cycle and time of the last completion, or the cycle in which a fragment has come back since, and how many had.
    last_progress: (u64, u64, u64),
    coverage: Coverage,
}

impl Session {
    /// Brings the machine up.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(configuration: Configuration) -> Self {
        println!("seed {}: {}", configuration.seed, configuration.summary());
        let seed = configuration.seed;
        let mut machine = Machine::start(configuration);
        let errors = Errors { seed, of_4096: machine.configuration.errors_of_4096 };
        let ssds: Vec<(String, u32)> = machine
            .configuration
            .simulator
            .ssds
            .iter()
            .map(|ssd| (ssd.name.clone(), ssd.block_size))
            .collect();
        for (number, (name, _)) in ssds.iter().enumerate() {
            let medium = machine.configuration.medium(number);
            machine.handle.set_filter(name, Some(errors.filter(medium)));
        }
        let arena = Arena::new(&mut machine.platform);
        let mirrors = &machine.configuration.mirrors;
        let (mut stories, volumes) = (Stories::new(mirrors), Volumes::default());
        stories.paths.tick_ns = machine.configuration.tick_ns();
        let in_host = |route: &&Route| route.completions == completion_mode::HOST;
        let in_host =
            machine.configuration.routes.iter().filter(in_host).map(|route| (route.path, route.cq_entries));
        stories.paths.in_host = in_host.collect();
        let control = ControlPath::new(fork(seed, "control path"), mirrors);
        let traffic = Traffic::new(fork(seed, "traffic"), &machine.configuration.tables);
        Self {
            machine,
            arena,
            media: Media::new(ssds.into_iter()),
            traffic,
            random: fork(seed, "session"),
            pending: BTreeMap::new(),
            claims: BTreeMap::new(),
            recent: Vec::new(),
            used: BTreeSet::new(),
            stories,
            slots: Slots::default(),
            flights: HashMap::new(),
            answers: HashMap::new(),
            renewals: Renewals::new(fork(seed, "renewals"), fork(seed, "closings")),
            outages: Outages::new(fork(seed, "outages")),
            volumes,
            control,
            epochs: Epochs::new(fork(seed, "epochs")),
            calm: None,
            drained: None,
            wanted: 0,
            told: BTreeMap::new(),
            sent: 0,
            step: 0,
            fragments: BTreeMap::new(),
            vectors: BTreeSet::new(),
            last_progress: (0, 0, 0),
            coverage: Coverage::default(),
        }
    }

    /// Sends `commands` commands and compares all that comes of them; what was met.
    ///
    /// # Panics
    /// At the first difference, with how to see it again.
    pub fn run(mut self, commands: u64) -> Coverage {
        self.wanted = commands;
        self.coalesce();
        let (least, most) = if self.is_mirrored() { (96, 256) } else { (1, 256) };
        while self.sent < commands {
            let depth = self.random.random_range(least..=most);
            let end = (self.sent + self.batch_commands()).min(commands);
            self.batch(end, depth, end == commands);
            self.resynchronise();
        }
        let coverage = std::mem::take(&mut self.coverage);
        self.finish();
        coverage
    }

    fn is_mirrored(&self) -> bool {
        !self.machine.configuration.mirrors.is_empty()
    }

    /// Whether any path is made anew, or will be.
    fn renews(&self) -> bool {
        self.renewals.any() || self.outages.any()
    }

    fn batch_commands(&self) -> u64 {
        if self.is_mirrored() {
            BATCH.0
        } else {
            BATCH.1
        }
    }

    fn coalesce(&mut self) {
        let setting = match self.random.random_range(0..2) {
            0 => 0,
            _ => {
                registers::COALESCING_TICKS.put32(self.random.random_range(1..4))
                    | registers::COALESCING_COUNT.put32(self.random.random_range(2..9))
            }
        };
        let card = self.machine.card.function();
        card.write32(Bar::Bar0, registers::INTERRUPT_COALESCING.into(), setting).expect("a register write");
    }

    /// Sends until `end` were sent, at most `depth` at once, waits for all, and compares. In the `last` one faults end
    /// when all is sent.
    fn batch(&mut self, end: u64, depth: usize, last: bool) {
        self.progress();
        self.media.begin();
        let stories = &self.stories;
        self.volumes.begin(&self.machine.configuration.mirrors, |disk| stories.now(disk));
        while self.sent < end || !last && (!self.pending.is_empty() || self.renews()) {
            if self.sent < end {
                let few = self.random.random_range(1..=16);
                let count =
                    if self.is_mirrored() { (depth - self.pending.len().min(depth)) as u64 } else { few };
                self.burst(count.min(end - self.sent), depth);
            }
            let pause = Duration::from_nanos(self.random.random_range(100..20_000));
            let deadline = self.machine.platform.now() + pause;
            if let Err(error) = self.machine.platform.wait(deadline) {
                self.fail(&error.to_string(), None);
            }
            self.poll();
            self.control();
            self.check_progress();
        }
        if last {
            self.drained = Some(self.drain());
        }
        self.settle();
    }

    fn burst(&mut self, count: u64, most: usize) {
        let mut rung = BTreeSet::new();
        for _ in 0..count {
            let queue = self.random.random_range(0..self.machine.queues.len());
            if self.pending.len() >= most || self.machine.queues[queue].free() == 0 {
                continue;
            }
            let tables = &self.machine.configuration.tables;
            let Some(request) = self.traffic.next(tables, &mut self.arena, &self.claims) else { continue };
            self.send(queue, request);
            rung.insert(queue);
        }
        for queue in rung {
            self.machine.queues[queue].ring().expect("a doorbell");
        }
    }

    fn send(&mut self, queue: usize, request: Request) {
        let Request { entry, buffer, claim } = request;
        let number = self.machine.configuration.clients[queue].queue;
        // Records come late: their commands are told from others by the identifier.
        let id = loop {
            let id: u16 = self.random.random();
            if self.used.insert((number, id)) {
                break id;
            }
        };
        self.coverage.sent(self.pending.len() >= DEEP);
        let entry = entry.with_command_id(id);
        let (asked, cuts) = self.look_at(&entry);
        let token = self.media.tokens(claim.blocks);
        if entry.opcode() == opcode::WRITE && claim.blocks > 0 {
            let size = buffer.bytes / claim.blocks as usize;
            let mut data = vec![0; buffer.bytes];
            let blocks = data.chunks_exact_mut(size).zip(token..);
            blocks.for_each(|(block, token)| fill(token, block));
            self.arena.write(&buffer, &data);
        }
        let reads = [opcode::READ, opcode::COMPARE].contains(&entry.opcode());
        if reads && !self.recent.iter().any(|other| claim.overlaps(other)) {
            self.plant(&claim);
        }
        let offered = self.offer(&entry, &claim, &buffer);
        self.claims.insert(self.sent, claim);
        self.recent.push(claim);
        self.machine.queues[queue].submit(entry).expect("room was seen");
        let (serial, sent) = (self.sent, self.step);
        let epoch = self.epochs.oldest;
        let (decided, logged) = (None, false);
        let pending = Pending {
            serial,
            entry,
            asked,
            cuts,
            buffer,
            claim,
            token,
            offered,
            sent,
            decided,
            logged,
            epoch,
        };
        self.pending.insert((number, id), pending);
        (self.sent, self.step) = (self.sent + 1, self.step + 1);
    }

    fn poll(&mut self) {
        let mut completions = Vec::new();
        for queue in 0..self.machine.queues.len() {
            loop {
                match self.machine.queues[queue].poll() {
                    Ok(None) => break,
                    Ok(Some(completion)) => completions.push((queue, completion)),
                    Err(error) => self.fail(&error.to_string(), None),
                }
            }
        }
        if let Err(what) = self.hear() {
            self.fail(&what, None);
        }
        completions.into_iter().for_each(|(queue, completion)| self.complete(queue, completion));
    }

    fn complete(&mut self, queue: usize, completion: CompletionEntry) {
        self.progress();
        let client = self.machine.configuration.clients[queue];
        let command = (client.queue, completion.command_id());
        let Some(mut pending) = self.pending.remove(&command) else {
            self.fail(&format!("queue {}: a completion of no command: {completion:?}", client.queue), None);
        };
        self.vectors.extend(client.vector);
        self.step += 1;
        let found = completion.status();
        let expected = match self.judge_completion(command, &mut pending) {
            Ok(status) => status,
            Err(what) => self.fail(&format!("status {found:#06x}: {what}"), Some(&pending)),
        };
        for cuts in pending.cuts.iter().flatten() {
            self.coverage.note(pending.entry.opcode(), cuts, expected);
        }
        if !is_same(found, expected) {
            self.fail(&format!("status {found:#06x}, expected {expected:#06x}"), Some(&pending));
        }
        if (completion.sq_id(), completion.result(), completion.reserved()) != (client.queue, 0, 0) {
            self.fail(&format!("queue {}: {completion:?}", client.queue), Some(&pending));
        }
        if let Err(what) = self.arena.release(std::mem::take(&mut pending.buffer)) {
            self.fail(&what, Some(&pending));
        }
        self.claims.remove(&pending.serial);
    }

    /// Compares what the SSDs and the disks hold, and host memory outside of buffers.
    fn settle(&mut self) {
        self.machine.handle.run_for_ns(SETTLE_NS).unwrap_or_else(|error| self.fail(&error.to_string(), None));
        self.poll();
        self.take_last_records();
        if !self.flights.is_empty() {
            self.fail(&format!("SSDs still execute {:?}", self.flights.values().next()), None);
        }
        let (handle, stories) = (self.machine.handle.clone(), &self.stories);
        let checked = self
            .volumes
            .check(&self.machine.configuration, &self.media, |disk| stories.now(disk))
            .and_then(|()| self.media.check_touched(&handle))
            .and_then(|()| self.arena.check_free());
        checked.unwrap_or_else(|what| self.fail(&what, None));
        self.machine.assert_clean(|refusal| self.arena.is_hole(refusal.iova));
        for vector in std::mem::take(&mut self.vectors) {
            if !self.machine.card.take_interrupt(vector) {
                self.fail(&format!("vector {vector} was not raised"), None);
            }
        }
        self.recent.clear();
        self.used.clear();
        self.answers.clear();
    }

    /// Compares counters and states at the end.
    fn finish(mut self) {
        let handle = self.machine.handle.clone();
        self.media.check_all(&handle).unwrap_or_else(|what| self.fail(&what, None));
        for (number, state) in self.machine.queue_states() {
            if state.outstanding() != 0 || state.stopped() != 0 || state.sq_head() != state.sq_tail() {
                self.fail(&format!("queue {number} ends as {state:?}"), None);
            }
        }
        for (number, state) in self.machine.path_states() {
            let fetched = self.fragments.get(&number).copied().unwrap_or(0);
            let (issued, renewed) = self.stories.paths.issued_on(number);
            if !renewed && issued != fetched {
                self.fail(&format!("{issued} fragments were issued on path {number}, {fetched} came"), None);
            }
            let route = self.machine.configuration.route(number).expect("a path").clone();
            let (tail, head) = (issued % u64::from(route.sq_entries), issued % u64::from(route.cq_entries));
            let expected = [tail, tail, tail, head, issued % 65536, issued % 65536];
            let found = [
                state.sq_tail(),
                state.sq_head(),
                state.sq_rung(),
                state.cq_head(),
                state.issued(),
                state.returned(),
            ];
            if found.map(u64::from) != expected {
                self.fail(
                    &format!("path {number} ends as {state:?}, expected {expected:?}, {route:?}"),
                    None,
                );
            }
        }
        let live = self.machine.live_plans();
        if !live.is_empty() {
            self.fail(&format!("plans are live at the end, in slots {live:?}"), None);
        }
        let fragments = self.stories.paths.issued;
        for (register, expected) in [
            (registers::COMMANDS_FETCHED, self.sent),
            (registers::COMPLETIONS_WRITTEN, self.sent),
            (registers::FRAGMENTS_ISSUED, fragments),
        ] {
            let found = self.machine.card.register_block().read(register).expect("a register");
            if u64::from(found) != expected {
                self.fail(&format!("register {register:#x} is {found}, expected {expected}"), None);
            }
        }
        let unknown = self.machine.card.register_block().read(registers::UNKNOWN_COMPLETIONS);
        let unknown = unknown.expect("a register");
        // What was quiesced while its answer stood unread in host memory may have been read after.
        if u64::from(unknown) > self.stories.paths.unread {
            self.fail(&format!("{unknown} completions were unknown"), None);
        }
        let heads = self.machine.card.register_block().read(registers::BAD_HEADS).expect("a register");
        if u64::from(heads) > self.stories.paths.stale() {
            self.fail(&format!("{heads} heads were bad"), None);
        }
        if self.stories.counts.left() != 0 {
            self.fail(&format!("parts are left: {:?}", self.stories.counts), None);
        }
        let errors = self.machine.card.register_block().read(registers::WRITE_ERRORS).expect("a register");
        if errors != 0 && self.stories.refused_fills == 0 {
            self.fail(&format!("{errors} writes were refused"), None);
        }
        let counters = self.machine.handle.counters();
        println!(
            "seed {}: {} commands, {fragments} fragments, {} cycles; {}",
            self.machine.configuration.seed,
            self.sent,
            counters.cycles_evaluated,
            self.drained.map_or_else(String::new, |drained| drained.to_string())
        );
        self.machine.card.close(&mut self.machine.platform).expect("the card resets");
    }

    fn progress(&mut self) {
        let cycles = self.machine.handle.counters().cycles_evaluated;
        self.last_progress = (cycles, self.machine.handle.now_ns(), self.stories.paths.returned);
    }

    fn check_progress(&mut self) {
        let (since, ns, before) = self.last_progress;
        let (now, returned) = (self.machine.handle.counters().cycles_evaluated, self.stories.paths.returned);
        let since = if returned == before { since } else { now };
        self.last_progress = (since, ns, returned);
        if now - since > HANG_CYCLES || self.machine.handle.now_ns() - ns > HANG_NS {
            let queues = self.machine.queue_states();
            let paths = self.machine.path_states();
            let oldest = self.pending.values().min_by_key(|pending| pending.serial);
            let count = self.pending.len();
            self.fail(&format!("no completion, {count} commands wait\n{queues:#?}\n{paths:#?}"), oldest);
        }
    }

    fn fail(&self, what: &str, pending: Option<&Pending>) -> ! {
        let seed = self.machine.configuration.seed;
        let test = if self.is_mirrored() { "plans_against_model" } else { "rtl_against_model" };
        panic!(
            "{what}\n{}\nafter {} commands; replay {test} with VOLPLANE_SEED={seed} VOLPLANE_COMMANDS={}\n{}",
            pending.map(describe).unwrap_or_default(),
            self.sent,
            // One more, if this batch was not the last, whose end is another.
            (self.sent.next_multiple_of(self.batch_commands()) + 1).min(self.wanted),
            self.machine.configuration.summary()
        )
    }
}

fn describe(pending: &Pending) -> String {
    let mut text = format!("command {}: {:x?}", pending.serial, pending.entry);
    for (component, cuts) in pending.cuts.iter().enumerate() {
        let Some(cuts) = cuts else { continue };
        let first: Vec<&Fragment> = cuts.fragments.iter().take(8).collect();
        let count = cuts.fragments.len();
        let (issued, closing) = (cuts.issued, cuts.closing);
        text += &format!(
            "\ncomponent {component}: {issued:?} fragments issued of {count}, status without errors {closing:#06x}: {first:#x?}"
        );
    }
    text
}

/// The card and an SSD may each be the one to find that a list cannot be read; only the card adds DNR.
fn is_same(found: u16, expected: u16) -> bool {
    let transfer = found & !DNR == DATA_TRANSFER_ERROR && expected & !DNR == DATA_TRANSFER_ERROR;
    found == expected || transfer
}
