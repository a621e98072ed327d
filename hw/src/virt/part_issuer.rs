//! Issues the parts of a plan to the judge of commands, each with its component's map.
//!
//! `order` brings a command with the components it goes to; a single one (refused, or without a template) is issued
//! as it is. Latency: 2 cycles from `order` to a single part, 4 to the first of several; then one in 3 cycles, in
//! order of component; `begun` tells of each that is not tried again, with its offer. Owner of the table
//! `COMPONENT`. Reset drops what is in work; the table stays.

use rust_hdl::prelude::*;
use volplane_abi::plan::TIME_OUT_SHIFT;
use volplane_abi::{status, table, vd_status};

use super::lookup_table::LookupTable;
use crate::logic_record;
use crate::prim::register::Register;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{
    ClientCommand, ComponentEntry, DiskEntry, ExpandedPart, Part, PartBegun, PartTerms, TableRequest,
};
use crate::sizes::Sizes;

logic_record! {
    /// The parts that a command is to become.
    PartsOrder: 523 {
        /// The command (`ClientCommand`).
        command = 329,
        /// Its slot.
        slot = 12,
        /// Its disk's entry (`DiskEntry`).
        disk = 144,
        /// Plan template.
        plan = 16,
        /// The components.
        parts = 8,
        /// 1: one part, with the disk's own map.
        single = 1,
        /// Status to refuse it with; 0: none.
        refusal = 11,
        /// 1: the disk is deactivated.
        deactivated = 1,
        /// 1: it was begun before: it avoids the paths that failed.
        retry = 1,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PartIssuer {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub order: StreamIn<PartsOrder>,
    pub part: StreamOut<ExpandedPart>,
    /// A component's part is begun, not tried again.
    pub begun_valid: Signal<Out, bool>,
    pub begun: Signal<Out, PartBegun>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub idle: Signal<Out, bool>,

    components: LookupTable<128>,
    current: Register<PartsOrder>,
    busy: DFF<bool>,
    /// Components not asked for yet, and the lowest of them; while `single`, the part itself is left.
    left: DFF<Bits<8>>,
    next_component: DFF<Bits<3>>,
    next_valid: DFF<bool>,
    single_left: DFF<bool>,
    asked: DFF<bool>,
    asked_component: DFF<Bits<3>>,
    offered: Register<ExpandedPart>,
    offered_valid: DFF<bool>,
    begins: DFF<bool>,
    begun_register: DFF<PartBegun>,

    orders: Signal<Local, PartsOrder>,
    command: Signal<Local, ClientCommand>,
    disk: Signal<Local, DiskEntry>,
    map: Signal<Local, ComponentEntry>,
    composed: Signal<Local, ExpandedPart>,
    composed_command: Signal<Local, ClientCommand>,
    composed_disk: Signal<Local, DiskEntry>,
    composed_part: Signal<Local, Part>,
    terms: Signal<Local, PartTerms>,
    ticks: Signal<Local, Bits<24>>,
    lowest: Signal<Local, Bits<3>>,
    lowest_bit: Signal<Local, Bits<8>>,
    ask: Signal<Local, bool>,
    free: Signal<Local, bool>,
    offer_single: Signal<Local, bool>,
    index: Signal<Local, Bits<32>>,
    enabled: Constant<Bits<4>>,
    deactivated: Constant<Bits<4>>,
    no_status: Constant<Bits<11>>,
    one8: Constant<Bits<8>>,
    zero8: Constant<Bits<8>>,
    zero3: Constant<Bits<3>>,
    no_time_out: Constant<Bits<14>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl PartIssuer {
    /// With the components of 2^`plan_bits` templates.
    pub fn new(sizes: &Sizes) -> Self {
        // A time-out's upper bits are taken as they stand.
        const { assert!(TIME_OUT_SHIFT == 10) };
        Self {
            clock: Default::default(),
            reset: Default::default(),
            order: Default::default(),
            part: Default::default(),
            begun_valid: Default::default(),
            begun: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            idle: Default::default(),
            components: LookupTable::new(table::COMPONENT, sizes.plan_bits + 3, 0),
            current: Default::default(),
            busy: Default::default(),
            left: Default::default(),
            next_component: Default::default(),
            next_valid: Default::default(),
            single_left: Default::default(),
            asked: Default::default(),
            asked_component: Default::default(),
            offered: Default::default(),
            offered_valid: Default::default(),
            begins: Default::default(),
            begun_register: Default::default(),
            orders: Default::default(),
            command: Default::default(),
            disk: Default::default(),
            map: Default::default(),
            composed: Default::default(),
            composed_command: Default::default(),
            composed_disk: Default::default(),
            composed_part: Default::default(),
            terms: Default::default(),
            ticks: Default::default(),
            lowest: Default::default(),
            lowest_bit: Default::default(),
            ask: Default::default(),
            free: Default::default(),
            offer_single: Default::default(),
            index: Default::default(),
            enabled: Constant::new(u64::from(vd_status::ENABLED).to_bits()),
            deactivated: Constant::new(u64::from(vd_status::DEACTIVATED).to_bits()),
            no_status: Constant::new(u64::from(status::SUCCESS).to_bits()),
            one8: Constant::new(1u64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            zero3: Constant::new(0u64.to_bits()),
            no_time_out: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for PartIssuer {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, busy, left, next_component, next_valid, single_left, asked, asked_component);
        dff_setup!(self, clock, offered_valid, begins, begun_register);
        clock!(self, clock, components, current, offered);
        self.components.reset.next = self.reset.val();
        self.components.table_valid.next = self.table_valid.val();
        self.components.table_request.next = self.table_request.val();
        self.table_ack.next = self.components.table_ack.val();
        self.table_data.next = self.components.table_data.val();

        // An order stands until its last part is composed.
        self.order.ready.next = !self.busy.q.val();
        self.current.load.next = !self.busy.q.val();
        self.current.d.next = self.order.data.val();
        self.orders.next = self.current.q.val();
        self.command.next = self.orders.val().command.into();
        self.disk.next = self.orders.val().disk.into();
        if !self.busy.q.val() & self.order.valid.val() {
            self.busy.d.next = true;
            self.single_left.d.next = (self.order.data.val().single == self.flag.val());
            self.left.d.next = self.order.data.val().parts;
            if (self.order.data.val().single == self.flag.val()) {
                self.left.d.next = self.zero8.val();
            }
        }

        // The lowest component that is left, then its entry.
        self.lowest.next = self.zero3.val();
        for i in 0..8 {
            if self.left.q.val().get_bit(7 - i) {
                self.lowest.next = (7 - i).to_bits();
            }
        }
        self.lowest_bit.next = (self.one8.val() << self.lowest.val());
        self.free.next = !self.offered_valid.q.val() | self.part.ready.val();
        self.index.next = (bit_cast::<32, 16>(self.orders.val().plan) << 3)
            | bit_cast::<32, 3>(self.next_component.q.val());
        self.components.request.data.next = self.index.val();
        self.components.request.valid.next = self.next_valid.q.val() & !self.asked.q.val() & self.free.val();
        self.ask.next = self.next_valid.q.val()
            & !self.asked.q.val()
            & self.free.val()
            & self.components.request.ready.val();
        if self.ask.val() {
            self.asked.d.next = true;
            self.asked_component.d.next = self.next_component.q.val();
            self.next_valid.d.next = false;
        }
        if !self.next_valid.q.val() & self.left.q.val().any() {
            self.next_valid.d.next = true;
            self.next_component.d.next = self.lowest.val();
            self.left.d.next = self.left.q.val() & !self.lowest_bit.val();
        }

        // The part.
        self.map.next = self.components.response.val().into();
        self.composed_part.next.slot = self.orders.val().slot;
        self.composed_part.next.component = self.asked_component.q.val();
        self.composed_part.next.single = self.orders.val().single;
        self.composed_command.next = self.command.val();
        if (self.orders.val().refusal != self.no_status.val()) {
            self.composed_command.next.refusal = self.orders.val().refusal;
        }
        self.composed_disk.next = self.disk.val();
        if (self.orders.val().deactivated == self.flag.val()) {
            self.composed_disk.next.status = self.deactivated.val();
        }
        self.ticks.next = self.map.val().time_out;
        self.terms.next.time_out = self.no_time_out.val();
        self.terms.next.timed = self.clear.val();
        self.terms.next.retried = self.orders.val().retry;
        if (self.orders.val().single == self.clear.val()) {
            // It was admitted, now or when it came first.
            self.terms.next.time_out = self.ticks.val().get_bits::<14>(10);
            self.terms.next.timed = self.ticks.val().any().into();
            self.composed_disk.next.status = self.enabled.val();
            self.composed_disk.next.allocation_shift = self.map.val().allocation_shift;
            self.composed_disk.next.map_root = self.map.val().map_root;
            self.composed_disk.next.flush_devices = self.map.val().flush_devices;
        } else {
            self.composed_part.next.component = self.zero3.val();
        }
        self.composed.next.command = self.composed_command.val().into();
        self.composed.next.part = self.composed_part.val().into();
        self.composed.next.disk = self.composed_disk.val().into();
        self.composed.next.terms = self.terms.val().into();
        // Its register's enable hangs on registers: by the time a component has come, it is free.
        self.offer_single.next = self.single_left.q.val() & !self.offered_valid.q.val();
        self.offered.load.next = self.offer_single.val() | self.components.response_valid.val();
        self.offered.d.next = self.composed.val();
        self.part.valid.next = self.offered_valid.q.val();
        self.part.data.next = self.offered.q.val();
        if self.part.ready.val() {
            self.offered_valid.d.next = false;
        }
        if self.offer_single.val() {
            self.offered_valid.d.next = true;
            self.single_left.d.next = false;
            self.busy.d.next = false;
        }
        if self.components.response_valid.val() {
            self.offered_valid.d.next = true;
            self.asked.d.next = false;
            self.busy.d.next = self.next_valid.q.val() | self.left.q.val().any();
        }
        self.begins.d.next =
            self.components.response_valid.val() & (self.orders.val().retry == self.clear.val());
        self.begun_register.d.next.part = self.composed_part.val().into();
        self.begun_register.d.next.plan = self.orders.val().plan;
        self.begun_register.d.next.retries = self.map.val().retries;
        self.begun_valid.next = self.begins.q.val();
        self.begun.next = self.begun_register.q.val();
        self.idle.next = !self.busy.q.val() & !self.offered_valid.q.val() & self.components.idle.val();

        if self.reset.val() {
            self.busy.d.next = false;
            self.left.d.next = self.zero8.val();
            self.next_valid.d.next = false;
            self.single_left.d.next = false;
            self.asked.d.next = false;
            self.offered_valid.d.next = false;
            self.begins.d.next = false;
        }
    }
}
