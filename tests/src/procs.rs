//! Looking at processes from outside, through /proc.

use std::collections::HashSet;
use std::fs;

/// One process, told apart from a later one with the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Clock ticks from boot to its start.
    pub started: u64,
}

impl Process {
    /// True while it exists and is not a zombie.
    pub fn lives(self) -> bool {
        stat(self.pid).is_some_and(|(_, started, state)| started == self.started && state != 'Z')
    }

    /// Its scheduling state as in proc(5), such as 'T' for stopped; None once it is gone.
    pub fn state(self) -> Option<char> {
        stat(self.pid).filter(|(_, started, _)| *started == self.started).map(|(_, _, state)| state)
    }
}

/// The process with this number, if there is one.
pub fn find(pid: u32) -> Option<Process> {
    stat(pid).map(|(_, started, _)| Process { pid, started })
}

/// Every process below `root`, without `root` itself.
pub fn descendants(root: u32) -> HashSet<Process> {
    let all: Vec<(u32, u32, u64)> =
        pids().filter_map(|pid| stat(pid).map(|(parent, started, _)| (pid, parent, started))).collect();
    let mut found = HashSet::new();
    let mut parents = vec![root];
    while let Some(above) = parents.pop() {
        for &(pid, parent, started) in &all {
            if parent == above && found.insert(Process { pid, started }) {
                parents.push(pid);
            }
        }
    }
    found
}

/// Every process whose environment contains `NAME=value`: tasks of one test carry such a mark.
pub fn marked(name: &str, value: &str) -> Vec<Process> {
    let mark = format!("{name}={value}");
    pids()
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        })
        .filter_map(find)
        .filter(|process| process.lives())
        .collect()
}

/// Resident memory in bytes; None once the process is gone.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Bytes on disk below a folder.
pub fn disk_bytes(folder: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(|entry| entry.ok())
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("list /proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Parent, start time, state.
fn stat(pid: u32) -> Option<(u32, u64, char)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text[text.rfind(')')? + 2..].split(' ').collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?, fields.first()?.chars().next()?))
}
