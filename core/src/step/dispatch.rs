//! Ready tasks go to workers with room.
//!
//! Work is bounded and follows what changed: a worker that changed is filled; a class that had nothing to start and
//! now has is offered to the workers with room, the emptiest first and in shares, so that they fill evenly. What was
//! not taken before and did not change is not offered again. A step that would hand out more than [`PICKS`] units
//! leaves the rest to the next tick, which is then due at once.

use std::{cmp::Reverse, collections::BTreeMap, ops::Bound};

use crate::{
    array::Run,
    effect::{Effect, Outcome, Unit, Write},
    id::{Attempt, JobId, Millis, Now, SessionId, TaskId, WorkerId},
    job::SlotKind,
    ready::{ClassId, Fit},
    state::State,
    worker::Worker,
};

/// Units handed out in one step at most: a few milliseconds of work.
const PICKS: u32 = 4_096;
/// What a task is taken to need of which nothing is known yet.
const UNKNOWN_US: u64 = 50_000;
/// Workers that are looked at to find one that can take a task that another could not run.
const OTHERS: usize = 16;

pub(crate) fn dispatch(state: &mut State, now: Now, out: &mut Outcome) {
    let relieved = state.ready.relieved();
    state.touched.extend(relieved);
    if state.stirred.is_empty() && state.touched.is_empty() {
        return;
    }
    let mut units = Units::default();
    let mut picks = PICKS;
    fill_stirred(state, now, &mut picks, &mut units, out);
    while picks > 0 && !state.touched.is_empty() {
        sweep(state, now, &mut picks, &mut units, out);
        let relieved = state.ready.relieved();
        state.touched.extend(relieved);
    }
    for (session, units) in units.by_session {
        out.effects.extend(units.into_iter().map(|unit| Effect::Assign { session, unit }));
    }
}

/// What goes to whom in this step; neighbours are merged.
#[derive(Default)]
struct Units {
    by_session: BTreeMap<SessionId, Vec<Unit>>,
}

impl Units {
    fn add(&mut self, session: SessionId, task: TaskId, run: &Run) {
        let units = self.by_session.entry(session).or_default();
        match units.last_mut() {
            Some(unit) if (unit.job, unit.attempt, unit.epoch) == (task.job, run.attempt, run.epoch) => {
                match unit.spans.last_mut() {
                    Some((first, many)) if *first + *many == task.index => *many += 1,
                    Some((first, _)) if *first < task.index => unit.spans.push((task.index, 1)),
                    _ => units.push(unit_of(task, run)),
                }
            }
            _ => units.push(unit_of(task, run)),
        }
    }
}

fn unit_of(task: TaskId, run: &Run) -> Unit {
    Unit { job: task.job, attempt: run.attempt, epoch: run.epoch, spans: vec![(task.index, 1)] }
}

fn fill_stirred(state: &mut State, now: Now, picks: &mut u32, units: &mut Units, out: &mut Outcome) {
    while let Some(id) = state.stirred.first().copied() {
        while *picks > 0 && serve(state, now, id, false, units, out) {
            *picks -= 1;
        }
        if *picks == 0 {
            return;
        }
        state.stirred.remove(&id);
    }
}

/// Offers what is new to workers with room. The sweep goes from most free slots to fewest; a worker that took
/// something stands further on and is met again.
fn sweep(state: &mut State, now: Now, picks: &mut u32, units: &mut Units, out: &mut Outcome) {
    let mut from = Bound::Unbounded;
    while let Some(&(Reverse(free), id)) = state.room.range((from, Bound::Unbounded)).next() {
        if *picks == 0 {
            return;
        }
        let shared = state.room.len() > 1;
        let wanted = state.workers.get(&id).is_some_and(|worker| wants(state, worker));
        if wanted && serve(state, now, id, shared, units, out) {
            *picks -= 1;
            from = Bound::Included((Reverse(free), id));
        } else {
            from = Bound::Excluded((Reverse(free), id));
        }
    }
    state.touched.clear();
}

/// Whether something new could run there at all.
fn wants(state: &State, worker: &Worker) -> bool {
    state
        .touched
        .iter()
        .any(|class| state.ready.is_known(*class) && worker.could_run(state.ready.shape(*class)))
}

/// Hands one unit to a worker, if there is one for it.
fn serve(
    state: &mut State,
    now: Now,
    id: WorkerId,
    shared: bool,
    units: &mut Units,
    out: &mut Outcome,
) -> bool {
    let Some(worker) = state.workers.get(&id).filter(|worker| worker.has_room()) else { return false };
    let Some(session) = worker.session() else { return false };
    let mut chosen = None;
    // Kinds of slots that a queue waits for whose turn it is: nothing of a later queue is sent ahead to them, or they would
    // never be free.
    let mut awaited: Vec<SlotKind> = Vec::new();
    for queue in state.ready.queues() {
        let kept = awaited.clone();
        chosen = state.ready.choose(queue, |class, job| {
            let fit = fit(state, worker, class, job, &kept);
            if fit == Fit::Busy
                && let Some(kind) = awaits(state, worker, class, job)
                && !awaited.contains(&kind)
            {
                awaited.push(kind);
            }
            fit
        });
        if chosen.is_some() {
            break;
        }
    }
    let Some((class, job)) = chosen else { return false };
    let many = room_for(state, worker, class, job, shared);
    let given = hand_out(state, now, session, id, (class, job, many), units, out);
    assert!(given > 0, "a job in the ready order has something to start");
    true
}

/// Whether the first task of a class can go to a worker now; to slots that are kept only if it starts at once.
fn fit(state: &State, worker: &Worker, class: ClassId, job: JobId, kept: &[SlotKind]) -> Fit {
    let shape = state.ready.shape(class);
    if !worker.could_run(shape) {
        return Fit::No;
    }
    if state.picky > 0 && is_avoided(state, worker, class, job) {
        return Fit::No;
    }
    let is_kept = worker.slot_kind(shape).is_some_and(|kind| kept.contains(&kind));
    let many =
        if is_kept { at_once(state, worker, class, job) } else { now_or_ahead(state, worker, class, job) };
    if many > 0 { Fit::Yes } else { Fit::Busy }
}

/// The slots for which a task waits that does not fit now, and of which nobody knows that it is short.
fn awaits(state: &State, worker: &Worker, class: ClassId, job: JobId) -> Option<SlotKind> {
    let average_us = state.policies.get(state.jobs.get(job)?.policy).average_us;
    worker.awaited(state.ready.shape(class), average_us)
}

/// A task that this worker could not run goes elsewhere if another worker could take it now.
fn is_avoided(state: &State, worker: &Worker, class: ClassId, job: JobId) -> bool {
    let array = state.jobs.get(job).and_then(|job| job.array.as_ref());
    let avoid = array.and_then(|array| array.first_again()).and_then(|task| task.avoid);
    if avoid != Some(worker.hello.id) {
        return false;
    }
    let shape = state.ready.shape(class);
    state.room.iter().take(OTHERS).any(|(_, other)| {
        *other != worker.hello.id
            && state
                .workers
                .get(other)
                .is_some_and(|other| other.could_run(shape) && other.free_for(shape) > 0)
    })
}

/// How many tasks of the job would start at once.
fn at_once(state: &State, worker: &Worker, class: ClassId, job: JobId) -> u32 {
    let Some(known) = state.jobs.get(job) else { return 0 };
    let priority = state.policies.get(known.policy).policy.priority;
    worker.at_once(priority, state.ready.shape(class))
}

/// How many tasks of the job would start at once, or may be sent ahead.
fn now_or_ahead(state: &State, worker: &Worker, class: ClassId, job: JobId) -> u32 {
    let Some(known) = state.jobs.get(job) else { return 0 };
    let entry = state.policies.get(known.policy);
    let shape = state.ready.shape(class);
    worker.now_or_ahead(entry.policy.priority, shape, entry.average_us)
}

fn room_for(state: &State, worker: &Worker, class: ClassId, job: JobId, shared: bool) -> u32 {
    let Some(known) = state.jobs.get(job) else { return 0 };
    let share = if shared { worker.share(state.ready.shape(class)) } else { u32::MAX };
    let parallel = state.policies.get(known.policy).policy.max_parallel;
    let parallel = parallel.map_or(u32::MAX, |most| most.saturating_sub(known.counts().running));
    now_or_ahead(state, worker, class, job).min(share).min(parallel)
}

fn hand_out(
    state: &mut State,
    now: Now,
    session: SessionId,
    worker: WorkerId,
    (class, job, many): (ClassId, JobId, u32),
    units: &mut Units,
    out: &mut Outcome,
) -> u32 {
    let (mut given, mut firsts) = (0, 0);
    while given < many {
        let Some((task, attempt)) = next_attempt(state, job, out) else { break };
        let policy = state.jobs.get(job).map(|job| state.policies.get(job.policy).policy.clone());
        let overdue = policy.and_then(|policy| state.config.backstop(now.mono, &policy));
        let run = Run { worker, attempt, epoch: state.config.epoch, started: false, overdue, progress: None };
        units.add(session, task, &run);
        state.enter_running(task, run);
        given += 1;
        firsts += u64::from(attempt == Attempt(1));
    }
    if let Some(known) = state.jobs.get(job) {
        let waited_ms = now.wall.0.saturating_sub(known.submitted.0);
        state.tally.wait.add(waited_ms.saturating_mul(1_000), firsts);
    }
    let slots = u64::from(state.ready.shape(class).slots) * u64::from(given);
    let average_us = state.jobs.get(job).and_then(|job| state.policies.get(job.policy).average_us);
    // A task without slots, or one that takes no time, is something all the same.
    let each_us = average_us.unwrap_or(UNKNOWN_US).max(1);
    state.ready.served(class, job, given, slots.max(1).saturating_mul(each_us));
    state.settle(job);
    given
}

/// The next ready task of a job and the number of its next attempt.
///
/// Where an attempt may have been handed out before a restart to a worker that never came back, its number is used
/// up on record first, so that at most one number is ever unrecorded and none is used twice. After a restore more of them
/// may have been used.
fn next_attempt(state: &mut State, id: JobId, out: &mut Outcome) -> Option<(TaskId, Attempt)> {
    let doubtful_job = state.doubtful.is_some_and(|last| id <= last);
    let job = state.jobs.get_mut(id)?;
    let total = job.total;
    let array = job.unfold();
    let index = array.next_ready(total)?;
    let task = TaskId { job: id, index };
    let known = array.task(index).map(|task| (task.recorded, task.failures, task.losses, task.doubtful));
    let (recorded, failures, losses, doubtful) = known.unwrap_or((Attempt(0), 0, 0, doubtful_job));
    if !(doubtful && doubtful_job) {
        return Some((task, Attempt(recorded.0 + 1)));
    }
    let skipped = Attempt(recorded.0.saturating_add(state.left_out));
    out.writes.push(Write::Attempt {
        task,
        attempt: skipped,
        failures,
        losses,
        delay: Millis(0),
        detail: bytes::Bytes::new(),
        worker: None,
    });
    state.record_attempt(task, skipped);
    Some((task, Attempt(skipped.0 + 1)))
}
