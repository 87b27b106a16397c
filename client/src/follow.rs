//! Streams that outlive a lost connection: what is common to all, and a job's changes.

use crate::client::{Client, Incoming};
use crate::error::{Error, Result};
use crate::job::JobId;
use crate::model::{Job, is_terminal};
use crate::retry::Effort;
use std::fmt;
use std::pin::Pin;
use taskq_proto::v1::WatchRequest;

/// A stream that is being opened.
type Opening<T> = Pin<Box<dyn Future<Output = Result<Incoming<T>>> + Send>>;

/// One stream of messages over as many connections as it takes. Knows no cursors: whoever opens it anew says
/// from where.
pub(crate) struct Feed<T> {
    /// Outlives a call that was dropped: what is under way is not asked for again.
    opening: Option<Opening<T>>,
    stream: Option<Incoming<T>>,
    effort: Effort,
    /// Whether the present connection has brought something.
    progressed: bool,
}

impl<T> fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (opening, open) = (self.opening.is_some(), self.stream.is_some());
        f.debug_struct("Feed").field("opening", &opening).field("open", &open).finish_non_exhaustive()
    }
}

impl<T> Feed<T> {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            opening: None,
            stream: None,
            effort: client.effort(client.options().patience),
            progressed: false,
        }
    }

    /// The next message, or `None` if the coordinator ended the stream in good order. May be dropped at any time.
    pub(crate) async fn next<F>(&mut self, open: impl Fn() -> F) -> Result<Option<T>>
    where
        F: Future<Output = Result<Incoming<T>>> + Send + 'static,
    {
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    let opened = self.opening.get_or_insert_with(|| Box::pin(open())).await;
                    self.opening = None;
                    match opened {
                        Ok(stream) => {
                            self.effort.answered();
                            self.progressed = false;
                            self.stream.insert(stream)
                        }
                        Err(error) => {
                            self.effort.after(error).await?;
                            continue;
                        }
                    }
                }
            };
            match stream.next().await {
                Ok(Some(message)) => {
                    self.progressed = true;
                    self.effort.worked();
                    return Ok(Some(message));
                }
                Ok(None) => {
                    self.stream = None;
                    return Ok(None);
                }
                // Cut off for being slow, but not stuck: go on from the cursor.
                Err(Error::Lagged(_)) if self.progressed => self.stream = None,
                Err(error) => {
                    self.stream = None;
                    self.effort.after(error).await?;
                }
            }
        }
    }

    /// The stream ended, but its owner knows that there is more: the next call opens it anew.
    pub(crate) async fn ended_early(&mut self, client: &Client) -> Result<()> {
        self.effort.after(client.ended_early()).await
    }
}

/// A job, each time it changes.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    job: JobId,
    feed: Feed<Job>,
    seen: Option<Job>,
    over: bool,
}

impl Watch {
    /// The job at once, and then after each change; nothing after its end or an error.
    pub async fn next(&mut self) -> Option<Result<Job>> {
        while !self.over {
            let (client, request) = (&self.client, WatchRequest { job_id: self.job.0 });
            let open = || {
                let client = client.clone();
                async move { client.open(|mut jobs| async move { jobs.watch(request).await }).await }
            };
            let ended = match self.feed.next(open).await {
                Ok(Some(job)) => {
                    self.over = is_terminal(job.state());
                    // A new connection begins with the job as it is, which may be known already.
                    if self.seen.as_ref() == Some(&job) {
                        continue;
                    }
                    self.seen = Some(job.clone());
                    return Some(Ok(job));
                }
                Ok(None) => self.feed.ended_early(&self.client).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                self.over = true;
                return Some(Err(error));
            }
        }
        None
    }
}

impl Client {
    /// A job as it changes, until it has ended.
    pub fn watch(&self, id: impl Into<JobId>) -> Watch {
        Watch { client: self.clone(), job: id.into(), feed: Feed::new(self), seen: None, over: false }
    }
}
