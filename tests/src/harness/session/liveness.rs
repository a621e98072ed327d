//! The end of a run: nothing more is sent, no fault strikes any more, and all that is left must end in time.
//!
//! The control path does at once what it did late before: it takes records, answers them, makes paths anew. It gives
//! a plan back once and ends it when it comes again, lets everything else alone, and so adds no time of its own but
//! that of its commands.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use volplane_abi::registers;
use volplane_driver::Platform;
use volplane_sim::SsdConfig;

use super::renewal::QUIET_NS;
use super::Session;
use crate::harness::path_story::{NOTICED_UNITS, UNIT, UNTIMED_UNITS};
use crate::harness::plan_story::CommandKey;

/// Simulated ns of a cycle.
const CYCLE_NS: u64 = 4;
/// Longest pause between two looks of the control path, in simulated ns.
const PAUSE_NS: u64 = 2_000;
/// Longest that a fault makes a command late where nobody waits for a time only, in simulated ns (`Weather`).
const LATE_NS: u64 = 100_000;
/// Cycles in which the control path closes a path, has its queues deleted and made, opens it and says that it is quiet,
/// while it also answers records.
const RENEWAL_CYCLES: u64 = 4_000;
/// Cycles in which a controller is brought up: 20 us until it is ready, and what is asked of it then.
const BRING_UP_CYCLES: u64 = 10_000;
/// Cycles of the card for a fragment, stalled half of the time.
const FRAGMENT_CYCLES: u64 = 100;
/// Commands that an SSD that takes more at once is always given together: no slow one has a shorter queue.
const TOGETHER: usize = 16;
/// Cycles of a beat of zeros, stalled half of the time.
const BEAT_CYCLES: u64 = 2;
/// Times that a read is executed in full at most: it may be given back once.
const READS: u64 = 2;

/// The time after the last fault.
pub(super) struct Calm {
    /// Fragments that the card had issued by then.
    issued: u32,
    /// Beats of all buffers that were in use.
    beats: u64,
    /// Controllers that are gone, or are to be reset.
    outages: u64,
    /// Plans that were given back since.
    given_back: BTreeSet<CommandKey>,
}

impl Calm {
    /// Whether a plan may be given back: only once.
    pub(super) fn may_give_back(&mut self, command: CommandKey) -> bool {
        self.given_back.insert(command)
    }
}

/// How long it took until nothing was left.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// Commands that were left.
    pub commands: usize,
    /// Cycles, those in which nothing happened counted in.
    pub cycles: u64,
    /// Cycles in which it must have ended.
    pub limit: u64,
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commands, cycles, limit } = self;
        write!(f, "the last {commands} ended {cycles} cycles after the last fault, at most {limit}")
    }
}

impl Session {
    /// Ends all faults, and waits until every command is completed and every record answered.
    pub(super) fn drain(&mut self) -> Drained {
        self.control_calmly_from_now();
        let commands = self.pending.len();
        let since_ns = self.machine.handle.now_ns();
        let mut ended_ns = None;
        while ended_ns.is_none() || self.renews() {
            let deadline = self.machine.platform.now() + Duration::from_nanos(PAUSE_NS);
            if let Err(error) = self.machine.platform.wait(deadline) {
                self.fail(&error.to_string(), None);
            }
            self.poll();
            if self.is_mirrored() {
                self.control_at_once();
            }
            if self.pending.is_empty() && self.told.is_empty() {
                ended_ns.get_or_insert(self.machine.handle.now_ns());
            }
            self.check_progress();
        }
        let ended_ns = ended_ns.expect("the loop's condition");
        let (cycles, limit) = ((ended_ns - since_ns) / CYCLE_NS, self.drain_limit());
        self.calm = None;
        if cycles > limit {
            self.fail(&format!("{commands} commands took {cycles} cycles to end, expected {limit}"), None);
        }
        self.coverage.drained(cycles, limit);
        Drained { commands, cycles, limit }
    }

    fn control_calmly_from_now(&mut self) {
        self.control.end_weather(&self.machine.handle);
        for ssd in &self.machine.configuration.simulator.ssds {
            self.machine.handle.set_filter(&ssd.name, None);
        }
        let since_ns = self.machine.handle.now_ns();
        self.renewals.hurry(since_ns);
        let outages = self.outages.hurry(since_ns);
        if outages > 0 {
            self.coverage.met("an outage when the last command was sent");
        }
        let bytes: usize = self.pending.values().map(|pending| pending.buffer.bytes).sum();
        let width = self.machine.configuration.simulator.card.as_ref().map_or(128, |card| card.width);
        let beats = bytes.div_ceil(width / 8) as u64;
        self.calm =
            Some(Calm { issued: self.fragments_issued(), beats, outages, given_back: BTreeSet::new() });
    }

    fn fragments_issued(&self) -> u32 {
        self.machine.card.register_block().read(registers::FRAGMENTS_ISSUED).expect("a register")
    }

    /// Cycles in which everything ends when no fault strikes any more and the control path answers at once:
    ///
    /// * What was struck was issued before. Whoever waits for it with a time-out has it noticed by the card: the
    ///   longest time-out, and `NOTICED_UNITS` of 1,024 ticks for rounding, a look and its record. Without one, the
    ///   control path makes its path anew after `UNTIMED_UNITS`. All of them wait at once. Where nobody has a time-out,
    ///   nothing is lost, and what is late comes after `LATE_NS`.
    /// * Then its path is made anew, one after another if it is all of them, and one look for quiet later it is open.
    ///   Those that were behind the same SSD may have become overdue meanwhile: that once more.
    /// * Controllers that are gone come back as soon as all their paths are closed, and are brought up, one after another;
    ///   so are those that are to be reset. Then all paths are made anew that were closed for that: once more.
    /// * What is left, or begins again, is served: each fragment issued from then on, one after another by the slowest
    ///   SSD.
    /// * Reads of zeros fill buffers.
    fn drain_limit(&self) -> u64 {
        let configuration = &self.machine.configuration;
        let templates = configuration.mirrors.iter().flat_map(|mirror| mirror.templates.values());
        let time_outs =
            templates.flat_map(|template| template.components.map(|component| component.time_out));
        let longest = u64::from(time_outs.max().unwrap_or(0));
        let patience_ns = match configuration.is_hurried() {
            true => (longest + NOTICED_UNITS * UNIT).max(UNTIMED_UNITS * UNIT) * configuration.tick_ns(),
            false => LATE_NS,
        };
        let calm = self.calm.as_ref().expect("it is calm");
        let rounds = if calm.outages > 0 { 3 } else { 2 };
        let renewals = match configuration.is_hurried() {
            true => rounds * (configuration.routes.len() as u64 * RENEWAL_CYCLES + QUIET_NS / CYCLE_NS),
            false => 0,
        };
        let renewals = renewals + calm.outages * BRING_UP_CYCLES;
        let service =
            |ssd: &SsdConfig| (ssd.latency_ns + ssd.jitter_ns) / ssd.parallelism.min(TOGETHER) as u64;
        let slowest_ns = configuration.simulator.ssds.iter().map(service).max().unwrap_or(0);
        let issued = u64::from(self.fragments_issued() - calm.issued);
        let work = issued * (FRAGMENT_CYCLES + slowest_ns / CYCLE_NS) + calm.beats * BEAT_CYCLES * READS;
        patience_ns / CYCLE_NS + renewals + work
    }

    /// What the control path does when it is calm.
    fn control_at_once(&mut self) {
        self.take_records();
        while let Some(waiting) = self.control.next_waiting() {
            self.answer(&waiting);
        }
        self.renew_at_once();
    }
}
