//! The queue pairs: their table, their doorbells, and the fetching of their commands.
//!
//! Queue 0 is the control ring, set up from `control_sq_base` and `control_entries_z` when `enable`
//! rises; the others are entries of the queue table. Doorbells come on the register bus, `request` asks
//! for bursts of one or two entries with the queue as tag, in order of a round robin among the queues
//! that have work. `arrived`, `control_returned` and `client_returned` tell how the entry assembler got
//! them; `passed` and `returned` what the quotas of slots made of those of clients (see `SlotQuotas`, as for `shut`,
//! `woken`, `careful`, `reopened`, `restarted` and `awaken`); while `told_room` is set two more of each fit.
//! `client_completed` and `control_done` that a command has completed; `head_query` reads, a cycle
//! later, the submission head to report. `state_query` reads the completion writer's place in a queue's
//! ring, a cycle later.
//!
//! A doorbell beyond its ring or an entry whose fetch the bus refused stops its queue until the queue is
//! written again; the entry is dropped and its place in the completion ring is free again. Writing a
//! queue with `enable` clear stops fetching and leaves the pointers, so that what is outstanding
//! completes where the client looks; with `enable` set the queue begins anew.
//!
//! Tables: QUEUE (index 0 only for reading), QUEUE_STATE (reading). An access waits for the work under
//! way, 10 to 17 cycles in all, and stops everything else meanwhile. Latency: 11 cycles from the register
//! bus to `request`. Throughput: a request every 4 cycles, one queue alone too, 18 bursts in flight.
//! Reset clears every queue, one a cycle. `idle` comes a cycle late and goes with the input that ends it.

use rust_hdl::prelude::*;
use volplane_abi::table;

use super::fetch_scheduler::FetchScheduler;
use super::fetched_heads::FetchedHeads;
use super::queue_doorbells::QueueDoorbells;
use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::ram::LutRam;
use crate::prim::stream::StreamOut;
use crate::records::{QueueEntry, QueueState, ReadRequest, TableRequest};
use crate::sizes::Sizes;

logic_record! {
    /// What fetching needs of a queue's entry.
    FetchSettings: 97 {
        /// Submission ring.
        sq_base = 64,
        /// Entries of the submission ring − 1.
        sq_size_z = 16,
        /// Entries of the completion ring − 1.
        cq_size_z = 16,
        /// 1: the card fetches from the ring.
        enable = 1,
    }
}

logic_record! {
    /// The rest of it, kept for reading back.
    OtherSettings: 130 {
        /// Completion ring.
        cq_base = 64,
        /// Interrupt vector.
        vector = 16,
        /// 1: completions raise the vector.
        interrupt_enable = 1,
        /// Client.
        client = 16,
        /// PCI function.
        function = 16,
        /// Most plan slots.
        slots = 16,
        /// 1: also those in reserve.
        reserve = 1,
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
    /// What was read is there: prepares what is to be done.
    Act,
    /// It is done.
    Apply,
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum Duty {
    /// An entry failed.
    Fail,
    /// An entry goes back to its ring.
    GiveBack,
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
    /// Few more writes fit.
    pub doorbells_full: Signal<Out, bool>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub request: StreamOut<ReadRequest>,
    pub arrived: Signal<In, bool>,
    pub arrived_queue: Signal<In, Bits<8>>,
    pub arrived_failed: Signal<In, bool>,
    pub passed: Signal<In, bool>,
    pub passed_queue: Signal<In, Bits<8>>,
    pub returned: Signal<In, bool>,
    pub returned_queue: Signal<In, Bits<8>>,
    pub told_room: Signal<Out, bool>,
    pub shut: Signal<In, Bits<32>>,
    pub woken: Signal<In, Bits<32>>,
    pub careful: Signal<In, Bits<32>>,
    pub reopened: Signal<Out, Bits<32>>,
    pub restarted: Signal<Out, Bits<32>>,
    pub awaken_valid: Signal<In, bool>,
    pub awaken_queue: Signal<In, Bits<8>>,
    pub awaken_taken: Signal<Out, bool>,
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
    /// Queues of entries that go back.
    returns: Fifo<Bits<8>>,
    settings: LutRam<FetchSettings>,
    others: LutRam<OtherSettings>,
    state: DFF<State>,
    duty: DFF<Duty>,
    queue: DFF<Bits<8>>,
    /// Set in every state but `Rest`.
    hold: DFF<bool>,
    /// All work rests.
    settled: DFF<bool>,
    // What is done in `Apply`; in `Clear`, queues are configured all the time.
    configure: DFF<bool>,
    restart: DFF<bool>,
    clear: DFF<bool>,
    fail: DFF<bool>,
    give_back: DFF<bool>,
    begins: DFF<bool>,
    /// There is something to do.
    due: DFF<bool>,
    /// In `Clear`: the last queue.
    is_last: DFF<bool>,
    // Of the table's request.
    requested: DFF<bool>,
    is_inside: DFF<bool>,
    is_control: DFF<bool>,
    is_queue: DFF<bool>,
    is_state: DFF<bool>,
    is_write: DFF<bool>,
    // What is read back in `Act`.
    reads_entry: DFF<bool>,
    reads_state: DFF<bool>,
    outstanding: DFF<Bits<16>>,
    is_stopped: DFF<bool>,
    // For `idle`: nothing to do, and something came.
    rests: DFF<bool>,
    came: DFF<bool>,
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
    table_queue: Signal<Local, Bits<8>>,
    quiet: Signal<Local, bool>,
    /// What arrives is taken for good.
    counts: Signal<Local, bool>,
    entry: Signal<Local, QueueEntry>,
    written: Signal<Local, FetchSettings>,
    written_others: Signal<Local, OtherSettings>,
    current: Signal<Local, FetchSettings>,
    current_others: Signal<Local, OtherSettings>,
    read_entry: Signal<Local, QueueEntry>,
    read_state: Signal<Local, QueueState>,
    state_bits: Signal<Local, Bits<128>>,
    queue_table: Constant<Bits<16>>,
    state_table: Constant<Bits<16>>,
    queues: Constant<Bits<32>>,
    last_but_one: Constant<Bits<8>>,
    control_queue: Constant<Bits<8>>,
    one8: Constant<Bits<8>>,
    no_answer: Constant<Bits<256>>,
    no_settings: Constant<Bits<97>>,
    no_others: Constant<Bits<130>>,
    zero14: Constant<Bits<14>>,
    zero16: Constant<Bits<16>>,
    zero30: Constant<Bits<30>>,
    zero15: Constant<Bits<15>>,
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
            doorbells_full: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            request: Default::default(),
            arrived: Default::default(),
            arrived_queue: Default::default(),
            arrived_failed: Default::default(),
            passed: Default::default(),
            passed_queue: Default::default(),
            returned: Default::default(),
            returned_queue: Default::default(),
            told_room: Default::default(),
            shut: Default::default(),
            woken: Default::default(),
            careful: Default::default(),
            reopened: Default::default(),
            restarted: Default::default(),
            awaken_valid: Default::default(),
            awaken_queue: Default::default(),
            awaken_taken: Default::default(),
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
            returns: Fifo::lut(5, 8),
            settings: LutRam::new(sizes.queue_bits),
            others: LutRam::new(sizes.queue_bits),
            state: Default::default(),
            duty: Default::default(),
            queue: Default::default(),
            hold: Default::default(),
            settled: Default::default(),
            configure: Default::default(),
            restart: Default::default(),
            clear: Default::default(),
            fail: Default::default(),
            give_back: Default::default(),
            begins: Default::default(),
            due: Default::default(),
            is_last: Default::default(),
            requested: Default::default(),
            is_inside: Default::default(),
            is_control: Default::default(),
            is_queue: Default::default(),
            is_state: Default::default(),
            is_write: Default::default(),
            reads_entry: Default::default(),
            reads_state: Default::default(),
            outstanding: Default::default(),
            is_stopped: Default::default(),
            rests: Default::default(),
            came: Default::default(),
            was_enabled: Default::default(),
            opening: Default::default(),
            accessed: Default::default(),
            access: Default::default(),
            access_queue: Default::default(),
            ack: Default::default(),
            answer: Default::default(),
            fetched: Default::default(),
            matched: Default::default(),
            table_queue: Default::default(),
            quiet: Default::default(),
            counts: Default::default(),
            entry: Default::default(),
            written: Default::default(),
            written_others: Default::default(),
            current: Default::default(),
            current_others: Default::default(),
            read_entry: Default::default(),
            read_state: Default::default(),
            state_bits: Default::default(),
            queue_table: Constant::new((table::QUEUE as u64).to_bits()),
            state_table: Constant::new((table::QUEUE_STATE as u64).to_bits()),
            queues: Constant::new((1u64 << sizes.queue_bits).to_bits()),
            last_but_one: Constant::new(((1u64 << sizes.queue_bits) - 2).to_bits()),
            control_queue: Constant::new(0u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            no_answer: Constant::new(0u64.to_bits()),
            no_settings: Constant::new(0u64.to_bits()),
            no_others: Constant::new(0u64.to_bits()),
            zero14: Constant::new(0u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            zero30: Constant::new(0u64.to_bits()),
            zero15: Constant::new(0u64.to_bits()),
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
            hold,
            settled,
            configure,
            restart,
            clear,
            fail,
            give_back,
            begins,
            due,
            is_last,
            requested,
            is_inside,
            is_control,
            is_queue,
            is_state,
            is_write,
            reads_entry,
            reads_state,
            outstanding,
            is_stopped,
            rests,
            came,
            was_enabled,
            opening,
            accessed,
            access,
            access_queue,
            ack,
            answer,
            fetched
        );
        self.returns.clock.next = self.clock.val();
        self.returns.reset.next = self.reset.val();
        self.settings.clock.next = self.clock.val();
        self.others.clock.next = self.clock.val();
        self.doorbells.clock.next = self.clock.val();
        self.doorbells.reset.next = self.reset.val();
        self.scheduler.clock.next = self.clock.val();
        self.scheduler.reset.next = self.reset.val();
        self.heads.clock.next = self.clock.val();
        self.heads.reset.next = self.reset.val();

        // Requests: the table's, and the control ring's.
        self.requested.d.next = self.table_valid.val();
        self.is_inside.d.next = (self.table_request.val().index < self.queues.val());
        self.table_queue.next = bit_cast::<8, 32>(self.table_request.val().index);
        self.is_control.d.next = (self.table_queue.val() == self.control_queue.val());
        self.is_queue.d.next = (self.table_request.val().table == self.queue_table.val());
        self.is_state.d.next = (self.table_request.val().table == self.state_table.val());
        self.is_write.d.next = (self.table_request.val().write == self.flag.val());
        self.matched.next = self.requested.q.val()
            & self.is_inside.q.val()
            & ((self.is_queue.q.val() & (!self.is_write.q.val() | !self.is_control.q.val()))
                | (self.is_state.q.val() & !self.is_write.q.val()));
        if self.matched.val() {
            self.accessed.d.next = true;
        }
        // The request stays as it is until it is answered.
        if self.requested.q.val() {
            self.access_queue.d.next = self.table_queue.val();
            self.access.d.next = Duty::ReadState;
            if self.is_write.q.val() {
                self.access.d.next = Duty::Write;
            } else if self.is_queue.q.val() {
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
        self.written.next.sq_size_z = self.entry.val().sq_size_z;
        self.written.next.cq_size_z = self.entry.val().cq_size_z;
        self.written.next.enable = self.entry.val().enable;
        self.written_others.next.cq_base = self.entry.val().cq_base;
        self.written_others.next.vector = self.entry.val().vector;
        self.written_others.next.interrupt_enable = self.entry.val().interrupt_enable;
        self.written_others.next.client = self.entry.val().client;
        self.written_others.next.function = self.entry.val().function;
        self.written_others.next.slots = self.entry.val().slots;
        self.written_others.next.reserve = self.entry.val().reserve;
        if self.begins.q.val() {
            self.written.next.sq_base = self.control_sq_base.val();
            self.written.next.sq_size_z = self.control_entries_z.val();
            self.written.next.cq_size_z = self.control_entries_z.val();
            self.written.next.enable = self.flag.val();
            self.written_others.next = self.no_others.val().into();
        }
        if self.clear.q.val() {
            self.written.next = self.no_settings.val().into();
            self.written_others.next = self.no_others.val().into();
        }
        self.current.next = self.settings.read_data.val();
        self.current_others.next = self.others.read_data.val();
        self.read_entry.next = bits::<256>(0).into();
        self.read_entry.next.sq_base = self.current.val().sq_base;
        self.read_entry.next.cq_base = self.current_others.val().cq_base;
        self.read_entry.next.sq_size_z = self.current.val().sq_size_z;
        self.read_entry.next.cq_size_z = self.current.val().cq_size_z;
        self.read_entry.next.vector = self.current_others.val().vector;
        self.read_entry.next.interrupt_enable = self.current_others.val().interrupt_enable;
        self.read_entry.next.enable = self.current.val().enable;
        self.read_entry.next.reserved0 = self.zero14.val();
        self.read_entry.next.client = self.current_others.val().client;
        self.read_entry.next.function = self.current_others.val().function;
        self.read_entry.next.slots = self.current_others.val().slots;
        self.read_entry.next.reserve = self.current_others.val().reserve;
        self.read_entry.next.reserved1 = self.zero15.val();
        self.is_stopped.d.next = self.scheduler.stopped_here.val();
        self.outstanding.d.next = self.scheduler.state_data.val().asked - self.heads.look_completed.val();
        self.read_state.next = bits::<128>(0).into();
        self.read_state.next.sq_head = self.heads.look_head.val();
        self.read_state.next.sq_tail = self.doorbells.sq_tail.val();
        self.read_state.next.cq_head = self.doorbells.cq_head.val();
        self.read_state.next.cq_reserved = self.scheduler.state_data.val().cq_reserved;
        self.read_state.next.cq_tail = self.state_tail.val();
        self.read_state.next.outstanding = self.outstanding.q.val();
        self.read_state.next.phase = self.state_phase.val();
        self.read_state.next.stopped = self.no_flag.val();
        if self.is_stopped.q.val() {
            self.read_state.next.stopped = self.flag.val();
        }
        self.read_state.next.reserved = self.zero30.val();
        self.state_bits.next = self.read_state.val().into();
        self.settled.d.next =
            self.doorbells.resting.val() & self.scheduler.resting.val() & self.heads.resting.val();
        self.due.d.next = false;
        self.is_last.d.next = (self.queue.q.val() == self.last_but_one.val());
        self.configure.d.next = false;
        self.restart.d.next = false;
        self.clear.d.next = false;
        self.fail.d.next = false;
        self.give_back.d.next = false;
        self.begins.d.next = false;
        self.ack.d.next = false;
        self.reads_entry.d.next =
            (self.state.q.val() == State::Read) & (self.duty.q.val() == Duty::ReadEntry);
        self.reads_state.d.next =
            (self.state.q.val() == State::Read) & (self.duty.q.val() == Duty::ReadState);
        self.answer.d.next = self.no_answer.val();
        if self.reads_entry.q.val() {
            self.answer.d.next = self.read_entry.val().into();
        }
        if self.reads_state.q.val() {
            self.answer.d.next = bit_cast::<256, 128>(self.state_bits.val());
        }
        match self.state.q.val() {
            State::Clear => {
                self.queue.d.next = self.queue.q.val() + self.one8.val();
                if self.is_last.q.val() {
                    self.hold.d.next = false;
                    self.state.d.next = State::Rest;
                } else {
                    self.configure.d.next = true;
                    self.restart.d.next = true;
                    self.clear.d.next = true;
                }
            }
            State::Rest => {
                self.queue.d.next = self.returns.out.data.val();
                self.duty.d.next = Duty::GiveBack;
                if self.accessed.q.val() {
                    self.queue.d.next = self.access_queue.q.val();
                    self.duty.d.next = self.access.q.val();
                }
                if self.opening.q.val() {
                    self.queue.d.next = self.control_queue.val();
                    self.duty.d.next = Duty::Begin;
                }
                if self.heads.failure.val() {
                    self.queue.d.next = self.heads.failure_queue.val();
                    self.duty.d.next = Duty::Fail;
                }
                self.due.d.next = self.heads.failure.val()
                    | self.returns.out.valid.val()
                    | self.opening.q.val()
                    | self.accessed.q.val();
                if self.due.q.val() {
                    self.due.d.next = false;
                    self.hold.d.next = true;
                    self.state.d.next = State::Settle;
                }
            }
            State::Settle => {
                if self.settled.q.val() {
                    self.state.d.next = State::Read;
                }
            }
            State::Read => {
                self.state.d.next = State::Act;
            }
            State::Act => {
                self.state.d.next = State::Apply;
                match self.duty.q.val() {
                    Duty::Fail => {
                        self.fail.d.next = true;
                    }
                    Duty::GiveBack => {
                        self.give_back.d.next = true;
                    }
                    Duty::Begin => {
                        self.opening.d.next = false;
                        self.begins.d.next = true;
                        self.configure.d.next = true;
                        self.restart.d.next = true;
                    }
                    Duty::Write => {
                        self.accessed.d.next = false;
                        self.ack.d.next = true;
                        self.configure.d.next = true;
                        self.restart.d.next = (self.entry.val().enable == self.flag.val());
                    }
                    Duty::ReadEntry => {
                        self.accessed.d.next = false;
                        self.ack.d.next = true;
                    }
                    Duty::ReadState => {
                        self.accessed.d.next = false;
                        self.ack.d.next = true;
                    }
                    _ => {}
                }
            }
            State::Apply => {
                self.hold.d.next = false;
                self.state.d.next = State::Rest;
            }
            _ => {}
        }
        self.scheduler.fail.next = self.fail.q.val();
        self.scheduler.give_back.next = self.give_back.q.val();
        self.returns.out.ready.next = self.give_back.q.val();
        self.heads.failure_taken.next = self.fail.q.val();
        self.table_ack.next = self.ack.q.val();
        self.table_data.next = self.answer.q.val();

        self.state_query.next = self.queue.q.val();

        self.settings.write.next = self.configure.q.val();
        self.settings.write_address.next = bit_cast::<16, 8>(self.queue.q.val());
        self.settings.write_data.next = self.written.val();
        self.settings.read_address.next = bit_cast::<16, 8>(self.scheduler.look_queue.val());
        self.others.write.next = self.configure.q.val();
        self.others.write_address.next = bit_cast::<16, 8>(self.queue.q.val());
        self.others.write_data.next = self.written_others.val();
        self.others.read_address.next = bit_cast::<16, 8>(self.queue.q.val());
        self.doorbells.write_valid.next = self.write_valid.val();
        self.doorbells.write_address.next = self.write_address.val();
        self.doorbells.write_data.next = self.write_data.val();
        self.doorbells_full.next = self.doorbells.full.val();
        self.doorbells.look_queue.next = self.scheduler.look_queue.val();
        // Also from the enable on: a doorbell right behind it is for the control ring as it will be.
        self.doorbells.hold.next =
            self.hold.q.val() | self.opening.q.val() | (self.enable.val() & !self.was_enabled.q.val());
        self.doorbells.configure.next = self.configure.q.val();
        self.doorbells.configure_queue.next = self.queue.q.val();
        self.doorbells.configure_sizes.next.sq_size_z = self.written.val().sq_size_z;
        self.doorbells.configure_sizes.next.cq_size_z = self.written.val().cq_size_z;
        self.doorbells.configure_sizes.next.enable = self.written.val().enable;
        self.doorbells.restart.next = self.restart.q.val();
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
        self.scheduler.shut.next = self.shut.val();
        self.scheduler.woken.next = self.woken.val();
        self.scheduler.careful.next = self.careful.val();
        self.reopened.next = self.scheduler.reopened.val();
        self.restarted.next = self.scheduler.restarted.val();
        self.scheduler.awaken_valid.next = self.awaken_valid.val();
        self.scheduler.awaken_queue.next = self.awaken_queue.val();
        self.awaken_taken.next = self.scheduler.awaken_taken.val();
        self.heads.visit_queue.next = self.scheduler.look_queue.val();
        self.scheduler.taken_head.next = self.heads.visit_head.val();
        self.scheduler.hold.next = self.hold.q.val();
        self.scheduler.configure_queue.next = self.queue.q.val();
        self.scheduler.restart.next = self.restart.q.val();
        self.scheduler.clear.next = self.clear.q.val();
        self.request.valid.next = self.scheduler.request.valid.val();
        self.request.data.next = self.scheduler.request.data.val();
        self.scheduler.request.ready.next = self.request.ready.val();
        self.counts.next = self.arrived_failed.val() | (self.arrived_queue.val() == self.control_queue.val());
        self.heads.arrived.next = self.arrived.val() & self.counts.val();
        self.heads.passed.next = self.passed.val();
        self.heads.passed_queue.next = self.passed_queue.val();
        self.returns.push.next = self.returned.val();
        self.returns.data.next = self.returned_queue.val();
        self.told_room.next = self.heads.passed_room.val() & self.returns.room.val();
        self.heads.arrived_queue.next = self.arrived_queue.val();
        self.heads.arrived_failed.next = self.arrived_failed.val();
        self.heads.client_completed.next = self.client_completed.val();
        self.heads.client_completed_queue.next = self.client_completed_queue.val();
        self.heads.control_done.next = self.control_done.val();
        self.heads.head_query.next = self.head_query.val();
        self.head_value.next = self.heads.head_value.val();
        self.heads.look_queue.next = self.queue.q.val();
        self.heads.hold.next = self.hold.q.val();
        self.heads.configure.next = self.configure.q.val();
        self.heads.configure_queue.next = self.queue.q.val();
        self.heads.configure_size_z.next = self.written.val().sq_size_z;
        self.heads.restart.next = self.restart.q.val();
        self.heads.clear.next = self.clear.q.val();
        self.control_stopped.next = self.scheduler.control_stopped.val();
        self.fetched.d.next = self.passed.val();
        self.command_fetched.next = self.fetched.q.val();
        self.quiet.next = (self.state.q.val() == State::Rest)
            & !self.opening.q.val()
            & !self.requested.q.val()
            & !self.accessed.q.val()
            & !self.fetched.q.val()
            & self.returns.empty.val()
            & self.doorbells.idle.val()
            & self.scheduler.idle.val()
            & self.heads.idle.val();
        self.rests.d.next = self.quiet.val();
        self.came.d.next = self.write_valid.val()
            | self.table_valid.val()
            | self.arrived.val()
            | self.passed.val()
            | self.returned.val()
            | self.client_completed.val()
            | (self.was_enabled.q.val() != self.enable.val());
        self.idle.next = self.rests.q.val() & !self.came.q.val();

        if self.reset.val() {
            self.state.d.next = State::Clear;
            self.hold.d.next = true;
            self.configure.d.next = true;
            self.restart.d.next = true;
            self.clear.d.next = true;
            self.fail.d.next = false;
            self.give_back.d.next = false;
            self.requested.d.next = false;
            self.rests.d.next = false;
            self.queue.d.next = self.control_queue.val();
            self.was_enabled.d.next = false;
            self.opening.d.next = false;
            self.accessed.d.next = false;
            self.is_last.d.next = false;
            self.due.d.next = false;
            self.reads_entry.d.next = false;
            self.reads_state.d.next = false;
            self.ack.d.next = false;
            self.fetched.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
