//! The only clock of the coordinator.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use taskq_core::id::{Now, Timestamp, WallTime};

/// Reads both clocks; cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_wall: WallTime,
}

impl Clock {
    /// A clock whose monotonic side begins now, at 0.
    #[must_use]
    pub fn start() -> Clock {
        Clock { start: Instant::now(), start_wall: wall() }
    }

    /// This moment.
    #[must_use]
    pub fn now(&self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { mono: Timestamp(mono), wall: wall() }
    }

    /// The wall clock, but for having been set forward since the start: what was written a moment ago must not look a
    /// year old.
    #[must_use]
    pub fn calendar(&self) -> WallTime {
        let passed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        wall().min(WallTime(self.start_wall.0.saturating_add(passed)))
    }

    /// When the monotonic side will show `at`.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        self.start + Duration::from_millis(at.0)
    }
}

/// The wall clock, for display only.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
