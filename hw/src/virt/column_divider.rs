//! Finds row, column and place in the stripe unit of a block of an allocation.
//!
//! The stripe unit's number n (offset div 2^stripe_shift) is divided by the number of columns d with one
//! product: n div d = n × (2^32 + multiplier) div 2^(32 + shift), exact for every n below 2^32 (the tests
//! prove the constants). Of the remainder only four bits exist, so it is computed modulo 16. Beside
//! the location come `space`, the blocks from the offset to the end of its unit, and `unit`, the blocks
//! of a whole unit, both at most 65,536, which is more than any command has.
//!
//! Handshake: a pipeline that never stalls. Latency: 9 cycles. Throughput: one a cycle, in order.
//! Reset empties it. Columns of 0 or above 16, or a shift above 32, give an arbitrary answer in time.

use rust_hdl::prelude::*;

use super::delay_line::DelayLine;
use crate::records::Location;

crate::logic_record! {
    /// A divisor, prepared; see the module's header.
    Reciprocal: 39 {
        /// Multiplier without its uppermost bit, which is always set.
        multiplier = 32,
        /// log2 of the divisor, rounded up.
        shift = 3,
        /// The divisor modulo 16.
        divisor = 4,
    }
}

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

    valids: DFF<Bits<9>>,
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
    // Cycle 3: the part within the unit, and what follows it there; the factors, again.
    within3: DFF<Bits<32>>,
    after3: DFF<Bits<32>>,
    unit3: DFF<Bits<32>>,
    number3: DFF<Bits<32>>,
    by3: DFF<Reciprocal>,
    // Cycle 4: at most 65,536, less one; products of halves. Cycle 5: plus one; the products again: a
    // multiplier takes most of a cycle, the registers on both its sides must lie beside it.
    space4: DFF<Bits<17>>,
    unit4: DFF<Bits<17>>,
    space5: DFF<Bits<17>>,
    unit5: DFF<Bits<17>>,
    low4: DFF<Bits<32>>,
    cross4: DFF<Bits<32>>,
    other_cross4: DFF<Bits<32>>,
    high4: DFF<Bits<32>>,
    low5: DFF<Bits<16>>,
    cross5: DFF<Bits<32>>,
    other_cross5: DFF<Bits<32>>,
    high5: DFF<Bits<32>>,
    // Cycle 6: the sum of the middle, and of the upper part. Cycle 7: of all, without the lower 32 bits.
    middle6: DFF<Bits<34>>,
    upper6: DFF<Bits<33>>,
    sum7: DFF<Bits<33>>,
    // Cycle 8: the quotient. Cycle 9: again, beside the remainder.
    row8: DFF<Bits<32>>,
    row9: DFF<Bits<32>>,
    column9: DFF<Bits<4>>,
    numbers: DelayLine<Bits<32>>,
    number_low: DelayLine<Bits<4>>,
    shifts: DelayLine<Bits<3>>,
    divisors: DelayLine<Bits<4>>,
    unit_offset: DelayLine<Bits<32>>,
    space_line: DelayLine<Bits<17>>,
    unit_line: DelayLine<Bits<17>>,

    shift: Signal<Local, Bits<32>>,
    coarse: Signal<Local, Bits<32>>,
    count: Signal<Local, Bits<4>>,
    after_upper: Signal<Local, Bits<16>>,
    unit_upper: Signal<Local, Bits<16>>,
    multiplier: Signal<Local, Bits<32>>,
    number_halves: [Signal<Local, Bits<16>>; 2],
    multiplier_halves: [Signal<Local, Bits<16>>; 2],
    middle: Signal<Local, Bits<18>>,
    quotient: Signal<Local, Bits<33>>,
    quotient_low: Signal<Local, Bits<4>>,
    divisor: Signal<Local, Bits<4>>,
    once: Signal<Local, Bits<4>>,
    twice: Signal<Local, Bits<4>>,
    four_times: Signal<Local, Bits<4>>,
    eight_times: Signal<Local, Bits<4>>,
    reciprocals: [Constant<Reciprocal>; 16],
    counts: [Constant<Bits<4>>; 16],
    coarse_mask: Constant<Bits<32>>,
    fine_mask: Constant<Bits<32>>,
    ones: Constant<Bits<32>>,
    most_z: Constant<Bits<17>>,
    first_stage: Constant<Bits<9>>,
    one: Constant<Bits<17>>,
    empty: Constant<Bits<9>>,
    zero: Constant<Bits<4>>,
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
            number3: Default::default(),
            by3: Default::default(),
            space4: Default::default(),
            unit4: Default::default(),
            space5: Default::default(),
            unit5: Default::default(),
            low4: Default::default(),
            cross4: Default::default(),
            other_cross4: Default::default(),
            high4: Default::default(),
            low5: Default::default(),
            cross5: Default::default(),
            other_cross5: Default::default(),
            high5: Default::default(),
            middle6: Default::default(),
            upper6: Default::default(),
            sum7: Default::default(),
            row8: Default::default(),
            row9: Default::default(),
            column9: Default::default(),
            shift: Default::default(),
            coarse: Default::default(),
            count: Default::default(),
            after_upper: Default::default(),
            unit_upper: Default::default(),
            multiplier: Default::default(),
            number_halves: Default::default(),
            multiplier_halves: Default::default(),
            middle: Default::default(),
            quotient: Default::default(),
            quotient_low: Default::default(),
            divisor: Default::default(),
            once: Default::default(),
            twice: Default::default(),
            four_times: Default::default(),
            eight_times: Default::default(),
            numbers: DelayLine::new(3),
            number_low: DelayLine::new(6),
            shifts: DelayLine::new(4),
            divisors: DelayLine::new(5),
            unit_offset: DelayLine::new(6),
            space_line: DelayLine::new(4),
            unit_line: DelayLine::new(4),
            reciprocals: std::array::from_fn(|i| Constant::new(Self::reciprocal(i as u64 + 1))),
            counts: std::array::from_fn(|i| Constant::new(((i as u64 + 1) % 16).to_bits())),
            coarse_mask: Constant::new(0x38u64.to_bits()),
            fine_mask: Constant::new(7u64.to_bits()),
            ones: Constant::new(u64::from(u32::MAX).to_bits()),
            most_z: Constant::new(0xFFFFu64.to_bits()),
            first_stage: Constant::new(1u64.to_bits()),
            one: Constant::new(1u64.to_bits()),
            empty: Constant::new(0u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
        }
    }
}

/// log2 of a number of columns, rounded up, and the whole multiplier: 2^(32 + shift) div columns, rounded up.
fn prepared(columns: u64) -> (u32, u64) {
    let shift = columns.next_power_of_two().ilog2();
    (shift, (1u64 << (32 + shift)).div_ceil(columns))
}

impl ColumnDivider {
    fn reciprocal(columns: u64) -> Reciprocal {
        let (shift, multiplier) = prepared(columns);
        Reciprocal {
            multiplier: (multiplier - (1 << 32)).to_bits(),
            shift: u64::from(shift).to_bits(),
            divisor: (columns % 16).to_bits(),
        }
    }
}

impl Logic for ColumnDivider {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            valids,
            shifted1,
            above1,
            offset1,
            fine1,
            columns1,
            number2,
            above2,
            offset2,
            by2,
            within3,
            after3,
            unit3,
            number3,
            by3,
            space4,
            unit4,
            space5,
            unit5,
            low4,
            cross4,
            other_cross4,
            high4,
            low5,
            cross5,
            other_cross5,
            high5,
            middle6,
            upper6,
            sum7,
            row8,
            row9,
            column9
        );
        clock!(self, clock, numbers, number_low, shifts, divisors, unit_offset, space_line, unit_line);

        self.valids.d.next = (self.valids.q.val() << 1);
        if self.valid.val() {
            self.valids.d.next = (self.valids.q.val() << 1) | self.first_stage.val();
        }
        self.out_valid.next = self.valids.q.val().get_bit(8);
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

        // The product, by halves.
        self.number3.d.next = self.number2.q.val();
        self.by3.d.next = self.by2.q.val();
        self.multiplier.next = self.by3.q.val().multiplier;
        for i in 0..2 {
            self.number_halves[i].next = self.number3.q.val().get_bits::<16>(16 * i);
            self.multiplier_halves[i].next = self.multiplier.val().get_bits::<16>(16 * i);
        }
        self.low4.d.next = self.number_halves[0].val() * self.multiplier_halves[0].val();
        self.cross4.d.next = self.number_halves[0].val() * self.multiplier_halves[1].val();
        self.other_cross4.d.next = self.number_halves[1].val() * self.multiplier_halves[0].val();
        self.high4.d.next = self.number_halves[1].val() * self.multiplier_halves[1].val();
        self.low5.d.next = self.low4.q.val().get_bits::<16>(16);
        self.cross5.d.next = self.cross4.q.val();
        self.other_cross5.d.next = self.other_cross4.q.val();
        self.high5.d.next = self.high4.q.val();

        // Its parts, and the number itself for the multiplier's uppermost bit.
        self.numbers.data.next = self.number2.q.val();
        self.middle6.d.next = bit_cast::<34, 32>(self.cross5.q.val())
            + bit_cast::<34, 32>(self.other_cross5.q.val())
            + bit_cast::<34, 16>(self.low5.q.val());
        self.upper6.d.next =
            bit_cast::<33, 32>(self.high5.q.val()) + bit_cast::<33, 32>(self.numbers.delayed.val());
        self.middle.next = self.middle6.q.val().get_bits::<18>(16);
        self.sum7.d.next = self.upper6.q.val() + bit_cast::<33, 18>(self.middle.val());
        self.shifts.data.next = self.by3.q.val().shift;
        self.quotient.next = (self.sum7.q.val() >> bit_cast::<33, 3>(self.shifts.delayed.val()));
        self.row8.d.next = self.quotient.val().get_bits::<32>(0);
        self.row9.d.next = self.row8.q.val();

        // column = number - row × columns, modulo 16.
        self.number_low.data.next = self.number2.q.val().get_bits::<4>(0);
        self.divisors.data.next = self.by3.q.val().divisor;
        self.divisor.next = self.divisors.delayed.val();
        self.quotient_low.next = self.row8.q.val().get_bits::<4>(0);
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
        self.column9.d.next = (self.number_low.delayed.val() - (self.once.val() + self.twice.val()))
            - (self.four_times.val() + self.eight_times.val());

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

        self.location.next.row = self.row9.q.val();
        self.location.next.column = bit_cast::<5, 4>(self.column9.q.val());
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
        for case in cases.chain(std::iter::repeat_n(None, 10)) {
            let now = bench.cycles;
            bench.set("valid", case.is_some().into());
            if let Some((offset, shift, columns)) = case {
                bench.set("offset", offset.into());
                bench.set("stripe_shift", shift.into());
                bench.set("columns", columns.into());
                expected.push_back((now + 9, (offset, shift, columns), model(offset, shift, columns)));
            }
            bench.eval();
            assert_eq!(bench.get("idle") == 1, expected.front().is_none_or(|e| e.0 == now + 9));
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

    /// With an excess of e = multiplier × d - 2^(32 + shift), n × multiplier div 2^(32 + shift) is n div d
    /// for all n with n × e below 2^(32 + shift).
    #[test]
    fn every_number_is_divided_exactly() {
        for columns in 1..=16u64 {
            let (shift, multiplier) = prepared(columns);
            assert_eq!(multiplier >> 32, 1, "{columns} columns");
            let excess = multiplier * columns - (1 << (32 + shift));
            assert!(u128::from(u32::MAX) * u128::from(excess) < 1 << (32 + shift), "{columns} columns");
        }
    }

    #[test]
    fn divides_the_first_and_the_last_numbers() {
        let last = u64::from(u32::MAX);
        run((1..=16).flat_map(|columns| {
            (0..1 << 14).flat_map(move |n| [Some((n, 0, columns)), Some((last - n, 0, columns))])
        }));
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
