//! Random commands and faults on a three-way mirror: every command is answered exactly once, no block that
//! is read is older than what its client was told, and the copies that the control path believes in
//! are equal. `VOLPLANE_SEED` runs one seed.
//!
//! The first copy never fails, so that no write does: what a failed write leaves behind is nobody's promise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use volplane_abi::opcode;
use volplane_abi::plan::reason;

use super::engine::Bounds;
use super::world::{World, BLOCKS};
use super::{ClientTag, ComponentState, Components, DiskStatus, MaskSet, PlanTemplate, ReadPolicy};

/// Commands of a run.
const COMMANDS: u64 = 3_000;
/// Steps in which everything is over, once faults have stopped.
const DRAIN_STEPS: u32 = 3_000;
const TIME_OUT: u32 = 60;

/// A client's command.
struct Command {
    serial: u64,
    code: u8,
    lba: u64,
    blocks: u64,
    since: u64,
}

/// A write that was acknowledged.
#[derive(Clone, Copy)]
struct Write {
    serial: u64,
    since: u64,
    until: u64,
}

/// What becomes of a command that an SSD has.
#[derive(Clone, Copy)]
struct Fate {
    at: u64,
    status: u16,
    executed: bool,
    /// It comes back no sooner than its path is fenced.
    lost: bool,
}

struct Run {
    world: World,
    random: ChaCha8Rng,
    now: u64,
    faults: bool,
    pending: BTreeMap<ClientTag, Command>,
    acknowledged: BTreeMap<u64, Vec<Write>>,
    fates: BTreeMap<u64, Fate>,
    /// Paths to be quiesced, and to come back.
    fences: VecDeque<(u64, u8)>,
    returns: VecDeque<(u64, u8)>,
    /// What the control path has made durable.
    believed: BTreeSet<usize>,
    serial: u64,
    resynchronising: bool,
    diverts: Vec<Range<u64>>,
    seen: BTreeMap<&'static str, u64>,
}

fn template() -> PlanTemplate {
    let all = Components(0b111);
    let masks = MaskSet { continuation: all, ..MaskSet::default() };
    let mut template = PlanTemplate {
        read: masks,
        write: masks,
        read_policy: ReadPolicy::RoundRobin,
        durably_out: Components(!all.0),
        ..PlanTemplate::single(0)
    };
    for number in 0..3 {
        let component = &mut template.components[number];
        (component.disk, component.state) = (number as u16, ComponentState::InSync);
        (component.time_out, component.retries) = (TIME_OUT, 1);
    }
    template
}

impl Run {
    fn new(seed: u64) -> Self {
        println!("VOLPLANE_SEED={seed} cargo test -p volplane --lib random_tests");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let limit = random.random_range(2..12);
        let bounds = Bounds { slots: 24, reserve: 2, per_client: 16, per_disk: 20, records: 4 };
        let mut world = World::new(3, 2, limit, bounds);
        world.engine.set_template(0, template()).expect("sound");
        Self {
            world,
            random,
            now: 0,
            faults: true,
            pending: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            fates: BTreeMap::new(),
            fences: VecDeque::new(),
            returns: VecDeque::new(),
            believed: (0..3).collect(),
            serial: 0,
            resynchronising: false,
            diverts: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn chance(&mut self, of_1000: u32) -> bool {
        self.random.random_range(0..1000) < of_1000
    }

    fn run(mut self) -> BTreeMap<&'static str, u64> {
        while self.serial < COMMANDS {
            self.step();
            if self.chance(400) && self.pending.len() < 40 {
                self.send();
            }
        }
        self.faults = false;
        let mut steps = 0;
        while !(self.pending.is_empty() && self.world.asked.is_empty()) {
            self.step();
            steps += 1;
            assert!(steps < DRAIN_STEPS, "{} commands hang", self.pending.len());
        }
        assert_eq!(self.world.engine.outstanding(), 0);
        self.check_copies();
        self.seen
    }

    fn step(&mut self) {
        self.now += 1;
        self.world.engine.advance(self.now);
        self.world.listen();
        self.judge_new();
        self.answer_due();
        self.fence();
        self.control();
        self.hear();
        if self.chance(20) {
            self.check_copies();
        }
    }

    fn send(&mut self) {
        self.serial += 1;
        let code = if self.chance(550) { opcode::WRITE } else { opcode::READ };
        let blocks = self.random.random_range(1..=8);
        let lba = self.random.random_range(0..=BLOCKS - blocks);
        let queue = self.random.random_range(1..4);
        let client = ClientTag { queue, command: self.serial as u16 };
        let command = Command { serial: self.serial, code, lba, blocks, since: self.now };
        self.pending.insert(client, command);
        self.world.submit(client, code, 0, lba, blocks as u16, self.serial);
    }

    /// Draws what becomes of each command that an SSD just got.
    fn judge_new(&mut self) {
        let new: Vec<(u64, u16)> = self
            .world
            .asked
            .iter()
            .filter(|asked| !self.fates.contains_key(&asked.id))
            .map(|asked| (asked.id, asked.fragment.device))
            .collect();
        for (id, device) in new {
            let at = self.now + self.random.random_range(1..12);
            let mut fate = Fate { at, status: 0, executed: true, lost: false };
            if self.faults && device >= 2 {
                match self.random.random_range(0..500) {
                    0 => fate = Fate { status: 0x4281, executed: false, ..fate },
                    1..=3 => fate = Fate { status: 0x0006, executed: false, ..fate },
                    4..=6 => fate = Fate { status: 0x0301, executed: false, ..fate },
                    // A zombie: executed after it was given up.
                    7 => fate.at += 2 * u64::from(TIME_OUT),
                    8 => fate.lost = true,
                    9 => fate = Fate { lost: true, executed: false, ..fate },
                    _ => {}
                }
            }
            self.fates.insert(id, fate);
        }
    }

    fn answer_due(&mut self) {
        let due = |run: &Self| {
            run.world.asked.iter().position(|asked| {
                run.fates.get(&asked.id).is_some_and(|fate| !fate.lost && fate.at <= run.now)
            })
        };
        while let Some(place) = due(self) {
            let id = self.world.asked[place].id;
            let fate = self.fates.remove(&id).expect("just found");
            if fate.executed {
                self.world.execute(place);
            }
            self.world.answer(place, fate.status);
            self.judge_new();
        }
        // What is never answered may be executed all the same.
        let silent = self.world.asked.iter().position(|asked| {
            self.fates.get(&asked.id).is_some_and(|fate| fate.lost && fate.executed && fate.at == self.now)
        });
        if let Some(place) = silent {
            self.world.execute(place);
        }
    }

    /// The control path deletes the queue some time after it was asked to, and makes a new one later.
    fn fence(&mut self) {
        for path in std::mem::take(&mut self.world.fences) {
            self.count("fences");
            let delay = self.random.random_range(0..200);
            self.fences.push_back((self.now + delay, path));
        }
        if self.fences.front().is_some_and(|fence| fence.0 <= self.now) {
            let (_, path) = self.fences.pop_front().expect("there is one");
            let fates = &mut self.fates;
            self.world.asked.retain(|asked| {
                let lost = asked.path == path;
                if lost {
                    fates.remove(&asked.id);
                }
                !lost
            });
            self.world.engine.path_quiesced(path);
            self.world.listen();
            let delay = self.random.random_range(0..100);
            self.returns.push_back((self.now + delay, path));
        }
        if self.returns.front().is_some_and(|back| back.0 <= self.now) {
            let (_, path) = self.returns.pop_front().expect("there is one");
            self.world.engine.path_up(path);
            self.world.listen();
        }
    }

    fn control(&mut self) {
        if self.faults && self.chance(8) {
            let plans = self.world.engine.plans_of(0);
            if !plans.is_empty() {
                let handle = plans[self.random.random_range(0..plans.len())];
                let _ = self.world.engine.take_over(handle);
            }
        }
        if self.faults && self.chance(4) && self.diverts.len() < 2 {
            let first = self.random.random_range(0..56);
            self.diverts.push(first..first + 8);
            self.world.divert(&self.diverts);
        } else if self.chance(8) && self.diverts.pop().is_some() {
            self.world.divert(&self.diverts);
        }
        if self.chance(60) || !self.faults {
            self.handle_record();
        }
        if !self.resynchronising && self.believed.len() < 3 && self.chance(5) {
            self.world.engine.set_status(0, DiskStatus::Quiescent).expect("it is there");
            self.resynchronising = true;
        }
        if self.resynchronising && self.world.engine.plans_of(0).is_empty() && self.world.asked.is_empty() {
            self.resynchronise();
        }
        self.world.listen();
    }

    fn handle_record(&mut self) {
        let Some(record) = self.world.engine.get_plan() else { return };
        for name in record.reason_names() {
            self.count(name);
        }
        if record.held.is_some() {
            if record.reasons & reason::MISSED_WRITE != 0 {
                let out = self.world.engine.template(0).in_state(ComponentState::Out);
                for component in out.numbers() {
                    self.believed.remove(&component);
                    self.world.engine.confirm_out(0, component).expect("it is out");
                }
            }
            self.world.engine.release(record.handle).expect("it is held");
        } else if record.owned {
            let template = self.world.engine.template(0);
            let reads = record.entry.opcode() == opcode::READ;
            let restart = if reads { Components::NONE } else { template.writable() };
            self.world.engine.resubmit(record.handle, restart).expect("it is ours");
        }
    }

    /// Brings copies that are out up to date while nothing is under way, and lets them in again.
    fn resynchronise(&mut self) {
        let mut template = self.world.engine.template(0);
        for component in template.in_state(ComponentState::Out).and(template.durably_out).numbers() {
            for column in 0..2 {
                for lba in 1000..1032 {
                    let source = self.world.media.get(&(column, lba)).copied().unwrap_or_default();
                    let device = 2 * component as u16 + column;
                    self.world.media.insert((device, lba), source);
                }
            }
            template.components[component].state = ComponentState::InSync;
            template.durably_out = template.durably_out.without(Components::one(component));
            self.believed.insert(component);
        }
        self.world.engine.set_template(0, template).expect("sound");
        self.world.divert(&self.diverts);
        self.world.engine.set_status(0, DiskStatus::Enabled).expect("it is there");
        self.resynchronising = false;
        self.count("resynchronised");
    }

    /// Takes the answers to clients.
    fn hear(&mut self) {
        for (client, status) in std::mem::take(&mut self.world.completed) {
            let command = self.pending.remove(&client).expect("one answer for each command");
            assert_eq!(status, 0, "command {}", command.serial);
            for block in 0..command.blocks {
                if command.code == opcode::WRITE {
                    let write = Write { serial: command.serial, since: command.since, until: self.now };
                    self.acknowledged.entry(command.lba + block).or_default().push(write);
                } else {
                    let content = self.world.read[&(command.serial, block)];
                    self.check_age(command.lba + block, content, command.since, "read");
                    self.count("blocks read");
                }
            }
        }
    }

    /// `content` of `block`, as it was found after `since`, is not older than what clients were told.
    fn check_age(&self, block: u64, content: u64, since: u64, how: &str) {
        let none = Vec::new();
        let writes = self.acknowledged.get(&block).unwrap_or(&none);
        let until = match writes.iter().find(|write| write.serial == content) {
            Some(told) => told.until,
            None if content == 0 => 0,
            // One that nobody was told of is no older than any.
            None => return,
        };
        if let Some(newer) = writes.iter().find(|write| write.since > until && write.until < since) {
            panic!("{how}: block {block} holds {content}, write {} was acknowledged before", newer.serial);
        }
    }

    /// As after a kill and restart: whatever copy the control path believes in, a block that is not being
    /// written holds what clients were told, and the same on all of them.
    fn check_copies(&self) {
        for block in 0..BLOCKS {
            let written = |command: &Command| {
                command.code == opcode::WRITE && (command.lba..command.lba + command.blocks).contains(&block)
            };
            if self.pending.values().any(written) {
                continue;
            }
            let (unit, within) = (block / 8, block % 8);
            let lba = 1000 + unit / 2 * 8 + within;
            let on = |copy: usize| {
                let device = 2 * copy as u16 + (unit % 2) as u16;
                self.world.media.get(&(device, lba)).copied().unwrap_or_default()
            };
            for &copy in &self.believed {
                self.check_age(block, on(copy), self.now, "after a kill");
                assert_eq!(on(copy), on(0), "block {block}: copy {copy} differs");
            }
        }
    }
}

#[test]
fn exactly_once_never_stale_never_apart() {
    let seeds = match std::env::var("VOLPLANE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (1..=12).collect::<Vec<u64>>(),
    };
    let whole = seeds.len() > 1;
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in seeds {
        for (what, count) in Run::new(seed).run() {
            *seen.entry(what).or_default() += count;
        }
    }
    println!("{seen:?}");
    let wanted = ["fences", "time-out", "missed write", "take-over", "divert range", "resynchronised"];
    for what in wanted {
        assert!(!whole || seen.get(what).is_some_and(|&count| count > 10), "{what}: {:?}", seen.get(what));
    }
}
