//! The admin queue: one command at a time, polled.

use std::sync::Arc;
use std::time::Duration;

use volplane_abi::nvme::{admin, aqa, cq_head_doorbell, queue_numbers, register, sq_tail_doorbell};
use volplane_abi::{status, CompletionEntry, SubmissionEntry};

use super::registers::Capabilities;
use super::NvmeError;
use crate::memory::{DmaMemory, PAGE};
use crate::platform::{AccessError, Bar, Function, Platform};
use crate::queue_pair::{Placement, QueuePair};
use crate::wait::poll_until;

/// Entries of both rings: one command at a time needs two.
const ENTRIES: u16 = 16;
/// Longest time of an admin command that moves no data of a namespace.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// I/O queue pairs asked for; a controller may grant fewer or more.
const QUEUES_WANTED: u32 = 16;

/// The admin queue of an enabled controller.
pub(super) struct AdminQueue<F> {
    pair: QueuePair<F>,
    controller: String,
    /// One page that Identify writes.
    pub(super) page: DmaMemory,
    next_id: u16,
    /// A command was never completed: its page may be written at any time, so nothing that the
    /// page says can be believed until the controller is reset.
    lost: bool,
}

impl<F: Function> AdminQueue<F> {
    /// Allocates the rings and programs AQA, ASQ and ACQ; the controller must be disabled.
    pub(super) fn new<P: Platform<Function = F>>(
        platform: &mut P,
        function: &Arc<F>,
        capabilities: &Capabilities,
    ) -> Result<Self, AccessError> {
        let sq = platform.allocate(usize::from(ENTRIES) * SubmissionEntry::BYTES)?;
        let cq = platform.allocate(usize::from(ENTRIES) * CompletionEntry::BYTES)?;
        let page = platform.allocate(PAGE)?;
        let size_z = u32::from(ENTRIES) - 1;
        function.write32(Bar::Bar0, register::AQA, aqa::ACQS.put32(size_z) | aqa::ASQS.put32(size_z))?;
        function.write64(Bar::Bar0, register::ASQ, sq.iova().0)?;
        function.write64(Bar::Bar0, register::ACQ, cq.iova().0)?;
        let stride = capabilities.doorbell_stride();
        let place = Placement {
            number: 0,
            sq,
            sq_entries: ENTRIES,
            cq,
            cq_entries: ENTRIES,
            sq_tail_doorbell: sq_tail_doorbell(0, stride),
            cq_head_doorbell: cq_head_doorbell(0, stride),
        };
        let pair = QueuePair::new(function.clone(), place);
        Ok(Self { pair, controller: function.name().to_owned(), page, next_id: 0, lost: false })
    }

    /// Executes a command and returns dword 0 of its completion. The identifier is set here.
    pub(super) fn execute<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        command: SubmissionEntry,
    ) -> Result<u32, NvmeError> {
        let opcode = command.opcode();
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        if self.lost || self.pair.submit(command.with_command_id(id)).is_err() {
            return Err(NvmeError::AdminLost { controller: self.controller.clone(), opcode });
        }
        // Until its completion is seen, the command is under way, whatever fails in between.
        self.lost = true;
        self.pair.ring()?;
        let completion = poll_until(platform, COMMAND_LIMIT, || self.pair.poll())?;
        let Some(completion) = completion.filter(|completion| completion.command_id() == id) else {
            let controller = self.controller.clone();
            return Err(NvmeError::AdminTimeout { controller, opcode, waited: COMMAND_LIMIT });
        };
        self.lost = false;
        if completion.status() != status::SUCCESS {
            let (controller, status) = (self.controller.clone(), completion.status());
            return Err(NvmeError::Admin { controller, opcode, status });
        }
        Ok(completion.result())
    }

    /// Asks for I/O queues (section 5.27.1.5); returns the pairs granted.
    pub(super) fn request_queues<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
    ) -> Result<u16, NvmeError> {
        let wanted_z = QUEUES_WANTED - 1;
        let wanted = queue_numbers::SUBMISSION.put32(wanted_z) | queue_numbers::COMPLETION.put32(wanted_z);
        let command = command(admin::SET_FEATURES, admin::FEATURE_QUEUES.into(), wanted);
        let granted_z = self.execute(platform, command)?;
        let pairs_z =
            queue_numbers::SUBMISSION.of32(granted_z).min(queue_numbers::COMPLETION.of32(granted_z));
        // 65,535 is no zero-based count: identifiers end at 65,535 and the admin queue has one.
        Ok((pairs_z as u16).saturating_add(1))
    }

    /// Name for messages.
    pub(super) fn controller(&self) -> &str {
        &self.controller
    }
}

/// An admin command with its first two command dwords.
pub(super) fn command(opcode: u8, cdw10: u32, cdw11: u32) -> SubmissionEntry {
    // The NVM commands' starting LBA lies in command dwords 10 and 11.
    let dwords = u64::from(cdw10) | u64::from(cdw11) << 32;
    SubmissionEntry::default().with_opcode(opcode).with_starting_lba(dwords)
}
