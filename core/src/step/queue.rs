//! A client changes a queue: pause, resume, purge.

use std::sync::Arc;

use crate::{
    effect::{Effect, Outcome, QueueView, Reply, Write},
    event::QueueAct,
    gate::Ending,
    id::{JobId, Now, RequestId},
    job::End,
    state::State,
    step::ask,
};

pub(crate) fn queue(
    state: &mut State,
    now: Now,
    request: RequestId,
    name: Arc<str>,
    act: QueueAct,
    out: &mut Outcome,
) {
    let (mut purged_jobs, mut purged_tasks) = (0, 0);
    match act {
        QueueAct::Pause => switch(state, &name, true, out),
        QueueAct::Resume => switch(state, &name, false, out),
        QueueAct::Purge { dry_run } => (purged_jobs, purged_tasks) = purge(state, now, &name, dry_run, out),
    }
    let queue = match state.queues.find(&name) {
        Some(id) => ask::queue_view(state, now, id),
        None => QueueView { name, ..QueueView::default() },
    };
    out.effects.push(Effect::Reply(request, Reply::Queue { queue, purged_jobs, purged_tasks }));
}

/// A queue may be paused before its first job comes.
fn switch(state: &mut State, name: &Arc<str>, paused: bool, out: &mut Outcome) {
    if state.queues.find(name).is_none() && !paused {
        return;
    }
    let id = state.queues.ensure(name);
    let queue = state.queues.get_mut(id);
    if queue.paused == paused {
        return;
    }
    queue.paused = paused;
    queue.revision += 1;
    out.writes.push(Write::Queue { name: name.clone(), revision: queue.revision, paused });
    state.ready.pause(id, paused);
    if !paused {
        let classes: Vec<_> = state.ready.classes_of(id).collect();
        state.touched.extend(classes);
    }
}

/// Cancels what has not started. While known workers may still come back after a restart, a task that one of them
/// runs counts as not started: it is killed when the worker says that it has it.
fn purge(state: &mut State, now: Now, name: &str, dry_run: bool, out: &mut Outcome) -> (u64, u64) {
    let Some(id) = state.queues.find(name) else { return (0, 0) };
    let jobs: Vec<JobId> = state.queues.get(id).jobs.iter().collect();
    let (mut purged_jobs, mut purged_tasks) = (0, 0);
    for id in jobs {
        let Some(job) = state.jobs.get_mut(id) else { continue };
        let counts = job.counts();
        let tasks = u64::from(counts.queued + counts.backoff);
        purged_jobs += u64::from(tasks > 0);
        purged_tasks += tasks;
        if dry_run || tasks == 0 {
            continue;
        }
        let total = job.total;
        for (attempt, indices) in job.unfold().unstarted(total) {
            state.end(now, id, indices, Ending::unstarted(End::Cancelled, attempt), out);
        }
        state.conclude(now, id, out);
    }
    (purged_jobs, purged_tasks)
}
