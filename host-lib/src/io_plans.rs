//! Plans of raw commands, which VAAPI's `IOP_` calls fill: what stands in them and what has become of it, whoever
//! executes the commands.
//!
//! A plan is filled (`create`, `add`, `change`), submitted once as a whole, and asked for the status of each command;
//! `reinit` makes it as it was before it was submitted.

use std::collections::BTreeMap;

use volplane_abi::SubmissionEntry;

/// Most plans.
pub(crate) const PLANS_MAX: usize = 64;
/// Most commands of one.
pub(crate) const COMMANDS_MAX: usize = 64;
/// Most payload areas.
pub(crate) const PAYLOADS_MAX: usize = 256;
/// Bytes of a payload area.
pub const PAYLOAD_BYTES: usize = 256;

/// A plan's number; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoPlanId(u64);

/// A payload area's number; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadId(pub(crate) u64);

/// Why a call had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IoPlanError {
    /// There is no such plan.
    #[error("there is no pass-through plan {0:?}")]
    NoPlan(IoPlanId),
    /// The plan has no such command.
    #[error("pass-through plan {plan:?} has no command {index}")]
    NoCommand {
        /// Plan.
        plan: IoPlanId,
        /// Command.
        index: usize,
    },
    /// The plan was submitted: only what is new, or was re-initialised, can be changed or submitted.
    #[error("pass-through plan {0:?} was submitted")]
    Submitted(IoPlanId),
    /// The plan's commands are with their devices.
    #[error("pass-through plan {0:?} is under way")]
    UnderWay(IoPlanId),
    /// Nothing can be added.
    #[error("there is no room for another {0}")]
    NoRoom(&'static str),
    /// There is no such device, or no path to it.
    #[error("there is no usable device {0}")]
    NoDevice(u16),
    /// There is no such payload area.
    #[error("there is no payload area {0:?}")]
    NoPayload(PayloadId),
}

/// Where a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    New,
    Issued,
    Ended(u16),
}

#[derive(Clone, Debug)]
struct RawCommand<T> {
    target: T,
    entry: SubmissionEntry,
    standing: Standing,
}

#[derive(Clone, Debug)]
struct IoPlan<T> {
    commands: Vec<RawCommand<T>>,
    submitted: bool,
}

/// All plans, of commands to targets `T`.
#[derive(Debug)]
pub(crate) struct IoPlans<T> {
    plans: BTreeMap<IoPlanId, IoPlan<T>>,
    next: u64,
}

impl<T> Default for IoPlans<T> {
    fn default() -> Self {
        Self { plans: BTreeMap::new(), next: 0 }
    }
}

impl<T: Copy> IoPlans<T> {
    /// A number that was never given before.
    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn plan(&mut self, id: IoPlanId) -> Result<&mut IoPlan<T>, IoPlanError> {
        self.plans.get_mut(&id).ok_or(IoPlanError::NoPlan(id))
    }

    /// A plan that may be changed.
    fn open(&mut self, id: IoPlanId) -> Result<&mut IoPlan<T>, IoPlanError> {
        let plan = self.plan(id)?;
        if plan.submitted {
            return Err(IoPlanError::Submitted(id));
        }
        Ok(plan)
    }

    pub(crate) fn create(&mut self) -> Result<IoPlanId, IoPlanError> {
        if self.plans.len() >= PLANS_MAX {
            return Err(IoPlanError::NoRoom("pass-through plan"));
        }
        let id = IoPlanId(self.number());
        self.plans.insert(id, IoPlan { commands: Vec::new(), submitted: false });
        Ok(id)
    }

    pub(crate) fn add(
        &mut self,
        plan: IoPlanId,
        target: T,
        entry: SubmissionEntry,
    ) -> Result<usize, IoPlanError> {
        let plan = self.open(plan)?;
        if plan.commands.len() >= COMMANDS_MAX {
            return Err(IoPlanError::NoRoom("command"));
        }
        plan.commands.push(RawCommand { target, entry, standing: Standing::New });
        Ok(plan.commands.len() - 1)
    }

    pub(crate) fn change(
        &mut self,
        plan: IoPlanId,
        index: usize,
        target: T,
        entry: SubmissionEntry,
    ) -> Result<(), IoPlanError> {
        let open = self.open(plan)?;
        let command = open.commands.get_mut(index).ok_or(IoPlanError::NoCommand { plan, index })?;
        (command.target, command.entry) = (target, entry);
        Ok(())
    }

    /// The commands of a plan that is to be submitted.
    pub(crate) fn commands(&mut self, plan: IoPlanId) -> Result<Vec<(T, SubmissionEntry)>, IoPlanError> {
        Ok(self.open(plan)?.commands.iter().map(|command| (command.target, command.entry)).collect())
    }

    /// All commands of a plan are given to those who execute them.
    pub(crate) fn submit(&mut self, plan: IoPlanId) -> Result<(), IoPlanError> {
        let open = self.open(plan)?;
        open.submitted = true;
        open.commands.iter_mut().for_each(|command| command.standing = Standing::Issued);
        Ok(())
    }

    /// A command has ended.
    pub(crate) fn ended(&mut self, plan: IoPlanId, index: usize, status: u16) {
        if let Some(command) = self.plans.get_mut(&plan).and_then(|plan| plan.commands.get_mut(index)) {
            command.standing = Standing::Ended(status);
        }
    }

    /// The status of a command; `None` until it has ended.
    pub(crate) fn error_code(&mut self, plan: IoPlanId, index: usize) -> Result<Option<u16>, IoPlanError> {
        let commands = &self.plan(plan)?.commands;
        match commands.get(index).ok_or(IoPlanError::NoCommand { plan, index })?.standing {
            Standing::Ended(status) => Ok(Some(status)),
            Standing::New | Standing::Issued => Ok(None),
        }
    }

    /// A plan that is not under way.
    fn quiet(&mut self, id: IoPlanId) -> Result<&mut IoPlan<T>, IoPlanError> {
        let plan = self.plan(id)?;
        if plan.commands.iter().any(|command| command.standing == Standing::Issued) {
            return Err(IoPlanError::UnderWay(id));
        }
        Ok(plan)
    }

    pub(crate) fn reinit(&mut self, plan: IoPlanId) -> Result<(), IoPlanError> {
        let plan = self.quiet(plan)?;
        plan.submitted = false;
        plan.commands.iter_mut().for_each(|command| command.standing = Standing::New);
        Ok(())
    }

    pub(crate) fn destroy(&mut self, plan: IoPlanId) -> Result<(), IoPlanError> {
        self.quiet(plan)?;
        self.plans.remove(&plan);
        Ok(())
    }
}
