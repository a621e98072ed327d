//! Access to the card's tables.

use volplane_driver::{Card, CardError, Platform, TableWrite};

/// Bytes of the largest record.
pub const RECORD_BYTES: usize = 32;

/// An entry to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// Table: see `abi::table`.
    pub table: u16,
    /// Index in the table.
    pub index: u32,
    /// The record, zero-extended.
    pub record: [u8; RECORD_BYTES],
}

impl TableEntry {
    /// An entry of the bytes of an ABI record.
    ///
    /// # Panics
    /// With more bytes than a record has.
    pub fn new(table: u16, index: u32, bytes: &[u8]) -> Self {
        let mut record = [0; RECORD_BYTES];
        record[..bytes.len()].copy_from_slice(bytes);
        Self { table, index, record }
    }
}

/// An epoch of admission: what was admitted between two commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(pub u32);

/// The tables of a card.
pub trait Tables {
    /// Writes entries, in order. When one is refused, those before it took effect and those after
    /// it may have.
    fn write(&mut self, entries: &[TableEntry]) -> Result<(), CardError>;

    /// Reads an entry.
    fn read(&mut self, table: u16, index: u32) -> Result<[u8; RECORD_BYTES], CardError>;

    /// Writes at most `TRANSACTION_MAX` entries of the table of virtual disks at once: a command is admitted before
    /// all of them or after. Gives the epoch that this ended. When one is refused, none took effect.
    fn commit(&mut self, disks: &[TableEntry]) -> Result<Epoch, CardError>;

    /// Whether whatever was admitted in this epoch, or before it, has ended or is the control path's.
    fn is_closed(&mut self, epoch: Epoch) -> Result<bool, CardError>;
}

impl<T: Tables + ?Sized> Tables for &mut T {
    fn write(&mut self, entries: &[TableEntry]) -> Result<(), CardError> {
        (**self).write(entries)
    }

    fn read(&mut self, table: u16, index: u32) -> Result<[u8; RECORD_BYTES], CardError> {
        (**self).read(table, index)
    }

    fn commit(&mut self, disks: &[TableEntry]) -> Result<Epoch, CardError> {
        (**self).commit(disks)
    }

    fn is_closed(&mut self, epoch: Epoch) -> Result<bool, CardError> {
        (**self).is_closed(epoch)
    }
}

/// The tables of an open card, reached over its control ring.
pub struct CardTables<'a, P: Platform> {
    /// The card.
    pub card: &'a mut Card<P::Function>,
    /// The machine it is in.
    pub platform: &'a mut P,
}

impl<P: Platform> Tables for CardTables<'_, P> {
    fn write(&mut self, entries: &[TableEntry]) -> Result<(), CardError> {
        self.card.table_write_all(self.platform, entries.iter().map(table_write))
    }

    fn read(&mut self, table: u16, index: u32) -> Result<[u8; RECORD_BYTES], CardError> {
        self.card.table_read(self.platform, table, index)
    }

    fn commit(&mut self, disks: &[TableEntry]) -> Result<Epoch, CardError> {
        let writes: Vec<TableWrite> = disks.iter().map(table_write).collect();
        self.card.commit(self.platform, &writes).map(Epoch)
    }

    fn is_closed(&mut self, epoch: Epoch) -> Result<bool, CardError> {
        Ok(self.card.epochs(self.platform)?.is_closed(epoch.0))
    }
}

fn table_write(entry: &TableEntry) -> TableWrite {
    TableWrite::new(entry.table, entry.index, &entry.record)
}
