//! Counts the credits of one kind of entry.
//!
//! `spend_one` or `spend_two` takes credits, `returned` gives one back; `one` and `two` say that at least
//! as many are left. No handshake; whoever spends has seen the credits. Latency: what is spent in cycle t
//! shows in `one` and `two` from t+3 on, so nobody spends again before. Reset: all credits are there.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct FetchCredits {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub spend_one: Signal<In, bool>,
    pub spend_two: Signal<In, bool>,
    pub returned: Signal<In, bool>,
    pub one: Signal<Out, bool>,
    pub two: Signal<Out, bool>,

    count: DFF<Bits<6>>,
    spent_one: DFF<bool>,
    spent_two: DFF<bool>,
    came_back: DFF<bool>,
    has_one: DFF<bool>,
    has_two: DFF<bool>,
    change: Signal<Local, Bits<6>>,
    all: Constant<Bits<6>>,
    none: Constant<Bits<6>>,
    plus_one: Constant<Bits<6>>,
    minus_one: Constant<Bits<6>>,
    minus_two: Constant<Bits<6>>,
}

impl FetchCredits {
    /// 2^`credit_bits` credits.
    pub fn new(credit_bits: usize) -> Self {
        assert!((1..=5).contains(&credit_bits), "2^{credit_bits} credits");
        Self {
            clock: Default::default(),
            reset: Default::default(),
            spend_one: Default::default(),
            spend_two: Default::default(),
            returned: Default::default(),
            one: Default::default(),
            two: Default::default(),
            count: Default::default(),
            spent_one: Default::default(),
            spent_two: Default::default(),
            came_back: Default::default(),
            has_one: Default::default(),
            has_two: Default::default(),
            change: Default::default(),
            all: Constant::new((1u64 << credit_bits).to_bits()),
            none: Constant::new(0u64.to_bits()),
            plus_one: Constant::new(1u64.to_bits()),
            minus_one: Constant::new(63u64.to_bits()),
            minus_two: Constant::new(62u64.to_bits()),
        }
    }
}

impl Logic for FetchCredits {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, count, spent_one, spent_two, came_back, has_one, has_two);
        self.spent_one.d.next = self.spend_one.val();
        self.spent_two.d.next = self.spend_two.val();
        self.came_back.d.next = self.returned.val();
        self.change.next = self.none.val();
        if self.spent_two.q.val() {
            self.change.next = self.minus_two.val();
            if self.came_back.q.val() {
                self.change.next = self.minus_one.val();
            }
        } else if self.spent_one.q.val() {
            if !self.came_back.q.val() {
                self.change.next = self.minus_one.val();
            }
        } else if self.came_back.q.val() {
            self.change.next = self.plus_one.val();
        }
        self.count.d.next = self.count.q.val() + self.change.val();
        self.has_one.d.next = (self.count.q.val() != self.none.val());
        self.has_two.d.next = (self.count.q.val() > self.plus_one.val());
        self.one.next = self.has_one.q.val();
        self.two.next = self.has_two.q.val();

        if self.reset.val() {
            self.count.d.next = self.all.val();
            self.spent_one.d.next = false;
            self.spent_two.d.next = false;
            self.came_back.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn counts_what_is_spent_and_returned() {
        for credit_bits in [2, 5] {
            let mut bench =
                Bench::new(&format!("fetch_credits_{credit_bits}"), FetchCredits::new(credit_bits));
            let mut random = seeded();
            bench.set("reset", 1);
            bench.cycle();
            bench.set("reset", 0);
            bench.cycle();
            let all = 1u64 << credit_bits;
            let (mut left, mut spent_at, mut changed_at, mut empty) = (all, 0, 0, 0);
            for cycle in 4..20_000u64 {
                let two = bench.get("two") == 1;
                let one = bench.get("one") == 1;
                if cycle >= changed_at + 3 {
                    assert_eq!((one, two), (left >= 1, left >= 2), "cycle {cycle}");
                }
                empty += u64::from(left == 0);
                let may = cycle >= spent_at + 3;
                let spend_two = may && two && random.random_bool(0.5);
                let spend_one = may && one && !spend_two && random.random_bool(0.5);
                let returned = left < all && random.random_bool(0.3);
                if spend_one || spend_two {
                    spent_at = cycle;
                }
                if spend_one || spend_two || returned {
                    changed_at = cycle;
                }
                left -= u64::from(spend_one) + 2 * u64::from(spend_two);
                left += u64::from(returned);
                bench.set("spend_one", spend_one.into());
                bench.set("spend_two", spend_two.into());
                bench.set("returned", returned.into());
                bench.cycle();
            }
            assert!(empty > 100, "{empty} cycles without credit");
        }
    }
}
