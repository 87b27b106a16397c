//! What is kept of one output stream: its beginning, which is passed on while the task runs, and its last part.
//!
//! Pure bytes in, chunks out. Offsets are those of the original stream, so what was left out shows as a jump.

use bytes::{Buf, Bytes, BytesMut};

use crate::attempt::{ByteCount, Chunk, Rest};

/// The most that one report carries.
pub(crate) const CHUNK: usize = 60 * 1024;
/// What rides in the outcome instead of a report of its own.
const INLINE: usize = 4 * 1024;
/// How much of the end is kept of a stream that is cut.
const TAIL: u64 = 64 * 1024;

/// One stream of one attempt.
pub(crate) struct Capture {
    /// Bytes of the beginning that are kept; what comes later is tail.
    head: u64,
    tail_limit: usize,
    /// How much was written.
    total: u64,
    /// Of the beginning, not yet passed on; ends at `min(total, head)`.
    pending: BytesMut,
    /// Its last `tail_limit` bytes are the tail.
    tail: BytesMut,
}

impl Capture {
    pub(crate) fn new(limit: ByteCount) -> Capture {
        let tail = TAIL.min(limit.0 / 2);
        Capture {
            head: limit.0 - tail,
            tail_limit: usize::try_from(tail).expect("at most 64 KiB"),
            total: 0,
            pending: BytesMut::new(),
            tail: BytesMut::new(),
        }
    }

    pub(crate) fn push(&mut self, data: &[u8]) {
        let room = self.head.saturating_sub(self.total);
        let (head, rest) = data.split_at(data.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        self.total += data.len() as u64;
        self.pending.extend_from_slice(head);
        self.tail.extend_from_slice(&rest[rest.len().saturating_sub(self.tail_limit)..]);
        // Twice the tail, so that each byte is moved once on average.
        if self.tail.len() > 2 * self.tail_limit {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let excess = self.tail.len().saturating_sub(self.tail_limit);
        self.tail.copy_within(excess.., 0);
        self.tail.truncate(self.tail.len() - excess);
    }

    /// Bytes that can be passed on now.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The next piece to pass on while the task runs.
    pub(crate) fn chunk(&mut self) -> Option<Chunk> {
        if self.pending.is_empty() {
            return None;
        }
        let offset = self.total.min(self.head) - self.pending.len() as u64;
        let data = self.pending.split_to(self.pending.len().min(CHUNK)).freeze();
        Some(Chunk { offset, data })
    }

    /// What is left at the end: pieces to pass on, and a last one small enough for the outcome.
    pub(crate) fn finish(mut self) -> (Vec<Chunk>, Rest) {
        let mut chunks = Vec::new();
        self.trim();
        let head_end = self.total.min(self.head);
        if self.total - self.tail.len() as u64 == head_end {
            // Nothing is missing between the two.
            self.head = self.total;
            let tail = std::mem::take(&mut self.tail);
            self.pending.unsplit(tail);
        }
        chunks.extend(std::iter::from_fn(|| self.chunk()));
        let mut tail: Bytes = self.tail.split().freeze();
        while tail.has_remaining() {
            let offset = self.total - tail.len() as u64;
            chunks.push(Chunk { offset, data: tail.split_to(tail.len().min(CHUNK)) });
        }
        let rest = match chunks.pop_if(|last| last.data.len() <= INLINE) {
            Some(last) => Rest { offset: last.offset, data: last.data, total: self.total },
            None => Rest { offset: self.total, data: Bytes::new(), total: self.total },
        };
        (chunks, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn capture(limit: usize) -> Capture {
        Capture::new(ByteCount(limit as u64))
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    /// Every byte that is kept is where it says.
    fn kept(chunks: &[Chunk], rest: &Rest, original: &[u8]) -> usize {
        let rest = Chunk { offset: rest.offset, data: rest.data.clone() };
        let mut end = 0;
        let mut kept = 0;
        for chunk in chunks.iter().chain([&rest]) {
            let from = usize::try_from(chunk.offset).expect("small");
            assert!(from >= end, "chunks do not overlap");
            end = from + chunk.data.len();
            assert_eq!(chunk.data, original[from..end]);
            kept += chunk.data.len();
        }
        kept
    }

    #[test]
    fn small_output_rides_in_the_outcome() {
        let mut stream = capture(KIB * KIB);
        stream.push(b"hello ");
        stream.push(b"world\xff\0");
        let (chunks, rest) = stream.finish();
        assert_eq!(chunks, []);
        assert_eq!(rest, Rest { offset: 0, data: Bytes::from_static(b"hello world\xff\0"), total: 13 });
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(capture(KIB).finish(), (vec![], Rest::default()));
    }

    #[test]
    fn what_fits_is_kept_whole_whatever_was_passed_on_before() {
        let all = pattern(200 * KIB);
        let mut stream = capture(256 * KIB);
        let mut chunks = Vec::new();
        for piece in all.chunks(7_000) {
            stream.push(piece);
            if stream.pending() > CHUNK {
                chunks.extend(stream.chunk());
            }
        }
        let (more, rest) = stream.finish();
        chunks.extend(more);
        assert!(chunks.iter().all(|chunk| chunk.data.len() <= CHUNK));
        assert_eq!(kept(&chunks, &rest, &all), all.len());
        assert_eq!(rest.total, all.len() as u64);
    }

    #[test]
    fn of_too_much_the_beginning_and_the_end_are_kept() {
        let all = pattern(5_000 * KIB);
        let mut stream = capture(1024 * KIB);
        for piece in all.chunks(64 * KIB) {
            stream.push(piece);
        }
        let (chunks, rest) = stream.finish();
        assert_eq!(kept(&chunks, &rest, &all), 1024 * KIB);
        assert_eq!(chunks[0].offset, 0);
        let last = rest.offset as usize + rest.data.len();
        assert_eq!(last, all.len());
        assert_eq!(rest.total, all.len() as u64);
    }

    #[test]
    fn memory_stays_bounded_once_the_head_is_passed_on() {
        let mut stream = capture(128 * KIB);
        let piece = pattern(64 * KIB);
        for _ in 0..1_000 {
            stream.push(&piece);
            while stream.chunk().is_some() {}
            assert!(stream.tail.len() <= 2 * 64 * KIB);
        }
        assert!(stream.tail.capacity() <= 4 * 64 * KIB, "{}", stream.tail.capacity());
    }

    #[test]
    fn a_tiny_limit_still_has_head_and_tail() {
        let mut stream = capture(10);
        stream.push(b"abcdefghijklmnopqrstuvwxyz");
        let (chunks, rest) = stream.finish();
        assert_eq!(chunks, [Chunk { offset: 0, data: Bytes::from_static(b"abcde") }]);
        assert_eq!(rest, Rest { offset: 21, data: Bytes::from_static(b"vwxyz"), total: 26 });
    }

    #[test]
    fn a_limit_of_nothing_keeps_nothing() {
        let mut stream = capture(0);
        stream.push(b"abc");
        assert_eq!(stream.finish(), (vec![], Rest { offset: 3, data: Bytes::new(), total: 3 }));
    }
}
