//! Turns what went wrong below into the store's errors, with the place named.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{
    Error, codec,
    entries::Loc,
    part::{BadPart, PartKey, VERSION},
    sled::Failure,
};

/// The data directory, for messages.
#[derive(Clone, Debug)]
pub(super) struct Place(pub(super) PathBuf);

impl Place {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::Corrupt { dir: self.0.clone(), what: what.into() }
    }

    pub(super) fn io(&self, act: &'static str, cause: io::Error) -> Error {
        failed(act, &self.0, cause)
    }

    pub(super) fn engine(&self, act: &'static str, failure: Failure) -> Error {
        match failure {
            Failure::Io(cause) => self.io(act, cause),
            Failure::Corrupt(what) => self.corrupt(format!("cannot {act}: {what}")),
        }
    }

    pub(super) fn part(&self, key: PartKey, bad: BadPart) -> Error {
        match bad {
            BadPart::Bad(what) => self.corrupt(format!("{what} (commit {}, part {})", key.seq, key.part)),
            BadPart::Newer(found) => self.newer(found, VERSION),
        }
    }

    pub(super) fn entry(&self, seq: u64, bad: &codec::Error) -> Error {
        match bad {
            codec::Error::Bad(what) => self.corrupt(format!("{what} (commit {seq})")),
            codec::Error::Newer(found) => self.newer(*found, codec::VERSION),
        }
    }

    pub(super) fn lost(&self, loc: Loc) -> Error {
        self.corrupt(format!("commit {} has no entry at {}", loc.seq, loc.offset))
    }

    fn newer(&self, found: u8, known: u8) -> Error {
        Error::Newer { dir: self.0.clone(), found: u32::from(found), known: u32::from(known) }
    }
}

/// What the system says of a file or directory; a full disk is an error of its own.
pub(super) fn failed(act: &'static str, path: &Path, cause: io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::Full { dir: path.to_owned(), cause }
        }
        _ => Error::Io { act, path: path.to_owned(), cause },
    }
}

/// A lock whose former holder panicked is taken all the same: every change below is made whole before it is seen.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
