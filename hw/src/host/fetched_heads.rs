//! Counts, for each queue, the entries that have been fetched and the commands that have completed.
//!
//! `arrived` brings entries in the order they were asked for; the queue's fetched head moves on by one,
//! and only this head is told to clients (`head_query`, answered in `head_value` one cycle later): an
//! entry still on its way must not be overwritten. An entry that `failed` is told in `failure` until
//! `failure_taken`; it counts as fetched. `client_completed` (at most every other cycle) and
//! `control_done` count completions, modulo 2^16.
//!
//! `look_queue` reads a queue's `look_head` and `look_completed`, one cycle later, while `hold` is set
//! and `resting` says that no entry is being counted; then also `configure` may set a queue's ring size,
//! `restart` its head to 0, and `clear` its completions to 0. Up to 64
//! arrivals wait; `room` is clear while more than 24 do. Latency: 4 cycles
//! from `arrived` to the new head. Throughput: one arrival every 2 cycles. Reset forgets arrivals not
//! yet counted; every queue is to be configured after it.

use rust_hdl::prelude::*;

use crate::prim::fifo::Fifo;
use crate::prim::ram::LutRam;
use crate::sizes::Sizes;

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    /// Waits for an arrival.
    Rest,
    /// The head and the ring's size are there.
    Count,
    /// Waits until a failure is taken.
    Fail,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct FetchedHeads {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub arrived: Signal<In, bool>,
    pub arrived_queue: Signal<In, Bits<8>>,
    pub arrived_failed: Signal<In, bool>,
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
    sizes: LutRam<Bits<16>>,
    heads: LutRam<Bits<16>>,
    heads_told: LutRam<Bits<16>>,
    completions: LutRam<Bits<16>>,
    completions_look: LutRam<Bits<16>>,
    state: DFF<State>,
    queue: DFF<Bits<8>>,
    failed: DFF<bool>,
    completing: DFF<bool>,
    completing_queue: DFF<Bits<8>>,
    /// Of queue 0.
    control_completions: DFF<Bits<16>>,
    look_control: DFF<bool>,
    arrival: Signal<Local, Bits<9>>,
    arrival_queue: Signal<Local, Bits<8>>,
    read_queue: Signal<Local, Bits<8>>,
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
            sizes: LutRam::new(sizes.queue_bits),
            heads: LutRam::new(sizes.queue_bits),
            heads_told: LutRam::new(sizes.queue_bits),
            completions: LutRam::new(sizes.queue_bits),
            completions_look: LutRam::new(sizes.queue_bits),
            state: Default::default(),
            queue: Default::default(),
            failed: Default::default(),
            completing: Default::default(),
            completing_queue: Default::default(),
            control_completions: Default::default(),
            look_control: Default::default(),
            arrival: Default::default(),
            arrival_queue: Default::default(),
            read_queue: Default::default(),
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
        }
    }
}

impl Logic for FetchedHeads {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            state,
            queue,
            failed,
            completing,
            completing_queue,
            control_completions,
            look_control
        );
        self.arrivals.clock.next = self.clock.val();
        self.arrivals.reset.next = self.reset.val();
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
        self.arrival.next = self.arrivals.out.data.val();
        self.arrival_queue.next = bit_cast::<8, 9>(self.arrival.val());
        self.room.next = self.arrivals.room.val();
        self.arrivals.out.ready.next = false;
        self.failure.next = (self.state.q.val() == State::Fail);
        self.failure_queue.next = self.queue.q.val();
        match self.state.q.val() {
            State::Rest => {
                self.queue.d.next = self.arrival_queue.val();
                self.failed.d.next = self.arrival.val().get_bit(8);
                if self.arrivals.out.valid.val() & !self.hold.val() {
                    self.arrivals.out.ready.next = true;
                    self.state.d.next = State::Count;
                }
            }
            State::Count => {
                self.state.d.next = State::Rest;
                if self.failed.q.val() {
                    self.state.d.next = State::Fail;
                }
            }
            State::Fail => {
                if self.failure_taken.val() {
                    self.state.d.next = State::Rest;
                }
            }
            _ => {}
        }

        self.head_write.next = (self.state.q.val() == State::Count);
        self.head_queue.next = self.queue.q.val();
        self.head_next.next = self.heads.read_data.val() + self.one.val();
        if (self.heads.read_data.val() == self.sizes.read_data.val()) {
            self.head_next.next = self.zero.val();
        }
        if self.configure.val() {
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
        if self.hold.val() {
            self.read_queue.next = self.look_queue.val();
        }
        self.sizes.read_address.next = bit_cast::<16, 8>(self.read_queue.val());
        self.heads.read_address.next = bit_cast::<16, 8>(self.read_queue.val());
        self.look_head.next = self.heads.read_data.val();
        self.heads_told.read_address.next = bit_cast::<16, 8>(self.head_query.val());
        self.head_value.next = self.heads_told.read_data.val();

        // Completions: read as they come, written a cycle later.
        self.completing.d.next = self.client_completed.val();
        self.completing_queue.d.next = self.client_completed_queue.val();
        self.completions.read_address.next = bit_cast::<16, 8>(self.client_completed_queue.val());
        self.completions_write.next = self.completing.q.val();
        self.completions_queue.next = self.completing_queue.q.val();
        self.completions_next.next = self.completions.read_data.val() + self.one.val();
        if self.clear.val() {
            self.completions_write.next = true;
            self.completions_queue.next = self.configure_queue.val();
            self.completions_next.next = self.zero.val();
        }
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
        self.resting.next = (self.state.q.val() != State::Count);
        self.idle.next =
            self.arrivals.empty.val() & (self.state.q.val() == State::Rest) & !self.completing.q.val();

        if self.reset.val() {
            self.state.d.next = State::Rest;
            self.completing.d.next = false;
            self.control_completions.d.next = self.zero.val();
        }
    }
}
