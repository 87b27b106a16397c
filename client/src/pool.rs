//! A pool of workers, with the shape of Python's `multiprocessing.Pool`. The workers are those of the coordinator: what
//! is in the pool is what was submitted through it.

mod outstanding;

use crate::client::Client;
use crate::codec::Codec;
use crate::echo::{Copying, Echo};
use crate::elements::{Elements, Source};
use crate::error::{Error, Result};
use crate::handle::JobHandle;
use crate::job::{JobBuilder, JobId};
use crate::map::{self, Elementwise, MapHandle, MapResults};
use crate::model::{Span, select};
use crate::settings::settings;
use crate::value::{Callee, Value};
use bytes::Bytes;
use outstanding::Outstanding;
use serde::Serialize;
use std::sync::Arc;

/// Jobs that one message cancels.
const CANCELLED_AT_ONCE: usize = 10_000;

/// Calls functions, and knows what of it has not ended.
///
/// ```no_run
/// # async fn tour(client: taskq_client::Client) -> taskq_client::Result<()> {
/// let pool = taskq_client::Pool::new(&client);
/// let squares: Vec<u64> = pool.map("square", 0..1_000_000).await?;
/// let one: u64 = pool.apply("square", 7).await?;
/// pool.close();
/// pool.join().await?;
/// # Ok(()) }
/// ```
///
/// Dropping it changes nothing at the coordinator: what was submitted goes on.
#[derive(Debug)]
#[must_use]
pub struct Pool {
    client: Client,
    /// All but function and argument.
    job: JobBuilder,
    codec: Codec,
    echo: Option<Echo>,
    outstanding: Arc<Outstanding>,
}

impl Pool {
    /// A pool without anything in it.
    pub fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            job: JobBuilder::call_encoded("", Codec::default().name(), Bytes::new()),
            codec: Codec::default(),
            echo: None,
            outstanding: Arc::default(),
        }
    }

    /// How arguments and values are written. Default: JSON.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// What the calls print is copied to this process's own standard output and error: live, and all of it before a
    /// result is handed out, and before [`Pool::join`] returns.
    pub fn echo(self) -> Self {
        self.echo_to(Echo::default())
    }

    /// The same to somewhere else.
    pub fn echo_to(mut self, echo: Echo) -> Self {
        self.echo = Some(echo);
        self
    }

    /// The most calls of one map that run at once. Default: no limit but the workers' slots.
    pub fn max_parallel(self, calls: u32) -> Self {
        self.change(|job| job.max_parallel(calls))
    }

    /// When more than this many calls of one map have failed, those that have not begun are skipped: their results are
    /// [`Ending::Skipped`](crate::Ending::Skipped). Default: no limit, all are made.
    pub fn max_fails(self, calls: u32) -> Self {
        self.change(|job| job.max_fails(calls))
    }

    settings!();

    fn change(mut self, change: impl FnOnce(JobBuilder) -> JobBuilder) -> Self {
        self.job = change(self.job);
        self
    }

    /// Calls a function and waits for its value.
    ///
    /// # Errors
    /// The pool is closed, or as for [`Client::submit`], or [`Error::Call`].
    pub async fn apply<R: Value>(
        &self,
        function: impl Into<String>,
        argument: impl Serialize + Send,
    ) -> Result<R> {
        self.apply_async(function, argument).await?.await
    }

    /// Calls a function. When this returns, the call is on the coordinator's disk.
    ///
    /// # Errors
    /// The pool is closed, or as for [`Client::submit`].
    pub async fn apply_async<R>(
        &self,
        function: impl Into<String>,
        argument: impl Serialize + Send,
    ) -> Result<JobHandle<R>> {
        self.outstanding.is_open()?;
        let argument_bytes = self.codec.encode(&argument);
        drop(argument);
        let job = self.job.clone().with_function(function).with_argument(self.codec, argument_bytes);
        let (id, callee, copying) = self.submit(job).await?;
        Ok(JobHandle::of_call(self.client.clone(), id, callee, copying))
    }

    /// Calls a function once for each item, and waits for all values, in the order of the items.
    ///
    /// It waits for all even if one has failed: who wants to hear of that at once takes [`Pool::imap_unordered`], and who
    /// wants it to end early says [`Pool::max_fails`].
    ///
    /// # Errors
    /// As for [`Pool::map_async`], or [`Error::Call`]: the first error in the order of the items, once all have ended.
    pub async fn map<R: Value>(
        &self,
        function: impl Into<String>,
        items: impl IntoIterator<Item: Serialize> + Send,
    ) -> Result<Vec<R>> {
        self.map_async(function, items).await?.await
    }

    /// Calls a function once for each item. However many there are, it is one job: when this returns, it is on the
    /// coordinator's disk, and how the items travel to workers is not the caller's concern.
    ///
    /// # Errors
    /// The pool is closed, an item cannot be written or has more than 1 MiB, or as for [`Client::submit`].
    pub fn map_async<R>(
        &self,
        function: impl Into<String>,
        items: impl IntoIterator<Item: Serialize>,
    ) -> impl Future<Output = Result<MapHandle<R>>> + Send {
        // Before anything waits, so that the items need not be sent between threads.
        let job = self.outstanding.is_open().and_then(|()| self.map_job(function.into(), items));
        async move {
            let Some((job, count)) = job? else {
                return Ok(MapHandle::new(self.client.clone(), None, None));
            };
            let (id, callee, copying) = self.submit(job).await?;
            let job = map::Job { id, callee, spans: vec![Span { first: 0, count }] };
            Ok(MapHandle::new(self.client.clone(), Some(job), copying))
        }
    }

    /// Calls a function once for each item; values come in the order of the items, each as soon as its turn has come.
    ///
    /// # Errors
    /// As for [`Pool::map_async`].
    pub async fn imap<R: Value>(
        &self,
        function: impl Into<String>,
        items: impl IntoIterator<Item: Serialize> + Send,
    ) -> Result<Elementwise<R>> {
        Ok(self.map_async(function, items).await?.in_order())
    }

    /// Calls a function once for each item; results come with their index in the order in which they end.
    ///
    /// # Errors
    /// As for [`Pool::map_async`].
    pub async fn imap_unordered<R: Value>(
        &self,
        function: impl Into<String>,
        items: impl IntoIterator<Item: Serialize> + Send,
    ) -> Result<MapResults<R>> {
        Ok(self.map_async(function, items).await?.results(0))
    }

    /// Like [`Pool::map`] for functions of several arguments: each item is a tuple of them.
    ///
    /// # Errors
    /// As for [`Pool::map`].
    pub async fn starmap<R: Value>(
        &self,
        function: impl Into<String>,
        items: impl IntoIterator<Item: Arguments> + Send,
    ) -> Result<Vec<R>> {
        self.map(function, items).await
    }

    /// Nothing more can be called through this pool. What was called goes on.
    pub fn close(&self) {
        self.outstanding.close();
    }

    /// Waits until all that was called has ended, and all output that is copied is here. How the calls ended is told by
    /// their handles.
    ///
    /// # Errors
    /// The pool was not closed, the coordinator does not answer, or output could not be copied.
    pub async fn join(&self) -> Result<()> {
        if self.outstanding.is_open().is_ok() {
            return Err(Error::Usage(
                "the pool is still open; close or terminate it before joining it".into(),
            ));
        }
        while let Some(id) = self.outstanding.any() {
            match self.client.end_of(id).await {
                // What was removed has ended before.
                Ok(_) | Err(Error::NotFound(_) | Error::Gone(_)) => self.outstanding.ended(id),
                Err(error) => return Err(error),
            }
        }
        self.outstanding.all_copied().await
    }

    /// Cancels all that was called through this pool and has not ended, and closes it. Returns when that is durably
    /// intended; [`Pool::join`] waits until it has happened.
    ///
    /// # Errors
    /// The coordinator refused or did not answer.
    pub async fn terminate(&self) -> Result<()> {
        let ids = self.outstanding.terminate();
        for ids in ids.chunks(CANCELLED_AT_ONCE) {
            for acted in self.client.cancel(select(ids.iter().copied()), false).await? {
                if acted.error_code == 0 {
                    continue;
                }
                match self.client.error_inside(acted.error_code, &acted.note) {
                    // What was removed needs no cancelling.
                    Error::NotFound(_) | Error::Gone(_) => self.outstanding.ended(JobId(acted.job_id)),
                    error => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// How many jobs were submitted through this pool and have not ended, as far as is known here.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    async fn submit(&self, job: JobBuilder) -> Result<(JobId, Arc<Callee>, Option<Arc<Copying>>)> {
        let callee = Callee::of(&job.spec).expect("made as a call");
        let id = self.client.submit(job).await?.id();
        let copying = self.echo.as_ref().map(|echo| Copying::begin(&self.client, id, echo));
        match Outstanding::enter(&self.outstanding, &self.client, id, copying.clone()) {
            Ok(()) => Ok((id, callee, copying)),
            // It was terminated meanwhile, which this call has missed.
            Err(error) => {
                self.client.cancel(select([id]), false).await?;
                Err(error)
            }
        }
    }

    /// `None` if there are no items.
    fn map_job(
        &self,
        function: String,
        items: impl IntoIterator<Item: Serialize>,
    ) -> Result<Option<(JobBuilder, u32)>> {
        let mut arguments = Source::arguments();
        for item in items {
            let index = arguments.len();
            let bytes = self.codec.encode(&item);
            let bytes = bytes.map_err(|problem| Error::Usage(format!("item {index}: {problem}")))?;
            arguments.push(&[bytes])?;
        }
        if arguments.is_empty() {
            return Ok(None);
        }
        let job = self.job.clone().with_function(function).with_argument(self.codec, Ok(Bytes::new()));
        let job = job.elements(Elements::new().source(arguments));
        let count = job.total()?;
        Ok(Some((job, count)))
    }
}

/// The arguments of a function that takes several: a tuple of one to eight.
pub trait Arguments: Serialize {}

macro_rules! tuples {
    ($(($($name:ident),*))*) => {$(
        impl<$($name: Serialize),*> Arguments for ($($name,)*) {}
    )*};
}

tuples! { (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) (A, B, C, D, E, F, G) (A, B, C, D, E, F, G, H) }
