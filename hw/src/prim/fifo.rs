//! FIFO with registered outputs.
//!
//! Latency: an item pushed in cycle t is offered in cycle t+2 (`Fifo::lut`), t+3 (`Fifo::block`).
//! Throughput: one item a cycle. `room` says that at least `margin` more items fit, so that a
//! pipeline without stalls can stand in front; `push` without room loses nothing as long as fewer
//! than `margin` follow. Reset empties it.

use rust_hdl::prelude::*;

use super::ram::FifoRam;
use super::stream::StreamOut;

/// A FIFO of 2^n items.
#[derive(Clone, Debug, LogicBlock)]
pub struct Fifo<T: Synth> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    /// Takes `data` this cycle.
    pub push: Signal<In, bool>,
    pub data: Signal<In, T>,
    /// At least `margin` more items fit.
    pub room: Signal<Out, bool>,
    /// Nothing in it, its output register included.
    pub empty: Signal<Out, bool>,
    pub out: StreamOut<T>,
    memory: FifoRam<T>,
    write_pointer: DFF<Bits<16>>,
    read_pointer: DFF<Bits<16>>,
    /// Items in the memory, not yet in an output stage.
    stored: DFF<Bits<16>>,
    fetched_valid: DFF<bool>,
    offered: DFF<T>,
    offered_valid: DFF<bool>,
    room_register: DFF<bool>,
    threshold: Constant<Bits<16>>,
    two_stages: Constant<bool>,
    reading: Signal<Local, bool>,
    moving: Signal<Local, bool>,
    stored_next: Signal<Local, Bits<16>>,
    one: Constant<Bits<16>>,
    zero: Constant<Bits<16>>,
}

impl<T: Synth> Fifo<T> {
    fn new(address_bits: usize, margin: usize, block: bool) -> Self {
        let depth = 1usize << address_bits;
        assert!(margin >= 1 && margin < depth, "FIFO of {depth} with a margin of {margin}");
        Self {
            clock: Default::default(),
            reset: Default::default(),
            push: Default::default(),
            data: Default::default(),
            room: Default::default(),
            empty: Default::default(),
            out: Default::default(),
            memory: FifoRam::new(address_bits, block),
            write_pointer: Default::default(),
            read_pointer: Default::default(),
            stored: Default::default(),
            fetched_valid: Default::default(),
            offered: Default::default(),
            offered_valid: Default::default(),
            room_register: Default::default(),
            threshold: Constant::new(((depth - margin) as u64).to_bits()),
            two_stages: Constant::new(block),
            reading: Default::default(),
            moving: Default::default(),
            stored_next: Default::default(),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
        }
    }

    /// In LUT RAM: for up to 64 items.
    pub fn lut(address_bits: usize, margin: usize) -> Self {
        Self::new(address_bits, margin, false)
    }

    /// In block RAM.
    pub fn block(address_bits: usize, margin: usize) -> Self {
        Self::new(address_bits, margin, true)
    }
}

impl<T: Synth> Logic for Fifo<T> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            write_pointer,
            read_pointer,
            stored,
            fetched_valid,
            offered,
            offered_valid,
            room_register
        );
        self.memory.clock.next = self.clock.val();
        self.memory.write.next = self.push.val();
        self.memory.write_address.next = self.write_pointer.q.val();
        self.memory.write_data.next = self.data.val();
        self.memory.read_address.next = self.read_pointer.q.val();

        if self.two_stages.val() {
            // RAM output -> output register.
            self.moving.next =
                self.fetched_valid.q.val() & (!self.offered_valid.q.val() | self.out.ready.val());
            self.reading.next =
                (self.stored.q.val() != self.zero.val()) & (!self.fetched_valid.q.val() | self.moving.val());
            self.out.valid.next = self.offered_valid.q.val();
            self.out.data.next = self.offered.q.val();
        } else {
            // The RAM's read register is the output register.
            self.moving.next = self.fetched_valid.q.val() & self.out.ready.val();
            self.reading.next = (self.stored.q.val() != self.zero.val())
                & (!self.fetched_valid.q.val() | self.out.ready.val());
            self.out.valid.next = self.fetched_valid.q.val();
            self.out.data.next = self.memory.read_data.val();
        }
        self.memory.read.next = self.reading.val();

        if self.out.ready.val() {
            self.offered_valid.d.next = false;
        }
        if self.moving.val() {
            self.fetched_valid.d.next = false;
            if self.two_stages.val() {
                self.offered_valid.d.next = true;
                self.offered.d.next = self.memory.read_data.val();
            }
        }
        if self.reading.val() {
            self.fetched_valid.d.next = true;
            self.read_pointer.d.next = self.read_pointer.q.val() + self.one.val();
        }
        self.stored_next.next = self.stored.q.val();
        if self.push.val() {
            self.write_pointer.d.next = self.write_pointer.q.val() + self.one.val();
            if !self.reading.val() {
                self.stored_next.next = self.stored.q.val() + self.one.val();
            }
        } else if self.reading.val() {
            self.stored_next.next = self.stored.q.val() - self.one.val();
        }
        self.stored.d.next = self.stored_next.val();
        // One cycle late, which `threshold` allows for: at most one push more than it counts.
        self.room_register.d.next = (self.stored_next.val() < self.threshold.val());
        self.room.next = self.room_register.q.val();
        self.empty.next = (self.stored.q.val() == self.zero.val())
            & !self.fetched_valid.q.val()
            & !self.offered_valid.q.val();

        if self.reset.val() {
            self.write_pointer.d.next = self.zero.val();
            self.read_pointer.d.next = self.zero.val();
            self.stored.d.next = self.zero.val();
            self.fetched_valid.d.next = false;
            self.offered_valid.d.next = false;
            self.room_register.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    fn check(block: bool, address_bits: usize, margin: usize) {
        let fifo: Fifo<Bits<20>> = Fifo::new(address_bits, margin, block);
        let mut bench = Bench::new(&format!("fifo_{address_bits}_{margin}_{block}"), fifo);
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut expected = VecDeque::new();
        let (mut taken, mut most) = (0, 0);
        for cycle in 0..20_000u64 {
            // Phases of filling and of draining reach both ends.
            let fill = (cycle / 500) % 2 == 0;
            bench.eval();
            let room = bench.get("room") == 1;
            let push = room && random.random_bool(if fill { 0.9 } else { 0.2 });
            let ready = random.random_bool(if fill { 0.2 } else { 0.9 });
            bench.set("push", push.into());
            bench.set("data", (cycle & 0xF_FFFF).into());
            bench.set("out$ready", ready.into());
            bench.eval();
            assert_eq!(bench.get("empty") == 1, expected.is_empty());
            if ready && bench.get("out$valid") == 1 {
                assert_eq!(Some(bench.get("out$data") as u64), expected.pop_front());
                taken += 1;
            }
            if push {
                expected.push_back(cycle & 0xF_FFFF);
            }
            most = most.max(expected.len());
            assert!(expected.len() <= (1 << address_bits) + 2);
            bench.cycle();
        }
        assert!(taken > 3_000 && most >= (1 << address_bits) - margin, "{taken} taken, {most} at most");
    }

    #[test]
    fn keeps_order_at_every_size() {
        check(false, 2, 1);
        check(false, 4, 3);
        check(true, 4, 1);
        check(true, 6, 8);
    }
}
