//! A store without a disk: for `--ephemeral` and for tests. The plain reading of what the durable one must do.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, RwLock},
};

use bytes::Bytes;
use roaring::RoaringBitmap;
use taskq_core::{
    effect::{Submitted, Write},
    id::{Attempt, Epoch, JobId, Rank, TaskId, WallTime, WorkerId},
    job::{Counts, End},
};

use super::{
    EarlierAttempt, EndedJob, EndedTask, Error, Lookup, OutputPiece, Retention, Store, SubmittedRecord,
    Usage,
    index::ATTEMPTS_KEPT,
    reader::PAGE_BYTES,
    retention::{Expiry, Term},
    trouble,
};

/// What a piece takes beside its data.
const PIECE_BYTES: usize = 160;

/// Bytes of output pieces that are held; of more, nothing is kept until jobs are forgotten. A reader is told what is
/// missing, as with output above its limit.
const OUTPUT_BYTES: u64 = 256 << 20;

fn cost(data: &Bytes) -> u64 {
    (data.len() + PIECE_BYTES) as u64
}

/// Keeps everything until the process ends, but for output beyond a bound.
#[derive(Debug, Default)]
pub struct MemoryStore(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    jobs: BTreeMap<JobId, Job>,
    ended: BTreeSet<JobId>,
    expiry: Expiry,
    highest: JobId,
    epoch: Option<Epoch>,
    queues: BTreeMap<Arc<str>, (u64, bool)>,
    workers: BTreeMap<WorkerId, Arc<str>>,
    blobs: HashMap<[u8; 32], Bytes>,
    /// Blobs that nobody used when they were last looked through.
    idle: HashSet<[u8; 32]>,
    output_bytes: u64,
    /// The last piece was left out.
    leaves_output: bool,
}

#[derive(Debug)]
struct Job {
    submitted: Submitted,
    /// By the first rank.
    ends: BTreeMap<u64, Ended>,
    attempts: BTreeMap<(u32, Attempt), Write>,
    switches: Option<(u64, Write)>,
    outputs: Vec<OutputPiece>,
    end: Option<(EndedJob, Counts)>,
}

#[derive(Debug)]
struct Ended {
    indices: RoaringBitmap,
    end: End,
    attempt: Attempt,
    detail: Bytes,
    blob: Option<Box<[u8; 32]>>,
    worker: Option<Arc<str>>,
    wall: WallTime,
}

impl Job {
    fn new(submitted: Submitted) -> Job {
        Job {
            submitted,
            ends: BTreeMap::new(),
            attempts: BTreeMap::new(),
            switches: None,
            outputs: Vec::new(),
            end: None,
        }
    }

    fn term(&self) -> Option<Term> {
        let (end, _) = self.end.as_ref()?;
        Some(Term { wall: end.wall, keyed: self.submitted.key.is_some(), keep: self.submitted.policy.keep })
    }

    fn has_ended(&self, index: u32) -> bool {
        self.ends.values().any(|e| e.indices.contains(index))
    }

    fn attempt(&mut self, index: u32, attempt: Attempt, write: &Write) {
        self.attempts.insert((index, attempt), write.clone());
        let own = self.attempts.range((index, Attempt(0))..=(index, Attempt(u32::MAX))).rev();
        let filled = |w: &Write| matches!(w, Write::Attempt { detail, .. } if !detail.is_empty());
        let drop: Vec<(u32, Attempt)> = own
            .enumerate()
            .filter(|(place, (_, w))| *place > 0 && (!filled(w) || *place >= ATTEMPTS_KEPT))
            .map(|(_, (key, _))| *key)
            .collect();
        for key in drop {
            self.attempts.remove(&key);
        }
    }

    fn tasks(&self) -> impl Iterator<Item = (&u64, &Ended)> {
        self.ends.iter()
    }
}

impl Ended {
    fn task(&self, index: u32, rank: u64) -> EndedTask {
        EndedTask {
            index,
            rank: Rank(rank),
            end: self.end,
            attempt: self.attempt,
            detail: self.detail.clone(),
            worker: self.worker.as_deref().unwrap_or_default().to_owned(),
            wall: self.wall,
        }
    }
}

impl Inner {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Epoch(epoch) => self.epoch = self.epoch.max(Some(*epoch)),
            Write::Submitted(submitted) => {
                self.highest = self.highest.max(submitted.id);
                self.jobs.entry(submitted.id).or_insert_with(|| Job::new(submitted.clone()));
            }
            Write::Attempt { task, attempt, .. } => {
                if let Some(job) = self.jobs.get_mut(&task.job) {
                    job.attempt(task.index, *attempt, write);
                }
            }
            Write::Ended { job, indices, rank, end, attempt, detail, blob, worker, wall } => {
                if let Some(job) = self.jobs.get_mut(job) {
                    let ended = Ended {
                        indices: indices.clone(),
                        end: *end,
                        attempt: *attempt,
                        detail: detail.clone(),
                        blob: blob.clone(),
                        worker: worker.clone(),
                        wall: *wall,
                    };
                    job.ends.insert(rank.0, ended);
                }
            }
            Write::Job { job, revision, .. } => {
                if let Some(job) = self.jobs.get_mut(job)
                    && job.switches.as_ref().is_none_or(|(known, _)| known <= revision)
                {
                    job.switches = Some((*revision, write.clone()));
                }
            }
            Write::JobEnded { job: id, counts, started, wall } => {
                if let Some(job) = self.jobs.get_mut(id) {
                    let end = EndedJob { counts: *counts, started: *started, wall: *wall };
                    job.end = Some((end, *counts));
                    if let Some(term) = job.term() {
                        self.expiry.insert(*id, term);
                    }
                    self.ended.insert(*id);
                }
            }
            Write::JobGone(id) => {
                if let Some(job) = self.jobs.remove(id) {
                    self.output_bytes -= job.outputs.iter().map(|piece| cost(&piece.data)).sum::<u64>();
                    if let Some(term) = job.term() {
                        self.expiry.remove(*id, term);
                    }
                }
                self.ended.remove(id);
            }
            Write::Output { task, attempt, stream, offset, data, worker } => {
                let bytes = cost(data);
                let leaves = self.output_bytes + bytes > OUTPUT_BYTES;
                if leaves && !self.leaves_output {
                    tracing::warn!(
                        bytes = OUTPUT_BYTES,
                        "output fills its room in memory; until jobs are forgotten no more of it is kept"
                    );
                }
                self.leaves_output = leaves;
                if let Some(job) = self.jobs.get_mut(&task.job)
                    && !leaves
                {
                    self.output_bytes += bytes;
                    job.outputs.push(OutputPiece {
                        index: task.index,
                        attempt: *attempt,
                        stream: *stream,
                        offset: *offset,
                        // On its own: a piece must not hold the whole message that it came in.
                        data: Bytes::copy_from_slice(data),
                        worker: worker.as_ref().to_owned(),
                        cursor: job.outputs.len() as u64 + 1,
                    });
                }
            }
            Write::Queue { name, revision, paused } => {
                if self.queues.get(name).is_none_or(|(known, _)| known <= revision) {
                    self.queues.insert(name.clone(), (*revision, *paused));
                }
            }
            Write::WorkerSeen { worker, name } => drop(self.workers.insert(*worker, name.clone())),
            Write::WorkerGone(worker) => drop(self.workers.remove(worker)),
        }
    }

    fn job(&self, id: JobId) -> Result<&Job, Lookup> {
        match self.jobs.get(&id) {
            Some(job) => Ok(job),
            None if id.0 > 0 && id <= self.highest => Err(Lookup::Gone(id)),
            None => Err(Lookup::Unknown(id)),
        }
    }

    fn visit_job(&self, id: JobId, job: &Job, visit: &mut dyn FnMut(Write)) {
        let spec = Bytes::new();
        let submitted = Write::Submitted(Submitted { spec, ..job.submitted.clone() });
        if let Some((end, counts)) = &job.end {
            if job.submitted.key.is_some() || job.submitted.repeat.is_some() {
                visit(submitted);
                visit(Write::JobEnded { job: id, counts: *counts, started: end.started, wall: end.wall });
            }
            return;
        }
        visit(submitted);
        if let Some((_, switches)) = &job.switches {
            visit(switches.clone());
        }
        for (rank, e) in job.tasks() {
            visit(Write::Ended {
                job: id,
                indices: e.indices.clone(),
                rank: Rank(*rank),
                end: e.end,
                attempt: e.attempt,
                detail: Bytes::new(),
                blob: e.blob.clone(),
                worker: e.worker.clone(),
                wall: e.wall,
            });
        }
        let mut last: BTreeMap<u32, &Write> = BTreeMap::new();
        for ((index, _), write) in &job.attempts {
            last.insert(*index, write);
        }
        for (_, write) in last.iter().filter(|(index, _)| !job.has_ended(**index)) {
            let mut write = (*write).clone();
            if let Write::Attempt { detail, .. } = &mut write {
                detail.clear();
            }
            visit(write);
        }
    }
}

impl Store for MemoryStore {
    fn load(&self, visit: &mut dyn FnMut(Write)) -> Result<JobId, Error> {
        let inner = trouble::read(&self.0);
        if let Some(epoch) = inner.epoch {
            visit(Write::Epoch(epoch));
        }
        for (name, (revision, paused)) in &inner.queues {
            visit(Write::Queue { name: name.clone(), revision: *revision, paused: *paused });
        }
        for (worker, name) in &inner.workers {
            visit(Write::WorkerSeen { worker: *worker, name: name.clone() });
        }
        for (id, job) in &inner.jobs {
            inner.visit_job(*id, job, visit);
        }
        Ok(inner.highest)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), Error> {
        let mut inner = trouble::write(&self.0);
        for write in writes {
            inner.apply(write);
        }
        Ok(())
    }

    fn submitted(&self, job: JobId) -> Result<SubmittedRecord, Lookup> {
        let inner = trouble::read(&self.0);
        let submitted = &inner.job(job)?.submitted;
        Ok(SubmittedRecord {
            spec: submitted.spec.clone(),
            wall: submitted.wall,
            total: submitted.total,
            only: submitted.only.clone(),
            rerun_of: submitted.rerun_of,
        })
    }

    fn job_ended(&self, job: JobId) -> Result<Option<EndedJob>, Lookup> {
        Ok(trouble::read(&self.0).job(job)?.end.as_ref().map(|(end, _)| end.clone()))
    }

    fn is_live(&self, job: JobId) -> bool {
        trouble::read(&self.0).job(job).is_ok_and(|job| job.end.is_none())
    }

    fn ended_jobs(&self, before: Option<JobId>, limit: usize) -> Vec<JobId> {
        let inner = trouble::read(&self.0);
        inner.ended.range(..before.unwrap_or(JobId(u64::MAX))).rev().take(limit).copied().collect()
    }

    fn ends(&self, job: JobId, from: Rank, limit: usize) -> Result<Vec<EndedTask>, Lookup> {
        let inner = trouble::read(&self.0);
        let mut tasks = Vec::new();
        let mut bytes = 0;
        let job = inner.job(job)?;
        let start = job.ends.range(..=from.0).next_back().map_or(0, |(rank, _)| *rank);
        for (first, ended) in job.ends.range(start..) {
            let skip = u32::try_from(from.0.saturating_sub(*first)).unwrap_or(u32::MAX);
            let Some(lowest) = ended.indices.select(skip) else { continue };
            for (index, rank) in ended.indices.range(lowest..).zip(first + u64::from(skip)..) {
                if tasks.len() >= limit || bytes >= PAGE_BYTES {
                    return Ok(tasks);
                }
                bytes += ended.detail.len() + 64;
                tasks.push(ended.task(index, rank));
            }
        }
        Ok(tasks)
    }

    fn ends_of(&self, job: JobId, indices: &RoaringBitmap, limit: usize) -> Result<Vec<EndedTask>, Lookup> {
        let inner = trouble::read(&self.0);
        let mut found = BTreeMap::new();
        for (first, ended) in inner.job(job)?.tasks() {
            for index in (&ended.indices & indices).iter().take(limit) {
                found.insert(index, ended.task(index, first + ended.indices.rank(index) - 1));
            }
        }
        Ok(found.into_values().take(limit).collect())
    }

    fn attempts(&self, task: TaskId) -> Result<Vec<EarlierAttempt>, Lookup> {
        let inner = trouble::read(&self.0);
        let own = (task.index, Attempt(0))..=(task.index, Attempt(u32::MAX));
        let outcome = |write: &Write| match write {
            Write::Attempt { attempt, detail, worker, .. } if !detail.is_empty() => Some(EarlierAttempt {
                attempt: *attempt,
                detail: detail.clone(),
                worker: worker.as_deref().unwrap_or_default().to_owned(),
            }),
            _ => None,
        };
        Ok(inner.job(task.job)?.attempts.range(own).filter_map(|(_, w)| outcome(w)).collect())
    }

    fn output(
        &self,
        job: JobId,
        tasks: Option<&RoaringBitmap>,
        cursor: u64,
    ) -> Result<(Vec<OutputPiece>, u64), Lookup> {
        let inner = trouble::read(&self.0);
        let outputs = &inner.job(job)?.outputs;
        let start = usize::try_from(cursor).unwrap_or(usize::MAX).min(outputs.len());
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        for piece in outputs[start..].iter().filter(|piece| tasks.is_none_or(|set| set.contains(piece.index)))
        {
            bytes += piece.data.len() + PIECE_BYTES;
            if bytes > PAGE_BYTES && !pieces.is_empty() {
                return Ok((pieces, piece.cursor - 1));
            }
            pieces.push(piece.clone());
        }
        Ok((pieces, cursor.max(outputs.len() as u64)))
    }

    fn put_blob(&self, sha256: [u8; 32], bytes: &[u8]) -> Result<(), Error> {
        let mut inner = trouble::write(&self.0);
        inner.blobs.entry(sha256).or_insert_with(|| Bytes::copy_from_slice(bytes));
        inner.idle.remove(&sha256);
        Ok(())
    }

    fn blob(&self, sha256: &[u8; 32]) -> Result<Option<Bytes>, Error> {
        Ok(trouble::read(&self.0).blobs.get(sha256).cloned())
    }

    fn has_blob(&self, sha256: &[u8; 32]) -> bool {
        trouble::read(&self.0).blobs.contains_key(sha256)
    }

    fn outcome_blobs(&self) -> Vec<[u8; 32]> {
        let inner = trouble::read(&self.0);
        let ends = inner.jobs.values().flat_map(|job| job.ends.values());
        ends.filter_map(|end| end.blob.as_deref().copied()).collect()
    }

    /// Without a disk there is no age to go by: what nobody used at the last look, an hour ago, and does not now, goes.
    fn sweep_blobs(&self, used: &dyn Fn(&[u8; 32]) -> bool) -> Result<u64, Error> {
        let digests: Vec<[u8; 32]> = trouble::read(&self.0).blobs.keys().copied().collect();
        let unused: HashSet<[u8; 32]> = digests.into_iter().filter(|blob| !used(blob)).collect();
        let inner = &mut *trouble::write(&self.0);
        let gone: Vec<[u8; 32]> = inner.idle.intersection(&unused).copied().collect();
        let won =
            gone.iter().filter_map(|blob| inner.blobs.remove(blob)).map(|bytes| bytes.len() as u64).sum();
        inner.idle = unused;
        gone.iter().for_each(|blob| _ = inner.idle.remove(blob));
        Ok(won)
    }

    fn expired(&self, now: WallTime, keep: &Retention, limit: usize) -> Vec<JobId> {
        trouble::read(&self.0).expiry.expired(now, keep, limit)
    }

    fn usage(&self) -> Usage {
        let kept_jobs = trouble::read(&self.0).ended.len() as u64;
        Usage { engine: "memory", synced: false, disk_bytes: 0, kept_jobs }
    }
}
