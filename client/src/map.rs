//! One job that calls a function once for each of many arguments: a future of all values, and their results one by one.

mod results;

pub use results::{Element, Elementwise, MapResults};

use crate::client::Client;
use crate::echo::Copying;
use crate::error::{Error, Result};
use crate::handle::JobHandle;
use crate::job::JobId;
use crate::model::{Acted, Counts, Span};
use crate::progress::Progresses;
use crate::results::ResultsQuery;
use crate::value::{Callee, Value, no_call};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

/// What a map reads of its tasks.
const VALUES: ResultsQuery = ResultsQuery { cursor: 0, with_output: false, with_values: true, follow: true };

/// A map at its coordinator: the future of all its values in the order of the arguments, or of the first error in that
/// order once all have ended. Dropping it changes nothing there; it can be picked up by its number.
pub struct MapHandle<R> {
    client: Client,
    /// `None` if there were no arguments: then there is no job.
    job: Option<Job>,
    copying: Option<Arc<Copying>>,
    waiting: Mutex<Option<Waiting<R>>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) callee: Arc<Callee>,
    /// Which tasks it has.
    pub(crate) spans: Vec<Span>,
}

/// In a lock that is never taken, so that a handle can be shared.
type Waiting<R> = Pin<Box<dyn Future<Output = Result<Vec<R>>> + Send>>;

impl<R> fmt::Debug for MapHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MapHandle({:?})", self.id())
    }
}

impl<R> MapHandle<R> {
    pub(crate) fn new(client: Client, job: Option<Job>, copying: Option<Arc<Copying>>) -> Self {
        Self { client, job, copying, waiting: Mutex::new(None) }
    }

    /// Its number; `None` if there were no arguments, and so nothing to do.
    #[must_use]
    pub fn id(&self) -> Option<JobId> {
        self.job.as_ref().map(|job| job.id)
    }

    /// The job; `None` if there were no arguments.
    #[must_use]
    pub fn job(&self) -> Option<JobHandle> {
        self.id().map(|id| self.client.attach(id))
    }

    /// How many values there will be.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.job.iter().flat_map(|job| &job.spans).map(|span| span.count).sum()
    }

    /// How many of its tasks are in which state.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn counts(&self) -> Result<Counts> {
        match self.job() {
            Some(job) => Ok(job.job().await?.counts.unwrap_or_default()),
            None => Ok(Counts::default()),
        }
    }

    /// Cancels what has not ended; `None` if there were no arguments.
    ///
    /// # Errors
    /// As for [`JobHandle::cancel`].
    pub async fn cancel(&self) -> Result<Option<Acted>> {
        match self.job() {
            Some(job) => job.cancel().await.map(Some),
            None => Ok(None),
        }
    }

    /// What its calls say of their progress; `None` if there were no arguments.
    #[must_use]
    pub fn progress(&self) -> Option<Progresses> {
        self.job().map(|job| job.progress())
    }
}

impl<R: Value> MapHandle<R> {
    /// Each result once, in the order in which they are committed. `cursor` is how many were seen before, 0 for none: it
    /// is in each [`Element`], and is what another process needs to go on.
    pub fn results(&self, cursor: u64) -> MapResults<R> {
        MapResults::new(self.client.clone(), self.job.clone(), cursor)
    }

    /// Each result once, in the order of the arguments.
    pub fn in_order(&self) -> Elementwise<R> {
        let in_order = |job: &Job| self.client.in_order_of(job.id, job.spans.clone(), VALUES);
        Elementwise::new(self.client.clone(), self.job.clone(), self.job.as_ref().map(in_order))
    }

    fn begin(&mut self) -> Waiting<R> {
        let mut results = self.results(0);
        let room = usize::try_from(self.total()).unwrap_or(0);
        // If copying failed that is told once, and the values when this is awaited again.
        let copying = self.copying.take();
        Box::pin(async move {
            let mut values: Vec<(u32, R)> = Vec::with_capacity(room);
            let mut failed: Option<(u32, Error)> = None;
            while let Some(element) = results.next().await {
                let element = element?;
                match element.value {
                    Ok(value) if failed.is_none() => values.push((element.index, value)),
                    Ok(_) => {}
                    Err(error) => {
                        // Nobody will see the values any more.
                        values = Vec::new();
                        if failed.as_ref().is_none_or(|(index, _)| element.index < *index) {
                            failed = Some((element.index, error.into()));
                        }
                    }
                }
            }
            if let Some(copying) = copying {
                copying.done().await?;
            }
            if let Some((_, error)) = failed {
                return Err(error);
            }
            values.sort_unstable_by_key(|(index, _)| *index);
            Ok(values.into_iter().map(|(_, value)| value).collect())
        })
    }
}

impl<R: Value> Future for MapHandle<R> {
    type Output = Result<Vec<R>>;

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
    /// A handle on a map of another process or another day, whose function returns an `R` for each argument.
    ///
    /// ```no_run
    /// # async fn tour(client: taskq_client::Client, id: u64, seen: u64) -> taskq_client::Result<()> {
    /// // Those that have been seen before are not told again.
    /// let mut results = client.pick_up_map::<u64>(id).await?.results(seen);
    /// while let Some(element) = results.next().await {
    ///     let element = element?;
    ///     println!("{}: {:?}; seen: {}", element.index, element.value, element.cursor);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// There is no such job (any more), or it runs a command.
    pub async fn pick_up_map<R>(&self, id: impl Into<JobId>) -> Result<MapHandle<R>> {
        let id = id.into();
        let job = self.get(id).await?;
        let spec = job.spec.unwrap_or_default();
        let callee = Callee::of(&spec).ok_or_else(|| no_call(id))?;
        let only = spec.elements.map(|elements| elements.only).unwrap_or_default();
        let count = job.counts.map_or(0, |counts| counts.total);
        let spans = if only.is_empty() { vec![Span { first: 0, count }] } else { only };
        Ok(MapHandle::new(self.clone(), Some(Job { id, callee, spans }), None))
    }
}
