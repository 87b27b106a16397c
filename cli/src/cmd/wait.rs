//! `taskq wait`: until jobs or tasks have ended.

use std::time::Duration;

use taskq_client::model::{Job, State, Task, state_word};
use taskq_client::{Client, ResultsQuery, TaskQuery, is_terminal};

use crate::attach::{self, Attach, Stay};
use crate::context::{Chosen, Context, spans};
use crate::exit::{self, Exit};
use crate::interrupt::Interrupts;
use crate::progress::{self, Progress};
use crate::quantity;
use crate::select::Typed;
use crate::view::Shown;
use crate::{text, verdict};

/// Wait until jobs or tasks have ended
///
/// With --json, the document of `taskq show` at the end, also after a --timeout.
/// Ctrl-C stops waiting and leaves the jobs alone.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    taskq wait 42\n  \
    taskq wait last --timeout 10m\n  \
    taskq wait 42.0-9 43\n  \
    taskq ls -q nightly -o id | taskq wait -\n\n\
    Exit codes: of one task its own, 6 if it was cancelled; of many 0 if all succeeded, 1 if some\n\
    failed, 6 if some were cancelled; 124 --timeout, 125 taskq failed, 130 Ctrl-C, 3 no such job.\n\
    All codes: taskq --help")]
pub(crate) struct Args {
    /// Jobs and tasks, which count from 0: 42, 42.7, 42.1-5,9, last, last~1, or - to read them from standard input
    #[arg(value_name = "SELECTOR", required = true)]
    selectors: Vec<Typed>,
    /// Stop waiting after this time, such as 10s or 1m30s; a bare number counts seconds
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    progress: progress::Args,
    /// Exit with 0 even if tasks fail
    #[arg(long)]
    exit_zero: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let mut interrupts = Interrupts::listen()?;
    let chosen = context.choose(&client, &args.selectors).await?;
    // Unknown jobs are told at once, not after an hour of waiting for the first.
    for one in &chosen {
        client.get(one.job).await?;
    }
    let exit = for_all(&args, context, &client, &chosen, &mut interrupts).await?;
    if context.screen.format.is_json() && exit != Exit::Interrupted {
        print_json(context, &client, &chosen).await?;
    }
    Ok(if args.exit_zero && !matches!(exit, Exit::Interrupted | Exit::TimedOut) { Exit::Ok } else { exit })
}

/// The jobs as they are now: ended, or after a timeout not yet.
async fn print_json(context: &Context, client: &Client, chosen: &[Chosen]) -> anyhow::Result<()> {
    let mut shown = Shown::default();
    for one in chosen {
        match one.tasks.is_empty() {
            true => shown.job(client, client.get(one.job).await?).await?,
            false => shown.tasks(client, one.job, spans(&one.tasks)).await?,
        }
    }
    shown.print(&context.screen)
}

async fn for_all(
    args: &Args,
    context: &Context,
    client: &Client,
    chosen: &[Chosen],
    interrupts: &mut Interrupts,
) -> anyhow::Result<Exit> {
    let deadline = args.timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    let mut exits = Vec::new();
    for one in chosen {
        let timeout =
            deadline.map(|deadline| deadline.saturating_duration_since(tokio::time::Instant::now()));
        let ended = match one.tasks.is_empty() {
            true => whole_job(args, context, client, one, timeout, interrupts).await?,
            false => some_tasks(context, client, one, timeout, interrupts).await?,
        };
        match ended {
            Ended::Yes { alone, among_many } => exits.push((alone, among_many)),
            Ended::Not(exit) => return Ok(exit),
        }
    }
    Ok(match exits.as_slice() {
        [(alone, _)] => *alone,
        many if many.iter().all(|(_, exit)| *exit == Exit::Ok) => Exit::Ok,
        many if many.iter().all(|(_, exit)| matches!(exit, Exit::Ok | Exit::Cancelled)) => Exit::Cancelled,
        _ => Exit::TasksFailed,
    })
}

/// Whether the waiting itself came to its end.
enum Ended {
    /// The status if this was all that was waited for, and what it adds to that of many.
    Yes {
        alone: Exit,
        among_many: Exit,
    },
    Not(Exit),
}

async fn whole_job(
    args: &Args,
    context: &Context,
    client: &Client,
    chosen: &Chosen,
    timeout: Option<Duration>,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Ended> {
    let handle = client.attach(chosen.job);
    let attach = Attach { output: None, owns: false, timeout };
    let mut progress = Progress::new(args.progress, &context.screen, chosen.job.to_string());
    let stay = attach.stay(context, &handle, interrupts, &mut progress).await?;
    drop(progress);
    match stay {
        Stay::Ended(job, _) => {
            let alone = attach::conclude(context, client, &job).await?;
            Ok(Ended::Yes { alone, among_many: exit::of_jobs([&*job]) })
        }
        Stay::Interrupted => {
            attach::say_detached(context, &handle).await;
            Ok(Ended::Not(Exit::Interrupted))
        }
        Stay::TimedOut => Ok(Ended::Not(timed_out(context, &handle.job().await?))),
    }
}

async fn some_tasks(
    context: &Context,
    client: &Client,
    chosen: &Chosen,
    timeout: Option<Duration>,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Ended> {
    let all_ended = async {
        let mut ends = client.results(chosen.job, ResultsQuery { follow: true, ..ResultsQuery::default() });
        loop {
            let tasks = tasks_of(client, chosen).await?;
            let left = tasks.iter().filter(|task| !is_terminal(task.state())).count();
            if left == 0 {
                return anyhow::Ok(tasks);
            }
            // As many ends of ours must come before another look makes sense.
            let mut missing = left;
            while missing > 0 {
                let Some(end) = ends.next().await else { break };
                let index = end?.task.index;
                missing -=
                    usize::from(chosen.tasks.iter().any(|span| (span.first..=span.last).contains(&index)));
            }
        }
    };
    let limit = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        tasks = all_ended => Ok(conclude_tasks(context, &tasks?)),
        () = interrupts.next() => {
            attach::say_detached(context, &client.attach(chosen.job)).await;
            Ok(Ended::Not(Exit::Interrupted))
        }
        () = limit => Ok(Ended::Not(timed_out(context, &client.get(chosen.job).await?))),
    }
}

async fn tasks_of(client: &Client, chosen: &Chosen) -> anyhow::Result<Vec<Task>> {
    let query = TaskQuery { indices: spans(&chosen.tasks), ..TaskQuery::default() };
    let mut list = client.list_tasks(chosen.job, query).page_size(1_000);
    let mut tasks = Vec::new();
    while let Some(task) = list.next().await {
        tasks.push(task?);
    }
    Ok(tasks)
}

fn conclude_tasks(context: &Context, tasks: &[Task]) -> Ended {
    for task in tasks.iter().filter(|task| task.state() != State::Succeeded) {
        let how = task.outcome.as_ref().map(verdict::how).unwrap_or_default();
        let cross = context.screen.symbols.cross();
        context.say(&format!("{cross} task {}.{}: {}", task.job_id, task.index, text::visible(&how)));
    }
    let among_many = match tasks {
        tasks if tasks.iter().all(|task| task.state() == State::Succeeded) => Exit::Ok,
        tasks if tasks.iter().all(|task| matches!(task.state(), State::Succeeded | State::Cancelled)) => {
            Exit::Cancelled
        }
        _ => Exit::TasksFailed,
    };
    let alone = match tasks {
        [task] => exit::of_task(task),
        _ => among_many,
    };
    Ended::Yes { alone, among_many }
}

fn timed_out(context: &Context, job: &Job) -> Exit {
    let (id, state) = (job.id, state_word(job.state()));
    context
        .say(&format!("job {id} is still {state}   wait again: taskq wait {id}   why: taskq explain {id}"));
    Exit::TimedOut
}
