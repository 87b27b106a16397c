//! Streams of a job: results, output, changes. Each reads what is durable from a cursor, then waits for more.
//! A client that does not read stops its own stream and nothing else: one message is buffered.

mod log;
#[cfg(test)]
mod tests;

use std::time::Duration;

use taskq_core::id::{JobId, Rank};
use taskq_proto::v1 as pb;
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    Context,
    convert::{
        indices,
        view::{self, Inline},
    },
    status::Failure,
};
use log::Log;

/// Ends in one batch.
const BATCH: usize = 1_000;
/// Between two looks of a watcher at a job that has not ended.
const WATCH_PAUSE: Duration = Duration::from_millis(100);

/// Where a stream's messages go.
pub(super) type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// The client has hung up, or the stream has said all.
struct Over;

impl Context {
    /// Ends of tasks, in rank order.
    pub(super) async fn results(self, request: pb::ResultsRequest, out: Sender<pb::ResultBatch>) {
        let job = JobId(request.job_id);
        let mut changed = self.handle.follow(job);
        let mut rank = Rank(request.cursor);
        loop {
            changed.mark_unchanged();
            let inline = Inline { output: request.with_output, value: request.with_values };
            let read =
                self.read(move |store| Ok((store.job_ended(job)?, store.ends(job, rank, BATCH)?))).await;
            let (ended, ends) = match read {
                Ok(read) => read,
                Err(failure) => return fail(&out, failure).await,
            };
            rank = Rank(rank.0 + ends.len() as u64);
            let complete = ended.is_some_and(|ended| rank.0 >= u64::from(ended.counts.total()));
            let more = !ends.is_empty();
            if more || complete {
                let tasks = ends.iter().map(|task| view::ended_task(job, task, inline)).collect();
                let batch = pb::ResultBatch { tasks, cursor: rank.0, complete };
                if out.send(Ok(batch)).await.is_err() || complete {
                    return;
                }
            }
            if !more && (!request.follow || self.news(&mut changed, &out).await.is_err()) {
                return;
            }
        }
    }

    /// Output, in commit order.
    pub(super) async fn logs(self, request: pb::LogsRequest, out: Sender<pb::LogChunk>) {
        let job = JobId(request.job_id);
        let wanted = match indices(&request.indices) {
            Ok(wanted) => wanted,
            Err(invalid) => return fail(&out, invalid.into()).await,
        };
        let mut changed = self.handle.follow(job);
        let mut log = Log::new(job, wanted, request.attempt, request.cursor);
        if request.tail_from_now
            && let Err(failure) = self.skip(&mut log).await
        {
            return fail(&out, failure).await;
        }
        loop {
            changed.mark_unchanged();
            let place = log.place();
            let page = match self.read(move |store| place.page(store)).await {
                Ok(page) => page,
                Err(failure) => return fail(&out, failure).await,
            };
            let (more, over) = (page.more, page.over);
            for chunk in log.chunks(page) {
                if out.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
            if more {
                continue;
            }
            if over || !request.follow || self.news(&mut changed, &out).await.is_err() {
                return;
            }
        }
    }

    /// Moves a log to the end of what is there.
    async fn skip(&self, log: &mut Log) -> Result<(), Failure> {
        loop {
            let place = log.place();
            let page = self.read(move |store| place.page(store)).await?;
            let more = page.more;
            log.chunks(page);
            if !more {
                return Ok(());
            }
        }
    }

    /// The job now, after changes, and at once when it has ended.
    pub(super) async fn watch(self, request: pb::WatchRequest, out: Sender<pb::Job>) {
        self.watch_every(WATCH_PAUSE, request, out).await;
    }

    async fn watch_every(self, pause: Duration, request: pb::WatchRequest, out: Sender<pb::Job>) {
        let id = JobId(request.job_id);
        let mut end = self.handle.await_ends();
        end.add([id]);
        let mut ended = Vec::new();
        let mut said = None;
        loop {
            let job = match self.get(id).await {
                Ok(job) => job,
                Err(failure) => return fail(&out, failure).await,
            };
            let over = job.ended_unix_ms != 0;
            if said != Some(job.revision) {
                said = Some(job.revision);
                if out.send(Ok(job)).await.is_err() {
                    return;
                }
            }
            if over {
                return;
            }
            // Starts are not written, so they wake nobody: look again after the pause in any case.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = end.ended(&mut ended) => {}
                () = self.stopped() => return,
                () = out.closed() => return,
            }
        }
    }

    /// Waits until something of the job was committed.
    async fn news<T>(
        &self,
        changed: &mut tokio::sync::watch::Receiver<()>,
        out: &Sender<T>,
    ) -> Result<(), Over> {
        // Cancel-safe: a mark that loses the race stays set.
        tokio::select! {
            marked = changed.changed() => marked.map_err(|_| Over),
            () = out.closed() => Err(Over),
            () = self.stopped() => {
                let stopping = Status::unavailable("the coordinator is stopping; go on from the last cursor");
                // Whether or not it still arrives, the stream is over.
                let _sent = out.send(Err(stopping)).await;
                Err(Over)
            }
        }
    }
}

pub(super) async fn fail<T>(out: &Sender<T>, failure: Failure) {
    // A client that has hung up needs no reason.
    let _sent = out.send(Err(failure.into())).await;
}
