//! Reading single facts back out of the log.
//!
//! The index says where; housekeeping may move the entry in between, and then the index is asked again.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use roaring::RoaringBitmap;
use taskq_core::{
    event::Stream,
    id::{Attempt, JobId, Rank, TaskId, WallTime},
    job::Counts,
};

use super::{
    EarlierAttempt, EndedJob, EndedTask, Error, Lookup, OutputPiece, SubmittedRecord,
    codec::{
        self,
        record::{Body, Ends},
    },
    entries::Loc,
    index::{Index, Job},
    log::Shared,
    part::{Chunk, PartKey},
    recover, trouble,
};

/// Detail or output bytes after which a page ends.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// How often a place is looked up anew before its absence counts as damage.
const TRIES: usize = 100;

/// Tasks of one item of ends are made in slices of this many.
const SLICE: usize = 1024;

impl Shared {
    pub(super) fn submitted(&self, job: JobId) -> Result<SubmittedRecord, Lookup> {
        let body = self.find(job, |j| j.spec())?;
        match body {
            Some(Body::Submitted(raw)) => {
                Ok(codec::submitted_record(raw).map_err(|e| self.place.entry(0, &e))?)
            }
            _ => Err(Lookup::Unknown(job)),
        }
    }

    pub(super) fn job_ended(&self, job: JobId) -> Result<Option<EndedJob>, Lookup> {
        let Some(Body::JobEnded(raw)) = self.find(job, |j| j.end().map(|(_, loc)| loc))? else {
            return Ok(None);
        };
        let counts = Counts {
            queued: raw.queued,
            running: raw.running,
            backoff: raw.backoff,
            succeeded: raw.succeeded,
            failed: raw.failed,
            cancelled: raw.cancelled,
            skipped: raw.skipped,
        };
        Ok(Some(EndedJob { counts, started: raw.started.map(WallTime), wall: WallTime(raw.wall) }))
    }

    pub(super) fn ends(&self, job: JobId, from: Rank, limit: usize) -> Result<Vec<EndedTask>, Lookup> {
        self.retrying(|| {
            let spans = kept(&trouble::read(&self.index), job)?.ends_from(from.0);
            let mut tasks: Vec<EndedTask> = Vec::new();
            let mut bytes = 0;
            for (_, span) in spans {
                let Some(ends) = self.fetch_ends(span.loc)? else { return Ok(None) };
                while tasks.len() < limit && bytes < PAGE_BYTES {
                    let next = Rank(from.0.saturating_add(tasks.len() as u64));
                    let slice = codec::tasks_from(&ends, next, SLICE.min(limit - tasks.len()));
                    let slice = slice.map_err(|e| self.place.entry(span.loc.seq, &e))?;
                    // A rank that is not there yet ends the page, and so does the end of this record.
                    let Some(first) = slice.first() else { break };
                    if first.rank != next {
                        return Ok(Some(tasks));
                    }
                    bytes += slice.iter().map(weight).sum::<usize>();
                    tasks.extend(slice);
                }
            }
            Ok(Some(tasks))
        })
    }

    pub(super) fn ends_of(
        &self,
        job: JobId,
        indices: &RoaringBitmap,
        limit: usize,
    ) -> Result<Vec<EndedTask>, Lookup> {
        self.retrying(|| {
            let spans = kept(&trouble::read(&self.index), job)?.ends_with(indices);
            let mut found: BTreeMap<u32, EndedTask> = BTreeMap::new();
            for span in spans {
                let full = found.len() >= limit;
                if full && found.last_key_value().is_none_or(|(highest, _)| *highest < span.low) {
                    break;
                }
                let Some(ends) = self.fetch_ends(span.loc)? else { return Ok(None) };
                let tasks = codec::tasks_of(&ends, indices, limit);
                for task in tasks.map_err(|e| self.place.entry(span.loc.seq, &e))? {
                    found.insert(task.index, task);
                }
                while found.len() > limit {
                    found.pop_last();
                }
            }
            Ok(Some(found.into_values().collect()))
        })
    }

    pub(super) fn attempts(&self, task: TaskId) -> Result<Vec<EarlierAttempt>, Lookup> {
        self.retrying(|| {
            let places = kept(&trouble::read(&self.index), task.job)?.attempts(task.index);
            let mut attempts = Vec::with_capacity(places.len());
            for (attempt, loc) in places {
                match self.fetch(loc)? {
                    Some(Body::Attempt(raw)) => {
                        let attempt = Attempt(attempt);
                        attempts.push(EarlierAttempt { attempt, detail: raw.detail, worker: raw.worker });
                    }
                    _ => return Ok(None),
                }
            }
            Ok(Some(attempts))
        })
    }

    pub(super) fn output(
        &self,
        job: JobId,
        wanted: Option<&RoaringBitmap>,
        cursor: u64,
    ) -> Result<(Vec<OutputPiece>, u64), Lookup> {
        const PIECES: usize = 1024;
        self.retrying(|| {
            let (places, end) = kept(&trouble::read(&self.index), job)?.outputs(cursor, wanted, PIECES);
            let mut pieces = Vec::new();
            let (mut next, mut bytes) = (end, 0);
            for (number, loc) in places {
                let Some(Body::Output(raw)) = self.fetch(loc)? else { return Ok(None) };
                bytes += raw.data.len() + 64;
                if bytes > PAGE_BYTES && !pieces.is_empty() {
                    next = number;
                    break;
                }
                pieces.push(OutputPiece {
                    index: raw.index,
                    attempt: Attempt(raw.attempt),
                    stream: if raw.stderr { Stream::Stderr } else { Stream::Stdout },
                    offset: raw.offset,
                    data: raw.data,
                    worker: raw.worker,
                    cursor: number + 1,
                });
            }
            Ok(Some((pieces, next)))
        })
    }

    /// A record of a kept job; `None` if it has none of that kind.
    fn find(&self, job: JobId, place: impl Fn(&Job) -> Option<Loc>) -> Result<Option<Body>, Lookup> {
        self.retrying(|| {
            let loc = place(kept(&trouble::read(&self.index), job)?);
            let Some(loc) = loc else { return Ok(Some(None)) };
            Ok(self.fetch(loc)?.map(Some))
        })
    }

    /// Runs `read` again while it meets entries that have moved meanwhile.
    fn retrying<T>(&self, read: impl Fn() -> Result<Option<T>, Lookup>) -> Result<T, Lookup> {
        for _ in 0..TRIES {
            if let Some(value) = read()? {
                return Ok(value);
            }
        }
        Err(self.place.corrupt("an entry that the index names is missing").into())
    }

    fn fetch_ends(&self, loc: Loc) -> Result<Option<Ends>, Error> {
        match self.fetch(loc)? {
            Some(Body::Ends(ends)) => Ok(Some(ends)),
            Some(_) => Err(self.place.lost(loc)),
            None => Ok(None),
        }
    }

    /// The record at a place; `None` if that has been removed.
    fn fetch(&self, loc: Loc) -> Result<Option<Body>, Error> {
        // Few commits are so large that they are cut the other way.
        match self.fetch_cut(loc, Chunk::Usual)? {
            None => self.fetch_cut(loc, Chunk::Large),
            found => Ok(found),
        }
    }

    /// The record at a place of a stream that is cut this way; `None` if it is cut the other way or has been removed.
    fn fetch_cut(&self, loc: Loc, cut: Chunk) -> Result<Option<Body>, Error> {
        let chunk = cut.bytes();
        let (start, end) = (loc.offset as usize, loc.offset as usize + loc.len as usize);
        let mut whole = BytesMut::new();
        let mut entry = Bytes::new();
        for number in start / chunk..=(end - 1) / chunk {
            let key = match u16::try_from(number) {
                Ok(part) => PartKey { seq: loc.seq, part },
                Err(_) => return Ok(None),
            };
            let value = self.engine.get(key).map_err(|f| self.place.engine("read", f))?;
            let Some(value) = value else { return Ok(None) };
            let part = recover::open(&self.place, key, value)?;
            if part.chunk != cut {
                return Ok(None);
            }
            let bytes = part.bytes;
            let from = start.saturating_sub(number * chunk);
            let to = (end - number * chunk).min(bytes.len());
            if from > to {
                return Err(self.place.lost(loc));
            }
            let piece = bytes.slice(from..to);
            if piece.len() == loc.len as usize {
                entry = piece;
            } else {
                whole.extend_from_slice(&piece);
            }
        }
        if entry.is_empty() {
            entry = whole.freeze();
        }
        let record = codec::open(entry).map_err(|e| self.place.entry(loc.seq, &e))?;
        record.body.map(Some).ok_or_else(|| self.place.lost(loc))
    }
}

/// A kept job, or why there is none.
fn kept(index: &Index, job: JobId) -> Result<&Job, Lookup> {
    match index.jobs.get(job) {
        Some(found) => Ok(found),
        None if job.0 > 0 && job <= index.highest => Err(Lookup::Gone(job)),
        None => Err(Lookup::Unknown(job)),
    }
}

fn weight(task: &EndedTask) -> usize {
    task.detail.len() + task.worker.len() + 64
}
