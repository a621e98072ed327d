//! The commands of the program, and how they tell people things.

pub mod card;
pub mod check;
pub mod devices;
pub mod serve;

use std::io::Write;

use volplane::ConfigurationError;
use volplane_cli::backend::BackendError;

/// Why a command failed, as one line.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What the user gave is wrong.
    #[error("{0}")]
    Input(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<ConfigurationError> for Failure {
    fn from(error: ConfigurationError) -> Self {
        Failure::Input(error.to_string())
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        if error.is_input() {
            Failure::Input(error.to_string())
        } else {
            Failure::Other(error.to_string())
        }
    }
}

impl Failure {
    fn other(error: impl std::fmt::Display) -> Self {
        Failure::Other(error.to_string())
    }
}

/// Prints; a reader that left is no reason to stop serving.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// Lays out rows in columns as wide as their widest cell; the first row is the heading.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A size for people: exact, in the largest unit that divides it.
fn size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let rows =
            [["name", "size"], ["a", "1"], ["longer", "22"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "name    size\na       1\nlonger  22\n");
    }

    #[test]
    fn sizes_are_exact() {
        for (bytes, text) in
            [(0, "0 B"), (512, "512 B"), (1536, "1536 B"), (65536, "64 KiB"), (3 << 30, "3 GiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
