//! A task and how its attempts ended: its row in `taskq tasks`, its lines in `taskq show`, its JSON.

use serde::Serialize;
use taskq_client::model::{Failure, Outcome, Progress, Task, failure, outcome, state_word};

use super::some_time;
use crate::output::{self, Column, Out, View};
use crate::text;
use crate::value::Value;

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
    /// Of a call that returned: how long its value is.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureView>,
    /// The error itself, as it is written.
    #[serde(skip)]
    thrown: Vec<u8>,
    #[serde(skip)]
    took: Option<String>,
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
                Kind::Completed => "completed",
                Kind::Failed => "failed",
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
            value_bytes: (kind == Kind::Completed).then(|| value_bytes(outcome)),
            failure: outcome.failure.as_ref().map(FailureView::from),
            thrown: outcome.failure.as_ref().map(|failure| failure.value.to_vec()).unwrap_or_default(),
            took: took(outcome),
        }
    }
}

fn value_bytes(outcome: &Outcome) -> u64 {
    outcome.value_blob.as_ref().map_or(outcome.value.len() as u64, |blob| blob.size_bytes)
}

/// Why a call has no value.
#[derive(Serialize)]
struct FailureView {
    cause: &'static str,
    #[serde(rename = "type")]
    type_name: String,
    message: String,
    chain: Vec<String>,
    place: String,
    fatal: bool,
    /// The error itself, if the function gave it; told where the codec is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

impl From<&Failure> for FailureView {
    fn from(failure: &Failure) -> FailureView {
        FailureView {
            cause: match failure.cause() {
                failure::Cause::Unspecified => "unknown",
                failure::Cause::Error => "error",
                failure::Cause::Panic => "panic",
                failure::Cause::Argument => "argument",
                failure::Cause::Result => "result",
                failure::Cause::Function => "function",
            },
            type_name: failure.r#type.clone(),
            message: failure.message.clone(),
            chain: failure.chain.clone(),
            place: failure.place.clone(),
            fatal: failure.fatal,
            value: None,
        }
    }
}

impl FailureView {
    /// What the words of its end do not say.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut add = |title: &str, words: &str| {
            let (first, rest) = words.split_once('\n').unwrap_or((words, ""));
            lines.push(format!("    {title} {}", text::visible(first)));
            lines.extend(rest.lines().map(|line| format!("      {}", text::visible(line))));
        };
        if !self.message.is_empty() {
            add(&format!("{}:", self.cause), &self.message);
        }
        if !self.type_name.is_empty() {
            add("type:", &self.type_name);
        }
        for cause in &self.chain {
            add("caused by:", cause);
        }
        if !self.place.is_empty() {
            add("at", &self.place);
        }
        if let Some(Value::Json(value)) = &self.value {
            add("value:", value.get());
        }
        if self.fatal {
            add("fatal:", "it is not tried again, whatever attempts are left");
        }
        lines
    }
}

/// How far a call has come, in its own words.
#[derive(Serialize)]
pub(crate) struct ProgressView {
    index: u32,
    fraction: f64,
    note: String,
}

impl From<&Progress> for ProgressView {
    fn from(progress: &Progress) -> ProgressView {
        ProgressView { index: progress.index, fraction: progress.fraction, note: progress.note.clone() }
    }
}

impl ProgressView {
    /// `42% half of the photos`
    pub(crate) fn words(&self) -> String {
        format!("{:.0}% {}", self.fraction * 100.0, self.note).trim_end().to_owned()
    }

    /// Of which task.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }
}

/// How long an attempt ran, if it started and that is known. The one source of this for every command.
pub(crate) fn took(outcome: &Outcome) -> Option<String> {
    let usage = outcome.usage.filter(|_| outcome.started_unix_ms > 0)?;
    Some(text::duration(usage.wall_us / 1_000))
}

impl OutcomeView {
    /// Of a call, in whose codec an error travels that travels whole.
    pub(crate) fn in_codec(mut self, codec: &str) -> OutcomeView {
        if let Some(failure) = self.failure.as_mut().filter(|_| !self.thrown.is_empty()) {
            failure.value = Some(Value::new(codec, &self.thrown));
        }
        self
    }

    fn took(&self) -> &str {
        self.took.as_deref().unwrap_or("-")
    }

    fn line(&self) -> String {
        if self.started_unix_ms.is_none() && matches!(self.kind, "cancelled" | "skipped") {
            let ended = text::time(self.ended_unix_ms.unwrap_or(0));
            let not = if self.attempt == 0 { "never started" } else { "not started again" };
            return format!("  {not}: {} {ended}", self.kind);
        }
        let value = self.value_bytes.map(|bytes| format!(" {}", text::size(bytes))).unwrap_or_default();
        format!(
            "  attempt {} on {}: {}{value}  started {}  took {}  cpu {}  memory {}  stdout {}  stderr {}",
            self.attempt,
            text::visible(if self.worker.is_empty() { "-" } else { &self.worker }),
            self.kind,
            text::time(self.started_unix_ms.unwrap_or(0)),
            self.took(),
            text::duration((self.user_us + self.system_us) / 1_000),
            text::size(self.peak_rss_bytes),
            text::size(self.stdout_bytes),
            text::size(self.stderr_bytes),
        )
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
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressView>,
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
            progress: task.progress.as_ref().map(ProgressView::from),
            end: match (&task.outcome, &task.progress) {
                (Some(outcome), _) => crate::verdict::how(outcome),
                (None, Some(progress)) => ProgressView::from(progress).words(),
                (None, None) => String::new(),
            },
        }
    }

    /// Of a call, in whose codec errors travel that travel whole.
    pub(crate) fn in_codec(mut self, codec: &str) -> TaskView {
        self.outcome = self.outcome.map(|outcome| outcome.in_codec(codec));
        self.earlier = self.earlier.into_iter().map(|outcome| outcome.in_codec(codec)).collect();
        self
    }

    /// One line of JSON, now.
    pub(crate) fn print_line(&self) -> anyhow::Result<()> {
        let mut out = Out::new();
        let written = out.record(TaskView::SCHEMA, self).and_then(|()| out.flush());
        written.map_err(|cause| output::stdout_failed(&cause))
    }

    /// Everything, for `taskq show 42.7`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines =
            vec![format!("task {}.{}  {}  {}", self.job, self.index, self.state, text::visible(&self.end))];
        for outcome in self.earlier.iter().chain(&self.outcome) {
            lines.push(outcome.line());
            match &outcome.failure {
                Some(failure) => lines.extend(failure.lines()),
                None if !outcome.message.is_empty() => {
                    lines.push(format!("    {}", text::visible(&outcome.message)));
                }
                None => {}
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
        let took = self.outcome.as_ref().map(OutcomeView::took);
        vec![
            self.id(),
            self.state.to_owned(),
            self.attempt.to_string(),
            self.worker.clone(),
            took.unwrap_or_default().to_owned(),
            self.end.clone(),
        ]
    }

    fn id(&self) -> String {
        format!("{}.{}", self.job, self.index)
    }
}

#[cfg(test)]
mod tests {
    use taskq_client::model::{State, Usage};

    use super::*;

    fn cancelled(attempt: u32, started_unix_ms: u64) -> TaskView {
        let usage = Some(Usage { wall_us: 2_100_000, ..Usage::default() }).filter(|_| started_unix_ms > 0);
        let outcome = Outcome {
            kind: outcome::Kind::Cancelled.into(),
            attempt,
            started_unix_ms,
            ended_unix_ms: 951_782_400_000,
            usage,
            ..Outcome::default()
        };
        let state = State::Cancelled.into();
        TaskView::new(&Task { job_id: 4, state, attempt, outcome: Some(outcome), ..Task::default() })
    }

    #[test]
    fn the_list_and_the_details_tell_the_same_time() {
        let ran = cancelled(1, 951_782_397_900);
        assert_eq!(ran.cells()[4], "2.1s");
        assert!(ran.lines()[1].contains("  took 2.1s  "), "{:?}", ran.lines());
        for (attempt, line) in [(0, "  never started: "), (2, "  not started again: ")] {
            let never = cancelled(attempt, 0);
            assert_eq!(never.cells()[4], "-");
            assert_eq!(never.lines()[1], format!("{line}cancelled 2000-02-29 00:00:00"));
        }
    }
}
