//! The card as a client's device, in a thread of its own: it is clocked while it works and sleeps while it is idle.
//!
//! It sleeps, too, while it waits for replies of the client and has moved nothing for `STILL_CYCLES`: on a machine with
//! few cores the client would have no time to reply.
//!
//! One thread owns all of it, so that a request meets a card between two cycles. A register access takes cycles: the
//! requests behind it wait until it is answered, replies to DMA do not. No answer waits for the client, but for room
//! in its socket, which has a deadline.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use volplane_abi::registers;
use volplane_driver::Bar;
use zerocopy::IntoBytes;

use super::address_space::INTERRUPT_PAGE;
use super::client_bus::ClientBus;
use super::config_space::ConfigSpace;
use super::inbox::{Inbox, Incoming};
use super::pace::{Pace, Rest};
use super::stream::Sender;
use super::wire::{self, Header, RegionAccess};
use super::ServerError;
use crate::card::{Card, TICK_SETTLE_CYCLES};
use crate::config::CardConfig;

/// Register writes that may wait in front of the card.
const POSTED_MAX: usize = 256;
/// Writes to BAR2 that may wait in front of the card.
const WINDOW_WRITES_MAX: usize = 64;
/// Cycles in which a register access is answered: the card takes some 20.
const ACCESS_CYCLES_MAX: u64 = 100_000;
/// How often, in cycles, it is looked for replies that are overdue.
const CHECK_CYCLES: u64 = 1 << 14;
/// Cycles without anything moved after which a card that waits for replies sleeps,
const STILL_CYCLES: u32 = 64;
/// for so long at most, as it may have something of its own to do.
const STILL_SLEEP: Duration = Duration::from_millis(1);
/// Longest sleep.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Seed of the card's models, which nothing depends on: no channel stalls.
const SEED: u64 = 1;

/// What a register access does.
pub(super) enum AccessKind {
    /// Reads; what was read so far, and whether the next word was asked for.
    Read { found: Vec<u8>, asked: bool },
    /// Writes; what is still to be written.
    Write { data: Vec<u8>, done: usize },
}

/// A register access under way.
pub(super) struct RegisterAccess {
    pub(super) header: Header,
    pub(super) request: RegionAccess,
    pub(super) bar: Bar,
    pub(super) kind: AccessKind,
    pub(super) since: u64,
}

pub(super) struct Device {
    card: Card,
    pub(super) bus: ClientBus,
    pub(super) space: ConfigSpace,
    pace: Pace,
    start: Instant,
    pub(super) cycles: u64,
    /// Cycles in a row in which nothing moved.
    still: u32,
    client: Option<Sender>,
    /// The client's version was agreed on.
    pub(super) negotiated: bool,
    pub(super) access: Option<RegisterAccess>,
}

impl Device {
    /// A card as at power-up.
    pub(super) fn new(config: &CardConfig) -> Result<Self, ServerError> {
        let mut device = Self {
            card: Card::new(config, SEED)?,
            bus: ClientBus::new(0),
            space: ConfigSpace::new(0),
            pace: Pace::default(),
            start: Instant::now(),
            cycles: 0,
            still: 0,
            client: None,
            negotiated: false,
            access: None,
        };
        device.card.reset();
        let vectors = device.read_vectors()?;
        (device.bus, device.space) = (ClientBus::new(vectors), ConfigSpace::new(vectors));
        Ok(device)
    }

    /// How many interrupt vectors the card has.
    fn read_vectors(&mut self) -> Result<u16, ServerError> {
        self.card.ask(Bar::Bar0, registers::CAP_VECTORS.into());
        for _ in 0..ACCESS_CYCLES_MAX {
            self.clock(false);
            if let Some(vectors) = self.card.has_answer().then(|| self.card.take_answer()).flatten() {
                let known = u16::try_from(vectors).ok();
                let known = known.filter(|&vectors| u32::from(vectors) <= registers::MSIX_VECTORS_MAX);
                return known.ok_or(ServerError::Vectors(vectors));
            }
        }
        Err(ServerError::Silent)
    }

    /// Runs until it is to stop.
    pub(super) fn run(mut self, inbox: &Inbox) -> Result<(), ServerError> {
        loop {
            if inbox.has_news() && self.take_news(inbox) {
                return Ok(());
            }
            self.step_access();
            if self.bus.is_lost() {
                self.disconnect();
            }
            if self.access.is_some() || !self.card.is_quiet() || self.bus.windows_waiting() > 0 {
                self.work();
                self.wait_for_replies(inbox);
            } else {
                self.rest(inbox);
            }
            if let Some(error) = self.card.protocol_errors().first() {
                return Err(ServerError::Protocol(error.clone()));
            }
        }
    }

    /// Takes what has come; true: to stop.
    fn take_news(&mut self, inbox: &Inbox) -> bool {
        while let Some(reply) = inbox.take_reply() {
            self.bus.take_reply(&reply);
        }
        // One a cycle, so that no client holds its card up.
        if self.access.is_some() {
            return false;
        }
        match inbox.take_request() {
            None => {}
            Some(Incoming::Stop) => return true,
            Some(Incoming::Connected(client)) => {
                self.bus.connect(client.clone());
                self.client = Some(client);
            }
            Some(Incoming::Request(message)) => self.request(message),
            Some(Incoming::BadHeader(header)) => self.answer_error(header, Errno::INVAL),
            Some(Incoming::Gone) => {
                // What it sent before is no reply to anything that its successor is asked.
                while inbox.take_reply().is_some() {}
                self.disconnect();
            }
        }
        false
    }

    fn disconnect(&mut self) {
        (self.client, self.negotiated) = (None, false);
        self.bus.disconnect();
        self.reset();
    }

    /// Closes the connection, and says why.
    pub(super) fn give_up(&mut self, why: String) {
        if let Some(client) = &self.client {
            client.give_up(why);
        }
        self.disconnect();
    }

    /// Resets the function: the card, its configuration space, and what is on its way. Eventfds and windows are the
    /// client's, and stay.
    pub(super) fn reset(&mut self) {
        self.cycles += self.card.reset();
        self.access = None;
        self.bus.reset();
        self.space.reset();
        self.bus.master = self.space.is_master();
        (0..self.bus.interrupts.len()).for_each(|vector| self.program_vector(vector));
    }

    /// Writes a vector's entry of the card's table, as `interrupts` says.
    pub(super) fn program_vector(&mut self, vector: usize) {
        let entry = registers::MSIX_TABLE + 16 * vector as u32;
        if self.bus.interrupts.is_set(vector) {
            self.card.post(entry, INTERRUPT_PAGE as u32);
            self.card.post(entry + 4, (INTERRUPT_PAGE >> 32) as u32);
            self.card.post(entry + 8, vector as u32);
            self.card.post(entry + 12, 0);
        } else {
            self.card.post(entry + 12, 1);
        }
    }

    /// Takes the register access under way as far as it goes in this cycle.
    fn step_access(&mut self) {
        let Some(mut access) = self.access.take() else { return };
        let offset = access.request.offset;
        let ended = match &mut access.kind {
            AccessKind::Read { found, asked } => {
                if let Some(word) = self.card.has_answer().then(|| self.card.take_answer()).flatten() {
                    found.extend_from_slice(&word.to_le_bytes());
                    *asked = false;
                }
                let ended = found.len() >= access.request.count as usize;
                if !ended && !*asked {
                    self.card.ask(access.bar, offset + found.len() as u64);
                    *asked = true;
                }
                ended
            }
            AccessKind::Write { data, done } => match access.bar {
                Bar::Bar0 => {
                    for word in data[*done..].chunks_exact(4) {
                        if self.card.posted() >= POSTED_MAX {
                            break;
                        }
                        let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                        self.card.post((offset + *done as u64) as u32, value);
                        *done += 4;
                    }
                    *done >= data.len()
                }
                Bar::Bar2 => {
                    let room = self.bus.windows_waiting() < WINDOW_WRITES_MAX;
                    if room {
                        self.bus.write_window(offset, data);
                    }
                    room
                }
            },
        };
        if ended {
            let data = match &access.kind {
                AccessKind::Read { found, .. } => found,
                AccessKind::Write { .. } => &vec![],
            };
            self.answer(access.header, &[access.request.as_bytes(), data]);
        } else if self.cycles - access.since > ACCESS_CYCLES_MAX {
            self.card.take_answer();
            self.answer_error(access.header, Errno::IO);
        } else {
            self.access = Some(access);
        }
    }

    /// Answers a request.
    pub(super) fn answer(&mut self, request: Header, parts: &[&[u8]]) {
        self.send(Header { flags: wire::TYPE_REPLY, error: 0, ..request }, request.flags, parts);
    }

    /// Refuses a request.
    pub(super) fn answer_error(&mut self, request: Header, error: Errno) {
        let error = error.raw_os_error() as u32;
        self.send(Header { flags: wire::TYPE_REPLY | wire::ERROR, error, ..request }, request.flags, &[]);
    }

    /// Sends a reply, if the request of these flags wants one.
    fn send(&mut self, reply: Header, request_flags: u32, parts: &[&[u8]]) {
        let Some(client) = self.client.as_ref().filter(|_| request_flags & wire::NO_REPLY == 0) else {
            return;
        };
        if !client.send(reply, parts) {
            self.disconnect();
        }
    }

    fn wall_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A cycle in which the card works.
    fn work(&mut self) {
        let pulse = self.pace.work(self.wall_ns(), self.card.is_on_wires());
        self.clock(pulse);
        if self.cycles.is_multiple_of(CHECK_CYCLES) {
            self.bus.check_replies();
        }
    }

    /// Sleeps if only replies can move the card.
    fn wait_for_replies(&mut self, inbox: &Inbox) {
        let moved = self.bus.take_moved() || self.access.is_some() || self.bus.windows_waiting() > 0;
        self.still = if moved || !self.bus.waits_for_replies() { 0 } else { self.still + 1 };
        if self.still >= STILL_CYCLES {
            inbox.wait(STILL_SLEEP);
            self.still = 0;
        }
    }

    /// What a card does that only time can change.
    fn rest(&mut self, inbox: &Inbox) {
        match self.pace.rest(self.wall_ns(), self.card.is_timing()) {
            Rest::Clock { pulse } => {
                self.clock(pulse);
                for _ in 0..TICK_SETTLE_CYCLES {
                    if self.card.is_quiet() {
                        self.clock(false);
                    }
                }
            }
            Rest::Sleep(ns) => inbox.wait(Duration::from_nanos(ns).min(SLEEP_MAX)),
            Rest::Wait => inbox.wait(SLEEP_MAX),
        }
    }

    fn clock(&mut self, pulse: bool) {
        self.bus.now_ns = self.pace.now_ns();
        self.card.cycle(&mut self.bus, pulse, self.pace.ticks());
        self.cycles += 1;
    }
}
