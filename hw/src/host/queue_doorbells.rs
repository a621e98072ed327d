//! Takes the doorbells of the queue pairs.
//!
//! Writes on the register bus that fall on a doorbell are checked against the ring's size, one every 3
//! cycles; a good one becomes the queue's submission tail or completion head and is told in `rang`, a
//! bad one in `bad` and changes nothing. Doorbells of a queue that is not enabled are ignored. The bus
//! may bring them faster: from `full` on at most four more writes may come.
//!
//! `look_queue` reads a queue's pointers, one cycle later. `hold` keeps further doorbells waiting;
//! `resting` says that none is under way, and then `configure` may set a queue's sizes and, with
//! `restart`, its pointers to 0. Latency: 4 cycles from the bus to `rang`. Reset forgets doorbells not
//! yet looked at; every queue is to be configured after it.

use rust_hdl::prelude::*;
use volplane_abi::registers::{DOORBELLS, DOORBELL_CQ_HEAD, DOORBELL_PAGE, DOORBELL_SQ_TAIL};

use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::ram::LutRam;
use crate::sizes::Sizes;

logic_record! {
    /// A doorbell as it was written.
    Doorbell: 26 {
        /// Queue.
        queue = 8,
        /// 1: completion head, 0: submission tail.
        is_head = 1,
        /// 1: the value does not fit 16 bits.
        overflow = 1,
        /// Value.
        value = 16,
    }
}

logic_record! {
    /// The sizes of a queue pair's rings.
    RingSizes: 33 {
        /// Entries of the submission ring − 1.
        sq_size_z = 16,
        /// Entries of the completion ring − 1.
        cq_size_z = 16,
        /// 1: doorbells are taken.
        enable = 1,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct QueueDoorbells {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub write_valid: Signal<In, bool>,
    pub write_address: Signal<In, Bits<18>>,
    pub write_data: Signal<In, Bits<32>>,
    pub look_queue: Signal<In, Bits<8>>,
    pub sq_tail: Signal<Out, Bits<16>>,
    pub cq_head: Signal<Out, Bits<16>>,
    pub rang: Signal<Out, bool>,
    pub bad: Signal<Out, bool>,
    pub rang_queue: Signal<Out, Bits<8>>,
    pub rang_is_head: Signal<Out, bool>,
    pub full: Signal<Out, bool>,
    pub hold: Signal<In, bool>,
    pub resting: Signal<Out, bool>,
    pub configure: Signal<In, bool>,
    pub configure_queue: Signal<In, Bits<8>>,
    pub configure_sizes: Signal<In, RingSizes>,
    pub restart: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    /// The bus's write, and whether it is a doorbell.
    heard: DFF<bool>,
    heard_doorbell: DFF<Doorbell>,
    written: Fifo<Doorbell>,
    sizes: LutRam<RingSizes>,
    tails: LutRam<Bits<16>>,
    heads: LutRam<Bits<16>>,
    held: DFF<bool>,
    /// Waits for a doorbell, unless held.
    free: DFF<bool>,
    /// Takes one that is there.
    takes: DFF<bool>,
    /// The ring's sizes are there.
    checking: DFF<bool>,
    acting: DFF<bool>,
    doorbell: DFF<Doorbell>,
    // Written in the cycle in which one of these is set.
    good_tail: DFF<bool>,
    good_head: DFF<bool>,
    enabled_now: DFF<bool>,
    page: Signal<Local, Bits<6>>,
    number: Signal<Local, Bits<6>>,
    offset: Signal<Local, Bits<12>>,
    upper: Signal<Local, Bits<16>>,
    is_doorbell: Signal<Local, bool>,
    is_head: Signal<Local, bool>,
    free_next: Signal<Local, bool>,
    taken: Signal<Local, bool>,
    enabled: Signal<Local, bool>,
    overflow: Signal<Local, bool>,
    for_head: Signal<Local, bool>,
    beyond_sq: Signal<Local, bool>,
    beyond_cq: Signal<Local, bool>,
    pointer_queue: Signal<Local, Bits<8>>,
    pointer: Signal<Local, Bits<16>>,
    first_page: Constant<Bits<6>>,
    end_page: Constant<Bits<6>>,
    tail_offset: Constant<Bits<12>>,
    head_offset: Constant<Bits<12>>,
    zero16: Constant<Bits<16>>,
    flag: Constant<Bits<1>>,
}

impl QueueDoorbells {
    /// For 2^`queue_bits` queues.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((1..=5).contains(&sizes.queue_bits), "2^{} queues", sizes.queue_bits);
        // The kernel takes the page as bits 17:12 of the address.
        assert_eq!(DOORBELL_PAGE, 1 << 12);
        let first_page = u64::from(DOORBELLS / DOORBELL_PAGE);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            write_valid: Default::default(),
            write_address: Default::default(),
            write_data: Default::default(),
            look_queue: Default::default(),
            sq_tail: Default::default(),
            cq_head: Default::default(),
            rang: Default::default(),
            bad: Default::default(),
            rang_queue: Default::default(),
            rang_is_head: Default::default(),
            full: Default::default(),
            hold: Default::default(),
            resting: Default::default(),
            configure: Default::default(),
            configure_queue: Default::default(),
            configure_sizes: Default::default(),
            restart: Default::default(),
            idle: Default::default(),
            heard: Default::default(),
            heard_doorbell: Default::default(),
            written: Fifo::quick(4, 6),
            sizes: LutRam::new(sizes.queue_bits),
            tails: LutRam::new(sizes.queue_bits),
            heads: LutRam::new(sizes.queue_bits),
            held: Default::default(),
            free: Default::default(),
            takes: Default::default(),
            checking: Default::default(),
            acting: Default::default(),
            doorbell: Default::default(),
            good_tail: Default::default(),
            good_head: Default::default(),
            enabled_now: Default::default(),
            page: Default::default(),
            number: Default::default(),
            offset: Default::default(),
            upper: Default::default(),
            is_doorbell: Default::default(),
            is_head: Default::default(),
            free_next: Default::default(),
            taken: Default::default(),
            enabled: Default::default(),
            overflow: Default::default(),
            for_head: Default::default(),
            beyond_sq: Default::default(),
            beyond_cq: Default::default(),
            pointer_queue: Default::default(),
            pointer: Default::default(),
            first_page: Constant::new(first_page.to_bits()),
            end_page: Constant::new((first_page + (1 << sizes.queue_bits)).to_bits()),
            tail_offset: Constant::new((DOORBELL_SQ_TAIL as u64).to_bits()),
            head_offset: Constant::new((DOORBELL_CQ_HEAD as u64).to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for QueueDoorbells {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            heard,
            heard_doorbell,
            held,
            free,
            takes,
            checking,
            acting,
            doorbell,
            good_tail,
            good_head,
            enabled_now
        );
        self.written.clock.next = self.clock.val();
        self.written.reset.next = self.reset.val();
        self.sizes.clock.next = self.clock.val();
        self.tails.clock.next = self.clock.val();
        self.heads.clock.next = self.clock.val();

        self.page.next = self.write_address.val().get_bits::<6>(12);
        self.number.next = self.page.val() - self.first_page.val();
        self.offset.next = self.write_address.val().get_bits::<12>(0);
        self.upper.next = self.write_data.val().get_bits::<16>(16);
        self.is_head.next = (self.offset.val() == self.head_offset.val());
        self.is_doorbell.next = (self.page.val() >= self.first_page.val())
            & (self.page.val() < self.end_page.val())
            & (self.is_head.val() | (self.offset.val() == self.tail_offset.val()));
        self.heard.d.next = self.write_valid.val() & self.is_doorbell.val();
        self.heard_doorbell.d.next.queue = bit_cast::<8, 6>(self.number.val());
        self.heard_doorbell.d.next.is_head = self.is_head.val().into();
        self.heard_doorbell.d.next.overflow = (self.upper.val() != self.zero16.val()).into();
        self.heard_doorbell.d.next.value = bit_cast::<16, 32>(self.write_data.val());
        self.full.next = !self.written.room.val();
        self.written.push.next = self.heard.q.val();
        self.written.data.next = self.heard_doorbell.q.val();

        self.held.d.next = self.hold.val();
        self.written.out.ready.next = self.takes.q.val();
        self.sizes.read_address.next = bit_cast::<16, 8>(self.written.out.data.val().queue);
        if self.takes.q.val() {
            self.doorbell.d.next = self.written.out.data.val();
        }
        self.taken.next = self.takes.q.val() & self.written.out.valid.val();
        self.checking.d.next = self.taken.val();
        self.free_next.next = (self.free.q.val() & !self.taken.val()) | self.acting.q.val();
        self.free.d.next = self.free_next.val();
        self.takes.d.next = self.free_next.val() & !self.hold.val();
        self.enabled.next = (self.sizes.read_data.val().enable == self.flag.val());
        self.overflow.next = (self.doorbell.q.val().overflow == self.flag.val());
        self.for_head.next = (self.doorbell.q.val().is_head == self.flag.val());
        self.beyond_sq.next = (self.doorbell.q.val().value > self.sizes.read_data.val().sq_size_z);
        self.beyond_cq.next = (self.doorbell.q.val().value > self.sizes.read_data.val().cq_size_z);
        self.acting.d.next = self.checking.q.val();
        self.good_tail.d.next = self.checking.q.val()
            & self.enabled.val()
            & !self.overflow.val()
            & !self.for_head.val()
            & !self.beyond_sq.val();
        self.good_head.d.next = self.checking.q.val()
            & self.enabled.val()
            & !self.overflow.val()
            & self.for_head.val()
            & !self.beyond_cq.val();
        self.enabled_now.d.next = self.checking.q.val() & self.enabled.val();
        self.rang.next = self.good_tail.q.val() | self.good_head.q.val();
        self.bad.next = self.enabled_now.q.val() & !self.good_tail.q.val() & !self.good_head.q.val();
        self.rang_queue.next = self.doorbell.q.val().queue;
        self.rang_is_head.next = (self.doorbell.q.val().is_head == self.flag.val());

        // Pointers are written by a doorbell, or by a restart while none is under way.
        self.pointer_queue.next = self.doorbell.q.val().queue;
        self.pointer.next = self.doorbell.q.val().value;
        if self.configure.val() {
            self.pointer_queue.next = self.configure_queue.val();
            self.pointer.next = self.zero16.val();
        }
        self.sizes.write.next = self.configure.val();
        self.sizes.write_address.next = bit_cast::<16, 8>(self.configure_queue.val());
        self.sizes.write_data.next = self.configure_sizes.val();
        self.tails.write.next = (self.configure.val() & self.restart.val()) | self.good_tail.q.val();
        self.tails.write_address.next = bit_cast::<16, 8>(self.pointer_queue.val());
        self.tails.write_data.next = self.pointer.val();
        self.heads.write.next = (self.configure.val() & self.restart.val()) | self.good_head.q.val();
        self.heads.write_address.next = bit_cast::<16, 8>(self.pointer_queue.val());
        self.heads.write_data.next = self.pointer.val();
        self.tails.read_address.next = bit_cast::<16, 8>(self.look_queue.val());
        self.heads.read_address.next = bit_cast::<16, 8>(self.look_queue.val());
        self.sq_tail.next = self.tails.read_data.val();
        self.cq_head.next = self.heads.read_data.val();
        self.resting.next = self.free.q.val() & self.held.q.val();
        self.idle.next = self.written.empty.val() & !self.heard.q.val() & self.free.q.val();

        if self.reset.val() {
            self.heard.d.next = false;
            self.free.d.next = true;
            self.takes.d.next = false;
            self.checking.d.next = false;
            self.acting.d.next = false;
            self.good_tail.d.next = false;
            self.good_head.d.next = false;
            self.enabled_now.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    /// As fast as the bus can bring them, held at times, four more after `full`: none is lost.
    #[test]
    fn takes_every_doorbell_of_a_fast_bus() {
        let sizes = Sizes { queue_bits: 2, ..Sizes::DEFAULT };
        let mut bench = Bench::new("queue_doorbells", QueueDoorbells::new(&sizes));
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench.set("hold", 1);
        for _ in 0..4 {
            bench.cycle();
        }
        assert_eq!(bench.get("resting"), 1);
        bench.set("configure", 1);
        bench.set("restart", 1);
        for queue in 0..4 {
            bench.set("configure_queue", queue);
            let sizes =
                RingSizes { sq_size_z: 4095u64.into(), cq_size_z: 4095u64.into(), enable: 1u64.into() };
            bench.set_record::<33>("configure_sizes", sizes);
            bench.cycle();
        }
        bench.set("configure", 0);
        let (mut written, mut rung, mut more, mut was_full) = (0u64, 0u64, 0, false);
        let mut tails = [0u64; 4];
        for cycle in 0..20_000 {
            bench.set("hold", (cycle % 1_000 < 100).into());
            bench.set("write_valid", 0);
            bench.eval();
            let full = bench.get("full") == 1;
            was_full |= full;
            if !full {
                more = 0;
            }
            let write = cycle % 2 == 0 && more < 4 && cycle < 19_000;
            if write {
                more += u64::from(full);
                let queue = random.random_range(0..4usize);
                tails[queue] = random.random_range(0..4096);
                let offset = DOORBELLS + queue as u32 * DOORBELL_PAGE + DOORBELL_SQ_TAIL;
                bench.set("write_valid", 1);
                bench.set("write_address", offset.into());
                bench.set("write_data", tails[queue].into());
                written += 1;
            }
            bench.eval();
            rung += bench.get("rang") as u64;
            assert_eq!(bench.get("bad"), 0);
            bench.cycle();
        }
        assert_eq!(rung, written);
        assert!(was_full && written > 4_000, "{written} written");
        for (queue, &tail) in tails.iter().enumerate() {
            bench.set("look_queue", queue as u128);
            bench.cycle();
            assert_eq!(bench.get("sq_tail"), tail.into(), "queue {queue}");
        }
        assert_eq!(bench.get("idle"), 1);
    }
}
