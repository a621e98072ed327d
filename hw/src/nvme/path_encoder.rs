//! The number of the lowest bit set of 32, in two steps: the group of eight, then the bit in it.
//!
//! Handshake: none, combinational; `lowest` means nothing while no candidate is set.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PathEncoder {
    pub candidates: Signal<In, Bits<32>>,
    pub lowest: Signal<Out, Bits<8>>,
    group: [Signal<Local, Bits<8>>; 4],
    within: [Signal<Local, Bits<8>>; 4],
    base: [Constant<Bits<8>>; 4],
}

impl Default for PathEncoder {
    fn default() -> Self {
        Self {
            candidates: Default::default(),
            lowest: Default::default(),
            group: Default::default(),
            within: Default::default(),
            base: std::array::from_fn(|i| Constant::new((8 * i as u64).to_bits())),
        }
    }
}

impl Logic for PathEncoder {
    #[hdl_gen]
    fn update(&mut self) {
        for i in 0..4 {
            self.group[i].next = self.candidates.val().get_bits::<8>(8 * i);
            self.within[i].next = bits::<8>(7);
            for j in 1..8 {
                if self.group[i].val().get_bit(7 - j) {
                    self.within[i].next = (7 - j).to_bits();
                }
            }
        }
        self.lowest.next = self.base[3].val() | self.within[3].val();
        if self.group[0].val().any() {
            self.lowest.next = self.within[0].val();
        } else if self.group[1].val().any() {
            self.lowest.next = self.base[1].val() | self.within[1].val();
        } else if self.group[2].val().any() {
            self.lowest.next = self.base[2].val() | self.within[2].val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn finds_the_lowest_bit() {
        let mut bench = Bench::new("path_encoder", PathEncoder::default());
        let mut random = seeded();
        let single = (0..32).map(|i| 1u32 << i);
        let many = (0..20_000).map(|_| random.random::<u32>() << random.random_range(0..32u32));
        for candidates in single.chain(many).filter(|&c| c != 0) {
            bench.set("candidates", candidates.into());
            bench.eval();
            assert_eq!(bench.get("lowest"), candidates.trailing_zeros().into(), "{candidates:#x}");
        }
    }
}
