//! The list of queues that may have entries to fetch, each once.
//!
//! The first one is offered in `queue` with `valid`; `pick` takes it for a visit. `relist` puts a queue
//! back at the end. A submission tail doorbell (`rang`) lists its queue; a completion head doorbell does
//! so only if the queue's last visit found no room in its completion ring: a visit counts as such from
//! `pick` on until `fed` says otherwise, so that no doorbell is lost in between.
//!
//! Latency: 2 cycles from `relist` to `valid`, 3 from `rang`. Throughput: a `rang` every other cycle at
//! most, with at most every other cycle a `relist`. Ordering: first in, first out. Reset empties it.

use rust_hdl::prelude::*;

use crate::prim::fifo::Fifo;
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct FetchList {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub rang: Signal<In, bool>,
    pub rang_queue: Signal<In, Bits<8>>,
    pub rang_is_head: Signal<In, bool>,
    pub valid: Signal<Out, bool>,
    pub queue: Signal<Out, Bits<8>>,
    pub pick: Signal<In, bool>,
    /// The queue of `relist` and `fed`.
    pub visited: Signal<In, Bits<8>>,
    pub relist: Signal<In, bool>,
    pub fed: Signal<In, bool>,
    /// Nothing in the list or on its way into it.
    pub idle: Signal<Out, bool>,

    list: Fifo<Bits<8>>,
    listed: DFF<Bits<32>>,
    starved: DFF<Bits<32>>,
    wake: DFF<bool>,
    wake_queue: DFF<Bits<8>>,
    wake_is_head: DFF<bool>,
    wake_now: Signal<Local, bool>,
    picked_bit: Signal<Local, Bits<32>>,
    visited_bit: Signal<Local, Bits<32>>,
    pushed_bit: Signal<Local, Bits<32>>,
    one: Constant<Bits<32>>,
    zero: Constant<Bits<32>>,
}

impl FetchList {
    /// For 2^`queue_bits` queues.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((1..=5).contains(&sizes.queue_bits), "2^{} queues", sizes.queue_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            rang: Default::default(),
            rang_queue: Default::default(),
            rang_is_head: Default::default(),
            valid: Default::default(),
            queue: Default::default(),
            pick: Default::default(),
            visited: Default::default(),
            relist: Default::default(),
            fed: Default::default(),
            idle: Default::default(),
            list: Fifo::lut(sizes.queue_bits, 1),
            listed: Default::default(),
            starved: Default::default(),
            wake: Default::default(),
            wake_queue: Default::default(),
            wake_is_head: Default::default(),
            wake_now: Default::default(),
            picked_bit: Default::default(),
            visited_bit: Default::default(),
            pushed_bit: Default::default(),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for FetchList {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, listed, starved, wake, wake_queue, wake_is_head);
        self.list.clock.next = self.clock.val();
        self.list.reset.next = self.reset.val();
        self.valid.next = self.list.out.valid.val();
        self.queue.next = self.list.out.data.val();
        self.list.out.ready.next = self.pick.val();

        // A doorbell is kept for a cycle, and while a visit puts its own queue back.
        self.wake_now.next = self.wake.q.val() & !self.relist.val();
        if self.wake_now.val() {
            self.wake.d.next = false;
        }
        if self.rang.val() {
            self.wake.d.next = true;
            self.wake_queue.d.next = self.rang_queue.val();
            self.wake_is_head.d.next = self.rang_is_head.val();
        }
        self.picked_bit.next = self.zero.val();
        if self.pick.val() {
            self.picked_bit.next = (self.one.val() << bit_cast::<32, 8>(self.list.out.data.val()));
        }
        self.visited_bit.next = (self.one.val() << bit_cast::<32, 8>(self.visited.val()));
        self.pushed_bit.next = self.zero.val();
        self.list.push.next = false;
        self.list.data.next = self.visited.val();
        if self.relist.val() {
            // A doorbell may have listed it during the visit.
            if !self.listed.q.val().get_bit(self.visited.val().index()) {
                self.list.push.next = true;
                self.pushed_bit.next = self.visited_bit.val();
            }
        } else if self.wake.q.val() {
            self.list.data.next = self.wake_queue.q.val();
            if !self.listed.q.val().get_bit(self.wake_queue.q.val().index())
                & (!self.wake_is_head.q.val() | self.starved.q.val().get_bit(self.wake_queue.q.val().index()))
            {
                self.list.push.next = true;
                self.pushed_bit.next = (self.one.val() << bit_cast::<32, 8>(self.wake_queue.q.val()));
            }
        }
        self.listed.d.next = ((self.listed.q.val() & (!self.picked_bit.val())) | self.pushed_bit.val());
        self.starved.d.next = (self.starved.q.val() | self.picked_bit.val());
        if self.fed.val() {
            self.starved.d.next = (self.starved.q.val() & (!self.visited_bit.val()));
        }
        self.idle.next = self.list.empty.val() & !self.wake.q.val();

        if self.reset.val() {
            self.listed.d.next = self.zero.val();
            self.starved.d.next = self.zero.val();
            self.wake.d.next = false;
        }
    }
}
