//! A machine on which nothing is prepared: no module of VFIO is loaded, device mapper has an SSD, both SSDs are in one
//! IOMMU group; or there is no IOMMU. Each step says what is missing, and with that it works.

use std::fs;

use volplane_driver::host::{self, SystemTree};
use volplane_driver::{Platform, VfioPlatform};

use crate::refusals::{address, block_device, shell};
use crate::{expect, Checks, Outcome};

/// QEMU's NVMe controllers, as two functions of one device.
const SSDS: [&str; 2] = ["0000:02:00.0", "0000:02:00.1"];
/// The module that is loaded last.
const TYPE1: &str = "vfio_iommu_type1";

pub fn run(checks: &mut Checks) {
    checks.check("without VFIO it is said what to load", || {
        let told = refused(&bind(SSDS[0]), "the kernel has no driver vfio-pci: `modprobe vfio-pci`")?;
        refused(&open(SSDS[0]), "there is no /dev/vfio/vfio")?;
        Ok(told)
    });
    checks.check("without its IOMMU driver too", || {
        load(|module| module.starts_with("vfio") && module != TYPE1)?;
        SSDS.iter().try_for_each(|ssd| bind(ssd).map(drop))?;
        let told = refused(&open(SSDS[0]), "modprobe vfio_iommu_type1");
        let tree = SystemTree::of_this_machine();
        SSDS.iter().try_for_each(|ssd| host::unbind(&tree, address(ssd)).map(drop))?;
        told
    });
    checks.check("an SSD that device mapper has stays", || {
        load(|module| module == TYPE1)?;
        let ssd = block_device(SSDS[0])?;
        shell(&format!("dmsetup create --noudevsync held --table \"0 2048 linear {ssd} 0\""))?;
        let told = refused(&bind(SSDS[0]), "is held by dm-0 (held)");
        shell("dmsetup remove --noudevsync held")?;
        told
    });
    checks.check("a group with a stranger in it is not viable", || {
        let bound = bind(SSDS[0])?;
        expect(bound.contains(&format!("it also has {}", SSDS[1])), &bound)?;
        refused(&open(SSDS[0]), &format!("is not viable: it also has {} (driver nvme)", SSDS[1]))
    });
    checks.check("with all of it they open", || {
        bind(SSDS[1])?;
        let mut platform = VfioPlatform::new()?;
        let functions = [platform.open(SSDS[0])?, platform.open(SSDS[1])?];
        Ok(format!("{} functions of one group", functions.len()))
    });
}

/// On a machine without an IOMMU.
pub fn without_iommu(checks: &mut Checks) {
    let ssd = crate::refusals::SSDS[0];
    checks.check("without an IOMMU it is said what to switch on", || {
        let told = refused(&bind(ssd), "switch the IOMMU on in the firmware")?;
        refused(&open(ssd), "has no IOMMU group")?;
        // The kernel's driver has it as before.
        block_device(ssd)?;
        Ok(told)
    });
}

fn bind(ssd: &str) -> Outcome {
    Ok(host::bind(&SystemTree::of_this_machine(), address(ssd))?.to_string())
}

fn open(ssd: &str) -> Outcome {
    VfioPlatform::new()?.open(ssd)?;
    Ok(format!("{ssd} opened"))
}

/// What was said, where it is a refusal in these words.
fn refused(outcome: &Outcome, words: &str) -> Outcome {
    let told = outcome.as_ref().err().ok_or_else(|| format!("not refused: {outcome:?}"))?.to_string();
    expect(told.contains(words), &told)?;
    Ok(told)
}

/// Loads modules in their order.
fn load(wanted: impl Fn(&str) -> bool) -> Outcome {
    let order = fs::read_to_string("/modules/order")?;
    for module in order.lines().filter(|module| wanted(module)) {
        shell(&format!("insmod /modules/{module}.ko"))?;
    }
    Ok(order)
}
