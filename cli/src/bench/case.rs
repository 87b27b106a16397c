//! What can be measured: each case has variants, and each of them a number of tasks that takes some seconds.

use std::collections::BTreeSet;

use clap::ValueEnum;

use super::cases::commands::Output;
use super::cases::latency::Of;
use super::cases::submit::How;
use super::worker;

/// A group of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Case {
    /// Durable submits: single ones by 1 and by 64 clients, in bulk, and of arrays of 1,000,000 elements
    Submit,
    /// An array of programs that do nothing, without output and with 2 KB of it captured
    Commands,
    /// Calls of functions that do nothing: one array, and each its own job, 10,000 under way; on threads and on the
    /// event loop
    Calls,
    /// One lone call, command, and `taskq run` after another, from submit to result
    Latency,
    /// Calls with 1 KB, 1 MB and 64 MB in and out
    Payload,
    /// Calls while 1,000 others wait, and while --queued others do
    Backlog,
    /// Calls with 1, 2, 4, ... up to --workers worker processes
    Fanout,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// In place of each variant's own number.
    pub(crate) tasks: Option<u32>,
    /// A tenth of the usual, for a first look.
    pub(crate) quick: bool,
    /// Worker processes, if it was said.
    pub(crate) workers: Option<u32>,
    /// Calls that wait in `backlog`.
    pub(crate) queued: u32,
}

/// One line of the result.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub(super) case: Case,
    pub(super) name: String,
    pub(super) tasks: u32,
    pub(super) workers: u32,
    pub(super) work: Work,
    pub(super) limit: Limit,
}

/// What is done in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    Submit(How),
    Commands(Output),
    Array { function: &'static str },
    Each { function: &'static str },
    Latency(Of),
    Payload { bytes: usize },
    Backlog { queued: u32 },
}

/// What of the machine holds it back, and so what it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// The processors, in a way that cannot be measured without taskq.
    None,
    /// Submits a second against syncs of the disk a second.
    Fdatasyncs,
    /// Commands a second against spawns a second.
    Spawns,
    /// The median time against three syncs, four round trips and so many lone spawns.
    Path { spawns: u32 },
    /// Throughput against that of the case's first variant.
    First,
}

/// Where `fanout` goes if nothing else is said.
const WORKERS: u32 = 4;
/// Clients of the concurrent submits.
const CLIENTS: u32 = 64;
/// What waits in the short one of `backlog`.
const FEW: u32 = 1_000;

impl Case {
    /// All of them, in the order of the report.
    pub(crate) fn all() -> Vec<Case> {
        Case::value_variants().to_vec()
    }

    /// As it is typed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Case::Submit => "submit",
            Case::Commands => "commands",
            Case::Calls => "calls",
            Case::Latency => "latency",
            Case::Payload => "payload",
            Case::Backlog => "backlog",
            Case::Fanout => "fanout",
        }
    }

    /// Its lines, in order.
    pub(super) fn variants(self, scale: &Scale) -> Vec<Variant> {
        let variant = |name: &str, tasks: u32, work: Work, limit: Limit| Variant {
            case: self,
            name: name.to_owned(),
            tasks: scale.tasks.unwrap_or(if scale.quick { tasks.div_ceil(10) } else { tasks }),
            workers: scale.workers.unwrap_or(1),
            work,
            limit,
        };
        match self {
            Case::Submit => {
                let single = |clients| Work::Submit(How::Single { clients });
                vec![
                    variant("single-1", 2_000, single(1), Limit::Fdatasyncs),
                    variant("single-64", 40_000, single(CLIENTS), Limit::Fdatasyncs),
                    variant("bulk", 200_000, Work::Submit(How::Bulk), Limit::Fdatasyncs),
                    variant("array-1m", 200, Work::Submit(How::Arrays), Limit::Fdatasyncs),
                ]
            }
            Case::Commands => vec![
                variant("plain", 4_000, Work::Commands(Output::Nothing), Limit::Spawns),
                variant("output-2k", 4_000, Work::Commands(Output::Captured), Limit::Spawns),
            ],
            Case::Calls => {
                let array = |function| Work::Array { function };
                let each = |function| Work::Each { function };
                vec![
                    variant("array", 300_000, array(worker::ECHO), Limit::None),
                    variant("array-async", 300_000, array(worker::ECHO_ASYNC), Limit::None),
                    variant("each", 60_000, each(worker::ECHO), Limit::None),
                    variant("each-async", 60_000, each(worker::ECHO_ASYNC), Limit::None),
                ]
            }
            Case::Latency => vec![
                variant("call", 500, Work::Latency(Of::Call), Limit::Path { spawns: 0 }),
                variant("command", 500, Work::Latency(Of::Command), Limit::Path { spawns: 1 }),
                variant("cli", 100, Work::Latency(Of::Cli), Limit::Path { spawns: 2 }),
            ],
            Case::Payload => vec![
                variant("1-kb", 20_000, Work::Payload { bytes: 1 << 10 }, Limit::None),
                variant("1-mb", 100, Work::Payload { bytes: 1 << 20 }, Limit::None),
                variant("64-mb", 4, Work::Payload { bytes: 64 << 20 }, Limit::None),
            ],
            Case::Backlog => BTreeSet::from([FEW.min(scale.queued), scale.queued])
                .into_iter()
                .map(|queued| {
                    variant(&format!("queued-{queued}"), 40_000, Work::Backlog { queued }, Limit::First)
                })
                .collect(),
            Case::Fanout => widths(scale.workers.unwrap_or(WORKERS))
                .into_iter()
                .map(|workers| Variant {
                    workers,
                    ..variant(
                        &format!("workers-{workers}"),
                        60_000,
                        Work::Each { function: worker::ECHO },
                        Limit::First,
                    )
                })
                .collect(),
        }
    }
}

/// 1, 2, 4, ... and the last.
fn widths(most: u32) -> Vec<u32> {
    let doubled = (0..u32::BITS).map(|n| 1 << n).take_while(|width| *width < most);
    doubled.chain([most]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_double() {
        assert_eq!([widths(1), widths(2), widths(6)], [vec![1], vec![1, 2], vec![1, 2, 4, 6]]);
    }

    #[test]
    fn every_line_has_a_name_of_its_own_and_something_to_do() {
        let scale = Scale { tasks: None, quick: true, workers: None, queued: 1_000_000 };
        let lines: Vec<Variant> = Case::all().into_iter().flat_map(|case| case.variants(&scale)).collect();
        let mut names: Vec<_> = lines.iter().map(|line| (line.case, line.name.clone())).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), lines.len());
        assert!(lines.iter().all(|line| line.tasks > 0 && line.workers > 0));
    }
}
