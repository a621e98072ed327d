//! Valid/ready streams.
//!
//! Handshake: the source sets `valid` and holds `data` until a cycle in which `ready` is also set;
//! that cycle transfers one item. `valid` never waits for `ready`; a sink's `ready` may depend on
//! registers only, never on `valid` of the same cycle.

use rust_hdl::prelude::*;

/// The side that offers items.
#[derive(Clone, Debug, Default, LogicInterface)]
#[join = "StreamIn"]
pub struct StreamOut<T: Synth> {
    pub valid: Signal<Out, bool>,
    pub ready: Signal<In, bool>,
    pub data: Signal<Out, T>,
}

/// The side that takes items.
#[derive(Clone, Debug, Default, LogicInterface)]
#[join = "StreamOut"]
pub struct StreamIn<T: Synth> {
    pub valid: Signal<In, bool>,
    pub ready: Signal<Out, bool>,
    pub data: Signal<In, T>,
}
