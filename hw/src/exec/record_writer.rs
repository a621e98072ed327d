//! Posts the records of the exception ring.
//!
//! `item` says what is to be told of a plan, `fence` which path wants one; an item is always taken, and waits
//! here while the ring is full, so that a full ring delays only what needs a record. `outcome` tells of every
//! part as it ends. The plan's command comes from `CommandStore` (`fetch`, `fetched`). A record is four writes
//! in order of address, the phase tag in the last; then the vector is raised, and a plan that ends with its
//! record is `done`.
//!
//! Software sets `head` to the record it reads next; the ring is full when the record after the tail is that
//! one. `entries_z` of 0: there is no ring, nothing is posted. While `enable` is clear the ring begins anew.
//!
//! Latency: 29 cycles from `item` to the last write, with nothing before it and an answer of `fetch` after 2.
//! Ordering: that of `item`. Reset drops everything; the ring begins anew.

use rust_hdl::prelude::*;
use volplane_abi::plan::{reason, COMPONENTS_MAX, EXCEPTION_BYTES};

use super::record_pieces::{PieceKind, RecordPieces};
use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::ram::BlockRam;
use crate::prim::register::Register;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{ClientCommand, Part, PartDone, PlanDone, RecordItem, WideWrite};
use crate::sizes::Sizes;

logic_record! {
    /// What a part ended with.
    PartOutcome: 41 {
        /// Status field.
        status = 15,
        /// 1: the card's own.
        closed = 1,
        /// Path.
        path = 8,
        /// Number of the fragment.
        ordinal = 17,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    /// For room in the ring.
    Room,
    Fetch,
    Fetched,
    /// Asks for components, and takes them as they come.
    Components,
    Tail,
    /// The piece is there in the next cycle.
    Loading,
    Write,
    Raise,
    Done,
    /// On to the next item.
    Next,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct RecordWriter {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub item: StreamIn<RecordItem>,
    pub fence: StreamIn<Bits<8>>,
    pub outcome_valid: Signal<In, bool>,
    pub outcome: Signal<In, PartDone>,
    pub fetch: StreamOut<Bits<12>>,
    pub fetched_valid: Signal<In, bool>,
    pub fetched: Signal<In, ClientCommand>,
    pub base: Signal<In, Bits<64>>,
    pub entries_z: Signal<In, Bits<16>>,
    pub ring_vector: Signal<In, Bits<8>>,
    pub ring_interrupt: Signal<In, bool>,
    pub head: Signal<In, Bits<16>>,
    pub enable: Signal<In, bool>,
    pub write: StreamOut<WideWrite>,
    pub raise: StreamOut<Bits<8>>,
    pub done: StreamOut<PlanDone>,
    pub idle: Signal<Out, bool>,

    items: Fifo<RecordItem>,
    outcomes: BlockRam<PartOutcome>,
    pieces: RecordPieces,
    state: DFF<State>,
    command: Register<ClientCommand>,
    /// The quarter of the record that is next.
    quarter: DFF<Bits<2>>,
    /// The component that is asked for, and whether the ones before it are on their way.
    component: DFF<Bits<3>>,
    asked: DFF<Bits<3>>,
    asking: DFF<bool>,
    coming: DFF<Bits<2>>,
    coming_shown: DFF<Bits<2>>,
    address: DFF<Bits<64>>,
    tail: DFF<Bits<16>>,
    /// Right two cycles after `tail`, and `full` after three: the next record is not begun before.
    tail_next: DFF<Bits<16>>,
    at_end: DFF<bool>,
    phase: DFF<bool>,
    full: DFF<bool>,
    no_ring: DFF<bool>,

    current: Signal<Local, RecordItem>,
    ended: Signal<Local, Part>,
    shown: Signal<Local, Bits<8>>,
    is_shown: Signal<Local, bool>,
    is_fence: Signal<Local, bool>,
    last_write: Signal<Local, bool>,
    last_quarter: Constant<Bits<2>>,
    first_quarter: Constant<Bits<2>>,
    one2: Constant<Bits<2>>,
    zero2: Constant<Bits<2>>,
    one3: Constant<Bits<3>>,
    zero3: Constant<Bits<3>>,
    low_components: Constant<Bits<3>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    asks_fence: Constant<RecordItem>,
    no_command: Constant<ClientCommand>,
    flag: Constant<Bits<1>>,
}

impl RecordWriter {
    /// Records of 2^`slot_bits` plans.
    pub fn new(sizes: &Sizes) -> Self {
        // The address of a quarter is put together of bits.
        const { assert!(COMPONENTS_MAX == 8 && EXCEPTION_BYTES == 256) };
        let asks_fence = RecordItem {
            fence: 1u64.to_bits(),
            reasons: u64::from(reason::TIME_OUT).to_bits(),
            ..RecordItem::default()
        };
        Self {
            clock: Default::default(),
            reset: Default::default(),
            item: Default::default(),
            fence: Default::default(),
            outcome_valid: Default::default(),
            outcome: Default::default(),
            fetch: Default::default(),
            fetched_valid: Default::default(),
            fetched: Default::default(),
            base: Default::default(),
            entries_z: Default::default(),
            ring_vector: Default::default(),
            ring_interrupt: Default::default(),
            head: Default::default(),
            enable: Default::default(),
            write: Default::default(),
            raise: Default::default(),
            done: Default::default(),
            idle: Default::default(),
            items: Fifo::block(sizes.slot_bits, 2),
            outcomes: BlockRam::new(sizes.slot_bits + 3),
            pieces: Default::default(),
            state: Default::default(),
            command: Default::default(),
            quarter: Default::default(),
            component: Default::default(),
            asked: Default::default(),
            asking: Default::default(),
            coming: Default::default(),
            coming_shown: Default::default(),
            address: Default::default(),
            tail: Default::default(),
            tail_next: Default::default(),
            at_end: Default::default(),
            phase: Default::default(),
            full: Default::default(),
            no_ring: Default::default(),
            current: Default::default(),
            ended: Default::default(),
            shown: Default::default(),
            is_shown: Default::default(),
            is_fence: Default::default(),
            last_write: Default::default(),
            last_quarter: Constant::new(3u64.to_bits()),
            first_quarter: Constant::new(0u64.to_bits()),
            one2: Constant::new(1u64.to_bits()),
            zero2: Constant::new(0u64.to_bits()),
            one3: Constant::new(1u64.to_bits()),
            zero3: Constant::new(0u64.to_bits()),
            low_components: Constant::new(3u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            asks_fence: Constant::new(asks_fence),
            no_command: Constant::new(ClientCommand::default()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for RecordWriter {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            state,
            quarter,
            component,
            asked,
            asking,
            coming,
            coming_shown,
            address,
            tail
        );
        dff_setup!(self, clock, tail_next, at_end, phase, full, no_ring);
        clock!(self, clock, items, outcomes, pieces, command);
        self.items.reset.next = self.reset.val();
        // A plan has one record at a time under way: there is room for all but two slots.
        self.items.push.next = (self.item.valid.val() | self.fence.valid.val()) & self.items.room.val();
        self.items.data.next = self.item.data.val();
        if !self.item.valid.val() {
            self.items.data.next = self.asks_fence.val();
            self.items.data.next.disk = bit_cast::<16, 8>(self.fence.data.val());
        }
        self.item.ready.next = self.items.room.val();
        self.fence.ready.next = self.items.room.val() & !self.item.valid.val();
        self.current.next = self.items.out.data.val();
        self.items.out.ready.next = false;

        self.ended.next = self.outcome.val().part.into();
        self.outcomes.write.next = self.outcome_valid.val();
        self.outcomes.write_address.next =
            (bit_cast::<16, 12>(self.ended.val().slot) << 3) | bit_cast::<16, 3>(self.ended.val().component);
        self.outcomes.write_data.next.status = self.outcome.val().status;
        self.outcomes.write_data.next.closed = self.outcome.val().closed;
        self.outcomes.write_data.next.path = self.outcome.val().path;
        self.outcomes.write_data.next.ordinal = self.outcome.val().ordinal;
        self.outcomes.read_address.next =
            (bit_cast::<16, 12>(self.current.val().slot) << 3) | bit_cast::<16, 3>(self.component.q.val());

        // Where in the ring.
        self.address.d.next = self.base.val() + (bit_cast::<64, 16>(self.tail.q.val()) << 8);
        self.at_end.d.next = (self.tail.q.val() == self.entries_z.val());
        self.tail_next.d.next = self.tail.q.val() + self.one16.val();
        if self.at_end.q.val() {
            self.tail_next.d.next = self.zero16.val();
        }
        self.full.d.next = (self.tail_next.q.val() == self.head.val());
        self.no_ring.d.next = !self.entries_z.val().any();

        // A component's outcome comes two cycles after it was asked for.
        self.shown.next = self.current.val().failed | self.current.val().refused | self.current.val().stopped;
        self.is_shown.next = self.shown.val().get_bit(self.component.q.val().index());
        self.coming.d.next = (self.coming.q.val() << 1);
        self.coming_shown.d.next = (self.coming_shown.q.val() << 1);
        if self.asking.q.val() {
            self.coming.d.next = (self.coming.q.val() << 1) | self.one2.val();
            if self.is_shown.val() {
                self.coming_shown.d.next = (self.coming_shown.q.val() << 1) | self.one2.val();
            }
        }
        self.pieces.item.next = self.current.val();
        self.pieces.command.next = self.command.q.val();
        self.pieces.outcome.next = self.outcomes.read_data.val();
        self.pieces.outcome_shown.next = self.coming_shown.q.val().get_bit(1);
        self.pieces.phase.next = self.phase.q.val();
        self.pieces.load.next = self.coming.q.val().get_bit(1);
        self.pieces.kind.next = PieceKind::Component;
        self.is_fence.next = (self.current.val().fence == self.flag.val());
        self.command.load.next = self.fetched_valid.val() | self.is_fence.val();
        self.command.d.next = self.fetched.val();
        if self.is_fence.val() {
            self.command.d.next = self.no_command.val();
        }

        self.fetch.valid.next = (self.state.q.val() == State::Fetch);
        self.fetch.data.next = self.current.val().slot;
        self.write.valid.next = (self.state.q.val() == State::Write);
        self.write.data.next.address = self.address.q.val() | (bit_cast::<64, 2>(self.quarter.q.val()) << 6);
        self.write.data.next.data = self.pieces.piece.val();
        self.raise.valid.next = (self.state.q.val() == State::Raise);
        self.raise.data.next = self.ring_vector.val();
        self.done.valid.next = (self.state.q.val() == State::Done);
        self.done.data.next.slot = self.current.val().slot;
        self.done.data.next.status = self.current.val().status;
        self.last_write.next = (self.quarter.q.val() == self.last_quarter.val());
        match self.state.q.val() {
            State::Idle => {
                self.quarter.d.next = self.first_quarter.val();
                self.component.d.next = self.zero3.val();
                if self.items.out.valid.val() {
                    self.state.d.next = State::Room;
                }
            }
            State::Room => {
                if self.no_ring.q.val() {
                    self.state.d.next = State::Done;
                    if (self.current.val().completes != self.flag.val()) {
                        self.state.d.next = State::Next;
                    }
                } else if !self.full.q.val() & self.enable.val() {
                    self.state.d.next = State::Fetch;
                    if self.is_fence.val() {
                        self.state.d.next = State::Fetched;
                        self.asked.d.next = self.one3.val();
                    }
                }
            }
            State::Fetch => {
                if self.fetch.ready.val() {
                    self.state.d.next = State::Fetched;
                }
            }
            State::Fetched => {
                self.pieces.kind.next = PieceKind::Command;
                self.pieces.load.next = true;
                // The command stands in its register the cycle after it came.
                self.asked.d.next = self.zero3.val();
                if self.asked.q.val().any() {
                    self.state.d.next = State::Loading;
                    self.asked.d.next = self.zero3.val();
                } else if self.fetched_valid.val() {
                    self.asked.d.next = self.one3.val();
                }
            }
            State::Components => {
                self.asked.d.next = self.asked.q.val() + self.one3.val();
                self.asking.d.next = (self.asked.q.val() != self.low_components.val()) & self.asking.q.val();
                if self.asking.q.val() {
                    self.component.d.next = self.component.q.val() + self.one3.val();
                }
                // The last of four has come.
                if !self.asking.q.val() & !self.coming.q.val().get_bit(0) {
                    self.state.d.next = State::Loading;
                    self.asked.d.next = self.zero3.val();
                }
            }
            State::Tail => {
                self.pieces.kind.next = PieceKind::Tail;
                self.pieces.load.next = true;
                self.state.d.next = State::Loading;
            }
            State::Loading => {
                self.state.d.next = State::Write;
            }
            State::Write => {
                if self.write.ready.val() {
                    self.quarter.d.next = self.quarter.q.val() + self.one2.val();
                    self.state.d.next = State::Components;
                    self.asking.d.next = true;
                    if self.last_write.val() {
                        self.asking.d.next = false;
                        self.tail.d.next = self.tail_next.q.val();
                        if self.at_end.q.val() {
                            self.phase.d.next = !self.phase.q.val();
                        }
                        self.state.d.next = State::Done;
                        if self.ring_interrupt.val() {
                            self.state.d.next = State::Raise;
                        }
                    } else if self.quarter.q.val().get_bit(1) {
                        self.asking.d.next = false;
                        self.state.d.next = State::Tail;
                    }
                }
            }
            State::Raise => {
                if self.raise.ready.val() {
                    self.state.d.next = State::Done;
                }
            }
            State::Done => {
                // Nothing to be told to its client: done at once.
                if (self.current.val().completes != self.flag.val()) {
                    self.done.valid.next = false;
                    self.state.d.next = State::Next;
                } else if self.done.ready.val() {
                    self.state.d.next = State::Next;
                }
            }
            State::Next => {
                self.items.out.ready.next = true;
                self.state.d.next = State::Idle;
            }
            _ => {}
        }
        self.idle.next = (self.state.q.val() == State::Idle)
            & self.items.empty.val()
            & !self.item.valid.val()
            & !self.fence.valid.val();

        if !self.enable.val() | self.reset.val() {
            self.tail.d.next = self.zero16.val();
            self.phase.d.next = true;
        }
        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.asking.d.next = false;
            self.coming.d.next = self.zero2.val();
            self.asked.d.next = self.zero3.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use std::collections::{BTreeMap, VecDeque};
    use volplane_abi::opcode;

    const SLOTS: usize = 16;
    const BASE: u64 = 0x12_3456_7000;

    fn random_item(random: &mut ChaCha8Rng, slot: usize) -> RecordItem {
        let mut number = |bits: u32| random.random::<u64>() >> (64 - bits);
        RecordItem {
            slot: (slot as u64).to_bits(),
            generation: number(32).to_bits(),
            reasons: number(16).to_bits(),
            disk: number(16).to_bits(),
            plan: number(16).to_bits(),
            epoch: number(32).to_bits(),
            begun: number(8).to_bits(),
            done: number(8).to_bits(),
            failed: number(8).to_bits(),
            refused: number(8).to_bits(),
            stopped: number(8).to_bits(),
            readable: number(8).to_bits(),
            present: number(8).to_bits(),
            out: number(8).to_bits(),
            owned: number(1).to_bits(),
            held: number(1).to_bits(),
            deactivated: number(1).to_bits(),
            completes: number(1).to_bits(),
            status: number(15).to_bits(),
            ..Default::default()
        }
    }

    fn random_command(random: &mut ChaCha8Rng) -> ClientCommand {
        let opcode = [opcode::FLUSH, opcode::READ, opcode::WRITE, opcode::DATASET_MANAGEMENT]
            [random.random_range(0..4)];
        let blocks = if opcode == opcode::FLUSH { 0 } else { random.random_range(1..=65_536u64) };
        let mut number = |bits: u32| random.random::<u64>() >> (64 - bits);
        ClientCommand {
            queue: number(8).to_bits(),
            command_id: number(16).to_bits(),
            opcode: u64::from(opcode).to_bits(),
            namespace_id: number(32).to_bits(),
            prp1: number(64).to_bits(),
            prp2: number(64).to_bits(),
            lba: number(64).to_bits(),
            blocks: blocks.to_bits(),
            deallocate: number(1).to_bits(),
            force_unit_access: number(1).to_bits(),
            limited_retry: number(1).to_bits(),
            cdw13: number(32).to_bits(),
            ..Default::default()
        }
    }

    /// The 256 bytes that a record is.
    fn record(item: &RecordItem, command: &ClientCommand, outcomes: &[PartDone; 8], phase: u8) -> Vec<u8> {
        let blocks = command.blocks.to_u64();
        let entry = volplane_abi::SubmissionEntry::default()
            .with_opcode(command.opcode.to_u64() as u8)
            .with_command_id(command.command_id.to_u64() as u16)
            .with_namespace_id(command.namespace_id.to_u64() as u32)
            .with_prp1(command.prp1.to_u64())
            .with_prp2(command.prp2.to_u64())
            .with_starting_lba(command.lba.to_u64())
            .with_block_count_z(blocks.saturating_sub(1) as u16)
            .with_deallocate(command.deallocate.to_u64() as u8)
            .with_force_unit_access(command.force_unit_access.to_u64() as u8)
            .with_limited_retry(command.limited_retry.to_u64() as u8)
            .with_cdw13(command.cdw13.to_u64() as u32);
        let mut bytes = entry.0.to_vec();
        for (number, outcome) in outcomes.iter().enumerate() {
            let shown = item.failed.to_u64() | item.refused.to_u64() | item.stopped.to_u64();
            let shown = shown >> number & 1 == 1;
            let component = volplane_abi::ExceptionComponent::default()
                .with_status(outcome.status.to_u64() as u16)
                .with_closed(outcome.closed.to_u64() as u8)
                .with_path(outcome.path.to_u64() as u8)
                .with_fragment(outcome.ordinal.to_u64() as u32);
            bytes.extend(if shown { component.0 } else { [0; 16] });
        }
        let tail = volplane_abi::ExceptionTail::default()
            .with_slot(item.slot.to_u64() as u16)
            .with_reasons(item.reasons.to_u64() as u16)
            .with_generation(item.generation.to_u64() as u32)
            .with_disk(item.disk.to_u64() as u16)
            .with_plan(item.plan.to_u64() as u16)
            .with_queue(command.queue.to_u64() as u16)
            .with_command_id(command.command_id.to_u64() as u16)
            .with_epoch(item.epoch.to_u64() as u32)
            .with_blocks(blocks as u32)
            .with_begun(item.begun.to_u64() as u8)
            .with_done(item.done.to_u64() as u8)
            .with_failed(item.failed.to_u64() as u8)
            .with_refused(item.refused.to_u64() as u8)
            .with_stopped(item.stopped.to_u64() as u8)
            .with_readable(item.readable.to_u64() as u8)
            .with_present(item.present.to_u64() as u8)
            .with_out(item.out.to_u64() as u8)
            .with_owned(item.owned.to_u64() as u8)
            .with_held(item.held.to_u64() as u8)
            .with_deactivated(item.deactivated.to_u64() as u8)
            .with_phase(phase)
            .with_status(item.status.to_u64() as u16);
        bytes.extend(tail.0);
        bytes
    }

    /// The record that asks for a fence of a path.
    fn fence_record(path: u8, phase: u8) -> Vec<u8> {
        let tail = volplane_abi::ExceptionTail::default();
        let tail = tail.with_reasons(reason::TIME_OUT).with_fence(1).with_path(path).with_phase(phase);
        [&[0; 192], &tail.0[..]].concat()
    }

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Items at random into a ring of `entries` records (0: none), which software reads as it likes.
    fn check(entries: u64, interrupt: bool) {
        let sizes = Sizes { slot_bits: SLOTS.ilog2() as usize, ..Sizes::DEFAULT };
        let mut bench = Bench::new(&format!("record_writer_{entries}"), RecordWriter::new(&sizes));
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench.set("base", BASE.into());
        bench.set("entries_z", u128::from(entries.saturating_sub(1)));
        bench.set("ring_vector", 0x17);
        bench.set("ring_interrupt", interrupt.into());
        for _ in 0..3 {
            bench.cycle();
        }
        bench.set("enable", 1);
        let mut outcomes = vec![[PartDone::default(); 8]; SLOTS];
        let mut commands: BTreeMap<usize, ClientCommand> = BTreeMap::new();
        let mut items: VecDeque<RecordItem> = VecDeque::new();
        let mut offered: Option<RecordItem> = None;
        let mut fence: Option<u64> = None;
        let mut fences = 0;
        let mut fetch: Option<(u32, usize)> = None;
        let (mut written, mut posted, mut read) = (Vec::<u8>::new(), 0u64, 0u64);
        let (mut raises, mut due) = (0u32, None::<PlanDone>);
        let (mut most, mut since, mut was_idle) = (0, None, false);
        for cycle in 0..60_000u64 {
            // At first one after the other.
            let density = if cycle < 5_000 { 0.02 } else { 0.3 };
            // A slot is in use from its first outcome to its record.
            let busy = |slot: usize,
                        items: &VecDeque<RecordItem>,
                        offered: &Option<RecordItem>,
                        due: &Option<PlanDone>| {
                let one = |item: &RecordItem| item.slot.index() == slot;
                items.iter().any(one)
                    || offered.as_ref().is_some_and(one)
                    || due.is_some_and(|due| due.slot.index() == slot)
            };
            bench.set("outcome_valid", 0);
            let slot = random.random_range(0..SLOTS);
            if !busy(slot, &items, &offered, &due) {
                if random.random_bool(0.5) {
                    let component = random.random_range(0..8u64);
                    let outcome = PartDone {
                        part: (component << 12 | slot as u64).to_bits(),
                        status: random.random_range(0..0x8000u64).to_bits(),
                        closed: random.random_range(0..2u64).to_bits(),
                        path: random.random_range(0..32u64).to_bits(),
                        ordinal: random.random_range(0..1u64 << 17).to_bits(),
                        failed: 1u64.to_bits(),
                        ..Default::default()
                    };
                    outcomes[slot][component as usize] = outcome;
                    bench.set("outcome_valid", 1);
                    bench.set_record::<62>("outcome", outcome);
                } else if offered.is_none() && cycle < 58_000 && random.random_bool(density) {
                    // Parts that did not end are not shown.
                    let mut item = random_item(&mut random, slot);
                    let ended = outcomes[slot].iter().enumerate().filter(|(_, it)| it.path.any());
                    let ended = ended.fold(0u64, |bits, (number, _)| bits | 1 << number);
                    item.failed = (item.failed.to_u64() & ended).to_bits();
                    item.refused = (item.refused.to_u64() & ended).to_bits();
                    item.stopped = (item.stopped.to_u64() & ended).to_bits();
                    commands.insert(slot, random_command(&mut random));
                    offered = Some(item);
                }
            }
            if fence.is_none() && cycle < 58_000 && random.random_bool(0.01) {
                fence = Some(random.random_range(0..32));
            }
            bench.set("fence$valid", fence.is_some().into());
            bench.set("fence$data", fence.unwrap_or(0).into());
            bench.set("item$valid", offered.is_some().into());
            bench.set_record::<210>("item$data", offered.unwrap_or_default());
            let ready = |random: &mut ChaCha8Rng| random.random_bool(if cycle < 20_000 { 1.0 } else { 0.5 });
            let [write_ready, raise_ready, done_ready, fetch_ready] = ["write", "raise", "done", "fetch"]
                .map(|port| {
                    let ready = ready(&mut random);
                    bench.set(&format!("{port}$ready"), ready.into());
                    ready
                });
            bench.set("fetched_valid", u128::from(fetch.is_some_and(|(wait, _)| wait == 0)));
            if let Some((wait, slot)) = fetch {
                bench.set_record::<329>("fetched", commands[&slot]);
                fetch = wait.checked_sub(1).map(|wait| (wait, slot));
            }
            if read < posted
                && random.random_bool(if cycle % 10_000 < 5_000 || cycle >= 58_000 { 0.5 } else { 0.01 })
            {
                read += 1;
            }
            bench.set("head", u128::from(read % entries.max(1)));
            bench.eval();
            if fetch_ready && bench.get("fetch$valid") == 1 {
                let longest = if cycle < 5_000 { 1 } else { 4 };
                fetch = Some((random.random_range(1..=longest), bench.get("fetch$data") as usize));
            }
            if write_ready && bench.get("write$valid") == 1 {
                assert!(due.is_none() && raises == 0, "one record after the other");
                let write = bytes(&bench.get_wide("write$data"));
                let address = u64::from_le_bytes(write[..8].try_into().expect("8 bytes"));
                assert_eq!(address, BASE + posted % entries * 256 + written.len() as u64);
                assert!(posted - read < entries - 1, "the ring was full");
                written.extend(&write[8..72]);
                if written.len() == 256 {
                    let item = items.pop_front().expect("a record without an item");
                    let phase = 1 - (posted / entries % 2) as u8;
                    let slot = item.slot.index();
                    let expected = if item.fence.any() {
                        fences += 1;
                        fence_record(item.disk.to_u64() as u8, phase)
                    } else {
                        record(&item, &commands[&slot], &outcomes[slot], phase)
                    };
                    assert_eq!(written, expected, "{item:?}");
                    written.clear();
                    posted += 1;
                    raises += u32::from(interrupt);
                    due = item.completes.any().then_some(PlanDone { slot: item.slot, status: item.status });
                    if let Some(since) = since.take() {
                        most = most.max(cycle - since);
                    }
                }
            }
            if raise_ready && bench.get("raise$valid") == 1 {
                assert_eq!((bench.get("raise$data"), raises), (0x17, 1));
                raises = 0;
            }
            if done_ready && bench.get("done$valid") == 1 {
                let done: PlanDone = bench.get_record::<27, _>("done$data");
                if entries == 0 {
                    let item = items.pop_front().expect("an end without an item");
                    assert!(item.completes.any());
                    due = Some(PlanDone { slot: item.slot, status: item.status });
                    posted += 1;
                }
                assert_eq!(Some(done), due.take());
                assert_eq!(raises, 0, "the vector before the client");
            }
            let idle = bench.get("idle") == 1;
            assert!(!idle || items.is_empty() && due.is_none() && raises == 0);
            // With the item before it on its way to the writer, it is not measured.
            let was_idle = std::mem::replace(&mut was_idle, idle) && items.is_empty();
            // An item goes first.
            if offered.is_none() && bench.get("fence$ready") == 1 {
                let item = fence.take().map(|path| RecordItem {
                    fence: 1u64.to_bits(),
                    disk: path.to_bits(),
                    ..RecordItem::default()
                });
                items.extend(item.filter(|_| entries != 0));
            }
            if offered.is_some() && bench.get("item$ready") == 1 {
                if was_idle && cycle < 4_900 {
                    since = Some(cycle);
                }
                items.extend(offered.take().filter(|item| entries != 0 || item.completes.any()));
            }
            bench.cycle();
        }
        assert!(entries == 0 || fences > 20, "{fences} fences");
        assert!(offered.is_none() && items.is_empty() && due.is_none(), "{} items are left", items.len());
        assert_eq!(bench.get("idle"), 1);
        assert!(posted > 400, "{posted} records");
        assert_eq!(most, if entries == 0 { 0 } else { 29 }, "cycles to the last write");
    }

    #[test]
    fn records_are_those_of_the_abi() {
        check(4, false);
        check(64, true);
        check(0, false);
    }
}
