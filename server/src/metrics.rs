//! Figures for who watches a coordinator. This file counts what only the shell knows: commits, answers to submits, connections.
//!
//! `metric` is the list of all metrics, `scrape` gathers their values at one moment, `text` writes them down, `process`
//! looks at this process. What the scheduler knows it counts itself (`taskq_core::tally`).

pub(crate) mod metric;
mod process;
pub(crate) mod scrape;
mod text;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use taskq_core::tally::{BOUNDS_US, Histogram, bucket};

/// Counters that any thread may read.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Batches made durable: written and synced.
    pub commits: Timing,
    /// Submits, from when a request is understood until its answer can be sent.
    pub submits: Timing,
    /// Open connections that speak gRPC.
    pub grpc: Gauge,
    /// Open connections that speak HTTP/1.
    pub http: Gauge,
    /// Connections closed at once, as there were too many.
    pub turned_away: AtomicU64,
}

impl Metrics {
    /// How many commits there were.
    #[must_use]
    pub fn all_commits(&self) -> u64 {
        self.commits.read().counts.iter().sum()
    }

    /// Commits in microseconds that this share of them stayed below, to a factor of 2.5; 0 without any.
    #[must_use]
    pub fn commit_us(&self, share: f64) -> u64 {
        let counts = self.commits.read().counts;
        let all: u64 = counts.iter().sum();
        let mut seen = 0;
        for (at, count) in counts.iter().enumerate() {
            seen += count;
            if seen > 0 && seen as f64 >= all as f64 * share {
                return BOUNDS_US.get(at).copied().unwrap_or(u64::MAX);
            }
        }
        0
    }
}

/// A histogram that any thread may add to.
#[derive(Debug, Default)]
pub struct Timing {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Timing {
    /// Counts one.
    pub fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// As it is now; what is added meanwhile may be there in part.
    #[must_use]
    pub fn read(&self) -> Histogram {
        let counts = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        Histogram { counts, sum_us: self.sum_us.load(Ordering::Relaxed) }
    }
}

/// How many there are of something.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Gauge {
    /// One more.
    #[must_use]
    pub fn count(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    /// As it is now.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_factor_of_two_and_a_half() {
        let metrics = Metrics::default();
        assert_eq!(metrics.commit_us(0.5), 0);
        for micros in 101..=300 {
            metrics.commits.add(Duration::from_micros(micros));
        }
        assert_eq!(metrics.all_commits(), 200);
        assert_eq!(metrics.commit_us(0.5), 250);
        assert_eq!(metrics.commit_us(0.99), 500);
    }

    #[test]
    fn what_is_dropped_is_not_counted_any_more() {
        let gauge = Gauge::default();
        let (first, second) = (gauge.count(), gauge.count());
        assert_eq!(gauge.read(), 2);
        drop(first);
        assert_eq!(gauge.read(), 1);
        drop(second);
        assert_eq!(gauge.read(), 0);
    }
}
