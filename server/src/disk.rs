//! Watches the room on the disk, so that submits are refused before a commit could fail.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::api::status::Failure;

/// Below this much room nothing new is accepted; ends and cancels still are. Twice what the store itself insists on,
/// because it stops the process when a submission that was let in does not fit.
const LEAST_BYTES: u64 = 32 << 20;
/// How often it looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether there is room.
#[derive(Debug)]
pub struct Space {
    dir: Option<PathBuf>,
    full: AtomicBool,
}

impl Space {
    /// Of this directory; `None` = in memory, always room.
    #[must_use]
    pub fn of(dir: Option<&Path>) -> Space {
        let space = Space { dir: dir.map(Path::to_owned), full: AtomicBool::new(false) };
        space.look();
        space
    }

    /// Refuses what would take room, if there is little left.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` with the directory.
    pub fn check(&self) -> Result<(), Failure> {
        match &self.dir {
            Some(dir) if self.full.load(Ordering::Relaxed) => Err(Failure {
                code: tonic::Code::ResourceExhausted,
                message: format!(
                    "DISK_FULL: less than {} MiB are free in {}; free some and try again",
                    LEAST_BYTES >> 20,
                    dir.display()
                ),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Keeps looking until the coordinator stops.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            self.look();
        }
    }

    fn look(&self) {
        let Some(dir) = &self.dir else { return };
        match rustix::fs::statvfs(dir) {
            Ok(stat) => {
                let full = stat.f_bavail.saturating_mul(stat.f_frsize) < LEAST_BYTES;
                if self.full.swap(full, Ordering::Relaxed) != full {
                    tracing::info!(full, dir = %dir.display(), "room on the disk changed");
                }
            }
            Err(error) => tracing::error!(%error, dir = %dir.display(), "cannot see the room on the disk"),
        }
    }
}
