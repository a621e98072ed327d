//! Completion windows: BAR2 of the card, where SSDs write the completion queues of their paths.
//!
//! Purpose: an AXI4 slave that turns written completion entries into events, one for each 16-byte
//! entry whose upper 8 bytes are strobed in one beat; a lower half alone (the first half of an entry
//! that comes in two writes) and smaller pieces are taken and ignored. Reads answer zeros.
//! Handshake: AXI4 without identifiers. Events have `event_valid` and no ready: the listener takes
//! one a cycle.
//! Bound: nothing here waits for the card's master. A beat with k entries is followed by k − 1
//! cycles of `wready` low (k ≤ W / 128); for `awready` see `WriteBursts`.
//! Latency: the event of a beat's first entry stands 2 cycles after the beat, the others in the
//! cycles that follow. Throughput: a beat a cycle, as long as it holds one entry. Order: as written.
//! Reset: forgets open bursts, so `reset` is that of the bus, not of the card alone.
//! `idle` falls in time and rises a cycle late.
//! Failure: none; responses are always OKAY.

use rust_hdl::prelude::*;
use volplane_abi::registers::WINDOW_SHIFT;

use super::write_bursts::WriteBursts;
use crate::records::{CompletionEntry, WindowEvent};

/// log2 of the bytes of a completion entry.
const ENTRY_SHIFT: u32 = 4;

/// The slave; `W` data bits, `B` = W / 8 bytes.
#[derive(Clone, Debug, LogicBlock)]
pub struct CompletionWindow<const W: usize, const B: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub awvalid: Signal<In, bool>,
    pub awready: Signal<Out, bool>,
    pub awaddr: Signal<In, Bits<19>>,
    pub awlen: Signal<In, Bits<8>>,
    pub awsize: Signal<In, Bits<3>>,
    pub awburst: Signal<In, Bits<2>>,
    pub wvalid: Signal<In, bool>,
    pub wready: Signal<Out, bool>,
    pub wdata: Signal<In, Bits<W>>,
    pub wstrb: Signal<In, Bits<B>>,
    pub wlast: Signal<In, bool>,
    pub bvalid: Signal<Out, bool>,
    pub bready: Signal<In, bool>,
    pub bresp: Signal<Out, Bits<2>>,
    pub arvalid: Signal<In, bool>,
    pub arready: Signal<Out, bool>,
    pub araddr: Signal<In, Bits<19>>,
    pub arlen: Signal<In, Bits<8>>,
    pub arsize: Signal<In, Bits<3>>,
    pub arburst: Signal<In, Bits<2>>,
    pub rvalid: Signal<Out, bool>,
    pub rready: Signal<In, bool>,
    pub rdata: Signal<Out, Bits<W>>,
    pub rresp: Signal<Out, Bits<2>>,
    pub rlast: Signal<Out, bool>,
    pub event_valid: Signal<Out, bool>,
    pub event_data: Signal<Out, WindowEvent>,
    pub idle: Signal<Out, bool>,
    bursts: WriteBursts,
    /// The last beat, its entries that are still to be reported, and the number of its first one.
    beat: DFF<Bits<W>>,
    lanes: DFF<Bits<4>>,
    beat_entry: DFF<Bits<32>>,
    offered_valid: DFF<bool>,
    offered: DFF<WindowEvent>,
    reading: DFF<bool>,
    read_left: DFF<Bits<8>>,
    read_last: DFF<bool>,
    idle_register: DFF<bool>,
    accepted: Signal<Local, bool>,
    taking: Signal<Local, bool>,
    strobed: Signal<Local, Bits<4>>,
    lane0: Signal<Local, bool>,
    lane1: Signal<Local, bool>,
    lane2: Signal<Local, bool>,
    lane3: Signal<Local, bool>,
    lanes_later: Signal<Local, Bits<4>>,
    lanes_after: Signal<Local, Bits<4>>,
    lane: Signal<Local, Bits<32>>,
    entry: Signal<Local, CompletionEntry>,
    number: Signal<Local, Bits<32>>,
    position: Signal<Local, Bits<32>>,
    address: Signal<Local, Bits<19>>,
    /// Where lanes 1 to 3 begin in data and strobes; a lane that does not exist stands for lane 0.
    lane1_data: Constant<Bits<16>>,
    lane2_data: Constant<Bits<16>>,
    lane3_data: Constant<Bits<16>>,
    lane0_upper: Constant<Bits<16>>,
    lane1_upper: Constant<Bits<16>>,
    lane2_upper: Constant<Bits<16>>,
    lane3_upper: Constant<Bits<16>>,
    lanes_existing: Constant<Bits<4>>,
    /// Makes the number of an entry that of the first one in its beat.
    beat_mask: Constant<Bits<32>>,
    position_mask: Constant<Bits<32>>,
    entry_shift: Constant<Bits<16>>,
    path_shift: Constant<Bits<16>>,
    zero2: Constant<Bits<2>>,
    zero4: Constant<Bits<4>>,
    zero8: Constant<Bits<8>>,
    one8: Constant<Bits<8>>,
    zero_data: Constant<Bits<W>>,
}

impl<const W: usize, const B: usize> Default for CompletionWindow<W, B> {
    fn default() -> Self {
        assert!(W == 8 * B && matches!(W, 128 | 256 | 512), "completion windows of {W} bits, {B} bytes");
        let lanes = W / 128;
        let lane = |number: usize| if number < lanes { number } else { 0 };
        let window_entries_shift = WINDOW_SHIFT - ENTRY_SHIFT;
        Self {
            clock: Default::default(),
            reset: Default::default(),
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
            event_valid: Default::default(),
            event_data: Default::default(),
            idle: Default::default(),
            bursts: Default::default(),
            beat: Default::default(),
            lanes: Default::default(),
            beat_entry: Default::default(),
            offered_valid: Default::default(),
            offered: Default::default(),
            reading: Default::default(),
            read_left: Default::default(),
            read_last: Default::default(),
            idle_register: Default::default(),
            accepted: Default::default(),
            taking: Default::default(),
            strobed: Default::default(),
            lane0: Default::default(),
            lane1: Default::default(),
            lane2: Default::default(),
            lane3: Default::default(),
            lanes_later: Default::default(),
            lanes_after: Default::default(),
            lane: Default::default(),
            entry: Default::default(),
            number: Default::default(),
            position: Default::default(),
            address: Default::default(),
            lane1_data: Constant::new((lane(1) * 128).to_bits()),
            lane2_data: Constant::new((lane(2) * 128).to_bits()),
            lane3_data: Constant::new((lane(3) * 128).to_bits()),
            lane0_upper: Constant::new(8usize.to_bits()),
            lane1_upper: Constant::new((lane(1) * 16 + 8).to_bits()),
            lane2_upper: Constant::new((lane(2) * 16 + 8).to_bits()),
            lane3_upper: Constant::new((lane(3) * 16 + 8).to_bits()),
            lanes_existing: Constant::new(((1usize << lanes) - 1).to_bits()),
            beat_mask: Constant::new((0xFFFF_FFFF & !(lanes - 1)).to_bits()),
            position_mask: Constant::new(((1u64 << window_entries_shift) - 1).to_bits()),
            entry_shift: Constant::new(u64::from(ENTRY_SHIFT).to_bits()),
            path_shift: Constant::new(u64::from(window_entries_shift).to_bits()),
            zero2: Constant::new(0u64.to_bits()),
            zero4: Constant::new(0u64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            zero_data: Constant::new(0u64.to_bits()),
        }
    }
}

impl<const W: usize, const B: usize> Logic for CompletionWindow<W, B> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            beat,
            lanes,
            beat_entry,
            offered_valid,
            offered,
            reading,
            read_left,
            read_last,
            idle_register
        );
        self.bursts.clock.next = self.clock.val();
        self.bursts.reset.next = self.reset.val();
        self.bursts.awvalid.next = self.awvalid.val();
        self.awready.next = self.bursts.awready.val();
        self.bursts.awaddr.next = self.awaddr.val();
        self.bursts.awlen.next = self.awlen.val();
        self.bursts.awsize.next = self.awsize.val();
        self.bursts.awburst.next = self.awburst.val();
        self.bvalid.next = self.bursts.bvalid.val();
        self.bursts.bready.next = self.bready.val();
        self.bresp.next = self.zero2.val();

        // Beats: one entry is reported each cycle, so a beat may come when at most one is left.
        self.lane0.next = self.lanes.q.val().get_bit(0);
        self.lane1.next = self.lanes.q.val().get_bit(1);
        self.lane2.next = self.lanes.q.val().get_bit(2);
        self.lane3.next = self.lanes.q.val().get_bit(3);
        self.lanes_later.next = (bit_cast::<4, 1>((self.lane1.val() & self.lane0.val()).into()) << 1)
            | (bit_cast::<4, 1>((self.lane2.val() & (self.lane0.val() | self.lane1.val())).into()) << 2)
            | (bit_cast::<4, 1>(
                (self.lane3.val() & (self.lane0.val() | self.lane1.val() | self.lane2.val())).into(),
            ) << 3);
        self.lanes_after.next = self.lanes_later.val() & self.lanes_existing.val();
        self.taking.next = self.bursts.open.val() & !self.lanes_after.val().any();
        self.wready.next = self.taking.val();
        self.accepted.next = self.wvalid.val() & self.taking.val();
        self.bursts.beat.next = self.accepted.val();
        self.bursts.last.next = self.wlast.val();
        self.strobed.next = self.zero4.val();
        if self.wstrb.val().get_bits::<8>(self.lane0_upper.val().index()).all() {
            self.strobed.next = self.strobed.val() | 1;
        }
        if self.wstrb.val().get_bits::<8>(self.lane1_upper.val().index()).all() {
            self.strobed.next = self.strobed.val() | 2;
        }
        if self.wstrb.val().get_bits::<8>(self.lane2_upper.val().index()).all() {
            self.strobed.next = self.strobed.val() | 4;
        }
        if self.wstrb.val().get_bits::<8>(self.lane3_upper.val().index()).all() {
            self.strobed.next = self.strobed.val() | 8;
        }
        self.address.next = self.bursts.address.val();
        self.lanes.d.next = self.lanes_after.val();
        if self.accepted.val() {
            self.lanes.d.next = self.strobed.val() & self.lanes_existing.val();
            self.beat.d.next = self.wdata.val();
            self.beat_entry.d.next =
                (bit_cast::<32, 19>(self.address.val()) >> self.entry_shift.val()) & self.beat_mask.val();
        }

        // Events.
        self.entry.next = self.beat.q.val().get_bits::<128>(self.lane3_data.val().index()).into();
        self.lane.next = 3.into();
        if self.lanes.q.val().get_bit(0) {
            self.entry.next = self.beat.q.val().get_bits::<128>(0).into();
            self.lane.next = 0.into();
        } else if self.lanes.q.val().get_bit(1) {
            self.entry.next = self.beat.q.val().get_bits::<128>(self.lane1_data.val().index()).into();
            self.lane.next = 1.into();
        } else if self.lanes.q.val().get_bit(2) {
            self.entry.next = self.beat.q.val().get_bits::<128>(self.lane2_data.val().index()).into();
            self.lane.next = 2.into();
        }
        self.number.next = self.beat_entry.q.val() | self.lane.val();
        self.position.next = self.number.val() & self.position_mask.val();
        self.offered_valid.d.next = (self.lanes.q.val() != self.zero4.val());
        self.offered.d.next.path = self.number.val().get_bits::<8>(self.path_shift.val().index());
        self.offered.d.next.position = self.position.val().get_bits::<12>(0);
        self.offered.d.next.command_id = self.entry.val().command_id;
        self.offered.d.next.sq_head = self.entry.val().sq_head;
        self.offered.d.next.status = self.entry.val().status;
        self.event_valid.next = self.offered_valid.q.val();
        self.event_data.next = self.offered.q.val();

        // Reads.
        self.arready.next = !self.reading.q.val();
        self.rvalid.next = self.reading.q.val();
        self.rdata.next = self.zero_data.val();
        self.rresp.next = self.zero2.val();
        self.rlast.next = self.read_last.q.val();
        if self.reading.q.val() {
            if self.rready.val() {
                self.reading.d.next = !self.read_last.q.val();
                self.read_last.d.next = (self.read_left.q.val() == self.one8.val());
                self.read_left.d.next = self.read_left.q.val() - self.one8.val();
            }
        } else {
            self.reading.d.next = self.arvalid.val();
            self.read_left.d.next = self.arlen.val();
            self.read_last.d.next = (self.arlen.val() == self.zero8.val());
        }

        // Falls in time, for what comes now counts, and rises a cycle late.
        self.idle_register.d.next = self.bursts.idle.val()
            & !self.awvalid.val()
            & !self.arvalid.val()
            & (self.lanes.q.val() == self.zero4.val())
            & !self.offered_valid.q.val()
            & !self.reading.q.val();
        self.idle.next = self.idle_register.q.val();

        if self.reset.val() {
            self.lanes.d.next = self.zero4.val();
            self.offered_valid.d.next = false;
            self.reading.d.next = false;
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

    /// What the test compares of an event: path, position, identifier, head, status.
    type Event = (u64, u64, u64, u64, u64);

    struct Beat {
        data: Vec<u8>,
        strobes: Vec<bool>,
        last: bool,
    }

    struct Burst {
        address: u64,
        length: u64,
        size: u32,
        kind: u64,
        beats: Vec<Beat>,
    }

    /// Addresses of a burst's beats (AMBA AXI, "Burst address").
    fn addresses(burst: &Burst) -> Vec<u64> {
        let bytes = 1u64 << burst.size;
        let aligned = burst.address / bytes * bytes;
        let total = bytes * (burst.length + 1);
        let border = burst.address / total * total;
        (0..=burst.length)
            .map(|n| match (burst.kind, n) {
                (0, _) | (_, 0) => burst.address,
                (1, n) => aligned + n * bytes,
                (_, n) => border + (aligned + n * bytes - border) % total,
            })
            .collect()
    }

    /// What the entries written by a burst say, read from bytes as the NVMe specification lays them out.
    fn events(burst: &Burst, bytes: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for (beat, address) in burst.beats.iter().zip(addresses(burst)) {
            let base = address / bytes * bytes;
            for lane in 0..bytes as usize / 16 {
                if beat.strobes[lane * 16 + 8..lane * 16 + 16].iter().all(|&strobe| strobe) {
                    let at = |i: usize| {
                        u64::from(beat.data[lane * 16 + i]) | u64::from(beat.data[lane * 16 + i + 1]) << 8
                    };
                    let place = base + 16 * lane as u64;
                    events.push((place / 0x4000, place % 0x4000 / 16, at(12), at(8), at(14) >> 1));
                }
            }
        }
        events
    }

    fn random_burst(random: &mut ChaCha8Rng, bytes: u64) -> Burst {
        let most = bytes.trailing_zeros();
        // Mostly whole entries and halves, as SSDs and bridges write them.
        let size = if random.random_bool(0.7) {
            random.random_range(3..=most)
        } else {
            random.random_range(0..=most)
        };
        let kind = if random.random_bool(0.8) { 1 } else { random.random_range(0..=2) };
        let step = 1u64 << size;
        let length = match kind {
            2 => [1, 3, 7, 15][random.random_range(0..4)],
            _ => random.random_range(0..=(4096 / step).min(16) - 1).min(random.random_range(0..16)),
        };
        let room = if kind == 1 { 4096 - (length + 1) * step } else { 4096 - step };
        let mut address = random.random_range(0..128) * 4096 + random.random_range(0..=room / step) * step;
        if kind != 2 && random.random_bool(0.2) {
            address += random.random_range(0..step);
        }
        let mut burst = Burst { address, length, size, kind, beats: Vec::new() };
        let sparse = random.random_bool(0.2);
        for (n, address) in addresses(&burst).into_iter().enumerate() {
            let lanes = address..address / step * step + step;
            let strobes = (0..bytes)
                .map(|i| {
                    lanes.contains(&(address / bytes * bytes + i)) && !(sparse && random.random_bool(0.1))
                })
                .collect();
            let data = (0..bytes).map(|_| random.random()).collect();
            burst.beats.push(Beat { data, strobes, last: n as u64 == length });
        }
        burst
    }

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().expect("four bytes"))).collect()
    }

    fn set_beat(bench: &mut Bench, beat: &Beat) {
        bench.set_wide("wdata", &words(&beat.data));
        bench.set("wlast", beat.last.into());
        let strobes: Vec<u32> =
            beat.strobes.chunks(32).map(|c| c.iter().rev().fold(0, |v, &s| v << 1 | u32::from(s))).collect();
        bench.set_wide("wstrb", &strobes);
    }

    fn event(bench: &Bench) -> Event {
        let event: WindowEvent = bench.get_record("event_data");
        (
            event.path.to_u64(),
            event.position.to_u64(),
            event.command_id.to_u64(),
            event.sq_head.to_u64(),
            event.status.to_u64(),
        )
    }

    fn reset(bench: &mut Bench) {
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
    }

    /// Random bursts with gaps on every channel, then without; events, responses and bounds.
    fn check_writes<const W: usize, const B: usize>() {
        let mut bench = Bench::new(&format!("completion_window_{W}"), CompletionWindow::<W, B>::default());
        let mut random = seeded();
        reset(&mut bench);
        let lanes = W / 128;
        let (mut addresses, mut beats) = (VecDeque::new(), VecDeque::new());
        let (mut expected, mut ahead) = (VecDeque::new(), 0i64);
        let (mut seen, mut owed, mut refused) = (0, 0i64, 0);
        for cycle in 0..40_000 {
            if addresses.len() < 4 && cycle < 39_000 {
                let mut burst = random_burst(&mut random, B as u64);
                expected.extend(events(&burst, B as u64));
                for beat in burst.beats.drain(..) {
                    beats.push_back(beat);
                }
                addresses.push_back(burst);
            }
            let eager = cycle % 2_000 < 1_000;
            let mut flip = |eagerness: f64| eager || random.random_bool(eagerness);
            let (offer_address, offer_beat, take) = (flip(0.3), flip(0.6), flip(0.4));
            bench.set("awvalid", (offer_address && !addresses.is_empty()).into());
            if let Some(burst) = addresses.front() {
                bench.set("awaddr", burst.address.into());
                bench.set("awlen", burst.length.into());
                bench.set("awsize", burst.size.into());
                bench.set("awburst", burst.kind.into());
            }
            bench.set("wvalid", (offer_beat && !beats.is_empty()).into());
            if let Some(beat) = beats.front() {
                set_beat(&mut bench, beat);
            }
            bench.set("bready", take.into());
            bench.eval();
            if bench.get("event_valid") == 1 {
                assert_eq!(Some(event(&bench)), expected.pop_front(), "cycle {cycle}");
                seen += 1;
            }
            if bench.get("awvalid") == 1 && bench.get("awready") == 1 {
                addresses.pop_front();
                ahead += 1;
            }
            if bench.get("wready") == 1 {
                refused = 0;
                if bench.get("wvalid") == 1 && beats.pop_front().expect("offered").last {
                    owed += 1;
                    ahead -= 1;
                }
            } else if ahead > 0 {
                refused += 1;
                // One cycle more than the bound where the burst itself has just come.
                assert!(refused <= lanes, "wready low for {refused} cycles");
            }
            if bench.get("bvalid") == 1 && take {
                owed -= 1;
                assert_eq!(bench.get("bresp"), 0);
            }
            assert!(owed >= 0, "a response without a burst");
            bench.cycle();
        }
        assert!(expected.is_empty() && beats.is_empty() && owed == 0 && seen > 2_000, "{seen} events");
        assert_eq!(bench.get("idle"), 1);
    }

    #[test]
    fn every_legal_write_at_every_width() {
        check_writes::<128, 16>();
        check_writes::<256, 32>();
        check_writes::<512, 64>();
    }

    /// One entry, typed as bytes: result 0, head 0x0123, queue 0x4567, identifier 0x89AB, phase 1,
    /// status 0x4281 (generic media error class with Do Not Retry).
    #[test]
    fn an_entry_is_reported_two_cycles_after_its_beat() {
        let mut bench = Bench::new("completion_window_entry", CompletionWindow::<128, 16>::default());
        reset(&mut bench);
        let data = [0, 0, 0, 0, 0, 0, 0, 0, 0x23, 0x01, 0x67, 0x45, 0xAB, 0x89, 0x03, 0x85];
        bench.set("bready", 1);
        bench.set("awvalid", 1);
        bench.set("awaddr", 3 * 0x4000 + 0x3FF0);
        bench.set("awsize", 4);
        bench.set("awburst", 1);
        bench.cycle();
        bench.set("awvalid", 0);
        bench.set("wvalid", 1);
        set_beat(&mut bench, &Beat { data: data.to_vec(), strobes: vec![true; 16], last: true });
        bench.eval();
        assert_eq!(bench.get("wready"), 1);
        assert_eq!(bench.get("idle"), 0);
        bench.cycle();
        bench.set("wvalid", 0);
        bench.eval();
        assert_eq!((bench.get("event_valid"), bench.get("bvalid")), (0, 1));
        bench.cycle();
        assert_eq!(bench.get("event_valid"), 1);
        assert_eq!(event(&bench), (3, 1023, 0x89AB, 0x0123, 0x4281));
        bench.cycle();
        assert_eq!((bench.get("event_valid"), bench.get("idle")), (0, 0));
        bench.cycle();
        assert_eq!(bench.get("idle"), 1, "a cycle late");
    }

    #[test]
    fn reads_answer_zeros() {
        let mut bench = Bench::new("completion_window_reads", CompletionWindow::<256, 32>::default());
        let mut random = seeded();
        reset(&mut bench);
        let mut left = VecDeque::new();
        for _ in 0..2_000 {
            let length = random.random_range(0..6u32);
            bench.set("arvalid", random.random_bool(0.5).into());
            bench.set("arlen", length.into());
            bench.set("rready", random.random_bool(0.5).into());
            bench.eval();
            if bench.get("rvalid") == 1 && bench.get("rready") == 1 {
                assert!(bench.get_wide("rdata").iter().all(|&word| word == 0) && bench.get("rresp") == 0);
                assert_eq!(left.pop_front(), Some(bench.get("rlast") == 1));
            }
            if bench.get("arvalid") == 1 && bench.get("arready") == 1 {
                left.extend((0..=length).map(|n| n == length));
            }
            bench.cycle();
        }
    }
}
