//! Room on the disk. An engine that runs into a full disk in the middle of a write cannot go on without a restart, so
//! the store looks before it writes: submissions stop early, ends and cancels go on into a ballast file's room.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use taskq_core::effect::Write;

use super::Error;

/// Preallocated, and given up when the disk is full, so that what runs can still end.
const BALLAST_BYTES: u64 = 16 << 20;

/// Free room below which nothing new is accepted: two segments of the engine.
const SUBMIT_ROOM: u64 = 16 << 20;

/// Free room below which nothing at all is written: the engine needs a segment to go on.
const LAST_ROOM: u64 = 9 << 20;

/// Watches one directory.
#[derive(Debug)]
pub(super) struct Space {
    dir: PathBuf,
    ballast: PathBuf,
    ballasted: bool,
}

/// Bytes that may be written; unknown counts as ample.
pub(super) fn free(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize))
}

impl Space {
    /// Lays the ballast if there is ample room.
    pub(super) fn new(dir: &Path) -> Space {
        let ballast = dir.join("ballast");
        let ballasted = fs::metadata(&ballast).is_ok_and(|m| m.len() == BALLAST_BYTES);
        let mut space = Space { dir: dir.to_owned(), ballast, ballasted };
        space.restore();
        space
    }

    /// Is there room to commit these, which take about `bytes`? Gives the ballast up if it must.
    pub(super) fn admit(&mut self, writes: &[Write], bytes: u64) -> Result<(), Error> {
        let need = 3 * bytes;
        let grows = writes.iter().any(|w| matches!(w, Write::Submitted(_)));
        let free = self.free();
        if free >= SUBMIT_ROOM + need {
            if !self.ballasted {
                self.restore();
            }
            return Ok(());
        }
        if grows {
            return Err(self.full());
        }
        if free < LAST_ROOM + need && self.ballasted {
            tracing::warn!(dir = %self.dir.display(), "the disk is full; giving up the ballast file");
            if fs::remove_file(&self.ballast).is_ok() {
                self.ballasted = false;
            }
        }
        if self.free() < LAST_ROOM + need { Err(self.full()) } else { Ok(()) }
    }

    fn full(&self) -> Error {
        Error::Full { dir: self.dir.clone(), cause: io::Error::from(io::ErrorKind::StorageFull) }
    }

    fn free(&self) -> u64 {
        free(&self.dir)
    }

    fn restore(&mut self) {
        if self.ballasted || self.free() < 3 * BALLAST_BYTES + SUBMIT_ROOM {
            return;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&self.ballast);
        let laid = file.and_then(|f| {
            rustix::fs::fallocate(&f, rustix::fs::FallocateFlags::empty(), 0, BALLAST_BYTES)?;
            Ok(())
        });
        match laid {
            Ok(()) => self.ballasted = true,
            Err(error) => tracing::warn!(%error, "cannot lay the ballast file"),
        }
    }
}
