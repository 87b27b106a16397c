//! What a bench prints at its end: a table for people with what its ratios mean, or one document for programs.

use serde::Serialize;

use crate::exit::Exit;
use crate::output::{self, Column, Format, Out, View};
use crate::screen::Screen;
use crate::text;

use super::case::{Case, Limit, Variant, Work};
use super::figures::{Latency, median};
use super::machine::{Machine, micros};
use super::trial::Trial;
use super::usage::Parts;

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(super) taskq: &'static str,
    pub(super) machine: Machine,
    pub(super) cases: Vec<Line>,
}

/// One variant: medians of its trials.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    case: &'static str,
    variant: String,
    tasks: u32,
    slots: u32,
    workers: u32,
    repeats: usize,
    seconds: f64,
    per_second: f64,
    best_per_second: f64,
    worst_per_second: f64,
    /// Arguments and values together, where they are what counts.
    bytes_per_second: Option<f64>,
    latency_us: Option<Latency>,
    cpu_us_per_task: Parts<f64>,
    peak_rss_bytes: Parts<u64>,
    disk_bytes_per_task: f64,
    of_limit: Option<OfLimit>,
}

/// How it compares with what binds it.
#[derive(Clone, Debug, Serialize)]
struct OfLimit {
    limit: String,
    /// Operations a second; of a path, microseconds for one.
    value: f64,
    ratio: f64,
}

impl Line {
    /// From all trials of a variant, of which there is one at least.
    pub(super) fn of(variant: &Variant, trials: &[Trial], slots: u32) -> Line {
        let tasks = f64::from(variant.tasks);
        let of_all = |figure: &dyn Fn(&Trial) -> f64| trials.iter().map(figure).collect::<Vec<f64>>();
        let rate = |trial: &Trial| tasks / trial.measured.elapsed.as_secs_f64();
        let rates = of_all(&rate);
        let latencies: Vec<Latency> =
            trials.iter().filter_map(|trial| Latency::of(trial.measured.nanos.clone())).collect();
        let per_second = median(&rates);
        let bytes_per_second = match variant.work {
            Work::Payload { bytes } => Some(2.0 * bytes as f64 * per_second),
            Work::Submit(_)
            | Work::Commands(_)
            | Work::Array { .. }
            | Work::Each { .. }
            | Work::Latency(_)
            | Work::Backlog { .. } => None,
        };
        Line {
            case: variant.case.name(),
            variant: variant.name.clone(),
            tasks: variant.tasks,
            slots,
            workers: variant.workers,
            repeats: trials.len(),
            seconds: median(&of_all(&|trial| trial.measured.elapsed.as_secs_f64())),
            per_second,
            best_per_second: rates.iter().copied().fold(0.0, f64::max),
            worst_per_second: rates.iter().copied().fold(f64::INFINITY, f64::min),
            bytes_per_second,
            latency_us: Latency::of_runs(&latencies),
            cpu_us_per_task: medians(trials, |trial| trial.measured.cpu.map(|cpu| micros(*cpu) / tasks)),
            peak_rss_bytes: medians(trials, |trial| trial.measured.peak.map(|bytes| *bytes as f64))
                .map(|bytes| *bytes as u64),
            disk_bytes_per_task: median(&of_all(&|trial| trial.measured.disk_bytes as f64 / tasks)),
            of_limit: of_limit(variant, trials, rate),
        }
    }

    /// With each that is to be compared with the first of its case compared with it.
    pub(super) fn compared(mut lines: Vec<Line>, variants: &[Variant]) -> Vec<Line> {
        let Some((first, others)) = lines.split_first_mut() else { return lines };
        for (line, variant) in others.iter_mut().zip(&variants[1..]) {
            if variant.limit == Limit::First {
                let ratio = line.per_second / first.per_second;
                line.of_limit =
                    Some(OfLimit { limit: first.variant.clone(), value: first.per_second, ratio });
            }
        }
        lines
    }
}

/// Each trial against the limit that was measured just before it; the median of that.
fn of_limit(variant: &Variant, trials: &[Trial], rate: impl Fn(&Trial) -> f64) -> Option<OfLimit> {
    let mut values = Vec::new();
    let mut ratios = Vec::new();
    for trial in trials {
        let value = trial.limit?;
        values.push(value);
        ratios.push(match variant.limit {
            Limit::Path { .. } => Latency::of(trial.measured.nanos.clone())?.p50 / value,
            Limit::Fdatasyncs | Limit::Spawns | Limit::None | Limit::First => rate(trial) / value,
        });
    }
    Some(OfLimit { limit: name_of(variant.limit)?, value: median(&values), ratio: median(&ratios) })
}

fn name_of(limit: Limit) -> Option<String> {
    match limit {
        Limit::None | Limit::First => None,
        Limit::Fdatasyncs => Some("fdatasyncs".to_owned()),
        Limit::Spawns => Some("spawns".to_owned()),
        Limit::Path { spawns: 0 } => Some("3 fdatasyncs + 4 round trips".to_owned()),
        Limit::Path { spawns: 1 } => Some("3 fdatasyncs + 4 round trips + 1 spawn".to_owned()),
        Limit::Path { spawns } => Some(format!("3 fdatasyncs + 4 round trips + {spawns} spawns")),
    }
}

fn medians(trials: &[Trial], figure: impl Fn(&Trial) -> Parts<f64>) -> Parts<f64> {
    let mut all = trials.iter().map(figure);
    let first = all.next().expect("there is one trial at least").map(|value| vec![*value]);
    let gathered = all.fold(first, |gathered, parts| {
        gathered.zip(&parts, |values, value| values.iter().copied().chain([value]).collect())
    });
    gathered.map(|values| median(values))
}

impl View for Line {
    const SCHEMA: &'static str = "taskq.v1.bench";
    const COLUMNS: &'static [Column] = &[
        Column::text("CASE", 0),
        Column::number("TASKS", 7),
        Column::number("PER SECOND", 0),
        Column::number("OF LIMIT", 1),
        Column::number("P50", 2),
        Column::number("P99", 3),
        Column::number("MAX", 5),
        Column::number("CPU US", 4),
        Column::number("RSS MIB", 6),
        Column::number("DISK", 8),
    ];

    fn cells(&self) -> Vec<String> {
        let time = |figure: fn(&Latency) -> f64| self.latency_us.as_ref().map(|l| short_us(figure(l)));
        let joined = |cells: Vec<String>| cells.join("+");
        vec![
            format!("{} {}", self.case, self.variant),
            grouped(f64::from(self.tasks)),
            match self.bytes_per_second {
                Some(bytes) => format!("{} ({}/s)", short(self.per_second), text::size(bytes as u64)),
                None => short(self.per_second),
            },
            self.of_limit.as_ref().map_or_else(|| "-".to_owned(), |of| format!("{:.2}", of.ratio)),
            time(|l| l.p50).unwrap_or_else(|| "-".to_owned()),
            time(|l| l.p99).unwrap_or_else(|| "-".to_owned()),
            time(|l| l.max).unwrap_or_else(|| "-".to_owned()),
            joined(self.cpu_us_per_task.all().into_iter().map(|cpu| short(*cpu)).collect()),
            joined(self.peak_rss_bytes.all().into_iter().map(|bytes| (bytes >> 20).to_string()).collect()),
            short(self.disk_bytes_per_task),
        ]
    }

    fn id(&self) -> String {
        format!("{}/{}", self.case, self.variant)
    }
}

/// Prints it.
pub(crate) fn print(screen: &Screen, report: &Report) -> anyhow::Result<Exit> {
    match screen.format {
        Format::Json | Format::Jsonl => output::one(screen, Line::SCHEMA, report, &[])?,
        Format::Tsv | Format::Id => output::rows(screen, &report.cases)?,
        Format::Table => {
            output::rows(screen, &report.cases)?;
            let mut out = Out::new();
            let written = legend(report).iter().try_for_each(|line| out.line(line));
            written.and_then(|()| out.flush()).map_err(|cause| output::stdout_failed(&cause))?;
        }
    }
    Ok(Exit::Ok)
}

/// What the columns and the ratios mean, as far as they are there.
fn legend(report: &Report) -> Vec<String> {
    let machine = &report.machine;
    let apart = report.cases.iter().any(|line| matches!(line.peak_rss_bytes, Parts::Apart { .. }));
    let parts = if apart {
        "coordinator + workers with their tasks + client"
    } else {
        "the one process with its tasks"
    };
    let mut lines = vec![
        String::new(),
        format!(
            "machine     {} cores, Linux {}: {} fdatasyncs/s, {} spawns/s, round trip {} (TCP), {} (gRPC)",
            machine.cores,
            machine.kernel,
            grouped(machine.fdatasync_per_second),
            grouped(machine.spawns_per_second),
            short_us(machine.round_trip_us),
            short_us(machine.grpc_round_trip_us)
        ),
        format!("CPU         a task's microseconds: {parts}"),
        "RSS         the most memory of the same, without tasks that are programs".to_owned(),
        "DISK        bytes that a task takes in the data directory".to_owned(),
    ];
    let mut told: Vec<&str> = Vec::new();
    for line in &report.cases {
        let Some(of) = line.of_limit.as_ref().filter(|_| !told.contains(&line.case)) else { continue };
        told.push(line.case);
        let meaning = match of.limit.as_str() {
            "fdatasyncs" => {
                "OF LIMIT is per sync that the disk can do, of 4 KiB alone: above 1, many share one"
                    .to_owned()
            }
            "spawns" => {
                "OF LIMIT is per `true` that as many threads as slots can start and await alone".to_owned()
            }
            path if path.contains('+') => {
                format!("OF LIMIT is p50 against {path}, and what has to be spawned")
            }
            first => format!("OF LIMIT is throughput against {first}"),
        };
        lines.push(format!("{:<10}  {meaning}", line.case));
    }
    if report.cases.iter().any(|line| line.latency_us.is_some() && line.case == Case::Calls.name()) {
        lines.push("calls       each: 10,000 are under way at once, and so each waits for others".to_owned());
    }
    lines
}

/// `1,234,567`, `12.3`: three digits at least, where there are so many.
fn short(number: f64) -> String {
    if number.abs() < 99.95 { format!("{number:.1}") } else { grouped(number) }
}

/// Microseconds as they are read best.
fn short_us(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{us:.0}us"),
        us if us < 999_500.0 => format!("{:.2}ms", us / 1e3),
        us => format!("{:.2}s", us / 1e6),
    }
}

fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [short(0.04), short(99.94), short(99.96), short(-12_345.0)],
            ["0.0", "99.9", "100", "-12,345"]
        );
        assert_eq!([short_us(87.4), short_us(1_234.0), short_us(2_500_000.0)], ["87us", "1.23ms", "2.50s"]);
        assert_eq!([grouped(1_234_567.0), grouped(-123.0)], ["1,234,567", "-123"]);
    }
}
