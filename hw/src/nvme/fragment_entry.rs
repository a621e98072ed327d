//! The submission queue entry of a fragment, and its range when it is a Dataset Management.
//!
//! Purpose: lays a `Fragment` out as the SSD reads it. Flush has neither blocks nor buffer; Dataset
//! Management names one range, in card-owned host memory at `range_address`, to be deallocated.
//! Handshake: none, combinational. Failure: none; `Fragment`s are well-formed.

use rust_hdl::prelude::*;

use crate::records::{DeallocateRange, Fragment, SmallWrite, SubmissionEntry};

/// Attribute "deallocate" of Dataset Management: CDW11 bit 2 (NVM Command Set 1.0, figure 38), that
/// is bit 34 of the entry's `starting_lba`; CDW10, the number of ranges − 1, is 0.
const ATTRIBUTE_DEALLOCATE: u64 = 1 << 34;

/// Fragment to entry.
#[derive(Clone, Debug, LogicBlock)]
pub struct FragmentEntry {
    pub fragment: Signal<In, Fragment>,
    /// Of the fragment's opcode: it is a Flush, a Dataset Management.
    pub is_flush: Signal<In, bool>,
    pub is_ranged: Signal<In, bool>,
    pub id: Signal<In, Bits<16>>,
    pub range_address: Signal<In, Bits<64>>,
    pub entry: Signal<Out, SubmissionEntry>,
    /// To be written before the entry of a Dataset Management.
    pub range: Signal<Out, SmallWrite>,
    made: Signal<Local, SubmissionEntry>,
    range_data: Signal<Local, DeallocateRange>,
    blocks: Signal<Local, Bits<17>>,
    blocks_z: Signal<Local, Bits<17>>,
    deallocate_attribute: Constant<Bits<64>>,
    one17: Constant<Bits<17>>,
    one1: Constant<Bits<1>>,
    zero32: Constant<Bits<32>>,
    zero512: Constant<Bits<512>>,
}

impl Default for FragmentEntry {
    fn default() -> Self {
        Self {
            fragment: Default::default(),
            id: Default::default(),
            range_address: Default::default(),
            entry: Default::default(),
            range: Default::default(),
            made: Default::default(),
            range_data: Default::default(),
            blocks: Default::default(),
            blocks_z: Default::default(),
            is_flush: Default::default(),
            is_ranged: Default::default(),
            deallocate_attribute: Constant::new(ATTRIBUTE_DEALLOCATE.to_bits()),
            one17: Constant::new(1u64.to_bits()),
            one1: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            zero512: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for FragmentEntry {
    #[hdl_gen]
    fn update(&mut self) {
        self.blocks.next = self.fragment.val().blocks;
        self.blocks_z.next = self.blocks.val() - self.one17.val();
        self.made.next = self.zero512.val().into();
        self.made.next.opcode = self.fragment.val().opcode;
        self.made.next.command_id = self.id.val();
        self.made.next.namespace_id = self.fragment.val().namespace_id;
        if self.is_ranged.val() {
            self.made.next.prp1 = self.range_address.val();
            self.made.next.starting_lba = self.deallocate_attribute.val();
        } else if !self.is_flush.val() {
            self.made.next.prp1 = self.fragment.val().prp1;
            self.made.next.prp2 = self.fragment.val().prp2;
            self.made.next.starting_lba = bit_cast::<64, 48>(self.fragment.val().lba);
            self.made.next.block_count_z = self.blocks_z.val().get_bits::<16>(0);
            self.made.next.deallocate = self.fragment.val().deallocate;
            self.made.next.force_unit_access = self.fragment.val().force_unit_access;
            self.made.next.limited_retry = self.fragment.val().limited_retry;
            self.made.next.cdw13 = self.fragment.val().cdw13;
        }
        self.entry.next = self.made.val();

        self.range_data.next.attributes = self.zero32.val();
        self.range_data.next.block_count = bit_cast::<32, 17>(self.blocks.val());
        self.range_data.next.starting_lba = bit_cast::<64, 48>(self.fragment.val().lba);
        self.range.next.address = self.range_address.val();
        self.range.next.data = self.range_data.val().into();
        self.range.next.quad = self.one1.val();
    }
}
