//! The first message of a client: which protocol it speaks, and what it can.
//!
//! The answer names this server's limits, of those capabilities that the client named, and nothing that the client did
//! not propose.

use rustix::io::Errno;
use serde_json::{json, Map, Value};
use zerocopy::IntoBytes;

use super::wire::{self, Version};
use crate::bus::BURST_BYTES_MAX;

/// The protocol spoken here: 0.1.
const MAJOR: u16 = 0;
const MINOR: u16 = 1;
/// Most file descriptors of a message.
pub(super) const FDS_MAX: usize = 8;
/// Most bytes of data of a message.
pub(super) const DATA_BYTES_MAX: usize = 1 << 20;
/// Most DMA windows at a time.
pub(super) const WINDOWS_MAX: usize = 65_535;
/// DMA windows are of whole pages of 4 KiB.
pub(super) const PAGE_SIZES: u64 = 4096;

/// The payload of the answer to a VERSION message, and how many bytes a message of data may carry.
///
/// # Errors
/// `INVAL`: another major version, capabilities that are no JSON or of other types, or a client that does not take a
/// burst of the card in one message.
pub(super) fn negotiate(payload: &[u8]) -> Result<Vec<u8>, Errno> {
    let (proposed, data) = wire::first::<Version>(payload).ok_or(Errno::INVAL)?;
    if proposed.major != MAJOR {
        return Err(Errno::INVAL);
    }
    let proposal = capabilities(data)?;
    let number = |name: &str| match proposal.get(name) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(Errno::INVAL),
    };
    if number("max_data_xfer_size")?.is_some_and(|bytes| bytes < BURST_BYTES_MAX as u64) {
        return Err(Errno::INVAL);
    }
    let mut answer = Map::new();
    for (name, limit) in [
        ("max_msg_fds", FDS_MAX as u64),
        ("max_data_xfer_size", DATA_BYTES_MAX as u64),
        ("max_dma_maps", WINDOWS_MAX as u64),
        ("pgsizes", PAGE_SIZES),
    ] {
        if number(name)?.is_some() {
            answer.insert(name.into(), limit.into());
        }
    }
    let mut reply = Version { major: MAJOR, minor: proposed.minor.min(MINOR) }.as_bytes().to_vec();
    reply.extend_from_slice(json!({ "capabilities": answer }).to_string().as_bytes());
    reply.push(0);
    Ok(reply)
}

/// The capabilities in the data of a VERSION message: JSON with a zero behind it, or nothing.
fn capabilities(data: &[u8]) -> Result<Map<String, Value>, Errno> {
    let Some((end, text)) = data.split_last() else { return Ok(Map::new()) };
    if *end != 0 {
        return Err(Errno::INVAL);
    }
    let Ok(Value::Object(mut object)) = serde_json::from_slice(text) else { return Err(Errno::INVAL) };
    match object.remove("capabilities") {
        None => Ok(Map::new()),
        Some(Value::Object(capabilities)) => Ok(capabilities),
        Some(_) => Err(Errno::INVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(major: u16, minor: u16, text: &[u8]) -> Vec<u8> {
        [&major.to_ne_bytes()[..], &minor.to_ne_bytes(), text].concat()
    }

    #[test]
    fn the_answer_names_what_the_client_named() {
        let text = b"{\"capabilities\":{\"max_msg_fds\":16,\"pgsizes\":4096,\"twin_socket\":{}}}\0";
        let answer = negotiate(&proposal(0, 7, text)).expect("a proposal");
        assert_eq!(answer[..4], [0, 0, 1, 0]);
        assert_eq!(answer[4..], *b"{\"capabilities\":{\"max_msg_fds\":8,\"pgsizes\":4096}}\0");
        assert_eq!(negotiate(&proposal(0, 0, b"")).expect("no data")[..4], [0, 0, 0, 0]);
        assert!(negotiate(&proposal(0, 0, b"{}\0")).is_ok());
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let deep = [b"{\"capabilities\":".as_slice(), &[b'['; 5000], b"\0"].concat();
        for text in [
            &b"{}"[..],
            b"\0",
            b"[]\0",
            b"{\"capabilities\":1}\0",
            b"{\"capabilities\":{\"max_msg_fds\":-1}}\0",
            b"{\"capabilities\":{\"pgsizes\":\"4096\"}}\0",
            b"{\"capabilities\":{\"max_data_xfer_size\":64}}\0",
            b"{\"capabilities\":{}\0",
            b"{\"a\":\"\xff\"}\0",
            &deep,
        ] {
            assert_eq!(negotiate(&proposal(0, 1, text)), Err(Errno::INVAL), "{}", text.escape_ascii());
        }
        assert_eq!(negotiate(&proposal(1, 0, b"{}\0")), Err(Errno::INVAL));
        assert_eq!(negotiate(&[0, 0, 1]), Err(Errno::INVAL));
    }
}
