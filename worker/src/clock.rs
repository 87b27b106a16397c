//! The clocks of this machine that tokio does not have. The wall clock is for display only: leases, timeouts and
//! pauses go by clocks that nobody sets.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch; 0 on a machine that lives before it.
#[expect(clippy::disallowed_methods, reason = "the worker's one reading of the wall clock")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Time since boot, the same for all processes; unlike the monotonic clock it goes on while the machine sleeps, as the
/// coordinator's does.
pub(crate) fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}
