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
                $( let $field = $crate::records::field(&bits, offset); offset += $width; )*
                assert_eq!(offset, $bits, "the fields do not fill the record");
                Self { $($field,)* }
            }
        }

        const _: () = assert!($bits == 0 $(+ $width)*, "the fields do not fill the record");

        #[cfg(test)]
        impl $crate::host::record_words::Packed<$bits> for $name {
            fn pack(&self) -> Vec<bool> {
                let mut bits = Vec::with_capacity($bits);
                $( bits.extend($crate::host::record_words::Packed::pack(&self.$field)); )*
                bits
            }
        }
    };
}

/// `W` bits of `N`, from `offset` on. Plain loops: this runs unoptimised in the blocks' tests.
pub(crate) fn field<const N: usize, const W: usize>(bits: &Bits<N>, offset: usize) -> Bits<W> {
    let mut found = [false; W];
    for (i, bit) in found.iter_mut().enumerate() {
        *bit = bits.get_bit(offset + i);
    }
    of_bits(&found)
}

/// The value of these bits, lowest first.
pub(crate) fn of_bits<const N: usize>(bits: &[bool; N]) -> Bits<N> {
    if N > 32 {
        return Bits::Long((*bits).into());
    }
    let mut value = 0u64;
    for (i, &bit) in bits.iter().enumerate() {
        value |= u64::from(bit) << i;
    }
    value.into()
}

volplane_abi::submission_entry!(logic_record);
volplane_abi::completion_entry!(logic_record);
volplane_abi::dataset_attributes!(logic_record);
volplane_abi::deallocate_range!(logic_record);
volplane_abi::control_command!(logic_record);
volplane_abi::control_completion!(logic_record);
volplane_abi::queue_entry!(logic_record);
volplane_abi::queue_state!(logic_record);
volplane_abi::epoch_state!(logic_record);
volplane_abi::quota_entry!(logic_record);
volplane_abi::vd_entry!(logic_record);
volplane_abi::allocation_entry!(logic_record);
volplane_abi::extent_entry!(logic_record);
volplane_abi::device_entry!(logic_record);
volplane_abi::path_entry!(logic_record);
volplane_abi::path_completions!(logic_record);
volplane_abi::path_state!(logic_record);
volplane_abi::plan_masks!(logic_record);
volplane_abi::plan_entry!(logic_record);
volplane_abi::component_entry!(logic_record);
volplane_abi::component_states!(logic_record);
volplane_abi::divert_entry!(logic_record);
volplane_abi::exception_component!(logic_record);
volplane_abi::exception_tail!(logic_record);
volplane_abi::plan_state!(logic_record);
volplane_abi::plan_command!(logic_record);

logic_record! {
    /// A part: what one component does for a plan. It stands where a record says `part`.
    Part: 16 {
        /// Plan slot.
        slot = 12,
        /// Component.
        component = 3,
        /// 1: the plan has this part alone, and no template: its end is the plan's.
        single = 1,
    }
}

logic_record! {
    /// How a part's fragments are to be given to their devices. It stands where a record says `terms`.
    PartTerms: 16 {
        /// Time-out, in units of 2^`TIME_OUT_SHIFT` ticks, rounded down;
        time_out = 14,
        /// 0: none.
        timed = 1,
        /// 1: it is tried again, and avoids the paths that failed.
        retried = 1,
    }
}

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
    /// A write of zeros: 64 bytes to a 64-byte aligned address, or as of `SmallWrite`.
    ZeroWrite: 67 {
        /// Bus address.
        address = 64,
        /// 1: 64 bytes.
        is_wide = 1,
        /// Else: 1: 16 bytes, 0: 4 bytes.
        quad = 1,
        /// 1: the last one of its fragment.
        ends = 1,
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
        /// 1: hardware does not execute it; its range is not read.
        foreign = 1,
        /// 1: it touches a divert range.
        diverted = 1,
        /// Reserved.
        reserved = 7,
    }
}

logic_record! {
    /// A plan admitted to the executor; its map entries follow in their own streams.
    AdmittedPlan: 324 {
        /// Part of a plan (`Part`).
        part = 16,
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
        /// How to give it (`PartTerms`).
        terms = 16,
        /// Reserved.
        reserved = 29,
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
    PlanHeader: 268 {
        /// Part of a plan (`Part`).
        part = 16,
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
        /// How to give it (`PartTerms`).
        terms = 16,
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
        /// Part of a plan (`Part`).
        part = 16,
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
        /// How to give it (`PartTerms`).
        terms = 16,
        /// Reserved.
        reserved = 1,
    }
}

logic_record! {
    /// A fragment of an extent that reads as zeros: no device has part in it.
    ZeroFragment: 183 {
        /// Part of a plan (`Part`).
        part = 16,
        /// Number of the fragment in its plan.
        ordinal = 17,
        /// 1: the plan's last fragment.
        last = 1,
        /// PRP entry 1.
        prp1 = 64,
        /// PRP entry 2.
        prp2 = 64,
        /// Blocks, 1 and up.
        blocks = 17,
        /// log2 of the block size.
        block_shift = 4,
    }
}

logic_record! {
    /// A plan that ends without a fragment marked last: refused, trivial, or stopped on the way.
    PlanClosed: 44 {
        /// Part of a plan (`Part`).
        part = 16,
        /// Fragments issued before.
        issued = 17,
        /// Status.
        status = 11,
    }
}

logic_record! {
    /// What an identifier stands for.
    IdRecord: 50 {
        /// Generation, the identifier's bits 15:11.
        generation = 5,
        /// Path it was issued on.
        path = 8,
        /// Part of a plan (`Part`).
        part = 16,
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
    /// A fragment that has come back, once for each that was built.
    Returned: 90 {
        /// Path.
        path = 8,
        /// Submission head the SSD reported.
        sq_head = 16,
        /// Identifier: generation and index.
        command_id = 16,
        /// Part of a plan (`Part`).
        part = 16,
        /// Number of the fragment in its plan.
        ordinal = 17,
        /// 1: the plan's last fragment.
        last = 1,
        /// Status field.
        status = 15,
        /// 1: the card ended it, no completion came: nothing is known of its queue.
        own = 1,
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
    SlotOwner: 41 {
        /// Queue.
        queue = 8,
        /// Command identifier.
        command_id = 16,
        /// Namespace identifier, its lowest bits.
        namespace = 16,
        /// 1: it is that of a virtual disk of the table.
        named = 1,
    }
}

logic_record! {
    /// A piece: the part of a run that its device takes in one command, a run of zeros, or the end of a plan.
    Piece: 362 {
        /// Part of a plan (`Part`).
        part = 16,
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
        /// How to give it (`PartTerms`).
        terms = 16,
        /// 1: no command: the client is to read zeros.
        zeros = 1,
    }
}

logic_record! {
    /// The end of a part: all of its fragments are back, or it was closed.
    PartDone: 62 {
        /// The part (`Part`).
        part = 16,
        /// Status field of the failed fragment with the lowest ordinal, else success.
        status = 15,
        /// 1: the status is the card's own, no device gave it.
        closed = 1,
        /// Path of that fragment.
        path = 8,
        /// Its ordinal; of a part that was stopped, and has not failed: of the first fragment that was not
        /// issued.
        ordinal = 17,
        /// 1: the status is not success.
        failed = 1,
        /// 1: it was stopped before its last block,
        stopped = 1,
        /// for this cause: see `exec::stop_cause`.
        cause = 2,
        /// 1: that fragment was given up: it was not answered until its path was quiesced.
        given_up = 1,
    }
}

logic_record! {
    /// A plan as it was admitted: what stays true of it.
    PlanBegun: 168 {
        /// Virtual disk.
        disk = 16,
        /// Plan template.
        plan = 16,
        /// Number of its admission, modulo 2^24: the upper bits of the handle's generation.
        sequence = 24,
        /// Epoch of its admission.
        epoch = 32,
        /// The masks that apply to it (`PlanMasks`).
        masks = 40,
        /// Components that were there.
        present = 8,
        /// Components in sync.
        readable = 8,
        /// Components that were begun.
        begun = 8,
        /// Components in sync that must succeed for a write to succeed.
        minimum = 4,
        /// 1: a read or Compare.
        is_read = 1,
        /// 1: when all that was begun succeeds, the plan does, with nothing to tell anybody.
        simple = 1,
        /// 1: it holds its blocks' lock.
        locked = 1,
        /// Components that were not begun, and keep the result that they had when it was given back.
        kept = 8,
        /// Reserved.
        reserved = 1,
    }
}

logic_record! {
    /// What a plan keeps that the control path has given back.
    KeptParts: 60 {
        /// Its slot.
        slot = 12,
        /// Components that keep their result, if they are those
        kept = 8,
        /// of this plan template,
        plan = 16,
        /// and nobody has written its blocks since it was admitted by this number.
        sequence = 24,
    }
}

logic_record! {
    /// A stored command is to go through admission once more.
    Again: 33 {
        /// Its slot.
        slot = 12,
        /// The component to begin.
        component = 3,
        /// Plan template it was admitted with.
        plan = 16,
        /// 1: as if it had just come: what it was admitted with is looked up anew.
        fresh = 1,
        /// 1: the component was begun before: it is tried again on other paths. Of a fresh one that has waited for
        /// its blocks: the control path had given it back.
        retry = 1,
    }
}

logic_record! {
    /// A stored command on its way to admission.
    AgainCommand: 362 {
        /// What it is to do (`Again`).
        again = 33,
        /// The command (`ClientCommand`).
        command = 329,
    }
}

logic_record! {
    /// A plan's failure changes its disk.
    StateChange: 25 {
        /// Disk.
        disk = 16,
        /// Components that are moved out.
        out = 8,
        /// 1: the disk is deactivated.
        deactivate = 1,
    }
}

logic_record! {
    /// A command that was looked up, and is to become the parts of a plan.
    PendingCommand: 547 {
        /// The command (`ClientCommand`).
        command = 329,
        /// Its slot.
        slot = 12,
        /// What it is to do (`Again`),
        again = 33,
        /// if this is 1: it was here before.
        is_again = 1,
        /// Its disk's entry (`DiskEntry`).
        disk = 144,
        /// What has become of the disk's components (`DiskStates`).
        states = 25,
        /// Lowest bits of its epoch.
        epoch = 3,
    }
}

logic_record! {
    /// The bits of a `VdEntry` that are in use.
    DiskEntry: 144 {
        /// Size in blocks.
        size_blocks = 48,
        /// Status.
        status = 4,
        /// log2 of the block size.
        block_shift = 4,
        /// log2 of the blocks of an allocation.
        allocation_shift = 8,
        /// Index of allocation 0.
        map_root = 32,
        /// Devices to flush.
        flush_devices = 32,
        /// Plan template.
        plan = 16,
    }
}

logic_record! {
    /// The bits of a `ComponentStates` that are kept.
    DiskStates: 25 {
        /// Two bits for each component.
        states = 16,
        /// Out, and that is durable.
        durably_out = 8,
        /// 1: deactivated by a failure.
        deactivated = 1,
    }
}

logic_record! {
    /// A part on its way to the judge of commands.
    ExpandedPart: 505 {
        /// The command (`ClientCommand`).
        command = 329,
        /// The part (`Part`).
        part = 16,
        /// The disk, with the component's map (`DiskEntry`).
        disk = 144,
        /// How to give it (`PartTerms`).
        terms = 16,
    }
}

logic_record! {
    /// A part that is begun, not tried again.
    PartBegun: 40 {
        /// The part (`Part`).
        part = 16,
        /// Plan template, 0: none.
        plan = 16,
        /// How often it may be given again.
        retries = 8,
    }
}

logic_record! {
    /// A part that is over, and is not tried again.
    PartOver: 19 {
        /// Its plan's disk.
        disk = 16,
        /// Component.
        component = 3,
    }
}

logic_record! {
    /// The blocks of a write to several copies.
    LockRequest: 98 {
        /// Plan slot.
        slot = 12,
        /// Disk.
        disk = 16,
        /// First block.
        lba = 48,
        /// Blocks, 1 to 65,536.
        blocks = 17,
        /// log2 of the block size.
        block_shift = 4,
        /// 1: the control path has given it back.
        resubmitted = 1,
    }
}

logic_record! {
    /// A record to post, but for the command and for what the parts ended with.
    RecordItem: 210 {
        /// Plan slot.
        slot = 12,
        /// Generation of its handle.
        generation = 32,
        /// Reasons.
        reasons = 16,
        /// Virtual disk.
        disk = 16,
        /// Plan template.
        plan = 16,
        /// Epoch of its admission.
        epoch = 32,
        /// Components that were begun.
        begun = 8,
        /// Components that succeeded.
        done = 8,
        /// Components that failed.
        failed = 8,
        /// Components that were refused.
        refused = 8,
        /// Components that were stopped.
        stopped = 8,
        /// Components in sync at admission.
        readable = 8,
        /// Components that were there.
        present = 8,
        /// Components that were moved out.
        out = 8,
        /// 1: the control path owns it.
        owned = 1,
        /// 1: it waits to be released.
        held = 1,
        /// 1: the disk was deactivated.
        deactivated = 1,
        /// 1: its client is told once the record is posted.
        completes = 1,
        /// Status field it ends with.
        status = 15,
        /// 1: no plan: it asks for a fence of the path in `disk`.
        fence = 1,
        /// Reserved.
        reserved = 2,
    }
}
