//! Makes RTL records (`LogicStruct`) of the ABI's descriptions, and defines the card's own.
//!
//! A record and its bits convert by `.into()` in kernels, which emits nothing: the first field
//! stands in the lowest bits, as in the ABI. Indices inside the card have one width each, wide enough
//! for every build: the sizes of RAMs, not of wires, are what a build chooses.

use rust_hdl::prelude::*;

/// Turns a description (of the ABI or of this file) into an RTL record.
#[macro_export]
macro_rules! logic_record {
    (
        $(#[doc = $record_doc:literal])*
        $name:ident : $bits:literal {
            $( $(#[doc = $doc:literal])* $field:ident $(/ $set:ident : $ty:ident)? = $width:literal, )*
        }
    ) => {
        $(#[doc = $record_doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, LogicStruct)]
        pub struct $name {
            $( $(#[doc = $doc])* pub $field: Bits<$width>, )*
        }

        impl From<Bits<$bits>> for $name {
            fn from(bits: Bits<$bits>) -> Self {
                let mut offset = 0usize;
                $( let $field = bits.get_bits::<$width>(offset); offset += $width; )*
                assert_eq!(offset, $bits, "the fields do not fill the record");
                Self { $($field,)* }
            }
        }

        const _: () = assert!($bits == 0 $(+ $width)*, "the fields do not fill the record");
    };
}

volplane_abi::submission_entry!(logic_record);
volplane_abi::completion_entry!(logic_record);
volplane_abi::dataset_attributes!(logic_record);
volplane_abi::deallocate_range!(logic_record);
volplane_abi::control_command!(logic_record);
volplane_abi::control_completion!(logic_record);
volplane_abi::queue_entry!(logic_record);
volplane_abi::queue_state!(logic_record);
volplane_abi::vd_entry!(logic_record);
volplane_abi::allocation_entry!(logic_record);
volplane_abi::extent_entry!(logic_record);
volplane_abi::device_entry!(logic_record);
volplane_abi::path_entry!(logic_record);
volplane_abi::path_state!(logic_record);
volplane_abi::plan_masks!(logic_record);

logic_record! {
    /// An access of the control ring to a table, broadcast to all tables. The table whose number
    /// matches, with `index` in range, acknowledges within 32 cycles; nobody else answers.
    TableRequest: 305 {
        /// 1 write, 0 read.
        write = 1,
        /// Table number.
        table = 16,
        /// Entry.
        index = 32,
        /// The entry to write.
        data = 256,
    }
}

logic_record! {
    /// A write of 64 bytes to a 64-byte aligned bus address.
    WideWrite: 576 {
        /// Bus address.
        address = 64,
        /// Bytes, lowest address first.
        data = 512,
    }
}

logic_record! {
    /// A write of 16 bytes to a 16-byte aligned address, or of 4 bytes to a 4-byte aligned one.
    SmallWrite: 193 {
        /// Bus address.
        address = 64,
        /// Bytes; 4-byte writes use the lowest 32 bits.
        data = 128,
        /// 1: 16 bytes, 0: 4 bytes.
        quad = 1,
    }
}

logic_record! {
    /// A read of whole beats that does not cross a 4 KiB border.
    ReadRequest: 80 {
        /// Bus address; the bits below a beat are ignored.
        address = 64,
        /// Bytes, up to 128; rounded up to whole beats.
        bytes = 8,
        /// Returned with every beat of the answer.
        tag = 8,
    }
}

logic_record! {
    /// A 64-byte entry, fetched.
    FetchedEntry: 520 {
        /// The entry.
        entry = 512,
        /// Queue it came from; 0 is the control ring.
        queue = 8,
    }
}

logic_record! {
    /// A client's command, parsed; a Dataset Management range is already in `lba` and `blocks`.
    ClientCommand: 329 {
        /// Queue it came from: who the client is.
        queue = 8,
        /// Command identifier.
        command_id = 16,
        /// Opcode.
        opcode = 8,
        /// Namespace identifier: VD handle + 1.
        namespace_id = 32,
        /// PRP entry 1.
        prp1 = 64,
        /// PRP entry 2.
        prp2 = 64,
        /// First block.
        lba = 64,
        /// Blocks, 0 to 65,536.
        blocks = 17,
        /// Write Zeroes: deallocate.
        deallocate = 1,
        /// Force unit access.
        force_unit_access = 1,
        /// Limited retry.
        limited_retry = 1,
        /// Dataset management hints.
        cdw13 = 32,
        /// Status it is refused with; 0: none.
        refusal = 11,
        /// 1: nothing is to be done, the command succeeds (empty range, hints only).
        trivial = 1,
        /// Reserved.
        reserved = 9,
    }
}

logic_record! {
    /// A plan admitted to the executor; its map entries follow in their own streams.
    AdmittedPlan: 324 {
        /// Plan slot.
        slot = 12,
        /// Opcode.
        opcode = 8,
        /// PRP entry 1.
        prp1 = 64,
        /// PRP entry 2.
        prp2 = 64,
        /// Blocks in all, 1 to 65,536.
        blocks = 17,
        /// Blocks of the command in its first allocation; the rest lies in the next ones.
        first_blocks = 17,
        /// log2 of the block size.
        block_shift = 4,
        /// Write Zeroes: deallocate.
        deallocate = 1,
        /// Force unit access.
        force_unit_access = 1,
        /// Limited retry.
        limited_retry = 1,
        /// 1: more than one allocation entry follows.
        crosses = 1,
        /// 1: no allocation entry follows (Flush, refused, trivial).
        unmapped = 1,
        /// Dataset management hints.
        cdw13 = 32,
        /// Flush: devices to flush.
        flush_devices = 32,
        /// Status it is refused with; 0: none.
        refusal = 11,
        /// 1: it succeeds at once.
        trivial = 1,
        /// log2 of the blocks of an allocation, for the second one's border.
        allocation_shift = 8,
        /// Reserved.
        reserved = 49,
    }
}

logic_record! {
    /// Where a command's first block lies in its allocation: one for each mapped plan.
    Location: 69 {
        /// Row: stripe unit div columns.
        row = 32,
        /// Column: stripe unit mod columns.
        column = 5,
        /// Block within the stripe unit.
        unit_offset = 32,
    }
}

logic_record! {
    /// What the fragment builder needs of a plan, once for each plan, in order.
    PlanHeader: 263 {
        /// Plan slot.
        slot = 12,
        /// Opcode.
        opcode = 8,
        /// PRP entry 1.
        prp1 = 64,
        /// PRP entry 2.
        prp2 = 64,
        /// Blocks in all.
        blocks = 17,
        /// log2 of the block size.
        block_shift = 4,
        /// Write Zeroes: deallocate.
        deallocate = 1,
        /// Force unit access.
        force_unit_access = 1,
        /// Limited retry.
        limited_retry = 1,
        /// Dataset management hints.
        cdw13 = 32,
        /// Status it is refused with, no runs follow; 0: none.
        refusal = 11,
        /// 1: it succeeds at once, no runs follow.
        trivial = 1,
        /// Flush: devices to flush; no runs follow.
        flush_devices = 32,
        /// Reserved.
        reserved = 15,
    }
}

logic_record! {
    /// A run: the part of a plan that lies in one stripe unit, with its extent's entry.
    Run: 140 {
        /// Block of the plan at which it begins, 0-based.
        plan_offset = 17,
        /// Blocks.
        blocks = 17,
        /// Block of the extent at which it begins.
        extent_offset = 33,
        /// 1: the plan's last run.
        last = 1,
        /// The extent's entry (`ExtentEntry`); all zero when the allocation or index is invalid.
        extent = 72,
    }
}

logic_record! {
    /// A fragment: one NVMe command, before it has an identifier.
    Fragment: 327 {
        /// Plan slot.
        slot = 12,
        /// Number of the fragment in its plan, from 0, in order of offset.
        ordinal = 17,
        /// 1: the plan's last fragment.
        last = 1,
        /// Opcode.
        opcode = 8,
        /// Path.
        path = 8,
        /// NSID on the device.
        namespace_id = 32,
        /// First block on the device.
        lba = 48,
        /// Blocks, 1 to 65,536; 0 for Flush.
        blocks = 17,
        /// PRP entry 1.
        prp1 = 64,
        /// PRP entry 2.
        prp2 = 64,
        /// Write Zeroes: deallocate.
        deallocate = 1,
        /// Force unit access.
        force_unit_access = 1,
        /// Limited retry.
        limited_retry = 1,
        /// Dataset management hints.
        cdw13 = 32,
        /// Reserved.
        reserved = 21,
    }
}

logic_record! {
    /// A plan that ends without a fragment marked last: refused, trivial, or stopped on the way.
    PlanClosed: 40 {
        /// Plan slot.
        slot = 12,
        /// Fragments issued before.
        issued = 17,
        /// Status.
        status = 11,
    }
}

logic_record! {
    /// What an identifier stands for.
    IdRecord: 46 {
        /// Generation, the identifier's bits 15:11.
        generation = 5,
        /// Path it was issued on.
        path = 8,
        /// Plan slot.
        slot = 12,
        /// Number of the fragment in its plan.
        ordinal = 17,
        /// 1: the plan's last fragment.
        last = 1,
        /// Reserved.
        reserved = 3,
    }
}

logic_record! {
    /// A completion as an SSD wrote it into its window.
    WindowEvent: 67 {
        /// Window, that is path.
        path = 8,
        /// Entry in the window.
        position = 12,
        /// Identifier.
        command_id = 16,
        /// Submission head.
        sq_head = 16,
        /// Status field.
        status = 15,
    }
}

logic_record! {
    /// A fragment that has come back, once for each that was issued.
    Returned: 85 {
        /// Path.
        path = 8,
        /// Submission head the SSD reported.
        sq_head = 16,
        /// Identifier: generation and index.
        command_id = 16,
        /// Plan slot.
        slot = 12,
        /// Number of the fragment in its plan.
        ordinal = 17,
        /// 1: the plan's last fragment.
        last = 1,
        /// Status field.
        status = 15,
    }
}

logic_record! {
    /// A plan that has ended.
    PlanDone: 27 {
        /// Plan slot.
        slot = 12,
        /// Status field.
        status = 15,
    }
}

logic_record! {
    /// Whose plan a slot holds.
    SlotOwner: 24 {
        /// Queue.
        queue = 8,
        /// Command identifier.
        command_id = 16,
    }
}

logic_record! {
    /// A piece: the part of a run that its device takes in one command, or the end of a plan.
    Piece: 348 {
        /// Plan slot.
        slot = 12,
        /// Opcode.
        opcode = 8,
        /// The plan's PRP entry 1.
        prp1 = 64,
        /// The plan's PRP entry 2.
        prp2 = 64,
        /// Blocks of the plan in all.
        plan_blocks = 17,
        /// log2 of the block size.
        block_shift = 4,
        /// Write Zeroes: deallocate.
        deallocate = 1,
        /// Force unit access.
        force_unit_access = 1,
        /// Limited retry.
        limited_retry = 1,
        /// Dataset management hints.
        cdw13 = 32,
        /// Block of the plan at which it begins.
        plan_offset = 17,
        /// Blocks.
        blocks = 17,
        /// Path.
        path = 8,
        /// NSID on the device.
        namespace_id = 32,
        /// First block on the device.
        lba = 48,
        /// 1: the plan's first piece.
        first = 1,
        /// 1: the plan's last piece.
        last = 1,
        /// 1: no command: the plan ends here with `status`.
        closing = 1,
        /// Status of a closing piece; 0: success.
        status = 11,
        /// 1: the PRP entries are right as they are: it is the whole plan, or has no data.
        whole = 1,
        /// Reserved.
        reserved = 7,
    }
}
