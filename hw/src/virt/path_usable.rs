//! Whether a path has a valid entry. Registered: latency 2 cycles from `number`, 3 from `path_valid`; one a
//! cycle. No reset.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, Default, LogicBlock)]
pub struct PathUsable {
    pub clock: Signal<In, Clock>,
    /// Numbers beyond the paths are never valid.
    pub number: Signal<In, Bits<8>>,
    /// Bit i: path i has a valid entry.
    pub path_valid: Signal<In, Bits<32>>,
    pub usable: Signal<Out, bool>,

    paths: DFF<Bits<32>>,
    /// Paths whose numbers have the same lowest 3 bits, and the number's other bits.
    alike: DFF<Bits<4>>,
    rest: DFF<Bits<5>>,
    usable_register: DFF<bool>,
    lowest: Signal<Local, Bits<3>>,
    shifted: Signal<Local, Bits<32>>,
    alike_wide: Signal<Local, Bits<5>>,
    found: Signal<Local, Bits<5>>,
}

impl Logic for PathUsable {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, paths, alike, rest, usable_register);
        self.paths.d.next = self.path_valid.val();
        self.lowest.next = self.number.val().get_bits::<3>(0);
        self.shifted.next = (self.paths.q.val() >> bit_cast::<32, 3>(self.lowest.val()));
        self.alike.d.next = bit_cast::<4, 1>(self.shifted.val().get_bits::<1>(0))
            | (bit_cast::<4, 1>(self.shifted.val().get_bits::<1>(8)) << 1)
            | (bit_cast::<4, 1>(self.shifted.val().get_bits::<1>(16)) << 2)
            | (bit_cast::<4, 1>(self.shifted.val().get_bits::<1>(24)) << 3);
        self.rest.d.next = self.number.val().get_bits::<5>(3);
        self.alike_wide.next = bit_cast::<5, 4>(self.alike.q.val());
        self.found.next = (self.alike_wide.val() >> self.rest.q.val());
        self.usable_register.d.next = self.found.val().get_bit(0);
        self.usable.next = self.usable_register.q.val();
    }
}
