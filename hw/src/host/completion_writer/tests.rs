//! `CompletionWriter` against a plain model of completion rings.

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
        let owner = SlotOwner { queue: queue.into(), command_id: command.into(), ..Default::default() };
        self.bench.set_wide("query_owner", &words::<41>(owner));
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
        assert_eq!(card.bench.cycles - begun, 7, "latency");
        let write: SmallWrite = bits::<193>(&card.bench.get_wide("write$data")).into();
        assert_eq!((write.address.to_u64(), write.quad.to_u64()), (address, 1));
        // Status 15:1 with the phase in bit 0 of the upper half of the last dword.
        let bytes = [0, 0, 0, 0, 0, 0, 0, 0, 0x23, 0x01, 2, 0, 0xEF, 0xBE, 0x02 | phase, 0x81];
        assert_eq!(write.data.to_u128().to_le_bytes(), bytes);
        assert_eq!(card.bench.get("raise$valid"), 0, "not before the write was taken");
        card.cycle();
        assert_eq!((card.bench.get("client_completed"), card.bench.get("client_completed_queue")), (1, 2));
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
