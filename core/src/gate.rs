//! The gate: the only place where a task changes its phase, or a job comes and goes.
//!
//! Each function here keeps together what must agree: the array, the counts of job, queue and state, the worker's
//! slots, the deadlines, the ready order, and the durable record.

use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::{
    array::{Array, Run, Stage, Task},
    effect::{Effect, Outcome, Reply, Write},
    id::{Attempt, JobId, Millis, Now, Rank, RequestId, TaskId, Timestamp, WorkerId},
    job::{Counts, End, Policy},
    policy::PolicyId,
    state::{Job, State, Timer},
    step::{ask, recover},
};

/// The phases, as far as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bucket {
    Queued,
    Running,
    Backoff,
    Ended(End),
}

/// Where a job comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Submitted,
    /// It was there before this start: whoever counts what comes in has counted it.
    Restored,
}

/// How tasks ended.
pub(crate) struct Ending {
    pub(crate) end: End,
    pub(crate) attempt: Attempt,
    pub(crate) detail: Bytes,
    pub(crate) blob: Option<Box<[u8; 32]>>,
    pub(crate) worker: Option<Arc<str>>,
}

impl Ending {
    /// Without having run.
    pub(crate) fn unstarted(end: End, attempt: Attempt) -> Ending {
        Ending { end, attempt, detail: Bytes::new(), blob: None, worker: None }
    }
}

/// An attempt that ended while its task did not.
pub(crate) struct Ebb {
    pub(crate) attempt: Attempt,
    pub(crate) failures: u32,
    pub(crate) losses: u32,
    pub(crate) delay: Millis,
    pub(crate) detail: Bytes,
    pub(crate) worker: Option<Arc<str>>,
    pub(crate) avoid: Option<WorkerId>,
}

impl State {
    /// A job comes in. Gives back its policy as it is shared with others.
    pub(crate) fn add_job(
        &mut self,
        id: JobId,
        policy: &Arc<Policy>,
        origin: Origin,
        job: impl FnOnce(PolicyId) -> Job,
    ) -> Arc<Policy> {
        let policy_id = match self.policies.reuse(policy) {
            Some(known) => known,
            None => {
                let queue = self.queues.ensure(&policy.queue);
                self.queues.get_mut(queue).policies += 1;
                let class = self.ready.class(queue, policy.priority, &policy.shape);
                self.policies.add(policy.clone(), queue, class)
            }
        };
        let job = job(policy_id);
        let counts = job.counts();
        let queue = self.queues.get_mut(self.policies.get(policy_id).queue);
        queue.jobs.insert(id, 0);
        queue.queued += u64::from(counts.queued);
        queue.backoff += u64::from(counts.backoff);
        self.totals.queued += u64::from(counts.queued);
        self.totals.backoff += u64::from(counts.backoff);
        if origin == Origin::Submitted {
            queue.tally.submitted += u64::from(counts.total());
            self.tally.tasks_submitted += u64::from(counts.total());
            self.tally.jobs_submitted += 1;
        }
        self.jobs.insert(id, job);
        self.policies.get(policy_id).policy.clone()
    }

    /// Takes a live job out, without a word to anybody.
    pub(crate) fn drop_job(&mut self, id: JobId) {
        let job = self.jobs.remove(id).expect("a job that leaves is live");
        let entry = self.policies.get(job.policy);
        let (queue, class) = (entry.queue, entry.class);
        self.ready.remove(class, id);
        let counts = job.counts();
        assert!(counts.running == 0, "a job leaves after its tasks");
        let entry = self.queues.get_mut(queue);
        entry.jobs.remove(id);
        entry.queued -= u64::from(counts.queued);
        entry.backoff -= u64::from(counts.backoff);
        self.totals.queued -= u64::from(counts.queued);
        self.totals.backoff -= u64::from(counts.backoff);
        if let Some(forgotten) = self.policies.release(job.policy) {
            self.ready.release(forgotten.class);
            self.queues.get_mut(forgotten.queue).policies -= 1;
            if self.queues.forget(forgotten.queue) {
                self.ready.forget_queue(forgotten.queue);
            }
        }
    }

    /// A ready task is leased to a worker.
    pub(crate) fn enter_running(&mut self, id: TaskId, run: Run) {
        let from = self.leave(id);
        let job = self.jobs.get_mut(id.job).expect("a task that runs has a live job");
        let entry = self.policies.get(job.policy);
        let (policy, class, average) = (entry.policy.clone(), entry.class, entry.average_us);
        if let Some(at) = run.overdue {
            self.deadlines.insert((at, Timer::Overdue(id, run.attempt)));
        }
        let shape = self.ready.shape(class).clone();
        let worker = self.workers.get_mut(&run.worker).expect("a task is leased to a known worker");
        worker.place(id, policy.priority, shape, average);
        self.stir(run.worker);
        self.stage(id, Stage::Running(run));
        self.shift(id.job, from, Bucket::Running, 1);
    }

    /// An attempt ended, and its task did not: it is recorded, and the task is ready again at once or later.
    pub(crate) fn ebb(&mut self, now: Now, id: TaskId, ebb: Ebb, out: &mut Outcome) {
        out.writes.push(Write::Attempt {
            task: id,
            attempt: ebb.attempt,
            failures: ebb.failures,
            losses: ebb.losses,
            delay: ebb.delay,
            detail: ebb.detail,
            worker: ebb.worker,
        });
        let from = self.leave(id);
        let (stage, to) = match ebb.delay {
            Millis(0) => (Stage::Ready, Bucket::Queued),
            delay => {
                let until = now.mono.after(delay);
                self.deadlines.insert((until, Timer::Backoff(id)));
                (Stage::Backoff { until }, Bucket::Backoff)
            }
        };
        self.stage(id, stage);
        let task = self.task_mut(id);
        task.recorded = ebb.attempt;
        task.failures = ebb.failures;
        task.losses = ebb.losses;
        task.doubtful = false;
        let picky = u64::from(ebb.avoid.is_some());
        let was_picky = u64::from(std::mem::replace(&mut task.avoid, ebb.avoid).is_some());
        self.picky = self.picky + picky - was_picky;
        self.shift(id.job, from, to, 1);
        self.settle(id.job);
    }

    /// An attempt that nobody knows of is taken as used up.
    pub(crate) fn record_attempt(&mut self, id: TaskId, attempt: Attempt) {
        if self.array(id.job).task(id.index).is_none() {
            self.stage(id, Stage::Ready);
        }
        let task = self.task_mut(id);
        task.recorded = attempt;
        task.doubtful = false;
    }

    /// The worker says that a leased task started: from now on its time counts.
    pub(crate) fn start(&mut self, id: TaskId, overdue: Option<Timestamp>) {
        let Stage::Running(run) = &mut self.task_mut(id).stage else { return };
        run.started = true;
        let attempt = run.attempt;
        let former = std::mem::replace(&mut run.overdue, overdue);
        if let Some(at) = former {
            self.deadlines.remove(&(at, Timer::Overdue(id, attempt)));
        }
        if let Some(at) = overdue {
            self.deadlines.insert((at, Timer::Overdue(id, attempt)));
        }
    }

    /// A task has waited long enough.
    pub(crate) fn enter_ready(&mut self, id: TaskId) {
        let from = self.leave(id);
        self.stage(id, Stage::Ready);
        self.shift(id.job, from, Bucket::Queued, 1);
        self.settle(id.job);
    }

    /// Tasks of one job end: recorded once, with the next ranks. The job may end with them.
    pub(crate) fn end(
        &mut self,
        now: Now,
        job: JobId,
        indices: RoaringBitmap,
        ending: Ending,
        out: &mut Outcome,
    ) {
        if indices.is_empty() {
            return;
        }
        let many = self.leave_all(job, &indices, ending.end);
        let array = self.array(job);
        let rank = Rank(u64::from(array.counts.ended() - many));
        array.end(&indices, ending.end);
        out.writes.push(Write::Ended {
            job,
            indices,
            rank,
            end: ending.end,
            attempt: ending.attempt,
            detail: ending.detail,
            blob: ending.blob,
            worker: ending.worker,
            wall: now.wall,
        });
        self.settle(job);
    }

    /// After tasks of a job ended: if too many failed the rest is skipped, and if none is left the job ends.
    /// Attempts that run go on; they get no further one.
    pub(crate) fn conclude(&mut self, now: Now, id: JobId, out: &mut Outcome) {
        let held_back = self.is_held_back(id);
        let Some(job) = self.jobs.get_mut(id) else { return };
        let most = self.policies.get(job.policy).policy.max_fails;
        let counts = job.counts();
        if !held_back && counts.queued + counts.backoff > 0 && most.is_some_and(|most| counts.failed > most) {
            let total = job.total;
            for (attempt, indices) in job.unfold().unstarted(total) {
                self.end(now, id, indices, Ending::unstarted(End::Skipped, attempt), out);
            }
        }
        self.close(now, id, out);
    }

    /// A job whose last task has ended leaves, and those who wait for it hear of it.
    fn close(&mut self, now: Now, id: JobId, out: &mut Outcome) {
        let Some(job) = self.jobs.get(id) else { return };
        let counts = job.counts();
        let Some(end) = counts.end() else { return };
        self.tally.jobs_ended.add(end, 1);
        let started = job.array.as_ref().and_then(|array| array.started);
        out.writes.push(Write::JobEnded { job: id, counts, started, wall: now.wall });
        let waiting: Vec<_> = self
            .waits
            .range((id, RequestId(0))..)
            .take_while(|((job, _), _)| *job == id)
            .map(|(key, until)| (*key, *until))
            .collect();
        for ((job, request), until) in waiting {
            self.waits.remove(&(job, request));
            self.deadlines.remove(&(until, Timer::Wait(job, request)));
            out.effects.push(Effect::Reply(request, Reply::Job(ask::job_view(self, now, id))));
        }
        self.drop_job(id);
        if self.doubtful.is_some() {
            recover::settle_doubt(self, out);
        }
    }

    /// Puts the job where it belongs in the ready order. To be called after whatever decides that has changed.
    pub(crate) fn settle(&mut self, id: JobId) {
        let held_back = self.is_held_back(id);
        let Some(job) = self.jobs.get(id) else { return };
        let entry = self.policies.get(job.policy);
        let counts = job.counts();
        let startable = counts.queued > 0
            && !job.is_paused()
            && !held_back
            && entry.policy.max_parallel.is_none_or(|most| counts.running < most);
        let class = entry.class;
        if !startable {
            self.ready.remove(class, id);
        } else if self.ready.insert(class, id) || self.picky > 0 {
            self.touched.insert(class);
        }
    }

    /// Notes that a worker changed, for the index of those with room and for the next dispatch.
    pub(crate) fn stir(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let room = worker.has_room().then(|| worker.free());
        let was = std::mem::replace(&mut worker.room, room);
        if was != room {
            if let Some(free) = was {
                self.room.remove(&(std::cmp::Reverse(free), id));
            }
            if let Some(free) = room {
                self.room.insert((std::cmp::Reverse(free), id));
            }
        }
    }

    /// The array of a live job, made if there is none.
    pub(crate) fn array(&mut self, job: JobId) -> &mut Array {
        self.jobs.get_mut(job).expect("only live jobs have arrays").unfold()
    }

    fn task_mut(&mut self, id: TaskId) -> &mut Task {
        self.array(id.job).task_mut(id.index).expect("a task with a history has a record")
    }

    /// Undoes what the current phase of a task holds elsewhere.
    fn leave(&mut self, id: TaskId) -> Bucket {
        let Some(task) = self.array(id.job).task(id.index) else { return Bucket::Queued };
        match task.stage.clone() {
            Stage::Ready => Bucket::Queued,
            Stage::Backoff { until } => {
                self.deadlines.remove(&(until, Timer::Backoff(id)));
                Bucket::Backoff
            }
            Stage::Running(run) => {
                if let Some(at) = run.overdue {
                    self.deadlines.remove(&(at, Timer::Overdue(id, run.attempt)));
                }
                let worker = self.workers.get_mut(&run.worker).expect("a running task's worker is known");
                worker.leave(id);
                self.stirred.insert(run.worker);
                self.stir(run.worker);
                Bucket::Running
            }
        }
    }

    fn leave_all(&mut self, job: JobId, indices: &RoaringBitmap, end: End) -> u32 {
        let with_history: Vec<u32> = {
            let array = self.array(job);
            if indices.len() == 1 {
                indices.iter().filter(|index| array.task(*index).is_some()).collect()
            } else {
                array.unusual().map(|(index, _)| index).filter(|index| indices.contains(*index)).collect()
            }
        };
        for &index in &with_history {
            let id = TaskId { job, index };
            let from = self.leave(id);
            if self.task_mut(id).avoid.take().is_some() {
                self.picky -= 1;
            }
            self.shift(job, from, Bucket::Ended(end), 1);
        }
        let many = u32::try_from(indices.len()).expect("a job has fewer than 2^32 tasks");
        let fresh = many - u32::try_from(with_history.len()).expect("no more than all");
        self.shift(job, Bucket::Queued, Bucket::Ended(end), fresh);
        many
    }

    fn stage(&mut self, id: TaskId, stage: Stage) {
        let doubtful = self.doubtful.is_some_and(|last| id.job <= last) || self.is_held_back(id.job);
        let array = self.array(id.job);
        if array.task(id.index).is_some() {
            array.restage(id.index, stage);
        } else {
            array.unfold(id.index, Task::fresh(stage, doubtful));
        }
    }

    fn shift(&mut self, id: JobId, from: Bucket, to: Bucket, many: u32) {
        let job = self.jobs.get_mut(id).expect("only tasks of live jobs change");
        let queue = self.queues.get_mut(self.policies.get(job.policy).queue);
        let array = job.unfold();
        array.changes += 1;
        *tally(&mut array.counts, from) -= many;
        *tally(&mut array.counts, to) += many;
        let many = u64::from(many);
        match from {
            Bucket::Queued => {
                queue.queued -= many;
                self.totals.queued -= many;
            }
            Bucket::Running => {
                queue.running -= many;
                self.totals.running -= many;
            }
            Bucket::Backoff => {
                queue.backoff -= many;
                self.totals.backoff -= many;
            }
            Bucket::Ended(_) => unreachable!("an end is final"),
        }
        match to {
            Bucket::Queued => {
                queue.queued += many;
                self.totals.queued += many;
            }
            Bucket::Running => {
                queue.running += many;
                queue.tally.started += many;
                self.totals.running += many;
                self.tally.attempts_started += many;
            }
            Bucket::Backoff => {
                queue.backoff += many;
                self.totals.backoff += many;
            }
            Bucket::Ended(end) => {
                queue.tally.ended.add(end, many);
                self.tally.tasks_ended.add(end, many);
            }
        }
    }
}

fn tally(counts: &mut Counts, bucket: Bucket) -> &mut u32 {
    match bucket {
        Bucket::Queued => &mut counts.queued,
        Bucket::Running => &mut counts.running,
        Bucket::Backoff => &mut counts.backoff,
        Bucket::Ended(End::Succeeded) => &mut counts.succeeded,
        Bucket::Ended(End::Failed) => &mut counts.failed,
        Bucket::Ended(End::Cancelled) => &mut counts.cancelled,
        Bucket::Ended(End::Skipped) => &mut counts.skipped,
    }
}
