//! Reading TOML tables with the line of every field at hand.

use std::path::Path;

use toml_edit::{Document, Item, TableLike, Value};

use super::ConfigurationError;

/// A parsed file.
pub(super) struct Source<'a> {
    text: &'a str,
    file: &'a Path,
    document: Document<&'a str>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, file: &'a Path) -> Result<Self, ConfigurationError> {
        let document = Document::parse(text).map_err(|error| {
            let problem = error.message().lines().collect::<Vec<_>>().join(", ");
            let at = error.span().map_or(0, |span| span.start);
            wrong(file, line_of(text, at), "TOML".into(), problem)
        })?;
        Ok(Self { text, file, document })
    }

    /// The top of the file.
    pub(super) fn root(&self, known: &[&str]) -> Result<Section<'_>, ConfigurationError> {
        let table = self.document.as_table();
        Section { source: self, table, line: 1, path: String::new() }.with_keys(known)
    }

    fn wrong(&self, line: usize, field: String, problem: impl Into<String>) -> ConfigurationError {
        wrong(self.file, line, field, problem.into())
    }

    fn line(&self, span: Option<std::ops::Range<usize>>, otherwise: usize) -> usize {
        span.map_or(otherwise, |span| line_of(self.text, span.start))
    }
}

fn wrong(file: &Path, line: usize, field: String, problem: String) -> ConfigurationError {
    ConfigurationError::Wrong { file: file.display().to_string(), line, field, problem }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
}

/// Where a table stands in its file, for errors found later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    line: usize,
    path: String,
    keys: Vec<(String, usize)>,
}

impl Origin {
    /// Line and path of a field; the table's own line when the field is not there.
    pub(crate) fn field(&self, name: &str) -> (usize, String) {
        let line = self.keys.iter().find(|(key, _)| key == name).map_or(self.line, |&(_, line)| line);
        (line, format!("{}.{name}", self.path))
    }

    /// Line of the table, and its path.
    pub(crate) fn table(&self) -> (usize, &str) {
        (self.line, &self.path)
    }
}

/// A table of the file.
pub(super) struct Section<'s> {
    source: &'s Source<'s>,
    table: &'s dyn TableLike,
    line: usize,
    path: String,
}

impl<'s> Section<'s> {
    /// Refuses keys other than `known`, so that a misspelt one is not taken for a missing one.
    fn with_keys(self, known: &[&str]) -> Result<Self, ConfigurationError> {
        match self.table.iter().map(|(key, _)| key).find(|key| !known.contains(key)) {
            Some(key) => Err(self.wrong(key, format!("unknown key; known are {}", known.join(", ")))),
            None => Ok(self),
        }
    }

    /// An error at a field.
    pub(super) fn wrong(&self, field: &str, problem: impl Into<String>) -> ConfigurationError {
        let path = if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) };
        self.source.wrong(self.line_of(field), path, problem)
    }

    pub(super) fn origin(&self) -> Origin {
        let keys = self.table.iter().map(|(key, _)| (key.to_owned(), self.line_of(key))).collect();
        Origin { line: self.line, path: self.path.clone(), keys }
    }

    fn line_of(&self, field: &str) -> usize {
        let key = self.table.key(field).and_then(|key| key.span());
        let item = self.table.get(field).and_then(Item::span);
        self.source.line(key.or(item), self.line)
    }

    fn mistyped(&self, field: &str, wanted: &str, found: &Item) -> ConfigurationError {
        self.wrong(field, format!("must be {wanted}, not {}", article(found.type_name())))
    }

    /// Whether a field is there.
    pub(super) fn has(&self, field: &str) -> bool {
        self.table.get(field).is_some()
    }

    /// A field's value, or the error that it is missing.
    pub(super) fn require<T>(&self, field: &str, value: Option<T>) -> Result<T, ConfigurationError> {
        value.ok_or_else(|| self.wrong(field, "missing"))
    }

    pub(super) fn string(&self, field: &str) -> Result<Option<String>, ConfigurationError> {
        let Some(item) = self.table.get(field) else { return Ok(None) };
        let text = item.as_str().ok_or_else(|| self.mistyped(field, "a string", item))?;
        if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
            return Err(self.wrong(field, "must have 1 to 255 bytes and no control characters"));
        }
        Ok(Some(text.to_owned()))
    }

    pub(super) fn boolean(&self, field: &str) -> Result<Option<bool>, ConfigurationError> {
        let Some(item) = self.table.get(field) else { return Ok(None) };
        item.as_bool().map(Some).ok_or_else(|| self.mistyped(field, "true or false", item))
    }

    /// An integer from `low` to `high`.
    pub(super) fn integer(
        &self,
        field: &str,
        low: u32,
        high: u32,
    ) -> Result<Option<u32>, ConfigurationError> {
        let Some(item) = self.table.get(field) else { return Ok(None) };
        let value = item.as_integer().ok_or_else(|| self.mistyped(field, "an integer", item))?;
        match u32::try_from(value) {
            Ok(value) if (low..=high).contains(&value) => Ok(Some(value)),
            _ => Err(self.wrong(field, format!("must be {low} to {high}, not {value}"))),
        }
    }

    /// Bits of the first `count` things: `"all"`, `"none"`, or a list of their numbers.
    pub(super) fn bits(&self, field: &str, count: usize) -> Result<Option<u8>, ConfigurationError> {
        let Some(item) = self.table.get(field) else { return Ok(None) };
        let wrong = || {
            let last = count.saturating_sub(1);
            self.wrong(field, format!("must be \"all\", \"none\" or a list of numbers from 0 to {last}"))
        };
        match (item.as_str(), item.as_array()) {
            (Some("all"), _) => Ok(Some(((1u16 << count) - 1) as u8)),
            (Some("none"), _) => Ok(Some(0)),
            (_, Some(list)) => list
                .iter()
                .try_fold(0u8, |bits, value| {
                    let number = value.as_integer().and_then(|number| usize::try_from(number).ok());
                    let number = number.filter(|&number| number < count).ok_or_else(wrong)?;
                    Ok(bits | 1 << number)
                })
                .map(Some),
            _ => Err(wrong()),
        }
    }

    /// One of these words; its place among them.
    pub(super) fn word(&self, field: &str, words: &[&str]) -> Result<Option<usize>, ConfigurationError> {
        let Some(text) = self.string(field)? else { return Ok(None) };
        let place = words.iter().position(|word| *word == text);
        let wrong = || self.wrong(field, format!("must be one of {}, not {text:?}", words.join(", ")));
        place.ok_or_else(wrong).map(Some)
    }

    /// A size in bytes.
    pub(super) fn size(&self, field: &str) -> Result<Option<u64>, ConfigurationError> {
        let Some(item) = self.table.get(field) else { return Ok(None) };
        let bytes = match item {
            Item::Value(Value::Integer(value)) => u64::try_from(*value.value()).ok(),
            Item::Value(Value::String(value)) => parse_size(value.value()),
            _ => return Err(self.mistyped(field, "a size", item)),
        };
        match bytes {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(self.wrong(
                field,
                "must be a size: bytes, or a string like \"64KiB\" (units B, KiB, MiB, GiB, TiB)",
            )),
        }
    }

    /// A table within; `None` when it is not there.
    pub(super) fn section(
        &self,
        field: &str,
        known: &[&str],
    ) -> Result<Option<Section<'s>>, ConfigurationError> {
        let Some(item) = self.table.get(field) else { return Ok(None) };
        let table = item.as_table_like().ok_or_else(|| self.mistyped(field, "a table", item))?;
        let path = if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) };
        let section = Section { source: self.source, table, line: self.line_of(field), path };
        section.with_keys(known).map(Some)
    }

    /// A list of tables within; empty when it is not there.
    pub(super) fn list(&self, field: &str, known: &[&str]) -> Result<Vec<Section<'s>>, ConfigurationError> {
        let Some(item) = self.table.get(field) else { return Ok(Vec::new()) };
        let mut tables: Vec<(&'s dyn TableLike, usize)> = Vec::new();
        match item {
            Item::ArrayOfTables(list) => {
                for table in list {
                    tables.push((table, self.source.line(table.span(), self.line)));
                }
            }
            Item::Value(Value::Array(list)) => {
                for value in list {
                    let line = self.source.line(value.span(), self.line);
                    let Value::InlineTable(table) = value else {
                        let (path, found) = (self.element(field, tables.len()), article(value.type_name()));
                        return Err(self.source.wrong(line, path, format!("must be a table, not {found}")));
                    };
                    tables.push((table, line));
                }
            }
            _ => return Err(self.mistyped(field, "a list of tables", item)),
        }
        let sections = tables.into_iter().enumerate().map(|(index, (table, line))| {
            Section { source: self.source, table, line, path: self.element(field, index) }.with_keys(known)
        });
        sections.collect()
    }

    fn element(&self, field: &str, index: usize) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        format!("{}{dot}{field}[{index}]", self.path)
    }
}

fn article(type_name: &str) -> String {
    let vowel = type_name.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {type_name}", if vowel { "an" } else { "a" })
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}
