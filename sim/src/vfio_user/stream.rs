//! Messages on a socket: one at a time, whole, with the file descriptors that came with it.
//!
//! A header is trusted in its size and its type, and nothing else of a message is looked at here: whatever the payload
//! holds, the next message is found. A header that cannot be trusted ends the stream. A message that was begun comes
//! to its end within `REST_LIMIT`, and one that is sent is taken within `SEND_LIMIT`, or the stream is at its end.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendFlags, Shutdown,
};
use zerocopy::IntoBytes;

use super::version::{DATA_BYTES_MAX, FDS_MAX};
use super::wire::{self, DmaAccess, Header, HEADER_BYTES};

/// Longest time from the first byte of a message to its last.
const REST_LIMIT: Duration = Duration::from_secs(10);
/// Longest time until the peer takes what is sent.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of the longest message.
const MESSAGE_BYTES_MAX: usize = HEADER_BYTES + size_of::<DmaAccess>() + DATA_BYTES_MAX;

/// A message as it came.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
    /// It came with more descriptors than `fds` has room for.
    pub(super) too_many_fds: bool,
}

/// Why no message comes any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamEnd {
    /// The server is to stop.
    #[error("the server stops")]
    Stopped,
    /// Between two messages.
    #[error("it closed the connection")]
    Closed,
    /// Within one.
    #[error("it closed the connection in the middle of a message")]
    Cut,
    /// A message was begun and not ended.
    #[error("the rest of a message did not come within {REST_LIMIT:?}")]
    Late,
    /// Where the next message begins cannot be told.
    #[error("a message of {} bytes and type {}", .0.size, .0.flags & wire::TYPE)]
    BadHeader(Header),
    /// The operating system's error.
    #[error("the socket failed: {0}")]
    Socket(Errno),
}

/// Waits until `fd` is ready for `what`; no when one of `stops` became readable, or the time is over.
pub(super) fn is_ready(
    fd: BorrowedFd<'_>,
    what: PollFlags,
    stops: &[BorrowedFd<'_>],
    deadline: Option<Instant>,
) -> Result<bool, Errno> {
    loop {
        let mut fds = vec![PollFd::from_borrowed_fd(fd, what)];
        fds.extend(stops.iter().map(|&stop| PollFd::from_borrowed_fd(stop, PollFlags::IN)));
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, limit.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(fds[1..].iter().all(|stop| stop.revents().is_empty())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Receives the next message. One of `stops` becomes readable when none is wanted any more.
pub(super) fn receive(socket: BorrowedFd<'_>, stops: &[BorrowedFd<'_>]) -> Result<Message, StreamEnd> {
    let mut message = Message {
        header: Header { id: 0, command: 0, size: 0, flags: 0, error: 0 },
        payload: vec![],
        fds: vec![],
        too_many_fds: false,
    };
    if !is_ready(socket, PollFlags::IN, stops, None).map_err(StreamEnd::Socket)? {
        return Err(StreamEnd::Stopped);
    }
    let deadline = Instant::now() + REST_LIMIT;
    let mut bytes = [0; HEADER_BYTES];
    fill(socket, stops, &mut bytes, deadline, true, &mut message)?;
    message.header = wire::whole(&bytes).ok_or(StreamEnd::Cut)?;
    let size = message.header.size as usize;
    let kind = message.header.flags & wire::TYPE;
    if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&size) || kind > wire::TYPE_REPLY {
        return Err(StreamEnd::BadHeader(message.header));
    }
    let mut payload = vec![0; size - HEADER_BYTES];
    fill(socket, stops, &mut payload, deadline, false, &mut message)?;
    message.payload = payload;
    Ok(message)
}

/// Receives `into` whole, and the descriptors that come with it.
fn fill(
    socket: BorrowedFd<'_>,
    stops: &[BorrowedFd<'_>],
    into: &mut [u8],
    deadline: Instant,
    first: bool,
    message: &mut Message,
) -> Result<(), StreamEnd> {
    let mut done = 0;
    while done < into.len() {
        if !is_ready(socket, PollFlags::IN, stops, Some(deadline)).map_err(StreamEnd::Socket)? {
            return Err(if Instant::now() < deadline { StreamEnd::Stopped } else { StreamEnd::Late });
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = match recvmsg(socket, &mut [IoSliceMut::new(&mut into[done..])], &mut ancillary, flags)
        {
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(Errno::CONNRESET) if first && done == 0 => return Err(StreamEnd::Closed),
            Err(error) => return Err(StreamEnd::Socket(error)),
            Ok(received) => received,
        };
        for item in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = item {
                message.fds.extend(rights);
            }
        }
        message.too_many_fds |= received.flags.contains(ReturnFlags::CTRUNC) || message.fds.len() > FDS_MAX;
        message.fds.truncate(FDS_MAX);
        match received.bytes {
            0 if first && done == 0 => return Err(StreamEnd::Closed),
            0 => return Err(StreamEnd::Cut),
            bytes => done += bytes,
        }
    }
    Ok(())
}

/// The way to the client, until it is given up. Clones are one.
#[derive(Clone)]
pub(super) struct Sender {
    socket: Arc<OwnedFd>,
    /// Why it was given up.
    why: Arc<Mutex<Option<String>>>,
}

impl Sender {
    pub(super) fn new(socket: Arc<OwnedFd>) -> Self {
        Self { socket, why: Arc::default() }
    }

    /// Sends a message, whose size is filled in; false: the client is given up, or gone.
    pub(super) fn send(&self, header: Header, parts: &[&[u8]]) -> bool {
        match self.try_send(header, parts) {
            Ok(()) => return true,
            // It closed the connection, and the reader is about to see it.
            Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(error) => self.give_up(format!("it does not take what it is sent: {error}")),
        }
        false
    }

    fn try_send(&self, header: Header, parts: &[&[u8]]) -> Result<(), Errno> {
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        let header = Header { size: (HEADER_BYTES + payload) as u32, ..header };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload);
        bytes.extend_from_slice(header.as_bytes());
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let deadline = Instant::now() + SEND_LIMIT;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(&self.socket, &[IoSlice::new(rest)], &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !is_ready(self.socket.as_fd(), PollFlags::OUT, &[], Some(deadline))? {
                        return Err(Errno::TIMEDOUT);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Why the client was given up, if it was.
    pub(super) fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the stream, both ways, for a reason: `receive` finds it closed.
    pub(super) fn give_up(&self, why: String) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        // A stream that is at its end already is as it should be.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
    }
}
