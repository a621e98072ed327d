//! Tries failed parts again: on another path while there is one, else as often as its component may.
//!
//! `failed` brings the end of a part that did not succeed. After a path error (`volplane_abi::plan::status_class`)
//! the path is avoided by its plan from now on and the part begins again (`again`), free of charge. When no other
//! is left (the card's own Host Pathing Error, or a path that was avoided already), and after an error that may
//! pass, a try is taken from the component's, and no path is avoided any more; without one the part has failed
//! for good, with the last path error, if it had one. A part without a template has two tries, for want of a path
//! only. What is not tried again goes on: to `part`, or, with its plan, to `done`. A part is tried again as a
//! whole: what of it was done is done once more.
//!
//! While `renewing`, and for 1,000 cycles after, a part that finds no path waits, free of charge, until the entry of
//! some path is written, or these have passed.
//!
//! `admitted` and `begun` tell of a plan and of each of its parts before anything of them can fail; the first never
//! comes in two cycles running, the second never twice in three. `query` is answered 2 cycles later with the paths
//! that a plan avoids.
//!
//! Latency: 5 cycles to `part` and to `done`, 13 to `again`, and one for each note meanwhile. Throughput: a part in 5
//! cycles, one that begins again in 10. Nobody waits here for admission, which may wait for parts to end: there is
//! room for every part. Order: none. Reset drops what is in work and what waits.

use rust_hdl::prelude::*;
use volplane_abi::plan::plan_status;
use volplane_abi::status;

use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::ram::BlockRam;
use crate::prim::register::Register;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Again, Part, PartBegun, PartDone, PlanDone};
use crate::sizes::Sizes;

logic_record! {
    /// What is known of a plan that may be tried again.
    PlanTries: 75 {
        /// Paths that it avoids.
        avoided = 32,
        /// Plan template; 0: none.
        plan = 16,
        /// The last path error: its status,
        status = 15,
        /// path
        path = 8,
        /// and component.
        component = 3,
        /// 0: there was none.
        erred = 1,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    Read,
    /// What is known of it has come; what its status means is found out.
    Weigh,
    Decide,
    /// Keeps what has become of its paths and tries.
    Keep,
    Again,
    Pass,
}

/// How often a part without a template begins again when no path is left that it has not tried.
const SINGLE_TRIES: u64 = 2;

/// Cycles after the end of a path's renewal in which a part may come that has not seen it.
const GRACE: u64 = 1000;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PartRetry {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub admitted_valid: Signal<In, bool>,
    pub admitted_slot: Signal<In, Bits<12>>,
    pub begun_valid: Signal<In, bool>,
    pub begun: Signal<In, PartBegun>,
    /// Some path is being made anew; an entry of a path was written.
    pub renewing: Signal<In, bool>,
    pub path_written: Signal<In, bool>,
    pub failed: StreamIn<PartDone>,
    pub again: StreamOut<Again>,
    pub part: StreamOut<PartDone>,
    pub done: StreamOut<PlanDone>,
    pub query: Signal<In, Bits<12>>,
    pub avoided: Signal<Out, Bits<32>>,
    pub idle: Signal<Out, bool>,

    plans: BlockRam<PlanTries>,
    avoided_queried: BlockRam<Bits<32>>,
    tries: BlockRam<Bits<8>>,
    /// Parts that wait for a path, and those that begin again as soon as admission takes them.
    waiting: Fifo<Bits<16>>,
    returning: Fifo<Bits<16>>,
    state: DFF<State>,
    resting: DFF<bool>,
    idle_register: DFF<bool>,
    current: Register<PartDone>,
    /// Parts that wait, and how many of them are to be tried now; the part in work is one.
    number_waiting: DFF<Bits<16>>,
    to_wake: DFF<Bits<16>>,
    waking: DFF<bool>,
    grace: DFF<Bits<10>>,
    may_wait: DFF<bool>,
    wakes: DFF<bool>,
    takes_returning: DFF<bool>,
    /// A part that was begun, until its plan can be noted.
    begins: DFF<bool>,
    admits: DFF<bool>,
    admitting: DFF<Bits<12>>,
    beginning: DFF<PartBegun>,
    // Of the status.
    of_path: DFF<bool>,
    may_pass: DFF<bool>,
    pathless: DFF<bool>,
    waits: DFF<bool>,
    path_bit: DFF<Bits<32>>,
    // Of what is known.
    known: DFF<PlanTries>,
    left: DFF<Bits<8>>,
    was_avoided: DFF<bool>,
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
    begun_part: Signal<Local, Part>,
    number: Signal<Local, Bits<5>>,
    path: Signal<Local, Bits<8>>,
    field: Signal<Local, Bits<15>>,
    code: Signal<Local, Bits<11>>,
    kind: Signal<Local, Bits<3>>,
    retryable: Signal<Local, bool>,
    of_client: Signal<Local, bool>,
    own: Signal<Local, bool>,
    exhausted: Signal<Local, bool>,
    notes: Signal<Local, bool>,
    keeps: Signal<Local, bool>,
    ended: Signal<Local, PartDone>,
    grace_ends: Signal<Local, bool>,
    ending: Signal<Local, bool>,
    may_wake: Signal<Local, bool>,
    is_single: Signal<Local, bool>,
    write: Signal<Local, PlanTries>,
    write_slot: Signal<Local, Bits<12>>,
    path_kind: Constant<Bits<3>>,
    aborted: Constant<Bits<11>>,
    deleted: Constant<Bits<11>>,
    host_path_error: Constant<Bits<11>>,
    invalid_field: Constant<Bits<11>>,
    transfer_error: Constant<Bits<11>>,
    out_of_range: Constant<Bits<11>>,
    compare_failure: Constant<Bits<11>>,
    path_tries: Constant<Bits<8>>,
    whole_grace: Constant<Bits<10>>,
    one10: Constant<Bits<10>>,
    no_grace: Constant<Bits<10>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    no_paths: Constant<Bits<32>>,
    no_plan: Constant<Bits<16>>,
    one32: Constant<Bits<32>>,
    one8: Constant<Bits<8>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl PartRetry {
    /// For 2^`slot_bits` plans.
    pub fn new(sizes: &Sizes) -> Self {
        assert!(sizes.path_bits <= 5, "2^{} paths", sizes.path_bits);
        let code = |value: u16| Constant::new(u64::from(value).to_bits());
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
            query: Default::default(),
            avoided: Default::default(),
            idle: Default::default(),
            plans: BlockRam::new(sizes.slot_bits),
            avoided_queried: BlockRam::new(sizes.slot_bits),
            tries: BlockRam::new(sizes.slot_bits + 3),
            waiting: Fifo::block(sizes.slot_bits + 3, 1),
            returning: Fifo::block(sizes.slot_bits + 3, 1),
            state: Default::default(),
            resting: Default::default(),
            idle_register: Default::default(),
            current: Default::default(),
            number_waiting: Default::default(),
            to_wake: Default::default(),
            waking: Default::default(),
            grace: Default::default(),
            may_wait: Default::default(),
            wakes: Default::default(),
            takes_returning: Default::default(),
            begins: Default::default(),
            admits: Default::default(),
            admitting: Default::default(),
            beginning: Default::default(),
            of_path: Default::default(),
            may_pass: Default::default(),
            pathless: Default::default(),
            waits: Default::default(),
            path_bit: Default::default(),
            known: Default::default(),
            left: Default::default(),
            was_avoided: Default::default(),
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
            begun_part: Default::default(),
            number: Default::default(),
            path: Default::default(),
            field: Default::default(),
            code: Default::default(),
            kind: Default::default(),
            retryable: Default::default(),
            of_client: Default::default(),
            own: Default::default(),
            exhausted: Default::default(),
            notes: Default::default(),
            keeps: Default::default(),
            ended: Default::default(),
            grace_ends: Default::default(),
            ending: Default::default(),
            may_wake: Default::default(),
            is_single: Default::default(),
            write: Default::default(),
            write_slot: Default::default(),
            path_kind: Constant::new(u64::from(plan_status::HOST_PATH_ERROR >> 8).to_bits()),
            aborted: code(plan_status::ABORT_REQUESTED),
            deleted: code(plan_status::ABORTED_SQ_DELETION),
            host_path_error: code(plan_status::HOST_PATH_ERROR),
            invalid_field: code(status::INVALID_FIELD),
            transfer_error: code(status::DATA_TRANSFER_ERROR),
            out_of_range: code(status::LBA_OUT_OF_RANGE),
            compare_failure: code(plan_status::COMPARE_FAILURE),
            path_tries: Constant::new(SINGLE_TRIES.to_bits()),
            whole_grace: Constant::new(GRACE.to_bits()),
            one10: Constant::new(1u64.to_bits()),
            no_grace: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            no_paths: Constant::new(0u64.to_bits()),
            no_plan: Constant::new(0u64.to_bits()),
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
        dff_setup!(self, clock, state, resting, begins, beginning, of_path, may_pass, pathless, path_bit);
        dff_setup!(self, clock, waits);
        dff_setup!(
            self,
            clock,
            idle_register,
            admits,
            admitting,
            number_waiting,
            to_wake,
            waking,
            takes_returning,
            wakes,
            grace,
            may_wait
        );
        dff_setup!(self, clock, known, left, was_avoided, any_avoided, any_left, again_valid, part_valid);
        dff_setup!(self, clock, offered_again, done_valid, offered_done);
        clock!(self, clock, plans, avoided_queried, tries, waiting, returning, current, offered_part);
        self.waiting.reset.next = self.reset.val();
        self.returning.reset.next = self.reset.val();

        // The part that failed, and what is known of it.
        self.failed.ready.next = self.resting.q.val() & !self.waking.q.val();
        self.current.load.next = self.resting.q.val();
        self.current.d.next = self.failed.data.val();
        self.arriving.next = self.failed.data.val().part.into();
        if self.waking.q.val() {
            self.current.d.next.part = self.waiting.out.data.val();
            self.arriving.next = self.waiting.out.data.val().into();
            if self.takes_returning.q.val() {
                self.current.d.next.part = self.returning.out.data.val();
                self.arriving.next = self.returning.out.data.val().into();
            }
        }
        self.current_part.next = self.current.q.val().part.into();
        self.plans.read_address.next = bit_cast::<16, 12>(self.arriving.val().slot);
        self.tries.read_address.next = (bit_cast::<16, 12>(self.arriving.val().slot) << 3)
            | bit_cast::<16, 3>(self.arriving.val().component);
        self.avoided_queried.read_address.next = bit_cast::<16, 12>(self.query.val());
        self.avoided.next = self.avoided_queried.read_data.val();

        // What its status means.
        self.field.next = self.current.q.val().status;
        self.code.next = self.field.val().get_bits::<11>(0);
        self.kind.next = self.field.val().get_bits::<3>(8);
        self.own.next = (self.current.q.val().closed == self.flag.val());
        self.is_single.next = (self.current_part.val().single == self.flag.val());
        self.of_path.d.next = !self.own.val()
            & ((self.kind.val() == self.path_kind.val())
                | (self.code.val() == self.aborted.val())
                | (self.code.val() == self.deleted.val()));
        self.of_client.next = (self.code.val() == self.invalid_field.val())
            | (self.code.val() == self.transfer_error.val())
            | (self.code.val() == self.out_of_range.val())
            | (self.code.val() == self.compare_failure.val());
        self.retryable.next = !self.field.val().get_bit(14);
        self.may_pass.d.next =
            self.retryable.val() & !self.of_client.val() & !self.own.val() & !self.is_single.val();
        self.pathless.d.next = self.own.val() & (self.code.val() == self.host_path_error.val());
        self.path.next = self.current.q.val().path;
        self.number.next = self.path.val().get_bits::<5>(0);
        self.path_bit.d.next = (self.one32.val() << bit_cast::<32, 5>(self.number.val()));
        if (self.state.q.val() == State::Weigh) {
            self.known.d.next = self.plans.read_data.val();
            self.left.d.next = self.tries.read_data.val();
        }
        self.any_left.d.next = self.tries.read_data.val().any();
        self.was_avoided.d.next = (self.plans.read_data.val().avoided & self.path_bit.q.val()).any();
        self.any_avoided.d.next = self.plans.read_data.val().avoided.any();
        self.exhausted.next = (self.of_path.q.val() & self.was_avoided.q.val())
            | (self.pathless.q.val() & self.any_avoided.q.val());

        self.admits.d.next = self.admitted_valid.val();
        self.admitting.d.next = self.admitted_slot.val();
        self.notes.next = self.admits.q.val() | self.begins.q.val();
        // Every path was tried: the last error on one says more than that there is none.
        self.ended.next = self.current.q.val();
        if self.pathless.q.val()
            & (self.known.q.val().erred == self.flag.val())
            & (self.known.q.val().component == self.current_part.val().component)
        {
            self.ended.next.status = self.known.q.val().status;
            self.ended.next.path = self.known.q.val().path;
            self.ended.next.closed = self.clear.val();
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
        self.returning.push.next = false;
        self.returning.data.next = self.current.q.val().part;
        self.returning.out.ready.next = false;
        self.waiting.push.next = false;
        self.waiting.data.next = self.current.q.val().part;
        self.waiting.out.ready.next = false;
        match self.state.q.val() {
            State::Idle => {
                self.resting.d.next = true;
                self.wakes.d.next = self.waking.q.val();
                if self.resting.q.val() & self.waking.q.val() {
                    self.waking.d.next = false;
                    self.returning.out.ready.next = self.takes_returning.q.val();
                    if !self.takes_returning.q.val() {
                        self.waiting.out.ready.next = true;
                        self.to_wake.d.next = self.to_wake.q.val() - self.one16.val();
                        self.number_waiting.d.next = self.number_waiting.q.val() - self.one16.val();
                    }
                    self.resting.d.next = false;
                    self.state.d.next = State::Read;
                } else if self.resting.q.val() & self.failed.valid.val() {
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
                } else if self.pathless.q.val() & self.may_wait.q.val() {
                    // It waits, and then takes any path.
                    self.known.d.next.avoided = self.no_paths.val();
                    self.waits.d.next = true;
                    self.state.d.next = State::Keep;
                } else if self.of_path.q.val() & !self.was_avoided.q.val() {
                    self.known.d.next.status = self.current.q.val().status;
                    self.known.d.next.path = self.current.q.val().path;
                    self.known.d.next.component = self.current_part.val().component;
                    self.known.d.next.erred = self.flag.val();
                    self.known.d.next.avoided = self.known.q.val().avoided | self.path_bit.q.val();
                    self.state.d.next = State::Keep;
                } else if (self.exhausted.val() | (self.may_pass.q.val() & !self.of_path.q.val()))
                    & self.any_left.q.val()
                {
                    self.left.d.next = self.left.q.val() - self.one8.val();
                    self.known.d.next.avoided = self.no_paths.val();
                    self.state.d.next = State::Keep;
                }
            }
            State::Keep => {
                self.keeps.next = !self.notes.val();
                if self.keeps.val() {
                    self.state.d.next = State::Idle;
                    self.resting.d.next = true;
                    self.ending.next = true;
                    self.waits.d.next = false;
                    if self.waits.q.val() {
                        self.waiting.push.next = true;
                        self.number_waiting.d.next = self.number_waiting.q.val() + self.one16.val();
                    } else {
                        self.returning.push.next = true;
                    }
                }
            }
            State::Again => {
                // It was free when the part was taken.
                self.again_valid.d.next = true;
                self.state.d.next = State::Idle;
                self.resting.d.next = true;
                self.ending.next = true;
            }
            State::Pass => {
                if (self.current_part.val().single == self.flag.val()) {
                    if !self.done_valid.q.val() {
                        self.done_valid.d.next = true;
                        self.state.d.next = State::Idle;
                        self.resting.d.next = true;
                        self.ending.next = true;
                    }
                } else if !self.part_valid.q.val() {
                    self.part_valid.d.next = true;
                    self.state.d.next = State::Idle;
                    self.resting.d.next = true;
                    self.ending.next = true;
                }
            }
            _ => {}
        }

        // A path's entry was written: all that wait by now are tried, and once more when what was on its way then
        // has come.
        self.grace_ends.next = !self.renewing.val() & (self.grace.q.val() == self.one10.val());
        if self.renewing.val() {
            self.grace.d.next = self.whole_grace.val();
        } else if self.grace.q.val().any() {
            self.grace.d.next = self.grace.q.val() - self.one10.val();
        }
        self.may_wait.d.next = self.renewing.val() | self.grace.q.val().any();
        if !self.number_waiting.q.val().any() {
            self.to_wake.d.next = self.zero16.val();
        }
        if self.path_written.val() | self.grace_ends.val() {
            self.to_wake.d.next = self.number_waiting.q.val();
        }
        // What begins again goes after every other part that failed, or when there is none.
        self.may_wake.next = !self.again_valid.q.val()
            & (self.returning.out.valid.val() | (self.to_wake.q.val().any() & self.waiting.out.valid.val()));
        if ((self.state.q.val() == State::Idle) & !self.waking.q.val() & !self.failed.valid.val())
            | (self.ending.val() & !self.wakes.q.val())
        {
            self.waking.d.next = self.may_wake.val();
            self.takes_returning.d.next = self.returning.out.valid.val();
        }

        // Notes: a plan, else a part of one, else what has become of the part in work.
        if self.begun_valid.val() {
            self.begins.d.next = true;
            self.beginning.d.next = self.begun.val();
        } else if !self.admits.q.val() {
            self.begins.d.next = false;
        }
        self.begun_part.next = self.beginning.q.val().part.into();
        self.write.next = self.known.q.val();
        self.write_slot.next = self.current_part.val().slot;
        if self.admits.q.val() {
            self.write.next.avoided = self.no_paths.val();
            self.write.next.plan = self.no_plan.val();
            self.write.next.erred = self.clear.val();
            self.write_slot.next = self.admitting.q.val();
        } else if self.begins.q.val() {
            self.write.next.avoided = self.no_paths.val();
            self.write.next.plan = self.beginning.q.val().plan;
            self.write.next.erred = self.clear.val();
            self.write_slot.next = self.begun_part.val().slot;
        }
        self.plans.write.next = self.notes.val() | self.keeps.val();
        self.plans.write_address.next = bit_cast::<16, 12>(self.write_slot.val());
        self.plans.write_data.next = self.write.val();
        self.avoided_queried.write.next = self.notes.val() | self.keeps.val();
        self.avoided_queried.write_address.next = bit_cast::<16, 12>(self.write_slot.val());
        self.avoided_queried.write_data.next = self.write.val().avoided;
        self.tries.write.next = self.notes.val() | self.keeps.val();
        self.tries.write_address.next = (bit_cast::<16, 12>(self.current_part.val().slot) << 3)
            | bit_cast::<16, 3>(self.current_part.val().component);
        self.tries.write_data.next = self.left.q.val();
        if self.admits.q.val() {
            self.tries.write_address.next = (bit_cast::<16, 12>(self.admitting.q.val()) << 3);
            self.tries.write_data.next = self.path_tries.val();
        } else if self.begins.q.val() {
            self.tries.write_address.next = (bit_cast::<16, 12>(self.begun_part.val().slot) << 3)
                | bit_cast::<16, 3>(self.begun_part.val().component);
            self.tries.write_data.next = self.beginning.q.val().retries;
        }

        // What goes out.
        self.again.valid.next = self.again_valid.q.val();
        self.again.data.next = self.offered_again.q.val();
        self.offered_again.d.next = self.offered_again.q.val();
        if !self.again_valid.q.val() {
            self.offered_again.d.next.slot = self.current_part.val().slot;
            self.offered_again.d.next.component = self.current_part.val().component;
            self.offered_again.d.next.plan = self.known.q.val().plan;
            self.offered_again.d.next.fresh = self.clear.val();
            self.offered_again.d.next.retry = self.flag.val();
        }
        self.done.valid.next = self.done_valid.q.val();
        self.done.data.next = self.offered_done.q.val();
        self.offered_done.d.next = self.offered_done.q.val();
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
            & !self.begins.q.val()
            & (self.renewing.val() | !self.grace.q.val().any())
            & !self.to_wake.q.val().any()
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
            self.begins.d.next = false;
            self.admits.d.next = false;
            self.waits.d.next = false;
            self.waking.d.next = false;
            self.grace.d.next = self.no_grace.val();
            self.to_wake.d.next = self.zero16.val();
            self.number_waiting.d.next = self.zero16.val();
            self.part_valid.d.next = false;
            self.again_valid.d.next = false;
            self.done_valid.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
