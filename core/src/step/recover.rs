//! After a restart: the wait for the workers that were known, and its end.
//!
//! Dispatch is not written, so after a restart nobody but the workers knows what runs. Until each known worker has
//! said Hello, was buried or replaced, or the grace is over, nothing of the jobs from before the restart is handed out.

use roaring::RoaringBitmap;

use crate::{
    effect::{Outcome, Write},
    gate::Ending,
    id::{JobId, Now, WorkerId},
    job::End,
    state::State,
    step::lost,
};

/// A worker that is not back may run one attempt of a task that is not on record.
pub(crate) const LEFT_OUT: u32 = 1;
/// After a backup was taken any number of attempts may have run; this many are far above what a task is given.
const LEFT_OUT_AFTER_BACKUP: u32 = 1_000;

/// An expected worker will not come back. True if it was one.
pub(crate) fn give_up(state: &mut State, id: WorkerId) -> bool {
    let Some(recovery) = &mut state.recovery else { return false };
    let was = recovery.expected.remove(&id).is_some();
    recovery.missing |= was;
    was
}

/// An expected worker is back. True if it was one.
pub(crate) fn welcome(state: &mut State, id: WorkerId) -> bool {
    state.recovery.as_mut().is_some_and(|recovery| recovery.expected.remove(&id).is_some())
}

/// Ends the wait if nobody is expected any more.
pub(crate) fn check_complete(state: &mut State, now: Now, out: &mut Outcome) {
    if state.recovery.as_ref().is_some_and(|recovery| recovery.expected.is_empty()) {
        recovered(state, now, out);
    }
}

/// The wait goes on: the scheduler was away, and known workers could not come back meanwhile.
pub(crate) fn prolong(state: &mut State) {
    let until = state.patient_until;
    if let Some(recovery) = &mut state.recovery {
        recovery.until = until;
        state.deadlines.insert((until, crate::state::Timer::Grace));
    }
}

/// The wait is over.
pub(crate) fn recovered(state: &mut State, now: Now, out: &mut Outcome) {
    let Some(recovery) = state.recovery.take() else { return };
    state.deadlines.remove(&(recovery.until, crate::state::Timer::Grace));
    if recovery.missing || !recovery.expected.is_empty() {
        state.doubtful = Some(recovery.last_job);
    }
    state.tally.workers_lost += recovery.expected.len() as u64;
    if recovery.expected.contains_key(&WorkerId::AFTER_BACKUP) {
        state.left_out = LEFT_OUT_AFTER_BACKUP;
    }
    for (id, name) in recovery.expected {
        lost::remember(state, now, id, name, false);
    }
    let jobs: Vec<JobId> =
        state.jobs.iter().map(|(id, _)| id).take_while(|id| *id <= recovery.last_job).collect();
    for id in jobs {
        resume(state, now, id, out);
    }
    settle_doubt(state, out);
}

/// A worker that was not there will never be. That becomes durable once no attempt of it can be unrecorded: if it
/// were on record sooner, a second restart would not know that numbers of attempts may be used up.
pub(crate) fn gone(state: &mut State, id: WorkerId, out: &mut Outcome) {
    state.withheld.push(id);
    settle_doubt(state, out);
}

/// Ends the doubt with the last job from before the restart.
pub(crate) fn settle_doubt(state: &mut State, out: &mut Outcome) {
    let oldest = state.jobs.iter().next().map(|(id, _)| id);
    let doubt = |last: JobId| oldest.is_some_and(|oldest| oldest <= last);
    if state.recovery.is_none() && !state.doubtful.is_some_and(doubt) {
        state.doubtful = None;
        out.writes.extend(state.withheld.drain(..).map(Write::WorkerGone));
    }
}

/// What was to be cancelled and did not turn up ends; the rest may start.
fn resume(state: &mut State, now: Now, id: JobId, out: &mut Outcome) {
    let cancelled = state.jobs.get(id).and_then(|job| {
        let array = job.array.as_ref().filter(|array| !array.cancelling.is_empty())?;
        let groups = array.unstarted(job.total).into_iter();
        Some(groups.map(|(attempt, set)| (attempt, set & &array.cancelling)).collect::<Vec<_>>())
    });
    for (attempt, indices) in cancelled.into_iter().flatten() {
        let indices: RoaringBitmap = indices;
        state.end(now, id, indices, Ending::unstarted(End::Cancelled, attempt), out);
    }
    state.settle(id);
    state.conclude(now, id, out);
}
