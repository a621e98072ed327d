//! From plans to runs: only wires `Locator`, `ColumnDivider`, `Splitter`, `ExtentAddress` and `MapStore`.
//!
//! Every plan gives one header, in order; a mapped one also its runs, in order of its blocks, the last
//! one marked. Each run lies in one stripe unit of one extent. Latency from `lookup` to `run`: 20
//! cycles. Throughput: a plan of one run every 2 cycles, a further run every 2. `idle` rises late.

use rust_hdl::prelude::*;

use super::column_divider::ColumnDivider;
use super::command_judge::AllocationLookup;
use super::extent_address::ExtentAddress;
use super::locator::{Located, Locator};
use super::map_store::MapStore;
use super::splitter::{Splitter, UnitRun};
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{AdmittedPlan, PlanHeader, Run, TableRequest};
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Mapper {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub plan: StreamIn<AdmittedPlan>,
    pub lookup: StreamIn<AllocationLookup>,
    pub header: StreamOut<PlanHeader>,
    pub run: StreamOut<Run>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub idle: Signal<Out, bool>,

    locator: Locator,
    divider: ColumnDivider,
    splitter: Splitter,
    address: ExtentAddress,
    store: MapStore,
    idle_register: DFF<bool>,
}

impl Mapper {
    /// A mapper with a map of 2^`allocation_bits` allocations and 2^`extent_bits` extents.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            plan: Default::default(),
            lookup: Default::default(),
            header: Default::default(),
            run: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            idle: Default::default(),
            locator: Default::default(),
            divider: Default::default(),
            splitter: Default::default(),
            address: Default::default(),
            store: MapStore::new(sizes),
            idle_register: Default::default(),
        }
    }
}

impl Logic for Mapper {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, idle_register);
        self.locator.clock.next = self.clock.val();
        self.locator.reset.next = self.reset.val();
        self.divider.clock.next = self.clock.val();
        self.divider.reset.next = self.reset.val();
        self.splitter.clock.next = self.clock.val();
        self.splitter.reset.next = self.reset.val();
        self.address.clock.next = self.clock.val();
        self.address.reset.next = self.reset.val();
        self.store.clock.next = self.clock.val();
        self.store.reset.next = self.reset.val();

        StreamIn::<AllocationLookup>::link(&mut self.lookup, &mut self.locator.lookup);
        StreamOut::<Bits<32>>::join(&mut self.locator.allocation_request, &mut self.store.allocation_request);
        self.locator.allocation_valid.next = self.store.allocation_valid.val();
        self.locator.allocation_data.next = self.store.allocation_data.val();
        self.divider.valid.next = self.locator.divide_valid.val();
        self.divider.offset.next = self.locator.divide_offset.val();
        self.divider.stripe_shift.next = self.locator.divide_stripe_shift.val();
        self.divider.columns.next = self.locator.divide_columns.val();
        self.locator.divided_valid.next = self.divider.out_valid.val();
        self.locator.divided_location.next = self.divider.location.val();
        self.locator.divided_space.next = self.divider.space.val();
        self.locator.divided_unit.next = self.divider.unit.val();

        StreamIn::<AdmittedPlan>::link(&mut self.plan, &mut self.splitter.plan);
        StreamOut::<Located>::join(&mut self.locator.located, &mut self.splitter.located);
        StreamOut::<PlanHeader>::link(&mut self.header, &mut self.splitter.header);
        StreamOut::<UnitRun>::join(&mut self.splitter.unit_run, &mut self.address.unit_run);

        StreamOut::<Bits<32>>::join(&mut self.address.extent_request, &mut self.store.extent_request);
        self.address.extent_valid.next = self.store.extent_valid.val();
        self.address.extent_data.next = self.store.extent_data.val();
        StreamOut::<Run>::link(&mut self.run, &mut self.address.run);

        self.store.table_valid.next = self.table_valid.val();
        self.store.table_request.next = self.table_request.val();
        self.table_ack.next = self.store.table_ack.val();
        self.table_data.next = self.store.table_data.val();
        self.idle_register.d.next = !self.plan.valid.val()
            & !self.lookup.valid.val()
            & !self.table_valid.val()
            & self.locator.idle.val()
            & self.splitter.idle.val()
            & self.address.idle.val()
            & self.store.idle.val();
        self.idle.next = self.idle_register.q.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use crate::virt::map_model::{runs_of, Allocation, Map, Owed};
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use std::collections::VecDeque;
    use volplane_abi::{opcode, status, table};

    fn start(name: &str, sizes: &Sizes) -> Bench {
        let mut bench = Bench::new(name, Mapper::new(sizes));
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench
    }

    fn write(bench: &mut Bench, table: u16, index: usize, data: Bits<72>) {
        bench.set("table_valid", 1);
        let request = TableRequest {
            write: 1u64.to_bits(),
            table: u64::from(table).to_bits(),
            index: (index as u64).to_bits(),
            data: bit_cast::<256, 72>(data),
        };
        bench.set_record::<305>("table_request", request);
        for _ in 0..32 {
            bench.cycle();
            bench.set("table_valid", 0);
            if bench.get("table_ack") == 1 {
                bench.cycle();
                return;
            }
        }
        panic!("table {table} entry {index}: no acknowledge");
    }

    fn load(bench: &mut Bench, map: &Map) {
        for (i, entry) in map.allocations.iter().enumerate() {
            write(bench, table::ALLOCATION, i, entry.record());
        }
        for (i, &entry) in map.extents.iter().enumerate() {
            write(bench, table::EXTENT, i, entry);
        }
    }

    fn header_of(plan: &AdmittedPlan) -> PlanHeader {
        PlanHeader {
            part: plan.part,
            opcode: plan.opcode,
            prp1: plan.prp1,
            prp2: plan.prp2,
            blocks: plan.blocks,
            block_shift: plan.block_shift,
            deallocate: plan.deallocate,
            force_unit_access: plan.force_unit_access,
            limited_retry: plan.limited_retry,
            cdw13: plan.cdw13,
            refusal: plan.refusal,
            trivial: plan.trivial,
            flush_devices: plan.flush_devices,
            ..Default::default()
        }
    }

    /// A plan whose range begins `offset` blocks into allocation `index`.
    fn mapped_plan(
        slot: u64,
        shift: u32,
        index: u64,
        offset: u64,
        blocks: u64,
    ) -> (AdmittedPlan, AllocationLookup) {
        let first = blocks.min((1u64 << shift) - offset);
        let plan = AdmittedPlan {
            part: slot.to_bits(),
            opcode: u64::from(opcode::READ).to_bits(),
            blocks: blocks.to_bits(),
            first_blocks: first.to_bits(),
            crosses: u64::from(blocks > first).to_bits(),
            allocation_shift: u64::from(shift).to_bits(),
            ..Default::default()
        };
        let lookup = AllocationLookup {
            index: index.to_bits(),
            offset: offset.to_bits(),
            rest: (blocks - first).to_bits(),
            allocation_shift: u64::from(shift).to_bits(),
        };
        (plan, lookup)
    }

    fn random_plan(random: &mut ChaCha8Rng, map: &Map) -> (AdmittedPlan, Option<AllocationLookup>) {
        let size = 1u64 << map.allocation_shift;
        let blocks = match random.random_range(0..300) {
            0 => random.random_range(1..=65_536u64),
            1..=50 => random.random_range(1..=2048),
            _ => random.random_range(1..=16),
        };
        let offset = match random.random_range(0..4) {
            0 => size.saturating_sub(random.random_range(1..=blocks)),
            1 => random.random_range(0..size.min(64)),
            _ => random.random_range(0..size),
        };
        let index = match random.random_range(0..40) {
            0 => u64::from(u32::MAX) - random.random_range(0..2),
            1 => map.allocations.len() as u64 - 1,
            _ => random.random_range(0..map.allocations.len() as u64),
        };
        let slot = random.random_range(0..4096);
        let (mut plan, lookup) = mapped_plan(slot, map.allocation_shift, index, offset, blocks);
        plan.prp1 = random.random::<u64>().to_bits();
        plan.prp2 = random.random::<u64>().to_bits();
        plan.cdw13 = u64::from(random.random::<u32>()).to_bits();
        plan.deallocate = random.random_range(0..2u64).to_bits();
        plan.force_unit_access = random.random_range(0..2u64).to_bits();
        plan.limited_retry = random.random_range(0..2u64).to_bits();
        plan.block_shift = random.random_range(9..=12u64).to_bits();
        if random.random_bool(0.8) {
            return (plan, Some(lookup));
        }
        // Flush, refused or trivial: whatever else the plan says, it has no runs.
        plan.unmapped = 1u64.to_bits();
        match random.random_range(0..3) {
            0 => plan.flush_devices = u64::from(random.random::<u32>()).to_bits(),
            1 => plan.refusal = u64::from(status::LBA_OUT_OF_RANGE).to_bits(),
            _ => plan.trivial = 1u64.to_bits(),
        }
        (plan, None)
    }

    /// Puts a read of a random entry on the table bus; gives what it must answer.
    fn offer_read(bench: &mut Bench, random: &mut ChaCha8Rng, map: &Map) -> Bits<72> {
        let of_extents = random.random_bool(0.5);
        let depth = if of_extents { map.extents.len() } else { map.allocations.len() };
        let i = random.random_range(0..depth);
        let table = if of_extents { table::EXTENT } else { table::ALLOCATION };
        let request = TableRequest {
            table: u64::from(table).to_bits(),
            index: (i as u64).to_bits(),
            ..Default::default()
        };
        bench.set_record::<305>("table_request", request);
        if of_extents {
            map.extents[i]
        } else {
            map.allocations[i].record()
        }
    }

    /// The run at the output; where it lies in its extent only if that is `known`.
    fn run_offered(bench: &Bench, known: bool) -> Owed {
        let run: Run = bench.get_record::<140, _>("run$data");
        Owed {
            plan_offset: run.plan_offset.to_u64(),
            blocks: run.blocks.to_u64(),
            last: run.last.any(),
            extent: run.extent,
            extent_offset: known.then(|| run.extent_offset.to_u64()),
        }
    }

    fn check(sizes: &Sizes, stalls: [f64; 4], rounds: usize) {
        let mut bench = start(&format!("mapper_{}_{}", sizes.allocation_bits, sizes.extent_bits), sizes);
        let mut random = seeded();
        let (mut runs_seen, mut crossing, mut zero) = (0, 0, 0);
        for round in 0..rounds {
            let map = Map::random(&mut random, sizes);
            load(&mut bench, &map);
            let plans: Vec<_> = (0..200).map(|_| random_plan(&mut random, &map)).collect();
            let mut headers: VecDeque<_> = plans.iter().map(|(plan, _)| header_of(plan)).collect();
            let mut runs: VecDeque<_> = plans
                .iter()
                .filter_map(|(plan, lookup)| Some(runs_of(&map, lookup.as_ref()?, plan.blocks.to_u64())))
                .flatten()
                .collect();
            crossing += plans.iter().filter(|(plan, lookup)| plan.crosses.any() && lookup.is_some()).count();
            let mut lookups: VecDeque<_> = plans.iter().filter_map(|(_, lookup)| *lookup).collect();
            let mut plans: VecDeque<_> = plans.iter().map(|(plan, _)| *plan).collect();
            let mut lasts = lookups.len();
            let limit = bench.cycles + 10_000 + 20 * runs.len() as u64;
            let (mut offered, mut moved) = ([false; 2], true);
            // The last access to a table, and the entry a read answers.
            let mut control: Option<(u64, Bits<72>)> = None;
            while !(headers.is_empty() && runs.is_empty()) {
                assert!(bench.cycles < limit, "round {round}: {} runs owed", runs.len());
                offered[0] |= !plans.is_empty() && random.random_bool(1.0 - stalls[0]);
                offered[1] |= !lookups.is_empty() && random.random_bool(1.0 - stalls[1]);
                bench.set("plan$valid", offered[0].into());
                bench.set("lookup$valid", offered[1].into());
                if moved {
                    bench.set_record::<324>("plan$data", plans.front().copied().unwrap_or_default());
                    bench.set_record::<89>("lookup$data", lookups.front().copied().unwrap_or_default());
                }
                let left = (plans.len(), lookups.len());
                let ready = [2, 3].map(|i| random.random_bool(1.0 - stalls[i]));
                bench.set("header$ready", ready[0].into());
                bench.set("run$ready", ready[1].into());
                let read = control.is_none() && random.random_bool(stalls[3] / 4.0);
                bench.set("table_valid", read.into());
                if read {
                    control = Some((bench.cycles, offer_read(&mut bench, &mut random, &map)));
                }
                bench.eval();
                let busy = headers.len() > plans.len() || lasts > lookups.len();
                assert!(!busy || bench.get("idle") == 0, "round {round}: idle, yet something is owed");
                if ready[0] && bench.get("header$valid") == 1 {
                    assert_eq!(Some(bench.get_record::<268, PlanHeader>("header$data")), headers.pop_front());
                }
                if ready[1] && bench.get("run$valid") == 1 {
                    let owed = runs.pop_front().expect("no run is owed");
                    let got = run_offered(&bench, owed.extent_offset.is_some());
                    assert_eq!(got, owed, "round {round}, {} runs owed after it", runs.len());
                    runs_seen += 1;
                    lasts -= usize::from(owed.last);
                    zero += usize::from(!owed.extent.any());
                }
                if offered[0] && bench.get("plan$ready") == 1 {
                    plans.pop_front();
                    offered[0] = false;
                }
                if offered[1] && bench.get("lookup$ready") == 1 {
                    lookups.pop_front();
                    offered[1] = false;
                }
                moved = left != (plans.len(), lookups.len());
                if bench.get("table_ack") == 1 {
                    let (_, entry) = control.take().expect("no access to acknowledge");
                    let data: Bits<256> = bench.get_record("table_data");
                    assert_eq!(data, bit_cast::<256, 72>(entry));
                }
                assert!(control.is_none_or(|(since, _)| bench.cycles - since < 32), "no acknowledge");
                bench.cycle();
            }
            bench.set("plan$valid", 0);
            bench.set("lookup$valid", 0);
            bench.set("table_valid", 0);
            for _ in 0..40 {
                bench.cycle();
                assert!(bench.get("run$valid") == 0 && bench.get("header$valid") == 0);
            }
            assert_eq!(bench.get("idle"), 1);
        }
        assert!(
            runs_seen > 300 * rounds && crossing > rounds && zero > rounds,
            "{runs_seen} {crossing} {zero}"
        );
    }

    #[test]
    fn runs_are_what_the_map_says() {
        let a = Sizes { allocation_bits: 4, extent_bits: 10, ..Sizes::DEFAULT };
        let b = Sizes { allocation_bits: 6, extent_bits: 7, ..Sizes::DEFAULT };
        check(&a, [0.3, 0.3, 0.3, 0.3], 10);
        check(&a, [0.0, 0.0, 0.0, 0.0], 6);
        check(&a, [0.9, 0.1, 0.1, 0.1], 3);
        check(&a, [0.1, 0.9, 0.1, 0.1], 3);
        check(&b, [0.1, 0.1, 0.8, 0.1], 4);
        check(&b, [0.1, 0.1, 0.1, 0.8], 4);
    }

    /// Cycles from the first lookup offered to the last of `runs` runs, everything ready.
    fn cycles(bench: &mut Bench, plans: &[(AdmittedPlan, AllocationLookup)], runs: usize) -> u64 {
        let (mut plan, mut lookup, mut run) = (0, 0, 0);
        let since = bench.cycles;
        bench.set("header$ready", 1);
        bench.set("run$ready", 1);
        while run < runs {
            bench.set("plan$valid", (plan < plans.len()).into());
            bench.set("lookup$valid", (lookup < plans.len()).into());
            bench.set_record::<324>("plan$data", plans[plan.min(plans.len() - 1)].0);
            bench.set_record::<89>("lookup$data", plans[lookup.min(plans.len() - 1)].1);
            bench.eval();
            run += bench.get("run$valid") as usize;
            plan += usize::from(plan < plans.len() && bench.get("plan$ready") == 1);
            lookup += usize::from(lookup < plans.len() && bench.get("lookup$ready") == 1);
            assert!(bench.cycles - since < 20_000, "{run} of {runs} runs");
            bench.cycle();
        }
        bench.cycles - since - 1
    }

    #[test]
    fn latency_and_throughput() {
        let sizes = Sizes { allocation_bits: 3, extent_bits: 5, ..Sizes::DEFAULT };
        let mut bench = start("mapper_cycles", &sizes);
        let entry =
            Allocation { first_extent: 0, columns: 5, stripe_shift: 3, extent_shift: 12, valid: true };
        write(&mut bench, table::ALLOCATION, 1, entry.record());
        write(&mut bench, table::ALLOCATION, 2, entry.record());
        let one = mapped_plan(0, 11, 1, 40, 8);
        let latency = cycles(&mut bench, &[one], 1);
        assert!(latency <= 20, "{latency} cycles from lookup to run");
        let plans = cycles(&mut bench, &[one; 500], 500) - latency;
        assert!(plans <= 2 * 500, "{plans} cycles for 500 plans");
        // 256 units of one plan that crosses, again and again.
        let long = mapped_plan(0, 11, 1, 1024, 2048);
        let runs = cycles(&mut bench, &[long; 4], 1024) - latency;
        assert!(runs <= 2 * 1024 + 4 * 8, "{runs} cycles for 1024 runs");
    }
}
