//! What `make bench` measures, and the part of it that `make test` measures again.
//!
//! * `figure`: a figure, its goal and its limit.
//! * `machine`: a card with SSDs that take no time behind it.
//! * `cycles`: cycles of the card, exact and repeatable: throughput and latency.
//! * `serving`: the NBD server under fio.
//! * `software`: time of the software data path.
//! * `synthesis`: what place and route said of the same RTL.
//! * `baseline`: the committed cycle figures.

pub mod baseline;
pub mod cycles;
pub mod figure;
mod machine;
pub mod rare;
pub mod serving;
pub mod software;
pub mod synthesis;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub use figure::{Direction, Figure};

/// The seed of every measurement.
pub const SEED: u64 = 1;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A program could not be run, or failed.
    #[error("{program} failed: {reason}")]
    Program {
        /// Its name.
        program: String,
        /// Its last words, or the system's reason.
        reason: String,
    },
    /// A report does not hold what it should.
    #[error("{}: {problem}", .path.display())]
    Report {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The server did not start, or failed.
    #[error("the server: {0}")]
    Server(String),
}

/// The workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// Where measurements keep their files.
fn work_directory() -> PathBuf {
    root().join("target/measure")
}

/// Runs a program to its end, for at most `seconds`.
fn run(program: &str, arguments: &[&str], seconds: u32) -> Result<Output, BenchError> {
    let failed = |reason: String| BenchError::Program { program: program.to_owned(), reason };
    let output = Command::new("timeout")
        .args(["-k", "5", &seconds.to_string(), program])
        .args(arguments)
        .current_dir(root())
        .output()
        .map_err(|error| failed(format!("timeout(1): {error}")))?;
    if output.status.success() {
        return Ok(output);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = words.lines().rev().take(5).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(failed(format!("{} {}", output.status, last.join(" / "))))
}

/// Runs cargo, as this program was.
fn cargo(arguments: &[&str]) -> Result<(), BenchError> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run(&cargo, arguments, 1800).map(drop)
}
