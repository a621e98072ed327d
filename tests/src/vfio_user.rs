//! A vfio-user client of the tests' own: the server's messages are met by bytes that were typed from the protocol's
//! specification, not by the server's own records.
//!
//! * `connection`: messages on a socket, whatever they hold.
//! * `client`: a client that answers DMA messages as they come, or later, or not.
//! * `platform`: it as a driver's platform, with memory that the server maps, may not map, or is not given.
//! * `service`: a server in this process.

pub mod client;
pub mod connection;
pub mod platform;
pub mod service;

pub use client::{Client, Dma};
pub use connection::{command, Connection, Reply};
pub use platform::{ClientFunction, ClientPlatform, Sharing};
pub use service::Service;
