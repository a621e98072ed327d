//! The sizes a build chooses; everything else in the RTL follows from them.

use volplane_abi::RESERVE_SHIFT;

/// Sizes of one build of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// log2 of the queue pairs, the control ring included: at most 5.
    pub queue_bits: usize,
    /// log2 of the virtual disks.
    pub vd_bits: usize,
    /// log2 of the allocations.
    pub allocation_bits: usize,
    /// log2 of the extents.
    pub extent_bits: usize,
    /// log2 of the devices: at most 5.
    pub device_bits: usize,
    /// log2 of the paths: at most 5.
    pub path_bits: usize,
    /// log2 of the plan templates: at most 13.
    pub plan_bits: usize,
    /// log2 of the divert ranges: at most 8.
    pub divert_bits: usize,
    /// log2 of the blocks' locks: at least 9, at most 16.
    pub lock_bits: usize,
    /// log2 of the plan slots: at most 12.
    pub slot_bits: usize,
    /// log2 of the fragment identifiers: at most 11.
    pub id_bits: usize,
    /// log2 of the interrupt vectors: at most 5.
    pub vector_bits: usize,
}

impl Sizes {
    /// The simulated default.
    pub const DEFAULT: Sizes = Sizes {
        queue_bits: 5,
        vd_bits: 8,
        allocation_bits: 10,
        extent_bits: 13,
        device_bits: 4,
        path_bits: 5,
        plan_bits: 8,
        divert_bits: 6,
        lock_bits: 14,
        slot_bits: 10,
        id_bits: 11,
        vector_bits: 5,
    };

    /// What fits an LFE5UM5G-85 within 176 block RAMs.
    pub const ECP5: Sizes =
        Sizes { extent_bits: 12, slot_bits: 9, id_bits: 10, plan_bits: 7, ..Sizes::DEFAULT };

    /// Plan slots that are kept for the control path's own commands.
    pub fn reserved_slots(&self) -> u64 {
        ((1u64 << self.slot_bits) >> RESERVE_SHIFT).max(1)
    }
}
