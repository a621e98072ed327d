//! Plans of commands of the control path itself: VAAPI's IO_SubmitPlan, and the `IOP_` calls that fill a plan, over a
//! card and in software.
//!
//! A command goes to a virtual disk or to a device, and is one of those that client rings have; its data lie where its
//! PRPs point. It reaches the data path by a client queue that the service keeps for itself, so it is checked, mapped,
//! split and locked like any other. Two things are different: divert ranges let it pass, and what a device answers is
//! what the plan tells (`iop_get_error_code`). A device is reached as a disk of the whole of it, which stands behind
//! all others and has a time-out and no further tries; the queue and these disks are made when they are first needed.
//!
//! The commands of a plan are independent (`IoOrder::AtOnce`), or each waits until those before it have succeeded, as
//! data that move from one disk to another do.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use volplane_abi::plan::{plan_status, reason};
use volplane_abi::status::{DNR, SUCCESS};
use volplane_abi::SubmissionEntry;
use volplane_driver::{CardError, DmaMemory, ExceptionRecord, QueueError};

use super::service::PlanService;
use crate::bring_up::device_plan;
use crate::configuration::ALLOCATION_BYTES_MIN;
use crate::engine::StopError;
use crate::io_plans::{IoPlanError, IoPlanId, IoPlans, PayloadId, PAYLOADS_MAX, PAYLOAD_BYTES};
use crate::map::{Column, DiskMap, Segment};
use crate::operations::dispatcher::CommandQueue;
use crate::service::VdHandle;
use crate::vaapi::VaapiError;

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

/// The control path's own commands.
pub(crate) struct OwnCommands<Q> {
    plans: IoPlans<IoTarget>,
    queue: Option<Q>,
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

impl<Q> Default for OwnCommands<Q> {
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

impl<Q: CommandQueue> OwnCommands<Q> {
    /// Whether a record is of one of these that a divert range has stopped.
    pub(super) fn is_diverted(&self, record: &ExceptionRecord) -> bool {
        let tail = &record.tail;
        let own = self.queue.as_ref().is_some_and(|queue| queue.number() == tail.queue());
        own && tail.owned() == 1 && tail.reasons() == reason::DIVERT
    }

    /// Whether anything is under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.given.is_empty() || !self.waiting.is_empty()
    }

    /// The queue, once there is one.
    pub(crate) fn queue(&mut self) -> Option<&mut Q> {
        self.queue.as_mut()
    }

    /// The queue, at the end.
    pub(crate) fn into_queue(self) -> Option<Q> {
        self.queue
    }

    /// Takes what was completed, and gives what waits.
    pub(super) fn turn(&mut self) -> Result<(), QueueError> {
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
        while let Some(&(given, entry)) = self.waiting.front() {
            let free = (0..queue.capacity() as u16).find(|id| !self.given.contains_key(id));
            let Some(id) = free.filter(|&id| queue.submit(entry.with_command_id(id)).is_ok()) else { break };
            self.given.insert(id, given);
            self.waiting.pop_front();
        }
        queue.ring()
    }
}

/// The calls that fill and submit plans. See the module.
pub trait OwnPlans: PlanService {
    /// IOP_CreateIOPlan: an empty plan.
    ///
    /// # Errors
    /// `NoRoom`.
    fn iop_create_io_plan(&mut self) -> Result<IoPlanId, IoPlanError> {
        self.part().own.plans.create()
    }

    /// IOP_AddIO: appends a command; its number in the plan. Its identifier and namespace are not looked at.
    ///
    /// # Errors
    /// `NoPlan`, `Submitted`, `NoRoom`.
    fn iop_add_io(
        &mut self,
        plan: IoPlanId,
        target: IoTarget,
        entry: SubmissionEntry,
    ) -> Result<usize, IoPlanError> {
        self.part().own.plans.add(plan, target, entry)
    }

    /// IOP_ChangeIO: replaces a command.
    ///
    /// # Errors
    /// `NoPlan`, `NoCommand`, `Submitted`.
    fn iop_change_io(
        &mut self,
        plan: IoPlanId,
        index: usize,
        target: IoTarget,
        entry: SubmissionEntry,
    ) -> Result<(), IoPlanError> {
        self.part().own.plans.change(plan, index, target, entry)
    }

    /// IO_SubmitPlan: gives a plan's commands to the data path. `poll` and `iop_get_error_code` see to it that they go
    /// on.
    ///
    /// # Errors
    /// `SubmitPlanError`; unless a card fails at the doorbell, none of the commands was given then.
    fn io_submit_plan(&mut self, plan: IoPlanId, order: IoOrder) -> Result<(), SubmitPlanError> {
        const CALL: &str = "IO_SubmitPlan";
        let commands = self.part().own.plans.commands(plan)?;
        let mut entries = VecDeque::new();
        for (index, &(target, entry)) in commands.iter().enumerate() {
            let disk = match target {
                IoTarget::Disk(disk) => disk,
                IoTarget::Device(device) => device_disk(self, CALL, device)?,
            };
            self.part().control.check_disk(CALL, disk)?;
            entries.push_back((Given { plan, index }, entry.with_namespace_id(u32::from(disk.0) + 1)));
        }
        if self.part().own.queue.is_none() {
            self.part().own.queue = Some(self.create_own_queue()?);
        }
        let own = &mut self.part().own;
        own.plans.submit(plan)?;
        match order {
            IoOrder::AtOnce => own.waiting.extend(entries),
            IoOrder::OneByOne => {
                if let Some(first) = entries.pop_front() {
                    own.waiting.push_back(first);
                    own.chains.insert(plan, entries);
                }
            }
        }
        Ok(own.turn().map_err(CardError::from)?)
    }

    /// IOP_GetErrorCode: the NVMe status field of a command; `None` until it has ended.
    ///
    /// # Errors
    /// `SubmitPlanError::Plan` for what is not there; of the card.
    fn iop_get_error_code(&mut self, plan: IoPlanId, index: usize) -> Result<Option<u16>, SubmitPlanError> {
        let own = &mut self.part().own;
        own.turn().map_err(CardError::from)?;
        Ok(own.plans.error_code(plan, index)?)
    }

    /// IOP_ReInitIOPlan: the plan as it was before it was submitted.
    ///
    /// # Errors
    /// `NoPlan`, `UnderWay`.
    fn iop_re_init_io_plan(&mut self, plan: IoPlanId) -> Result<(), IoPlanError> {
        self.part().own.plans.reinit(plan)
    }

    /// IOP_DestroyIOPlan.
    ///
    /// # Errors
    /// `NoPlan`, `UnderWay`.
    fn iop_destroy_io_plan(&mut self, plan: IoPlanId) -> Result<(), IoPlanError> {
        self.part().own.plans.destroy(plan)
    }

    /// IOP_AllocPayloadSGLBuf: a zeroed area of `PAYLOAD_BYTES` that data path and devices reach, for what describes
    /// memory or ranges.
    ///
    /// # Errors
    /// `NoRoom`, of the platform too.
    fn iop_alloc_payload_sgl_buf(&mut self) -> Result<DmaMemory, IoPlanError> {
        let full = IoPlanError::NoRoom("payload area");
        if self.part().own.payloads.len() >= PAYLOADS_MAX {
            return Err(full);
        }
        let area = self.memory(PAYLOAD_BYTES).map_err(|_| full)?.part(0, PAYLOAD_BYTES);
        area.fill(0, PAYLOAD_BYTES, 0);
        self.part().own.payloads.insert(area.iova().0, area.clone());
        Ok(area)
    }

    /// IOP_FreePayloadSGLBuf. Plans that still use it must have ended.
    ///
    /// # Errors
    /// `NoPayload` for what is none of these.
    fn iop_free_payload_sgl_buf(&mut self, area: &DmaMemory) -> Result<(), IoPlanError> {
        let removed = self.part().own.payloads.remove(&area.iova().0);
        removed.map(drop).ok_or(IoPlanError::NoPayload(PayloadId(area.iova().0)))
    }
}

impl<S: PlanService> OwnPlans for S {}

/// Waits for the control path's own commands.
pub(crate) fn drain_own(service: &mut impl PlanService, limit: Duration) -> Result<(), StopError> {
    let late = service.look_until(limit, |service| Ok(!service.part().own.is_busy()))?;
    let own = &service.part().own;
    let outstanding = own.given.len() + own.waiting.len();
    late.map_or(Ok(()), |waited| Err(StopError::Outstanding { outstanding, waited }))
}

/// The disk of a whole device.
fn device_disk(
    service: &mut impl PlanService,
    call: &'static str,
    device: u16,
) -> Result<VdHandle, SubmitPlanError> {
    let disk = match service.part().own.devices.get(&device) {
        Some(&(disk, true)) => return Ok(disk),
        Some(&(disk, false)) => disk,
        None => map_device(service, call, device)?,
    };
    let (part, mut tables) = service.tables();
    part.own.devices.insert(device, (disk, false));
    let plan = device_plan(disk, &part.options);
    part.control.ssap_set_io_plan(&mut tables, disk, &plan)?;
    part.own.devices.insert(device, (disk, true));
    Ok(disk)
}

/// Maps a whole device.
fn map_device(
    service: &mut impl PlanService,
    call: &'static str,
    device: u16,
) -> Result<VdHandle, SubmitPlanError> {
    let (part, mut tables) = service.tables();
    let control = &mut part.control;
    let (blocks, block_shift) = control.device_size(device).ok_or(IoPlanError::NoDevice(device))?;
    let number = control.disks_max().checked_sub(1 + u64::from(device));
    let full = VaapiError::NoRoom { call, table: "virtual disk", wanted: 1 };
    let disk = number.map(|number| VdHandle(number as u16));
    let Some(disk) = disk.filter(|&disk| control.check_disk(call, disk).is_err()) else {
        return Err(full.into());
    };
    // One allocation of one extent, where that holds it all.
    let smallest = (ALLOCATION_BYTES_MIN.trailing_zeros() - u32::from(block_shift)) as u8;
    let shift = (blocks.next_power_of_two().trailing_zeros() as u8).clamp(smallest, 32);
    let columns = vec![Column { device, start: 0 }];
    let segment = Segment { blocks, columns, stripe_shift: shift, extent_shift: shift };
    let map = DiskMap { block_shift, allocation_shift: shift, segments: vec![segment] };
    control.ap_set_map_vd(&mut tables, disk, &map)?;
    Ok(disk)
}
