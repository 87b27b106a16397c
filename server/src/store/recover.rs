//! Opening a log: find its end, and drop what a crash left half done. What is in it is read by `walk`.

use bytes::Bytes;

use super::{
    Error,
    part::{self, Chunk, Part, PartKey, Seal},
    sled::Engine,
    trouble::Place,
    witness::Found,
};

/// Where commits were lost, so many job numbers are left out: what was told is not given to another job.
const LOST_JOBS: u64 = 1_000_000;

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

/// Removes an unfinished last commit and commits that were given up, and says what is left. Nothing is changed if it is
/// less than what was acknowledged, unless that is accepted: then an empty commit takes job numbers far above.
pub(super) fn tidy(engine: &Engine, place: &Place, found: Found, accept_loss: bool) -> Result<Extent, Error> {
    let End { last, unfinished } = find_end(engine, place)?;
    let mut extent = match last {
        Some((seq, seal)) => {
            Extent { floor: seal.floor, next: seq + 1, highest: seal.highest, parts: 0, bytes: 0 }
        }
        None => Extent { floor: 1, next: 1, ..Extent::default() },
    };
    let lost = found.check(place, extent.next - 1, accept_loss)?;
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
    if lost {
        extent.highest += LOST_JOBS;
        // In the log before anything says that all is well: the next start knows of no loss.
        let key = PartKey { seq: extent.next, part: 0 };
        let seal = Seal { parts: 1, floor: extent.floor, highest: extent.highest };
        let value = part::seal(key, Chunk::Usual, &[], Some(seal));
        engine.insert(key, value).map_err(|f| place.engine("write", f))?;
        extent.next += 1;
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

/// Checks a part.
pub(super) fn open(place: &Place, key: PartKey, value: Bytes) -> Result<Part, Error> {
    part::open(key, value).map_err(|bad| place.part(key, bad))
}
