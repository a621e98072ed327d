//! What a service gives its control path: plans that are handed up, orders that it obeys, a queue, memory and time.

use std::ops::Range;
use std::time::Duration;

use volplane_driver::{AccessError, CardError, DmaMemory, ExceptionRecord, PlanHandle, Platform};

use super::own::OwnCommands;
use super::shared::KeptPlans;
use crate::copies::Copies;
use crate::engine::EngineOptions;
use crate::operations::dispatcher::CommandQueue;
use crate::service::{ServiceError, VdHandle};
use crate::software::Components;
use crate::vaapi::{ControlPath, Tables};

/// What the control path of a service knows.
pub struct ControlPart<Q> {
    pub(crate) control: ControlPath,
    pub(crate) copies: Copies,
    pub(crate) kept: KeptPlans,
    pub(crate) own: OwnCommands<Q>,
    pub(crate) options: EngineOptions,
}

impl<Q: CommandQueue> ControlPart<Q> {
    pub(crate) fn new(control: ControlPath, copies: Copies, options: &EngineOptions) -> Self {
        Self { control, copies, kept: KeptPlans::default(), own: OwnCommands::default(), options: *options }
    }
}

/// What the control path says of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It ends as its record says.
    Release,
    /// It ends with this status.
    Complete(u16),
    /// It begins again: these components, or whole.
    Resubmit(Components),
    /// It issues nothing more, and is handed up.
    TakeOver,
    /// Its client is told so when nothing of it is under way.
    Abort,
}

/// A service whose plans the control path shares. Only the services of this crate are.
pub trait PlanService: Sized {
    /// How the control path's own commands reach whatever executes them.
    type Queue: CommandQueue;
    /// The machine.
    type Platform: Platform;
    /// Longest pause between two looks at what is waited for.
    const LOOK: Duration;

    /// What its control path knows,
    fn part(&mut self) -> &mut ControlPart<Self::Queue>;

    /// and the tables beside it.
    fn tables(&mut self) -> (&mut ControlPart<Self::Queue>, impl Tables);

    /// The machine.
    fn machine(&mut self) -> &mut Self::Platform;

    /// Memory for what describes memory or ranges.
    fn memory(&mut self, bytes: usize) -> Result<DmaMemory, AccessError>;

    /// Does what can be done now; `Decides::decide` is part of it.
    fn progress(&mut self) -> Result<(), ServiceError>;

    /// All records that there are.
    fn take_records(&mut self) -> Result<Vec<ExceptionRecord>, CardError>;

    /// Makes the SSD at a path quiet, and the path usable again.
    fn fence(&mut self, path: u8) -> Result<(), CardError>;

    /// Has a decision obeyed.
    ///
    /// # Errors
    /// `CardError::Plan` where the handle is old or the plan's state forbids it: nothing has changed then.
    fn obey(&mut self, plan: PlanHandle, decision: Decision) -> Result<(), CardError>;

    /// The plans of a disk in some slots that are not the control path's.
    fn plans_of(&mut self, disk: VdHandle, slots: Range<u32>) -> Result<Vec<PlanHandle>, CardError>;

    /// Name of the device that a path leads to.
    fn device_name(&self, path: u8) -> Option<String>;

    /// Makes the queue of the control path's own commands.
    fn create_own_queue(&mut self) -> Result<Self::Queue, CardError>;

    /// Does what can be done until something is `over`; how long was waited, when it is not after `limit`.
    fn look_until(
        &mut self,
        limit: Duration,
        mut over: impl FnMut(&mut Self) -> Result<bool, CardError>,
    ) -> Result<Option<Duration>, ServiceError> {
        let since = self.machine().now();
        loop {
            self.progress()?;
            if over(self)? {
                return Ok(None);
            }
            let now = self.machine().now();
            if now >= since + limit {
                return Ok(Some(now - since));
            }
            self.machine().wait((now + Self::LOOK).min(since + limit))?;
        }
    }
}
