//! Entry writer: gives a fragment an identifier and writes what makes it visible to the SSD.
//!
//! Purpose: on `start`, the identifier's record is written for `CompletionFilter`, a Dataset
//! Management's range is offered and, when that is accepted, the fragment's entry.
//! Handshake: `able` says that `start` may be set in the next cycle: an identifier will be held (and, for
//! a Dataset Management, its range's address known), and the entry before taken. It is not set in the
//! cycle of `start`, and counts from the first cycle that `fragment` stands. `issued_valid` is a
//! pulse, the cycle after the bus took the entry, with the tail behind it. `holds` says that what is offered, or was a
//! cycle ago, is for the path asked for a cycle ago.
//! Latency: an entry is offered in the cycle after `start`, or after its range was taken. Throughput:
//! one in 2 cycles, a Dataset Management in 4. Order: as started. Reset: forgets what is offered.

use rust_hdl::prelude::*;

use super::fragment_entry::FragmentEntry;
use super::fragment_ids::FragmentId;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Fragment, IdRecord, SmallWrite, WideWrite};

/// Fragments with an address to entries.
#[derive(Clone, Debug, LogicBlock)]
pub struct EntryWriter {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub able: Signal<Out, bool>,
    pub start: Signal<In, bool>,
    pub fragment: Signal<In, Fragment>,
    /// Of the fragment's opcode: it is a Flush, a Dataset Management.
    pub is_flush: Signal<In, bool>,
    pub is_ranged: Signal<In, bool>,
    /// Where its entry goes, and the tail behind it.
    pub address: Signal<In, Bits<64>>,
    pub tail: Signal<In, Bits<16>>,
    pub id: StreamIn<Bits<16>>,
    pub range_base: Signal<In, Bits<64>>,
    pub write: StreamOut<WideWrite>,
    pub range_write: StreamOut<SmallWrite>,
    pub record_valid: Signal<Out, bool>,
    pub record_index: Signal<Out, Bits<11>>,
    pub record: Signal<Out, IdRecord>,
    pub record_terms: Signal<Out, Bits<16>>,
    pub issued_valid: Signal<Out, bool>,
    pub issued_path: Signal<Out, Bits<8>>,
    pub issued_tail: Signal<Out, Bits<16>>,
    pub asked_path: Signal<In, Bits<8>>,
    pub holds: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,
    builder: FragmentEntry,
    /// The next identifier, and the address of its range one cycle later.
    held_valid: DFF<bool>,
    held: DFF<Bits<16>>,
    held_next: Signal<Local, bool>,
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
    written_terms: DFF<Bits<16>>,
    issued: DFF<bool>,
    issued_on: DFF<Bits<8>>,
    issued_to: DFF<Bits<16>>,
    holds_register: DFF<bool>,
    accepted: Signal<Local, bool>,
    held_id: Signal<Local, FragmentId>,
    held_index: Signal<Local, Bits<11>>,
    zero3: Constant<Bits<3>>,
}

impl Default for EntryWriter {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            able: Default::default(),
            start: Default::default(),
            fragment: Default::default(),
            is_flush: Default::default(),
            is_ranged: Default::default(),
            address: Default::default(),
            tail: Default::default(),
            id: Default::default(),
            range_base: Default::default(),
            write: Default::default(),
            range_write: Default::default(),
            record_valid: Default::default(),
            record_index: Default::default(),
            record: Default::default(),
            record_terms: Default::default(),
            issued_valid: Default::default(),
            issued_path: Default::default(),
            issued_tail: Default::default(),
            asked_path: Default::default(),
            holds: Default::default(),
            idle: Default::default(),
            builder: Default::default(),
            held_valid: Default::default(),
            held: Default::default(),
            held_next: Default::default(),
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
            written_terms: Default::default(),
            issued: Default::default(),
            issued_on: Default::default(),
            issued_to: Default::default(),
            holds_register: Default::default(),
            accepted: Default::default(),
            held_id: Default::default(),
            held_index: Default::default(),
            zero3: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for EntryWriter {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, held_valid, held, range_address, offered_valid, offered);
        dff_setup!(self, clock, range_valid, range, offered_path, offered_tail, written, written_index);
        dff_setup!(self, clock, written_record, written_terms, issued, issued_on, issued_to);
        dff_setup!(self, clock, holds_register);

        // The next identifier.
        self.id.ready.next = !self.held_valid.q.val();
        if self.start.val() {
            self.held_valid.d.next = false;
        } else if !self.held_valid.q.val() {
            self.held_valid.d.next = self.id.valid.val();
            self.held.d.next = self.id.data.val();
        }
        self.held_id.next = self.held.q.val().into();
        self.held_index.next = self.held_id.val().index;
        self.range_address.d.next = self.range_base.val() + (bit_cast::<64, 11>(self.held_index.val()) << 4);
        self.builder.fragment.next = self.fragment.val();
        self.builder.is_flush.next = self.is_flush.val();
        self.builder.is_ranged.next = self.is_ranged.val();
        self.builder.id.next = self.held.q.val();
        self.builder.range_address.next = self.range_address.q.val();

        // Its record.
        self.written.d.next = self.start.val();
        self.written_index.d.next = self.held_index.val();
        self.written_record.d.next.generation = self.held_id.val().generation;
        self.written_record.d.next.path = self.fragment.val().path;
        self.written_record.d.next.part = self.fragment.val().part;
        self.written_record.d.next.ordinal = self.fragment.val().ordinal;
        self.written_record.d.next.last = self.fragment.val().last;
        self.written_record.d.next.reserved = self.zero3.val();
        self.record_valid.next = self.written.q.val();
        self.record_index.next = self.written_index.q.val();
        self.record.next = self.written_record.q.val();
        self.written_terms.d.next = self.fragment.val().terms;
        self.record_terms.next = self.written_terms.q.val();

        // The range, then the entry.
        self.range_write.valid.next = self.range_valid.q.val();
        self.range_write.data.next = self.range.q.val();
        self.write.valid.next = self.offered_valid.q.val() & !self.range_valid.q.val();
        self.write.data.next = self.offered.q.val();
        self.accepted.next = self.offered_valid.q.val() & !self.range_valid.q.val() & self.write.ready.val();
        // An identifier that comes now does for all that has no range.
        self.held_next.next = self.held_valid.q.val() | (self.id.valid.val() & !self.is_ranged.val());
        self.able.next =
            self.held_next.val() & (!self.offered_valid.q.val() | self.accepted.val()) & !self.start.val();
        if self.range_write.ready.val() {
            self.range_valid.d.next = false;
        }
        if self.accepted.val() {
            self.offered_valid.d.next = false;
        }
        if self.start.val() {
            self.offered_valid.d.next = true;
            self.offered.d.next.address = self.address.val();
            self.offered.d.next.data = self.builder.entry.val().into();
            self.range_valid.d.next = self.is_ranged.val();
            self.range.d.next = self.builder.range.val();
            self.offered_path.d.next = self.fragment.val().path;
            self.offered_tail.d.next = self.tail.val();
        }
        self.issued.d.next = self.accepted.val();
        self.issued_on.d.next = self.offered_path.q.val();
        self.issued_to.d.next = self.offered_tail.q.val();
        self.issued_valid.next = self.issued.q.val();
        self.issued_path.next = self.issued_on.q.val();
        self.issued_tail.next = self.issued_to.q.val();
        self.holds_register.d.next =
            self.offered_valid.q.val() & (self.offered_path.q.val() == self.asked_path.val());
        self.holds.next = self.holds_register.q.val();
        self.idle.next = !self.offered_valid.q.val() & !self.written.q.val() & !self.issued.q.val();

        if self.reset.val() {
            self.held_valid.d.next = false;
            self.offered_valid.d.next = false;
            self.range_valid.d.next = false;
            self.written.d.next = false;
            self.issued.d.next = false;
        }
    }
}
