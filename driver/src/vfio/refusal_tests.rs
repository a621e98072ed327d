//! Every refusal on a machine in a temporary directory, and its words.

use rustix::io::Errno;
use vmm_sys_util::errno::Error as SysError;

use super::*;
use crate::host::fake::FakeMachine;
use crate::host::VFIO_PCI;
use crate::pci::{CARD_CLASS, CARD_DEVICE, CARD_VENDOR};

const CARD: (u16, u16, u32) = (CARD_VENDOR, CARD_DEVICE, CARD_CLASS);
const ADDRESS: &str = "0000:01:00.0";

fn os(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

fn checked(machine: &FakeMachine, address: PciAddress) -> String {
    check_function(&machine.tree(), address).expect_err("refused").expect("a function").to_string()
}

#[test]
fn a_function_that_is_ready_passes() {
    let machine = FakeMachine::new();
    let address = machine.device(ADDRESS, CARD, Some(VFIO_PCI), 5);
    machine.device("0000:00:01.0", (0x8086, 2, 0x06_04_00), Some("pcieport"), 5);
    assert!(check_vfio(&machine.tree()).is_ok());
    let (_, group) = check_function(&machine.tree(), address).expect("ready");
    assert_eq!(group, 5);
    let absent = "0000:09:00.0".parse().expect("an address");
    assert!(matches!(check_function(&machine.tree(), absent), Err(None)));
}

#[test]
fn what_is_missing_is_named() {
    let machine = FakeMachine::new();
    machine.remove("/dev/vfio/vfio");
    let text = check_vfio(&machine.tree()).expect_err("missing").to_string();
    assert_eq!(
        text,
        "there is no /dev/vfio/vfio: load VFIO with `modprobe -a vfio vfio_iommu_type1 vfio-pci`"
    );
    let alone = machine.device("0000:02:00.0", CARD, Some(VFIO_PCI), 0);
    assert!(checked(&machine, alone).contains("intel_iommu=on"));
    let unbound = machine.device("0000:03:00.0", CARD, None, 3);
    assert_eq!(
        checked(&machine, unbound),
        "0000:03:00.0 is not bound to vfio-pci, no driver has it: `volplane bind 0000:03:00.0`"
    );
    let ssd = machine.nvme("0000:04:00.0", 4);
    assert_eq!(
        checked(&machine, ssd),
        "0000:04:00.0 is not bound to vfio-pci, nvme has it: `volplane bind 0000:04:00.0`"
    );
}

#[test]
fn those_in_the_way_are_named() {
    let machine = FakeMachine::new();
    let address = machine.device(ADDRESS, CARD, Some(VFIO_PCI), 5);
    machine.device("0000:01:00.1", (0x10DE, 1, 0x04_03_00), Some("snd_hda_intel"), 5);
    let expected =
        "IOMMU group 5 of 0000:01:00.0 is not viable: it also has 0000:01:00.1 (driver snd_hda_intel); hand \
                    these to vfio-pci too, or take their drivers away";
    assert_eq!(checked(&machine, address), expected);
    let later = function_refusal(&machine.tree(), address, 5, VfioError::GroupViable);
    assert_eq!(later.to_string(), expected, "between the check and the opening");
}

#[test]
fn who_has_the_group_is_named() {
    let machine = FakeMachine::new();
    let address = machine.device(ADDRESS, CARD, Some(VFIO_PCI), 5);
    machine.process(4711, "volplane", "/dev/vfio/5");
    for error in [VfioError::OpenGroup(os(Errno::BUSY), "5".to_owned()), VfioError::GroupViable] {
        assert_eq!(
            function_refusal(&machine.tree(), address, 5, error).to_string(),
            "IOMMU group 5 of 0000:01:00.0 is in use: vfio/5 is open in process 4711 (volplane)"
        );
    }
}

#[test]
fn who_has_the_device_by_iommufd_is_named() {
    let machine = FakeMachine::new();
    let address = machine.device(ADDRESS, CARD, Some(VFIO_PCI), 5);
    machine.file(format!("/sys/bus/pci/devices/{ADDRESS}/vfio-dev/vfio3/dev"), "511:3");
    let bind = |errno: Errno| {
        let error = VfioError::VfioDeviceBindIommufd(SysError::new(errno.raw_os_error()));
        function_refusal(&machine.tree(), address, 5, error).to_string()
    };
    machine.process(4711, "volplane", "/dev/vfio/devices/vfio3");
    // The kernel says the one of a device's own file, the other of its group.
    for errno in [Errno::INVAL, Errno::BUSY] {
        assert_eq!(
            bind(errno),
            "IOMMU group 5 of 0000:01:00.0 is in use: vfio/devices/vfio3 is open in process 4711 (volplane)"
        );
    }
    machine.device("0000:01:00.1", (0x10DE, 1, 0x04_03_00), Some("snd_hda_intel"), 5);
    assert!(bind(Errno::BUSY).contains("is not viable: it also has 0000:01:00.1 (driver snd_hda_intel)"));
}

#[test]
fn what_iommufd_lacks_is_named() {
    let machine = FakeMachine::new();
    let address = machine.device(ADDRESS, CARD, Some(VFIO_PCI), 5);
    machine.file(format!("/sys/bus/pci/devices/{ADDRESS}/vfio-dev/vfio3/dev"), "511:3");
    let refusal = |error| function_refusal(&machine.tree(), address, 5, error).to_string();
    let opened = |errno| VfioError::NewVfioIommufd(IommufdError::OpenIommufd(os(errno)));
    assert!(is_denied(&opened(Errno::ACCESS)) && !is_denied(&opened(Errno::NODEV)));
    let denied = refusal(opened(Errno::ACCESS));
    assert!(denied.starts_with("no permission to open /dev/iommu:"), "{denied}");
    let denied = refusal(VfioError::OpenDeviceCdev(os(Errno::ACCESS)));
    assert!(denied.starts_with("no permission to open /dev/vfio/devices/vfio3:"), "{denied}");
    let untrusted = refusal(VfioError::VfioDeviceBindIommufd(SysError::new(Errno::PERM.raw_os_error())));
    assert!(untrusted.contains("wants iommufd.allow_unsafe_interrupts=1"), "{untrusted}");
    let map = |errno: Errno| {
        let error = IommufdError::IommuIoasMap(SysError::new(errno.raw_os_error()));
        map_refusal(VfioError::IommufdIoctlError(error), 1, 2)
    };
    assert!(matches!(map(Errno::NOMEM), Refusal::MemoryLimit(MemoryLimit { pinned: 1, wanted: 2, .. })));
    let other = map(Errno::ADDRINUSE).to_string();
    assert!(
        other.starts_with("mapping 2 bytes for devices: failed to map an IOVA range") && other.contains("98"),
        "{other}"
    );
}

#[test]
fn either_interface_is_vfio() {
    let machine = FakeMachine::new();
    assert!(check_vfio(&machine.tree()).is_ok() && check_container(&machine.tree()).is_ok());
    machine.remove("/dev/vfio/vfio");
    machine.file("/dev/iommu", "");
    assert!(check_vfio(&machine.tree()).is_ok());
    assert!(matches!(check_container(&machine.tree()), Err(Refusal::NoVfio)));
}

#[test]
fn permissions_and_modules_are_named() {
    let denied = container_refusal(VfioError::OpenContainer(os(Errno::ACCESS))).to_string();
    assert!(denied.starts_with("no permission to open /dev/vfio/vfio"), "{denied}");
    let absent = container_refusal(VfioError::OpenContainer(os(Errno::NOENT))).to_string();
    assert!(absent.contains("modprobe"), "{absent}");
    let bare = container_refusal(VfioError::VfioExtension).to_string();
    assert_eq!(bare, "VFIO has no type 1 IOMMU driver: `modprobe vfio_iommu_type1`");
    let machine = FakeMachine::new();
    let address = machine.device(ADDRESS, CARD, Some(VFIO_PCI), 5);
    let refusal = |error| function_refusal(&machine.tree(), address, 5, error).to_string();
    let denied = refusal(VfioError::OpenGroup(os(Errno::ACCESS), "5".to_owned()));
    assert!(denied.starts_with("no permission to open /dev/vfio/5"), "{denied}");
    let unsafe_interrupts = refusal(VfioError::ContainerSetIOMMU(SysError::new(Errno::PERM.raw_os_error())));
    assert!(unsafe_interrupts.contains("allow_unsafe_interrupts=1"), "{unsafe_interrupts}");
}

#[test]
fn the_memory_limit_says_how_much_and_how() {
    let limit = MemoryLimit { pinned: 3 << 20, wanted: (6 << 20) + 1, limit: Some(8 << 20) };
    assert_eq!(
        Refusal::MemoryLimit(limit).to_string(),
        "the process may pin no more memory for devices: 3072 KiB are pinned, 6145 more were asked for, and \
         RLIMIT_MEMLOCK is 8192 KiB; raise it to at least 9217 KiB (`ulimit -l 9217`, LimitMEMLOCK= of a systemd unit, \
         or memlock in /etc/security/limits.conf)"
    );
    let none = MemoryLimit { limit: None, ..limit }.to_string();
    assert!(none.ends_with("RLIMIT_MEMLOCK is no limit, and the machine has no more"), "{none}");
    let map = |errno: Errno| map_refusal(VfioError::IommuDmaMap(SysError::new(errno.raw_os_error())), 1, 2);
    assert!(matches!(map(Errno::NOMEM), Refusal::MemoryLimit(MemoryLimit { pinned: 1, wanted: 2, .. })));
    assert!(map(Errno::NOSPC).to_string().contains("dma_entry_limit"));
    assert!(map(Errno::INVAL).to_string().starts_with("mapping 2 bytes for devices"));
}
