//! The card as a PCIe device in another process: a vfio-user server for QEMU's `vfio-user-pci`, or any other client.
//!
//! * `server`: the socket, and the thread that reads it. `stream`, `wire`, `version`: messages. `inbox`: what goes from
//!   that thread to the card's.
//! * `device`: the card's thread; `requests`: what a client asks for; `pace`: how the card's time follows the clock.
//! * `client_bus`: what the card's ports reach: `address_space` and `memory_file`, the client's memory; messages to it;
//!   `interrupts`, its eventfds.
//! * `config_space`: what makes the card a PCI function.
//!
//! Contract: nothing that a client sends ends the server, holds it up, or makes it lose its place in the stream: each
//! request has one reply or one error, and a client that cannot be understood is left with one message
//! (`requests`, `stream`). When a client goes, its memory and eventfds go, and the card is as at power-up: rings of the
//! last client would lie in the memory of the next.
//!
//! Time: `pace` says how the card's ticks, and with them its time-outs, follow the wall clock.
//!
//! Limits: no regions to be mapped, no second socket for DMA messages, no migration, one client at a time; what is left
//! of PCIe's ordering where memory is reached by messages, `client_bus` says. Filling a hole of a client's sparse file
//! when memory is used up ends the process, as it would end the client.

mod address_space;
mod client_bus;
mod config_space;
mod device;
mod inbox;
mod interrupts;
mod memory_file;
mod pace;
mod requests;
mod server;
mod stream;
mod version;
mod wire;

pub use server::{Server, ServerError, ServerEvent};
