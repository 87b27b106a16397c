//! The documented exit codes, all in one place, and the rule that turns the end of a task into one.

use std::process::ExitCode;

use taskq_client::model::{Job, Outcome, State, Task, outcome};
use thiserror::Error;

/// How this program ends. `TABLE` says what each means to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    /// The task's own status, passed on by the commands that stay with it.
    Task(u8),
    /// The task was killed by this signal.
    Signal(u8),
    TasksFailed,
    Usage,
    NotFound,
    NoMatch,
    Conflict,
    Cancelled,
    Unreachable,
    Internal,
    InputOutput,
    Busy,
    Denied,
    Config,
    TimedOut,
    TaskqFailed,
    CannotExecute,
    ProgramNotFound,
    Interrupted,
    ClosedPipe,
}

/// Above the table: what it calls attached.
pub(crate) const ATTACHED: &str =
    "Attached commands, `run`, `call`, `submit` with --wait or --follow, and `wait`, end as their task did.";

/// What `taskq --help` and the manual print. One row per code.
pub(crate) const TABLE: &[(&str, &str)] = &[
    ("0", "success; attached: the task exited 0, or all did"),
    ("1-123", "attached to one task: its own status"),
    ("1", "attached to many tasks, and `map`: one or more failed; attached to a call: it failed"),
    ("2", "the command line is wrong; nothing was done"),
    ("3", "no such job, task, queue or worker"),
    ("4", "the filter matched nothing (--allow-empty makes it 0)"),
    ("5", "conflict: the job is in another state, or the idempotency key is taken"),
    ("6", "the task was cancelled; of many tasks some were, and none failed"),
    ("69", "the coordinator is not reachable"),
    ("70", "a bug in taskq"),
    (
        "74",
        "a file could not be read, the output could not be written, or output is missing that was not kept",
    ),
    ("75", "busy: a limit is reached, or the data directory is in use; try again later"),
    ("77", "not authorised: the token is missing or wrong"),
    ("78", "a configuration or access file is wrong, or the store is damaged"),
    ("124", "a --timeout was reached, the task's or that of `wait`"),
    (
        "125",
        "attached: taskq itself failed, not the task; stands for 5, 69, 70, 75, 77 and 78, and for 3 (but `wait` keeps 3)",
    ),
    ("126", "the worker could not execute the program; the message names both"),
    ("127", "the worker did not find the program; the message names both"),
    ("128+n", "the task was killed by signal n"),
    ("130", "Ctrl-C: detached, or the job was cancelled by it"),
    ("141", "standard output was closed by its reader"),
];

impl Exit {
    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Task(status) => status,
            Exit::Signal(signal) => 128_u8.saturating_add(signal),
            Exit::TasksFailed => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::NoMatch => 4,
            Exit::Conflict => 5,
            Exit::Cancelled => 6,
            Exit::Unreachable => 69,
            Exit::Internal => 70,
            Exit::InputOutput => 74,
            Exit::Busy => 75,
            Exit::Denied => 77,
            Exit::Config => 78,
            Exit::TimedOut => 124,
            Exit::TaskqFailed => 125,
            Exit::CannotExecute => 126,
            Exit::ProgramNotFound => 127,
            Exit::Interrupted => 130,
            Exit::ClosedPipe => 141,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// An error of the command line itself, with its exit code and, where there is one, the next step.
#[derive(Debug, Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    /// Any failure: `message` says what happened, to what, and what to do.
    pub(crate) fn because(exit: Exit, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Failure { exit, message: message.into() })
    }

    /// The command line asks for something that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
        Failure::because(Exit::Usage, message)
    }

    /// A file or stream failed under us.
    pub(crate) fn io(what: impl std::fmt::Display, cause: &std::io::Error) -> anyhow::Error {
        Failure::because(Exit::InputOutput, format!("{what}: {cause}"))
    }
}

/// The exit code that an error leads to: the first cause that has one decides.
pub(crate) fn of_error(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.exit;
        }
        if let Some(cause) = cause.downcast_ref::<taskq_client::Error>() {
            return of_client(cause);
        }
        if let Some(cause) = cause.downcast_ref::<crate::sources::Error>() {
            return if cause.is_unreadable() { Exit::InputOutput } else { Exit::Usage };
        }
        if let Some(cause) = cause.downcast_ref::<crate::joblog::Error>() {
            return if cause.is_another_file() { Exit::Usage } else { Exit::InputOutput };
        }
        if cause.is::<crate::select::Error>() || cause.is::<crate::words::Error>() {
            return Exit::Usage;
        }
    }
    Exit::Internal
}

fn of_client(error: &taskq_client::Error) -> Exit {
    use taskq_client::Kind;
    match error.kind() {
        Kind::Usage if matches!(error, taskq_client::Error::AccessFile { .. }) => Exit::Config,
        Kind::Usage => Exit::Usage,
        Kind::NotFound | Kind::Gone => Exit::NotFound,
        Kind::Conflict => Exit::Conflict,
        Kind::Unreachable => Exit::Unreachable,
        Kind::Busy => Exit::Busy,
        Kind::Unauthorized => Exit::Denied,
        Kind::Failed => Exit::TasksFailed,
        Kind::Internal => Exit::Internal,
    }
}

/// For `Acted.error_code`: a code of gRPC.
pub(crate) fn of_grpc(code: i32) -> Exit {
    match code {
        0 => Exit::Ok,
        3 => Exit::Usage,
        5 => Exit::NotFound,
        6 | 9 | 10 => Exit::Conflict,
        8 => Exit::Busy,
        14 => Exit::Unreachable,
        7 | 16 => Exit::Denied,
        _ => Exit::Internal,
    }
}

/// The status of a failed command that stays with a task: it may stand for the task's own, so that taskq's failures must
/// not look like one. Of how many tasks there are this knows nothing: often the coordinator, which cannot be asked, does.
pub(crate) fn attached(exit: Exit, unknown_job: Exit) -> Exit {
    match exit {
        Exit::Conflict
        | Exit::Unreachable
        | Exit::Internal
        | Exit::Busy
        | Exit::Denied
        | Exit::Config
        | Exit::TaskqFailed => Exit::TaskqFailed,
        Exit::NotFound => unknown_job,
        Exit::Ok
        | Exit::Task(_)
        | Exit::Signal(_)
        | Exit::TasksFailed
        | Exit::Usage
        | Exit::NoMatch
        | Exit::Cancelled
        | Exit::InputOutput
        | Exit::TimedOut
        | Exit::CannotExecute
        | Exit::ProgramNotFound
        | Exit::Interrupted
        | Exit::ClosedPipe => exit,
    }
}

/// The status that stands for one ended task.
pub(crate) fn of_task(task: &Task) -> Exit {
    match (task.state(), &task.outcome) {
        (State::Succeeded, _) => Exit::Ok,
        (State::Cancelled, _) => Exit::Cancelled,
        (_, Some(outcome)) => match of_outcome(outcome) {
            Exit::Ok => Exit::TaskqFailed,
            exit => exit,
        },
        (_, None) => Exit::TaskqFailed,
    }
}

/// The status after one more task, of those that are shown one after another: of one its own, of many whether some failed
/// or, if none did, were cancelled.
pub(crate) fn with_one_more(before: Option<Exit>, task: &Task) -> Exit {
    let own = of_task(task);
    let Some(before) = before else { return own };
    let both = [before, own];
    if both.iter().all(|exit| *exit == Exit::Ok) {
        return Exit::Ok;
    }
    if both.iter().all(|exit| matches!(exit, Exit::Ok | Exit::Cancelled)) {
        return Exit::Cancelled;
    }
    Exit::TasksFailed
}

fn of_outcome(outcome: &Outcome) -> Exit {
    match outcome.kind() {
        outcome::Kind::Exited => match u8::try_from(outcome.exit_code) {
            Ok(0) => Exit::Ok,
            Ok(status) => Exit::Task(status),
            Err(_) => Exit::TaskqFailed,
        },
        outcome::Kind::Signaled => u8::try_from(outcome.signal).map_or(Exit::TaskqFailed, Exit::Signal),
        outcome::Kind::TimedOut => Exit::TimedOut,
        outcome::Kind::CannotExecute if outcome.exit_code == 127 => Exit::ProgramNotFound,
        outcome::Kind::CannotExecute => Exit::CannotExecute,
        outcome::Kind::Completed => Exit::Ok,
        outcome::Kind::Failed => Exit::TasksFailed,
        outcome::Kind::Cancelled
        | outcome::Kind::WorkerLost
        | outcome::Kind::Skipped
        | outcome::Kind::Rejected
        | outcome::Kind::Unspecified => Exit::TaskqFailed,
    }
}

/// The status that stands for many tasks: failures outweigh cancelled tasks.
pub(crate) fn of_jobs<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Exit {
    let mut exit = Exit::Ok;
    for job in jobs {
        match job.state() {
            State::Succeeded => {}
            State::Cancelled if exit == Exit::Ok && job.counts.is_none_or(|counts| counts.failed == 0) => {
                exit = Exit::Cancelled;
            }
            State::Unspecified
            | State::Blocked
            | State::Queued
            | State::Running
            | State::Backoff
            | State::Failed
            | State::Cancelled
            | State::Skipped
            | State::Expired => exit = Exit::TasksFailed,
        }
    }
    exit
}

/// How wide the help is at most.
const HELP_COLUMNS: usize = 100;

/// The end of `--help`: the table, ready to print.
pub(crate) fn help() -> String {
    let mut text = format!("Exit codes:\n  {ATTACHED}\n");
    for (code, meaning) in TABLE {
        let mut line = format!("  {code:<6}");
        for word in meaning.split(' ') {
            if line.len() + 1 + word.len() > HELP_COLUMNS {
                text.push_str(&line);
                text.push('\n');
                line = " ".repeat(8);
            }
            line.push(' ');
            line.push_str(word);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text.pop();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_table() {
        let all = [
            Exit::Ok,
            Exit::TasksFailed,
            Exit::Usage,
            Exit::NotFound,
            Exit::NoMatch,
            Exit::Conflict,
            Exit::Cancelled,
            Exit::Unreachable,
            Exit::Internal,
            Exit::InputOutput,
            Exit::Busy,
            Exit::Denied,
            Exit::Config,
            Exit::TimedOut,
            Exit::TaskqFailed,
            Exit::CannotExecute,
            Exit::ProgramNotFound,
            Exit::Interrupted,
            Exit::ClosedPipe,
        ];
        for exit in all {
            let code = exit.code().to_string();
            assert!(TABLE.iter().any(|(row, _)| *row == code), "{exit:?} ({code}) is not documented");
        }
        assert_eq!(Exit::Signal(9).code(), 137);
        assert_eq!(Exit::Task(3).code(), 3);
    }

    #[test]
    fn one_task_has_its_own_status_and_many_share_one() {
        let exited = |exit_code| {
            let outcome = Outcome { kind: outcome::Kind::Exited.into(), exit_code, ..Outcome::default() };
            let state = if exit_code == 0 { State::Succeeded } else { State::Failed };
            Task { state: state.into(), outcome: Some(outcome), ..Task::default() }
        };
        let cancelled = Task { state: State::Cancelled.into(), ..Task::default() };
        let of = |tasks: &[&Task]| {
            tasks.iter().fold(None, |before, task| Some(with_one_more(before, task))).expect("some tasks")
        };
        let (fine, seven) = (exited(0), exited(7));
        assert_eq!(of(&[&seven]), Exit::Task(7));
        assert_eq!(of(&[&cancelled]), Exit::Cancelled);
        assert_eq!(of(&[&fine, &fine]), Exit::Ok);
        assert_eq!(of(&[&fine, &cancelled, &fine]), Exit::Cancelled);
        assert_eq!(of(&[&seven, &fine]), Exit::TasksFailed);
        assert_eq!(of(&[&cancelled, &seven, &cancelled]), Exit::TasksFailed);
    }

    #[test]
    fn a_command_that_stays_never_passes_off_a_failure_of_taskq_as_the_task_s() {
        let row = TABLE.iter().find(|(code, _)| *code == "125").map(|(_, meaning)| *meaning);
        let row = row.expect("125 is documented");
        for exit in
            [Exit::Conflict, Exit::Unreachable, Exit::Internal, Exit::Busy, Exit::Denied, Exit::Config]
        {
            assert_eq!(attached(exit, Exit::NotFound), Exit::TaskqFailed, "{exit:?}");
            assert!(row.contains(&exit.code().to_string()), "{exit:?} is not in the row of 125: {row}");
        }
        for exit in [Exit::Usage, Exit::InputOutput, Exit::TimedOut, Exit::Interrupted] {
            assert_eq!(attached(exit, Exit::TaskqFailed), exit);
        }
    }
}
