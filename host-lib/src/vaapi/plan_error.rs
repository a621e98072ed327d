//! What may be wrong with an I/O plan.

use crate::service::VdHandle;
use crate::software::{ComponentState, TemplateError};

/// What is wrong with a plan, or with a call on one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The plan by itself.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A component's disk has no map.
    #[error("component {component}: {disk} has no map")]
    NoMap {
        /// Component.
        component: usize,
        /// Its disk.
        disk: VdHandle,
    },
    /// A component's disk has another size.
    #[error("component {component}: {disk} has {blocks} blocks instead of {wanted}")]
    Size {
        /// Component.
        component: usize,
        /// Its disk.
        disk: VdHandle,
        /// Blocks of that.
        blocks: u64,
        /// Blocks of the plan's disk.
        wanted: u64,
    },
    /// A component's disk has blocks of another size.
    #[error("component {component}: {disk} has blocks of 2^{shift} bytes instead of 2^{wanted}")]
    BlockSize {
        /// Component.
        component: usize,
        /// Its disk.
        disk: VdHandle,
        /// log2 of its blocks.
        shift: u8,
        /// log2 of those of the plan's disk.
        wanted: u8,
    },
    /// Two components have one map.
    #[error("component {component}: {disk} is a component of {owner} already")]
    Shared {
        /// Component.
        component: usize,
        /// Its disk.
        disk: VdHandle,
        /// The disk whose plan has it.
        owner: VdHandle,
    },
    /// The plan has no such component.
    #[error("there is no component {0}")]
    NoComponent(usize),
    /// The plan has this component already.
    #[error("component {0} is there already")]
    Taken(usize),
    /// Commands that were admitted with another component in this position may be under way, or the control path has
    /// plans of the disk.
    #[error("component {0} may be another for commands that are under way, or that the control path has")]
    Leaving(usize),
    /// None of the components that would be left holds all the data.
    #[error("no component that stays is in sync")]
    NothingInSync,
    /// A component that is out was to become in sync.
    #[error("component {0} is out, and becomes in sync by way of write-only alone")]
    StillOut(usize),
    /// A component that is not out was to be durably out.
    #[error("component {component} is {found}, not out")]
    NotOut {
        /// Component.
        component: usize,
        /// Its state.
        found: ComponentState,
    },
    /// The card has changed a state while it was set.
    #[error("component {component} is {found}, not {wanted}: the card has moved it meanwhile")]
    Moved {
        /// Component.
        component: usize,
        /// What was written.
        wanted: ComponentState,
        /// What the card has.
        found: ComponentState,
    },
}
