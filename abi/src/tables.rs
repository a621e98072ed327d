//! Entries of the card's tables, written and read back by the control ring.

use crate::packed_record;

/// Table numbers of `ControlCommand::table`.
pub mod table {
    /// Client queue pairs (`QueueEntry`), index = queue number, 1 and up.
    pub const QUEUE: u16 = 1;
    /// Live state of queue pairs (`QueueState`), read only.
    pub const QUEUE_STATE: u16 = 2;
    /// Virtual disks (`VdEntry`), index = VD handle = client's NSID − 1.
    pub const VD: u16 = 3;
    /// Allocations of the map (`AllocationEntry`).
    pub const ALLOCATION: u16 = 4;
    /// Extents of the map (`ExtentEntry`).
    pub const EXTENT: u16 = 5;
    /// Devices (`DeviceEntry`).
    pub const DEVICE: u16 = 6;
    /// Paths (`PathEntry`), index = completion window.
    pub const PATH: u16 = 7;
    /// Live state of paths (`PathState`), read only.
    pub const PATH_STATE: u16 = 8;
    /// Plan templates (`PlanEntry`), 1 and up.
    pub const PLAN: u16 = 9;
    /// Components of the plan templates (`ComponentEntry`), index = plan × 8 + component.
    pub const COMPONENT: u16 = 10;
    /// What has become of each disk's components (`ComponentStates`), index = VD handle.
    pub const STATES: u16 = 11;
    /// What the plan slots hold (`PlanState`), read only, index = slot.
    pub const PLAN_STATE: u16 = 12;
    /// Divert ranges (`DivertEntry`).
    pub const DIVERT: u16 = 13;
    /// The epochs (`EpochState`), read only, index 0.
    pub const EPOCH: u16 = 14;
    /// Completion queues of paths in host memory (`PathCompletions`), index as of `PATH`.
    pub const PATH_COMPLETIONS: u16 = 15;
    /// Most plan slots of virtual disks (`QuotaEntry`), index = VD handle.
    pub const QUOTA: u16 = 16;
    /// Names in order of number, for documents and messages.
    pub const NAMES: &[(u16, &str)] = &[
        (QUEUE, "queue"),
        (QUEUE_STATE, "queue state"),
        (VD, "virtual disk"),
        (ALLOCATION, "allocation"),
        (EXTENT, "extent"),
        (DEVICE, "device"),
        (PATH, "path"),
        (PATH_STATE, "path state"),
        (PLAN, "plan"),
        (COMPONENT, "component"),
        (STATES, "component states"),
        (PLAN_STATE, "plan state"),
        (DIVERT, "divert range"),
        (EPOCH, "epoch"),
        (PATH_COMPLETIONS, "path completions"),
        (QUOTA, "quota"),
    ];
}

/// Hands the layout of a client queue pair's entry to `$make`.
#[macro_export]
macro_rules! queue_entry {
    ($make:ident) => {
        $make! {
            /// A client queue pair. Writing it with enable 1 starts it: all pointers 0, phase 1. Writing it
            /// with enable 0 stops fetching and changes no pointer; whoever reuses the pair first waits
            /// until `QueueState::outstanding` is 0.
            QueueEntry: 256 {
                /// Submission ring in host memory, 4 KiB aligned.
                sq_base / with_sq_base: u64 = 64,
                /// Completion ring in host memory, 4 KiB aligned.
                cq_base / with_cq_base: u64 = 64,
                /// Entries of the submission ring − 1 (1 to 4,095).
                sq_size_z / with_sq_size_z: u16 = 16,
                /// Entries of the completion ring − 1 (1 to 4,095).
                cq_size_z / with_cq_size_z: u16 = 16,
                /// Interrupt vector.
                vector / with_vector: u16 = 16,
                /// 1: completions raise the vector.
                interrupt_enable / with_interrupt_enable: u8 = 1,
                /// 1: the card fetches from the ring.
                enable / with_enable: u8 = 1,
                /// Reserved.
                reserved0 / with_reserved0: u16 = 14,
                /// Client that owns the pair.
                client / with_client: u16 = 16,
                /// PCI function the pair belongs to; 0 for now.
                function / with_function: u16 = 16,
                /// Most plan slots that its commands hold at once; what is above stays in the ring. 0: no limit.
                slots / with_slots: u16 = 16,
                /// 1: its commands may take the slots, too, that are kept in reserve for the control path: one in 32.
                reserve / with_reserve: u8 = 1,
                /// Reserved.
                reserved1 / with_reserved1: u16 = 15,
            }
        }
    };
}
queue_entry!(packed_record);

/// A card keeps one plan slot in 2^`RESERVE_SHIFT`, and one at least, for the queues that say `QueueEntry::reserve`.
pub const RESERVE_SHIFT: u32 = 5;

/// Hands the layout of a queue pair's live state to `$make`.
#[macro_export]
macro_rules! queue_state {
    ($make:ident) => {
        $make! {
            /// Live state of a queue pair.
            QueueState: 128 {
                /// Next entry the card fetches.
                sq_head / with_sq_head: u16 = 16,
                /// Last submission doorbell.
                sq_tail / with_sq_tail: u16 = 16,
                /// Last completion doorbell.
                cq_head / with_cq_head: u16 = 16,
                /// Next entry the card reserves in the completion ring.
                cq_reserved / with_cq_reserved: u16 = 16,
                /// Next entry the card writes in the completion ring.
                cq_tail / with_cq_tail: u16 = 16,
                /// Commands fetched and not yet completed.
                outstanding / with_outstanding: u16 = 16,
                /// Phase tag of the next completion.
                phase / with_phase: u8 = 1,
                /// 1: a doorbell beyond the ring, or a failed fetch, stopped the pair.
                stopped / with_stopped: u8 = 1,
                /// Reserved.
                reserved / with_reserved: u32 = 30,
            }
        }
    };
}
queue_state!(packed_record);

/// Hands the layout of a virtual disk's quota to `$make`.
#[macro_export]
macro_rules! quota_entry {
    ($make:ident) => {
        $make! {
            /// A virtual disk's quota. Commands that would exceed it stay in their rings, and with each the queue it is
            /// of; nobody else waits. A quota that is lowered holds for what is admitted later.
            QuotaEntry: 32 {
                /// Most plan slots that its commands hold at once; 0: no limit.
                slots / with_slots: u16 = 16,
                /// Reserved.
                reserved / with_reserved: u16 = 16,
            }
        }
    };
}
quota_entry!(packed_record);

/// Hands the layout of the epochs to `$make`.
#[macro_export]
macro_rules! epoch_state {
    ($make:ident) => {
        $make! {
            /// Epochs, counted modulo 2^32. One is open while a command that was admitted in it is the card's, and
            /// closed when it and all before it have none.
            EpochState: 64 {
                /// That of commands that are admitted now.
                current / with_current: u32 = 32,
                /// The oldest that is not closed.
                oldest / with_oldest: u32 = 32,
            }
        }
    };
}
epoch_state!(packed_record);

impl EpochState {
    /// Whether an epoch that a commit gave is closed.
    pub const fn is_closed(&self, epoch: u32) -> bool {
        // Open ones are few, and no commit gives one that is to come.
        self.current().wrapping_sub(epoch) > self.current().wrapping_sub(self.oldest())
    }
}

/// Hands the layout of a virtual disk's entry to `$make`.
#[macro_export]
macro_rules! vd_entry {
    ($make:ident) => {
        $make! {
            /// A virtual disk.
            VdEntry: 256 {
                /// Size in blocks.
                size_blocks / with_size_blocks: u64 = 48,
                /// Status: see `vd_status`.
                status / with_status: u8 = 4,
                /// log2 of the block size in bytes: 9 to 12.
                block_shift / with_block_shift: u8 = 4,
                /// log2 of the blocks of an allocation: at least 1 MiB, at most 2^32 blocks.
                allocation_shift / with_allocation_shift: u8 = 8,
                /// Index of allocation 0 in the allocation table.
                map_root / with_map_root: u32 = 32,
                /// Bit i: device i holds blocks of the disk, so a Flush goes to it.
                flush_devices / with_flush_devices: u32 = 32,
                /// Its plan template, whose components bring their own maps; 0: the disk's own map alone.
                plan / with_plan: u16 = 16,
                /// Reserved for the class of service and the statistics directive.
                reserved0 / with_reserved0: u64 = 48,
                /// Reserved.
                reserved1 / with_reserved1: u64 = 64,
            }
        }
    };
}
vd_entry!(packed_record);

/// Values of `VdEntry::status`.
pub mod vd_status {
    /// No such disk: Invalid Namespace or Format.
    pub const ABSENT: u8 = 0;
    /// I/O is executed.
    pub const ENABLED: u8 = 1;
    /// I/O is refused with Namespace Not Ready.
    pub const DEACTIVATED: u8 = 2;
}

/// Hands the layout of an allocation's entry to `$make`.
#[macro_export]
macro_rules! allocation_entry {
    ($make:ident) => {
        $make! {
            /// An allocation of a map. Stripe unit `u` (2^stripe_shift blocks) number `n` of the
            /// allocation lies in column `n mod columns`, row `n div columns`. Row blocks of a
            /// column are cut into extents of 2^extent_shift blocks; extent `k` of column `c` is
            /// entry `first_extent + k × columns + c` of the extent table.
            AllocationEntry: 72 {
                /// Index of the first extent.
                first_extent / with_first_extent: u32 = 32,
                /// Columns, 1 to 16; 1 is linear.
                columns / with_columns: u8 = 8,
                /// log2 of the blocks of a stripe unit, 0 to 32.
                stripe_shift / with_stripe_shift: u8 = 8,
                /// log2 of the blocks of an extent, stripe_shift to 32.
                extent_shift / with_extent_shift: u8 = 8,
                /// 1: the entry is valid.
                valid / with_valid: u8 = 1,
                /// Reserved.
                reserved / with_reserved: u16 = 15,
            }
        }
    };
}
allocation_entry!(packed_record);

/// Hands the layout of an extent's entry to `$make`.
#[macro_export]
macro_rules! extent_entry {
    ($make:ident) => {
        $make! {
            /// An extent: where a run of blocks lies.
            ExtentEntry: 72 {
                /// First block on the device.
                start / with_start: u64 = 48,
                /// Device.
                device / with_device: u16 = 16,
                /// Reads: see `extent_action`.
                read_action / with_read_action: u8 = 2,
                /// Writes: see `extent_action`; never zero.
                write_action / with_write_action: u8 = 2,
                /// 1: the entry is valid.
                valid / with_valid: u8 = 1,
                /// Reserved.
                reserved / with_reserved: u8 = 3,
            }
        }
    };
}
extent_entry!(packed_record);

/// Values of `ExtentEntry::read_action` and `write_action`.
pub mod extent_action {
    /// The I/O goes to the device.
    pub const GO: u8 = 0;
    /// The I/O is an exception.
    pub const FAULT: u8 = 1;
    /// Reads see zeros.
    pub const ZERO: u8 = 2;
}

/// Hands the layout of a device's entry to `$make`.
#[macro_export]
macro_rules! device_entry {
    ($make:ident) => {
        $make! {
            /// A physical device, an NVMe namespace.
            DeviceEntry: 128 {
                /// NSID on its controller.
                namespace_id / with_namespace_id: u32 = 32,
                /// Most blocks of a Read or Write (MDTS), 1 and up.
                transfer_limit / with_transfer_limit: u32 = 17,
                /// Most blocks of a Write Zeroes (WZSL), 1 and up.
                write_zeroes_limit / with_write_zeroes_limit: u32 = 17,
                /// Number of the first path to it.
                path / with_path: u8 = 8,
                /// 1: the entry is valid.
                valid / with_valid: u8 = 1,
                /// Further paths to it, 0 to 3.
                more_paths / with_more_paths: u8 = 2,
                /// Which path a fragment takes first: see `plan::path_policy`.
                path_policy / with_path_policy: u8 = 2,
                /// Reserved.
                reserved / with_reserved: u32 = 17,
                /// Number of the second path.
                path1 / with_path1: u8 = 8,
                /// Number of the third path.
                path2 / with_path2: u8 = 8,
                /// Number of the fourth path.
                path3 / with_path3: u8 = 8,
                /// Reserved.
                reserved1 / with_reserved1: u8 = 8,
            }
        }
    };
}
device_entry!(packed_record);

/// Hands the layout of a path's entry to `$make`.
#[macro_export]
macro_rules! path_entry {
    ($make:ident) => {
        $make! {
            /// A path: one queue pair of an NVMe controller. Its completion queue is window `index`
            /// of BAR2, or in host memory (`PathCompletions`, written before). Writing the entry resets its
            /// pointers; the writer first recreates the controller's queue, and either has seen that nothing is
            /// outstanding (`PathState`), or ends what was with `control_opcode::PATH_QUIESCED` after. When the
            /// command that wrote it has completed, the card neither writes to the queues of before nor rings
            /// their doorbells.
            PathEntry: 256 {
                /// Submission queue in host memory, 4 KiB aligned.
                sq_base / with_sq_base: u64 = 64,
                /// Bus address of the submission queue's tail doorbell.
                sq_doorbell / with_sq_doorbell: u64 = 64,
                /// Bus address of the completion queue's head doorbell.
                cq_doorbell / with_cq_doorbell: u64 = 64,
                /// Entries of the submission queue − 1.
                sq_size_z / with_sq_size_z: u16 = 16,
                /// Entries of the completion queue − 1.
                cq_size_z / with_cq_size_z: u16 = 16,
                /// Most identifiers in use, at most min(SQ, CQ) − 1 entries.
                limit / with_limit: u16 = 16,
                /// Submission mode: see `submission_mode`.
                submission_mode / with_submission_mode: u8 = 2,
                /// 1: the entry is valid.
                valid / with_valid: u8 = 1,
                /// 1: not valid now, but being made anew: what finds no path waits for the entry's next writing.
                renewing / with_renewing: u8 = 1,
                /// Completion mode: see `completion_mode`. In an entry that is not valid: whether the queue that
                /// the path had in host memory is still read.
                completion_mode / with_completion_mode: u8 = 2,
                /// Reserved.
                reserved / with_reserved: u16 = 10,
            }
        }
    };
}
path_entry!(packed_record);

/// Values of `PathEntry::submission_mode`.
pub mod submission_mode {
    /// The doorbell follows the entry on the bus; the operator has proven the topology.
    pub const DIRECT: u8 = 0;
    /// A read of the batch's last entry returns before the doorbell is written.
    pub const FENCED: u8 = 1;
}

/// Values of `PathEntry::completion_mode`.
pub mod completion_mode {
    /// The SSD writes its completions into the path's window of BAR2; the operator has proven that they do not
    /// overtake the data in host memory.
    pub const WINDOW: u8 = 0;
    /// The SSD writes them to host memory, behind the data, where the card reads them.
    pub const HOST: u8 = 1;
}

/// Hands the layout of the place of a path's completion queue to `$make`.
#[macro_export]
macro_rules! path_completions {
    ($make:ident) => {
        $make! {
            /// Where the completion queue of a path is in host memory: up to 4,096 entries. Writing it ends the
            /// reading of the queue that was there; its bytes are zeroed after that, and before the controller's
            /// queue is created. With the next writing of the path's entry as valid reading begins at entry 0.
            PathCompletions: 64 {
                /// The queue, 4 KiB aligned.
                base / with_base: u64 = 64,
            }
        }
    };
}
path_completions!(packed_record);

/// Hands the layout of a path's live state to `$make`.
#[macro_export]
macro_rules! path_state {
    ($make:ident) => {
        $make! {
            /// Live state of a path.
            PathState: 128 {
                /// Next submission entry the card writes.
                sq_tail / with_sq_tail: u16 = 16,
                /// Submission head, as last reported by the SSD.
                sq_head / with_sq_head: u16 = 16,
                /// Tail the SSD was last told.
                sq_rung / with_sq_rung: u16 = 16,
                /// Next completion entry the card expects.
                cq_head / with_cq_head: u16 = 16,
                /// Fragments issued, modulo 2^16.
                issued / with_issued: u16 = 16,
                /// Fragments returned, modulo 2^16.
                returned / with_returned: u16 = 16,
                /// Reserved.
                reserved / with_reserved: u32 = 32,
            }
        }
    };
}
path_state!(packed_record);
