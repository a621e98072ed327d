//! Operations of the block service as commands of a client, whatever executes the commands: a card or the
//! software data path.
//!
//! * `command`, `prp`: what is in a command.
//! * `dispatcher`: operations in progress.
//! * `wind_down`: the end of a service.

pub(crate) mod command;
pub(crate) mod dispatcher;
pub(crate) mod prp;
pub(crate) mod wind_down;
