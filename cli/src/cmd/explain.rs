//! `taskq explain`: every reason why a job or task is not running, with the remedy; how it ended, if it has.

use serde::Serialize;
use taskq_client::model::{Job, Span, State, Task, state_word};
use taskq_client::{Client, JobId, TaskQuery, is_terminal};

use crate::clock::UnixMs;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::select::Typed;
use crate::view::ProgressView;
use crate::{text, verdict};

/// Tasks that run or wait for their next attempt, of which so many are told one by one.
const TOLD: usize = 5;

/// Say why a job or task is not running, and what to do about it; or how it ended
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  taskq explain 42\n  taskq explain 42.7\n  taskq explain last --json")]
pub(crate) struct Args {
    /// A job or a task, which count from 0: 42, 42.7, last, last~1
    #[arg(value_name = "SELECTOR")]
    selector: Typed,
}

#[derive(Serialize)]
struct Explained {
    job: u64,
    task: Option<u32>,
    state: &'static str,
    reasons: Vec<ReasonView>,
    /// Of what has ended.
    end: Option<End>,
    /// The last attempts of what waits to be tried again.
    failures: Vec<FailureView>,
    /// Of what runs, where and how far it is.
    running: Vec<RunningView>,
    /// It was cancelled, and something of it still runs.
    cancelling: bool,
}

#[derive(Serialize)]
struct RunningView {
    task: u32,
    attempt: u32,
    worker: String,
    progress: Option<ProgressView>,
}

#[derive(Serialize)]
struct ReasonView {
    code: String,
    text: String,
    fix: String,
}

#[derive(Serialize)]
struct End {
    how: String,
    ended_unix_ms: u64,
    #[serde(skip)]
    ago_ms: u64,
    #[serde(skip)]
    steps: String,
}

#[derive(Serialize)]
struct FailureView {
    task: u32,
    attempt: u32,
    most_attempts: u32,
    how: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let chosen = context.choose(&client, &[args.selector]).await?;
    let [one] = chosen.as_slice() else {
        return Err(Failure::usage("explain takes one job or task"));
    };
    let task = match one.tasks.as_slice() {
        [] => None,
        [span] if span.first == span.last => Some(span.first),
        _ => return Err(Failure::usage("explain takes one job or task, as in: taskq explain 42.7")),
    };
    let reply = client.explain(one.job, task).await?;
    let state = reply.state();
    // As it was no earlier than its state.
    let job = client.get(one.job).await?;
    let explained = Explained {
        cancelling: job.cancelling,
        job: one.job.0,
        task,
        state: state_word(state),
        reasons: reply
            .reasons
            .into_iter()
            .map(|reason| ReasonView { code: reason.code, text: reason.text, fix: reason.fix })
            .collect(),
        end: if is_terminal(state) { Some(end(&client, &job, task).await?) } else { None },
        running: if is_terminal(state) { vec![] } else { running(&client, &job, task).await? },
        failures: if is_terminal(state) { vec![] } else { failures(&client, &job, task).await? },
    };
    output::one(&context.screen, "taskq.v1.explanation", &explained, &lines(&explained, context))?;
    Ok(Exit::Ok)
}

/// How a job or task has ended, and where its output is.
async fn end(client: &Client, job: &Job, index: Option<u32>) -> anyhow::Result<End> {
    let id = JobId(job.id);
    let counts = job.counts.unwrap_or_default();
    let one_task = index.is_some() || counts.total == 1;
    let task = if one_task { tasks(client, id, index, vec![]).await?.pop() } else { None };
    let (name, state) = match (index, &task) {
        (Some(index), Some(task)) => (format!("{id}.{index}"), task.state()),
        _ => (id.to_string(), job.state()),
    };
    let outcome = task.and_then(|task| task.outcome);
    let how = match &outcome {
        Some(_) if state == State::Cancelled => String::new(),
        Some(outcome) => verdict::how(outcome),
        None => verdict::shares(&counts),
    };
    let of_task = outcome.map(|outcome| outcome.ended_unix_ms).filter(|ended| *ended > 0);
    let ended_unix_ms = of_task.unwrap_or(job.ended_unix_ms);
    let mut steps = format!("its output: taskq result {name}   all about it: taskq show {name}");
    if state != State::Succeeded {
        steps.push_str(&format!("   again: taskq retry {name}"));
    }
    let ago_ms = UnixMs::now().since(UnixMs(ended_unix_ms));
    Ok(End { how, ended_unix_ms, ago_ms, steps })
}

/// Where what runs is, and what it says of itself.
async fn running(client: &Client, job: &Job, index: Option<u32>) -> anyhow::Result<Vec<RunningView>> {
    if job.counts.is_none_or(|counts| counts.running == 0) {
        return Ok(vec![]);
    }
    let running = tasks(client, JobId(job.id), index, vec![State::Running]).await?;
    let view = |task: Task| RunningView {
        task: task.index,
        attempt: task.attempt,
        worker: task.worker,
        progress: task.progress.as_ref().map(ProgressView::from),
    };
    Ok(running.into_iter().map(view).collect())
}

/// How the attempts failed after which the next one is waited for.
async fn failures(client: &Client, job: &Job, index: Option<u32>) -> anyhow::Result<Vec<FailureView>> {
    if job.counts.is_none_or(|counts| counts.backoff == 0) {
        return Ok(vec![]);
    }
    let most =
        job.spec.as_ref().and_then(|spec| spec.retry.as_ref()).map_or(1, |retry| retry.max_attempts.max(1));
    let waiting = tasks(client, JobId(job.id), index, vec![State::Backoff]).await?;
    let last = |task: Task| {
        let failed = task.earlier.last()?;
        let (attempt, how) = (failed.attempt, verdict::how(failed));
        Some(FailureView { task: task.index, attempt, most_attempts: most.max(attempt), how })
    };
    Ok(waiting.into_iter().filter_map(last).collect())
}

async fn tasks(
    client: &Client,
    id: JobId,
    index: Option<u32>,
    states: Vec<State>,
) -> anyhow::Result<Vec<Task>> {
    let indices = index.into_iter().map(|first| Span { first, count: 1 }).collect();
    let query = TaskQuery { indices, states, with_history: true };
    let mut list = client.list_tasks(id, query).page_size(TOLD as u32);
    let mut tasks = Vec::new();
    while tasks.len() < TOLD
        && let Some(task) = list.next().await
    {
        tasks.push(task?);
    }
    Ok(tasks)
}

fn lines(explained: &Explained, context: &Context) -> Vec<String> {
    let what = match explained.task {
        Some(index) => format!("task {}.{index}", explained.job),
        None => format!("job {}", explained.job),
    };
    let is = match explained.state {
        "backoff" => "waits for its next attempt".to_owned(),
        state => format!("is {state}"),
    };
    let is = if explained.cancelling { format!("{is} and its job is being stopped") } else { is };
    if let Some(end) = &explained.end {
        let how = if end.how.is_empty() { String::new() } else { format!(" ({})", text::visible(&end.how)) };
        let (state, ago) = (explained.state, text::duration(end.ago_ms));
        return vec![format!("{what} has ended: {state}{how}, {ago} ago"), format!("  {}", end.steps)];
    }
    let running = explained.running.iter().map(|running| {
        let RunningView { task, attempt, worker, progress } = running;
        let progress = progress.as_ref().map(|progress| format!(": {}", text::visible(&progress.words())));
        let (job, worker, progress) = (explained.job, text::visible(worker), progress.unwrap_or_default());
        format!("  task {job}.{task} runs on {worker} (attempt {attempt}){progress}")
    });
    let mut lines = match (explained.reasons.is_empty(), explained.failures.is_empty()) {
        (true, true) if explained.cancelling => vec![format!("{what} {is}")],
        (true, true) => vec![format!("{what} {is}; nothing stands in its way")],
        (true, false) => vec![format!("{what} {is}")],
        (false, _) => vec![format!("{what} {is}. Reasons (all that apply):")],
    };
    let codes = explained.reasons.iter().map(|reason| text::width(&reason.code)).max().unwrap_or(0);
    for reason in &explained.reasons {
        let cross = context.screen.symbols.cross();
        lines.push(format!(
            "  {cross} {:<codes$}  {}",
            text::visible(&reason.code),
            text::visible(&reason.text)
        ));
    }
    lines.extend(running);
    for FailureView { task, attempt, most_attempts, how } in &explained.failures {
        let job = explained.job;
        lines.push(format!(
            "  task {job}.{task} waits after attempt {attempt} of {most_attempts}: {}   its output: taskq logs {job}.{task} --attempt {attempt}",
            text::visible(how)
        ));
    }
    for reason in explained.reasons.iter().filter(|reason| !reason.fix.is_empty()) {
        lines.push(format!("Fix: {}", text::visible(&reason.fix)));
    }
    lines
}
