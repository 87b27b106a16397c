//! All figures of the scheduler at one moment, for who watches it. Bounded work, however much there is: only so many
//! queues and workers are told one by one, and only so many jobs are looked at.

use std::sync::Arc;

use crate::{
    effect::{Stats, WorkerStatus},
    id::{Millis, Now, SessionId},
    job::SlotKind,
    queues::Queue,
    state::State,
    step::ask,
    tally::{Ends, Tally},
    worker::Worker,
};

/// Jobs that are looked at for those that wait longest, of all queues together.
const LOOKS: usize = 20_000;
/// The same, of one queue.
const LOOKS_EACH: usize = 1_000;

/// Figures at one moment.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Sums.
    pub stats: Stats,
    /// Counters since the start.
    pub tally: Tally,
    /// Queues in order of name, as many as were asked for.
    pub queues: Vec<QueueFigures>,
    /// How many there are.
    pub all_queues: usize,
    /// Workers in order of name, as many as were asked for.
    pub workers: Vec<WorkerFigures>,
    /// How many there are, by status.
    pub all_workers: Statuses,
    /// Slots of those that are connected.
    pub plain: SlotFigures,
    /// Their async slots.
    pub r#async: SlotFigures,
}

/// Workers by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statuses {
    /// See [`WorkerStatus::Online`].
    pub online: u64,
    /// See [`WorkerStatus::Draining`].
    pub draining: u64,
    /// See [`WorkerStatus::Suspect`].
    pub suspect: u64,
    /// See [`WorkerStatus::Expected`].
    pub expected: u64,
}

/// One queue.
#[derive(Clone, Debug)]
pub struct QueueFigures {
    /// Its name.
    pub name: Arc<str>,
    /// It starts no further task.
    pub paused: bool,
    /// Live jobs.
    pub jobs: u64,
    /// Queued tasks.
    pub queued: u64,
    /// Running tasks.
    pub running: u64,
    /// Tasks between attempts.
    pub backoff: u64,
    /// Since the oldest live job of which nothing runs was submitted, by the wall clock. Behind very many jobs that run it
    /// is not looked for to the end: then no more than this.
    pub oldest_wait: Millis,
    /// Tasks taken in since it is known.
    pub submitted: u64,
    /// Attempts handed out since.
    pub started: u64,
    /// Tasks that ended since.
    pub ended: Ends,
}

/// One worker.
#[derive(Clone, Debug)]
pub struct WorkerFigures {
    /// Its name.
    pub name: Arc<str>,
    /// Its host, as it says.
    pub host: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// Its open session.
    pub session: Option<SessionId>,
    /// Its slots.
    pub plain: SlotFigures,
    /// Its async slots.
    pub r#async: SlotFigures,
    /// Tasks that hold slots.
    pub running: u64,
    /// Tasks that wait on it.
    pub waiting: u64,
    /// Since it was last heard.
    pub silent: Millis,
}

/// Slots of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotFigures {
    /// All of them.
    pub offered: u64,
    /// Those that are taken, or go on without a task.
    pub busy: u64,
}

impl SlotFigures {
    fn of(worker: &Worker, kind: SlotKind) -> SlotFigures {
        let (plain, r#async) = worker.free();
        let free = match kind {
            SlotKind::Plain => plain,
            SlotKind::Async => r#async,
        };
        let offered = u64::from(worker.offers(kind));
        SlotFigures { offered, busy: offered.saturating_sub(u64::try_from(free).unwrap_or(0)) }
    }

    fn add(&mut self, other: SlotFigures) {
        self.offered += other.offered;
        self.busy += other.busy;
    }
}

pub(crate) fn overview(state: &State, now: Now, queues: usize, workers: usize) -> Overview {
    let looks = (LOOKS / state.queues.len().clamp(1, queues.max(1))).min(LOOKS_EACH);
    let mut all_workers = Statuses::default();
    let (mut plain, mut r#async) = (SlotFigures::default(), SlotFigures::default());
    for worker in state.workers.values() {
        *match ask::status(worker) {
            WorkerStatus::Online => &mut all_workers.online,
            WorkerStatus::Draining => &mut all_workers.draining,
            WorkerStatus::Suspect => &mut all_workers.suspect,
            WorkerStatus::Expected => &mut all_workers.expected,
        } += 1;
        if worker.session().is_some() {
            plain.add(SlotFigures::of(worker, SlotKind::Plain));
            r#async.add(SlotFigures::of(worker, SlotKind::Async));
        }
    }
    all_workers.expected += state.recovery.as_ref().map_or(0, |recovery| recovery.expected.len() as u64);
    let named = state.names.values().filter_map(|id| state.workers.get(id));
    Overview {
        stats: ask::stats(state),
        tally: state.tally,
        queues: state
            .queues
            .iter()
            .take(queues)
            .map(|id| queue_figures(state, now, state.queues.get(id), looks))
            .collect(),
        all_queues: state.queues.len(),
        workers: named.take(workers).map(|worker| worker_figures(now, worker)).collect(),
        all_workers,
        plain,
        r#async,
    }
}

fn queue_figures(state: &State, now: Now, queue: &Queue, looks: usize) -> QueueFigures {
    let mut oldest = None;
    for (seen, id) in queue.jobs.iter().enumerate() {
        let Some(job) = state.jobs.get(id) else { continue };
        if job.counts().running == 0 || seen >= looks {
            oldest = Some(job.submitted);
            break;
        }
    }
    QueueFigures {
        name: queue.name.clone(),
        paused: queue.paused,
        jobs: queue.jobs.len() as u64,
        queued: queue.queued,
        running: queue.running,
        backoff: queue.backoff,
        oldest_wait: Millis(oldest.map_or(0, |submitted| now.wall.0.saturating_sub(submitted.0))),
        submitted: queue.tally.submitted,
        started: queue.tally.started,
        ended: queue.tally.ended,
    }
}

fn worker_figures(now: Now, worker: &Worker) -> WorkerFigures {
    let waiting = worker.waiting() as u64;
    WorkerFigures {
        name: worker.hello.name.clone(),
        host: worker.hello.host.clone(),
        version: worker.hello.version.clone(),
        session: worker.session(),
        plain: SlotFigures::of(worker, SlotKind::Plain),
        r#async: SlotFigures::of(worker, SlotKind::Async),
        running: worker.held() as u64 - waiting,
        waiting,
        silent: now.mono.since(worker.heard),
    }
}
