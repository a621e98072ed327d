//! `volplane devices`, `bind` and `unbind`: the machine's cards and NVMe controllers, and who has them.

use volplane_driver::host::{self, DeviceKind, PciAddress, PciDevice, SystemTree};

use super::{print, table, Failure};

/// Lists cards and NVMe controllers.
pub fn list() -> Result<(), Failure> {
    print(&describe(&SystemTree::of_this_machine()));
    Ok(())
}

/// Hands devices to vfio-pci, one after the other, and stops at the first that stays.
pub fn bind(addresses: &[PciAddress]) -> Result<(), Failure> {
    let tree = SystemTree::of_this_machine();
    for &address in addresses {
        let bound = host::bind(&tree, address).map_err(Failure::other)?;
        print(&format!("{bound}\n"));
    }
    Ok(())
}

/// Takes devices from vfio-pci, one after the other, and stops at the first that stays.
pub fn unbind(addresses: &[PciAddress]) -> Result<(), Failure> {
    let tree = SystemTree::of_this_machine();
    for &address in addresses {
        let unbound = host::unbind(&tree, address).map_err(Failure::other)?;
        print(&format!("{unbound}\n"));
    }
    Ok(())
}

fn describe(tree: &SystemTree) -> String {
    let devices = host::devices(tree);
    if devices.is_empty() {
        return "There is no Volplane card and no NVMe controller.\n".to_owned();
    }
    let mut rows =
        vec![["address", "what", "ids", "driver", "group", "in use by"].map(str::to_owned).to_vec()];
    rows.extend(devices.iter().map(|device| row(tree, device)));
    table(&rows)
}

fn row(tree: &SystemTree, device: &PciDevice) -> Vec<String> {
    let what = match device.kind() {
        DeviceKind::Card => "card",
        DeviceKind::Nvme => "NVMe",
        DeviceKind::Other => "other",
    };
    let uses = match host::uses(tree, device) {
        Ok(uses) => uses.to_string(),
        Err(error) => error.to_string(),
    };
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    vec![
        device.address.to_string(),
        what.to_owned(),
        format!("{:04x}:{:04x}", device.identity.vendor, device.identity.device),
        or_none(device.driver.clone().unwrap_or_default()),
        or_none(device.group.map(|group| group.to_string()).unwrap_or_default()),
        or_none(uses),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use volplane_driver::host::{Claim, Kernel};

    use super::*;

    /// A kernel that is not asked to do anything.
    struct Still;

    impl Kernel for Still {
        fn write(&self, _: &Path, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn claim(&self, _: &Path) -> io::Result<Claim> {
            Ok(Claim::none())
        }
    }

    #[test]
    fn devices_are_shown_with_what_has_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |path: &str, text: &str| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, text).expect("a file");
        };
        let tree = SystemTree::new(directory.path(), Box::new(Still));
        assert_eq!(describe(&tree), "There is no Volplane card and no NVMe controller.\n");

        file("proc/self/mountinfo", "36 23 259:0 / /srv rw - ext4 /dev/nvme0n1 rw\n");
        file("proc/swaps", "Filename\n");
        for (address, vendor, class) in
            [("0000:01:00.0", "0x10ee", "0x018000"), ("0000:02:00.0", "0x1b36", "0x010802")]
        {
            file(&format!("sys/bus/pci/devices/{address}/vendor"), vendor);
            file(&format!("sys/bus/pci/devices/{address}/device"), "0x9038");
            file(&format!("sys/bus/pci/devices/{address}/class"), class);
        }
        let ssd = "sys/bus/pci/devices/0000:02:00.0";
        file(&format!("{ssd}/nvme/nvme0/nvme0n1/dev"), "259:0\n");
        file("sys/class/block/nvme0n1/dev", "259:0\n");
        symlink("../../../drivers/nvme", directory.path().join(ssd).join("driver")).expect("a link");
        symlink("../../../iommu_groups/9", directory.path().join(ssd).join("iommu_group")).expect("a link");
        assert_eq!(
            describe(&tree),
            "address       what  ids        driver  group  in use by\n\
             0000:01:00.0  card  10ee:9038  -       -      -\n\
             0000:02:00.0  NVMe  1b36:9038  nvme    9      nvme0n1 is mounted at /srv\n"
        );
    }
}
