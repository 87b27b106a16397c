//! One server per data directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
};

use super::Error;

/// Held while the store is open; the system releases it with the process.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks `dir/lock`, or says who has it.
    pub(super) fn take(dir: &Path) -> Result<DirLock, Error> {
        let path = dir.join("lock");
        let failed = |act| {
            let path = path.clone();
            move |cause| Error::Io { act, path, cause }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { dir: dir.to_owned(), pid: owner(&mut file) });
            }
            Err(TryLockError::Error(cause)) => return Err(failed("lock")(cause)),
        }
        file.set_len(0).map_err(failed("write"))?;
        file.rewind().map_err(failed("write"))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("write"))?;
        Ok(DirLock { _file: file })
    }
}

fn owner(file: &mut File) -> u32 {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) => text.trim().parse().unwrap_or(0),
        Err(_) => 0,
    }
}
