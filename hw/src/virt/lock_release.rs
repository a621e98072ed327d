//! Gives back what a slot holds of the table of locks.
//!
//! Who is granted a lock is noted by `store`; `release` reads that, clears one bucket a cycle (`clear`,
//! `clear_bucket`; again in the next cycle if `hold` is set) and counts the release for its disk:
//! `disk` addresses the counts, `counted` answers two cycles later unless the port was `stolen`, and
//! `count` writes. `ended` with `ended_slot` follows when all of it is written, also for a slot that
//! held nothing.
//!
//! Latency: 6 cycles for one page until the next is taken, one more for each further page and each conflict.
//! In order. While `initialising`, nothing is taken and the note of slot `walk` is cleared; reset drops what
//! is in work. No failure.

use rust_hdl::prelude::*;

use crate::logic_record;
use crate::prim::ram::BlockRam;
use crate::prim::stream::StreamIn;
use crate::sizes::Sizes;

logic_record! {
    /// What a slot holds.
    HeldRange: 44 {
        /// First bucket.
        bucket = 16,
        /// Buckets, less one.
        buckets_less_one = 9,
        /// 1: one bucket, or none.
        single = 1,
        /// 1: the disk is held, no bucket.
        exclusive = 1,
        /// Disk.
        disk = 16,
        /// 1: anything at all.
        holds = 1,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    Read,
    Take,
    Clear,
    Settle,
    Count,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct LockRelease {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub initialising: Signal<In, bool>,
    pub walk: Signal<In, Bits<16>>,
    pub release: StreamIn<Bits<12>>,
    pub store: Signal<In, bool>,
    pub store_slot: Signal<In, Bits<12>>,
    pub store_range: Signal<In, HeldRange>,
    pub hold: Signal<In, bool>,
    pub clear: Signal<Out, bool>,
    pub clear_bucket: Signal<Out, Bits<16>>,
    pub disk: Signal<Out, Bits<16>>,
    pub stolen: Signal<In, bool>,
    pub counted: Signal<In, Bits<13>>,
    pub count: Signal<Out, bool>,
    pub count_value: Signal<Out, Bits<13>>,
    pub ended: Signal<Out, bool>,
    pub ended_slot: Signal<Out, Bits<12>>,
    /// But for what `release` offers, and for `ended`.
    pub idle: Signal<Out, bool>,

    records: BlockRam<HeldRange>,
    ready: DFF<bool>,
    state: DFF<State>,
    slot: DFF<Bits<12>>,
    range: DFF<HeldRange>,
    /// The slot's note is to be cleared.
    forget: DFF<bool>,
    /// The bucket is the last one; there is one.
    last: DFF<bool>,
    marked: DFF<bool>,
    /// The RAM's write port, but for `store`.
    initialised: DFF<bool>,
    address: DFF<Bits<16>>,
    /// The port was another's one and two cycles ago.
    stolen_1: DFF<bool>,
    stolen_2: DFF<bool>,
    count_register: DFF<bool>,
    value: DFF<Bits<13>>,
    ended_register: DFF<bool>,
    note: Signal<Local, HeldRange>,
    taking: Signal<Local, bool>,
    clearing: Signal<Local, bool>,
    ending: Signal<Local, bool>,
    nothing: Constant<Bits<44>>,
    one_bucket: Constant<Bits<9>>,
    one13: Constant<Bits<13>>,
    one16: Constant<Bits<16>>,
    flag: Constant<Bits<1>>,
}

impl LockRelease {
    /// A note for each of 2^`slot_bits` slots.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((2..=12).contains(&sizes.slot_bits), "2^{} plan slots", sizes.slot_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            initialising: Default::default(),
            walk: Default::default(),
            release: Default::default(),
            store: Default::default(),
            store_slot: Default::default(),
            store_range: Default::default(),
            hold: Default::default(),
            clear: Default::default(),
            clear_bucket: Default::default(),
            disk: Default::default(),
            stolen: Default::default(),
            counted: Default::default(),
            count: Default::default(),
            count_value: Default::default(),
            ended: Default::default(),
            ended_slot: Default::default(),
            idle: Default::default(),
            records: BlockRam::new(sizes.slot_bits),
            ready: Default::default(),
            state: Default::default(),
            slot: Default::default(),
            range: Default::default(),
            forget: Default::default(),
            last: Default::default(),
            marked: Default::default(),
            initialised: Default::default(),
            address: Default::default(),
            stolen_1: Default::default(),
            stolen_2: Default::default(),
            count_register: Default::default(),
            value: Default::default(),
            ended_register: Default::default(),
            note: Default::default(),
            taking: Default::default(),
            clearing: Default::default(),
            ending: Default::default(),
            nothing: Constant::new(0u64.to_bits()),
            one_bucket: Constant::new(1u64.to_bits()),
            one13: Constant::new(1u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for LockRelease {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            ready,
            state,
            slot,
            range,
            forget,
            last,
            marked,
            initialised,
            address,
            stolen_1,
            stolen_2,
            count_register,
            value,
            ended_register
        );
        self.records.clock.next = self.clock.val();
        self.release.ready.next = self.ready.q.val();
        self.taking.next = self.ready.q.val() & self.release.valid.val();
        self.ready.d.next = false;
        // Read in the very cycle in which it is taken.
        self.records.read_address.next = bit_cast::<16, 12>(self.release.data.val());
        self.note.next = self.records.read_data.val();
        self.clearing.next = self.marked.q.val() & !self.hold.val();
        self.stolen_1.d.next = self.stolen.val();
        self.stolen_2.d.next = self.stolen_1.q.val();
        self.ending.next = (self.state.q.val() == State::Count) & !self.stolen_2.q.val();

        match self.state.q.val() {
            State::Idle => {
                self.slot.d.next = self.release.data.val();
                self.ready.d.next = !self.initialising.val() & !self.taking.val();
                if self.taking.val() {
                    self.state.d.next = State::Read;
                }
            }
            State::Read => {
                self.state.d.next = State::Take;
            }
            State::Take => {
                self.range.d.next = self.note.val();
                self.forget.d.next = true;
                self.last.d.next = (self.note.val().single == self.flag.val());
                self.marked.d.next = (self.note.val().exclusive != self.flag.val())
                    & (self.note.val().holds == self.flag.val());
                self.state.d.next = State::Clear;
            }
            State::Clear => {
                if self.clearing.val() {
                    self.range.d.next.bucket = self.range.q.val().bucket + self.one16.val();
                    self.range.d.next.buckets_less_one =
                        self.range.q.val().buckets_less_one - self.one_bucket.val();
                    self.last.d.next = (self.range.q.val().buckets_less_one == self.one_bucket.val());
                }
                if (self.last.q.val() | !self.marked.q.val()) & !self.hold.val() {
                    self.state.d.next = State::Settle;
                }
            }
            State::Settle => {
                self.state.d.next = State::Count;
            }
            State::Count => {
                self.ready.d.next = self.ending.val();
                if self.ending.val() {
                    self.state.d.next = State::Idle;
                }
            }
            _ => {
                self.state.d.next = State::Idle;
            }
        }
        // Not by way of what `hold` is asked for too: it hangs on the same logic outside.
        self.clear.next = (self.state.q.val() == State::Clear) & self.marked.q.val();
        self.clear_bucket.next = self.range.q.val().bucket;
        self.disk.next = self.range.q.val().disk;
        self.count_register.d.next = self.ending.val() & (self.range.q.val().holds == self.flag.val());
        self.value.d.next = self.counted.val() + self.one13.val();
        self.count.next = self.count_register.q.val();
        self.count_value.next = self.value.q.val();
        self.ended_register.d.next = self.ending.val();
        self.ended.next = self.ended_register.q.val();
        self.ended_slot.next = self.slot.q.val();
        self.idle.next = self.ready.q.val();

        // A slot that gives back holds nothing, and may ask anew before all of it is cleared.
        if !self.store.val() & self.forget.q.val() {
            self.forget.d.next = false;
        }
        self.initialised.d.next = !self.initialising.val();
        self.address.d.next = bit_cast::<16, 12>(self.slot.q.val());
        if self.initialising.val() {
            self.address.d.next = self.walk.val();
        }
        self.records.write.next = self.store.val() | self.forget.q.val() | !self.initialised.q.val();
        self.records.write_address.next = self.address.q.val();
        self.records.write_data.next = self.nothing.val().into();
        if self.store.val() {
            self.records.write_address.next = bit_cast::<16, 12>(self.store_slot.val());
            self.records.write_data.next = self.store_range.val();
        }

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.forget.d.next = false;
            self.ready.d.next = false;
            self.count_register.d.next = false;
            self.ended_register.d.next = false;
        }
    }
}
