//! `taskq queue`: look at queues, pause, resume and empty them.

use serde::Serialize;

use crate::act::counted;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::view::QueueView;

/// List, pause, resume or empty queues
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  taskq queue ls\n  taskq queue pause fetch\n  taskq queue purge fetch --dry-run"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    /// List queues
    Ls,
    /// Start no further tasks of a queue; what runs goes on. Outlives a restart
    ///
    /// The queue may be one that no job has used yet: the jobs that come then wait.
    Pause {
        /// Its name
        name: String,
    },
    /// Let a paused queue go on
    ///
    /// One that does not exist is an error (3), with those that do.
    Resume {
        /// Its name
        name: String,
    },
    /// Cancel every task of a queue that has not started
    ///
    /// One that does not exist is an error (3), with those that do. A queue is there while it has jobs that have not
    /// ended, or once it was paused.
    Purge {
        /// Its name
        name: String,
        /// Say what would be cancelled, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Do it
        #[arg(short, long, conflicts_with = "dry_run")]
        yes: bool,
    },
}

#[derive(Serialize)]
struct Purged {
    queue: String,
    dry_run: bool,
    jobs: u64,
    tasks: u64,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let queues = match args.verb {
        Verb::Ls => client.queues().await?,
        Verb::Pause { name } => vec![client.pause_queue(&name).await?],
        Verb::Resume { name } => vec![client.resume_queue(&name).await?],
        Verb::Purge { name, dry_run, yes } => {
            if !dry_run && !yes {
                let would = client.purge_queue(&name, true).await?;
                return Err(Failure::usage(format!(
                    "this would cancel {} of {}; add -y to do it, or --dry-run to look only",
                    counted(would.tasks, "task"),
                    counted(would.jobs, "job")
                )));
            }
            let purged = client.purge_queue(&name, dry_run).await?;
            let would = if dry_run { "would cancel" } else { "cancelled" };
            let (tasks, jobs) = (counted(purged.tasks, "task"), counted(purged.jobs, "job"));
            let line = format!("{would} {tasks} of {jobs}");
            let view = Purged { queue: name, dry_run, jobs: purged.jobs, tasks: purged.tasks };
            output::one(&context.screen, "taskq.v1.purged", &view, &[line])?;
            return Ok(Exit::Ok);
        }
    };
    let rows: Vec<QueueView> = queues.into_iter().map(QueueView::from).collect();
    output::rows(&context.screen, &rows)?;
    Ok(Exit::Ok)
}
