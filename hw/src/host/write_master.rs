//! The AXI4 write master: all that the card writes to host memory and to its peers.
//!
//! Six sources (see `WriteArbiter`) share the bus, their writes appear in order of acceptance; zeros go when
//! nobody else has anything to write. A wide write is one burst of whole beats; a small one is a single beat of
//! full size whose strobes select the bytes, with the data repeated in every lane. No burst crosses 64 bytes, so
//! none crosses 4 KiB.
//! W keeps up with AW and never runs ahead of it; the bus may take either first.
//!
//! `accepted` counts handshakes of the submission source and `acknowledged` those whose response has
//! come, with the responses of everything accepted before, both modulo 2^16. An error response counts
//! as a response and in `errors`. All writes carry one identifier, so that responses come in order;
//! up to 256 are outstanding. Of each write of zeros `zero_answered` tells that its response has come, with
//! whether it was an error and whether the write was its fragment's last.
//!
//! Latency: 4 cycles from handshake to AW and W, 3 of zeros. Throughput: a beat a cycle, no bubble between
//! bursts; one source alone gives two writes in three cycles, zeros leave a cycle free between their bursts.
//! Whoever comes finds one burst of zeros at most that is not begun; where there is no end of others, one burst
//! in 65 is of zeros, or more if one source alone leaves them its third cycles. With `stop` no burst is begun
//! from the next cycle on; one that was begun runs to its response. `quiet`: none is begun; it and `idle` rise
//! late by a cycle or two and fall in time. Reset drops everything and is given while `quiet`, but for the reset
//! of the bus itself.

use rust_hdl::prelude::*;

use super::burst_cutter::BurstCutter;
use super::write_arbiter::{MergedWrite, WriteArbiter};
use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{SmallWrite, WideWrite, ZeroWrite};

logic_record! {
    /// Whose write it is that a response is for.
    WriteOwner: 3 {
        /// 1: submission's.
        submission = 1,
        /// 1: zeros.
        zero = 1,
        /// Of zeros: 1: the last of its fragment.
        ends = 1,
    }
}

/// See the module's header. `W` is the width of the bus in bits, `B` in bytes.
#[derive(Clone, Debug, LogicBlock)]
pub struct WriteMaster<const W: usize, const B: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub submission: StreamIn<WideWrite>,
    pub control: StreamIn<WideWrite>,
    pub range: StreamIn<SmallWrite>,
    pub completion: StreamIn<SmallWrite>,
    pub doorbell: StreamIn<SmallWrite>,
    pub interrupt: StreamIn<SmallWrite>,
    pub zero: StreamIn<ZeroWrite>,
    pub accepted: Signal<Out, Bits<16>>,
    pub acknowledged: Signal<Out, Bits<16>>,
    pub errors: Signal<Out, Bits<32>>,
    pub zero_answered: Signal<Out, bool>,
    pub zero_ended: Signal<Out, bool>,
    pub zero_failed: Signal<Out, bool>,
    pub stop: Signal<In, bool>,
    pub quiet: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,
    pub awvalid: Signal<Out, bool>,
    pub awready: Signal<In, bool>,
    pub awaddr: Signal<Out, Bits<64>>,
    pub awlen: Signal<Out, Bits<8>>,
    pub awsize: Signal<Out, Bits<3>>,
    pub awburst: Signal<Out, Bits<2>>,
    pub wvalid: Signal<Out, bool>,
    pub wready: Signal<In, bool>,
    pub wdata: Signal<Out, Bits<W>>,
    pub wstrb: Signal<Out, Bits<B>>,
    pub wlast: Signal<Out, bool>,
    pub bvalid: Signal<In, bool>,
    pub bready: Signal<Out, bool>,
    pub bresp: Signal<In, Bits<2>>,

    arbiter: WriteArbiter,
    cutter: BurstCutter<W, B>,
    /// Of each write merged and not yet answered.
    unanswered: Fifo<WriteOwner>,
    allowed: DFF<bool>,
    merging: DFF<bool>,
    merging_owner: DFF<WriteOwner>,
    owner: Signal<Local, WriteOwner>,
    owner_answered: Signal<Local, WriteOwner>,
    /// A burst was begun a cycle ago.
    begun: DFF<bool>,
    outstanding: DFF<Bits<10>>,
    some_outstanding: DFF<bool>,
    quiet_register: DFF<bool>,
    idle_register: DFF<bool>,
    answered: DFF<bool>,
    answered_error: DFF<bool>,
    acknowledged_register: DFF<Bits<16>>,
    error_register: DFF<Bits<32>>,
    zero_settled: DFF<bool>,
    zero_end: DFF<bool>,
    zero_error: DFF<bool>,
    settled: Signal<Local, bool>,
    one_outstanding: Signal<Local, bool>,
    okay: Constant<Bits<2>>,
    flag: Constant<Bits<1>>,
    zero10: Constant<Bits<10>>,
    one10: Constant<Bits<10>>,
    zero16: Constant<Bits<16>>,
    one16: Constant<Bits<16>>,
    zero32: Constant<Bits<32>>,
    one32: Constant<Bits<32>>,
}

impl<const W: usize, const B: usize> Default for WriteMaster<W, B> {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            submission: Default::default(),
            control: Default::default(),
            range: Default::default(),
            completion: Default::default(),
            doorbell: Default::default(),
            interrupt: Default::default(),
            zero: Default::default(),
            accepted: Default::default(),
            acknowledged: Default::default(),
            errors: Default::default(),
            zero_answered: Default::default(),
            zero_ended: Default::default(),
            zero_failed: Default::default(),
            stop: Default::default(),
            quiet: Default::default(),
            idle: Default::default(),
            awvalid: Default::default(),
            awready: Default::default(),
            awaddr: Default::default(),
            awlen: Default::default(),
            awsize: Default::default(),
            awburst: Default::default(),
            wvalid: Default::default(),
            wready: Default::default(),
            wdata: Default::default(),
            wstrb: Default::default(),
            wlast: Default::default(),
            bvalid: Default::default(),
            bready: Default::default(),
            bresp: Default::default(),
            arbiter: Default::default(),
            cutter: Default::default(),
            unanswered: Fifo::lut(8, 6),
            allowed: Default::default(),
            begun: Default::default(),
            merging: Default::default(),
            merging_owner: Default::default(),
            owner: Default::default(),
            owner_answered: Default::default(),
            some_outstanding: Default::default(),
            quiet_register: Default::default(),
            idle_register: Default::default(),
            outstanding: Default::default(),
            answered: Default::default(),
            answered_error: Default::default(),
            acknowledged_register: Default::default(),
            error_register: Default::default(),
            zero_settled: Default::default(),
            zero_end: Default::default(),
            zero_error: Default::default(),
            one_outstanding: Default::default(),
            settled: Default::default(),
            okay: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            zero10: Constant::new(0u64.to_bits()),
            one10: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
        }
    }
}

impl<const W: usize, const B: usize> Logic for WriteMaster<W, B> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            allowed,
            begun,
            merging,
            merging_owner,
            outstanding,
            some_outstanding,
            quiet_register,
            idle_register,
            answered,
            answered_error,
            acknowledged_register,
            error_register,
            zero_settled,
            zero_end,
            zero_error
        );
        clock!(self, clock, arbiter, cutter, unanswered);
        self.arbiter.reset.next = self.reset.val();
        self.cutter.reset.next = self.reset.val();
        self.unanswered.reset.next = self.reset.val();
        StreamIn::<WideWrite>::link(&mut self.submission, &mut self.arbiter.submission);
        StreamIn::<WideWrite>::link(&mut self.control, &mut self.arbiter.control);
        StreamIn::<SmallWrite>::link(&mut self.range, &mut self.arbiter.range);
        StreamIn::<SmallWrite>::link(&mut self.completion, &mut self.arbiter.completion);
        StreamIn::<SmallWrite>::link(&mut self.doorbell, &mut self.arbiter.doorbell);
        StreamIn::<SmallWrite>::link(&mut self.interrupt, &mut self.arbiter.interrupt);
        StreamIn::<ZeroWrite>::link(&mut self.zero, &mut self.arbiter.zero);
        StreamOut::<MergedWrite>::join(&mut self.arbiter.out, &mut self.cutter.write);

        self.allowed.d.next = self.unanswered.room.val() & !self.stop.val();
        self.cutter.allowed.next = self.allowed.q.val();
        self.cutter.awready.next = self.awready.val();
        self.cutter.wready.next = self.wready.val();
        self.awvalid.next = self.cutter.awvalid.val();
        self.awaddr.next = self.cutter.awaddr.val();
        self.awlen.next = self.cutter.awlen.val();
        self.awsize.next = self.cutter.awsize.val();
        self.awburst.next = self.cutter.awburst.val();
        self.wvalid.next = self.cutter.wvalid.val();
        self.wdata.next = self.cutter.wdata.val();
        self.wstrb.next = self.cutter.wstrb.val();
        self.wlast.next = self.cutter.wlast.val();
        self.bready.next = true;

        // Responses come in order of the bursts. A write enters the list before its burst is begun, so
        // that it stands there when the response comes.
        self.merging.d.next = self.arbiter.merging.val();
        self.owner.next.submission = self.arbiter.merging_submission.val().into();
        self.owner.next.zero = self.arbiter.merging_zero.val().into();
        self.owner.next.ends = self.arbiter.merging_end.val().into();
        self.merging_owner.d.next = self.owner.val();
        self.unanswered.push.next = self.merging.q.val();
        self.unanswered.data.next = self.merging_owner.q.val();
        self.begun.d.next = self.cutter.begun.val();
        self.unanswered.out.ready.next = self.answered.q.val() & self.some_outstanding.q.val();
        self.answered.d.next = self.bvalid.val();
        self.answered_error.d.next = (self.bresp.val() != self.okay.val());
        self.settled.next =
            self.answered.q.val() & self.some_outstanding.q.val() & self.unanswered.out.valid.val();
        self.one_outstanding.next = (self.outstanding.q.val() == self.one10.val());
        self.some_outstanding.d.next = self.begun.q.val()
            | (self.some_outstanding.q.val() & !(self.one_outstanding.val() & self.settled.val()));
        if self.begun.q.val() & !self.settled.val() {
            self.outstanding.d.next = self.outstanding.q.val() + self.one10.val();
        }
        if !self.begun.q.val() & self.settled.val() {
            self.outstanding.d.next = self.outstanding.q.val() - self.one10.val();
        }
        self.owner_answered.next = self.unanswered.out.data.val();
        if self.settled.val() & (self.owner_answered.val().submission == self.flag.val()) {
            self.acknowledged_register.d.next = self.acknowledged_register.q.val() + self.one16.val();
        }
        if self.settled.val() & self.answered_error.q.val() {
            self.error_register.d.next = self.error_register.q.val() + self.one32.val();
        }
        self.zero_settled.d.next = self.settled.val() & (self.owner_answered.val().zero == self.flag.val());
        self.zero_end.d.next = (self.owner_answered.val().ends == self.flag.val());
        self.zero_error.d.next = self.answered_error.q.val();
        self.zero_answered.next = self.zero_settled.q.val();
        self.zero_ended.next = self.zero_end.q.val();
        self.zero_failed.next = self.zero_error.q.val();

        self.quiet_register.d.next =
            !self.some_outstanding.q.val() & !self.begun.q.val() & !self.cutter.begun.val();
        self.quiet.next = self.quiet_register.q.val();
        self.idle_register.d.next =
            self.arbiter.idle.val() & self.cutter.idle.val() & self.quiet_register.q.val();
        self.idle.next = self.idle_register.q.val() & !self.arbiter.entered.val();
        self.accepted.next = self.arbiter.accepted.val();
        self.acknowledged.next = self.acknowledged_register.q.val();
        self.errors.next = self.error_register.q.val();

        if self.reset.val() {
            self.merging.d.next = false;
            self.begun.d.next = false;
            self.some_outstanding.d.next = false;
            self.outstanding.d.next = self.zero10.val();
            self.answered.d.next = false;
            self.zero_settled.d.next = false;
            self.acknowledged_register.d.next = self.zero16.val();
            self.error_register.d.next = self.zero32.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use crate::host::record_words::words;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use std::collections::VecDeque;

    const SOURCES: [&str; 7] =
        ["submission", "control", "range", "completion", "doorbell", "interrupt", "zero"];
    /// Its number.
    const ZERO: usize = 6;
    /// Bursts of zeros that may come before a write accepted earlier: three that are begun, and two that
    /// find nobody before them until its turn has come.
    const OVERTAKING: u64 = 5;

    /// A write as a source gives it: its port's words, and what the bus must carry.
    #[derive(Clone, Debug)]
    struct Item {
        words: Vec<u32>,
        submission: bool,
        address: u64,
        bytes: Vec<u8>,
        /// Zeros: the last write of their fragment.
        ends: bool,
        /// Bursts of zeros before its handshake.
        zeros_before: u64,
    }

    fn item(random: &mut ChaCha8Rng, source: usize) -> Item {
        let address = random.random::<u64>();
        let mut bytes: Vec<u8> = (0..64).map(|_| random.random()).collect();
        if source < 2 {
            let address = address & !63;
            let mut words = vec![address as u32, (address >> 32) as u32];
            words.extend(bytes.chunks(4).map(|b| u32::from_le_bytes(b.try_into().expect("4 bytes"))));
            return Item { words, submission: source == 0, address, bytes, ends: false, zeros_before: 0 };
        }
        if source == ZERO {
            let (size, ends) = ([64, 16, 4][random.random_range(0..3)], random.random_bool(0.2));
            let address = address & !(size - 1);
            let write = ZeroWrite {
                address: address.to_bits(),
                is_wide: u64::from(size == 64).to_bits(),
                quad: u64::from(size == 16).to_bits(),
                ends: u64::from(ends).to_bits(),
            };
            let bytes = vec![0; size as usize];
            let words = words::<67>(write);
            return Item { words, submission: false, address, bytes, ends, zeros_before: 0 };
        }
        let quad = random.random_bool(0.5);
        let address = if quad { address & !15 } else { address & !3 };
        let data = u128::from_le_bytes(bytes[..16].try_into().expect("16 bytes"));
        bytes.truncate(if quad { 16 } else { 4 });
        let data = (0..128).fold(Bits::default(), |b: Bits<128>, i| b.replace_bit(i, data >> i & 1 == 1));
        let write = SmallWrite { address: address.to_bits(), data, quad: u64::from(quad).to_bits() };
        let words = words::<193>(write);
        Item { words, submission: false, address, bytes, ends: false, zeros_before: 0 }
    }

    /// A bus that takes addresses and beats with any stalls, and checks every rule on the way.
    #[derive(Default)]
    struct Bus {
        /// Bursts whose address was taken: address, beats.
        addresses: VecDeque<(u64, u64)>,
        /// Beats taken of bursts in order: data, strobes, last.
        beats: VecDeque<(Vec<u8>, Vec<bool>, bool)>,
        offered: u64,
        lasts: u64,
        held_address: Option<(u128, u128)>,
        held_beat: Option<Vec<u32>>,
        beats_taken: u64,
    }

    impl Bus {
        fn step(&mut self, bench: &Bench, bytes: usize) {
            let (awvalid, awready) = (bench.get("awvalid") == 1, bench.get("awready") == 1);
            let address = (bench.get("awaddr"), bench.get("awlen"));
            if awvalid {
                assert!(self.held_address.is_none_or(|held| held == address), "AW changed");
                if self.held_address.is_none() {
                    self.offered += 1;
                }
                assert_eq!(1 << bench.get("awsize"), bytes);
                assert_eq!(bench.get("awburst"), 1);
            } else {
                assert!(self.held_address.is_none(), "AW withdrawn");
            }
            self.held_address = (awvalid && !awready).then_some(address);
            if awvalid && awready {
                self.addresses.push_back((address.0 as u64, address.1 as u64 + 1));
            }

            let (wvalid, wready) = (bench.get("wvalid") == 1, bench.get("wready") == 1);
            let mut beat = bench.get_wide("wdata");
            beat.extend(bench.get_wide("wstrb"));
            beat.push(bench.get("wlast") as u32);
            if wvalid {
                assert!(self.lasts < self.offered, "a beat ahead of its address");
                assert!(self.held_beat.as_ref().is_none_or(|held| *held == beat), "W changed");
            } else {
                assert!(self.held_beat.is_none(), "W withdrawn");
            }
            if wvalid && wready {
                let data = beat[..bytes / 4].iter().flat_map(|word| word.to_le_bytes()).collect();
                let strobes = bench.get_wide("wstrb");
                let strobes = (0..bytes).map(|i| strobes[i / 32] >> (i % 32) & 1 == 1).collect();
                let last = bench.get("wlast") == 1;
                self.lasts += u64::from(last);
                self.beats.push_back((data, strobes, last));
                self.beats_taken += 1;
            }
            self.held_beat = (wvalid && !wready).then_some(beat);
        }

        /// A burst that has come whole: address, and the bytes its strobes select.
        fn burst(&mut self, bytes: usize) -> Option<(u64, Vec<u8>)> {
            let &(address, beats) = self.addresses.front()?;
            if (self.beats.len() as u64) < beats {
                return None;
            }
            self.addresses.pop_front();
            let end = (address & !(bytes as u64 - 1)) + beats * bytes as u64 - 1;
            assert_eq!(address / 4096, end / 4096, "a burst across 4 KiB");
            let mut written = Vec::new();
            for beat in 0..beats {
                let (data, strobes, last) = self.beats.pop_front().expect("counted");
                assert_eq!(last, beat + 1 == beats);
                for (i, (&byte, &strobe)) in data.iter().zip(&strobes).enumerate() {
                    if strobe {
                        let at = (address & !(bytes as u64 - 1)) + beat * bytes as u64 + i as u64;
                        assert_eq!(at, address + written.len() as u64, "bytes in place and in one run");
                        written.push(byte);
                    }
                }
            }
            Some((address, written))
        }
    }

    fn start<const W: usize, const B: usize>(name: &str) -> Bench {
        let mut bench = Bench::new(&format!("write_master_{name}_{W}"), WriteMaster::<W, B>::default());
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench.cycle();
        bench
    }

    /// Random traffic with stalls everywhere: every write appears once, whole, in order of acceptance but for
    /// zeros, which go behind, and the counters tell the truth.
    fn matches_the_model<const W: usize, const B: usize>() {
        let mut bench = start::<W, B>("random");
        let mut random = seeded();
        let mut bus = Bus::default();
        let mut offered: [Option<Item>; 7] = Default::default();
        // Accepted writes, those of one cycle in one group; zeros.
        let mut accepted: VecDeque<Vec<Item>> = VecDeque::new();
        let mut zeros: VecDeque<Item> = VecDeque::new();
        let mut zeros_done = 0u64;
        // Of a response: submission, and of zeros: last of its fragment. Then what is told of zeros.
        let mut unanswered: VecDeque<(bool, Option<bool>)> = VecDeque::new();
        let mut told: VecDeque<(bool, bool)> = VecDeque::new();
        let (mut submissions, mut acknowledged, mut errors, mut bursts) = (0u16, 0u16, 0u32, 0u64);
        let mut acknowledged_before = [0u16; 3];
        let mut stopped = 0;
        for cycle in 0..40_000u64 {
            let (flow, take, answer) = match cycle / 1_000 % 5 {
                0 => (0.9, 0.9, 0.9),
                1 => (0.9, 0.3, 0.9),
                2 => (0.2, 0.9, 0.5),
                // Others write so seldom that zeros go between.
                3 => (0.03, 0.9, 0.9),
                _ => (0.9, 0.9, 0.02),
            };
            let draining = cycle >= 38_000;
            for (source, name) in SOURCES.iter().enumerate() {
                let flow = if source == ZERO { 0.4 } else { flow * 0.4 };
                if offered[source].is_none() && !draining && random.random_bool(flow) {
                    offered[source] = Some(item(&mut random, source));
                }
                bench.set(&format!("{name}$valid"), offered[source].is_some().into());
                if let Some(item) = &offered[source] {
                    bench.set_wide(&format!("{name}$data"), &item.words);
                }
            }
            let stop = cycle / 200 % 10 == 9;
            bench.set("stop", stop.into());
            bench.set("awready", random.random_bool(take).into());
            bench.set("wready", random.random_bool(take).into());
            let respond = !unanswered.is_empty() && random.random_bool(answer);
            let failed = respond && random.random_bool(0.1);
            bench.set("bvalid", respond.into());
            bench.set("bresp", if failed { 2 } else { 0 });
            bench.eval();
            assert_eq!(bench.get("bready"), 1);
            assert!(bench.get("accepted") as u16 == submissions);
            let seen = bench.get("acknowledged") as u16;
            assert!(seen.wrapping_sub(acknowledged_before[0]) as i16 >= 0, "late by more than 3 cycles");
            assert!(acknowledged.wrapping_sub(seen) as i16 >= 0, "told before its response");
            acknowledged_before = [acknowledged_before[1], acknowledged_before[2], acknowledged];
            if bench.get("zero_answered") == 1 {
                let seen = (bench.get("zero_ended") == 1, bench.get("zero_failed") == 1);
                assert_eq!(Some(seen), told.pop_front());
            }

            stopped = if stop { stopped + 1 } else { 0 };
            if stopped > 0 && bench.get("quiet") == 1 && cycle % 200 > 2 {
                assert!(unanswered.is_empty() && bus.addresses.is_empty() && bench.get("awvalid") == 0);
                assert!(bench.get("wvalid") == 0, "quiet with a burst on the bus");
            }
            if respond {
                let (submission, zero) = unanswered.pop_front().expect("asked");
                acknowledged = acknowledged.wrapping_add(submission.into());
                told.extend(zero.map(|ends| (ends, failed)));
                errors += u32::from(failed);
            }
            bus.step(&bench, B);
            let mut group = Vec::new();
            for (source, name) in SOURCES.iter().enumerate() {
                if offered[source].is_some() && bench.get(&format!("{name}$ready")) == 1 {
                    let item = offered[source].take().expect("offered");
                    submissions = submissions.wrapping_add(item.submission.into());
                    match source {
                        ZERO => zeros.push_back(item),
                        _ => group.push(Item { zeros_before: zeros_done, ..item }),
                    }
                }
            }
            if !group.is_empty() {
                accepted.push_back(group);
            }
            while let Some((address, written)) = bus.burst(B) {
                if zeros.front().is_some_and(|item| item.address == address && item.bytes == written) {
                    let item = zeros.pop_front().expect("the first one");
                    (zeros_done, bursts) = (zeros_done + 1, bursts + 1);
                    unanswered.push_back((false, Some(item.ends)));
                    continue;
                }
                let group = accepted.front_mut().expect("a write that nobody gave");
                let found = group.iter().position(|item| item.address == address && item.bytes == written);
                let item = group.remove(found.expect("out of order, or altered"));
                assert!(zeros_done - item.zeros_before <= OVERTAKING, "zeros do not yield");
                unanswered.push_back((item.submission, None));
                bursts += 1;
                if group.is_empty() {
                    accepted.pop_front();
                }
            }
            bench.cycle();
        }
        assert!(accepted.is_empty() && zeros.is_empty() && unanswered.is_empty(), "everything has left");
        assert!(told.is_empty() && zeros_done > 1_000, "{zeros_done} bursts of zeros");
        assert_eq!((bench.get("idle"), bench.get("quiet")), (1, 1));
        assert_eq!(bench.get("acknowledged") as u16, submissions);
        assert_eq!(bench.get("errors") as u32, errors);
        assert!(bursts > 8_000, "{bursts} bursts");
    }

    /// Beats in `cycles` of a bus that never stalls, all sources of `mask` always offering.
    fn beats<const W: usize, const B: usize>(bench: &mut Bench, mask: u32, cycles: u64) -> u64 {
        let mut random = seeded();
        for (source, name) in SOURCES.iter().enumerate() {
            bench.set(&format!("{name}$valid"), (mask >> source & 1).into());
            bench.set_wide(&format!("{name}$data"), &item(&mut random, source).words);
        }
        for name in ["awready", "wready"] {
            bench.set(name, 1);
        }
        let (mut taken, mut due) = (0, 0u32);
        for cycle in 0..cycles + 20 {
            bench.set("bvalid", (due > 0).into());
            due = due.saturating_sub(1);
            bench.eval();
            if cycle >= 20 {
                taken += bench.get("wvalid") as u64;
            }
            due += bench.get("wvalid") as u32 & bench.get("wlast") as u32;
            bench.cycle();
        }
        taken
    }

    fn sustains_a_beat_a_cycle<const W: usize, const B: usize>() {
        let mut bench = start::<W, B>("directed");
        // The first write of an empty master is on the bus 4 cycles after its handshake.
        bench.set("interrupt$valid", 1);
        bench.set_wide("interrupt$data", &[0x1000, 0, 0xCAFE, 0, 0, 0, 0]);
        bench.cycle();
        bench.set("interrupt$valid", 0);
        let mut latency = 1;
        while bench.get("awvalid") == 0 {
            bench.cycle();
            latency += 1;
            assert!(latency < 10);
        }
        assert_eq!((latency, bench.get("wvalid"), bench.get("wstrb")), (4, 1, 0xF));
        assert!(bench.get_wide("wdata").iter().all(|&word| word == 0xCAFE), "in every lane");
        for mask in [0b111111, 0b000001, 0b001000, 0b011001, 0b100100] {
            let taken = beats::<W, B>(&mut bench, mask, 1_000);
            // One source alone gives two writes in three cycles: its places are filled from registers.
            let single_beats = mask == 0b001000 || (mask == 0b000001 && W == 512);
            let least = if single_beats { 666 } else { 1_000 };
            assert!(taken >= least, "{taken} beats of 1,000 cycles from sources {mask:06b} at {W} bits");
        }
    }

    /// Zeros take what nobody else wants, and a cycle between bursts stays free.
    fn gives_zeros_what_is_left<const W: usize, const B: usize>() {
        let mut bench = start::<W, B>("directed");
        let (mut random, beats) = (seeded(), 512 / W as u64);
        let write = ZeroWrite { address: 0x40u64.to_bits(), is_wide: 1u64.to_bits(), ..Default::default() };
        bench.set_wide("zero$data", &words::<67>(write));
        let sources = ["completion", "interrupt"];
        for source in sources {
            bench.set_wide(&format!("{source}$data"), &item(&mut random, 3).words);
        }
        for name in ["zero$valid", "awready", "wready", "bvalid"] {
            bench.set(name, 1);
        }
        // One write of somebody else, now of one, now of the other, in so many cycles; bursts of zeros in 1,000.
        // Those that write every second cycle let a burst of zeros go after 64 writes.
        let aged = 470 / 64;
        for (period, least) in [(u64::MAX, 1_000 / (beats + 1)), (20, 50 * (15 / (beats + 1))), (2, aged)] {
            let (mut zeros, mut others, mut given) = (0, 0, 0);
            for cycle in 0..1_020 {
                let turn = (cycle % period == 1).then_some(cycle / period % 2);
                for (i, source) in sources.iter().enumerate() {
                    bench.set(&format!("{source}$valid"), (turn == Some(i as u64)).into());
                }
                bench.eval();
                given += turn.map_or(0, |i| bench.get(&format!("{}$ready", sources[i as usize])) as u64);
                if bench.get("wvalid") == 1 && bench.get("wlast") == 1 && cycle >= 20 {
                    let is_zero = bench.get_wide("wdata").iter().all(|&word| word == 0);
                    (zeros, others) = (zeros + u64::from(is_zero), others + u64::from(!is_zero));
                }
                bench.cycle();
            }
            assert!(zeros >= least && others + 20 >= given, "{zeros} bursts of zeros, {others} of {given}");
            assert_eq!(others >= 470, period == 2, "{others} others");
            assert!(zeros <= 2 * aged || period > 2, "{zeros} bursts of zeros");
        }
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
    fn zeros_yield_at_every_width() {
        gives_zeros_what_is_left::<128, 16>();
        gives_zeros_what_is_left::<256, 32>();
        gives_zeros_what_is_left::<512, 64>();
    }

    #[test]
    fn every_width_sustains_a_beat_a_cycle() {
        sustains_a_beat_a_cycle::<128, 16>();
        sustains_a_beat_a_cycle::<256, 32>();
        sustains_a_beat_a_cycle::<512, 64>();
    }
}
