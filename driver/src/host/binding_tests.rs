//! Binding on a machine in a temporary directory: every refusal, and its words.

use rustix::io::Errno;

use super::*;
use crate::host::fake::FakeMachine;
use crate::host::{devices, uses};
use crate::pci::{CARD_CLASS, CARD_DEVICE, CARD_VENDOR};

const SSD: &str = "0000:65:00.0";
const CARD: (u16, u16, u32) = (CARD_VENDOR, CARD_DEVICE, CARD_CLASS);

fn refusal(machine: &FakeMachine, address: PciAddress) -> String {
    let before = device(&machine.tree(), address).and_then(|device| device.driver);
    let error = bind(&machine.tree(), address).expect_err("refused").to_string();
    let after = device(&machine.tree(), address).and_then(|device| device.driver);
    assert_eq!(before, after, "its driver has it again: {error}");
    error
}

fn in_use(arrange: impl FnOnce(&FakeMachine)) -> String {
    let machine = FakeMachine::new();
    let address = machine.nvme(SSD, 7);
    arrange(&machine);
    let error = refusal(&machine, address);
    assert!(machine.written().is_empty(), "nothing was tried");
    error
}

#[test]
fn an_unused_controller_goes_to_vfio_and_back() {
    let machine = FakeMachine::new();
    let address = machine.nvme(SSD, 7);
    let bound = bind(&machine.tree(), address).expect("bound");
    assert_eq!(bound.to_string(), "0000:65:00.0 went from nvme to vfio-pci, IOMMU group 7");
    let steps = ["driver_override=vfio-pci", "unbind=0000:65:00.0", "drivers_probe=0000:65:00.0"];
    assert_eq!(machine.written(), steps);
    let again = bind(&machine.tree(), address).expect("bound");
    assert_eq!(again.to_string(), "0000:65:00.0 is with vfio-pci already, IOMMU group 7");
    let back = unbind(&machine.tree(), address).expect("unbound");
    assert_eq!(back.to_string(), "0000:65:00.0 went from vfio-pci to nvme");
    assert_eq!(
        machine.written()[3..],
        ["driver_override=", "unbind=0000:65:00.0", "drivers_probe=0000:65:00.0"]
    );
}

#[test]
fn a_card_without_a_driver_goes_to_vfio_and_back() {
    let machine = FakeMachine::new();
    let address = machine.device("0000:01:00.0", CARD, None, 3);
    assert_eq!(
        bind(&machine.tree(), address).expect("bound").to_string(),
        "0000:01:00.0 went to vfio-pci, IOMMU group 3"
    );
    assert_eq!(
        unbind(&machine.tree(), address).expect("unbound").to_string(),
        "0000:01:00.0 went from vfio-pci, and no driver wants it"
    );
}

#[test]
fn others_of_the_group_are_named() {
    let machine = FakeMachine::new();
    let address = machine.device("0000:01:00.0", CARD, None, 3);
    machine.device("0000:01:00.1", (0x8086, 1, 0x04_03_00), Some("snd_hda_intel"), 3);
    machine.device("0000:00:01.0", (0x8086, 2, 0x06_04_00), Some("pcieport"), 3);
    machine.device("0000:01:00.2", (0x8086, 3, 0x0C_03_30), None, 3);
    let text = bind(&machine.tree(), address).expect("bound").to_string();
    assert!(
        text.ends_with("The group cannot be opened yet, it also has 0000:01:00.1 (driver snd_hda_intel)"),
        "{text}"
    );
}

#[test]
fn what_is_no_device_of_ours_is_refused() {
    let machine = FakeMachine::new();
    let absent: PciAddress = SSD.parse().expect("an address");
    assert!(refusal(&machine, absent).starts_with("there is no PCI device at 0000:65:00.0;"));
    let other = machine.device("0000:02:00.0", (0x8086, 0x1533, 0x02_00_00), Some("igb"), 2);
    assert_eq!(
        refusal(&machine, other),
        "0000:02:00.0 is neither a Volplane card nor an NVMe controller, but 8086:1533 of class 020000"
    );
}

#[test]
fn a_machine_that_is_not_ready_is_explained() {
    let machine = FakeMachine::new();
    let address = machine.nvme(SSD, 0);
    let text = refusal(&machine, address);
    assert!(text.contains("has no IOMMU group") && text.contains("intel_iommu=on"), "{text}");
    let machine = FakeMachine::new();
    let address = machine.nvme(SSD, 7);
    machine.remove("/sys/bus/pci/drivers/vfio-pci");
    assert_eq!(refusal(&machine, address), "the kernel has no driver vfio-pci: `modprobe vfio-pci` loads it");
}

#[test]
fn a_controller_in_use_stays() {
    for (mounts, expected) in [
        ("36 23 259:1 / /srv/data rw,noatime - xfs /dev/nvme0n1p1 rw\n", "nvme0n1p1 is mounted at /srv/data"),
        ("36 23 0:41 / /pool rw - btrfs /dev/nvme0n1 rw\n", "nvme0n1 is mounted at /pool"),
    ] {
        let text = in_use(|machine| machine.file("/proc/self/mountinfo", mounts));
        assert_eq!(text, format!("0000:65:00.0 stays with nvme: {expected}"));
    }
    let swap = "Filename Type Size Used Priority\n/dev/nvme0n1p1 partition 100 0 -2\n";
    let text = in_use(|machine| machine.file("/proc/swaps", swap));
    assert!(text.ends_with("nvme0n1p1 is a swap area"), "{text}");
    let text = in_use(|machine| {
        machine.file("/sys/class/block/nvme0n1/holders/md127", "");
        machine.file("/sys/class/block/nvme0n1p1/holders/dm-3", "");
        machine.file("/sys/class/block/dm-3/dm/name", "vg-home\n");
    });
    assert!(text.ends_with("nvme0n1 is held by md127; nvme0n1p1 is held by dm-3 (vg-home)"), "{text}");
    let text = in_use(|machine| machine.process(4711, "qemu-system-x86", "/dev/nvme0n1"));
    assert!(text.ends_with("nvme0n1 is open in process 4711 (qemu-system-x86)"), "{text}");
    let text = in_use(|machine| machine.process(12, "nvme", "/dev/nvme0"));
    assert!(text.ends_with("nvme0 is open in process 12 (nvme)"), "{text}");
    let text = in_use(|machine| machine.claim("nvme0n1"));
    assert!(text.ends_with("nvme0n1 is opened exclusively"), "{text}");
    let text = in_use(|machine| {
        machine.claim("nvme0n1");
        machine.file("/proc/self/mountinfo", "36 23 259:0 / /a rw - ext4 /dev/root rw\n");
    });
    assert!(text.ends_with("nvme0n1 is mounted at /a"), "who it is is known: {text}");
}

#[test]
fn a_namespace_shared_by_controllers_is_found() {
    let machine = FakeMachine::new();
    let address = machine.nvme(SSD, 7);
    machine.remove("/sys/bus/pci/devices/0000:65:00.0/nvme/nvme0/nvme0n1");
    machine.file("/sys/bus/pci/devices/0000:65:00.0/nvme/nvme0/nvme0c0n1/dev", "");
    machine.claim("nvme0n1");
    assert!(refusal(&machine, address).ends_with("nvme0n1 is opened exclusively"));
}

#[test]
fn what_cannot_be_known_is_no_yes() {
    let text = in_use(|machine| machine.remove("/proc/swaps"));
    assert!(text.contains("cannot tell whether it is in use: /proc/swaps"), "{text}");
}

#[test]
fn a_step_that_fails_is_told_and_undone() {
    for (attribute, errno, expected) in [
        (
            "driver_override",
            Errno::ACCESS,
            "0000:65:00.0: naming its driver: cannot write \"vfio-pci\" to \
             /sys/bus/pci/devices/0000:65:00.0/driver_override: Permission denied (os error 13) (this is for root)",
        ),
        (
            "unbind",
            Errno::ROFS,
            "0000:65:00.0: taking it from its driver: cannot write \"0000:65:00.0\" to \
             /sys/bus/pci/drivers/nvme/unbind: Read-only file system (os error 30) \
             (sysfs is mounted read-only, as in a container)",
        ),
    ] {
        let machine = FakeMachine::new();
        let address = machine.nvme(SSD, 7);
        machine.refuse(attribute, errno.raw_os_error());
        assert_eq!(refusal(&machine, address), expected);
    }
    let machine = FakeMachine::new();
    let address = machine.nvme(SSD, 7);
    machine.make_unwilling();
    assert_eq!(
        refusal(&machine, address),
        "0000:65:00.0: vfio-pci did not take it, nvme has it; the kernel's log says why"
    );
}

#[test]
fn what_a_process_has_is_not_given_back() {
    let machine = FakeMachine::new();
    let address = machine.nvme(SSD, 7);
    let text = unbind(&machine.tree(), address).expect_err("refused").to_string();
    assert_eq!(text, "0000:65:00.0 is not bound to vfio-pci: nvme has it");
    bind(&machine.tree(), address).expect("bound");
    machine.process(99, "volplane", "/dev/vfio/7");
    let text = unbind(&machine.tree(), address).expect_err("refused").to_string();
    assert_eq!(text, "0000:65:00.0 stays with vfio-pci: vfio/7 is open in process 99 (volplane)");
}

#[test]
fn cards_and_controllers_are_listed() {
    let machine = FakeMachine::new();
    machine.nvme(SSD, 7);
    machine.device("0000:01:00.0", CARD, Some(VFIO_PCI), 3);
    machine.device("0000:02:00.0", (0x8086, 0x1533, 0x02_00_00), Some("igb"), 2);
    machine.process(99, "volplane", "/dev/vfio/3");
    let tree = machine.tree();
    let found: Vec<(String, DeviceKind, String)> = devices(&tree)
        .iter()
        .map(|device| {
            (device.address.to_string(), device.kind(), uses(&tree, device).expect("known").to_string())
        })
        .collect();
    let open = "vfio/3 is open in process 99 (volplane)".to_owned();
    assert_eq!(
        found,
        [
            ("0000:01:00.0".to_owned(), DeviceKind::Card, open),
            (SSD.to_owned(), DeviceKind::Nvme, String::new()),
        ]
    );
}
