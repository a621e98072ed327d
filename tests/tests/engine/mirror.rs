//! Mirrored disks of a configuration, on whatever executes them (`Tested`): random operations while SSDs fail, no
//! error for the client, and every copy that is in sync holds what was written.

use std::path::Path;
use std::time::Duration;

use volplane::software::{ComponentState, Components};
use volplane::{BlockService, CompletionMode, EngineOptions, Operation, SubmitError, VdHandle};
use volplane_abi::{opcode, status};
use volplane_sim::{Commands, Fault, FaultKind, Moment};

use super::rig::{options, refused, seed, Executor, Rig};
use super::workload::Workload;
use super::Tested;

pub type MirrorRig = Rig<Tested>;

/// Three copies of different layouts, the first on ssd0, and a plain disk on ssd0 too.
const DISKS: &str = r#"
device = [
  { name = "ssd0", memory = true, size = "16MiB", block_size = 512 },
  { name = "ssd1", memory = true, size = "16MiB", block_size = 512, mdts = 3 },
  { name = "ssd2", memory = true, size = "16MiB", block_size = 512 },
  { name = "ssd3", memory = true, size = "16MiB", block_size = 512 },
]
[[disk]]
name = "mirrored"
block_size = 512
allocation_size = "1MiB"
read_policy = "round-robin"
[[disk.mirror]]
retries = 1
segment = [{ size = 5243392, columns = [{ device = "ssd0", offset = 0 }] }]
[[disk.mirror]]
retries = 1
[[disk.mirror.segment]]
size = 5243392
columns = [{ device = "ssd1", offset = 0 }, { device = "ssd2", offset = "1MiB" }]
stripe_unit = "16KiB"
extent_size = "64KiB"
[[disk.mirror]]
retries = 1
segment = [
  { size = "2MiB", columns = [{ device = "ssd2", offset = "8MiB" }] },
  { size = 3146240, columns = [{ device = "ssd3", offset = 0 }], extent_size = "256KiB" },
]
[[disk]]
name = "plain"
block_size = 512
allocation_size = "1MiB"
segment = [{ size = "2MiB", columns = [{ device = "ssd0", offset = "8MiB" }] }]
"#;

pub fn start(folder: &Path, seed: u64) -> MirrorRig {
    Rig::start(DISKS, folder, seed, &options(), |_| ())
}

fn in_state(rig: &mut MirrorRig, state: ComponentState) -> Components {
    rig.engine.plan(VdHandle(0)).in_state(state)
}

/// Compares the copies that are in sync, and gives them.
pub fn compare(rig: &mut MirrorRig) -> Components {
    let in_sync = in_state(rig, ComponentState::InSync);
    for (copy, map) in rig.configuration.disks[0].maps().enumerate() {
        if in_sync.has(copy) {
            rig.compare_copy(0, map);
        }
    }
    in_sync
}

fn told(rig: &mut MirrorRig) -> String {
    rig.engine.take_events().iter().map(|event| format!("{event}\n")).collect()
}

#[test]
fn copies_stay_equal_when_nothing_fails() {
    let folder = tempfile::tempdir().expect("folder");
    let seed = seed(21);
    let mut rig = start(folder.path(), seed);
    let tally = Workload::new(&mut rig, seed, 24).run(&mut rig, 1_500);
    println!("{tally:?}");
    rig.compare_all();
    let hidden = refused(&mut rig, 2, Operation::Flush, None);
    assert_eq!(hidden, SubmitError::NoSuchDisk(VdHandle(2)), "a copy is no disk of its own");
    assert_eq!((compare(&mut rig), told(&mut rig)), (Components(7), String::new()));
    rig.assert_clean();
    rig.stop();
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("folder").count(),
        0,
        "nothing is out, nothing is kept"
    );
}

/// Each fault of an SSD of copy 1, in the middle of random operations.
#[test]
fn a_copy_that_fails_is_out_and_nobody_sees_it() {
    let error = |status| FaultKind::Error { status, after_effect: true };
    let faults = [
        ("ssd-1", error(0x4280), "mirrored: copy 1 failed on ssd1: Write Fault (280h)"),
        ("ssd-1", error(0x006), "mirrored: copy 1 failed on ssd1: Internal Error (006h)"),
        ("ssd-1", FaultKind::Drop { after_effect: true }, "ssd1: no answer in time, queues made anew"),
        ("ssd-1", FaultKind::DeadPath(Moment::Command), "ssd1: gone"),
        (
            "ssd-1",
            FaultKind::Zombie { shortest_ns: 13_000_000, longest_ns: 40_000_000 },
            "mirrored: copy 1 missed",
        ),
    ];
    for (number, (ssd, kind, line)) in faults.into_iter().enumerate() {
        let folder = tempfile::tempdir().expect("folder");
        let seed = seed(30 + number as u64);
        let mut rig = start(folder.path(), seed);
        let mut workload = Workload::new(&mut rig, seed, 16);
        workload.run(&mut rig, 150);
        let commands = Commands::all().with_opcodes(&[opcode::WRITE, opcode::READ, opcode::WRITE_ZEROES]);
        rig.handle.start_fault(ssd, Fault::new(kind.clone()).with_commands(commands.with_count(5, u64::MAX)));
        workload.run(&mut rig, 250);
        let events = told(&mut rig);
        assert!(
            events.contains(line) && events.contains("mirrored: copy 1 missed a write and is out"),
            "{events}"
        );
        rig.compare_all();
        assert_eq!(compare(&mut rig), Components(0b101), "{kind:?}");
        let state = std::fs::read_to_string(folder.path().join("disks.toml.state")).expect("a state file");
        assert!(state.contains("copy = 1\n"), "{state}");
        rig.assert_clean();
        rig.stop();
    }
}

/// A write that missed a copy is not reported as done before that is durable, and fails if it cannot be.
#[test]
fn what_cannot_be_kept_is_not_promised() {
    let folder = tempfile::tempdir().expect("folder");
    let mut rig = start(folder.path(), seed(40));
    // Something is in the way of the new file.
    let blocker = folder.path().join("disks.toml.state.new");
    std::fs::create_dir(&blocker).expect("folder");
    let memory = rig.engine.allocate(4096).expect("memory");
    memory.fill(0, 4096, 0x5A);
    let write = Operation::Write { lba: 0, blocks: 8, force_unit_access: false };
    let fault = Fault::new(FaultKind::Error { status: 0x4280, after_effect: false });
    let fault = rig.handle.start_fault("ssd-1", fault);
    let error = rig.execute(0, write, Some(memory.clone())).expect_err("it cannot be kept");
    assert_eq!(error.status, status::INTERNAL_ERROR | status::DNR, "{error}");
    assert!(told(&mut rig).contains("mirrored: a copy is out, and that could not be kept: "));
    rig.handle.stop_fault(fault);
    // The copy is out all the same, and a later write that misses it fails too,
    rig.execute(0, write, Some(memory.clone())).expect_err("still not kept");
    assert_eq!(in_state(&mut rig, ComponentState::Out), Components(2));
    // until it can be kept.
    std::fs::remove_dir(&blocker).expect("removed");
    rig.execute(0, write, Some(memory.clone())).expect("kept now");
    let before =
        std::fs::metadata(folder.path().join("disks.toml.state")).expect("kept").modified().expect("time");
    rig.execute(0, write, Some(memory)).expect("known to be kept");
    let after =
        std::fs::metadata(folder.path().join("disks.toml.state")).expect("kept").modified().expect("time");
    assert_eq!(before, after, "kept once");
    rig.apply(0, write, &[0x5A; 4096]);
    rig.compare_all();
    rig.stop();
}

/// A command that an SSD loses is given again when the SSD was made quiet, to a disk without copies too.
#[test]
fn a_lost_command_of_a_plain_disk_is_given_again() {
    let folder = tempfile::tempdir().expect("folder");
    loses_commands(start(folder.path(), seed(42)));
}

/// Nor does the card believe what stood in a completion queue in host memory before it was made anew.
#[test]
fn a_lost_command_is_given_again_though_completions_are_in_host_memory() {
    if !Tested::CARD {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    // The card is not idle while it waits, so that each ms costs cycles.
    let answer_limit = Duration::from_millis(16);
    let options = EngineOptions { completion_mode: CompletionMode::Host, answer_limit, ..options() };
    loses_commands(Rig::start(DISKS, folder.path(), seed(42), &options, |_| ()));
}

fn loses_commands(mut rig: MirrorRig) {
    let memory = rig.engine.allocate(8 * 512).expect("memory");
    memory.fill(0, 8 * 512, 0x77);
    let write = Operation::Write { lba: 5, blocks: 8, force_unit_access: false };
    for after_effect in [false, true] {
        let lost = Fault::new(FaultKind::Drop { after_effect });
        let fault = rig.handle.start_fault("ssd-0", lost.with_commands(Commands::all().with_count(0, 1)));
        rig.execute(1, write, Some(memory.clone())).unwrap_or_else(|error| panic!("{error}"));
        rig.execute(1, Operation::Read { lba: 5, blocks: 8 }, Some(memory.clone())).expect("a read");
        assert_eq!(rig.handle.fault_strikes(fault), 1);
        assert_eq!(told(&mut rig), "ssd0: no answer in time, queues made anew\n");
    }
    rig.apply(1, write, &[0x77; 8 * 512]);
    rig.compare_all();
    assert_eq!(compare(&mut rig), Components(7));
    rig.assert_clean();
    rig.stop();
}

/// A read that an SSD cannot give comes from another copy, which stays in sync.
#[test]
fn a_read_comes_from_another_copy() {
    let folder = tempfile::tempdir().expect("folder");
    let seed = seed(41);
    let mut rig = start(folder.path(), seed);
    Workload::new(&mut rig, seed, 8).run(&mut rig, 100);
    let commands = Commands::all().with_opcodes(&[opcode::READ]);
    for ssd in ["ssd-2", "ssd-3"] {
        let fault = Fault::new(FaultKind::Error { status: 0x281, after_effect: false });
        rig.handle.start_fault(ssd, fault.with_commands(commands.clone()));
    }
    rig.compare_all();
    assert!(told(&mut rig).contains("failed on ssd2: Unrecovered Read Error (281h)"));
    assert_eq!(compare(&mut rig), Components(7));
    rig.stop();
}
