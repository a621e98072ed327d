//! Requests on their way through the service: cut into parts, submitted in turn, put together.

use std::collections::VecDeque;
use std::time::Duration;

use volplane::{BlockService, Completion, Operation, ServiceError, SubmitError, VirtualDisk};

use super::pool::{parts, Buffer, SLAB_BYTES};
use super::protocol::{Errno, Request};
use super::transmission::{errno_of_status, Refusal, Work};

/// Which connection a request came from: its place and its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub index: usize,
    pub id: u64,
}

impl Origin {
    /// No connection's.
    pub const NOBODY: Origin = Origin { index: usize::MAX, id: u64::MAX };
}

/// A request the service is done with.
pub struct Finished {
    pub origin: Origin,
    pub request: Request,
    pub buffers: Vec<Buffer>,
    pub result: Result<(), Refusal>,
}

struct Task {
    origin: Origin,
    request: Request,
    disk: usize,
    work: Work,
    /// Owned until every part is complete, whatever becomes of the connection: devices use them.
    buffers: Vec<Buffer>,
    issued: usize,
    outstanding: usize,
    failure: Option<Refusal>,
}

impl Task {
    fn parts(&self) -> usize {
        match self.work {
            Work::Read | Work::Write { .. } => self.buffers.len(),
            Work::Plain { .. } => 1,
        }
    }

    fn operation(&self, disk: &VirtualDisk, part: usize) -> Operation {
        let block = u64::from(disk.block_size);
        let start = part * SLAB_BYTES;
        let lba = (self.request.offset + start as u64) / block;
        let bytes = parts(self.request.length as usize - start).next().unwrap_or_default();
        let blocks = (bytes as u64 / block) as u32;
        match self.work {
            Work::Read => Operation::Read { lba, blocks },
            Work::Write { force_unit_access } => Operation::Write { lba, blocks, force_unit_access },
            Work::Plain { operation, .. } => operation,
        }
    }
}

/// The service and the requests it has.
pub struct Execution<S> {
    pub service: S,
    disks: Vec<VirtualDisk>,
    tasks: Vec<Option<Task>>,
    free: Vec<usize>,
    /// Tasks with parts to submit. A task goes to the back after each part, so a large request does
    /// not hold up small ones.
    ready: VecDeque<usize>,
    completions: Vec<Completion>,
    finished: Vec<Finished>,
}

impl<S: BlockService> Execution<S> {
    pub fn new(service: S) -> Self {
        let disks = service.virtual_disks().to_vec();
        Execution {
            service,
            disks,
            tasks: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            completions: Vec::new(),
            finished: Vec::new(),
        }
    }

    /// Takes a request on; its buffers hold its data as `parts` cuts it.
    pub fn start(&mut self, origin: Origin, disk: usize, request: Request, work: Work, buffers: Vec<Buffer>) {
        let task = Task { origin, request, disk, work, buffers, issued: 0, outstanding: 0, failure: None };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        self.tasks[slot] = Some(task);
        self.ready.push_back(slot);
    }

    /// Whether time must pass for something to happen.
    pub fn is_busy(&self) -> bool {
        !self.ready.is_empty() || self.service.outstanding() > 0
    }

    /// Whether no request is with the service.
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.tasks.len()
    }

    /// Submits what the service takes.
    pub fn submit(&mut self) {
        while let Some(slot) = self.ready.pop_front() {
            let Some(task) = self.tasks[slot].as_mut() else {
                continue;
            };
            let disk = &self.disks[task.disk];
            let operation = task.operation(disk, task.issued);
            let memory = task.buffers.get(task.issued).map(|buffer| buffer.memory().clone());
            let tag = (slot as u64) << 32 | task.issued as u64;
            match self.service.submit(disk.handle, operation, memory, tag) {
                Ok(()) => {
                    task.issued += 1;
                    task.outstanding += 1;
                    if task.issued < task.parts() {
                        self.ready.push_back(slot);
                    }
                }
                Err(SubmitError::Full) => {
                    self.ready.push_front(slot);
                    return;
                }
                Err(error) => {
                    let errno = match error {
                        SubmitError::Stopped => Errno::Shutdown,
                        _ => Errno::Invalid,
                    };
                    task.failure.get_or_insert_with(|| Refusal::new(errno, error.to_string()));
                    self.settle(slot);
                }
            }
        }
    }

    /// Collects completions; true when there were any.
    pub fn collect(&mut self) -> Result<bool, ServiceError> {
        let mut completions = std::mem::take(&mut self.completions);
        let polled = self.service.poll(&mut completions);
        let any = !completions.is_empty();
        for completion in completions.drain(..) {
            let slot = (completion.tag >> 32) as usize;
            let Some(task) = self.tasks.get_mut(slot).and_then(Option::as_mut) else {
                continue;
            };
            task.outstanding -= 1;
            if let Err(error) = completion.result {
                let errno = errno_of_status(task.request.command, error.status);
                task.failure.get_or_insert_with(|| Refusal::new(errno, error.to_string()));
            }
            self.settle(slot);
        }
        self.completions = completions;
        polled?;
        Ok(any)
    }

    /// Lets a slice of the service's time pass.
    pub fn wait(&mut self, slice: Duration) -> Result<(), ServiceError> {
        let deadline = self.service.now() + slice;
        self.service.wait(deadline)
    }

    /// Requests that came to their end since this was called last.
    pub fn take_finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// Ends a task, or begins its flush, when nothing of it is under way.
    fn settle(&mut self, slot: usize) {
        let Some(task) = self.tasks[slot].as_mut() else {
            return;
        };
        if task.outstanding > 0 || (task.failure.is_none() && task.issued < task.parts()) {
            return;
        }
        if let (None, Work::Plain { flush_after: true, .. }) = (&task.failure, task.work) {
            task.work = Work::Plain { operation: Operation::Flush, flush_after: false };
            task.issued = 0;
            self.ready.push_back(slot);
            return;
        }
        if task.issued < task.parts() {
            // After a failure the parts not submitted are left out.
            self.ready.retain(|&other| other != slot);
        }
        if let Some(task) = self.tasks[slot].take() {
            self.free.push(slot);
            let Task { origin, request, buffers, failure, .. } = task;
            self.finished.push(Finished { origin, request, buffers, result: failure.map_or(Ok(()), Err) });
        }
    }
}
