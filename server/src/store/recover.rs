//! Opening a log: find its end, drop what a crash left half done, check that nothing is missing.

use bytes::Bytes;

use super::{
    Error,
    codec::record::Body,
    entries::{Entries, Loc},
    part::{self, Part, PartKey, Seal},
    sled::Engine,
    trouble::Place,
};

/// Where a log starts and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// The oldest commit that counts.
    pub(super) floor: u64,
    /// The number of the next commit.
    pub(super) next: u64,
    /// The highest job id ever used.
    pub(super) highest: u64,
    /// Parts of the commits from `floor` on.
    pub(super) parts: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// Removes an unfinished last commit and commits that were given up, and says what is left. `acked` is the last commit
/// known to have been acknowledged.
pub(super) fn tidy(engine: &Engine, place: &Place, acked: u64) -> Result<Extent, Error> {
    let End { last, unfinished } = find_end(engine, place)?;
    let extent = match last {
        Some((seq, seal)) => {
            Extent { floor: seal.floor, next: seq + 1, highest: seal.highest, parts: 0, bytes: 0 }
        }
        None => Extent { floor: 1, next: 1, ..Extent::default() },
    };
    if extent.next <= acked {
        let last = extent.next - 1;
        return Err(
            place.corrupt(format!("commits up to {acked} were acknowledged, the files end at {last}"))
        );
    }
    let mut stale = unfinished;
    for item in engine.scan(PartKey { seq: 0, part: 0 }).map_err(|f| place.engine("read", f))? {
        let (key, _) = item.map_err(|f| place.engine("read", f))?;
        if key.seq >= extent.floor {
            break;
        }
        stale.push(key);
    }
    for key in stale {
        engine.remove(key).map_err(|f| place.engine("write", f))?;
    }
    Ok(extent)
}

struct End {
    /// The last finished commit.
    last: Option<(u64, Seal)>,
    /// The parts after it.
    unfinished: Vec<PartKey>,
}

fn find_end(engine: &Engine, place: &Place) -> Result<End, Error> {
    let mut unfinished: Vec<PartKey> = Vec::new();
    let mut scan = engine.scan(PartKey { seq: 0, part: 0 }).map_err(|f| place.engine("read", f))?;
    while let Some(item) = scan.next_back() {
        let (key, value) = item.map_err(|f| place.engine("read", f))?;
        if let Some(seal) = open(place, key, value)?.seal {
            return Ok(End { last: Some((key.seq, seal)), unfinished });
        }
        if unfinished.first().is_some_and(|first| first.seq != key.seq) {
            return Err(place.corrupt(format!("commit {} has no end, and is not the last", key.seq)));
        }
        unfinished.push(key);
    }
    Ok(End { last: None, unfinished })
}

/// Visits every entry from the floor on, in order; fails if a part is missing, doubled or changed. Returns the extent
/// with its sums filled in.
pub(super) fn walk(
    engine: &Engine,
    place: &Place,
    extent: Extent,
    visit: &mut dyn FnMut(Body, Loc) -> Result<(), Error>,
) -> Result<Extent, Error> {
    let mut extent = Extent { parts: 0, bytes: 0, ..extent };
    let mut due = PartKey { seq: extent.floor, part: 0 };
    let mut entries = Entries::of(due.seq);
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
        let Part { seal, bytes, .. } = open(place, key, value)?;
        entries.push(bytes);
        while let Some((loc, record)) = entries.take().map_err(|e| place.entry(key.seq, &e))? {
            let body = record
                .body
                .ok_or_else(|| place.corrupt(format!("commit {} has an entry of no kind", key.seq)))?;
            visit(body, loc)?;
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
    Ok(extent)
}

/// Checks a part.
pub(super) fn open(place: &Place, key: PartKey, value: Bytes) -> Result<Part, Error> {
    part::open(key, value).map_err(|bad| place.part(key, bad))
}
