//! Random mirrored disks: plan templates, their components' maps and divert ranges, and what has become of the
//! components.

use std::collections::BTreeMap;
use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane::software::{Component, ComponentState, Components, MaskSet, PlanTemplate, ReadPolicy};
use volplane_abi::plan::{component_state, COMPONENTS_MAX};
use volplane_abi::tables::table;
use volplane_abi::{ComponentEntry, ComponentStates, DivertEntry, VdEntry};
use volplane_driver::TableWrite;

/// Plan templates of the default build: 1 to 255.
pub const PLANS: u16 = 255;
/// Most times that a component is tried again.
const RETRIES_MAX: u8 = 3;
/// Most divert ranges of a disk.
const DIVERTS_MAX: usize = 4;
/// Which part of its disk a divert range is at most.
const DIVERTED_PART: u64 = 12;

/// A disk with a plan template.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its handle.
    pub disk: u32,
    /// Number of its template at the start.
    pub plan: u16,
    /// Components with their states at the start.
    pub template: PlanTemplate,
    /// The templates that it has had, by number.
    pub templates: BTreeMap<u16, PlanTemplate>,
    /// The disk itself, with each component's map.
    pub maps: [VdEntry; COMPONENTS_MAX],
    /// Its divert ranges, and which of them each template names.
    pub diverts: Diverts,
}

/// The divert ranges of a disk: a run of the table, of which each template names a run of its own.
#[derive(Clone, Debug, Default)]
pub struct Diverts {
    first: u16,
    blocks: Vec<Range<u64>>,
    named: BTreeMap<u16, Range<usize>>,
    random: Option<ChaCha8Rng>,
}

impl Diverts {
    /// Ranges of a disk of `size` blocks, from entry `first` of the table on.
    fn random(mut random: ChaCha8Rng, first: u16, size: u64) -> Self {
        let blocks = (0..random.random_range(0..=DIVERTS_MAX)).map(|_| {
            let start = random.random_range(0..size);
            start..(start + random.random_range(1..=(size / DIVERTED_PART).max(1))).min(size)
        });
        Self { first, blocks: blocks.collect(), named: BTreeMap::new(), random: Some(random) }
    }

    /// Draws which of them another template names.
    fn name(&mut self, plan: u16) {
        let Some(random) = &mut self.random else { return };
        let first = random.random_range(0..=self.blocks.len());
        let end = random.random_range(first..=self.blocks.len());
        self.named.insert(plan, first..end);
    }

    fn named(&self, plan: u16) -> Range<usize> {
        self.named.get(&plan).cloned().unwrap_or_default()
    }

    /// Whether a template diverts anything.
    pub fn any(&self, plan: u16) -> bool {
        !self.named(plan).is_empty()
    }

    /// Whether a template diverts a command to these blocks.
    pub fn touch(&self, plan: u16, blocks: &Range<u64>) -> bool {
        let touched = |range: &Range<u64>| range.start < blocks.end && blocks.start < range.end;
        self.blocks[self.named(plan)].iter().any(touched)
    }
}

/// What the card's table says of a disk's components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States {
    /// State of each component (`abi::plan::component_state`).
    pub states: [u8; COMPONENTS_MAX],
    /// Components whose being out is durable.
    pub durably_out: u8,
    /// A failure has deactivated the disk.
    pub deactivated: bool,
}

impl States {
    /// As they stand in the table.
    pub fn unpack(states: u16, durably_out: u8, deactivated: bool) -> Self {
        let states =
            std::array::from_fn(|number| ComponentStates::default().with_states(states).state(number));
        Self { states, durably_out, deactivated }
    }

    /// The components in one of these states.
    pub fn those(&self, wanted: &[u8]) -> Components {
        Components::of(|number| wanted.contains(&self.states[number]))
    }

    /// The entry that writes `select` of them, and with `reactivate` also `deactivated`.
    pub fn entry(&self, select: u8, reactivate: bool) -> ComponentStates {
        let all = self.states.iter().enumerate();
        all.fold(ComponentStates::default(), |entry, (number, &state)| entry.with_state(number, state))
            .with_durably_out(self.durably_out)
            .with_select(select)
            .with_deactivated(self.deactivated.into())
            .with_reactivate(reactivate.into())
    }

    /// What is left when components are moved out, and the disk is deactivated.
    pub fn changed(mut self, out: u8, deactivate: bool) -> Self {
        for number in Components(out).numbers() {
            if self.states[number] != component_state::ABSENT {
                self.states[number] = component_state::OUT;
            }
        }
        self.deactivated |= deactivate;
        self
    }

    /// What is left when the control path writes `select` of `new`: who is out does not become in sync.
    pub fn written(mut self, new: &Self, select: u8, reactivate: bool) -> Self {
        for number in Components(select).numbers() {
            let step = (self.states[number], new.states[number]);
            if step != (component_state::OUT, component_state::IN_SYNC) {
                self.states[number] = new.states[number];
            }
        }
        self.durably_out = self.durably_out & !select | new.durably_out & select;
        self.deactivated = if reactivate { new.deactivated } else { self.deactivated };
        self
    }
}

impl Mirror {
    /// A template for the components in `maps`; `None` is a hole. `disks`: whose maps they are.
    pub fn random(
        random: &mut ChaCha8Rng,
        (disk, plan): (u32, u16),
        maps: [Option<(u16, VdEntry)>; COMPONENTS_MAX],
    ) -> Self {
        let mut components = [Component::default(); COMPONENTS_MAX];
        // Of ten components, how many are out, and how many are out or write-only.
        let (out, behind) = [(1, 3), (1, 3), (1, 3), (8, 9)][random.random_range(0..4)];
        for (component, map) in components.iter_mut().zip(&maps) {
            let Some((disk, _)) = *map else { continue };
            let state = match random.random_range(0..10) {
                drawn if drawn < out => ComponentState::Out,
                drawn if drawn < behind => ComponentState::WriteOnly,
                _ => ComponentState::InSync,
            };
            *component = Component { disk, state, time_out: 0, retries: 0 };
        }
        let template = policies(random, components);
        let maps = maps.map(|map| map.map_or_else(VdEntry::default, |map| map.1));
        let (templates, diverts) = ([(plan, template)].into(), Diverts::default());
        Self { disk, plan, template, templates, maps, diverts }
    }

    /// Lets some of its components wait for their SSDs no longer than a few units of 1,024 ticks.
    pub fn hurry(&mut self, random: &mut ChaCha8Rng) {
        for component in self.template.components.iter_mut() {
            let most = [0, 1, 2_000, 2_000, 6_000, 6_000, 20_000, 20_000][random.random_range(0..8)];
            component.time_out = if most == 0 { 0 } else { random.random_range(1..=most) };
            if component.state == ComponentState::Absent {
                component.time_out = 0;
            }
        }
        self.templates.insert(self.plan, self.template);
    }

    /// Gives the disk divert ranges, in the run of the table that is that of the mirrored disk with this number.
    pub fn divert(&mut self, random: ChaCha8Rng, number: usize, size: u64) {
        self.diverts = Diverts::random(random, (number * DIVERTS_MAX) as u16, size);
        self.diverts.name(self.plan);
    }

    /// Another template for the same components; its entries, as writes.
    pub fn another(&mut self, random: &mut ChaCha8Rng, plan: u16) -> Vec<TableWrite> {
        let template = policies(random, self.template.components);
        self.templates.insert(plan, template);
        self.diverts.name(plan);
        self.template_writes(plan)
    }

    /// The states at the start.
    pub fn states(&self) -> States {
        let states = self.template.components.map(|component| match component.state {
            ComponentState::Absent => component_state::ABSENT,
            ComponentState::InSync => component_state::IN_SYNC,
            ComponentState::WriteOnly => component_state::WRITE_ONLY,
            ComponentState::Out => component_state::OUT,
        });
        States { states, durably_out: self.template.durably_out.0, deactivated: false }
    }

    /// A template's entries.
    fn template_writes(&self, plan: u16) -> Vec<TableWrite> {
        let template = &self.templates[&plan];
        let named = self.diverts.named(plan);
        let entry = template
            .plan_entry()
            .with_first_divert(self.diverts.first + named.start as u16)
            .with_diverts(named.len() as u8);
        let mut writes = vec![TableWrite::new(table::PLAN, plan.into(), &entry.0)];
        for part in 0..COMPONENTS_MAX {
            let entry = template.components[part].entry(&self.maps[part]);
            writes.push(TableWrite::new(table::COMPONENT, ComponentEntry::index(plan, part), &entry.0));
        }
        writes
    }

    /// The template, the divert ranges and the states, as writes.
    pub fn writes(&self) -> Vec<TableWrite> {
        let mut writes = self.template_writes(self.plan);
        for (index, blocks) in (u32::from(self.diverts.first)..).zip(&self.diverts.blocks) {
            let entry =
                DivertEntry::default().with_first(blocks.start).with_last(blocks.end - 1).with_valid(1);
            writes.push(TableWrite::new(table::DIVERT, index, &entry.0));
        }
        // Who is in sync may not have been out before: the memory holds whatever it held.
        let none = States { states: [0; COMPONENTS_MAX], durably_out: 0, deactivated: false };
        for states in [none, self.states()] {
            writes.push(TableWrite::new(table::STATES, self.disk, &states.entry(0xFF, true).0));
        }
        writes
    }
}

/// A template of random masks, policies and retries.
fn policies(random: &mut ChaCha8Rng, components: [Component; COMPONENTS_MAX]) -> PlanTemplate {
    let components = components.map(|component| match component.state {
        ComponentState::Absent => component,
        _ => Component { retries: random.random_range(0..=RETRIES_MAX), ..component },
    });
    let present = Components::of(|number| components[number].state != ComponentState::Absent);
    let some =
        |random: &mut ChaCha8Rng, of_8: u8| Components::of(|_| random.random_range(0..8) < of_8).and(present);
    let mut masks = || {
        // Half of them leave the control path little to do.
        let (go_on, log) = [(8, 0), (8, 1), (7, 2), (6, 3)][random.random_range(0..4)];
        let log = some(random, log);
        MaskSet {
            continuation: some(random, go_on),
            success: some(random, 1),
            log,
            log_with_data: some(random, 3).and(log),
            deactivate: if random.random_bool(0.15) { some(random, 3) } else { Components::NONE },
        }
    };
    let (read, write) = (masks(), masks());
    let preferred = present.numbers().nth(random.random_range(0..present.count()) as usize);
    let read_policy = match random.random_range(0..3) {
        0 => ReadPolicy::Preferred(preferred.expect("a component") as u8),
        1 => ReadPolicy::RoundRobin,
        _ => ReadPolicy::LeastOutstanding,
    };
    let copies = present.count() as u8;
    let minimum = if random.random_bool(0.7) { 1 } else { random.random_range(0..=copies) };
    let absent =
        |number: usize| matches!(components[number].state, ComponentState::Out | ComponentState::Absent);
    PlanTemplate { components, read, write, read_policy, minimum, durably_out: Components::of(absent) }
}
