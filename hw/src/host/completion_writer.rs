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
//! Latency: 7 cycles from `done` to `write`; nothing waits on the way, `done` is taken while the queues
//! behind have room. Throughput: a completion every 2 cycles. Ordering: that of
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

logic_record! {
    /// A completion to write.
    ComposedCompletion: 132 {
        /// Page of its entry.
        page = 52,
        /// Entry in the page.
        place = 8,
        /// Submission head.
        sq_head = 16,
        /// Queue.
        queue = 8,
        /// Command identifier.
        command_id = 16,
        /// Phase tag.
        phase = 1,
        /// Status field.
        status = 15,
        /// Interrupt vector.
        vector = 8,
        /// 1: raise it.
        interrupt = 1,
        /// Reserved.
        reserved = 7,
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
    /// With `release_valid`: whose it was.
    pub release_owner: Signal<Out, SlotOwner>,
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
    composed: Fifo<ComposedCompletion>,
    raised: Fifo<Bits<8>>,
    done_ready: DFF<bool>,
    // One stage a register: its owner is asked for, expected, comes; its queue is read, is there.
    looking: DFF<PlanDone>,
    look_first: DFF<bool>,
    look_second: DFF<bool>,
    ending: DFF<PlanDone>,
    look_third: DFF<bool>,
    owner: DFF<SlotOwner>,
    reading: DFF<bool>,
    composing: DFF<PlanDone>,
    composing_owner: DFF<SlotOwner>,
    compose: DFF<bool>,
    /// The place is the one that the completion two cycles ahead leaves, not yet in the RAM.
    follows: DFF<bool>,
    left_place: DFF<RingPlace>,
    // The entry but for the upper bits of its page, and what the next place follows from.
    item: DFF<ComposedCompletion>,
    item_valid: DFF<bool>,
    page_carry: DFF<bool>,
    place_after: DFF<RingPlace>,
    equal: DFF<Bits<4>>,
    completed: DFF<bool>,
    completed_queue: DFF<Bits<8>>,
    completed_vector: DFF<Bits<8>>,
    completed_interrupt: DFF<bool>,
    // The table bus a cycle ago.
    request_entry: DFF<QueueEntry>,
    request_index: DFF<Bits<16>>,
    request_write: DFF<bool>,
    request_mine: DFF<bool>,
    request_low: DFF<bool>,
    request_some: DFF<bool>,
    /// A queue to begin anew, in a cycle that writes no place.
    restart: DFF<bool>,
    restart_queue: DFF<Bits<16>>,
    cleared: DFF<Bits<16>>,
    all_cleared: DFF<bool>,
    idle_register: DFF<bool>,

    taking: Signal<Local, bool>,
    owner_queue: Signal<Local, Bits<8>>,
    entry: Signal<Local, QueueEntry>,
    low_index: Signal<Local, Bits<16>>,
    selected: Signal<Local, bool>,
    place: Signal<Local, RingPlace>,
    place_next: Signal<Local, RingPlace>,
    place_first: Signal<Local, RingPlace>,
    size_z: Signal<Local, Bits<16>>,
    equal_parts: [Signal<Local, Bits<4>>; 4],
    size_parts: [Signal<Local, Bits<4>>; 4],
    completion: Signal<Local, CompletionEntry>,
    base: Signal<Local, Bits<64>>,
    tail: Signal<Local, Bits<16>>,
    base_low: Signal<Local, Bits<9>>,
    page_low: Signal<Local, Bits<9>>,
    item_page: Signal<Local, Bits<52>>,
    page_upper: Signal<Local, Bits<44>>,
    page_high: Signal<Local, Bits<44>>,
    out: Signal<Local, ComposedCompletion>,
    all_equal: Constant<Bits<4>>,
    low_page: Constant<Bits<52>>,
    table_number: Constant<Bits<16>>,
    queues: Constant<Bits<32>>,
    last_queue: Constant<Bits<16>>,
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
            release_owner: Default::default(),
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
            composed: Fifo::quick(4, 6),
            raised: Fifo::lut(5, 25),
            done_ready: Default::default(),
            looking: Default::default(),
            look_first: Default::default(),
            look_second: Default::default(),
            ending: Default::default(),
            look_third: Default::default(),
            owner: Default::default(),
            reading: Default::default(),
            composing: Default::default(),
            composing_owner: Default::default(),
            compose: Default::default(),
            follows: Default::default(),
            left_place: Default::default(),
            item: Default::default(),
            item_valid: Default::default(),
            page_carry: Default::default(),
            place_after: Default::default(),
            equal: Default::default(),
            completed: Default::default(),
            completed_queue: Default::default(),
            completed_vector: Default::default(),
            completed_interrupt: Default::default(),
            request_entry: Default::default(),
            request_index: Default::default(),
            request_write: Default::default(),
            request_mine: Default::default(),
            request_low: Default::default(),
            request_some: Default::default(),
            restart: Default::default(),
            restart_queue: Default::default(),
            cleared: Default::default(),
            all_cleared: Default::default(),
            idle_register: Default::default(),
            taking: Default::default(),
            owner_queue: Default::default(),
            entry: Default::default(),
            low_index: Default::default(),
            selected: Default::default(),
            place: Default::default(),
            place_next: Default::default(),
            place_first: Default::default(),
            size_z: Default::default(),
            equal_parts: Default::default(),
            size_parts: Default::default(),
            completion: Default::default(),
            base: Default::default(),
            tail: Default::default(),
            base_low: Default::default(),
            page_low: Default::default(),
            item_page: Default::default(),
            page_upper: Default::default(),
            page_high: Default::default(),
            out: Default::default(),
            all_equal: Constant::new(0xFu64.to_bits()),
            low_page: Constant::new(0xFFu64.to_bits()),
            table_number: Constant::new((table::QUEUE as u64).to_bits()),
            queues: Constant::new((1u64 << sizes.queue_bits).to_bits()),
            last_queue: Constant::new(((1u64 << sizes.queue_bits) - 1).to_bits()),
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
            done_ready,
            looking,
            look_first,
            look_second,
            ending,
            look_third,
            owner,
            reading,
            composing,
            composing_owner,
            compose,
            follows,
            left_place,
            item,
            item_valid,
            page_carry,
            place_after,
            equal,
            completed,
            completed_queue,
            completed_vector,
            completed_interrupt,
            request_entry,
            request_index,
            request_write,
            request_mine,
            request_low,
            request_some,
            restart,
            restart_queue,
            cleared,
            all_cleared,
            idle_register
        );
        clock!(self, clock, settings, places, places_readback, composed, raised);
        self.composed.reset.next = self.reset.val();
        self.raised.reset.next = self.reset.val();

        // The queue table, listened to.
        self.entry.next = self.table_request.val().data.into();
        self.request_entry.d.next = self.entry.val();
        self.request_index.d.next = bit_cast::<16, 32>(self.table_request.val().index);
        self.request_write.d.next =
            self.table_valid.val() & (self.table_request.val().write == self.flag.val());
        self.request_mine.d.next = (self.table_request.val().table == self.table_number.val());
        self.low_index.next = bit_cast::<16, 32>(self.table_request.val().index);
        self.request_some.d.next = (self.low_index.val() != self.zero16.val());
        self.request_low.d.next = (self.table_request.val().index < self.queues.val());
        self.selected.next = self.request_write.q.val()
            & self.request_mine.q.val()
            & self.request_some.q.val()
            & self.request_low.q.val();
        self.settings.write.next = self.selected.val();
        self.settings.write_address.next = self.request_index.q.val();
        self.settings.write_data.next.cq_base = self.request_entry.q.val().cq_base;
        self.settings.write_data.next.cq_size_z = self.request_entry.q.val().cq_size_z;
        self.settings.write_data.next.vector = bit_cast::<8, 16>(self.request_entry.q.val().vector);
        self.settings.write_data.next.interrupt_enable = self.request_entry.q.val().interrupt_enable;

        // A plan every other cycle, its owner, then its queue's settings, head and place.
        self.done.ready.next = self.done_ready.q.val();
        self.taking.next = self.done_ready.q.val() & self.done.valid.val();
        self.done_ready.d.next =
            self.all_cleared.q.val() & self.composed.room.val() & self.raised.room.val() & !self.taking.val();
        self.look_first.d.next = self.taking.val();
        if self.done_ready.q.val() {
            self.looking.d.next = self.done.data.val();
        }
        self.query.next = self.looking.q.val().slot;
        self.look_second.d.next = self.look_first.q.val();
        self.look_third.d.next = self.look_second.q.val();
        if self.look_second.q.val() {
            self.ending.d.next = self.looking.q.val();
        }
        self.reading.d.next = self.look_third.q.val();
        self.owner.d.next = self.query_owner.val();
        self.owner_queue.next = self.owner.q.val().queue;
        self.settings.read_address.next = bit_cast::<16, 8>(self.owner_queue.val());
        self.places.read_address.next = bit_cast::<16, 8>(self.owner_queue.val());
        self.head_query.next = self.owner_queue.val();
        self.compose.d.next = self.reading.q.val();
        self.composing.d.next = self.ending.q.val();
        self.composing_owner.d.next = self.owner.q.val();
        self.follows.d.next = self.item_valid.q.val() & (self.item.q.val().queue == self.owner_queue.val());

        // The entry; rings begin at a page, so the lowest 12 bits of its address are the place's alone.
        self.place.next = self.places.read_data.val();
        if self.follows.q.val() {
            self.place.next = self.left_place.q.val();
        }
        self.base.next = self.settings.read_data.val().cq_base;
        self.size_z.next = self.settings.read_data.val().cq_size_z;
        self.tail.next = self.place.val().tail;
        self.base_low.next = bit_cast::<9, 8>(self.base.val().get_bits::<8>(12));
        self.page_low.next = self.base_low.val() + bit_cast::<9, 8>(self.tail.val().get_bits::<8>(8));
        self.page_carry.d.next = self.page_low.val().get_bit(8);
        self.item_valid.d.next = self.compose.q.val();
        self.item.d.next.page = (self.base.val().get_bits::<52>(12) & !self.low_page.val())
            | bit_cast::<52, 8>(self.page_low.val().get_bits::<8>(0));
        self.item.d.next.place = self.tail.val().get_bits::<8>(0);
        self.item.d.next.sq_head = self.head_value.val();
        self.item.d.next.queue = self.composing_owner.q.val().queue;
        self.item.d.next.command_id = self.composing_owner.q.val().command_id;
        self.item.d.next.phase = self.place.val().phase;
        self.item.d.next.status = self.composing.q.val().status;
        self.item.d.next.vector = self.settings.read_data.val().vector;
        self.item.d.next.interrupt = self.settings.read_data.val().interrupt_enable;
        self.release_valid.next = self.compose.q.val();
        self.release_slot.next = self.composing.q.val().slot;
        self.release_owner.next = self.composing_owner.q.val();
        self.item_page.next = self.item.q.val().page;
        self.page_upper.next = self.item_page.val().get_bits::<44>(8);
        self.page_high.next = self.page_upper.val() + bit_cast::<44, 1>(self.page_carry.q.val().into());
        self.composed.push.next = self.item_valid.q.val();
        self.composed.data.next = self.item.q.val();
        self.composed.data.next.page =
            (bit_cast::<52, 44>(self.page_high.val()) << 8) | (self.item_page.val() & self.low_page.val());

        // The next place, in two cycles.
        for i in 0..4 {
            self.equal_parts[i].next = self.tail.val().get_bits::<4>(4 * i);
            self.size_parts[i].next = self.size_z.val().get_bits::<4>(4 * i);
        }
        self.equal.d.next = bit_cast::<4, 1>((self.equal_parts[0].val() == self.size_parts[0].val()).into())
            | (bit_cast::<4, 1>((self.equal_parts[1].val() == self.size_parts[1].val()).into()) << 1)
            | (bit_cast::<4, 1>((self.equal_parts[2].val() == self.size_parts[2].val()).into()) << 2)
            | (bit_cast::<4, 1>((self.equal_parts[3].val() == self.size_parts[3].val()).into()) << 3);
        self.place_after.d.next.tail = self.tail.val() + self.one16.val();
        self.place_after.d.next.phase = self.place.val().phase;
        self.place_next.next = self.place_after.q.val();
        if (self.equal.q.val() == self.all_equal.val()) {
            self.place_next.next.tail = self.zero16.val();
            self.place_next.next.phase = !self.place_after.q.val().phase;
        }
        self.left_place.d.next = self.place_next.val();

        // Written, then told and raised.
        self.out.next = self.composed.out.data.val();
        self.completion.next.result = self.zero32.val();
        self.completion.next.reserved = self.zero32.val();
        self.completion.next.sq_head = self.out.val().sq_head;
        self.completion.next.sq_id = bit_cast::<16, 8>(self.out.val().queue);
        self.completion.next.command_id = self.out.val().command_id;
        self.completion.next.phase = self.out.val().phase;
        self.completion.next.status = self.out.val().status;
        self.write.valid.next = self.composed.out.valid.val();
        self.write.data.next.address =
            (bit_cast::<64, 52>(self.out.val().page) << 12) | (bit_cast::<64, 8>(self.out.val().place) << 4);
        self.write.data.next.data = self.completion.val().into();
        self.write.data.next.quad = self.flag.val();
        self.composed.out.ready.next = self.write.ready.val();
        self.completed.d.next = self.composed.out.valid.val() & self.write.ready.val();
        self.completed_queue.d.next = self.out.val().queue;
        self.completed_vector.d.next = self.out.val().vector;
        self.completed_interrupt.d.next = (self.out.val().interrupt == self.flag.val());
        self.client_completed.next = self.completed.q.val();
        self.client_completed_queue.next = self.completed_queue.q.val();
        self.raised.push.next = self.completed.q.val() & self.completed_interrupt.q.val();
        self.raised.data.next = self.completed_vector.q.val();
        self.raise.valid.next = self.raised.out.valid.val();
        self.raise.data.next = self.raised.out.data.val();
        self.raised.out.ready.next = self.raise.ready.val();

        // One writer of places: a completion, else a restart, and the walk after reset.
        self.place_first.next.tail = self.zero16.val();
        self.place_first.next.phase = self.flag.val();
        self.places.write.next = self.item_valid.q.val() | self.restart.q.val() | !self.all_cleared.q.val();
        self.places.write_address.next = self.restart_queue.q.val();
        self.places.write_data.next = self.place_first.val();
        if !self.all_cleared.q.val() {
            self.places.write_address.next = self.cleared.q.val();
            self.cleared.d.next = self.cleared.q.val() + self.one16.val();
            self.all_cleared.d.next = (self.cleared.q.val() == self.last_queue.val());
        } else if self.item_valid.q.val() {
            self.places.write_address.next = bit_cast::<16, 8>(self.item.q.val().queue);
            self.places.write_data.next = self.place_next.val();
        } else {
            self.restart.d.next = false;
        }
        if self.selected.val() & (self.request_entry.q.val().enable == self.flag.val()) {
            self.restart.d.next = true;
            self.restart_queue.d.next = self.request_index.q.val();
        }
        self.places_readback.write.next = self.places.write.val();
        self.places_readback.write_address.next = self.places.write_address.val();
        self.places_readback.write_data.next = self.places.write_data.val();
        self.places_readback.read_address.next = bit_cast::<16, 8>(self.state_query.val());
        self.state_tail.next = self.places_readback.read_data.val().tail;
        self.state_phase.next = self.places_readback.read_data.val().phase;
        self.idle_register.d.next = self.all_cleared.q.val()
            & !self.look_first.q.val()
            & !self.look_second.q.val()
            & !self.look_third.q.val()
            & !self.reading.q.val()
            & !self.compose.q.val()
            & !self.item_valid.q.val()
            & !self.completed.q.val()
            & !self.request_write.q.val()
            & !self.restart.q.val()
            & self.composed.empty.val()
            & self.raised.empty.val();
        self.idle.next = self.idle_register.q.val() & !self.look_first.q.val() & !self.request_write.q.val();

        if self.reset.val() {
            self.done_ready.d.next = false;
            self.look_first.d.next = false;
            self.look_second.d.next = false;
            self.look_third.d.next = false;
            self.reading.d.next = false;
            self.compose.d.next = false;
            self.item_valid.d.next = false;
            self.completed.d.next = false;
            self.request_write.d.next = false;
            self.restart.d.next = false;
            self.all_cleared.d.next = false;
            self.cleared.d.next = self.zero16.val();
        }
    }
}

#[cfg(test)]
mod tests;
