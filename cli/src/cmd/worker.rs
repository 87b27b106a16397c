//! `taskq worker`: look at workers, and send one home.

use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::output;
use crate::view::WorkerView;

/// List workers, show one, or let one finish and leave
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  taskq worker ls\n  taskq worker show gpu-1\n  taskq worker drain gpu-1")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    /// List workers
    Ls,
    /// Show everything about a worker
    Show {
        /// Its name
        name: String,
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
        Verb::Show { name } => {
            let shown = Shown { worker: client.worker(&name).await?.into() };
            output::one(&context.screen, "taskq.v1.worker", &shown, &shown.worker.lines())?;
            return Ok(Exit::Ok);
        }
    };
    output::rows(&context.screen, &rows)?;
    Ok(Exit::Ok)
}
