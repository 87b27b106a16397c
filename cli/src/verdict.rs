//! What is said at the end of a job: how a task ended in a few words, and the line with the next steps.

use taskq_client::model::{Job, Outcome, State, Task, outcome};

use crate::screen::Screen;
use crate::text;

/// `exit 1`, `killed by signal 9 (out of memory)`, `timed out`, ...
pub(crate) fn how(outcome: &Outcome) -> String {
    let memory = if outcome.out_of_memory { " (oom: out of memory)" } else { "" };
    let message = outcome.message.as_str();
    let with_message = |word: &str| match message.is_empty() {
        true => word.to_owned(),
        false => format!("{word}: {message}"),
    };
    match outcome.kind() {
        outcome::Kind::Exited => format!("exit {}{memory}", outcome.exit_code),
        outcome::Kind::Signaled => format!("killed by signal {}{memory}", outcome.signal),
        outcome::Kind::TimedOut => with_message("timed out"),
        outcome::Kind::Cancelled => "cancelled".to_owned(),
        outcome::Kind::CannotExecute => with_message("cannot execute"),
        outcome::Kind::WorkerLost => with_message("worker lost"),
        outcome::Kind::Skipped => with_message("skipped"),
        outcome::Kind::Rejected => with_message("rejected by the worker"),
        outcome::Kind::Unspecified => with_message("ended in an unknown way"),
    }
}

/// `✗ job 42 failed: exit 1 after 2.1s on w1 (attempt 1/1)   logs: taskq logs 42   retry: taskq retry 42`
pub(crate) fn of_single(screen: &Screen, job: &Job, task: &Task) -> String {
    let id = job.id;
    let outcome = task.outcome.clone().unwrap_or_default();
    let word = if task.state() == State::Cancelled { "was cancelled" } else { "failed" };
    let mut line = format!("{} job {id} {word}", screen.symbols.cross());
    if task.state() != State::Cancelled {
        line.push_str(&format!(": {}", text::visible(&how(&outcome))));
    }
    if let Some(usage) = &outcome.usage {
        line.push_str(&format!(" after {}", text::duration(usage.wall_us / 1_000)));
    }
    if !outcome.worker.is_empty() {
        line.push_str(&format!(" on {}", text::visible(&outcome.worker)));
    }
    let attempts =
        job.spec.as_ref().and_then(|spec| spec.retry.as_ref()).map_or(1, |retry| retry.max_attempts);
    line.push_str(&format!(" (attempt {}/{})", outcome.attempt.max(1), attempts.max(outcome.attempt).max(1)));
    line.push_str(&format!("   logs: taskq logs {id}   retry: taskq retry {id}"));
    line
}

/// The same for a job of many tasks; nothing if all succeeded.
pub(crate) fn of_many(screen: &Screen, job: &Job) -> Option<String> {
    let counts = job.counts.unwrap_or_default();
    let mut parts = Vec::new();
    for (count, word) in
        [(counts.failed, "failed"), (counts.cancelled, "cancelled"), (counts.skipped, "skipped")]
    {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    if parts.is_empty() {
        return None;
    }
    let (id, total) = (job.id, counts.total);
    Some(format!(
        "{} job {id}: {} of {total} tasks   which: taskq tasks {id} -s failed   retry: taskq retry {id}",
        screen.symbols.cross(),
        parts.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_words() {
        let outcome = |kind, exit_code, signal, message: &str| Outcome {
            kind: outcome::Kind::into(kind),
            exit_code,
            signal,
            message: message.into(),
            ..Default::default()
        };
        assert_eq!(how(&outcome(outcome::Kind::Exited, 3, 0, "")), "exit 3");
        assert_eq!(how(&outcome(outcome::Kind::Signaled, 0, 9, "")), "killed by signal 9");
        let oom = Outcome { out_of_memory: true, ..outcome(outcome::Kind::Signaled, 0, 9, "") };
        assert!(how(&oom).contains("oom"));
        let missing = outcome(outcome::Kind::CannotExecute, 127, 0, "no program `x` on w1");
        assert_eq!(how(&missing), "cannot execute: no program `x` on w1");
    }
}
