//! Who waits for the end of which job: one stream of the coordinator for all handles of a client.
//!
//! Handles enter their job here and are told once when it has ended. A task in the background names the jobs to the
//! coordinator, many at a time, and after a lost connection names again what was not told. It is started by the first
//! that waits, and ends with the last clone of the client.

mod line;
mod table;

pub(crate) use table::{Ended, Group, MOST_JOBS, Told};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::job::JobId;
use std::sync::{Arc, Mutex, PoisonError};
use table::{Table, Tell};
use tokio::sync::{mpsc, oneshot};

/// The place of a client where its background task is known.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    running: Mutex<Option<Hub>>,
}

/// A background task that runs.
#[derive(Debug, Clone)]
struct Hub {
    table: Arc<Table>,
    /// Closed when the task has ended: its runtime is gone.
    wake: mpsc::Sender<()>,
}

impl Ends {
    /// The one that runs, or a new one. To be called inside a tokio runtime.
    fn hub(&self, client: &Client) -> Hub {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = running.as_ref().filter(|hub| !hub.wake.is_closed()) {
            return hub.clone();
        }
        let table = Arc::new(Table::default());
        // One word is enough: there is something to name.
        let (wake, woken) = mpsc::channel(1);
        tokio::spawn(line::run(client.without_ends(), table.clone(), woken));
        running.insert(Hub { table, wake }).clone()
    }
}

impl Hub {
    fn enter(self, job: JobId, tell: Tell) -> Result<Place> {
        let serial = self.table.enter(job, tell)?;
        // Full: it is awake. Closed: the table was emptied, and the receiver hears of that.
        let _ = self.wake.try_send(());
        Ok(Place { hub: self, job, serial })
    }
}

/// A place in the table; leaving it empty is all that dropping does.
#[derive(Debug)]
pub(crate) struct Place {
    hub: Hub,
    job: JobId,
    serial: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.table.leave(self.job, self.serial);
    }
}

impl Client {
    /// The end of a job, told once it has ended. May be dropped at any time.
    ///
    /// # Errors
    /// There is no such job, the coordinator does not answer, or too many jobs are waited for.
    pub(crate) async fn end_of(&self, job: JobId) -> Told {
        let (tell, told) = oneshot::channel();
        let _place = self.ends().hub(self).enter(job, Tell::One(tell))?;
        told.await.unwrap_or_else(|_| Err(ended_runtime()))
    }

    /// Has `group` told of the end of a job, as number `key`, for as long as the place is held.
    ///
    /// # Errors
    /// Too many jobs are waited for.
    pub(crate) fn tell_group(&self, job: JobId, group: &Group, key: usize) -> Result<Place> {
        self.ends().hub(self).enter(job, Tell::Group(group.clone(), key))
    }

    /// Has `then` called with the end of a job, for as long as the place is held. Not at once, and not to block.
    ///
    /// # Errors
    /// Too many jobs are waited for.
    pub(crate) fn then(&self, job: JobId, then: impl FnOnce(Told) + Send + 'static) -> Result<Place> {
        self.ends().hub(self).enter(job, Tell::Then(Box::new(then)))
    }
}

/// Nobody is left who could tell.
pub(crate) fn ended_runtime() -> Error {
    Error::Usage(
        "the tokio runtime in which this client first waited has ended, and with it the waiting; make a client in \
         each runtime"
            .into(),
    )
}
