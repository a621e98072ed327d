//! Whether a path has fragments outstanding, whatever became of its table entry since.
//!
//! Purpose: counts what was issued on each path and what has come back. Handshake: `issued_*` and `ended_*` come in
//! every second cycle at most; no path ends more than was issued on it. Latency: `outstanding` answers the `query` of 2
//! cycles ago, and knows of what came 2 cycles before that.
//! Reset: nothing is outstanding; a walk of 2^`path_bits` cycles clears the counts, before `initialised` nothing comes.
//! Failure: none.

use rust_hdl::prelude::*;

use crate::prim::ram::LutRam;
use crate::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PathCounts {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub issued_valid: Signal<In, bool>,
    pub issued_path: Signal<In, Bits<8>>,
    pub ended_valid: Signal<In, bool>,
    pub ended_path: Signal<In, Bits<8>>,
    pub query: Signal<In, Bits<8>>,
    pub outstanding: Signal<Out, bool>,
    pub initialised: Signal<Out, bool>,
    /// Modulo 2^12, twice as many as there are identifiers; each for the count and for the query.
    issued: LutRam<Bits<12>>,
    issued_shown: LutRam<Bits<12>>,
    ended: LutRam<Bits<12>>,
    ended_shown: LutRam<Bits<12>>,
    issued1: DFF<bool>,
    issued_path1: DFF<Bits<8>>,
    ended1: DFF<bool>,
    ended_path1: DFF<Bits<8>>,
    outstanding_register: DFF<bool>,
    walking: DFF<bool>,
    walk_path: DFF<Bits<8>>,
    issued_at: Signal<Local, Bits<16>>,
    issued_count: Signal<Local, Bits<12>>,
    issued_write: Signal<Local, bool>,
    ended_at: Signal<Local, Bits<16>>,
    ended_count: Signal<Local, Bits<12>>,
    ended_write: Signal<Local, bool>,
    last_path: Constant<Bits<8>>,
    zero8: Constant<Bits<8>>,
    one8: Constant<Bits<8>>,
    zero12: Constant<Bits<12>>,
    one12: Constant<Bits<12>>,
}

impl PathCounts {
    /// For the paths of a build.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((1..=5).contains(&sizes.path_bits), "2^{} paths", sizes.path_bits);
        assert!(sizes.id_bits <= 11, "2^{} identifiers", sizes.id_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            issued_valid: Default::default(),
            issued_path: Default::default(),
            ended_valid: Default::default(),
            ended_path: Default::default(),
            query: Default::default(),
            outstanding: Default::default(),
            initialised: Default::default(),
            issued: LutRam::new(sizes.path_bits),
            issued_shown: LutRam::new(sizes.path_bits),
            ended: LutRam::new(sizes.path_bits),
            ended_shown: LutRam::new(sizes.path_bits),
            issued1: Default::default(),
            issued_path1: Default::default(),
            ended1: Default::default(),
            ended_path1: Default::default(),
            outstanding_register: Default::default(),
            walking: Default::default(),
            walk_path: Default::default(),
            issued_at: Default::default(),
            issued_count: Default::default(),
            issued_write: Default::default(),
            ended_at: Default::default(),
            ended_count: Default::default(),
            ended_write: Default::default(),
            last_path: Constant::new(((1u64 << sizes.path_bits) - 1).to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            zero12: Constant::new(0u64.to_bits()),
            one12: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for PathCounts {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, issued1, issued_path1, ended1, ended_path1, outstanding_register);
        dff_setup!(self, clock, walking, walk_path);
        clock!(self, clock, issued, issued_shown, ended, ended_shown);

        // A count is read when its event comes and written a cycle later.
        self.issued1.d.next = self.issued_valid.val();
        self.issued_path1.d.next = self.issued_path.val();
        self.ended1.d.next = self.ended_valid.val();
        self.ended_path1.d.next = self.ended_path.val();
        self.issued.read_address.next = bit_cast::<16, 8>(self.issued_path.val());
        self.ended.read_address.next = bit_cast::<16, 8>(self.ended_path.val());
        self.issued_write.next = self.issued1.q.val() | self.walking.q.val();
        self.ended_write.next = self.ended1.q.val() | self.walking.q.val();
        self.issued_at.next = bit_cast::<16, 8>(self.issued_path1.q.val());
        self.ended_at.next = bit_cast::<16, 8>(self.ended_path1.q.val());
        self.issued_count.next = self.issued.read_data.val() + self.one12.val();
        self.ended_count.next = self.ended.read_data.val() + self.one12.val();
        if self.walking.q.val() {
            self.issued_at.next = bit_cast::<16, 8>(self.walk_path.q.val());
            self.ended_at.next = bit_cast::<16, 8>(self.walk_path.q.val());
            self.issued_count.next = self.zero12.val();
            self.ended_count.next = self.zero12.val();
            self.walk_path.d.next = self.walk_path.q.val() + self.one8.val();
            self.walking.d.next = (self.walk_path.q.val() != self.last_path.val());
        }
        self.issued.write.next = self.issued_write.val();
        self.issued.write_address.next = self.issued_at.val();
        self.issued.write_data.next = self.issued_count.val();
        self.issued_shown.write.next = self.issued_write.val();
        self.issued_shown.write_address.next = self.issued_at.val();
        self.issued_shown.write_data.next = self.issued_count.val();
        self.ended.write.next = self.ended_write.val();
        self.ended.write_address.next = self.ended_at.val();
        self.ended.write_data.next = self.ended_count.val();
        self.ended_shown.write.next = self.ended_write.val();
        self.ended_shown.write_address.next = self.ended_at.val();
        self.ended_shown.write_data.next = self.ended_count.val();

        self.issued_shown.read_address.next = bit_cast::<16, 8>(self.query.val());
        self.ended_shown.read_address.next = bit_cast::<16, 8>(self.query.val());
        self.outstanding_register.d.next =
            (self.issued_shown.read_data.val() != self.ended_shown.read_data.val());
        self.outstanding.next = self.outstanding_register.q.val();
        self.initialised.next = !self.walking.q.val();

        if self.reset.val() {
            self.issued1.d.next = false;
            self.ended1.d.next = false;
            self.walking.d.next = true;
            self.walk_path.d.next = self.zero8.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    fn check(path_bits: usize) {
        let sizes = Sizes { path_bits, ..Sizes::DEFAULT };
        let mut bench = Bench::new(&format!("path_counts_{path_bits}"), PathCounts::new(&sizes));
        let mut random = seeded();
        let paths = 1usize << path_bits;
        for _ in 0..3 {
            bench.set("reset", 1);
            bench.set("issued_valid", 0);
            bench.set("ended_valid", 0);
            bench.cycle();
            bench.set("reset", 0);
            let walk = (0..).take_while(|_| {
                bench.cycle();
                bench.get("initialised") == 0
            });
            assert_eq!(walk.count() + 1, paths, "cycles of the walk");
            let mut counts = vec![0u32; paths];
            // What is asked about what changes just then may be answered either way.
            let mut answers: VecDeque<Option<bool>> = VecDeque::from([None, None]);
            let mut changing = Vec::new();
            let (mut issued_last, mut ended_last, mut seen) = (false, false, [0; 2]);
            // Many of each path, more than a count holds in all.
            for cycle in 0..20_000 {
                let growing = cycle / 4_000 % 2 == 0;
                let query = random.random_range(0..paths);
                bench.set("query", query as u128);
                answers.push_back((!changing.contains(&query)).then(|| counts[query] != 0));
                changing.clear();
                let issue = !issued_last && random.random_bool(if growing { 0.8 } else { 0.3 });
                let path = random.random_range(0..paths);
                let issue = issue && counts[path] < 2_000 / paths as u32;
                bench.set("issued_valid", issue.into());
                bench.set("issued_path", path as u128);
                let end = random.random_range(0..paths);
                let ends =
                    !ended_last && counts[end] > 0 && random.random_bool(if growing { 0.4 } else { 0.9 });
                bench.set("ended_valid", ends.into());
                bench.set("ended_path", end as u128);
                changing.extend([issue.then_some(path), ends.then_some(end)].into_iter().flatten());
                counts[path] += u32::from(issue);
                counts[end] -= u32::from(ends);
                (issued_last, ended_last) = (issue, ends);
                bench.eval();
                if let Some(expected) = answers.pop_front().flatten() {
                    assert_eq!(bench.get("outstanding") == 1, expected, "cycle {cycle}");
                    seen[usize::from(expected)] += 1;
                }
                bench.cycle();
            }
            assert!(seen.iter().all(|&seen| seen > 100), "{seen:?}");
        }
    }

    #[test]
    fn knows_who_has_something_outstanding() {
        check(2);
        check(5);
    }
}
