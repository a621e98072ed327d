//! Splits plans into runs at stripe-unit and allocation borders.
//!
//! Takes, in order: plans; one allocation entry for each mapped plan, two where it crosses into the next
//! allocation; one location for each mapped plan. Gives one header for each plan, before or with its first
//! run, and its runs. The next unit of an allocation is one column on, or in column 0 of the next row; a
//! second allocation begins at row 0, column 0. Extents are whole units and aligned, so no extent border
//! lies inside a run. An entry that is not valid, or contradicts itself (no or more than 16 columns, extents
//! smaller than units), gives one run for all that lies in it, with an all-zero allocation.
//!
//! Handshake: streams. Latency: 3 cycles. Throughput: a plan of one run every 3 cycles, further runs every 2.
//! Reset drops the plan in work.

use rust_hdl::prelude::*;

use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{AdmittedPlan, AllocationEntry, Located, PlanHeader, RunRequest};

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    /// Takes a plan and what belongs to it.
    Idle,
    /// Finds the length of the next run.
    Measure,
    /// Gives it.
    Give,
    /// Takes the second allocation's entry.
    Second,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Splitter {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub plan: StreamIn<AdmittedPlan>,
    pub allocation: StreamIn<Bits<72>>,
    pub location: StreamIn<Located>,
    pub header: StreamOut<PlanHeader>,
    pub run: StreamOut<RunRequest>,
    pub idle: Signal<Out, bool>,

    state: DFF<State>,
    header_out: DFF<PlanHeader>,
    header_valid: DFF<bool>,
    run_out: DFF<RunRequest>,
    run_valid: DFF<bool>,
    entry: DFF<AllocationEntry>,
    good: DFF<bool>,
    plan_offset: DFF<Bits<17>>,
    /// Blocks left of the plan, and of it in this allocation.
    left: DFF<Bits<17>>,
    left_here: DFF<Bits<17>>,
    row: DFF<Bits<32>>,
    column: DFF<Bits<5>>,
    last_column: DFF<Bits<5>>,
    unit_offset: DFF<Bits<32>>,
    /// Blocks to the end of the unit, and blocks of a unit.
    space: DFF<Bits<17>>,
    unit: DFF<Bits<17>>,
    length: DFF<Bits<17>>,
    ends_here: DFF<bool>,

    offered: Signal<Local, AllocationEntry>,
    offered_good: Signal<Local, bool>,
    offered_unit: Signal<Local, Bits<17>>,
    header_free: Signal<Local, bool>,
    run_free: Signal<Local, bool>,
    entry_bits: Signal<Local, Bits<72>>,
    columns: Signal<Local, Bits<8>>,
    columns_less: Signal<Local, Bits<8>>,
    none8: Constant<Bits<8>>,
    one8: Constant<Bits<8>>,
    most_columns: Constant<Bits<8>>,
    most_shift: Constant<Bits<8>>,
    wide_shift: Constant<Bits<8>>,
    wide_unit: Constant<Bits<17>>,
    one17: Constant<Bits<17>>,
    zero17: Constant<Bits<17>>,
    zero32: Constant<Bits<32>>,
    one32: Constant<Bits<32>>,
    zero5: Constant<Bits<5>>,
    one5: Constant<Bits<5>>,
    zero72: Constant<Bits<72>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl Default for Splitter {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            plan: Default::default(),
            allocation: Default::default(),
            location: Default::default(),
            header: Default::default(),
            run: Default::default(),
            idle: Default::default(),
            state: Default::default(),
            header_out: Default::default(),
            header_valid: Default::default(),
            run_out: Default::default(),
            run_valid: Default::default(),
            entry: Default::default(),
            good: Default::default(),
            plan_offset: Default::default(),
            left: Default::default(),
            left_here: Default::default(),
            row: Default::default(),
            column: Default::default(),
            last_column: Default::default(),
            unit_offset: Default::default(),
            space: Default::default(),
            unit: Default::default(),
            length: Default::default(),
            ends_here: Default::default(),
            offered: Default::default(),
            offered_good: Default::default(),
            offered_unit: Default::default(),
            header_free: Default::default(),
            run_free: Default::default(),
            entry_bits: Default::default(),
            columns: Default::default(),
            columns_less: Default::default(),
            none8: Constant::new(0u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            most_columns: Constant::new(16u64.to_bits()),
            most_shift: Constant::new(32u64.to_bits()),
            wide_shift: Constant::new(16u64.to_bits()),
            wide_unit: Constant::new(65_536u64.to_bits()),
            one17: Constant::new(1u64.to_bits()),
            zero17: Constant::new(0u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
            zero5: Constant::new(0u64.to_bits()),
            one5: Constant::new(1u64.to_bits()),
            zero72: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for Splitter {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            state,
            header_out,
            header_valid,
            run_out,
            run_valid,
            entry,
            good,
            plan_offset,
            left,
            left_here,
            row,
            column,
            last_column,
            unit_offset,
            space,
            unit,
            length,
            ends_here
        );
        self.plan.ready.next = false;
        self.allocation.ready.next = false;
        self.location.ready.next = false;
        self.header.valid.next = self.header_valid.q.val();
        self.header.data.next = self.header_out.q.val();
        self.run.valid.next = self.run_valid.q.val();
        self.run.data.next = self.run_out.q.val();
        self.header_free.next = !self.header_valid.q.val() | self.header.ready.val();
        self.run_free.next = !self.run_valid.q.val() | self.run.ready.val();
        if self.header.ready.val() {
            self.header_valid.d.next = false;
        }
        if self.run.ready.val() {
            self.run_valid.d.next = false;
        }
        self.idle.next =
            (self.state.q.val() == State::Idle) & !self.header_valid.q.val() & !self.run_valid.q.val();

        // The entry on offer: whether it makes sense, and the blocks of its unit.
        self.offered.next = self.allocation.data.val().into();
        self.columns.next = self.offered.val().columns;
        self.columns_less.next = self.columns.val() - self.one8.val();
        self.offered_good.next = (self.offered.val().valid == self.flag.val())
            & (self.columns.val() != self.none8.val())
            & (self.columns.val() <= self.most_columns.val())
            & (self.offered.val().extent_shift >= self.offered.val().stripe_shift)
            & (self.offered.val().extent_shift <= self.most_shift.val());
        self.offered_unit.next = (self.one17.val() << bit_cast::<17, 8>(self.offered.val().stripe_shift));
        if (self.offered.val().stripe_shift >= self.wide_shift.val()) {
            self.offered_unit.next = self.wide_unit.val();
        }
        self.entry_bits.next = self.entry.q.val().into();
        if !self.good.q.val() {
            self.entry_bits.next = self.zero72.val();
        }

        match self.state.q.val() {
            State::Idle => {
                self.header_out.d.next.slot = self.plan.data.val().slot;
                self.header_out.d.next.opcode = self.plan.data.val().opcode;
                self.header_out.d.next.prp1 = self.plan.data.val().prp1;
                self.header_out.d.next.prp2 = self.plan.data.val().prp2;
                self.header_out.d.next.blocks = self.plan.data.val().blocks;
                self.header_out.d.next.block_shift = self.plan.data.val().block_shift;
                self.header_out.d.next.deallocate = self.plan.data.val().deallocate;
                self.header_out.d.next.force_unit_access = self.plan.data.val().force_unit_access;
                self.header_out.d.next.limited_retry = self.plan.data.val().limited_retry;
                self.header_out.d.next.cdw13 = self.plan.data.val().cdw13;
                self.header_out.d.next.refusal = self.plan.data.val().refusal;
                self.header_out.d.next.trivial = self.plan.data.val().trivial;
                self.header_out.d.next.flush_devices = self.plan.data.val().flush_devices;
                self.plan_offset.d.next = self.zero17.val();
                self.left.d.next = self.plan.data.val().blocks;
                self.left_here.d.next = self.plan.data.val().first_blocks;
                self.row.d.next = self.location.data.val().row;
                self.column.d.next = self.location.data.val().column;
                self.unit_offset.d.next = self.location.data.val().unit_offset;
                self.space.d.next = self.location.data.val().space;
                self.unit.d.next = self.location.data.val().unit;
                self.entry.d.next = self.offered.val();
                self.good.d.next = self.offered_good.val();
                self.last_column.d.next = bit_cast::<5, 8>(self.columns_less.val());
                if !self.header_free.val() {
                    // What was offered stays as it is.
                    self.header_out.d.next = self.header_out.q.val();
                } else if self.plan.valid.val() {
                    if (self.plan.data.val().unmapped == self.flag.val()) {
                        self.plan.ready.next = true;
                        self.header_valid.d.next = true;
                    } else if self.allocation.valid.val() & self.location.valid.val() {
                        self.plan.ready.next = true;
                        self.allocation.ready.next = true;
                        self.location.ready.next = true;
                        self.header_valid.d.next = true;
                        self.state.d.next = State::Measure;
                    }
                }
            }
            State::Measure => {
                self.length.d.next = self.left_here.q.val();
                self.ends_here.d.next = true;
                if self.good.q.val() & (self.space.q.val() < self.left_here.q.val()) {
                    self.length.d.next = self.space.q.val();
                    self.ends_here.d.next = false;
                }
                self.state.d.next = State::Give;
            }
            State::Give => {
                if self.run_free.val() {
                    self.run_valid.d.next = true;
                    self.run_out.d.next.plan_offset = self.plan_offset.q.val();
                    self.run_out.d.next.blocks = self.length.q.val();
                    self.run_out.d.next.row = self.row.q.val();
                    self.run_out.d.next.column = self.column.q.val();
                    self.run_out.d.next.unit_offset = self.unit_offset.q.val();
                    self.run_out.d.next.allocation = self.entry_bits.val();
                    self.run_out.d.next.last = self.clear.val();
                    self.plan_offset.d.next = self.plan_offset.q.val() + self.length.q.val();
                    self.left.d.next = self.left.q.val() - self.length.q.val();
                    self.left_here.d.next = self.left_here.q.val() - self.length.q.val();
                    self.unit_offset.d.next = self.zero32.val();
                    self.space.d.next = self.unit.q.val();
                    self.column.d.next = self.column.q.val() + self.one5.val();
                    if (self.column.q.val() == self.last_column.q.val()) {
                        self.column.d.next = self.zero5.val();
                        self.row.d.next = self.row.q.val() + self.one32.val();
                    }
                    self.state.d.next = State::Measure;
                    if self.ends_here.q.val() {
                        self.state.d.next = State::Second;
                        if (self.left.q.val() == self.length.q.val()) {
                            self.run_out.d.next.last = self.flag.val();
                            self.state.d.next = State::Idle;
                        }
                    }
                }
            }
            State::Second => {
                self.left_here.d.next = self.left.q.val();
                self.row.d.next = self.zero32.val();
                self.column.d.next = self.zero5.val();
                self.unit_offset.d.next = self.zero32.val();
                self.space.d.next = self.offered_unit.val();
                self.unit.d.next = self.offered_unit.val();
                self.entry.d.next = self.offered.val();
                self.good.d.next = self.offered_good.val();
                self.last_column.d.next = bit_cast::<5, 8>(self.columns_less.val());
                if self.allocation.valid.val() {
                    self.allocation.ready.next = true;
                    self.state.d.next = State::Measure;
                }
            }
            _ => {}
        }

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.header_valid.d.next = false;
            self.run_valid.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    fn number<const N: usize>(value: u64) -> Bits<N> {
        value.to_bits()
    }

    /// A run in plain numbers: plan offset, blocks, last, row, column, offset in the unit, valid.
    type Plain = (u64, u64, bool, u64, u64, u64, bool);

    #[derive(Clone, Copy)]
    struct Layout {
        columns: u64,
        shift: u64,
        valid: bool,
    }

    /// The runs of `blocks` blocks that begin at `offset` of an allocation, block by block.
    fn runs(layout: Layout, offset: u64, plan_offset: u64, blocks: u64) -> Vec<Plain> {
        if !layout.valid {
            return vec![(plan_offset, blocks, false, 0, 0, 0, false)];
        }
        let mut runs: Vec<Plain> = vec![];
        for block in offset..offset + blocks {
            let unit = block >> layout.shift;
            let within = block & ((1 << layout.shift) - 1);
            if block == offset || within == 0 {
                let at = plan_offset + block - offset;
                runs.push((at, 0, false, unit / layout.columns, unit % layout.columns, within, true));
            }
            runs.last_mut().expect("begun above").1 += 1;
        }
        runs
    }

    fn layout(random: &mut rand_chacha::ChaCha8Rng) -> (Layout, AllocationEntry) {
        let mut layout = Layout {
            columns: random.random_range(1..=16),
            shift: random.random_range(0..=20),
            valid: random.random_bool(0.9),
        };
        let mut entry = AllocationEntry {
            first_extent: number(random.random_range(0..1u64 << 32)),
            columns: number(layout.columns),
            stripe_shift: number(layout.shift),
            extent_shift: number(random.random_range(layout.shift..=32)),
            valid: number(u64::from(layout.valid)),
            ..Default::default()
        };
        // The other ways to be invalid.
        match random.random_range(0..40u32) {
            0 => (entry.columns, layout.valid) = (number(0), false),
            1 => (entry.columns, layout.valid) = (number(17), false),
            2 if layout.shift > 0 => (entry.extent_shift, layout.valid) = (number(layout.shift - 1), false),
            3 => (entry.extent_shift, layout.valid) = (number(33), false),
            _ => {}
        }
        (layout, entry)
    }

    fn random_plans(stall: f64, plans: usize) {
        let mut bench = Bench::new("splitter", Splitter::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let (mut queue, mut allocations, mut locations) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        let mut want: VecDeque<(u64, VecDeque<Plain>)> = VecDeque::new();
        for slot in 0..plans as u64 {
            let unmapped = random.random_bool(0.1);
            let blocks = if random.random_bool(0.9) {
                random.random_range(1..=64)
            } else {
                random.random_range(1..=4096)
            };
            let first = if random.random_bool(0.2) { random.random_range(1..=blocks) } else { blocks };
            queue.push_back(AdmittedPlan {
                slot: number(slot % 4096),
                blocks: number(blocks),
                first_blocks: number(first),
                unmapped: number(u64::from(unmapped)),
                crosses: number(u64::from(first < blocks)),
                ..Default::default()
            });
            let mut expected = vec![];
            if !unmapped {
                let (here, entry) = layout(&mut random);
                let offset = random.random_range(0..1u64 << 22);
                let unit = 1u64 << here.shift;
                allocations.push_back(Bits::<72>::from(entry));
                locations.push_back(Located {
                    row: number((offset >> here.shift) / here.columns),
                    column: number((offset >> here.shift) % here.columns),
                    unit_offset: number(offset % unit),
                    space: number((unit - offset % unit).min(65_536)),
                    unit: number(unit.min(65_536)),
                });
                expected = runs(here, offset, 0, first);
                if first < blocks {
                    let (next, entry) = layout(&mut random);
                    allocations.push_back(entry.into());
                    expected.extend(runs(next, 0, first, blocks - first));
                }
                expected.last_mut().expect("a run").2 = true;
            }
            want.push_back((slot % 4096, expected.into()));
        }
        let (mut headers, mut given) = (VecDeque::new(), VecDeque::new());
        for (slot, runs) in &want {
            headers.push_back(*slot);
            given.extend(runs.iter().copied());
        }
        let mut cycles = 0;
        while !headers.is_empty() || !given.is_empty() {
            cycles += 1;
            assert!(
                cycles < 4_000_000,
                "stuck with {} headers and {} runs to come",
                headers.len(),
                given.len()
            );
            let mut offer = |left: bool| left && !random.random_bool(stall);
            bench.set("plan$valid", offer(!queue.is_empty()).into());
            bench.set("allocation$valid", offer(!allocations.is_empty()).into());
            bench.set("location$valid", offer(!locations.is_empty()).into());
            bench.set("header$ready", offer(true).into());
            bench.set("run$ready", offer(true).into());
            bench.set_record("plan$data", queue.front().copied().unwrap_or_default());
            bench.set_record("allocation$data", allocations.front().copied().unwrap_or_default());
            bench.set_record("location$data", locations.front().copied().unwrap_or_default());
            bench.eval();
            let moves = |bench: &Bench, name: &str| {
                bench.get(&format!("{name}$valid")) == 1 && bench.get(&format!("{name}$ready")) == 1
            };
            if moves(&bench, "plan") {
                queue.pop_front();
            }
            if moves(&bench, "allocation") {
                allocations.pop_front();
            }
            if moves(&bench, "location") {
                locations.pop_front();
            }
            if moves(&bench, "header") {
                let header: PlanHeader = bench.get_record("header$data");
                assert_eq!(Some(header.slot.to_u64()), headers.pop_front());
            }
            if moves(&bench, "run") {
                let run: RunRequest = bench.get_record("run$data");
                let entry: AllocationEntry = run.allocation.into();
                let valid = entry.valid.to_u64() == 1;
                let mut got = (
                    run.plan_offset.to_u64(),
                    run.blocks.to_u64(),
                    run.last.to_u64() == 1,
                    run.row.to_u64(),
                    run.column.to_u64(),
                    run.unit_offset.to_u64(),
                    valid,
                );
                if !valid {
                    (got.3, got.4, got.5) = (0, 0, 0);
                }
                assert_eq!(Some(got), given.pop_front());
            }
            bench.cycle();
        }
        assert_eq!(bench.get("idle"), 1);
        assert!(queue.is_empty() && allocations.is_empty() && locations.is_empty());
    }

    #[test]
    fn runs_follow_the_columns() {
        random_plans(0.0, 300);
        random_plans(0.4, 300);
    }
}
