//! The output of one ended task: what came with its outcome, or, if that is only the rest, all of it from the log.

use std::io::{self, Write};

use taskq_client::model::{Outcome, Span, Stream, Task};
use taskq_client::{Client, LogsQuery};

use crate::output;
use crate::screen::Screen;
use crate::text;

/// Standard output to standard output, standard error to standard error.
pub(crate) async fn output(client: &Client, screen: &Screen, task: &Task) -> anyhow::Result<()> {
    let Some(outcome) = &task.outcome else { return Ok(()) };
    if is_whole(outcome) {
        return put(screen, Stream::Stdout, &outcome.stdout)
            .and_then(|()| put(screen, Stream::Stderr, &outcome.stderr))
            .map_err(|cause| output::stdout_failed(&cause));
    }
    let only = Span { first: task.index, count: 1 };
    let query = LogsQuery { indices: vec![only], attempt: outcome.attempt, ..LogsQuery::default() };
    let mut logs = client.logs(task.job_id, query);
    while let Some(chunk) = logs.next().await {
        let chunk = chunk?;
        if chunk.missing_bytes > 0 {
            let (job, index) = (task.job_id, task.index);
            let note = format!(
                "taskq: {} bytes of task {job}.{index} are missing here (see --output-limit)",
                chunk.missing_bytes
            );
            crate::context::eprint_line(&note);
        }
        put(screen, chunk.stream(), &chunk.data).map_err(|cause| output::stdout_failed(&cause))?;
    }
    Ok(())
}

fn is_whole(outcome: &Outcome) -> bool {
    outcome.stdout_offset == 0
        && outcome.stderr_offset == 0
        && outcome.stdout.len() as u64 == outcome.stdout_bytes
        && outcome.stderr.len() as u64 == outcome.stderr_bytes
}

fn put(screen: &Screen, stream: Stream, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let terminal = match stream {
        Stream::Stdout => screen.stdout_is_terminal,
        Stream::Stderr => screen.stderr_is_terminal,
    };
    let safe;
    let bytes = match terminal {
        true => {
            safe = text::harmless(bytes, screen.paint.is_on());
            safe.as_bytes()
        }
        false => bytes,
    };
    match stream {
        Stream::Stdout => {
            let mut to = io::stdout().lock();
            to.write_all(bytes)?;
            to.flush()
        }
        Stream::Stderr => {
            // Nobody reads it: the exit code still tells.
            let _ = io::stderr().lock().write_all(bytes);
            Ok(())
        }
    }
}
