//! Finds the address of a PRP list's entry.
//!
//! The list begins where PRP2 points; the last slot of that page holds entry `last_slot` or, where the
//! list is `chained`, a pointer to the page of that entry and those after it. While the pointer is not
//! known (`chain_valid`), it is what is found in place of such an entry. No handshake, no reset: `address`
//! and `is_chain` are right a cycle after `index`, `chained` and `last_slot`.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct ListSlot {
    pub clock: Signal<In, Clock>,
    pub prp2: Signal<In, Bits<64>>,
    /// Entries before the last slot of the first page.
    pub last_slot: Signal<In, Bits<10>>,
    pub chained: Signal<In, bool>,
    pub chain: Signal<In, Bits<64>>,
    pub chain_valid: Signal<In, bool>,
    pub index: Signal<In, Bits<10>>,
    pub address: Signal<Out, Bits<64>>,
    /// It is the chain pointer's.
    pub is_chain: Signal<Out, bool>,

    in_second: DFF<bool>,
    first_number: DFF<Bits<9>>,
    second_number: DFF<Bits<9>>,
    prp2_slot: Signal<Local, Bits<9>>,
    index_low: Signal<Local, Bits<9>>,
    last_slot_low: Signal<Local, Bits<9>>,
    base: Signal<Local, Bits<64>>,
    number: Signal<Local, Bits<9>>,
    page_mask: Constant<Bits<64>>,
    chain_slot: Constant<Bits<9>>,
}

impl Default for ListSlot {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            prp2: Default::default(),
            last_slot: Default::default(),
            chained: Default::default(),
            chain: Default::default(),
            chain_valid: Default::default(),
            index: Default::default(),
            address: Default::default(),
            is_chain: Default::default(),
            in_second: Default::default(),
            first_number: Default::default(),
            second_number: Default::default(),
            prp2_slot: Default::default(),
            index_low: Default::default(),
            last_slot_low: Default::default(),
            base: Default::default(),
            number: Default::default(),
            page_mask: Constant::new((!0xFFFu64).to_bits()),
            chain_slot: Constant::new(511u64.to_bits()),
        }
    }
}

impl Logic for ListSlot {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, in_second, first_number, second_number);
        self.prp2_slot.next = self.prp2.val().get_bits::<9>(3);
        self.index_low.next = self.index.val().get_bits::<9>(0);
        self.last_slot_low.next = self.last_slot.val().get_bits::<9>(0);
        self.in_second.d.next = self.chained.val() & (self.index.val() >= self.last_slot.val());
        self.first_number.d.next = self.prp2_slot.val() + self.index_low.val();
        self.second_number.d.next = self.index_low.val() - self.last_slot_low.val();

        self.base.next = (self.prp2.val() & self.page_mask.val());
        self.number.next = self.first_number.q.val();
        if self.in_second.q.val() {
            self.number.next = self.chain_slot.val();
            if self.chain_valid.val() {
                self.base.next = self.chain.val();
                self.number.next = self.second_number.q.val();
            }
        }
        self.address.next = self.base.val() | (bit_cast::<64, 9>(self.number.val()) << 3);
        self.is_chain.next = self.in_second.q.val() & !self.chain_valid.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn every_entry_has_its_slot() {
        let mut bench = Bench::new("list_slot", ListSlot::default());
        let mut random = seeded();
        for _ in 0..20_000 {
            let slot = random.random_range(0..512u64);
            let (page, chain) = (random.random::<u64>() & !0xFFF, random.random::<u64>() & !0xFFF);
            let (chained, known) = (random.random_bool(0.7), random.random_bool(0.5));
            let last_slot = 511 - slot;
            let most = if chained { last_slot + 511 } else { last_slot };
            let index = random.random_range(0..=most.min(1023));
            bench.set("prp2", (page + slot * 8).into());
            bench.set("last_slot", last_slot.into());
            bench.set("chained", chained.into());
            bench.set("chain", chain.into());
            bench.set("chain_valid", known.into());
            bench.set("index", index.into());
            bench.cycle();
            let second = chained && index >= last_slot;
            let wanted = match (second, known) {
                (false, _) => page + (slot + index) * 8,
                (true, true) => chain + (index - last_slot) * 8,
                (true, false) => page + 511 * 8,
            };
            assert_eq!(bench.get("address") as u64, wanted);
            assert_eq!(bench.get("is_chain") == 1, second && !known);
        }
    }
}
