//! Submission: writes fragments into the submission queues of their paths.
//!
//! Purpose: gives each fragment an entry in its path's queue and an identifier, waits until the path has credit
//! (fewer than `limit` fragments in flight, and the queue not full), writes the identifier's record for
//! `CompletionFilter` and the entry for the bus; a Dataset Management's range is accepted before its entry is
//! offered. Owns the path table (`PathTable`). Handshake: streams. `issued_valid` is a pulse, the cycle after
//! the bus took the entry, with the path's new tail. Credit is asked of `PathReturns` by `query_path`, answered
//! a cycle later, and its question `tail_path` is answered so. A fragment whose path's entry is not valid (any
//! more) when its turn comes is not issued but given back, as `bounced`; nor is one whose plan issues nothing
//! more (`stopped`, asked by `stop_query`), which comes back as such. Latency: fragment to entry offered 5 or 6
//! cycles. Throughput: one in 2 cycles, a Dataset Management in 4. Order: as they came, also across paths: a
//! path without credit holds up the next. Reset: forgets what is in it. Writing a path's table entry clears its
//! accounts here, in `PathReturns` and in `PathDoorbells`, each of which hears the bus; `table_ack` follows 16
//! cycles after the request. Failure: an SSD that stops completing stops its path.

use rust_hdl::prelude::*;
use volplane_abi::opcode;
use volplane_abi::plan::plan_status;

use super::entry_writer::EntryWriter;
use super::path_table::PathTable;
use super::slot_allocator::SlotAllocator;
use crate::exec::stop_cause::STOPPED;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Fragment, IdRecord, Part, Returned, SmallWrite, TableRequest, WideWrite};
use crate::Sizes;

/// Fragments to entries.
#[derive(Clone, Debug, LogicBlock)]
pub struct Submission {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub fragment: StreamIn<Fragment>,
    pub id: StreamIn<Bits<16>>,
    pub range_base: Signal<In, Bits<64>>,
    pub write: StreamOut<WideWrite>,
    pub range_write: StreamOut<SmallWrite>,
    pub record_valid: Signal<Out, bool>,
    pub record_index: Signal<Out, Bits<11>>,
    pub record: Signal<Out, IdRecord>,
    /// How the part of the record is to be given (`PartTerms`).
    pub record_terms: Signal<Out, Bits<16>>,
    /// Fragments whose path is not valid any more: they end with Host Pathing Error.
    pub bounced: StreamOut<Returned>,
    /// A plan, and two cycles later whether it is stopped.
    pub stop_query: Signal<Out, Bits<12>>,
    pub stopped: Signal<In, bool>,
    pub issued_valid: Signal<Out, bool>,
    pub issued_path: Signal<Out, Bits<8>>,
    pub issued_tail: Signal<Out, Bits<16>>,
    pub query_path: Signal<Out, Bits<8>>,
    pub query_head: Signal<In, Bits<16>>,
    pub query_returned: Signal<In, Bits<16>>,
    pub tail_path: Signal<In, Bits<8>>,
    pub tail_value: Signal<Out, Bits<16>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub path_valid: Signal<Out, Bits<32>>,
    pub renewing: Signal<Out, bool>,
    pub path_written: Signal<Out, bool>,
    pub state_query: Signal<Out, Bits<8>>,
    pub state_head: Signal<In, Bits<16>>,
    pub state_returned: Signal<In, Bits<16>>,
    pub state_rung: Signal<In, Bits<16>>,
    pub state_cq_head: Signal<In, Bits<16>>,
    pub idle: Signal<Out, bool>,
    path_table: PathTable,
    slots: SlotAllocator,
    writer: EntryWriter,
    /// Every second cycle is odd: fragments move at the end of odd cycles. The memories are asked for
    /// the arriving fragment in even cycles, for the waiting one's credit in odd ones.
    odd: DFF<bool>,
    arriving_valid: DFF<bool>,
    arriving: DFF<Fragment>,
    waiting_valid: DFF<bool>,
    waiting: DFF<Fragment>,
    /// Of the waiting fragment's opcode.
    waiting_flush: DFF<bool>,
    waiting_ranged: DFF<bool>,
    /// The waiting fragment's entry, the tail after it, its number, and what decides on its credit.
    slot: DFF<Bits<16>>,
    tail: DFF<Bits<16>>,
    number: DFF<Bits<16>>,
    limit: DFF<Bits<16>>,
    in_flight: DFF<Bits<16>>,
    head: DFF<Bits<16>>,
    base: DFF<Bits<64>>,
    slot_address: DFF<Bits<64>>,
    /// Who moves in this odd cycle.
    issuing: DFF<bool>,
    moving: DFF<bool>,
    taking: DFF<bool>,
    /// Credit was asked for this same fragment in the last cycle.
    asked: DFF<bool>,
    /// Of the path that was asked for in the last cycle, and of the waiting fragment's: it is not valid.
    queried_gone: DFF<bool>,
    gone: DFF<bool>,
    /// The waiting fragment's plan is stopped; it had been given an entry by then.
    halted: DFF<bool>,
    has_slot: DFF<bool>,
    bouncing: DFF<bool>,
    bounced_valid: DFF<bool>,
    bounced_fragment: DFF<Returned>,
    query: Signal<Local, Bits<8>>,
    query_low: Signal<Local, Bits<5>>,
    coming_part: Signal<Local, Part>,
    arriving_part: Signal<Local, Part>,
    waiting_part: Signal<Local, Part>,
    ends: Signal<Local, bool>,
    gives_back: Signal<Local, bool>,
    leaves: Signal<Local, bool>,
    may_issue: Signal<Local, bool>,
    lost: Constant<Returned>,
    stop_status: Constant<Bits<15>>,
    flush: Constant<Bits<8>>,
    dataset_management: Constant<Bits<8>>,
    number_now: Signal<Local, Bits<16>>,
}

impl Submission {
    /// The submission of a build.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            fragment: Default::default(),
            id: Default::default(),
            range_base: Default::default(),
            write: Default::default(),
            range_write: Default::default(),
            record_valid: Default::default(),
            record_index: Default::default(),
            record: Default::default(),
            record_terms: Default::default(),
            bounced: Default::default(),
            stop_query: Default::default(),
            stopped: Default::default(),
            issued_valid: Default::default(),
            issued_path: Default::default(),
            issued_tail: Default::default(),
            query_path: Default::default(),
            query_head: Default::default(),
            query_returned: Default::default(),
            tail_path: Default::default(),
            tail_value: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            path_valid: Default::default(),
            renewing: Default::default(),
            path_written: Default::default(),
            state_query: Default::default(),
            state_head: Default::default(),
            state_returned: Default::default(),
            state_rung: Default::default(),
            state_cq_head: Default::default(),
            idle: Default::default(),
            path_table: PathTable::new(sizes),
            slots: SlotAllocator::new(sizes),
            writer: Default::default(),
            odd: Default::default(),
            arriving_valid: Default::default(),
            arriving: Default::default(),
            waiting_valid: Default::default(),
            waiting: Default::default(),
            waiting_flush: Default::default(),
            waiting_ranged: Default::default(),
            slot: Default::default(),
            tail: Default::default(),
            number: Default::default(),
            limit: Default::default(),
            in_flight: Default::default(),
            head: Default::default(),
            base: Default::default(),
            slot_address: Default::default(),
            asked: Default::default(),
            issuing: Default::default(),
            queried_gone: Default::default(),
            gone: Default::default(),
            halted: Default::default(),
            has_slot: Default::default(),
            bouncing: Default::default(),
            bounced_valid: Default::default(),
            bounced_fragment: Default::default(),
            query: Default::default(),
            query_low: Default::default(),
            coming_part: Default::default(),
            arriving_part: Default::default(),
            waiting_part: Default::default(),
            ends: Default::default(),
            gives_back: Default::default(),
            leaves: Default::default(),
            may_issue: Default::default(),
            lost: Constant::new(Returned {
                status: u64::from(plan_status::HOST_PATH_ERROR).to_bits(),
                own: 1u64.to_bits(),
                ..Returned::default()
            }),
            stop_status: Constant::new(u64::from(STOPPED).to_bits()),
            flush: Constant::new(u64::from(opcode::FLUSH).to_bits()),
            dataset_management: Constant::new(u64::from(opcode::DATASET_MANAGEMENT).to_bits()),
            number_now: Default::default(),
            moving: Default::default(),
            taking: Default::default(),
        }
    }
}

impl Logic for Submission {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, odd, arriving_valid, arriving, waiting_valid, waiting, slot, tail, number);
        dff_setup!(self, clock, waiting_flush, waiting_ranged);
        dff_setup!(self, clock, limit, in_flight, head, base, slot_address, issuing, moving, taking, asked);
        dff_setup!(
            self,
            clock,
            queried_gone,
            gone,
            halted,
            has_slot,
            bouncing,
            bounced_valid,
            bounced_fragment
        );
        self.path_table.clock.next = self.clock.val();
        self.path_table.reset.next = self.reset.val();
        self.path_table.table_valid.next = self.table_valid.val();
        self.path_table.table_request.next = self.table_request.val();
        self.table_ack.next = self.path_table.table_ack.val();
        self.table_data.next = self.path_table.table_data.val();
        self.path_valid.next = self.path_table.path_valid.val();
        self.renewing.next = self.path_table.renewing.val();
        self.path_written.next = self.path_table.path_written.val();
        self.state_query.next = self.path_table.state_query.val();
        self.path_table.state_tail.next = self.slots.state_tail.val();
        self.path_table.state_issued.next = self.slots.state_issued.val();
        self.path_table.state_head.next = self.state_head.val();
        self.path_table.state_returned.next = self.state_returned.val();
        self.path_table.state_rung.next = self.state_rung.val();
        self.path_table.state_cq_head.next = self.state_cq_head.val();
        self.slots.clock.next = self.clock.val();
        self.slots.reset.next = self.reset.val();
        self.slots.table_valid.next = self.table_valid.val();
        self.slots.table_request.next = self.table_request.val();
        self.slots.state_query.next = self.path_table.state_query.val();
        self.slots.tail_path.next = self.tail_path.val();
        self.tail_value.next = self.slots.tail_value.val();

        // Who moves in an odd cycle is decided in the even one before, in which nothing else does.
        self.odd.d.next = !self.odd.q.val();
        self.may_issue.next = (self.in_flight.q.val() < self.limit.q.val())
            & (self.tail.q.val() != self.head.q.val())
            & self.writer.able.val();
        // Whoever gives an entry back does so alone: the next one's is taken after.
        self.ends.next = self.gone.q.val() | self.halted.q.val();
        self.gives_back.next = self.has_slot.q.val() & !self.gone.q.val();
        self.leaves.next = self.may_issue.val();
        if self.ends.val() {
            self.leaves.next = !self.bounced_valid.q.val() & !self.gives_back.val();
        }
        self.issuing.d.next =
            !self.odd.q.val() & self.waiting_valid.q.val() & self.may_issue.val() & !self.ends.val();
        self.bouncing.d.next =
            !self.odd.q.val() & self.waiting_valid.q.val() & self.ends.val() & !self.bounced_valid.q.val();
        self.moving.d.next = !self.odd.q.val()
            & self.arriving_valid.q.val()
            & (!self.waiting_valid.q.val() | self.leaves.val());
        self.taking.d.next = !self.odd.q.val()
            & (!self.arriving_valid.q.val() | !self.waiting_valid.q.val() | self.leaves.val());
        self.fragment.ready.next = self.taking.q.val();

        // Arriving: the path's next entry.
        if self.taking.q.val() {
            self.arriving_valid.d.next = self.fragment.valid.val();
            self.arriving.d.next = self.fragment.data.val();
        }
        self.slots.odd.next = self.odd.q.val();
        self.slots.path.next = self.arriving.q.val().path;
        self.slots.take.next = self.moving.q.val() & !self.queried_gone.q.val() & !self.stopped.val();
        self.slots.take_path.next = self.arriving.q.val().path;
        self.slots.give_back.next = self.bouncing.q.val() & self.gives_back.val();
        self.slots.given_slot.next = self.slot.q.val();
        self.slots.given_tail.next = self.tail.q.val();
        self.slots.given_number.next = self.number.q.val();
        if self.bouncing.q.val() & self.gives_back.val() {
            self.slots.take_path.next = self.waiting.q.val().path;
        }
        if self.issuing.q.val() | self.bouncing.q.val() {
            self.waiting_valid.d.next = false;
        }

        // Waiting: for credit, an identifier, and the entry before it to be taken.
        self.query.next = self.arriving.q.val().path;
        if self.odd.q.val() {
            self.query.next = self.waiting.q.val().path;
        }
        self.query_path.next = self.query.val();
        // Whether a plan is stopped comes in a cycle like that in which it was asked: of what arrives in odd
        // cycles, when it moves, of what waits in even ones.
        self.coming_part.next = self.fragment.data.val().part.into();
        self.arriving_part.next = self.arriving.q.val().part.into();
        self.waiting_part.next = self.waiting.q.val().part.into();
        self.stop_query.next = self.waiting_part.val().slot;
        if self.odd.q.val() {
            self.stop_query.next = self.arriving_part.val().slot;
            if self.taking.q.val() {
                self.stop_query.next = self.coming_part.val().slot;
            }
        }
        self.query_low.next = self.query.val().get_bits::<5>(0);
        self.queried_gone.d.next = !self.path_table.path_valid.val().get_bit(self.query_low.val().index());
        self.asked.d.next =
            self.odd.q.val() & self.waiting_valid.q.val() & !self.issuing.q.val() & !self.bouncing.q.val();
        // `asked` stands in even cycles only, fragments move in odd ones.
        self.number_now.next = self.number.q.val();
        if self.odd.q.val() {
            self.number_now.next = self.slots.number.val();
        }
        if self.asked.q.val() | self.moving.q.val() {
            self.in_flight.d.next = self.number_now.val() - self.query_returned.val();
            self.head.d.next = self.query_head.val();
            // Whoever has once lost its path has no entry that could be used.
            self.gone.d.next = self.queried_gone.q.val() | (self.gone.q.val() & !self.moving.q.val());
            self.halted.d.next = self.stopped.val();
        }
        if self.moving.q.val() {
            self.waiting_valid.d.next = true;
            self.waiting.d.next = self.arriving.q.val();
            self.waiting_flush.d.next = (self.arriving.q.val().opcode == self.flush.val());
            self.waiting_ranged.d.next = (self.arriving.q.val().opcode == self.dataset_management.val());
            self.slot.d.next = self.slots.slot.val();
            self.tail.d.next = self.slots.tail.val();
            self.number.d.next = self.slots.number.val();
            self.base.d.next = self.slots.base.val();
            self.limit.d.next = self.slots.limit.val();
            self.has_slot.d.next = !self.queried_gone.q.val() & !self.stopped.val();
        }
        self.slot_address.d.next = self.base.q.val() + (bit_cast::<64, 16>(self.slot.q.val()) << 6);
        self.slots.commit.next = self.issuing.q.val();
        self.slots.commit_path.next = self.waiting.q.val().path;
        self.slots.commit_tail.next = self.tail.q.val();
        self.slots.commit_number.next = self.number.q.val();

        // Its path is gone: it ends here.
        self.bounced.valid.next = self.bounced_valid.q.val();
        self.bounced.data.next = self.bounced_fragment.q.val();
        if self.bounced.ready.val() {
            self.bounced_valid.d.next = false;
        }
        if self.bouncing.q.val() {
            self.bounced_valid.d.next = true;
            self.bounced_fragment.d.next = self.lost.val();
            self.bounced_fragment.d.next.path = self.waiting.q.val().path;
            self.bounced_fragment.d.next.part = self.waiting.q.val().part;
            self.bounced_fragment.d.next.ordinal = self.waiting.q.val().ordinal;
            self.bounced_fragment.d.next.last = self.waiting.q.val().last;
            if self.halted.q.val() {
                self.bounced_fragment.d.next.status = self.stop_status.val();
            }
        }

        // Issued: with an identifier, to the bus.
        self.writer.clock.next = self.clock.val();
        self.writer.reset.next = self.reset.val();
        self.writer.start.next = self.issuing.q.val();
        self.writer.fragment.next = self.waiting.q.val();
        self.writer.is_flush.next = self.waiting_flush.q.val();
        self.writer.is_ranged.next = self.waiting_ranged.q.val();
        self.writer.address.next = self.slot_address.q.val();
        self.writer.tail.next = self.tail.q.val();
        self.writer.range_base.next = self.range_base.val();
        StreamIn::<Bits<16>>::link(&mut self.id, &mut self.writer.id);
        StreamOut::<WideWrite>::link(&mut self.write, &mut self.writer.write);
        StreamOut::<SmallWrite>::link(&mut self.range_write, &mut self.writer.range_write);
        self.record_valid.next = self.writer.record_valid.val();
        self.record_index.next = self.writer.record_index.val();
        self.record.next = self.writer.record.val();
        self.record_terms.next = self.writer.record_terms.val();
        self.issued_valid.next = self.writer.issued_valid.val();
        self.issued_path.next = self.writer.issued_path.val();
        self.issued_tail.next = self.writer.issued_tail.val();
        self.idle.next = self.path_table.idle.val()
            & self.slots.idle.val()
            & !self.arriving_valid.q.val()
            & !self.waiting_valid.q.val()
            & !self.bounced_valid.q.val()
            & self.writer.idle.val();

        if self.reset.val() {
            self.odd.d.next = false;
            self.arriving_valid.d.next = false;
            self.waiting_valid.d.next = false;
            self.asked.d.next = false;
            self.issuing.d.next = false;
            self.moving.d.next = false;
            self.taking.d.next = false;
            self.bouncing.d.next = false;
            self.bounced_valid.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use crate::nvme::path_write::write_request;
    use crate::records::PathEntry;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use std::collections::VecDeque;
    use volplane_abi::{table, DeallocateRange, PathState, SubmissionEntry};

    const RANGE_BASE: u64 = 0x7_FFFF_F000;

    #[derive(Clone, Copy)]
    struct Path {
        base: u64,
        size: u64,
        limit: u64,
        head: u64,
        tail: u64,
        issued: u64,
        returned: u64,
    }

    impl Path {
        fn new(base: u64, size: u64, limit: u64) -> Self {
            Self { base, size, limit, head: 0, tail: 0, issued: 0, returned: 0 }
        }

        fn entry(&self) -> PathEntry {
            PathEntry {
                sq_base: self.base.into(),
                sq_size_z: (self.size - 1).into(),
                cq_size_z: (self.size - 1).into(),
                limit: self.limit.into(),
                valid: 1.into(),
                ..PathEntry::default()
            }
        }
    }

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn start(bench: &mut Bench) {
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench.set("range_base", RANGE_BASE.into());
    }

    fn write_path(bench: &mut Bench, number: usize, path: &Path) {
        bench.set_record("table_request", write_request(number, path.entry()));
        bench.set("table_valid", 1);
        for cycle in 0..=16 {
            bench.eval();
            assert_eq!(bench.get("table_ack") == 1, cycle == 16);
            bench.cycle();
            bench.set("table_valid", 0);
        }
    }

    fn random_fragment(random: &mut ChaCha8Rng, paths: usize) -> Fragment {
        let opcodes = [
            opcode::READ,
            opcode::WRITE,
            opcode::READ,
            opcode::WRITE_ZEROES,
            opcode::FLUSH,
            opcode::DATASET_MANAGEMENT,
        ];
        let opcode = opcodes[random.random_range(0..opcodes.len())];
        let blocks = [1, 65_536, random.random_range(1..=65_536u64)][random.random_range(0..3)];
        Fragment {
            part: (random.random_range(0..16u64) << 12 | random.random_range(0..SLOTS)).into(),
            ordinal: random.random_range(0..1u64 << 17).into(),
            last: random.random_range(0..2u64).into(),
            opcode: u64::from(opcode).into(),
            path: random.random_range(0..paths as u64).into(),
            namespace_id: u64::from(random.random::<u32>()).into(),
            lba: random.random_range(0..1u64 << 48).into(),
            blocks: (if opcode == opcode::FLUSH { 0 } else { blocks }).into(),
            prp1: random.random::<u64>().into(),
            prp2: random.random::<u64>().into(),
            deallocate: random.random_range(0..2u64).into(),
            force_unit_access: random.random_range(0..2u64).into(),
            limited_retry: random.random_range(0..2u64).into(),
            cdw13: u64::from(random.random::<u32>()).into(),
            terms: random.random_range(0..1u64 << 16).into(),
            reserved: 0.into(),
        }
    }

    /// The entry a fragment becomes, and its range.
    fn expected(fragment: &Fragment, id: u16) -> (SubmissionEntry, Option<DeallocateRange>) {
        let opcode = fragment.opcode.to_u8();
        let (lba, blocks) = (fragment.lba.to_u64(), fragment.blocks.to_u64());
        let entry = SubmissionEntry::default()
            .with_opcode(opcode)
            .with_command_id(id)
            .with_namespace_id(fragment.namespace_id.to_u32());
        match opcode {
            opcode::FLUSH => (entry, None),
            opcode::DATASET_MANAGEMENT => {
                let address = RANGE_BASE + 16 * u64::from(id & 0x7FF);
                let range = DeallocateRange::default().with_block_count(blocks as u32).with_starting_lba(lba);
                (entry.with_prp1(address).with_starting_lba(4 << 32), Some(range))
            }
            _ => {
                let entry = entry
                    .with_prp1(fragment.prp1.to_u64())
                    .with_prp2(fragment.prp2.to_u64())
                    .with_starting_lba(lba)
                    .with_block_count_z((blocks - 1) as u16)
                    .with_deallocate(fragment.deallocate.to_u8())
                    .with_force_unit_access(fragment.force_unit_access.to_u8())
                    .with_limited_retry(fragment.limited_retry.to_u8())
                    .with_cdw13(fragment.cdw13.to_u32());
                (entry, None)
            }
        }
    }

    /// Plans of the random fragments.
    const SLOTS: u64 = 64;

    /// Fragments to paths that complete at random, with stalls of every port, paths written anew, and plans that
    /// are stopped.
    struct Run {
        bench: Bench,
        random: ChaCha8Rng,
        paths: Vec<Path>,
        /// Given to the block, not yet issued; identifiers likewise.
        fragments: VecDeque<Fragment>,
        ids: VecDeque<u16>,
        /// The cycle in which a plan was stopped, and in which each fragment was taken.
        stops: [Option<u64>; SLOTS as usize],
        taken: VecDeque<u64>,
        /// What the memory of stops has read.
        stopped: bool,
        /// Given back when taken, and later.
        bounces: [u64; 2],
        bouncing: bool,
        offered: Option<Fragment>,
        offered_id: Option<u16>,
        /// What PathReturns is asked in this cycle it answers in the next; the tail likewise.
        asked: usize,
        asked_tail: (usize, Option<u64>),
        record: Option<(u128, u128)>,
        range: Option<(u64, Vec<u8>)>,
        issued: Option<(u64, u64)>,
        issues: u64,
    }

    impl Run {
        fn new(path_bits: usize, paths: Vec<Path>) -> Self {
            let sizes = Sizes { path_bits, ..Sizes::DEFAULT };
            let mut bench = Bench::new(&format!("submission_{path_bits}"), Submission::new(&sizes));
            start(&mut bench);
            for (number, path) in paths.iter().enumerate() {
                write_path(&mut bench, number, path);
            }
            Self {
                bench,
                random: seeded(),
                paths,
                fragments: VecDeque::new(),
                ids: VecDeque::new(),
                stops: [None; SLOTS as usize],
                taken: VecDeque::new(),
                stopped: false,
                bounces: [0; 2],
                bouncing: false,
                offered: None,
                offered_id: None,
                asked: 0,
                asked_tail: (0, None),
                record: None,
                range: None,
                issued: None,
                issues: 0,
            }
        }

        fn drive(&mut self, feeding: bool) {
            let Self { bench, random, paths, .. } = self;
            let eager = self.issues % 200 < 100;
            if self.offered.is_none() && feeding && (eager || random.random_bool(0.4)) {
                let fragment = random_fragment(random, paths.len());
                self.offered = Some(fragment);
            }
            bench.set("fragment$valid", self.offered.is_some().into());
            if let Some(fragment) = self.offered {
                bench.set_record("fragment$data", fragment);
            }
            if self.offered_id.is_none() && (eager || random.random_bool(0.4)) {
                self.offered_id = Some(random.random());
            }
            bench.set("id$valid", self.offered_id.is_some().into());
            bench.set("id$data", self.offered_id.unwrap_or(0).into());
            bench.set("write$ready", (eager || random.random_bool(0.3)).into());
            bench.set("range_write$ready", (eager || random.random_bool(0.3)).into());
            // An SSD completes: a fragment comes back, and its head moves up to the tail.
            let path = random.random_range(0..paths.len());
            let path = &mut paths[path];
            if path.returned != path.issued && random.random_bool(0.3) {
                path.returned += 1;
                let ahead = (path.tail + path.size - path.head) % path.size;
                path.head = (path.head + random.random_range(0..=ahead)) % path.size;
                if path.returned == path.issued {
                    path.head = path.tail;
                }
            }
            bench.set("tail_path", self.asked_tail.0 as u128);
            bench.set("bounced$ready", random.random_bool(0.6).into());
            // A plan that is stopped stays so while anything of it is here.
            let first = self.fragments.front().filter(|_| random.random_bool(0.3));
            let slot = first.map(|it| Part::from(it.part).slot.to_u64());
            let slot = slot.unwrap_or_else(|| random.random_range(0..SLOTS));
            let is_here = |fragment: &Fragment| Part::from(fragment.part).slot.to_u64() == slot;
            let stop = &mut self.stops[slot as usize];
            if stop.is_none() && random.random_bool(0.03) {
                *stop = Some(bench.cycles);
            } else if stop.is_some() && !self.fragments.iter().chain(&self.offered).any(is_here) {
                *stop = None;
            }
            bench.eval();
        }

        fn check(&mut self) {
            let Self { bench, paths, .. } = self;
            if bench.get("fragment$valid") == 1 && bench.get("fragment$ready") == 1 {
                self.fragments.extend(self.offered.take());
                self.taken.push_back(bench.cycles);
            }
            // What was given back is known when it is offered: the next ones pass it by.
            if bench.get("bounced$valid") == 1 && !std::mem::replace(&mut self.bouncing, true) {
                let bounced: Returned = bench.get_record("bounced$data");
                // Of those before it at most two are on their way to the bus.
                let same = |it: &Fragment| (it.part, it.ordinal, it.last, it.path);
                let place = self
                    .fragments
                    .iter()
                    .position(|it| same(it) == (bounced.part, bounced.ordinal, bounced.last, bounced.path));
                let place = place.filter(|&place| place <= 2).expect("one of the first fragments");
                self.fragments.remove(place);
                let since = self.taken.remove(place).expect("it was taken");
                let stop = self.stops[Part::from(bounced.part).slot.index()].expect("its plan is stopped");
                assert_eq!((bounced.status.to_u64(), bounced.own.any()), (u64::from(STOPPED), true));
                self.bounces[usize::from(stop > since)] += 1;
            }
            if bench.get("bounced$ready") == 1 {
                self.bouncing = false;
            }
            if bench.get("id$valid") == 1 && bench.get("id$ready") == 1 {
                self.ids.extend(self.offered_id.take());
            }
            if let Some(tail) = self.asked_tail.1 {
                assert_eq!(bench.get("tail_value") as u64, tail);
            }
            assert_eq!(bench.get("issued_valid") == 1, self.issued.is_some());
            if let Some((path, tail)) = self.issued.take() {
                assert_eq!((bench.get("issued_path") as u64, bench.get("issued_tail") as u64), (path, tail));
            }
            if bench.get("record_valid") == 1 {
                assert!(self.record.is_none(), "a record before the last entry was taken");
                self.record = Some((bench.get("record_index"), bench.get("record")));
            }
            if bench.get("range_write$valid") == 1 && bench.get("range_write$ready") == 1 {
                let write = bytes(&bench.get_wide("range_write$data"));
                assert_eq!(write[24], 1, "16 bytes");
                let address = u64::from_le_bytes(write[..8].try_into().expect("address"));
                assert!(self.range.replace((address, write[8..24].to_vec())).is_none());
            }
            if bench.get("write$valid") == 1 && bench.get("write$ready") == 1 {
                let fragment = self.fragments.pop_front().expect("a fragment for each entry");
                let since = self.taken.pop_front().expect("it was taken");
                let stop = self.stops[Part::from(fragment.part).slot.index()];
                assert!(stop.is_none_or(|stop| stop >= since), "stopped before it came");
                let id = self.ids.pop_front().expect("an identifier for each entry");
                let path = &mut paths[fragment.path.to_u64() as usize];
                assert!(path.issued - path.returned < path.limit, "beyond the limit");
                let next = (path.tail + 1) % path.size;
                assert_ne!(next, path.head, "queue overrun");
                let write = bytes(&bench.get_wide("write$data"));
                let (entry, range) = expected(&fragment, id);
                assert_eq!(write[..8], (path.base + 64 * path.tail).to_le_bytes());
                assert_eq!(write[8..], entry.0, "{entry:?}");
                let range = range.map(|range| (RANGE_BASE + 16 * u64::from(id & 0x7FF), range.0.to_vec()));
                assert_eq!(self.range.take(), range);
                let (index, record) = self.record.take().expect("the record is written before");
                let parts = [
                    (u128::from(id >> 11), 5),
                    (u128::from(fragment.path.to_u64()), 8),
                    (u128::from(fragment.part.to_u64()), 16),
                    (u128::from(fragment.ordinal.to_u64()), 17),
                    (u128::from(fragment.last.to_u64()), 1),
                ];
                let packed = parts.iter().rev().fold(0, |all, (value, width)| all << width | value);
                assert_eq!((index, record), (u128::from(id & 0x7FF), packed));
                (path.tail, path.issued) = (next, path.issued + 1);
                self.issued = Some((fragment.path.to_u64(), next));
                self.issues += 1;
            }
        }

        fn step(&mut self, feeding: bool) {
            self.drive(feeding);
            self.check();
            let next_asked = self.bench.get("query_path") as usize;
            // The tail in the memory is ahead of the bus while an entry is on offer.
            let path = &self.paths[self.asked_tail.0];
            self.asked_tail.1 = (self.fragments.is_empty()).then_some(path.tail);
            let next_stop = self.bench.get("stop_query") as usize % SLOTS as usize;
            let stopped = std::mem::replace(&mut self.stopped, self.stops[next_stop].is_some());
            self.bench.cycle();
            self.bench.set("stopped", stopped.into());
            self.asked = next_asked.min(self.paths.len() - 1);
            let path = &self.paths[self.asked];
            self.bench.set("query_head", path.head.into());
            self.bench.set("query_returned", u128::from(path.returned as u16));
            if self.asked_tail.1.is_none() {
                self.asked_tail.0 = self.random.random_range(0..self.paths.len());
            }
        }

        /// Reads a path's state back over the table bus.
        fn state(&mut self, number: usize) -> PathState {
            let path = self.paths[number];
            let request = TableRequest {
                write: 0.into(),
                table: u64::from(table::PATH_STATE).into(),
                index: (number as u64).into(),
                data: 0.into(),
            };
            self.bench.set_record("table_request", request);
            self.bench.set("table_valid", 1);
            self.bench.set("state_head", path.head.into());
            self.bench.set("state_returned", u128::from(path.returned as u16));
            self.bench.set("state_rung", 0x1234);
            self.bench.set("state_cq_head", 0x5678);
            while self.bench.get("table_ack") == 0 {
                self.bench.cycle();
                self.bench.set("table_valid", 0);
                self.bench.eval();
            }
            let data = bytes(&self.bench.get_wide("table_data"));
            self.bench.cycle();
            PathState(data[..16].try_into().expect("a path's state"))
        }
    }

    fn check(path_bits: usize, paths: Vec<Path>) {
        let mut run = Run::new(path_bits, paths);
        for round in 0..8 {
            for _ in 0..3_000 {
                run.step(true);
            }
            let mut left = 5_000;
            while run.bench.get("idle") == 0 || !run.fragments.is_empty() || run.offered.is_some() {
                run.step(false);
                left -= 1;
                assert!(left > 0, "{} fragments are stuck", run.fragments.len());
            }
            while run.paths.iter().any(|path| path.returned != path.issued) {
                run.step(false);
            }
            for number in 0..run.paths.len() {
                let state = run.state(number);
                let path = run.paths[number];
                let shown = (u64::from(state.sq_tail()), u64::from(state.sq_head()), state.issued());
                assert_eq!(shown, (path.tail, path.head, path.issued as u16));
                assert_eq!(state.returned(), path.returned as u16);
                assert_eq!((state.sq_rung(), state.cq_head()), (0x1234, 0x5678));
            }
            let number = round % run.paths.len();
            let Path { base, size, limit, .. } = run.paths[number];
            run.paths[number] = Path::new(base + 0x1000, size, limit);
            write_path(&mut run.bench, number, &run.paths[number]);
            run.asked_tail.1 = None;
            let state = run.state(number);
            assert_eq!((state.sq_tail(), state.issued()), (0, 0), "a path written anew");
            assert_eq!(run.bench.get("path_valid"), (1 << run.paths.len()) - 1);
        }
        assert!(run.issues > 2_000, "{} issued", run.issues);
        assert!(run.bounces.iter().all(|&count| count > 20), "{:?} given back", run.bounces);
    }

    #[test]
    fn fragments_become_entries_within_credit() {
        let far = 0xFFFF_FFFF_FFF0_0000;
        check(2, vec![Path::new(0x1000, 8, 7), Path::new(far, 64, 5), Path::new(0x2_0000_0000, 3, 2)]);
        check(5, vec![Path::new(0x8000_0000, 1024, 1), Path::new(0xABCD_E000, 4096, 64)]);
    }

    /// A write of 8 blocks of namespace 7 at LBA 0x1_2345_6789 with FUA, typed as the bytes of the
    /// NVMe specification; then pace and latency of reads.
    #[test]
    fn a_write_as_bytes_and_the_pace_of_reads() {
        let mut bench = Bench::new("submission_bytes", Submission::new(&Sizes::DEFAULT));
        start(&mut bench);
        write_path(&mut bench, 3, &Path::new(0x5000, 256, 255));
        let fragment = Fragment {
            opcode: 1.into(),
            path: 3.into(),
            namespace_id: 7.into(),
            lba: 0x1_2345_6789u64.into(),
            blocks: 8.into(),
            prp1: 0xAAAA_0010u64.into(),
            prp2: 0xBBBB_0000u64.into(),
            force_unit_access: 1.into(),
            ..Fragment::default()
        };
        bench.set_record("fragment$data", fragment);
        bench.set("id$valid", 1);
        bench.set("id$data", 0x1234);
        bench.set("query_head", 0);
        bench.cycle();
        bench.cycle();
        bench.set("write$ready", 1);
        bench.set("fragment$valid", 1);
        let (mut taken, mut written) = (Vec::new(), Vec::new());
        let mut first = None;
        for cycle in 0..100 {
            bench.eval();
            if bench.get("fragment$ready") == 1 {
                taken.push(cycle);
            }
            if bench.get("write$valid") == 1 {
                written.push(cycle);
                first.get_or_insert_with(|| bytes(&bench.get_wide("write$data")));
            }
            bench.cycle();
        }
        let mut entry = vec![0u8; 72];
        entry[..8].copy_from_slice(&0x5000u64.to_le_bytes());
        entry[8..16].copy_from_slice(&[0x01, 0x00, 0x34, 0x12, 0x07, 0x00, 0x00, 0x00]);
        entry[32..40].copy_from_slice(&[0x10, 0x00, 0xAA, 0xAA, 0, 0, 0, 0]);
        entry[40..48].copy_from_slice(&[0x00, 0x00, 0xBB, 0xBB, 0, 0, 0, 0]);
        entry[48..56].copy_from_slice(&[0x89, 0x67, 0x45, 0x23, 0x01, 0, 0, 0]);
        entry[56..60].copy_from_slice(&[0x07, 0x00, 0x00, 0x40]);
        assert_eq!(first.expect("an entry"), entry);
        assert_eq!(written[0] - taken[0], 5, "latency");
        assert!(written.len() >= 46, "{} entries in 100 cycles", written.len());
    }

    #[test]
    fn a_fragment_whose_path_is_closed_is_given_back() {
        let sizes = Sizes { path_bits: 2, ..Sizes::DEFAULT };
        let mut bench = Bench::new("submission_closed", Submission::new(&sizes));
        start(&mut bench);
        let paths = [Path::new(0x4000, 8, 1), Path::new(0x8000, 8, 7)];
        paths.iter().enumerate().for_each(|(number, path)| write_path(&mut bench, number, path));
        for port in ["write$ready", "range_write$ready", "bounced$ready", "id$valid"] {
            bench.set(port, 1);
        }
        let fragment = |part: u64, path: u64| Fragment {
            part: part.into(),
            ordinal: (part + 7).into(),
            path: path.into(),
            opcode: u64::from(opcode::READ).into(),
            blocks: 1.into(),
            ..Fragment::default()
        };
        // What becomes of fragments in `cycles`: parts given back, and addresses of entries.
        let mut offered: VecDeque<Fragment> = VecDeque::new();
        let run = |bench: &mut Bench, offered: &mut VecDeque<Fragment>, cycles: u32| {
            let (mut back, mut written) = (Vec::new(), Vec::new());
            for _ in 0..cycles {
                bench.set("fragment$valid", (!offered.is_empty()).into());
                bench.set_record("fragment$data", offered.front().copied().unwrap_or_default());
                bench.eval();
                if bench.get("fragment$ready") == 1 {
                    offered.pop_front();
                }
                if bench.get("bounced$valid") == 1 {
                    let returned: Returned = bench.get_record("bounced$data");
                    assert_eq!(returned.status.to_u64(), u64::from(plan_status::HOST_PATH_ERROR));
                    assert_eq!((returned.path.to_u64(), returned.own.any()), (0, true));
                    assert_eq!(returned.ordinal.to_u64(), returned.part.to_u64() + 7);
                    back.push(returned.part.to_u64());
                }
                if bench.get("write$valid") == 1 {
                    let write = bytes(&bench.get_wide("write$data"));
                    written.push(u64::from_le_bytes(write[..8].try_into().expect("address")));
                }
                bench.cycle();
            }
            (back, written)
        };
        // The second has no credit, and holds up the third.
        offered.extend([fragment(1, 0), fragment(2, 0), fragment(3, 1)]);
        assert_eq!(run(&mut bench, &mut offered, 60), (vec![], vec![0x4000]));
        let closed = PathEntry { valid: 0.into(), ..paths[0].entry() };
        bench.set_record("table_request", write_request(0, closed));
        bench.set("table_valid", 1);
        bench.cycle();
        bench.set("table_valid", 0);
        // One that comes while it is closed is given back as well.
        offered.extend([fragment(4, 0), fragment(5, 1)]);
        assert_eq!(run(&mut bench, &mut offered, 60), (vec![2, 4], vec![0x8000, 0x8040]));
        // Open again it begins anew.
        write_path(&mut bench, 0, &paths[0]);
        offered.push_back(fragment(6, 0));
        assert_eq!(run(&mut bench, &mut offered, 60), (vec![], vec![0x4000]));
        assert_eq!(bench.get("idle"), 1);
    }
}
