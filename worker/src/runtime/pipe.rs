//! What a process writes into one of its two pipes: read as it comes, kept as far as the job says, passed on while there
//! is room.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::net::unix::pipe;
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use super::Shared;
use crate::attempt::{ByteCount, Chunk, Key, Rest, Stream};
use crate::outbox::Event;
use crate::output::{CHUNK, Capture};

/// What is read of a pipe after all its writers are gone: the most that a pipe holds.
const LAST_READ: usize = 1024 * 1024;

/// How much of the end is remembered.
const RECENT: usize = 2 * 1024;

/// The reading end of a pipe, and what came out of it.
pub(super) struct Pipe {
    source: Source,
    /// The last that was read, for those who wonder why its writer died.
    recent: VecDeque<u8>,
    /// What to listen for, and which of it was heard: what tells a death may be long before the end of the stream.
    words: &'static [&'static str],
    heard: Vec<&'static str>,
    pub(super) capture: Capture,
}

enum Source {
    /// Nobody has looked yet.
    Ignored(OwnedFd),
    Watched(pipe::Receiver),
    /// All writers are gone.
    Ended,
}

impl Pipe {
    /// Nothing is read before [`watch`](Pipe::watch).
    pub(super) fn new(pipe: OwnedFd, limit: ByteCount) -> Pipe {
        Pipe {
            source: Source::Ignored(pipe),
            recent: VecDeque::new(),
            words: &[],
            heard: Vec::new(),
            capture: Capture::new(limit),
        }
    }

    /// Notices when one of these words is written, each of which is short.
    pub(super) fn listen_for(&mut self, words: &'static [&'static str]) {
        self.words = words;
    }

    /// Which of the words [to listen for](Pipe::listen_for) were written for the task that is read now.
    pub(super) fn heard(&self) -> &[&'static str] {
        &self.heard
    }

    pub(super) fn watch(&mut self) {
        if let Source::Ignored(fd) = std::mem::replace(&mut self.source, Source::Ended) {
            match pipe::Receiver::from_owned_fd_unchecked(fd) {
                Ok(receiver) => self.source = Source::Watched(receiver),
                Err(error) => warn!(%error, "the output of a task cannot be read"),
            }
        }
    }

    /// A stream whose output is not taken off us is not read: its writer then waits.
    pub(super) fn wants_more(&self) -> bool {
        matches!(self.source, Source::Watched(_)) && self.capture.pending() < CHUNK
    }

    /// Cancel-safe.
    pub(super) async fn readable(&self) {
        match &self.source {
            Source::Watched(pipe) => _ = pipe.readable().await,
            Source::Ignored(_) | Source::Ended => pending().await,
        }
    }

    /// Reads what there is, once.
    pub(super) fn read(&mut self) {
        let Source::Watched(pipe) = &self.source else { return };
        let mut buffer = [0; 16 * 1024];
        match pipe.try_read(&mut buffer) {
            Ok(count @ 1..) => self.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => self.source = Source::Ended,
        }
    }

    /// All writers that we know of are gone. If one that escaped us still holds the pipe, it writes to nobody.
    ///
    /// Asks the kernel, not the runtime: that may not have heard yet that there is something to read.
    pub(super) fn read_rest(&mut self) {
        self.read_now();
        self.source = Source::Ended;
    }

    /// Reads all that has been written until now.
    pub(super) fn read_now(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let mut read = 0;
        while read < LAST_READ {
            let pipe = match &self.source {
                Source::Ignored(pipe) => pipe.as_fd(),
                Source::Watched(pipe) => pipe.as_fd(),
                Source::Ended => return,
            };
            match rustix::io::read(pipe, &mut buffer) {
                Ok(count @ 1..) => {
                    self.push(&buffer[..count]);
                    read += count;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Ok(0) | Err(_) => self.source = Source::Ended,
            }
        }
    }

    fn push(&mut self, data: &[u8]) {
        self.capture.push(data);
        self.listen(data);
        self.recent.extend(&data[data.len().saturating_sub(RECENT)..]);
        self.recent.drain(..self.recent.len().saturating_sub(RECENT));
    }

    fn listen(&mut self, data: &[u8]) {
        let Some(longest) = self.words.iter().map(|word| word.len()).max() else { return };
        // A word may have come in two pieces.
        let before = self.recent.len().saturating_sub(longest - 1);
        let text: Vec<u8> = self.recent.range(before..).chain(data).copied().collect();
        let text = String::from_utf8_lossy(&text);
        for word in self.words {
            if !self.heard.contains(word) && text.contains(word) {
                self.heard.push(word);
            }
        }
    }

    /// The end of what was read until now.
    pub(super) fn recent(&self) -> String {
        let bytes: Vec<u8> = self.recent.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What is read from now on belongs to another task, or to nobody.
    pub(super) fn begin(&mut self, limit: ByteCount) {
        self.read_now();
        self.recent.clear();
        self.heard.clear();
        self.capture = Capture::new(limit);
    }

    /// False if there was no room.
    pub(super) fn pass_on(&mut self, shared: &Shared, key: Key, stream: Stream, least: usize) -> bool {
        while self.capture.pending() >= least {
            let size = u32::try_from(self.capture.pending().min(CHUNK)).expect("a chunk is small");
            let Ok(room) = Arc::clone(&shared.room).try_acquire_many_owned(size) else { return false };
            let Some(chunk) = self.capture.chunk() else { return true };
            shared.report(key, Event::Output { stream, chunk, _room: Some(room) });
        }
        true
    }

    /// Reports all that is left but for its last piece, and begins anew with nothing kept. What it takes of the room is
    /// bounded by the pipe.
    pub(super) fn finish(&mut self, shared: &Shared, key: Key, stream: Stream) -> Rest {
        let capture = std::mem::replace(&mut self.capture, Capture::new(ByteCount(0)));
        let (chunks, rest) = capture.finish();
        for chunk in chunks {
            let _room = room_for(shared, &chunk);
            shared.report(key, Event::Output { stream, chunk, _room });
        }
        rest
    }
}

/// Room for a last piece, which goes out even if there is none.
pub(super) fn room_for(shared: &Shared, chunk: &Chunk) -> Option<OwnedSemaphorePermit> {
    let size = u32::try_from(chunk.data.len()).expect("a chunk is small");
    Arc::clone(&shared.room).try_acquire_many_owned(size).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_heard_whatever_the_pieces_and_however_much_follows() {
        let text = b"\xc3a memory allocation of 5 bytes failed\n";
        for size in 1..=text.len() {
            let (reader, _) = rustix::pipe::pipe().expect("a pipe");
            let mut pipe = Pipe::new(reader, ByteCount(0));
            pipe.listen_for(&["allocation of ", "overflowed"]);
            text.chunks(size).for_each(|piece| pipe.push(piece));
            pipe.push(&[b'x'; 3 * RECENT]);
            assert_eq!(pipe.heard(), ["allocation of "], "in pieces of {size}");
            assert!(!pipe.recent().contains("allocation"));
            pipe.begin(ByteCount(0));
            assert!(pipe.heard().is_empty(), "that was another task");
        }
    }
}
