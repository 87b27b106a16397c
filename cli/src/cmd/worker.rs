//! `taskq worker`: look at workers, and send one home.

use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, Format};
use crate::view::WorkerView;

/// List workers, show one, or let one finish and leave
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  taskq worker ls\n  taskq worker show\n  taskq worker show gpu-1\n  taskq worker drain gpu-1"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    /// List workers
    Ls,
    /// Show everything about a worker, or about all: what they offer, each function with its kind
    Show {
        /// Its name [default: every worker]
        name: Option<String>,
    },
    /// Let a worker finish what it runs, take nothing new, and leave
    Drain {
        /// Its name
        name: String,
    },
}

#[derive(Serialize)]
struct Shown {
    worker: WorkerView,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let rows: Vec<WorkerView> = match args.verb {
        Verb::Ls => client.workers().await?.into_iter().map(WorkerView::from).collect(),
        Verb::Drain { name } => vec![client.drain_worker(&name).await?.into()],
        Verb::Show { name: None } => {
            show_all(context, client.workers().await?.into_iter().map(WorkerView::from).collect())?;
            return Ok(Exit::Ok);
        }
        Verb::Show { name: Some(name) } => {
            let shown = Shown { worker: client.worker(&name).await?.into() };
            output::one(&context.screen, "taskq.v1.worker", &shown, &shown.worker.lines())?;
            return Ok(Exit::Ok);
        }
    };
    output::rows(&context.screen, &rows)?;
    Ok(Exit::Ok)
}

/// For people one after another; for programs as `worker ls` has them, which leaves nothing out.
fn show_all(context: &Context, workers: Vec<WorkerView>) -> anyhow::Result<()> {
    if workers.is_empty() {
        context.say("taskq: no worker is connected");
    }
    match context.screen.format {
        Format::Json | Format::Jsonl | Format::Id => output::rows(&context.screen, &workers),
        Format::Table | Format::Tsv => {
            let blocks: Vec<_> = workers.iter().map(WorkerView::lines).collect();
            let lines = blocks.join(&String::new());
            output::one(&context.screen, "taskq.v1.workers", &(), &lines)
        }
    }
}
