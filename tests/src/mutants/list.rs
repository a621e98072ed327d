//! The mutants that the card was built with.

use std::path::Path;

use serde_json::Value;

use super::MutantsError;

/// Where a mutant comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From `hw/mutants/table.toml`: it must not survive.
    Picked,
    /// Drawn by yosys: it may be equivalent to the card as it is.
    Drawn,
}

/// A mutant.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// What selects it.
    pub number: u64,
    /// Where it comes from.
    pub kind: Kind,
    /// What is wrong, or yosys' operator.
    pub name: String,
    /// Module of the emitted Verilog.
    pub module: String,
    /// Of a drawn one, the line it comes from.
    pub detail: String,
    /// Which test should find it; of a drawn one that is known to survive, why it does.
    pub by: String,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct List {
    /// Seed of the drawn ones.
    pub seed: u64,
    /// In order of their numbers.
    pub mutants: Vec<Mutant>,
}

impl List {
    /// Reads what `weave.py` wrote.
    ///
    /// # Errors
    /// When it cannot be read, or is not that.
    pub fn read(path: &Path) -> Result<Self, MutantsError> {
        let error = |problem: String| MutantsError::List { path: path.into(), problem };
        let text = std::fs::read_to_string(path).map_err(|problem| error(problem.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|problem| error(problem.to_string()))?;
        let seed = value["seed"].as_u64().ok_or_else(|| error("it has no seed".into()))?;
        let entries = value["mutants"].as_array().ok_or_else(|| error("it has no mutants".into()))?;
        let mutants = entries.iter().map(mutant).collect::<Option<Vec<_>>>();
        Ok(Self { seed, mutants: mutants.ok_or_else(|| error("a mutant lacks a field".into()))? })
    }

    /// Keeps those of these numbers.
    ///
    /// # Errors
    /// When there is none of a number.
    pub fn keep(&mut self, numbers: &[u64]) -> Result<(), MutantsError> {
        let unknown = |number: &&u64| !self.mutants.iter().any(|mutant| mutant.number == **number);
        match numbers.iter().find(unknown) {
            Some(&number) => Err(MutantsError::NoMutant(number)),
            None => {
                self.mutants.retain(|mutant| numbers.contains(&mutant.number));
                Ok(())
            }
        }
    }
}

fn mutant(entry: &Value) -> Option<Mutant> {
    let text = |field: &str| Some(entry[field].as_str()?.to_owned());
    let kind = match entry["kind"].as_str()? {
        "picked" => Kind::Picked,
        "drawn" => Kind::Drawn,
        _ => return None,
    };
    let number = entry["number"].as_u64()?;
    Some(Mutant {
        number,
        kind,
        name: text("name")?,
        module: text("module")?,
        detail: text("detail")?,
        by: text("by")?,
    })
}
