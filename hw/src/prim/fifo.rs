//! FIFO with registered outputs.
//!
//! Latency: an item pushed in cycle t is offered in cycle t+2 (`Fifo::lut`), t+3 (`Fifo::block`), and
//! by an empty `Fifo::quick` in t+1, which costs one LUT a bit.
//! Throughput: one item a cycle. `room` says that at least `margin` more items fit, so that a
//! pipeline without stalls can stand in front; `push` without room loses nothing as long as fewer
//! than `margin` follow. Reset empties it.

use rust_hdl::prelude::*;

use super::ram::FifoRam;
use super::register::Register;
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
    /// `stored` is 0, is 1: kept beside it, since all that moves waits for them.
    stored_none: DFF<bool>,
    stored_one: DFF<bool>,
    fetched_valid: DFF<bool>,
    /// `fetched_valid` is clear: for the data alone, all bits of which hang on it.
    unfetched: DFF<bool>,
    offered: Register<T>,
    offered_valid: DFF<bool>,
    room_register: DFF<bool>,
    threshold: Constant<Bits<16>>,
    /// The bits that `stored` and the pointers need: synthesis drops the others.
    stored_mask: Constant<Bits<16>>,
    pointer_mask: Constant<Bits<16>>,
    two_stages: Constant<bool>,
    quick: Constant<bool>,
    stored_two: Signal<Local, bool>,
    /// The pushed item goes past the memory.
    passing: Signal<Local, bool>,
    storing: Signal<Local, bool>,
    reading: Signal<Local, bool>,
    moving: Signal<Local, bool>,
    stored_next: Signal<Local, Bits<16>>,
    write_next: Signal<Local, Bits<16>>,
    read_next: Signal<Local, Bits<16>>,
    one: Constant<Bits<16>>,
    two: Constant<Bits<16>>,
    zero: Constant<Bits<16>>,
}

impl<T: Synth> Fifo<T> {
    fn new(address_bits: usize, margin: usize, block: bool, quick: bool) -> Self {
        assert!(!(block && quick), "no passing by a block RAM");
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
            memory: FifoRam::new(address_bits, block, quick),
            write_pointer: Default::default(),
            read_pointer: Default::default(),
            stored: Default::default(),
            stored_none: Default::default(),
            stored_one: Default::default(),
            fetched_valid: Default::default(),
            unfetched: Default::default(),
            offered: Default::default(),
            offered_valid: Default::default(),
            room_register: Default::default(),
            threshold: Constant::new(((depth - margin) as u64).to_bits()),
            stored_mask: Constant::new((2 * depth as u64 - 1).to_bits()),
            pointer_mask: Constant::new((depth as u64 - 1).to_bits()),
            two_stages: Constant::new(block),
            quick: Constant::new(quick),
            stored_two: Default::default(),
            passing: Default::default(),
            storing: Default::default(),
            reading: Default::default(),
            moving: Default::default(),
            stored_next: Default::default(),
            write_next: Default::default(),
            read_next: Default::default(),
            one: Constant::new(1u64.to_bits()),
            two: Constant::new(2u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
        }
    }

    /// In LUT RAM: for up to 64 items.
    pub fn lut(address_bits: usize, margin: usize) -> Self {
        Self::new(address_bits, margin, false, false)
    }

    /// In LUT RAM, with a way past it while it is empty.
    pub fn quick(address_bits: usize, margin: usize) -> Self {
        Self::new(address_bits, margin, false, true)
    }

    /// In block RAM.
    pub fn block(address_bits: usize, margin: usize) -> Self {
        Self::new(address_bits, margin, true, false)
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
            stored_none,
            stored_one,
            fetched_valid,
            unfetched,
            offered_valid,
            room_register
        );
        self.memory.clock.next = self.clock.val();
        self.offered.clock.next = self.clock.val();
        self.memory.write_address.next = self.write_pointer.q.val();
        self.memory.write_data.next = self.data.val();
        self.memory.read_address.next = self.read_pointer.q.val();

        self.stored_two.next = (self.stored.q.val() == self.two.val());
        self.passing.next = false;
        if self.two_stages.val() {
            // RAM output -> output register.
            self.moving.next =
                self.fetched_valid.q.val() & (!self.offered_valid.q.val() | self.out.ready.val());
            self.reading.next = !self.stored_none.q.val() & (!self.fetched_valid.q.val() | self.moving.val());
            self.memory.read.next = self.reading.val();
            self.out.valid.next = self.offered_valid.q.val();
            self.out.data.next = self.offered.q.val();
        } else {
            // The RAM's read register is the output register.
            self.moving.next = self.fetched_valid.q.val() & self.out.ready.val();
            self.reading.next =
                !self.stored_none.q.val() & (!self.fetched_valid.q.val() | self.out.ready.val());
            if self.quick.val() {
                self.passing.next = self.push.val()
                    & self.stored_none.q.val()
                    & (!self.fetched_valid.q.val() | self.out.ready.val());
            }
            // Whatever it holds, while nobody minds.
            self.memory.read.next = self.unfetched.q.val() | self.out.ready.val();
            self.out.valid.next = self.fetched_valid.q.val();
            self.out.data.next = self.memory.read_data.val();
        }
        self.storing.next = self.push.val() & !self.passing.val();
        self.memory.write.next = self.storing.val();
        self.memory.pass.next = self.stored_none.q.val();
        self.write_next.next = self.write_pointer.q.val() + self.one.val();
        self.read_next.next = self.read_pointer.q.val() + self.one.val();

        self.offered.load.next = self.moving.val() & self.two_stages.val();
        self.offered.d.next = self.memory.read_data.val();
        if self.out.ready.val() {
            self.offered_valid.d.next = false;
        }
        if self.moving.val() {
            self.fetched_valid.d.next = false;
            self.unfetched.d.next = true;
            if self.two_stages.val() {
                self.offered_valid.d.next = true;
            }
        }
        if self.passing.val() {
            self.fetched_valid.d.next = true;
            self.unfetched.d.next = false;
        }
        if self.reading.val() {
            self.fetched_valid.d.next = true;
            self.unfetched.d.next = false;
            self.read_pointer.d.next = self.read_next.val() & self.pointer_mask.val();
        }
        self.stored_next.next = self.stored.q.val();
        if self.storing.val() {
            self.write_pointer.d.next = self.write_next.val() & self.pointer_mask.val();
            if !self.reading.val() {
                self.stored_next.next = self.stored.q.val() + self.one.val();
                self.stored_none.d.next = false;
                self.stored_one.d.next = self.stored_none.q.val();
            }
        } else if self.reading.val() {
            self.stored_next.next = self.stored.q.val() - self.one.val();
            self.stored_none.d.next = self.stored_one.q.val();
            self.stored_one.d.next = self.stored_two.val();
        }
        self.stored.d.next = self.stored_next.val() & self.stored_mask.val();
        // Of the count before this cycle's push, and a cycle late: `threshold` allows for one more.
        self.room_register.d.next = (self.stored.q.val() < self.threshold.val());
        self.room.next = self.room_register.q.val();
        self.empty.next =
            self.stored_none.q.val() & !self.fetched_valid.q.val() & !self.offered_valid.q.val();

        if self.reset.val() {
            self.write_pointer.d.next = self.zero.val();
            self.read_pointer.d.next = self.zero.val();
            self.stored.d.next = self.zero.val();
            self.stored_none.d.next = true;
            self.stored_one.d.next = false;
            self.fetched_valid.d.next = false;
            self.unfetched.d.next = true;
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

    fn check(kind: &str, fifo: Fifo<Bits<20>>, address_bits: usize, margin: usize) {
        let mut bench = Bench::new(&format!("fifo_{kind}_{address_bits}_{margin}"), fifo);
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut expected = VecDeque::new();
        let (mut taken, mut most) = (0, 0);
        // An item pushed into an empty FIFO at this cycle is offered as late as the header says.
        let latency = match kind {
            "quick" => 1,
            "lut" => 2,
            _ => 3,
        };
        let mut alone = None;
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
            if let Some(since) = alone {
                assert_eq!(bench.get("out$valid") == 1, cycle - since >= latency);
            }
            if push && expected.is_empty() {
                alone = Some(cycle);
            }
            if ready && bench.get("out$valid") == 1 {
                alone = None;
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
        for (bits, margin) in [(2, 1), (4, 3)] {
            check("lut", Fifo::lut(bits, margin), bits, margin);
            check("quick", Fifo::quick(bits, margin), bits, margin);
        }
        check("block", Fifo::block(4, 1), 4, 1);
        check("block", Fifo::block(6, 8), 6, 8);
    }
}
