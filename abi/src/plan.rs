//! The vocabulary of I/O plans: states, policies, reasons, and what a status means to a plan.

use crate::packed_record;
use crate::status::{CODE_AND_TYPE, DNR};

/// Most components of a plan.
pub const COMPONENTS_MAX: usize = 8;
/// Most paths to a device.
pub const DEVICE_PATHS_MAX: usize = 4;
/// Most fragments of one component: 1 MiB of 512-byte blocks, and one for an unaligned start.
pub const COMPONENT_FRAGMENTS_MAX: u64 = 2049;

/// States of a component.
pub mod component_state {
    /// There is none: a hole that keeps the numbers of the others.
    pub const ABSENT: u8 = 0;
    /// Holds what was written: read from and written to.
    pub const IN_SYNC: u8 = 1;
    /// Is being brought up to date: written to, not read from, does not count as a copy.
    pub const WRITE_ONLY: u8 = 2;
    /// Missed a write: neither; its failures never count.
    pub const OUT: u8 = 3;
}

/// Which component in sync a read tries first.
pub mod read_policy {
    /// The preferred one, else the lowest-numbered.
    pub const PREFERRED: u8 = 0;
    /// In turns.
    pub const ROUND_ROBIN: u8 = 1;
    /// The one with the fewest fragments outstanding.
    pub const LEAST_OUTSTANDING: u8 = 2;
}

/// Which of a device's paths a fragment takes first.
pub mod path_policy {
    /// The lowest-numbered usable one.
    pub const PREFERRED: u8 = 0;
    /// In turns.
    pub const ROUND_ROBIN: u8 = 1;
}

/// Hands the layout of a mask set to `$make`.
#[macro_export]
macro_rules! plan_masks {
    ($make:ident) => {
        $make! {
            /// The masks of a plan's reads, or of its other commands. Bit i speaks of component i.
            PlanMasks: 40 {
                /// When it fails, the others go on.
                continuation / with_continuation: u8 = 8,
                /// When it fails, the command fails. Of no effect for reads.
                success / with_success: u8 = 8,
                /// When it fails, a log record is posted.
                log / with_log: u8 = 8,
                /// With `log`: the completion waits until the control path releases the plan.
                log_with_data / with_log_with_data: u8 = 8,
                /// When it fails, the disk is deactivated.
                deactivate / with_deactivate: u8 = 8,
            }
        }
    };
}
plan_masks!(packed_record);

/// Reasons of a record of the exception ring, one bit each.
pub mod reason {
    /// A component failed whose continuation bit is clear: the plan is the control path's.
    pub const COMPONENT_FAILURE: u16 = 1 << 0;
    /// A fragment was not answered in time.
    pub const TIME_OUT: u16 = 1 << 1;
    /// Hardware cannot execute the command; nothing was issued.
    pub const NOT_EXECUTABLE: u16 = 1 << 2;
    /// A read met an extent whose read action is fault.
    pub const READ_FAULT: u16 = 1 << 3;
    /// A write met an extent whose write action is fault.
    pub const WRITE_FAULT: u16 = 1 << 4;
    /// The command touches a divert range; nothing was issued.
    pub const DIVERT: u16 = 1 << 5;
    /// The control path took the plan over.
    pub const TAKE_OVER: u16 = 1 << 6;
    /// A component failed whose log bit is set.
    pub const LOG: u16 = 1 << 7;
    /// As `LOG`, and the completion waits until the control path releases the plan.
    pub const LOG_WITH_DATA: u16 = 1 << 8;
    /// The write succeeds, but a component missed it that is not known to be out: the completion waits
    /// until the control path has made that durable and releases the plan.
    pub const MISSED_WRITE: u16 = 1 << 9;
    /// Names in order of bit.
    pub const NAMES: &[(u16, &str)] = &[
        (COMPONENT_FAILURE, "component failure"),
        (TIME_OUT, "time-out"),
        (NOT_EXECUTABLE, "not executable"),
        (READ_FAULT, "fault on read"),
        (WRITE_FAULT, "fault on write"),
        (DIVERT, "divert range"),
        (TAKE_OVER, "take-over"),
        (LOG, "log"),
        (LOG_WITH_DATA, "log with data"),
        (MISSED_WRITE, "missed write"),
    ];
}

/// Statuses that a plan gives or looks at besides those in `status`.
pub mod plan_status {
    /// Command Abort Requested.
    pub const ABORT_REQUESTED: u16 = 0x007;
    /// Command Aborted due to SQ Deletion: what is left of a fragment whose path was quiesced.
    pub const ABORTED_SQ_DELETION: u16 = 0x008;
    /// Compare Failure.
    pub const COMPARE_FAILURE: u16 = 0x285;
    /// Host Pathing Error: there is no usable path.
    pub const HOST_PATH_ERROR: u16 = 0x370;
    /// Command Aborted By Host: not answered in time.
    pub const ABORTED_BY_HOST: u16 = 0x371;
}

/// What a fragment's status means to its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatusClass {
    /// Success.
    Success,
    /// The client's own doing: its result, neither retried nor a component's failure.
    Client,
    /// The path failed: retried on another one.
    Path,
    /// The command failed, and may succeed when it is given again.
    Retry,
    /// The component failed.
    Final,
}

/// The class of a 15-bit status field. In order: success; the three client results; everything of type
/// 3h (Path Related Status) and an aborted command; Do Not Retry; the rest.
pub const fn status_class(status: u16) -> StatusClass {
    match status & CODE_AND_TYPE {
        0 => StatusClass::Success,
        crate::status::INVALID_FIELD | crate::status::LBA_OUT_OF_RANGE | plan_status::COMPARE_FAILURE => {
            StatusClass::Client
        }
        0x300..=0x3FF | plan_status::ABORT_REQUESTED | plan_status::ABORTED_SQ_DELETION => StatusClass::Path,
        _ if status & DNR != 0 => StatusClass::Final,
        _ => StatusClass::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_statuses_typed_from_the_specification() {
        let cases = [
            (0x0000, StatusClass::Success),
            (0x2000, StatusClass::Success),
            (0x4285, StatusClass::Client),
            (0x0002, StatusClass::Client),
            (0x4080, StatusClass::Client),
            (0x0301, StatusClass::Path),
            (0x4303, StatusClass::Path),
            (0x0371, StatusClass::Path),
            (0x0007, StatusClass::Path),
            (0x0008, StatusClass::Path),
            (0x0006, StatusClass::Retry),
            (0x0281, StatusClass::Retry),
            (0x4281, StatusClass::Final),
            (0x4006, StatusClass::Final),
        ];
        for (status, class) in cases {
            assert_eq!(status_class(status), class, "{status:#06x}");
        }
    }
}
