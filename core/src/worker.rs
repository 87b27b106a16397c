//! One worker process as the scheduler sees it: what it offers, what it holds, what is free.
//!
//! What it holds is *executing* (occupies slots and resources) or *waiting* (sent ahead, so that no slot idles for a
//! round trip). Both sides keep the same rule: waiting tasks start in the order (priority descending, job, index), and
//! none starts before the first of them fits.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{
    event::WorkerHello,
    id::{Lease, SessionId, TaskId, Timestamp},
    job::Shape,
};

/// Work sent ahead for each slot.
const AHEAD_US: u64 = 50_000;
/// Tasks that take longer on average are never sent ahead.
const AHEAD_MAX_US: u64 = 1_000_000;
/// Accepted ends that are remembered, to tell a repeat from a stale report.
const ACCEPTED: usize = 256;

/// A worker that is connected, or was less than a lease ago.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) hello: WorkerHello,
    pub(crate) link: Link,
    /// Its latest session, be it up or not.
    pub(crate) newest: SessionId,
    /// When it was last heard.
    pub(crate) heard: Timestamp,
    /// Its entry among the deadlines.
    pub(crate) alarm: Timestamp,
    /// Its entry in the index of workers with room.
    pub(crate) room: Option<i64>,
    pub(crate) draining: bool,
    free_slots: i64,
    free_named: BTreeMap<Arc<str>, i64>,
    tasks: BTreeMap<TaskId, Place>,
    waiting: BTreeMap<(Reverse<i32>, TaskId), Waiting>,
    backlog_us: BTreeMap<Reverse<i32>, u64>,
    accepted: VecDeque<Lease>,
    accepted_set: BTreeSet<Lease>,
}

/// The connection of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Its session.
    Up(SessionId),
    /// Lost; its lease is not over.
    Suspect,
}

#[derive(Debug)]
struct Place {
    priority: i32,
    executing: Option<Arc<Shape>>,
}

#[derive(Debug)]
struct Waiting {
    shape: Arc<Shape>,
    expected_us: u64,
}

impl Worker {
    pub(crate) fn new(hello: WorkerHello, link: Link, heard: Timestamp) -> Worker {
        let free_slots = i64::from(hello.slots);
        let free_named = hello
            .named
            .iter()
            .map(|(name, n)| (name.clone(), i64::try_from(*n).unwrap_or(i64::MAX)))
            .collect();
        let draining = hello.draining;
        Worker {
            hello,
            link,
            newest: SessionId(0),
            heard,
            alarm: heard,
            room: None,
            draining,
            free_slots,
            free_named,
            tasks: BTreeMap::new(),
            waiting: BTreeMap::new(),
            backlog_us: BTreeMap::new(),
            accepted: VecDeque::new(),
            accepted_set: BTreeSet::new(),
        }
    }

    pub(crate) fn session(&self) -> Option<SessionId> {
        match self.link {
            Link::Up(session) => Some(session),
            Link::Suspect => None,
        }
    }

    /// It is connected and takes new tasks.
    pub(crate) fn is_taking(&self) -> bool {
        matches!(self.link, Link::Up(_)) && !self.draining
    }

    /// It may be given more.
    pub(crate) fn has_room(&self) -> bool {
        self.is_taking() && self.tasks.len() < self.hello.window as usize
    }

    pub(crate) fn free_slots(&self) -> i64 {
        self.free_slots
    }

    pub(crate) fn tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.tasks.keys().copied()
    }

    pub(crate) fn held(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn executes(&self, task: TaskId) -> bool {
        self.tasks.get(&task).is_some_and(|place| place.executing.is_some())
    }

    /// It has the labels and, were it empty, the room.
    pub(crate) fn could_run(&self, shape: &Shape) -> bool {
        shape.slots <= self.hello.slots
            && shape.labels.iter().all(|(key, value)| self.hello.labels.get(key) == Some(value))
            && shape.named.iter().all(|(key, n)| self.hello.named.get(key).copied().unwrap_or(0) >= *n)
    }

    /// How many of this shape fit beside what executes.
    pub(crate) fn free_for(&self, shape: &Shape) -> u32 {
        let mut many = self.free_slots / i64::from(shape.slots.max(1));
        for (key, need) in shape.named.iter().filter(|(_, need)| **need > 0) {
            let free = self.free_named.get(key).copied().unwrap_or(0);
            many = many.min(free / i64::try_from(*need).unwrap_or(i64::MAX));
        }
        u32::try_from(many.max(0)).unwrap_or(u32::MAX)
    }

    /// How many more it may hold.
    pub(crate) fn window_left(&self) -> u32 {
        self.hello.window.saturating_sub(u32::try_from(self.tasks.len()).unwrap_or(u32::MAX))
    }

    /// Whether a task would start before everything that waits.
    pub(crate) fn goes_first(&self, priority: i32, task: TaskId) -> bool {
        self.waiting.first_key_value().is_none_or(|(first, _)| (Reverse(priority), task) < *first)
    }

    /// How many tasks that take `average_us` may be sent ahead. What waits with a lower priority does not count:
    /// it will start later.
    pub(crate) fn ahead(&self, priority: i32, average_us: Option<u64>) -> u32 {
        let Some(average) = average_us.filter(|average| *average <= AHEAD_MAX_US) else { return 0 };
        let backlog: u64 = self.backlog_us.range(..=Reverse(priority)).map(|(_, us)| *us).sum();
        let target = AHEAD_US * u64::from(self.hello.slots);
        u32::try_from(target.saturating_sub(backlog) / average.max(1)).unwrap_or(u32::MAX)
    }

    /// Takes a task in, and starts what fits.
    pub(crate) fn place(&mut self, task: TaskId, priority: i32, shape: Arc<Shape>, average_us: Option<u64>) {
        let expected_us = average_us.unwrap_or(0);
        self.tasks.insert(task, Place { priority, executing: None });
        self.waiting.insert((Reverse(priority), task), Waiting { shape, expected_us });
        *self.backlog_us.entry(Reverse(priority)).or_default() += expected_us;
        self.promote();
    }

    /// Lets a task go, and starts what then fits.
    pub(crate) fn leave(&mut self, task: TaskId) {
        let place = self.tasks.remove(&task).expect("a task leaves the worker that holds it");
        match place.executing {
            Some(shape) => self.occupy(&shape, -1),
            None => self.unqueue(place.priority, task),
        }
        self.promote();
    }

    fn promote(&mut self) {
        while let Some((&(Reverse(priority), task), waiting)) = self.waiting.first_key_value() {
            if self.free_for(&waiting.shape) == 0 {
                return;
            }
            let shape = waiting.shape.clone();
            self.unqueue(priority, task);
            self.occupy(&shape, 1);
            self.tasks.insert(task, Place { priority, executing: Some(shape) });
        }
    }

    fn unqueue(&mut self, priority: i32, task: TaskId) {
        let Some(waiting) = self.waiting.remove(&(Reverse(priority), task)) else { return };
        let us = self.backlog_us.entry(Reverse(priority)).or_default();
        *us = us.saturating_sub(waiting.expected_us);
        if *us == 0 {
            self.backlog_us.remove(&Reverse(priority));
        }
    }

    fn occupy(&mut self, shape: &Shape, sign: i64) {
        self.free_slots -= sign * i64::from(shape.slots);
        for (key, need) in &shape.named {
            let need = i64::try_from(*need).unwrap_or(i64::MAX);
            let free = self.free_named.entry(key.clone()).or_default();
            *free = free.saturating_sub(sign.saturating_mul(need));
        }
    }

    /// Remembers that the end of this lease was accepted.
    pub(crate) fn accept(&mut self, lease: Lease) {
        self.accepted.push_back(lease);
        self.accepted_set.insert(lease);
        if self.accepted.len() > ACCEPTED
            && let Some(oldest) = self.accepted.pop_front()
        {
            self.accepted_set.remove(&oldest);
        }
    }

    /// What a former connection of the same process leaves behind.
    pub(crate) fn inherit(&mut self, former: Worker) {
        self.draining |= former.draining;
        self.accepted = former.accepted;
        self.accepted_set = former.accepted_set;
    }

    pub(crate) fn has_accepted(&self, lease: &Lease) -> bool {
        self.accepted_set.contains(lease)
    }

    /// Whether what is free contradicts what executes; for checks.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let executing = self.tasks.values().filter_map(|place| place.executing.as_ref());
        let used: i64 = executing.map(|shape| i64::from(shape.slots)).sum();
        if self.free_slots != i64::from(self.hello.slots) - used {
            return Some("free slots differ from what executes");
        }
        if self.free_slots < 0 || self.free_named.values().any(|free| *free < 0) {
            return Some("more executes than the worker offers");
        }
        let waiting = self.tasks.values().filter(|place| place.executing.is_none()).count();
        if waiting != self.waiting.len() {
            return Some("the waiting order differs from the places");
        }
        None
    }
}
