//! What a card was built with, read once from its first registers.

use volplane_abi::registers as register;

use super::CardError;
use crate::platform::{Bar, Function};

/// Most fragment identifiers that fit the 16-bit command identifier of NVMe.
const FRAGMENT_IDS_MAX: u32 = 1 << 16;
/// Widest completion window that the driver accepts: 64 Ki entries.
const WINDOW_SHIFT_MAX: u32 = 20;

/// The capabilities of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Major version of its ABI.
    pub abi_major: u16,
    /// Minor version of its ABI.
    pub abi_minor: u16,
    /// Hash of the RTL that it was built from.
    pub build_hash: u64,
    /// Bytes of a data beat.
    pub data_bytes: u32,
    /// Queue pairs, the control ring included.
    pub queues: u32,
    /// Entries of the virtual disk table.
    pub vds: u32,
    /// Entries of the client table; 0: clients are not told apart.
    pub clients: u32,
    /// Entries of the allocation table.
    pub allocations: u32,
    /// Entries of the extent table.
    pub extents: u32,
    /// Entries of the device table.
    pub devices: u32,
    /// Entries of the path table.
    pub paths: u32,
    /// Client commands in flight.
    pub slots: u32,
    /// Backend commands in flight.
    pub fragment_ids: u32,
    /// Most fragments of one component.
    pub fragments: u32,
    /// Components of a plan.
    pub components: u32,
    /// Divert ranges.
    pub divert_ranges: u32,
    /// Interrupt vectors.
    pub vectors: u32,
    /// Most bytes of a Read or Write.
    pub transfer_bytes: u32,
    /// log2 of the bytes of a completion window.
    pub window_shift: u32,
    /// Most columns of an allocation.
    pub columns: u32,
    /// Entries of the plan table; entry 0 is no plan.
    pub plans: u32,
}

impl Capabilities {
    /// Reads them, and refuses what would make the driver allocate or address nonsense.
    pub(super) fn read<F: Function>(function: &F) -> Result<Self, CardError> {
        let read = |offset: u32| function.read32(Bar::Bar0, offset.into());
        let version = read(register::ABI_VERSION)?;
        let (hash_low, hash_high) = (read(register::BUILD_HASH_LOW)?, read(register::BUILD_HASH_HIGH)?);
        let capabilities = Self {
            abi_major: register::ABI_VERSION_MAJOR.of32(version) as u16,
            abi_minor: register::ABI_VERSION_MINOR.of32(version) as u16,
            build_hash: u64::from(hash_low) | u64::from(hash_high) << 32,
            data_bytes: read(register::DATA_BYTES)?,
            queues: read(register::CAP_QUEUES)?,
            vds: read(register::CAP_VDS)?,
            clients: read(register::CAP_CLIENTS)?,
            allocations: read(register::CAP_ALLOCATIONS)?,
            extents: read(register::CAP_EXTENTS)?,
            devices: read(register::CAP_DEVICES)?,
            paths: read(register::CAP_PATHS)?,
            slots: read(register::CAP_SLOTS)?,
            fragment_ids: read(register::CAP_FRAGMENT_IDS)?,
            fragments: read(register::CAP_FRAGMENTS)?,
            components: read(register::CAP_COMPONENTS)?,
            divert_ranges: read(register::CAP_DIVERT_RANGES)?,
            vectors: read(register::CAP_VECTORS)?,
            transfer_bytes: read(register::CAP_TRANSFER_BYTES)?,
            window_shift: read(register::CAP_WINDOW_SHIFT)?,
            columns: read(register::CAP_COLUMNS)?,
            plans: read(register::CAP_PLANS)?,
        };
        capabilities.check(function)?;
        Ok(capabilities)
    }

    fn check<F: Function>(&self, function: &F) -> Result<(), CardError> {
        let doorbell_pages = (register::BAR0_BYTES as u32 - register::DOORBELLS) / register::DOORBELL_PAGE;
        let windows = u64::from(self.paths) << self.window_shift.min(WINDOW_SHIFT_MAX);
        let rules = [
            ("CAP_QUEUES", self.queues, 1 <= self.queues && self.queues <= doorbell_pages),
            ("CAP_VECTORS", self.vectors, self.vectors <= register::MSIX_VECTORS_MAX),
            ("CAP_FRAGMENT_IDS", self.fragment_ids, (1..=FRAGMENT_IDS_MAX).contains(&self.fragment_ids)),
            ("CAP_WINDOW_SHIFT", self.window_shift, (12..=WINDOW_SHIFT_MAX).contains(&self.window_shift)),
            ("CAP_PATHS", self.paths, windows <= function.bar_len(Bar::Bar2)),
        ];
        match rules.iter().find(|(_, _, holds)| !holds) {
            Some(&(name, value, _)) => {
                Err(CardError::Capability { card: function.name().to_owned(), name, value: value.into() })
            }
            None => Ok(()),
        }
    }
}
