//! A job in hand: what can be asked of the client, without saying each time of which job. The handle of a call is the
//! future of its value, too.

use crate::client::Client;
use crate::echo::Copying;
use crate::ends::{Ended, Told};
use crate::error::{Error, Result};
use crate::follow::Watch;
use crate::job::JobId;
use crate::list::{TaskQuery, Tasks};
use crate::logs::{Logs, LogsQuery};
use crate::model::{Acted, Job, Span, Task, select};
use crate::ordered::InOrder;
use crate::progress::Progresses;
use crate::results::{Results, ResultsQuery};
use crate::value::{Callee, Value, no_call};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

/// Of a handle: nothing is known, or wanted, of a value.
#[derive(Debug, Clone, Copy)]
pub enum Untyped {}

/// A job at its coordinator. Dropping it changes nothing there.
///
/// If it is a call of one task that returns a `T`, this is a future: it waits for the value, in this process or
/// another, however often. It may be dropped while it waits. Its errors are [`Error::Call`] if there is no value (see
/// [`CallError`](crate::CallError)), [`Error::Gone`] if the job was removed, and [`Error::Unreachable`].
///
/// ```no_run
/// # async fn tour(client: taskq_client::Client) -> taskq_client::Result<()> {
/// let mut first = client.call::<u64>("fib", 40).submit().await?;
/// let mut other = client.call::<u64>("fib", 41).submit().await?;
/// tokio::select! {
///     n = &mut first => { println!("{}", n?); other.cancel().await?; }
///     n = &mut other => { println!("{}", n?); first.cancel().await?; }
/// }
/// # Ok(()) }
/// ```
pub struct JobHandle<T = Untyped> {
    client: Client,
    id: JobId,
    callee: Option<Arc<Callee>>,
    copying: Option<Arc<Copying>>,
    /// How it ended, if somebody was told already; used once, as an error may be over by then.
    told: Option<Box<Told>>,
    waiting: Mutex<Option<Waiting<T>>>,
}

/// In a lock that is never taken: what is asked while it waits needs no access to it, and so a handle can be shared.
type Waiting<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

impl<T> Clone for JobHandle<T> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            id: self.id,
            callee: self.callee.clone(),
            copying: self.copying.clone(),
            told: self.told.clone(),
            waiting: Mutex::new(None),
        }
    }
}

impl<T> fmt::Debug for JobHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobHandle({})", self.id)
    }
}

impl JobHandle {
    pub(crate) fn new(client: Client, id: JobId) -> Self {
        Self { client, id, callee: None, copying: None, told: None, waiting: Mutex::new(None) }
    }
}

impl<T> JobHandle<T> {
    /// Of a call about which everything is known.
    pub(crate) fn of_call(
        client: Client,
        id: JobId,
        callee: Arc<Callee>,
        copying: Option<Arc<Copying>>,
    ) -> Self {
        Self { client, id, callee: Some(callee), copying, told: None, waiting: Mutex::new(None) }
    }

    /// The same job, as a call that returns an `R`. Asks nothing: what is wrong with that shows when it is awaited.
    #[must_use]
    pub fn typed<R>(self) -> JobHandle<R> {
        let Self { client, id, callee, copying, told, waiting: _ } = self;
        JobHandle { client, id, callee, copying, told, waiting: Mutex::new(None) }
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

    /// What its calls say of their progress, while they run.
    pub fn progress(&self) -> Progresses {
        Progresses::new(self.watch())
    }

    /// What was told of its end elsewhere, so that it need not be asked for again.
    pub(crate) fn told(mut self, told: Told) -> Self {
        self.told = Some(Box::new(told));
        self
    }
}

impl<T: Value> JobHandle<T> {
    /// Waits for the end, and for the output if that is copied; then reads the value.
    fn begin(&mut self) -> Waiting<T> {
        let (client, id, callee) = (self.client.clone(), self.id, self.callee.clone());
        // If copying failed that is told once, and the value when it is awaited again.
        let (told, copying) = (self.told.take(), self.copying.take());
        Box::pin(async move {
            let ended = match told {
                Some(told) => (*told)?,
                None => client.end_of(id).await?,
            };
            if let Some(copying) = copying {
                copying.done().await?;
            }
            value(&client, callee, ended).await
        })
    }
}

/// The value of a job of one task that has ended.
pub(crate) async fn value<T: Value>(client: &Client, callee: Option<Arc<Callee>>, ended: Ended) -> Result<T> {
    let id = ended.job;
    let callee = match callee {
        Some(callee) => callee,
        None => callee_of(client, id).await?,
    };
    match ended.task {
        Some(task) => callee.read(client, task).await,
        None => Err(Error::Usage(format!(
            "job {id} has {} tasks, and so no single value; read their results, or pick it up as a map",
            ended.counts.total
        ))),
    }
}

/// What a job calls.
///
/// # Errors
/// It runs a command, or there is no such job.
pub(crate) async fn callee_of(client: &Client, id: JobId) -> Result<Arc<Callee>> {
    let job = client.get(id).await?;
    Callee::of(&job.spec.unwrap_or_default()).ok_or_else(|| no_call(id))
}

impl<T: Value> Future for JobHandle<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut waiting = match this.waiting.get_mut().expect("never locked").take() {
            Some(waiting) => waiting,
            None => this.begin(),
        };
        let polled = waiting.as_mut().poll(cx);
        if polled.is_pending() {
            *this.waiting.get_mut().expect("never locked") = Some(waiting);
        }
        polled
    }
}

impl Client {
    /// A handle on a job that exists already. Asks nothing: an unknown job shows at the first use.
    #[must_use]
    pub fn attach(&self, id: impl Into<JobId>) -> JobHandle {
        JobHandle::new(self.clone(), id.into())
    }

    /// A handle on a call of another process or another day, which returns a `T`.
    ///
    /// ```no_run
    /// # async fn tour(client: taskq_client::Client) -> taskq_client::Result<()> {
    /// let id = client.call::<u64>("fib", 45).submit().await?.id();
    /// println!("{id}"); // and tomorrow:
    /// let n: u64 = client.pick_up(id).await?.await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The value is there as long as its job is kept: see [`Call::keep`](crate::Call::keep).
    ///
    /// # Errors
    /// There is no such job (any more), it runs a command, or it has elements: see [`Client::pick_up_map`].
    pub async fn pick_up<T>(&self, id: impl Into<JobId>) -> Result<JobHandle<T>> {
        let id = id.into();
        let job = self.get(id).await?;
        let spec = job.spec.unwrap_or_default();
        let callee = Callee::of(&spec).ok_or_else(|| no_call(id))?;
        if spec.elements.is_some_and(|elements| !elements.sources.is_empty()) {
            return Err(Error::Usage(format!(
                "job {id} calls {} once for each element; pick it up as a map",
                callee.function
            )));
        }
        Ok(JobHandle::of_call(self.clone(), id, callee, None))
    }
}
