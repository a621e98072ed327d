//! Exactly once across a reset: the card is reset in the middle of random traffic, again and again, and the driver brings
//! it up in the order that the brief demands. Each command was completed once before or is reported as lost once; nothing
//! arrives later anywhere; the card is as good as new.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::plan::{component_state, read_policy, RESTART_ALL};
use volplane_abi::{registers, submission_mode, CompletionEntry, PlanMasks};
use volplane_driver::{Bar, ExceptionRecord, Function};
use volplane_sim::{Commands, Fault, FaultKind, PlanEvent};
use volplane_tests::harness::ledger::{Command, Ledger, BLOCK, BLOCKS_MAX, COMMANDS_MAX};
use volplane_tests::harness::triple::{forgiving, Mirror, ALL, COPIES, DISK};
use volplane_tests::harness::{fork, from_environment, is_whole, plain, Machine};

/// Blocks of each disk that are used: few, so that writes overlap.
const USED: u64 = 24 * 8;
/// The disk without a plan.
const PLAIN: u32 = 0;
/// Commands in flight, at the most: what both rings hold.
const DEEP: usize = 2 * 63;
/// Resets of a machine, machines of a test, and how many of these run without more.
const LIVES: u64 = 6;
const MACHINES: u64 = 24;
const FEW: u64 = 2;
/// Longest that a zombie sleeps, and that a command takes on a card that is as good as new.
const ZOMBIE_NS: u64 = 2_000_000;
/// Longest that a reset takes: the tables are cleared, an entry a cycle.
const RESET_NS: u64 = 200_000;
/// Steps of traffic without an end of a command after which it is reset anyway.
const STILL: u32 = 200;

/// How the card is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reset {
    /// By its register: fragment identifiers go on with their next generation.
    Soft,
    /// By the function: nothing survives.
    Function,
}

/// What was met.
#[derive(Debug, Default)]
struct Met {
    sent: usize,
    lost: usize,
    /// Resets that found `DEEP` / 2 commands in flight.
    deep: u64,
    /// Plans that were the control path's.
    kept: usize,
    /// Writes that waited for the lock of their blocks.
    parked: usize,
    /// Commands that an SSD had put off.
    zombies: u64,
    /// Completions that the card had written and nobody had polled.
    unpolled: usize,
    /// Commands in the ring without a doorbell.
    unrung: usize,
}

impl Met {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.deep += other.deep;
        self.kept += other.kept;
        self.parked += other.parked;
        self.zombies += other.zombies;
        self.unpolled += other.unpolled;
        self.unrung += other.unrung;
    }

    /// Panics unless so many machines have met everything often.
    fn assert_enough(&self, machines: u64) {
        let each = machines as usize;
        let enough = self.lost >= 300 * each
            && self.sent >= 2 * self.lost
            && self.deep >= machines * LIVES
            && self.kept >= 8 * each
            && self.parked >= 30 * each
            && self.zombies >= 10 * machines
            && self.unpolled >= 30 * each
            && self.unrung >= 5 * each;
        assert!(enough, "{machines} machines have met only {self:?}");
    }
}

/// A machine, life after life.
struct Story {
    mirror: Mirror,
    random: ChaCha8Rng,
    ledger: Ledger,
    /// Copies that a write has missed.
    behind: u8,
    kept: usize,
    met: Met,
}

fn machine(seed: u64, random: &mut ChaCha8Rng) -> Machine {
    let mode = [submission_mode::DIRECT, submission_mode::FENCED][random.random_range(0..2)];
    let mut configuration = plain::configuration(seed, 128, mode);
    for ssd in &mut configuration.simulator.ssds {
        (ssd.latency_ns, ssd.jitter_ns) =
            [(0, 0), (1_000, 8_000), (3_000, 20_000)][random.random_range(0..3)];
    }
    let card = configuration.simulator.card.as_mut().expect("a card");
    card.record_plans = 1 << 16;
    Machine::start(configuration)
}

/// The mirrored disk, on a machine that has none, with drawn masks.
fn mirror(machine: Machine, random: &mut ChaCha8Rng) -> Mirror {
    let strict = PlanMasks::default().with_continuation(ALL & !0b010).with_log(ALL);
    let careful = forgiving().with_log_with_data(ALL);
    let write = [forgiving(), strict, careful][random.random_range(0..3)];
    let policy = [read_policy::PREFERRED, read_policy::ROUND_ROBIN][random.random_range(0..2)];
    Mirror::on(machine, policy, write, forgiving())
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut random = fork(seed, "resets");
        let machine = machine(seed, &mut random);
        let mut mirror = mirror(machine, &mut random);
        let ledger = Ledger::new(&mut mirror.machine.platform, BTreeMap::new(), 1);
        Self { mirror, random, ledger, behind: 0, kept: 0, met: Met::default() }
    }

    fn now_ns(&self) -> u64 {
        self.mirror.machine.handle.now_ns()
    }

    fn run_for(&self, ns: u64) {
        self.mirror.machine.handle.run_for_ns(ns).expect("the card works");
    }

    /// SSDs that err, are late, or forget.
    fn spoil(&mut self) {
        let random = &mut self.random;
        let late = FaultKind::Zombie { shortest_ns: ZOMBIE_NS / 8, longest_ns: ZOMBIE_NS };
        for ssd in 0..COPIES {
            let error = FaultKind::Error { status: 0x281, after_effect: random.random_bool(0.5) };
            let kinds = [
                (error, random.random_range(0..300)),
                (FaultKind::Delay { shortest_ns: 0, longest_ns: 60_000 }, random.random_range(0..600)),
                (FaultKind::Drop { after_effect: random.random_bool(0.5) }, random.random_range(0..20)),
                (late.clone(), random.random_range(0..100)),
            ];
            for (kind, of_4096) in kinds {
                let commands = Commands::all().with_chance(of_4096);
                self.mirror
                    .machine
                    .handle
                    .start_fault(&format!("nvme{ssd}"), Fault::new(kind).with_commands(commands));
            }
        }
    }

    /// Sends commands until there are so many or nothing ends any more.
    fn traffic(&mut self, wanted: usize) {
        let mut still = 0;
        while self.ledger.counts().0 < wanted && still < STILL {
            self.fill(wanted);
            self.mirror.machine.queues.iter_mut().for_each(|queue| queue.ring().expect("a doorbell"));
            let ns = self.random.random_range(50..2_000);
            self.run_for(ns);
            still = if self.poll() > 0 { 0 } else { still + 1 };
            self.control();
        }
    }

    /// Fills the rings, without a doorbell: with how many commands each.
    fn fill(&mut self, wanted: usize) -> [usize; 2] {
        let mut filled = [0; 2];
        for (queue, filled) in filled.iter_mut().enumerate() {
            while self.mirror.machine.queues[queue].free() > 0
                && self.mirror.machine.queues[queue].outstanding() < DEEP / 2
                && self.ledger.counts().0 < wanted
            {
                let disk = if self.random.random_bool(0.7) { DISK } else { PLAIN };
                let blocks = self.random.random_range(1..=BLOCKS_MAX);
                let lba = self.random.random_range(0..=USED - blocks);
                let (writes, id) = (self.random.random_bool(0.6), self.random.random());
                let Some(entry) = self.ledger.send((queue, id), writes, (disk, lba, blocks)) else {
                    continue;
                };
                self.mirror.machine.queues[queue].submit(entry).expect("room was seen");
                *filled += 1;
            }
        }
        filled
    }

    /// Takes the completions that there are: how many.
    fn poll(&mut self) -> usize {
        let mut count = 0;
        for (number, queue) in self.mirror.machine.queues.iter_mut().enumerate() {
            while let Some(completion) = queue.poll().expect("a sound queue") {
                self.ledger.complete((number, completion.command_id()), completion.status());
                count += 1;
            }
        }
        count
    }

    /// The control path ends some plans and keeps others.
    fn control(&mut self) {
        let records = self.mirror.machine.card.take_exceptions(16).expect("sound records");
        for record in records.iter().filter(|record| record.tail.held() == 1 || record.tail.owned() == 1) {
            self.answer(record);
        }
    }

    fn answer(&mut self, record: &ExceptionRecord) {
        let out = (self.mirror.states().0.iter().zip(0..))
            .filter(|(&state, _)| state == component_state::OUT)
            .fold(0, |bits, (_, copy)| bits | 1 << copy);
        if record.tail.held() == 1 && self.random.random_bool(0.7) {
            self.mirror.set_states(out, component_state::OUT, out);
            self.behind |= out;
        }
        if self.random.random_bool(0.6) {
            self.kept += 1;
            return;
        }
        let (plan, gives_back) = (record.handle(), self.random.random_bool(0.5));
        let Machine { card, platform, .. } = &mut self.mirror.machine;
        let answered = match record.tail.held() == 1 {
            true => card.release_plan(platform, plan),
            false if gives_back => card.resubmit_plan(platform, plan, RESTART_ALL),
            false => card.complete_plan(platform, plan, 0x06),
        };
        answered.expect("it is the control path's");
        self.behind |= out;
    }

    /// A life: traffic, a reset in the middle, and the way back.
    fn live(mut self, reset: Reset) -> Self {
        self.spoil();
        let wanted = self.random.random_range(DEEP..COMMANDS_MAX);
        self.traffic(wanted);
        // Once more full, if there is room: some of it rung, some not.
        let filled = self.fill(COMMANDS_MAX);
        for (queue, filled) in self.mirror.machine.queues.iter_mut().zip(filled) {
            match self.random.random_bool(0.7) {
                true => queue.ring().expect("a doorbell"),
                false => self.met.unrung += filled,
            }
        }
        let ns = self.random.random_range(0..6_000);
        self.run_for(ns);
        self.note();
        self.reset(reset);
        self.met.unpolled += self.poll();
        // The SSDs do not know yet, and go on.
        let ns = self.random.random_range(0..60_000);
        self.run_for(ns);
        assert_eq!(self.poll(), 0, "a completion after the reset");
        self.mirror.machine.reset_ssds();
        assert_eq!(self.poll(), 0, "a completion after the reset");
        let given = self.given();
        self.lose();
        let media = self.check_media();
        self.ledger.check_guards();
        self.mirror.machine.handle.stop_faults();
        self.come_back(reset, &given, media)
    }

    /// Fragments that the SSDs have been given in this life: path and identifier.
    fn given(&self) -> BTreeSet<(u8, u16)> {
        let of = |ssd: u32| {
            let (commands, missed) = self.mirror.machine.handle.take_commands(&format!("nvme{ssd}"));
            assert_eq!(missed, 0, "the record is too short");
            commands.into_iter().map(move |record| (ssd as u8, record.entry.command_id()))
        };
        (0..COPIES).flat_map(of).collect()
    }

    /// Notes what the reset is going to find.
    fn note(&mut self) {
        let (events, missed) = self.mirror.machine.handle.take_plan_events();
        assert_eq!(missed, 0, "the record is too short");
        let (mut slots, mut begun) = (BTreeMap::new(), BTreeSet::<(usize, u16)>::new());
        for record in events {
            match record.event {
                PlanEvent::Admitted { slot, queue, command_id } => {
                    slots.insert(slot, (usize::from(queue) - 1, command_id));
                }
                // Of the life before one may have been admitted and not begun.
                PlanEvent::Begun { slot, .. } => begun.extend(slots.get(&slot)),
                _ => {}
            }
        }
        let open: Vec<&Command> = self.ledger.open().collect();
        let has_lock = |command: &Command| command.token > 0 && begun.contains(&command.key);
        let admitted: BTreeSet<_> = slots.into_values().collect();
        let waits = |command: &&&Command| {
            let is_write = command.disk == DISK && command.token > 0 && admitted.contains(&command.key);
            let behind = |other: &&Command| has_lock(other) && other.overlaps(command);
            is_write && !begun.contains(&command.key) && open.iter().any(behind)
        };
        self.met.parked += open.iter().filter(waits).count();
        self.met.deep += u64::from(open.len() >= DEEP / 2);
        self.met.kept += std::mem::take(&mut self.kept);
        let zombies = self.mirror.machine.handle.fault_reports().into_iter();
        let zombies = zombies.filter(|report| report.stopped_ns.is_none());
        let zombies = zombies.filter(|report| matches!(report.fault.kind, FaultKind::Zombie { .. }));
        self.met.zombies += zombies.map(|report| report.strikes).sum::<u64>();
    }

    fn reset(&mut self, reset: Reset) {
        let before = self.now_ns();
        match reset {
            Reset::Soft => {
                let card = self.mirror.machine.card.function();
                card.write32(Bar::Bar0, registers::CONTROL.into(), registers::CONTROL_RESET)
                    .expect("a register");
            }
            Reset::Function => self.mirror.machine.handle.reset_card(),
        }
        while !self.mirror.machine.card.status().expect("a register").ready() {
            assert!(self.now_ns() < before + RESET_NS, "the card is not ready after {RESET_NS} ns");
            self.run_for(100);
        }
    }

    /// What the driver reports as lost is all that was not completed.
    fn lose(&mut self) {
        for (number, queue) in std::mem::take(&mut self.mirror.machine.queues).into_iter().enumerate() {
            let outstanding = queue.outstanding();
            let lost = queue.lost();
            assert_eq!(lost.len(), outstanding, "queue {number}");
            lost.into_iter().for_each(|id| self.ledger.lose((number, id)));
        }
        let open: Vec<&Command> = self.ledger.open().collect();
        assert!(open.is_empty(), "neither completed nor lost: {open:?}");
        let (sent, lost) = self.ledger.counts();
        (self.met.sent, self.met.lost) = (self.met.sent + sent, self.met.lost + lost);
    }

    /// The blocks of a disk that are used, as a copy has them.
    fn blocks(&self, disk: u32, copy: u32) -> Vec<Vec<u8>> {
        let block = |lba: u64| {
            let (ssd, at) = match disk {
                DISK => return self.mirror.media(copy, lba, 1),
                // Striped by 8 blocks.
                _ => (lba / 8 % 3, lba / 24 * 8 + lba % 8),
            };
            let mut found = vec![0; BLOCK];
            let handle = &self.mirror.machine.handle;
            handle.read_media(&format!("nvme{ssd}"), at * BLOCK as u64, &mut found).expect("media");
            found
        };
        (0..USED).map(block).collect()
    }

    fn media(&self) -> Vec<Vec<Vec<u8>>> {
        let copies = (0..COPIES).map(|copy| self.blocks(DISK, copy));
        copies.chain([self.blocks(PLAIN, 0)]).collect()
    }

    /// Every block of every copy holds what it may.
    fn check_media(&self) -> Vec<Vec<Vec<u8>>> {
        let media = self.media();
        for (copy, blocks) in media.iter().enumerate() {
            let disk = if copy < COPIES as usize { DISK } else { PLAIN };
            let complete = disk == PLAIN || self.behind >> copy & 1 == 0;
            for (lba, block) in blocks.iter().enumerate() {
                let checked = self.ledger.check_block(disk, lba as u64, block, complete);
                checked.unwrap_or_else(|what| panic!("copy {copy}: {what}"));
            }
        }
        media
    }

    /// The card comes up and is as good as new; nothing of before arrives.
    fn come_back(self, reset: Reset, given: &BTreeSet<(u8, u16)>, media: Vec<Vec<Vec<u8>>>) -> Self {
        let Self { mirror: old, mut random, ledger, met, .. } = self;
        let next_token = ledger.next_token();
        let untouched = ledger.reuse();
        let mut machine = old.machine.reopen_card();
        answer_late(&machine, given);
        machine.connect();
        let mut mirror = mirror(machine, &mut random);
        is_clean(&mut mirror.machine);
        let ledger = Ledger::new(&mut mirror.machine.platform, BTreeMap::new(), next_token);
        let mut story = Self { mirror, random, ledger, behind: 0, kept: 0, met };
        story.run_for(ZOMBIE_NS + ZOMBIE_NS / 8);
        assert!(story.media() == media, "blocks were written after the reset");
        untouched();
        assert_eq!(story.given(), BTreeSet::new(), "nobody has sent anything");
        story.overlap();
        let anew = story.given();
        let again = reset == Reset::Soft && !anew.is_disjoint(given);
        assert!(!again, "{:?} were identifiers before the reset", anew.intersection(given));
        let before = story.write_all();
        untouched();
        story.mirror.machine.assert_clean(|_| false);
        let next_token = story.ledger.next_token();
        story.ledger = Ledger::new(&mut story.mirror.machine.platform, before, next_token);
        story
    }

    /// Both rings full of writes that overlap, all of which are executed.
    fn overlap(&mut self) {
        for queue in 0..self.mirror.machine.queues.len() {
            while self.mirror.machine.queues[queue].free() > 0 {
                let (blocks, id) = (self.random.random_range(1..=BLOCKS_MAX), self.random.random());
                let lba = self.random.random_range(0..=16 - blocks);
                let Some(entry) = self.ledger.send((queue, id), true, (DISK, lba, blocks)) else { continue };
                self.mirror.machine.queues[queue].submit(entry).expect("room was seen");
            }
            self.mirror.machine.queues[queue].ring().expect("a doorbell");
        }
        self.finish();
    }

    /// Waits for all, which must succeed.
    fn finish(&mut self) {
        let deadline = self.now_ns() + ZOMBIE_NS;
        while self.ledger.open().next().is_some() {
            assert!(self.now_ns() < deadline, "{} commands are not completed", self.ledger.open().count());
            self.run_for(1_000);
            self.poll();
        }
        let failed = self.ledger.failed();
        assert!(failed.is_empty(), "on a card that is as good as new {failed:?}");
        assert_eq!(self.mirror.records(), []);
    }

    /// Writes all blocks once; all copies hold that. What they hold.
    fn write_all(&mut self) -> BTreeMap<(u32, u64), u64> {
        for (disk, lba) in
            [DISK, PLAIN].into_iter().flat_map(|disk| (0..USED).step_by(4).map(move |lba| (disk, lba)))
        {
            let entry = loop {
                let id = self.random.random();
                if let Some(entry) = self.ledger.send((0, id), true, (disk, lba, 4)) {
                    break entry;
                }
            };
            self.mirror.machine.queues[0].submit(entry).expect("room: one by one");
            self.mirror.machine.queues[0].ring().expect("a doorbell");
            self.finish();
        }
        let media = self.check_media();
        assert!(media[1] == media[0] && media[2] == media[0], "copies differ");
        self.ledger.check_guards();
        self.ledger.newest()
    }
}

/// Answers of before the reset come now: to the card they are unknown.
fn answer_late(machine: &Machine, given: &BTreeSet<(u8, u16)>) {
    let unknown = || machine.card.register_block().read(registers::UNKNOWN_COMPLETIONS).expect("a register");
    let before = unknown();
    for &(path, id) in given {
        let entry = CompletionEntry::default().with_command_id(id).with_sq_id(1).with_phase(1);
        machine.handle.write_window(u64::from(path) << machine.card.capabilities().window_shift, &entry.0);
    }
    machine.handle.run_for_ns(20_000).expect("the card works");
    assert_eq!(unknown() - before, given.len() as u32, "answers of before the reset");
}

/// No slot, no epoch, no queue, no path has anything left.
fn is_clean(machine: &mut Machine) {
    let fetched = machine.card.register_block().read(registers::COMMANDS_FETCHED).expect("a register");
    let epochs = machine.card.epochs(&mut machine.platform).expect("epochs");
    assert_eq!((fetched, epochs.oldest()), (0, epochs.current()));
    for (number, state) in machine.queue_states() {
        assert_eq!((state.outstanding(), state.stopped(), state.sq_tail()), (0, 0, 0), "queue {number}");
    }
    for (number, state) in machine.path_states() {
        assert_eq!((state.issued(), state.returned(), state.sq_tail()), (0, 0, 0), "path {number}");
    }
    let live = machine.live_plans();
    assert!(live.is_empty(), "slots with a plan: {live:?}");
}

fn run(first: u64, reset: Reset) {
    let (one, count) = (from_environment("VOLPLANE_SEED"), if is_whole() { MACHINES } else { FEW });
    let seeds = one.map_or(first..first + count, |seed| seed..seed + 1);
    let mut all = Met::default();
    for seed in seeds {
        println!("replay with VOLPLANE_SEED={seed}");
        let mut story = Story::new(seed);
        for _ in 0..LIVES {
            story = story.live(reset);
        }
        println!("seed {seed}, {reset:?}, {LIVES} resets: {:?}", story.met);
        all.add(&story.met);
    }
    if one.is_none() {
        all.assert_enough(count);
    }
}

#[test]
fn soft_resets() {
    run(1, Reset::Soft);
}

#[test]
fn function_resets() {
    run(1001, Reset::Function);
}
