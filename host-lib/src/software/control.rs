//! What the control path may do with plans and disks.
//!
//! A plan is named by its handle. The handle changes whenever the plan changes hands, so that what was
//! decided on an old record does not hit the plan as it is now: an old handle answers `Gone`.

use volplane_abi::plan::{plan_status, reason};
use volplane_abi::status::DNR;
use volplane_abi::{vd_status, ComponentEntry, ComponentStates, SubmissionEntry};
use volplane_driver::PlanHandle;

use super::cut::{admit_to, Abilities, Admission};
use super::engine::{disk_of, is_read, DataPath};
use super::pages::Memory;
use super::plan::{ClientTag, Owner, Part, Plan, Second};
use super::record::Record;
use super::template::{ComponentState, Components, PlanTemplate, TemplateError};
use super::verdict::Progress;

/// Why a call had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The handle is old: the plan has ended or changed hands.
    #[error("plan {0:?} is gone")]
    Gone(PlanHandle),
    /// The data path has the plan.
    #[error("plan {0:?} belongs to the data path")]
    NotOwned(PlanHandle),
    /// The control path has the plan already, or has asked for it.
    #[error("plan {0:?} was taken over before")]
    TakenOver(PlanHandle),
    /// The plan has ended and waits only to be released.
    #[error("plan {0:?} has ended and waits to be released")]
    Ended(PlanHandle),
    /// The plan was aborted before.
    #[error("plan {0:?} was aborted before")]
    Aborted(PlanHandle),
    /// The disk names another template than when the plan was begun: no component's result can be kept.
    #[error("plan {0:?} was begun with another template than its disk's: it can be restarted whole")]
    Replaced(PlanHandle),
    /// A component to restart that is not written to (read from) now, or one of a write that is, has no result, and
    /// was not to be restarted.
    #[error("plan {handle:?}: component {component} cannot be restarted, or must be")]
    Component {
        /// Plan.
        handle: PlanHandle,
        /// Component.
        component: usize,
    },
    /// There is no such disk.
    #[error("there is no virtual disk {0}")]
    NoDisk(u16),
    /// No slot is free.
    #[error("no plan slot is free")]
    NoSlot,
    /// The template is inconsistent.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A component's map is not of the disk's size, or has other blocks.
    #[error("component {component}: virtual disk {disk} has another size than the plan's, or other blocks")]
    Mismatch {
        /// Component.
        component: usize,
        /// Its disk.
        disk: u16,
    },
    /// The command ends at once, with this status.
    #[error("the command ends with status {0:#06x} before anything is issued")]
    Refused(u16),
}

impl ControlError {
    /// The status with which a card answers so, if it is of a plan.
    pub fn plan_status(&self) -> Option<u16> {
        Some(match self {
            Self::Gone(_) => plan_status::PLAN_GONE,
            Self::NotOwned(_) => plan_status::PLAN_NOT_OWNED,
            Self::TakenOver(_) => plan_status::PLAN_TAKEN_OVER,
            Self::Ended(_) => plan_status::PLAN_ENDED,
            Self::Aborted(_) => plan_status::PLAN_ABORTED,
            Self::Replaced(_) => plan_status::PLAN_REPLACED,
            Self::Component { .. } => plan_status::PLAN_COMPONENT,
            _ => return None,
        })
    }
}

impl DataPath {
    fn find(&self, handle: PlanHandle) -> Result<&Plan, ControlError> {
        let plan = self.plans.get(&handle.slot).filter(|plan| plan.handle == handle);
        plan.ok_or(ControlError::Gone(handle))
    }

    fn owned(&self, handle: PlanHandle) -> Result<&Plan, ControlError> {
        let plan = self.find(handle)?;
        match plan.owner {
            Owner::Control => Ok(plan),
            Owner::Accelerated => Err(ControlError::NotOwned(handle)),
            Owner::Ended(_) => Err(ControlError::Ended(handle)),
        }
    }

    /// The template of a disk's commands from now on, states included: what VAAPI does by way of the tables,
    /// in one step and without its checks of what was before.
    ///
    /// # Errors
    /// Names what is inconsistent; the old template stays.
    pub fn set_template(&mut self, disk: u16, template: PlanTemplate) -> Result<(), ControlError> {
        template.check()?;
        let of = |number: u16| self.tables.vds.get(&number.into()).filter(|vd| vd.size_blocks() > 0);
        let whole = of(disk).ok_or(ControlError::NoDisk(disk))?;
        for component in template.present().numbers() {
            let disk = template.components[component].disk;
            let fits = of(disk).is_some_and(|part| {
                part.size_blocks() == whole.size_blocks() && part.block_shift() == whole.block_shift()
            });
            if !fits {
                return Err(ControlError::Mismatch { component, disk });
            }
        }
        self.put_template(disk, &template);
        self.run_all();
        Ok(())
    }

    fn put_template(&mut self, disk: u16, template: &PlanTemplate) {
        let tables = &mut self.tables;
        let Some(vd) = tables.vds.get_mut(&disk.into()) else { return };
        if vd.plan() == 0 {
            *vd = vd.with_plan(tables.plans.keys().next_back().map_or(1, |last| last + 1));
        }
        let number = vd.plan();
        tables.plans.insert(number, template.plan_entry());
        for (place, component) in template.components.iter().enumerate() {
            let map = tables.vds.get(&component.disk.into()).copied().unwrap_or_default();
            tables.components.insert(ComponentEntry::index(number, place), component.entry(&map));
        }
        let deactivated = tables.states_of(disk).deactivated();
        let states = template.states_entry(Components::NONE).with_deactivated(deactivated);
        tables.states.insert(disk, states);
    }

    /// AP_SetStatusVD: executed, refused with Namespace Not Ready, or (quiescent) left waiting.
    ///
    /// # Errors
    /// `NoDisk`.
    pub fn set_status(&mut self, disk: u16, status: DiskStatus) -> Result<(), ControlError> {
        let vd = self.tables.vds.get_mut(&disk.into()).ok_or(ControlError::NoDisk(disk))?;
        let value =
            if status == DiskStatus::Deactivated { vd_status::DEACTIVATED } else { vd_status::ENABLED };
        *vd = vd.with_status(value);
        if status != DiskStatus::Deactivated {
            self.tables.write_states(disk, &ComponentStates::default().with_reactivate(1));
        }
        if status == DiskStatus::Quiescent {
            self.quiescent.insert(disk);
        } else {
            self.quiescent.remove(&disk);
        }
        self.run_all();
        Ok(())
    }

    /// IO_GetPlan: the oldest record.
    pub fn get_plan(&mut self) -> Option<Record> {
        let record = self.records.take(|_| true)?;
        self.run_all();
        Some(record)
    }

    /// Whether `get_plan` has any.
    pub fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// IO_GetPlanVD: the oldest record of a disk.
    pub fn get_plan_of(&mut self, disk: u16) -> Option<Record> {
        let record = self.records.take(|record| record.disk == disk)?;
        self.run_all();
        Some(record)
    }

    /// IO_GetPlanVDAllInap: the plans of a disk that the data path has.
    pub fn plans_of(&self, disk: u16) -> Vec<PlanHandle> {
        let ours = self.plans.values().filter(|plan| plan.disk == disk && plan.owner == Owner::Accelerated);
        ours.map(|plan| plan.handle).collect()
    }

    /// IO_ChgPlanVDOWNInap: the plan stops issuing, drains, and becomes the control path's.
    ///
    /// # Errors
    /// `Gone`, `TakenOver`, `Ended`, `Aborted`.
    pub fn take_over(&mut self, handle: PlanHandle) -> Result<(), ControlError> {
        let plan = self.find(handle)?;
        match plan.owner {
            _ if plan.aborted.is_some() => return Err(ControlError::Aborted(handle)),
            Owner::Control => return Err(ControlError::TakenOver(handle)),
            Owner::Ended(_) => return Err(ControlError::Ended(handle)),
            Owner::Accelerated if plan.stop & reason::TAKE_OVER != 0 => {
                return Err(ControlError::TakenOver(handle));
            }
            Owner::Accelerated => {}
        }
        self.plan(handle.slot).stop |= reason::TAKE_OVER;
        self.run();
        Ok(())
    }

    /// IO_ResubmitPlan: admits a plan anew, under the disk's template and map of now. The components of
    /// `restart` begin at their first block, the others keep their result if they are used still; the masks are
    /// applied to all. With `Components::ALL` whatever is used now begins; so it does of a write whose blocks
    /// somebody has written meanwhile, since what is kept is not on the copies any more.
    ///
    /// # Errors
    /// `Gone`, `NotOwned`, `Ended`; but for `ALL` also `Replaced`, and `Component` for one that is not written to
    /// (read from) now, or one of a write that has no result and is not to be restarted.
    pub fn resubmit(&mut self, handle: PlanHandle, restart: Components) -> Result<(), ControlError> {
        let plan = self.owned(handle)?;
        let template = self.template(plan.disk);
        let (slot, reads) = (handle.slot, is_read(&plan.entry));
        let used = if reads { template.readable() } else { template.writable() };
        let parts = plan.progress();
        let results = Components::of(|number| !matches!(parts[number], Progress::Idle | Progress::Running));
        if restart != Components::ALL {
            if plan.template_number != self.tables.template_number(plan.disk) {
                return Err(ControlError::Replaced(handle));
            }
            let left_out = if reads { Components::NONE } else { used.without(restart).without(results) };
            if let Some(component) = restart.without(used).numbers().chain(left_out.numbers()).next() {
                return Err(ControlError::Component { handle, component });
            }
        }
        let whole = restart == Components::ALL || plan.overtaken && !reads;
        let keeps = if whole { Components::NONE } else { used.and(results).without(restart) };
        let template_number = self.tables.template_number(plan.disk);
        self.give(slot, Owner::Accelerated);
        let epoch = self.epoch;
        let order = self.next_order();
        let plan = self.plan(slot);
        (plan.template, plan.epoch, plan.order) = (template, epoch, order);
        (plan.template_number, plan.deactivated) = (template_number, false);
        for number in 0..plan.parts.len() {
            if !keeps.has(number) {
                plan.parts[number] = Part::default();
            }
            // A record has told of it.
            plan.parts[number].pieces.iter_mut().for_each(|piece| piece.given_up = false);
        }
        if matches!(plan.admission, Admission::NotExecutable) {
            plan.stop = reason::NOT_EXECUTABLE;
        }
        if let Some(second) = &plan.then {
            plan.locks = Some((second.disk, second.range));
            plan.blocked = true;
        }
        if reads {
            // One at a time, as ever: the verdict asks for the first.
            self.proceed(slot);
        } else {
            self.begin_parts(slot, used.without(keeps));
            self.lock(slot);
        }
        self.run();
        Ok(())
    }

    /// Ends a plan that the control path has, or releases one that has ended, with this status.
    ///
    /// # Errors
    /// `Gone`, `NotOwned`.
    pub fn complete(&mut self, handle: PlanHandle, status: u16) -> Result<(), ControlError> {
        let plan = self.find(handle)?;
        if plan.owner == Owner::Accelerated {
            return Err(ControlError::NotOwned(handle));
        }
        let client = plan.client;
        self.close(handle.slot, client, status);
        self.run();
        Ok(())
    }

    /// Releases a plan that has ended: its client gets its status.
    ///
    /// # Errors
    /// `Gone`, `NotOwned`.
    pub fn release(&mut self, handle: PlanHandle) -> Result<(), ControlError> {
        match self.find(handle)?.owner {
            Owner::Ended(end) => self.complete(handle, end.status),
            Owner::Control | Owner::Accelerated => Err(ControlError::NotOwned(handle)),
        }
    }

    /// IO_AbortPlan: the client is released, with Command Abort Requested, when nothing of the plan is
    /// under way.
    ///
    /// # Errors
    /// `Gone`, `Aborted`.
    pub fn abort(&mut self, handle: PlanHandle) -> Result<(), ControlError> {
        let plan = self.find(handle)?;
        if plan.aborted.is_some() {
            return Err(ControlError::Aborted(handle));
        }
        match plan.owner {
            Owner::Control | Owner::Ended(_) => self.complete(handle, plan_status::ABORT_REQUESTED | DNR),
            Owner::Accelerated => {
                self.plan(handle.slot).aborted = Some(plan_status::ABORT_REQUESTED | DNR);
                self.run();
                Ok(())
            }
        }
    }

    /// IO_SubmitPlan: a command of the control path itself. It passes divert ranges and deactivated or
    /// quiescent disks, and may use the slots kept in reserve; its completion comes under queue 0.
    ///
    /// # Errors
    /// `NoSlot`; `Refused` for a command that ends at once.
    pub fn submit_plan(
        &mut self,
        command: u16,
        entry: SubmissionEntry,
        memory: &Memory<'_>,
    ) -> Result<PlanHandle, ControlError> {
        let (admission, range) = self.admit_own(&entry, memory)?;
        let foreign = matches!(admission, Admission::NotExecutable);
        let slot = self.open_own(command, entry, admission, range)?;
        if foreign {
            self.plan(slot).stop = reason::NOT_EXECUTABLE;
        }
        Ok(self.start_own(slot))
    }

    /// IO_SubmitPlan, of a copy from disk to disk: `read`, then `write` from the same memory. Writes of clients
    /// to the blocks of `write` wait until it is over, if they go to several components; earlier ones are
    /// waited for before anything is read.
    ///
    /// # Errors
    /// `NoSlot`; `Refused` if either command ends at once.
    pub fn submit_copy(
        &mut self,
        command: u16,
        read: SubmissionEntry,
        write: SubmissionEntry,
        memory: &Memory<'_>,
    ) -> Result<PlanHandle, ControlError> {
        let (admission, range) = self.admit_own(&write, memory)?;
        let second = Second { disk: disk_of(&write), entry: write, admission, range };
        let (admission, range) = self.admit_own(&read, memory)?;
        let slot = self.open_own(command, read, admission, range)?;
        self.relock();
        let plan = self.plan(slot);
        plan.locks = Some((second.disk, second.range));
        plan.blocked = true;
        plan.then = Some(Box::new(second));
        Ok(self.start_own(slot))
    }

    fn admit_own(
        &self,
        entry: &SubmissionEntry,
        memory: &Memory<'_>,
    ) -> Result<(Admission, (u64, u64)), ControlError> {
        let there = self.tables.disk(entry.namespace_id()).filter(|vd| vd.status() != vd_status::ABSENT);
        let enabled = there.map(|vd| vd.with_status(vd_status::ENABLED));
        let admission = admit_to(enabled.as_ref(), entry, memory, Abilities::ALL);
        let range = match &admission {
            Admission::Ends(status) => return Err(ControlError::Refused(*status)),
            Admission::Blocks(request) => (request.lba, request.blocks),
            Admission::Flush | Admission::NotExecutable => (0, 0),
        };
        Ok((admission, range))
    }

    fn open_own(
        &mut self,
        command: u16,
        entry: SubmissionEntry,
        admission: Admission,
        range: (u64, u64),
    ) -> Result<u16, ControlError> {
        if !self.has_slot() {
            return Err(ControlError::NoSlot);
        }
        let client = ClientTag { queue: 0, command };
        Ok(self.open(client, entry, disk_of(&entry), range, admission))
    }

    fn start_own(&mut self, slot: u16) -> PlanHandle {
        let handle = self.plans[&slot].handle;
        self.begin(slot);
        self.run();
        handle
    }

    /// Begins a new epoch and gives the one before.
    pub fn commit(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch - 1
    }

    /// Whether no plan of an epoch, or of one before, is the data path's. Plans that the control path has
    /// are quiet, and hold no epoch.
    pub fn is_closed(&self, epoch: u64) -> bool {
        !self.plans.values().any(|plan| plan.owner == Owner::Accelerated && plan.epoch <= epoch)
    }

    /// The control path has made durable that a component of a disk is out.
    ///
    /// # Errors
    /// `NoDisk`; `Template` if the component is not out.
    pub fn confirm_out(&mut self, disk: u16, component: usize) -> Result<(), ControlError> {
        let states = self.tables.states.get(&disk).copied().ok_or(ControlError::NoDisk(disk))?;
        if ComponentState::in_entry(&states, component) != ComponentState::Out {
            return Err(TemplateError::OutAndNot { component }.into());
        }
        let durable = Components(states.durably_out()).or(Components::one(component));
        self.tables.states.insert(disk, states.with_durably_out(durable.0));
        self.run_all();
        Ok(())
    }
}

/// What becomes of a disk's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskStatus {
    /// They are executed.
    Enabled,
    /// They are refused.
    Deactivated,
    /// They wait.
    Quiescent,
}
