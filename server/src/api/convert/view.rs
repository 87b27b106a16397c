//! What the core and the store know, as the wire shows it.

use bytes::Bytes;
use prost::Message as _;
use taskq_core::{
    effect::{JobView, Lack, QueueView, Reason, TaskView, WorkerStatus, WorkerView},
    id::{JobId, Lease},
    job::{Counts, End, Phase},
};
use taskq_proto::v1::{self as pb, outcome::Kind, source::Values};

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
        ..submitted(view.id, stored)
    }
}

/// An ended job.
#[must_use]
pub fn ended_job(id: JobId, stored: &SubmittedRecord, ended: &EndedJob) -> pb::Job {
    let end = ended.counts.end().expect("an ended job has no live tasks");
    pb::Job {
        state: state(Phase::Ended(end)).into(),
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
    }
}

/// An ended task.
#[must_use]
pub fn ended_task(job: JobId, task: &EndedTask, with_output: bool) -> pb::Task {
    pb::Task {
        job_id: job.0,
        index: task.index,
        state: state(Phase::Ended(task.end)).into(),
        attempt: task.attempt.0,
        worker: task.worker.clone(),
        outcome: Some(outcome(task, with_output)),
        earlier: Vec::new(),
    }
}

/// How an ended task ended; the coordinator's own words where no worker said anything.
#[must_use]
pub fn outcome(task: &EndedTask, with_output: bool) -> pb::Outcome {
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
    if !with_output {
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

fn counts(counts: &Counts) -> pb::Counts {
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
        Lack::Named { name, wanted, most } => {
            format!("a task takes --res {name}={wanted}, and the most that a worker has is {most}")
        }
        Lack::Label { name, wanted } => format!("it runs --on {name}={wanted}, and no worker has that label"),
        Lack::Together => "each of its wishes is met, but not all by one worker".to_owned(),
    }
}

fn way_out(lacks: &[Lack]) -> String {
    let (mut worker, mut job) = (String::new(), String::new());
    for lack in lacks {
        match lack {
            Lack::Slots { wanted, most } => {
                worker.push_str(&format!(" --slots {wanted}"));
                if lacks.len() == 1 {
                    job = format!(", or submit it with --cpus {most}");
                }
            }
            Lack::Named { name, wanted, .. } => worker.push_str(&format!(" --resource {name}={wanted}")),
            Lack::Label { name, wanted } => worker.push_str(&format!(" --label {name}={wanted}")),
            Lack::Together => worker.push_str(" --slots N --resource NAME=COUNT --label KEY=VALUE"),
        }
    }
    format!("start a worker that has room for it: taskq-worker{worker}{job}")
}
