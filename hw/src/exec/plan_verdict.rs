//! The verdict on a plan: its components as the masks see them, and what comes of it.
//!
//! A read goes on only with a copy that is in sync now as well as at its admission; at most one component of it
//! is under way, and that one has ended when anybody asks. A write is judged by what was in sync when it was
//! admitted.
//!
//! No handshake, no reset. Latency: 4 cycles to `verdict`, 1 to `is_running`. Throughput: one a cycle.

use rust_hdl::prelude::*;
use volplane_abi::plan::component_state;

use super::mask_verdict::{MaskVerdict, MaskVerdicts, PlanSets};
use super::plan_judge::PlanProgress;
use crate::records::{DiskStates, PlanBegun};

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PlanVerdict {
    pub clock: Signal<In, Clock>,
    pub plan: Signal<In, PlanBegun>,
    pub progress: Signal<In, PlanProgress>,
    /// What has become of the disk's components.
    pub states: Signal<In, DiskStates>,
    pub verdict: Signal<Out, MaskVerdict>,
    /// Something of the plan is under way.
    pub is_running: Signal<Out, bool>,

    sets: DFF<PlanSets>,
    verdicts: MaskVerdicts,
    state_bits: Signal<Local, Bits<16>>,
    component: [Signal<Local, Bits<2>>; 8],
    in_sync_now: Signal<Local, Bits<8>>,
    in_sync: Constant<Bits<2>>,
    one: Constant<Bits<8>>,
    zero: Constant<Bits<8>>,
    flag: Constant<Bits<1>>,
}

impl Default for PlanVerdict {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            plan: Default::default(),
            progress: Default::default(),
            states: Default::default(),
            verdict: Default::default(),
            is_running: Default::default(),
            sets: Default::default(),
            verdicts: Default::default(),
            state_bits: Default::default(),
            component: Default::default(),
            in_sync_now: Default::default(),
            in_sync: Constant::new(u64::from(component_state::IN_SYNC).to_bits()),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for PlanVerdict {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, sets);
        clock!(self, clock, verdicts);
        self.state_bits.next = self.states.val().states;
        self.in_sync_now.next = self.zero.val();
        for i in 0..8 {
            self.component[i].next = self.state_bits.val().get_bits::<2>(2 * i);
            if (self.component[i].val() == self.in_sync.val()) {
                self.in_sync_now.next = self.in_sync_now.val() | (self.one.val() << i.to_bits::<3>());
            }
        }
        self.sets.d.next.present = self.plan.val().present;
        self.sets.d.next.durably_out = self.states.val().durably_out;
        self.sets.d.next.done = self.progress.val().done;
        self.sets.d.next.failed = self.progress.val().failed;
        self.sets.d.next.refused = self.progress.val().refused;
        self.sets.d.next.minimum = self.plan.val().minimum;
        self.sets.d.next.is_read = self.plan.val().is_read;
        self.sets.d.next.readable = self.plan.val().readable;
        self.sets.d.next.running = self.plan.val().begun
            & !self.progress.val().done
            & !self.progress.val().failed
            & !self.progress.val().refused
            & !self.progress.val().stopped;
        self.sets.d.next.stop = self.progress.val().faulted
            | self.progress.val().foreign
            | self.progress.val().diverted
            | self.progress.val().taken;
        if (self.plan.val().is_read == self.flag.val()) {
            self.sets.d.next.readable = self.plan.val().readable & self.in_sync_now.val();
            self.sets.d.next.running = self.zero.val();
        }
        self.is_running.next = self.sets.q.val().running.any();
        self.verdicts.sets.next = self.sets.q.val();
        self.verdicts.masks.next = self.plan.val().masks.into();
        self.verdict.next = self.verdicts.verdict.val();
    }
}
