//! Tells those who await the ends of many jobs over one stream. A job is named first and looked up then, so that no
//! end slips by between the two; [`Awaiter::settle`] sees to it that each is told once.
//!
//! What has just become durable is handed over as it is, so that nobody reads it back from the disk; an awaiter that is
//! slow is told the numbers only, once some megabytes lie before it.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use taskq_core::{effect::Write, id::JobId};
use tokio::sync::mpsc;

use crate::store::{EndedJob, EndedTask};

/// Ends that are taken in one go.
const BATCH: usize = 1_000;
/// Outcomes that may wait for one awaiter.
const UNREAD_BYTES: usize = 8 << 20;
/// What an end takes beside its outcome.
const END_BYTES: usize = 256;

/// A job that has ended.
#[derive(Debug)]
pub struct Ending {
    /// Which.
    pub job: JobId,
    /// How; `None`: the store knows.
    pub how: Option<Box<How>>,
}

/// How a job ended.
#[derive(Debug)]
pub struct How {
    /// By its tasks.
    pub job: EndedJob,
    /// Its only task, if there is but one.
    pub task: Option<EndedTask>,
}

impl Ending {
    fn bytes(&self) -> usize {
        let task = self.how.as_ref().and_then(|how| how.task.as_ref());
        END_BYTES + task.map_or(0, |task| task.detail.len())
    }
}

/// Who awaits which jobs.
#[derive(Debug, Default)]
pub struct Endings(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    awaiters: HashMap<u64, Queue>,
    awaited: HashMap<JobId, Vec<u64>>,
}

#[derive(Debug)]
struct Queue {
    sender: mpsc::UnboundedSender<Ending>,
    unread: Arc<AtomicUsize>,
}

impl Endings {
    /// Somebody who awaits nothing yet.
    pub fn awaiter(self: &Arc<Self>) -> Awaiter {
        // Bounded by the jobs that are awaited.
        let (sender, ended) = mpsc::unbounded_channel();
        let unread = Arc::new(AtomicUsize::new(0));
        let mut inner = self.lock();
        inner.next += 1;
        let id = inner.next;
        inner.awaiters.insert(id, Queue { sender, unread: Arc::clone(&unread) });
        Awaiter { id, endings: Arc::clone(self), awaited: HashSet::new(), ended, unread }
    }

    /// Tells of every job that these writes end.
    pub fn wake(&self, writes: &[Write]) {
        let inner = &mut *self.lock();
        if inner.awaited.is_empty() {
            return;
        }
        let mut before = None;
        for write in writes {
            if let Write::JobEnded { job, .. } = write {
                for awaiter in inner.awaited.remove(job).unwrap_or_default() {
                    if let Some(queue) = inner.awaiters.get(&awaiter) {
                        queue.push(*job, before, write);
                    }
                }
            }
            before = Some(write);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&self, job: JobId, before: Option<&Write>, end: &Write) {
        let room = self.unread.load(Ordering::Relaxed) < UNREAD_BYTES;
        let how = if room { how(before, end).map(Box::new) } else { None };
        let ending = Ending { job, how };
        self.unread.fetch_add(ending.bytes(), Ordering::Relaxed);
        // One that is gone takes itself out.
        let _gone = self.sender.send(ending);
    }
}

/// How a job ended, out of its last two facts: the end of its last task is written right before its own.
fn how(before: Option<&Write>, end: &Write) -> Option<How> {
    let Write::JobEnded { job: ended, counts, started, wall } = end else { return None };
    let job = EndedJob { counts: *counts, started: *started, wall: *wall };
    if counts.total() != 1 {
        return Some(How { job, task: None });
    }
    let Some(Write::Ended { job: of, indices, rank, end, attempt, detail, worker, wall, .. }) = before else {
        return None;
    };
    let task = EndedTask {
        index: indices.min().filter(|_| of == ended && indices.len() == 1)?,
        rank: *rank,
        end: *end,
        attempt: *attempt,
        detail: detail.clone(),
        worker: worker.as_deref().unwrap_or_default().to_owned(),
        wall: *wall,
    };
    Some(How { job, task: Some(task) })
}

/// Awaits the ends of any number of jobs.
#[derive(Debug)]
pub struct Awaiter {
    id: u64,
    endings: Arc<Endings>,
    awaited: HashSet<JobId>,
    ended: mpsc::UnboundedReceiver<Ending>,
    unread: Arc<AtomicUsize>,
}

impl Awaiter {
    /// From now on the job's end is told. Nothing changes for one that is awaited already.
    pub fn add(&mut self, jobs: impl IntoIterator<Item = JobId>) {
        let mut inner = self.endings.lock();
        for job in jobs {
            if self.awaited.insert(job) {
                inner.awaited.entry(job).or_default().push(self.id);
            }
        }
    }

    /// Takes a job off the list; false if it was not on it (any more).
    pub fn settle(&mut self, job: JobId) -> bool {
        self.awaited.remove(&job)
    }

    /// How many jobs are on the list.
    #[must_use]
    pub fn len(&self) -> usize {
        self.awaited.len()
    }

    /// Whether no job is on the list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Jobs that have ended; waits for the first. Cancel-safe.
    pub async fn ended(&mut self, into: &mut Vec<Ending>) {
        let known = into.len();
        self.ended.recv_many(into, BATCH).await;
        let read: usize = into[known..].iter().map(Ending::bytes).sum();
        self.unread.fetch_sub(read, Ordering::Relaxed);
    }
}

impl Drop for Awaiter {
    fn drop(&mut self) {
        let mut inner = self.endings.lock();
        inner.awaiters.remove(&self.id);
        for job in &self.awaited {
            if let Some(awaiters) = inner.awaited.get_mut(job) {
                awaiters.retain(|id| *id != self.id);
                if awaiters.is_empty() {
                    inner.awaited.remove(job);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use roaring::RoaringBitmap;
    use taskq_core::{
        id::{Attempt, Rank, WallTime},
        job::{Counts, End},
    };

    fn task_end(job: u64, detail: &Bytes) -> Write {
        Write::Ended {
            job: JobId(job),
            indices: RoaringBitmap::from([3]),
            rank: Rank(0),
            end: End::Succeeded,
            attempt: Attempt(2),
            detail: detail.clone(),
            blob: None,
            worker: Some("w".into()),
            wall: WallTime(7),
        }
    }

    fn end(job: u64, succeeded: u32) -> Write {
        let counts = Counts { succeeded, ..Counts::default() };
        Write::JobEnded { job: JobId(job), counts, started: None, wall: WallTime(8) }
    }

    async fn heard(awaiter: &mut Awaiter) -> Vec<Ending> {
        let mut heard = Vec::new();
        awaiter.ended(&mut heard).await;
        heard
    }

    fn ids(endings: &[Ending]) -> Vec<u64> {
        endings.iter().map(|ending| ending.job.0).collect()
    }

    #[tokio::test]
    async fn each_awaiter_hears_of_its_own_jobs() {
        let endings = Arc::new(Endings::default());
        let (mut one, mut two) = (endings.awaiter(), endings.awaiter());
        one.add([JobId(1), JobId(2)]);
        two.add([JobId(2), JobId(3)]);
        endings.wake(&[end(2, 5), end(9, 5), end(1, 5)]);
        assert_eq!(ids(&heard(&mut one).await), [2, 1]);
        assert!(one.settle(JobId(2)) && !one.settle(JobId(2)));
        assert_eq!(ids(&heard(&mut two).await), [2]);
        drop((one, two));
        let inner = endings.lock();
        assert!(
            inner.awaited.is_empty() && inner.awaiters.is_empty(),
            "nothing is left of those who are gone"
        );
    }

    #[tokio::test]
    async fn the_end_of_a_job_of_one_task_comes_with_it_unless_too_much_lies_unread() {
        let endings = Arc::new(Endings::default());
        let mut awaiter = endings.awaiter();
        awaiter.add((1..100).map(JobId));
        let large = Bytes::from(vec![0; UNREAD_BYTES / 4]);
        let job = |id| [task_end(id, &large), end(id, 1)];
        // What stands before it may be another job's: then the store has to say.
        endings.wake(&[task_end(50, &large), end(51, 1)]);
        endings.wake(&(1..=6).flat_map(job).collect::<Vec<_>>());
        let told = heard(&mut awaiter).await;
        let tasks: Vec<Option<u32>> =
            told.iter().map(|ending| Some(ending.how.as_ref()?.task.as_ref()?.index)).collect();
        assert_eq!(tasks, [None, Some(3), Some(3), Some(3), Some(3), None, None]);
        endings.wake(&job(7));
        let told = heard(&mut awaiter).await;
        let task = told[0].how.as_ref().and_then(|how| how.task.as_ref()).expect("there is room again");
        assert_eq!((task.attempt, task.worker.as_str(), task.detail.len()), (Attempt(2), "w", large.len()));
    }
}
