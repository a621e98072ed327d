//! The plans that the data path and the control path share: VAAPI's I/O-APIs, over a card and in software.
//!
//! The service itself ends what is handed up. An application that decides instead says so for a disk
//! (`keep_exceptions`). The plans of that disk wait here, oldest first, until they are taken (`io_get_plan`), and each is
//! then given back, completed or aborted by its handle. Its client waits as long, within `EngineOptions::answer_limit`.
//!
//! A handle is of one plan in one pair of hands. One that is old, or a call that the plan's state forbids, is
//! `CardError::Plan`, and has no effect.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use volplane_abi::{table, PlanState};
use volplane_driver::{CardError, ExceptionRecord, PlanHandle};

use super::decisions::{disk_of, Decides};
use super::service::{Decision, PlanService};
use crate::service::{ServiceError, VdHandle};
use crate::software::Components;
use crate::vaapi::{read, Epoch, Tables, VaapiError};

/// Slots that are looked at before the plans in them are taken over.
const SLOTS_AT_ONCE: u32 = 32;

/// What becomes of the plans that `io_get_plan_vd_all_inap` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanOwner {
    /// They stay the data path's.
    Accelerated,
    /// They become the control path's.
    ControlPath,
}

/// Plans that wait for an application: each has its slot until it is ended, so they are no more than those.
#[derive(Debug, Default)]
pub(crate) struct KeptPlans {
    disks: BTreeSet<VdHandle>,
    waiting: VecDeque<ExceptionRecord>,
}

impl KeptPlans {
    /// Whether an application decides on this disk's plans.
    pub(super) fn keeps(&self, disk: VdHandle) -> bool {
        self.disks.contains(&disk)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, record: ExceptionRecord) {
        self.waiting.push_back(record);
    }

    /// The oldest plan that `wanted` says yes to.
    fn take(&mut self, wanted: impl Fn(&ExceptionRecord) -> bool) -> Option<ExceptionRecord> {
        let place = self.waiting.iter().position(wanted)?;
        self.waiting.remove(place)
    }

    /// A plan has changed hands.
    fn forget(&mut self, plan: PlanHandle) {
        self.waiting.retain(|record| record.handle() != plan);
    }

    /// A plan that is handed up while nobody keeps it is ended by the service, with an error.
    fn check(&self, call: &'static str, disk: VdHandle) -> Result<(), VaapiError> {
        if self.keeps(disk) {
            return Ok(());
        }
        let problem =
            format!("plans of {disk} that are handed up are ended by the engine: keep_exceptions first");
        Err(VaapiError::Argument { call, problem })
    }
}

/// Ends all plans again.
pub(crate) fn end_all_exceptions(service: &mut impl PlanService) -> Result<(), ServiceError> {
    while let Some(&disk) = service.part().kept.disks.first() {
        service.end_exceptions(disk)?;
    }
    Ok(())
}

fn obey(
    service: &mut impl PlanService,
    call: &'static str,
    plan: PlanHandle,
    decision: Decision,
) -> Result<(), VaapiError> {
    service.obey(plan, decision).map_err(|source| VaapiError::Card { call, source })?;
    service.part().kept.forget(plan);
    Ok(())
}

/// The calls on plans of the data path. See the module.
pub trait SharedPlans: PlanService {
    /// Leaves the plans of a disk that are handed up from now on to the caller. Failures of copies, and writes that wait
    /// until those are durably out, stay the service's.
    ///
    /// # Errors
    /// `NoSuchDisk`.
    fn keep_exceptions(&mut self, disk: VdHandle) -> Result<(), VaapiError> {
        let part = self.part();
        part.control.check_disk("keep_exceptions", disk)?;
        part.kept.disks.insert(disk);
        Ok(())
    }

    /// Ends the plans of a disk again, those that wait here included. A plan that was taken stays its taker's.
    ///
    /// # Errors
    /// Of the data path.
    fn end_exceptions(&mut self, disk: VdHandle) -> Result<(), ServiceError> {
        self.part().kept.disks.remove(&disk);
        while let Some(record) = self.part().kept.take(|record| disk_of(record) == disk) {
            self.end(&record)?;
        }
        Ok(())
    }

    /// IO_GetPlan: the oldest plan that was handed up, of those disks that are the caller's to decide on.
    ///
    /// # Errors
    /// Of the data path.
    fn io_get_plan(&mut self) -> Result<Option<ExceptionRecord>, ServiceError> {
        self.progress()?;
        Ok(self.part().kept.take(|_| true))
    }

    /// IO_GetPlanVD: the oldest of a disk.
    ///
    /// # Errors
    /// Of the data path.
    fn io_get_plan_vd(&mut self, disk: VdHandle) -> Result<Option<ExceptionRecord>, ServiceError> {
        self.progress()?;
        Ok(self.part().kept.take(|record| disk_of(record) == disk))
    }

    /// IO_GetPlanVDAllInap: the plans of a disk that the data path has. They are asked for one after the other, so some may
    /// have ended since. With `PlanOwner::ControlPath` those that could be taken over are listed, each of which stops
    /// issuing and is handed up when what it has issued is back, under a handle that is new then. Those that were taken
    /// over before an error are handed up all the same.
    ///
    /// # Errors
    /// `NoSuchDisk`; `Argument` where the caller does not decide on what would be handed up; of the data path.
    fn io_get_plan_vd_all_inap(
        &mut self,
        disk: VdHandle,
        owner: PlanOwner,
    ) -> Result<Vec<PlanHandle>, VaapiError> {
        const CALL: &str = "IO_GetPlanVDAllInap";
        let part = self.part();
        part.control.check_disk(CALL, disk)?;
        if owner == PlanOwner::ControlPath {
            part.kept.check(CALL, disk)?;
        }
        let card_error = |source| VaapiError::Card { call: CALL, source };
        let (mut listed, count) = (Vec::new(), part.control.slots());
        for first in (0..count).step_by(SLOTS_AT_ONCE as usize) {
            let slots = first..count.min(first + SLOTS_AT_ONCE);
            for plan in self.plans_of(disk, slots).map_err(card_error)? {
                let taken = match owner {
                    PlanOwner::Accelerated => Ok(()),
                    PlanOwner::ControlPath => self.obey(plan, Decision::TakeOver),
                };
                match taken {
                    Ok(()) => listed.push(plan),
                    // It has ended, or somebody has asked for it before.
                    Err(CardError::Plan { .. }) => {}
                    Err(error) => return Err(card_error(error)),
                }
            }
        }
        Ok(listed)
    }

    /// IO_ChgPlanVDOWNInap: the plan stops issuing and is handed up when what it has issued is back, under a handle that
    /// is new then.
    ///
    /// # Errors
    /// `Argument` where the caller does not decide on what would be handed up; of the data path.
    fn io_chg_plan_vd_own_inap(&mut self, plan: PlanHandle) -> Result<(), VaapiError> {
        const CALL: &str = "IO_ChgPlanVDOWNInap";
        let (part, mut tables) = self.tables();
        let state: PlanState = read(CALL, &mut tables, table::PLAN_STATE, plan.slot.into())?;
        if state.live() == 1 && state.generation() == plan.generation {
            part.kept.check(CALL, VdHandle(state.disk()))?;
        }
        drop(tables);
        obey(self, CALL, plan, Decision::TakeOver)
    }

    /// IO_ResubmitPlan: the data path begins the plan again, under the disk's plan and map of now. Divert ranges let it
    /// pass. The components of `restart` begin at their first block; the others keep their result if they are used
    /// still, and the masks are applied to all. With `Components::ALL` all that are used begin; so they do of a write
    /// near whose blocks somebody has written meanwhile, since what it had written may not be there any more.
    ///
    /// # Errors
    /// Of the data path, which changes nothing then. But for `Components::ALL` it refuses to restart a component that is
    /// not used now, to leave out one of a write that is and has no result, and a disk with another plan than when the
    /// plan was begun.
    fn io_resubmit_plan(&mut self, plan: PlanHandle, restart: Components) -> Result<(), VaapiError> {
        obey(self, "IO_ResubmitPlan", plan, Decision::Resubmit(restart))
    }

    /// IO_AbortPlan: the client is told that the command was aborted, when nothing of it is under way.
    ///
    /// # Errors
    /// Of the data path.
    fn io_abort_plan(&mut self, plan: PlanHandle) -> Result<(), VaapiError> {
        obey(self, "IO_AbortPlan", plan, Decision::Abort)
    }

    /// Ends a plan that the control path has with an NVMe status field. The seed has no such call.
    ///
    /// # Errors
    /// Of the data path.
    fn io_complete_plan(&mut self, plan: PlanHandle, status: u16) -> Result<(), VaapiError> {
        obey(self, "IO_CompletePlan", plan, Decision::Complete(status))
    }

    /// IO_AddDivertRange, and waits until no command is under way that was admitted before: then whatever touches these
    /// blocks is an exception. `ControlPath` has the same call, which does not wait.
    ///
    /// # Errors
    /// Those of `ControlPath`, and of `wait_epoch`: the range is there then.
    fn io_add_divert_range(
        &mut self,
        disk: VdHandle,
        blocks: Range<u64>,
        limit: Duration,
    ) -> Result<(), VaapiError> {
        let (part, mut tables) = self.tables();
        let epoch = part.control.io_add_divert_range(&mut tables, disk, blocks)?;
        drop(tables);
        self.wait_epoch(epoch, limit)
    }

    /// Waits until whatever was admitted in an epoch, or before it, has ended or is the control path's. Completions
    /// stay for `poll`.
    ///
    /// # Errors
    /// `EpochOpen` after `limit`; `Service` when the service fails.
    fn wait_epoch(&mut self, epoch: Epoch, limit: Duration) -> Result<(), VaapiError> {
        const CALL: &str = "wait_epoch";
        let closed = |service: &mut Self| service.tables().1.is_closed(epoch);
        // What is handed up meanwhile may be what others wait for.
        let late = self.look_until(limit, closed);
        let late = late.map_err(|source| VaapiError::Service { call: CALL, source })?;
        late.map_or(Ok(()), |waited| Err(VaapiError::EpochOpen { call: CALL, waited }))
    }
}

impl<S: PlanService> SharedPlans for S {}
