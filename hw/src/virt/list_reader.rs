//! Reads entries of a client's PRP list, a 128-byte line at a time.
//!
//! One entry a request: `request` with `address` (8-byte aligned) is answered by `answer` with
//! `entry`, or with `failed` when the bus refused the line; both stay until the next request. The last
//! line is kept until `forget`, so that sixteen neighbours cost one read. Two readers may share a
//! requester of the read master: each takes the answers that have its tag. Latency: 4 cycles on a kept
//! line, else the bus and 5. One request at a time. Reset forgets; answers of a read begun before are
//! not expected (the masters drain first).

use rust_hdl::prelude::*;

use crate::prim::ram::LutRam;
use crate::prim::stream::StreamOut;
use crate::records::ReadRequest;

/// The tags of readers that share a requester.
pub mod list_tag {
    /// For the fragments of SSDs.
    pub const FRAGMENTS: u8 = 0;
    /// For fragments of zeros.
    pub const ZEROS: u8 = 1;
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    Compare,
    Ask,
    Fill,
    Fetch,
    Select,
}

/// See the module's header. `W` is the width of the bus in bits.
#[derive(Clone, Debug, LogicBlock)]
pub struct ListReader<const W: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub request: Signal<In, bool>,
    pub address: Signal<In, Bits<64>>,
    pub forget: Signal<In, bool>,
    pub answer: Signal<Out, bool>,
    pub entry: Signal<Out, Bits<64>>,
    pub failed: Signal<Out, bool>,
    pub list: StreamOut<ReadRequest>,
    pub answer_valid_list: Signal<In, bool>,
    pub answer_tag: Signal<In, Bits<8>>,
    pub answer_data: Signal<In, Bits<W>>,
    pub answer_last: Signal<In, bool>,
    pub answer_error: Signal<In, bool>,

    line: LutRam<Bits<W>>,
    state: DFF<State>,
    wanted: DFF<Bits<64>>,
    kept: DFF<Bits<57>>,
    kept_valid: DFF<bool>,
    /// The line wanted is the one kept: its lower half, its upper half.
    same_low: DFF<bool>,
    same_high: DFF<bool>,
    /// The line's last beat has been written.
    ended: DFF<bool>,
    beat: DFF<Bits<16>>,
    error: DFF<bool>,
    entry_register: DFF<Bits<64>>,
    answer_register: DFF<bool>,
    failed_register: DFF<bool>,
    kept_low: Signal<Local, Bits<28>>,
    kept_high: Signal<Local, Bits<29>>,
    asked_low: Signal<Local, Bits<28>>,
    asked_high: Signal<Local, Bits<29>>,
    wanted_line: Signal<Local, Bits<57>>,
    word: Signal<Local, Bits<16>>,
    shift: Signal<Local, Bits<16>>,
    beat_data: Signal<Local, Bits<W>>,
    shifted: Signal<Local, Bits<W>>,
    /// A beat of the line that was asked for.
    arrives: Signal<Local, bool>,
    line_bytes: Constant<Bits<8>>,
    tag: Constant<Bits<8>>,
    /// The bit that tells the tags apart.
    tag_bit: Constant<bool>,
    low_zero: Constant<Bits<7>>,
    one: Constant<Bits<16>>,
    zero: Constant<Bits<16>>,
    word_mask: Constant<Bits<16>>,
    beat_shift: Constant<Bits<16>>,
}

impl<const W: usize> ListReader<W> {
    /// A reader with one of `list_tag`.
    pub fn new(tag: u8) -> Self {
        assert!([128, 256, 512].contains(&W), "bus of {W} bits");
        Self {
            clock: Default::default(),
            reset: Default::default(),
            request: Default::default(),
            address: Default::default(),
            forget: Default::default(),
            answer: Default::default(),
            entry: Default::default(),
            failed: Default::default(),
            list: Default::default(),
            answer_valid_list: Default::default(),
            answer_tag: Default::default(),
            answer_data: Default::default(),
            answer_last: Default::default(),
            answer_error: Default::default(),
            line: LutRam::new(3),
            state: Default::default(),
            wanted: Default::default(),
            kept: Default::default(),
            kept_valid: Default::default(),
            same_low: Default::default(),
            same_high: Default::default(),
            kept_low: Default::default(),
            kept_high: Default::default(),
            asked_low: Default::default(),
            asked_high: Default::default(),
            ended: Default::default(),
            beat: Default::default(),
            error: Default::default(),
            entry_register: Default::default(),
            answer_register: Default::default(),
            failed_register: Default::default(),
            wanted_line: Default::default(),
            word: Default::default(),
            shift: Default::default(),
            beat_data: Default::default(),
            shifted: Default::default(),
            arrives: Default::default(),
            line_bytes: Constant::new(128u64.to_bits()),
            tag: Constant::new(u64::from(tag).to_bits()),
            tag_bit: Constant::new(tag & 1 == 1),
            low_zero: Constant::new(0u64.to_bits()),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            word_mask: Constant::new((W as u64 / 64 - 1).to_bits()),
            beat_shift: Constant::new(((W / 64).ilog2() as u64).to_bits()),
        }
    }
}

impl<const W: usize> Logic for ListReader<W> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            state,
            wanted,
            kept,
            kept_valid,
            same_low,
            same_high,
            ended,
            beat,
            error,
            entry_register,
            answer_register,
            failed_register
        );
        self.answer.next = self.answer_register.q.val();
        self.entry.next = self.entry_register.q.val();
        self.failed.next = self.failed_register.q.val();
        self.answer_register.d.next = false;

        self.kept_low.next = self.kept.q.val().get_bits::<28>(0);
        self.kept_high.next = self.kept.q.val().get_bits::<29>(28);
        self.asked_low.next = self.address.val().get_bits::<28>(7);
        self.asked_high.next = self.address.val().get_bits::<29>(35);
        self.same_low.d.next = (self.kept_low.val() == self.asked_low.val());
        self.same_high.d.next = (self.kept_high.val() == self.asked_high.val());
        self.wanted_line.next = self.wanted.q.val().get_bits::<57>(7);
        self.list.valid.next = (self.state.q.val() == State::Ask);
        self.list.data.next.address =
            (bit_cast::<64, 57>(self.wanted_line.val()) << 7) | bit_cast::<64, 7>(self.low_zero.val());
        self.list.data.next.bytes = self.line_bytes.val();
        self.list.data.next.tag = self.tag.val();

        // The entry's number in the line: its beat, and its word in the beat.
        self.word.next = bit_cast::<16, 4>(self.wanted.q.val().get_bits::<4>(3));
        self.shift.next = ((self.word.val() & self.word_mask.val()) << 6);
        self.line.clock.next = self.clock.val();
        self.arrives.next =
            self.answer_valid_list.val() & (self.answer_tag.val().get_bit(0) == self.tag_bit.val());
        self.line.write.next = self.arrives.val();
        self.line.write_address.next = self.beat.q.val();
        self.line.write_data.next = self.answer_data.val();
        self.line.read_address.next = (self.word.val() >> self.beat_shift.val());
        self.beat_data.next = self.line.read_data.val();
        self.shifted.next = (self.beat_data.val() >> bit_cast::<W, 16>(self.shift.val()));

        match self.state.q.val() {
            State::Idle => {
                self.wanted.d.next = self.address.val();
                if self.request.val() {
                    self.state.d.next = State::Compare;
                }
            }
            State::Compare => {
                self.beat.d.next = self.zero.val();
                self.error.d.next = false;
                self.ended.d.next = false;
                self.state.d.next = State::Ask;
                if self.kept_valid.q.val() & self.same_low.q.val() & self.same_high.q.val() {
                    self.state.d.next = State::Fetch;
                }
            }
            State::Ask => {
                self.kept_valid.d.next = false;
                if self.list.ready.val() {
                    self.state.d.next = State::Fill;
                }
            }
            State::Fill => {
                if self.arrives.val() {
                    self.beat.d.next = self.beat.q.val() + self.one.val();
                }
                self.error.d.next = self.error.q.val() | (self.arrives.val() & self.answer_error.val());
                self.ended.d.next = self.arrives.val() & self.answer_last.val();
                if self.ended.q.val() {
                    self.kept.d.next = self.wanted_line.val();
                    self.kept_valid.d.next = !self.error.q.val();
                    self.state.d.next = State::Fetch;
                }
            }
            State::Fetch => {
                self.state.d.next = State::Select;
            }
            State::Select => {
                self.entry_register.d.next = bit_cast::<64, W>(self.shifted.val());
                self.answer_register.d.next = true;
                self.failed_register.d.next = self.error.q.val();
                self.state.d.next = State::Idle;
            }
            _ => {}
        }
        if self.forget.val() {
            self.kept_valid.d.next = false;
        }

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.kept_valid.d.next = false;
            self.answer_register.d.next = false;
        }
    }
}
