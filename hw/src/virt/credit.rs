//! Counts the items on their way through a pipeline, so that what is behind it always has room.
//!
//! `entered` and `left` are pulses. `room` falls 3 cycles after the item that reached the limit, so that
//! two more may enter meanwhile. `none` says that no item is on its way, nor was `coming` or entering the
//! cycle before. Reset forgets all.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Credit {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub coming: Signal<In, bool>,
    pub entered: Signal<In, bool>,
    pub left: Signal<In, bool>,
    pub room: Signal<Out, bool>,
    pub none: Signal<Out, bool>,

    more: DFF<bool>,
    less: DFF<bool>,
    count: DFF<Bits<6>>,
    room_register: DFF<bool>,
    none_register: DFF<bool>,
    one: Constant<Bits<6>>,
    zero: Constant<Bits<6>>,
    limit: Constant<Bits<6>>,
}

impl Credit {
    /// Never more than `most` items, 4 to 63, are on their way.
    pub fn new(most: usize) -> Self {
        assert!((4..=63).contains(&most), "credit of {most}");
        Self {
            clock: Default::default(),
            reset: Default::default(),
            coming: Default::default(),
            entered: Default::default(),
            left: Default::default(),
            room: Default::default(),
            none: Default::default(),
            more: Default::default(),
            less: Default::default(),
            count: Default::default(),
            room_register: Default::default(),
            none_register: Default::default(),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            limit: Constant::new((most as u64 - 2).to_bits()),
        }
    }
}

impl Logic for Credit {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, more, less, count, room_register, none_register);
        self.more.d.next = self.entered.val();
        self.less.d.next = self.left.val();
        if self.more.q.val() & !self.less.q.val() {
            self.count.d.next = self.count.q.val() + self.one.val();
        }
        if !self.more.q.val() & self.less.q.val() {
            self.count.d.next = self.count.q.val() - self.one.val();
        }
        self.room_register.d.next = (self.count.q.val() < self.limit.val());
        self.none_register.d.next = !self.coming.val()
            & !self.entered.val()
            & !self.more.q.val()
            & (self.count.q.val() == self.zero.val());
        self.room.next = self.room_register.q.val();
        self.none.next = self.none_register.q.val();

        if self.reset.val() {
            self.more.d.next = false;
            self.less.d.next = false;
            self.count.d.next = self.zero.val();
            self.room_register.d.next = false;
            self.none_register.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn never_more_than_the_most_and_none_means_none() {
        for most in [4u32, 30] {
            let mut bench = Bench::new(&format!("credit_{most}"), Credit::new(most as usize));
            let mut random = seeded();
            bench.set("reset", 1);
            bench.cycle();
            bench.set("reset", 0);
            let (mut inside, mut full, mut empty) = (0u32, 0, 0);
            for cycle in 0..20_000u64 {
                let fill = if cycle / 400 % 2 == 0 { 0.9 } else { 0.1 };
                bench.eval();
                let enter = bench.get("room") == 1 && random.random_bool(fill);
                let leave = inside > 0 && random.random_bool(1.0 - fill);
                assert!(bench.get("none") == 0 || inside == 0);
                empty += bench.get("none");
                bench.set("entered", enter.into());
                bench.set("left", leave.into());
                inside = inside + u32::from(enter) - u32::from(leave);
                assert!(inside <= most, "{inside} of {most}");
                full += u32::from(inside == most);
                bench.cycle();
            }
            assert!(full > 100 && empty > 100, "{full} {empty}");
        }
    }
}
