//! Operations in progress: cut into commands, spread over the client queues, put together again.
//!
//! Both tables are bounded: operations by the options, commands by the queues. An operation of any
//! length takes one place; its commands are issued as slots come free, in turns with those of other
//! operations, so that a long one delays nobody. A command's identifier is its slot in its queue.

use std::collections::VecDeque;
use std::time::Duration;

use volplane_abi::{status, CompletionEntry, SubmissionEntry};
use volplane_driver::{ClientQueue, DmaMemory, Full, Function, QueueError, PAGE};

use super::command::{self, DiskLimits, Part};
use crate::service::{Completion, IoError, Operation, ServiceError, SubmitError, VdHandle};

/// A client queue pair, as the dispatcher needs it.
pub trait CommandQueue {
    fn number(&self) -> u16;
    fn capacity(&self) -> usize;
    fn submit(&mut self, entry: SubmissionEntry) -> Result<(), Full>;
    fn ring(&mut self) -> Result<(), QueueError>;
    fn poll(&mut self) -> Result<Option<CompletionEntry>, QueueError>;
}

impl<F: Function> CommandQueue for ClientQueue<F> {
    fn number(&self) -> u16 {
        ClientQueue::number(self)
    }

    fn capacity(&self) -> usize {
        ClientQueue::capacity(self)
    }

    fn submit(&mut self, entry: SubmissionEntry) -> Result<(), Full> {
        ClientQueue::submit(self, entry)
    }

    fn ring(&mut self) -> Result<(), QueueError> {
        ClientQueue::ring(self)
    }

    fn poll(&mut self) -> Result<Option<CompletionEntry>, QueueError> {
        ClientQueue::poll(self)
    }
}

/// A command that was submitted.
#[derive(Clone, Copy, Debug)]
struct Issued {
    operation: usize,
    lba: u64,
}

/// A queue and its command slots.
struct Slots<Q> {
    queue: Q,
    issued: Vec<Option<Issued>>,
    free: Vec<u16>,
    /// A page for each slot.
    pages: DmaMemory,
}

impl<Q: CommandQueue> Slots<Q> {
    fn page(&self, slot: u16) -> DmaMemory {
        self.pages.part(usize::from(slot) * PAGE, PAGE)
    }
}

/// An operation in progress.
#[derive(Debug)]
struct Running {
    tag: u64,
    disk: usize,
    operation: Operation,
    buffer: Option<DmaMemory>,
    /// First block, and blocks in all.
    lba: u64,
    blocks: u64,
    /// Blocks in commands issued so far.
    issued_blocks: u64,
    /// Nothing more is to be issued.
    issued_all: bool,
    in_flight: u32,
    /// First block and status of the failed command with the lowest first block.
    failure: Option<(u64, u16)>,
    /// When it was taken, or last had a completion.
    since: Duration,
}

/// Bounds of a dispatcher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Operations in progress.
    pub(crate) operations: usize,
    /// Longest time between two signs of life of an operation.
    pub(crate) answer: Duration,
}

/// The state of all operations.
pub(crate) struct Dispatcher<Q> {
    queues: Vec<Slots<Q>>,
    /// The queue whose turn it is.
    turn: usize,
    disks: Vec<DiskLimits>,
    running: Vec<Option<Running>>,
    free: Vec<usize>,
    /// Operations with commands to issue, in turn.
    waiting: VecDeque<usize>,
    finished: VecDeque<Completion>,
    bounds: Bounds,
    /// When the ages of the operations are looked at next.
    check_at: Duration,
    stopped: bool,
}

impl<Q: CommandQueue> Dispatcher<Q> {
    /// Each queue comes with a page of memory for each command it holds; disks are in order of
    /// handle, from 0.
    pub(crate) fn new(queues: Vec<(Q, DmaMemory)>, disks: Vec<DiskLimits>, bounds: Bounds) -> Self {
        let slots = |(queue, pages): (Q, DmaMemory)| {
            let capacity = queue.capacity();
            assert!(pages.len() >= capacity * PAGE, "a page for each command");
            Slots { queue, issued: vec![None; capacity], free: (0..capacity as u16).rev().collect(), pages }
        };
        Self {
            queues: queues.into_iter().map(slots).collect(),
            turn: 0,
            disks,
            running: (0..bounds.operations).map(|_| None).collect(),
            free: (0..bounds.operations).rev().collect(),
            waiting: VecDeque::new(),
            finished: VecDeque::new(),
            bounds,
            check_at: Duration::ZERO,
            stopped: false,
        }
    }

    /// Operations in progress, and those whose completions were not polled.
    pub(crate) fn outstanding(&self) -> usize {
        self.running.len() - self.free.len() + self.finished.len()
    }

    /// Whether completions can be polled now.
    pub(crate) fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// Takes no more operations.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// The queues, for deletion.
    pub(crate) fn into_queues(self) -> Vec<Q> {
        self.queues.into_iter().map(|slots| slots.queue).collect()
    }

    /// The queue at `index`.
    pub(crate) fn queue(&mut self, index: usize) -> &mut Q {
        &mut self.queues[index].queue
    }

    /// Memory of an operation in progress by its bus address.
    pub(crate) fn buffer_at(&self, iova: u64, bytes: usize) -> Option<DmaMemory> {
        self.running.iter().flatten().filter_map(|running| running.buffer.as_ref()).find_map(|buffer| {
            let offset = usize::try_from(iova.checked_sub(buffer.iova().0)?).ok()?;
            let inside = offset.checked_add(bytes).is_some_and(|end| end <= buffer.len());
            inside.then(|| buffer.part(offset, bytes))
        })
    }

    /// See `BlockService::submit`.
    pub(crate) fn submit(
        &mut self,
        handle: VdHandle,
        operation: Operation,
        buffer: Option<DmaMemory>,
        tag: u64,
        now: Duration,
    ) -> Result<(), SubmitError> {
        if self.stopped {
            return Err(SubmitError::Stopped);
        }
        let disk = usize::from(handle.0);
        let limits = self.disks.get(disk).ok_or(SubmitError::NoSuchDisk(handle))?;
        check(limits, &operation, buffer.as_ref())?;
        // Finished ones count too, so a caller that never polls cannot grow the list.
        if self.finished.len() >= self.bounds.operations {
            return Err(SubmitError::Full);
        }
        let index = self.free.pop().ok_or(SubmitError::Full)?;
        let (lba, blocks) = operation.range().unwrap_or_default();
        self.running[index] = Some(Running {
            tag,
            disk,
            operation,
            buffer,
            lba,
            blocks,
            issued_blocks: 0,
            issued_all: false,
            in_flight: 0,
            failure: None,
            since: now,
        });
        self.waiting.push_back(index);
        self.issue();
        Ok(())
    }

    /// Rings the doorbells of what was issued.
    pub(crate) fn ring(&mut self) -> Result<(), ServiceError> {
        let rung: Result<(), QueueError> = self.queues.iter_mut().try_for_each(|slots| slots.queue.ring());
        rung.map_err(|error| self.fail(error.into()))
    }

    /// Takes completions of commands, issues more, and appends finished operations to `done`.
    pub(crate) fn poll(&mut self, now: Duration, done: &mut Vec<Completion>) -> Result<usize, ServiceError> {
        let progress = if self.stopped { Err(ServiceError::Stopped) } else { self.progress(now) };
        let count = self.finished.len();
        done.extend(self.finished.drain(..));
        progress.map(|()| count)
    }

    fn progress(&mut self, now: Duration) -> Result<(), ServiceError> {
        for queue in 0..self.queues.len() {
            loop {
                let polled = self.queues[queue].queue.poll();
                match polled.map_err(|error| self.fail(error.into()))? {
                    Some(completion) => self.complete(queue, &completion, now)?,
                    None => break,
                }
            }
        }
        self.issue();
        self.ring()?;
        self.check_ages(now)
    }

    /// Issues commands while there are slots: one of each waiting operation in turn.
    fn issue(&mut self) {
        while let Some(&index) = self.waiting.front() {
            let running = self.running[index].as_mut().expect("a waiting operation is in progress");
            let Some(queue) = next_with_room(&self.queues, self.turn) else { return };
            let slots = &mut self.queues[queue];
            let slot = *slots.free.last().expect("a queue with room has a free slot");

            let disk = &self.disks[running.disk];
            let lba = running.lba + running.issued_blocks;
            let left = running.blocks - running.issued_blocks;
            let part = Part { lba, blocks: disk.part(&running.operation, lba, left) };
            let bytes = |blocks: u64| (blocks << disk.block_shift) as usize;
            let buffer = running
                .buffer
                .as_ref()
                .map(|buffer| buffer.part(bytes(running.issued_blocks), bytes(part.blocks)));
            let entry = command::entry(disk, &running.operation, part, buffer, &slots.page(slot), slot);
            if slots.queue.submit(entry).is_err() {
                // The card has not reported its fetches yet; the next completion brings room.
                return;
            }
            slots.free.pop();
            slots.issued[usize::from(slot)] = Some(Issued { operation: index, lba });
            self.turn = (queue + 1) % self.queues.len();

            running.in_flight += 1;
            running.issued_blocks += part.blocks;
            running.issued_all = running.issued_blocks == running.blocks;
            self.waiting.pop_front();
            if !running.issued_all {
                self.waiting.push_back(index);
            }
        }
    }

    fn complete(
        &mut self,
        queue: usize,
        completion: &CompletionEntry,
        now: Duration,
    ) -> Result<(), ServiceError> {
        let slots = &mut self.queues[queue];
        let slot = completion.command_id();
        let Some(issued) = slots.issued.get_mut(usize::from(slot)).and_then(Option::take) else {
            let queue = slots.queue.number();
            return Err(self.fail(ServiceError::UnknownCommand { queue, command: slot }));
        };
        slots.free.push(slot);
        let index = issued.operation;
        let running = self.running[index].as_mut().expect("a command's operation is in progress");
        running.in_flight -= 1;
        running.since = now;
        if completion.status() != status::SUCCESS {
            let earlier = running.failure.is_some_and(|(lba, _)| lba <= issued.lba);
            if !earlier {
                running.failure = Some((issued.lba, completion.status()));
            }
            // Commands are issued in order of blocks, so none to come can be the first to fail.
            if !running.issued_all {
                running.issued_all = true;
                self.waiting.retain(|&waiting| waiting != index);
            }
        }
        if running.in_flight == 0 && running.issued_all {
            self.finish(index);
        }
        Ok(())
    }

    fn finish(&mut self, index: usize) {
        let running = self.running[index].take().expect("the operation is in progress");
        self.free.push(index);
        let disk = self.disks[running.disk].handle;
        let result = match running.failure {
            Some((_, status)) => Err(IoError { disk, operation: running.operation, status }),
            None => Ok(()),
        };
        self.finished.push_back(Completion { tag: running.tag, result });
    }

    /// Fails the service when an operation shows no sign of life: the card offers no way to find
    /// out more, and its buffer cannot be given back.
    fn check_ages(&mut self, now: Duration) -> Result<(), ServiceError> {
        if now < self.check_at {
            return Ok(());
        }
        self.check_at = now + self.bounds.answer / 8;
        let late =
            self.running.iter().flatten().find(|running| {
                running.in_flight > 0 && now.saturating_sub(running.since) > self.bounds.answer
            });
        let Some(late) = late else { return Ok(()) };
        let error = ServiceError::Unanswered {
            disk: self.disks[late.disk].handle,
            operation: late.operation,
            waited: now.saturating_sub(late.since),
        };
        Err(self.fail(error))
    }

    fn fail(&mut self, error: ServiceError) -> ServiceError {
        self.stopped = true;
        error
    }
}

/// The first queue with a free slot, from `turn` on.
fn next_with_room<Q>(queues: &[Slots<Q>], turn: usize) -> Option<usize> {
    let order = (turn..queues.len()).chain(0..turn);
    order.into_iter().find(|&queue| !queues[queue].free.is_empty())
}

/// Refuses what the card would have to.
fn check(disk: &DiskLimits, operation: &Operation, buffer: Option<&DmaMemory>) -> Result<(), SubmitError> {
    let (handle, operation) = (disk.handle, *operation);
    if let Some((lba, blocks)) = operation.range() {
        if blocks == 0 || lba >= disk.blocks || blocks > disk.blocks - lba {
            return Err(SubmitError::OutOfRange { disk: handle, operation, blocks: disk.blocks });
        }
    }
    let bad = |reason| Err(SubmitError::BadBuffer { disk: handle, operation, reason });
    match (operation.has_buffer(), buffer) {
        (true, None) => bad("there is none"),
        (false, Some(_)) => bad("this operation takes none"),
        (true, Some(buffer)) => {
            let (_, blocks) = operation.range().unwrap_or_default();
            if (buffer.len() as u64) < blocks << disk.block_shift {
                return bad("it is too short");
            }
            if buffer.iova().0 % 4 != 0 {
                return bad("its bus address is not a multiple of 4");
            }
            Ok(())
        }
        (false, None) => Ok(()),
    }
}

#[cfg(test)]
#[path = "dispatcher_tests.rs"]
mod tests;
