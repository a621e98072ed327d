//! The map in on-chip RAM: only wires the allocation table and the extent table.
//!
//! Two lookup ports; each answers in order, two cycles after a request was taken, one a cycle. A user
//! relies on the order alone (and on at least two cycles), keeps at most 32 lookups outstanding and
//! always takes answers, so that a map in host memory behind a cache can take this block's place.
//! An index outside a table is answered with zeros, which is an invalid entry. Owner of the tables
//! `ALLOCATION` and `EXTENT`. Reset drops lookups in flight; the map stays.

use rust_hdl::prelude::*;
use volplane_abi::table;

use super::lookup_table::LookupTable;
use crate::prim::stream::StreamIn;
use crate::records::TableRequest;
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct MapStore {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub allocation_request: StreamIn<Bits<32>>,
    pub allocation_valid: Signal<Out, bool>,
    pub allocation_data: Signal<Out, Bits<72>>,
    pub extent_request: StreamIn<Bits<32>>,
    pub extent_valid: Signal<Out, bool>,
    pub extent_data: Signal<Out, Bits<72>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub idle: Signal<Out, bool>,

    allocations: LookupTable<72>,
    extents: LookupTable<72>,
}

impl MapStore {
    /// A map of 2^`allocation_bits` allocations and 2^`extent_bits` extents.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            allocation_request: Default::default(),
            allocation_valid: Default::default(),
            allocation_data: Default::default(),
            extent_request: Default::default(),
            extent_valid: Default::default(),
            extent_data: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            idle: Default::default(),
            allocations: LookupTable::new(table::ALLOCATION, sizes.allocation_bits, 0),
            extents: LookupTable::new(table::EXTENT, sizes.extent_bits, 0),
        }
    }
}

impl Logic for MapStore {
    #[hdl_gen]
    fn update(&mut self) {
        self.allocations.clock.next = self.clock.val();
        self.allocations.reset.next = self.reset.val();
        self.extents.clock.next = self.clock.val();
        self.extents.reset.next = self.reset.val();
        StreamIn::<Bits<32>>::link(&mut self.allocation_request, &mut self.allocations.request);
        StreamIn::<Bits<32>>::link(&mut self.extent_request, &mut self.extents.request);
        self.allocation_valid.next = self.allocations.response_valid.val();
        self.allocation_data.next = self.allocations.response.val();
        self.extent_valid.next = self.extents.response_valid.val();
        self.extent_data.next = self.extents.response.val();
        self.allocations.table_valid.next = self.table_valid.val();
        self.allocations.table_request.next = self.table_request.val();
        self.extents.table_valid.next = self.table_valid.val();
        self.extents.table_request.next = self.table_request.val();
        self.table_ack.next = self.allocations.table_ack.val() | self.extents.table_ack.val();
        self.table_data.next = self.allocations.table_data.val() | self.extents.table_data.val();
        self.idle.next = self.allocations.idle.val() & self.extents.idle.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;
    use crate::records::{AllocationEntry, ExtentEntry};

    /// The two tables and the two ports are not mixed up; `LookupTable`'s own test does the rest.
    #[test]
    fn each_port_reads_its_own_table() {
        let small = Sizes { allocation_bits: 3, extent_bits: 6, ..Sizes::DEFAULT };
        for sizes in [small, Sizes { allocation_bits: 5, extent_bits: 4, ..Sizes::DEFAULT }] {
            let mut bench = Bench::new(&format!("map_store_{}", sizes.extent_bits), MapStore::new(&sizes));
            bench.set("reset", 1);
            bench.cycle();
            bench.set("reset", 0);
            let allocation = |i: u64| -> Bits<72> {
                AllocationEntry {
                    first_extent: (i + 1000).to_bits(),
                    columns: i.to_bits(),
                    ..Default::default()
                }
                .into()
            };
            let extent = |i: u64| -> Bits<72> {
                ExtentEntry { start: (i * 4096).to_bits(), device: i.to_bits(), ..Default::default() }.into()
            };
            let sides = [
                (
                    table::ALLOCATION,
                    sizes.allocation_bits,
                    "allocation",
                    &allocation as &dyn Fn(u64) -> Bits<72>,
                ),
                (table::EXTENT, sizes.extent_bits, "extent", &extent),
            ];
            for (number, bits, _, entry) in sides {
                for i in 0..=1u64 << bits {
                    bench.set("table_valid", 1);
                    bench.set_record::<305>(
                        "table_request",
                        TableRequest {
                            write: 1u64.to_bits(),
                            table: u64::from(number).to_bits(),
                            index: i.to_bits(),
                            data: bit_cast::<256, 72>(entry(i)),
                        },
                    );
                    bench.cycle();
                    bench.set("table_valid", 0);
                    let acks: u128 = (0..8)
                        .map(|_| {
                            bench.cycle();
                            bench.get("table_ack")
                        })
                        .sum();
                    assert_eq!(acks, u128::from(i < 1 << bits), "table {number} entry {i}");
                }
            }
            for (_, bits, port, entry) in sides {
                for i in 0..=1u64 << bits {
                    bench.set(&format!("{port}_request$valid"), 1);
                    bench.set(&format!("{port}_request$data"), i.into());
                    bench.cycle();
                    bench.set(&format!("{port}_request$valid"), 0);
                    bench.cycle();
                    assert_eq!(bench.get(&format!("{port}_valid")), 1);
                    let wanted = if i < 1 << bits { entry(i) } else { Default::default() };
                    assert_eq!(
                        bench.get_record::<72, Bits<72>>(&format!("{port}_data")),
                        wanted,
                        "{port} {i}"
                    );
                }
            }
        }
    }
}
