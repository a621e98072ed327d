//! A machine in a temporary directory, with a kernel that moves devices as the real one does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{Claim, Kernel, PciAddress, SystemTree, VFIO_PCI};

/// What the fake kernel does and was asked.
#[derive(Default)]
struct State {
    /// The driver that takes a device when it may have any.
    native: BTreeMap<String, String>,
    /// The error that writing an attribute of this name gives.
    refused: BTreeMap<String, i32>,
    /// vfio-pci takes nothing.
    unwilling: bool,
    /// Block devices that somebody has alone.
    claimed: BTreeSet<String>,
    /// Attributes written, by name, with what was written.
    written: Vec<(String, String)>,
}

/// The machine.
pub(crate) struct FakeMachine {
    directory: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

struct FakeKernel {
    root: PathBuf,
    state: Arc<Mutex<State>>,
}

impl FakeMachine {
    pub(crate) fn new() -> Self {
        let machine = Self { directory: tempfile::tempdir().expect("a directory"), state: Arc::default() };
        machine.file("/proc/self/mountinfo", "23 1 254:1 / / rw - ext4 /dev/vda1 rw\n");
        machine.file("/proc/swaps", "Filename Type Size Used Priority\n");
        machine.file("/dev/vfio/vfio", "");
        machine.driver(VFIO_PCI);
        machine
    }

    pub(crate) fn tree(&self) -> SystemTree {
        let root = self.directory.path().to_owned();
        let kernel = FakeKernel { root: root.clone(), state: self.state.clone() };
        SystemTree::new(root, Box::new(kernel))
    }

    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(path.as_ref().strip_prefix("/").expect("an absolute path"))
    }

    pub(crate) fn file(&self, path: impl AsRef<Path>, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, text).expect("a file");
    }

    pub(crate) fn link(&self, path: impl AsRef<Path>, target: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        symlink(target, path).expect("a link");
    }

    pub(crate) fn remove(&self, path: impl AsRef<Path>) {
        let path = self.path(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it was there");
    }

    pub(crate) fn driver(&self, name: &str) {
        self.file(format!("/sys/bus/pci/drivers/{name}/unbind"), "");
    }

    /// A PCI device with its driver, in a group of its own unless that is 0.
    pub(crate) fn device(
        &self,
        address: &str,
        ids: (u16, u16, u32),
        driver: Option<&str>,
        group: u32,
    ) -> PciAddress {
        let directory = PathBuf::from("/sys/bus/pci/devices").join(address);
        self.file(directory.join("vendor"), &format!("{:#06x}\n", ids.0));
        self.file(directory.join("device"), &format!("{:#06x}\n", ids.1));
        self.file(directory.join("class"), &format!("{:#08x}\n", ids.2));
        if group != 0 {
            self.link(directory.join("iommu_group"), &format!("../../../kernel/iommu_groups/{group}"));
            self.file(format!("/sys/kernel/iommu_groups/{group}/devices/{address}"), "");
        }
        if let Some(driver) = driver {
            self.driver(driver);
            self.link(directory.join("driver"), &format!("../../../../bus/pci/drivers/{driver}"));
            if driver != VFIO_PCI {
                self.state().native.insert(address.to_owned(), driver.to_owned());
            }
        }
        address.parse().expect("an address")
    }

    /// An NVMe controller `nvme0` with the namespace `nvme0n1` and its partition, used by nobody.
    pub(crate) fn nvme(&self, address: &str, group: u32) -> PciAddress {
        let address_ = self.device(address, (0x144D, 0xA80A, 0x01_08_02), Some("nvme"), group);
        let inside = PathBuf::from("/sys/bus/pci/devices").join(address).join("nvme/nvme0");
        self.file(inside.join("nvme0n1/dev"), "259:0\n");
        self.file("/sys/class/block/nvme0n1/dev", "259:0\n");
        self.file("/sys/class/block/nvme0n1/nvme0n1p1/partition", "1\n");
        self.file("/sys/class/block/nvme0n1p1/dev", "259:1\n");
        self.file("/dev/nvme0n1", "");
        address_
    }

    /// A process that has a file open.
    pub(crate) fn process(&self, number: u32, command: &str, open: &str) {
        self.file(format!("/proc/{number}/comm"), &format!("{command}\n"));
        self.link(format!("/proc/{number}/fd/7"), open);
    }

    pub(crate) fn refuse(&self, attribute: &str, errno: i32) {
        self.state().refused.insert(attribute.to_owned(), errno);
    }

    pub(crate) fn make_unwilling(&self) {
        self.state().unwilling = true;
    }

    pub(crate) fn claim(&self, block_device: &str) {
        self.state().claimed.insert(block_device.to_owned());
    }

    /// What was written, as `attribute=value`.
    pub(crate) fn written(&self) -> Vec<String> {
        self.state().written.iter().map(|(name, value)| format!("{name}={}", value.trim_end())).collect()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics in here")
    }
}

impl Kernel for FakeKernel {
    fn write(&self, attribute: &Path, value: &str) -> io::Result<()> {
        let mut state = self.state.lock().expect("no test panics in here");
        let name = attribute.file_name().expect("a name").to_string_lossy().into_owned();
        if let Some(&errno) = state.refused.get(&name) {
            return Err(io::Error::from_raw_os_error(errno));
        }
        state.written.push((name.clone(), value.to_owned()));
        let device = |address: &str| self.root.join("sys/bus/pci/devices").join(address);
        match name.as_str() {
            "driver_override" => fs::write(attribute, value.trim_end()),
            "unbind" => fs::remove_file(device(value).join("driver")),
            _ => {
                let directory = device(value);
                let wanted = fs::read_to_string(directory.join("driver_override")).unwrap_or_default();
                let driver = if wanted.is_empty() { state.native.get(value).cloned() } else { Some(wanted) };
                let driver = driver.filter(|driver| !(state.unwilling && driver == VFIO_PCI));
                match driver.filter(|_| !directory.join("driver").exists()) {
                    Some(driver) => symlink(format!("../../drivers/{driver}"), directory.join("driver")),
                    None => Ok(()),
                }
            }
        }
    }

    fn claim(&self, block_device: &Path) -> io::Result<Claim> {
        let name = block_device.file_name().expect("a name").to_string_lossy().into_owned();
        let state = self.state.lock().expect("no test panics in here");
        if state.claimed.contains(&name) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::BUSY.raw_os_error()));
        }
        fs::metadata(block_device).map(|_| Claim::none())
    }
}
