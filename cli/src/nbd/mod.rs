//! An NBD server over a [`BlockService`](volplane::BlockService): fixed newstyle handshake,
//! structured replies, `base:allocation`, and every command a block device needs.
//!
//! One thread serves all connections. Bytes take this way: `connection` (socket and buffers) →
//! `handshake` (options, a pure state machine) → `transmission` (a request is parsed and judged,
//! pure) → `pool` (DMA memory for its data) → `execution` (operations on the service, replies) →
//! `connection`. `server` is the event loop that drives them, `listen` opens the sockets.
//!
//! Everything a client can make grow is bounded by [`Limits`]: connections, requests and bytes per
//! connection, DMA memory in all, the time of a handshake. A client that breaks the protocol beyond
//! repair loses its connection; any other fault is answered with the protocol's error, and no fault
//! reaches another client.
//!
//! Not implemented: TLS, extended headers, `NBD_CMD_CACHE`, `NBD_FLAG_SEND_FAST_ZERO`.

mod connection;
mod execution;
mod export;
mod handshake;
mod listen;
mod pool;
pub mod protocol;
mod server;
mod transmission;

pub use export::{export_uri, Export};
pub use listen::{Endpoint, ListenError};
pub use server::{Limits, Report, ServeError, Server};
