//! `make mutants`: tries every mutant that the card was built with, prints the table and writes it.
//!
//! `mutants LIST [--page FILE] [--only NUMBER,…] [--jobs N]`. It fails when the card without a mutant does not pass,
//! and when a mutant picked by hand survives; a drawn one may be equivalent.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use volplane_tests::mutants::{page, try_mutants, try_unmutated, Kind, List, MutantsError, Programs};

const USAGE: &str = "mutants LIST [--page FILE] [--only NUMBER,…] [--jobs N]";

struct Options {
    list: PathBuf,
    page: Option<PathBuf>,
    only: Vec<u64>,
    jobs: usize,
}

fn options() -> Option<Options> {
    let mut arguments = std::env::args().skip(1);
    let list = arguments.next().filter(|name| !name.starts_with('-'))?.into();
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options { list, page: None, only: Vec::new(), jobs };
    while let Some(argument) = arguments.next() {
        let value = arguments.next()?;
        match argument.as_str() {
            "--page" => options.page = Some(value.into()),
            "--only" => {
                options.only = value.split(',').map(|part| part.parse().ok()).collect::<Option<_>>()?
            }
            "--jobs" => options.jobs = value.parse().ok().filter(|&jobs| jobs > 0)?,
            _ => return None,
        }
    }
    Some(options)
}

/// Progress, beside the table.
fn tell(text: &str) {
    // With no standard error left there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        tell(USAGE);
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&format!("mutants: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether every mutant picked by hand was killed.
fn run(options: &Options) -> Result<bool, MutantsError> {
    let mut list = List::read(&options.list)?;
    if !options.only.is_empty() {
        list.keep(&options.only)?;
    }
    let logs = options.list.with_file_name("logs");
    let error = |path: &PathBuf, problem: std::io::Error| MutantsError::List {
        path: path.clone(),
        problem: problem.to_string(),
    };
    std::fs::create_dir_all(&logs).map_err(|problem| error(&logs, problem))?;
    let programs = Programs::build()?;
    let limits = try_unmutated(&programs, &logs, tell)?;
    let rows = try_mutants(&list.mutants, &programs, &limits, &logs, options.jobs, tell)?;
    let text = page(&rows, list.seed);
    if let Some(path) = &options.page {
        std::fs::write(path, &text).map_err(|problem| error(path, problem))?;
    }
    // A closed standard output is no reason to forget what was found.
    let _ = writeln!(std::io::stdout(), "{text}");
    let survives = |kind| rows.iter().any(move |row| row.killed.is_none() && row.mutant.kind == kind);
    if survives(Kind::Drawn) {
        tell("mutants: a drawn mutant survives: equivalent, or a gap of the tests; see the survivors");
    }
    if survives(Kind::Picked) {
        tell("mutants: a mutant picked by hand survives: the tests are too weak");
    }
    Ok(!survives(Kind::Picked))
}
