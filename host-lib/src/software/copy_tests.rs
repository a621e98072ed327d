//! Which copies are read and written as their states change, and what a failure does to the disk.

use volplane_abi::{opcode, status};

use super::super::{ClientTag, ComponentState, Components, DiskStatus, PlanTemplate};
use super::tests::{mirror, world, CLIENT, MEDIA_ERROR};
use super::*;

#[test]
fn a_copy_that_missed_a_write_since_is_not_tried() {
    let mut world = world(2, mirror(2));
    world.submit(CLIENT, opcode::READ, 0, 0, 4, 1);
    world.submit(ClientTag { queue: 1, command: 8 }, opcode::WRITE, 0, 8, 4, 2);
    let place = |world: &super::super::world::World, device| {
        world.asked.iter().position(|asked| asked.fragment.device == device)
    };
    let failing = world.asked.iter().rposition(|asked| asked.fragment.device == 3).expect("the second copy");
    world.answer(failing, MEDIA_ERROR);
    let written = world.asked.iter().rposition(|asked| asked.fragment.opcode == opcode::WRITE);
    world.answer(written.expect("the first copy"), 0);
    assert_eq!(world.moved_out, [(0, 1)]);
    let read = place(&world, 0).expect("the read");
    world.answer(read, MEDIA_ERROR);
    assert_eq!((world.asked.len(), world.completed.clone()), (0, vec![(CLIENT, MEDIA_ERROR)]));
}

#[test]
fn a_write_that_no_copy_takes_fails_whatever_the_minimum() {
    let mut template = PlanTemplate { minimum: 0, ..mirror(2) };
    for component in &mut template.components[..2] {
        component.state = ComponentState::Out;
    }
    template.durably_out = Components(0xFF);
    let mut world = world(2, template);
    for code in [opcode::WRITE, opcode::FLUSH, opcode::READ] {
        world.submit(CLIENT, code, 0, 0, 4, 1);
        assert_eq!(world.completed.pop(), Some((CLIENT, status::INTERNAL_ERROR | DNR)), "opcode {code}");
    }
    // One that is being brought up to date takes it, and no copy need have it.
    template.components[1].state = ComponentState::WriteOnly;
    template.durably_out = Components(!2);
    world.engine.set_template(0, template).expect("sound");
    world.submit(CLIENT, opcode::WRITE, 0, 0, 4, 1);
    world.settle(|_| 0);
    assert_eq!(world.completed, [(CLIENT, 0)]);
}

#[test]
fn a_failure_deactivates_until_the_control_path_says_otherwise() {
    let mut template = mirror(2);
    template.write.deactivate = Components(2);
    let mut world = world(2, template);
    world.submit(CLIENT, opcode::WRITE, 0, 0, 4, 1);
    world.settle(|fragment| if fragment.device == 2 { MEDIA_ERROR } else { 0 });
    assert_eq!(world.deactivated, [0]);
    let states = world.engine.tables().states_of(0);
    let vd = world.engine.tables().vds[&0];
    assert_eq!(
        (states.deactivated(), vd.status()),
        (1, vd_status::ENABLED),
        "the disk's entry is the control path's"
    );
    world.submit(CLIENT, opcode::READ, 0, 0, 4, 2);
    assert_eq!(world.completed.pop(), Some((CLIENT, status::NAMESPACE_NOT_READY | DNR)));
    world.engine.set_status(0, DiskStatus::Enabled).expect("it is there");
    world.submit(CLIENT, opcode::READ, 0, 0, 4, 3);
    world.settle(|_| 0);
    assert_eq!(world.completed.pop(), Some((CLIENT, 0)));
}
