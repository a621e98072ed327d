//! Submission: writes fragments into the submission queues of their paths.
//!
//! Purpose: gives each fragment an entry in its path's queue and an identifier, waits until the path
//! has credit (fewer than `limit` fragments in flight, and the queue not full), writes the
//! identifier's record for `CompletionFilter` and the entry for the bus; a Dataset Management's range
//! is accepted before its entry is offered. Owns the path table (`PathTable`).
//! Handshake: streams. `issued_valid` is a pulse, the cycle after the bus took the entry, with the
//! path's new tail. Credit is asked of `PathReturns` by `query_path`, answered a cycle later, and its
//! question `tail_path` is answered so. The builder sends nothing to a path whose `path_valid` is 0.
//! Latency: fragment to entry offered 5 or 6 cycles. Throughput: one in 2 cycles, a Dataset
//! Management in 4. Order: as they came, also across paths: a path without credit holds up the next.
//! Reset: forgets what is in it. Writing a path's table entry clears its accounts here, in
//! `PathReturns` and in `PathDoorbells`, each of which hears the bus; `table_ack` follows 16 cycles
//! after the request.
//! Failure: an SSD that stops completing stops its path.

use rust_hdl::prelude::*;

use super::fragment_entry::FragmentEntry;
use super::fragment_ids::FragmentId;
use super::path_table::PathTable;
use super::slot_allocator::SlotAllocator;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Fragment, IdRecord, SmallWrite, TableRequest, WideWrite};
use crate::Sizes;

/// Fragments to entries.
#[derive(Clone, Debug, LogicBlock)]
pub struct Submission {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub fragment: StreamIn<Fragment>,
    pub id: StreamIn<Bits<16>>,
    pub range_base: Signal<In, Bits<64>>,
    pub write: StreamOut<WideWrite>,
    pub range_write: StreamOut<SmallWrite>,
    pub record_valid: Signal<Out, bool>,
    pub record_index: Signal<Out, Bits<11>>,
    pub record: Signal<Out, IdRecord>,
    pub issued_valid: Signal<Out, bool>,
    pub issued_path: Signal<Out, Bits<8>>,
    pub issued_tail: Signal<Out, Bits<16>>,
    pub query_path: Signal<Out, Bits<8>>,
    pub query_head: Signal<In, Bits<16>>,
    pub query_returned: Signal<In, Bits<16>>,
    pub tail_path: Signal<In, Bits<8>>,
    pub tail_value: Signal<Out, Bits<16>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub path_valid: Signal<Out, Bits<32>>,
    pub state_query: Signal<Out, Bits<8>>,
    pub state_head: Signal<In, Bits<16>>,
    pub state_returned: Signal<In, Bits<16>>,
    pub state_rung: Signal<In, Bits<16>>,
    pub state_cq_head: Signal<In, Bits<16>>,
    pub idle: Signal<Out, bool>,
    path_table: PathTable,
    slots: SlotAllocator,
    entry: FragmentEntry,
    /// Every second cycle is odd: fragments move at the end of odd cycles. The memories are asked for
    /// the arriving fragment in even cycles, for the waiting one's credit in odd ones.
    odd: DFF<bool>,
    arriving_valid: DFF<bool>,
    arriving: DFF<Fragment>,
    waiting_valid: DFF<bool>,
    waiting: DFF<Fragment>,
    /// The waiting fragment's entry, the tail after it, its number, and what decides on its credit.
    slot: DFF<Bits<16>>,
    tail: DFF<Bits<16>>,
    number: DFF<Bits<16>>,
    limit: DFF<Bits<16>>,
    in_flight: DFF<Bits<16>>,
    head: DFF<Bits<16>>,
    base: DFF<Bits<64>>,
    slot_address: DFF<Bits<64>>,
    credit: DFF<bool>,
    /// Credit was asked for this same fragment in the last cycle.
    asked: DFF<bool>,
    /// The next identifier, and the address of its range one cycle later.
    held_valid: DFF<bool>,
    held: DFF<Bits<16>>,
    settled: DFF<bool>,
    range_address: DFF<Bits<64>>,
    /// The entry on offer, after its range.
    offered_valid: DFF<bool>,
    offered: DFF<WideWrite>,
    range_valid: DFF<bool>,
    range: DFF<SmallWrite>,
    offered_path: DFF<Bits<8>>,
    offered_tail: DFF<Bits<16>>,
    written: DFF<bool>,
    written_index: DFF<Bits<11>>,
    written_record: DFF<IdRecord>,
    issued: DFF<bool>,
    issued_on: DFF<Bits<8>>,
    issued_to: DFF<Bits<16>>,
    issuing: Signal<Local, bool>,
    moving: Signal<Local, bool>,
    taking: Signal<Local, bool>,
    accepted: Signal<Local, bool>,
    held_id: Signal<Local, FragmentId>,
    held_index: Signal<Local, Bits<11>>,
    zero3: Constant<Bits<3>>,
}

impl Submission {
    /// The submission of a build.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            fragment: Default::default(),
            id: Default::default(),
            range_base: Default::default(),
            write: Default::default(),
            range_write: Default::default(),
            record_valid: Default::default(),
            record_index: Default::default(),
            record: Default::default(),
            issued_valid: Default::default(),
            issued_path: Default::default(),
            issued_tail: Default::default(),
            query_path: Default::default(),
            query_head: Default::default(),
            query_returned: Default::default(),
            tail_path: Default::default(),
            tail_value: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            path_valid: Default::default(),
            state_query: Default::default(),
            state_head: Default::default(),
            state_returned: Default::default(),
            state_rung: Default::default(),
            state_cq_head: Default::default(),
            idle: Default::default(),
            path_table: PathTable::new(sizes),
            slots: SlotAllocator::new(sizes),
            entry: Default::default(),
            odd: Default::default(),
            arriving_valid: Default::default(),
            arriving: Default::default(),
            waiting_valid: Default::default(),
            waiting: Default::default(),
            slot: Default::default(),
            tail: Default::default(),
            number: Default::default(),
            limit: Default::default(),
            in_flight: Default::default(),
            head: Default::default(),
            base: Default::default(),
            slot_address: Default::default(),
            credit: Default::default(),
            asked: Default::default(),
            held_valid: Default::default(),
            held: Default::default(),
            settled: Default::default(),
            range_address: Default::default(),
            offered_valid: Default::default(),
            offered: Default::default(),
            range_valid: Default::default(),
            range: Default::default(),
            offered_path: Default::default(),
            offered_tail: Default::default(),
            written: Default::default(),
            written_index: Default::default(),
            written_record: Default::default(),
            issued: Default::default(),
            issued_on: Default::default(),
            issued_to: Default::default(),
            issuing: Default::default(),
            moving: Default::default(),
            taking: Default::default(),
            accepted: Default::default(),
            held_id: Default::default(),
            held_index: Default::default(),
            zero3: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for Submission {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, odd, arriving_valid, arriving, waiting_valid, waiting, slot, tail, number);
        dff_setup!(self, clock, limit, in_flight, head, base, slot_address, credit, asked, held_valid, held);
        dff_setup!(self, clock, settled, range_address, offered_valid, offered, range_valid, range);
        dff_setup!(self, clock, offered_path, offered_tail, written, written_index, written_record);
        dff_setup!(self, clock, issued, issued_on, issued_to);
        self.path_table.clock.next = self.clock.val();
        self.path_table.reset.next = self.reset.val();
        self.path_table.table_valid.next = self.table_valid.val();
        self.path_table.table_request.next = self.table_request.val();
        self.table_ack.next = self.path_table.table_ack.val();
        self.table_data.next = self.path_table.table_data.val();
        self.path_valid.next = self.path_table.path_valid.val();
        self.state_query.next = self.path_table.state_query.val();
        self.path_table.state_tail.next = self.slots.state_tail.val();
        self.path_table.state_issued.next = self.slots.state_issued.val();
        self.path_table.state_head.next = self.state_head.val();
        self.path_table.state_returned.next = self.state_returned.val();
        self.path_table.state_rung.next = self.state_rung.val();
        self.path_table.state_cq_head.next = self.state_cq_head.val();
        self.slots.clock.next = self.clock.val();
        self.slots.reset.next = self.reset.val();
        self.slots.table_valid.next = self.table_valid.val();
        self.slots.table_request.next = self.table_request.val();
        self.slots.state_query.next = self.path_table.state_query.val();
        self.slots.tail_path.next = self.tail_path.val();
        self.tail_value.next = self.slots.tail_value.val();

        // Who moves.
        self.odd.d.next = !self.odd.q.val();
        self.issuing.next = self.odd.q.val()
            & self.waiting_valid.q.val()
            & self.credit.q.val()
            & self.held_valid.q.val()
            & (self.settled.q.val() | !self.entry.ranged.val())
            & !self.offered_valid.q.val();
        self.moving.next =
            self.odd.q.val() & self.arriving_valid.q.val() & (!self.waiting_valid.q.val() | self.issuing.val());
        self.taking.next = self.odd.q.val() & (!self.arriving_valid.q.val() | self.moving.val());
        self.fragment.ready.next = self.taking.val();

        // Arriving: the path's next entry.
        if self.taking.val() {
            self.arriving_valid.d.next = self.fragment.valid.val();
            self.arriving.d.next = self.fragment.data.val();
        }
        self.slots.path.next = self.arriving.q.val().path;
        self.slots.take.next = self.moving.val();
        self.slots.take_path.next = self.arriving.q.val().path;
        if self.issuing.val() {
            self.waiting_valid.d.next = false;
        }

        // Waiting: for credit, an identifier, and the entry before it to be taken.
        self.query_path.next = self.arriving.q.val().path;
        if self.odd.q.val() {
            self.query_path.next = self.waiting.q.val().path;
        }
        self.asked.d.next = self.odd.q.val() & self.waiting_valid.q.val() & !self.issuing.val();
        if self.asked.q.val() {
            self.in_flight.d.next = self.number.q.val() - self.query_returned.val();
            self.head.d.next = self.query_head.val();
        }
        if self.moving.val() {
            self.waiting_valid.d.next = true;
            self.waiting.d.next = self.arriving.q.val();
            self.slot.d.next = self.slots.slot.val();
            self.tail.d.next = self.slots.tail.val();
            self.number.d.next = self.slots.number.val();
            self.base.d.next = self.slots.base.val();
            self.limit.d.next = self.slots.limit.val();
            self.in_flight.d.next = self.slots.number.val() - self.query_returned.val();
            self.head.d.next = self.query_head.val();
        }
        self.credit.d.next =
            (self.in_flight.q.val() < self.limit.q.val()) & (self.tail.q.val() != self.head.q.val());
        self.slot_address.d.next = self.base.q.val() + (bit_cast::<64, 16>(self.slot.q.val()) << 6);
        self.id.ready.next = !self.held_valid.q.val();
        if self.issuing.val() {
            self.held_valid.d.next = false;
        } else if !self.held_valid.q.val() {
            self.held_valid.d.next = self.id.valid.val();
            self.held.d.next = self.id.data.val();
        }
        self.held_id.next = self.held.q.val().into();
        self.held_index.next = self.held_id.val().index;
        self.settled.d.next = self.held_valid.q.val() & !self.issuing.val();
        self.range_address.d.next = self.range_base.val() + (bit_cast::<64, 11>(self.held_index.val()) << 4);
        self.entry.fragment.next = self.waiting.q.val();
        self.entry.id.next = self.held.q.val();
        self.entry.range_address.next = self.range_address.q.val();
        self.slots.commit.next = self.issuing.val();
        self.slots.commit_path.next = self.waiting.q.val().path;
        self.slots.commit_tail.next = self.tail.q.val();
        self.slots.commit_number.next = self.number.q.val();
        self.written.d.next = self.issuing.val();
        self.written_index.d.next = self.held_index.val();
        self.written_record.d.next.generation = self.held_id.val().generation;
        self.written_record.d.next.path = self.waiting.q.val().path;
        self.written_record.d.next.slot = self.waiting.q.val().slot;
        self.written_record.d.next.ordinal = self.waiting.q.val().ordinal;
        self.written_record.d.next.last = self.waiting.q.val().last;
        self.written_record.d.next.reserved = self.zero3.val();
        self.record_valid.next = self.written.q.val();
        self.record_index.next = self.written_index.q.val();
        self.record.next = self.written_record.q.val();

        // On offer.
        self.range_write.valid.next = self.range_valid.q.val();
        self.range_write.data.next = self.range.q.val();
        self.write.valid.next = self.offered_valid.q.val() & !self.range_valid.q.val();
        self.write.data.next = self.offered.q.val();
        self.accepted.next = self.offered_valid.q.val() & !self.range_valid.q.val() & self.write.ready.val();
        if self.range_write.ready.val() {
            self.range_valid.d.next = false;
        }
        if self.accepted.val() {
            self.offered_valid.d.next = false;
        }
        if self.issuing.val() {
            self.offered_valid.d.next = true;
            self.offered.d.next.address = self.slot_address.q.val();
            self.offered.d.next.data = self.entry.entry.val().into();
            self.range_valid.d.next = self.entry.ranged.val();
            self.range.d.next = self.entry.range.val();
            self.offered_path.d.next = self.waiting.q.val().path;
            self.offered_tail.d.next = self.tail.q.val();
        }
        self.issued.d.next = self.accepted.val();
        self.issued_on.d.next = self.offered_path.q.val();
        self.issued_to.d.next = self.offered_tail.q.val();
        self.issued_valid.next = self.issued.q.val();
        self.issued_path.next = self.issued_on.q.val();
        self.issued_tail.next = self.issued_to.q.val();
        self.idle.next = self.path_table.idle.val()
            & self.slots.idle.val()
            & !self.arriving_valid.q.val()
            & !self.waiting_valid.q.val()
            & !self.offered_valid.q.val()
            & !self.written.q.val()
            & !self.issued.q.val();

        if self.reset.val() {
            self.odd.d.next = false;
            self.arriving_valid.d.next = false;
            self.waiting_valid.d.next = false;
            self.asked.d.next = false;
            self.held_valid.d.next = false;
            self.settled.d.next = false;
            self.offered_valid.d.next = false;
            self.range_valid.d.next = false;
            self.written.d.next = false;
            self.issued.d.next = false;
        }
    }
}
