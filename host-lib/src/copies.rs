//! The copies of mirrored disks, as the control path looks after them, whatever executes the disks: which are out,
//! what makes that durable, and what is told of it.

use crate::configuration::Configuration;
use crate::events::{Event, EventKind, EventLog};
use crate::out_copies::{OutCopies, StateError};
use crate::service::VdHandle;
use crate::software::Components;
use crate::vaapi::{ControlPath, Tables, VaapiError};

/// See the module's header.
pub(crate) struct Copies {
    out: OutCopies,
    /// Names of the configuration's disks.
    names: Vec<String>,
    events: EventLog,
}

impl Copies {
    /// Reads which copies of a configuration's disks are out.
    pub(crate) fn load(configuration: &Configuration) -> Result<Self, StateError> {
        let out = OutCopies::load(configuration)?;
        let names: Vec<String> = configuration.disks.iter().map(|disk| disk.name.clone()).collect();
        let mut events = EventLog::default();
        for (number, name) in names.iter().enumerate() {
            for copy in out.of(number).numbers() {
                events.note(EventKind::CopyStillOut { disk: name.clone(), copy });
            }
        }
        Ok(Self { out, names, events })
    }

    /// The copies of a disk that are durably out.
    pub(crate) fn out(&self, disk: VdHandle) -> Components {
        self.out.of(disk.0.into())
    }

    /// Name of a disk in the configuration.
    pub(crate) fn name(&self, disk: VdHandle) -> String {
        self.names.get(usize::from(disk.0)).cloned().unwrap_or_else(|| disk.to_string())
    }

    pub(crate) fn note(&mut self, kind: EventKind) {
        self.events.note(kind);
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        self.events.take()
    }

    /// Keeps that copies of a disk are out, and then tells whatever executes the disk, which holds no further
    /// writes that miss them. Whether it could be kept.
    ///
    /// # Errors
    /// Of the tables.
    pub(crate) fn make_durable(
        &mut self,
        control: &mut ControlPath,
        tables: &mut dyn Tables,
        disk: VdHandle,
        missed: Components,
    ) -> Result<bool, VaapiError> {
        let new = missed.without(self.out(disk));
        if !new.any() {
            return Ok(true);
        }
        if let Err(error) = self.out.keep(disk.0.into(), new) {
            let (disk, reason) = (self.name(disk), error.to_string());
            self.note(EventKind::NotDurable { disk, reason });
            return Ok(false);
        }
        for copy in new.numbers() {
            control.ssap_confirm_component_out(tables, disk, copy)?;
        }
        Ok(true)
    }
}
