//! What the worker is told to run, in its own words: a job's template, the attempts of its tasks, how they ended.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use taskq_template::Template;

use crate::cgroup::Limits;

/// A job's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobId(pub u64);

/// The coordinator's start in which a lease was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Epoch(pub u64);

/// One attempt under one lease; every report carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub job: JobId,
    pub index: u32,
    pub attempt: u32,
    pub epoch: Epoch,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}#{}", self.job.0, self.index, self.attempt)
    }
}

/// What all tasks of a job have in common.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub id: JobId,
    pub program: Program,
    pub env: Vec<(String, String)>,
    /// Empty: the worker's own.
    pub cwd: String,
    pub stdin: Bytes,
    /// Of one attempt, from process start.
    pub timeout: Option<Duration>,
    /// Between TERM and KILL.
    pub grace: Duration,
    pub needs: Needs,
    /// Of a command.
    pub limits: Limits,
    pub priority: i32,
    pub output_limit: ByteCount,
    /// Values are numbers, and are not sent: row `i` is `start + i * step`.
    pub range: Option<Range>,
}

/// The command, with its placeholders found.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// Executed as it is.
    Argv(Template),
    /// One script for `sh -c`.
    Shell(Template),
    /// A function by its name.
    Call(Call),
    /// The coordinator sent a template that this worker does not understand.
    Unusable(String),
}

/// A function to call, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub function: Arc<str>,
    /// How argument and value are written: the name of a codec, which may be one that only a child knows.
    pub codec: Arc<str>,
    /// Of a job without elements.
    pub argument: Argument,
}

/// What a function is called with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    Bytes(Bytes),
    /// To be fetched first.
    Blob(Blob),
}

/// Bytes that the coordinator keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub sha256: Bytes,
    pub size: ByteCount,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteCount(pub u64);

/// Numbers as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub start: u64,
    pub step: u64,
}

/// What a task occupies while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub slots: u32,
    pub named: BTreeMap<String, u64>,
}

/// One attempt to run.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub key: Key,
    pub job: Arc<Job>,
    pub fields: Vec<Bytes>,
}

impl Task {
    /// The call that this task is; None for a command.
    pub(crate) fn call(&self) -> Option<&Call> {
        match &self.job.program {
            Program::Call(call) => Some(call),
            Program::Argv(_) | Program::Shell(_) | Program::Unusable(_) => None,
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub how: How,
    /// The kernel killed it for lack of memory.
    pub out_of_memory: bool,
    /// For people: what happened, to what, and what to do. May be empty.
    pub message: String,
    pub usage: Usage,
    pub stdout: Rest,
    pub stderr: Rest,
    /// What a call returned; of any length.
    pub value: Bytes,
    /// Where a long value is, once it is there.
    pub value_blob: Option<Blob>,
    /// Why a call returned nothing.
    pub fault: Option<Box<Fault>>,
    pub started_unix_ms: u64,
    pub ended_unix_ms: u64,
}

/// The end itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum How {
    Exited(i32),
    Signaled(i32),
    TimedOut,
    Cancelled,
    /// With the code that a shell would give: 126 or 127.
    CannotExecute(i32),
    /// What the worker needed to run it was killed.
    Lost,
    /// It did not run (to its end) for a reason that is the worker's; costs no attempt.
    #[default]
    Rejected,
    /// A call that returned a value.
    Completed,
    /// A call that did not; the fault says why.
    Failed,
}

/// What went wrong in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub cause: Cause,
    /// Of the error, as its language names it; may be empty.
    pub kind: String,
    pub message: String,
    /// What caused it, and what caused that.
    pub chain: Vec<String>,
    /// `file:line:column`, or empty.
    pub place: String,
    /// Not to be tried again.
    pub fatal: bool,
    /// The error itself, encoded as the call says; may be empty.
    pub value: Bytes,
}

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The function returned an error, or its child left in peace without an answer.
    Error,
    /// It panicked.
    Panic,
    /// Its argument could not be read.
    Argument,
    /// What it returned could not be written, or is too long.
    Result,
    /// There is no such function here.
    Function,
}

impl Fault {
    /// One that has nothing but a message.
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Box<Fault> {
        let message = message.into();
        let (kind, chain, place, value) = (String::new(), Vec::new(), String::new(), Bytes::new());
        Box::new(Fault { cause, kind, message, chain, place, fatal: false, value })
    }

    /// The same, never to be tried again.
    pub(crate) fn fatal(mut self: Box<Self>) -> Box<Fault> {
        self.fatal = true;
        self
    }

    /// The same, of a type.
    pub(crate) fn of(mut self: Box<Self>, kind: &str) -> Box<Fault> {
        kind.clone_into(&mut self.kind);
        self
    }

    /// `FUNCTION: TYPE: MESSAGE` in one line.
    pub(crate) fn line(&self, function: &str) -> String {
        // `core::num::error::ParseIntError` is known as its last part.
        let plain = self.kind.split('<').next().unwrap_or_default();
        let kind = plain.rsplit("::").next().unwrap_or_default();
        let message = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        if kind.is_empty() {
            format!("{function}: {message}")
        } else {
            format!("{function}: {kind}: {message}")
        }
    }
}

/// The last part of a stream, and how long the whole was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    pub offset: u64,
    pub data: Bytes,
    pub total: u64,
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub wall_us: u64,
    pub user_us: u64,
    pub system_us: u64,
    pub peak_rss_bytes: u64,
}

/// Which of a task's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub offset: u64,
    pub data: Bytes,
}

#[cfg(test)]
pub(crate) mod tests {
    //! Tasks for the tests of other files.

    use super::*;

    /// A first attempt that needs one slot.
    pub(crate) fn task(job: u64, index: u32) -> Task {
        let id = JobId(job);
        let template = Template::parse(&["true".to_owned()], false, &[]).expect("a plain command");
        let job = Job {
            id,
            program: Program::Argv(template),
            env: Vec::new(),
            cwd: String::new(),
            stdin: Bytes::new(),
            timeout: None,
            grace: Duration::from_secs(10),
            needs: Needs { slots: 1, named: BTreeMap::new() },
            limits: Limits::default(),
            priority: 0,
            output_limit: ByteCount(1 << 20),
            range: None,
        };
        let key = Key { job: id, index, attempt: 1, epoch: Epoch(1) };
        Task { key, job: Arc::new(job), fields: Vec::new() }
    }

    #[test]
    fn a_fault_is_one_line() {
        let fault = Fault::new(Cause::Error, "no\n number ").of("core::num::ParseIntError");
        assert_eq!(fault.line("f"), "f: ParseIntError: no number");
        assert_eq!(Fault::new(Cause::Error, "no").line("f"), "f: no");
    }

    impl Task {
        fn change(mut self, change: impl FnOnce(&mut Job)) -> Task {
            change(Arc::make_mut(&mut self.job));
            self
        }

        pub(crate) fn priority(self, priority: i32) -> Task {
            self.change(|job| job.priority = priority)
        }

        pub(crate) fn slots(self, slots: u32) -> Task {
            self.change(|job| job.needs.slots = slots)
        }

        pub(crate) fn named(self, name: &str, count: u64) -> Task {
            self.change(|job| _ = job.needs.named.insert(name.to_owned(), count))
        }
    }
}
