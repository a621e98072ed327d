//! The card's configuration space (PCIe Base 5.0, sections 7.5 and 7.7.2), as a client finds it.
//!
//! A type 0 header with two 64-bit BARs, the PCI Express capability of an endpoint that can do a function level reset,
//! and MSI-X with table and pending bits in BAR0. Bits that no mask names keep their value. Interrupts go by the
//! client's eventfds (`interrupts`), so the bits of MSI-X here are kept and mean nothing; bus master enable is obeyed.
//! There are no extended capabilities.

use volplane_abi::registers;

use crate::card::{BAR2_BYTES, CLASS, DEVICE, VENDOR};

/// Bytes of it.
pub(super) const BYTES: usize = 4096;
/// Where all that is not zero lies.
const HEAD: usize = 256;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BAR0: usize = 0x10;
const BAR2: usize = 0x18;
const EXPRESS: usize = 0x40;
const DEVICE_CONTROL: usize = EXPRESS + 0x08;
const MSIX: usize = 0x80;

/// Command: memory space, bus master, interrupt disable.
const COMMAND_MASK: u16 = 0x0406;
const BUS_MASTER: u16 = 0x0004;
/// Device Control: all but the reset, whose bit reads 0.
const DEVICE_CONTROL_MASK: u16 = 0x7FFF;
const INITIATE_RESET: u16 = 0x8000;
/// MSI-X Message Control: enable and function mask.
const MSIX_MASK: u16 = 0xC000;

pub(super) struct ConfigSpace {
    bytes: [u8; HEAD],
    masks: [u8; HEAD],
    vectors: u16,
}

impl ConfigSpace {
    /// That of a card with `vectors` interrupt vectors, as after a reset.
    pub(super) fn new(vectors: u16) -> Self {
        let mut space = Self { bytes: [0; HEAD], masks: [0; HEAD], vectors };
        space.put(0x00, &VENDOR.to_le_bytes());
        space.put(0x02, &DEVICE.to_le_bytes());
        space.put(STATUS, &0x0010u16.to_le_bytes()); // there are capabilities
        space.put(0x08, &(CLASS << 8).to_le_bytes());
        space.put(BAR0, &4u64.to_le_bytes()); // 64 bits, not prefetchable
        space.put(BAR2, &4u64.to_le_bytes());
        space.put(0x2C, &VENDOR.to_le_bytes());
        space.put(0x2E, &DEVICE.to_le_bytes());
        space.put(0x34, &[EXPRESS as u8]);
        space.put(EXPRESS, &[0x10, MSIX as u8]);
        space.put(EXPRESS + 0x02, &0x0002u16.to_le_bytes()); // version 2, an endpoint
        space.put(EXPRESS + 0x04, &0x1000_8000u32.to_le_bytes()); // resets, reports errors by role, 128 bytes
        space.put(EXPRESS + 0x0C, &0x0000_0083u32.to_le_bytes()); // link: 8 lanes of 8 GT/s
        space.put(EXPRESS + 0x12, &0x0083u16.to_le_bytes());
        space.put(EXPRESS + 0x2C, &0x0000_000Eu32.to_le_bytes()); // speeds 1 to 3
        space.put(MSIX, &[0x11, 0]);
        space.put(MSIX + 2, &vectors.saturating_sub(1).to_le_bytes());
        space.put(MSIX + 4, &registers::MSIX_TABLE.to_le_bytes()); // in BAR0
        space.put(MSIX + 8, &registers::MSIX_PBA.to_le_bytes());
        space.allow(COMMAND, &COMMAND_MASK.to_le_bytes());
        space.allow(0x0C, &[0xFF]); // cache line size
        space.allow(BAR0, &(!(registers::BAR0_BYTES - 1)).to_le_bytes());
        space.allow(BAR2, &(!(BAR2_BYTES - 1)).to_le_bytes());
        space.allow(0x3C, &[0xFF]); // interrupt line
        space.allow(DEVICE_CONTROL, &DEVICE_CONTROL_MASK.to_le_bytes());
        space.allow(MSIX + 2, &MSIX_MASK.to_le_bytes());
        space
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        self.bytes[at..at + value.len()].copy_from_slice(value);
    }

    fn allow(&mut self, at: usize, mask: &[u8]) {
        self.masks[at..at + mask.len()].copy_from_slice(mask);
    }

    /// As after a reset.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.vectors);
    }

    /// Whether the card may master the bus.
    pub(super) fn is_master(&self) -> bool {
        self.half(COMMAND) & BUS_MASTER != 0
    }

    fn half(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// Reads; the caller has seen that it is within.
    pub(super) fn read(&self, offset: usize, into: &mut [u8]) {
        for (at, byte) in (offset..).zip(into) {
            *byte = self.bytes.get(at).copied().unwrap_or(0);
        }
    }

    /// Writes; the caller has seen that it is within. Returns whether a function level reset was asked for.
    pub(super) fn write(&mut self, offset: usize, from: &[u8]) -> bool {
        let mut resets = false;
        for (at, &byte) in (offset..).zip(from) {
            if at >= HEAD {
                break;
            }
            resets |= at == DEVICE_CONTROL + 1 && byte & INITIATE_RESET.to_le_bytes()[1] != 0;
            self.bytes[at] = self.bytes[at] & !self.masks[at] | byte & self.masks[at];
        }
        resets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(space: &ConfigSpace, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        space.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn a_host_sizes_the_bars_and_walks_the_capabilities() {
        let mut space = ConfigSpace::new(32);
        assert_eq!(word(&space, 0), 0x9038_10EE);
        assert_eq!(word(&space, 8), 0x0180_0000);
        for (bar, size) in [(BAR0, registers::BAR0_BYTES), (BAR2, BAR2_BYTES)] {
            assert!(!space.write(bar, &[0xFF; 8]));
            let sized = u64::from(word(&space, bar + 4)) << 32 | u64::from(word(&space, bar));
            assert_eq!((sized & 0xF, !(sized & !0xF) + 1), (4, size));
        }
        let mut found = vec![];
        let mut next = word(&space, 0x34) as usize & 0xFF;
        while next != 0 {
            found.push(word(&space, next) & 0xFF);
            next = word(&space, next) as usize >> 8 & 0xFF;
        }
        assert_eq!(found, [0x10, 0x11]);
        assert_eq!(word(&space, MSIX) >> 16, 31);
        assert_eq!((word(&space, MSIX + 4), word(&space, MSIX + 8)), (0x1000, 0x2000));
        assert_eq!(word(&space, 0x100), 0, "no extended capabilities");
    }

    #[test]
    fn only_what_may_be_written_is_and_a_reset_is_noticed() {
        let mut space = ConfigSpace::new(32);
        assert!(!space.is_master());
        assert!(!space.write(COMMAND, &[0xFF, 0xFF]));
        assert!(space.is_master());
        assert_eq!(word(&space, COMMAND), 0x0010_0406);
        assert!(!space.write(0, &[0; 4]));
        assert_eq!(word(&space, 0), 0x9038_10EE);
        assert!(!space.write(DEVICE_CONTROL, &[0x10, 0x28]));
        assert!(space.write(DEVICE_CONTROL, &[0x10, 0xA8]));
        assert_eq!(word(&space, DEVICE_CONTROL) & 0xFFFF, 0x2810, "the bit reads 0");
        assert!(!space.write(BYTES - 2, &[1, 1]));
        space.reset();
        assert!(!space.is_master());
    }
}
