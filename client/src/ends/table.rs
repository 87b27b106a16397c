//! Who waits for which job. Knows no connection.

use crate::error::{Error, Result};
use crate::job::JobId;
use crate::model::{Counts, State, Task};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Jobs that are waited for at once. With those that were abandoned, fewer than the million that the coordinator allows
/// over one stream.
pub(crate) const MOST_JOBS: usize = 800_000;
/// Jobs that one message names, at most.
pub(super) const NAMED_AT_ONCE: usize = 10_000;
/// Named jobs that nobody waits for any more, before the stream is given up for a new one: the coordinator remembers
/// each of them.
const ABANDONED: usize = 150_000;

/// How a job ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) job: JobId,
    pub(crate) state: State,
    pub(crate) counts: Counts,
    /// Of a job of one task.
    pub(crate) task: Option<Task>,
}

/// What who waits is told.
pub(crate) type Told = Result<Ended>;

/// Hears of many jobs by their numbers in it. As long as what is entered.
pub(crate) type Group = mpsc::UnboundedSender<(usize, Told)>;

/// Who is told.
pub(super) enum Tell {
    One(oneshot::Sender<Told>),
    Group(Group, usize),
    Then(Then),
}

/// Called from the background: not to block.
type Then = Box<dyn FnOnce(Told) + Send>;

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell(..)")
    }
}

impl Tell {
    pub(super) fn tell(self, told: Told) {
        // Who does not listen any more has no need to know.
        match self {
            Tell::One(to) => drop(to.send(told)),
            Tell::Group(to, key) => drop(to.send((key, told))),
            Tell::Then(then) => then(told),
        }
    }
}

/// Who waits for which job.
#[derive(Debug, Default)]
pub(super) struct Table {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    waiting: HashMap<JobId, Vec<(u64, Tell)>>,
    /// To be named next. May hold jobs that nobody waits for any more.
    unnamed: VecDeque<JobId>,
    /// Named over this stream, and left by all before they were told.
    abandoned: usize,
    next_serial: u64,
    /// The task behind this has ended: nobody would be told.
    closed: bool,
}

impl Table {
    pub(super) fn enter(&self, job: JobId, tell: Tell) -> Result<u64> {
        let mut inside = self.lock();
        if inside.closed {
            return Err(super::ended_runtime());
        }
        if inside.waiting.len() >= MOST_JOBS && !inside.waiting.contains_key(&job) {
            return Err(Error::Busy(format!(
                "{MOST_JOBS} jobs are waited for already; wait for some of them first, or submit one job with elements"
            )));
        }
        let serial = inside.next_serial;
        inside.next_serial += 1;
        let waiting = inside.waiting.entry(job).or_default();
        waiting.push((serial, tell));
        if waiting.len() == 1 {
            inside.unnamed.push_back(job);
        }
        Ok(serial)
    }

    pub(super) fn leave(&self, job: JobId, serial: u64) {
        let mut inside = self.lock();
        let Some(waiting) = inside.waiting.get_mut(&job) else { return };
        waiting.retain(|(other, _)| *other != serial);
        if waiting.is_empty() {
            inside.waiting.remove(&job);
            inside.abandoned += 1;
        }
    }

    /// A new stream begins: all that is waited for is to be named.
    pub(super) fn begin(&self) {
        let inside = &mut *self.lock();
        inside.unnamed = inside.waiting.keys().copied().collect();
        inside.abandoned = 0;
    }

    /// Whether something is to be named.
    pub(super) fn has_unnamed(&self) -> bool {
        !self.lock().unnamed.is_empty()
    }

    /// What to name next; nothing if nobody waits for it any more.
    pub(super) fn name(&self) -> Vec<u64> {
        let inside = &mut *self.lock();
        let many = inside.unnamed.len().min(NAMED_AT_ONCE);
        let waiting = &inside.waiting;
        inside.unnamed.drain(..many).filter(|job| waiting.contains_key(job)).map(u64::from).collect()
    }

    /// Whether the stream carries too much that nobody waits for.
    pub(super) fn is_overgrown(&self) -> bool {
        self.lock().abandoned > ABANDONED
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Those who wait for these jobs, which are told now.
    pub(super) fn take(&self, jobs: impl Iterator<Item = JobId>) -> Vec<Vec<(u64, Tell)>> {
        let mut inside = self.lock();
        jobs.map(|job| inside.waiting.remove(&job).unwrap_or_default()).collect()
    }

    /// All who wait.
    pub(super) fn take_all(&self) -> Vec<Vec<(u64, Tell)>> {
        let mut inside = self.lock();
        inside.unnamed.clear();
        inside.waiting.drain().map(|(_, waiting)| waiting).collect()
    }

    /// Nobody enters any more, and those who wait hear why.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        for (_, tell) in self.take_all().into_iter().flatten() {
            tell.tell(Err(super::ended_runtime()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing in here panics half-way.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_carries_too_much_for_nobody_is_renewed() {
        let table = Table::default();
        let (group, _told) = mpsc::unbounded_channel();
        let enter = |job: u64| table.enter(JobId(job), Tell::Group(group.clone(), 0)).expect("there is room");
        enter(0);
        for job in 1..=ABANDONED as u64 {
            table.leave(JobId(job), enter(job));
        }
        assert!(!table.is_overgrown());
        table.leave(JobId(7), enter(7));
        assert!(table.is_overgrown());
        table.begin();
        assert!(!table.is_overgrown());
        assert_eq!(table.name(), [0], "only what is waited for is named again");
    }

    #[test]
    fn more_than_one_stream_may_name_is_refused() {
        let table = Table::default();
        let (group, mut told) = mpsc::unbounded_channel();
        let enter = |job: u64| table.enter(JobId(job), Tell::Group(group.clone(), 0));
        for job in 0..MOST_JOBS as u64 {
            enter(job).expect("there is room");
        }
        let error = enter(u64::MAX).expect_err("one too many");
        assert!(error.kind() == crate::Kind::Busy && error.to_string().contains("800000 jobs"), "{error}");
        enter(3).expect("waited for already");
        let named: usize = std::iter::from_fn(|| Some(table.name().len()).filter(|len| *len > 0))
            .inspect(|len| assert!(*len <= NAMED_AT_ONCE))
            .sum();
        assert_eq!(named, MOST_JOBS);
        table.close();
        assert_eq!(told.try_recv().expect("told").1.expect_err("nobody tells").kind(), crate::Kind::Usage);
        assert!(enter(1).is_err());
    }
}
