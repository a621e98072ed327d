//! What a controller is in use by: its namespaces' mounts, swap areas, holders (dm, md, …), exclusive and other
//! openers; or the processes that have it through VFIO.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::address::PciAddress;
use super::devices::{cdevs, directory, group_members, DeviceKind, PciDevice};
use super::tree::{Claim, SystemTree};

/// One thing that a device is in use by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// A mounted file system.
    Mounted {
        /// Block device.
        device: String,
        /// Where.
        at: String,
    },
    /// A swap area.
    Swap {
        /// Block device.
        device: String,
    },
    /// A block device that is built on it.
    Holder {
        /// Block device.
        device: String,
        /// Who holds it, and the name people gave that.
        holder: String,
    },
    /// A process has it open.
    Open {
        /// File below `/dev`.
        device: String,
        /// Process.
        process: u32,
        /// Its name.
        command: String,
    },
    /// Somebody who could not be found has it alone.
    Claimed {
        /// Block device.
        device: String,
    },
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Mounted { device, at } => write!(f, "{device} is mounted at {at}"),
            Use::Swap { device } => write!(f, "{device} is a swap area"),
            Use::Holder { device, holder } => write!(f, "{device} is held by {holder}"),
            Use::Open { device, process, command } => {
                write!(f, "{device} is open in process {process} ({command})")
            }
            Use::Claimed { device } => write!(f, "{device} is opened exclusively"),
        }
    }
}

/// Everything that a device is in use by, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses(pub Vec<Use>);

impl fmt::Display for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(Use::to_string).collect();
        f.write_str(&words.join("; "))
    }
}

/// What could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum UseError {
    /// A file that must be read to know.
    #[error("cannot tell whether it is in use: {}: {source}", .path.display())]
    Unreadable {
        /// File.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a device is in use by, whoever has it.
///
/// # Errors
/// `UseError`.
pub fn uses(tree: &SystemTree, device: &PciDevice) -> Result<Uses, UseError> {
    match (device.is_handed_over(), device.group) {
        (true, Some(group)) => Ok(group_uses(tree, group)),
        _ if device.kind() == DeviceKind::Nvme => Ok(namespace_uses(tree, device.address)?.0),
        _ => Ok(Uses::default()),
    }
}

/// The processes that have a VFIO group open, or one of its devices by iommufd.
pub fn group_uses(tree: &SystemTree, group: u32) -> Uses {
    let members = group_members(tree, group);
    let cdevs = members.into_iter().flat_map(|address| cdevs(tree, address));
    let files = cdevs.map(|name| format!("vfio/devices/{name}")).chain([format!("vfio/{group}")]);
    Uses(openers(tree, &files.collect()))
}

/// What the namespaces of an NVMe controller are in use by; and where that is nothing, claims of them, so that
/// nobody begins to use them while the claims live.
///
/// # Errors
/// `UseError`.
pub fn namespace_uses(tree: &SystemTree, address: PciAddress) -> Result<(Uses, Vec<Claim>), UseError> {
    let disks = block_devices(tree, address);
    let mut found = mounts(tree, &disks)?;
    found.extend(swaps(tree, &disks)?);
    let all: BTreeSet<String> = disks.iter().flat_map(|disk| disk.with_parts()).collect();
    found.extend(all.iter().flat_map(|name| holders(tree, name)));
    let mut files = all.clone();
    files.extend(controllers(tree, address));
    found.extend(openers(tree, &files));
    let mut claims = Vec::new();
    for disk in &disks {
        let path = tree.path(Path::new("/dev").join(&disk.name));
        match tree.kernel().claim(&path) {
            Ok(claim) => claims.push(claim),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                if !found.iter().any(|found| disk.with_parts().iter().any(|name| found.is_of(name))) {
                    found.insert(Use::Claimed { device: disk.name.clone() });
                }
            }
            // A namespace that the kernel shows without a device file is not in use by way of one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(UseError::Unreadable { path: tree.shown(&path), source }),
        }
    }
    Ok((Uses(found.into_iter().collect()), claims))
}

impl Use {
    fn is_of(&self, name: &str) -> bool {
        let (Use::Mounted { device, .. }
        | Use::Swap { device }
        | Use::Holder { device, .. }
        | Use::Open { device, .. }
        | Use::Claimed { device }) = self;
        device == name
    }
}

/// A namespace's block device and its partitions.
struct Disk {
    name: String,
    parts: Vec<String>,
}

impl Disk {
    fn with_parts(&self) -> Vec<String> {
        std::iter::once(&self.name).chain(&self.parts).cloned().collect()
    }
}

/// Names of a device's NVMe controllers: `nvme0`.
fn controllers(tree: &SystemTree, address: PciAddress) -> Vec<String> {
    tree.names(directory(address).join("nvme"))
}

/// The block devices of a controller's namespaces. One that several controllers share has one name for all of them
/// (`nvme0n1`), and a hidden one for each (`nvme0c1n1`).
fn block_devices(tree: &SystemTree, address: PciAddress) -> Vec<Disk> {
    let mut names = BTreeSet::new();
    for controller in controllers(tree, address) {
        let inside = tree.names(directory(address).join("nvme").join(&controller));
        names.extend(inside.iter().filter_map(|name| shared_name(name)));
    }
    let disks = names.into_iter().map(|name| {
        let directory = Path::new("/sys/class/block").join(&name);
        let inside = tree.names(&directory).into_iter();
        let parts = inside.filter(|part| tree.path(directory.join(part).join("partition")).exists());
        Disk { parts: parts.collect(), name }
    });
    disks.collect()
}

/// `nvme0n1` of `nvme0n1` and of `nvme0c1n1`; `None` of anything else.
fn shared_name(name: &str) -> Option<String> {
    let (subsystem, rest) = digits(name.strip_prefix("nvme")?)?;
    let rest = match rest.strip_prefix('c') {
        Some(rest) => digits(rest)?.1,
        None => rest,
    };
    let (namespace, end) = digits(rest.strip_prefix('n')?)?;
    end.is_empty().then(|| format!("nvme{subsystem}n{namespace}"))
}

fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn mounts(tree: &SystemTree, disks: &[Disk]) -> Result<BTreeSet<Use>, UseError> {
    let numbers: Vec<(String, String)> = disks
        .iter()
        .flat_map(Disk::with_parts)
        .map(|name| {
            (tree.line(Path::new("/sys/class/block").join(&name).join("dev")).unwrap_or_default(), name)
        })
        .collect();
    let text = must_read(tree, "/proc/self/mountinfo")?;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        // Fields of proc(5): 3 is the device's number, 5 the mount point, the second after "-" the source. Some file
        // systems have a number of their own, so the source counts too.
        let fields: Vec<&str> = line.split(' ').collect();
        let source = fields.iter().position(|&field| field == "-").and_then(|at| fields.get(at + 2));
        let (Some(number), Some(at)) = (fields.get(2), fields.get(4)) else { continue };
        let is_it = |(known, name): &&(String, String)| {
            known == number || source.and_then(|source| source.strip_prefix("/dev/")) == Some(name)
        };
        if let Some((_, name)) = numbers.iter().find(is_it) {
            found.insert(Use::Mounted { device: name.clone(), at: (*at).to_owned() });
        }
    }
    Ok(found)
}

fn swaps(tree: &SystemTree, disks: &[Disk]) -> Result<BTreeSet<Use>, UseError> {
    let text = must_read(tree, "/proc/swaps")?;
    let names: Vec<String> = disks.iter().flat_map(Disk::with_parts).collect();
    let areas = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let devices =
        areas.filter_map(|path| path.strip_prefix("/dev/")).filter(|name| names.iter().any(|n| n == name));
    Ok(devices.map(|name| Use::Swap { device: name.to_owned() }).collect())
}

fn must_read(tree: &SystemTree, path: &str) -> Result<String, UseError> {
    std::fs::read_to_string(tree.path(path))
        .map_err(|source| UseError::Unreadable { path: path.into(), source })
}

/// What is built on a block device: mapped devices, arrays, caches.
fn holders(tree: &SystemTree, device: &str) -> Vec<Use> {
    let names = tree.names(Path::new("/sys/class/block").join(device).join("holders"));
    let holders = names.into_iter().map(|name| {
        let given = tree.line(Path::new("/sys/class/block").join(&name).join("dm/name"));
        let holder = given.map_or_else(|| name.clone(), |given| format!("{name} ({given})"));
        Use::Holder { device: device.to_owned(), holder }
    });
    holders.collect()
}

/// Processes that have one of these files below `/dev` open.
fn openers(tree: &SystemTree, files: &BTreeSet<String>) -> Vec<Use> {
    let mut found = BTreeSet::new();
    let processes = tree.names("/proc").into_iter().filter_map(|name| name.parse::<u32>().ok());
    for process in processes {
        let directory = PathBuf::from(format!("/proc/{process}/fd"));
        for descriptor in tree.names(&directory) {
            let Ok(target) = std::fs::read_link(tree.path(directory.join(descriptor))) else { continue };
            let Ok(name) = target.strip_prefix("/dev") else { continue };
            let name = name.to_string_lossy();
            if files.contains(name.as_ref()) {
                let command = tree.line(format!("/proc/{process}/comm")).unwrap_or_default();
                found.insert(Use::Open { device: name.into_owned(), process, command });
            }
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_one_name_whatever_its_path() {
        for (name, shared) in [
            ("nvme0n1", Some("nvme0n1")),
            ("nvme10c3n12", Some("nvme10n12")),
            ("nvme0", None),
            ("nvme0n1p1", None),
            ("nvme0c1", None),
            ("nvmen1", None),
            ("hwmon2", None),
        ] {
            assert_eq!(shared_name(name).as_deref(), shared, "{name}");
        }
    }
}
