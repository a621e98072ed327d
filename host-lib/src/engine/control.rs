//! The card, as its control path reaches it.

use std::ops::Range;
use std::time::Duration;

use volplane_driver::{
    AccessError, CardError, ClientQueue, DmaMemory, ExceptionRecord, PlanHandle, Platform, QueueSlots,
};

use super::bring_up::CLIENT;
use super::Engine;
use crate::events::EventKind;
use crate::plans::{ControlPart, Decides, Decision, PlanService};
use crate::service::{ServiceError, VdHandle};
use crate::vaapi::{CardTables, Tables};

/// Entries of the engine's own queue: commands that are under way at once.
const OWN_ENTRIES: u16 = 256;

impl<P: Platform> PlanService for Engine<P> {
    type Queue = ClientQueue<P::Function>;
    type Platform = P;
    const LOOK: Duration = Duration::from_micros(50);

    fn part(&mut self) -> &mut ControlPart<Self::Queue> {
        &mut self.part
    }

    fn tables(&mut self) -> (&mut ControlPart<Self::Queue>, impl Tables) {
        (&mut self.part, CardTables { card: &mut self.card, platform: &mut self.platform })
    }

    fn machine(&mut self) -> &mut P {
        &mut self.platform
    }

    fn memory(&mut self, bytes: usize) -> Result<DmaMemory, AccessError> {
        self.platform.allocate(bytes)
    }

    fn progress(&mut self) -> Result<(), ServiceError> {
        // What it failed on stays undecided.
        self.decide().inspect_err(|_| self.dispatcher.stop())
    }

    fn take_records(&mut self) -> Result<Vec<ExceptionRecord>, CardError> {
        // They are fewer than the ring holds, and no interrupt tells again of one that is left.
        let records = self.card.take_exceptions(usize::MAX)?;
        for record in records.iter().filter(|record| record.tail.deactivated() == 1) {
            let copies = &mut self.part.copies;
            copies.note(EventKind::Deactivated { disk: copies.name(VdHandle(record.tail.disk())) });
        }
        Ok(records)
    }

    fn fence(&mut self, path: u8) -> Result<(), CardError> {
        self.make_quiet(path)
    }

    fn obey(&mut self, plan: PlanHandle, decision: Decision) -> Result<(), CardError> {
        let (card, platform) = (&mut self.card, &mut self.platform);
        match decision {
            Decision::Release => card.release_plan(platform, plan),
            Decision::Complete(status) => card.complete_plan(platform, plan, status),
            Decision::Resubmit(restart) => card.resubmit_plan(platform, plan, restart.0),
            Decision::TakeOver => card.take_over_plan(platform, plan),
            Decision::Abort => card.abort_plan(platform, plan),
        }
    }

    fn plans_of(&mut self, disk: VdHandle, slots: Range<u32>) -> Result<Vec<PlanHandle>, CardError> {
        self.card.plans_of(&mut self.platform, disk.0, slots)
    }

    fn device_name(&self, path: u8) -> Option<String> {
        // Path n leads to device n.
        self.ssds.get(usize::from(path)).map(|ssd| ssd.name.clone())
    }

    fn create_own_queue(&mut self) -> Result<Self::Queue, CardError> {
        // The last one: those of clients are counted from 1.
        let number = self.card.capabilities().queues.saturating_sub(1) as u16;
        // Clients that hold all slots that are theirs do not keep it from working.
        let slots = QueueSlots { most: 0, reserve: true };
        self.card.create_queue_within(&mut self.platform, number, OWN_ENTRIES, None, CLIENT, slots)
    }
}
