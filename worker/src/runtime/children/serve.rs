//! One call in a child, from its argument to its outcome.
//!
//! ```text
//! call ─► running ──answers───────────────────► read pipes ─► outcome, child stays
//!            │  │ timeout, cancel, stop              ▲
//!            │  └──► cancel ──grace──► KILL ──┐      │
//!            └──────────────────────────── dies ─────┘           child is replaced
//! ```

use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use tokio::time::{Instant, sleep_until};

use super::super::call::{End, argument, end_stopped, refuse};
use super::super::{Shared, Stop};
use super::child::{Child, Ears};
use super::{Program, Work, end};
use crate::attempt::{Cause, Fault, Outcome, Stream, Task, Usage};
use crate::child::frame::{Down, Up, Used};
use crate::clock;
use crate::context::Why;
use crate::outbox::{Event, Progress};
use crate::output::CHUNK;
use crate::registry::{Returned, fits};
use crate::spawner::Exit;

/// Output and progress are passed on after at most this long.
const FLUSH: Duration = Duration::from_millis(50);
/// Numbers above 2^53 are not exact in all languages that read JSON.
const ID_SHIFT: u32 = 11;

/// Runs one call. False if the child is not to be used again.
pub(super) async fn serve(shared: &Shared, program: &Program, child: &mut Child, work: Work) -> bool {
    let Work { task, slot, mut stop } = work;
    let stopped = *stop.borrow_and_update();
    if let Some(why) = stopped {
        end_stopped(shared, &task, why);
        return true;
    }
    let function = &task.call().expect("only calls come here").function;
    if !child.functions.iter().any(|name| **name == **function) {
        let worker = &shared.surroundings.worker;
        let message = format!("worker {worker}: the child process has no function {function:?}");
        refuse(shared, &task, Fault::new(Cause::Function, message));
        return true;
    }
    let mut running = Running::begin(shared, &task, slot, child);
    let over = running.until_end(&mut stop).await;
    let (outcome, stays) = running.outcome(over, program);
    shared.report(task.key, Event::Ended(Box::new(outcome)));
    stays
}

/// How a call is over.
enum Over {
    Answered(Returned),
    Died(Exit),
}

struct Running<'a> {
    shared: &'a Shared,
    task: &'a Task,
    child: &'a mut Child,
    id: u64,
    began: Instant,
    started_unix_ms: u64,
    why: Option<Why>,
    /// When the next step of the ending is due: the word for the timeout, or KILL.
    deadline: Option<Instant>,
    /// When to pass on what was said.
    flush: Option<Instant>,
    progress: Option<Progress>,
    /// As the child says in its answer.
    used: Used,
    /// What the child did that no child does; it is killed for that.
    broke: Option<String>,
    /// The child has ended.
    gone: bool,
}

impl<'a> Running<'a> {
    fn begin(shared: &'a Shared, task: &'a Task, slot: u32, child: &'a mut Child) -> Running<'a> {
        let (began, started_unix_ms) = (Instant::now(), clock::unix_ms());
        shared.report(task.key, Event::Started { unix_ms: started_unix_ms });
        child.stdout.begin(task.job.output_limit);
        child.stderr.begin(task.job.output_limit);
        // Not to be guessed: what was said for another call is never taken for the answer to this one.
        let id = rand::random::<u64>() >> ID_SHIFT;
        let call = task.call().expect("a call");
        let header = Down::Call {
            id,
            function: call.function.to_string(),
            codec: call.codec.to_string(),
            job: task.key.job.0,
            task: task.key.index,
            attempt: task.key.attempt,
            deadline_ms: task.job.timeout.map(millis),
            worker: shared.surroundings.worker.to_string(),
            slot,
        };
        child.say(&header, &argument(task));
        let deadline = task.job.timeout.and_then(|timeout| began.checked_add(timeout));
        Running {
            shared,
            task,
            child,
            id,
            began,
            started_unix_ms,
            why: None,
            deadline,
            flush: None,
            progress: None,
            used: Used::default(),
            broke: None,
            gone: false,
        }
    }

    async fn until_end(&mut self, stop: &mut tokio::sync::watch::Receiver<Option<Stop>>) -> Over {
        let mut hangs_on = true;
        loop {
            let now = Instant::now();
            let Ears { exit, stdout, stderr, socket, incoming } = self.child.ears();
            tokio::select! {
                biased;
                Ok(()) = stop.changed() => {
                    let why = *stop.borrow_and_update();
                    self.stop(why);
                }
                () = sleep_until(self.deadline.unwrap_or(now)), if self.deadline.is_some() => self.due(),
                frame = Child::frame(socket, incoming), if hangs_on => match frame {
                    Ok((header, body)) => {
                        if let Some(returned) = self.heard(header, body) {
                            return Over::Answered(returned);
                        }
                    }
                    Err(error) => {
                        hangs_on = false;
                        self.breaks(&error);
                    }
                },
                exit = exit.wait() => return self.died(exit).await,
                () = sleep_until(self.flush.unwrap_or(now)), if self.flush.is_some() => self.pass_on(1),
                () = stdout.readable(), if stdout.wants_more() => {
                    stdout.read();
                    self.pass_on(CHUNK);
                }
                () = stderr.readable(), if stderr.wants_more() => {
                    stderr.read();
                    self.pass_on(CHUNK);
                }
            }
        }
    }

    /// What it had said before it died still counts.
    async fn died(&mut self, exit: Exit) -> Over {
        self.gone = true;
        let Ears { socket, incoming, .. } = self.child.ears();
        let mut frames = Vec::new();
        while let Ok(frame) = Child::frame(socket, incoming).await {
            frames.push(frame);
        }
        let answer = frames.into_iter().find_map(|(header, body)| self.heard(header, body));
        answer.map_or(Over::Died(exit), Over::Answered)
    }

    /// The answer, if it was that.
    fn heard(&mut self, header: Up, body: Bytes) -> Option<Returned> {
        match header {
            Up::Completed { id, used } if id == self.id => {
                self.used = used;
                Some(fits(body, &self.task.call().expect("a call").function))
            }
            Up::Failed { id, cause, kind, message, chain, place, fatal, used } if id == self.id => {
                self.used = used;
                let value = if body.len() > taskq_proto::INLINE_VALUE_BYTES { Bytes::new() } else { body };
                let cause = cause.into();
                Some(Err(Box::new(Fault { cause, kind, message, chain, place, fatal, value })))
            }
            Up::Progress { id, fraction, note } if id == self.id => {
                self.progress = Some(Progress::new(fraction, &note));
                self.flush.get_or_insert(Instant::now() + FLUSH);
                None
            }
            // Of an earlier call, or from a newer child.
            Up::Completed { .. }
            | Up::Failed { .. }
            | Up::Progress { .. }
            | Up::Hello { .. }
            | Up::Unknown => None,
        }
    }

    /// A child that hangs up, or is just being killed, is about to end; one that says what is no frame is ended.
    fn breaks(&mut self, error: &std::io::Error) {
        if error.kind() == std::io::ErrorKind::InvalidData {
            self.broke = Some(error.to_string());
        }
        self.child.control.kill(Signal::KILL);
    }

    fn stop(&mut self, stop: Option<Stop>) {
        let why = match stop {
            None => return,
            Some(Stop::Preempted) => Why::Stopping,
            Some(Stop::Cancelled) => Why::Cancelled,
            Some(Stop::Stale) => {
                self.why = Some(Why::LeaseLost);
                self.deadline = None;
                self.child.control.kill(Signal::KILL);
                return;
            }
        };
        if self.why.is_none() {
            self.tell(why);
        }
        self.why = self.why.max(Some(why));
    }

    fn due(&mut self) {
        if self.why.is_some() {
            self.deadline = None;
            self.child.control.kill(Signal::KILL);
        } else {
            self.why = Some(Why::TimedOut);
            self.tell(Why::TimedOut);
        }
    }

    fn tell(&mut self, why: Why) {
        let grace = self.task.job.grace;
        let header = Down::Cancel { id: self.id, why: why.into(), grace_ms: millis(grace) };
        self.child.say(&header, &Bytes::new());
        self.deadline = Instant::now().checked_add(grace);
    }

    /// Reports output of streams that have at least this much, as far as there is room, and how far the call is.
    fn pass_on(&mut self, least: usize) {
        let (shared, key) = (self.shared, self.task.key);
        if let Some(progress) = self.progress.take_if(|_| least == 1) {
            shared.report(key, Event::Progress(progress));
        }
        let Ears { stdout, stderr, .. } = self.child.ears();
        let passed = stdout.pass_on(shared, key, Stream::Stdout, least)
            & stderr.pass_on(shared, key, Stream::Stderr, least);
        let left = stdout.capture.pending() + stderr.capture.pending() > 0 || self.progress.is_some();
        if !left {
            self.flush = None;
        } else if self.flush.is_none() || least == 1 || !passed {
            self.flush = Some(Instant::now() + FLUSH);
        }
    }

    /// The outcome, and whether the child stays.
    fn outcome(self, over: Over, program: &Program) -> (Outcome, bool) {
        let Running { shared, task, child, why, began, started_unix_ms, used, broke, gone, .. } = self;
        let worker = &shared.surroundings.worker;
        child.stdout.read_now();
        child.stderr.read_now();
        let wall_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut usage = Usage { wall_us, ..used.into() };
        let mut outcome = match over {
            Over::Answered(returned) => End::of(task, worker, Some(returned), why).outcome(),
            Over::Died(exit) => {
                if let Exit::Exited(exited) = exit {
                    usage.peak_rss_bytes = exited.peak_rss_bytes;
                }
                end::of(exit, task, worker, why, program, &shared.memory, child.stderr.heard())
            }
        };
        if let Some(broke) = broke
            && why.is_none()
        {
            // That it was killed for it says less.
            let message = format!("its child process did not keep to the protocol, and was killed: {broke}");
            outcome = End::of(task, worker, Some(Err(Fault::new(Cause::Function, message))), None).outcome();
        }
        let stdout = child.stdout.finish(shared, task.key, Stream::Stdout);
        let stderr = child.stderr.finish(shared, task.key, Stream::Stderr);
        let ended_unix_ms = clock::unix_ms();
        (Outcome { usage, stdout, stderr, started_unix_ms, ended_unix_ms, ..outcome }, !gone)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
