//! Whether a command touches one of its plan's divert ranges. Owner of the table `DIVERT`.
//!
//! `start` names the ranges, `count` of them from `first`, and the command's blocks, which must not be none.
//! They are looked at one after the other until one is touched; `done` is set then, with `touched`, until the
//! next `start`. Blocks are compared modulo 2^48: a command beyond that is refused whatever it touches.
//!
//! Latency: 5 cycles a range, and 1. Reset: nothing is looked at; the table stays.

use rust_hdl::prelude::*;
use volplane_abi::table;

use super::lookup_table::LookupTable;
use crate::records::{DivertEntry, TableRequest};
use crate::sizes::Sizes;

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    Ask,
    Wait,
    /// The range stands in its register.
    Compare,
    Weigh,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct DivertScan {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub start: Signal<In, bool>,
    pub first: Signal<In, Bits<16>>,
    pub count: Signal<In, Bits<8>>,
    pub lba: Signal<In, Bits<48>>,
    pub blocks: Signal<In, Bits<17>>,
    pub done: Signal<Out, bool>,
    pub touched: Signal<Out, bool>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub idle: Signal<Out, bool>,

    ranges: LookupTable<128>,
    state: DFF<State>,
    index: DFF<Bits<16>>,
    left: DFF<Bits<8>>,
    own_first: DFF<Bits<48>>,
    /// The last block, a cycle after the first.
    span: DFF<Bits<17>>,
    own_last: DFF<Bits<48>>,
    range: DFF<DivertEntry>,
    begins_before_end: DFF<bool>,
    ends_behind_begin: DFF<bool>,
    none_left: DFF<bool>,
    done_register: DFF<bool>,
    touched_register: DFF<bool>,
    touches: Signal<Local, bool>,
    one17: Constant<Bits<17>>,
    one16: Constant<Bits<16>>,
    one8: Constant<Bits<8>>,
    flag: Constant<Bits<1>>,
}

impl DivertScan {
    /// With 2^`divert_bits` ranges.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((1..=8).contains(&sizes.divert_bits), "2^{} divert ranges", sizes.divert_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            start: Default::default(),
            first: Default::default(),
            count: Default::default(),
            lba: Default::default(),
            blocks: Default::default(),
            done: Default::default(),
            touched: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            idle: Default::default(),
            ranges: LookupTable::new(table::DIVERT, sizes.divert_bits, 0),
            state: Default::default(),
            index: Default::default(),
            left: Default::default(),
            own_first: Default::default(),
            span: Default::default(),
            own_last: Default::default(),
            range: Default::default(),
            begins_before_end: Default::default(),
            ends_behind_begin: Default::default(),
            none_left: Default::default(),
            done_register: Default::default(),
            touched_register: Default::default(),
            touches: Default::default(),
            one17: Constant::new(1u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for DivertScan {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, state, index, left, own_first, span, own_last, range, begins_before_end);
        dff_setup!(self, clock, ends_behind_begin, none_left, done_register, touched_register);
        clock!(self, clock, ranges);
        self.ranges.reset.next = self.reset.val();
        self.ranges.table_valid.next = self.table_valid.val();
        self.ranges.table_request.next = self.table_request.val();
        self.table_ack.next = self.ranges.table_ack.val();
        self.table_data.next = self.ranges.table_data.val();
        self.ranges.request.valid.next = (self.state.q.val() == State::Ask);
        self.ranges.request.data.next = bit_cast::<32, 16>(self.index.q.val());

        self.own_last.d.next = self.own_first.q.val() + bit_cast::<48, 17>(self.span.q.val());
        self.begins_before_end.d.next = (self.range.q.val().first <= self.own_last.q.val());
        self.ends_behind_begin.d.next = (self.range.q.val().last >= self.own_first.q.val());
        self.none_left.d.next = !self.left.q.val().any();
        self.touches.next = self.begins_before_end.q.val()
            & self.ends_behind_begin.q.val()
            & (self.range.q.val().valid == self.flag.val());
        match self.state.q.val() {
            State::Idle => {
                if self.start.val() {
                    self.index.d.next = self.first.val();
                    self.left.d.next = self.count.val();
                    self.own_first.d.next = self.lba.val();
                    self.span.d.next = self.blocks.val() - self.one17.val();
                    self.done_register.d.next = false;
                    self.touched_register.d.next = false;
                    self.state.d.next = State::Ask;
                }
            }
            State::Ask => {
                if self.ranges.request.ready.val() {
                    self.index.d.next = self.index.q.val() + self.one16.val();
                    self.left.d.next = self.left.q.val() - self.one8.val();
                    self.state.d.next = State::Wait;
                }
            }
            State::Wait => {
                self.range.d.next = self.ranges.response.val().into();
                if self.ranges.response_valid.val() {
                    self.state.d.next = State::Compare;
                }
            }
            State::Compare => {
                self.state.d.next = State::Weigh;
            }
            State::Weigh => {
                self.state.d.next = State::Ask;
                if self.touches.val() | self.none_left.q.val() {
                    self.touched_register.d.next = self.touches.val();
                    self.done_register.d.next = true;
                    self.state.d.next = State::Idle;
                }
            }
            _ => {}
        }
        self.done.next = self.done_register.q.val();
        self.touched.next = self.touched_register.q.val();
        self.idle.next = (self.state.q.val() == State::Idle) & self.ranges.idle.val();

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.done_register.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;

    const RANGES: usize = 8;

    fn random_block(random: &mut ChaCha8Rng) -> u64 {
        let edge = [0, 1 << 24, 1 << 47, (1 << 48) - 40][random.random_range(0..4)];
        edge + random.random_range(0..40)
    }

    fn write_range(bench: &mut Bench, index: usize, entry: DivertEntry) {
        let bits: Bits<128> = entry.into();
        let request = TableRequest {
            write: 1u64.to_bits(),
            table: u64::from(table::DIVERT).to_bits(),
            index: (index as u64).to_bits(),
            data: bit_cast::<256, 128>(bits),
        };
        bench.set_record::<305>("table_request", request);
        bench.set("table_valid", 1);
        for _ in 0..32 {
            bench.cycle();
            bench.set("table_valid", 0);
            if bench.get("table_ack") == 1 {
                return;
            }
        }
        panic!("range {index}: no acknowledge");
    }

    #[test]
    fn finds_what_a_command_touches() {
        let sizes = Sizes { divert_bits: RANGES.ilog2() as usize, ..Sizes::DEFAULT };
        let mut bench = Bench::new("divert_scan", DivertScan::new(&sizes));
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut ranges = [(0, 0, false); RANGES];
        let mut seen = [0; 2];
        for round in 0..4_000 {
            for (index, range) in ranges.iter_mut().enumerate() {
                if round > 0 && random.random_bool(0.7) {
                    continue;
                }
                let first = random_block(&mut random);
                let last = (first + random.random_range(0..12)).min((1 << 48) - 1);
                *range = (first, last, random.random_bool(0.9));
                let entry = DivertEntry {
                    first: first.to_bits(),
                    last: last.to_bits(),
                    valid: u64::from(range.2).to_bits(),
                    ..Default::default()
                };
                write_range(&mut bench, index, entry);
            }
            let first = random.random_range(0..RANGES);
            let count = random.random_range(1..=RANGES - first);
            let lba = random_block(&mut random);
            let blocks = [1, random.random_range(1..20), 65_536][random.random_range(0..3)];
            let blocks = blocks.min((1 << 48) - lba);
            let touched = ranges[first..first + count]
                .iter()
                .position(|range| range.2 && lba <= range.1 && range.0 < lba + blocks);
            bench.set("first", first as u128);
            bench.set("count", count as u128);
            bench.set("lba", lba.into());
            bench.set("blocks", blocks.into());
            bench.set("start", 1);
            bench.cycle();
            bench.set("start", 0);
            bench.set("lba", 0);
            assert_eq!((bench.get("done"), bench.get("idle")), (0, 0));
            let mut cycles = 1;
            while bench.get("done") == 0 {
                cycles += 1;
                assert!(cycles < 100, "no end");
                bench.cycle();
            }
            assert_eq!(bench.get("touched") == 1, touched.is_some());
            assert_eq!(bench.get("idle"), 1);
            let looked = touched.map_or(count, |place| place + 1);
            assert_eq!(cycles, 5 * looked + 1, "{looked} ranges");
            seen[usize::from(touched.is_some())] += 1;
        }
        assert!(seen.iter().all(|&count| count > 500), "{seen:?}");
    }
}
