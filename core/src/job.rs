//! What a job asks for, as far as scheduling must know it. The program, its arguments and its input
//! are bytes that only pass through.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::id::{JobId, Millis};

/// The default for [`Policy::crash_limit`].
pub const CRASH_LIMIT: u32 = 3;

/// How the tasks of a job are scheduled. Equal policies are shared between jobs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// The queue's name.
    pub queue: Arc<str>,
    /// Higher goes first.
    pub priority: i32,
    /// What a worker must offer.
    pub shape: Shape,
    /// When to run a failed task again.
    pub retry: Retry,
    /// The most time one attempt may take. The worker enforces it; after `timeout + kill_grace + lease` without an
    /// outcome the coordinator takes the attempt as lost.
    pub timeout: Option<Millis>,
    /// Between TERM and KILL.
    pub kill_grace: Millis,
    /// After this many losses of its worker a task fails.
    pub crash_limit: u32,
    /// The most tasks of the job that run at once.
    pub max_parallel: Option<u32>,
    /// When more than this many tasks have failed, the rest is skipped.
    pub max_fails: Option<u32>,
    /// How long the ended job is kept; `None` = the coordinator's default.
    pub keep: Option<Millis>,
}

/// What a task occupies on a worker while it runs, and what the worker must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    /// The function that is called; `None`: a command is run.
    pub function: Option<Arc<str>>,
    /// Slots, at least 1. Of which kind depends on how the worker runs the function.
    pub slots: u32,
    /// Named resources.
    pub named: BTreeMap<Arc<str>, u64>,
    /// Labels that the worker must have.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// What of it the worker must be able to limit.
    pub limits: Limits,
}

/// What the kernel of a worker keeps within bounds. How narrow these are is between job and worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Limits {
    /// Memory.
    pub memory: bool,
    /// Processor time.
    pub cpu: bool,
    /// The number of processes.
    pub processes: bool,
}

impl Limits {
    /// Whether these are all that the others are.
    #[must_use]
    pub fn cover(self, others: Limits) -> bool {
        others.without(self) == Limits::default()
    }

    /// Those that are not among the others.
    #[must_use]
    pub fn without(self, others: Limits) -> Limits {
        Limits {
            memory: self.memory && !others.memory,
            cpu: self.cpu && !others.cpu,
            processes: self.processes && !others.processes,
        }
    }

    /// Those that are in either.
    #[must_use]
    pub fn and(self, others: Limits) -> Limits {
        Limits {
            memory: self.memory || others.memory,
            cpu: self.cpu || others.cpu,
            processes: self.processes || others.processes,
        }
    }
}

/// How a worker runs a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Runtime {
    /// On a thread of its own.
    Threads,
    /// On its event loop.
    Async,
    /// In a child process.
    Process,
}

/// The kinds of slots that a worker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotKind {
    /// For what keeps a core busy: commands, threads, child processes.
    Plain,
    /// For what mostly waits: calls on the event loop.
    Async,
}

impl Runtime {
    /// What a call takes while it runs.
    #[must_use]
    pub fn slot_kind(self) -> SlotKind {
        match self {
            Runtime::Threads | Runtime::Process => SlotKind::Plain,
            Runtime::Async => SlotKind::Async,
        }
    }
}

/// Exponential backoff with jitter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Retry {
    /// Runs that may fail before the task does; at least 1.
    pub max_attempts: u32,
    /// Before the second attempt.
    pub initial: Millis,
    /// Factor from one wait to the next, in thousandths.
    pub multiplier_milli: u32,
    /// The longest wait.
    pub max: Millis,
    /// The exit codes that are retried; empty = every failure.
    pub exit_codes: Vec<i32>,
}

/// A job as it enters.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// How to schedule it.
    pub policy: Policy,
    /// The number of elements, at least 1; indices are below it.
    pub total: u32,
    /// If set, only these elements are tasks (a rerun). Never empty.
    pub only: Option<RoaringBitmap>,
    /// The idempotency key with the digest of the payload that it stands for.
    pub key: Option<Key>,
    /// The job that this one runs again.
    pub rerun_of: Option<JobId>,
    /// The encoded specification; never looked into.
    pub spec: Bytes,
}

/// An idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The caller's text.
    pub text: Arc<str>,
    /// SHA-256 of the payload.
    pub digest: [u8; 32],
}

/// The phases that a task or job shows to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Paused, or its queue is.
    Blocked,
    /// Ready to run.
    Queued,
    /// Leased to a worker.
    Running,
    /// Waits for its next attempt.
    Backoff,
    /// Ended.
    Ended(End),
}

/// The terminal states. They are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// Exit code 0.
    Succeeded,
    /// Out of attempts, or over the crash limit.
    Failed,
    /// Cancelled before it ended by itself.
    Cancelled,
    /// The job's `max_fails` was reached before it started.
    Skipped,
}

/// How many tasks of a job are in which phase. The sum of all is the number of tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// Ready, whether blocked or not.
    pub queued: u32,
    /// Leased.
    pub running: u32,
    /// Between attempts.
    pub backoff: u32,
    /// Ended well.
    pub succeeded: u32,
    /// Ended badly.
    pub failed: u32,
    /// Cancelled.
    pub cancelled: u32,
    /// Skipped.
    pub skipped: u32,
}

impl Counts {
    /// All tasks.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.queued + self.running + self.backoff + self.ended()
    }

    /// The tasks that have ended.
    #[must_use]
    pub fn ended(&self) -> u32 {
        self.succeeded + self.failed + self.cancelled + self.skipped
    }

    /// The job's own end, once every task has ended: failed over cancelled over skipped over succeeded.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        let live = self.queued + self.running + self.backoff;
        match (live, self.failed, self.cancelled, self.skipped) {
            (1.., ..) => None,
            (_, 1.., ..) => Some(End::Failed),
            (_, _, 1.., _) => Some(End::Cancelled),
            (_, _, _, 1..) => Some(End::Skipped),
            _ => Some(End::Succeeded),
        }
    }
}
