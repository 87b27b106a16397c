//! What the core and the store know, as the wire shows it.

use bytes::Bytes;
use prost::Message as _;
use taskq_core::{
    effect::{JobView, Lack, QueueView, Reason, TaskView, WorkerStatus, WorkerView},
    event::Progress,
    id::{JobId, Lease},
    job::{Counts, End, Phase, Runtime},
};
use taskq_proto::v1::{self as pb, outcome::Kind, source::Values};

use super::limits;
use crate::store::{EarlierAttempt, EndedJob, EndedTask, SubmittedRecord};

/// A fencing token.
#[must_use]
pub fn lease(lease: Lease) -> pb::AttemptKey {
    pb::AttemptKey {
        job_id: lease.task.job.0,
        index: lease.task.index,
        attempt: lease.attempt.0,
        epoch: lease.epoch.0,
    }
}

/// A live job.
#[must_use]
pub fn live_job(view: &JobView, stored: &SubmittedRecord) -> pb::Job {
    let reason = view.reason.as_ref().map(|why| reason(view.id, why).text).unwrap_or_default();
    pb::Job {
        state: state(view.phase).into(),
        counts: Some(counts(&view.counts)),
        started_unix_ms: view.started.map_or(0, |at| at.0),
        paused: view.paused,
        cancelling: view.cancelling,
        revision: view.revision,
        reason,
        progress: view.progress.as_ref().map(|(index, at)| progress(*index, at)),
        ..submitted(view.id, stored)
    }
}

/// An ended job.
#[must_use]
pub fn ended_job(id: JobId, stored: &SubmittedRecord, ended: &EndedJob) -> pb::Job {
    pb::Job {
        state: end(&ended.counts).into(),
        counts: Some(counts(&ended.counts)),
        started_unix_ms: ended.started.map_or(0, |at| at.0),
        ended_unix_ms: ended.wall.0,
        revision: u64::MAX,
        ..submitted(id, stored)
    }
}

fn submitted(id: JobId, stored: &SubmittedRecord) -> pb::Job {
    pb::Job {
        id: id.0,
        spec: Some(spec(&stored.spec)),
        submitted_unix_ms: stored.wall.0,
        rerun_of: stored.rerun_of.map_or(0, |job| job.0),
        ..pb::Job::default()
    }
}

/// A specification without its bulk.
fn spec(stored: &Bytes) -> pb::JobSpec {
    let Ok(mut spec) = pb::JobSpec::decode(stored.clone()) else { return pb::JobSpec::default() };
    if let Some(command) = &mut spec.command {
        command.stdin = Bytes::new();
    }
    if let Some(call) = &mut spec.call {
        call.argument = Bytes::new();
    }
    for source in spec.elements.iter_mut().flat_map(|elements| &mut elements.sources) {
        if let Some(Values::Table(table)) = &mut source.values {
            table.fields = Vec::new();
        }
    }
    spec
}

/// A task that has not ended.
#[must_use]
pub fn live_task(job: JobId, view: &TaskView) -> pb::Task {
    pb::Task {
        job_id: job.0,
        index: view.index,
        state: state(view.phase).into(),
        attempt: view.attempt.0,
        worker: view.worker.as_deref().unwrap_or_default().to_owned(),
        outcome: None,
        earlier: Vec::new(),
        progress: view.progress.as_ref().map(|at| progress(view.index, at)),
    }
}

fn progress(index: u32, at: &Progress) -> pb::Progress {
    pb::Progress { index, fraction: at.fraction, note: at.note.to_string() }
}

/// Which bytes an outcome carries.
#[derive(Clone, Copy, Debug)]
pub struct Inline {
    /// Standard output and error.
    pub output: bool,
    /// What a call returned.
    pub value: bool,
}

impl Inline {
    /// All of them.
    pub const ALL: Inline = Inline { output: true, value: true };
}

/// An ended task.
#[must_use]
pub fn ended_task(job: JobId, task: &EndedTask, inline: Inline) -> pb::Task {
    pb::Task {
        job_id: job.0,
        index: task.index,
        state: state(Phase::Ended(task.end)).into(),
        attempt: task.attempt.0,
        worker: task.worker.clone(),
        outcome: Some(outcome(task, inline)),
        earlier: Vec::new(),
        progress: None,
    }
}

/// How an ended task ended; the coordinator's own words where no worker said anything.
#[must_use]
pub fn outcome(task: &EndedTask, inline: Inline) -> pb::Outcome {
    let mut outcome = attempt(&task.detail, task.attempt.0, &task.worker);
    if task.detail.is_empty() {
        let (kind, message) = match task.end {
            End::Succeeded => (Kind::Exited, ""),
            End::Failed => {
                (Kind::WorkerLost, "its worker was lost too often; see the worker's log, then `taskq retry`")
            }
            End::Cancelled => (Kind::Cancelled, ""),
            End::Skipped => {
                (Kind::Skipped, "not started: more tasks of the job had failed than max_fails allows")
            }
        };
        outcome.kind = kind.into();
        outcome.message = message.into();
    }
    if outcome.ended_unix_ms == 0 {
        outcome.ended_unix_ms = task.wall.0;
    }
    if !inline.value {
        outcome.value = Bytes::new();
    }
    if !inline.output {
        outcome.stdout = Bytes::new();
        outcome.stderr = Bytes::new();
    }
    outcome
}

/// How an attempt ended that did not end its task.
#[must_use]
pub fn earlier(earlier: &EarlierAttempt) -> pb::Outcome {
    attempt(&earlier.detail, earlier.attempt.0, &earlier.worker)
}

/// What is stored of an attempt that was lost with its worker.
#[must_use]
pub fn lost_detail() -> Bytes {
    let message = "its worker was lost; see that worker's log";
    let outcome =
        pb::Outcome { kind: Kind::WorkerLost.into(), message: message.to_owned(), ..pb::Outcome::default() };
    outcome.encode_to_vec().into()
}

/// An encoded outcome, with who and which attempt.
fn attempt(detail: &Bytes, attempt: u32, worker: &str) -> pb::Outcome {
    let mut outcome = pb::Outcome::decode(detail.clone()).unwrap_or_default();
    if detail.is_empty() {
        outcome.kind = Kind::WorkerLost.into();
    }
    outcome.attempt = attempt;
    if !worker.is_empty() {
        outcome.worker = worker.to_owned();
    }
    outcome
}

/// A phase.
#[must_use]
pub fn state(phase: Phase) -> pb::State {
    match phase {
        Phase::Blocked => pb::State::Blocked,
        Phase::Queued => pb::State::Queued,
        Phase::Running => pb::State::Running,
        Phase::Backoff => pb::State::Backoff,
        Phase::Ended(End::Succeeded) => pb::State::Succeeded,
        Phase::Ended(End::Failed) => pb::State::Failed,
        Phase::Ended(End::Cancelled) => pb::State::Cancelled,
        Phase::Ended(End::Skipped) => pb::State::Skipped,
    }
}

/// How a job ended, by its tasks.
#[must_use]
pub fn end(counts: &Counts) -> pb::State {
    state(Phase::Ended(counts.end().expect("an ended job has no live tasks")))
}

/// Tasks by state.
#[must_use]
pub fn counts(counts: &Counts) -> pb::Counts {
    pb::Counts {
        total: counts.total(),
        queued: counts.queued,
        running: counts.running,
        backoff: counts.backoff,
        succeeded: counts.succeeded,
        failed: counts.failed,
        cancelled: counts.cancelled,
        skipped: counts.skipped,
        expired: 0,
    }
}

/// A worker.
#[must_use]
pub fn worker(view: &WorkerView) -> pb::Worker {
    let status = match view.status {
        WorkerStatus::Online => pb::worker::Status::Online,
        WorkerStatus::Draining => pb::worker::Status::Draining,
        WorkerStatus::Suspect => pb::worker::Status::Suspect,
        WorkerStatus::Expected => pb::worker::Status::Expected,
    };
    pb::Worker {
        incarnation: view.id.0,
        name: view.name.to_string(),
        host: view.host.to_string(),
        version: view.version.to_string(),
        slots: view.slots,
        named: view.named.iter().map(|(name, amount)| (name.to_string(), *amount)).collect(),
        labels: view.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        status: status.into(),
        functions: view.functions.iter().map(|(name, runtime)| function(name, *runtime)).collect(),
        async_slots: view.async_slots,
        busy: view.busy,
        no_commands: !view.commands,
        limits: limits::wire(view.limits),
        address: view.address.to_string(),
        running: view.running,
        waiting: view.waiting,
        last_seen_ms_ago: view.silent.0,
        tasks: view
            .tasks
            .iter()
            .map(|held| pb::TaskRef {
                job_id: held.task.job.0,
                index: held.task.index,
                attempt: held.attempt.0,
            })
            .collect(),
    }
}

fn function(name: &str, runtime: Runtime) -> pb::Function {
    let runtime = match runtime {
        Runtime::Threads => pb::function::Runtime::Threads,
        Runtime::Async => pb::function::Runtime::Async,
        Runtime::Process => pb::function::Runtime::Process,
    };
    pb::Function { name: name.to_owned(), runtime: runtime.into() }
}

/// A queue.
#[must_use]
pub fn queue(view: &QueueView) -> pb::Queue {
    pb::Queue {
        name: view.name.to_string(),
        paused: view.paused,
        jobs: view.jobs,
        tasks_queued: view.queued,
        tasks_running: view.running,
        oldest_wait_ms: view.oldest_wait.0,
    }
}

/// A reason in words, with the way out.
#[must_use]
pub fn reason(job: JobId, reason: &Reason) -> pb::Reason {
    let (code, text, fix) = match reason {
        Reason::NoWorkers => {
            ("no_workers", "no worker is connected".to_owned(), "start one: taskq-worker".to_owned())
        }
        Reason::NoFunction(function) => (
            "no_function",
            format!("no connected worker serves the function {function}"),
            "start the program that registers it: it takes the options of taskq-worker; `taskq worker show NAME` lists \
             what a worker serves"
                .to_owned(),
        ),
        Reason::DoesNotFit(lacks) => (
            "does_not_fit",
            format!("no connected worker fits: {}", lacks.iter().map(lack).collect::<Vec<_>>().join("; ")),
            way_out(lacks),
        ),
        Reason::QueuePaused(queue) => {
            ("queue_paused", format!("queue {queue} is paused"), format!("taskq queue resume {queue}"))
        }
        Reason::JobPaused => ("job_paused", "the job is paused".to_owned(), format!("taskq resume {job}")),
        Reason::MaxParallel(most) => {
            ("max_parallel", format!("the job runs {most} tasks at once, as many as it may"), String::new())
        }
        Reason::Backoff(left) => {
            ("backoff", format!("waits {:.1} s before its next attempt", left.0 as f64 / 1e3), String::new())
        }
        Reason::Recovering(workers, left) => (
            "recovering",
            format!(
                "the coordinator has restarted and waits up to {:.0} s for {}, which may still run it",
                (left.0 as f64 / 1e3).ceil(),
                workers.join(", ")
            ),
            "start that worker again, or wait".to_owned(),
        ),
        Reason::SlotsBusy => {
            ("slots_busy", "every worker that fits is busy".to_owned(), "add workers, or wait".to_owned())
        }
        Reason::Behind(ahead) => ("behind", format!("at least {ahead} tasks go first"), String::new()),
    };
    pb::Reason { code: code.to_owned(), text, fix }
}

/// In the words of the flags that asked for it.
fn lack(lack: &Lack) -> String {
    match lack {
        Lack::Slots { wanted, most } => {
            format!("a task takes --cpus {wanted}, and the largest worker has {most} slots")
        }
        Lack::AsyncSlots { wanted, most } => {
            format!("a task takes --cpus {wanted}, and the worker with most async slots has {most}")
        }
        Lack::Commands => "it is a command, and the connected workers run calls only".to_owned(),
        Lack::Named { name, wanted, most } => {
            format!("a task takes --res {name}={wanted}, and the most that a worker has is {most}")
        }
        Lack::Label { name, wanted } => format!("it runs --on {name}={wanted}, and no worker has that label"),
        Lack::Limits(limits) => format!("no worker can limit {}", limits::words(*limits)),
        Lack::Together => "each of its wishes is met, but not all by one worker".to_owned(),
    }
}

fn way_out(lacks: &[Lack]) -> String {
    let (mut worker, mut job, mut limited) = (String::new(), String::new(), false);
    for lack in lacks {
        match lack {
            Lack::Slots { wanted, most } => {
                worker.push_str(&format!(" --slots {wanted}"));
                if lacks.len() == 1 {
                    job = format!(", or submit it with --cpus {most}");
                }
            }
            Lack::AsyncSlots { wanted, .. } => worker.push_str(&format!(" --async-slots {wanted}")),
            Lack::Commands => {}
            Lack::Named { name, wanted, .. } => worker.push_str(&format!(" --resource {name}={wanted}")),
            Lack::Label { name, wanted } => worker.push_str(&format!(" --label {name}={wanted}")),
            Lack::Limits(_) => limited = true,
            Lack::Together => worker.push_str(" --slots N --resource NAME=COUNT --label KEY=VALUE"),
        }
    }
    if limited {
        job = ", where it may make control groups (`taskq worker show NAME` lists the limits that a worker keeps), or submit it \
               without those limits"
            .to_owned();
    }
    format!("start a worker that has room for it: taskq-worker{worker}{job}")
}
