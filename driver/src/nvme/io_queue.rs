//! I/O queue pairs (NVMe Base 2.0, sections 5.4 to 5.8).

use volplane_abi::nvme::{admin, cq_head_doorbell, queue_cdw10, queue_cdw11, sq_tail_doorbell};
use volplane_abi::{CompletionEntry, SubmissionEntry};

use super::admin::command;
use super::{NvmeController, NvmeError};
use crate::memory::{DmaMemory, Iova, PAGE};
use crate::platform::{Bar, Function, Platform};
use crate::queue_pair::{Placement, QueuePair};

/// Create I/O Queue, dword 11: the queue is physically contiguous.
const CONTIGUOUS: u32 = queue_cdw11::PC.put32(1);

/// Bus addresses of an I/O queue pair's doorbells, for whoever drives the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoDoorbells {
    /// Submission queue tail.
    pub sq_tail: Iova,
    /// Completion queue head.
    pub cq_head: Iova,
}

/// Where the completion queue of an I/O queue pair is.
#[derive(Clone, Copy, Debug)]
pub enum CompletionQueue<'a> {
    /// At a bus address: in a window of a card.
    Window(Iova),
    /// At the start of host memory. It is zeroed before the queue is created: no entry of an earlier queue there is
    /// taken for one of this.
    Host(&'a DmaMemory),
}

impl From<Iova> for CompletionQueue<'_> {
    fn from(iova: Iova) -> Self {
        Self::Window(iova)
    }
}

impl<'a> From<&'a DmaMemory> for CompletionQueue<'a> {
    fn from(memory: &'a DmaMemory) -> Self {
        Self::Host(memory)
    }
}

impl CompletionQueue<'_> {
    fn iova(&self) -> Iova {
        match self {
            Self::Window(iova) => *iova,
            Self::Host(memory) => memory.iova(),
        }
    }
}

impl<F: Function> NvmeController<F> {
    /// Creates I/O queue pair `id` (1 to `io_queues`) for another master, without interrupt: the
    /// submission queue at the start of `sq`, the completion queue at `cq`. Memory of both is held until the pair is
    /// deleted.
    ///
    /// # Errors
    /// `NvmeError::QueueArgument` for what the controller cannot have, `NvmeError::Admin` when it
    /// refuses, and what else `NvmeError` names.
    pub fn create_io_queue_pair<'a, P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        id: u16,
        sq: &DmaMemory,
        sq_entries: u16,
        cq: impl Into<CompletionQueue<'a>>,
        cq_entries: u16,
    ) -> Result<IoDoorbells, NvmeError> {
        let cq = cq.into();
        let (cq_iova, cq_bytes) = (cq.iova(), usize::from(cq_entries) * CompletionEntry::BYTES);
        self.check_new_queue(id, sq_entries, cq_entries)?;
        if usize::from(sq_entries) * SubmissionEntry::BYTES > sq.len() {
            return Err(self.queue_argument(id, "the submission queue is larger than its memory"));
        }
        if matches!(cq, CompletionQueue::Host(memory) if cq_bytes > memory.len()) {
            return Err(self.queue_argument(id, "the completion queue is larger than its memory"));
        }
        if !(sq.iova().0 | cq_iova.0).is_multiple_of(PAGE as u64) {
            return Err(self.queue_argument(id, "a queue does not begin on a page"));
        }
        let size = |entries: u16| {
            queue_cdw10::QSIZE.put32(u32::from(entries - 1)) | queue_cdw10::QID.put32(id.into())
        };
        let create_cq = command(admin::CREATE_CQ, size(cq_entries), CONTIGUOUS).with_prp1(cq_iova.0);
        let sq_attributes = queue_cdw11::CQID.put32(id.into()) | CONTIGUOUS;
        let create_sq = command(admin::CREATE_SQ, size(sq_entries), sq_attributes).with_prp1(sq.iova().0);
        // Known from here on: what fails without an answer may have taken effect, and hold memory.
        let held = self.queues.entry(id).or_insert_with(|| vec![sq.clone()]);
        if let CompletionQueue::Host(memory) = cq {
            memory.fill(0, cq_bytes, 0);
            held.push(memory.clone());
        }
        let created = match self.admin.execute(platform, create_cq) {
            Ok(_) => self.admin.execute(platform, create_sq).or_else(|error| {
                if matches!(error, NvmeError::Admin { .. }) {
                    self.admin.execute(platform, command(admin::DELETE_CQ, id.into(), 0))?;
                }
                Err(error)
            }),
            Err(error) => Err(error),
        };
        if let Err(error) = created {
            if matches!(error, NvmeError::Admin { .. }) {
                self.queues.remove(&id);
            }
            return Err(error);
        }
        let (bar0, stride) = (self.function.bar_iova(Bar::Bar0), self.capabilities.doorbell_stride());
        Ok(IoDoorbells {
            sq_tail: bar0 + sq_tail_doorbell(id, stride),
            cq_head: bar0 + cq_head_doorbell(id, stride),
        })
    }

    /// Creates I/O queue pair `id` with both queues in host memory, for software to drive.
    ///
    /// # Errors
    /// As `create_io_queue_pair`.
    pub fn create_host_queue<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        id: u16,
        entries: u16,
    ) -> Result<QueuePair<F>, NvmeError> {
        self.check_new_queue(id, entries, entries)?;
        let sq = platform.allocate(usize::from(entries) * SubmissionEntry::BYTES)?;
        let cq = platform.allocate(usize::from(entries) * CompletionEntry::BYTES)?;
        self.create_io_queue_pair(platform, id, &sq, entries, &cq, entries)?;
        let stride = self.capabilities.doorbell_stride();
        let place = Placement {
            number: id,
            sq,
            sq_entries: entries,
            cq,
            cq_entries: entries,
            sq_tail_doorbell: sq_tail_doorbell(id, stride),
            cq_head_doorbell: cq_head_doorbell(id, stride),
        };
        Ok(QueuePair::new(self.function.clone(), place))
    }

    /// Deletes I/O queue pair `id`; commands in it are aborted by the controller, and when this
    /// returns it touches no memory for them any more.
    ///
    /// # Errors
    /// `NvmeError::QueueArgument` when there is no such pair, `NvmeError::Admin` when the
    /// controller refuses, and what else `NvmeError` names.
    pub fn delete_io_queue_pair<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        id: u16,
    ) -> Result<(), NvmeError> {
        if !self.queues.contains_key(&id) {
            return Err(self.queue_argument(id, "was not created"));
        }
        self.admin.execute(platform, command(admin::DELETE_SQ, id.into(), 0))?;
        self.admin.execute(platform, command(admin::DELETE_CQ, id.into(), 0))?;
        self.queues.remove(&id);
        Ok(())
    }

    fn check_new_queue(&self, id: u16, sq_entries: u16, cq_entries: u16) -> Result<(), NvmeError> {
        if id == 0 || id > self.io_queues {
            return Err(self.queue_argument(id, "the controller granted no queue of this identifier"));
        }
        if self.queues.contains_key(&id) {
            return Err(self.queue_argument(id, "is already in use"));
        }
        let range = 2..=self.capabilities.queue_entries_max();
        if !range.contains(&sq_entries.into()) || !range.contains(&cq_entries.into()) {
            return Err(self.queue_argument(id, "a queue has 2 entries to the controller's maximum"));
        }
        Ok(())
    }

    fn queue_argument(&self, queue: u16, reason: &'static str) -> NvmeError {
        NvmeError::QueueArgument { controller: self.name().to_owned(), queue, reason }
    }
}
