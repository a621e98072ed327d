//! The four quarters of an exception record, one at a time in one register of 64 bytes.
//!
//! `load` takes what `kind` says: the command, the tail, or one component, which moves the register on by a
//! quarter of its width, so that four of them fill it, the first in the lowest bytes. Latency 2 cycles: what is
//! to be done stands in registers first, on which 512 bits hang. No reset.

use rust_hdl::prelude::*;

use super::record_writer::PartOutcome;
use crate::prim::register::Register;
use crate::records::{ClientCommand, ExceptionComponent, ExceptionTail, RecordItem, SubmissionEntry};

/// What is loaded.
#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
pub enum PieceKind {
    /// The client's command.
    Command,
    /// A component.
    Component,
    /// The tail.
    Tail,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct RecordPieces {
    pub clock: Signal<In, Clock>,
    pub load: Signal<In, bool>,
    pub kind: Signal<In, PieceKind>,
    pub item: Signal<In, RecordItem>,
    pub command: Signal<In, ClientCommand>,
    pub outcome: Signal<In, PartOutcome>,
    /// Whether the component has anything to be shown.
    pub outcome_shown: Signal<In, bool>,
    pub phase: Signal<In, bool>,
    pub piece: Signal<Out, Bits<512>>,

    register: Register<Bits<512>>,
    loads: DFF<bool>,
    loads_command: DFF<bool>,
    loads_tail: DFF<bool>,
    moving_in: DFF<Bits<128>>,
    entry: Signal<Local, SubmissionEntry>,
    component: Signal<Local, ExceptionComponent>,
    component_bits: Signal<Local, Bits<128>>,
    tail: Signal<Local, ExceptionTail>,
    blocks_z: Signal<Local, Bits<17>>,
    no_entry: Constant<SubmissionEntry>,
    no_component: Constant<ExceptionComponent>,
    no_tail: Constant<ExceptionTail>,
    one17: Constant<Bits<17>>,
    zero17: Constant<Bits<17>>,
    flag: Constant<Bits<1>>,
}

impl Default for RecordPieces {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            load: Default::default(),
            kind: Default::default(),
            item: Default::default(),
            command: Default::default(),
            outcome: Default::default(),
            outcome_shown: Default::default(),
            phase: Default::default(),
            piece: Default::default(),
            register: Default::default(),
            loads: Default::default(),
            loads_command: Default::default(),
            loads_tail: Default::default(),
            moving_in: Default::default(),
            entry: Default::default(),
            component: Default::default(),
            component_bits: Default::default(),
            tail: Default::default(),
            blocks_z: Default::default(),
            no_entry: Constant::new(SubmissionEntry::default()),
            no_component: Constant::new(ExceptionComponent::default()),
            no_tail: Constant::new(ExceptionTail::default()),
            one17: Constant::new(1u64.to_bits()),
            zero17: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for RecordPieces {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, loads, loads_command, loads_tail, moving_in);
        clock!(self, clock, register);
        self.blocks_z.next = self.command.val().blocks - self.one17.val();
        // Of a Flush, and of what hardware does not execute, there are none.
        if (self.command.val().blocks == self.zero17.val()) {
            self.blocks_z.next = self.zero17.val();
        }
        self.entry.next = self.no_entry.val();
        self.entry.next.opcode = self.command.val().opcode;
        self.entry.next.command_id = self.command.val().command_id;
        self.entry.next.namespace_id = self.command.val().namespace_id;
        self.entry.next.prp1 = self.command.val().prp1;
        self.entry.next.prp2 = self.command.val().prp2;
        self.entry.next.starting_lba = self.command.val().lba;
        self.entry.next.block_count_z = bit_cast::<16, 17>(self.blocks_z.val());
        self.entry.next.deallocate = self.command.val().deallocate;
        self.entry.next.force_unit_access = self.command.val().force_unit_access;
        self.entry.next.limited_retry = self.command.val().limited_retry;
        self.entry.next.cdw13 = self.command.val().cdw13;

        self.component.next = self.no_component.val();
        if self.outcome_shown.val() {
            self.component.next.status = self.outcome.val().status;
            self.component.next.closed = self.outcome.val().closed;
            self.component.next.path = self.outcome.val().path;
            self.component.next.fragment = bit_cast::<32, 17>(self.outcome.val().ordinal);
        }
        self.component_bits.next = self.component.val().into();

        self.tail.next = self.no_tail.val();
        self.tail.next.slot = bit_cast::<16, 12>(self.item.val().slot);
        self.tail.next.reasons = self.item.val().reasons;
        self.tail.next.generation = self.item.val().generation;
        // What asks for a fence has a path in place of the disk.
        if (self.item.val().fence == self.flag.val()) {
            self.tail.next.fence = self.flag.val();
            self.tail.next.path = bit_cast::<8, 16>(self.item.val().disk);
        } else {
            self.tail.next.disk = self.item.val().disk;
        }
        self.tail.next.plan = self.item.val().plan;
        self.tail.next.queue = bit_cast::<16, 8>(self.command.val().queue);
        self.tail.next.command_id = self.command.val().command_id;
        self.tail.next.epoch = self.item.val().epoch;
        self.tail.next.blocks = bit_cast::<32, 17>(self.command.val().blocks);
        self.tail.next.begun = self.item.val().begun;
        self.tail.next.done = self.item.val().done;
        self.tail.next.failed = self.item.val().failed;
        self.tail.next.refused = self.item.val().refused;
        self.tail.next.stopped = self.item.val().stopped;
        self.tail.next.readable = self.item.val().readable;
        self.tail.next.present = self.item.val().present;
        self.tail.next.out = self.item.val().out;
        self.tail.next.owned = self.item.val().owned;
        self.tail.next.held = self.item.val().held;
        self.tail.next.deactivated = self.item.val().deactivated;
        if self.phase.val() {
            self.tail.next.phase = self.flag.val();
        }
        self.tail.next.status = self.item.val().status;

        // The item and the command stand still.
        self.loads.d.next = self.load.val();
        self.loads_command.d.next = (self.kind.val() == PieceKind::Command);
        self.loads_tail.d.next = (self.kind.val() == PieceKind::Tail);
        self.moving_in.d.next = self.component_bits.val();
        self.register.load.next = self.loads.q.val();
        self.register.d.next =
            (self.register.q.val() >> 128) | (bit_cast::<512, 128>(self.moving_in.q.val()) << 384);
        if self.loads_command.q.val() {
            self.register.d.next = self.entry.val().into();
        } else if self.loads_tail.q.val() {
            self.register.d.next = self.tail.val().into();
        }
        self.piece.next = self.register.q.val();
    }
}
