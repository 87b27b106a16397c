//! Results on their way out, one task after the other: bytes, values of calls, lines of JSON, or one JSON document that is written as
//! its rows come.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use taskq_client::Client;
use taskq_client::model::{Outcome, State, Stream, Task, outcome, state_word};

use crate::captured::{self, Bytes, Piece};
use crate::context::Context;
use crate::exit::{self, Exit, Failure};
use crate::holes::Holes;
use crate::output::{self, Array, Format, Out};
use crate::text;
use crate::value::{self, Value};
use crate::verdict;
use crate::view::OutcomeView;

/// How many tasks that did not succeed are told one by one.
const TOLD: u64 = 10;
/// Output of one task, both streams, that a JSON row holds: it is made whole in memory.
const ROW_BYTES: usize = 256 << 20;

const SCHEMA: &str = "taskq.v1.results";

/// Prints results.
pub(super) struct Printer<'a> {
    context: &'a Context,
    client: &'a Client,
    /// Which one, where bytes are printed.
    stream: Stream,
    out: Out,
    array: Array,
    holes: Holes,
    /// What the tasks so far make of this command's status; none before the first.
    exit: Option<Exit>,
    /// A value is not what it should be.
    broken: bool,
    /// Tasks that did not succeed.
    unsuccessful: u64,
    /// Their states, by job.
    met: BTreeMap<u64, BTreeSet<State>>,
}

impl<'a> Printer<'a> {
    pub(super) fn new(context: &'a Context, client: &'a Client, stream: Stream) -> Printer<'a> {
        let data: &'static [Stream] = match (context.screen.format.is_json(), stream) {
            (true, _) => &[Stream::Stdout, Stream::Stderr],
            (false, Stream::Stdout) => &[Stream::Stdout],
            (false, Stream::Stderr) => &[Stream::Stderr],
        };
        let (out, array, holes) = (Out::new(), Array::new(SCHEMA), Holes::new(data));
        Printer {
            context,
            client,
            stream,
            out,
            array,
            holes,
            exit: None,
            broken: false,
            unsuccessful: 0,
            met: BTreeMap::new(),
        }
    }

    /// One ended task; `codec` is that of its value, if it is a call.
    pub(super) async fn task(&mut self, task: &Task, codec: Option<&str>) -> anyhow::Result<()> {
        match self.context.screen.format {
            Format::Json => {
                let row = self.row(task, codec).await?;
                self.array.element(&mut self.out, &row).map_err(|cause| output::stdout_failed(&cause))?;
            }
            Format::Jsonl => {
                let row = self.row(task, codec).await?;
                self.out.record(SCHEMA, &row).map_err(|cause| output::stdout_failed(&cause))?;
            }
            Format::Table | Format::Tsv | Format::Id => match (codec, self.stream) {
                (Some(codec), Stream::Stdout) => {
                    if let Some(value) = self.value(task).await? {
                        self.check(task, codec, &value);
                        let printed = value::printed(codec, &value);
                        self.out.bytes(&printed).map_err(|cause| output::stdout_failed(&cause))?;
                    }
                }
                (Some(_), Stream::Stderr) | (None, _) => self.bytes(task).await?,
            },
        }
        self.exit = Some(exit::with_one_more(self.exit, task));
        if task.state() != State::Succeeded {
            self.unsuccessful += 1;
            self.met.entry(task.job_id).or_default().insert(task.state());
            if self.unsuccessful <= TOLD {
                let how = task.outcome.as_ref().map(verdict::how).unwrap_or_default();
                let line = format!("taskq: task {}.{}: {}", task.job_id, task.index, text::visible(&how));
                self.context.say(&line);
            }
        }
        Ok(())
    }

    /// After the last one: the status of the one task or of all, and output that is not whole is never a success.
    pub(super) fn finish(mut self) -> anyhow::Result<Exit> {
        if self.context.screen.format == Format::Json {
            self.array.end(&mut self.out).map_err(|cause| output::stdout_failed(&cause))?;
        }
        self.out.flush().map_err(|cause| output::stdout_failed(&cause))?;
        if self.unsuccessful > TOLD {
            let more = self.unsuccessful - TOLD;
            let hint = verdict::states_hint(&self.met);
            self.context.say(&format!("taskq: {more} more tasks did not succeed   {hint}"));
        }
        let exit = self.exit.unwrap_or(Exit::Ok);
        let exit = if exit == Exit::Ok && self.broken { Exit::TasksFailed } else { exit };
        Ok(self.holes.over(exit))
    }

    /// A function that does not keep its word has failed, whatever it says.
    fn check(&mut self, task: &Task, codec: &str, value: &[u8]) {
        if let Some(problem) = value::problem(codec, task, value) {
            self.context.say(&format!("taskq: {problem}"));
            self.broken = true;
        }
    }

    /// What a call returned; `None` if it did not.
    async fn value(&self, task: &Task) -> anyhow::Result<Option<bytes::Bytes>> {
        match task.outcome.as_ref().filter(|outcome| outcome.kind() == outcome::Kind::Completed) {
            Some(outcome) => Ok(Some(self.client.value(outcome).await?)),
            None => Ok(None),
        }
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

    async fn row(&mut self, task: &Task, codec: Option<&str>) -> anyhow::Result<Row> {
        let value = match codec {
            Some(codec) => self.value(task).await?.map(|value| {
                self.check(task, codec, &value);
                Value::new(codec, &value)
            }),
            None => None,
        };
        let mut kept = Kept::default();
        let holes = &mut self.holes;
        let take = |stream, piece: Piece<'_>| {
            match piece {
                Piece::Bytes(bytes) => {
                    if !kept.add(stream, bytes, ROW_BYTES) {
                        return Err(too_much(task));
                    }
                }
                Piece::Gap(bytes) => {
                    holes.met(task.job_id, task.index, stream, bytes);
                    kept.of(stream).missing += bytes;
                }
            }
            Ok(())
        };
        captured::read(self.client, task, &[Stream::Stdout, Stream::Stderr], take).await?;
        let outcome = OutcomeView::from(task.outcome.as_ref().unwrap_or(&Outcome::default()));
        Ok(Row {
            job: task.job_id,
            index: task.index,
            state: state_word(task.state()),
            outcome: match codec {
                Some(codec) => outcome.in_codec(codec),
                None => outcome,
            },
            value,
            stdout: kept.stdout.bytes.into(),
            stderr: kept.stderr.bytes.into(),
            stdout_missing_bytes: kept.stdout.missing,
            stderr_missing_bytes: kept.stderr.missing,
        })
    }
}

fn too_much(task: &Task) -> anyhow::Error {
    let (job, index, most) = (task.job_id, task.index, ROW_BYTES >> 20);
    Failure::usage(format!(
        "task {job}.{index} wrote too much for a row of JSON (more than {most} MiB); print it as it is: \
         taskq result {job}.{index}"
    ))
}

/// What is kept of a task's output.
#[derive(Default)]
struct Kept {
    stdout: KeptStream,
    stderr: KeptStream,
}

#[derive(Default)]
struct KeptStream {
    bytes: Vec<u8>,
    missing: u64,
}

impl Kept {
    fn of(&mut self, stream: Stream) -> &mut KeptStream {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// False, and nothing is added, if both streams together would be longer than `most`.
    fn add(&mut self, stream: Stream, bytes: &[u8], most: usize) -> bool {
        let fits = self.stdout.bytes.len() + self.stderr.bytes.len() + bytes.len() <= most;
        if fits {
            self.of(stream).bytes.extend_from_slice(bytes);
        }
        fits
    }
}

/// One task with its output.
#[derive(Serialize)]
struct Row {
    job: u64,
    index: u32,
    state: &'static str,
    outcome: OutcomeView,
    /// What a call returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    stdout: Bytes,
    stderr: Bytes,
    stdout_missing_bytes: u64,
    stderr_missing_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_room_for_both_streams_together() {
        let mut kept = Kept::default();
        assert!(kept.add(Stream::Stdout, b"abc", 5));
        assert!(!kept.add(Stream::Stderr, b"def", 5), "each alone would fit");
        assert!(kept.add(Stream::Stderr, b"de", 5));
        assert_eq!((&kept.stdout.bytes[..], &kept.stderr.bytes[..]), (&b"abc"[..], &b"de"[..]));
    }
}
