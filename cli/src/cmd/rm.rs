//! `taskq rm`: forget ended jobs.

use crate::act::{self, Verb};
use crate::context::Context;
use crate::exit::Exit;
use crate::select::WholeJob;

/// Forget ended jobs with their results and output
///
/// A job that has not ended is a conflict (5): cancel it first. One that was removed before is not found (3).
/// Single tasks cannot be removed.
///
/// A filter acts on every job that matches; it asks first on a terminal, and needs -y elsewhere.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  taskq rm 42\n  taskq rm --older-than 7d -y\n  taskq rm -q nightly -s succeeded --dry-run"
)]
pub(crate) struct Args {
    #[command(flatten)]
    what: act::Args<WholeJob>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    act::run(Verb::Remove, args.what, context).await
}
