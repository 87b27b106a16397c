//! Results on their way out, one task after the other: bytes, lines of JSON, or one JSON document that is written as
//! its rows come.

use std::io;

use serde::Serialize;
use taskq_client::Client;
use taskq_client::model::{Outcome, State, Stream, Task, state_word};

use crate::captured::{self, Bytes, Piece};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::holes::Holes;
use crate::output::{self, Format, Out};
use crate::text;
use crate::view::OutcomeView;

/// How many tasks that did not succeed are told one by one.
const TOLD: u64 = 10;
/// Output of one task that a JSON row holds: it is made whole in memory.
const ROW_BYTES: usize = 256 << 20;

const SCHEMA: &str = "taskq.v1.results";

/// Prints results.
pub(super) struct Printer<'a> {
    context: &'a Context,
    client: &'a Client,
    /// Which one, where bytes are printed.
    stream: Stream,
    out: Out,
    rows: u64,
    holes: Holes,
    /// Tasks that did not succeed.
    unsuccessful: u64,
    last_job: u64,
}

impl<'a> Printer<'a> {
    pub(super) fn new(context: &'a Context, client: &'a Client, stream: Stream) -> Printer<'a> {
        let data: &'static [Stream] = match (context.screen.format.is_json(), stream) {
            (true, _) => &[Stream::Stdout, Stream::Stderr],
            (false, Stream::Stdout) => &[Stream::Stdout],
            (false, Stream::Stderr) => &[Stream::Stderr],
        };
        let (rows, unsuccessful, last_job) = (0, 0, 0);
        let (out, holes) = (Out::new(), Holes::new(data));
        Printer { context, client, stream, out, rows, holes, unsuccessful, last_job }
    }

    /// One ended task.
    pub(super) async fn task(&mut self, task: &Task) -> anyhow::Result<()> {
        match self.context.screen.format {
            Format::Json => {
                let row = self.row(task).await?;
                self.element(&row).map_err(|cause| output::stdout_failed(&cause))?;
            }
            Format::Jsonl => {
                let row = self.row(task).await?;
                self.out.record(SCHEMA, &row).map_err(|cause| output::stdout_failed(&cause))?;
            }
            Format::Table | Format::Tsv | Format::Id => self.bytes(task).await?,
        }
        self.rows += 1;
        self.last_job = task.job_id;
        if task.state() != State::Succeeded {
            self.unsuccessful += 1;
            if self.unsuccessful <= TOLD {
                let how = task.outcome.as_ref().map(crate::verdict::how).unwrap_or_default();
                let line = format!("taskq: task {}.{}: {}", task.job_id, task.index, text::visible(&how));
                self.context.say(&line);
            }
        }
        Ok(())
    }

    /// After the last one. Tasks that failed are no failure of this command; output that is not whole is one.
    pub(super) fn finish(mut self) -> anyhow::Result<Exit> {
        if self.context.screen.format == Format::Json {
            let end: &[u8] = if self.rows == 0 { b"]\n}\n" } else { b"\n  ]\n}\n" };
            self.begin().and_then(|()| self.out.bytes(end)).map_err(|cause| output::stdout_failed(&cause))?;
        }
        self.out.flush().map_err(|cause| output::stdout_failed(&cause))?;
        if self.unsuccessful > TOLD {
            let (more, job) = (self.unsuccessful - TOLD, self.last_job);
            self.context.say(&format!(
                "taskq: {more} more tasks did not succeed   which: taskq tasks {job} -s failed"
            ));
        }
        Ok(self.holes.over(Exit::Ok))
    }

    async fn bytes(&mut self, task: &Task) -> anyhow::Result<()> {
        let (out, holes) = (&mut self.out, &mut self.holes);
        let take = |stream, piece: Piece<'_>| match piece {
            Piece::Bytes(bytes) => out.bytes(bytes).map_err(|cause| output::stdout_failed(&cause)),
            Piece::Gap(bytes) => {
                holes.met(task.job_id, task.index, stream, bytes);
                Ok(())
            }
        };
        captured::read(self.client, task, &[self.stream], take).await
    }

    async fn row(&mut self, task: &Task) -> anyhow::Result<Row> {
        let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
        let holes = &mut self.holes;
        let take = |stream, piece: Piece<'_>| {
            let kept = match stream {
                Stream::Stdout => &mut stdout,
                Stream::Stderr => &mut stderr,
            };
            match piece {
                Piece::Bytes(bytes) if kept.bytes.len() + bytes.len() > ROW_BYTES => {
                    let (job, index) = (task.job_id, task.index);
                    let message = format!(
                        "task {job}.{index} wrote too much for a row of JSON (more than {} MiB); print it as it is: \
                         taskq result {job}.{index}",
                        ROW_BYTES >> 20
                    );
                    return Err(Failure::usage(message));
                }
                Piece::Bytes(bytes) => kept.bytes.extend_from_slice(bytes),
                Piece::Gap(bytes) => {
                    holes.met(task.job_id, task.index, stream, bytes);
                    kept.missing += bytes;
                }
            }
            Ok(())
        };
        captured::read(self.client, task, &[Stream::Stdout, Stream::Stderr], take).await?;
        Ok(Row {
            job: task.job_id,
            index: task.index,
            state: state_word(task.state()),
            outcome: OutcomeView::from(task.outcome.as_ref().unwrap_or(&Outcome::default())),
            stdout: stdout.bytes.into(),
            stderr: stderr.bytes.into(),
            stdout_missing_bytes: stdout.missing,
            stderr_missing_bytes: stderr.missing,
        })
    }

    /// One element of the document's array.
    fn element(&mut self, row: &Row) -> io::Result<()> {
        self.begin()?;
        self.out.bytes(if self.rows == 0 { b"\n" } else { b",\n" })?;
        // No string of JSON has a line end in it, so that each is one of the layout.
        let row = serde_json::to_string_pretty(row)?.replace('\n', "\n    ");
        self.out.bytes(b"    ")?;
        self.out.bytes(row.as_bytes())
    }

    /// What comes before the first row.
    fn begin(&mut self) -> io::Result<()> {
        match self.rows {
            0 => self.out.bytes(format!("{{\n  \"schema\": \"{SCHEMA}\",\n  \"results\": [").as_bytes()),
            _ => Ok(()),
        }
    }
}

/// What is kept of a stream.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    missing: u64,
}

/// One task with its output.
#[derive(Serialize)]
struct Row {
    job: u64,
    index: u32,
    state: &'static str,
    outcome: OutcomeView,
    stdout: Bytes,
    stderr: Bytes,
    stdout_missing_bytes: u64,
    stderr_missing_bytes: u64,
}
