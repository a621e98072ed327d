//! What becomes of plans inside the card, read off its `trace_*` ports, a cycle at a time.

use super::model::Ports;
use super::port_list::Port;
use crate::probe::{PartEnd, PlanEvent, PlanRecord, Recorder};

/// Records what happens to plans in a cycle, at a time; the outputs have settled.
pub(super) fn sample(ports: &Ports, (cycle, at_ns): (u64, u64), record: &mut Recorder<PlanRecord>) {
    let mut push = |event| record.push(PlanRecord { cycle, at_ns, event });
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
            kept: ports.byte(Port::TraceBegunKept),
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
    sample_parts(ports, &mut push);
    if ports.flag(Port::TraceDone) {
        let (slot, status) = (ports.half(Port::TraceDoneSlot), ports.half(Port::TraceDoneStatus));
        push(PlanEvent::Done { slot, status });
    }
}

/// Records what happens to the parts of plans.
fn sample_parts(ports: &Ports, push: &mut impl FnMut(PlanEvent)) {
    if ports.flag(Port::TracePartBegun) {
        push(PlanEvent::PartBegun {
            slot: ports.half(Port::TracePartBegunSlot),
            component: ports.byte(Port::TracePartBegunComponent),
            retries: ports.byte(Port::TracePartBegunRetries),
        });
    }
    if ports.flag(Port::TraceReturned) {
        push(PlanEvent::Returned {
            slot: ports.half(Port::TraceReturnedSlot),
            component: ports.byte(Port::TraceReturnedComponent),
            ordinal: ports.word(Port::TraceReturnedOrdinal),
            path: ports.byte(Port::TraceReturnedPath),
            id: ports.half(Port::TraceReturnedId),
            status: ports.half(Port::TraceReturnedStatus),
            own: ports.flag(Port::TraceReturnedOwn),
        });
    }
    if ports.flag(Port::TraceFailed) {
        push(PlanEvent::PartFailed {
            slot: ports.half(Port::TraceFailedSlot),
            component: ports.byte(Port::TraceFailedComponent),
            end: PartEnd {
                status: ports.half(Port::TraceFailedStatus),
                path: ports.byte(Port::TraceFailedPath),
                ordinal: ports.word(Port::TraceFailedOrdinal),
                closed: ports.flag(Port::TraceFailedClosed),
                given_up: ports.flag(Port::TraceFailedGivenUp),
            },
        });
    }
    if ports.flag(Port::TraceRetry) {
        push(PlanEvent::PartAgain {
            slot: ports.half(Port::TraceRetrySlot),
            component: ports.byte(Port::TraceRetryComponent),
        });
    }
    if ports.flag(Port::TraceEnded) {
        push(PlanEvent::PartEnded {
            slot: ports.half(Port::TraceEndedSlot),
            component: ports.byte(Port::TraceEndedComponent),
            end: PartEnd {
                status: ports.half(Port::TraceEndedStatus),
                path: ports.byte(Port::TraceEndedPath),
                ordinal: ports.word(Port::TraceEndedOrdinal),
                closed: ports.flag(Port::TraceEndedClosed),
                given_up: ports.flag(Port::TraceEndedGivenUp),
            },
        });
    }
    if ports.flag(Port::TraceOver) {
        push(PlanEvent::PartOver {
            slot: ports.half(Port::TraceOverSlot),
            component: ports.byte(Port::TraceOverComponent),
        });
    }
}
