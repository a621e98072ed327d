//! Tries failed parts again: on another path while there is one, else as often as its component may.
//!
//! `failed` brings the end of a part that did not succeed. After a path error (`StatusKind`) the path is avoided
//! by its plan from now on and the part begins again (`again`), free of charge, also when another part of the
//! plan has failed on that path before: this one was on its way then. When none is left (the card's own Host
//! Pathing Error), and after an error that may pass, a try is taken from the component's, and no path is avoided
//! any more; without one the part has failed for good, with the last path error, if it had one. A part without a
//! template has tries of its own, for want of a path only. What is not tried again goes on: to `part`, or, with
//! its plan, to `done`. A part is tried again as a whole: what of it was done is done once more.
//!
//! A part of a plan that issues nothing more (`stopped`, asked by `stop_query`) has failed as it is.
//!
//! While a path is being made anew, a part that finds none waits, free of charge (`PathWaiters`). `admitted`,
//! `begun` and `query`: see `TryNotes`.
//!
//! Latency: 5 cycles to `part` and to `done`, 13 to `again`, and one for each note meanwhile. Throughput: a
//! part in 5 cycles, one that begins again in 10. Nobody waits here for admission, which may wait for parts to
//! end: there is room for every part. Order: none. Reset drops what is in work and what waits.

use rust_hdl::prelude::*;
use volplane_abi::plan::plan_status;
use volplane_abi::status;

use super::path_waiters::PathWaiters;
use super::status_kind::StatusKind;
use super::try_notes::{PlanTries, TryNotes};
use crate::prim::fifo::Fifo;
use crate::prim::register::Register;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Again, Part, PartBegun, PartDone, PlanDone};
use crate::sizes::Sizes;

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    Read,
    /// What is known of it has come, and what its status means.
    Weigh,
    Decide,
    /// Keeps what has become of its paths and tries.
    Keep,
    Again,
    Pass,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PartRetry {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub admitted_valid: Signal<In, bool>,
    pub admitted_slot: Signal<In, Bits<12>>,
    pub begun_valid: Signal<In, bool>,
    pub begun: Signal<In, PartBegun>,
    pub renewing: Signal<In, bool>,
    pub path_written: Signal<In, bool>,
    pub failed: StreamIn<PartDone>,
    pub again: StreamOut<Again>,
    pub part: StreamOut<PartDone>,
    pub done: StreamOut<PlanDone>,
    /// The plan whose part failed, and two cycles later whether it is stopped.
    pub stop_query: Signal<Out, Bits<12>>,
    pub stopped: Signal<In, bool>,
    pub query: Signal<In, Bits<12>>,
    pub avoided: Signal<Out, Bits<32>>,
    pub idle: Signal<Out, bool>,

    try_notes: TryNotes,
    waiters: PathWaiters,
    status_kind: StatusKind,
    /// Parts that begin again as soon as admission takes them.
    returning: Fifo<Bits<16>>,
    state: DFF<State>,
    resting: DFF<bool>,
    idle_register: DFF<bool>,
    current: Register<PartDone>,
    /// The next part is one that begins again, and whether of `returning`; the part in work is one.
    waking: DFF<bool>,
    takes_returning: DFF<bool>,
    wakes: DFF<bool>,
    /// It is to wait for a path.
    waits: DFF<bool>,
    pathless: DFF<bool>,
    path_bit: DFF<Bits<32>>,
    known: DFF<PlanTries>,
    left: DFF<Bits<8>>,
    any_avoided: DFF<bool>,
    any_left: DFF<bool>,
    part_valid: DFF<bool>,
    offered_part: Register<PartDone>,
    again_valid: DFF<bool>,
    offered_again: DFF<Again>,
    done_valid: DFF<bool>,
    offered_done: DFF<PlanDone>,

    arriving: Signal<Local, Part>,
    current_part: Signal<Local, Part>,
    is_single: Signal<Local, bool>,
    is_stopped: Signal<Local, bool>,
    own: Signal<Local, bool>,
    code: Signal<Local, Bits<15>>,
    path: Signal<Local, Bits<8>>,
    of_path: Signal<Local, bool>,
    takes_try: Signal<Local, bool>,
    ended: Signal<Local, PartDone>,
    keeps: Signal<Local, bool>,
    ending: Signal<Local, bool>,
    may_wake: Signal<Local, bool>,
    code_and_type: Constant<Bits<15>>,
    host_path_error: Constant<Bits<15>>,
    no_paths: Constant<Bits<32>>,
    one32: Constant<Bits<32>>,
    one8: Constant<Bits<8>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl PartRetry {
    /// For 2^`slot_bits` plans.
    pub fn new(sizes: &Sizes) -> Self {
        assert!(sizes.path_bits <= 5, "2^{} paths", sizes.path_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            admitted_valid: Default::default(),
            admitted_slot: Default::default(),
            begun_valid: Default::default(),
            begun: Default::default(),
            renewing: Default::default(),
            path_written: Default::default(),
            failed: Default::default(),
            again: Default::default(),
            part: Default::default(),
            done: Default::default(),
            stop_query: Default::default(),
            stopped: Default::default(),
            query: Default::default(),
            avoided: Default::default(),
            idle: Default::default(),
            try_notes: TryNotes::new(sizes),
            waiters: PathWaiters::new(sizes),
            status_kind: Default::default(),
            returning: Fifo::block(sizes.slot_bits + 3, 1),
            state: Default::default(),
            resting: Default::default(),
            idle_register: Default::default(),
            current: Default::default(),
            waking: Default::default(),
            takes_returning: Default::default(),
            wakes: Default::default(),
            waits: Default::default(),
            pathless: Default::default(),
            path_bit: Default::default(),
            known: Default::default(),
            left: Default::default(),
            any_avoided: Default::default(),
            any_left: Default::default(),
            part_valid: Default::default(),
            offered_part: Default::default(),
            again_valid: Default::default(),
            offered_again: Default::default(),
            done_valid: Default::default(),
            offered_done: Default::default(),
            arriving: Default::default(),
            current_part: Default::default(),
            is_single: Default::default(),
            is_stopped: Default::default(),
            own: Default::default(),
            code: Default::default(),
            path: Default::default(),
            of_path: Default::default(),
            takes_try: Default::default(),
            ended: Default::default(),
            keeps: Default::default(),
            ending: Default::default(),
            may_wake: Default::default(),
            code_and_type: Constant::new(u64::from(status::CODE_AND_TYPE).to_bits()),
            host_path_error: Constant::new(u64::from(plan_status::HOST_PATH_ERROR).to_bits()),
            no_paths: Constant::new(0u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for PartRetry {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            state,
            resting,
            idle_register,
            waking,
            takes_returning,
            wakes,
            waits,
            pathless
        );
        dff_setup!(self, clock, path_bit, known, left, any_avoided, any_left, part_valid);
        dff_setup!(self, clock, again_valid, offered_again, done_valid, offered_done);
        clock!(self, clock, try_notes, waiters, status_kind, returning, current, offered_part);
        self.try_notes.reset.next = self.reset.val();
        self.waiters.reset.next = self.reset.val();
        self.returning.reset.next = self.reset.val();
        self.try_notes.admitted_valid.next = self.admitted_valid.val();
        self.try_notes.admitted_slot.next = self.admitted_slot.val();
        self.try_notes.begun_valid.next = self.begun_valid.val();
        self.try_notes.begun.next = self.begun.val();
        self.try_notes.query.next = self.query.val();
        self.avoided.next = self.try_notes.avoided.val();
        self.waiters.renewing.next = self.renewing.val();
        self.waiters.path_written.next = self.path_written.val();

        // The part that failed, or one that begins again, and what is known of it.
        self.failed.ready.next = self.resting.q.val() & !self.waking.q.val();
        self.current.load.next = self.resting.q.val();
        self.current.d.next = self.failed.data.val();
        self.arriving.next = self.failed.data.val().part.into();
        if self.waking.q.val() {
            self.current.d.next.part = self.waiters.part.val();
            self.arriving.next = self.waiters.part.val().into();
            if self.takes_returning.q.val() {
                self.current.d.next.part = self.returning.out.data.val();
                self.arriving.next = self.returning.out.data.val().into();
            }
        }
        self.current_part.next = self.current.q.val().part.into();
        self.is_single.next = (self.current_part.val().single == self.flag.val());
        self.stop_query.next = self.current_part.val().slot;
        self.is_stopped.next = self.stopped.val() | (self.current.q.val().stopped == self.flag.val());
        self.try_notes.part.next = self.arriving.val();
        if (self.state.q.val() == State::Weigh) {
            self.known.d.next = self.try_notes.notes.val();
            self.left.d.next = self.try_notes.left.val();
        }
        self.any_left.d.next = self.try_notes.left.val().any();
        self.any_avoided.d.next = self.try_notes.notes.val().avoided.any();

        // What its status means; a device gave it, or the card did itself.
        self.status_kind.status.next = self.current.q.val().status;
        self.own.next = (self.current.q.val().closed == self.flag.val());
        self.code.next = self.current.q.val().status & self.code_and_type.val();
        self.pathless.d.next = self.own.val() & (self.code.val() == self.host_path_error.val());
        self.path.next = self.current.q.val().path;
        self.path_bit.d.next = (self.one32.val() << bit_cast::<32, 5>(self.path.val().get_bits::<5>(0)));
        self.of_path.next = self.status_kind.is_of_path.val() & !self.own.val();
        self.takes_try.next = (self.pathless.q.val() & self.any_avoided.q.val())
            | (self.status_kind.may_pass.val() & !self.own.val() & !self.is_single.val());
        // Every path was tried: the last error on one says more than that there is none.
        self.ended.next = self.current.q.val();
        if self.pathless.q.val()
            & (self.known.q.val().erred == self.flag.val())
            & (self.known.q.val().component == self.current_part.val().component)
        {
            self.ended.next.status = self.known.q.val().status;
            self.ended.next.path = self.known.q.val().path;
            self.ended.next.closed = self.clear.val();
            self.ended.next.given_up = self.known.q.val().given_up;
        }

        if self.again.ready.val() {
            self.again_valid.d.next = false;
        }
        if self.part.ready.val() {
            self.part_valid.d.next = false;
        }
        if self.done.ready.val() {
            self.done_valid.d.next = false;
        }
        self.keeps.next = false;
        self.ending.next = false;
        self.waiters.take.next = false;
        self.waiters.push.next = false;
        self.waiters.pushed.next = self.current.q.val().part;
        self.returning.push.next = false;
        self.returning.data.next = self.current.q.val().part;
        self.returning.out.ready.next = false;
        match self.state.q.val() {
            State::Idle => {
                self.resting.d.next = true;
                self.wakes.d.next = self.waking.q.val();
                if self.resting.q.val() & (self.waking.q.val() | self.failed.valid.val()) {
                    self.waking.d.next = false;
                    self.returning.out.ready.next = self.waking.q.val() & self.takes_returning.q.val();
                    self.waiters.take.next = self.waking.q.val() & !self.takes_returning.q.val();
                    self.resting.d.next = false;
                    self.state.d.next = State::Read;
                }
            }
            State::Read => {
                self.state.d.next = State::Weigh;
            }
            State::Weigh => {
                self.state.d.next = State::Decide;
            }
            State::Decide => {
                self.state.d.next = State::Pass;
                if self.wakes.q.val() {
                    self.state.d.next = State::Again;
                } else if self.is_stopped.val() {
                    self.state.d.next = State::Pass;
                } else if self.pathless.q.val() & self.waiters.may_wait.val() {
                    // It waits, and then takes any path.
                    self.known.d.next.avoided = self.no_paths.val();
                    self.waits.d.next = true;
                    self.state.d.next = State::Keep;
                } else if self.of_path.val() {
                    self.known.d.next.status = self.current.q.val().status;
                    self.known.d.next.path = self.current.q.val().path;
                    self.known.d.next.component = self.current_part.val().component;
                    self.known.d.next.erred = self.flag.val();
                    self.known.d.next.given_up = self.current.q.val().given_up;
                    self.known.d.next.avoided = self.known.q.val().avoided | self.path_bit.q.val();
                    self.state.d.next = State::Keep;
                } else if self.takes_try.val() & self.any_left.q.val() {
                    self.left.d.next = self.left.q.val() - self.one8.val();
                    self.known.d.next.avoided = self.no_paths.val();
                    self.state.d.next = State::Keep;
                }
            }
            State::Keep => {
                self.keeps.next = self.try_notes.may_keep.val();
                if self.try_notes.may_keep.val() {
                    self.ending.next = true;
                    self.waits.d.next = false;
                    self.waiters.push.next = self.waits.q.val();
                    self.returning.push.next = !self.waits.q.val();
                }
            }
            State::Again => {
                // It was free when the part was taken.
                self.again_valid.d.next = true;
                self.ending.next = true;
            }
            State::Pass => {
                if self.is_single.val() {
                    self.ending.next = !self.done_valid.q.val();
                    if !self.done_valid.q.val() {
                        self.done_valid.d.next = true;
                    }
                } else {
                    self.ending.next = !self.part_valid.q.val();
                    if !self.part_valid.q.val() {
                        self.part_valid.d.next = true;
                    }
                }
            }
            _ => {}
        }
        if self.ending.val() {
            self.state.d.next = State::Idle;
            self.resting.d.next = true;
        }
        self.try_notes.keep.next = self.keeps.val();
        self.try_notes.keep_part.next = self.current_part.val();
        self.try_notes.keep_notes.next = self.known.q.val();
        self.try_notes.keep_left.next = self.left.q.val();

        // What begins again goes after every other part that failed, or when there is none.
        self.may_wake.next =
            !self.again_valid.q.val() & (self.returning.out.valid.val() | self.waiters.due.val());
        if ((self.state.q.val() == State::Idle) & !self.waking.q.val() & !self.failed.valid.val())
            | (self.ending.val() & !self.wakes.q.val())
        {
            self.waking.d.next = self.may_wake.val();
            self.takes_returning.d.next = self.returning.out.valid.val();
        }

        // What goes out.
        self.again.valid.next = self.again_valid.q.val();
        self.again.data.next = self.offered_again.q.val();
        if !self.again_valid.q.val() {
            self.offered_again.d.next.slot = self.current_part.val().slot;
            self.offered_again.d.next.component = self.current_part.val().component;
            self.offered_again.d.next.plan = self.known.q.val().plan;
            self.offered_again.d.next.fresh = self.clear.val();
            self.offered_again.d.next.retry = self.flag.val();
        }
        self.done.valid.next = self.done_valid.q.val();
        self.done.data.next = self.offered_done.q.val();
        if !self.done_valid.q.val() {
            self.offered_done.d.next.slot = self.current_part.val().slot;
            self.offered_done.d.next.status = self.ended.val().status;
        }
        self.part.valid.next = self.part_valid.q.val();
        self.part.data.next = self.offered_part.q.val();
        self.offered_part.load.next = !self.part_valid.q.val();
        self.offered_part.d.next = self.ended.val();
        self.idle_register.d.next = self.resting.q.val()
            & !self.failed.valid.val()
            & self.try_notes.idle.val()
            & self.waiters.idle.val()
            & !self.waking.q.val()
            & self.returning.empty.val()
            & !self.part_valid.q.val()
            & !self.again_valid.q.val()
            & !self.done_valid.q.val();
        // Whoever gives it something is not idle in that cycle.
        self.idle.next = self.idle_register.q.val() & self.resting.q.val() & !self.waking.q.val();

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.resting.d.next = false;
            self.idle_register.d.next = false;
            self.waking.d.next = false;
            self.waits.d.next = false;
            self.part_valid.d.next = false;
            self.again_valid.d.next = false;
            self.done_valid.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
