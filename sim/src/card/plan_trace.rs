//! What becomes of plans inside the card, read off its `trace_*` ports, a cycle at a time.

use super::model::Ports;
use super::port_list::Port;
use crate::probe::{PlanEvent, PlanRecord, Recorder};

/// Records what happens to plans in a cycle; the outputs have settled.
pub(super) fn sample(ports: &Ports, cycle: u64, record: &mut Recorder<PlanRecord>) {
    let mut push = |event| record.push(PlanRecord { cycle, event });
    if ports.flag(Port::TraceAdmitted) {
        push(PlanEvent::Admitted {
            slot: ports.half(Port::TraceAdmittedSlot),
            queue: ports.byte(Port::TraceAdmittedQueue).into(),
            command_id: ports.half(Port::TraceAdmittedId),
        });
    }
    if ports.flag(Port::TraceBegun) {
        push(PlanEvent::Begun {
            slot: ports.half(Port::TraceBegunSlot),
            disk: ports.half(Port::TraceBegunDisk),
            plan: ports.half(Port::TraceBegunPlan),
            masks: ports.quad(Port::TraceBegunMasks),
            present: ports.byte(Port::TraceBegunPresent),
            readable: ports.byte(Port::TraceBegunReadable),
            begun: ports.byte(Port::TraceBegunBegun),
            minimum: ports.byte(Port::TraceBegunMinimum),
            is_read: ports.flag(Port::TraceBegunIsRead),
        });
    }
    // A change is answered cycles after it was taken, and what is done with the answer comes later still.
    if ports.flag(Port::TraceChanged) {
        push(PlanEvent::Changed {
            states: ports.half(Port::TraceChangedStates),
            durably_out: ports.byte(Port::TraceChangedDurablyOut),
            deactivated: ports.flag(Port::TraceChangedDeactivated),
        });
    }
    if ports.flag(Port::TraceChange) {
        push(PlanEvent::Change {
            slot: ports.half(Port::TraceChangeSlot),
            disk: ports.half(Port::TraceChangeDisk),
            out: ports.byte(Port::TraceChangeOut),
            deactivate: ports.flag(Port::TraceChangeDeactivate),
        });
    }
    if ports.flag(Port::TraceAgain) {
        push(PlanEvent::Again {
            slot: ports.half(Port::TraceAgainSlot),
            component: ports.byte(Port::TraceAgainComponent),
            fresh: ports.flag(Port::TraceAgainFresh),
        });
    }
    if ports.flag(Port::TraceIssued) {
        push(PlanEvent::Issued {
            slot: ports.half(Port::TraceIssuedSlot),
            component: ports.byte(Port::TraceIssuedComponent),
            ordinal: ports.word(Port::TraceIssuedOrdinal),
            path: ports.byte(Port::TraceIssuedPath),
            id: ports.half(Port::TraceIssuedId),
        });
    }
    if ports.flag(Port::TraceDone) {
        let (slot, status) = (ports.half(Port::TraceDoneSlot), ports.half(Port::TraceDoneStatus));
        push(PlanEvent::Done { slot, status });
    }
}
