//! What calls print, copied to where the caller sees it: live, by whole lines, and all of it before the result is
//! handed out.

use crate::client::Client;
use crate::error::{Error, Result};
use crate::job::JobId;
use crate::logs::LogsQuery;
use crate::model::{LogChunk, Stream};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Jobs whose output is copied live at once: each is a stream of its own, and one connection may have 256. Others follow
/// as soon as there is room, from their beginning.
pub(crate) const MOST: usize = 64;
/// A line that is longer than this is copied in parts.
const LINE_BYTES: usize = 64 << 10;

/// Where output of calls is copied to. Default: to this process's own standard output and standard error.
#[derive(Clone)]
pub struct Echo {
    write: Arc<Write>,
}

type Write = dyn Fn(Stream, &[u8]) -> io::Result<()> + Send + Sync;

impl Default for Echo {
    fn default() -> Self {
        Self::to(|stream, bytes| match stream {
            Stream::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Stream::Stderr => io::stderr().lock().write_all(bytes),
        })
    }
}

impl fmt::Debug for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Echo(..)")
    }
}

impl Echo {
    /// To a function, which gets whole lines of one task each, and what follows the last line when the task has ended. It
    /// is called from any thread, by one job at a time for itself, and not to block for long.
    pub fn to(write: impl Fn(Stream, &[u8]) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { write: Arc::new(write) }
    }
}

/// Copying that goes on in the background, for as long as somebody holds this.
#[derive(Debug)]
pub(crate) struct Copying {
    done: watch::Receiver<Option<Result<()>>>,
    task: AbortHandle,
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Copying {
    /// Begins to copy the output of a job. To be called inside a tokio runtime.
    pub(crate) fn begin(client: &Client, job: JobId, echo: &Echo) -> Arc<Self> {
        let (tell, done) = watch::channel(None);
        let (client, echo) = (client.clone(), echo.clone());
        let task = tokio::spawn(async move {
            let copied = copy(&client, job, &echo).await;
            tell.send_replace(Some(copied));
        });
        Arc::new(Self { done, task: task.abort_handle() })
    }

    /// Returns when all output of the job has been copied.
    ///
    /// # Errors
    /// Some of it could not be read or written. The job's results do not depend on it.
    pub(crate) async fn done(&self) -> Result<()> {
        let mut done = self.done.clone();
        match done.wait_for(Option::is_some).await {
            Ok(copied) => copied.clone().unwrap_or(Ok(())),
            Err(_) => Err(crate::ends::ended_runtime()),
        }
    }

    /// Nothing more is to be heard of it.
    pub(crate) fn is_done_well(&self) -> bool {
        matches!(*self.done.borrow(), Some(Ok(())))
    }
}

async fn copy(client: &Client, job: JobId, echo: &Echo) -> Result<()> {
    let _room = client.echoes().acquire().await.expect("never closed");
    let mut logs = client.logs(job, LogsQuery { follow: true, ..LogsQuery::default() });
    let mut lines = Lines { echo, begun: HashMap::new() };
    while let Some(chunk) = logs.next().await {
        lines.take(&chunk?).map_err(|error| unwritable(job, &error))?;
    }
    lines.rest().map_err(|error| unwritable(job, &error))
}

fn unwritable(job: JobId, error: &io::Error) -> Error {
    Error::Echo(format!(
        "the output of job {job} cannot be written here: {error}; read it with: taskq logs {job}"
    ))
}

/// Puts lines together, so that those of several tasks do not mix.
struct Lines<'a> {
    echo: &'a Echo,
    /// Lines whose end has not come, by task, attempt and stream.
    begun: HashMap<(u32, u32, i32), Vec<u8>>,
}

impl Lines<'_> {
    fn take(&mut self, chunk: &LogChunk) -> io::Result<()> {
        let of = (chunk.index, chunk.attempt, chunk.stream);
        let write = |bytes: &[u8]| (self.echo.write)(chunk.stream(), bytes);
        let begun = self.begun.entry(of).or_default();
        if chunk.missing_bytes > 0 {
            begun.extend_from_slice(
                format!("[taskq: {} bytes are missing here]\n", chunk.missing_bytes).as_bytes(),
            );
        }
        begun.extend_from_slice(&chunk.data);
        let whole = begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let whole = if begun.len() - whole > LINE_BYTES { begun.len() } else { whole };
        if whole > 0 {
            write(&begun[..whole])?;
            begun.drain(..whole);
        }
        if begun.is_empty() {
            self.begun.remove(&of);
        }
        Ok(())
    }

    /// What ended without the end of a line.
    fn rest(&mut self) -> io::Result<()> {
        let mut rest: Vec<_> = self.begun.drain().collect();
        rest.sort_unstable();
        for ((_, _, stream), bytes) in rest {
            (self.echo.write)(Stream::try_from(stream).unwrap_or(Stream::Stdout), &bytes)?;
        }
        Ok(())
    }
}
