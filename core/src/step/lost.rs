//! A worker is lost: silent for a lease, replaced by a new incarnation, or buried.

use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::{
    effect::{Effect, Outcome, Reply, Write},
    gate::{Ebb, Ending},
    id::{Millis, Now, RequestId, TaskId, WorkerId},
    job::End,
    state::{Lost, State, Timer},
    step::recover,
};

/// What is known of a lost worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing was heard; its tasks may still run, and it may come back to be told to kill them.
    Silent,
    /// Dead for certain, with all that it ran.
    Dead,
}

/// Takes everything from a known worker.
pub(crate) fn lose(state: &mut State, now: Now, id: WorkerId, fate: Fate, out: &mut Outcome) -> u32 {
    let Some(worker) = state.workers.get(&id) else { return 0 };
    let tasks: Vec<TaskId> = worker.tasks().collect();
    for &task in &tasks {
        let executes = state.workers.get(&id).is_some_and(|worker| worker.executes(task));
        lose_task(state, now, task, executes, out);
        state.conclude(now, task.job, out);
    }
    state.tally.workers_lost += 1;
    remove(state, now, id, fate, out);
    u32::try_from(tasks.len()).unwrap_or(u32::MAX)
}

/// Takes a worker that holds nothing out of the state.
pub(crate) fn remove(state: &mut State, now: Now, id: WorkerId, fate: Fate, out: &mut Outcome) {
    let Some(worker) = state.workers.remove(&id) else { return };
    assert!(worker.held() == 0, "a worker leaves after its tasks");
    if let Some(session) = worker.session() {
        state.sessions.remove(&session);
        out.effects.push(Effect::Close(session));
    }
    if let Some(free) = worker.room {
        state.room.remove(&(std::cmp::Reverse(free), id));
    }
    state.deadlines.remove(&(worker.alarm, Timer::Silence(id)));
    state.stirred.remove(&id);
    state.names.remove(&worker.hello.name);
    match fate {
        Fate::Silent => remember(state, now, id, worker.hello.name.clone(), worker.draining),
        Fate::Dead => {
            state.bury_incarnation(id);
            out.writes.push(Write::WorkerGone(id));
        }
    }
}

/// A silent worker may come back for a while.
pub(crate) fn remember(state: &mut State, now: Now, id: WorkerId, name: Arc<str>, draining: bool) {
    let until = now.mono.after(state.config.lost_kept);
    state.lost.insert(id, Lost { name, draining, until });
    state.deadlines.insert((until, Timer::Forget(id)));
}

/// A lost worker is not lost any more.
pub(crate) fn recall(state: &mut State, id: WorkerId) -> Option<Lost> {
    let lost = state.lost.remove(&id)?;
    state.deadlines.remove(&(lost.until, Timer::Forget(id)));
    Some(lost)
}

/// An attempt is lost with its worker. Charged to the task if it had started.
pub(crate) fn lose_task(state: &mut State, now: Now, id: TaskId, executes: bool, out: &mut Outcome) {
    let told = state.config.lost_detail.clone();
    let Some(job) = state.jobs.get_mut(id.job) else { return };
    let policy = state.policies.get(job.policy).policy.clone();
    let array = job.unfold();
    let cancelling = array.cancelling.contains(id.index);
    let tripped = policy.max_fails.is_some_and(|most| array.counts.failed > most);
    let Some(task) = array.task(id.index) else { return };
    let (failures, losses, avoid) = (task.failures, task.losses, task.avoid);
    let Some(run) = array.run(id.index) else { return };
    let charged = executes || run.started;
    let (attempt, worker) = (run.attempt, run.worker);
    let worker = state.workers.get(&worker).map(|worker| worker.hello.name.clone());
    let losses = losses + u32::from(charged);
    let ended = &mut state.tally.attempts_ended;
    *if charged { &mut ended.lost } else { &mut ended.returned } += 1;
    let detail = if charged && !cancelling { told } else { Bytes::new() };
    let end = if cancelling {
        Some(End::Cancelled)
    } else if charged && (losses >= policy.crash_limit || tripped) {
        Some(End::Failed)
    } else {
        None
    };
    match end {
        Some(end) => {
            let ending = Ending { end, attempt, detail, blob: None, worker };
            state.end(now, id.job, RoaringBitmap::from([id.index]), ending, out);
        }
        None => {
            state.tally.retried += u64::from(charged);
            let ebb = Ebb { attempt, failures, losses, delay: Millis(0), detail, worker, avoid };
            state.ebb(now, id, ebb, out);
        }
    }
}

/// Somebody who watched over the worker says that it is dead, and so is all that it ran. Idempotent.
pub(crate) fn bury(state: &mut State, now: Now, request: RequestId, id: WorkerId, out: &mut Outcome) {
    let mut tasks = 0;
    if state.workers.contains_key(&id) {
        tasks = lose(state, now, id, Fate::Dead, out);
    } else {
        dismiss(state, now, id, out);
    }
    out.effects.push(Effect::Reply(request, Reply::Buried(tasks)));
}

/// A worker that is not connected and holds nothing that is known is dead.
pub(crate) fn dismiss(state: &mut State, now: Now, id: WorkerId, out: &mut Outcome) {
    let was_lost = recall(state, id).is_some();
    let was_expected = recover::give_up(state, id);
    if was_lost || was_expected {
        // Who was declared lost was counted then.
        state.tally.workers_lost += u64::from(was_expected);
        state.bury_incarnation(id);
        recover::gone(state, id, out);
    } else if !state.buried.contains(&id) {
        state.bury_incarnation(id);
    }
    recover::check_complete(state, now, out);
}
