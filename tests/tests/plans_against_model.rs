//! Plans of several components in the RTL against the model: random machines with mirrored disks.
//!
//! `VOLPLANE_SEED` runs one machine in place of the list, `VOLPLANE_COMMANDS` sets how many commands each
//! machine gets.

use volplane_tests::harness::{from_environment, Configuration, Coverage, Session};

/// Commands of a machine.
const COMMANDS: u64 = 1_500;
/// Machines, and the seed of the first.
const MACHINES: u64 = 10;
const FIRST: u64 = 5000;

#[test]
fn width_128() {
    let seeds: Vec<u64> = match from_environment("VOLPLANE_SEED") {
        Some(seed) => vec![seed],
        None => (FIRST..FIRST + MACHINES).collect(),
    };
    let commands = from_environment("VOLPLANE_COMMANDS").unwrap_or(COMMANDS);
    let whole = seeds.len() as u64 == MACHINES && commands == COMMANDS;
    let mut coverage = Coverage::default();
    for seed in seeds {
        let configuration = Configuration::mirrored(seed, 128);
        coverage.merge(&Session::start(configuration).run(commands));
    }
    if whole {
        coverage.assert_plans_complete();
    }
}
