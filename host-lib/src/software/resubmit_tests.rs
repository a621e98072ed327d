//! Plans that the control path gives back in part.

use volplane_abi::{opcode, ComponentEntry};

use super::super::world::World;
use super::super::{ClientTag, ComponentState, Components, ControlError, Record};
use super::tests::{mirror, world, CLIENT, MEDIA_ERROR};

/// A write of three copies of which the second fails, unforgiven.
fn one_failed(world: &mut World, serial: u64) -> Record {
    world.submit(CLIENT, opcode::WRITE, 0, 0, 4, serial);
    world.settle(|fragment| if fragment.device == 2 { MEDIA_ERROR } else { 0 });
    let record = world.engine.get_plan().expect("a record");
    assert_eq!((record.reason_names(), record.owned), (vec!["component failure"], true));
    record
}

#[test]
fn a_plan_is_given_back_in_part() {
    let mut template = mirror(3);
    template.write.continuation = Components(0b101);
    let mut world = world(3, template);
    let record = one_failed(&mut world, 1);
    let wrong = |component| Err(ControlError::Component { handle: record.handle, component });
    assert_eq!(world.engine.resubmit(record.handle, Components(0b1010)), wrong(3));
    world.engine.resubmit(record.handle, Components(0b010)).expect("it is ours");
    world.listen();
    assert_eq!(world.asked.iter().map(|asked| asked.fragment.device).collect::<Vec<_>>(), [2]);
    world.settle(|_| 0);
    assert_eq!(world.completed, [(CLIENT, 0)]);

    // What is not used any more drops out, and what is used by now has to begin.
    let record = one_failed(&mut world, 2);
    template.components[1].state = ComponentState::Out;
    template.durably_out = Components(!0b101);
    world.engine.set_template(0, template).expect("sound");
    world.engine.resubmit(record.handle, Components::NONE).expect("it is ours");
    world.listen();
    assert!(world.asked.is_empty());
    assert_eq!(world.completed, [(CLIENT, 0); 2]);
    template.components[1].state = ComponentState::InSync;
    template.durably_out = Components(!0b111);
    world.engine.set_template(0, template).expect("sound");

    // Who writes there meanwhile lets all of it begin again.
    let record = one_failed(&mut world, 3);
    world.submit(ClientTag { queue: 1, command: 8 }, opcode::WRITE, 0, 3, 4, 4);
    world.settle(|_| 0);
    world.engine.resubmit(record.handle, Components(0b010)).expect("it is ours");
    world.listen();
    assert_eq!(world.asked.len(), 3);
    world.settle(|_| 0);
    // And another template leaves no choice.
    let record = one_failed(&mut world, 5);
    world.engine.change_tables(|tables| {
        let number = tables.vds[&0].plan();
        tables.plans.insert(number + 1, tables.plans[&number]);
        for place in 0..3 {
            let entry = tables.components[&ComponentEntry::index(number, place)];
            tables.components.insert(ComponentEntry::index(number + 1, place), entry);
        }
        let vd = tables.vds[&0].with_plan(number + 1);
        tables.vds.insert(0, vd);
    });
    let replaced = Err(ControlError::Replaced(record.handle));
    assert_eq!(world.engine.resubmit(record.handle, Components(0b010)), replaced);
    world.engine.resubmit(record.handle, Components::ALL).expect("it is ours");
    world.listen();
    assert_eq!(world.asked.len(), 3);
    world.settle(|_| 0);
    assert_eq!(world.completed.len(), 5);
}
