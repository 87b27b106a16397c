//! Room on the disk. An engine that runs into a full disk in the middle of a write cannot go on without a restart, so
//! the store looks before it writes: submissions stop early, ends and cancels go on into a ballast file's room.

use std::{
    borrow::Cow,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Once,
};

use taskq_core::effect::Write;

use super::Error;

/// Preallocated, and given up when the disk is full, so that what runs can still end.
const BALLAST_BYTES: u64 = 16 << 20;

/// Free room below which nothing new is accepted: two segments of the engine.
pub const SUBMIT_ROOM: u64 = 16 << 20;

/// Free room below which pieces of output are no longer kept: output is what fills a disk, and must not be what stops
/// submissions and ends.
const OUTPUT_ROOM: u64 = 64 << 20;

/// Bytes that a byte may take: in the log, in the engine's segments, and once more while it tidies them.
pub const GROWTH: u64 = 3;

/// Free room below which nothing at all is written: the engine needs a segment to go on.
const LAST_ROOM: u64 = 9 << 20;

/// Watches one directory.
#[derive(Debug)]
pub(super) struct Space {
    dir: PathBuf,
    ballast: PathBuf,
    ballasted: bool,
    /// Output was left out of the last commit that had some.
    leaves_output: bool,
}

/// Bytes that may be written. What cannot be known is said once, and counts as ample.
pub(super) fn free(dir: &Path) -> u64 {
    static SAID: Once = Once::new();
    match rustix::fs::statvfs(dir) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => {
            SAID.call_once(
                || tracing::error!(%error, dir = %dir.display(), "cannot see the room on the disk"),
            );
            u64::MAX
        }
    }
}

impl Space {
    /// Lays the ballast if there is ample room.
    pub(super) fn new(dir: &Path) -> Space {
        let ballast = dir.join("ballast");
        let ballasted = fs::metadata(&ballast).is_ok_and(|m| m.len() == BALLAST_BYTES);
        let mut space = Space { dir: dir.to_owned(), ballast, ballasted, leaves_output: false };
        space.restore();
        space
    }

    /// What of these is to be kept: on a disk that is nearly full all but pieces of output. Who reads such output is told
    /// how many bytes are missing, as with output above its limit.
    pub(super) fn without_excess<'a>(&mut self, writes: &'a [Write]) -> Cow<'a, [Write]> {
        let is_output = |write: &Write| matches!(write, Write::Output { .. });
        let bytes =
            |write: &Write| if let Write::Output { data, .. } = write { data.len() as u64 } else { 0 };
        let output: u64 = writes.iter().map(bytes).sum();
        if output == 0 {
            return Cow::Borrowed(writes);
        }
        // It takes more room to begin again than to go on: no to and fro on a disk that is just full.
        let least = if self.leaves_output { 2 * OUTPUT_ROOM } else { OUTPUT_ROOM };
        let leaves = self.free() < least + GROWTH * output;
        if leaves != std::mem::replace(&mut self.leaves_output, leaves) {
            match leaves {
                true => {
                    tracing::warn!(dir = %self.dir.display(), "the disk is nearly full; output is not kept")
                }
                false => tracing::info!("there is room again; output is kept"),
            }
        }
        match leaves {
            true => writes.iter().filter(|write| !is_output(write)).cloned().collect(),
            false => Cow::Borrowed(writes),
        }
    }

    /// Is there room to commit these, which take about `bytes`? Gives the ballast up if it must.
    pub(super) fn admit(&mut self, writes: &[Write], bytes: u64) -> Result<(), Error> {
        let need = GROWTH * bytes;
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
