//! Waiting for a device by looking again and again, never longer than a limit.

use std::time::Duration;

use crate::platform::{AccessError, Platform};

/// First pause between two looks: about what a table write takes.
const PAUSE_FIRST: Duration = Duration::from_micros(1);
/// Longest pause between two looks.
const PAUSE_MAX: Duration = Duration::from_millis(1);

/// Looks until `look` finds something; `None` once `limit` has passed. Pauses double, so a quick
/// answer is seen quickly and a slow one costs few looks.
///
/// # Errors
/// What `look` or the platform reports.
pub fn poll_until<P, T, E>(
    platform: &mut P,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E>
where
    P: Platform,
    E: From<AccessError>,
{
    let deadline = platform.now() + limit;
    let mut pause = PAUSE_FIRST;
    loop {
        // Read before the look, so that what came at the last moment is still found.
        let now = platform.now();
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if now >= deadline {
            return Ok(None);
        }
        platform.wait(deadline.min(now + pause))?;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
