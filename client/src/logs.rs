//! Captured output of a job's tasks, each byte once, over as many connections as it takes.
//!
//! The coordinator knows what one connection has brought, not what earlier ones had: that is kept here, so that what
//! is sent again is not shown again, and what is missing where two connections meet is told.

use crate::client::Client;
use crate::error::Result;
use crate::follow::Feed;
use crate::job::JobId;
use crate::model::{LogChunk, Span};
use std::collections::HashMap;
use taskq_proto::v1::LogsRequest;

/// Streams whose length so far is remembered: some ten megabytes. Of more, all are forgotten, and a new connection is
/// taken at its word.
const STREAMS: usize = 200_000;

/// Which output of a job.
#[derive(Debug, Clone, Default)]
pub struct LogsQuery {
    /// Of these tasks; empty means all.
    pub indices: Vec<Span>,
    /// Goes on until every selected task has ended.
    pub follow: bool,
    /// Without what is there already.
    pub tail_from_now: bool,
    /// Of this attempt; 0 means every attempt, one after the other.
    pub attempt: u32,
    /// Goes on after the chunk that had this cursor.
    pub cursor: u64,
}

/// Captured output as it comes.
#[derive(Debug)]
pub struct Logs {
    client: Client,
    request: LogsRequest,
    feed: Feed<LogChunk>,
    reached: Reached,
    over: bool,
}

impl Logs {
    /// The next chunk. After an error there is nothing more; [`Logs::cursor`] says where to go on.
    pub async fn next(&mut self) -> Option<Result<LogChunk>> {
        while !self.over {
            let (client, request) = (&self.client, &self.request);
            let open = || {
                let (client, request) = (client.clone(), request.clone());
                async move { client.open(|mut jobs| async move { jobs.logs(request).await }).await }
            };
            match self.feed.next(open).await {
                Ok(Some(chunk)) => {
                    self.request.cursor = chunk.cursor;
                    // From here on the cursor says what to skip; "now" would be a later moment.
                    self.request.tail_from_now = false;
                    if let Some(unseen) = self.reached.unseen(chunk) {
                        return Some(Ok(unseen));
                    }
                }
                Ok(None) => self.over = true,
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// Of the last chunk; a query with it goes on after that chunk.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.request.cursor
    }
}

/// How far each stream has been shown: by index, attempt and which.
#[derive(Debug)]
struct Reached {
    ends: HashMap<(u32, u32, i32), u64>,
    /// Streams that are not there begin at 0.
    from_start: bool,
}

impl Reached {
    /// What of a chunk was not shown yet, and what is missing before it; `None` if nothing is.
    fn unseen(&mut self, mut chunk: LogChunk) -> Option<LogChunk> {
        let stream = (chunk.index, chunk.attempt, chunk.stream);
        let reached = match self.ends.get(&stream) {
            Some(end) => *end,
            None if self.from_start => 0,
            None => chunk.offset.saturating_sub(chunk.missing_bytes),
        };
        let end = chunk.offset.saturating_add(chunk.data.len() as u64);
        if end <= reached {
            return None;
        }
        chunk.missing_bytes = chunk.offset.saturating_sub(reached);
        let repeated = reached.saturating_sub(chunk.offset);
        // Less than the chunk is long, so it fits.
        let _repeated = chunk.data.split_to(usize::try_from(repeated).unwrap_or(chunk.data.len()));
        chunk.offset += repeated;
        if self.ends.len() >= STREAMS && !self.ends.contains_key(&stream) {
            self.ends.clear();
            self.from_start = false;
        }
        self.ends.insert(stream, end);
        Some(chunk)
    }
}

impl Client {
    /// Captured output of a job's tasks.
    pub fn logs(&self, id: impl Into<JobId>, query: LogsQuery) -> Logs {
        let LogsQuery { indices, follow, tail_from_now, attempt, cursor } = query;
        let request = LogsRequest { job_id: id.into().0, indices, follow, tail_from_now, attempt, cursor };
        let reached = Reached { ends: HashMap::new(), from_start: cursor == 0 && !tail_from_now };
        Logs { client: self.clone(), request, feed: Feed::new(self), reached, over: false }
    }
}
