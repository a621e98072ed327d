//! Plans of several components in the RTL against the model: random machines with mirrored disks, overlapping
//! commands at depth, a control path, faults, and changes of states and templates meanwhile.
//!
//! Without more the first few machines run; `VOLPLANE_WHOLE=1` (`make thorough`) runs all of them, which must meet
//! everything. `VOLPLANE_SEED` runs one machine, `VOLPLANE_COMMANDS` sets how many commands each gets.

use volplane_tests::harness::{from_environment, is_whole, Configuration, Coverage, Session};

/// Commands of a machine.
const COMMANDS: u64 = 3_500;
/// Machines of each test, and how many of them run without more.
const MACHINES: u64 = 56;
const FEW: u64 = 2;

/// Runs the machines of a test, whose seeds begin with `first`.
fn run_from(first: u64) {
    let whole = is_whole();
    run(first..first + if whole { MACHINES } else { FEW }, whole);
}

/// Runs machines with these seeds; all of a test's must meet everything together.
fn run(seeds: impl Iterator<Item = u64>, whole: bool) {
    let commands = from_environment("VOLPLANE_COMMANDS").unwrap_or(COMMANDS);
    let mut coverage = Coverage::default();
    for seed in seeds {
        coverage.merge(&Session::start(Configuration::mirrored(seed, 128)).run(commands));
    }
    println!("{}{}", coverage.plans(), coverage.ends());
    if whole && commands == COMMANDS {
        coverage.assert_plans_complete();
    }
}

#[test]
fn width_128() {
    match from_environment("VOLPLANE_SEED") {
        Some(seed) => run([seed].into_iter(), false),
        None => run_from(5000),
    }
}

/// As many again, for the second core.
#[test]
fn width_128_more() {
    if from_environment("VOLPLANE_SEED").is_none() {
        run_from(6000);
    }
}
