//! What is shown of jobs, tasks, workers and queues: the fields of the JSON schemas `taskq.v1.*` and the columns of the
//! tables. A field of a schema may be added, but never changes its meaning or goes away within `v1`.

use std::collections::BTreeMap;

use serde::Serialize;
use taskq_client::model::{Counts, Job, Outcome, Queue, State, Task, Worker, outcome, worker};

use crate::clock::UnixMs;
use crate::output::{Column, View};
use crate::{text, words};

/// The word for a state.
pub(crate) fn state_word(state: State) -> &'static str {
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

/// Times that have not come yet are `null`.
fn some_time(unix_ms: u64) -> Option<u64> {
    (unix_ms > 0).then_some(unix_ms)
}

#[derive(Serialize)]
pub(crate) struct CountsView {
    total: u32,
    queued: u32,
    running: u32,
    backoff: u32,
    succeeded: u32,
    failed: u32,
    cancelled: u32,
    skipped: u32,
}

impl From<&Counts> for CountsView {
    fn from(counts: &Counts) -> CountsView {
        CountsView {
            total: counts.total,
            queued: counts.queued,
            running: counts.running,
            backoff: counts.backoff,
            succeeded: counts.succeeded,
            failed: counts.failed,
            cancelled: counts.cancelled,
            skipped: counts.skipped,
        }
    }
}

/// A job, as in `taskq ls`.
#[derive(Serialize)]
pub(crate) struct JobView {
    id: u64,
    name: String,
    queue: String,
    state: &'static str,
    counts: CountsView,
    priority: i32,
    labels: BTreeMap<String, String>,
    command: Vec<String>,
    shell: bool,
    cwd: String,
    submitted_unix_ms: u64,
    started_unix_ms: Option<u64>,
    ended_unix_ms: Option<u64>,
    paused: bool,
    cancelling: bool,
    rerun_of: Option<u64>,
    reason: String,
    #[serde(skip)]
    age_ms: u64,
}

impl JobView {
    pub(crate) fn new(job: Job, now: UnixMs) -> JobView {
        let state = state_word(job.state());
        let spec = job.spec.unwrap_or_default();
        let command = spec.command.unwrap_or_default();
        JobView {
            id: job.id,
            name: spec.name,
            queue: spec.queue,
            state,
            counts: CountsView::from(&job.counts.unwrap_or_default()),
            priority: spec.priority,
            labels: spec.labels.into_iter().collect(),
            command: command.argv,
            shell: command.shell,
            cwd: command.cwd,
            submitted_unix_ms: job.submitted_unix_ms,
            started_unix_ms: some_time(job.started_unix_ms),
            ended_unix_ms: some_time(job.ended_unix_ms),
            paused: job.paused,
            cancelling: job.cancelling,
            rerun_of: some_time(job.rerun_of),
            reason: job.reason,
            age_ms: now.since(UnixMs(job.submitted_unix_ms)),
        }
    }

    fn done(&self) -> u32 {
        self.counts.succeeded + self.counts.failed + self.counts.cancelled + self.counts.skipped
    }

    /// Everything, for `taskq show`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("job {}  {}  {}", self.id, text::visible(&self.name), self.state)];
        let mut add =
            |title: &str, value: String| lines.push(format!("  {title:<10} {}", text::visible(&value)));
        let command = words::join(self.command.iter().map(String::as_str));
        add("command", if self.shell { format!("sh -c {command}") } else { command });
        add("directory", self.cwd.clone());
        add("queue", format!("{}  priority {}", self.queue, self.priority));
        if !self.labels.is_empty() {
            let pairs: Vec<String> =
                self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            add("labels", pairs.join("  "));
        }
        let counts = &self.counts;
        add(
            "tasks",
            format!(
                "{} of {} ended: {} succeeded, {} failed, {} cancelled, {} skipped; {} running, {} queued, {} backing off",
                self.done(),
                counts.total,
                counts.succeeded,
                counts.failed,
                counts.cancelled,
                counts.skipped,
                counts.running,
                counts.queued,
                counts.backoff
            ),
        );
        add(
            "submitted",
            format!("{} UTC, {} ago", text::time(self.submitted_unix_ms), text::age(self.age_ms)),
        );
        add("started", text::time(self.started_unix_ms.unwrap_or(0)));
        add("ended", text::time(self.ended_unix_ms.unwrap_or(0)));
        if let Some(id) = self.rerun_of {
            add("rerun of", format!("job {id}"));
        }
        if self.paused {
            add("paused", format!("yes; resume with: taskq resume {}", self.id));
        }
        if self.cancelling {
            add("cancelling", "yes; what runs is being stopped".to_owned());
        }
        if !self.reason.is_empty() {
            add("reason", self.reason.clone());
        }
        lines
    }
}

impl View for JobView {
    const SCHEMA: &'static str = "taskq.v1.jobs";
    const COLUMNS: &'static [Column] = &[
        Column::number("ID", 0),
        Column::flexible("NAME", 5),
        Column::flexible("QUEUE", 6),
        Column::text("STATE", 0),
        Column::number("DONE/TOTAL", 3),
        Column::number("FAIL", 4),
        Column::number("AGE", 7),
        Column::flexible("REASON", 8),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.queue.clone(),
            self.state.to_owned(),
            format!("{}/{}", self.done(), self.counts.total),
            self.counts.failed.to_string(),
            text::age(self.age_ms),
            self.reason.clone(),
        ]
    }

    fn id(&self) -> String {
        self.id.to_string()
    }
}

/// How an attempt ended.
#[derive(Serialize)]
pub(crate) struct OutcomeView {
    kind: &'static str,
    attempt: u32,
    worker: String,
    exit_code: Option<i32>,
    signal: Option<i32>,
    message: String,
    started_unix_ms: Option<u64>,
    ended_unix_ms: Option<u64>,
    wall_us: u64,
    user_us: u64,
    system_us: u64,
    peak_rss_bytes: u64,
    out_of_memory: bool,
    stdout_bytes: u64,
    stderr_bytes: u64,
}

impl From<&Outcome> for OutcomeView {
    fn from(outcome: &Outcome) -> OutcomeView {
        use outcome::Kind;
        let kind = outcome.kind();
        let has_code = matches!(kind, Kind::Exited | Kind::CannotExecute);
        let usage = outcome.usage.unwrap_or_default();
        OutcomeView {
            kind: match kind {
                Kind::Unspecified => "unknown",
                Kind::Exited => "exited",
                Kind::Signaled => "signaled",
                Kind::TimedOut => "timed_out",
                Kind::Cancelled => "cancelled",
                Kind::CannotExecute => "cannot_execute",
                Kind::WorkerLost => "worker_lost",
                Kind::Skipped => "skipped",
                Kind::Rejected => "rejected",
            },
            attempt: outcome.attempt,
            worker: outcome.worker.clone(),
            exit_code: has_code.then_some(outcome.exit_code),
            signal: (outcome.signal != 0).then_some(outcome.signal),
            message: outcome.message.clone(),
            started_unix_ms: some_time(outcome.started_unix_ms),
            ended_unix_ms: some_time(outcome.ended_unix_ms),
            wall_us: usage.wall_us,
            user_us: usage.user_us,
            system_us: usage.system_us,
            peak_rss_bytes: usage.peak_rss_bytes,
            out_of_memory: outcome.out_of_memory,
            stdout_bytes: outcome.stdout_bytes,
            stderr_bytes: outcome.stderr_bytes,
        }
    }
}

/// A task, as in `taskq tasks`.
#[derive(Serialize)]
pub(crate) struct TaskView {
    job: u64,
    index: u32,
    state: &'static str,
    attempt: u32,
    worker: String,
    outcome: Option<OutcomeView>,
    earlier: Vec<OutcomeView>,
    #[serde(skip)]
    end: String,
}

impl TaskView {
    pub(crate) fn new(task: &Task) -> TaskView {
        TaskView {
            job: task.job_id,
            index: task.index,
            state: state_word(task.state()),
            attempt: task.attempt,
            worker: task.worker.clone(),
            outcome: task.outcome.as_ref().map(OutcomeView::from),
            earlier: task.earlier.iter().map(OutcomeView::from).collect(),
            end: task.outcome.as_ref().map(crate::verdict::how).unwrap_or_default(),
        }
    }

    /// Everything, for `taskq show 42.7`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines =
            vec![format!("task {}.{}  {}  {}", self.job, self.index, self.state, text::visible(&self.end))];
        for outcome in self.earlier.iter().chain(&self.outcome) {
            lines.push(format!(
                "  attempt {} on {}: {}  started {}  took {}  cpu {}  memory {}  stdout {}  stderr {}",
                outcome.attempt,
                text::visible(if outcome.worker.is_empty() { "-" } else { &outcome.worker }),
                outcome.kind,
                text::time(outcome.started_unix_ms.unwrap_or(0)),
                text::duration(outcome.wall_us / 1_000),
                text::duration((outcome.user_us + outcome.system_us) / 1_000),
                text::size(outcome.peak_rss_bytes),
                text::size(outcome.stdout_bytes),
                text::size(outcome.stderr_bytes),
            ));
            if !outcome.message.is_empty() {
                lines.push(format!("    {}", text::visible(&outcome.message)));
            }
        }
        lines
    }
}

impl View for TaskView {
    const SCHEMA: &'static str = "taskq.v1.tasks";
    const COLUMNS: &'static [Column] = &[
        Column::number("TASK", 0),
        Column::text("STATE", 0),
        Column::number("ATTEMPT", 4),
        Column::flexible("WORKER", 3),
        Column::number("TIME", 2),
        Column::flexible("END", 1),
    ];

    fn cells(&self) -> Vec<String> {
        let took = self.outcome.as_ref().map(|outcome| text::duration(outcome.wall_us / 1_000));
        vec![
            self.id(),
            self.state.to_owned(),
            self.attempt.to_string(),
            self.worker.clone(),
            took.unwrap_or_default(),
            self.end.clone(),
        ]
    }

    fn id(&self) -> String {
        format!("{}.{}", self.job, self.index)
    }
}

/// A worker, as in `taskq worker ls`.
#[derive(Serialize)]
pub(crate) struct WorkerView {
    name: String,
    host: String,
    status: &'static str,
    slots: u32,
    running: u32,
    waiting: u32,
    resources: BTreeMap<String, u64>,
    labels: BTreeMap<String, String>,
    version: String,
    last_seen_ms_ago: u64,
    tasks: Vec<String>,
}

impl From<Worker> for WorkerView {
    fn from(worker: Worker) -> WorkerView {
        let status = match worker.status() {
            worker::Status::Unspecified => "unknown",
            worker::Status::Online => "online",
            worker::Status::Draining => "draining",
            worker::Status::Suspect => "suspect",
            worker::Status::Expected => "expected",
        };
        WorkerView {
            name: worker.name,
            host: worker.host,
            status,
            slots: worker.slots,
            running: worker.running,
            waiting: worker.waiting,
            resources: worker.named.into_iter().collect(),
            labels: worker.labels.into_iter().collect(),
            version: worker.version,
            last_seen_ms_ago: worker.last_seen_ms_ago,
            tasks: worker.tasks.iter().map(|task| format!("{}.{}", task.job_id, task.index)).collect(),
        }
    }
}

impl WorkerView {
    fn offers(&self) -> String {
        let resources = self.resources.iter().map(|(name, count)| format!("{name}={count}"));
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        resources.chain(labels).collect::<Vec<_>>().join(" ")
    }

    /// Everything, for `taskq worker show`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("worker {}  {}", text::visible(&self.name), self.status)];
        let mut add =
            |title: &str, value: String| lines.push(format!("  {title:<10} {}", text::visible(&value)));
        add("host", format!("{}  taskq {}", self.host, self.version));
        add("slots", format!("{}: {} running, {} waiting", self.slots, self.running, self.waiting));
        add("offers", self.offers());
        add("last seen", format!("{} ago", text::duration(self.last_seen_ms_ago)));
        add("tasks", self.tasks.join(" "));
        lines
    }
}

impl View for WorkerView {
    const SCHEMA: &'static str = "taskq.v1.workers";
    const COLUMNS: &'static [Column] = &[
        Column::flexible("NAME", 0),
        Column::text("STATUS", 0),
        Column::number("SLOTS", 2),
        Column::number("RUNNING", 1),
        Column::number("WAITING", 4),
        Column::flexible("HOST", 5),
        Column::number("SEEN", 3),
        Column::flexible("OFFERS", 6),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.status.to_owned(),
            self.slots.to_string(),
            self.running.to_string(),
            self.waiting.to_string(),
            self.host.clone(),
            text::age(self.last_seen_ms_ago),
            self.offers(),
        ]
    }

    fn id(&self) -> String {
        self.name.clone()
    }
}

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
