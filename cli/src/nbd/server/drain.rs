//! The end of a server: nothing new, what is under way comes to its end, every disk is flushed.

use std::time::Instant;

use volplane::{BlockService, Operation};

use super::{ServeError, Server, SERVICE_SLICE};

impl<S: BlockService> Server<S> {
    /// Stops listening and lets what is under way come to its end.
    pub(super) fn drain(&mut self) {
        if self.draining.is_some() {
            return;
        }
        self.draining = Some(self.now + self.limits.drain);
        self.listeners.clear();
        for index in 0..self.connections.len() {
            self.wake(index);
        }
    }

    /// Brings everything written to stable media.
    pub(super) fn flush_all(&mut self) -> Result<(), ServeError> {
        if !self.execution.is_empty() {
            return Err(self.timed_out());
        }
        let deadline = Instant::now() + self.limits.drain;
        let mut failed = None;
        let mut left = 0;
        for (tag, export) in self.exports.iter().enumerate() {
            match self.execution.service.submit(export.disk.handle, Operation::Flush, None, tag as u64) {
                Ok(()) => left += 1,
                Err(error) => failed = Some((tag, error.to_string())),
            }
        }
        let mut done = Vec::new();
        while left > 0 {
            self.execution.service.poll(&mut done)?;
            left -= done.len().min(left);
            for completion in done.drain(..) {
                if let Err(error) = completion.result {
                    failed = Some((completion.tag as usize, error.to_string()));
                }
            }
            if left > 0 && Instant::now() >= deadline {
                return Err(self.timed_out());
            }
            if left > 0 {
                self.execution.wait(SERVICE_SLICE)?;
            }
        }
        match failed {
            None => Ok(()),
            Some((export, reason)) => Err(ServeError::LastFlush {
                export: self.exports.get(export).map(|e| e.name().to_owned()).unwrap_or_default(),
                reason,
            }),
        }
    }

    fn timed_out(&self) -> ServeError {
        ServeError::DrainTimeout {
            operations: self.execution.service.outstanding(),
            waited: self.limits.drain,
        }
    }
}
