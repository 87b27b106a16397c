//! Tells those who await the ends of many jobs over one stream. A job is named first and looked up then, so that no
//! end slips by between the two; [`Awaiter::settle`] sees to it that each is told once.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use taskq_core::{effect::Write, id::JobId};
use tokio::sync::mpsc;

/// Ends that are taken in one go.
const BATCH: usize = 1_000;

/// Who awaits which jobs.
#[derive(Debug, Default)]
pub struct Endings(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    awaiters: HashMap<u64, mpsc::UnboundedSender<JobId>>,
    awaited: HashMap<JobId, Vec<u64>>,
}

impl Endings {
    /// Somebody who awaits nothing yet.
    pub fn awaiter(self: &Arc<Self>) -> Awaiter {
        // Bounded by the jobs that are awaited.
        let (sender, ended) = mpsc::unbounded_channel();
        let mut inner = self.lock();
        inner.next += 1;
        let id = inner.next;
        inner.awaiters.insert(id, sender);
        Awaiter { id, endings: Arc::clone(self), awaited: HashSet::new(), ended }
    }

    /// Tells of every job that these writes end.
    pub fn wake(&self, writes: &[Write]) {
        let inner = &mut *self.lock();
        if inner.awaited.is_empty() {
            return;
        }
        for write in writes {
            let Write::JobEnded { job, .. } = write else { continue };
            for awaiter in inner.awaited.remove(job).unwrap_or_default() {
                if let Some(sender) = inner.awaiters.get(&awaiter) {
                    // One that is gone takes itself out.
                    let _gone = sender.send(*job);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Awaits the ends of any number of jobs.
#[derive(Debug)]
pub struct Awaiter {
    id: u64,
    endings: Arc<Endings>,
    awaited: HashSet<JobId>,
    ended: mpsc::UnboundedReceiver<JobId>,
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
    pub async fn ended(&mut self, into: &mut Vec<JobId>) {
        self.ended.recv_many(into, BATCH).await;
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
    use taskq_core::{id::WallTime, job::Counts};

    fn end(job: u64) -> Write {
        Write::JobEnded { job: JobId(job), counts: Counts::default(), started: None, wall: WallTime(0) }
    }

    #[tokio::test]
    async fn each_awaiter_hears_of_its_own_jobs() {
        let endings = Arc::new(Endings::default());
        let (mut one, mut two) = (endings.awaiter(), endings.awaiter());
        one.add([JobId(1), JobId(2)]);
        two.add([JobId(2), JobId(3)]);
        endings.wake(&[end(2), end(9), end(1)]);
        let mut heard = Vec::new();
        one.ended(&mut heard).await;
        assert_eq!(heard, [JobId(2), JobId(1)]);
        assert!(one.settle(JobId(2)) && !one.settle(JobId(2)));
        heard.clear();
        two.ended(&mut heard).await;
        assert_eq!(heard, [JobId(2)]);
        drop((one, two));
        let inner = endings.lock();
        assert!(
            inner.awaited.is_empty() && inner.awaiters.is_empty(),
            "nothing is left of those who are gone"
        );
    }
}
