//! The masks: what a plan does next, given what has become of its components.
//!
//! All sets are of eight components, bit i for component i. Of a component that is issued to exactly one of
//! `running`, `done`, `failed` and `refused` is set, or none if it was stopped; of the others none. The
//! outcomes are those of `docs/plan-outcomes.md`. `deactivate` and `drain` stand while the plan is still under
//! way; all else is for a plan of which nothing is running.
//!
//! Handshake: a pipeline that never stalls, and carries nothing but the answer. Latency: 3 cycles.
//! Throughput: one a cycle, in order. No reset: what says that an answer means something has one.

use rust_hdl::prelude::*;
use volplane_abi::plan::reason;

use crate::logic_record;
use crate::records::PlanMasks;

logic_record! {
    /// The components of a plan by what they are and by what has become of them.
    PlanSets: 62 {
        /// There, in whatever state.
        present = 8,
        /// In sync.
        readable = 8,
        /// Out, and the control path has made that durable.
        durably_out = 8,
        /// Under way.
        running = 8,
        /// Succeeded.
        done = 8,
        /// Failed, retries and paths used up.
        failed = 8,
        /// Ended with a result that is the client's own doing.
        refused = 8,
        /// Components in sync that must succeed for a write to succeed, 0 to 8.
        minimum = 4,
        /// 1: a read or Compare.
        is_read = 1,
        /// 1: nothing more of it is issued, whatever becomes of its components: it is the control path's.
        stop = 1,
    }
}

logic_record! {
    /// What the plan does.
    MaskVerdict: 42 {
        /// 1: nothing more is issued.
        drain = 1,
        /// 1: it becomes the control path's, when drained.
        exception = 1,
        /// 1: it goes on, with a read of one of `left`.
        another = 1,
        /// 1: it ends with success.
        success = 1,
        /// Of an end without: the component whose status is reported,
        component = 3,
        /// 1: and there is none.
        nobody = 1,
        /// 1: its completion waits until the control path releases the plan.
        held = 1,
        /// 1: the disk is deactivated.
        deactivate = 1,
        /// Components that are moved out.
        out = 8,
        /// Components in sync that have not failed.
        left = 8,
        /// Reasons of the record that is posted; 0: none is.
        reasons = 16,
    }
}

logic_record! {
    /// What the first stage finds of a plan.
    MaskFindings: 43 {
        /// Components whose lowest number is reported.
        reported = 8,
        /// In sync and not failed.
        left = 8,
        /// Failed.
        failed = 8,
        /// Components in sync that succeeded.
        copies = 4,
        /// As many as are needed.
        minimum = 4,
        /// 1: a component failed that is not forgiven.
        unforgiven = 1,
        /// 1: something is running.
        running = 1,
        /// 1: something was refused.
        refused = 1,
        /// 1: a failure that fails the write.
        counting = 1,
        /// 1: something succeeded.
        done = 1,
        /// 1: a component missed the write that is not durably out.
        missed = 1,
        /// 1: a failure is logged.
        log = 1,
        /// 1: and with data.
        log_with_data = 1,
        /// 1: a failure deactivates the disk.
        deactivate = 1,
        /// 1: a read or Compare.
        is_read = 1,
        /// 1: it is stopped in any case.
        stop = 1,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct MaskVerdicts {
    pub clock: Signal<In, Clock>,
    pub sets: Signal<In, PlanSets>,
    pub masks: Signal<In, PlanMasks>,
    pub verdict: Signal<Out, MaskVerdict>,

    found: DFF<MaskFindings>,
    // A cycle later: with what is to be compared and looked for.
    weighed: DFF<MaskFindings>,
    enough: DFF<bool>,
    component: DFF<Bits<3>>,
    nobody: DFF<bool>,
    verdict_register: DFF<MaskVerdict>,
    good_copies: Signal<Local, Bits<8>>,
    counting: Signal<Local, Bits<8>>,
    logged: Signal<Local, Bits<8>>,
    logged_with_data: Signal<Local, Bits<8>>,
    missed: Signal<Local, Bits<8>>,
    deactivating: Signal<Local, Bits<8>>,
    unforgiven: Signal<Local, Bits<8>>,
    pairs: [Signal<Local, Bits<4>>; 4],
    bit_values: [Signal<Local, Bits<4>>; 8],
    reported: Signal<Local, Bits<8>>,
    log_reasons: Signal<Local, Bits<16>>,
    succeeds: Signal<Local, bool>,
    stopped: Signal<Local, bool>,
    zero4: Constant<Bits<4>>,
    one4: Constant<Bits<4>>,
    zero8: Constant<Bits<8>>,
    zero16: Constant<Bits<16>>,
    component_failure: Constant<Bits<16>>,
    log: Constant<Bits<16>>,
    log_with_data: Constant<Bits<16>>,
    missed_write: Constant<Bits<16>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl Default for MaskVerdicts {
    fn default() -> Self {
        let constant = |value: u16| Constant::new(u64::from(value).to_bits());
        Self {
            clock: Default::default(),
            sets: Default::default(),
            masks: Default::default(),
            verdict: Default::default(),
            found: Default::default(),
            weighed: Default::default(),
            enough: Default::default(),
            component: Default::default(),
            nobody: Default::default(),
            verdict_register: Default::default(),
            good_copies: Default::default(),
            counting: Default::default(),
            logged: Default::default(),
            logged_with_data: Default::default(),
            missed: Default::default(),
            deactivating: Default::default(),
            unforgiven: Default::default(),
            pairs: Default::default(),
            bit_values: Default::default(),
            reported: Default::default(),
            log_reasons: Default::default(),
            succeeds: Default::default(),
            stopped: Default::default(),
            zero4: Constant::new(0u64.to_bits()),
            one4: Constant::new(1u64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            component_failure: constant(reason::COMPONENT_FAILURE),
            log: constant(reason::LOG),
            log_with_data: constant(reason::LOG | reason::LOG_WITH_DATA),
            missed_write: constant(reason::MISSED_WRITE),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for MaskVerdicts {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, found, weighed, enough, component, nobody, verdict_register);

        // What there is.
        self.good_copies.next = self.sets.val().done & self.sets.val().readable;
        self.counting.next = self.sets.val().failed & self.masks.val().success;
        self.logged.next = self.sets.val().failed & self.masks.val().log;
        self.logged_with_data.next = self.logged.val() & self.masks.val().log_with_data;
        self.missed.next = self.sets.val().present & !self.sets.val().done & !self.sets.val().durably_out;
        self.deactivating.next = self.sets.val().failed & self.masks.val().deactivate;
        self.unforgiven.next = self.sets.val().failed & !self.masks.val().continuation;
        for i in 0..8 {
            self.bit_values[i].next = self.zero4.val();
            if self.good_copies.val().get_bit(i) {
                self.bit_values[i].next = self.one4.val();
            }
        }
        for i in 0..4 {
            self.pairs[i].next = self.bit_values[2 * i].val() + self.bit_values[2 * i + 1].val();
        }
        // A refusal first; of a write, what makes it fail; else whatever failed.
        self.found.d.next.reported = self.sets.val().failed;
        if self.counting.val().any() & (self.sets.val().is_read == self.clear.val()) {
            self.found.d.next.reported = self.counting.val();
        }
        if self.sets.val().refused.any() {
            self.found.d.next.reported = self.sets.val().refused;
        }
        self.found.d.next.left = self.sets.val().readable & !self.sets.val().failed;
        self.found.d.next.failed = self.sets.val().failed;
        self.found.d.next.copies =
            (self.pairs[0].val() + self.pairs[1].val()) + (self.pairs[2].val() + self.pairs[3].val());
        self.found.d.next.minimum = self.sets.val().minimum;
        self.found.d.next.unforgiven = self.unforgiven.val().any().into();
        self.found.d.next.running = self.sets.val().running.any().into();
        self.found.d.next.refused = self.sets.val().refused.any().into();
        self.found.d.next.counting = self.counting.val().any().into();
        self.found.d.next.done = self.sets.val().done.any().into();
        self.found.d.next.missed = self.missed.val().any().into();
        self.found.d.next.log = self.logged.val().any().into();
        self.found.d.next.log_with_data = self.logged_with_data.val().any().into();
        self.found.d.next.deactivate = self.deactivating.val().any().into();
        self.found.d.next.is_read = self.sets.val().is_read;
        self.found.d.next.stop = self.sets.val().stop;

        // Whether there are enough, and whose status is reported.
        self.weighed.d.next = self.found.q.val();
        self.enough.d.next = (self.found.q.val().copies >= self.found.q.val().minimum);
        self.reported.next = self.found.q.val().reported;
        self.component.d.next = bits::<3>(7);
        for i in 1..8 {
            if self.reported.val().get_bit(7 - i) {
                self.component.d.next = (7 - i).to_bits();
            }
        }
        self.nobody.d.next = !self.reported.val().any();

        // What comes of it.
        self.stopped.next = (self.weighed.q.val().unforgiven | self.weighed.q.val().stop) == self.flag.val();
        self.succeeds.next = (self.weighed.q.val().counting == self.clear.val()) & self.enough.q.val();
        if (self.weighed.q.val().is_read == self.flag.val()) {
            self.succeeds.next = (self.weighed.q.val().done == self.flag.val());
        }
        if (self.weighed.q.val().refused == self.flag.val()) | self.stopped.val() {
            self.succeeds.next = false;
        }
        self.log_reasons.next = self.zero16.val();
        if (self.weighed.q.val().log == self.flag.val()) {
            self.log_reasons.next = self.log.val();
        }
        if (self.weighed.q.val().log_with_data == self.flag.val()) {
            self.log_reasons.next = self.log_with_data.val();
        }
        self.verdict_register.d.next.drain = self.stopped.val().into();
        self.verdict_register.d.next.exception =
            (self.stopped.val() & (self.weighed.q.val().running == self.clear.val())).into();
        self.verdict_register.d.next.another = ((self.weighed.q.val().is_read == self.flag.val())
            & (self.weighed.q.val().done == self.clear.val())
            & (self.weighed.q.val().refused == self.clear.val())
            & self.weighed.q.val().left.any()
            & !self.stopped.val())
        .into();
        self.verdict_register.d.next.success = self.succeeds.val().into();
        self.verdict_register.d.next.component = self.component.q.val();
        self.verdict_register.d.next.nobody = self.nobody.q.val().into();
        self.verdict_register.d.next.held = self.weighed.q.val().log_with_data;
        self.verdict_register.d.next.deactivate = self.weighed.q.val().deactivate;
        self.verdict_register.d.next.out = self.zero8.val();
        self.verdict_register.d.next.left = self.weighed.q.val().left;
        self.verdict_register.d.next.reasons = self.log_reasons.val();
        if self.succeeds.val() & (self.weighed.q.val().is_read == self.clear.val()) {
            self.verdict_register.d.next.out = self.weighed.q.val().failed;
            if (self.weighed.q.val().missed == self.flag.val()) {
                self.verdict_register.d.next.held = self.flag.val();
                self.verdict_register.d.next.reasons = self.log_reasons.val() | self.missed_write.val();
            }
        }
        if self.stopped.val() {
            self.verdict_register.d.next.held = self.clear.val();
            self.verdict_register.d.next.reasons = self.log_reasons.val();
            if (self.weighed.q.val().unforgiven == self.flag.val()) {
                self.verdict_register.d.next.reasons = self.log_reasons.val() | self.component_failure.val();
            }
        }
        self.verdict.next = self.verdict_register.q.val();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use std::collections::VecDeque;

    /// The rules of `docs/plan-outcomes.md`, as a list of cases.
    pub(crate) fn expected(sets: &PlanSets, masks: &PlanMasks) -> MaskVerdict {
        let of = |bits: Bits<8>| bits.to_u64() as u8;
        let (failed, done, refused) = (of(sets.failed), of(sets.done), of(sets.refused));
        let readable = of(sets.readable);
        let is_read = sets.is_read.any();
        let mut verdict = MaskVerdict::default();
        let mut reasons = 0;
        if failed & of(masks.log) != 0 {
            reasons |= reason::LOG;
        }
        if failed & of(masks.log) & of(masks.log_with_data) != 0 {
            reasons |= reason::LOG_WITH_DATA;
        }
        let mut held = reasons & reason::LOG_WITH_DATA != 0;
        let (mut out, mut success) = (0, false);
        let unforgiven = failed & !of(masks.continuation) != 0;
        let stopped = unforgiven || sets.stop.any();
        let counting = failed & of(masks.success);
        let mut reported = if refused != 0 { refused } else { failed };
        if stopped {
            reasons |= if unforgiven { reason::COMPONENT_FAILURE } else { 0 };
            held = false;
        } else if refused != 0 {
        } else if is_read {
            success = done != 0;
        } else if counting == 0 && u64::from((done & readable).count_ones()) >= sets.minimum.to_u64() {
            success = true;
            out = failed;
            if of(sets.present) & !done & !of(sets.durably_out) != 0 {
                reasons |= reason::MISSED_WRITE;
                held = true;
            }
        }
        if refused == 0 && !is_read && counting != 0 {
            reported = counting;
        }
        let left = readable & !failed;
        let another = is_read && !stopped && refused == 0 && done == 0 && left != 0;
        let bit = |on: bool| u64::from(on).to_bits();
        verdict.drain = bit(stopped);
        verdict.exception = bit(stopped && !sets.running.any());
        verdict.another = bit(another);
        verdict.success = bit(success);
        verdict.component = u64::from(reported.trailing_zeros().min(7)).to_bits();
        verdict.nobody = bit(reported == 0);
        verdict.held = bit(held);
        verdict.deactivate = bit(failed & of(masks.deactivate) != 0);
        verdict.out = u64::from(out).to_bits();
        verdict.left = u64::from(left).to_bits();
        verdict.reasons = u64::from(reasons).to_bits();
        verdict
    }

    fn mask(random: &mut ChaCha8Rng) -> Bits<8> {
        let bits: u8 = match random.random_range(0..4) {
            0 => 0,
            1 => 0xFF,
            2 => 1 << random.random_range(0..8),
            _ => random.random(),
        };
        u64::from(bits).to_bits()
    }

    fn random_sets(random: &mut ChaCha8Rng) -> PlanSets {
        let mut sets = [0u64; 7];
        let [present, readable, durably_out, running, done, failed, refused] = &mut sets;
        let count = random.random_range(1..=8);
        for bit in (0..count).map(|number| 1 << number) {
            match random.random_range(0..10) {
                0 => {}
                1 => {
                    *present |= bit;
                    *durably_out |= if random.random_bool(0.5) { bit } else { 0 };
                }
                state => {
                    *present |= bit;
                    *readable |= if state < 8 { bit } else { 0 };
                    let part = match random.random_range(0..16) {
                        0 => &mut *running,
                        1..=8 => &mut *done,
                        9..=13 => &mut *failed,
                        14 => &mut *refused,
                        _ => continue,
                    };
                    *part |= bit;
                }
            }
        }
        *durably_out |= !*present & 0xFF;
        let [present, readable, durably_out, running, done, failed, refused] = sets.map(|set| set.to_bits());
        let minimum = random.random_range(0..4u64).to_bits();
        let is_read = random.random_range(0..2u64).to_bits();
        let stop = u64::from(random.random_bool(0.1)).to_bits();
        PlanSets { present, readable, durably_out, running, done, failed, refused, minimum, is_read, stop }
    }

    /// Judges all of them; how many came to an exception, another copy, success, were held, had nobody to report,
    /// and moved a component out.
    fn judge_all(cases: impl Iterator<Item = (PlanSets, PlanMasks)>) -> [u32; 6] {
        let mut bench = Bench::new("mask_verdict", MaskVerdicts::default());
        let mut due: VecDeque<(PlanSets, PlanMasks)> = VecDeque::new();
        let mut seen = [0u32; 6];
        // The last ones come out behind three that do not.
        for case in cases.map(Some).chain([None; 3]) {
            let (sets, masks) = case.unwrap_or_default();
            bench.set_record::<62>("sets", sets);
            bench.set_record::<40>("masks", masks);
            bench.eval();
            if due.len() == 3 {
                let (sets, masks) = due.pop_front().expect("three");
                let verdict: MaskVerdict = bench.get_record::<42, _>("verdict");
                assert_eq!(verdict, expected(&sets, &masks), "{sets:?} {masks:?}");
                let flags =
                    [verdict.exception, verdict.another, verdict.success, verdict.held, verdict.nobody];
                for (seen, flag) in seen.iter_mut().zip(flags) {
                    *seen += u32::from(flag.any());
                }
                seen[5] += u32::from(verdict.out.any());
            }
            due.push_back((sets, masks));
            bench.cycle();
        }
        seen
    }

    #[test]
    fn judges_as_the_table_says() {
        let mut random = seeded();
        let cases = (0..200_000).map(|_| {
            let sets = random_sets(&mut random);
            let masks = PlanMasks {
                continuation: mask(&mut random),
                success: mask(&mut random),
                log: mask(&mut random),
                log_with_data: mask(&mut random),
                deactivate: mask(&mut random),
            };
            (sets, masks)
        });
        let seen = judge_all(cases);
        assert!(seen.iter().all(|&count| count > 1_000), "{seen:?}");
    }

    /// All masks of up to three components in sync, whichever of them fail: writes to all of them, of every
    /// minimum, and reads that have tried so many, the last of which succeeded or did not.
    #[test]
    fn every_combination_of_masks_and_failures() {
        let mut cases = 0;
        let all = (1..=3u32).flat_map(|count| {
            let whole = (1u64 << count) - 1;
            (0..1u64 << (5 * count)).flat_map(move |bits| {
                let set = move |number: u32| (bits >> (number * count) & whole).to_bits();
                let masks = PlanMasks {
                    continuation: set(0),
                    success: set(1),
                    log: set(2),
                    log_with_data: set(3),
                    deactivate: set(4),
                };
                (0..=whole).flat_map(move |failed| {
                    let sets = PlanSets {
                        present: whole.to_bits(),
                        readable: whole.to_bits(),
                        durably_out: (!whole & 0xFF).to_bits(),
                        failed: failed.to_bits(),
                        ..Default::default()
                    };
                    let left = whole & !failed;
                    let writes = (0..4u64).map(move |minimum| PlanSets {
                        done: left.to_bits(),
                        minimum: minimum.to_bits(),
                        ..sets
                    });
                    let reads = [0, left & left.wrapping_neg()].into_iter().map(move |done| PlanSets {
                        done: done.to_bits(),
                        is_read: 1u64.to_bits(),
                        ..sets
                    });
                    writes.chain(reads).map(move |sets| (sets, masks))
                })
            })
        });
        let seen = judge_all(all.inspect(|_| cases += 1));
        assert_eq!(cases, 6 * ((1 << 18) + (1 << 12) + (1 << 6)));
        assert!(seen.iter().all(|&count| count > 1_000), "{cases}: {seen:?}");
    }
}
