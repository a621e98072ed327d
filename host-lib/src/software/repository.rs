//! The tables of the software data path as VAAPI writes and reads them: as those of a card.

use volplane_abi::status::{self, DNR};
use volplane_abi::tables::table;
use volplane_abi::{PathState, PlanState};
use volplane_driver::CardError;
use zerocopy::FromBytes;

use super::engine::DataPath;
use super::plan::Owner;
use super::tables::Tables;
use crate::vaapi::{self, Epoch, TableEntry, RECORD_BYTES};

/// What errors call it.
pub(super) const NAME: &str = "the software data path";

impl vaapi::Tables for DataPath {
    fn write(&mut self, entries: &[TableEntry]) -> Result<(), CardError> {
        let mut written = Ok(());
        self.change_tables(|tables| written = entries.iter().try_for_each(|entry| put(tables, entry)));
        written
    }

    fn read(&mut self, number: u16, index: u32) -> Result<[u8; RECORD_BYTES], CardError> {
        let tables = self.tables();
        let number16 = u16::try_from(index).ok();
        let path = u8::try_from(index).ok();
        let record = match number {
            table::VD => bytes(tables.vds.get(&index).map(|entry| &entry.0[..])),
            table::ALLOCATION => bytes(tables.allocations.get(&index).map(|entry| &entry.0[..])),
            table::EXTENT => bytes(tables.extents.get(&index).map(|entry| &entry.0[..])),
            table::DEVICE => bytes(number16.and_then(|at| tables.devices.get(&at)).map(|entry| &entry.0[..])),
            table::PATH => bytes(path.and_then(|at| tables.paths.get(&at)).map(|entry| &entry.0[..])),
            table::PLAN => bytes(number16.and_then(|at| tables.plans.get(&at)).map(|entry| &entry.0[..])),
            table::COMPONENT => bytes(tables.components.get(&index).map(|entry| &entry.0[..])),
            table::DIVERT => bytes(tables.diverts.get(&index).map(|entry| &entry.0[..])),
            table::QUOTA => bytes(tables.quotas.get(&index).map(|entry| &entry.0[..])),
            table::STATES => {
                bytes(number16.map(|disk| tables.states_of(disk)).as_ref().map(|entry| &entry.0[..]))
            }
            table::PLAN_STATE => {
                let plan = number16.and_then(|slot| self.plans.get(&slot));
                let state = plan.map(|plan| {
                    PlanState::default()
                        .with_generation(plan.handle.generation)
                        .with_disk(plan.disk)
                        .with_live(1)
                        .with_owned((plan.owner == Owner::Control).into())
                        .with_held(matches!(plan.owner, Owner::Ended(_)).into())
                });
                bytes(state.as_ref().map(|state| &state.0[..]))
            }
            table::PATH_STATE => {
                let outstanding = path.map_or(0, |path| self.outstanding_on(path));
                bytes(Some(&PathState::default().with_issued(outstanding as u16).0))
            }
            _ => return Err(refused("read", number, index)),
        };
        Ok(record)
    }

    fn commit(&mut self, disks: &[TableEntry]) -> Result<Epoch, CardError> {
        if let Some(wrong) = disks.iter().find(|entry| entry.table != table::VD) {
            return Err(refused("staged write", wrong.table, wrong.index));
        }
        self.write(disks)?;
        Ok(Epoch(DataPath::commit(self) as u32))
    }

    fn is_closed(&mut self, epoch: Epoch) -> Result<bool, CardError> {
        // Of the epochs that end with these bits, the last one that has been.
        let since = (self.epoch as u32).wrapping_sub(epoch.0);
        Ok(DataPath::is_closed(self, self.epoch.saturating_sub(since.into())))
    }
}

fn put(tables: &mut Tables, entry: &TableEntry) -> Result<(), CardError> {
    let TableEntry { table: number, index, record } = *entry;
    let refuse = || refused("write", number, index);
    let number16 = || u16::try_from(index).map_err(|_| refuse());
    let path = || u8::try_from(index).map_err(|_| refuse());
    match number {
        table::VD => drop(tables.vds.insert(index, of(&record))),
        table::ALLOCATION => drop(tables.allocations.insert(index, of(&record))),
        table::EXTENT => drop(tables.extents.insert(index, of(&record))),
        table::DEVICE => drop(tables.devices.insert(number16()?, of(&record))),
        table::PATH => drop(tables.paths.insert(path()?, of(&record))),
        table::PLAN => drop(tables.plans.insert(number16()?, of(&record))),
        table::COMPONENT => drop(tables.components.insert(index, of(&record))),
        table::DIVERT => drop(tables.diverts.insert(index, of(&record))),
        table::QUOTA => drop(tables.quotas.insert(index, of(&record))),
        table::STATES => tables.write_states(number16()?, &of(&record)),
        _ => return Err(refuse()),
    }
    Ok(())
}

fn of<T: FromBytes>(record: &[u8; RECORD_BYTES]) -> T {
    T::read_from_prefix(record).expect("no record is larger than the payload").0
}

/// A record; all zero where nothing was written.
fn bytes(entry: Option<&[u8]>) -> [u8; RECORD_BYTES] {
    TableEntry::new(0, 0, entry.unwrap_or_default()).record
}

pub(super) fn refused(operation: &'static str, number: u16, index: u32) -> CardError {
    let known = table::NAMES.iter().find(|(known, _)| *known == number);
    CardError::Table {
        card: NAME.to_owned(),
        operation,
        table: known.map_or("no table", |(_, name)| name),
        index,
        status: status::INVALID_FIELD | DNR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::software::Bounds;
    use crate::vaapi::Tables as _;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use volplane_abi::plan::component_state;
    use volplane_abi::{ComponentEntry, ComponentStates, ExtentEntry, PathEntry, PlanEntry, VdEntry};

    use crate::software::{ComponentState, Components, PlanTemplate, ReadPolicy};

    #[test]
    fn what_was_written_is_read_back_and_the_rest_is_zero() {
        let mut path = DataPath::new(Bounds::default());
        let extent = ExtentEntry::default().with_start(0x1234_5678_9ABC).with_device(7).with_valid(1);
        let entry = PathEntry::default().with_limit(9).with_valid(1);
        let entries =
            [TableEntry::new(table::EXTENT, 70_000, &extent.0), TableEntry::new(table::PATH, 3, &entry.0)];
        path.write(&entries).expect("written");
        assert_eq!(path.tables().extents[&70_000], extent);
        for TableEntry { table, index, record } in entries {
            assert_eq!(path.read(table, index).expect("read"), record);
        }
        assert_eq!(path.read(table::VD, 5).expect("read"), [0; RECORD_BYTES]);
        assert!(path.write(&[TableEntry::new(table::PATH, 256, &entry.0)]).is_err());
        assert!(path.write(&[TableEntry::new(table::PLAN, 1 << 16, &[])]).is_err());
        assert!(path.write(&[TableEntry::new(table::QUEUE, 1, &[])]).is_err());
        assert!(path.read(table::QUEUE, 1).is_err());
    }

    #[test]
    fn a_template_is_its_plan_its_components_and_the_states_of_the_disk() {
        let mut path = DataPath::new(Bounds::default());
        let vd = VdEntry::default().with_size_blocks(64).with_plan(3);
        // Masks by bit position: continuation, success, log, with data, deactivate, a byte each.
        let plan = PlanEntry::default()
            .with_read_masks(0x05_00_00_00_04)
            .with_write_masks(0x01_04_05_01_05)
            .with_preferred(2)
            .with_minimum(2);
        let component =
            |disk| ComponentEntry::default().with_disk(disk).with_time_out(70_000).with_retries(9);
        // Component 0 in sync, 2 out, and 2 durably so.
        let states = ComponentStates::default().with_states(0b11_00_01).with_durably_out(4).with_select(0xFF);
        let written = [
            TableEntry::new(table::PLAN, 3, &plan.0),
            TableEntry::new(table::COMPONENT, 24, &component(7).0),
            TableEntry::new(table::COMPONENT, 26, &component(8).0),
            TableEntry::new(table::STATES, 5, &states.0),
        ];
        path.write(&written).expect("written");
        assert_eq!(path.template(5), PlanTemplate::single(5), "plan 0");
        path.write(&[TableEntry::new(table::VD, 5, &vd.0)]).expect("written");
        let template = path.template(5);
        let disks =
            [0, 1, 2].map(|number| (template.components[number].disk, template.components[number].state));
        let (in_sync, absent, out) = (ComponentState::InSync, ComponentState::Absent, ComponentState::Out);
        assert_eq!(disks, [(7, in_sync), (0, absent), (8, out)]);
        assert_eq!((template.components[2].time_out, template.components[2].retries), (70_000, 9));
        assert_eq!((template.read.continuation, template.read.deactivate), (Components(4), Components(5)));
        let write = template.write;
        let masks = [write.continuation, write.success, write.log, write.log_with_data, write.deactivate];
        assert_eq!(masks.map(|mask| mask.0), [5, 1, 5, 4, 1]);
        assert_eq!((template.read_policy, template.minimum), (ReadPolicy::Preferred(2), 2));
        assert_eq!(template.durably_out, Components(!1), "holes are durable too");
        assert_eq!(template.plan_entry(), plan);
        // Read back: `select` is 0, whatever was never written too.
        let back: ComponentStates = of(&path.read(table::STATES, 5).expect("read"));
        assert_eq!(back, states.with_select(0));
        assert_eq!(path.read(table::STATES, 6).expect("read"), [0; RECORD_BYTES]);
        assert_eq!(path.read(table::COMPONENT, 26).expect("read"), written[2].record);
    }

    /// Writes to the states against a plain copy of the rules.
    #[test]
    fn states_are_written_by_their_rules() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut path = DataPath::new(Bounds::default());
        let (mut states, mut durable, mut deactivated) = ([0u8; 8], [false; 8], false);
        for _ in 0..4_000 {
            let entry = ComponentStates::default()
                .with_states(random.random())
                .with_durably_out(random.random())
                .with_select(random.random())
                .with_deactivated(random.random_range(0..2))
                .with_reactivate(random.random_range(0..2));
            path.write(&[TableEntry::new(table::STATES, 9, &entry.0)]).expect("written");
            for number in (0..8).filter(|number| entry.select() >> number & 1 == 1) {
                let wanted = (entry.states() >> (2 * number) & 3) as u8;
                if (states[number], wanted) != (component_state::OUT, component_state::IN_SYNC) {
                    states[number] = wanted;
                }
                durable[number] = entry.durably_out() >> number & 1 == 1;
            }
            if entry.reactivate() == 1 {
                deactivated = entry.deactivated() == 1;
            }
            let back: ComponentStates = of(&path.read(table::STATES, 9).expect("read"));
            for number in 0..8 {
                assert_eq!((back.states() >> (2 * number) & 3) as u8, states[number]);
                assert_eq!(back.durably_out() >> number & 1 == 1, durable[number]);
            }
            assert_eq!((back.deactivated() == 1, back.select(), back.reactivate()), (deactivated, 0, 0));
        }
    }
}
