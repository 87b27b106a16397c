//! `taskq bench`: how fast it is here, and how close to what the machine can do.

use std::path::PathBuf;
use std::time::Duration;

use crate::bench::{self, Case, Course, Place, Scale, Settings};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::quantity;

/// Measure how fast taskq is on this machine, against what the machine can do
///
/// Always starts a system of its own, whatever coordinator there is: for each measurement a taskq-server (the program
/// beside this one) on a fresh directory, worker processes, and this process as the client; with --local all of them in
/// this one process. Everything is durable, as it is in use, and every value is compared. Nothing is left afterwards.
///
/// Without CASE all are measured once, which takes about a minute. While others use the machine, figures are theirs as
/// well.
///
/// With --json, a document holds all figures: times in microseconds, CPU by process (that of workers with all that they
/// started), the most memory of each (the client is the same process for all, and keeps some of what it had), and of each
/// case what of the machine limits it, measured just before.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    taskq bench\n  \
    taskq bench --quick\n  \
    taskq bench calls latency --repeat 5 --json > figures.json\n  \
    taskq bench commands --tasks 10000 --slots 4 --data /var/tmp")]
pub(crate) struct Args {
    /// What to measure [default: all]
    #[arg(value_enum, value_name = "CASE")]
    cases: Vec<Case>,
    /// How many tasks each measurement takes [default: some seconds' worth]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    tasks: Option<u32>,
    /// Measure so often, and show medians
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// A tenth of the tasks, for a first look
    #[arg(long)]
    quick: bool,
    /// Worker processes [default: 1; `fanout` goes up to 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64), conflicts_with = "local")]
    workers: Option<u32>,
    /// Slots of each worker [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_096))]
    slots: Option<u32>,
    /// How many calls wait meanwhile in `backlog` [default: 1000000, with --quick 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    queued: Option<u32>,
    /// The most time that one measurement may take
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = quantity::duration)]
    timeout: Duration,
    /// In which directory, and so on which disk, its own directories are made [default: $TMPDIR or /tmp; if that is in
    /// memory, /var/tmp]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let local = context.own_system()?;
    let cores = || u32::try_from(std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let mut cases = if args.cases.is_empty() { Case::all() } else { args.cases };
    if local && cases.contains(&Case::Fanout) {
        context.say("fanout is left out: with --local there is one worker, in this process");
        cases.retain(|case| *case != Case::Fanout);
    }
    let settings = Settings {
        cases,
        scale: Scale {
            tasks: args.tasks,
            quick: args.quick,
            workers: args.workers,
            queued: args.queued.unwrap_or(if args.quick { 100_000 } else { 1_000_000 }),
        },
        repeat: args.repeat,
        place: Place {
            parent: parent(args.data, context)?,
            local,
            slots: args.slots.map_or_else(cores, Ok)?,
        },
        most: args.timeout,
    };
    let report = Course::new(settings).run(&context.screen).await?;
    bench::print(&context.screen, &report)
}

/// Where to make directories: on a disk, unless the user insists.
fn parent(data: Option<PathBuf>, context: &Context) -> anyhow::Result<PathBuf> {
    if let Some(dir) = data {
        if bench::is_in_memory(&dir)? {
            let why = "is in memory: its syncs cost nothing, and figures of durable work are too good there";
            context.say(&format!("warning: {} {why}", dir.display()));
        }
        return Ok(dir);
    }
    for dir in [std::env::temp_dir(), PathBuf::from("/var/tmp")] {
        if dir.is_dir() && !bench::is_in_memory(&dir)? {
            return Ok(dir);
        }
    }
    Err(Failure::usage(
        "the directories for temporary files are in memory; choose one on a disk with --data DIR",
    ))
}
