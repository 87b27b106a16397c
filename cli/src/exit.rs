//! The documented exit codes, all in one place, and the rule that turns the end of a task into one.

use std::process::ExitCode;

use thiserror::Error;

/// How this program ends. `TABLE` says what each means to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    /// The task's own status, passed on by `run`, `submit --wait` and `wait` on one task.
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

/// What `taskq --help` and the manual print. One row per code.
pub(crate) const TABLE: &[(&str, &str)] = &[
    ("0", "success; with `run`, `submit --wait` and `wait` on one task: it exited 0"),
    ("1-123", "`run`, `submit --wait`, `wait` on one task: the task's own status"),
    ("1", "everything else, and jobs of many tasks: one or more tasks failed"),
    ("2", "the command line is wrong; nothing was done"),
    ("3", "no such job, task, queue or worker"),
    ("4", "the filter matched nothing (--allow-empty makes it 0)"),
    ("5", "conflict: the job is in another state, or the idempotency key is taken"),
    ("6", "tasks were cancelled, none failed"),
    ("69", "the coordinator is not reachable"),
    ("70", "a bug in taskq"),
    ("74", "a file could not be read or the output could not be written"),
    ("75", "busy: a limit is reached, or the data directory is in use; try again later"),
    ("77", "not authorised: the token is missing or wrong"),
    ("78", "a configuration or access file is wrong, or the store is damaged"),
    ("124", "a --timeout was reached, the task's or that of `wait`"),
    ("125", "`run`, `submit --wait`, `wait` on one task: taskq itself failed, not the program"),
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
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Failure { exit, message: message.into() })
    }

    /// The command line asks for something that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
        Failure::new(Exit::Usage, message)
    }

    /// A file or stream failed under us.
    pub(crate) fn io(what: impl std::fmt::Display, cause: &std::io::Error) -> anyhow::Error {
        Failure::new(Exit::InputOutput, format!("{what}: {cause}"))
    }
}

/// The end of `--help`: the table, ready to print.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for (code, meaning) in TABLE {
        text.push_str(&format!("  {code:<6} {meaning}\n"));
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
}
