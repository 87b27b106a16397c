//! Reads a backup frame by frame. What is damaged is named and passed over: behind it the next whole frame is looked for.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use taskq_core::id::JobId;

use super::{
    Damage,
    frame::{self, FIXED, Head, Kind, MARK, Shape},
};

/// Read from the file at a time.
const READ_BYTES: usize = 256 << 10;

/// What comes next.
#[derive(Debug)]
pub(super) enum Found {
    /// A whole frame: where it begins, its body as it was before it was pressed, and of the last one the SHA-256 of all that
    /// was before it.
    Frame { at: u64, head: Head, body: Bytes, before: [u8; 32] },
    /// Something else.
    Damage(Damage),
}

/// A walk through a backup.
pub(super) struct Scan<R> {
    input: R,
    path: PathBuf,
    /// Bytes read and not passed yet; `buffer[start..]` count.
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
    /// Where `buffer[start]` is in the file.
    at: u64,
    hash: Sha256,
    /// The number that the next frame must have.
    due: u64,
    /// Damage that waits for the next whole frame, which knows what was there.
    pending: Option<Damage>,
    closed: bool,
}

impl<R: Read> Scan<R> {
    /// From the beginning; `path` is for messages.
    pub(super) fn new(input: R, path: &Path) -> Scan<R> {
        Scan {
            input,
            path: path.to_owned(),
            buffer: Vec::new(),
            start: 0,
            ended: false,
            at: 0,
            hash: Sha256::new(),
            due: 0,
            pending: None,
            closed: false,
        }
    }

    /// Bytes passed.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next frame or damaged place; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        loop {
            let Some((shape, head)) = self.look()? else {
                if self.is_empty()? {
                    return Ok(self.end());
                }
                self.skip_to_next()?;
                continue;
            };
            if let Some(mut damage) = self.pending.take() {
                if head.number == self.due + 1 {
                    damage.jobs = spans(&head.former_jobs);
                    name_blob(&mut damage, &head.former_blob);
                }
                self.due = head.number;
                return Ok(Some(Found::Damage(damage)));
            }
            if head.number > self.due {
                let missing = self.missing(&head);
                self.due = head.number;
                return Ok(Some(Found::Damage(missing)));
            }
            return self.take(&shape, head).map(Some);
        }
    }

    /// What is left, to be looked at without being passed: `None` unless a whole head is next.
    fn look(&mut self) -> io::Result<Option<(Shape, Head)>> {
        self.fill(FIXED)?;
        let Some(shape) = frame::shape(self.rest()) else { return Ok(None) };
        self.fill(shape.head.end)?;
        Ok(frame::head(self.rest(), &shape).map(|head| (shape, head)))
    }

    fn take(&mut self, shape: &Shape, head: Head) -> io::Result<Found> {
        let (at, number) = (self.at, head.number);
        self.fill(shape.body.end)?;
        let whole = self.rest().len() >= shape.body.end;
        let body = match whole {
            true => frame::body(self.rest(), shape, &head),
            false => Err("is cut off: the file ends in it"),
        };
        let before = match head.kind() {
            Kind::Closing => self.hash.clone().finalize().into(),
            Kind::Unknown | Kind::Opening | Kind::Facts | Kind::Blob => [0; 32],
        };
        self.pass(shape.body.end.min(self.rest().len()));
        let what = match body {
            Ok(_) if self.closed => "follows the end of the backup",
            Ok(_) if number != self.due => "is there twice",
            Ok(body) => {
                self.due = number + 1;
                self.closed = head.kind() == Kind::Closing;
                return Ok(Found::Frame { at, head, body, before });
            }
            Err(what) => what,
        };
        self.due = self.due.max(number + 1);
        let held = match head.kind() {
            Kind::Facts => format!(", with {} records,", head.records),
            Kind::Opening => ", which says where the backup is from,".to_owned(),
            Kind::Closing => ", which says what is in the backup,".to_owned(),
            Kind::Blob | Kind::Unknown => String::new(),
        };
        let mut damage = Damage {
            file: self.path.clone(),
            bytes: Some((at, self.at)),
            what: format!("frame {number}{held} {what}"),
            jobs: spans(&head.jobs),
        };
        name_blob(&mut damage, &head.blob);
        Ok(Found::Damage(damage))
    }

    /// Frames that are not there at all before one that is.
    fn missing(&self, head: &Head) -> Damage {
        let last = head.number - 1;
        let what = match self.due {
            due if due == last => format!("frame {due} is missing"),
            due => format!("frames {due} to {last} are missing"),
        };
        let bytes = Some((self.at, self.at));
        let mut damage = Damage { file: self.path.clone(), bytes, what, jobs: spans(&head.former_jobs) };
        name_blob(&mut damage, &head.former_blob);
        damage
    }

    /// Passes over bytes up to the next mark, whatever is behind it.
    fn skip_to_next(&mut self) -> io::Result<()> {
        let at = self.at;
        // The byte here is not the beginning of a frame.
        let skip = loop {
            self.fill(READ_BYTES)?;
            if let Some(found) = self.rest()[1..].windows(MARK.len()).position(|window| window == MARK) {
                break found + 1;
            }
            if self.ended {
                break self.rest().len();
            }
            // All but the beginning of a mark that may go on in what has not been read.
            self.pass(self.rest().len() - MARK.len());
        };
        self.pass(skip);
        let (due, file, to) = (self.due, self.path.clone(), self.at);
        let what = format!("frame {due} is damaged where it says what it is");
        let damage =
            self.pending.get_or_insert(Damage { file, bytes: Some((at, to)), what, jobs: Vec::new() });
        damage.bytes = damage.bytes.map(|(from, _)| (from, to));
        Ok(())
    }

    /// At the end of the file.
    fn end(&mut self) -> Option<Found> {
        if let Some(damage) = self.pending.take() {
            let what = match self.closed {
                true => "something follows the end of the backup".to_owned(),
                false => damage.what,
            };
            self.closed = true;
            return Some(Found::Damage(Damage { what, ..damage }));
        }
        if self.closed {
            return None;
        }
        self.closed = true;
        let what = format!("the backup has no end: it was cut off before frame {}", self.due);
        let bytes = Some((self.at, self.at));
        Some(Found::Damage(Damage { file: self.path.clone(), bytes, what, jobs: Vec::new() }))
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn is_empty(&mut self) -> io::Result<bool> {
        self.fill(1)?;
        Ok(self.rest().is_empty())
    }

    /// Reads until so many bytes are there, or the file ends.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        while self.rest().len() < wanted && !self.ended {
            if self.start > 0 {
                self.buffer.drain(..self.start);
                self.start = 0;
            }
            let old = self.buffer.len();
            self.buffer.resize(old + READ_BYTES.max(wanted - old), 0);
            let read = loop {
                match self.input.read(&mut self.buffer[old..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            self.buffer.truncate(old + read);
            self.ended = read == 0;
        }
        Ok(())
    }

    fn pass(&mut self, bytes: usize) {
        self.hash.update(&self.buffer[self.start..self.start + bytes]);
        self.start += bytes;
        self.at += bytes as u64;
    }
}

fn spans(runs: &[u64]) -> Vec<(JobId, JobId)> {
    frame::spans(runs).into_iter().map(|(first, last)| (JobId(first), JobId(last))).collect()
}

fn name_blob(damage: &mut Damage, blob: &Bytes) {
    if !blob.is_empty() {
        let name: String = blob.iter().map(|byte| format!("{byte:02x}")).collect();
        damage.what = format!("{} (of the blob {name})", damage.what);
    }
}
