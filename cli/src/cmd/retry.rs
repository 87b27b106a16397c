//! `taskq retry`: failed and cancelled tasks once more.

use crate::act::{self, Verb};
use crate::context::Context;
use crate::exit::Exit;
use crate::select::Selector;

/// Run failed and cancelled tasks again, as new jobs
///
/// The old job keeps its records; the new one has the same elements with the same numbers. Its number is printed.
///
/// A filter acts on every job that matches; it asks first on a terminal, and needs -y elsewhere.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  taskq retry 42\n  taskq retry 42.1-5,9\n  taskq retry -q fetch -s failed --error-like 'HTTP 5' --dry-run"
)]
pub(crate) struct Args {
    #[command(flatten)]
    what: act::Args<Selector>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    act::run(Verb::Retry, args.what, context).await
}
