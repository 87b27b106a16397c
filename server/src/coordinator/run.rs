//! The loop: events in, batches out. The only owner of the core's state.

use taskq_core::{State, effect::Outcome, event::Event};
use tokio::{sync::watch, time::Instant};

use crate::{
    clock::Clock,
    coordinator::{Inbox, commit::Commits},
};

/// One sync's worth of work: large enough to share the disk's latency, small enough to answer soon.
const BATCH: usize = 4_096;

/// Steps until `stopping` turns true, every handle is gone, or the commit thread has ended. While one batch is on its way
/// to the disk, what arrives goes into the next: who waits for a sync waits for the one under way and for one more.
pub async fn run(
    clock: Clock,
    mut state: State,
    mut inbox: Inbox,
    commits: Commits,
    mut stopping: watch::Receiver<bool>,
) {
    let mut out = Outcome::default();
    let mut over = false;
    while !over {
        let size = out.writes.len() + out.effects.len();
        // Cancel-safe: an event that loses was not taken, nor was a turn.
        tokio::select! {
            biased;
            free = commits.free(), if size > 0 => {
                if free.and_then(|()| commits.send(std::mem::take(&mut out))).is_err() {
                    return;
                }
            }
            event = next(&clock, &state, &mut inbox, &mut stopping), if size < BATCH => match event {
                Some(event) => take_in(&clock, &mut state, &mut inbox, event, &mut out),
                None => over = true,
            },
        }
    }
    // What was decided is said, or nobody is there to hear it.
    if (!out.writes.is_empty() || !out.effects.is_empty()) && commits.free().await.is_ok() {
        let _ended = commits.send(out);
    }
}

/// An event, and those that are there already.
fn take_in(clock: &Clock, state: &mut State, inbox: &mut Inbox, event: Event, out: &mut Outcome) {
    state.step(clock.now(), event, out);
    while out.writes.len() + out.effects.len() < BATCH {
        let Some(event) = ready(inbox) else { break };
        state.step(clock.now(), event, out);
    }
}

/// The next event, or a tick when the state's deadline comes; `None` at the end.
async fn next(
    clock: &Clock,
    state: &State,
    inbox: &mut Inbox,
    stopping: &mut watch::Receiver<bool>,
) -> Option<Event> {
    let deadline = state.next_deadline().map(|at| Instant::from_std(clock.instant(at)));
    let tick = async {
        match deadline {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    // Cancel-safe: a receive that loses has taken nothing.
    tokio::select! {
        biased;
        _ = stopping.wait_for(|stopping| *stopping) => None,
        event = inbox.workers.recv() => event,
        event = inbox.clients.recv() => event,
        () = tick => Some(Event::Tick),
    }
}

/// An event that is there already; workers first.
fn ready(inbox: &mut Inbox) -> Option<Event> {
    inbox.workers.try_recv().or_else(|_| inbox.clients.try_recv()).ok()
}
