//! Plans of several components in the card: a mirror over three SSDs.

use rand::RngExt;
use volplane_abi::plan::{component_state, plan_status, read_policy, reason, RESTART_ALL};
use volplane_abi::{opcode, submission_mode, PlanMasks};
use volplane_driver::{CardError, Platform, PAGE};
use volplane_sim::{Commands, Fault, FaultKind};
use volplane_tests::harness::media::content;
use volplane_tests::harness::triple::{forgiving, Mirror, ALL, COPIES, DISK, PLAN};
use volplane_tests::harness::{fork, plain};

/// Failures are forgiven and nobody is told.
fn forgiving_silently() -> PlanMasks {
    PlanMasks::default().with_continuation(ALL)
}

#[test]
fn a_write_goes_to_all_copies_and_a_read_to_one() {
    let mut mirror = Mirror::start(read_policy::ROUND_ROBIN, forgiving(), forgiving());
    for round in 0..40u64 {
        assert_eq!(mirror.put(round * 8, round + 1), 0);
    }
    for round in 0..40u64 {
        assert_eq!(mirror.get(round * 8), (0, content(round + 1, PAGE)));
        for copy in 0..COPIES {
            assert_eq!(mirror.media(copy, round * 8, 8), content(round + 1, PAGE), "copy {copy}");
        }
    }
    let reads: Vec<usize> = (0..COPIES)
        .map(|copy| {
            let (commands, _) = mirror.machine.handle.take_commands(&format!("nvme{copy}"));
            commands.iter().filter(|record| record.entry.opcode() == opcode::READ).count()
        })
        .collect();
    assert!(reads.iter().all(|&reads| reads >= 8) && reads.iter().sum::<usize>() == 40, "{reads:?}");
    let entry =
        plain::command(opcode::FLUSH, DISK, 0, 1, &mirror.machine.platform.allocate(PAGE).expect("memory"))
            .with_starting_lba(0)
            .with_prp1(0);
    assert_eq!(mirror.machine.execute(0, entry), 0);
    for copy in 0..COPIES {
        let (commands, _) = mirror.machine.handle.take_commands(&format!("nvme{copy}"));
        assert_eq!(commands.iter().filter(|record| record.entry.opcode() == opcode::FLUSH).count(), 1);
    }
    assert_eq!(mirror.records(), Vec::new());
    mirror.machine.assert_clean(|_| false);
}

/// What waits for the lock is not lost, however much does. That the lock holds is the next test's to find: here
/// the copies are compared at the end only, and most of what was written is written over.
#[test]
fn a_queue_full_of_overlapping_writes_ends() {
    let mut mirror = Mirror::start(read_policy::PREFERRED, forgiving(), forgiving());
    // Each SSD has an order of its own.
    for copy in 0..COPIES {
        let reorder = Fault::new(FaultKind::Reorder { window_ns: 30_000 });
        mirror.machine.handle.start_fault(&format!("nvme{copy}"), reorder);
    }
    let mut done = 0;
    for round in 0..600u64 {
        // A few pages, half of them over a border.
        let lba = (round * 7) % 5 * 4;
        while mirror.machine.queues[0].free() == 0 {
            mirror.machine.handle.run_for_ns(2_000).expect("the card works");
            while let Some(completion) = mirror.machine.queues[0].poll().expect("a sound queue") {
                assert_eq!(completion.status(), 0);
                done += 1;
            }
        }
        mirror.submit_write(round as u16, lba, round + 1);
    }
    while done < 600 {
        assert_eq!(mirror.machine.completion(0).status(), 0);
        done += 1;
    }
    let first = mirror.media(0, 0, 64);
    assert!(first.iter().any(|&byte| byte != 0));
    assert_eq!(mirror.media(1, 0, 64), first);
    assert_eq!(mirror.media(2, 0, 64), first);
    mirror.machine.assert_clean(|_| false);
}

/// Writes under way at once, to a few pages of SSDs that execute what they were given in any order: only the lock
/// of their blocks keeps the copies equal.
#[test]
fn overlapping_writes_in_any_order_leave_all_copies_equal() {
    const PAGES: u64 = 6;
    for seed in 1..4 {
        let mut random = fork(seed, "overlapping writes");
        let mut configuration = plain::configuration(seed, 128, submission_mode::DIRECT);
        for ssd in &mut configuration.simulator.ssds {
            ssd.jitter_ns = 6_000;
        }
        let mut mirror = Mirror::start_on(configuration, read_policy::PREFERRED, forgiving(), forgiving());
        for round in 0..60u64 {
            for id in 0..8 {
                let blocks = random.random_range(1..=8);
                let lba = random.random_range(0..=PAGES * 8 - u64::from(blocks));
                mirror.submit_short_write(id, lba, blocks, round * 8 + u64::from(id) + 1);
            }
            for _ in 0..8 {
                assert_eq!(mirror.machine.completion(0).status(), 0);
            }
            let first = mirror.media(0, 0, PAGES * 8);
            for copy in 1..COPIES {
                let other = mirror.media(copy, 0, PAGES * 8);
                let at = first.iter().zip(&other).position(|(one, other)| one != other);
                assert_eq!(at, None, "copies 0 and {copy} differ in round {round} of seed {seed}");
            }
        }
        mirror.machine.assert_clean(|_| false);
    }
}

#[test]
fn a_copy_that_missed_a_write_is_out_and_never_read() {
    let mut mirror = Mirror::start(read_policy::PREFERRED, forgiving(), forgiving());
    assert_eq!(mirror.put(0, 1), 0);
    mirror.fail(0, &[opcode::WRITE], 0x4281);
    mirror.submit_write(3, 0, 2);
    let record = mirror.one_record();
    mirror.none_completed();
    let tail = record.tail;
    assert_eq!(tail.reasons(), reason::LOG | reason::MISSED_WRITE);
    assert_eq!((tail.held(), tail.owned(), tail.status()), (1, 0, 0));
    assert_eq!((tail.done(), tail.failed(), tail.out(), tail.begun()), (0b110, 0b001, 0b001, 0b111));
    assert_eq!((tail.disk(), tail.plan(), tail.command_id()), (DISK as u16, PLAN as u16, 3));
    assert_eq!(record.components[0].status(), 0x4281);
    assert_eq!((record.components[0].path(), record.components[0].fragment()), (0, 0));
    assert_eq!((record.command.opcode(), record.command.starting_lba()), (opcode::WRITE, 0));
    let out = [component_state::OUT, component_state::IN_SYNC, component_state::IN_SYNC];
    assert_eq!(mirror.states(), (out.to_vec(), false));

    // A later write does not go to it, and is held as well while that is not durable.
    mirror.submit_write(4, 8, 3);
    let later = mirror.one_record();
    mirror.none_completed();
    assert_eq!(later.tail.reasons(), reason::MISSED_WRITE);
    mirror.set_states(0b001, component_state::OUT, 0b001);
    for record in [&record, &later] {
        mirror.machine.card.release_plan(&mut mirror.machine.platform, record.handle()).expect("it is held");
        let completion = mirror.machine.completion(0);
        assert_eq!((completion.status(), completion.command_id()), (0, record.tail.command_id()));
    }
    // Reads prefer component 0, which missed them.
    assert_eq!(mirror.get(0), (0, content(2, PAGE)));
    assert_eq!(mirror.get(8), (0, content(3, PAGE)));
    // Durably out: nothing is held any more, and nobody tells of it.
    assert_eq!(mirror.put(16, 4), 0);
    assert_eq!(mirror.records(), Vec::new());
    assert_eq!(mirror.media(0, 0, 8), content(1, PAGE));

    // It comes back by way of write-only; not at once.
    mirror.mend();
    mirror.set_states(0b001, component_state::IN_SYNC, 0);
    assert_eq!(mirror.states().0[0], component_state::OUT);
    mirror.set_states(0b001, component_state::WRITE_ONLY, 0);
    assert_eq!(mirror.put(24, 5), 0);
    assert_eq!(mirror.media(0, 24, 8), content(5, PAGE));
    assert_eq!(mirror.get(0), (0, content(2, PAGE)), "a write-only copy is not read");
    mirror.set_states(0b001, component_state::IN_SYNC, 0);
    assert_eq!(mirror.get(24), (0, content(5, PAGE)));
}

#[test]
fn a_failed_read_tries_the_next_copy() {
    let mut mirror = Mirror::start(read_policy::PREFERRED, forgiving(), forgiving());
    assert_eq!(mirror.put(0, 1), 0);
    mirror.fail(0, &[opcode::READ], 0x281);
    assert_eq!(mirror.get(0), (0, content(1, PAGE)));
    let record = mirror.one_record();
    assert_eq!((record.tail.reasons(), record.tail.failed(), record.tail.done()), (reason::LOG, 1, 2));
    assert_eq!(mirror.states().0, [component_state::IN_SYNC; 3]);
    mirror.fail(1, &[opcode::READ], 0x286);
    mirror.fail(2, &[opcode::READ], 0x2286);
    assert_eq!(mirror.get(0).0, 0x281, "the status of the lowest-numbered copy");
    let record = mirror.one_record();
    assert_eq!((record.tail.failed(), record.tail.done()), (7, 0));
    assert_eq!(record.components[2].status(), 0x286);
}

/// Reads that each copy has served of `count`, of which 12 are kept under way.
fn reads_of_copies(mirror: &mut Mirror, count: usize) -> [usize; COPIES as usize] {
    let reads = |mirror: &mut Mirror, copy| {
        let (commands, _) = mirror.machine.handle.take_commands(&format!("nvme{copy}"));
        commands.iter().filter(|record| record.entry.opcode() == opcode::READ).count()
    };
    (0..COPIES as usize).for_each(|copy| {
        reads(mirror, copy);
    });
    let buffer = mirror.machine.platform.allocate(PAGE).expect("memory");
    let mut sent = 0;
    for done in 0..count {
        while sent < count.min(done + 12) {
            let entry = plain::command(opcode::READ, DISK, 0, 8, &buffer).with_command_id(sent as u16);
            mirror.machine.queues[0].submit(entry).expect("room");
            sent += 1;
        }
        mirror.machine.queues[0].ring().expect("a doorbell");
        assert_eq!(mirror.machine.completion(0).status(), 0);
    }
    std::array::from_fn(|copy| reads(mirror, copy))
}

#[test]
fn reads_go_to_the_least_busy_copy() {
    let mut mirror = Mirror::start(read_policy::LEAST_OUTSTANDING, forgiving(), forgiving());
    assert_eq!(mirror.put(0, 1), 0);
    // One at a time: nobody is busy.
    for _ in 0..10 {
        assert_eq!(mirror.get(0), (0, content(1, PAGE)));
    }
    let (commands, _) = mirror.machine.handle.take_commands("nvme0");
    assert_eq!(commands.len(), 11, "the write and all reads");
    let served = reads_of_copies(&mut mirror, 600);
    assert!(served.iter().all(|&reads| (160..=240).contains(&reads)), "equal SSDs: {served:?}");
    // The second copy takes ten times as long as the others.
    let slow = FaultKind::Delay { shortest_ns: 800_000, longest_ns: 800_000 };
    let fault = mirror.machine.handle.start_fault("nvme1", Fault::new(slow));
    let served = reads_of_copies(&mut mirror, 600);
    assert!(served[1] * 5 < served[0].min(served[2]), "a slow one: {served:?}");
    mirror.machine.handle.stop_fault(fault);
    // What was counted then is forgotten, and so it is after errors, further copies and what is held.
    let served = reads_of_copies(&mut mirror, 600);
    assert!(served.iter().all(|&reads| (160..=240).contains(&reads)), "equal ones again: {served:?}");
    mirror.fail(0, &[opcode::READ], 0x281);
    for _ in 0..20 {
        assert_eq!(mirror.get(0), (0, content(1, PAGE)));
    }
    mirror.fail(2, &[opcode::WRITE], 0x4281);
    mirror.submit_write(3, 8, 2);
    let records = mirror.records();
    let held = records.last().expect("of the write");
    mirror.machine.card.release_plan(&mut mirror.machine.platform, held.handle()).expect("it is held");
    assert_eq!(mirror.machine.completion(0).status(), 0);
    mirror.mend();
    let served = reads_of_copies(&mut mirror, 600);
    let two = (served[0] + served[1], served[2]);
    assert!(two == (600, 0) && served[0].abs_diff(served[1]) < 40, "the third is out: {served:?}");
    mirror.machine.assert_clean(|_| false);
}

/// Writes count: a copy that writes take long on is not read while others are free, whoever they are of.
#[test]
fn writes_make_a_copy_busy() {
    let mut mirror = Mirror::start(read_policy::LEAST_OUTSTANDING, forgiving(), forgiving());
    assert_eq!(mirror.put(0, 1), 0);
    let slow = FaultKind::Delay { shortest_ns: 2_000_000, longest_ns: 2_000_000 };
    let writes = Commands::all().with_opcodes(&[opcode::WRITE]);
    for ssd in ["nvme0", "nvme1"] {
        mirror.machine.handle.start_fault(ssd, Fault::new(slow.clone()).with_commands(writes.clone()));
    }
    mirror.submit_write(1, 64, 2);
    mirror.machine.handle.run_for_ns(300_000).expect("the card works");
    // The third copy has written; those that still do are not read, one read at a time.
    for ssd in ["nvme0", "nvme1", "nvme2"] {
        mirror.machine.handle.take_commands(ssd);
    }
    for _ in 0..5 {
        assert_eq!(mirror.get(0), (0, content(1, PAGE)));
    }
    let served = ["nvme0", "nvme1", "nvme2"].map(|ssd| mirror.machine.handle.take_commands(ssd).0.len());
    assert_eq!(served, [0, 0, 5]);
    assert_eq!(mirror.machine.completion(0).command_id(), 1);
    mirror.machine.assert_clean(|_| false);
}

/// Every SSD takes one command at a time, so commands stand up to admission: what goes on with another copy finds
/// no way in while those before it wait for what it holds up.
#[test]
fn further_copies_are_read_while_everything_waits() {
    let mut configuration = plain::configuration(1, 128, submission_mode::DIRECT);
    for route in &mut configuration.routes {
        (route.sq_entries, route.cq_entries, route.limit) = (2, 2, 1);
    }
    for device in configuration.tables.devices.values_mut() {
        *device = device.with_transfer_limit(1);
    }
    let mut mirror =
        Mirror::start_on(configuration, read_policy::PREFERRED, forgiving(), forgiving_silently());
    assert_eq!(mirror.put(0, 1), 0);
    mirror.fail(0, &[opcode::READ], 0x4281);
    let buffers: Vec<_> = (0..60).map(|_| mirror.machine.platform.allocate(PAGE).expect("memory")).collect();
    for (id, buffer) in buffers.iter().enumerate() {
        let entry = plain::command(opcode::READ, DISK, 0, 8, buffer).with_command_id(id as u16);
        mirror.machine.queues[0].submit(entry).expect("room");
    }
    mirror.machine.queues[0].ring().expect("a doorbell");
    for _ in &buffers {
        assert_eq!(mirror.machine.completion(0).status(), 0);
    }
    for buffer in &buffers {
        let mut found = vec![0; PAGE];
        buffer.read(0, &mut found);
        assert_eq!(found, content(1, PAGE));
    }
    mirror.machine.assert_clean(|_| false);
}

/// Records of the ring: 256, one of which stays free.
const RING: usize = 255;
/// Commands that find the ring full: their records wait behind one another.
const WAITING: std::ops::Range<u16> = 77..82;

#[test]
fn a_full_ring_delays_only_what_needs_it() {
    let mut mirror = Mirror::start(read_policy::PREFERRED, forgiving(), forgiving());
    assert_eq!(mirror.put(0, 1), 0);
    mirror.fail(0, &[opcode::READ], 0x281);
    // Each of these reads goes on with another copy, and is told of. Twice around the ring, with its phases.
    for round in 0..3 {
        for read in 0..RING {
            assert_eq!(mirror.get(0), (0, content(1, PAGE)), "read {read} of round {round}");
        }
        let buffer = mirror.machine.platform.allocate(PAGE).expect("memory");
        for id in WAITING {
            let entry = plain::command(opcode::READ, DISK, 0, 8, &buffer).with_command_id(id);
            mirror.machine.queues[0].submit(entry).expect("room");
        }
        mirror.machine.queues[0].ring().expect("a doorbell");
        mirror.machine.handle.run_for_ns(100_000).expect("the card works");
        mirror.none_completed();
        // Writes need no record, and another disk neither.
        assert_eq!(mirror.put(8, 2), 0);
        let other = plain::command(opcode::WRITE, 0, 0, 8, &buffer).with_command_id(99);
        assert_eq!(mirror.machine.execute(0, other), 0);
        let mut records = mirror.machine.card.take_exceptions(RING + 1).expect("sound records");
        assert_eq!(records.len(), RING);
        for _ in WAITING {
            let completion = mirror.machine.completion(0);
            assert!(completion.status() == 0 && WAITING.contains(&completion.command_id()), "{completion:?}");
        }
        records.extend(mirror.records());
        assert_eq!(records.len(), RING + WAITING.count());
        for record in &records {
            let tail = record.tail;
            assert_eq!((tail.reasons(), record.components[0].status()), (reason::LOG, 0x281));
            assert_eq!((tail.begun(), tail.done(), tail.failed(), tail.out()), (0b011, 0b010, 0b001, 0));
        }
    }
    mirror.machine.assert_clean(|_| false);
}

#[test]
fn what_is_not_forgiven_is_the_control_paths() {
    let strict = PlanMasks::default().with_continuation(ALL & !0b010).with_deactivate(0b010);
    let mut mirror = Mirror::start(read_policy::PREFERRED, strict, forgiving());
    mirror.fail(1, &[opcode::WRITE], 0x280);
    mirror.submit_write(1, 0, 1);
    let record = mirror.one_record();
    mirror.none_completed();
    assert_eq!(record.tail.reasons(), reason::COMPONENT_FAILURE);
    assert_eq!((record.tail.owned(), record.tail.held(), record.tail.deactivated()), (1, 0, 1));
    assert_eq!(mirror.states(), (vec![component_state::IN_SYNC; 3], true));
    assert_eq!(mirror.put(8, 2), 0x4082, "Namespace Not Ready");
    let refused = mirror.machine.card.release_plan(&mut mirror.machine.platform, record.handle());
    assert!(matches!(refused, Err(CardError::Plan { .. })), "{refused:?}");
    // Again, now that the SSD is well.
    mirror.mend();
    mirror.set_states(0, 0, 0);
    mirror
        .machine
        .card
        .resubmit_plan(&mut mirror.machine.platform, record.handle(), RESTART_ALL)
        .expect("it is owned");
    assert_eq!(mirror.machine.completion(0).status(), 0);
    for copy in 0..COPIES {
        assert_eq!(mirror.media(copy, 0, 8), content(1, PAGE), "copy {copy}");
    }
    let gone = mirror.machine.card.complete_plan(&mut mirror.machine.platform, record.handle(), 6);
    assert!(matches!(gone, Err(CardError::Plan { problem: "it is gone", .. })), "{gone:?}");
    // And ended with a status.
    mirror.fail(1, &[opcode::WRITE], 0x280);
    mirror.submit_write(2, 0, 1);
    let record = mirror.one_record();
    let status = plan_status::ABORT_REQUESTED;
    mirror
        .machine
        .card
        .complete_plan(&mut mirror.machine.platform, record.handle(), status)
        .expect("it is owned");
    assert_eq!(mirror.machine.completion(0).status(), status);
}
