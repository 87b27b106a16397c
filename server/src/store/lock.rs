//! One server per data directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    time::Duration,
};

use super::Error;

/// How often, and how long, a lock is tried again that this very process has: a program that it is just starting keeps
/// what is open for a moment, until it runs.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Held while the store is open; the system releases it with the process.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks `dir/lock`, or says who has it.
    pub(super) fn take(dir: &Path) -> Result<DirLock, Error> {
        let ours = |error: &Error| matches!(error, Error::Locked { pid, .. } if *pid == std::process::id());
        again_while(ours, || DirLock::try_take(dir))
    }

    fn try_take(dir: &Path) -> Result<DirLock, Error> {
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

/// Tries for a second while the error is one that passes.
pub(super) fn again_while<T, E>(
    passes: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if passes(&error) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    attempt()
}

fn owner(file: &mut File) -> u32 {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) => text.trim().parse().unwrap_or(0),
        Err(_) => 0,
    }
}
