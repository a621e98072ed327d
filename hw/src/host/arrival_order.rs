//! Says which source of the write arbiter is served next: in order of acceptance.
//!
//! The mask of the sources accepted in a cycle goes to a queue of masks; they are served one after the
//! other, the sources of one mask lowest bit first. Bits in order of service: completion, interrupt,
//! doorbell, range, submission, control. With two places a source at most twelve masks wait: the queue
//! of sixteen needs no check. Selections for the data stand beside the pick, in registers of their
//! own, since many bits hang on them.
//!
//! Handshake: `picked` has one bit set for a pick, none for no pick; it is used up in a cycle with
//! `room`. Latency: 2 cycles from `arrived` to `picked`. Throughput: a pick a cycle. Reset forgets all.

use rust_hdl::prelude::*;

use crate::prim::fifo::Fifo;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct ArrivalOrder {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    /// The sources accepted in this cycle.
    pub arrived: Signal<In, Bits<6>>,
    /// The pick, if there is one, is used in this cycle.
    pub room: Signal<In, bool>,
    pub picked: Signal<Out, Bits<6>>,
    pub picked_valid: Signal<Out, bool>,
    /// There is no pick: for data alone, all bits of which hang on it.
    pub unpicked: Signal<Out, bool>,
    /// Of the picked source: it writes 64 bytes.
    pub is_wide: Signal<Out, bool>,
    /// Of a wide source: it is the control ring's.
    pub from_control: Signal<Out, bool>,
    /// Of a small source: its number of the four.
    pub narrow_number: Signal<Out, Bits<2>>,
    /// Something arrived a cycle ago.
    pub entered: Signal<Out, bool>,
    /// Nothing waits and nothing arrived a cycle ago.
    pub idle: Signal<Out, bool>,

    arrived_register: DFF<Bits<6>>,
    arrived_any: DFF<bool>,
    /// Masks behind `current`, and their number.
    masks: Fifo<Bits<6>>,
    queued: DFF<Bits<4>>,
    none_queued: DFF<bool>,
    /// What is left of the mask in service.
    current: DFF<Bits<6>>,
    current_any: DFF<bool>,
    picked_register: DFF<Bits<6>>,
    picked_valid_register: DFF<bool>,
    unpicked_register: DFF<bool>,
    is_wide_register: DFF<bool>,
    from_control_register: DFF<bool>,
    narrow_number_register: DFF<Bits<2>>,
    /// A new pick is made this cycle; of a new mask.
    advance: Signal<Local, bool>,
    renew: Signal<Local, bool>,
    push: Signal<Local, bool>,
    pop: Signal<Local, bool>,
    mask: Signal<Local, Bits<6>>,
    mask_valid: Signal<Local, bool>,
    lowest: Signal<Local, Bits<6>>,
    rest: Signal<Local, Bits<6>>,
    narrow_next: Signal<Local, Bits<2>>,
    source: [Constant<Bits<6>>; 6],
    none: Constant<Bits<6>>,
    number: [Constant<Bits<2>>; 4],
    zero4: Constant<Bits<4>>,
    one4: Constant<Bits<4>>,
}

impl Default for ArrivalOrder {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            arrived: Default::default(),
            room: Default::default(),
            picked: Default::default(),
            picked_valid: Default::default(),
            unpicked: Default::default(),
            is_wide: Default::default(),
            from_control: Default::default(),
            narrow_number: Default::default(),
            entered: Default::default(),
            idle: Default::default(),
            arrived_register: Default::default(),
            arrived_any: Default::default(),
            masks: Fifo::quick(4, 1),
            queued: Default::default(),
            none_queued: Default::default(),
            current: Default::default(),
            current_any: Default::default(),
            picked_register: Default::default(),
            picked_valid_register: Default::default(),
            unpicked_register: Default::default(),
            is_wide_register: Default::default(),
            from_control_register: Default::default(),
            narrow_number_register: Default::default(),
            advance: Default::default(),
            renew: Default::default(),
            push: Default::default(),
            pop: Default::default(),
            mask: Default::default(),
            mask_valid: Default::default(),
            lowest: Default::default(),
            rest: Default::default(),
            narrow_next: Default::default(),
            source: std::array::from_fn(|i| Constant::new((1u64 << i).to_bits())),
            none: Constant::new(0u64.to_bits()),
            number: std::array::from_fn(|i| Constant::new((i as u64).to_bits())),
            zero4: Constant::new(0u64.to_bits()),
            one4: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for ArrivalOrder {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            arrived_register,
            arrived_any,
            queued,
            none_queued,
            current,
            current_any,
            picked_register,
            picked_valid_register,
            unpicked_register,
            is_wide_register,
            from_control_register,
            narrow_number_register
        );
        clock!(self, clock, masks);
        self.masks.reset.next = self.reset.val();
        self.arrived_register.d.next = self.arrived.val();
        self.arrived_any.d.next = self.arrived.val().any();

        // A mask goes past the queue when nothing is in its way.
        self.advance.next = !self.picked_valid_register.q.val() | self.room.val();
        self.renew.next = self.advance.val() & !self.current_any.q.val();
        self.push.next = self.arrived_any.q.val() & !(self.none_queued.q.val() & self.renew.val());
        self.pop.next = self.masks.out.valid.val() & self.renew.val();
        self.masks.push.next = self.push.val();
        self.masks.data.next = self.arrived_register.q.val();
        self.masks.out.ready.next = self.renew.val();
        self.none_queued.d.next = !self.push.val()
            & (self.none_queued.q.val() | ((self.queued.q.val() == self.one4.val()) & self.pop.val()));
        if self.push.val() & !self.pop.val() {
            self.queued.d.next = self.queued.q.val() + self.one4.val();
        }
        if !self.push.val() & self.pop.val() {
            self.queued.d.next = self.queued.q.val() - self.one4.val();
        }

        // The oldest mask, its lowest bit, and what is left.
        self.mask.next = self.masks.out.data.val();
        self.mask_valid.next = self.masks.out.valid.val();
        if self.none_queued.q.val() {
            self.mask.next = self.arrived_register.q.val();
            self.mask_valid.next = self.arrived_any.q.val();
        }
        if self.current_any.q.val() {
            self.mask.next = self.current.q.val();
            self.mask_valid.next = true;
        }
        self.lowest.next = self.source[5].val();
        self.narrow_next.next = self.number[3].val();
        if self.mask.val().get_bit(0) {
            self.lowest.next = self.source[0].val();
            self.narrow_next.next = self.number[0].val();
        } else if self.mask.val().get_bit(1) {
            self.lowest.next = self.source[1].val();
            self.narrow_next.next = self.number[1].val();
        } else if self.mask.val().get_bit(2) {
            self.lowest.next = self.source[2].val();
            self.narrow_next.next = self.number[2].val();
        } else if self.mask.val().get_bit(3) {
            self.lowest.next = self.source[3].val();
        } else if self.mask.val().get_bit(4) {
            self.lowest.next = self.source[4].val();
        }
        self.rest.next = self.mask.val() & !self.lowest.val();
        if self.advance.val() {
            self.current.d.next = self.rest.val();
            self.current_any.d.next = self.mask_valid.val() & self.rest.val().any();
            self.picked_valid_register.d.next = self.mask_valid.val();
            self.unpicked_register.d.next = !self.mask_valid.val();
            self.picked_register.d.next = self.none.val();
            if self.mask_valid.val() {
                self.picked_register.d.next = self.lowest.val();
            }
            self.is_wide_register.d.next = self.lowest.val().get_bit(4) | self.lowest.val().get_bit(5);
            self.from_control_register.d.next = self.lowest.val().get_bit(5);
            self.narrow_number_register.d.next = self.narrow_next.val();
        }
        self.picked.next = self.picked_register.q.val();
        self.picked_valid.next = self.picked_valid_register.q.val();
        self.unpicked.next = self.unpicked_register.q.val();
        self.is_wide.next = self.is_wide_register.q.val();
        self.from_control.next = self.from_control_register.q.val();
        self.narrow_number.next = self.narrow_number_register.q.val();
        self.entered.next = self.arrived_any.q.val();
        self.idle.next = self.none_queued.q.val()
            & !self.arrived_any.q.val()
            & !self.current_any.q.val()
            & !self.picked_valid_register.q.val();

        if self.reset.val() {
            self.arrived_any.d.next = false;
            self.queued.d.next = self.zero4.val();
            self.none_queued.d.next = true;
            self.current_any.d.next = false;
            self.picked_valid_register.d.next = false;
            self.unpicked_register.d.next = true;
            self.picked_register.d.next = self.none.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    /// Sources with two places each, as in the arbiter: every arrival is picked once, in order, without
    /// a lost cycle while anything waits.
    #[test]
    fn picks_in_order_of_arrival() {
        let mut bench = Bench::new("arrival_order", ArrivalOrder::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut due: VecDeque<(u64, u32)> = VecDeque::new();
        let (mut places, mut picks, mut most) = ([0; 6], 0u64, 0);
        for cycle in 0..20_000u64 {
            let flow = [0.1, 0.6, 1.0, 0.02][cycle as usize / 250 % 4];
            let room = random.random_bool([1.0, 0.5][cycle as usize / 1_000 % 2]);
            let mut arrived = 0u128;
            for (source, place) in places.iter_mut().enumerate() {
                if *place < 2 && random.random_bool(flow) {
                    *place += 1;
                    arrived |= 1 << source;
                    due.push_back((cycle, source as u32));
                }
            }
            bench.set("arrived", arrived);
            bench.set("room", room.into());
            bench.eval();
            let (picked, ready) = (bench.get("picked") as u32, due.front().is_some_and(|d| d.0 + 2 <= cycle));
            assert_eq!(picked != 0, ready, "a pick two cycles after its arrival, and none lost");
            assert_eq!((bench.get("picked_valid") == 1, bench.get("unpicked") == 0), (ready, ready));
            assert_eq!(bench.get("idle") == 1, due.front().is_none_or(|d| d.0 == cycle));
            most = most.max(due.len());
            if ready {
                let source = due.front().expect("ready").1;
                assert_eq!(picked, 1 << source);
                assert_eq!(bench.get("is_wide") == 1, source >= 4);
                if source >= 4 {
                    assert_eq!(bench.get("from_control") == 1, source == 5);
                } else {
                    assert_eq!(bench.get("narrow_number") as u32, source);
                }
                if room {
                    due.pop_front();
                    places[source as usize] -= 1;
                    picks += 1;
                }
            }
            bench.cycle();
        }
        assert!(picks > 8_000 && most == 12, "{picks} picks, {most} waiting at most");
    }
}
