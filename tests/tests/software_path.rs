//! The software data path as a block service on simulated SSDs, in a machine without a card.

#[path = "engine/io_plans.rs"]
mod io_plans;
#[path = "engine/mirror.rs"]
mod mirror;
#[path = "engine/moves.rs"]
mod moves;
#[path = "engine/rig.rs"]
mod rig;
#[path = "engine/shared_plans.rs"]
mod shared_plans;
#[path = "engine/workload.rs"]
mod workload;

use std::path::Path;

use rig::{options, seed, three_disks, Rig};
use volplane::{
    BlockService, EngineOptions, IoOrder, IoTarget, Operation, OwnPlans, SharedPlans, SoftwareEngine,
    VdHandle,
};
use volplane_abi::plan::plan_status;
use volplane_abi::{opcode, status, SubmissionEntry};
use volplane_sim::{
    CommandFilter, CommandRecord, Execution, Fault, FaultKind, Moment, SimPlatform, SimulatorConfig,
};
use workload::Workload;

/// What the tests of mirrors and of plans run on.
type Tested = SoftwareEngine<SimPlatform>;
type SoftwareRig = Rig<Tested>;

fn start(seed: u64, options: &EngineOptions, adjust: impl FnOnce(&mut SimulatorConfig)) -> SoftwareRig {
    Rig::start(&three_disks(128, "memory = true"), Path::new("."), seed, options, adjust)
}

/// Random operations of every kind, then all of every disk, by way of the service and on the media.
fn random_operations(
    default_seed: u64,
    count: u64,
    options: &EngineOptions,
    adjust: impl FnOnce(&mut SimulatorConfig),
) {
    let seed = seed(default_seed);
    let mut rig = start(seed, options, adjust);
    let tally = Workload::new(&mut rig, seed, 24).run(&mut rig, count);
    println!("{tally:?}");
    rig.compare_all();
    rig.assert_clean();
    rig.stop();
    let kinds = [tally.reads, tally.writes, tally.zeroes, tally.deallocations, tally.flushes];
    assert_eq!(kinds.iter().sum::<u64>(), count);
    assert!(kinds.iter().all(|&kind| kind > 0) && tally.deepest > 12, "{tally:?}");
}

#[test]
fn random_operations_on_striped_and_concatenated_disks() {
    random_operations(1, 3_000, &options(), |_| ());
}

#[test]
fn random_operations_through_small_queues_with_late_memory() {
    let small = EngineOptions { queue_entries: 4, path_entries: 3, operations: 16, ..options() };
    random_operations(2, 600, &small, |config| {
        config.visibility_delay_ns = Some((500, 3000));
        for ssd in &mut config.ssds {
            (ssd.latency_ns, ssd.jitter_ns) = (1_000, 10_000);
        }
    });
}

/// Does something to the first commands of an opcode.
struct First {
    opcode: u8,
    left: u64,
    change: fn(Execution) -> Execution,
}

impl CommandFilter for First {
    fn judge(&mut self, command: &CommandRecord, planned: Execution) -> Execution {
        if command.entry.opcode() != self.opcode || self.left == 0 {
            return planned;
        }
        self.left -= 1;
        (self.change)(planned)
    }
}

fn first(opcode: u8, left: u64, change: fn(Execution) -> Execution) -> Option<Box<dyn CommandFilter>> {
    Some(Box::new(First { opcode, left, change }))
}

/// An error that stays is the operation's; one that passes is not seen.
#[test]
fn an_error_of_an_ssd_comes_back_unless_it_passes() {
    let mut rig = start(seed(3), &options(), |_| ());
    let memory = rig.engine.allocate(1 << 20).expect("memory");
    let read = Operation::Read { lba: 0, blocks: 2048 };
    let fail = |planned| Execution { effect: false, status: Some(0x281), ..planned };
    rig.handle.set_filter("ssd-1", first(opcode::READ, u64::MAX, fail));
    let error = rig.execute(0, read, Some(memory.clone())).expect_err("an unrecovered read");
    assert_eq!(error.status & 0x7FF, 0x281, "{error}");
    rig.execute(2, Operation::Read { lba: 0, blocks: 256 }, Some(memory.clone())).expect("another SSD");
    rig.handle.set_filter("ssd-1", first(opcode::READ, 3, fail));
    rig.execute(0, read, Some(memory.clone())).expect("given again");
    rig.handle.set_filter("ssd-1", None);
    rig.execute(0, Operation::Flush, None).expect("a flush");
    rig.compare_all();
    rig.assert_clean();
    rig.stop();
}

/// Commands without an answer: the queue pair is made anew and they are given again, writes and reads.
#[test]
fn what_an_ssd_never_answers_is_given_again() {
    let seed = seed(4);
    let mut rig = start(seed, &options(), |_| ());
    let memory = rig.engine.allocate(1 << 20).expect("memory");
    let lose = |planned| Execution { effect: false, completion: false, ..planned };
    for (code, operation) in [
        (opcode::WRITE, Operation::Write { lba: 0, blocks: 2048, force_unit_access: false }),
        (opcode::READ, Operation::Read { lba: 0, blocks: 2048 }),
        (opcode::FLUSH, Operation::Flush),
        (opcode::DATASET_MANAGEMENT, Operation::Deallocate { lba: 64, blocks: 96 }),
    ] {
        memory.fill(0, 1 << 20, 0x3C);
        rig.handle.set_filter("ssd-0", first(code, 3, lose));
        let buffer = operation.has_buffer().then(|| memory.clone());
        let before = rig.engine.now();
        rig.execute(0, operation, buffer).unwrap_or_else(|error| panic!("{error}"));
        assert!(rig.engine.now() - before >= rig::LIMIT / 4, "{operation}: nothing was lost");
        rig.apply(0, operation, &[0x3C; 1 << 20]);
    }
    rig.handle.set_filter("ssd-0", None);
    Workload::new(&mut rig, seed, 8).run(&mut rig, 100);
    rig.compare_all();
    rig.assert_clean();
    rig.stop();
}

/// An SSD that is gone does nothing any more: its disk's operations fail, those of other disks go on, and what
/// is left stops cleanly.
#[test]
fn an_ssd_that_is_gone_fails_its_own_disk() {
    let mut rig = start(seed(5), &options(), |_| ());
    let memory = rig.engine.allocate(8192).expect("memory");
    let read = Operation::Read { lba: 0, blocks: 1 };
    rig.handle.start_fault("ssd-3", Fault::new(FaultKind::DeadPath(Moment::Beginning)));
    let error = rig.execute(2, read, Some(memory.part(0, 4096))).expect_err("its SSD is gone");
    assert_eq!(error.status & 0x7FF, 0x370, "{error}");
    rig.execute(0, read, Some(memory.part(4096, 512))).expect("another SSD");
    let before = rig.engine.now();
    rig.execute(2, read, Some(memory.part(0, 4096))).expect_err("still gone");
    assert!(rig.engine.now() - before < rig::LIMIT / 4, "known by now");
    let told: Vec<String> = rig.engine.take_events().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["ssd3: gone"]);
    let error = rig.engine.stop().err().expect("a disk cannot be flushed").to_string();
    assert!(error.contains("Host Pathing Error (370h)"), "{error}");
}

/// Whatever waits for an application, the control path finds room for its own commands: else nothing that is diverted
/// could ever be moved.
#[test]
fn plans_that_wait_leave_room_for_the_control_path() {
    let mut rig = start(seed(7), &options(), |_| ());
    let disk = VdHandle(2);
    rig.engine.keep_exceptions(disk).expect("a disk");
    rig.engine.io_add_divert_range(disk, 0..256, rig::LIMIT).expect("a range");
    let memory = rig.engine.allocate(4096).expect("memory");
    memory.fill(0, 4096, 0x21);
    // More than the ring takes.
    for tag in 0..400 {
        rig.submit(2, Operation::Read { lba: tag % 256, blocks: 1 }, Some(memory.clone()), tag);
    }
    rig.engine.poll(&mut Vec::new()).expect("the service works");
    let waiting: Vec<_> =
        std::iter::from_fn(|| rig.engine.io_get_plan().expect("the service works")).collect();
    assert_eq!(waiting.len(), 256);
    let own = rig.engine.iop_create_io_plan().expect("room");
    let write = SubmissionEntry::default().with_opcode(opcode::WRITE).with_prp1(memory.iova().0);
    for _ in 0..64 {
        rig.engine.iop_add_io(own, IoTarget::Disk(disk), write).expect("room");
    }
    rig.engine.io_submit_plan(own, IoOrder::AtOnce).expect("a plan");
    let deadline = rig.engine.now() + rig::LIMIT;
    while (0..64).any(|index| rig.engine.iop_get_error_code(own, index).expect("a command") != Some(0)) {
        let now = rig.engine.now();
        assert!(now < deadline, "the plan does not end");
        rig.engine.wait(now + rig::LOOK).expect("the service works");
    }
    // The oldest first, and none but those.
    for (tag, record) in waiting.iter().enumerate() {
        assert_eq!(record.command.starting_lba(), tag as u64 % 256);
        rig.engine.io_complete_plan(record.handle(), 0).expect("it is owned");
    }
    rig.engine.end_exceptions(disk).expect("the service works");
    let (control, tables) = rig.engine.vaapi();
    control.iop_remove_divert_range(tables, disk, 0..256).expect("a range");
    let failed = rig.settle().iter().filter(|done| done.result.is_err()).count();
    assert!(failed <= 144, "{failed} failed");
    rig.assert_clean();
    rig.stop();
}

/// What the data path's own plans give a device reaches it as it is, whatever a card would say of it.
#[test]
fn raw_commands_of_the_data_path_reach_the_ssd() {
    let mut rig = start(seed(8), &options(), |config| config.record_commands = 100);
    let memory = rig.engine.allocate(4096).expect("memory");
    memory.fill(0, 4096, 0x5C);
    let entry = |code| SubmissionEntry::default().with_opcode(code).with_prp1(memory.iova().0);
    let write = entry(opcode::WRITE).with_namespace_id(1).with_starting_lba(9);
    // No client's opcode, and no namespace of the SSD.
    let commands = [write, entry(0x7F).with_namespace_id(1), entry(opcode::READ).with_namespace_id(9)];
    let (_, data_path) = rig.engine.vaapi();
    let plan = data_path.create_io_plan().expect("room");
    for entry in commands {
        data_path.add_io(plan, 3, entry).expect("room");
    }
    data_path.submit_io_plan(plan).expect("a device");
    rig.handle.take_commands("ssd-3");
    let deadline = rig.engine.now() + rig::LIMIT;
    while !rig.engine.vaapi().1.is_idle() {
        let now = rig.engine.now();
        assert!(now < deadline, "the plan does not end");
        rig.engine.wait(now + rig::LOOK).expect("the service works");
    }
    let (_, data_path) = rig.engine.vaapi();
    let codes =
        [0, 1, 2].map(|index| data_path.io_error_code(plan, index).expect("there").map(|code| code & 0x7FF));
    assert_eq!(codes, [Some(0), Some(status::INVALID_OPCODE), Some(status::INVALID_NAMESPACE)]);
    let reached = rig.handle.take_commands("ssd-3").0;
    let plain = |entry: &SubmissionEntry| entry.with_command_id(0).0;
    let reached: Vec<_> = reached.iter().map(|command| plain(&command.entry)).collect();
    assert_eq!(reached, commands.map(|entry| plain(&entry)));
    let mut media = [0; 4096];
    rig.handle.read_media("ssd-3", 9 * 4096, &mut media).expect("media");
    assert_eq!(media, [0x5C; 4096]);
    // One that is lost ends when its path is made quiet.
    rig.handle.start_fault("ssd-3", Fault::new(FaultKind::DeadPath(Moment::Beginning)));
    let (_, data_path) = rig.engine.vaapi();
    data_path.reinit_io_plan(plan).expect("it has ended");
    data_path.submit_io_plan(plan).expect("a device");
    let read = Operation::Read { lba: 0, blocks: 1 };
    rig.execute(2, read, Some(memory)).expect_err("its SSD is gone");
    let (_, data_path) = rig.engine.vaapi();
    assert_eq!(data_path.io_error_code(plan, 0), Ok(Some(plan_status::ABORTED_SQ_DELETION)));
}

/// The data path's own refusals come back as NVMe statuses, and what nobody executes ends.
#[test]
fn statuses_of_the_data_path_come_back() {
    use volplane::vaapi::VdStatus;
    let mut rig = start(seed(6), &options(), |_| ());
    let memory = rig.engine.allocate(1 << 20).expect("memory");
    let read = Operation::Read { lba: 64, blocks: 64 };
    let (control, tables) = rig.engine.vaapi();
    let entry = control.ri_get_vd_info(tables, VdHandle(0)).expect("an entry");
    assert_eq!(entry.size_blocks(), rig.configuration.disks[0].map.blocks());
    let (control, tables) = rig.engine.vaapi();
    control.ap_set_status_vd(tables, VdHandle(0), VdStatus::Deactivated).expect("deactivated");
    let error = rig.execute(0, read, Some(memory.clone())).expect_err("deactivated");
    assert_eq!(error.status, status::NAMESPACE_NOT_READY | status::DNR, "{error}");
    rig.execute(1, read, Some(memory.clone())).expect("another disk");
    let (control, tables) = rig.engine.vaapi();
    control.ap_set_status_vd(tables, VdHandle(0), VdStatus::Enabled).expect("enabled");

    // A divert range hands commands to the control path, where nobody waits.
    let (control, tables) = rig.engine.vaapi();
    control.io_add_divert_range(tables, VdHandle(0), 100..101).expect("a disk");
    let error = rig.execute(0, read, Some(memory.clone())).expect_err("diverted");
    assert_eq!(error.status, status::INTERNAL_ERROR | status::DNR, "{error}");
    let (control, tables) = rig.engine.vaapi();
    control.iop_remove_divert_range(tables, VdHandle(0), 100..101).expect("a range");
    rig.execute(0, read, Some(memory)).expect("enabled again");
    rig.assert_clean();
    rig.stop();
}
