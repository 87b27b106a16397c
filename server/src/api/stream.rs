//! Streams of a job: results, output, changes. Each reads what is durable from a cursor, then waits for more.
//! A client that does not read stops its own stream and nothing else: one message is buffered.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use roaring::RoaringBitmap;
use taskq_core::{
    event::Stream,
    id::{JobId, Rank, TaskId},
};
use taskq_proto::v1 as pb;
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    Context,
    convert::{indices, view},
    status::Failure,
};
use crate::store::{EndedTask, Lookup, OutputPiece, Store};

/// Ends in one batch.
const BATCH: usize = 1_000;
/// The shortest time between two looks of a watcher.
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
            let with_output = request.with_output;
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
                let tasks = ends.iter().map(|task| view::ended_task(job, task, with_output)).collect();
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
            let taken = log.clone();
            let page = match self.read(move |store| taken.page(store)).await {
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
            let taken = log.clone();
            let page = self.read(move |store| taken.page(store)).await?;
            let more = page.more;
            log.chunks(page);
            if !more {
                return Ok(());
            }
        }
    }

    /// The job now and after each change.
    pub(super) async fn watch(self, request: pb::WatchRequest, out: Sender<pb::Job>) {
        let id = JobId(request.job_id);
        let mut changed = self.handle.follow(id);
        let mut said = None;
        loop {
            changed.mark_unchanged();
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
            // Starts are not written, so they wake nobody: look again after the pause in any case.
            tokio::select! {
                () = tokio::time::sleep(WATCH_PAUSE) => {}
                () = self.stopped() => return,
                () = out.closed() => return,
            }
            if over {
                return;
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

async fn fail<T>(out: &Sender<T>, failure: Failure) {
    // A client that has hung up needs no reason.
    let _sent = out.send(Err(failure.into())).await;
}

/// Where a reader of a job's output is. The wire's cursor holds both numbers: pieces in the upper half, ranks in the
/// lower.
#[derive(Clone, Debug)]
struct Log {
    job: JobId,
    wanted: Option<RoaringBitmap>,
    /// Those of the wanted tasks that have not ended yet.
    left: Option<RoaringBitmap>,
    attempt: u32,
    pieces: u64,
    rank: Rank,
    /// Begun from a cursor: what lies before it was shown to somebody already.
    resumed: bool,
    /// How far the streams of unfinished tasks have been shown: pieces may repeat, and leave gaps.
    shown: HashMap<(u32, u32, Stream), u64>,
}

/// What is new.
struct Page {
    pieces: Vec<OutputPiece>,
    pieces_end: u64,
    ends: Vec<EndedTask>,
    earlier: Vec<(u32, pb::Outcome)>,
    more: bool,
    over: bool,
}

impl Log {
    fn new(job: JobId, wanted: Option<RoaringBitmap>, attempt: u32, cursor: u64) -> Log {
        let (pieces, rank) = (cursor >> 32, Rank(cursor & u64::from(u32::MAX)));
        let left = wanted.clone();
        Log { job, wanted, left, attempt, pieces, rank, resumed: cursor != 0, shown: HashMap::new() }
    }

    /// Ends are read before pieces: the pieces of a task that has ended are then all there.
    fn page(&self, store: &dyn Store) -> Result<Page, Lookup> {
        let job_ended = store.job_ended(self.job)?;
        let ends = store.ends(self.job, self.rank, BATCH)?;
        let (pieces, pieces_end) = store.output(self.job, self.pieces)?;
        let drained = pieces.is_empty();
        // While pieces are left the ends wait: a task's last words come after its others.
        let ends = if drained { ends } else { Vec::new() };
        let reached = self.rank.0 + ends.len() as u64;
        let all_ends = job_ended.is_some_and(|ended| reached >= u64::from(ended.counts.total()));
        let wanted_over = self.left.as_ref().is_some_and(|left| {
            let seen: RoaringBitmap = ends.iter().map(|task| task.index).collect();
            left.is_subset(&seen)
        });
        let mut earlier = Vec::new();
        if self.attempt != 0 {
            for task in ends.iter().filter(|task| self.wants(task.index)) {
                let id = TaskId { job: self.job, index: task.index };
                let outcomes = store.attempts(id)?;
                let of_attempt = outcomes.iter().filter(|earlier| earlier.attempt.0 == self.attempt);
                earlier.extend(of_attempt.map(|one| (task.index, view::earlier(one))));
            }
        }
        let more = !drained || !ends.is_empty();
        Ok(Page { pieces, pieces_end, ends, earlier, more, over: drained && (all_ends || wanted_over) })
    }

    fn wants(&self, index: u32) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(index))
    }

    /// What to send of a page; moves on past it.
    fn chunks(&mut self, page: Page) -> Vec<pb::LogChunk> {
        let mut chunks = Vec::new();
        for piece in page.pieces {
            self.pieces = piece.cursor;
            let of_attempt = self.attempt == 0 || self.attempt == piece.attempt.0;
            if self.wants(piece.index) && of_attempt {
                let at = (piece.index, piece.attempt.0, piece.stream);
                self.push(&mut chunks, at, piece.offset, piece.data, piece.worker);
            }
        }
        self.pieces = page.pieces_end;
        for (index, outcome) in page.earlier {
            self.last_words(&mut chunks, index, outcome);
        }
        for task in page.ends {
            let of_attempt = self.attempt == 0 || self.attempt == task.attempt.0;
            let before = chunks.len();
            if self.wants(task.index) && of_attempt && task.attempt.0 != 0 {
                self.last_words(&mut chunks, task.index, view::outcome(&task, true));
            }
            // Only after its last chunk is a task behind the cursor.
            self.rank = Rank(task.rank.0 + 1);
            if chunks.len() > before {
                let cursor = self.cursor();
                chunks.last_mut().expect("a chunk was added").cursor = cursor;
            }
            self.shown.retain(|(index, ..), _| *index != task.index);
            if let Some(left) = &mut self.left {
                left.remove(task.index);
            }
        }
        chunks
    }

    fn cursor(&self) -> u64 {
        (self.pieces << 32) | (self.rank.0 & u64::from(u32::MAX))
    }

    /// The output that came with an outcome, and word of what was cut off before it or after it.
    fn last_words(&mut self, chunks: &mut Vec<pb::LogChunk>, index: u32, outcome: pb::Outcome) {
        let streams = [
            (Stream::Stdout, outcome.stdout_offset, outcome.stdout, outcome.stdout_bytes),
            (Stream::Stderr, outcome.stderr_offset, outcome.stderr, outcome.stderr_bytes),
        ];
        for (stream, offset, data, total) in streams {
            let at = (index, outcome.attempt, stream);
            if !data.is_empty() {
                self.push(chunks, at, offset, data, outcome.worker.clone());
            }
            let shown = self.shown.get(&at).copied().unwrap_or_default();
            if shown < total {
                self.push(chunks, at, total, Bytes::new(), outcome.worker.clone());
            }
        }
    }

    /// One chunk, without what was shown before.
    fn push(
        &mut self,
        chunks: &mut Vec<pb::LogChunk>,
        at: (u32, u32, Stream),
        offset: u64,
        data: Bytes,
        worker: String,
    ) {
        let begin = if self.resumed { offset } else { 0 };
        let cursor = self.cursor();
        let shown = self.shown.entry(at).or_insert(begin);
        let end = offset + data.len() as u64;
        if end <= *shown {
            return;
        }
        let repeated = shown.saturating_sub(offset);
        let missing_bytes = offset.saturating_sub(*shown);
        *shown = end;
        let (index, attempt, stream) = at;
        chunks.push(pb::LogChunk {
            index,
            attempt,
            stream: match stream {
                Stream::Stdout => pb::Stream::Stdout,
                Stream::Stderr => pb::Stream::Stderr,
            }
            .into(),
            offset: offset + repeated,
            data: data.slice(usize::try_from(repeated).unwrap_or(data.len()).min(data.len())..),
            cursor,
            missing_bytes,
            worker,
        });
    }
}
