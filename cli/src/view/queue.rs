//! A queue: its row in `taskq queue ls`, its JSON.

use serde::Serialize;
use taskq_client::model::Queue;

use crate::output::{Column, View};
use crate::text;

/// A queue, as in `taskq queue ls`.
#[derive(Serialize)]
pub(crate) struct QueueView {
    name: String,
    paused: bool,
    jobs: u64,
    queued: u64,
    running: u64,
    oldest_wait_ms: u64,
}

impl From<Queue> for QueueView {
    fn from(queue: Queue) -> QueueView {
        QueueView {
            name: queue.name,
            paused: queue.paused,
            jobs: queue.jobs,
            queued: queue.tasks_queued,
            running: queue.tasks_running,
            oldest_wait_ms: queue.oldest_wait_ms,
        }
    }
}

impl View for QueueView {
    const SCHEMA: &'static str = "taskq.v1.queues";
    const COLUMNS: &'static [Column] = &[
        Column::flexible("NAME", 0),
        Column::text("STATE", 0),
        Column::number("JOBS", 2),
        Column::number("QUEUED", 1),
        Column::number("RUNNING", 1),
        Column::number("OLDEST", 3),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            if self.paused { "paused" } else { "open" }.to_owned(),
            self.jobs.to_string(),
            self.queued.to_string(),
            self.running.to_string(),
            text::age(self.oldest_wait_ms),
        ]
    }

    fn id(&self) -> String {
        self.name.clone()
    }
}
