//! Reading a record of ends: its span, and single tasks of it. An item may stand for billions of tasks, so nothing
//! here makes more of them than was asked for.

use bytes::Bytes;
use roaring::RoaringBitmap;
use taskq_core::{
    id::{Attempt, Rank, WallTime},
    job::End,
};

use super::{Error, record};
use crate::store::EndedTask;

/// What the index must know of a record of ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Span {
    /// Tasks.
    pub(in crate::store) count: u64,
    /// The lowest index.
    pub(in crate::store) low: u32,
    /// The highest index.
    pub(in crate::store) high: u32,
}

/// One `Ended` fact of a record.
pub(super) struct Item<'a> {
    pub(super) indices: Indices,
    pub(super) rank: u64,
    pub(super) end: End,
    pub(super) attempt: Attempt,
    pub(super) detail: &'a Bytes,
    pub(super) blob: Option<[u8; 32]>,
    pub(super) worker: &'a str,
    pub(super) worker_place: usize,
    pub(super) wall: WallTime,
}

/// Which tasks an item speaks of. Nearly always it is one.
pub(super) enum Indices {
    One(u32),
    Many(RoaringBitmap),
}

impl Indices {
    fn len(&self) -> u64 {
        match self {
            Indices::One(_) => 1,
            Indices::Many(set) => set.len(),
        }
    }

    /// The lowest and the highest; `None` if there is none.
    fn ends(&self) -> Option<(u32, u32)> {
        match self {
            Indices::One(index) => Some((*index, *index)),
            Indices::Many(set) => set.min().zip(set.max()),
        }
    }

    pub(super) fn into_set(self) -> RoaringBitmap {
        match self {
            Indices::One(index) => RoaringBitmap::from([index]),
            Indices::Many(set) => set,
        }
    }
}

/// The span of a record; an error if it has no task.
pub(in crate::store) fn span(raw: &record::Ends) -> Result<Span, Error> {
    let mut span = Span { count: 0, low: u32::MAX, high: 0 };
    for item in items(raw) {
        let item = item?;
        span.count += item.indices.len();
        if let Some((low, high)) = item.indices.ends() {
            span.low = span.low.min(low);
            span.high = span.high.max(high);
        }
    }
    if span.count == 0 { Err(Error::Bad("a record of ends has no tasks")) } else { Ok(span) }
}

/// How many tasks of a record ended how, with the rank of the first of them, in rank order.
pub(in crate::store) fn kinds(raw: &record::Ends) -> impl Iterator<Item = Result<(u64, u64, End), Error>> {
    items(raw).map(|item| item.map(|item| (item.rank, item.indices.len(), item.end)))
}

/// The tasks from a rank on, in rank order, at most `limit`.
pub(in crate::store) fn tasks_from(
    raw: &record::Ends,
    from: Rank,
    limit: usize,
) -> Result<Vec<EndedTask>, Error> {
    let mut tasks = Vec::new();
    for item in items(raw) {
        let item = item?;
        let skip = u32::try_from(from.0.saturating_sub(item.rank)).unwrap_or(u32::MAX);
        match &item.indices {
            Indices::One(_) if skip > 0 => {}
            Indices::One(_) if tasks.len() >= limit => return Ok(tasks),
            Indices::One(index) => tasks.push(item.task(*index, item.rank)),
            Indices::Many(set) => {
                let Some(first) = set.select(skip) else { continue };
                for (index, rank) in set.range(first..).zip(item.rank + u64::from(skip)..) {
                    if tasks.len() >= limit {
                        return Ok(tasks);
                    }
                    tasks.push(item.task(index, rank));
                }
            }
        }
    }
    Ok(tasks)
}

/// The tasks that are in `wanted`, in rank order; of each item at most `limit`, those with the lowest index.
pub(in crate::store) fn tasks_of(
    raw: &record::Ends,
    wanted: &RoaringBitmap,
    limit: usize,
) -> Result<Vec<EndedTask>, Error> {
    let mut tasks = Vec::new();
    for item in items(raw) {
        let item = item?;
        match &item.indices {
            Indices::One(index) if wanted.contains(*index) && limit > 0 => {
                tasks.push(item.task(*index, item.rank));
            }
            Indices::One(_) => {}
            Indices::Many(set) => {
                for index in (set & wanted).iter().take(limit) {
                    let rank = item.rank + set.rank(index) - 1;
                    tasks.push(item.task(index, rank));
                }
            }
        }
    }
    Ok(tasks)
}

impl Item<'_> {
    fn task(&self, index: u32, rank: u64) -> EndedTask {
        EndedTask {
            index,
            rank: Rank(rank),
            end: self.end,
            attempt: self.attempt,
            detail: self.detail.clone(),
            worker: self.worker.to_owned(),
            wall: self.wall,
        }
    }
}

/// The facts of a record, one by one.
pub(super) fn items(raw: &record::Ends) -> impl Iterator<Item = Result<Item<'_>, Error>> {
    let mut next_index = 0_i64;
    let mut wall = raw.wall;
    let mut rank = raw.rank;
    raw.items.iter().map(move |item| {
        let indices = if item.set.is_empty() {
            let index = next_index.checked_add(item.skip).and_then(|i| u32::try_from(i).ok());
            Indices::One(index.ok_or(Error::Bad("an index is out of range"))?)
        } else {
            Indices::Many(bitmap(&item.set)?)
        };
        let (_, last) = indices.ends().ok_or(Error::Bad("a set of ends is empty"))?;
        let next_rank = rank.checked_add(indices.len()).ok_or(Error::Bad("a rank is out of range"))?;
        let attempt = item.attempt.checked_add(1).and_then(|a| u32::try_from(a).ok());
        let worker_place = item.worker as usize;
        let worker = raw.workers.get(worker_place).ok_or(Error::Bad("a worker's name is missing"))?;
        wall = wall.wrapping_add_signed(item.wall);
        next_index = i64::from(last) + 1;
        let item = Item {
            indices,
            rank,
            end: end(item.end)?,
            attempt: Attempt(attempt.ok_or(Error::Bad("an attempt is out of range"))?),
            detail: &item.detail,
            blob: blob(&item.blob)?,
            worker,
            worker_place,
            wall: WallTime(wall),
        };
        rank = next_rank;
        Ok(item)
    })
}

fn blob(bytes: &Bytes) -> Result<Option<[u8; 32]>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let digest = bytes.as_ref().try_into().map_err(|_| Error::Bad("a blob's digest has the wrong length"))?;
    Ok(Some(digest))
}

/// The blobs that the outcomes of a record refer to.
pub(in crate::store) fn blobs(raw: &record::Ends) -> impl Iterator<Item = [u8; 32]> + '_ {
    raw.items.iter().filter_map(|item| item.blob.as_ref().try_into().ok())
}

fn end(number: u32) -> Result<End, Error> {
    match number {
        0 => Ok(End::Succeeded),
        1 => Ok(End::Failed),
        2 => Ok(End::Cancelled),
        3 => Ok(End::Skipped),
        _ => Err(Error::Bad("an end is unknown")),
    }
}

/// Reads a bitmap, checking it.
pub(super) fn bitmap(bytes: &Bytes) -> Result<RoaringBitmap, Error> {
    RoaringBitmap::deserialize_from(bytes.as_ref()).map_err(|_| Error::Bad("a bitmap cannot be decoded"))
}
