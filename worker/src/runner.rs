//! One attempt from its template to its outcome.
//!
//! ```text
//! expand ─► start ─► running ──exits───────────────► drain pipes ─► outcome
//!             │         │ timeout, cancel, stop          ▲
//!             │         ▼                                │
//!             │       TERM to the tree ──grace──► KILL to the tree
//!             ▼
//!          cannot execute / rejected
//! ```
//!
//! It knows processes and pipes; it does not know who assigned the attempt, nor what becomes of its reports.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use crate::attempt::{Chunk, How, Key, Outcome, Rest, Stream, Task, Usage};
use crate::clock;
use crate::command::{self, Surroundings};
use crate::memory::Memory;
use crate::outbox::{Event, Report};
use crate::output::{CHUNK, Capture};
use crate::spawner::{self, Control, Exit, Failure, Process, Spawner, Stage};

/// Output of a running task is passed on after at most this long.
const FLUSH: Duration = Duration::from_millis(50);
/// The output of a task that ends sooner than this is read once, at its end. A pipe holds what most write until then.
const WATCH_AFTER: Duration = Duration::from_millis(5);
/// Pauses before a start is tried again that failed for a reason that passes.
const START_PAUSES_MS: [u64; 5] = [10, 30, 100, 300, 900];
/// What is read of a pipe after all its writers are gone: the most that a pipe holds.
const LAST_READ: usize = 1024 * 1024;

/// What all attempts of a worker share.
pub(crate) struct Context {
    pub spawner: Spawner,
    pub surroundings: Surroundings,
    pub reports: mpsc::UnboundedSender<Report>,
    pub room: Arc<Semaphore>,
    pub memory: Memory,
}

/// Why an attempt is to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Somebody cancelled it: TERM, grace, KILL.
    Cancelled,
    /// The worker stops: TERM, grace, KILL; costs no attempt.
    Preempted,
    /// It belongs to somebody else: KILL at once.
    Stale,
}

/// Runs one attempt. Its last report is its end.
pub(crate) async fn run(context: Arc<Context>, task: Task, slot: u32, stop: watch::Receiver<Option<Stop>>) {
    let key = task.key;
    let outcome = attempt(&context, task, slot, stop).await;
    // The receiver outlives every runner; if not, nobody wants to know.
    let _ = context.reports.send(Report { key, event: Event::Ended(Box::new(outcome)) });
}

async fn attempt(
    context: &Context,
    task: Task,
    slot: u32,
    mut stop: watch::Receiver<Option<Stop>>,
) -> Outcome {
    let process = match start(context, &task, slot, &mut stop).await {
        Ok(process) => process,
        Err(outcome) => return *outcome,
    };
    let started_unix_ms = process.started_unix_ms;
    let _ =
        context.reports.send(Report { key: task.key, event: Event::Started { unix_ms: started_unix_ms } });
    let running = Running::new(context, &task, process);
    let mut outcome = running.until_end(&mut stop).await;
    outcome.started_unix_ms = started_unix_ms;
    outcome
}

async fn start(
    context: &Context,
    task: &Task,
    slot: u32,
    stop: &mut watch::Receiver<Option<Stop>>,
) -> Result<Process, Box<Outcome>> {
    let surroundings = &context.surroundings;
    let ended = |how, message| {
        let now = clock::unix_ms();
        Box::new(Outcome { how, message, started_unix_ms: now, ended_unix_ms: now, ..Outcome::default() })
    };
    let command = command::expand(task, slot, surroundings).map_err(|m| ended(How::CannotExecute(126), m))?;
    let mut pauses = START_PAUSES_MS.iter();
    loop {
        let failure = match context.spawner.spawn(command.clone()).await {
            Ok(process) => return Ok(process),
            Err(failure) => failure,
        };
        let (how, message) = command::explain(failure, &command, surroundings);
        match (passes(failure), pauses.next()) {
            (true, Some(pause)) => {
                let pause = Duration::from_millis(*pause);
                if let Ok(Ok(stop)) = timeout(pause, stop.wait_for(Option::is_some)).await {
                    return Err(ended(stopped(*stop), String::new()));
                }
            }
            (true, None) | (false, _) => return Err(ended(how, message)),
        }
    }
}

/// Whether the same start may succeed a moment later: no process could be made, or a program is being written.
fn passes(failure: Failure) -> bool {
    match failure {
        Failure::Lost => false,
        Failure::Refused { stage: Stage::Fork, .. } => true,
        Failure::Refused { errno, .. } => errno == libc::ETXTBSY,
    }
}

/// By SIGKILL, or a child of the shell that it was; not by this worker.
fn was_killed_outright(how: How) -> bool {
    match how {
        How::Signaled(signal) => signal == libc::SIGKILL,
        How::Exited(code) => code == 128 + libc::SIGKILL,
        How::TimedOut | How::Cancelled | How::CannotExecute(_) | How::Lost | How::Rejected => false,
    }
}

fn stopped(stop: Option<Stop>) -> How {
    match stop {
        Some(Stop::Cancelled) => How::Cancelled,
        Some(Stop::Preempted | Stop::Stale) | None => How::Rejected,
    }
}

/// Who told the process to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Timeout,
    Stop(Stop),
}

struct Running<'a> {
    context: &'a Context,
    task: &'a Task,
    control: Control,
    exit: spawner::Ending,
    stdout: Pipe,
    stderr: Pipe,
    ending: Option<Ending>,
    /// When the next step of the ending is due: TERM for the timeout, or KILL.
    deadline: Option<Instant>,
    /// When to begin to look at output.
    watch: Option<Instant>,
    flush: Option<Instant>,
}

impl<'a> Running<'a> {
    fn new(context: &'a Context, task: &'a Task, process: Process) -> Running<'a> {
        let Process { control, exit, stdout, stderr, .. } = process;
        let pipe = |fd| Pipe { source: Source::Ignored(fd), capture: Capture::new(task.job.output_limit) };
        let now = Instant::now();
        let deadline = task.job.timeout.and_then(|timeout| now.checked_add(timeout));
        Running {
            context,
            task,
            control,
            exit,
            stdout: pipe(stdout),
            stderr: pipe(stderr),
            ending: None,
            deadline,
            watch: Some(now + WATCH_AFTER),
            flush: None,
        }
    }

    async fn until_end(mut self, stop: &mut watch::Receiver<Option<Stop>>) -> Outcome {
        let exit = loop {
            let now = Instant::now();
            tokio::select! {
                biased;
                exit = self.exit.wait() => break exit,
                Ok(()) = stop.changed() => {
                    let why = *stop.borrow_and_update();
                    self.stop(why);
                }
                () = sleep_until(self.deadline.unwrap_or(now)), if self.deadline.is_some() => self.due(),
                () = sleep_until(self.flush.unwrap_or(now)), if self.flush.is_some() => self.pass_on(1),
                () = sleep_until(self.watch.unwrap_or(now)), if self.watch.is_some() => {
                    self.watch = None;
                    self.stdout.watch();
                    self.stderr.watch();
                }
                () = self.stdout.readable(), if self.stdout.wants_more() => {
                    self.stdout.read();
                    self.pass_on(CHUNK);
                }
                () = self.stderr.readable(), if self.stderr.wants_more() => {
                    self.stderr.read();
                    self.pass_on(CHUNK);
                }
            }
        };
        self.finish(exit)
    }

    fn stop(&mut self, why: Option<Stop>) {
        let Some(why) = why else { return };
        if why == Stop::Stale {
            self.control.kill(Signal::KILL);
            self.deadline = None;
        } else if self.ending.is_none() {
            self.term();
        } else if self.ending == Some(Ending::Stop(Stop::Cancelled)) {
            return; // on its way already, and cancelled it stays
        }
        self.ending = Some(Ending::Stop(why));
    }

    fn due(&mut self) {
        if self.ending.is_some() {
            self.control.kill(Signal::KILL);
            self.deadline = None;
        } else {
            self.term();
            self.ending = Some(Ending::Timeout);
        }
    }

    fn term(&mut self) {
        self.control.kill(Signal::TERM);
        self.deadline = Instant::now().checked_add(self.task.job.grace);
    }

    /// Reports output of streams that have at least this much, as far as there is room.
    fn pass_on(&mut self, least: usize) {
        let (context, key) = (self.context, self.task.key);
        let passed = self.stdout.pass_on(context, key, Stream::Stdout, least)
            & self.stderr.pass_on(context, key, Stream::Stderr, least);
        let left = self.stdout.capture.pending() + self.stderr.capture.pending() > 0;
        if !left {
            self.flush = None;
        } else if self.flush.is_none() || least == 1 || !passed {
            self.flush = Some(Instant::now() + FLUSH);
        }
    }

    fn finish(mut self, exit: Exit) -> Outcome {
        self.stdout.read_rest();
        self.stderr.read_rest();
        let stdout = self.last_output(Stream::Stdout);
        let stderr = self.last_output(Stream::Stderr);
        let (how, usage, fenced) = match exit {
            Exit::Lost => (How::Lost, Usage::default(), false),
            Exit::Exited(exited) => {
                let usage = Usage {
                    wall_us: exited.wall_us,
                    user_us: exited.user_us,
                    system_us: exited.system_us,
                    peak_rss_bytes: exited.peak_rss_bytes,
                };
                let how =
                    if exited.fenced { How::Rejected } else { self.how(exited.status, exited.was_killed) };
                (how, usage, exited.fenced)
            }
        };
        let out_of_memory = was_killed_outright(how) && self.context.memory.ran_out();
        let message = self.message(how, fenced);
        let ended_unix_ms = clock::unix_ms();
        Outcome { how, message, out_of_memory, usage, stdout, stderr, started_unix_ms: 0, ended_unix_ms }
    }

    fn how(&self, status: i32, was_killed: bool) -> How {
        match self.ending {
            Some(Ending::Timeout) if was_killed => How::TimedOut,
            Some(Ending::Stop(why)) if was_killed => stopped(Some(why)),
            // It ended by itself just before it would have been told to.
            Some(_) | None if libc::WIFSIGNALED(status) => How::Signaled(libc::WTERMSIG(status)),
            Some(_) | None => How::Exited(libc::WEXITSTATUS(status)),
        }
    }

    fn message(&self, how: How, fenced: bool) -> String {
        let worker = &self.context.surroundings.worker;
        match how {
            How::TimedOut => {
                let limit = self.task.job.timeout.unwrap_or_default();
                format!("ran longer than its timeout of {limit:?}; raise --timeout if that was too short")
            }
            How::Signaled(signal) => format!("ended by signal {signal}"),
            How::Lost => {
                format!("worker {worker}: the process that runs tasks was killed, and this task with it")
            }
            How::Rejected if fenced => format!("worker {worker} killed it, as its lease was about to end"),
            How::Rejected => format!("worker {worker} was stopped before the task had ended"),
            How::Exited(_) | How::Cancelled | How::CannotExecute(_) => String::new(),
        }
    }

    /// Reports what is left of a stream but for its last piece. What it takes of the room is bounded by the pipe.
    fn last_output(&mut self, stream: Stream) -> Rest {
        let pipe = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let capture = std::mem::replace(&mut pipe.capture, Capture::new(crate::attempt::ByteCount(0)));
        let (chunks, rest) = capture.finish();
        for chunk in chunks {
            let room = room_for(self.context, &chunk);
            report(self.context, self.task.key, stream, chunk, room);
        }
        rest
    }
}

struct Pipe {
    source: Source,
    capture: Capture,
}

enum Source {
    /// Nobody has looked yet.
    Ignored(OwnedFd),
    Watched(pipe::Receiver),
    /// All writers are gone.
    Ended,
}

impl Pipe {
    fn watch(&mut self) {
        if let Source::Ignored(fd) = std::mem::replace(&mut self.source, Source::Ended) {
            match pipe::Receiver::from_owned_fd_unchecked(fd) {
                Ok(receiver) => self.source = Source::Watched(receiver),
                Err(error) => warn!(%error, "the output of a task cannot be read"),
            }
        }
    }

    /// A stream whose output is not taken off us is not read: its writer then waits.
    fn wants_more(&self) -> bool {
        matches!(self.source, Source::Watched(_)) && self.capture.pending() < CHUNK
    }

    /// Cancel-safe.
    async fn readable(&self) {
        match &self.source {
            Source::Watched(pipe) => _ = pipe.readable().await,
            Source::Ignored(_) | Source::Ended => pending().await,
        }
    }

    /// Reads what there is, once.
    fn read(&mut self) {
        let Source::Watched(pipe) = &self.source else { return };
        let mut buffer = [0; 16 * 1024];
        match pipe.try_read(&mut buffer) {
            Ok(count @ 1..) => self.capture.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => self.source = Source::Ended,
        }
    }

    /// All writers that we know of are gone. If one that escaped us still holds the pipe, it writes to nobody.
    ///
    /// Asks the kernel, not the runtime: that may not have heard yet that there is something to read.
    fn read_rest(&mut self) {
        let pipe = match &self.source {
            Source::Ignored(pipe) => pipe.as_fd(),
            Source::Watched(pipe) => pipe.as_fd(),
            Source::Ended => return,
        };
        let mut buffer = [0; 16 * 1024];
        let mut read = 0;
        while read < LAST_READ {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(count @ 1..) => {
                    self.capture.push(&buffer[..count]);
                    read += count;
                }
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.source = Source::Ended;
    }

    /// False if there was no room.
    fn pass_on(&mut self, context: &Context, key: Key, stream: Stream, least: usize) -> bool {
        while self.capture.pending() >= least {
            let size = u32::try_from(self.capture.pending().min(CHUNK)).expect("a chunk is small");
            let Ok(room) = Arc::clone(&context.room).try_acquire_many_owned(size) else { return false };
            let Some(chunk) = self.capture.chunk() else { return true };
            report(context, key, stream, chunk, Some(room));
        }
        true
    }
}

fn room_for(context: &Context, chunk: &Chunk) -> Option<tokio::sync::OwnedSemaphorePermit> {
    let size = u32::try_from(chunk.data.len()).expect("a chunk is small");
    Arc::clone(&context.room).try_acquire_many_owned(size).ok()
}

fn report(
    context: &Context,
    key: Key,
    stream: Stream,
    chunk: Chunk,
    room: Option<tokio::sync::OwnedSemaphorePermit>,
) {
    let _ = context.reports.send(Report { key, event: Event::Output { stream, chunk, _room: room } });
}
