//! A client changes one job: cancel, pause, resume, remove. Retention forgets ended ones.

use roaring::RoaringBitmap;

use crate::{
    array::{Array, Element, Stage},
    effect::{Effect, Outcome, Rejection, Reply, Write},
    event::Act,
    gate::Ending,
    id::{JobId, Lease, Now, RequestId, TaskId},
    job::End,
    state::State,
};

pub(crate) fn act(
    state: &mut State,
    now: Now,
    request: RequestId,
    job: JobId,
    act: Act,
    dry_run: bool,
    out: &mut Outcome,
) {
    let reply = match act {
        Act::Remove => remove(state, job, dry_run, out),
        _ if !state.is_live(job) => Reply::NotLive(job),
        Act::Cancel(which) => cancel(state, now, job, which.as_ref(), dry_run, out),
        Act::Pause => switch(state, job, true, dry_run, out),
        Act::Resume => switch(state, job, false, dry_run, out),
    };
    out.effects.push(Effect::Reply(request, reply));
}

/// Retention: ended jobs are forgotten, and their keys are free again.
pub(crate) fn forget(state: &mut State, jobs: Vec<JobId>, out: &mut Outcome) {
    for job in jobs {
        if !state.is_live(job) {
            state.memory.drop_key(job);
            out.writes.push(Write::JobGone(job));
        }
    }
}

/// Whether an ended job is still kept is not known here: who asks has looked. Of two who ask at the same moment both are
/// answered, and forgetting twice changes nothing.
fn remove(state: &mut State, job: JobId, dry_run: bool, out: &mut Outcome) -> Reply {
    if state.is_live(job) {
        return Reply::Rejected(Rejection::NotEnded(job));
    }
    if job.0 == 0 || job > state.last_job {
        return Reply::NotLive(job);
    }
    if !dry_run {
        forget(state, vec![job], out);
    }
    Reply::Acted { tasks: 0, stopping: 0, note: "" }
}

fn switch(state: &mut State, id: JobId, paused: bool, dry_run: bool, out: &mut Outcome) -> Reply {
    let Some(job) = state.jobs.get_mut(id) else { return Reply::NotLive(id) };
    if job.is_paused() == paused {
        let note = if paused { "already paused" } else { "not paused" };
        return Reply::Acted { tasks: 0, stopping: 0, note };
    }
    let counts = job.counts();
    if !dry_run {
        job.unfold().paused = paused;
        record(state, id, out);
        state.settle(id);
    }
    Reply::Acted { tasks: counts.queued + counts.backoff, stopping: 0, note: "" }
}

/// Makes the job's switches durable.
pub(crate) fn record(state: &mut State, id: JobId, out: &mut Outcome) {
    let array = state.array(id);
    array.revision += 1;
    array.changes += 1;
    let (revision, paused, cancelling) = (array.revision, array.paused, array.cancelling.clone());
    out.writes.push(Write::Job { job: id, revision, paused, cancelling });
}

/// What a cancel would touch.
#[derive(Default)]
struct Aim {
    /// End at once.
    unstarted: Vec<(Ending, RoaringBitmap)>,
    /// To be stopped first. After a restart, while known workers may still come back, everything that is not known
    /// to run may be running, and is stopped when it turns up, or ends when it does not.
    started: RoaringBitmap,
    /// Were being cancelled already.
    again: bool,
}

/// Cancels tasks of a live job. Cancel beats retry.
fn cancel(
    state: &mut State,
    now: Now,
    id: JobId,
    which: Option<&RoaringBitmap>,
    dry_run: bool,
    out: &mut Outcome,
) -> Reply {
    let held_back = state.is_held_back(id);
    let Some(job) = state.jobs.get_mut(id) else { return Reply::NotLive(id) };
    let total = job.total;
    let array = job.unfold();
    if let Some(index) = which.and_then(|which| stranger(array, which, total)) {
        return Reply::Rejected(Rejection::NoTask { job: id, index });
    }
    let aim = aim(array, which, total, held_back);
    let ended: u64 = aim.unstarted.iter().map(|(_, indices)| indices.len()).sum();
    let tasks = u32::try_from(ended + aim.started.len()).unwrap_or(u32::MAX);
    let stopping = u32::try_from(aim.started.len()).unwrap_or(u32::MAX);
    let note = match (tasks, aim.again) {
        (0, true) => "already being cancelled",
        (0, false) => "already ended",
        _ => "",
    };
    if !dry_run {
        stop(state, id, &aim.started, out);
        for (ending, indices) in aim.unstarted {
            state.end(now, id, indices, ending, out);
        }
        state.conclude(now, id, out);
    }
    Reply::Acted { tasks, stopping, note }
}

fn stranger(array: &Array, which: &RoaringBitmap, total: u32) -> Option<u32> {
    if let Some(only) = &array.only {
        return (which - only).min();
    }
    which.max().filter(|max| *max >= total).and_then(|_| which.range(total..).next())
}

fn aim(array: &Array, which: Option<&RoaringBitmap>, total: u32, held_back: bool) -> Aim {
    let mut aim = Aim::default();
    for (attempt, mut indices) in array.unstarted(total) {
        if let Some(which) = which {
            indices &= which;
        }
        if held_back {
            aim.started |= indices;
        } else if !indices.is_empty() {
            aim.unstarted.push((Ending::unstarted(End::Cancelled, attempt), indices));
        }
    }
    for (index, task) in array.unusual() {
        if matches!(task.stage, Stage::Running(_)) && which.is_none_or(|which| which.contains(index)) {
            aim.started.insert(index);
        }
    }
    aim.again = !aim.started.is_disjoint(&array.cancelling);
    aim.started -= &array.cancelling;
    aim
}

/// Makes the intention durable and tells the workers.
fn stop(state: &mut State, id: JobId, started: &RoaringBitmap, out: &mut Outcome) {
    if started.is_empty() {
        return;
    }
    state.array(id).cancelling |= started;
    record(state, id, out);
    for index in started {
        send_cancel(state, TaskId { job: id, index }, out);
    }
}

/// Tells the worker of a running task to stop it, if it is connected; otherwise it is told when it comes back.
pub(crate) fn send_cancel(state: &State, task: TaskId, out: &mut Outcome) {
    let Some(job) = state.jobs.get(task.job) else { return };
    let Some(array) = &job.array else { return };
    let Element::Unusual(record) = array.element(task.index, job.total) else { return };
    let Stage::Running(run) = &record.stage else { return };
    let session = state.workers.get(&run.worker).and_then(crate::worker::Worker::session);
    if let Some(session) = session {
        let lease = Lease { task, attempt: run.attempt, epoch: run.epoch };
        out.effects.push(Effect::Cancel(session, lease));
    }
}
