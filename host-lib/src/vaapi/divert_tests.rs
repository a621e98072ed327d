use volplane_abi::tables::table;

use super::plan_tests::{disks, mirrored, Watched, OWNER};
use super::*;
use crate::software::Components;

/// The blocks of a disk that are diverted.
fn diverted(tables: &Watched, disk: VdHandle) -> Vec<u64> {
    (0..64).filter(|&block| tables.path.tables().is_diverted(disk.0, block, 1)).collect()
}

fn problem(error: VaapiError) -> String {
    match error {
        VaapiError::Argument { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn ranges_come_and_go_and_the_plan_stays() {
    let (mut tables, mut control) = mirrored();
    let plan = tables.path.template(OWNER.0);
    control.io_add_divert_range(&mut tables, OWNER, 8..10).expect("a range");
    assert_eq!(tables.log.last(), Some(&table::VD));
    assert_eq!(diverted(&tables, OWNER), [8, 9]);
    control.io_add_divert_range(&mut tables, OWNER, 63..64).expect("a range");
    assert_eq!(diverted(&tables, OWNER), [8, 9, 63]);
    assert!(
        tables.path.tables().is_diverted(OWNER.0, 0, 9) && !tables.path.tables().is_diverted(OWNER.0, 0, 8)
    );
    assert_eq!(control.divert_ranges(OWNER), [8..10, 63..64]);
    // Another plan keeps them, and they keep the plan.
    tables.close();
    control.peap_io_plan_success_mask(&mut tables, OWNER, Components(1)).expect("a mask");
    assert_eq!(diverted(&tables, OWNER), [8, 9, 63]);
    tables.close();
    control.iop_remove_divert_range(&mut tables, OWNER, 8..10).expect("it is there");
    assert_eq!(diverted(&tables, OWNER), [63]);
    control.iop_remove_divert_range(&mut tables, OWNER, 63..64).expect("it is there");
    assert_eq!((diverted(&tables, OWNER), control.divert_ranges(OWNER)), (vec![], &[][..]));
    let mut expected = plan;
    expected.write.success = Components(1);
    assert_eq!(tables.path.template(OWNER.0), expected);
}

#[test]
fn a_disk_without_a_plan_gets_one() {
    let (mut tables, mut control) = disks();
    let disk = VdHandle(1);
    control.io_add_divert_range(&mut tables, disk, 0..64).expect("a range");
    assert_eq!(diverted(&tables, disk).len(), 64);
    assert!(diverted(&tables, OWNER).is_empty());
    assert_eq!(tables.path.template(disk.0), PlanTemplate::single(disk.0));
}

#[test]
fn what_is_wrong_changes_nothing() {
    let (mut tables, mut control) = mirrored();
    control.io_add_divert_range(&mut tables, OWNER, 3..5).expect("a range");
    tables.log.clear();
    let mut add = |blocks| control.io_add_divert_range(&mut tables, OWNER, blocks).expect_err("no range");
    assert!(problem(add(4..4)).contains("there are none"));
    assert!(problem(add(60..65)).contains("the disk has 64"));
    assert!(problem(add(3..5)).contains("already"));
    let error = control.iop_remove_divert_range(&mut tables, OWNER, 3..4).expect_err("another range");
    assert_eq!(problem(error), "blocks 3..4 of virtual disk 2 are no divert range");
    let error = control.io_add_divert_range(&mut tables, VdHandle(9), 0..1).expect_err("no disk");
    assert!(matches!(error, VaapiError::NoSuchDisk { disk: VdHandle(9), .. }));
    assert!(tables.log.is_empty(), "{:?}", tables.log);
    // Runs of 1 and 2 are taken; one of 3 fills the table, and then there is none of 4.
    for blocks in [10..11, 12..13] {
        control.io_add_divert_range(&mut tables, OWNER, blocks).expect("room");
        let is_plan = |(_, retired): &(Epoch, Retired)| matches!(retired, Retired::Plan(_));
        let place = control.retired.iter().position(is_plan).expect("the plan before");
        if let Some((_, Retired::Plan(plan))) = control.retired.remove(place) {
            control.plans.give(plan);
        }
    }
    tables.log.clear();
    let error = control.io_add_divert_range(&mut tables, OWNER, 20..21).expect_err("no room");
    assert!(matches!(error, VaapiError::NoRoom { table: "divert range", wanted: 4, .. }), "{error}");
    assert_eq!((tables.log.len(), diverted(&tables, OWNER)), (0, vec![3, 4, 10, 12]));
    tables.close();
    control.iop_remove_divert_range(&mut tables, OWNER, 3..5).expect("room again");
    assert_eq!(diverted(&tables, OWNER), [10, 12]);
}

#[test]
fn a_write_that_fails_leaves_the_ranges_of_before() {
    let (mut tables, mut control) = mirrored();
    control.io_add_divert_range(&mut tables, OWNER, 3..5).expect("a range");
    tables.log.clear();
    control.io_add_divert_range(&mut tables, OWNER, 7..8).expect("a range");
    let writes = tables.log.len();
    for fails in 0..writes {
        let (mut tables, mut control) = mirrored();
        control.io_add_divert_range(&mut tables, OWNER, 3..5).expect("a range");
        tables.close();
        tables.writes_left = Some(fails);
        control.io_add_divert_range(&mut tables, OWNER, 7..8).expect_err("refused");
        tables.writes_left = None;
        assert_eq!(diverted(&tables, OWNER), [3, 4]);
        assert_eq!(control.divert_ranges(OWNER), std::slice::from_ref(&(3..5)));
        tables.close();
        control.iop_remove_divert_range(&mut tables, OWNER, 3..5).expect("room");
        assert!(diverted(&tables, OWNER).is_empty());
    }
}
