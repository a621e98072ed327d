//! Chooses which queue's entries are fetched next, and asks for them.
//!
//! A visit takes the first queue of the list, looks at its pointers, asks for one or two entries, and
//! puts the queue back at the end while it has more. Entries are asked for only while there is room for
//! their completions (`cq_reserved` may not come up to `cq_head`, NVMe's full rule) and for themselves
//! (credits, given back by `control_returned` and `client_returned`). A burst never crosses the ring's
//! end or a 4 KiB border, nor do its completions their ring's end. A queue stopped by `bad` or `fail` is
//! not fetched from until it is configured with `restart`.
//!
//! A queue in `shut` is not fetched from either; if it is also `woken`, `reopened` tells its bit once all that was asked
//! of it has been taken or given back. One that is `careful` is asked for a burst when there is none on its way. Both
//! are in the list meanwhile.
//!
//! The parent keeps the tables: `look_queue` is answered one cycle later by the queue's ring settings and its
//! doorbells' pointers. `hold` keeps further visits waiting; while it is set and `resting`, the parent names a queue
//! in `configure_queue`, reads its state one cycle later, and two cycles after that may `fail` the last entry that
//! was asked for, or `give_back` it, to be asked for anew; or `restart` it (pointers to 0; with `clear`: its count of
//! fetches too).
//!
//! Latency: 7 cycles from `rang` to `request`. Throughput: a visit every 4 cycles, to a queue alone too.
//! Reset forgets the list; every queue is to be configured after it.

use rust_hdl::prelude::*;

use super::entry_assembler::{CLIENT_CREDIT_BITS, CONTROL_CREDIT_BITS};
use super::fetch_credits::FetchCredits;
use super::fetch_list::FetchList;
use crate::logic_record;
use crate::prim::output_buffer::OutputBuffer;
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
    pub shut: Signal<In, Bits<32>>,
    pub woken: Signal<In, Bits<32>>,
    pub careful: Signal<In, Bits<32>>,
    pub reopened: Signal<Out, Bits<32>>,
    pub awaken_valid: Signal<In, bool>,
    pub awaken_queue: Signal<In, Bits<8>>,
    pub awaken_taken: Signal<Out, bool>,
    pub look_queue: Signal<Out, Bits<8>>,
    /// The head of what was taken, a cycle later.
    pub taken_head: Signal<In, Bits<16>>,
    pub sq_base: Signal<In, Bits<64>>,
    pub sq_size_z: Signal<In, Bits<16>>,
    pub cq_size_z: Signal<In, Bits<16>>,
    pub queue_enable: Signal<In, bool>,
    pub sq_tail: Signal<In, Bits<16>>,
    pub cq_head: Signal<In, Bits<16>>,
    pub request: StreamOut<ReadRequest>,
    /// Queue 0 is stopped.
    pub control_stopped: Signal<Out, bool>,
    /// The queue that was in `configure_queue` a cycle ago is stopped.
    pub stopped_here: Signal<Out, bool>,
    pub hold: Signal<In, bool>,
    pub resting: Signal<Out, bool>,
    pub state_data: Signal<Out, FetchState>,
    pub configure_queue: Signal<In, Bits<8>>,
    pub restart: Signal<In, bool>,
    /// The bit of the queue that is restarted.
    pub restarted: Signal<Out, Bits<32>>,
    pub clear: Signal<In, bool>,
    pub fail: Signal<In, bool>,
    pub give_back: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    list: FetchList,
    states: LutRam<FetchState>,
    control_credits: FetchCredits,
    client_credits: FetchCredits,
    requests: OutputBuffer<ReadRequest>,
    stopped_queues: DFF<Bits<32>>,
    bad_bit: DFF<Bits<32>>,
    configure_bit: DFF<Bits<32>>,
    /// A visit begins if there is room for its request and a queue in the list.
    takes: DFF<bool>,
    held: DFF<bool>,
    // A visit's four cycles: it picks while `free`, then these.
    free: DFF<bool>,
    looking: DFF<bool>,
    judging: DFF<bool>,
    asking: DFF<bool>,
    queue: DFF<Bits<8>>,
    queue_bit: DFF<Bits<32>>,
    is_control: DFF<bool>,
    // Looked up, and one operation further. The entry before the tail, and the one before the head of the
    // completion ring, are where to stop.
    base1: DFF<Bits<52>>,
    head1: DFF<Bits<16>>,
    head_plus1: DFF<Bits<16>>,
    sq_end1: DFF<bool>,
    sq_size1: DFF<Bits<16>>,
    last_entry1: DFF<Bits<16>>,
    work1: DFF<bool>,
    enable1: DFF<bool>,
    stopped1: DFF<bool>,
    shut1: DFF<bool>,
    woken1: DFF<bool>,
    careful1: DFF<bool>,
    drained1: DFF<bool>,
    reserved1: DFF<Bits<16>>,
    reserved_plus1: DFF<Bits<16>>,
    cq_end1: DFF<bool>,
    cq_size1: DFF<Bits<16>>,
    last_place1: DFF<Bits<16>>,
    asked1: DFF<Bits<16>>,
    // Judged: what one entry and two come up to, and the state after them.
    work2: DFF<bool>,
    credit2: DFF<bool>,
    pair2: DFF<bool>,
    one_blocked2: DFF<bool>,
    two_blocked2: DFF<bool>,
    one_last2: DFF<bool>,
    more2: DFF<bool>,
    retry2: DFF<bool>,
    waits2: DFF<bool>,
    reopens2: DFF<bool>,
    page2: DFF<Bits<52>>,
    in_page2: DFF<Bits<6>>,
    head_one2: DFF<Bits<16>>,
    head_two2: DFF<Bits<16>>,
    sq_wraps2: DFF<bool>,
    reserved_one2: DFF<Bits<16>>,
    reserved_two2: DFF<Bits<16>>,
    cq_wraps2: DFF<bool>,
    asked_one2: DFF<Bits<16>>,
    asked_two2: DFF<Bits<16>>,
    // The state before an entry that failed, or goes back.
    head_before2: DFF<Bits<16>>,
    reserved_before2: DFF<Bits<16>>,
    asked_before2: DFF<Bits<16>>,

    may_pick: Signal<Local, bool>,
    pick: Signal<Local, bool>,
    free_next: Signal<Local, bool>,
    credit: Signal<Local, bool>,
    pair: Signal<Local, bool>,
    pairs: Signal<Local, bool>,
    open: Signal<Local, bool>,
    works: Signal<Local, bool>,
    one_blocked: Signal<Local, bool>,
    two_blocked: Signal<Local, bool>,
    one_last: Signal<Local, bool>,
    two_last: Signal<Local, bool>,
    takes_two: Signal<Local, bool>,
    one_entry: Signal<Local, bool>,
    two_entries: Signal<Local, bool>,
    look_state: Signal<Local, FetchState>,
    look_head: Signal<Local, Bits<16>>,
    list_short: Signal<Local, Bits<5>>,
    configure_short: Signal<Local, Bits<5>>,
    rang_short: Signal<Local, Bits<5>>,
    stopped_queue: Signal<Local, Bits<32>>,
    stopped_look: Signal<Local, Bits<32>>,
    hand: Signal<Local, FetchState>,
    head_now: Signal<Local, Bits<16>>,
    in_page: Signal<Local, Bits<6>>,
    base: Signal<Local, Bits<64>>,
    following: Signal<Local, FetchState>,
    stops: Signal<Local, Bits<32>>,
    restarts: Signal<Local, Bits<32>>,
    one32: Constant<Bits<32>>,
    zero32: Constant<Bits<32>>,
    one16: Constant<Bits<16>>,
    two16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    control_queue: Constant<Bits<8>>,
    page_end: Constant<Bits<6>>,
    entry_bytes: Constant<Bits<8>>,
    pair_bytes: Constant<Bits<8>>,
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
            shut: Default::default(),
            woken: Default::default(),
            careful: Default::default(),
            reopened: Default::default(),
            awaken_valid: Default::default(),
            awaken_queue: Default::default(),
            awaken_taken: Default::default(),
            look_queue: Default::default(),
            taken_head: Default::default(),
            sq_base: Default::default(),
            sq_size_z: Default::default(),
            cq_size_z: Default::default(),
            queue_enable: Default::default(),
            sq_tail: Default::default(),
            cq_head: Default::default(),
            request: Default::default(),
            control_stopped: Default::default(),
            stopped_here: Default::default(),
            hold: Default::default(),
            resting: Default::default(),
            state_data: Default::default(),
            configure_queue: Default::default(),
            restart: Default::default(),
            restarted: Default::default(),
            clear: Default::default(),
            fail: Default::default(),
            give_back: Default::default(),
            idle: Default::default(),
            list: FetchList::new(sizes),
            states: LutRam::new(sizes.queue_bits),
            control_credits: FetchCredits::new(CONTROL_CREDIT_BITS),
            client_credits: FetchCredits::new(CLIENT_CREDIT_BITS),
            requests: Default::default(),
            stopped_queues: Default::default(),
            bad_bit: Default::default(),
            configure_bit: Default::default(),
            takes: Default::default(),
            held: Default::default(),
            free: Default::default(),
            looking: Default::default(),
            judging: Default::default(),
            asking: Default::default(),
            queue: Default::default(),
            queue_bit: Default::default(),
            is_control: Default::default(),
            base1: Default::default(),
            head1: Default::default(),
            head_plus1: Default::default(),
            sq_end1: Default::default(),
            sq_size1: Default::default(),
            last_entry1: Default::default(),
            work1: Default::default(),
            enable1: Default::default(),
            stopped1: Default::default(),
            shut1: Default::default(),
            woken1: Default::default(),
            careful1: Default::default(),
            drained1: Default::default(),
            reserved1: Default::default(),
            reserved_plus1: Default::default(),
            cq_end1: Default::default(),
            cq_size1: Default::default(),
            last_place1: Default::default(),
            asked1: Default::default(),
            work2: Default::default(),
            credit2: Default::default(),
            pair2: Default::default(),
            one_blocked2: Default::default(),
            two_blocked2: Default::default(),
            one_last2: Default::default(),
            more2: Default::default(),
            retry2: Default::default(),
            waits2: Default::default(),
            reopens2: Default::default(),
            page2: Default::default(),
            in_page2: Default::default(),
            head_one2: Default::default(),
            head_two2: Default::default(),
            sq_wraps2: Default::default(),
            reserved_one2: Default::default(),
            reserved_two2: Default::default(),
            cq_wraps2: Default::default(),
            asked_one2: Default::default(),
            asked_two2: Default::default(),
            head_before2: Default::default(),
            reserved_before2: Default::default(),
            asked_before2: Default::default(),
            may_pick: Default::default(),
            pick: Default::default(),
            free_next: Default::default(),
            credit: Default::default(),
            pair: Default::default(),
            pairs: Default::default(),
            open: Default::default(),
            works: Default::default(),
            one_blocked: Default::default(),
            two_blocked: Default::default(),
            one_last: Default::default(),
            two_last: Default::default(),
            takes_two: Default::default(),
            one_entry: Default::default(),
            two_entries: Default::default(),
            look_state: Default::default(),
            look_head: Default::default(),
            list_short: Default::default(),
            configure_short: Default::default(),
            rang_short: Default::default(),
            stopped_queue: Default::default(),
            stopped_look: Default::default(),
            hand: Default::default(),
            head_now: Default::default(),
            in_page: Default::default(),
            base: Default::default(),
            following: Default::default(),
            stops: Default::default(),
            restarts: Default::default(),
            one32: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            two16: Constant::new(2u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            control_queue: Constant::new(0u64.to_bits()),
            page_end: Constant::new(63u64.to_bits()),
            entry_bytes: Constant::new(64u64.to_bits()),
            pair_bytes: Constant::new(128u64.to_bits()),
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
            bad_bit,
            configure_bit,
            takes,
            held,
            free,
            looking,
            judging,
            asking,
            queue,
            queue_bit,
            is_control,
            base1,
            head1,
            head_plus1,
            sq_end1,
            sq_size1,
            last_entry1,
            work1,
            enable1,
            stopped1,
            shut1,
            woken1,
            careful1,
            drained1,
            reserved1,
            reserved_plus1,
            cq_end1,
            cq_size1,
            last_place1,
            asked1,
            work2,
            credit2,
            pair2,
            one_blocked2,
            two_blocked2,
            one_last2,
            more2,
            retry2,
            waits2,
            reopens2,
            page2,
            in_page2,
            head_one2,
            head_two2,
            sq_wraps2,
            reserved_one2,
            reserved_two2,
            cq_wraps2,
            asked_one2,
            asked_two2,
            head_before2,
            reserved_before2,
            asked_before2
        );
        self.list.clock.next = self.clock.val();
        self.list.reset.next = self.reset.val();
        self.states.clock.next = self.clock.val();
        self.control_credits.clock.next = self.clock.val();
        self.control_credits.reset.next = self.reset.val();
        self.client_credits.clock.next = self.clock.val();
        self.client_credits.reset.next = self.reset.val();
        self.requests.clock.next = self.clock.val();
        self.requests.reset.next = self.reset.val();
        self.request.valid.next = self.requests.out.valid.val();
        self.request.data.next = self.requests.out.data.val();
        self.requests.out.ready.next = self.request.ready.val();

        // Pick. The queue stays until the next visit.
        self.held.d.next = self.hold.val();
        self.may_pick.next = self.takes.q.val() & self.requests.room.val();
        self.pick.next = self.may_pick.val() & self.list.valid.val();
        self.free_next.next = (self.free.q.val() & !self.pick.val()) | self.asking.q.val();
        self.free.d.next = self.free_next.val();
        self.takes.d.next = self.free_next.val() & self.enable.val() & !self.hold.val();
        self.looking.d.next = self.pick.val();
        self.judging.d.next = self.looking.q.val();
        self.asking.d.next = self.judging.q.val();
        self.list_short.next = bit_cast::<5, 8>(self.list.queue.val());
        if self.free.q.val() {
            self.queue_bit.d.next = (self.one32.val() << bit_cast::<32, 5>(self.list_short.val()));
            self.queue.d.next = self.list.queue.val();
            self.is_control.d.next = (self.list.queue.val() == self.control_queue.val());
        }
        self.look_queue.next = self.list.queue.val();
        if self.held.q.val() {
            self.look_queue.next = self.configure_queue.val();
        }
        self.states.read_address.next = bit_cast::<16, 8>(self.look_queue.val());

        // Look: one operation on what comes out of the tables.
        self.look_state.next = self.states.read_data.val();
        self.state_data.next = self.states.read_data.val();
        self.look_head.next = self.look_state.val().sq_head;
        self.base.next = self.sq_base.val();
        self.base1.d.next = self.base.val().get_bits::<52>(12);
        self.head1.d.next = self.look_head.val();
        self.head_plus1.d.next = self.look_head.val() + self.one16.val();
        self.sq_end1.d.next = (self.look_head.val() == self.sq_size_z.val());
        self.sq_size1.d.next = self.sq_size_z.val();
        self.last_entry1.d.next = self.sq_tail.val() - self.one16.val();
        if (self.sq_tail.val() == self.zero16.val()) {
            self.last_entry1.d.next = self.sq_size_z.val();
        }
        self.work1.d.next = (self.sq_tail.val() != self.look_head.val());
        self.enable1.d.next = self.queue_enable.val();
        self.stopped_queue.next = self.stopped_queues.q.val() & self.queue_bit.q.val();
        self.stopped1.d.next = self.stopped_queue.val().any();
        self.shut1.d.next = (self.shut.val() & self.queue_bit.q.val()).any();
        self.woken1.d.next = (self.woken.val() & self.queue_bit.q.val()).any();
        self.careful1.d.next = (self.careful.val() & self.queue_bit.q.val()).any();
        self.drained1.d.next = (self.taken_head.val() == self.look_head.val());
        self.reserved1.d.next = self.look_state.val().cq_reserved;
        self.reserved_plus1.d.next = self.look_state.val().cq_reserved + self.one16.val();
        self.cq_end1.d.next = (self.look_state.val().cq_reserved == self.cq_size_z.val());
        self.cq_size1.d.next = self.cq_size_z.val();
        self.last_place1.d.next = self.cq_head.val() - self.one16.val();
        if (self.cq_head.val() == self.zero16.val()) {
            self.last_place1.d.next = self.cq_size_z.val();
        }
        self.asked1.d.next = self.look_state.val().asked;

        // Judge.
        self.head_now.next = self.head1.q.val();
        self.in_page.next = self.head_now.val().get_bits::<6>(0);
        self.open.next = self.judging.q.val()
            & self.work1.q.val()
            & self.enable1.q.val()
            & !self.stopped1.q.val()
            & !self.shut1.q.val();
        self.works.next = self.open.val() & (!self.careful1.q.val() | self.drained1.q.val());
        self.waits2.d.next = (self.open.val() & self.careful1.q.val() & !self.drained1.q.val())
            | (self.judging.q.val() & self.shut1.q.val() & self.woken1.q.val() & !self.drained1.q.val());
        self.reopens2.d.next =
            self.judging.q.val() & self.shut1.q.val() & self.woken1.q.val() & self.drained1.q.val();
        self.credit.next = self.client_credits.one.val();
        self.pair.next = self.client_credits.two.val();
        if self.is_control.q.val() {
            self.credit.next = self.control_credits.one.val();
            self.pair.next = self.control_credits.two.val();
        }
        self.work2.d.next = self.works.val();
        self.credit2.d.next = self.credit.val();
        self.pairs.next = self.pair.val()
            & !self.sq_end1.q.val()
            & !self.cq_end1.q.val()
            & (self.in_page.val() != self.page_end.val());
        self.pair2.d.next = self.pairs.val();
        self.one_blocked.next = (self.reserved1.q.val() == self.last_place1.q.val());
        self.two_blocked.next = (self.reserved_plus1.q.val() == self.last_place1.q.val());
        self.one_last.next = (self.head1.q.val() == self.last_entry1.q.val());
        self.two_last.next = (self.head_plus1.q.val() == self.last_entry1.q.val());
        self.one_blocked2.d.next = self.one_blocked.val();
        self.two_blocked2.d.next = self.two_blocked.val();
        self.one_last2.d.next = self.one_last.val();
        self.more2.d.next =
            !self.one_last.val() & !(self.two_last.val() & !self.two_blocked.val() & self.pairs.val());
        self.retry2.d.next = self.works.val() & !self.credit.val();
        // Rings begin at a page, so the lowest 12 bits are the entry's alone.
        self.page2.d.next = self.base1.q.val() + bit_cast::<52, 10>(self.head_now.val().get_bits::<10>(6));
        self.in_page2.d.next = self.in_page.val();
        self.head_one2.d.next = self.head_plus1.q.val();
        if self.sq_end1.q.val() {
            self.head_one2.d.next = self.zero16.val();
        }
        self.sq_wraps2.d.next = (self.head_plus1.q.val() == self.sq_size1.q.val());
        self.head_two2.d.next = self.head_plus1.q.val() + self.one16.val();
        self.reserved_one2.d.next = self.reserved_plus1.q.val();
        if self.cq_end1.q.val() {
            self.reserved_one2.d.next = self.zero16.val();
        }
        self.cq_wraps2.d.next = (self.reserved_plus1.q.val() == self.cq_size1.q.val());
        self.reserved_two2.d.next = self.reserved_plus1.q.val() + self.one16.val();
        self.asked_one2.d.next = self.asked1.q.val() + self.one16.val();
        self.asked_two2.d.next = self.asked1.q.val() + self.two16.val();
        self.asked_before2.d.next = self.asked1.q.val() - self.one16.val();
        self.head_before2.d.next = self.head1.q.val() - self.one16.val();
        if (self.head1.q.val() == self.zero16.val()) {
            self.head_before2.d.next = self.sq_size1.q.val();
        }
        self.reserved_before2.d.next = self.reserved1.q.val() - self.one16.val();
        if (self.reserved1.q.val() == self.zero16.val()) {
            self.reserved_before2.d.next = self.cq_size1.q.val();
        }

        // Ask: `work2` is set in this cycle alone.
        self.one_entry.next = self.work2.q.val() & self.credit2.q.val() & !self.one_blocked2.q.val();
        self.takes_two.next = self.pair2.q.val() & !self.two_blocked2.q.val() & !self.one_last2.q.val();
        self.two_entries.next = self.one_entry.val() & self.takes_two.val();
        self.requests.push.next = self.one_entry.val();
        self.requests.data.next.address =
            (bit_cast::<64, 52>(self.page2.q.val()) << 12) | (bit_cast::<64, 6>(self.in_page2.q.val()) << 6);
        self.requests.data.next.bytes = self.entry_bytes.val();
        self.requests.data.next.tag = self.queue.q.val();
        if self.takes_two.val() {
            self.requests.data.next.bytes = self.pair_bytes.val();
        }
        self.control_credits.returned.next = self.control_returned.val();
        self.control_credits.spend_one.next =
            self.one_entry.val() & !self.two_entries.val() & self.is_control.q.val();
        self.control_credits.spend_two.next = self.two_entries.val() & self.is_control.q.val();
        self.client_credits.returned.next = self.client_returned.val();
        self.client_credits.spend_one.next =
            self.one_entry.val() & !self.two_entries.val() & !self.is_control.q.val();
        self.client_credits.spend_two.next = self.two_entries.val() & !self.is_control.q.val();
        self.list.rang.next = self.rang.val();
        self.list.rang_queue.next = self.rang_queue.val();
        self.list.rang_is_head.next = self.rang_is_head.val();
        self.list.pick.next = self.may_pick.val();
        self.list.free.next = self.free.q.val();
        self.list.looking.next = self.looking.q.val();
        self.list.ending.next = self.asking.q.val();
        self.list.visited.next = self.queue.q.val();
        self.list.visited_bit.next = self.queue_bit.q.val();
        self.list.blocked.next = self.work2.q.val() & self.one_blocked2.q.val();
        // Without a credit it comes round again; without room, a completion head brings it back.
        self.list.relist.next = self.waits2.q.val()
            | self.reopens2.q.val()
            | (!self.one_blocked2.q.val()
                & (self.retry2.q.val() | (self.work2.q.val() & self.more2.q.val())));
        self.list.awaken_valid.next = self.awaken_valid.val();
        self.list.awaken_queue.next = self.awaken_queue.val();
        self.awaken_taken.next = self.list.awaken_taken.val();
        self.reopened.next = self.zero32.val();
        if self.reopens2.q.val() {
            self.reopened.next = self.queue_bit.q.val();
        }

        // The state after the visit; or the parent's hand, while no visit is under way.
        self.following.next.sq_head = self.head_one2.q.val();
        self.following.next.cq_reserved = self.reserved_one2.q.val();
        self.following.next.asked = self.asked_one2.q.val();
        if self.takes_two.val() {
            self.following.next.sq_head = self.head_two2.q.val();
            if self.sq_wraps2.q.val() {
                self.following.next.sq_head = self.zero16.val();
            }
            self.following.next.cq_reserved = self.reserved_two2.q.val();
            if self.cq_wraps2.q.val() {
                self.following.next.cq_reserved = self.zero16.val();
            }
            self.following.next.asked = self.asked_two2.q.val();
        }
        self.hand.next.sq_head = self.look_state.val().sq_head;
        self.hand.next.cq_reserved = self.reserved_before2.q.val();
        self.hand.next.asked = self.asked_before2.q.val();
        if self.give_back.val() {
            self.hand.next.sq_head = self.head_before2.q.val();
        }
        if self.restart.val() {
            self.hand.next.sq_head = self.zero16.val();
            self.hand.next.cq_reserved = self.zero16.val();
            self.hand.next.asked = self.look_state.val().asked;
        }
        if self.clear.val() {
            self.hand.next.asked = self.zero16.val();
        }
        self.states.write.next =
            self.one_entry.val() | self.fail.val() | self.give_back.val() | self.restart.val();
        self.states.write_address.next = bit_cast::<16, 8>(self.queue.q.val());
        self.states.write_data.next = self.following.val();
        if self.free.q.val() {
            self.states.write_address.next = bit_cast::<16, 8>(self.configure_queue.val());
            self.states.write_data.next = self.hand.val();
        }
        self.configure_short.next = bit_cast::<5, 8>(self.configure_queue.val());
        self.configure_bit.d.next = (self.one32.val() << bit_cast::<32, 5>(self.configure_short.val()));
        self.rang_short.next = bit_cast::<5, 8>(self.rang_queue.val());
        self.bad_bit.d.next = self.zero32.val();
        if self.bad.val() {
            self.bad_bit.d.next = (self.one32.val() << bit_cast::<32, 5>(self.rang_short.val()));
        }
        self.stops.next = self.bad_bit.q.val();
        if self.fail.val() {
            self.stops.next = self.bad_bit.q.val() | self.configure_bit.q.val();
        }
        self.restarts.next = self.zero32.val();
        if self.restart.val() {
            self.restarts.next = self.configure_bit.q.val();
        }
        self.restarted.next = self.restarts.val();
        self.stopped_queues.d.next =
            ((self.stopped_queues.q.val() | self.stops.val()) & (!self.restarts.val()));
        self.stopped_look.next = self.stopped_queues.q.val() & self.configure_bit.q.val();
        self.stopped_here.next = self.stopped_look.val().any();
        self.control_stopped.next = self.stopped_queues.q.val().get_bit(0);
        self.resting.next = self.free.q.val() & self.held.q.val();
        self.idle.next =
            self.free.q.val() & (self.list.idle.val() | !self.enable.val()) & !self.requests.out.valid.val();

        if self.reset.val() {
            self.free.d.next = true;
            self.takes.d.next = false;
            self.looking.d.next = false;
            self.judging.d.next = false;
            self.asking.d.next = false;
            self.work2.d.next = false;
            self.retry2.d.next = false;
            self.waits2.d.next = false;
            self.reopens2.d.next = false;
            self.bad_bit.d.next = self.zero32.val();
            self.stopped_queues.d.next = self.zero32.val();
        }
    }
}
