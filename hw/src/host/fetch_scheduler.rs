//! Chooses which queue's entries are fetched next, and asks for them.
//!
//! A visit takes the first queue of the list, looks at its pointers, asks for one or two entries, and
//! puts the queue back at the end while it has more. Entries are asked for only while there is room for
//! their completions (`cq_reserved` may not come up to `cq_head`, NVMe's full rule) and for themselves
//! (credits, given back by `control_returned` and `client_returned`). A burst never crosses the ring's
//! end or a 4 KiB border. A queue stopped by `bad` or `fail` is not fetched from until it is configured
//! with `restart`.
//!
//! The parent keeps the tables: `look_queue` is answered one cycle later by the queue's ring settings and
//! its doorbells' pointers. `hold` keeps further visits waiting; while it is set and `resting`, the
//! parent names a queue in `configure_queue`, reads its state one cycle later, and then may `configure`
//! it (with `restart`: pointers to 0; with `clear`: its count of fetches too) or `fail` an entry that was
//! asked for.
//!
//! Latency: 6 cycles from `rang` to `request`. Throughput: a visit every 4 cycles, to a queue alone too.
//! Reset forgets the list; every queue is to be configured after it.

use rust_hdl::prelude::*;

use super::entry_assembler::{CLIENT_CREDIT_BITS, CONTROL_CREDIT_BITS};
use super::fetch_list::FetchList;
use crate::logic_record;
use crate::prim::ram::LutRam;
use crate::prim::stream::StreamOut;
use crate::records::ReadRequest;
use crate::sizes::Sizes;

logic_record! {
    /// How far a queue's entries have been asked for.
    FetchState: 48 {
        /// Next entry to ask for.
        sq_head = 16,
        /// Next entry to reserve in the completion ring.
        cq_reserved = 16,
        /// Entries asked for that did not fail, modulo 2^16.
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
    /// The request is offered: writes the state.
    Ask,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct FetchScheduler {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
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
    pub configure_queue: Signal<In, Bits<8>>,
    pub configure: Signal<In, bool>,
    pub restart: Signal<In, bool>,
    pub clear: Signal<In, bool>,
    pub fail: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    list: FetchList,
    states: LutRam<FetchState>,
    stopped_queues: DFF<Bits<32>>,
    control_credits: DFF<Bits<8>>,
    client_credits: DFF<Bits<8>>,
    state: DFF<State>,
    queue: DFF<Bits<8>>,
    is_control: DFF<bool>,
    allowed: DFF<bool>,
    current: DFF<FetchState>,
    tail: DFF<Bits<16>>,
    cq_limit: DFF<Bits<16>>,
    sq_size_register: DFF<Bits<16>>,
    cq_size_register: DFF<Bits<16>>,
    /// One entry on.
    head_one: DFF<Bits<16>>,
    reserved_one: DFF<Bits<16>>,
    page: DFF<Bits<52>>,
    /// State after the visit.
    following: DFF<FetchState>,
    asks: DFF<bool>,
    asked: DFF<ReadRequest>,
    asked_valid: DFF<bool>,

    pick: Signal<Local, bool>,
    work: Signal<Local, bool>,
    blocked: Signal<Local, bool>,
    one_entry: Signal<Local, bool>,
    two_entries: Signal<Local, bool>,
    credit: Signal<Local, Bits<8>>,
    spent: Signal<Local, Bits<8>>,
    spent_control: Signal<Local, Bits<8>>,
    spent_client: Signal<Local, Bits<8>>,
    head_two: Signal<Local, Bits<16>>,
    reserved_two: Signal<Local, Bits<16>>,
    head_next: Signal<Local, Bits<16>>,
    more: Signal<Local, bool>,
    look_state: Signal<Local, FetchState>,
    head_now: Signal<Local, Bits<16>>,
    in_page: Signal<Local, Bits<6>>,
    base: Signal<Local, Bits<64>>,
    look_head: Signal<Local, Bits<16>>,
    rang_bit: Signal<Local, Bits<32>>,
    configure_bit: Signal<Local, Bits<32>>,
    one32: Constant<Bits<32>>,
    zero32: Constant<Bits<32>>,
    one16: Constant<Bits<16>>,
    two16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    zero8: Constant<Bits<8>>,
    one8: Constant<Bits<8>>,
    two8: Constant<Bits<8>>,
    page_end: Constant<Bits<6>>,
    entry_bytes: Constant<Bits<8>>,
    pair_bytes: Constant<Bits<8>>,
    all_control_credits: Constant<Bits<8>>,
    all_client_credits: Constant<Bits<8>>,
}

impl FetchScheduler {
    /// For 2^`queue_bits` queues.
    pub fn new(sizes: &Sizes) -> Self {
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
            configure_queue: Default::default(),
            configure: Default::default(),
            restart: Default::default(),
            clear: Default::default(),
            fail: Default::default(),
            idle: Default::default(),
            list: FetchList::new(sizes),
            states: LutRam::new(sizes.queue_bits),
            stopped_queues: Default::default(),
            control_credits: Default::default(),
            client_credits: Default::default(),
            state: Default::default(),
            queue: Default::default(),
            is_control: Default::default(),
            allowed: Default::default(),
            current: Default::default(),
            tail: Default::default(),
            cq_limit: Default::default(),
            sq_size_register: Default::default(),
            cq_size_register: Default::default(),
            head_one: Default::default(),
            reserved_one: Default::default(),
            page: Default::default(),
            following: Default::default(),
            asks: Default::default(),
            asked: Default::default(),
            asked_valid: Default::default(),
            pick: Default::default(),
            work: Default::default(),
            blocked: Default::default(),
            one_entry: Default::default(),
            two_entries: Default::default(),
            credit: Default::default(),
            spent: Default::default(),
            spent_control: Default::default(),
            spent_client: Default::default(),
            head_two: Default::default(),
            reserved_two: Default::default(),
            head_next: Default::default(),
            more: Default::default(),
            look_state: Default::default(),
            head_now: Default::default(),
            in_page: Default::default(),
            base: Default::default(),
            look_head: Default::default(),
            rang_bit: Default::default(),
            configure_bit: Default::default(),
            one32: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            two16: Constant::new(2u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            two8: Constant::new(2u64.to_bits()),
            page_end: Constant::new(63u64.to_bits()),
            entry_bytes: Constant::new(64u64.to_bits()),
            pair_bytes: Constant::new(128u64.to_bits()),
            all_control_credits: Constant::new((1u64 << CONTROL_CREDIT_BITS).to_bits()),
            all_client_credits: Constant::new((1u64 << CLIENT_CREDIT_BITS).to_bits()),
        }
    }
}

impl Logic for FetchScheduler {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            stopped_queues,
            control_credits,
            client_credits,
            state,
            queue,
            is_control,
            allowed,
            current,
            tail,
            cq_limit,
            sq_size_register,
            cq_size_register,
            head_one,
            reserved_one,
            page,
            following,
            asks,
            asked,
            asked_valid
        );
        self.list.clock.next = self.clock.val();
        self.list.reset.next = self.reset.val();
        self.list.rang.next = self.rang.val();
        self.list.rang_queue.next = self.rang_queue.val();
        self.list.rang_is_head.next = self.rang_is_head.val();
        self.list.visited.next = self.queue.q.val();
        self.list.relist.next = false;
        self.list.fed.next = false;
        self.states.clock.next = self.clock.val();
        self.request.valid.next = self.asked_valid.q.val();
        self.request.data.next = self.asked.q.val();
        if self.request.ready.val() {
            self.asked_valid.d.next = false;
        }
        self.pick.next = (self.state.q.val() == State::Pick)
            & self.list.valid.val()
            & self.enable.val()
            & !self.hold.val()
            & (!self.asked_valid.q.val() | self.request.ready.val());
        self.list.pick.next = self.pick.val();
        self.look_queue.next = self.list.queue.val();
        if self.hold.val() {
            self.look_queue.next = self.configure_queue.val();
        }
        self.states.read_address.next = bit_cast::<16, 8>(self.look_queue.val());
        self.look_state.next = self.states.read_data.val();
        self.state_data.next = self.states.read_data.val();
        self.look_head.next = self.look_state.val().sq_head;
        self.base.next = self.sq_base.val();

        // What a visit may ask for.
        self.head_now.next = self.current.q.val().sq_head;
        self.in_page.next = self.head_now.val().get_bits::<6>(0);
        self.work.next = (self.tail.q.val() != self.head_now.val()) & self.allowed.q.val();
        self.blocked.next = self.work.val() & (self.reserved_one.q.val() == self.cq_limit.q.val());
        self.credit.next = self.client_credits.q.val();
        if self.is_control.q.val() {
            self.credit.next = self.control_credits.q.val();
        }
        self.head_two.next = self.head_one.q.val() + self.one16.val();
        if (self.head_one.q.val() == self.sq_size_register.q.val()) {
            self.head_two.next = self.zero16.val();
        }
        self.reserved_two.next = self.reserved_one.q.val() + self.one16.val();
        if (self.reserved_one.q.val() == self.cq_size_register.q.val()) {
            self.reserved_two.next = self.zero16.val();
        }
        self.one_entry.next = self.work.val() & !self.blocked.val() & (self.credit.val() != self.zero8.val());
        self.two_entries.next = self.one_entry.val()
            & (self.credit.val() != self.one8.val())
            & (self.head_one.q.val() != self.tail.q.val())
            & (self.head_now.val() != self.sq_size_register.q.val())
            & (self.in_page.val() != self.page_end.val())
            & (self.reserved_two.val() != self.cq_limit.q.val());
        self.head_next.next = self.head_one.q.val();
        self.more.next = (self.head_one.q.val() != self.tail.q.val());
        if self.two_entries.val() {
            self.head_next.next = self.head_two.val();
            self.more.next = (self.head_two.val() != self.tail.q.val());
        }

        self.states.write.next = false;
        self.states.write_address.next = bit_cast::<16, 8>(self.queue.q.val());
        self.states.write_data.next = self.following.q.val();
        self.spent.next = self.zero8.val();
        match self.state.q.val() {
            State::Pick => {
                self.queue.d.next = self.list.queue.val();
                self.is_control.d.next = (self.list.queue.val() == self.zero8.val());
                if self.pick.val() {
                    self.state.d.next = State::Look;
                }
            }
            State::Look => {
                self.allowed.d.next = self.queue_enable.val()
                    & !self.stopped_queues.q.val().get_bit(self.queue.q.val().index());
                self.current.d.next = self.look_state.val();
                self.tail.d.next = self.sq_tail.val();
                self.cq_limit.d.next = self.cq_head.val();
                self.sq_size_register.d.next = self.sq_size_z.val();
                self.cq_size_register.d.next = self.cq_size_z.val();
                self.head_one.d.next = self.look_state.val().sq_head + self.one16.val();
                if (self.look_state.val().sq_head == self.sq_size_z.val()) {
                    self.head_one.d.next = self.zero16.val();
                }
                self.reserved_one.d.next = self.look_state.val().cq_reserved + self.one16.val();
                if (self.look_state.val().cq_reserved == self.cq_size_z.val()) {
                    self.reserved_one.d.next = self.zero16.val();
                }
                // Rings begin at a page, so the lowest 12 bits are the entry's alone.
                self.page.d.next = self.base.val().get_bits::<52>(12)
                    + bit_cast::<52, 10>(self.look_head.val().get_bits::<10>(6));
                self.state.d.next = State::Judge;
            }
            State::Judge => {
                self.asks.d.next = self.one_entry.val();
                self.following.d.next.sq_head = self.head_next.val();
                self.following.d.next.cq_reserved = self.reserved_one.q.val();
                self.following.d.next.asked = self.current.q.val().asked + self.one16.val();
                if self.one_entry.val() {
                    self.spent.next = self.one8.val();
                }
                if self.two_entries.val() {
                    self.spent.next = self.two8.val();
                    self.following.d.next.cq_reserved = self.reserved_two.val();
                    self.following.d.next.asked = self.current.q.val().asked + self.two16.val();
                }
                // Without a credit it comes round again; without room, a completion head brings it back.
                self.list.fed.next = !self.blocked.val();
                self.list.relist.next =
                    self.work.val() & !self.blocked.val() & (!self.one_entry.val() | self.more.val());
                self.state.d.next = State::Ask;
                if self.one_entry.val() {
                    self.asked_valid.d.next = true;
                    self.asked.d.next.address = (bit_cast::<64, 52>(self.page.q.val()) << 12)
                        | (bit_cast::<64, 6>(self.in_page.val()) << 6);
                    self.asked.d.next.bytes = self.entry_bytes.val();
                    self.asked.d.next.tag = self.queue.q.val();
                    if self.two_entries.val() {
                        self.asked.d.next.bytes = self.pair_bytes.val();
                    }
                }
            }
            State::Ask => {
                self.states.write.next = self.asks.q.val();
                self.state.d.next = State::Pick;
            }
            _ => {}
        }
        self.spent_control.next = self.zero8.val();
        self.spent_client.next = self.spent.val();
        if self.is_control.q.val() {
            self.spent_control.next = self.spent.val();
            self.spent_client.next = self.zero8.val();
        }
        self.control_credits.d.next = self.control_credits.q.val() - self.spent_control.val();
        if self.control_returned.val() {
            self.control_credits.d.next =
                ((self.control_credits.q.val() - self.spent_control.val()) + self.one8.val());
        }
        self.client_credits.d.next = self.client_credits.q.val() - self.spent_client.val();
        if self.client_returned.val() {
            self.client_credits.d.next =
                ((self.client_credits.q.val() - self.spent_client.val()) + self.one8.val());
        }

        // The parent's hand, while no visit is under way.
        self.rang_bit.next = (self.one32.val() << bit_cast::<32, 8>(self.rang_queue.val()));
        self.configure_bit.next = (self.one32.val() << bit_cast::<32, 8>(self.configure_queue.val()));
        if self.bad.val() {
            self.stopped_queues.d.next = (self.stopped_queues.q.val() | self.rang_bit.val());
        }
        if self.fail.val() {
            self.stopped_queues.d.next = (self.stopped_queues.q.val() | self.configure_bit.val());
            self.states.write.next = true;
            self.states.write_address.next = bit_cast::<16, 8>(self.configure_queue.val());
            self.states.write_data.next.sq_head = self.look_state.val().sq_head;
            self.states.write_data.next.asked = self.look_state.val().asked - self.one16.val();
            self.states.write_data.next.cq_reserved = self.look_state.val().cq_reserved - self.one16.val();
            if (self.look_state.val().cq_reserved == self.zero16.val()) {
                self.states.write_data.next.cq_reserved = self.cq_size_z.val();
            }
        }
        if self.configure.val() & self.restart.val() {
            self.stopped_queues.d.next = (self.stopped_queues.q.val() & (!self.configure_bit.val()));
            self.states.write.next = true;
            self.states.write_address.next = bit_cast::<16, 8>(self.configure_queue.val());
            self.states.write_data.next.sq_head = self.zero16.val();
            self.states.write_data.next.cq_reserved = self.zero16.val();
            self.states.write_data.next.asked = self.look_state.val().asked;
            if self.clear.val() {
                self.states.write_data.next.asked = self.zero16.val();
            }
        }
        self.stopped.next = self.stopped_queues.q.val();
        self.resting.next = (self.state.q.val() == State::Pick);
        self.idle.next = (self.state.q.val() == State::Pick)
            & (self.list.idle.val() | !self.enable.val())
            & !self.asked_valid.q.val();

        if self.reset.val() {
            self.state.d.next = State::Pick;
            self.asked_valid.d.next = false;
            self.stopped_queues.d.next = self.zero32.val();
            self.control_credits.d.next = self.all_control_credits.val();
            self.client_credits.d.next = self.all_client_credits.val();
        }
    }
}
