//! Gives every piece its PRP entries and makes a fragment of it.
//!
//! A piece that is the whole plan keeps the client's entries. Any other begins at byte `start`
//! (counted from the page of PRP1) in page `p` and ends in page `q`:
//! * PRP1: page 0 is the client's PRP1; page `p` ≥ 1 is entry `p − 1`, with the offset of `start`;
//! * PRP2: nothing when `p = q`; entry `p` when `q = p + 1`; else a pointer to the slot of entry `p`.
//!
//! Entry 0 of a plan of two pages is the client's PRP2. A longer plan's PRP2 points to a list: from its
//! first slot to the end of that page there are `S` slots, of which the last holds a chain pointer when
//! the plan needs more than `S` entries. An SSD handed the slot of entry `p` takes the last slot of the
//! page for data when its last entry is the one that would lie there, so a piece with `q = S` that begins
//! in the first list page is trimmed to end a page earlier, and the rest becomes a fragment of its own.
//!
//! Handshake: streams. Latency and throughput: 2 cycles a fragment for whole plans and commands without
//! data; 6 for a piece without list reads; list reads add 5 cycles on a kept line, else the bus.
//! Order is kept. A list that cannot be read (Data Transfer Error) or holds an entry with an offset
//! (Invalid PRP Offset) closes the plan and drops its further pieces. Reset drops the piece in work.

use rust_hdl::prelude::*;
use volplane_abi::{opcode, status};

use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Fragment, Piece, PlanClosed};

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    /// Takes a piece.
    Idle,
    /// Blocks to bytes.
    Scale,
    /// Last bytes of the piece and of the plan.
    Measure,
    /// Pages.
    Pages,
    /// What is needed.
    Decide,
    /// Shortens a piece that would end on the chain pointer's slot: bytes, then blocks.
    Trim,
    TrimBlocks,
    /// Where entry `index` stands.
    Resolve,
    /// Asks for it.
    Ask,
    Wait,
    /// Offers the fragment.
    Emit,
    /// What was trimmed off.
    Resume,
    /// Offers the end of the plan.
    Close,
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum Purpose {
    First,
    Second,
    Pointer,
    Chain,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PrpBuilder {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub piece: StreamIn<Piece>,
    pub fragment: StreamOut<Fragment>,
    pub closed: StreamOut<PlanClosed>,
    /// To the list reader.
    pub request: Signal<Out, bool>,
    pub address: Signal<Out, Bits<64>>,
    pub forget: Signal<Out, bool>,
    pub answer: Signal<In, bool>,
    pub entry: Signal<In, Bits<64>>,
    pub failed: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    state: DFF<State>,
    purpose: DFF<Purpose>,
    /// What the entry is for when the chain pointer has to be read first.
    after_chain: DFF<Purpose>,
    work: DFF<Piece>,
    ordinal: DFF<Bits<17>>,
    stopped: DFF<bool>,
    status: DFF<Bits<11>>,
    start: DFF<Bits<22>>,
    length_z: DFF<Bits<22>>,
    plan_length_z: DFF<Bits<22>>,
    piece_end: DFF<Bits<22>>,
    plan_end: DFF<Bits<22>>,
    span: DFF<Bits<10>>,
    entries: DFF<Bits<10>>,
    slots: DFF<Bits<10>>,
    chained: DFF<bool>,
    ends_at_border: DFF<bool>,
    chain: DFF<Bits<64>>,
    chain_valid: DFF<bool>,
    index: DFF<Bits<10>>,
    target: DFF<Bits<64>>,
    prp1: DFF<Bits<64>>,
    prp2: DFF<Bits<64>>,
    trimmed: DFF<bool>,
    rest: DFF<Bits<17>>,
    trim_bytes: DFF<Bits<22>>,
    asking: DFF<bool>,

    out: DFF<Fragment>,
    out_valid: DFF<bool>,
    closed_out: DFF<PlanClosed>,
    closed_valid: DFF<bool>,

    out_free: Signal<Local, bool>,
    no_data: Signal<Local, bool>,
    bytes_offset: Signal<Local, Bits<22>>,
    bytes: Signal<Local, Bits<22>>,
    plan_bytes: Signal<Local, Bits<22>>,
    trim_blocks: Signal<Local, Bits<17>>,
    page: Signal<Local, Bits<10>>,
    last_page: Signal<Local, Bits<10>>,
    plan_last_page: Signal<Local, Bits<10>>,
    slots_now: Signal<Local, Bits<10>>,
    plan_prp1: Signal<Local, Bits<64>>,
    plan_prp2: Signal<Local, Bits<64>>,
    page_offset: Signal<Local, Bits<64>>,
    first_page_offset: Signal<Local, Bits<22>>,
    last_slot: Signal<Local, Bits<10>>,
    in_second: Signal<Local, bool>,
    slot_number: Signal<Local, Bits<10>>,
    slot_base: Signal<Local, Bits<64>>,
    slot_low: Signal<Local, Bits<9>>,
    entry_offset: Signal<Local, Bits<12>>,
    prp2_slot: Signal<Local, Bits<9>>,

    flush_opcode: Constant<Bits<8>>,
    zeroes_opcode: Constant<Bits<8>>,
    deallocate_opcode: Constant<Bits<8>>,
    transfer_error: Constant<Bits<11>>,
    offset_error: Constant<Bits<11>>,
    page_mask: Constant<Bits<64>>,
    zero64: Constant<Bits<64>>,
    zero12: Constant<Bits<12>>,
    zero10: Constant<Bits<10>>,
    one10: Constant<Bits<10>>,
    page_slots: Constant<Bits<10>>,
    one17: Constant<Bits<17>>,
    zero17: Constant<Bits<17>>,
    one22: Constant<Bits<22>>,
    shift9: Constant<Bits<4>>,
    shift10: Constant<Bits<4>>,
    shift11: Constant<Bits<4>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl Default for PrpBuilder {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            piece: Default::default(),
            fragment: Default::default(),
            closed: Default::default(),
            request: Default::default(),
            address: Default::default(),
            forget: Default::default(),
            answer: Default::default(),
            entry: Default::default(),
            failed: Default::default(),
            idle: Default::default(),
            state: Default::default(),
            purpose: Default::default(),
            after_chain: Default::default(),
            work: Default::default(),
            ordinal: Default::default(),
            stopped: Default::default(),
            status: Default::default(),
            start: Default::default(),
            length_z: Default::default(),
            plan_length_z: Default::default(),
            piece_end: Default::default(),
            plan_end: Default::default(),
            span: Default::default(),
            entries: Default::default(),
            slots: Default::default(),
            chained: Default::default(),
            ends_at_border: Default::default(),
            chain: Default::default(),
            chain_valid: Default::default(),
            index: Default::default(),
            target: Default::default(),
            prp1: Default::default(),
            prp2: Default::default(),
            trimmed: Default::default(),
            rest: Default::default(),
            trim_bytes: Default::default(),
            asking: Default::default(),
            out: Default::default(),
            out_valid: Default::default(),
            closed_out: Default::default(),
            closed_valid: Default::default(),
            out_free: Default::default(),
            no_data: Default::default(),
            bytes_offset: Default::default(),
            bytes: Default::default(),
            plan_bytes: Default::default(),
            trim_blocks: Default::default(),
            page: Default::default(),
            last_page: Default::default(),
            plan_last_page: Default::default(),
            slots_now: Default::default(),
            plan_prp1: Default::default(),
            plan_prp2: Default::default(),
            page_offset: Default::default(),
            first_page_offset: Default::default(),
            last_slot: Default::default(),
            in_second: Default::default(),
            slot_number: Default::default(),
            slot_base: Default::default(),
            slot_low: Default::default(),
            entry_offset: Default::default(),
            prp2_slot: Default::default(),
            flush_opcode: Constant::new((opcode::FLUSH as u64).to_bits()),
            zeroes_opcode: Constant::new((opcode::WRITE_ZEROES as u64).to_bits()),
            deallocate_opcode: Constant::new((opcode::DATASET_MANAGEMENT as u64).to_bits()),
            transfer_error: Constant::new((status::DATA_TRANSFER_ERROR as u64).to_bits()),
            offset_error: Constant::new((status::INVALID_PRP_OFFSET as u64).to_bits()),
            page_mask: Constant::new((!0xFFFu64).to_bits()),
            zero64: Constant::new(0u64.to_bits()),
            zero12: Constant::new(0u64.to_bits()),
            zero10: Constant::new(0u64.to_bits()),
            one10: Constant::new(1u64.to_bits()),
            page_slots: Constant::new(512u64.to_bits()),
            one17: Constant::new(1u64.to_bits()),
            zero17: Constant::new(0u64.to_bits()),
            one22: Constant::new(1u64.to_bits()),
            shift9: Constant::new(9u64.to_bits()),
            shift10: Constant::new(10u64.to_bits()),
            shift11: Constant::new(11u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for PrpBuilder {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            state,
            purpose,
            after_chain,
            work,
            ordinal,
            stopped,
            status,
            start,
            length_z,
            plan_length_z,
            piece_end,
            plan_end,
            span,
            entries,
            slots,
            chained,
            ends_at_border,
            chain,
            chain_valid,
            index,
            target,
            prp1,
            prp2,
            trimmed,
            rest,
            trim_bytes,
            asking,
            out,
            out_valid,
            closed_out,
            closed_valid
        );
        self.piece.ready.next = (self.state.q.val() == State::Idle);
        self.fragment.valid.next = self.out_valid.q.val();
        self.fragment.data.next = self.out.q.val();
        self.closed.valid.next = self.closed_valid.q.val();
        self.closed.data.next = self.closed_out.q.val();
        self.out_free.next = !self.out_valid.q.val() | self.fragment.ready.val();
        if self.fragment.ready.val() {
            self.out_valid.d.next = false;
        }
        if self.closed.ready.val() {
            self.closed_valid.d.next = false;
        }
        self.idle.next =
            (self.state.q.val() == State::Idle) & !self.out_valid.q.val() & !self.closed_valid.q.val();
        self.request.next = self.asking.q.val();
        self.address.next = self.target.q.val();
        self.asking.d.next = false;
        self.forget.next = false;

        self.no_data.next = (self.piece.data.val().opcode == self.flush_opcode.val())
            | (self.piece.data.val().opcode == self.zeroes_opcode.val())
            | (self.piece.data.val().opcode == self.deallocate_opcode.val());
        self.plan_prp1.next = self.work.q.val().prp1;
        self.plan_prp2.next = self.work.q.val().prp2;

        // Blocks of 512 to 4,096 bytes.
        self.bytes_offset.next = (bit_cast::<22, 17>(self.work.q.val().plan_offset) << 12);
        self.bytes.next = (bit_cast::<22, 17>(self.work.q.val().blocks) << 12);
        self.plan_bytes.next = (bit_cast::<22, 17>(self.work.q.val().plan_blocks) << 12);
        self.trim_blocks.next = bit_cast::<17, 22>(self.trim_bytes.q.val() >> 12);
        if (self.work.q.val().block_shift == self.shift9.val()) {
            self.bytes_offset.next = (bit_cast::<22, 17>(self.work.q.val().plan_offset) << 9);
            self.bytes.next = (bit_cast::<22, 17>(self.work.q.val().blocks) << 9);
            self.plan_bytes.next = (bit_cast::<22, 17>(self.work.q.val().plan_blocks) << 9);
            self.trim_blocks.next = bit_cast::<17, 22>(self.trim_bytes.q.val() >> 9);
        } else if (self.work.q.val().block_shift == self.shift10.val()) {
            self.bytes_offset.next = (bit_cast::<22, 17>(self.work.q.val().plan_offset) << 10);
            self.bytes.next = (bit_cast::<22, 17>(self.work.q.val().blocks) << 10);
            self.plan_bytes.next = (bit_cast::<22, 17>(self.work.q.val().plan_blocks) << 10);
            self.trim_blocks.next = bit_cast::<17, 22>(self.trim_bytes.q.val() >> 10);
        } else if (self.work.q.val().block_shift == self.shift11.val()) {
            self.bytes_offset.next = (bit_cast::<22, 17>(self.work.q.val().plan_offset) << 11);
            self.bytes.next = (bit_cast::<22, 17>(self.work.q.val().blocks) << 11);
            self.plan_bytes.next = (bit_cast::<22, 17>(self.work.q.val().plan_blocks) << 11);
            self.trim_blocks.next = bit_cast::<17, 22>(self.trim_bytes.q.val() >> 11);
        }
        self.first_page_offset.next = bit_cast::<22, 12>(self.plan_prp1.val().get_bits::<12>(0));
        self.page.next = self.start.q.val().get_bits::<10>(12);
        self.last_page.next = self.piece_end.q.val().get_bits::<10>(12);
        self.plan_last_page.next = self.plan_end.q.val().get_bits::<10>(12);
        self.prp2_slot.next = self.plan_prp2.val().get_bits::<9>(3);
        self.slots_now.next = self.page_slots.val() - bit_cast::<10, 9>(self.prp2_slot.val());
        self.page_offset.next = bit_cast::<64, 12>(self.start.q.val().get_bits::<12>(0));
        self.last_slot.next = self.slots.q.val() - self.one10.val();
        self.in_second.next = self.chained.q.val() & (self.index.q.val() >= self.last_slot.val());

        // Slot of entry `index`: in the first list page, in the second, or the chain pointer's own.
        self.slot_base.next = (self.plan_prp2.val() & self.page_mask.val());
        self.slot_number.next = bit_cast::<10, 9>(self.prp2_slot.val()) + self.index.q.val();
        if self.in_second.val() {
            if self.chain_valid.q.val() {
                self.slot_base.next = self.chain.q.val();
                self.slot_number.next = self.index.q.val() - self.last_slot.val();
            } else {
                self.slot_number.next = bit_cast::<10, 9>(self.prp2_slot.val()) + self.last_slot.val();
            }
        }
        self.slot_low.next = self.slot_number.val().get_bits::<9>(0);
        self.entry_offset.next = self.entry.val().get_bits::<12>(0);

        match self.state.q.val() {
            State::Idle => {
                self.work.d.next = self.piece.data.val();
                self.status.d.next = self.piece.data.val().status;
                self.prp1.d.next = self.piece.data.val().prp1;
                self.prp2.d.next = self.piece.data.val().prp2;
                self.trimmed.d.next = false;
                if self.piece.valid.val() {
                    if (self.piece.data.val().first == self.flag.val()) {
                        self.ordinal.d.next = self.zero17.val();
                        self.stopped.d.next = false;
                        self.chain_valid.d.next = false;
                        self.forget.next = true;
                    }
                    if (self.piece.data.val().first == self.flag.val()) | !self.stopped.q.val() {
                        self.state.d.next = State::Scale;
                        if (self.piece.data.val().closing == self.flag.val()) {
                            self.state.d.next = State::Close;
                        } else if self.no_data.val() {
                            self.prp1.d.next = self.zero64.val();
                            self.prp2.d.next = self.zero64.val();
                            self.state.d.next = State::Emit;
                        } else if (self.piece.data.val().first == self.flag.val())
                            & (self.piece.data.val().last == self.flag.val())
                        {
                            self.state.d.next = State::Emit;
                        }
                    }
                }
            }
            State::Scale => {
                self.start.d.next = self.bytes_offset.val() + self.first_page_offset.val();
                self.length_z.d.next = self.bytes.val() - self.one22.val();
                self.plan_length_z.d.next = self.plan_bytes.val() - self.one22.val();
                self.state.d.next = State::Measure;
            }
            State::Measure => {
                self.piece_end.d.next = self.start.q.val() + self.length_z.q.val();
                self.plan_end.d.next = self.plan_length_z.q.val() + self.first_page_offset.val();
                self.state.d.next = State::Pages;
            }
            State::Pages => {
                self.span.d.next = self.last_page.val() - self.page.val();
                self.entries.d.next = self.plan_last_page.val();
                self.slots.d.next = self.slots_now.val();
                self.chained.d.next = (self.plan_last_page.val() > self.slots_now.val());
                self.ends_at_border.d.next = (self.last_page.val() == self.slots_now.val());
                self.state.d.next = State::Decide;
            }
            State::Decide => {
                self.index.d.next = self.page.val() - self.one10.val();
                self.purpose.d.next = Purpose::First;
                self.state.d.next = State::Resolve;
                if (self.entries.q.val() <= self.one10.val()) {
                    // At most two pages in all: no list.
                    self.prp2.d.next = self.zero64.val();
                    self.prp1.d.next = (self.plan_prp1.val() & self.page_mask.val()) | self.page_offset.val();
                    if (self.page.val() != self.zero10.val()) {
                        self.prp1.d.next =
                            (self.plan_prp2.val() & self.page_mask.val()) | self.page_offset.val();
                    }
                    if (self.span.q.val() == self.one10.val()) {
                        self.prp2.d.next = self.plan_prp2.val();
                    }
                    self.state.d.next = State::Emit;
                } else if self.chained.q.val()
                    & self.ends_at_border.q.val()
                    & (self.page.val() < self.last_slot.val())
                    & (self.span.q.val() > self.one10.val())
                {
                    self.state.d.next = State::Trim;
                } else if (self.page.val() == self.zero10.val()) {
                    self.prp1.d.next = (self.plan_prp1.val() & self.page_mask.val()) | self.page_offset.val();
                    self.index.d.next = self.zero10.val();
                    self.purpose.d.next = Purpose::Pointer;
                    if (self.span.q.val() == self.one10.val()) {
                        self.purpose.d.next = Purpose::Second;
                    }
                    if (self.span.q.val() == self.zero10.val()) {
                        self.prp2.d.next = self.zero64.val();
                        self.state.d.next = State::Emit;
                    }
                }
            }
            State::Trim => {
                self.trim_bytes.d.next =
                    (bit_cast::<22, 10>(self.last_page.val()) << 12) - self.start.q.val();
                self.state.d.next = State::TrimBlocks;
            }
            State::TrimBlocks => {
                self.rest.d.next = self.work.q.val().blocks - self.trim_blocks.val();
                self.work.d.next.blocks = self.trim_blocks.val();
                self.trimmed.d.next = true;
                self.state.d.next = State::Scale;
            }
            State::Resolve => {
                self.target.d.next = self.slot_base.val() | (bit_cast::<64, 9>(self.slot_low.val()) << 3);
                self.state.d.next = State::Ask;
                if self.in_second.val() & !self.chain_valid.q.val() {
                    self.after_chain.d.next = self.purpose.q.val();
                    self.purpose.d.next = Purpose::Chain;
                }
            }
            State::Ask => {
                if (self.purpose.q.val() == Purpose::Pointer) {
                    self.prp2.d.next = self.target.q.val();
                    self.state.d.next = State::Emit;
                } else {
                    self.asking.d.next = true;
                    self.state.d.next = State::Wait;
                }
            }
            State::Wait => {
                if self.answer.val() {
                    if self.failed.val() {
                        self.status.d.next = self.transfer_error.val();
                        self.state.d.next = State::Close;
                    } else if (self.entry_offset.val() != self.zero12.val()) {
                        self.status.d.next = self.offset_error.val();
                        self.state.d.next = State::Close;
                    } else if (self.purpose.q.val() == Purpose::Chain) {
                        self.chain.d.next = self.entry.val();
                        self.chain_valid.d.next = true;
                        self.purpose.d.next = self.after_chain.q.val();
                        self.state.d.next = State::Resolve;
                    } else if (self.purpose.q.val() == Purpose::First) {
                        self.prp1.d.next = self.entry.val() | self.page_offset.val();
                        self.index.d.next = self.page.val();
                        self.purpose.d.next = Purpose::Pointer;
                        self.state.d.next = State::Resolve;
                        if (self.span.q.val() == self.one10.val()) {
                            self.purpose.d.next = Purpose::Second;
                        }
                        if (self.span.q.val() == self.zero10.val()) {
                            self.prp2.d.next = self.zero64.val();
                            self.state.d.next = State::Emit;
                        }
                    } else {
                        self.prp2.d.next = self.entry.val();
                        self.state.d.next = State::Emit;
                    }
                }
            }
            State::Emit => {
                if self.out_free.val() {
                    self.out_valid.d.next = true;
                    self.out.d.next.slot = self.work.q.val().slot;
                    self.out.d.next.ordinal = self.ordinal.q.val();
                    self.out.d.next.last = self.work.q.val().last;
                    self.out.d.next.opcode = self.work.q.val().opcode;
                    self.out.d.next.path = self.work.q.val().path;
                    self.out.d.next.namespace_id = self.work.q.val().namespace_id;
                    self.out.d.next.lba = self.work.q.val().lba;
                    self.out.d.next.blocks = self.work.q.val().blocks;
                    self.out.d.next.prp1 = self.prp1.q.val();
                    self.out.d.next.prp2 = self.prp2.q.val();
                    self.out.d.next.deallocate = self.work.q.val().deallocate;
                    self.out.d.next.force_unit_access = self.work.q.val().force_unit_access;
                    self.out.d.next.limited_retry = self.work.q.val().limited_retry;
                    self.out.d.next.cdw13 = self.work.q.val().cdw13;
                    self.ordinal.d.next = self.ordinal.q.val() + self.one17.val();
                    self.state.d.next = State::Idle;
                    if self.trimmed.q.val() {
                        self.out.d.next.last = self.clear.val();
                        self.state.d.next = State::Resume;
                    }
                }
            }
            State::Resume => {
                self.work.d.next.plan_offset = self.work.q.val().plan_offset + self.work.q.val().blocks;
                self.work.d.next.lba = self.work.q.val().lba + bit_cast::<48, 17>(self.work.q.val().blocks);
                self.work.d.next.blocks = self.rest.q.val();
                self.trimmed.d.next = false;
                self.state.d.next = State::Scale;
            }
            State::Close => {
                if !self.closed_valid.q.val() | self.closed.ready.val() {
                    self.closed_valid.d.next = true;
                    self.closed_out.d.next.slot = self.work.q.val().slot;
                    self.closed_out.d.next.issued = self.ordinal.q.val();
                    self.closed_out.d.next.status = self.status.q.val();
                    self.stopped.d.next = true;
                    self.state.d.next = State::Idle;
                }
            }
            _ => {}
        }

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.out_valid.d.next = false;
            self.closed_valid.d.next = false;
            self.asking.d.next = false;
            self.stopped.d.next = false;
        }
    }
}
