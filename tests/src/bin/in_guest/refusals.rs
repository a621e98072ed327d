//! Binding, and what VFIO refuses, on a kernel that means it.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use volplane_driver::host::{self, DeviceKind, PciAddress, SystemTree};
use volplane_driver::{Platform, VfioPlatform};

use crate::{child, expect, Checks, Outcome};

/// Addresses of QEMU's NVMe controllers: the root ports after the card's.
pub const SSDS: [&str; 2] = ["0000:02:00.0", "0000:03:00.0"];

/// The file that a kernel with iommufd has.
pub const IOMMUFD: &str = "/dev/iommu";

/// Longest time from the start of the guest to its SSDs' block devices.
const BLOCK_DEVICE_LIMIT: Duration = Duration::from_secs(30);

/// What a shell does that uses something: it says so, and stays.
const AND_STAYS: &str = "echo used && exec sleep 600";

/// A process that uses an SSD, until this is dropped.
struct User(Child);

impl User {
    /// Starts it, and waits until it says that it does; the guest has a limit of time of its own (run.py).
    fn start(command: &[&str]) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new(command[0]).args(&command[1..]).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().ok_or("no output")?;
        let user = Self(process);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        expect(line.trim() == "used", format!("{command:?} ended"))?;
        Ok(user)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // One that has ended is as it should be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn address(text: &str) -> PciAddress {
    text.parse().expect("an address")
}

/// From a machine that has its drivers to one whose SSDs are with vfio-pci.
pub fn run(checks: &mut Checks) {
    let tree = SystemTree::of_this_machine();
    checks.check("devices are listed", || {
        let found = host::devices(&tree);
        let ssds: Vec<String> = found
            .iter()
            .filter(|device| device.kind() == DeviceKind::Nvme)
            .map(|device| device.address.to_string())
            .collect();
        expect(ssds == SSDS, format!("{found:?}"))?;
        expect(found.iter().all(|device| device.group.is_some()), "no IOMMU group")?;
        Ok(format!("{}", found.len()))
    });
    checks.check("an unbound function is refused", || {
        let error = VfioPlatform::new()?.open(SSDS[0]).err().ok_or("it opened")?.to_string();
        expect(error.contains("nvme has it: `volplane bind"), &error)?;
        Ok(error)
    });
    let mut ssd = String::new();
    checks.check("the first SSD has a block device", || {
        ssd = block_device(SSDS[0])?;
        Ok(ssd.clone())
    });
    checks.check("a mounted SSD stays", || {
        let mount = format!("mkfs.ext4 -q {ssd} && mount -t ext4 {ssd} /mnt");
        in_use("mounted at /mnt", &mount, "umount /mnt")
    });
    checks.check("an SSD with swap stays", || {
        let swap = format!(
            "dd if=/dev/zero of={ssd} bs=1M count=1 2>/dev/null; mkswap {ssd} >/dev/null && swapon {ssd}"
        );
        in_use("is a swap area", &swap, &format!("swapoff {ssd}"))
    });
    checks.check("an SSD that a process reads stays", || {
        let _reader = User::start(&["/bin/sh", "-c", &format!("exec <{ssd}; {AND_STAYS}")])?;
        refusal("is open in process")
    });
    checks.check("an SSD mounted where we do not see it stays", || {
        shell(&format!("mkfs.ext4 -q {ssd}"))?;
        let hidden = format!("mount -t ext4 {ssd} /mnt && {AND_STAYS}");
        let _other = User::start(&["/bin/unshare", "-m", "/bin/sh", "-c", &hidden])?;
        let name = ssd.trim_start_matches("/dev/");
        refusal(&format!("{name} is opened exclusively"))
    });
    checks.check("unused SSDs are bound", || {
        let said: Result<Vec<String>, _> =
            SSDS.iter().map(|ssd| host::bind(&tree, address(ssd)).map(|bound| bound.to_string())).collect();
        Ok(said?.join("; "))
    });
    checks.check("a second process is refused", || {
        let mut platform = VfioPlatform::new()?;
        let _function = platform.open(SSDS[0])?;
        let told = child::opens(SSDS[0])?;
        expect(told.contains("is in use: vfio/") && told.contains("in_guest"), &told)?;
        let kept = host::unbind(&tree, address(SSDS[0])).err().ok_or("it was unbound")?.to_string();
        expect(kept.contains("stays with vfio-pci: vfio/"), &kept)?;
        Ok(told)
    });
    checks.check("a user's memory limit is explained", || {
        shell("chown 1000:1000 /dev/vfio/*")?;
        let told = child::pins(SSDS[0])?;
        let explained = "RLIMIT_MEMLOCK is 256 KiB; raise it";
        // Who has no leave to use iommufd has the groups.
        expect(told.starts_with("a container of groups: ") && told.contains(explained), &told)?;
        if !Path::new(IOMMUFD).exists() {
            return Ok(told);
        }
        shell(&format!("chown 1000:1000 {IOMMUFD} /dev/vfio/devices/*"))?;
        let then = child::pins(SSDS[0])?;
        expect(then.starts_with("iommufd: ") && then.contains(explained), &then)?;
        Ok(format!("{told}; {then}"))
    });
}

/// Gives the SSDs back.
pub fn unbind(checks: &mut Checks) {
    let tree = SystemTree::of_this_machine();
    checks.check("SSDs are given back", || {
        let said: Result<Vec<String>, _> = SSDS
            .iter()
            .map(|ssd| host::unbind(&tree, address(ssd)).map(|unbound| unbound.to_string()))
            .collect();
        let said = said?.join("; ");
        expect(said.matches("vfio-pci to nvme").count() == SSDS.len(), &said)?;
        Ok(said)
    });
}

/// The block device of a controller's first namespace. The kernel numbers controllers as they come up, which they do
/// beside each other, and beside this program.
pub fn block_device(controller: &str) -> Outcome {
    let began = Instant::now();
    let pattern = format!("ls -d /sys/bus/pci/devices/{controller}/nvme/nvme*/nvme*n1");
    loop {
        if let Some(device) = shell(&pattern).ok().and_then(|path| Some(path.rsplit('/').next()?.to_owned()))
        {
            let device = format!("/dev/{device}");
            if Path::new(&device).exists() {
                return Ok(device);
            }
        }
        expect(began.elapsed() < BLOCK_DEVICE_LIMIT, format!("{controller} has none"))?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn in_use(words: &str, begin: &str, end: &str) -> Outcome {
    shell(begin)?;
    let refused = refusal(words);
    shell(end)?;
    refused
}

fn refusal(words: &str) -> Outcome {
    let error =
        host::bind(&SystemTree::of_this_machine(), address(SSDS[0])).err().ok_or("it was bound")?.to_string();
    expect(error.contains(words), &error)?;
    Ok(error)
}

/// Runs a line of the guest's shell.
pub fn shell(line: &str) -> Outcome {
    let output = Command::new("/bin/sh").args(["-c", line]).output()?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    expect(output.status.success(), format!("{line}: {said}"))?;
    Ok(said.trim().to_owned())
}
