//! What each identifier was last used for, and whether that is outstanding.
//!
//! `record_valid` tells of a fragment as it is issued, `accepted_valid` of one that came back. `at` names an identifier;
//! what is known of it stands at the other outputs 3 cycles later: `is_due` by the time of then.
//!
//! A fragment is due when its component's time-out has passed, rounded up by one to two units of 2^`TIME_OUT_SHIFT`
//! ticks: it was rounded down, and began within a unit. Reset: nothing is outstanding; a walk of 2^`id_bits` cycles
//! forgets what was, `initialised` tells its end.

use rust_hdl::prelude::*;
use volplane_abi::plan::TIME_OUT_SHIFT;

use super::fragment_ids::FragmentId;
use crate::logic_record;
use crate::prim::ram::BlockRam;
use crate::records::{IdRecord, PartTerms};
use crate::sizes::Sizes;

logic_record! {
    /// An identifier's last use.
    LastUse: 29 {
        /// Generation.
        generation = 5,
        /// Path.
        path = 5,
        /// Turn of its path.
        turn = 1,
        /// Time from which it is due;
        deadline = 16,
        /// 0: never.
        timed = 1,
        /// 1: there was one since reset.
        used = 1,
    }
}

logic_record! {
    /// An identifier's last return.
    LastBack: 6 {
        /// Generation.
        generation = 5,
        /// 1: there was one since reset.
        returned = 1,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct LastUses {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub initialised: Signal<Out, bool>,
    /// Ticks since power-up, modulo 2^32.
    pub ticks: Signal<In, Bits<32>>,
    /// The time by which fragments are due, in units of 2^`TIME_OUT_SHIFT` ticks: a cycle behind `ticks`.
    pub moment: Signal<Out, Bits<16>>,
    pub record_valid: Signal<In, bool>,
    pub record_index: Signal<In, Bits<11>>,
    pub record: Signal<In, IdRecord>,
    pub record_terms: Signal<In, Bits<16>>,
    /// A fragment with a time-out was issued.
    pub timed_issued: Signal<Out, bool>,
    pub accepted_valid: Signal<In, bool>,
    pub accepted_id: Signal<In, Bits<16>>,
    /// Bit i: turn of path i, which a fragment that is issued takes over.
    pub turns: Signal<In, Bits<32>>,
    pub at: Signal<In, Bits<11>>,
    pub generation: Signal<Out, Bits<5>>,
    pub path: Signal<Out, Bits<5>>,
    pub turn: Signal<Out, bool>,
    pub is_outstanding: Signal<Out, bool>,
    pub is_timed: Signal<Out, bool>,
    pub is_due: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,

    uses: BlockRam<LastUse>,
    backs: BlockRam<LastBack>,
    walking: DFF<bool>,
    walk_index: DFF<Bits<16>>,
    now: DFF<Bits<16>>,
    /// The time with what a time-out is rounded up by.
    late_now: DFF<Bits<16>>,
    // A fragment on its way into the memory.
    issued1: DFF<bool>,
    index1: DFF<Bits<11>>,
    record1: DFF<IdRecord>,
    terms1: DFF<Bits<16>>,
    issued2: DFF<bool>,
    index2: DFF<Bits<11>>,
    use2: DFF<LastUse>,
    // What was read.
    generation3: DFF<Bits<5>>,
    path3: DFF<Bits<5>>,
    turn3: DFF<bool>,
    outstanding3: DFF<bool>,
    timed3: DFF<bool>,
    due3: DFF<bool>,

    units: Signal<Local, Bits<16>>,
    terms: Signal<Local, PartTerms>,
    path1: Signal<Local, Bits<8>>,
    path_low: Signal<Local, Bits<5>>,
    accepted: Signal<Local, FragmentId>,
    read_use: Signal<Local, LastUse>,
    read_back: Signal<Local, LastBack>,
    since: Signal<Local, Bits<16>>,
    slack: Constant<Bits<16>>,
    last_index: Constant<Bits<16>>,
    unused: Constant<LastUse>,
    never: Constant<LastBack>,
    zero16: Constant<Bits<16>>,
    one16: Constant<Bits<16>>,
    flag: Constant<Bits<1>>,
}

impl LastUses {
    /// For the identifiers and paths of a build.
    pub fn new(sizes: &Sizes) -> Self {
        assert!(sizes.id_bits <= 11 && sizes.path_bits <= 5, "2^{} identifiers", sizes.id_bits);
        // Units are taken out of ticks as they stand.
        const { assert!(TIME_OUT_SHIFT == 10) };
        Self {
            clock: Default::default(),
            reset: Default::default(),
            initialised: Default::default(),
            ticks: Default::default(),
            moment: Default::default(),
            record_valid: Default::default(),
            record_index: Default::default(),
            record: Default::default(),
            record_terms: Default::default(),
            timed_issued: Default::default(),
            accepted_valid: Default::default(),
            accepted_id: Default::default(),
            turns: Default::default(),
            at: Default::default(),
            generation: Default::default(),
            path: Default::default(),
            turn: Default::default(),
            is_outstanding: Default::default(),
            is_timed: Default::default(),
            is_due: Default::default(),
            idle: Default::default(),
            uses: BlockRam::new(sizes.id_bits),
            backs: BlockRam::new(sizes.id_bits),
            walking: Default::default(),
            walk_index: Default::default(),
            now: Default::default(),
            late_now: Default::default(),
            issued1: Default::default(),
            index1: Default::default(),
            record1: Default::default(),
            terms1: Default::default(),
            issued2: Default::default(),
            index2: Default::default(),
            use2: Default::default(),
            generation3: Default::default(),
            path3: Default::default(),
            turn3: Default::default(),
            outstanding3: Default::default(),
            timed3: Default::default(),
            due3: Default::default(),
            units: Default::default(),
            terms: Default::default(),
            path1: Default::default(),
            path_low: Default::default(),
            accepted: Default::default(),
            read_use: Default::default(),
            read_back: Default::default(),
            since: Default::default(),
            slack: Constant::new(2u64.to_bits()),
            last_index: Constant::new(((1u64 << sizes.id_bits) - 1).to_bits()),
            unused: Constant::new(LastUse::default()),
            never: Constant::new(LastBack::default()),
            zero16: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for LastUses {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self, clock, walking, walk_index, now, late_now, issued1, index1, record1, terms1, issued2
        );
        dff_setup!(self, clock, index2, use2, generation3, path3, turn3, outstanding3, timed3, due3);
        clock!(self, clock, uses, backs);
        self.units.next = self.ticks.val().get_bits::<16>(10);
        self.now.d.next = self.units.val();
        self.late_now.d.next = self.units.val() + self.slack.val();
        self.moment.next = self.now.q.val();

        // A fragment is issued, another one came back.
        self.issued1.d.next = self.record_valid.val();
        self.index1.d.next = self.record_index.val();
        self.record1.d.next = self.record.val();
        self.terms1.d.next = self.record_terms.val();
        self.terms.next = self.terms1.q.val().into();
        self.path1.next = self.record1.q.val().path;
        self.path_low.next = self.path1.val().get_bits::<5>(0);
        self.issued2.d.next = self.issued1.q.val();
        self.index2.d.next = self.index1.q.val();
        self.use2.d.next.generation = self.record1.q.val().generation;
        self.use2.d.next.path = self.path_low.val();
        self.use2.d.next.turn = self.turns.val().get_bit(self.path_low.val().index()).into();
        self.use2.d.next.deadline = self.late_now.q.val() + bit_cast::<16, 14>(self.terms.val().time_out);
        self.use2.d.next.timed = self.terms.val().timed;
        self.use2.d.next.used = self.flag.val();
        self.timed_issued.next = self.issued1.q.val() & (self.terms.val().timed == self.flag.val());
        self.uses.write.next = self.issued2.q.val() | self.walking.q.val();
        self.uses.write_address.next = bit_cast::<16, 11>(self.index2.q.val());
        self.uses.write_data.next = self.use2.q.val();
        self.accepted.next = self.accepted_id.val().into();
        self.backs.write.next = self.accepted_valid.val() | self.walking.q.val();
        self.backs.write_address.next = bit_cast::<16, 11>(self.accepted.val().index);
        self.backs.write_data.next.generation = self.accepted.val().generation;
        self.backs.write_data.next.returned = self.flag.val();
        if self.walking.q.val() {
            self.uses.write_address.next = self.walk_index.q.val();
            self.uses.write_data.next = self.unused.val();
            self.backs.write_address.next = self.walk_index.q.val();
            self.backs.write_data.next = self.never.val();
            self.walk_index.d.next = self.walk_index.q.val() + self.one16.val();
            self.walking.d.next = (self.walk_index.q.val() != self.last_index.val());
        }
        self.initialised.next = !self.walking.q.val();

        // What is known of an identifier.
        self.uses.read_address.next = bit_cast::<16, 11>(self.at.val());
        self.backs.read_address.next = bit_cast::<16, 11>(self.at.val());
        self.read_use.next = self.uses.read_data.val();
        self.read_back.next = self.backs.read_data.val();
        self.generation3.d.next = self.read_use.val().generation;
        self.path3.d.next = self.read_use.val().path;
        self.turn3.d.next = (self.read_use.val().turn == self.flag.val());
        self.outstanding3.d.next = (self.read_use.val().used == self.flag.val())
            & ((self.read_back.val().generation != self.read_use.val().generation)
                | (self.read_back.val().returned != self.flag.val()));
        self.timed3.d.next = (self.read_use.val().timed == self.flag.val());
        self.since.next = self.now.q.val() - self.read_use.val().deadline;
        self.due3.d.next = !self.since.val().get_bit(15);
        self.generation.next = self.generation3.q.val();
        self.path.next = self.path3.q.val();
        self.turn.next = self.turn3.q.val();
        self.is_outstanding.next = self.outstanding3.q.val();
        self.is_timed.next = self.timed3.q.val();
        self.is_due.next = self.due3.q.val();
        self.idle.next = !self.walking.q.val() & !self.issued1.q.val() & !self.issued2.q.val();

        if self.reset.val() {
            self.walking.d.next = true;
            self.walk_index.d.next = self.zero16.val();
            self.issued1.d.next = false;
            self.issued2.d.next = false;
        }
    }
}
