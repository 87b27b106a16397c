//! `taskq result`: what tasks wrote to standard output, byte for byte.

use serde::Serialize;
use taskq_client::model::{Outcome, Span, State, Stream, Task};
use taskq_client::{Client, JobId, LogsQuery, TaskQuery, is_terminal};

use crate::context::{Chosen, Context, spans};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::select::Typed;
use crate::text;
use crate::view::OutcomeView;

/// Print what ended tasks wrote to standard output, byte for byte
///
/// Tasks come in the order of their index. With --json, the outcome and both streams of each task; bytes that are not
/// UTF-8 are given in base64.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    taskq result 42 > out.bin\n  \
    taskq result 42.7\n  \
    taskq result last --wait --json\n\n\
    Exit codes: 0 printed, 3 no such job, 5 not ended yet. All codes: taskq --help")]
pub(crate) struct Args {
    /// Jobs and tasks: 42, 42.7, 42.1-5,9, last, last~1, or - to read them from standard input
    #[arg(value_name = "SELECTOR", required = true)]
    selectors: Vec<Typed>,
    /// Print standard error instead
    #[arg(long)]
    stderr: bool,
    /// Wait for jobs that have not ended yet
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let stream = if args.stderr { Stream::Stderr } else { Stream::Stdout };
    let json = matches!(context.screen.format, Format::Json | Format::Jsonl);
    let mut rows = Vec::new();
    for chosen in context.choose(&client, &args.selectors).await? {
        if args.wait {
            client.wait(chosen.job, None).await?;
        }
        for task in ended_tasks(&client, &chosen).await? {
            match json {
                true => rows.push(in_full(&client, &task).await?),
                false => print(&client, &task, stream).await?,
            }
            if task.state() != State::Succeeded {
                let how = task.outcome.as_ref().map(crate::verdict::how).unwrap_or_default();
                context.say(&format!("taskq: task {}.{}: {}", task.job_id, task.index, text::visible(&how)));
            }
        }
    }
    if json {
        output::one(&context.screen, "taskq.v1.results", &Results { results: rows }, &[])?;
    }
    Ok(Exit::Ok)
}

async fn ended_tasks(client: &Client, chosen: &Chosen) -> anyhow::Result<Vec<Task>> {
    let query = TaskQuery { indices: spans(&chosen.tasks), ..TaskQuery::default() };
    let mut list = client.list_tasks(chosen.job, query).page_size(1_000);
    let mut tasks = Vec::new();
    while let Some(task) = list.next().await {
        let task = task?;
        if !is_terminal(task.state()) {
            let message = format!(
                "task {}.{} is {} and has no result yet; wait for it: taskq result --wait {0}",
                task.job_id,
                task.index,
                crate::view::state_word(task.state())
            );
            return Err(Failure::because(Exit::Conflict, message));
        }
        tasks.push(task);
    }
    if tasks.is_empty() {
        let message = format!("job {} has no such task (which it has: taskq tasks {0})", chosen.job);
        return Err(Failure::because(Exit::NotFound, message));
    }
    Ok(tasks)
}

async fn print(client: &Client, task: &Task, wanted: Stream) -> anyhow::Result<()> {
    let mut out = output::Out::new();
    let mut logs = client.logs(JobId(task.job_id), of_last_attempt(task));
    while let Some(chunk) = logs.next().await {
        let chunk = chunk?;
        if chunk.stream() != wanted {
            continue;
        }
        if chunk.missing_bytes > 0 {
            let missing = chunk.missing_bytes;
            let note = format!("taskq: {missing} bytes of task {}.{} are missing", task.job_id, task.index);
            crate::context::eprint_line(&note);
        }
        out.bytes(&chunk.data).map_err(|cause| output::stdout_failed(&cause))?;
    }
    out.flush().map_err(|cause| output::stdout_failed(&cause))
}

fn of_last_attempt(task: &Task) -> LogsQuery {
    LogsQuery {
        indices: vec![Span { first: task.index, count: 1 }],
        attempt: task.attempt,
        ..LogsQuery::default()
    }
}

#[derive(Serialize)]
struct Results {
    results: Vec<Full>,
}

/// One task with its output.
#[derive(Serialize)]
struct Full {
    job: u64,
    index: u32,
    state: &'static str,
    outcome: OutcomeView,
    stdout: Bytes,
    stderr: Bytes,
}

/// Text where it is text.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Bytes {
    Text(String),
    Base64 { base64: String },
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        match String::from_utf8(bytes) {
            Ok(text) => Bytes::Text(text),
            Err(error) => Bytes::Base64 { base64: text::base64(error.as_bytes()) },
        }
    }
}

async fn in_full(client: &Client, task: &Task) -> anyhow::Result<Full> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut logs = client.logs(JobId(task.job_id), of_last_attempt(task));
    while let Some(chunk) = logs.next().await {
        let chunk = chunk?;
        match chunk.stream() {
            Stream::Stdout => stdout.extend_from_slice(&chunk.data),
            Stream::Stderr => stderr.extend_from_slice(&chunk.data),
        }
    }
    Ok(Full {
        job: task.job_id,
        index: task.index,
        state: crate::view::state_word(task.state()),
        outcome: OutcomeView::from(task.outcome.as_ref().unwrap_or(&Outcome::default())),
        stdout: stdout.into(),
        stderr: stderr.into(),
    })
}
