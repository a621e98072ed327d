//! Where writes wait that were denied their lock, and how they are tried again.
//!
//! `act` ends a judgement of `slot`, which has been there for two cycles: `denied` parks it at the tail. `wake`
//! says that a lock or the claim was given back: from the next `quiet` cycle, in which no judgement is under way
//! but one whose `act` is in that cycle, each slot that is parked then is tried once, from the head. A try is an
//! item in `again`, and the next follows when that slot is judged or `gone`, one at a time. `starved` is of the
//! slot that is judged: denied now, it has been denied `DENIALS_MAX` times before. `resubmitted` comes with it,
//! and comes back with each try.
//!
//! Latency: 5 cycles from `wake` to `again`. A slot is parked once at a time, so all find room. Reset empties
//! it; a slot whose try is neither judged nor gone stops the others' tries.

use rust_hdl::prelude::*;

use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::stream::StreamOut;
use crate::records::Again;
use crate::sizes::Sizes;

/// Denials after which a write claims its range, at most 15.
pub const DENIALS_MAX: u64 = 8;

logic_record! {
    /// A parked slot.
    Parked: 17 {
        /// Slot.
        slot = 12,
        /// Tries that were denied, up to `DENIALS_MAX`.
        tries = 4,
        /// 1: the control path has given it back.
        resubmitted = 1,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct LockParking {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub slot: Signal<In, Bits<12>>,
    pub act: Signal<In, bool>,
    pub denied: Signal<In, bool>,
    pub resubmitted: Signal<In, Bits<1>>,
    pub starved: Signal<Out, bool>,
    pub quiet: Signal<In, bool>,
    pub wake: Signal<In, bool>,
    pub gone: Signal<In, bool>,
    pub gone_slot: Signal<In, Bits<12>>,
    pub again: StreamOut<Again>,
    pub idle: Signal<Out, bool>,

    queue: Fifo<Parked>,
    push: DFF<bool>,
    pushed: DFF<Parked>,
    /// Slots in the queue, and those of them that are to be tried.
    parked: DFF<Bits<13>>,
    to_try: DFF<Bits<13>>,
    /// Any are, kept beside it.
    some_to_try: DFF<bool>,
    quiet_register: DFF<bool>,
    /// Something was given back since the tries under way began.
    woken: DFF<bool>,
    /// The slot that is tried; offered in `again`, and not judged yet.
    tried: DFF<Parked>,
    offered: DFF<bool>,
    trying: DFF<bool>,
    /// The slot under judgement is the one that is tried.
    is_tried: DFF<bool>,
    /// The slot tried has been denied often enough.
    often: DFF<bool>,
    /// The slot tried is gone.
    gone_register: DFF<bool>,
    head: Signal<Local, Parked>,
    pop: Signal<Local, bool>,
    may_try: Signal<Local, bool>,
    parks: Signal<Local, bool>,
    tries_next: Signal<Local, Bits<4>>,
    limit: Constant<Bits<4>>,
    one4: Constant<Bits<4>>,
    none4: Constant<Bits<4>>,
    one: Constant<Bits<13>>,
    zero: Constant<Bits<13>>,
    no_component: Constant<Bits<3>>,
    no_plan: Constant<Bits<16>>,
    flag: Constant<Bits<1>>,
}

impl LockParking {
    /// For 2^`slot_bits` slots.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            slot: Default::default(),
            act: Default::default(),
            denied: Default::default(),
            resubmitted: Default::default(),
            starved: Default::default(),
            quiet: Default::default(),
            wake: Default::default(),
            gone: Default::default(),
            gone_slot: Default::default(),
            again: Default::default(),
            idle: Default::default(),
            queue: Fifo::block(sizes.slot_bits, 1),
            push: Default::default(),
            pushed: Default::default(),
            parked: Default::default(),
            to_try: Default::default(),
            some_to_try: Default::default(),
            quiet_register: Default::default(),
            woken: Default::default(),
            tried: Default::default(),
            offered: Default::default(),
            trying: Default::default(),
            is_tried: Default::default(),
            often: Default::default(),
            gone_register: Default::default(),
            head: Default::default(),
            pop: Default::default(),
            may_try: Default::default(),
            parks: Default::default(),
            tries_next: Default::default(),
            limit: Constant::new(DENIALS_MAX.to_bits()),
            one4: Constant::new(1u64.to_bits()),
            none4: Constant::new(0u64.to_bits()),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            no_component: Constant::new(0u64.to_bits()),
            no_plan: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for LockParking {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            push,
            pushed,
            parked,
            to_try,
            some_to_try,
            quiet_register,
            woken,
            tried,
            offered,
            trying,
            is_tried,
            often,
            gone_register
        );
        self.queue.clock.next = self.clock.val();
        self.queue.reset.next = self.reset.val();
        self.head.next = self.queue.out.data.val();
        self.may_try.next = !self.trying.q.val() & self.some_to_try.q.val();
        self.queue.out.ready.next = self.may_try.val();
        self.pop.next = self.may_try.val() & self.queue.out.valid.val();

        // A judgement.
        self.is_tried.d.next = self.trying.q.val() & (self.slot.val() == self.tried.q.val().slot);
        self.often.d.next = (self.tried.q.val().tries == self.limit.val());
        self.starved.next = self.is_tried.q.val() & self.often.q.val();
        self.parks.next = self.act.val() & self.denied.val();
        self.tries_next.next = self.one4.val();
        if self.is_tried.q.val() {
            self.tries_next.next = self.tried.q.val().tries;
            if !self.often.q.val() {
                self.tries_next.next = self.tried.q.val().tries + self.one4.val();
            }
        }
        self.push.d.next = self.parks.val();
        self.pushed.d.next.slot = self.slot.val();
        self.pushed.d.next.tries = self.tries_next.val();
        self.pushed.d.next.resubmitted = self.resubmitted.val();
        self.queue.push.next = self.push.q.val();
        self.queue.data.next = self.pushed.q.val();

        // A try.
        if self.offered.q.val() & self.again.ready.val() {
            self.offered.d.next = false;
        }
        self.gone_register.d.next =
            self.gone.val() & self.trying.q.val() & (self.gone_slot.val() == self.tried.q.val().slot);
        if (self.act.val() & self.is_tried.q.val()) | self.gone_register.q.val() {
            self.trying.d.next = false;
        }
        if self.pop.val() {
            self.tried.d.next = self.head.val();
            self.offered.d.next = true;
            self.trying.d.next = true;
            self.to_try.d.next = self.to_try.q.val() - self.one.val();
            self.some_to_try.d.next = (self.to_try.q.val() != self.one.val());
        }
        if self.parks.val() & !self.pop.val() {
            self.parked.d.next = self.parked.q.val() + self.one.val();
        } else if self.pop.val() & !self.parks.val() {
            self.parked.d.next = self.parked.q.val() - self.one.val();
        }
        // A judgement that ended before it was quiet is counted by now.
        self.quiet_register.d.next = self.quiet.val();
        if self.woken.q.val() & self.quiet_register.q.val() & !self.some_to_try.q.val() {
            self.to_try.d.next = self.parked.q.val();
            self.some_to_try.d.next = self.parked.q.val().any();
            self.woken.d.next = false;
        }
        if self.wake.val() {
            self.woken.d.next = true;
        }

        self.again.valid.next = self.offered.q.val();
        self.again.data.next.slot = self.tried.q.val().slot;
        self.again.data.next.component = self.no_component.val();
        self.again.data.next.plan = self.no_plan.val();
        self.again.data.next.fresh = self.flag.val();
        self.again.data.next.retry = self.tried.q.val().resubmitted;
        self.idle.next =
            !self.woken.q.val() & !self.some_to_try.q.val() & !self.offered.q.val() & !self.push.q.val();

        if self.reset.val() {
            self.push.d.next = false;
            self.parked.d.next = self.zero.val();
            self.some_to_try.d.next = false;
            self.quiet_register.d.next = false;
            self.woken.d.next = false;
            self.tried.d.next.tries = self.none4.val();
            self.offered.d.next = false;
            self.trying.d.next = false;
            self.gone_register.d.next = false;
        }
    }
}
