//! `taskq pause`: start no further tasks of jobs.

use crate::act::{self, Verb};
use crate::context::Context;
use crate::exit::Exit;
use crate::select::WholeJob;

/// Start no further tasks of jobs; what runs goes on
///
/// Jobs are paused and resumed as a whole.
///
/// A filter acts on every job that matches; it asks first on a terminal, and needs -y elsewhere.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  taskq pause 42\n  taskq pause -l team=vision -y")]
pub(crate) struct Args {
    #[command(flatten)]
    what: act::Args<WholeJob>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    act::run(Verb::Pause, args.what, context).await
}
