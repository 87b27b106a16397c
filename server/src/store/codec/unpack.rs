//! Records back to facts.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use prost::Message;
use roaring::RoaringBitmap;
use taskq_core::{
    effect::{Submitted, Write},
    event::Stream,
    id::{Attempt, Epoch, JobId, Millis, Rank, TaskId, WallTime, WorkerId},
    job::{Counts, Key, Limits, Policy, Retry, Shape},
};

use super::{
    Error, Stored,
    ends::{bitmap, items},
    record::{self, Body},
};
use crate::store::SubmittedRecord;

/// Policies decoded so far: equal ones are shared.
#[derive(Debug, Default)]
pub(in crate::store) struct Policies(HashMap<Bytes, Arc<Policy>>);

/// Past this many, sharing starts anew: the table must not outgrow what it saves.
const POLICIES: usize = 4096;

impl Policies {
    fn get(&mut self, bytes: &Bytes) -> Result<Arc<Policy>, Error> {
        if let Some(known) = self.0.get(bytes) {
            return Ok(known.clone());
        }
        let raw =
            record::Policy::decode(bytes.clone()).map_err(|_| Error::Bad("a policy cannot be decoded"))?;
        let policy = Arc::new(policy(raw));
        if self.0.len() >= POLICIES {
            self.0.clear();
        }
        self.0.insert(Bytes::copy_from_slice(bytes), policy.clone());
        Ok(policy)
    }
}

/// The facts that a record holds.
pub(in crate::store) fn writes(body: Body, policies: &mut Policies) -> Result<Vec<Stored>, Error> {
    let mut number = 0;
    let write = match body {
        Body::Epoch(epoch) => Write::Epoch(Epoch(epoch)),
        Body::Submitted(raw) => Write::Submitted(submitted(raw, policies)?),
        Body::Ends(raw) => return ends(&raw),
        Body::Attempt(raw) => Write::Attempt {
            task: TaskId { job: JobId(raw.job), index: raw.index },
            attempt: Attempt(raw.attempt),
            failures: raw.failures,
            losses: raw.losses,
            delay: Millis(raw.delay),
            detail: raw.detail,
            worker: named(&raw.worker),
        },
        Body::Job(raw) => Write::Job {
            job: JobId(raw.job),
            revision: raw.revision,
            paused: raw.paused,
            cancelling: if raw.cancelling.is_empty() {
                RoaringBitmap::new()
            } else {
                bitmap(&raw.cancelling)?
            },
        },
        Body::JobEnded(raw) => Write::JobEnded {
            job: JobId(raw.job),
            counts: Counts {
                queued: raw.queued,
                running: raw.running,
                backoff: raw.backoff,
                succeeded: raw.succeeded,
                failed: raw.failed,
                cancelled: raw.cancelled,
                skipped: raw.skipped,
            },
            started: raw.started.map(WallTime),
            wall: WallTime(raw.wall),
        },
        Body::JobGone(job) => Write::JobGone(JobId(job)),
        Body::Output(raw) => {
            number = raw.number;
            Write::Output {
                task: TaskId { job: JobId(raw.job), index: raw.index },
                attempt: Attempt(raw.attempt),
                stream: if raw.stderr { Stream::Stderr } else { Stream::Stdout },
                offset: raw.offset,
                data: raw.data,
                worker: raw.worker.into(),
            }
        }
        Body::Queue(raw) => {
            Write::Queue { name: raw.name.into(), revision: raw.revision, paused: raw.paused }
        }
        Body::WorkerSeen(raw) => Write::WorkerSeen { worker: WorkerId(raw.worker), name: raw.name.into() },
        Body::WorkerGone(worker) => Write::WorkerGone(WorkerId(worker)),
    };
    Ok(vec![Stored { write, number }])
}

/// What a reader of a submission gets.
pub(in crate::store) fn submitted_record(raw: record::Submitted) -> Result<SubmittedRecord, Error> {
    Ok(SubmittedRecord {
        only: raw.only.as_ref().map(bitmap).transpose()?,
        spec: raw.spec,
        wall: WallTime(raw.wall),
        total: raw.total,
        rerun_of: raw.rerun_of.map(JobId),
    })
}

fn ends(raw: &record::Ends) -> Result<Vec<Stored>, Error> {
    let names: Vec<Option<Arc<str>>> = raw.workers.iter().map(|w| named(w)).collect();
    let mut facts = Vec::with_capacity(raw.items.len());
    for item in items(raw) {
        let item = item?;
        let write = Write::Ended {
            job: JobId(raw.job),
            indices: item.indices.into_set(),
            rank: Rank(item.rank),
            end: item.end,
            attempt: item.attempt,
            detail: item.detail.clone(),
            blob: item.blob.map(Box::new),
            worker: names.get(item.worker_place).cloned().flatten(),
            wall: item.wall,
        };
        facts.push(Stored { write, number: 0 });
    }
    Ok(facts)
}

fn submitted(raw: record::Submitted, policies: &mut Policies) -> Result<Submitted, Error> {
    let key = match raw.key {
        Some(text) => Some(Key {
            text: text.into(),
            digest: raw
                .digest
                .as_ref()
                .try_into()
                .map_err(|_| Error::Bad("a digest has the wrong length"))?,
        }),
        None => None,
    };
    let repeat = match raw.repeat.len() {
        0 => None,
        _ => {
            Some(raw.repeat.as_ref().try_into().map_err(|_| Error::Bad("a repeat id has the wrong length"))?)
        }
    };
    Ok(Submitted {
        id: JobId(raw.id),
        policy: policies.get(&raw.policy)?,
        total: raw.total,
        only: raw.only.as_ref().map(bitmap).transpose()?,
        key,
        repeat,
        place: (raw.place, raw.places),
        rerun_of: raw.rerun_of.map(JobId),
        wall: WallTime(raw.wall),
        spec: raw.spec,
    })
}

fn policy(raw: record::Policy) -> Policy {
    Policy {
        queue: raw.queue.into(),
        priority: raw.priority,
        shape: Shape {
            function: raw.function.map(Into::into),
            slots: raw.slots,
            named: raw.named.into_iter().map(|(k, v)| (k.into(), v)).collect(),
            labels: raw.labels.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            limits: Limits {
                memory: raw.limits_memory,
                cpu: raw.limits_cpu,
                processes: raw.limits_processes,
            },
        },
        retry: Retry {
            max_attempts: raw.max_attempts,
            initial: Millis(raw.initial),
            multiplier_milli: raw.multiplier_milli,
            max: Millis(raw.max),
            exit_codes: raw.exit_codes,
        },
        timeout: raw.timeout.map(Millis),
        kill_grace: Millis(raw.kill_grace),
        crash_limit: raw.crash_limit,
        max_parallel: raw.max_parallel,
        max_fails: raw.max_fails,
        keep: raw.keep.map(Millis),
    }
}

fn named(worker: &str) -> Option<Arc<str>> {
    (!worker.is_empty()).then(|| worker.into())
}
