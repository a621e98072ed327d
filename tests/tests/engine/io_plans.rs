//! Plans that the control path fills itself: raw commands to devices, and data that move between disks.

use std::path::Path;

use volplane::vaapi::StorageExtent;
use volplane::{
    BlockService, DmaMemory, IoOrder, IoPlanError, IoPlanId, IoTarget, Operation, OwnPlans, SharedPlans,
    SubmitPlanError, VdHandle, PAYLOAD_BYTES,
};
use volplane_abi::plan::plan_status;
use volplane_abi::{opcode, status, DeallocateRange, SubmissionEntry};
use volplane_sim::{Commands, Fault, FaultKind};

use super::mirror::{compare, start, MirrorRig};
use super::rig::{seed, LIMIT, LOOK};
use super::workload::Workload;
use volplane::software::Components;

const MIRRORED: VdHandle = VdHandle(0);
const PLAIN: VdHandle = VdHandle(1);
const BLOCK: usize = 512;
/// Pieces that are copied under load.
const COPIES: u64 = 24;
/// Blocks that are diverted for each, of which it copies the first 8.
const DIVERTED: u64 = 32;
/// First block of SSD 3 that no disk has.
const FREE: u64 = 20_000;

/// A command on `blocks` blocks from `lba` on, with its data at the beginning of `memory`: a page at most.
fn command(opcode: u8, lba: u64, blocks: u16, memory: &DmaMemory) -> SubmissionEntry {
    SubmissionEntry::default()
        .with_opcode(opcode)
        .with_starting_lba(lba)
        .with_block_count_z(blocks.saturating_sub(1))
        .with_prp1(memory.iova().0)
}

fn plan(rig: &mut MirrorRig, commands: &[(IoTarget, SubmissionEntry)]) -> IoPlanId {
    let plan = rig.engine.iop_create_io_plan().expect("room");
    for (number, &(target, entry)) in commands.iter().enumerate() {
        assert_eq!(rig.engine.iop_add_io(plan, target, entry), Ok(number));
    }
    plan
}

/// Waits for a plan: the status of each of its commands.
fn ended(rig: &mut MirrorRig, plan: IoPlanId, commands: usize) -> Vec<u16> {
    let deadline = rig.engine.now() + LIMIT;
    loop {
        let mut done = Vec::new();
        rig.engine.poll(&mut done).expect("the engine works");
        assert!(done.is_empty());
        let codes = (0..commands).map(|index| rig.engine.iop_get_error_code(plan, index).expect("a command"));
        if let Some(codes) = codes.collect::<Option<Vec<u16>>>() {
            return codes;
        }
        let now = rig.engine.now();
        assert!(now < deadline, "the plan does not end");
        rig.engine.wait(now + LOOK).expect("the engine works");
    }
}

fn execute(rig: &mut MirrorRig, order: IoOrder, commands: &[(IoTarget, SubmissionEntry)]) -> Vec<u16> {
    let plan = plan(rig, commands);
    rig.engine.io_submit_plan(plan, order).expect("submitted");
    let codes = ended(rig, plan, commands.len());
    rig.engine.iop_destroy_io_plan(plan).expect("it has ended");
    codes
}

#[test]
fn raw_commands_reach_their_devices() {
    let mut rig = start(Path::new("."), seed(71));
    let ssd = IoTarget::Device(3);
    let (out, back) =
        (rig.engine.allocate(4096).expect("memory"), rig.engine.allocate(4096).expect("memory"));
    out.fill(0, 4096, 0x3C);
    back.fill(0, 4096, 0);
    let steps = [
        (ssd, command(opcode::WRITE, FREE, 8, &out)),
        (ssd, command(opcode::FLUSH, 0, 0, &out)),
        (ssd, command(opcode::COMPARE, FREE + 2, 6, &out)),
        (ssd, command(opcode::READ, FREE + 7, 2, &back)),
    ];
    assert_eq!(execute(&mut rig, IoOrder::OneByOne, &steps), [0; 4]);
    let mut media = vec![0; 10 * BLOCK];
    rig.handle.read_media("ssd-3", (FREE - 1) * BLOCK as u64, &mut media).expect("media");
    let mut expected = vec![0x3C; 10 * BLOCK];
    expected[..BLOCK].fill(0);
    expected[9 * BLOCK..].fill(0);
    assert_eq!(media, expected);
    let mut read = vec![0; 2 * BLOCK];
    back.read(0, &mut read);
    assert_eq!(read, expected[8 * BLOCK..]);

    // Ranges stand in a payload area.
    let ranges = rig.engine.iop_alloc_payload_sgl_buf().expect("room");
    assert_eq!(ranges.len(), PAYLOAD_BYTES);
    let range = DeallocateRange::default().with_block_count(4).with_starting_lba(FREE);
    ranges.write(0, &range.0);
    // One range; bit 2 of dword 11.
    let deallocate = command(opcode::DATASET_MANAGEMENT, 1 << 34, 0, &ranges);
    assert_eq!(execute(&mut rig, IoOrder::AtOnce, &[(ssd, deallocate)]), [0]);
    rig.handle.read_media("ssd-3", FREE * BLOCK as u64, &mut media[..8 * BLOCK]).expect("media");
    assert!(media[..4 * BLOCK].iter().all(|&byte| byte == 0) && media[4 * BLOCK..8 * BLOCK].contains(&0x3C));
    rig.engine.iop_free_payload_sgl_buf(&ranges).expect("it is one");
    assert!(matches!(rig.engine.iop_free_payload_sgl_buf(&ranges), Err(IoPlanError::NoPayload(_))));
    rig.assert_clean();
    rig.stop();
}

/// A list stands where the command says, and zeros are written there; the command's buffer is the plan's own.
#[test]
fn a_read_of_no_place_is_zeros_by_a_list() {
    let mut rig = start(Path::new("."), seed(75));
    let (control, mut tables) = rig.engine.vaapi();
    control.ap_set_vd_storage_extent(&mut tables, PLAIN, 1, 0, StorageExtent::thin()).expect("an extent");
    let data = rig.engine.allocate(4 * 4096).expect("memory");
    data.fill(0, 4 * 4096, 0x77);
    let list = rig.engine.iop_alloc_payload_sgl_buf().expect("room");
    // Pages 3 and 1 behind page 0; page 2 is nobody's.
    for (slot, page) in [3, 1].into_iter().enumerate() {
        list.write(8 * slot, &(data.iova().0 + page * 4096).to_le_bytes());
    }
    let read = command(opcode::READ, 2_040, 24, &data).with_prp2(list.iova().0);
    assert_eq!(execute(&mut rig, IoOrder::AtOnce, &[(IoTarget::Disk(PLAIN), read)]), [0]);
    let mut bytes = vec![0; 4 * 4096];
    data.read(0, &mut bytes);
    assert!(bytes[8192..12288].iter().all(|&byte| byte == 0x77), "page 2");
    assert!([0..8192, 12288..16384].iter().all(|page| bytes[page.clone()].iter().all(|&byte| byte == 0)));
    rig.assert_clean();
    rig.stop();
}

#[test]
fn each_command_has_its_own_error_code() {
    let mut rig = start(Path::new("."), seed(72));
    let memory = rig.engine.allocate(4096).expect("memory");
    memory.fill(0, 4096, 1);
    let ssd = IoTarget::Device(3);
    let fault = Fault::new(FaultKind::Error { status: 0x281, after_effect: false });
    let reads = Commands::all().with_opcodes(&[opcode::READ]).with_count(0, 1);
    let fault = rig.handle.start_fault("ssd-3", fault.with_commands(reads));
    let size = rig.configuration.devices[3].blocks;
    let commands = [
        (ssd, command(opcode::WRITE, FREE, 1, &memory)),
        (ssd, command(opcode::READ, FREE, 1, &memory)),
        (ssd, command(opcode::READ, size - 1, 2, &memory)),
        (IoTarget::Disk(PLAIN), command(0x7F, 0, 1, &memory)),
        (ssd, command(opcode::WRITE, FREE + 1, 1, &memory)),
    ];
    let dnr = |code: u16| code | status::DNR;
    let expected = [0, 0x281, dnr(status::LBA_OUT_OF_RANGE), dnr(status::INVALID_OPCODE), 0];
    assert_eq!(execute(&mut rig, IoOrder::AtOnce, &commands), expected);
    assert_eq!(rig.handle.fault_strikes(fault), 1, "it is not tried again");
    // One by one, nothing is given behind a failure.
    let fault = Fault::new(FaultKind::Error { status: 0x4281, after_effect: false });
    let fault =
        rig.handle.start_fault("ssd-3", fault.with_commands(Commands::all().with_opcodes(&[opcode::READ])));
    let aborted = dnr(plan_status::ABORT_REQUESTED);
    let commands =
        [commands[0], commands[1], (ssd, command(opcode::WRITE, FREE + 2, 1, &memory)), commands[4]];
    assert_eq!(execute(&mut rig, IoOrder::OneByOne, &commands), [0, 0x4281, aborted, aborted]);
    rig.handle.stop_fault(fault);
    let mut media = [0xFF; BLOCK];
    rig.handle.read_media("ssd-3", (FREE + 2) * BLOCK as u64, &mut media).expect("media");
    assert_eq!(media, [0; BLOCK], "it was not given");
    // What an SSD loses ends with its path.
    let lost =
        Fault::new(FaultKind::Drop { after_effect: false }).with_commands(Commands::all().with_count(0, 1));
    rig.handle.start_fault("ssd-3", lost);
    assert_eq!(execute(&mut rig, IoOrder::AtOnce, &commands[..1]), [plan_status::ABORTED_SQ_DELETION]);
    rig.assert_clean();
    rig.stop();
}

#[test]
fn a_plan_is_changed_only_before_it_is_submitted() {
    let mut rig = start(Path::new("."), seed(73));
    let memory = rig.engine.allocate(4096).expect("memory");
    memory.fill(0, 4096, 9);
    let write = |lba| command(opcode::WRITE, lba, 1, &memory);
    let ssd = IoTarget::Device(3);
    let plan = plan(&mut rig, &[(ssd, write(FREE)), (IoTarget::Device(9), write(FREE))]);
    let no_device = SubmitPlanError::Plan(IoPlanError::NoDevice(9));
    let refused = rig.engine.io_submit_plan(plan, IoOrder::AtOnce).expect_err("no such device");
    assert_eq!(refused.to_string(), no_device.to_string());
    assert_eq!(rig.engine.iop_get_error_code(plan, 0).expect("there"), None, "none was given");
    rig.engine.iop_change_io(plan, 1, IoTarget::Disk(VdHandle(77)), write(3)).expect("not submitted");
    let refused = rig.engine.io_submit_plan(plan, IoOrder::AtOnce).expect_err("no such disk");
    assert!(matches!(refused, SubmitPlanError::Vaapi(_)), "{refused}");
    rig.engine.iop_change_io(plan, 1, IoTarget::Disk(PLAIN), write(3)).expect("not submitted");
    rig.engine.io_submit_plan(plan, IoOrder::AtOnce).expect("sound now");
    let under_way = |result: Result<(), IoPlanError>| assert_eq!(result, Err(IoPlanError::UnderWay(plan)));
    under_way(rig.engine.iop_destroy_io_plan(plan));
    under_way(rig.engine.iop_re_init_io_plan(plan));
    let submitted = Err(IoPlanError::Submitted(plan));
    assert_eq!(rig.engine.iop_change_io(plan, 0, ssd, write(0)), submitted);
    assert_eq!(rig.engine.iop_add_io(plan, ssd, write(0)).map(drop), submitted);
    assert_eq!(ended(&mut rig, plan, 2), [0, 0]);
    rig.engine.iop_re_init_io_plan(plan).expect("it has ended");
    assert_eq!(rig.engine.iop_get_error_code(plan, 1).expect("there"), None);
    rig.engine.io_submit_plan(plan, IoOrder::OneByOne).expect("once more");
    // Who stops waits for it.
    let bytes = rig.bytes(1, 3, 1);
    rig.shadow[1][bytes].fill(9);
    rig.assert_clean();
    let handle = rig.handle.clone();
    rig.stop();
    let mut media = [0; BLOCK];
    handle.read_media("ssd-3", FREE * BLOCK as u64, &mut media).expect("media");
    assert_eq!(media, [9; BLOCK]);
}

/// Blocks are copied from one disk to another, under a divert range, while clients use both.
#[test]
fn data_move_between_disks_under_load() {
    let seed = seed(74);
    let mut rig = start(Path::new("."), seed);
    rig.engine.keep_exceptions(MIRRORED).expect("a disk");
    let memory = rig.engine.allocate(4096).expect("memory");
    // A copy takes long enough, and its range reaches far enough, for clients to meet it.
    let delay = FaultKind::Delay { shortest_ns: 10_000, longest_ns: 100_000 };
    rig.handle.start_fault("ssd-0", Fault::new(delay));
    let (mut copied, mut given_back, mut moving) = (0, 0, None::<(IoPlanId, u64)>);
    Workload::new(&mut rig, seed, 24).run_with(&mut rig, 2_500, |rig| {
        match moving {
            None if copied < COPIES => {
                let (from, to) = (copied * 90, copied * 97);
                rig.engine.io_add_divert_range(MIRRORED, to..to + DIVERTED, LIMIT).expect("a range");
                let steps = [
                    (IoTarget::Disk(PLAIN), command(opcode::READ, from, 8, &memory)),
                    (IoTarget::Disk(MIRRORED), command(opcode::WRITE, to, 8, &memory)),
                ];
                let plan = plan(rig, &steps);
                rig.engine.io_submit_plan(plan, IoOrder::OneByOne).expect("submitted");
                moving = Some((plan, to));
            }
            Some((plan, to)) => {
                let codes =
                    [0, 1].map(|index| rig.engine.iop_get_error_code(plan, index).expect("a command"));
                if codes == [Some(0), Some(0)] {
                    rig.engine.iop_destroy_io_plan(plan).expect("it has ended");
                    // What was copied is what a client sees from now on.
                    let mut data = vec![0; 8 * BLOCK];
                    memory.read(0, &mut data);
                    let bytes = rig.bytes(0, to, 8);
                    rig.shadow[0][bytes].copy_from_slice(&data);
                    let (control, mut tables) = rig.engine.vaapi();
                    control
                        .iop_remove_divert_range(&mut tables, MIRRORED, to..to + DIVERTED)
                        .expect("it is there");
                    (copied, moving) = (copied + 1, None);
                } else {
                    assert!(codes.iter().flatten().all(|&code| code == 0), "{codes:x?}");
                }
            }
            None => {}
        }
        // Clients' commands to the range wait until it is gone.
        if moving.is_none() {
            while let Some(record) = rig.engine.io_get_plan_vd(MIRRORED).expect("the engine works") {
                rig.engine.io_resubmit_plan(record.handle(), Components::ALL).expect("it is owned");
                given_back += 1;
            }
        }
    });
    println!("{copied} copied, {given_back} given back");
    assert!(copied == COPIES && given_back > 3, "{copied} copied, {given_back} given back");
    rig.compare_all();
    assert_eq!(compare(&mut rig), Components(7));
    assert_eq!(rig.engine.take_events(), []);
    let flush = rig.execute(0, Operation::Flush, None);
    assert!(flush.is_ok());
    rig.assert_clean();
    rig.stop();
}
