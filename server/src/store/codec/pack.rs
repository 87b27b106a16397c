//! Facts to records. Neighbouring ends of a job become one record.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use roaring::RoaringBitmap;
use taskq_core::{
    effect::{self, Write},
    event::Stream,
    job::{End, Limits, Policy},
};

use super::record::{self, Body, Record};

/// A fact on its way to the disk.
#[derive(Clone, Debug)]
pub(in crate::store) struct Stored {
    /// The fact.
    pub(in crate::store) write: Write,
    /// For output, the piece's number in its job.
    pub(in crate::store) number: u64,
}

/// Bytes of detail after which a record of ends is closed: a reader of one task must not decode megabytes.
const ENDS_BYTES: usize = 16 << 10;

impl Stored {
    /// As [`pack`] takes it.
    pub(in crate::store) fn parts(&self) -> (&Write, u64) {
        (&self.write, self.number)
    }
}

/// Facts, each with its number as in [`Stored`], as records in order.
pub(in crate::store) fn pack<'a>(facts: impl IntoIterator<Item = (&'a Write, u64)>) -> Vec<Record> {
    let mut packer = Packer { records: Vec::new(), open: None, policy: None };
    for (write, number) in facts {
        packer.add(write, number);
    }
    packer.close();
    packer.records
}

struct Packer {
    records: Vec<Record>,
    open: Option<OpenEnds>,
    /// The last policy, encoded: neighbours mostly have the same.
    policy: Option<(Arc<Policy>, Bytes)>,
}

struct OpenEnds {
    ends: record::Ends,
    next_rank: u64,
    next_index: i64,
    wall: u64,
    bytes: usize,
}

impl Packer {
    fn add(&mut self, write: &Write, number: u64) {
        if let Write::Ended { job, rank, .. } = write {
            let joins = |o: &OpenEnds| o.ends.job == job.0 && o.next_rank == rank.0 && o.bytes < ENDS_BYTES;
            if !self.open.as_ref().is_some_and(joins) {
                self.close();
            }
            self.end(write);
        } else {
            self.close();
            let body = self.single(write, number);
            self.records.push(Record { body: Some(body) });
        }
    }

    fn end(&mut self, write: &Write) {
        let Write::Ended { job, indices, rank, end, attempt, detail, blob, worker, wall } = write else {
            return;
        };
        let open = self.open.get_or_insert_with(|| OpenEnds {
            ends: record::Ends {
                job: job.0,
                rank: rank.0,
                wall: wall.0,
                workers: Vec::new(),
                items: Vec::new(),
            },
            next_rank: rank.0,
            next_index: 0,
            wall: wall.0,
            bytes: 0,
        });
        let name = worker.as_deref().unwrap_or("");
        let place = open.ends.workers.iter().position(|w| w == name).unwrap_or_else(|| {
            open.ends.workers.push(name.to_owned());
            open.ends.workers.len() - 1
        });
        let first = i64::from(indices.min().unwrap_or(0));
        let (skip, set) = match indices.len() {
            1 => (first - open.next_index, Bytes::new()),
            _ => (0, bitmap(indices)),
        };
        open.bytes += detail.len() + set.len() + 8;
        open.ends.items.push(record::EndItem {
            skip,
            set,
            end: end_number(*end),
            attempt: i64::from(attempt.0) - 1,
            detail: detail.clone(),
            worker: u32::try_from(place).unwrap_or(u32::MAX),
            wall: wall.0.wrapping_sub(open.wall).cast_signed(),
            blob: blob.as_deref().map(|sha256| Bytes::copy_from_slice(sha256)).unwrap_or_default(),
        });
        open.next_rank += indices.len();
        open.next_index = i64::from(indices.max().unwrap_or(0)) + 1;
        open.wall = wall.0;
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.records.push(Record { body: Some(Body::Ends(open.ends)) });
        }
    }

    fn single(&mut self, write: &Write, number: u64) -> Body {
        match write {
            Write::Epoch(epoch) => Body::Epoch(epoch.0),
            Write::Submitted(submitted) => Body::Submitted(self.submitted(submitted)),
            Write::Attempt { task, attempt, failures, losses, delay, detail, worker } => {
                Body::Attempt(record::Attempt {
                    job: task.job.0,
                    index: task.index,
                    attempt: attempt.0,
                    failures: *failures,
                    losses: *losses,
                    delay: delay.0,
                    detail: detail.clone(),
                    worker: name(worker.as_ref()),
                })
            }
            Write::Ended { .. } => unreachable!("ends are packed by `end`"),
            Write::Job { job, revision, paused, cancelling } => Body::Job(record::Job {
                job: job.0,
                revision: *revision,
                paused: *paused,
                cancelling: if cancelling.is_empty() { Bytes::new() } else { bitmap(cancelling) },
            }),
            Write::JobEnded { job, counts, started, wall } => Body::JobEnded(record::JobEnded {
                job: job.0,
                succeeded: counts.succeeded,
                failed: counts.failed,
                cancelled: counts.cancelled,
                skipped: counts.skipped,
                queued: counts.queued,
                running: counts.running,
                backoff: counts.backoff,
                started: started.map(|w| w.0),
                wall: wall.0,
            }),
            Write::JobGone(job) => Body::JobGone(job.0),
            Write::Output { task, attempt, stream, offset, data, worker } => Body::Output(record::Output {
                job: task.job.0,
                index: task.index,
                attempt: attempt.0,
                stderr: *stream == Stream::Stderr,
                offset: *offset,
                data: data.clone(),
                worker: worker.as_ref().to_owned(),
                number,
            }),
            Write::Queue { name, revision, paused } => Body::Queue(record::Queue {
                name: name.as_ref().to_owned(),
                revision: *revision,
                paused: *paused,
            }),
            Write::WorkerSeen { worker, name } => {
                Body::WorkerSeen(record::WorkerSeen { worker: worker.0, name: name.as_ref().to_owned() })
            }
            Write::WorkerGone(worker) => Body::WorkerGone(worker.0),
        }
    }

    fn submitted(&mut self, job: &effect::Submitted) -> record::Submitted {
        let known = self.policy.take().filter(|(policy, _)| Arc::ptr_eq(policy, &job.policy));
        let (shared, bytes) =
            known.unwrap_or_else(|| (job.policy.clone(), policy(&job.policy).encode_to_vec().into()));
        self.policy = Some((shared, bytes.clone()));
        submitted(job, bytes)
    }
}

fn submitted(job: &effect::Submitted, policy: Bytes) -> record::Submitted {
    record::Submitted {
        id: job.id.0,
        policy,
        total: job.total,
        only: job.only.as_ref().map(bitmap),
        key: job.key.as_ref().map(|k| k.text.as_ref().to_owned()),
        digest: job.key.as_ref().map(|k| Bytes::copy_from_slice(&k.digest)).unwrap_or_default(),
        repeat: job.repeat.map(|r| Bytes::copy_from_slice(&r)).unwrap_or_default(),
        place: job.place.0,
        places: job.place.1,
        rerun_of: job.rerun_of.map(|j| j.0),
        wall: job.wall.0,
        spec: job.spec.clone(),
        keep: job.policy.keep.map(|m| m.0),
        call: job.policy.shape.function.is_some(),
        limited: job.policy.shape.limits != Limits::default(),
    }
}

fn policy(policy: &Policy) -> record::Policy {
    let owned = |s: &Arc<str>| s.as_ref().to_owned();
    record::Policy {
        queue: owned(&policy.queue),
        priority: policy.priority,
        slots: policy.shape.slots,
        named: policy.shape.named.iter().map(|(k, v)| (owned(k), *v)).collect(),
        labels: policy.shape.labels.iter().map(|(k, v)| (owned(k), owned(v))).collect(),
        max_attempts: policy.retry.max_attempts,
        initial: policy.retry.initial.0,
        multiplier_milli: policy.retry.multiplier_milli,
        max: policy.retry.max.0,
        exit_codes: policy.retry.exit_codes.clone(),
        timeout: policy.timeout.map(|m| m.0),
        kill_grace: policy.kill_grace.0,
        crash_limit: policy.crash_limit,
        max_parallel: policy.max_parallel,
        max_fails: policy.max_fails,
        keep: policy.keep.map(|m| m.0),
        function: policy.shape.function.as_ref().map(owned),
        limits_memory: policy.shape.limits.memory,
        limits_cpu: policy.shape.limits.cpu,
        limits_processes: policy.shape.limits.processes,
    }
}

fn name(worker: Option<&Arc<str>>) -> String {
    worker.map(|w| w.as_ref().to_owned()).unwrap_or_default()
}

fn end_number(end: End) -> u32 {
    match end {
        End::Succeeded => 0,
        End::Failed => 1,
        End::Cancelled => 2,
        End::Skipped => 3,
    }
}

/// The portable roaring format, with runs where they are smaller.
fn bitmap(set: &RoaringBitmap) -> Bytes {
    let mut set = set.clone();
    set.optimize();
    let mut bytes = Vec::with_capacity(set.serialized_size());
    set.serialize_into(&mut bytes).expect("a Vec takes every write");
    bytes.into()
}
