//! Directed tests of the engine, and the masks in every combination.

use volplane_abi::plan::{plan_status, reason};
use volplane_abi::{extent_action, opcode, status, QuotaEntry};

use super::super::verdict::Progress;
use super::super::world::{command, World};
use super::super::{
    ClientTag, Component, ComponentState, Components, ControlError, DiskStatus, MaskSet, PlanTemplate,
    ReadPolicy, TemplateError,
};
use super::*;

pub(super) const CLIENT: ClientTag = ClientTag { queue: 1, command: 7 };
/// Unrecovered Read Error, not to be retried.
pub(super) const MEDIA_ERROR: u16 = 0x4281;

/// `count` copies, on disks 0 to `count` − 1, that forgive every failure.
pub(super) fn mirror(count: usize) -> PlanTemplate {
    let all = Components((1 << count) - 1);
    let masks = MaskSet { continuation: all, ..MaskSet::default() };
    let mut template = PlanTemplate {
        read: masks,
        write: masks,
        durably_out: Components(!all.0),
        ..PlanTemplate::single(0)
    };
    for number in 0..count {
        template.components[number] =
            Component { disk: number as u16, state: ComponentState::InSync, time_out: 0, retries: 0 };
    }
    template
}

pub(super) fn world(count: usize, template: PlanTemplate) -> World {
    let mut world = World::new(count as u16, 1, 64, Bounds::default());
    world.engine.set_template(0, template).expect("a sound template");
    world
}

#[test]
fn a_write_goes_to_every_copy_and_flush_to_every_device() {
    let mut world = world(3, mirror(3));
    world.submit(CLIENT, opcode::WRITE, 0, 6, 4, 1);
    // Two stripe units on each of three copies.
    let places: Vec<_> =
        world.asked.iter().map(|asked| (asked.fragment.device, asked.fragment.lba)).collect();
    assert_eq!(places, [(0, 1006), (1, 1000), (2, 1006), (3, 1000), (4, 1006), (5, 1000)]);
    world.settle(|_| 0);
    assert_eq!(world.completed, [(CLIENT, 0)]);
    world.submit(CLIENT, opcode::FLUSH, 0, 0, 1, 2);
    assert_eq!(world.asked.iter().map(|asked| asked.fragment.device).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    world.settle(|_| 0);
    assert_eq!(world.completed.len(), 2);
    assert!(world.engine.get_plan().is_none());
}

#[test]
fn a_failed_copy_is_out_before_the_client_hears_and_is_never_read_again() {
    let mut world = world(2, mirror(2));
    world.submit(CLIENT, opcode::WRITE, 0, 0, 4, 1);
    world.settle(|fragment| if fragment.device == 0 { MEDIA_ERROR } else { 0 });
    assert_eq!((world.completed.len(), world.moved_out.clone()), (0, vec![(0, 0)]));
    // Another write does not go to it, and is not completed either before its absence is durable.
    world.submit(ClientTag { queue: 1, command: 8 }, opcode::WRITE, 0, 8, 4, 2);
    assert_eq!(world.asked.len(), 1);
    world.settle(|_| 0);
    assert_eq!(world.completed.len(), 0);
    world.submit(ClientTag { queue: 1, command: 9 }, opcode::READ, 0, 0, 4, 3);
    assert_eq!(world.asked[0].fragment.device, 2);
    world.settle(|_| 0);
    assert_eq!(world.read[&(3, 0)], 1);
    let record = world.engine.get_plan().expect("a record");
    assert_eq!(record.reason_names(), ["missed write"]);
    assert_eq!(record.components[0].progress, Progress::Failed(MEDIA_ERROR));
    assert_eq!(record.next_exception(None).map(|found| found.0), Some(0));
    assert_eq!(record.next_exception(Some(0)), None);
    world.engine.confirm_out(0, 0).expect("it is out");
    world.engine.release(record.handle).expect("it is held");
    let record = world.engine.get_plan().expect("of the second write");
    world.engine.release(record.handle).expect("it is held");
    assert_eq!(world.engine.release(record.handle), Err(ControlError::Gone(record.handle)));
    world.listen();
    assert_eq!(world.completed.len(), 3);
    // From now on nothing is held.
    world.submit(CLIENT, opcode::WRITE, 0, 0, 1, 4);
    world.settle(|_| 0);
    assert_eq!(world.completed.len(), 4);
    assert!(world.engine.get_plan().is_none());
}

#[test]
fn a_failed_read_tries_the_next_copy_as_a_whole() {
    let mut world = world(2, mirror(2));
    world.submit(CLIENT, opcode::READ, 0, 0, 8, 1);
    world.settle(|fragment| if fragment.device < 2 { MEDIA_ERROR } else { 0 });
    assert_eq!((world.completed.clone(), world.moved_out.len()), (vec![(CLIENT, 0)], 0));
    world.submit(CLIENT, opcode::READ, 0, 0, 8, 2);
    world.settle(|fragment| 0x4280 + fragment.device);
    assert_eq!(world.completed[1], (CLIENT, 0x4280), "that of the lowest-numbered copy");
    // What is the client's own doing goes to no other copy.
    world.submit(CLIENT, opcode::COMPARE, 0, 0, 8, 3);
    world.settle(|_| plan_status::COMPARE_FAILURE);
    assert_eq!(world.completed[2], (CLIENT, plan_status::COMPARE_FAILURE));
}

#[test]
fn path_errors_take_another_path_and_then_count() {
    let mut world = World::new(1, 3, 64, Bounds::default());
    world.submit(CLIENT, opcode::READ, 0, 0, 8, 1);
    for path in 0..3 {
        assert_eq!(world.asked[0].path, path);
        world.answer(0, 0x301);
    }
    assert_eq!(world.completed, [(CLIENT, 0x301)]);
    // A path that is down is not tried; with none left there is an error of its own.
    world.engine.path_quiesced(0);
    world.submit(CLIENT, opcode::READ, 0, 0, 8, 2);
    assert_eq!(world.asked[0].path, 1);
    world.settle(|_| 0);
    (1..3).for_each(|path| world.engine.path_quiesced(path));
    world.submit(CLIENT, opcode::READ, 0, 0, 8, 3);
    assert_eq!(world.completed[2], (CLIENT, plan_status::HOST_PATH_ERROR));
    world.engine.path_up(2);
    world.submit(CLIENT, opcode::READ, 0, 0, 8, 4);
    assert_eq!(world.asked[0].path, 2);
}

#[test]
fn errors_are_retried_as_often_as_the_component_says() {
    let mut template = PlanTemplate::single(0);
    template.components[0].retries = 2;
    let mut world = world(1, template);
    world.submit(CLIENT, opcode::READ, 0, 0, 8, 1);
    (0..3).for_each(|_| world.answer(0, status::INTERNAL_ERROR));
    assert_eq!(world.completed, [(CLIENT, status::INTERNAL_ERROR)]);
    world.submit(CLIENT, opcode::READ, 0, 0, 8, 2);
    world.answer(0, MEDIA_ERROR);
    assert_eq!(world.completed[1], (CLIENT, MEDIA_ERROR), "do not retry");
}

#[test]
fn a_late_write_is_withheld_until_it_is_quiesced() {
    let mut template = mirror(2);
    template.components[0].time_out = 10;
    let mut world = world(2, template);
    world.submit(CLIENT, opcode::WRITE, 0, 0, 8, 1);
    world.answer(1, 0);
    assert_eq!(world.engine.deadline(), Some(10));
    world.engine.advance(9);
    world.listen();
    assert_eq!(world.fences.len(), 0);
    world.engine.advance(10);
    world.listen();
    assert_eq!((world.fences.clone(), world.completed.len()), (vec![0], 0));
    // Its own late completion decides.
    world.answer(0, 0);
    assert_eq!((world.completed.clone(), world.moved_out.len()), (vec![(CLIENT, 0)], 0));
    // A write that never comes back: with the path quiesced it has failed, and the copy is out.
    world.submit(CLIENT, opcode::WRITE, 0, 0, 8, 2);
    world.answer(1, 0);
    world.engine.advance(20);
    world.engine.path_quiesced(0);
    world.listen();
    assert_eq!((world.moved_out.clone(), world.completed.len()), (vec![(0, 0)], 1));
    let record = world.engine.get_plan().expect("a record");
    assert_eq!(record.reason_names(), ["time-out", "missed write"]);
    let lost = world.asked.remove(0);
    world.engine.returned(lost.id, 0);
    assert_eq!(world.engine.unknown_completions(), 1, "it was quiesced");
}

#[test]
fn a_late_read_is_retried_at_once_and_still_withheld() {
    let mut template = mirror(2);
    template.components[0].time_out = 10;
    let mut world = world(2, template);
    world.submit(CLIENT, opcode::READ, 0, 0, 8, 1);
    world.engine.advance(10);
    world.listen();
    assert_eq!(world.asked[1].fragment.device, 2);
    world.answer(1, 0);
    assert_eq!(world.completed.len(), 0, "the first SSD may still write to the buffer");
    world.answer(0, MEDIA_ERROR);
    assert_eq!(world.completed, [(CLIENT, 0)]);
}

#[test]
fn overlapping_writes_take_turns() {
    let mut world = world(2, mirror(2));
    let tag = |command| ClientTag { queue: 1, command };
    world.submit(tag(1), opcode::WRITE, 0, 0, 8, 1);
    world.submit(tag(2), opcode::WRITE, 0, 7, 2, 2);
    world.submit(tag(3), opcode::WRITE, 0, 16, 8, 3);
    assert_eq!(world.asked.len(), 4, "the first and the third");
    world.answer(0, 0);
    assert_eq!(world.asked.len(), 3);
    world.answer(0, 0);
    assert_eq!(world.completed, [(tag(1), 0)]);
    assert_eq!(world.asked.len(), 6, "the second, two stripe units on two copies");
}

#[test]
fn faults_zeros_diverts_and_foreign_commands() {
    let mut world = world(1, PlanTemplate::single(0));
    world.engine.change_tables(|tables| {
        let extent = tables.extents[&1];
        let extent = extent.with_read_action(extent_action::ZERO).with_write_action(extent_action::FAULT);
        tables.extents.insert(1, extent);
    });
    world.submit(CLIENT, opcode::READ, 0, 6, 4, 1);
    world.settle(|_| 0);
    assert_eq!((world.completed.len(), world.fills.len()), (0, 1));
    let fill = world.fills[0];
    world.engine.returned(fill, 0);
    world.listen();
    assert_eq!(world.completed, [(CLIENT, 0)]);
    // A write stops at the extent, and the record says how far it came.
    world.submit(CLIENT, opcode::WRITE, 0, 6, 4, 2);
    assert!(world.engine.get_plan().is_none(), "it drains");
    world.settle(|_| 0);
    let record = world.engine.get_plan().expect("a record");
    assert_eq!((record.reason_names(), record.components[0].blocks_done), (vec!["fault on write"], 2));
    assert_eq!(world.engine.resubmit(record.handle, Components(2)), {
        Err(ControlError::Component { handle: record.handle, component: 1 })
    });
    world.engine.change_tables(|tables| {
        let extent = tables.extents[&1].with_write_action(extent_action::GO);
        tables.extents.insert(1, extent);
    });
    world.engine.resubmit(record.handle, Components(1)).expect("it is ours");
    world.listen();
    assert_eq!(world.engine.complete(record.handle, 0), Err(ControlError::Gone(record.handle)));
    world.settle(|_| 0);
    assert_eq!(world.completed[1], (CLIENT, 0));

    world.submit(CLIENT, opcode::READ, 0, 32, 4, 2);
    world.divert(&[0..1, 32..36]);
    let epoch = world.engine.commit();
    assert!(!world.engine.is_closed(epoch));
    world.settle(|_| 0);
    assert!(world.engine.is_closed(epoch), "what was admitted before goes on");
    world.submit(CLIENT, opcode::READ, 0, 16, 4, 3);
    assert_eq!(world.asked.len(), 1);
    world.settle(|_| 0);
    world.submit(CLIENT, opcode::READ, 0, 35, 4, 4);
    assert!(world.asked.is_empty() && world.fills.len() == 1);
    let record = world.engine.get_plan().expect("a record");
    assert_eq!(record.reason_names(), ["divert range"]);
    world.divert(&[]);
    world.submit(CLIENT, opcode::READ, 0, 35, 4, 5);
    world.settle(|_| 0);
    assert!(world.engine.get_plan().is_none(), "a range that is gone");
    world.engine.complete(record.handle, 0x4002).expect("it is ours");
    world.listen();
    assert_eq!(world.completed.last(), Some(&(CLIENT, 0x4002)));

    // Several ranges are for the control path.
    let several = command(opcode::DATASET_MANAGEMENT, 0, 1 << 34 | 3, 1, 5);
    world.engine.submit(CLIENT, several, &|_| None);
    let record = world.engine.get_plan().expect("a record");
    assert_eq!(record.reason_names(), ["not executable"]);
    // To submit it again makes it no more executable.
    let completed = world.completed.len();
    world.engine.resubmit(record.handle, Components(1)).expect("it is ours");
    world.listen();
    let again = world.engine.get_plan().expect("a record");
    assert_eq!(again.reason_names(), ["not executable"]);
    assert!(world.asked.is_empty() && world.completed.len() == completed);
    world.engine.complete(again.handle, 0x4002).expect("it is ours");
}

#[test]
fn ownership_and_abort() {
    let mut world = world(2, mirror(2));
    world.submit(CLIENT, opcode::WRITE, 0, 0, 8, 1);
    let handle = world.engine.plans_of(0)[0];
    assert_eq!(world.engine.complete(handle, 0), Err(ControlError::NotOwned(handle)));
    let epoch = world.engine.commit();
    assert!(!world.engine.is_closed(epoch));
    world.engine.take_over(handle).expect("it is the data path's");
    assert_eq!(world.engine.take_over(handle), Err(ControlError::TakenOver(handle)));
    world.settle(|_| 0);
    assert!(world.completed.is_empty() && world.engine.is_closed(epoch));
    let record = world.engine.get_plan().expect("a record");
    assert_eq!((record.reason_names(), record.components[1].progress), (vec!["take-over"], Progress::Done));
    // Only the second copy begins anew; the first keeps its result.
    world.engine.resubmit(record.handle, Components(2)).expect("it is ours");
    world.listen();
    assert_eq!(world.asked.iter().map(|asked| asked.fragment.device).collect::<Vec<_>>(), [2]);
    world.settle(|_| 0);
    assert_eq!(world.completed, [(CLIENT, 0)]);

    world.submit(CLIENT, opcode::WRITE, 0, 0, 8, 2);
    let handle = world.engine.plans_of(0)[0];
    world.engine.abort(handle).expect("it is there");
    assert_eq!(world.engine.abort(handle), Err(ControlError::Aborted(handle)));
    world.answer(0, 0);
    assert_eq!(world.completed.len(), 1, "the other copy is still being written");
    world.answer(0, 0);
    assert_eq!(world.completed[1], (CLIENT, 0x4007));
    assert_eq!(world.engine.abort(handle), Err(ControlError::Gone(handle)));
}

#[test]
fn a_copy_reads_writes_and_keeps_later_writes_waiting() {
    let mut world = World::new(4, 1, 64, Bounds::default());
    world.engine.set_template(0, mirror(2)).expect("sound");
    world.submit(CLIENT, opcode::WRITE, 3, 8, 4, 77);
    world.settle(|_| 0);
    let write = |command, serial| (ClientTag { queue: 1, command }, serial);
    let (first, serial) = write(20, 5);
    world.submit(first, opcode::WRITE, 0, 2, 4, serial);
    let read = command(opcode::READ, 3, 8, 4, 78);
    let target = command(opcode::WRITE, 0, 0, 4, 77);
    world.engine.submit_copy(9, read, target, &|_| None).expect("a slot");
    world.listen();
    let (later, serial) = write(21, 6);
    world.submit(later, opcode::WRITE, 0, 3, 4, serial);
    assert_eq!(world.asked.len(), 2, "the first write alone");
    world.settle(|_| 0);
    assert_eq!(world.read[&(78, 0)], 77);
    let own = ClientTag { queue: 0, command: 9 };
    assert_eq!(world.completed[1..], [(first, 0), (own, 0), (later, 0)]);
    for copy in [0, 2] {
        let content: Vec<u64> = (1000..1007).map(|lba| world.media[&(copy, lba)]).collect();
        assert_eq!(content, [77, 77, 77, 6, 6, 6, 6]);
    }
    // One that is taken over on the way goes on where it is told to, and still locks.
    world.engine.submit_copy(11, read, target, &|_| None).expect("a slot");
    let handle = world.engine.plans_of(3)[0];
    world.engine.take_over(handle).expect("it is the data path's");
    world.listen();
    world.settle(|_| 0);
    let record = world.engine.get_plan().expect("a record");
    world.engine.resubmit(record.handle, Components(1)).expect("it is ours");
    world.submit(later, opcode::WRITE, 0, 3, 4, 8);
    assert_eq!(world.asked.len(), 1, "the copy's read");
    world.settle(|_| 0);
    assert_eq!((world.media[&(0, 1000)], world.media[&(2, 1003)]), (77, 8));
    // A copy whose read fails writes nothing.
    world.engine.submit_copy(10, read, target, &|_| None).expect("a slot");
    world.listen();
    world.settle(|_| MEDIA_ERROR);
    assert_eq!(world.completed.last(), Some(&(ClientTag { queue: 0, command: 10 }, MEDIA_ERROR)));
}

#[test]
fn quotas_and_quiescence_leave_commands_waiting() {
    let bounds = Bounds { slots: 4, reserve: 1, per_client: 2, per_disk: 3, records: 8 };
    let mut world = World::new(2, 1, 64, bounds);
    let tag = |queue, command| ClientTag { queue, command };
    for command in 0..3 {
        world.submit(tag(1, command), opcode::READ, 0, 0, 8, 1);
    }
    world.submit(tag(2, 0), opcode::READ, 0, 0, 8, 2);
    world.submit(tag(3, 0), opcode::READ, 1, 0, 8, 3);
    assert_eq!(world.asked.len(), 3, "two of the first client, one of the second; one slot is kept");
    let own = command(opcode::READ, 1, 0, 8, 4);
    world.engine.submit_plan(9, own, &|_| None).expect("the reserve is the control path's");
    assert_eq!(world.engine.submit_plan(9, own, &|_| None), Err(ControlError::NoSlot));
    world.listen();
    world.settle(|_| 0);
    assert_eq!(world.completed.len(), 6);
    // A disk's own quota.
    let quota = QuotaEntry::default().with_slots(1);
    world.engine.change_tables(|tables| _ = tables.quotas.insert(0, quota));
    (10..12).for_each(|command| world.submit(tag(1, command), opcode::READ, 0, 0, 8, 1));
    assert_eq!(world.asked.len(), 1);
    world.settle(|_| 0);
    assert_eq!(world.completed.len(), 8);
    // What passes deactivated disks does not pass what is not there.
    world.engine.set_status(1, DiskStatus::Deactivated).expect("it is there");
    world.engine.submit_plan(9, own, &|_| None).expect("a slot");
    let absent = own.with_namespace_id(9);
    assert_eq!(world.engine.submit_plan(9, absent, &|_| None), Err(ControlError::Refused(0x400B)));
    world.listen();
    world.settle(|_| 0);
    world.engine.set_status(1, DiskStatus::Quiescent).expect("it is there");
    world.submit(tag(1, 9), opcode::READ, 1, 0, 8, 5);
    assert!(world.asked.is_empty());
    world.engine.set_status(1, DiskStatus::Enabled).expect("it is there");
    world.listen();
    assert_eq!(world.asked.len(), 1);
}

#[test]
fn a_full_record_ring_delays_only_what_needs_it() {
    let mut template = mirror(2);
    template.read.log = Components(3);
    let bounds = Bounds { records: 1, ..Bounds::default() };
    let mut world = World::new(2, 1, 64, bounds);
    world.engine.set_template(0, template).expect("sound");
    for command in 0..3 {
        world.submit(ClientTag { queue: 1, command }, opcode::READ, 0, 0, 8, 1);
    }
    world.settle(|fragment| if fragment.device < 2 { MEDIA_ERROR } else { 0 });
    assert_eq!(world.completed.len(), 1);
    world.submit(ClientTag { queue: 1, command: 9 }, opcode::READ, 1, 0, 8, 1);
    world.settle(|_| 0);
    assert_eq!(world.completed.len(), 2, "it needs no record");
    for _ in 0..3 {
        assert_eq!(world.engine.get_plan().expect("a record").reason_names(), ["log"]);
    }
    world.listen();
    assert_eq!(world.completed.len(), 4);
}

#[test]
fn inconsistent_templates_change_nothing() {
    let mut world = world(2, mirror(2));
    let mut small = mirror(2);
    small.components[1].disk = 5;
    assert_eq!(world.engine.set_template(0, small), Err(ControlError::Mismatch { component: 1, disk: 5 }));
    let beyond = PlanTemplate { read_policy: ReadPolicy::Preferred(3), ..mirror(2) };
    assert_eq!(
        world.engine.set_template(0, beyond),
        Err(ControlError::Template(TemplateError::Preferred(3)))
    );
    assert_eq!(world.engine.template(0), mirror(2));
    assert_eq!(world.engine.set_template(9, mirror(1)), Err(ControlError::NoDisk(9)));
}

/// What the brief says of a write of one fragment on each of `count` copies, of which `failing` fail.
fn expected(template: &PlanTemplate, count: usize, failing: Components) -> Seen {
    let masks = template.write;
    let fails = |number: &usize| failing.has(*number);
    let deactivated = (0..count).filter(fails).any(|number| masks.deactivate.has(number));
    let mut seen = Seen { deactivated, ..Seen::default() };
    let logged = (0..count).filter(fails).any(|number| masks.log.has(number));
    let with_data = (0..count).filter(fails).any(|number| masks.log_with_data.has(number));
    seen.reasons |= if logged { reason::LOG } else { 0 };
    seen.reasons |= if with_data { reason::LOG_WITH_DATA } else { 0 };
    if (0..count).filter(fails).any(|number| !masks.continuation.has(number)) {
        seen.reasons |= reason::COMPONENT_FAILURE;
        return seen;
    }
    let copies = count - (0..count).filter(fails).count();
    let counting = (0..count).filter(fails).find(|&number| masks.success.has(number));
    if let Some(number) = counting {
        seen.status = Some(0x4280 + number as u16);
    } else if copies < template.minimum.into() {
        let lowest = (0..count).find(fails);
        seen.status = Some(lowest.map_or(status::INTERNAL_ERROR | DNR, |number| 0x4280 + number as u16));
    } else {
        seen.status = Some(0);
        seen.out = (0..count).filter(fails).collect();
        seen.reasons |= if seen.out.is_empty() { 0 } else { reason::MISSED_WRITE };
    }
    if seen.reasons & (reason::MISSED_WRITE | reason::LOG_WITH_DATA) != 0 {
        seen.held = seen.status.take();
    }
    seen
}

/// What came of a write.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Told to the client.
    status: Option<u16>,
    /// Told when the control path releases it.
    held: Option<u16>,
    reasons: u16,
    out: Vec<usize>,
    deactivated: bool,
}

/// The masks of one component, of the 24 that there are: data are logged only of what is logged.
fn bits(choice: usize, number: usize, masks: &mut MaskSet) {
    let set = |mask: &mut Components, on: bool| {
        *mask = mask.or(if on { Components::one(number) } else { Components::NONE })
    };
    set(&mut masks.continuation, choice & 1 != 0);
    set(&mut masks.success, choice & 2 != 0);
    set(&mut masks.deactivate, choice & 4 != 0);
    set(&mut masks.log, choice / 8 > 0);
    set(&mut masks.log_with_data, choice / 8 > 1);
}

#[test]
fn every_combination_of_masks_and_failures_of_up_to_three_components() {
    let mut cases = 0;
    for count in 1..=3usize {
        let base = world(count, mirror(count)).engine.tables().clone();
        for choice in 0..24usize.pow(count as u32) {
            let mut template = mirror(count);
            template.write = MaskSet::default();
            (0..count).for_each(|n| bits(choice / 24usize.pow(n as u32) % 24, n, &mut template.write));
            for failing in 0..1u8 << count {
                template.minimum = (choice % 4 + usize::from(failing)) as u8 % 5;
                let failing = Components(failing);
                let seen = outcome(&base, &template, failing);
                assert_eq!(seen, expected(&template, count, failing), "{template:?}, {failing:?} fail");
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 2 * 24 + 4 * 576 + 8 * 13_824);
}

fn outcome(tables: &Tables, template: &PlanTemplate, failing: Components) -> Seen {
    let mut engine = DataPath::new(Bounds { slots: 20, ..Bounds::default() });
    engine.change_tables(|mine| *mine = tables.clone());
    engine.set_template(0, *template).expect("sound");
    engine.submit(CLIENT, command(opcode::WRITE, 0, 0, 4, 1), &|_| None);
    let mut seen = Seen::default();
    while let Some(action) = engine.next_action() {
        match action {
            Action::Issue { id, fragment, .. } => {
                let number = usize::from(fragment.device / 2);
                engine.returned(id, if failing.has(number) { 0x4280 + number as u16 } else { 0 });
            }
            Action::Complete { status, .. } => seen.status = Some(status),
            Action::Deactivated { .. } => seen.deactivated = true,
            Action::MovedOut { component, .. } => seen.out.push(component),
            Action::Fill { .. } | Action::Raw { .. } | Action::Fence { .. } => unreachable!("a plain write"),
        }
    }
    if let Some(record) = engine.get_plan() {
        seen.reasons = record.reasons;
        seen.held = record.held.map(|end| end.status);
        assert_eq!(record.owned, seen.status.is_none() && seen.held.is_none());
    }
    seen
}
