//! The loop: events in, batches out. The only owner of the core's state.

use std::sync::mpsc::SyncSender;

use taskq_core::{State, effect::Outcome, event::Event};
use tokio::{sync::watch, time::Instant};

use crate::{clock::Clock, coordinator::Inbox};

/// One sync's worth of work: large enough to share the disk's latency, small enough to answer soon.
const BATCH: usize = 4_096;

/// Steps until `stopping` turns true, every handle is gone, or the commit thread has ended. Blocks on `commits` while the
/// disk is behind: what arrives meanwhile makes the next batch larger.
pub async fn run(
    clock: Clock,
    mut state: State,
    mut inbox: Inbox,
    commits: SyncSender<Outcome>,
    mut stopping: watch::Receiver<bool>,
) {
    while let Some(first) = next(&clock, &state, &mut inbox, &mut stopping).await {
        let mut out = Outcome::default();
        state.step(clock.now(), first, &mut out);
        while out.writes.len() + out.effects.len() < BATCH {
            let Some(event) = ready(&mut inbox) else { break };
            state.step(clock.now(), event, &mut out);
        }
        if out.writes.is_empty() && out.effects.is_empty() {
            continue;
        }
        if commits.send(out).is_err() {
            return;
        }
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
