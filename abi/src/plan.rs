//! The vocabulary of I/O plans: states, policies, reasons, and what a status means to a plan.

use crate::layout::index_of;
use crate::packed_record;
use crate::status::{CODE_AND_TYPE, DNR, PATH_RELATED, TYPE};

/// Most components of a plan.
pub const COMPONENTS_MAX: usize = 8;
/// What `PlanCommand::restart` says of a plan that begins again whole, whichever components it has now.
pub const RESTART_ALL: u8 = u8::MAX;
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

/// Which component in sync a read tries first; it goes on with the lowest-numbered one that it has not tried.
pub mod read_policy {
    /// The preferred one, else the lowest-numbered.
    pub const PREFERRED: u8 = 0;
    /// In turns.
    pub const ROUND_ROBIN: u8 = 1;
    /// The one that does least just then for the disk: with the fewest parts under way, of reads and of writes. Of
    /// several the lowest-numbered.
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

/// Hands the layout of a plan template to `$make`.
#[macro_export]
macro_rules! plan_entry {
    ($make:ident) => {
        $make! {
            /// A plan template. A command keeps the template it was admitted with; whoever changes a plan in
            /// use writes another entry and names that in the disk's.
            PlanEntry: 128 {
                /// Masks of Read and Compare (`PlanMasks`).
                read_masks / with_read_masks: u64 = 40,
                /// Masks of all other commands (`PlanMasks`).
                write_masks / with_write_masks: u64 = 40,
                /// Which component is read first: see `plan::read_policy`.
                read_policy / with_read_policy: u8 = 2,
                /// The component that `PREFERRED` means.
                preferred / with_preferred: u8 = 3,
                /// Components in sync that must succeed for a write to succeed, 0 to 8.
                minimum / with_minimum: u8 = 4,
                /// Divert ranges of the disk: commands that touch one are the control path's;
                diverts / with_diverts: u8 = 8,
                /// index of the first in the table of ranges, the others follow.
                first_divert / with_first_divert: u16 = 16,
                /// Reserved.
                reserved / with_reserved: u16 = 15,
            }
        }
    };
}
plan_entry!(packed_record);

/// Hands the layout of a component of a plan template to `$make`.
#[macro_export]
macro_rules! component_entry {
    ($make:ident) => {
        $make! {
            /// A component of a plan template. Its map is that of a virtual disk of the same size, whose
            /// root, allocations and devices stand here once more.
            ComponentEntry: 128 {
                /// That disk.
                disk / with_disk: u16 = 16,
                /// How often a fragment of it is given again before the component has failed.
                retries / with_retries: u8 = 8,
                /// log2 of the blocks of an allocation.
                allocation_shift / with_allocation_shift: u8 = 8,
                /// Index of allocation 0 in the allocation table.
                map_root / with_map_root: u32 = 32,
                /// Bit i: device i holds blocks of the component, so a Flush goes to it.
                flush_devices / with_flush_devices: u32 = 32,
                /// Ticks after which a fragment of it is not waited for; 0: for ever. The card looks every
                /// 2^`TIME_OUT_SHIFT` ticks, so it may be up to three times that late, and never early.
                time_out / with_time_out: u32 = 24,
                /// Reserved.
                reserved / with_reserved: u8 = 8,
            }
        }
    };
}
component_entry!(packed_record);

/// Hands the layout of a divert range to `$make`.
#[macro_export]
macro_rules! divert_entry {
    ($make:ident) => {
        $make! {
            /// Blocks whose I/O always goes to the control path.
            DivertEntry: 128 {
                /// The first,
                first / with_first: u64 = 48,
                /// and the last.
                last / with_last: u64 = 48,
                /// 1: there is such a range.
                valid / with_valid: u8 = 1,
                /// Reserved.
                reserved / with_reserved: u32 = 31,
            }
        }
    };
}
divert_entry!(packed_record);

/// Hands the layout of a disk's component states to `$make`.
#[macro_export]
macro_rules! component_states {
    ($make:ident) => {
        $make! {
            /// What has become of a disk's components: shared between the card, which moves a component out
            /// and deactivates the disk, and the control path. A write sets the components named in `select`
            /// and leaves the others; a component that is out does not become in sync at once, but only from
            /// write-only, so that a failure meanwhile is not overwritten.
            ComponentStates: 64 {
                /// State of component i in bits 2i+1:2i: see `plan::component_state`.
                states / with_states: u16 = 16,
                /// Bit i: that component i is out is durable. Set with `select`.
                durably_out / with_durably_out: u8 = 8,
                /// Written: the components to set. Read: 0.
                select / with_select: u8 = 8,
                /// 1: a failure has deactivated the disk. Written as 0 with `reactivate`.
                deactivated / with_deactivated: u8 = 1,
                /// Written: 1 takes over `deactivated`. Read: 0.
                reactivate / with_reactivate: u8 = 1,
                /// Reserved.
                reserved / with_reserved: u32 = 30,
            }
        }
    };
}
component_states!(packed_record);

/// Hands the layout of a component in an exception record to `$make`.
#[macro_export]
macro_rules! exception_component {
    ($make:ident) => {
        $make! {
            /// A component, as a record of the exception ring tells of it.
            ExceptionComponent: 128 {
                /// Status field of its failed fragment with the lowest offset; 0: none failed.
                status / with_status: u16 = 15,
                /// 1: it ended with a status that no device gave.
                closed / with_closed: u8 = 1,
                /// Path of that fragment.
                path / with_path: u8 = 8,
                /// Reserved.
                reserved0 / with_reserved0: u8 = 8,
                /// Number of that fragment, from 0 in order of offset; of a component that was stopped and has
                /// not failed: its fragments that were issued, all of which succeeded.
                fragment / with_fragment: u32 = 32,
                /// Reserved.
                reserved1 / with_reserved1: u64 = 64,
            }
        }
    };
}
exception_component!(packed_record);

/// Hands the layout of the last quarter of an exception record to `$make`.
#[macro_export]
macro_rules! exception_tail {
    ($make:ident) => {
        $make! {
            /// The last 64 bytes of a record of the exception ring. A record is 256 bytes: the client's
            /// command (`SubmissionEntry`; of Dataset Management with the range it names in place of its
            /// attributes), the components 0 to 7 (`ExceptionComponent`), and this, with the phase tag in
            /// the dword that is written last.
            ExceptionTail: 512 {
                /// Plan slot,
                slot / with_slot: u16 = 16,
                /// Why there is a record: bits of `plan::reason`.
                reasons / with_reasons: u16 = 16,
                /// and its generation: the two are the plan's handle.
                generation / with_generation: u32 = 32,
                /// Virtual disk.
                disk / with_disk: u16 = 16,
                /// Plan template, 0: none.
                plan / with_plan: u16 = 16,
                /// Client's queue,
                queue / with_queue: u16 = 16,
                /// and the identifier of its command.
                command_id / with_command_id: u16 = 16,
                /// Epoch of its admission.
                epoch / with_epoch: u32 = 32,
                /// Blocks; 0: Flush.
                blocks / with_blocks: u32 = 32,
                /// Components that were begun.
                begun / with_begun: u8 = 8,
                /// Components that succeeded.
                done / with_done: u8 = 8,
                /// Components that failed.
                failed / with_failed: u8 = 8,
                /// Components that ended with a result that is the client's own doing.
                refused / with_refused: u8 = 8,
                /// Components in sync at admission.
                readable / with_readable: u8 = 8,
                /// Components that were there at admission.
                present / with_present: u8 = 8,
                /// Components that were moved out.
                out / with_out: u8 = 8,
                /// 1: the plan is the control path's to resubmit, complete or abort.
                owned / with_owned: u8 = 1,
                /// 1: the plan has ended, and waits to be released.
                held / with_held: u8 = 1,
                /// 1: the disk was deactivated.
                deactivated / with_deactivated: u8 = 1,
                /// 1: the record speaks of no plan. A fragment on `path` was not answered in time: the path wants
                /// a fence, and then `control_opcode::PATH_QUIESCED`.
                fence / with_fence: u8 = 1,
                /// Reserved.
                reserved0 / with_reserved0: u8 = 4,
                /// Components that were stopped before their last block.
                stopped / with_stopped: u8 = 8,
                /// Reserved.
                reserved1 / with_reserved1: u64 = 56,
                /// Reserved.
                reserved2 / with_reserved2: u64 = 64,
                /// Reserved.
                reserved3 / with_reserved3: u64 = 64,
                /// The path that wants a fence.
                path / with_path: u8 = 8,
                /// Reserved.
                reserved4 / with_reserved4: u64 = 40,
                /// Phase tag: 1 in the first round of the ring.
                phase / with_phase: u8 = 1,
                /// Status field the plan ended with, if it is held.
                status / with_status: u16 = 15,
            }
        }
    };
}
exception_tail!(packed_record);

/// Hands the layout of a plan slot's state to `$make`.
#[macro_export]
macro_rules! plan_state {
    ($make:ident) => {
        $make! {
            /// What a plan slot holds: how the control path finds the plans that are under way. Plans of disks
            /// without a template are not shown, nor is a write that still waits for its blocks.
            PlanState: 64 {
                /// Generation of the plan's handle, whose other half is the index.
                generation / with_generation: u32 = 32,
                /// Virtual disk.
                disk / with_disk: u16 = 16,
                /// 1: there is a plan; 0: the rest says nothing.
                live / with_live: u8 = 1,
                /// 1: it is the control path's.
                owned / with_owned: u8 = 1,
                /// 1: it has ended, and waits to be released.
                held / with_held: u8 = 1,
                /// 1: it issues nothing more.
                stopped / with_stopped: u8 = 1,
                /// Reserved.
                reserved / with_reserved: u16 = 12,
            }
        }
    };
}
plan_state!(packed_record);

impl PlanMasks {
    /// The masks in a field of `PlanEntry`.
    pub fn of_field(field: u64) -> Self {
        let mut masks = Self::default();
        masks.0.copy_from_slice(&field.to_le_bytes()[..Self::BYTES]);
        masks
    }

    /// As a field of `PlanEntry` holds them.
    pub fn field(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..Self::BYTES].copy_from_slice(&self.0);
        u64::from_le_bytes(bytes)
    }
}

impl ComponentEntry {
    /// Index of a template's component in the table.
    pub const fn index(plan: u16, component: usize) -> u32 {
        plan as u32 * COMPONENTS_MAX as u32 + component as u32
    }
}

/// Most ticks of a component's time-out: what its field holds.
pub const TIME_OUT_MAX: u32 =
    (1 << ComponentEntry::FIELDS[index_of(ComponentEntry::FIELDS, "time_out")].width) - 1;

/// log2 of the ticks between two looks of the card at what is overdue.
pub const TIME_OUT_SHIFT: u32 = 10;

/// Bits of a component's state in `ComponentStates`.
const STATE_BITS: usize = 2;

impl ComponentStates {
    /// State of a component.
    pub const fn state(&self, component: usize) -> u8 {
        (self.states() >> (STATE_BITS * component)) as u8 & ((1 << STATE_BITS) - 1)
    }

    /// Sets the state of a component, and leaves the others.
    #[must_use]
    pub fn with_state(self, component: usize, state: u8) -> Self {
        let mask = (1 << STATE_BITS) - 1;
        let others = self.states() & !(mask << (STATE_BITS * component));
        self.with_states(others | (u16::from(state) & mask) << (STATE_BITS * component))
    }
}

/// Bytes of a record of the exception ring.
pub const EXCEPTION_BYTES: usize = 256;

/// Reasons of a record of the exception ring, one bit each.
pub mod reason {
    /// A component failed whose continuation bit is clear: the plan is the control path's.
    pub const COMPONENT_FAILURE: u16 = 1 << 0;
    /// Of a path that wants a fence: a fragment was not answered in time. Of a plan, besides other reasons: a component
    /// has failed since it was begun, or given back, and the status that is told of it is that of a fragment which was
    /// given up: the card ended it when its path was quiesced.
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
    /// The plan is gone: another has its slot, or it has changed hands since (vendor specific).
    pub const PLAN_GONE: u16 = 0x1C0;
    /// The plan is not the control path's, or not held (vendor specific).
    pub const PLAN_NOT_OWNED: u16 = 0x1C1;
    /// The control path has the plan already, or has asked for it (vendor specific).
    pub const PLAN_TAKEN_OVER: u16 = 0x1C2;
    /// The plan has ended, and waits only to be released (vendor specific).
    pub const PLAN_ENDED: u16 = 0x1C3;
    /// The plan was aborted before (vendor specific).
    pub const PLAN_ABORTED: u16 = 0x1C4;
    /// A resubmission names a component that is not used now, or of a write leaves one out that has no result (vendor
    /// specific).
    pub const PLAN_COMPONENT: u16 = 0x1C5;
    /// A resubmission in part of a plan whose disk names another template now (vendor specific).
    pub const PLAN_REPLACED: u16 = 0x1C6;
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

/// The class of a 15-bit status field. In order: success; the client's results; everything of type
/// 3h (Path Related Status) and an aborted command; Do Not Retry; the rest. Data Transfer Error is the client's:
/// it named memory that is not there, and would else move a copy out that is well.
pub const fn status_class(status: u16) -> StatusClass {
    match status & CODE_AND_TYPE {
        0 => StatusClass::Success,
        crate::status::INVALID_FIELD
        | crate::status::DATA_TRANSFER_ERROR
        | crate::status::LBA_OUT_OF_RANGE
        | plan_status::COMPARE_FAILURE => StatusClass::Client,
        plan_status::ABORT_REQUESTED | plan_status::ABORTED_SQ_DELETION => StatusClass::Path,
        code if code & TYPE == PATH_RELATED => StatusClass::Path,
        _ if status & DNR != 0 => StatusClass::Final,
        _ => StatusClass::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_states_stand_where_the_documents_say() {
        let masks = PlanMasks::of_field(0x11_22_33_44_55);
        assert_eq!((masks.continuation(), masks.success(), masks.deactivate()), (0x55, 0x44, 0x11));
        assert_eq!(masks.field(), 0x11_22_33_44_55);
        let states = ComponentStates::default().with_states(0b01_11_00_00_00_00_10_01);
        let all: [u8; 8] = std::array::from_fn(|component| states.state(component));
        assert_eq!(all, [1, 2, 0, 0, 0, 0, 3, 1]);
        assert_eq!(states.with_state(6, 2).with_state(0, 3).states(), 0b01_10_00_00_00_00_10_11);
        assert_eq!(TIME_OUT_MAX, 0xFF_FFFF);
    }

    #[test]
    fn classes_of_statuses_typed_from_the_specification() {
        let cases = [
            (0x0000, StatusClass::Success),
            (0x2000, StatusClass::Success),
            (0x4285, StatusClass::Client),
            (0x0002, StatusClass::Client),
            (0x0004, StatusClass::Client),
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
