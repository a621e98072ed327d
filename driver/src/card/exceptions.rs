//! The exception ring: what the card tells the control path of plans, and what the control path answers.

use std::ops::Range;
use std::sync::Arc;

use zerocopy::FromBytes;

use volplane_abi::plan::{plan_status, reason, COMPONENTS_MAX, EXCEPTION_BYTES};
use volplane_abi::status::CODE_AND_TYPE;
use volplane_abi::{
    control_opcode, registers as register, table, ExceptionComponent, ExceptionTail, PlanCommand, PlanState,
    SubmissionEntry,
};

use super::registers::Registers;
use super::{Card, CardError};
use crate::memory::DmaMemory;
use crate::platform::{AccessError, Bar, Function, Platform};

/// Records of the ring, one of which is always free.
const ENTRIES: u16 = 256;
/// Where a record's components begin, and its tail.
const COMPONENTS: usize = SubmissionEntry::BYTES;
const TAIL: usize = COMPONENTS + COMPONENTS_MAX * ExceptionComponent::BYTES;
const _: () = assert!(TAIL + ExceptionTail::BYTES == EXCEPTION_BYTES);

/// A plan's slot and its use: an old handle names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanHandle {
    /// Slot.
    pub slot: u16,
    /// Changes with every use of the slot, and whenever the plan changes hands.
    pub generation: u32,
}

/// A record of the exception ring: a plan, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionRecord {
    /// The client's command.
    pub command: SubmissionEntry,
    /// What each component ended with; all zero unless it failed, was refused or was stopped.
    pub components: [ExceptionComponent; COMPONENTS_MAX],
    /// The rest.
    pub tail: ExceptionTail,
}

impl ExceptionRecord {
    /// The plan's name from now on.
    pub fn handle(&self) -> PlanHandle {
        PlanHandle { slot: self.tail.slot(), generation: self.tail.generation() }
    }

    /// IOP_PlanStatusDecode: the first component after `after` on which an exception occurred. Call it with `None`,
    /// then with each answer.
    pub fn next_exception(&self, after: Option<usize>) -> Option<(usize, &ExceptionComponent)> {
        let went_wrong = self.tail.failed() | self.tail.refused();
        let from = after.map_or(0, |number| number + 1);
        let mut components = self.components.iter().enumerate().skip(from);
        components.find(|(number, _)| went_wrong >> number & 1 == 1)
    }

    /// The reasons by name.
    pub fn reason_names(&self) -> Vec<&'static str> {
        let set = reason::NAMES.iter().filter(|(bit, _)| self.tail.reasons() & bit != 0);
        set.map(|&(_, name)| name).collect()
    }
}

/// The ring, as the driver reads it.
pub(super) struct ExceptionRing<F> {
    function: Arc<F>,
    memory: DmaMemory,
    head: u16,
    phase: u8,
    vector: Option<u16>,
}

impl<F: Function> ExceptionRing<F> {
    /// Allocates the ring and programs the registers; the card must not be enabled. A record raises `vector`.
    pub(super) fn start<P: Platform<Function = F>>(
        platform: &mut P,
        registers: &Registers<F>,
        vector: Option<u16>,
    ) -> Result<Self, AccessError> {
        let memory = platform.allocate(usize::from(ENTRIES) * EXCEPTION_BYTES)?;
        registers.write64(register::EXCEPTION_BASE_LOW, memory.iova().0)?;
        registers.write(register::EXCEPTION_HEAD, 0)?;
        let interrupt = vector.map_or(0, |vector| {
            u32::from(vector) << register::RING_SIZE_VECTOR_SHIFT | register::RING_SIZE_INTERRUPT
        });
        registers.write(register::EXCEPTION_SIZE, (u32::from(ENTRIES) - 1) | interrupt)?;
        Ok(Self { function: registers.function().clone(), memory, head: 0, phase: 1, vector })
    }

    /// The next record, if the card has posted one. It is taken by `pass`.
    fn peek(&self) -> Option<ExceptionRecord> {
        let at = usize::from(self.head) * EXCEPTION_BYTES;
        // The phase tag is in the last dword that the card writes.
        let tail: ExceptionTail = self.memory.read_record(at + TAIL);
        if tail.phase() != self.phase {
            return None;
        }
        let component =
            |number: usize| self.memory.read_record(at + COMPONENTS + number * ExceptionComponent::BYTES);
        let record = ExceptionRecord {
            command: self.memory.read_record(at),
            components: std::array::from_fn(component),
            tail: self.memory.read_record(at + TAIL),
        };
        Some(record)
    }

    fn pass(&mut self) {
        self.head += 1;
        if self.head == ENTRIES {
            (self.head, self.phase) = (0, self.phase ^ 1);
        }
    }

    /// Tells the card how far records were taken.
    fn give_back(&self) -> Result<(), AccessError> {
        self.function.write32(Bar::Bar0, register::EXCEPTION_HEAD.into(), self.head.into())
    }
}

impl<F: Function> Card<F> {
    /// The interrupt vector that records raise, if the card has any: its last one.
    pub fn exception_vector(&self) -> Option<u16> {
        self.exceptions.vector
    }

    /// Takes the records that the card has posted, oldest first, at most `most`. One that cannot be is passed,
    /// and ends the call; those before it are given first, and it is the error of the next call.
    ///
    /// # Errors
    /// `CardError::Record` for one that names a plan that the card cannot have, `Access`.
    pub fn take_exceptions(&mut self, most: usize) -> Result<Vec<ExceptionRecord>, CardError> {
        let mut records = Vec::new();
        while let Some(record) = self.exceptions.peek().filter(|_| records.len() < most) {
            let slot = record.tail.slot();
            let sound = u32::from(slot) < self.capabilities.slots;
            if !sound && !records.is_empty() {
                break;
            }
            self.exceptions.pass();
            if !sound {
                self.exceptions.give_back()?;
                return Err(CardError::Record { card: self.name().to_owned(), slot });
            }
            records.push(record);
        }
        if !records.is_empty() {
            self.exceptions.give_back()?;
        }
        Ok(records)
    }

    /// Releases a held plan: it ends as its record says.
    ///
    /// # Errors
    /// `CardError::Plan`, and what else `CardError` names.
    pub fn release_plan<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        plan: PlanHandle,
    ) -> Result<(), CardError> {
        self.command_plan(platform, control_opcode::PLAN_RELEASE, plan, PlanCommand::default())
    }

    /// Ends a plan that the control path owns or holds with a status.
    ///
    /// # Errors
    /// `CardError::Plan`, and what else `CardError` names.
    pub fn complete_plan<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        plan: PlanHandle,
        status: u16,
    ) -> Result<(), CardError> {
        let command = PlanCommand::default().with_status(status);
        self.command_plan(platform, control_opcode::PLAN_COMPLETE, plan, command)
    }

    /// Gives a plan that the control path owns back to the card. The components of `restart` begin again at their
    /// first block, the others keep their result, as far as they are used still; with `RESTART_ALL` all that are used
    /// begin. So they do of a write near whose blocks somebody has written meanwhile.
    ///
    /// # Errors
    /// `CardError::Plan`, and what else `CardError` names. But for `RESTART_ALL` also for a component that is not
    /// used, for one of a write that has no result and is not to begin, and when the disk names another template
    /// than that of the record. Nothing has changed then.
    pub fn resubmit_plan<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        plan: PlanHandle,
        restart: u8,
    ) -> Result<(), CardError> {
        let command = PlanCommand::default().with_restart(restart);
        self.command_plan(platform, control_opcode::PLAN_RESUBMIT, plan, command)
    }

    /// Takes over a plan that is under way: it issues nothing more, and a record tells when it is the control
    /// path's.
    ///
    /// # Errors
    /// `CardError::Plan`, and what else `CardError` names.
    pub fn take_over_plan<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        plan: PlanHandle,
    ) -> Result<(), CardError> {
        self.command_plan(platform, control_opcode::PLAN_TAKE_OVER, plan, PlanCommand::default())
    }

    /// Aborts a plan: its client is told so at once if the control path has it, else when what was issued has
    /// come back.
    ///
    /// # Errors
    /// `CardError::Plan`, and what else `CardError` names.
    pub fn abort_plan<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        plan: PlanHandle,
    ) -> Result<(), CardError> {
        self.command_plan(platform, control_opcode::PLAN_ABORT, plan, PlanCommand::default())
    }

    /// The plans of a disk that the card has in some slots: neither owned nor held by the control path. Those of a
    /// disk without a template are not listed, nor is a write that still waits for its blocks. A slot takes about 30
    /// cycles; of many, those looked at first may have ended when the last one is.
    ///
    /// # Errors
    /// `CardError::Table` for a slot that the card does not have, and what else `CardError` names.
    pub fn plans_of<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        disk: u16,
        slots: Range<u32>,
    ) -> Result<Vec<PlanHandle>, CardError> {
        let mut plans = Vec::new();
        self.table_read_all(platform, table::PLAN_STATE, slots, |slot, payload| {
            let (state, _) = PlanState::read_from_prefix(payload).expect("a payload holds a state");
            let under_way = state.live() == 1 && state.owned() == 0 && state.held() == 0;
            if under_way && state.disk() == disk {
                plans.push(PlanHandle { slot: slot as u16, generation: state.generation() });
            }
        })?;
        Ok(plans)
    }

    fn command_plan<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        opcode: u8,
        plan: PlanHandle,
        command: PlanCommand,
    ) -> Result<(), CardError> {
        let card = self.name().to_owned();
        let command = command.with_generation(plan.generation);
        self.plan_command(platform, opcode, plan.slot, command).map_err(|error| match error {
            CardError::Table { status, .. } => CardError::of_plan(&card, plan, status).unwrap_or(error),
            error => error,
        })
    }
}

impl CardError {
    /// What a status of `plan_status` says of a command to a plan, of whatever executes plans; `None` for any other.
    pub fn of_plan(card: &str, plan: PlanHandle, status: u16) -> Option<Self> {
        let problem = match status & CODE_AND_TYPE {
            plan_status::PLAN_GONE => "it is gone",
            plan_status::PLAN_NOT_OWNED => "it is not the control path's to decide in this way",
            plan_status::PLAN_TAKEN_OVER => "the control path has it, or has asked for it",
            plan_status::PLAN_ENDED => "it has ended and waits to be released",
            plan_status::PLAN_ABORTED => "it was aborted before",
            plan_status::PLAN_COMPONENT => "a component cannot be restarted, or must be",
            plan_status::PLAN_REPLACED => "its disk has another template than when it was begun",
            _ => return None,
        };
        let PlanHandle { slot, generation } = plan;
        Some(CardError::Plan { card: card.to_owned(), slot, generation, problem })
    }
}
