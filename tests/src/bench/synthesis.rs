//! Figures of place and route, copied from `target/synth.json`, which is made when it is not of the
//! present RTL.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::figure::{Direction, Figure};
use super::{cargo, root, run, work_directory, BenchError};

/// Longest time of synthesis, place and route of the whole and of each block, in seconds.
const SYNTHESIS_LIMIT: u32 = 3 * 3600;

fn report_path() -> PathBuf {
    root().join("target/synth.json")
}

/// The figures of the present RTL.
///
/// # Errors
/// `BenchError` when the Verilog cannot be made, or synthesis fails.
pub fn figures() -> Result<Vec<Figure>, BenchError> {
    let hash = hash_of_rtl()?;
    let current = |report: &Value| report["rtl_sha256"] == hash.as_str();
    let report = match read() {
        Ok(report) if current(&report) => report,
        _ => {
            run("make", &["synth"], SYNTHESIS_LIMIT)?;
            let report = read()?;
            if !current(&report) {
                return Err(wrong("it is of other RTL right after `make synth`"));
            }
            report
        }
    };
    core_figures(&report)
}

fn core_figures(report: &Value) -> Result<Vec<Figure>, BenchError> {
    let value =
        |field: &str| report["core"][field].as_f64().ok_or_else(|| wrong(&format!("no core.{field}")));
    Ok(vec![
        Figure::new("fmax_mhz", value("fmax_mhz")?, "MHz", Direction::Higher).with_goal(150.0),
        Figure::new("lut4", value("lut4")?, "LUT4", Direction::Lower),
        Figure::new("block_ram", value("block_ram")?, "DP16KD", Direction::Lower)
            .with_goal(176.0)
            .with_limit(208.0),
    ])
}

fn wrong(problem: &str) -> BenchError {
    BenchError::Report { path: report_path(), problem: problem.to_owned() }
}

fn read() -> Result<Value, BenchError> {
    let text = fs::read_to_string(report_path()).map_err(|error| wrong(&error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(&error.to_string()))
}

/// SHA-256 of the Verilog that is synthesised.
fn hash_of_rtl() -> Result<String, BenchError> {
    let directory = work_directory();
    let file = directory.join("core.v");
    fs::create_dir_all(&directory)
        .map_err(|error| BenchError::Report { path: directory, problem: error.to_string() })?;
    let path = file.to_string_lossy();
    let emit = ["run", "-q", "-p", "volplane-hw", "--bin", "emit", "--"];
    cargo(&[&emit[..], &["--sizes", "ecp5", "--width", "128", "--out", &path]].concat())?;
    let output = run("sha256sum", &[&path], 60)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_core() {
        let text = r#"{ "rtl_sha256": "ab", "core": { "lut4": 21000, "ff": 9, "block_ram": 170, "fmax_mhz": 151.25 },
                        "blocks": { "msix": { "lut4": 7, "fmax_mhz": 230.0 } } }"#;
        let mut report: Value = serde_json::from_str(text).expect("JSON");
        let figures = core_figures(&report).expect("all are there");
        let values: Vec<(&str, f64)> =
            figures.iter().map(|figure| (figure.name.as_str(), figure.value)).collect();
        assert_eq!(values, [("fmax_mhz", 151.25), ("lut4", 21000.0), ("block_ram", 170.0)]);
        assert!(figures.iter().all(|figure| figure.is_met() != Some(false)));
        // nextpnr may not say; the report then holds null.
        report["core"]["fmax_mhz"] = Value::Null;
        let error = core_figures(&report).expect_err("a figure is missing");
        assert!(error.to_string().ends_with("synth.json: no core.fmax_mhz"), "{error}");
    }
}
