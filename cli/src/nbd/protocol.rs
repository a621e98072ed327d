//! Numbers and layouts of the NBD protocol, as its public document gives them. All big-endian.

/// First word of the server's greeting.
pub const GREETING: u64 = 0x4e42_444d_4147_4943;
/// Second word of the greeting, and the first of every option.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454F_5054;
/// First word of every option reply.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// First word of every request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// First word of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// First word of a chunk of a structured reply.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Bytes of an option's header: magic, option, length.
pub const OPTION_HEADER_BYTES: usize = 16;
/// Bytes of a request's header.
pub const REQUEST_BYTES: usize = 28;
/// Longest export name or other string.
pub const STRING_BYTES_MAX: usize = 4096;
/// Largest payload of a read or write offered to clients; the protocol's portable maximum.
pub const PAYLOAD_BYTES_MAX: u32 = 32 << 20;

/// Flags of the greeting and the client's answer to it.
pub mod handshake_flag {
    /// Fixed newstyle negotiation.
    pub const FIXED_NEWSTYLE: u16 = 1 << 0;
    /// No padding after `NBD_OPT_EXPORT_NAME`.
    pub const NO_ZEROES: u16 = 1 << 1;
}

/// Options of the handshake.
pub mod option {
    /// Choose an export, the old way: no error can be told.
    pub const EXPORT_NAME: u32 = 1;
    /// End the session.
    pub const ABORT: u32 = 2;
    /// List the exports.
    pub const LIST: u32 = 3;
    /// Upgrade to TLS.
    pub const STARTTLS: u32 = 5;
    /// Ask about an export.
    pub const INFO: u32 = 6;
    /// Choose an export.
    pub const GO: u32 = 7;
    /// Use structured replies.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// List metadata contexts.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Choose metadata contexts.
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Replies to options.
pub mod option_reply {
    /// Done.
    pub const ACK: u32 = 1;
    /// An export of the list.
    pub const SERVER: u32 = 2;
    /// A piece of information about an export.
    pub const INFO: u32 = 3;
    /// A metadata context.
    pub const META_CONTEXT: u32 = 4;
    const ERROR: u32 = 1 << 31;
    /// Unknown option.
    pub const ERR_UNSUP: u32 = ERROR | 1;
    /// Malformed option.
    pub const ERR_INVALID: u32 = ERROR | 3;
    /// No such export.
    pub const ERR_UNKNOWN: u32 = ERROR | 6;
    /// The server is shutting down.
    pub const ERR_SHUTDOWN: u32 = ERROR | 7;
    /// The option is too long.
    pub const ERR_TOO_BIG: u32 = ERROR | 9;
}

/// Pieces of information in replies to INFO and GO.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// Canonical name.
    pub const NAME: u16 = 1;
    /// Description.
    pub const DESCRIPTION: u16 = 2;
    /// Block sizes.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags of an export.
pub mod export_flag {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// FLUSH is served.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// The FUA flag is served.
    pub const SEND_FUA: u16 = 1 << 3;
    /// TRIM is served.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// WRITE_ZEROES is served.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// The DF flag of READ is served.
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush on one connection covers the completed writes of all.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
}

/// Commands of the transmission phase.
pub mod command {
    /// Read.
    pub const READ: u16 = 0;
    /// Write.
    pub const WRITE: u16 = 1;
    /// Disconnect.
    pub const DISC: u16 = 2;
    /// Flush.
    pub const FLUSH: u16 = 3;
    /// Discard.
    pub const TRIM: u16 = 4;
    /// Write zeroes.
    pub const WRITE_ZEROES: u16 = 6;
    /// Query metadata contexts.
    pub const BLOCK_STATUS: u16 = 7;
}

/// Flags of commands.
pub mod command_flag {
    /// Reply when the data is on stable media.
    pub const FUA: u16 = 1 << 0;
    /// Write zeroes, but release no space.
    pub const NO_HOLE: u16 = 1 << 1;
    /// Read in one chunk.
    pub const DF: u16 = 1 << 2;
    /// One extent of block status.
    pub const REQ_ONE: u16 = 1 << 3;
}

/// Chunks of structured replies.
pub mod chunk {
    /// Flag: the last chunk of its reply.
    pub const FLAG_DONE: u16 = 1 << 0;
    /// No content.
    pub const NONE: u16 = 0;
    /// Data at an offset.
    pub const OFFSET_DATA: u16 = 1;
    /// Extents of a metadata context.
    pub const BLOCK_STATUS: u16 = 5;
    /// An error.
    pub const ERROR: u16 = 1 << 15 | 1;
}

/// Error values of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Errno {
    /// Operation not permitted.
    Permission = 1,
    /// Input/output error.
    Io = 5,
    /// Cannot allocate memory.
    Memory = 12,
    /// Invalid argument.
    Invalid = 22,
    /// No space left on device.
    NoSpace = 28,
    /// The server is shutting down.
    Shutdown = 108,
}

/// The name of the one metadata context served.
pub const BASE_ALLOCATION: &str = "base:allocation";
/// Its number in replies, chosen by the server.
pub const BASE_ALLOCATION_ID: u32 = 1;

/// A request's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Flags.
    pub flags: u16,
    /// Command.
    pub command: u16,
    /// The client's name for the request.
    pub cookie: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
}

impl Request {
    /// Reads a header; `None` when the magic is wrong, which ends the connection.
    pub fn parse(bytes: &[u8; REQUEST_BYTES]) -> Option<Request> {
        let mut fields = Fields(bytes);
        if fields.u32()? != REQUEST_MAGIC {
            return None;
        }
        Some(Request {
            flags: fields.u16()?,
            command: fields.u16()?,
            cookie: fields.u64()?,
            offset: fields.u64()?,
            length: fields.u32()?,
        })
    }

    /// Whether the client sends `length` bytes after the header.
    pub fn has_payload(&self) -> bool {
        self.command == command::WRITE
    }
}

/// Takes big-endian fields off the front of bytes; `None` when they run short.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// A 16-bit field.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// A 32-bit field.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A 64-bit field.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string with its 32-bit length before it; `None` also when it is longer than the protocol
    /// allows or not UTF-8.
    pub fn string(&mut self) -> Option<&'a str> {
        let len = self.u32()? as usize;
        if len > STRING_BYTES_MAX {
            return None;
        }
        std::str::from_utf8(self.bytes(len)?).ok()
    }
}

/// Appends a reply to an option.
pub fn put_option_reply(out: &mut Vec<u8>, option: u32, kind: u32, data: &[u8]) {
    out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    out.extend_from_slice(data);
}

/// The header of a simple reply; `error` 0 is success.
pub fn simple_reply(cookie: u64, error: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    out.extend_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&error.to_be_bytes());
    out.extend_from_slice(&cookie.to_be_bytes());
    out
}

/// A final chunk that carries `payload`, followed by `more` bytes sent by other means.
pub fn final_chunk(cookie: u64, kind: u16, payload: &[u8], more: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(20 + payload.len());
    out.extend_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&chunk::FLAG_DONE.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&cookie.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32 + more).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A final error chunk with a message for the user.
pub fn error_chunk(cookie: u64, error: Errno, message: &str) -> Vec<u8> {
    let mut end = message.len().min(STRING_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(6 + end);
    payload.extend_from_slice(&(error as u32).to_be_bytes());
    payload.extend_from_slice(&(end as u16).to_be_bytes());
    payload.extend_from_slice(&message.as_bytes()[..end]);
    final_chunk(cookie, chunk::ERROR, &payload, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Bytes typed from the protocol document, not derived from the constants above.
    #[test]
    fn a_request_is_read_from_its_bytes() {
        let bytes =
            *b"\x25\x60\x95\x13\x00\x01\x00\x06COOKIE!!\x00\x00\x00\x01\x00\x00\x02\x00\x00\x00\x10\x00";
        let request = Request::parse(&bytes).expect("a request");
        assert_eq!(request.flags, 1);
        assert_eq!(request.command, 6);
        assert_eq!(request.cookie, u64::from_be_bytes(*b"COOKIE!!"));
        assert_eq!(request.offset, 0x1_0000_0200);
        assert_eq!(request.length, 4096);
        let mut wrong = bytes;
        wrong[3] = 0x14;
        assert_eq!(Request::parse(&wrong), None);
    }

    #[test]
    fn replies_have_their_bytes() {
        assert_eq!(
            simple_reply(u64::from_be_bytes(*b"COOKIE!!"), 28),
            b"\x67\x44\x66\x98\x00\x00\x00\x1cCOOKIE!!"
        );
        assert_eq!(
            error_chunk(u64::from_be_bytes(*b"COOKIE!!"), Errno::Invalid, "no"),
            b"\x66\x8e\x33\xef\x00\x01\x80\x01COOKIE!!\x00\x00\x00\x08\x00\x00\x00\x16\x00\x02no"
        );
        assert_eq!(
            final_chunk(u64::from_be_bytes(*b"COOKIE!!"), chunk::OFFSET_DATA, &512u64.to_be_bytes(), 512),
            b"\x66\x8e\x33\xef\x00\x01\x00\x01COOKIE!!\x00\x00\x02\x08\x00\x00\x00\x00\x00\x00\x02\x00"
        );
        let mut out = Vec::new();
        put_option_reply(&mut out, option::GO, option_reply::ERR_UNKNOWN, b"?");
        assert_eq!(out, b"\x00\x03\xe8\x89\x04\x55\x65\xa9\x00\x00\x00\x07\x80\x00\x00\x06\x00\x00\x00\x01?");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let message = "é".repeat(4000);
        let chunk = error_chunk(0, Errno::Io, &message);
        assert_eq!(chunk.len(), 20 + 6 + 4096);
        assert!(std::str::from_utf8(&chunk[26..]).is_ok());
    }

    #[test]
    fn fields_run_short_without_harm() {
        let mut fields = Fields(b"\x00\x00\x00\x05abc");
        assert_eq!(fields.string(), None);
        let mut fields = Fields(b"\x00\x00\x00\x03abc\x01");
        assert_eq!(fields.string(), Some("abc"));
        assert_eq!(fields.u16(), None);
    }
}
