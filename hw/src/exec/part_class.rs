//! What the end of a part means to its plan: `volplane_abi::plan::status_class`, after all retries.
//!
//! A status that the card gave itself is the client's own doing, but for Internal Error and Host Pathing Error,
//! which tell of the component's map and of its devices. A part that was stopped is none of these, unless it
//! had failed by then; one that hardware never began is not even that. Registered: latency 2 cycles, one a
//! cycle. No reset.

use rust_hdl::prelude::*;
use volplane_abi::plan::plan_status;
use volplane_abi::status;

use super::status_kind::StatusKind;
use super::stop_cause::{cause, DIVERT, FAULT, NOT_EXECUTABLE};
use crate::records::{Part, PartDone};

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PartClass {
    pub clock: Signal<In, Clock>,
    pub done: Signal<In, PartDone>,
    /// The part's component, in the one that fits.
    pub succeeded: Signal<Out, Bits<8>>,
    pub failed: Signal<Out, Bits<8>>,
    pub refused: Signal<Out, Bits<8>>,
    pub stopped: Signal<Out, Bits<8>>,
    /// Why it was stopped: it met an extent that faults, is not for hardware, or touches a divert range.
    pub faulted: Signal<Out, Bits<1>>,
    pub foreign: Signal<Out, Bits<1>>,
    pub diverted: Signal<Out, Bits<1>>,
    pub is_success: Signal<Out, bool>,

    succeeded_register: DFF<Bits<8>>,
    failed_register: DFF<Bits<8>>,
    refused_register: DFF<Bits<8>>,
    stopped_register: DFF<Bits<8>>,
    faulted_register: DFF<Bits<1>>,
    foreign_register: DFF<Bits<1>>,
    diverted_register: DFF<Bits<1>>,
    success_register: DFF<bool>,
    // The status, compared.
    kind: StatusKind,
    own: DFF<bool>,
    stops: DFF<bool>,
    cause: DFF<Bits<2>>,
    component_now: DFF<Bits<3>>,
    part: Signal<Local, Part>,
    component: Signal<Local, Bits<3>>,
    bit_of: Signal<Local, Bits<8>>,
    code: Signal<Local, Bits<15>>,
    code_and_type: Constant<Bits<15>>,
    internal_error: Constant<Bits<15>>,
    path_error: Constant<Bits<15>>,
    of_fault: Constant<Bits<2>>,
    of_foreign: Constant<Bits<2>>,
    of_divert: Constant<Bits<2>>,
    one: Constant<Bits<8>>,
    zero: Constant<Bits<8>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl Default for PartClass {
    fn default() -> Self {
        let code = |value: u16| Constant::new(u64::from(value).to_bits());
        Self {
            clock: Default::default(),
            done: Default::default(),
            succeeded: Default::default(),
            failed: Default::default(),
            refused: Default::default(),
            stopped: Default::default(),
            faulted: Default::default(),
            foreign: Default::default(),
            diverted: Default::default(),
            is_success: Default::default(),
            succeeded_register: Default::default(),
            failed_register: Default::default(),
            refused_register: Default::default(),
            stopped_register: Default::default(),
            faulted_register: Default::default(),
            foreign_register: Default::default(),
            diverted_register: Default::default(),
            success_register: Default::default(),
            kind: Default::default(),
            own: Default::default(),
            stops: Default::default(),
            cause: Default::default(),
            component_now: Default::default(),
            part: Default::default(),
            component: Default::default(),
            bit_of: Default::default(),
            code: Default::default(),
            code_and_type: code(status::CODE_AND_TYPE),
            internal_error: code(status::INTERNAL_ERROR),
            path_error: code(plan_status::HOST_PATH_ERROR),
            of_fault: Constant::new(cause(FAULT).to_bits()),
            of_foreign: Constant::new(cause(NOT_EXECUTABLE).to_bits()),
            of_divert: Constant::new(cause(DIVERT).to_bits()),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for PartClass {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, succeeded_register, failed_register, refused_register, success_register);
        dff_setup!(self, clock, stopped_register, faulted_register, foreign_register, diverted_register);
        dff_setup!(self, clock, own, stops, cause, component_now);
        self.kind.clock.next = self.clock.val();
        self.part.next = self.done.val().part.into();
        self.component.next = self.part.val().component;
        self.component_now.d.next = self.component.val();
        self.bit_of.next = (self.one.val() << self.component_now.q.val());
        self.kind.status.next = self.done.val().status;
        // What the card says itself is the client's doing, but for what tells of map and devices.
        self.code.next = self.done.val().status & self.code_and_type.val();
        self.own.d.next = (self.done.val().closed == self.flag.val())
            & (self.code.val() != self.internal_error.val())
            & (self.code.val() != self.path_error.val());
        self.stops.d.next =
            (self.done.val().stopped == self.flag.val()) & (self.done.val().failed == self.clear.val());
        self.cause.d.next = self.done.val().cause;
        self.succeeded_register.d.next = self.zero.val();
        self.failed_register.d.next = self.zero.val();
        self.refused_register.d.next = self.zero.val();
        self.stopped_register.d.next = self.zero.val();
        self.faulted_register.d.next =
            (self.stops.q.val() & (self.cause.q.val() == self.of_fault.val())).into();
        self.foreign_register.d.next =
            (self.stops.q.val() & (self.cause.q.val() == self.of_foreign.val())).into();
        self.diverted_register.d.next =
            (self.stops.q.val() & (self.cause.q.val() == self.of_divert.val())).into();
        self.success_register.d.next = self.kind.is_good.val() & !self.stops.q.val();
        if self.stops.q.val() {
            if (self.cause.q.val() != self.of_foreign.val()) & (self.cause.q.val() != self.of_divert.val()) {
                self.stopped_register.d.next = self.bit_of.val();
            }
        } else if self.kind.is_good.val() {
            self.succeeded_register.d.next = self.bit_of.val();
        } else if self.kind.is_of_client.val() | self.own.q.val() {
            self.refused_register.d.next = self.bit_of.val();
        } else {
            self.failed_register.d.next = self.bit_of.val();
        }
        self.succeeded.next = self.succeeded_register.q.val();
        self.failed.next = self.failed_register.q.val();
        self.refused.next = self.refused_register.q.val();
        self.stopped.next = self.stopped_register.q.val();
        self.faulted.next = self.faulted_register.q.val();
        self.foreign.next = self.foreign_register.q.val();
        self.diverted.next = self.diverted_register.q.val();
        self.is_success.next = self.success_register.q.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;
    use volplane_abi::plan::{status_class, StatusClass};

    #[test]
    fn classes_are_those_of_the_abi() {
        let mut bench = Bench::new("part_class", PartClass::default());
        for status in (0..0x8000u64).filter(|status| status & 0x3800 == 0) {
            for closed in [0, 1u64] {
                let component = status % 8;
                let done = PartDone {
                    part: (component << 12 | 0x5A5).to_bits(),
                    status: status.to_bits(),
                    closed: closed.to_bits(),
                    ..Default::default()
                };
                bench.set_record::<62>("done", done);
                bench.cycle();
                bench.cycle();
                let of_map = [status::INTERNAL_ERROR, plan_status::HOST_PATH_ERROR];
                let own = closed == 1 && !of_map.contains(&(status as u16 & 0x7FF));
                let expected = match status_class(status as u16) {
                    StatusClass::Success => [1, 0, 0],
                    StatusClass::Client => [0, 0, 1],
                    _ if own => [0, 0, 1],
                    _ => [0, 1, 0],
                };
                let found = ["succeeded", "failed", "refused"].map(|port| bench.get(port) >> component);
                assert_eq!(found, expected, "status {status:#x}, closed {closed}");
                assert_eq!(bench.get("is_success"), expected[0]);
                assert_eq!(bench.get("stopped"), 0);
            }
        }
    }

    /// Whoever was stopped has not succeeded; a failure says more.
    #[test]
    fn a_stopped_part_is_no_success() {
        let mut bench = Bench::new("part_class_stopped", PartClass::default());
        let causes = ["", "faulted", "foreign", "diverted"];
        for (number, cause) in causes.into_iter().enumerate() {
            for (status, failed) in [(0, 0), (0x281, 1u64)] {
                let done = PartDone {
                    part: (5u64 << 12 | 7).to_bits(),
                    status: u64::to_bits(status),
                    failed: failed.to_bits(),
                    stopped: 1u64.to_bits(),
                    cause: (number as u64).to_bits(),
                    ..Default::default()
                };
                bench.set_record::<62>("done", done);
                bench.cycle();
                bench.cycle();
                let sets = ["succeeded", "failed", "stopped"].map(|port| bench.get(port));
                let begun = u128::from(number < 2) << 5;
                assert_eq!(sets, if failed == 1 { [0, 1 << 5, 0] } else { [0, 0, begun] }, "{cause}");
                assert_eq!(bench.get("is_success"), 0);
                for other in &causes[1..] {
                    assert_eq!(bench.get(other) == 1, failed == 0 && *other == cause, "{cause}: {other}");
                }
            }
        }
    }
}
