//! The control path's part of the software service: it ends what the data path hands up.
//!
//! A write that missed a copy is released when the state file says that the copy is out; where that cannot be
//! written, the write fails. A plan whose component failed unforgiven ends with that failure.

use volplane_abi::plan::reason;
use volplane_abi::status::{self, DNR};
use volplane_driver::Platform;

use super::control::ControlError;
use super::record::Record;
use super::service::SoftwareEngine;
use super::template::ComponentState;
use super::verdict::Progress;
use crate::events::EventKind;
use crate::service::VdHandle;

impl<P: Platform> SoftwareEngine<P> {
    /// Ends every plan that was handed to the control path.
    pub(super) fn decide(&mut self) {
        while let Some(record) = self.data_path.get_plan() {
            self.tell(&record);
            let missed = record.reasons & reason::MISSED_WRITE != 0;
            let decided = match record.held {
                None if !record.owned => Ok(()),
                Some(_) if !missed || self.make_durable(record.disk) => self.data_path.release(record.handle),
                Some(_) => self.data_path.complete(record.handle, status::INTERNAL_ERROR | DNR),
                None => self.data_path.complete(record.handle, status_of(&record)),
            };
            // A plan is gone when an abort came between.
            debug_assert!(matches!(decided, Ok(()) | Err(ControlError::Gone(_))), "{decided:?}");
        }
    }

    /// Keeps which copies of a disk are out, and lets the data path know; whether that worked.
    fn make_durable(&mut self, disk: u16) -> bool {
        let template = self.data_path.template(disk);
        let missed = template.in_state(ComponentState::Out).without(template.durably_out);
        let kept = self.copies.make_durable(&mut self.control, &mut self.data_path, VdHandle(disk), missed);
        // The tables are this process's own, and nobody else takes a component from out.
        debug_assert!(kept.is_ok(), "{kept:?}");
        kept.unwrap_or(false)
    }

    /// What a record says, for whoever runs the service.
    fn tell(&mut self, record: &Record) {
        let disk = self.copies.name(VdHandle(record.disk));
        let mut after = None;
        while let Some((copy, found)) = record.next_exception(after) {
            after = Some(copy);
            let Progress::Failed(status) = found.progress else { continue };
            let device = found.failed_on.and_then(|(device, _)| self.paths.get(usize::from(device)));
            let device = device.map(|path| path.ssd.name.clone());
            self.copies.note(EventKind::CopyFailed { disk: disk.clone(), copy, device, status });
        }
        if record.owned {
            let (reasons, status) = (record.reason_names().join(", "), status_of(record));
            self.copies.note(EventKind::Exception { disk, reasons, status });
        }
    }
}

/// The status that is due to a plan on which the control path has to decide.
fn status_of(record: &Record) -> u16 {
    let failed = record.next_exception(None).map(|(_, component)| component.progress);
    match failed {
        _ if record.reasons & reason::NOT_EXECUTABLE != 0 => status::INVALID_FIELD | DNR,
        Some(Progress::Failed(status) | Progress::Refused(status)) => status,
        _ => status::INTERNAL_ERROR | DNR,
    }
}
