//! Where the kernel lets this worker make control groups: below its own, and only if one could really be made, given its
//! limits, and removed.
//!
//! Version 2 allows no processes beside groups that have controllers. So the worker steps down into a group [`OWN`] first
//! and hands the controllers on to its neighbours; where others are in the worker's group too (a shell, say), or it is
//! not the worker's to change, it steps back and keeps no limits.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::group::{self, Group};
use super::{Limits, Places, write};

/// The group that the worker itself, its spawner, and others of its kind are in under version 2.
const OWN: &str = "taskq-main";
/// What is tried: any limits that a group of no processes has room for.
const TRIAL: Limits = Limits { memory_bytes: Some(1 << 30), cpu_milli: Some(1_000), processes: Some(1_000) };

/// Looks, and tries.
pub(crate) fn find() -> Places {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (mounts, own) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
    let places = candidates(&mounts, &own);
    let unified = places.unified.as_deref().and_then(|folder| step_down(folder).ok());
    match unified {
        Some(places) => tried(places),
        None => tried(places.separate),
    }
}

/// What the kernel's tables name, not yet tried.
#[derive(Debug, Default, PartialEq, Eq)]
struct Candidates {
    separate: Places,
    /// Of version 2: the worker's own group.
    unified: Option<PathBuf>,
}

fn candidates(mounts: &str, own: &str) -> Candidates {
    let place = |controller: &str| folder(mounts, own, controller);
    let separate =
        Places { memory: place("memory"), cpu: place("cpu"), processes: place("pids"), unified: false };
    Candidates { separate, unified: folder(mounts, own, "") }
}

/// This process's group in the tree of a controller of version 1, or, without a name, of version 2.
fn folder(mounts: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    })?;
    let (root, mount) = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let (left, right): (Vec<&str>, Vec<&str>) = (left.split(' ').collect(), right.split(' ').collect());
        let (kind, options) = (*right.first()?, *right.get(2)?);
        let is_it = match controller {
            "" => kind == "cgroup2",
            name => kind == "cgroup" && options.split(',').any(|option| option == name),
        };
        is_it.then_some((*left.get(3)?, *left.get(4)?))
    })?;
    // In a container the mount may begin further down than what the kernel names.
    let below = Path::new(path).strip_prefix(root).ok()?;
    Some(Path::new(mount).join(below))
}

/// Of version 2: makes room beside the worker, and says what its neighbours can be given.
fn step_down(folder: &Path) -> io::Result<Places> {
    let above = if folder.ends_with(OWN) { folder.parent().unwrap_or(folder) } else { folder };
    let available = fs::read_to_string(above.join("cgroup.controllers"))?;
    let offered = |name: &str| available.split_whitespace().any(|controller| controller == name);
    let wanted: Vec<&str> = ["memory", "cpu", "pids"].into_iter().filter(|name| offered(name)).collect();
    if wanted.is_empty() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    if above == folder {
        let inner = folder.join(OWN);
        let made = fs::create_dir(&inner);
        if let Err(error) = made
            .or_else(already_there)
            .and_then(|()| write(&inner, "cgroup.procs", std::process::id()))
            .and_then(|()| hand_on(above, &wanted))
        {
            // As it was: what is not ours to change is left alone.
            let _ = write(folder, "cgroup.procs", std::process::id());
            let _ = fs::remove_dir(&inner);
            return Err(error);
        }
    } else {
        hand_on(above, &wanted)?;
    }
    let place = |name| wanted.contains(&name).then(|| above.to_owned());
    Ok(Places { memory: place("memory"), cpu: place("cpu"), processes: place("pids"), unified: true })
}

fn hand_on(folder: &Path, controllers: &[&str]) -> io::Result<()> {
    let all: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    write(folder, "cgroup.subtree_control", all.join(" "))
}

fn already_there(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

/// What remains of them when a group is made in each.
fn tried(places: Places) -> Places {
    let only = |memory: bool, cpu: bool, processes: bool| {
        let place = |wanted: bool, place: &Option<PathBuf>| place.clone().filter(|_| wanted);
        let one = Places {
            memory: place(memory, &places.memory),
            cpu: place(cpu, &places.cpu),
            processes: place(processes, &places.processes),
            unified: places.unified,
        };
        let limits = Limits {
            memory_bytes: TRIAL.memory_bytes.filter(|_| memory),
            cpu_milli: TRIAL.cpu_milli.filter(|_| cpu),
            processes: TRIAL.processes.filter(|_| processes),
        };
        let name = group::name(std::process::id().cast_signed(), 0);
        let works = Group::make(&one, &name, limits).and_then(|group| group.remove());
        if works.is_ok() { one } else { Places::default() }
    };
    Places {
        memory: only(true, false, false).memory,
        cpu: only(false, true, false).cpu,
        processes: only(false, false, true).processes,
        unified: places.unified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEPARATE: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_tables_of_version_1_are_read() {
        let own = "9:pids:/jobs\n4:memory:/docker/abc/worker\n3:cpu,cpuacct:/jobs\n0::/\n";
        let found = candidates(SEPARATE, own);
        assert_eq!(found.separate.memory, Some("/sys/fs/cgroup/memory/worker".into()));
        assert_eq!(found.separate.cpu, Some("/sys/fs/cgroup/cpu,cpuacct/jobs".into()));
        assert_eq!(found.separate.processes, None, "it is mounted nowhere");
        assert_eq!(found.unified, Some("/sys/fs/cgroup/unified/".into()));
        let elsewhere = "4:memory:/docker/other\n";
        assert_eq!(candidates(SEPARATE, elsewhere), Candidates::default(), "not to be seen from here");
    }

    #[test]
    fn a_group_that_is_the_workers_is_divided() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").expect("written");
        let places = step_down(folder.path()).expect("it may");
        let here = Some(folder.path().to_owned());
        let all = Places { memory: here.clone(), cpu: here.clone(), processes: here, unified: true };
        assert_eq!(places, all);
        let read = |file| fs::read_to_string(folder.path().join(file)).expect("written");
        assert_eq!(read("cgroup.subtree_control"), "+memory +cpu +pids");
        assert_eq!(read("taskq-main/cgroup.procs"), std::process::id().to_string());
        assert_eq!(step_down(&folder.path().join(OWN)).expect("the next one comes"), all);
    }

    #[test]
    fn a_group_without_controllers_is_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("cgroup.controllers"), "\n").expect("written");
        step_down(folder.path()).expect_err("there is nothing to hand on");
        assert!(!folder.path().join(OWN).exists());
        fs::write(folder.path().join("cgroup.controllers"), "memory\n").expect("written");
        // As a kernel refuses it while others are in the group.
        fs::create_dir(folder.path().join("cgroup.subtree_control")).expect("made");
        step_down(folder.path()).expect_err("it may not");
        let back = fs::read_to_string(folder.path().join("cgroup.procs")).expect("it stepped back");
        assert_eq!(back, std::process::id().to_string());
    }
}
