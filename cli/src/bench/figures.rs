//! From many measurements to the few figures that are shown.

use serde::Serialize;

/// How long single operations took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Latency {
    /// Of the times of all operations, in nanoseconds; `None` if there are none.
    pub(super) fn of(mut nanos: Vec<u64>) -> Option<Latency> {
        nanos.sort_unstable();
        let max = *nanos.last()?;
        let at = |percent: usize| nanos[(nanos.len() * percent).div_ceil(100) - 1];
        Some(Latency { p50: at(50) as f64 / 1e3, p99: at(99) as f64 / 1e3, max: max as f64 / 1e3 })
    }

    /// Of several runs: the medians of their percentiles, and the worst there was.
    pub(super) fn of_runs(runs: &[Latency]) -> Option<Latency> {
        let each = |figure: fn(&Latency) -> f64| runs.iter().map(figure).collect::<Vec<f64>>();
        let max = each(|run| run.max).into_iter().reduce(f64::max)?;
        Some(Latency { p50: median(&each(|run| run.p50)), p99: median(&each(|run| run.p99)), max })
    }
}

/// The middle one, or the mean of the two in the middle; 0 of nothing.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        even if even.is_multiple_of(2) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let nanos: Vec<u64> = (1..=200).rev().map(|n| n * 1_000).collect();
        assert_eq!(Latency::of(nanos), Some(Latency { p50: 100.0, p99: 198.0, max: 200.0 }));
        assert_eq!(Latency::of(vec![7_000]), Some(Latency { p50: 7.0, p99: 7.0, max: 7.0 }));
        assert_eq!(Latency::of(Vec::new()), None);
    }

    #[test]
    fn runs_are_told_by_their_medians_and_their_worst() {
        let run = |p50, p99, max| Latency { p50, p99, max };
        let runs = [run(1.0, 9.0, 20.0), run(3.0, 5.0, 99.0), run(2.0, 7.0, 10.0)];
        assert_eq!(Latency::of_runs(&runs), Some(run(2.0, 7.0, 99.0)));
        assert_eq!(Latency::of_runs(&[]), None);
        assert_eq!([median(&[4.0, 1.0]), median(&[])], [2.5, 0.0]);
    }
}
