//! The control groups of one attempt. The child enters them by itself, before it executes its program, so that nothing it
//! does escapes them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::{Limits, Places, count, write};
use crate::spawner::proc;

/// What all names of such groups begin with; their spawner's process follows, so that it can be known whether it lives.
pub(super) const PREFIX: &str = "taskq-";
/// The time in which a share of processor time is counted.
const PERIOD_US: u64 = 100_000;

/// Groups that were made.
#[derive(Debug)]
pub(crate) struct Group {
    folders: Vec<PathBuf>,
    memory: Option<PathBuf>,
    processes: Option<PathBuf>,
    unified: bool,
}

/// What became of the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The kernel has killed processes for want of memory within the limit.
    pub out_of_memory: bool,
    /// A process could not be made.
    pub out_of_processes: bool,
}

/// The name of a spawner's n-th group. What tells the spawner from a later process of its number is its start.
pub(crate) fn name(spawner: i32, n: u64) -> String {
    let start = proc::stat(spawner).map_or(0, |stat| stat.start);
    format!("{PREFIX}{:x}-{spawner}-{start}-{n}", namespace())
}

/// Which numbers of processes are meant.
pub(super) fn namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino())
}

impl Group {
    /// Makes the groups that these limits need, and sets them. An error leaves nothing behind.
    pub(crate) fn make(places: &Places, name: &str, limits: Limits) -> io::Result<Group> {
        let place = |place: &Option<PathBuf>, wanted: bool| -> io::Result<Option<PathBuf>> {
            match place {
                Some(place) if wanted => Ok(Some(place.join(name))),
                None if wanted => Err(io::ErrorKind::Unsupported.into()),
                Some(_) | None => Ok(None),
            }
        };
        let memory = place(&places.memory, limits.memory_bytes.is_some());
        let cpu = place(&places.cpu, limits.cpu_milli.is_some());
        let processes = place(&places.processes, limits.processes.is_some());
        let (memory, cpu, processes) = (memory?, cpu?, processes?);
        let mut group = Group {
            folders: Vec::new(),
            memory: memory.clone(),
            processes: processes.clone(),
            unified: places.unified,
        };
        let mut all: Vec<PathBuf> = [&memory, &cpu, &processes].into_iter().flatten().cloned().collect();
        all.dedup();
        for folder in all {
            if let Err(error) = fs::create_dir(&folder) {
                let _ = group.remove();
                return Err(error);
            }
            group.folders.push(folder);
        }
        let set = set_memory(memory.as_deref(), limits.memory_bytes, places.unified)
            .and_then(|()| set_cpu(cpu.as_deref(), limits.cpu_milli, places.unified))
            .and_then(|()| set_processes(processes.as_deref(), limits.processes));
        if let Err(error) = set {
            let _ = group.remove();
            return Err(error);
        }
        Ok(group)
    }

    /// What a process writes `0` into to be in them.
    pub(crate) fn doors(&self) -> io::Result<Vec<File>> {
        self.folders
            .iter()
            .map(|folder| OpenOptions::new().write(true).open(folder.join("cgroup.procs")))
            .collect()
    }

    /// What has happened until now.
    pub(crate) fn verdict(&self) -> Verdict {
        let kills = if self.unified { "memory.events" } else { "memory.oom_control" };
        let happened = |folder: &Option<PathBuf>, file, name| {
            folder.as_deref().and_then(|folder| count(folder, file, name)).is_some_and(|count| count > 0)
        };
        Verdict {
            out_of_memory: happened(&self.memory, kills, "oom_kill"),
            out_of_processes: happened(&self.processes, "pids.events", "max"),
        }
    }

    /// Kills all that is still in there.
    pub(crate) fn kill(&self) {
        self.folders.iter().for_each(|folder| kill(folder));
    }

    /// Once nobody is in there. `ResourceBusy`: somebody is, be it one that has ended this very moment.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.folders.iter().try_for_each(|folder| remove(folder))
    }
}

/// Kills all that is in a group.
pub(super) fn kill(folder: &Path) {
    // Version 2, and Linux 5.14: all at once, also those that are being made.
    if folder.join("cgroup.kill").exists() && write(folder, "cgroup.kill", 1).is_ok() {
        return;
    }
    let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let pids = members.lines().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?));
    for pid in pids {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Without swap: a task that is to be killed at its limit is not to be slow instead.
fn set_memory(folder: Option<&Path>, bytes: Option<u64>, unified: bool) -> io::Result<()> {
    let (Some(folder), Some(bytes)) = (folder, bytes) else { return Ok(()) };
    if unified {
        write(folder, "memory.max", bytes)?;
        if folder.join("memory.swap.max").exists() {
            write(folder, "memory.swap.max", 0)?;
        }
        // Whoever it is that needs too much: the attempt has ended, not a part of it.
        if folder.join("memory.oom.group").exists() {
            write(folder, "memory.oom.group", 1)?;
        }
        return Ok(());
    }
    write(folder, "memory.limit_in_bytes", bytes)?;
    if folder.join("memory.memsw.limit_in_bytes").exists() {
        write(folder, "memory.memsw.limit_in_bytes", bytes)?;
    }
    Ok(())
}

fn set_cpu(folder: Option<&Path>, milli: Option<u32>, unified: bool) -> io::Result<()> {
    let (Some(folder), Some(milli)) = (folder, milli) else { return Ok(()) };
    let quota_us = u64::from(milli) * PERIOD_US / 1_000;
    if unified {
        return write(folder, "cpu.max", format!("{quota_us} {PERIOD_US}"));
    }
    write(folder, "cpu.cfs_period_us", PERIOD_US)?;
    write(folder, "cpu.cfs_quota_us", quota_us)
}

fn set_processes(folder: Option<&Path>, processes: Option<u32>) -> io::Result<()> {
    let (Some(folder), Some(processes)) = (folder, processes) else { return Ok(()) };
    write(folder, "pids.max", processes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_one_folder() {
        let base = tempfile::tempdir().expect("a folder");
        let place = Some(base.path().to_owned());
        let places = Places { memory: place.clone(), cpu: place.clone(), processes: place, unified: true };
        let limits = Limits { memory_bytes: Some(64 << 20), cpu_milli: Some(1_500), processes: Some(20) };
        let group = Group::make(&places, "taskq-1", limits).expect("made");
        let file = |name: &str| base.path().join("taskq-1").join(name);
        let read = |name: &str| fs::read_to_string(file(name)).expect("written");
        assert_eq!(
            (read("memory.max"), read("cpu.max"), read("pids.max")),
            ("67108864".to_owned(), "150000 100000".to_owned(), "20".to_owned())
        );
        fs::write(file("cgroup.procs"), "").expect("written");
        assert_eq!(group.doors().expect("it is there").len(), 1);
        assert_eq!(group.verdict(), Verdict::default());
        fs::write(file("memory.events"), "low 0\noom 1\noom_kill 2\noom_group_kill 1\n").expect("written");
        fs::write(file("pids.events"), "max 3\n").expect("written");
        assert_eq!(group.verdict(), Verdict { out_of_memory: true, out_of_processes: true });
        fs::write(file("cgroup.kill"), "").expect("written");
        group.kill();
        assert_eq!(read("cgroup.kill"), "1");
        assert!(group.remove().is_err(), "somebody is in there, as far as one can see");
    }

    #[test]
    fn what_cannot_be_limited_is_an_error_and_leaves_nothing() {
        let base = tempfile::tempdir().expect("a folder");
        let places = Places { memory: Some(base.path().to_owned()), ..Places::default() };
        let limits = Limits { memory_bytes: Some(1 << 30), processes: Some(1), ..Limits::default() };
        let refused = Group::make(&places, "taskq-1", limits).expect_err("nobody limits processes");
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
        assert_eq!(fs::read_dir(base.path()).expect("a folder").count(), 0);
    }
}
