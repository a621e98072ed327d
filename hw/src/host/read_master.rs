//! The AXI4 read master: all that the card reads from host memory.
//!
//! Four requesters share the bus, round robin; each request becomes one burst of whole beats from the
//! beat that holds its address on. The bus answers in order (all reads carry one identifier), and each
//! beat goes to its requester with the request's tag; requesters have reserved room and take every
//! beat. `answer_last` marks the last beat of a request, `answer_error` a beat that the bus refused.
//! `errors` counts requests with such a beat, one cycle after the last. Requests to different
//! requesters are not ordered.
//!
//! Latency: 2 cycles from request to AR, 1 from R to answer. Throughput: a request a cycle in all and
//! one every 2 cycles for each requester, a beat a cycle; 32 bursts in flight. With `stop` no burst is
//! begun from the next cycle on; `quiet`: none is in flight; it and `idle` rise up to 3 cycles late
//! and fall in time. Reset drops everything and is given while `quiet`, but for the reset of the bus
//! itself.

use rust_hdl::prelude::*;

use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::output_buffer::OutputBuffer;
use crate::prim::stream::StreamIn;
use crate::records::ReadRequest;

logic_record! {
    /// Whose burst is in flight.
    ReadOwner: 12 {
        /// Requester, one bit each: fetch, list, range, fence.
        requester = 4,
        /// Its tag.
        tag = 8,
    }
}

/// See the module's header. `W` is the width of the bus in bits, `B` in bytes.
#[derive(Clone, Debug, LogicBlock)]
pub struct ReadMaster<const W: usize, const B: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub fetch: StreamIn<ReadRequest>,
    pub list: StreamIn<ReadRequest>,
    pub range: StreamIn<ReadRequest>,
    pub fence: StreamIn<ReadRequest>,
    pub answer_valid_fetch: Signal<Out, bool>,
    pub answer_valid_list: Signal<Out, bool>,
    pub answer_valid_range: Signal<Out, bool>,
    pub answer_valid_fence: Signal<Out, bool>,
    pub answer_tag: Signal<Out, Bits<8>>,
    pub answer_data: Signal<Out, Bits<W>>,
    pub answer_last: Signal<Out, bool>,
    pub answer_error: Signal<Out, bool>,
    pub errors: Signal<Out, Bits<32>>,
    pub stop: Signal<In, bool>,
    pub quiet: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,
    pub arvalid: Signal<Out, bool>,
    pub arready: Signal<In, bool>,
    pub araddr: Signal<Out, Bits<64>>,
    pub arlen: Signal<Out, Bits<8>>,
    pub arsize: Signal<Out, Bits<3>>,
    pub arburst: Signal<Out, Bits<2>>,
    pub rvalid: Signal<In, bool>,
    pub rready: Signal<Out, bool>,
    pub rdata: Signal<In, Bits<W>>,
    pub rresp: Signal<In, Bits<2>>,
    pub rlast: Signal<In, bool>,

    /// What waits, with the length of its burst in place of the bytes.
    requests: [DFF<ReadRequest>; 4],
    /// Requesters whose request waits, one bit each: for the requests' registers.
    full: DFF<Bits<4>>,
    /// Those whose request does not: for everything else.
    vacant: DFF<Bits<4>>,
    /// The requester whose request goes next; valid while anything waits.
    number: DFF<Bits<2>>,
    number_valid: DFF<bool>,
    /// Something may have been taken a cycle ago.
    entered: DFF<bool>,
    allowed: DFF<bool>,
    addresses: OutputBuffer<ReadRequest>,
    /// Issued a cycle ago, and whose it is.
    issued: DFF<bool>,
    owner: DFF<ReadOwner>,
    in_flight: Fifo<ReadOwner>,
    outstanding: DFF<Bits<8>>,
    quiet_register: DFF<bool>,
    idle_register: DFF<bool>,
    burst_failed: DFF<bool>,
    answer_valid: DFF<bool>,
    /// The contrary, for what is not an output.
    no_answer: DFF<bool>,
    answer_data_register: DFF<Bits<W>>,
    answer_last_register: DFF<bool>,
    answer_error_register: DFF<bool>,
    error_register: DFF<Bits<32>>,
    accepted: Signal<Local, Bits<4>>,
    owning: Signal<Local, Bits<4>>,
    answer_requester: Signal<Local, Bits<4>>,
    waiting: Signal<Local, Bits<4>>,
    waiting_next: Signal<Local, Bits<4>>,
    passed: Signal<Local, Bits<4>>,
    waiting_behind: Signal<Local, Bits<4>>,
    later: Signal<Local, Bits<4>>,
    candidates: Signal<Local, Bits<4>>,
    picked: Signal<Local, Bits<4>>,
    first: Signal<Local, Bits<2>>,
    advance: Signal<Local, bool>,
    low_pair: Signal<Local, ReadRequest>,
    high_pair: Signal<Local, ReadRequest>,
    request: Signal<Local, ReadRequest>,
    taken: [Signal<Local, ReadRequest>; 4],
    bytes_z: [Signal<Local, Bits<8>>; 4],
    issue: Signal<Local, bool>,
    none_in_flight: Signal<Local, bool>,
    ended: Signal<Local, bool>,
    requester: [Constant<Bits<4>>; 4],
    numbers: [Constant<Bits<2>>; 4],
    up_to: [Constant<Bits<4>>; 4],
    none: Constant<Bits<4>>,
    all: Constant<Bits<4>>,
    address_mask: Constant<Bits<64>>,
    beat_shift: Constant<Bits<8>>,
    beat_size: Constant<Bits<3>>,
    incrementing: Constant<Bits<2>>,
    okay: Constant<Bits<2>>,
    one8: Constant<Bits<8>>,
    zero8: Constant<Bits<8>>,
    zero32: Constant<Bits<32>>,
    one32: Constant<Bits<32>>,
}

impl<const W: usize, const B: usize> Default for ReadMaster<W, B> {
    fn default() -> Self {
        assert!([128, 256, 512].contains(&W) && B * 8 == W, "bus of {W} bits, {B} bytes");
        Self {
            clock: Default::default(),
            reset: Default::default(),
            fetch: Default::default(),
            list: Default::default(),
            range: Default::default(),
            fence: Default::default(),
            answer_valid_fetch: Default::default(),
            answer_valid_list: Default::default(),
            answer_valid_range: Default::default(),
            answer_valid_fence: Default::default(),
            answer_tag: Default::default(),
            answer_data: Default::default(),
            answer_last: Default::default(),
            answer_error: Default::default(),
            errors: Default::default(),
            stop: Default::default(),
            quiet: Default::default(),
            idle: Default::default(),
            arvalid: Default::default(),
            arready: Default::default(),
            araddr: Default::default(),
            arlen: Default::default(),
            arsize: Default::default(),
            arburst: Default::default(),
            rvalid: Default::default(),
            rready: Default::default(),
            rdata: Default::default(),
            rresp: Default::default(),
            rlast: Default::default(),
            requests: Default::default(),
            full: Default::default(),
            vacant: Default::default(),
            number: Default::default(),
            number_valid: Default::default(),
            entered: Default::default(),
            allowed: Default::default(),
            addresses: Default::default(),
            issued: Default::default(),
            owner: Default::default(),
            in_flight: Fifo::lut(5, 3),
            outstanding: Default::default(),
            quiet_register: Default::default(),
            idle_register: Default::default(),
            burst_failed: Default::default(),
            answer_valid: Default::default(),
            no_answer: Default::default(),
            answer_data_register: Default::default(),
            answer_last_register: Default::default(),
            answer_error_register: Default::default(),
            error_register: Default::default(),
            accepted: Default::default(),
            owning: Default::default(),
            answer_requester: Default::default(),
            waiting: Default::default(),
            waiting_next: Default::default(),
            passed: Default::default(),
            waiting_behind: Default::default(),
            later: Default::default(),
            candidates: Default::default(),
            picked: Default::default(),
            first: Default::default(),
            advance: Default::default(),
            low_pair: Default::default(),
            high_pair: Default::default(),
            request: Default::default(),
            taken: Default::default(),
            bytes_z: Default::default(),
            issue: Default::default(),
            none_in_flight: Default::default(),
            ended: Default::default(),
            requester: std::array::from_fn(|i| Constant::new((1u64 << i).to_bits())),
            numbers: std::array::from_fn(|i| Constant::new((i as u64).to_bits())),
            up_to: std::array::from_fn(|i| Constant::new(((2u64 << i) - 1).to_bits())),
            none: Constant::new(0u64.to_bits()),
            all: Constant::new(0xFu64.to_bits()),
            address_mask: Constant::new((!(B as u64 - 1)).to_bits()),
            beat_shift: Constant::new(u64::from(B.ilog2()).to_bits()),
            beat_size: Constant::new(u64::from(B.ilog2()).to_bits()),
            incrementing: Constant::new(1u64.to_bits()),
            okay: Constant::new(0u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
        }
    }
}

impl<const W: usize, const B: usize> Logic for ReadMaster<W, B> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            full,
            vacant,
            number,
            number_valid,
            entered,
            allowed,
            issued,
            owner,
            outstanding,
            quiet_register,
            idle_register,
            burst_failed,
            answer_valid,
            no_answer,
            answer_data_register,
            answer_last_register,
            answer_error_register,
            error_register
        );
        clock!(self, clock, in_flight, addresses);
        self.addresses.reset.next = self.reset.val();
        self.in_flight.reset.next = self.reset.val();

        // Take requests.
        self.fetch.ready.next = self.vacant.q.val().get_bit(0);
        self.list.ready.next = self.vacant.q.val().get_bit(1);
        self.range.ready.next = self.vacant.q.val().get_bit(2);
        self.fence.ready.next = self.vacant.q.val().get_bit(3);
        self.accepted.next = bit_cast::<4, 1>(self.fetch.valid.val().into())
            | (bit_cast::<4, 1>(self.list.valid.val().into()) << 1)
            | (bit_cast::<4, 1>(self.range.valid.val().into()) << 2)
            | (bit_cast::<4, 1>(self.fence.valid.val().into()) << 3);
        self.bytes_z[0].next = self.fetch.data.val().bytes - self.one8.val();
        self.taken[0].next = self.fetch.data.val();
        self.taken[0].next.bytes = (self.bytes_z[0].val() >> self.beat_shift.val());
        self.bytes_z[1].next = self.list.data.val().bytes - self.one8.val();
        self.taken[1].next = self.list.data.val();
        self.taken[1].next.bytes = (self.bytes_z[1].val() >> self.beat_shift.val());
        self.bytes_z[2].next = self.range.data.val().bytes - self.one8.val();
        self.taken[2].next = self.range.data.val();
        self.taken[2].next.bytes = (self.bytes_z[2].val() >> self.beat_shift.val());
        self.bytes_z[3].next = self.fence.data.val().bytes - self.one8.val();
        self.taken[3].next = self.fence.data.val();
        self.taken[3].next.bytes = (self.bytes_z[3].val() >> self.beat_shift.val());
        for i in 0..4 {
            self.requests[i].clock.next = self.clock.val();
            self.requests[i].d.next = self.requests[i].q.val();
            if !self.full.q.val().get_bit(i) {
                self.requests[i].d.next = self.taken[i].val();
            }
        }

        // Issue the picked one.
        self.waiting.next = !self.vacant.q.val();
        self.picked.next = self.requester[3].val();
        self.passed.next = self.up_to[3].val();
        if (self.number.q.val() == self.numbers[0].val()) {
            self.picked.next = self.requester[0].val();
            self.passed.next = self.up_to[0].val();
        } else if (self.number.q.val() == self.numbers[1].val()) {
            self.picked.next = self.requester[1].val();
            self.passed.next = self.up_to[1].val();
        } else if (self.number.q.val() == self.numbers[2].val()) {
            self.picked.next = self.requester[2].val();
            self.passed.next = self.up_to[2].val();
        }
        self.low_pair.next = self.requests[0].q.val();
        self.high_pair.next = self.requests[2].q.val();
        if self.number.q.val().get_bit(0) {
            self.low_pair.next = self.requests[1].q.val();
            self.high_pair.next = self.requests[3].q.val();
        }
        self.request.next = self.low_pair.val();
        if self.number.q.val().get_bit(1) {
            self.request.next = self.high_pair.val();
        }
        self.allowed.d.next = self.in_flight.room.val() & !self.stop.val();
        self.issue.next = self.number_valid.q.val() & self.allowed.q.val() & self.addresses.room.val();
        self.addresses.push.next = self.issue.val();
        self.addresses.data.next = self.request.val();
        self.addresses.data.next.address = self.request.val().address & self.address_mask.val();
        self.waiting_next.next = self.waiting.val() | self.accepted.val();
        if self.issue.val() {
            self.waiting_next.next = (self.waiting.val() | self.accepted.val()) & !self.picked.val();
        }
        self.full.d.next = self.waiting_next.val();
        self.vacant.d.next = !self.waiting_next.val();

        // Pick the next: of those that wait the first after this one, else the first that comes.
        self.waiting_behind.next = self.waiting.val() & !self.picked.val();
        self.later.next = self.waiting.val() & !self.passed.val();
        self.candidates.next = self.accepted.val() & self.vacant.q.val();
        if self.waiting_behind.val().any() {
            self.candidates.next = self.waiting_behind.val();
            if self.later.val().any() {
                self.candidates.next = self.later.val();
            }
        }
        self.first.next = self.numbers[3].val();
        if self.candidates.val().get_bit(0) {
            self.first.next = self.numbers[0].val();
        } else if self.candidates.val().get_bit(1) {
            self.first.next = self.numbers[1].val();
        } else if self.candidates.val().get_bit(2) {
            self.first.next = self.numbers[2].val();
        }
        self.advance.next = !self.number_valid.q.val() | (self.allowed.q.val() & self.addresses.room.val());
        if self.advance.val() {
            self.number_valid.d.next = self.candidates.val().any();
            self.number.d.next = self.first.val();
        }
        self.entered.d.next = self.accepted.val().any();
        self.issued.d.next = self.issue.val();
        self.owner.d.next.requester = self.picked.val();
        self.owner.d.next.tag = self.request.val().tag;
        self.in_flight.push.next = self.issued.q.val();
        self.in_flight.data.next = self.owner.q.val();
        self.arvalid.next = self.addresses.out.valid.val();
        self.addresses.out.ready.next = self.arready.val();
        self.araddr.next = self.addresses.out.data.val().address;
        self.arlen.next = self.addresses.out.data.val().bytes;
        self.arsize.next = self.beat_size.val();
        self.arburst.next = self.incrementing.val();

        // Hand out answers.
        self.rready.next = true;
        self.answer_valid.d.next = self.rvalid.val();
        self.no_answer.d.next = !self.rvalid.val();
        self.answer_data_register.d.next = self.rdata.val();
        self.answer_last_register.d.next = self.rlast.val();
        self.answer_error_register.d.next = (self.rresp.val() != self.okay.val());
        self.in_flight.out.ready.next = !self.no_answer.q.val() & self.answer_last_register.q.val();
        self.owning.next = self.none.val();
        if self.in_flight.out.valid.val() {
            self.owning.next = self.in_flight.out.data.val().requester;
        }
        self.answer_requester.next = self.none.val();
        if self.answer_valid.q.val() {
            self.answer_requester.next = self.owning.val();
        }
        self.ended.next =
            self.answer_valid.q.val() & self.answer_last_register.q.val() & self.in_flight.out.valid.val();
        if !self.no_answer.q.val() & self.in_flight.out.valid.val() {
            self.burst_failed.d.next = !self.answer_last_register.q.val()
                & (self.answer_error_register.q.val() | self.burst_failed.q.val());
        }
        if self.ended.val() & (self.answer_error_register.q.val() | self.burst_failed.q.val()) {
            self.error_register.d.next = self.error_register.q.val() + self.one32.val();
        }
        self.answer_valid_fetch.next = self.answer_requester.val().get_bit(0);
        self.answer_valid_list.next = self.answer_requester.val().get_bit(1);
        self.answer_valid_range.next = self.answer_requester.val().get_bit(2);
        self.answer_valid_fence.next = self.answer_requester.val().get_bit(3);
        self.answer_tag.next = self.in_flight.out.data.val().tag;
        self.answer_data.next = self.answer_data_register.q.val();
        self.answer_last.next = self.answer_last_register.q.val();
        self.answer_error.next = self.answer_error_register.q.val();

        if self.issued.q.val() & !self.ended.val() {
            self.outstanding.d.next = self.outstanding.q.val() + self.one8.val();
        }
        if !self.issued.q.val() & self.ended.val() {
            self.outstanding.d.next = self.outstanding.q.val() - self.one8.val();
        }
        self.errors.next = self.error_register.q.val();
        self.none_in_flight.next = (self.outstanding.q.val() == self.zero8.val());
        self.quiet_register.d.next = self.none_in_flight.val() & !self.issued.q.val() & !self.issue.val();
        self.quiet.next = self.quiet_register.q.val();
        self.idle_register.d.next = self.quiet_register.q.val() & !self.waiting.val().any();
        self.idle.next = self.idle_register.q.val() & !self.entered.q.val();

        if self.reset.val() {
            self.full.d.next = self.none.val();
            self.vacant.d.next = self.all.val();
            self.number_valid.d.next = false;
            self.entered.d.next = false;
            self.issued.d.next = false;
            self.outstanding.d.next = self.zero8.val();
            self.burst_failed.d.next = false;
            self.answer_valid.d.next = false;
            self.no_answer.d.next = true;
            self.error_register.d.next = self.zero32.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    const REQUESTERS: [&str; 4] = ["fetch", "list", "range", "fence"];

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Request {
        address: u64,
        bytes: u64,
        tag: u8,
    }

    impl Request {
        fn words(&self) -> [u32; 3] {
            [self.address as u32, (self.address >> 32) as u32, self.bytes as u32 | u32::from(self.tag) << 8]
        }

        /// First beat's address and the number of beats.
        fn burst(&self, beat_bytes: u64) -> (u64, u64) {
            (self.address / beat_bytes * beat_bytes, self.bytes.div_ceil(beat_bytes))
        }
    }

    fn start<const W: usize, const B: usize>(name: &str) -> Bench {
        let mut bench = Bench::new(&format!("read_master_{name}_{W}"), ReadMaster::<W, B>::default());
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench.cycle();
        bench
    }

    /// A beat as it must be answered: requester, tag, data, last, error.
    type Beat = (usize, u8, Vec<u32>, bool, bool);

    fn answered(bench: &Bench) -> Option<Beat> {
        let valid: Vec<usize> =
            (0..4).filter(|&i| bench.get(&format!("answer_valid_{}", REQUESTERS[i])) == 1).collect();
        assert!(valid.len() <= 1, "one requester at a time");
        let flags = (bench.get("answer_last") == 1, bench.get("answer_error") == 1);
        let tag = bench.get("answer_tag") as u8;
        valid.first().map(|&i| (i, tag, bench.get_wide("answer_data"), flags.0, flags.1))
    }

    fn matches_the_model<const W: usize, const B: usize>() {
        let mut bench = start::<W, B>("random");
        let mut random = seeded();
        let mut offered: [Option<Request>; 4] = [None; 4];
        let mut accepted: [VecDeque<Request>; 4] = Default::default();
        // Bursts the bus has taken: requester, request, beats left; the beat that must come next cycle.
        let mut in_flight: VecDeque<(usize, Request, u64)> = VecDeque::new();
        let mut expected: Option<Beat> = None;
        let (mut held, mut failed, mut errors, mut bursts, mut most) = (None, false, 0u32, [0u32; 4], 0);
        for cycle in 0..40_000u64 {
            let draining = cycle >= 38_000;
            let (flow, answer) =
                [(0.9, 0.95), (0.9, 0.05), (0.1, 0.9), (0.9, 0.5)][(cycle / 500 % 4) as usize];
            for (i, name) in REQUESTERS.iter().enumerate() {
                if offered[i].is_none() && !draining && random.random_bool(flow * 0.5) {
                    let bytes = random.random_range(1..=128u64);
                    let page = random.random::<u64>() & !4095;
                    let offset = random.random_range(0..=(4096 - 128) / 64) * 64 + random.random_range(0..16);
                    offered[i] = Some(Request { address: page + offset, bytes, tag: random.random() });
                }
                bench.set(&format!("{name}$valid"), offered[i].is_some().into());
                bench.set_wide(
                    &format!("{name}$data"),
                    &offered[i].map_or([random.random(); 3].map(|w: u32| w & 0xFFFF), |r| r.words()),
                );
            }
            let stop = cycle / 200 % 10 == 9;
            bench.set("stop", stop.into());
            bench.set("arready", random.random_bool(0.7).into());
            let answers = !in_flight.is_empty() && random.random_bool(answer);
            let data: Vec<u32> = (0..W / 32).map(|_| random.random()).collect();
            let refused = random.random_bool(0.05);
            bench.set("rvalid", answers.into());
            bench.set_wide("rdata", &data);
            bench.set("rresp", if refused { random.random_range(1..4u128) } else { 0 });
            bench.set("rlast", in_flight.front().is_some_and(|&(_, _, left)| left == 1).into());
            bench.eval();
            assert_eq!(bench.get("rready"), 1);
            assert_eq!(answered(&bench), expected.take());
            if stop && bench.get("quiet") == 1 && cycle % 200 > 1 {
                assert!(in_flight.is_empty() && bench.get("arvalid") == 0);
            }
            if answers {
                let (requester, request, left) = in_flight.front_mut().expect("in flight");
                let last = *left == 1;
                expected = Some((*requester, request.tag, data, last, refused));
                *left -= 1;
                failed |= refused;
                if last {
                    in_flight.pop_front();
                    errors += u32::from(std::mem::take(&mut failed));
                }
            }
            for (i, name) in REQUESTERS.iter().enumerate() {
                if offered[i].is_some() && bench.get(&format!("{name}$ready")) == 1 {
                    accepted[i].extend(offered[i].take());
                }
            }
            let burst = (bench.get("araddr") as u64, bench.get("arlen") as u64 + 1);
            let (valid, ready) = (bench.get("arvalid") == 1, bench.get("arready") == 1);
            assert!(held.is_none_or(|held| valid && held == burst), "AR changed or withdrawn");
            held = (valid && !ready).then_some(burst);
            if valid && ready {
                assert_eq!((1 << bench.get("arsize"), bench.get("arburst")), (B, 1));
                let owner = (0..4)
                    .find(|&i| accepted[i].front().is_some_and(|request| request.burst(B as u64) == burst));
                let owner = owner.expect("a burst that nobody asked for");
                let request = accepted[owner].pop_front().expect("found");
                in_flight.push_back((owner, request, burst.1));
                bursts[owner] += 1;
                most = most.max(in_flight.len());
            }
            bench.cycle();
        }
        assert!(accepted.iter().all(VecDeque::is_empty) && in_flight.is_empty());
        assert_eq!((bench.get("idle"), bench.get("quiet")), (1, 1));
        assert_eq!(bench.get("errors") as u32, errors);
        assert!((32..=33).contains(&most), "{most} in flight at most");
        let (least, greatest) = (bursts.iter().min(), bursts.iter().max());
        assert!(least > Some(&1_000) && least.map(|n| n + n / 4) > greatest.copied(), "unfair: {bursts:?}");
    }

    /// One request's way, then a bus that never stalls: a burst a cycle from four requesters.
    fn is_quick<const W: usize, const B: usize>() {
        let mut bench = start::<W, B>("directed");
        bench.set("arready", 1);
        bench.set("fence$valid", 1);
        let request = Request { address: 0x1_2345_6FF0, bytes: 16, tag: 0xA5 };
        bench.set_wide("fence$data", &request.words());
        bench.cycle();
        bench.set("fence$valid", 0);
        bench.cycle();
        assert_eq!((bench.get("arvalid"), bench.get("arlen")), (1, 0), "2 cycles after the handshake");
        assert_eq!(bench.get("araddr") as u64, 0x1_2345_6FF0 & !(B as u64 - 1));
        bench.cycle();
        assert_eq!((bench.get("arvalid"), bench.get("quiet")), (0, 0));
        bench.set("rvalid", 1);
        bench.set("rlast", 1);
        bench.set("rresp", 2);
        bench.cycle();
        bench.set("rvalid", 0);
        assert_eq!((bench.get("answer_valid_fence"), bench.get("answer_tag")), (1, 0xA5));
        assert_eq!((bench.get("answer_last"), bench.get("answer_error")), (1, 1));
        bench.cycle();
        assert_eq!((bench.get("answer_valid_fence"), bench.get("errors")), (0, 1));
        for _ in 0..3 {
            bench.cycle();
        }
        assert_eq!(bench.get("idle"), 1, "3 cycles after the answer");

        bench.set("rresp", 0);
        for name in REQUESTERS {
            bench.set(&format!("{name}$valid"), 1);
            bench.set_wide(&format!("{name}$data"), &Request { address: 0x40, bytes: 1, tag: 7 }.words());
        }
        let (mut taken, mut due) = (0, 0);
        for cycle in 0..1_020 {
            bench.set("rvalid", (due > 0).into());
            bench.eval();
            due -= i32::from(due > 0);
            due += bench.get("arvalid") as i32;
            taken += if cycle < 20 { 0 } else { bench.get("arvalid") };
            bench.cycle();
        }
        assert_eq!(taken, 1_000, "bursts in 1,000 cycles");
    }

    #[test]
    fn random_traffic_at_128_bits() {
        matches_the_model::<128, 16>();
    }

    #[test]
    fn random_traffic_at_256_bits() {
        matches_the_model::<256, 32>();
    }

    #[test]
    fn random_traffic_at_512_bits() {
        matches_the_model::<512, 64>();
    }

    #[test]
    fn every_width_is_quick() {
        is_quick::<128, 16>();
        is_quick::<256, 32>();
        is_quick::<512, 64>();
    }
}
