//! Makes commands of the beats that answer fetches.
//!
//! Fetches ask for whole 64-byte entries, with the queue as tag. Entries of queue 0 leave in `control`,
//! all others in `client`, each in order; neither waits for the other. An entry with a refused beat is
//! dropped; its neighbour in the burst is not. `arrived` reports each entry as its last beat comes,
//! with its queue and whether it failed; `control_returned` and `client_returned` each give one credit
//! back. There is room for `CONTROL_CREDITS` and `CLIENT_CREDITS` entries: whoever fetches never has
//! more than those asked for and not returned, so answers are always taken.
//!
//! Latency: 2 cycles from an entry's last beat to `client` or `control` when nothing waits before it, 1 to
//! `arrived`. Throughput: takes a beat a cycle; an entry leaves in as many cycles as it has beats and one
//! more. `idle` comes a cycle late and goes with the beat that ends it. Reset drops everything; answers
//! to fetches begun before it must not come after.

use rust_hdl::prelude::*;

use super::entry_buffer::EntryBuffer;
use crate::prim::stream::StreamOut;
use crate::records::FetchedEntry;

/// log2 of the control ring's entries that may be on their way or waiting.
pub const CONTROL_CREDIT_BITS: usize = 2;
/// log2 of the client rings' entries that may be on their way or waiting.
pub const CLIENT_CREDIT_BITS: usize = 5;

/// See the module's header. `W` is the width of the bus in bits, `B` in bytes.
#[derive(Clone, Debug, LogicBlock)]
pub struct EntryAssembler<const W: usize, const B: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub answer_valid_fetch: Signal<In, bool>,
    pub answer_tag: Signal<In, Bits<8>>,
    pub answer_data: Signal<In, Bits<W>>,
    pub answer_last: Signal<In, bool>,
    pub answer_error: Signal<In, bool>,
    pub control: StreamOut<Bits<512>>,
    pub client: StreamOut<FetchedEntry>,
    pub control_returned: Signal<Out, bool>,
    pub client_returned: Signal<Out, bool>,
    pub arrived: Signal<Out, bool>,
    pub arrived_queue: Signal<Out, Bits<8>>,
    pub arrived_failed: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,

    control_entries: EntryBuffer<W>,
    client_entries: EntryBuffer<W>,
    /// Beats of the entry under way that have come.
    beat: DFF<Bits<4>>,
    failed: DFF<bool>,
    // The beat, as it goes to the buffers.
    for_control: DFF<bool>,
    for_client: DFF<bool>,
    data_register: DFF<Bits<W>>,
    arrived_register: DFF<bool>,
    arrived_queue_register: DFF<Bits<8>>,
    arrived_failed_register: DFF<bool>,
    // For `idle`: nothing in it, and a beat came.
    rests: DFF<bool>,
    came: DFF<bool>,
    is_control: Signal<Local, bool>,
    ends_entry: Signal<Local, bool>,
    failed_now: Signal<Local, bool>,
    last_beat: Constant<Bits<4>>,
    control_queue: Constant<Bits<8>>,
    one: Constant<Bits<4>>,
    zero: Constant<Bits<4>>,
}

impl<const W: usize, const B: usize> Default for EntryAssembler<W, B> {
    fn default() -> Self {
        assert!([128, 256, 512].contains(&W) && B == W / 8, "bus of {W} bits, {B} bytes");
        Self {
            clock: Default::default(),
            reset: Default::default(),
            answer_valid_fetch: Default::default(),
            answer_tag: Default::default(),
            answer_data: Default::default(),
            answer_last: Default::default(),
            answer_error: Default::default(),
            control: Default::default(),
            client: Default::default(),
            control_returned: Default::default(),
            client_returned: Default::default(),
            arrived: Default::default(),
            arrived_queue: Default::default(),
            arrived_failed: Default::default(),
            idle: Default::default(),
            control_entries: EntryBuffer::new(CONTROL_CREDIT_BITS, false),
            client_entries: EntryBuffer::new(CLIENT_CREDIT_BITS, true),
            beat: Default::default(),
            failed: Default::default(),
            for_control: Default::default(),
            for_client: Default::default(),
            data_register: Default::default(),
            arrived_register: Default::default(),
            arrived_queue_register: Default::default(),
            arrived_failed_register: Default::default(),
            rests: Default::default(),
            came: Default::default(),
            is_control: Default::default(),
            ends_entry: Default::default(),
            failed_now: Default::default(),
            last_beat: Constant::new((512 / W as u64 - 1).to_bits()),
            control_queue: Constant::new(0u64.to_bits()),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
        }
    }
}

impl<const W: usize, const B: usize> Logic for EntryAssembler<W, B> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            beat,
            failed,
            for_control,
            for_client,
            data_register,
            arrived_register,
            arrived_queue_register,
            arrived_failed_register,
            rests,
            came
        );
        self.control_entries.clock.next = self.clock.val();
        self.control_entries.reset.next = self.reset.val();
        self.client_entries.clock.next = self.clock.val();
        self.client_entries.reset.next = self.reset.val();

        self.is_control.next = (self.answer_tag.val() == self.control_queue.val());
        self.ends_entry.next = (self.beat.q.val() == self.last_beat.val());
        self.failed_now.next = self.failed.q.val() | self.answer_error.val();
        self.arrived_register.d.next = false;
        self.arrived_queue_register.d.next = self.answer_tag.val();
        self.arrived_failed_register.d.next = self.failed_now.val();
        if self.answer_valid_fetch.val() {
            self.beat.d.next = self.beat.q.val() + self.one.val();
            self.failed.d.next = self.failed_now.val();
            if self.ends_entry.val() {
                self.arrived_register.d.next = true;
                self.beat.d.next = self.zero.val();
                self.failed.d.next = false;
            }
        }
        self.arrived.next = self.arrived_register.q.val();
        self.arrived_queue.next = self.arrived_queue_register.q.val();
        self.arrived_failed.next = self.arrived_failed_register.q.val();

        self.for_control.d.next = self.answer_valid_fetch.val() & self.is_control.val();
        self.for_client.d.next = self.answer_valid_fetch.val() & !self.is_control.val();
        self.data_register.d.next = self.answer_data.val();
        self.control_entries.push.next = self.for_control.q.val();
        self.control_entries.beat.next = self.data_register.q.val();
        self.control_entries.ends_entry.next = self.arrived_register.q.val();
        self.control_entries.queue.next = self.arrived_queue_register.q.val();
        self.control_entries.failed.next = self.arrived_failed_register.q.val();
        self.client_entries.push.next = self.for_client.q.val();
        self.client_entries.beat.next = self.data_register.q.val();
        self.client_entries.ends_entry.next = self.arrived_register.q.val();
        self.client_entries.queue.next = self.arrived_queue_register.q.val();
        self.client_entries.failed.next = self.arrived_failed_register.q.val();

        self.control.valid.next = self.control_entries.out.valid.val();
        self.control.data.next = self.control_entries.out.data.val().entry;
        self.control_entries.out.ready.next = self.control.ready.val();
        self.control_returned.next = self.control_entries.returned.val();
        self.client.valid.next = self.client_entries.out.valid.val();
        self.client.data.next = self.client_entries.out.data.val();
        self.client_entries.out.ready.next = self.client.ready.val();
        self.client_returned.next = self.client_entries.returned.val();
        self.came.d.next = self.answer_valid_fetch.val();
        self.rests.d.next = self.control_entries.empty.val()
            & self.client_entries.empty.val()
            & !self.came.q.val()
            & (self.beat.q.val() == self.zero.val());
        self.idle.next = self.rests.q.val() & !self.came.q.val();

        if self.reset.val() {
            self.beat.d.next = self.zero.val();
            self.failed.d.next = false;
            self.for_control.d.next = false;
            self.for_client.d.next = false;
            self.arrived_register.d.next = false;
            self.rests.d.next = false;
            self.came.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    fn bench<const W: usize, const B: usize>(name: &str) -> Bench {
        let assembler = EntryAssembler::<W, B>::default();
        let mut bench = Bench::new(&format!("entry_assembler_{name}_{W}"), assembler);
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench.cycle();
        assert_eq!(bench.get("idle"), 1);
        bench
    }

    /// A beat of the answer: words, tag, last, error.
    type Beat = (Vec<u32>, u64, bool, bool);

    fn give(bench: &mut Bench, beat: Option<&Beat>) {
        bench.set("answer_valid_fetch", beat.is_some().into());
        if let Some((data, tag, last, error)) = beat {
            bench.set_wide("answer_data", data);
            bench.set("answer_tag", (*tag).into());
            bench.set("answer_last", (*last).into());
            bench.set("answer_error", (*error).into());
        }
        bench.eval();
    }

    /// The beats of a burst of entries; `errors` names the beats refused.
    fn burst<const W: usize>(queue: u64, entries: &[Vec<u32>], errors: &[usize]) -> Vec<Beat> {
        let words: Vec<u32> = entries.concat();
        let beats = words.len() * 32 / W;
        words
            .chunks(W / 32)
            .enumerate()
            .map(|(i, data)| (data.to_vec(), queue, i + 1 == beats, errors.contains(&i)))
            .collect()
    }

    fn keeps_control_apart_at<const W: usize, const B: usize>() {
        let mut bench = bench::<W, B>("directed");
        let entries: Vec<Vec<u32>> = (0..4).map(|e| (0..16).map(|i| e << 8 | i).collect()).collect();
        let mut beats = burst::<W>(7, &entries[..2], &[]);
        beats.extend(burst::<W>(0, &entries[2..4], &[512 / W]));
        beats.extend(burst::<W>(9, &entries[1..2], &[0]));
        beats.extend(burst::<W>(7, &entries[3..4], &[]));
        let mut arrived = Vec::new();
        let mut first_client = None;
        let mut first_end = None;
        for i in 0..beats.len() + 12 {
            give(&mut bench, beats.get(i));
            if bench.get("client$valid") == 1 {
                first_client.get_or_insert(i);
            }
            if bench.get("arrived") == 1 {
                first_end.get_or_insert(i - 1);
                arrived.push((bench.get("arrived_queue"), bench.get("arrived_failed")));
            }
            bench.cycle();
        }
        assert_eq!(arrived, [(7, 0), (7, 0), (0, 0), (0, 1), (9, 1), (7, 0)]);
        assert_eq!(first_client.expect("an entry") - first_end.expect("an entry"), 2, "latency");
        // The client waits; the control ring's command is there all the same, its failed neighbour not.
        assert_eq!((bench.get("client$valid"), bench.get("control$valid")), (1, 1));
        assert_eq!(bench.get_wide("control$data"), entries[2]);
        bench.set("control$ready", 1);
        bench.set("client$ready", 1);
        let (mut taken, mut credits) = (Vec::new(), (0, 0));
        for _ in 0..40 {
            bench.eval();
            if bench.get("client$valid") == 1 {
                let data = bench.get_wide("client$data");
                taken.push((data[16], data[..16].to_vec()));
            }
            credits.0 += bench.get("control_returned");
            credits.1 += bench.get("client_returned");
            bench.cycle();
        }
        let expected = [(7, &entries[0]), (7, &entries[1]), (7, &entries[3])].map(|(q, e)| (q, e.clone()));
        assert_eq!(taken, expected);
        assert_eq!((credits, bench.get("control$valid"), bench.get("idle")), ((2, 4), 0, 1));
    }

    #[test]
    fn keeps_control_apart() {
        keeps_control_apart_at::<128, 16>();
        keeps_control_apart_at::<256, 32>();
        keeps_control_apart_at::<512, 64>();
    }

    fn runs_at_random<const W: usize, const B: usize>() {
        let mut bench = bench::<W, B>("random");
        let mut random = seeded();
        let mut credits = [1usize << CONTROL_CREDIT_BITS, 1 << CLIENT_CREDIT_BITS];
        let mut beats: VecDeque<Beat> = VecDeque::new();
        let mut expected: [VecDeque<(u64, Vec<u32>)>; 2] = Default::default();
        let mut arrivals = VecDeque::new();
        let (mut taken, mut full) = (0, 0);
        for cycle in 0..30_000u64 {
            let kind = usize::from(random.random_bool(0.8));
            let entries = random.random_range(1..3);
            if credits[kind] >= entries && beats.len() < 40 && cycle < 29_000 {
                credits[kind] -= entries;
                let queue = if kind == 0 { 0 } else { random.random_range(1..32) };
                let data: Vec<Vec<u32>> =
                    (0..entries).map(|_| (0..16).map(|_| random.random()).collect()).collect();
                let mut errors = Vec::new();
                if random.random_bool(0.2) {
                    errors.push(random.random_range(0..entries * 512 / W));
                }
                beats.extend(burst::<W>(queue, &data, &errors));
                for (i, entry) in data.into_iter().enumerate() {
                    let failed = errors.iter().any(|beat| beat * W / 512 == i);
                    arrivals.push_back((u128::from(queue), u128::from(failed)));
                    if !failed {
                        expected[kind].push_back((queue, entry));
                    }
                }
            }
            let beat = if random.random_bool(0.9) { beats.pop_front() } else { None };
            give(&mut bench, beat.as_ref());
            let slow = (cycle / 500) % 2 == 0 && cycle < 29_000;
            for (kind, port) in ["control", "client"].into_iter().enumerate() {
                let ready = random.random_bool(if slow { 0.05 } else { 0.9 });
                bench.set(&format!("{port}$ready"), ready.into());
                bench.eval();
                if ready && bench.get(&format!("{port}$valid")) == 1 {
                    let data = bench.get_wide(&format!("{port}$data"));
                    let queue = data.get(16).copied().unwrap_or(0);
                    let (expected_queue, entry) = expected[kind].pop_front().expect("no more entries");
                    assert_eq!((u64::from(queue), &data[..16]), (expected_queue, &entry[..]));
                    taken += 1;
                }
                credits[kind] += bench.get(&format!("{port}_returned")) as usize;
                full += u32::from(credits[kind] == 0);
            }
            if bench.get("arrived") == 1 {
                let arrived = (bench.get("arrived_queue"), bench.get("arrived_failed"));
                assert_eq!(Some(arrived), arrivals.pop_front());
            }
            bench.cycle();
        }
        assert!(expected.iter().all(VecDeque::is_empty) && arrivals.is_empty());
        assert_eq!((credits, bench.get("idle")), ([1 << CONTROL_CREDIT_BITS, 1 << CLIENT_CREDIT_BITS], 1));
        assert!(taken > 2_000 && full > 1_000, "{taken} taken, {full} cycles without credit");
    }

    #[test]
    fn agrees_with_queues_at_random() {
        runs_at_random::<128, 16>();
        runs_at_random::<256, 32>();
        runs_at_random::<512, 64>();
    }
}
