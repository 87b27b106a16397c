//! The engine: a sorted map of records, kept by sled 0.34. The only file that names it.
//!
//! sled is used for what it does well behind some rules: values of at most 64 KiB, plain `insert` and `remove` (never
//! large batches), an explicit `flush` per commit. It does not make writes survive a power cut by itself:
//! `guard.rs` does that. Every call is fenced, because sled panics on files that it does not expect.

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use super::{lock, part::PartKey, quiet};

/// Fixed when the files are created. 16 values of 64 KiB must stay well under a quarter of it, or sled puts them
/// into files of their own, which nobody syncs.
const SEGMENT_BYTES: usize = 8 << 20;

/// Decoded pages kept in memory. The log is written once and read rarely.
const CACHE_BYTES: u64 = 16 << 20;

/// sled looks at one of its 256 shards for pages to evict once that shard was accessed so often. A log is never read
/// so often: without [`touch`] all that was ever written would stay in memory.
const ACCESSES: usize = 65;

/// Bytes written or scanned after which the current page is touched; less than a page holds.
const TOUCH_EVERY: usize = 32 << 10;

/// sled reclaims space only on the thread that this sets going, which also syncs each time, needed or not: rarely enough
/// that an idle coordinator is idle.
const FLUSH_EVERY_MS: u64 = 2_000;

/// The files below which sled keeps its records.
#[derive(Debug)]
pub(super) struct Engine {
    /// `None` only while dropping.
    db: Option<::sled::Db>,
    /// Bytes written since a page was touched.
    untouched: AtomicUsize,
}

/// Why the engine could not do it.
#[derive(Debug)]
pub(super) enum Failure {
    /// Its files make no sense.
    Corrupt(String),
    /// The system refused.
    Io(io::Error),
}

impl Engine {
    /// Opens or creates the files in `dir`. Without its snapshot files, which only shorten the recovery, it tries once
    /// more if it fails with them.
    pub(super) fn open(dir: &Path) -> Result<Engine, Failure> {
        // The directory is locked already: what is left is a lock of our own that is just going.
        let busy = |failure: &Failure| matches!(failure, Failure::Io(cause) if is_lock(cause));
        match lock::again_while(busy, || Self::try_open(dir)) {
            Err(Failure::Corrupt(what)) => {
                if remove_snapshots(dir).map_err(Failure::Io)? {
                    tracing::warn!(%what, "the engine's snapshot was unusable; recovering without it");
                    Self::try_open(dir)
                } else {
                    Err(Failure::Corrupt(what))
                }
            }
            other => other,
        }
    }

    fn try_open(dir: &Path) -> Result<Engine, Failure> {
        let db = fenced(|| {
            ::sled::Config::new()
                .path(dir)
                .segment_size(SEGMENT_BYTES)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(Some(FLUSH_EVERY_MS))
                .open()
        })?;
        Ok(Engine { db: Some(db), untouched: AtomicUsize::new(0) })
    }

    /// The value under a key.
    pub(super) fn get(&self, key: PartKey) -> Result<Option<Bytes>, Failure> {
        Ok(fenced(|| self.db().get(key.bytes()))?.map(Bytes::from_owner))
    }

    /// Adds a value; durable after [`flush`](Self::flush) and the guard's sync.
    pub(super) fn insert(&self, key: PartKey, value: Vec<u8>) -> Result<(), Failure> {
        let bytes = self.untouched.fetch_add(value.len(), Ordering::Relaxed) + value.len();
        fenced(|| {
            self.db().insert(key.bytes(), value)?;
            if bytes >= TOUCH_EVERY {
                self.untouched.store(0, Ordering::Relaxed);
                touch(self.db(), key)?;
            }
            Ok(())
        })
    }

    /// Removes a value.
    pub(super) fn remove(&self, key: PartKey) -> Result<(), Failure> {
        fenced(|| self.db().remove(key.bytes())).map(drop)
    }

    /// Hands every write so far to the system.
    pub(super) fn flush(&self) -> Result<(), Failure> {
        fenced(|| self.db().flush()).map(drop)
    }

    /// All records from a key on, in order.
    pub(super) fn scan(&self, from: PartKey) -> Result<Scan, Failure> {
        let tree: &::sled::Tree = self.db();
        let iter = fenced(|| Ok(tree.range(from.bytes()..)))?;
        Ok(Scan { iter, tree: tree.clone(), untouched: 0 })
    }

    fn db(&self) -> &::sled::Db {
        self.db.as_ref().expect("the engine is open until it is dropped")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let db = self.db.take();
        if let Err(what) = quiet::catch(move || drop(db)) {
            tracing::warn!(what, "the engine did not close cleanly");
        }
    }
}

/// A walk over records, to either end.
pub(super) struct Scan {
    iter: ::sled::Iter,
    tree: ::sled::Tree,
    untouched: usize,
}

impl Scan {
    /// The last record that has not been walked over.
    pub(super) fn next_back(&mut self) -> Option<Result<(PartKey, Bytes), Failure>> {
        fenced(|| self.iter.next_back().transpose()).transpose().map(record)
    }
}

impl Iterator for Scan {
    type Item = Result<(PartKey, Bytes), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = fenced(|| self.iter.next().transpose()).transpose().map(record)?;
        Some(item.and_then(|(key, value)| {
            self.untouched += value.len();
            if self.untouched >= TOUCH_EVERY {
                self.untouched = 0;
                fenced(|| touch(&self.tree, key))?;
            }
            Ok((key, value))
        }))
    }
}

/// Makes sled evict other pages of the shard in which this key's page is. The page itself stays.
fn touch(tree: &::sled::Tree, key: PartKey) -> ::sled::Result<()> {
    let key = key.bytes();
    (0..ACCESSES).try_for_each(|_| tree.contains_key(key).map(drop))
}

fn record(item: Result<(::sled::IVec, ::sled::IVec), Failure>) -> Result<(PartKey, Bytes), Failure> {
    let (key, value) = item?;
    let key = PartKey::read(&key).ok_or_else(|| Failure::Corrupt("a key has the wrong length".to_owned()))?;
    Ok((key, Bytes::from_owner(value)))
}

fn fenced<T>(act: impl FnOnce() -> ::sled::Result<T>) -> Result<T, Failure> {
    match quiet::catch(act) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(::sled::Error::Io(cause))) => Err(Failure::Io(cause)),
        Ok(Err(other)) => Err(Failure::Corrupt(other.to_string())),
        Err(panic) => Err(Failure::Corrupt(format!("the engine gave up: {panic}"))),
    }
}

/// sled says so in words only.
fn is_lock(cause: &io::Error) -> bool {
    cause.to_string().contains("could not acquire lock")
}

fn remove_snapshots(dir: &Path) -> io::Result<bool> {
    let mut any = false;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(entry.path())?;
            any = true;
        }
    }
    Ok(any)
}
