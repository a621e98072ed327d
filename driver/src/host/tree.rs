//! The kernel's file trees (`/sys`, `/proc`, `/dev`), below a root that a test may choose.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// What is asked of the kernel beyond reading files.
pub trait Kernel: Send + Sync {
    /// Writes an attribute of sysfs.
    ///
    /// # Errors
    /// The kernel's.
    fn write(&self, attribute: &Path, value: &str) -> io::Result<()>;
    /// Opens a block device so that nobody else can have it alone, or fails with `EBUSY` where somebody has.
    ///
    /// # Errors
    /// The kernel's.
    fn claim(&self, block_device: &Path) -> io::Result<Claim>;
}

/// A block device that nobody else has alone, as long as this lives.
#[derive(Debug)]
pub struct Claim(Option<OwnedFd>);

impl Claim {
    /// A claim of nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Whether something is claimed.
    pub fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

/// The kernel that this process runs on.
#[derive(Debug)]
struct RunningKernel;

impl Kernel for RunningKernel {
    fn write(&self, attribute: &Path, value: &str) -> io::Result<()> {
        // Opened without creating: an attribute that is not there is an error, not a new file.
        io::Write::write_all(&mut fs::File::options().write(true).open(attribute)?, value.as_bytes())
    }

    fn claim(&self, block_device: &Path) -> io::Result<Claim> {
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(Claim(Some(rustix::fs::open(block_device, flags, Mode::empty())?)))
    }
}

/// The file trees and the kernel behind them.
pub struct SystemTree {
    root: PathBuf,
    kernel: Box<dyn Kernel>,
}

impl SystemTree {
    /// This machine's.
    pub fn of_this_machine() -> Self {
        Self::new("/", Box::new(RunningKernel))
    }

    /// Trees below `root`, with `kernel` behind them.
    pub fn new(root: impl Into<PathBuf>, kernel: Box<dyn Kernel>) -> Self {
        Self { root: root.into(), kernel }
    }

    /// The kernel.
    pub fn kernel(&self) -> &dyn Kernel {
        self.kernel.as_ref()
    }

    /// A path of the trees: `path` is as on this machine.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A path without the root, as people know it.
    pub fn shown(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.root) {
            Ok(rest) => Path::new("/").join(rest),
            Err(_) => path.to_owned(),
        }
    }

    /// The first line of a file, trimmed; `None` when it cannot be read.
    pub fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.lines().next().unwrap_or_default().trim().to_owned())
    }

    /// The last part of a symbolic link's target; `None` when there is no link.
    pub fn link_name(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Names in a directory, sorted; empty when there is none.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl std::fmt::Debug for SystemTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SystemTree({})", self.root.display())
    }
}
