//! `taskq result`: what tasks wrote, byte for byte, or what calls returned, in the order of their indices.

use taskq_client::model::{State, Stream, Task, state_word};
use taskq_client::{Client, TaskQuery, is_terminal};

use self::printer::Printer;
use crate::context::{Chosen, Context, spans};
use crate::exit::{Exit, Failure};
use crate::select::Typed;

mod printer;

/// Print what ended tasks wrote to standard output, byte for byte, or what calls returned
///
/// A value in JSON is one line, any other is printed as it is; what calls printed is told by `taskq logs`.
/// Tasks come in the order of their index. With --json, the outcome and both streams of each task; with -o jsonl, the
/// same in a line for each. Bytes that are not UTF-8 are given in base64.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    taskq result 42 > out.bin\n  \
    taskq result 42.7\n  \
    taskq result last --wait --json\n\n\
    Exit codes: of one task its own, as `taskq wait` has it: 0 it succeeded, of a call 1 it has no value,\n\
    6 cancelled, 124 timeout; of many 0 all succeeded, 1 some failed, 6 some were cancelled. All is printed\n\
    whatever the code. Before anything is printed: 3 no such job, 5 not ended yet. 74 the output was not kept\n\
    whole (see --output-limit of submit) or could not be written. All codes: taskq --help")]
pub(crate) struct Args {
    /// Jobs and tasks, which count from 0: 42, 42.7, 42.1-5,9, last, last~1, or - to read them from standard input
    #[arg(value_name = "SELECTOR", required = true)]
    selectors: Vec<Typed>,
    /// Print standard error instead
    #[arg(long)]
    stderr: bool,
    /// Wait for jobs that have not ended yet
    #[arg(long)]
    wait: bool,
}

impl Args {
    /// True if the command stays until the jobs have ended.
    pub(crate) fn waits(&self) -> bool {
        self.wait
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let chosen = context.choose(&client, &args.selectors).await?;
    for one in &chosen {
        match args.wait {
            true => drop(client.wait(one.job, None).await?),
            false => check_ended(&client, one).await?,
        }
    }
    let stream = if args.stderr { Stream::Stderr } else { Stream::Stdout };
    let mut printer = Printer::new(context, &client, stream);
    for one in &chosen {
        print(&client, one, &mut printer).await?;
    }
    printer.finish()
}

/// Before anything is printed: all that was asked for has ended.
async fn check_ended(client: &Client, chosen: &Chosen) -> anyhow::Result<()> {
    if is_terminal(client.get(chosen.job).await?.state()) {
        return Ok(());
    }
    let states = vec![State::Blocked, State::Queued, State::Running, State::Backoff];
    let query = TaskQuery { indices: spans(&chosen.tasks), states, ..TaskQuery::default() };
    match client.list_tasks(chosen.job, query).page_size(1).next().await {
        Some(task) => check_task(&task?),
        None => Ok(()),
    }
}

fn check_task(task: &Task) -> anyhow::Result<()> {
    if is_terminal(task.state()) {
        return Ok(());
    }
    let message = format!(
        "task {}.{} is {} and has no result yet; wait for it: taskq result --wait {0}",
        task.job_id,
        task.index,
        state_word(task.state())
    );
    Err(Failure::because(Exit::Conflict, message))
}

/// A page of tasks is held at a time, with the output that came with their outcomes.
async fn print(client: &Client, chosen: &Chosen, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let query = TaskQuery { indices: spans(&chosen.tasks), ..TaskQuery::default() };
    let mut tasks = client.list_tasks(chosen.job, query).page_size(1_000);
    let call = client.get(chosen.job).await?.spec.and_then(|spec| spec.call);
    let codec = call.as_ref().map(|call| call.codec.as_str());
    let mut any = false;
    while let Some(task) = tasks.next().await {
        let task = task?;
        check_task(&task)?;
        printer.task(&task, codec).await?;
        any = true;
    }
    match any {
        true => Ok(()),
        false => {
            let message = format!("job {} has no such task (which it has: taskq tasks {0})", chosen.job);
            Err(Failure::because(Exit::NotFound, message))
        }
    }
}
