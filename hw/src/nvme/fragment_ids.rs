//! Fragment identifiers that are free, each with the generation it is to be used in.
//!
//! Purpose: hands out `FragmentId`s; a released one comes back in the next generation, after all that
//! are free, so that a late completion of its last use is told from one of its next use.
//! Handshake: `id` is a stream; `release_valid` takes `release_id` at once, at most one a cycle and
//! only what was handed out.
//! Latency: a released identifier is offered 4 cycles later when no other is free. Throughput: one
//! a cycle both ways. Order: first in, first out.
//! Reset: all identifiers become free, each in the generation after the last one handed out, which a
//! RAM keeps across reset (after power-up any will do). The walk takes 2^`id_bits` + 3 cycles;
//! `initialised` tells its end, nothing is released before.
//! Failure: an identifier released twice would be handed out twice; `CompletionFilter` prevents it.

use rust_hdl::prelude::*;

use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::ram::BlockRam;
use crate::prim::stream::StreamOut;
use crate::Sizes;

logic_record! {
    /// The command identifier of a fragment.
    FragmentId: 16 {
        /// Which of the identifiers.
        index = 11,
        /// How often it was used before, modulo 32.
        generation = 5,
    }
}

/// The free list.
#[derive(Clone, Debug, LogicBlock)]
pub struct FragmentIds {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    /// The next free identifier (`FragmentId`).
    pub id: StreamOut<Bits<16>>,
    pub release_valid: Signal<In, bool>,
    pub release_id: Signal<In, Bits<16>>,
    pub initialised: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,
    free: Fifo<Bits<16>>,
    /// Generation each identifier was last handed out in.
    generations: BlockRam<Bits<5>>,
    walking: DFF<bool>,
    walk_index: DFF<Bits<16>>,
    /// The walk's reads under way, and the identifiers they are of.
    reading1: DFF<bool>,
    reading1_index: DFF<Bits<16>>,
    reading2: DFF<bool>,
    reading2_index: DFF<Bits<16>>,
    ready: DFF<bool>,
    handed_valid: DFF<bool>,
    handed: DFF<FragmentId>,
    /// An identifier on its way back to the list.
    freeing: DFF<bool>,
    freed: DFF<FragmentId>,
    released: Signal<Local, FragmentId>,
    next: Signal<Local, FragmentId>,
    last_index: Constant<Bits<16>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    one5: Constant<Bits<5>>,
}

impl FragmentIds {
    /// The free list of a build.
    pub fn new(sizes: &Sizes) -> Self {
        assert!(sizes.id_bits <= 11, "2^{} identifiers", sizes.id_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            id: Default::default(),
            release_valid: Default::default(),
            release_id: Default::default(),
            initialised: Default::default(),
            idle: Default::default(),
            free: Fifo::block(sizes.id_bits, 1),
            generations: BlockRam::new(sizes.id_bits),
            walking: Default::default(),
            walk_index: Default::default(),
            reading1: Default::default(),
            reading1_index: Default::default(),
            reading2: Default::default(),
            reading2_index: Default::default(),
            ready: Default::default(),
            handed_valid: Default::default(),
            handed: Default::default(),
            freeing: Default::default(),
            freed: Default::default(),
            released: Default::default(),
            next: Default::default(),
            last_index: Constant::new(((1u64 << sizes.id_bits) - 1).to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            one5: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for FragmentIds {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, walking, walk_index, reading1, reading1_index, reading2, reading2_index);
        dff_setup!(self, clock, ready, handed_valid, handed, freeing, freed);
        self.free.clock.next = self.clock.val();
        self.free.reset.next = self.reset.val();
        self.generations.clock.next = self.clock.val();

        self.id.valid.next = self.free.out.valid.val();
        self.id.data.next = self.free.out.data.val();
        self.free.out.ready.next = self.id.ready.val();
        self.handed_valid.d.next = self.free.out.valid.val() & self.id.ready.val();
        self.handed.d.next = self.free.out.data.val().into();
        self.generations.write.next = self.handed_valid.q.val();
        self.generations.write_address.next = bit_cast::<16, 11>(self.handed.q.val().index);
        self.generations.write_data.next = self.handed.q.val().generation;

        // The walk after reset.
        self.generations.read_address.next = self.walk_index.q.val();
        self.reading1.d.next = self.walking.q.val();
        self.reading1_index.d.next = self.walk_index.q.val();
        self.reading2.d.next = self.reading1.q.val();
        self.reading2_index.d.next = self.reading1_index.q.val();
        if self.walking.q.val() {
            self.walk_index.d.next = self.walk_index.q.val() + self.one16.val();
            self.walking.d.next = (self.walk_index.q.val() != self.last_index.val());
        }
        self.ready.d.next = !self.walking.q.val() & !self.reading1.q.val() & !self.reading2.q.val();
        self.initialised.next = self.ready.q.val();

        self.released.next = self.release_id.val().into();
        self.next.next.index = self.released.val().index;
        self.next.next.generation = self.released.val().generation + self.one5.val();
        if self.reading2.q.val() {
            self.next.next.index = self.reading2_index.q.val().get_bits::<11>(0);
            self.next.next.generation = self.generations.read_data.val() + self.one5.val();
        }
        self.freeing.d.next = self.release_valid.val() | self.reading2.q.val();
        self.freed.d.next = self.next.val();
        self.free.push.next = self.freeing.q.val();
        self.free.data.next = self.freed.q.val().into();
        self.idle.next = self.ready.q.val() & !self.freeing.q.val();

        if self.reset.val() {
            self.walking.d.next = true;
            self.walk_index.d.next = self.zero16.val();
            self.reading1.d.next = false;
            self.reading2.d.next = false;
            self.ready.d.next = false;
            self.freeing.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    fn start(bench: &mut Bench, ids: usize) {
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut cycles = 0;
        while bench.get("initialised") == 0 {
            bench.cycle();
            cycles += 1;
            assert!(cycles <= ids + 4, "the walk takes {cycles} cycles");
        }
    }

    /// Takes and releases at random, with resets between: an identifier is handed out once at a
    /// time, in the generation after its last one.
    fn check(id_bits: usize) {
        let ids = 1usize << id_bits;
        let sizes = Sizes { id_bits, ..Sizes::DEFAULT };
        let mut bench = Bench::new(&format!("fragment_ids_{id_bits}"), FragmentIds::new(&sizes));
        let mut random = seeded();
        let mut last: Vec<Option<u128>> = vec![None; ids];
        let mut handed = 0;
        for _ in 0..4 {
            bench.set("id$ready", 0);
            bench.set("release_valid", 0);
            start(&mut bench, ids);
            let mut out = VecDeque::new();
            let mut taken = vec![false; ids];
            for cycle in 0..6 * ids.max(500) {
                let take = if (cycle / (2 * ids)).is_multiple_of(2) { 0.9 } else { 0.3 };
                let released = (random.random_bool(1.0 - take) && !out.is_empty())
                    .then(|| out.remove(random.random_range(0..out.len())).expect("in range"));
                let ready = random.random_bool(take);
                bench.set("id$ready", ready.into());
                bench.set("release_valid", released.is_some().into());
                bench.set("release_id", released.unwrap_or(0));
                bench.eval();
                if let Some(id) = released {
                    taken[id as usize & 0x7FF] = false;
                }
                if ready && bench.get("id$valid") == 1 {
                    let id = bench.get("id$data");
                    let (index, generation) = (id as usize & 0x7FF, id >> 11);
                    assert!(!std::mem::replace(&mut taken[index], true), "{index} handed out twice");
                    if let Some(before) = last[index].replace(generation) {
                        assert_eq!(generation, (before + 1) % 32, "generation of {index}");
                    }
                    out.push_back(id);
                    handed += 1;
                } else if ready && out.is_empty() && cycle > 10 {
                    panic!("none offered though all are free");
                }
                bench.cycle();
            }
        }
        assert!(handed > 4 * ids, "{handed} handed out");
    }

    #[test]
    fn generations_survive_release_and_reset() {
        check(3);
        check(7);
    }

    #[test]
    fn every_identifier_is_offered_once_after_reset() {
        let sizes = Sizes { id_bits: 4, ..Sizes::DEFAULT };
        let mut bench = Bench::new("fragment_ids_all", FragmentIds::new(&sizes));
        start(&mut bench, 16);
        bench.set("id$ready", 1);
        let mut indices = Vec::new();
        for _ in 0..40 {
            bench.eval();
            if bench.get("id$valid") == 1 {
                indices.push(bench.get("id$data") & 0x7FF);
            }
            bench.cycle();
        }
        assert_eq!(indices, (0..16).collect::<Vec<_>>());
    }
}
