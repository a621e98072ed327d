//! Plans of commands of the control path itself, through the card: VAAPI's IO_SubmitPlan, and the `IOP_` calls that
//! fill a plan.
//!
//! A command goes to a virtual disk or to a device, and is one of those that client rings have; its data lie where its
//! PRPs point. It reaches the card by a client queue that the engine keeps for itself, so it is checked, mapped, split and
//! locked like any other. Two things are different: divert ranges let it pass, and what a device answers is what the plan
//! tells (`iop_get_error_code`). A device is reached as a disk of the whole of it, which stands behind all others and has a
//! time-out and no further tries; the queue and these disks are made when they are first needed.
//!
//! The commands of a plan are independent (`IoOrder::AtOnce`), or each waits until those before it have succeeded, as
//! data that move from one disk to another do.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use volplane_abi::plan::{plan_status, reason};
use volplane_abi::status::{DNR, SUCCESS};
use volplane_abi::SubmissionEntry;
use volplane_driver::{CardError, ClientQueue, DmaMemory, ExceptionRecord, Function, Platform, QueueSlots};

use super::bring_up::CLIENT;
use super::{Engine, StopError};
use crate::bring_up::device_plan;
use crate::configuration::ALLOCATION_BYTES_MIN;
use crate::io_plans::{IoPlanError, IoPlanId, IoPlans, PayloadId, PAYLOADS_MAX, PAYLOAD_BYTES};
use crate::map::{Column, DiskMap, Segment};
use crate::service::VdHandle;
use crate::vaapi::VaapiError;

/// Entries of the engine's own queue: commands that are under way at once.
const ENTRIES: u16 = 256;

/// Where a command goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoTarget {
    /// A virtual disk.
    Disk(VdHandle),
    /// A device, by its place in the configuration; what of it may be used.
    Device(u16),
}

/// Which commands of a plan wait for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoOrder {
    /// None.
    AtOnce,
    /// Each for those before it. When one fails, those behind it are not given: Command Abort Requested.
    OneByOne,
}

/// Why a plan was not submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitPlanError {
    /// The plan.
    #[error(transparent)]
    Plan(#[from] IoPlanError),
    /// A device's disk could not be made.
    #[error(transparent)]
    Vaapi(#[from] VaapiError),
    /// The card.
    #[error(transparent)]
    Card(#[from] CardError),
}

/// A command that waits, or is under way.
#[derive(Clone, Copy, Debug)]
struct Given {
    plan: IoPlanId,
    index: usize,
}

/// The engine's own commands.
pub(super) struct OwnCommands<F> {
    plans: IoPlans<IoTarget>,
    queue: Option<ClientQueue<F>>,
    /// Commands under way, by identifier.
    given: BTreeMap<u16, Given>,
    /// Commands that are to be given, in order.
    waiting: VecDeque<(Given, SubmissionEntry)>,
    /// Of plans that go one by one and are under way: what is left of them, first the next.
    chains: BTreeMap<IoPlanId, VecDeque<(Given, SubmissionEntry)>>,
    /// Disks of whole devices, and whether they have their plan.
    devices: BTreeMap<u16, (VdHandle, bool)>,
    /// Areas that were given out, by address.
    payloads: BTreeMap<u64, DmaMemory>,
}

impl<F> Default for OwnCommands<F> {
    fn default() -> Self {
        Self {
            plans: IoPlans::default(),
            queue: None,
            given: BTreeMap::new(),
            waiting: Default::default(),
            chains: BTreeMap::new(),
            devices: BTreeMap::new(),
            payloads: BTreeMap::new(),
        }
    }
}

impl<F: Function> OwnCommands<F> {
    /// Whether a record is of one of these that a divert range has stopped.
    pub(super) fn is_diverted(&self, record: &ExceptionRecord) -> bool {
        let tail = &record.tail;
        let own = self.queue.as_ref().is_some_and(|queue| queue.number() == tail.queue());
        own && tail.owned() == 1 && tail.reasons() == reason::DIVERT
    }

    /// Whether anything is under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.given.is_empty() || !self.waiting.is_empty()
    }

    /// The queue, at the end.
    pub(super) fn into_queue(self) -> Option<ClientQueue<F>> {
        self.queue
    }

    /// Takes what was completed, and gives what waits.
    pub(super) fn turn(&mut self) -> Result<(), CardError> {
        let Some(queue) = &mut self.queue else { return Ok(()) };
        while let Some(completion) = queue.poll()? {
            let Some(Given { plan, index }) = self.given.remove(&completion.command_id()) else { continue };
            self.plans.ended(plan, index, completion.status());
            let Some(mut chain) = self.chains.remove(&plan) else { continue };
            if completion.status() == SUCCESS {
                if let Some(next) = chain.pop_front() {
                    self.waiting.push_back(next);
                    self.chains.insert(plan, chain);
                }
            } else {
                let aborted = plan_status::ABORT_REQUESTED | DNR;
                chain.iter().for_each(|(left, _)| self.plans.ended(plan, left.index, aborted));
            }
        }
        while queue.free() > 0 {
            let Some((given, entry)) = self.waiting.pop_front() else { break };
            let id = (0..ENTRIES).find(|id| !self.given.contains_key(id)).expect("fewer than entries");
            queue.submit(entry.with_command_id(id)).expect("there is room");
            self.given.insert(id, given);
        }
        Ok(queue.ring()?)
    }
}

impl<P: Platform> Engine<P> {
    /// IOP_CreateIOPlan: an empty plan.
    ///
    /// # Errors
    /// `NoRoom`.
    pub fn iop_create_io_plan(&mut self) -> Result<IoPlanId, IoPlanError> {
        self.own.plans.create()
    }

    /// IOP_AddIO: appends a command; its number in the plan. Its identifier and namespace are not looked at.
    ///
    /// # Errors
    /// `NoPlan`, `Submitted`, `NoRoom`.
    pub fn iop_add_io(
        &mut self,
        plan: IoPlanId,
        target: IoTarget,
        entry: SubmissionEntry,
    ) -> Result<usize, IoPlanError> {
        self.own.plans.add(plan, target, entry)
    }

    /// IOP_ChangeIO: replaces a command.
    ///
    /// # Errors
    /// `NoPlan`, `NoCommand`, `Submitted`.
    pub fn iop_change_io(
        &mut self,
        plan: IoPlanId,
        index: usize,
        target: IoTarget,
        entry: SubmissionEntry,
    ) -> Result<(), IoPlanError> {
        self.own.plans.change(plan, index, target, entry)
    }

    /// IO_SubmitPlan: gives a plan's commands to the card. `poll` and `iop_get_error_code` see to it that they go on.
    ///
    /// # Errors
    /// `SubmitPlanError`; unless the card fails at the doorbell, none of the commands was given then.
    pub fn io_submit_plan(&mut self, plan: IoPlanId, order: IoOrder) -> Result<(), SubmitPlanError> {
        const CALL: &str = "IO_SubmitPlan";
        let commands = self.own.plans.commands(plan)?;
        let mut entries = VecDeque::new();
        for (index, &(target, entry)) in commands.iter().enumerate() {
            let disk = match target {
                IoTarget::Disk(disk) => disk,
                IoTarget::Device(device) => self.device_disk(CALL, device)?,
            };
            self.control.check_disk(CALL, disk)?;
            entries.push_back((Given { plan, index }, entry.with_namespace_id(u32::from(disk.0) + 1)));
        }
        if self.own.queue.is_none() {
            // The last one: those of clients are counted from 1.
            let number = self.card.capabilities().queues.saturating_sub(1) as u16;
            // Clients that hold all slots that are theirs do not keep it from working.
            let slots = QueueSlots { most: 0, reserve: true };
            self.own.queue = Some(self.card.create_queue_within(
                &mut self.platform,
                number,
                ENTRIES,
                None,
                CLIENT,
                slots,
            )?);
        }
        self.own.plans.submit(plan)?;
        match order {
            IoOrder::AtOnce => self.own.waiting.extend(entries),
            IoOrder::OneByOne => {
                if let Some(first) = entries.pop_front() {
                    self.own.waiting.push_back(first);
                    self.own.chains.insert(plan, entries);
                }
            }
        }
        Ok(self.own.turn()?)
    }

    /// IOP_GetErrorCode: the NVMe status field of a command; `None` until it has ended.
    ///
    /// # Errors
    /// `SubmitPlanError::Plan` for what is not there; of the card.
    pub fn iop_get_error_code(
        &mut self,
        plan: IoPlanId,
        index: usize,
    ) -> Result<Option<u16>, SubmitPlanError> {
        self.own.turn()?;
        Ok(self.own.plans.error_code(plan, index)?)
    }

    /// IOP_ReInitIOPlan: the plan as it was before it was submitted.
    ///
    /// # Errors
    /// `NoPlan`, `UnderWay`.
    pub fn iop_re_init_io_plan(&mut self, plan: IoPlanId) -> Result<(), IoPlanError> {
        self.own.plans.reinit(plan)
    }

    /// IOP_DestroyIOPlan.
    ///
    /// # Errors
    /// `NoPlan`, `UnderWay`.
    pub fn iop_destroy_io_plan(&mut self, plan: IoPlanId) -> Result<(), IoPlanError> {
        self.own.plans.destroy(plan)
    }

    /// IOP_AllocPayloadSGLBuf: a zeroed area of `PAYLOAD_BYTES` that card and devices reach, for what describes memory
    /// or ranges.
    ///
    /// # Errors
    /// `NoRoom`, of the platform too.
    pub fn iop_alloc_payload_sgl_buf(&mut self) -> Result<DmaMemory, IoPlanError> {
        let full = IoPlanError::NoRoom("payload area");
        if self.own.payloads.len() >= PAYLOADS_MAX {
            return Err(full);
        }
        let area = self.platform.allocate(PAYLOAD_BYTES).map_err(|_| full)?.part(0, PAYLOAD_BYTES);
        area.fill(0, PAYLOAD_BYTES, 0);
        self.own.payloads.insert(area.iova().0, area.clone());
        Ok(area)
    }

    /// IOP_FreePayloadSGLBuf. Plans that still use it must have ended.
    ///
    /// # Errors
    /// `NoPayload` for what is none of these.
    pub fn iop_free_payload_sgl_buf(&mut self, area: &DmaMemory) -> Result<(), IoPlanError> {
        let removed = self.own.payloads.remove(&area.iova().0);
        removed.map(drop).ok_or(IoPlanError::NoPayload(PayloadId(area.iova().0)))
    }

    /// Waits for the engine's own commands.
    pub(super) fn drain_own(&mut self, limit: Duration) -> Result<(), StopError> {
        let late = self.look_until(limit, |engine| Ok(!engine.own.is_busy()))?;
        let outstanding = self.own.given.len() + self.own.waiting.len();
        late.map_or(Ok(()), |waited| Err(StopError::Outstanding { outstanding, waited }))
    }

    /// The disk of a whole device.
    fn device_disk(&mut self, call: &'static str, device: u16) -> Result<VdHandle, SubmitPlanError> {
        let disk = match self.own.devices.get(&device) {
            Some(&(disk, true)) => return Ok(disk),
            Some(&(disk, false)) => disk,
            None => self.map_device(call, device)?,
        };
        self.own.devices.insert(device, (disk, false));
        let plan = device_plan(disk, &self.options);
        let (control, mut tables) = self.vaapi();
        control.ssap_set_io_plan(&mut tables, disk, &plan)?;
        self.own.devices.insert(device, (disk, true));
        Ok(disk)
    }

    /// Maps a whole device.
    fn map_device(&mut self, call: &'static str, device: u16) -> Result<VdHandle, SubmitPlanError> {
        let (blocks, block_shift) = self.control.device_size(device).ok_or(IoPlanError::NoDevice(device))?;
        let disks = self.card.capabilities().vds;
        let number = disks.checked_sub(1 + u32::from(device)).map(|number| VdHandle(number as u16));
        let full = VaapiError::NoRoom { call, table: "virtual disk", wanted: 1 };
        let Some(disk) = number.filter(|&disk| self.control.check_disk(call, disk).is_err()) else {
            return Err(full.into());
        };
        // One allocation of one extent, where that holds it all.
        let smallest = (ALLOCATION_BYTES_MIN.trailing_zeros() - u32::from(block_shift)) as u8;
        let shift = (blocks.next_power_of_two().trailing_zeros() as u8).clamp(smallest, 32);
        let columns = vec![Column { device, start: 0 }];
        let segment = Segment { blocks, columns, stripe_shift: shift, extent_shift: shift };
        let map = DiskMap { block_shift, allocation_shift: shift, segments: vec![segment] };
        let (control, mut tables) = self.vaapi();
        control.ap_set_map_vd(&mut tables, disk, &map)?;
        Ok(disk)
    }
}
