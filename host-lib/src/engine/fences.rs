//! Fences: an SSD that does not answer in time is made quiet, so that what it was given can be given again.
//!
//! The card goes on meanwhile. Its path is closed to new commands, and what finds no other path waits, until the
//! queues were made anew, by a reset of the controller if nothing less helps. Only then does the card learn that the
//! SSD executes nothing any more of what it was given.

use volplane_abi::{table, PathEntry};
use volplane_driver::{CardError, DmaMemory, NvmeError, Platform};

use super::bring_up::{create_path, NewPath};
use super::Engine;
use crate::events::EventKind;
use crate::vaapi::{CardTables, DevicePath, Tables};

impl<P: Platform> Engine<P> {
    /// Makes the SSD at a path quiet, and the path usable again. What the SSD was given is given again, elsewhere if it
    /// is gone; where it cannot be made quiet, that stays open.
    pub(super) fn make_quiet(&mut self, path: u8) -> Result<(), CardError> {
        // Path n leads to device n.
        let Some(ssd) = self.ssds.get_mut(usize::from(path)) else { return Ok(()) };
        let (card, platform, options) = (&mut self.card, &mut self.platform, &self.part.options);
        let entry: PathEntry = card.table_record(platform, table::PATH, path.into())?;
        let closed = entry.with_valid(0);
        card.table_write(platform, table::PATH, path.into(), &closed.with_renewing(1).0)?;
        let renewed = ssd
            .renew(platform, |platform, controller| create_path(platform, card, controller, path, options));
        let device = ssd.name.clone();
        let closed = DevicePath { entry: closed, completions: None };
        let mut queue = None;
        let (to, happened) = match renewed {
            Ok(NewPath { entry, completions }) => {
                queue = completions;
                let completions = queue.as_ref().map(DmaMemory::iova);
                let entry = entry.with_valid(1);
                (DevicePath { entry, completions }, EventKind::Renewed { device })
            }
            Err(NvmeError::Gone { .. }) => (closed, EventKind::Gone { device }),
            Err(error) => (closed, EventKind::Stuck { device, reason: error.to_string() }),
        };
        CardTables { card, platform }.write(&to.entries(path))?;
        match happened {
            EventKind::Stuck { .. } => {}
            _ => card.path_quiesced(platform, path)?,
        }
        // By now the card reads the old one no more.
        if let Some(queue) = queue {
            self.completion_queues.insert(path, queue);
        }
        if matches!(happened, EventKind::Gone { .. }) {
            self.gone.insert(path);
        }
        self.part.copies.note(happened);
        Ok(())
    }
}
