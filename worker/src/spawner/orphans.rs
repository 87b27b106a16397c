//! What a spawner that was killed left behind: the worker inherits it, kills it and takes leave of it.
//!
//! The worker may be a guest in another program's process, so not every child is ours: tasks run in the sessions
//! of their spawners, and spawners that live are known.

use std::collections::HashSet;
use std::io;
use std::process::Child;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use super::proc;

/// Spawners of this process that live, or whose death has not been dealt with.
static SPAWNERS: Mutex<Option<HashSet<i32>>> = Mutex::new(None);

/// The session of this process, read while there is no shortage of anything yet. `None` without `/proc`.
static OWN_SESSION: OnceLock<Option<i32>> = OnceLock::new();

/// Starts a spawner and remembers it, in one step: in between it would be taken for an orphan.
pub(super) fn start_spawner(start: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
    let mut known = SPAWNERS.lock().unwrap_or_else(PoisonError::into_inner);
    OWN_SESSION.get_or_init(|| session(std::process::id().cast_signed()));
    let child = start()?;
    known.get_or_insert_default().insert(child.id().cast_signed());
    Ok(child)
}

/// Forgets a spawner that has been reaped.
pub(super) fn unregister(spawner: i32) {
    let mut known = SPAWNERS.lock().unwrap_or_else(PoisonError::into_inner);
    known.get_or_insert_default().remove(&spawner);
}

/// Kills all orphans; blocks until none is left.
pub(super) fn sweep() {
    loop {
        let orphans: Vec<Pid> = proc::children(std::process::id().cast_signed())
            .into_iter()
            .filter_map(Pid::from_raw)
            .filter(|pid| is_orphan(*pid))
            .collect();
        if orphans.is_empty() {
            return;
        }
        for orphan in orphans {
            // As long as we have not reaped it, nobody else has its number.
            let _ = kill_process_group(orphan, rustix::process::Signal::KILL);
            let _ = kill_process(orphan, rustix::process::Signal::KILL);
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(orphan), WaitIdOptions::EXITED) {}
        }
    }
}

fn is_orphan(pid: Pid) -> bool {
    let known = SPAWNERS.lock().unwrap_or_else(PoisonError::into_inner);
    let spawner = known.as_ref().is_some_and(|known| known.contains(&pid.as_raw_nonzero().get()));
    let sessions = OWN_SESSION.get().copied().flatten().zip(session(pid.as_raw_nonzero().get()));
    // What cannot be read is nobody's: only what is known to be ours may be killed.
    !spawner && sessions.is_some_and(|(own, its)| its != own)
}

fn session(pid: i32) -> Option<i32> {
    proc::stat(pid).map(|stat| stat.session)
}
