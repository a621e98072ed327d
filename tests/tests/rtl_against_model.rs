//! The RTL against the plain model: random machines, random commands, stalls on every port.
//!
//! `VOLPLANE_SEED` runs one machine in place of the list, `VOLPLANE_COMMANDS` sets how many commands each
//! machine gets.

use volplane_tests::harness::{from_environment, Configuration, Coverage, Session};

/// Commands of a machine.
const COMMANDS: u64 = 2_500;

/// Runs `count` machines with seeds from `first` on.
fn run(width: usize, first: u64, count: u64) {
    let seeds: Vec<u64> = match from_environment("VOLPLANE_SEED") {
        Some(seed) => vec![seed],
        None => (first..first + count).collect(),
    };
    let commands = from_environment("VOLPLANE_COMMANDS").unwrap_or(COMMANDS);
    let whole = seeds.len() as u64 == count && commands == COMMANDS;
    let mut coverage = Coverage::default();
    for seed in seeds {
        coverage.merge(&Session::start(Configuration::random(seed, width)).run(commands));
    }
    if whole {
        coverage.assert_complete();
    }
}

#[test]
fn width_128() {
    run(128, 1000, 24);
}

#[test]
fn width_256() {
    run(256, 2000, 8);
}

#[test]
fn width_512() {
    run(512, 3000, 8);
}
