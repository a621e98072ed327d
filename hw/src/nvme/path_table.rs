//! The path table: written and read back by the control ring, with the live state of the paths.
//!
//! Purpose: owns the tables PATH and PATH_STATE on the table bus. Other blocks hear the writes of PATH
//! for themselves (`PathWrite`), and are asked for their part of a path's state by `state_query`.
//! A path is not valid from the writing of its entry on, and valid, if the entry is, when that is acknowledged: so
//! nothing is issued on it meanwhile, and every listener has done with the write. A write is acknowledged when nothing
//! is on its way any more that was issued before (`held`), so whoever has closed a path knows that its queue is let
//! alone.
//! Handshake: the table bus; answers to `state_query` come within 8 cycles and hold. `held` speaks of the path in
//! `state_query`, from 15 cycles after `table_valid` on. `table_busy` says that the acknowledgement is to come.
//! Latency: `table_ack` 16 cycles after `table_valid`, or a cycle after `held` has fallen.
//! Reset: no path is valid; entries not written since read as zeros.
//! Failure: PATH_STATE is read only; a write of it is not acknowledged.

use rust_hdl::prelude::*;
use volplane_abi::table;

use crate::prim::ram::LutRam;
use crate::records::{PathEntry, PathState, TableRequest};
use crate::Sizes;

/// The owner of PATH and PATH_STATE.
#[derive(Clone, Debug, LogicBlock)]
pub struct PathTable {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub table_busy: Signal<Out, bool>,
    /// Something is on its way to the path's queue, or its SSD.
    pub held: Signal<In, bool>,
    /// Bit i: path i is valid.
    pub path_valid: Signal<Out, Bits<32>>,
    /// Some path is being made anew.
    pub renewing: Signal<Out, bool>,
    /// A write of an entry is over: `path_valid` and `renewing` say so.
    pub path_written: Signal<Out, bool>,
    pub state_query: Signal<Out, Bits<8>>,
    pub state_tail: Signal<In, Bits<16>>,
    pub state_issued: Signal<In, Bits<16>>,
    pub state_head: Signal<In, Bits<16>>,
    pub state_returned: Signal<In, Bits<16>>,
    pub state_rung: Signal<In, Bits<16>>,
    pub state_cq_head: Signal<In, Bits<16>>,
    pub idle: Signal<Out, bool>,
    entries: LutRam<PathEntry>,
    valid: DFF<Bits<32>>,
    written: DFF<Bits<32>>,
    renewed: DFF<Bits<32>>,
    any_renewed: DFF<bool>,
    stored: DFF<bool>,
    told: DFF<bool>,
    asked: DFF<bool>,
    is_path: DFF<bool>,
    is_state: DFF<bool>,
    in_range: DFF<bool>,
    working: DFF<bool>,
    storing: DFF<bool>,
    /// The request reads an entry that was written; it reads PATH_STATE; its answer is due.
    known_groups: DFF<Bits<4>>,
    known: DFF<bool>,
    reveal: DFF<bool>,
    cycle: DFF<Bits<4>>,
    acknowledge: DFF<bool>,
    answer: DFF<Bits<256>>,
    number: Signal<Local, Bits<16>>,
    index: Signal<Local, Bits<32>>,
    path: Signal<Local, Bits<5>>,
    group: [Signal<Local, Bits<8>>; 4],
    which: Signal<Local, Bits<2>>,
    place: Signal<Local, Bits<3>>,
    writing: Signal<Local, bool>,
    storing_ends: Signal<Local, bool>,
    concerns: Signal<Local, bool>,
    entry: Signal<Local, PathEntry>,
    state: Signal<Local, PathState>,
    state_bits: Signal<Local, Bits<128>>,
    path_number: Constant<Bits<16>>,
    state_number: Constant<Bits<16>>,
    paths: Constant<Bits<32>>,
    one1: Constant<Bits<1>>,
    zero4: Constant<Bits<4>>,
    one4: Constant<Bits<4>>,
    reveal_cycle: Constant<Bits<4>>,
    last_cycle: Constant<Bits<4>>,
    zero32: Constant<Bits<32>>,
    zero256: Constant<Bits<256>>,
}

impl PathTable {
    /// The table of a build.
    pub fn new(sizes: &Sizes) -> Self {
        assert!(sizes.path_bits <= 5, "2^{} paths", sizes.path_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            table_busy: Default::default(),
            held: Default::default(),
            path_valid: Default::default(),
            renewing: Default::default(),
            path_written: Default::default(),
            state_query: Default::default(),
            state_tail: Default::default(),
            state_issued: Default::default(),
            state_head: Default::default(),
            state_returned: Default::default(),
            state_rung: Default::default(),
            state_cq_head: Default::default(),
            idle: Default::default(),
            entries: LutRam::new(sizes.path_bits),
            valid: Default::default(),
            written: Default::default(),
            renewed: Default::default(),
            any_renewed: Default::default(),
            stored: Default::default(),
            told: Default::default(),
            asked: Default::default(),
            is_path: Default::default(),
            is_state: Default::default(),
            in_range: Default::default(),
            working: Default::default(),
            storing: Default::default(),
            known_groups: Default::default(),
            known: Default::default(),
            group: Default::default(),
            which: Default::default(),
            place: Default::default(),
            reveal: Default::default(),
            cycle: Default::default(),
            acknowledge: Default::default(),
            answer: Default::default(),
            number: Default::default(),
            index: Default::default(),
            path: Default::default(),
            writing: Default::default(),
            storing_ends: Default::default(),
            concerns: Default::default(),
            entry: Default::default(),
            state: Default::default(),
            state_bits: Default::default(),
            path_number: Constant::new(u64::from(table::PATH).to_bits()),
            state_number: Constant::new(u64::from(table::PATH_STATE).to_bits()),
            paths: Constant::new((1u64 << sizes.path_bits).to_bits()),
            one1: Constant::new(1u64.to_bits()),
            zero4: Constant::new(0u64.to_bits()),
            one4: Constant::new(1u64.to_bits()),
            reveal_cycle: Constant::new(12u64.to_bits()),
            last_cycle: Constant::new(13u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            zero256: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for PathTable {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, valid, written, asked, is_path, is_state, in_range, working, storing);
        dff_setup!(self, clock, renewed, any_renewed, stored, told);
        dff_setup!(self, clock, known_groups, known, reveal, cycle, acknowledge, answer);
        self.number.next = self.table_request.val().table;
        self.index.next = self.table_request.val().index;
        self.path.next = self.index.val().get_bits::<5>(0);
        self.writing.next = (self.table_request.val().write == self.one1.val());
        self.entry.next = self.table_request.val().data.into();
        self.asked.d.next = self.table_valid.val();
        self.is_path.d.next = (self.number.val() == self.path_number.val());
        self.is_state.d.next = (self.number.val() == self.state_number.val());
        self.in_range.d.next = (self.index.val() < self.paths.val());
        self.concerns.next = self.asked.q.val()
            & self.in_range.q.val()
            & (self.is_path.q.val() | (self.is_state.q.val() & !self.writing.val()));
        if self.concerns.val() {
            self.working.d.next = true;
            self.cycle.d.next = self.zero4.val();
        }

        // The request stands until it is acknowledged.
        self.entries.clock.next = self.clock.val();
        self.storing.d.next = self.concerns.val() & self.writing.val();
        self.entries.write.next = self.storing.q.val();
        self.entries.write_address.next = self.index.val().get_bits::<16>(0);
        self.entries.write_data.next = self.entry.val();
        self.entries.read_address.next = self.index.val().get_bits::<16>(0);
        self.state_query.next = self.index.val().get_bits::<8>(0);
        self.state.next.sq_tail = self.state_tail.val();
        self.state.next.sq_head = self.state_head.val();
        self.state.next.sq_rung = self.state_rung.val();
        self.state.next.cq_head = self.state_cq_head.val();
        self.state.next.issued = self.state_issued.val();
        self.state.next.returned = self.state_returned.val();
        self.state.next.reserved = self.zero32.val();
        self.state_bits.next = self.state.val().into();
        if self.storing.q.val() {
            self.written.d.next = self.written.q.val().replace_bit(self.path.val().index(), true);
            self.valid.d.next = self.valid.q.val().replace_bit(self.path.val().index(), false);
            // Who finds no path while one is opened waits for that, too.
            if (self.entry.val().valid == self.one1.val()) | (self.entry.val().renewing == self.one1.val()) {
                self.renewed.d.next = self.renewed.q.val().replace_bit(self.path.val().index(), true);
            }
        }
        self.acknowledge.d.next = false;
        self.storing_ends.next = false;
        if self.working.q.val() {
            if (self.cycle.q.val() != self.last_cycle.val()) {
                self.cycle.d.next = self.cycle.q.val() + self.one4.val();
            } else if !self.held.val() | !self.writing.val() {
                self.working.d.next = false;
                self.acknowledge.d.next = true;
                self.storing_ends.next = self.writing.val();
            }
        }
        if self.storing_ends.val() {
            self.renewed.d.next = self.renewed.q.val().replace_bit(
                self.path.val().index(),
                (self.entry.val().renewing == self.one1.val()) & (self.entry.val().valid != self.one1.val()),
            );
            self.valid.d.next = self
                .valid
                .q
                .val()
                .replace_bit(self.path.val().index(), (self.entry.val().valid == self.one1.val()));
        }
        self.table_busy.next = self.working.q.val();
        self.which.next = self.path.val().get_bits::<2>(3);
        self.place.next = self.path.val().get_bits::<3>(0);
        for i in 0..4 {
            self.group[i].next = self.written.q.val().get_bits::<8>(8 * i);
        }
        self.known_groups.d.next =
            bit_cast::<4, 1>(self.group[0].val().get_bit(self.place.val().index()).into())
                | (bit_cast::<4, 1>(self.group[1].val().get_bit(self.place.val().index()).into()) << 1)
                | (bit_cast::<4, 1>(self.group[2].val().get_bit(self.place.val().index()).into()) << 2)
                | (bit_cast::<4, 1>(self.group[3].val().get_bit(self.place.val().index()).into()) << 3);
        self.known.d.next = self.known_groups.q.val().get_bit(self.which.val().index()) & !self.writing.val();
        self.reveal.d.next =
            self.working.q.val() & self.known.q.val() & (self.cycle.q.val() == self.reveal_cycle.val());
        self.answer.d.next = self.zero256.val();
        if self.reveal.q.val() {
            self.answer.d.next = self.entries.read_data.val().into();
            if self.is_state.q.val() {
                self.answer.d.next = bit_cast::<256, 128>(self.state_bits.val());
            }
        }
        self.table_ack.next = self.acknowledge.q.val();
        self.table_data.next = self.answer.q.val();
        self.path_valid.next = self.valid.q.val();
        self.stored.d.next = self.storing_ends.val();
        self.told.d.next = self.stored.q.val();
        self.any_renewed.d.next = self.renewed.q.val().any();
        self.renewing.next = self.any_renewed.q.val();
        self.path_written.next = self.told.q.val();
        self.idle.next = !self.asked.q.val() & !self.working.q.val() & !self.acknowledge.q.val();

        if self.reset.val() {
            self.valid.d.next = self.zero32.val();
            self.renewed.d.next = self.zero32.val();
            self.any_renewed.d.next = false;
            self.stored.d.next = false;
            self.told.d.next = false;
            self.written.d.next = self.zero32.val();
            self.asked.d.next = false;
            self.working.d.next = false;
            self.storing.d.next = false;
            self.reveal.d.next = false;
            self.acknowledge.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    /// Acknowledged, and with what data. Something is on its way for `held` cycles.
    fn access(
        bench: &mut Bench,
        (write, held): (bool, u32),
        table: u16,
        index: u64,
        data: Bits<256>,
    ) -> Option<Bits<256>> {
        let request = TableRequest {
            write: u64::from(write).into(),
            table: u64::from(table).into(),
            index: index.into(),
            data,
        };
        bench.set_record("table_request", request);
        bench.set("table_valid", 1);
        let mut answer = None;
        let bit = 1u128 << (index % 32);
        for cycle in 0..40 {
            bench.set("held", (cycle < held).into());
            bench.eval();
            let (ack, data) = (bench.get("table_ack") == 1, bench.get_record("table_data"));
            let due = if write { 16.max(held + 1) } else { 16 };
            if write && table == table::PATH && bench.get("table_busy") == 1 && cycle > 2 {
                assert_eq!(bench.get("path_valid") & bit, 0, "valid in cycle {cycle} of a write");
            }
            if ack {
                assert!(answer.is_none() && cycle == due, "acknowledged in cycle {cycle}, expected {due}");
                assert!(!write || data == Bits::default());
                answer = Some(data);
            } else {
                assert!(data == Bits::default(), "data without acknowledgement");
            }
            bench.cycle();
            bench.set("table_valid", 0);
        }
        answer
    }

    fn check(path_bits: usize) {
        let sizes = Sizes { path_bits, ..Sizes::DEFAULT };
        let mut bench = Bench::new(&format!("path_table_{path_bits}"), PathTable::new(&sizes));
        let mut random = seeded();
        for _ in 0..3 {
            bench.set("reset", 1);
            bench.cycle();
            bench.set("reset", 0);
            let mut entries = vec![None::<Bits<256>>; 1 << path_bits];
            for _ in 0..300 {
                let index = random.random_range(0..(1u64 << path_bits) + 1);
                let inside = (index as usize) < entries.len();
                let held = random.random_range(0..36) * random.random_range(0..2);
                let data =
                    (0..256).fold(Bits::default(), |bits: Bits<256>, i| bits.replace_bit(i, random.random()));
                let state: Vec<u16> = (0..6).map(|_| random.random()).collect();
                for (name, &value) in
                    ["tail", "head", "rung", "cq_head", "issued", "returned"].iter().zip(&state)
                {
                    bench.set(&format!("state_{name}"), value.into());
                }
                match random.random_range(0..4) {
                    0 => {
                        let acknowledged =
                            access(&mut bench, (true, held), table::PATH, index, data).is_some();
                        assert_eq!(acknowledged, inside);
                        if inside {
                            entries[index as usize] = Some(data);
                        }
                    }
                    1 => {
                        let expected = inside.then(|| entries[index as usize].unwrap_or_default());
                        assert_eq!(access(&mut bench, (false, held), table::PATH, index, data), expected);
                    }
                    2 => {
                        let mut shown = Bits::<256>::default();
                        if inside && entries[index as usize].is_some() {
                            for bit in 0..96 {
                                shown = shown.replace_bit(bit, state[bit / 16] >> (bit % 16) & 1 == 1);
                            }
                        }
                        let got = access(&mut bench, (false, held), table::PATH_STATE, index, data);
                        assert_eq!(got, inside.then_some(shown));
                        assert_eq!(bench.get("state_query"), u128::from(index));
                    }
                    _ => {
                        assert!(access(&mut bench, (true, 0), table::PATH_STATE, index, data).is_none());
                        assert!(access(&mut bench, (false, held), table::DEVICE, index, data).is_none());
                    }
                }
                // Bit 242 is the entry's valid flag.
                let valid = entries.iter().enumerate().fold(0u128, |all, (i, entry)| {
                    all | u128::from(entry.is_some_and(|e| e.get_bit(242))) << i
                });
                assert_eq!(bench.get("path_valid"), valid);
                let renewing = |entry: &PathEntry| entry.renewing.any() && !entry.valid.any();
                let renewing = entries.iter().flatten().any(|&entry| renewing(&PathEntry::from(entry)));
                assert_eq!(bench.get("renewing") == 1, renewing);
            }
        }
    }

    #[test]
    fn reads_back_what_was_written() {
        check(2);
        check(5);
    }
}
