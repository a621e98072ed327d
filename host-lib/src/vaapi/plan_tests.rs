use volplane_abi::tables::table;
use volplane_abi::{opcode, vd_status, ComponentEntry, ComponentStates, SubmissionEntry, VdEntry};
use volplane_driver::CardError;

use super::tests::{control_path_of, map, segment, ROOM};
use super::*;
use crate::software::{
    Bounds, ClientTag, Component, ComponentState, Components, DataPath, PlanTemplate, ReadPolicy,
    TemplateError,
};
use ComponentState::{Absent, InSync, Out, WriteOnly};

/// The software data path's tables. Writes are logged; they can be refused, and a component can be moved out
/// behind the writer's back.
pub(super) struct Watched {
    pub(super) path: DataPath,
    pub(super) log: Vec<u16>,
    pub(super) writes_left: Option<usize>,
    /// Before the write of states, or else right after it: this component goes out.
    races: Option<(bool, usize)>,
    /// The epoch of now, and the oldest that is not closed.
    epochs: (u32, u32),
}

impl Tables for Watched {
    fn write(&mut self, entries: &[TableEntry]) -> Result<(), CardError> {
        for entry in entries {
            if self.writes_left == Some(0) {
                let (card, operation, table) = ("fake".to_owned(), "write", "");
                return Err(CardError::Table { card, operation, table, index: entry.index, status: 2 });
            }
            self.writes_left = self.writes_left.map(|left| left - 1);
            let race = self.races.filter(|_| entry.table == table::STATES);
            if let Some((true, component)) = race {
                self.move_out(entry.index as u16, component);
            }
            self.log.push(entry.table);
            self.path.write(&[*entry])?;
            if let Some((false, component)) = race {
                self.move_out(entry.index as u16, component);
            }
        }
        Ok(())
    }

    fn read(&mut self, table: u16, index: u32) -> Result<[u8; RECORD_BYTES], CardError> {
        self.path.read(table, index)
    }

    fn commit(&mut self, disks: &[TableEntry]) -> Result<Epoch, CardError> {
        self.write(disks)?;
        self.epochs.0 += 1;
        Ok(Epoch(self.epochs.0 - 1))
    }

    fn is_closed(&mut self, epoch: Epoch) -> Result<bool, CardError> {
        Ok(epoch.0 < self.epochs.1)
    }
}

impl Watched {
    /// Whatever was admitted is over.
    pub(super) fn close(&mut self) {
        self.epochs.1 = self.epochs.0;
    }

    fn move_out(&mut self, disk: u16, component: usize) {
        self.path.change_tables(|tables| {
            tables.states.insert(disk, Out.put(tables.states_of(disk), component));
        });
    }

    fn states(&self, disk: u16) -> Vec<ComponentState> {
        self.path.template(disk).components.iter().take(3).map(|component| component.state).collect()
    }
}

pub(super) const OWNER: VdHandle = VdHandle(2);

/// Disks 0 and 1, 2 and 3 of 64 blocks, on devices 0 and 1 in turns.
pub(super) fn disks() -> (Watched, ControlPath) {
    let path = DataPath::new(Bounds::default());
    let mut tables = Watched { path, log: Vec::new(), writes_left: None, races: None, epochs: (0, 0) };
    let mut control = control_path_of(TableSizes { allocations: 24, extents: 96, ..ROOM }, &mut tables);
    for disk in 0..4 {
        let map = map(vec![segment(64, &[(disk % 2, 100 * u64::from(disk))])]);
        control.ap_set_map_vd(&mut tables, VdHandle(disk), &map).expect("a map");
    }
    tables.log.clear();
    (tables, control)
}

/// Disk 2 in two copies, on itself and on disk 3.
fn mirror() -> PlanTemplate {
    let mut plan = PlanTemplate::single(OWNER.0);
    plan.components[1] = Component { disk: 3, state: InSync, time_out: 500, retries: 2 };
    (plan.write.continuation, plan.read.continuation) = (Components(3), Components(3));
    (plan.write.log, plan.write.success) = (Components(2), Components::NONE);
    (plan.read_policy, plan.durably_out) = (ReadPolicy::RoundRobin, Components(!3));
    plan
}

pub(super) fn mirrored() -> (Watched, ControlPath) {
    let (mut tables, mut control) = disks();
    control.ssap_set_io_plan(&mut tables, OWNER, &mirror()).expect("a sound plan");
    tables.log.clear();
    (tables, control)
}

fn problem(error: VaapiError) -> PlanError {
    match error {
        VaapiError::Plan { disk: OWNER, source, .. } => source,
        other => panic!("{other}"),
    }
}

#[test]
fn a_plan_is_switched_to_and_read_back() {
    let (mut tables, mut control) = disks();
    assert_eq!(control.ssri_get_io_plan(&mut tables, OWNER).expect("read"), PlanTemplate::single(2));
    control.ssap_set_io_plan(&mut tables, OWNER, &mirror()).expect("a sound plan");
    assert_eq!(tables.log.last(), Some(&table::VD));
    assert_eq!(tables.path.template(2), mirror());
    assert_eq!(control.ssri_get_io_plan(&mut tables, OWNER).expect("read"), mirror());
    // The map stands in the component's entry once more.
    let entry: ComponentEntry = read("", &mut tables, table::COMPONENT, 9).expect("read");
    let vd: VdEntry = read("", &mut tables, table::VD, 3).expect("read");
    assert_eq!(
        (entry.disk(), entry.map_root(), entry.allocation_shift(), entry.flush_devices()),
        (3, vd.map_root(), vd.allocation_shift(), 2)
    );
    // Another map of the disk keeps the plan.
    control
        .ap_set_map_vd(&mut tables, OWNER, &map(vec![segment(64, &[(1, 900)])]))
        .expect("of the same size");
    assert_eq!(tables.path.template(2), mirror());
}

#[test]
fn what_is_wrong_is_typed_and_changes_nothing() {
    let (mut tables, mut control) = mirrored();
    control.ap_set_map_vd(&mut tables, VdHandle(1), &map(vec![segment(32, &[(0, 100)])])).expect("a map");
    let (mut absent, mut small, mut twice, mut beyond) = (mirror(), mirror(), mirror(), mirror());
    absent.components[1].disk = 9;
    small.components[1].disk = 1;
    twice.components[1].disk = 2;
    beyond.write.success = Components(8);
    let minimum = PlanTemplate { minimum: 9, ..mirror() };
    let preferred = PlanTemplate { read_policy: ReadPolicy::Preferred(4), ..mirror() };
    let beyond_error = TemplateError::MaskBeyond { set: "write", mask: "success", component: 3 };
    let cases = [
        (absent, PlanError::NoMap { component: 1, disk: VdHandle(9) }),
        (small, PlanError::Size { component: 1, disk: VdHandle(1), blocks: 32, wanted: 64 }),
        (twice, PlanError::Shared { component: 1, disk: OWNER, owner: OWNER }),
        (beyond, beyond_error.into()),
        (minimum, TemplateError::Minimum(9).into()),
        (preferred, TemplateError::Preferred(4).into()),
    ];
    tables.log.clear();
    for (plan, wanted) in cases {
        let error = control.ssap_set_io_plan(&mut tables, OWNER, &plan).expect_err("wrong");
        assert_eq!(problem(error), wanted);
    }
    let unknown = control.ssap_set_io_plan(&mut tables, VdHandle(7), &mirror());
    assert!(matches!(unknown, Err(VaapiError::NoSuchDisk { disk: VdHandle(7), .. })), "{unknown:?}");
    let mut other = PlanTemplate::single(0);
    other.components[1] = Component { disk: 3, ..mirror().components[1] };
    other.durably_out = Components(!3);
    let shared = control.ssap_set_io_plan(&mut tables, VdHandle(0), &other).expect_err("disk 3 is taken");
    let text = "SSAP_SetIOPlan: plan of virtual disk 0: component 1: virtual disk 3 is a component of virtual disk 2 already";
    assert_eq!(shared.to_string(), text);
    assert!(tables.log.is_empty(), "{:?}", tables.log);
    // The size of the disk and of its copies is the plan's.
    for disk in [2, 3] {
        let smaller = control.ap_set_map_vd(&mut tables, VdHandle(disk), &map(vec![segment(32, &[(0, 0)])]));
        assert!(matches!(smaller, Err(VaapiError::Argument { .. })), "{smaller:?}");
        let longer =
            control.ap_set_vd_storage_segment(&mut tables, VdHandle(disk), 2, &segment(32, &[(0, 0)]));
        assert!(matches!(longer, Err(VaapiError::Argument { .. })), "{longer:?}");
    }
    assert!(tables.log.is_empty(), "{:?}", tables.log);
}

#[test]
fn replaced_plans_are_reused_only_when_they_are_released() {
    let (mut tables, mut control) = mirrored();
    let number = |tables: &Watched| tables.path.tables().vds[&2].plan();
    assert_eq!(number(&tables), 1);
    // There is room for three.
    for wanted in [2, 3] {
        control.peap_set_io_plan_param(&mut tables, OWNER, 1, PlanParam::Retries(wanted)).expect("room");
        assert_eq!(number(&tables), u16::from(wanted));
    }
    let full = control.peap_set_io_plan_param(&mut tables, OWNER, 1, PlanParam::Retries(7));
    assert!(matches!(full, Err(VaapiError::NoRoom { table: "plan", .. })), "{full:?}");
    assert_eq!(tables.path.template(2).components[1].retries, 3);
    tables.close();
    control.peap_set_io_plan_param(&mut tables, OWNER, 1, PlanParam::TimeOut(9)).expect("room");
    assert_eq!(number(&tables), 1);
    let params = control.peri_get_io_plan_param(&mut tables, OWNER, 1).expect("read");
    assert_eq!(params, [PlanParam::TimeOut(9), PlanParam::Retries(3)]);
}

#[test]
fn masks_are_set_one_by_one() {
    let (mut tables, mut control) = mirrored();
    control.peap_io_plan_continuation_mask(&mut tables, OWNER, PlanUse::Reads, Components(1)).expect("set");
    control.peap_io_plan_success_mask(&mut tables, OWNER, Components(1)).expect("set");
    tables.close();
    control
        .peap_io_plan_log_mask(&mut tables, OWNER, PlanUse::Writes, Components(3), Components(1))
        .expect("set");
    tables.close();
    control.peap_vd_deactivate_mask(&mut tables, OWNER, PlanUse::Reads, Components(2)).expect("set");
    let mut wanted = mirror();
    wanted.read.continuation = Components(1);
    wanted.write.success = Components(1);
    (wanted.write.log, wanted.write.log_with_data) = (Components(3), Components(1));
    wanted.read.deactivate = Components(2);
    assert_eq!(tables.path.template(2), wanted);
    let beyond = control.peap_io_plan_success_mask(&mut tables, OWNER, Components(4)).expect_err("a hole");
    assert!(matches!(problem(beyond), PlanError::Template(TemplateError::MaskBeyond { component: 2, .. })));
}

/// Whatever write is the last that the card takes, the disk has components with maps only, and one in sync.
#[test]
fn components_come_and_go_at_once() {
    let add = PlanChange::Add { component: 2, map: VdHandle(1), time_out: 7, retries: 1 };
    let remove = PlanChange::Remove { component: 0 };
    for (change, before, after) in [
        (add, [InSync, InSync, Absent], [InSync, InSync, WriteOnly]),
        (remove, [InSync, InSync, Absent], [Absent, InSync, Absent]),
    ] {
        for refused in 0.. {
            let (mut tables, mut control) = mirrored();
            tables.writes_left = Some(refused);
            let result = control.ssap_modify_io_plan(&mut tables, OWNER, change);
            tables.writes_left = None;
            let now = tables.path.template(2);
            for number in now.present().numbers() {
                assert_eq!(now.components[number].disk, [2, 3, 1][number], "component {number}");
            }
            assert!(now.readable().any());
            let states = tables.states(2);
            if result.is_ok() {
                assert_eq!(states, after);
                assert!(refused > 10, "plan, components, states and disk");
                break;
            }
            assert!(states == before || states == after, "{states:?} after {refused} writes");
        }
    }
    let (mut tables, mut control) = mirrored();
    control.ssap_modify_io_plan(&mut tables, OWNER, add).expect("added");
    let error = control.ssap_modify_io_plan(&mut tables, OWNER, add).expect_err("it is there");
    assert_eq!(problem(error), PlanError::Taken(2));
    let plan = tables.path.template(2);
    assert_eq!((plan.write.continuation, plan.write.log), (Components(7), Components(6)));
    assert_eq!((plan.components[2].time_out, plan.durably_out), (7, Components(!7)));
    control.ssap_modify_io_plan(&mut tables, OWNER, remove).expect("removed");
    let back = PlanChange::Add { component: 0, map: OWNER, time_out: 0, retries: 0 };
    let error = control.ssap_modify_io_plan(&mut tables, OWNER, back).expect_err("commands may know it");
    assert_eq!(problem(error), PlanError::Leaving(0));
    tables.close();
    let plan = tables.path.template(2);
    assert_eq!((plan.write.continuation, plan.present()), (Components(6), Components(6)));
    let error = control.ssap_modify_io_plan(&mut tables, OWNER, remove).expect_err("it is gone");
    assert_eq!(problem(error), PlanError::NoComponent(0));
    control.ssap_modify_io_plan(&mut tables, OWNER, back).expect("the position is free");
    control.ssap_modify_io_plan(&mut tables, OWNER, remove).expect("removed");
    tables.close();
    let last = control.ssap_modify_io_plan(&mut tables, OWNER, PlanChange::Remove { component: 1 });
    assert_eq!(problem(last.expect_err("component 2 is write-only")), PlanError::NothingInSync);
}

/// What a plan that the control path has would keep is said by position: no other component comes into one meanwhile.
#[test]
fn positions_wait_for_plans_that_the_control_path_has() {
    let (mut tables, mut control) = mirrored();
    control.ssap_modify_io_plan(&mut tables, OWNER, PlanChange::Remove { component: 1 }).expect("removed");
    tables.close();
    control.io_add_divert_range(&mut tables, OWNER, 0..4).expect("a range");
    tables.close();
    let client = ClientTag { queue: 1, command: 7 };
    let read = SubmissionEntry::default().with_opcode(opcode::READ).with_namespace_id(3).with_prp1(0x10_0000);
    tables.path.submit(client, read, &|_| None);
    let plan = tables.path.get_plan().expect("it is diverted").handle;
    let back = PlanChange::Add { component: 1, map: VdHandle(3), time_out: 0, retries: 0 };
    let error = control.ssap_modify_io_plan(&mut tables, OWNER, back).expect_err("a plan is ours");
    assert_eq!(problem(error), PlanError::Leaving(1));
    control.peap_io_plan_success_mask(&mut tables, OWNER, Components(1)).expect("no component comes");
    tables.close();
    tables.path.complete(plan, 0).expect("it is owned");
    control.ssap_modify_io_plan(&mut tables, OWNER, back).expect("nothing is ours");
}

#[test]
fn the_card_moves_a_component_out_while_its_state_is_set() {
    let (mut tables, mut control) = mirrored();
    let set = |control: &mut ControlPath, tables: &mut Watched, state| {
        control.ssap_set_component_state(tables, OWNER, 1, state).map_err(problem)
    };
    tables.move_out(2, 1);
    let confirm = |control: &mut ControlPath, tables: &mut Watched, number| {
        control.ssap_confirm_component_out(tables, OWNER, number).map_err(problem)
    };
    assert_eq!(confirm(&mut control, &mut tables, 0), Err(PlanError::NotOut { component: 0, found: InSync }));
    confirm(&mut control, &mut tables, 1).expect("it is out");
    assert_eq!(tables.path.template(2).durably_out, Components(!1));
    assert_eq!(set(&mut control, &mut tables, InSync), Err(PlanError::StillOut(1)));
    set(&mut control, &mut tables, WriteOnly).expect("from out");
    assert_eq!((tables.states(2)[1], tables.path.template(2).durably_out), (WriteOnly, Components(!3)));
    // A failure before the write is not overwritten, and one after it is not overlooked.
    for before in [true, false] {
        tables.races = Some((before, 1));
        let moved = PlanError::Moved { component: 1, wanted: InSync, found: Out };
        assert_eq!(set(&mut control, &mut tables, InSync), Err(moved));
        tables.races = None;
        assert_eq!(tables.states(2)[1], Out);
        set(&mut control, &mut tables, WriteOnly).expect("from out");
    }
    set(&mut control, &mut tables, InSync).expect("from write-only");
    assert_eq!(tables.states(2), [InSync, InSync, Absent]);
    let hole = control.ssap_set_component_state(&mut tables, OWNER, 2, InSync).expect_err("a hole");
    assert_eq!(problem(hole), PlanError::NoComponent(2));
    // A plan that is set anew does not bring a component back.
    tables.move_out(2, 1);
    control.ssap_set_io_plan(&mut tables, OWNER, &mirror()).expect("sound");
    assert_eq!(tables.states(2), [InSync, Out, Absent]);
}

#[test]
fn a_map_that_changes_changes_where_plans_repeat_it() {
    let (mut tables, mut control) = mirrored();
    let flushed = |tables: &mut Watched| {
        let entry: ComponentEntry = read("", tables, table::COMPONENT, 9).expect("read");
        entry.flush_devices()
    };
    let place = StorageExtent::new(0, 700);
    control.ap_set_vd_storage_extent(&mut tables, VdHandle(3), 0, 1, place).expect("moved");
    assert_eq!(flushed(&mut tables), 3);
    control.ap_set_map_vd(&mut tables, VdHandle(3), &map(vec![segment(64, &[(0, 800)])])).expect("a map");
    assert_eq!(flushed(&mut tables), 1);
    let entry: ComponentEntry = read("", &mut tables, table::COMPONENT, 9).expect("read");
    assert_eq!(entry.map_root(), tables.path.tables().vds[&3].map_root());
    assert_eq!((entry.time_out(), entry.retries()), (500, 2));
}

#[test]
fn enabling_a_disk_ends_what_a_failure_began() {
    let (mut tables, mut control) = mirrored();
    tables.path.change_tables(|tables| {
        let struck = tables.states_of(2).with_deactivated(1);
        tables.states.insert(2, struck);
    });
    let status = |tables: &Watched| tables.path.tables().disk_now(3).expect("a disk").status();
    assert_eq!(status(&tables), vd_status::DEACTIVATED);
    control.ap_set_status_vd(&mut tables, OWNER, VdStatus::Deactivated).expect("set");
    let states: ComponentStates = read("", &mut tables, table::STATES, 2).expect("read");
    assert_eq!(states.deactivated(), 1);
    control.ap_set_status_vd(&mut tables, OWNER, VdStatus::Enabled).expect("set");
    assert_eq!(status(&tables), vd_status::ENABLED);
    assert_eq!(tables.path.template(2), mirror());
}
