//! Gives every piece its PRP entries and makes a fragment of it; of zeros one for the zero filler, which reads a
//! list as an SSD does.
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
//! Handshake: streams; the fragment and the end of a plan are offered from the registers they are made
//! in. Latency: 1 cycle for whole plans and commands without data; 6 for a piece without list reads, one
//! more for a pointer; list reads add 6 cycles on a kept line, else the bus. Throughput: one cycle more
//! than the latency. Order is kept. A list that cannot be read (Data Transfer Error) or holds an entry
//! with an offset (Invalid PRP Offset) closes the plan and drops its further pieces. `idle` rises a cycle
//! late. Reset drops the piece in work.

use rust_hdl::prelude::*;
use volplane_abi::status;

use super::list_slot::ListSlot;
use super::piece_pages::PiecePages;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Fragment, Piece, PlanClosed, ZeroFragment};

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PrpBuilder {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub piece: StreamIn<Piece>,
    pub fragment: StreamOut<Fragment>,
    pub zeros: StreamOut<ZeroFragment>,
    pub closed: StreamOut<PlanClosed>,
    /// To the list reader.
    pub request: Signal<Out, bool>,
    pub address: Signal<Out, Bits<64>>,
    pub forget: Signal<Out, bool>,
    pub answer: Signal<In, bool>,
    pub entry: Signal<In, Bits<64>>,
    pub failed: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    pages: PiecePages,
    slot: ListSlot,
    // The states, one register each. Takes a piece (twice: for its own logic, for the cutter's).
    resting: DFF<bool>,
    busy: DFF<bool>,
    // Waits for the piece's pages: bytes, ends, pages; then decides what is needed.
    scaling: DFF<bool>,
    measuring: DFF<bool>,
    ending: DFF<bool>,
    paging: DFF<bool>,
    deciding: DFF<bool>,
    /// Shortens a piece that would end on the chain pointer's slot.
    trimming: DFF<bool>,
    // Where entry `index` stands: its number in either list page, then the slot's address.
    resolving: DFF<bool>,
    placing: DFF<bool>,
    /// Hands out the address.
    pointing: DFF<bool>,
    // Waits for the entry, and judges it.
    waiting: DFF<bool>,
    judging: DFF<bool>,
    /// Offers the fragment.
    offering: DFF<bool>,
    /// Goes on with what was trimmed off.
    resuming: DFF<bool>,
    /// Offers the end of the plan.
    closing: DFF<bool>,
    // What the entry is for: PRP1, PRP2, else only its address is wanted; before that, the chain pointer.
    for_first: DFF<bool>,
    for_second: DFF<bool>,
    for_chain: DFF<bool>,
    work: DFF<Piece>,
    /// What follows the piece on the device.
    lba_next: DFF<Bits<48>>,
    ordinal: DFF<Bits<17>>,
    stopped: DFF<bool>,
    status: DFF<Bits<11>>,
    chain: DFF<Bits<64>>,
    chain_valid: DFF<bool>,
    forgetting: DFF<bool>,
    index: DFF<Bits<10>>,
    target: DFF<Bits<64>>,
    entry_bad: DFF<bool>,
    prp1: DFF<Bits<64>>,
    prp1_decided: DFF<Bits<64>>,
    prp2: DFF<Bits<64>>,
    trimmed: DFF<bool>,
    rest: DFF<Bits<17>>,
    asking: DFF<bool>,
    idle_register: DFF<bool>,

    proceeds: Signal<Local, bool>,
    is_closing: Signal<Local, bool>,
    is_whole: Signal<Local, bool>,
    without_list: Signal<Local, bool>,
    trims: Signal<Local, bool>,
    only_points: Signal<Local, bool>,
    entry_wrong: Signal<Local, bool>,
    piece_done: Signal<Local, bool>,
    is_zeros: Signal<Local, bool>,
    taken: Signal<Local, bool>,
    gone: Signal<Local, bool>,
    rests: Signal<Local, bool>,
    is_first: Signal<Local, bool>,
    plan_prp1: Signal<Local, Bits<64>>,
    plan_prp2: Signal<Local, Bits<64>>,
    page_offset: Signal<Local, Bits<64>>,
    entry_offset: Signal<Local, Bits<12>>,

    transfer_error: Constant<Bits<11>>,
    offset_error: Constant<Bits<11>>,
    page_mask: Constant<Bits<64>>,
    zero64: Constant<Bits<64>>,
    zero12: Constant<Bits<12>>,
    zero10: Constant<Bits<10>>,
    one17: Constant<Bits<17>>,
    zero17: Constant<Bits<17>>,
    no_reserved: Constant<Bits<1>>,
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
            zeros: Default::default(),
            closed: Default::default(),
            request: Default::default(),
            address: Default::default(),
            forget: Default::default(),
            answer: Default::default(),
            entry: Default::default(),
            failed: Default::default(),
            idle: Default::default(),
            pages: Default::default(),
            slot: Default::default(),
            resting: Default::default(),
            busy: Default::default(),
            scaling: Default::default(),
            measuring: Default::default(),
            ending: Default::default(),
            paging: Default::default(),
            deciding: Default::default(),
            trimming: Default::default(),
            resolving: Default::default(),
            placing: Default::default(),
            pointing: Default::default(),
            waiting: Default::default(),
            judging: Default::default(),
            offering: Default::default(),
            resuming: Default::default(),
            closing: Default::default(),
            for_first: Default::default(),
            for_second: Default::default(),
            for_chain: Default::default(),
            work: Default::default(),
            lba_next: Default::default(),
            ordinal: Default::default(),
            stopped: Default::default(),
            status: Default::default(),
            chain: Default::default(),
            chain_valid: Default::default(),
            forgetting: Default::default(),
            index: Default::default(),
            target: Default::default(),
            entry_bad: Default::default(),
            prp1: Default::default(),
            prp1_decided: Default::default(),
            prp2: Default::default(),
            trimmed: Default::default(),
            rest: Default::default(),
            asking: Default::default(),
            idle_register: Default::default(),
            proceeds: Default::default(),
            is_closing: Default::default(),
            is_whole: Default::default(),
            without_list: Default::default(),
            trims: Default::default(),
            only_points: Default::default(),
            entry_wrong: Default::default(),
            piece_done: Default::default(),
            is_zeros: Default::default(),
            taken: Default::default(),
            gone: Default::default(),
            rests: Default::default(),
            is_first: Default::default(),
            plan_prp1: Default::default(),
            plan_prp2: Default::default(),
            page_offset: Default::default(),
            entry_offset: Default::default(),
            transfer_error: Constant::new((status::DATA_TRANSFER_ERROR as u64).to_bits()),
            offset_error: Constant::new((status::INVALID_PRP_OFFSET as u64).to_bits()),
            page_mask: Constant::new((!0xFFFu64).to_bits()),
            zero64: Constant::new(0u64.to_bits()),
            zero12: Constant::new(0u64.to_bits()),
            zero10: Constant::new(0u64.to_bits()),
            one17: Constant::new(1u64.to_bits()),
            zero17: Constant::new(0u64.to_bits()),
            no_reserved: Constant::new(0u64.to_bits()),
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
            resting,
            busy,
            scaling,
            measuring,
            ending,
            paging,
            deciding,
            trimming,
            resolving,
            placing,
            pointing,
            waiting,
            judging,
            offering,
            resuming,
            closing,
            for_first,
            for_second,
            for_chain,
            work,
            lba_next,
            ordinal,
            stopped,
            status,
            chain,
            chain_valid,
            forgetting,
            index,
            target,
            entry_bad,
            prp1,
            prp1_decided,
            prp2,
            trimmed,
            rest,
            asking,
            idle_register
        );
        self.piece.ready.next = !self.busy.q.val();
        self.is_zeros.next = (self.work.q.val().zeros == self.flag.val());
        self.fragment.valid.next = self.offering.q.val() & !self.is_zeros.val();
        self.fragment.data.next.part = self.work.q.val().part;
        self.fragment.data.next.ordinal = self.ordinal.q.val();
        self.fragment.data.next.last = self.work.q.val().last;
        if self.trimmed.q.val() {
            self.fragment.data.next.last = self.clear.val();
        }
        self.fragment.data.next.opcode = self.work.q.val().opcode;
        self.fragment.data.next.path = self.work.q.val().path;
        self.fragment.data.next.namespace_id = self.work.q.val().namespace_id;
        self.fragment.data.next.lba = self.work.q.val().lba;
        self.fragment.data.next.blocks = self.work.q.val().blocks;
        self.fragment.data.next.prp1 = self.prp1.q.val();
        self.fragment.data.next.prp2 = self.prp2.q.val();
        self.fragment.data.next.deallocate = self.work.q.val().deallocate;
        self.fragment.data.next.force_unit_access = self.work.q.val().force_unit_access;
        self.fragment.data.next.limited_retry = self.work.q.val().limited_retry;
        self.fragment.data.next.cdw13 = self.work.q.val().cdw13;
        self.fragment.data.next.terms = self.work.q.val().terms;
        self.fragment.data.next.reserved = self.no_reserved.val();
        self.zeros.valid.next = self.offering.q.val() & self.is_zeros.val();
        self.zeros.data.next.part = self.work.q.val().part;
        self.zeros.data.next.ordinal = self.ordinal.q.val();
        self.zeros.data.next.last = self.work.q.val().last;
        if self.trimmed.q.val() {
            self.zeros.data.next.last = self.clear.val();
        }
        self.zeros.data.next.prp1 = self.prp1.q.val();
        self.zeros.data.next.prp2 = self.prp2.q.val();
        self.zeros.data.next.blocks = self.work.q.val().blocks;
        self.zeros.data.next.block_shift = self.work.q.val().block_shift;
        self.closed.valid.next = self.closing.q.val();
        self.closed.data.next.part = self.work.q.val().part;
        self.closed.data.next.issued = self.ordinal.q.val();
        self.closed.data.next.status = self.status.q.val();
        self.idle_register.d.next = self.resting.q.val() & !self.piece.valid.val();
        self.idle.next = self.idle_register.q.val();
        self.request.next = self.asking.q.val();
        self.address.next = self.target.q.val();
        self.forget.next = self.forgetting.q.val();

        self.plan_prp1.next = self.work.q.val().prp1;
        self.plan_prp2.next = self.work.q.val().prp2;

        self.lba_next.d.next = self.work.q.val().lba + bit_cast::<48, 17>(self.work.q.val().blocks);
        self.pages.clock.next = self.clock.val();
        self.pages.plan_offset.next = self.work.q.val().plan_offset;
        self.pages.blocks.next = self.work.q.val().blocks;
        self.pages.plan_blocks.next = self.work.q.val().plan_blocks;
        self.pages.block_shift.next = self.work.q.val().block_shift;
        self.pages.first_offset.next = self.plan_prp1.val().get_bits::<12>(0);
        self.pages.list_slot.next = self.plan_prp2.val().get_bits::<9>(3);
        self.page_offset.next = bit_cast::<64, 12>(self.pages.offset.val());
        self.slot.clock.next = self.clock.val();
        self.slot.prp2.next = self.plan_prp2.val();
        self.slot.last_slot.next = self.pages.last_slot.val();
        self.slot.chained.next = self.pages.chained.val();
        self.slot.chain.next = self.chain.q.val();
        self.slot.chain_valid.next = self.chain_valid.q.val();
        self.slot.index.next = self.index.q.val();
        self.entry_offset.next = self.entry.val().get_bits::<12>(0);
        self.entry_bad.d.next = (self.entry_offset.val() != self.zero12.val());

        // Takes a piece.
        self.is_first.next = (self.piece.data.val().first == self.flag.val());
        self.is_closing.next = (self.piece.data.val().closing == self.flag.val());
        self.is_whole.next = (self.piece.data.val().whole == self.flag.val());
        self.proceeds.next =
            !self.busy.q.val() & self.piece.valid.val() & (self.is_first.val() | !self.stopped.q.val());
        self.forgetting.d.next = !self.busy.q.val() & self.piece.valid.val() & self.is_first.val();
        if self.resting.q.val() {
            self.work.d.next = self.piece.data.val();
            self.status.d.next = self.piece.data.val().status;
            self.trimmed.d.next = false;
        }
        if self.forgetting.q.val() {
            self.chain_valid.d.next = false;
        }

        // Decides: right where no list is read; else an entry of the list takes the PRP's place.
        self.trims.next = self.pages.trims.val() & !self.pages.listless.val();
        self.without_list.next = self.pages.listless.val()
            | (self.pages.page_zero.val() & self.pages.span_zero.val() & !self.trims.val());
        if self.deciding.q.val() {
            self.index.d.next = self.pages.page_before.val();
            self.for_first.d.next = !self.pages.page_zero.val();
            self.for_second.d.next = self.pages.page_zero.val() & self.pages.span_one.val();
            if self.pages.page_zero.val() {
                self.index.d.next = self.zero10.val();
            }
        }
        if self.trimming.q.val() {
            self.rest.d.next = self.work.q.val().blocks - self.pages.trim_blocks.val();
            self.work.d.next.blocks = self.pages.trim_blocks.val();
            self.trimmed.d.next = true;
        }

        // Reads the list.
        self.only_points.next =
            !self.slot.is_chain.val() & !self.for_first.q.val() & !self.for_second.q.val();
        self.asking.d.next = self.placing.q.val() & !self.only_points.val();
        if self.placing.q.val() {
            self.target.d.next = self.slot.address.val();
            self.for_chain.d.next = self.slot.is_chain.val();
        }
        self.entry_wrong.next = self.failed.val() | self.entry_bad.q.val();
        self.piece_done.next =
            !self.for_chain.q.val() & (!self.for_first.q.val() | self.pages.span_zero.val());
        if self.judging.q.val() {
            self.status.d.next = self.offset_error.val();
            if self.failed.val() {
                self.status.d.next = self.transfer_error.val();
            }
            if self.for_chain.q.val() {
                self.chain.d.next = self.entry.val();
                self.chain_valid.d.next = true;
            } else {
                self.index.d.next = self.pages.page.val();
                self.for_first.d.next = false;
                self.for_second.d.next = self.pages.span_one.val();
            }
        }
        if self.resting.q.val() {
            self.prp1.d.next = self.piece.data.val().prp1;
            self.prp2.d.next = self.piece.data.val().prp2;
        } else if self.deciding.q.val() {
            self.prp1.d.next = self.prp1_decided.q.val();
            self.prp2.d.next = self.zero64.val();
            if self.pages.span_one.val() {
                self.prp2.d.next = self.plan_prp2.val();
            }
        } else if self.pointing.q.val() {
            self.prp2.d.next = self.target.q.val();
        } else if self.judging.q.val() {
            if self.for_first.q.val() {
                self.prp1.d.next = self.entry.val() | self.page_offset.val();
            } else {
                self.prp2.d.next = self.entry.val();
            }
        }
        self.prp1_decided.d.next = (self.plan_prp2.val() & self.page_mask.val()) | self.page_offset.val();
        if self.pages.page_zero.val() {
            self.prp1_decided.d.next = (self.plan_prp1.val() & self.page_mask.val()) | self.page_offset.val();
        }

        // Gives what came of it.
        self.taken.next = self.fragment.ready.val();
        if self.is_zeros.val() {
            self.taken.next = self.zeros.ready.val();
        }
        self.gone.next = self.offering.q.val() & self.taken.val();
        if self.gone.val() {
            self.ordinal.d.next = self.ordinal.q.val() + self.one17.val();
        }
        if self.resuming.q.val() {
            self.work.d.next.plan_offset = self.work.q.val().plan_offset + self.work.q.val().blocks;
            self.work.d.next.lba = self.lba_next.q.val();
            self.work.d.next.blocks = self.rest.q.val();
            self.trimmed.d.next = false;
        }
        if self.closing.q.val() {
            self.stopped.d.next = true;
        }
        if !self.busy.q.val() & self.piece.valid.val() & self.is_first.val() {
            self.stopped.d.next = false;
            self.ordinal.d.next = self.zero17.val();
        }

        self.scaling.d.next = (self.proceeds.val() & !self.is_closing.val() & !self.is_whole.val())
            | self.trimming.q.val()
            | self.resuming.q.val();
        self.measuring.d.next = self.scaling.q.val();
        self.ending.d.next = self.measuring.q.val();
        self.paging.d.next = self.ending.q.val();
        self.deciding.d.next = self.paging.q.val();
        self.trimming.d.next = self.deciding.q.val() & self.trims.val();
        self.resolving.d.next = (self.deciding.q.val() & !self.trims.val() & !self.without_list.val())
            | (self.judging.q.val() & !self.entry_wrong.val() & !self.piece_done.val());
        self.placing.d.next = self.resolving.q.val();
        self.pointing.d.next = self.placing.q.val() & self.only_points.val();
        self.waiting.d.next =
            (self.placing.q.val() & !self.only_points.val()) | (self.waiting.q.val() & !self.answer.val());
        self.judging.d.next = self.waiting.q.val() & self.answer.val();
        self.offering.d.next = (self.proceeds.val() & !self.is_closing.val() & self.is_whole.val())
            | (self.deciding.q.val() & self.without_list.val())
            | self.pointing.q.val()
            | (self.judging.q.val() & !self.entry_wrong.val() & self.piece_done.val())
            | (self.offering.q.val() & !self.taken.val());
        self.resuming.d.next = self.gone.val() & self.trimmed.q.val();
        self.closing.d.next = (self.proceeds.val() & self.is_closing.val())
            | (self.judging.q.val() & self.entry_wrong.val())
            | (self.closing.q.val() & !self.closed.ready.val());
        self.rests.next = (!self.busy.q.val() & !self.proceeds.val())
            | (self.gone.val() & !self.trimmed.q.val())
            | (self.closing.q.val() & self.closed.ready.val());
        self.resting.d.next = self.rests.val();
        self.busy.d.next = !self.rests.val();

        if self.reset.val() {
            self.resting.d.next = true;
            self.busy.d.next = false;
            self.scaling.d.next = false;
            self.measuring.d.next = false;
            self.ending.d.next = false;
            self.paging.d.next = false;
            self.deciding.d.next = false;
            self.trimming.d.next = false;
            self.resolving.d.next = false;
            self.placing.d.next = false;
            self.waiting.d.next = false;
            self.judging.d.next = false;
            self.pointing.d.next = false;
            self.offering.d.next = false;
            self.resuming.d.next = false;
            self.closing.d.next = false;
            self.asking.d.next = false;
            self.stopped.d.next = false;
        }
    }
}
