//! The `volplane` program.
//!
//! It leaves with 0 when all went well, 2 on wrong input (arguments, configuration), 1 on anything
//! else.

mod commands;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use commands::{card, check, serve, Failure};

/// Virtual disks on the Volplane card.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Export the virtual disks of a configuration to NBD clients
    Serve(serve::Arguments),
    /// Check a configuration; nothing is touched
    Check {
        /// Configuration (TOML)
        file: PathBuf,
    },
    /// Show the card's identity, capabilities and registers
    Card(CardChoice),
}

/// Which card executes.
#[derive(Args, Clone, Copy)]
struct CardChoice {
    /// The card: `sim` is the Verilated RTL, `software` is none: the data path runs on this processor
    #[arg(long, value_enum, default_value_t = CardKind::Sim)]
    card: CardKind,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CardKind {
    Sim,
    Software,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check { file } => check::run(&file),
        Command::Card(CardChoice { card }) => card::run(card),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (code, prefix) = match failure {
                // Line and field come first, where editors look for them.
                Failure::Input(_) => (2, ""),
                Failure::Other(_) => (1, "volplane: "),
            };
            // With no standard error left there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{prefix}{failure}");
            ExitCode::from(code)
        }
    }
}
