//! What makes a commit survive a power cut. sled's `flush` only asks the kernel to start writing: no file size, no
//! extents, no device cache. The guard syncs sled's file through a descriptor of its own, and the directory whenever
//! a file has appeared in it.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::Error;

/// Syncs one engine directory.
#[derive(Debug)]
pub(super) struct Guard {
    dir_path: PathBuf,
    dir: File,
    db: File,
    /// When the directory last changed, as of its last sync.
    changed: (i64, i64),
    enabled: bool,
    fault: Fault,
}

/// Failures on demand, for tests.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Fault {
    /// So many syncs succeed; the next one fails with `EIO`, and those after it succeed.
    pub syncs_before_failure: Option<u64>,
    /// So many parts of commits are stored; the next one fails with `EIO`.
    pub parts_before_failure: Option<u64>,
}

impl Fault {
    pub(super) fn sync(&mut self) -> io::Result<()> {
        count_down(&mut self.syncs_before_failure)
    }

    pub(super) fn part(&mut self) -> io::Result<()> {
        count_down(&mut self.parts_before_failure)
    }
}

fn count_down(left: &mut Option<u64>) -> io::Result<()> {
    match left {
        // Once: what follows would succeed again, as with a real disk, and must not be believed.
        Some(0) => {
            *left = None;
            Err(rustix::io::Errno::IO.into())
        }
        Some(more) => {
            *more -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

impl Guard {
    /// Takes over the directory right after the engine has opened it, and syncs it and its parent.
    pub(super) fn new(dir: &Path, enabled: bool, fault: Fault) -> Result<Guard, Error> {
        let db_path = dir.join("db");
        let db = File::open(&db_path).map_err(|cause| failed("open", &db_path, cause))?;
        let handle = File::open(dir).map_err(|cause| failed("open", dir, cause))?;
        if let (true, Some(parent)) = (enabled, dir.parent()) {
            File::open(parent).and_then(|p| p.sync_all()).map_err(|cause| failed("sync", parent, cause))?;
        }
        let mut guard = Guard { dir_path: dir.to_owned(), dir: handle, db, changed: (0, 0), enabled, fault };
        guard.sync()?;
        Ok(guard)
    }

    /// Everything that the engine has flushed is on stable storage when this returns. After an error the state of the
    /// file is unknown for ever: a later success proves nothing.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        if !self.enabled {
            return Ok(());
        }
        self.fault
            .sync()
            .and_then(|()| self.db.sync_data())
            .map_err(|c| failed("sync", &self.db_path(), c))?;
        let seen = self.dir.metadata().map_err(|c| failed("read", &self.dir_path, c))?;
        let changed = (seen.mtime(), seen.mtime_nsec());
        if changed != self.changed {
            self.dir.sync_all().map_err(|c| failed("sync", &self.dir_path, c))?;
            self.changed = changed;
        }
        Ok(())
    }

    /// Whether commits survive a power cut.
    pub(super) fn enabled(&self) -> bool {
        self.enabled
    }

    fn db_path(&self) -> PathBuf {
        self.dir_path.join("db")
    }
}

fn failed(act: &'static str, path: &Path, cause: io::Error) -> Error {
    Error::Io { act, path: path.to_owned(), cause }
}
