//! Cuts writes into bursts on the AXI write address and data channels.
//!
//! A wide write is one burst of whole beats; a small one is a single beat of full size whose strobes
//! select the bytes, with the data repeated in every lane. A burst is begun only while `allowed`;
//! `begun` says so in the cycle in which it is. A beat is offered at the earliest with its burst's
//! address, whether or not the bus has taken that: it may take either first.
//!
//! Latency: 1 cycle from `write` to AW and W. Throughput: a beat a cycle, no bubble between bursts; AW
//! runs at most two addresses ahead. Reset drops what is offered.

use rust_hdl::prelude::*;

use super::write_arbiter::MergedWrite;
use crate::logic_record;
use crate::prim::output_buffer::OutputBuffer;
use crate::prim::stream::StreamIn;

logic_record! {
    /// A beat of the write address channel.
    WriteAddress: 65 {
        /// Bus address.
        address = 64,
        /// 1: a burst of 64 bytes.
        is_wide = 1,
    }
}

/// See the module's header. `W` is the width of the bus in bits, `B` in bytes.
#[derive(Clone, Debug, LogicBlock)]
pub struct BurstCutter<const W: usize, const B: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub write: StreamIn<MergedWrite>,
    /// A burst may be begun this cycle.
    pub allowed: Signal<In, bool>,
    /// The burst of `write` is begun this cycle.
    pub begun: Signal<Out, bool>,
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

    addresses: OutputBuffer<WriteAddress>,
    beats: OutputBuffer<Bits<W>>,
    /// Beside each beat its strobes and, as bit 64, whether it is the last.
    marks: OutputBuffer<Bits<65>>,
    /// Beat of the burst that goes next; the burst is begun; of a wide one it is the last.
    beat: DFF<Bits<2>>,
    midway: DFF<bool>,
    at_last: DFF<bool>,
    /// Bursts begun whose last beat the bus has not taken: one, two.
    one_unfinished: DFF<bool>,
    two_unfinished: DFF<bool>,
    ending: Signal<Local, bool>,
    may_go: Signal<Local, bool>,
    go: Signal<Local, bool>,
    begin_burst: Signal<Local, bool>,
    wide_data: Signal<Local, Bits<512>>,
    wide_shifted: Signal<Local, Bits<512>>,
    wide_shift: Signal<Local, Bits<16>>,
    narrow: Signal<Local, Bits<128>>,
    narrow_low: Signal<Local, Bits<32>>,
    narrow_lanes: Signal<Local, Bits<128>>,
    address: Signal<Local, Bits<64>>,
    lane: Signal<Local, Bits<64>>,
    quad_lane: Signal<Local, Bits<64>>,
    strobe: Signal<Local, Bits<B>>,
    offered_marks: Signal<Local, Bits<65>>,
    beat_allowed: Signal<Local, bool>,
    burst_taken: Signal<Local, bool>,
    more: Signal<Local, bool>,
    fewer: Signal<Local, bool>,
    /// The beat before the last of a wide burst; such a burst has one beat only.
    last_but_one: Constant<Bits<2>>,
    single: Constant<bool>,
    beat_shift: Constant<Bits<16>>,
    word_mask: Constant<Bits<64>>,
    quad_mask: Constant<Bits<64>>,
    quad_strobe: Constant<Bits<B>>,
    word_strobe: Constant<Bits<B>>,
    all_strobes: Constant<Bits<B>>,
    wide_length: Constant<Bits<8>>,
    single_length: Constant<Bits<8>>,
    beat_size: Constant<Bits<3>>,
    incrementing: Constant<Bits<2>>,
    flag: Constant<Bits<1>>,
    zero2: Constant<Bits<2>>,
    one2: Constant<Bits<2>>,
}

impl<const W: usize, const B: usize> Default for BurstCutter<W, B> {
    fn default() -> Self {
        assert!([128, 256, 512].contains(&W) && B * 8 == W, "bus of {W} bits, {B} bytes");
        Self {
            clock: Default::default(),
            reset: Default::default(),
            write: Default::default(),
            allowed: Default::default(),
            begun: Default::default(),
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
            addresses: Default::default(),
            beats: Default::default(),
            marks: Default::default(),
            beat: Default::default(),
            midway: Default::default(),
            at_last: Default::default(),
            one_unfinished: Default::default(),
            two_unfinished: Default::default(),
            ending: Default::default(),
            may_go: Default::default(),
            go: Default::default(),
            begin_burst: Default::default(),
            wide_data: Default::default(),
            wide_shifted: Default::default(),
            wide_shift: Default::default(),
            narrow: Default::default(),
            narrow_low: Default::default(),
            narrow_lanes: Default::default(),
            address: Default::default(),
            lane: Default::default(),
            quad_lane: Default::default(),
            strobe: Default::default(),
            offered_marks: Default::default(),
            beat_allowed: Default::default(),
            burst_taken: Default::default(),
            more: Default::default(),
            fewer: Default::default(),
            last_but_one: Constant::new((512 / W as u64).saturating_sub(2).to_bits()),
            single: Constant::new(W == 512),
            beat_shift: Constant::new(u64::from(W.ilog2()).to_bits()),
            word_mask: Constant::new((B as u64 - 4).to_bits()),
            quad_mask: Constant::new((B as u64 - 16).to_bits()),
            quad_strobe: Constant::new(0xFFFFu64.to_bits()),
            word_strobe: Constant::new(0xFu64.to_bits()),
            all_strobes: Constant::new((u64::MAX >> (64 - B)).to_bits()),
            wide_length: Constant::new((512 / W as u64 - 1).to_bits()),
            single_length: Constant::new(0u64.to_bits()),
            beat_size: Constant::new(u64::from(B.ilog2()).to_bits()),
            incrementing: Constant::new(1u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            zero2: Constant::new(0u64.to_bits()),
            one2: Constant::new(1u64.to_bits()),
        }
    }
}

impl<const W: usize, const B: usize> Logic for BurstCutter<W, B> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, beat, midway, at_last, one_unfinished, two_unfinished);
        clock!(self, clock, addresses, beats, marks);
        self.addresses.reset.next = self.reset.val();
        self.beats.reset.next = self.reset.val();
        self.marks.reset.next = self.reset.val();

        // Cut the write into beats.
        self.ending.next =
            (self.write.data.val().is_wide != self.flag.val()) | self.at_last.q.val() | self.single.val();
        self.may_go.next =
            self.beats.room.val() & (self.midway.q.val() | (self.addresses.room.val() & self.allowed.val()));
        self.go.next = self.write.valid.val() & self.may_go.val();
        self.begin_burst.next = self.go.val() & !self.midway.q.val();
        self.write.ready.next = self.may_go.val() & self.ending.val();
        if self.go.val() {
            self.beat.d.next = self.beat.q.val() + self.one2.val();
            self.midway.d.next = !self.ending.val();
            self.at_last.d.next = (self.beat.q.val() == self.last_but_one.val());
            if self.ending.val() {
                self.beat.d.next = self.zero2.val();
                self.at_last.d.next = false;
            }
        }
        self.wide_data.next = self.write.data.val().wide;
        self.wide_shift.next = (bit_cast::<16, 2>(self.beat.q.val()) << self.beat_shift.val());
        self.wide_shifted.next = (self.wide_data.val() >> bit_cast::<512, 16>(self.wide_shift.val()));
        self.narrow.next = self.write.data.val().narrow;
        self.narrow_low.next = self.narrow.val().get_bits::<32>(0);
        self.narrow_lanes.next = bit_cast::<128, 32>(self.narrow_low.val())
            | (bit_cast::<128, 32>(self.narrow_low.val()) << 32)
            | (bit_cast::<128, 32>(self.narrow_low.val()) << 64)
            | (bit_cast::<128, 32>(self.narrow_low.val()) << 96);
        self.address.next = self.write.data.val().address;
        self.lane.next = (self.address.val() & self.word_mask.val());
        self.quad_lane.next = (self.address.val() & self.quad_mask.val());
        self.strobe.next = (self.word_strobe.val() << bit_cast::<B, 64>(self.lane.val()));
        if (self.write.data.val().quad == self.flag.val()) {
            self.narrow_lanes.next = self.narrow.val();
            self.strobe.next = (self.quad_strobe.val() << bit_cast::<B, 64>(self.quad_lane.val()));
        }
        self.beats.data.next = bit_cast::<W, 128>(self.narrow_lanes.val())
            | (bit_cast::<W, 128>(self.narrow_lanes.val()) << 128)
            | (bit_cast::<W, 128>(self.narrow_lanes.val()) << 256)
            | (bit_cast::<W, 128>(self.narrow_lanes.val()) << 384);
        if (self.write.data.val().is_narrow != self.flag.val()) {
            self.beats.data.next = bit_cast::<W, 512>(self.wide_shifted.val());
        }
        if (self.write.data.val().is_wide == self.flag.val()) {
            self.strobe.next = self.all_strobes.val();
        }
        self.marks.data.next =
            bit_cast::<65, B>(self.strobe.val()) | (bit_cast::<65, 1>(self.ending.val().into()) << 64);
        self.addresses.data.next.address = self.address.val();
        self.addresses.data.next.is_wide = self.write.data.val().is_wide;
        self.beats.push.next = self.go.val();
        self.marks.push.next = self.go.val();
        self.addresses.push.next = self.begin_burst.val();
        self.begun.next = self.begin_burst.val();

        // The bus.
        self.awvalid.next = self.addresses.out.valid.val();
        self.addresses.out.ready.next = self.awready.val();
        self.awaddr.next = self.addresses.out.data.val().address;
        self.awlen.next = self.single_length.val();
        if (self.addresses.out.data.val().is_wide == self.flag.val()) {
            self.awlen.next = self.wide_length.val();
        }
        self.awsize.next = self.beat_size.val();
        self.awburst.next = self.incrementing.val();
        // Of one unfinished burst the address is the last: it is offered unless it waits in the spare.
        self.beat_allowed.next = !self.one_unfinished.q.val() | self.addresses.room.val();
        self.wvalid.next = self.beats.out.valid.val() & self.beat_allowed.val();
        self.wdata.next = self.beats.out.data.val();
        self.offered_marks.next = self.marks.out.data.val();
        self.wstrb.next = self.offered_marks.val().get_bits::<B>(0);
        self.wlast.next = self.offered_marks.val().get_bit(64);
        self.beats.out.ready.next = self.wready.val() & self.beat_allowed.val();
        self.marks.out.ready.next = self.wready.val() & self.beat_allowed.val();
        self.burst_taken.next = self.wready.val()
            & self.beats.out.valid.val()
            & self.beat_allowed.val()
            & self.offered_marks.val().get_bit(64);
        // Never three: a burst is begun with at most one beat in the buffer.
        self.more.next = self.begin_burst.val() & !self.burst_taken.val();
        self.fewer.next = !self.begin_burst.val() & self.burst_taken.val();
        self.one_unfinished.d.next = (self.more.val() & !self.one_unfinished.q.val())
            | (self.fewer.val() & self.two_unfinished.q.val())
            | (!self.more.val() & !self.fewer.val() & self.one_unfinished.q.val());
        self.two_unfinished.d.next = (self.more.val() & self.one_unfinished.q.val())
            | (!self.fewer.val() & self.two_unfinished.q.val());
        self.idle.next =
            !self.one_unfinished.q.val() & !self.two_unfinished.q.val() & !self.addresses.out.valid.val();

        if self.reset.val() {
            self.beat.d.next = self.zero2.val();
            self.midway.d.next = false;
            self.at_last.d.next = false;
            self.one_unfinished.d.next = false;
            self.two_unfinished.d.next = false;
        }
    }
}
