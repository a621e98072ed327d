//! Of two sets of components, each with a count, the one with the fewer parts.
//!
//! The second goes before the first only if it has fewer, or if the first is empty; an empty one never does. Registered:
//! latency 1 cycle, one a cycle. No reset.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, Default, LogicBlock)]
pub struct FewerParts {
    pub clock: Signal<In, Clock>,
    pub first: Signal<In, Bits<8>>,
    pub first_count: Signal<In, Bits<12>>,
    pub second: Signal<In, Bits<8>>,
    pub second_count: Signal<In, Bits<12>>,
    pub fewer: Signal<Out, Bits<8>>,
    pub count: Signal<Out, Bits<12>>,

    fewer_register: DFF<Bits<8>>,
    count_register: DFF<Bits<12>>,
    takes_second: Signal<Local, bool>,
}

impl Logic for FewerParts {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, fewer_register, count_register);
        self.takes_second.next = self.second.val().any()
            & (!self.first.val().any() | (self.second_count.val() < self.first_count.val()));
        self.fewer_register.d.next = self.first.val();
        self.count_register.d.next = self.first_count.val();
        if self.takes_second.val() {
            self.fewer_register.d.next = self.second.val();
            self.count_register.d.next = self.second_count.val();
        }
        self.fewer.next = self.fewer_register.q.val();
        self.count.next = self.count_register.q.val();
    }
}
