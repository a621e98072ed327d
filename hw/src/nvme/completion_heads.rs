//! Completion queue heads: where each path's SSD will write next.
//!
//! Purpose: each event of a configured path, whatever its identifier, moves the head of that path's
//! completion queue behind the event's entry.
//! Handshake: an event a cycle, without ready, both ways. Latency: 2 cycles. Order: as they came.
//! Reset: no path is configured until its table entry is written.
//! Failure: windows of paths that are not configured, and positions beyond the queue, move nothing.

use rust_hdl::prelude::*;

use super::path_write::PathWrite;
use crate::prim::ram::LutRam;
use crate::records::{TableRequest, WindowEvent};
use crate::Sizes;

/// Events to heads.
#[derive(Clone, Debug, LogicBlock)]
pub struct CompletionHeads {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub event_valid: Signal<In, bool>,
    pub event_data: Signal<In, WindowEvent>,
    pub cq_event_valid: Signal<Out, bool>,
    pub cq_event_path: Signal<Out, Bits<8>>,
    pub cq_event_head: Signal<Out, Bits<16>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub idle: Signal<Out, bool>,
    path_write: PathWrite,
    /// Entries − 1 of each completion queue.
    sizes: LutRam<Bits<16>>,
    configured: DFF<Bits<32>>,
    event_valid1: DFF<bool>,
    event1: DFF<WindowEvent>,
    head_valid: DFF<bool>,
    head_path: DFF<Bits<8>>,
    head: DFF<Bits<16>>,
    window: Signal<Local, Bits<8>>,
    window1: Signal<Local, Bits<8>>,
    position: Signal<Local, Bits<16>>,
    windows_mask: Constant<Bits<8>>,
    zero16: Constant<Bits<16>>,
    one16: Constant<Bits<16>>,
    zero32: Constant<Bits<32>>,
    one1: Constant<Bits<1>>,
}

impl CompletionHeads {
    /// The heads of a build.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            event_valid: Default::default(),
            event_data: Default::default(),
            cq_event_valid: Default::default(),
            cq_event_path: Default::default(),
            cq_event_head: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            idle: Default::default(),
            path_write: PathWrite::new(sizes),
            sizes: LutRam::new(sizes.path_bits),
            configured: Default::default(),
            event_valid1: Default::default(),
            event1: Default::default(),
            head_valid: Default::default(),
            head_path: Default::default(),
            head: Default::default(),
            window: Default::default(),
            window1: Default::default(),
            position: Default::default(),
            windows_mask: Constant::new(0x1Fu64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one1: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for CompletionHeads {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, configured, event_valid1, event1, head_valid, head_path, head);
        self.path_write.clock.next = self.clock.val();
        self.path_write.table_valid.next = self.table_valid.val();
        self.path_write.table_request.next = self.table_request.val();
        self.sizes.clock.next = self.clock.val();
        self.sizes.write.next = self.path_write.written.val();
        self.sizes.write_address.next = self.path_write.path.val();
        self.sizes.write_data.next = self.path_write.entry.val().cq_size_z;
        if self.path_write.written.val() {
            self.configured.d.next = self.configured.q.val().replace_bit(
                self.path_write.path.val().index(),
                (self.path_write.entry.val().valid == self.one1.val()),
            );
        }
        self.window.next = self.event_data.val().path;
        self.sizes.read_address.next = bit_cast::<16, 8>(self.window.val());
        self.event_valid1.d.next = self.event_valid.val();
        self.event1.d.next = self.event_data.val();

        self.window1.next = self.event1.q.val().path & self.windows_mask.val();
        self.position.next = bit_cast::<16, 12>(self.event1.q.val().position);
        self.head_valid.d.next = self.event_valid1.q.val()
            & self.configured.q.val().get_bit(self.window1.val().index())
            & (self.position.val() <= self.sizes.read_data.val());
        self.head_path.d.next = self.event1.q.val().path;
        self.head.d.next = self.position.val() + self.one16.val();
        if (self.position.val() == self.sizes.read_data.val()) {
            self.head.d.next = self.zero16.val();
        }
        self.cq_event_valid.next = self.head_valid.q.val();
        self.cq_event_path.next = self.head_path.q.val();
        self.cq_event_head.next = self.head.q.val();
        self.idle.next = !self.event_valid1.q.val() & !self.head_valid.q.val();

        if self.reset.val() {
            self.configured.d.next = self.zero32.val();
            self.event_valid1.d.next = false;
            self.head_valid.d.next = false;
        }
    }
}
