//! What a step asks the shell to do: first every [`Write`] to the disk, then every [`Effect`] to the world.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::{
    event::{Held, Progress, Stream},
    id::{Attempt, Epoch, JobId, Lease, Millis, Rank, RequestId, SessionId, TaskId, WallTime, WorkerId},
    job::{Counts, End, Key, Limits, Phase, Policy, Runtime},
    overview::Overview,
};

/// The answer to one or many events.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// To be durable before any of the effects is seen. All of them or none.
    pub writes: Vec<Write>,
    /// In order.
    pub effects: Vec<Effect>,
}

/// One durable fact. Replaying all that are kept, in any order that respects `revision`s, gives the state back:
/// - `Submitted`, `Ended`, `Output`, `JobEnded` never change once written;
/// - `Epoch`, `Attempt`, `Job`, `Queue` are superseded by one of the same subject with a higher number (epoch, attempt, revision);
/// - `JobGone` ends everything about its job, `WorkerGone` everything about its worker; ids are never used again.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The coordinator has started for the n-th time.
    Epoch(Epoch),
    /// A job was accepted.
    Submitted(Submitted),
    /// An attempt of a task ended, and the task did not. Also written when a lease is given back or was never received.
    Attempt {
        /// The task.
        task: TaskId,
        /// The attempt that ended: the highest number used so far.
        attempt: Attempt,
        /// Failures so far.
        failures: u32,
        /// Losses so far.
        losses: u32,
        /// How long it waits before the next.
        delay: Millis,
        /// The encoded outcome; empty where there is none.
        detail: Bytes,
        /// Who ran it.
        worker: Option<Arc<str>>,
    },
    /// Tasks ended. More than one index only where none of them has a detail.
    Ended {
        /// The job.
        job: JobId,
        /// Which tasks. They take the ranks from `rank` on, in index order.
        indices: RoaringBitmap,
        /// The rank of the first.
        rank: Rank,
        /// How they ended.
        end: End,
        /// The last attempt; 0 if there was none.
        attempt: Attempt,
        /// The encoded outcome; empty where there is none.
        detail: Bytes,
        /// The blob that the outcome refers to, by its SHA-256: it is kept as long as the job.
        blob: Option<Box<[u8; 32]>>,
        /// Who ran it.
        worker: Option<Arc<str>>,
        /// When.
        wall: WallTime,
    },
    /// A job's own switches.
    Job {
        /// The job.
        job: JobId,
        /// Higher supersedes lower.
        revision: u64,
        /// It starts no further task.
        paused: bool,
        /// Running tasks whose cancel is intended and not yet done.
        cancelling: RoaringBitmap,
    },
    /// A job ended: its last task did.
    JobEnded {
        /// The job.
        job: JobId,
        /// How.
        counts: Counts,
        /// When its first task started, if one did.
        started: Option<WallTime>,
        /// When.
        wall: WallTime,
    },
    /// A job is forgotten.
    JobGone(JobId),
    /// A piece of output.
    Output {
        /// Whose.
        task: TaskId,
        /// Of which attempt.
        attempt: Attempt,
        /// Which stream.
        stream: Stream,
        /// Where in it. Pieces may repeat or overlap; readers go by offset.
        offset: u64,
        /// What.
        data: Bytes,
        /// Who ran it.
        worker: Arc<str>,
    },
    /// A queue's switches.
    Queue {
        /// Its name.
        name: Arc<str>,
        /// Higher supersedes lower.
        revision: u64,
        /// It starts no further task.
        paused: bool,
    },
    /// A worker may hold tasks from now on.
    WorkerSeen {
        /// Its incarnation.
        worker: WorkerId,
        /// Its name.
        name: Arc<str>,
    },
    /// A worker holds nothing any more.
    WorkerGone(WorkerId),
}

/// An accepted job.
#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    /// Its number.
    pub id: JobId,
    /// How to schedule it.
    pub policy: Arc<Policy>,
    /// Elements.
    pub total: u32,
    /// If set, only these are tasks.
    pub only: Option<RoaringBitmap>,
    /// The idempotency key.
    pub key: Option<Key>,
    /// The client's id of the submit call.
    pub repeat: Option<[u8; 16]>,
    /// Its place in that call, and how many jobs the call had.
    pub place: (u32, u32),
    /// The job that it runs again.
    pub rerun_of: Option<JobId>,
    /// When.
    pub wall: WallTime,
    /// The encoded specification.
    pub spec: Bytes,
}

/// One thing to do once the writes are durable.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Answer a caller.
    Reply(RequestId, Reply),
    /// Greet a worker: its session is accepted.
    Welcome {
        /// To whom.
        session: SessionId,
        /// What it must kill, because it belongs to somebody else or to nobody.
        abandon: Vec<Lease>,
    },
    /// Refuse a session and close it.
    Refuse(SessionId, Refusal),
    /// Hand tasks to a worker; neighbours with one attempt number travel together.
    Assign {
        /// To whom.
        session: SessionId,
        /// Which, with one attempt and epoch.
        unit: Unit,
    },
    /// Tell a worker to cancel (TERM, grace, KILL) and then report.
    Cancel(SessionId, Lease),
    /// Tell a worker to kill at once and report nothing.
    Abandon(SessionId, Lease),
    /// Everything of this session up to the message `seq` is durable.
    Committed {
        /// To whom.
        session: SessionId,
        /// Up to where.
        seq: u64,
    },
    /// Tell a worker to drain.
    Drain(SessionId),
    /// Close a session: it was superseded or has said goodbye.
    Close(SessionId),
}

/// Tasks of one job that are handed out together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The job.
    pub job: JobId,
    /// The attempt number, the same for all.
    pub attempt: Attempt,
    /// The epoch of the lease.
    pub epoch: Epoch,
    /// Ascending spans of (first index, how many).
    pub spans: Vec<(u32, u32)>,
}

/// Why a session is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A worker of this name is connected.
    NameTaken {
        /// The name.
        name: Arc<str>,
        /// The host of the one that has it.
        host: Arc<str>,
    },
    /// This incarnation was buried.
    Buried,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Ids in the order of the request; `repeated` if an earlier call did it.
    Submitted {
        /// The ids.
        ids: Vec<JobId>,
        /// Nothing new was stored.
        repeated: bool,
    },
    /// How many tasks were touched, and a remark ("already ended").
    Acted {
        /// Tasks.
        tasks: u32,
        /// Those of them that have not ended by it: they run, or may run, and are being stopped.
        stopping: u32,
        /// A remark, may be empty.
        note: &'static str,
    },
    /// A queue as it now is; for a purge, what was cancelled.
    Queue {
        /// The queue.
        queue: QueueView,
        /// Jobs purged.
        purged_jobs: u64,
        /// Tasks purged.
        purged_tasks: u64,
    },
    /// A live job.
    Job(JobView),
    /// Live jobs, newest first.
    Jobs(Vec<JobView>),
    /// Live tasks; `next` is the index to go on from, if any are left.
    Tasks {
        /// The tasks.
        tasks: Vec<TaskView>,
        /// Where to go on.
        next: Option<u32>,
    },
    /// Failed and cancelled tasks.
    Unsuccessful(RoaringBitmap),
    /// Why it is not running.
    Explanation {
        /// Its phase.
        phase: Phase,
        /// Every reason that holds.
        reasons: Vec<Reason>,
    },
    /// Workers.
    Workers(Vec<WorkerView>),
    /// Queues.
    Queues(Vec<QueueView>),
    /// Figures.
    Stats(Stats),
    /// All figures.
    Overview(Box<Overview>),
    /// A worker was buried; how many tasks it had.
    Buried(u32),
    /// The job is not live: the store knows whether it ended, was removed, or never was.
    NotLive(JobId),
    /// The request was refused and nothing changed.
    Rejected(Rejection),
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The idempotency key stands for another payload.
    #[error(
        "idempotency key {key:?} belongs to job {job} with another payload; use a new key, or the same payload"
    )]
    KeyTaken {
        /// The key.
        key: Arc<str>,
        /// The job that has it.
        job: JobId,
        /// Digest of the stored payload.
        stored: [u8; 32],
        /// Digest of the new payload.
        offered: [u8; 32],
    },
    /// Too much is queued.
    #[error("{what} limit of {limit} is reached; try again when some have ended")]
    Full {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The job has not ended.
    #[error("job {0} has not ended; cancel it first")]
    NotEnded(JobId),
    /// An index is not one of the job's tasks.
    #[error("job {job} has no task {index}")]
    NoTask {
        /// The job.
        job: JobId,
        /// The first wrong index.
        index: u32,
    },
    /// No worker has this name.
    #[error("no worker is named {0:?}; `taskq worker ls` lists them")]
    NoWorker(Arc<str>),
}

/// A live job, for people.
#[derive(Clone, Debug)]
pub struct JobView {
    /// Its number.
    pub id: JobId,
    /// How it is scheduled.
    pub policy: Arc<Policy>,
    /// Its phase.
    pub phase: Phase,
    /// Its tasks.
    pub counts: Counts,
    /// When it was submitted.
    pub submitted: WallTime,
    /// When its first task started.
    pub started: Option<WallTime>,
    /// It starts no further task.
    pub paused: bool,
    /// A cancel is under way.
    pub cancelling: bool,
    /// The job that it runs again.
    pub rerun_of: Option<JobId>,
    /// Rises with each change.
    pub revision: u64,
    /// The first reason why nothing of it runs; `None` if something does, or it has ended.
    pub reason: Option<Reason>,
    /// What the task that spoke last has said of itself, while it still runs, and which that is.
    pub progress: Option<(u32, Progress)>,
}

/// A task of a live job, for people.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// Its index.
    pub index: u32,
    /// Its phase.
    pub phase: Phase,
    /// Its current or last attempt.
    pub attempt: Attempt,
    /// Who runs it.
    pub worker: Option<Arc<str>>,
    /// The latest that it has said of itself.
    pub progress: Option<Progress>,
}

/// A worker, for people.
#[derive(Clone, Debug)]
pub struct WorkerView {
    /// Its incarnation.
    pub id: WorkerId,
    /// Its name.
    pub name: Arc<str>,
    /// Its host.
    pub host: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// Slots.
    pub slots: u32,
    /// Resources.
    pub named: BTreeMap<Arc<str>, u64>,
    /// Labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Calls on its event loop at once.
    pub async_slots: u32,
    /// What it can be called for.
    pub functions: BTreeMap<Arc<str>, Runtime>,
    /// It runs commands too.
    pub commands: bool,
    /// What it can limit.
    pub limits: Limits,
    /// Where it connects from.
    pub address: Arc<str>,
    /// Slots of either kind whose function goes on without a task.
    pub busy: u32,
    /// Its state.
    pub status: WorkerStatus,
    /// Tasks that hold slots.
    pub running: u32,
    /// Tasks that wait on it.
    pub waiting: u32,
    /// Since it was last heard.
    pub silent: Millis,
    /// Its tasks, at most 1,000.
    pub tasks: Vec<Held>,
}

/// The states of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerStatus {
    /// Connected.
    Online,
    /// Connected, takes nothing new.
    Draining,
    /// Its connection is lost, its lease is not over.
    Suspect,
    /// Known from before the restart, not yet back.
    Expected,
}

/// A queue, for people.
#[derive(Clone, Debug, Default)]
pub struct QueueView {
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
    /// Since the oldest live job that is not running was submitted, by the wall clock.
    pub oldest_wait: Millis,
}

/// Figures of the scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live jobs.
    pub jobs: u64,
    /// Queued tasks.
    pub queued: u64,
    /// Running tasks.
    pub running: u64,
    /// Tasks between attempts.
    pub backoff: u64,
    /// Connected workers.
    pub workers: u32,
    /// Their slots.
    pub slots: u32,
    /// Tasks ended since start.
    pub ended: u64,
    /// Reports refused by their token since start.
    pub stale: u64,
    /// Waits for workers known before the restart.
    pub recovering: bool,
    /// The next job gets this number.
    pub next_job: JobId,
    /// This start.
    pub epoch: Epoch,
}

/// Something that no connected worker offers enough of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Slots.
    Slots {
        /// What a task takes.
        wanted: u32,
        /// What the largest worker has.
        most: u32,
    },
    /// A named resource.
    Named {
        /// Its name.
        name: Arc<str>,
        /// What a task takes.
        wanted: u64,
        /// The most that a worker has.
        most: u64,
    },
    /// A label.
    Label {
        /// Its name.
        name: Arc<str>,
        /// The value that it must have.
        wanted: Arc<str>,
    },
    /// Async slots.
    AsyncSlots {
        /// What a task takes.
        wanted: u32,
        /// What the worker with most of them has.
        most: u32,
    },
    /// Leave to run commands.
    Commands,
    /// A kernel that keeps these limits.
    Limits(Limits),
    /// Each is offered, but not all by one worker.
    Together,
}

/// Why a task is not running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No worker is connected.
    NoWorkers,
    /// No connected worker serves this function.
    NoFunction(Arc<str>),
    /// Connected workers lack these things.
    DoesNotFit(Vec<Lack>),
    /// Its queue is paused.
    QueuePaused(Arc<str>),
    /// Its job is paused.
    JobPaused,
    /// The job runs as many as it may.
    MaxParallel(u32),
    /// It waits for its next attempt.
    Backoff(Millis),
    /// The coordinator restarted and waits for these workers, at most so long.
    Recovering(Vec<Arc<str>>, Millis),
    /// Every worker that fits is busy.
    SlotsBusy,
    /// So many tasks go first (a lower bound).
    Behind(u64),
}
