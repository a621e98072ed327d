//! The list of queues that may have entries to fetch, each once.
//!
//! The first one is offered in `queue` with `valid`; `pick` takes it, if there is one, for a visit, the
//! next cycle is `looking`, and the visit ends with `ending`: `relist` then puts the queue back at the
//! end. A submission tail doorbell (`rang`) lists its queue; a completion head doorbell does so only if
//! the queue's last visit ended `blocked`, without room in its completion ring. A doorbell during a
//! visit comes too late for it and lists its queue again, so that none is lost. `awaken_valid` lists its queue as a
//! tail doorbell does, after doorbells; `awaken_taken` says when.
//!
//! A doorbell is looked up only while no visit is under way or it is `looking`, so that what was looked up
//! holds until the queue is listed, a cycle later. Latency: 1 cycle from `ending` to `valid`, 3 from `rang`.
//! Throughput: a `rang` every third cycle at most, with an `ending` every fourth at most. Ordering: first
//! in, first out. Reset empties it.

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
    pub awaken_valid: Signal<In, bool>,
    pub awaken_queue: Signal<In, Bits<8>>,
    pub awaken_taken: Signal<Out, bool>,
    pub valid: Signal<Out, bool>,
    pub queue: Signal<Out, Bits<8>>,
    pub pick: Signal<In, bool>,
    /// No visit is under way before this cycle.
    pub free: Signal<In, bool>,
    pub looking: Signal<In, bool>,
    pub ending: Signal<In, bool>,
    /// The queue of the visit under way.
    pub visited: Signal<In, Bits<8>>,
    /// The same, one bit set.
    pub visited_bit: Signal<In, Bits<32>>,
    /// With `ending` only.
    pub relist: Signal<In, bool>,
    pub blocked: Signal<In, bool>,
    /// Nothing in the list or on its way into it.
    pub idle: Signal<Out, bool>,

    list: Fifo<Bits<5>>,
    /// Bit i: queue i is in the list or visited.
    listed: DFF<Bits<32>>,
    starved: DFF<Bits<32>>,
    // A doorbell, kept until it is looked up.
    wake: DFF<bool>,
    wake_queue: DFF<Bits<5>>,
    wake_bit: DFF<Bits<32>>,
    wake_is_head: DFF<bool>,
    // What was found of it.
    found: DFF<bool>,
    found_queue: DFF<Bits<5>>,
    found_bit: DFF<Bits<32>>,
    found_listed: DFF<bool>,
    found_wanted: DFF<bool>,
    found_visited: DFF<bool>,
    /// A doorbell of the visited queue came too late for the visit.
    again: DFF<bool>,
    look: Signal<Local, bool>,
    look_queue: Signal<Local, Bits<5>>,
    look_bit: Signal<Local, Bits<32>>,
    is_same: Signal<Local, bool>,
    is_visited: Signal<Local, bool>,
    lists: Signal<Local, bool>,
    stays: Signal<Local, bool>,
    visited_short: Signal<Local, Bits<5>>,
    listed_bit: Signal<Local, Bits<32>>,
    starved_bit: Signal<Local, Bits<32>>,
    ended_bit: Signal<Local, Bits<32>>,
    blocked_bit: Signal<Local, Bits<32>>,
    left_bit: Signal<Local, Bits<32>>,
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
            awaken_valid: Default::default(),
            awaken_queue: Default::default(),
            awaken_taken: Default::default(),
            valid: Default::default(),
            queue: Default::default(),
            pick: Default::default(),
            free: Default::default(),
            looking: Default::default(),
            ending: Default::default(),
            visited: Default::default(),
            visited_bit: Default::default(),
            relist: Default::default(),
            blocked: Default::default(),
            idle: Default::default(),
            list: Fifo::quick(sizes.queue_bits, 1),
            listed: Default::default(),
            starved: Default::default(),
            wake: Default::default(),
            wake_queue: Default::default(),
            wake_bit: Default::default(),
            wake_is_head: Default::default(),
            found: Default::default(),
            found_queue: Default::default(),
            found_bit: Default::default(),
            found_listed: Default::default(),
            found_wanted: Default::default(),
            found_visited: Default::default(),
            again: Default::default(),
            look: Default::default(),
            look_queue: Default::default(),
            look_bit: Default::default(),
            is_same: Default::default(),
            is_visited: Default::default(),
            lists: Default::default(),
            stays: Default::default(),
            visited_short: Default::default(),
            listed_bit: Default::default(),
            starved_bit: Default::default(),
            ended_bit: Default::default(),
            blocked_bit: Default::default(),
            left_bit: Default::default(),
            pushed_bit: Default::default(),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for FetchList {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            listed,
            starved,
            wake,
            wake_queue,
            wake_bit,
            wake_is_head,
            found,
            found_queue,
            found_bit,
            found_listed,
            found_wanted,
            found_visited,
            again
        );
        self.list.clock.next = self.clock.val();
        self.list.reset.next = self.reset.val();
        self.valid.next = self.list.out.valid.val();
        self.queue.next = bit_cast::<8, 5>(self.list.out.data.val());
        self.list.out.ready.next = self.pick.val();

        // A doorbell waits for the end of a visit at most.
        self.look.next =
            (self.wake.q.val() | self.awaken_valid.val()) & (self.free.val() | self.looking.val());
        if self.look.val() {
            self.wake.d.next = false;
        }
        self.awaken_taken.next =
            self.awaken_valid.val() & !self.wake.q.val() & (self.free.val() | self.looking.val());
        self.look_queue.next = bit_cast::<5, 8>(self.awaken_queue.val());
        self.look_bit.next = (self.one.val() << bit_cast::<32, 5>(bit_cast::<5, 8>(self.awaken_queue.val())));
        if self.wake.q.val() {
            self.look_queue.next = self.wake_queue.q.val();
            self.look_bit.next = self.wake_bit.q.val();
        }
        if self.rang.val() {
            self.wake.d.next = true;
            self.wake_queue.d.next = bit_cast::<5, 8>(self.rang_queue.val());
            self.wake_bit.d.next =
                (self.one.val() << bit_cast::<32, 5>(bit_cast::<5, 8>(self.rang_queue.val())));
            self.wake_is_head.d.next = self.rang_is_head.val();
        }
        self.lists.next = self.found.q.val() & !self.found_listed.q.val() & self.found_wanted.q.val();
        self.visited_short.next = bit_cast::<5, 8>(self.visited.val());
        self.is_same.next = (self.look_queue.val() == self.found_queue.q.val());
        self.is_visited.next = (self.look_queue.val() == self.visited_short.val());
        self.found.d.next = self.look.val();
        self.found_queue.d.next = self.look_queue.val();
        self.found_bit.d.next = self.look_bit.val();
        self.listed_bit.next = self.listed.q.val() & self.look_bit.val();
        self.starved_bit.next = self.starved.q.val() & self.wake_bit.q.val();
        self.found_listed.d.next = self.listed_bit.val().any() | (self.lists.val() & self.is_same.val());
        self.found_wanted.d.next =
            !self.wake.q.val() | !self.wake_is_head.q.val() | self.starved_bit.val().any();
        self.found_visited.d.next = self.looking.val() & self.is_visited.val();
        self.again.d.next = self.found.q.val() & self.found_visited.q.val();

        // A visit's end and a doorbell never list in the same cycle.
        self.stays.next = self.relist.val() | self.again.q.val();
        self.list.push.next = self.lists.val() | self.stays.val();
        self.list.data.next = self.found_queue.q.val();
        if self.ending.val() {
            self.list.data.next = self.visited_short.val();
        }
        self.ended_bit.next = self.zero.val();
        self.blocked_bit.next = self.zero.val();
        self.left_bit.next = self.zero.val();
        if self.ending.val() {
            self.ended_bit.next = self.visited_bit.val();
            if self.blocked.val() {
                self.blocked_bit.next = self.visited_bit.val();
            }
            if !self.stays.val() {
                self.left_bit.next = self.visited_bit.val();
            }
        }
        self.pushed_bit.next = self.zero.val();
        if self.lists.val() {
            self.pushed_bit.next = self.found_bit.q.val();
        }
        self.listed.d.next = ((self.listed.q.val() & (!self.left_bit.val())) | self.pushed_bit.val());
        self.starved.d.next = ((self.starved.q.val() & (!self.ended_bit.val())) | self.blocked_bit.val());
        self.idle.next = self.list.empty.val() & !self.wake.q.val() & !self.found.q.val();

        if self.reset.val() {
            self.listed.d.next = self.zero.val();
            self.starved.d.next = self.zero.val();
            self.wake.d.next = false;
            self.found.d.next = false;
            self.again.d.next = false;
        }
    }
}
