//! Staying with a job until it ends: its output live, its progress, why it does not start, and Ctrl-C.

use std::time::{Duration, Instant};

use taskq_client::model::{Job, State, Task, state_word};
use taskq_client::{Client, JobHandle, JobId, LogsQuery, TaskQuery, Watch, is_terminal};

use crate::context::Context;
use crate::exit::{self, Exit, Failure};
use crate::holes::Holes;
use crate::interrupt::Interrupts;
use crate::output;
use crate::prefix::{Style, Writer};
use crate::progress::Progress;
use crate::{similar, text, verdict};

/// A job that has not started by then gets its reason told.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether a reason is due.
const BEAT: Duration = Duration::from_millis(500);
/// How long a hint is worth waiting for, and the last word to somebody who pressed Ctrl-C.
const MOMENT: Duration = Duration::from_secs(1);

/// How an attached command looks at its job.
pub(crate) struct Attach {
    /// Show output as it comes.
    pub(crate) output: Option<Style>,
    /// Ctrl-C cancels the job instead of leaving it alone.
    pub(crate) owns: bool,
    /// Give up after this time.
    pub(crate) timeout: Option<Duration>,
}

/// How it went.
pub(crate) enum Stay {
    /// The job has ended; and what is missing of the output that was shown.
    Ended(Box<Job>, Holes),
    /// Ctrl-C. If the job was cancelled by it, it has ended as well.
    Interrupted,
    /// The timeout was reached first.
    TimedOut,
}

impl Attach {
    /// Returns when the job has ended or the user does not want to wait any longer.
    pub(crate) async fn stay(
        &self,
        context: &Context,
        handle: &JobHandle,
        interrupts: &mut Interrupts,
        progress: &mut Progress,
    ) -> anyhow::Result<Stay> {
        let query = LogsQuery { follow: true, ..LogsQuery::default() };
        let mut logs = self.output.map(|style| (handle.logs(query), Writer::new(handle.id().0, style)));
        let mut watch = handle.watch();
        let mut waiting = Waiting::new();
        let mut ended: Option<Job> = None;
        let mut holes = Holes::new(&[]);
        let mut cancelled = false;
        let deadline = self.timeout.map(|timeout| tokio::time::Instant::now() + timeout);
        let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + BEAT, BEAT);
        loop {
            if logs.is_none()
                && let Some(job) = ended
            {
                return Ok(if cancelled { Stay::Interrupted } else { Stay::Ended(Box::new(job), holes) });
            }
            tokio::select! {
                chunk = async { logs.as_mut()?.0.next().await }, if logs.is_some() => {
                    let Some((_, writer)) = logs.as_mut() else { continue };
                    match chunk {
                        Some(chunk) => { let chunk = chunk?; progress.hide(); self.show(writer.chunk(&chunk), handle).await? }
                        None => {
                            progress.hide();
                            self.show(writer.finish(), handle).await?;
                            holes = logs.take().map_or(holes, |(_, writer)| writer.into_holes());
                        }
                    }
                }
                job = watch.next(), if ended.is_none() => {
                    ended = self.changed(handle, job.transpose()?, &mut waiting, progress, &mut watch).await?;
                }
                _ = beat.tick() => {
                    if let Some(reason) = waiting.tell() {
                        progress.hide();
                        context.say(&waits(handle, &waiting, &reason, self.owns).await);
                    }
                }
                () = interrupts.next() => {
                    progress.hide();
                    if !self.owns || cancelled {
                        return Ok(Stay::Interrupted);
                    }
                    cancelled = true;
                    context.say(&format!("taskq: cancelling job {}; Ctrl-C again to not wait for its end", handle.id()));
                    handle.cancel().await?;
                }
                () = sleep_until(deadline) => return Ok(Stay::TimedOut),
            }
        }
    }

    async fn changed(
        &self,
        handle: &JobHandle,
        job: Option<Job>,
        waiting: &mut Waiting,
        progress: &mut Progress,
        watch: &mut Watch,
    ) -> anyhow::Result<Option<Job>> {
        let Some(job) = job else {
            // The stream ends after the terminal state; if it ended early, look again.
            let job = handle.job().await?;
            *watch = handle.watch();
            return Ok(is_terminal(job.state()).then_some(job));
        };
        progress.update(&job);
        waiting.saw(&job);
        Ok(is_terminal(job.state()).then_some(job))
    }

    /// A reader that went away ends an attached program as it would end a local one.
    async fn show(&self, written: std::io::Result<()>, handle: &JobHandle) -> anyhow::Result<()> {
        let Err(cause) = written else { return Ok(()) };
        if self.owns {
            handle.cancel().await?;
        }
        Err(output::stdout_failed(&cause))
    }
}

/// Why a job waits, and how that ends; the names that help are left out if the coordinator takes its time to tell them.
/// `owns`: Ctrl-C cancels it.
pub(crate) async fn waits(handle: &JobHandle, waiting: &Waiting, reason: &str, owns: bool) -> String {
    let id = handle.id();
    let steps = format!("more: taskq explain {id}");
    let unserved = waiting.function.as_ref();
    let unserved = unserved.filter(|function| reason.contains(&format!("serves the function {function}")));
    let Some(function) = unserved else {
        return format!("taskq: job {id} waits: {reason}   {steps}");
    };
    let workers = tokio::time::timeout(MOMENT, handle.client().workers()).await.ok().and_then(Result::ok);
    let alike = similar::functions(function, &workers.unwrap_or_default());
    let alike = match alike.is_empty() {
        true => String::new(),
        false => format!(" (served are {})", text::visible(&alike.join(", "))),
    };
    let end = match owns {
        true => "it waits until somebody serves it; Ctrl-C takes it back".to_owned(),
        false => format!("take it back: taskq cancel {id}"),
    };
    format!("taskq: job {id} waits: {reason}{alike}   {steps}   {end}")
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Tells once why a job does not start.
pub(crate) struct Waiting {
    since: Instant,
    reason: String,
    told: String,
    /// What it calls, if it does.
    function: Option<String>,
}

impl Waiting {
    pub(crate) fn new() -> Waiting {
        Waiting { since: Instant::now(), reason: String::new(), told: String::new(), function: None }
    }

    pub(crate) fn saw(&mut self, job: &Job) {
        let waits = matches!(job.state(), State::Queued | State::Blocked);
        self.function = job.spec.as_ref().and_then(|spec| Some(spec.call.as_ref()?.function.clone()));
        self.reason = if waits { job.reason.clone() } else { String::new() };
    }

    pub(crate) fn tell(&mut self) -> Option<String> {
        if self.reason.is_empty() || self.reason == self.told || self.since.elapsed() < PATIENCE {
            return None;
        }
        self.told.clone_from(&self.reason);
        Some(text::visible(&self.reason).into_owned())
    }
}

/// The one task of a job of one task.
pub(crate) async fn single_task(client: &Client, job: &Job) -> anyhow::Result<Task> {
    let mut tasks = client.list_tasks(JobId(job.id), TaskQuery::default()).page_size(1);
    match tasks.next().await {
        Some(task) => Ok(task?),
        None => Err(Failure::because(Exit::TaskqFailed, format!("job {} has lost its result", job.id))),
    }
}

/// Says how the job ended, if not well, and gives the exit code that stands for it.
pub(crate) async fn conclude(context: &Context, client: &Client, job: &Job) -> anyhow::Result<Exit> {
    if job.counts.is_none_or(|counts| counts.total != 1) {
        if let Some(line) = verdict::of_many(&context.screen, job) {
            context.say(&line);
        }
        return Ok(exit::of_jobs([job]));
    }
    if job.state() == State::Succeeded {
        return Ok(Exit::Ok);
    }
    let task = single_task(client, job).await?;
    let exit = exit::of_task(&task);
    if exit != Exit::Ok {
        context.say(&verdict::of_single(&context.screen, job, &task));
    }
    Ok(exit)
}

/// After a Ctrl-C that ended the waiting: what becomes of the job, which may be cancelled already. Who does not want to
/// wait is not made to: a coordinator that is away has a moment to answer.
pub(crate) async fn say_detached(context: &Context, handle: &JobHandle) {
    let id = handle.id();
    let job = tokio::time::timeout(MOMENT, handle.job()).await.ok().and_then(Result::ok);
    let line = match job {
        Some(job) if is_terminal(job.state()) => {
            format!("job {id} has ended: {}   more: taskq show {id}", state_word(job.state()))
        }
        Some(job) if job.cancelling => {
            // A call is no process, or one of the worker's own.
            let how = match job.spec.is_some_and(|spec| spec.call.is_some()) {
                true => "has been told to, and is left to itself or killed if it does not",
                false => "gets KILL after TERM if it must",
            };
            format!("job {id} is being stopped: it {how}   wait for it: taskq wait {id}")
        }
        Some(_) | None => {
            format!("detached; job {id} goes on   wait again: taskq wait {id}   stop it: taskq cancel {id}")
        }
    };
    context.say(&line);
}
