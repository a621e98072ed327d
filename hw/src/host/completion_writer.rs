//! Writes the completions of client commands into their rings, and raises their vectors.
//!
//! `done` brings ended plans. The plan slot is asked for its owner (`query`, answered in
//! `query_owner` two cycles later), the queue for its settings, its place in the ring and its fetched
//! submission head (`head_query`, answered in `head_value` one cycle later); then the slot is given
//! back and the entry offered in `write`. Once it was taken, `client_completed` says so and the queue's
//! vector is offered in `raise`. The settings are this block's copy of the queue table: it listens to
//! the table bus, where the next access comes 4 cycles later at the earliest, and never acknowledges.
//! `state_query` reads a queue's place for `QueueState`.
//!
//! A write of a queue's entry with `enable` set begins its ring anew; one with `enable` clear leaves
//! the place, so that commands still outstanding end where the client looks for them.
//!
//! Latency: 4 cycles from `done` to `write`. Throughput: a completion every 2 cycles. Ordering: that of
//! `done`. Reset puts every queue at entry 0 and phase 1, one a cycle, and takes nothing meanwhile.

use rust_hdl::prelude::*;
use volplane_abi::table;

use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::ram::LutRam;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{CompletionEntry, PlanDone, QueueEntry, SlotOwner, SmallWrite, TableRequest};
use crate::sizes::Sizes;

logic_record! {
    /// What of a queue's entry a completion needs.
    CompletionSettings: 89 {
        /// Completion ring.
        cq_base = 64,
        /// Entries of the completion ring − 1.
        cq_size_z = 16,
        /// Interrupt vector.
        vector = 8,
        /// 1: completions raise the vector.
        interrupt_enable = 1,
    }
}

logic_record! {
    /// Where in its completion ring a queue stands.
    RingPlace: 17 {
        /// Next entry to write.
        tail = 16,
        /// Its phase tag.
        phase = 1,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct CompletionWriter {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub done: StreamIn<PlanDone>,
    pub query: Signal<Out, Bits<12>>,
    pub query_owner: Signal<In, SlotOwner>,
    pub release_valid: Signal<Out, bool>,
    pub release_slot: Signal<Out, Bits<12>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub head_query: Signal<Out, Bits<8>>,
    pub head_value: Signal<In, Bits<16>>,
    pub state_query: Signal<In, Bits<8>>,
    /// The place of queue `state_query`, one cycle later.
    pub state_tail: Signal<Out, Bits<16>>,
    pub state_phase: Signal<Out, Bits<1>>,
    pub write: StreamOut<SmallWrite>,
    pub client_completed: Signal<Out, bool>,
    pub client_completed_queue: Signal<Out, Bits<8>>,
    pub raise: StreamOut<Bits<8>>,
    pub idle: Signal<Out, bool>,

    settings: LutRam<CompletionSettings>,
    places: LutRam<RingPlace>,
    places_readback: LutRam<RingPlace>,
    raised: Fifo<Bits<8>>,
    /// Taken from `done`, its owner being looked up: in the first, then in the second cycle.
    looking: DFF<PlanDone>,
    look_first: DFF<bool>,
    look_second: DFF<bool>,
    /// Owner known, its queue's settings there.
    composing: DFF<PlanDone>,
    owner: DFF<SlotOwner>,
    compose: DFF<bool>,
    out: DFF<SmallWrite>,
    out_valid: DFF<bool>,
    out_queue: DFF<Bits<8>>,
    out_vector: DFF<Bits<8>>,
    out_interrupt: DFF<bool>,
    completed: DFF<bool>,
    completed_queue: DFF<Bits<8>>,
    /// A queue to begin anew, in a cycle that writes no place.
    restart: DFF<bool>,
    restart_queue: DFF<Bits<16>>,
    cleared: DFF<Bits<16>>,
    all_cleared: DFF<bool>,

    done_ready: Signal<Local, bool>,
    move_on: Signal<Local, bool>,
    deliver: Signal<Local, bool>,
    queue: Signal<Local, Bits<8>>,
    entry: Signal<Local, QueueEntry>,
    selected: Signal<Local, bool>,
    place: Signal<Local, RingPlace>,
    place_next: Signal<Local, RingPlace>,
    place_first: Signal<Local, RingPlace>,
    completion: Signal<Local, CompletionEntry>,
    base: Signal<Local, Bits<64>>,
    tail: Signal<Local, Bits<16>>,
    page: Signal<Local, Bits<52>>,
    table_number: Constant<Bits<16>>,
    queues: Constant<Bits<32>>,
    last_queue: Constant<Bits<16>>,
    no_queue: Constant<Bits<32>>,
    zero32: Constant<Bits<32>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    flag: Constant<Bits<1>>,
}

impl CompletionWriter {
    /// For 2^`queue_bits` queues.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((1..=5).contains(&sizes.queue_bits), "2^{} queues", sizes.queue_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            done: Default::default(),
            query: Default::default(),
            query_owner: Default::default(),
            release_valid: Default::default(),
            release_slot: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            head_query: Default::default(),
            head_value: Default::default(),
            state_query: Default::default(),
            state_tail: Default::default(),
            state_phase: Default::default(),
            write: Default::default(),
            client_completed: Default::default(),
            client_completed_queue: Default::default(),
            raise: Default::default(),
            idle: Default::default(),
            settings: LutRam::new(sizes.queue_bits),
            places: LutRam::new(sizes.queue_bits),
            places_readback: LutRam::new(sizes.queue_bits),
            raised: Fifo::lut(3, 3),
            looking: Default::default(),
            look_first: Default::default(),
            look_second: Default::default(),
            composing: Default::default(),
            owner: Default::default(),
            compose: Default::default(),
            out: Default::default(),
            out_valid: Default::default(),
            out_queue: Default::default(),
            out_vector: Default::default(),
            out_interrupt: Default::default(),
            completed: Default::default(),
            completed_queue: Default::default(),
            restart: Default::default(),
            restart_queue: Default::default(),
            cleared: Default::default(),
            all_cleared: Default::default(),
            done_ready: Default::default(),
            move_on: Default::default(),
            deliver: Default::default(),
            queue: Default::default(),
            entry: Default::default(),
            selected: Default::default(),
            place: Default::default(),
            place_next: Default::default(),
            place_first: Default::default(),
            completion: Default::default(),
            base: Default::default(),
            tail: Default::default(),
            page: Default::default(),
            table_number: Constant::new((table::QUEUE as u64).to_bits()),
            queues: Constant::new((1u64 << sizes.queue_bits).to_bits()),
            last_queue: Constant::new(((1u64 << sizes.queue_bits) - 1).to_bits()),
            no_queue: Constant::new(0u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for CompletionWriter {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            looking,
            look_first,
            look_second,
            composing,
            owner,
            compose,
            out,
            out_valid,
            out_queue,
            out_vector,
            out_interrupt,
            completed,
            completed_queue,
            restart,
            restart_queue,
            cleared,
            all_cleared
        );
        self.settings.clock.next = self.clock.val();
        self.places.clock.next = self.clock.val();
        self.places_readback.clock.next = self.clock.val();
        self.raised.clock.next = self.clock.val();
        self.raised.reset.next = self.reset.val();

        // The queue table, listened to.
        self.entry.next = self.table_request.val().data.into();
        self.selected.next = self.table_valid.val()
            & (self.table_request.val().write == self.flag.val())
            & (self.table_request.val().table == self.table_number.val())
            & (self.table_request.val().index != self.no_queue.val())
            & (self.table_request.val().index < self.queues.val());
        self.settings.write.next = self.selected.val();
        self.settings.write_address.next = bit_cast::<16, 32>(self.table_request.val().index);
        self.settings.write_data.next.cq_base = self.entry.val().cq_base;
        self.settings.write_data.next.cq_size_z = self.entry.val().cq_size_z;
        self.settings.write_data.next.vector = bit_cast::<8, 16>(self.entry.val().vector);
        self.settings.write_data.next.interrupt_enable = self.entry.val().interrupt_enable;

        // Owner, then settings and place.
        self.done_ready.next = self.all_cleared.q.val()
            & !self.look_first.q.val()
            & (!self.look_second.q.val() | !self.compose.q.val());
        self.done.ready.next = self.done_ready.val();
        self.query.next = self.looking.q.val().slot;
        if self.done_ready.val() {
            self.query.next = self.done.data.val().slot;
            self.looking.d.next = self.done.data.val();
        }
        self.look_first.d.next = self.done_ready.val() & self.done.valid.val();
        self.move_on.next = self.look_second.q.val() & !self.compose.q.val();
        self.look_second.d.next = self.look_first.q.val() | (self.look_second.q.val() & !self.move_on.val());
        self.queue.next = self.owner.q.val().queue;
        if self.move_on.val() {
            self.queue.next = self.query_owner.val().queue;
            self.composing.d.next = self.looking.q.val();
            self.owner.d.next = self.query_owner.val();
            self.compose.d.next = true;
        }
        self.settings.read_address.next = bit_cast::<16, 8>(self.queue.val());
        self.places.read_address.next = bit_cast::<16, 8>(self.queue.val());
        self.head_query.next = self.queue.val();

        // The entry, and the next place.
        self.place.next = self.places.read_data.val();
        self.place_next.next = self.place.val();
        self.place_next.next.tail = self.place.val().tail + self.one16.val();
        if (self.place.val().tail == self.settings.read_data.val().cq_size_z) {
            self.place_next.next.tail = self.zero16.val();
            self.place_next.next.phase = !self.place.val().phase;
        }
        self.base.next = self.settings.read_data.val().cq_base;
        self.tail.next = self.place.val().tail;
        // Rings begin at a page, so the lowest 12 bits are the entry's alone.
        self.page.next =
            self.base.val().get_bits::<52>(12) + bit_cast::<52, 8>(self.tail.val().get_bits::<8>(8));
        self.completion.next.result = self.zero32.val();
        self.completion.next.reserved = self.zero32.val();
        self.completion.next.sq_head = self.head_value.val();
        self.completion.next.sq_id = bit_cast::<16, 8>(self.owner.q.val().queue);
        self.completion.next.command_id = self.owner.q.val().command_id;
        self.completion.next.phase = self.place.val().phase;
        self.completion.next.status = self.composing.q.val().status;
        self.deliver.next = self.compose.q.val() & !self.out_valid.q.val() & self.raised.room.val();
        self.release_valid.next = self.deliver.val();
        self.release_slot.next = self.composing.q.val().slot;
        if self.out_valid.q.val() & self.write.ready.val() {
            self.out_valid.d.next = false;
        }
        if self.deliver.val() {
            self.compose.d.next = false;
            self.out_valid.d.next = true;
            self.out.d.next.address = (bit_cast::<64, 52>(self.page.val()) << 12)
                | (bit_cast::<64, 8>(self.tail.val().get_bits::<8>(0)) << 4);
            self.out.d.next.data = self.completion.val().into();
            self.out.d.next.quad = self.flag.val();
            self.out_queue.d.next = self.owner.q.val().queue;
            self.out_vector.d.next = self.settings.read_data.val().vector;
            self.out_interrupt.d.next = (self.settings.read_data.val().interrupt_enable == self.flag.val());
        }
        self.write.valid.next = self.out_valid.q.val();
        self.write.data.next = self.out.q.val();
        self.completed.d.next = self.out_valid.q.val() & self.write.ready.val();
        self.completed_queue.d.next = self.out_queue.q.val();
        self.client_completed.next = self.completed.q.val();
        self.client_completed_queue.next = self.completed_queue.q.val();
        self.raised.push.next = self.out_valid.q.val() & self.write.ready.val() & self.out_interrupt.q.val();
        self.raised.data.next = self.out_vector.q.val();
        self.raise.valid.next = self.raised.out.valid.val();
        self.raise.data.next = self.raised.out.data.val();
        self.raised.out.ready.next = self.raise.ready.val();

        // One writer of places: a completion, else a restart, and the walk after reset.
        self.place_first.next.tail = self.zero16.val();
        self.place_first.next.phase = self.flag.val();
        self.places.write.next = self.deliver.val() | self.restart.q.val() | !self.all_cleared.q.val();
        self.places.write_address.next = self.restart_queue.q.val();
        self.places.write_data.next = self.place_first.val();
        if !self.all_cleared.q.val() {
            self.places.write_address.next = self.cleared.q.val();
            self.cleared.d.next = self.cleared.q.val() + self.one16.val();
            self.all_cleared.d.next = (self.cleared.q.val() == self.last_queue.val());
        } else if self.deliver.val() {
            self.places.write_address.next = bit_cast::<16, 8>(self.owner.q.val().queue);
            self.places.write_data.next = self.place_next.val();
        } else {
            self.restart.d.next = false;
        }
        if self.selected.val() & (self.entry.val().enable == self.flag.val()) {
            self.restart.d.next = true;
            self.restart_queue.d.next = bit_cast::<16, 32>(self.table_request.val().index);
        }
        self.places_readback.write.next = self.places.write.val();
        self.places_readback.write_address.next = self.places.write_address.val();
        self.places_readback.write_data.next = self.places.write_data.val();
        self.places_readback.read_address.next = bit_cast::<16, 8>(self.state_query.val());
        self.state_tail.next = self.places_readback.read_data.val().tail;
        self.state_phase.next = self.places_readback.read_data.val().phase;
        self.idle.next = self.all_cleared.q.val()
            & !self.look_first.q.val()
            & !self.look_second.q.val()
            & !self.compose.q.val()
            & !self.out_valid.q.val()
            & !self.completed.q.val()
            & !self.restart.q.val()
            & self.raised.empty.val();

        if self.reset.val() {
            self.look_first.d.next = false;
            self.look_second.d.next = false;
            self.compose.d.next = false;
            self.out_valid.d.next = false;
            self.completed.d.next = false;
            self.restart.d.next = false;
            self.all_cleared.d.next = false;
            self.cleared.d.next = self.zero16.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use crate::host::record_words::{bits, words};
    use rand::RngExt;
    use std::collections::VecDeque;

    struct Card {
        bench: Bench,
        /// Owner of each slot: queue and command.
        owners: Vec<(u64, u64)>,
        heads: Vec<u64>,
        asked: [usize; 2],
        head_asked: usize,
    }

    impl Card {
        fn new(queue_bits: usize) -> Self {
            let sizes = Sizes { queue_bits, ..Sizes::DEFAULT };
            let writer = CompletionWriter::new(&sizes);
            let mut bench = Bench::new(&format!("completion_writer_{queue_bits}"), writer);
            bench.set("reset", 1);
            bench.cycle();
            bench.set("reset", 0);
            let heads = vec![0x77; 1 << queue_bits];
            let mut card = Self { bench, owners: vec![(0, 0); 64], heads, asked: [0; 2], head_asked: 0 };
            for _ in 0..(1 << queue_bits) + 2 {
                card.cycle();
            }
            assert_eq!(card.bench.get("idle"), 1);
            card
        }

        /// A cycle in which slots and heads answer what was asked before.
        fn cycle(&mut self) {
            let (queue, command) = self.owners[self.asked[0]];
            let owner = SlotOwner { queue: queue.into(), command_id: command.into() };
            self.bench.set_wide("query_owner", &words::<24>(owner));
            self.bench.set("head_value", self.heads[self.head_asked].into());
            self.bench.eval();
            self.asked = [self.asked[1], self.bench.get("query") as usize % self.owners.len()];
            self.head_asked = self.bench.get("head_query") as usize % self.heads.len();
            self.bench.cycle();
            self.bench.set("table_valid", 0);
        }

        fn write_queue(&mut self, index: u64, queue: &volplane_abi::QueueEntry, is_write: bool) {
            let data = queue.0.chunks(4).map(|c| u32::from_le_bytes(c.try_into().expect("4 bytes")));
            let request = TableRequest {
                write: is_write.into(),
                table: u64::from(table::QUEUE).into(),
                index: index.into(),
                data: bits(&data.collect::<Vec<_>>()),
            };
            self.bench.set_wide("table_request", &words::<305>(request));
            self.bench.set("table_valid", 1);
        }

        fn offer_done(&mut self, slot: u64, status: u64) {
            let done = PlanDone { slot: slot.into(), status: status.into() };
            self.bench.set_wide("done$data", &words::<27>(done));
            self.bench.set("done$valid", 1);
        }
    }

    fn queue_entry(base: u64, entries: u16, vector: u16, interrupt: u8) -> volplane_abi::QueueEntry {
        volplane_abi::QueueEntry::default()
            .with_cq_base(base)
            .with_cq_size_z(entries - 1)
            .with_vector(vector)
            .with_interrupt_enable(interrupt)
            .with_enable(1)
    }

    #[test]
    fn writes_entries_as_the_specification_has_them() {
        let mut card = Card::new(3);
        card.owners[9] = (2, 0xBEEF);
        card.heads[2] = 0x0123;
        card.write_queue(2, &queue_entry(0x0000_0008_7FFF_F000, 2, 5, 1), true);
        card.cycle();
        card.bench.set("write$ready", 1);
        for (address, phase) in [(0x8_7FFF_F000u64, 1u8), (0x8_7FFF_F010, 1), (0x8_7FFF_F000, 0)] {
            card.offer_done(9, 0x4081);
            let begun = card.bench.cycles;
            card.cycle();
            card.bench.set("done$valid", 0);
            let mut released = false;
            while card.bench.get("write$valid") == 0 {
                released |= card.bench.get("release_valid") == 1 && card.bench.get("release_slot") == 9;
                card.cycle();
                assert!(card.bench.cycles < begun + 20);
            }
            assert!(released);
            assert_eq!(card.bench.cycles - begun, 4, "latency");
            let write: SmallWrite = bits::<193>(&card.bench.get_wide("write$data")).into();
            assert_eq!((write.address.to_u64(), write.quad.to_u64()), (address, 1));
            // Status 15:1 with the phase in bit 0 of the upper half of the last dword.
            let bytes = [0, 0, 0, 0, 0, 0, 0, 0, 0x23, 0x01, 2, 0, 0xEF, 0xBE, 0x02 | phase, 0x81];
            assert_eq!(write.data.to_u128().to_le_bytes(), bytes);
            assert_eq!(card.bench.get("raise$valid"), 0, "not before the write was taken");
            card.cycle();
            assert_eq!(
                (card.bench.get("client_completed"), card.bench.get("client_completed_queue")),
                (1, 2)
            );
            card.cycle();
            card.cycle();
            assert_eq!((card.bench.get("raise$valid"), card.bench.get("raise$data")), (1, 5));
            card.bench.set("raise$ready", 1);
            card.cycle();
            card.bench.set("raise$ready", 0);
        }
        card.bench.set("state_query", 2);
        card.cycle();
        assert_eq!((card.bench.get("state_tail"), card.bench.get("state_phase")), (1, 0));
        assert_eq!(card.bench.get("idle"), 1);
        // The entries of a ring of 4,096 reach over 16 pages.
        card.write_queue(2, &queue_entry(0x0000_0008_7FFF_F000, 4096, 5, 0), true);
        card.cycle();
        card.offer_done(9, 0);
        let mut last = 0;
        let begun = card.bench.cycles;
        for _ in 0..8192 {
            card.cycle();
            if card.bench.get("write$valid") == 1 {
                last += 1;
                let write: SmallWrite = bits::<193>(&card.bench.get_wide("write$data")).into();
                assert_eq!(write.address.to_u64(), 0x8_7FFF_F000 + (last - 1) % 4096 * 16);
            }
        }
        assert!(last > 4090, "{last} in {} cycles: one every 2", card.bench.cycles - begun);
    }

    /// A queue as the model sees it.
    #[derive(Clone, Default)]
    struct Ring {
        entry: volplane_abi::QueueEntry,
        tail: u64,
        phase: u64,
        outstanding: usize,
    }

    impl Ring {
        fn next_write(&mut self) -> (u64, u64, u64) {
            let at = (self.entry.cq_base() + 16 * self.tail, self.tail, self.phase);
            self.tail += 1;
            if self.tail > u64::from(self.entry.cq_size_z()) {
                self.tail = 0;
                self.phase ^= 1;
            }
            at
        }
    }

    /// Configures the queue at random; an enabled one begins anew, and only if nothing is outstanding.
    fn configure(card: &mut Card, rings: &mut [Ring], random: &mut impl rand::Rng) {
        let index = random.random_range(0..rings.len() + 2);
        let is_write = random.random_bool(0.8);
        let base = random.random_range(0..1u64 << 40) << 12;
        let entry = queue_entry(base, random.random_range(2..9), random.random_range(0..32), 1)
            .with_interrupt_enable(random.random_range(0..2));
        if !(1..rings.len()).contains(&index) || !is_write {
            card.write_queue(index as u64, &entry, is_write);
        } else if rings[index].outstanding == 0 {
            rings[index] = Ring { entry, tail: 0, phase: 1, outstanding: 0 };
            card.write_queue(index as u64, &entry, true);
        } else {
            rings[index].entry = rings[index].entry.with_enable(0);
            card.write_queue(index as u64, &rings[index].entry.clone(), true);
        }
    }

    fn runs_at_random(queue_bits: usize) {
        let mut card = Card::new(queue_bits);
        let mut random = seeded();
        let mut rings = vec![Ring::default(); 1 << queue_bits];
        for _ in 0..2000 {
            configure(&mut card, &mut rings, &mut random);
            card.cycle();
        }
        // Done and not yet written; written and not yet raised; written and not yet reported.
        let (mut pending, mut raises, mut reports) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        let mut free: Vec<u64> = (0..64).collect();
        let mut offered: Option<(u64, u64)> = None;
        let (mut written, mut skipped) = (0, 0);
        for cycle in 0..30_000u64 {
            // The owner of the table takes 4 cycles and more to acknowledge: until then no other access,
            // and no command of a queue that begins anew.
            if cycle % 4 == 0 && random.random_bool(0.2) {
                configure(&mut card, &mut rings, &mut random);
                skipped = 3;
            } else if cycle % 4 == 0 {
                skipped = random.random_range(0..2);
            }
            if offered.is_none() && !free.is_empty() && cycle % 4 >= skipped && cycle < 29_500 {
                let slot = free.swap_remove(random.random_range(0..free.len()));
                let queue = random.random_range(1..rings.len());
                card.owners[slot as usize] = (queue as u64, random.random_range(0..0x1_0000));
                rings[queue].outstanding += 1;
                offered = Some((slot, random.random_range(0..0x8000)));
            }
            let busy = (cycle / 400) % 3 == 0 && cycle < 29_500;
            let write_ready = random.random_bool(if busy { 0.2 } else { 0.9 });
            let raise_ready = random.random_bool(if busy { 0.1 } else { 0.8 });
            card.bench.set("write$ready", write_ready.into());
            card.bench.set("raise$ready", raise_ready.into());
            card.bench.set("done$valid", 0);
            if let Some((slot, status)) = offered {
                card.offer_done(slot, status);
            }
            card.bench.eval();
            if card.bench.get("done$ready") == 1 {
                if let Some((slot, status)) = offered.take() {
                    pending.push_back((slot, card.owners[slot as usize], status));
                }
            }
            if card.bench.get("release_valid") == 1 {
                free.push(card.bench.get("release_slot") as u64);
            }
            if raise_ready && card.bench.get("raise$valid") == 1 {
                assert_eq!(Some(card.bench.get("raise$data") as u64), raises.pop_front());
            }
            if card.bench.get("client_completed") == 1 {
                let queue = card.bench.get("client_completed_queue") as usize;
                assert_eq!(Some(queue), reports.pop_front());
            }
            if write_ready && card.bench.get("write$valid") == 1 {
                let (_, (queue, command), status) = pending.pop_front().expect("a plan that is done");
                let ring = &mut rings[queue as usize];
                let (address, _, phase) = ring.next_write();
                let write: SmallWrite = bits::<193>(&card.bench.get_wide("write$data")).into();
                assert_eq!(write.address.to_u64(), address, "cycle {cycle}");
                let entry = volplane_abi::CompletionEntry::default()
                    .with_sq_head(card.heads[queue as usize] as u16)
                    .with_sq_id(queue as u16)
                    .with_command_id(command as u16)
                    .with_phase(phase as u8)
                    .with_status(status as u16);
                assert_eq!(write.data.to_u128().to_le_bytes(), entry.0);
                if ring.entry.interrupt_enable() == 1 {
                    raises.push_back(u64::from(ring.entry.vector()));
                }
                reports.push_back(queue as usize);
                ring.outstanding -= 1;
                written += 1;
            }
            card.cycle();
        }
        assert!(pending.is_empty() && raises.is_empty() && reports.is_empty() && free.len() == 64);
        assert_eq!(card.bench.get("idle"), 1);
        assert!(written > 5_000, "{written} written");
    }

    #[test]
    fn agrees_with_a_model_at_random() {
        runs_at_random(2);
        runs_at_random(5);
    }
}
