//! Judges a run by its extent and its device: how many blocks a command may have, and whether there can
//! be one at all. Of an extent that reads as zeros, neither device nor path matters to a Read.
//!
//! No handshake. Latency: 1 cycle; the answers stay while `take` is low. Reset: no run.

use rust_hdl::prelude::*;
use volplane_abi::extent_action;

use crate::records::{DeviceEntry, ExtentEntry};

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct RunCheck {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub take: Signal<In, bool>,
    pub extent: Signal<In, ExtentEntry>,
    pub device: Signal<In, DeviceEntry>,
    pub blocks: Signal<In, Bits<17>>,
    /// What the plan is; none of them: Write. A Compare is a read that no zeros are made for.
    pub is_read: Signal<In, bool>,
    pub is_compare: Signal<In, bool>,
    pub is_zeroes: Signal<In, bool>,
    pub is_range: Signal<In, bool>,
    pub is_flush: Signal<In, bool>,
    /// A run is there.
    pub is_run: Signal<In, bool>,
    /// Nothing to judge: it is not refused here.
    pub is_closed: Signal<In, bool>,
    /// The device's usable paths.
    pub choices: Signal<In, Bits<4>>,
    /// No command: it is a run, and reads as zeros.
    pub zeros: Signal<Out, bool>,
    /// Blocks that a command may have.
    pub limit: Signal<Out, Bits<17>>,
    /// It is a run, and has more.
    pub over: Signal<Out, bool>,
    /// The opposite, from a register of its own, for the few that have to be fast.
    pub not_over: Signal<Out, bool>,
    /// No command: the extent is invalid or faults, or the device is invalid, has no limit or no usable
    /// path. Of a Flush, only the device and its paths count.
    pub refused: Signal<Out, bool>,
    /// It is refused for want of a path alone; says something while `refused`.
    pub no_path: Signal<Out, bool>,
    /// The extent is valid, and its action for the command is none that hardware executes.
    pub faults: Signal<Out, bool>,

    limit_register: DFF<Bits<17>>,
    over_register: DFF<bool>,
    not_over_register: DFF<bool>,
    path_bad: DFF<bool>,
    run_bad: DFF<bool>,
    fault_register: DFF<bool>,
    closed: DFF<bool>,
    zeros_register: DFF<bool>,
    zeros_now: Signal<Local, bool>,
    over_now: Signal<Local, bool>,
    action: Signal<Local, Bits<2>>,
    extent_bad: Signal<Local, bool>,
    limit_now: Signal<Local, Bits<17>>,
    no_limit: Signal<Local, bool>,
    go: Constant<Bits<2>>,
    zero: Constant<Bits<2>>,
    unlimited: Constant<Bits<17>>,
    none: Constant<Bits<17>>,
    no_choice: Constant<Bits<4>>,
    flag: Constant<Bits<1>>,
}

impl Default for RunCheck {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            take: Default::default(),
            extent: Default::default(),
            device: Default::default(),
            blocks: Default::default(),
            is_read: Default::default(),
            is_compare: Default::default(),
            zeros: Default::default(),
            zeros_register: Default::default(),
            zeros_now: Default::default(),
            is_zeroes: Default::default(),
            is_range: Default::default(),
            is_flush: Default::default(),
            is_closed: Default::default(),
            choices: Default::default(),
            no_path: Default::default(),
            faults: Default::default(),
            limit: Default::default(),
            over: Default::default(),
            not_over: Default::default(),
            is_run: Default::default(),
            over_now: Default::default(),
            not_over_register: Default::default(),
            refused: Default::default(),
            limit_register: Default::default(),
            over_register: Default::default(),
            path_bad: Default::default(),
            run_bad: Default::default(),
            fault_register: Default::default(),
            closed: Default::default(),
            action: Default::default(),
            extent_bad: Default::default(),
            limit_now: Default::default(),
            no_limit: Default::default(),
            go: Constant::new((extent_action::GO as u64).to_bits()),
            zero: Constant::new((extent_action::ZERO as u64).to_bits()),
            unlimited: Constant::new((volplane_abi::registers::RANGE_BLOCKS_MAX as u64).to_bits()),
            none: Constant::new(0u64.to_bits()),
            no_choice: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for RunCheck {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, limit_register, over_register, not_over_register, path_bad, run_bad, closed);
        dff_setup!(self, clock, fault_register, zeros_register);
        self.action.next = self.extent.val().write_action;
        if self.is_read.val() {
            self.action.next = self.extent.val().read_action;
        }
        self.extent_bad.next =
            (self.extent.val().valid != self.flag.val()) | (self.action.val() != self.go.val());
        self.zeros_now.next = (self.extent.val().valid == self.flag.val())
            & (self.action.val() == self.zero.val())
            & self.is_read.val()
            & !self.is_compare.val();
        // The limits are compared before one is chosen.
        self.limit_now.next = self.device.val().transfer_limit;
        self.no_limit.next = (self.device.val().transfer_limit == self.none.val());
        self.over_now.next = (self.device.val().transfer_limit < self.blocks.val());
        if self.is_zeroes.val() {
            self.over_now.next = (self.device.val().write_zeroes_limit < self.blocks.val());
            self.limit_now.next = self.device.val().write_zeroes_limit;
            self.no_limit.next = (self.device.val().write_zeroes_limit == self.none.val());
        }
        if self.is_range.val() {
            self.over_now.next = false;
            self.limit_now.next = self.unlimited.val();
            self.no_limit.next = false;
        }
        if self.take.val() {
            self.limit_register.d.next = self.limit_now.val();
            self.over_register.d.next = self.over_now.val() & self.is_run.val() & !self.zeros_now.val();
            self.not_over_register.d.next = !self.over_now.val() | !self.is_run.val() | self.zeros_now.val();
            self.path_bad.d.next = (self.choices.val() == self.no_choice.val()) & !self.zeros_now.val();
            self.run_bad.d.next = ((self.device.val().valid != self.flag.val())
                | (!self.is_flush.val() & (self.extent_bad.val() | self.no_limit.val())))
                & !self.zeros_now.val();
            self.fault_register.d.next = !self.is_flush.val()
                & (self.extent.val().valid == self.flag.val())
                & (self.action.val() != self.go.val())
                & !self.zeros_now.val();
            self.closed.d.next = self.is_closed.val();
            self.zeros_register.d.next = self.zeros_now.val() & self.is_run.val();
        }
        if self.reset.val() {
            self.over_register.d.next = false;
            self.not_over_register.d.next = true;
        }
        self.zeros.next = self.zeros_register.q.val();
        self.limit.next = self.limit_register.q.val();
        self.over.next = self.over_register.q.val();
        self.not_over.next = self.not_over_register.q.val();
        self.refused.next = !self.closed.q.val() & (self.path_bad.q.val() | self.run_bad.q.val());
        self.no_path.next = !self.run_bad.q.val();
        self.faults.next = self.fault_register.q.val();
    }
}
