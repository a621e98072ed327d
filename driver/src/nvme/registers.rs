//! Typed views of a controller's registers (NVMe Base 2.0, section 3.1.3).

use std::time::Duration;

use volplane_abi::nvme::{register, CSTS_CFS, CSTS_RDY};

use super::NvmeError;
use crate::platform::{AccessError, Bar, Function};

/// CC.SHN: normal shutdown notification.
pub(super) const CC_SHUTDOWN_NORMAL: u32 = 0b01 << 14;
/// CSTS.SHST.
const CSTS_SHUTDOWN: u32 = 0b11 << 2;
/// CSTS.SHST: shutdown processing complete.
const CSTS_SHUTDOWN_COMPLETE: u32 = 0b10 << 2;

/// Controller Capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities(u64);

impl Capabilities {
    /// Reads them, and refuses a controller that has no NVM command set or no 4 KiB pages.
    pub(super) fn read<F: Function>(function: &F) -> Result<Self, NvmeError> {
        let unsupported = |what: &str| NvmeError::Unsupported {
            controller: function.name().to_owned(),
            what: what.to_owned(),
        };
        let capabilities = Self(function.read64(Bar::Bar0, register::CAP)?);
        if capabilities.0 == u64::MAX {
            return Err(unsupported("does not answer: CAP reads all ones"));
        }
        if capabilities.0 >> 37 & 1 == 0 {
            return Err(unsupported("has no NVM command set"));
        }
        if capabilities.0 >> 48 & 0xF != 0 {
            return Err(unsupported("has no 4 KiB memory pages"));
        }
        if capabilities.queue_entries_max() < 2 {
            return Err(unsupported("has queues of one entry"));
        }
        Ok(capabilities)
    }

    /// Most entries of an I/O queue: CAP.MQES, which is zero-based.
    pub(super) fn queue_entries_max(self) -> u32 {
        (self.0 & 0xFFFF) as u32 + 1
    }

    /// Longest time to become ready or not ready: CAP.TO.
    pub(super) fn ready_limit(self) -> Duration {
        Duration::from_millis(500) * (self.0 >> 24 & 0xFF) as u32
    }

    /// CAP.DSTRD.
    pub(super) fn doorbell_stride(self) -> u32 {
        (self.0 >> 32 & 0xF) as u32
    }
}

/// Controller Status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) u32);

impl Status {
    pub(super) fn ready(self) -> bool {
        self.0 & CSTS_RDY != 0
    }

    pub(super) fn fatal(self) -> bool {
        self.0 & CSTS_CFS != 0
    }

    pub(super) fn shutdown_complete(self) -> bool {
        self.0 & CSTS_SHUTDOWN == CSTS_SHUTDOWN_COMPLETE
    }
}

pub(super) fn status<F: Function>(function: &F) -> Result<Status, AccessError> {
    function.read32(Bar::Bar0, register::CSTS).map(Status)
}
