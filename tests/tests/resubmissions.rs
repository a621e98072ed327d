//! Plans that are given back in part: which copies are written once more, and which are not.

use volplane_abi::plan::{component_state, read_policy, reason, COMPONENTS_MAX, RESTART_ALL};
use volplane_abi::tables::table;
use volplane_abi::{opcode, ComponentEntry, PlanEntry, PlanMasks, VdEntry};
use volplane_driver::{CardError, ExceptionRecord, Platform, PAGE};
use volplane_tests::harness::media::content;
use volplane_tests::harness::plain;
use volplane_tests::harness::triple::{forgiving, Mirror, ALL, COPIES, DISK, PLAN};

const UNUSED: &str = "a component cannot be restarted, or must be";
const REPLACED: &str = "its disk has another template than when it was begun";

/// Failures of copy 1 are not forgiven.
fn strict() -> PlanMasks {
    PlanMasks::default().with_continuation(ALL & !0b010)
}

fn resubmit(mirror: &mut Mirror, record: &ExceptionRecord, restart: u8) -> Result<(), &'static str> {
    let machine = &mut mirror.machine;
    match machine.card.resubmit_plan(&mut machine.platform, record.handle(), restart) {
        Ok(()) => Ok(()),
        Err(CardError::Plan { problem, .. }) => Err(problem),
        Err(other) => panic!("{other}"),
    }
}

/// Commands that each SSD has received since the last time.
fn received(mirror: &mut Mirror) -> [usize; COPIES as usize] {
    std::array::from_fn(|ssd| mirror.machine.handle.take_commands(&format!("nvme{ssd}")).0.len())
}

/// A write of `token` to the first blocks that copy 1 fails and the others have.
fn one_failed(mirror: &mut Mirror, token: u64) -> ExceptionRecord {
    mirror.fail(1, &[opcode::WRITE], 0x4280);
    mirror.submit_write(1, 0, token);
    let record = mirror.one_record();
    mirror.mend();
    let tail = record.tail;
    assert_eq!((tail.reasons(), tail.owned()), (reason::COMPONENT_FAILURE, 1));
    assert_eq!((tail.done(), tail.failed(), tail.stopped()), (0b101, 0b010, 0));
    assert_eq!(received(mirror), [1; 3]);
    mirror.none_completed();
    record
}

fn assert_media(mirror: &mut Mirror, token: u64) {
    (0..COPIES).for_each(|copy| assert_eq!(mirror.media(copy, 0, 8), content(token, PAGE), "copy {copy}"));
}

#[test]
fn the_copy_that_failed_begins_again_and_the_others_are_not_written_twice() {
    let mut mirror = Mirror::start(read_policy::PREFERRED, strict(), forgiving());
    let record = one_failed(&mut mirror, 1);
    // One that is not there; nothing has changed.
    for wrong in [0b1000, 0b1010, 0x7F] {
        assert_eq!(resubmit(&mut mirror, &record, wrong), Err(UNUSED));
    }
    assert_eq!((received(&mut mirror), mirror.records()), ([0; 3], Vec::new()));
    resubmit(&mut mirror, &record, 0b010).expect("it is owned");
    assert_eq!(mirror.machine.completion(0).status(), 0);
    assert_eq!(received(&mut mirror), [0, 1, 0]);
    assert_media(&mut mirror, 1);
    assert_eq!(resubmit(&mut mirror, &record, 0b010), Err("it is gone"));

    // It fails again: what the others have is told once more, and kept once more.
    let first = one_failed(&mut mirror, 2);
    mirror.fail(1, &[opcode::WRITE], 0x4281);
    resubmit(&mut mirror, &first, 0b010).expect("it is owned");
    let second = mirror.one_record();
    mirror.mend();
    assert_eq!((second.tail.done(), second.tail.failed()), (0b101, 0b010));
    assert_eq!(second.components[1].status(), 0x4281);
    assert_eq!(received(&mut mirror), [0, 1, 0]);
    assert_ne!(second.handle(), first.handle());
    resubmit(&mut mirror, &second, 0b011).expect("it is owned");
    assert_eq!(mirror.machine.completion(0).status(), 0);
    assert_eq!(received(&mut mirror), [1, 1, 0]);
    assert_media(&mut mirror, 2);
    assert_eq!(mirror.states(), (vec![component_state::IN_SYNC; 3], false));
    mirror.machine.assert_clean(|_| false);
}

#[test]
fn masks_are_applied_to_what_is_kept() {
    let mut mirror = Mirror::start(read_policy::PREFERRED, strict(), forgiving());
    let record = one_failed(&mut mirror, 1);
    // Its failure is kept: the control path has it again, and nothing was issued.
    resubmit(&mut mirror, &record, 0).expect("it is owned");
    let record = mirror.one_record();
    assert_eq!((record.tail.reasons(), record.tail.owned()), (reason::COMPONENT_FAILURE, 1));
    assert_eq!((record.tail.done(), record.tail.failed()), (0b101, 0b010));
    assert_eq!(record.components[1].status(), 0x4280);
    // One that is not used any more drops out, and what is left is a success.
    mirror.set_states(0b010, component_state::OUT, 0b010);
    assert_eq!(resubmit(&mut mirror, &record, 0b010), Err(UNUSED));
    resubmit(&mut mirror, &record, 0).expect("it is owned");
    assert_eq!(mirror.machine.completion(0).status(), 0);
    assert_eq!((received(&mut mirror), mirror.records()), ([0; 3], Vec::new()));
    assert_eq!(mirror.media(2, 0, 8), content(1, PAGE));
    mirror.machine.assert_clean(|_| false);
}

#[test]
fn what_has_no_result_must_begin_again() {
    let mut mirror = Mirror::start(read_policy::PREFERRED, strict(), forgiving());
    mirror.set_states(0b100, component_state::OUT, 0b100);
    let record = {
        mirror.fail(1, &[opcode::WRITE], 0x4280);
        mirror.submit_write(1, 0, 1);
        mirror.one_record()
    };
    mirror.mend();
    assert_eq!((record.tail.done(), record.tail.failed(), record.tail.begun()), (0b001, 0b010, 0b011));
    received(&mut mirror);
    // It is written to by now, and does not have this one.
    mirror.set_states(0b100, component_state::WRITE_ONLY, 0);
    assert_eq!(resubmit(&mut mirror, &record, 0b010), Err(UNUSED));
    resubmit(&mut mirror, &record, 0b110).expect("it is owned");
    assert_eq!(mirror.machine.completion(0).status(), 0);
    assert_eq!(received(&mut mirror), [0, 1, 1]);
    assert_media(&mut mirror, 1);
    mirror.machine.assert_clean(|_| false);
}

#[test]
fn results_are_not_kept_under_another_template() {
    const OTHER: u32 = PLAN + 1;
    let mut mirror = Mirror::start(read_policy::PREFERRED, strict(), forgiving());
    let record = one_failed(&mut mirror, 1);
    let machine = &mut mirror.machine;
    let plan: PlanEntry =
        machine.card.table_record(&mut machine.platform, table::PLAN, PLAN).expect("a plan");
    let disk: VdEntry = machine.card.table_record(&mut machine.platform, table::VD, DISK).expect("a disk");
    mirror.write(table::PLAN, OTHER, &plan.0);
    for copy in 0..COMPONENTS_MAX {
        let machine = &mut mirror.machine;
        let index = ComponentEntry::index(PLAN as u16, copy);
        let entry: ComponentEntry =
            machine.card.table_record(&mut machine.platform, table::COMPONENT, index).expect("a component");
        mirror.write(table::COMPONENT, ComponentEntry::index(OTHER as u16, copy), &entry.0);
    }
    mirror.write(table::VD, DISK, &disk.with_plan(OTHER as u16).0);
    for restart in [0b010, 0, ALL, 0b1000] {
        assert_eq!(resubmit(&mut mirror, &record, restart), Err(REPLACED));
    }
    assert_eq!((received(&mut mirror), mirror.records()), ([0; 3], Vec::new()));
    resubmit(&mut mirror, &record, RESTART_ALL).expect("it is owned");
    assert_eq!(mirror.machine.completion(0).status(), 0);
    assert_eq!(received(&mut mirror), [1; 3]);
    assert_media(&mut mirror, 1);
    mirror.machine.assert_clean(|_| false);
}

#[test]
fn a_write_that_was_overwritten_meanwhile_begins_whole() {
    let mut mirror = Mirror::start(read_policy::PREFERRED, strict(), forgiving());
    let record = one_failed(&mut mirror, 1);
    assert_eq!(mirror.put(4, 2), 0);
    assert_eq!(received(&mut mirror), [1; 3]);
    resubmit(&mut mirror, &record, 0b010).expect("it is owned");
    assert_eq!(mirror.machine.completion(0).status(), 0);
    // Else the copies would differ in the blocks that both have written.
    assert_eq!(received(&mut mirror), [1; 3]);
    assert_media(&mut mirror, 1);
    (0..COPIES)
        .for_each(|copy| assert_eq!(mirror.media(copy, 8, 4), content(2, PAGE)[2048..], "copy {copy}"));
    mirror.machine.assert_clean(|_| false);
}

#[test]
fn a_read_tries_what_is_to_begin_again_and_what_was_not_tried() {
    let read = PlanMasks::default().with_continuation(ALL & !0b001);
    let mut mirror = Mirror::start(read_policy::PREFERRED, forgiving(), read);
    assert_eq!(mirror.put(0, 1), 0);
    received(&mut mirror);
    mirror.fail(0, &[opcode::READ], 0x4281);
    let buffer = mirror.machine.platform.allocate(PAGE).expect("memory");
    let read = plain::command(opcode::READ, DISK, 0, 8, &buffer);
    mirror.machine.queues[0].submit(read).expect("room");
    mirror.machine.queues[0].ring().expect("a doorbell");
    let record = mirror.one_record();
    assert_eq!((record.tail.reasons(), record.tail.failed()), (reason::COMPONENT_FAILURE, 0b001));
    // The failure is kept.
    resubmit(&mut mirror, &record, 0b010).expect("it is owned");
    let record = mirror.one_record();
    assert_eq!((record.tail.reasons(), record.tail.failed()), (reason::COMPONENT_FAILURE, 0b001));
    assert_eq!(received(&mut mirror), [1, 0, 0]);
    // Without that copy another one is read.
    mirror.set_states(0b001, component_state::OUT, 0b001);
    resubmit(&mut mirror, &record, 0).expect("it is owned");
    assert_eq!(mirror.machine.completion(0).status(), 0);
    assert_eq!(received(&mut mirror), [0, 1, 0]);
    let mut found = vec![0; PAGE];
    buffer.read(0, &mut found);
    assert_eq!(found, content(1, PAGE));
    mirror.machine.assert_clean(|_| false);
}
