//! Parts that a card has under way, by disk and component, as its trace tells: which copies a read of the least busy
//! one may have gone to.
//!
//! Parts begin in the order in which they are counted, so what had begun when a read was given its copy is known. Of ends
//! the card knows those that its judge of plans took some cycles ago: how many exactly is its own affair, which leaves room
//! for one end at most.

use std::collections::{HashMap, VecDeque};

use volplane::software::Components;
use volplane_abi::plan::COMPONENTS_MAX;

/// Cycles before a plan is seen to be begun by which its choice knew of an end: of one that was taken then or before,
const KNOWN: u64 = 16;
/// and of none that was taken then or after.
const UNKNOWN: u64 = 13;

/// What a disk has under way.
#[derive(Clone, Debug, Default)]
struct UnderWay {
    /// By component.
    parts: [u32; COMPONENTS_MAX],
    /// Of these, those that are over: when their ends were taken. A choice to come may not know of them.
    over: VecDeque<(u64, usize)>,
}

impl UnderWay {
    /// Forgets the first part that is over.
    fn forget(&mut self) {
        if let Some((_, component)) = self.over.pop_front() {
            self.parts[component] -= 1;
        }
    }
}

/// The first of `among` with the fewest parts.
fn least(parts: &[u32; COMPONENTS_MAX], among: Components) -> Option<usize> {
    among.numbers().min_by_key(|&number| parts[number])
}

/// What all disks have under way.
#[derive(Clone, Debug, Default)]
pub struct PartCounts {
    disks: HashMap<u16, UnderWay>,
}

impl PartCounts {
    /// A part begins.
    pub fn begin(&mut self, disk: u16, component: usize) {
        self.disks.entry(disk).or_default().parts[component] += 1;
    }

    /// A part is over: the judge of plans takes its end in this cycle.
    ///
    /// # Errors
    /// When none is under way.
    pub fn end(&mut self, disk: u16, component: usize, cycle: u64) -> Result<(), String> {
        let under_way = self.disks.entry(disk).or_default();
        under_way.over.push_back((cycle, component));
        let ended = under_way.over.iter().filter(|(_, other)| *other == component).count();
        match ended as u32 > under_way.parts[component] {
            true => Err(format!("component {component} of disk {disk} has no part under way")),
            false => Ok(()),
        }
    }

    /// The components of `among` that a read which is seen to be begun in this cycle may have gone to, and before which
    /// no others were begun than by now.
    pub fn least(&mut self, disk: u16, among: Components, cycle: u64) -> Components {
        let under_way = self.disks.entry(disk).or_default();
        while under_way.over.front().is_some_and(|(taken, _)| taken + KNOWN <= cycle) {
            under_way.forget();
        }
        let mut parts = under_way.parts;
        let mut allowed = least(&parts, among).map_or(Components::NONE, Components::one);
        for &(_, component) in under_way.over.iter().filter(|(taken, _)| taken + UNKNOWN < cycle) {
            parts[component] -= 1;
            allowed = allowed.or(least(&parts, among).map_or(Components::NONE, Components::one));
        }
        allowed
    }

    /// Parts that are under way, and not over.
    pub fn left(&self) -> usize {
        let of = |disk: &UnderWay| disk.parts.iter().sum::<u32>() as usize - disk.over.len();
        self.disks.values().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_that_is_just_becoming_known_leaves_a_choice() {
        let mut counts = PartCounts::default();
        let all = Components(0b101);
        assert_eq!(counts.least(3, all, 10), Components(0b001));
        counts.begin(3, 0);
        assert_eq!(counts.least(3, all, 20), Components(0b100));
        assert_eq!(counts.least(4, all, 20), Components(0b001), "another disk");
        assert_eq!(counts.least(3, Components::NONE, 20), Components::NONE);
        counts.end(3, 0, 100).expect("it is under way");
        assert_eq!(counts.least(3, all, 113), Components(0b100), "it cannot know yet");
        assert_eq!(counts.least(3, all, 114), Components(0b101));
        assert_eq!(counts.least(3, all, 115), Components(0b101));
        assert_eq!(counts.least(3, all, 116), Components(0b001), "it knows");
        assert_eq!(counts.left(), 0);
        assert!(counts.end(3, 0, 200).is_err());
    }
}
