//! Calling a function that workers offer: one argument there, one value back.

use crate::client::Client;
use crate::codec::{Codec, Unwritable};
use crate::echo::{Copying, Echo};
use crate::error::{Error, Result};
use crate::handle::JobHandle;
use crate::job::JobBuilder;
use crate::settings::settings;
use crate::value::{Callee, Value};
use bytes::Bytes;
use serde::Serialize;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;

/// A call that is not made yet. Awaiting it makes it and waits for the value; [`Call::submit`] returns as soon as it is
/// on the coordinator's disk.
///
/// Awaiting ends with [`Error::Call`] if there is no value: the function failed, was stopped, or lost its worker too often;
/// see [`CallError`](crate::CallError). The other errors are those of [`Client::submit`], and [`Error::Unreachable`] if the
/// coordinator stays away for longer than this client's patience; the call goes on then, and can be picked up.
#[must_use = "a call does nothing until it is awaited or submitted"]
pub struct Call<'a, T> {
    client: Client,
    codec: Codec,
    write: Write<'a>,
    /// All but the argument.
    job: JobBuilder,
    echo: Option<Echo>,
    returns: PhantomData<fn() -> T>,
}

/// Writes the argument, once it is known how.
type Write<'a> = Box<dyn FnOnce(Codec) -> std::result::Result<Bytes, Unwritable> + Send + 'a>;

impl<T> fmt::Debug for Call<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({:?} as {})", self.job, self.codec)
    }
}

impl Client {
    /// Calls a function of any worker that offers it: with one argument, which is a tuple, list or structure if the
    /// function takes more.
    ///
    /// ```no_run
    /// # async fn tour(client: taskq_client::Client) -> taskq_client::Result<()> {
    /// let n: u64 = client.call("fib", 30).await?;
    /// let power: f64 = client.call("pow", (2.0, 10)).retries(2).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The argument has at most 256 MiB when it is written, and so has the value. If no worker serves the function, the
    /// call waits for one.
    pub fn call<'a, T>(
        &self,
        function: impl Into<String>,
        argument: impl Serialize + Send + 'a,
    ) -> Call<'a, T> {
        Call {
            client: self.clone(),
            codec: Codec::default(),
            write: Box::new(move |codec| codec.encode(&argument)),
            job: JobBuilder::call_encoded(function, Codec::default().name(), Bytes::new()),
            echo: None,
            returns: PhantomData,
        }
    }
}

impl<'a, T> Call<'a, T> {
    /// How argument and value are written. Default: JSON.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Another call with the same key, function and argument is the same job; with others it is refused.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.change(|job| job.idempotency_key(key))
    }

    /// What the call prints is copied to this process's own standard output and error: live, for as long as the handle
    /// or its future exists, and all of it before the result is handed out.
    pub fn echo(self) -> Self {
        self.echo_to(Echo::default())
    }

    /// The same to somewhere else.
    pub fn echo_to(mut self, echo: Echo) -> Self {
        self.echo = Some(echo);
        self
    }

    settings!();

    fn change(mut self, change: impl FnOnce(JobBuilder) -> JobBuilder) -> Self {
        self.job = change(self.job);
        self
    }

    /// Submits it. When this returns, the call is on the coordinator's disk, and outlives this process.
    ///
    /// # Errors
    /// The argument cannot be written, or as for [`Client::submit`].
    pub fn submit(self) -> impl Future<Output = Result<JobHandle<T>>> + Send + use<T> {
        let Self { client, codec, write, job, echo, returns: _ } = self;
        let job = job.with_argument(codec, write(codec));
        async move { client.submit_call(job, echo.as_ref()).await }
    }
}

impl<T: Value> IntoFuture for Call<'_, T> {
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let submitted = self.submit();
        Box::pin(async move { submitted.await?.await })
    }
}

impl Client {
    /// Submits a job of one call.
    pub(crate) async fn submit_call<T>(&self, job: JobBuilder, echo: Option<&Echo>) -> Result<JobHandle<T>> {
        let callee = Callee::of(&job.spec)
            .ok_or_else(|| Error::Usage("a command is no call; submit it by Client::submit".into()))?;
        let id = self.submit(job).await?.id();
        let copying = echo.map(|echo| Copying::begin(self, id, echo));
        Ok(JobHandle::of_call(self.clone(), id, callee, copying))
    }
}
