//! Writes to BAR2, the card's completion windows: an AXI4 master on behalf of the SSDs.
//!
//! Writes go in order, address and data each as fast as the card takes them. With `merge_of_256`,
//! a seeded part of the writes that follow each other in address travel as one burst. How long the
//! card keeps a channel waiting is measured, and bounded: it must never wait for its own master. While this
//! one owes a beat of a burst that the card has, or leaves a response standing, it is not the card that waits.

use std::collections::VecDeque;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::bus::{WindowWrite, BURST_BYTES_MAX};
use crate::card_bus::CardBus;
use crate::host_memory::Agent;
use crate::probe::BusAction;
use crate::random;

use super::checker::{Errors, Held};
use super::model::Ports;
use super::port_list::Port;
use super::stalls::{Channel, Stalls};

/// Bursts begun and not yet wholly accepted.
const BURSTS_MAX: usize = 4;
/// Responses not yet taken.
const UNANSWERED_MAX: u32 = 64;

struct WindowBurst {
    offset: u64,
    beats: usize,
    next_beat: usize,
    bytes: usize,
    data: [u8; 2 * BURST_BYTES_MAX],
    /// A bit for each byte of `data`.
    strobes: [u64; 8],
}

pub(crate) struct WindowMaster {
    wait_limit: u32,
    merge_of_256: u8,
    random: ChaCha8Rng,
    bursts: VecDeque<WindowBurst>,
    /// How many of `bursts`, from the front, have their address accepted.
    addressed: usize,
    unanswered: u32,
    question: Option<u64>,
    /// Whether the asker of `question` still waits.
    wanted: bool,
    answer: Option<u32>,
    asked: bool,
    aw_valid: bool,
    w_valid: bool,
    b_ready: bool,
    ar_valid: bool,
    aw_waited: u32,
    w_waited: u32,
    wait_max: u32,
    held_b: Held,
}

impl WindowMaster {
    pub(crate) fn new(wait_limit: u32, merge_of_256: u8, seed: u64) -> Self {
        Self {
            wait_limit,
            merge_of_256,
            random: random::fork(seed, "window"),
            bursts: VecDeque::with_capacity(BURSTS_MAX),
            addressed: 0,
            unanswered: 0,
            question: None,
            wanted: false,
            answer: None,
            asked: false,
            aw_valid: false,
            w_valid: false,
            b_ready: false,
            ar_valid: false,
            aw_waited: 0,
            w_waited: 0,
            wait_max: 0,
            held_b: Held::default(),
        }
    }

    /// Most cycles the card kept a channel waiting.
    pub(crate) fn wait_max(&self) -> u32 {
        self.wait_max
    }

    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.bursts.is_empty() && self.unanswered == 0 && self.question.is_none() && !self.asked
    }

    /// Asks for 4 bytes of BAR2.
    pub(crate) fn ask(&mut self, offset: u64) {
        (self.answer, self.wanted) = (None, true);
        // An earlier question that nobody waits for any more is on the wires: it answers this one,
        // as all of BAR2 reads the same.
        self.question.get_or_insert(offset);
    }

    pub(crate) fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    pub(crate) fn take_answer(&mut self) -> Option<u32> {
        self.wanted = false;
        self.answer.take()
    }

    #[inline]
    pub(crate) fn sample<B: CardBus>(&mut self, ports: &Ports, bus: &mut B, errors: &mut Errors) {
        let b_valid = ports.flag(Port::Bar2Bvalid);
        let owes = self.addressed > 0 && !self.w_valid || b_valid && !self.b_ready;
        if self.aw_valid {
            if ports.flag(Port::Bar2Awready) {
                (self.aw_valid, self.aw_waited) = (false, 0);
                self.addressed += 1;
            } else if !owes {
                self.aw_waited += 1;
                self.check_wait("bar2_aw", self.aw_waited, errors);
            }
        }
        if self.w_valid {
            if ports.flag(Port::Bar2Wready) {
                (self.w_valid, self.w_waited) = (false, 0);
                if let Some(burst) = self.bursts.front_mut() {
                    burst.next_beat += 1;
                }
            } else {
                self.w_waited += 1;
                self.check_wait("bar2_w", self.w_waited, errors);
            }
        }
        if self.addressed > 0 && self.bursts.front().is_some_and(|burst| burst.next_beat == burst.beats) {
            if let Some(burst) = self.bursts.pop_front() {
                bus.note(Agent::Host, BusAction::Window, burst.offset, burst.bytes);
            }
            self.addressed -= 1;
            self.unanswered += 1;
        }
        let response = || [u64::from(ports.byte(Port::Bar2Bresp)); 10];
        self.held_b.check(errors, "bar2_b", b_valid, self.b_ready, response);
        if b_valid && self.b_ready {
            match self.unanswered.checked_sub(1) {
                Some(left) => self.unanswered = left,
                None => errors.push("bar2_b", "a response without a write"),
            }
        }
        if self.ar_valid && ports.flag(Port::Bar2Arready) {
            (self.ar_valid, self.asked) = (false, true);
        }
        if self.asked && ports.flag(Port::Bar2Rvalid) {
            let lane = self.question.take().map_or(0, |offset| offset as usize % ports.beat_bytes());
            let mut beat = [0; super::model::DATA_BYTES_MAX];
            ports.data(Port::Bar2Rdata, &mut beat);
            let word = beat[lane..lane + 4].try_into().expect("4 bytes of the beat");
            self.answer = self.wanted.then(|| u32::from_le_bytes(word));
            self.asked = false;
        }
    }

    fn check_wait(&mut self, channel: &'static str, waited: u32, errors: &mut Errors) {
        self.wait_max = self.wait_max.max(waited);
        if waited == self.wait_limit + 1 {
            errors.push(channel, format_args!("kept waiting for {waited} cycles"));
        }
    }

    #[inline]
    pub(crate) fn drive<B: CardBus>(&mut self, ports: &mut Ports, bus: &mut B, stalls: &Stalls) {
        if self.bursts.len() < BURSTS_MAX && self.unanswered < UNANSWERED_MAX {
            if let Some(first) = bus.window_writes().pop_front() {
                self.begin(first, bus.window_writes(), ports.beat_bytes());
            }
        }
        let next = self.bursts.get(self.addressed);
        if let Some(burst) = next.filter(|_| !self.aw_valid && stalls.allow(Channel::WindowAddress)) {
            ports.set_word(Port::Bar2Awaddr, burst.offset as u32);
            ports.set_byte(Port::Bar2Awlen, (burst.beats - 1) as u8);
            ports.set_byte(Port::Bar2Awsize, ports.beat_bytes().trailing_zeros() as u8);
            ports.set_byte(Port::Bar2Awburst, 1);
            self.aw_valid = true;
        }
        ports.set_flag(Port::Bar2Awvalid, self.aw_valid);
        let front = self.bursts.front().filter(|burst| burst.next_beat < burst.beats);
        if let Some(burst) = front.filter(|_| !self.w_valid && stalls.allow(Channel::WindowData)) {
            let bytes = ports.beat_bytes();
            let at = burst.next_beat * bytes;
            ports.set_data(Port::Bar2Wdata, &burst.data[at..at + bytes]);
            ports.set_strobe(Port::Bar2Wstrb, burst.strobes[burst.next_beat]);
            ports.set_flag(Port::Bar2Wlast, burst.next_beat + 1 == burst.beats);
            self.w_valid = true;
        }
        ports.set_flag(Port::Bar2Wvalid, self.w_valid);
        self.b_ready = stalls.allow(Channel::WindowResponse);
        ports.set_flag(Port::Bar2Bready, self.b_ready);
        ports.set_flag(Port::Bar2Rready, true);
        if let Some(offset) = self.question.filter(|_| !self.asked && !self.ar_valid) {
            ports.set_word(Port::Bar2Araddr, offset as u32);
            ports.set_byte(Port::Bar2Arlen, 0);
            ports.set_byte(Port::Bar2Arsize, ports.beat_bytes().trailing_zeros() as u8);
            ports.set_byte(Port::Bar2Arburst, 1);
            self.ar_valid = true;
        }
        ports.set_flag(Port::Bar2Arvalid, self.ar_valid);
    }

    /// Makes a burst of a write and, by chance, of those that follow it in address.
    fn begin(&mut self, first: WindowWrite, waiting: &mut VecDeque<WindowWrite>, beat_bytes: usize) {
        let lead = first.offset as usize % beat_bytes;
        let base = first.offset - lead as u64;
        let mut burst = WindowBurst {
            offset: first.offset,
            beats: 0,
            next_beat: 0,
            bytes: 0,
            data: [0; 2 * BURST_BYTES_MAX],
            strobes: [0; 8],
        };
        let add = |burst: &mut WindowBurst, write: &WindowWrite| {
            let at = lead + burst.bytes;
            burst.data[at..at + write.len].copy_from_slice(&write.bytes[..write.len]);
            for byte in at..at + write.len {
                burst.strobes[byte / beat_bytes] |= 1 << (byte % beat_bytes);
            }
            burst.bytes += write.len;
            burst.beats = (lead + burst.bytes).div_ceil(beat_bytes);
        };
        add(&mut burst, &first);
        let merges = self.merge_of_256 > 0 && (self.random.next_u32() as u8) < self.merge_of_256;
        while let Some(next) = waiting.front().filter(|_| merges) {
            let end = burst.offset + burst.bytes as u64;
            let fits = lead + burst.bytes + next.len <= BURST_BYTES_MAX;
            if next.offset != end || !fits || base / 4096 != (end + next.len as u64 - 1) / 4096 {
                break;
            }
            let Some(next) = waiting.pop_front() else { break };
            add(&mut burst, &next);
        }
        self.bursts.push_back(burst);
    }
}
