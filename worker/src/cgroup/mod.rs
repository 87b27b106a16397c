//! Limits that the kernel keeps for one attempt and all that it starts: memory, processor time, processes. Each attempt
//! that has any runs in control groups of its own, below the worker's.
//!
//! | file | who uses it | what |
//! |---|---|---|
//! | `find.rs` | worker, at its start | where groups can be made, and for what: tried, not guessed |
//! | `group.rs` | spawner | the groups of one attempt: made, entered, asked what happened, removed |
//! | `sweep.rs` | worker, at its start | groups of spawners that are gone |
//!
//! Both versions are served. Of version 2 one folder holds everything; of version 1 each controller has its own tree.
//! Attempts without limits have no group, and pay nothing.

mod find;
mod group;
mod sweep;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use find::find;
pub(crate) use group::{Group, name};
pub(crate) use sweep::{sweep, sweep_again};

/// What one attempt may use. None: as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core.
    pub cpu_milli: Option<u32>,
    /// At once; threads count.
    pub processes: Option<u32>,
}

/// Where groups are made, by what they limit. None: the kernel does not let this worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub memory: Option<PathBuf>,
    pub cpu: Option<PathBuf>,
    pub processes: Option<PathBuf>,
    /// Version 2: the three are one folder, or none.
    pub unified: bool,
}

impl Places {
    /// Each folder once.
    fn folders(&self) -> Vec<&Path> {
        let mut folders: Vec<&Path> =
            [&self.memory, &self.cpu, &self.processes].into_iter().flatten().map(PathBuf::as_path).collect();
        folders.dedup();
        folders
    }

    /// In words, for the log.
    pub(crate) fn kept(&self) -> String {
        let named = [(&self.memory, "memory"), (&self.cpu, "cpu"), (&self.processes, "processes")];
        let kept: Vec<&str> =
            named.into_iter().filter(|(place, _)| place.is_some()).map(|(_, name)| name).collect();
        if kept.is_empty() { "none".to_owned() } else { kept.join(", ") }
    }
}

fn write(folder: &Path, file: &str, value: impl ToString) -> io::Result<()> {
    fs::write(folder.join(file), value.to_string())
}

/// The number behind a name in a file of lines such as `oom_kill 3`.
fn count(folder: &Path, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(folder.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
}
