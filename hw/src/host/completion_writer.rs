//! Writes the completions of client commands into their rings, and raises their vectors.
//!
//! `done` brings ended plans. The plan slot is asked for its owner (`query`, answered in
//! `query_owner` two cycles later), the queue for its settings, its place in the ring and its fetched
//! submission head (`head_query`, answered in `head_value` one cycle later); then the slot is given
//! back and the entry offered in `write`. Once it was taken, `client_completed` says so and the queue's
//! vector is offered in `raise`. The settings are this block's copy of the queue table: it listens to
//! the table bus, where the next access comes 4 cycles later at the earliest, and never acknowledges.
//! `state_query` reads a queue's place for `QueueState`.
//!
//! A write of a queue's entry with `enable` set begins its ring anew; one with `enable` clear leaves
//! the place, so that commands still outstanding end where the client looks for them.
//!
//! Latency: 4 cycles from `done` to `write`. Throughput: a completion every 2 cycles. Ordering: that of
//! `done`. Reset puts every queue at entry 0 and phase 1, one a cycle, and takes nothing meanwhile.

use rust_hdl::prelude::*;
use volplane_abi::table;

use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::ram::LutRam;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{CompletionEntry, PlanDone, QueueEntry, SlotOwner, SmallWrite, TableRequest};
use crate::sizes::Sizes;

logic_record! {
    /// What of a queue's entry a completion needs.
    CompletionSettings: 89 {
        /// Completion ring.
        cq_base = 64,
        /// Entries of the completion ring − 1.
        cq_size_z = 16,
        /// Interrupt vector.
        vector = 8,
        /// 1: completions raise the vector.
        interrupt_enable = 1,
    }
}

logic_record! {
    /// Where in its completion ring a queue stands.
    RingPlace: 17 {
        /// Next entry to write.
        tail = 16,
        /// Its phase tag.
        phase = 1,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct CompletionWriter {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub done: StreamIn<PlanDone>,
    pub query: Signal<Out, Bits<12>>,
    pub query_owner: Signal<In, SlotOwner>,
    pub release_valid: Signal<Out, bool>,
    pub release_slot: Signal<Out, Bits<12>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub head_query: Signal<Out, Bits<8>>,
    pub head_value: Signal<In, Bits<16>>,
    pub state_query: Signal<In, Bits<8>>,
    /// The place of queue `state_query`, one cycle later.
    pub state_tail: Signal<Out, Bits<16>>,
    pub state_phase: Signal<Out, Bits<1>>,
    pub write: StreamOut<SmallWrite>,
    pub client_completed: Signal<Out, bool>,
    pub client_completed_queue: Signal<Out, Bits<8>>,
    pub raise: StreamOut<Bits<8>>,
    pub idle: Signal<Out, bool>,

    settings: LutRam<CompletionSettings>,
    places: LutRam<RingPlace>,
    places_readback: LutRam<RingPlace>,
    raised: Fifo<Bits<8>>,
    /// Taken from `done`, its owner being looked up: in the first, then in the second cycle.
    looking: DFF<PlanDone>,
    look_first: DFF<bool>,
    look_second: DFF<bool>,
    /// Owner known, its queue's settings there.
    composing: DFF<PlanDone>,
    owner: DFF<SlotOwner>,
    compose: DFF<bool>,
    out: DFF<SmallWrite>,
    out_valid: DFF<bool>,
    out_queue: DFF<Bits<8>>,
    out_vector: DFF<Bits<8>>,
    out_interrupt: DFF<bool>,
    completed: DFF<bool>,
    completed_queue: DFF<Bits<8>>,
    /// A queue to begin anew, in a cycle that writes no place.
    restart: DFF<bool>,
    restart_queue: DFF<Bits<16>>,
    cleared: DFF<Bits<16>>,
    all_cleared: DFF<bool>,

    done_ready: Signal<Local, bool>,
    move_on: Signal<Local, bool>,
    deliver: Signal<Local, bool>,
    queue: Signal<Local, Bits<8>>,
    entry: Signal<Local, QueueEntry>,
    selected: Signal<Local, bool>,
    place: Signal<Local, RingPlace>,
    place_next: Signal<Local, RingPlace>,
    place_first: Signal<Local, RingPlace>,
    completion: Signal<Local, CompletionEntry>,
    base: Signal<Local, Bits<64>>,
    tail: Signal<Local, Bits<16>>,
    page: Signal<Local, Bits<52>>,
    table_number: Constant<Bits<16>>,
    queues: Constant<Bits<32>>,
    last_queue: Constant<Bits<16>>,
    no_queue: Constant<Bits<32>>,
    zero32: Constant<Bits<32>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    flag: Constant<Bits<1>>,
}

impl CompletionWriter {
    /// For 2^`queue_bits` queues.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((1..=5).contains(&sizes.queue_bits), "2^{} queues", sizes.queue_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            done: Default::default(),
            query: Default::default(),
            query_owner: Default::default(),
            release_valid: Default::default(),
            release_slot: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            head_query: Default::default(),
            head_value: Default::default(),
            state_query: Default::default(),
            state_tail: Default::default(),
            state_phase: Default::default(),
            write: Default::default(),
            client_completed: Default::default(),
            client_completed_queue: Default::default(),
            raise: Default::default(),
            idle: Default::default(),
            settings: LutRam::new(sizes.queue_bits),
            places: LutRam::new(sizes.queue_bits),
            places_readback: LutRam::new(sizes.queue_bits),
            raised: Fifo::lut(3, 3),
            looking: Default::default(),
            look_first: Default::default(),
            look_second: Default::default(),
            composing: Default::default(),
            owner: Default::default(),
            compose: Default::default(),
            out: Default::default(),
            out_valid: Default::default(),
            out_queue: Default::default(),
            out_vector: Default::default(),
            out_interrupt: Default::default(),
            completed: Default::default(),
            completed_queue: Default::default(),
            restart: Default::default(),
            restart_queue: Default::default(),
            cleared: Default::default(),
            all_cleared: Default::default(),
            done_ready: Default::default(),
            move_on: Default::default(),
            deliver: Default::default(),
            queue: Default::default(),
            entry: Default::default(),
            selected: Default::default(),
            place: Default::default(),
            place_next: Default::default(),
            place_first: Default::default(),
            completion: Default::default(),
            base: Default::default(),
            tail: Default::default(),
            page: Default::default(),
            table_number: Constant::new((table::QUEUE as u64).to_bits()),
            queues: Constant::new((1u64 << sizes.queue_bits).to_bits()),
            last_queue: Constant::new(((1u64 << sizes.queue_bits) - 1).to_bits()),
            no_queue: Constant::new(0u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for CompletionWriter {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            looking,
            look_first,
            look_second,
            composing,
            owner,
            compose,
            out,
            out_valid,
            out_queue,
            out_vector,
            out_interrupt,
            completed,
            completed_queue,
            restart,
            restart_queue,
            cleared,
            all_cleared
        );
        self.settings.clock.next = self.clock.val();
        self.places.clock.next = self.clock.val();
        self.places_readback.clock.next = self.clock.val();
        self.raised.clock.next = self.clock.val();
        self.raised.reset.next = self.reset.val();

        // The queue table, listened to.
        self.entry.next = self.table_request.val().data.into();
        self.selected.next = self.table_valid.val()
            & (self.table_request.val().write == self.flag.val())
            & (self.table_request.val().table == self.table_number.val())
            & (self.table_request.val().index != self.no_queue.val())
            & (self.table_request.val().index < self.queues.val());
        self.settings.write.next = self.selected.val();
        self.settings.write_address.next = bit_cast::<16, 32>(self.table_request.val().index);
        self.settings.write_data.next.cq_base = self.entry.val().cq_base;
        self.settings.write_data.next.cq_size_z = self.entry.val().cq_size_z;
        self.settings.write_data.next.vector = bit_cast::<8, 16>(self.entry.val().vector);
        self.settings.write_data.next.interrupt_enable = self.entry.val().interrupt_enable;

        // Owner, then settings and place.
        self.done_ready.next = self.all_cleared.q.val()
            & !self.look_first.q.val()
            & (!self.look_second.q.val() | !self.compose.q.val());
        self.done.ready.next = self.done_ready.val();
        self.query.next = self.looking.q.val().slot;
        if self.done_ready.val() {
            self.query.next = self.done.data.val().slot;
            self.looking.d.next = self.done.data.val();
        }
        self.look_first.d.next = self.done_ready.val() & self.done.valid.val();
        self.move_on.next = self.look_second.q.val() & !self.compose.q.val();
        self.look_second.d.next = self.look_first.q.val() | (self.look_second.q.val() & !self.move_on.val());
        self.queue.next = self.owner.q.val().queue;
        if self.move_on.val() {
            self.queue.next = self.query_owner.val().queue;
            self.composing.d.next = self.looking.q.val();
            self.owner.d.next = self.query_owner.val();
            self.compose.d.next = true;
        }
        self.settings.read_address.next = bit_cast::<16, 8>(self.queue.val());
        self.places.read_address.next = bit_cast::<16, 8>(self.queue.val());
        self.head_query.next = self.queue.val();

        // The entry, and the next place.
        self.place.next = self.places.read_data.val();
        self.place_next.next = self.place.val();
        self.place_next.next.tail = self.place.val().tail + self.one16.val();
        if (self.place.val().tail == self.settings.read_data.val().cq_size_z) {
            self.place_next.next.tail = self.zero16.val();
            self.place_next.next.phase = !self.place.val().phase;
        }
        self.base.next = self.settings.read_data.val().cq_base;
        self.tail.next = self.place.val().tail;
        // Rings begin at a page, so the lowest 12 bits are the entry's alone.
        self.page.next =
            self.base.val().get_bits::<52>(12) + bit_cast::<52, 8>(self.tail.val().get_bits::<8>(8));
        self.completion.next.result = self.zero32.val();
        self.completion.next.reserved = self.zero32.val();
        self.completion.next.sq_head = self.head_value.val();
        self.completion.next.sq_id = bit_cast::<16, 8>(self.owner.q.val().queue);
        self.completion.next.command_id = self.owner.q.val().command_id;
        self.completion.next.phase = self.place.val().phase;
        self.completion.next.status = self.composing.q.val().status;
        self.deliver.next = self.compose.q.val() & !self.out_valid.q.val() & self.raised.room.val();
        self.release_valid.next = self.deliver.val();
        self.release_slot.next = self.composing.q.val().slot;
        if self.out_valid.q.val() & self.write.ready.val() {
            self.out_valid.d.next = false;
        }
        if self.deliver.val() {
            self.compose.d.next = false;
            self.out_valid.d.next = true;
            self.out.d.next.address = (bit_cast::<64, 52>(self.page.val()) << 12)
                | (bit_cast::<64, 8>(self.tail.val().get_bits::<8>(0)) << 4);
            self.out.d.next.data = self.completion.val().into();
            self.out.d.next.quad = self.flag.val();
            self.out_queue.d.next = self.owner.q.val().queue;
            self.out_vector.d.next = self.settings.read_data.val().vector;
            self.out_interrupt.d.next = (self.settings.read_data.val().interrupt_enable == self.flag.val());
        }
        self.write.valid.next = self.out_valid.q.val();
        self.write.data.next = self.out.q.val();
        self.completed.d.next = self.out_valid.q.val() & self.write.ready.val();
        self.completed_queue.d.next = self.out_queue.q.val();
        self.client_completed.next = self.completed.q.val();
        self.client_completed_queue.next = self.completed_queue.q.val();
        self.raised.push.next = self.out_valid.q.val() & self.write.ready.val() & self.out_interrupt.q.val();
        self.raised.data.next = self.out_vector.q.val();
        self.raise.valid.next = self.raised.out.valid.val();
        self.raise.data.next = self.raised.out.data.val();
        self.raised.out.ready.next = self.raise.ready.val();

        // One writer of places: a completion, else a restart, and the walk after reset.
        self.place_first.next.tail = self.zero16.val();
        self.place_first.next.phase = self.flag.val();
        self.places.write.next = self.deliver.val() | self.restart.q.val() | !self.all_cleared.q.val();
        self.places.write_address.next = self.restart_queue.q.val();
        self.places.write_data.next = self.place_first.val();
        if !self.all_cleared.q.val() {
            self.places.write_address.next = self.cleared.q.val();
            self.cleared.d.next = self.cleared.q.val() + self.one16.val();
            self.all_cleared.d.next = (self.cleared.q.val() == self.last_queue.val());
        } else if self.deliver.val() {
            self.places.write_address.next = bit_cast::<16, 8>(self.owner.q.val().queue);
            self.places.write_data.next = self.place_next.val();
        } else {
            self.restart.d.next = false;
        }
        if self.selected.val() & (self.entry.val().enable == self.flag.val()) {
            self.restart.d.next = true;
            self.restart_queue.d.next = bit_cast::<16, 32>(self.table_request.val().index);
        }
        self.places_readback.write.next = self.places.write.val();
        self.places_readback.write_address.next = self.places.write_address.val();
        self.places_readback.write_data.next = self.places.write_data.val();
        self.places_readback.read_address.next = bit_cast::<16, 8>(self.state_query.val());
        self.state_tail.next = self.places_readback.read_data.val().tail;
        self.state_phase.next = self.places_readback.read_data.val().phase;
        self.idle.next = self.all_cleared.q.val()
            & !self.look_first.q.val()
            & !self.look_second.q.val()
            & !self.compose.q.val()
            & !self.out_valid.q.val()
            & !self.completed.q.val()
            & !self.restart.q.val()
            & self.raised.empty.val();

        if self.reset.val() {
            self.look_first.d.next = false;
            self.look_second.d.next = false;
            self.compose.d.next = false;
            self.out_valid.d.next = false;
            self.completed.d.next = false;
            self.restart.d.next = false;
            self.all_cleared.d.next = false;
            self.cleared.d.next = self.zero16.val();
        }
    }
}

#[cfg(test)]
mod tests;
