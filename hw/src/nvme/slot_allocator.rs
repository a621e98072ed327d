//! Entries of the submission queues, given to fragments in order of arrival.
//!
//! Purpose: keeps each path's settings and two accounts: the entry and number that its next fragment gets, and
//! the tail and count of what has been offered to the bus. They differ by what waits. Handshake: what is known
//! of `path` stands in the next cycle; `take` in that cycle gives the entry away, `commit` moves the second
//! account, both only while `odd`, which is set every second cycle. `give_back` undoes the last `take` of a
//! path that was not committed, in a cycle in which nobody takes. Queries are answered in the next cycle.
//! Reset: none; the accounts of a path are cleared when its table entry is written. Failure: none; whether
//! there is room in the queue is for the caller to see.

use rust_hdl::prelude::*;

use super::path_write::PathWrite;
use crate::prim::ram::LutRam;
use crate::records::TableRequest;
use crate::Sizes;

/// Accounts of the paths, the issuing side.
#[derive(Clone, Debug, LogicBlock)]
pub struct SlotAllocator {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub path: Signal<In, Bits<8>>,
    /// The path's next entry, the tail once it is used, and how many came before, modulo 2^16.
    pub slot: Signal<Out, Bits<16>>,
    pub tail: Signal<Out, Bits<16>>,
    pub number: Signal<Out, Bits<16>>,
    pub base: Signal<Out, Bits<64>>,
    pub limit: Signal<Out, Bits<16>>,
    pub odd: Signal<In, bool>,
    pub take: Signal<In, bool>,
    pub give_back: Signal<In, bool>,
    /// What was taken: the entry, the tail after it, the number.
    pub given_slot: Signal<In, Bits<16>>,
    pub given_tail: Signal<In, Bits<16>>,
    pub given_number: Signal<In, Bits<16>>,
    pub take_path: Signal<In, Bits<8>>,
    pub commit: Signal<In, bool>,
    pub commit_path: Signal<In, Bits<8>>,
    pub commit_tail: Signal<In, Bits<16>>,
    pub commit_number: Signal<In, Bits<16>>,
    pub tail_path: Signal<In, Bits<8>>,
    pub tail_value: Signal<Out, Bits<16>>,
    pub state_query: Signal<In, Bits<8>>,
    pub state_tail: Signal<Out, Bits<16>>,
    pub state_issued: Signal<Out, Bits<16>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub idle: Signal<Out, bool>,
    path_write: PathWrite,
    bases: LutRam<Bits<64>>,
    /// The entry before the last one of each queue.
    lasts: LutRam<Bits<16>>,
    limits: LutRam<Bits<16>>,
    next_slots: LutRam<Bits<16>>,
    /// The next entry is the queue's last: known before it is needed.
    next_wraps: LutRam<bool>,
    next_numbers: LutRam<Bits<16>>,
    tails: LutRam<Bits<16>>,
    tails_shown: LutRam<Bits<16>>,
    issued_shown: LutRam<Bits<16>>,
    clearing: DFF<bool>,
    /// What the table entry's size gives, a cycle after the entry is heard.
    heard: DFF<bool>,
    before_last: DFF<Bits<16>>,
    single: DFF<bool>,
    next_wrap: Signal<Local, bool>,
    tail_after: Signal<Local, Bits<16>>,
    /// They are cleared in this even cycle.
    clear: DFF<bool>,
    next_path: Signal<Local, Bits<16>>,
    next_slot: Signal<Local, Bits<16>>,
    next_number: Signal<Local, Bits<16>>,
    shown_path: Signal<Local, Bits<16>>,
    shown_tail: Signal<Local, Bits<16>>,
    shown_issued: Signal<Local, Bits<16>>,
    zero16: Constant<Bits<16>>,
    one16: Constant<Bits<16>>,
}

impl SlotAllocator {
    /// The accounts of a build.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            path: Default::default(),
            slot: Default::default(),
            tail: Default::default(),
            number: Default::default(),
            base: Default::default(),
            limit: Default::default(),
            odd: Default::default(),
            take: Default::default(),
            give_back: Default::default(),
            given_slot: Default::default(),
            given_tail: Default::default(),
            given_number: Default::default(),
            take_path: Default::default(),
            commit: Default::default(),
            commit_path: Default::default(),
            commit_tail: Default::default(),
            commit_number: Default::default(),
            tail_path: Default::default(),
            tail_value: Default::default(),
            state_query: Default::default(),
            state_tail: Default::default(),
            state_issued: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            idle: Default::default(),
            path_write: PathWrite::new(sizes),
            bases: LutRam::new(sizes.path_bits),
            lasts: LutRam::new(sizes.path_bits),
            limits: LutRam::new(sizes.path_bits),
            next_slots: LutRam::new(sizes.path_bits),
            next_wraps: LutRam::new(sizes.path_bits),
            next_numbers: LutRam::new(sizes.path_bits),
            tails: LutRam::new(sizes.path_bits),
            tails_shown: LutRam::new(sizes.path_bits),
            issued_shown: LutRam::new(sizes.path_bits),
            clearing: Default::default(),
            heard: Default::default(),
            before_last: Default::default(),
            single: Default::default(),
            next_wrap: Default::default(),
            tail_after: Default::default(),
            clear: Default::default(),
            next_path: Default::default(),
            next_slot: Default::default(),
            next_number: Default::default(),
            shown_path: Default::default(),
            shown_tail: Default::default(),
            shown_issued: Default::default(),
            zero16: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for SlotAllocator {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, clearing, clear, heard, before_last, single);
        self.path_write.clock.next = self.clock.val();
        self.path_write.table_valid.next = self.table_valid.val();
        self.path_write.table_request.next = self.table_request.val();
        self.bases.clock.next = self.clock.val();
        self.bases.write.next = self.path_write.written.val();
        self.bases.write_address.next = self.path_write.path.val();
        self.bases.write_data.next = self.path_write.entry.val().sq_base;
        self.heard.d.next = self.path_write.written.val();
        self.before_last.d.next = self.path_write.entry.val().sq_size_z - self.one16.val();
        self.single.d.next = (self.path_write.entry.val().sq_size_z == self.zero16.val());
        self.lasts.clock.next = self.clock.val();
        self.lasts.write.next = self.heard.q.val();
        self.lasts.write_address.next = self.path_write.path.val();
        self.lasts.write_data.next = self.before_last.q.val();
        self.limits.clock.next = self.clock.val();
        self.limits.write.next = self.path_write.written.val();
        self.limits.write_address.next = self.path_write.path.val();
        self.limits.write_data.next = self.path_write.entry.val().limit;

        self.bases.read_address.next = bit_cast::<16, 8>(self.path.val());
        self.lasts.read_address.next = bit_cast::<16, 8>(self.path.val());
        self.next_wraps.read_address.next = bit_cast::<16, 8>(self.path.val());
        self.limits.read_address.next = bit_cast::<16, 8>(self.path.val());
        self.next_slots.read_address.next = bit_cast::<16, 8>(self.path.val());
        self.next_numbers.read_address.next = bit_cast::<16, 8>(self.path.val());
        self.tail_after.next = self.next_slots.read_data.val() + self.one16.val();
        if self.next_wraps.read_data.val() {
            self.tail_after.next = self.zero16.val();
        }
        self.slot.next = self.next_slots.read_data.val();
        self.tail.next = self.tail_after.val();
        self.number.next = self.next_numbers.read_data.val();
        self.base.next = self.bases.read_data.val();
        self.limit.next = self.limits.read_data.val();

        // A path's accounts are cleared in an even cycle, which moves none. (The next entry is not taken
        // from `tail_after`: what is shown must not share a signal with what depends on `take`.)
        self.clear.d.next = self.clearing.q.val() & self.odd.val();
        self.next_path.next = bit_cast::<16, 8>(self.take_path.val());
        self.next_slot.next = self.next_slots.read_data.val() + self.one16.val();
        self.next_wrap.next = (self.next_slots.read_data.val() == self.lasts.read_data.val());
        if self.next_wraps.read_data.val() {
            self.next_slot.next = self.zero16.val();
            self.next_wrap.next = false;
        }
        self.next_number.next = self.next_numbers.read_data.val() + self.one16.val();
        if self.give_back.val() {
            self.next_slot.next = self.given_slot.val();
            self.next_wrap.next = !self.given_tail.val().any();
            self.next_number.next = self.given_number.val();
        }
        self.shown_path.next = bit_cast::<16, 8>(self.commit_path.val());
        self.shown_tail.next = self.commit_tail.val();
        self.shown_issued.next = self.commit_number.val() + self.one16.val();
        if self.clear.q.val() {
            self.clearing.d.next = false;
            self.next_path.next = self.path_write.path.val();
            self.next_slot.next = self.zero16.val();
            self.next_wrap.next = self.single.q.val();
            self.next_number.next = self.zero16.val();
            self.shown_path.next = self.path_write.path.val();
            self.shown_tail.next = self.zero16.val();
            self.shown_issued.next = self.zero16.val();
        }
        if self.heard.q.val() {
            self.clearing.d.next = true;
        }
        self.next_slots.clock.next = self.clock.val();
        self.next_slots.write.next = self.take.val() | self.give_back.val() | self.clear.q.val();
        self.next_slots.write_address.next = self.next_path.val();
        self.next_slots.write_data.next = self.next_slot.val();
        self.next_wraps.clock.next = self.clock.val();
        self.next_wraps.write.next = self.take.val() | self.give_back.val() | self.clear.q.val();
        self.next_wraps.write_address.next = self.next_path.val();
        self.next_wraps.write_data.next = self.next_wrap.val();
        self.next_numbers.clock.next = self.clock.val();
        self.next_numbers.write.next = self.take.val() | self.give_back.val() | self.clear.q.val();
        self.next_numbers.write_address.next = self.next_path.val();
        self.next_numbers.write_data.next = self.next_number.val();
        self.tails.clock.next = self.clock.val();
        self.tails.write.next = self.commit.val() | self.clear.q.val();
        self.tails.write_address.next = self.shown_path.val();
        self.tails.write_data.next = self.shown_tail.val();
        self.tails.read_address.next = bit_cast::<16, 8>(self.tail_path.val());
        self.tails_shown.clock.next = self.clock.val();
        self.tails_shown.write.next = self.commit.val() | self.clear.q.val();
        self.tails_shown.write_address.next = self.shown_path.val();
        self.tails_shown.write_data.next = self.shown_tail.val();
        self.tails_shown.read_address.next = bit_cast::<16, 8>(self.state_query.val());
        self.issued_shown.clock.next = self.clock.val();
        self.issued_shown.write.next = self.commit.val() | self.clear.q.val();
        self.issued_shown.write_address.next = self.shown_path.val();
        self.issued_shown.write_data.next = self.shown_issued.val();
        self.issued_shown.read_address.next = bit_cast::<16, 8>(self.state_query.val());
        self.tail_value.next = self.tails.read_data.val();
        self.state_tail.next = self.tails_shown.read_data.val();
        self.state_issued.next = self.issued_shown.read_data.val();
        self.idle.next = !self.heard.q.val() & !self.clearing.q.val();

        if self.reset.val() {
            self.heard.d.next = false;
            self.clear.d.next = false;
            self.clearing.d.next = false;
        }
    }
}
