//! Splits plans at the borders of stripe units and allocations.
//!
//! A plan gives one header, and, if it is mapped, a run for each stripe unit that it touches: the
//! rest of the first unit, then unit after unit, column by column and row by row, until its
//! allocation's part is used up; further allocations begin at row 0, column 0. Extents are whole
//! numbers of units, so no run leaves its extent. The part in an invalid allocation is one run, marked
//! so. `located` brings an item for each allocation.
//!
//! Handshake: streams; a plan may come before its allocations. Latency: 2 cycles from `plan`, 1 from
//! `located` to `unit_run`; 2 from `plan` to `header`. Throughput: a plan of one run every 2 cycles,
//! further runs one every 2, a further allocation 2 more. `idle` rises a cycle late. Reset drops what is
//! in work.

use rust_hdl::prelude::*;

use super::header_queue::HeaderQueue;
use super::locator::{CheckedAllocation, Located};
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{AdmittedPlan, PlanHeader};

crate::logic_record! {
    /// A run before its extent is known.
    UnitRun: 160 {
        /// Block of the plan at which it begins.
        plan_offset = 17,
        /// Blocks.
        blocks = 17,
        /// 1: the plan's last run.
        last = 1,
        /// Row.
        row = 32,
        /// Column.
        column = 5,
        /// Block within the stripe unit.
        unit_offset = 32,
        /// Index of the allocation's first extent.
        first_extent = 32,
        /// Columns.
        columns = 5,
        /// log2 of the blocks of a stripe unit.
        stripe_shift = 6,
        /// log2 of the blocks of an extent.
        extent_shift = 6,
        /// log2 of the stripe units of an extent.
        row_shift = 6,
        /// 1: the allocation is invalid; where the run lies says nothing.
        invalid = 1,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    /// Takes a plan, with its first allocation if it is mapped.
    Idle,
    /// Gives a run.
    Give,
    /// Compares what is left with the next unit.
    Compare,
    /// Takes the next allocation.
    NextAllocation,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Splitter {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub plan: StreamIn<AdmittedPlan>,
    pub located: StreamIn<Located>,
    pub header: StreamOut<PlanHeader>,
    pub unit_run: StreamOut<UnitRun>,
    pub idle: Signal<Out, bool>,

    headers: HeaderQueue,
    // The next plan with runs, until its first allocation is there.
    plan_have: DFF<bool>,
    plan_blocks: DFF<Bits<17>>,
    plan_later: DFF<Bits<17>>,
    plan_crosses: DFF<bool>,
    plan_shift: DFF<Bits<8>>,
    idle_register: DFF<bool>,
    state: DFF<State>,
    place: DFF<Located>,
    plan_offset: DFF<Bits<17>>,
    /// Blocks left in this allocation.
    rest: DFF<Bits<17>>,
    /// The same after this run, and the block of the plan at which the next one begins.
    rest_after: DFF<Bits<17>>,
    offset_after: DFF<Bits<17>>,
    /// Blocks left after this allocation.
    later: DFF<Bits<17>>,
    /// There are any.
    more: DFF<bool>,
    /// There are more than the next allocation holds.
    even_more: DFF<bool>,
    /// Blocks of an allocation, at most 65,536.
    size: DFF<Bits<17>>,
    /// The run ends at its unit's end and its allocation's part goes on.
    cut_first: DFF<bool>,
    cut_next: DFF<bool>,
    /// The plan's first run is still to be given.
    opening: DFF<bool>,
    /// The next unit's column and row are still to be found; the column after this one is 0.
    stepping: DFF<bool>,
    wraps: DFF<bool>,

    first: Signal<Local, Located>,
    arriving: Signal<Local, CheckedAllocation>,
    allocation: Signal<Local, CheckedAllocation>,
    unmapped: Signal<Local, bool>,
    accepting: Signal<Local, bool>,
    cut: Signal<Local, bool>,
    free: Signal<Local, bool>,
    taken: Signal<Local, bool>,
    blocks: Signal<Local, Bits<17>>,
    column_next: Signal<Local, Bits<5>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
    one: Constant<Bits<17>>,
    zero: Constant<Bits<17>>,
    most_size: Constant<Bits<17>>,
    most_size_shift: Constant<Bits<8>>,
    one_column: Constant<Bits<5>>,
    first_column: Constant<Bits<5>>,
    one_row: Constant<Bits<32>>,
    unit_start: Constant<Bits<32>>,
}

impl Default for Splitter {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            plan: Default::default(),
            located: Default::default(),
            header: Default::default(),
            unit_run: Default::default(),
            idle: Default::default(),
            headers: Default::default(),
            plan_have: Default::default(),
            plan_blocks: Default::default(),
            plan_later: Default::default(),
            plan_crosses: Default::default(),
            plan_shift: Default::default(),
            idle_register: Default::default(),
            accepting: Default::default(),
            state: Default::default(),
            place: Default::default(),
            plan_offset: Default::default(),
            rest: Default::default(),
            rest_after: Default::default(),
            offset_after: Default::default(),
            later: Default::default(),
            more: Default::default(),
            even_more: Default::default(),
            size: Default::default(),
            cut_first: Default::default(),
            cut_next: Default::default(),
            opening: Default::default(),
            stepping: Default::default(),
            wraps: Default::default(),
            cut: Default::default(),
            first: Default::default(),
            arriving: Default::default(),
            allocation: Default::default(),
            unmapped: Default::default(),
            free: Default::default(),
            taken: Default::default(),
            blocks: Default::default(),
            column_next: Default::default(),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            most_size: Constant::new(65_536u64.to_bits()),
            most_size_shift: Constant::new(16u64.to_bits()),
            one_column: Constant::new(1u64.to_bits()),
            first_column: Constant::new(0u64.to_bits()),
            one_row: Constant::new(1u64.to_bits()),
            unit_start: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for Splitter {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            plan_have,
            plan_blocks,
            plan_later,
            plan_crosses,
            plan_shift,
            idle_register,
            state,
            place,
            plan_offset,
            rest,
            rest_after,
            offset_after,
            later,
            more,
            even_more,
            size,
            cut_first,
            cut_next,
            opening,
            stepping,
            wraps
        );
        self.headers.clock.next = self.clock.val();
        self.headers.reset.next = self.reset.val();
        StreamOut::<PlanHeader>::link(&mut self.header, &mut self.headers.header);
        self.headers.plan.next = self.plan.data.val();

        self.first.next = self.located.data.val();
        self.arriving.next = self.first.val().allocation.into();
        self.allocation.next = self.place.q.val().allocation.into();
        self.unmapped.next = (self.plan.data.val().unmapped == self.flag.val());
        self.accepting.next = !self.plan_have.q.val() & self.headers.room.val();
        self.plan.ready.next = self.accepting.val();
        self.headers.push.next = self.accepting.val() & self.plan.valid.val();
        if !self.plan_have.q.val() {
            self.plan_have.d.next = self.headers.room.val() & self.plan.valid.val() & !self.unmapped.val();
            self.plan_blocks.d.next = self.plan.data.val().first_blocks;
            self.plan_later.d.next = self.plan.data.val().blocks - self.plan.data.val().first_blocks;
            self.plan_crosses.d.next = (self.plan.data.val().crosses == self.flag.val());
            self.plan_shift.d.next = self.plan.data.val().allocation_shift;
        }
        self.free.next = (self.state.q.val() == State::Idle);
        self.taken.next = self.free.val() & self.plan_have.q.val() & self.located.valid.val();
        self.located.ready.next =
            (self.free.val() & self.plan_have.q.val()) | (self.state.q.val() == State::NextAllocation);
        self.rest_after.d.next = self.rest.q.val() - self.place.q.val().space;
        self.even_more.d.next = (self.later.q.val() > self.size.q.val());

        self.cut.next = self.cut_next.q.val();
        if self.opening.q.val() {
            self.cut.next = self.cut_first.q.val();
        }
        self.blocks.next = self.rest.q.val();
        if self.cut.val() {
            self.blocks.next = self.place.q.val().space;
        }
        self.offset_after.d.next = self.plan_offset.q.val() + self.blocks.val();
        self.column_next.next = self.place.q.val().column + self.one_column.val();
        self.wraps.d.next = (self.column_next.val() == self.allocation.val().columns);
        self.unit_run.valid.next = (self.state.q.val() == State::Give);
        self.unit_run.data.next.plan_offset = self.plan_offset.q.val();
        self.unit_run.data.next.blocks = self.blocks.val();
        self.unit_run.data.next.last = self.clear.val();
        if !self.cut.val() & !self.more.q.val() {
            self.unit_run.data.next.last = self.flag.val();
        }
        self.unit_run.data.next.row = self.place.q.val().row;
        self.unit_run.data.next.column = self.place.q.val().column;
        self.unit_run.data.next.unit_offset = self.place.q.val().unit_offset;
        self.unit_run.data.next.first_extent = self.allocation.val().first_extent;
        self.unit_run.data.next.columns = self.allocation.val().columns;
        self.unit_run.data.next.stripe_shift = self.allocation.val().stripe_shift;
        self.unit_run.data.next.extent_shift = self.allocation.val().extent_shift;
        self.unit_run.data.next.row_shift = self.allocation.val().row_shift;
        self.unit_run.data.next.invalid = self.allocation.val().invalid;
        self.idle_register.d.next =
            self.free.val() & self.headers.empty.val() & !self.plan_have.q.val() & !self.plan.valid.val();
        self.idle.next = self.idle_register.q.val();

        match self.state.q.val() {
            State::Idle => {
                self.place.d.next = self.first.val();
                self.plan_offset.d.next = self.zero.val();
                self.rest.d.next = self.plan_blocks.q.val();
                self.later.d.next = self.plan_later.q.val();
                self.more.d.next = self.plan_crosses.q.val();
                self.size.d.next = (self.one.val() << self.plan_shift.q.val());
                if (self.plan_shift.q.val() > self.most_size_shift.val()) {
                    self.size.d.next = self.most_size.val();
                }
                self.opening.d.next = true;
                self.cut_first.d.next = (self.plan_blocks.q.val() > self.first.val().space)
                    & (self.arriving.val().invalid == self.clear.val());
                if self.taken.val() {
                    self.plan_have.d.next = false;
                    self.state.d.next = State::Give;
                }
            }
            State::Give => {
                self.stepping.d.next = true;
                if self.unit_run.ready.val() {
                    self.state.d.next = State::Idle;
                    if self.cut.val() {
                        self.state.d.next = State::Compare;
                    } else if self.more.q.val() {
                        self.state.d.next = State::NextAllocation;
                    }
                }
            }
            State::NextAllocation => {
                self.place.d.next = self.first.val();
                self.stepping.d.next = false;
                self.rest_after.d.next = self.later.q.val();
                if self.even_more.q.val() {
                    self.rest_after.d.next = self.size.q.val();
                }
                if self.located.valid.val() {
                    self.more.d.next = self.even_more.q.val();
                    self.later.d.next = self.later.q.val() - self.size.q.val();
                    self.state.d.next = State::Compare;
                }
            }
            State::Compare => {
                // From here on every run begins with its unit.
                self.opening.d.next = false;
                self.plan_offset.d.next = self.offset_after.q.val();
                self.rest.d.next = self.rest_after.q.val();
                self.cut_next.d.next = (self.rest_after.q.val() > self.place.q.val().unit)
                    & (self.allocation.val().invalid == self.clear.val());
                self.place.d.next.space = self.place.q.val().unit;
                self.place.d.next.unit_offset = self.unit_start.val();
                if self.stepping.q.val() {
                    self.place.d.next.column = self.column_next.val();
                    if self.wraps.q.val() {
                        self.place.d.next.column = self.first_column.val();
                        self.place.d.next.row = self.place.q.val().row + self.one_row.val();
                    }
                }
                self.state.d.next = State::Give;
            }
            _ => {}
        }

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.plan_have.d.next = false;
            self.idle_register.d.next = false;
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

    /// A plan, the parts of its range, and the runs owed; unit numbers stand for rows and columns.
    struct Case {
        plan: AdmittedPlan,
        located: Vec<Located>,
        runs: Vec<UnitRun>,
    }

    fn random_case(random: &mut ChaCha8Rng) -> Case {
        let shift = random.random_range(2..=20u32);
        let blocks = random.random_range(1..=65_536u64) >> random.random_range(6..16);
        let blocks = blocks.clamp(1, 30 << shift);
        let size = 1u64 << shift;
        let offset = if random.random_bool(0.5) { size - random.random_range(1..=size.min(40)) } else { 0 };
        let first_blocks = blocks.min(size - offset);
        let mut case = Case {
            plan: AdmittedPlan {
                part: random.random_range(0..4096u64).to_bits(),
                opcode: random.random_range(0..10u64).to_bits(),
                prp1: random.random::<u64>().to_bits(),
                blocks: blocks.to_bits(),
                first_blocks: first_blocks.to_bits(),
                crosses: u64::from(first_blocks < blocks).to_bits(),
                allocation_shift: u64::from(shift).to_bits(),
                unmapped: u64::from(random.random_bool(0.2)).to_bits(),
                ..Default::default()
            },
            located: Vec::new(),
            runs: Vec::new(),
        };
        let (mut done, mut offset) = (0, offset);
        while done < blocks && !case.plan.unmapped.any() {
            let part = (blocks - done).min(size - offset);
            add_part(random, &mut case, done, part, offset);
            (done, offset) = (done + part, 0);
        }
        if let Some(run) = case.runs.last_mut() {
            run.last = 1u64.to_bits();
        }
        case
    }

    /// Adds an allocation in which `part` blocks lie from `offset` on.
    fn add_part(random: &mut ChaCha8Rng, case: &mut Case, done: u64, part: u64, offset: u64) {
        let stripe_shift = random.random_range(0..=18u32);
        let extent_shift = random.random_range(stripe_shift..=32);
        let columns = random.random_range(1..=16u64);
        let invalid = random.random_bool(0.1);
        let allocation = CheckedAllocation {
            first_extent: u64::from(random.random::<u32>()).to_bits(),
            columns: columns.to_bits(),
            stripe_shift: u64::from(stripe_shift).to_bits(),
            extent_shift: u64::from(extent_shift).to_bits(),
            row_shift: u64::from(extent_shift - stripe_shift).to_bits(),
            invalid: u64::from(invalid).to_bits(),
        };
        let unit = 1u64 << stripe_shift;
        case.located.push(Located {
            row: (offset / unit / columns).to_bits(),
            column: (offset / unit % columns).to_bits(),
            unit_offset: (offset % unit).to_bits(),
            space: (unit - offset % unit).min(65_536).to_bits(),
            unit: unit.min(65_536).to_bits(),
            allocation: allocation.into(),
        });
        let mut block = offset;
        while block < offset + part {
            let rest = offset + part - block;
            let blocks = if invalid { rest } else { rest.min(unit - block % unit) };
            case.runs.push(UnitRun {
                plan_offset: (done + block - offset).to_bits(),
                blocks: blocks.to_bits(),
                last: 0u64.to_bits(),
                row: (block / unit / columns).to_bits(),
                column: (block / unit % columns).to_bits(),
                unit_offset: (block % unit).to_bits(),
                first_extent: allocation.first_extent,
                columns: allocation.columns,
                stripe_shift: allocation.stripe_shift,
                extent_shift: allocation.extent_shift,
                row_shift: allocation.row_shift,
                invalid: allocation.invalid,
            });
            block += blocks;
        }
    }

    fn check(stalls: f64) {
        let mut bench = Bench::new("splitter", Splitter::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let cases: Vec<_> = (0..600).map(|_| random_case(&mut random)).collect();
        let mut plans: VecDeque<_> = cases.iter().map(|case| case.plan).collect();
        let mut headers = plans.clone();
        let mut located: VecDeque<_> = cases.iter().flat_map(|case| case.located.clone()).collect();
        let mut runs: VecDeque<_> = cases.iter().flat_map(|case| case.runs.clone()).collect();
        let (total, parts) = (runs.len() as u64, located.len() as u64);
        assert!(total > 4000 && parts > 700, "{total} runs in {parts} parts");
        let (mut offered, mut moved) = ([false; 2], true);
        while !(headers.is_empty() && runs.is_empty()) {
            assert!(bench.cycles < 40 * total, "{} runs owed", runs.len());
            offered[0] |= !plans.is_empty() && random.random_bool(1.0 - stalls);
            offered[1] |= !located.is_empty() && random.random_bool(1.0 - stalls);
            bench.set("plan$valid", offered[0].into());
            bench.set("located$valid", offered[1].into());
            if moved {
                bench.set_record::<324>("plan$data", plans.front().copied().unwrap_or_default());
                bench.set_record::<159>("located$data", located.front().copied().unwrap_or_default());
            }
            moved = false;
            let ready = [0, 1].map(|_| random.random_bool(1.0 - stalls));
            bench.set("header$ready", ready[0].into());
            bench.set("unit_run$ready", ready[1].into());
            bench.eval();
            if ready[0] && bench.get("header$valid") == 1 {
                let header: PlanHeader = bench.get_record::<268, _>("header$data");
                let plan = headers.pop_front().expect("no header is owed");
                assert_eq!((header.part, header.prp1, header.blocks), (plan.part, plan.prp1, plan.blocks));
            }
            if ready[1] && bench.get("unit_run$valid") == 1 {
                assert_eq!(Some(bench.get_record::<160, UnitRun>("unit_run$data")), runs.pop_front());
            }
            if offered[0] && bench.get("plan$ready") == 1 {
                plans.pop_front();
                moved = true;
                offered[0] = false;
            }
            if offered[1] && bench.get("located$ready") == 1 {
                located.pop_front();
                moved = true;
                offered[1] = false;
            }
            bench.cycle();
        }
        assert!(located.is_empty() && plans.is_empty());
        for _ in 0..4 {
            bench.cycle();
        }
        assert_eq!(bench.get("idle"), 1);
        if stalls == 0.0 {
            assert!(bench.cycles < 2 * total + 2 * parts + 1000, "{} cycles for {total} runs", bench.cycles);
        }
    }

    #[test]
    fn runs_end_at_units_and_allocations() {
        check(0.4);
        check(0.0);
    }
}
