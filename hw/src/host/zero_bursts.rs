//! Writes zeros to runs of a page, a burst at a time.
//!
//! A run becomes as many writes of 64 bytes as its place allows, with smaller ones before and behind. The last
//! one of a fragment is marked, and its end is noted beside it: `ended`, for a FIFO with `room` for what it is
//! given. At most `IN_FLIGHT` writes wait for their responses (`answered` for each), so that a slow bus is not
//! filled with zeros.
//!
//! Handshake: streams. Latency: 2 cycles from run to write. Throughput: a write in 2 cycles. Order kept. `idle`
//! falls in time. Reset drops the run in work and forgets what is in flight.

use rust_hdl::prelude::*;

use super::zero_pages::ZeroRun;
use crate::logic_record;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::ZeroWrite;

/// Writes without a response, at most.
pub const IN_FLIGHT: u64 = 32;

logic_record! {
    /// The end of a fragment, but for what the bus says of its writes.
    ZeroEnd: 36 {
        /// 1: its list could not be read.
        unread = 1,
        /// 1: an entry of its list has an offset.
        wrong = 1,
        /// Part of a plan (`Part`).
        part = 16,
        /// Number of the fragment in its plan.
        ordinal = 17,
        /// 1: the plan's last fragment.
        last = 1,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Resting,
    /// How much goes with the next write.
    Deciding,
    Offering,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct ZeroBursts {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub run: StreamIn<ZeroRun>,
    pub write: StreamOut<ZeroWrite>,
    /// The response to a write has come.
    pub answered: Signal<In, bool>,
    /// The bus takes a fragment's last write in this cycle.
    pub ended_valid: Signal<Out, bool>,
    pub ended: Signal<Out, ZeroEnd>,
    pub room: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    state: DFF<State>,
    work: DFF<ZeroRun>,
    /// Of what is not written yet: its place in the page, and its bytes.
    offset: DFF<Bits<12>>,
    left: DFF<Bits<13>>,
    is_wide: DFF<bool>,
    quad: DFF<bool>,
    /// The run's last write.
    is_last: DFF<bool>,
    in_flight: DFF<Bits<6>>,
    may_fly: DFF<bool>,
    none_in_flight: DFF<bool>,

    sent: Signal<Local, bool>,
    at: Signal<Local, Bits<64>>,
    page: Signal<Local, Bits<52>>,
    start: Signal<Local, Bits<64>>,
    in_wide: Signal<Local, Bits<6>>,
    in_quad: Signal<Local, Bits<4>>,
    wides: Signal<Local, Bits<7>>,
    quads: Signal<Local, Bits<9>>,
    wide_fits: Signal<Local, bool>,
    quad_fits: Signal<Local, bool>,
    ends: Signal<Local, bool>,

    wide_bytes: Constant<Bits<13>>,
    quad_bytes: Constant<Bits<13>>,
    word_bytes: Constant<Bits<13>>,
    wide_step: Constant<Bits<12>>,
    quad_step: Constant<Bits<12>>,
    word_step: Constant<Bits<12>>,
    no_wide: Constant<Bits<6>>,
    no_quad: Constant<Bits<4>>,
    threshold: Constant<Bits<6>>,
    zero6: Constant<Bits<6>>,
    one6: Constant<Bits<6>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl Default for ZeroBursts {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            run: Default::default(),
            write: Default::default(),
            answered: Default::default(),
            ended_valid: Default::default(),
            ended: Default::default(),
            room: Default::default(),
            idle: Default::default(),
            state: Default::default(),
            work: Default::default(),
            offset: Default::default(),
            left: Default::default(),
            is_wide: Default::default(),
            quad: Default::default(),
            is_last: Default::default(),
            in_flight: Default::default(),
            may_fly: Default::default(),
            none_in_flight: Default::default(),
            sent: Default::default(),
            at: Default::default(),
            page: Default::default(),
            start: Default::default(),
            in_wide: Default::default(),
            in_quad: Default::default(),
            wides: Default::default(),
            quads: Default::default(),
            wide_fits: Default::default(),
            quad_fits: Default::default(),
            ends: Default::default(),
            wide_bytes: Constant::new(64u64.to_bits()),
            quad_bytes: Constant::new(16u64.to_bits()),
            word_bytes: Constant::new(4u64.to_bits()),
            wide_step: Constant::new(64u64.to_bits()),
            quad_step: Constant::new(16u64.to_bits()),
            word_step: Constant::new(4u64.to_bits()),
            no_wide: Constant::new(0u64.to_bits()),
            no_quad: Constant::new(0u64.to_bits()),
            // Of the count before this cycle, and a cycle late: one more may have gone.
            threshold: Constant::new((IN_FLIGHT - 1).to_bits()),
            zero6: Constant::new(0u64.to_bits()),
            one6: Constant::new(1u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for ZeroBursts {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, state, work, offset, left, is_wide, quad, is_last);
        dff_setup!(self, clock, in_flight, may_fly, none_in_flight);
        self.run.ready.next = (self.state.q.val() == State::Resting);
        self.idle.next =
            (self.state.q.val() == State::Resting) & !self.run.valid.val() & self.none_in_flight.q.val();

        // The run is in one page, so only the offset in it moves.
        self.at.next = self.work.q.val().address;
        self.page.next = self.at.val().get_bits::<52>(12);
        self.start.next = self.run.data.val().address;
        self.ends.next = self.is_last.q.val() & (self.work.q.val().ends == self.flag.val());
        self.write.valid.next = (self.state.q.val() == State::Offering);
        self.write.data.next.address =
            (bit_cast::<64, 52>(self.page.val()) << 12) | bit_cast::<64, 12>(self.offset.q.val());
        self.write.data.next.is_wide = self.clear.val();
        if self.is_wide.q.val() {
            self.write.data.next.is_wide = self.flag.val();
        }
        self.write.data.next.quad = self.clear.val();
        if self.quad.q.val() {
            self.write.data.next.quad = self.flag.val();
        }
        self.write.data.next.ends = self.clear.val();
        if self.ends.val() {
            self.write.data.next.ends = self.flag.val();
        }
        self.sent.next = (self.state.q.val() == State::Offering) & self.write.ready.val();
        self.ended_valid.next = self.sent.val() & self.ends.val();
        self.ended.next.unread = self.work.q.val().unread;
        self.ended.next.wrong = self.work.q.val().wrong;
        self.ended.next.part = self.work.q.val().part;
        self.ended.next.ordinal = self.work.q.val().ordinal;
        self.ended.next.last = self.work.q.val().last;

        self.in_wide.next = self.offset.q.val().get_bits::<6>(0);
        self.in_quad.next = self.offset.q.val().get_bits::<4>(0);
        self.wides.next = self.left.q.val().get_bits::<7>(6);
        self.quads.next = self.left.q.val().get_bits::<9>(4);
        self.wide_fits.next = (self.in_wide.val() == self.no_wide.val()) & self.wides.val().any();
        self.quad_fits.next = (self.in_quad.val() == self.no_quad.val()) & self.quads.val().any();
        match self.state.q.val() {
            State::Resting => {
                self.work.d.next = self.run.data.val();
                self.offset.d.next = self.start.val().get_bits::<12>(0);
                self.left.d.next = self.run.data.val().bytes;
                if self.run.valid.val() {
                    self.state.d.next = State::Deciding;
                }
            }
            State::Deciding => {
                self.is_wide.d.next = self.wide_fits.val();
                self.quad.d.next = self.quad_fits.val();
                self.is_last.d.next = (self.left.q.val() == self.word_bytes.val())
                    | (self.quad_fits.val() & (self.left.q.val() == self.quad_bytes.val()))
                    | (self.wide_fits.val() & (self.left.q.val() == self.wide_bytes.val()));
                if self.may_fly.q.val() & self.room.val() {
                    self.state.d.next = State::Offering;
                }
            }
            State::Offering => {
                if self.write.ready.val() {
                    self.offset.d.next = self.offset.q.val() + self.word_step.val();
                    self.left.d.next = self.left.q.val() - self.word_bytes.val();
                    if self.quad.q.val() {
                        self.offset.d.next = self.offset.q.val() + self.quad_step.val();
                        self.left.d.next = self.left.q.val() - self.quad_bytes.val();
                    }
                    if self.is_wide.q.val() {
                        self.offset.d.next = self.offset.q.val() + self.wide_step.val();
                        self.left.d.next = self.left.q.val() - self.wide_bytes.val();
                    }
                    self.state.d.next = State::Deciding;
                    if self.is_last.q.val() {
                        self.state.d.next = State::Resting;
                    }
                }
            }
            _ => {}
        }

        if self.sent.val() & !self.answered.val() {
            self.in_flight.d.next = self.in_flight.q.val() + self.one6.val();
        }
        if !self.sent.val() & self.answered.val() {
            self.in_flight.d.next = self.in_flight.q.val() - self.one6.val();
        }
        self.may_fly.d.next = (self.in_flight.q.val() < self.threshold.val());
        self.none_in_flight.d.next =
            (self.in_flight.q.val() == self.zero6.val()) & (self.state.q.val() == State::Resting);

        if self.reset.val() {
            self.state.d.next = State::Resting;
            self.in_flight.d.next = self.zero6.val();
            self.may_fly.d.next = false;
            self.none_in_flight.d.next = false;
        }
    }
}
