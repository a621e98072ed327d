//! The end of a block service: everything outstanding comes back, and every disk is flushed.

use std::time::Duration;

use crate::engine::StopError;
use crate::plans::{drain_own, end_all_exceptions, PlanService};
use crate::service::{BlockService, Completion, IoError, Operation, ServiceError, SubmitError};

/// Longest pause between two polls while draining.
const COLLECT_PAUSE: Duration = Duration::from_millis(10);

/// Ends what applications have kept, waits for every operation, flushes every disk, and waits for the control path's own
/// commands, each within `limit`. Completions that were not polled are lost.
pub(crate) fn wind_down<S: PlanService + BlockService>(
    service: &mut S,
    limit: Duration,
) -> Result<(), StopError> {
    end_all_exceptions(service)?;
    drain_and_flush(service, limit)?;
    drain_own(service, limit)
}

/// Waits for every operation and flushes every disk, each within `limit`. Completions that were not polled
/// are lost.
fn drain_and_flush(service: &mut impl BlockService, limit: Duration) -> Result<(), StopError> {
    collect(service, limit, |_| Ok(()))?;
    for disk in 0..service.virtual_disks().len() {
        let handle = service.virtual_disks()[disk].handle;
        loop {
            match service.submit(handle, Operation::Flush, None, 0) {
                Ok(()) => break,
                // There may be more disks than operations at once.
                Err(SubmitError::Full) => collect(service, limit, |completion| completion.result)?,
                Err(_) => return Err(ServiceError::Stopped.into()),
            }
        }
    }
    collect(service, limit, |completion| completion.result)
}

/// Polls until nothing is outstanding, up to the limit.
fn collect(
    service: &mut impl BlockService,
    limit: Duration,
    judge: impl Fn(Completion) -> Result<(), IoError>,
) -> Result<(), StopError> {
    let deadline = service.now() + limit;
    let mut done = Vec::new();
    loop {
        service.poll(&mut done)?;
        done.drain(..).try_for_each(&judge)?;
        let outstanding = service.outstanding();
        if outstanding == 0 {
            return Ok(());
        }
        let now = service.now();
        if now >= deadline {
            return Err(StopError::Outstanding { outstanding, waited: limit });
        }
        service.wait(deadline.min(now + COLLECT_PAUSE))?;
    }
}
