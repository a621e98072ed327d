//! Admin commands (NVMe Base 2.0, section 5): Identify, I/O queues, number of queues.

use volplane_abi::nvme::{admin, queue_cdw10, queue_cdw11, queue_numbers};
use volplane_abi::SubmissionEntry;

use crate::bus::Bus;
use crate::probe::{EndRecord, Segment};

use super::queues::{CompletionQueue, Outcome, SubmissionQueue};
use super::{identify, prp, status, Ssd};

const PAGE: u64 = 4096;

/// Command dwords 10 and 11 of an admin command.
fn dwords(entry: &SubmissionEntry) -> (u32, u32) {
    (entry.starting_lba() as u32, (entry.starting_lba() >> 32) as u32)
}

impl Ssd {
    /// Executes an admin command at once.
    pub(super) fn execute_admin(&mut self, bus: &mut Bus, entry: SubmissionEntry) {
        let free =
            self.submission[0].as_mut().is_some_and(|admin| admin.identifiers.claim(entry.command_id()));
        let done = if !free {
            Err(status::COMMAND_ID_CONFLICT)
        } else if entry.fuse() != 0 || entry.psdt() != 0 {
            Err(status::INVALID_FIELD)
        } else {
            match entry.opcode() {
                admin::IDENTIFY => self.identify(bus, &entry),
                admin::CREATE_CQ => self.create_completion_queue(&entry),
                admin::CREATE_SQ => self.create_submission_queue(&entry),
                admin::DELETE_SQ => self.delete_submission_queue(bus.now_ns(), &entry),
                admin::DELETE_CQ => self.delete_completion_queue(&entry),
                admin::SET_FEATURES => self.set_features(&entry),
                _ => Err(status::INVALID_OPCODE),
            }
        };
        let (status, result) = match done {
            Ok(result) => (status::SUCCESS, result),
            Err(status) => (status::with_dnr(status), 0),
        };
        let command_id = entry.command_id();
        self.complete(bus, Outcome { submission_queue: 0, command_id, status, result, order: 0 });
    }

    fn identify(&mut self, bus: &mut Bus, entry: &SubmissionEntry) -> Result<u32, u16> {
        let (cdw10, _) = dwords(entry);
        let page =
            identify::page(&self.config, &self.namespace, cdw10 as u8, entry.namespace_id(), self.index)?;
        let mut segments: Vec<Segment> = Vec::new();
        let agent = self.agent();
        prp::walk(entry.prp1(), entry.prp2(), PAGE, |iova, into| bus.read(agent, iova, into), &mut segments)?;
        let mut at = 0;
        for segment in segments {
            let part = &page[at..at + segment.len as usize];
            bus.write(agent, segment.iova, part).map_err(|_| status::DATA_TRANSFER_ERROR)?;
            at += part.len();
        }
        Ok(0)
    }

    /// Checks what Create has in common and returns queue, entries and base.
    fn new_queue(&self, entry: &SubmissionEntry, taken: &[bool]) -> Result<(usize, u32, u64), u16> {
        let (cdw10, cdw11) = dwords(entry);
        let (queue, entries) = (queue_cdw10::QID.of32(cdw10) as usize, queue_cdw10::QSIZE.of32(cdw10) + 1);
        if queue == 0 || taken.get(queue) != Some(&false) {
            return Err(status::INVALID_QUEUE_ID);
        }
        if entries < 2 || entries > self.config.queue_entries_max {
            return Err(status::INVALID_QUEUE_SIZE);
        }
        if queue_cdw11::PC.of32(cdw11) == 0 {
            return Err(status::INVALID_FIELD);
        }
        if !entry.prp1().is_multiple_of(PAGE) {
            return Err(status::INVALID_PRP_OFFSET);
        }
        Ok((queue, entries, entry.prp1()))
    }

    fn create_completion_queue(&mut self, entry: &SubmissionEntry) -> Result<u32, u16> {
        let taken: Vec<bool> = self.completion.iter().map(Option::is_some).collect();
        let (queue, entries, base) = self.new_queue(entry, &taken)?;
        let (_, cdw11) = dwords(entry);
        let interrupts = queue_cdw11::IEN.of32(cdw11) != 0;
        let vector = queue_cdw11::IV.of32(cdw11);
        if interrupts && vector >= 256 {
            return Err(status::INVALID_INTERRUPT_VECTOR);
        }
        let vector = interrupts.then_some(vector as u16);
        self.completion[queue] = Some(CompletionQueue::new(base, entries, vector));
        Ok(0)
    }

    fn create_submission_queue(&mut self, entry: &SubmissionEntry) -> Result<u32, u16> {
        let taken: Vec<bool> = self.submission.iter().map(Option::is_some).collect();
        let (queue, entries, base) = self.new_queue(entry, &taken)?;
        let (_, cdw11) = dwords(entry);
        let completion = queue_cdw11::CQID.of32(cdw11) as u16;
        if completion == 0 || !self.completion.get(usize::from(completion)).is_some_and(Option::is_some) {
            return Err(status::COMPLETION_QUEUE_INVALID);
        }
        self.submission[queue] = Some(SubmissionQueue::new(base, entries, completion));
        Ok(0)
    }

    /// Deletes a submission queue; its commands in execution are aborted, without completions, and
    /// touch neither memory nor media any more.
    fn delete_submission_queue(&mut self, at_ns: u64, entry: &SubmissionEntry) -> Result<u32, u16> {
        let queue = queue_cdw10::QID.of32(dwords(entry).0) as usize;
        if queue == 0 || !self.submission.get(queue).is_some_and(Option::is_some) {
            return Err(status::INVALID_QUEUE_ID);
        }
        self.submission[queue] = None;
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.busy && usize::from(slot.record.queue) == queue {
                slot.busy = false;
                slot.generation += 1;
                self.free.push(number);
                self.busy -= 1;
            }
        }
        self.withdraw(at_ns, |of| usize::from(of) == queue);
        Ok(0)
    }

    /// Completions that wait for room are never posted, of those submission queues.
    pub(super) fn withdraw(&mut self, at_ns: u64, is_of: impl Fn(u16) -> bool) {
        for completion in self.completion.iter_mut().flatten() {
            let waiting = std::mem::take(&mut completion.waiting);
            for outcome in waiting {
                if !is_of(outcome.submission_queue) {
                    completion.waiting.push_back(outcome);
                    continue;
                }
                self.busy -= 1;
                let Outcome { order, status, submission_queue, .. } = outcome;
                if self.ends.is_on() && submission_queue > 0 {
                    let turn = self.namespace.next_end();
                    let (effect, completion, withdrawn) = (false, false, true);
                    self.ends.push(EndRecord { order, at_ns, effect, status, completion, withdrawn, turn });
                }
            }
        }
    }

    fn delete_completion_queue(&mut self, entry: &SubmissionEntry) -> Result<u32, u16> {
        let queue = queue_cdw10::QID.of32(dwords(entry).0) as usize;
        if queue == 0 || !self.completion.get(queue).is_some_and(Option::is_some) {
            return Err(status::INVALID_QUEUE_ID);
        }
        if self.submission.iter().flatten().any(|user| usize::from(user.completion_queue) == queue) {
            return Err(status::INVALID_QUEUE_DELETION);
        }
        self.completion[queue] = None;
        Ok(0)
    }

    fn set_features(&mut self, entry: &SubmissionEntry) -> Result<u32, u16> {
        let (cdw10, cdw11) = dwords(entry);
        if cdw10 as u8 != admin::FEATURE_QUEUES {
            return Err(status::INVALID_FIELD);
        }
        let (submission, completion) =
            (queue_numbers::SUBMISSION.of32(cdw11), queue_numbers::COMPLETION.of32(cdw11));
        // FFFFh is reserved.
        if submission == 0xFFFF || completion == 0xFFFF {
            return Err(status::INVALID_FIELD);
        }
        // Both numbers are zero-based.
        let most = u32::from(self.config.queue_pairs_max) - 1;
        Ok(queue_numbers::COMPLETION.put32(completion.min(most))
            | queue_numbers::SUBMISSION.put32(submission.min(most)))
    }
}
