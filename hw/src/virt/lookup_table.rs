//! A table in block RAM: the data path looks entries up, the control ring reads and writes them.
//!
//! Requests are answered in order, `response_valid` two cycles after the request was taken; an index outside the
//! table is answered with zeros, and `known` tells a cycle earlier. Throughput: one a cycle; a read by the control
//! ring takes one cycle from the data path (`request.ready` falls). The requester always takes answers. An entry is
//! written in one cycle, so a lookup sees the old or the new one, never a mixture. Writes may follow each other every
//! cycle; what is written is looked at two cycles after the request. Reset drops lookups in flight; the entries stay.

use rust_hdl::prelude::*;

use crate::prim::ram::FifoRam;
use crate::prim::stream::StreamIn;
use crate::records::TableRequest;

/// A table of entries `D` bits wide.
#[derive(Clone, Debug, LogicBlock)]
pub struct LookupTable<const D: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub request: StreamIn<Bits<32>>,
    pub response_valid: Signal<Out, bool>,
    pub response: Signal<Out, Bits<D>>,
    /// The index taken a cycle ago is that of an entry.
    pub known: Signal<Out, bool>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub idle: Signal<Out, bool>,

    memory: FifoRam<Bits<D>>,
    answer: DFF<Bits<D>>,
    taken: DFF<bool>,
    // Of the index taken: bits beyond any entry, the bit above the address, any bit of the address.
    taken_high: DFF<bool>,
    taken_top: DFF<bool>,
    taken_low: DFF<bool>,
    answered: DFF<bool>,
    // The control ring's access: taken in, the cycle it has the RAM, then the RAM's two cycles, then the
    // answer.
    control_valid: DFF<bool>,
    is_table: DFF<bool>,
    is_inside: DFF<bool>,
    is_write: DFF<bool>,
    asked_address: DFF<Bits<16>>,
    control_write: DFF<bool>,
    control_read: DFF<bool>,
    control_address: DFF<Bits<16>>,
    control_wait: DFF<bool>,
    control_answer: DFF<bool>,
    ack: DFF<bool>,
    ack_data: DFF<Bits<256>>,
    accept: Signal<Local, bool>,
    selected: Signal<Local, bool>,
    shown: Signal<Local, bool>,
    index: Signal<Local, Bits<32>>,
    top_bits: Signal<Local, Bits<32>>,
    entry: Signal<Local, Bits<256>>,
    table_number: Constant<Bits<16>>,
    table_size: Constant<Bits<32>>,
    high_mask: Constant<Bits<32>>,
    low_mask: Constant<Bits<32>>,
    /// The data path's index 1 is entry 0.
    from_one: Constant<bool>,
    first_address: Constant<Bits<16>>,
    flag: Constant<Bits<1>>,
}

impl<const D: usize> LookupTable<D> {
    /// Table `number` of 2^`address_bits` entries, of which the data path's index `first` (0 or 1) is
    /// entry 0.
    pub fn new(number: u16, address_bits: usize, first: u64) -> Self {
        assert!(address_bits <= 16 && first <= 1 && D <= 256);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            request: Default::default(),
            response_valid: Default::default(),
            response: Default::default(),
            known: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            idle: Default::default(),
            memory: FifoRam::new(address_bits, true, false),
            answer: Default::default(),
            taken: Default::default(),
            taken_high: Default::default(),
            taken_top: Default::default(),
            taken_low: Default::default(),
            answered: Default::default(),
            control_valid: Default::default(),
            is_table: Default::default(),
            is_inside: Default::default(),
            is_write: Default::default(),
            asked_address: Default::default(),
            control_write: Default::default(),
            control_read: Default::default(),
            control_address: Default::default(),
            control_wait: Default::default(),
            control_answer: Default::default(),
            ack: Default::default(),
            ack_data: Default::default(),
            accept: Default::default(),
            selected: Default::default(),
            shown: Default::default(),
            index: Default::default(),
            top_bits: Default::default(),
            entry: Default::default(),
            table_number: Constant::new(u64::from(number).to_bits()),
            table_size: Constant::new((1u64 << address_bits).to_bits()),
            high_mask: Constant::new((!((2u32 << address_bits) - 1) as u64).to_bits()),
            low_mask: Constant::new(((1u64 << address_bits) - 1).to_bits()),
            from_one: Constant::new(first == 1),
            first_address: Constant::new(first.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl<const D: usize> Logic for LookupTable<D> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            taken,
            answer,
            taken_high,
            taken_top,
            taken_low,
            answered,
            control_valid,
            is_table,
            is_inside,
            is_write,
            asked_address,
            control_write,
            control_read,
            control_address,
            control_wait,
            control_answer,
            ack,
            ack_data
        );
        self.memory.clock.next = self.clock.val();

        self.request.ready.next = !self.control_read.q.val();
        self.accept.next = self.request.valid.val() & !self.control_read.q.val();
        self.taken.d.next = self.accept.val();
        self.index.next = self.request.data.val();
        self.taken_high.d.next = (self.index.val() & self.high_mask.val()).any();
        self.top_bits.next = self.index.val() & !(self.high_mask.val() | self.low_mask.val());
        self.taken_top.d.next = self.top_bits.val().any();
        self.taken_low.d.next = (self.index.val() & self.low_mask.val()).any();
        self.answered.d.next = self.taken.q.val();
        self.response_valid.next = self.answered.q.val();
        self.response.next = self.answer.q.val();
        // Inside is 0 to the address's end, or 1 to one beyond it.
        self.shown.next = !self.taken_high.q.val() & !self.taken_top.q.val();
        if self.from_one.val() {
            self.shown.next = !self.taken_high.q.val() & (self.taken_top.q.val() != self.taken_low.q.val());
        }
        self.known.next = self.shown.val();
        self.answer.d.next = bits::<D>(0);
        if self.shown.val() | self.control_wait.q.val() {
            self.answer.d.next = self.memory.read_data.val();
        }
        self.memory.read.next = true;
        self.memory.pass.next = false;
        self.memory.read_address.next = bit_cast::<16, 32>(self.request.data.val());
        if self.control_read.q.val() {
            self.memory.read_address.next = self.control_address.q.val();
        }

        // That of a read stays as it is until it is answered.
        self.control_valid.d.next = self.table_valid.val();
        self.is_table.d.next = (self.table_request.val().table == self.table_number.val());
        self.is_inside.d.next = (self.table_request.val().index < self.table_size.val());
        self.selected.next = self.control_valid.q.val() & self.is_table.q.val() & self.is_inside.q.val();
        self.is_write.d.next = (self.table_request.val().write == self.flag.val());
        self.asked_address.d.next =
            bit_cast::<16, 32>(self.table_request.val().index) + self.first_address.val();
        self.control_write.d.next = self.selected.val() & self.is_write.q.val();
        self.control_read.d.next = self.selected.val() & !self.is_write.q.val();
        self.control_address.d.next = self.asked_address.q.val();
        self.entry.next = self.table_request.val().data;
        self.memory.write.next = self.control_write.q.val();
        self.memory.write_address.next = self.control_address.q.val();
        self.memory.write_data.next = bit_cast::<D, 256>(self.entry.val());
        self.control_wait.d.next = self.control_read.q.val();
        self.control_answer.d.next = self.control_wait.q.val();
        self.ack.d.next = self.control_write.q.val() | self.control_answer.q.val();
        self.ack_data.d.next = bits::<256>(0);
        if self.control_answer.q.val() {
            self.ack_data.d.next = bit_cast::<256, D>(self.answer.q.val());
        }
        self.table_ack.next = self.ack.q.val();
        self.table_data.next = self.ack_data.q.val();
        self.idle.next = !self.taken.q.val()
            & !self.control_valid.q.val()
            & !self.answered.q.val()
            & !self.control_write.q.val()
            & !self.control_read.q.val()
            & !self.control_wait.q.val()
            & !self.control_answer.q.val()
            & !self.ack.q.val();

        if self.reset.val() {
            self.taken.d.next = false;
            self.answered.d.next = false;
            self.control_valid.d.next = false;
            self.control_write.d.next = false;
            self.control_read.d.next = false;
            self.control_wait.d.next = false;
            self.control_answer.d.next = false;
            self.ack.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    const TABLE: u16 = 4;

    fn access(write: bool, table: u16, index: u32, words: &[u32]) -> TableRequest {
        let mut data = Bits::<256>::default();
        for (i, &word) in words.iter().enumerate() {
            for j in (0..32).filter(|j| word >> j & 1 == 1) {
                data = data.replace_bit(32 * i + j, true);
            }
        }
        TableRequest {
            write: u64::from(write).to_bits(),
            table: u64::from(table).to_bits(),
            index: u64::from(index).to_bits(),
            data,
        }
    }

    fn check<const D: usize>(address_bits: usize, first: u64) {
        let table: LookupTable<D> = LookupTable::new(TABLE, address_bits, first);
        let mut bench = Bench::new(&format!("lookup_table_{D}_{address_bits}_{first}"), table);
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let depth = 1u32 << address_bits;
        let words = D.div_ceil(32);
        let top = if D.is_multiple_of(32) { u32::MAX } else { (1 << (D % 32)) - 1 };
        let mut model = vec![None::<Vec<u32>>; depth as usize];
        let mut expected: VecDeque<(u64, Option<Vec<u32>>, u64)> = VecDeque::new();
        // The access in progress: (since, write, index, refused).
        let mut control: Option<(u64, bool, u32, bool)> = None;
        let (mut lookups, mut accesses, mut refusals) = (0, 0, 0);
        for _ in 0..20_000 {
            let now = bench.cycles;
            let index: u64 = match random.random_range(0..10) {
                0 => u64::from(random.random::<u32>()),
                1 => u64::from(depth) + random.random_range(0..3),
                2 => random.random_range(0..2),
                _ => random.random_range(0..u64::from(depth)),
            };
            let asking = random.random_bool(0.7);
            bench.set("request$valid", asking.into());
            bench.set("request$data", index.into());
            let start = control.is_none() && random.random_bool(0.2);
            bench.set("table_valid", start.into());
            if start {
                let write = random.random_bool(0.5);
                let refused = random.random_bool(0.1);
                let table = if refused && random.random_bool(0.5) { TABLE + 1 } else { TABLE };
                let index = if refused && table == TABLE { depth } else { random.random_range(0..depth) };
                let mut data: Vec<u32> = (0..words).map(|_| random.random()).collect();
                data[words - 1] &= top;
                bench.set_record::<305>("table_request", access(write, table, index, &data));
                control = Some((now, write, index, refused));
                if write && !refused {
                    // A lookup near the write may see either value: forget it until it is done.
                    model[index as usize] = Some(data);
                }
            }
            bench.eval();
            if asking && bench.get("request$ready") == 1 {
                let inside = index >= first && index - first < u64::from(depth);
                let known = if inside {
                    let entry = (index - first) as usize;
                    let moving = control.is_some_and(|c| c.1 && !c.3 && c.2 as usize == entry);
                    model[entry].clone().filter(|_| !moving)
                } else {
                    Some(vec![0; words])
                };
                expected.push_back((now + 2, known, index));
            }
            let due = expected.front().is_some_and(|e| e.0 == now);
            assert_eq!(bench.get("response_valid") == 1, due);
            if due {
                if let (_, Some(entry), index) = expected.pop_front().expect("one is due") {
                    assert_eq!(bench.get_wide("response"), entry, "index {index:#x}");
                    lookups += 1;
                }
            }
            let ack = bench.get("table_ack") == 1;
            let data = bench.get_wide("table_data");
            if let Some((since, write, index, refused)) = control {
                if ack {
                    assert!(!refused && now > since);
                    if write {
                        assert!(data.iter().all(|&w| w == 0));
                    } else if let Some(entry) = &model[index as usize] {
                        assert_eq!(&data[..words], entry);
                        assert!(data[words..].iter().all(|&w| w == 0));
                    }
                    accesses += 1;
                    control = None;
                } else {
                    assert!(data.iter().all(|&w| w == 0));
                    assert!(now - since < 32 || refused, "no acknowledge");
                    if now - since == 40 {
                        refusals += 1;
                        control = None;
                    }
                }
            } else {
                assert!(!ack && data.iter().all(|&w| w == 0));
            }
            bench.cycle();
        }
        assert!(lookups > 5_000 && accesses > 500 && refusals > 50, "{lookups} {accesses} {refusals}");
    }

    /// Writes in every cycle, their data two cycles behind, as a transaction gives them.
    #[test]
    fn writes_follow_each_other_every_cycle() {
        let table: LookupTable<72> = LookupTable::new(TABLE, 5, 0);
        let mut bench = Bench::new("lookup_table_in_a_row", table);
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let data = |index: u32| [index, !index, index.wrapping_add(7) & 0xFF];
        let mut acknowledged = 0;
        for cycle in 0..40u32 {
            // A table of this number, a table of another, an index beyond the end.
            let (table, index) = if cycle == 5 { (TABLE + 1, 5) } else { (TABLE, cycle) };
            bench.set("table_valid", (cycle < 34).into());
            let mut request = access(true, table, index, &data(cycle.wrapping_sub(2)));
            request.write = 1u64.to_bits();
            bench.set_record::<305>("table_request", request);
            bench.eval();
            acknowledged += bench.get("table_ack");
            bench.cycle();
        }
        assert_eq!(acknowledged, 31);
        bench.set("table_valid", 0);
        for index in 0..32u32 {
            bench.set("request$valid", 1);
            bench.set("request$data", index.into());
            bench.cycle();
            bench.set("request$valid", 0);
            bench.cycle();
            bench.eval();
            assert_eq!(bench.get("response_valid"), 1);
            let found = bench.get_wide("response");
            assert_eq!(found == data(index), index != 5, "entry {index}: {found:x?}");
        }
    }

    #[test]
    fn answers_what_was_written() {
        check::<72>(4, 0);
        check::<128>(5, 1);
    }
}
