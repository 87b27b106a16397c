//! `taskq tasks`: the tasks of a job.

use taskq_client::TaskQuery;
use taskq_client::model::State;

use crate::context::{Context, spans};
use crate::exit::Exit;
use crate::filter;
use crate::output;
use crate::select::Typed;
use crate::view::TaskView;

/// List the tasks of jobs
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  taskq tasks 42\n  taskq tasks 42 -s failed\n  taskq tasks last.0-99 --json"
)]
pub(crate) struct Args {
    /// Jobs, or some of their tasks, which count from 0: 42, 42.1-5,9, last, last~1, or - to read them from standard input
    #[arg(value_name = "SELECTOR", required = true)]
    selectors: Vec<Typed>,
    /// Tasks in these states
    #[arg(short, long, value_name = "STATES", value_delimiter = ',', value_parser = filter::state())]
    state: Vec<State>,
    /// List at most this many tasks
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// List all tasks
    #[arg(short, long, conflicts_with = "limit")]
    all: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let limit = if args.all { usize::MAX } else { args.limit as usize };
    let mut rows = Vec::new();
    'jobs: for chosen in context.choose(&client, &args.selectors).await? {
        let states = args.state.clone();
        let query = TaskQuery { indices: spans(&chosen.tasks), states, with_history: false };
        let mut tasks = client.list_tasks(chosen.job, query).page_size(limit.min(1_000) as u32);
        while let Some(task) = tasks.next().await {
            let task = task?;
            if rows.len() >= limit {
                context
                    .say(&format!("only the first {limit} tasks are listed; more with --limit N or --all"));
                break 'jobs;
            }
            rows.push(TaskView::new(&task));
        }
    }
    output::rows(&context.screen, &rows)?;
    Ok(Exit::Ok)
}
