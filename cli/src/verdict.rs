//! What is said at the end of a job: how a task ended in a few words, and the line with the next steps.

use std::collections::{BTreeMap, BTreeSet};

use taskq_client::model::{Counts, Job, Outcome, State, Task, failure, outcome, state_word};

use crate::screen::Screen;
use crate::text;
use crate::view::took;

/// How many jobs a hint names.
const NAMED: usize = 5;

/// `exit 1`, `killed by signal 9 (out of memory)`, `timed out`, ...
pub(crate) fn how(outcome: &Outcome) -> String {
    let memory = if outcome.out_of_memory { " (oom: out of memory)" } else { "" };
    let message = outcome.message.as_str();
    let with_message = |word: &str| match message.is_empty() {
        true => word.to_owned(),
        false => format!("{word}: {message}"),
    };
    match outcome.kind() {
        // Of a program the worker says only what its end does not: which limit it met.
        outcome::Kind::Exited if !message.is_empty() => format!("exit {}: {message}", outcome.exit_code),
        outcome::Kind::Exited => format!("exit {}{memory}", outcome.exit_code),
        outcome::Kind::Signaled if message.starts_with("killed: ") => message.to_owned(),
        outcome::Kind::Signaled => format!("killed by signal {}{memory}", outcome.signal),
        outcome::Kind::TimedOut => with_message("timed out"),
        outcome::Kind::Cancelled => "cancelled".to_owned(),
        outcome::Kind::CannotExecute => with_message("cannot execute"),
        outcome::Kind::WorkerLost => with_message("worker lost"),
        outcome::Kind::Skipped => with_message("skipped"),
        outcome::Kind::Rejected => with_message("rejected by the worker"),
        outcome::Kind::Completed => "returned".to_owned(),
        outcome::Kind::Failed => failed(outcome),
        outcome::Kind::Unspecified => with_message("ended in an unknown way"),
    }
}

/// `panicked: no such photo`, in one line: where and why is told by `show`.
fn failed(outcome: &Outcome) -> String {
    let failure = outcome.failure.clone().unwrap_or_default();
    let word = match failure.cause() {
        failure::Cause::Unspecified | failure::Cause::Error => "returned an error",
        failure::Cause::Panic => "panicked",
        failure::Cause::Argument => "could not read its argument",
        failure::Cause::Result => "returned what cannot be written",
        failure::Cause::Function => "failed",
    };
    let said = if failure.message.is_empty() { &outcome.message } else { &failure.message };
    let said = match failure.cause() {
        failure::Cause::Argument => without(said, "the argument of function ", ": "),
        failure::Cause::Result => without(said, "what function ", " returned: "),
        failure::Cause::Unspecified
        | failure::Cause::Error
        | failure::Cause::Panic
        | failure::Cause::Function => said,
    };
    match said.lines().next() {
        // Not the function did it: the words say who.
        Some(line) if failure.cause() == failure::Cause::Function => line.to_owned(),
        Some(line) => format!("{word}: {line}"),
        None => word.to_owned(),
    }
}

/// A worker begins some messages with what they are about, which the word before them says already.
fn without<'a>(said: &'a str, about: &str, until: &str) -> &'a str {
    match said.strip_prefix(about).and_then(|rest| rest.split_once(until)) {
        Some((_function, rest)) => rest,
        None => said,
    }
}

/// `✗ job 42 failed: exit 1 after 2.1s on w1 (attempt 1/1)   logs: taskq logs 42   retry: taskq retry 42`
///
/// Why a program could not be executed takes several lines.
pub(crate) fn of_single(screen: &Screen, job: &Job, task: &Task) -> String {
    let id = job.id;
    let outcome = task.outcome.clone().unwrap_or_default();
    let steps = format!("logs: taskq logs {id}   retry: taskq retry {id}");
    if task.state() == State::Failed && outcome.kind() == outcome::Kind::CannotExecute {
        return format!("{}\n  {steps}", not_executed(screen, job, &outcome));
    }
    let word = if task.state() == State::Cancelled { "was cancelled" } else { "failed" };
    let mut line = format!("{} job {id} {word}", screen.symbols.cross());
    if task.state() == State::Cancelled && outcome.attempt == 0 {
        return format!("{line} before it started   retry: taskq retry {id}");
    }
    if task.state() != State::Cancelled {
        line.push_str(&format!(": {}", text::visible(&how(&outcome))));
    }
    if let Some(took) = took(&outcome) {
        line.push_str(&format!(" after {took}"));
    }
    if !outcome.worker.is_empty() {
        line.push_str(&format!(" on {}", text::visible(&outcome.worker)));
    }
    line.push_str(&format!(" {}   {steps}", attempt(job, &outcome)));
    line
}

/// The program, the worker and the reason, each on its line: a long PATH must not drown them.
fn not_executed(screen: &Screen, job: &Job, outcome: &Outcome) -> String {
    let command = job.spec.as_ref().and_then(|spec| spec.command.as_ref());
    let program = match command {
        Some(command) if command.shell => "/bin/sh",
        Some(command) => command.argv.first().map_or("", String::as_str),
        None => "",
    };
    // The worker says its name first; here it has its own line.
    let said = format!("worker {}: ", outcome.worker);
    let reason = outcome.message.strip_prefix(&said).unwrap_or(&outcome.message);
    format!(
        "{} job {} failed: cannot execute {}\n  program: {}\n  worker:  {}\n  reason:  {}",
        screen.symbols.cross(),
        job.id,
        attempt(job, outcome),
        text::short(program),
        text::visible(&outcome.worker),
        text::without_long_words(&text::visible(reason)),
    )
}

/// `(attempt 1/3)`
fn attempt(job: &Job, outcome: &Outcome) -> String {
    let most = job.spec.as_ref().and_then(|spec| spec.retry.as_ref()).map_or(1, |retry| retry.max_attempts);
    format!("(attempt {}/{})", outcome.attempt.max(1), most.max(outcome.attempt).max(1))
}

/// The same for a job of many tasks; nothing if all succeeded.
pub(crate) fn of_many(screen: &Screen, job: &Job) -> Option<String> {
    let counts = job.counts.unwrap_or_default();
    let (mut parts, mut states) = (Vec::new(), BTreeSet::new());
    for (count, state) in [
        (counts.failed, State::Failed),
        (counts.cancelled, State::Cancelled),
        (counts.skipped, State::Skipped),
    ] {
        if count > 0 {
            parts.push(format!("{count} {}", state_word(state)));
            states.insert(state);
        }
    }
    if parts.is_empty() {
        return None;
    }
    let (id, total) = (job.id, counts.total);
    Some(format!(
        "{} job {id}: {} of {total} tasks   {}   retry: taskq retry {id}",
        screen.symbols.cross(),
        parts.join(", "),
        states_hint(&BTreeMap::from([(id, states)])),
    ))
}

/// `8 succeeded, 2 failed`: how the tasks of a job ended.
pub(crate) fn shares(counts: &Counts) -> String {
    let all = [
        (counts.succeeded, State::Succeeded),
        (counts.failed, State::Failed),
        (counts.cancelled, State::Cancelled),
        (counts.skipped, State::Skipped),
    ];
    let some = all.into_iter().filter(|(count, _)| *count > 0);
    some.map(|(count, state)| format!("{count} {}", state_word(state))).collect::<Vec<_>>().join(", ")
}

/// `which: taskq tasks 42 -s failed,cancelled`, and so on for some jobs more.
pub(crate) fn states_hint(met: &BTreeMap<u64, BTreeSet<State>>) -> String {
    let mut which: Vec<String> = Vec::new();
    for (job, states) in met.iter().take(NAMED) {
        let states: Vec<&str> = states.iter().map(|state| state_word(*state)).collect();
        which.push(format!("taskq tasks {job} -s {}", states.join(",")));
    }
    if met.len() > NAMED {
        which.push(format!("and of {} more jobs", met.len() - NAMED));
    }
    format!("which: {}", which.join("; "))
}

#[cfg(test)]
mod tests {
    use taskq_client::model::{Command, Failure, JobSpec};

    use super::*;
    use crate::screen::{When, Wishes};

    fn screen() -> Screen {
        Screen::detect(Wishes { format: None, headers: true, quiet: false, color: When::Never })
    }

    #[test]
    fn the_hint_names_the_states_that_there_are() {
        let counts = |failed, cancelled| Counts { total: 9, failed, cancelled, ..Counts::default() };
        let said = |counts| of_many(&screen(), &Job { id: 42, counts: Some(counts), ..Job::default() });
        assert!(said(counts(0, 3)).expect("cancelled").contains(" taskq tasks 42 -s cancelled "));
        assert!(said(counts(2, 3)).expect("both").contains(" taskq tasks 42 -s failed,cancelled "));
        assert_eq!(said(counts(0, 0)), None);
    }

    #[test]
    fn the_hint_names_every_job_with_its_states() {
        let one = |job, states: &[State]| (job, states.iter().copied().collect());
        let met = BTreeMap::from([one(7, &[State::Skipped, State::Failed]), one(9, &[State::Cancelled])]);
        assert_eq!(states_hint(&met), "which: taskq tasks 7 -s failed,skipped; taskq tasks 9 -s cancelled");
        let many: BTreeMap<_, _> = (1..=8).map(|job| one(job, &[State::Failed])).collect();
        assert!(states_hint(&many).ends_with("taskq tasks 5 -s failed; and of 3 more jobs"));
    }

    #[test]
    fn what_never_started_has_no_attempt() {
        let outcome = Some(Outcome { kind: outcome::Kind::Cancelled.into(), ..Outcome::default() });
        let task = Task { state: State::Cancelled.into(), outcome, ..Task::default() };
        let said = of_single(&screen(), &Job { id: 42, ..Job::default() }, &task);
        assert!(said.ends_with(" job 42 was cancelled before it started   retry: taskq retry 42"), "{said}");
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_told_line_by_line() {
        let command = Command { argv: vec!["nope".into(), "-v".into()], ..Command::default() };
        let spec = JobSpec { command: Some(command), ..JobSpec::default() };
        let outcome = Outcome {
            kind: outcome::Kind::CannotExecute.into(),
            worker: "w1".into(),
            message: "worker w1: program \"nope\" not found on PATH (/bin)".into(),
            ..Outcome::default()
        };
        let job = Job { id: 42, spec: Some(spec), ..Job::default() };
        let task = Task { state: State::Failed.into(), outcome: Some(outcome), ..Task::default() };
        let said = of_single(&screen(), &job, &task);
        let lines: Vec<&str> = said.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "  program: nope",
                "  worker:  w1",
                "  reason:  program \"nope\" not found on PATH (/bin)",
                "  logs: taskq logs 42   retry: taskq retry 42"
            ]
        );
    }

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
        let failed = |cause: failure::Cause, message: &str| {
            let failure = Failure { cause: cause.into(), message: message.into(), ..Default::default() };
            how(&Outcome { failure: Some(failure), ..outcome(outcome::Kind::Failed, 0, 0, "") })
        };
        let argument = failed(failure::Cause::Argument, "the argument of function f: expected u8: a text");
        assert_eq!(argument, "could not read its argument: expected u8: a text");
        let left = failed(failure::Cause::Function, "f: its child process exited with code 0\nat once");
        assert_eq!(left, "f: its child process exited with code 0");
        let long = failed(
            failure::Cause::Result,
            "what function f returned is 9 bytes long; 8 is the most: store it",
        );
        assert!(long.ends_with("returned is 9 bytes long; 8 is the most: store it"), "{long}");
    }
}
