//! Keeps the beats of fetched entries and puts entries together again.
//!
//! `push` takes a beat; the last beat of an entry comes with `ends_entry`, the queue and whether any of its
//! beats failed. Entries leave in `out`, in order; a failed one is dropped. `returned` says that an
//! entry has left or was dropped and its room is free. There is no back pressure on `push`: whoever
//! fetches asks for no more entries than there is room for.
//!
//! Latency: 4 cycles from an entry's last beat (3 in LUT RAM). Throughput: one beat a cycle. Reset
//! empties it.

use rust_hdl::prelude::*;

use crate::prim::fifo::Fifo;
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
    pub idle: Signal<Out, bool>,

    beats: Fifo<Bits<W>>,
    /// Of each whole entry: its queue, and whether it failed.
    ends: Fifo<Bits<9>>,
    gathered: DFF<Bits<512>>,
    /// Beats gathered.
    count: DFF<Bits<4>>,
    returned_register: DFF<bool>,
    whole: Signal<Local, bool>,
    leaves: Signal<Local, bool>,
    drops: Signal<Local, bool>,
    take: Signal<Local, bool>,
    end_word: Signal<Local, Bits<9>>,
    beats_of_entry: Constant<Bits<4>>,
    beat_bits: Constant<Bits<512>>,
    upper_bits: Constant<Bits<512>>,
    failed_bit: Constant<Bits<9>>,
    one: Constant<Bits<4>>,
    zero: Constant<Bits<4>>,
}

impl<const W: usize> EntryBuffer<W> {
    /// Room for 2^`entry_bits` entries, in block RAM or in LUTs.
    pub fn new(entry_bits: usize, block: bool) -> Self {
        assert!([128, 256, 512].contains(&W), "bus of {W} bits");
        let beat_address_bits = entry_bits + (512 / W).ilog2() as usize;
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
            idle: Default::default(),
            beats: if block { Fifo::block(beat_address_bits, 1) } else { Fifo::lut(beat_address_bits, 1) },
            ends: Fifo::lut(entry_bits, 1),
            gathered: Default::default(),
            count: Default::default(),
            returned_register: Default::default(),
            whole: Default::default(),
            leaves: Default::default(),
            drops: Default::default(),
            take: Default::default(),
            end_word: Default::default(),
            beats_of_entry: Constant::new((512 / W as u64).to_bits()),
            beat_bits: Constant::new((W as u64).to_bits()),
            upper_bits: Constant::new((512 - W as u64).to_bits()),
            failed_bit: Constant::new(0x100u64.to_bits()),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
        }
    }
}

impl<const W: usize> Logic for EntryBuffer<W> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, gathered, count, returned_register);
        self.beats.clock.next = self.clock.val();
        self.beats.reset.next = self.reset.val();
        self.ends.clock.next = self.clock.val();
        self.ends.reset.next = self.reset.val();
        self.beats.push.next = self.push.val();
        self.beats.data.next = self.beat.val();
        self.ends.push.next = self.push.val() & self.ends_entry.val();
        self.ends.data.next = bit_cast::<9, 8>(self.queue.val());
        if self.failed.val() {
            self.ends.data.next = (bit_cast::<9, 8>(self.queue.val()) | self.failed_bit.val());
        }

        self.end_word.next = self.ends.out.data.val();
        self.whole.next = (self.count.q.val() == self.beats_of_entry.val()) & self.ends.out.valid.val();
        self.out.valid.next = self.whole.val() & !self.end_word.val().get_bit(8);
        self.out.data.next.entry = self.gathered.q.val();
        self.out.data.next.queue = bit_cast::<8, 9>(self.end_word.val());
        self.drops.next = self.whole.val() & self.end_word.val().get_bit(8);
        self.leaves.next = self.drops.val() | (self.whole.val() & self.out.ready.val());
        self.ends.out.ready.next = self.leaves.val();
        self.returned_register.d.next = self.leaves.val();
        self.returned.next = self.returned_register.q.val();

        // The first beat of an entry ends up lowest. The next entry begins as this one leaves.
        self.take.next = (self.count.q.val() != self.beats_of_entry.val()) | self.leaves.val();
        self.beats.out.ready.next = self.take.val();
        if self.leaves.val() {
            self.count.d.next = self.zero.val();
        }
        if self.take.val() & self.beats.out.valid.val() {
            self.gathered.d.next = ((self.gathered.q.val() >> self.beat_bits.val())
                | (bit_cast::<512, W>(self.beats.out.data.val()) << self.upper_bits.val()));
            self.count.d.next = self.count.q.val() + self.one.val();
            if self.leaves.val() {
                self.count.d.next = self.one.val();
            }
        }
        self.idle.next = self.beats.empty.val()
            & self.ends.empty.val()
            & (self.count.q.val() == self.zero.val())
            & !self.returned_register.q.val();

        if self.reset.val() {
            self.count.d.next = self.zero.val();
            self.returned_register.d.next = false;
        }
    }
}
