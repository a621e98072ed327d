//! Parses clients' entries, and reads the range of a Dataset Management command.
//!
//! In order. An entry that no check can pass carries its `refusal` on: fused or SGL commands and what a range
//! cannot be (longer than 65,536 blocks, across a page) Invalid Field; an opcode that is not executed Invalid
//! Opcode; a range that is not dword aligned Invalid PRP Offset; one that the bus refuses Data Transfer Error.
//! Hints without deallocation and empty ranges are `trivial`; a deallocation of several ranges is `foreign`,
//! and keeps its attributes where others have their first block.
//!
//! Handshake: streams. Latency: 1 cycle. Throughput: one command every 2 cycles; a Dataset Management
//! command takes 21 cycles and a bus read, during which the next ones wait. Reset drops the command.

use rust_hdl::prelude::*;
use volplane_abi::{opcode, registers, status};

use crate::prim::ram::LutRam;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{
    ClientCommand, DatasetAttributes, DeallocateRange, FetchedEntry, ReadRequest, SubmissionEntry,
};

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    /// Waits for an entry, or for its command to be taken.
    Idle,
    /// A Dataset Management command: looks at it.
    Look,
    Sort,
    Ask,
    Fill,
    // A dword of the answer: its beat is read, the dword picked, and kept.
    Read,
    Pick,
    Keep,
    // Weighs the range, and judges it.
    Weigh,
    Judge,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct RangeFetch<const W: usize, const B: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub entry: StreamIn<FetchedEntry>,
    pub command: StreamOut<ClientCommand>,
    pub range: StreamOut<ReadRequest>,
    pub answer_valid_range: Signal<In, bool>,
    pub answer_data: Signal<In, Bits<W>>,
    pub answer_last: Signal<In, bool>,
    pub answer_error: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    state: DFF<State>,
    /// An entry may come: nothing is in work or offered.
    free: DFF<bool>,
    valid: DFF<bool>,
    /// A Dataset Management command is done.
    ends: DFF<bool>,
    asks: DFF<bool>,
    // A Dataset Management command was taken. Set in `Sort`, `Keep` and `Judge`; the last beat of the
    // answer has come.
    starts: DFF<bool>,
    sorts: DFF<bool>,
    keeps: DFF<bool>,
    judges: DFF<bool>,
    filled: DFF<bool>,
    /// The command, but for `odd` and `unknown`, which refuse it before anything else.
    parsed: DFF<ClientCommand>,
    odd: DFF<bool>,
    unknown: DFF<bool>,
    // What is wrong with a Dataset Management command.
    hints: DFF<bool>,
    many: DFF<bool>,
    unaligned: DFF<bool>,
    crosses: DFF<bool>,
    two_beats: DFF<bool>,
    empty: DFF<bool>,
    long: DFF<bool>,
    beats: LutRam<Bits<W>>,
    beat: DFF<Bits<16>>,
    failed: DFF<bool>,
    dword: DFF<Bits<3>>,
    /// Byte address of the dword that is picked, counted from the first beat.
    place: DFF<Bits<16>>,
    picked: DFF<Bits<32>>,
    found: DFF<Bits<128>>,

    takes: Signal<Local, bool>,
    fields: Signal<Local, SubmissionEntry>,
    attributes: Signal<Local, DatasetAttributes>,
    lba_bits: Signal<Local, Bits<64>>,
    range_fields: Signal<Local, DeallocateRange>,
    known: Signal<Local, bool>,
    has_blocks: Signal<Local, bool>,
    is_dataset: Signal<Local, bool>,
    is_flush: Signal<Local, bool>,
    is_odd: Signal<Local, bool>,
    prp1: Signal<Local, Bits<64>>,
    prp1_low: Signal<Local, Bits<2>>,
    prp1_page: Signal<Local, Bits<12>>,
    in_beat: Signal<Local, Bits<12>>,
    beat_bits: Signal<Local, Bits<W>>,
    shift: Signal<Local, Bits<16>>,
    shifted: Signal<Local, Bits<W>>,
    range_blocks: Signal<Local, Bits<17>>,
    count: Signal<Local, Bits<32>>,

    flush_opcode: Constant<Bits<8>>,
    write_opcode: Constant<Bits<8>>,
    read_opcode: Constant<Bits<8>>,
    compare_opcode: Constant<Bits<8>>,
    zeroes_opcode: Constant<Bits<8>>,
    dataset_opcode: Constant<Bits<8>>,
    invalid_field: Constant<Bits<11>>,
    invalid_opcode: Constant<Bits<11>>,
    invalid_offset: Constant<Bits<11>>,
    transfer_error: Constant<Bits<11>>,
    no_refusal: Constant<Bits<11>>,
    most_blocks: Constant<Bits<32>>,
    beat_bytes: Constant<Bits<8>>,
    two_beat_bytes: Constant<Bits<8>>,
    beat_mask: Constant<Bits<12>>,
    dword_mask: Constant<Bits<16>>,
    beat_shift: Constant<Bits<16>>,
    last_start: Constant<Bits<12>>,
    page_last_start: Constant<Bits<12>>,
    no_tag: Constant<Bits<8>>,
    zero2: Constant<Bits<2>>,
    zero8: Constant<Bits<8>>,
    zero16: Constant<Bits<16>>,
    zero32: Constant<Bits<32>>,
    one16: Constant<Bits<16>>,
    four16: Constant<Bits<16>>,
    one17: Constant<Bits<17>>,
    no_blocks: Constant<Bits<17>>,
    zero3: Constant<Bits<3>>,
    one3: Constant<Bits<3>>,
    last_dword: Constant<Bits<3>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl<const W: usize, const B: usize> Default for RangeFetch<W, B> {
    fn default() -> Self {
        assert!([128, 256, 512].contains(&W) && B * 8 == W, "bus of {W} bits, {B} bytes");
        Self {
            clock: Default::default(),
            reset: Default::default(),
            entry: Default::default(),
            command: Default::default(),
            range: Default::default(),
            answer_valid_range: Default::default(),
            answer_data: Default::default(),
            answer_last: Default::default(),
            answer_error: Default::default(),
            idle: Default::default(),
            state: Default::default(),
            free: Default::default(),
            valid: Default::default(),
            ends: Default::default(),
            asks: Default::default(),
            starts: Default::default(),
            sorts: Default::default(),
            keeps: Default::default(),
            judges: Default::default(),
            filled: Default::default(),
            parsed: Default::default(),
            odd: Default::default(),
            unknown: Default::default(),
            hints: Default::default(),
            many: Default::default(),
            unaligned: Default::default(),
            crosses: Default::default(),
            two_beats: Default::default(),
            empty: Default::default(),
            long: Default::default(),
            beats: LutRam::new(1),
            beat: Default::default(),
            failed: Default::default(),
            dword: Default::default(),
            place: Default::default(),
            picked: Default::default(),
            found: Default::default(),
            takes: Default::default(),
            fields: Default::default(),
            attributes: Default::default(),
            lba_bits: Default::default(),
            range_fields: Default::default(),
            known: Default::default(),
            has_blocks: Default::default(),
            is_dataset: Default::default(),
            is_flush: Default::default(),
            is_odd: Default::default(),
            prp1: Default::default(),
            prp1_low: Default::default(),
            prp1_page: Default::default(),
            in_beat: Default::default(),
            beat_bits: Default::default(),
            shift: Default::default(),
            shifted: Default::default(),
            range_blocks: Default::default(),
            count: Default::default(),
            flush_opcode: Constant::new((opcode::FLUSH as u64).to_bits()),
            write_opcode: Constant::new((opcode::WRITE as u64).to_bits()),
            read_opcode: Constant::new((opcode::READ as u64).to_bits()),
            compare_opcode: Constant::new((opcode::COMPARE as u64).to_bits()),
            zeroes_opcode: Constant::new((opcode::WRITE_ZEROES as u64).to_bits()),
            dataset_opcode: Constant::new((opcode::DATASET_MANAGEMENT as u64).to_bits()),
            invalid_field: Constant::new((status::INVALID_FIELD as u64).to_bits()),
            invalid_opcode: Constant::new((status::INVALID_OPCODE as u64).to_bits()),
            invalid_offset: Constant::new((status::INVALID_PRP_OFFSET as u64).to_bits()),
            transfer_error: Constant::new((status::DATA_TRANSFER_ERROR as u64).to_bits()),
            no_refusal: Constant::new((status::SUCCESS as u64).to_bits()),
            most_blocks: Constant::new((registers::RANGE_BLOCKS_MAX as u64).to_bits()),
            beat_bytes: Constant::new((B as u64).to_bits()),
            two_beat_bytes: Constant::new((2 * B as u64).to_bits()),
            beat_mask: Constant::new((B as u64 - 1).to_bits()),
            dword_mask: Constant::new((B as u64 - 4).to_bits()),
            beat_shift: Constant::new((B.ilog2() as u64).to_bits()),
            last_start: Constant::new((B as u64 - 16).to_bits()),
            page_last_start: Constant::new((4096u64 - 16).to_bits()),
            no_tag: Constant::new(0u64.to_bits()),
            zero2: Constant::new(0u64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            four16: Constant::new(4u64.to_bits()),
            one17: Constant::new(1u64.to_bits()),
            no_blocks: Constant::new(0u64.to_bits()),
            zero3: Constant::new(0u64.to_bits()),
            one3: Constant::new(1u64.to_bits()),
            last_dword: Constant::new(3u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl<const W: usize, const B: usize> Logic for RangeFetch<W, B> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self, clock, state, free, valid, ends, asks, starts, sorts, keeps, judges, filled, parsed, odd,
            unknown, hints, many, unaligned, crosses, two_beats, empty, long, beat, failed, dword, place,
            picked, found
        );
        self.entry.ready.next = self.free.q.val();
        self.command.valid.next = self.valid.q.val();
        self.command.data.next = self.parsed.q.val();
        if self.unknown.q.val() {
            self.command.data.next.refusal = self.invalid_opcode.val();
        }
        if self.odd.q.val() {
            self.command.data.next.refusal = self.invalid_field.val();
        }
        self.idle.next = self.free.q.val();

        self.fields.next = self.entry.data.val().entry.into();
        self.has_blocks.next = (self.fields.val().opcode == self.read_opcode.val())
            | (self.fields.val().opcode == self.write_opcode.val())
            | (self.fields.val().opcode == self.compare_opcode.val())
            | (self.fields.val().opcode == self.zeroes_opcode.val());
        self.is_dataset.next = (self.fields.val().opcode == self.dataset_opcode.val());
        self.is_flush.next = (self.fields.val().opcode == self.flush_opcode.val());
        self.known.next = self.has_blocks.val() | self.is_dataset.val() | self.is_flush.val();
        self.is_odd.next =
            (self.fields.val().fuse != self.zero2.val()) | (self.fields.val().psdt != self.zero2.val());

        // What is parsed is offered as it is, but for a Dataset Management command.
        self.takes.next = self.entry.valid.val() & self.free.q.val();
        if self.free.q.val() {
            self.parsed.d.next.queue = self.entry.data.val().queue;
            self.parsed.d.next.command_id = self.fields.val().command_id;
            self.parsed.d.next.opcode = self.fields.val().opcode;
            self.parsed.d.next.namespace_id = self.fields.val().namespace_id;
            self.parsed.d.next.prp1 = self.fields.val().prp1;
            self.parsed.d.next.prp2 = self.fields.val().prp2;
            self.parsed.d.next.lba = self.fields.val().starting_lba;
            self.parsed.d.next.blocks =
                bit_cast::<17, 16>(self.fields.val().block_count_z) + self.one17.val();
            // Of a Flush the field is reserved: it concerns no blocks, and waits for none.
            if self.is_flush.val() {
                self.parsed.d.next.blocks = self.no_blocks.val();
            }
            self.parsed.d.next.deallocate = self.fields.val().deallocate;
            self.parsed.d.next.force_unit_access = self.fields.val().force_unit_access;
            self.parsed.d.next.limited_retry = self.fields.val().limited_retry;
            self.parsed.d.next.cdw13 = self.fields.val().cdw13;
            self.parsed.d.next.trivial = self.clear.val();
            self.parsed.d.next.foreign = self.clear.val();
            self.parsed.d.next.refusal = self.no_refusal.val();
            self.odd.d.next = self.is_odd.val();
            self.unknown.d.next = !self.known.val();
        }
        self.valid.d.next = (self.valid.q.val() & !self.command.ready.val())
            | (self.takes.val() & (self.is_odd.val() | !self.is_dataset.val()))
            | self.ends.q.val();
        self.free.d.next =
            (self.free.q.val() & !self.entry.valid.val()) | (self.valid.q.val() & self.command.ready.val());
        self.ends.d.next = false;

        self.lba_bits.next = self.parsed.q.val().lba;
        self.attributes.next = self.lba_bits.val().into();
        self.prp1.next = self.parsed.q.val().prp1;
        self.prp1_low.next = self.prp1.val().get_bits::<2>(0);
        self.prp1_page.next = self.prp1.val().get_bits::<12>(0);
        self.in_beat.next = self.prp1_page.val() & self.beat_mask.val();
        self.range.valid.next = self.asks.q.val();
        self.range.data.next.address = self.prp1.val();
        self.range.data.next.bytes = self.beat_bytes.val();
        if self.two_beats.q.val() {
            self.range.data.next.bytes = self.two_beat_bytes.val();
        }
        self.range.data.next.tag = self.no_tag.val();

        // The answer's beats are kept whole; the four dwords are picked one by one.
        self.beats.clock.next = self.clock.val();
        self.beats.write.next = self.answer_valid_range.val();
        self.beats.write_address.next = self.beat.q.val();
        self.beats.write_data.next = self.answer_data.val();
        self.beats.read_address.next = (self.place.q.val() >> self.beat_shift.val());
        self.beat_bits.next = self.beats.read_data.val();
        self.shift.next = ((self.place.q.val() & self.dword_mask.val()) << 3);
        self.shifted.next = (self.beat_bits.val() >> bit_cast::<W, 16>(self.shift.val()));
        self.picked.d.next = bit_cast::<32, W>(self.shifted.val());
        self.range_fields.next = self.found.q.val().into();
        self.count.next = self.range_fields.val().block_count;
        self.range_blocks.next = self.count.val().get_bits::<17>(0);
        self.empty.d.next = (self.count.val() == self.zero32.val());
        self.long.d.next = (self.count.val() > self.most_blocks.val());
        self.hints.d.next = (self.attributes.val().deallocate == self.clear.val());
        self.many.d.next = (self.attributes.val().range_count_z != self.zero8.val());
        self.unaligned.d.next = (self.prp1_low.val() != self.zero2.val());
        self.crosses.d.next = (self.prp1_page.val() > self.page_last_start.val());
        self.two_beats.d.next = (self.in_beat.val() > self.last_start.val());

        if self.sorts.q.val() {
            self.beat.d.next = self.zero16.val();
            self.failed.d.next = false;
            self.dword.d.next = self.zero3.val();
            self.place.d.next = bit_cast::<16, 12>(self.in_beat.val());
        } else if self.answer_valid_range.val() {
            self.beat.d.next = self.beat.q.val() + self.one16.val();
            self.failed.d.next = self.failed.q.val() | self.answer_error.val();
        }
        if self.keeps.q.val() {
            self.found.d.next = (self.found.q.val() >> 32) | (bit_cast::<128, 32>(self.picked.q.val()) << 96);
            self.place.d.next = self.place.q.val() + self.four16.val();
            self.dword.d.next = self.dword.q.val() + self.one3.val();
        }
        if self.judges.q.val() {
            self.parsed.d.next.lba = self.range_fields.val().starting_lba;
            self.parsed.d.next.blocks = self.range_blocks.val();
        }
        self.starts.d.next = self.takes.val() & self.is_dataset.val() & !self.is_odd.val();
        self.sorts.d.next = (self.state.q.val() == State::Look);
        self.keeps.d.next = (self.state.q.val() == State::Pick);
        self.judges.d.next = (self.state.q.val() == State::Weigh);
        self.filled.d.next = self.answer_valid_range.val() & self.answer_last.val();
        match self.state.q.val() {
            State::Idle => {
                if self.starts.q.val() {
                    self.state.d.next = State::Look;
                }
            }
            State::Look => {
                self.state.d.next = State::Sort;
            }
            State::Sort => {
                self.state.d.next = State::Idle;
                self.ends.d.next = true;
                if self.hints.q.val() {
                    self.parsed.d.next.trivial = self.flag.val();
                } else if self.many.q.val() {
                    self.parsed.d.next.foreign = self.flag.val();
                    self.parsed.d.next.blocks = self.no_blocks.val();
                } else if self.unaligned.q.val() {
                    self.parsed.d.next.refusal = self.invalid_offset.val();
                } else if self.crosses.q.val() {
                    self.parsed.d.next.refusal = self.invalid_field.val();
                } else {
                    self.ends.d.next = false;
                    self.asks.d.next = true;
                    self.state.d.next = State::Ask;
                }
            }
            State::Ask => {
                if self.range.ready.val() {
                    self.asks.d.next = false;
                    self.state.d.next = State::Fill;
                }
            }
            State::Fill => {
                if self.filled.q.val() {
                    self.state.d.next = State::Read;
                }
            }
            State::Read => {
                self.state.d.next = State::Pick;
            }
            State::Pick => {
                self.state.d.next = State::Keep;
            }
            State::Keep => {
                self.state.d.next = State::Read;
                if (self.dword.q.val() == self.last_dword.val()) {
                    self.state.d.next = State::Weigh;
                }
            }
            State::Weigh => {
                self.state.d.next = State::Judge;
            }
            State::Judge => {
                if self.failed.q.val() {
                    self.parsed.d.next.refusal = self.transfer_error.val();
                } else if self.empty.q.val() {
                    self.parsed.d.next.trivial = self.flag.val();
                } else if self.long.q.val() {
                    self.parsed.d.next.refusal = self.invalid_field.val();
                }
                self.ends.d.next = true;
                self.state.d.next = State::Idle;
            }
            _ => {}
        }

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.free.d.next = true;
            self.valid.d.next = false;
            self.ends.d.next = false;
            self.asks.d.next = false;
            self.starts.d.next = false;
            self.sorts.d.next = false;
            self.keeps.d.next = false;
            self.judges.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
