//! What a function's configuration space says it can do, typed by `pci-driver` over a copy of it.

use std::io;

use pci_driver::config::caps::{MsiXCapability, PciExpressCapability};
use pci_driver::config::PciConfig;
use pci_driver::regions::structured::PciBitsReadOnly;
use pci_driver::regions::{BackedByPciSubregion, PciMemoryRegion};
use pci_driver::{pci_bit_field, pci_struct};

/// Bytes of configuration space in which capabilities are.
pub(super) const BYTES: usize = 256;

pci_struct! {
    /// MSI-X Capability (PCIe Base 5.0, section 7.7.2), whose fields `pci-driver` leaves out.
    struct Msix<'a> : 0x0C {
        message_control @ 0x02 : MessageControl<'a>,
    }
}

pci_bit_field! {
    /// Message Control Register for MSI-X (section 7.7.2.2).
    struct MessageControl<'a> : RO u16 {
        table_size_z @ 0--10 : RO u16,
    }
}

/// A copy in which fields may be read: `pci-driver` takes a region to begin at a multiple of their size.
#[repr(align(8))]
struct Aligned([u8; BYTES]);

/// What a function can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// MSI-X vectors; 0 without MSI-X.
    pub vectors: u16,
    /// Whether it knows the function level reset.
    pub function_level_reset: bool,
}

impl Abilities {
    /// Reads them of a copy of configuration space.
    ///
    /// # Errors
    /// When its list of capabilities leads out of it or does not end.
    pub(super) fn of(space: &[u8; BYTES]) -> io::Result<Self> {
        let copy = Aligned(*space);
        let region = PciMemoryRegion::new(&copy.0);
        let capabilities = PciConfig::backed_by(&region).capabilities()?;
        let mut found = Self::default();
        if let Some(capability) = capabilities.of_type::<MsiXCapability<'_>>()?.next() {
            let size_z: PciBitsReadOnly<'_, u16, u16> =
                Msix::backed_by(capability).message_control().table_size_z();
            found.vectors = size_z.read()? + 1;
        }
        if let Some(capability) = capabilities.of_type::<PciExpressCapability<'_>>()?.next() {
            found.function_level_reset =
                capability.device_capabilities().function_level_reset_capability().read()?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status with a list of capabilities: PCI Express at 0x80, MSI-X at 0x40.
    fn space() -> [u8; BYTES] {
        let mut space = [0; BYTES];
        space[0x06] = 1 << 4;
        space[0x34] = 0x80;
        space[0x80..0x82].copy_from_slice(&[0x10, 0x40]);
        space[0x40..0x44].copy_from_slice(&[0x11, 0x00, 0x40, 0x80]);
        space
    }

    #[test]
    fn capabilities_are_found() {
        let mut space = space();
        assert_eq!(
            Abilities::of(&space).expect("sound"),
            Abilities { vectors: 65, function_level_reset: false }
        );
        space[0x87] = 1 << 4;
        assert_eq!(
            Abilities::of(&space).expect("sound"),
            Abilities { vectors: 65, function_level_reset: true }
        );
        space[0x06] = 0;
        assert_eq!(Abilities::of(&space).expect("sound"), Abilities::default());
    }

    #[test]
    fn a_copy_may_begin_anywhere() {
        let mut bytes = [0; BYTES + 4];
        for begin in 0..4 {
            bytes[begin..begin + BYTES].copy_from_slice(&space());
            let copy = bytes[begin..begin + BYTES].try_into().expect("its length");
            assert_eq!(Abilities::of(copy).expect("sound").vectors, 65, "byte {begin}");
        }
    }

    #[test]
    fn broken_lists_are_refused() {
        let mut circle = space();
        circle[0x41] = 0x80;
        assert!(Abilities::of(&circle).is_err());
        let mut outside = space();
        outside[0x34] = 0x3C;
        assert!(Abilities::of(&outside).is_err());
        let mut short = space();
        short[0x34] = 0xFC;
        short[0xFC] = 0x10;
        assert!(Abilities::of(&short).is_err());
        assert_eq!(Abilities::of(&[0xFF; BYTES]).ok(), None, "a function that is gone");
    }
}
