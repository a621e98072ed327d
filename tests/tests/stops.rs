//! Plans that end before their last block: taken over, aborted, unforgiven, faulting, diverted, not for hardware.

use std::collections::BTreeMap;

use rand::RngExt;
use volplane_abi::plan::{plan_status, read_policy, reason, RESTART_ALL};
use volplane_abi::tables::table;
use volplane_abi::{
    extent_action, opcode, status, submission_mode, AllocationEntry, DivertEntry, ExtentEntry, PlanEntry,
    PlanMasks, PlanState,
};
use volplane_driver::{CardError, ExceptionRecord, PlanHandle, Platform, PAGE};
use volplane_sim::{Fault, FaultKind};
use volplane_tests::harness::media::content;
use volplane_tests::harness::triple::{forgiving, Mirror, ALL, COPIES, DISK, PLAN};
use volplane_tests::harness::{fork, plain};

/// Bytes and number of the blocks of a write.
const BLOCK: usize = 512;
const BLOCKS: u64 = 8;
const ABORTED: u16 = plan_status::ABORT_REQUESTED | status::DNR;

/// A mirror whose SSDs take so many blocks at a time and two commands at once.
fn narrow(blocks: u32, masks: PlanMasks) -> Mirror {
    let mut configuration = plain::configuration(1, 128, submission_mode::DIRECT);
    for device in configuration.tables.devices.values_mut() {
        *device = device.with_transfer_limit(blocks);
    }
    configuration.routes.iter_mut().for_each(|route| route.limit = 2);
    Mirror::start_on(configuration, read_policy::PREFERRED, masks, masks)
}

/// Time that a slow SSD takes for each command, one after another: the plans under way can be listed meanwhile.
const SERVICE_NS: u64 = 400_000;

fn slow(mirror: &Mirror, ssd: u32) {
    let slow = Fault::new(FaultKind::Slow { service_ns: SERVICE_NS });
    mirror.machine.handle.start_fault(&format!("nvme{ssd}"), slow);
}

/// A write of eight fragments to each copy, some of which are done.
fn half_done() -> Mirror {
    let mut mirror = narrow(1, forgiving());
    (0..COPIES).for_each(|ssd| slow(&mirror, ssd));
    mirror.submit_write(1, 0, 1);
    mirror.machine.handle.run_for_ns(3 * SERVICE_NS / 2).expect("the card works");
    mirror.none_completed();
    mirror
}

/// Lets what is under way come back.
fn drain(mirror: &Mirror) {
    mirror.machine.handle.run_for_ns(3 * SERVICE_NS).expect("the card works");
}

fn under_way(mirror: &mut Mirror) -> Vec<PlanHandle> {
    let slots = 0..mirror.machine.card.capabilities().slots;
    mirror.machine.card.plans_of(&mut mirror.machine.platform, DISK as u16, slots).expect("the list")
}

/// The plans under way in the slots that were used last: they are used in turns.
fn latest(mirror: &mut Mirror, used: u16) -> Vec<PlanHandle> {
    let mut plans = Vec::new();
    let (card, platform) = (&mut mirror.machine.card, &mut mirror.machine.platform);
    for slot in used.saturating_sub(24)..used {
        let state: PlanState = card.table_record(platform, table::PLAN_STATE, slot.into()).expect("a state");
        if state.live() == 1 && state.owned() == 0 && state.held() == 0 {
            plans.push(PlanHandle { slot, generation: state.generation() });
        }
    }
    plans
}

fn take_over(mirror: &mut Mirror, plan: PlanHandle) -> Result<(), CardError> {
    mirror.machine.card.take_over_plan(&mut mirror.machine.platform, plan)
}

fn abort(mirror: &mut Mirror, plan: PlanHandle) -> Result<(), CardError> {
    mirror.machine.card.abort_plan(&mut mirror.machine.platform, plan)
}

fn resubmit(mirror: &mut Mirror, record: &ExceptionRecord) {
    let machine = &mut mirror.machine;
    machine.card.resubmit_plan(&mut machine.platform, record.handle(), RESTART_ALL).expect("it is owned");
}

fn complete(mirror: &mut Mirror, record: &ExceptionRecord, status: u16) {
    let machine = &mut mirror.machine;
    machine.card.complete_plan(&mut machine.platform, record.handle(), status).expect("it is owned");
}

/// What is wrong with a plan, in the driver's words.
fn problem(result: Result<(), CardError>) -> &'static str {
    match result {
        Err(CardError::Plan { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

fn received(mirror: &mut Mirror, ssd: u32) -> usize {
    mirror.machine.handle.take_commands(&format!("nvme{ssd}")).0.len()
}

/// Asserts that of each copy the first fragments were written, as the record says, and no others.
fn assert_progress(mirror: &mut Mirror, record: &ExceptionRecord) {
    assert_eq!((record.tail.stopped(), record.tail.done(), record.tail.failed()), (ALL, 0, 0));
    for copy in 0..COPIES {
        // Those of the first copy hold up the others'.
        let issued = record.components[copy as usize].fragment() as usize;
        assert!(issued < BLOCKS as usize && (issued > 0 || copy > 0), "copy {copy}: {issued} fragments");
        assert_eq!(received(mirror, copy), issued, "copy {copy}");
        let mut expected = content(1, PAGE);
        expected[issued * BLOCK..].fill(0);
        assert_eq!(mirror.media(copy, 0, BLOCKS), expected, "copy {copy}");
    }
}

#[test]
fn who_is_taken_over_issues_nothing_more_and_is_handed_over() {
    let mut mirror = half_done();
    let plans = under_way(&mut mirror);
    assert_eq!(plans.len(), 1);
    let plan = plans[0];
    take_over(&mut mirror, plan).expect("it is under way");
    assert!(problem(take_over(&mut mirror, plan)).contains("asked for it"));
    drain(&mirror);
    let record = mirror.one_record();
    assert_eq!((record.tail.reasons(), record.tail.owned(), record.tail.held()), (reason::TAKE_OVER, 1, 0));
    assert_progress(&mut mirror, &record);
    // The plan has changed hands, and with that its name.
    assert_eq!(record.handle().slot, plan.slot);
    assert!(problem(take_over(&mut mirror, plan)).contains("gone"));
    assert!(problem(take_over(&mut mirror, record.handle())).contains("has it"));
    assert_eq!(under_way(&mut mirror), []);
    mirror.none_completed();
    resubmit(&mut mirror, &record);
    assert!(problem(take_over(&mut mirror, record.handle())).contains("gone"));
    assert_eq!(mirror.machine.completion(0).status(), 0);
    (0..COPIES).for_each(|copy| assert_eq!(mirror.media(copy, 0, BLOCKS), content(1, PAGE)));
    mirror.machine.assert_clean(|_| false);
}

#[test]
fn the_client_of_an_aborted_plan_is_told_when_nothing_is_under_way() {
    let mut mirror = half_done();
    let plan = under_way(&mut mirror)[0];
    abort(&mut mirror, plan).expect("it is under way");
    assert!(problem(abort(&mut mirror, plan)).contains("aborted before"));
    assert!(problem(take_over(&mut mirror, plan)).contains("aborted before"));
    mirror.none_completed();
    assert_eq!(mirror.machine.completion(0).status(), ABORTED);
    let issued: Vec<usize> = (0..COPIES).map(|copy| received(&mut mirror, copy)).collect();
    assert!(issued.iter().all(|&count| count < BLOCKS as usize), "{issued:?}");
    assert!(problem(abort(&mut mirror, plan)).contains("gone"));
    assert_eq!(mirror.records(), Vec::new());
    // Of one that the control path has, at once.
    mirror.submit_write(2, 0, 2);
    mirror.machine.handle.run_for_ns(SERVICE_NS / 2).expect("the card works");
    let plan = under_way(&mut mirror)[0];
    take_over(&mut mirror, plan).expect("it is under way");
    drain(&mirror);
    let record = mirror.one_record();
    abort(&mut mirror, record.handle()).expect("it is owned");
    assert_eq!(mirror.machine.completion(0).status(), ABORTED);
    // And its blocks are free again.
    assert_eq!(mirror.put(0, 3), 0);
    (0..COPIES).for_each(|copy| assert_eq!(mirror.media(copy, 0, BLOCKS), content(3, PAGE)));
    mirror.machine.assert_clean(|_| false);
}

#[test]
fn an_unforgiven_failure_stops_the_other_copies() {
    let mut mirror = narrow(1, PlanMasks::default());
    mirror.fail(0, &[opcode::WRITE], 0x4281);
    slow(&mirror, 1);
    slow(&mirror, 2);
    mirror.submit_write(1, 0, 1);
    drain(&mirror);
    let record = mirror.one_record();
    assert_eq!((record.tail.reasons(), record.tail.owned()), (reason::COMPONENT_FAILURE, 1));
    assert_eq!((record.tail.failed(), record.tail.stopped()), (0b001, 0b110));
    assert_eq!((record.components[0].status(), record.components[0].fragment()), (0x4281, 0));
    for copy in [1, 2] {
        let issued = record.components[copy as usize].fragment() as usize;
        assert!(issued < BLOCKS as usize, "copy {copy}: {issued} fragments");
        assert_eq!(received(&mut mirror, copy), issued);
    }
    mirror.mend();
    resubmit(&mut mirror, &record);
    assert_eq!(mirror.machine.completion(0).status(), 0);
    mirror.machine.assert_clean(|_| false);
}

/// Cuts copy 0 into extents of four blocks, of which the second has these actions.
fn with_actions(mirror: &mut Mirror, read: u8, write: u8) {
    let allocation = AllocationEntry::default()
        .with_first_extent(2_000)
        .with_columns(1)
        .with_stripe_shift(2)
        .with_extent_shift(2)
        .with_valid(1);
    let first = ExtentEntry::default().with_start(1 << 11).with_device(0).with_valid(1);
    let second = first.with_start((1 << 11) + 4).with_read_action(read).with_write_action(write);
    mirror.write(table::EXTENT, 2_000, &first.0);
    mirror.write(table::EXTENT, 2_001, &second.0);
    mirror.write(table::ALLOCATION, 100, &allocation.0);
}

#[test]
fn an_extent_that_faults_stops_its_plan() {
    let mut mirror = Mirror::start(read_policy::PREFERRED, forgiving(), forgiving());
    with_actions(&mut mirror, extent_action::GO, extent_action::FAULT);
    mirror.submit_write(1, 0, 1);
    let record = mirror.one_record();
    assert_eq!((record.tail.reasons(), record.tail.owned()), (reason::WRITE_FAULT, 1));
    assert_eq!((record.tail.failed(), record.tail.done() | record.tail.stopped()), (0, ALL));
    assert_eq!((record.tail.stopped() & 1, record.components[0].fragment()), (1, 1));
    assert_eq!(mirror.media(0, 0, 4), content(1, PAGE)[..4 * BLOCK]);
    assert_eq!(mirror.media(0, 4, 4), [0; 4 * BLOCK]);
    // It is the control path's to make room there, and to give it back.
    with_actions(&mut mirror, extent_action::GO, extent_action::GO);
    resubmit(&mut mirror, &record);
    assert_eq!(mirror.machine.completion(0).status(), 0);
    (0..COPIES).for_each(|copy| assert_eq!(mirror.media(copy, 0, BLOCKS), content(1, PAGE)));

    with_actions(&mut mirror, extent_action::FAULT, extent_action::GO);
    let buffer = mirror.machine.platform.allocate(PAGE).expect("memory");
    let read = plain::command(opcode::READ, DISK, 0, BLOCKS as u16, &buffer);
    mirror.machine.queues[0].submit(read).expect("room");
    mirror.machine.queues[0].ring().expect("a doorbell");
    let record = mirror.one_record();
    assert_eq!((record.tail.reasons(), record.tail.owned()), (reason::READ_FAULT, 1));
    assert_eq!((record.tail.begun(), record.tail.stopped(), record.components[0].fragment()), (1, 1, 1));
    mirror.none_completed();
    complete(&mut mirror, &record, 0x281);
    assert_eq!(mirror.machine.completion(0).status(), 0x281);
    // What does not touch it is executed.
    assert_eq!(mirror.machine.execute(0, plain::command(opcode::READ, DISK, 0, 4, &buffer)), 0);
    mirror.machine.assert_clean(|_| false);
}

fn set_divert(mirror: &mut Mirror, first: u64, last: u64, valid: u8) {
    let range = DivertEntry::default().with_first(first).with_last(last).with_valid(valid);
    mirror.write(table::DIVERT, 9, &range.0);
}

#[test]
fn what_touches_a_divert_range_is_the_control_paths() {
    let mut mirror = Mirror::start(read_policy::PREFERRED, forgiving(), forgiving());
    let plan: PlanEntry = {
        let machine = &mut mirror.machine;
        machine.card.table_record(&mut machine.platform, table::PLAN, PLAN).expect("the template")
    };
    mirror.write(table::PLAN, PLAN, &plan.with_first_divert(8).with_diverts(2).0);
    set_divert(&mut mirror, 16, 23, 1);
    assert_eq!(mirror.put(8, 1), 0);
    assert_eq!(mirror.put(24, 2), 0);
    (0..COPIES).for_each(|copy| assert_eq!(received(&mut mirror, copy), 2));
    for lba in [9, 16, 23] {
        mirror.submit_write(1, lba, 3);
        let record = mirror.one_record();
        assert_eq!((record.tail.reasons(), record.tail.owned()), (reason::DIVERT, 1));
        let sets = [record.tail.begun(), record.tail.done(), record.tail.failed(), record.tail.stopped()];
        assert_eq!(sets, [0; 4], "nothing was begun");
        assert_eq!((record.command.starting_lba(), record.tail.blocks()), (lba, 8));
        mirror.none_completed();
        (0..COPIES).for_each(|copy| assert_eq!(received(&mut mirror, copy), 0));
        if lba == 16 {
            complete(&mut mirror, &record, 0x281);
            assert_eq!(mirror.machine.completion(0).status(), 0x281);
        } else {
            // The control path's own command passes.
            resubmit(&mut mirror, &record);
            assert_eq!(mirror.machine.completion(0).status(), 0);
            (0..COPIES).for_each(|copy| assert_eq!(received(&mut mirror, copy), 1));
        }
    }
    let buffer = mirror.machine.platform.allocate(PAGE).expect("memory");
    let read = plain::command(opcode::READ, DISK, 23, 1, &buffer);
    mirror.machine.queues[0].submit(read).expect("room");
    mirror.machine.queues[0].ring().expect("a doorbell");
    let record = mirror.one_record();
    assert_eq!(record.tail.reasons(), reason::DIVERT);
    complete(&mut mirror, &record, 0);
    assert_eq!(mirror.machine.completion(0).status(), 0);
    // A command that is refused is not diverted.
    let beyond = plain::command(opcode::WRITE, DISK, (1 << 11) - 4, 8, &buffer);
    set_divert(&mut mirror, 0, (1 << 48) - 1, 1);
    let out_of_range = status::LBA_OUT_OF_RANGE | status::DNR;
    assert_eq!(mirror.machine.execute(0, beyond), out_of_range);
    set_divert(&mut mirror, 0, (1 << 48) - 1, 0);
    assert_eq!(mirror.put(16, 4), 0);
    assert_eq!(mirror.get(16), (0, content(4, PAGE)));
    mirror.machine.assert_clean(|_| false);
}

#[test]
fn what_hardware_does_not_execute_is_the_control_paths() {
    let mut mirror = Mirror::start(read_policy::PREFERRED, forgiving(), forgiving());
    let buffer = mirror.machine.platform.allocate(PAGE).expect("memory");
    // Two ranges to deallocate.
    let attributes = 1 << 34 | 1;
    let two = |disk: u32| plain::command(opcode::DATASET_MANAGEMENT, disk, attributes, 1, &buffer);
    mirror.machine.queues[0].submit(two(DISK).with_command_id(77)).expect("room");
    mirror.machine.queues[0].ring().expect("a doorbell");
    let record = mirror.one_record();
    assert_eq!((record.tail.reasons(), record.tail.owned()), (reason::NOT_EXECUTABLE, 1));
    assert_eq!((record.tail.begun(), record.tail.stopped(), record.tail.blocks()), (0, 0, 0));
    let command = record.command;
    assert_eq!((command.opcode(), command.command_id()), (opcode::DATASET_MANAGEMENT, 77));
    assert_eq!((command.starting_lba(), command.prp1()), (attributes, buffer.iova().0));
    mirror.none_completed();
    complete(&mut mirror, &record, 0);
    assert_eq!(mirror.machine.completion(0).status(), 0);
    // It is not for hardware when it is given back, either.
    mirror.machine.queues[0].submit(two(DISK)).expect("room");
    mirror.machine.queues[0].ring().expect("a doorbell");
    let record = mirror.one_record();
    resubmit(&mut mirror, &record);
    let record = mirror.one_record();
    assert_eq!(record.tail.reasons(), reason::NOT_EXECUTABLE);
    complete(&mut mirror, &record, 0);
    assert_eq!(mirror.machine.completion(0).status(), 0);
    assert_eq!(mirror.machine.execute(0, two(0)), status::INVALID_FIELD | status::DNR, "without a template");
    mirror.machine.assert_clean(|_| false);
}

#[test]
fn a_compare_asks_one_copy_and_its_failure_is_the_clients() {
    let mut mirror = Mirror::start(read_policy::ROUND_ROBIN, forgiving(), forgiving());
    assert_eq!(mirror.put(8, 1), 0);
    (0..COPIES).for_each(|copy| assert_eq!(received(&mut mirror, copy), 1));
    let buffer = mirror.machine.platform.allocate(PAGE).expect("memory");
    for (token, expected) in [(1, 0), (2, plan_status::COMPARE_FAILURE), (1, 0)] {
        buffer.write(0, &content(token, PAGE));
        let status = mirror.machine.execute(0, plain::command(opcode::COMPARE, DISK, 8, 8, &buffer));
        assert_eq!(status & !status::DNR, expected);
        let asked: usize = (0..COPIES).map(|copy| received(&mut mirror, copy)).sum();
        assert_eq!(asked, 1);
    }
    assert_eq!(mirror.records(), Vec::new());
    assert_eq!(mirror.states().0, [1; COPIES as usize]);
    // Over a border of the plain disk: its pieces are compared each on its SSD.
    buffer.write(0, &content(9, PAGE));
    assert_eq!(mirror.machine.execute(0, plain::command(opcode::WRITE, 0, 4, 8, &buffer)), 0);
    assert_eq!(mirror.machine.execute(0, plain::command(opcode::COMPARE, 0, 4, 8, &buffer)), 0);
    buffer.fill(7 * BLOCK, 1, 0xEE);
    let status = mirror.machine.execute(0, plain::command(opcode::COMPARE, 0, 4, 8, &buffer));
    assert_eq!(status & !status::DNR, plan_status::COMPARE_FAILURE);
    mirror.machine.assert_clean(|_| false);
}

/// Under load, every command ends once, and what was not aborted is on all copies.
#[test]
fn plans_are_taken_and_given_back_under_load() {
    const PAGES: u64 = 8;
    const WRITES: u16 = 200;
    for seed in 1..3 {
        let mut random = fork(seed, "take-overs");
        let mut mirror = narrow(4, forgiving());
        for ssd in 0..COPIES {
            let kind = FaultKind::Delay { shortest_ns: 20_000, longest_ns: 80_000 };
            mirror.machine.handle.start_fault(&format!("nvme{ssd}"), Fault::new(kind));
        }
        // Commands under way, by identifier.
        let mut open: BTreeMap<u16, ()> = BTreeMap::new();
        let (mut taken, mut aborted, mut next) = (0, 0, 0u16);
        let mut counts = BTreeMap::<u16, u32>::new();
        while next < WRITES || !open.is_empty() {
            while next < WRITES && open.len() < 12 {
                mirror.submit_write(next, random.random_range(0..PAGES) * BLOCKS, u64::from(next) + 1);
                open.insert(next, ());
                next += 1;
            }
            mirror.machine.handle.run_for_ns(random.random_range(2_000..60_000)).expect("the card works");
            for plan in latest(&mut mirror, next) {
                // It may have ended since.
                let done = match random.random_range(0..24) {
                    0 => abort(&mut mirror, plan),
                    1 | 2 => take_over(&mut mirror, plan),
                    _ => continue,
                };
                assert!(matches!(done, Ok(()) | Err(CardError::Plan { .. })), "{done:?}");
            }
            for record in mirror.machine.card.take_exceptions(100).expect("sound records") {
                assert_eq!(
                    (record.tail.reasons(), record.tail.owned()),
                    (reason::TAKE_OVER, 1),
                    "{record:x?}"
                );
                taken += 1;
                if random.random_bool(0.2) {
                    abort(&mut mirror, record.handle()).expect("it is owned");
                } else {
                    resubmit(&mut mirror, &record);
                }
            }
            while let Some(completion) = mirror.machine.queues[0].poll().expect("a sound queue") {
                assert_eq!(open.remove(&completion.command_id()), Some(()), "it ends once");
                assert!([0, ABORTED].contains(&completion.status()), "{:#x}", completion.status());
                aborted += u32::from(completion.status() == ABORTED);
                *counts.entry(completion.status()).or_default() += 1;
            }
        }
        assert!(taken > 20 && aborted > 20 && counts[&0] > 50, "seed {seed}: {taken} taken, {counts:?}");
        // An aborted write leaves its blocks undefined.
        for page in 0..PAGES {
            assert_eq!(mirror.put(page * BLOCKS, 1_000 + page), 0);
            let copies = (0..COPIES).map(|copy| mirror.media(copy, page * BLOCKS, BLOCKS));
            copies.for_each(|found| assert_eq!(found, content(1_000 + page, PAGE)));
        }
        assert_eq!(under_way(&mut mirror), []);
        mirror.machine.assert_clean(|_| false);
    }
}
