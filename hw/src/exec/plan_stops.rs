//! Which plans issue nothing more: a bit for each slot.
//!
//! The judge of plans writes it; `issuing` and `failing` name slots, and what is known of them stands two
//! cycles later at `issuing_stopped` and `failing_stopped`. No reset: the judge clears every slot.

use rust_hdl::prelude::*;

use crate::prim::ram::BlockRam;
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PlanStops {
    pub clock: Signal<In, Clock>,
    pub write: Signal<In, bool>,
    pub slot: Signal<In, Bits<12>>,
    pub stopped: Signal<In, bool>,
    pub issuing: Signal<In, Bits<12>>,
    pub issuing_stopped: Signal<Out, bool>,
    pub failing: Signal<In, Bits<12>>,
    pub failing_stopped: Signal<Out, bool>,

    of_issuing: BlockRam<bool>,
    of_failing: BlockRam<bool>,
}

impl PlanStops {
    /// For 2^`slot_bits` plans.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            write: Default::default(),
            slot: Default::default(),
            stopped: Default::default(),
            issuing: Default::default(),
            issuing_stopped: Default::default(),
            failing: Default::default(),
            failing_stopped: Default::default(),
            of_issuing: BlockRam::new(sizes.slot_bits),
            of_failing: BlockRam::new(sizes.slot_bits),
        }
    }
}

impl Logic for PlanStops {
    #[hdl_gen]
    fn update(&mut self) {
        clock!(self, clock, of_issuing, of_failing);
        self.of_issuing.write.next = self.write.val();
        self.of_issuing.write_address.next = bit_cast::<16, 12>(self.slot.val());
        self.of_issuing.write_data.next = self.stopped.val();
        self.of_issuing.read_address.next = bit_cast::<16, 12>(self.issuing.val());
        self.issuing_stopped.next = self.of_issuing.read_data.val();
        self.of_failing.write.next = self.write.val();
        self.of_failing.write_address.next = bit_cast::<16, 12>(self.slot.val());
        self.of_failing.write_data.next = self.stopped.val();
        self.of_failing.read_address.next = bit_cast::<16, 12>(self.failing.val());
        self.failing_stopped.next = self.of_failing.read_data.val();
    }
}
