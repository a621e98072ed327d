//! The RTL against the software data path for as long as you like: machine after machine, each with its seed.
//!
//! `soak [SEED] [COMMANDS]` runs machines with seeds from SEED on (default 1) until COMMANDS commands
//! (default one million) were compared; odd seeds are machines with mirrored disks. It stops at the first difference,
//! with how to see it again.

use std::time::Instant;

use volplane_sim::CARD_WIDTHS;
use volplane_tests::harness::{Configuration, Session};

/// Commands of a machine.
const COMMANDS: u64 = 5_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| match arguments.next() {
        Some(text) => text.replace('_', "").parse().unwrap_or_else(|_| {
            eprintln!("soak: {text} is no number; usage: soak [SEED] [COMMANDS]");
            std::process::exit(2)
        }),
        None => default,
    };
    let (first, wanted) = (number(1), number(1_000_000));
    let began = Instant::now();
    let (mut seed, mut compared) = (first, 0);
    while compared < wanted {
        let width = CARD_WIDTHS[(seed % CARD_WIDTHS.len() as u64) as usize];
        let commands = COMMANDS.min(wanted - compared);
        let mirrored = seed % 2 == 1;
        let configuration =
            if mirrored { Configuration::mirrored(seed, width) } else { Configuration::random(seed, width) };
        Session::start(configuration).run(commands);
        compared += commands;
        seed += 1;
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "soak: {compared} of {wanted} commands, {} machines, no difference, {:.0} commands/s, {:.0} s left",
            seed - first,
            compared as f64 / seconds,
            (wanted - compared) as f64 * seconds / compared as f64
        );
    }
}
