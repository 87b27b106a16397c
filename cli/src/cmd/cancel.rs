//! `taskq cancel`: stop jobs or tasks.

use crate::act::{self, Verb};
use crate::context::Context;
use crate::exit::Exit;
use crate::select::Selector;

/// Cancel jobs or tasks
///
/// What has not started never starts; what runs gets TERM and, after its grace, KILL. The answer means that the wish is on
/// disk; `taskq wait` tells when all has ended.
///
/// A filter acts on every job that matches; it asks first on a terminal, and needs -y elsewhere.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  taskq cancel 42\n  taskq cancel 42.7 43\n  taskq cancel -q fetch -s queued --dry-run"
)]
pub(crate) struct Args {
    #[command(flatten)]
    what: act::Args<Selector>,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    act::run(Verb::Cancel, args.what, context).await
}
