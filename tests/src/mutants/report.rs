//! The table of what became of the mutants.

use std::fmt::Write;
use std::time::Duration;

use super::list::{Kind, Mutant};

/// What became of a mutant.
#[derive(Clone, Debug)]
pub struct Row {
    /// Mutant.
    pub mutant: Mutant,
    /// The story that killed it and what that said; `None`: it survives.
    pub killed: Option<(&'static str, String)>,
    /// Time of all its stories.
    pub took: Duration,
}

impl Row {
    /// The row, alone.
    pub fn line(&self) -> String {
        let Mutant { number, name, module, .. } = &self.mutant;
        let seconds = self.took.as_secs_f64();
        let end = match &self.killed {
            Some((story, said)) => format!("killed by {story}: {said}"),
            None => "SURVIVES".into(),
        };
        format!("{number:3} {seconds:5.1} s {module}: {name}: {end}")
    }
}

fn count(rows: &[Row], kind: Kind) -> (usize, usize) {
    let of_kind = rows.iter().filter(|row| row.mutant.kind == kind);
    (of_kind.clone().filter(|row| row.killed.is_some()).count(), of_kind.count())
}

/// The table, in Markdown.
pub fn table(rows: &[Row], kind: Kind) -> String {
    let mut text =
        String::from("| no. | mutant | module | killed by | what it said | s |\n|---|---|---|---|---|---|\n");
    for row in rows.iter().filter(|row| row.mutant.kind == kind) {
        let (story, said) = match &row.killed {
            Some((story, said)) => (*story, format!("`{}`", cell(said).replace('`', "'"))),
            None => ("**survives**", "see below".to_owned()),
        };
        let Mutant { number, name, module, .. } = &row.mutant;
        let (name, module, seconds) = (cell(name), module.trim_start_matches("top$"), row.took.as_secs_f64());
        let _ = writeln!(text, "| {number} | {name} | {module} | {story} | {said} | {seconds:.0} |");
    }
    text
}

/// Text that stays within a cell of the table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The page `docs/mutants.md`.
pub fn page(rows: &[Row], seed: u64) -> String {
    let ((killed, picked), (drawn_killed, drawn)) = (count(rows, Kind::Picked), count(rows, Kind::Drawn));
    let mut text = format!(
        "# Mutants\n\nWritten by `make mutants SEED={seed} COUNT={drawn}`: what the tests say when the card's RTL is \
         deliberately wrong ([testing](testing.md)). Modules are those of the emitted Verilog, without `top$`.\n\n\
         ## Picked by hand: {killed} of {picked} killed\n\n{}\n\
         ## Drawn by yosys with seed {seed}: {drawn_killed} of {drawn} killed\n\n{}",
        table(rows, Kind::Picked),
        table(rows, Kind::Drawn)
    );
    let survivors: Vec<&Row> = rows.iter().filter(|row| row.killed.is_none()).collect();
    if !survivors.is_empty() {
        text += "\n## Survivors\n\n";
    }
    for row in survivors {
        let Mutant { number, detail, module, name, by, .. } = &row.mutant;
        let by = if by.is_empty() { "nobody has looked into it yet" } else { by };
        let of = if detail.is_empty() { String::new() } else { format!(", of `{detail}`") };
        let _ = writeln!(text, "* {number}, {module}, {name}{of}: {by}.");
    }
    text
}
