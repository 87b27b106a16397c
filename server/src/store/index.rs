//! Where everything is: an in-memory index of the log, built by one scan and updated at each commit. A queued job of
//! one task costs one slot of 24 bytes.
//!
//! Applying a record again at another place moves it; applying an older one than is known changes nothing. So the scan
//! and housekeeping need no order but this one: whatever speaks of a job lies before the record that forgets it.

mod job;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use taskq_core::{
    id::{Epoch, JobId, Millis, WorkerId},
    table::Table,
};

pub(super) use job::{ATTEMPTS_KEPT, Job, Spot};

use super::{
    codec::{self, record::Body},
    entries::Loc,
    retention::Expiry,
};

/// The index. See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Kept jobs, live and ended.
    pub(super) jobs: Table<Job>,
    /// Kept jobs that have ended.
    pub(super) ended: BTreeSet<JobId>,
    /// The same, by when they are to go.
    pub(super) expiry: Expiry,
    /// The highest job id ever used.
    pub(super) highest: JobId,
    /// The latest.
    pub(super) epoch: Option<(Epoch, Loc)>,
    /// The latest of each.
    pub(super) queues: BTreeMap<Arc<str>, (u64, bool, Loc)>,
    /// Those that have not gone.
    pub(super) workers: BTreeMap<WorkerId, (Arc<str>, Loc)>,
    /// Blobs that outcomes refer to.
    pub(super) blobs: BTreeSet<(JobId, [u8; 32])>,
    /// Bytes of all entries that are still wanted.
    pub(super) live_bytes: u64,
}

/// During the first scan a record may come before its job's `Submitted`, which was moved behind it; later it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Reading the log.
    Scan,
    /// Following commits.
    Commit,
}

impl Index {
    /// Takes a record into account that lies at `loc`.
    pub(super) fn apply(&mut self, body: &Body, loc: Loc, stage: Stage) -> Result<(), codec::Error> {
        match body {
            Body::Epoch(epoch) => {
                if self.epoch.is_none_or(|(known, _)| known.0 <= *epoch) {
                    let old = self.epoch.replace((Epoch(*epoch), loc));
                    self.swap(old.map(|(_, l)| l), loc);
                }
            }
            Body::Queue(queue) => {
                let name: Arc<str> = queue.name.as_str().into();
                if self.queues.get(&name).is_none_or(|(known, ..)| *known <= queue.revision) {
                    let old = self.queues.insert(name, (queue.revision, queue.paused, loc));
                    self.swap(old.map(|(.., l)| l), loc);
                }
            }
            Body::WorkerSeen(seen) => {
                let old = self.workers.insert(WorkerId(seen.worker), (seen.name.as_str().into(), loc));
                self.swap(old.map(|(_, l)| l), loc);
            }
            Body::WorkerGone(worker) => {
                if let Some((_, old)) = self.workers.remove(&WorkerId(*worker)) {
                    self.live_bytes -= u64::from(old.len);
                }
            }
            Body::JobGone(job) => self.forget(JobId(*job)),
            Body::Submitted(submitted) => {
                let id = JobId(submitted.id);
                self.highest = self.highest.max(id);
                let job = self.jobs.get_or_default(id);
                let freed = job.submitted(
                    loc,
                    submitted.key.is_some(),
                    !submitted.repeat.is_empty(),
                    submitted.keep.map(Millis),
                );
                self.moved(freed, loc);
                self.settle(id);
            }
            Body::Ends(ends) => {
                let span = codec::span(ends)?;
                if stage == Stage::Scan || self.jobs.get(JobId(ends.job)).is_some() {
                    self.blobs.extend(codec::blobs(ends).map(|blob| (JobId(ends.job), blob)));
                }
                self.job_record(JobId(ends.job), loc, stage, |job| job.ends(ends.rank, span, loc));
            }
            Body::Attempt(a) => {
                let filled = !a.detail.is_empty();
                self.job_record(JobId(a.job), loc, stage, |job| job.attempt(a.index, a.attempt, filled, loc));
            }
            Body::Job(switches) => {
                self.job_record(JobId(switches.job), loc, stage, |job| job.switches(switches.revision, loc));
            }
            Body::Output(output) => {
                self.job_record(JobId(output.job), loc, stage, |job| {
                    job.output(output.number, output.index, loc)
                });
            }
            Body::JobEnded(ended) => {
                self.job_record(JobId(ended.job), loc, stage, |job| job.ended(ended.wall, loc));
                self.settle(JobId(ended.job));
            }
        }
        Ok(())
    }

    /// Is the record at this place still the one that counts?
    pub(super) fn wants(&self, body: &Body, loc: Loc) -> bool {
        let job = |id: u64| self.jobs.get(JobId(id));
        match body {
            Body::Epoch(_) => self.epoch.is_some_and(|(_, l)| l == loc),
            Body::Queue(q) => self.queues.get(q.name.as_str()).is_some_and(|(.., l)| *l == loc),
            Body::WorkerSeen(w) => self.workers.get(&WorkerId(w.worker)).is_some_and(|(_, l)| *l == loc),
            // What they end lies before them, and goes with them or before them.
            Body::WorkerGone(_) | Body::JobGone(_) => false,
            Body::Submitted(s) => job(s.id).is_some_and(|j| j.spec() == Some(loc)),
            Body::Ends(e) => job(e.job).is_some_and(|j| j.has_ends(e.rank, loc)),
            Body::Attempt(a) => job(a.job).is_some_and(|j| j.has_attempt(a.index, a.attempt, loc)),
            Body::Job(s) => job(s.job).is_some_and(|j| j.has_switches(loc)),
            Body::Output(o) => job(o.job).is_some_and(|j| j.has_output(o.number, loc)),
            Body::JobEnded(e) => job(e.job).is_some_and(|j| j.end().is_some_and(|(_, l)| l == loc)),
        }
    }

    /// After the scan: what belongs to no job that was submitted goes.
    pub(super) fn drop_strays(&mut self) {
        let strays: Vec<JobId> =
            self.jobs.iter().filter(|(_, j)| j.spec().is_none()).map(|(id, _)| id).collect();
        for stray in strays {
            self.forget(stray);
        }
    }

    fn job_record(&mut self, id: JobId, loc: Loc, stage: Stage, apply: impl FnOnce(&mut Job) -> Spot) {
        let job = match stage {
            Stage::Scan => self.jobs.get_or_default(id),
            Stage::Commit => match self.jobs.get_mut(id) {
                Some(job) => job,
                None => return,
            },
        };
        let spot = apply(job);
        self.moved(spot, loc);
    }

    fn settle(&mut self, id: JobId) {
        if let Some(term) = self.jobs.get(id).and_then(Job::term) {
            self.ended.insert(id);
            self.expiry.insert(id, term);
        }
    }

    fn forget(&mut self, id: JobId) {
        let Some(job) = self.jobs.remove(id) else { return };
        if let Some(term) = job.term() {
            self.ended.remove(&id);
            self.expiry.remove(id, term);
        }
        self.live_bytes -= job.bytes();
        let own: Vec<_> = self.blobs.range((id, [0; 32])..=(id, [0xff; 32])).copied().collect();
        own.iter().for_each(|blob| _ = self.blobs.remove(blob));
    }

    fn moved(&mut self, spot: Spot, loc: Loc) {
        if let Spot::Taken { freed } = spot {
            self.live_bytes = self.live_bytes + u64::from(loc.len) - freed;
        } else if let Spot::Passed { freed } = spot {
            self.live_bytes -= freed;
        }
    }

    fn swap(&mut self, old: Option<Loc>, new: Loc) {
        self.live_bytes = self.live_bytes + u64::from(new.len) - old.map_or(0, |l| u64::from(l.len));
    }
}
