//! The RTL against the plain model: random machines, random commands, stalls on every port.
//!
//! Without more the first few machines of each list run; `VOLPLANE_WHOLE=1` (`make thorough`) runs all of them,
//! which must meet everything. `VOLPLANE_SEED` runs one machine, `VOLPLANE_COMMANDS` sets how many commands each gets.

use volplane_tests::harness::{from_environment, is_built, is_whole, Configuration, Coverage, Session};

/// Commands of a machine.
const COMMANDS: u64 = 2_500;

/// Machines of each list that run without more.
const FEW: u64 = 3;

/// Runs `count` machines with seeds from `first` on, or a few of them.
fn run(width: usize, first: u64, count: u64) {
    let most = if is_whole() { count } else { FEW };
    let seeds: Vec<u64> = match from_environment("VOLPLANE_SEED") {
        Some(seed) => vec![seed],
        None => (first..first + most).collect(),
    };
    let commands = from_environment("VOLPLANE_COMMANDS").unwrap_or(COMMANDS);
    let whole = seeds.len() as u64 == count && commands == COMMANDS;
    let mut coverage = Coverage::default();
    for seed in seeds {
        coverage.merge(&Session::start(Configuration::random(seed, width)).run(commands));
    }
    println!("{}", coverage.ends());
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
    if is_built(256) {
        run(256, 2000, 12);
    }
}

#[test]
fn width_512() {
    if is_built(512) {
        run(512, 3000, 8);
    }
}
