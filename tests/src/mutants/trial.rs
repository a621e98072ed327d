//! One story on one mutant, in a process of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::stories::{Programs, Story};
use super::MutantsError;

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(10);
/// Characters of a message that are kept.
const LINE_MAX: usize = 140;

/// What came of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It noticed nothing.
    Passed,
    /// It failed, and said this.
    Failed(String),
}

/// A story to be told.
#[derive(Debug)]
pub struct Trial<'a> {
    /// Mutant; 0: none.
    pub mutant: u64,
    /// Story.
    pub story: &'a Story,
    /// Time it may take.
    pub limit: Duration,
}

impl Trial<'_> {
    /// Where what the process says is kept.
    pub fn log(&self, logs: &Path) -> PathBuf {
        logs.join(format!("{}-{}.log", self.mutant, self.story.name.replace(' ', "-")))
    }

    /// Runs the process to its end, or to the end of its time.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run(&self, programs: &Programs, logs: &Path) -> Result<Outcome, MutantsError> {
        let error = |source| MutantsError::Run { story: self.story.name.into(), source };
        let path = self.log(logs);
        let log = File::create(&path).map_err(error)?;
        let mut command = programs.command(self.story);
        command.env("VOLPLANE_MUTANT", self.mutant.to_string()).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(error)?).stderr(log);
        let mut child = command.spawn().map_err(error)?;
        let status = wait(&mut child, self.limit).map_err(error)?;
        let said = std::fs::read(&path).map_err(error)?;
        Ok(match status {
            None => Outcome::Failed(format!("no end within {} s", self.limit.as_secs())),
            Some(status) if status.success() => Outcome::Passed,
            Some(status) => {
                Outcome::Failed(line(&String::from_utf8_lossy(&said), self.story.test.is_none(), status))
            }
        })
    }
}

/// Waits for the end of the process, and ends it when its time is over.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// What the first panic said, in a line, with its test where a program has several; else how the process ended.
fn line(said: &str, has_several: bool, status: ExitStatus) -> String {
    let mut lines = said.lines().skip_while(|line| !line.contains("panicked at"));
    let thread = lines.next().and_then(|line| line.split('\'').nth(1)).unwrap_or_default();
    let Some(first) = lines.find(|line| !line.trim().is_empty()) else { return status.to_string() };
    let mut text = if has_several { format!("{thread}: {}", first.trim()) } else { first.trim().to_owned() };
    // Two sides that differ are in the lines that follow.
    let is_side = |line: &&str| line.starts_with("left:") || line.starts_with("right:");
    for side in lines.take(2).map(str::trim).filter(is_side) {
        text += " ";
        text += side;
    }
    match text.char_indices().nth(LINE_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_first_panic_is_told() {
        let said =
            "\nrunning 1 test\n\nthread 'a' (7) panicked at tests/a.rs:1:2:\nqueue 3 ends as x\nmore\n";
        assert_eq!(line(said, false, ExitStatus::from_raw(256)), "queue 3 ends as x");
        let said = "thread 'a' panicked at a.rs:1:2:\nassertion failed\n  left: 1\n right: 2\n";
        assert_eq!(line(said, true, ExitStatus::from_raw(256)), "a: assertion failed left: 1 right: 2");
        assert!(line("", true, ExitStatus::from_raw(6)).contains("signal: 6"));
    }
}
