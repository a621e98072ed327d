//! Messages on a socket, whatever they hold.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{sendmsg, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// Longest time that a test waits for the server.
const LIMIT: Duration = Duration::from_secs(30);

/// Command numbers.
pub mod command {
    /// Version and capabilities.
    pub const VERSION: u16 = 1;
    /// A DMA window more,
    pub const DMA_MAP: u16 = 2;
    /// and less.
    pub const DMA_UNMAP: u16 = 3;
    /// What the device is.
    pub const DEVICE_GET_INFO: u16 = 4;
    /// What a region is.
    pub const DEVICE_GET_REGION_INFO: u16 = 5;
    /// What a kind of interrupts is.
    pub const DEVICE_GET_IRQ_INFO: u16 = 7;
    /// Eventfds.
    pub const DEVICE_SET_IRQS: u16 = 8;
    /// A read of a region,
    pub const REGION_READ: u16 = 9;
    /// and a write.
    pub const REGION_WRITE: u16 = 10;
    /// The device's read,
    pub const DMA_READ: u16 = 11;
    /// and its write.
    pub const DMA_WRITE: u16 = 12;
    /// Device reset.
    pub const DEVICE_RESET: u16 = 13;
}

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Number.
    pub id: u16,
    /// Command.
    pub command: u16,
    /// Flags.
    pub flags: u32,
    /// Errno.
    pub error: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
}

impl Reply {
    /// The payload of a reply, or its errno.
    pub fn result(self) -> Result<Vec<u8>, u32> {
        match self.flags {
            1 => Ok(self.payload),
            0x21 => Err(self.error),
            flags => panic!("flags {flags:#x}"),
        }
    }
}

/// A header.
pub fn header(id: u16, command: u16, size: u32, flags: u32, error: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&id.to_ne_bytes());
    bytes.extend_from_slice(&command.to_ne_bytes());
    bytes.extend_from_slice(&size.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&error.to_ne_bytes());
    bytes
}

/// A command.
pub fn message(id: u16, command: u16, payload: &[u8]) -> Vec<u8> {
    [header(id, command, 16 + payload.len() as u32, 0, 0), payload.to_vec()].concat()
}

/// Words as they stand in a message.
pub fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// A socket.
pub struct Connection {
    stream: UnixStream,
}

impl Connection {
    /// Connects, and says nothing.
    pub fn new(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("a server");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        Self { stream }
    }

    /// Connects and agrees on a version.
    pub fn negotiated(path: &Path) -> Self {
        let mut connection = Self::new(path);
        let capabilities = b"{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}\0";
        let version = [&[0, 0, 1, 0], &capabilities[..]].concat();
        let reply = connection.ask(command::VERSION, &version, &[]).expect("a version");
        assert_eq!(reply[..4], [0, 0, 1, 0]);
        connection
    }

    /// The same socket once more.
    pub fn again(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a descriptor") }
    }

    /// Sends bytes. What the server does not take any more is lost.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("the server takes nothing: {error}"),
        }
    }

    /// Sends bytes, and descriptors with the first of them. What the server does not take any more is lost.
    pub fn send_fds(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        self.try_send_fds(bytes, fds);
    }

    /// As `send_fds`, and whether the server took it.
    pub fn try_send_fds(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
        }
        match sendmsg(self.stream.as_fd(), &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(sent) => self.send(&bytes[sent..]),
            Err(Errno::PIPE | Errno::CONNRESET) => return false,
            Err(error) => panic!("the server takes nothing: {error}"),
        }
        true
    }

    /// The server's next message; none: it closed the connection.
    pub fn receive(&mut self) -> Option<Reply> {
        let mut head = [0; 16];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return None;
            }
            Err(error) => panic!("the server says nothing: {error}"),
        }
        let half = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        let mut payload = vec![0; word(4) as usize - 16];
        self.stream.read_exact(&mut payload).expect("the rest of a message");
        Some(Reply { id: half(0), command: half(2), flags: word(8), error: word(12), payload })
    }

    /// Sends a command and takes its reply, which is the next message.
    pub fn ask(&mut self, command: u16, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<Vec<u8>, u32> {
        self.send_fds(&message(77, command, payload), fds);
        let reply = self.receive().expect("a reply");
        assert_eq!((reply.id, reply.command), (77, command));
        reply.result()
    }

    /// No more is sent; what comes can still be read.
    pub fn end(&self) {
        self.stream.shutdown(std::net::Shutdown::Write).expect("an open socket");
    }

    /// Ends the connection.
    pub fn close(&self) {
        // It may be closed already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}
