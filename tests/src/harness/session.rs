//! A run: random commands on a machine, compared with the model.

mod mirrored;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::status::{DATA_TRANSFER_ERROR, DNR};
use volplane_abi::{opcode, registers, CompletionEntry, SubmissionEntry};
use volplane_driver::{Bar, Function, Platform};
use volplane_sim::{Agent, SimHandle};

use super::arena::{Arena, Buffer};
use super::faults::Errors;
use super::media::{content, Media};
use super::plan_judge::Asked;
use super::plan_story::Stories;
use super::records::{self, Waiting};
use super::traffic::{Claim, Request, Traffic};
use super::{fork, Configuration, Coverage, Machine};
use volplane::software::{Cuts, Fragment, Issued};

/// Commands between two checks of everything.
const BATCH: u64 = 300;
/// Cycles without a completion after which the card hangs.
const HANG_CYCLES: u64 = 3_000_000;
/// Simulated time without a completion after which the card hangs: the slowest machine takes 2,049
/// fragments one by one.
const HANG_NS: u64 = 2_000_000_000;
/// Time after the last completion in which interrupts and doorbells come.
const SETTLE_NS: u64 = 20_000;

/// A command under way.
struct Pending {
    serial: u64,
    entry: SubmissionEntry,
    /// To a mirrored disk: what is known of it before it is completed.
    asked: Option<Asked>,
    /// What its parts become; of a plan known when it is completed.
    parts: Vec<Cuts>,
    buffer: Buffer,
    claim: Claim,
    /// Number of the first block written.
    token: u64,
}

/// A run.
pub struct Session {
    machine: Machine,
    arena: Arena,
    media: Media,
    traffic: Traffic,
    errors: Errors,
    random: ChaCha8Rng,
    /// By queue and command identifier.
    pending: BTreeMap<(usize, u16), Pending>,
    claims: BTreeMap<u64, Claim>,
    /// Completed since the last check.
    completed: Vec<Pending>,
    /// Their parts, and whose they are: which of `completed`, which of its parts.
    waiting: Vec<Waiting>,
    owners: Vec<(usize, usize)>,
    stories: Stories,
    sent: u64,
    fragments: BTreeMap<u8, u64>,
    vectors: BTreeSet<u16>,
    last_progress: (u64, u64),
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
        let random = fork(seed, "session");
        let errors = Errors { seed, of_4096: machine.configuration.errors_of_4096 };
        let ssds: Vec<(String, u32)> = machine
            .configuration
            .simulator
            .ssds
            .iter()
            .map(|ssd| (ssd.name.clone(), ssd.block_size))
            .collect();
        for (number, (name, _)) in ssds.iter().enumerate() {
            machine.handle.set_filter(name, Some(errors.filter(number)));
        }
        let arena = Arena::new(&mut machine.platform);
        let stories = Stories::new(&machine.configuration.mirrors, machine.configuration.executor.locks);
        let traffic = Traffic::new(fork(seed, "traffic"), &machine.configuration.tables);
        Self {
            machine,
            arena,
            media: Media::new(ssds.into_iter()),
            traffic,
            errors,
            random,
            pending: BTreeMap::new(),
            claims: BTreeMap::new(),
            completed: Vec::new(),
            waiting: Vec::new(),
            owners: Vec::new(),
            stories,
            sent: 0,
            fragments: BTreeMap::new(),
            vectors: BTreeSet::new(),
            last_progress: (0, 0),
            coverage: Coverage::default(),
        }
    }

    /// Sends `commands` commands and compares all that comes of them; what was met.
    ///
    /// # Panics
    /// At the first difference, with how to see it again.
    pub fn run(mut self, commands: u64) -> Coverage {
        self.coalesce();
        while self.sent < commands {
            let most = self.random.random_range(1..=256);
            let end = (self.sent + BATCH).min(commands);
            self.batch(end, most);
            self.resynchronise();
        }
        let coverage = std::mem::take(&mut self.coverage);
        self.finish();
        coverage
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

    /// Sends until `end` were sent, at most `most` at once, waits for all, and compares.
    fn batch(&mut self, end: u64, most: usize) {
        self.progress();
        while self.sent < end || !self.pending.is_empty() {
            if self.sent < end {
                let burst = self.random.random_range(1..=16);
                self.burst(burst.min(end - self.sent), most);
            }
            let pause = Duration::from_nanos(self.random.random_range(100..20_000));
            let deadline = self.machine.platform.now() + pause;
            if let Err(error) = self.machine.platform.wait(deadline) {
                self.fail(&error.to_string(), None);
            }
            self.poll();
            self.check_progress();
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
        let id = loop {
            let id: u16 = self.random.random();
            if !self.pending.contains_key(&(queue, id)) {
                break id;
            }
        };
        let entry = entry.with_command_id(id);
        let (asked, parts) = self.look_at(&entry);
        let token = self.media.tokens(claim.blocks);
        if entry.opcode() == opcode::WRITE && claim.blocks > 0 {
            let size = buffer.bytes / claim.blocks as usize;
            let data: Vec<u8> = (0..claim.blocks).flat_map(|block| content(token + block, size)).collect();
            self.arena.write(&buffer, &data);
        }
        if entry.opcode() == opcode::READ && !self.claims.values().any(|other| claim.overlaps(other)) {
            self.plant(&entry, asked.as_ref(), &parts);
        }
        self.claims.insert(self.sent, claim);
        self.machine.queues[queue].submit(entry).expect("room was seen");
        let pending = Pending { serial: self.sent, entry, asked, parts, buffer, claim, token };
        self.pending.insert((queue, id), pending);
        self.sent += 1;
    }

    fn poll(&mut self) {
        for queue in 0..self.machine.queues.len() {
            loop {
                match self.machine.queues[queue].poll() {
                    Ok(None) => break,
                    Ok(Some(completion)) => self.complete(queue, completion),
                    Err(error) => self.fail(&error.to_string(), None),
                }
            }
        }
    }

    fn complete(&mut self, queue: usize, completion: CompletionEntry) {
        self.progress();
        let client = self.machine.configuration.clients[queue];
        let Some(mut pending) = self.pending.remove(&(queue, completion.command_id())) else {
            self.fail(&format!("queue {}: a completion of no command: {completion:?}", client.queue), None);
        };
        self.vectors.extend(client.vector);
        let expected = match self.decide(client.queue, &pending) {
            Ok((parts, status)) => {
                pending.parts = parts;
                status
            }
            Err(what) => self.fail(&format!("status {:#06x}: {what}", completion.status()), Some(&pending)),
        };
        for cuts in &pending.parts {
            self.coverage.note(pending.entry.opcode(), cuts, expected);
        }
        if !is_same(completion.status(), expected) {
            let found = completion.status();
            self.fail(&format!("status {found:#06x}, expected {expected:#06x}"), Some(&pending));
        }
        if (completion.sq_id(), completion.result(), completion.reserved()) != (client.queue, 0, 0) {
            self.fail(&format!("queue {}: {completion:?}", client.queue), Some(&pending));
        }
        self.check_data(&pending);
        if let Err(what) = self.arena.release(std::mem::take(&mut pending.buffer)) {
            self.fail(&what, Some(&pending));
        }
        let route = |fragment: &Fragment| self.machine.configuration.route(fragment.path).expect("a path");
        for (number, cuts) in pending.parts.iter().enumerate() {
            let fragments = cuts.fragments.iter().map(|part| records::expected(part, route(part))).collect();
            self.waiting.push(Waiting::new(fragments, cuts.issued));
            self.owners.push((self.completed.len(), number));
        }
        if pending.parts.iter().all(|cuts| cuts.issued == Issued::All) {
            self.claims.remove(&pending.serial);
            for cuts in &pending.parts {
                cuts.fragments.iter().for_each(|fragment| self.take_effect(&pending, fragment));
            }
        }
        self.completed.push(pending);
    }

    /// The status field an SSD completes a fragment with.
    fn outcome(&self, fragment: &Fragment) -> u16 {
        let segments = match &fragment.segments {
            Err(DATA_TRANSFER_ERROR) => return DATA_TRANSFER_ERROR,
            Err(code) => return code | DNR,
            Ok(segments) => segments,
        };
        let route = self.machine.configuration.route(fragment.path).expect("a path");
        match self.errors.verdict(route.ssd, fragment.opcode, fragment.lba) {
            0 if segments.iter().any(|part| self.arena.is_hole(part.iova)) => DATA_TRANSFER_ERROR,
            verdict => verdict,
        }
    }

    /// Compares the buffer of a read: data where a fragment succeeded, untouched elsewhere.
    fn check_data(&self, pending: &Pending) {
        let holed = |part: &Fragment| match &part.segments {
            Ok(segments) => segments.iter().any(|part| self.arena.is_hole(part.iova)),
            Err(_) => true,
        };
        if pending.entry.opcode() != opcode::READ
            || pending.parts.iter().flat_map(|cuts| &cuts.fragments).any(holed)
        {
            return;
        }
        let mut expected = self.arena.blank(&pending.buffer);
        let size = pending.buffer.bytes / pending.claim.blocks as usize;
        let fragments = pending.parts.iter().flat_map(|cuts| &cuts.fragments);
        for fragment in fragments.filter(|part| self.outcome(part) == 0) {
            let ssd = self.machine.configuration.route(fragment.path).expect("a path").ssd;
            for block in 0..fragment.blocks {
                let at = (fragment.first + block) as usize * size;
                let token = self.media.token(ssd, fragment.lba + block);
                expected[at..at + size].copy_from_slice(&content(token, size));
            }
        }
        let found = self.arena.read(&pending.buffer);
        if let Some(at) = (0..found.len()).find(|&at| found[at] != expected[at]) {
            self.fail(&format!("byte {at:#x} of the data differs"), Some(pending));
        }
    }

    fn take_effect(&mut self, pending: &Pending, fragment: &Fragment) {
        if self.outcome(fragment) != 0 {
            return;
        }
        let ssd = self.machine.configuration.route(fragment.path).expect("a path").ssd;
        match fragment.opcode {
            opcode::WRITE => {
                self.media.write(ssd, fragment.lba, fragment.blocks, pending.token + fragment.first);
            }
            opcode::WRITE_ZEROES | opcode::DATASET_MANAGEMENT => {
                self.media.clear(ssd, fragment.lba, fragment.blocks);
            }
            _ => {}
        }
    }

    /// Compares what the SSDs received and hold, and host memory outside of buffers.
    fn settle(&mut self) {
        self.machine.handle.run_for_ns(SETTLE_NS).unwrap_or_else(|error| self.fail(&error.to_string(), None));
        self.poll();
        let received = self.take_records();
        let mut waiting = std::mem::take(&mut self.waiting);
        if let Err(what) = records::settle(&mut waiting, received) {
            self.fail(&self.name_plan(&what), None);
        }
        let completed = std::mem::take(&mut self.completed);
        for ((command, part), plan) in std::mem::take(&mut self.owners).into_iter().zip(&waiting) {
            let (pending, fragments) = (&completed[command], &completed[command].parts[part].fragments);
            self.count(fragments, plan);
            if plan.issued == Issued::Prefix {
                self.claims.remove(&pending.serial);
                let issued = plan.seen.iter().take_while(|&&seen| seen).count();
                fragments[..issued].iter().for_each(|fragment| self.take_effect(pending, fragment));
            }
        }
        let handle = self.machine.handle.clone();
        let checked = self.media.check_touched(&handle).and_then(|()| self.arena.check_free());
        checked.unwrap_or_else(|what| self.fail(&what, None));
        self.machine.assert_clean(|refusal| self.arena.is_hole(refusal.iova));
        for vector in std::mem::take(&mut self.vectors) {
            if !self.machine.card.take_interrupt(vector) {
                self.fail(&format!("vector {vector} was not raised"), None);
            }
        }
    }

    fn count(&mut self, fragments: &[Fragment], plan: &Waiting) {
        for (fragment, _) in fragments.iter().zip(&plan.seen).filter(|(_, &seen)| seen) {
            *self.fragments.entry(fragment.path).or_default() += 1;
        }
    }

    fn take_records(&self) -> Vec<records::Received> {
        let mut received = Vec::new();
        for (number, ssd) in self.machine.configuration.simulator.ssds.iter().enumerate() {
            let (commands, missed) = self.machine.handle.take_commands(&ssd.name);
            assert_eq!(missed, 0, "the record is too short");
            for record in &commands {
                match records::received(number, record) {
                    Ok(command) => received.push(command),
                    Err(what) => self.fail(&what, None),
                }
            }
        }
        received
    }

    /// Adds the command to a message that names a plan.
    fn name_plan(&self, what: &str) -> String {
        let number =
            what.strip_prefix("plan ").and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
        match number.and_then(|number| self.completed.get(self.owners.get(number)?.0)) {
            Some(pending) => format!("{what}\n{}", describe(pending)),
            None => what.to_owned(),
        }
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
            let issued = self.fragments.get(&number).copied().unwrap_or(0);
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
        let fragments: u64 = self.fragments.values().sum();
        for (register, expected) in [
            (registers::COMMANDS_FETCHED, self.sent),
            (registers::COMPLETIONS_WRITTEN, self.sent),
            (registers::FRAGMENTS_ISSUED, fragments),
            (registers::UNKNOWN_COMPLETIONS, 0),
            (registers::BAD_HEADS, 0),
            (registers::WRITE_ERRORS, 0),
        ] {
            let found = self.machine.card.register_block().read(register).expect("a register");
            if u64::from(found) != expected {
                self.fail(&format!("register {register:#x} is {found}, expected {expected}"), None);
            }
        }
        let counters = self.machine.handle.counters();
        println!(
            "seed {}: {} commands, {fragments} fragments, {} cycles",
            self.machine.configuration.seed, self.sent, counters.cycles_evaluated
        );
        self.machine.card.close(&mut self.machine.platform).expect("the card resets");
    }

    fn progress(&mut self) {
        self.last_progress = (self.machine.handle.counters().cycles_evaluated, self.machine.handle.now_ns());
    }

    fn check_progress(&mut self) {
        let (cycles, ns) = self.last_progress;
        let cycles = self.machine.handle.counters().cycles_evaluated - cycles;
        if cycles > HANG_CYCLES || self.machine.handle.now_ns() - ns > HANG_NS {
            let queues = self.machine.queue_states();
            let paths = self.machine.path_states();
            let oldest = self.pending.values().min_by_key(|pending| pending.serial);
            let count = self.pending.len();
            self.fail(&format!("no completion, {count} commands wait\n{queues:#?}\n{paths:#?}"), oldest);
        }
    }

    fn fail(&self, what: &str, pending: Option<&Pending>) -> ! {
        let seed = self.machine.configuration.seed;
        let mirrored = !self.machine.configuration.mirrors.is_empty();
        let test = if mirrored { "plans_against_model" } else { "rtl_against_model" };
        panic!(
            "{what}\n{}\nafter {} commands; replay {test} with VOLPLANE_SEED={seed} VOLPLANE_COMMANDS={}\n{}",
            pending.map(describe).unwrap_or_default(),
            self.sent,
            self.sent.next_multiple_of(BATCH),
            self.machine.configuration.summary()
        )
    }
}

fn describe(pending: &Pending) -> String {
    let mut text = format!("command {}: {:x?}", pending.serial, pending.entry);
    for cuts in &pending.parts {
        let first: Vec<&Fragment> = cuts.fragments.iter().take(8).collect();
        let count = cuts.fragments.len();
        let (issued, closing) = (cuts.issued, cuts.closing);
        text += &format!(
            "\n{issued:?} fragments issued of {count}, status without errors {closing:#06x}: {first:#x?}"
        );
    }
    text
}

/// The card and an SSD may each be the one to find that a list cannot be read; only the card adds DNR.
fn is_same(found: u16, expected: u16) -> bool {
    let transfer = found & !DNR == DATA_TRANSFER_ERROR && expected & !DNR == DATA_TRANSFER_ERROR;
    found == expected || transfer
}

/// Host memory as the model reads it.
fn memory(handle: &SimHandle) -> impl Fn(u64) -> Option<u64> + '_ {
    |at| {
        let mut word = [0; 8];
        let mapped = handle.memory().is_mapped(at, word.len());
        mapped.then(|| {
            handle.memory().read(Agent::Host, at, &mut word).ok().map(|()| u64::from_le_bytes(word))
        })?
    }
}
