//! What the control path may do with a plan as it is.
//!
//! The order stands at the inputs with what is kept of the plan; whether its handle is the plan's own, `fits`,
//! stands in a register of the caller. Registered: latency 1 cycle. No reset.

use rust_hdl::prelude::*;
use volplane_abi::plan::plan_status;
use volplane_abi::{control_opcode, status};

use super::plan_judge::PlanProgress;

/// What is done.
#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
pub enum OrderAction {
    /// Nothing: it is refused.
    Refuse,
    /// The plan ends, as it was to end.
    Release,
    /// It ends with the order's status.
    Complete,
    /// It ends as aborted.
    Abort,
    /// It is begun again, whole or in part.
    Resubmit,
    /// It issues nothing more, and is the control path's then,
    TakeOver,
    /// or ends as aborted.
    StopToAbort,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PlanOrders {
    pub clock: Signal<In, Clock>,
    pub opcode: Signal<In, Bits<8>>,
    pub kept: Signal<In, PlanProgress>,
    pub fits: Signal<In, bool>,
    pub action: Signal<Out, OrderAction>,
    pub answer: Signal<Out, Bits<11>>,

    action_register: DFF<OrderAction>,
    answer_register: DFF<Bits<11>>,
    owned: Signal<Local, bool>,
    held: Signal<Local, bool>,
    taken: Signal<Local, bool>,
    aborted: Signal<Local, bool>,
    release_opcode: Constant<Bits<8>>,
    complete_opcode: Constant<Bits<8>>,
    resubmit_opcode: Constant<Bits<8>>,
    take_over_opcode: Constant<Bits<8>>,
    good: Constant<Bits<11>>,
    gone: Constant<Bits<11>>,
    not_owned: Constant<Bits<11>>,
    is_taken: Constant<Bits<11>>,
    has_ended: Constant<Bits<11>>,
    is_aborted: Constant<Bits<11>>,
    flag: Constant<Bits<1>>,
}

impl Default for PlanOrders {
    fn default() -> Self {
        let answer = |value: u16| Constant::new(u64::from(value).to_bits());
        let opcode = |value: u8| Constant::new(u64::from(value).to_bits());
        Self {
            clock: Default::default(),
            opcode: Default::default(),
            kept: Default::default(),
            fits: Default::default(),
            action: Default::default(),
            answer: Default::default(),
            action_register: Default::default(),
            answer_register: Default::default(),
            owned: Default::default(),
            held: Default::default(),
            taken: Default::default(),
            aborted: Default::default(),
            release_opcode: opcode(control_opcode::PLAN_RELEASE),
            complete_opcode: opcode(control_opcode::PLAN_COMPLETE),
            resubmit_opcode: opcode(control_opcode::PLAN_RESUBMIT),
            take_over_opcode: opcode(control_opcode::PLAN_TAKE_OVER),
            good: answer(status::SUCCESS),
            gone: answer(plan_status::PLAN_GONE),
            not_owned: answer(plan_status::PLAN_NOT_OWNED),
            is_taken: answer(plan_status::PLAN_TAKEN_OVER),
            has_ended: answer(plan_status::PLAN_ENDED),
            is_aborted: answer(plan_status::PLAN_ABORTED),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for PlanOrders {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, action_register, answer_register);
        self.owned.next = (self.kept.val().owned == self.flag.val());
        self.held.next = (self.kept.val().held == self.flag.val());
        self.taken.next = (self.kept.val().taken == self.flag.val());
        self.aborted.next = (self.kept.val().aborted == self.flag.val());
        self.action_register.d.next = OrderAction::Refuse;
        self.answer_register.d.next = self.good.val();
        if !self.fits.val() {
            self.answer_register.d.next = self.gone.val();
        } else if (self.opcode.val() == self.release_opcode.val()) {
            self.action_register.d.next = OrderAction::Release;
            if !self.held.val() {
                self.answer_register.d.next = self.not_owned.val();
            }
        } else if (self.opcode.val() == self.complete_opcode.val()) {
            self.action_register.d.next = OrderAction::Complete;
            if !self.owned.val() & !self.held.val() {
                self.answer_register.d.next = self.not_owned.val();
            }
        } else if (self.opcode.val() == self.resubmit_opcode.val()) {
            self.action_register.d.next = OrderAction::Resubmit;
            if self.held.val() {
                self.answer_register.d.next = self.has_ended.val();
            } else if !self.owned.val() {
                self.answer_register.d.next = self.not_owned.val();
            }
        } else if (self.opcode.val() == self.take_over_opcode.val()) {
            self.action_register.d.next = OrderAction::TakeOver;
            if self.aborted.val() {
                self.answer_register.d.next = self.is_aborted.val();
            } else if self.held.val() {
                self.answer_register.d.next = self.has_ended.val();
            } else if self.owned.val() | self.taken.val() {
                self.answer_register.d.next = self.is_taken.val();
            }
        } else {
            self.action_register.d.next = OrderAction::StopToAbort;
            if self.owned.val() | self.held.val() {
                self.action_register.d.next = OrderAction::Abort;
            }
            if self.aborted.val() {
                self.answer_register.d.next = self.is_aborted.val();
            }
        }
        self.action.next = self.action_register.q.val();
        self.answer.next = self.answer_register.q.val();
    }
}
