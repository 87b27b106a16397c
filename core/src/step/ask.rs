//! Questions about the live state, and the views that answer them.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    array::{Element, Stage},
    effect::{Effect, JobView, Outcome, QueueView, Reply, Stats, TaskView, WorkerStatus, WorkerView},
    event::{Held, Question},
    id::{Attempt, JobId, Millis, Now, RequestId, WorkerId},
    job::{Limits, Phase},
    overview,
    ready::QueueId,
    state::{Job, State},
    step::explain,
    worker::Worker,
};

/// Tasks named in a worker's view at most.
const NAMED: usize = 1_000;
/// Jobs looked at to find the oldest that does not run.
const OLDEST: usize = 1_000;
/// Answers of one question at most, whatever the caller's limit.
const ANSWERS: usize = 10_000;

pub(crate) fn ask(state: &mut State, now: Now, request: RequestId, question: Question, out: &mut Outcome) {
    let reply = match question {
        Question::Job(id) if state.is_live(id) => Reply::Job(job_view(state, now, id)),
        Question::Job(id) => Reply::NotLive(id),
        Question::Jobs { before, queue, limit } => {
            Reply::Jobs(jobs(state, now, before, queue.as_deref(), limit))
        }
        Question::Tasks { job, from, limit } => tasks(state, job, from, limit),
        Question::Unsuccessful(id) => match state.jobs.get(id) {
            Some(job) => {
                Reply::Unsuccessful(job.array.as_ref().map(|array| array.unsuccessful()).unwrap_or_default())
            }
            None => Reply::NotLive(id),
        },
        Question::Explain(job, index) => explain::explain(state, now, job, index),
        Question::Workers(name) => Reply::Workers(workers(state, now, name.as_deref())),
        Question::Queues => Reply::Queues(state.queues.iter().map(|id| queue_view(state, now, id)).collect()),
        Question::Stats => Reply::Stats(stats(state)),
        Question::Overview { queues, workers } => {
            Reply::Overview(Box::new(overview::overview(state, now, queues, workers)))
        }
    };
    out.effects.push(Effect::Reply(request, reply));
}

/// A live job. Panics if it is not.
pub(crate) fn job_view(state: &State, now: Now, id: JobId) -> JobView {
    let job = state.jobs.get(id).expect("only live jobs are viewed");
    let entry = state.policies.get(job.policy);
    let array = job.array.as_ref();
    let phase = job_phase(state, job);
    let reason = match phase {
        Phase::Running | Phase::Ended(_) => None,
        Phase::Blocked | Phase::Queued | Phase::Backoff => {
            explain::job_reasons(state, now, id).into_iter().next()
        }
    };
    JobView {
        id,
        policy: entry.policy.clone(),
        phase,
        counts: job.counts(),
        submitted: job.submitted,
        started: array.and_then(|array| array.started),
        paused: job.is_paused(),
        cancelling: array.is_some_and(|array| !array.cancelling.is_empty()),
        rerun_of: array.and_then(|array| array.rerun_of),
        revision: array.map_or(0, |array| array.changes),
        reason,
        progress: array.and_then(|array| array.progress()).map(|(index, progress)| (index, progress.clone())),
    }
}

/// Ended, or else the liveliest phase of its tasks.
pub(crate) fn job_phase(state: &State, job: &Job) -> Phase {
    let counts = job.counts();
    if let Some(end) = counts.end() {
        return Phase::Ended(end);
    }
    let paused = job.is_paused() || state.queues.get(state.policies.get(job.policy).queue).paused;
    match (counts.running, counts.queued) {
        (1.., _) => Phase::Running,
        _ if paused => Phase::Blocked,
        (_, 1..) => Phase::Queued,
        _ => Phase::Backoff,
    }
}

fn jobs(state: &State, now: Now, before: Option<JobId>, queue: Option<&str>, limit: usize) -> Vec<JobView> {
    let limit = limit.min(ANSWERS);
    let before = before.unwrap_or(JobId(u64::MAX));
    let ids: Vec<JobId> = match queue {
        None => state.jobs.below(before).map(|(id, _)| id).take(limit).collect(),
        Some(name) => {
            let Some(queue) = state.queues.find(name) else { return Vec::new() };
            state.queues.get(queue).jobs.below(before).take(limit).collect()
        }
    };
    ids.into_iter().map(|id| job_view(state, now, id)).collect()
}

fn tasks(state: &State, id: JobId, from: u32, limit: usize) -> Reply {
    let Some(job) = state.jobs.get(id) else { return Reply::NotLive(id) };
    let limit = limit.min(ANSWERS);
    let blocked = job.is_paused() || state.queues.get(state.policies.get(job.policy).queue).paused;
    let queued = if blocked { Phase::Blocked } else { Phase::Queued };
    let mut tasks = Vec::new();
    let mut next = match job.array.as_ref().and_then(|array| array.only.as_ref()) {
        Some(only) => only.range(from..).next(),
        None => Some(from).filter(|from| *from < job.total),
    };
    while let Some(index) = next {
        if tasks.len() >= limit {
            break;
        }
        tasks.push(task_view(state, job, index, queued));
        next = match job.array.as_ref().and_then(|array| array.only.as_ref()) {
            Some(only) => index.checked_add(1).and_then(|from| only.range(from..).next()),
            None => index.checked_add(1).filter(|next| *next < job.total),
        };
    }
    Reply::Tasks { tasks, next }
}

fn task_view(state: &State, job: &Job, index: u32, queued: Phase) -> TaskView {
    let element = job.array.as_ref().map_or(Element::Fresh, |array| array.element(index, job.total));
    let mut progress = None;
    let (phase, attempt, worker) = match element {
        Element::Absent | Element::Fresh => (queued, Attempt(0), None),
        Element::Ended(end) => (Phase::Ended(end), Attempt(0), None),
        Element::Unusual(task) => match &task.stage {
            Stage::Ready => (queued, task.recorded, None),
            Stage::Backoff { .. } => (Phase::Backoff, task.recorded, None),
            Stage::Running(run) => {
                let name = state.workers.get(&run.worker).map(|worker| worker.hello.name.clone());
                progress = run.progress.as_deref().cloned();
                (Phase::Running, run.attempt, name)
            }
        },
    };
    TaskView { index, phase, attempt, worker, progress }
}

fn workers(state: &State, now: Now, name: Option<&str>) -> Vec<WorkerView> {
    let mut views: Vec<WorkerView> =
        state.names.values().filter_map(|id| worker_view(state, now, *id)).collect();
    let expected = state.recovery.iter().flat_map(|recovery| &recovery.expected);
    views.extend(expected.map(|(id, name)| expected_view(*id, name.clone())));
    views.retain(|view| name.is_none_or(|name| *view.name == *name));
    views
}

fn expected_view(id: WorkerId, name: Arc<str>) -> WorkerView {
    WorkerView {
        id,
        name,
        host: Arc::from(""),
        version: Arc::from(""),
        slots: 0,
        named: BTreeMap::new(),
        labels: BTreeMap::new(),
        async_slots: 0,
        functions: BTreeMap::new(),
        commands: true,
        limits: Limits::default(),
        address: Arc::from(""),
        busy: 0,
        status: WorkerStatus::Expected,
        running: 0,
        waiting: 0,
        silent: Millis(0),
        tasks: Vec::new(),
    }
}

pub(crate) fn status(worker: &Worker) -> WorkerStatus {
    match (worker.session(), worker.draining) {
        (None, _) => WorkerStatus::Suspect,
        (Some(_), true) => WorkerStatus::Draining,
        (Some(_), false) => WorkerStatus::Online,
    }
}

pub(crate) fn worker_view(state: &State, now: Now, id: WorkerId) -> Option<WorkerView> {
    let worker = state.workers.get(&id)?;
    let small = |many: usize| u32::try_from(many).unwrap_or(u32::MAX);
    let tasks = worker.tasks().take(NAMED).filter_map(|task| {
        let attempt = state.jobs.get(task.job)?.array.as_ref()?.run(task.index)?.attempt;
        Some(Held { task, attempt })
    });
    Some(WorkerView {
        id,
        name: worker.hello.name.clone(),
        host: worker.hello.host.clone(),
        version: worker.hello.version.clone(),
        slots: worker.hello.slots,
        named: worker.hello.named.clone(),
        labels: worker.hello.labels.clone(),
        async_slots: worker.hello.async_slots,
        functions: worker.hello.functions.clone(),
        commands: worker.hello.commands,
        limits: worker.hello.limits,
        address: worker.hello.address.clone(),
        busy: worker.busy(),
        status: status(worker),
        running: small(worker.held() - worker.waiting()),
        waiting: small(worker.waiting()),
        silent: now.mono.since(worker.heard),
        tasks: tasks.collect(),
    })
}

pub(crate) fn queue_view(state: &State, now: Now, id: QueueId) -> QueueView {
    let queue = state.queues.get(id);
    let oldest = queue.jobs.iter().take(OLDEST).filter_map(|id| state.jobs.get(id));
    let oldest = oldest.into_iter().find(|job| job.counts().running == 0);
    QueueView {
        name: queue.name.clone(),
        paused: queue.paused,
        jobs: queue.jobs.len() as u64,
        queued: queue.queued,
        running: queue.running,
        oldest_wait: Millis(oldest.map_or(0, |job| now.wall.0.saturating_sub(job.submitted.0))),
    }
}

pub(crate) fn stats(state: &State) -> Stats {
    let connected = state.workers.values().filter(|worker| worker.session().is_some());
    let (mut workers, mut slots) = (0, 0);
    for worker in connected {
        workers += 1;
        slots += worker.hello.slots;
    }
    Stats {
        jobs: state.jobs.len() as u64,
        queued: state.totals.queued,
        running: state.totals.running,
        backoff: state.totals.backoff,
        workers,
        slots,
        ended: state.tally.tasks_ended.all(),
        stale: state.tally.stale,
        recovering: state.recovery.is_some(),
        next_job: JobId(state.last_job.0 + 1),
        epoch: state.config.epoch,
    }
}
