//! Decides when a raised vector becomes an interrupt.
//!
//! A vector raised by a client's completion waits until `coalesce_count` completions have raised it or
//! `coalesce_ticks` ticks have passed since the first of them; with a count of 0 or 1, or with 0 ticks,
//! it never waits. The control ring's never waits. `fired` has a one-cycle pulse for each vector that
//! becomes an interrupt. A vector that the card does not have is taken and dropped. A change of the
//! settings reaches a vector that waits with its next completion or tick.
//!
//! Handshake: streams; a client's raise is taken every 2 cycles, every 3 when of one vector. Latency:
//! 4 cycles from handshake to `fired`, 1 for the control ring. After a tick the vectors that wait are
//! looked at one after the other, raises first; ticks that come faster than that are not lost. Waiting
//! for ticks is idle. Reset forgets all that waits.

use rust_hdl::prelude::*;

use super::vector_picker::VectorPicker;
use crate::logic_record;
use crate::prim::ram::LutRam;
use crate::prim::stream::StreamIn;
use crate::sizes::Sizes;

logic_record! {
    /// A vector that waits.
    Waiting: 24 {
        /// Completions so far.
        count = 8,
        /// Tick of the first, modulo 2^16.
        start = 16,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct InterruptCoalescer {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub raise_client: StreamIn<Bits<8>>,
    pub raise_control: StreamIn<Bits<8>>,
    pub coalesce_count: Signal<In, Bits<8>>,
    pub coalesce_ticks: Signal<In, Bits<8>>,
    pub tick: Signal<In, bool>,
    pub fired: Signal<Out, Bits<32>>,
    pub idle: Signal<Out, bool>,

    vectors: LutRam<Waiting>,
    picker: VectorPicker,
    /// Vectors whose entry is in use.
    waiting: DFF<Bits<32>>,
    now: DFF<Bits<16>>,
    scan_due: DFF<bool>,
    // The settings, and what follows from them.
    immediate: DFF<bool>,
    count_z: DFF<Bits<8>>,
    ticks: DFF<Bits<8>>,
    client_held: DFF<bool>,
    client_vector: DFF<Bits<5>>,
    client_hot: DFF<Bits<32>>,
    /// Nothing is held: for `ready`, since all bits of the mask hang on the other.
    client_free: DFF<bool>,
    /// The held raise waits for a cycle or two, for its vector is in a stage.
    client_wait: DFF<bool>,
    client_wait_long: DFF<bool>,
    control_held: DFF<bool>,
    control_free: DFF<bool>,
    control_hot: DFF<Bits<32>>,
    /// Neither is the pick.
    scan_go: DFF<bool>,
    // A raise or a look goes through three stages: entry read, entry judged and written, verdict.
    read_valid: DFF<bool>,
    read_raise: DFF<bool>,
    read_vector: DFF<Bits<5>>,
    read_hot: DFF<Bits<32>>,
    judge_valid: DFF<bool>,
    judge_raise: DFF<bool>,
    judge_vector: DFF<Bits<5>>,
    judge_hot: DFF<Bits<32>>,
    judge_waiting: DFF<bool>,
    judge_full: DFF<bool>,
    judge_count: DFF<Bits<8>>,
    judge_start: DFF<Bits<16>>,
    judge_elapsed: DFF<Bits<16>>,
    fire: DFF<bool>,
    /// The contrary, for `waiting`.
    no_fire: DFF<bool>,
    keep: DFF<bool>,
    verdict_hot: DFF<Bits<32>>,
    offered_client: Signal<Local, Bits<8>>,
    offered_vector: Signal<Local, Bits<5>>,
    scan_number: Signal<Local, Bits<8>>,
    scan_vector: Signal<Local, Bits<5>>,
    known_client: Signal<Local, bool>,
    known_control: Signal<Local, bool>,
    same_as_scan: Signal<Local, bool>,
    same_as_read: Signal<Local, bool>,
    client_next: Signal<Local, bool>,
    control_next: Signal<Local, bool>,
    client_go: Signal<Local, bool>,
    take_scan: Signal<Local, bool>,
    among_waiting: Signal<Local, Bits<32>>,
    late: Signal<Local, bool>,
    verdict: Signal<Local, bool>,
    client_fired: Signal<Local, Bits<32>>,
    control_fired: Signal<Local, Bits<32>>,
    vector_count: Constant<Bits<8>>,
    one8: Constant<Bits<8>>,
    two8: Constant<Bits<8>>,
    zero8: Constant<Bits<8>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    one32: Constant<Bits<32>>,
    zero32: Constant<Bits<32>>,
}

impl InterruptCoalescer {
    /// A coalescer of 2^`vector_bits` vectors.
    pub fn new(sizes: &Sizes) -> Self {
        assert!(sizes.vector_bits <= 5, "2^{} vectors", sizes.vector_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            raise_client: Default::default(),
            raise_control: Default::default(),
            coalesce_count: Default::default(),
            coalesce_ticks: Default::default(),
            tick: Default::default(),
            fired: Default::default(),
            idle: Default::default(),
            vectors: LutRam::new(5),
            picker: Default::default(),
            waiting: Default::default(),
            now: Default::default(),
            scan_due: Default::default(),
            immediate: Default::default(),
            count_z: Default::default(),
            ticks: Default::default(),
            client_held: Default::default(),
            client_vector: Default::default(),
            client_hot: Default::default(),
            client_free: Default::default(),
            client_wait: Default::default(),
            client_wait_long: Default::default(),
            control_held: Default::default(),
            control_free: Default::default(),
            control_hot: Default::default(),
            scan_go: Default::default(),
            read_valid: Default::default(),
            read_raise: Default::default(),
            read_vector: Default::default(),
            read_hot: Default::default(),
            judge_valid: Default::default(),
            judge_raise: Default::default(),
            judge_vector: Default::default(),
            judge_hot: Default::default(),
            judge_waiting: Default::default(),
            judge_full: Default::default(),
            judge_count: Default::default(),
            judge_start: Default::default(),
            judge_elapsed: Default::default(),
            fire: Default::default(),
            no_fire: Default::default(),
            keep: Default::default(),
            verdict_hot: Default::default(),
            offered_client: Default::default(),
            offered_vector: Default::default(),
            scan_number: Default::default(),
            scan_vector: Default::default(),
            known_client: Default::default(),
            known_control: Default::default(),
            same_as_scan: Default::default(),
            same_as_read: Default::default(),
            client_next: Default::default(),
            control_next: Default::default(),
            client_go: Default::default(),
            take_scan: Default::default(),
            among_waiting: Default::default(),
            late: Default::default(),
            verdict: Default::default(),
            client_fired: Default::default(),
            control_fired: Default::default(),
            vector_count: Constant::new((1u64 << sizes.vector_bits).to_bits()),
            one8: Constant::new(1u64.to_bits()),
            two8: Constant::new(2u64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for InterruptCoalescer {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            waiting,
            now,
            scan_due,
            immediate,
            count_z,
            ticks,
            client_held,
            client_vector,
            client_hot,
            client_free,
            client_wait,
            client_wait_long,
            control_held,
            control_free,
            control_hot,
            scan_go,
            read_valid,
            read_raise,
            read_vector,
            read_hot,
            judge_valid,
            judge_raise,
            judge_vector,
            judge_hot,
            judge_waiting,
            judge_full,
            judge_count,
            judge_start,
            judge_elapsed,
            fire,
            no_fire,
            keep,
            verdict_hot
        );
        clock!(self, clock, vectors, picker);
        self.picker.reset.next = self.reset.val();
        self.immediate.d.next =
            (self.coalesce_count.val() < self.two8.val()) | (self.coalesce_ticks.val() == self.zero8.val());
        self.count_z.d.next = self.coalesce_count.val() - self.one8.val();
        self.ticks.d.next = self.coalesce_ticks.val();

        // Take raises. The vector of one may be in a stage: a look that enters now is out of the way in
        // three cycles, what is being read in two.
        self.take_scan.next = self.scan_go.q.val() & !self.client_held.q.val();
        self.client_go.next =
            self.client_held.q.val() & !self.client_wait.q.val() & !self.client_wait_long.q.val();
        self.raise_client.ready.next = self.client_free.q.val();
        self.raise_control.ready.next = self.control_free.q.val();
        self.known_client.next = (self.raise_client.data.val() < self.vector_count.val());
        self.known_control.next = (self.raise_control.data.val() < self.vector_count.val());
        self.offered_client.next = self.raise_client.data.val();
        self.offered_vector.next = self.offered_client.val().get_bits::<5>(0);
        self.scan_number.next = self.picker.pick.data.val();
        self.scan_vector.next = self.scan_number.val().get_bits::<5>(0);
        self.same_as_scan.next = self.take_scan.val() & (self.scan_vector.val() == self.offered_vector.val());
        self.same_as_read.next =
            self.read_valid.q.val() & (self.read_vector.q.val() == self.offered_vector.val());
        self.client_wait.d.next = self.client_wait_long.q.val();
        self.client_wait_long.d.next = false;
        self.client_next.next = self.client_held.q.val() & !self.client_go.val();
        if self.client_free.q.val() {
            self.client_next.next = self.raise_client.valid.val() & self.known_client.val();
            self.client_wait.d.next = self.same_as_read.val();
            self.client_wait_long.d.next = self.same_as_scan.val();
            self.client_vector.d.next = self.offered_vector.val();
            self.client_hot.d.next = (self.one32.val() << bit_cast::<32, 5>(self.offered_vector.val()));
        }
        self.client_held.d.next = self.client_next.val();
        self.client_free.d.next = !self.client_next.val();
        self.control_next.next =
            self.control_free.q.val() & self.raise_control.valid.val() & self.known_control.val();
        self.control_held.d.next = self.control_next.val();
        self.control_free.d.next = !self.control_next.val();
        if self.control_free.q.val() {
            self.control_hot.d.next = (self.one32.val() << bit_cast::<32, 8>(self.raise_control.data.val()));
        }

        // Time.
        self.picker.candidates.next = self.waiting.q.val();
        self.picker.start.next = self.scan_due.q.val();
        if self.picker.taken.val() {
            self.scan_due.d.next = false;
        }
        if self.tick.val() {
            self.now.d.next = self.now.q.val() + self.one16.val();
            self.scan_due.d.next = true;
        }

        // A look, when no raise waits and its vector is in no stage; then whichever it is.
        self.scan_go.d.next = self.picker.pick.valid.val()
            & !(self.client_held.q.val() & (self.client_vector.q.val() == self.scan_vector.val()))
            & !(self.read_valid.q.val() & (self.read_vector.q.val() == self.scan_vector.val()));
        if self.take_scan.val() {
            self.scan_go.d.next = false;
        }
        self.picker.pick.ready.next = self.take_scan.val();
        self.read_valid.d.next = self.client_go.val() | self.take_scan.val();
        self.read_raise.d.next = self.client_go.val();
        self.read_vector.d.next = self.scan_vector.val();
        self.read_hot.d.next = self.picker.one_hot.val();
        self.vectors.read_address.next = bit_cast::<16, 5>(self.scan_vector.val());
        if self.client_go.val() {
            self.read_vector.d.next = self.client_vector.q.val();
            self.read_hot.d.next = self.client_hot.q.val();
            self.vectors.read_address.next = bit_cast::<16, 5>(self.client_vector.q.val());
        }

        // Entry read.
        self.judge_valid.d.next = self.read_valid.q.val();
        self.judge_raise.d.next = self.read_raise.q.val();
        self.judge_vector.d.next = self.read_vector.q.val();
        self.judge_hot.d.next = self.read_hot.q.val();
        self.among_waiting.next = self.waiting.q.val() & self.read_hot.q.val();
        self.judge_waiting.d.next = self.among_waiting.val().any();
        self.judge_full.d.next = (self.vectors.read_data.val().count >= self.count_z.q.val());
        self.judge_count.d.next = self.vectors.read_data.val().count + self.one8.val();
        self.judge_start.d.next = self.vectors.read_data.val().start;
        self.judge_elapsed.d.next = self.now.q.val() - self.vectors.read_data.val().start;

        // Entry judged and written.
        self.vectors.write_data.next.count = self.one8.val();
        self.vectors.write_data.next.start = self.now.q.val();
        if self.judge_waiting.q.val() {
            self.vectors.write_data.next.count = self.judge_count.q.val();
            self.vectors.write_data.next.start = self.judge_start.q.val();
        }
        self.vectors.write_address.next = bit_cast::<16, 5>(self.judge_vector.q.val());
        self.vectors.write.next = self.judge_valid.q.val() & self.judge_raise.q.val();
        self.late.next = (self.judge_elapsed.q.val() >= bit_cast::<16, 8>(self.ticks.q.val()));
        self.verdict.next = self.judge_waiting.q.val() & self.late.val();
        if self.judge_raise.q.val() {
            self.verdict.next =
                self.immediate.q.val() | (self.judge_waiting.q.val() & self.judge_full.q.val());
        }
        self.fire.d.next = self.judge_valid.q.val() & self.verdict.val();
        self.no_fire.d.next = !(self.judge_valid.q.val() & self.verdict.val());
        self.keep.d.next = self.judge_valid.q.val() & self.judge_raise.q.val() & !self.verdict.val();
        self.verdict_hot.d.next = self.judge_hot.q.val();

        // Verdict.
        if self.keep.q.val() {
            self.waiting.d.next = self.waiting.q.val() | self.verdict_hot.q.val();
        }
        self.client_fired.next = self.zero32.val();
        if !self.no_fire.q.val() {
            self.waiting.d.next = self.waiting.q.val() & !self.verdict_hot.q.val();
        }
        if self.fire.q.val() {
            self.client_fired.next = self.verdict_hot.q.val();
        }
        self.control_fired.next = self.zero32.val();
        if self.control_held.q.val() {
            self.control_fired.next = self.control_hot.q.val();
        }
        self.fired.next = self.client_fired.val() | self.control_fired.val();
        self.idle.next = !self.client_held.q.val()
            & !self.control_held.q.val()
            & !self.read_valid.q.val()
            & !self.judge_valid.q.val()
            & !self.fire.q.val()
            & !self.keep.q.val()
            & !self.scan_due.q.val()
            & self.picker.idle.val();

        if self.reset.val() {
            self.waiting.d.next = self.zero32.val();
            self.now.d.next = self.zero16.val();
            self.scan_due.d.next = false;
            self.client_held.d.next = false;
            self.client_free.d.next = true;
            self.control_held.d.next = false;
            self.control_free.d.next = true;
            self.scan_go.d.next = false;
            self.read_valid.d.next = false;
            self.judge_valid.d.next = false;
            self.fire.d.next = false;
            self.no_fire.d.next = true;
            self.no_fire.d.next = !(self.judge_valid.q.val() & self.verdict.val());
            self.keep.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    fn start(name: &str, sizes: &Sizes) -> Bench {
        let mut bench = Bench::new(name, InterruptCoalescer::new(sizes));
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench.cycle();
        bench
    }

    /// Runs until idle; the vectors that fired on the way.
    fn settle(bench: &mut Bench) -> u32 {
        let mut fired = 0;
        for _ in 0..300 {
            bench.eval();
            let now = bench.get("fired") as u32;
            assert_eq!(fired & now, 0, "fired twice");
            fired |= now;
            if bench.get("idle") == 1 {
                return fired;
            }
            bench.cycle();
        }
        panic!("never idle");
    }

    fn pulse(bench: &mut Bench, port: &str) -> u32 {
        bench.set(port, 1);
        bench.cycle();
        bench.set(port, 0);
        settle(bench)
    }

    #[test]
    fn counts_ticks_and_control() {
        let mut bench = start("coalescer_directed", &Sizes::DEFAULT);
        bench.set("coalesce_count", 3);
        bench.set("coalesce_ticks", 2);
        bench.set("raise_client$data", 5);
        bench.set("raise_control$data", 5);
        let raises: Vec<u32> = (0..6).map(|_| pulse(&mut bench, "raise_client$valid")).collect();
        assert_eq!(raises, [0, 0, 1 << 5, 0, 0, 1 << 5]);
        assert_eq!(pulse(&mut bench, "raise_client$valid"), 0);
        assert_eq!(pulse(&mut bench, "raise_control$valid"), 1 << 5, "never waits");
        assert_eq!(pulse(&mut bench, "tick"), 0);
        assert_eq!(pulse(&mut bench, "tick"), 1 << 5);
        assert_eq!(pulse(&mut bench, "tick"), 0);
        bench.set("coalesce_ticks", 0);
        bench.cycle();
        bench.set("raise_client$valid", 1);
        bench.cycle();
        bench.set("raise_client$valid", 0);
        for _ in 0..3 {
            assert_eq!(bench.get("fired"), 0);
            bench.cycle();
        }
        assert_eq!(bench.get("fired"), 1 << 5, "4 cycles after the handshake");
    }

    /// One event at a time, each settled: fires exactly when the rules say.
    fn matches_the_rules(name: &str, sizes: &Sizes) {
        let mut bench = start(name, sizes);
        let mut random = seeded();
        let vectors = 1 << sizes.vector_bits;
        let mut waiting: [Option<(u32, u32)>; 32] = [None; 32];
        let (mut count, mut ticks, mut fires) = (0u32, 0u32, 0);
        for step in 0..20_000 {
            if step % 500 == 0 {
                (count, ticks) = (random.random_range(0..9), random.random_range(0..7));
                bench.set("coalesce_count", count.into());
                bench.set("coalesce_ticks", ticks.into());
                bench.cycle();
            }
            let vector = random.random_range(0..=vectors) & [1, 3, 0xFF][random.random_range(0..3)];
            let (port, mut expected) = match random.random_range(0..10) {
                0 => ("raise_control$valid", if vector < vectors { 1 << vector } else { 0 }),
                1 | 2 => ("tick", 0),
                _ => ("raise_client$valid", 0),
            };
            match port {
                "tick" => {
                    for (vector, entry) in waiting.iter_mut().enumerate() {
                        if let Some((_, age)) = entry {
                            *age += 1;
                            if *age >= ticks {
                                expected |= 1 << vector;
                                *entry = None;
                            }
                        }
                    }
                }
                "raise_client$valid" if vector < vectors => {
                    let (raises, _) = waiting[vector].get_or_insert((0, 0));
                    *raises += 1;
                    if *raises >= count || count < 2 || ticks == 0 {
                        expected = 1u32 << vector;
                        waiting[vector] = None;
                    }
                }
                _ => {}
            }
            bench.set("raise_client$data", vector as u128);
            bench.set("raise_control$data", vector as u128);
            assert_eq!(pulse(&mut bench, port), expected, "{port} of {vector} in step {step}");
            fires += expected.count_ones();
        }
        assert!(fires > 2_000, "{fires} fires");
    }

    #[test]
    fn fires_exactly_by_the_rules() {
        matches_the_rules("coalescer_32", &Sizes::DEFAULT);
        matches_the_rules("coalescer_8", &Sizes { vector_bits: 3, ..Sizes::DEFAULT });
    }

    /// Raises and ticks as fast as they go: no raise is forgotten, nothing fires unasked.
    #[test]
    fn forgets_nothing_under_load() {
        let mut bench = start("coalescer_load", &Sizes::DEFAULT);
        let mut random = seeded();
        bench.set("coalesce_count", 4);
        bench.set("coalesce_ticks", 3);
        // Of each vector: the cycles of raises not yet covered by an interrupt, and of its last one.
        let mut raised: [VecDeque<u64>; 32] = Default::default();
        let (mut offered, mut taken, mut fires) = (None, 0, 0);
        for cycle in 0..40_000u64 {
            let draining = cycle >= 38_000;
            let few = cycle / 1_000 % 2 == 0;
            let vector = *offered.get_or_insert_with(|| random.random_range(0..if few { 2 } else { 32u32 }));
            let valid = !draining && random.random_bool(0.95);
            let tick = if draining { cycle % 200 == 0 } else { random.random_bool(0.05) };
            bench.set("raise_client$valid", valid.into());
            bench.set("raise_client$data", vector.into());
            bench.set("tick", tick.into());
            bench.eval();
            let fired = bench.get("fired") as u32;
            fires += fired.count_ones();
            for (_, raised) in raised.iter_mut().enumerate().filter(|(i, _)| fired >> i & 1 == 1) {
                // One that is still on its way is not covered.
                for _ in 0..4 {
                    if raised.front().is_some_and(|&at| at + 4 <= cycle) {
                        raised.pop_front();
                    }
                }
            }
            if valid && bench.get("raise_client$ready") == 1 {
                let raised = &mut raised[vector as usize];
                raised.push_back(cycle);
                assert!(raised.len() <= 6, "vector {vector} should have fired");
                offered = None;
                taken += 1;
            }
            bench.cycle();
        }
        assert_eq!(bench.get("idle"), 1);
        assert!(raised.iter().all(VecDeque::is_empty), "a raise was forgotten: {raised:?}");
        assert!(taken > 12_000 && fires <= taken, "{fires} interrupts of {taken} raises");
    }
}
