//! A virtual disk as NBD clients see it.

use volplane::VirtualDisk;

use super::listen::Endpoint;
use super::protocol::{export_flag, PAYLOAD_BYTES_MAX};

/// Largest block size the protocol lets a server prefer without surprise to its clients.
const PREFERRED_BYTES_MAX: u32 = 1 << 20;
const PREFERRED_BYTES_MIN: u32 = 4096;

/// An export: a virtual disk under its own name.
#[derive(Clone, Debug)]
pub struct Export {
    /// The disk.
    pub disk: VirtualDisk,
}

/// The three block sizes of the protocol, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// Every offset and length is a multiple of it.
    pub minimum: u32,
    /// Aligned requests of this size are efficient.
    pub preferred: u32,
    /// Largest payload.
    pub maximum: u32,
}

impl Export {
    /// Name by which clients choose it.
    pub fn name(&self) -> &str {
        &self.disk.name
    }

    /// One line for people.
    pub fn description(&self) -> String {
        format!("Volplane virtual disk, {} blocks of {} bytes", self.disk.blocks, self.disk.block_size)
    }

    /// Its block sizes; the preferred one is the stripe unit where that is a usable power of two.
    pub fn block_sizes(&self) -> BlockSizes {
        let stripe = self.disk.preferred_io_bytes.clamp(PREFERRED_BYTES_MIN, PREFERRED_BYTES_MAX);
        BlockSizes {
            minimum: self.disk.block_size,
            preferred: 1 << stripe.ilog2(),
            maximum: PAYLOAD_BYTES_MAX,
        }
    }

    /// Transmission flags.
    pub fn flags(&self, structured: bool) -> u16 {
        let mut flags = export_flag::HAS_FLAGS
            | export_flag::SEND_FLUSH
            | export_flag::SEND_FUA
            | export_flag::SEND_TRIM
            | export_flag::SEND_WRITE_ZEROES
            | export_flag::CAN_MULTI_CONN;
        if structured {
            flags |= export_flag::SEND_DF;
        }
        flags
    }
}

/// The export of that name; the empty name is the only export, if there is only one.
pub fn find(exports: &[Export], name: &str) -> Option<usize> {
    if name.is_empty() && exports.len() == 1 {
        return Some(0);
    }
    exports.iter().position(|export| export.name() == name)
}

/// The URI by which clients reach an export at an endpoint.
pub fn export_uri(endpoint: &Endpoint, export: &str) -> String {
    match endpoint {
        Endpoint::Tcp(address) => format!("nbd://{address}/{}", percent_encode(export, "")),
        Endpoint::Unix(path) => {
            let path = percent_encode(&path.to_string_lossy(), "/");
            format!("nbd+unix:///{}?socket={path}", percent_encode(export, ""))
        }
    }
}

fn percent_encode(text: &str, also_plain: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain || also_plain.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use volplane::VdHandle;

    pub fn export(name: &str, block_size: u32, blocks: u64, preferred_io_bytes: u32) -> Export {
        Export {
            disk: VirtualDisk {
                handle: VdHandle(0),
                name: name.to_owned(),
                block_size,
                blocks,
                preferred_io_bytes,
            },
        }
    }

    #[test]
    fn preferred_size_is_a_power_of_two_within_bounds() {
        for (stripe, preferred) in [(512, 4096), (65536, 65536), (3 * 65536, 131072), (16 << 20, 1 << 20)] {
            assert_eq!(export("a", 512, 8, stripe).block_sizes().preferred, preferred, "{stripe}");
        }
    }

    #[test]
    fn the_empty_name_never_guesses() {
        let one = [export("a", 512, 8, 4096)];
        let two = [export("a", 512, 8, 4096), export("b", 512, 8, 4096)];
        assert_eq!(find(&one, ""), Some(0));
        assert_eq!(find(&two, ""), None);
        assert_eq!(find(&two, "b"), Some(1));
        assert_eq!(find(&two, "c"), None);
    }

    #[test]
    fn uris_escape_what_clients_would_misread() {
        let tcp = Endpoint::Tcp("127.0.0.1:10809".parse().expect("address"));
        assert_eq!(export_uri(&tcp, "fast disk/1"), "nbd://127.0.0.1:10809/fast%20disk%2F1");
        let unix = Endpoint::Unix("/run/a b.sock".into());
        assert_eq!(export_uri(&unix, "x"), "nbd+unix:///x?socket=/run/a%20b.sock");
    }
}
