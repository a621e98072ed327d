//! The tests that mutants are tried with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::{MutantsError, CARD_VARIABLE};

/// A test, or all of a program's, on the card of a mutant.
#[derive(Debug)]
pub struct Story {
    /// What the table calls it.
    pub name: &'static str,
    /// Which of `tests/tests` it is in.
    pub program: &'static str,
    /// Its name there; every test of the program without one.
    pub test: Option<&'static str>,
    /// `VOLPLANE_SEED`.
    pub seed: Option<u64>,
    /// `VOLPLANE_COMMANDS`.
    pub commands: Option<u64>,
}

const fn directed(name: &'static str, program: &'static str, test: &'static str) -> Story {
    Story { name, program, test: Some(test), seed: None, commands: None }
}

const fn whole(name: &'static str, program: &'static str) -> Story {
    Story { name, program, test: None, seed: None, commands: None }
}

const fn plain(name: &'static str, seed: u64, commands: u64) -> Story {
    let (program, test) = ("rtl_against_model", Some("width_128"));
    Story { name, program, test, seed: Some(seed), commands: Some(commands) }
}

const fn plans(name: &'static str, seed: u64, commands: u64) -> Story {
    let (program, test) = ("plans_against_model", Some("width_128"));
    Story { name, program, test, seed: Some(seed), commands: Some(commands) }
}

/// In the order in which they are told: cheap ones first, and those that tell most for their time.
pub const STORIES: &[Story] = &[
    directed("write and read a mirror", "mirrors", "a_write_goes_to_all_copies_and_a_read_to_one"),
    plain("commands 1001", 1001, 900),
    plans("plans 5001", 5001, 900),
    whole("mirrors", "mirrors"),
    whole("path limits", "path_limits"),
    whole("paths", "paths"),
    whole("transactions", "transactions"),
    whole("quotas", "quotas"),
    whole("resubmissions", "resubmissions"),
    plain("commands 1002", 1002, 3000),
    plans("plans 5002", 5002, 3000),
    directed("registers and control ring", "rtl_conformance", "width_128"),
    directed("interrupt table", "rtl_conformance", "the_interrupt_table_reads_back"),
    whole("hostile rings", "hostile_rings"),
    whole("late memory", "visibility"),
    whole("completions in host memory", "host_completions"),
    plain("commands 1003", 1003, 5000),
    plans("plans 5003", 5003, 5000),
    plain("commands 1004", 1004, 5000),
    plans("plans 5004", 5004, 5000),
    plans("plans 17", 17, 3000),
    // Eight copies, read where the fewest parts are under way.
    plans("plans 3000033", 3000033, 2000),
];

/// Where Cargo put the programs of the stories.
#[derive(Debug)]
pub struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// Has Cargo build them, with the profile and the environment of this program.
    ///
    /// # Errors
    /// When it does not.
    pub fn build() -> Result<Self, MutantsError> {
        // Built with another card every mutant would survive.
        std::env::var_os(CARD_VARIABLE).ok_or(MutantsError::NoCard)?;
        let error = |problem: String| MutantsError::Build(problem);
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut names: Vec<&str> = STORIES.iter().map(|story| story.program).collect();
        names.sort_unstable();
        names.dedup();
        let mut command = Command::new(cargo);
        command.args(["test", "--profile", "mutants", "--package", "volplane-tests", "--no-run"]);
        command.arg("--message-format=json-render-diagnostics");
        for name in &names {
            command.args(["--test", name]);
        }
        let output = command.stderr(std::process::Stdio::inherit()).output();
        let output = output.map_err(|problem| error(problem.to_string()))?;
        if !output.status.success() {
            return Err(error(output.status.to_string()));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let program = |message: Value| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, PathBuf::from(message["executable"].as_str()?)))
        };
        let programs: BTreeMap<String, PathBuf> = messages.filter_map(program).collect();
        match names.iter().find(|name| !programs.contains_key(**name)) {
            Some(name) => Err(error(format!("it tells of no program {name}"))),
            None => Ok(Self(programs)),
        }
    }

    /// The command that tells a story.
    pub fn command(&self, story: &Story) -> Command {
        let mut command = Command::new(&self.0[story.program]);
        command.env_remove("VOLPLANE_SEED").env_remove("VOLPLANE_COMMANDS");
        if let Some(test) = story.test {
            command.args([test, "--exact"]);
        }
        if let Some(seed) = story.seed {
            command.env("VOLPLANE_SEED", seed.to_string());
        }
        if let Some(commands) = story.commands {
            command.env("VOLPLANE_COMMANDS", commands.to_string());
        }
        command.arg("--test-threads=1");
        command
    }
}
