//! The control path ends what is handed up, unless an application decides on it.
//!
//! A write that missed a copy is released when the state file says that the copy is out; where that cannot be
//! written, the write fails. A plan whose component failed unforgiven ends with that failure. The control path's own
//! commands pass divert ranges.

use volplane_abi::plan::reason;
use volplane_abi::status::{self, DNR};
use volplane_abi::ExceptionTail;
use volplane_driver::{CardError, ExceptionRecord};

use super::service::{Decision, PlanService};
use crate::events::EventKind;
use crate::service::{ServiceError, VdHandle};
use crate::software::Components;
use crate::vaapi::VaapiError;

/// What the control path does of itself.
pub(crate) trait Decides: PlanService {
    /// Ends every plan that was handed to the control path, or leaves it to the application.
    fn decide(&mut self) -> Result<(), ServiceError> {
        self.part().own.turn()?;
        for record in self.take_records()? {
            if record.tail.fence() == 1 {
                self.fence(record.tail.path())?;
                continue;
            }
            if self.part().own.is_diverted(&record) {
                unless_gone(self.obey(record.handle(), Decision::Resubmit(Components::ALL)))?;
                continue;
            }
            self.tell(&record);
            let kept = &mut self.part().kept;
            if record.tail.owned() == 1 && kept.keeps(disk_of(&record)) {
                kept.push(record);
            } else {
                self.end(&record)?;
            }
        }
        Ok(())
    }

    /// Ends a plan as its record demands.
    fn end(&mut self, record: &ExceptionRecord) -> Result<(), ServiceError> {
        let decision = self.decision(record);
        let copies = &mut self.part().copies;
        let disk = copies.name(disk_of(record));
        let decision = match decision {
            Ok(decision) => decision,
            Err(VaapiError::Card { source, .. }) => return Err(source.into()),
            // A copy that is not out as the record said: the client is not told of a success.
            Err(error) => {
                copies.note(EventKind::NotDurable { disk: disk.clone(), reason: error.to_string() });
                Some(Decision::Complete(status::INTERNAL_ERROR | DNR))
            }
        };
        if record.tail.owned() == 1 {
            let (reasons, status) = (record.reason_names().join(", "), status_of(record));
            copies.note(EventKind::Exception { disk, reasons, status });
        }
        decision.map_or(Ok(()), |decision| unless_gone(self.obey(record.handle(), decision)))
    }

    /// What is due to a plan; `None`: the record was all there was of it.
    fn decision(&mut self, record: &ExceptionRecord) -> Result<Option<Decision>, VaapiError> {
        let tail = &record.tail;
        if tail.owned() == 1 {
            return Ok(Some(Decision::Complete(status_of(record))));
        }
        if tail.held() == 0 {
            return Ok(None);
        }
        let kept = tail.reasons() & reason::MISSED_WRITE == 0 || {
            let (part, mut tables) = self.tables();
            part.copies.make_durable(&mut part.control, &mut tables, disk_of(record), missed_by(tail))?
        };
        Ok(Some(if kept { Decision::Release } else { Decision::Complete(status::INTERNAL_ERROR | DNR) }))
    }

    /// What a record says, for whoever runs the service.
    fn tell(&mut self, record: &ExceptionRecord) {
        let tail = &record.tail;
        let disk = self.part().copies.name(disk_of(record));
        for copy in Components(tail.failed()).numbers() {
            let component = &record.components[copy];
            let device = (component.closed() == 0).then(|| self.device_name(component.path())).flatten();
            let (disk, status) = (disk.clone(), component.status());
            self.part().copies.note(EventKind::CopyFailed { disk, copy, device, status });
        }
        // Every write that misses a copy tells of it, until that is durable.
        let copies = &mut self.part().copies;
        for copy in Components(tail.out()).without(copies.out(disk_of(record))).numbers() {
            copies.note(EventKind::CopyOut { disk: disk.clone(), copy });
        }
    }
}

impl<S: PlanService> Decides for S {}

/// Somebody else with the same card may have decided on a plan before.
fn unless_gone(decided: Result<(), CardError>) -> Result<(), ServiceError> {
    match decided {
        Ok(()) | Err(CardError::Plan { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn disk_of(record: &ExceptionRecord) -> VdHandle {
    VdHandle(record.tail.disk())
}

/// Copies that were there when the write was admitted, and do not have it.
fn missed_by(tail: &ExceptionTail) -> Components {
    Components(tail.present()).without(Components(tail.done()))
}

/// The status that is due to a plan on which the control path has to decide.
fn status_of(record: &ExceptionRecord) -> u16 {
    match record.next_exception(None) {
        _ if record.tail.reasons() & reason::NOT_EXECUTABLE != 0 => status::INVALID_FIELD | DNR,
        Some((_, component)) => component.status(),
        None => status::INTERNAL_ERROR | DNR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_component_that_went_wrong_gives_the_status() {
        let mut record = ExceptionRecord {
            command: Default::default(),
            components: Default::default(),
            tail: ExceptionTail::default().with_failed(0b100).with_refused(0b1000),
        };
        record.components[2] = record.components[2].with_status(0x281);
        record.components[3] = record.components[3].with_status(0x80);
        assert_eq!(status_of(&record), 0x281);
        record.tail = record.tail.with_failed(0);
        assert_eq!(status_of(&record), 0x80);
        record.tail = record.tail.with_refused(0);
        assert_eq!(status_of(&record), status::INTERNAL_ERROR | DNR);
        let tail = record.tail.with_reasons(reason::NOT_EXECUTABLE).with_failed(4);
        assert_eq!(status_of(&ExceptionRecord { tail, ..record }), status::INVALID_FIELD | DNR);
        assert_eq!(missed_by(&tail.with_present(0b1011).with_done(0b0010)), Components(0b1001));
    }
}
