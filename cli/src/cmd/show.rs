//! `taskq show`: everything about jobs or tasks.

use serde::Serialize;
use taskq_client::TaskQuery;

use crate::clock::UnixMs;
use crate::context::{Context, spans};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::select::Typed;
use crate::view::{JobView, TaskView};

/// Show everything about jobs or tasks
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  taskq show 42\n  taskq show 42.7\n  taskq show last --json")]
pub(crate) struct Args {
    /// Jobs and tasks: 42, 42.7, 42.1-5,9, last, last~1, or - to read them from standard input
    #[arg(value_name = "SELECTOR", required = true)]
    selectors: Vec<Typed>,
}

#[derive(Serialize)]
struct Shown {
    jobs: Vec<JobView>,
    tasks: Vec<TaskView>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let now = UnixMs::now();
    let mut shown = Shown { jobs: vec![], tasks: vec![] };
    for chosen in context.choose(&client, &args.selectors).await? {
        let job = client.get(chosen.job).await?;
        let one_task = job.counts.is_some_and(|counts| counts.total == 1);
        if chosen.tasks.is_empty() {
            shown.jobs.push(JobView::new(job, now));
        }
        if chosen.tasks.is_empty() && !one_task {
            continue;
        }
        let query = TaskQuery { indices: spans(&chosen.tasks), with_history: true, ..TaskQuery::default() };
        let mut tasks = client.list_tasks(chosen.job, query);
        let before = shown.tasks.len();
        while let Some(task) = tasks.next().await {
            shown.tasks.push(TaskView::new(&task?));
        }
        if shown.tasks.len() == before && !chosen.tasks.is_empty() {
            let message = format!("job {} has no such task (which it has: taskq tasks {0})", chosen.job);
            return Err(Failure::because(Exit::NotFound, message));
        }
    }
    let jobs = shown.jobs.iter().flat_map(JobView::lines);
    let lines: Vec<String> = jobs.chain(shown.tasks.iter().flat_map(TaskView::lines)).collect();
    output::one(&context.screen, "taskq.v1.show", &shown, &lines)?;
    Ok(Exit::Ok)
}
