//! Which paths have events that are due: by count, by quiet, by age, or at once.
//!
//! Purpose: `PathDoorbells` keeps one for submission tails and one for completion heads. Each path counts
//! its events in three bits, bit-sliced: one bit of every path's counter in each register.
//! Handshake: `events` has a bit set for each path with an event, at most one event a path and cycle.
//! `clear` begins anew, an event of the same cycle counts as new; `again` makes due once more; `forget`
//! wins over `again`, an event over both. With `urgent` every event of a path is due. A path in `dirty`
//! is due if it is in `due` or with `all_due`: whoever asks puts the two together.
//! Latency: an eighth event shows in `due`, the eighth cycle without any in `all_due`, in the next cycle;
//! an event of age is due 64 to 128 cycles after the first. Reset: no events.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PathDue {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub events: Signal<In, Bits<32>>,
    pub clear: Signal<In, Bits<32>>,
    pub again: Signal<In, Bits<32>>,
    pub forget: Signal<In, Bits<32>>,
    pub urgent: Signal<In, Bits<32>>,
    /// Paths with events.
    pub dirty: Signal<Out, Bits<32>>,
    /// Those of them that wait no longer, and whether none does.
    pub due: Signal<Out, Bits<32>>,
    pub all_due: Signal<Out, bool>,
    dirty_register: DFF<Bits<32>>,
    due_register: DFF<Bits<32>>,
    count0: DFF<Bits<32>>,
    count1: DFF<Bits<32>>,
    count2: DFF<Bits<32>>,
    /// Cycles without an event, up to 7, and whether there were 8.
    quiet: DFF<Bits<3>>,
    quiet_enough: DFF<bool>,
    age: DFF<Bits<6>>,
    aging: DFF<bool>,
    keep: Signal<Local, Bits<32>>,
    again_kept: Signal<Local, Bits<32>>,
    carry1: Signal<Local, Bits<32>>,
    carry2: Signal<Local, Bits<32>>,
    aged: Signal<Local, Bits<32>>,
    any_event: Signal<Local, bool>,
    zero: Constant<Bits<32>>,
    all: Constant<Bits<32>>,
    zero3: Constant<Bits<3>>,
    one3: Constant<Bits<3>>,
    seven3: Constant<Bits<3>>,
    zero6: Constant<Bits<6>>,
    one6: Constant<Bits<6>>,
}

impl Default for PathDue {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            events: Default::default(),
            clear: Default::default(),
            again: Default::default(),
            forget: Default::default(),
            urgent: Default::default(),
            dirty: Default::default(),
            due: Default::default(),
            all_due: Default::default(),
            dirty_register: Default::default(),
            due_register: Default::default(),
            count0: Default::default(),
            count1: Default::default(),
            count2: Default::default(),
            quiet: Default::default(),
            quiet_enough: Default::default(),
            age: Default::default(),
            aging: Default::default(),
            keep: Default::default(),
            again_kept: Default::default(),
            carry1: Default::default(),
            carry2: Default::default(),
            aged: Default::default(),
            any_event: Default::default(),
            zero: Constant::new(0u64.to_bits()),
            all: Constant::new(0xFFFF_FFFFu64.to_bits()),
            zero3: Constant::new(0u64.to_bits()),
            one3: Constant::new(1u64.to_bits()),
            seven3: Constant::new(7u64.to_bits()),
            zero6: Constant::new(0u64.to_bits()),
            one6: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for PathDue {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, dirty_register, due_register, count0, count1, count2, quiet, quiet_enough);
        dff_setup!(self, clock, age, aging);
        self.dirty.next = self.dirty_register.q.val();
        self.due.next = self.due_register.q.val() | self.urgent.val();
        self.all_due.next = self.quiet_enough.q.val();

        self.keep.next = self.all.val() ^ (self.clear.val() | self.forget.val());
        self.again_kept.next = self.again.val() & (self.all.val() ^ self.forget.val());
        self.carry1.next = self.events.val() & self.count0.q.val();
        self.carry2.next = self.carry1.val() & self.count1.q.val();
        self.aged.next = self.zero.val();
        if self.aging.q.val() {
            self.aged.next = self.dirty_register.q.val();
        }
        self.dirty_register.d.next =
            (self.dirty_register.q.val() & self.keep.val()) | self.again_kept.val() | self.events.val();
        self.count0.d.next = (self.count0.q.val() & self.keep.val()) ^ self.events.val();
        self.count1.d.next = (self.count1.q.val() ^ self.carry1.val()) & self.keep.val();
        self.count2.d.next = (self.count2.q.val() ^ self.carry2.val()) & self.keep.val();
        self.due_register.d.next =
            ((self.due_register.q.val() | self.aged.val() | (self.carry2.val() & self.count2.q.val()))
                & self.keep.val())
                | self.again_kept.val();

        self.any_event.next = self.events.val().any();
        self.quiet_enough.d.next = (self.quiet.q.val() == self.seven3.val()) & !self.any_event.val();
        if (self.quiet.q.val() != self.seven3.val()) {
            self.quiet.d.next = self.quiet.q.val() + self.one3.val();
        }
        if self.any_event.val() {
            self.quiet.d.next = self.zero3.val();
        }
        self.age.d.next = self.age.q.val() + self.one6.val();
        self.aging.d.next = (self.age.q.val() == self.zero6.val());

        if self.reset.val() {
            self.dirty_register.d.next = self.zero.val();
            self.due_register.d.next = self.zero.val();
            self.count0.d.next = self.zero.val();
            self.count1.d.next = self.zero.val();
            self.count2.d.next = self.zero.val();
        }
    }
}
