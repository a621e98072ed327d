//! The control path's part of the engine: it ends what the card hands up.
//!
//! A write that missed a copy is released when the state file says that the copy is out; where that cannot be
//! written, the write fails. A plan whose component failed unforgiven ends with that failure. The engine's own commands
//! pass divert ranges.

use volplane_abi::plan::{reason, RESTART_ALL};
use volplane_abi::status::{self, DNR};
use volplane_abi::ExceptionTail;
use volplane_driver::{CardError, ExceptionRecord, Platform};

use super::Engine;
use crate::events::EventKind;
use crate::service::{ServiceError, VdHandle};
use crate::software::Components;
use crate::vaapi::{CardTables, VaapiError};

/// What becomes of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// The record was all there was of it.
    Nothing,
    /// It ends as its record says.
    Release,
    /// It ends with this status.
    Complete(u16),
}

impl<P: Platform> Engine<P> {
    /// Ends every plan that the card handed to the control path, or leaves it to the application.
    pub(super) fn decide(&mut self) -> Result<(), ServiceError> {
        self.own.turn()?;
        // All that there are, which is less than the ring holds: no interrupt tells again of one that is left.
        for record in self.card.take_exceptions(usize::MAX)? {
            if record.tail.fence() == 1 {
                self.fence(record.tail.path())?;
                continue;
            }
            if self.own.is_diverted(&record) {
                let given = self.card.resubmit_plan(&mut self.platform, record.handle(), RESTART_ALL);
                unless_gone(given)?;
                continue;
            }
            self.tell(&record);
            if record.tail.owned() == 1 && self.kept.keeps(disk_of(&record)) {
                self.kept.push(record);
            } else {
                self.end(&record)?;
            }
        }
        Ok(())
    }

    /// Ends a plan as its record demands.
    pub(super) fn end(&mut self, record: &ExceptionRecord) -> Result<(), ServiceError> {
        let disk = disk_of(record);
        let decision = match self.decision(record) {
            Ok(decision) => decision,
            Err(VaapiError::Card { source, .. }) => return Err(source.into()),
            // A copy that is not out as the record said: the client is not told of a success.
            Err(error) => {
                let (disk, reason) = (self.copies.name(disk), error.to_string());
                self.copies.note(EventKind::NotDurable { disk, reason });
                Decision::Complete(status::INTERNAL_ERROR | DNR)
            }
        };
        if record.tail.owned() == 1 {
            let (reasons, status) = (record.reason_names().join(", "), status_of(record));
            self.copies.note(EventKind::Exception { disk: self.copies.name(disk), reasons, status });
        }
        let decided = match decision {
            Decision::Nothing => Ok(()),
            Decision::Release => self.card.release_plan(&mut self.platform, record.handle()),
            Decision::Complete(status) => {
                self.card.complete_plan(&mut self.platform, record.handle(), status)
            }
        };
        unless_gone(decided)
    }

    fn decision(&mut self, record: &ExceptionRecord) -> Result<Decision, VaapiError> {
        let tail = &record.tail;
        if tail.owned() == 1 {
            return Ok(Decision::Complete(status_of(record)));
        }
        if tail.held() == 0 {
            return Ok(Decision::Nothing);
        }
        let kept = tail.reasons() & reason::MISSED_WRITE == 0 || {
            let mut tables = CardTables { card: &mut self.card, platform: &mut self.platform };
            self.copies.make_durable(&mut self.control, &mut tables, disk_of(record), missed_by(tail))?
        };
        Ok(if kept { Decision::Release } else { Decision::Complete(status::INTERNAL_ERROR | DNR) })
    }

    /// What a record says, for whoever runs the service.
    fn tell(&mut self, record: &ExceptionRecord) {
        let tail = &record.tail;
        let disk = self.copies.name(disk_of(record));
        for copy in Components(tail.failed()).numbers() {
            let component = &record.components[copy];
            // Path n leads to device n.
            let ssd = self.ssds.get(usize::from(component.path())).filter(|_| component.closed() == 0);
            let (device, status) = (ssd.map(|ssd| ssd.name.clone()), component.status());
            self.copies.note(EventKind::CopyFailed { disk: disk.clone(), copy, device, status });
        }
        // Every write that misses a copy tells of it, until that is durable.
        for copy in Components(tail.out()).without(self.copies.out(disk_of(record))).numbers() {
            self.copies.note(EventKind::CopyOut { disk: disk.clone(), copy });
        }
        if tail.deactivated() == 1 {
            self.copies.note(EventKind::Deactivated { disk });
        }
    }
}

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
