//! What the brief leaves open to whoever executes plans: the component that a read tries, and the path
//! that a fragment takes.

use std::collections::BTreeMap;

use volplane_abi::plan::{path_policy, COMPONENTS_MAX};

use super::template::{Components, ReadPolicy};

/// Makes the choices. Each answer is one of what it is offered; `None` only where that is nothing.
pub trait Chooser: Send {
    /// The component that a read tries first, of those in sync. `busy`: parts that each has under way for the disk.
    fn component(
        &mut self,
        policy: ReadPolicy,
        among: Components,
        busy: &[u32; COMPONENTS_MAX],
    ) -> Option<usize>;

    /// The path to take, by its place among its device's, of those with room.
    fn path(&mut self, policy: u8, device: u16, among: &[usize]) -> Option<usize>;
}

/// As the policies say, with turns that begin at number 0.
#[derive(Debug, Default)]
pub struct Turns {
    component: usize,
    paths: BTreeMap<u16, usize>,
}

impl Chooser for Turns {
    fn component(
        &mut self,
        policy: ReadPolicy,
        among: Components,
        busy: &[u32; COMPONENTS_MAX],
    ) -> Option<usize> {
        let lowest = among.numbers().next()?;
        Some(match policy {
            ReadPolicy::Preferred(number) if among.has(number.into()) => number.into(),
            ReadPolicy::Preferred(_) => lowest,
            ReadPolicy::RoundRobin => {
                let next = among.numbers().find(|&number| number >= self.component).unwrap_or(lowest);
                self.component = next + 1;
                next
            }
            ReadPolicy::LeastOutstanding => {
                among.numbers().min_by_key(|&number| busy[number]).unwrap_or(lowest)
            }
        })
    }

    fn path(&mut self, policy: u8, device: u16, among: &[usize]) -> Option<usize> {
        let lowest = *among.first()?;
        if policy != path_policy::ROUND_ROBIN {
            return Some(lowest);
        }
        let turn = self.paths.entry(device).or_default();
        let next = among.iter().copied().find(|place| place >= turn).unwrap_or(lowest);
        *turn = next + 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let mut turns = Turns::default();
        let mut pick = |policy, among| turns.component(policy, Components(among), &[5, 3, 3, 9, 0, 0, 0, 0]);
        assert_eq!(pick(ReadPolicy::Preferred(2), 0b0111), Some(2));
        assert_eq!(pick(ReadPolicy::Preferred(2), 0b1010), Some(1));
        let round: Vec<_> = (0..4).map(|_| pick(ReadPolicy::RoundRobin, 0b1011)).collect();
        assert_eq!(round, [Some(0), Some(1), Some(3), Some(0)]);
        assert_eq!(pick(ReadPolicy::LeastOutstanding, 0b1111), Some(1));
        assert_eq!(pick(ReadPolicy::RoundRobin, 0), None);
        let round: Vec<_> = (0..3).map(|_| turns.path(path_policy::ROUND_ROBIN, 7, &[0, 2])).collect();
        assert_eq!(round, [Some(0), Some(2), Some(0)]);
        assert_eq!(turns.path(path_policy::PREFERRED, 7, &[1, 2]), Some(1));
    }
}
