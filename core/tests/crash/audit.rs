//! What was promised, checked against what became durable and what was said aloud.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use taskq_core::{
    effect::{Submitted, Unit, Write},
    id::{JobId, TaskId, WorkerId},
    job::{Counts, End},
};

/// Everything that was ever durable, whether the store still keeps it or not.
#[derive(Default)]
pub(crate) struct Audit {
    pub(crate) jobs: BTreeMap<JobId, Record>,
    /// Highest attempt recorded as ended.
    recorded: BTreeMap<TaskId, u32>,
    /// Highest attempt that reached a worker.
    assigned: BTreeMap<TaskId, u32>,
    received: BTreeSet<(TaskId, u32)>,
    /// Real starts.
    pub(crate) runs: BTreeMap<TaskId, u32>,
    /// Acknowledged cancels.
    pub(crate) cancelled: BTreeSet<TaskId>,
    epoch: u64,
    seen: BTreeSet<WorkerId>,
}

pub(crate) struct Record {
    pub(crate) submitted: Submitted,
    ended: RoaringBitmap,
    counts: Counts,
    pub(crate) closed: bool,
}

impl Audit {
    pub(crate) fn durable(&mut self, write: &Write) {
        match write {
            Write::Epoch(epoch) => {
                assert!(epoch.0 > self.epoch, "the epoch rises");
                self.epoch = epoch.0;
            }
            Write::Submitted(job) => self.submitted(job),
            Write::Attempt { task, attempt, .. } => {
                let record = &self.jobs[&task.job];
                assert!(!record.ended.contains(task.index), "{task:?} has ended, yet an attempt of it ends");
                let before = self.recorded.insert(*task, attempt.0).unwrap_or(0);
                assert!(attempt.0 > before, "{task:?}: attempt {attempt} ends after {before}");
            }
            Write::Ended { job, indices, rank, end, attempt, worker, .. } => {
                for index in indices {
                    let task = TaskId { job: *job, index };
                    let recorded = self.recorded.get(&task).copied().unwrap_or(0);
                    if worker.is_some() {
                        assert!(
                            attempt.0 > recorded,
                            "{task:?}: a stale result of attempt {attempt} is accepted"
                        );
                        let assigned = self.assigned.get(&task).copied().unwrap_or(0);
                        assert!(
                            attempt.0 >= assigned,
                            "{task:?}: {attempt} ends it, while {assigned} is out"
                        );
                    } else {
                        assert_eq!(
                            attempt.0, recorded,
                            "{task:?} ends without running, with a wrong attempt"
                        );
                    }
                    let acked = self.cancelled.contains(&task);
                    assert!(
                        !acked || matches!(end, End::Cancelled | End::Succeeded),
                        "{task:?}: cancel, yet {end:?}"
                    );
                }
                let record = self.jobs.get_mut(job).expect("tasks end after their job is there");
                assert!(!record.closed, "job {job} has ended, yet a task ends");
                assert_eq!(rank.0, u64::from(record.counts.ended()), "ranks of job {job} have no gap");
                assert!(record.ended.is_disjoint(indices), "a task of job {job} ends twice");
                record.ended |= indices;
                let many = indices.len() as u32;
                match end {
                    End::Succeeded => record.counts.succeeded += many,
                    End::Failed => record.counts.failed += many,
                    End::Cancelled => record.counts.cancelled += many,
                    End::Skipped => record.counts.skipped += many,
                }
            }
            Write::Job { job, .. } => assert!(!self.jobs[job].closed, "job {job} has ended and is switched"),
            Write::JobEnded { job, counts, .. } => {
                let record = self.jobs.get_mut(job).expect("a job ends after it is there");
                assert!(!record.closed, "job {job} ends twice");
                assert_eq!(record.counts, *counts, "job {job} ends with the counts of its tasks");
                let tasks =
                    record.submitted.only.as_ref().map_or(record.submitted.total, |only| only.len() as u32);
                assert_eq!(counts.ended(), tasks, "job {job} ends with its last task");
                record.closed = true;
            }
            Write::JobGone(_) | Write::Output { .. } | Write::Queue { .. } => {}
            Write::WorkerSeen { worker, .. } => {
                self.seen.insert(*worker);
            }
            Write::WorkerGone(worker) => {
                assert!(self.seen.remove(worker), "a worker goes that was never seen");
            }
        }
    }

    fn submitted(&mut self, job: &Submitted) {
        let record = Record {
            submitted: job.clone(),
            ended: RoaringBitmap::new(),
            counts: Counts::default(),
            closed: false,
        };
        assert!(self.jobs.insert(job.id, record).is_none(), "job {} is submitted twice", job.id);
    }

    /// A worker may hold tasks only once that is durable: otherwise nobody waits for it after a restart.
    pub(crate) fn may_hold(&self, worker: WorkerId) {
        assert!(self.seen.contains(&worker), "worker {worker} gets tasks and is not on record");
    }

    /// A unit is on its way.
    pub(crate) fn sent(&self, unit: &Unit) {
        for (first, many) in &unit.spans {
            for index in *first..*first + *many {
                let task = TaskId { job: unit.job, index };
                assert!(!self.cancelled.contains(&task), "{task:?} is cancelled, and handed out");
            }
        }
    }

    /// A unit reached a worker.
    pub(crate) fn received(&mut self, unit: &Unit) {
        for (first, many) in &unit.spans {
            for index in *first..*first + *many {
                let task = TaskId { job: unit.job, index };
                assert!(self.jobs.contains_key(&unit.job), "{task:?} is handed out before it is durable");
                assert!(
                    self.received.insert((task, unit.attempt.0)),
                    "{task:?}: attempt {} is used twice",
                    unit.attempt
                );
                let assigned = self.assigned.entry(task).or_default();
                *assigned = (*assigned).max(unit.attempt.0);
            }
        }
    }

    pub(crate) fn has_ended(&self, job: JobId, index: u32) -> bool {
        self.jobs.get(&job).is_some_and(|record| record.ended.contains(index))
    }

    pub(crate) fn open_jobs(&self) -> usize {
        self.jobs.values().filter(|record| !record.closed).count()
    }
}
