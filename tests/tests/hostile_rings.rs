//! Clients that break the rules: they get a status, or their queue stops, and nobody else notices.

use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use volplane::software;
use volplane_abi::status::{DATA_TRANSFER_ERROR, DNR, INVALID_NAMESPACE};
use volplane_abi::tables::table;
use volplane_abi::{opcode, registers, submission_mode, QueueEntry, SubmissionEntry};
use volplane_driver::{Platform, PAGE};
use volplane_sim::{Agent, SimHandle};
use volplane_tests::harness::plain::{self, Bystander};
use volplane_tests::harness::raw_queue::RawQueue;
use volplane_tests::harness::{fork, from_environment, Machine};

/// A queue that no configuration uses.
const HOSTILE: u16 = 9;
/// Longest time in which a queue stops, or its commands end.
const LIMIT_NS: u64 = 1_000_000;

fn seed() -> u64 {
    let seed = from_environment("VOLPLANE_SEED").unwrap_or(1);
    println!("replay with VOLPLANE_SEED={seed}");
    seed
}

fn machine() -> Machine {
    Machine::start(plain::configuration(seed(), 128, submission_mode::FENCED))
}

fn stopped(machine: &mut Machine, number: u16) -> bool {
    machine.card.queue_state(&mut machine.platform, number).expect("a state").stopped() == 1
}

/// Takes `count` completions, in time.
fn completions(machine: &mut Machine, queue: &mut RawQueue, count: usize) -> Vec<(u16, u16)> {
    let deadline = machine.handle.now_ns() + LIMIT_NS;
    let mut found = Vec::new();
    while found.len() < count {
        match queue.pop() {
            Some(entry) => found.push((entry.command_id(), entry.status())),
            None => {
                let now = machine.platform.now();
                assert!(machine.handle.now_ns() < deadline, "{} completions of {count}", found.len());
                machine.platform.wait(now + Duration::from_micros(10)).expect("the card goes on");
            }
        }
    }
    found
}

#[test]
fn doorbells_beyond_the_ring_stop_their_queue() {
    let mut machine = machine();
    let mut bystander = Bystander::new(&mut machine, 0, 0);
    for (entries, value, head) in [
        (8, 8, false),
        (8, 0xFFFF, false),
        (8, 9, true),
        (300, 300, false),
        (300, 4095, true),
        (4096, 4096, false),
    ] {
        let mut queue = RawQueue::start(&mut machine, HOSTILE, entries);
        queue.push(&SubmissionEntry::default().with_namespace_id(77).with_command_id(5).0);
        queue.ring(&machine, 1);
        assert_eq!(completions(&mut machine, &mut queue, 1), [(5, INVALID_NAMESPACE | DNR)]);
        assert!(!stopped(&mut machine, HOSTILE));
        if head {
            queue.ring_head(&machine, value);
        } else {
            queue.ring(&machine, value);
        }
        bystander.round(&mut machine);
        assert!(stopped(&mut machine, HOSTILE), "{value} in a ring of {entries}");
        queue.push(&SubmissionEntry::default().0);
        queue.ring(&machine, 2);
        machine.handle.run_for_ns(LIMIT_NS).expect("the card goes on");
        assert_eq!(queue.pop(), None, "a stopped queue executes nothing");
        bystander.round(&mut machine);
    }
    // Started anew, the queue is as good as any.
    let mut queue = RawQueue::start(&mut machine, HOSTILE, 8);
    queue.push(&SubmissionEntry::default().with_namespace_id(77).with_command_id(6).0);
    queue.ring(&machine, 1);
    assert_eq!(completions(&mut machine, &mut queue, 1), [(6, INVALID_NAMESPACE | DNR)]);
    machine.assert_clean(|_| false);
}

#[test]
fn doorbells_of_queues_that_are_not_there_are_ignored() {
    let mut machine = machine();
    let mut bystander = Bystander::new(&mut machine, 0, 0);
    let queue = RawQueue::start(&mut machine, HOSTILE, 8);
    let off = QueueEntry::default();
    machine.card.table_write(&mut machine.platform, table::QUEUE, HOSTILE.into(), &off.0).expect("disabled");
    for value in [0, 1, 7, 8, 0xFFFF] {
        queue.ring(&machine, value);
        queue.ring_head(&machine, value);
        bystander.round(&mut machine);
    }
    machine.assert_clean(|_| false);
}

#[test]
fn an_unmapped_ring_stops_its_queue() {
    let mut machine = machine();
    let mut bystander = Bystander::new(&mut machine, 0, 0);
    let mut queue = RawQueue::start(&mut machine, HOSTILE, 16);
    let ring = queue.sq.take().expect("a ring").iova().0;
    queue.ring(&machine, 3);
    for _ in 0..5 {
        bystander.round(&mut machine);
    }
    assert!(stopped(&mut machine, HOSTILE));
    let state = machine.card.queue_state(&mut machine.platform, HOSTILE).expect("a state");
    assert_eq!(state.outstanding(), 0, "nothing was fetched");
    assert_eq!(queue.pop(), None);
    let in_ring = |iova: u64| (ring..ring + PAGE as u64).contains(&iova);
    machine.assert_clean(|refusal| refusal.agent == Agent::Card && in_ring(refusal.iova));
    assert_ne!(machine.card.register_block().read(registers::READ_ERRORS).expect("a register"), 0);
}

#[test]
fn an_unmapped_completion_ring_harms_its_queue_alone() {
    let mut machine = machine();
    let mut bystander = Bystander::new(&mut machine, 0, 0);
    let mut queue = RawQueue::start(&mut machine, HOSTILE, 16);
    let gone = machine.platform.allocate(PAGE).expect("memory");
    let ring = std::mem::replace(&mut queue.cq, gone).iova().0;
    for id in 0..10 {
        queue.push(&SubmissionEntry::default().with_namespace_id(77).with_command_id(id).0);
    }
    queue.ring(&machine, 10);
    for _ in 0..5 {
        bystander.round(&mut machine);
    }
    let in_ring = |iova: u64| (ring..ring + PAGE as u64).contains(&iova);
    machine.assert_clean(|refusal| refusal.agent == Agent::Card && in_ring(refusal.iova));
    assert_eq!(machine.card.register_block().read(registers::WRITE_ERRORS).expect("a register"), 10);
}

#[test]
fn a_client_that_reads_no_completions_waits_alone() {
    let mut machine = machine();
    let mut bystander = Bystander::new(&mut machine, 0, 0);
    let buffer = machine.platform.allocate(PAGE).expect("memory");
    let mut queue = RawQueue::start(&mut machine, HOSTILE, 8);
    let push = |queue: &mut RawQueue, id| {
        queue.push(&plain::command(opcode::READ, 1, id, 1, &buffer).with_command_id(id as u16).0);
    };
    (0..7).for_each(|id| push(&mut queue, id));
    queue.ring(&machine, queue.tail.into());
    for _ in 0..5 {
        bystander.round(&mut machine);
    }
    // The submission ring is free again, and the completion ring is full.
    (7..14).for_each(|id| push(&mut queue, id));
    queue.ring(&machine, queue.tail.into());
    for _ in 0..20 {
        bystander.round(&mut machine);
    }
    let state = machine.card.queue_state(&mut machine.platform, HOSTILE).expect("a state");
    assert_eq!(
        (state.stopped(), state.outstanding(), state.cq_tail(), state.sq_head()),
        (0, 0, 7, 7),
        "{state:?}"
    );
    let mut ids: Vec<u16> = completions(&mut machine, &mut queue, 7).iter().map(|found| found.0).collect();
    assert_eq!(queue.pop(), None, "no completion without room");
    for _ in 0..7 {
        queue.ring_head(&machine, queue.head.into());
        ids.extend(completions(&mut machine, &mut queue, 1).iter().map(|found| found.0));
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..14).collect::<Vec<u16>>(), "every command once");
    machine.assert_clean(|_| false);
}

#[test]
fn every_queue_goes_on_when_its_completion_ring_has_room() {
    let mut machine = machine();
    let mut random = fork(seed(), "room");
    // No client of the configuration is used: these queues take their numbers.
    for number in 1..=31 {
        let mut queue = RawQueue::start(&mut machine, number, 4);
        for round in 0..6 {
            // Three commands fill the completion ring; the fourth, in their places, waits for room.
            for id in [0, 1, 2] {
                queue.push(&SubmissionEntry::default().with_namespace_id(77).with_command_id(id).0);
            }
            queue.ring(&machine, queue.tail.into());
            let mut found = completions(&mut machine, &mut queue, 3);
            queue.push(&SubmissionEntry::default().with_namespace_id(77).with_command_id(3).0);
            queue.ring(&machine, queue.tail.into());
            machine.handle.run_for_ns(2_000 + 4 * random.random_range(0..16)).expect("the card goes on");
            assert_eq!(queue.pop(), None, "no completion without room");
            queue.ring_head(&machine, queue.head.into());
            found.extend(completions(&mut machine, &mut queue, 1));
            queue.ring_head(&machine, queue.head.into());
            let mut ids: Vec<u16> = found.iter().map(|found| found.0).collect();
            ids.sort_unstable();
            assert_eq!(ids, [0, 1, 2, 3], "queue {number}, round {round}");
        }
    }
    machine.assert_clean(|_| false);
}

#[test]
fn queues_that_wait_for_room_together_all_go_on() {
    let mut machine = machine();
    let mut random = fork(seed(), "room for all");
    let mut queues: Vec<RawQueue> = (1..=31).map(|number| RawQueue::start(&mut machine, number, 4)).collect();
    let send = |machine: &Machine, queue: &mut RawQueue, ids: &[u16]| {
        for &id in ids {
            queue.push(&SubmissionEntry::default().with_namespace_id(77).with_command_id(id).0);
        }
        queue.ring(machine, queue.tail.into());
    };
    for round in 0..4 {
        // Three commands fill the completion ring; the fourth waits for room.
        queues.iter_mut().for_each(|queue| send(&machine, queue, &[0, 1, 2]));
        for queue in &mut queues {
            completions(&mut machine, queue, 3);
            send(&machine, queue, &[3]);
        }
        machine.handle.run_for_ns(20_000).expect("the card goes on");
        queues.shuffle(&mut random);
        for queue in &mut queues {
            assert_eq!(queue.pop(), None, "round {round}: no completion without room");
            queue.ring_head(&machine, queue.head.into());
            assert_eq!(completions(&mut machine, queue, 1)[0].0, 3, "round {round}");
            queue.ring_head(&machine, queue.head.into());
        }
    }
    machine.assert_clean(|_| false);
}

/// The status the model gives; data at addresses nobody has is a transfer error of the SSD.
fn expected(machine: &Machine, entry: &SubmissionEntry) -> u16 {
    let handle: &SimHandle = &machine.handle;
    let memory = |at: u64| {
        let mut word = [0; 8];
        let mapped = handle.memory().is_mapped(at, 8);
        mapped.then(|| {
            handle.memory().read(Agent::Host, at, &mut word).ok().map(|()| u64::from_le_bytes(word))
        })?
    };
    software::cut(&machine.configuration.tables, entry, &memory).status(|fragment| match &fragment.segments {
        Err(DATA_TRANSFER_ERROR) => DATA_TRANSFER_ERROR,
        Err(code) => code | DNR,
        Ok(segments)
            if segments.iter().all(|part| handle.memory().is_mapped(part.iova, part.len as usize)) =>
        {
            0
        }
        Ok(_) => DATA_TRANSFER_ERROR,
    })
}

#[test]
fn garbage_ends_with_a_status_each_and_harms_nobody() {
    let mut machine = machine();
    let mut random = fork(seed(), "garbage");
    let mut bystander = Bystander::new(&mut machine, 0, 0);
    let mut queue = RawQueue::start(&mut machine, HOSTILE, 64);
    let codes =
        [opcode::READ, opcode::WRITE, opcode::WRITE_ZEROES, opcode::DATASET_MANAGEMENT, opcode::FLUSH];
    let mut succeeded = 0;
    for round in 0..200u16 {
        let (mut sent, mut entries) = (Vec::new(), Vec::new());
        for number in 0..random.random_range(1..=63u16) {
            let mut bytes = [0; 64];
            random.fill_bytes(&mut bytes);
            let mut entry = SubmissionEntry(bytes).with_command_id(round << 6 | number);
            // Noise alone rarely gets beyond the opcode; let some of it get further, on its own disk.
            if random.random_bool(0.6) {
                entry =
                    entry.with_opcode(codes[random.random_range(0..codes.len())]).with_fuse(0).with_psdt(0);
            }
            if random.random_bool(0.8) {
                entry = entry.with_namespace_id(2);
            }
            if random.random_bool(0.6) {
                entry = entry.with_starting_lba(random.random_range(0..plain::BLOCKS)).with_block_count_z(7);
            }
            if random.random_bool(0.5) {
                entry = entry.with_prp1(entry.prp1() & !3);
            }
            // The bystander's disk stays out of it.
            if entry.namespace_id() == 1 {
                entry = entry.with_namespace_id(2);
            }
            queue.push(&entry.0);
            entries.push(entry);
            sent.push((entry.command_id(), expected(&machine, &entry)));
        }
        queue.ring(&machine, queue.tail.into());
        bystander.round(&mut machine);
        let mut found = completions(&mut machine, &mut queue, sent.len());
        queue.ring_head(&machine, queue.head.into());
        let plain_transfer =
            |status: u16| if status & !DNR == DATA_TRANSFER_ERROR { DATA_TRANSFER_ERROR } else { status };
        found.iter_mut().chain(&mut sent).for_each(|entry| entry.1 = plain_transfer(entry.1));
        found.sort_unstable();
        succeeded += found.iter().filter(|entry| entry.1 == 0).count();
        for ((found, sent), entry) in found.iter().zip(&sent).zip(&entries) {
            assert_eq!(found, sent, "round {round}: {entry:x?}");
        }
        // Addresses that nobody has are refused, and that is all.
        machine.assert_clean(|refusal| !machine.handle.memory().is_mapped(refusal.iova, refusal.len));
    }
    assert!(succeeded > 100, "{succeeded} went through");
}

#[test]
fn a_reset_in_the_middle_of_everything_comes_back_clean() {
    let mut random = fork(seed(), "reset");
    let mut configuration = plain::configuration(seed(), 128, submission_mode::DIRECT);
    for ssd in &mut configuration.simulator.ssds {
        (ssd.latency_ns, ssd.jitter_ns) = (1_000, 8_000);
    }
    let mut machine = Machine::start(configuration);
    let buffer = machine.platform.allocate(PAGE).expect("memory");
    for round in 0..12 {
        for queue in 0..machine.queues.len() {
            for id in 0..63 {
                let code = if id % 3 == 0 { opcode::WRITE } else { opcode::READ };
                let lba = random.random_range(0..plain::BLOCKS - 8);
                let entry = plain::command(code, 1, lba, 8, &buffer).with_command_id(id);
                machine.queues[queue].submit(entry).expect("room");
            }
            machine.queues[queue].ring().expect("a doorbell");
        }
        machine.handle.run_for_ns(random.random_range(0..6_000)).expect("the card works");
        let before = machine.handle.now_ns();
        machine = machine.restart_card();
        let took = machine.handle.now_ns() - before;
        assert!(took < 5 * LIMIT_NS, "round {round}: {took} ns");
        assert_eq!(machine.card.register_block().read(registers::COMMANDS_FETCHED).expect("a register"), 0);
        machine.connect();
        let mut bystander = Bystander::new(&mut machine, round % 2, 0);
        (0..10).for_each(|_| bystander.round(&mut machine));
        machine.assert_clean(|_| false);
    }
}
