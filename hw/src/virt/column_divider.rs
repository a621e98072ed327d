//! Finds row, column and place in the stripe unit of a block of an allocation.
//!
//! The stripe unit's number (offset div 2^stripe_shift, 32 bits) is divided by the number of columns
//! in three limbs of 10, 11 and 11 bits. Beside the location come `space`, the blocks from the offset
//! to the end of its unit, and `unit`, the blocks of a whole unit, both at most 65,536, which is more
//! than any command has.
//!
//! Handshake: a pipeline that never stalls. Latency: 14 cycles. Throughput: one a cycle, in order.
//! Reset empties it. Columns of 0 or above 16, or a shift above 32, give an arbitrary answer in time.

use rust_hdl::prelude::*;

use super::delay_line::DelayLine;
use super::division_step::{DivisionStep, Reciprocal, RECIPROCALS};
use crate::records::Location;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct ColumnDivider {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub valid: Signal<In, bool>,
    pub offset: Signal<In, Bits<32>>,
    pub stripe_shift: Signal<In, Bits<8>>,
    pub columns: Signal<In, Bits<8>>,
    pub out_valid: Signal<Out, bool>,
    pub location: Signal<Out, Location>,
    pub space: Signal<Out, Bits<17>>,
    pub unit: Signal<Out, Bits<17>>,
    pub idle: Signal<Out, bool>,

    valids: DFF<Bits<14>>,
    // Cycle 1: shifted by multiples of 8. `above` has the bits at and above the shift set.
    shifted1: DFF<Bits<32>>,
    above1: DFF<Bits<32>>,
    offset1: DFF<Bits<32>>,
    fine1: DFF<Bits<32>>,
    columns1: DFF<Bits<8>>,
    // Cycle 2: shifted; the divisor's reciprocal.
    number2: DFF<Bits<32>>,
    above2: DFF<Bits<32>>,
    offset2: DFF<Bits<32>>,
    by2: DFF<Reciprocal>,
    // Cycle 3: the part within the unit, and what follows it there.
    within3: DFF<Bits<32>>,
    after3: DFF<Bits<32>>,
    unit3: DFF<Bits<32>>,
    // Cycle 4: at most 65,536, less one. Cycle 5: plus one.
    space4: DFF<Bits<17>>,
    unit4: DFF<Bits<17>>,
    space5: DFF<Bits<17>>,
    unit5: DFF<Bits<17>>,
    high: DivisionStep,
    middle: DivisionStep,
    low: DivisionStep,
    middle_limb: DelayLine<Bits<11>>,
    low_limb: DelayLine<Bits<11>>,
    high_quotient: DelayLine<Bits<11>>,
    middle_quotient: DelayLine<Bits<11>>,
    unit_offset: DelayLine<Bits<32>>,
    space_line: DelayLine<Bits<17>>,
    unit_line: DelayLine<Bits<17>>,

    shift: Signal<Local, Bits<32>>,
    coarse: Signal<Local, Bits<32>>,
    count: Signal<Local, Bits<4>>,
    after_upper: Signal<Local, Bits<16>>,
    unit_upper: Signal<Local, Bits<16>>,
    row_upper: Signal<Local, Bits<32>>,
    reciprocals: [Constant<Reciprocal>; 16],
    counts: [Constant<Bits<4>>; 16],
    coarse_mask: Constant<Bits<32>>,
    fine_mask: Constant<Bits<32>>,
    ones: Constant<Bits<32>>,
    no_remainder: Constant<Bits<4>>,
    most_z: Constant<Bits<17>>,
    first_stage: Constant<Bits<14>>,
    one: Constant<Bits<17>>,
    empty: Constant<Bits<14>>,
}

impl Default for ColumnDivider {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            valid: Default::default(),
            offset: Default::default(),
            stripe_shift: Default::default(),
            columns: Default::default(),
            out_valid: Default::default(),
            location: Default::default(),
            space: Default::default(),
            unit: Default::default(),
            idle: Default::default(),
            valids: Default::default(),
            shifted1: Default::default(),
            above1: Default::default(),
            offset1: Default::default(),
            fine1: Default::default(),
            columns1: Default::default(),
            number2: Default::default(),
            above2: Default::default(),
            offset2: Default::default(),
            by2: Default::default(),
            within3: Default::default(),
            after3: Default::default(),
            unit3: Default::default(),
            space4: Default::default(),
            unit4: Default::default(),
            space5: Default::default(),
            unit5: Default::default(),
            high: Default::default(),
            middle: Default::default(),
            low: Default::default(),
            middle_limb: DelayLine::new(4),
            low_limb: DelayLine::new(8),
            high_quotient: DelayLine::new(8),
            middle_quotient: DelayLine::new(4),
            unit_offset: DelayLine::new(11),
            space_line: DelayLine::new(9),
            unit_line: DelayLine::new(9),
            shift: Default::default(),
            coarse: Default::default(),
            count: Default::default(),
            after_upper: Default::default(),
            unit_upper: Default::default(),
            row_upper: Default::default(),
            reciprocals: std::array::from_fn(|i| Constant::new(Self::reciprocal(i as u64 + 1))),
            counts: std::array::from_fn(|i| Constant::new(((i as u64 + 1) % 16).to_bits())),
            coarse_mask: Constant::new(0x38u64.to_bits()),
            fine_mask: Constant::new(7u64.to_bits()),
            ones: Constant::new(u64::from(u32::MAX).to_bits()),
            no_remainder: Constant::new(0u64.to_bits()),
            most_z: Constant::new(0xFFFFu64.to_bits()),
            first_stage: Constant::new(1u64.to_bits()),
            one: Constant::new(1u64.to_bits()),
            empty: Constant::new(0u64.to_bits()),
        }
    }
}

impl ColumnDivider {
    fn reciprocal(columns: u64) -> Reciprocal {
        let (multiplier, scale) = RECIPROCALS[columns as usize - 1];
        Reciprocal {
            multiplier: multiplier.to_bits(),
            scale: scale.to_bits(),
            divisor: (columns % 16).to_bits(),
        }
    }
}

impl Logic for ColumnDivider {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self, clock, valids, shifted1, above1, offset1, fine1, columns1, number2, above2, offset2, by2,
            within3, after3, unit3, space4, unit4, space5, unit5
        );
        self.high.clock.next = self.clock.val();
        self.middle.clock.next = self.clock.val();
        self.low.clock.next = self.clock.val();
        self.middle_limb.clock.next = self.clock.val();
        self.low_limb.clock.next = self.clock.val();
        self.high_quotient.clock.next = self.clock.val();
        self.middle_quotient.clock.next = self.clock.val();
        self.unit_offset.clock.next = self.clock.val();
        self.space_line.clock.next = self.clock.val();
        self.unit_line.clock.next = self.clock.val();

        self.valids.d.next = (self.valids.q.val() << 1);
        if self.valid.val() {
            self.valids.d.next = (self.valids.q.val() << 1) | self.first_stage.val();
        }
        self.out_valid.next = self.valids.q.val().get_bit(13);
        self.idle.next = (self.valids.q.val() == self.empty.val());

        self.shift.next = bit_cast::<32, 8>(self.stripe_shift.val());
        self.coarse.next = self.shift.val() & self.coarse_mask.val();
        self.shifted1.d.next = (self.offset.val() >> self.coarse.val());
        self.above1.d.next = (self.ones.val() << self.coarse.val());
        self.offset1.d.next = self.offset.val();
        self.fine1.d.next = self.shift.val() & self.fine_mask.val();
        self.columns1.d.next = self.columns.val();

        self.number2.d.next = (self.shifted1.q.val() >> self.fine1.q.val());
        self.above2.d.next = (self.above1.q.val() << self.fine1.q.val());
        self.offset2.d.next = self.offset1.q.val();
        // 16 columns are 0 here.
        self.count.next = self.columns1.q.val().get_bits::<4>(0);
        self.by2.d.next = self.reciprocals[0].val();
        for i in 0..16 {
            if (self.count.val() == self.counts[i].val()) {
                self.by2.d.next = self.reciprocals[i].val();
            }
        }

        // The three limbs, each four cycles after the one above it.
        self.high.by.next = self.by2.q.val();
        self.high.remainder.next = self.no_remainder.val();
        self.high.limb.next = bit_cast::<11, 10>(self.number2.q.val().get_bits::<10>(22));
        self.middle_limb.data.next = self.number2.q.val().get_bits::<11>(11);
        self.low_limb.data.next = self.number2.q.val().get_bits::<11>(0);
        self.middle.by.next = self.high.by_next.val();
        self.middle.remainder.next = self.high.rest.val();
        self.middle.limb.next = self.middle_limb.delayed.val();
        self.low.by.next = self.middle.by_next.val();
        self.low.remainder.next = self.middle.rest.val();
        self.low.limb.next = self.low_limb.delayed.val();
        self.high_quotient.data.next = self.high.quotient.val();
        self.middle_quotient.data.next = self.middle.quotient.val();

        // Beside them, the part within the unit.
        self.within3.d.next = self.offset2.q.val() & !self.above2.q.val();
        self.after3.d.next = !(self.offset2.q.val() | self.above2.q.val());
        self.unit3.d.next = !self.above2.q.val();
        self.after_upper.next = self.after3.q.val().get_bits::<16>(16);
        self.unit_upper.next = self.unit3.q.val().get_bits::<16>(16);
        self.space4.d.next = bit_cast::<17, 16>(self.after3.q.val().get_bits::<16>(0));
        if self.after_upper.val().any() {
            self.space4.d.next = self.most_z.val();
        }
        self.unit4.d.next = bit_cast::<17, 16>(self.unit3.q.val().get_bits::<16>(0));
        if self.unit_upper.val().any() {
            self.unit4.d.next = self.most_z.val();
        }
        self.space5.d.next = self.space4.q.val() + self.one.val();
        self.unit5.d.next = self.unit4.q.val() + self.one.val();
        self.unit_offset.data.next = self.within3.q.val();
        self.space_line.data.next = self.space5.q.val();
        self.unit_line.data.next = self.unit5.q.val();

        self.row_upper.next = (bit_cast::<32, 11>(self.high_quotient.delayed.val()) << 22)
            | (bit_cast::<32, 11>(self.middle_quotient.delayed.val()) << 11);
        self.location.next.row = self.row_upper.val() | bit_cast::<32, 11>(self.low.quotient.val());
        self.location.next.column = bit_cast::<5, 4>(self.low.rest.val());
        self.location.next.unit_offset = self.unit_offset.delayed.val();
        self.space.next = self.space_line.delayed.val();
        self.unit.next = self.unit_line.delayed.val();

        if self.reset.val() {
            self.valids.d.next = self.empty.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    /// Row, column, unit offset, space, unit.
    fn model(offset: u64, shift: u32, columns: u64) -> (u64, u64, u64, u64, u64) {
        let unit = 1u64 << shift;
        let number = offset / unit;
        let within = offset % unit;
        (number / columns, number % columns, within, (unit - within).min(65_536), unit.min(65_536))
    }

    fn answer(bench: &Bench) -> (u64, u64, u64, u64, u64) {
        let location: Location = bench.get_record("location");
        (
            location.row.to_u64(),
            location.column.to_u64(),
            location.unit_offset.to_u64(),
            bench.get("space") as u64,
            bench.get("unit") as u64,
        )
    }

    fn run(cases: impl Iterator<Item = Option<(u64, u32, u64)>>) {
        let mut bench = Bench::new("column_divider", ColumnDivider::default());
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut expected = VecDeque::new();
        let mut answered = 0;
        for case in cases.chain(std::iter::repeat_n(None, 15)) {
            let now = bench.cycles;
            bench.set("valid", case.is_some().into());
            if let Some((offset, shift, columns)) = case {
                bench.set("offset", offset.into());
                bench.set("stripe_shift", shift.into());
                bench.set("columns", columns.into());
                expected.push_back((now + 14, (offset, shift, columns), model(offset, shift, columns)));
            }
            bench.eval();
            assert_eq!(bench.get("idle") == 1, expected.front().is_none_or(|e| e.0 == now + 14));
            let due = expected.front().is_some_and(|e| e.0 == now);
            assert_eq!(bench.get("out_valid") == 1, due, "cycle {now}");
            if due {
                let (_, case, location) = expected.pop_front().expect("one is due");
                assert_eq!(answer(&bench), location, "{case:?}");
                answered += 1;
            }
            bench.cycle();
        }
        assert!(answered > 0 && expected.is_empty());
    }

    #[test]
    fn locates_every_block() {
        what_is_easy_to_check();
        borders_of_every_divisor_and_shift();
        random_offsets_with_gaps();
    }

    fn what_is_easy_to_check() {
        // Unit 13 of 3 columns: row 4, column 1; block 5 of 16.
        assert_eq!(model(13 * 16 + 5, 4, 3), (4, 1, 5, 11, 16));
        run([Some((13 * 16 + 5, 4, 3)), None, Some((0xFFFF_FFFF, 32, 1)), Some((0xFFFF_FFFF, 0, 16))]
            .into_iter());
    }

    fn borders_of_every_divisor_and_shift() {
        let cases = (1..=16u64).flat_map(|columns| {
            (0..=32u32).flat_map(move |shift| {
                let last = u64::from(u32::MAX);
                let row = columns << shift;
                let rows = (last + 1) / row;
                [0, 1, rows / 2, rows / 3, rows.saturating_sub(1), rows, 1 << 11, 1 << 21]
                    .into_iter()
                    .flat_map(move |r| {
                        [r * row, (r * row).wrapping_sub(1), r * row + 1, r * row + (1 << shift) - 1]
                    })
                    .filter(move |&offset| offset <= last)
                    .map(move |offset| Some((offset, shift, columns)))
            })
        });
        run(cases);
    }

    fn random_offsets_with_gaps() {
        let mut random = seeded();
        let cases: Vec<_> = (0..300_000)
            .map(|_| {
                random.random_bool(0.9).then(|| {
                    let offset = random.random::<u32>() >> random.random_range(0..32);
                    (offset.into(), random.random_range(0..=32), random.random_range(1..=16))
                })
            })
            .collect();
        run(cases.into_iter());
    }
}
