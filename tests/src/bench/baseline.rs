//! The committed cycle figures, those in the unit of cycles: a flat map from name to value.

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{root, BenchError, Figure};

/// Rise that is let pass, in cycles.
pub const TOLERANCE: f64 = 0.2;

/// The file.
pub fn path() -> PathBuf {
    root().join("docs/bench-baseline.json")
}

/// Writes the figures as the new baseline.
///
/// # Errors
/// `BenchError::Report` when the file cannot be written.
pub fn write(figures: &[Figure]) -> Result<(), BenchError> {
    let values: Map<String, Value> =
        held(figures).map(|figure| (figure.name.clone(), figure.value.into())).collect();
    let text = format!("{:#}\n", Value::Object(values));
    fs::write(path(), text).map_err(|error| BenchError::Report { path: path(), problem: error.to_string() })
}

/// The committed figures.
///
/// # Errors
/// `BenchError::Report` when the file is missing or no map.
pub fn read() -> Result<Map<String, Value>, BenchError> {
    let wrong = |problem: String| BenchError::Report { path: path(), problem };
    let text = fs::read_to_string(path()).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

/// What speaks against `figures`, a line for each: a rise beyond the tolerance, or a figure that
/// `baseline` does not hold.
pub fn objections(baseline: &Map<String, Value>, figures: &[Figure]) -> Vec<String> {
    let objection = |figure: &Figure| {
        let Figure { name, value, .. } = figure;
        match baseline.get(name).and_then(Value::as_f64) {
            None => Some(format!("{name} is missing; it is {value} now")),
            Some(before) if *value > before + TOLERANCE => {
                Some(format!("{name} rose from {before} to {value}"))
            }
            Some(_) => None,
        }
    };
    held(figures).filter_map(objection).collect()
}

/// The figures that the baseline holds.
fn held(figures: &[Figure]) -> impl Iterator<Item = &Figure> {
    figures.iter().filter(|figure| figure.unit == "cycles")
}

#[cfg(test)]
mod tests {
    use super::super::Direction;
    use super::*;

    #[test]
    fn rises_and_missing_figures_are_named() {
        let baseline: Map<String, Value> =
            serde_json::from_str(r#"{ "same": 7, "rose": 7.5, "nearly": 7.5, "text": "7" }"#).expect("a map");
        let figure = |name: &str, value| Figure::new(name, value, "cycles", Direction::Lower);
        let figures = [
            figure("same", 7.0),
            figure("rose", 7.701),
            figure("nearly", 7.7),
            figure("text", 1.0),
            figure("new", 3.0),
            Figure::new("beats", 9.0, "beats", Direction::Lower),
        ];
        assert_eq!(
            objections(&baseline, &figures),
            ["rose rose from 7.5 to 7.701", "text is missing; it is 1 now", "new is missing; it is 3 now"]
        );
    }
}
