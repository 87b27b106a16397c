//! A call that runs in this process: the gate between the function, the clock and those who want it stopped.
//!
//! ```text
//! running ──returns──────────────────────────► outcome
//!    │ timeout, cancel, stop: the token
//!    └──grace──► given up: outcome, still busy ──returns──► slot back
//! ```
//!
//! Whoever comes first through the gate decides; the others change nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::live::Live;
use super::{Attempt, News, Shared, Stop, by_lease, by_worker, too_slow};
use crate::attempt::{Argument, Fault, How, Outcome, Task, Usage};
use crate::clock;
use crate::context::{About, Context, Signal, Voice, Why};
use crate::outbox::{Event, Report};

/// How long the event loop has to drop a future that was told to go: one that does not yield in this time is busy.
const YIELD: Duration = Duration::from_millis(50);

/// One call, shared by its runtime, its function and the worker's loop.
pub(super) struct Call {
    context: Context,
    live: Arc<Live>,
    shared: Arc<Shared>,
    task: Task,
    began: Instant,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The attempt has ended, the function has not.
    GivenUp,
    Over,
}

impl Call {
    pub(super) fn begin(shared: &Arc<Shared>, task: Task, slot: u32) -> Arc<Call> {
        let began = Instant::now();
        let live = Live::new(shared, task.key, task.job.output_limit);
        let call = task.call().expect("only calls come here");
        let about = About {
            key: task.key,
            function: Arc::clone(&call.function),
            codec: Arc::clone(&call.codec),
            worker: Arc::clone(&shared.surroundings.worker),
            slot,
            deadline: task.job.timeout.and_then(|timeout| began.checked_add(timeout)),
        };
        let context = Context::new(about, Signal::default(), Voice::Here(Arc::clone(&live)));
        let (shared, phase) = (Arc::clone(shared), Mutex::new(Phase::Running));
        Arc::new(Call { context, live, shared, task, began, phase })
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// What the function is called with; fetched before, if it was a blob.
    pub(super) fn argument(&self) -> Bytes {
        argument(&self.task)
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function has returned, panicked, or was dropped (`None`). Gives what is to be told of it.
    pub(super) fn returned(&self, result: Option<Result<Bytes, Box<Fault>>>, used: Usage) -> Option<News> {
        let key = self.task.key;
        let before = std::mem::replace(&mut *self.phase(), Phase::Over);
        match before {
            Phase::Running => {
                let event = Event::Ended(Box::new(self.outcome(result, used)));
                Some(News::Report(Report { key, event }))
            }
            Phase::GivenUp => Some(News::Returned(key)),
            Phase::Over => None,
        }
    }

    /// The same, told at once.
    pub(super) fn tell_returned(&self, result: Option<Result<Bytes, Box<Fault>>>, used: Usage) {
        self.returned(result, used).into_iter().for_each(|news| self.shared.tell(news));
    }

    /// The attempt ends, whatever the function does.
    fn give_up(&self) {
        let mut phase = self.phase();
        if *phase == Phase::Running {
            *phase = Phase::GivenUp;
            let outcome = Box::new(self.outcome(None, Usage::default()));
            self.shared.tell(News::StillBusy(self.task.key, outcome));
        }
    }

    fn outcome(&self, result: Option<Result<Bytes, Box<Fault>>>, used: Usage) -> Outcome {
        let (stdout, stderr) = self.live.finish();
        let wall_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let end = End::of(&self.task, &self.shared.surroundings.worker, result, self.context.why());
        Outcome {
            usage: Usage { wall_us, ..used },
            stdout,
            stderr,
            started_unix_ms: self.live.started_unix_ms,
            ended_unix_ms: clock::unix_ms(),
            ..end.outcome()
        }
    }
}

/// What an end means: the same in this process and in a child.
pub(super) struct End {
    how: How,
    message: String,
    value: Bytes,
    fault: Option<Box<Fault>>,
}

impl End {
    /// A value counts, whatever was said before. Without one, who was told to stop has stopped.
    pub(super) fn of(
        task: &Task,
        worker: &str,
        result: Option<Result<Bytes, Box<Fault>>>,
        why: Option<Why>,
    ) -> End {
        let plain = |how, message| End { how, message, value: Bytes::new(), fault: None };
        match (result, why) {
            (Some(Ok(value)), _) => End { value, ..plain(How::Completed, String::new()) },
            (_, Some(Why::Cancelled)) => plain(How::Cancelled, String::new()),
            (_, Some(Why::TimedOut)) => plain(How::TimedOut, too_slow(task.job.timeout.unwrap_or_default())),
            (_, Some(Why::LeaseLost)) => plain(How::Rejected, by_lease(worker)),
            (_, Some(Why::Stopping)) | (None, None) => plain(How::Rejected, by_worker(worker)),
            (Some(Err(fault)), None) => {
                let message = fault.line(&task.call().expect("a call").function);
                End { fault: Some(fault), ..plain(How::Failed, message) }
            }
        }
    }

    pub(super) fn outcome(self) -> Outcome {
        let End { how, message, value, fault } = self;
        Outcome { how, message, value, fault, ..Outcome::default() }
    }
}

/// Ends a call that was never begun.
pub(crate) fn refuse(shared: &Shared, task: &Task, fault: Box<Fault>) {
    let end = End::of(task, &shared.surroundings.worker, Some(Err(fault)), None);
    end_unbegun(shared, task, end.outcome());
}

/// Ends a call that this worker cannot begin, which is no fault of the call: it costs no attempt.
pub(super) fn reject(shared: &Shared, task: &Task, why: &str) {
    let (worker, function) = (&shared.surroundings.worker, &task.call().expect("a call").function);
    let message = format!("worker {worker}: {function}: {why}");
    end_unbegun(shared, task, Outcome { how: How::Rejected, message, ..Outcome::default() });
}

/// Ends one that was stopped before it began.
pub(crate) fn end_stopped(shared: &Shared, task: &Task, why: Stop) {
    let message = if why == Stop::Cancelled { String::new() } else { by_worker(&shared.surroundings.worker) };
    end_unbegun(shared, task, Outcome { how: why.how(), message, ..Outcome::default() });
}

fn end_unbegun(shared: &Shared, task: &Task, outcome: Outcome) {
    let now = clock::unix_ms();
    let outcome = Outcome { started_unix_ms: now, ended_unix_ms: now, ..outcome };
    shared.report(task.key, Event::Ended(Box::new(outcome)));
}

/// An element, or what the call itself says.
pub(super) fn argument(task: &Task) -> Bytes {
    match (task.fields.first(), task.call().map(|call| &call.argument)) {
        (Some(element), _) => element.clone(),
        (None, Some(Argument::Bytes(bytes))) => bytes.clone(),
        (None, Some(Argument::Blob(_)) | None) => unreachable!("a blob is fetched before its call begins"),
    }
}

/// The worker's hold on a call that runs in this process.
pub(super) struct Held {
    call: Arc<Call>,
    /// The future of an asynchronous function: it can be dropped.
    future: Option<AbortHandle>,
    timers: Mutex<Vec<AbortHandle>>,
}

impl Held {
    /// Sets the clock for its timeout, if there is one.
    pub(super) fn new(call: Arc<Call>, future: Option<AbortHandle>) -> Held {
        let held = Held { call, future, timers: Mutex::default() };
        if let Some(timeout) = held.call.task.job.timeout {
            held.later(timeout, Some(Why::TimedOut));
        }
        held
    }

    /// After a while, signals (if there is something to say), waits for the grace, and ends the attempt.
    fn later(&self, pause: Duration, why: Option<Why>) {
        let (call, future) = (Arc::clone(&self.call), self.future.clone());
        let timer = tokio::spawn(async move {
            sleep(pause).await;
            if let Some(why) = why {
                call.context.signal(why);
                sleep(call.task.job.grace).await;
            }
            if let Some(future) = future {
                future.abort();
                sleep(YIELD).await;
            }
            call.give_up();
        });
        self.timers.lock().unwrap_or_else(PoisonError::into_inner).push(timer.abort_handle());
    }
}

impl Attempt for Held {
    fn stop(&self, why: Stop) {
        let (why, grace) = match why {
            Stop::Preempted => (Why::Stopping, self.call.task.job.grace),
            Stop::Cancelled => (Why::Cancelled, self.call.task.job.grace),
            Stop::Stale => (Why::LeaseLost, Duration::ZERO),
        };
        self.call.context.signal(why);
        self.later(grace, None);
    }

    fn fence(&self) {
        self.stop(Stop::Stale);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|timer| timer.abort());
        if *self.call.phase() == Phase::Running {
            self.call.context.signal(Why::Stopping);
            if let Some(future) = &self.future {
                future.abort();
            }
        }
    }
}
