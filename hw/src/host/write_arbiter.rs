//! Merges the six sources of bus writes into one stream, in order of acceptance.
//!
//! Each source has a FIFO of four, and the mask of the sources accepted in a cycle goes to a FIFO of
//! masks; the masks are served one after the other, the sources of one mask in a fixed order with
//! completions first. So a write accepted in an earlier cycle leaves earlier whatever its source, no
//! source starves, and every `ready` comes from registers. `accepted` counts submission writes,
//! modulo 2^16; it includes a write from the cycle after its handshake on.
//!
//! Latency: 3 cycles from handshake to `out`. Throughput: a write a cycle. Reset empties it.

use rust_hdl::prelude::*;

use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{SmallWrite, WideWrite};

logic_record! {
    /// A write of either kind.
    MergedWrite: 707 {
        /// Bus address.
        address = 64,
        /// 64 bytes, of a wide write.
        wide = 512,
        /// 16 or 4 bytes, of a small write.
        narrow = 128,
        /// 1: 64 bytes.
        is_wide = 1,
        /// Small: 1: 16 bytes, 0: 4 bytes.
        quad = 1,
        /// 1: it came from the submission source.
        submission = 1,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct WriteArbiter {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub submission: StreamIn<WideWrite>,
    pub control: StreamIn<WideWrite>,
    pub range: StreamIn<SmallWrite>,
    pub completion: StreamIn<SmallWrite>,
    pub doorbell: StreamIn<SmallWrite>,
    pub interrupt: StreamIn<SmallWrite>,
    pub out: StreamOut<MergedWrite>,
    pub accepted: Signal<Out, Bits<16>>,
    pub idle: Signal<Out, bool>,

    submissions: Fifo<WideWrite>,
    controls: Fifo<WideWrite>,
    ranges: Fifo<SmallWrite>,
    completions: Fifo<SmallWrite>,
    doorbells: Fifo<SmallWrite>,
    interrupts: Fifo<SmallWrite>,
    /// Which sources were accepted, for each cycle in which one was. Bits in order of service:
    /// completion, interrupt, doorbell, range, submission, control.
    arrivals: Fifo<Bits<6>>,
    /// Sources of the mask at the head that have been served.
    served: DFF<Bits<6>>,
    held: DFF<MergedWrite>,
    held_valid: DFF<bool>,
    accepted_register: DFF<Bits<16>>,
    arrived: Signal<Local, Bits<6>>,
    waiting: Signal<Local, Bits<6>>,
    picked: Signal<Local, Bits<6>>,
    rest: Signal<Local, Bits<6>>,
    take: Signal<Local, bool>,
    wide: Signal<Local, WideWrite>,
    small_write: Signal<Local, SmallWrite>,
    none: Constant<Bits<6>>,
    source: [Constant<Bits<6>>; 6],
    one: Constant<Bits<16>>,
    zero: Constant<Bits<16>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl Default for WriteArbiter {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            submission: Default::default(),
            control: Default::default(),
            range: Default::default(),
            completion: Default::default(),
            doorbell: Default::default(),
            interrupt: Default::default(),
            out: Default::default(),
            accepted: Default::default(),
            idle: Default::default(),
            submissions: Fifo::lut(2, 1),
            controls: Fifo::lut(2, 1),
            ranges: Fifo::lut(2, 1),
            completions: Fifo::lut(2, 1),
            doorbells: Fifo::lut(2, 1),
            interrupts: Fifo::lut(2, 1),
            arrivals: Fifo::lut(4, 1),
            served: Default::default(),
            held: Default::default(),
            held_valid: Default::default(),
            accepted_register: Default::default(),
            arrived: Default::default(),
            waiting: Default::default(),
            picked: Default::default(),
            rest: Default::default(),
            take: Default::default(),
            wide: Default::default(),
            small_write: Default::default(),
            none: Constant::new(0u64.to_bits()),
            source: std::array::from_fn(|i| Constant::new((1u64 << i).to_bits())),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for WriteArbiter {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, served, held, held_valid, accepted_register);
        clock!(self, clock, submissions, controls, ranges, completions, doorbells, interrupts, arrivals);
        self.submissions.reset.next = self.reset.val();
        self.controls.reset.next = self.reset.val();
        self.ranges.reset.next = self.reset.val();
        self.completions.reset.next = self.reset.val();
        self.doorbells.reset.next = self.reset.val();
        self.interrupts.reset.next = self.reset.val();
        self.arrivals.reset.next = self.reset.val();

        // Accept.
        self.completion.ready.next = self.completions.room.val() & self.arrivals.room.val();
        self.interrupt.ready.next = self.interrupts.room.val() & self.arrivals.room.val();
        self.doorbell.ready.next = self.doorbells.room.val() & self.arrivals.room.val();
        self.range.ready.next = self.ranges.room.val() & self.arrivals.room.val();
        self.submission.ready.next = self.submissions.room.val() & self.arrivals.room.val();
        self.control.ready.next = self.controls.room.val() & self.arrivals.room.val();
        self.completions.push.next =
            self.completion.valid.val() & self.completions.room.val() & self.arrivals.room.val();
        self.interrupts.push.next =
            self.interrupt.valid.val() & self.interrupts.room.val() & self.arrivals.room.val();
        self.doorbells.push.next =
            self.doorbell.valid.val() & self.doorbells.room.val() & self.arrivals.room.val();
        self.ranges.push.next = self.range.valid.val() & self.ranges.room.val() & self.arrivals.room.val();
        self.submissions.push.next =
            self.submission.valid.val() & self.submissions.room.val() & self.arrivals.room.val();
        self.controls.push.next =
            self.control.valid.val() & self.controls.room.val() & self.arrivals.room.val();
        self.completions.data.next = self.completion.data.val();
        self.interrupts.data.next = self.interrupt.data.val();
        self.doorbells.data.next = self.doorbell.data.val();
        self.ranges.data.next = self.range.data.val();
        self.submissions.data.next = self.submission.data.val();
        self.controls.data.next = self.control.data.val();
        self.arrived.next = bit_cast::<6, 1>(self.completions.push.val().into())
            | (bit_cast::<6, 1>(self.interrupts.push.val().into()) << 1)
            | (bit_cast::<6, 1>(self.doorbells.push.val().into()) << 2)
            | (bit_cast::<6, 1>(self.ranges.push.val().into()) << 3)
            | (bit_cast::<6, 1>(self.submissions.push.val().into()) << 4)
            | (bit_cast::<6, 1>(self.controls.push.val().into()) << 5);
        self.arrivals.push.next = self.arrived.val().any();
        self.arrivals.data.next = self.arrived.val();
        if self.submissions.push.val() {
            self.accepted_register.d.next = self.accepted_register.q.val() + self.one.val();
        }
        self.accepted.next = self.accepted_register.q.val();

        // Serve the oldest mask.
        self.waiting.next = self.none.val();
        if self.arrivals.out.valid.val() {
            self.waiting.next = self.arrivals.out.data.val() & !self.served.q.val();
        }
        self.picked.next = self.source[5].val();
        if self.waiting.val().get_bit(0) {
            self.picked.next = self.source[0].val();
        } else if self.waiting.val().get_bit(1) {
            self.picked.next = self.source[1].val();
        } else if self.waiting.val().get_bit(2) {
            self.picked.next = self.source[2].val();
        } else if self.waiting.val().get_bit(3) {
            self.picked.next = self.source[3].val();
        } else if self.waiting.val().get_bit(4) {
            self.picked.next = self.source[4].val();
        }
        self.rest.next = self.waiting.val() & !self.picked.val();
        self.take.next = self.waiting.val().any() & (!self.held_valid.q.val() | self.out.ready.val());
        self.arrivals.out.ready.next = self.take.val() & !self.rest.val().any();
        self.completions.out.ready.next = self.take.val() & self.picked.val().get_bit(0);
        self.interrupts.out.ready.next = self.take.val() & self.picked.val().get_bit(1);
        self.doorbells.out.ready.next = self.take.val() & self.picked.val().get_bit(2);
        self.ranges.out.ready.next = self.take.val() & self.picked.val().get_bit(3);
        self.submissions.out.ready.next = self.take.val() & self.picked.val().get_bit(4);
        self.controls.out.ready.next = self.take.val() & self.picked.val().get_bit(5);

        // What is not picked is not looked at: the selections need no priority of their own.
        self.wide.next = self.controls.out.data.val();
        if self.waiting.val().get_bit(4) {
            self.wide.next = self.submissions.out.data.val();
        }
        self.small_write.next = self.ranges.out.data.val();
        if self.waiting.val().get_bit(2) {
            self.small_write.next = self.doorbells.out.data.val();
        }
        if self.waiting.val().get_bit(1) {
            self.small_write.next = self.interrupts.out.data.val();
        }
        if self.waiting.val().get_bit(0) {
            self.small_write.next = self.completions.out.data.val();
        }
        if self.out.ready.val() {
            self.held_valid.d.next = false;
        }
        if self.take.val() {
            self.held_valid.d.next = true;
            self.served.d.next = self.served.q.val() | self.picked.val();
            if !self.rest.val().any() {
                self.served.d.next = self.none.val();
            }
            self.held.d.next.address = self.small_write.val().address;
            self.held.d.next.is_wide = self.clear.val();
            self.held.d.next.submission = self.clear.val();
            if self.picked.val().get_bit(4) | self.picked.val().get_bit(5) {
                self.held.d.next.address = self.wide.val().address;
                self.held.d.next.is_wide = self.flag.val();
            }
            if self.picked.val().get_bit(4) {
                self.held.d.next.submission = self.flag.val();
            }
            self.held.d.next.wide = self.wide.val().data;
            self.held.d.next.narrow = self.small_write.val().data;
            self.held.d.next.quad = self.small_write.val().quad;
        }
        self.out.valid.next = self.held_valid.q.val();
        self.out.data.next = self.held.q.val();
        self.idle.next = self.arrivals.empty.val() & !self.held_valid.q.val();

        if self.reset.val() {
            self.served.d.next = self.none.val();
            self.held_valid.d.next = false;
            self.accepted_register.d.next = self.zero.val();
        }
    }
}
