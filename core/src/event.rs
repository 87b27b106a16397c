//! Everything that can happen to the scheduler. The shell makes these from requests, streams and the clock.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::{
    id::{Attempt, JobId, Lease, Millis, RequestId, SessionId, TaskId, WorkerId},
    job::{Limits, NewJob, Runtime},
};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client submits jobs, all or none. Reply: `Submitted`.
    Submit {
        /// Who waits.
        request: RequestId,
        /// The client's id of this call: a repeat gets the first answer. Remembered for [`REPEAT_WINDOW`].
        repeat: Option<[u8; 16]>,
        /// At least one.
        jobs: Vec<NewJob>,
    },
    /// A client changes one job. Reply: `Acted`.
    Act {
        /// Who waits.
        request: RequestId,
        /// The job.
        job: JobId,
        /// What to do with it.
        act: Act,
        /// Only say what it would do.
        dry_run: bool,
    },
    /// A client changes a queue. Reply: `Queue`.
    Queue {
        /// Who waits.
        request: RequestId,
        /// The queue's name.
        name: Arc<str>,
        /// What to do with it.
        act: QueueAct,
    },
    /// A client waits for a job's end, until `timeout`. Reply: `Job`, or `NotLive`.
    Wait {
        /// Who waits.
        request: RequestId,
        /// For which job.
        job: JobId,
        /// How long at most.
        timeout: Millis,
    },
    /// A client asks. The answer is made from the state as it is now, and said after all earlier writes are durable.
    Ask {
        /// Who waits.
        request: RequestId,
        /// What for.
        question: Question,
    },
    /// A worker opened a session.
    Hello {
        /// The new session.
        session: SessionId,
        /// Who it is.
        worker: WorkerHello,
    },
    /// A worker reports. Acknowledged by `Effect::Committed` once the writes are durable.
    Reports {
        /// Its session.
        session: SessionId,
        /// The message's number in the session.
        seq: u64,
        /// What it reports, in order.
        reports: Vec<Report>,
    },
    /// A worker is alive. Any other event of its session says the same.
    Heartbeat {
        /// Its session.
        session: SessionId,
        /// The message's number in the session.
        seq: u64,
        /// It takes nothing new, and it stays so.
        draining: bool,
    },
    /// So many of a worker's slots have lost their tasks (cancelled, timed out) and not their functions. As it is now.
    Busy {
        /// Its session.
        session: SessionId,
        /// Plain slots.
        plain: u32,
        /// Async slots.
        r#async: u32,
    },
    /// A drained worker leaves for good.
    Goodbye {
        /// Its session.
        session: SessionId,
        /// The message's number in the session.
        seq: u64,
    },
    /// A session's connection is gone.
    Disconnected {
        /// Which.
        session: SessionId,
    },
    /// A worker process is dead and all that it ran is gone. Reply: `Buried`.
    Bury {
        /// Who waits.
        request: RequestId,
        /// Who died.
        worker: WorkerId,
    },
    /// An operator drains a worker by name. Reply: `Workers` with that worker, or `NotFound`.
    Drain {
        /// Who waits.
        request: RequestId,
        /// The worker's name.
        name: Arc<str>,
    },
    /// Retention: these ended jobs are to be forgotten. Written as `JobGone`; their keys are free again.
    Forget {
        /// Which.
        jobs: Vec<JobId>,
    },
    /// `State::next_deadline` has come.
    Tick,
}

/// How long a repeated request id gets the first answer.
pub const REPEAT_WINDOW: Millis = Millis(120_000);

/// A change of one job.
#[derive(Clone, Debug)]
pub enum Act {
    /// Cancel these tasks, or all.
    Cancel(Option<RoaringBitmap>),
    /// Start no further task.
    Pause,
    /// Undo `Pause`.
    Resume,
    /// Forget an ended job.
    Remove,
}

/// A change of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueAct {
    /// Start no further task of it.
    Pause,
    /// Undo `Pause`.
    Resume,
    /// Cancel every task that has not started.
    Purge {
        /// Only count them.
        dry_run: bool,
    },
}

/// A question about the live state.
#[derive(Clone, Debug)]
pub enum Question {
    /// One live job. Reply: `Job`, or `NotLive`.
    Job(JobId),
    /// Live jobs with an id below `before` (or all), newest first, at most `limit`. Reply: `Jobs`.
    Jobs {
        /// Exclusive upper end.
        before: Option<JobId>,
        /// Only this queue.
        queue: Option<Arc<str>>,
        /// At most this many.
        limit: usize,
    },
    /// Live tasks of one job with index >= `from`, in order, at most `limit`; ended ones carry no detail. Reply: `Tasks`, or `NotLive`.
    Tasks {
        /// The job.
        job: JobId,
        /// The first index.
        from: u32,
        /// At most this many.
        limit: usize,
    },
    /// Which of a job's tasks failed or were cancelled. Reply: `Unsuccessful`, or `NotLive`.
    Unsuccessful(JobId),
    /// Why is it not running? Reply: `Explanation`, or `NotLive`.
    Explain(JobId, Option<u32>),
    /// Workers, all or by name. Reply: `Workers`.
    Workers(Option<Arc<str>>),
    /// Every queue. Reply: `Queues`.
    Queues,
    /// Figures. Reply: `Stats`.
    Stats,
    /// All figures, of at most so many queues and workers one by one. Reply: `Overview`.
    Overview {
        /// Queues.
        queues: usize,
        /// Workers.
        workers: usize,
    },
}

/// Who a worker says it is.
#[derive(Clone, Debug)]
pub struct WorkerHello {
    /// Its incarnation.
    pub id: WorkerId,
    /// Its name.
    pub name: Arc<str>,
    /// Its host, for display.
    pub host: Arc<str>,
    /// Its version, for display.
    pub version: Arc<str>,
    /// Slots, at least 1.
    pub slots: u32,
    /// Resources.
    pub named: BTreeMap<Arc<str>, u64>,
    /// Labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Calls of async functions that it runs at once, beside the slots.
    pub async_slots: u32,
    /// Of its slots, how many are busy without a task (see [`Event::Busy`]).
    pub busy: u32,
    /// Of its async slots.
    pub async_busy: u32,
    /// What it can be called for.
    pub functions: BTreeMap<Arc<str>, Runtime>,
    /// It runs commands too.
    pub commands: bool,
    /// What it can limit.
    pub limits: Limits,
    /// Where it connects from, for display.
    pub address: Arc<str>,
    /// The most tasks it takes, running and waiting; at least `slots`.
    pub window: u32,
    /// What it still holds: running, waiting, or ended and not yet confirmed.
    pub held: Vec<Lease>,
    /// It takes nothing new, and it stays so.
    pub draining: bool,
}

/// What a worker says of one attempt.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which attempt.
    pub lease: Lease,
    /// What of it.
    pub what: ReportKind,
}

/// The kinds of report.
#[derive(Clone, Debug)]
pub enum ReportKind {
    /// It started.
    Started,
    /// It wrote something.
    Output {
        /// Which stream.
        stream: Stream,
        /// Where in it.
        offset: u64,
        /// What.
        data: Bytes,
    },
    /// It ended.
    Ended {
        /// How, as far as scheduling must know.
        verdict: Verdict,
        /// Wall time of the attempt.
        wall_us: u64,
        /// The encoded outcome; never looked into.
        detail: Bytes,
        /// The blob that the outcome refers to, by its SHA-256.
        blob: Option<Box<[u8; 32]>>,
        /// The output that came with it. A last attempt's is read from its outcome; one that is followed by another
        /// is written like output that came before, so that readers see it where it belongs.
        last_output: Vec<LastOutput>,
    },
    /// It was given back before it started.
    Returned,
    /// How far it has come, in its own words. Nobody writes it down.
    Progress(Progress),
}

/// How far a call has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// 0 to 1.
    pub fraction: f64,
    /// For people.
    pub note: Arc<str>,
}

/// The last piece of a stream of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastOutput {
    /// Which stream.
    pub stream: Stream,
    /// Where in the stream it begins, in bytes.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
}

/// An output stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Exit code 0.
    Succeeded,
    /// Everything else that the program did; `exit_code` as a shell would show it (128 + signal, 124 timeout, 126, 127).
    Failed {
        /// For [`Retry::exit_codes`](crate::job::Retry::exit_codes).
        exit_code: i32,
        /// Another attempt would fail as well: there is none.
        fatal: bool,
    },
    /// It was stopped because of a cancel.
    Cancelled,
    /// The worker could not run it, through no fault of the task: no attempt is charged, it goes elsewhere after a short wait.
    Rejected,
    /// The process was lost with the worker's spawner; counts against the crash limit.
    Lost,
}

/// A task's place and attempt, for views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
}
