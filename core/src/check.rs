//! The invariants, checked slowly: by every test, and in debug builds after steps as long as the state is small.

use std::collections::BTreeMap;

use crate::{
    array::Stage,
    id::{TaskId, WorkerId},
    state::{State, Timer},
};

/// A state of so many live jobs is checked each fourth step, a larger one in proportion less often.
const SMALL: u64 = 16;

/// Whether this step is to be checked in a debug build.
pub(crate) fn is_due(state: &State) -> bool {
    let jobs = state.jobs.len() as u64;
    state.steps.is_multiple_of(if jobs <= SMALL { 4 } else { jobs * 64 })
}

pub(crate) fn check(state: &State) -> Result<(), String> {
    jobs(state)?;
    workers(state)?;
    deadlines(state)?;
    ready(state)
}

fn jobs(state: &State) -> Result<(), String> {
    let (mut queued, mut running, mut backoff) = (0, 0, 0);
    let mut per_queue: BTreeMap<_, [u64; 4]> = BTreeMap::new();
    let mut picky = 0;
    for (id, job) in state.jobs.iter() {
        let counts = job.counts();
        if counts.end().is_some() {
            return Err(format!("job {id} has ended and is still here"));
        }
        queued += u64::from(counts.queued);
        running += u64::from(counts.running);
        backoff += u64::from(counts.backoff);
        let entry = state.policies.get(job.policy);
        let sums = per_queue.entry(entry.queue).or_default();
        for (sum, more) in sums.iter_mut().zip([1, counts.queued, counts.running, counts.backoff]) {
            *sum += u64::from(more);
        }
        let Some(array) = &job.array else { continue };
        if let Some(what) = array.contradiction(job.total) {
            return Err(format!("job {id}: {what}"));
        }
        picky += array.unusual().filter(|(_, task)| task.avoid.is_some()).count() as u64;
        for (index, task) in array.unusual() {
            let Stage::Running(run) = &task.stage else { continue };
            let id = TaskId { job: id, index };
            if run.attempt <= task.recorded {
                return Err(format!("{id:?} runs attempt {} again", run.attempt));
            }
            let holder = state.workers.get(&run.worker);
            if !holder.is_some_and(|worker| worker.tasks().any(|task| task == id)) {
                return Err(format!("{id:?} runs on worker {}, which does not hold it", run.worker));
            }
        }
    }
    let totals = state.totals;
    if (queued, running, backoff) != (totals.queued, totals.running, totals.backoff) {
        return Err(format!("totals {totals:?} differ from the jobs' {queued}, {running}, {backoff}"));
    }
    let ended = state.tally.attempts_ended;
    let over = [ended.succeeded, ended.failed, ended.cancelled, ended.rejected, ended.lost, ended.returned];
    if state.tally.attempts_started != over.iter().sum::<u64>() + running {
        return Err(format!("{:?} do not add up with {running} running", state.tally));
    }
    if picky != state.picky {
        return Err("the count of tasks that avoid a worker is wrong".to_owned());
    }
    for id in state.queues.iter() {
        let queue = state.queues.get(id);
        let sums = per_queue.get(&id).copied().unwrap_or_default();
        if sums != [queue.jobs.len() as u64, queue.queued, queue.running, queue.backoff] {
            return Err(format!("queue {} differs from its jobs", queue.name));
        }
    }
    Ok(())
}

fn workers(state: &State) -> Result<(), String> {
    let mut held = 0;
    for (id, worker) in &state.workers {
        if let Some(what) = worker.contradiction() {
            return Err(format!("worker {id}: {what}"));
        }
        held += worker.held() as u64;
        let room = worker.has_room().then(|| worker.free());
        let listed: Vec<_> =
            state.room.iter().filter(|(_, other)| other == id).map(|(free, _)| free.0).collect();
        if worker.room != room || listed != room.into_iter().collect::<Vec<_>>() {
            return Err(format!("worker {id}: the index of room is wrong"));
        }
        if worker.session().is_some_and(|session| state.sessions.get(&session) != Some(id)) {
            return Err(format!("worker {id}: its session leads elsewhere"));
        }
        if state.names.get(&worker.hello.name) != Some(id) {
            return Err(format!("worker {id}: its name leads elsewhere"));
        }
    }
    if held != state.totals.running {
        return Err("workers hold other tasks than run".to_owned());
    }
    let known = |id: &WorkerId| state.workers.contains_key(id);
    if state.sessions.len() > state.workers.len() || !state.sessions.values().all(known) {
        return Err("a session belongs to no worker".to_owned());
    }
    if state.names.len() != state.workers.len() || !state.room.iter().all(|(_, id)| known(id)) {
        return Err("an index names an unknown worker".to_owned());
    }
    Ok(())
}

fn deadlines(state: &State) -> Result<(), String> {
    let (mut backoffs, mut waits, mut alarms) = (0, 0, 0);
    for (at, timer) in &state.deadlines {
        match timer {
            Timer::Backoff(_) => backoffs += 1,
            Timer::Wait(job, request) => {
                waits += 1;
                if state.waits.get(&(*job, *request)) != Some(at) {
                    return Err(format!("a deadline without its waiter on job {job}"));
                }
            }
            Timer::Silence(worker) => {
                alarms += 1;
                if state.workers.get(worker).is_none_or(|worker| worker.alarm != *at) {
                    return Err(format!("a silence alarm of worker {worker} too many"));
                }
            }
            Timer::Overdue(task, attempt) => {
                let array = state.jobs.get(task.job).and_then(|job| job.array.as_ref());
                let run = array.and_then(|array| array.run(task.index));
                if run.is_none_or(|run| run.attempt != *attempt || run.overdue != Some(*at)) {
                    return Err(format!("{task:?} is not overdue then"));
                }
            }
            Timer::Grace | Timer::Forget(_) => {}
        }
    }
    if backoffs != state.totals.backoff {
        return Err("backoffs without deadline".to_owned());
    }
    if waits != state.waits.len() || alarms != state.workers.len() {
        return Err("a waiter or worker has no deadline".to_owned());
    }
    Ok(())
}

fn ready(state: &State) -> Result<(), String> {
    let mut standing = 0;
    for (class, id) in state.ready.all() {
        standing += 1;
        let Some(job) = state.jobs.get(id) else { return Err(format!("job {id} is ready and not here")) };
        if state.policies.get(job.policy).class != class {
            return Err(format!("job {id} stands in another class"));
        }
    }
    let mut startable = 0;
    for (id, job) in state.jobs.iter() {
        let counts = job.counts();
        let policy = &state.policies.get(job.policy).policy;
        let may = counts.queued > 0
            && !job.is_paused()
            && !state.is_held_back(id)
            && policy.max_parallel.is_none_or(|most| counts.running < most);
        startable += u64::from(may);
        if policy.max_parallel.is_some_and(|most| counts.running > most)
            && state.recovery.is_none()
            && state.config.epoch.0 <= 1
        {
            return Err(format!("job {id} runs more than it may"));
        }
    }
    if startable != standing {
        return Err(format!("{startable} jobs could start and {standing} stand in order"));
    }
    Ok(())
}
