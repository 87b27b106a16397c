//! Why is it not running? Every reason that holds, the one to look at first in front.

use crate::{
    array::{Element, Stage},
    effect::{Lack, Reason, Rejection, Reply},
    id::{JobId, Now},
    job::{Limits, Phase, Shape, SlotKind},
    state::{Job, State},
    step::ask,
    worker::Worker,
};

/// Counting what goes first stops here.
const BEHIND: usize = 10_000;

pub(crate) fn explain(state: &State, now: Now, id: JobId, index: Option<u32>) -> Reply {
    let Some(job) = state.jobs.get(id) else { return Reply::NotLive(id) };
    let Some(index) = index else {
        let phase = ask::job_phase(state, job);
        let reasons = match phase {
            Phase::Running if job.counts().queued > 0 => held_back(state, job),
            Phase::Running | Phase::Ended(_) => Vec::new(),
            Phase::Blocked | Phase::Queued | Phase::Backoff => job_reasons(state, now, id),
        };
        return Reply::Explanation { phase, reasons };
    };
    let fresh = if index < job.total { Element::Fresh } else { Element::Absent };
    let element = job.array.as_ref().map_or(fresh, |array| array.element(index, job.total));
    let mut reasons = Vec::new();
    let phase = match element {
        Element::Absent => return Reply::Rejected(Rejection::NoTask { job: id, index }),
        Element::Ended(end) => Phase::Ended(end),
        Element::Fresh => Phase::Queued,
        Element::Unusual(task) => match &task.stage {
            Stage::Ready => Phase::Queued,
            Stage::Running(_) => Phase::Running,
            Stage::Backoff { until } => {
                reasons.push(Reason::Backoff(until.since(now.mono)));
                Phase::Backoff
            }
        },
    };
    if matches!(phase, Phase::Queued | Phase::Backoff) {
        reasons.extend(common_reasons(state, now, id, job));
    }
    let blocked = reasons.iter().any(|reason| matches!(reason, Reason::QueuePaused(_) | Reason::JobPaused));
    let phase = if phase == Phase::Queued && blocked { Phase::Blocked } else { phase };
    Reply::Explanation { phase, reasons }
}

/// Why nothing of a job runs.
pub(crate) fn job_reasons(state: &State, now: Now, id: JobId) -> Vec<Reason> {
    let Some(job) = state.jobs.get(id) else { return Vec::new() };
    let mut reasons = Vec::new();
    let counts = job.counts();
    if counts.queued == 0 && counts.backoff > 0 {
        let waits =
            job.array.iter().flat_map(|array| array.unusual()).filter_map(|(_, task)| match task.stage {
                Stage::Backoff { until } => Some(until),
                Stage::Ready | Stage::Running(_) => None,
            });
        reasons.extend(waits.min().map(|until| Reason::Backoff(until.since(now.mono))));
    }
    reasons.extend(common_reasons(state, now, id, job));
    reasons
}

fn common_reasons(state: &State, now: Now, id: JobId, job: &Job) -> Vec<Reason> {
    let mut reasons = held_back(state, job);
    let entry = state.policies.get(job.policy);
    if let Some(recovery) = state.recovery.as_ref().filter(|recovery| id <= recovery.last_job) {
        let names = recovery.expected.values().cloned().collect();
        reasons.push(Reason::Recovering(names, recovery.until.since(now.mono)));
    }
    reasons.extend(fit_reason(state, state.ready.shape(entry.class)));
    let before = state.ready.before(entry.class, id, BEHIND);
    if before > 0 {
        reasons.push(Reason::Behind(before as u64));
    }
    reasons
}

/// What somebody has said about the job or its queue that keeps its tasks from starting.
fn held_back(state: &State, job: &Job) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let entry = state.policies.get(job.policy);
    let queue = state.queues.get(entry.queue);
    if job.is_paused() {
        reasons.push(Reason::JobPaused);
    }
    if queue.paused {
        reasons.push(Reason::QueuePaused(queue.name.clone()));
    }
    if let Some(most) = entry.policy.max_parallel.filter(|most| job.counts().running >= *most) {
        reasons.push(Reason::MaxParallel(most));
    }
    reasons
}

fn fit_reason(state: &State, shape: &Shape) -> Option<Reason> {
    let taking = || state.workers.values().filter(|worker| worker.is_taking());
    if let Some(function) = &shape.function
        && !taking().any(|worker| worker.hello.functions.contains_key(function))
    {
        return Some(Reason::NoFunction(function.clone()));
    }
    if taking().next().is_none() {
        return Some(Reason::NoWorkers);
    }
    if !taking().any(|worker| worker.could_run(shape)) {
        let workers: Vec<&Worker> = taking().collect();
        return Some(Reason::DoesNotFit(lacks(&workers, shape)));
    }
    let free = taking().any(|worker| worker.could_run(shape) && worker.free_for(shape) > 0);
    (!free).then_some(Reason::SlotsBusy)
}

/// Each thing that no worker offers enough of.
fn lacks(workers: &[&Worker], shape: &Shape) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let wanted = shape.slots;
    let runs = || workers.iter().filter_map(|worker| Some((worker, worker.slot_kind(shape)?)));
    let most = |kind| runs().filter(|(_, its)| *its == kind).map(|(worker, _)| worker.offers(kind)).max();
    match (most(SlotKind::Plain), most(SlotKind::Async)) {
        (None, None) => lacks.push(Lack::Commands),
        (plain, r#async) if plain.max(r#async).unwrap_or(0) >= wanted => {}
        (None, Some(most)) => lacks.push(Lack::AsyncSlots { wanted, most }),
        (Some(most), _) => lacks.push(Lack::Slots { wanted, most }),
    }
    for (name, wanted) in &shape.named {
        let most =
            workers.iter().filter_map(|worker| worker.hello.named.get(name)).max().copied().unwrap_or(0);
        if most < *wanted {
            lacks.push(Lack::Named { name: name.clone(), wanted: *wanted, most });
        }
    }
    for (name, wanted) in &shape.labels {
        if !workers.iter().any(|worker| worker.hello.labels.get(name) == Some(wanted)) {
            lacks.push(Lack::Label { name: name.clone(), wanted: wanted.clone() });
        }
    }
    let kept = workers.iter().fold(Limits::default(), |kept, worker| kept.and(worker.hello.limits));
    if !kept.cover(shape.limits) {
        lacks.push(Lack::Limits(shape.limits.without(kept)));
    }
    if lacks.is_empty() {
        lacks.push(Lack::Together);
    }
    lacks
}
