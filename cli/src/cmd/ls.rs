//! `taskq ls`: jobs, newest first.

use crate::clock::UnixMs;
use crate::context::{Context, wire_filter};
use crate::exit::Exit;
use crate::filter::Filter;
use crate::output;
use crate::view::JobView;

/// List jobs, newest first
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    taskq ls\n  \
    taskq ls -q fetch -s failed,running --since 1h\n  \
    taskq ls --error-like 'HTTP 5' -o id | taskq retry -\n  \
    taskq ls --json | jq '.jobs[0].counts'")]
pub(crate) struct Args {
    #[command(flatten)]
    filter: Filter,
    /// List at most this many jobs
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// List all jobs
    #[arg(short, long, conflicts_with = "limit")]
    all: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let limit = if args.all { u32::MAX } else { args.limit };
    // One more than asked for tells whether there is more.
    let page = limit.saturating_add(1).min(1_000);
    let mut jobs = client.list(wire_filter(&args.filter)).page_size(page);
    let now = UnixMs::now();
    let mut rows = Vec::new();
    while let Some(job) = jobs.next().await {
        let job = job?;
        if !args.filter.is_old_enough(job.ended_unix_ms, now) {
            continue;
        }
        if rows.len() >= limit as usize {
            context.say(&format!("only the newest {limit} jobs are listed; more with --limit N or --all"));
            break;
        }
        rows.push(JobView::new(job, now));
    }
    output::rows(&context.screen, &rows)?;
    Ok(Exit::Ok)
}
