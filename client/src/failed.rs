//! Why a call has no value: what the coordinator, the worker and the function say about it, in one place.

use crate::codec::{Codec, Mismatch};
use crate::job::JobId;
use crate::model::failure::Cause;
use crate::model::outcome::Kind;
use crate::model::{Call, Failure, Outcome, State, Task};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::fmt;

/// How much of an error that travelled whole is told beside its words, in characters.
const READABLE: usize = 400;

/// A call that has no value: what is in [`Error::Call`](crate::Error::Call).
///
/// ```no_run
/// use taskq_client::{Client, Ending, Error};
///
/// # async fn tour(client: Client) -> Result<(), Error> {
/// match client.call::<u64>("fib", 30).await {
///     Ok(n) => println!("{n}"),
///     Err(Error::Call(failed)) => match &failed.ended {
///         Ending::TimedOut | Ending::WorkerLost => println!("job {} may work another time", failed.job),
///         Ending::Killed { signal, .. } => println!("{} was killed by signal {signal}", failed.function),
///         ended => println!("{ended}: {}; caused by {:?}, at {}", failed.message, failed.chain, failed.place),
///     },
///     // Not the call, but the way to it: the coordinator is away, the job was removed, ...
///     Err(error) => return Err(error),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct CallError {
    /// Of this job,
    pub job: JobId,
    /// of this task; 0 unless it was one of many.
    pub index: u32,
    /// The attempt that was its last; 0 if none was begun.
    pub attempt: u32,
    /// What was called.
    pub function: String,
    /// Where that attempt was; empty if nowhere.
    pub worker: String,
    /// How it ended.
    pub ended: Ending,
    /// The type of the error, as its language names it; empty if not known.
    pub type_name: String,
    /// What happened, in the words of the function, or of taskq if those are missing.
    pub message: String,
    /// What caused it, and what caused that, ...
    pub chain: Vec<String>,
    /// `file:line:column`; empty if not known.
    pub place: String,
    /// The function, or the worker, said that trying again is no use.
    pub fatal: bool,
    /// It printed something before its end.
    printed: bool,
    value: Bytes,
    codec: String,
}

/// How a call ended without a value, after its last attempt: what is tried again is not told.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// The function returned an error.
    Error,
    /// It panicked, or raised what nobody caught.
    Panicked,
    /// Its argument could not be decoded.
    Argument,
    /// What it returned could not be encoded, or is too long.
    Unencodable,
    /// What it returned is not what this side expects.
    Undecodable(Mismatch),
    /// Not the function failed, but what stands around it: the worker has none of this name, or the child process that
    /// it ran in went away without an answer.
    NoFunction,
    /// The process that it ran in ended on its own.
    Exited {
        /// With this status.
        code: i32,
    },
    /// The process that it ran in was killed.
    Killed {
        /// By this signal.
        signal: i32,
        /// When memory had run out.
        out_of_memory: bool,
    },
    /// It took longer than its timeout.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// Too many others of its job had failed before it began.
    Skipped,
    /// Its worker was lost, and that too often.
    WorkerLost,
    /// The worker could not run it.
    Rejected,
}

impl CallError {
    /// What an ended task without a value says of this call of its job.
    #[must_use]
    pub fn of(task: Task, call: &Call) -> Self {
        Self::new(task, &call.function, &call.codec)
    }

    /// What a task without a value says. `codec` is the call's, by its name.
    pub(crate) fn new(task: Task, function: &str, codec: &str) -> Self {
        let state = task.state();
        let outcome = task.outcome.unwrap_or_default();
        let ended = ending(&outcome, state);
        // Of a worker that was lost nobody counted.
        let printed = outcome.stdout_bytes + outcome.stderr_bytes > 0 || ended == Ending::WorkerLost;
        let failure = outcome.failure.unwrap_or_default();
        let said = if failure.message.is_empty() { outcome.message } else { failure.message };
        Self {
            job: JobId(task.job_id),
            index: task.index,
            attempt: outcome.attempt.max(task.attempt),
            function: function.to_owned(),
            worker: if outcome.worker.is_empty() { task.worker } else { outcome.worker },
            ended,
            type_name: failure.r#type,
            message: said,
            chain: failure.chain,
            place: failure.place,
            fatal: failure.fatal,
            printed,
            value: failure.value,
            codec: codec.to_owned(),
        }
    }

    /// A value came, but not one of the type that was expected.
    pub(crate) fn undecodable(task: Task, function: &str, codec: &str, mismatch: Mismatch) -> Self {
        let message = mismatch.to_string();
        let ended = Ending::Undecodable(mismatch);
        Self { ended, message, ..Self::new(task, function, codec) }
    }

    /// The error itself, if the function gave it: a value of its own type, which travels up to 32 KiB.
    ///
    /// ```no_run
    /// # use taskq_client::{Client, Error};
    /// # #[derive(serde::Deserialize)] struct Empty { tank: u8 }
    /// # fn tour(error: Error) {
    /// if let Error::Call(failed) = error
    ///     && let Some(Ok(Empty { tank })) = failed.typed()
    /// {
    ///     println!("fill tank {tank}");
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// It is another type. The outer `None`: the function gave only words.
    pub fn typed<E: DeserializeOwned>(&self) -> Option<Result<E, Mismatch>> {
        if self.value.is_empty() {
            return None;
        }
        Some(decode(&self.codec, &self.value))
    }

    /// The error itself as text, if it is written as one.
    fn readable(&self) -> Option<&str> {
        let json = self.codec.parse() == Ok(Codec::Json) && !self.value.is_empty();
        json.then(|| std::str::from_utf8(&self.value).ok()).flatten()
    }

    /// What happened, without what the words before it say already: which function, and what is wrong with what.
    fn said(&self) -> &str {
        let said = self.message.as_str();
        let known = match &self.ended {
            Ending::Argument => format!("the argument of function {}: ", self.function),
            Ending::Unencodable => format!("what function {} returned: ", self.function),
            Ending::Error
            | Ending::Panicked
            | Ending::Undecodable(_)
            | Ending::NoFunction
            | Ending::Exited { .. }
            | Ending::Killed { .. }
            | Ending::TimedOut
            | Ending::Cancelled
            | Ending::Skipped
            | Ending::WorkerLost
            | Ending::Rejected => format!("{}: ", self.function),
        };
        said.strip_prefix(known.as_str()).unwrap_or(said)
    }
}

/// Reads bytes that are written in the codec of this name.
pub(crate) fn decode<T: DeserializeOwned>(codec: &str, bytes: &[u8]) -> Result<T, Mismatch> {
    match codec.parse::<Codec>() {
        Ok(codec) => codec.decode(bytes),
        Err(unknown) => Err(Mismatch {
            expected: std::any::type_name::<T>(),
            codec: Codec::Raw,
            place: String::new(),
            problem: unknown.to_string(),
        }),
    }
}

fn ending(outcome: &Outcome, state: State) -> Ending {
    match outcome.kind() {
        Kind::Failed => outcome.failure.as_ref().map_or(Ending::Error, cause),
        Kind::Exited | Kind::CannotExecute => Ending::Exited { code: outcome.exit_code },
        Kind::Signaled => Ending::Killed { signal: outcome.signal, out_of_memory: outcome.out_of_memory },
        Kind::TimedOut => Ending::TimedOut,
        Kind::Cancelled => Ending::Cancelled,
        Kind::WorkerLost => Ending::WorkerLost,
        Kind::Skipped => Ending::Skipped,
        Kind::Rejected => Ending::Rejected,
        // A task that never began has no outcome to speak of; its state says why.
        Kind::Unspecified | Kind::Completed => match state {
            State::Cancelled => Ending::Cancelled,
            State::Skipped => Ending::Skipped,
            State::Unspecified
            | State::Blocked
            | State::Queued
            | State::Running
            | State::Backoff
            | State::Succeeded
            | State::Failed
            | State::Expired => Ending::Error,
        },
    }
}

fn cause(failure: &Failure) -> Ending {
    match failure.cause() {
        Cause::Unspecified | Cause::Error => Ending::Error,
        Cause::Panic => Ending::Panicked,
        Cause::Argument => Ending::Argument,
        Cause::Result => Ending::Unencodable,
        Cause::Function => Ending::NoFunction,
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Error => f.write_str("returned an error"),
            Ending::Panicked => f.write_str("panicked"),
            Ending::Argument => f.write_str("could not read its argument"),
            Ending::Unencodable => f.write_str("returned what cannot be written"),
            Ending::Undecodable(_) => f.write_str("returned what cannot be read here"),
            Ending::NoFunction => f.write_str("failed"),
            Ending::Exited { code } => write!(f, "ended its process with status {code}"),
            Ending::Killed { signal, out_of_memory: false } => write!(f, "was killed by signal {signal}"),
            Ending::Killed { signal, out_of_memory: true } => {
                write!(f, "was killed by signal {signal}, out of memory")
            }
            Ending::TimedOut => f.write_str("took longer than its timeout"),
            Ending::Cancelled => f.write_str("was cancelled"),
            Ending::Skipped => f.write_str("was skipped, as too many others had failed"),
            Ending::WorkerLost => f.write_str("lost its worker"),
            Ending::Rejected => f.write_str("could not be run by its worker"),
        }
    }
}

/// What failed and how; then the words and where they are from, what caused it, and where to read on.
impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.function, self.ended)?;
        // Of a panic, or of an argument that does not fit, the words above say as much.
        let of_type = if self.ended == Ending::Error { self.type_name.as_str() } else { "" };
        match (of_type, self.said()) {
            ("", "") => {}
            ("", said) => write!(f, ": {said}")?,
            (of_type, "") => write!(f, ": {of_type}")?,
            // A message often begins with its type already.
            (of_type, said) if said.starts_with(of_type) => write!(f, ": {said}")?,
            (of_type, said) => write!(f, ": {said} ({of_type})")?,
        }
        for cause in &self.chain {
            write!(f, "\n  caused by: {cause}")?;
        }
        if !self.place.is_empty() {
            write!(f, "\n  at {}", self.place)?;
        }
        if let Some(value) = self.readable() {
            let cut = value.char_indices().nth(READABLE).map_or(value.len(), |(at, _)| at);
            write!(f, "\n  value: {}{}", &value[..cut], if cut < value.len() { "…" } else { "" })?;
        }
        write!(f, "\n  job {}, task {}", self.job, self.index)?;
        if self.attempt > 0 {
            write!(f, ", attempt {}", self.attempt)?;
        }
        if !self.worker.is_empty() {
            write!(f, ", worker {}", self.worker)?;
        }
        let (job, index) = (self.job, self.index);
        match &self.ended {
            Ending::Argument => write!(f, "; give both sides the same type"),
            Ending::Undecodable(_) => {
                write!(f, "; give both sides the same type; its value as it is: taskq result {job}.{index}")
            }
            Ending::NoFunction if !self.printed => {
                write!(f, "; see what workers offer: taskq worker show")
            }
            Ending::Cancelled | Ending::Skipped => write!(f, "; run it again: taskq retry {job}"),
            Ending::Error
            | Ending::Panicked
            | Ending::Unencodable
            | Ending::NoFunction
            | Ending::Exited { .. }
            | Ending::Killed { .. }
            | Ending::TimedOut
            | Ending::WorkerLost
            | Ending::Rejected => match self.printed {
                true => write!(f, "; its output: taskq logs {job}.{index}"),
                false => Ok(()),
            },
        }
    }
}

impl std::error::Error for CallError {}
