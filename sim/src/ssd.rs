//! An SSD: an NVMe controller with registers, queues, one namespace (its own, or shared with other
//! controllers), and time.
//!
//! A command is fetched as soon as its doorbell arrives and one of the `parallelism` slots is free,
//! queues taking turns. Its entry, its PRPs and the ranges of Dataset Management are looked at then;
//! its data moves, and its blocks change, when its time is over, right before its completion is
//! posted. A full completion queue holds completions, and with them the slots, back.
//!
//! What a driver or the card does against the specification, without a status to answer it by, is
//! kept as a complaint (`complaints`), so that a test sees it.

mod admin;
mod execute;
mod filter;
mod identify;
mod life;
mod media;
mod namespace;
mod prp;
mod queues;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use volplane_abi::nvme::{aqa, cap, cc, csts, register};
use volplane_abi::{CompletionEntry, SubmissionEntry};

use crate::bus::Bus;
use crate::config::{CompletionWrites, SsdConfig};
use crate::events::SsdEvent;
use crate::faults::{FaultId, FaultSet};
use crate::host_memory::Agent;
use crate::probe::{CommandRecord, EndRecord, Recorder};
use crate::random;

pub use filter::{CommandFilter, Execution};
pub(crate) use namespace::Namespace;
use queues::{CompletionQueue, Outcome, SubmissionQueue};

/// PCI vendor of the model: QEMU's, whose NVMe controller it resembles.
pub(crate) const VENDOR: u16 = 0x1B36;
/// PCI device.
pub(crate) const DEVICE: u16 = 0x0010;
/// NVMe 1.4.
pub(crate) const VERSION: u32 = 0x0001_0400;
/// Bytes of BAR0: registers and a page of doorbells.
pub(crate) const BAR0_BYTES: u64 = 0x2000;
/// Time from CC.EN to CSTS.RDY.
const READY_NS: u64 = 20_000;
/// Complaints kept.
const COMPLAINTS_KEPT: usize = 64;
/// CAP.TO, in units of 500 ms.
const READY_LIMIT: u64 = 20;

/// A command in execution.
struct InFlight {
    /// Use of the slot, told from earlier ones by events.
    generation: u32,
    busy: bool,
    record: CommandRecord,
    execution: Execution,
}

/// An NVMe SSD.
pub(crate) struct Ssd {
    index: usize,
    config: SsdConfig,
    namespace: Arc<Namespace>,
    cc: u32,
    csts: u32,
    aqa: u32,
    asq: u64,
    acq: u64,
    /// Counts resets, so that events of before are told from those of after.
    generation: u32,
    /// Number 0 is the admin queue.
    submission: Vec<Option<SubmissionQueue>>,
    completion: Vec<Option<CompletionQueue>>,
    /// The queue that is looked at first for the next command.
    turn: usize,
    slots: Vec<InFlight>,
    free: Vec<usize>,
    /// Slots in use, and completions that wait for their queue.
    busy: usize,
    buffer: Vec<u8>,
    random: ChaCha8Rng,
    filter: Option<Box<dyn CommandFilter>>,
    faults: FaultSet,
    /// Faults that may kill this controller, and whether each did.
    deaths: BTreeMap<FaultId, bool>,
    record: Recorder<CommandRecord>,
    ends: Recorder<EndRecord>,
    fetched: u64,
    complaints: Vec<String>,
    /// Doorbells of each pair of queues that were rung, whether there are such queues or not.
    rung: Vec<u64>,
}

impl Ssd {
    pub(crate) fn new(
        config: &SsdConfig,
        index: usize,
        seed: u64,
        record_commands: usize,
        namespace: Arc<Namespace>,
    ) -> Self {
        let queues = usize::from(config.queue_pairs_max) + 1;
        Self {
            index,
            namespace,
            cc: 0,
            csts: 0,
            aqa: 0,
            asq: 0,
            acq: 0,
            generation: 0,
            submission: vec![None; queues],
            completion: vec![None; queues],
            turn: 1,
            slots: Vec::new(),
            free: Vec::new(),
            busy: 0,
            buffer: Vec::new(),
            random: random::fork(seed, &format!("ssd {}", config.name)),
            filter: None,
            faults: FaultSet::new(seed, index, &config.name),
            deaths: BTreeMap::new(),
            record: Recorder::new(record_commands),
            ends: Recorder::new(record_commands),
            fetched: 0,
            complaints: Vec::new(),
            rung: vec![0; queues],
            config: config.clone(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    pub(crate) fn number(&self) -> usize {
        self.index
    }

    pub(crate) fn agent(&self) -> Agent {
        Agent::Ssd(self.index)
    }

    pub(crate) fn set_filter(&mut self, filter: Option<Box<dyn CommandFilter>>) {
        self.filter = filter;
    }

    pub(crate) fn take_commands(&mut self) -> (Vec<CommandRecord>, u64) {
        self.record.take()
    }

    pub(crate) fn take_ends(&mut self) -> (Vec<EndRecord>, u64) {
        self.ends.take()
    }

    pub(crate) fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Doorbells of a pair of queues that were rung, whether there are such queues or not.
    pub(crate) fn rung(&self, queue: usize) -> u64 {
        self.rung[queue]
    }

    /// Reads media from outside, as a test does.
    pub(crate) fn peek(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.namespace.read(offset, into)
    }

    /// Writes media from outside.
    pub(crate) fn poke(&self, offset: u64, from: &[u8]) -> std::io::Result<()> {
        self.namespace.write(offset, from)
    }

    fn complain(&mut self, what: String) {
        if self.complaints.len() < COMPLAINTS_KEPT {
            self.complaints.push(format!("{}: {what}", self.config.name));
        }
    }

    /// A 4-byte read of BAR0; `offset` is aligned and within.
    pub(crate) fn read_register(&self, offset: u64) -> u32 {
        if self.is_dead() {
            return u32::MAX;
        }
        let cap = cap::MQES.put(u64::from(self.config.queue_entries_max - 1))
            | cap::CQR.put(1)
            | cap::TO.put(READY_LIMIT)
            | cap::CSS_NVM.put(1);
        let half = |value: u64| if offset.is_multiple_of(8) { value as u32 } else { (value >> 32) as u32 };
        match offset & !7 {
            register::CAP => return half(cap),
            register::ASQ => return half(self.asq),
            register::ACQ => return half(self.acq),
            _ => {}
        }
        match offset {
            register::VS => VERSION,
            register::CC => self.cc,
            register::CSTS => self.csts,
            register::AQA => self.aqa,
            _ => 0,
        }
    }

    /// A 4-byte write to BAR0; `offset` is aligned and within.
    pub(crate) fn write_register(&mut self, bus: &mut Bus, offset: u64, value: u32) {
        if self.is_dead() {
            return;
        }
        let value64 = u64::from(value);
        match offset {
            register::CC => self.write_cc(bus, value),
            register::AQA => self.aqa = value & (aqa::ASQS.mask() | aqa::ACQS.mask()) as u32,
            register::ASQ => self.asq = self.asq & !0xFFFF_FFFF | value64 & 0xFFFF_F000,
            o if o == register::ASQ + 4 => self.asq = self.asq & 0xFFFF_FFFF | value64 << 32,
            register::ACQ => self.acq = self.acq & !0xFFFF_FFFF | value64 & 0xFFFF_F000,
            o if o == register::ACQ + 4 => self.acq = self.acq & 0xFFFF_FFFF | value64 << 32,
            register::INTMS | register::INTMC => {}
            register::DOORBELLS.. => {
                let number = (offset - register::DOORBELLS) / 4;
                self.doorbell(bus, (number / 2) as usize, number % 2 == 1, value);
            }
            _ => self.complain(format!("write of {value:#x} to read-only register {offset:#x}")),
        }
    }

    fn write_cc(&mut self, bus: &mut Bus, value: u32) {
        let before = std::mem::replace(&mut self.cc, value);
        let enabled = |cc: u32| cc::EN.of32(cc) != 0;
        if !enabled(value) {
            if enabled(before) {
                self.reset(bus.now_ns());
                self.cc = value;
            }
        } else if !enabled(before) {
            let event = SsdEvent::Ready { generation: self.generation };
            bus.events.schedule(bus.now_ns() + READY_NS, self.index, event);
        }
        if cc::SHN.of32(value) != 0 {
            self.csts |= csts::SHST.put32(csts::SHST_COMPLETE);
        }
    }

    /// Controller reset: queues and what was in execution are gone; media and AQA, ASQ, ACQ stay.
    pub(crate) fn reset(&mut self, at_ns: u64) {
        self.withdraw(at_ns, |_| true);
        self.generation += 1;
        self.csts = 0;
        self.cc = 0;
        self.submission.fill(None);
        self.completion.fill(None);
        self.turn = 1;
        self.busy = 0;
        self.free.clear();
        for (number, slot) in self.slots.iter_mut().enumerate() {
            slot.generation += 1;
            slot.busy = false;
            self.free.push(number);
        }
    }

    /// Function level reset: the registers, too, are as at power-on.
    pub(crate) fn reset_function(&mut self, at_ns: u64) {
        self.reset(at_ns);
        (self.aqa, self.asq, self.acq) = (0, 0, 0);
    }

    fn become_ready(&mut self) {
        let (asqs, acqs) = (aqa::ASQS.of32(self.aqa) + 1, aqa::ACQS.of32(self.aqa) + 1);
        let sizes = self.cc & (cc::IOSQES.mask() | cc::IOCQES.mask()) as u32;
        if asqs < 2 || acqs < 2 || sizes != cc::ENTRY_SIZES || cc::MPS.of32(self.cc) != 0 {
            self.fatal(format!("enabled with AQA {:#x} and CC {:#x}", self.aqa, self.cc));
            return;
        }
        self.submission[0] = Some(SubmissionQueue::new(self.asq, asqs, 0));
        self.completion[0] = Some(CompletionQueue::new(self.acq, acqs, Some(0)));
        self.csts |= csts::RDY.put32(1);
    }

    /// Controller Fatal Status: nothing is served until a reset.
    fn fatal(&mut self, why: String) {
        self.complain(format!("fatal: {why}"));
        self.csts |= csts::CFS.put32(1);
    }

    fn is_running(&self) -> bool {
        csts::RDY.of32(self.csts) != 0 && csts::CFS.of32(self.csts) == 0
    }

    fn doorbell(&mut self, bus: &mut Bus, queue: usize, is_completion: bool, value: u32) {
        if let Some(rung) = self.rung.get_mut(queue) {
            *rung += 1;
        }
        let valid = if is_completion {
            self.completion.get_mut(queue).and_then(Option::as_mut).is_some_and(|q| q.ring(value))
        } else {
            self.submission.get_mut(queue).and_then(Option::as_mut).is_some_and(|q| q.ring(value))
        };
        if !valid {
            let kind = if is_completion { "completion head" } else { "submission tail" };
            self.complain(format!("{kind} doorbell of queue {queue}: {value:#x} is invalid"));
            return;
        }
        if is_completion {
            self.post_waiting(bus, queue);
        }
        self.dispatch(bus);
    }

    pub(crate) fn handle(&mut self, bus: &mut Bus, event: SsdEvent) {
        match event {
            SsdEvent::Ready { generation } if generation == self.generation => self.become_ready(),
            SsdEvent::Execute { slot, generation }
                if self.slots[slot].busy && self.slots[slot].generation == generation =>
            {
                self.finish(bus, slot);
                self.dispatch(bus);
            }
            SsdEvent::Die { fault } => self.die(bus, fault),
            SsdEvent::Return { fault } => self.come_back(bus.now_ns(), fault),
            _ => {}
        }
    }

    /// Fetches and starts what slots allow.
    fn dispatch(&mut self, bus: &mut Bus) {
        while self.is_running() {
            if let Some(entry) = self.fetch(bus, 0) {
                self.execute_admin(bus, entry);
                continue;
            }
            if self.busy >= self.config.parallelism {
                return;
            }
            let queues = self.submission.len() - 1;
            // Looked at before the fetch, which needs all of `self`.
            let waits = |queue: &usize| self.submission[*queue].as_ref().is_some_and(|q| q.head != q.tail);
            let found = (0..queues).map(|step| (self.turn - 1 + step) % queues + 1).find(waits);
            let Some(queue) = found else { return };
            self.turn = queue % queues + 1;
            if let Some(entry) = self.fetch(bus, queue) {
                self.start(bus, queue as u16, entry);
            }
        }
    }

    /// The next entry of a queue.
    fn fetch(&mut self, bus: &mut Bus, queue: usize) -> Option<SubmissionEntry> {
        let address = self.submission[queue].as_mut()?.take()?;
        let mut entry = SubmissionEntry::default();
        if bus.read(self.agent(), address, &mut entry.0).is_err() {
            self.fatal(format!("submission queue {queue} is not mapped at {address:#x}"));
            return None;
        }
        Some(entry)
    }

    /// Posts a completion, or keeps it until there is room.
    fn complete(&mut self, bus: &mut Bus, outcome: Outcome) {
        let Some(submission) = &self.submission[usize::from(outcome.submission_queue)] else { return };
        let queue = usize::from(submission.completion_queue);
        let Some(completion) = &mut self.completion[queue] else { return };
        completion.waiting.push_back(outcome);
        self.busy += 1;
        self.post_waiting(bus, queue);
    }

    fn post_waiting(&mut self, bus: &mut Bus, queue: usize) {
        let mut posted = None;
        while let Some(completion) = &mut self.completion[queue] {
            if completion.waiting.is_empty() {
                break;
            }
            let Some((address, phase)) = completion.take() else { break };
            let Some(outcome) = completion.waiting.pop_front() else { break };
            posted = completion.vector;
            self.busy -= 1;
            let Some(submission) = &mut self.submission[usize::from(outcome.submission_queue)] else {
                continue;
            };
            submission.identifiers.release(outcome.command_id);
            let entry = CompletionEntry::default()
                .with_result(outcome.result)
                .with_sq_head(submission.head as u16)
                .with_sq_id(outcome.submission_queue)
                .with_command_id(outcome.command_id)
                .with_phase(u8::from(phase))
                .with_status(outcome.status);
            self.write_completion(bus, address, &entry);
        }
        if let Some(vector) = posted {
            bus.raise_ssd(self.index, vector);
        }
    }

    fn write_completion(&mut self, bus: &mut Bus, address: u64, entry: &CompletionEntry) {
        let halves = match self.config.completion_writes {
            CompletionWrites::Whole => false,
            CompletionWrites::Halves => true,
            CompletionWrites::Mixed => random::up_to(&mut self.random, 1) == 1,
        };
        let piece = if halves { 8 } else { 16 };
        for (part, bytes) in entry.0.chunks(piece).enumerate() {
            if bus.write(self.agent(), address + (part * piece) as u64, bytes).is_err() {
                self.fatal(format!("completion queue is not mapped at {address:#x}"));
                return;
            }
        }
    }
}
