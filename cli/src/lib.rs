//! The `volplane` program: thin commands over `host-lib`, and the NBD server behind `volplane serve`.

#![forbid(unsafe_code)]

pub mod backend;
pub mod fault;
pub mod nbd;
