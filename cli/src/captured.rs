//! What tasks wrote, on its way out: all that is kept of an ended task, and how bytes reach our own two streams.

use std::io::{self, Write};

use serde::Serialize;
use taskq_client::model::{Outcome, Span, Stream, Task};
use taskq_client::{Client, LogsQuery};

use crate::text;

/// What comes next of a stream.
pub(crate) enum Piece<'a> {
    Bytes(&'a [u8]),
    /// So many bytes are missing here.
    Gap(u64),
}

/// Gives the output of an ended task's last attempt to `take`, piece by piece: what came with the outcome, or, if that
/// is only the rest, all that is kept. One stream after the other, or as it came.
pub(crate) async fn read(
    client: &Client,
    task: &Task,
    wanted: &[Stream],
    mut take: impl FnMut(Stream, Piece<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(outcome) = &task.outcome else { return Ok(()) };
    let whole = wanted.iter().map(|stream| Some((*stream, all_of(outcome, *stream)?)));
    if let Some(whole) = whole.collect::<Option<Vec<_>>>() {
        return whole.into_iter().try_for_each(|(stream, bytes)| take(stream, Piece::Bytes(bytes)));
    }
    let indices = vec![Span { first: task.index, count: 1 }];
    let query = LogsQuery { indices, attempt: task.attempt, ..LogsQuery::default() };
    let mut logs = client.logs(task.job_id, query);
    while let Some(chunk) = logs.next().await {
        let chunk = chunk?;
        let stream = chunk.stream();
        if !wanted.contains(&stream) {
            continue;
        }
        if chunk.missing_bytes > 0 {
            take(stream, Piece::Gap(chunk.missing_bytes))?;
        }
        take(stream, Piece::Bytes(&chunk.data))?;
    }
    Ok(())
}

/// All of a stream, if it came with the outcome.
fn all_of(outcome: &Outcome, stream: Stream) -> Option<&[u8]> {
    let (offset, data, total) = match stream {
        Stream::Stdout => (outcome.stdout_offset, &outcome.stdout, outcome.stdout_bytes),
        Stream::Stderr => (outcome.stderr_offset, &outcome.stderr, outcome.stderr_bytes),
    };
    (data.len() as u64 == total && (offset == 0 || total == 0)).then_some(&data[..])
}

/// To our own stream of the same name, at once. An error is one of standard output.
pub(crate) fn put(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    match stream {
        Stream::Stdout => {
            let mut to = io::stdout().lock();
            to.write_all(bytes)?;
            to.flush()
        }
        Stream::Stderr => {
            // Output that nobody can see is no reason to fail: the job's status is what counts.
            let _ = io::stderr().lock().write_all(bytes);
            Ok(())
        }
    }
}

/// Output in JSON: text where it is text.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Bytes {
    Text(String),
    Base64 { base64: String },
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        match String::from_utf8(bytes) {
            Ok(text) => Bytes::Text(text),
            Err(error) => Bytes::Base64 { base64: text::base64(error.as_bytes()) },
        }
    }
}
