//! The state after a restart, from the facts that the store kept.
//!
//! Facts may come in any order; which of two supersedes the other is said at [`Write`]. What is not
//! written is not here: which tasks were handed out (the workers say so themselves), when backoffs would have ended
//! (they start anew, in full), who waited.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use roaring::RoaringBitmap;

use crate::{
    array::{Array, Element, Stage, Task},
    effect::{Outcome, Submitted, Write},
    gate::Origin,
    id::{Attempt, Epoch, JobId, Millis, Now, TaskId, Timestamp, WallTime, WorkerId},
    job::{End, Policy},
    policy::Policies,
    queues::Queues,
    ready::Ready,
    repeat::Memory,
    state::{Config, Job, Recovery, State, Timer, Totals},
    step::recover,
    table::Table,
    tally::Tally,
};

/// Gathers facts; then becomes a [`State`].
#[derive(Debug, Default)]
pub struct Restore {
    epoch: Epoch,
    interned: std::collections::HashSet<Arc<Policy>>,
    jobs: Table<Plain>,
    special: BTreeMap<JobId, Special>,
    attempts: BTreeMap<TaskId, Tried>,
    ends: BTreeMap<JobId, Ends>,
    switches: BTreeMap<JobId, (u64, bool, RoaringBitmap)>,
    closed: BTreeSet<JobId>,
    gone: BTreeSet<JobId>,
    queues: BTreeMap<Arc<str>, (u64, bool)>,
    seen: BTreeMap<WorkerId, Arc<str>>,
    dead: BTreeSet<WorkerId>,
    memory: Memory,
}

#[derive(Debug)]
struct Plain {
    policy: Arc<Policy>,
    total: u32,
    submitted: WallTime,
}

#[derive(Debug)]
struct Special {
    only: Option<RoaringBitmap>,
    rerun_of: Option<JobId>,
}

#[derive(Debug)]
struct Tried {
    attempt: Attempt,
    failures: u32,
    losses: u32,
    delay: Millis,
}

#[derive(Debug, Default)]
struct Ends {
    sets: BTreeMap<End, RoaringBitmap>,
    started: Option<WallTime>,
}

impl Restore {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Restore {
        Restore::default()
    }

    /// The highest epoch so far; 0 for an empty store.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes in one fact.
    pub fn apply(&mut self, write: Write) {
        match write {
            Write::Epoch(epoch) => self.epoch = self.epoch.max(epoch),
            Write::Submitted(submitted) => self.submitted(submitted),
            Write::Attempt { task, attempt, failures, losses, delay, .. } => {
                let known = self.attempts.get(&task).map(|tried| tried.attempt);
                if known.is_none_or(|known| known < attempt) {
                    self.attempts.insert(task, Tried { attempt, failures, losses, delay });
                }
            }
            Write::Ended { job, indices, end, attempt, wall, .. } => {
                let ends = self.ends.entry(job).or_default();
                *ends.sets.entry(end).or_default() |= indices;
                if attempt.0 > 0 {
                    ends.started = Some(ends.started.map_or(wall, |started| started.min(wall)));
                }
            }
            Write::Job { job, revision, paused, cancelling } => {
                if self.switches.get(&job).is_none_or(|(known, ..)| *known < revision) {
                    self.switches.insert(job, (revision, paused, cancelling));
                }
            }
            Write::JobEnded { job, .. } => {
                self.closed.insert(job);
            }
            Write::JobGone(job) => {
                self.gone.insert(job);
            }
            Write::Output { .. } => {}
            Write::Queue { name, revision, paused } => {
                if self.queues.get(&name).is_none_or(|(known, _)| *known < revision) {
                    self.queues.insert(name, (revision, paused));
                }
            }
            Write::WorkerSeen { worker, name } => {
                self.seen.insert(worker, name);
            }
            Write::WorkerGone(worker) => {
                self.dead.insert(worker);
            }
        }
    }

    fn submitted(&mut self, job: Submitted) {
        if let Some(key) = &job.key {
            self.memory.keep_key(job.id, key);
        }
        if let Some(repeat) = job.repeat {
            self.memory.restore_call(repeat, job.place.0, job.id);
        }
        let policy = match self.interned.get(&job.policy) {
            Some(known) => known.clone(),
            None => {
                self.interned.insert(job.policy.clone());
                job.policy
            }
        };
        self.jobs.insert(job.id, Plain { policy, total: job.total, submitted: job.wall });
        if job.only.is_some() || job.rerun_of.is_some() {
            self.special.insert(job.id, Special { only: job.only, rerun_of: job.rerun_of });
        }
    }

    /// The state, at a start that has the number `config.epoch`; that number becomes durable with `out`.
    ///
    /// `highest_job_id` is the highest ever used, also by jobs that are forgotten.
    pub fn finish(mut self, config: Config, highest_job_id: JobId, now: Now, out: &mut Outcome) -> State {
        out.writes.push(Write::Epoch(config.epoch));
        let highest = self.jobs.iter().next_back().map_or(highest_job_id, |(id, _)| id.max(highest_job_id));
        for job in self.closed.iter().chain(&self.gone) {
            self.jobs.remove(*job);
        }
        for job in &self.gone {
            self.memory.drop_key(*job);
        }
        self.memory.restored(now.mono);
        let expected: BTreeMap<WorkerId, Arc<str>> = self
            .seen
            .iter()
            .filter(|(id, _)| !self.dead.contains(id))
            .map(|(id, name)| (*id, name.clone()))
            .collect();
        let until = now.mono.after(config.grace);
        let mut state = empty(config, highest, std::mem::take(&mut self.memory), now.mono);
        state.recovery = Some(Recovery { until, expected, last_job: highest, missing: false });
        state.deadlines.insert((until, Timer::Grace));
        for (name, (revision, paused)) in std::mem::take(&mut self.queues) {
            let id = state.queues.ensure(&name);
            let queue = state.queues.get_mut(id);
            queue.revision = revision;
            queue.paused = paused;
            state.ready.pause(id, paused);
        }
        let ids: Vec<JobId> = self.jobs.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.put(&mut state, id, now);
        }
        recover::check_complete(&mut state, now, out);
        state
    }

    fn put(&mut self, state: &mut State, id: JobId, now: Now) {
        let Some(plain) = self.jobs.remove(id) else { return };
        let switches = self.switches.remove(&id);
        let array = self.array(state, id, plain.total, switches, now);
        state.add_job(id, &plain.policy, Origin::Restored, |policy| Job {
            policy,
            total: plain.total,
            submitted: plain.submitted,
            array,
        });
    }

    /// What deviates from a job of which nothing was ever started.
    fn array(
        &mut self,
        state: &mut State,
        id: JobId,
        total: u32,
        switches: Option<(u64, bool, RoaringBitmap)>,
        now: Now,
    ) -> Option<Box<Array>> {
        let special = self.special.remove(&id);
        let ends = self.ends.remove(&id);
        let tried: Vec<TaskId> = self
            .attempts
            .range(TaskId { job: id, index: 0 }..)
            .map(|(task, _)| *task)
            .take_while(|task| task.job == id)
            .collect();
        if special.is_none() && ends.is_none() && switches.is_none() && tried.is_empty() {
            return None;
        }
        let (only, rerun_of) = special.map_or((None, None), |special| (special.only, special.rerun_of));
        let mut array = Array::new(total, only);
        array.rerun_of = rerun_of;
        let ends = ends.unwrap_or_default();
        array.started = ends.started;
        for (end, set) in &ends.sets {
            array.restore_ended(set, *end);
        }
        for task in tried {
            let Some(tried) = self.attempts.remove(&task) else { continue };
            if !matches!(array.element(task.index, total), Element::Fresh) {
                continue;
            }
            let stage = match tried.delay {
                Millis(0) => Stage::Ready,
                delay => {
                    let until = now.mono.after(delay);
                    state.deadlines.insert((until, Timer::Backoff(task)));
                    Stage::Backoff { until }
                }
            };
            let (recorded, failures, losses) = (tried.attempt, tried.failures, tried.losses);
            array.unfold(task.index, Task { recorded, failures, losses, doubtful: true, avoid: None, stage });
        }
        if let Some((revision, paused, cancelling)) = switches {
            array.revision = revision;
            array.paused = paused;
            array.restore_cancelling(cancelling);
        }
        array.counts = array.recount(total);
        array.changes = array.revision + u64::from(array.counts.ended());
        Some(Box::new(array))
    }
}

fn empty(config: Config, last_job: JobId, memory: Memory, now: Timestamp) -> State {
    State {
        config,
        last_job,
        jobs: Table::new(),
        policies: Policies::default(),
        queues: Queues::default(),
        ready: Ready::default(),
        memory,
        waits: BTreeMap::new(),
        workers: BTreeMap::new(),
        sessions: BTreeMap::new(),
        names: BTreeMap::new(),
        lost: BTreeMap::new(),
        buried: std::collections::VecDeque::new(),
        room: BTreeSet::new(),
        deadlines: BTreeSet::new(),
        recovery: None,
        doubtful: None,
        left_out: recover::LEFT_OUT,
        withheld: Vec::new(),
        totals: Totals::default(),
        tally: Tally::default(),
        stirred: BTreeSet::new(),
        touched: BTreeSet::new(),
        picky: 0,
        steps: 0,
        looked: now,
        patient_until: now,
    }
}
