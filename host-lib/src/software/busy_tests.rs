//! Reads of the least busy copy.

use volplane_abi::{opcode, status};

use super::super::template::ReadPolicy;
use super::super::world::World;
use super::super::{ClientTag, PlanTemplate};
use super::tests::{mirror, MEDIA_ERROR};
use super::*;

fn tag(command: u16) -> ClientTag {
    ClientTag { queue: 1, command }
}

fn busy_world(count: usize) -> World {
    let mut world = World::new(count as u16 + 1, 1, 64, Bounds::default());
    let template = PlanTemplate { read_policy: ReadPolicy::LeastOutstanding, ..mirror(count) };
    world.engine.set_template(0, template).expect("a sound template");
    world
}

/// The copy that the last command asked for was sent to.
fn last(world: &World) -> u16 {
    world.asked.last().expect("something was asked for").fragment.device / 2
}

#[test]
fn a_read_goes_to_the_copy_with_the_fewest_parts() {
    let mut world = busy_world(3);
    let read = |world: &mut World, command, blocks| {
        world.submit(tag(command), opcode::READ, 0, 0, blocks, command.into());
        last(world)
    };
    // A part of two fragments is one part.
    let copies: Vec<u16> =
        [12, 4, 4, 4].into_iter().zip(1..).map(|(blocks, n)| read(&mut world, n, blocks)).collect();
    assert_eq!(copies, [0, 1, 2, 0]);
    // Another disk's reads of the same devices do not count.
    world.submit(tag(9), opcode::READ, 1, 0, 4, 9);
    assert_eq!(read(&mut world, 5, 4), 1);
    // One of copy 2 is over; two are left on each of the others.
    let of_2 = world.asked.iter().position(|asked| asked.fragment.device / 2 == 2).expect("one");
    world.answer(of_2, 0);
    assert_eq!([read(&mut world, 6, 4), read(&mut world, 7, 4), read(&mut world, 8, 4)], [2, 2, 0]);
    world.settle(|_| status::SUCCESS);
    assert_eq!(read(&mut world, 10, 4), 0);
}

#[test]
fn writes_count_and_what_waits_for_its_blocks_does_not() {
    let mut world = busy_world(2);
    world.submit(tag(1), opcode::WRITE, 0, 0, 4, 1);
    // It waits for the first one.
    world.submit(tag(2), opcode::WRITE, 0, 0, 4, 2);
    assert_eq!(world.asked.len(), 2);
    world.answer(0, 0);
    world.submit(tag(3), opcode::READ, 0, 32, 4, 3);
    assert_eq!(last(&world), 0);
    world.submit(tag(4), opcode::READ, 0, 32, 4, 4);
    assert_eq!(last(&world), 0, "one part each, the lowest number");
    world.submit(tag(5), opcode::READ, 0, 32, 4, 5);
    assert_eq!(last(&world), 1);
    world.settle(|_| status::SUCCESS);
    assert_eq!(world.completed.len(), 5);
}

/// The policy says which copy is tried first; then they are read in their order.
#[test]
fn a_failed_read_goes_on_with_the_lowest_that_is_left() {
    for policy in [ReadPolicy::LeastOutstanding, ReadPolicy::RoundRobin] {
        let mut world = busy_world(3);
        let template = PlanTemplate { read_policy: policy, ..mirror(3) };
        world.engine.set_template(0, template).expect("a sound template");
        for command in 1..3 {
            world.submit(tag(command), opcode::READ, 0, 0, 4, command.into());
        }
        assert_eq!(last(&world), 1);
        world.answer(1, MEDIA_ERROR);
        assert_eq!(last(&world), 0, "{policy:?}");
        world.answer(1, MEDIA_ERROR);
        assert_eq!(last(&world), 2);
        world.settle(|_| status::SUCCESS);
        assert_eq!(world.completed, [(tag(1), 0), (tag(2), 0)]);
    }
}
