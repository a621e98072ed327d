//! Walks through the set of devices that a Flush goes to, the lowest first.
//!
//! `start` takes the set `devices`; while `active`, `device` is stepped to the next of the set, one
//! device number a cycle, and is offered by `ready` a cycle after it is stable, the cycle in which a
//! table read by it answers. `taken` goes on to the next. Latency: 2 cycles from `start` to the first; a
//! device every 3 cycles at best. Reset is not needed: `start` sets everything.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct FlushScan {
    pub clock: Signal<In, Clock>,
    pub start: Signal<In, bool>,
    pub devices: Signal<In, Bits<32>>,
    pub active: Signal<In, bool>,
    pub taken: Signal<In, bool>,
    pub device: Signal<Out, Bits<16>>,
    pub ready: Signal<Out, bool>,
    /// `device` is the last of the set; says something while `ready`.
    pub last: Signal<Out, bool>,
    /// The set was empty; 2 cycles after `start`.
    pub none: Signal<Out, bool>,

    rest: DFF<Bits<32>>,
    number: DFF<Bits<5>>,
    offered: DFF<bool>,
    stepping: DFF<bool>,
    is_last: DFF<bool>,
    began: DFF<bool>,
    was_empty: DFF<bool>,
    above: Signal<Local, Bits<32>>,
    one: Constant<Bits<5>>,
    first: Constant<Bits<5>>,
    empty: Constant<Bits<32>>,
}

impl Default for FlushScan {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            start: Default::default(),
            devices: Default::default(),
            active: Default::default(),
            taken: Default::default(),
            device: Default::default(),
            ready: Default::default(),
            last: Default::default(),
            none: Default::default(),
            rest: Default::default(),
            number: Default::default(),
            offered: Default::default(),
            stepping: Default::default(),
            is_last: Default::default(),
            began: Default::default(),
            was_empty: Default::default(),
            above: Default::default(),
            one: Constant::new(1u64.to_bits()),
            first: Constant::new(0u64.to_bits()),
            empty: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for FlushScan {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, rest, number, offered, stepping, is_last, began, was_empty);
        self.device.next = bit_cast::<16, 5>(self.number.q.val());
        self.ready.next = self.offered.q.val();
        self.last.next = self.is_last.q.val();
        self.none.next = self.was_empty.q.val();
        self.above.next = (self.rest.q.val() >> 1);
        self.began.d.next = self.start.val();
        self.was_empty.d.next = self.was_empty.q.val()
            | (self.active.val() & self.began.q.val() & (self.rest.q.val() == self.empty.val()));
        self.is_last.d.next = (self.above.val() == self.empty.val());
        self.stepping.d.next = self.taken.val();
        self.offered.d.next =
            self.active.val() & self.rest.q.val().get_bit(0) & !self.taken.val() & !self.stepping.q.val();
        if self.stepping.q.val() | (self.active.val() & !self.rest.q.val().get_bit(0)) {
            self.rest.d.next = self.above.val();
            self.number.d.next = self.number.q.val() + self.one.val();
        }
        if self.start.val() {
            self.rest.d.next = self.devices.val();
            self.was_empty.d.next = false;
            self.number.d.next = self.first.val();
            self.offered.d.next = false;
            self.stepping.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn every_device_of_every_set_once() {
        let mut bench = Bench::new("flush_scan", FlushScan::default());
        let mut random = seeded();
        for _ in 0..2_000 {
            let set = random.random::<u32>() & random.random::<u32>() << random.random_range(0..32);
            bench.set("start", 1);
            bench.set("devices", set.into());
            bench.cycle();
            bench.set("start", 0);
            bench.set("devices", random.random::<u32>().into());
            bench.set("active", 1);
            let since = bench.cycles;
            let mut seen = 0u32;
            let mut before = None;
            while seen != set {
                assert!(bench.cycles - since < 1_000, "{seen:#x} of {set:#x}");
                bench.eval();
                let ready = bench.get("ready") == 1;
                let device = bench.get("device") as u32;
                let take = ready && random.random_bool(0.7);
                if ready {
                    assert_eq!(before, Some(device), "a table has answered");
                    assert!(set >> device & 1 == 1 && seen >> device == 0);
                    assert_eq!(bench.get("last") == 1, u64::from(set) >> device == 1);
                }
                if take {
                    seen |= 1 << device;
                }
                before = Some(device);
                bench.set("taken", take.into());
                bench.cycle();
                bench.set("taken", 0);
            }
            for _ in 0..4 {
                bench.cycle();
                assert_eq!((bench.get("none") == 1, bench.get("ready")), (set == 0, 0));
            }
            bench.set("active", 0);
        }
    }
}
