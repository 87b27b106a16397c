//! `taskq show`: everything about jobs or tasks.

use crate::context::{Context, spans};
use crate::exit::Exit;
use crate::select::Typed;
use crate::view::Shown;

/// Show everything about jobs or tasks
///
/// With -o jsonl each job and each task is a line of its own.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  taskq show 42\n  taskq show 42.7\n  taskq show last --json")]
pub(crate) struct Args {
    /// Jobs and tasks, which count from 0: 42, 42.7, 42.1-5,9, last, last~1, or - to read them from standard input
    #[arg(value_name = "SELECTOR", required = true)]
    selectors: Vec<Typed>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let mut shown = Shown::default();
    for chosen in context.choose(&client, &args.selectors).await? {
        match chosen.tasks.is_empty() {
            true => shown.job(&client, client.get(chosen.job).await?).await?,
            false => shown.tasks(&client, chosen.job, spans(&chosen.tasks)).await?,
        }
    }
    shown.print(&context.screen)?;
    Ok(Exit::Ok)
}
