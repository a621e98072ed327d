//! A client queue between whoever gives commands and the software data path.

use std::collections::VecDeque;

use volplane_abi::{CompletionEntry, SubmissionEntry};
use volplane_driver::{Full, QueueError};

use crate::operations::dispatcher::CommandQueue;

/// Commands on their way to the data path, and completions on their way back.
pub struct CommandRing {
    number: u16,
    capacity: u16,
    submissions: VecDeque<SubmissionEntry>,
    completions: VecDeque<CompletionEntry>,
}

impl CommandRing {
    /// For `capacity` commands at a time.
    pub(super) fn new(number: u16, capacity: u16) -> Self {
        Self { number, capacity, submissions: VecDeque::new(), completions: VecDeque::new() }
    }

    /// Commands at a time.
    pub(super) fn capacity(&self) -> u16 {
        self.capacity
    }

    pub(super) fn has_submissions(&self) -> bool {
        !self.submissions.is_empty()
    }

    pub(super) fn has_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    pub(super) fn take_submission(&mut self) -> Option<SubmissionEntry> {
        self.submissions.pop_front()
    }

    pub(super) fn complete(&mut self, completion: CompletionEntry) {
        self.completions.push_back(completion);
    }
}

impl CommandQueue for CommandRing {
    fn number(&self) -> u16 {
        self.number
    }

    fn capacity(&self) -> usize {
        self.capacity.into()
    }

    fn submit(&mut self, entry: SubmissionEntry) -> Result<(), Full> {
        if self.submissions.len() >= usize::from(self.capacity) {
            return Err(Full);
        }
        self.submissions.push_back(entry);
        Ok(())
    }

    fn ring(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<CompletionEntry>, QueueError> {
        Ok(self.completions.pop_front())
    }
}
