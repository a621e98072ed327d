//! What the card's trace tells of each plan: the choices that the model takes over, checked for being
//! allowed when they were made.

use std::collections::BTreeMap;

use volplane_sim::{PlanEvent, PlanRecord};

use super::mirrors::{Mirror, States};

/// Cycles before its admission is seen from which on a command may have looked its disk up, and after.
const LOOKED_UP: (u64, u64) = (3, 1);
/// States of a disk that are remembered.
const REMEMBERED: usize = 64;

/// A plan as it was begun.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// Disk.
    pub disk: u16,
    /// Template.
    pub plan: u16,
    /// Its masks (`PlanMasks`).
    pub masks: u64,
    /// Components that were there.
    pub present: u8,
    /// Components in sync.
    pub readable: u8,
    /// Components that were begun.
    pub begun: u8,
    /// Copies that a write needs.
    pub minimum: u8,
    /// Whether it reads.
    pub is_read: bool,
}

/// A plan from its admission on.
#[derive(Clone, Debug)]
pub struct Story {
    queue: u16,
    command_id: u16,
    admitted: u64,
    /// States that its disk may have had when it was looked up.
    pub seen: Vec<States>,
    /// What it was begun as; `None`: as a single part, or not yet.
    pub begun: Option<Begun>,
    /// Components that were read after the first one.
    pub further: Vec<usize>,
    /// The disk's states at each verdict.
    pub views: Vec<States>,
    /// Components that it moved out.
    pub out: u8,
    /// Times it deactivated its disk.
    pub deactivated: u32,
    /// The status that its client is told.
    pub status: u16,
}

/// The plans under way and the states of mirrored disks.
#[derive(Default)]
pub struct Stories {
    /// By disk: since when, and what; the last is what is now.
    states: BTreeMap<u32, Vec<(u64, States)>>,
    open: BTreeMap<u16, Story>,
    ended: BTreeMap<(u16, u16), Story>,
    /// A change that was taken and not answered.
    change: Option<(u16, u32, u8, bool)>,
    locks: bool,
}

impl Stories {
    /// None yet, of disks as they are at the start. `locks`: a write may look its disk up again.
    pub fn new(mirrors: &[Mirror], locks: bool) -> Self {
        let states = mirrors.iter().map(|mirror| (mirror.disk, vec![(0, mirror.states())])).collect();
        Self { states, locks, ..Self::default() }
    }

    /// What the card should hold of a disk.
    pub fn now(&self, disk: u32) -> States {
        self.states[&disk].last().expect("there is always one").1
    }

    /// The control path has written a disk's states.
    pub fn write(&mut self, disk: u32, states: States) {
        let history = self.states.get_mut(&disk).expect("a mirrored disk");
        let since = history.last().expect("there is always one").0;
        // What went before is over: nothing was under way.
        *history = vec![(since, states)];
    }

    /// The story of a command that was completed.
    ///
    /// # Errors
    /// When the trace does not tell it.
    pub fn take(&mut self, queue: u16, command_id: u16) -> Result<Story, String> {
        self.ended.remove(&(queue, command_id)).ok_or_else(|| "the trace tells of no such command".into())
    }

    /// Takes events in.
    ///
    /// # Errors
    /// Says what cannot be.
    pub fn feed(&mut self, records: Vec<PlanRecord>) -> Result<(), String> {
        records.into_iter().try_for_each(|record| {
            self.event(&record)
                .map_err(|what| format!("{what} in cycle {}: {:?}", record.cycle, record.event))
        })
    }

    fn event(&mut self, record: &PlanRecord) -> Result<(), String> {
        match record.event {
            PlanEvent::Admitted { slot, queue, command_id } => {
                let story = Story {
                    queue,
                    command_id,
                    admitted: record.cycle,
                    seen: Vec::new(),
                    begun: None,
                    further: Vec::new(),
                    views: Vec::new(),
                    out: 0,
                    deactivated: 0,
                    status: 0,
                };
                if self.open.insert(slot, story).is_some() {
                    return Err("the slot is in use".into());
                }
            }
            PlanEvent::Begun { slot, disk, plan, masks, present, readable, begun, minimum, is_read } => {
                let admitted = self.story(slot)?.admitted;
                let seen = self.seen(admitted, record.cycle, disk.into());
                let story = self.story(slot)?;
                story.seen = seen;
                let begun = Begun { disk, plan, masks, present, readable, begun, minimum, is_read };
                if story.begun.replace(begun).is_some() {
                    return Err("the plan is begun twice".into());
                }
            }
            PlanEvent::Change { slot, disk, out, deactivate } => {
                let story = self.story(slot)?;
                if story.begun.is_none_or(|begun| begun.disk != disk) {
                    return Err("a plan changes a disk that is not its own".into());
                }
                story.out |= out;
                story.deactivated += u32::from(deactivate);
                if self.change.replace((slot, disk.into(), out, deactivate)).is_some() {
                    return Err("the change before was not answered".into());
                }
            }
            PlanEvent::Changed { states, durably_out, deactivated } => {
                let found = States::unpack(states, durably_out, deactivated);
                let Some((slot, disk, out, deactivate)) = self.change.take() else {
                    return Err("no change was asked for".into());
                };
                let now = self.now(disk);
                if found != now {
                    return Err(format!("disk {disk} should be {now:?}"));
                }
                if out == 0 && !deactivate {
                    self.story(slot)?.views.push(found);
                } else {
                    let history = self.states.get_mut(&disk).expect("a mirrored disk");
                    history.push((record.cycle, now.changed(out, deactivate)));
                    if history.len() > REMEMBERED {
                        history.remove(0);
                    }
                }
            }
            PlanEvent::Again { slot, component, fresh } => {
                let story = self.story(slot)?;
                if fresh || story.begun.is_none() {
                    return Err("nobody asked for it".into());
                }
                story.further.push(component.into());
            }
            PlanEvent::Done { slot, status } => {
                let mut story = self.open.remove(&slot).ok_or("the slot is free")?;
                story.status = status;
                if self.ended.insert((story.queue, story.command_id), story).is_some() {
                    return Err("the command is completed twice".into());
                }
            }
        }
        Ok(())
    }

    fn story(&mut self, slot: u16) -> Result<&mut Story, String> {
        self.open.get_mut(&slot).ok_or_else(|| "the slot is free".into())
    }

    /// The states a command may have found that was admitted, and begun, in these cycles.
    fn seen(&self, admitted: u64, begun: u64, disk: u32) -> Vec<States> {
        let looked_up = admitted + LOOKED_UP.1;
        let last = if self.locks { begun.max(looked_up) } else { looked_up };
        let first = admitted.saturating_sub(LOOKED_UP.0);
        let Some(history) = self.states.get(&disk) else { return Vec::new() };
        let ends = history.iter().skip(1).map(|entry| entry.0).chain([u64::MAX]);
        let there = history.iter().zip(ends).filter(|((since, _), end)| *since <= last && *end > first);
        there.map(|((_, states), _)| *states).collect()
    }

    /// The states that a command which was not begun may have found: one that waited for its lock found them
    /// late.
    pub fn seen_by(&self, story: &Story, disk: u32) -> Vec<States> {
        self.seen(story.admitted, u64::MAX, disk)
    }
}
