//! Rings the SSDs' doorbells: submission tails and completion heads, batched, as posted 4-byte writes.
//!
//! * A tail is due when 8 entries wait on its path, when no fragment was issued for 8 cycles (longer than
//!   the bus takes for one while it is kept busy), or after 128 to 256 cycles. A head is due when 8
//!   completions came, when none came for 8 cycles, or at once on a queue of up to 16 entries; so it is
//!   never later than half a queue.
//! * Direct paths: the write follows the entry in the write master's order.
//! * Fenced paths: when the bus has acknowledged the batch's last entry, that entry is read (one read a
//!   batch, tag = path); the answer, whatever it holds, releases the doorbell with the tail captured at
//!   the read. Several paths may fence at once, each once.
//!
//! `issued_*` comes when the write master has accepted the entry, with the new tail. `cq_event_*` gives the
//! newest head. Latency: 14 cycles from event to write when quiet. Throughput: a doorbell every 4 cycles.
//! Paths are served round robin: answers of fences first, then tails, then heads (`PathChooser`). Writing
//! a path's table entry forgets what was pending on it, and a valid one sets the head to 0. What comes while the path
//! is not valid, entries that the bus accepts after its closing among it, is not told: its queues may be gone.
//! `holds` says that something which was begun before a write is still on its way: a doorbell that waits for the bus,
//! a read that is not answered. It speaks of the written path, from 3 cycles after `PathWrite` says `written` on, and
//! falls for good. Reset forgets all.

use rust_hdl::prelude::*;
use volplane_abi::submission_mode;

use super::path_chooser::PathChooser;
use super::path_due::PathDue;
use super::path_write::PathWrite;
use crate::prim::ram::LutRam;
use crate::prim::stream::StreamOut;
use crate::records::{PathEntry, ReadRequest, SmallWrite, TableRequest};
use crate::sizes::Sizes;

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    Pick,
    Read,
    Act,
    Send,
    Fence,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PathDoorbells {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub issued_valid: Signal<In, bool>,
    pub issued_path: Signal<In, Bits<8>>,
    pub issued_tail: Signal<In, Bits<16>>,
    pub cq_event_valid: Signal<In, bool>,
    pub cq_event_path: Signal<In, Bits<8>>,
    pub cq_event_head: Signal<In, Bits<16>>,
    /// Submission writes the write master has accepted, and those the bus has acknowledged.
    pub accepted: Signal<In, Bits<16>>,
    pub acknowledged: Signal<In, Bits<16>>,
    pub write: StreamOut<SmallWrite>,
    pub fence: StreamOut<ReadRequest>,
    pub answer_valid_fence: Signal<In, bool>,
    pub answer_tag: Signal<In, Bits<8>>,
    pub answer_last: Signal<In, bool>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    /// Bit i: path i is valid: not from the cycle after `PathWrite` says `written` to the acknowledgement of a write.
    pub path_valid: Signal<In, Bits<32>>,
    pub holds: Signal<Out, bool>,
    /// For reading a path's state: answered one cycle later.
    pub state_query: Signal<In, Bits<8>>,
    pub state_rung: Signal<Out, Bits<16>>,
    pub state_cq_head: Signal<Out, Bits<16>>,
    pub idle: Signal<Out, bool>,

    path_write: PathWrite,
    tails_due: PathDue,
    heads_due: PathDue,
    chooser: PathChooser,
    paths: LutRam<PathEntry>,
    tails: LutRam<Bits<32>>,
    heads: LutRam<Bits<16>>,
    heads_query: LutRam<Bits<16>>,
    fenced_tails: LutRam<Bits<16>>,
    rung_query: LutRam<Bits<16>>,

    /// Events, a cycle later: the submission one when `accepted` counts it.
    issued: DFF<bool>,
    issued_bit: DFF<Bits<32>>,
    issued_path_register: DFF<Bits<8>>,
    issued_tail_register: DFF<Bits<16>>,
    head_came: DFF<bool>,
    head_bit: DFF<Bits<32>>,
    /// A path's table entry is written, now and a cycle ago.
    table_now: DFF<bool>,
    table_bit: DFF<Bits<32>>,
    table_before: DFF<bool>,
    /// The table's path is the chosen one, as of a cycle ago.
    same_path: DFF<bool>,
    fencing: DFF<Bits<32>>,
    answered: DFF<Bits<32>>,
    /// The fence's read was asked for and not answered, whatever became of the path since.
    reading: DFF<Bits<32>>,
    short_queue: DFF<Bits<32>>,

    clearing: DFF<bool>,
    /// The tail rung last is to be shown as 0.
    unringing: DFF<bool>,
    /// The doorbell and the fence that waited when a path was written may be the path's.
    held_write: DFF<bool>,
    held_fence: DFF<bool>,
    written_bit: DFF<Bits<32>>,
    held_answer: DFF<bool>,
    holds_register: DFF<bool>,
    state: DFF<State>,
    value: DFF<Bits<16>>,
    last_entry: DFF<Bits<16>>,
    /// The bus has not acknowledged the batch's last entry.
    late: DFF<bool>,
    rung: DFF<bool>,
    out: DFF<SmallWrite>,
    out_valid: DFF<bool>,
    request: DFF<ReadRequest>,
    request_valid: DFF<bool>,
    /// Something happened too late for `pending`, which says what waits.
    recent: DFF<bool>,
    pending: DFF<bool>,
    working: DFF<bool>,

    answer_bit: Signal<Local, Bits<32>>,
    answer_clear: Signal<Local, Bits<32>>,
    tail_clear: Signal<Local, Bits<32>>,
    head_clear: Signal<Local, Bits<32>>,
    tail_again: Signal<Local, Bits<32>>,
    fence_set: Signal<Local, Bits<32>>,
    table_keep: Signal<Local, Bits<32>>,
    fence_keep: Signal<Local, Bits<32>>,
    dirty: Signal<Local, Bits<32>>,
    table_path: Signal<Local, Bits<32>>,
    early: Signal<Local, bool>,
    is_answer: Signal<Local, bool>,
    is_tail: Signal<Local, bool>,
    is_head: Signal<Local, bool>,
    is_fenced: Signal<Local, bool>,
    entry: Signal<Local, PathEntry>,
    tail_word: Signal<Local, Bits<32>>,
    tail: Signal<Local, Bits<16>>,
    stamp: Signal<Local, Bits<16>>,
    lag: Signal<Local, Bits<16>>,
    slot_offset: Signal<Local, Bits<64>>,
    ring: Signal<Local, bool>,

    one: Constant<Bits<32>>,
    zero: Constant<Bits<32>>,
    all: Constant<Bits<32>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    short_limit: Constant<Bits<16>>,
    fenced_mode: Constant<Bits<2>>,
    entry_tail: Constant<Bits<64>>,
    quad_bytes: Constant<Bits<8>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl PathDoorbells {
    /// For 2^`path_bits` paths.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((1..=5).contains(&sizes.path_bits), "2^{} paths", sizes.path_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            issued_valid: Default::default(),
            issued_path: Default::default(),
            issued_tail: Default::default(),
            cq_event_valid: Default::default(),
            cq_event_path: Default::default(),
            cq_event_head: Default::default(),
            accepted: Default::default(),
            acknowledged: Default::default(),
            write: Default::default(),
            fence: Default::default(),
            answer_valid_fence: Default::default(),
            answer_tag: Default::default(),
            answer_last: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            path_valid: Default::default(),
            holds: Default::default(),
            state_query: Default::default(),
            state_rung: Default::default(),
            state_cq_head: Default::default(),
            idle: Default::default(),
            tails_due: Default::default(),
            heads_due: Default::default(),
            chooser: Default::default(),
            issued: Default::default(),
            issued_bit: Default::default(),
            issued_path_register: Default::default(),
            issued_tail_register: Default::default(),
            head_came: Default::default(),
            head_bit: Default::default(),
            table_now: Default::default(),
            table_bit: Default::default(),
            table_before: Default::default(),
            fencing: Default::default(),
            answered: Default::default(),
            reading: Default::default(),
            short_queue: Default::default(),
            clearing: Default::default(),
            unringing: Default::default(),
            held_write: Default::default(),
            held_fence: Default::default(),
            written_bit: Default::default(),
            held_answer: Default::default(),
            holds_register: Default::default(),
            state: Default::default(),
            value: Default::default(),
            last_entry: Default::default(),
            late: Default::default(),
            rung: Default::default(),
            out: Default::default(),
            out_valid: Default::default(),
            request: Default::default(),
            request_valid: Default::default(),
            recent: Default::default(),
            pending: Default::default(),
            working: Default::default(),
            answer_bit: Default::default(),
            answer_clear: Default::default(),
            tail_clear: Default::default(),
            head_clear: Default::default(),
            tail_again: Default::default(),
            fence_set: Default::default(),
            table_keep: Default::default(),
            fence_keep: Default::default(),
            dirty: Default::default(),
            table_path: Default::default(),
            same_path: Default::default(),
            early: Default::default(),
            is_answer: Default::default(),
            is_tail: Default::default(),
            is_head: Default::default(),
            is_fenced: Default::default(),
            entry: Default::default(),
            tail_word: Default::default(),
            tail: Default::default(),
            stamp: Default::default(),
            lag: Default::default(),
            slot_offset: Default::default(),
            ring: Default::default(),
            path_write: PathWrite::new(sizes),
            paths: LutRam::new(sizes.path_bits),
            tails: LutRam::new(sizes.path_bits),
            heads: LutRam::new(sizes.path_bits),
            heads_query: LutRam::new(sizes.path_bits),
            fenced_tails: LutRam::new(sizes.path_bits),
            rung_query: LutRam::new(sizes.path_bits),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            all: Constant::new(0xFFFF_FFFFu64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            short_limit: Constant::new(16u64.to_bits()),
            fenced_mode: Constant::new((submission_mode::FENCED as u64).to_bits()),
            entry_tail: Constant::new(48u64.to_bits()),
            quad_bytes: Constant::new(16u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for PathDoorbells {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, issued, issued_bit, issued_path_register, issued_tail_register);
        dff_setup!(self, clock, head_came, head_bit, table_now, table_bit, table_before, fencing, answered);
        dff_setup!(
            self,
            clock,
            short_queue,
            clearing,
            state,
            value,
            last_entry,
            late,
            rung,
            same_path,
            out,
            out_valid
        );
        dff_setup!(self, clock, request, request_valid, recent, pending, working, reading, unringing);
        dff_setup!(self, clock, held_write, held_fence, written_bit, held_answer, holds_register);
        clock!(self, clock, path_write, tails_due, heads_due, chooser, paths, tails, heads, heads_query);
        clock!(self, clock, fenced_tails, rung_query);
        self.tails_due.reset.next = self.reset.val();
        self.heads_due.reset.next = self.reset.val();
        self.chooser.reset.next = self.reset.val();
        self.write.valid.next = self.out_valid.q.val();
        self.write.data.next = self.out.q.val();
        self.fence.valid.next = self.request_valid.q.val();
        self.fence.data.next = self.request.q.val();

        // Which path each event is about.
        self.issued.d.next = self.issued_valid.val();
        self.issued_path_register.d.next = self.issued_path.val();
        self.issued_tail_register.d.next = self.issued_tail.val();
        self.issued_bit.d.next = self.zero.val();
        if self.issued_valid.val() {
            self.issued_bit.d.next = (self.one.val() << bit_cast::<32, 8>(self.issued_path.val()));
        }
        self.head_came.d.next = self.cq_event_valid.val();
        self.head_bit.d.next = self.zero.val();
        if self.cq_event_valid.val() {
            self.head_bit.d.next = (self.one.val() << bit_cast::<32, 8>(self.cq_event_path.val()));
        }
        // The tag of somebody else's read by this port is no path's: no bit is set.
        self.answer_bit.next = self.zero.val();
        if self.answer_valid_fence.val() & self.answer_last.val() {
            self.answer_bit.next = (self.one.val() << bit_cast::<32, 8>(self.answer_tag.val()));
        }
        self.path_write.table_valid.next = self.table_valid.val();
        self.path_write.table_request.next = self.table_request.val();
        self.table_path.next = bit_cast::<32, 16>(self.path_write.path.val());
        self.table_now.d.next = self.path_write.written.val();
        self.table_before.d.next = self.table_now.q.val();
        self.table_bit.d.next = self.zero.val();
        if self.path_write.written.val() {
            self.table_bit.d.next = (self.one.val() << self.table_path.val());
        }

        // Memories: written by events, read for the chosen path.
        self.paths.write.next = self.table_now.q.val();
        self.paths.write_address.next = self.path_write.path.val();
        self.paths.write_data.next = self.path_write.entry.val();
        self.paths.read_address.next = bit_cast::<16, 8>(self.chooser.path.val());
        self.tails.write.next = self.issued.q.val();
        self.tails.write_address.next = bit_cast::<16, 8>(self.issued_path_register.q.val());
        self.tails.write_data.next = bit_cast::<32, 16>(self.issued_tail_register.q.val())
            | (bit_cast::<32, 16>(self.accepted.val()) << 16);
        self.tails.read_address.next = bit_cast::<16, 8>(self.chooser.path.val());
        self.heads.write.next = self.cq_event_valid.val() | self.clearing.q.val();
        self.heads.write_address.next = self.path_write.path.val();
        self.heads.write_data.next = self.zero16.val();
        if self.cq_event_valid.val() {
            self.heads.write_address.next = bit_cast::<16, 8>(self.cq_event_path.val());
            self.heads.write_data.next = self.cq_event_head.val();
        } else {
            self.clearing.d.next = false;
        }
        if self.table_now.q.val() & (self.path_write.entry.val().valid == self.flag.val()) {
            // Its head is cleared in the first cycle that no completion needs the port.
            self.clearing.d.next = true;
        }
        self.heads.read_address.next = bit_cast::<16, 8>(self.chooser.path.val());
        self.heads_query.write.next = self.heads.write.val();
        self.heads_query.write_address.next = self.heads.write_address.val();
        self.heads_query.write_data.next = self.heads.write_data.val();
        self.heads_query.read_address.next = bit_cast::<16, 8>(self.state_query.val());
        self.state_cq_head.next = self.heads_query.read_data.val();
        self.fenced_tails.write.next = false;
        self.fenced_tails.write_address.next = bit_cast::<16, 8>(self.chooser.path.val());
        self.fenced_tails.write_data.next = self.value.q.val();
        self.fenced_tails.read_address.next = bit_cast::<16, 8>(self.chooser.path.val());
        self.rung_query.write.next = self.rung.q.val() | self.unringing.q.val();
        self.rung_query.write_address.next = self.path_write.path.val();
        self.rung_query.write_data.next = self.zero16.val();
        if self.rung.q.val() {
            self.rung_query.write_address.next = bit_cast::<16, 8>(self.chooser.path.val());
            self.rung_query.write_data.next = self.value.q.val();
        } else {
            self.unringing.d.next = false;
        }
        if self.table_now.q.val() {
            self.unringing.d.next = true;
        }
        self.rung_query.read_address.next = bit_cast::<16, 8>(self.state_query.val());
        self.state_rung.next = self.rung_query.read_data.val();

        // One path after the other.
        self.chooser.answers.next = self.answered.q.val() & self.fencing.q.val();
        self.chooser.tails.next = self.tails_due.dirty.val() & (self.fencing.q.val() ^ self.all.val());
        self.chooser.tails_due.next = self.tails_due.due.val();
        self.chooser.all_tails.next = self.tails_due.all_due.val();
        self.chooser.heads.next = self.heads_due.dirty.val();
        self.chooser.heads_due.next = self.heads_due.due.val();
        self.chooser.all_heads.next = self.heads_due.all_due.val();
        self.chooser.choose.next = (self.state.q.val() == State::Idle);
        self.chooser.pick.next = (self.state.q.val() == State::Pick);
        self.chooser.served.next = (self.state.q.val() == State::Read);
        self.is_answer.next = (self.chooser.kind.val().answer == self.flag.val());
        self.is_tail.next = (self.chooser.kind.val().tail == self.flag.val());
        self.is_head.next = (self.chooser.kind.val().head == self.flag.val());
        self.entry.next = self.paths.read_data.val();
        self.tail_word.next = self.tails.read_data.val();
        self.tail.next = self.tail_word.val().get_bits::<16>(0);
        self.stamp.next = self.tail_word.val().get_bits::<16>(16);
        self.lag.next = self.acknowledged.val() - self.stamp.val();
        self.is_fenced.next =
            self.is_tail.val() & (self.entry.val().submission_mode == self.fenced_mode.val());
        self.slot_offset.next = (bit_cast::<64, 16>(self.last_entry.q.val()) << 6) | self.entry_tail.val();
        self.answer_clear.next = self.zero.val();
        self.tail_clear.next = self.zero.val();
        self.head_clear.next = self.zero.val();
        self.tail_again.next = self.zero.val();
        self.fence_set.next = self.zero.val();
        self.ring.next = false;
        if (self.state.q.val() == State::Act) {
            self.value.d.next = self.tail.val();
            if self.is_answer.val() {
                self.value.d.next = self.fenced_tails.read_data.val();
            }
            if self.is_head.val() {
                self.value.d.next = self.heads.read_data.val();
            }
        }
        self.late.d.next = self.lag.val().get_bit(15);
        self.last_entry.d.next = self.tail.val() - self.one16.val();
        if (self.tail.val() == self.zero16.val()) {
            self.last_entry.d.next = self.entry.val().sq_size_z;
        }
        match self.state.q.val() {
            State::Idle => {
                if self.chooser.found.val() {
                    self.state.d.next = State::Pick;
                }
            }
            State::Pick => {
                self.state.d.next = State::Read;
            }
            State::Read => {
                // The memories are sampled at the end of this cycle; events of it count as new.
                if self.is_answer.val() & !self.table_now.q.val() {
                    self.answer_clear.next = self.chooser.chosen.val();
                }
                if self.is_tail.val() & !self.table_now.q.val() {
                    self.tail_clear.next = self.chooser.chosen.val();
                }
                if self.is_head.val() & !self.table_now.q.val() {
                    self.head_clear.next = self.chooser.chosen.val();
                }
                self.state.d.next = State::Act;
            }
            State::Act => {
                self.state.d.next = State::Send;
                if self.is_fenced.val() {
                    self.state.d.next = State::Fence;
                } else if !self.out_valid.q.val() {
                    self.ring.next = true;
                    self.state.d.next = State::Idle;
                }
            }
            State::Send => {
                if !self.out_valid.q.val() {
                    self.ring.next = true;
                    self.state.d.next = State::Idle;
                }
            }
            State::Fence => {
                if self.late.q.val() {
                    self.tail_again.next = self.chooser.chosen.val();
                    self.state.d.next = State::Idle;
                } else if !self.request_valid.q.val() {
                    self.request_valid.d.next = true;
                    self.fenced_tails.write.next = true;
                    self.fence_set.next = self.chooser.chosen.val();
                    self.state.d.next = State::Idle;
                }
            }
            _ => {}
        }
        if !self.out_valid.q.val() {
            self.out.d.next.data = bit_cast::<128, 16>(self.value.q.val());
            if (self.state.q.val() == State::Act) {
                self.out.d.next.data = bit_cast::<128, 16>(self.value.d.val());
            }
            self.out.d.next.quad = self.clear.val();
            self.out.d.next.address = self.entry.val().sq_doorbell;
            if self.is_head.val() {
                self.out.d.next.address = self.entry.val().cq_doorbell;
            }
        }
        if !self.request_valid.q.val() {
            self.request.d.next.address = self.entry.val().sq_base + self.slot_offset.val();
            self.request.d.next.bytes = self.quad_bytes.val();
            self.request.d.next.tag = self.chooser.path.val();
        }
        self.rung.d.next = self.ring.val() & !self.is_head.val();
        if self.out_valid.q.val() & self.write.ready.val() {
            self.out_valid.d.next = false;
        }
        if self.ring.val() {
            self.out_valid.d.next = true;
        }
        if self.request_valid.q.val() & self.fence.ready.val() {
            self.request_valid.d.next = false;
        }

        // What was chosen may be forgotten now; what was not, is chosen again.
        self.same_path.d.next = (self.chooser.path.val() == self.path_write.path.val().get_bits::<8>(0));
        self.early.next = (self.state.q.val() == State::Idle)
            | (self.state.q.val() == State::Pick)
            | (self.state.q.val() == State::Read);
        if self.table_now.q.val() & (self.early.val() | self.same_path.q.val()) {
            self.state.d.next = State::Idle;
        }
        if self.table_before.q.val() & (self.state.q.val() == State::Idle) {
            self.state.d.next = State::Idle;
        }

        // Events win over what the machine clears in the same cycle, a table write over both.
        self.tails_due.events.next = self.issued_bit.q.val() & self.path_valid.val();
        self.tails_due.clear.next = self.tail_clear.val();
        self.tails_due.again.next = self.tail_again.val();
        self.tails_due.forget.next = self.table_bit.q.val();
        self.tails_due.urgent.next = self.zero.val();
        self.heads_due.events.next = self.head_bit.q.val() & self.path_valid.val();
        self.heads_due.clear.next = self.head_clear.val();
        self.heads_due.again.next = self.zero.val();
        self.heads_due.forget.next = self.table_bit.q.val();
        self.heads_due.urgent.next = self.short_queue.q.val();
        self.table_keep.next = self.all.val() ^ self.table_bit.q.val();
        self.fence_keep.next = self.all.val() ^ (self.answer_clear.val() | self.table_bit.q.val());
        self.fencing.d.next =
            (self.fencing.q.val() & self.fence_keep.val()) | (self.fence_set.val() & self.table_keep.val());
        self.answered.d.next = (self.answered.q.val() & self.fence_keep.val())
            | (self.answer_bit.val() & self.fencing.q.val() & self.table_keep.val());
        self.reading.d.next =
            (self.reading.q.val() & (self.all.val() ^ self.answer_bit.val())) | self.fence_set.val();

        // What of the written path's is on its way: what waited when it was written is not followed by more of it.
        if !self.out_valid.q.val() {
            self.held_write.d.next = false;
        }
        if !self.request_valid.q.val() {
            self.held_fence.d.next = false;
        }
        if self.table_now.q.val() {
            self.held_write.d.next = true;
            self.held_fence.d.next = true;
        }
        self.written_bit.d.next = (self.one.val() << self.table_path.val());
        self.held_answer.d.next = (self.reading.q.val() & self.written_bit.q.val()).any();
        self.holds_register.d.next = self.table_now.q.val()
            | self.held_write.q.val()
            | self.held_fence.q.val()
            | self.held_answer.q.val()
            | self.clearing.q.val()
            | self.unringing.q.val();
        self.holds.next = self.holds_register.q.val();
        if self.table_now.q.val() {
            self.short_queue.d.next = self.short_queue.q.val() & self.table_keep.val();
            if (self.path_write.entry.val().cq_size_z < self.short_limit.val()) {
                self.short_queue.d.next = self.short_queue.q.val() | self.table_bit.q.val();
            }
        }
        self.dirty.next = self.tails_due.dirty.val() | self.heads_due.dirty.val() | self.fencing.q.val();
        self.pending.d.next = self.dirty.val().any();
        self.recent.d.next =
            self.issued.q.val() | self.cq_event_valid.val() | self.head_came.q.val() | self.table_now.q.val();
        self.working.d.next = (self.state.q.val() != State::Idle)
            | self.out_valid.q.val()
            | self.request_valid.q.val()
            | self.clearing.q.val()
            | self.unringing.q.val();
        self.idle.next =
            !self.issued.q.val() & !self.recent.q.val() & !self.pending.q.val() & !self.working.q.val();

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.fencing.d.next = self.zero.val();
            self.answered.d.next = self.zero.val();
            self.reading.d.next = self.zero.val();
            self.unringing.d.next = false;
            self.held_write.d.next = false;
            self.held_fence.d.next = false;
            self.held_answer.d.next = false;
            self.holds_register.d.next = false;
            self.issued.d.next = false;
            self.issued_bit.d.next = self.zero.val();
            self.head_came.d.next = false;
            self.head_bit.d.next = self.zero.val();
            self.table_now.d.next = false;
            self.table_before.d.next = false;
            self.table_bit.d.next = self.zero.val();
            self.clearing.d.next = false;
            self.rung.d.next = false;
            self.out_valid.d.next = false;
            self.request_valid.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
