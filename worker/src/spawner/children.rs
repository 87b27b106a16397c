//! Who belongs to which attempt, and who must go.
//!
//! An attempt's main process leads its own process group. What it starts is below it, or, once its parent has died, a
//! *stray*: a child of the spawner that nobody waits for. A stray belongs to the attempt whose group it is in, or
//! whose tree it was seen in, or whose `TASKQ_*` environment it has. One that hides all that (`env -i setsid`, forked
//! twice) is let live for as long as some attempt runs that can have started it.
//!
//! An attempt has ended when its main process has, and no stray of it is left.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use rustix::event::Timespec;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::proc::{self, Identity, OwnChildren};
use super::wire::Exited;
use crate::cgroup::Group;
use crate::sys;

/// Entries that only tasks have, and that tell one attempt from another. A child that serves calls has one of its own.
const MARKS: [&[u8]; 4] = [b"TASKQ_JOB=", b"TASKQ_TASK=", b"TASKQ_ATTEMPT=", b"TASKQ_CHILD_ID="];

/// The kernel may see a process in its group for a moment after it is gone.
const REMOVE_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// How often that is tried at the end, where the next worker would sweep what is left.
const LAST_TRIES: u32 = 100;

pub(super) struct Children {
    all: OwnChildren,
    /// By the number of the main process, which has not been reaped.
    running: HashMap<i32, Attempt>,
    /// Main process reaped, strays not all gone.
    sweeping: Vec<(Attempt, Exited)>,
    /// Where the main process of a running attempt is.
    pids: HashMap<u64, i32>,
    /// Groups of attempts that are over, in which the kernel still sees somebody.
    groups: Vec<Group>,
}

struct Attempt {
    id: u64,
    pid: i32,
    started: Instant,
    /// Boot-time ticks, looked up when first needed: most tasks leave nothing behind.
    start: Option<u64>,
    marks: Vec<Vec<u8>>,
    /// Seen below the main process when it was told to end.
    seen: HashSet<Identity>,
    was_killed: bool,
    fenced: bool,
    group: Option<Group>,
}

impl Children {
    pub(super) fn new() -> Children {
        Children {
            all: OwnChildren::open(),
            running: HashMap::new(),
            sweeping: Vec::new(),
            pids: HashMap::new(),
            groups: Vec::new(),
        }
    }

    /// `started` is just before the process was made: what it takes to make one is a part of its time.
    pub(super) fn add(&mut self, id: u64, pid: i32, started: Instant, env: &[Vec<u8>], group: Option<Group>) {
        let marks =
            env.iter().filter(|entry| MARKS.iter().any(|mark| entry.starts_with(mark))).cloned().collect();
        let seen = HashSet::new();
        self.running.insert(
            pid,
            Attempt { id, pid, started, start: None, marks, seen, was_killed: false, fenced: false, group },
        );
        self.pids.insert(id, pid);
    }

    /// Sends a signal to an attempt's whole tree. One that has ended is being swept anyway.
    pub(super) fn kill(&mut self, id: u64, signal: i32) {
        let Some(signal) = Signal::from_named_raw(signal) else { return };
        let Some(pid) = self.pids.get(&id) else { return };
        let strays = self.strays();
        let Some(attempt) = self.running.get_mut(pid) else { return };
        attempt.was_killed = true;
        let mut tree = proc::tree(*pid);
        for stray in strays {
            if attempt.owns(stray) {
                tree.extend(proc::tree(stray));
            }
        }
        attempt.seen.extend(tree.iter().copied());
        kill_group(*pid, signal);
        for member in tree {
            // The group has been told; a second TERM could cut short what the first one began.
            if member.pid != *pid && group(member.pid) != Some(*pid) {
                proc::signal(member, signal);
            }
        }
    }

    /// Kills all attempts: from now on somebody else may run them.
    pub(super) fn fence(&mut self) {
        for attempt in self.running.values_mut() {
            attempt.fenced = true;
        }
        for id in self.pids.keys().copied().collect::<Vec<_>>() {
            self.kill(id, libc::SIGKILL);
        }
    }

    /// Takes leave of all children that have ended, and returns the attempts that are over.
    pub(super) fn reap(&mut self) -> Vec<Exited> {
        while let Some(pid) = sys::peek_ended() {
            let Some(attempt) = self.running.remove(&pid) else {
                sys::reap(pid);
                continue;
            };
            let wall = attempt.started.elapsed();
            // Before it is reaped: from then on its number may lead another group.
            kill_group(pid, Signal::KILL);
            let ended = sys::reap(pid);
            self.pids.remove(&attempt.id);
            let exited = Exited {
                id: attempt.id,
                status: ended.status,
                wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
                user_us: ended.user_us,
                system_us: ended.system_us,
                peak_rss_bytes: ended.peak_rss_bytes,
                was_killed: attempt.was_killed,
                fenced: attempt.fenced,
                out_of_memory: false,
                out_of_processes: false,
            };
            self.sweeping.push((attempt, exited));
        }
        self.sweep()
    }

    /// Kills what ended attempts left behind; those that left nothing are over.
    fn sweep(&mut self) -> Vec<Exited> {
        let strays = self.strays();
        if strays.is_empty() {
            let over = std::mem::take(&mut self.sweeping);
            return self.close(over);
        }
        let mut dirty = HashSet::new();
        for stray in strays {
            if self.running.values().any(|attempt| attempt.owns(stray)) {
                continue;
            }
            if let Some((owner, _)) = self.sweeping.iter().find(|(attempt, _)| attempt.owns(stray)) {
                dirty.insert(owner.id);
            } else if self.somebody_running_may_have_started(stray) {
                continue;
            } else {
                // Whose it was is unknown, so all that may have been its owner wait for it.
                dirty.extend(self.sweeping.iter().map(|(attempt, _)| attempt.id));
            }
            kill_child(stray);
        }
        let (left, over) =
            std::mem::take(&mut self.sweeping).into_iter().partition(|(a, _)| dirty.contains(&a.id));
        self.sweeping = left;
        self.close(over)
    }

    /// Attempts of which nothing is left: what became of their limits is known now.
    fn close(&mut self, over: Vec<(Attempt, Exited)>) -> Vec<Exited> {
        let mut ends = Vec::with_capacity(over.len());
        for (mut attempt, mut exited) in over {
            if let Some(group) = attempt.group.take() {
                let verdict = group.verdict();
                exited.out_of_memory = verdict.out_of_memory;
                exited.out_of_processes = verdict.out_of_processes;
                self.remove_group(Some(group));
            }
            ends.push(exited);
        }
        ends
    }

    /// At once, or as soon as the kernel lets it go.
    pub(super) fn remove_group(&mut self, group: Option<Group>) {
        self.groups.extend(group.filter(|group| group.remove().is_err()));
    }

    /// Tries again what could not be removed.
    pub(super) fn remove_groups(&mut self) {
        self.groups.retain(|group| {
            group.kill();
            group.remove().is_err()
        });
    }

    /// Until when to try again.
    pub(super) fn pause(&self) -> Option<Timespec> {
        (!self.groups.is_empty()).then_some(REMOVE_AGAIN)
    }

    fn somebody_running_may_have_started(&mut self, stray: i32) -> bool {
        let Some(stray) = proc::stat(stray) else { return false };
        self.running.values_mut().any(|attempt| {
            let start = *attempt.start.get_or_insert_with(|| proc::stat(attempt.pid).map_or(0, |s| s.start));
            start <= stray.start
        })
    }

    /// Children that are not the main process of an attempt.
    fn strays(&self) -> Vec<i32> {
        let mut all = self.all.list();
        all.retain(|pid| !self.running.contains_key(pid));
        all
    }

    /// Kills every descendant; returns when none is left. `wait` returns when a child may have ended.
    pub(super) fn kill_everyone(&mut self, wait: impl Fn()) {
        loop {
            while let Some(pid) = sys::peek_ended() {
                if let Some(attempt) = self.running.remove(&pid) {
                    kill_group(pid, Signal::KILL);
                    self.groups.extend(attempt.group);
                }
                sys::reap(pid);
            }
            let left = self.all.list();
            if left.is_empty() && self.running.is_empty() {
                self.remove_all_groups();
                return;
            }
            for pid in self.running.keys() {
                kill_group(*pid, Signal::KILL);
            }
            left.into_iter().for_each(kill_child);
            wait();
        }
    }
}

impl Children {
    /// Nobody lives any more, but the kernel may take a moment to see that.
    fn remove_all_groups(&mut self) {
        self.groups.extend(self.sweeping.drain(..).filter_map(|(attempt, _)| attempt.group));
        for _ in 0..LAST_TRIES {
            self.remove_groups();
            if self.groups.is_empty() {
                return;
            }
            // An error is an early end of the pause.
            let _ = rustix::event::poll(&mut [], Some(&REMOVE_AGAIN));
        }
    }
}

impl Attempt {
    fn owns(&self, stray: i32) -> bool {
        let Some(stat) = proc::stat(stray) else { return false };
        stat.group == self.pid
            || self.seen.contains(&Identity { pid: stray, start: stat.start })
            || (!self.marks.is_empty() && proc::has_env(stray, &self.marks))
    }
}

/// Only for main processes that have not been reaped: nobody else can lead a group of that number.
fn kill_group(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process_group(pid, signal);
    }
}

/// Only for children that have not been reaped: nobody else can have that number.
fn kill_child(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn group(pid: i32) -> Option<i32> {
    proc::stat(pid).map(|stat| stat.group)
}
