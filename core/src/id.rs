//! Newtypes for every number that crosses a function, so that two of them cannot be mixed up.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A job's number: rises by one with each accepted job of a store, from 1.
    JobId(u64)
);
number!(
    /// The number of an attempt of one task, from 1; 0 means none yet.
    Attempt(u32)
);
number!(
    /// Rises with each start of the coordinator.
    Epoch(u64)
);
number!(
    /// One connection of one worker: rises with each that is opened in a run of the coordinator.
    SessionId(u64)
);
number!(
    /// One worker process: random, chosen by the worker, never 0.
    WorkerId(u64)
);
number!(
    /// Names the caller who waits for a [`Reply`](crate::effect::Reply); chosen by the shell.
    RequestId(u64)
);
number!(
    /// Milliseconds of the coordinator's monotonic clock.
    Timestamp(u64)
);
number!(
    /// Milliseconds since the Unix epoch; only for display.
    WallTime(u64)
);
number!(
    /// A span of time in milliseconds.
    Millis(u64)
);
number!(
    /// The place of an ended task in its job's order of ends, from 0.
    Rank(u64)
);

/// One task: an element of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The job.
    pub job: JobId,
    /// The element's number, from 0.
    pub index: u32,
}

/// What a report must present to be accepted, but for the worker, which its session knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
    /// The coordinator start in which the lease was given.
    pub epoch: Epoch,
}

/// The two clocks as the shell read them for this event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Decides.
    pub mono: Timestamp,
    /// Is shown.
    pub wall: WallTime,
}

impl WorkerId {
    /// Stands for all workers that ran something after a backup was taken, of which a restored store knows nothing. A
    /// restore puts it among the workers that are expected back, and it never comes.
    pub const AFTER_BACKUP: WorkerId = WorkerId(u64::MAX);
}

impl Timestamp {
    /// This moment plus a span, without overflow.
    #[must_use]
    pub fn after(self, span: Millis) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }

    /// The span from `earlier` to this moment, 0 if that is in the future.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}
