//! What returned fragments free: identifiers, credit, and entries of the submission queues.
//!
//! Purpose: `returned` passes through to the collector; each transfer releases its identifier, counts
//! as returned on its path, and moves the path's submission head to the one the SSD reported, if that
//! lies from the present head to the tail; any other head is counted in `bad_heads` and ignored. One that the card
//! ended itself (`own`) only releases its identifier; one that was never issued (`bounced`) only passes through,
//! behind the others.
//! Handshake: `passed` repeats `returned`, so a path of `ready` leads through; `release_valid` is a
//! pulse. `tail_path` asks `Submission` for the tail (`tail_value` a cycle later). `query_path` is
//! answered by `query_head` and `query_returned` a cycle later; so is `state_query`, for `PathTable`.
//! Latency: none to `passed`, 1 cycle to the release, 3 to a query that sees it. Throughput: one in 2
//! cycles. Order: as they came.
//! Reset: counters become 0; heads and counts of a path become 0 when its table entry is written.
//! Failure: an SSD that reports no usable head keeps its queue full, and harms its path alone.

use rust_hdl::prelude::*;

use super::path_write::PathWrite;
use crate::prim::ram::LutRam;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Returned, TableRequest};
use crate::Sizes;

/// Accounts of the paths, the returning side.
#[derive(Clone, Debug, LogicBlock)]
pub struct PathReturns {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub returned: StreamIn<Returned>,
    /// Fragments that were never issued.
    pub bounced: StreamIn<Returned>,
    pub passed: StreamOut<Returned>,
    pub release_valid: Signal<Out, bool>,
    pub release_id: Signal<Out, Bits<16>>,
    pub release_path: Signal<Out, Bits<8>>,
    pub tail_path: Signal<Out, Bits<8>>,
    pub tail_value: Signal<In, Bits<16>>,
    pub query_path: Signal<In, Bits<8>>,
    pub query_head: Signal<Out, Bits<16>>,
    /// Fragments returned, modulo 2^16.
    pub query_returned: Signal<Out, Bits<16>>,
    pub state_query: Signal<In, Bits<8>>,
    pub state_head: Signal<Out, Bits<16>>,
    pub state_returned: Signal<Out, Bits<16>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    /// Heads ignored, modulo 2^32.
    pub bad_heads: Signal<Out, Bits<32>>,
    pub idle: Signal<Out, bool>,
    path_write: PathWrite,
    /// Submission heads and counts of returned fragments, each for the check and for both queries.
    heads: LutRam<Bits<16>>,
    heads_queried: LutRam<Bits<16>>,
    heads_shown: LutRam<Bits<16>>,
    counts: LutRam<Bits<16>>,
    counts_queried: LutRam<Bits<16>>,
    counts_shown: LutRam<Bits<16>>,
    /// Entries − 1 of the submission queues.
    sizes: LutRam<Bits<16>>,
    /// A path's table entry was written; its memories are still to be cleared.
    clearing: DFF<bool>,
    /// The return whose memories are read, then compared, then written, then visible in them.
    return1_valid: DFF<bool>,
    return1: DFF<Returned>,
    return2_valid: DFF<bool>,
    path2: DFF<Bits<16>>,
    head2: DFF<Bits<16>>,
    count2: DFF<Bits<16>>,
    fits: DFF<bool>,
    above_head: DFF<bool>,
    below_tail: DFF<bool>,
    straight: DFF<bool>,
    head3: DFF<Bits<16>>,
    head3_valid: DFF<bool>,
    count3: DFF<Bits<16>>,
    return3_valid: DFF<bool>,
    same_path: DFF<bool>,
    bad: DFF<bool>,
    bad_count: DFF<Bits<32>>,
    transfer: Signal<Local, bool>,
    path0: Signal<Local, Bits<16>>,
    path1: Signal<Local, Bits<8>>,
    head1: Signal<Local, Bits<16>>,
    forwarded: Signal<Local, bool>,
    above_stored: Signal<Local, bool>,
    above_new: Signal<Local, bool>,
    stored_straight: Signal<Local, bool>,
    new_straight: Signal<Local, bool>,
    old_count: Signal<Local, Bits<16>>,
    in_range: Signal<Local, bool>,
    head_write: Signal<Local, bool>,
    count_write: Signal<Local, bool>,
    write_path: Signal<Local, Bits<16>>,
    write_head: Signal<Local, Bits<16>>,
    write_count: Signal<Local, Bits<16>>,
    clear: Constant<Bits<1>>,
    zero16: Constant<Bits<16>>,
    one16: Constant<Bits<16>>,
    zero32: Constant<Bits<32>>,
    one32: Constant<Bits<32>>,
}

impl PathReturns {
    /// The accounts of a build.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            returned: Default::default(),
            bounced: Default::default(),
            passed: Default::default(),
            release_valid: Default::default(),
            release_id: Default::default(),
            release_path: Default::default(),
            tail_path: Default::default(),
            tail_value: Default::default(),
            query_path: Default::default(),
            query_head: Default::default(),
            query_returned: Default::default(),
            state_query: Default::default(),
            state_head: Default::default(),
            state_returned: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            bad_heads: Default::default(),
            idle: Default::default(),
            path_write: PathWrite::new(sizes),
            heads: LutRam::new(sizes.path_bits),
            heads_queried: LutRam::new(sizes.path_bits),
            counts: LutRam::new(sizes.path_bits),
            counts_queried: LutRam::new(sizes.path_bits),
            heads_shown: LutRam::new(sizes.path_bits),
            counts_shown: LutRam::new(sizes.path_bits),
            sizes: LutRam::new(sizes.path_bits),
            clearing: Default::default(),
            return1_valid: Default::default(),
            return1: Default::default(),
            return2_valid: Default::default(),
            path2: Default::default(),
            head2: Default::default(),
            count2: Default::default(),
            fits: Default::default(),
            above_head: Default::default(),
            below_tail: Default::default(),
            straight: Default::default(),
            head3: Default::default(),
            head3_valid: Default::default(),
            count3: Default::default(),
            return3_valid: Default::default(),
            same_path: Default::default(),
            bad: Default::default(),
            bad_count: Default::default(),
            transfer: Default::default(),
            path0: Default::default(),
            path1: Default::default(),
            head1: Default::default(),
            forwarded: Default::default(),
            above_stored: Default::default(),
            above_new: Default::default(),
            stored_straight: Default::default(),
            new_straight: Default::default(),
            old_count: Default::default(),
            in_range: Default::default(),
            head_write: Default::default(),
            count_write: Default::default(),
            write_path: Default::default(),
            write_head: Default::default(),
            write_count: Default::default(),
            clear: Constant::new(0u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for PathReturns {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, clearing, return1_valid, return1, return2_valid, path2, head2, count2);
        dff_setup!(self, clock, fits, above_head, below_tail, straight, head3, head3_valid, count3);
        dff_setup!(self, clock, return3_valid, same_path, bad, bad_count);
        self.path_write.clock.next = self.clock.val();
        self.path_write.table_valid.next = self.table_valid.val();
        self.path_write.table_request.next = self.table_request.val();
        self.heads.clock.next = self.clock.val();
        self.heads_queried.clock.next = self.clock.val();
        self.counts.clock.next = self.clock.val();
        self.counts_queried.clock.next = self.clock.val();
        self.heads_shown.clock.next = self.clock.val();
        self.counts_shown.clock.next = self.clock.val();
        self.sizes.clock.next = self.clock.val();
        self.sizes.write.next = self.path_write.written.val();
        self.sizes.write_address.next = self.path_write.path.val();
        self.sizes.write_data.next = self.path_write.entry.val().sq_size_z;

        // One return in two cycles: the memories show the last but one, at most one is ahead of them.
        self.passed.valid.next =
            (self.returned.valid.val() | self.bounced.valid.val()) & !self.return1_valid.q.val();
        self.passed.data.next = self.returned.data.val();
        if !self.returned.valid.val() {
            self.passed.data.next = self.bounced.data.val();
        }
        self.bounced.ready.next =
            self.passed.ready.val() & !self.return1_valid.q.val() & !self.returned.valid.val();
        self.returned.ready.next = self.passed.ready.val() & !self.return1_valid.q.val();
        self.transfer.next =
            self.returned.valid.val() & self.passed.ready.val() & !self.return1_valid.q.val();
        self.tail_path.next = self.returned.data.val().path;
        self.path0.next = bit_cast::<16, 8>(self.returned.data.val().path);
        self.heads.read_address.next = self.path0.val();
        self.counts.read_address.next = self.path0.val();
        self.sizes.read_address.next = self.path0.val();
        self.return1_valid.d.next = self.transfer.val();
        self.return1.d.next = self.returned.data.val();
        self.same_path.d.next = (self.path0.val() == self.path2.q.val());
        self.release_valid.next = self.return1_valid.q.val();
        self.release_id.next = self.return1.q.val().command_id;
        self.release_path.next = self.return1.q.val().path;

        // Compare the reported head with the present one, the tail and the size.
        self.path1.next = self.return1.q.val().path;
        self.head1.next = self.return1.q.val().sq_head;
        self.old_count.next = self.counts.read_data.val();
        if self.same_path.q.val() & self.return3_valid.q.val() {
            self.old_count.next = self.count3.q.val();
        }
        self.fits.d.next = (self.head1.val() <= self.sizes.read_data.val());
        // With either head, and the right one of both then.
        self.forwarded.next = self.same_path.q.val() & self.return3_valid.q.val() & self.head3_valid.q.val();
        self.above_stored.next = (self.head1.val() >= self.heads.read_data.val());
        self.above_new.next = (self.head1.val() >= self.head3.q.val());
        self.stored_straight.next = (self.heads.read_data.val() <= self.tail_value.val());
        self.new_straight.next = (self.head3.q.val() <= self.tail_value.val());
        self.above_head.d.next = self.above_stored.val();
        self.straight.d.next = self.stored_straight.val();
        if self.forwarded.val() {
            self.above_head.d.next = self.above_new.val();
            self.straight.d.next = self.new_straight.val();
        }
        self.below_tail.d.next = (self.head1.val() <= self.tail_value.val());
        // Of one that the card ended nothing is known.
        self.return2_valid.d.next =
            self.return1_valid.q.val() & (self.return1.q.val().own == self.clear.val());
        self.path2.d.next = bit_cast::<16, 8>(self.path1.val());
        self.head2.d.next = self.head1.val();
        self.count2.d.next = self.old_count.val() + self.one16.val();

        // Write them back; a path's memories are cleared in a cycle that has nothing to write.
        self.in_range.next = self.above_head.q.val() | self.below_tail.q.val();
        if self.straight.q.val() {
            self.in_range.next = self.above_head.q.val() & self.below_tail.q.val();
        }
        self.head_write.next = self.return2_valid.q.val() & self.in_range.val() & self.fits.q.val();
        self.count_write.next = self.return2_valid.q.val();
        self.write_path.next = self.path2.q.val();
        self.write_head.next = self.head2.q.val();
        self.write_count.next = self.count2.q.val();
        self.head3_valid.d.next = self.head_write.val();
        self.return3_valid.d.next = self.return2_valid.q.val();
        self.head3.d.next = self.head2.q.val();
        self.count3.d.next = self.count2.q.val();
        self.bad.d.next = self.return2_valid.q.val() & !self.head_write.val();
        if self.clearing.q.val() & !self.return2_valid.q.val() {
            self.clearing.d.next = false;
            self.head_write.next = true;
            self.count_write.next = true;
            self.write_path.next = self.path_write.path.val();
            self.write_head.next = self.zero16.val();
            self.write_count.next = self.zero16.val();
        }
        if self.path_write.written.val() {
            self.clearing.d.next = true;
        }
        self.heads.write.next = self.head_write.val();
        self.heads.write_address.next = self.write_path.val();
        self.heads.write_data.next = self.write_head.val();
        self.heads_queried.write.next = self.head_write.val();
        self.heads_queried.write_address.next = self.write_path.val();
        self.heads_queried.write_data.next = self.write_head.val();
        self.heads_shown.write.next = self.head_write.val();
        self.heads_shown.write_address.next = self.write_path.val();
        self.heads_shown.write_data.next = self.write_head.val();
        self.counts.write.next = self.count_write.val();
        self.counts.write_address.next = self.write_path.val();
        self.counts.write_data.next = self.write_count.val();
        self.counts_queried.write.next = self.count_write.val();
        self.counts_queried.write_address.next = self.write_path.val();
        self.counts_queried.write_data.next = self.write_count.val();
        self.counts_shown.write.next = self.count_write.val();
        self.counts_shown.write_address.next = self.write_path.val();
        self.counts_shown.write_data.next = self.write_count.val();
        self.heads_queried.read_address.next = bit_cast::<16, 8>(self.query_path.val());
        self.counts_queried.read_address.next = bit_cast::<16, 8>(self.query_path.val());
        self.query_head.next = self.heads_queried.read_data.val();
        self.query_returned.next = self.counts_queried.read_data.val();
        self.heads_shown.read_address.next = bit_cast::<16, 8>(self.state_query.val());
        self.counts_shown.read_address.next = bit_cast::<16, 8>(self.state_query.val());
        self.state_head.next = self.heads_shown.read_data.val();
        self.state_returned.next = self.counts_shown.read_data.val();

        if self.bad.q.val() {
            self.bad_count.d.next = self.bad_count.q.val() + self.one32.val();
        }
        self.bad_heads.next = self.bad_count.q.val();
        self.idle.next = !self.returned.valid.val()
            & !self.bounced.valid.val()
            & !self.return1_valid.q.val()
            & !self.return2_valid.q.val()
            & !self.bad.q.val()
            & !self.clearing.q.val();

        if self.reset.val() {
            self.clearing.d.next = false;
            self.return1_valid.d.next = false;
            self.return2_valid.d.next = false;
            self.return3_valid.d.next = false;
            self.head3_valid.d.next = false;
            self.bad.d.next = false;
            self.bad_count.d.next = self.zero32.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use crate::nvme::path_write::write_request;
    use crate::records::PathEntry;
    use rand::RngExt;
    use std::collections::VecDeque;

    #[derive(Clone, Copy, Default)]
    struct Path {
        head: u64,
        count: u64,
        size: u64,
        tail: u64,
    }

    fn request_path(bench: &mut Bench, path: usize, size: u64) {
        let entry = PathEntry { sq_size_z: (size - 1).into(), valid: 1.into(), ..PathEntry::default() };
        bench.set_record("table_request", write_request(path, entry));
        bench.set("table_valid", 1);
    }

    fn write_path(bench: &mut Bench, path: usize, size: u64) {
        request_path(bench, path, size);
        bench.cycle();
        bench.set("table_valid", 0);
    }

    fn random_return(random: &mut impl RngExt, paths: &[Path], wild: bool) -> Returned {
        let path = random.random_range(0..paths.len());
        let Path { head, size, tail, .. } = paths[path];
        let ahead = (tail + size - head) % size;
        let sq_head = if wild && random.random_bool(0.3) {
            random.random_range(0..2 * size)
        } else {
            (head + random.random_range(0..=ahead)) % size
        };
        Returned {
            path: (path as u64).into(),
            sq_head: sq_head.into(),
            command_id: random.random_range(0..1u64 << 16).into(),
            part: random.random_range(0..1u64 << 16).into(),
            ordinal: random.random_range(0..1u64 << 17).into(),
            last: random.random_range(0..2u64).into(),
            status: random.random_range(0..1u64 << 15).into(),
            own: u64::from(random.random_bool(0.1)).into(),
        }
    }

    /// Good and bad heads on a few paths; what passes, what is released, and what queries see.
    fn check(path_bits: usize, sizes_of: &[u64]) {
        let sizes = Sizes { path_bits, ..Sizes::DEFAULT };
        let mut bench = Bench::new(&format!("path_returns_{path_bits}"), PathReturns::new(&sizes));
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut paths: Vec<Path> = Vec::new();
        for (path, &size) in sizes_of.iter().enumerate() {
            write_path(&mut bench, path, size);
            paths.push(Path { size, ..Path::default() });
            for _ in 0..6 {
                bench.cycle();
            }
        }
        // What queries see, and the transfers on their way there: cycle, path, head, count.
        let mut seen = paths.clone();
        let mut underway: VecDeque<(u64, usize, u64, u64)> = VecDeque::new();
        let (mut offered, mut released) = (None, None);
        let (mut bounced, mut own, mut passed) = (None::<Returned>, 0, 0);
        let (mut bad, mut good) = (0u128, 0);
        let (mut tail_value, mut query, mut answer) = (0u64, 0usize, None);
        for cycle in 0..30_000u64 {
            // A path comes to an end and is written again, while the others work.
            if cycle % 1_000 == 999 {
                let path = random.random_range(0..paths.len());
                if offered.is_none_or(|o: Returned| o.path.to_u64() != path as u64) && underway.is_empty() {
                    request_path(&mut bench, path, paths[path].size);
                    paths[path] = Path { size: paths[path].size, ..Path::default() };
                    // Cleared in the first cycle in which nothing else is written.
                    underway.push_back((cycle + 3, path, 0, 0));
                }
            }
            let resetting = cycle % 1_000 == 999 || cycle % 1_000 < 8;
            if offered.is_none() && random.random_bool(0.8) && !resetting && cycle < 29_900 {
                offered = Some(random_return(&mut random, &paths, cycle % 4_000 < 2_000));
            }
            while underway.front().is_some_and(|u| u.0 + 3 <= cycle) {
                let (_, path, head, count) = underway.pop_front().expect("front");
                (seen[path].head, seen[path].count) = (head, count);
            }
            if bounced.is_none() && random.random_bool(0.2) && cycle < 29_900 {
                let one = random_return(&mut random, &paths, true);
                bounced = Some(Returned { own: 1.into(), ..one });
            }
            bench.set("bounced$valid", bounced.is_some().into());
            bench.set_record("bounced$data", bounced.unwrap_or_default());
            let ready = random.random_bool(0.7);
            bench.set("returned$valid", offered.is_some().into());
            if let Some(offer) = offered {
                bench.set_record("returned$data", offer);
            }
            bench.set("passed$ready", ready.into());
            bench.set("tail_value", tail_value.into());
            bench.eval();
            assert_eq!(bench.get("release_valid") == 1, released.is_some());
            if let Some(id) = released.take() {
                assert_eq!(bench.get("release_id"), id);
            }
            if let Some((head, count)) = answer {
                let got = (bench.get("query_head") as u64, bench.get("query_returned") as u64);
                assert_eq!(got, (head, count), "path {query}, cycle {cycle}");
                let shown = (bench.get("state_head") as u64, bench.get("state_returned") as u64);
                assert_eq!(shown, (head, count), "state of path {query}, cycle {cycle}");
            }
            query = random.random_range(0..paths.len());
            bench.set("query_path", query as u128);
            bench.set("state_query", query as u128);
            // In the cycle in which a memory is written its read may show either.
            let settled = !underway.iter().any(|u| u.1 == query);
            answer = settled.then_some((seen[query].head, seen[query].count));
            let passes = bench.get("passed$valid") == 1;
            let own_turn = offered.is_none() && bounced.is_some();
            assert_eq!(bench.get("returned$ready") == 1 && offered.is_some(), passes && ready && !own_turn);
            assert_eq!(bench.get("bounced$ready") == 1 && own_turn, passes && ready && own_turn);
            if passes && ready && own_turn {
                // It was never issued: nothing is to be released, nobody counts it.
                assert_eq!(bounced.take(), Some(bench.get_record("passed$data")));
                passed += 1;
            } else if passes && ready && offered.is_some_and(|offer| offer.own.any()) {
                let offer = offered.take().expect("offered");
                assert_eq!(offer, bench.get_record("passed$data"));
                released = Some(u128::from(offer.command_id.to_u64()));
                own += 1;
            } else if passes && ready {
                let out: Returned = bench.get_record("passed$data");
                let offer = offered.take().expect("passed");
                assert_eq!(out, offer);
                released = Some(u128::from(out.command_id.to_u64()));
                let index = out.path.to_u64() as usize;
                let path = &mut paths[index];
                let reported = out.sq_head.to_u64();
                let ahead = (path.tail + path.size - path.head) % path.size;
                path.count = (path.count + 1) % 0x1_0000;
                if reported < path.size && (reported + path.size - path.head) % path.size <= ahead {
                    path.head = reported;
                    good += 1;
                } else {
                    bad += 1;
                }
                underway.push_back((cycle, index, path.head, path.count));
                tail_value = path.tail;
            }
            // Tails advance; the one asked for in this cycle is answered in the next.
            let moved = random.random_range(0..paths.len());
            let Path { head, size, tail, .. } = paths[moved];
            let free = (head + size - tail - 1) % size;
            paths[moved].tail = (tail + random.random_range(0..=free.min(2))) % size;
            bench.cycle();
            bench.set("table_valid", 0);
        }
        for _ in 0..5 {
            bench.cycle();
        }
        assert!(good > 4_000 && bad > 800, "{good} good, {bad} bad");
        assert!(own > 500 && passed > 300, "{own} of the card, {passed} bounced");
        assert_eq!((bench.get("bad_heads"), bench.get("idle")), (bad, 1));
    }

    #[test]
    fn heads_move_within_what_was_issued() {
        check(2, &[5, 1024, 16]);
        check(3, &[7, 2]);
    }

    #[test]
    fn a_head_beyond_the_tail_is_ignored() {
        let mut bench = Bench::new("path_returns_head", PathReturns::new(&Sizes::DEFAULT));
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        write_path(&mut bench, 9, 8);
        for _ in 0..6 {
            bench.cycle();
        }
        bench.set("passed$ready", 1);
        bench.set("tail_value", 5);
        bench.set("query_path", 9);
        // Reported head, head after it, bad heads after it.
        for (reported, head, bad) in [(3u64, 3, 0), (3, 3, 0), (6, 3, 1), (2, 3, 2), (5, 5, 2), (9, 5, 3)] {
            let returned = Returned { path: 9.into(), sq_head: reported.into(), ..Returned::default() };
            bench.set_record("returned$data", returned);
            bench.set("returned$valid", 1);
            bench.cycle();
            bench.set("returned$valid", 0);
            for _ in 0..4 {
                bench.cycle();
            }
            assert_eq!((bench.get("query_head"), bench.get("bad_heads")), (head, bad), "reported {reported}");
        }
        assert_eq!(bench.get("query_returned"), 6);
    }
}
