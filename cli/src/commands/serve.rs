//! `volplane serve`: the virtual disks of a configuration, for NBD clients.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::TERM_SIGNALS;
use volplane::{BlockService, Configuration, Engine, SoftwareEngine, StopError};
use volplane_cli::backend::{self, BackendError, Simulation, Trace};
use volplane_cli::fault::NamedFault;
use volplane_cli::nbd::{export_uri, Endpoint, Export, Limits, ListenError, Report, ServeError, Server};

use super::{print, size, Failure};
use crate::{CardChoice, CardKind};

/// The port registered for NBD.
const NBD_PORT: u16 = 10809;

/// Arguments of `serve`.
#[derive(Args)]
pub struct Arguments {
    /// Configuration (TOML)
    file: PathBuf,
    #[command(flatten)]
    card: CardChoice,
    /// Listen on a Unix socket; may be given several times
    #[arg(long, value_name = "PATH")]
    socket: Vec<PathBuf>,
    /// Listen on a port of 127.0.0.1, 0 for any; may be given several times [default: 10809, when
    /// nothing else is asked for]
    #[arg(long, value_name = "N")]
    port: Vec<u16>,
    /// Listen on a loopback address; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = loopback)]
    listen: Vec<SocketAddr>,
    /// Write a waveform of the simulated card
    #[arg(long, value_name = "FILE.vcd")]
    trace: Option<PathBuf>,
    /// First cycle of the waveform
    #[arg(long, value_name = "CYCLE", default_value_t = 0, requires = "trace")]
    trace_from: u64,
    /// First cycle after the waveform
    #[arg(long, value_name = "CYCLE", default_value_t = u64::MAX, hide_default_value = true, requires = "trace")]
    trace_to: u64,
    /// Start a fault of a simulated SSD: DEVICE:FAULT[:OPTION=N,...], where FAULT is `error`, `silent` (no answer)
    /// or `dead` (pulled out); options: `status` (of `error`, default 0x281), `skip` commands that pass first,
    /// `count` of those struck, and `writes=1` or `reads=1` for these alone; may be given several times
    #[arg(long, value_name = "FAULT", value_parser = fault)]
    fault: Vec<NamedFault>,
    /// Seed of the simulation
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop by itself
    #[arg(long, value_name = "SECONDS")]
    exit_after: Option<u64>,
}

/// Refuses at once what the server would refuse after the card was brought up.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|error| format!("{error}"))?;
    if !address.ip().is_loopback() {
        return Err(ListenError::NotLoopback(address).to_string());
    }
    Ok(address)
}

fn fault(text: &str) -> Result<NamedFault, String> {
    text.parse().map_err(|error: volplane_cli::fault::FaultError| error.to_string())
}

impl Arguments {
    fn endpoints(&self) -> Vec<Endpoint> {
        let local = |port: &u16| Endpoint::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), *port));
        let mut endpoints: Vec<Endpoint> = self.socket.iter().cloned().map(Endpoint::Unix).collect();
        endpoints.extend(self.port.iter().map(local));
        endpoints.extend(self.listen.iter().copied().map(Endpoint::Tcp));
        if endpoints.is_empty() {
            endpoints.push(local(&NBD_PORT));
        }
        endpoints
    }

    fn simulation(&self) -> Simulation {
        let trace = self.trace.clone().map(|path| Trace {
            path,
            from_cycle: self.trace_from,
            to_cycle: self.trace_to,
        });
        Simulation { seed: self.seed, trace }
    }
}

fn no_waveform(card: impl std::fmt::Display) -> Failure {
    Failure::Input(format!("--trace shows the simulated card, and with --card {card} there is none"))
}

/// Serves until a signal or the time comes.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let configuration = Configuration::load(&arguments.file)?;
    let stop = stop_on_signals().map_err(|error| Failure::Other(format!("signals: {error}")))?;
    let card = arguments.card.card;
    let real_software = card == CardKind::Software && backend::has_real_devices(&configuration);
    if (real_software || matches!(card, CardKind::Function(_))) && !arguments.fault.is_empty() {
        return Err(BackendError::RealFault.into());
    }
    match card {
        CardKind::Sim => {
            let mut service = backend::open_simulated(&configuration, &arguments.simulation())?;
            backend::start_faults(&service.platform().handle(), &configuration, &arguments.fault)?;
            run_on(service, arguments, stop, Engine::stop)
        }
        CardKind::Software if arguments.trace.is_some() => Err(no_waveform("software")),
        CardKind::Function(card) if arguments.trace.is_some() => Err(no_waveform(card)),
        CardKind::Function(card) => {
            let service = backend::open_real(&configuration, card)?;
            run_on(service, arguments, stop, Engine::stop)
        }
        CardKind::Software if real_software => {
            let service = backend::open_real_software(&configuration)?;
            run_on(service, arguments, stop, SoftwareEngine::stop)
        }
        CardKind::Software => {
            let mut service = backend::open_software(&configuration, arguments.seed)?;
            backend::start_faults(&service.platform().handle(), &configuration, &arguments.fault)?;
            run_on(service, arguments, stop, SoftwareEngine::stop)
        }
    }
}

fn run_on<S: BlockService, P>(
    service: S,
    arguments: &Arguments,
    stop: UnixStream,
    stop_service: impl FnOnce(S) -> Result<P, StopError>,
) -> Result<(), Failure> {
    let limits = Limits { run_for: arguments.exit_after.map(Duration::from_secs), ..Limits::default() };
    let mut server = Server::new(service, limits).map_err(Failure::other)?;
    server.on_event(|event| print(&format!("{event}\n")));
    let served = serve(&mut server, arguments, stop);
    // The service is stopped even when serving failed: it flushes and leaves the devices reset.
    let stopped = stop_service(server.into_service()).map_err(Failure::other);
    let report = served?;
    stopped?;
    print(&format!(
        "Stopped and flushed: {} connections, {} requests, {} answered with an error.\n",
        report.connections, report.requests, report.errors
    ));
    Ok(())
}

fn serve<S: BlockService>(
    server: &mut Server<S>,
    arguments: &Arguments,
    stop: UnixStream,
) -> Result<Report, Failure> {
    let mut endpoints = Vec::new();
    for endpoint in arguments.endpoints() {
        endpoints.push(server.listen(&endpoint).map_err(listen_failure)?);
    }
    let executor = match arguments.card.card {
        CardKind::Sim => "on the simulated card".to_owned(),
        CardKind::Software => "in software, without a card".to_owned(),
        CardKind::Function(address) => format!("on the card at {address}"),
    };
    print(&welcome(&arguments.file, &executor, server.exports(), &endpoints));
    server.run(stop).map_err(Failure::other)
}

fn listen_failure(error: ServeError) -> Failure {
    match error {
        ServeError::Listen(error @ (ListenError::NotLoopback(_) | ListenError::NotASocket(_))) => {
            Failure::Input(error.to_string())
        }
        error => Failure::other(error),
    }
}

/// A stream that becomes readable at SIGINT or SIGTERM; a second signal ends the process at once.
fn stop_on_signals() -> io::Result<UnixStream> {
    let (stop, raise) = UnixStream::pair()?;
    let stopping = Arc::new(AtomicBool::new(false));
    for &signal in TERM_SIGNALS {
        // In this order: the first signal finds the flag clear, sets it, and wakes the server.
        signal_hook::flag::register_conditional_shutdown(signal, 1, stopping.clone())?;
        signal_hook::flag::register(signal, stopping.clone())?;
        signal_hook::low_level::pipe::register(signal, raise.try_clone()?)?;
    }
    Ok(stop)
}

fn welcome(file: &Path, executor: &str, exports: &[Export], endpoints: &[Endpoint]) -> String {
    let mut out = format!("Serving {} {executor}. Ctrl-C stops.\n", file.display());
    for endpoint in endpoints {
        out.push_str(&format!("Listening on {endpoint}\n"));
    }
    let Some(first) = endpoints.first() else {
        return out;
    };
    for export in exports {
        let uri = quoted(&export_uri(first, export.name()));
        out.push_str(&format!(
            "\n{}, {} in blocks of {}. Try:\n",
            export.name(),
            size(export.disk.bytes()),
            size(export.disk.block_size.into())
        ));
        for command in [
            format!("nbdinfo {uri}"),
            format!("nbdcopy image.raw {uri}"),
            format!("qemu-img convert -n -f raw -O raw image.raw {uri}"),
            format!("qemu-img convert -f raw -O raw {uri} copy.raw"),
        ] {
            out.push_str(&format!("    {command}\n"));
        }
    }
    out
}

/// Quotes what a shell would take apart.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/:%+@=".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::io::Read;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn endpoints(line: &str) -> Vec<String> {
        let parsed = Alone::try_parse_from(line.split(' ')).expect("arguments");
        parsed.arguments.endpoints().iter().map(Endpoint::to_string).collect()
    }

    #[test]
    fn it_listens_where_it_is_told_and_else_at_the_port_of_nbd() {
        assert_eq!(endpoints("serve f"), ["127.0.0.1:10809"]);
        assert_eq!(
            endpoints("serve f --port 1 --socket /s --port 2 --listen [::1]:3"),
            ["/s", "127.0.0.1:1", "127.0.0.1:2", "[::1]:3"]
        );
    }

    #[test]
    fn a_signal_stops() {
        let mut stop = stop_on_signals().expect("signals");
        stop.set_nonblocking(true).expect("nonblocking");
        assert!(stop.read(&mut [0]).is_err(), "nothing yet");
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM).expect("raise");
        stop.set_nonblocking(false).expect("blocking");
        stop.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        assert_eq!(stop.read(&mut [0]).expect("readable"), 1);
    }

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(quoted("nbd://127.0.0.1:10809/a%20b"), "nbd://127.0.0.1:10809/a%20b");
        assert_eq!(quoted("nbd+unix:///a?socket=/it's"), r"'nbd+unix:///a?socket=/it'\''s'");
    }
}
