//! Commands: one attempt from its template to its outcome.
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

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::expand;
use super::pipe::Pipe;
use super::{Attempt, Runtime, Shared, Stop, by_lease, by_worker};
use crate::attempt::{How, Outcome, Rest, Stream, Task, Usage};
use crate::clock;
use crate::outbox::Event;
use crate::output::CHUNK;
use crate::spawner::{self, Control, Exit, Failure, Process, Stage};

/// Output of a running task is passed on after at most this long.
const FLUSH: Duration = Duration::from_millis(50);
/// The output of a task that ends sooner than this is read once, at its end. A pipe holds what most write until then.
const WATCH_AFTER: Duration = Duration::from_millis(5);
/// Pauses before a start is tried again that failed for a reason that passes.
const START_PAUSES_MS: [u64; 5] = [10, 30, 100, 300, 900];

/// Runs commands, each in a process of its own.
pub(crate) struct Commands {
    shared: Arc<Shared>,
    running: Mutex<JoinSet<()>>,
}

impl Commands {
    pub(crate) fn new(shared: Arc<Shared>) -> Commands {
        Commands { shared, running: Mutex::default() }
    }
}

impl Runtime for Commands {
    fn start(&self, task: Task, slot: u32) -> Box<dyn Attempt> {
        let (stop, stopped) = watch::channel(None);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.spawn(run(Arc::clone(&self.shared), task, slot, stopped));
        Box::new(stop)
    }

    fn tend(&self) {
        super::take_leave(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Runs one attempt. Its last report is its end.
async fn run(shared: Arc<Shared>, task: Task, slot: u32, stop: watch::Receiver<Option<Stop>>) {
    let key = task.key;
    let outcome = attempt(&shared, task, slot, stop).await;
    shared.report(key, Event::Ended(Box::new(outcome)));
}

async fn attempt(shared: &Shared, task: Task, slot: u32, mut stop: watch::Receiver<Option<Stop>>) -> Outcome {
    let process = match start(shared, &task, slot, &mut stop).await {
        Ok(process) => process,
        Err(outcome) => return *outcome,
    };
    let started_unix_ms = process.started_unix_ms;
    shared.report(task.key, Event::Started { unix_ms: started_unix_ms });
    let running = Running::new(shared, &task, process);
    let mut outcome = running.until_end(&mut stop).await;
    outcome.started_unix_ms = started_unix_ms;
    outcome
}

async fn start(
    shared: &Shared,
    task: &Task,
    slot: u32,
    stop: &mut watch::Receiver<Option<Stop>>,
) -> Result<Process, Box<Outcome>> {
    let surroundings = &shared.surroundings;
    let ended = |how, message| {
        let now = clock::unix_ms();
        Box::new(Outcome { how, message, started_unix_ms: now, ended_unix_ms: now, ..Outcome::default() })
    };
    let command = expand::expand(task, slot, surroundings).map_err(|m| ended(How::CannotExecute(126), m))?;
    let mut pauses = START_PAUSES_MS.iter();
    loop {
        let failure = match shared.spawner.spawn(command.clone()).await {
            Ok(process) => return Ok(process),
            Err(failure) => failure,
        };
        let (how, message) = expand::explain(failure, &command, surroundings);
        match (passes(failure), pauses.next()) {
            (true, Some(pause)) => {
                let pause = Duration::from_millis(*pause);
                if let Ok(Ok(stop)) = timeout(pause, stop.wait_for(Option::is_some)).await {
                    return Err(ended(stop.map_or(How::Rejected, Stop::how), String::new()));
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

/// Limits that an attempt has met.
#[derive(Clone, Copy, Default)]
struct Met {
    memory: bool,
    processes: bool,
}

/// In the largest unit that leaves no rest.
fn limit_of_memory(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let (unit, name) =
        units.into_iter().find(|(unit, _)| bytes.is_multiple_of(*unit)).unwrap_or((1, "bytes"));
    format!("{} {name}", bytes / unit)
}

/// By SIGKILL, or a child of the shell that it was; not by this worker.
fn was_killed_outright(how: How) -> bool {
    match how {
        How::Signaled(signal) => signal == libc::SIGKILL,
        How::Exited(code) => code == 128 + libc::SIGKILL,
        How::TimedOut
        | How::Cancelled
        | How::CannotExecute(_)
        | How::Lost
        | How::Rejected
        | How::Completed
        | How::Failed => false,
    }
}

/// Who told the process to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Timeout,
    Stop(Stop),
}

struct Running<'a> {
    shared: &'a Shared,
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
    fn new(shared: &'a Shared, task: &'a Task, process: Process) -> Running<'a> {
        let Process { control, exit, stdout, stderr, .. } = process;
        let pipe = |fd| Pipe::new(fd, task.job.output_limit);
        let now = Instant::now();
        let deadline = task.job.timeout.and_then(|timeout| now.checked_add(timeout));
        Running {
            shared,
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
        let (shared, key) = (self.shared, self.task.key);
        let passed = self.stdout.pass_on(shared, key, Stream::Stdout, least)
            & self.stderr.pass_on(shared, key, Stream::Stderr, least);
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
        let mut met = Met::default();
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
                met = Met { memory: exited.out_of_memory, processes: exited.out_of_processes };
                (how, usage, exited.fenced)
            }
        };
        // The machine counts kills within groups, too: this one has found its victim.
        let out_of_memory = was_killed_outright(how) && (self.shared.memory.ran_out() || met.memory);
        let message = self.limit_met(how, met).unwrap_or_else(|| self.message(how, fenced));
        let ended_unix_ms = clock::unix_ms();
        Outcome { how, message, out_of_memory, usage, stdout, stderr, ended_unix_ms, ..Outcome::default() }
    }

    fn how(&self, status: i32, was_killed: bool) -> How {
        match self.ending {
            Some(Ending::Timeout) if was_killed => How::TimedOut,
            Some(Ending::Stop(why)) if was_killed => why.how(),
            // It ended by itself just before it would have been told to.
            Some(_) | None if libc::WIFSIGNALED(status) => How::Signaled(libc::WTERMSIG(status)),
            Some(_) | None => How::Exited(libc::WEXITSTATUS(status)),
        }
    }

    /// Which limit is the reason of a failure, or may be.
    fn limit_met(&self, how: How, met: Met) -> Option<String> {
        let limits = &self.task.job.limits;
        let failed = match how {
            How::Signaled(_) => true,
            How::Exited(code) => code != 0,
            How::TimedOut
            | How::Cancelled
            | How::CannotExecute(_)
            | How::Lost
            | How::Rejected
            | How::Completed
            | How::Failed => false,
        };
        if met.memory && failed {
            let limit = limit_of_memory(limits.memory_bytes?);
            let whole = was_killed_outright(how);
            let what = if whole { "killed" } else { "a process of it was killed" };
            return Some(format!("{what}: memory limit {limit}"));
        }
        if met.processes && failed {
            return Some(format!(
                "it met its limit of {} processes: one could not be made",
                limits.processes?
            ));
        }
        None
    }

    fn message(&self, how: How, fenced: bool) -> String {
        let worker = &self.shared.surroundings.worker;
        match how {
            How::TimedOut => {
                let limit = self.task.job.timeout.unwrap_or_default();
                super::too_slow(limit)
            }
            How::Signaled(signal) => format!("ended by signal {signal}"),
            How::Lost => {
                format!("worker {worker}: the process that runs tasks was killed, and this task with it")
            }
            How::Rejected if fenced => by_lease(worker),
            How::Rejected => by_worker(worker),
            How::Exited(_) | How::Cancelled | How::CannotExecute(_) | How::Completed | How::Failed => {
                String::new()
            }
        }
    }

    /// Reports what is left of a stream but for its last piece. What it takes of the room is bounded by the pipe.
    fn last_output(&mut self, stream: Stream) -> Rest {
        let pipe = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        pipe.finish(self.shared, self.task.key, stream)
    }
}
