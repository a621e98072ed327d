//! Submission: writes fragments into the submission queues of their paths.
//!
//! Purpose: gives each fragment an entry in its path's queue and an identifier, waits until the path has credit
//! (fewer than `limit` fragments in flight, and the queue not full), writes the identifier's record for
//! `CompletionFilter` and the entry for the bus; a Dataset Management's range is accepted before its entry is
//! offered. Owns the path table (`PathTable`). Handshake: streams. `issued_valid` is a pulse, the cycle after
//! the bus took the entry, with the path's new tail. Credit is asked of `PathReturns` by `query_path`, answered
//! a cycle later, and its question `tail_path` is answered so. A fragment whose path's entry is not valid (any
//! more) when its turn comes is not issued but given back, as `bounced`; nor is one whose plan issues nothing
//! more (`stopped`, asked by `stop_query`), which comes back as such. Latency: fragment to entry offered 5 or 6
//! cycles. Throughput: one in 2 cycles, a Dataset Management in 4. Order: as they came, also across paths: a
//! path without credit holds up the next. Reset: forgets what is in it. Writing a path's table entry clears its
//! accounts here, in `PathReturns` and in `PathDoorbells`, each of which hears the bus; `table_ack` follows 16
//! cycles after the request, or when the bus has taken what the path's queue was given before, and `doorbells_hold` has
//! fallen. Failure: an SSD that stops completing stops its path.

use rust_hdl::prelude::*;
use volplane_abi::opcode;
use volplane_abi::plan::plan_status;

use super::entry_writer::EntryWriter;
use super::path_table::PathTable;
use super::slot_allocator::SlotAllocator;
use crate::exec::stop_cause::STOPPED;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Fragment, IdRecord, Part, Returned, SmallWrite, TableRequest, WideWrite};
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
    /// How the part of the record is to be given (`PartTerms`).
    pub record_terms: Signal<Out, Bits<16>>,
    /// Fragments whose path is not valid any more: they end with Host Pathing Error.
    pub bounced: StreamOut<Returned>,
    /// A plan, and two cycles later whether it is stopped.
    pub stop_query: Signal<Out, Bits<12>>,
    pub stopped: Signal<In, bool>,
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
    pub table_busy: Signal<Out, bool>,
    /// The same of doorbells, and of reads before them.
    pub doorbells_hold: Signal<In, bool>,
    pub path_valid: Signal<Out, Bits<32>>,
    pub renewing: Signal<Out, bool>,
    pub path_written: Signal<Out, bool>,
    pub state_query: Signal<Out, Bits<8>>,
    pub state_head: Signal<In, Bits<16>>,
    pub state_returned: Signal<In, Bits<16>>,
    pub state_rung: Signal<In, Bits<16>>,
    pub state_cq_head: Signal<In, Bits<16>>,
    pub idle: Signal<Out, bool>,
    path_table: PathTable,
    slots: SlotAllocator,
    writer: EntryWriter,
    /// Every second cycle is odd: fragments move at the end of odd cycles. The memories are asked for
    /// the arriving fragment in even cycles, for the waiting one's credit in odd ones.
    odd: DFF<bool>,
    arriving_valid: DFF<bool>,
    arriving: DFF<Fragment>,
    waiting_valid: DFF<bool>,
    waiting: DFF<Fragment>,
    /// Of the waiting fragment's opcode.
    waiting_flush: DFF<bool>,
    waiting_ranged: DFF<bool>,
    /// The waiting fragment's entry, the tail after it, its number, and what decides on its credit.
    slot: DFF<Bits<16>>,
    tail: DFF<Bits<16>>,
    number: DFF<Bits<16>>,
    limit: DFF<Bits<16>>,
    in_flight: DFF<Bits<16>>,
    head: DFF<Bits<16>>,
    base: DFF<Bits<64>>,
    slot_address: DFF<Bits<64>>,
    /// Who moves in this odd cycle.
    issuing: DFF<bool>,
    moving: DFF<bool>,
    taking: DFF<bool>,
    /// Credit was asked for this same fragment in the last cycle.
    asked: DFF<bool>,
    /// Of the path that was asked for in the last cycle, and of the waiting fragment's: it is not valid.
    queried_gone: DFF<bool>,
    gone: DFF<bool>,
    /// The waiting fragment's plan is stopped; it had been given an entry by then.
    halted: DFF<bool>,
    has_slot: DFF<bool>,
    bouncing: DFF<bool>,
    bounced_valid: DFF<bool>,
    bounced_fragment: DFF<Returned>,
    query: Signal<Local, Bits<8>>,
    query_low: Signal<Local, Bits<5>>,
    coming_part: Signal<Local, Part>,
    arriving_part: Signal<Local, Part>,
    waiting_part: Signal<Local, Part>,
    ends: Signal<Local, bool>,
    gives_back: Signal<Local, bool>,
    leaves: Signal<Local, bool>,
    may_issue: Signal<Local, bool>,
    lost: Constant<Returned>,
    stop_status: Constant<Bits<15>>,
    flush: Constant<Bits<8>>,
    dataset_management: Constant<Bits<8>>,
    number_now: Signal<Local, Bits<16>>,
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
            record_terms: Default::default(),
            bounced: Default::default(),
            stop_query: Default::default(),
            stopped: Default::default(),
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
            table_busy: Default::default(),
            doorbells_hold: Default::default(),
            path_valid: Default::default(),
            renewing: Default::default(),
            path_written: Default::default(),
            state_query: Default::default(),
            state_head: Default::default(),
            state_returned: Default::default(),
            state_rung: Default::default(),
            state_cq_head: Default::default(),
            idle: Default::default(),
            path_table: PathTable::new(sizes),
            slots: SlotAllocator::new(sizes),
            writer: Default::default(),
            odd: Default::default(),
            arriving_valid: Default::default(),
            arriving: Default::default(),
            waiting_valid: Default::default(),
            waiting: Default::default(),
            waiting_flush: Default::default(),
            waiting_ranged: Default::default(),
            slot: Default::default(),
            tail: Default::default(),
            number: Default::default(),
            limit: Default::default(),
            in_flight: Default::default(),
            head: Default::default(),
            base: Default::default(),
            slot_address: Default::default(),
            asked: Default::default(),
            issuing: Default::default(),
            queried_gone: Default::default(),
            gone: Default::default(),
            halted: Default::default(),
            has_slot: Default::default(),
            bouncing: Default::default(),
            bounced_valid: Default::default(),
            bounced_fragment: Default::default(),
            query: Default::default(),
            query_low: Default::default(),
            coming_part: Default::default(),
            arriving_part: Default::default(),
            waiting_part: Default::default(),
            ends: Default::default(),
            gives_back: Default::default(),
            leaves: Default::default(),
            may_issue: Default::default(),
            lost: Constant::new(Returned {
                status: u64::from(plan_status::HOST_PATH_ERROR).to_bits(),
                own: 1u64.to_bits(),
                ..Returned::default()
            }),
            stop_status: Constant::new(u64::from(STOPPED).to_bits()),
            flush: Constant::new(u64::from(opcode::FLUSH).to_bits()),
            dataset_management: Constant::new(u64::from(opcode::DATASET_MANAGEMENT).to_bits()),
            number_now: Default::default(),
            moving: Default::default(),
            taking: Default::default(),
        }
    }
}

impl Logic for Submission {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, odd, arriving_valid, arriving, waiting_valid, waiting, slot, tail, number);
        dff_setup!(self, clock, waiting_flush, waiting_ranged);
        dff_setup!(self, clock, limit, in_flight, head, base, slot_address, issuing, moving, taking, asked);
        dff_setup!(
            self,
            clock,
            queried_gone,
            gone,
            halted,
            has_slot,
            bouncing,
            bounced_valid,
            bounced_fragment
        );
        self.path_table.clock.next = self.clock.val();
        self.path_table.reset.next = self.reset.val();
        self.path_table.table_valid.next = self.table_valid.val();
        self.path_table.table_request.next = self.table_request.val();
        self.table_ack.next = self.path_table.table_ack.val();
        self.table_data.next = self.path_table.table_data.val();
        self.table_busy.next = self.path_table.table_busy.val();
        self.path_table.held.next = self.writer.holds.val() | self.doorbells_hold.val();
        self.writer.asked_path.next = self.path_table.state_query.val();
        self.path_valid.next = self.path_table.path_valid.val();
        self.renewing.next = self.path_table.renewing.val();
        self.path_written.next = self.path_table.path_written.val();
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

        // Who moves in an odd cycle is decided in the even one before, in which nothing else does.
        self.odd.d.next = !self.odd.q.val();
        self.may_issue.next = (self.in_flight.q.val() < self.limit.q.val())
            & (self.tail.q.val() != self.head.q.val())
            & self.writer.able.val();
        // Whoever gives an entry back does so alone: the next one's is taken after.
        self.ends.next = self.gone.q.val() | self.halted.q.val();
        self.gives_back.next = self.has_slot.q.val() & !self.gone.q.val();
        self.leaves.next = self.may_issue.val();
        if self.ends.val() {
            self.leaves.next = !self.bounced_valid.q.val() & !self.gives_back.val();
        }
        self.issuing.d.next =
            !self.odd.q.val() & self.waiting_valid.q.val() & self.may_issue.val() & !self.ends.val();
        self.bouncing.d.next =
            !self.odd.q.val() & self.waiting_valid.q.val() & self.ends.val() & !self.bounced_valid.q.val();
        self.moving.d.next = !self.odd.q.val()
            & self.arriving_valid.q.val()
            & (!self.waiting_valid.q.val() | self.leaves.val());
        self.taking.d.next = !self.odd.q.val()
            & (!self.arriving_valid.q.val() | !self.waiting_valid.q.val() | self.leaves.val());
        self.fragment.ready.next = self.taking.q.val();

        // Arriving: the path's next entry.
        if self.taking.q.val() {
            self.arriving_valid.d.next = self.fragment.valid.val();
            self.arriving.d.next = self.fragment.data.val();
        }
        self.slots.odd.next = self.odd.q.val();
        self.slots.path.next = self.arriving.q.val().path;
        self.slots.take.next = self.moving.q.val() & !self.queried_gone.q.val() & !self.stopped.val();
        self.slots.take_path.next = self.arriving.q.val().path;
        self.slots.give_back.next = self.bouncing.q.val() & self.gives_back.val();
        self.slots.given_slot.next = self.slot.q.val();
        self.slots.given_tail.next = self.tail.q.val();
        self.slots.given_number.next = self.number.q.val();
        if self.bouncing.q.val() & self.gives_back.val() {
            self.slots.take_path.next = self.waiting.q.val().path;
        }
        if self.issuing.q.val() | self.bouncing.q.val() {
            self.waiting_valid.d.next = false;
        }

        // Waiting: for credit, an identifier, and the entry before it to be taken.
        self.query.next = self.arriving.q.val().path;
        if self.odd.q.val() {
            self.query.next = self.waiting.q.val().path;
        }
        self.query_path.next = self.query.val();
        // Whether a plan is stopped comes in a cycle like that in which it was asked: of what arrives in odd
        // cycles, when it moves, of what waits in even ones.
        self.coming_part.next = self.fragment.data.val().part.into();
        self.arriving_part.next = self.arriving.q.val().part.into();
        self.waiting_part.next = self.waiting.q.val().part.into();
        self.stop_query.next = self.waiting_part.val().slot;
        if self.odd.q.val() {
            self.stop_query.next = self.arriving_part.val().slot;
            if self.taking.q.val() {
                self.stop_query.next = self.coming_part.val().slot;
            }
        }
        self.query_low.next = self.query.val().get_bits::<5>(0);
        self.queried_gone.d.next = !self.path_table.path_valid.val().get_bit(self.query_low.val().index());
        self.asked.d.next =
            self.odd.q.val() & self.waiting_valid.q.val() & !self.issuing.q.val() & !self.bouncing.q.val();
        // `asked` stands in even cycles only, fragments move in odd ones.
        self.number_now.next = self.number.q.val();
        if self.odd.q.val() {
            self.number_now.next = self.slots.number.val();
        }
        if self.asked.q.val() | self.moving.q.val() {
            self.in_flight.d.next = self.number_now.val() - self.query_returned.val();
            self.head.d.next = self.query_head.val();
            // Whoever has once lost its path has no entry that could be used.
            self.gone.d.next = self.queried_gone.q.val() | (self.gone.q.val() & !self.moving.q.val());
            self.halted.d.next = self.stopped.val();
        }
        if self.moving.q.val() {
            self.waiting_valid.d.next = true;
            self.waiting.d.next = self.arriving.q.val();
            self.waiting_flush.d.next = (self.arriving.q.val().opcode == self.flush.val());
            self.waiting_ranged.d.next = (self.arriving.q.val().opcode == self.dataset_management.val());
            self.slot.d.next = self.slots.slot.val();
            self.tail.d.next = self.slots.tail.val();
            self.number.d.next = self.slots.number.val();
            self.base.d.next = self.slots.base.val();
            self.limit.d.next = self.slots.limit.val();
            self.has_slot.d.next = !self.queried_gone.q.val() & !self.stopped.val();
        }
        self.slot_address.d.next = self.base.q.val() + (bit_cast::<64, 16>(self.slot.q.val()) << 6);
        self.slots.commit.next = self.issuing.q.val();
        self.slots.commit_path.next = self.waiting.q.val().path;
        self.slots.commit_tail.next = self.tail.q.val();
        self.slots.commit_number.next = self.number.q.val();

        // Its path is gone: it ends here.
        self.bounced.valid.next = self.bounced_valid.q.val();
        self.bounced.data.next = self.bounced_fragment.q.val();
        if self.bounced.ready.val() {
            self.bounced_valid.d.next = false;
        }
        if self.bouncing.q.val() {
            self.bounced_valid.d.next = true;
            self.bounced_fragment.d.next = self.lost.val();
            self.bounced_fragment.d.next.path = self.waiting.q.val().path;
            self.bounced_fragment.d.next.part = self.waiting.q.val().part;
            self.bounced_fragment.d.next.ordinal = self.waiting.q.val().ordinal;
            self.bounced_fragment.d.next.last = self.waiting.q.val().last;
            if self.halted.q.val() {
                self.bounced_fragment.d.next.status = self.stop_status.val();
            }
        }

        // Issued: with an identifier, to the bus.
        self.writer.clock.next = self.clock.val();
        self.writer.reset.next = self.reset.val();
        self.writer.start.next = self.issuing.q.val();
        self.writer.fragment.next = self.waiting.q.val();
        self.writer.is_flush.next = self.waiting_flush.q.val();
        self.writer.is_ranged.next = self.waiting_ranged.q.val();
        self.writer.address.next = self.slot_address.q.val();
        self.writer.tail.next = self.tail.q.val();
        self.writer.range_base.next = self.range_base.val();
        StreamIn::<Bits<16>>::link(&mut self.id, &mut self.writer.id);
        StreamOut::<WideWrite>::link(&mut self.write, &mut self.writer.write);
        StreamOut::<SmallWrite>::link(&mut self.range_write, &mut self.writer.range_write);
        self.record_valid.next = self.writer.record_valid.val();
        self.record_index.next = self.writer.record_index.val();
        self.record.next = self.writer.record.val();
        self.record_terms.next = self.writer.record_terms.val();
        self.issued_valid.next = self.writer.issued_valid.val();
        self.issued_path.next = self.writer.issued_path.val();
        self.issued_tail.next = self.writer.issued_tail.val();
        self.idle.next = self.path_table.idle.val()
            & self.slots.idle.val()
            & !self.arriving_valid.q.val()
            & !self.waiting_valid.q.val()
            & !self.bounced_valid.q.val()
            & self.writer.idle.val();

        if self.reset.val() {
            self.odd.d.next = false;
            self.arriving_valid.d.next = false;
            self.waiting_valid.d.next = false;
            self.asked.d.next = false;
            self.issuing.d.next = false;
            self.moving.d.next = false;
            self.taking.d.next = false;
            self.bouncing.d.next = false;
            self.bounced_valid.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
