//! The `volplane-card` program: the Verilated card as a PCIe device for a vfio-user client.
//!
//! It prints one line when it listens, and one for each client that comes or goes. It leaves with 0 when it was told to
//! stop (SIGTERM, SIGINT), 2 on wrong arguments, 1 on anything else.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use volplane_sim::vfio_user::{Server, ServerError, ServerEvent};
use volplane_sim::CardConfig;

/// The Verilated Volplane card as a PCIe device, for QEMU's vfio-user-pci
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Socket to listen on
    #[arg(long)]
    socket: PathBuf,
    /// Data width of the card, in bits
    #[arg(long, default_value_t = 128)]
    width: usize,
}

/// Prints a line; a reader that is gone does not matter.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn run(arguments: &Arguments) -> Result<(), ServerError> {
    let (stop, stopper) = UnixStream::pair().map_err(ServerError::Wait)?;
    for signal in [SIGINT, SIGTERM] {
        let stopper = stopper.try_clone().map_err(ServerError::Wait)?;
        signal_hook::low_level::pipe::register(signal, stopper).map_err(ServerError::Wait)?;
    }
    let server = Server::bind(&arguments.socket, &CardConfig::new(arguments.width))?;
    say(&format!("listening on {}", arguments.socket.display()));
    server.run(stop.as_fd(), |event| match event {
        ServerEvent::Connected => say("a client is there"),
        ServerEvent::Gone(why) => say(&format!("the client is gone: {why}")),
    })
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "volplane-card: {error}");
            ExitCode::FAILURE
        }
    }
}
