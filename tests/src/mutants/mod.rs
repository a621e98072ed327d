//! `make mutants`: whether the tests notice when the RTL is wrong.
//!
//! The card is built once with every mutant in it, each behind a number (`hw/mutants/weave.py`). Of each mutant the
//! stories are told, one after the other, until one fails: that kills it. A story is one of this crate's own tests,
//! run in a process of its own with a deadline, because a mutant may hang or end the process. The card as it is,
//! number 0, goes first and must pass them all.
//!
//! * `list`: the mutants. `stories`: the tests, cheapest first, and where Cargo put them.
//! * `trial`: one story on one mutant. `report`: the table.

mod list;
mod report;
mod stories;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub use list::{Kind, List, Mutant};
pub use report::{page, table, Row};
pub use stories::{Programs, STORIES};
pub use trial::{Outcome, Trial};

/// Why the mutants could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum MutantsError {
    /// The list of mutants cannot be read.
    #[error("{path}: {problem}")]
    List {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A number that no mutant has.
    #[error("there is no mutant {0}")]
    NoMutant(u64),
    /// The tests would be built with the card as it is.
    #[error("{CARD_VARIABLE} names no card with mutants; use `make mutants`")]
    NoCard,
    /// The tests cannot be built.
    #[error("cargo does not build the tests: {0}")]
    Build(String),
    /// A story's process cannot be run.
    #[error("{story}: {source}")]
    Run {
        /// Story.
        story: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The card as it is fails: nothing can be said of mutants.
    #[error("the card without a mutant fails {story}: {line} (see {log})")]
    Unmutated {
        /// Story.
        story: String,
        /// What it said.
        line: String,
        /// All that it said.
        log: PathBuf,
    },
}

/// Tells the simulator's build which card to take (`sim/build.rs`).
pub const CARD_VARIABLE: &str = "VOLPLANE_CARD_MUTANTS";

/// Time a story may take on a mutant: this, and `LIMIT_TIMES` what it takes on the card as it is. A card that
/// hangs is noticed by the tests themselves, by simulated time, in less.
const LIMIT_LEAST: Duration = Duration::from_secs(30);
const LIMIT_TIMES: u32 = 10;
/// Time a story may take on the card as it is.
const LIMIT_UNMUTATED: Duration = Duration::from_secs(300);

/// Tells the stories of the card as it is, which must pass them; the time that each may take from then on.
///
/// # Errors
/// When one fails or cannot be run.
pub fn try_unmutated(
    programs: &Programs,
    logs: &Path,
    tell: impl Fn(&str),
) -> Result<Vec<Duration>, MutantsError> {
    let limit_of = |story| {
        let began = Instant::now();
        let trial = Trial { mutant: 0, story, limit: LIMIT_UNMUTATED };
        let outcome = trial.run(programs, logs)?;
        let took = began.elapsed();
        match outcome {
            Outcome::Passed => {
                tell(&format!("no mutant: {} passes in {:.1} s", story.name, took.as_secs_f64()));
                Ok(LIMIT_LEAST + took * LIMIT_TIMES)
            }
            Outcome::Failed(line) => {
                let log = trial.log(logs);
                Err(MutantsError::Unmutated { story: story.name.into(), line, log })
            }
        }
    };
    STORIES.iter().map(limit_of).collect()
}

/// Tells the stories of each mutant until one fails, `jobs` mutants at once.
///
/// # Errors
/// When a story cannot be run.
pub fn try_mutants(
    mutants: &[Mutant],
    programs: &Programs,
    limits: &[Duration],
    logs: &Path,
    jobs: usize,
    tell: impl Fn(&str) + Sync,
) -> Result<Vec<Row>, MutantsError> {
    let left = Mutex::new(mutants.iter());
    let rows = Mutex::new(Vec::new());
    let work = || -> Result<(), MutantsError> {
        loop {
            // A panic elsewhere leaves an iterator that is as good as before.
            let next = left.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
            let Some(mutant) = next else { return Ok(()) };
            let row = try_one(mutant, programs, limits, logs)?;
            tell(&row.line());
            rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(row);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let mut rows = rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    rows.sort_by_key(|row| row.mutant.number);
    Ok(rows)
}

fn try_one(
    mutant: &Mutant,
    programs: &Programs,
    limits: &[Duration],
    logs: &Path,
) -> Result<Row, MutantsError> {
    let began = Instant::now();
    for (story, &limit) in STORIES.iter().zip(limits) {
        let trial = Trial { mutant: mutant.number, story, limit };
        if let Outcome::Failed(line) = trial.run(programs, logs)? {
            return Ok(Row {
                mutant: mutant.clone(),
                killed: Some((story.name, line)),
                took: began.elapsed(),
            });
        }
    }
    Ok(Row { mutant: mutant.clone(), killed: None, took: began.elapsed() })
}
