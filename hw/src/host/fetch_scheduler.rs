//! Chooses which queue's entries are fetched next, and asks for them.
//!
//! Queues that may have work stand in a list, each once; a doorbell puts its queue there, and a visit
//! takes the first one, looks at its pointers, asks for one or two entries and puts the queue back at
//! the end while it has more. Entries are asked for only while there is room for their completions
//! (`cq_reserved` may not come up to `cq_head`, NVMe's full rule) and for themselves (credits, given
//! back by `control_returned` and `client_returned`). A burst never crosses the ring's end or a 4 KiB
//! border. A queue stopped by `bad` or `fail` is not fetched from until it is configured with `restart`.
//!
//! The parent keeps the tables: `look_queue` is answered one cycle later by the queue's ring settings and
//! its doorbells' pointers. `hold` keeps further visits waiting; while `resting`, the parent may name a
//! queue in `configure_queue`, read its state one cycle later, and then `configure` (with `restart`:
//! pointers to 0; with `clear`: its count of fetches too) or `fail` (an entry asked for did not come).
//!
//! Latency: 6 cycles from `rang` to `request`. Throughput: a visit every 4 cycles, a queue alone
//! included. Reset forgets the list; every queue is to be configured after it.

use rust_hdl::prelude::*;

use super::entry_assembler::{CLIENT_CREDIT_BITS, CONTROL_CREDIT_BITS};
use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::ram::LutRam;
use crate::prim::stream::StreamOut;
use crate::records::ReadRequest;
use crate::sizes::Sizes;

logic_record! {
    /// A queue's submission ring, as far as fetching goes.
    FetchState: 48 {
        /// Next entry to ask for.
        sq_head = 16,
        /// Next entry to reserve in the completion ring.
        cq_reserved = 16,
        /// Entries asked for and not failed, modulo 2^16.
        asked = 16,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    /// Waits for a queue in the list.
    Pick,
    /// The queue's pointers are there.
    Look,
    /// Decides how many entries.
    Judge,
    /// Asks for them.
    Ask,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct FetchScheduler {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    /// Fetching is allowed.
    pub enable: Signal<In, bool>,
    pub rang: Signal<In, bool>,
    pub bad: Signal<In, bool>,
    pub rang_queue: Signal<In, Bits<8>>,
    pub rang_is_head: Signal<In, bool>,
    pub control_returned: Signal<In, bool>,
    pub client_returned: Signal<In, bool>,
    pub look_queue: Signal<Out, Bits<8>>,
    pub sq_base: Signal<In, Bits<64>>,
    pub sq_size_z: Signal<In, Bits<16>>,
    pub cq_size_z: Signal<In, Bits<16>>,
    pub queue_enable: Signal<In, bool>,
    pub sq_tail: Signal<In, Bits<16>>,
    pub cq_head: Signal<In, Bits<16>>,
    pub request: StreamOut<ReadRequest>,
    /// Bit i: queue i is stopped.
    pub stopped: Signal<Out, Bits<32>>,
    pub hold: Signal<In, bool>,
    pub resting: Signal<Out, bool>,
    pub state_data: Signal<Out, FetchState>,
    pub configure: Signal<In, bool>,
    pub configure_queue: Signal<In, Bits<8>>,
    pub restart: Signal<In, bool>,
    pub clear: Signal<In, bool>,
    pub fail: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    list: Fifo<Bits<8>>,
    states: LutRam<FetchState>,
    state: DFF<State>,
    listed: DFF<Bits<32>>,
    /// Bit i: queue i found no room in its completion ring, or is being visited.
    starved: DFF<Bits<32>>,
    stopped_queues: DFF<Bits<32>>,
    /// A doorbell's queue, to be listed.
    wake: DFF<bool>,
    wake_queue: DFF<Bits<8>>,
    wake_is_head: DFF<bool>,
    control_credits: DFF<Bits<8>>,
    client_credits: DFF<Bits<8>>,
    queue: DFF<Bits<8>>,
    is_control: DFF<bool>,
    now: DFF<FetchState>,
    sq_size: DFF<Bits<16>>,
    cq_size: DFF<Bits<16>>,
    tail: DFF<Bits<16>>,
    limit: DFF<Bits<16>>,
    head_one: DFF<Bits<16>>,
    reserved_one: DFF<Bits<16>>,
    allowed: DFF<bool>,
    page: DFF<Bits<52>>,
    next: DFF<FetchState>,
    entries: DFF<Bits<2>>,
    asked: DFF<ReadRequest>,
    asked_valid: DFF<bool>,

    pick: Signal<Local, bool>,
    visited: Signal<Local, Bits<8>>,
    one_entry: Signal<Local, bool>,
    two_entries: Signal<Local, bool>,
    more: Signal<Local, bool>,
    blocked: Signal<Local, bool>,
    head_two: Signal<Local, Bits<16>>,
    reserved_two: Signal<Local, Bits<16>>,
    head_next: Signal<Local, Bits<16>>,
    reserved_next: Signal<Local, Bits<16>>,
    credit: Signal<Local, Bits<8>>,
    spent_control: Signal<Local, Bits<8>>,
    spent_client: Signal<Local, Bits<8>>,
    relist: Signal<Local, bool>,
    wake_now: Signal<Local, bool>,
    look_state: Signal<Local, FetchState>,
    read: Signal<Local, FetchState>,
    base: Signal<Local, Bits<64>>,
    head_low: Signal<Local, Bits<16>>,
    low_bits: Signal<Local, Bits<6>>,
    queue_bit: Signal<Local, Bits<32>>,
    push_bit: Signal<Local, Bits<32>>,
    bad_bit: Signal<Local, Bits<32>>,
    configure_bit: Signal<Local, Bits<32>>,
    one32: Constant<Bits<32>>,
    zero32: Constant<Bits<32>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    two16: Constant<Bits<16>>,
    zero8: Constant<Bits<8>>,
    one8: Constant<Bits<8>>,
    two8: Constant<Bits<8>>,
    no_entry: Constant<Bits<2>>,
    one_entry_count: Constant<Bits<2>>,
    two_entry_count: Constant<Bits<2>>,
    page_end: Constant<Bits<6>>,
    entry_bytes: Constant<Bits<8>>,
    pair_bytes: Constant<Bits<8>>,
    all_control_credits: Constant<Bits<8>>,
    all_client_credits: Constant<Bits<8>>,
}

impl FetchScheduler {
    /// For 2^`queue_bits` queues.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((2..=5).contains(&sizes.queue_bits), "2^{} queues", sizes.queue_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            enable: Default::default(),
            rang: Default::default(),
            bad: Default::default(),
            rang_queue: Default::default(),
            rang_is_head: Default::default(),
            control_returned: Default::default(),
            client_returned: Default::default(),
            look_queue: Default::default(),
            sq_base: Default::default(),
            sq_size_z: Default::default(),
            cq_size_z: Default::default(),
            queue_enable: Default::default(),
            sq_tail: Default::default(),
            cq_head: Default::default(),
            request: Default::default(),
            stopped: Default::default(),
            hold: Default::default(),
            resting: Default::default(),
            state_data: Default::default(),
            configure: Default::default(),
            configure_queue: Default::default(),
            restart: Default::default(),
            clear: Default::default(),
            fail: Default::default(),
            idle: Default::default(),
            list: Fifo::lut(sizes.queue_bits, 1),
            states: LutRam::new(sizes.queue_bits),
            state: Default::default(),
            listed: Default::default(),
            starved: Default::default(),
            stopped_queues: Default::default(),
            wake: Default::default(),
            wake_queue: Default::default(),
            wake_is_head: Default::default(),
            control_credits: Default::default(),
            client_credits: Default::default(),
            queue: Default::default(),
            is_control: Default::default(),
            now: Default::default(),
            sq_size: Default::default(),
            cq_size: Default::default(),
            tail: Default::default(),
            limit: Default::default(),
            head_one: Default::default(),
            reserved_one: Default::default(),
            allowed: Default::default(),
            page: Default::default(),
            next: Default::default(),
            entries: Default::default(),
            asked: Default::default(),
            asked_valid: Default::default(),
            pick: Default::default(),
            visited: Default::default(),
            one_entry: Default::default(),
            two_entries: Default::default(),
            more: Default::default(),
            blocked: Default::default(),
            head_two: Default::default(),
            reserved_two: Default::default(),
            head_next: Default::default(),
            reserved_next: Default::default(),
            credit: Default::default(),
            spent_control: Default::default(),
            spent_client: Default::default(),
            relist: Default::default(),
            wake_now: Default::default(),
            look_state: Default::default(),
            read: Default::default(),
            base: Default::default(),
            head_low: Default::default(),
            low_bits: Default::default(),
            queue_bit: Default::default(),
            push_bit: Default::default(),
            bad_bit: Default::default(),
            configure_bit: Default::default(),
            one32: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            two16: Constant::new(2u64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            two8: Constant::new(2u64.to_bits()),
            no_entry: Constant::new(0u64.to_bits()),
            one_entry_count: Constant::new(1u64.to_bits()),
            two_entry_count: Constant::new(2u64.to_bits()),
            page_end: Constant::new(63u64.to_bits()),
            entry_bytes: Constant::new(64u64.to_bits()),
            pair_bytes: Constant::new(128u64.to_bits()),
            all_control_credits: Constant::new((1u64 << CONTROL_CREDIT_BITS).to_bits()),
            all_client_credits: Constant::new((1u64 << CLIENT_CREDIT_BITS).to_bits()),
        }
    }
}
