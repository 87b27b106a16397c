//! The ends of a job's tasks, in the order in which they were committed.

use crate::client::Client;
use crate::error::{Error, Result};
use crate::follow::Feed;
use crate::job::JobId;
use crate::model::Task;
use std::collections::VecDeque;
use taskq_proto::v1::{ResultBatch, ResultsRequest};

/// Which ends, and how much of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResultsQuery {
    /// How many ends were seen already; 0 begins with the first.
    pub cursor: u64,
    /// Outcomes carry their inline output.
    pub with_output: bool,
    /// Outcomes carry what calls returned, where it is not in a blob.
    pub with_values: bool,
    /// Waits for ends that have not happened yet, until the job has ended.
    pub follow: bool,
}

/// The end of one task.
#[derive(Debug, Clone)]
pub struct End {
    /// Goes on after this end when given to [`ResultsQuery::cursor`].
    pub cursor: u64,
    /// The task with its outcome.
    pub task: Task,
}

/// Ends of tasks as they are committed: each once, without gap, whatever happens to the connection.
#[derive(Debug)]
pub struct Results {
    client: Client,
    job: JobId,
    query: ResultsQuery,
    received: VecDeque<Task>,
    feed: Feed<ResultBatch>,
    over: bool,
}

impl Results {
    /// The next end. After an error there is nothing more; [`Results::cursor`] says where to go on.
    pub async fn next(&mut self) -> Option<Result<End>> {
        loop {
            if let Some(task) = self.received.pop_front() {
                self.query.cursor += 1;
                return Some(Ok(End { cursor: self.query.cursor, task }));
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.receive().await {
                self.over = true;
                return Some(Err(error));
            }
        }
    }

    /// How many ends of the job were given out, in this run and before.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.query.cursor
    }

    async fn receive(&mut self) -> Result<()> {
        let ResultsQuery { cursor, with_output, with_values, follow } = self.query;
        let request = ResultsRequest { job_id: self.job.0, cursor, with_output, follow, with_values };
        let client = &self.client;
        let open = || {
            let client = client.clone();
            async move { client.open(|mut jobs| async move { jobs.results(request).await }).await }
        };
        match self.feed.next(open).await? {
            Some(batch) => self.accept(batch),
            None if follow => self.feed.ended_early(&self.client).await,
            None => {
                self.over = true;
                Ok(())
            }
        }
    }

    fn accept(&mut self, batch: ResultBatch) -> Result<()> {
        let seen = self.query.cursor;
        let first = batch.cursor.checked_sub(batch.tasks.len() as u64);
        let Some(first) = first.filter(|first| *first <= seen) else {
            let job = self.job;
            return Err(Error::Internal(format!(
                "results of job {job} have a gap after {seen} (next: {})",
                batch.cursor
            )));
        };
        let known = usize::try_from(seen - first).unwrap_or(usize::MAX);
        self.received.extend(batch.tasks.into_iter().skip(known));
        self.over = batch.complete;
        Ok(())
    }
}

impl Client {
    /// Ends of a job's tasks in the order in which they were committed.
    pub fn results(&self, id: impl Into<JobId>, query: ResultsQuery) -> Results {
        let (client, received, feed) = (self.clone(), VecDeque::new(), Feed::new(self));
        Results { client, job: id.into(), query, received, feed, over: false }
    }
}
