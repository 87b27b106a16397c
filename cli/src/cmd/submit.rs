//! `taskq submit`: hands a job over durably and prints its number; may wait for it.

use std::ffi::OsString;

use clap::builder::ValueHint;
use serde::Serialize;
use taskq_client::Elements;

use crate::attach::{self, Attach, Stay};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupts;
use crate::output;
use crate::progress::{self, Progress};
use crate::sources::{self, Trailing};
use crate::{job, words};

use super::run::live;

/// Submit a job and print its number; it is on the coordinator's disk by then
///
/// With sources (--each-line, --array, `:::`, ...) the job has one task per element. Placeholders are filled in on the
/// worker, straight into the arguments, without a shell: {} {.} {/} {//} {/.} {#} {%} {1} {name} {job} {attempt}
/// {worker}. Without a placeholder the element is appended.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    taskq submit --name nightly -- ./backup.sh\n  \
    taskq submit --each-line urls.txt --retries 3 -- curl -sfo out/{#}.html {}\n  \
    taskq submit --array 1-1000%50 --wait -- ./simulate --seed {}\n  \
    taskq submit -q gpu --res gpu=1 -- python3 train.py ::: 0.1 0.01\n  \
    taskq submit --csv users.csv --dry-run -- mail {address}\n\n\
    Exit codes: with --wait or --follow those of the task, or 1 if any of many failed; otherwise 69 unreachable,\n\
    5 conflict, 75 busy. All codes: taskq --help")]
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

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let waits = args.waits();
    let (command, trailing) = sources::split(args.command)?;
    let argv = job::argv(command, args.job.shell())?;
    let elements = read_elements(&args.sources, &args.job, trailing).await?;
    let many =
        job::Many { max_parallel: args.many.max_parallel.or(args.sources.max_parallel()), ..args.many };
    if args.dry_run {
        return dry_run(context, &argv, args.job.shell(), &elements);
    }
    if elements.total()? == 0 {
        return Err(Failure::because(Exit::NoMatch, "the sources have no elements; nothing was submitted"));
    }
    let total = elements.total()?;
    let builder = args.job.builder(argv, &many, elements)?;
    builder.check()?;
    let client = context.client().await?;
    let mut interrupts = if waits { Some(Interrupts::listen()?) } else { None };
    let handle = client.submit(builder).await?;
    let id = handle.id();
    let submitted = Submitted { id: id.0, tasks: total };
    match waits {
        // Standard output is the tasks' own while they are followed.
        true if args.follow => context.say(&format!("job {id}")),
        true | false => output::one(&context.screen, "taskq.v1.submitted", &submitted, &[id.to_string()])?,
    }
    let Some(interrupts) = interrupts.as_mut() else { return Ok(Exit::Ok) };
    let output = args.follow.then(|| live(context, total > 1));
    let attach = Attach { output, owns: false, timeout: None };
    let mut progress = Progress::new(args.progress, &context.screen, id.to_string());
    let stay = attach.stay(context, &handle, interrupts, &mut progress).await?;
    drop(progress);
    match stay {
        Stay::Ended(job) => {
            let exit = attach::conclude(context, &client, &job).await?;
            Ok(if args.exit_zero { Exit::Ok } else { exit })
        }
        Stay::Interrupted | Stay::TimedOut => {
            attach::say_detached(context, id);
            Ok(Exit::Interrupted)
        }
    }
}

#[derive(Serialize)]
struct Submitted {
    id: u64,
    tasks: u32,
}

/// Reads the sources without holding up the runtime: standard input may be a slow pipe.
pub(crate) async fn read_elements(
    sources: &sources::Args,
    job: &job::Args,
    trailing: Vec<Trailing>,
) -> anyhow::Result<Elements> {
    if job.takes_stdin() && sources.takes_stdin() {
        return Err(sources::Error::StdinTwice.into());
    }
    let sources = sources.clone();
    let read = tokio::task::spawn_blocking(move || sources.read(trailing)).await;
    Ok(read.map_err(|cause| Failure::because(Exit::Internal, cause.to_string()))??)
}

/// How many commands a dry run shows.
const SHOWN: u32 = 10;

fn dry_run(context: &Context, argv: &[String], shell: bool, elements: &Elements) -> anyhow::Result<Exit> {
    let expansion = Expansion::new(argv, shell, elements)?;
    let mut out = output::Out::new();
    let total = elements.total()?;
    let mut show = || -> anyhow::Result<()> {
        for index in 0..total.min(SHOWN) {
            let command = expansion.command(elements, index)?;
            out.line(&command).map_err(|cause| output::stdout_failed(&cause))?;
        }
        out.flush().map_err(|cause| output::stdout_failed(&cause))
    };
    show()?;
    if total > SHOWN {
        context.say(&format!("... and {} more", total - SHOWN));
    }
    Ok(Exit::Ok)
}

/// Commands as they will run, for people and the job log. What is known on the worker only stays a placeholder.
pub(crate) struct Expansion {
    template: taskq_template::Template,
    shell: bool,
}

impl Expansion {
    /// Checks the template.
    pub(crate) fn new(argv: &[String], shell: bool, elements: &Elements) -> anyhow::Result<Expansion> {
        let parsed = taskq_template::Template::parse(argv, shell, &elements.columns());
        Ok(Expansion { template: parsed.map_err(taskq_client::Error::from)?, shell })
    }

    /// The command of one element, as one would type it in a shell.
    pub(crate) fn command(&self, elements: &Elements, index: u32) -> anyhow::Result<String> {
        let fields = if elements.is_empty() { vec![] } else { elements.row(index)? };
        let argv = self.template.expand(&taskq_template::Values {
            job: 0,
            index,
            attempt: 1,
            slot: 0,
            worker: "{worker}",
            fields: &fields,
        });
        let argv: Vec<String> = argv.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        Ok(match (self.shell, argv.as_slice()) {
            (true, [script]) => script.clone(),
            _ => words::join(argv.iter().map(String::as_str)),
        })
    }
}
