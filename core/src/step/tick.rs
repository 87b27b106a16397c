//! Deadlines that have come.

use crate::{
    array::Stage,
    effect::{Effect, Outcome},
    id::{Attempt, Lease, Now, TaskId, WorkerId},
    state::{State, Timer},
    step::{lost, recover, wait},
};

pub(crate) fn tick(state: &mut State, now: Now, out: &mut Outcome) {
    while let Some(&(at, timer)) = state.deadlines.first()
        && at <= now.mono
    {
        state.deadlines.pop_first();
        match timer {
            Timer::Silence(worker) => silence(state, now, worker, out),
            Timer::Backoff(task) => state.enter_ready(task),
            Timer::Overdue(task, attempt) => overdue(state, now, task, attempt, out),
            Timer::Wait(job, request) => wait::timed_out(state, now, job, request, out),
            Timer::Grace if now.mono < state.patient_until => recover::prolong(state),
            Timer::Grace => recover::recovered(state, now, out),
            Timer::Forget(worker) => forget(state, worker, out),
        }
    }
}

/// The alarm is not moved with each message: it looks, when it rings, whether there was one.
fn silence(state: &mut State, now: Now, id: WorkerId, out: &mut Outcome) {
    let lease = state.config.lease;
    let Some(worker) = state.workers.get_mut(&id) else { return };
    let until = worker.heard.after(lease).max(state.patient_until);
    if until > now.mono {
        worker.alarm = until;
        state.deadlines.insert((until, Timer::Silence(id)));
    } else {
        lost::lose(state, now, id, lost::Fate::Silent, out);
    }
}

/// The worker should have ended this attempt long ago. Time counts from the start, so what still waits gets more.
fn overdue(state: &mut State, now: Now, task: TaskId, attempt: Attempt, out: &mut Outcome) {
    let Some(job) = state.jobs.get_mut(task.job) else { return };
    let policy = state.policies.get(job.policy).policy.clone();
    let Some(record) = job.unfold().task_mut(task.index) else { return };
    let Stage::Running(run) = &mut record.stage else { return };
    run.overdue = None;
    if now.mono < state.patient_until {
        run.overdue = Some(state.patient_until);
        state.deadlines.insert((state.patient_until, Timer::Overdue(task, attempt)));
        return;
    }
    let (worker, epoch, started) = (run.worker, run.epoch, run.started);
    let Some(holder) = state.workers.get(&worker) else { return };
    if !started && !holder.executes(task) {
        run.overdue = state.config.backstop(now.mono, &policy);
        if let Some(at) = run.overdue {
            state.deadlines.insert((at, Timer::Overdue(task, attempt)));
        }
        return;
    }
    if let Some(session) = holder.session() {
        out.effects.push(Effect::Abandon(session, Lease { task, attempt, epoch }));
    }
    lost::lose_task(state, now, task, true, out);
    state.conclude(now, task.job, out);
}

/// A worker that was declared lost did not come back within the time for that.
fn forget(state: &mut State, worker: WorkerId, out: &mut Outcome) {
    if state.lost.remove(&worker).is_some() {
        state.bury_incarnation(worker);
        recover::gone(state, worker, out);
    }
}
