//! Counts, for each queue, the entries that have been fetched and the commands that have completed.
//!
//! `arrived` brings entries of the control ring, and those that failed; `passed` those of clients that no quota
//! keeps in their ring. The queue's fetched head moves on by one, and only this head is told to clients
//! (`head_query`, answered in `head_value` one cycle later): an entry still on its way, or that may go back, must not
//! be overwritten. An entry that `failed` is told in `failure` until
//! `failure_taken`; it counts as fetched. `client_completed` and `control_done` count
//! completions, one each a cycle, modulo 2^16. `visit_queue` reads a head at any time, one cycle later.
//!
//! `look_queue` reads a queue's `look_head` and `look_completed`, one cycle later, while `hold` is set and `resting`
//! says that no entry is being counted; then also `configure` may set a queue's ring size, `restart` its head to 0,
//! and `clear` its completions to 0. Up to 64 arrivals wait; `room` is clear while more than 24 do, `passed_room`
//! while more than 24 that passed do. Latency: 6 cycles from `arrived` to the new head. Throughput: one arrival every
//! 2 cycles. Reset forgets arrivals not yet counted; every queue is to be configured after it.

use rust_hdl::prelude::*;

use crate::prim::fifo::Fifo;
use crate::prim::ram::LutRam;
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct FetchedHeads {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub arrived: Signal<In, bool>,
    pub arrived_queue: Signal<In, Bits<8>>,
    pub arrived_failed: Signal<In, bool>,
    pub passed: Signal<In, bool>,
    pub passed_queue: Signal<In, Bits<8>>,
    pub passed_room: Signal<Out, bool>,
    pub visit_queue: Signal<In, Bits<8>>,
    pub visit_head: Signal<Out, Bits<16>>,
    /// What is on its way still fits; no more is to be asked for otherwise.
    pub room: Signal<Out, bool>,
    pub failure: Signal<Out, bool>,
    pub failure_queue: Signal<Out, Bits<8>>,
    pub failure_taken: Signal<In, bool>,
    pub client_completed: Signal<In, bool>,
    pub client_completed_queue: Signal<In, Bits<8>>,
    pub control_done: Signal<In, bool>,
    pub head_query: Signal<In, Bits<8>>,
    pub head_value: Signal<Out, Bits<16>>,
    pub look_queue: Signal<In, Bits<8>>,
    pub look_head: Signal<Out, Bits<16>>,
    pub look_completed: Signal<Out, Bits<16>>,
    pub hold: Signal<In, bool>,
    pub resting: Signal<Out, bool>,
    pub configure: Signal<In, bool>,
    pub configure_queue: Signal<In, Bits<8>>,
    pub configure_size_z: Signal<In, Bits<16>>,
    pub restart: Signal<In, bool>,
    pub clear: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    arrivals: Fifo<Bits<9>>,
    passes: Fifo<Bits<8>>,
    sizes: LutRam<Bits<16>>,
    heads: LutRam<Bits<16>>,
    heads_told: LutRam<Bits<16>>,
    heads_visited: LutRam<Bits<16>>,
    completions: LutRam<Bits<16>>,
    completions_look: LutRam<Bits<16>>,
    held: DFF<bool>,
    /// Waits for an arrival, unless held.
    free: DFF<bool>,
    /// Takes one that is there.
    takes: DFF<bool>,
    /// The head and the ring's size come out of the tables.
    looking: DFF<bool>,
    /// Waits until a failure is taken.
    failing: DFF<bool>,
    /// Of the arrival taken last.
    queue: DFF<Bits<8>>,
    failed: DFF<bool>,
    /// It is of the same queue as the one before, whose head is not in the table yet.
    same: DFF<bool>,
    recent: DFF<bool>,
    // The head is there, and is written.
    counting: DFF<bool>,
    head: DFF<Bits<16>>,
    size_z: DFF<Bits<16>>,
    writing: DFF<bool>,
    writing_queue: DFF<Bits<8>>,
    head_after: DFF<Bits<16>>,
    completing: DFF<bool>,
    completing_queue: DFF<Bits<8>>,
    /// The completion is of the same queue as the one before, whose new count this is.
    again: DFF<bool>,
    counted: DFF<Bits<16>>,
    completions_now: Signal<Local, Bits<16>>,
    /// Of queue 0.
    control_completions: DFF<Bits<16>>,
    look_control: DFF<bool>,
    free_next: Signal<Local, bool>,
    taken: Signal<Local, bool>,
    arrival_short: Signal<Local, Bits<5>>,
    queue_short: Signal<Local, Bits<5>>,
    arrival: Signal<Local, Bits<9>>,
    arrival_queue: Signal<Local, Bits<8>>,
    read_queue: Signal<Local, Bits<8>>,
    head_plus: Signal<Local, Bits<16>>,
    wraps: Signal<Local, Bits<16>>,
    head_write: Signal<Local, bool>,
    head_queue: Signal<Local, Bits<8>>,
    head_next: Signal<Local, Bits<16>>,
    completions_write: Signal<Local, bool>,
    completions_queue: Signal<Local, Bits<8>>,
    completions_next: Signal<Local, Bits<16>>,
    failed_bit: Constant<Bits<9>>,
    control_queue: Constant<Bits<8>>,
    one: Constant<Bits<16>>,
    zero: Constant<Bits<16>>,
    ones: Constant<Bits<16>>,
}

impl FetchedHeads {
    /// For 2^`queue_bits` queues.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            arrived: Default::default(),
            arrived_queue: Default::default(),
            arrived_failed: Default::default(),
            passed: Default::default(),
            passed_queue: Default::default(),
            passed_room: Default::default(),
            visit_queue: Default::default(),
            visit_head: Default::default(),
            room: Default::default(),
            failure: Default::default(),
            failure_queue: Default::default(),
            failure_taken: Default::default(),
            client_completed: Default::default(),
            client_completed_queue: Default::default(),
            control_done: Default::default(),
            head_query: Default::default(),
            head_value: Default::default(),
            look_queue: Default::default(),
            look_head: Default::default(),
            look_completed: Default::default(),
            hold: Default::default(),
            resting: Default::default(),
            configure: Default::default(),
            configure_queue: Default::default(),
            configure_size_z: Default::default(),
            restart: Default::default(),
            clear: Default::default(),
            idle: Default::default(),
            // Asked for only with room, at most 36 on their way.
            arrivals: Fifo::lut(6, 40),
            passes: Fifo::lut(5, 8),
            sizes: LutRam::new(sizes.queue_bits),
            heads: LutRam::new(sizes.queue_bits),
            heads_told: LutRam::new(sizes.queue_bits),
            heads_visited: LutRam::new(sizes.queue_bits),
            completions: LutRam::new(sizes.queue_bits),
            completions_look: LutRam::new(sizes.queue_bits),
            held: Default::default(),
            free: Default::default(),
            takes: Default::default(),
            looking: Default::default(),
            failing: Default::default(),
            queue: Default::default(),
            failed: Default::default(),
            same: Default::default(),
            recent: Default::default(),
            counting: Default::default(),
            head: Default::default(),
            size_z: Default::default(),
            writing: Default::default(),
            writing_queue: Default::default(),
            head_after: Default::default(),
            completing: Default::default(),
            completing_queue: Default::default(),
            again: Default::default(),
            counted: Default::default(),
            completions_now: Default::default(),
            control_completions: Default::default(),
            look_control: Default::default(),
            free_next: Default::default(),
            taken: Default::default(),
            arrival_short: Default::default(),
            queue_short: Default::default(),
            arrival: Default::default(),
            arrival_queue: Default::default(),
            read_queue: Default::default(),
            head_plus: Default::default(),
            wraps: Default::default(),
            head_write: Default::default(),
            head_queue: Default::default(),
            head_next: Default::default(),
            completions_write: Default::default(),
            completions_queue: Default::default(),
            completions_next: Default::default(),
            failed_bit: Constant::new(0x100u64.to_bits()),
            control_queue: Constant::new(0u64.to_bits()),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            ones: Constant::new(0xFFFFu64.to_bits()),
        }
    }
}

impl Logic for FetchedHeads {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            held,
            free,
            takes,
            looking,
            failing,
            queue,
            failed,
            same,
            recent,
            counting,
            head,
            size_z,
            writing,
            writing_queue,
            head_after,
            completing,
            completing_queue,
            again,
            counted,
            control_completions,
            look_control
        );
        self.arrivals.clock.next = self.clock.val();
        self.arrivals.reset.next = self.reset.val();
        self.passes.clock.next = self.clock.val();
        self.passes.reset.next = self.reset.val();
        self.heads_visited.clock.next = self.clock.val();
        self.sizes.clock.next = self.clock.val();
        self.heads.clock.next = self.clock.val();
        self.heads_told.clock.next = self.clock.val();
        self.completions.clock.next = self.clock.val();
        self.completions_look.clock.next = self.clock.val();

        self.arrivals.push.next = self.arrived.val();
        self.arrivals.data.next = bit_cast::<9, 8>(self.arrived_queue.val());
        if self.arrived_failed.val() {
            self.arrivals.data.next = (bit_cast::<9, 8>(self.arrived_queue.val()) | self.failed_bit.val());
        }
        self.passes.push.next = self.passed.val();
        self.passes.data.next = self.passed_queue.val();
        self.passed_room.next = self.passes.room.val();
        self.arrival.next = bit_cast::<9, 8>(self.passes.out.data.val());
        if self.arrivals.out.valid.val() {
            self.arrival.next = self.arrivals.out.data.val();
        }
        self.arrival_queue.next = bit_cast::<8, 9>(self.arrival.val());
        self.room.next = self.arrivals.room.val();
        self.failure.next = self.failing.q.val();
        self.failure_queue.next = self.queue.q.val();
        self.held.d.next = self.hold.val();
        self.arrivals.out.ready.next = self.takes.q.val();
        self.passes.out.ready.next = self.takes.q.val() & !self.arrivals.out.valid.val();
        self.taken.next = self.takes.q.val() & (self.arrivals.out.valid.val() | self.passes.out.valid.val());
        self.arrival_short.next = bit_cast::<5, 9>(self.arrival.val());
        self.queue_short.next = bit_cast::<5, 8>(self.queue.q.val());
        self.looking.d.next = self.taken.val();
        if self.taken.val() {
            self.queue.d.next = self.arrival_queue.val();
            self.failed.d.next = self.arrival.val().get_bit(8);
            self.same.d.next = self.recent.q.val() & (self.arrival_short.val() == self.queue_short.val());
            self.recent.d.next = true;
        }
        self.failing.d.next =
            (self.looking.q.val() & self.failed.q.val()) | (self.failing.q.val() & !self.failure_taken.val());
        self.free_next.next = (self.free.q.val() & !self.taken.val())
            | (self.looking.q.val() & !self.failed.q.val())
            | (self.failing.q.val() & self.failure_taken.val());
        self.free.d.next = self.free_next.val();
        self.takes.d.next = self.free_next.val() & !self.hold.val();

        // Looked up, counted, written: a cycle each. The next arrival's look comes before the write.
        self.counting.d.next = self.looking.q.val();
        self.head.d.next = self.heads.read_data.val();
        if self.same.q.val() {
            self.head.d.next = self.head_after.q.val();
        }
        self.size_z.d.next = self.sizes.read_data.val();
        // A mask, since a reset of the register would come later than its data.
        self.wraps.next = self.ones.val();
        if (self.head.q.val() == self.size_z.q.val()) {
            self.wraps.next = self.zero.val();
        }
        self.head_plus.next = self.head.q.val() + self.one.val();
        self.writing.d.next = self.counting.q.val();
        self.writing_queue.d.next = self.queue.q.val();
        if self.counting.q.val() {
            self.head_after.d.next = self.head_plus.val() & self.wraps.val();
        }
        self.head_write.next = self.writing.q.val();
        self.head_queue.next = self.writing_queue.q.val();
        self.head_next.next = self.head_after.q.val();
        if self.configure.val() {
            self.recent.d.next = false;
            self.head_write.next = self.restart.val();
            self.head_queue.next = self.configure_queue.val();
            self.head_next.next = self.zero.val();
        }
        self.sizes.write.next = self.configure.val();
        self.sizes.write_address.next = bit_cast::<16, 8>(self.configure_queue.val());
        self.sizes.write_data.next = self.configure_size_z.val();
        self.heads.write.next = self.head_write.val();
        self.heads.write_address.next = bit_cast::<16, 8>(self.head_queue.val());
        self.heads.write_data.next = self.head_next.val();
        self.heads_told.write.next = self.head_write.val();
        self.heads_told.write_address.next = bit_cast::<16, 8>(self.head_queue.val());
        self.heads_told.write_data.next = self.head_next.val();
        self.read_queue.next = self.arrival_queue.val();
        if self.held.q.val() {
            self.read_queue.next = self.look_queue.val();
        }
        self.sizes.read_address.next = bit_cast::<16, 8>(self.read_queue.val());
        self.heads.read_address.next = bit_cast::<16, 8>(self.read_queue.val());
        self.look_head.next = self.heads.read_data.val();
        self.heads_visited.write.next = self.head_write.val();
        self.heads_visited.write_address.next = bit_cast::<16, 8>(self.head_queue.val());
        self.heads_visited.write_data.next = self.head_next.val();
        self.heads_visited.read_address.next = bit_cast::<16, 8>(self.visit_queue.val());
        self.visit_head.next = self.heads_visited.read_data.val();
        self.heads_told.read_address.next = bit_cast::<16, 8>(self.head_query.val());
        self.head_value.next = self.heads_told.read_data.val();

        // Completions: read as they come, written a cycle later; what was written in the last cycle is not
        // read yet.
        self.completing.d.next = self.client_completed.val();
        self.completing_queue.d.next = self.client_completed_queue.val();
        self.completions.read_address.next = bit_cast::<16, 8>(self.client_completed_queue.val());
        self.completions_write.next = self.completing.q.val();
        self.completions_queue.next = self.completing_queue.q.val();
        self.again.d.next =
            self.completing.q.val() & (self.completing_queue.q.val() == self.client_completed_queue.val());
        self.completions_now.next = self.completions.read_data.val();
        if self.again.q.val() {
            self.completions_now.next = self.counted.q.val();
        }
        self.completions_next.next = self.completions_now.val() + self.one.val();
        if self.clear.val() {
            self.completions_write.next = true;
            self.completions_queue.next = self.configure_queue.val();
            self.completions_next.next = self.zero.val();
        }
        self.counted.d.next = self.completions_next.val();
        self.completions.write.next = self.completions_write.val();
        self.completions.write_address.next = bit_cast::<16, 8>(self.completions_queue.val());
        self.completions.write_data.next = self.completions_next.val();
        self.completions_look.write.next = self.completions_write.val();
        self.completions_look.write_address.next = bit_cast::<16, 8>(self.completions_queue.val());
        self.completions_look.write_data.next = self.completions_next.val();
        self.completions_look.read_address.next = bit_cast::<16, 8>(self.look_queue.val());
        if self.control_done.val() {
            self.control_completions.d.next = self.control_completions.q.val() + self.one.val();
        }
        self.look_control.d.next = (self.look_queue.val() == self.control_queue.val());
        self.look_completed.next = self.completions_look.read_data.val();
        if self.look_control.q.val() {
            self.look_completed.next = self.control_completions.q.val();
        }
        self.resting.next =
            self.held.q.val() & !self.looking.q.val() & !self.counting.q.val() & !self.writing.q.val();
        self.idle.next = self.arrivals.empty.val()
            & self.passes.empty.val()
            & self.free.q.val()
            & !self.counting.q.val()
            & !self.writing.q.val()
            & !self.completing.q.val();

        if self.reset.val() {
            self.free.d.next = true;
            self.takes.d.next = false;
            self.looking.d.next = false;
            self.failing.d.next = false;
            self.recent.d.next = false;
            self.counting.d.next = false;
            self.writing.d.next = false;
            self.completing.d.next = false;
            self.control_completions.d.next = self.zero.val();
        }
    }
}
