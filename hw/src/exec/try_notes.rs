//! What is known of plans that may be tried again: the paths that each avoids, and the tries its parts have left.
//!
//! `admitted` tells of a plan before anything of it can fail, `begun` of each of its parts; the first never comes in two
//! cycles running, the second never twice in three. A plan avoids nothing then; a part without a template has two
//! tries. What has become of `part` is kept when `keep` is set in a cycle with `may_keep`.
//!
//! `notes` and `left` are those of the part that was at `part` 2 cycles before, `avoided` those of the plan at
//! `query` 2 cycles before. Reset drops a note on its way; what was noted stays.

use rust_hdl::prelude::*;

use crate::logic_record;
use crate::prim::ram::BlockRam;
use crate::records::{Part, PartBegun};
use crate::sizes::Sizes;

logic_record! {
    /// What is known of a plan that may be tried again.
    PlanTries: 76 {
        /// Paths that it avoids.
        avoided = 32,
        /// Plan template; 0: none.
        plan = 16,
        /// The last path error: its status,
        status = 15,
        /// path
        path = 8,
        /// and component.
        component = 3,
        /// 0: there was none.
        erred = 1,
        /// 1: its fragment was given up.
        given_up = 1,
    }
}

/// How often a part without a template begins again when no path is left that it has not tried.
pub const SINGLE_TRIES: u64 = 2;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct TryNotes {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub admitted_valid: Signal<In, bool>,
    pub admitted_slot: Signal<In, Bits<12>>,
    pub begun_valid: Signal<In, bool>,
    pub begun: Signal<In, PartBegun>,
    pub part: Signal<In, Part>,
    pub notes: Signal<Out, PlanTries>,
    pub left: Signal<Out, Bits<8>>,
    pub may_keep: Signal<Out, bool>,
    pub keep: Signal<In, bool>,
    pub keep_part: Signal<In, Part>,
    pub keep_notes: Signal<In, PlanTries>,
    pub keep_left: Signal<In, Bits<8>>,
    pub query: Signal<In, Bits<12>>,
    pub avoided: Signal<Out, Bits<32>>,
    pub idle: Signal<Out, bool>,

    plans: BlockRam<PlanTries>,
    avoided_queried: BlockRam<Bits<32>>,
    tries: BlockRam<Bits<8>>,
    admits: DFF<bool>,
    admitting: DFF<Bits<12>>,
    /// A part that was begun, until it can be noted.
    begins: DFF<bool>,
    beginning: DFF<PartBegun>,

    begun_part: Signal<Local, Part>,
    of: Signal<Local, Part>,
    written: Signal<Local, PlanTries>,
    tries_written: Signal<Local, Bits<8>>,
    writes: Signal<Local, bool>,
    single_tries: Constant<Bits<8>>,
    new_plan: Constant<PlanTries>,
    first: Constant<Bits<3>>,
}

impl TryNotes {
    /// For 2^`slot_bits` plans.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            admitted_valid: Default::default(),
            admitted_slot: Default::default(),
            begun_valid: Default::default(),
            begun: Default::default(),
            part: Default::default(),
            notes: Default::default(),
            left: Default::default(),
            may_keep: Default::default(),
            keep: Default::default(),
            keep_part: Default::default(),
            keep_notes: Default::default(),
            keep_left: Default::default(),
            query: Default::default(),
            avoided: Default::default(),
            idle: Default::default(),
            plans: BlockRam::new(sizes.slot_bits),
            avoided_queried: BlockRam::new(sizes.slot_bits),
            tries: BlockRam::new(sizes.slot_bits + 3),
            admits: Default::default(),
            admitting: Default::default(),
            begins: Default::default(),
            beginning: Default::default(),
            begun_part: Default::default(),
            of: Default::default(),
            written: Default::default(),
            tries_written: Default::default(),
            writes: Default::default(),
            single_tries: Constant::new(SINGLE_TRIES.to_bits()),
            new_plan: Constant::new(PlanTries::default()),
            first: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for TryNotes {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, admits, admitting, begins, beginning);
        clock!(self, clock, plans, avoided_queried, tries);
        self.plans.read_address.next = bit_cast::<16, 12>(self.part.val().slot);
        self.tries.read_address.next =
            (bit_cast::<16, 12>(self.part.val().slot) << 3) | bit_cast::<16, 3>(self.part.val().component);
        self.avoided_queried.read_address.next = bit_cast::<16, 12>(self.query.val());
        self.notes.next = self.plans.read_data.val();
        self.left.next = self.tries.read_data.val();
        self.avoided.next = self.avoided_queried.read_data.val();

        // A plan, else a part of one, else what has become of a part.
        self.admits.d.next = self.admitted_valid.val();
        self.admitting.d.next = self.admitted_slot.val();
        if self.begun_valid.val() {
            self.begins.d.next = true;
            self.beginning.d.next = self.begun.val();
        } else if !self.admits.q.val() {
            self.begins.d.next = false;
        }
        self.begun_part.next = self.beginning.q.val().part.into();
        self.may_keep.next = !self.admits.q.val() & !self.begins.q.val();
        self.writes.next = self.admits.q.val() | self.begins.q.val() | self.keep.val();
        self.of.next = self.keep_part.val();
        self.written.next = self.keep_notes.val();
        self.tries_written.next = self.keep_left.val();
        if self.admits.q.val() {
            self.of.next.slot = self.admitting.q.val();
            self.of.next.component = self.first.val();
            self.written.next = self.new_plan.val();
            self.tries_written.next = self.single_tries.val();
        } else if self.begins.q.val() {
            self.of.next = self.begun_part.val();
            self.written.next = self.new_plan.val();
            self.written.next.plan = self.beginning.q.val().plan;
            self.tries_written.next = self.beginning.q.val().retries;
        }
        self.plans.write.next = self.writes.val();
        self.plans.write_address.next = bit_cast::<16, 12>(self.of.val().slot);
        self.plans.write_data.next = self.written.val();
        self.avoided_queried.write.next = self.writes.val();
        self.avoided_queried.write_address.next = bit_cast::<16, 12>(self.of.val().slot);
        self.avoided_queried.write_data.next = self.written.val().avoided;
        self.tries.write.next = self.writes.val();
        self.tries.write_address.next =
            (bit_cast::<16, 12>(self.of.val().slot) << 3) | bit_cast::<16, 3>(self.of.val().component);
        self.tries.write_data.next = self.tries_written.val();
        self.idle.next = !self.begins.q.val();

        if self.reset.val() {
            self.admits.d.next = false;
            self.begins.d.next = false;
        }
    }
}
