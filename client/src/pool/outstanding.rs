//! What was submitted through a pool and has not ended, and whether more may come.

use crate::client::Client;
use crate::echo::Copying;
use crate::ends::Place;
use crate::error::{Error, Result};
use crate::job::JobId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

#[derive(Debug, Default)]
pub(super) struct Outstanding {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    door: Door,
    /// With the place of each that is to be told.
    jobs: HashMap<JobId, Place>,
    copying: Vec<Arc<Copying>>,
    /// Copying that is over is forgotten when there is more than this.
    look_at: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Door {
    #[default]
    Open,
    Closed,
    Terminated,
}

impl Outstanding {
    /// # Errors
    /// It is closed.
    pub(super) fn is_open(&self) -> Result<()> {
        match self.lock().door {
            Door::Open => Ok(()),
            Door::Closed => {
                Err(Error::Usage("the pool is closed: it takes no more calls; make a new one".into()))
            }
            Door::Terminated => Err(terminated()),
        }
    }

    pub(super) fn close(&self) {
        let mut inside = self.lock();
        if inside.door == Door::Open {
            inside.door = Door::Closed;
        }
    }

    /// Closes it for good; the jobs that are to be cancelled.
    pub(super) fn terminate(&self) -> Vec<JobId> {
        let mut inside = self.lock();
        inside.door = Door::Terminated;
        inside.jobs.keys().copied().collect()
    }

    /// A job was submitted.
    ///
    /// # Errors
    /// All was cancelled while that went on, or too many jobs are waited for.
    pub(super) fn enter(
        this: &Arc<Self>,
        client: &Client,
        id: JobId,
        copying: Option<Arc<Copying>>,
    ) -> Result<()> {
        let inside = &mut *this.lock();
        if inside.door == Door::Terminated {
            return Err(terminated());
        }
        let outstanding: Weak<Self> = Arc::downgrade(this);
        // Told while this is locked, it waits: so it is not told before it is entered.
        let place = client.then(id, move |told| {
            // An error says nothing of the job; who joins asks again.
            if let (Ok(_), Some(outstanding)) = (told, outstanding.upgrade()) {
                outstanding.ended(id);
            }
        })?;
        inside.jobs.insert(id, place);
        inside.copying.extend(copying);
        if inside.copying.len() > inside.look_at {
            inside.copying.retain(|copying| !copying.is_done_well());
            inside.look_at = 2 * inside.copying.len().max(16);
        }
        Ok(())
    }

    pub(super) fn ended(&self, id: JobId) {
        self.lock().jobs.remove(&id);
    }

    /// One of those that have not ended.
    pub(super) fn any(&self) -> Option<JobId> {
        self.lock().jobs.keys().next().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Waits until all output is copied.
    pub(super) async fn all_copied(&self) -> Result<()> {
        loop {
            let Some(copying) = self.lock().copying.pop() else { return Ok(()) };
            copying.done().await?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing in here panics half-way.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn terminated() -> Error {
    Error::Usage("the pool was terminated: it takes no more calls; make a new one".into())
}
