//! Reads a log from its floor to its end: one thread reads, checks and decodes while the other applies, which halves
//! the time of a start.

use std::sync::mpsc::{SyncSender, sync_channel};

use super::{
    Error,
    codec::record::Body,
    entries::{Entries, Loc},
    part::{Part, PartKey},
    recover::{Extent, open},
    sled::Engine,
    trouble::Place,
};

/// Entries go from thread to thread by this many bytes of log.
const BATCH_BYTES: usize = 64 << 10;
/// Batches that may wait to be applied.
const AHEAD: usize = 16;

type Batch = Vec<(Body, Loc)>;

/// Visits every entry from the floor on, in order; fails if a part is missing, doubled or changed. Returns the extent
/// with its sums filled in.
pub(super) fn walk(
    engine: &Engine,
    place: &Place,
    extent: Extent,
    visit: &mut dyn FnMut(Body, Loc) -> Result<(), Error>,
) -> Result<Extent, Error> {
    let (batches, arrived) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(engine, place, extent, &batches));
        // An early return drops the receiver, which ends the reader.
        for (body, loc) in arrived.into_iter().flatten() {
            visit(body, loc)?;
        }
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn read(
    engine: &Engine,
    place: &Place,
    extent: Extent,
    batches: &SyncSender<Batch>,
) -> Result<Extent, Error> {
    let mut extent = Extent { parts: 0, bytes: 0, ..extent };
    let mut due = PartKey { seq: extent.floor, part: 0 };
    let mut entries = Entries::of(due.seq);
    let (mut batch, mut batch_bytes) = (Vec::new(), 0);
    for item in engine.scan(due).map_err(|f| place.engine("read", f))? {
        let (key, value) = item.map_err(|f| place.engine("read", f))?;
        if key.seq >= extent.next {
            break;
        }
        if key != due {
            return Err(place.corrupt(format!("commit {}, part {} is missing", due.seq, due.part)));
        }
        extent.parts += 1;
        extent.bytes += value.len() as u64;
        batch_bytes += value.len();
        let Part { seal, bytes, .. } = open(place, key, value)?;
        entries.push(bytes);
        while let Some((loc, record)) = entries.take().map_err(|e| place.entry(key.seq, &e))? {
            let body = record
                .body
                .ok_or_else(|| place.corrupt(format!("commit {} has an entry of no kind", key.seq)))?;
            batch.push((body, loc));
        }
        if batch_bytes >= BATCH_BYTES {
            batch_bytes = 0;
            if batches.send(std::mem::take(&mut batch)).is_err() {
                // Who applies them has met an error of its own.
                return Ok(extent);
            }
        }
        due = match seal {
            None => PartKey {
                seq: key.seq,
                part: key.part.checked_add(1).ok_or_else(|| place.corrupt("a commit has too many parts"))?,
            },
            Some(seal) if seal.parts == key.part + 1 => {
                entries.finish().map_err(|e| place.entry(key.seq, &e))?;
                entries = Entries::of(key.seq + 1);
                PartKey { seq: key.seq + 1, part: 0 }
            }
            Some(_) => return Err(place.corrupt(format!("commit {} has the wrong number of parts", key.seq))),
        };
    }
    if due != (PartKey { seq: extent.next, part: 0 }) {
        return Err(place.corrupt(format!("commit {}, part {} is missing", due.seq, due.part)));
    }
    // As above.
    let _heard = batches.send(batch);
    Ok(extent)
}
