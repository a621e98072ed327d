//! Fences: an SSD that does not answer in time is made quiet, so that what it was given can be given again.
//!
//! The card goes on meanwhile. Its path is closed to new commands, and what finds no other path waits, until the
//! queues were made anew, by a reset of the controller if nothing less helps. Only then does the card learn that the
//! SSD executes nothing any more of what it was given.

use volplane_abi::{table, PathEntry};
use volplane_driver::{CardError, NvmeError, Platform};

use super::bring_up::create_path;
use super::{Engine, EngineOptions, StartError};
use crate::bring_up::{Ssd, IO_QUEUE};
use crate::events::EventKind;

/// What has become of an SSD.
enum Renewal {
    /// Quiet, with new queues.
    Renewed(PathEntry),
    /// Gone from its bus, and so quiet.
    Gone,
    /// It may still execute what it was given.
    Stuck(String),
}

impl<P: Platform> Engine<P> {
    /// Makes the SSD at a path quiet, and the path usable again. What the SSD was given is given again, elsewhere if it
    /// is gone; where it cannot be made quiet, that stays open.
    pub(super) fn fence(&mut self, path: u8) -> Result<(), CardError> {
        // Path n leads to device n.
        let Some(ssd) = self.ssds.get_mut(usize::from(path)) else { return Ok(()) };
        let (card, platform) = (&mut self.card, &mut self.platform);
        let entry: PathEntry = card.table_record(platform, table::PATH, path.into())?;
        let closed = entry.with_valid(0);
        card.table_write(platform, table::PATH, path.into(), &closed.with_renewing(1).0)?;
        let renewal = renew(platform, card, ssd, path, &self.options);
        let device = ssd.name.clone();
        let entry = match &renewal {
            Renewal::Renewed(entry) => entry.with_valid(1),
            Renewal::Gone | Renewal::Stuck(_) => closed,
        };
        card.table_write(platform, table::PATH, path.into(), &entry.0)?;
        let happened = match renewal {
            Renewal::Renewed(_) => EventKind::Renewed { device },
            Renewal::Gone => {
                self.gone.insert(path);
                EventKind::Gone { device }
            }
            Renewal::Stuck(reason) => EventKind::Stuck { device, reason },
        };
        if !matches!(happened, EventKind::Stuck { .. }) {
            card.path_quiesced(platform, path)?;
        }
        self.copies.note(happened);
        Ok(())
    }
}

fn renew<P: Platform>(
    platform: &mut P,
    card: &volplane_driver::Card<P::Function>,
    ssd: &mut Ssd<P::Function>,
    path: u8,
    options: &EngineOptions,
) -> Renewal {
    match ssd.controller.answers() {
        Err(NvmeError::Gone { .. }) => return Renewal::Gone,
        Err(error) => return Renewal::Stuck(error.to_string()),
        Ok(()) => {}
    }
    let deleted = ssd.controller.delete_io_queue_pair(platform, IO_QUEUE);
    if deleted.is_ok() {
        if let Ok(entry) = create_path(platform, card, ssd, path, options) {
            return Renewal::Renewed(entry);
        }
    }
    let reset = ssd.controller.reset(platform);
    let renewed = reset
        .map_err(|error| ssd.failed(error))
        .and_then(|()| -> Result<PathEntry, StartError> { create_path(platform, card, ssd, path, options) });
    renewed.map_or_else(|error| Renewal::Stuck(error.to_string()), Renewal::Renewed)
}
