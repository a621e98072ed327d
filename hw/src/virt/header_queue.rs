//! Keeps the headers of plans for the fragment builder.
//!
//! `push` takes `plan` this cycle; without `room` it must not be given twice in a row. Latency: 2
//! cycles. Throughput: one a cycle. Reset empties it.

use rust_hdl::prelude::*;

use crate::prim::fifo::Fifo;
use crate::prim::stream::StreamOut;
use crate::records::{AdmittedPlan, PlanHeader};

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct HeaderQueue {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub push: Signal<In, bool>,
    pub plan: Signal<In, AdmittedPlan>,
    /// At least two more fit.
    pub room: Signal<Out, bool>,
    pub empty: Signal<Out, bool>,
    pub header: StreamOut<PlanHeader>,

    headers: Fifo<PlanHeader>,
    item: Signal<Local, PlanHeader>,
}

impl Default for HeaderQueue {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            push: Default::default(),
            plan: Default::default(),
            room: Default::default(),
            empty: Default::default(),
            header: Default::default(),
            headers: Fifo::lut(3, 2),
            item: Default::default(),
        }
    }
}

impl Logic for HeaderQueue {
    #[hdl_gen]
    fn update(&mut self) {
        self.headers.clock.next = self.clock.val();
        self.headers.reset.next = self.reset.val();
        StreamOut::<PlanHeader>::link(&mut self.header, &mut self.headers.out);
        self.room.next = self.headers.room.val();
        self.empty.next = self.headers.empty.val();
        self.item.next.part = self.plan.val().part;
        self.item.next.opcode = self.plan.val().opcode;
        self.item.next.prp1 = self.plan.val().prp1;
        self.item.next.prp2 = self.plan.val().prp2;
        self.item.next.blocks = self.plan.val().blocks;
        self.item.next.block_shift = self.plan.val().block_shift;
        self.item.next.deallocate = self.plan.val().deallocate;
        self.item.next.force_unit_access = self.plan.val().force_unit_access;
        self.item.next.limited_retry = self.plan.val().limited_retry;
        self.item.next.cdw13 = self.plan.val().cdw13;
        self.item.next.refusal = self.plan.val().refusal;
        self.item.next.trivial = self.plan.val().trivial;
        self.item.next.flush_devices = self.plan.val().flush_devices;
        self.item.next.terms = self.plan.val().terms;
        self.headers.data.next = self.item.val();
        self.headers.push.next = self.push.val();
    }
}
