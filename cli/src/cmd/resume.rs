//! `taskq resume`: let paused jobs go on.

use crate::act::{self, Verb};
use crate::context::Context;
use crate::exit::Exit;
use crate::select::WholeJob;

/// Let paused jobs go on
///
/// Jobs are paused and resumed as a whole.
///
/// A filter acts on every job that matches; it asks first on a terminal, and needs -y elsewhere.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  taskq resume 42\n  taskq resume -s blocked -y")]
pub(crate) struct Args {
    #[command(flatten)]
    what: act::Args<WholeJob>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    act::run(Verb::Resume, args.what, context).await
}
