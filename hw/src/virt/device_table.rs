//! The device table: the data path reads an entry a cycle, the control ring reads and writes.
//!
//! `entry` is the one that `address` named in the cycle before; upper bits of `address` are ignored.
//! An access by the control ring takes no cycle from the data path: there are two copies of the table,
//! written together, and one serves the reading back. It is acknowledged after 4 cycles. Reset drops
//! it; the entries stay.

use rust_hdl::prelude::*;
use volplane_abi::table;

use crate::prim::ram::LutRam;
use crate::records::{DeviceEntry, TableRequest};
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct DeviceTable {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub address: Signal<In, Bits<16>>,
    pub entry: Signal<Out, DeviceEntry>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,

    devices: LutRam<DeviceEntry>,
    devices_readback: LutRam<DeviceEntry>,
    // A cycle to compare, a cycle of the RAM's, a cycle to answer. The request stays for them.
    asked: DFF<bool>,
    table_matches: DFF<bool>,
    index_fits: DFF<bool>,
    writing: DFF<bool>,
    fetched: DFF<bool>,
    ack: DFF<bool>,
    ack_data: DFF<Bits<128>>,
    selected: Signal<Local, bool>,
    write: Signal<Local, bool>,
    request_index: Signal<Local, Bits<16>>,
    request_low: Signal<Local, Bits<128>>,
    device_bits: Signal<Local, Bits<128>>,
    table_number: Constant<Bits<16>>,
    table_size: Constant<Bits<32>>,
    flag: Constant<Bits<1>>,
    no_data: Constant<Bits<128>>,
}

impl DeviceTable {
    /// A table of 2^`device_bits`.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            address: Default::default(),
            entry: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            devices: LutRam::new(sizes.device_bits),
            devices_readback: LutRam::new(sizes.device_bits),
            asked: Default::default(),
            table_matches: Default::default(),
            index_fits: Default::default(),
            writing: Default::default(),
            fetched: Default::default(),
            ack: Default::default(),
            ack_data: Default::default(),
            selected: Default::default(),
            write: Default::default(),
            request_index: Default::default(),
            request_low: Default::default(),
            device_bits: Default::default(),
            table_number: Constant::new((table::DEVICE as u64).to_bits()),
            table_size: Constant::new((1u64 << sizes.device_bits).to_bits()),
            flag: Constant::new(1u64.to_bits()),
            no_data: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for DeviceTable {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, asked, table_matches, index_fits, writing, fetched, ack, ack_data);
        self.devices.clock.next = self.clock.val();
        self.devices_readback.clock.next = self.clock.val();
        self.devices.read_address.next = self.address.val();
        self.entry.next = self.devices.read_data.val();

        self.asked.d.next = self.table_valid.val();
        self.table_matches.d.next = (self.table_request.val().table == self.table_number.val());
        self.index_fits.d.next = (self.table_request.val().index < self.table_size.val());
        self.writing.d.next = (self.table_request.val().write == self.flag.val());
        self.selected.next = self.asked.q.val() & self.table_matches.q.val() & self.index_fits.q.val();
        self.write.next = self.selected.val() & self.writing.q.val();
        self.request_index.next = bit_cast::<16, 32>(self.table_request.val().index);
        self.request_low.next = bit_cast::<128, 256>(self.table_request.val().data);
        self.devices.write.next = self.write.val();
        self.devices_readback.write.next = self.write.val();
        self.devices.write_address.next = self.request_index.val();
        self.devices_readback.write_address.next = self.request_index.val();
        self.devices_readback.read_address.next = self.request_index.val();
        self.devices.write_data.next = self.request_low.val().into();
        self.devices_readback.write_data.next = self.request_low.val().into();

        self.fetched.d.next = self.selected.val();
        self.ack.d.next = self.fetched.q.val();
        self.device_bits.next = self.devices_readback.read_data.val().into();
        self.ack_data.d.next = self.no_data.val();
        if self.fetched.q.val() {
            self.ack_data.d.next = self.device_bits.val();
        }
        self.table_ack.next = self.ack.q.val();
        self.table_data.next = bit_cast::<256, 128>(self.ack_data.q.val());

        if self.reset.val() {
            self.asked.d.next = false;
            self.fetched.d.next = false;
            self.ack.d.next = false;
            self.ack_data.d.next = self.no_data.val();
        }
    }
}
