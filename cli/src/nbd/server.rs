//! The event loop: sockets, requests, and the service's time, all on one thread.
//!
//! While the service has work, slices of its time alternate with looks at the sockets; when it has
//! none, the loop sleeps in the kernel and no time of the service passes.

mod admission;
mod drain;

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use volplane::{BlockService, Event as ServiceEvent, ServiceError};

use super::connection::{Connection, Event, Lost, Phase};
use super::execution::{Execution, Finished, Origin};
use super::export::Export;
use super::listen::{Endpoint, ListenError, Listener};
use super::pool::{footprint, Pool};

/// Time of the service that passes between two looks for completions.
const SERVICE_SLICE: Duration = Duration::from_micros(1);
/// Longest time without a look at the sockets while the service has work: a look costs about a
/// hundredth of this.
const SOCKET_INTERVAL: Duration = Duration::from_micros(100);
/// Reads from one connection's socket before the others have their turn.
const TURN_READS: usize = 16;
/// Bytes gathered for one write to a socket.
const SCRATCH_BYTES: usize = 256 << 10;
/// How often deadlines are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
const STOP: Token = Token(0);
const FIRST_LISTENER: usize = 1;

/// Bounds of what clients can make the server hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections; one more is accepted and closed.
    pub connections: usize,
    /// Requests of a connection whose replies have not left; then it is not read.
    pub requests: usize,
    /// Bytes of data of a connection's requests; then it is not read. One request is always let in.
    pub connection_bytes: usize,
    /// Bytes of DMA memory in all; requests wait for it in order of arrival.
    pub memory_bytes: usize,
    /// Time for a handshake.
    pub handshake: Duration,
    /// While others wait for memory, a client that holds some and neither sends nor reads for this
    /// long is disconnected.
    pub stall: Duration,
    /// Time for requests under way when the server stops, and again for the last flush.
    pub drain: Duration,
    /// The server stops by itself after this long.
    pub run_for: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 256,
            requests: 128,
            connection_bytes: 64 << 20,
            memory_bytes: 256 << 20,
            handshake: Duration::from_secs(10),
            stall: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            run_for: None,
        }
    }
}

/// What a server did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Connections accepted.
    pub connections: u64,
    /// Connections ended by the server: broken protocol, failed socket, deadline.
    pub dropped: u64,
    /// Requests received.
    pub requests: u64,
    /// Requests answered with an error.
    pub errors: u64,
}

/// Why a server ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It could not listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The service failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The operating system failed.
    #[error("{what}: {source}")]
    System {
        /// What was done.
        what: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// Requests did not end in time when the server stopped.
    #[error("{operations} operations did not end within {waited:?}")]
    DrainTimeout {
        /// Operations that remain.
        operations: usize,
        /// How long was waited.
        waited: Duration,
    },
    /// The last flush failed: what clients wrote may not be on stable media.
    #[error("last flush of \"{export}\" failed: {reason}")]
    LastFlush {
        /// Export.
        export: String,
        /// Why.
        reason: String,
    },
}

fn system(what: &'static str) -> impl Fn(io::Error) -> ServeError {
    move |source| ServeError::System { what, source }
}

#[derive(PartialEq)]
enum Halt {
    Starved,
    Blocked,
}

/// The server.
pub struct Server<S> {
    poll: Poll,
    limits: Limits,
    exports: Vec<Export>,
    listeners: Vec<Listener>,
    first_connection: usize,
    connections: Vec<Option<Connection>>,
    next_id: u64,
    /// Connections to serve, each once.
    runnable: VecDeque<usize>,
    /// Connections that wait for memory, in order.
    waiting: VecDeque<Origin>,
    waiting_since: Instant,
    accept_again: bool,
    execution: Execution<S>,
    pool: Pool,
    scratch: Box<[u8]>,
    now: Instant,
    next_sweep: Instant,
    /// Deadline of the drain, when the server stops.
    draining: Option<Instant>,
    report: Report,
    listener: Box<dyn FnMut(&ServiceEvent) + Send>,
}

impl<S: BlockService> Server<S> {
    /// A server of all virtual disks of a service.
    pub fn new(service: S, limits: Limits) -> Result<Self, ServeError> {
        let now = Instant::now();
        let exports = service.virtual_disks().iter().map(|disk| Export { disk: disk.clone() }).collect();
        Ok(Server {
            poll: Poll::new().map_err(system("epoll"))?,
            pool: Pool::new(limits.memory_bytes),
            limits,
            exports,
            listeners: Vec::new(),
            first_connection: FIRST_LISTENER,
            connections: Vec::new(),
            next_id: 0,
            runnable: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_since: now,
            accept_again: false,
            execution: Execution::new(service),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            now,
            next_sweep: now,
            draining: None,
            report: Report::default(),
            listener: Box::new(|_| ()),
        })
    }

    /// Listens at `endpoint` too; returns where in fact, with the port that was found.
    pub fn listen(&mut self, endpoint: &Endpoint) -> Result<Endpoint, ServeError> {
        let mut listener = Listener::open(endpoint)?;
        let token = Token(FIRST_LISTENER + self.listeners.len());
        self.poll
            .registry()
            .register(listener.source(), token, Interest::READABLE)
            .map_err(system("register a listener"))?;
        let found = listener.endpoint().map_err(system("socket name"))?;
        self.listeners.push(listener);
        self.first_connection = FIRST_LISTENER + self.listeners.len();
        Ok(found)
    }

    /// Hands what happens in the service to `listener`, from its thread and at most every tenth of a second.
    pub fn on_event(&mut self, listener: impl FnMut(&ServiceEvent) + Send + 'static) {
        self.listener = Box::new(listener);
    }

    /// The exports, in order.
    pub fn exports(&self) -> &[Export] {
        &self.exports
    }

    /// Serves until `stop` becomes readable or is closed, then refuses new requests, ends those
    /// under way, and flushes every disk. A server runs once.
    pub fn run(&mut self, stop: UnixStream) -> Result<Report, ServeError> {
        let mut events = Events::with_capacity(1024);
        stop.set_nonblocking(true).map_err(system("stop stream"))?;
        let mut stop = mio::net::UnixStream::from_std(stop);
        self.poll
            .registry()
            .register(&mut stop, STOP, Interest::READABLE)
            .map_err(system("register stop"))?;
        let end = self.limits.run_for.map(|time| Instant::now() + time);
        loop {
            self.drive_service()?;
            self.wake_for_memory();
            let timeout = self.timeout(end);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(system("epoll")(error))
                }
                _ => self.now = Instant::now(),
            }
            for event in &events {
                match event.token() {
                    STOP => self.drain(),
                    Token(token) if token < self.first_connection => self.accept(token - FIRST_LISTENER),
                    Token(token) => self.note_ready(token - self.first_connection, event),
                }
            }
            if end.is_some_and(|end| self.now >= end) {
                self.drain();
            }
            for _ in 0..self.runnable.len() {
                if let Some(index) = self.runnable.pop_front() {
                    self.serve(index);
                }
            }
            if self.now >= self.next_sweep {
                self.tell();
                self.sweep();
            } else if !self.execution.is_busy() {
                // It may sleep until the next request.
                self.tell();
            }
            if let Some(deadline) = self.draining {
                let connected = self.connections.iter().any(Option::is_some);
                if (!connected && self.execution.is_empty()) || self.now >= deadline {
                    break;
                }
            }
        }
        self.connections.clear();
        let flushed = self.flush_all();
        self.tell();
        flushed?;
        Ok(self.report.clone())
    }

    fn tell(&mut self) {
        self.execution.service.take_events().iter().for_each(&mut self.listener);
    }

    /// The service, to be ended after `run`.
    pub fn into_service(self) -> S {
        self.execution.service
    }

    fn timeout(&self, end: Option<Instant>) -> Option<Duration> {
        if self.execution.is_busy() || !self.runnable.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let handshaking = || self.connections.iter().flatten().any(|c| c.session().is_none());
        let sweep = self.draining.is_some() || self.accept_again || !self.waiting.is_empty() || handshaking();
        let end = end.map(|end| end.saturating_duration_since(now));
        [sweep.then_some(SWEEP_INTERVAL), end].into_iter().flatten().min()
    }

    /// Gives the service its time until completions came or the sockets are due.
    fn drive_service(&mut self) -> Result<(), ServiceError> {
        let sockets_wait = !self.runnable.is_empty();
        let begin = Instant::now();
        self.execution.submit();
        while self.execution.is_busy() {
            if self.execution.collect()? {
                break;
            }
            if sockets_wait || begin.elapsed() >= SOCKET_INTERVAL {
                break;
            }
            self.execution.wait(SERVICE_SLICE)?;
        }
        self.execution.submit();
        for finished in self.execution.take_finished() {
            self.reply(finished);
        }
        Ok(())
    }

    fn reply(&mut self, finished: Finished) {
        let Finished { origin, request, buffers, result } = finished;
        self.report.errors += u64::from(result.is_err());
        let Some(connection) = self.connections.get_mut(origin.index).and_then(Option::as_mut) else {
            return;
        };
        if connection.id != origin.id {
            return;
        }
        connection.executing -= 1;
        let used = if buffers.is_empty() { 0 } else { footprint(request.length as usize) };
        match result {
            Ok(()) if !request.has_payload() && used > 0 => connection.reply_data(&request, buffers),
            Ok(()) => {
                connection.held -= used;
                connection.reply_done(&request);
            }
            Err(refusal) => {
                connection.held -= used;
                connection.reply_error(&request, &refusal);
            }
        }
        self.wake(origin.index);
    }

    fn wake(&mut self, index: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(index) {
            if !connection.runnable {
                connection.runnable = true;
                self.runnable.push_back(index);
            }
        }
    }

    fn note_ready(&mut self, index: usize, event: &mio::event::Event) {
        if let Some(Some(connection)) = self.connections.get_mut(index) {
            connection.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            connection.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        }
        self.wake(index);
    }

    fn accept(&mut self, listener: usize) {
        while let Some(socket) = self.listeners.get(listener) {
            let mut stream = match socket.accept() {
                Ok(stream) => stream,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    _ => {
                        // Out of descriptors, most likely: the next sweep tries again.
                        self.accept_again = true;
                        return;
                    }
                },
            };
            self.report.connections += 1;
            let free = self.connections.iter().position(Option::is_none);
            let index = free.unwrap_or(self.connections.len());
            let token = Token(self.first_connection + index);
            if index >= self.limits.connections || stream.register(self.poll.registry(), token).is_err() {
                self.report.dropped += 1;
                continue;
            }
            let connection = Connection::new(stream, self.next_id, self.now);
            self.next_id += 1;
            if free.is_none() {
                self.connections.push(None);
            }
            self.connections[index] = Some(connection);
            self.wake(index);
        }
    }

    fn serve(&mut self, index: usize) {
        let Some(mut connection) = self.connections.get_mut(index).and_then(Option::take) else {
            return;
        };
        connection.runnable = false;
        match self.advance(index, &mut connection) {
            Ok(again) if !connection.is_done(self.draining.is_some()) => {
                self.connections[index] = Some(connection);
                if again {
                    self.wake(index);
                }
            }
            Ok(_) => {}
            Err(Lost) => self.report.dropped += 1,
        }
    }

    /// Serves a connection as far as it goes without waiting; true when it has more to do.
    fn advance(&mut self, index: usize, connection: &mut Connection) -> Result<bool, Lost> {
        let mut reads = TURN_READS;
        loop {
            let halt = self.process(index, connection)?;
            let sent = connection.flush(&mut self.scratch, self.now)?;
            match halt {
                Halt::Blocked if sent => {}
                Halt::Blocked => return Ok(false),
                Halt::Starved if matches!(connection.phase, Phase::Finished) => return Ok(false),
                Halt::Starved if reads == 0 => return Ok(true),
                Halt::Starved => {
                    reads -= 1;
                    if !connection.fill(self.now)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn process(&mut self, index: usize, connection: &mut Connection) -> Result<Halt, Lost> {
        loop {
            match connection.step(&self.exports, self.draining.is_some(), self.limits.requests)? {
                Event::Starved => return Ok(Halt::Starved),
                Event::Blocked => return Ok(Halt::Blocked),
                Event::Request(request) => self.take_request(connection, request),
                Event::Admission { request, work } => {
                    if !self.admit(index, connection, request, work) {
                        return Ok(Halt::Blocked);
                    }
                }
                Event::Write { request, work, buffers } => {
                    self.start(index, connection, request, work, buffers);
                }
                Event::Refused { request, refusal } => connection.reply_error(&request, &refusal),
            }
        }
    }

    /// Looks at deadlines.
    fn sweep(&mut self) {
        self.next_sweep = self.now + SWEEP_INTERVAL;
        if std::mem::take(&mut self.accept_again) {
            for listener in 0..self.listeners.len() {
                self.accept(listener);
            }
        }
        let first = self.first_waiting(Origin::NOBODY);
        if let Some(first) = first {
            // Whoever stood before it may have left without returning memory, which wakes nobody.
            self.wake(first.index);
        }
        let pressed = first.is_some() && self.now.duration_since(self.waiting_since) >= self.limits.stall;
        for place in &mut self.connections {
            let Some(connection) = place else {
                continue;
            };
            let late = connection.session().is_none()
                && self.now.duration_since(connection.born) >= self.limits.handshake;
            let stalled = pressed
                && connection.held > 0
                && connection.executing == 0
                && self.now.duration_since(connection.progress) >= self.limits.stall;
            if late || stalled {
                *place = None;
                self.report.dropped += 1;
            }
        }
    }
}
