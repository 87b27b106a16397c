//! The one place of this program that asks what time it is.
//! Everything else is handed a time.

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time, in milliseconds since 1970 (UTC). Zero stands for "not yet" in what the coordinator sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnixMs(pub(crate) u64);

impl UnixMs {
    /// Now, by this machine's clock.
    #[expect(clippy::disallowed_methods, reason = "this is the clock of the command line")]
    pub(crate) fn now() -> UnixMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// How long ago `earlier` was, in milliseconds; 0 if the clocks disagree.
    pub(crate) fn since(self, earlier: UnixMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
