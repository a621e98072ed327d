//! One client: its socket, what was read and not yet understood, what is to be sent.
//!
//! `step` takes the next thing from the input and says what it is; the server acts on it and calls
//! again. Nothing here waits: a step that lacks input or room says so.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Instant;

use super::export::Export;
use super::handshake::{greeting, Handshake, Session, Step};
use super::listen::Stream;
use super::pool::{footprint, parts, Buffer};
use super::protocol::{
    chunk, error_chunk, final_chunk, simple_reply, Fields, Request, BASE_ALLOCATION_ID, OPTION_HEADER_BYTES,
    OPTION_MAGIC, REQUEST_BYTES,
};
use super::transmission::{Refusal, Work};

/// Bytes of the input buffer.
const INPUT_BYTES: usize = 128 << 10;
/// Longest option taken in; a longer one is skipped and refused.
const OPTION_BYTES_MAX: usize = 64 << 10;
/// Unsent replies to options beyond which no further option is read.
const HANDSHAKE_OUTPUT_MAX: usize = 64 << 10;

/// The connection cannot go on: the client broke the protocol, or the socket failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

impl From<io::Error> for Lost {
    fn from(_: io::Error) -> Self {
        Lost
    }
}

/// A write whose payload is arriving.
pub struct Payload {
    request: Request,
    work: Work,
    buffers: Vec<Buffer>,
    received: usize,
}

/// What the next bytes of the input are.
pub enum Phase {
    ClientFlags,
    OptionHeader,
    OptionData {
        option: u32,
        len: usize,
    },
    OptionSkip {
        option: u32,
        left: usize,
    },
    Request,
    /// A request that waits for memory.
    Admission {
        request: Request,
        work: Work,
    },
    Payload(Payload),
    /// The payload of a write that is refused.
    Skip {
        request: Request,
        left: usize,
        refusal: Refusal,
    },
    /// Nothing more is read.
    Finished,
}

/// What a step came upon.
pub enum Event {
    /// More input is needed.
    Starved,
    /// Replies must leave first.
    Blocked,
    /// A request's header.
    Request(Request),
    /// A request that needs memory.
    Admission { request: Request, work: Work },
    /// A write, whole.
    Write { request: Request, work: Work, buffers: Vec<Buffer> },
    /// A refused write, its payload skipped.
    Refused { request: Request, refusal: Refusal },
}

enum Content {
    Bytes(Vec<u8>),
    Data(Buffer, usize),
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Content::Bytes(bytes) => bytes.len(),
            Content::Data(_, len) => *len,
        }
    }

    fn copy(&self, from: usize, into: &mut [u8]) {
        match self {
            Content::Bytes(bytes) => into.copy_from_slice(&bytes[from..from + into.len()]),
            Content::Data(buffer, _) => buffer.memory().read(from, into),
        }
    }
}

struct Part {
    content: Content,
    /// The last part of a request's reply.
    ends_request: bool,
}

/// A connection.
pub struct Connection {
    stream: Stream,
    /// Never used twice, so that what outlives a connection does not find another in its place.
    pub id: u64,
    pub phase: Phase,
    handshake: Handshake,
    session: Option<Session>,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    ended: bool,
    output: VecDeque<Part>,
    output_bytes: usize,
    /// Bytes of the first part that are sent.
    sent: usize,
    pub readable: bool,
    pub writable: bool,
    /// Requests whose replies have not left.
    pub requests: usize,
    /// Requests with the service.
    pub executing: usize,
    /// Bytes of DMA memory in use for it.
    pub held: usize,
    pub born: Instant,
    /// When the socket last moved bytes.
    pub progress: Instant,
    /// It stands in the queue of connections to serve.
    pub runnable: bool,
    /// It stands in the queue for memory.
    pub waiting: bool,
}

impl Connection {
    pub fn new(stream: Stream, id: u64, now: Instant) -> Self {
        let mut connection = Connection {
            stream,
            id,
            phase: Phase::ClientFlags,
            handshake: Handshake::default(),
            session: None,
            input: vec![0; INPUT_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            ended: false,
            output: VecDeque::new(),
            output_bytes: 0,
            sent: 0,
            readable: true,
            writable: true,
            requests: 0,
            executing: 0,
            held: 0,
            born: now,
            progress: now,
            runnable: false,
            waiting: false,
        };
        connection.put(Content::Bytes(greeting()), false);
        connection
    }

    /// What was negotiated; `None` during the handshake.
    pub fn session(&self) -> Option<Session> {
        self.session
    }

    /// Whether everything that will ever be sent is sent.
    pub fn is_done(&self, draining: bool) -> bool {
        let no_more_input = matches!(self.phase, Phase::Finished) || draining;
        no_more_input && self.executing == 0 && self.output.is_empty()
    }

    /// Reads what fits; false when there is nothing to read now.
    pub fn fill(&mut self, now: Instant) -> Result<bool, Lost> {
        if !self.readable || self.ended {
            return Ok(false);
        }
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        match self.stream.read(&mut self.input[self.end..]) {
            Ok(0) => self.ended = true,
            Ok(count) => self.end += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                return Ok(false);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        self.progress = now;
        Ok(true)
    }

    /// Takes the next thing from the input.
    pub fn step(&mut self, exports: &[Export], draining: bool, requests_max: usize) -> Result<Event, Lost> {
        loop {
            let available = self.end - self.start;
            match &mut self.phase {
                Phase::Finished => return Ok(Event::Starved),
                Phase::OptionHeader if self.output_bytes > HANDSHAKE_OUTPUT_MAX => return Ok(Event::Blocked),
                Phase::ClientFlags | Phase::OptionHeader | Phase::OptionData { .. } => {
                    if !self.step_handshake(exports, draining)? {
                        return Ok(self.starved());
                    }
                }
                Phase::OptionSkip { left: 0, option } => {
                    let option = *option;
                    let mut out = Vec::new();
                    let step = self.handshake.oversized(option, &mut out);
                    self.after_option(step, out);
                }
                Phase::Request if self.requests >= requests_max => return Ok(Event::Blocked),
                Phase::Request => {
                    let Some(header) = self.take::<REQUEST_BYTES>() else {
                        return Ok(self.starved());
                    };
                    return Request::parse(&header).map(Event::Request).ok_or(Lost);
                }
                Phase::Admission { request, work } => {
                    return Ok(Event::Admission { request: *request, work: *work });
                }
                Phase::Skip { left: 0, .. } => {
                    if let Phase::Skip { request, refusal, .. } =
                        std::mem::replace(&mut self.phase, Phase::Request)
                    {
                        return Ok(Event::Refused { request, refusal });
                    }
                }
                Phase::OptionSkip { left, .. } | Phase::Skip { left, .. } => {
                    if available == 0 {
                        return Ok(self.starved());
                    }
                    let count = available.min(*left);
                    *left -= count;
                    self.start += count;
                }
                Phase::Payload(payload) => {
                    self.start += payload.receive(&self.input[self.start..self.end]);
                    if payload.received < payload.request.length as usize {
                        return Ok(self.starved());
                    }
                    if let Phase::Payload(payload) = std::mem::replace(&mut self.phase, Phase::Request) {
                        let Payload { request, work, buffers, .. } = payload;
                        return Ok(Event::Write { request, work, buffers });
                    }
                }
            }
        }
    }

    fn starved(&mut self) -> Event {
        if self.ended {
            // What is cut off in the middle was never asked for; its buffers return here.
            self.phase = Phase::Finished;
        }
        Event::Starved
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.input[self.start..self.end].first_chunk::<N>()?;
        self.start += N;
        Some(bytes)
    }

    /// One move of the handshake; false when input is missing.
    fn step_handshake(&mut self, exports: &[Export], draining: bool) -> Result<bool, Lost> {
        match self.phase {
            Phase::ClientFlags => {
                let Some(flags) = self.take::<4>() else {
                    return Ok(false);
                };
                if !self.handshake.client_flags(u32::from_be_bytes(flags)) {
                    return Err(Lost);
                }
                self.phase = Phase::OptionHeader;
            }
            Phase::OptionData { option, len } => {
                if self.end - self.start < len {
                    return Ok(false);
                }
                let data = &self.input[self.start..self.start + len];
                let mut out = Vec::new();
                let step = self.handshake.option(exports, draining, option, data, &mut out);
                self.start += len;
                self.after_option(step, out);
            }
            _ => {
                let Some(header) = self.take::<OPTION_HEADER_BYTES>() else {
                    return Ok(false);
                };
                let mut fields = Fields(&header);
                if fields.u64() != Some(OPTION_MAGIC) {
                    return Err(Lost);
                }
                let (option, len) = (fields.u32().ok_or(Lost)?, fields.u32().ok_or(Lost)? as usize);
                self.phase = if len > OPTION_BYTES_MAX {
                    Phase::OptionSkip { option, left: len }
                } else {
                    Phase::OptionData { option, len }
                };
            }
        }
        Ok(true)
    }

    fn after_option(&mut self, step: Step, out: Vec<u8>) {
        self.put(Content::Bytes(out), false);
        self.phase = match step {
            Step::Option => Phase::OptionHeader,
            Step::Close => Phase::Finished,
            Step::Transmission(session) => {
                self.session = Some(session);
                Phase::Request
            }
        };
    }

    /// Makes the payload that follows go to these buffers.
    pub fn receive_into(&mut self, request: Request, work: Work, buffers: Vec<Buffer>) {
        self.phase = Phase::Payload(Payload { request, work, buffers, received: 0 });
    }

    /// Answers with an error, after the payload that follows, if one does.
    pub fn refuse(&mut self, request: Request, refusal: Refusal) {
        if request.has_payload() {
            self.phase = Phase::Skip { request, left: request.length as usize, refusal };
        } else {
            self.phase = Phase::Request;
            self.reply_error(&request, &refusal);
        }
    }

    fn structured(&self) -> bool {
        self.session.is_some_and(|session| session.structured)
    }

    /// Sends an error.
    pub fn reply_error(&mut self, request: &Request, refusal: &Refusal) {
        let bytes = if self.structured() {
            error_chunk(request.cookie, refusal.errno, &refusal.message)
        } else {
            simple_reply(request.cookie, refusal.errno as u32)
        };
        self.put(Content::Bytes(bytes), true);
    }

    /// Sends success without data.
    pub fn reply_done(&mut self, request: &Request) {
        let bytes = if self.structured() {
            final_chunk(request.cookie, chunk::NONE, &[], 0)
        } else {
            simple_reply(request.cookie, 0)
        };
        self.put(Content::Bytes(bytes), true);
    }

    /// Sends what was read. A reply is one chunk, so that the DF flag needs no care.
    pub fn reply_data(&mut self, request: &Request, buffers: Vec<Buffer>) {
        let head = if self.structured() {
            final_chunk(request.cookie, chunk::OFFSET_DATA, &request.offset.to_be_bytes(), request.length)
        } else {
            simple_reply(request.cookie, 0)
        };
        self.put(Content::Bytes(head), false);
        for (buffer, len) in buffers.into_iter().zip(parts(request.length as usize)) {
            self.put(Content::Data(buffer, len), false);
        }
        if let Some(part) = self.output.back_mut() {
            part.ends_request = true;
        }
    }

    /// Sends one extent as long as the request: allocated, contents not known.
    pub fn reply_allocated(&mut self, request: &Request) {
        let mut payload = Vec::with_capacity(12);
        for word in [BASE_ALLOCATION_ID, request.length, 0] {
            payload.extend_from_slice(&word.to_be_bytes());
        }
        self.put(Content::Bytes(final_chunk(request.cookie, chunk::BLOCK_STATUS, &payload, 0)), true);
    }

    fn put(&mut self, content: Content, ends_request: bool) {
        if content.len() > 0 {
            self.output_bytes += content.len();
            self.output.push_back(Part { content, ends_request });
        }
    }

    /// Sends what the socket takes, gathered in `scratch`; true when bytes left.
    pub fn flush(&mut self, scratch: &mut [u8], now: Instant) -> Result<bool, Lost> {
        let mut moved = false;
        while self.writable && !self.output.is_empty() {
            let gathered = self.gather(scratch);
            match self.stream.write(&scratch[..gathered]) {
                Ok(0) => return Err(Lost),
                Ok(count) => {
                    self.retire(count);
                    self.progress = now;
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(moved)
    }

    fn gather(&self, scratch: &mut [u8]) -> usize {
        let (mut filled, mut skip) = (0, self.sent);
        for part in &self.output {
            let count = (part.content.len() - skip).min(scratch.len() - filled);
            part.content.copy(skip, &mut scratch[filled..filled + count]);
            filled += count;
            skip = 0;
            if filled == scratch.len() {
                break;
            }
        }
        filled
    }

    fn retire(&mut self, count: usize) {
        self.output_bytes -= count;
        self.sent += count;
        while let Some(part) = self.output.front() {
            let len = part.content.len();
            if self.sent < len {
                break;
            }
            self.sent -= len;
            if let Content::Data(_, len) = part.content {
                self.held -= footprint(len);
            }
            self.requests -= usize::from(part.ends_request);
            self.output.pop_front();
        }
    }
}

impl Payload {
    /// Takes what belongs to it; returns how much.
    fn receive(&mut self, bytes: &[u8]) -> usize {
        let take = bytes.len().min(self.request.length as usize - self.received);
        let mut rest = &bytes[..take];
        while !rest.is_empty() {
            let (index, offset) =
                (self.received / super::pool::SLAB_BYTES, self.received % super::pool::SLAB_BYTES);
            let count = rest.len().min(super::pool::SLAB_BYTES - offset);
            self.buffers[index].memory().write(offset, &rest[..count]);
            self.received += count;
            rest = &rest[count..];
        }
        take
    }
}
