//! I/O plans: the components of a disk, their masks, and what has become of them.
//!
//! A plan in use is never written over: a changed one is another entry, to which the disk's entry is
//! switched, and the old one is retired. The states of components belong to the card as well, which moves a
//! component out at any time: these calls set the states of components that come and go, leave those
//! of components that stay, and say so when the card was quicker.

use volplane_abi::plan::COMPONENTS_MAX;
use volplane_abi::tables::table;
use volplane_abi::{ComponentEntry, ComponentStates, PlanEntry, PlanState, VdEntry};

use super::plan_error::PlanError;
use super::{read, write, ControlPath, Epoch, Retired, TableEntry, Tables, VaapiError};
use crate::service::VdHandle;
use crate::software::{Component, ComponentState, Components, MaskSet, PlanTemplate, ReadPolicy};

/// The commands that a mask speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanUse {
    /// Read and Compare.
    Reads,
    /// All others.
    Writes,
}

/// A parameter of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanParam {
    /// Ticks after which a fragment is not waited for; 0: for ever.
    TimeOut(u32),
    /// How often a fragment is given again before the component has failed.
    Retries(u8),
}

/// A change of a plan's components, for `ssap_modify_io_plan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanChange {
    /// A component more, in a position that is free: write-only, as a copy that has to be brought up to
    /// date. Its failures are forgiven and logged until the mask calls say otherwise.
    Add {
        /// Position.
        component: usize,
        /// The disk whose map it is.
        map: VdHandle,
        /// As `PlanParam::TimeOut`.
        time_out: u32,
        /// As `PlanParam::Retries`.
        retries: u8,
    },
    /// A component less. Its position is a hole, and the masks forget it; the hole is free for another when the
    /// commands of before have ended, those included that the control path has.
    Remove {
        /// Position.
        component: usize,
    },
}

fn states_write(disk: VdHandle, entry: ComponentStates) -> TableEntry {
    TableEntry::new(table::STATES, disk.0.into(), &entry.0)
}

/// Clears the states of a disk, whatever they were.
pub(super) fn states_cleared(disk: VdHandle) -> TableEntry {
    let clear = ComponentStates::default().with_select(0xFF).with_durably_out(0xFF).with_reactivate(1);
    states_write(disk, clear)
}

/// Ends the deactivation of a disk by a failure.
pub(super) fn reactivated(disk: VdHandle) -> TableEntry {
    states_write(disk, ComponentStates::default().with_reactivate(1))
}

impl ControlPath {
    /// SSRI_GetIOPlan: a disk's plan and the states of its components, as the card has them.
    pub fn ssri_get_io_plan(
        &self,
        tables: &mut dyn Tables,
        disk: VdHandle,
    ) -> Result<PlanTemplate, VaapiError> {
        let plan = self.plan_of("SSRI_GetIOPlan", tables, disk)?;
        Ok(plan.unwrap_or_else(|| PlanTemplate::single(disk.0)))
    }

    /// SSAP_SetIOPlan: what the commands of a disk become. Components that the disk's plan has already, in the
    /// same position and with the same map, keep their state, of which the card knows more; new ones get
    /// that of `plan`. Commands under way keep the plan they were admitted with.
    pub fn ssap_set_io_plan(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        plan: &PlanTemplate,
    ) -> Result<Epoch, VaapiError> {
        const CALL: &str = "SSAP_SetIOPlan";
        let old = self.plan_of(CALL, tables, disk)?;
        self.replace(CALL, tables, disk, old.as_ref(), plan)
    }

    /// SSAP_ModifyIOPlan: a component more or less.
    pub fn ssap_modify_io_plan(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        change: PlanChange,
    ) -> Result<Epoch, VaapiError> {
        self.modify("SSAP_ModifyIOPlan", tables, disk, |plan| match change {
            PlanChange::Add { component, map, time_out, retries } => {
                let place = plan.components.get_mut(component).ok_or(PlanError::NoComponent(component))?;
                if place.state != ComponentState::Absent {
                    return Err(PlanError::Taken(component));
                }
                *place = Component { disk: map.0, state: ComponentState::WriteOnly, time_out, retries };
                let bit = Components::one(component);
                plan.durably_out = plan.durably_out.without(bit);
                for masks in [&mut plan.read, &mut plan.write] {
                    masks.continuation = masks.continuation.or(bit);
                    masks.log = masks.log.or(bit);
                }
                Ok(())
            }
            PlanChange::Remove { component } => {
                present(plan, component)?;
                let bit = Components::one(component);
                plan.components[component] = Component::default();
                plan.durably_out = plan.durably_out.or(bit);
                for masks in [&mut plan.read, &mut plan.write] {
                    *masks = without(masks, bit);
                }
                if plan.read_policy == ReadPolicy::Preferred(component as u8) {
                    let lowest = plan.present().numbers().next().unwrap_or(0);
                    plan.read_policy = ReadPolicy::Preferred(lowest as u8);
                }
                Ok(())
            }
        })
    }

    /// PERI_GetIOPlanParam: the parameters of a component, as the card has them.
    pub fn peri_get_io_plan_param(
        &self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        component: usize,
    ) -> Result<[PlanParam; 2], VaapiError> {
        const CALL: &str = "PERI_GetIOPlanParam";
        let plan = self.plan_of(CALL, tables, disk)?.unwrap_or_else(|| PlanTemplate::single(disk.0));
        present(&plan, component).map_err(|source| VaapiError::Plan { call: CALL, disk, source })?;
        let Component { time_out, retries, .. } = plan.components[component];
        Ok([PlanParam::TimeOut(time_out), PlanParam::Retries(retries)])
    }

    /// PEAP_SetIOPlanParam: a parameter of a component.
    pub fn peap_set_io_plan_param(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        component: usize,
        param: PlanParam,
    ) -> Result<Epoch, VaapiError> {
        self.modify("PEAP_SetIOPlanParam", tables, disk, |plan| {
            present(plan, component)?;
            match param {
                PlanParam::TimeOut(ticks) => plan.components[component].time_out = ticks,
                PlanParam::Retries(retries) => plan.components[component].retries = retries,
            }
            Ok(())
        })
    }

    /// PEAP_IOPlanContinuationMask: the components whose failure the others survive.
    pub fn peap_io_plan_continuation_mask(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        of: PlanUse,
        mask: Components,
    ) -> Result<Epoch, VaapiError> {
        self.modify("PEAP_IOPlanContinuationMask", tables, disk, |plan| {
            masks_of(plan, of).continuation = mask;
            Ok(())
        })
    }

    /// PEAP_IOPlanSuccessMask: the components whose failure fails the command, unless it is a read.
    pub fn peap_io_plan_success_mask(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        mask: Components,
    ) -> Result<Epoch, VaapiError> {
        self.modify("PEAP_IOPlanSuccessMask", tables, disk, |plan| {
            plan.write.success = mask;
            Ok(())
        })
    }

    /// PEAP_IOPlanLogMask: the components whose failure is logged, and those of them whose failure also holds the
    /// command.
    pub fn peap_io_plan_log_mask(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        of: PlanUse,
        mask: Components,
        with_data: Components,
    ) -> Result<Epoch, VaapiError> {
        self.modify("PEAP_IOPlanLogMask", tables, disk, |plan| {
            let masks = masks_of(plan, of);
            (masks.log, masks.log_with_data) = (mask, with_data);
            Ok(())
        })
    }

    /// PEAP_VDDeactivateMask: the components whose failure deactivates the disk.
    pub fn peap_vd_deactivate_mask(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        of: PlanUse,
        mask: Components,
    ) -> Result<Epoch, VaapiError> {
        self.modify("PEAP_VDDeactivateMask", tables, disk, |plan| {
            masks_of(plan, of).deactivate = mask;
            Ok(())
        })
    }

    /// Sets the state of a component that is there. The seed has no such call.
    ///
    /// # Errors
    /// `PlanError::StillOut` for one that is out and was to be in sync; `PlanError::Moved` when the card has
    /// moved it out meanwhile, and it is as the card says.
    pub fn ssap_set_component_state(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        component: usize,
        state: ComponentState,
    ) -> Result<(), VaapiError> {
        const CALL: &str = "SSAP_SetComponentState";
        let found = self.component_state(CALL, tables, disk, component)?;
        let wrong = |source| Err(VaapiError::Plan { call: CALL, disk, source });
        match (found, state) {
            (_, ComponentState::Absent) | (ComponentState::Absent, _) => {
                return wrong(PlanError::NoComponent(component));
            }
            (ComponentState::Out, ComponentState::InSync) => return wrong(PlanError::StillOut(component)),
            (ComponentState::Out, ComponentState::Out) => return Ok(()),
            _ => {}
        }
        let select = Components::one(component).0;
        let entry = state.put(ComponentStates::default(), component).with_select(select);
        write(CALL, tables, &[states_write(disk, entry)])?;
        match self.component_state(CALL, tables, disk, component)? {
            found if found == state => Ok(()),
            found => wrong(PlanError::Moved { component, wanted: state, found }),
        }
    }

    /// Tells the card that a component's being out is durable: writes that miss it are no longer held. The
    /// seed has no such call.
    pub fn ssap_confirm_component_out(
        &mut self,
        tables: &mut dyn Tables,
        disk: VdHandle,
        component: usize,
    ) -> Result<(), VaapiError> {
        const CALL: &str = "SSAP_ConfirmComponentOut";
        let found = self.component_state(CALL, tables, disk, component)?;
        if found != ComponentState::Out {
            let source = PlanError::NotOut { component, found };
            return Err(VaapiError::Plan { call: CALL, disk, source });
        }
        let select = Components::one(component).0;
        let entry = found.put(ComponentStates::default(), component);
        write(CALL, tables, &[states_write(disk, entry.with_select(select).with_durably_out(select))])
    }

    fn component_state(
        &self,
        call: &'static str,
        tables: &mut dyn Tables,
        disk: VdHandle,
        component: usize,
    ) -> Result<ComponentState, VaapiError> {
        self.disk(call, disk)?;
        if !self.planned.contains_key(&disk) || component >= COMPONENTS_MAX {
            return Err(VaapiError::Plan { call, disk, source: PlanError::NoComponent(component) });
        }
        let entry: ComponentStates = read(call, tables, table::STATES, disk.0.into())?;
        Ok(ComponentState::in_entry(&entry, component))
    }

    /// The plan that a disk's entry names, if it names any.
    pub(super) fn plan_of(
        &self,
        call: &'static str,
        tables: &mut dyn Tables,
        disk: VdHandle,
    ) -> Result<Option<PlanTemplate>, VaapiError> {
        self.disk(call, disk)?;
        let number = read::<VdEntry>(call, tables, table::VD, disk.0.into())?.plan();
        if number == 0 {
            return Ok(None);
        }
        let plan: PlanEntry = read(call, tables, table::PLAN, number.into())?;
        let mut components = [ComponentEntry::default(); COMPONENTS_MAX];
        for (place, component) in components.iter_mut().enumerate() {
            *component = read(call, tables, table::COMPONENT, ComponentEntry::index(number, place))?;
        }
        let states: ComponentStates = read(call, tables, table::STATES, disk.0.into())?;
        Ok(Some(PlanTemplate::from_entries(&plan, &components, &states)))
    }

    fn modify(
        &mut self,
        call: &'static str,
        tables: &mut dyn Tables,
        disk: VdHandle,
        change: impl FnOnce(&mut PlanTemplate) -> Result<(), PlanError>,
    ) -> Result<Epoch, VaapiError> {
        let old = self.plan_of(call, tables, disk)?;
        let mut new = old.unwrap_or_else(|| PlanTemplate::single(disk.0));
        change(&mut new).map_err(|source| VaapiError::Plan { call, disk, source })?;
        self.replace(call, tables, disk, old.as_ref(), &new)
    }

    /// Writes a plan beside the old one and switches to it. What leaves is absent before the switch and what
    /// comes is there after it, since the states speak of whichever plan the disk has.
    pub(super) fn replace(
        &mut self,
        call: &'static str,
        tables: &mut dyn Tables,
        disk: VdHandle,
        old: Option<&PlanTemplate>,
        new: &PlanTemplate,
    ) -> Result<Epoch, VaapiError> {
        self.reclaim(call, tables)?;
        let wrong = |source| VaapiError::Plan { call, disk, source };
        self.check_plan(disk, old, new).map_err(wrong)?;
        let stays = old.map(|old| staying(old, new));
        let coming = stays.map_or(Components::NONE, |stays| new.present().without(stays));
        if let Some(component) = coming.numbers().next() {
            if self.has_owned_plan(call, tables, disk)? {
                return Err(wrong(PlanError::Leaving(component)));
            }
        }
        let range = self.plans.take(1).ok_or(VaapiError::NoRoom { call, table: "plan", wanted: 1 })?;
        let number = range.start as u16;
        let mut entries = vec![TableEntry::new(table::PLAN, number.into(), &self.diverted(disk, new).0)];
        for (place, component) in new.components.iter().enumerate() {
            let map = self.disks.get(&VdHandle(component.disk)).map(|disk| disk.entry).unwrap_or_default();
            let there = component.state != ComponentState::Absent;
            let entry = if there { component.entry(&map) } else { ComponentEntry::default() };
            entries.push(TableEntry::new(table::COMPONENT, ComponentEntry::index(number, place), &entry.0));
        }
        let leaving = old.map_or(Components::NONE, |old| old.present().without(staying(old, new)));
        match old {
            Some(_) => {
                let absent = ComponentStates::default().with_select(leaving.0).with_durably_out(leaving.0);
                entries.extend(leaving.any().then(|| states_write(disk, absent)));
            }
            // Of no effect before the switch.
            None => {
                entries.extend([states_cleared(disk), states_write(disk, new.states_entry(Components(0xFF)))])
            }
        }
        if let Err(error) = write(call, tables, &entries) {
            self.plans.give(range);
            return Err(error);
        }
        let entry = self.disk(call, disk)?.entry;
        let epoch = self.set_vd(call, tables, disk, entry.with_plan(number))?;
        if entry.plan() != 0 {
            self.retire(epoch, Retired::Plan(entry.plan().into()..u32::from(entry.plan()) + 1));
        }
        self.planned.insert(disk, *new);
        if leaving.any() {
            self.retire(epoch, Retired::Components(disk, leaving));
        }
        if coming.any() {
            write(call, tables, &[states_write(disk, new.states_entry(coming))])?;
        }
        Ok(epoch)
    }

    /// Whether the control path has a plan of a disk. It holds no epoch, and what it keeps when it is given back in
    /// part is said by position and number of the template, both of which are used again.
    fn has_owned_plan(
        &self,
        call: &'static str,
        tables: &mut dyn Tables,
        disk: VdHandle,
    ) -> Result<bool, VaapiError> {
        for slot in 0..self.room.slots {
            let state: PlanState = read(call, tables, table::PLAN_STATE, slot as u32)?;
            if (state.live(), state.owned(), state.disk()) == (1, 1, disk.0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Positions of components that were removed, and may still be in use.
    fn leaving(&self, of: VdHandle) -> Components {
        let left = self.retired.iter().map(|(_, retired)| match retired {
            Retired::Components(disk, components) if *disk == of => *components,
            _ => Components::NONE,
        });
        left.fold(Components::NONE, Components::or)
    }

    fn check_plan(
        &self,
        disk: VdHandle,
        old: Option<&PlanTemplate>,
        new: &PlanTemplate,
    ) -> Result<(), PlanError> {
        new.check()?;
        let Some(whole) = self.disks.get(&disk).map(|disk| disk.entry) else { return Ok(()) };
        for component in new.present().numbers() {
            let map = VdHandle(new.components[component].disk);
            let Some(part) = self.disks.get(&map).map(|disk| disk.entry) else {
                return Err(PlanError::NoMap { component, disk: map });
            };
            if part.block_shift() != whole.block_shift() {
                let (shift, wanted) = (part.block_shift(), whole.block_shift());
                return Err(PlanError::BlockSize { component, disk: map, shift, wanted });
            }
            if part.size_blocks() != whole.size_blocks() {
                let (blocks, wanted) = (part.size_blocks(), whole.size_blocks());
                return Err(PlanError::Size { component, disk: map, blocks, wanted });
            }
            let same = |plan: &PlanTemplate, number: usize| plan.components[number].disk == map.0;
            let twice = (0..component).any(|other| new.present().has(other) && same(new, other));
            let others = self.planned.iter().filter(|&(&owner, _)| owner != disk);
            let elsewhere = others.filter(|(_, plan)| plan.present().numbers().any(|n| same(plan, n)));
            let owner = elsewhere.map(|(&owner, _)| owner).next().or(twice.then_some(disk));
            if let Some(owner) = owner {
                return Err(PlanError::Shared { component, disk: map, owner });
            }
        }
        let Some(old) = old else { return Ok(()) };
        let stays = staying(old, new);
        let taken = self.leaving(disk).or(old.present()).and(new.present()).without(stays);
        match taken.numbers().next() {
            Some(component) => Err(PlanError::Leaving(component)),
            None if !stays.and(old.readable()).any() => Err(PlanError::NothingInSync),
            None => Ok(()),
        }
    }

    /// The component entries that repeat a disk's map, as `map` has it.
    pub(super) fn repeated(&self, disk: VdHandle, map: &VdEntry) -> Vec<TableEntry> {
        let mut entries = Vec::new();
        for (owner, plan) in &self.planned {
            let Some(number) = self.disks.get(owner).map(|owner| owner.entry.plan()) else { continue };
            for place in plan.present().numbers().filter(|&place| plan.components[place].disk == disk.0) {
                let entry = plan.components[place].entry(map);
                entries.push(TableEntry::new(
                    table::COMPONENT,
                    ComponentEntry::index(number, place),
                    &entry.0,
                ));
            }
        }
        entries
    }

    /// The disk whose plan of several components a disk is part of.
    pub(super) fn shares_size_with(&self, disk: VdHandle) -> Option<VdHandle> {
        let several = self.planned.iter().filter(|(&owner, plan)| {
            let alone = plan.present().numbers().all(|n| plan.components[n].disk == owner.0);
            !alone && (owner == disk || plan.present().numbers().any(|n| plan.components[n].disk == disk.0))
        });
        several.map(|(&owner, _)| owner).next()
    }
}

/// Components that both plans have, in the same position and with the same map.
fn staying(old: &PlanTemplate, new: &PlanTemplate) -> Components {
    let same = |number: usize| old.components[number].disk == new.components[number].disk;
    Components::of(|number| old.present().and(new.present()).has(number) && same(number))
}

fn present(plan: &PlanTemplate, component: usize) -> Result<(), PlanError> {
    let there = component < COMPONENTS_MAX && plan.present().has(component);
    there.then_some(()).ok_or(PlanError::NoComponent(component))
}

fn masks_of(plan: &mut PlanTemplate, of: PlanUse) -> &mut MaskSet {
    match of {
        PlanUse::Reads => &mut plan.read,
        PlanUse::Writes => &mut plan.write,
    }
}

fn without(masks: &MaskSet, bit: Components) -> MaskSet {
    MaskSet {
        continuation: masks.continuation.without(bit),
        success: masks.success.without(bit),
        log: masks.log.without(bit),
        log_with_data: masks.log_with_data.without(bit),
        deactivate: masks.deactivate.without(bit),
    }
}
