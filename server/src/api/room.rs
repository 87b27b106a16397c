//! Room on the disk for what is submitted: asked for before a submission enters the core, because the coordinator
//! stops when one that was let in does not fit. Ends and cancels are never refused here; the store keeps room for them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tonic::Code;

use super::status::Failure;
use crate::store::Store;

/// Free room below which nothing new is accepted. Twice what the store itself insists on, so that others may write to
/// the same disk between this look and the commit.
const LEAST_BYTES: u64 = 32 << 20;
/// Bytes that a submitted byte may take: in the log, in the engine's segments, and once more while it tidies them.
const GROWTH: u64 = 3;

/// Bytes of submissions that have been let in and are not on disk yet.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<AtomicU64>);

/// The room of one submission; given back when dropped, that is when its commit is over.
#[derive(Debug)]
pub(super) struct Reserved {
    room: Room,
    bytes: u64,
}

impl Room {
    /// Takes room for this many bytes.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` with the directory, if the disk would be full with them.
    pub(super) fn reserve(&self, store: &dyn Store, bytes: usize) -> Result<Reserved, Failure> {
        let bytes = (bytes as u64).saturating_mul(GROWTH);
        let waiting = self.0.fetch_add(bytes, Ordering::Relaxed);
        // Made before the look: a refusal gives it back.
        let reserved = Reserved { room: self.clone(), bytes };
        match store.room() {
            Some((dir, free)) if free < LEAST_BYTES.saturating_add(waiting).saturating_add(bytes) => {
                Err(Failure {
                    code: Code::ResourceExhausted,
                    message: format!(
                        "DISK_FULL: {} MiB are free in {}, and a submission must leave {}; free some and try again",
                        free >> 20,
                        dir.display(),
                        LEAST_BYTES >> 20,
                    ),
                })
            }
            Some(_) | None => Ok(reserved),
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LogStore, MemoryStore, Options};

    #[test]
    fn memory_has_room_for_all() {
        assert!(Room::default().reserve(&MemoryStore::default(), usize::MAX / 4).is_ok());
    }

    #[test]
    fn what_waits_for_its_commit_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = LogStore::open(&Options::new(dir.path())).expect("a new store");
        let (_, free) = store.room().expect("a disk");
        // Two of these do not fit beside each other; one does, and another when it has gone.
        let half = usize::try_from(free / GROWTH / 3 * 2).expect("a disk of this world");
        let room = Room::default();
        let first = room.reserve(&store, half).expect("there is room");
        let refused = room.reserve(&store, half).expect_err("it is taken");
        assert!(refused.message.starts_with("DISK_FULL: "), "{}", refused.message);
        drop(first);
        assert!(room.reserve(&store, half).is_ok());
    }
}
