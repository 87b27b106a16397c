//! The connection to one coordinator, and how each call is made over it. What can be asked is in the files of
//! the verbs: submit, act, list, results, follow.

use crate::access::Access;
use crate::channel::{self, AuthChannel};
use crate::echo;
use crate::ends::Ends;
use crate::error::{At, Error, Result};
use crate::retry::{Effort, Options};
use std::sync::Arc;
use std::time::Duration;
use taskq_proto::v1::admin_client::AdminClient;
use taskq_proto::v1::jobs_client::JobsClient;
use tokio::sync::Semaphore;
use tonic::{Code, Response, Status, Streaming};

/// The largest message that is taken from the coordinator: a page of tasks with their output.
const LARGEST_MESSAGE: usize = 32 << 20;

pub(crate) type JobsCalls = JobsClient<AuthChannel>;
pub(crate) type AdminCalls = AdminClient<AuthChannel>;

/// A coordinator, as a client sees it. Cheap to clone; clones share one connection.
#[derive(Debug, Clone)]
pub struct Client {
    channel: AuthChannel,
    at: Arc<At>,
    options: Arc<Options>,
    ends: Arc<Ends>,
    echoes: Arc<Semaphore>,
}

impl Client {
    /// Connects, and makes sure that the coordinator is there and takes the token.
    ///
    /// # Errors
    /// It is not there, or does not take it. This first call is tried once only.
    pub async fn connect(access: &Access) -> Result<Self> {
        Self::connect_with(access, Options::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub async fn connect_with(access: &Access, options: Options) -> Result<Self> {
        let client = Self::lazy(access, options)?;
        let request = taskq_proto::v1::StatsRequest {};
        client.ask_admin(Duration::ZERO, |mut admin| async move { admin.stats(request).await }).await?;
        Ok(client)
    }

    /// A client that connects when it is first used. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// The address or token is malformed.
    pub fn lazy(access: &Access, options: Options) -> Result<Self> {
        let at = At {
            addr: access.addr.clone(),
            addr_from: access.origin.addr.clone(),
            token_from: access.origin.token.clone(),
        };
        Ok(Self {
            channel: channel::connect_lazy(access)?,
            at: Arc::new(at),
            options: Arc::new(options),
            ends: Arc::default(),
            echoes: Arc::new(Semaphore::new(echo::MOST)),
        })
    }

    /// How patient this client is.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Who waits for the ends of jobs by this client and its clones.
    pub(crate) fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The same connection, for what waits on behalf of others: it does not keep them waiting for itself.
    pub(crate) fn without_ends(&self) -> Self {
        Self { ends: Arc::default(), ..self.clone() }
    }

    /// Whose output may be copied live at the moment.
    pub(crate) fn echoes(&self) -> &Arc<Semaphore> {
        &self.echoes
    }

    pub(crate) fn effort(&self, patience: Duration) -> Effort {
        Effort::new(self.options.clone(), patience)
    }

    /// One call, tried again while the coordinator is away. Only for what may be repeated.
    pub(crate) async fn ask<T, F>(&self, patience: Duration, call: impl Fn(JobsCalls) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        self.retried(patience, || call(self.jobs())).await
    }

    /// The same, for the other service.
    pub(crate) async fn ask_admin<T, F>(
        &self,
        patience: Duration,
        call: impl Fn(AdminCalls) -> F,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        self.retried(patience, || call(self.admin())).await
    }

    /// One call, one try.
    pub(crate) async fn ask_once<T, F>(&self, call: impl FnOnce(JobsCalls) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        call(self.jobs()).await.map(Response::into_inner).map_err(|status| Error::of(&status, &self.at))
    }

    /// Opens a stream of messages, one try.
    pub(crate) async fn open<T, F>(&self, call: impl FnOnce(JobsCalls) -> F) -> Result<Incoming<T>>
    where
        F: Future<Output = std::result::Result<Response<Streaming<T>>, Status>>,
    {
        let stream = self.ask_once(call).await?;
        Ok(Incoming { stream, at: self.at.clone() })
    }

    /// The error that a reply carries inside.
    pub(crate) fn error_inside(&self, code: i32, message: &str) -> Error {
        Error::of_code(Code::from_i32(code), message, &self.at)
    }

    /// The error for a stream that ended before it was complete.
    pub(crate) fn ended_early(&self) -> Error {
        Error::of_code(Code::Unavailable, "the stream ended too early", &self.at)
    }

    async fn retried<T, F>(&self, patience: Duration, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        let mut effort = self.effort(patience);
        loop {
            match call().await {
                Ok(reply) => {
                    effort.worked();
                    return Ok(reply.into_inner());
                }
                Err(status) => effort.after(Error::of(&status, &self.at)).await?,
            }
        }
    }

    fn jobs(&self) -> JobsCalls {
        JobsClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    fn admin(&self) -> AdminCalls {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }
}

/// Messages of one call, as they come.
#[derive(Debug)]
pub(crate) struct Incoming<T> {
    stream: Streaming<T>,
    at: Arc<At>,
}

impl<T> Incoming<T> {
    /// The next one; `None` if the coordinator ended the stream in good order. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Result<Option<T>> {
        self.stream.message().await.map_err(|status| Error::of(&status, &self.at))
    }
}
