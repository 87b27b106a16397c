//! From samples to what is shown, and the memory of this process.

use std::{fmt, fs};

/// A median between best and worst.
pub(crate) struct Spread {
    median: f64,
    best: f64,
    worst: f64,
}

impl Spread {
    /// Of rates: the highest is the best.
    pub(crate) fn of(rates: impl Iterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = rates.collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(worst), Some(best)) = (sorted.first(), sorted.last()) else { panic!("no samples") };
        Spread { median: sorted[sorted.len() / 2], best: *best, worst: *worst }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} | {:.0} | {:.0}", self.median, self.best, self.worst)
    }
}

/// What of this process is in memory.
pub(crate) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a process can read about itself");
    let line =
        status.lines().find(|line| line.starts_with("VmRSS:")).expect("a status tells the resident size");
    let kib = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    kib.expect("a size is a number of KiB") * 1024
}
