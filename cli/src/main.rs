//! The `volplane` program.
//!
//! It leaves with 0 when all went well, 2 on wrong input (arguments, configuration), 1 on anything
//! else.

mod commands;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use volplane_driver::host::PciAddress;

use commands::{card, check, devices, serve, Failure};

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
    /// List Volplane cards and NVMe controllers, and who has them
    Devices,
    /// Hand cards and NVMe controllers to vfio-pci, so that volplane can use them; those in use stay where they are
    Bind {
        /// PCI addresses
        #[arg(required = true)]
        addresses: Vec<PciAddress>,
    },
    /// Give cards and NVMe controllers back to whatever driver wants them
    Unbind {
        /// PCI addresses
        #[arg(required = true)]
        addresses: Vec<PciAddress>,
    },
}

/// Which card executes.
#[derive(Args, Clone, Copy)]
struct CardChoice {
    /// The card: `sim` is the Verilated RTL, `software` is none: the data path runs on this processor; a PCI
    /// address is a real one, bound to vfio-pci
    #[arg(long, value_name = "CARD", default_value = "sim")]
    card: CardKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CardKind {
    Sim,
    Software,
    Function(PciAddress),
}

impl std::str::FromStr for CardKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sim" => Ok(CardKind::Sim),
            "software" => Ok(CardKind::Software),
            address => match address.parse() {
                Ok(address) => Ok(CardKind::Function(address)),
                Err(_) => Err("a card is `sim`, `software`, or a PCI address like 0000:65:00.0".to_owned()),
            },
        }
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check { file } => check::run(&file),
        Command::Card(CardChoice { card }) => card::run(card),
        Command::Devices => devices::list(),
        Command::Bind { addresses } => devices::bind(&addresses),
        Command::Unbind { addresses } => devices::unbind(&addresses),
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
