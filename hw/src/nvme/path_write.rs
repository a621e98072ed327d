//! Hears the writes of the path table for a block that keeps a copy of what it needs.
//!
//! Purpose: finds writes of a `PathEntry` on the table bus. Never acknowledges: `Submission` owns the
//! table, and does so 16 cycles after the request or later, by when every listener has taken the entry.
//! Latency: `written` is set for one cycle, the second after `table_valid`; `path` and `entry` hold until
//! the acknowledgement. Reset: none needed.

use rust_hdl::prelude::*;
use volplane_abi::table;

use crate::records::{PathEntry, TableRequest};
use crate::Sizes;

/// A listener of the path table.
#[derive(Clone, Debug, LogicBlock)]
pub struct PathWrite {
    pub clock: Signal<In, Clock>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    /// The entry of `path` is written; its pointers become 0.
    pub written: Signal<Out, bool>,
    pub path: Signal<Out, Bits<16>>,
    pub entry: Signal<Out, PathEntry>,
    asked: DFF<bool>,
    is_path_table: DFF<bool>,
    in_range: DFF<bool>,
    heard: DFF<bool>,
    index: Signal<Local, Bits<32>>,
    path_table: Constant<Bits<16>>,
    paths: Constant<Bits<32>>,
    one1: Constant<Bits<1>>,
}

impl PathWrite {
    /// A listener of the table of a build.
    pub fn new(sizes: &Sizes) -> Self {
        assert!(sizes.path_bits <= 5, "2^{} paths", sizes.path_bits);
        Self {
            clock: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            written: Default::default(),
            path: Default::default(),
            entry: Default::default(),
            asked: Default::default(),
            is_path_table: Default::default(),
            in_range: Default::default(),
            heard: Default::default(),
            index: Default::default(),
            path_table: Constant::new(u64::from(table::PATH).to_bits()),
            paths: Constant::new((1u64 << sizes.path_bits).to_bits()),
            one1: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for PathWrite {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, asked, is_path_table, in_range, heard);
        self.index.next = self.table_request.val().index;
        self.asked.d.next = self.table_valid.val();
        self.is_path_table.d.next = (self.table_request.val().table == self.path_table.val())
            & (self.table_request.val().write == self.one1.val());
        self.in_range.d.next = (self.index.val() < self.paths.val());
        self.heard.d.next = self.asked.q.val() & self.is_path_table.q.val() & self.in_range.q.val();
        self.written.next = self.heard.q.val();
        self.path.next = self.index.val().get_bits::<16>(0);
        self.entry.next = self.table_request.val().data.into();
    }
}

/// The request that writes the table entry of a path.
#[cfg(test)]
pub fn write_request(path: usize, entry: PathEntry) -> TableRequest {
    TableRequest {
        write: 1.into(),
        table: u64::from(table::PATH).into(),
        index: (path as u64).into(),
        data: entry.into(),
    }
}
