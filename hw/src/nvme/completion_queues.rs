//! Which paths have their completion queue in host memory, and where.
//!
//! Purpose: owns the table PATH_COMPLETIONS, and hears the writes of PATH. A path is `polled` from the writing of its
//! entry as valid and in host mode on; an entry that is not valid but says host mode changes nothing, so that what the
//! SSD still answers is read. Any other, and a write of PATH_COMPLETIONS, end it.
//! Handshake: the table bus. `changed` is a pulse when `polled` says something new of `path` or its queue is a new one;
//! with `restarted` reading begins at entry 0. `query` is answered in the next cycle by `base` and `last`.
//! Latency: `table_ack` 3 cycles after `table_valid`. Reset: no path is polled, the table reads as zeros.
//! Failure: none.

use rust_hdl::prelude::*;
use volplane_abi::{completion_mode, table};

use super::path_write::PathWrite;
use crate::prim::ram::LutRam;
use crate::records::{PathCompletions, TableRequest};
use crate::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct CompletionQueues {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    /// Bit i: path i is polled.
    pub polled: Signal<Out, Bits<32>>,
    pub changed: Signal<Out, bool>,
    pub restarted: Signal<Out, bool>,
    /// Stands with `changed`.
    pub path: Signal<Out, Bits<8>>,
    pub query: Signal<In, Bits<8>>,
    pub base: Signal<Out, Bits<64>>,
    /// The last entry of the queue.
    pub last: Signal<Out, Bits<16>>,
    pub idle: Signal<Out, bool>,
    path_write: PathWrite,
    bases: LutRam<PathCompletions>,
    bases_shown: LutRam<PathCompletions>,
    lasts: LutRam<Bits<16>>,
    polled_register: DFF<Bits<32>>,
    written: DFF<Bits<32>>,
    changed_register: DFF<bool>,
    restarted_register: DFF<bool>,
    asked: DFF<bool>,
    is_own: DFF<bool>,
    in_range: DFF<bool>,
    heard: DFF<bool>,
    /// The path of the request, as one bit; whether its entry was written.
    path_bit: DFF<Bits<32>>,
    known: DFF<bool>,
    acknowledge: DFF<bool>,
    answer: DFF<Bits<256>>,
    index: Signal<Local, Bits<32>>,
    writing: Signal<Local, bool>,
    storing: Signal<Local, bool>,
    is_host: Signal<Local, bool>,
    is_valid: Signal<Local, bool>,
    place: Signal<Local, Bits<64>>,
    shown: Signal<Local, Bits<64>>,
    number: Constant<Bits<16>>,
    paths: Constant<Bits<32>>,
    host_mode: Constant<Bits<2>>,
    flag: Constant<Bits<1>>,
    one32: Constant<Bits<32>>,
    zero32: Constant<Bits<32>>,
    zero256: Constant<Bits<256>>,
}

impl CompletionQueues {
    /// For the paths of a build.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((1..=5).contains(&sizes.path_bits), "2^{} paths", sizes.path_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            polled: Default::default(),
            changed: Default::default(),
            restarted: Default::default(),
            path: Default::default(),
            query: Default::default(),
            base: Default::default(),
            last: Default::default(),
            idle: Default::default(),
            path_write: PathWrite::new(sizes),
            bases: LutRam::new(sizes.path_bits),
            bases_shown: LutRam::new(sizes.path_bits),
            lasts: LutRam::new(sizes.path_bits),
            polled_register: Default::default(),
            written: Default::default(),
            changed_register: Default::default(),
            restarted_register: Default::default(),
            asked: Default::default(),
            is_own: Default::default(),
            in_range: Default::default(),
            heard: Default::default(),
            path_bit: Default::default(),
            known: Default::default(),
            acknowledge: Default::default(),
            answer: Default::default(),
            index: Default::default(),
            writing: Default::default(),
            storing: Default::default(),
            is_host: Default::default(),
            is_valid: Default::default(),
            place: Default::default(),
            shown: Default::default(),
            number: Constant::new(u64::from(table::PATH_COMPLETIONS).to_bits()),
            paths: Constant::new((1u64 << sizes.path_bits).to_bits()),
            host_mode: Constant::new(u64::from(completion_mode::HOST).to_bits()),
            flag: Constant::new(1u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            zero256: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for CompletionQueues {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, polled_register, written, changed_register, restarted_register, asked);
        dff_setup!(self, clock, is_own, in_range, heard, path_bit, known, acknowledge, answer);
        clock!(self, clock, path_write, bases, bases_shown, lasts);
        self.path_write.table_valid.next = self.table_valid.val();
        self.path_write.table_request.next = self.table_request.val();

        // The request stands until it is acknowledged.
        self.index.next = self.table_request.val().index;
        self.writing.next = (self.table_request.val().write == self.flag.val());
        self.asked.d.next = self.table_valid.val();
        self.is_own.d.next = (self.table_request.val().table == self.number.val());
        self.in_range.d.next = (self.index.val() < self.paths.val());
        self.heard.d.next = self.asked.q.val() & self.is_own.q.val() & self.in_range.q.val();
        self.path_bit.d.next = (self.one32.val() << bit_cast::<32, 5>(self.index.val().get_bits::<5>(0)));
        self.known.d.next = (self.written.q.val() & self.path_bit.q.val()).any();
        self.storing.next = self.heard.q.val() & self.writing.val();
        self.place.next = bit_cast::<64, 256>(self.table_request.val().data);
        self.bases.write.next = self.storing.val();
        self.bases.write_address.next = self.index.val().get_bits::<16>(0);
        self.bases.write_data.next = self.place.val().into();
        self.bases_shown.write.next = self.storing.val();
        self.bases_shown.write_address.next = self.index.val().get_bits::<16>(0);
        self.bases_shown.write_data.next = self.place.val().into();
        self.bases_shown.read_address.next = self.index.val().get_bits::<16>(0);
        self.shown.next = self.bases_shown.read_data.val().into();
        self.acknowledge.d.next = self.heard.q.val();
        self.answer.d.next = self.zero256.val();
        if self.heard.q.val() & self.known.q.val() & !self.writing.val() {
            self.answer.d.next = bit_cast::<256, 64>(self.shown.val());
        }
        self.table_ack.next = self.acknowledge.q.val();
        self.table_data.next = self.answer.q.val();

        // Who is polled.
        self.is_valid.next = (self.path_write.entry.val().valid == self.flag.val());
        self.is_host.next = (self.path_write.entry.val().completion_mode == self.host_mode.val());
        self.lasts.write.next = self.path_write.written.val() & self.is_valid.val();
        self.lasts.write_address.next = self.path_write.path.val();
        self.lasts.write_data.next = self.path_write.entry.val().cq_size_z;
        self.changed_register.d.next = false;
        self.restarted_register.d.next = false;
        if self.storing.val() {
            self.written.d.next = self.written.q.val() | self.path_bit.q.val();
        }
        if self.storing.val() | (self.path_write.written.val() & !self.is_host.val()) {
            self.polled_register.d.next = self.polled_register.q.val() & !self.path_bit.q.val();
            self.changed_register.d.next = true;
        }
        if self.path_write.written.val() & self.is_host.val() & self.is_valid.val() {
            self.polled_register.d.next = self.polled_register.q.val() | self.path_bit.q.val();
            self.changed_register.d.next = true;
            self.restarted_register.d.next = true;
        }
        self.polled.next = self.polled_register.q.val();
        self.changed.next = self.changed_register.q.val();
        self.restarted.next = self.restarted_register.q.val();
        self.path.next = self.path_write.path.val().get_bits::<8>(0);
        self.bases.read_address.next = bit_cast::<16, 8>(self.query.val());
        self.lasts.read_address.next = bit_cast::<16, 8>(self.query.val());
        self.base.next = self.bases.read_data.val().base;
        self.last.next = self.lasts.read_data.val();
        self.idle.next = !self.asked.q.val()
            & !self.heard.q.val()
            & !self.acknowledge.q.val()
            & !self.changed_register.q.val();

        if self.reset.val() {
            self.polled_register.d.next = self.zero32.val();
            self.written.d.next = self.zero32.val();
            self.changed_register.d.next = false;
            self.restarted_register.d.next = false;
            self.asked.d.next = false;
            self.heard.d.next = false;
            self.acknowledge.d.next = false;
        }
    }
}
