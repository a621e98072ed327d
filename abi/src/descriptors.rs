//! What travels in rings: commands and completions of clients, of the control ring, and of SSDs.
//!
//! Client rings and backing queues share NVMe's entries (NVM Express Base Specification 2.0,
//! sections 3.3.3.1 and 3.3.3.2; NVM Command Set Specification 1.0, section 3.2).

use crate::packed_record;

/// Hands the layout of a 64-byte submission queue entry to `$make`.
#[macro_export]
macro_rules! submission_entry {
    ($make:ident) => {
        $make! {
            /// A 64-byte submission queue entry, of a client's ring and of an SSD's queue alike
            /// (NVMe Base 2.0, figure 86; command dwords per NVM Command Set 1.0).
            SubmissionEntry: 512 {
                /// Opcode (CDW0 07:00).
                opcode / with_opcode: u8 = 8,
                /// Fused operation (CDW0 09:08); must be 0.
                fuse / with_fuse: u8 = 2,
                /// Reserved.
                reserved_cdw0 / with_reserved_cdw0: u8 = 4,
                /// PRP or SGL for data transfer (CDW0 15:14); must be 0, PRP.
                psdt / with_psdt: u8 = 2,
                /// Command identifier (CDW0 31:16).
                command_id / with_command_id: u16 = 16,
                /// Namespace identifier (CDW1). In a client's ring: VD handle + 1.
                namespace_id / with_namespace_id: u32 = 32,
                /// CDW2 and CDW3, not used by the commands served.
                cdw2_3 / with_cdw2_3: u64 = 64,
                /// Metadata pointer, not used: no metadata.
                metadata_pointer / with_metadata_pointer: u64 = 64,
                /// PRP entry 1: the first page of the buffer, with an offset.
                prp1 / with_prp1: u64 = 64,
                /// PRP entry 2: the second page, or the pointer to a PRP list.
                prp2 / with_prp2: u64 = 64,
                /// Starting LBA (CDW10 and CDW11). Dataset Management: CDW10 07:00 ranges − 1,
                /// CDW11 bit 2 deallocate.
                starting_lba / with_starting_lba: u64 = 64,
                /// Number of logical blocks, zero-based (CDW12 15:00).
                block_count_z / with_block_count_z: u16 = 16,
                /// CDW12 24:16, not used.
                reserved_cdw12 / with_reserved_cdw12: u16 = 9,
                /// Write Zeroes: deallocate (CDW12 25).
                deallocate / with_deallocate: u8 = 1,
                /// Protection information (CDW12 29:26), not used.
                protection / with_protection: u8 = 4,
                /// Force unit access (CDW12 30).
                force_unit_access / with_force_unit_access: u8 = 1,
                /// Limited retry (CDW12 31).
                limited_retry / with_limited_retry: u8 = 1,
                /// Dataset management hints (CDW13), passed through.
                cdw13 / with_cdw13: u32 = 32,
                /// CDW14 and CDW15, not used.
                cdw14_15 / with_cdw14_15: u64 = 64,
            }
        }
    };
}
submission_entry!(packed_record);

/// Hands the layout of a 16-byte completion queue entry to `$make`.
#[macro_export]
macro_rules! completion_entry {
    ($make:ident) => {
        $make! {
            /// A 16-byte completion queue entry (NVMe Base 2.0, figure 90).
            CompletionEntry: 128 {
                /// Command specific (DW0).
                result / with_result: u32 = 32,
                /// DW1, reserved.
                reserved / with_reserved: u32 = 32,
                /// The entry of the submission ring that is fetched next (DW2 15:00).
                sq_head / with_sq_head: u16 = 16,
                /// The submission queue (DW2 31:16).
                sq_id / with_sq_id: u16 = 16,
                /// Command identifier (DW3 15:00).
                command_id / with_command_id: u16 = 16,
                /// Phase tag (DW3 16).
                phase / with_phase: u8 = 1,
                /// Status field (DW3 31:17): code 7:0, type 10:8, CRD 12:11, More 13, DNR 14.
                status / with_status: u16 = 15,
            }
        }
    };
}
completion_entry!(packed_record);

/// Hands the layout of a Dataset Management range to `$make`.
#[macro_export]
macro_rules! deallocate_range {
    ($make:ident) => {
        $make! {
            /// A range of Dataset Management (NVM Command Set 1.0, figure 40).
            DeallocateRange: 128 {
                /// Context attributes, not used.
                attributes / with_attributes: u32 = 32,
                /// Length in logical blocks, not zero-based.
                block_count / with_block_count: u32 = 32,
                /// First logical block.
                starting_lba / with_starting_lba: u64 = 64,
            }
        }
    };
}
deallocate_range!(packed_record);

/// Hands the layout of CDW10 and CDW11 of Dataset Management to `$make`.
#[macro_export]
macro_rules! dataset_attributes {
    ($make:ident) => {
        $make! {
            /// CDW10 and CDW11 of Dataset Management, which stand where other commands have their
            /// starting LBA (NVM Command Set 1.0, figures 37 and 38).
            DatasetAttributes: 64 {
                /// Number of ranges, zero-based (CDW10 07:00).
                range_count_z / with_range_count_z: u8 = 8,
                /// Reserved.
                reserved0 / with_reserved0: u32 = 24,
                /// Integral dataset for read (CDW11 0), a hint.
                integral_read / with_integral_read: u8 = 1,
                /// Integral dataset for write (CDW11 1), a hint.
                integral_write / with_integral_write: u8 = 1,
                /// Deallocate (CDW11 2).
                deallocate / with_deallocate: u8 = 1,
                /// Reserved.
                reserved1 / with_reserved1: u32 = 29,
            }
        }
    };
}
dataset_attributes!(packed_record);

/// Hands the layout of a control command to `$make`.
#[macro_export]
macro_rules! control_command {
    ($make:ident) => {
        $make! {
            /// A 64-byte command of the control ring.
            ControlCommand: 512 {
                /// What to do: see `control_opcode`.
                opcode / with_opcode: u8 = 8,
                /// Reserved, 0.
                flags / with_flags: u8 = 8,
                /// Echoed in the completion.
                command_id / with_command_id: u16 = 16,
                /// Which table: see `table`.
                table / with_table: u16 = 16,
                /// Reserved, 0.
                reserved0 / with_reserved0: u16 = 16,
                /// Entry of the table.
                index / with_index: u32 = 32,
                /// Reserved, 0.
                reserved1 / with_reserved1: u32 = 32,
                /// Reserved, 0.
                reserved2 / with_reserved2: u64 = 64,
                /// Reserved, 0.
                reserved3 / with_reserved3: u64 = 64,
                /// Bits 63:0 of the entry to write.
                payload0 / with_payload0: u64 = 64,
                /// Bits 127:64.
                payload1 / with_payload1: u64 = 64,
                /// Bits 191:128.
                payload2 / with_payload2: u64 = 64,
                /// Bits 255:192.
                payload3 / with_payload3: u64 = 64,
            }
        }
    };
}
control_command!(packed_record);

/// Hands the layout of a control completion to `$make`.
#[macro_export]
macro_rules! control_completion {
    ($make:ident) => {
        $make! {
            /// A 64-byte completion of the control ring. Its last 16 bytes are a `CompletionEntry`,
            /// so the phase tag is in the dword that is written last.
            ControlCompletion: 512 {
                /// Bits 63:0 of the entry that was read.
                payload0 / with_payload0: u64 = 64,
                /// Bits 127:64.
                payload1 / with_payload1: u64 = 64,
                /// Bits 191:128.
                payload2 / with_payload2: u64 = 64,
                /// Bits 255:192.
                payload3 / with_payload3: u64 = 64,
                /// Reserved.
                reserved0 / with_reserved0: u64 = 64,
                /// Reserved.
                reserved1 / with_reserved1: u64 = 64,
                /// Of a commit: the epoch to wait for.
                result / with_result: u32 = 32,
                /// Reserved.
                reserved2 / with_reserved2: u32 = 32,
                /// The entry of the control ring that is fetched next.
                sq_head / with_sq_head: u16 = 16,
                /// 0, the control ring.
                sq_id / with_sq_id: u16 = 16,
                /// Command identifier.
                command_id / with_command_id: u16 = 16,
                /// Phase tag.
                phase / with_phase: u8 = 1,
                /// Status field, as in `CompletionEntry`.
                status / with_status: u16 = 15,
            }
        }
    };
}
control_completion!(packed_record);

/// Hands the layout of a command on a plan to `$make`.
#[macro_export]
macro_rules! plan_command {
    ($make:ident) => {
        $make! {
            /// The first payload of a control command on a plan; its slot stands in `ControlCommand::index`.
            PlanCommand: 64 {
                /// Generation of the plan's handle.
                generation / with_generation: u32 = 32,
                /// Components that begin again at their first block; the others keep their result. All eight bits: all
                /// components that are used now.
                restart / with_restart: u8 = 8,
                /// Reserved.
                reserved / with_reserved: u16 = 9,
                /// Status field to end with.
                status / with_status: u16 = 15,
            }
        }
    };
}
plan_command!(packed_record);

/// Opcodes of the control ring.
pub mod control_opcode {
    macro_rules! opcodes {
        ($( $(#[doc = $doc:literal])* $name:ident = $value:literal, )*) => {
            $( $(#[doc = $doc])* pub const $name: u8 = $value; )*
            /// Every opcode, with its name and meaning.
            pub const ALL: &[(u8, &str, &str)] =
                &[ $( ($value, stringify!($name), concat!($($doc, " ",)*)), )* ];
        };
    }

    opcodes! {
        /// Completes and does nothing else.
        NOP = 0x00,
        /// Writes the payload to an entry of a table.
        TABLE_WRITE = 0x01,
        /// Reads an entry of a table into the completion's payload.
        TABLE_READ = 0x02,
        /// Releases a held plan: it ends as its record says.
        PLAN_RELEASE = 0x10,
        /// Ends a plan that the control path owns or holds, with the status in the payload (`PlanCommand`).
        PLAN_COMPLETE = 0x11,
        /// Gives a plan that the control path owns back: it is admitted anew.
        PLAN_RESUBMIT = 0x12,
        /// Takes over a plan that is under way: it issues nothing more, and is the control path's when what was
        /// issued has come back.
        PLAN_TAKE_OVER = 0x13,
        /// Ends a plan with Command Abort Requested: at once if the control path has it, else when what was issued
        /// has come back.
        PLAN_ABORT = 0x14,
        /// Nothing that the path `index` was given before its table entry was last written is executed any more, now
        /// or later: all of it that is outstanding ends, with Command Aborted due to SQ Deletion. To be given when
        /// the entry was written, as not valid or for a new queue, and the old queue was deleted or its controller
        /// reset.
        PATH_QUIESCED = 0x20,
        /// Stages a write of the payload to an entry of the table of virtual disks, the only one that admission looks
        /// up. At most `TRANSACTION_MAX`; more are a Command Sequence Error.
        TRANSACTION_STAGE = 0x30,
        /// Makes all staged writes, in order, between two commands that are admitted, and begins an epoch. The
        /// completion's `result` is the epoch to wait for: when it is closed (`EpochState`), whatever was admitted
        /// before has ended, or is the control path's.
        TRANSACTION_COMMIT = 0x31,
        /// Forgets all staged writes.
        TRANSACTION_CANCEL = 0x32,
    }
}

/// Most writes that are staged at once.
pub const TRANSACTION_MAX: usize = 64;
