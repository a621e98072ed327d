//! One limb of a long division by a number of columns.
//!
//! `value = remainder × 2^11 + limb` is divided by 1 to 16: the quotient has 11 bits because the
//! remainder in is below the divisor. The quotient is the upper part of one product with a
//! reciprocal, exact for every such value (the test tries all); of the remainder only four bits
//! exist, so it is computed modulo 16. No handshake, no stall. Latency: 4 cycles. Throughput: one a
//! cycle.

use rust_hdl::prelude::*;

crate::logic_record! {
    /// A divisor, prepared: value div divisor = (value × 2^scale × multiplier) div 2^19.
    Reciprocal: 23 {
        /// Multiplier.
        multiplier = 16,
        /// Bits by which the value is scaled before.
        scale = 3,
        /// The divisor modulo 16.
        divisor = 4,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct DivisionStep {
    pub clock: Signal<In, Clock>,
    pub remainder: Signal<In, Bits<4>>,
    pub limb: Signal<In, Bits<11>>,
    pub by: Signal<In, Reciprocal>,
    pub quotient: Signal<Out, Bits<11>>,
    pub rest: Signal<Out, Bits<4>>,
    /// `by`, for the next step.
    pub by_next: Signal<Out, Reciprocal>,

    scaled: DFF<Bits<16>>,
    scaled_low: DFF<Bits<4>>,
    scaled_by: DFF<Reciprocal>,
    product: DFF<Bits<32>>,
    product_low: DFF<Bits<4>>,
    product_by: DFF<Reciprocal>,
    /// The product again: a multiplier takes most of a cycle, its registers must lie beside it.
    moved: DFF<Bits<32>>,
    moved_low: DFF<Bits<4>>,
    moved_by: DFF<Reciprocal>,
    quotient_register: DFF<Bits<11>>,
    rest_register: DFF<Bits<4>>,
    by_register: DFF<Reciprocal>,
    value: Signal<Local, Bits<16>>,
    scale: Signal<Local, Bits<16>>,
    multiplier: Signal<Local, Bits<16>>,
    quotient_low: Signal<Local, Bits<4>>,
    divisor: Signal<Local, Bits<4>>,
    once: Signal<Local, Bits<4>>,
    twice: Signal<Local, Bits<4>>,
    four_times: Signal<Local, Bits<4>>,
    eight_times: Signal<Local, Bits<4>>,
    zero: Constant<Bits<4>>,
}

impl Default for DivisionStep {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            remainder: Default::default(),
            limb: Default::default(),
            by: Default::default(),
            quotient: Default::default(),
            rest: Default::default(),
            by_next: Default::default(),
            scaled: Default::default(),
            scaled_low: Default::default(),
            scaled_by: Default::default(),
            product: Default::default(),
            product_low: Default::default(),
            product_by: Default::default(),
            moved: Default::default(),
            moved_low: Default::default(),
            moved_by: Default::default(),
            quotient_register: Default::default(),
            rest_register: Default::default(),
            by_register: Default::default(),
            value: Default::default(),
            scale: Default::default(),
            multiplier: Default::default(),
            quotient_low: Default::default(),
            divisor: Default::default(),
            once: Default::default(),
            twice: Default::default(),
            four_times: Default::default(),
            eight_times: Default::default(),
            zero: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for DivisionStep {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            scaled,
            scaled_low,
            scaled_by,
            product,
            product_low,
            product_by,
            moved,
            moved_low,
            moved_by,
            quotient_register,
            rest_register,
            by_register
        );
        self.value.next =
            (bit_cast::<16, 4>(self.remainder.val()) << 11) | bit_cast::<16, 11>(self.limb.val());
        self.scale.next = bit_cast::<16, 3>(self.by.val().scale);
        self.scaled.d.next = (self.value.val() << self.scale.val());
        self.scaled_low.d.next = self.value.val().get_bits::<4>(0);
        self.scaled_by.d.next = self.by.val();

        self.multiplier.next = self.scaled_by.q.val().multiplier;
        self.product.d.next = self.scaled.q.val() * self.multiplier.val();
        self.product_low.d.next = self.scaled_low.q.val();
        self.product_by.d.next = self.scaled_by.q.val();

        self.moved.d.next = self.product.q.val();
        self.moved_low.d.next = self.product_low.q.val();
        self.moved_by.d.next = self.product_by.q.val();

        // rest = value - quotient × divisor, modulo 16.
        self.quotient_low.next = self.moved.q.val().get_bits::<4>(19);
        self.divisor.next = self.moved_by.q.val().divisor;
        self.once.next = self.zero.val();
        self.twice.next = self.zero.val();
        self.four_times.next = self.zero.val();
        self.eight_times.next = self.zero.val();
        if self.divisor.val().get_bit(0) {
            self.once.next = self.quotient_low.val();
        }
        if self.divisor.val().get_bit(1) {
            self.twice.next = (self.quotient_low.val() << 1);
        }
        if self.divisor.val().get_bit(2) {
            self.four_times.next = (self.quotient_low.val() << 2);
        }
        if self.divisor.val().get_bit(3) {
            self.eight_times.next = (self.quotient_low.val() << 3);
        }
        self.rest_register.d.next = (self.moved_low.q.val() - (self.once.val() + self.twice.val()))
            - (self.four_times.val() + self.eight_times.val());
        self.quotient_register.d.next = self.moved.q.val().get_bits::<11>(19);
        self.by_register.d.next = self.moved_by.q.val();

        self.quotient.next = self.quotient_register.q.val();
        self.rest.next = self.rest_register.q.val();
        self.by_next.next = self.by_register.q.val();
    }
}

/// The reciprocal of each number of columns: multiplier and scale.
pub const RECIPROCALS: [(u64, u64); 16] = [
    (32768, 4),
    (32768, 3),
    (43691, 2),
    (32768, 2),
    (52429, 1),
    (43691, 1),
    (37450, 1),
    (32768, 1),
    (58255, 0),
    (52429, 0),
    (47663, 0),
    (43691, 0),
    (40330, 0),
    (37450, 0),
    (34953, 0),
    (32768, 0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;

    #[test]
    fn every_value_of_every_divisor() {
        let mut bench = Bench::new("division_step", DivisionStep::default());
        for divisor in 1..=16u64 {
            let (multiplier, scale) = RECIPROCALS[divisor as usize - 1];
            bench.set("by", u128::from(multiplier | scale << 16 | (divisor % 16) << 19));
            let values = divisor << 11;
            for t in 0..values + 4 {
                bench.set("remainder", u128::from((t >> 11) % 16));
                bench.set("limb", u128::from(t & 0x7FF));
                bench.eval();
                if let Some(value) = t.checked_sub(4) {
                    assert_eq!(bench.get("quotient") as u64, value / divisor, "{value} div {divisor}");
                    assert_eq!(bench.get("rest") as u64, value % divisor, "{value} mod {divisor}");
                }
                bench.cycle();
            }
        }
    }
}
