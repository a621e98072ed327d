//! Paths in the card: errors on them, commands that are not answered in time, fences, and their return.

use volplane_abi::plan::{component_state, read_policy, reason};
use volplane_abi::tables::table;
use volplane_abi::{opcode, submission_mode, ComponentEntry, ExtentEntry};
use volplane_driver::{CardError, Platform, PAGE};
use volplane_sim::{Commands, Fault, FaultKind, Moment};
use volplane_tests::harness::media::content;
use volplane_tests::harness::triple::{forgiving, Mirror, ALL, COPIES, DISK, PLAN};
use volplane_tests::harness::{plain, Configuration, Machine};

/// Ticks of a time-out, and simulated ns after which the card has seen that it has passed.
const TIME_OUT: u32 = 2_000;
const PASSED_NS: u64 = 6_000_000;

/// A mirror whose copies wait as long as `TIME_OUT` and have two tries.
fn impatient(configuration: Configuration) -> Mirror {
    let mut mirror = Mirror::start_on(configuration, read_policy::PREFERRED, forgiving(), forgiving());
    for copy in 0..COPIES as usize {
        let index = ComponentEntry::index(PLAN as u16, copy);
        let machine = &mut mirror.machine;
        let entry: ComponentEntry =
            machine.card.table_record(&mut machine.platform, table::COMPONENT, index).expect("a component");
        mirror.write(table::COMPONENT, index, &entry.with_time_out(TIME_OUT).with_retries(2).0);
    }
    mirror
}

fn plain_mirror() -> Mirror {
    impatient(plain::configuration(1, 128, submission_mode::DIRECT))
}

/// Lets `ssd` not answer `most` writes.
fn drop_writes(machine: &Machine, ssd: &str, most: u64) {
    let fault = Fault::new(FaultKind::Drop { after_effect: false });
    let commands = Commands::all().with_opcodes(&[opcode::WRITE]).with_count(0, most);
    machine.handle.start_fault(ssd, fault.with_commands(commands));
}

/// Lets time pass until the card has asked for fences: of which paths.
fn fences(mirror: &mut Mirror) -> Vec<u8> {
    mirror.machine.handle.run_for_ns(PASSED_NS).expect("the card works");
    let records = mirror.records();
    for record in &records {
        assert_eq!((record.tail.fence(), record.tail.reasons()), (1, reason::TIME_OUT), "{record:?}");
        assert_eq!((record.tail.owned(), record.tail.held(), record.tail.disk()), (0, 0, 0));
    }
    records.iter().map(|record| record.tail.path()).collect()
}

/// I/O commands that an SSD has received since it was last asked.
fn received(machine: &mut Machine, ssd: &str) -> usize {
    machine.handle.take_commands(ssd).0.len()
}

/// A write or read of 8 blocks of the first plain disk that lie on its first SSD.
fn plain_io(machine: &mut Machine, code: u8, token: u64) -> u16 {
    let buffer = machine.platform.allocate(PAGE).expect("memory");
    buffer.write(0, &content(token, PAGE));
    let status = machine.execute(0, plain::command(code, 0, 0, 8, &buffer));
    if code == opcode::READ && status == 0 {
        let mut found = vec![0; PAGE];
        buffer.read(0, &mut found);
        assert_eq!(found, content(token, PAGE));
    }
    status
}

fn path_error() -> Fault {
    Fault::new(FaultKind::Error { status: 0x301, after_effect: false })
}

#[test]
fn a_path_error_is_tried_on_the_other_path() {
    let mut machine = Machine::start(plain::two_paths());
    let fault = machine.handle.start_fault("nvme0", path_error());
    for token in 1..20 {
        assert_eq!(plain_io(&mut machine, opcode::WRITE, token), 0);
        assert_eq!((received(&mut machine, "nvme0"), received(&mut machine, "other")), (1, 1));
    }
    machine.handle.stop_fault(fault);
    // A path that is well again is used again, alone: it is preferred.
    assert_eq!(plain_io(&mut machine, opcode::READ, 19), 0);
    assert_eq!((received(&mut machine, "nvme0"), received(&mut machine, "other")), (1, 0));
    machine.assert_clean(|_| false);
}

/// Of a command that is cut into pieces all come again, each where it was.
#[test]
fn a_command_of_several_fragments_is_tried_again_as_a_whole() {
    let mut configuration = plain::two_paths();
    let device = configuration.tables.devices.get_mut(&0).expect("the first device");
    *device = device.with_transfer_limit(2);
    let mut machine = Machine::start(configuration);
    for failing in 0..4 {
        let once = Commands::all().with_count(failing, 1);
        let fault = machine.handle.start_fault("nvme0", path_error().with_commands(once));
        assert_eq!(plain_io(&mut machine, opcode::WRITE, 1 + failing), 0);
        assert_eq!((received(&mut machine, "nvme0"), received(&mut machine, "other")), (4, 4));
        machine.handle.stop_fault(fault);
        let mut found = vec![0; PAGE];
        machine.handle.read_media("nvme0", 0, &mut found).expect("media");
        assert_eq!(found, content(1 + failing, PAGE), "fragment {failing} failed");
        let fault = machine
            .handle
            .start_fault("nvme0", path_error().with_commands(Commands::all().with_count(failing, 1)));
        assert_eq!(plain_io(&mut machine, opcode::READ, 1 + failing), 0);
        assert_eq!((received(&mut machine, "nvme0"), received(&mut machine, "other")), (4, 4));
        machine.handle.stop_fault(fault);
    }
    machine.assert_clean(|_| false);
}

/// Parts of one plan on their way over the same path when it fails: each finds the other path, without a try.
#[test]
fn copies_on_one_device_all_find_its_other_path() {
    let mut mirror = Mirror::start_on(plain::two_paths(), read_policy::PREFERRED, forgiving(), forgiving());
    // The second copy lies on the first SSD, too: where the machine's first disk would be.
    let extent = ExtentEntry::default().with_device(0).with_valid(1);
    mirror.write(table::EXTENT, 1001, &extent.0);
    mirror.machine.handle.start_fault("nvme0", path_error());
    for token in 1..20 {
        assert_eq!(mirror.put(0, token), 0);
        let ssds = ["nvme0", "other", "nvme1", "nvme2"];
        assert_eq!(ssds.map(|ssd| received(&mut mirror.machine, ssd)), [2, 2, 0, 1]);
        let mut second = vec![0; PAGE];
        mirror.machine.handle.read_media("nvme0", 0, &mut second).expect("media");
        assert_eq!((mirror.media(0, 0, 8), second), (content(token, PAGE), content(token, PAGE)));
    }
    assert_eq!((mirror.records(), mirror.states().0), (Vec::new(), vec![component_state::IN_SYNC; 3]));
    mirror.machine.assert_clean(|_| false);
}

#[test]
fn a_flush_is_tried_on_the_other_path() {
    let mut machine = Machine::start(plain::two_paths());
    machine.handle.start_fault("nvme0", path_error());
    let buffer = machine.platform.allocate(PAGE).expect("memory");
    let flush = plain::command(opcode::FLUSH, 0, 0, 1, &buffer).with_prp1(0);
    assert_eq!(machine.execute(0, flush), 0);
    let all = ["nvme0", "other", "nvme1", "nvme2"].map(|ssd| received(&mut machine, ssd));
    assert_eq!(all, [1, 1, 2, 2], "all of it once more, on the other path of the first");
    machine.assert_clean(|_| false);
}

#[test]
fn without_a_good_path_the_client_gets_the_error() {
    let mut machine = Machine::start(plain::two_paths());
    machine.handle.start_fault("nvme0", path_error());
    machine.handle.start_fault("other", path_error());
    assert_eq!(plain_io(&mut machine, opcode::WRITE, 1), 0x301);
    // Each path once, and both once more for each of two tries.
    assert_eq!((received(&mut machine, "nvme0"), received(&mut machine, "other")), (3, 3));
    // What the media does not hold another path does not help.
    machine.handle.stop_faults();
    machine.handle.start_fault("nvme0", Fault::new(FaultKind::Error { status: 0x281, after_effect: false }));
    assert_eq!(plain_io(&mut machine, opcode::READ, 1), 0x281);
    assert_eq!((received(&mut machine, "nvme0"), received(&mut machine, "other")), (1, 0));
    machine.assert_clean(|_| false);
}

#[test]
fn an_error_that_may_pass_takes_the_components_tries() {
    let mut mirror = plain_mirror();
    let busy = Fault::new(FaultKind::Error { status: 0x006, after_effect: false });
    let twice = Commands::all().with_opcodes(&[opcode::WRITE]).with_count(0, 2);
    mirror.machine.handle.start_fault("nvme1", busy.clone().with_commands(twice));
    assert_eq!(mirror.put(0, 1), 0);
    assert_eq!(received(&mut mirror.machine, "nvme1"), 3);
    assert_eq!((mirror.media(1, 0, 8), mirror.records()), (content(1, PAGE), Vec::new()));
    // Once more is once too often.
    mirror.machine.handle.start_fault("nvme1", busy);
    mirror.submit_write(3, 8, 2);
    let record = mirror.one_record();
    assert_eq!((record.tail.failed(), record.tail.done()), (0b010, 0b101));
    assert_eq!((record.components[1].status(), received(&mut mirror.machine, "nvme1")), (0x006, 3));
}

#[test]
fn what_is_not_answered_in_time_is_given_again_after_a_fence() {
    let mut mirror = plain_mirror();
    drop_writes(&mirror.machine, "nvme1", 1);
    mirror.submit_write(1, 0, 1);
    assert_eq!(fences(&mut mirror), [1]);
    // It is asked for once, and nobody is told anything before.
    assert!(fences(&mut mirror).is_empty());
    mirror.none_completed();
    mirror.machine.fence(1);
    assert_eq!(mirror.machine.completion(0).status(), 0);
    for copy in 0..COPIES {
        assert_eq!(mirror.media(copy, 0, 8), content(1, PAGE), "copy {copy}");
    }
    assert_eq!((mirror.records(), mirror.states().0), (Vec::new(), vec![component_state::IN_SYNC; 3]));
    // The next time-out on the path is noticed as well.
    drop_writes(&mirror.machine, "nvme1", 1);
    mirror.submit_write(2, 8, 2);
    assert_eq!(fences(&mut mirror), [1]);
    mirror.machine.fence(1);
    assert_eq!(mirror.machine.completion(0).status(), 0);
    mirror.machine.assert_clean(|_| false);
}

/// What is given again has its time, too.
#[test]
fn what_is_given_again_is_not_waited_for_longer() {
    let mut mirror = plain_mirror();
    drop_writes(&mirror.machine, "nvme1", 3);
    mirror.submit_write(1, 0, 1);
    for _ in 0..3 {
        assert_eq!(fences(&mut mirror), [1]);
        mirror.none_completed();
        mirror.machine.fence(1);
    }
    assert_eq!(mirror.machine.completion(0).status(), 0);
    assert_eq!(mirror.media(1, 0, 8), content(1, PAGE));
    assert_eq!((mirror.records(), mirror.states().0), (Vec::new(), vec![component_state::IN_SYNC; 3]));
}

#[test]
fn an_answer_that_comes_late_counts() {
    let mut mirror = plain_mirror();
    let late = FaultKind::Delay { shortest_ns: 2 * PASSED_NS, longest_ns: 2 * PASSED_NS };
    let once = Commands::all().with_opcodes(&[opcode::WRITE]).with_count(0, 1);
    mirror.machine.handle.start_fault("nvme2", Fault::new(late).with_commands(once));
    mirror.submit_write(1, 0, 1);
    assert_eq!(fences(&mut mirror), [2]);
    mirror.none_completed();
    mirror.machine.handle.run_for_ns(PASSED_NS).expect("the card works");
    assert_eq!(mirror.machine.completion(0).status(), 0);
    assert_eq!(received(&mut mirror.machine, "nvme2"), 1);
    // The path is used as before, and a fence that comes all the same harms nobody.
    assert_eq!(mirror.put(8, 2), 0);
    mirror.machine.fence(2);
    assert_eq!(mirror.put(16, 3), 0);
    assert_eq!((mirror.records(), mirror.states().0), (Vec::new(), vec![component_state::IN_SYNC; 3]));
}

#[test]
fn a_zombie_never_lands_on_newer_data() {
    for round in 0..6 {
        let mut mirror = plain_mirror();
        let (least, most) = (PASSED_NS, 3 * PASSED_NS);
        let zombie = FaultKind::Zombie { shortest_ns: least, longest_ns: most };
        let once = Commands::all().with_opcodes(&[opcode::WRITE]).with_count(0, 1);
        mirror.machine.handle.start_fault("nvme0", Fault::new(zombie).with_commands(once));
        mirror.submit_write(1, 0, 1);
        assert_eq!(fences(&mut mirror), [0]);
        // A newer write of the same blocks waits behind it.
        mirror.submit_write(2, 0, 2);
        mirror.machine.handle.run_for_ns(round * 500_000).expect("the card works");
        mirror.none_completed();
        mirror.machine.fence(0);
        for _ in 0..2 {
            assert_eq!(mirror.machine.completion(0).status(), 0);
        }
        mirror.machine.handle.run_for_ns(2 * most).expect("the card works");
        for copy in 0..COPIES {
            assert_eq!(mirror.media(copy, 0, 8), content(2, PAGE), "copy {copy}");
        }
    }
}

#[test]
fn who_finds_no_path_waits_while_one_is_made_anew() {
    let mut mirror = plain_mirror();
    mirror.machine.close_path(1, true);
    for (number, id) in (0..20).enumerate() {
        mirror.submit_write(id, 8 * number as u64, 1 + number as u64);
    }
    mirror.machine.handle.run_for_ns(200_000).expect("the card works");
    mirror.none_completed();
    // Others go on.
    let buffer = mirror.machine.platform.allocate(PAGE).expect("memory");
    let other = plain::command(opcode::READ, 0, 0, 8, &buffer).with_command_id(99);
    assert_eq!(mirror.machine.execute(0, other), 0);
    mirror.machine.renew_path(1);
    for _ in 0..20 {
        assert_eq!(mirror.machine.completion(0).status(), 0);
    }
    for number in 0..20 {
        assert_eq!(mirror.media(1, 8 * number, 8), content(1 + number, PAGE));
    }
    // Without hope of it they fail.
    mirror.machine.handle.run_for_ns(20_000).expect("the card works");
    mirror.machine.close_path(1, false);
    mirror.submit_write(50, 0, 50);
    let record = mirror.one_record();
    assert_eq!((record.tail.failed(), record.tail.done(), record.tail.out()), (0b010, 0b101, 0b010));
    assert_eq!((record.components[1].status(), record.components[1].closed()), (0x4370, 1));
    mirror.machine.assert_clean(|_| false);
}

/// Writes are on their way to the queue of a path, on a bus that is slow, when that is closed. From then on the queue
/// is let alone: it may be deleted.
#[test]
fn a_path_that_is_closed_is_not_rung() {
    const WRITES: u64 = 40;
    for mode in [submission_mode::DIRECT, submission_mode::FENCED] {
        let mut configuration = plain::configuration(1, 128, mode);
        // The most that leaves completions in front of BAR2 the time that they have.
        configuration.simulator.card = configuration.simulator.card.map(|card| card.with_stalls(128));
        let mut mirror = impatient(configuration);
        for round in 0..80u64 {
            for id in 0..WRITES {
                mirror.submit_write(id as u16, 8 * id, 1 + round);
            }
            // Somewhere in what they take.
            mirror.machine.handle.run_for_ns(round * 60).expect("the card works");
            mirror.machine.close_path(1, true);
            mirror.machine.handle.run_for_ns(20_000).expect("the card works");
            mirror.machine.renew_path(1);
            mirror.machine.card.path_quiesced(&mut mirror.machine.platform, 1).expect("the card has it");
            for _ in 0..WRITES {
                assert_eq!(mirror.machine.completion(0).status(), 0);
            }
            for id in 0..WRITES {
                assert_eq!(mirror.media(1, 8 * id, 8), content(1 + round, PAGE));
            }
        }
        mirror.machine.assert_clean(|_| false);
    }
}

#[test]
fn what_waits_for_room_on_a_path_that_is_closed_is_given_back() {
    let mut configuration = plain::configuration(1, 128, submission_mode::DIRECT);
    configuration.routes[1].limit = 1;
    let mut mirror = impatient(configuration);
    drop_writes(&mirror.machine, "nvme1", 1);
    for id in 0..5 {
        mirror.submit_write(id, 8 * u64::from(id), 1 + u64::from(id));
    }
    assert_eq!(fences(&mut mirror), [1]);
    mirror.machine.fence(1);
    for _ in 0..5 {
        assert_eq!(mirror.machine.completion(0).status(), 0);
    }
    for id in 0..5 {
        assert_eq!(mirror.media(1, 8 * id, 8), content(1 + id, PAGE));
    }
    let state = mirror.machine.path_states()[&1];
    assert_eq!(state.issued(), state.returned());
    mirror.machine.assert_clean(|_| false);
}

#[test]
fn a_path_that_wants_a_fence_is_avoided() {
    let mut mirror = impatient(plain::two_paths());
    drop_writes(&mirror.machine, "nvme0", 1);
    mirror.submit_write(1, 0, 1);
    assert_eq!(fences(&mut mirror), [0]);
    let (before, other) = (received(&mut mirror.machine, "nvme0"), received(&mut mirror.machine, "other"));
    assert_eq!((before, other), (1, 0));
    assert_eq!(mirror.put(8, 2), 0);
    assert_eq!((received(&mut mirror.machine, "nvme0"), received(&mut mirror.machine, "other")), (0, 1));
    mirror.machine.fence(0);
    // The write that was lost goes to the other path, what comes after it to the one that is back.
    assert_eq!(mirror.machine.completion(0).status(), 0);
    assert_eq!((received(&mut mirror.machine, "nvme0"), received(&mut mirror.machine, "other")), (0, 1));
    assert_eq!(mirror.put(16, 3), 0);
    assert_eq!((received(&mut mirror.machine, "nvme0"), received(&mut mirror.machine, "other")), (1, 0));
    assert_eq!(mirror.records(), Vec::new());
}

#[test]
fn an_ssd_that_is_gone_costs_its_copy_only() {
    let mut mirror = plain_mirror();
    mirror.machine.handle.start_fault("nvme2", Fault::new(FaultKind::DeadPath(Moment::Beginning)));
    mirror.submit_write(1, 0, 1);
    assert_eq!(fences(&mut mirror), [2]);
    mirror.machine.close_path(2, false);
    mirror.machine.card.path_quiesced(&mut mirror.machine.platform, 2).expect("the card has the path");
    let record = mirror.one_record();
    assert_eq!(record.tail.reasons(), reason::LOG | reason::MISSED_WRITE | reason::TIME_OUT);
    assert_eq!((record.tail.failed(), record.tail.out(), record.tail.held()), (0b100, 0b100, 1));
    assert_eq!((record.components[2].status(), record.components[2].path()), (0x008, 2));
    mirror.set_states(0b100, component_state::OUT, 0b100);
    mirror.machine.card.release_plan(&mut mirror.machine.platform, record.handle()).expect("it is held");
    assert_eq!(mirror.machine.completion(0).status(), 0);
    assert_eq!(mirror.put(8, 2), 0);
    assert_eq!(mirror.records(), Vec::new());
}

/// Submits a read of the first blocks, which copy 0 gets first.
fn submit_read(mirror: &mut Mirror) {
    let buffer = mirror.machine.platform.allocate(PAGE).expect("memory");
    let entry = plain::command(opcode::READ, DISK, 0, 8, &buffer);
    mirror.machine.queues[0].submit(entry).expect("room");
    mirror.machine.queues[0].ring().expect("a doorbell");
    // It is there until the read is over.
    std::mem::forget(buffer);
}

/// A path is closed for good, and what was outstanding there given up.
fn give_up(mirror: &mut Mirror, path: u8) {
    mirror.machine.close_path(path, false);
    mirror.machine.card.path_quiesced(&mut mirror.machine.platform, path).expect("the card has the path");
}

#[test]
fn a_record_tells_a_time_out_from_an_error() {
    // A read that nobody answers, and one that its SSD ends with the status that the card would give.
    let drop = FaultKind::Drop { after_effect: false };
    let same = FaultKind::Error { status: 0x008, after_effect: false };
    for (kind, reasons) in [(drop, reason::LOG | reason::TIME_OUT), (same, reason::LOG)] {
        let mut mirror = plain_mirror();
        assert_eq!(mirror.put(0, 1), 0);
        let reads = Commands::all().with_opcodes(&[opcode::READ]);
        mirror.machine.handle.start_fault("nvme0", Fault::new(kind).with_commands(reads));
        submit_read(&mut mirror);
        if reasons & reason::TIME_OUT != 0 {
            assert_eq!(fences(&mut mirror), [0]);
            give_up(&mut mirror, 0);
        }
        assert_eq!(mirror.machine.completion(0).status(), 0);
        let record = mirror.one_record();
        assert_eq!((record.tail.reasons(), record.components[0].status()), (reasons, 0x008));
        assert_eq!((record.tail.failed(), record.tail.done()), (0b001, 0b010));
        // The next plan of that slot has nothing of it, though its copies fail otherwise.
        mirror.fail(1, &[opcode::READ], 0x4281);
        submit_read(&mut mirror);
        assert_eq!(mirror.machine.completion(0).status(), 0);
        let record = mirror.one_record();
        assert_eq!((record.tail.reasons(), record.tail.failed()), (reason::LOG, 0b011));
    }
    // An error that comes late is an answer.
    let mut mirror = plain_mirror();
    let late = FaultKind::Delay { shortest_ns: 2 * PASSED_NS, longest_ns: 2 * PASSED_NS };
    mirror.machine.handle.start_fault("nvme1", Fault::new(late));
    mirror.fail(1, &[opcode::WRITE], 0x4281);
    mirror.submit_write(1, 0, 1);
    assert_eq!(fences(&mut mirror), [1]);
    mirror.machine.handle.run_for_ns(PASSED_NS).expect("the card works");
    let record = mirror.one_record();
    assert_eq!((record.tail.reasons(), record.tail.failed()), (reason::LOG | reason::MISSED_WRITE, 0b010));
    assert_eq!(record.components[1].status(), 0x4281);
}

#[test]
fn the_card_has_no_more_paths_than_it_has() {
    let mut mirror = plain_mirror();
    let machine = &mut mirror.machine;
    let refused = machine.card.path_quiesced(&mut machine.platform, 32);
    assert!(matches!(refused, Err(CardError::Table { table: "path", index: 32, .. })), "{refused:?}");
    // Of a path in use nothing ends.
    machine.card.path_quiesced(&mut machine.platform, 0).expect("the card has the path");
    assert_eq!(mirror.put(0, u64::from(DISK) + u64::from(ALL)), 0);
}
