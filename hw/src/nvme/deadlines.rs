//! Watches what paths were given: asks for a fence where an answer is overdue, and ends what was quiesced.
//!
//! What is outstanding (`LastUses`) is looked through, an identifier a cycle, when time has moved on by a unit of
//! 2^`TIME_OUT_SHIFT` ticks and something with a time-out is outstanding that was not overdue at the last look; and
//! for every `quiesce`.
//!
//! The first fragment on a path that is overdue makes the path `suspect` and asks for a `fence`; more is asked when the
//! path's table entry was written, not before. An overdue fragment stays outstanding: it can be answered yet.
//!
//! `quiesce` names a path of which nothing is executed any more that was given to it before its table entry was last
//! written as valid, or, while it is not valid, at all. All of that goes to `abort`, as if answered with Command
//! Aborted due to SQ Deletion; an answer that came first has won. `quiesced` is a pulse when all of it was taken.
//!
//! Latency: a look takes 2^`id_bits` + 8 cycles, and 8 for each fragment that it finds, as long as `abort` and `fence`
//! are taken at once. Reset: as that of `LastUses`, and no path is suspect.

use rust_hdl::prelude::*;
use volplane_abi::plan::plan_status;

use super::fragment_ids::FragmentId;
use super::last_uses::LastUses;
use super::path_write::PathWrite;
use crate::prim::stream::StreamOut;
use crate::records::{IdRecord, TableRequest, WindowEvent};
use crate::sizes::Sizes;

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Rest,
    Look,
    /// What is still being read.
    Drain,
    /// Hands over what was found.
    Abort,
    Fence,
    End,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Deadlines {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub initialised: Signal<Out, bool>,
    /// Ticks since power-up, modulo 2^32.
    pub ticks: Signal<In, Bits<32>>,
    pub record_valid: Signal<In, bool>,
    pub record_index: Signal<In, Bits<11>>,
    pub record: Signal<In, IdRecord>,
    pub record_terms: Signal<In, Bits<16>>,
    pub accepted_valid: Signal<In, bool>,
    pub accepted_id: Signal<In, Bits<16>>,
    /// Bit i: path i has a valid entry.
    pub path_valid: Signal<In, Bits<32>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub quiesce_valid: Signal<In, bool>,
    pub quiesce_path: Signal<In, Bits<5>>,
    pub quiesced: Signal<Out, bool>,
    pub abort: StreamOut<WindowEvent>,
    pub fence: StreamOut<Bits<8>>,
    /// Bit i: a fence of path i was asked for.
    pub suspect: Signal<Out, Bits<32>>,
    /// Something may become overdue.
    pub timing: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,

    last_uses: LastUses,
    path_write: PathWrite,
    /// Bit i changes with every writing of path i's entry as valid.
    turns: DFF<Bits<32>>,
    suspects: DFF<Bits<32>>,
    /// A path's entry was written.
    written: DFF<bool>,
    written_path: DFF<Bits<5>>,
    written_valid: DFF<bool>,
    /// `path_valid`, in step with the turns: a path is open from the cycle on in which its turn has changed.
    opened: DFF<Bits<32>>,
    state: DFF<State>,
    /// The time of the last look.
    looked_at: DFF<Bits<16>>,
    look_due: DFF<bool>,
    idle_register: DFF<bool>,
    quiescing: DFF<bool>,
    quiesce_waits: DFF<bool>,
    quiesced_path: DFF<Bits<5>>,
    timing_register: DFF<bool>,
    /// This look has found something that may become overdue.
    waits: DFF<bool>,
    // The look: the next identifier, those being read, and the one that is known.
    next_index: DFF<Bits<12>>,
    looking1: DFF<bool>,
    looked1: DFF<Bits<11>>,
    looking2: DFF<bool>,
    looked2: DFF<Bits<11>>,
    looking3: DFF<bool>,
    looked3: DFF<Bits<11>>,
    // What is known of its path.
    looking4: DFF<bool>,
    looked4: DFF<Bits<11>>,
    generation4: DFF<Bits<5>>,
    path4: DFF<Bits<5>>,
    overdue4: DFF<bool>,
    quiet4: DFF<bool>,
    turned4: DFF<bool>,
    valid4: DFF<bool>,
    suspect4: DFF<bool>,
    // Put together.
    looking5: DFF<bool>,
    looked5: DFF<Bits<11>>,
    generation5: DFF<Bits<5>>,
    path5: DFF<Bits<5>>,
    late5: DFF<bool>,
    over5: DFF<bool>,
    found: DFF<FragmentId>,
    found_path: DFF<Bits<5>>,
    abort_valid: DFF<bool>,
    abort_path: DFF<Bits<5>>,
    abort_id: DFF<Bits<16>>,
    done: DFF<bool>,

    is_overdue: Signal<Local, bool>,
    written_bit: Signal<Local, Bits<32>>,
    path3_bit: Signal<Local, Bits<32>>,
    found_bit: Signal<Local, Bits<32>>,
    current4: Signal<Local, bool>,
    finds: Signal<Local, bool>,
    flowing: Signal<Local, bool>,
    status: Constant<Bits<15>>,
    identifiers: Constant<Bits<12>>,
    last_index: Constant<Bits<12>>,
    no_position: Constant<Bits<12>>,
    no_head: Constant<Bits<16>>,
    zero12: Constant<Bits<12>>,
    one12: Constant<Bits<12>>,
    zero32: Constant<Bits<32>>,
    one32: Constant<Bits<32>>,
    flag: Constant<Bits<1>>,
}

impl Deadlines {
    /// For the identifiers and paths of a build.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            initialised: Default::default(),
            ticks: Default::default(),
            record_valid: Default::default(),
            record_index: Default::default(),
            record: Default::default(),
            record_terms: Default::default(),
            accepted_valid: Default::default(),
            accepted_id: Default::default(),
            path_valid: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            quiesce_valid: Default::default(),
            quiesce_path: Default::default(),
            quiesced: Default::default(),
            abort: Default::default(),
            fence: Default::default(),
            suspect: Default::default(),
            timing: Default::default(),
            idle: Default::default(),
            last_uses: LastUses::new(sizes),
            path_write: PathWrite::new(sizes),
            turns: Default::default(),
            suspects: Default::default(),
            written: Default::default(),
            written_path: Default::default(),
            written_valid: Default::default(),
            opened: Default::default(),
            state: Default::default(),
            looked_at: Default::default(),
            look_due: Default::default(),
            idle_register: Default::default(),
            quiescing: Default::default(),
            quiesce_waits: Default::default(),
            quiesced_path: Default::default(),
            timing_register: Default::default(),
            waits: Default::default(),
            next_index: Default::default(),
            looking1: Default::default(),
            looked1: Default::default(),
            looking2: Default::default(),
            looked2: Default::default(),
            looking3: Default::default(),
            looked3: Default::default(),
            looking4: Default::default(),
            looked4: Default::default(),
            generation4: Default::default(),
            path4: Default::default(),
            overdue4: Default::default(),
            quiet4: Default::default(),
            turned4: Default::default(),
            valid4: Default::default(),
            suspect4: Default::default(),
            looking5: Default::default(),
            looked5: Default::default(),
            generation5: Default::default(),
            path5: Default::default(),
            late5: Default::default(),
            over5: Default::default(),
            found: Default::default(),
            found_path: Default::default(),
            abort_valid: Default::default(),
            abort_path: Default::default(),
            abort_id: Default::default(),
            done: Default::default(),
            is_overdue: Default::default(),
            written_bit: Default::default(),
            path3_bit: Default::default(),
            found_bit: Default::default(),
            current4: Default::default(),
            finds: Default::default(),
            flowing: Default::default(),
            status: Constant::new(u64::from(plan_status::ABORTED_SQ_DELETION).to_bits()),
            identifiers: Constant::new((1u64 << sizes.id_bits).to_bits()),
            last_index: Constant::new(((1u64 << sizes.id_bits) - 1).to_bits()),
            no_position: Constant::new(0u64.to_bits()),
            no_head: Constant::new(0u64.to_bits()),
            zero12: Constant::new(0u64.to_bits()),
            one12: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for Deadlines {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, turns, suspects, written, written_path, written_valid, state, looked_at);
        dff_setup!(self, clock, look_due, idle_register, quiescing, quiesce_waits, quiesced_path);
        dff_setup!(self, clock, timing_register, waits, next_index, looking1, looked1, looking2, looked2);
        dff_setup!(self, clock, looking3, looked3, looking4, looked4, generation4, path4, overdue4, quiet4);
        dff_setup!(
            self,
            clock,
            turned4,
            valid4,
            suspect4,
            looking5,
            looked5,
            generation5,
            path5,
            late5,
            over5
        );
        dff_setup!(self, clock, opened, found, found_path, abort_valid, abort_path, abort_id, done);
        clock!(self, clock, last_uses, path_write);
        self.last_uses.reset.next = self.reset.val();
        self.initialised.next = self.last_uses.initialised.val();
        self.last_uses.ticks.next = self.ticks.val();
        self.last_uses.record_valid.next = self.record_valid.val();
        self.last_uses.record_index.next = self.record_index.val();
        self.last_uses.record.next = self.record.val();
        self.last_uses.record_terms.next = self.record_terms.val();
        self.last_uses.accepted_valid.next = self.accepted_valid.val();
        self.last_uses.accepted_id.next = self.accepted_id.val();
        self.last_uses.turns.next = self.turns.q.val();
        self.path_write.table_valid.next = self.table_valid.val();
        self.path_write.table_request.next = self.table_request.val();

        // A path's entry is written.
        self.written.d.next = self.path_write.written.val();
        self.written_path.d.next = self.path_write.path.val().get_bits::<5>(0);
        self.written_valid.d.next = (self.path_write.entry.val().valid == self.flag.val());
        self.written_bit.next = (self.one32.val() << bit_cast::<32, 5>(self.written_path.q.val()));
        self.found_bit.next = (self.one32.val() << bit_cast::<32, 5>(self.found_path.q.val()));
        if self.written.q.val() {
            self.suspects.d.next = self.suspects.q.val() & !self.written_bit.val();
            if self.written_valid.q.val() {
                self.turns.d.next = self.turns.q.val() ^ self.written_bit.val();
            }
        }
        self.suspect.next = self.suspects.q.val();

        // The look: an identifier a cycle; what is known of it, then of its path.
        self.last_uses.at.next = bit_cast::<11, 12>(self.next_index.q.val());
        self.looking1.d.next = (self.state.q.val() == State::Look);
        self.looked1.d.next = bit_cast::<11, 12>(self.next_index.q.val());
        self.looking2.d.next = self.looking1.q.val();
        self.looked2.d.next = self.looked1.q.val();
        self.looking3.d.next = self.looking2.q.val();
        self.looked3.d.next = self.looked2.q.val();
        self.is_overdue.next = self.last_uses.is_timed.val() & self.last_uses.is_due.val();
        self.path3_bit.next = (self.one32.val() << bit_cast::<32, 5>(self.last_uses.path.val()));
        self.looking4.d.next = self.looking3.q.val();
        self.looked4.d.next = self.looked3.q.val();
        self.generation4.d.next = self.last_uses.generation.val();
        self.path4.d.next = self.last_uses.path.val();
        self.overdue4.d.next = self.last_uses.is_outstanding.val() & self.is_overdue.val();
        self.quiet4.d.next = self.last_uses.is_outstanding.val()
            & self.quiescing.q.val()
            & (self.last_uses.path.val() == self.quiesced_path.q.val());
        self.turned4.d.next =
            ((self.turns.q.val() & self.path3_bit.val()).any() != self.last_uses.turn.val());
        self.opened.d.next = self.path_valid.val();
        self.valid4.d.next = (self.opened.q.val() & self.path3_bit.val()).any();
        self.suspect4.d.next = (self.suspects.q.val() & self.path3_bit.val()).any();
        self.looking5.d.next = self.looking4.q.val();
        self.looked5.d.next = self.looked4.q.val();
        self.generation5.d.next = self.generation4.q.val();
        self.path5.d.next = self.path4.q.val();
        self.current4.next = self.valid4.q.val() & !self.turned4.q.val();
        self.late5.d.next = self.overdue4.q.val() & self.current4.val() & !self.suspect4.q.val();
        self.over5.d.next = self.quiet4.q.val() & !self.current4.val();
        if self.looking3.q.val()
            & self.last_uses.is_outstanding.val()
            & self.last_uses.is_timed.val()
            & !self.last_uses.is_due.val()
        {
            self.waits.d.next = true;
        }
        self.finds.next = self.looking5.q.val() & (self.late5.q.val() | self.over5.q.val());
        self.flowing.next = self.looking1.q.val()
            | self.looking2.q.val()
            | self.looking3.q.val()
            | self.looking4.q.val()
            | self.looking5.q.val();

        self.look_due.d.next =
            self.timing_register.q.val() & (self.last_uses.moment.val() != self.looked_at.q.val());
        self.done.d.next = false;
        if self.quiesce_valid.val() {
            self.quiesce_waits.d.next = true;
            self.quiesced_path.d.next = self.quiesce_path.val();
        }
        match self.state.q.val() {
            State::Rest => {
                self.next_index.d.next = self.zero12.val();
                self.quiescing.d.next = self.quiesce_waits.q.val();
                self.waits.d.next = false;
                if self.quiesce_waits.q.val() | self.look_due.q.val() {
                    self.looked_at.d.next = self.last_uses.moment.val();
                    self.timing_register.d.next = false;
                    self.state.d.next = State::Look;
                }
            }
            State::Look => {
                self.next_index.d.next = self.next_index.q.val() + self.one12.val();
                if (self.next_index.q.val() == self.last_index.val()) {
                    self.state.d.next = State::Drain;
                }
            }
            State::Drain => {
                if !self.flowing.val() {
                    self.state.d.next = State::End;
                }
            }
            State::Abort => {
                if !self.abort_valid.q.val() {
                    self.abort_valid.d.next = true;
                    self.abort_path.d.next = self.found_path.q.val();
                    self.abort_id.d.next = self.found.q.val().into();
                    self.state.d.next = State::Look;
                    if (self.next_index.q.val() == self.identifiers.val()) {
                        self.state.d.next = State::Drain;
                    }
                }
            }
            State::Fence => {
                if self.fence.ready.val() {
                    self.suspects.d.next = self.suspects.q.val() | self.found_bit.val();
                    self.state.d.next = State::Look;
                    if (self.next_index.q.val() == self.identifiers.val()) {
                        self.state.d.next = State::Drain;
                    }
                }
            }
            State::End => {
                if !self.abort_valid.q.val() {
                    self.state.d.next = State::Rest;
                    self.done.d.next = self.quiescing.q.val();
                    if self.quiescing.q.val() {
                        self.quiesce_waits.d.next = false;
                    }
                }
                if self.waits.q.val() {
                    self.timing_register.d.next = true;
                }
            }
            _ => {}
        }
        // Something is found: what follows it is looked at again.
        if self.finds.val() {
            self.found.d.next.index = self.looked5.q.val();
            self.found.d.next.generation = self.generation5.q.val();
            self.found_path.d.next = self.path5.q.val();
            self.state.d.next = State::Fence;
            if self.over5.q.val() {
                self.state.d.next = State::Abort;
            }
            self.looking1.d.next = false;
            self.looking2.d.next = false;
            self.looking3.d.next = false;
            self.looking4.d.next = false;
            self.looking5.d.next = false;
            self.next_index.d.next = bit_cast::<12, 11>(self.looked5.q.val()) + self.one12.val();
        }
        if self.last_uses.timed_issued.val() {
            self.timing_register.d.next = true;
        }
        self.timing.next = self.timing_register.q.val();

        self.abort.valid.next = self.abort_valid.q.val();
        if self.abort.ready.val() & self.abort_valid.q.val() {
            self.abort_valid.d.next = false;
        }
        self.abort.data.next.path = bit_cast::<8, 5>(self.abort_path.q.val());
        self.abort.data.next.position = self.no_position.val();
        self.abort.data.next.command_id = self.abort_id.q.val();
        self.abort.data.next.sq_head = self.no_head.val();
        self.abort.data.next.status = self.status.val();
        self.fence.valid.next = (self.state.q.val() == State::Fence);
        self.fence.data.next = bit_cast::<8, 5>(self.found_path.q.val());
        self.quiesced.next = self.done.q.val();
        self.idle_register.d.next = (self.state.q.val() == State::Rest)
            & self.last_uses.idle.val()
            & !self.quiesce_waits.q.val()
            & !self.abort_valid.q.val()
            & !self.done.q.val()
            & !self.look_due.q.val();
        self.idle.next = self.idle_register.q.val()
            & self.last_uses.idle.val()
            & !self.quiesce_waits.q.val()
            & !self.look_due.q.val();

        if self.reset.val() {
            self.turns.d.next = self.zero32.val();
            self.suspects.d.next = self.zero32.val();
            self.state.d.next = State::Rest;
            self.quiesce_waits.d.next = false;
            self.timing_register.d.next = false;
            self.look_due.d.next = false;
            self.idle_register.d.next = false;
            self.written.d.next = false;
            self.abort_valid.d.next = false;
            self.looking1.d.next = false;
            self.looking2.d.next = false;
            self.looking3.d.next = false;
            self.looking4.d.next = false;
            self.looking5.d.next = false;
            self.done.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
