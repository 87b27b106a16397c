//! Room on the disk for what is submitted: asked for before a submission enters the core, because the coordinator
//! stops when one that was let in does not fit. Ends and cancels are never refused here; the store keeps room for them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tonic::Code;

use super::status::Failure;
use crate::store::{Room, SUBMIT_ROOM, Store};

/// Free room below which nothing new is accepted. Twice what the store itself insists on, so that others may write to
/// the same disk between this look and the commit.
const LEAST_BYTES: u64 = 2 * SUBMIT_ROOM;

/// Bytes that have been let in and are not on disk yet.
#[derive(Clone, Debug, Default)]
pub struct Promised(Arc<AtomicU64>);

/// Room that is kept for somebody until this is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    promised: Promised,
    bytes: u64,
}

impl Promised {
    /// Keeps room for this many bytes on disk.
    ///
    /// # Errors
    /// See [`Reserved::grow`].
    pub(super) fn reserve(&self, store: &dyn Store, bytes: u64) -> Result<Reserved, Failure> {
        let mut reserved = Reserved { promised: self.clone(), bytes: 0 };
        reserved.grow(store, bytes)?;
        Ok(reserved)
    }
}

impl Reserved {
    /// Keeps room for so many bytes more.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` with the directory, if the disk would be full with them; `UNAVAILABLE` if the store has
    /// failed.
    pub(super) fn grow(&mut self, store: &dyn Store, bytes: u64) -> Result<(), Failure> {
        let waiting = self.promised.0.fetch_add(bytes, Ordering::Relaxed);
        // Taken before the look: a refusal gives it back with the rest.
        self.bytes += bytes;
        match store.room() {
            Room::Free { dir, bytes: free }
                if free < LEAST_BYTES.saturating_add(waiting).saturating_add(bytes) =>
            {
                let mib = |bytes: u64| bytes.div_ceil(1 << 20);
                Err(Failure {
                    code: Code::ResourceExhausted,
                    message: format!(
                        "DISK_FULL: this needs {} MiB and must leave {} MiB, but {} MiB are free in {}; free some and \
                         try again",
                        mib(waiting.saturating_add(bytes)),
                        mib(LEAST_BYTES),
                        free >> 20,
                        dir.display(),
                    ),
                })
            }
            Room::Over => Err(Failure {
                code: Code::Unavailable,
                message: "the coordinator's disk has failed and it is stopping; its log says how".to_owned(),
            }),
            Room::Ample | Room::Free { .. } => Ok(()),
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.promised.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LogStore, MemoryStore, Options};

    #[test]
    fn memory_has_room_for_all() {
        assert!(Promised::default().reserve(&MemoryStore::default(), u64::MAX / 4).is_ok());
    }

    #[test]
    fn what_waits_for_its_commit_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = LogStore::open(&Options::new(dir.path())).expect("a new store");
        let Room::Free { bytes: free, .. } = store.room() else { panic!("a disk has a size") };
        // Two of these do not fit beside each other; one does, and another when it has gone.
        let most = free / 3 * 2;
        let promised = Promised::default();
        let first = promised.reserve(&store, most).expect("there is room");
        let refused = promised.reserve(&store, most).expect_err("it is taken");
        assert!(refused.message.starts_with("DISK_FULL: "), "{}", refused.message);
        drop(first);
        assert!(promised.reserve(&store, most).is_ok());
    }
}
