//! What is shown of jobs, tasks, workers and queues: the fields of the JSON schemas `taskq.v1.*` and the columns of the
//! tables. A field of a schema may be added, but never changes its meaning or goes away within `v1`.

mod job;
mod queue;
mod shown;
mod task;
mod worker;

pub(crate) use job::JobView;
pub(crate) use queue::QueueView;
pub(crate) use shown::Shown;
pub(crate) use task::{OutcomeView, ProgressView, TaskView, took};
pub(crate) use worker::WorkerView;

/// Times that have not come yet are `null`.
fn some_time(unix_ms: u64) -> Option<u64> {
    (unix_ms > 0).then_some(unix_ms)
}
