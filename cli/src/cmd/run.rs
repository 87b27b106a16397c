//! `taskq run`: one job, attached: its output live, its status as ours.

use std::ffi::OsString;

use clap::builder::ValueHint;
use taskq_client::Elements;

use crate::attach::{self, Attach, Stay};
use crate::context::Context;
use crate::exit::Exit;
use crate::interrupt::Interrupts;
use crate::job;
use crate::prefix::Style;
use crate::progress::{self, Progress};
use crate::view::Shown;

/// Run one command on a worker and stay with it: its output live, its exit status
///
/// Ctrl-C and SIGTERM cancel the job; a second one does not wait for its end and ends this command with 130.
/// The job is durable: it goes on if the terminal closes or this command is killed, and `taskq logs last` shows the rest.
/// All output passes through the coordinator's disk and is kept there with the job: see --output-limit and --keep.
/// Standard input is not passed on unless --stdin asks for it.
/// With --retries the output of every attempt is shown, one after the other; a note says where the next one begins.
/// Braces are literal here, but for {#} {%} {job} {attempt} {worker}: other placeholders need `submit` or `map`.
/// With --json, standard output carries the document of `taskq show` at the end; the program's own stays in `taskq result`.
#[derive(clap::Args, Debug)]
#[command(after_help = job::help("Examples:\n  \
    taskq run -- make test\n  \
    taskq run --cpus 2 --timeout 1h --retries 2 -- python3 train.py --epochs 3\n  \
    taskq run -c 'sort words.txt | uniq -c'\n  \
    generate | taskq run --stdin - -- gzip -c > out.gz\n\n\
    Exit codes: the program's own; 6 cancelled, 74 standard output is not whole or could not be written,\n\
    124 timeout, 125 taskq failed, 126 cannot execute, 127 not found, 128+n signal n, 130 Ctrl-C.\n\
    All codes: taskq --help"))]
pub(crate) struct Args {
    #[command(flatten)]
    job: job::Args,
    /// Exit with 0 even if the program fails
    #[arg(long)]
    exit_zero: bool,
    /// The program and its arguments; options of taskq come before it
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

pub(crate) async fn run(mut args: Args, context: &Context) -> anyhow::Result<Exit> {
    let argv = job::argv(args.command, args.job.shell())?;
    args.job.keep_all_output();
    let builder = args.job.builder(argv, &job::Many::default(), Elements::new())?;
    builder.check()?;
    let client = context.client().await?;
    let mut interrupts = Interrupts::listen()?;
    let handle = client.submit(builder).await?;
    let attach = Attach { output: Some(live(context, false)), owns: true, timeout: None };
    let mut progress = Progress::new(progress::Args::none(), &context.screen, String::new());
    match attach.stay(context, &handle, &mut interrupts, &mut progress).await? {
        Stay::Ended(job, holes) => {
            let exit = attach::conclude(context, &client, &job).await?;
            Shown::print_ended(&context.screen, &client, [*job]).await?;
            Ok(holes.over(if args.exit_zero { Exit::Ok } else { exit }))
        }
        Stay::Interrupted | Stay::TimedOut => {
            attach::say_detached(context, &handle).await;
            Ok(Exit::Interrupted)
        }
    }
}

/// Output as the program wrote it: an attached program may draw on the terminal as a local one.
pub(crate) fn live(context: &Context, prefix: bool) -> Style {
    let screen = &context.screen;
    Style {
        prefix,
        raw: !prefix,
        // With --json it carries the document of the end.
        stdout: !screen.format.is_json(),
        stderr: true,
        aside: false,
        stdout_is_terminal: screen.stdout_is_terminal,
        stderr_is_terminal: screen.stderr_is_terminal,
        paint: screen.paint,
        symbols: screen.symbols,
    }
}
