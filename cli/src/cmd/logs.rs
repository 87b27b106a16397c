//! `taskq logs`: captured output, also while it grows.

use taskq_client::LogsQuery;

use crate::attach;
use crate::context::{Context, spans};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupts;
use crate::output;
use crate::prefix::{Style, Writer};
use crate::select::Typed;

/// Print the captured output of a job; -f goes on until it has ended
///
/// Standard output of tasks goes to standard output, standard error to standard error. With several tasks each line
/// begins with its task and worker. On a terminal, control bytes are shown instead of obeyed, but for colours.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    taskq logs 42\n  \
    taskq logs -f last\n  \
    taskq logs 42.7 --attempt 1\n  \
    taskq logs -f --from-now 42\n\n\
    Ctrl-C stops reading and leaves the job alone (130). If standard output was not kept\n\
    whole, notes say where and how much is missing, and the exit code is 74.")]
pub(crate) struct Args {
    /// A job, or some of its tasks: 42, 42.7, 42.1-5,9, last, last~1
    #[arg(value_name = "SELECTOR")]
    selector: Typed,
    /// Go on until all these tasks have ended
    #[arg(short, long)]
    follow: bool,
    /// Leave out what is there already
    #[arg(long, requires = "follow")]
    from_now: bool,
    /// Of this attempt [default: the last; with -f all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Standard output only
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,
    /// Standard error only
    #[arg(long)]
    stderr: bool,
    /// No task and worker before each line
    #[arg(long)]
    no_prefix: bool,
    /// Control bytes as they are, even on a terminal
    #[arg(long)]
    raw: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let chosen = context.choose(&client, std::slice::from_ref(&args.selector)).await?;
    let [one] = chosen.as_slice() else {
        return Err(Failure::usage("logs takes one job, as in: taskq logs 42"));
    };
    let job = client.get(one.job).await?;
    let single = match one.tasks.as_slice() {
        [] => job.counts.is_some_and(|counts| counts.total == 1),
        [span] => span.first == span.last,
        _ => false,
    };
    let screen = &context.screen;
    let style = Style {
        prefix: !single && !args.no_prefix,
        raw: args.raw,
        stdout: !args.stderr,
        stderr: !args.stdout,
        stdout_is_terminal: screen.stdout_is_terminal,
        stderr_is_terminal: screen.stderr_is_terminal,
        paint: screen.paint,
        symbols: screen.symbols,
    };
    let query = LogsQuery {
        indices: spans(&one.tasks),
        follow: args.follow,
        tail_from_now: args.from_now,
        attempt: args.attempt.unwrap_or(0),
        cursor: 0,
    };
    let mut interrupts = Interrupts::listen()?;
    let mut logs = client.logs(one.job, query);
    let mut writer = Writer::new(one.job.0, style);
    loop {
        tokio::select! {
            chunk = logs.next() => match chunk {
                Some(chunk) => writer.chunk(&chunk?).map_err(|cause| output::stdout_failed(&cause))?,
                None => break,
            },
            () = interrupts.next() => {
                attach::say_detached(context, one.job);
                return Ok(Exit::Interrupted);
            }
        }
    }
    writer.finish().map_err(|cause| output::stdout_failed(&cause))?;
    Ok(writer.into_holes().over(Exit::Ok))
}
