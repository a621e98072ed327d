//! Which records say that a component failed by a time-out.

use volplane_abi::opcode;
use volplane_abi::plan::reason;

use super::super::world::World;
use super::super::{Components, PlanTemplate};
use super::tests::{mirror, world, CLIENT, MEDIA_ERROR};

/// Copies of which the first waits for 10 ticks, and failures are logged.
fn impatient(copies: usize) -> World {
    let mut template: PlanTemplate = mirror(copies);
    template.components[0].time_out = 10;
    (template.read.log, template.write.log) = (Components(1), Components(1));
    world(copies, template)
}

fn reasons(world: &mut World) -> u16 {
    world.listen();
    world.engine.get_plan().expect("a record").reasons
}

#[test]
fn a_record_tells_a_time_out_from_an_error() {
    // Late, and then quiesced: its status is that.
    let mut world = impatient(2);
    world.submit(CLIENT, opcode::WRITE, 0, 0, 4, 1);
    world.answer(1, 0);
    world.engine.advance(10);
    world.engine.path_quiesced(0);
    assert_eq!(reasons(&mut world), reason::LOG | reason::MISSED_WRITE | reason::TIME_OUT);
    // Late, and then an error.
    let mut world = impatient(2);
    world.submit(CLIENT, opcode::WRITE, 0, 0, 4, 1);
    world.answer(1, 0);
    world.engine.advance(10);
    world.answer(0, MEDIA_ERROR);
    assert_eq!(reasons(&mut world), reason::LOG | reason::MISSED_WRITE);
    // A late read has failed at once.
    let mut world = impatient(2);
    world.submit(CLIENT, opcode::READ, 0, 0, 4, 1);
    world.engine.advance(10);
    world.answer(0, MEDIA_ERROR);
    world.listen();
    world.answer(0, 0);
    assert_eq!(reasons(&mut world), reason::LOG | reason::TIME_OUT);
}

/// What a plan keeps when it is given back in part was told before.
#[test]
fn a_time_out_is_told_once() {
    let mut world = impatient(2);
    world
        .engine
        .set_template(0, {
            let mut template = world.engine.template(0);
            template.write.continuation = Components(2);
            template.write.log = Components::NONE;
            template
        })
        .expect("a sound template");
    world.submit(CLIENT, opcode::WRITE, 0, 0, 4, 1);
    world.answer(1, 0);
    world.engine.advance(10);
    world.engine.path_quiesced(0);
    world.listen();
    let record = world.engine.get_plan().expect("a record");
    assert_eq!(record.reasons, reason::COMPONENT_FAILURE | reason::TIME_OUT);
    world.engine.path_up(0);
    world.engine.resubmit(record.handle, Components(2)).expect("it is ours");
    world.listen();
    world.settle(|_| 0);
    assert_eq!(reasons(&mut world), reason::COMPONENT_FAILURE);
}
