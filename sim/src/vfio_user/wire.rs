//! What vfio-user messages are made of (QEMU's `docs/interop/vfio-user.rst`, protocol 0.1), as far as a PCI device
//! needs it.
//!
//! Numbers are in the host's byte order. Records are copied out of messages and into them, so that nothing is assumed
//! of how received bytes are aligned.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Commands, of the client but for the two of DMA.
pub(super) mod command {
    pub(crate) const VERSION: u16 = 1;
    pub(crate) const DMA_MAP: u16 = 2;
    pub(crate) const DMA_UNMAP: u16 = 3;
    pub(crate) const DEVICE_GET_INFO: u16 = 4;
    pub(crate) const DEVICE_GET_REGION_INFO: u16 = 5;
    pub(crate) const DEVICE_GET_IRQ_INFO: u16 = 7;
    pub(crate) const DEVICE_SET_IRQS: u16 = 8;
    pub(crate) const REGION_READ: u16 = 9;
    pub(crate) const REGION_WRITE: u16 = 10;
    pub(crate) const DMA_READ: u16 = 11;
    pub(crate) const DMA_WRITE: u16 = 12;
    pub(crate) const DEVICE_RESET: u16 = 13;
}

/// Header flags: the message's type in bits 3:0,
pub(super) const TYPE: u32 = 0xF;
/// a command,
pub(super) const TYPE_COMMAND: u32 = 0;
/// or the reply to one;
pub(super) const TYPE_REPLY: u32 = 1;
/// the sender wants no reply;
pub(super) const NO_REPLY: u32 = 1 << 4;
/// the reply tells an error.
pub(super) const ERROR: u32 = 1 << 5;

/// In front of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    /// Chosen by the sender of a command, and repeated in its reply.
    pub(super) id: u16,
    pub(super) command: u16,
    /// Bytes of the message, this header included.
    pub(super) size: u32,
    pub(super) flags: u32,
    /// An errno, if `ERROR` is set.
    pub(super) error: u32,
}

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = size_of::<Header>();

/// VERSION and its reply, before the capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Version {
    pub(super) major: u16,
    pub(super) minor: u16,
}

/// DMA_MAP.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct DmaMap {
    pub(super) argsz: u32,
    /// Bit 0 readable, bit 1 writable.
    pub(super) flags: u32,
    /// Offset in the file that came with the message, if one did.
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) size: u64,
}

/// DMA_UNMAP and its reply.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct DmaUnmap {
    pub(super) argsz: u32,
    /// Bit 1: everything, and the rest says nothing.
    pub(super) flags: u32,
    pub(super) address: u64,
    pub(super) size: u64,
}

/// DEVICE_GET_INFO and its reply.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct DeviceInfo {
    pub(super) argsz: u32,
    /// Bit 0 reset, bit 1 a PCI device.
    pub(super) flags: u32,
    pub(super) regions: u32,
    pub(super) irqs: u32,
}

/// DEVICE_GET_REGION_INFO and its reply.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RegionInfo {
    pub(super) argsz: u32,
    /// Bit 0 readable, bit 1 writable.
    pub(super) flags: u32,
    pub(super) index: u32,
    pub(super) capabilities: u32,
    pub(super) size: u64,
    pub(super) offset: u64,
}

/// DEVICE_GET_IRQ_INFO and its reply.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct IrqInfo {
    pub(super) argsz: u32,
    /// Bit 0: by eventfd.
    pub(super) flags: u32,
    pub(super) index: u32,
    pub(super) count: u32,
}

/// DEVICE_SET_IRQS, before its data.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct IrqSet {
    pub(super) argsz: u32,
    /// Data in bits 2:0, action in bits 5:3.
    pub(super) flags: u32,
    pub(super) index: u32,
    pub(super) start: u32,
    pub(super) count: u32,
}

/// REGION_READ, REGION_WRITE and their replies, before the data.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RegionAccess {
    pub(super) offset: u64,
    pub(super) region: u32,
    pub(super) count: u32,
}

/// DMA_READ, DMA_WRITE and their replies, before the data.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct DmaAccess {
    pub(super) address: u64,
    pub(super) count: u64,
}

/// DMA_MAP: the device may read.
pub(super) const MAP_READABLE: u32 = 1;
/// DMA_MAP: the device may write.
pub(super) const MAP_WRITABLE: u32 = 2;
/// DMA_UNMAP: everything.
pub(super) const UNMAP_ALL: u32 = 2;
/// DeviceInfo: DEVICE_RESET is known.
pub(super) const DEVICE_RESETS: u32 = 1;
/// DeviceInfo: a PCI device.
pub(super) const DEVICE_PCI: u32 = 2;
/// RegionInfo: readable and writable, by messages only: with a region that can be mapped, QEMU would send no posted
/// writes.
pub(super) const REGION_READ_WRITE: u32 = 3;
/// IrqInfo: by eventfd.
pub(super) const IRQ_EVENTFD: u32 = 1;

/// IrqSet: no data,
pub(super) const IRQ_DATA_NONE: u32 = 1;
/// a byte for each vector,
pub(super) const IRQ_DATA_BOOL: u32 = 1 << 1;
/// an eventfd for each.
pub(super) const IRQ_DATA_EVENTFD: u32 = 1 << 2;
/// IrqSet: the vectors are raised, or the eventfds are those that a vector signals.
pub(super) const IRQ_ACTION_TRIGGER: u32 = 1 << 5;

/// The record that a payload is, whole.
pub(super) fn whole<T: FromBytes>(payload: &[u8]) -> Option<T> {
    T::read_from_bytes(payload).ok()
}

/// The record that a payload begins with, and the rest.
pub(super) fn first<T: FromBytes>(payload: &[u8]) -> Option<(T, &[u8])> {
    T::read_from_prefix(payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_as_long_as_the_specification_says() {
        assert_eq!(HEADER_BYTES, 16);
        assert_eq!(size_of::<Version>(), 4);
        assert_eq!(size_of::<DmaMap>(), 32);
        assert_eq!(size_of::<DmaUnmap>(), 24);
        assert_eq!(size_of::<DeviceInfo>(), 16);
        assert_eq!(size_of::<RegionInfo>(), 32);
        assert_eq!(size_of::<IrqInfo>(), 16);
        assert_eq!(size_of::<IrqSet>(), 20);
        assert_eq!(size_of::<RegionAccess>(), 16);
        assert_eq!(size_of::<DmaAccess>(), 16);
    }

    #[test]
    fn a_header_is_taken_from_bytes_at_any_alignment() {
        let bytes = [0, 0x34, 0x12, 9, 0, 32, 0, 0, 0, 0x21, 0, 0, 0, 22, 0, 0, 0];
        let header: Header = whole(&bytes[1..]).expect("16 bytes");
        assert_eq!(header, Header { id: 0x1234, command: 9, size: 32, flags: 0x21, error: 22 });
        assert!(whole::<Header>(&bytes).is_none());
    }
}
