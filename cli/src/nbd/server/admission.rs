//! From a request's header to the service: it is judged, waits for memory in order of arrival, starts.

use volplane::BlockService;

use super::Server;
use crate::nbd::connection::{Connection, Phase};
use crate::nbd::execution::Origin;
use crate::nbd::pool::{footprint, Buffer, Taken};
use crate::nbd::protocol::{Errno, Request};
use crate::nbd::transmission::{judge, Refusal, Verdict, Work};

impl<S: BlockService> Server<S> {
    pub(super) fn take_request(&mut self, connection: &mut Connection, request: Request) {
        let Some(session) = connection.session() else {
            return;
        };
        let verdict = judge(&request, &self.exports[session.export], &session, self.draining.is_some());
        if verdict == Verdict::Disconnect {
            connection.phase = Phase::Finished;
            return;
        }
        self.report.requests += 1;
        connection.requests += 1;
        match verdict {
            Verdict::Execute(work) => connection.phase = Phase::Admission { request, work },
            Verdict::Allocated => connection.reply_allocated(&request),
            Verdict::Refuse(refusal) => {
                self.report.errors += 1;
                connection.refuse(request, refusal);
            }
            Verdict::Nothing | Verdict::Disconnect => connection.reply_done(&request),
        }
    }

    /// Finds memory for a request; false when it must wait.
    pub(super) fn admit(
        &mut self,
        index: usize,
        connection: &mut Connection,
        request: Request,
        work: Work,
    ) -> bool {
        let bytes = match work {
            Work::Read | Work::Write { .. } => request.length as usize,
            Work::Plain { .. } => 0,
        };
        let need = footprint(bytes);
        if connection.held > 0 && connection.held + need > self.limits.connection_bytes {
            return false;
        }
        let origin = Origin { index, id: connection.id };
        let taken = match self.first_waiting(origin) {
            Some(first) if need > 0 && first != origin => Taken::Later,
            _ => self.pool.take(&mut self.execution.service, bytes),
        };
        if matches!(taken, Taken::Later) {
            if !connection.waiting {
                connection.waiting = true;
                if self.waiting.is_empty() {
                    self.waiting_since = self.now;
                }
                self.waiting.push_back(origin);
            }
            return false;
        }
        if std::mem::take(&mut connection.waiting) {
            self.waiting.retain(|&other| other != origin);
            self.waiting_since = self.now;
            self.wake_first_waiting();
        }
        match taken {
            Taken::Now(buffers) => {
                connection.held += need;
                connection.phase = Phase::Request;
                if request.has_payload() {
                    connection.receive_into(request, work, buffers);
                } else {
                    self.start(index, connection, request, work, buffers);
                }
            }
            Taken::Later | Taken::Never => {
                self.report.errors += 1;
                connection.refuse(request, Refusal::new(Errno::Memory, "not enough DMA memory"));
            }
        }
        true
    }

    pub(super) fn start(
        &mut self,
        index: usize,
        connection: &mut Connection,
        request: Request,
        work: Work,
        buffers: Vec<Buffer>,
    ) {
        if let Some(session) = connection.session() {
            connection.executing += 1;
            let origin = Origin { index, id: connection.id };
            self.execution.start(origin, session.export, request, work, buffers);
        }
    }

    /// Who has waited longest for memory. `current` is being served, so it is not in its place.
    pub(super) fn first_waiting(&mut self, current: Origin) -> Option<Origin> {
        while let Some(&first) = self.waiting.front() {
            let place = self.connections.get(first.index).and_then(Option::as_ref);
            if first == current || place.is_some_and(|connection| connection.id == first.id) {
                return Some(first);
            }
            self.waiting.pop_front();
        }
        None
    }

    fn wake_first_waiting(&mut self) {
        if let Some(first) = self.first_waiting(Origin::NOBODY) {
            self.wake(first.index);
        }
    }

    pub(super) fn wake_for_memory(&mut self) {
        if self.pool.take_released() && !self.waiting.is_empty() {
            self.wake_first_waiting();
        }
    }
}
