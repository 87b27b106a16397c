//! Reading what is known: single jobs, and lists that fetch their pages by themselves.

use crate::client::Client;
use crate::error::Result;
use crate::job::JobId;
use crate::model::{ExplainReply, Filter, Job, Span, State, Task, is_terminal};
use std::collections::VecDeque;
use std::time::Duration;
use taskq_proto::v1::{ExplainRequest, GetRequest, ListRequest, ListTasksRequest, WaitRequest};
use tokio::time::Instant;

const PAGE: u32 = 100;
/// The longest that the coordinator lets one call wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl Client {
    /// A job as it is now.
    ///
    /// # Errors
    /// There is none, or no longer.
    pub async fn get(&self, id: impl Into<JobId>) -> Result<Job> {
        let request = GetRequest { id: id.into().0 };
        self.ask(self.options().patience, |mut jobs| async move { jobs.get(request).await }).await
    }

    /// The job when it has ended, or as it is after `timeout`: see [`is_terminal`].
    ///
    /// # Errors
    /// There is none, or no longer.
    pub async fn wait(&self, id: impl Into<JobId>, timeout: Option<Duration>) -> Result<Job> {
        let id = id.into();
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map_or(LONGEST_WAIT, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return self.get(id).await;
            }
            let timeout_ms = left.min(LONGEST_WAIT).as_millis().max(1) as u64;
            let request = WaitRequest { job_id: id.0, timeout_ms };
            let job =
                self.ask(self.options().patience, |mut jobs| async move { jobs.wait(request).await }).await?;
            if is_terminal(job.state()) {
                return Ok(job);
            }
        }
    }

    /// Every reason why a job, or one of its tasks, is not running now.
    ///
    /// # Errors
    /// There is none, or no longer.
    pub async fn explain(&self, id: impl Into<JobId>, index: Option<u32>) -> Result<ExplainReply> {
        let request = ExplainRequest { job_id: id.into().0, index };
        self.ask(self.options().patience, |mut jobs| async move { jobs.explain(request).await }).await
    }

    /// Jobs, newest first.
    pub fn list(&self, filter: Filter) -> Jobs {
        Jobs { client: self.clone(), filter, page_size: PAGE, pages: Pages::default() }
    }

    /// Tasks of a job, by index.
    pub fn list_tasks(&self, id: impl Into<JobId>, query: TaskQuery) -> Tasks {
        Tasks { client: self.clone(), job: id.into(), query, page_size: PAGE, pages: Pages::default() }
    }

    pub(crate) async fn task_page(&self, request: ListTasksRequest) -> Result<(Vec<Task>, String)> {
        let call = |mut jobs: crate::client::JobsCalls| {
            let request = request.clone();
            async move { jobs.list_tasks(request).await }
        };
        let reply = self.ask(self.options().patience, call).await?;
        Ok((reply.tasks, reply.next_page_token))
    }
}

/// What has come of a list.
#[derive(Debug)]
struct Pages<T> {
    fetched: VecDeque<T>,
    token: String,
    over: bool,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { fetched: VecDeque::new(), token: String::new(), over: false }
    }
}

impl<T> Pages<T> {
    fn take(&mut self, page: Result<(Vec<T>, String)>) -> Result<()> {
        match page {
            Ok((items, token)) => {
                self.fetched.extend(items);
                self.over = token.is_empty();
                self.token = token;
                Ok(())
            }
            Err(error) => {
                self.over = true;
                Err(error)
            }
        }
    }
}

/// A list of jobs.
#[derive(Debug)]
pub struct Jobs {
    client: Client,
    filter: Filter,
    page_size: u32,
    pages: Pages<Job>,
}

impl Jobs {
    /// How many are fetched at a time, at most 1,000. Default: 100.
    #[must_use]
    pub fn page_size(mut self, jobs: u32) -> Self {
        self.page_size = jobs;
        self
    }

    /// The next job. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Job>> {
        while self.pages.fetched.is_empty() && !self.pages.over {
            let page = self.page().await;
            if let Err(error) = self.pages.take(page) {
                return Some(Err(error));
            }
        }
        self.pages.fetched.pop_front().map(Ok)
    }

    async fn page(&self) -> Result<(Vec<Job>, String)> {
        let call = |mut jobs: crate::client::JobsCalls| {
            let (filter, page_token) = (Some(self.filter.clone()), self.pages.token.clone());
            let request = ListRequest { filter, page_size: self.page_size, page_token };
            async move { jobs.list(request).await }
        };
        let reply = self.client.ask(self.client.options().patience, call).await?;
        Ok((reply.jobs, reply.next_page_token))
    }
}

/// Which tasks of a job.
#[derive(Debug, Clone, Default)]
pub struct TaskQuery {
    /// These; empty means all.
    pub indices: Vec<Span>,
    /// In one of these states; empty means any.
    pub states: Vec<State>,
    /// With the outcomes of earlier attempts.
    pub with_history: bool,
}

/// A list of tasks.
#[derive(Debug)]
pub struct Tasks {
    client: Client,
    job: JobId,
    query: TaskQuery,
    page_size: u32,
    pages: Pages<Task>,
}

impl Tasks {
    /// How many are fetched at a time, at most 1,000. Default: 100.
    #[must_use]
    pub fn page_size(mut self, tasks: u32) -> Self {
        self.page_size = tasks;
        self
    }

    /// The next task. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Task>> {
        while self.pages.fetched.is_empty() && !self.pages.over {
            let page = self.client.task_page(self.request()).await;
            if let Err(error) = self.pages.take(page) {
                return Some(Err(error));
            }
        }
        self.pages.fetched.pop_front().map(Ok)
    }

    fn request(&self) -> ListTasksRequest {
        ListTasksRequest {
            job_id: self.job.0,
            indices: self.query.indices.clone(),
            states: self.query.states.iter().map(|state| i32::from(*state)).collect(),
            page_size: self.page_size,
            page_token: self.pages.token.clone(),
            with_history: self.query.with_history,
        }
    }
}
