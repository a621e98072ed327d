//! Finds the extent of each run and looks it up.
//!
//! A run lies in one stripe unit, so in one extent: extent `k = row >> row_shift` of its column, where
//! a row of extents has 2^row_shift stripe units; its entry is `first_extent + k × columns + column`.
//! An index that does not fit, or a run of an invalid allocation, becomes one that no table has, so
//! that the answer is the all-zero entry; `extent_offset` says nothing then.
//!
//! Handshake: streams; the pipeline stands still while the lookup port is not ready. Latency: 4 cycles to
//! the lookup's request, 1 from its answer to `run`. Throughput: one a cycle, in order. At most 16 runs
//! are on their way, and answers, two cycles after their request or later, are always taken. `idle` rises
//! late. Reset drops what is in work.

use rust_hdl::prelude::*;

use super::credit::Credit;
use super::splitter::UnitRun;
use crate::prim::fifo::Fifo;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::Run;

crate::logic_record! {
    /// What a run keeps while its extent is looked up.
    PendingRun: 68 {
        /// Block of the plan at which it begins.
        plan_offset = 17,
        /// Blocks.
        blocks = 17,
        /// 1: the plan's last run.
        last = 1,
        /// Block of the extent at which it begins.
        extent_offset = 33,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct ExtentAddress {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub unit_run: StreamIn<UnitRun>,
    pub extent_request: StreamOut<Bits<32>>,
    pub extent_valid: Signal<In, bool>,
    pub extent_data: Signal<In, Bits<72>>,
    pub run: StreamOut<Run>,
    pub idle: Signal<Out, bool>,

    // Cycle 1: shifted by multiples of 8. `above` has the bits at and above extent_shift set.
    valid1: DFF<bool>,
    run1: DFF<UnitRun>,
    extent1: DFF<Bits<32>>,
    block1: DFF<Bits<32>>,
    above1: DFF<Bits<32>>,
    base1: DFF<Bits<33>>,
    // Cycle 2: shifted: the extent's number in its column, the column's block.
    valid2: DFF<bool>,
    run2: DFF<UnitRun>,
    extent2: DFF<Bits<32>>,
    block2: DFF<Bits<32>>,
    above2: DFF<Bits<32>>,
    base2: DFF<Bits<33>>,
    // Cycle 3: the number times the lower two bits of the columns, and times the upper three.
    valid3: DFF<bool>,
    pending3: DFF<PendingRun>,
    low3: DFF<Bits<33>>,
    high3: DFF<Bits<33>>,
    base3: DFF<Bits<33>>,
    nowhere3: DFF<bool>,
    // Cycle 4: the index.
    valid4: DFF<bool>,
    pending4: DFF<PendingRun>,
    sum4: DFF<Bits<34>>,
    nowhere4: DFF<bool>,
    pending: Fifo<PendingRun>,
    runs: Fifo<Run>,
    credit: Credit,

    advance: Signal<Local, bool>,
    asked: Signal<Local, bool>,
    row_coarse: Signal<Local, Bits<6>>,
    row_fine: Signal<Local, Bits<6>>,
    stripe_coarse: Signal<Local, Bits<6>>,
    stripe_fine: Signal<Local, Bits<6>>,
    extent_coarse: Signal<Local, Bits<6>>,
    extent_fine: Signal<Local, Bits<6>>,
    number: Signal<Local, Bits<16>>,
    number_high: Signal<Local, Bits<16>>,
    columns: Signal<Local, Bits<5>>,
    once: Signal<Local, Bits<33>>,
    twice: Signal<Local, Bits<33>>,
    four_times: Signal<Local, Bits<33>>,
    eight_times: Signal<Local, Bits<33>>,
    offset: Signal<Local, Bits<32>>,
    sum_high: Signal<Local, Bits<2>>,
    kept: Signal<Local, PendingRun>,
    found: Signal<Local, Run>,
    taking: Signal<Local, bool>,
    coarse_mask: Constant<Bits<6>>,
    fine_mask: Constant<Bits<6>>,
    ones: Constant<Bits<32>>,
    outside: Constant<Bits<32>>,
    flag: Constant<Bits<1>>,
    zero: Constant<Bits<33>>,
}

impl Default for ExtentAddress {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            unit_run: Default::default(),
            extent_request: Default::default(),
            extent_valid: Default::default(),
            extent_data: Default::default(),
            run: Default::default(),
            idle: Default::default(),
            valid1: Default::default(),
            run1: Default::default(),
            extent1: Default::default(),
            block1: Default::default(),
            above1: Default::default(),
            base1: Default::default(),
            valid2: Default::default(),
            run2: Default::default(),
            extent2: Default::default(),
            block2: Default::default(),
            above2: Default::default(),
            base2: Default::default(),
            valid3: Default::default(),
            pending3: Default::default(),
            low3: Default::default(),
            high3: Default::default(),
            base3: Default::default(),
            nowhere3: Default::default(),
            valid4: Default::default(),
            pending4: Default::default(),
            sum4: Default::default(),
            nowhere4: Default::default(),
            pending: Fifo::lut(4, 1),
            runs: Fifo::quick(4, 1),
            credit: Credit::new(16),
            found: Default::default(),
            taking: Default::default(),
            advance: Default::default(),
            asked: Default::default(),
            row_coarse: Default::default(),
            row_fine: Default::default(),
            stripe_coarse: Default::default(),
            stripe_fine: Default::default(),
            extent_coarse: Default::default(),
            extent_fine: Default::default(),
            number: Default::default(),
            number_high: Default::default(),
            columns: Default::default(),
            once: Default::default(),
            twice: Default::default(),
            four_times: Default::default(),
            eight_times: Default::default(),
            offset: Default::default(),
            sum_high: Default::default(),
            kept: Default::default(),
            coarse_mask: Constant::new(0x38u64.to_bits()),
            fine_mask: Constant::new(7u64.to_bits()),
            ones: Constant::new(u64::from(u32::MAX).to_bits()),
            outside: Constant::new(0xFFFF_0000u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for ExtentAddress {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self, clock, valid1, run1, extent1, block1, above1, base1, valid2, run2, extent2, block2, above2,
            base2, valid3, pending3, low3, high3, base3, nowhere3, valid4, pending4, sum4, nowhere4
        );
        self.pending.clock.next = self.clock.val();
        self.pending.reset.next = self.reset.val();
        self.runs.clock.next = self.clock.val();
        self.runs.reset.next = self.reset.val();

        self.credit.clock.next = self.clock.val();
        self.credit.reset.next = self.reset.val();
        self.advance.next = self.extent_request.ready.val();
        self.taking.next = self.unit_run.valid.val() & self.credit.room.val();
        self.unit_run.ready.next = self.extent_request.ready.val() & self.credit.room.val();
        self.credit.coming.next = self.unit_run.valid.val();
        self.credit.entered.next = self.taking.val() & self.extent_request.ready.val();

        self.row_coarse.next = self.unit_run.data.val().row_shift & self.coarse_mask.val();
        self.row_fine.next = self.run1.q.val().row_shift & self.fine_mask.val();
        self.stripe_coarse.next = self.unit_run.data.val().stripe_shift & self.coarse_mask.val();
        self.stripe_fine.next = self.run1.q.val().stripe_shift & self.fine_mask.val();
        self.extent_coarse.next = self.unit_run.data.val().extent_shift & self.coarse_mask.val();
        self.extent_fine.next = self.run1.q.val().extent_shift & self.fine_mask.val();
        // No table has more than 2^16 entries, so a larger number has none.
        self.number.next = self.extent2.q.val().get_bits::<16>(0);
        self.number_high.next = self.extent2.q.val().get_bits::<16>(16);
        // 16 columns have no lower bit, so that 16 times takes the place of 4 times.
        self.columns.next = self.run2.q.val().columns;
        self.once.next = self.zero.val();
        self.twice.next = self.zero.val();
        self.four_times.next = self.zero.val();
        self.eight_times.next = self.zero.val();
        if self.columns.val().get_bit(0) {
            self.once.next = bit_cast::<33, 16>(self.number.val());
        }
        if self.columns.val().get_bit(1) {
            self.twice.next = (bit_cast::<33, 16>(self.number.val()) << 1);
        }
        if self.columns.val().get_bit(2) {
            self.four_times.next = (bit_cast::<33, 16>(self.number.val()) << 2);
        }
        if self.columns.val().get_bit(3) {
            self.eight_times.next = (bit_cast::<33, 16>(self.number.val()) << 3);
        }
        if self.columns.val().get_bit(4) {
            self.four_times.next = (bit_cast::<33, 16>(self.number.val()) << 4);
        }
        self.offset.next = self.block2.q.val() & !self.above2.q.val();

        if self.advance.val() {
            self.valid1.d.next = self.taking.val();
            self.run1.d.next = self.unit_run.data.val();
            self.extent1.d.next = (self.unit_run.data.val().row >> self.row_coarse.val());
            self.block1.d.next = (self.unit_run.data.val().row << self.stripe_coarse.val());
            self.above1.d.next = (self.ones.val() << self.extent_coarse.val());
            self.base1.d.next = bit_cast::<33, 32>(self.unit_run.data.val().first_extent)
                + bit_cast::<33, 5>(self.unit_run.data.val().column);

            self.valid2.d.next = self.valid1.q.val();
            self.run2.d.next = self.run1.q.val();
            self.extent2.d.next = (self.extent1.q.val() >> self.row_fine.val());
            self.block2.d.next =
                (self.block1.q.val() << self.stripe_fine.val()) | self.run1.q.val().unit_offset;
            self.above2.d.next = (self.above1.q.val() << self.extent_fine.val());
            self.base2.d.next = self.base1.q.val();

            self.valid3.d.next = self.valid2.q.val();
            self.pending3.d.next.plan_offset = self.run2.q.val().plan_offset;
            self.pending3.d.next.blocks = self.run2.q.val().blocks;
            self.pending3.d.next.last = self.run2.q.val().last;
            self.pending3.d.next.extent_offset = bit_cast::<33, 32>(self.offset.val());
            self.low3.d.next = self.once.val() + self.twice.val();
            self.high3.d.next = self.four_times.val() + self.eight_times.val();
            self.base3.d.next = self.base2.q.val();
            self.nowhere3.d.next =
                self.number_high.val().any() | (self.run2.q.val().invalid == self.flag.val());

            self.valid4.d.next = self.valid3.q.val();
            self.pending4.d.next = self.pending3.q.val();
            self.sum4.d.next = bit_cast::<34, 33>(self.base3.q.val())
                + bit_cast::<34, 33>(self.low3.q.val())
                + bit_cast::<34, 33>(self.high3.q.val());
            self.nowhere4.d.next = self.nowhere3.q.val();
        }

        self.extent_request.valid.next = self.valid4.q.val();
        self.sum_high.next = self.sum4.q.val().get_bits::<2>(32);
        self.extent_request.data.next = self.sum4.q.val().get_bits::<32>(0);
        if self.nowhere4.q.val() | self.sum_high.val().any() {
            self.extent_request.data.next = self.sum4.q.val().get_bits::<32>(0) | self.outside.val();
        }
        self.asked.next = self.valid4.q.val() & self.extent_request.ready.val();
        self.pending.push.next = self.asked.val();
        self.pending.data.next = self.pending4.q.val();

        // What a run keeps is there no later than its extent.
        self.pending.out.ready.next = self.extent_valid.val();
        self.kept.next = self.pending.out.data.val();
        self.found.next.plan_offset = self.kept.val().plan_offset;
        self.found.next.blocks = self.kept.val().blocks;
        self.found.next.extent_offset = self.kept.val().extent_offset;
        self.found.next.last = self.kept.val().last;
        self.found.next.extent = self.extent_data.val();
        self.runs.push.next = self.extent_valid.val();
        self.runs.data.next = self.found.val();
        self.run.valid.next = self.runs.out.valid.val();
        self.run.data.next = self.runs.out.data.val();
        self.runs.out.ready.next = self.run.ready.val();
        self.credit.left.next = self.runs.out.valid.val() & self.run.ready.val();
        self.idle.next = self.credit.none.val();

        if self.reset.val() {
            self.valid1.d.next = false;
            self.valid2.d.next = false;
            self.valid3.d.next = false;
            self.valid4.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use std::collections::VecDeque;

    fn random_run(random: &mut ChaCha8Rng) -> UnitRun {
        let stripe_shift = random.random_range(0..=32u32);
        let extent_shift = random.random_range(stripe_shift..=32);
        let rows = 1u64 << (32 - stripe_shift);
        UnitRun {
            plan_offset: random.random_range(0..1u64 << 17).to_bits(),
            blocks: random.random_range(0..1u64 << 17).to_bits(),
            last: random.random_range(0..2u64).to_bits(),
            row: (random.random_range(0..rows) >> random.random_range(0..32)).to_bits(),
            column: random.random_range(0..16u64).to_bits(),
            unit_offset: random.random_range(0..1u64 << stripe_shift).to_bits(),
            first_extent: (u64::from(random.random::<u32>()) >> random.random_range(0..32)).to_bits(),
            columns: random.random_range(1..=16u64).to_bits(),
            stripe_shift: u64::from(stripe_shift).to_bits(),
            extent_shift: u64::from(extent_shift).to_bits(),
            row_shift: u64::from(extent_shift - stripe_shift).to_bits(),
            invalid: u64::from(random.random_bool(0.1)).to_bits(),
        }
    }

    /// Index, if any table may have it, and the block in the extent.
    fn model(run: &UnitRun) -> (Option<u64>, u64) {
        let block = (run.row.to_u64() << run.stripe_shift.to_u64()) + run.unit_offset.to_u64();
        let extent = 1u64 << run.extent_shift.to_u64();
        let k = block / extent;
        let index = run.first_extent.to_u64() + k * run.columns.to_u64() + run.column.to_u64();
        (Some(index).filter(|&index| index < 1 << 16 && !run.invalid.any()), block % extent)
    }

    fn check(stalls: f64, latency: u64) {
        let mut bench = Bench::new("extent_address", ExtentAddress::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut given: Option<UnitRun> = None;
        let (mut asked, mut answers) = (VecDeque::new(), VecDeque::<(u64, Bits<72>)>::new());
        let mut owed = VecDeque::new();
        let (mut inside, mut outside) = (0, 0);
        for _ in 0..20_000 {
            let now = bench.cycles;
            if given.is_none() && random.random_bool(1.0 - stalls) {
                given = Some(random_run(&mut random));
            }
            bench.set("unit_run$valid", given.is_some().into());
            bench.set_record::<160>("unit_run$data", given.unwrap_or_default());
            let (ask, take) = (random.random_bool(1.0 - stalls), random.random_bool(1.0 - stalls));
            bench.set("extent_request$ready", ask.into());
            bench.set("run$ready", take.into());
            let answer = answers.front().copied().filter(|&(due, _)| due <= now);
            bench.set("extent_valid", answer.is_some().into());
            bench.set_record::<72>("extent_data", answer.map_or(Bits::default(), |(_, data)| data));
            if answer.is_some() {
                answers.pop_front();
            }
            bench.eval();
            assert!(owed.is_empty() || bench.get("idle") == 0);
            if take && bench.get("run$valid") == 1 {
                assert_eq!(Some(bench.get_record::<140, Run>("run$data")), owed.pop_front());
            }
            if ask && bench.get("extent_request$valid") == 1 {
                let index = bench.get("extent_request$data") as u64;
                let data: u64 = random.random();
                let (run, wanted, offset): (UnitRun, Option<u64>, u64) =
                    asked.pop_front().expect("nothing to ask");
                match wanted {
                    Some(wanted) => assert_eq!(index, wanted, "{run:?}"),
                    None => assert!(index >= 1 << 16, "{index:#x} for {run:?}"),
                }
                *if wanted.is_some() { &mut inside } else { &mut outside } += 1;
                let due =
                    answers.back().map_or(0, |a| a.0 + 1).max(now + 2 + random.random_range(0..=latency));
                answers.push_back((due, data.to_bits()));
                assert!(answers.len() <= 32, "more than 32 lookups outstanding");
                owed.push_back(Run {
                    plan_offset: run.plan_offset,
                    blocks: run.blocks,
                    extent_offset: offset.to_bits(),
                    last: run.last,
                    extent: data.to_bits(),
                });
            }
            if let Some(run) = given.filter(|_| bench.get("unit_run$ready") == 1) {
                let (wanted, offset) = model(&run);
                asked.push_back((run, wanted, offset));
                given = None;
            }
            bench.cycle();
        }
        assert!(inside > 1000 && outside > 500, "{inside} {outside}");
        assert!(stalls > 0.0 || latency > 0 || inside + outside > 19_900, "{inside} {outside}");
    }

    #[test]
    fn every_run_gets_its_extent() {
        check(0.3, 0);
        check(0.1, 40);
        check(0.0, 0);
    }
}
