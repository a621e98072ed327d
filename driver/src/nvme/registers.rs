//! Typed views of a controller's registers (NVMe Base 2.0, section 3.1.3).

use std::time::Duration;

use volplane_abi::nvme::{cap, cc, csts, register};

use super::NvmeError;
use crate::platform::{AccessError, Bar, Function};

/// CC.SHN: normal shutdown notification.
pub(super) const CC_SHUTDOWN_NORMAL: u32 = cc::SHN.put32(1);

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
        if cap::CSS_NVM.of(capabilities.0) == 0 {
            return Err(unsupported("has no NVM command set"));
        }
        if cap::MPSMIN.of(capabilities.0) != 0 {
            return Err(unsupported("has no 4 KiB memory pages"));
        }
        if capabilities.queue_entries_max() < 2 {
            return Err(unsupported("has queues of one entry"));
        }
        Ok(capabilities)
    }

    /// Most entries of an I/O queue: CAP.MQES, which is zero-based.
    pub(super) fn queue_entries_max(self) -> u32 {
        cap::MQES.of(self.0) as u32 + 1
    }

    /// Longest time to become ready or not ready: CAP.TO.
    pub(super) fn ready_limit(self) -> Duration {
        Duration::from_millis(500) * cap::TO.of(self.0) as u32
    }

    /// CAP.DSTRD.
    pub(super) fn doorbell_stride(self) -> u32 {
        cap::DSTRD.of(self.0) as u32
    }
}

/// Controller Status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) u32);

impl Status {
    pub(super) fn ready(self) -> bool {
        csts::RDY.of32(self.0) != 0
    }

    pub(super) fn fatal(self) -> bool {
        csts::CFS.of32(self.0) != 0
    }

    pub(super) fn shutdown_complete(self) -> bool {
        csts::SHST.of32(self.0) == csts::SHST_COMPLETE
    }
}

pub(super) fn status<F: Function>(function: &F) -> Result<Status, AccessError> {
    function.read32(Bar::Bar0, register::CSTS).map(Status)
}
