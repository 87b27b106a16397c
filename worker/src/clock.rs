//! The wall clock, for display only: leases, timeouts and pauses go by the monotonic clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch; 0 on a machine that lives before it.
#[expect(clippy::disallowed_methods, reason = "the worker's one reading of the wall clock")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
