//! Reads completion queues in host memory, and makes of each new entry the event that a window would have made.
//!
//! Purpose: an SSD writes its completion to host memory behind the data, so who has read it knows that they are there.
//! Of the paths that are polled (`CompletionQueues`) and have fragments outstanding (`PathCounts`), one after the other
//! is given a read of the 64 bytes that hold its next entry, one read in all at a time. Entries are new while their phase
//! tag is the expected one, which is 1 at first and changes with each pass. Whoever had a new one has its next turn at
//! once, after one that found nothing there is a pause of 32 cycles, so that polling takes a tenth of the bus at most.
//! Handshake: `window_*` goes through to `event_*`, with no cycle in between; an event of the poller's own waits for a
//! cycle without one. Answers come with the tag of their read, in which bit 7 is set, for others read by the same port.
//! Assumed: 16 bytes of memory that an SSD writes at once, or the upper 8 of them last, are seen so by an aligned read.
//! Latency: a read is asked for 7 cycles after its path's turn has come, the first event 2 cycles after its last beat.
//! Throughput: 4 entries a read. Order: that of the queue.
//! Reset: no path is polled, nothing is outstanding. A write that ends or restarts the polling of a path discards what
//! is being read for it. Failure: a read that the bus refuses is one that found nothing; entries that are not the SSD's to
//! write are for `CompletionFilter` to see, and a queue without end delays the others by one read each.

use rust_hdl::prelude::*;

use super::completion_queues::CompletionQueues;
use super::path_counts::PathCounts;
use super::poll_turns::PollTurns;
use crate::logic_record;
use crate::prim::ram::LutRam;
use crate::prim::register::Register;
use crate::prim::stream::StreamOut;
use crate::records::{CompletionEntry, ReadRequest, TableRequest, WindowEvent};
use crate::Sizes;

logic_record! {
    /// Where a path's queue is read.
    PollPlace: 13 {
        /// The next entry.
        position = 12,
        /// Phase tag of a new one, inverted.
        passed = 1,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Rest,
    Pick,
    Take,
    /// It is forgotten that the path has something, then looked up, so that nothing issued meanwhile is missed.
    Forget,
    Look,
    Weigh,
    Judge,
    Ask,
    Await,
    Check,
    Offer,
    Keep,
}

/// See the module's header; `W` bits, `B` bytes of a beat.
#[derive(Clone, Debug, LogicBlock)]
pub struct CompletionPoller<const W: usize, const B: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    /// A fragment was issued; one has come back: each in every second cycle at most.
    pub issued_valid: Signal<In, bool>,
    pub issued_path: Signal<In, Bits<8>>,
    pub ended_valid: Signal<In, bool>,
    pub ended_path: Signal<In, Bits<8>>,
    pub read: StreamOut<ReadRequest>,
    pub answer_valid: Signal<In, bool>,
    pub answer_tag: Signal<In, Bits<8>>,
    pub answer_data: Signal<In, Bits<W>>,
    pub answer_last: Signal<In, bool>,
    pub answer_error: Signal<In, bool>,
    pub window_valid: Signal<In, bool>,
    pub window_data: Signal<In, WindowEvent>,
    pub event_valid: Signal<Out, bool>,
    pub event_data: Signal<Out, WindowEvent>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub initialised: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,
    queues: CompletionQueues,
    counts: PathCounts,
    turns: PollTurns,
    places: LutRam<PollPlace>,
    state: DFF<State>,
    path: DFF<Bits<8>>,
    request: DFF<ReadRequest>,
    /// Upper halves of the entries read, the next one to be looked at lowest.
    entries: Register<Bits<256>>,
    at: DFF<Bits<2>>,
    place: DFF<PollPlace>,
    last: DFF<Bits<12>>,
    wraps: DFF<bool>,
    offered: DFF<WindowEvent>,
    found: DFF<bool>,
    failed: DFF<bool>,
    /// The queue that is being read is not the path's any more.
    stale: DFF<bool>,
    pause: DFF<Bits<5>>,
    changed_before: DFF<bool>,
    changed_path: DFF<Bits<8>>,
    /// A path begins anew; its place is still to be cleared.
    clearing: DFF<bool>,
    clearing_path: DFF<Bits<8>>,
    working: DFF<bool>,
    chunk: Signal<Local, Bits<64>>,
    position: Signal<Local, Bits<12>>,
    position_low: Signal<Local, Bits<2>>,
    taking: Signal<Local, bool>,
    stepping: Signal<Local, bool>,
    offering: Signal<Local, bool>,
    entry: Signal<Local, CompletionEntry>,
    upper: [Signal<Local, Bits<64>>; 4],
    beat: Signal<Local, Bits<256>>,
    kept: Signal<Local, Bits<256>>,
    beat_placed: Signal<Local, Bits<256>>,
    /// Where the upper halves of lanes 0 to 3 begin; a lane that does not exist stands for lane 0.
    lane_upper: [Constant<Bits<16>>; 4],
    lanes_existing: Constant<Bits<256>>,
    beat_shift: Constant<Bits<16>>,
    place_shift: Constant<Bits<16>>,
    poll_tag: Constant<Bits<8>>,
    chunk_bytes: Constant<Bits<8>>,
    chunk_mask: Constant<Bits<64>>,
    first_place: Constant<PollPlace>,
    pause_cycles: Constant<Bits<5>>,
    zero5: Constant<Bits<5>>,
    one5: Constant<Bits<5>>,
    zero2: Constant<Bits<2>>,
    one2: Constant<Bits<2>>,
    last2: Constant<Bits<2>>,
    zero12: Constant<Bits<12>>,
    one12: Constant<Bits<12>>,
}

impl<const W: usize, const B: usize> CompletionPoller<W, B> {
    /// For the paths of a build.
    pub fn new(sizes: &Sizes) -> Self {
        assert!(W == 8 * B && matches!(W, 128 | 256 | 512), "a bus of {W} bits, {B} bytes");
        let lanes = W / 128;
        Self {
            clock: Default::default(),
            reset: Default::default(),
            issued_valid: Default::default(),
            issued_path: Default::default(),
            ended_valid: Default::default(),
            ended_path: Default::default(),
            read: Default::default(),
            answer_valid: Default::default(),
            answer_tag: Default::default(),
            answer_data: Default::default(),
            answer_last: Default::default(),
            answer_error: Default::default(),
            window_valid: Default::default(),
            window_data: Default::default(),
            event_valid: Default::default(),
            event_data: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            initialised: Default::default(),
            idle: Default::default(),
            queues: CompletionQueues::new(sizes),
            counts: PathCounts::new(sizes),
            turns: Default::default(),
            places: LutRam::new(sizes.path_bits),
            state: Default::default(),
            path: Default::default(),
            request: Default::default(),
            entries: Default::default(),
            at: Default::default(),
            place: Default::default(),
            last: Default::default(),
            wraps: Default::default(),
            offered: Default::default(),
            found: Default::default(),
            failed: Default::default(),
            stale: Default::default(),
            pause: Default::default(),
            changed_before: Default::default(),
            changed_path: Default::default(),
            clearing: Default::default(),
            clearing_path: Default::default(),
            working: Default::default(),
            chunk: Default::default(),
            position: Default::default(),
            position_low: Default::default(),
            taking: Default::default(),
            stepping: Default::default(),
            offering: Default::default(),
            entry: Default::default(),
            upper: Default::default(),
            beat: Default::default(),
            kept: Default::default(),
            beat_placed: Default::default(),
            lane_upper: std::array::from_fn(|lane| {
                Constant::new(((if lane < lanes { lane } else { 0 }) * 128 + 64).to_bits())
            }),
            lanes_existing: Constant::new(
                (0..64 * lanes).fold(Bits::default(), |bits: Bits<256>, bit| bits.replace_bit(bit, true)),
            ),
            beat_shift: Constant::new((64 * lanes).to_bits()),
            place_shift: Constant::new((256 - 64 * lanes).to_bits()),
            poll_tag: Constant::new(0x80u64.to_bits()),
            chunk_bytes: Constant::new(64u64.to_bits()),
            chunk_mask: Constant::new(0xFFC0u64.to_bits()),
            first_place: Constant::new(PollPlace::default()),
            pause_cycles: Constant::new(31u64.to_bits()),
            zero5: Constant::new(0u64.to_bits()),
            one5: Constant::new(1u64.to_bits()),
            zero2: Constant::new(0u64.to_bits()),
            one2: Constant::new(1u64.to_bits()),
            last2: Constant::new(3u64.to_bits()),
            zero12: Constant::new(0u64.to_bits()),
            one12: Constant::new(1u64.to_bits()),
        }
    }
}

impl<const W: usize, const B: usize> Logic for CompletionPoller<W, B> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, state, path, request, at, place, last, wraps, offered, found, failed, stale);
        dff_setup!(self, clock, pause, changed_before, changed_path, clearing, clearing_path, working);
        clock!(self, clock, queues, counts, turns, places, entries);
        self.queues.reset.next = self.reset.val();
        self.queues.table_valid.next = self.table_valid.val();
        self.queues.table_request.next = self.table_request.val();
        self.table_ack.next = self.queues.table_ack.val();
        self.table_data.next = self.queues.table_data.val();
        self.queues.query.next = self.path.q.val();
        self.counts.reset.next = self.reset.val();
        self.counts.issued_valid.next = self.issued_valid.val();
        self.counts.issued_path.next = self.issued_path.val();
        self.counts.ended_valid.next = self.ended_valid.val();
        self.counts.ended_path.next = self.ended_path.val();
        self.counts.query.next = self.path.q.val();
        self.initialised.next = self.counts.initialised.val();

        self.turns.reset.next = self.reset.val();
        self.turns.issued_valid.next = self.issued_valid.val();
        self.turns.issued_path.next = self.issued_path.val();
        self.turns.polled.next = self.queues.polled.val();
        self.turns.path.next = self.path.q.val();
        self.turns.forget.next = (self.state.q.val() == State::Forget);
        self.turns.keep.next = (self.state.q.val() == State::Keep);

        // Where it is read.
        self.places.read_address.next = bit_cast::<16, 8>(self.path.q.val());
        self.places.write.next = self.clearing.q.val();
        self.places.write_address.next = bit_cast::<16, 8>(self.clearing_path.q.val());
        self.places.write_data.next = self.first_place.val();
        if (self.state.q.val() == State::Keep) {
            self.places.write.next = self.found.q.val() & !self.stale.q.val();
            self.places.write_address.next = bit_cast::<16, 8>(self.path.q.val());
            self.places.write_data.next = self.place.q.val();
        } else {
            self.clearing.d.next = false;
        }
        if self.queues.restarted.val() {
            self.clearing.d.next = true;
            self.clearing_path.d.next = self.queues.path.val();
        }
        self.changed_before.d.next = self.queues.changed.val();
        self.changed_path.d.next = self.queues.path.val();
        self.position.next = self.place.q.val().position;
        self.position_low.next = self.position.val().get_bits::<2>(0);
        self.chunk.next =
            (bit_cast::<64, 12>(self.places.read_data.val().position) << 4) & self.chunk_mask.val();
        self.read.valid.next = (self.state.q.val() == State::Ask);
        self.read.data.next = self.request.q.val();

        // What was read: entries are shifted in from above, and out below.
        for i in 0..4 {
            self.upper[i].next = self.answer_data.val().get_bits::<64>(self.lane_upper[i].val().index());
        }
        self.beat.next = bit_cast::<256, 64>(self.upper[0].val())
            | (bit_cast::<256, 64>(self.upper[1].val()) << 64)
            | (bit_cast::<256, 64>(self.upper[2].val()) << 128)
            | (bit_cast::<256, 64>(self.upper[3].val()) << 192);
        self.kept.next = (self.entries.q.val() >> self.beat_shift.val());
        self.beat_placed.next = ((self.beat.val() & self.lanes_existing.val()) << self.place_shift.val());
        self.taking.next = self.answer_valid.val() & self.answer_tag.val().get_bit(7);
        self.stepping.next = false;
        self.entry.next = (bit_cast::<128, 256>(self.entries.q.val()) << 64).into();
        self.wraps.d.next = (self.position.val() == self.last.q.val());

        // An event of its own goes when the windows have none.
        self.offering.next = (self.state.q.val() == State::Offer) & !self.stale.q.val();
        self.event_valid.next = self.window_valid.val() | self.offering.val();
        self.event_data.next = self.offered.q.val();
        if self.window_valid.val() {
            self.event_data.next = self.window_data.val();
        }

        if (self.pause.q.val() != self.zero5.val()) {
            self.pause.d.next = self.pause.q.val() - self.one5.val();
        }
        match self.state.q.val() {
            State::Rest => {
                self.found.d.next = false;
                self.failed.d.next = false;
                if self.turns.found.val() & (self.pause.q.val() == self.zero5.val()) {
                    self.state.d.next = State::Pick;
                }
            }
            State::Pick => {
                self.path.d.next = self.turns.next_path.val();
                self.stale.d.next = false;
                self.state.d.next = State::Take;
            }
            State::Take => {
                self.state.d.next = State::Forget;
            }
            State::Forget => {
                self.state.d.next = State::Look;
            }
            State::Look => {
                self.state.d.next = State::Weigh;
            }
            State::Weigh => {
                self.state.d.next = State::Judge;
            }
            State::Judge => {
                self.place.d.next = self.places.read_data.val();
                self.last.d.next = self.queues.last.val().get_bits::<12>(0);
                self.request.d.next.address = self.queues.base.val() + self.chunk.val();
                self.request.d.next.bytes = self.chunk_bytes.val();
                self.request.d.next.tag = self.path.q.val() | self.poll_tag.val();
                self.state.d.next = State::Rest;
                if self.counts.outstanding.val() {
                    self.state.d.next = State::Ask;
                }
                if self.stale.q.val() {
                    self.state.d.next = State::Keep;
                }
            }
            State::Ask => {
                if self.read.ready.val() {
                    self.state.d.next = State::Await;
                }
            }
            State::Await => {
                self.at.d.next = self.zero2.val();
                if self.taking.val() {
                    self.failed.d.next = self.failed.q.val() | self.answer_error.val();
                    if self.answer_last.val() {
                        self.state.d.next = State::Check;
                    }
                }
            }
            State::Check => {
                // Entries before the next one are passed over.
                self.offered.d.next.path = self.path.q.val();
                self.offered.d.next.position = self.position.val();
                self.offered.d.next.command_id = self.entry.val().command_id;
                self.offered.d.next.sq_head = self.entry.val().sq_head;
                self.offered.d.next.status = self.entry.val().status;
                if self.failed.q.val() | self.stale.q.val() {
                    self.state.d.next = State::Keep;
                } else if (self.at.q.val() != self.position_low.val()) {
                    self.stepping.next = true;
                } else if (self.entry.val().phase != self.place.q.val().passed) {
                    self.state.d.next = State::Offer;
                } else {
                    self.state.d.next = State::Keep;
                }
            }
            State::Offer => {
                if self.stale.q.val() {
                    self.state.d.next = State::Keep;
                } else if !self.window_valid.val() {
                    self.found.d.next = true;
                    self.stepping.next = true;
                    self.place.d.next.position = self.position.val() + self.one12.val();
                    self.state.d.next = State::Check;
                    if self.wraps.q.val() {
                        self.place.d.next.position = self.zero12.val();
                        self.place.d.next.passed = !self.place.q.val().passed;
                    }
                    if self.wraps.q.val() | (self.at.q.val() == self.last2.val()) {
                        self.state.d.next = State::Keep;
                    }
                }
            }
            State::Keep => {
                if !self.found.q.val() {
                    self.pause.d.next = self.pause_cycles.val();
                }
                self.state.d.next = State::Rest;
            }
            _ => {}
        }
        self.entries.load.next = self.taking.val() | self.stepping.val();
        self.entries.d.next = (self.entries.q.val() >> 64);
        if self.taking.val() {
            self.entries.d.next = self.kept.val() | self.beat_placed.val();
        }
        if self.stepping.val() {
            self.at.d.next = self.at.q.val() + self.one2.val();
        }
        // What is written while a path is picked is seen when its number is known.
        if (self.queues.changed.val() & (self.queues.path.val() == self.path.q.val()))
            | (self.changed_before.q.val() & (self.changed_path.q.val() == self.path.q.val()))
        {
            self.stale.d.next = (self.state.q.val() != State::Pick);
        }

        self.working.d.next = (self.state.q.val() != State::Rest);
        self.idle.next = self.queues.idle.val() & self.turns.idle.val() & !self.working.q.val();

        if self.reset.val() {
            self.state.d.next = State::Rest;
            self.pause.d.next = self.zero5.val();
            self.changed_before.d.next = false;
            self.clearing.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
