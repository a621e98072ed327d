//! `make bench`: measures, prints a table and writes `target/bench.json`. A missed goal is shown and
//! is no failure.
//!
//! `--no-synth` leaves the figures of place and route out; `--baseline` measures the cycle figures
//! alone and writes them to `docs/bench-baseline.json`.

use std::fs;
use std::io::Write;
use std::process::{Command, ExitCode};

use volplane_tests::bench::{
    baseline, cycles, figure, root, serving, software, synthesis, BenchError, Figure, SEED,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [] => measure(true),
        ["--no-synth"] => measure(false),
        ["--baseline"] => write_baseline(),
        _ => {
            tell("bench [--no-synth | --baseline]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Progress, beside the table.
fn tell(text: &str) {
    // With no standard error left there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn measure(with_synthesis: bool) -> Result<(), BenchError> {
    tell("cycles of the card");
    let mut figures = cycles::figures();
    tell("nanoseconds of the software data path");
    figures.push(software::figure());
    tell("simulated cycles a second, fio on the server");
    figures.push(serving::simulation_speed()?);
    tell(&figure::table(&figures));
    tell("rates, fio on `volplane serve`");
    figures.extend(serving::rates()?);
    if with_synthesis {
        tell("synthesis; made anew where the RTL has changed, which takes a while");
        figures.extend(synthesis::figures()?);
        figures.extend(software::projection(&figures));
    }
    let path = root().join("target/bench.json");
    let text = format!("{:#}\n", figure::report(&figures));
    fs::write(&path, text)
        .map_err(|error| BenchError::Report { path: path.clone(), problem: error.to_string() })?;
    print(&figures);
    tell("written to target/bench.json");
    Ok(())
}

fn write_baseline() -> Result<(), BenchError> {
    let figures = cycles::figures();
    baseline::write(&figures)?;
    print(&figures);
    tell(&format!("written to {}", baseline::path().display()));
    Ok(())
}

fn print(figures: &[Figure]) {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout().lock();
    let _ = write!(
        out,
        "bench {}seed {SEED}, commit {}\n\
         Cycles are those of the Verilated RTL; rates are of the simulation on this machine, not of hardware.\n\n{}",
        command.iter().map(|word| format!("{word} ")).collect::<String>(),
        commit(),
        figure::table(figures)
    );
}

/// The commit, with a mark where the tree differs from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(root()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|list| !list.is_empty());
    commit + if changed { " with changes" } else { "" }
}
