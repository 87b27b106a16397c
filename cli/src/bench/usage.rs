//! What processes have used so far: CPU and memory as /proc tells, and what a folder takes on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

/// The unit of times in /proc/PID/stat (USER_HZ): a hundredth of a second on every Linux that we run on.
const TICK: Duration = Duration::from_millis(10);

/// One of something for each part of the system.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Parts<T> {
    /// Separate processes; all workers together, each with its spawner and its tasks.
    Apart { coordinator: T, worker: T, client: T },
    /// All in one process, with its spawner and its tasks.
    Together { process: T },
}

impl<T> Parts<T> {
    /// The same with each changed.
    pub(super) fn map<U>(&self, change: impl Fn(&T) -> U) -> Parts<U> {
        match self {
            Parts::Apart { coordinator, worker, client } => Parts::Apart {
                coordinator: change(coordinator),
                worker: change(worker),
                client: change(client),
            },
            Parts::Together { process } => Parts::Together { process: change(process) },
        }
    }

    /// Coordinator, worker, client; or the one.
    pub(super) fn all(&self) -> Vec<&T> {
        match self {
            Parts::Apart { coordinator, worker, client } => vec![coordinator, worker, client],
            Parts::Together { process } => vec![process],
        }
    }

    /// Both at once; they are of the same stage.
    pub(super) fn zip<U: Copy, V>(&self, other: &Parts<U>, join: impl Fn(&T, U) -> V) -> Parts<V> {
        match (self, other) {
            (
                Parts::Apart { coordinator, worker, client },
                Parts::Apart { coordinator: c, worker: w, client: l },
            ) => Parts::Apart {
                coordinator: join(coordinator, *c),
                worker: join(worker, *w),
                client: join(client, *l),
            },
            (Parts::Together { process }, Parts::Together { process: other }) => {
                Parts::Together { process: join(process, *other) }
            }
            (Parts::Apart { .. }, Parts::Together { .. }) | (Parts::Together { .. }, Parts::Apart { .. }) => {
                unreachable!("one stage is one or the other")
            }
        }
    }
}

/// Where a process and what it has started count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It, and its children that have ended.
    Alone,
    /// All that lives below it as well.
    Tree,
}

/// CPU that a process has used.
pub(super) fn cpu(pid: u32, reach: Reach) -> Result<Duration> {
    let mut used = stat(pid)?.cpu;
    if reach == Reach::Tree {
        for process in below(pid)? {
            used += process.cpu;
        }
    }
    Ok(used)
}

/// The most memory that a process has had resident; with `Tree`, and its direct children: the spawner, but not tasks.
pub(super) fn peak(pid: u32, reach: Reach) -> Result<u64> {
    let mut bytes = high_water(pid)?;
    if reach == Reach::Tree {
        for child in children(pid)? {
            // One that has just ended uses nothing.
            bytes += high_water(child).unwrap_or(0);
        }
    }
    Ok(bytes)
}

/// Who was started by a process and lives.
pub(super) fn children(pid: u32) -> Result<Vec<u32>> {
    Ok(below(pid)?.iter().filter(|process| process.parent == pid).map(|child| child.pid).collect())
}

/// The most memory of this very process can be forgotten, so that each trial has its own.
#[derive(Debug)]
pub(super) struct OwnPeak(Option<File>);

impl OwnPeak {
    /// To be called before this process hides its memory from others: later it may not open the file itself.
    pub(super) fn open() -> OwnPeak {
        // A kernel without it lets the figure grow from trial to trial, as it is said in the manual.
        OwnPeak(OpenOptions::new().write(true).open("/proc/self/clear_refs").ok())
    }

    /// From here on only what is resident now counts.
    pub(super) fn forget(&mut self) {
        if let Some(file) = &mut self.0
            && file.write_all(b"5").is_err()
        {
            self.0 = None;
        }
    }
}

/// Bytes that a folder takes on its disk.
pub(super) fn disk(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => bytes += disk(&path)?,
            // In units of 512 bytes, whatever the disk's own are.
            Ok(metadata) => bytes += metadata.blocks() * 512,
            // Removed between two looks.
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(bytes)
}

/// A line of /proc/PID/stat, as far as it is of interest.
struct Stat {
    pid: u32,
    parent: u32,
    /// With that of its children that have ended and were waited for.
    cpu: Duration,
}

fn stat(pid: u32) -> Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path)?;
    parse(pid, &text).ok_or_else(|| Error::new(ErrorKind::InvalidData, format!("{path} has no such form")))
}

fn parse(pid: u32, text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything; what follows it does not.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let mut ticks: u32 = 0;
    for field in fields.get(11..15)? {
        ticks = ticks.checked_add(field.parse().ok()?)?;
    }
    Some(Stat { pid, parent: fields.get(1)?.parse().ok()?, cpu: TICK * ticks })
}

/// All that live below a process.
fn below(root: u32) -> Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has just ended is counted by its parent.
        all.extend(stat(pid).ok());
    }
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(above) = parents.pop() {
        let (children, others): (Vec<Stat>, Vec<Stat>) =
            all.into_iter().partition(|process| process.parent == above);
        parents.extend(children.iter().map(|child| child.pid));
        found.extend(children);
        all = others;
    }
    Ok(found)
}

fn high_water(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib << 10)
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, format!("{path} does not say VmHWM")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_are_no_obstacle() {
        let line = "7 (a) b) S 3 7 7 0 -1 4194560 1 2 3 4 11 22 33 44 20 0 1 0 5 6 7";
        let stat = parse(7, line).expect("a line of stat");
        assert_eq!((stat.parent, stat.cpu), (3, Duration::from_millis(1_100)));
        assert!(parse(7, "7 (a) S 3 7").is_none());
    }

    #[test]
    fn this_process_has_used_something() {
        let me = std::process::id();
        assert!(peak(me, Reach::Alone).expect("VmHWM") > 100_000);
        cpu(me, Reach::Tree).expect("its stat");
        let parent = stat(me).expect("its stat").parent;
        assert!(below(parent).expect("/proc").iter().any(|process| process.pid == me));
    }
}
