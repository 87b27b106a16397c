//! `taskq submit`: hands a job over durably and prints its number; may wait for it.

use std::ffi::OsString;

use clap::builder::ValueHint;
use serde::Serialize;
use taskq_client::{Client, JobHandle};

use crate::attach::{self, Attach, Stay};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupts;
use crate::job;
use crate::output::{self, Format};
use crate::plan::{Flags, Plan};
use crate::progress::{self, Progress};
use crate::sources;
use crate::view::Shown;

use super::run::live;

/// Submit a job and print its number; it is on the coordinator's disk by then
///
/// With sources (--each-line, --array, `:::`, ...) the job has one task per element. Placeholders are filled in on the
/// worker, straight into the arguments, without a shell: {} {.} {/} {//} {/.} {#} {%} {1} {name} {job} {attempt}
/// {worker}. Without a placeholder the element is appended. Without sources, other words in braces are literal, so
/// that `find . -exec rm {} +` is what it looks like.
///
/// With --json and --wait, the document of `taskq show` when the job has ended.
#[derive(clap::Args, Debug)]
#[command(after_help = job::help("Examples:\n  \
    taskq submit --name nightly -- ./backup.sh\n  \
    taskq submit --each-line urls.txt --retries 3 -- curl --create-dirs -sSfo out/{#}.html {}\n  \
    taskq submit --array 1-1000%50 --wait -- ./simulate --seed {}\n  \
    taskq submit -q gpu --res gpu=1 -- python3 train.py ::: 0.1 0.01\n  \
    taskq submit --csv users.csv --dry-run -- mail {address}\n\n\
    Exit codes: with --wait or --follow those of the task, 1 if any of many failed, 6 cancelled,\n\
    74 if what --follow shows is not whole, 125 taskq failed; else 69 unreachable, 5 conflict, 75 busy.\n\
    All codes: taskq --help"))]
pub(crate) struct Args {
    #[command(flatten)]
    job: job::Args,
    #[command(flatten)]
    many: job::Many,
    #[command(flatten)]
    sources: sources::Args,
    /// Wait until the job has ended, and exit as it did
    #[arg(long)]
    wait: bool,
    /// Like --wait, with the output of the tasks as it comes
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    progress: progress::Args,
    /// Print the first commands as they would run, and submit nothing
    #[arg(long)]
    dry_run: bool,
    /// Exit with 0 even if tasks fail
    #[arg(long)]
    exit_zero: bool,
    /// The program and its arguments, perhaps with `::: VALUES`; options of taskq come before it
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

impl Args {
    /// True if the command stays until the job has ended.
    pub(crate) fn waits(&self) -> bool {
        self.wait || self.follow || self.progress.asked()
    }
}

/// How many commands a dry run shows.
const SHOWN: u32 = 10;

pub(crate) async fn run(mut args: Args, context: &Context) -> anyhow::Result<Exit> {
    if args.follow {
        args.job.keep_all_output();
    }
    let flags = Flags { job: &args.job, many: &args.many, sources: &args.sources };
    let (command, trailing) = sources::split(args.command.clone())?;
    let argv = job::argv(command, args.job.shell())?;
    let plan = Plan::read(&flags, argv, trailing).await?;
    let total = plan.total()?;
    if args.dry_run {
        plan.print(&context.screen, 0..total.min(SHOWN))?;
        if total > SHOWN {
            context.say(&format!("... and {} more", total - SHOWN));
        }
        return Ok(Exit::Ok);
    }
    if total == 0 {
        return Err(Failure::because(Exit::NoMatch, "the sources have no elements; nothing was submitted"));
    }
    let builder = plan.builder(&flags)?;
    let client = context.client().await?;
    let mut interrupts = if args.waits() { Some(Interrupts::listen()?) } else { None };
    let handle = client.submit(builder).await?;
    say_submitted(&args, &Submitted { id: handle.id().0, tasks: total }, context)?;
    match interrupts.as_mut() {
        Some(interrupts) => until_ended(&args, total, context, &client, &handle, interrupts).await,
        None => Ok(Exit::Ok),
    }
}

/// On standard output, unless that is the tasks' own, or has one document to come.
fn say_submitted(args: &Args, submitted: &Submitted, context: &Context) -> anyhow::Result<()> {
    let id = submitted.id;
    let one_document = args.waits() && context.screen.format == Format::Json;
    match args.follow || one_document {
        true => context.say(&format!("job {id}")),
        false => output::one(&context.screen, "taskq.v1.submitted", submitted, &[id.to_string()])?,
    }
    Ok(())
}

async fn until_ended(
    args: &Args,
    total: u32,
    context: &Context,
    client: &Client,
    handle: &JobHandle,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Exit> {
    let output = args.follow.then(|| live(context, total > 1));
    let attach = Attach { output, owns: false, timeout: None };
    let mut progress = Progress::new(args.progress, &context.screen, handle.id().to_string());
    let stay = attach.stay(context, handle, interrupts, &mut progress).await?;
    drop(progress);
    match stay {
        Stay::Ended(job, holes) => {
            let exit = attach::conclude(context, client, &job).await?;
            Shown::print_ended(&context.screen, client, [*job]).await?;
            Ok(holes.over(if args.exit_zero { Exit::Ok } else { exit }))
        }
        Stay::Interrupted | Stay::TimedOut => {
            attach::say_detached(context, handle).await;
            Ok(Exit::Interrupted)
        }
    }
}

#[derive(Serialize)]
struct Submitted {
    id: u64,
    tasks: u32,
}
