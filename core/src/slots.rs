//! The slots of one kind that a worker has: which are free, and which tasks wait for one.
//!
//! A slot is taken by a task that executes, or *busy*: its task has ended (cancelled, timed out) while the function has
//! not returned. The worker says how many are busy, and nobody else knows.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use crate::{id::TaskId, job::Shape};

/// Work sent ahead for each slot.
const AHEAD_US: u64 = 50_000;
/// Tasks that take longer on average are sent ahead of less urgent ones only.
const AHEAD_MAX_US: u64 = 1_000_000;

/// Slots of one kind, and who waits for them: in the order (priority descending, turn), which is the worker's. A worker that
/// served the oldest job first would let nobody in beside one that is sent to it again and again.
#[derive(Debug)]
pub(crate) struct Slots {
    offered: u32,
    taken: i64,
    busy: u32,
    /// A task was given back because it had waited too long, and no slot has become free since.
    stalled: bool,
    waiting: BTreeMap<(Reverse<i32>, Turn), Waiting>,
    next_turn: Turn,
    backlog_us: BTreeMap<Reverse<i32>, u64>,
    /// How many tasks that are known to be short execute here, by priority; each makes room soon.
    brief: Vec<(i32, u32)>,
}

/// When a task came, among those of one worker and kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn(u64);

/// A task that waits for a slot.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) task: TaskId,
    pub(crate) shape: Arc<Shape>,
    pub(crate) expected_us: u64,
}

/// Whether tasks that take so long on average are short.
pub(crate) fn is_brief(average_us: Option<u64>) -> bool {
    average_us.is_some_and(|average| average <= AHEAD_MAX_US)
}

impl Slots {
    pub(crate) fn new(offered: u32, busy: u32) -> Slots {
        Slots {
            offered,
            taken: 0,
            busy,
            stalled: false,
            waiting: BTreeMap::new(),
            next_turn: Turn(0),
            backlog_us: BTreeMap::new(),
            brief: Vec::new(),
        }
    }

    pub(crate) fn offered(&self) -> u32 {
        self.offered
    }

    /// Below 0 for a moment: when more are busy than the coordinator had free, for it has yet to hear which tasks ended.
    pub(crate) fn free(&self) -> i64 {
        i64::from(self.offered) - self.taken - i64::from(self.busy)
    }

    pub(crate) fn busy(&self) -> u32 {
        self.busy
    }

    /// True if that is news.
    pub(crate) fn set_busy(&mut self, busy: u32) -> bool {
        let before = std::mem::replace(&mut self.busy, busy);
        self.stalled &= busy >= before;
        before != busy
    }

    /// What was sent ahead came back: whatever tasks take on average, what runs here takes longer.
    pub(crate) fn stall(&mut self) {
        self.stalled = true;
    }

    /// Takes (or, with a negative number, gives back) slots.
    pub(crate) fn take(&mut self, slots: i64) {
        self.stalled &= slots >= 0;
        self.taken += slots;
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The task that starts next.
    pub(crate) fn first(&self) -> Option<(i32, TaskId, &Arc<Shape>)> {
        let (&(Reverse(priority), _), waiting) = self.waiting.first_key_value()?;
        Some((priority, waiting.task, &waiting.shape))
    }

    /// Whether a task that comes now would start before everything that waits.
    pub(crate) fn goes_first(&self, priority: i32) -> bool {
        self.waiting.first_key_value().is_none_or(|((Reverse(first), _), _)| *first < priority)
    }

    /// How many tasks that take `average_us` may be sent ahead. What waits with a lower priority does not count:
    /// it will start later.
    pub(crate) fn ahead(&self, priority: i32, average_us: Option<u64>) -> u32 {
        let Some(average) = average_us.filter(|_| is_brief(average_us) && !self.stalled) else { return 0 };
        let backlog: u64 = self.backlog_us.range(..=Reverse(priority)).map(|(_, us)| *us).sum();
        let target = AHEAD_US * u64::from(self.offered.saturating_sub(self.busy));
        u32::try_from(target.saturating_sub(backlog) / average.max(1)).unwrap_or(u32::MAX)
    }

    /// How many tasks, however long they take, may be sent ahead of all that waits, because all of it has a lower priority:
    /// as many as short tasks of a lower priority are about to end. Their slots would be taken by what waits, again and
    /// again, before the coordinator could give them to anybody.
    pub(crate) fn before_lower(&self, priority: i32) -> u32 {
        let first = self.waiting.first_key_value();
        if self.stalled || first.is_none_or(|((Reverse(first), _), _)| *first >= priority) {
            return 0;
        }
        self.brief.iter().filter(|(lower, _)| *lower < priority).map(|(_, tasks)| *tasks).sum()
    }

    /// A task that is known to be short starts to execute.
    pub(crate) fn start_brief(&mut self, priority: i32) {
        match self.brief.iter_mut().find(|(of, _)| *of == priority) {
            Some((_, tasks)) => *tasks += 1,
            None => self.brief.push((priority, 1)),
        }
    }

    /// It has ended.
    pub(crate) fn end_brief(&mut self, priority: i32) {
        let place = self.brief.iter().position(|(of, _)| *of == priority).expect("it was started");
        self.brief[place].1 -= 1;
        if self.brief[place].1 == 0 {
            self.brief.swap_remove(place);
        }
    }

    /// How many of them there are, for checks.
    pub(crate) fn all_brief(&self) -> u32 {
        self.brief.iter().map(|(_, tasks)| *tasks).sum()
    }

    pub(crate) fn queue(&mut self, priority: i32, waiting: Waiting) -> Turn {
        *self.backlog_us.entry(Reverse(priority)).or_default() += waiting.expected_us;
        let turn = self.next_turn;
        self.next_turn = Turn(turn.0 + 1);
        self.waiting.insert((Reverse(priority), turn), waiting);
        turn
    }

    pub(crate) fn unqueue(&mut self, priority: i32, turn: Turn) {
        let Some(waiting) = self.waiting.remove(&(Reverse(priority), turn)) else { return };
        if let Entry::Occupied(mut backlog) = self.backlog_us.entry(Reverse(priority)) {
            let us = backlog.get_mut();
            *us = us.saturating_sub(waiting.expected_us);
            if *us == 0 {
                backlog.remove();
            }
        }
    }

    /// Whether more is taken than there is; busy slots aside, of which it may not yet be known whose they were.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.taken > i64::from(self.offered)
    }

    pub(crate) fn taken(&self) -> i64 {
        self.taken
    }
}
