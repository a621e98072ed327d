//! Plan templates: what a virtual disk's commands become.

use volplane_abi::plan::{component_state, read_policy, COMPONENTS_MAX, TIME_OUT_MAX};
use volplane_abi::{ComponentEntry, ComponentStates, PlanEntry, PlanMasks, VdEntry};

/// A bit for each component of a plan.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Components(pub u8);

impl Components {
    /// No component.
    pub const NONE: Self = Self(0);
    /// All that there can be.
    pub const ALL: Self = Self(u8::MAX);

    /// The components that `choose` says yes to.
    pub fn of(mut choose: impl FnMut(usize) -> bool) -> Self {
        Self((0..COMPONENTS_MAX).fold(0, |bits, number| bits | u8::from(choose(number)) << number))
    }

    /// One component.
    pub fn one(number: usize) -> Self {
        Self(1 << number)
    }

    /// Whether it is one of them.
    pub fn has(self, number: usize) -> bool {
        self.0 >> number & 1 == 1
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those of either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is any.
    pub fn any(self) -> bool {
        self.0 != 0
    }

    /// How many.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Their numbers, lowest first.
    pub fn numbers(self) -> impl Iterator<Item = usize> {
        (0..COMPONENTS_MAX).filter(move |&number| self.has(number))
    }
}

impl std::fmt::Debug for Components {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.numbers()).finish()
    }
}

/// The masks that decide a read or a write. Bit i speaks of component i.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MaskSet {
    /// When it fails, the others go on.
    pub continuation: Components,
    /// When it fails, the command fails. Of no effect for reads.
    pub success: Components,
    /// When it fails, a log record is posted,
    pub log: Components,
    /// and the completion waits until the control path releases the plan.
    pub log_with_data: Components,
    /// When it fails, the disk is deactivated.
    pub deactivate: Components,
}

/// State of a component (`abi::plan::component_state`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ComponentState {
    /// A hole.
    #[default]
    Absent,
    /// Read from and written to.
    InSync,
    /// Written to.
    WriteOnly,
    /// Neither.
    Out,
}

impl ComponentState {
    /// As the ABI numbers it.
    pub fn number(self) -> u8 {
        match self {
            ComponentState::Absent => component_state::ABSENT,
            ComponentState::InSync => component_state::IN_SYNC,
            ComponentState::WriteOnly => component_state::WRITE_ONLY,
            ComponentState::Out => component_state::OUT,
        }
    }

    /// That of a component in an entry.
    pub fn in_entry(entry: &ComponentStates, component: usize) -> Self {
        match entry.state(component) {
            component_state::IN_SYNC => ComponentState::InSync,
            component_state::WRITE_ONLY => ComponentState::WriteOnly,
            component_state::OUT => ComponentState::Out,
            _ => ComponentState::Absent,
        }
    }

    /// The entry with this state of a component.
    #[must_use]
    pub fn put(self, entry: ComponentStates, component: usize) -> ComponentStates {
        entry.with_state(component, self.number())
    }
}

impl std::fmt::Display for ComponentState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ComponentState::Absent => "absent",
            ComponentState::InSync => "in sync",
            ComponentState::WriteOnly => "write-only",
            ComponentState::Out => "out",
        })
    }
}

impl MaskSet {
    fn of_entry(masks: PlanMasks) -> Self {
        Self {
            continuation: Components(masks.continuation()),
            success: Components(masks.success()),
            log: Components(masks.log()),
            log_with_data: Components(masks.log_with_data()),
            deactivate: Components(masks.deactivate()),
        }
    }

    /// As the ABI has them.
    pub fn entry(&self) -> PlanMasks {
        PlanMasks::default()
            .with_continuation(self.continuation.0)
            .with_success(self.success.0)
            .with_log(self.log.0)
            .with_log_with_data(self.log_with_data.0)
            .with_deactivate(self.deactivate.0)
    }
}

/// Which component a read tries first (`abi::plan::read_policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPolicy {
    /// This one, else the lowest-numbered.
    Preferred(u8),
    /// In turns.
    RoundRobin,
    /// The one with the fewest fragments outstanding.
    LeastOutstanding,
}

/// A component of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Component {
    /// The virtual disk whose map it is.
    pub disk: u16,
    /// Its state.
    pub state: ComponentState,
    /// Ticks after which a fragment of it is not waited for; 0: for ever.
    pub time_out: u32,
    /// How often a fragment of it is given again before the component has failed.
    pub retries: u8,
}

impl Component {
    /// Its entry, with the map of its disk.
    pub fn entry(&self, map: &VdEntry) -> ComponentEntry {
        ComponentEntry::default()
            .with_disk(self.disk)
            .with_retries(self.retries)
            .with_time_out(self.time_out)
            .with_allocation_shift(map.allocation_shift())
            .with_map_root(map.map_root())
            .with_flush_devices(map.flush_devices())
    }
}

/// What the commands of a virtual disk become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanTemplate {
    /// Components; positions never change.
    pub components: [Component; COMPONENTS_MAX],
    /// Masks of Read and Compare.
    pub read: MaskSet,
    /// Masks of all other commands.
    pub write: MaskSet,
    /// Order of reads.
    pub read_policy: ReadPolicy,
    /// Components in sync that must succeed for a write to succeed, 0 to 8.
    pub minimum: u8,
    /// Components whose being out the control path has made durable, holes included. A write that
    /// misses another one is not completed before the control path says so.
    pub durably_out: Components,
}

impl PlanTemplate {
    /// A plan of one component, the disk itself, without masks.
    pub fn single(disk: u16) -> Self {
        let mut components = [Component::default(); COMPONENTS_MAX];
        components[0] = Component { disk, state: ComponentState::InSync, time_out: 0, retries: 0 };
        let masks = MaskSet { continuation: Components::one(0), ..MaskSet::default() };
        Self {
            components,
            read: masks,
            write: MaskSet { success: Components::one(0), ..masks },
            read_policy: ReadPolicy::Preferred(0),
            minimum: 1,
            durably_out: Components(!1),
        }
    }

    /// That of entries of the tables.
    pub fn from_entries(
        plan: &PlanEntry,
        components: &[ComponentEntry; COMPONENTS_MAX],
        states: &ComponentStates,
    ) -> Self {
        let component = |number: usize| Component {
            disk: components[number].disk(),
            state: ComponentState::in_entry(states, number),
            time_out: components[number].time_out(),
            retries: components[number].retries(),
        };
        let mut template = Self {
            components: std::array::from_fn(component),
            read: MaskSet::of_entry(PlanMasks::of_field(plan.read_masks())),
            write: MaskSet::of_entry(PlanMasks::of_field(plan.write_masks())),
            read_policy: match plan.read_policy() {
                read_policy::ROUND_ROBIN => ReadPolicy::RoundRobin,
                read_policy::LEAST_OUTSTANDING => ReadPolicy::LeastOutstanding,
                _ => ReadPolicy::Preferred(plan.preferred()),
            },
            minimum: plan.minimum(),
            durably_out: Self::durably_out_of(states),
        };
        let absent = template.components.iter_mut().filter(|one| one.state == ComponentState::Absent);
        absent.for_each(|component| *component = Component::default());
        template
    }

    /// The components that the control path knows to be out, by an entry of states; holes are, too.
    pub(super) fn durably_out_of(states: &ComponentStates) -> Components {
        let absent =
            Components::of(|number| ComponentState::in_entry(states, number) == ComponentState::Absent);
        Components(states.durably_out()).or(absent)
    }

    /// The entry of the plan table.
    pub fn plan_entry(&self) -> PlanEntry {
        let (policy, preferred) = match self.read_policy {
            ReadPolicy::Preferred(number) => (read_policy::PREFERRED, number),
            ReadPolicy::RoundRobin => (read_policy::ROUND_ROBIN, 0),
            ReadPolicy::LeastOutstanding => (read_policy::LEAST_OUTSTANDING, 0),
        };
        PlanEntry::default()
            .with_read_masks(self.read.entry().field())
            .with_write_masks(self.write.entry().field())
            .with_read_policy(policy)
            .with_preferred(preferred)
            .with_minimum(self.minimum)
    }

    /// A write of the states of `select`.
    pub fn states_entry(&self, select: Components) -> ComponentStates {
        let all = self.components.iter().enumerate();
        let entry = all.fold(ComponentStates::default(), |entry, (number, component)| {
            component.state.put(entry, number)
        });
        entry.with_durably_out(self.durably_out.0).with_select(select.0)
    }

    /// The components in a state.
    pub fn in_state(&self, state: ComponentState) -> Components {
        Components::of(|number| self.components[number].state == state)
    }

    /// Components that are read from.
    pub fn readable(&self) -> Components {
        self.in_state(ComponentState::InSync)
    }

    /// Components that are written to.
    pub fn writable(&self) -> Components {
        self.readable().or(self.in_state(ComponentState::WriteOnly))
    }

    /// Components that are there.
    pub fn present(&self) -> Components {
        Components::of(|number| self.components[number].state != ComponentState::Absent)
    }

    /// Names what is inconsistent.
    ///
    /// # Errors
    /// `TemplateError`.
    pub fn check(&self) -> Result<(), TemplateError> {
        if !self.present().any() {
            return Err(TemplateError::Empty);
        }
        for (name, masks) in [("read", &self.read), ("write", &self.write)] {
            let all = [
                ("continuation", masks.continuation),
                ("success", masks.success),
                ("log", masks.log),
                ("log with data", masks.log_with_data),
                ("deactivate", masks.deactivate),
            ];
            for (mask, bits) in all {
                if let Some(component) = bits.without(self.present()).numbers().next() {
                    return Err(TemplateError::MaskBeyond { set: name, mask, component });
                }
            }
            if let Some(component) = masks.log_with_data.without(masks.log).numbers().next() {
                return Err(TemplateError::DataWithoutLog { set: name, component });
            }
        }
        for component in self.present().numbers() {
            let ticks = self.components[component].time_out;
            if ticks > TIME_OUT_MAX {
                return Err(TemplateError::TimeOut { component, ticks });
            }
        }
        if usize::from(self.minimum) > COMPONENTS_MAX {
            return Err(TemplateError::Minimum(self.minimum));
        }
        if let ReadPolicy::Preferred(number) = self.read_policy {
            if !(usize::from(number) < COMPONENTS_MAX && self.present().has(number.into())) {
                return Err(TemplateError::Preferred(number));
            }
        }
        if let Some(component) = self.durably_out.and(self.writable()).numbers().next() {
            return Err(TemplateError::OutAndNot { component });
        }
        Ok(())
    }
}

/// What is inconsistent about a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// All positions are holes.
    #[error("the plan has no component")]
    Empty,
    /// A mask speaks of a component that is not there.
    #[error("the {mask} mask of {set}s names component {component}, which is not there")]
    MaskBeyond {
        /// Mask set.
        set: &'static str,
        /// Mask.
        mask: &'static str,
        /// Component.
        component: usize,
    },
    /// Data are to be logged of a component that is not logged.
    #[error("the masks of {set}s log component {component} with data, but do not log it")]
    DataWithoutLog {
        /// Mask set.
        set: &'static str,
        /// Component.
        component: usize,
    },
    /// More copies than there can be.
    #[error("a minimum of {0} copies, where a plan has at most 8 components")]
    Minimum(u8),
    /// Reads prefer a component that is not there.
    #[error("reads prefer component {0}, which is not there")]
    Preferred(u8),
    /// More ticks than an entry holds.
    #[error("component {component}: a time-out of {ticks} ticks, where {TIME_OUT_MAX} are the most")]
    TimeOut {
        /// Component.
        component: usize,
        /// Ticks.
        ticks: u32,
    },
    /// A component that is written to is said to be durably out.
    #[error("component {component} is written to, and said to be durably out")]
    OutAndNot {
        /// Component.
        component: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inconsistent_is_named() {
        let good = PlanTemplate::single(3);
        assert_eq!(good.check(), Ok(()));
        let mut bad = good;
        bad.components[0].state = ComponentState::Absent;
        assert_eq!(bad.check(), Err(TemplateError::Empty));
        let mut bad = good;
        bad.write.log = Components(0b100);
        let error = bad.check().expect_err("component 2 is a hole");
        assert_eq!(error.to_string(), "the log mask of writes names component 2, which is not there");
        let mut bad = good;
        bad.read.log_with_data = Components(1);
        assert_eq!(bad.check(), Err(TemplateError::DataWithoutLog { set: "read", component: 0 }));
        assert_eq!(PlanTemplate { minimum: 9, ..good }.check(), Err(TemplateError::Minimum(9)));
        let bad = PlanTemplate { read_policy: ReadPolicy::Preferred(9), ..good };
        assert_eq!(bad.check(), Err(TemplateError::Preferred(9)));
        let mut bad = good;
        bad.components[0].time_out = 1 << 24;
        assert_eq!(bad.check(), Err(TemplateError::TimeOut { component: 0, ticks: 1 << 24 }));
        let bad = PlanTemplate { durably_out: Components(0xFF), ..good };
        assert_eq!(bad.check(), Err(TemplateError::OutAndNot { component: 0 }));
    }
}
