//! What the card's ports reach behind a client: its memory, its peers, its eventfds.
//!
//! An access to a window with a file is made there and then. Everything else goes to the client as a DMA message, and
//! the card is clocked until the reply comes; the client's error, or a window's, is an error of the bus to the card, as
//! is any access while the card is not bus master or no client is there. The card's bursts are of 128 bytes at the
//! most, so no message is longer.
//!
//! Ordering: messages are sent in the order of the accesses, and every write asks for a reply. An interrupt waits for
//! the replies to all writes that were sent before it. A register's answer does not push such writes, as a read on PCIe
//! would: a client may be unable to take a message while it waits for that answer, and both would wait for ever. Writes
//! to windows with files are seen at once.
//!
//! A client that leaves a message without a reply for `REPLY_LIMIT` is given up, and so is one that sends a reply to
//! nothing.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use zerocopy::IntoBytes;

use super::address_space::{AddressSpace, Reach, INTERRUPT_PAGE};
use super::interrupts::Interrupts;
use super::stream::{Message, Sender};
use super::wire::{self, command, DmaAccess, Header};
use crate::bus::{WindowWrite, BURST_BYTES_MAX};
use crate::card_bus::{Access, CardBus};
use crate::host_memory::{Agent, Direction, Refusal};
use crate::probe::BusAction;

/// Longest time until a client replies.
const REPLY_LIMIT: Duration = Duration::from_secs(60);
/// Most replies that nobody waits for any more, because the card was reset.
const ABANDONED_MAX: usize = 1024;

/// What has become of an access.
enum State {
    /// It is the file's, and is made when it is asked for.
    File,
    /// It was sent under this identifier, at this time.
    Sent(u16, Instant),
    /// It has ended; a read with these bytes.
    Ended(Result<[u8; BURST_BYTES_MAX], ()>),
}

struct Pending {
    /// Number of a write.
    number: u64,
    iova: u64,
    len: usize,
    state: State,
}

impl Pending {
    fn id(&self) -> Option<u16> {
        match self.state {
            State::Sent(id, _) => Some(id),
            _ => None,
        }
    }
}

pub(super) struct ClientBus {
    pub(super) windows: AddressSpace,
    pub(super) interrupts: Interrupts,
    pub(super) now_ns: u64,
    /// The card may master the bus.
    pub(super) master: bool,
    client: Option<Sender>,
    /// The client was given up, or is gone, and the device does not know it yet.
    lost: bool,
    window_writes: VecDeque<WindowWrite>,
    /// Accepted reads, in order.
    reads: VecDeque<Pending>,
    /// Writes that were sent and whose end the card was not told, in order.
    writes: VecDeque<Pending>,
    next_write: u64,
    next_id: u16,
    abandoned: BTreeSet<u16>,
    /// Messages without a reply that the card waits for.
    unanswered: usize,
    /// Something went between the card and its bus.
    moved: bool,
}

impl ClientBus {
    pub(super) fn new(vectors: u16) -> Self {
        Self {
            windows: AddressSpace::default(),
            interrupts: Interrupts::new(vectors),
            now_ns: 0,
            master: false,
            client: None,
            lost: false,
            window_writes: VecDeque::new(),
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            next_write: 0,
            next_id: 0,
            abandoned: BTreeSet::new(),
            unanswered: 0,
            moved: false,
        }
    }

    /// A client is there.
    pub(super) fn connect(&mut self, client: Sender) {
        self.disconnect();
        self.client = Some(client);
    }

    /// The client is gone, and everything of it.
    pub(super) fn disconnect(&mut self) {
        self.reset();
        self.windows.clear();
        self.interrupts.clear();
        (self.client, self.lost, self.master) = (None, false, false);
        self.abandoned.clear();
    }

    /// The card was reset: nobody waits for what is under way.
    pub(super) fn reset(&mut self) {
        self.abandoned.extend(self.reads.iter().chain(&self.writes).filter_map(Pending::id));
        self.reads.clear();
        self.writes.clear();
        self.unanswered = 0;
        self.window_writes.clear();
        self.interrupts.reset();
        if self.abandoned.len() > ABANDONED_MAX {
            self.give_up("it does not reply to DMA messages".into());
        }
    }

    fn give_up(&mut self, why: String) {
        if let Some(client) = &self.client {
            client.give_up(why);
        }
        self.lose();
    }

    /// The client takes and gives nothing any more.
    fn lose(&mut self) {
        (self.client, self.lost) = (None, true);
        self.unanswered = 0;
        for pending in self.reads.iter_mut().chain(&mut self.writes) {
            if let State::Sent(..) = pending.state {
                pending.state = State::Ended(Err(()));
            }
        }
    }

    /// Whether the client was given up, or is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Puts a write of the client, of at most 16 bytes, on its way to BAR2.
    pub(super) fn write_window(&mut self, offset: u64, from: &[u8]) {
        let mut bytes = [0; 16];
        bytes[..from.len()].copy_from_slice(from);
        self.window_writes.push_back(WindowWrite { offset, len: from.len(), bytes });
    }

    /// Writes on their way to BAR2.
    pub(super) fn windows_waiting(&self) -> usize {
        self.window_writes.len()
    }

    /// Sends a DMA message; none: the client cannot be sent anything.
    fn send(&mut self, command: u16, iova: u64, len: usize, data: &[u8]) -> Option<State> {
        let client = self.client.as_ref()?;
        let taken = |id: u16| {
            let used = self.reads.iter().chain(&self.writes).any(|pending| pending.id() == Some(id));
            used || self.abandoned.contains(&id)
        };
        let id = (0..=u16::MAX).map(|i| self.next_id.wrapping_add(i)).find(|&id| !taken(id))?;
        let header = Header { id, command, size: 0, flags: wire::TYPE_COMMAND, error: 0 };
        let access = DmaAccess { address: iova, count: len as u64 };
        if !client.send(header, &[access.as_bytes(), data]) {
            self.lose();
            return None;
        }
        self.next_id = id.wrapping_add(1);
        self.unanswered += 1;
        Some(State::Sent(id, Instant::now()))
    }

    /// Takes a reply of the client.
    pub(super) fn take_reply(&mut self, reply: &Message) {
        let id = reply.header.id;
        if self.abandoned.remove(&id) {
            return;
        }
        let is_read = self.reads.iter().any(|pending| pending.id() == Some(id));
        let queue = if is_read { &mut self.reads } else { &mut self.writes };
        let found = queue.iter_mut().find(|pending| pending.id() == Some(id));
        let expected = if is_read { command::DMA_READ } else { command::DMA_WRITE };
        let Some(pending) = found.filter(|_| reply.header.command == expected) else {
            let why =
                format!("it replied to command {} of number {id}, which was not sent", reply.header.command);
            return self.give_up(why);
        };
        let mut bytes = [0; BURST_BYTES_MAX];
        let result = if reply.header.flags & wire::ERROR != 0 {
            Err(())
        } else if !is_read {
            Ok(bytes)
        } else {
            match wire::first::<DmaAccess>(&reply.payload) {
                Some((access, data)) if access.count == pending.len as u64 && data.len() == pending.len => {
                    bytes[..data.len()].copy_from_slice(data);
                    Ok(bytes)
                }
                _ => Err(()),
            }
        };
        pending.state = State::Ended(result);
        self.unanswered -= 1;
        self.release_interrupts();
    }

    fn release_interrupts(&mut self) {
        let open = self.writes.iter().find(|write| write.id().is_some()).map(|write| write.number);
        self.interrupts.release(open);
    }

    /// Whether a reply is waited for.
    pub(super) fn waits_for_replies(&self) -> bool {
        self.unanswered > 0
    }

    /// Whether anything went between the card and its bus since this was last asked.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Gives the client up if it left a message without a reply for too long.
    pub(super) fn check_replies(&mut self) {
        let oldest = self.reads.iter().chain(&self.writes).filter_map(|pending| match pending.state {
            State::Sent(_, at) => Some(at),
            _ => None,
        });
        if oldest.min().is_some_and(|at| at.elapsed() > REPLY_LIMIT) {
            self.give_up(format!("it left a DMA message without a reply for {REPLY_LIMIT:?}"));
        }
    }
}

fn refused(iova: u64, len: usize, direction: Direction) -> Refusal {
    Refusal { agent: Agent::Card, iova, len, direction }
}

impl CardBus for ClientBus {
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn window_writes(&mut self) -> &mut VecDeque<WindowWrite> {
        &mut self.window_writes
    }

    fn accept_read(&mut self, iova: u64, len: usize) {
        let state = match self.windows.reach(iova, len, Direction::Read) {
            _ if !self.master || len > BURST_BYTES_MAX => State::Ended(Err(())),
            Reach::Refused => State::Ended(Err(())),
            Reach::File(..) => State::File,
            Reach::Client => self.send(command::DMA_READ, iova, len, &[]).unwrap_or(State::Ended(Err(()))),
        };
        self.reads.push_back(Pending { number: 0, iova, len, state });
        self.moved = true;
    }

    fn answer_read(&mut self, iova: u64, into: &mut [u8]) -> Option<Access> {
        let refusal = || refused(iova, into.len(), Direction::Read);
        let Some(read) = self.reads.front() else { return Some(Err(refusal())) };
        let result = match &read.state {
            State::Sent(..) => return None,
            State::Ended(Err(())) => Err(refusal()),
            State::Ended(Ok(bytes)) => {
                into.copy_from_slice(&bytes[..into.len()]);
                Ok(())
            }
            // The window may have gone since.
            State::File => match self.windows.reach(read.iova, read.len, Direction::Read) {
                Reach::File(file, offset) => {
                    let refusal = refusal();
                    file.read(offset, into).map_err(|_| refusal)
                }
                _ => Err(refusal()),
            },
        };
        self.reads.pop_front();
        self.moved = true;
        Some(result)
    }

    fn post_write(&mut self, iova: u64, from: &[u8]) -> Option<Access> {
        self.moved = true;
        let refusal = refused(iova, from.len(), Direction::Write);
        if !self.master {
            return Some(Err(refusal));
        }
        if let Some(vector) = self.interrupts.vector_of(iova, from) {
            match self.writes.iter().rev().find(|write| write.id().is_some()) {
                Some(last) => self.interrupts.raise_behind(vector, last.number),
                None => self.interrupts.signal(vector),
            }
            return Some(Ok(()));
        }
        match self.windows.reach(iova, from.len(), Direction::Write) {
            Reach::Refused => Some(Err(refusal)),
            Reach::File(file, offset) => Some(file.write(offset, from).map_err(|_| refusal)),
            Reach::Client if iova >= INTERRUPT_PAGE => Some(Err(refusal)),
            Reach::Client => {
                let Some(state) = self.send(command::DMA_WRITE, iova, from.len(), from) else {
                    return Some(Err(refusal));
                };
                self.writes.push_back(Pending { number: self.next_write, iova, len: from.len(), state });
                self.next_write += 1;
                None
            }
        }
    }

    fn answer_write(&mut self) -> Option<Access> {
        let write = self.writes.front()?;
        let result = match &write.state {
            State::Ended(result) => result.map(drop),
            _ => return None,
        };
        let refusal = refused(write.iova, write.len, Direction::Write);
        self.writes.pop_front();
        self.moved = true;
        Some(result.map_err(|()| refusal))
    }

    fn note(&mut self, _: Agent, _: BusAction, _: u64, _: usize) {}
}
