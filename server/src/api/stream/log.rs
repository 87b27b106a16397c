//! Where a reader of a job's output is, and what comes next for it: pieces in commit order, then the last words of
//! tasks that have ended. Whoever asks for few tasks pays for these only, however many others the job has.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use roaring::RoaringBitmap;
use taskq_core::{
    event::Stream,
    id::{JobId, Rank, TaskId},
};
use taskq_proto::v1 as pb;

use super::BATCH;
use crate::{
    api::convert::view::{self, Inline},
    store::{EndedTask, Lookup, OutputPiece, Store},
};

/// A place in a job's output. The wire's cursor holds both numbers: pieces in the upper half, ranks in the lower.
#[derive(Clone, Debug)]
pub(super) struct Place {
    job: JobId,
    wanted: Option<Arc<RoaringBitmap>>,
    /// Those of the wanted tasks that have not ended yet.
    left: Option<Arc<RoaringBitmap>>,
    attempt: u32,
    pieces: u64,
    /// Ends below it were shown.
    rank: Rank,
    /// Ends below it were looked at. Of chosen tasks those behind a cursor are looked at again: who has ended is not
    /// waited for.
    looked: Rank,
}

/// What is new.
pub(super) struct Page {
    pieces: Vec<OutputPiece>,
    pieces_end: u64,
    ends: Vec<EndedTask>,
    earlier: Vec<(u32, pb::Outcome)>,
    pub(super) more: bool,
    pub(super) over: bool,
}

impl Place {
    pub(super) fn page(&self, store: &dyn Store) -> Result<Page, Lookup> {
        let (pieces, pieces_end) = store.output(self.job, self.wanted.as_deref(), self.pieces)?;
        // While pieces are left the ends wait: a task's last words come after its others.
        if pieces_end != self.pieces {
            return Ok(Page::of_pieces(pieces, pieces_end));
        }
        let (ends, all_ends) = self.ends(store)?;
        // Looked at once more, after the ends: the pieces of a task that has ended are all there.
        let (pieces, pieces_end) = store.output(self.job, self.wanted.as_deref(), self.pieces)?;
        if pieces_end != self.pieces {
            return Ok(Page::of_pieces(pieces, pieces_end));
        }
        let wanted_over = self.left.as_ref().is_some_and(|left| {
            let seen: RoaringBitmap = ends.iter().map(|task| task.index).collect();
            left.is_subset(&seen)
        });
        let mut earlier = Vec::new();
        if self.attempt != 0 {
            for task in ends.iter().filter(|task| self.wants(task.index) && task.rank >= self.rank) {
                let id = TaskId { job: self.job, index: task.index };
                let outcomes = store.attempts(id)?;
                let of_attempt = outcomes.iter().filter(|earlier| earlier.attempt.0 == self.attempt);
                earlier.extend(of_attempt.map(|one| (task.index, view::earlier(one))));
            }
        }
        let more = !ends.is_empty();
        Ok(Page { pieces, pieces_end, ends, earlier, more, over: all_ends || wanted_over })
    }

    /// The next ends in rank order, and whether no others will follow.
    fn ends(&self, store: &dyn Store) -> Result<(Vec<EndedTask>, bool), Lookup> {
        let job_ended = store.job_ended(self.job)?;
        match &self.left {
            Some(left) if left.len() <= BATCH as u64 => {
                let mut ends = store.ends_of(self.job, left, BATCH)?;
                ends.sort_unstable_by_key(|task| task.rank);
                Ok((ends, job_ended.is_some()))
            }
            Some(_) | None => {
                let ends = store.ends(self.job, self.looked, BATCH)?;
                let reached = self.looked.0 + ends.len() as u64;
                Ok((ends, job_ended.is_some_and(|ended| reached >= u64::from(ended.counts.total()))))
            }
        }
    }

    fn wants(&self, index: u32) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(index))
    }

    fn cursor(&self) -> u64 {
        (self.pieces << 32) | (self.rank.0 & u64::from(u32::MAX))
    }
}

impl Page {
    fn of_pieces(pieces: Vec<OutputPiece>, pieces_end: u64) -> Page {
        Page { pieces, pieces_end, ends: Vec::new(), earlier: Vec::new(), more: true, over: false }
    }
}

/// A reader.
#[derive(Debug)]
pub(super) struct Log {
    place: Place,
    /// Begun from a cursor: what lies before it was shown to somebody already.
    resumed: bool,
    /// How far the streams of unfinished tasks have been shown, by index: pieces may repeat, and leave gaps.
    shown: HashMap<u32, Vec<Shown>>,
}

#[derive(Debug)]
struct Shown {
    attempt: u32,
    stream: Stream,
    end: u64,
}

impl Log {
    pub(super) fn new(job: JobId, wanted: Option<RoaringBitmap>, attempt: u32, cursor: u64) -> Log {
        let (pieces, rank) = (cursor >> 32, Rank(cursor & u64::from(u32::MAX)));
        let wanted = wanted.map(Arc::new);
        let looked = if wanted.is_some() { Rank(0) } else { rank };
        let place = Place { job, left: wanted.clone(), wanted, attempt, pieces, rank, looked };
        Log { place, resumed: cursor != 0, shown: HashMap::new() }
    }

    /// Where it is now.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// What to send of a page; moves on past it.
    pub(super) fn chunks(&mut self, page: Page) -> Vec<pb::LogChunk> {
        let mut chunks = Vec::new();
        for piece in page.pieces {
            self.place.pieces = piece.cursor;
            let of_attempt = self.place.attempt == 0 || self.place.attempt == piece.attempt.0;
            if self.place.wants(piece.index) && of_attempt {
                let at = (piece.index, piece.attempt.0, piece.stream);
                self.push(&mut chunks, at, piece.offset, piece.data, piece.worker);
            }
        }
        self.place.pieces = page.pieces_end;
        for (index, outcome) in page.earlier {
            self.last_words(&mut chunks, index, outcome);
        }
        for task in page.ends {
            self.end(&mut chunks, &task);
        }
        chunks
    }

    fn end(&mut self, chunks: &mut Vec<pb::LogChunk>, task: &EndedTask) {
        if let Some(left) = &mut self.place.left {
            Arc::make_mut(left).remove(task.index);
        }
        self.place.looked = self.place.looked.max(Rank(task.rank.0 + 1));
        if task.rank < self.place.rank {
            return;
        }
        let of_attempt = self.place.attempt == 0 || self.place.attempt == task.attempt.0;
        let before = chunks.len();
        if self.place.wants(task.index) && of_attempt && task.attempt.0 != 0 {
            self.last_words(chunks, task.index, view::outcome(task, Inline::ALL));
        }
        // Only after its last chunk is a task behind the cursor.
        self.place.rank = Rank(task.rank.0 + 1);
        if chunks.len() > before {
            let cursor = self.place.cursor();
            chunks.last_mut().expect("a chunk was added").cursor = cursor;
        }
        self.shown.remove(&task.index);
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
            if total > 0 {
                self.push(chunks, at, total, Bytes::new(), outcome.worker.clone());
            }
        }
    }

    /// One chunk, without what was shown before; none if nothing is left.
    fn push(
        &mut self,
        chunks: &mut Vec<pb::LogChunk>,
        (index, attempt, stream): (u32, u32, Stream),
        offset: u64,
        data: Bytes,
        worker: String,
    ) {
        let streams = self.shown.entry(index).or_default();
        let known = streams.iter().position(|shown| shown.attempt == attempt && shown.stream == stream);
        let at = known.unwrap_or_else(|| {
            streams.push(Shown { attempt, stream, end: if self.resumed { offset } else { 0 } });
            streams.len() - 1
        });
        let shown = &mut streams[at].end;
        let end = offset + data.len() as u64;
        // Whoever goes on from a cursor knows better what was shown before: it must hear where a stream ends.
        let last_word = self.resumed && known.is_none() && data.is_empty();
        if end <= *shown && !last_word {
            return;
        }
        let repeated = shown.saturating_sub(offset);
        let missing_bytes = offset.saturating_sub(*shown);
        *shown = end;
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
            cursor: self.place.cursor(),
            missing_bytes,
            worker,
        });
    }
}
