//! A job in hand: what can be asked of the client, without saying each time of which job.

use crate::client::Client;
use crate::error::{Error, Result};
use crate::follow::Watch;
use crate::job::JobId;
use crate::list::{TaskQuery, Tasks};
use crate::logs::{Logs, LogsQuery};
use crate::model::{Acted, Job, Span, Task, select};
use crate::ordered::InOrder;
use crate::results::{Results, ResultsQuery};
use std::time::Duration;

/// A job at its coordinator. Dropping it changes nothing there.
#[derive(Debug, Clone)]
pub struct JobHandle {
    client: Client,
    id: JobId,
}

impl JobHandle {
    pub(crate) fn new(client: Client, id: JobId) -> Self {
        Self { client, id }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.id
    }

    /// The client that it was made by.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The job as it is now.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn job(&self) -> Result<Job> {
        self.client.get(self.id).await
    }

    /// The job when it has ended, or as it is after `timeout`.
    ///
    /// # Errors
    /// As for [`Client::wait`].
    pub async fn wait(&self, timeout: Option<Duration>) -> Result<Job> {
        self.client.wait(self.id, timeout).await
    }

    /// Waits for the job's end, and gives the task with its outcome.
    ///
    /// # Errors
    /// The job has no such task, or as for [`Client::wait`].
    pub async fn outcome(&self, index: u32) -> Result<Task> {
        self.wait(None).await?;
        let query = TaskQuery { indices: vec![Span { first: index, count: 1 }], ..Default::default() };
        let missing = || Error::NotFound(format!("job {} has no task {index}", self.id));
        self.client.list_tasks(self.id, query).next().await.ok_or_else(missing)?
    }

    /// Cancels it; the answer says how many tasks that touched.
    ///
    /// # Errors
    /// As for [`Client::cancel`], or there is no such job.
    pub async fn cancel(&self) -> Result<Acted> {
        let acted = self.client.cancel(select([self.id]), false).await?;
        let acted = acted
            .into_iter()
            .next()
            .ok_or_else(|| Error::NotFound(format!("there is no job {}", self.id)))?;
        if acted.error_code != 0 {
            return Err(self.client.error_inside(acted.error_code, &acted.note));
        }
        Ok(acted)
    }

    /// Its tasks.
    pub fn tasks(&self, query: TaskQuery) -> Tasks {
        self.client.list_tasks(self.id, query)
    }

    /// Ends of its tasks as they are committed.
    pub fn results(&self, query: ResultsQuery) -> Results {
        self.client.results(self.id, query)
    }

    /// Ends of its tasks by index.
    ///
    /// # Errors
    /// As for [`Client::results_in_order`].
    pub async fn results_in_order(&self, query: ResultsQuery) -> Result<InOrder> {
        self.client.results_in_order(self.id, query).await
    }

    /// Captured output of its tasks.
    pub fn logs(&self, query: LogsQuery) -> Logs {
        self.client.logs(self.id, query)
    }

    /// The job each time it changes.
    pub fn watch(&self) -> Watch {
        self.client.watch(self.id)
    }
}
