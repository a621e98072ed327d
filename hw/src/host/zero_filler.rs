//! The zero filler: writes the zeros that clients read from extents without data.
//!
//! Purpose: of all that clients read, only these zeros cross the card. A fragment of them waits in a queue
//! (`QUEUE_BITS`), so that a long one holds up nobody who is behind it. Then `ZeroPages` finds its pages, reading
//! its list where it has one, and `ZeroBursts` writes the zeros. When the bus has answered the last write the
//! fragment is given back, as if an SSD had executed it: with success, with Data Transfer Error where the bus
//! refused a line of the list or a write, or with Invalid PRP Offset where an entry of the list has one.
//!
//! Handshake: streams; `zero_answered` is a pulse for each response, in order, with what was said of its write
//! and whether that was its fragment's last. Its reads and writes go behind everybody else's. Latency: 11 cycles
//! from fragment to first write. Throughput: a write in 2 cycles at most. Order kept. `idle` falls in time.
//! Reset: forgets what is in it; given while the write master is quiet.
//! Failure: whatever its client named, a fragment ends, and only its own client sees how.

use rust_hdl::prelude::*;
use volplane_abi::status;

use super::zero_bursts::{ZeroBursts, ZeroEnd};
use super::zero_pages::{ZeroPages, ZeroRun};
use crate::prim::fifo::Fifo;
use crate::prim::slice::Slice;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{ReadRequest, Returned, ZeroFragment, ZeroWrite};
use crate::virt::list_reader::{list_tag, ListReader};

/// log2 of the fragments that wait: six block RAMs.
const QUEUE_BITS: usize = 9;

/// See the module's header. `W` is the width of the bus in bits.
#[derive(Clone, Debug, LogicBlock)]
pub struct ZeroFiller<const W: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub fragment: StreamIn<ZeroFragment>,
    pub write: StreamOut<ZeroWrite>,
    pub zero_answered: Signal<In, bool>,
    pub zero_ended: Signal<In, bool>,
    pub zero_failed: Signal<In, bool>,
    pub returned: StreamOut<Returned>,
    pub list: StreamOut<ReadRequest>,
    pub answer_valid_list: Signal<In, bool>,
    pub answer_tag: Signal<In, Bits<8>>,
    pub answer_data: Signal<In, Bits<W>>,
    pub answer_last: Signal<In, bool>,
    pub answer_error: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    queue: Fifo<ZeroFragment>,
    pages: ZeroPages,
    reader: ListReader<W>,
    /// The run behind the one that is written.
    runs: Slice<ZeroRun>,
    bursts: ZeroBursts,
    /// Fragments all of whose writes the bus took, and for each that was answered whether a write failed.
    ends: Fifo<ZeroEnd>,
    failures: Fifo<bool>,
    /// A write of the fragment that is being answered has failed.
    failed: DFF<bool>,

    over: Signal<Local, ZeroEnd>,
    gone: Signal<Local, bool>,
    transfer_error: Constant<Bits<15>>,
    offset_error: Constant<Bits<15>>,
    success: Constant<Bits<15>>,
    nothing: Constant<Returned>,
    flag: Constant<Bits<1>>,
}

impl<const W: usize> Default for ZeroFiller<W> {
    fn default() -> Self {
        let code = |code: u16| Constant::new(u64::from(code | status::DNR).to_bits());
        Self {
            clock: Default::default(),
            reset: Default::default(),
            fragment: Default::default(),
            write: Default::default(),
            zero_answered: Default::default(),
            zero_ended: Default::default(),
            zero_failed: Default::default(),
            returned: Default::default(),
            list: Default::default(),
            answer_valid_list: Default::default(),
            answer_tag: Default::default(),
            answer_data: Default::default(),
            answer_last: Default::default(),
            answer_error: Default::default(),
            idle: Default::default(),
            queue: Fifo::block(QUEUE_BITS, 2),
            pages: Default::default(),
            reader: ListReader::new(list_tag::ZEROS),
            runs: Default::default(),
            bursts: Default::default(),
            ends: Fifo::lut(4, 2),
            failures: Fifo::lut(5, 2),
            failed: Default::default(),
            over: Default::default(),
            gone: Default::default(),
            transfer_error: code(status::DATA_TRANSFER_ERROR),
            offset_error: code(status::INVALID_PRP_OFFSET),
            success: Constant::new(u64::from(status::SUCCESS).to_bits()),
            nothing: Constant::new(Returned { own: 1u64.to_bits(), ..Returned::default() }),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl<const W: usize> Logic for ZeroFiller<W> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, failed);
        clock!(self, clock, queue, pages, reader, runs, bursts, ends, failures);
        self.queue.reset.next = self.reset.val();
        self.pages.reset.next = self.reset.val();
        self.reader.reset.next = self.reset.val();
        self.runs.reset.next = self.reset.val();
        self.bursts.reset.next = self.reset.val();
        self.ends.reset.next = self.reset.val();
        self.failures.reset.next = self.reset.val();

        self.queue.push.next = self.fragment.valid.val() & self.queue.room.val();
        self.queue.data.next = self.fragment.data.val();
        self.fragment.ready.next = self.queue.room.val();
        StreamOut::<ZeroFragment>::join(&mut self.queue.out, &mut self.pages.fragment);
        StreamOut::<ZeroRun>::join(&mut self.pages.run, &mut self.runs.inlet);
        StreamOut::<ZeroRun>::join(&mut self.runs.out, &mut self.bursts.run);
        StreamOut::<ZeroWrite>::link(&mut self.write, &mut self.bursts.write);
        StreamOut::<ReadRequest>::link(&mut self.list, &mut self.reader.list);
        self.reader.request.next = self.pages.request.val();
        self.reader.address.next = self.pages.address.val();
        self.reader.forget.next = self.pages.forget.val();
        self.pages.answer.next = self.reader.answer.val();
        self.pages.entry.next = self.reader.entry.val();
        self.pages.failed.next = self.reader.failed.val();
        self.reader.answer_valid_list.next = self.answer_valid_list.val();
        self.reader.answer_tag.next = self.answer_tag.val();
        self.reader.answer_data.next = self.answer_data.val();
        self.reader.answer_last.next = self.answer_last.val();
        self.reader.answer_error.next = self.answer_error.val();

        // Responses come in order, and so do ends: the first of each belong together.
        self.bursts.answered.next = self.zero_answered.val();
        self.bursts.room.next = self.ends.room.val();
        self.ends.push.next = self.bursts.ended_valid.val();
        self.ends.data.next = self.bursts.ended.val();
        if self.zero_answered.val() {
            self.failed.d.next = (self.failed.q.val() | self.zero_failed.val()) & !self.zero_ended.val();
        }
        self.failures.push.next = self.zero_answered.val() & self.zero_ended.val();
        self.failures.data.next = self.failed.q.val() | self.zero_failed.val();
        self.over.next = self.ends.out.data.val();
        self.returned.valid.next = self.ends.out.valid.val() & self.failures.out.valid.val();
        self.returned.data.next = self.nothing.val();
        self.returned.data.next.part = self.over.val().part;
        self.returned.data.next.ordinal = self.over.val().ordinal;
        self.returned.data.next.last = self.over.val().last;
        self.returned.data.next.status = self.success.val();
        if self.failures.out.data.val() | (self.over.val().unread == self.flag.val()) {
            self.returned.data.next.status = self.transfer_error.val();
        }
        if (self.over.val().wrong == self.flag.val()) {
            self.returned.data.next.status = self.offset_error.val();
        }
        self.gone.next =
            self.returned.ready.val() & self.ends.out.valid.val() & self.failures.out.valid.val();
        self.ends.out.ready.next = self.gone.val();
        self.failures.out.ready.next = self.gone.val();

        self.idle.next = self.queue.empty.val()
            & !self.fragment.valid.val()
            & self.pages.idle.val()
            & self.runs.idle.val()
            & self.bursts.idle.val()
            & self.ends.empty.val();
        if self.reset.val() {
            self.failed.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
