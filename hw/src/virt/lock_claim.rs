//! The claim: the range of a parked write that was denied too often, which nobody else may lock.
//!
//! A write under judgement gives `slot`, `disk`, `bucket` and `pages_less_one`; three cycles after the first three and
//! one after the last, `disk_conflict` and `range_conflict` are right: it is not the claimant, and would be in the
//! way if it locked its disk, or its pages. `act`, later, says
//! how it ended: `denied`, and `starved`, a cycle before, if it may claim. The claim is free again when the claimant is
//! granted its lock, when its slot is `gone`, and when it is denied with 2 x 2^`slot_bits` releases behind
//! it since the claim: what blocks it is stuck, and others starve too. `ended` says so: those who were denied
//! on its account are to be tried.
//!
//! One judgement at a time. Reset ends the claim. No failure.

use rust_hdl::prelude::*;

use crate::logic_record;
use crate::sizes::Sizes;

logic_record! {
    /// What is claimed.
    ClaimedRange: 54 {
        /// Slot.
        slot = 12,
        /// First bucket.
        bucket = 16,
        /// Pages, less one, unless it is exclusive.
        pages_less_one = 9,
        /// Disk.
        disk = 16,
        /// 1: the disk alone.
        exclusive = 1,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct LockClaim {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub slot: Signal<In, Bits<12>>,
    pub disk: Signal<In, Bits<16>>,
    pub bucket: Signal<In, Bits<16>>,
    pub pages_less_one: Signal<In, Bits<9>>,
    pub exclusive: Signal<In, bool>,
    pub disk_conflict: Signal<Out, bool>,
    pub range_conflict: Signal<Out, bool>,
    pub act: Signal<In, bool>,
    pub denied: Signal<In, bool>,
    pub starved: Signal<In, bool>,
    pub gone: Signal<In, bool>,
    pub gone_slot: Signal<In, Bits<12>>,
    pub ended: Signal<Out, bool>,

    valid: DFF<bool>,
    claim: DFF<ClaimedRange>,
    /// Releases since it began.
    age: DFF<Bits<16>>,
    aged: DFF<bool>,
    ended_register: DFF<bool>,
    /// The claimant is gone.
    gone_register: DFF<bool>,
    /// There is no claim, and who is judged may have it.
    may_claim: DFF<bool>,
    began: DFF<bool>,
    /// From the claim's first bucket to the other's, and back.
    ahead: DFF<Bits<16>>,
    behind: DFF<Bits<16>>,
    overlaps_ahead: DFF<bool>,
    overlaps_behind: DFF<bool>,
    same_disk: DFF<bool>,
    another: DFF<bool>,
    claimant: DFF<bool>,
    claims_disk: Signal<Local, bool>,
    overlap: Signal<Local, bool>,
    ending: Signal<Local, bool>,
    ahead_now: Signal<Local, Bits<16>>,
    behind_now: Signal<Local, Bits<16>>,
    behind_high: Signal<Local, Bits<7>>,
    behind_low: Signal<Local, Bits<9>>,
    ahead_high: Signal<Local, Bits<7>>,
    ahead_low: Signal<Local, Bits<9>>,
    bucket_mask: Constant<Bits<16>>,
    age_limit: Constant<Bits<16>>,
    one: Constant<Bits<16>>,
    zero: Constant<Bits<16>>,
    flag: Constant<Bits<1>>,
}

impl LockClaim {
    /// Of one of 2^`lock_bits` buckets, for one of 2^`slot_bits` slots.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            slot: Default::default(),
            disk: Default::default(),
            bucket: Default::default(),
            pages_less_one: Default::default(),
            exclusive: Default::default(),
            disk_conflict: Default::default(),
            range_conflict: Default::default(),
            act: Default::default(),
            denied: Default::default(),
            starved: Default::default(),
            gone: Default::default(),
            gone_slot: Default::default(),
            ended: Default::default(),
            valid: Default::default(),
            claim: Default::default(),
            age: Default::default(),
            aged: Default::default(),
            ended_register: Default::default(),
            gone_register: Default::default(),
            may_claim: Default::default(),
            began: Default::default(),
            ahead: Default::default(),
            behind: Default::default(),
            overlaps_ahead: Default::default(),
            overlaps_behind: Default::default(),
            same_disk: Default::default(),
            another: Default::default(),
            claimant: Default::default(),
            claims_disk: Default::default(),
            overlap: Default::default(),
            ending: Default::default(),
            ahead_now: Default::default(),
            behind_now: Default::default(),
            behind_high: Default::default(),
            behind_low: Default::default(),
            ahead_high: Default::default(),
            ahead_low: Default::default(),
            bucket_mask: Constant::new(((1u64 << sizes.lock_bits) - 1).to_bits()),
            age_limit: Constant::new((2u64 << sizes.slot_bits).to_bits()),
            one: Constant::new(1u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for LockClaim {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            valid,
            claim,
            age,
            aged,
            ended_register,
            gone_register,
            may_claim,
            began,
            ahead,
            behind,
            overlaps_ahead,
            overlaps_behind,
            same_disk,
            another,
            claimant
        );
        // Overlapping ranges: one begins inside the other.
        self.ahead_now.next = self.bucket.val() - self.claim.q.val().bucket;
        self.behind_now.next = self.claim.q.val().bucket - self.bucket.val();
        self.ahead.d.next = self.ahead_now.val() & self.bucket_mask.val();
        self.behind.d.next = self.behind_now.val() & self.bucket_mask.val();
        self.ahead_low.next = self.ahead.q.val().get_bits::<9>(0);
        self.ahead_high.next = self.ahead.q.val().get_bits::<7>(9);
        self.behind_low.next = self.behind.q.val().get_bits::<9>(0);
        self.behind_high.next = self.behind.q.val().get_bits::<7>(9);
        self.overlaps_ahead.d.next =
            !self.ahead_high.val().any() & (self.ahead_low.val() <= self.claim.q.val().pages_less_one);
        self.overlaps_behind.d.next =
            !self.behind_high.val().any() & (self.behind_low.val() <= self.pages_less_one.val());
        self.same_disk.d.next = (self.claim.q.val().disk == self.disk.val());
        self.claimant.d.next = self.valid.q.val() & (self.claim.q.val().slot == self.slot.val());
        self.another.d.next = self.valid.q.val() & (self.claim.q.val().slot != self.slot.val());
        self.claims_disk.next = (self.claim.q.val().exclusive == self.flag.val());
        self.overlap.next = self.overlaps_ahead.q.val() | self.overlaps_behind.q.val();
        self.disk_conflict.next = self.another.q.val() & self.same_disk.q.val();
        self.range_conflict.next = self.another.q.val()
            & ((self.claims_disk.val() & self.same_disk.q.val())
                | (!self.claims_disk.val() & self.overlap.val()));

        self.gone_register.d.next =
            self.gone.val() & self.valid.q.val() & (self.claim.q.val().slot == self.gone_slot.val());
        self.may_claim.d.next = self.starved.val() & !self.valid.q.val();
        self.ending.next =
            (self.act.val() & self.claimant.q.val() & (!self.denied.val() | self.aged.q.val()))
                | self.gone_register.q.val();
        self.aged.d.next = (self.age.q.val() == self.age_limit.val());
        if self.gone.val() & !self.aged.q.val() & (self.age.q.val() != self.age_limit.val()) {
            self.age.d.next = self.age.q.val() + self.one.val();
        }
        if self.ended_register.q.val() {
            self.valid.d.next = false;
        }
        self.began.d.next = self.act.val() & self.denied.val() & self.may_claim.q.val();
        if self.began.q.val() {
            self.valid.d.next = true;
        }
        if self.act.val() & self.denied.val() & self.may_claim.q.val() {
            self.claim.d.next.slot = self.slot.val();
            self.claim.d.next.bucket = self.bucket.val();
            self.claim.d.next.pages_less_one = self.pages_less_one.val();
            self.claim.d.next.disk = self.disk.val();
            self.claim.d.next.exclusive = self.exclusive.val().into();
            self.age.d.next = self.zero.val();
            self.aged.d.next = false;
        }
        self.ended_register.d.next = self.ending.val();
        self.ended.next = self.ended_register.q.val();

        if self.reset.val() {
            self.valid.d.next = false;
            self.ended_register.d.next = false;
            self.gone_register.d.next = false;
            self.may_claim.d.next = false;
            self.began.d.next = false;
        }
    }
}
