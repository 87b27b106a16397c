//! A client waits for a job's end.

use crate::{
    effect::{Effect, Outcome, Reply},
    id::{JobId, Millis, Now, RequestId},
    state::{State, Timer},
    step::ask,
};

/// The end comes through [`State::close`](crate::state::State), or the deadline through [`timed_out`]: both answer
/// from the state, so no end can slip by between asking and waiting.
pub(crate) fn wait(
    state: &mut State,
    now: Now,
    request: RequestId,
    job: JobId,
    timeout: Millis,
    out: &mut Outcome,
) {
    if !state.is_live(job) {
        out.effects.push(Effect::Reply(request, Reply::NotLive(job)));
        return;
    }
    let until = now.mono.after(timeout);
    if let Some(former) = state.waits.insert((job, request), until) {
        state.deadlines.remove(&(former, Timer::Wait(job, request)));
    }
    state.deadlines.insert((until, Timer::Wait(job, request)));
}

pub(crate) fn timed_out(state: &mut State, now: Now, job: JobId, request: RequestId, out: &mut Outcome) {
    if state.waits.remove(&(job, request)).is_some() {
        out.effects.push(Effect::Reply(request, Reply::Job(ask::job_view(state, now, job))));
    }
}
