//! What has happened since the start, counted where it happens: a few additions a task, and nothing to look up.

use crate::job::End;

/// Upper ends of the buckets of every [`Histogram`], in microseconds: from a fast disk's sync to a working day.
pub const BOUNDS_US: [u64; 21] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
    28_800_000_000,
];

/// The bucket of [`Histogram::counts`] for a span.
#[must_use]
pub fn bucket(micros: u64) -> usize {
    BOUNDS_US.partition_point(|bound| *bound < micros)
}

/// How long things took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// For each of [`BOUNDS_US`] what took no longer (and longer than the one before), and what took longer than all.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// All of it together.
    pub sum_us: u64,
}

impl Histogram {
    /// So many things took this long.
    pub fn add(&mut self, micros: u64, many: u64) {
        self.counts[bucket(micros)] += many;
        self.sum_us = self.sum_us.saturating_add(micros.saturating_mul(many));
    }
}

/// Things by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Exit code 0.
    pub succeeded: u64,
    /// Every attempt failed.
    pub failed: u64,
    /// Somebody wanted it so.
    pub cancelled: u64,
    /// Too many others of the job had failed.
    pub skipped: u64,
}

impl Ends {
    /// So many ended like this.
    pub(crate) fn add(&mut self, end: End, many: u64) {
        *match end {
            End::Succeeded => &mut self.succeeded,
            End::Failed => &mut self.failed,
            End::Cancelled => &mut self.cancelled,
            End::Skipped => &mut self.skipped,
        } += many;
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled + self.skipped
    }
}

/// Attempts by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Exit code 0.
    pub succeeded: u64,
    /// Everything else that a program did.
    pub failed: u64,
    /// Stopped, mostly because of a cancel.
    pub cancelled: u64,
    /// The worker could not run it.
    pub rejected: u64,
    /// Lost with what ran it, or overdue.
    pub lost: u64,
    /// Given back before it started.
    pub returned: u64,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Jobs taken in.
    pub jobs_submitted: u64,
    /// Jobs whose last task ended.
    pub jobs_ended: Ends,
    /// Tasks taken in.
    pub tasks_submitted: u64,
    /// Tasks that ended.
    pub tasks_ended: Ends,
    /// Attempts handed to workers, or found running at one after a restart.
    pub attempts_started: u64,
    /// Attempts that ended.
    pub attempts_ended: Attempts,
    /// Attempts that failed or were lost, and are followed by another.
    pub retried: u64,
    /// Reports refused by their token.
    pub stale: u64,
    /// Workers that were silent for a lease, or died.
    pub workers_lost: u64,
    /// From a job's submission until a task of it was handed out for the first time.
    pub wait: Histogram,
    /// Wall time of attempts that succeeded or failed, as their workers say.
    pub run: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_what_is_below_it() {
        let mut histogram = Histogram::default();
        histogram.add(0, 1);
        histogram.add(100, 2);
        histogram.add(101, 4);
        histogram.add(u64::MAX, 1);
        assert_eq!(histogram.counts[..2], [3, 4]);
        assert_eq!(histogram.counts[BOUNDS_US.len()], 1);
        assert_eq!(histogram.sum_us, u64::MAX, "and nothing overflows");
    }
}
