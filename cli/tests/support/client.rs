//! A client that says what it is told to, right or wrong. Its numbers are typed from the protocol
//! document, not taken from the server's.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{channel, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const WRITE_ZEROES: u16 = 6;
pub const BLOCK_STATUS: u16 = 7;
pub const FUA: u16 = 1;

pub const EIO: u32 = 5;
pub const EINVAL: u32 = 22;
pub const ENOSPC: u32 = 28;
pub const ESHUTDOWN: u32 = 108;

/// A reply: its request, its error (0 for none), its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub cookie: u64,
    pub error: u32,
    pub data: Vec<u8>,
}

pub struct Client {
    pub stream: UnixStream,
    /// Writes on a thread of its own, so that a client that sends much while replies wait for it
    /// does not block itself.
    writer: Option<(Sender<Vec<u8>>, JoinHandle<()>)>,
    structured: bool,
    /// Length of the read of each cookie, which a simple reply does not tell.
    reads: std::collections::BTreeMap<u64, usize>,
}

impl Client {
    /// Connects and exchanges the greeting.
    pub fn connect(socket: &Path) -> Client {
        let stream = UnixStream::connect(socket).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        stream.set_write_timeout(Some(Duration::from_secs(20))).expect("timeout");
        let (sender, messages) = channel::<Vec<u8>>();
        let mut writing = stream.try_clone().expect("clone");
        // The server may close at any time: an error here is its right, and shows in the replies.
        let thread = std::thread::spawn(move || {
            let _ = messages.iter().try_for_each(|message| writing.write_all(&message));
        });
        let writer = Some((sender, thread));
        let mut client = Client { stream, writer, structured: false, reads: Default::default() };
        assert_eq!(client.bytes(18).expect("greeting"), b"NBDMAGICIHAVEOPT\x00\x03");
        client.send(&3u32.to_be_bytes());
        client
    }

    /// Connects and goes to an export.
    pub fn open(socket: &Path, export: &str, structured: bool) -> Client {
        let mut client = Client::connect(socket);
        if structured {
            assert_eq!(client.option(8, &[]).last().expect("reply").0, 1);
            client.structured = true;
            let mut data = (export.len() as u32).to_be_bytes().to_vec();
            data.extend_from_slice(export.as_bytes());
            data.extend_from_slice(b"\x00\x00\x00\x01\x00\x00\x00\x0fbase:allocation");
            assert_eq!(client.option(10, &data).len(), 2);
        }
        let mut data = (export.len() as u32).to_be_bytes().to_vec();
        data.extend_from_slice(export.as_bytes());
        data.extend_from_slice(&0u16.to_be_bytes());
        assert_eq!(client.option(7, &data).last().expect("reply").0, 1, "GO is acknowledged");
        client
    }

    fn finish_writing(&mut self) {
        if let Some((sender, thread)) = self.writer.take() {
            drop(sender);
            thread.join().expect("the writer does not panic");
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        if let Some((sender, _)) = &self.writer {
            let _ = sender.send(bytes.to_vec());
        }
    }

    pub fn bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn number<const N: usize>(&mut self) -> io::Result<u64> {
        let bytes = self.bytes(N)?;
        Ok(bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Sends an option and takes its replies, as (type, data).
    pub fn option(&mut self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut message = b"IHAVEOPT".to_vec();
        message.extend_from_slice(&option.to_be_bytes());
        message.extend_from_slice(&(data.len() as u32).to_be_bytes());
        message.extend_from_slice(data);
        self.send(&message);
        let mut replies = Vec::new();
        loop {
            assert_eq!(self.number::<8>().expect("reply"), 0x0003_e889_0455_65a9);
            assert_eq!(self.number::<4>().expect("reply") as u32, option);
            let kind = self.number::<4>().expect("reply") as u32;
            let len = self.number::<4>().expect("reply") as usize;
            let data = self.bytes(len).expect("reply");
            replies.push((kind, data));
            if kind == 1 || kind & 1 << 31 != 0 {
                return replies;
            }
        }
    }

    pub fn header(flags: u16, command: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
        let mut header = vec![0x25, 0x60, 0x95, 0x13];
        header.extend_from_slice(&flags.to_be_bytes());
        header.extend_from_slice(&command.to_be_bytes());
        header.extend_from_slice(&cookie.to_be_bytes());
        header.extend_from_slice(&offset.to_be_bytes());
        header.extend_from_slice(&length.to_be_bytes());
        header
    }

    /// Sends a request without a payload, or the header of a write.
    pub fn request(&mut self, flags: u16, command: u16, cookie: u64, offset: u64, length: u32) {
        if command == READ {
            self.reads.insert(cookie, length as usize);
        }
        self.send(&Self::header(flags, command, cookie, offset, length));
    }

    pub fn write(&mut self, flags: u16, cookie: u64, offset: u64, data: &[u8]) {
        self.request(flags, WRITE, cookie, offset, data.len() as u32);
        self.send(data);
    }

    /// Takes one reply, whole.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let magic = self.number::<4>()?;
        if magic == 0x6744_6698 {
            assert!(!self.structured, "this server answers in one style");
            let error = self.number::<4>()? as u32;
            let cookie = self.number::<8>()?;
            let len = self.reads.remove(&cookie).filter(|_| error == 0).unwrap_or(0);
            return Ok(Reply { cookie, error, data: self.bytes(len)? });
        }
        assert_eq!(magic, 0x668e_33ef);
        let flags = self.number::<2>()?;
        let kind = self.number::<2>()?;
        let cookie = self.number::<8>()?;
        let len = self.number::<4>()? as usize;
        let payload = self.bytes(len)?;
        assert_eq!(flags, 1, "one chunk a reply");
        let read = self.reads.remove(&cookie);
        let error = match kind {
            0 => {
                assert!(payload.is_empty() && read.unwrap_or(0) == 0);
                0
            }
            1 => {
                assert_eq!(Some(payload.len() - 8), read);
                0
            }
            5 => 0,
            _ => {
                assert_eq!(kind, 0x8001);
                let message = u16::from_be_bytes([payload[4], payload[5]]);
                assert_eq!(usize::from(message) + 6, payload.len());
                u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]])
            }
        };
        let data = match kind {
            1 => payload[8..].to_vec(),
            5 => payload,
            _ => Vec::new(),
        };
        Ok(Reply { cookie, error, data })
    }

    /// One request and its reply; the error of the latter.
    pub fn ask(&mut self, flags: u16, command: u16, offset: u64, length: u32) -> u32 {
        self.request(flags, command, 0xA5C, offset, length);
        let reply = self.reply().expect("reply");
        assert_eq!(reply.cookie, 0xA5C);
        reply.error
    }

    pub fn read(&mut self, offset: u64, length: u32) -> Result<Vec<u8>, u32> {
        self.request(0, READ, 0xEAD, offset, length);
        let reply = self.reply().expect("reply");
        assert_eq!(reply.cookie, 0xEAD);
        if reply.error == 0 {
            Ok(reply.data)
        } else {
            Err(reply.error)
        }
    }

    pub fn write_whole(&mut self, offset: u64, data: &[u8]) -> u32 {
        self.write(0, 0x317E, offset, data);
        let reply = self.reply().expect("reply");
        assert_eq!(reply.cookie, 0x317E);
        reply.error
    }

    /// Whether the server has closed the connection; what it still sends is skipped.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = [0; 4096];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Sends what is to be sent, then says that no more will come.
    pub fn half_close(&mut self) {
        self.finish_writing();
        self.stream.shutdown(Shutdown::Write).expect("shutdown");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.finish_writing();
    }
}
