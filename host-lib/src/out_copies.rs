//! The state file: which copies of mirrored disks missed a write.
//!
//! It is read at the start, so that such a copy stays out, and replaced as a whole (new file, fsync, rename, fsync
//! of the folder) before a client is told of a write that the copy missed. An entry names disk and copy
//! and repeats the copy's layout: an entry that fits no copy is an error, since a copy that was renumbered
//! must not be believed in. It says nothing of copies that an unclean stop left different.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use toml_edit::{value, ArrayOfTables, DocumentMut, Item, Table};

use crate::configuration::Configuration;
use crate::map::DiskMap;
use crate::software::Components;

const HEAD: &str = "\
# Copies of mirrored disks that missed a write, kept by `volplane serve`. An entry may be removed when the copy
# was brought up to date by other means while the disk was not served.
";

/// Why the state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system's error.
    #[error("{}: {source}", .file.display())]
    Access {
        /// File.
        file: PathBuf,
        /// Error.
        source: io::Error,
    },
    /// Its text.
    #[error("{}: {problem}", .file.display())]
    Wrong {
        /// File.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// A copy as the file names it.
struct Known {
    disk: String,
    copy: usize,
    layout: String,
}

/// The copies that are out, and the file that says so.
pub(crate) struct OutCopies {
    file: PathBuf,
    /// Of each disk of the configuration, its copies; none if it is not mirrored.
    copies: Vec<Vec<Known>>,
    /// Disk and copy.
    out: BTreeSet<(usize, usize)>,
}

impl OutCopies {
    /// Reads the file, if the configuration has mirrored disks and there is one.
    pub(crate) fn load(configuration: &Configuration) -> Result<Self, StateError> {
        let copies = configuration.disks.iter().map(|disk| {
            let mirrors = disk.plan.iter().flat_map(|plan| &plan.mirrors).enumerate();
            let known = mirrors.map(|(copy, mirror)| {
                let layout = layout(configuration, &mirror.map);
                Known { disk: disk.name.clone(), copy, layout }
            });
            known.collect()
        });
        let file = configuration.state_file.clone();
        let mut found = Self { file, copies: copies.collect(), out: BTreeSet::new() };
        if found.copies.iter().all(Vec::is_empty) {
            return Ok(found);
        }
        match fs::read_to_string(&found.file) {
            Ok(text) => found.out = found.parse(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StateError::Access { file: found.file, source }),
        }
        Ok(found)
    }

    /// The copies of a disk that are out.
    pub(crate) fn of(&self, disk: usize) -> Components {
        Components::of(|copy| self.out.contains(&(disk, copy)))
    }

    /// Makes durable that these copies of a disk are out, too.
    ///
    /// # Errors
    /// The system's; the file is as it was, or says so already.
    pub(crate) fn keep(&mut self, disk: usize, copies: Components) -> Result<(), StateError> {
        let mut out = self.out.clone();
        out.extend(copies.numbers().map(|copy| (disk, copy)));
        replace(&self.file, &self.text(&out))
            .map_err(|source| StateError::Access { file: self.file.clone(), source })?;
        self.out = out;
        Ok(())
    }

    fn text(&self, out: &BTreeSet<(usize, usize)>) -> String {
        let mut entries = ArrayOfTables::new();
        for known in out.iter().filter_map(|&(disk, copy)| self.copies.get(disk)?.get(copy)) {
            let mut entry = Table::new();
            entry.insert("disk", value(&known.disk));
            entry.insert("copy", value(known.copy as i64));
            entry.insert("layout", value(&known.layout));
            entries.push(entry);
        }
        let mut document = DocumentMut::new();
        document.insert("out", Item::ArrayOfTables(entries));
        format!("{HEAD}\n{document}")
    }

    fn parse(&self, text: &str) -> Result<BTreeSet<(usize, usize)>, StateError> {
        let wrong = |problem: String| StateError::Wrong { file: self.file.clone(), problem };
        let document: DocumentMut = text.parse().map_err(|error| wrong(format!("{error}")))?;
        let mut out = BTreeSet::new();
        let Some(item) = document.get("out") else { return Ok(out) };
        let entries = item.as_array_of_tables().ok_or_else(|| wrong("`out` is no list of copies".into()))?;
        for (number, entry) in entries.iter().enumerate() {
            let word = |key: &str| entry.get(key).and_then(Item::as_str).unwrap_or_default();
            let (disk, text) = (word("disk"), word("layout"));
            let copy = entry.get("copy").and_then(Item::as_integer).unwrap_or(-1);
            let all = self.copies.iter().enumerate();
            let known = all.flat_map(|(disk, copies)| copies.iter().map(move |copy| (disk, copy)));
            let named = |known: &Known| known.disk == disk && i64::try_from(known.copy) == Ok(copy);
            let Some((index, known)) = known.into_iter().find(|(_, known)| named(known)) else {
                return Err(wrong(format!("out[{number}]: there is no copy {copy} of a disk {disk:?}")));
            };
            if known.layout != text {
                let problem =
                    format!("out[{number}]: copy {copy} of {disk:?} is {}, not {text}", known.layout);
                return Err(wrong(problem));
            }
            out.insert((index, known.copy));
        }
        Ok(out)
    }
}

/// Where a map lies, in words that change with it.
fn layout(configuration: &Configuration, map: &DiskMap) -> String {
    let segments = map.segments.iter().map(|segment| {
        let columns = segment.columns.iter().map(|column| {
            let device = configuration.devices.get(usize::from(column.device));
            format!("{}@{}", device.map_or("?", |device| device.name.as_str()), column.start)
        });
        let columns = columns.collect::<Vec<_>>().join(",");
        format!("{}:{columns}/{}/{}", segment.blocks, segment.stripe_shift, segment.extent_shift)
    });
    segments.collect::<Vec<_>>().join(" ")
}

/// Replaces a file: after a crash it is the old one or the new one.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut written = File::create(&new)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
device = [
  { name = "a", memory = true, size = "4MiB", block_size = 512 },
  { name = "b", memory = true, size = "4MiB", block_size = 512 },
]
[[disk]]
name = "plain"
block_size = 512
allocation_size = "1MiB"
segment = [{ size = "1MiB", columns = [{ device = "a", offset = 0 }] }]
[[disk]]
name = "m"
block_size = 512
allocation_size = "1MiB"
mirror = [
  { segment = [{ size = "1MiB", columns = [{ device = "a", offset = "1MiB" }] }] },
  { segment = [{ size = "1MiB", columns = [{ device = "b", offset = 0 }] }] },
]
"#;

    fn load(folder: &Path, text: &str) -> Result<OutCopies, String> {
        let configuration = Configuration::parse(text, &folder.join("x.toml")).expect("good");
        OutCopies::load(&configuration).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("x.toml.state");
        let mut copies = load(folder.path(), TEXT).expect("no file yet");
        assert_eq!((copies.of(1), file.exists()), (Components::NONE, false));
        copies.keep(1, Components(2)).expect("kept");
        let again = load(folder.path(), TEXT).expect("kept");
        assert_eq!((again.of(0), again.of(1)), (Components::NONE, Components(2)));
        // Another copy of that number is another copy.
        let moved = TEXT.replace("{ device = \"b\", offset = 0 }", "{ device = \"b\", offset = \"1MiB\" }");
        let error = load(folder.path(), &moved).err().expect("another layout");
        assert!(
            error.contains("x.toml.state: out[0]: copy 1 of \"m\" is 2048:b@2048/11/11, not 2048:b@0/11/11"),
            "{error}"
        );
        let error = load(folder.path(), &TEXT.replace("\"m\"", "\"n\"")).err().expect("renamed");
        assert!(error.ends_with("out[0]: there is no copy 1 of a disk \"m\""), "{error}");
        fs::write(&file, "out = 7").expect("written");
        assert!(load(folder.path(), TEXT).is_err());
    }

    #[test]
    fn what_cannot_be_kept_is_an_error_and_leaves_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let mut copies = load(folder.path(), TEXT).expect("no file yet");
        copies.keep(1, Components(1)).expect("kept");
        // A folder in the new file's place.
        fs::create_dir(folder.path().join("x.toml.state.new")).expect("folder");
        assert!(copies.keep(1, Components(2)).is_err());
        assert_eq!(copies.of(1), Components(1));
        assert_eq!(load(folder.path(), TEXT).expect("as it was").of(1), Components(1));
    }
}
