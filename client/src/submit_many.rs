//! Submitting jobs as fast as they are made: chunks of them, several in flight, each durable when answered.
//! A chunk that was not answered before the connection broke is sent again with its request id.

use crate::client::{Client, Incoming};
use crate::error::{Error, Result};
use crate::job::JobId;
use crate::model::JobSpec;
use crate::retry::Effort;
use crate::submit::{job_ids, request_id};
use prost::Message;
use std::collections::VecDeque;
use taskq_proto::v1::{SubmitRequest, SubmitStreamReply, submit_stream_reply};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};

/// Chunks that are not answered yet: enough that the disk syncs one while the next ones travel.
const WINDOW: usize = 8;
const CHUNK_JOBS: usize = 1_000;
const CHUNK_BYTES: usize = 256 << 10;
/// Numbers that wait for their reader.
const UNREAD: usize = 1_024;

/// The numbers of the jobs that were given to [`Client::submit_many`], in order. Dropping it stops submitting;
/// what was submitted until then stays.
#[derive(Debug)]
pub struct SubmitMany {
    ids: mpsc::Receiver<Result<JobId>>,
    task: AbortHandle,
}

impl SubmitMany {
    /// The number of the next job, once it is on disk. After the first error there is nothing more; jobs whose
    /// numbers came before it are safe.
    pub async fn next(&mut self) -> Option<Result<JobId>> {
        self.ids.recv().await
    }
}

impl Drop for SubmitMany {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Submits jobs while they come, and answers each when it is on disk. The jobs need to be complete
    /// ([`Client::prepare`]). To be called inside a tokio runtime.
    pub fn submit_many(&self, jobs: impl Stream<Item = JobSpec> + Send + Unpin + 'static) -> SubmitMany {
        let (out, ids) = mpsc::channel(UNREAD);
        let effort = self.effort(self.options().submit_patience);
        let mut pump = Pump {
            client: self.clone(),
            source: Source::new(jobs),
            unanswered: VecDeque::new(),
            effort,
            out,
        };
        let task = tokio::spawn(async move {
            if let Err(error) = pump.run().await {
                // If nobody reads any more, nobody needs to know.
                let _ = pump.out.send(Err(error)).await;
            }
        });
        SubmitMany { ids, task: task.abort_handle() }
    }
}

struct Pump<S> {
    client: Client,
    source: Source<S>,
    /// Sent or about to be, oldest first; each is answered in this order.
    unanswered: VecDeque<SubmitRequest>,
    effort: Effort,
    out: mpsc::Sender<Result<JobId>>,
}

impl<S: Stream<Item = JobSpec> + Unpin> Pump<S> {
    async fn run(&mut self) -> Result<()> {
        loop {
            // There is something to say before a connection is opened.
            if self.unanswered.is_empty() {
                match self.source.chunk().await {
                    Some(chunk) => self.unanswered.push_back(chunk),
                    None => return Ok(()),
                }
            }
            match self.converse().await {
                Ok(()) => return Ok(()),
                Err(error) => self.effort.after(error).await?,
            }
        }
    }

    /// One connection: sends anew what is unanswered, then goes on. Ends when everything is answered.
    async fn converse(&mut self) -> Result<()> {
        // Never full: there are at most WINDOW unanswered chunks.
        let (requests, receiver) = mpsc::channel(WINDOW);
        for request in &self.unanswered {
            // A failure to hand over shows as an error of the call.
            let _ = requests.try_send(request.clone());
        }
        let receiver = ReceiverStream::new(receiver);
        let mut replies =
            self.client.open(|mut jobs| async move { jobs.submit_stream(receiver).await }).await?;
        self.effort.answered();
        while !(self.unanswered.is_empty() && self.source.is_done()) {
            let may_send = self.unanswered.len() < WINDOW && !self.source.is_done();
            tokio::select! {
                chunk = self.source.chunk(), if may_send => {
                    if let Some(chunk) = chunk {
                        let _ = requests.try_send(chunk.clone());
                        self.unanswered.push_back(chunk);
                    }
                }
                reply = next_reply(&mut replies, &self.client), if !self.unanswered.is_empty() => {
                    let ids = self.take(reply?)?;
                    for id in ids {
                        if self.out.send(Ok(id)).await.is_err() {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, reply: SubmitStreamReply) -> Result<Vec<JobId>> {
        match reply.result {
            Some(submit_stream_reply::Result::Ok(reply)) => {
                self.effort.worked();
                let jobs = self.unanswered.pop_front().map_or(0, |request| request.jobs.len());
                job_ids(reply, jobs)
            }
            Some(submit_stream_reply::Result::Error(error)) => {
                Err(self.client.error_inside(error.code, &error.message))
            }
            None => Err(Error::Internal("the coordinator gave an empty answer to a submit".into())),
        }
    }
}

async fn next_reply(replies: &mut Incoming<SubmitStreamReply>, client: &Client) -> Result<SubmitStreamReply> {
    match replies.next().await? {
        Some(reply) => Ok(reply),
        None => Err(client.ended_early()),
    }
}

/// Gathers jobs into chunks.
struct Source<S> {
    jobs: S,
    gathered: Vec<JobSpec>,
    bytes: usize,
    ended: bool,
}

impl<S: Stream<Item = JobSpec> + Unpin> Source<S> {
    fn new(jobs: S) -> Self {
        Self { jobs, gathered: Vec::new(), bytes: 0, ended: false }
    }

    fn is_done(&self) -> bool {
        self.ended && self.gathered.is_empty()
    }

    /// As many jobs as there are at once, within the limits; waits for the first one. May be dropped at any
    /// time: what was gathered stays.
    async fn chunk(&mut self) -> Option<SubmitRequest> {
        while !self.ended && self.gathered.len() < CHUNK_JOBS && self.bytes < CHUNK_BYTES {
            let job = if self.gathered.is_empty() {
                self.jobs.next().await
            } else {
                tokio::select! {
                    biased;
                    job = self.jobs.next() => job,
                    () = std::future::ready(()) => break,
                }
            };
            match job {
                Some(job) => {
                    self.bytes += job.encoded_len();
                    self.gathered.push(job);
                }
                None => self.ended = true,
            }
        }
        if self.gathered.is_empty() {
            return None;
        }
        self.bytes = 0;
        let jobs = std::mem::take(&mut self.gathered);
        Some(SubmitRequest { jobs, request_id: request_id(), dry_run: false })
    }
}
