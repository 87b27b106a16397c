//! What one stretch of work takes: time, CPU of each part, memory, disk.

use std::time::{Duration, Instant};

use super::stage::Stage;
use super::usage::Parts;

/// A stretch that has begun.
pub(super) struct Meter<'a> {
    stage: &'a Stage,
    cpu: Parts<Duration>,
    disk: u64,
    began: Instant,
}

/// What it took.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) elapsed: Duration,
    pub(super) cpu: Parts<Duration>,
    /// Of the whole stage, up to the end of the stretch.
    pub(super) peak: Parts<u64>,
    /// Less than nothing if the store has given back more than it took.
    pub(super) disk_bytes: i64,
    /// How long single operations took; empty if there is no such thing.
    pub(super) nanos: Vec<u64>,
}

impl Meter<'_> {
    /// From here.
    pub(super) fn start(stage: &Stage) -> anyhow::Result<Meter<'_>> {
        stage.forget_done();
        let disk = stage.disk()?;
        Ok(Meter { stage, disk, cpu: stage.cpu()?, began: Instant::now() })
    }

    /// To here. What is checked only afterwards is no part of it; values that are compared as they come are.
    pub(super) fn stop(self, nanos: Vec<u64>) -> anyhow::Result<Measured> {
        let elapsed = self.began.elapsed();
        let cpu = self.stage.cpu()?.zip(&self.cpu, |after, before| after.saturating_sub(before));
        let disk_bytes = self.stage.disk()?.cast_signed() - self.disk.cast_signed();
        Ok(Measured { elapsed, cpu, peak: self.stage.peak()?, disk_bytes, nanos })
    }
}

/// As it is kept by the hundred thousands.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
