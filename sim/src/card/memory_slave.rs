//! The bus as the card's AXI4 master sees it: host memory, doorbells and the interrupt window.
//!
//! In order on each of the two halves, reads and writes independent of each other. A read is answered
//! `read_latency` cycles after its address was accepted, with what memory holds then; it pushes the
//! writes of the card that were complete when its address was accepted. A write takes effect when its
//! address and its last beat are in, and is answered `write_latency` cycles later. Either is answered later still
//! while the bus does not know how it ended. Unmapped host memory answers SLVERR, an address of nothing DECERR.

use std::collections::VecDeque;

use crate::bus::BURST_BYTES_MAX;
use crate::card_bus::{Access, CardBus};
use crate::host_memory::{Agent, IOVA_END};
use crate::probe::BusAction;

use super::checker::{Burst, Errors, Held, Payload};
use super::model::{Beat, Ports, DATA_BYTES_MAX};
use super::port_list::Port;
use super::stalls::{Channel, Stalls};

/// Reads accepted and not yet answered.
const READS_MAX: usize = 64;
/// Write addresses accepted in front of their data.
const ADDRESSES_MAX: usize = 16;
/// Write bursts accepted in front of their address.
const BURSTS_MAX: usize = 4;
/// Write responses not yet taken.
const RESPONSES_MAX: usize = 64;

const OKAY: u8 = 0;
const SLVERR: u8 = 2;
const DECERR: u8 = 3;

struct ReadAnswer {
    burst: Burst,
    data: [u8; BURST_BYTES_MAX],
    next_beat: usize,
    response: u8,
}

struct WriteData {
    data: [u8; BURST_BYTES_MAX],
    strobes: [u64; 8],
    beats: usize,
}

impl WriteData {
    fn new() -> Self {
        Self { data: [0; BURST_BYTES_MAX], strobes: [0; 8], beats: 0 }
    }
}

struct WriteResponse {
    /// Cycle from which on it may be given.
    at: u64,
    response: u8,
    /// Parts of the write whose end was left open.
    open: u8,
}

pub(crate) struct MemorySlave {
    read_latency: u64,
    write_latency: u64,
    reads: VecDeque<(Burst, u64)>,
    answer: Option<ReadAnswer>,
    addresses: VecDeque<Burst>,
    collecting: WriteData,
    bursts: VecDeque<WriteData>,
    responses: VecDeque<WriteResponse>,
    ar_ready: bool,
    r_valid: bool,
    aw_ready: bool,
    w_ready: bool,
    b_valid: bool,
    held_ar: Held,
    held_aw: Held,
    held_w: Held,
}

fn response_of(result: Access) -> u8 {
    match result {
        Ok(()) => OKAY,
        Err(refusal) if refusal.iova < IOVA_END => SLVERR,
        Err(_) => DECERR,
    }
}

impl WriteResponse {
    /// Adds how a part of the write ended.
    fn take(&mut self, end: Option<Access>) {
        match end {
            Some(result) => self.response = self.response.max(response_of(result)),
            None => self.open += 1,
        }
    }

    /// Whether it is known how all of it ended.
    #[inline]
    fn ends<B: CardBus>(&mut self, bus: &mut B) -> bool {
        while self.open > 0 {
            let Some(result) = bus.answer_write() else { return false };
            self.open -= 1;
            self.response = self.response.max(response_of(result));
        }
        true
    }
}

impl MemorySlave {
    pub(crate) fn new(read_latency: u32, write_latency: u32) -> Self {
        Self {
            read_latency: u64::from(read_latency),
            write_latency: u64::from(write_latency),
            reads: VecDeque::with_capacity(READS_MAX),
            answer: None,
            addresses: VecDeque::with_capacity(ADDRESSES_MAX),
            collecting: WriteData::new(),
            bursts: VecDeque::with_capacity(BURSTS_MAX),
            responses: VecDeque::with_capacity(RESPONSES_MAX),
            ar_ready: false,
            r_valid: false,
            aw_ready: false,
            w_ready: false,
            b_valid: false,
            held_ar: Held::default(),
            held_aw: Held::default(),
            held_w: Held::default(),
        }
    }

    /// Whether nothing is on the wires or waits.
    #[inline]
    pub(crate) fn is_idle(&self, ports: &Ports) -> bool {
        self.reads.is_empty()
            && self.answer.is_none()
            && self.addresses.is_empty()
            && self.bursts.is_empty()
            && self.collecting.beats == 0
            && self.responses.is_empty()
            && !ports.flag(Port::MArvalid)
            && !ports.flag(Port::MAwvalid)
            && !ports.flag(Port::MWvalid)
    }

    /// Takes what the card gives at this clock edge.
    #[inline]
    pub(crate) fn sample<B: CardBus>(&mut self, ports: &Ports, bus: &mut B, errors: &mut Errors) {
        if self.r_valid && ports.flag(Port::MRready) {
            self.r_valid = false;
            self.finish_beat(ports.beat_bytes(), bus);
        }
        if self.b_valid && ports.flag(Port::MBready) {
            self.b_valid = false;
            self.responses.pop_front();
        }
        self.sample_read_address(ports, bus, errors);
        self.sample_write_address(ports, errors);
        self.sample_write_data(ports, errors);
        while let (Some(_), Some(_)) = (self.addresses.front(), self.bursts.front()) {
            self.execute_write(ports.beat_bytes(), bus, errors);
        }
    }

    /// Sets the card's inputs for the next clock edge.
    #[inline]
    pub(crate) fn drive<B: CardBus>(&mut self, ports: &mut Ports, bus: &mut B, stalls: &Stalls, cycle: u64) {
        self.ar_ready = self.reads.len() < READS_MAX && stalls.allow(Channel::ReadAddress);
        ports.set_flag(Port::MArready, self.ar_ready);
        let room = self.addresses.len() < ADDRESSES_MAX && self.responses.len() < RESPONSES_MAX;
        self.aw_ready = room && stalls.allow(Channel::WriteAddress);
        ports.set_flag(Port::MAwready, self.aw_ready);
        self.w_ready = self.bursts.len() < BURSTS_MAX && stalls.allow(Channel::WriteData);
        ports.set_flag(Port::MWready, self.w_ready);
        if !self.r_valid {
            self.drive_read_data(ports, bus, stalls, cycle);
        }
        if !self.b_valid {
            if let Some(response) = self.responses.front_mut() {
                if response.at <= cycle && response.ends(bus) && stalls.allow(Channel::WriteResponse) {
                    ports.set_byte(Port::MBresp, response.response);
                    self.b_valid = true;
                }
            }
            ports.set_flag(Port::MBvalid, self.b_valid);
        }
    }

    fn sample_read_address<B: CardBus>(&mut self, ports: &Ports, bus: &mut B, errors: &mut Errors) {
        let valid = ports.flag(Port::MArvalid);
        let burst = || Burst {
            address: ports.quad(Port::MAraddr),
            len: ports.byte(Port::MArlen),
            size: ports.byte(Port::MArsize),
            kind: ports.byte(Port::MArburst),
        };
        self.held_ar.check(errors, "m_ar", valid, self.ar_ready, || burst().payload());
        if valid && self.ar_ready {
            let burst = burst();
            let beat_bytes = ports.beat_bytes();
            errors.check_burst("m_ar", burst, beat_bytes);
            bus.accept_read(burst.base(beat_bytes), burst.beats() * beat_bytes);
            self.reads.push_back((burst, errors.cycle + self.read_latency));
        }
    }

    fn sample_write_address(&mut self, ports: &Ports, errors: &mut Errors) {
        let valid = ports.flag(Port::MAwvalid);
        let burst = || Burst {
            address: ports.quad(Port::MAwaddr),
            len: ports.byte(Port::MAwlen),
            size: ports.byte(Port::MAwsize),
            kind: ports.byte(Port::MAwburst),
        };
        self.held_aw.check(errors, "m_aw", valid, self.aw_ready, || burst().payload());
        if valid && self.aw_ready {
            let burst = burst();
            errors.check_burst("m_aw", burst, ports.beat_bytes());
            self.addresses.push_back(burst);
        }
    }

    fn sample_write_data(&mut self, ports: &Ports, errors: &mut Errors) {
        let valid = ports.flag(Port::MWvalid);
        let payload = || {
            let mut beat: Beat = [0; DATA_BYTES_MAX];
            ports.data(Port::MWdata, &mut beat);
            let mut payload = Payload::default();
            for (word, bytes) in payload.iter_mut().zip(beat.chunks_exact(8)) {
                *word = u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
            }
            payload[8] = ports.strobe(Port::MWstrb);
            payload[9] = u64::from(ports.byte(Port::MWlast));
            payload
        };
        self.held_w.check(errors, "m_w", valid, self.w_ready, payload);
        if !valid || !self.w_ready {
            return;
        }
        let beat_bytes = ports.beat_bytes();
        let collecting = &mut self.collecting;
        let at = collecting.beats * beat_bytes;
        if at < BURST_BYTES_MAX {
            let mut beat: Beat = [0; DATA_BYTES_MAX];
            ports.data(Port::MWdata, &mut beat);
            collecting.data[at..at + beat_bytes].copy_from_slice(&beat[..beat_bytes]);
            collecting.strobes[collecting.beats] = ports.strobe(Port::MWstrb);
        }
        collecting.beats += 1;
        if ports.flag(Port::MWlast) {
            self.bursts.push_back(std::mem::replace(&mut self.collecting, WriteData::new()));
        } else if collecting.beats * beat_bytes == BURST_BYTES_MAX {
            errors.push("m_w", "the burst goes on after 128 bytes");
        }
    }

    fn execute_write<B: CardBus>(&mut self, beat_bytes: usize, bus: &mut B, errors: &mut Errors) {
        let (Some(burst), Some(written)) = (self.addresses.pop_front(), self.bursts.pop_front()) else {
            return;
        };
        let beats = burst.beats();
        let all = u64::MAX >> (64 - beat_bytes);
        let offset = burst.address as usize % beat_bytes;
        let base = burst.address - offset as u64;
        let mut response = WriteResponse { at: errors.cycle + self.write_latency, response: OKAY, open: 0 };
        if written.beats != beats {
            let what = format!("{} beats, the address says {beats} at {base:#x}", written.beats);
            errors.push("m_w", what);
            response.response = SLVERR;
        } else if beats * beat_bytes > BURST_BYTES_MAX {
            response.response = SLVERR;
        } else if written.strobes[..beats].iter().all(|&strobe| strobe == all) {
            response.take(bus.post_write(base, &written.data[..beats * beat_bytes]));
        } else if beats > 1 {
            errors.push("m_w", format_args!("partial strobes in a burst at {base:#x}"));
        } else {
            let strobe = written.strobes[0];
            if strobe & !(all << offset) != 0 {
                errors
                    .push("m_w", format_args!("strobes {strobe:#x} below the address {:#x}", burst.address));
            }
            for (start, end) in runs(strobe, beat_bytes) {
                response.take(bus.post_write(base + start as u64, &written.data[start..end]));
            }
        }
        self.responses.push_back(response);
    }

    fn finish_beat<B: CardBus>(&mut self, beat_bytes: usize, bus: &mut B) {
        if let Some(answer) = &mut self.answer {
            answer.next_beat += 1;
            if answer.next_beat == answer.burst.beats() {
                let bytes = answer.next_beat * beat_bytes;
                bus.note(Agent::Card, BusAction::ReadDone, answer.burst.address, bytes);
                self.answer = None;
            }
        }
    }

    fn drive_read_data<B: CardBus>(&mut self, ports: &mut Ports, bus: &mut B, stalls: &Stalls, cycle: u64) {
        let beat_bytes = ports.beat_bytes();
        if self.answer.is_none() {
            if let Some(&(burst, _)) = self.reads.front().filter(|(_, at)| *at <= cycle) {
                let mut data = [0; BURST_BYTES_MAX];
                let bytes = (burst.beats() * beat_bytes).min(BURST_BYTES_MAX);
                if let Some(result) = bus.answer_read(burst.base(beat_bytes), &mut data[..bytes]) {
                    self.reads.pop_front();
                    let response = response_of(result);
                    self.answer = Some(ReadAnswer { burst, data, next_beat: 0, response });
                }
            }
        }
        if let Some(answer) = self.answer.as_ref().filter(|_| stalls.allow(Channel::ReadData)) {
            let at = (answer.next_beat * beat_bytes).min(BURST_BYTES_MAX - beat_bytes);
            ports.set_data(Port::MRdata, &answer.data[at..at + beat_bytes]);
            ports.set_byte(Port::MRresp, answer.response);
            ports.set_flag(Port::MRlast, answer.next_beat + 1 == answer.burst.beats());
            self.r_valid = true;
        }
        ports.set_flag(Port::MRvalid, self.r_valid);
    }
}

/// Runs of set bits among the first `bits` of `mask`, as (first, end).
fn runs(mask: u64, bits: usize) -> impl Iterator<Item = (usize, usize)> {
    let set = move |bit: usize| bit < bits && mask >> bit & 1 == 1;
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = (at..bits).find(|&bit| set(bit))?;
        at = (start..=bits).find(|&bit| !set(bit)).unwrap_or(bits);
        Some((start, at))
    })
}

#[cfg(test)]
#[path = "memory_slave_tests.rs"]
mod tests;
