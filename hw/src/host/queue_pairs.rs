//! The queue pairs: their table, their doorbells, and the fetching of their commands.
//!
//! Queue 0 is the control ring, set up from `control_sq_base` and `control_entries_z` when `enable`
//! rises; the others are entries of the queue table. Doorbells come on the register bus, `request` asks
//! for bursts of one or two entries with the queue as tag, in order of a round robin among the queues
//! that have work. `arrived`, `control_returned` and `client_returned` tell how the entry assembler got
//! them; `client_completed` and `control_done` that a command has completed; `head_query` reads, a cycle
//! later, the submission head to report. `state_query` reads the completion writer's place in a queue's
//! ring, a cycle later.
//!
//! A doorbell beyond its ring or an entry whose fetch the bus refused stops its queue until the queue is
//! written again; the entry is dropped and its place in the completion ring is free again. Writing a
//! queue with `enable` clear stops fetching and leaves the pointers, so that what is outstanding
//! completes where the client looks; with `enable` set the queue begins anew.
//!
//! Tables: QUEUE (index 0 only for reading), QUEUE_STATE (reading). An access waits for the work under
//! way, 5 to 12 cycles in all, and stops everything else meanwhile. Latency: 10 cycles from the register
//! bus to `request`. Throughput: a request every 4 cycles, one queue alone too, 18 bursts in flight.
//! Reset clears every queue, one a cycle.

use rust_hdl::prelude::*;
use volplane_abi::table;

use super::fetch_scheduler::FetchScheduler;
use super::fetched_heads::FetchedHeads;
use super::queue_doorbells::QueueDoorbells;
use crate::logic_record;
use crate::prim::ram::LutRam;
use crate::prim::stream::StreamOut;
use crate::records::{QueueEntry, QueueState, ReadRequest, TableRequest};
use crate::sizes::Sizes;

logic_record! {
    /// A queue's entry without its reserved bits.
    QueueSettings: 210 {
        /// Submission ring.
        sq_base = 64,
        /// Completion ring.
        cq_base = 64,
        /// Entries of the submission ring − 1.
        sq_size_z = 16,
        /// Entries of the completion ring − 1.
        cq_size_z = 16,
        /// Interrupt vector.
        vector = 16,
        /// 1: completions raise the vector.
        interrupt_enable = 1,
        /// 1: the card fetches from the ring.
        enable = 1,
        /// Client.
        client = 16,
        /// PCI function.
        function = 16,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    /// Clears a queue a cycle, after reset.
    Clear,
    /// Nothing to do.
    Rest,
    /// Waits for the work under way.
    Settle,
    /// The tables are read.
    Read,
    /// What was read is there: does it.
    Act,
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum Duty {
    /// An entry failed.
    Fail,
    /// The control ring begins.
    Begin,
    /// An entry of the queue table is written.
    Write,
    /// It is read.
    ReadEntry,
    /// A queue's state is read.
    ReadState,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct QueuePairs {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub enable: Signal<In, bool>,
    pub control_sq_base: Signal<In, Bits<64>>,
    pub control_entries_z: Signal<In, Bits<16>>,
    pub write_valid: Signal<In, bool>,
    pub write_address: Signal<In, Bits<18>>,
    pub write_data: Signal<In, Bits<32>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub request: StreamOut<ReadRequest>,
    pub arrived: Signal<In, bool>,
    pub arrived_queue: Signal<In, Bits<8>>,
    pub arrived_failed: Signal<In, bool>,
    pub control_returned: Signal<In, bool>,
    pub client_returned: Signal<In, bool>,
    pub client_completed: Signal<In, bool>,
    pub client_completed_queue: Signal<In, Bits<8>>,
    pub control_done: Signal<In, bool>,
    pub head_query: Signal<In, Bits<8>>,
    pub head_value: Signal<Out, Bits<16>>,
    pub state_query: Signal<Out, Bits<8>>,
    pub state_tail: Signal<In, Bits<16>>,
    pub state_phase: Signal<In, Bits<1>>,
    pub control_stopped: Signal<Out, bool>,
    /// Pulse for each client command fetched.
    pub command_fetched: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,

    doorbells: QueueDoorbells,
    scheduler: FetchScheduler,
    heads: FetchedHeads,
    settings: LutRam<QueueSettings>,
    state: DFF<State>,
    duty: DFF<Duty>,
    queue: DFF<Bits<8>>,
    was_enabled: DFF<bool>,
    /// The control ring is to begin.
    opening: DFF<bool>,
    /// The table request is to be served.
    accessed: DFF<bool>,
    access: DFF<Duty>,
    access_queue: DFF<Bits<8>>,
    ack: DFF<bool>,
    answer: DFF<Bits<256>>,
    fetched: DFF<bool>,

    matched: Signal<Local, bool>,
    is_queue: Signal<Local, bool>,
    is_state: Signal<Local, bool>,
    is_write: Signal<Local, bool>,
    hold: Signal<Local, bool>,
    resting: Signal<Local, bool>,
    configure: Signal<Local, bool>,
    restart: Signal<Local, bool>,
    clear: Signal<Local, bool>,
    entry: Signal<Local, QueueEntry>,
    written: Signal<Local, QueueSettings>,
    current: Signal<Local, QueueSettings>,
    read_entry: Signal<Local, QueueEntry>,
    read_state: Signal<Local, QueueState>,
    state_bits: Signal<Local, Bits<128>>,
    stopped: Signal<Local, Bits<32>>,
    queue_table: Constant<Bits<16>>,
    state_table: Constant<Bits<16>>,
    queues: Constant<Bits<32>>,
    last_queue: Constant<Bits<8>>,
    control_index: Constant<Bits<32>>,
    control_queue: Constant<Bits<8>>,
    one8: Constant<Bits<8>>,
    no_answer: Constant<Bits<256>>,
    no_settings: Constant<Bits<210>>,
    no_base: Constant<Bits<64>>,
    zero14: Constant<Bits<14>>,
    zero16: Constant<Bits<16>>,
    zero30: Constant<Bits<30>>,
    zero32: Constant<Bits<32>>,
    flag: Constant<Bits<1>>,
    no_flag: Constant<Bits<1>>,
}

impl QueuePairs {
    /// 2^`queue_bits` queue pairs.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((1..=5).contains(&sizes.queue_bits), "2^{} queues", sizes.queue_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            enable: Default::default(),
            control_sq_base: Default::default(),
            control_entries_z: Default::default(),
            write_valid: Default::default(),
            write_address: Default::default(),
            write_data: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            request: Default::default(),
            arrived: Default::default(),
            arrived_queue: Default::default(),
            arrived_failed: Default::default(),
            control_returned: Default::default(),
            client_returned: Default::default(),
            client_completed: Default::default(),
            client_completed_queue: Default::default(),
            control_done: Default::default(),
            head_query: Default::default(),
            head_value: Default::default(),
            state_query: Default::default(),
            state_tail: Default::default(),
            state_phase: Default::default(),
            control_stopped: Default::default(),
            command_fetched: Default::default(),
            idle: Default::default(),
            doorbells: QueueDoorbells::new(sizes),
            scheduler: FetchScheduler::new(sizes),
            heads: FetchedHeads::new(sizes),
            settings: LutRam::new(sizes.queue_bits),
            state: Default::default(),
            duty: Default::default(),
            queue: Default::default(),
            was_enabled: Default::default(),
            opening: Default::default(),
            accessed: Default::default(),
            access: Default::default(),
            access_queue: Default::default(),
            ack: Default::default(),
            answer: Default::default(),
            fetched: Default::default(),
            matched: Default::default(),
            is_queue: Default::default(),
            is_state: Default::default(),
            is_write: Default::default(),
            hold: Default::default(),
            resting: Default::default(),
            configure: Default::default(),
            restart: Default::default(),
            clear: Default::default(),
            entry: Default::default(),
            written: Default::default(),
            current: Default::default(),
            read_entry: Default::default(),
            read_state: Default::default(),
            state_bits: Default::default(),
            stopped: Default::default(),
            queue_table: Constant::new((table::QUEUE as u64).to_bits()),
            state_table: Constant::new((table::QUEUE_STATE as u64).to_bits()),
            queues: Constant::new((1u64 << sizes.queue_bits).to_bits()),
            last_queue: Constant::new(((1u64 << sizes.queue_bits) - 1).to_bits()),
            control_index: Constant::new(0u64.to_bits()),
            control_queue: Constant::new(0u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            no_answer: Constant::new(0u64.to_bits()),
            no_settings: Constant::new(0u64.to_bits()),
            no_base: Constant::new(0u64.to_bits()),
            zero14: Constant::new(0u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            zero30: Constant::new(0u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            no_flag: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for QueuePairs {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            state,
            duty,
            queue,
            was_enabled,
            opening,
            accessed,
            access,
            access_queue,
            ack,
            answer,
            fetched
        );
        self.settings.clock.next = self.clock.val();
        self.doorbells.clock.next = self.clock.val();
        self.doorbells.reset.next = self.reset.val();
        self.scheduler.clock.next = self.clock.val();
        self.scheduler.reset.next = self.reset.val();
        self.heads.clock.next = self.clock.val();
        self.heads.reset.next = self.reset.val();

        // Requests: the table's, and the control ring's.
        self.is_queue.next = (self.table_request.val().table == self.queue_table.val());
        self.is_state.next = (self.table_request.val().table == self.state_table.val());
        self.is_write.next = (self.table_request.val().write == self.flag.val());
        self.matched.next = self.table_valid.val()
            & (self.table_request.val().index < self.queues.val())
            & ((self.is_queue.val()
                & (!self.is_write.val() | (self.table_request.val().index != self.control_index.val())))
                | (self.is_state.val() & !self.is_write.val()));
        if self.matched.val() {
            self.accessed.d.next = true;
            self.access_queue.d.next = bit_cast::<8, 32>(self.table_request.val().index);
            self.access.d.next = Duty::ReadState;
            if self.is_write.val() {
                self.access.d.next = Duty::Write;
            } else if self.is_queue.val() {
                self.access.d.next = Duty::ReadEntry;
            }
        }
        self.was_enabled.d.next = self.enable.val();
        if self.enable.val() & !self.was_enabled.q.val() {
            self.opening.d.next = true;
        }

        // One task at a time, everything else at rest.
        self.entry.next = self.table_request.val().data.into();
        self.written.next.sq_base = self.entry.val().sq_base;
        self.written.next.cq_base = self.entry.val().cq_base;
        self.written.next.sq_size_z = self.entry.val().sq_size_z;
        self.written.next.cq_size_z = self.entry.val().cq_size_z;
        self.written.next.vector = self.entry.val().vector;
        self.written.next.interrupt_enable = self.entry.val().interrupt_enable;
        self.written.next.enable = self.entry.val().enable;
        self.written.next.client = self.entry.val().client;
        self.written.next.function = self.entry.val().function;
        self.current.next = self.settings.read_data.val();
        self.read_entry.next = bits::<256>(0).into();
        self.read_entry.next.sq_base = self.current.val().sq_base;
        self.read_entry.next.cq_base = self.current.val().cq_base;
        self.read_entry.next.sq_size_z = self.current.val().sq_size_z;
        self.read_entry.next.cq_size_z = self.current.val().cq_size_z;
        self.read_entry.next.vector = self.current.val().vector;
        self.read_entry.next.interrupt_enable = self.current.val().interrupt_enable;
        self.read_entry.next.enable = self.current.val().enable;
        self.read_entry.next.reserved0 = self.zero14.val();
        self.read_entry.next.client = self.current.val().client;
        self.read_entry.next.function = self.current.val().function;
        self.read_entry.next.reserved1 = self.zero32.val();
        self.stopped.next = self.scheduler.stopped.val();
        self.read_state.next = bits::<128>(0).into();
        self.read_state.next.sq_head = self.heads.look_head.val();
        self.read_state.next.sq_tail = self.doorbells.sq_tail.val();
        self.read_state.next.cq_head = self.doorbells.cq_head.val();
        self.read_state.next.cq_reserved = self.scheduler.state_data.val().cq_reserved;
        self.read_state.next.cq_tail = self.state_tail.val();
        self.read_state.next.outstanding =
            self.scheduler.state_data.val().asked - self.heads.look_completed.val();
        self.read_state.next.phase = self.state_phase.val();
        self.read_state.next.stopped = self.no_flag.val();
        if self.stopped.val().get_bit(self.queue.q.val().index()) {
            self.read_state.next.stopped = self.flag.val();
        }
        self.read_state.next.reserved = self.zero30.val();
        self.state_bits.next = self.read_state.val().into();
        self.hold.next = (self.state.q.val() != State::Rest);
        self.resting.next =
            self.doorbells.resting.val() & self.scheduler.resting.val() & self.heads.resting.val();
        self.configure.next = false;
        self.restart.next = false;
        self.clear.next = false;
        self.scheduler.fail.next = false;
        self.heads.failure_taken.next = false;
        self.ack.d.next = false;
        self.answer.d.next = self.no_answer.val();
        match self.state.q.val() {
            State::Clear => {
                self.configure.next = true;
                self.restart.next = true;
                self.clear.next = true;
                self.written.next = self.no_settings.val().into();
                self.queue.d.next = self.queue.q.val() + self.one8.val();
                if (self.queue.q.val() == self.last_queue.val()) {
                    self.state.d.next = State::Rest;
                }
            }
            State::Rest => {
                self.queue.d.next = self.access_queue.q.val();
                self.duty.d.next = self.access.q.val();
                if self.opening.q.val() {
                    self.queue.d.next = self.control_queue.val();
                    self.duty.d.next = Duty::Begin;
                }
                if self.heads.failure.val() {
                    self.queue.d.next = self.heads.failure_queue.val();
                    self.duty.d.next = Duty::Fail;
                }
                if self.heads.failure.val() | self.opening.q.val() | self.accessed.q.val() {
                    self.state.d.next = State::Settle;
                }
            }
            State::Settle => {
                if self.resting.val() {
                    self.state.d.next = State::Read;
                }
            }
            State::Read => {
                self.state.d.next = State::Act;
            }
            State::Act => {
                self.state.d.next = State::Rest;
                match self.duty.q.val() {
                    Duty::Fail => {
                        self.scheduler.fail.next = true;
                        self.heads.failure_taken.next = true;
                    }
                    Duty::Begin => {
                        self.opening.d.next = false;
                        self.configure.next = true;
                        self.restart.next = true;
                        self.written.next = self.no_settings.val().into();
                        self.written.next.sq_base = self.control_sq_base.val();
                        self.written.next.sq_size_z = self.control_entries_z.val();
                        self.written.next.cq_size_z = self.control_entries_z.val();
                        self.written.next.enable = self.flag.val();
                    }
                    Duty::Write => {
                        self.accessed.d.next = false;
                        self.ack.d.next = true;
                        self.configure.next = true;
                        self.restart.next = (self.entry.val().enable == self.flag.val());
                    }
                    Duty::ReadEntry => {
                        self.accessed.d.next = false;
                        self.ack.d.next = true;
                        self.answer.d.next = self.read_entry.val().into();
                    }
                    Duty::ReadState => {
                        self.accessed.d.next = false;
                        self.ack.d.next = true;
                        self.answer.d.next = bit_cast::<256, 128>(self.state_bits.val());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        self.table_ack.next = self.ack.q.val();
        self.table_data.next = self.answer.q.val();

        self.state_query.next = self.queue.q.val();

        self.settings.write.next = self.configure.val();
        self.settings.write_address.next = bit_cast::<16, 8>(self.queue.q.val());
        self.settings.write_data.next = self.written.val();
        self.settings.read_address.next = bit_cast::<16, 8>(self.scheduler.look_queue.val());
        self.doorbells.write_valid.next = self.write_valid.val();
        self.doorbells.write_address.next = self.write_address.val();
        self.doorbells.write_data.next = self.write_data.val();
        self.doorbells.look_queue.next = self.scheduler.look_queue.val();
        self.doorbells.hold.next = self.hold.val();
        self.doorbells.configure.next = self.configure.val();
        self.doorbells.configure_queue.next = self.queue.q.val();
        self.doorbells.configure_sizes.next.sq_size_z = self.written.val().sq_size_z;
        self.doorbells.configure_sizes.next.cq_size_z = self.written.val().cq_size_z;
        self.doorbells.configure_sizes.next.enable = self.written.val().enable;
        self.doorbells.restart.next = self.restart.val();
        self.scheduler.enable.next = self.enable.val() & self.heads.room.val();
        self.scheduler.rang.next = self.doorbells.rang.val();
        self.scheduler.bad.next = self.doorbells.bad.val();
        self.scheduler.rang_queue.next = self.doorbells.rang_queue.val();
        self.scheduler.rang_is_head.next = self.doorbells.rang_is_head.val();
        self.scheduler.control_returned.next = self.control_returned.val();
        self.scheduler.client_returned.next = self.client_returned.val();
        self.scheduler.sq_base.next = self.current.val().sq_base;
        self.scheduler.sq_size_z.next = self.current.val().sq_size_z;
        self.scheduler.cq_size_z.next = self.current.val().cq_size_z;
        self.scheduler.queue_enable.next = (self.current.val().enable == self.flag.val());
        self.scheduler.sq_tail.next = self.doorbells.sq_tail.val();
        self.scheduler.cq_head.next = self.doorbells.cq_head.val();
        self.scheduler.hold.next = self.hold.val();
        self.scheduler.configure.next = self.configure.val();
        self.scheduler.configure_queue.next = self.queue.q.val();
        self.scheduler.restart.next = self.restart.val();
        self.scheduler.clear.next = self.clear.val();
        self.request.valid.next = self.scheduler.request.valid.val();
        self.request.data.next = self.scheduler.request.data.val();
        self.scheduler.request.ready.next = self.request.ready.val();
        self.heads.arrived.next = self.arrived.val();
        self.heads.arrived_queue.next = self.arrived_queue.val();
        self.heads.arrived_failed.next = self.arrived_failed.val();
        self.heads.client_completed.next = self.client_completed.val();
        self.heads.client_completed_queue.next = self.client_completed_queue.val();
        self.heads.control_done.next = self.control_done.val();
        self.heads.head_query.next = self.head_query.val();
        self.head_value.next = self.heads.head_value.val();
        self.heads.look_queue.next = self.queue.q.val();
        self.heads.hold.next = self.hold.val();
        self.heads.configure.next = self.configure.val();
        self.heads.configure_queue.next = self.queue.q.val();
        self.heads.configure_size_z.next = self.written.val().sq_size_z;
        self.heads.restart.next = self.restart.val();
        self.heads.clear.next = self.clear.val();
        self.control_stopped.next = self.stopped.val().get_bit(0);
        self.fetched.d.next = self.arrived.val()
            & !self.arrived_failed.val()
            & (self.arrived_queue.val() != self.control_queue.val());
        self.command_fetched.next = self.fetched.q.val();
        self.idle.next = (self.state.q.val() == State::Rest)
            & !self.opening.q.val()
            & !self.accessed.q.val()
            & !self.ack.q.val()
            & (self.was_enabled.q.val() == self.enable.val())
            & !self.fetched.q.val()
            & self.doorbells.idle.val()
            & self.scheduler.idle.val()
            & self.heads.idle.val();

        if self.reset.val() {
            self.state.d.next = State::Clear;
            self.queue.d.next = self.control_queue.val();
            self.was_enabled.d.next = false;
            self.opening.d.next = false;
            self.accessed.d.next = false;
            self.ack.d.next = false;
            self.answer.d.next = self.no_answer.val();
            self.fetched.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
