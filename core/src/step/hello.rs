//! A worker opens a session: who it is decides whether it may, what it holds decides what stays its own.
//!
//! | the worker is | then |
//! |---|---|
//! | buried | refused |
//! | known, same process | the old session is closed; leases that it holds stay, the others were never received and go back |
//! | known, and the session is older than one that it opened since | closed; what it says is out of date |
//! | new, and one of its name is connected | refused |
//! | new, and one of its name is not connected | that one is dead; its tasks go elsewhere at once |
//! | expected since a restart, or back after it was declared lost | it keeps what is still nobody else's |

use std::collections::BTreeSet;

use crate::{
    array::{Element, Run, Stage},
    effect::{Effect, Outcome, Refusal, Write},
    event::WorkerHello,
    id::{Attempt, Lease, Now, SessionId, TaskId, WorkerId},
    state::{State, Timer},
    step::{act, finish, lost, recover},
    worker::{Link, Worker},
};

pub(crate) fn hello(state: &mut State, now: Now, session: SessionId, hello: WorkerHello, out: &mut Outcome) {
    let id = hello.id;
    if let Err(refusal) = may_join(state, &hello) {
        out.effects.push(Effect::Refuse(session, refusal));
        return;
    }
    if state.workers.get(&id).is_some_and(|known| known.newest > session) {
        out.effects.push(Effect::Close(session));
        return;
    }
    replace_namesakes(state, now, &hello, out);
    let was_expected = recover::welcome(state, id);
    let was_lost = lost::recall(state, id);
    if !was_expected && was_lost.is_none() && !state.workers.contains_key(&id) {
        out.writes.push(Write::WorkerSeen { worker: id, name: hello.name.clone() });
    }
    let held = hello.held.clone();
    join(state, now, session, hello, out);
    if was_lost.is_some_and(|lost| lost.draining)
        && let Some(worker) = state.workers.get_mut(&id)
    {
        worker.draining = true;
    }
    let mut abandon = Vec::new();
    let mut kept = Vec::new();
    for lease in held {
        if is_current(state, id, &lease) || adopt(state, now, id, &lease) {
            kept.push(lease.task);
        } else {
            // What it runs or has to say of it comes too late, unless that was heard before.
            if !state.workers.get(&id).is_some_and(|worker| worker.has_accepted(&lease)) {
                state.tally.stale += 1;
            }
            abandon.push(lease);
        }
    }
    out.effects.push(Effect::Welcome { session, abandon });
    for task in kept {
        if state.array(task.job).cancelling.contains(task.index) {
            act::send_cancel(state, task, out);
        }
    }
    if state.workers.get(&id).is_some_and(|worker| worker.draining) {
        out.effects.push(Effect::Drain(session));
    }
    state.stirred.insert(id);
    state.stir(id);
    recover::check_complete(state, now, out);
}

fn may_join(state: &State, hello: &WorkerHello) -> Result<(), Refusal> {
    if state.buried.contains(&hello.id) {
        return Err(Refusal::Buried);
    }
    let namesake = state.names.get(&hello.name).filter(|other| **other != hello.id);
    match namesake.and_then(|other| state.workers.get(other)) {
        Some(other) if other.session().is_some() => {
            Err(Refusal::NameTaken { name: hello.name.clone(), host: other.hello.host.clone() })
        }
        _ => Ok(()),
    }
}

/// A worker's name is one process at a time: who has it and is not connected is dead.
fn replace_namesakes(state: &mut State, now: Now, hello: &WorkerHello, out: &mut Outcome) {
    let known = state.names.get(&hello.name).copied();
    if let Some(other) = known.filter(|other| *other != hello.id) {
        lost::lose(state, now, other, lost::Fate::Dead, out);
    }
    let lost = state.lost.iter().map(|(id, lost)| (*id, lost.name.clone()));
    let expected = state.recovery.iter().flat_map(|recovery| recovery.expected.clone());
    let gone: Vec<WorkerId> = lost
        .chain(expected)
        .filter(|(id, name)| *id != hello.id && *name == hello.name)
        .map(|(id, _)| id)
        .collect();
    for id in gone {
        lost::dismiss(state, now, id, out);
    }
}

/// Puts the worker into the state, with those of its former tasks that it still holds.
fn join(state: &mut State, now: Now, session: SessionId, hello: WorkerHello, out: &mut Outcome) {
    let id = hello.id;
    let held: BTreeSet<Lease> = hello.held.iter().copied().collect();
    let mut worker = Worker::new(hello, Link::Up(session), now.mono);
    worker.newest = session;
    worker.alarm = now.mono.after(state.config.lease);
    state.names.insert(worker.hello.name.clone(), id);
    state.sessions.insert(session, id);
    state.deadlines.insert((worker.alarm, Timer::Silence(id)));
    let tasks: Vec<TaskId> = state.workers.get(&id).into_iter().flat_map(Worker::tasks).collect();
    for task in tasks {
        let lease = state.array(task.job).run(task.index).map(|run| Lease {
            task,
            attempt: run.attempt,
            epoch: run.epoch,
        });
        if lease.is_none_or(|lease| !held.contains(&lease)) {
            finish::give_back(state, now, task, out);
        }
    }
    let Some(former) = state.workers.remove(&id) else {
        state.workers.insert(id, worker);
        return;
    };
    if let Some(old) = former.session() {
        state.sessions.remove(&old);
        out.effects.push(Effect::Close(old));
    }
    if former.alarm != worker.alarm {
        state.deadlines.remove(&(former.alarm, Timer::Silence(id)));
    }
    if former.hello.name != worker.hello.name {
        state.names.remove(&former.hello.name);
    }
    worker.room = former.room;
    let (executing, waiting): (Vec<TaskId>, Vec<TaskId>) =
        former.tasks().partition(|task| former.executes(*task));
    for task in executing.into_iter().chain(waiting) {
        let Some(job) = state.jobs.get(task.job) else { continue };
        let entry = state.policies.get(job.policy);
        worker.place(task, entry.policy.priority, state.ready.shape(entry.class).clone(), entry.average_us);
    }
    worker.inherit(former);
    state.workers.insert(id, worker);
}

/// Whether the lease is what the state says of its task.
pub(crate) fn is_current(state: &State, worker: WorkerId, lease: &Lease) -> bool {
    let array = state.jobs.get(lease.task.job).and_then(|job| job.array.as_ref());
    array
        .and_then(|array| array.run(lease.task.index))
        .is_some_and(|run| run.worker == worker && run.attempt == lease.attempt && run.epoch == lease.epoch)
}

/// Takes up a lease that nobody recorded: from before a restart, or of a worker that came back late. Only if its
/// task is still to be done, nobody else has it, and the attempt is not known to have ended.
fn adopt(state: &mut State, now: Now, worker: WorkerId, lease: &Lease) -> bool {
    let id = lease.task;
    let Some(job) = state.jobs.get(id.job) else { return false };
    let recorded = match &job.array {
        None if id.index < job.total => Attempt(0),
        None => return false,
        Some(array) => match array.element(id.index, job.total) {
            Element::Absent | Element::Ended(_) => return false,
            Element::Fresh => Attempt(0),
            Element::Unusual(task) if matches!(task.stage, Stage::Running(_)) => return false,
            Element::Unusual(task) => task.recorded,
        },
    };
    if lease.attempt <= recorded || lease.epoch > state.config.epoch {
        return false;
    }
    let overdue = state.config.backstop(now.mono, &state.policies.get(job.policy).policy);
    let run =
        Run { worker, attempt: lease.attempt, epoch: lease.epoch, started: false, overdue, progress: None };
    state.enter_running(id, run);
    state.array(id.job).started.get_or_insert(now.wall);
    state.settle(id.job);
    true
}
