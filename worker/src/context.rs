//! What a function knows of its call, and what it can say meanwhile.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use taskq_client::JobId;
use tokio_util::sync::CancellationToken;

use crate::attempt::{Key, Stream};
use crate::child::Upward;
use crate::failure::Failure;
use crate::outbox::Progress;
use crate::runtime::live::Live;

/// One call, as its function sees it. Cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Inside>);

struct Inside {
    about: About,
    signal: Signal,
    voice: Voice,
}

/// Which call it is.
pub(crate) struct About {
    pub key: Key,
    pub function: Arc<str>,
    pub codec: Arc<str>,
    pub worker: Arc<str>,
    pub slot: u32,
    pub deadline: Option<Instant>,
}

/// Whether it is to end, and why.
#[derive(Default)]
pub(crate) struct Signal {
    token: CancellationToken,
    /// 0: it is not.
    why: AtomicU8,
}

/// Where it goes what a call says.
pub(crate) enum Voice {
    /// To the worker, which is this process.
    Here(Arc<Live>),
    /// From a child to its worker.
    Child(Arc<Upward>),
}

/// Why a call is to end before it has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Why {
    /// It runs longer than its timeout.
    TimedOut = 1,
    /// The worker stops. The task goes to another one.
    Stopping = 2,
    /// Somebody cancelled it.
    Cancelled = 3,
    /// The task belongs to another worker by now: nobody wants to know what this call returns.
    LeaseLost = 4,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::TimedOut => "it ran longer than its timeout",
            Why::Stopping => "the worker stops",
            Why::Cancelled => "it was cancelled",
            Why::LeaseLost => "the task was given to another worker",
        })
    }
}

/// A call was told to end, and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the call was told to end: {0}")]
pub struct Stopped(pub Why);

impl Context {
    pub(crate) fn new(about: About, signal: Signal, voice: Voice) -> Context {
        Context(Arc::new(Inside { about, signal, voice }))
    }

    /// The job that the call belongs to.
    #[must_use]
    pub fn job(&self) -> JobId {
        JobId(self.0.about.key.job.0)
    }

    /// Which of the job's tasks it is, from 0.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.0.about.key.index
    }

    /// Which try of that task it is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.about.key.attempt
    }

    /// The name of the function, as it is registered.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.0.about.function
    }

    /// The name of the codec in which argument and value are written.
    pub(crate) fn codec(&self) -> &str {
        &self.0.about.codec
    }

    /// The name of the worker that runs it.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.0.about.worker
    }

    /// The number of the slot that it has, from 0. Asynchronous calls have slots of their own.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.0.about.slot
    }

    /// When its timeout is over; None if it has none.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.0.about.deadline
    }

    /// Returns when the call is to end before its time; [`why`](Context::why) then says why. Cancel-safe.
    pub async fn cancelled(&self) {
        self.0.signal.token.cancelled().await;
    }

    /// Whether the call is to end. What it returns after that still counts if it is a value.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.signal.token.is_cancelled()
    }

    /// Why the call is to end; None if it is not.
    #[must_use]
    pub fn why(&self) -> Option<Why> {
        match self.0.signal.why.load(Ordering::Relaxed) {
            1 => Some(Why::TimedOut),
            2 => Some(Why::Stopping),
            3 => Some(Why::Cancelled),
            4 => Some(Why::LeaseLost),
            _ => None,
        }
    }

    /// For loops: `context.check()?` goes on only while it makes sense.
    ///
    /// # Errors
    /// The call is to end.
    #[track_caller]
    pub fn check(&self) -> Result<(), Failure> {
        match self.why() {
            None => Ok(()),
            Some(why) => Err(Failure::from(Stopped(why))),
        }
    }

    /// The token that is cancelled when the call is to end, for what takes one.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.0.signal.token
    }

    /// Says how far the call is: a fraction from 0 to 1, and a note for people, of which 1 KiB is kept. Callers see the
    /// newest one, soon; it costs little to say it often. A fraction below 0 is taken for 0, one above 1 for 1, and what is
    /// no number or infinite for 0: this never fails.
    pub fn progress(&self, fraction: f64, note: &str) {
        let progress = Progress::new(fraction, note);
        match &self.0.voice {
            Voice::Here(live) => live.progress(progress),
            Voice::Child(upward) => upward.progress(progress),
        }
    }

    /// The task's standard output, to [`Write`] to from any thread.
    ///
    /// Nothing needs to be flushed: what is written is the task's at once, in whole lines or not, and is shown live within
    /// some 50 ms. (In a child process it goes through std's standard output, which holds back a line until it is complete;
    /// that is flushed when the call ends, and by `flush`.) Each write stays in one piece; two threads that write at a time
    /// do well to write whole lines. [`println!`](crate::println) is the shorter way, on the thread that runs the call.
    ///
    /// Std's `println!` finds its way here only from child processes. On threads and the event loop it goes to the worker's
    /// own output, and the caller does not see it.
    #[must_use]
    pub fn stdout(&self) -> Output {
        Output { context: self.clone(), stream: Stream::Stdout }
    }

    /// The task's standard error; as [`stdout`](Context::stdout), but never held back. This is also where lines of `tracing`
    /// go, once the log is [started](crate::log::start).
    #[must_use]
    pub fn stderr(&self) -> Output {
        Output { context: self.clone(), stream: Stream::Stderr }
    }

    /// Tells the function that it is to end. The hardest word is the one that counts.
    pub(crate) fn signal(&self, why: Why) {
        self.0.signal.why.fetch_max(why as u8, Ordering::Relaxed);
        self.0.signal.token.cancel();
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} {})", self.function(), self.0.about.key)
    }
}

/// One of the two streams of a task. What is written is kept with the task and shown live, as far as the job's output
/// limit goes; a write waits while the coordinator takes nothing off the worker. Writing after the call has ended is not
/// an error, but nobody sees it.
#[derive(Clone, Debug)]
pub struct Output {
    context: Context,
    stream: Stream,
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &self.context.0.voice {
            Voice::Here(live) => live.write(self.stream, data, || self.context.is_cancelled()),
            Voice::Child(_) => match self.stream {
                Stream::Stdout => io::stdout().write_all(data)?,
                Stream::Stderr => io::stderr().write_all(data)?,
            },
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match (&self.context.0.voice, self.stream) {
            (Voice::Here(_), _) | (Voice::Child(_), Stream::Stderr) => Ok(()),
            (Voice::Child(_), Stream::Stdout) => io::stdout().flush(),
        }
    }
}
