//! Quotas of plan slots: plans that the control path holds keep neither other disks nor its own commands from the card.

use std::collections::BTreeSet;

use volplane_abi::plan::read_policy;
use volplane_abi::tables::table;
use volplane_abi::{
    opcode, submission_mode, DivertEntry, PlanEntry, QuotaEntry, SubmissionEntry, RESERVE_SHIFT,
};
use volplane_driver::{DmaMemory, ExceptionRecord, Platform, QueueSlots, PAGE};
use volplane_tests::harness::plain::{self, Bystander};
use volplane_tests::harness::triple::{forgiving, Mirror, DISK, PLAN};
use volplane_tests::harness::Configuration;

/// Queue, by its place in the configuration, whose commands the control path gets; and one of others.
const DIVERTED: usize = 0;
const OTHER: usize = 1;
/// Entries of the first one's rings.
const ENTRIES: u16 = 2048;
/// The status that the control path gives.
const STATUS: u16 = 0x4281;

fn configuration(slots: u16) -> Configuration {
    let mut configuration = plain::configuration(1, 128, submission_mode::DIRECT);
    configuration.clients[DIVERTED].entries = ENTRIES;
    configuration.clients[DIVERTED].slots = slots;
    configuration
}

/// A mirrored disk that is diverted, whole.
struct Rig {
    mirror: Mirror,
    buffer: DmaMemory,
    /// Plans that the control path has, oldest first.
    held: Vec<ExceptionRecord>,
    sent: u16,
    completed: BTreeSet<u16>,
}

impl Rig {
    fn start(slots: u16) -> Self {
        let mut mirror =
            Mirror::start_on(configuration(slots), read_policy::PREFERRED, forgiving(), forgiving());
        let range = DivertEntry::default().with_last((1 << 48) - 1).with_valid(1);
        mirror.write(table::DIVERT, 9, &range.0);
        let machine = &mut mirror.machine;
        let plan: PlanEntry =
            machine.card.table_record(&mut machine.platform, table::PLAN, PLAN).expect("the template");
        mirror.write(table::PLAN, PLAN, &plan.with_first_divert(9).with_diverts(1).0);
        let buffer = mirror.machine.platform.allocate(PAGE).expect("memory");
        Self { mirror, buffer, held: Vec::new(), sent: 0, completed: BTreeSet::new() }
    }

    fn command(&self) -> SubmissionEntry {
        plain::command(opcode::READ, DISK, 8, 8, &self.buffer)
    }

    fn send(&mut self, count: u16) {
        for _ in 0..count {
            let entry = self.command().with_command_id(self.sent);
            self.mirror.machine.queues[DIVERTED].submit(entry).expect("room");
            self.sent += 1;
        }
        self.mirror.machine.queues[DIVERTED].ring().expect("a doorbell");
    }

    /// Lets the card work until it has handed up what it can; completions are taken, each once.
    fn settle(&mut self) {
        loop {
            self.mirror.machine.handle.run_for_ns(50_000).expect("the card works");
            let records = self.mirror.machine.card.take_exceptions(64).expect("sound records");
            while let Some(completion) = self.mirror.machine.queues[DIVERTED].poll().expect("a sound queue") {
                assert_eq!(completion.status(), STATUS);
                assert!(self.completed.insert(completion.command_id()), "{completion:?} twice");
            }
            self.mirror.machine.queues[DIVERTED].ring().expect("a doorbell");
            if records.is_empty() {
                return;
            }
            self.held.extend(records);
        }
    }

    /// The control path ends the oldest plans that it has.
    fn end(&mut self, count: usize) {
        let machine = &mut self.mirror.machine;
        for record in self.held.drain(..count) {
            machine.card.complete_plan(&mut machine.platform, record.handle(), STATUS).expect("it is owned");
        }
    }

    /// Every command ends once, and never does the control path have more plans than `most`.
    fn drain(&mut self, most: usize) {
        while self.completed.len() < usize::from(self.sent) {
            assert!(!self.held.is_empty(), "{} of {} completed", self.completed.len(), self.sent);
            self.end(self.held.len().min(7));
            self.settle();
            assert!(self.held.len() <= most, "{} held", self.held.len());
        }
        let state = self.mirror.machine.queue_states()[&1];
        assert_eq!((state.outstanding(), state.sq_head()), (0, self.sent % ENTRIES));
        self.mirror.machine.assert_clean(|_| false);
    }
}

/// What a disk or a queue may hold it holds; its other commands wait, and nobody else.
fn stays_within(of_queue: u16, of_disk: u16) {
    let quota = usize::from(if of_queue > 0 { of_queue } else { of_disk });
    let mut rig = Rig::start(of_queue);
    rig.mirror.write(table::QUOTA, DISK, &QuotaEntry::default().with_slots(of_disk).0);
    let mut bystander = Bystander::new(&mut rig.mirror.machine, OTHER, 0);
    rig.send(3 * quota as u16 + 5);
    rig.settle();
    assert_eq!((rig.held.len(), rig.completed.len()), (quota, 0));
    let state = rig.mirror.machine.queue_states()[&1];
    assert_eq!(usize::from(state.sq_head()), quota, "what waits is still in the ring");
    assert_eq!(usize::from(state.outstanding()), quota);
    for _ in 0..20 {
        bystander.round(&mut rig.mirror.machine);
    }
    let before = rig.mirror.machine.handle.counters().cycles_evaluated;
    rig.mirror.machine.handle.run_for_ns(1_000_000).expect("the card works");
    let evaluated = rig.mirror.machine.handle.counters().cycles_evaluated - before;
    assert!(evaluated < 5_000, "a card where all wait is idle, but for {evaluated} of 250,000 cycles");
    rig.drain(quota);
}

#[test]
fn a_disk_stays_within_its_quota() {
    stays_within(0, 40);
    stays_within(0, 1);
}

#[test]
fn a_queue_stays_within_its_quota() {
    stays_within(33, 0);
    stays_within(2, 300);
}

/// Plans fill all slots but those in reserve: clients wait, the control path's own queue does not.
#[test]
fn the_reserve_is_the_control_paths() {
    let mut rig = Rig::start(0);
    let slots = rig.mirror.machine.card.capabilities().slots as usize;
    let reserved = slots >> RESERVE_SHIFT;
    rig.send(slots as u16 + 100);
    rig.settle();
    assert_eq!(rig.held.len(), slots - reserved);
    let other = plain::command(opcode::READ, 0, 8, 8, &rig.buffer);
    rig.mirror.machine.queues[OTHER].submit(other).expect("room");
    rig.mirror.machine.queues[OTHER].ring().expect("a doorbell");
    rig.settle();
    assert_eq!(rig.mirror.machine.queues[OTHER].poll().expect("a sound queue"), None);
    let machine = &mut rig.mirror.machine;
    let own = QueueSlots { most: 0, reserve: true };
    let own = machine.card.create_queue_within(&mut machine.platform, 9, 16, None, 0, own).expect("a queue");
    machine.queues.push(own);
    for lba in 0..50 {
        let entry = plain::command(opcode::READ, 0, 8 * lba, 8, &rig.buffer).with_command_id(lba as u16);
        assert_eq!(rig.mirror.machine.execute(2, entry), 0);
    }
    // Each that waits gets a slot in turn.
    rig.end(2);
    rig.settle();
    assert_eq!(rig.mirror.machine.queues[OTHER].poll().expect("a sound queue").map(|c| c.status()), Some(0));
    rig.drain(slots - reserved);
}

/// A queue that waits for another's plans is deleted, and one of its number begins anew.
#[test]
fn a_queue_that_waits_begins_anew() {
    let mut rig = Rig::start(0);
    rig.mirror.write(table::QUOTA, DISK, &QuotaEntry::default().with_slots(8).0);
    for id in 0..8 {
        let entry = rig.command().with_command_id(id);
        rig.mirror.machine.queues[OTHER].submit(entry).expect("room");
    }
    rig.mirror.machine.queues[OTHER].ring().expect("a doorbell");
    rig.settle();
    rig.send(100);
    rig.settle();
    assert_eq!((rig.held.len(), rig.mirror.machine.queue_states()[&1].outstanding()), (8, 0));
    let machine = &mut rig.mirror.machine;
    let queue = machine.queues.remove(DIVERTED);
    let limit = std::time::Duration::from_millis(1);
    machine.card.delete_queue(&mut machine.platform, queue, limit).expect("nothing is outstanding");
    let queue = machine.card.create_queue(&mut machine.platform, 1, 64, None, 0).expect("the number is free");
    machine.queues.insert(DIVERTED, queue);
    rig.sent = 0;
    rig.send(30);
    rig.settle();
    assert_eq!((rig.held.len(), rig.mirror.machine.queue_states()[&1].outstanding()), (8, 0));
    rig.drain(8);
    assert_eq!(rig.completed.len(), 30);
    let others = std::iter::from_fn(|| rig.mirror.machine.queues[OTHER].poll().expect("a sound queue"));
    assert_eq!(others.count(), 8);
}
