//! The small events of a worker's session: heartbeat, goodbye, a lost connection, a drain.

use std::sync::Arc;

use crate::{
    effect::{Effect, Outcome, Rejection, Reply},
    id::{Now, RequestId, SessionId, TaskId, WorkerId},
    state::State,
    step::{ask, finish, lost},
    worker::Link,
};

/// The worker of an open session, which is thereby heard. Messages of other sessions are not looked at: the worker
/// says again in its next session what was not confirmed in this one.
pub(crate) fn hear(state: &mut State, now: Now, session: SessionId) -> Option<WorkerId> {
    let id = *state.sessions.get(&session)?;
    state.workers.get_mut(&id)?.heard = now.mono;
    Some(id)
}

pub(crate) fn heartbeat(
    state: &mut State,
    now: Now,
    session: SessionId,
    seq: u64,
    draining: bool,
    out: &mut Outcome,
) {
    let Some(id) = hear(state, now, session) else { return };
    if draining && let Some(worker) = state.workers.get_mut(&id) {
        worker.draining = true;
        state.stir(id);
    }
    out.effects.push(Effect::Committed { session, seq });
}

/// Slots whose functions go on without their tasks; those that came back can be used again.
pub(crate) fn busy(state: &mut State, now: Now, session: SessionId, plain: u32, r#async: u32) {
    let Some(id) = hear(state, now, session) else { return };
    if state.workers.get_mut(&id).is_some_and(|worker| worker.set_busy(plain, r#async)) {
        state.stirred.insert(id);
        state.stir(id);
    }
}

/// A drained worker leaves. What it still holds goes back uncharged.
pub(crate) fn goodbye(state: &mut State, now: Now, session: SessionId, seq: u64, out: &mut Outcome) {
    let Some(id) = hear(state, now, session) else { return };
    let tasks: Vec<TaskId> = state.workers.get(&id).into_iter().flat_map(|worker| worker.tasks()).collect();
    for task in tasks {
        finish::give_back(state, now, task, out);
    }
    out.effects.push(Effect::Committed { session, seq });
    lost::remove(state, now, id, lost::Fate::Dead, out);
}

/// The connection is gone. The tasks stay where they are until the lease is over.
/// A broken connection is no sign of life.
pub(crate) fn disconnected(state: &mut State, session: SessionId) {
    let Some(id) = state.sessions.remove(&session) else { return };
    if let Some(worker) = state.workers.get_mut(&id) {
        worker.link = Link::Suspect;
    }
    state.stir(id);
}

/// An operator drains a worker; it stays drained if it reconnects.
pub(crate) fn drain(state: &mut State, now: Now, request: RequestId, name: Arc<str>, out: &mut Outcome) {
    let Some(&id) = state.names.get(&name) else {
        out.effects.push(Effect::Reply(request, Reply::Rejected(Rejection::NoWorker(name))));
        return;
    };
    let Some(worker) = state.workers.get_mut(&id) else { return };
    worker.draining = true;
    if let Some(session) = worker.session() {
        out.effects.push(Effect::Drain(session));
    }
    state.stir(id);
    let view = ask::worker_view(state, now, id);
    out.effects.push(Effect::Reply(request, Reply::Workers(view.into_iter().collect())));
}
