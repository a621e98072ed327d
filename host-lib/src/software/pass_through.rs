//! Pass-through plans: raw commands of the control path to devices.
//!
//! A plan is filled with commands (`create`, `add`, `change`), submitted as a whole, and asked for the status of
//! each. Its commands are independent: all are given to their devices, in order, whatever becomes of them.
//! Nothing is mapped, split, retried or timed; a path that is quiesced ends its commands. Payloads that
//! describe memory stand in areas of 256 bytes.

use std::collections::BTreeMap;

use volplane_abi::plan::plan_status;
use volplane_abi::SubmissionEntry;

use super::engine::{Action, DataPath};
use crate::io_plans::{IoPlanError, IoPlanId, IoPlans, PayloadId, PAYLOADS_MAX, PAYLOAD_BYTES};

/// All pass-through plans.
#[derive(Debug, Default)]
pub(super) struct PassThrough {
    plans: IoPlans<u16>,
    payloads: BTreeMap<PayloadId, Box<[u8; PAYLOAD_BYTES]>>,
    /// Plan, command and path of each identifier.
    outstanding: BTreeMap<u64, (IoPlanId, usize, u8)>,
}

impl PassThrough {
    /// Takes a completion; the path it came by, if it was one of these.
    pub(super) fn returned(&mut self, id: u64, status: u16) -> Option<u8> {
        let (plan, index, path) = self.outstanding.remove(&id)?;
        self.plans.ended(plan, index, status);
        Some(path)
    }

    /// Ends what was given to a path; how many these were.
    pub(super) fn path_quiesced(&mut self, path: u8) -> u32 {
        let lost: Vec<u64> =
            self.outstanding.iter().filter(|(_, at)| at.2 == path).map(|(&id, _)| id).collect();
        for &id in &lost {
            self.returned(id, plan_status::ABORTED_SQ_DELETION);
        }
        lost.len() as u32
    }
}

impl DataPath {
    /// IOP_CreateIOPlan: an empty plan.
    ///
    /// # Errors
    /// `NoRoom`.
    pub fn create_io_plan(&mut self) -> Result<IoPlanId, IoPlanError> {
        self.raw.plans.create()
    }

    /// IOP_AddIO: appends a command to a device; its number in the plan. The command identifier of `entry`
    /// is not looked at.
    ///
    /// # Errors
    /// `NoPlan`, `Submitted`, `NoRoom`.
    pub fn add_io(
        &mut self,
        plan: IoPlanId,
        device: u16,
        entry: SubmissionEntry,
    ) -> Result<usize, IoPlanError> {
        self.raw.plans.add(plan, device, entry)
    }

    /// IOP_ChangeIO: replaces a command.
    ///
    /// # Errors
    /// `NoPlan`, `NoCommand`, `Submitted`.
    pub fn change_io(
        &mut self,
        plan: IoPlanId,
        index: usize,
        device: u16,
        entry: SubmissionEntry,
    ) -> Result<(), IoPlanError> {
        self.raw.plans.change(plan, index, device, entry)
    }

    /// Gives all commands of a plan to their devices.
    ///
    /// # Errors
    /// `NoPlan`, `Submitted`; `NoDevice` if one of them has no usable path: then none is given.
    pub fn submit_io_plan(&mut self, plan: IoPlanId) -> Result<(), IoPlanError> {
        let commands = self.raw.plans.commands(plan)?;
        let path = |device| self.any_path(device).ok_or(IoPlanError::NoDevice(device));
        let paths: Vec<u8> =
            commands.iter().map(|&(device, _)| path(device)).collect::<Result<_, IoPlanError>>()?;
        self.raw.plans.submit(plan)?;
        for (index, ((_, entry), path)) in commands.into_iter().zip(paths).enumerate() {
            let id = self.take_id(Some(path));
            self.raw.outstanding.insert(id, (plan, index, path));
            self.act(Action::Raw { id, path, entry });
        }
        Ok(())
    }

    /// IOP_GetErrorCode: the status of a command; `None` until it has ended.
    ///
    /// # Errors
    /// `NoPlan`, `NoCommand`.
    pub fn io_error_code(&mut self, plan: IoPlanId, index: usize) -> Result<Option<u16>, IoPlanError> {
        self.raw.plans.error_code(plan, index)
    }

    /// IOP_ReInitIOPlan: the plan as it was before it was submitted.
    ///
    /// # Errors
    /// `NoPlan`, `UnderWay`.
    pub fn reinit_io_plan(&mut self, plan: IoPlanId) -> Result<(), IoPlanError> {
        self.raw.plans.reinit(plan)
    }

    /// IOP_DestroyIOPlan.
    ///
    /// # Errors
    /// `NoPlan`, `UnderWay`.
    pub fn destroy_io_plan(&mut self, plan: IoPlanId) -> Result<(), IoPlanError> {
        self.raw.plans.destroy(plan)
    }

    /// IOP_AllocPayloadSGLBuf: a zeroed payload area.
    ///
    /// # Errors
    /// `NoRoom`.
    pub fn alloc_payload(&mut self) -> Result<PayloadId, IoPlanError> {
        if self.raw.payloads.len() >= PAYLOADS_MAX {
            return Err(IoPlanError::NoRoom("payload area"));
        }
        let id = PayloadId(self.raw.plans.number());
        self.raw.payloads.insert(id, Box::new([0; PAYLOAD_BYTES]));
        Ok(id)
    }

    /// A payload area's bytes.
    ///
    /// # Errors
    /// `NoPayload`.
    pub fn payload(&mut self, id: PayloadId) -> Result<&mut [u8; PAYLOAD_BYTES], IoPlanError> {
        self.raw.payloads.get_mut(&id).map(Box::as_mut).ok_or(IoPlanError::NoPayload(id))
    }

    /// IOP_FreePayloadSGLBuf.
    ///
    /// # Errors
    /// `NoPayload`.
    pub fn free_payload(&mut self, id: PayloadId) -> Result<(), IoPlanError> {
        self.raw.payloads.remove(&id).map(drop).ok_or(IoPlanError::NoPayload(id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::Bounds;
    use super::super::world::{command, World};
    use super::*;
    use crate::io_plans::{COMMANDS_MAX, PLANS_MAX};
    use volplane_abi::opcode;

    #[test]
    fn commands_go_as_they_are_and_answer_one_by_one() {
        let mut world = World::new(2, 1, 4, Bounds::default());
        let plan = world.engine.create_io_plan().expect("room");
        let flush = command(opcode::FLUSH, 0, 0, 1, 0);
        assert_eq!(world.engine.add_io(plan, 0, flush), Ok(0));
        assert_eq!(world.engine.add_io(plan, 9, flush), Ok(1));
        assert_eq!(world.engine.submit_io_plan(plan), Err(IoPlanError::NoDevice(9)));
        world.listen();
        assert!(world.raw.is_empty(), "none is given");
        world.engine.change_io(plan, 1, 3, flush).expect("not submitted");
        assert_eq!(world.engine.change_io(plan, 2, 3, flush), Err(IoPlanError::NoCommand { plan, index: 2 }));
        world.engine.submit_io_plan(plan).expect("two devices");
        world.listen();
        assert_eq!(world.raw.iter().map(|raw| raw.1).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(world.engine.submit_io_plan(plan), Err(IoPlanError::Submitted(plan)));
        assert_eq!(world.engine.destroy_io_plan(plan), Err(IoPlanError::UnderWay(plan)));
        world.engine.returned(world.raw[1].0, 0x4281);
        assert_eq!(world.engine.io_error_code(plan, 0), Ok(None));
        assert_eq!(world.engine.io_error_code(plan, 1), Ok(Some(0x4281)));
        world.engine.path_quiesced(0);
        assert_eq!(world.engine.io_error_code(plan, 0), Ok(Some(0x008)));
        world.engine.returned(world.raw[0].0, 0);
        assert_eq!(world.engine.unknown_completions(), 1);
        world.engine.reinit_io_plan(plan).expect("it has ended");
        assert_eq!(world.engine.io_error_code(plan, 1), Ok(None));
        world.engine.destroy_io_plan(plan).expect("it is there");
        assert_eq!(world.engine.destroy_io_plan(plan), Err(IoPlanError::NoPlan(plan)));
    }

    #[test]
    fn what_there_is_room_for() {
        let mut world = World::new(1, 1, 4, Bounds::default());
        let payloads: Vec<_> =
            (0..PAYLOADS_MAX).map(|_| world.engine.alloc_payload().expect("room")).collect();
        assert_eq!(world.engine.alloc_payload(), Err(IoPlanError::NoRoom("payload area")));
        world.engine.payload(payloads[7]).expect("it is there")[255] = 3;
        world.engine.free_payload(payloads[7]).expect("it is there");
        assert_eq!(world.engine.free_payload(payloads[7]), Err(IoPlanError::NoPayload(payloads[7])));
        let fresh = world.engine.alloc_payload().expect("one was freed");
        assert_eq!(world.engine.payload(fresh).expect("it is there"), &[0; PAYLOAD_BYTES]);
        let plans: Vec<_> = (0..PLANS_MAX).map(|_| world.engine.create_io_plan().expect("room")).collect();
        assert_eq!(world.engine.create_io_plan(), Err(IoPlanError::NoRoom("pass-through plan")));
        let flush = command(opcode::FLUSH, 0, 0, 1, 0);
        (0..COMMANDS_MAX).for_each(|index| assert_eq!(world.engine.add_io(plans[0], 0, flush), Ok(index)));
        assert_eq!(world.engine.add_io(plans[0], 0, flush), Err(IoPlanError::NoRoom("command")));
    }
}
