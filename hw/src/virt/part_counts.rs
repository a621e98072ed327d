//! How many parts each component of a disk has under way, and which of some has the fewest.
//!
//! A part is under way from `begins`, with all that begin with it for `disk`, until the judge of plans has its end
//! (`over`), however often it begins again in between. It is counted for its disk and component, whatever template it
//! was begun with, and each that begins is over once: so nothing is left behind by a change of templates, by a plan that
//! changes hands or by one that is stopped. Begun and ended ones are counted apart, modulo 2^12, each by one writer;
//! whoever asks has a slot whose part is not counted yet, so the difference is right for up to 2^12 slots.
//!
//! `disk` stands still from `asks`, a pulse in its first cycle, until `begins`, which is its last, if it comes; the next
//! `disk` stands two cycles later. `least` says of `among`, 6 cycles after `asks` and from then on, which one has the
//! fewest, the lowest-numbered of several; none of none. It knows what was begun before, and of ends those that were told
//! more than 12 cycles ago, none that was told less than 10 ago. Ends are 4 cycles apart.
//!
//! No handshake. Reset forgets all parts, a disk a cycle; `initialised` tells the end.

use rust_hdl::prelude::*;

use super::fewer_parts::FewerParts;
use crate::prim::ram::BlockRam;
use crate::records::PartOver;
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PartCounts {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub initialised: Signal<Out, bool>,
    pub disk: Signal<In, Bits<16>>,
    pub asks: Signal<In, bool>,
    pub among: Signal<In, Bits<8>>,
    pub least: Signal<Out, Bits<8>>,
    pub begins: Signal<In, bool>,
    pub parts: Signal<In, Bits<8>>,
    pub over_valid: Signal<In, bool>,
    pub over: Signal<In, PartOver>,

    // Parts begun and ended: by disk, 12 bits for each component.
    begun: BlockRam<Bits<96>>,
    ended: BlockRam<Bits<96>>,
    cleared: DFF<Bits<16>>,
    all_cleared: DFF<bool>,
    beginning: DFF<bool>,
    beginning_disk: DFF<Bits<16>>,
    beginning_parts: DFF<Bits<8>>,
    /// A part that is over, until `ended` is read for it, while it is, and when its disk's counts have come.
    ending: DFF<PartOver>,
    ending_waits: DFF<bool>,
    ending_reads: DFF<bool>,
    ending_there: DFF<bool>,
    /// Parts under way of `disk`.
    under_way: [DFF<Bits<12>>; 8],
    /// The fewest: of two, of four, and of all.
    of_two: [FewerParts; 4],
    of_four: [FewerParts; 2],
    of_all: FewerParts,

    begun_row: Signal<Local, Bits<96>>,
    ended_row: Signal<Local, Bits<96>>,
    begun_now: [Signal<Local, Bits<12>>; 8],
    ended_now: [Signal<Local, Bits<12>>; 8],
    begun_next: [Signal<Local, Bits<12>>; 8],
    ended_next: [Signal<Local, Bits<12>>; 8],
    begun_written: Signal<Local, Bits<96>>,
    ended_written: Signal<Local, Bits<96>>,
    ending_reads_now: Signal<Local, bool>,
    ending_bit: Signal<Local, Bits<8>>,
    rows: Constant<Bits<16>>,
    no_row: Constant<Bits<96>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    one12: Constant<Bits<12>>,
    one8: Constant<Bits<8>>,
    bit_of: [Constant<Bits<8>>; 8],
}

impl PartCounts {
    /// Of 2^`vd_bits` disks.
    pub fn new(sizes: &Sizes) -> Self {
        assert!(sizes.slot_bits <= 12 && sizes.vd_bits <= 15, "counts of 12 bits, {sizes:?}");
        Self {
            clock: Default::default(),
            reset: Default::default(),
            initialised: Default::default(),
            disk: Default::default(),
            asks: Default::default(),
            among: Default::default(),
            least: Default::default(),
            begins: Default::default(),
            parts: Default::default(),
            over_valid: Default::default(),
            over: Default::default(),
            begun: BlockRam::new(sizes.vd_bits),
            ended: BlockRam::new(sizes.vd_bits),
            cleared: Default::default(),
            all_cleared: Default::default(),
            beginning: Default::default(),
            beginning_disk: Default::default(),
            beginning_parts: Default::default(),
            ending: Default::default(),
            ending_waits: Default::default(),
            ending_reads: Default::default(),
            ending_there: Default::default(),
            under_way: Default::default(),
            of_two: Default::default(),
            of_four: Default::default(),
            of_all: Default::default(),
            begun_row: Default::default(),
            ended_row: Default::default(),
            begun_now: Default::default(),
            ended_now: Default::default(),
            begun_next: Default::default(),
            ended_next: Default::default(),
            begun_written: Default::default(),
            ended_written: Default::default(),
            ending_reads_now: Default::default(),
            ending_bit: Default::default(),
            rows: Constant::new((1u64 << sizes.vd_bits).to_bits()),
            no_row: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            one12: Constant::new(1u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            bit_of: std::array::from_fn(|component| Constant::new((1u64 << component).to_bits())),
        }
    }
}

impl Logic for PartCounts {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, cleared, all_cleared, beginning, beginning_disk, beginning_parts);
        dff_setup!(self, clock, ending, ending_waits, ending_reads, ending_there);
        clock!(self, clock, begun, ended, of_all);
        for i in 0..8 {
            self.under_way[i].clock.next = self.clock.val();
            self.under_way[i].d.next = self.under_way[i].q.val();
        }

        // Both rows of the disk; in the cycle of a part that is over, the ended ones of its disk.
        self.ending_waits.d.next = self.ending_waits.q.val() & self.asks.val();
        self.ending_reads_now.next = self.ending_waits.q.val() & !self.asks.val();
        if self.over_valid.val() {
            self.ending_waits.d.next = true;
            self.ending.d.next = self.over.val();
        }
        self.begun.read_address.next = self.disk.val();
        self.ended.read_address.next = self.disk.val();
        if self.ending_reads_now.val() {
            self.ended.read_address.next = self.ending.q.val().disk;
        }
        self.ending_reads.d.next = self.ending_reads_now.val();
        self.ending_there.d.next = self.ending_reads.q.val();
        self.begun_row.next = self.begun.read_data.val();
        self.ended_row.next = self.ended.read_data.val();

        // What begins is written before the next disk is looked at.
        self.beginning.d.next = self.begins.val();
        self.beginning_disk.d.next = self.disk.val();
        self.beginning_parts.d.next = self.parts.val();
        self.ending_bit.next = (self.one8.val() << self.ending.q.val().component);
        for i in 0..8 {
            self.begun_now[i].next = self.begun_row.val().get_bits::<12>(12 * i);
            self.ended_now[i].next = self.ended_row.val().get_bits::<12>(12 * i);
            self.begun_next[i].next = self.begun_now[i].val();
            if self.beginning_parts.q.val().get_bit(i) {
                self.begun_next[i].next = self.begun_now[i].val() + self.one12.val();
            }
            self.ended_next[i].next = self.ended_now[i].val();
            if self.ending_bit.val().get_bit(i) {
                self.ended_next[i].next = self.ended_now[i].val() + self.one12.val();
            }
        }
        self.begun_written.next = bit_cast::<96, 12>(self.begun_next[0].val())
            | (bit_cast::<96, 12>(self.begun_next[1].val()) << 12)
            | (bit_cast::<96, 12>(self.begun_next[2].val()) << 24)
            | (bit_cast::<96, 12>(self.begun_next[3].val()) << 36)
            | (bit_cast::<96, 12>(self.begun_next[4].val()) << 48)
            | (bit_cast::<96, 12>(self.begun_next[5].val()) << 60)
            | (bit_cast::<96, 12>(self.begun_next[6].val()) << 72)
            | (bit_cast::<96, 12>(self.begun_next[7].val()) << 84);
        self.ended_written.next = bit_cast::<96, 12>(self.ended_next[0].val())
            | (bit_cast::<96, 12>(self.ended_next[1].val()) << 12)
            | (bit_cast::<96, 12>(self.ended_next[2].val()) << 24)
            | (bit_cast::<96, 12>(self.ended_next[3].val()) << 36)
            | (bit_cast::<96, 12>(self.ended_next[4].val()) << 48)
            | (bit_cast::<96, 12>(self.ended_next[5].val()) << 60)
            | (bit_cast::<96, 12>(self.ended_next[6].val()) << 72)
            | (bit_cast::<96, 12>(self.ended_next[7].val()) << 84);
        self.begun.write.next = self.beginning.q.val();
        self.begun.write_address.next = self.beginning_disk.q.val();
        self.begun.write_data.next = self.begun_written.val();
        self.ended.write.next = self.ending_there.q.val();
        self.ended.write_address.next = self.ending.q.val().disk;
        self.ended.write_data.next = self.ended_written.val();
        if !self.all_cleared.q.val() {
            self.begun.write.next = true;
            self.begun.write_address.next = self.cleared.q.val();
            self.begun.write_data.next = self.no_row.val();
            self.ended.write.next = true;
            self.ended.write_address.next = self.cleared.q.val();
            self.ended.write_data.next = self.no_row.val();
            self.cleared.d.next = self.cleared.q.val() + self.one16.val();
            self.all_cleared.d.next = (self.cleared.q.val() == self.rows.val());
        }
        self.initialised.next = self.all_cleared.q.val();

        // Those under way; what was read for a part that is over is of another disk.
        if !self.ending_there.q.val() {
            for i in 0..8 {
                self.under_way[i].d.next = self.begun_now[i].val() - self.ended_now[i].val();
            }
        }

        for i in 0..4 {
            self.of_two[i].clock.next = self.clock.val();
            self.of_two[i].first.next = self.among.val() & self.bit_of[2 * i].val();
            self.of_two[i].first_count.next = self.under_way[2 * i].q.val();
            self.of_two[i].second.next = self.among.val() & self.bit_of[2 * i + 1].val();
            self.of_two[i].second_count.next = self.under_way[2 * i + 1].q.val();
        }
        for i in 0..2 {
            self.of_four[i].clock.next = self.clock.val();
            self.of_four[i].first.next = self.of_two[2 * i].fewer.val();
            self.of_four[i].first_count.next = self.of_two[2 * i].count.val();
            self.of_four[i].second.next = self.of_two[2 * i + 1].fewer.val();
            self.of_four[i].second_count.next = self.of_two[2 * i + 1].count.val();
        }
        self.of_all.first.next = self.of_four[0].fewer.val();
        self.of_all.first_count.next = self.of_four[0].count.val();
        self.of_all.second.next = self.of_four[1].fewer.val();
        self.of_all.second_count.next = self.of_four[1].count.val();
        self.least.next = self.of_all.fewer.val();

        if self.reset.val() {
            self.cleared.d.next = self.zero16.val();
            self.all_cleared.d.next = false;
            self.beginning.d.next = false;
            self.ending_waits.d.next = false;
            self.ending_reads.d.next = false;
            self.ending_there.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use std::collections::{BTreeMap, VecDeque};

    const DISKS: u64 = 8;
    /// Cycles after which an end is known, and before which it is not.
    const KNOWN: u64 = 12;
    const UNKNOWN: u64 = 10;
    /// Cycles from `asks` to `least`.
    const ANSWERED: u64 = 6;

    /// Parts under way, and those whose end may not be known yet: when it was told.
    #[derive(Default)]
    struct Model {
        under_way: BTreeMap<(u64, usize), i64>,
        ends: VecDeque<(u64, u64, usize)>,
    }

    impl Model {
        fn counts(&self, disk: u64) -> Vec<i64> {
            (0..8).map(|i| self.under_way.get(&(disk, i)).copied().unwrap_or(0)).collect()
        }

        /// What may be answered in a cycle.
        fn least(&mut self, cycle: u64, disk: u64, among: u64) -> Vec<u64> {
            while let Some(&(_, disk, component)) =
                self.ends.front().filter(|&&(told, ..)| told + KNOWN <= cycle)
            {
                *self.under_way.get_mut(&(disk, component)).expect("it was begun") -= 1;
                self.ends.pop_front();
            }
            let mut counts = self.counts(disk);
            let of = |counts: &[i64]| {
                let least = (0..8).filter(|i| among >> i & 1 == 1).min_by_key(|&i| counts[i]);
                least.map_or(0, |i| 1 << i)
            };
            let mut allowed = vec![of(&counts)];
            for &(told, other, component) in self.ends.iter().filter(|&&(told, ..)| told + UNKNOWN <= cycle) {
                assert!(told + KNOWN > cycle);
                counts[component] -= i64::from(other == disk);
                allowed.push(of(&counts));
            }
            allowed
        }
    }

    fn reset(bench: &mut Bench) {
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let since = bench.cycles;
        while bench.get("initialised") == 0 {
            bench.cycle();
            assert!(bench.cycles <= since + DISKS + 2, "the walk takes long");
        }
    }

    /// A command that asks.
    #[derive(Clone, Copy)]
    struct Command {
        since: u64,
        until: u64,
        disk: u64,
        among: u64,
    }

    struct Run {
        bench: Bench,
        random: ChaCha8Rng,
        model: Model,
        /// Parts under way, one by one.
        parts: Vec<(u64, usize)>,
        last_end: u64,
        asked: u32,
        ambiguous: u32,
        tied: u32,
        most: i64,
    }

    impl Run {
        fn command(&mut self, disks: u64) -> Command {
            let shortest = if self.random.random_bool(0.5) { ANSWERED } else { 1 };
            let longest = if self.random.random_bool(0.1) { 40 } else { shortest + 3 };
            let since = self.bench.cycles;
            let until = since + self.random.random_range(shortest..=longest);
            let disk = self.random.random_range(0..disks);
            Command { since, until, disk, among: self.random.random::<u8>().into() }
        }

        /// Looks at the answer, and begins parts in the command's last cycle.
        fn serve(&mut self, command: &Command) {
            let &Command { since, until, disk, among } = command;
            let cycle = self.bench.cycles;
            self.bench.set("disk", disk.into());
            self.bench.set("among", among.into());
            self.bench.eval();
            let allowed = self.model.least(cycle, disk, among);
            let found = self.bench.get("least") as u64;
            let is_answered = cycle >= since + ANSWERED;
            if is_answered {
                assert!(allowed.contains(&found), "cycle {cycle}: {found:#b}, allowed {allowed:?}");
                let counts = self.model.counts(disk);
                let fewest = counts.iter().min().expect("eight");
                self.asked += 1;
                self.ambiguous += u32::from(allowed.iter().any(|other| *other != allowed[0]));
                self.tied += u32::from(counts.iter().filter(|count| *count == fewest).count() > 1);
                self.most = counts.into_iter().fold(self.most, i64::max);
            }
            if cycle == until {
                // A write, nothing of what was asked for, or a read.
                let begun = match self.random.random_range(0..3) {
                    0 => among,
                    1 => 0,
                    _ if is_answered => found,
                    _ => 0,
                };
                self.bench.set("parts", begun.into());
                for component in (0..8).filter(|i| begun >> i & 1 == 1) {
                    *self.model.under_way.entry((disk, component)).or_insert(0) += 1;
                    self.parts.push((disk, component));
                }
            }
        }

        /// Now and then a part is over: more often where there are more than `full`.
        fn end(&mut self, full: usize) {
            let cycle = self.bench.cycles;
            let often = if self.parts.len() > full { 0.9 } else { 0.2 };
            let ends = cycle >= self.last_end + 4 && !self.parts.is_empty() && self.random.random_bool(often);
            self.bench.set("over_valid", ends.into());
            if ends {
                let number = self.random.random_range(0..self.parts.len());
                let (disk, component) = self.parts.swap_remove(number);
                let over = PartOver { disk: disk.to_bits(), component: (component as u64).to_bits() };
                self.bench.set_record::<19>("over", over);
                self.model.ends.push_back((cycle, disk, component));
                self.last_end = cycle;
            }
        }

        /// Commands one after another, as close as may be, and parts that are over meanwhile.
        fn go(&mut self, cycles: u64, disks: u64, full: usize) {
            reset(&mut self.bench);
            (self.model, self.parts, self.last_end) = (Model::default(), Vec::new(), self.bench.cycles);
            let (mut command, mut next) = (None, self.bench.cycles);
            for _ in 0..cycles {
                let cycle = self.bench.cycles;
                if command.is_none() && cycle >= next {
                    command = Some(self.command(disks));
                }
                let is = |at: fn(&Command) -> u64| u128::from(command.as_ref().map(at) == Some(cycle));
                self.bench.set("asks", is(|command| command.since));
                self.bench.set("begins", is(|command| command.until));
                if let Some(now) = command {
                    self.serve(&now);
                    if cycle == now.until {
                        (command, next) = (None, cycle + 2 + self.random.random_range(0..4) / 3);
                    }
                }
                self.end(full);
                self.bench.cycle();
            }
        }
    }

    #[test]
    fn the_fewest_are_those_of_the_model() {
        let sizes = Sizes { vd_bits: DISKS.ilog2() as usize, ..Sizes::DEFAULT };
        let bench = Bench::new("part_counts", PartCounts::new(&sizes));
        let (model, parts) = (Model::default(), Vec::new());
        let (asked, ambiguous, tied, most) = (0, 0, 0, 0);
        let mut run =
            Run { bench, random: seeded(), model, parts, last_end: 0, asked, ambiguous, tied, most };
        // Few parts and many, of all disks and of two, and each begins after a reset.
        for (disks, full) in [(DISKS, 20), (DISKS, 900), (2, 10), (2, 2_000)] {
            run.go(30_000, disks, full);
        }
        let Run { asked, ambiguous, tied, most, .. } = run;
        let enough = asked > 20_000 && ambiguous > 100 && tied > 1_000 && most > 50;
        assert!(enough, "{asked} asked, {ambiguous} ambiguous, {tied} tied, {most} at most");
    }

    /// Counts go around: more parts than a counter has numbers, one after another.
    #[test]
    fn counters_wrap() {
        let sizes = Sizes { vd_bits: 1, ..Sizes::DEFAULT };
        let mut bench = Bench::new("part_counts_wrap", PartCounts::new(&sizes));
        reset(&mut bench);
        bench.set("disk", 1);
        bench.set("among", 0b11);
        for round in 0..5_000 {
            // Component 0 has two while it is asked, component 1 one.
            for begins in [0b11, 0b01] {
                bench.set("parts", begins);
                bench.set("begins", 1);
                bench.cycle();
                bench.set("begins", 0);
                bench.cycle();
                bench.cycle();
            }
            for _ in 0..ANSWERED {
                bench.cycle();
            }
            assert_eq!(bench.get("least"), 0b10, "round {round}");
            for component in [0, 0, 1u64] {
                let over = PartOver { disk: 1u64.to_bits(), component: component.to_bits() };
                bench.set_record::<19>("over", over);
                bench.set("over_valid", 1);
                bench.cycle();
                bench.set("over_valid", 0);
                for _ in 0..3 {
                    bench.cycle();
                }
            }
        }
    }
}
