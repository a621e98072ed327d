//! What the card needs for what is rare: a fragment that comes back with an error.

use volplane_abi::plan::read_policy;
use volplane_abi::{opcode, registers, submission_mode};
use volplane_driver::{Bar, Function, Platform, PAGE};
use volplane_sim::{Agent, BusAction, BusRecord, Fault, FaultKind};

use super::figure::{Direction, Figure};
use crate::harness::triple::{Mirror, DISK};
use crate::harness::{plain, Machine};

/// Commands of which the longest time counts.
const COMMANDS: u64 = 16;
/// Goal of both figures: cycles from the completion in BAR2 to the first beat of what follows.
const GOAL: f64 = 64.0;
/// Nanoseconds of a card cycle in the simulator's records.
const CYCLE_NS: u64 = 4;
/// Bus records that are kept.
const RECORDS: usize = 1 << 12;

/// The figures.
pub fn figures() -> Vec<Figure> {
    [("retry_cycles", retry()), ("exception_cycles", exception())]
        .map(|(name, cycles)| Figure::new(name, cycles as f64, "cycles", Direction::Lower).with_goal(GOAL))
        .into()
}

/// From a path error to the entry in the queue of the other path: the most of a few reads, one at a time.
fn retry() -> u64 {
    let mut configuration = plain::two_paths();
    configuration.simulator = configuration.simulator.with_bus_record(RECORDS);
    let mut machine = Machine::start(configuration);
    let fault = Fault::new(FaultKind::Error { status: 0x301, after_effect: false });
    machine.handle.start_fault("nvme0", fault);
    let ring = machine.configuration.tables.paths[&plain::OTHER_PATH].sq_base();
    let buffer = machine.platform.allocate(PAGE).expect("memory");
    let one = |_| {
        machine.handle.take_bus_record();
        let read = plain::command(opcode::READ, 0, 0, 8, &buffer);
        assert_eq!(machine.execute(0, read), 0);
        after_completion(&machine, ring..ring + 64 * 64)
    };
    (0..COMMANDS).map(one).max().expect("a command")
}

/// From an error to the record of it: the most of a few reads of a mirror, one at a time.
fn exception() -> u64 {
    let mut configuration = plain::configuration(1, 128, submission_mode::DIRECT);
    configuration.simulator = configuration.simulator.with_bus_record(RECORDS);
    let mut mirror =
        Mirror::start_on(configuration, read_policy::PREFERRED, Default::default(), Default::default());
    mirror.fail(0, &[opcode::READ], 0x4281);
    let card = mirror.machine.card.function().clone();
    let half = |register: u32| u64::from(card.read32(Bar::Bar0, register.into()).expect("a register"));
    let ring = half(registers::EXCEPTION_BASE_LOW) | half(registers::EXCEPTION_BASE_HIGH) << 32;
    // Nothing is forgiven: each read becomes the control path's.
    let one = |number| {
        mirror.machine.handle.take_bus_record();
        let buffer = mirror.machine.platform.allocate(PAGE).expect("memory");
        let read = plain::command(opcode::READ, DISK, 0, 8, &buffer);
        mirror.machine.queues[0].submit(read.with_command_id(number as u16)).expect("room");
        mirror.machine.queues[0].ring().expect("a doorbell");
        let record = mirror.one_record();
        let cycles = after_completion(&mirror.machine, ring..ring + 256 * 256);
        let machine = &mut mirror.machine;
        machine.card.complete_plan(&mut machine.platform, record.handle(), 6).expect("it is owned");
        assert_eq!(machine.completion(0).status(), 6);
        cycles
    };
    (0..COMMANDS).map(one).max().expect("a command")
}

/// Cycles from the first completion in BAR2 to the card's first write into a ring.
fn after_completion(machine: &Machine, ring: std::ops::Range<u64>) -> u64 {
    let (records, missed) = machine.handle.take_bus_record();
    assert_eq!(missed, 0);
    let mut rest = records.iter();
    let returned = rest.find(|record| record.action == BusAction::Window).expect("a completion").at_ns;
    let written = |record: &&BusRecord| {
        record.agent == Agent::Card && record.action == BusAction::Write && ring.contains(&record.iova)
    };
    (rest.find(written).expect("what follows").at_ns - returned) / CYCLE_NS
}
