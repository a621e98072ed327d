//! Fetches the allocations of plans and finds where in them each plan begins.
//!
//! An item of `lookup` becomes one item of `located` for its first allocation and one for each of
//! those after it, in order, as many as its blocks reach into. An entry that is not valid, or has no
//! columns, more than 16, or extents smaller than its stripe units, is marked `invalid`.
//!
//! Handshake: streams; the lookup port and the `ColumnDivider` are wired to the other ports. At most
//! 16 lookups are outstanding and answers are always taken. Latency: none to the lookup's request, 10
//! from its answer to `located` (9 of them the divider's). Throughput: a plan every 2 cycles; each
//! further allocation takes 2 more. `idle` rises late. Reset drops what is in work.

use rust_hdl::prelude::*;

use super::command_judge::AllocationLookup;
use super::credit::Credit;
use crate::prim::fifo::Fifo;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{AllocationEntry, Location};

crate::logic_record! {
    /// An allocation's entry, checked.
    CheckedAllocation: 56 {
        /// Index of the first extent.
        first_extent = 32,
        /// Columns, 1 to 16.
        columns = 5,
        /// log2 of the blocks of a stripe unit.
        stripe_shift = 6,
        /// log2 of the blocks of an extent.
        extent_shift = 6,
        /// log2 of the stripe units of an extent.
        row_shift = 6,
        /// 1: the entry cannot be used, the rest says nothing.
        invalid = 1,
    }
}

crate::logic_record! {
    /// A part of a plan's range that lies in one allocation: where it begins.
    Located: 159 {
        /// Row.
        row = 32,
        /// Column.
        column = 5,
        /// Block within the stripe unit.
        unit_offset = 32,
        /// Blocks from there to the unit's end, at most 65,536.
        space = 17,
        /// Blocks of a stripe unit, at most 65,536.
        unit = 17,
        /// The allocation (`CheckedAllocation`).
        allocation = 56,
    }
}

crate::logic_record! {
    /// What the divider says of a block.
    Divided: 103 {
        /// Where it lies (`Location`).
        location = 69,
        /// Blocks to the stripe unit's end.
        space = 17,
        /// Blocks of a stripe unit.
        unit = 17,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Locator {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub lookup: StreamIn<AllocationLookup>,
    pub allocation_request: StreamOut<Bits<32>>,
    pub allocation_valid: Signal<In, bool>,
    pub allocation_data: Signal<In, Bits<72>>,
    pub divide_valid: Signal<Out, bool>,
    pub divide_offset: Signal<Out, Bits<32>>,
    pub divide_stripe_shift: Signal<Out, Bits<8>>,
    pub divide_columns: Signal<Out, Bits<8>>,
    pub divided_valid: Signal<In, bool>,
    pub divided_location: Signal<In, Location>,
    pub divided_space: Signal<In, Bits<17>>,
    pub divided_unit: Signal<In, Bits<17>>,
    pub located: StreamOut<Located>,
    pub idle: Signal<Out, bool>,

    // The walk through the allocations after the first.
    walks: DFF<bool>,
    preparing: DFF<bool>,
    walking: DFF<bool>,
    /// The next is to be asked for; `over` says whether it is not the last.
    due: DFF<bool>,
    over: DFF<bool>,
    /// No plan in work: the opposite of `walks`, from a register of its own.
    open: DFF<bool>,
    shift: DFF<Bits<8>>,
    index: DFF<Bits<32>>,
    rest: DFF<Bits<17>>,
    size: DFF<Bits<17>>,
    entry: DFF<AllocationEntry>,
    entry_valid: DFF<bool>,
    checked_register: DFF<CheckedAllocation>,
    checked_valid: DFF<bool>,
    asked_register: DFF<bool>,
    offset: DFF<Bits<32>>,
    credit: Credit,
    offsets: Fifo<Bits<32>>,
    allocations: Fifo<CheckedAllocation>,
    divisions: Fifo<Divided>,

    asking: Signal<Local, bool>,
    asked: Signal<Local, bool>,
    taken: Signal<Local, bool>,
    wanted: Signal<Local, Bits<32>>,
    wanted_high: Signal<Local, Bits<16>>,
    rest_any: Signal<Local, bool>,
    rest_now: Signal<Local, Bits<17>>,
    granted: Signal<Local, bool>,
    walks_next: Signal<Local, bool>,
    stepped: Signal<Local, Bits<32>>,
    first_rest: Signal<Local, Bits<17>>,
    answer: Signal<Local, AllocationEntry>,
    checked: Signal<Local, CheckedAllocation>,
    row_shift: Signal<Local, Bits<8>>,
    division: Signal<Local, Divided>,
    place: Signal<Local, Location>,
    one: Constant<Bits<32>>,
    no_offset: Constant<Bits<32>>,
    highest: Constant<Bits<16>>,
    size_one: Constant<Bits<17>>,
    most_size: Constant<Bits<17>>,
    most_size_shift: Constant<Bits<8>>,
    most_columns: Constant<Bits<8>>,
    no_columns: Constant<Bits<8>>,
    most_shift: Constant<Bits<8>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl Default for Locator {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            lookup: Default::default(),
            allocation_request: Default::default(),
            allocation_valid: Default::default(),
            allocation_data: Default::default(),
            divide_valid: Default::default(),
            divide_offset: Default::default(),
            divide_stripe_shift: Default::default(),
            divide_columns: Default::default(),
            divided_valid: Default::default(),
            divided_location: Default::default(),
            divided_space: Default::default(),
            divided_unit: Default::default(),
            located: Default::default(),
            idle: Default::default(),
            walks: Default::default(),
            preparing: Default::default(),
            walking: Default::default(),
            due: Default::default(),
            over: Default::default(),
            open: Default::default(),
            granted: Default::default(),
            walks_next: Default::default(),
            shift: Default::default(),
            credit: Credit::new(16),
            asked_register: Default::default(),
            offset: Default::default(),
            checked_register: Default::default(),
            checked_valid: Default::default(),
            rest_any: Default::default(),
            rest_now: Default::default(),
            stepped: Default::default(),
            index: Default::default(),
            rest: Default::default(),
            size: Default::default(),
            entry: Default::default(),
            entry_valid: Default::default(),
            offsets: Fifo::quick(4, 1),
            allocations: Fifo::lut(4, 1),
            divisions: Fifo::quick(4, 1),
            asking: Default::default(),
            asked: Default::default(),
            taken: Default::default(),
            wanted: Default::default(),
            wanted_high: Default::default(),
            first_rest: Default::default(),
            answer: Default::default(),
            checked: Default::default(),
            row_shift: Default::default(),
            division: Default::default(),
            place: Default::default(),
            one: Constant::new(1u64.to_bits()),
            no_offset: Constant::new(0u64.to_bits()),
            highest: Constant::new(0xFFFFu64.to_bits()),
            size_one: Constant::new(1u64.to_bits()),
            most_size: Constant::new(65_536u64.to_bits()),
            most_size_shift: Constant::new(16u64.to_bits()),
            most_columns: Constant::new(16u64.to_bits()),
            no_columns: Constant::new(0u64.to_bits()),
            most_shift: Constant::new(32u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for Locator {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            walks,
            preparing,
            walking,
            due,
            over,
            open,
            shift,
            index,
            rest,
            size,
            entry,
            entry_valid,
            checked_register,
            checked_valid,
            asked_register,
            offset
        );
        self.offsets.clock.next = self.clock.val();
        self.offsets.reset.next = self.reset.val();
        self.allocations.clock.next = self.clock.val();
        self.allocations.reset.next = self.reset.val();
        self.divisions.clock.next = self.clock.val();
        self.divisions.reset.next = self.reset.val();

        // Asks for the first allocation straight from the stream, for the others from the walk.
        self.credit.clock.next = self.clock.val();
        self.credit.reset.next = self.reset.val();
        self.asking.next =
            self.credit.room.val() & (self.due.q.val() | (self.lookup.valid.val() & self.open.q.val()));
        self.allocation_request.valid.next = self.asking.val();
        self.wanted.next = self.lookup.data.val().index;
        if self.walks.q.val() {
            self.wanted.next = self.index.q.val();
        }
        self.allocation_request.data.next = self.wanted.val();
        self.asked.next = self.asking.val() & self.allocation_request.ready.val();
        self.lookup.ready.next =
            self.credit.room.val() & self.open.q.val() & self.allocation_request.ready.val();
        self.asked_register.d.next = self.asked.val();
        self.offset.d.next = self.lookup.data.val().offset;
        if self.walks.q.val() {
            self.offset.d.next = self.no_offset.val();
        }
        // In time for the answer.
        self.offsets.push.next = self.asked_register.q.val();
        self.offsets.data.next = self.offset.q.val();
        self.credit.coming.next = self.lookup.valid.val() | self.walks.q.val();
        self.credit.entered.next = self.asked.val();

        // No table reaches as high as 2^32 - 2^16: an index up there stays, lest it wraps.
        self.wanted_high.next = self.index.q.val().get_bits::<16>(16);
        self.stepped.next = self.index.q.val() + self.one.val();
        if (self.wanted_high.val() == self.highest.val()) {
            self.stepped.next = self.index.q.val();
        }
        self.first_rest.next = self.lookup.data.val().rest;
        self.rest_now.next = self.rest.q.val();
        self.rest_any.next = self.rest_now.val().any();
        self.over.d.next = (self.rest.q.val() > self.size.q.val());
        self.granted.next = self.due.q.val() & self.credit.room.val() & self.allocation_request.ready.val();
        self.walks_next.next = self.walks.q.val();
        self.preparing.d.next = self.asked.val() & self.open.q.val();
        if !self.walks.q.val() {
            self.index.d.next = self.lookup.data.val().index;
            self.rest.d.next = self.first_rest.val();
            self.shift.d.next = self.lookup.data.val().allocation_shift;
            self.walks_next.next = self.asked.val();
        }
        if self.preparing.q.val() {
            self.size.d.next = (self.size_one.val() << self.shift.q.val());
            if (self.shift.q.val() > self.most_size_shift.val()) {
                self.size.d.next = self.most_size.val();
            }
            self.walking.d.next = self.rest_any.val();
            self.walks_next.next = self.rest_any.val();
        }
        if self.preparing.q.val() | self.granted.val() {
            self.index.d.next = self.stepped.val();
        }
        self.due.d.next = self.walking.q.val() & !self.granted.val();
        if self.granted.val() {
            self.rest.d.next = self.rest.q.val() - self.size.q.val();
            self.walking.d.next = self.over.q.val();
            self.walks_next.next = self.over.q.val();
        }
        self.walks.d.next = self.walks_next.val();
        self.open.d.next = !self.walks_next.val();

        // Answers go to the divider with their offsets, and are checked beside it.
        self.offsets.out.ready.next = self.allocation_valid.val();
        self.answer.next = self.allocation_data.val().into();
        self.divide_valid.next = self.allocation_valid.val();
        self.divide_offset.next = self.offsets.out.data.val();
        self.divide_stripe_shift.next = self.answer.val().stripe_shift;
        self.divide_columns.next = self.answer.val().columns;
        self.entry.d.next = self.answer.val();
        self.entry_valid.d.next = self.allocation_valid.val();
        self.row_shift.next = self.entry.q.val().extent_shift - self.entry.q.val().stripe_shift;
        self.checked.next.first_extent = self.entry.q.val().first_extent;
        self.checked.next.columns = bit_cast::<5, 8>(self.entry.q.val().columns);
        self.checked.next.stripe_shift = bit_cast::<6, 8>(self.entry.q.val().stripe_shift);
        self.checked.next.extent_shift = bit_cast::<6, 8>(self.entry.q.val().extent_shift);
        self.checked.next.row_shift = bit_cast::<6, 8>(self.row_shift.val());
        self.checked.next.invalid = self.clear.val();
        if (self.entry.q.val().valid == self.clear.val())
            | (self.entry.q.val().columns == self.no_columns.val())
            | (self.entry.q.val().columns > self.most_columns.val())
            | (self.entry.q.val().extent_shift < self.entry.q.val().stripe_shift)
            | (self.entry.q.val().extent_shift > self.most_shift.val())
        {
            self.checked.next.invalid = self.flag.val();
        }
        self.checked_register.d.next = self.checked.val();
        self.checked_valid.d.next = self.entry_valid.q.val();
        self.allocations.push.next = self.checked_valid.q.val();
        self.allocations.data.next = self.checked_register.q.val();

        self.division.next.location = self.divided_location.val().into();
        self.division.next.space = self.divided_space.val();
        self.division.next.unit = self.divided_unit.val();
        self.divisions.push.next = self.divided_valid.val();
        self.divisions.data.next = self.division.val();

        // The entry is there long before the divider's answer.
        self.located.valid.next = self.divisions.out.valid.val();
        self.place.next = self.divisions.out.data.val().location.into();
        self.located.data.next.row = self.place.val().row;
        self.located.data.next.column = self.place.val().column;
        self.located.data.next.unit_offset = self.place.val().unit_offset;
        self.located.data.next.space = self.divisions.out.data.val().space;
        self.located.data.next.unit = self.divisions.out.data.val().unit;
        self.located.data.next.allocation = self.allocations.out.data.val().into();
        self.taken.next = self.divisions.out.valid.val() & self.located.ready.val();
        self.divisions.out.ready.next = self.located.ready.val();
        self.allocations.out.ready.next = self.taken.val();

        self.credit.left.next = self.taken.val();
        self.idle.next = self.credit.none.val();

        if self.reset.val() {
            self.walking.d.next = false;
            self.walks.d.next = false;
            self.open.d.next = true;
            self.due.d.next = false;
            self.preparing.d.next = false;
            self.asked_register.d.next = false;
            self.checked_valid.d.next = false;
            self.entry_valid.d.next = false;
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

    fn random_entry(random: &mut ChaCha8Rng) -> AllocationEntry {
        let stripe_shift = random.random_range(0..=32u64);
        let extent_shift = random.random_range(stripe_shift..=32);
        let mut entry = AllocationEntry {
            first_extent: u64::from(random.random::<u32>()).to_bits(),
            columns: random.random_range(1..=16u64).to_bits(),
            stripe_shift: stripe_shift.to_bits(),
            extent_shift: extent_shift.to_bits(),
            valid: 1u64.to_bits(),
            ..Default::default()
        };
        match random.random_range(0..12) {
            0 => entry.valid = 0u64.to_bits(),
            1 => entry.columns = [0u64, 17, 32, 255][random.random_range(0..4)].to_bits(),
            2 => entry.extent_shift = random.random_range(33..256u64).to_bits(),
            3 => entry.stripe_shift = random.random_range(extent_shift + 1..256).to_bits(),
            _ => {}
        }
        entry
    }

    /// The allocation, or nothing when it cannot be used.
    fn usable(entry: &AllocationEntry) -> Option<CheckedAllocation> {
        let (columns, stripe, extent) =
            (entry.columns.to_u64(), entry.stripe_shift.to_u64(), entry.extent_shift.to_u64());
        (entry.valid.any() && (1..=16).contains(&columns) && stripe <= extent && extent <= 32).then(|| {
            CheckedAllocation {
                first_extent: entry.first_extent,
                columns: columns.to_bits(),
                stripe_shift: stripe.to_bits(),
                extent_shift: extent.to_bits(),
                row_shift: (extent - stripe).to_bits(),
                invalid: 0u64.to_bits(),
            }
        })
    }

    /// Stands for the divider: any answer will do, as long as it tells questions apart.
    fn divided(offset: u64, entry: &AllocationEntry) -> (Location, u64, u64) {
        let location = Location {
            row: (offset ^ entry.first_extent.to_u64()).to_bits(),
            column: (entry.columns.to_u64() & 0x1F).to_bits(),
            unit_offset: offset.to_bits(),
        };
        (location, offset & 0x1_FFFF, entry.stripe_shift.to_u64())
    }

    fn check(stalls: f64, latency: u64) {
        let mut bench = Bench::new("locator", Locator::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut given: Option<AllocationLookup> = None;
        // What must be asked for next: index, offset; the answers on their way; the divider's.
        let mut asked = VecDeque::<(u64, u64)>::new();
        let mut answers = VecDeque::<(u64, u64, AllocationEntry)>::new();
        let mut divisions = VecDeque::<(u64, u64, AllocationEntry)>::new();
        let mut owed = VecDeque::<(u64, AllocationEntry)>::new();
        let (mut good, mut bad, mut high) = (0, 0, 0);
        for _ in 0..30_000 {
            let now = bench.cycles;
            if given.is_none() && random.random_bool(1.0 - stalls) {
                let shift = random.random_range(0..=32u64);
                let most = 40u64.checked_shl(shift as u32).unwrap_or(u64::MAX).min(65_535);
                let high = random.random_bool(0.05);
                let index = random.random::<u32>() >> if high { 0 } else { random.random_range(1..32) };
                given = Some(AllocationLookup {
                    index: u64::from(if high { index | 0xFFFF_FFF8 } else { index }).to_bits(),
                    offset: u64::from(random.random::<u32>()).to_bits(),
                    rest: if random.random_bool(0.7) { 0 } else { random.random_range(0..=most) }.to_bits(),
                    allocation_shift: shift.to_bits(),
                });
            }
            bench.set("lookup$valid", given.is_some().into());
            bench.set_record::<89>("lookup$data", given.unwrap_or_default());
            let (ask, take) = (random.random_bool(1.0 - stalls), random.random_bool(1.0 - stalls));
            bench.set("allocation_request$ready", ask.into());
            bench.set("located$ready", take.into());
            let answer = answers.front().copied().filter(|answer| answer.0 <= now);
            bench.set("allocation_valid", answer.is_some().into());
            bench.set_record::<72>("allocation_data", answer.map_or(AllocationEntry::default(), |a| a.2));
            let division = divisions.front().copied().filter(|division| division.0 == now);
            bench.set("divided_valid", division.is_some().into());
            if let Some((_, offset, entry)) = division {
                let (location, space, unit) = divided(offset, &entry);
                bench.set_record::<69>("divided_location", location);
                bench.set("divided_space", space.into());
                bench.set("divided_unit", unit.into());
                divisions.pop_front();
            }
            bench.eval();
            if take && bench.get("located$valid") == 1 {
                let located: Located = bench.get_record::<159, _>("located$data");
                let (offset, entry) = owed.pop_front().expect("nothing is owed");
                let (location, space, unit) = divided(offset, &entry);
                assert_eq!((located.row, located.column), (location.row, location.column));
                assert_eq!(located.unit_offset, location.unit_offset);
                assert_eq!((located.space.to_u64(), located.unit.to_u64()), (space, unit));
                let got: CheckedAllocation = located.allocation.into();
                match usable(&entry) {
                    Some(allocation) => assert_eq!(got, allocation),
                    None => assert!(got.invalid.any(), "{entry:?}"),
                }
                *if got.invalid.any() { &mut bad } else { &mut good } += 1;
            }
            assert_eq!(bench.get("divide_valid") == 1, answer.is_some());
            if let Some((_, offset, entry)) = answer {
                assert_eq!(bench.get("divide_offset") as u64, offset);
                assert_eq!(bench.get("divide_stripe_shift") as u64, entry.stripe_shift.to_u64());
                assert_eq!(bench.get("divide_columns") as u64, entry.columns.to_u64());
                divisions.push_back((now + 11, offset, entry));
                answers.pop_front();
            }
            if let Some(lookup) = given.filter(|_| bench.get("lookup$ready") == 1) {
                assert!(asked.is_empty(), "a lookup was taken before the last one's end");
                let mut rest = lookup.rest.to_u64() as i64;
                asked.push_back((lookup.index.to_u64(), lookup.offset.to_u64()));
                for i in 1.. {
                    if rest <= 0 {
                        break;
                    }
                    asked.push_back((lookup.index.to_u64() + i, 0));
                    rest -= 1i64 << lookup.allocation_shift.to_u64();
                }
                given = None;
            }
            if ask && bench.get("allocation_request$valid") == 1 {
                let index = bench.get("allocation_request$data") as u64;
                let (wanted, offset) = asked.pop_front().expect("nothing to ask");
                if wanted < 0xFFFF_0000 {
                    assert_eq!(index, wanted);
                } else {
                    assert!(index >= 0xFFFF_0000, "{index:#x} for {wanted:#x}");
                    high += 1;
                }
                let entry = random_entry(&mut random);
                let due =
                    answers.back().map_or(0, |a| a.0 + 1).max(now + 2 + random.random_range(0..=latency));
                answers.push_back((due, offset, entry));
                owed.push_back((offset, entry));
                assert!(owed.len() <= 32, "more than 32 lookups outstanding");
            }
            bench.cycle();
            assert!(owed.is_empty() || bench.get("idle") == 0);
        }
        assert!(good > 3000 && bad > 500 && high > 50, "{good} {bad} {high}");
    }

    #[test]
    fn every_allocation_of_every_plan_is_located() {
        check(0.3, 0);
        check(0.1, 40);
        check(0.0, 0);
    }
}
