//! The lock of overlapping writes to several copies.
//!
//! `ask` names a plan slot and its blocks; `answer_valid` with `granted` follows once for each, in order.
//! Granted: no other slot that overlaps is, until `release` names the slot. Denied: the slot is parked here
//! and offered in `again` later, upon which it asks again. A page (4 KiB) has a bucket, `page + hash(disk)`
//! modulo the buckets, so two pages may share one: a false hit, which only delays. All buckets of a write or
//! none are taken; a write of more than 257 pages takes its disk alone.
//!
//! Latency: the answer comes 7 cycles after an ask of one page is taken, another one later for each
//! further page. Throughput: one ask every 7 cycles, two more for each further page, and beside it one release
//! every 6 cycles, one more for each further page and each conflict with an ask, which goes first.
//! The claim (`lock_claim.rs`) keeps what one parked write wants from all others.
//!
//! Fairness: a parked slot is tried once after every release, from the head of the queue, one at a time
//! (`lock_parking.rs`). Denied for the ninth time, it claims its range if nobody else has a claim: nothing that
//! overlaps is granted before it, so it waits for those that hold its blocks then and for nobody who asks
//! later. A claim lasts for at most 2 x 2^`slot_bits` releases, so that a write that never ends stops nobody
//! but those that overlap it; the starved claim in the order of the queue. Writes that share no bucket and no
//! disk held alone never wait for one another.
//!
//! A slot is released once when it was granted; one that was offered in `again` and does not ask, since it was
//! refused meanwhile, is released too: it holds nothing, and the others' tries go on. Reset forgets all locks
//! and all that is parked, and clears the RAMs; `initialised` says when that is done. No failure.

use rust_hdl::prelude::*;

use super::lock_claim::LockClaim;
use super::lock_parking::LockParking;
use super::lock_place::LockPlace;
use super::lock_release::LockRelease;
use crate::logic_record;
use crate::prim::ram::BlockRam;
use crate::prim::register::Register;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Again, LockRequest};
use crate::sizes::Sizes;

logic_record! {
    /// Locks granted on a disk. As many as were released: nothing is held.
    DiskGrants: 14 {
        /// Locks granted, modulo 2^13.
        count = 13,
        /// 1: the last one was of the whole disk.
        exclusive = 1,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    /// The disk's counts are addressed.
    Place,
    Add,
    /// Bucket and pages are there.
    Span,
    Walk,
    Verdict,
    Act,
    Set,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct RangeLock {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub initialised: Signal<Out, bool>,
    pub ask: StreamIn<LockRequest>,
    pub answer_valid: Signal<Out, bool>,
    pub granted: Signal<Out, bool>,
    pub release: StreamIn<Bits<12>>,
    pub again: StreamOut<Again>,
    pub idle: Signal<Out, bool>,

    /// By bucket: locked.
    busy: BlockRam<Bits<1>>,
    /// By disk: what was granted, and how many of these were released.
    grants: BlockRam<DiskGrants>,
    releases: BlockRam<Bits<13>>,
    place: LockPlace,
    releasing: LockRelease,
    parking: LockParking,
    claim: LockClaim,
    state: DFF<State>,
    request: Register<LockRequest>,
    /// Right for what is not too long.
    pages_less_one: DFF<Bits<9>>,
    walk_bucket: DFF<Bits<16>>,
    walk_left: DFF<Bits<9>>,
    /// None is left; or no more need be asked for.
    stop: DFF<bool>,
    single: DFF<bool>,
    long: DFF<bool>,
    /// The bucket read now, one and two cycles ago, is the write's.
    wanted_1: DFF<bool>,
    wanted_2: DFF<bool>,
    hit: DFF<bool>,
    /// The write takes its disk alone.
    exclusive: DFF<bool>,
    granted_next: DFF<Bits<13>>,
    /// The disk's last lock was of the whole disk; none is held.
    disk_exclusive: DFF<bool>,
    disk_unused: DFF<bool>,
    denied: DFF<bool>,
    /// Denied, or granted without buckets.
    no_marks: DFF<bool>,
    /// A judgement ended a cycle ago.
    acted: DFF<bool>,
    granting: DFF<bool>,
    ready: DFF<bool>,
    resting: DFF<bool>,
    answer: DFF<bool>,
    answer_granted: DFF<bool>,
    mark: DFF<bool>,
    mark_bucket: DFF<Bits<16>>,
    mark_value: DFF<Bits<1>>,
    cleared: DFF<Bits<17>>,
    all_cleared: DFF<bool>,
    asked: Signal<Local, LockRequest>,
    refused: Signal<Local, bool>,
    setting: Signal<Local, bool>,
    bucket_hit: Signal<Local, bool>,
    disk_grants: Signal<Local, DiskGrants>,
    left_one: Signal<Local, bool>,
    pages_17: Signal<Local, Bits<17>>,
    pages_now: Signal<Local, Bits<9>>,
    taking: Signal<Local, bool>,
    walk: Signal<Local, Bits<16>>,
    walk_from: Signal<Local, Bits<16>>,
    steps: Constant<Bits<17>>,
    zero17: Constant<Bits<17>>,
    one17: Constant<Bits<17>>,
    one16: Constant<Bits<16>>,
    one9: Constant<Bits<9>>,
    one13: Constant<Bits<13>>,
    no_grants: Constant<Bits<14>>,
    no_releases: Constant<Bits<13>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl RangeLock {
    /// 2^`lock_bits` buckets for 2^`slot_bits` slots and 2^`vd_bits` disks.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((9..=16).contains(&sizes.lock_bits), "2^{} locks", sizes.lock_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            initialised: Default::default(),
            ask: Default::default(),
            answer_valid: Default::default(),
            granted: Default::default(),
            release: Default::default(),
            again: Default::default(),
            idle: Default::default(),
            busy: BlockRam::new(sizes.lock_bits),
            grants: BlockRam::new(sizes.vd_bits),
            releases: BlockRam::new(sizes.vd_bits),
            place: LockPlace::new(sizes.lock_bits),
            releasing: LockRelease::new(sizes),
            parking: LockParking::new(sizes),
            claim: LockClaim::new(sizes),
            state: Default::default(),
            request: Default::default(),
            pages_less_one: Default::default(),
            walk_bucket: Default::default(),
            walk_left: Default::default(),
            stop: Default::default(),
            single: Default::default(),
            long: Default::default(),
            wanted_1: Default::default(),
            wanted_2: Default::default(),
            hit: Default::default(),
            exclusive: Default::default(),
            granted_next: Default::default(),
            disk_exclusive: Default::default(),
            disk_unused: Default::default(),
            denied: Default::default(),
            no_marks: Default::default(),
            acted: Default::default(),
            granting: Default::default(),
            ready: Default::default(),
            resting: Default::default(),
            answer: Default::default(),
            answer_granted: Default::default(),
            mark: Default::default(),
            mark_bucket: Default::default(),
            mark_value: Default::default(),
            cleared: Default::default(),
            all_cleared: Default::default(),
            asked: Default::default(),
            refused: Default::default(),
            setting: Default::default(),
            bucket_hit: Default::default(),
            disk_grants: Default::default(),
            left_one: Default::default(),
            pages_17: Default::default(),
            pages_now: Default::default(),
            taking: Default::default(),
            walk: Default::default(),
            walk_from: Default::default(),
            steps: Constant::new((1u64 << sizes.lock_bits.max(sizes.slot_bits).max(sizes.vd_bits)).to_bits()),
            zero17: Constant::new(0u64.to_bits()),
            one17: Constant::new(1u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            one9: Constant::new(1u64.to_bits()),
            one13: Constant::new(1u64.to_bits()),
            no_grants: Constant::new(0u64.to_bits()),
            no_releases: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for RangeLock {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            state,
            pages_less_one,
            walk_bucket,
            walk_left,
            stop,
            single,
            long,
            wanted_1,
            wanted_2,
            hit,
            exclusive,
            granted_next,
            disk_exclusive,
            disk_unused,
            denied,
            no_marks,
            acted,
            granting,
            ready,
            resting,
            answer,
            answer_granted,
            mark,
            mark_bucket,
            mark_value,
            cleared,
            all_cleared
        );
        self.request.clock.next = self.clock.val();
        self.busy.clock.next = self.clock.val();
        self.grants.clock.next = self.clock.val();
        self.releases.clock.next = self.clock.val();
        self.place.clock.next = self.clock.val();
        self.releasing.clock.next = self.clock.val();
        self.releasing.reset.next = self.reset.val();
        self.parking.clock.next = self.clock.val();
        self.parking.reset.next = self.reset.val();
        self.claim.clock.next = self.clock.val();
        self.claim.reset.next = self.reset.val();

        self.ask.ready.next = self.ready.q.val();
        self.taking.next = self.ready.q.val() & self.ask.valid.val();
        self.ready.d.next = false;
        // Whatever is offered: it stands still once it was taken.
        self.request.load.next = self.ready.q.val();
        self.request.d.next = self.ask.data.val();
        self.asked.next = self.request.q.val();
        self.place.request.next = self.asked.val();
        self.setting.next = ((self.state.q.val() == State::Act) & !self.no_marks.q.val())
            | (self.state.q.val() == State::Set);
        self.bucket_hit.next =
            self.hit.q.val() | (self.wanted_2.q.val() & (self.busy.read_data.val() == self.flag.val()));
        self.disk_grants.next = self.grants.read_data.val();
        self.pages_17.next = self.place.pages_less_one.val();
        self.pages_now.next = self.pages_17.val().get_bits::<9>(0);
        self.left_one.next = (self.walk_left.q.val() == self.one9.val());

        self.refused.next = self.bucket_hit.val()
            | (self.disk_exclusive.q.val() & !self.disk_unused.q.val())
            | self.claim.range_conflict.val();
        if self.exclusive.q.val() {
            self.refused.next = !self.disk_unused.q.val() | self.claim.disk_conflict.val();
        }
        self.walk_from.next = self.walk_bucket.q.val();
        self.wanted_1.d.next = false;
        self.wanted_2.d.next = self.wanted_1.q.val();
        self.hit.d.next = self.bucket_hit.val();
        self.acted.d.next = (self.state.q.val() == State::Act);
        self.granting.d.next = (self.state.q.val() == State::Act) & !self.denied.q.val();
        self.answer.d.next = (self.state.q.val() == State::Act);
        self.answer_granted.d.next = !self.denied.q.val();
        match self.state.q.val() {
            State::Idle => {
                self.hit.d.next = false;
                self.exclusive.d.next = false;
                self.ready.d.next = self.all_cleared.q.val() & !self.taking.val();
                if self.taking.val() {
                    self.state.d.next = State::Place;
                }
            }
            State::Place => {
                self.state.d.next = State::Add;
            }
            State::Add => {
                self.state.d.next = State::Span;
            }
            State::Span => {
                self.walk_from.next = self.place.bucket.val();
                self.walk_bucket.d.next = self.place.bucket.val() + self.one16.val();
                self.walk_left.d.next = self.pages_now.val();
                self.stop.d.next = self.place.single.val() | self.place.too_long.val();
                self.single.d.next = self.place.single.val();
                self.long.d.next = self.place.too_long.val();
                self.pages_less_one.d.next = self.pages_now.val();
                self.wanted_1.d.next = true;
                self.disk_exclusive.d.next = (self.disk_grants.val().exclusive == self.flag.val());
                self.disk_unused.d.next = (self.disk_grants.val().count == self.releases.read_data.val());
                self.granted_next.d.next = self.disk_grants.val().count + self.one13.val();
                self.state.d.next = State::Walk;
            }
            State::Walk => {
                self.walk_bucket.d.next = self.walk_bucket.q.val() + self.one16.val();
                self.walk_left.d.next = self.walk_left.q.val() - self.one9.val();
                self.stop.d.next = self.left_one.val() | self.bucket_hit.val();
                self.wanted_1.d.next = !self.stop.q.val();
                self.exclusive.d.next = self.long.q.val();
                if self.stop.q.val() {
                    self.state.d.next = State::Verdict;
                }
            }
            State::Verdict => {
                self.walk_bucket.d.next = self.place.bucket.val();
                self.walk_left.d.next = self.pages_less_one.q.val();
                self.stop.d.next = self.single.q.val();
                self.denied.d.next = self.refused.val();
                self.no_marks.d.next = self.exclusive.q.val() | self.refused.val();
                self.state.d.next = State::Act;
            }
            State::Act => {
                self.walk_bucket.d.next = self.walk_bucket.q.val() + self.one16.val();
                self.walk_left.d.next = self.walk_left.q.val() - self.one9.val();
                self.stop.d.next = self.left_one.val();
                self.state.d.next = State::Set;
                if self.no_marks.q.val() | self.stop.q.val() {
                    self.ready.d.next = true;
                    self.state.d.next = State::Idle;
                }
            }
            State::Set => {
                self.walk_bucket.d.next = self.walk_bucket.q.val() + self.one16.val();
                self.walk_left.d.next = self.walk_left.q.val() - self.one9.val();
                self.stop.d.next = self.left_one.val();
                if self.stop.q.val() {
                    self.ready.d.next = true;
                    self.state.d.next = State::Idle;
                }
            }
            _ => {}
        }
        self.answer_valid.next = self.answer.q.val();
        self.granted.next = self.answer_granted.q.val();

        // Buckets: a lock is set before others are cleared.
        self.walk.next = bit_cast::<16, 17>(self.cleared.q.val());
        self.mark.d.next = self.setting.val() | self.releasing.clear.val() | !self.all_cleared.q.val();
        self.mark_bucket.d.next = self.releasing.clear_bucket.val();
        self.mark_value.d.next = self.clear.val();
        if self.setting.val() {
            self.mark_bucket.d.next = self.walk_bucket.q.val();
            self.mark_value.d.next = self.flag.val();
        }
        if !self.all_cleared.q.val() {
            self.mark_bucket.d.next = self.walk.val();
            self.mark_value.d.next = self.clear.val();
        }
        self.busy.write.next = self.mark.q.val();
        self.busy.write_address.next = self.mark_bucket.q.val();
        self.busy.write_data.next = self.mark_value.q.val();
        self.busy.read_address.next = self.walk_from.val();

        // Disks.
        self.grants.read_address.next = self.asked.val().disk;
        self.grants.write.next = self.granting.q.val() | !self.all_cleared.q.val();
        self.grants.write_address.next = self.asked.val().disk;
        self.grants.write_data.next.count = self.granted_next.q.val();
        self.grants.write_data.next.exclusive = self.exclusive.q.val().into();
        self.releases.read_address.next = self.releasing.disk.val();
        if (self.state.q.val() == State::Place) {
            self.releases.read_address.next = self.asked.val().disk;
        }
        self.releases.write.next = self.releasing.count.val() | !self.all_cleared.q.val();
        self.releases.write_address.next = self.releasing.disk.val();
        self.releases.write_data.next = self.releasing.count_value.val();
        if !self.all_cleared.q.val() {
            self.grants.write_address.next = self.walk.val();
            self.grants.write_data.next = self.no_grants.val().into();
            self.releases.write_address.next = self.walk.val();
            self.releases.write_data.next = self.no_releases.val();
            self.cleared.d.next = self.cleared.q.val() + self.one17.val();
            self.all_cleared.d.next = (self.cleared.q.val() == self.steps.val());
        }

        self.releasing.initialising.next = !self.all_cleared.q.val();
        self.releasing.walk.next = self.walk.val();
        StreamIn::<Bits<12>>::link(&mut self.release, &mut self.releasing.release);
        self.releasing.store.next = self.granting.q.val();
        self.releasing.store_slot.next = self.asked.val().slot;
        self.releasing.store_range.next.bucket = self.place.bucket.val();
        self.releasing.store_range.next.buckets_less_one = self.pages_less_one.q.val();
        self.releasing.store_range.next.single = (self.single.q.val() | self.exclusive.q.val()).into();
        self.releasing.store_range.next.exclusive = self.exclusive.q.val().into();
        self.releasing.store_range.next.disk = self.asked.val().disk;
        self.releasing.store_range.next.holds = self.flag.val();
        self.releasing.hold.next = self.setting.val();
        self.releasing.stolen.next = (self.state.q.val() == State::Place);
        self.releasing.counted.next = self.releases.read_data.val();

        self.claim.slot.next = self.asked.val().slot;
        self.claim.disk.next = self.asked.val().disk;
        self.claim.bucket.next = self.place.bucket.val();
        self.claim.pages_less_one.next = self.pages_less_one.q.val();
        self.claim.exclusive.next = self.exclusive.q.val();
        self.claim.act.next = self.acted.q.val();
        self.claim.denied.next = self.denied.q.val();
        self.claim.starved.next = self.parking.starved.val();
        self.claim.gone.next = self.releasing.ended.val();
        self.claim.gone_slot.next = self.releasing.ended_slot.val();

        self.parking.slot.next = self.asked.val().slot;
        self.parking.act.next = self.acted.q.val();
        self.parking.denied.next = self.denied.q.val();
        self.parking.resubmitted.next = self.asked.val().resubmitted;
        self.parking.quiet.next = (self.state.q.val() == State::Idle);
        self.parking.wake.next = self.releasing.ended.val() | self.claim.ended.val();
        self.parking.gone.next = self.releasing.ended.val();
        self.parking.gone_slot.next = self.releasing.ended_slot.val();
        StreamOut::<Again>::link(&mut self.again, &mut self.parking.again);

        self.initialised.next = self.all_cleared.q.val();
        self.resting.d.next = self.ready.q.val()
            & !self.acted.q.val()
            & !self.answer.q.val()
            & self.releasing.idle.val()
            & !self.releasing.ended.val()
            & self.parking.idle.val()
            & !self.claim.ended.val();
        self.idle.next = self.resting.q.val()
            & self.ready.q.val()
            & self.releasing.idle.val()
            & !self.ask.valid.val()
            & !self.release.valid.val();

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.ready.d.next = false;
            self.acted.d.next = false;
            self.granting.d.next = false;
            self.answer.d.next = false;
            self.resting.d.next = false;
            self.mark.d.next = false;
            self.cleared.d.next = self.zero17.val();
            self.all_cleared.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
