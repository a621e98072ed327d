//! The tables of the software data path as VAAPI writes and reads them: as those of a card.

use volplane_abi::status::{self, DNR};
use volplane_abi::tables::table;
use volplane_abi::PathState;
use volplane_driver::CardError;
use zerocopy::FromBytes;

use super::engine::DataPath;
use super::tables::Tables;
use crate::vaapi::{self, TableEntry, RECORD_BYTES};

impl vaapi::Tables for DataPath {
    fn write(&mut self, entries: &[TableEntry]) -> Result<(), CardError> {
        let mut written = Ok(());
        self.change_tables(|tables| written = entries.iter().try_for_each(|entry| put(tables, entry)));
        written
    }

    fn read(&mut self, number: u16, index: u32) -> Result<[u8; RECORD_BYTES], CardError> {
        let tables = self.tables();
        let device = u16::try_from(index).ok();
        let path = u8::try_from(index).ok();
        let record = match number {
            table::VD => bytes(tables.vds.get(&index).map(|entry| &entry.0[..])),
            table::ALLOCATION => bytes(tables.allocations.get(&index).map(|entry| &entry.0[..])),
            table::EXTENT => bytes(tables.extents.get(&index).map(|entry| &entry.0[..])),
            table::DEVICE => bytes(device.and_then(|at| tables.devices.get(&at)).map(|entry| &entry.0[..])),
            table::PATH => bytes(path.and_then(|at| tables.paths.get(&at)).map(|entry| &entry.0[..])),
            table::PATH_STATE => {
                let outstanding = path.map_or(0, |path| self.outstanding_on(path));
                bytes(Some(&PathState::default().with_issued(outstanding as u16).0))
            }
            _ => return Err(refused("read", number, index)),
        };
        Ok(record)
    }
}

fn put(tables: &mut Tables, entry: &TableEntry) -> Result<(), CardError> {
    let TableEntry { table: number, index, record } = *entry;
    let refuse = || refused("write", number, index);
    let device = || u16::try_from(index).map_err(|_| refuse());
    let path = || u8::try_from(index).map_err(|_| refuse());
    match number {
        table::VD => drop(tables.vds.insert(index, of(&record))),
        table::ALLOCATION => drop(tables.allocations.insert(index, of(&record))),
        table::EXTENT => drop(tables.extents.insert(index, of(&record))),
        table::DEVICE => drop(tables.devices.insert(device()?, of(&record))),
        table::PATH => drop(tables.paths.insert(path()?, of(&record))),
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

fn refused(operation: &'static str, number: u16, index: u32) -> CardError {
    let known = table::NAMES.iter().find(|(known, _)| *known == number);
    CardError::Table {
        card: "the software data path".to_owned(),
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
    use volplane_abi::{ExtentEntry, PathEntry};

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
        assert!(path.write(&[TableEntry::new(table::QUEUE, 1, &[])]).is_err());
        assert!(path.read(table::QUEUE, 1).is_err());
    }
}
