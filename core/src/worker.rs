//! One worker process as the scheduler sees it: what it offers, what it holds, what is free.
//!
//! What it holds is *executing* (occupies slots and resources) or *waiting* (sent ahead, so that no slot idles for a
//! round trip). Both sides keep the same rule: for each kind of slots, waiting tasks start in the order (priority
//! descending, as they came), and none starts before the first of them fits.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use rustc_hash::FxHashSet;

use crate::{
    event::WorkerHello,
    id::{Lease, SessionId, TaskId, Timestamp},
    job::{Shape, SlotKind},
    slots::{Slots, Turn, Waiting, is_brief},
};

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
    pub(crate) room: Option<Free>,
    pub(crate) draining: bool,
    plain: Slots,
    r#async: Slots,
    free_named: BTreeMap<Arc<str>, i64>,
    tasks: BTreeMap<TaskId, Place>,
    accepted: VecDeque<Lease>,
    accepted_set: FxHashSet<Lease>,
}

/// Free slots, plain and async: workers with most go first.
pub(crate) type Free = (i64, i64);

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
    kind: SlotKind,
    turn: Turn,
    /// It was known to be short when it came.
    is_brief: bool,
    executing: Option<Arc<Shape>>,
}

impl Worker {
    pub(crate) fn new(hello: WorkerHello, link: Link, heard: Timestamp) -> Worker {
        let free_named = hello
            .named
            .iter()
            .map(|(name, n)| (name.clone(), i64::try_from(*n).unwrap_or(i64::MAX)))
            .collect();
        let draining = hello.draining;
        let plain = Slots::new(hello.slots, hello.busy);
        let r#async = Slots::new(hello.async_slots, hello.async_busy);
        Worker {
            hello,
            link,
            newest: SessionId(0),
            heard,
            alarm: heard,
            room: None,
            draining,
            plain,
            r#async,
            free_named,
            tasks: BTreeMap::new(),
            accepted: VecDeque::new(),
            accepted_set: FxHashSet::default(),
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

    pub(crate) fn free(&self) -> Free {
        (self.plain.free(), self.r#async.free())
    }

    /// Slots whose function goes on without a task.
    pub(crate) fn busy(&self) -> u32 {
        self.plain.busy().saturating_add(self.r#async.busy())
    }

    /// The worker says so. True if that is news.
    pub(crate) fn set_busy(&mut self, plain: u32, r#async: u32) -> bool {
        let news = self.plain.set_busy(plain) | self.r#async.set_busy(r#async);
        if news {
            self.promote();
        }
        news
    }

    /// What a task of this shape takes here; `None` if the worker does not run such tasks.
    pub(crate) fn slot_kind(&self, shape: &Shape) -> Option<SlotKind> {
        match &shape.function {
            None => self.hello.commands.then_some(SlotKind::Plain),
            Some(function) => self.hello.functions.get(function).map(|runtime| runtime.slot_kind()),
        }
    }

    /// Slots of this kind, were none of them taken.
    pub(crate) fn offers(&self, kind: SlotKind) -> u32 {
        self.slots(kind).offered()
    }

    fn slots(&self, kind: SlotKind) -> &Slots {
        match kind {
            SlotKind::Plain => &self.plain,
            SlotKind::Async => &self.r#async,
        }
    }

    fn slots_mut(&mut self, kind: SlotKind) -> &mut Slots {
        match kind {
            SlotKind::Plain => &mut self.plain,
            SlotKind::Async => &mut self.r#async,
        }
    }

    pub(crate) fn tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.tasks.keys().copied()
    }

    pub(crate) fn held(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.plain.waiting() + self.r#async.waiting()
    }

    pub(crate) fn executes(&self, task: TaskId) -> bool {
        self.tasks.get(&task).is_some_and(|place| place.executing.is_some())
    }

    /// It runs such tasks, can limit them, has the labels and, were it empty, the room.
    pub(crate) fn could_run(&self, shape: &Shape) -> bool {
        self.slot_kind(shape).is_some_and(|kind| shape.slots <= self.slots(kind).offered())
            && self.hello.limits.cover(shape.limits)
            && shape.labels.iter().all(|(key, value)| self.hello.labels.get(key) == Some(value))
            && shape.named.iter().all(|(key, n)| self.hello.named.get(key).copied().unwrap_or(0) >= *n)
    }

    /// How many of this shape fit beside what executes.
    pub(crate) fn free_for(&self, shape: &Shape) -> u32 {
        let Some(kind) = self.slot_kind(shape) else { return 0 };
        self.free_in(kind, shape)
    }

    fn free_in(&self, kind: SlotKind, shape: &Shape) -> u32 {
        let mut many = self.slots(kind).free() / i64::from(shape.slots.max(1));
        for (key, need) in shape.named.iter().filter(|(_, need)| **need > 0) {
            let free = self.free_named.get(key).copied().unwrap_or(0);
            many = many.min(free / i64::try_from(*need).unwrap_or(i64::MAX));
        }
        u32::try_from(many.max(0)).unwrap_or(u32::MAX)
    }

    fn has_named(&self, shape: &Shape) -> bool {
        let free = |name| self.free_named.get(name).copied().unwrap_or(0);
        shape.named.iter().all(|(name, need)| i64::try_from(*need).is_ok_and(|need| need <= free(name)))
    }

    /// How many more it may hold.
    pub(crate) fn window_left(&self) -> u32 {
        self.hello.window.saturating_sub(u32::try_from(self.tasks.len()).unwrap_or(u32::MAX))
    }

    /// How many tasks like this one would start at once or, if none, may be sent ahead, be it of less urgent ones only;
    /// within the window.
    pub(crate) fn now_or_ahead(&self, priority: i32, shape: &Shape, average_us: Option<u64>) -> u32 {
        let Some(kind) = self.slot_kind(shape) else { return 0 };
        let slots = self.slots(kind);
        let mut many = self.at_once(priority, shape);
        if many == 0 {
            many = slots.ahead(priority, average_us);
        }
        // One that needs more than what becomes free would keep all others waiting.
        if many == 0 && shape.slots <= 1 && self.has_named(shape) {
            many = slots.before_lower(priority);
        }
        many.min(self.window_left())
    }

    /// How many tasks like this one would start at once.
    pub(crate) fn at_once(&self, priority: i32, shape: &Shape) -> u32 {
        let Some(kind) = self.slot_kind(shape) else { return 0 };
        if self.slots(kind).goes_first(priority) { self.free_in(kind, shape) } else { 0 }
    }

    /// The slots in which such a task would start as soon as one is free, if it is not one to be sent ahead.
    pub(crate) fn awaited(&self, shape: &Shape, average_us: Option<u64>) -> Option<SlotKind> {
        let needs_a_slot_only = shape.slots <= 1 && self.has_named(shape);
        self.slot_kind(shape).filter(|_| needs_a_slot_only && !is_brief(average_us))
    }

    /// What one worker of many is given of such tasks in one go: half of what would fit, so that they fill evenly.
    pub(crate) fn share(&self, shape: &Shape) -> u32 {
        let free = self.slot_kind(shape).map_or(0, |kind| self.slots(kind).free());
        let tasks = (free + 1) / 2 / i64::from(shape.slots.max(1));
        u32::try_from(tasks.max(1)).unwrap_or(u32::MAX)
    }

    /// Takes a task in, and starts what fits.
    pub(crate) fn place(&mut self, task: TaskId, priority: i32, shape: Arc<Shape>, average_us: Option<u64>) {
        let expected_us = average_us.unwrap_or(0);
        // A worker that came back without the function still holds the call: it will say what became of it.
        let kind = self.slot_kind(&shape).unwrap_or(SlotKind::Plain);
        let is_brief = is_brief(average_us);
        let turn = self.slots_mut(kind).queue(priority, Waiting { task, shape, expected_us });
        self.tasks.insert(task, Place { priority, kind, turn, is_brief, executing: None });
        self.promote();
    }

    /// A waiting task is about to be given back: nothing more is sent ahead until something here has ended.
    pub(crate) fn stall(&mut self, task: TaskId) {
        if let Some(Place { kind, executing: None, .. }) = self.tasks.get(&task) {
            let kind = *kind;
            self.slots_mut(kind).stall();
        }
    }

    /// Lets a task go, and starts what then fits.
    pub(crate) fn leave(&mut self, task: TaskId) {
        let place = self.tasks.remove(&task).expect("a task leaves the worker that holds it");
        match place.executing {
            Some(shape) => {
                if place.is_brief {
                    self.slots_mut(place.kind).end_brief(place.priority);
                }
                self.occupy(place.kind, &shape, -1);
            }
            None => self.slots_mut(place.kind).unqueue(place.priority, place.turn),
        }
        self.promote();
    }

    fn promote(&mut self) {
        for kind in [SlotKind::Plain, SlotKind::Async] {
            while let Some((priority, task, shape)) = self.slots(kind).first() {
                if self.free_in(kind, shape) == 0 {
                    break;
                }
                let shape = shape.clone();
                let place = self.tasks.get_mut(&task).expect("what waits here is held here");
                place.executing = Some(shape.clone());
                let (turn, is_brief) = (place.turn, place.is_brief);
                self.slots_mut(kind).unqueue(priority, turn);
                self.occupy(kind, &shape, 1);
                if is_brief {
                    self.slots_mut(kind).start_brief(priority);
                }
            }
        }
    }

    fn occupy(&mut self, kind: SlotKind, shape: &Shape, sign: i64) {
        self.slots_mut(kind).take(sign * i64::from(shape.slots));
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
        for kind in [SlotKind::Plain, SlotKind::Async] {
            let here = || self.tasks.values().filter(|place| place.kind == kind);
            let used: i64 =
                here().filter_map(|place| place.executing.as_ref()).map(|shape| i64::from(shape.slots)).sum();
            let slots = self.slots(kind);
            if slots.taken() != used {
                return Some("taken slots differ from what executes");
            }
            if slots.is_overdrawn() {
                return Some("more executes than there are slots");
            }
            let brief = here().filter(|place| place.is_brief && place.executing.is_some()).count();
            if u32::try_from(brief) != Ok(slots.all_brief()) {
                return Some("the number of short tasks differs from what executes");
            }
            if here().filter(|place| place.executing.is_none()).count() != slots.waiting() {
                return Some("the waiting order differs from the places");
            }
        }
        if self.free_named.values().any(|free| *free < 0) {
            return Some("more executes than the worker offers");
        }
        None
    }
}
