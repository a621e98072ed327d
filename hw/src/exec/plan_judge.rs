//! Judges plans: gathers what has become of their components and does what the masks say.
//!
//! `begun` tells of a plan before its parts; `part` brings the end of each that succeeded, `failed` of each
//! that did not and is not tried again. Then the plan waits, reads a further copy (`again`), ends (`done`),
//! posts a record (`item`), or is held for the control path. Effects keep their order: the disk's states first
//! (`change`), then the record, which ends the plan itself when it was posted, then the client. A read goes on
//! only with a copy that is still in sync. The lock of its blocks (`unlock`) ends with the plan, or when the
//! control path gets it.
//!
//! A record says *time-out*, beside other reasons, where a component has failed since the plan was begun with a fragment
//! that was given up.
//!
//! A plan is stopped (`noted` and `stops`) when a component has failed that is not forgiven, when one met what
//! it cannot execute, or when the control path says so: nothing more of it is issued, and what was issued is
//! waited for.
//!
//! `command` is what the control path wants with a plan: its slot and generation must be those of the record, or
//! the plan is gone. Answered by a pulse `answered` with `answer`, a status.
//!
//! A resubmission begins every component again, or those that it names: the others keep what they have become, as
//! far as they are used now (`keeps`). It must name none that is not used, and of a write each that has no result,
//! and the disk must name the template of the record still (`changed_plan`). When the plan is begun, `begun` says
//! which have kept it; one of which nothing is begun is `resumed` then, and judged by what there is.
//!
//! `over` tells of each part that has ended, 2 cycles after it came.
//!
//! `single`, `lost` and `posted` are plans that end elsewhere; they go through to `done`. For the epochs: `ended_valid`
//! comes with a `done` that the card itself gave, `handed_valid` when the control path has got the plan.
//!
//! Latency from `part` to `done`: 4 cycles where everything went well, else 13 and the answer of `change` (5 in
//! the card), once more with 1 when the plan changes its disk, and what `item` and `again` make it wait.
//! Throughput: a part every 4 cycles, or in that time. Ordering: none between plans. Reset clears every plan,
//! one a cycle; `initialised` says when that is done. A command is answered 7 cycles after it comes, a resubmission in
//! part after 3 more and the answer of `change`.

use rust_hdl::prelude::*;
use volplane_abi::plan::{component_state, plan_status, reason, RESTART_ALL};
use volplane_abi::status;

use super::mask_verdict::MaskVerdict;
use super::part_class::PartClass;
use super::plan_order::{OrderAction, PlanOrders};
use super::plan_verdict::PlanVerdict;
use crate::logic_record;
use crate::prim::ram::BlockRam;
use crate::prim::register::Register;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{
    Again, DiskStates, KeptParts, Part, PartDone, PartOver, PlanBegun, PlanCommand, PlanDone, RecordItem,
    StateChange,
};
use crate::sizes::Sizes;

logic_record! {
    /// What has become of a plan; all zero but for the last three fields while its slot is free.
    PlanProgress: 105 {
        /// Components that succeeded.
        done = 8,
        /// Components that failed.
        failed = 8,
        /// Components that were refused.
        refused = 8,
        /// Components that were stopped.
        stopped = 8,
        /// Times it changed hands.
        hands = 8,
        /// 1: the control path's.
        owned = 1,
        /// 1: it has ended, and waits to be released.
        held = 1,
        /// 1: it has deactivated its disk.
        deactivated = 1,
        /// Status it is released with.
        status = 15,
        /// 1: it issues nothing more.
        halted = 1,
        /// 1: it met an extent that faults,
        faulted = 1,
        /// is of a kind that hardware does not execute,
        foreign = 1,
        /// touches a divert range,
        diverted = 1,
        /// the control path has asked for it,
        taken = 1,
        /// or has aborted it.
        aborted = 1,
        /// 1: a component has failed with a fragment that was given up.
        given_up = 1,
        /// Number of the plan that ended here last: the slot holds none while it is the number of the one that
        /// began.
        ended = 24,
        /// Components that had succeeded when that plan ended, or was given back,
        kept_done = 8,
        /// and that had failed: what those that keep their result have become, and else were refused.
        kept_failed = 8,
    }
}

logic_record! {
    /// A control command on a plan.
    PlanOrder: 84 {
        /// Opcode of the control ring.
        opcode = 8,
        /// Slot.
        slot = 12,
        /// The rest (`PlanCommand`).
        command = 64,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    Read,
    Update,
    Decide,
    /// What the disk's states are now.
    View,
    Viewed,
    /// The verdict is worked out, from the cycle on in which the states come.
    Sets,
    Find,
    Verdict,
    Act,
    /// What is to be done of it.
    Plan,
    /// Moves components out, deactivates the disk.
    Change,
    Changed,
    /// Reads the status of the component that is reported.
    StatusRead,
    StatusThere,
    Post,
    Another,
    Finish,
    /// Writes what has become of the plan.
    Keep,
    /// Whether the command's handle is that of the plan stands in a register then,
    Check,
    /// and what may be done with it.
    Weigh,
    Command,
    /// Of a resubmission in part: which components are used now stands in a register,
    Restart,
    /// and then the answer.
    Restarted,
    Refuse,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PlanJudge {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub initialised: Signal<Out, bool>,
    pub begun_valid: Signal<In, bool>,
    pub begun_slot: Signal<In, Bits<12>>,
    pub begun: Signal<In, PlanBegun>,
    pub part: StreamIn<PartDone>,
    pub failed: StreamIn<PartDone>,
    pub resumed: StreamIn<Bits<12>>,
    pub over_valid: Signal<Out, bool>,
    pub over: Signal<Out, PartOver>,
    pub single: StreamIn<PlanDone>,
    pub posted: StreamIn<PlanDone>,
    pub lost: StreamIn<PlanDone>,
    pub done: StreamOut<PlanDone>,
    pub ended_valid: Signal<Out, bool>,
    pub handed_valid: Signal<Out, bool>,
    pub handed_slot: Signal<Out, Bits<12>>,
    pub change: StreamOut<StateChange>,
    pub changed_valid: Signal<In, bool>,
    pub changed: Signal<In, DiskStates>,
    pub changed_plan: Signal<In, Bits<16>>,
    /// The plan that `change` is about.
    pub judged_slot: Signal<Out, Bits<12>>,
    pub again: StreamOut<Again>,
    /// Before a plan goes `again` that the control path has given back.
    pub keeps_valid: Signal<Out, bool>,
    pub keeps: Signal<Out, KeptParts>,
    pub unlock: StreamOut<Bits<12>>,
    pub item: StreamOut<RecordItem>,
    pub command_valid: Signal<In, bool>,
    pub command: Signal<In, PlanOrder>,
    pub answered: Signal<Out, bool>,
    pub answer: Signal<Out, Bits<11>>,
    /// What is kept of a plan from now on,
    pub noted_valid: Signal<Out, bool>,
    pub noted_slot: Signal<Out, Bits<12>>,
    pub noted: Signal<Out, PlanProgress>,
    /// and whether it issues anything more.
    pub stops: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,

    begun_records: BlockRam<PlanBegun>,
    progress: BlockRam<PlanProgress>,
    statuses: BlockRam<Bits<15>>,
    plan_verdict: PlanVerdict,
    part_class: PartClass,
    orders: PlanOrders,
    state: DFF<State>,
    current: Register<PartDone>,
    resting: DFF<bool>,
    slot: DFF<Bits<12>>,
    commanding: DFF<bool>,
    /// Nothing of the plan has ended: it is judged by what there is.
    resuming: DFF<bool>,
    command_waits: DFF<bool>,
    order: DFF<PlanOrder>,
    plan: Register<PlanBegun>,
    loading: DFF<bool>,
    kept: DFF<PlanProgress>,
    acting: DFF<MaskVerdict>,
    running: DFF<bool>,
    clean: DFF<bool>,
    end_status: DFF<Bits<15>>,
    out: DFF<Bits<8>>,
    deactivate: DFF<bool>,
    /// What `Finish` does: answers the client, gives the lock back, clears the plan.
    answers: DFF<bool>,
    own_done: DFF<PlanDone>,
    own_valid: DFF<bool>,
    /// The control path ended it.
    own_commanded: DFF<bool>,
    handed_register: DFF<bool>,
    handed_slot_register: DFF<Bits<12>>,
    unlock_slot: DFF<Bits<12>>,
    unlock_valid: DFF<bool>,
    component: DFF<Bits<3>>,
    answered_register: DFF<bool>,
    answer_register: DFF<Bits<11>>,
    cleared: DFF<Bits<13>>,
    all_cleared: DFF<bool>,

    arrives: Signal<Local, bool>,
    arriving: Signal<Local, PartDone>,
    arriving_part: Signal<Local, Part>,
    current_part: Signal<Local, Part>,
    address: Signal<Local, Bits<12>>,
    status_component: Signal<Local, Bits<3>>,
    read_progress: Signal<Local, PlanProgress>,
    read_begun: Signal<Local, PlanBegun>,
    ended: Signal<Local, Bits<8>>,
    left_running: Signal<Local, Bits<8>>,
    lowest_left: Signal<Local, Bits<3>>,
    left: Signal<Local, Bits<8>>,
    fits: Signal<Local, bool>,
    fits_register: DFF<bool>,
    beyond: Signal<Local, Bits<12>>,
    // Of a resubmission: every component begins again; those that are used now; those that keep their result.
    whole: DFF<bool>,
    used: DFF<Bits<8>>,
    replaced: DFF<bool>,
    results: DFF<Bits<8>>,
    /// It names what it must not, or does not name what it must; or the disk has another template.
    unfit: DFF<bool>,
    outdated: DFF<bool>,
    kept_parts: DFF<Bits<8>>,
    state_bits: Signal<Local, Bits<16>>,
    component_now: [Signal<Local, Bits<2>>; 8],
    readable_now: Signal<Local, Bits<8>>,
    writable_now: Signal<Local, Bits<8>>,
    restart: Signal<Local, Bits<8>>,
    astray: Signal<Local, Bits<8>>,
    left_out: Signal<Local, Bits<8>>,
    // What has become of its components before now.
    done_before: Signal<Local, Bits<8>>,
    failed_before: Signal<Local, Bits<8>>,
    refused_before: Signal<Local, Bits<8>>,
    fault_reason: Signal<Local, Bits<16>>,
    stop_reasons: Signal<Local, Bits<16>>,
    halts: Signal<Local, bool>,
    is_aborted: Signal<Local, bool>,
    keeping: Signal<Local, PlanProgress>,
    generation: Signal<Local, Bits<32>>,
    hands_next: Signal<Local, Bits<8>>,
    request: Signal<Local, PlanCommand>,
    free: Signal<Local, bool>,
    finishing: Signal<Local, bool>,
    writes: Signal<Local, bool>,
    clears: Signal<Local, bool>,
    changes: Signal<Local, bool>,
    internal_error: Constant<Bits<15>>,
    abort_requested: Constant<Bits<15>>,
    success: Constant<Bits<15>>,
    no_progress: Constant<PlanProgress>,
    no_plan: Constant<PlanBegun>,
    read_fault: Constant<Bits<16>>,
    write_fault: Constant<Bits<16>>,
    foreign_reason: Constant<Bits<16>>,
    divert_reason: Constant<Bits<16>>,
    take_over_reason: Constant<Bits<16>>,
    time_out_reason: Constant<Bits<16>>,
    no_component: Constant<Bits<3>>,
    no_reserved: Constant<Bits<2>>,
    no_reasons: Constant<Bits<16>>,
    in_sync: Constant<Bits<2>>,
    write_only: Constant<Bits<2>>,
    all_parts: Constant<Bits<8>>,
    wrong_component: Constant<Bits<11>>,
    plan_replaced: Constant<Bits<11>>,
    /// The bits of a slot that no slot has.
    beyond_mask: Constant<Bits<12>>,
    slots: Constant<Bits<13>>,
    one13: Constant<Bits<13>>,
    zero13: Constant<Bits<13>>,
    one_hand: Constant<Bits<8>>,
    one8: Constant<Bits<8>>,
    zero8: Constant<Bits<8>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl PlanJudge {
    /// A judge of 2^`slot_bits` plans.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((2..=12).contains(&sizes.slot_bits), "2^{} plan slots", sizes.slot_bits);
        let reason = |value: u16| Constant::new(u64::from(value).to_bits());
        Self {
            clock: Default::default(),
            reset: Default::default(),
            initialised: Default::default(),
            begun_valid: Default::default(),
            begun_slot: Default::default(),
            begun: Default::default(),
            part: Default::default(),
            failed: Default::default(),
            resumed: Default::default(),
            over_valid: Default::default(),
            over: Default::default(),
            single: Default::default(),
            posted: Default::default(),
            lost: Default::default(),
            done: Default::default(),
            ended_valid: Default::default(),
            handed_valid: Default::default(),
            handed_slot: Default::default(),
            change: Default::default(),
            changed_valid: Default::default(),
            changed: Default::default(),
            changed_plan: Default::default(),
            judged_slot: Default::default(),
            again: Default::default(),
            keeps_valid: Default::default(),
            keeps: Default::default(),
            unlock: Default::default(),
            item: Default::default(),
            command_valid: Default::default(),
            command: Default::default(),
            answered: Default::default(),
            answer: Default::default(),
            noted_valid: Default::default(),
            noted_slot: Default::default(),
            noted: Default::default(),
            stops: Default::default(),
            idle: Default::default(),
            begun_records: BlockRam::new(sizes.slot_bits),
            progress: BlockRam::new(sizes.slot_bits),
            statuses: BlockRam::new(sizes.slot_bits + 3),
            plan_verdict: Default::default(),
            part_class: Default::default(),
            orders: Default::default(),
            state: Default::default(),
            current: Default::default(),
            resting: Default::default(),
            slot: Default::default(),
            commanding: Default::default(),
            resuming: Default::default(),
            command_waits: Default::default(),
            order: Default::default(),
            plan: Default::default(),
            loading: Default::default(),
            kept: Default::default(),
            acting: Default::default(),
            running: Default::default(),
            clean: Default::default(),
            end_status: Default::default(),
            out: Default::default(),
            deactivate: Default::default(),
            answers: Default::default(),
            own_done: Default::default(),
            own_valid: Default::default(),
            own_commanded: Default::default(),
            handed_register: Default::default(),
            handed_slot_register: Default::default(),
            unlock_slot: Default::default(),
            unlock_valid: Default::default(),
            component: Default::default(),
            answered_register: Default::default(),
            answer_register: Default::default(),
            cleared: Default::default(),
            all_cleared: Default::default(),
            arrives: Default::default(),
            arriving: Default::default(),
            arriving_part: Default::default(),
            current_part: Default::default(),
            address: Default::default(),
            status_component: Default::default(),
            read_progress: Default::default(),
            read_begun: Default::default(),
            ended: Default::default(),
            left_running: Default::default(),
            lowest_left: Default::default(),
            left: Default::default(),
            fits: Default::default(),
            fits_register: Default::default(),
            beyond: Default::default(),
            whole: Default::default(),
            used: Default::default(),
            replaced: Default::default(),
            results: Default::default(),
            unfit: Default::default(),
            outdated: Default::default(),
            kept_parts: Default::default(),
            state_bits: Default::default(),
            component_now: Default::default(),
            readable_now: Default::default(),
            writable_now: Default::default(),
            restart: Default::default(),
            astray: Default::default(),
            left_out: Default::default(),
            done_before: Default::default(),
            failed_before: Default::default(),
            refused_before: Default::default(),
            fault_reason: Default::default(),
            stop_reasons: Default::default(),
            halts: Default::default(),
            is_aborted: Default::default(),
            keeping: Default::default(),
            generation: Default::default(),
            hands_next: Default::default(),
            request: Default::default(),
            free: Default::default(),
            finishing: Default::default(),
            writes: Default::default(),
            clears: Default::default(),
            changes: Default::default(),
            internal_error: Constant::new(u64::from(status::INTERNAL_ERROR | status::DNR).to_bits()),
            abort_requested: Constant::new(u64::from(plan_status::ABORT_REQUESTED | status::DNR).to_bits()),
            success: Constant::new(u64::from(status::SUCCESS).to_bits()),
            no_progress: Constant::new(PlanProgress::default()),
            no_plan: Constant::new(PlanBegun::default()),
            read_fault: reason(reason::READ_FAULT),
            write_fault: reason(reason::WRITE_FAULT),
            foreign_reason: reason(reason::NOT_EXECUTABLE),
            divert_reason: reason(reason::DIVERT),
            take_over_reason: reason(reason::TAKE_OVER),
            time_out_reason: reason(reason::TIME_OUT),
            no_component: Constant::new(0u64.to_bits()),
            no_reserved: Constant::new(0u64.to_bits()),
            no_reasons: Constant::new(0u64.to_bits()),
            in_sync: Constant::new(u64::from(component_state::IN_SYNC).to_bits()),
            write_only: Constant::new(u64::from(component_state::WRITE_ONLY).to_bits()),
            all_parts: Constant::new(u64::from(RESTART_ALL).to_bits()),
            wrong_component: Constant::new(u64::from(plan_status::PLAN_COMPONENT).to_bits()),
            plan_replaced: Constant::new(u64::from(plan_status::PLAN_REPLACED).to_bits()),
            beyond_mask: Constant::new((0xFFF & !((1u64 << sizes.slot_bits) - 1)).to_bits()),
            slots: Constant::new((1u64 << sizes.slot_bits).to_bits()),
            one13: Constant::new(1u64.to_bits()),
            zero13: Constant::new(0u64.to_bits()),
            one_hand: Constant::new(1u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for PlanJudge {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, state, resting, slot, commanding, command_waits, order, loading, kept);
        dff_setup!(
            self, clock, acting, running, clean, end_status, out, deactivate, answers, own_done, own_valid
        );
        dff_setup!(self, clock, unlock_slot, unlock_valid, component, answered_register, answer_register);
        dff_setup!(
            self,
            clock,
            cleared,
            all_cleared,
            fits_register,
            resuming,
            whole,
            used,
            replaced,
            results,
            unfit,
            outdated,
            kept_parts
        );
        dff_setup!(self, clock, own_commanded, handed_register, handed_slot_register);
        clock!(
            self,
            clock,
            begun_records,
            progress,
            statuses,
            plan_verdict,
            part_class,
            orders,
            current,
            plan
        );

        // What a plan was begun as.
        self.begun_records.write.next = self.begun_valid.val();
        self.begun_records.write_address.next = bit_cast::<16, 12>(self.begun_slot.val());
        self.begun_records.write_data.next = self.begun.val();
        if !self.all_cleared.q.val() {
            self.begun_records.write.next = true;
            self.begun_records.write_address.next = bit_cast::<16, 13>(self.cleared.q.val());
            self.begun_records.write_data.next = self.no_plan.val();
        }

        // The next part, or a command, which goes first. The memories are read for it in Idle.
        self.arriving.next = self.part.data.val();
        if self.failed.valid.val() {
            self.arriving.next = self.failed.data.val();
        }
        self.arriving_part.next = self.arriving.val().part.into();
        self.failed.ready.next = self.resting.q.val() & !self.command_waits.q.val();
        self.resumed.ready.next =
            self.resting.q.val() & !self.command_waits.q.val() & !self.failed.valid.val();
        self.part.ready.next = self.resting.q.val()
            & !self.command_waits.q.val()
            & !self.failed.valid.val()
            & !self.resumed.valid.val();
        self.arrives.next = self.part.valid.val() | self.failed.valid.val() | self.resumed.valid.val();
        self.current.load.next = self.resting.q.val();
        self.current.d.next = self.arriving.val();
        self.current_part.next = self.current.q.val().part.into();
        self.address.next = self.slot.q.val();
        if self.resting.q.val() {
            self.address.next = self.arriving_part.val().slot;
            if self.resumed.valid.val() & !self.failed.valid.val() {
                self.address.next = self.resumed.data.val();
            }
            if self.command_waits.q.val() {
                self.address.next = self.order.q.val().slot;
            }
        }
        self.begun_records.read_address.next = bit_cast::<16, 12>(self.address.val());
        self.progress.read_address.next = bit_cast::<16, 12>(self.address.val());
        if self.command_valid.val() {
            self.command_waits.d.next = true;
            self.order.d.next = self.command.val();
        }
        self.part_class.done.next = self.arriving.val();

        // Its plan, with what has just ended.
        self.read_begun.next = self.begun_records.read_data.val();
        self.read_progress.next = self.progress.read_data.val();
        self.plan.load.next = self.loading.q.val();
        self.plan.d.next = self.read_begun.val();
        self.loading.d.next = (self.state.q.val() == State::Read);
        self.ended.next = self.read_progress.val().done
            | self.read_progress.val().failed
            | self.read_progress.val().refused
            | self.part_class.succeeded.val()
            | self.part_class.failed.val()
            | self.part_class.refused.val()
            | self.read_progress.val().stopped
            | self.part_class.stopped.val();
        self.left_running.next = self.read_begun.val().begun & !self.ended.val();

        // Those that were not begun have kept what they were.
        self.done_before.next =
            self.read_progress.val().done | (self.read_progress.val().kept_done & self.read_begun.val().kept);
        self.failed_before.next = self.read_progress.val().failed
            | (self.read_progress.val().kept_failed & self.read_begun.val().kept);
        self.refused_before.next = self.read_progress.val().refused
            | (self.read_begun.val().kept
                & !(self.read_progress.val().kept_done | self.read_progress.val().kept_failed));

        // The statuses of failed components, and whose part is over.
        self.statuses.write.next = self.loading.q.val() & !self.commanding.q.val() & !self.resuming.q.val();
        self.over_valid.next = self.loading.q.val() & !self.commanding.q.val() & !self.resuming.q.val();
        self.over.next.disk = self.read_begun.val().disk;
        self.over.next.component = self.current_part.val().component;
        self.statuses.write_address.next = (bit_cast::<16, 12>(self.current_part.val().slot) << 3)
            | bit_cast::<16, 3>(self.current_part.val().component);
        self.statuses.write_data.next = self.current.q.val().status;
        self.status_component.next = self.acting.q.val().component;
        self.statuses.read_address.next =
            (bit_cast::<16, 12>(self.slot.q.val()) << 3) | bit_cast::<16, 3>(self.status_component.val());

        // The verdict.
        self.plan_verdict.plan.next = self.plan.q.val();
        self.plan_verdict.progress.next = self.kept.q.val();
        self.plan_verdict.states.next = self.changed.val();
        self.left.next = self.acting.q.val().left;
        self.lowest_left.next = self.no_component.val();
        for i in 0..8 {
            if self.left.val().get_bit(7 - i) {
                self.lowest_left.next = (7 - i).to_bits();
            }
        }

        // What goes out.
        self.change.valid.next = (self.state.q.val() == State::View) | (self.state.q.val() == State::Change);
        self.judged_slot.next = self.slot.q.val();
        self.change.data.next.disk = self.plan.q.val().disk;
        self.change.data.next.out = self.zero8.val();
        self.change.data.next.deactivate = self.clear.val();
        if (self.state.q.val() == State::Change) {
            self.change.data.next.out = self.out.q.val();
            self.change.data.next.deactivate = self.deactivate.q.val().into();
        }
        self.again.valid.next = (self.state.q.val() == State::Another);
        self.again.data.next.slot = self.slot.q.val();
        self.again.data.next.component = self.component.q.val();
        self.again.data.next.plan = self.plan.q.val().plan;
        self.again.data.next.fresh = self.commanding.q.val().into();
        self.again.data.next.retry = self.clear.val();
        self.hands_next.next = self.kept.q.val().hands + self.one_hand.val();
        self.generation.next = bit_cast::<32, 8>(self.kept.q.val().hands)
            | (bit_cast::<32, 24>(self.plan.q.val().sequence) << 8);
        self.keeps_valid.next = (self.state.q.val() == State::Another) & self.commanding.q.val();
        self.keeps.next.slot = self.slot.q.val();
        self.keeps.next.kept = self.kept_parts.q.val();
        self.keeps.next.plan = self.plan.q.val().plan;
        self.keeps.next.sequence = self.plan.q.val().sequence;
        self.item.valid.next = (self.state.q.val() == State::Post);
        self.item.data.next.slot = self.slot.q.val();
        self.item.data.next.generation = self.generation.val();
        self.fault_reason.next = self.write_fault.val();
        if (self.plan.q.val().is_read == self.flag.val()) {
            self.fault_reason.next = self.read_fault.val();
        }
        self.stop_reasons.next = self.no_reasons.val();
        if (self.kept.q.val().faulted == self.flag.val()) {
            self.stop_reasons.next = self.fault_reason.val();
        }
        if (self.kept.q.val().foreign == self.flag.val()) {
            self.stop_reasons.next = self.stop_reasons.val() | self.foreign_reason.val();
        }
        if (self.kept.q.val().diverted == self.flag.val()) {
            self.stop_reasons.next = self.stop_reasons.val() | self.divert_reason.val();
        }
        if (self.kept.q.val().taken == self.flag.val()) {
            self.stop_reasons.next = self.stop_reasons.val() | self.take_over_reason.val();
        }
        if (self.kept.q.val().given_up == self.flag.val()) {
            self.stop_reasons.next = self.stop_reasons.val() | self.time_out_reason.val();
        }
        self.item.data.next.reasons = self.acting.q.val().reasons | self.stop_reasons.val();
        self.item.data.next.disk = self.plan.q.val().disk;
        self.item.data.next.plan = self.plan.q.val().plan;
        self.item.data.next.epoch = self.plan.q.val().epoch;
        self.item.data.next.begun = self.plan.q.val().begun
            | self.kept.q.val().done
            | self.kept.q.val().failed
            | self.kept.q.val().refused
            | self.kept.q.val().stopped;
        self.item.data.next.stopped = self.kept.q.val().stopped;
        self.item.data.next.done = self.kept.q.val().done;
        self.item.data.next.failed = self.kept.q.val().failed;
        self.item.data.next.refused = self.kept.q.val().refused;
        self.item.data.next.readable = self.plan.q.val().readable;
        self.item.data.next.present = self.plan.q.val().present;
        self.item.data.next.out = self.acting.q.val().out;
        self.item.data.next.owned = self.kept.q.val().owned;
        self.item.data.next.held = self.kept.q.val().held;
        self.item.data.next.deactivated = self.kept.q.val().deactivated;
        self.item.data.next.completes = (!self.answers.q.val()).into();
        self.item.data.next.status = self.end_status.q.val();
        self.item.data.next.fence = self.clear.val();
        self.item.data.next.reserved = self.no_reserved.val();

        self.done.valid.next = self.own_valid.q.val()
            | self.posted.valid.val()
            | self.single.valid.val()
            | self.lost.valid.val();
        self.done.data.next = self.single.data.val();
        if self.posted.valid.val() {
            self.done.data.next = self.posted.data.val();
        }
        if self.lost.valid.val() {
            self.done.data.next = self.lost.data.val();
        }
        if self.own_valid.q.val() {
            self.done.data.next = self.own_done.q.val();
        }
        self.lost.ready.next = self.done.ready.val() & !self.own_valid.q.val();
        self.posted.ready.next = self.done.ready.val() & !self.own_valid.q.val() & !self.lost.valid.val();
        self.single.ready.next = self.done.ready.val()
            & !self.own_valid.q.val()
            & !self.lost.valid.val()
            & !self.posted.valid.val();
        self.ended_valid.next = self.done.valid.val()
            & self.done.ready.val()
            & !(self.own_valid.q.val() & self.own_commanded.q.val());
        self.handed_valid.next = self.handed_register.q.val();
        self.handed_slot.next = self.handed_slot_register.q.val();
        self.handed_register.d.next = false;
        self.handed_slot_register.d.next = self.slot.q.val();
        self.unlock.valid.next = self.unlock_valid.q.val();
        self.unlock.data.next = self.unlock_slot.q.val();
        if self.done.ready.val() {
            self.own_valid.d.next = false;
        }
        if self.unlock.ready.val() {
            self.unlock_valid.d.next = false;
        }
        self.free.next = !self.own_valid.q.val() & !self.unlock_valid.q.val();
        self.answered.next = self.answered_register.q.val();
        self.answer.next = self.answer_register.q.val();
        self.answered_register.d.next = false;

        self.request.next = self.order.q.val().command.into();
        self.restart.next = self.request.val().restart;
        self.whole.d.next = (self.restart.val() == self.all_parts.val());
        self.beyond.next = self.order.q.val().slot & self.beyond_mask.val();
        self.fits.next = (self.request.val().generation == self.generation.val())
            & (self.plan.q.val().sequence != self.kept.q.val().ended)
            & !self.beyond.val().any();
        self.fits_register.d.next = self.fits.val();
        self.orders.opcode.next = self.order.q.val().opcode;
        self.orders.kept.next = self.kept.q.val();
        self.orders.fits.next = self.fits_register.q.val();
        // What a resubmission in part may name, and must.
        self.state_bits.next = self.changed.val().states;
        self.readable_now.next = self.zero8.val();
        self.writable_now.next = self.zero8.val();
        for i in 0..8 {
            self.component_now[i].next = self.state_bits.val().get_bits::<2>(2 * i);
            if (self.component_now[i].val() == self.in_sync.val()) {
                self.readable_now.next = self.readable_now.val() | (self.one8.val() << i.to_bits::<3>());
            }
            if (self.component_now[i].val() == self.in_sync.val())
                | (self.component_now[i].val() == self.write_only.val())
            {
                self.writable_now.next = self.writable_now.val() | (self.one8.val() << i.to_bits::<3>());
            }
        }
        self.used.d.next = self.writable_now.val();
        if (self.plan.q.val().is_read == self.flag.val()) {
            self.used.d.next = self.readable_now.val();
        }
        self.replaced.d.next = (self.changed_plan.val() != self.plan.q.val().plan);
        self.results.d.next = self.kept.q.val().done | self.kept.q.val().failed | self.kept.q.val().refused;
        self.astray.next = self.restart.val() & !self.used.q.val();
        self.left_out.next = self.zero8.val();
        if (self.plan.q.val().is_read == self.clear.val()) {
            self.left_out.next = self.used.q.val() & !self.restart.val() & !self.results.q.val();
        }
        self.is_aborted.next = (self.kept.q.val().aborted == self.flag.val());
        // Whoever is stopped and goes on running says so to those that issue.
        self.halts.next = self.is_aborted.val() | (self.acting.q.val().drain == self.flag.val());
        self.finishing.next = false;
        self.writes.next = false;
        // What is written then: a plan that goes on, or that the control path has. Asks no stream, for its
        // fan-out.
        self.clears.next = (self.state.q.val() != State::Keep)
            & !self.running.q.val()
            & (self.kept.q.val().held == self.clear.val())
            & (self.kept.q.val().owned == self.clear.val());
        self.changes.next = (self.acting.q.val().deactivate == self.flag.val())
            & (self.kept.q.val().deactivated == self.clear.val());
        match self.state.q.val() {
            State::Idle => {
                self.slot.d.next = self.address.val();
                self.commanding.d.next = self.command_waits.q.val();
                self.resuming.d.next =
                    self.resumed.valid.val() & !self.failed.valid.val() & !self.command_waits.q.val();
                self.kept_parts.d.next = self.zero8.val();
                self.end_status.d.next = self.success.val();
                self.out.d.next = self.zero8.val();
                self.answers.d.next = true;
                self.resting.d.next = self.all_cleared.q.val();
                if self.resting.q.val() & (self.command_waits.q.val() | self.arrives.val()) {
                    self.command_waits.d.next = self.command_valid.val();
                    self.state.d.next = State::Read;
                    self.resting.d.next = false;
                }
            }
            State::Read => {
                self.state.d.next = State::Update;
            }
            State::Update => {
                self.kept.d.next = self.read_progress.val();
                self.state.d.next = State::Check;
                if !self.commanding.q.val() {
                    self.kept.d.next.done = self.done_before.val();
                    self.kept.d.next.failed = self.failed_before.val();
                    self.kept.d.next.refused = self.refused_before.val();
                    self.state.d.next = State::Decide;
                }
                if !self.commanding.q.val() & !self.resuming.q.val() {
                    self.kept.d.next.done = self.done_before.val() | self.part_class.succeeded.val();
                    self.kept.d.next.failed = self.failed_before.val() | self.part_class.failed.val();
                    self.kept.d.next.refused = self.refused_before.val() | self.part_class.refused.val();
                    self.kept.d.next.stopped =
                        self.read_progress.val().stopped | self.part_class.stopped.val();
                    self.kept.d.next.faulted =
                        self.read_progress.val().faulted | self.part_class.faulted.val();
                    self.kept.d.next.foreign =
                        self.read_progress.val().foreign | self.part_class.foreign.val();
                    self.kept.d.next.diverted =
                        self.read_progress.val().diverted | self.part_class.diverted.val();
                    self.kept.d.next.given_up =
                        self.read_progress.val().given_up | self.current.q.val().given_up;
                }
                self.clean.d.next = !self.read_progress.val().failed.any()
                    & !self.read_progress.val().refused.any()
                    & !self.read_progress.val().stopped.any()
                    & (self.read_progress.val().halted == self.clear.val())
                    & !self.read_begun.val().kept.any()
                    & self.part_class.is_success.val();
                self.running.d.next =
                    self.left_running.val().any() & (self.read_begun.val().is_read == self.clear.val());
            }
            State::Decide => {
                self.state.d.next = State::View;
                if self.clean.q.val() & self.running.q.val() {
                    self.writes.next = true;
                    self.state.d.next = State::Idle;
                    self.resting.d.next = true;
                } else if self.clean.q.val() & (self.plan.q.val().simple == self.flag.val()) {
                    self.finishing.next = true;
                    self.state.d.next = State::Decide;
                }
            }
            State::View => {
                if self.change.ready.val() {
                    self.state.d.next = State::Viewed;
                }
            }
            State::Viewed => {
                if self.changed_valid.val() {
                    self.state.d.next = State::Sets;
                    if self.commanding.q.val() {
                        self.state.d.next = State::Restart;
                    }
                }
            }
            State::Sets => {
                self.state.d.next = State::Find;
            }
            State::Find => {
                self.state.d.next = State::Verdict;
            }
            State::Verdict => {
                self.state.d.next = State::Act;
            }
            State::Act => {
                self.acting.d.next = self.plan_verdict.verdict.val();
                self.running.d.next = self.plan_verdict.is_running.val();
                self.state.d.next = State::Plan;
            }
            State::Plan => {
                self.deactivate.d.next = self.changes.val();
                self.component.d.next = self.lowest_left.val();
                if !self.running.q.val() {
                    self.out.d.next = self.acting.q.val().out;
                }
                if self.halts.val() {
                    self.kept.d.next.halted = self.flag.val();
                }
                self.state.d.next = State::StatusRead;
                if self.is_aborted.val() {
                    // What has become of it concerns nobody.
                    self.end_status.d.next = self.abort_requested.val();
                    self.state.d.next = State::Finish;
                    if self.running.q.val() {
                        self.state.d.next = State::Keep;
                    }
                } else if self.changes.val() | (!self.running.q.val() & self.acting.q.val().out.any()) {
                    self.state.d.next = State::Change;
                }
            }
            State::Change => {
                if self.deactivate.q.val() {
                    self.kept.d.next.deactivated = self.flag.val();
                }
                if self.change.ready.val() {
                    self.state.d.next = State::Changed;
                }
            }
            State::Changed => {
                if self.changed_valid.val() {
                    self.state.d.next = State::StatusRead;
                }
            }
            State::StatusRead => {
                // The memory was asked when the verdict stood in `acting`.
                self.state.d.next = State::StatusThere;
            }
            State::StatusThere => {
                if (self.acting.q.val().success == self.clear.val()) {
                    self.end_status.d.next = self.statuses.read_data.val();
                    if (self.acting.q.val().nobody == self.flag.val()) {
                        self.end_status.d.next = self.internal_error.val();
                    }
                }
                self.state.d.next = State::Finish;
                if self.running.q.val() {
                    self.state.d.next = State::Keep;
                } else if (self.acting.q.val().exception == self.flag.val()) {
                    self.kept.d.next.owned = self.flag.val();
                    self.kept.d.next.hands = self.hands_next.val();
                    self.state.d.next = State::Post;
                } else if (self.acting.q.val().another == self.flag.val()) {
                    self.state.d.next = State::Another;
                } else if (self.acting.q.val().held == self.flag.val()) {
                    self.kept.d.next.held = self.flag.val();
                    self.kept.d.next.hands = self.hands_next.val();
                    self.state.d.next = State::Post;
                } else if (self.acting.q.val().reasons != self.no_reasons.val()) {
                    self.answers.d.next = false;
                    self.state.d.next = State::Post;
                }
            }
            State::Post => {
                self.kept.d.next.status = self.end_status.q.val();
                if self.item.ready.val() {
                    self.state.d.next = State::Finish;
                }
            }
            State::Another => {
                if self.again.ready.val() {
                    self.state.d.next = State::Keep;
                    if self.commanding.q.val() {
                        self.writes.next = true;
                        self.state.d.next = State::Idle;
                        self.resting.d.next = true;
                    }
                }
            }
            State::Finish => {
                self.finishing.next = true;
            }
            State::Keep => {
                self.writes.next = true;
                self.state.d.next = State::Idle;
                self.resting.d.next = true;
            }
            State::Check => {
                self.state.d.next = State::Weigh;
            }
            State::Weigh => {
                self.state.d.next = State::Command;
            }
            State::Command => {
                self.running.d.next = false;
                self.answered_register.d.next = true;
                self.answer_register.d.next = self.orders.answer.val();
                self.end_status.d.next = self.kept.q.val().status;
                // Its record was posted: neither is posted again.
                self.kept.d.next.held = self.clear.val();
                self.kept.d.next.owned = self.clear.val();
                self.state.d.next = State::Finish;
                if (self.orders.action.val() == OrderAction::Complete) {
                    self.end_status.d.next = self.request.val().status;
                } else if (self.orders.action.val() == OrderAction::Abort) {
                    self.end_status.d.next = self.abort_requested.val();
                } else if (self.orders.action.val() == OrderAction::Resubmit) {
                    self.state.d.next = State::Another;
                    if !self.whole.q.val() {
                        self.answered_register.d.next = false;
                        self.state.d.next = State::View;
                    }
                } else if (self.orders.action.val() == OrderAction::TakeOver) {
                    self.kept.d.next.taken = self.flag.val();
                    self.kept.d.next.halted = self.flag.val();
                    self.state.d.next = State::Keep;
                } else if (self.orders.action.val() == OrderAction::StopToAbort) {
                    self.kept.d.next.aborted = self.flag.val();
                    self.kept.d.next.halted = self.flag.val();
                    self.state.d.next = State::Keep;
                }
                if self.orders.answer.val().any() {
                    self.answered_register.d.next = true;
                    self.state.d.next = State::Refuse;
                }
            }
            State::Restart => {
                self.kept_parts.d.next = self.results.q.val() & self.used.q.val() & !self.restart.val();
                self.unfit.d.next = self.astray.val().any() | self.left_out.val().any();
                self.outdated.d.next = self.replaced.q.val();
                self.state.d.next = State::Restarted;
            }
            State::Restarted => {
                self.answered_register.d.next = true;
                self.state.d.next = State::Another;
                if self.unfit.q.val() {
                    self.answer_register.d.next = self.wrong_component.val();
                }
                if self.outdated.q.val() {
                    self.answer_register.d.next = self.plan_replaced.val();
                }
                if self.unfit.q.val() | self.outdated.q.val() {
                    self.state.d.next = State::Refuse;
                }
            }
            State::Refuse => {
                self.state.d.next = State::Idle;
                self.resting.d.next = true;
            }
            _ => {}
        }
        // The end: for its client, unless the record tells it, or for the control path.
        if self.finishing.val() & self.free.val() {
            self.writes.next = true;
            self.state.d.next = State::Idle;
            self.resting.d.next = true;
            self.unlock_slot.d.next = self.slot.q.val();
            self.unlock_valid.d.next =
                (self.plan.q.val().locked == self.flag.val()) & !self.commanding.q.val();
            self.own_valid.d.next = self.answers.q.val() & self.clears.val();
            self.handed_register.d.next = !self.clears.val();
        }
        self.own_done.d.next = self.own_done.q.val();
        if !self.own_valid.q.val() {
            self.own_done.d.next.slot = self.slot.q.val();
            self.own_done.d.next.status = self.end_status.q.val();
            self.own_commanded.d.next = self.commanding.q.val();
        }

        self.progress.write.next = self.writes.val();
        self.progress.write_address.next = bit_cast::<16, 12>(self.slot.q.val());
        self.keeping.next = self.kept.q.val();
        if self.clears.val() {
            self.keeping.next = self.no_progress.val();
            self.keeping.next.ended = self.plan.q.val().sequence;
            self.keeping.next.kept_done = self.kept.q.val().done;
            self.keeping.next.kept_failed = self.kept.q.val().failed;
        }
        self.progress.write_data.next = self.keeping.val();
        // Nothing of a plan is under way that the control path has.
        self.stops.next = (self.kept.q.val().halted == self.flag.val())
            & (self.kept.q.val().owned == self.clear.val())
            & !self.clears.val();
        self.noted_valid.next = self.writes.val();
        self.noted_slot.next = self.slot.q.val();
        self.noted.next = self.keeping.val();
        if !self.all_cleared.q.val() {
            self.progress.write.next = true;
            self.progress.write_address.next = bit_cast::<16, 13>(self.cleared.q.val());
            self.progress.write_data.next = self.no_progress.val();
            self.noted_valid.next = true;
            self.noted_slot.next = bit_cast::<12, 13>(self.cleared.q.val());
            self.noted.next = self.no_progress.val();
            self.stops.next = false;
            self.cleared.d.next = self.cleared.q.val() + self.one13.val();
            self.all_cleared.d.next = (self.cleared.q.val() == self.slots.val());
        }
        self.initialised.next = self.all_cleared.q.val();
        self.idle.next = self.resting.q.val()
            & !self.arrives.val()
            & !self.command_valid.val()
            & !self.command_waits.q.val()
            & !self.own_valid.q.val()
            & !self.unlock_valid.q.val()
            & !self.handed_register.q.val()
            & !self.answered_register.q.val();

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.resting.d.next = false;
            self.command_waits.d.next = false;
            self.own_valid.d.next = false;
            self.unlock_valid.d.next = false;
            self.handed_register.d.next = false;
            self.answered_register.d.next = false;
            self.loading.d.next = false;
            self.cleared.d.next = self.zero13.val();
            self.all_cleared.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
