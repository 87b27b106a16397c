//! The line to the coordinator: names what is waited for, and tells what has ended.

use super::table::{Ended, Table};
use crate::client::{Client, Incoming};
use crate::error::{Error, Result};
use crate::job::JobId;
use crate::retry::Effort;
use std::sync::Arc;
use taskq_proto::v1::{EndsReply, EndsRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Runs until the last client that could enter something is gone.
pub(super) async fn run(client: Client, table: Arc<Table>, woken: mpsc::Receiver<()>) {
    let effort = client.effort(client.options().patience);
    let mut line = Line { client, table, woken, effort };
    while line.woken.recv().await.is_some() {
        while !line.table.is_empty() {
            match line.converse().await {
                Ok(Over::Renew) => {}
                Ok(Over::Gone) => return,
                // Nobody is there to be told; the next who waits opens a stream.
                Err(_) if line.table.is_empty() => {}
                Err(error) => line.failed(error).await,
            }
        }
    }
}

/// Why a stream was ended from this side.
enum Over {
    /// It carries too much that nobody waits for.
    Renew,
    /// Nobody can wait any more.
    Gone,
}

struct Line {
    client: Client,
    table: Arc<Table>,
    woken: mpsc::Receiver<()>,
    effort: Effort,
}

/// Also when the runtime ends and takes this with it.
impl Drop for Line {
    fn drop(&mut self) {
        self.table.close();
    }
}

impl Line {
    /// One stream, for as long as it lasts.
    async fn converse(&mut self) -> Result<Over> {
        self.table.begin();
        let (requests, receiver) = mpsc::channel(1);
        // Said before the stream is opened: a coordinator may answer only when it was asked something.
        let job_ids = self.table.name();
        requests.try_send(EndsRequest { job_ids }).expect("room for one");
        let receiver = ReceiverStream::new(receiver);
        let mut replies = self.client.open(|mut jobs| async move { jobs.ends(receiver).await }).await?;
        self.effort.answered();
        loop {
            if self.table.is_overgrown() {
                return Ok(Over::Renew);
            }
            tokio::select! {
                // The table remembers what is to be named, so nothing is lost if another arm is faster.
                room = requests.reserve(), if self.table.has_unnamed() => match room {
                    Ok(room) => {
                        let job_ids = self.table.name();
                        if !job_ids.is_empty() {
                            room.send(EndsRequest { job_ids });
                        }
                    }
                    // The stream has ended, and its other half says why.
                    Err(_) => return Err(self.last_words(&mut replies).await),
                },
                reply = replies.next() => match reply? {
                    Some(reply) => {
                        self.effort.worked();
                        self.tell(reply);
                    }
                    None => return Err(self.client.ended_early()),
                },
                word = self.woken.recv() => if word.is_none() {
                    return Ok(Over::Gone);
                },
            }
        }
    }

    fn tell(&self, reply: EndsReply) {
        let waiting = self.table.take(reply.ended.iter().map(|ended| JobId(ended.job_id)));
        for (ended, waiting) in reply.ended.into_iter().zip(waiting) {
            let told = if ended.error_code == 0 {
                let (job, state, counts) =
                    (JobId(ended.job_id), ended.state(), ended.counts.unwrap_or_default());
                Ok(Ended { job, state, counts, task: ended.task })
            } else {
                Err(self.client.error_inside(ended.error_code, &ended.error_message))
            };
            let mut waiting = waiting.into_iter();
            // Mostly one waits, and gets it without a copy.
            let last = waiting.next_back();
            for (_, tell) in waiting {
                tell.tell(told.clone());
            }
            if let Some((_, tell)) = last {
                tell.tell(told);
            }
        }
    }

    /// Pauses before the next try; if none is any use, all who wait are told so.
    async fn failed(&mut self, error: Error) {
        if let Err(error) = self.effort.after(error).await {
            for (_, tell) in self.table.take_all().into_iter().flatten() {
                tell.tell(Err(error.clone()));
            }
            self.effort = self.client.effort(self.client.options().patience);
        }
    }

    /// What still comes of a stream that takes nothing more.
    async fn last_words(&self, replies: &mut Incoming<EndsReply>) -> Error {
        loop {
            match replies.next().await {
                Ok(Some(reply)) => self.tell(reply),
                Ok(None) => return self.client.ended_early(),
                Err(error) => return error,
            }
        }
    }
}
