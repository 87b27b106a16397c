//! The types of the protocol, by the names that users of this crate see. Their fields are specified by the
//! comments of `jobs.proto` and `admin.proto`; enums are read by accessors such as `job.state()`.

use crate::JobId;
pub use taskq_proto::v1::Elements;
pub use taskq_proto::v1::{
    Acted, Blob, Call, Command, Counts, ExplainReply, Failure, Filter, Function, Job, JobSpec, JobTasks,
    Limit, Limits, LogChunk, Outcome, Progress, PurgeQueueReply as Purged, Queue, Range, Reason, Resources,
    Retry, Selection, Source, Span, State, StatsReply as Stats, Stream, Table, Task, TaskRef, Usage, Worker,
    failure, function, outcome, source, worker,
};
pub use taskq_proto::{STDIN_BYTES, VALUE_BYTES};

/// Whether nothing will change any more.
#[must_use]
pub fn is_terminal(state: State) -> bool {
    match state {
        State::Succeeded | State::Failed | State::Cancelled | State::Skipped | State::Expired => true,
        State::Unspecified | State::Blocked | State::Queued | State::Running | State::Backoff => false,
    }
}

/// The states that a job or task can be in, in the order in which they come.
pub const STATES: [State; 8] = [
    State::Blocked,
    State::Queued,
    State::Running,
    State::Backoff,
    State::Succeeded,
    State::Failed,
    State::Cancelled,
    State::Skipped,
];

/// The word for a state: what people read and type, and what is written into files.
#[must_use]
pub fn state_word(state: State) -> &'static str {
    match state {
        State::Unspecified => "unknown",
        State::Blocked => "blocked",
        State::Queued => "queued",
        State::Running => "running",
        State::Backoff => "backoff",
        State::Succeeded => "succeeded",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
        State::Skipped => "skipped",
        State::Expired => "expired",
    }
}

/// Whole jobs, to be acted on.
#[must_use]
pub fn select(ids: impl IntoIterator<Item = JobId>) -> Selection {
    let jobs = ids.into_iter().map(|id| JobTasks { job_id: id.0, indices: Vec::new() }).collect();
    Selection { jobs, filter: None }
}
