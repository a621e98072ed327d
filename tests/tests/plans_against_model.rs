//! Plans of several components in the RTL against the model: random machines with mirrored disks, overlapping
//! commands at depth, a control path, faults, and changes of states and templates meanwhile.
//!
//! `VOLPLANE_SEED` runs one machine in place of the list, `VOLPLANE_COMMANDS` sets how many commands each
//! machine gets.

use volplane_tests::harness::{from_environment, Configuration, Coverage, Session};

/// Commands of a machine.
const COMMANDS: u64 = 3_500;
/// Machines of each test.
const MACHINES: u64 = 11;

/// Runs machines with seeds from `first` on.
fn run(seeds: impl Iterator<Item = u64>, whole: bool) {
    let commands = from_environment("VOLPLANE_COMMANDS").unwrap_or(COMMANDS);
    let mut coverage = Coverage::default();
    for seed in seeds {
        coverage.merge(&Session::start(Configuration::mirrored(seed, 128)).run(commands));
    }
    if whole && commands == COMMANDS {
        coverage.assert_plans_complete();
    }
}

#[test]
fn width_128() {
    match from_environment("VOLPLANE_SEED") {
        Some(seed) => run([seed].into_iter(), false),
        None => run(5000..5000 + MACHINES, true),
    }
}

/// As many again, for the second core.
#[test]
fn width_128_more() {
    if from_environment("VOLPLANE_SEED").is_none() {
        run(6000..6000 + MACHINES, true);
    }
}
