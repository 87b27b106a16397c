//! Output of tasks on its way to the screen: raw for one task, line by line with a prefix for many.
//! On a terminal, control bytes of captured output are shown instead of obeyed.

use std::collections::HashMap;
use std::io;

use taskq_client::model::{LogChunk, Stream};

use crate::captured::put;
use crate::context::eprint_line;
use crate::holes::Holes;
use crate::screen::{Paint, Symbols};
use crate::text;

/// The longest line that is held back for its end.
const LINE_BYTES: usize = 64 << 10;

/// How output is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Each line begins with its task and worker.
    pub(crate) prefix: bool,
    /// Bytes as they are, even on a terminal.
    pub(crate) raw: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// Standard output goes to standard error as well: that is kept for a value.
    pub(crate) aside: bool,
    pub(crate) stdout_is_terminal: bool,
    pub(crate) stderr_is_terminal: bool,
    pub(crate) paint: Paint,
    pub(crate) symbols: Symbols,
}

/// Writes chunks to standard output and standard error.
pub(crate) struct Writer {
    job: u64,
    style: Style,
    begun: HashMap<(u32, Stream), Begun>,
    /// Tasks that were tried again, and the attempt that was shown last.
    again: HashMap<u32, u32>,
    holes: Holes,
}

/// A line whose end has not come yet.
#[derive(Default)]
struct Begun {
    line: Vec<u8>,
    worker: String,
}

impl Writer {
    /// For the output of one job.
    pub(crate) fn new(job: u64, style: Style) -> Writer {
        Writer {
            job,
            style,
            begun: HashMap::new(),
            again: HashMap::new(),
            // What goes aside is not what the command is there to give.
            holes: Holes::new(if style.aside { &[] } else { &[Stream::Stdout] }),
        }
    }

    /// Shows a chunk. An error is one of standard output; a closed standard error is not.
    pub(crate) fn chunk(&mut self, chunk: &LogChunk) -> io::Result<()> {
        let stream = chunk.stream();
        if !self.wants(stream) {
            return Ok(());
        }
        // Each attempt is shown from its beginning; two of them must not be taken for one.
        if chunk.attempt > 1 && self.again.insert(chunk.index, chunk.attempt) != Some(chunk.attempt) {
            eprint_line(&format!("taskq: attempt {} of task {}.{}", chunk.attempt, self.job, chunk.index));
        }
        if chunk.missing_bytes > 0 {
            self.holes.met(self.job, chunk.index, stream, chunk.missing_bytes);
        }
        if !self.style.prefix && self.is_raw(stream) {
            return put(self.place(stream), &chunk.data);
        }
        let begun = self.begun.entry((chunk.index, stream)).or_default();
        begun.worker.clone_from(&chunk.worker);
        begun.line.extend_from_slice(&chunk.data);
        let whole = match begun.line.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if begun.line.len() > LINE_BYTES => begun.line.len(),
            None => return Ok(()),
        };
        let lines: Vec<u8> = begun.line.drain(..whole).collect();
        let worker = begun.worker.clone();
        put(self.place(stream), &self.shown(&lines, chunk.index, stream, &worker))
    }

    /// Shows lines that never got their end.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let mut begun: Vec<((u32, Stream), Begun)> = self.begun.drain().collect();
        begun.sort_by_key(|((index, stream), _)| (*index, *stream as i32));
        for ((index, stream), Begun { line, worker }) in begun {
            if !line.is_empty() {
                let mut shown = self.shown(&line, index, stream, &worker);
                if self.style.prefix {
                    shown.push(b'\n');
                }
                put(self.place(stream), &shown)?;
            }
        }
        Ok(())
    }

    /// What was missing in what it showed.
    pub(crate) fn into_holes(self) -> Holes {
        self.holes
    }

    fn wants(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.style.stdout,
            Stream::Stderr => self.style.stderr,
        }
    }

    /// Where what a task wrote to a stream is written here.
    fn place(&self, stream: Stream) -> Stream {
        if self.style.aside { Stream::Stderr } else { stream }
    }

    fn is_raw(&self, stream: Stream) -> bool {
        self.style.raw
            || match self.place(stream) {
                Stream::Stdout => !self.style.stdout_is_terminal,
                Stream::Stderr => !self.style.stderr_is_terminal,
            }
    }

    fn shown(&self, bytes: &[u8], index: u32, stream: Stream, worker: &str) -> Vec<u8> {
        let safe = match self.is_raw(stream) {
            true => bytes.to_vec(),
            false => text::harmless(bytes, self.style.paint.is_on()).into_bytes(),
        };
        if !self.style.prefix {
            return safe;
        }
        let mark = if stream == Stream::Stderr { " err" } else { "" };
        let prefix =
            format!("{}.{index} {}{mark} {} ", self.job, text::visible(worker), self.style.symbols.bar());
        let mut prefixed = Vec::with_capacity(safe.len() + prefix.len());
        for line in safe.split_inclusive(|byte| *byte == b'\n') {
            prefixed.extend_from_slice(prefix.as_bytes());
            prefixed.extend_from_slice(line);
        }
        prefixed
    }
}
