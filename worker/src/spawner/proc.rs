//! What `/proc` says about processes: children, start time, process group, environment. Nothing is cached, and a process
//! that is gone is an absence, never an error. Without `/proc` everything is absent.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process and no other: a number is used again once its owner is gone, a start time is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub pid: i32,
    /// In clock ticks since boot.
    pub start: u64,
}

/// The parts of `/proc/PID/stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub parent: i32,
    pub group: i32,
    /// 0 where its leader is outside this process's namespace, as in some containers: `getsid` cannot say that.
    pub session: i32,
    pub start: u64,
    /// It is there only until its parent takes leave of it.
    pub has_ended: bool,
}

/// The children of this (single-threaded) process, read many times a second through one open file.
///
/// The list is exact: a child leaves it only when this process reaps it.
pub(crate) struct OwnChildren(Option<File>);

impl OwnChildren {
    pub(crate) fn open() -> OwnChildren {
        let me = std::process::id();
        OwnChildren(File::open(format!("/proc/{me}/task/{me}/children")).ok())
    }

    pub(crate) fn list(&self) -> Vec<i32> {
        let Some(file) = &self.0 else { return scan(std::process::id().cast_signed()) };
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = file.read_at(&mut buffer, text.len() as u64) {
            text.extend_from_slice(&buffer[..count]);
            // There was room for another number, so this was the last.
            if count + LONGEST_NUMBER < buffer.len() {
                break;
            }
        }
        numbers(&text).collect()
    }
}

/// A process id and a space.
const LONGEST_NUMBER: usize = 12;

/// Every child of any thread of `pid`.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs::read(thread.path().join("children")) {
            Ok(text) => found.extend(numbers(&text)),
            Err(_) if thread.path().join("stat").exists() => return scan(pid),
            Err(_) => {}
        }
    }
    found
}

/// `pid` and all below it, as far as they can be seen at this moment.
pub(crate) fn tree(pid: i32) -> Vec<Identity> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut todo = vec![pid];
    while let Some(pid) = todo.pop() {
        if seen.insert(pid)
            && let Some(stat) = stat(pid)
        {
            found.push(Identity { pid, start: stat.start });
            todo.extend(children(pid));
        }
    }
    found
}

pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself contain any of `) (`.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let has_ended = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let start = fields.nth(15)?.parse().ok()?;
    Some(Stat { parent, group, session, start, has_ended })
}

/// Whether the environment that `pid` was started with has all of these `NAME=value` entries.
pub(crate) fn has_env(pid: i32, marks: &[Vec<u8>]) -> bool {
    let Ok(env) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    marks.iter().all(|mark| env.split(|b| *b == 0).any(|entry| entry == mark))
}

/// Sends a signal to exactly this process, or to nobody.
pub(crate) fn signal(target: Identity, signal: Signal) {
    let Some(pid) = Pid::from_raw(target.pid) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if stat(target.pid).is_some_and(|now| now.start == target.start) {
        // It may end between the two lines; the handle makes sure that nobody else is hit.
        let _ = pidfd_send_signal(handle, signal);
    }
}

fn numbers(text: &[u8]) -> impl Iterator<Item = i32> + '_ {
    text.split(|b| !b.is_ascii_digit()).filter_map(|word| str::from_utf8(word).ok()?.parse().ok())
}

/// For kernels without the `children` files.
fn scan(parent: i32) -> Vec<i32> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|s| s.parent == parent))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::process::CommandExt;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_child_is_found_with_its_parent_and_group() {
        let mut child = std::process::Command::new("cat")
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()
            .expect("cat starts");
        let pid = child.id().cast_signed();
        let stat = stat(pid).expect("its stat");
        assert_eq!((stat.group, stat.parent), (pid, std::process::id().cast_signed()));
        assert!(stat.start > 0);
        drop(child.stdin.take());
        assert!(child.wait().expect("own child").success());
    }

    #[test]
    fn a_child_is_in_the_tree_and_carries_its_marks() {
        let mut child = std::process::Command::new("cat")
            .env("TASKQ_JOB", "7")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat starts");
        // It answers once its environment is in place.
        let (mut asked, mut answer) =
            (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        asked.write_all(b"?").expect("it reads");
        answer.read_exact(&mut [0]).expect("it answers");
        let pid = child.id().cast_signed();
        assert!(tree(std::process::id().cast_signed()).iter().any(|found| found.pid == pid));
        assert!(has_env(pid, &[b"TASKQ_JOB=7".to_vec()]));
        assert!(!has_env(pid, &[b"TASKQ_JOB=8".to_vec()]));
        let wrong = Identity { pid, start: stat(pid).expect("alive").start + 1 };
        signal(wrong, Signal::KILL);
        assert!(child.try_wait().expect("own child").is_none(), "another start time is another process");
        signal(Identity { start: wrong.start - 1, ..wrong }, Signal::KILL);
        child.wait().expect("own child");
    }
}
