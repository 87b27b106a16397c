//! Figures of the shell: how often and how fast it commits.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Buckets of the latency histogram: bucket i counts commits below 2^i microseconds.
const BUCKETS: usize = 32;

/// Counters that any thread may read.
#[derive(Debug, Default)]
pub struct Metrics {
    latency: [AtomicU64; BUCKETS],
}

impl Metrics {
    /// Counts one commit.
    pub fn committed(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.latency[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// How many commits there were.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.latency.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Commits in microseconds that this share of them stayed below, to a factor of two; 0 without any.
    #[must_use]
    pub fn commit_us(&self, share: f64) -> u64 {
        let all = self.commits();
        let mut seen = 0;
        for (bucket, count) in self.latency.iter().enumerate() {
            seen += count.load(Ordering::Relaxed);
            if seen > 0 && seen as f64 >= all as f64 * share {
                return 1 << bucket;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_factor_of_two() {
        let metrics = Metrics::default();
        assert_eq!(metrics.commit_us(0.5), 0);
        for micros in 1..=100 {
            metrics.committed(Duration::from_micros(micros));
        }
        assert_eq!(metrics.commits(), 100);
        assert_eq!(metrics.commit_us(0.5), 64);
        assert_eq!(metrics.commit_us(0.99), 128);
    }
}
