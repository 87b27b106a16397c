//! Whether the kernel ended a program because memory had run out. It does not say whom it killed, only how often it did
//! so on this machine: a task that was killed when that number had risen within the last seconds is taken for its
//! victim.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often [`Memory::look`] is to be called. Until a kill has been counted at two looks it may have a victim: the
/// kernel counts before all the memory of a large process is gone, and we hear of its end only then.
pub(crate) const LOOK: Duration = Duration::from_secs(2);

/// Watches the kernel's count.
#[derive(Debug)]
pub(crate) struct Memory {
    vmstat: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// At the look before the last, and victims found since.
    settled: u64,
    /// At the last look.
    last: u64,
}

impl Memory {
    /// The kernel's own figures. Where it has none nobody is ever a victim.
    pub(crate) fn watch() -> Memory {
        Memory::of(PathBuf::from("/proc/vmstat"))
    }

    fn of(vmstat: PathBuf) -> Memory {
        let kills = kills(&vmstat).unwrap_or_default();
        Memory { vmstat, seen: Mutex::new(Seen { settled: kills, last: kills }) }
    }

    /// Settles kills that were there at the last look already: they were somebody else's.
    pub(crate) fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = kills(&self.vmstat).unwrap_or(seen.last);
        *seen = Seen { settled: seen.last.max(seen.settled), last: now };
    }

    /// Whether a task that was just ended by SIGKILL, but not by us, was the victim of such a kill. Each kill has one.
    pub(crate) fn ran_out(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let victim = kills(&self.vmstat).is_some_and(|kills| kills > seen.settled);
        seen.settled += u64::from(victim);
        victim
    }
}

/// `oom_kill` of `/proc/vmstat` (Linux 4.13 and later), which counts limits of control groups as well.
fn kills(vmstat: &Path) -> Option<u64> {
    let text = fs::read_to_string(vmstat).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kill_has_one_victim() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("vmstat");
        let set = |kills: u64| fs::write(&file, format!("nr_free 9\noom_kill {kills}\nlast 1\n"));
        set(7).expect("written");
        let memory = Memory::of(file.clone());
        assert!(!memory.ran_out(), "nothing has happened since");
        set(9).expect("written");
        assert_eq!([(); 3].map(|()| memory.ran_out()), [true, true, false]);
    }

    #[test]
    fn old_kills_are_somebody_else_s() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("vmstat");
        fs::write(&file, "oom_kill 1\n").expect("written");
        let memory = Memory::of(file.clone());
        fs::write(&file, "oom_kill 3\n").expect("written");
        memory.look();
        assert!(memory.ran_out(), "a task may end a little later");
        memory.look();
        assert!(!memory.ran_out(), "but not much later");
    }

    #[test]
    fn without_figures_nobody_is_a_victim() {
        let memory = Memory::of(PathBuf::from("/no/such/file"));
        memory.look();
        assert!(!memory.ran_out());
    }
}
