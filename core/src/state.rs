//! The state of the scheduler, and [`State::step`], the table of contents of all that changes it.
//!
//! **Invariant:** nothing here reads a clock, waits, or draws a random number; equal events give equal outcomes.
//! **Invariant:** a phase changes in `gate.rs` and nowhere else.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    array::Array,
    check,
    effect::Outcome,
    event::Event,
    id::{Attempt, Epoch, JobId, Millis, Now, RequestId, SessionId, TaskId, Timestamp, WallTime, WorkerId},
    job::{Counts, Policy},
    policy::{Policies, PolicyId},
    queues::Queues,
    ready::{ClassId, Ready},
    repeat::Memory,
    restore::Restore,
    step,
    table::Table,
    tally::Tally,
    worker::{Free, Worker},
};

/// How often the scheduler looks in the time of a lease, at least, while it watches or awaits workers.
const PULSES: u64 = 10;

/// What an operator sets.
#[derive(Clone, Debug)]
pub struct Config {
    /// A worker that is silent for so long has lost its tasks.
    pub lease: Millis,
    /// How long a restarted coordinator waits for the workers it knew.
    pub grace: Millis,
    /// This start; higher than every former one of the same store.
    pub epoch: Epoch,
    /// The most live jobs; submits beyond it are refused.
    pub max_live_jobs: u64,
    /// The most queued tasks; submits beyond it are refused.
    pub max_queued_tasks: u64,
    /// How long a worker that was declared lost may still come back as the same process.
    pub lost_kept: Millis,
    /// Stored as the outcome of an attempt that was lost with its worker.
    pub lost_detail: Bytes,
}

impl Config {
    /// When an attempt that starts now must have ended, if the policy limits its time.
    pub(crate) fn backstop(&self, now: Timestamp, policy: &Policy) -> Option<Timestamp> {
        policy.timeout.map(|timeout| now.after(timeout).after(policy.kill_grace).after(self.lease))
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            lease: Millis(15_000),
            grace: Millis(30_000),
            epoch: Epoch(1),
            max_live_jobs: 50_000_000,
            max_queued_tasks: 1 << 40,
            lost_kept: Millis(3_600_000),
            lost_detail: Bytes::new(),
        }
    }
}

/// The scheduler.
#[derive(Debug)]
pub struct State {
    pub(crate) config: Config,
    /// The highest job number that was given.
    pub(crate) last_job: JobId,
    pub(crate) jobs: Table<Job>,
    pub(crate) policies: Policies,
    pub(crate) queues: Queues,
    pub(crate) ready: Ready,
    pub(crate) memory: Memory,
    pub(crate) waits: BTreeMap<(JobId, RequestId), Timestamp>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) sessions: BTreeMap<SessionId, WorkerId>,
    pub(crate) names: BTreeMap<Arc<str>, WorkerId>,
    /// Declared lost, and still allowed to come back.
    pub(crate) lost: BTreeMap<WorkerId, Lost>,
    /// Incarnations that must not come back, oldest first.
    pub(crate) buried: VecDeque<WorkerId>,
    /// Workers that may be given more, the one with most free slots first.
    pub(crate) room: BTreeSet<(Reverse<Free>, WorkerId)>,
    pub(crate) deadlines: BTreeSet<(Timestamp, Timer)>,
    pub(crate) recovery: Option<Recovery>,
    /// Jobs up to this one may have an attempt that was never recorded, on a worker that never came back.
    pub(crate) doubtful: Option<JobId>,
    /// How many numbers such a task leaves out at its next attempt.
    pub(crate) left_out: u32,
    /// Workers that will not come back, and whose absence is not yet on record: while a job is doubtful, they are the
    /// sign for the next start that it is.
    pub(crate) withheld: Vec<WorkerId>,
    pub(crate) totals: Totals,
    pub(crate) tally: Tally,
    /// Workers that changed since the last dispatch.
    pub(crate) stirred: BTreeSet<WorkerId>,
    /// Classes that have something new to start since the last dispatch.
    pub(crate) touched: BTreeSet<ClassId>,
    /// Tasks that avoid a worker.
    pub(crate) picky: u64,
    pub(crate) steps: u64,
    /// When the last step was.
    pub(crate) looked: Timestamp,
    /// Nobody is declared lost before: the scheduler itself was away, and what it would have heard is still to come.
    pub(crate) patient_until: Timestamp,
}

/// A job that has not ended. Small, because a million of them may be queued: what is not here is in the store, or in
/// the [`Array`] once anything of it deviates from "queued, never attempted, not paused".
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) policy: PolicyId,
    pub(crate) total: u32,
    pub(crate) submitted: WallTime,
    pub(crate) array: Option<Box<Array>>,
}

/// A worker that was declared lost.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) name: Arc<str>,
    pub(crate) draining: bool,
    /// When it is forgotten.
    pub(crate) until: Timestamp,
}

/// The wait for known workers after a restart.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) until: Timestamp,
    pub(crate) expected: BTreeMap<WorkerId, Arc<str>>,
    /// Jobs up to this one were there before the restart.
    pub(crate) last_job: JobId,
    /// An expected worker is known not to come back.
    pub(crate) missing: bool,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A worker has been silent for a lease.
    Silence(WorkerId),
    /// A task may start again.
    Backoff(TaskId),
    /// An attempt is overdue.
    Overdue(TaskId, Attempt),
    /// A caller has waited long enough.
    Wait(JobId, RequestId),
    /// Known workers had their time to come back.
    Grace,
    /// A lost worker is forgotten.
    Forget(WorkerId),
}

/// Sums over all jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) backoff: u64,
}

impl Job {
    /// How many of its tasks are in which phase.
    pub(crate) fn counts(&self) -> Counts {
        match &self.array {
            Some(array) => array.counts,
            None => Counts { queued: self.total, ..Counts::default() },
        }
    }

    /// It starts no further task.
    pub(crate) fn is_paused(&self) -> bool {
        self.array.as_ref().is_some_and(|array| array.paused)
    }

    /// The tasks of the job, as far as they deviate; made if there is none.
    pub(crate) fn unfold(&mut self) -> &mut Array {
        let total = self.total;
        self.array.get_or_insert_with(|| Box::new(Array::new(total, None)))
    }
}

impl State {
    /// The state of an empty store.
    #[must_use]
    pub fn new(config: Config) -> State {
        let mut out = Outcome::default();
        Restore::new().finish(config, JobId(0), Now::default(), &mut out)
    }

    /// Takes in one event: appends to `out` what must become durable and what is to be done then.
    ///
    /// `now.mono` must not go back from call to call. If it goes on by more than a fifth of the lease, the scheduler was
    /// away: nobody is declared lost for another lease.
    pub fn step(&mut self, now: Now, event: Event, out: &mut Outcome) {
        self.memory.expire(now.mono);
        self.notice_absence(now.mono);
        match event {
            Event::Submit { request, repeat, jobs } => {
                step::submit::submit(self, now, request, repeat, jobs, out)
            }
            Event::Act { request, job, act, dry_run } => {
                step::act::act(self, now, request, job, act, dry_run, out)
            }
            Event::Queue { request, name, act } => step::queue::queue(self, now, request, name, act, out),
            Event::Wait { request, job, timeout } => step::wait::wait(self, now, request, job, timeout, out),
            Event::Ask { request, question } => step::ask::ask(self, now, request, question, out),
            Event::Hello { session, worker } => step::hello::hello(self, now, session, worker, out),
            Event::Reports { session, seq, reports } => {
                step::reports::reports(self, now, session, seq, reports, out)
            }
            Event::Heartbeat { session, seq, draining } => {
                step::session::heartbeat(self, now, session, seq, draining, out);
            }
            Event::Busy { session, plain, r#async } => {
                step::session::busy(self, now, session, plain, r#async);
            }
            Event::Goodbye { session, seq } => step::session::goodbye(self, now, session, seq, out),
            Event::Disconnected { session } => step::session::disconnected(self, session),
            Event::Bury { request, worker } => step::lost::bury(self, now, request, worker, out),
            Event::Drain { request, name } => step::session::drain(self, now, request, name, out),
            Event::Forget { jobs } => step::act::forget(self, jobs, out),
            Event::Tick => step::tick::tick(self, now, out),
        }
        step::dispatch::dispatch(self, now, out);
        self.steps += 1;
        debug_assert!(!check::is_due(self) || check::check(self).is_ok(), "{:?}", check::check(self));
    }

    /// When [`Event::Tick`] is wanted; earlier is harmless. Much later means that the scheduler was away (see
    /// [`State::step`]), so while there are workers, or known ones are waited for, a tick is wanted several times a lease.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if !self.stirred.is_empty() || !self.touched.is_empty() {
            return Some(Timestamp(0));
        }
        let watches = !self.workers.is_empty() || self.recovery.is_some();
        let pulse = watches.then(|| self.looked.after(Millis(self.config.lease.0 / PULSES)));
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        deadline.into_iter().chain(pulse).min()
    }

    /// Stopped, swapped out, held up by its disk: a scheduler that did not look could not hear. Silence meanwhile is
    /// its own, and everybody gets a fresh lease to be heard in.
    fn notice_absence(&mut self, now: Timestamp) {
        if now.since(self.looked) > Millis(2 * self.config.lease.0 / PULSES) {
            self.patient_until = now.after(self.config.lease);
        }
        self.looked = now;
    }

    /// Whether the job is accepted and has not ended.
    #[must_use]
    pub fn is_live(&self, job: JobId) -> bool {
        self.jobs.contains(job)
    }

    /// Checks every invariant, slowly. `Err` says which one does not hold.
    pub fn check(&self) -> Result<(), String> {
        check::check(self)
    }

    /// Waits for known workers, and this job may have tasks on them.
    pub(crate) fn is_held_back(&self, job: JobId) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| job <= recovery.last_job)
    }

    pub(crate) fn bury_incarnation(&mut self, worker: WorkerId) {
        /// More dead workers than any fleet loses between two of its oldest one's attempts to come back.
        const BURIED: usize = 4_096;
        if self.buried.len() == BURIED {
            self.buried.pop_front();
        }
        self.buried.push_back(worker);
    }
}
