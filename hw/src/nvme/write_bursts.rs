//! Addresses and responses of an AXI4 slave's write bursts.
//!
//! Purpose: takes bursts ahead of their beats, gives the address of each beat (narrow, unaligned,
//! FIXED, INCR and WRAP bursts), and answers each burst OKAY.
//! Handshake: AXI4 on AW and B. `open` says that the next beat has a burst, at `address`; `beat`
//! takes it, `last` with it ends the burst.
//! Latency: a burst is open in the cycle after its AW; a response is offered in the cycle after the
//! last beat. Throughput: a burst of one beat in each cycle. Order: bursts as they came.
//! Bound: `awready` is low only while two bursts wait for beats or 12 responses for `bready`.
//! Reset: forgets bursts and responses.

use rust_hdl::prelude::*;

/// AW and B of a slave with 19 address bits.
#[derive(Clone, Debug, LogicBlock)]
pub struct WriteBursts {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub awvalid: Signal<In, bool>,
    pub awready: Signal<Out, bool>,
    pub awaddr: Signal<In, Bits<19>>,
    pub awlen: Signal<In, Bits<8>>,
    pub awsize: Signal<In, Bits<3>>,
    pub awburst: Signal<In, Bits<2>>,
    pub bvalid: Signal<Out, bool>,
    pub bready: Signal<In, bool>,
    pub open: Signal<Out, bool>,
    pub address: Signal<Out, Bits<19>>,
    pub beat: Signal<In, bool>,
    pub last: Signal<In, bool>,
    pub idle: Signal<Out, bool>,
    /// The burst whose beats come now: address of the next beat, bytes a beat, and the address bits
    /// that count (all for INCR, none for FIXED, those below the wrap border for WRAP).
    current_valid: DFF<bool>,
    current_address: DFF<Bits<19>>,
    current_step: DFF<Bits<12>>,
    current_mask: DFF<Bits<12>>,
    /// The burst after it.
    next_valid: DFF<bool>,
    next_address: DFF<Bits<19>>,
    next_step: DFF<Bits<12>>,
    next_mask: DFF<Bits<12>>,
    /// Responses owed.
    owed: DFF<Bits<4>>,
    /// One more may be owed, as of a cycle ago.
    few_owed: DFF<bool>,
    responding: Signal<Local, bool>,
    room: Signal<Local, bool>,
    arriving: Signal<Local, bool>,
    arriving_step: Signal<Local, Bits<12>>,
    arriving_mask: Signal<Local, Bits<12>>,
    finishing: Signal<Local, bool>,
    offset: Signal<Local, Bits<12>>,
    stepped: Signal<Local, Bits<12>>,
    held: Signal<Local, Bits<19>>,
    owed_most: Constant<Bits<4>>,
    fixed: Constant<Bits<2>>,
    wrap: Constant<Bits<2>>,
    zero4: Constant<Bits<4>>,
    one4: Constant<Bits<4>>,
    zero12: Constant<Bits<12>>,
    one12: Constant<Bits<12>>,
    all12: Constant<Bits<12>>,
}

impl Default for WriteBursts {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            awvalid: Default::default(),
            awready: Default::default(),
            awaddr: Default::default(),
            awlen: Default::default(),
            awsize: Default::default(),
            awburst: Default::default(),
            bvalid: Default::default(),
            bready: Default::default(),
            open: Default::default(),
            address: Default::default(),
            beat: Default::default(),
            last: Default::default(),
            idle: Default::default(),
            current_valid: Default::default(),
            current_address: Default::default(),
            current_step: Default::default(),
            current_mask: Default::default(),
            next_valid: Default::default(),
            next_address: Default::default(),
            next_step: Default::default(),
            next_mask: Default::default(),
            owed: Default::default(),
            few_owed: Default::default(),
            responding: Default::default(),
            room: Default::default(),
            arriving: Default::default(),
            arriving_step: Default::default(),
            arriving_mask: Default::default(),
            finishing: Default::default(),
            offset: Default::default(),
            stepped: Default::default(),
            held: Default::default(),
            owed_most: Constant::new(12u64.to_bits()),
            fixed: Constant::new(0u64.to_bits()),
            wrap: Constant::new(2u64.to_bits()),
            zero4: Constant::new(0u64.to_bits()),
            one4: Constant::new(1u64.to_bits()),
            zero12: Constant::new(0u64.to_bits()),
            one12: Constant::new(1u64.to_bits()),
            all12: Constant::new(0xFFFu64.to_bits()),
        }
    }
}

impl Logic for WriteBursts {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            current_valid,
            current_address,
            current_step,
            current_mask,
            next_valid,
            next_address,
            next_step,
            next_mask,
            owed,
            few_owed
        );
        self.room.next = !self.next_valid.q.val() & self.few_owed.q.val();
        self.awready.next = self.room.val();
        self.arriving.next = self.awvalid.val() & self.room.val();
        self.arriving_step.next = self.one12.val() << self.awsize.val();
        self.arriving_mask.next = self.all12.val();
        if (self.awburst.val() == self.fixed.val()) {
            self.arriving_mask.next = self.zero12.val();
        } else if (self.awburst.val() == self.wrap.val()) {
            self.arriving_mask.next = (bit_cast::<12, 8>(self.awlen.val()) << self.awsize.val())
                | (self.arriving_step.val() - self.one12.val());
        }
        self.finishing.next = self.beat.val() & self.last.val();
        self.open.next = self.current_valid.q.val();
        self.address.next = self.current_address.q.val();

        // Bursts do not cross 4 KiB, so 12 bits of the address count.
        self.offset.next = self.current_address.q.val().get_bits::<12>(0);
        self.stepped.next = (self.offset.val() + self.current_step.q.val()) & self.current_mask.q.val();
        self.held.next = self.current_address.q.val() & !bit_cast::<19, 12>(self.current_mask.q.val());
        if self.beat.val() {
            self.current_address.d.next = self.held.val() | bit_cast::<19, 12>(self.stepped.val());
        }
        if self.finishing.val() | !self.current_valid.q.val() {
            self.current_valid.d.next = self.next_valid.q.val() | self.arriving.val();
            self.next_valid.d.next = false;
            if self.next_valid.q.val() {
                self.current_address.d.next = self.next_address.q.val();
                self.current_step.d.next = self.next_step.q.val();
                self.current_mask.d.next = self.next_mask.q.val();
            } else {
                self.current_address.d.next = self.awaddr.val();
                self.current_step.d.next = self.arriving_step.val();
                self.current_mask.d.next = self.arriving_mask.val();
            }
        } else if self.arriving.val() {
            self.next_valid.d.next = true;
            self.next_address.d.next = self.awaddr.val();
            self.next_step.d.next = self.arriving_step.val();
            self.next_mask.d.next = self.arriving_mask.val();
        }

        self.few_owed.d.next = (self.owed.q.val() < self.owed_most.val());
        self.responding.next = (self.owed.q.val() != self.zero4.val());
        self.bvalid.next = self.responding.val();
        if self.responding.val() & self.bready.val() {
            if !self.finishing.val() {
                self.owed.d.next = self.owed.q.val() - self.one4.val();
            }
        } else if self.finishing.val() {
            self.owed.d.next = self.owed.q.val() + self.one4.val();
        }
        self.idle.next = !self.current_valid.q.val() & !self.responding.val();

        if self.reset.val() {
            self.current_valid.d.next = false;
            self.next_valid.d.next = false;
            self.owed.d.next = self.zero4.val();
            self.few_owed.d.next = true;
        }
    }
}
