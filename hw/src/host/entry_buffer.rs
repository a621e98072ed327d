//! Keeps the beats of fetched entries and puts entries together again.
//!
//! `push` takes a beat; the last beat of an entry comes with `ends_entry`, the queue and whether any of its
//! beats failed. Entries leave in `out`, in order; a failed one is dropped. `returned` says that an
//! entry has left or was dropped and its room is free. There is no back pressure on `push`: whoever
//! fetches asks for no more entries than there is room for.
//!
//! Latency: 1 cycle from an entry's last beat when nothing waits before it, else 3. Throughput: takes a beat
//! a cycle; an entry leaves in as many cycles as it has beats and one more. Reset empties it.

use rust_hdl::prelude::*;

use crate::prim::fifo::Fifo;
use crate::prim::ram::FifoRam;
use crate::prim::stream::StreamOut;
use crate::records::FetchedEntry;

/// See the module's header. `W` is the width of the bus in bits.
#[derive(Clone, Debug, LogicBlock)]
pub struct EntryBuffer<const W: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub push: Signal<In, bool>,
    pub beat: Signal<In, Bits<W>>,
    pub ends_entry: Signal<In, bool>,
    pub queue: Signal<In, Bits<8>>,
    pub failed: Signal<In, bool>,
    pub out: StreamOut<FetchedEntry>,
    pub returned: Signal<Out, bool>,
    /// Nothing in it, and no entry half gathered.
    pub empty: Signal<Out, bool>,

    beats: FifoRam<Bits<W>>,
    write_pointer: DFF<Bits<8>>,
    read_pointer: DFF<Bits<8>>,
    /// Beats in the memory, and whether there is one.
    stored: DFF<Bits<8>>,
    some_stored: DFF<bool>,
    /// The memory's output holds the next beat.
    fetched: DFF<bool>,
    /// It does not: for the many bits that wait for this.
    direct: DFF<bool>,
    /// Of each whole entry that was stored: its queue, and whether it failed.
    ends: Fifo<Bits<9>>,
    gathered: DFF<Bits<512>>,
    /// Beats gathered.
    count: DFF<Bits<4>>,
    /// The next one is the last of its entry.
    is_last: DFF<bool>,
    offered: DFF<bool>,
    /// Nothing is offered: for the many bits that wait for this.
    free: DFF<bool>,
    queue_register: DFF<Bits<8>>,
    returned_register: DFF<bool>,
    passes: Signal<Local, bool>,
    stores: Signal<Local, bool>,
    takes: Signal<Local, bool>,
    reads: Signal<Local, bool>,
    single: Constant<bool>,
    gathers: Signal<Local, bool>,
    loads: Signal<Local, bool>,
    offers: Signal<Local, bool>,
    fails: Signal<Local, bool>,
    next_beat: Signal<Local, Bits<W>>,
    end_word: Signal<Local, Bits<9>>,
    write_next: Signal<Local, Bits<8>>,
    read_next: Signal<Local, Bits<8>>,
    change: Signal<Local, Bits<8>>,
    pointer_mask: Constant<Bits<8>>,
    last_but_one: Constant<Bits<4>>,
    beat_bits: Constant<Bits<512>>,
    upper_bits: Constant<Bits<512>>,
    failed_bit: Constant<Bits<9>>,
    one: Constant<Bits<4>>,
    zero: Constant<Bits<4>>,
    one8: Constant<Bits<8>>,
    minus_one8: Constant<Bits<8>>,
    zero8: Constant<Bits<8>>,
}

impl<const W: usize> EntryBuffer<W> {
    /// Room for 2^`entry_bits` entries, in block RAM or in LUTs.
    pub fn new(entry_bits: usize, block: bool) -> Self {
        assert!([128, 256, 512].contains(&W), "bus of {W} bits");
        let beat_address_bits = entry_bits + (512 / W).ilog2() as usize;
        assert!(beat_address_bits < 8, "2^{entry_bits} entries");
        Self {
            clock: Default::default(),
            reset: Default::default(),
            push: Default::default(),
            beat: Default::default(),
            ends_entry: Default::default(),
            queue: Default::default(),
            failed: Default::default(),
            out: Default::default(),
            returned: Default::default(),
            empty: Default::default(),
            beats: FifoRam::new(beat_address_bits, block, false),
            write_pointer: Default::default(),
            read_pointer: Default::default(),
            stored: Default::default(),
            some_stored: Default::default(),
            fetched: Default::default(),
            direct: Default::default(),
            ends: Fifo::lut(entry_bits, 1),
            gathered: Default::default(),
            count: Default::default(),
            is_last: Default::default(),
            offered: Default::default(),
            free: Default::default(),
            queue_register: Default::default(),
            returned_register: Default::default(),
            passes: Default::default(),
            stores: Default::default(),
            takes: Default::default(),
            reads: Default::default(),
            single: Constant::new(W == 512),
            gathers: Default::default(),
            loads: Default::default(),
            offers: Default::default(),
            fails: Default::default(),
            next_beat: Default::default(),
            end_word: Default::default(),
            write_next: Default::default(),
            read_next: Default::default(),
            change: Default::default(),
            pointer_mask: Constant::new(((1u64 << beat_address_bits) - 1).to_bits()),
            last_but_one: Constant::new((512 / W as u64).saturating_sub(2).to_bits()),
            beat_bits: Constant::new((W as u64).to_bits()),
            upper_bits: Constant::new((512 - W as u64).to_bits()),
            failed_bit: Constant::new(0x100u64.to_bits()),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            minus_one8: Constant::new(0xFFu64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
        }
    }
}

impl<const W: usize> Logic for EntryBuffer<W> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            write_pointer,
            read_pointer,
            stored,
            some_stored,
            fetched,
            direct,
            gathered,
            count,
            is_last,
            offered,
            free,
            queue_register,
            returned_register
        );
        self.beats.clock.next = self.clock.val();
        self.ends.clock.next = self.clock.val();
        self.ends.reset.next = self.reset.val();

        // A beat goes past the memory while nothing is in it and no whole entry waits to leave.
        self.passes.next =
            self.push.val() & !self.some_stored.q.val() & !self.fetched.q.val() & !self.offered.q.val();
        self.stores.next =
            self.push.val() & (self.some_stored.q.val() | self.fetched.q.val() | self.offered.q.val());
        self.takes.next = self.fetched.q.val() & !self.offered.q.val();
        self.reads.next = self.some_stored.q.val() & (!self.fetched.q.val() | !self.offered.q.val());
        self.beats.write.next = self.stores.val();
        self.beats.write_address.next = bit_cast::<16, 8>(self.write_pointer.q.val());
        self.beats.write_data.next = self.beat.val();
        self.beats.read.next = self.reads.val();
        self.beats.pass.next = false;
        self.beats.read_address.next = bit_cast::<16, 8>(self.read_pointer.q.val());
        self.write_next.next = self.write_pointer.q.val() + self.one8.val();
        self.read_next.next = self.read_pointer.q.val() + self.one8.val();
        if self.stores.val() {
            self.write_pointer.d.next = self.write_next.val() & self.pointer_mask.val();
        }
        self.change.next = self.minus_one8.val();
        if self.stores.val() {
            self.change.next = self.one8.val();
        }
        if (self.stores.val() ^ self.reads.val()) {
            self.stored.d.next = self.stored.q.val() + self.change.val();
        }
        self.some_stored.d.next = self.stores.val()
            | (self.some_stored.q.val() & !(self.reads.val() & (self.stored.q.val() == self.one8.val())));
        if self.takes.val() {
            self.fetched.d.next = false;
            self.direct.d.next = true;
        }
        if self.reads.val() {
            self.fetched.d.next = true;
            self.direct.d.next = false;
            self.read_pointer.d.next = self.read_next.val() & self.pointer_mask.val();
        }

        // The first beat of an entry ends up lowest.
        self.gathers.next = self.passes.val() | self.takes.val();
        self.next_beat.next = self.beats.read_data.val();
        if self.direct.q.val() {
            self.next_beat.next = self.beat.val();
        }
        self.loads.next =
            self.free.q.val() & (!self.direct.q.val() | (self.push.val() & !self.some_stored.q.val()));
        if self.loads.val() {
            self.gathered.d.next = ((self.gathered.q.val() >> self.beat_bits.val())
                | (bit_cast::<512, W>(self.next_beat.val()) << self.upper_bits.val()));
        }
        if self.gathers.val() {
            self.count.d.next = self.count.q.val() + self.one.val();
            self.is_last.d.next = (self.count.q.val() == self.last_but_one.val()) & !self.is_last.q.val();
            if self.single.val() {
                self.is_last.d.next = true;
            }
            if self.is_last.q.val() {
                self.count.d.next = self.zero.val();
            }
        }
        self.ends.push.next = self.stores.val() & self.ends_entry.val();
        self.ends.data.next = bit_cast::<9, 8>(self.queue.val());
        if self.failed.val() {
            self.ends.data.next = (bit_cast::<9, 8>(self.queue.val()) | self.failed_bit.val());
        }
        self.ends.out.ready.next = self.takes.val() & self.is_last.q.val();
        self.end_word.next = self.ends.out.data.val();
        self.fails.next = self.end_word.val().get_bit(8);
        if !self.fetched.q.val() {
            self.fails.next = self.failed.val();
        }
        if !self.offered.q.val() {
            self.queue_register.d.next = self.queue.val();
            if self.fetched.q.val() {
                self.queue_register.d.next = bit_cast::<8, 9>(self.end_word.val());
            }
        }
        self.offers.next = (self.offered.q.val() & !self.out.ready.val())
            | (self.gathers.val() & self.is_last.q.val() & !self.fails.val());
        self.offered.d.next = self.offers.val();
        self.free.d.next = !self.offers.val();
        self.returned_register.d.next = (self.offered.q.val() & self.out.ready.val())
            | (self.gathers.val() & self.is_last.q.val() & self.fails.val());
        self.out.valid.next = self.offered.q.val();
        self.out.data.next.entry = self.gathered.q.val();
        self.out.data.next.queue = self.queue_register.q.val();
        self.returned.next = self.returned_register.q.val();
        self.empty.next = !self.some_stored.q.val()
            & !self.fetched.q.val()
            & !self.offered.q.val()
            & !self.returned_register.q.val()
            & (self.count.q.val() == self.zero.val());

        if self.reset.val() {
            self.write_pointer.d.next = self.zero8.val();
            self.read_pointer.d.next = self.zero8.val();
            self.stored.d.next = self.zero8.val();
            self.some_stored.d.next = false;
            self.fetched.d.next = false;
            self.direct.d.next = true;
            self.count.d.next = self.zero.val();
            self.is_last.d.next = self.single.val();
            self.offered.d.next = false;
            self.free.d.next = true;
            self.returned_register.d.next = false;
        }
    }
}
