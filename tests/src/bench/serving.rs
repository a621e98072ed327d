//! The NBD server under fio, on the quick start's disks with files behind them.
//!
//! Rates are measured on the release `volplane` program. Simulated cycles a second are measured on
//! the same server in this process, where the simulator's counters can be read while it runs.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};
use serde_json::Value;
use volplane::{Configuration, Engine, EngineOptions};
use volplane_cli::backend::{self, Simulation};
use volplane_cli::nbd::{export_uri, Endpoint, Limits, Report, ServeError, Server};
use volplane_sim::{SimHandle, SimPlatform};

use super::figure::{Direction, Figure};
use super::{cargo, root, run, work_directory, BenchError, SEED};

/// Times each rate is measured; the best counts.
const RUNS: usize = 5;
/// Length of a run, in seconds.
const RUN_SECONDS: u32 = 3;
/// Longest time of one fio, in seconds.
const FIO_LIMIT: u32 = 120;
/// Longest time until the server answers, and until it has stopped.
const SERVER_LIMIT: Duration = Duration::from_secs(60);
/// Pause between two looks at the server.
const PAUSE: Duration = Duration::from_millis(50);
/// The export that is measured.
const EXPORT: &str = "striped";
/// What is read was written before: a hole would be read faster.
const FILLED: &str = "64m";

/// Rates of the program.
///
/// # Errors
/// `BenchError` when the program, fio or cargo fails.
pub fn rates() -> Result<Vec<Figure>, BenchError> {
    cargo(&["build", "--release", "-p", "volplane-cli"])?;
    let place = Place::new("rates")?;
    let program = Program::start(&place)?;
    let fio = Fio { uri: place.uri() };
    fio.fill()?;
    let iops = best(|| fio.random_reads(|read| &read["iops"]))?;
    let bytes = best(|| fio.sequential_reads(|read| &read["bw_bytes"]))?;
    program.stop()?;
    Ok(vec![
        Figure::new("nbd_randread_4k_iops", iops.round(), "1/s", Direction::Higher).with_goal(10_000.0),
        Figure::new("nbd_seq_read_mb_s", (bytes / 1e5).round() / 10.0, "MB/s", Direction::Higher),
    ])
}

/// Cycles evaluated in a second of a server under random reads. Skipped cycles do not count.
///
/// # Errors
/// `BenchError` when the server or fio fails.
pub fn simulation_speed() -> Result<Figure, BenchError> {
    let place = Place::new("simulation")?;
    let served = Served::start(&place)?;
    let fio = Fio { uri: place.uri() };
    fio.fill()?;
    let speed = best(|| {
        let before = served.handle.counters();
        // The card is evaluated for this client alone, so only while it reads.
        let milliseconds = fio.random_reads(|read| &read["runtime"])?;
        let cycles = served.handle.counters().cycles_evaluated - before.cycles_evaluated;
        Ok(cycles as f64 / (milliseconds / 1000.0))
    })?;
    served.stop()?;
    Ok(Figure::new("sim_cycles_per_second", speed.round(), "1/s", Direction::Higher).with_goal(500_000.0))
}

fn best(mut measure: impl FnMut() -> Result<f64, BenchError>) -> Result<f64, BenchError> {
    (0..RUNS).try_fold(0.0, |best: f64, _| Ok(best.max(measure()?)))
}

fn server_error(error: impl std::fmt::Display) -> BenchError {
    BenchError::Server(error.to_string())
}

/// A directory with the quick start's configuration and its backing files, made anew.
struct Place {
    configuration: PathBuf,
    socket: PathBuf,
}

impl Place {
    fn new(name: &str) -> Result<Self, BenchError> {
        let directory = work_directory().join(name);
        let examples = directory.join("examples");
        let make = || -> io::Result<()> {
            if directory.exists() {
                fs::remove_dir_all(&directory)?;
            }
            fs::create_dir_all(&examples)?;
            // The backing files lie in `target` beside the configuration's folder.
            fs::copy(root().join("examples/quickstart.toml"), examples.join("quickstart.toml"))?;
            Ok(())
        };
        make().map_err(|error| server_error(format!("{}: {error}", directory.display())))?;
        Ok(Self { configuration: examples.join("quickstart.toml"), socket: directory.join("nbd.sock") })
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.socket.clone())
    }

    fn uri(&self) -> String {
        export_uri(&self.endpoint(), EXPORT)
    }
}

/// fio against one export.
struct Fio {
    uri: String,
}

impl Fio {
    /// Writes what will be read.
    fn fill(&self) -> Result<(), BenchError> {
        self.run(&["--rw=write", "--bs=1m", "--iodepth=4"]).map(drop)
    }

    fn random_reads(&self, field: impl Fn(&Value) -> &Value) -> Result<f64, BenchError> {
        self.timed(&["--rw=randread", "--bs=4k", "--iodepth=32"], field)
    }

    fn sequential_reads(&self, field: impl Fn(&Value) -> &Value) -> Result<f64, BenchError> {
        self.timed(&["--rw=read", "--bs=1m", "--iodepth=4"], field)
    }

    /// Reads for a fixed time; a number of fio's report about them.
    fn timed(&self, arguments: &[&str], field: impl Fn(&Value) -> &Value) -> Result<f64, BenchError> {
        let runtime = format!("--runtime={RUN_SECONDS}");
        let mut all = vec!["--time_based", runtime.as_str()];
        all.extend(arguments);
        let report = self.run(&all)?;
        field(&report["jobs"][0]["read"]).as_f64().ok_or_else(|| BenchError::Program {
            program: "fio".to_owned(),
            reason: "its report has another form".to_owned(),
        })
    }

    fn run(&self, arguments: &[&str]) -> Result<Value, BenchError> {
        let (uri, size) = (format!("--uri={}", self.uri), format!("--size={FILLED}"));
        let seed = format!("--randseed={SEED}");
        let mut all = vec!["--name=bench", "--ioengine=nbd", "--output-format=json", &uri, &size, &seed];
        all.extend(arguments);
        let output = run("fio", &all, FIO_LIMIT)?;
        let wrong = |reason: String| BenchError::Program { program: "fio".to_owned(), reason };
        // Some versions put lines of text in front of the report.
        let start = output.stdout.iter().position(|&byte| byte == b'{').unwrap_or(0);
        let report: Value =
            serde_json::from_slice(&output.stdout[start..]).map_err(|error| wrong(error.to_string()))?;
        match report["jobs"][0]["error"].as_i64() {
            Some(0) => Ok(report),
            other => Err(wrong(format!("its job ended with error {other:?}"))),
        }
    }
}

/// The release program, serving.
struct Program {
    child: Child,
}

impl Program {
    fn start(place: &Place) -> Result<Self, BenchError> {
        // Built by the same cargo, so into the same folder as this program.
        let own = std::env::current_exe().map_err(server_error)?;
        let target = own.ancestors().find(|folder| folder.join("release").is_dir());
        let target = target.ok_or_else(|| BenchError::Server("there is no release build".to_owned()))?;
        let child = Command::new(target.join("release/volplane"))
            .arg("serve")
            .arg(&place.configuration)
            .arg("--socket")
            .arg(&place.socket)
            .arg("--seed")
            .arg(SEED.to_string())
            .stdout(Stdio::null())
            .spawn()
            .map_err(server_error)?;
        let mut program = Self { child };
        let began = Instant::now();
        while UnixStream::connect(&place.socket).is_err() {
            if let Some(status) = program.child.try_wait().map_err(server_error)? {
                return Err(BenchError::Server(format!("it ended with {status}")));
            }
            if began.elapsed() > SERVER_LIMIT {
                return Err(BenchError::Server(format!("it does not listen after {SERVER_LIMIT:?}")));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(program)
    }

    /// Stops it as Ctrl-C would; it must drain, flush and leave well.
    fn stop(mut self) -> Result<(), BenchError> {
        kill_process(Pid::from_child(&self.child), Signal::INT).map_err(server_error)?;
        let began = Instant::now();
        while began.elapsed() < SERVER_LIMIT {
            match self.child.try_wait().map_err(server_error)? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(BenchError::Server(format!("it ended with {status}"))),
                None => std::thread::sleep(PAUSE),
            }
        }
        Err(BenchError::Server(format!("it goes on {SERVER_LIMIT:?} after an interrupt")))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server on a thread of this process.
struct Served {
    handle: SimHandle,
    stop: UnixStream,
    thread: JoinHandle<Result<Report, ServeError>>,
}

impl Served {
    fn start(place: &Place) -> Result<Self, BenchError> {
        let (engine, handle) = open(&place.configuration)?;
        let mut server = Server::new(engine, Limits::default()).map_err(server_error)?;
        server.listen(&place.endpoint()).map_err(server_error)?;
        let (stop, stopped) = UnixStream::pair().map_err(server_error)?;
        let serve = move || {
            let report = server.run(stopped)?;
            server.into_service().stop().map(|_| report).map_err(|error| ServeError::System {
                what: "the engine did not stop",
                source: io::Error::other(error),
            })
        };
        let thread =
            std::thread::Builder::new().name("server".to_owned()).spawn(serve).map_err(server_error)?;
        Ok(Self { handle, stop, thread })
    }

    fn stop(self) -> Result<(), BenchError> {
        // Its end becomes readable.
        drop(self.stop);
        match self.thread.join() {
            Ok(report) => report.map(drop).map_err(server_error),
            Err(_) => Err(BenchError::Server("it panicked".to_owned())),
        }
    }
}

/// What `volplane serve` opens, with a handle on the simulator.
fn open(file: &Path) -> Result<(Engine<SimPlatform>, SimHandle), BenchError> {
    let configuration = Configuration::load(file).map_err(server_error)?;
    let simulation = Simulation { seed: SEED, trace: None };
    let (machine, addresses) = backend::machine(&configuration, &simulation).map_err(server_error)?;
    configuration.create_files().map_err(server_error)?;
    let platform = SimPlatform::new(machine).map_err(server_error)?;
    let handle = platform.handle();
    let engine = Engine::start(platform, &configuration, &addresses, &EngineOptions::default());
    Ok((engine.map_err(server_error)?, handle))
}
