//! Wakes those who follow a job's results or output, after each commit that touched it.
//! Level-triggered: a follower reads the store until nothing is left, then waits for the next mark.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use taskq_core::{effect::Write, id::JobId};
use tokio::sync::watch;

/// Followers by job.
#[derive(Debug, Default)]
pub struct Followers {
    jobs: Mutex<HashMap<JobId, watch::Sender<()>>>,
}

impl Followers {
    /// From now on the receiver is marked changed whenever something of the job becomes durable.
    pub fn follow(&self, job: JobId) -> watch::Receiver<()> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.entry(job).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Marks the followers of every job that these writes touch.
    pub fn wake(&self, writes: &[Write]) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_empty() {
            return;
        }
        jobs.retain(|_, sender| sender.receiver_count() > 0);
        let mut before = None;
        for job in writes.iter().filter_map(touched) {
            // Most writes of a batch are of the same job as the one before.
            if before.replace(job) != Some(job)
                && let Some(sender) = jobs.get(&job)
            {
                sender.send_replace(());
            }
        }
    }
}

fn touched(write: &Write) -> Option<JobId> {
    match write {
        Write::Submitted(job) => Some(job.id),
        Write::Attempt { task, .. } | Write::Output { task, .. } => Some(task.job),
        Write::Ended { job, .. }
        | Write::Job { job, .. }
        | Write::JobEnded { job, .. }
        | Write::JobGone(job) => Some(*job),
        Write::Epoch(_) | Write::Queue { .. } | Write::WorkerSeen { .. } | Write::WorkerGone(_) => None,
    }
}
