//! The tasks of one job: a template of n elements, of which only those that deviate have a record.
//!
//! Elements from `cursor` on that are in no other set are *fresh*: queued, never attempted. Ended ones are bits. What
//! runs, waits for its next attempt, or was attempted and is ready again has an entry in `unusual`. A job of which
//! nothing was ever started has no [`Array`] at all (see [`Job`](crate::state::Job)), so a job of 4 billion elements
//! costs what a job of one costs, and draining it costs one bitmap.
//!
//! ```text
//!            take                         end
//!   Fresh ----------> Running ---------------------------> Ended
//!                     ^     | failed, lost, returned         ^
//!              take   |     v                                |
//!                   Ready <- Backoff ------------------------+
//!                     (delay 0)        cancelled, skipped
//! ```
//!
//! Only the gate (`gate.rs`) calls what changes a phase here.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use crate::{
    event::Progress,
    id::{Attempt, Epoch, Timestamp, WallTime, WorkerId},
    job::{Counts, End},
};

/// Once in so many ends the bitmaps are packed, so that a drained array costs runs and not bits.
const PACK: u32 = 65_536;

/// A job that has deviated from "nothing of it was ever started".
#[derive(Debug, Default)]
pub(crate) struct Array {
    /// If set, only these elements are tasks.
    pub(crate) only: Option<RoaringBitmap>,
    /// No element below is fresh.
    cursor: u64,
    ended: RoaringBitmap,
    failed: RoaringBitmap,
    cancelled: RoaringBitmap,
    skipped: RoaringBitmap,
    /// Tasks with a history that have not ended.
    unusual: BTreeMap<u32, Task>,
    /// Those of them that are ready.
    ready: BTreeSet<u32>,
    /// Tasks whose cancel is durably intended and not yet done.
    pub(crate) cancelling: RoaringBitmap,
    /// How many tasks are in which phase.
    pub(crate) counts: Counts,
    /// Of the job's switches.
    pub(crate) revision: u64,
    /// The job starts no further task.
    pub(crate) paused: bool,
    /// Rises with each change of a task or switch.
    pub(crate) changes: u64,
    /// The task that last said how far it has come.
    latest_progress: Option<u32>,
    /// When the first task started.
    pub(crate) started: Option<WallTime>,
    /// The job that this one runs again.
    pub(crate) rerun_of: Option<crate::id::JobId>,
}

/// A task with a history.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// The highest attempt that ended.
    pub(crate) recorded: Attempt,
    pub(crate) failures: u32,
    pub(crate) losses: u32,
    /// An attempt after `recorded` may have been handed out before a restart.
    pub(crate) doubtful: bool,
    /// The worker that could not run it; another is preferred.
    pub(crate) avoid: Option<WorkerId>,
    pub(crate) stage: Stage,
}

impl Task {
    /// The first record of a task that was never attempted since the start.
    pub(crate) fn fresh(stage: Stage, doubtful: bool) -> Task {
        Task { recorded: Attempt(0), failures: 0, losses: 0, doubtful, avoid: None, stage }
    }
}

/// Where a task with a history is.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    Ready,
    Backoff { until: Timestamp },
    Running(Run),
}

/// A leased task.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) worker: WorkerId,
    pub(crate) attempt: Attempt,
    pub(crate) epoch: Epoch,
    /// The worker said that it started.
    pub(crate) started: bool,
    /// When the coordinator gives up on it, if the policy limits its time.
    pub(crate) overdue: Option<Timestamp>,
    /// The latest that it has said of itself.
    pub(crate) progress: Option<Box<Progress>>,
}

/// What is known of one element.
#[derive(Debug)]
pub(crate) enum Element<'a> {
    /// Not a task of this job.
    Absent,
    Fresh,
    Unusual(&'a Task),
    Ended(End),
}

impl Array {
    pub(crate) fn new(total: u32, only: Option<RoaringBitmap>) -> Array {
        let tasks = only.as_ref().map_or(total, |only| u32::try_from(only.len()).unwrap_or(total));
        let counts = Counts { queued: tasks, ..Counts::default() };
        Array { only, counts, ..Array::default() }
    }

    pub(crate) fn element(&self, index: u32, total: u32) -> Element<'_> {
        if index >= total || self.only.as_ref().is_some_and(|only| !only.contains(index)) {
            return Element::Absent;
        }
        match self.unusual.get(&index) {
            Some(task) => Element::Unusual(task),
            None if self.ended.contains(index) => Element::Ended(self.end_of(index)),
            None => Element::Fresh,
        }
    }

    fn end_of(&self, index: u32) -> End {
        if self.failed.contains(index) {
            End::Failed
        } else if self.cancelled.contains(index) {
            End::Cancelled
        } else if self.skipped.contains(index) {
            End::Skipped
        } else {
            End::Succeeded
        }
    }

    pub(crate) fn task(&self, index: u32) -> Option<&Task> {
        self.unusual.get(&index)
    }

    pub(crate) fn task_mut(&mut self, index: u32) -> Option<&mut Task> {
        self.unusual.get_mut(&index)
    }

    pub(crate) fn run(&self, index: u32) -> Option<&Run> {
        match &self.unusual.get(&index)?.stage {
            Stage::Running(run) => Some(run),
            Stage::Ready | Stage::Backoff { .. } => None,
        }
    }

    /// Keeps what a running task says of itself.
    pub(crate) fn set_progress(&mut self, index: u32, progress: Progress) {
        if let Some(Task { stage: Stage::Running(run), .. }) = self.unusual.get_mut(&index) {
            run.progress = Some(Box::new(progress));
            self.latest_progress = Some(index);
            self.changes += 1;
        }
    }

    /// What the task that spoke last has said of itself, while it still runs.
    pub(crate) fn progress(&self) -> Option<(u32, &Progress)> {
        let index = self.latest_progress?;
        Some((index, self.run(index)?.progress.as_deref()?))
    }

    /// Tasks with a history, ascending.
    pub(crate) fn unusual(&self) -> impl Iterator<Item = (u32, &Task)> {
        self.unusual.iter().map(|(index, task)| (*index, task))
    }

    /// Failed and cancelled tasks.
    pub(crate) fn unsuccessful(&self) -> RoaringBitmap {
        &self.failed | &self.cancelled
    }

    /// The lowest index that is ready; moves the cursor over what it skips.
    pub(crate) fn next_ready(&mut self, total: u32) -> Option<u32> {
        let fresh = self.next_fresh(total);
        match (fresh, self.ready.first().copied()) {
            (Some(fresh), Some(ready)) => Some(fresh.min(ready)),
            (fresh, ready) => fresh.or(ready),
        }
    }

    fn next_fresh(&mut self, total: u32) -> Option<u32> {
        loop {
            let at = u32::try_from(self.cursor).ok().filter(|at| *at < total)?;
            if let Some(only) = &self.only {
                let next = only.range(at..).next();
                if next != Some(at) {
                    self.cursor = next.map_or(u64::from(total), u64::from);
                    continue;
                }
            }
            if self.ended.contains(at) {
                let run = self.ended.range(at..).next_range();
                self.cursor = run.map_or(u64::from(at), |run| u64::from(*run.end())) + 1;
            } else if self.unusual.contains_key(&at) {
                self.cursor += 1;
            } else {
                return Some(at);
            }
        }
    }

    /// The first task that is ready again after an attempt.
    pub(crate) fn first_again(&self) -> Option<&Task> {
        self.unusual.get(self.ready.first()?)
    }

    /// Everything that neither runs nor has ended, by its last recorded attempt.
    pub(crate) fn unstarted(&self, total: u32) -> BTreeMap<Attempt, RoaringBitmap> {
        let mut groups = BTreeMap::new();
        let fresh = self.fresh(total);
        if !fresh.is_empty() {
            groups.insert(Attempt(0), fresh);
        }
        for (index, task) in &self.unusual {
            if !matches!(task.stage, Stage::Running(_)) {
                groups.entry(task.recorded).or_default().insert(*index);
            }
        }
        groups
    }

    /// Every fresh element.
    fn fresh(&self, total: u32) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        let start = u32::try_from(self.cursor).unwrap_or(u32::MAX).min(total);
        all.insert_range(start..total);
        if let Some(only) = &self.only {
            all &= only;
        }
        all -= &self.ended;
        for index in self.unusual.keys() {
            all.remove(*index);
        }
        all
    }

    /// Gives a fresh element a record.
    pub(crate) fn unfold(&mut self, index: u32, task: Task) {
        if matches!(task.stage, Stage::Ready) {
            self.ready.insert(index);
        }
        self.unusual.insert(index, task);
    }

    /// Moves a task with a record to another stage.
    pub(crate) fn restage(&mut self, index: u32, stage: Stage) {
        let task = self.unusual.get_mut(&index).expect("a task that moves has a record");
        if matches!(stage, Stage::Ready) {
            self.ready.insert(index);
        } else {
            self.ready.remove(&index);
        }
        task.stage = stage;
    }

    /// Marks tasks as ended and drops their records; their counts have been moved already.
    pub(crate) fn end(&mut self, indices: &RoaringBitmap, end: End) {
        if indices.len() == 1 {
            for index in indices {
                self.unusual.remove(&index);
                self.ready.remove(&index);
            }
        } else {
            self.unusual.retain(|index, _| !indices.contains(*index));
            self.ready.retain(|index| !indices.contains(*index));
        }
        insert_all(&mut self.ended, indices);
        match end {
            End::Succeeded => {}
            End::Failed => insert_all(&mut self.failed, indices),
            End::Cancelled => insert_all(&mut self.cancelled, indices),
            End::Skipped => insert_all(&mut self.skipped, indices),
        }
        if !self.cancelling.is_empty() {
            self.cancelling -= indices;
        }
        let after = self.counts.ended();
        let before = after.saturating_sub(u32::try_from(indices.len()).unwrap_or(u32::MAX));
        if before / PACK != after / PACK {
            for set in [&mut self.ended, &mut self.failed, &mut self.cancelled, &mut self.skipped] {
                set.optimize();
            }
        }
    }

    /// Takes in ends from before a restart.
    pub(crate) fn restore_ended(&mut self, indices: &RoaringBitmap, end: End) {
        self.end(indices, end);
        self.ended.optimize();
    }

    /// Takes in intended cancels from before a restart; those that were done since are left out.
    pub(crate) fn restore_cancelling(&mut self, cancelling: RoaringBitmap) {
        self.cancelling = cancelling - &self.ended;
    }

    /// What the sets say, slowly; for checks and after a restart.
    pub(crate) fn recount(&self, total: u32) -> Counts {
        let mut counts = Counts::default();
        for task in self.unusual.values() {
            match task.stage {
                Stage::Ready => counts.queued += 1,
                Stage::Backoff { .. } => counts.backoff += 1,
                Stage::Running(_) => counts.running += 1,
            }
        }
        let len = |set: &RoaringBitmap| u32::try_from(set.len()).unwrap_or(u32::MAX);
        counts.failed = len(&self.failed);
        counts.cancelled = len(&self.cancelled);
        counts.skipped = len(&self.skipped);
        counts.succeeded = len(&self.ended) - counts.failed - counts.cancelled - counts.skipped;
        let tasks = self.only.as_ref().map_or(total, len);
        counts.queued += tasks - len(&self.ended) - u32::try_from(self.unusual.len()).unwrap_or(u32::MAX);
        counts
    }

    /// Whether the sets contradict each other; for checks.
    pub(crate) fn contradiction(&self, total: u32) -> Option<&'static str> {
        if self.unusual.keys().any(|index| self.ended.contains(*index)) {
            return Some("a task has ended and has a record");
        }
        let ready: BTreeSet<u32> = self
            .unusual
            .iter()
            .filter(|(_, task)| matches!(task.stage, Stage::Ready))
            .map(|(index, _)| *index)
            .collect();
        if ready != self.ready {
            return Some("the ready set differs from the records");
        }
        if self.recount(total) != self.counts {
            return Some("the counts differ from the sets");
        }
        let ends = self.failed.len() + self.cancelled.len() + self.skipped.len();
        let mut union = &self.failed | &self.cancelled;
        union |= &self.skipped;
        if union.len() != ends || !union.is_subset(&self.ended) {
            return Some("a task ended twice");
        }
        if !self.cancelling.is_disjoint(&self.ended) {
            return Some("an ended task is still being cancelled");
        }
        None
    }
}

fn insert_all(into: &mut RoaringBitmap, indices: &RoaringBitmap) {
    match (indices.min(), indices.max()) {
        (Some(min), Some(max)) if min == max => {
            into.insert(min);
        }
        (Some(min), Some(max)) if u64::from(max - min) + 1 == indices.len() => {
            into.insert_range(min..=max);
        }
        _ => *into |= indices,
    }
}
