//! A job: its row in `taskq ls`, its lines in `taskq show`, its JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use taskq_client::model::{Counts, Job, Limits, state_word};

use super::{ProgressView, some_time};
use crate::clock::UnixMs;
use crate::output::{Column, View};
use crate::{text, words};

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

/// What is called, instead of a command.
#[derive(Serialize)]
struct CallView {
    function: String,
    codec: String,
}

/// What each task may use; 0 = no limit.
#[derive(Serialize)]
struct LimitsView {
    memory_bytes: u64,
    cpu_milli: u32,
    processes: u32,
}

impl From<Limits> for LimitsView {
    fn from(limits: Limits) -> LimitsView {
        let Limits { memory_bytes, cpu_milli, processes } = limits;
        LimitsView { memory_bytes, cpu_milli, processes }
    }
}

impl LimitsView {
    fn words(&self) -> String {
        let mut words = Vec::new();
        if self.memory_bytes > 0 {
            words.push(format!("memory {}", text::size(self.memory_bytes)));
        }
        if self.cpu_milli > 0 {
            words.push(format!("{} cores", f64::from(self.cpu_milli) / 1_000.0));
        }
        if self.processes > 0 {
            words.push(format!("{} processes", self.processes));
        }
        words.join(", ")
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
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<CallView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<LimitsView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressView>,
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
            call: spec.call.map(|call| CallView { function: call.function, codec: call.codec }),
            limits: spec.limits.filter(|limits| *limits != Limits::default()).map(LimitsView::from),
            progress: job.progress.as_ref().map(ProgressView::from),
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
        match &self.call {
            Some(call) => add("function", format!("{}  written in {}", call.function, call.codec)),
            None => {
                let command = words::join(self.command.iter().map(String::as_str));
                add("command", if self.shell { format!("sh -c {command}") } else { command });
                add("directory", self.cwd.clone());
            }
        }
        add("queue", format!("{}  priority {}", self.queue, self.priority));
        if !self.labels.is_empty() {
            let pairs: Vec<String> =
                self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            add("labels", pairs.join("  "));
        }
        if let Some(limits) = &self.limits {
            add("limits", limits.words());
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
        if let Some(progress) = &self.progress {
            add("progress", format!("{} (task {})", progress.words(), progress.index()));
        }
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
