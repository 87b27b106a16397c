//! What a call used: of its process, and of the processes that it has started and waited for.

use std::fs::File;
use std::io::Write as _;

use super::frame::Used;
use crate::sys::{self, Spent};

/// Written to `/proc/self/clear_refs`: the peak of this process begins anew at what it has now.
const FORGET_THE_PEAK: &[u8] = b"5";

/// Measures one call after another.
pub(super) struct Meter {
    /// None where the kernel does not offer it: the peak is then that of all calls until now.
    peak: Option<File>,
    before: Spent,
}

impl Meter {
    pub(super) fn new() -> Meter {
        let peak = File::options().write(true).open("/proc/self/clear_refs").ok();
        Meter { peak, before: Spent::default() }
    }

    pub(super) fn begin(&mut self) {
        self.peak.take_if(|peak| peak.write_all(FORGET_THE_PEAK).is_err());
        self.before = sys::spent();
    }

    /// Since [`begin`](Meter::begin).
    pub(super) fn used(&self) -> Used {
        let now = sys::spent();
        Used {
            user_us: Some(now.user_us.saturating_sub(self.before.user_us)),
            system_us: Some(now.system_us.saturating_sub(self.before.system_us)),
            peak_rss_bytes: Some(now.peak_rss_bytes),
        }
    }
}
