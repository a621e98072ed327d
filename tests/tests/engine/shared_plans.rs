//! Plans that an application decides on instead of the engine: diverted, taken over, given back, aborted, completed.

use std::path::Path;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use volplane::vaapi::{StorageExtent, Tables, VaapiError};
use volplane::{
    BlockService, ExceptionRecord, Operation, PlanHandle, PlanOwner, ServiceError, SharedPlans, StopError,
    VdHandle,
};
use volplane_abi::plan::{plan_status, reason};
use volplane_abi::{opcode, status};
use volplane_driver::CardError;
use volplane_sim::{Fault, FaultKind};

use super::mirror::{compare, start, MirrorRig};
use super::rig::{seed, Executor, LIMIT, LOOK};
use super::workload::Workload;
use volplane::software::Components;

const DISK: VdHandle = VdHandle(0);
const PLAIN: VdHandle = VdHandle(1);
const ABORTED: u16 = plan_status::ABORT_REQUESTED | status::DNR;

fn divert(rig: &mut MirrorRig, disk: VdHandle, blocks: std::ops::Range<u64>) -> Result<(), VaapiError> {
    rig.engine.io_add_divert_range(disk, blocks, LIMIT)
}

fn undivert(rig: &mut MirrorRig, disk: VdHandle, blocks: std::ops::Range<u64>) {
    let (control, mut tables) = rig.engine.vaapi();
    control.iop_remove_divert_range(&mut tables, disk, blocks).expect("it is there");
}

/// Starts a write of four blocks of `fill`.
fn submit_write(rig: &mut MirrorRig, disk: VdHandle, lba: u64, fill: u8) {
    let memory = rig.engine.allocate(4 * 512).expect("memory");
    memory.fill(0, 4 * 512, fill);
    let write = Operation::Write { lba, blocks: 4, force_unit_access: false };
    rig.submit(disk.0.into(), write, Some(memory), 77);
}

/// The next plan that is handed up, and nothing completes meanwhile.
fn handed_up(rig: &mut MirrorRig, disk: VdHandle) -> ExceptionRecord {
    handed_up_beside(rig, disk, 0)
}

/// The same, while that many operations complete.
fn handed_up_beside(rig: &mut MirrorRig, disk: VdHandle, completing: usize) -> ExceptionRecord {
    let deadline = rig.engine.now() + LIMIT;
    let mut done = Vec::new();
    loop {
        rig.engine.poll(&mut done).expect("the engine works");
        assert!(done.len() <= completing, "{done:?}");
        if let Some(record) = rig.engine.io_get_plan_vd(disk).expect("the engine works") {
            return record;
        }
        let now = rig.engine.now();
        assert!(now < deadline, "nothing was handed up");
        rig.engine.wait(now + LOOK).expect("the engine works");
    }
}

/// The status of the one operation that is outstanding.
fn outcome(rig: &mut MirrorRig) -> u16 {
    let done = rig.settle();
    assert_eq!((done.len(), done[0].tag), (1, 77));
    done[0].result.err().map_or(status::SUCCESS, |error| error.status)
}

fn problem(result: Result<(), VaapiError>) -> &'static str {
    match result {
        Err(VaapiError::Card { source: CardError::Plan { problem, .. }, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn diverted_commands_are_the_applications_to_end() {
    let mut rig = start(Path::new("."), seed(51));
    for disk in [DISK, PLAIN] {
        rig.engine.keep_exceptions(disk).expect("a disk");
        divert(&mut rig, disk, 16..24).expect("a range");
        let write = |fill| move |rig: &mut MirrorRig| submit_write(rig, disk, 21, fill);
        write(1)(&mut rig);
        let record = handed_up(&mut rig, disk);
        let tail = record.tail;
        assert_eq!((tail.reasons(), tail.owned(), tail.disk()), (reason::DIVERT, 1, disk.0));
        assert_eq!((record.command.starting_lba(), record.next_exception(None)), (21, None));
        assert_eq!(rig.engine.io_get_plan().expect("the engine works"), None);
        rig.compare_media();
        // Nothing of it has a result to keep.
        let nothing = rig.engine.io_resubmit_plan(record.handle(), Components::NONE);
        assert!(problem(nothing).contains("must be"));
        let copies = if disk == DISK { Components(7) } else { Components(1) };
        rig.engine.io_resubmit_plan(record.handle(), copies).expect("it is owned");
        assert_eq!(outcome(&mut rig), status::SUCCESS);
        let bytes = rig.bytes(disk.0.into(), 21, 4);
        rig.shadow[usize::from(disk.0)][bytes].fill(1);
        rig.compare_media();
        assert!(problem(rig.engine.io_resubmit_plan(record.handle(), Components::ALL)).contains("gone"));
        assert!(problem(rig.engine.io_abort_plan(record.handle())).contains("gone"));

        write(2)(&mut rig);
        let record = handed_up(&mut rig, disk);
        rig.engine.io_abort_plan(record.handle()).expect("it is owned");
        assert_eq!(outcome(&mut rig), ABORTED);
        write(3)(&mut rig);
        let record = handed_up(&mut rig, disk);
        rig.engine.io_complete_plan(record.handle(), 0x4286).expect("it is owned");
        assert_eq!(outcome(&mut rig), 0x4286);
        rig.compare_media();

        // Beside the range, and when there is none any more.
        for lba in [12, 24] {
            submit_write(&mut rig, disk, lba, 4);
            assert_eq!(outcome(&mut rig), status::SUCCESS);
        }
        undivert(&mut rig, disk, 16..24);
        write(5)(&mut rig);
        assert_eq!(outcome(&mut rig), status::SUCCESS);
        for (lba, fill) in [(12, 4), (24, 4), (21, 5)] {
            let bytes = rig.bytes(disk.0.into(), lba, 4);
            rig.shadow[usize::from(disk.0)][bytes].fill(fill);
        }
        rig.compare_all();
        // A wrong range changes nothing.
        for wrong in [0..0, 9..9, 0..1 << 40] {
            let error = divert(&mut rig, disk, wrong).expect_err("no range");
            assert!(matches!(error, VaapiError::Argument { call: "IO_AddDivertRange", .. }), "{error}");
        }
        write(5)(&mut rig);
        assert_eq!(outcome(&mut rig), status::SUCCESS);
    }
    assert_eq!(compare(&mut rig), Components(7));
    assert_eq!(rig.engine.take_events(), []);
    rig.assert_clean();
    rig.stop();
}

/// A command that is stuck holds its epoch; one that is the application's does not.
#[test]
fn an_epoch_is_open_while_a_command_of_it_is_the_cards() {
    let mut rig = start(Path::new("."), seed(54));
    rig.engine.keep_exceptions(DISK).expect("a disk");
    divert(&mut rig, DISK, 16..24).expect("a range");
    submit_write(&mut rig, DISK, 16, 1);
    let kept = handed_up(&mut rig, DISK);
    submit_write(&mut rig, DISK, 16, 2);
    divert(&mut rig, DISK, 100..101).expect("neither of the two is the card's");
    rig.engine.io_resubmit_plan(kept.handle(), Components::ALL).expect("it is owned");
    let second = handed_up_beside(&mut rig, DISK, 1);
    rig.engine.io_resubmit_plan(second.handle(), Components::ALL).expect("it is owned");
    assert_eq!(rig.settle().len(), 1);
    let delay = FaultKind::Delay { shortest_ns: 400_000, longest_ns: 500_000 };
    let fault = rig.handle.start_fault("ssd-0", Fault::new(delay));
    submit_write(&mut rig, PLAIN, 7, 3);
    let now = rig.engine.now();
    rig.engine.wait(now + Duration::from_micros(20)).expect("the engine works");
    let epoch = {
        let (_, mut tables) = rig.engine.vaapi();
        Tables::commit(&mut tables, &[]).expect("a commit")
    };
    let error = rig.engine.wait_epoch(epoch, Duration::from_micros(100)).expect_err("it is slow");
    assert!(matches!(error, VaapiError::EpochOpen { .. }), "{error}");
    // A later epoch, under another command, does not keep the first open.
    rig.handle.stop_fault(fault);
    submit_write(&mut rig, PLAIN, 70, 4);
    rig.engine.wait_epoch(epoch, LIMIT).expect("it ends");
    assert_eq!(rig.settle().len(), 2);
    for (disk, lba, fill) in [(0, 16, 2), (1, 7, 3), (1, 70, 4)] {
        let bytes = rig.bytes(disk, lba, 4);
        rig.shadow[disk][bytes].fill(fill);
    }
    rig.compare_media();
    assert_eq!(compare(&mut rig), Components(7));
    rig.assert_clean();
    rig.stop();
}

#[test]
fn what_nobody_keeps_is_ended_by_the_engine() {
    let mut rig = start(Path::new("."), seed(52));
    let gone = PlanHandle { slot: 0, generation: 0x7FFF_FFFF };
    assert!(problem(rig.engine.io_chg_plan_vd_own_inap(gone)).contains("gone"));
    let error = rig.engine.io_get_plan_vd_all_inap(DISK, PlanOwner::ControlPath).expect_err("not kept");
    assert!(error.to_string().contains("keep_exceptions"), "{error}");
    assert!(rig.engine.keep_exceptions(VdHandle(99)).is_err());
    divert(&mut rig, DISK, 16..24).expect("a range");
    submit_write(&mut rig, DISK, 16, 1);
    assert_eq!(outcome(&mut rig), status::INTERNAL_ERROR | status::DNR);
    let told: Vec<String> = rig.engine.take_events().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["mirrored: a command ended as an exception (divert range): Internal Error (006h)"]);
    // Kept, and then not any more.
    rig.engine.keep_exceptions(DISK).expect("a disk");
    submit_write(&mut rig, DISK, 16, 2);
    let taken = handed_up(&mut rig, DISK);
    rig.engine.io_resubmit_plan(taken.handle(), Components::ALL).expect("it is owned");
    assert_eq!(outcome(&mut rig), status::SUCCESS);
    submit_write(&mut rig, DISK, 16, 3);
    rig.handle.run_for_ns(100_000).expect("the card works");
    rig.engine.poll(&mut Vec::new()).expect("the engine works");
    rig.engine.end_exceptions(DISK).expect("the engine works");
    assert_eq!(outcome(&mut rig), status::INTERNAL_ERROR | status::DNR);
    let bytes = rig.bytes(0, 16, 4);
    rig.shadow[0][bytes].fill(2);
    rig.compare_media();
    // Who stops ends what is kept.
    rig.engine.keep_exceptions(DISK).expect("a disk");
    submit_write(&mut rig, DISK, 16, 4);
    rig.handle.run_for_ns(100_000).expect("the card works");
    rig.engine.poll(&mut Vec::new()).expect("the engine works");
    rig.assert_clean();
    rig.stop();
}

const SSDS: [&str; 4] = ["ssd-0", "ssd-1", "ssd-2", "ssd-3"];

/// Makes all SSDs so slow that a plan is found under way.
fn slow(rig: &mut MirrorRig) {
    let delay = FaultKind::Delay { shortest_ns: 300_000, longest_ns: 400_000 };
    for ssd in SSDS {
        rig.handle.start_fault(ssd, Fault::new(delay.clone()));
    }
}

/// The one plan of the mirrored disk, as soon as it is under way.
fn under_way(rig: &mut MirrorRig, owner: PlanOwner) -> PlanHandle {
    let (mut listed, deadline) = (Vec::new(), rig.engine.now() + LIMIT);
    while listed.is_empty() {
        rig.engine.poll(&mut Vec::new()).expect("the engine works");
        rig.handle.run_for_ns(10_000).expect("the card works");
        listed = rig.engine.io_get_plan_vd_all_inap(DISK, owner).expect("the list");
        assert!(rig.engine.now() < deadline, "it was never under way");
    }
    assert_eq!(listed.len(), 1);
    listed[0]
}

/// Each call hits the plan in the hands that it names, or nobody.
#[test]
fn a_plan_under_way_is_taken_once_or_aborted() {
    let mut rig = start(Path::new("."), seed(55));
    slow(&mut rig);
    rig.engine.keep_exceptions(DISK).expect("a disk");
    submit_write(&mut rig, DISK, 40, 1);
    let plan = under_way(&mut rig, PlanOwner::Accelerated);
    assert!(problem(rig.engine.io_resubmit_plan(plan, Components::ALL)).contains("not the control path's"));
    assert!(problem(rig.engine.io_complete_plan(plan, 0)).contains("not the control path's"));
    let old = PlanHandle { generation: plan.generation ^ 1, ..plan };
    assert!(problem(rig.engine.io_abort_plan(old)).contains("gone"));
    rig.engine.io_chg_plan_vd_own_inap(plan).expect("it is under way");
    assert!(problem(rig.engine.io_chg_plan_vd_own_inap(plan)).contains("has asked for it"));
    let record = handed_up(&mut rig, DISK);
    assert!(problem(rig.engine.io_resubmit_plan(plan, Components::ALL)).contains("gone"));
    assert!(problem(rig.engine.io_chg_plan_vd_own_inap(record.handle())).contains("has it"));
    rig.engine.io_resubmit_plan(record.handle(), Components::ALL).expect("it is owned");
    let again = under_way(&mut rig, PlanOwner::Accelerated);
    rig.engine.io_abort_plan(again).expect("it is under way");
    assert!(problem(rig.engine.io_abort_plan(again)).contains("aborted before"));
    let before = rig.engine.now();
    assert_eq!(outcome(&mut rig), ABORTED);
    assert!(rig.engine.now() > before, "what was issued is waited for");
    assert!(problem(rig.engine.io_abort_plan(again)).contains("gone"));
    rig.handle.stop_faults();
    submit_write(&mut rig, DISK, 40, 2);
    assert_eq!(outcome(&mut rig), status::SUCCESS);
    let bytes = rig.bytes(0, 40, 4);
    rig.shadow[0][bytes].fill(2);
    rig.compare_all();
    assert_eq!((compare(&mut rig), rig.engine.take_events()), (Components(7), Vec::new()));
    rig.assert_clean();
    rig.stop();
}

/// The record says what went wrong, and where; the plan goes on with the copies that do not have the write.
#[test]
fn a_failure_that_is_not_forgiven_is_handed_up() {
    let mut rig = start(Path::new("."), seed(56));
    rig.engine.keep_exceptions(DISK).expect("a disk");
    let mut plan = rig.engine.plan(DISK);
    plan.write.continuation = Components(0b101);
    let (control, mut tables) = rig.engine.vaapi();
    control.ssap_set_io_plan(&mut tables, DISK, &plan).expect("a plan");
    let error = FaultKind::Error { status: 0x4280, after_effect: false };
    rig.handle.start_fault("ssd-1", Fault::new(error));
    // The border of two units of copy 1, of which the second lies on ssd1.
    submit_write(&mut rig, DISK, 62, 3);
    let record = handed_up(&mut rig, DISK);
    let tail = &record.tail;
    assert_eq!((tail.reasons() & reason::COMPONENT_FAILURE, tail.owned(), tail.held()), (1, 1, 0));
    assert_eq!((tail.disk(), tail.blocks(), tail.present(), tail.readable()), (0, 4, 7, 7));
    assert_eq!((tail.begun(), tail.failed(), tail.refused(), tail.out()), (7, 2, 0, 0));
    assert_eq!(tail.done() ^ tail.stopped(), 0b101);
    let (number, component) = record.next_exception(None).expect("one failed");
    let told = (component.status(), component.path(), component.fragment(), component.closed());
    assert_eq!((number, told), (1, (0x4280, 1, 1, 0)));
    assert_eq!(record.next_exception(Some(1)), None);
    let command = &record.command;
    assert_eq!((command.opcode(), command.starting_lba(), command.block_count_z()), (opcode::WRITE, 62, 3));
    let events: Vec<String> = rig.engine.take_events().iter().map(ToString::to_string).collect();
    assert_eq!(events, ["mirrored: copy 1 failed on ssd1: Write Fault (280h)"]);
    rig.handle.stop_faults();
    let rest = Components(tail.failed() | tail.stopped());
    rig.engine.io_resubmit_plan(record.handle(), rest).expect("it is owned");
    assert_eq!(outcome(&mut rig), status::SUCCESS);
    let bytes = rig.bytes(0, 62, 4);
    rig.shadow[0][bytes].fill(3);
    rig.compare_all();
    assert_eq!((compare(&mut rig), rig.engine.take_events()), (Components(7), Vec::new()));
    rig.assert_clean();
    rig.stop();
}

/// A write into an extent that has no place waits until the application gives it one.
#[test]
fn a_thin_extent_gets_its_place_when_it_is_written() {
    let mut rig = start(Path::new("."), seed(57));
    rig.engine.keep_exceptions(PLAIN).expect("a disk");
    let (control, mut tables) = rig.engine.vaapi();
    control.ap_set_vd_storage_extent(&mut tables, PLAIN, 1, 0, StorageExtent::thin()).expect("an extent");
    submit_write(&mut rig, PLAIN, 2_046, 5);
    let record = handed_up(&mut rig, PLAIN);
    let tail = &record.tail;
    assert_eq!((tail.reasons(), tail.stopped(), tail.done()), (reason::WRITE_FAULT, 1, 0));
    assert_eq!(record.components[0].fragment(), 1, "up to the border");
    // 9 MiB, where the extent lay.
    let place = StorageExtent::new(0, 18_432);
    let (control, mut tables) = rig.engine.vaapi();
    control.ap_set_vd_storage_extent(&mut tables, PLAIN, 1, 0, place).expect("an extent");
    rig.engine.io_resubmit_plan(record.handle(), Components(1)).expect("it is owned");
    assert_eq!(outcome(&mut rig), status::SUCCESS);
    let bytes = rig.bytes(1, 2_046, 4);
    rig.shadow[1][bytes].fill(5);
    rig.compare_all();
    rig.assert_clean();
    rig.stop();
}

/// A client waits for an application as long as for a device.
#[test]
fn a_plan_that_is_kept_too_long_fails_the_service() {
    let mut rig = start(Path::new("."), seed(58));
    rig.engine.keep_exceptions(PLAIN).expect("a disk");
    divert(&mut rig, PLAIN, 16..24).expect("a range");
    let since = rig.engine.now();
    submit_write(&mut rig, PLAIN, 16, 1);
    let kept = handed_up(&mut rig, PLAIN);
    let error = loop {
        if let Err(error) = rig.engine.poll(&mut Vec::new()) {
            break error;
        }
        let now = rig.engine.now();
        assert!(now < since + 2 * LIMIT, "it waits for ever");
        rig.engine.wait(now + LIMIT / 16).expect("the engine works");
    };
    assert!(matches!(error, ServiceError::Unanswered { disk: PLAIN, .. }), "{error}");
    assert!(rig.engine.now() > since + LIMIT);
    rig.engine.io_abort_plan(kept.handle()).expect("it is still owned");
    assert!(matches!(rig.engine.stop(), Err(StopError::Service(_))));
}

/// A write that every copy has when it is taken over is not written again.
#[test]
fn what_a_plan_has_done_is_kept() {
    let mut rig = start(Path::new("."), seed(54));
    rig.engine.keep_exceptions(DISK).expect("a disk");
    slow(&mut rig);
    submit_write(&mut rig, DISK, 40, 9);
    under_way(&mut rig, PlanOwner::ControlPath);
    let record = handed_up(&mut rig, DISK);
    assert_eq!((record.tail.reasons(), record.tail.done()), (reason::TAKE_OVER, 7));
    // Whatever was written now would fail, and be told.
    let error = FaultKind::Error { status: 0x4280, after_effect: false };
    for ssd in SSDS {
        rig.handle.start_fault(ssd, Fault::new(error.clone()));
    }
    rig.engine.io_resubmit_plan(record.handle(), Components::NONE).expect("it is owned");
    assert_eq!(outcome(&mut rig), status::SUCCESS);
    rig.handle.stop_faults();
    assert_eq!(rig.engine.take_events(), []);
    let bytes = rig.bytes(0, 40, 4);
    rig.shadow[0][bytes].fill(9);
    rig.compare_all();
    assert_eq!(compare(&mut rig), Components(7));
    rig.assert_clean();
    rig.stop();
}

/// Random operations, while ranges come and go and plans are taken over: every one is given back, and no client
/// notices.
#[test]
fn plans_change_hands_under_load() {
    let seed = seed(53);
    let mut rig = start(Path::new("."), seed);
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5A5A);
    for disk in [DISK, PLAIN] {
        rig.engine.keep_exceptions(disk).expect("a disk");
    }
    // Slow enough to be found under way.
    let delay = FaultKind::Delay { shortest_ns: 20_000, longest_ns: 200_000 };
    for ssd in ["ssd-0", "ssd-1"] {
        rig.handle.start_fault(ssd, Fault::new(delay.clone()));
    }
    let (mut given_back, mut taken_over, mut waiting) = ([0; 2], 0, Vec::<PlanHandle>::new());
    let (mut ranges, mut added) = (Vec::new(), 0);
    let mut workload = Workload::new(&mut rig, seed, 32);
    workload.run_with(&mut rig, 2_400, |rig| {
        while let Some(record) = rig.engine.io_get_plan().expect("the engine works") {
            let reasons = record.tail.reasons();
            assert_eq!((reasons & !(reason::DIVERT | reason::TAKE_OVER), record.tail.owned()), (0, 1));
            given_back[usize::from(reasons & reason::TAKE_OVER != 0)] += 1;
            waiting.push(record.handle());
        }
        // Some wait a while.
        for plan in std::mem::take(&mut waiting) {
            if random.random_bool(0.3) {
                waiting.push(plan);
            } else {
                rig.engine.io_resubmit_plan(plan, Components::ALL).expect("it is owned");
            }
        }
        match random.random_range(0..12) {
            0 if ranges.len() < 8 => {
                let disk = if random.random_bool(0.5) { DISK } else { PLAIN };
                let first = random.random_range(0..3_840);
                let blocks = first..first + random.random_range(1..256);
                // Plans that wait for us hold no epoch, so this ends, and frees what earlier ranges had.
                divert(rig, disk, blocks.clone()).unwrap_or_else(|error| panic!("{error}"));
                ranges.push((disk, blocks));
                added += 1;
            }
            2 | 3 if !ranges.is_empty() => {
                let (disk, blocks) = ranges.swap_remove(random.random_range(0..ranges.len()));
                undivert(rig, disk, blocks);
            }
            1 => {
                let owner = PlanOwner::ControlPath;
                taken_over += rig.engine.io_get_plan_vd_all_inap(DISK, owner).expect("the list").len();
            }
            _ => {}
        }
    });
    println!("{given_back:?} given back, {taken_over} taken over, {added} ranges");
    assert!(given_back.iter().all(|&count| count > 20) && taken_over >= given_back[1], "{given_back:?}");
    // More than the table has room for, were any of them not free again.
    assert!(added > 40, "{added} ranges");
    for (disk, blocks) in ranges {
        undivert(&mut rig, disk, blocks);
    }
    rig.compare_all();
    assert_eq!(compare(&mut rig), Components(7));
    assert_eq!(rig.engine.take_events(), []);
    rig.assert_clean();
    rig.stop();
}
