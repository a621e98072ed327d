//! Merges the sources of bus writes into one stream: six in order of acceptance, and zeros behind them.
//!
//! Each of the six has two places, and `ArrivalOrder` says whose turn it is: a write accepted in an earlier
//! cycle leaves earlier whatever its source, those of one cycle in a fixed order with completions
//! first. So none of them starves, and every `ready` comes from registers. `accepted` counts submission writes,
//! modulo 2^16; it includes a write from the cycle after its handshake on. A write of zeros goes when nobody else
//! has a turn and nothing waits for the bus: so it is all that whoever comes next may find in his way. When 64
//! others have gone since it waits, it has the next turn: so a bus that is never free does not starve it.
//!
//! Latency: 3 cycles from handshake to `out`, 2 of zeros. Throughput: a write a cycle, of zeros one in 2
//! cycles, or a cycle more than the bus takes for it. Reset empties it.

use rust_hdl::prelude::*;

use super::arrival_order::ArrivalOrder;
use super::source_buffer::SourceBuffer;
use crate::logic_record;
use crate::prim::output_buffer::OutputBuffer;
use crate::prim::slice::Slice;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{SmallWrite, WideWrite, ZeroWrite};

/// Others that go before a write of zeros that waits, less one.
const PATIENCE: u64 = 63;

logic_record! {
    /// A write of either kind.
    MergedWrite: 707 {
        /// Bus address.
        address = 64,
        /// 64 bytes, of a wide write; zeros.
        wide = 512,
        /// 16 or 4 bytes, of a small write.
        narrow = 128,
        /// 1: 64 bytes.
        is_wide = 1,
        /// 1: the data stand in `narrow`. A register of its own: many bits hang on it.
        is_narrow = 1,
        /// Small: 1: 16 bytes, 0: 4 bytes.
        quad = 1,
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
    pub zero: StreamIn<ZeroWrite>,
    pub out: StreamOut<MergedWrite>,
    pub accepted: Signal<Out, Bits<16>>,
    /// A write comes to `out` in the next cycle or waits for it; it is a submission.
    pub merging: Signal<Out, bool>,
    pub merging_submission: Signal<Out, bool>,
    /// It is of zeros, and the last of its fragment.
    pub merging_zero: Signal<Out, bool>,
    pub merging_end: Signal<Out, bool>,
    /// Something was accepted a cycle ago.
    pub entered: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,

    submissions: SourceBuffer<WideWrite>,
    controls: SourceBuffer<WideWrite>,
    ranges: SourceBuffer<SmallWrite>,
    completions: SourceBuffer<SmallWrite>,
    doorbells: SourceBuffer<SmallWrite>,
    interrupts: SourceBuffer<SmallWrite>,
    zeros: Slice<ZeroWrite>,
    order: ArrivalOrder,
    merged: OutputBuffer<MergedWrite>,
    accepted_register: DFF<Bits<16>>,
    /// Others that went since the zeros wait; they have waited long enough.
    passed: DFF<Bits<6>>,
    aged: DFF<bool>,
    arrived: Signal<Local, Bits<6>>,
    picked: Signal<Local, Bits<6>>,
    narrow_number: Signal<Local, Bits<2>>,
    wide: Signal<Local, WideWrite>,
    low_pair: Signal<Local, SmallWrite>,
    high_pair: Signal<Local, SmallWrite>,
    small_write: Signal<Local, SmallWrite>,
    /// An other source is served; zeros are, if there are any; their data are the next ones.
    serves: Signal<Local, bool>,
    zero_room: Signal<Local, bool>,
    of_zeros: Signal<Local, bool>,
    no_data: Constant<Bits<512>>,
    one: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    patience: Constant<Bits<6>>,
    one6: Constant<Bits<6>>,
    zero6: Constant<Bits<6>>,
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
            zero: Default::default(),
            out: Default::default(),
            accepted: Default::default(),
            merging: Default::default(),
            merging_submission: Default::default(),
            merging_zero: Default::default(),
            merging_end: Default::default(),
            entered: Default::default(),
            idle: Default::default(),
            submissions: Default::default(),
            controls: Default::default(),
            ranges: Default::default(),
            completions: Default::default(),
            doorbells: Default::default(),
            interrupts: Default::default(),
            zeros: Default::default(),
            order: Default::default(),
            merged: Default::default(),
            accepted_register: Default::default(),
            passed: Default::default(),
            aged: Default::default(),
            arrived: Default::default(),
            picked: Default::default(),
            narrow_number: Default::default(),
            wide: Default::default(),
            low_pair: Default::default(),
            high_pair: Default::default(),
            small_write: Default::default(),
            serves: Default::default(),
            zero_room: Default::default(),
            of_zeros: Default::default(),
            no_data: Constant::new(Bits::default()),
            one: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            patience: Constant::new(PATIENCE.to_bits()),
            one6: Constant::new(1u64.to_bits()),
            zero6: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for WriteArbiter {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, accepted_register, passed, aged);
        clock!(self, clock, submissions, controls, ranges, completions, doorbells, interrupts, zeros);
        clock!(self, clock, order, merged);
        self.completions.reset.next = self.reset.val();
        self.interrupts.reset.next = self.reset.val();
        self.doorbells.reset.next = self.reset.val();
        self.ranges.reset.next = self.reset.val();
        self.submissions.reset.next = self.reset.val();
        self.controls.reset.next = self.reset.val();
        self.zeros.reset.next = self.reset.val();
        self.order.reset.next = self.reset.val();
        self.merged.reset.next = self.reset.val();

        // Accept.
        StreamIn::<SmallWrite>::link(&mut self.completion, &mut self.completions.inlet);
        StreamIn::<SmallWrite>::link(&mut self.interrupt, &mut self.interrupts.inlet);
        StreamIn::<SmallWrite>::link(&mut self.doorbell, &mut self.doorbells.inlet);
        StreamIn::<SmallWrite>::link(&mut self.range, &mut self.ranges.inlet);
        StreamIn::<WideWrite>::link(&mut self.submission, &mut self.submissions.inlet);
        StreamIn::<WideWrite>::link(&mut self.control, &mut self.controls.inlet);
        StreamIn::<ZeroWrite>::link(&mut self.zero, &mut self.zeros.inlet);
        self.arrived.next = bit_cast::<6, 1>(self.completions.entering.val().into())
            | (bit_cast::<6, 1>(self.interrupts.entering.val().into()) << 1)
            | (bit_cast::<6, 1>(self.doorbells.entering.val().into()) << 2)
            | (bit_cast::<6, 1>(self.ranges.entering.val().into()) << 3)
            | (bit_cast::<6, 1>(self.submissions.entering.val().into()) << 4)
            | (bit_cast::<6, 1>(self.controls.entering.val().into()) << 5);
        self.order.arrived.next = self.arrived.val();
        if self.submissions.entering.val() {
            self.accepted_register.d.next = self.accepted_register.q.val() + self.one.val();
        }
        self.accepted.next = self.accepted_register.q.val();

        // Serve the picked source, else zeros.
        self.picked.next = self.order.picked.val();
        self.serves.next = self.merged.room.val() & !self.aged.q.val();
        self.order.room.next = self.serves.val();
        self.zero_room.next = self.merged.room.val()
            & (self.aged.q.val() | (!self.order.picked_valid.val() & !self.merged.out.valid.val()));
        self.zeros.out.ready.next = self.zero_room.val();
        self.merged.push.next = (self.order.picked_valid.val() & self.serves.val())
            | (self.zero_room.val() & self.zeros.out.valid.val());
        self.of_zeros.next = self.order.unpicked.val() | self.aged.q.val();
        if self.zero_room.val() {
            self.passed.d.next = self.zero6.val();
            self.aged.d.next = false;
        } else if self.order.picked_valid.val() & self.serves.val() & self.zeros.out.valid.val() {
            self.passed.d.next = self.passed.q.val() + self.one6.val();
            self.aged.d.next = (self.passed.q.val() == self.patience.val());
        }
        self.completions.take.next = self.picked.val().get_bit(0) & self.serves.val();
        self.interrupts.take.next = self.picked.val().get_bit(1) & self.serves.val();
        self.doorbells.take.next = self.picked.val().get_bit(2) & self.serves.val();
        self.ranges.take.next = self.picked.val().get_bit(3) & self.serves.val();
        self.submissions.take.next = self.picked.val().get_bit(4) & self.serves.val();
        self.controls.take.next = self.picked.val().get_bit(5) & self.serves.val();
        self.wide.next = self.submissions.data.val();
        if self.order.from_control.val() {
            self.wide.next = self.controls.data.val();
        }
        self.merged.data.next.wide = self.wide.val().data;
        if self.of_zeros.val() {
            self.merged.data.next.wide = self.no_data.val();
        }
        self.narrow_number.next = self.order.narrow_number.val();
        self.low_pair.next = self.completions.data.val();
        self.high_pair.next = self.doorbells.data.val();
        if self.narrow_number.val().get_bit(0) {
            self.low_pair.next = self.interrupts.data.val();
            self.high_pair.next = self.ranges.data.val();
        }
        self.small_write.next = self.low_pair.val();
        if self.narrow_number.val().get_bit(1) {
            self.small_write.next = self.high_pair.val();
        }
        self.merged.data.next.address = self.small_write.val().address;
        self.merged.data.next.is_wide = self.clear.val();
        self.merged.data.next.is_narrow = self.flag.val();
        if self.order.is_wide.val() {
            self.merged.data.next.address = self.wide.val().address;
            self.merged.data.next.is_wide = self.flag.val();
            self.merged.data.next.is_narrow = self.clear.val();
        }
        self.merged.data.next.narrow = self.small_write.val().data;
        self.merged.data.next.quad = self.small_write.val().quad;
        if self.of_zeros.val() {
            self.merged.data.next.address = self.zeros.out.data.val().address;
            self.merged.data.next.is_wide = self.zeros.out.data.val().is_wide;
            self.merged.data.next.is_narrow = self.clear.val();
            self.merged.data.next.quad = self.zeros.out.data.val().quad;
        }
        self.out.valid.next = self.merged.out.valid.val();
        self.out.data.next = self.merged.out.data.val();
        self.merged.out.ready.next = self.out.ready.val();
        self.merging.next = self.merged.push.val();
        self.merging_submission.next = self.picked.val().get_bit(4) & !self.aged.q.val();
        self.merging_zero.next = !self.order.picked_valid.val() | self.aged.q.val();
        self.merging_end.next = (self.zeros.out.data.val().ends == self.flag.val());
        self.entered.next = self.order.entered.val();
        self.idle.next = self.order.idle.val() & self.zeros.idle.val() & !self.merged.out.valid.val();

        if self.reset.val() {
            self.accepted_register.d.next = self.zero16.val();
            self.passed.d.next = self.zero6.val();
            self.aged.d.next = false;
        }
    }
}
