//! The software data path, as the control path of its service reaches it.

use std::ops::Range;
use std::time::Duration;

use volplane_abi::tables::table;
use volplane_driver::{AccessError, CardError, DmaMemory, ExceptionRecord, PlanHandle, Platform};

use super::command_ring::CommandRing;
use super::repository::{refused, NAME};
use super::service::{SoftwareEngine, LOOK, OWN_COMMANDS, OWN_QUEUE};
use crate::plans::{ControlPart, Decision, PlanService};
use crate::service::{ServiceError, VdHandle};
use crate::vaapi::Tables;

impl<P: Platform> PlanService for SoftwareEngine<P> {
    type Queue = CommandRing;
    type Platform = P;
    const LOOK: Duration = LOOK;

    fn part(&mut self) -> &mut ControlPart<CommandRing> {
        &mut self.part
    }

    fn tables(&mut self) -> (&mut ControlPart<CommandRing>, impl Tables) {
        (&mut self.part, &mut self.data_path)
    }

    fn machine(&mut self) -> &mut P {
        &mut self.platform
    }

    fn memory(&mut self, bytes: usize) -> Result<DmaMemory, AccessError> {
        self.allocate_named(bytes)
    }

    fn progress(&mut self) -> Result<(), ServiceError> {
        self.pump()
    }

    fn take_records(&mut self) -> Result<Vec<ExceptionRecord>, CardError> {
        Ok(std::iter::from_fn(|| self.data_path.get_plan()).map(|record| record.exception()).collect())
    }

    /// The data path asks for a fence by an action, not by a record.
    fn fence(&mut self, path: u8) -> Result<(), CardError> {
        self.renew(path);
        Ok(())
    }

    fn obey(&mut self, plan: PlanHandle, decision: Decision) -> Result<(), CardError> {
        let data_path = &mut self.data_path;
        let obeyed = match decision {
            Decision::Release => data_path.release(plan),
            Decision::Complete(status) => data_path.complete(plan, status),
            Decision::Resubmit(restart) => data_path.resubmit(plan, restart),
            Decision::TakeOver => data_path.take_over(plan),
            Decision::Abort => data_path.abort(plan),
        };
        obeyed.map_err(|error| {
            let told = error.plan_status().and_then(|status| CardError::of_plan(NAME, plan, status));
            told.unwrap_or_else(|| refused("command", table::PLAN_STATE, plan.slot.into()))
        })
    }

    fn plans_of(&mut self, disk: VdHandle, slots: Range<u32>) -> Result<Vec<PlanHandle>, CardError> {
        let mut plans = self.data_path.plans_of(disk.0);
        plans.retain(|plan| slots.contains(&plan.slot.into()));
        Ok(plans)
    }

    fn device_name(&self, path: u8) -> Option<String> {
        // Path n leads to device n.
        self.paths.get(usize::from(path)).map(|path| path.ssd.name.clone())
    }

    fn create_own_queue(&mut self) -> Result<CommandRing, CardError> {
        Ok(CommandRing::new(OWN_QUEUE, OWN_COMMANDS))
    }
}
